/* The kernels of map programs: every instruction against C's library, at every length, beside pages without access. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "arrays.h"
#include "checks.h"
#include "kernels.h"
#include "map_reference.h"

static const double plain_specials[] = {0, 0.5, 1, 1.5, 2, 3, 1e6, INFINITY, NAN};
enum { PLAIN_COUNT = sizeof plain_specials / sizeof plain_specials[0], SPECIAL_COUNT = 2 * (PLAIN_COUNT + 3) };

/* x (SPECIAL_COUNT) = numbers of both signs, the ends of the normal and the subnormal range among them */
static void special_values(double *x, int32_t dtype)
{
    const bool narrow = dtype == DLC_FLOAT32;
    const double ends[3] = {narrow ? 0x1p-149 : 0x1p-1074, narrow ? FLT_MIN : DBL_MIN, narrow ? FLT_MAX : DBL_MAX};
    memcpy(x, plain_specials, sizeof plain_specials);
    memcpy(x + PLAIN_COUNT, ends, sizeof ends);
    for (int i = 0; i < SPECIAL_COUNT / 2; i++)
        x[SPECIAL_COUNT / 2 + i] = -x[i];
}

static double any_bits(int32_t dtype)
{
    uint64_t bits = next_bits();
    uint32_t half = (uint32_t)(bits >> 32);
    float narrow;
    double wide;
    memcpy(&narrow, &half, sizeof narrow);
    memcpy(&wide, &bits, sizeof wide);
    return dtype == DLC_FLOAT32 ? (double)narrow : wide;
}

/* Half-integer multiples of ln 2, where exponentials change their power of two, and their neighbours. */
static double near_reduction(int32_t dtype)
{
    double x = (floor(next_uniform(-1080, 1030)) + 0.5) * 0.69314718055994530942;
    return x * (1 + floor(next_uniform(-2, 3)) * epsilon_of(dtype));
}

static double sample(int32_t dtype, int64_t i)
{
    switch (i % 8) {
    case 0: return next_uniform(-1, 1);
    case 1: return next_uniform(-4, 4);
    case 2: return next_uniform(-40, 40);
    case 3: return next_uniform(-750, 720);
    case 4: return any_bits(dtype);
    case 5: return 1 + exp2(next_uniform(-52, -1)) * (i & 8 ? 1 : -1);
    case 6:
        return (i & 8 ? 1 : -1) * ldexp(1, (int)next_uniform(-1074, 1023)) * (1 + next_uniform(-1, 2) * DBL_EPSILON);
    default: return near_reduction(dtype);
    }
}

static void apply(const dlc_real_kernels *kernels, int op, void *out, const void *a, const void *b, const void *c,
                  int64_t n)
{
    kernels->map[op](out, a, b, c, n, 0);
}

static void test_unary(const dlc_real_kernels *kernels, int32_t dtype, const unary_reference *reference, int64_t n)
{
    double specials[SPECIAL_COUNT], worst = 0;
    describe("map %s, float%d", name_of(reference->op), dtype == DLC_FLOAT32 ? 32 : 64);
    void *x = place(0, dtype, n + SPECIAL_COUNT, EDGE_BEHIND), *y = place(1, dtype, n + SPECIAL_COUNT, EDGE_BEHIND);
    special_values(specials, dtype);
    for (int64_t i = 0; i < n; i++)
        set(dtype, x, i, sample(dtype, i));
    for (int64_t i = 0; i < SPECIAL_COUNT; i++)
        set(dtype, x, n + i, specials[i]);
    apply(kernels, reference->op, y, x, NULL, NULL, n + SPECIAL_COUNT);
    for (int64_t i = 0; i < n + SPECIAL_COUNT; i++) {
        double x_i = get(dtype, x, i), y_i = get(dtype, y, i);
        double error = ulp_error(dtype, y_i, reference->of(x_i));
        if (error > worst) {
            worst = error;
            expect(error <= reference->limit[dtype], "of %a it is %a, off by %g ULP", x_i, y_i, error);
        }
    }
    expect(worst > 0, "no error at all, which is no measurement");
}

static double binary_error(int32_t dtype, const binary_reference *reference, double x, double y, double got)
{
    long double expected = reference->of(x, y);
    double error = ulp_error(dtype, got, expected);
    if (reference->op != DLC_MAP_LOGADDEXP || !isfinite(got) || !isfinite((double)expected))
        return error;
    double scale = fmax(fabs((double)expected), fmax(fabs(x), fabs(y)));
    return scale == 0 ? error : ulp_error(dtype, scale, scale + (got - expected));
}

static void test_binary(const dlc_real_kernels *kernels, int32_t dtype, const binary_reference *reference, int64_t n)
{
    describe("map %s, float%d", name_of(reference->op), dtype == DLC_FLOAT32 ? 32 : 64);
    void *x = place(0, dtype, n, EDGE_BEHIND), *y = place(1, dtype, n, EDGE_BEHIND),
         *z = place(2, dtype, n, EDGE_BEHIND);
    fill_uniform(dtype, x, n, reference->op == DLC_MAP_POWER ? 0.01 : -40, 40);
    fill_uniform(dtype, y, n, -20, 20);
    apply(kernels, reference->op, z, x, y, NULL, n);
    for (int64_t i = 0; i < n; i++) {
        double x_i = get(dtype, x, i), y_i = get(dtype, y, i), got = get(dtype, z, i);
        double error = binary_error(dtype, reference, x_i, y_i, got);
        expect(error <= reference->limit, "of %a and %a it is %a, off by %g ULP", x_i, y_i, got, error);
    }
}

/* As in C: NaN to the power of 0 and 1 to that of NaN are 1, hypot(inf, NaN) is inf, ... */
static void test_binary_specials(const dlc_real_kernels *kernels, int32_t dtype, const binary_reference *reference)
{
    double specials[SPECIAL_COUNT];
    special_values(specials, dtype);
    describe("map %s of special values, float%d", name_of(reference->op), dtype == DLC_FLOAT32 ? 32 : 64);
    void *x = place(0, dtype, 1, EDGE_BEHIND), *y = place(1, dtype, 1, EDGE_BEHIND),
         *z = place(2, dtype, 1, EDGE_BEHIND);
    for (int i = 0; i < SPECIAL_COUNT; i++)
        for (int j = 0; j < SPECIAL_COUNT; j++) {
            set(dtype, x, 0, specials[i]);
            set(dtype, y, 0, specials[j]);
            apply(kernels, reference->op, z, x, y, NULL, 1);
            double error = binary_error(dtype, reference, specials[i], specials[j], get(dtype, z, 0));
            expect(error <= 4, "of %a and %a it is %a, off by %g ULP", specials[i], specials[j], get(dtype, z, 0),
                   error);
        }
}

static bool is_right(int32_t dtype, int op, double got, double x, double y, double z)
{
    double expected[2];
    if (exact_reference(expected, dtype, op, x, y, z)) {
        bool open_sign = op == DLC_MAP_MAXIMUM || op == DLC_MAP_MINIMUM; /* of two zeros either is the larger */
        return is_same(got, expected[0]) || (open_sign && got == expected[0]);
    }
    contraction_reference(expected, dtype, op, x, y, z);
    for (int i = 0; i < 2; i++)
        if (got == expected[i] || (isnan(got) && isnan(expected[i])))
            return true;
    return false;
}

static bool is_exact(int op)
{
    double value[2];
    return exact_reference(value, DLC_FLOAT64, op, 1, 1, 1) || contraction_reference(value, DLC_FLOAT64, op, 1, 1, 1);
}

/* Every combination of special values. */
static void test_exact(const dlc_real_kernels *kernels, int32_t dtype, int op)
{
    double specials[SPECIAL_COUNT];
    int64_t n = 1;
    special_values(specials, dtype);
    for (int i = 0; i < arity_of(op); i++)
        n *= SPECIAL_COUNT;
    void *in[3], *out = place(3, dtype, n, EDGE_BEHIND);
    int64_t repeat = 1;
    for (int operand = 0; operand < 3; operand++, repeat *= SPECIAL_COUNT) {
        in[operand] = place(operand, dtype, n, EDGE_BEHIND);
        for (int64_t i = 0; i < n; i++)
            set(dtype, in[operand], i, specials[i / repeat % SPECIAL_COUNT]);
    }
    describe("map %s of special values, float%d", name_of(op), dtype == DLC_FLOAT32 ? 32 : 64);
    apply(kernels, op, out, in[0], in[1], in[2], n);
    for (int64_t i = 0; i < n; i++) {
        double x = get(dtype, in[0], i), y = get(dtype, in[1], i), z = get(dtype, in[2], i), got = get(dtype, out, i);
        expect(is_right(dtype, op, got, x, y, z), "of %a, %a, %a it is %a", x, y, z, got);
    }
}

/* Halves, neighbours of integers, and numbers so large that all are integers; signs of quotients and remainders. */
static void test_integers(const dlc_real_kernels *kernels, int32_t dtype)
{
    static const int ops[] = {DLC_MAP_FLOOR,     DLC_MAP_CEIL, DLC_MAP_TRUNC,       DLC_MAP_RINT,
                              DLC_MAP_REMAINDER, DLC_MAP_FMOD, DLC_MAP_FLOOR_DIVIDE};
    enum { N = 400 };
    void *x = place(0, dtype, N, EDGE_BEHIND), *y = place(1, dtype, N, EDGE_BEHIND),
         *out = place(2, dtype, N, EDGE_BEHIND);
    for (int i = 0; i < N; i++) {
        double base = i % 4 == 0 ? ldexp(1, i / 6) + 0.5 : (i / 4 - 50) * 0.5;
        set(dtype, x, i, base * (1 + (i % 3 - 1) * epsilon_of(dtype)));
        set(dtype, y, i, (i % 7 - 3.5) * (i % 4 == 0 ? ldexp(1, i / 7) : 1));
    }
    for (size_t k = 0; k < sizeof ops / sizeof ops[0]; k++) {
        describe("map %s next to integers, float%d", name_of(ops[k]), dtype == DLC_FLOAT32 ? 32 : 64);
        apply(kernels, ops[k], out, x, y, NULL, N);
        for (int i = 0; i < N; i++) {
            double x_i = get(dtype, x, i), y_i = get(dtype, y, i), got = get(dtype, out, i);
            expect(is_right(dtype, ops[k], got, x_i, y_i, 0), "of %a and %a it is %a", x_i, y_i, got);
        }
    }
}

/* Loops take up to four vectors a turn: two turns and what is left. */
enum { MOST_LANES = 16, LONGEST = 2 * 4 * MOST_LANES + MOST_LANES + 4 };

/* Where results are numbers, for the instructions that have some in a part of (0, 5) only. */
static void plain_inputs(int32_t dtype, int op, void *x)
{
    double low = 0.01, high = 5;
    if (op == DLC_MAP_ARCSIN || op == DLC_MAP_ARCCOS || op == DLC_MAP_ARCTANH)
        low = -0.9, high = 0.9;
    if (op == DLC_MAP_ARCCOSH)
        low = 1;
    fill_uniform(dtype, x, LONGEST, low, high);
}

/* Bit by bit the same at every length and alignment, also where the output is the input, and nothing else is touched. */
static void test_lengths(const dlc_real_kernels *kernels, int32_t dtype, int op)
{
    double whole[4][LONGEST]; /* three inputs and the output, of either type */
    for (int operand = 0; operand < 3; operand++)
        plain_inputs(dtype, op, whole[operand]);
    apply(kernels, op, whole[3], whole[0], whole[1], whole[2], LONGEST);
    const int64_t size = size_of(dtype);
    for (int64_t n = 0; n <= LONGEST; n += n <= 4 * MOST_LANES ? 1 : 5) {
        const int64_t bytes = n * size, first = (LONGEST - n) * size;
        describe("map %s of %lld elements, float%d", name_of(op), (long long)n, dtype == DLC_FLOAT32 ? 32 : 64);
        for (edge edge = 0; edge < EDGE_COUNT; edge++) {
            void *in[3] = {NULL, NULL, NULL}, *out = place(3, dtype, n, edge);
            for (int operand = 0; operand < arity_of(op); operand++) {
                in[operand] = place(operand, dtype, n, edge);
                memcpy(in[operand], (char *)whole[operand] + first, (size_t)bytes);
            }
            apply(kernels, op, out, in[0], in[1], in[2], n);
            expect_same_bits(dtype, out, (char *)whole[3] + first, n);
            apply(kernels, op, in[0], in[0], in[1], in[2], n);
            expect_same_bits(dtype, in[0], (char *)whole[3] + first, n);
            expect_intact();
        }
    }
}

/* An element has the bits that it has alone, whatever else is in its turn: functions compute in another way what is far off, or
 * special. */
static void test_neighbours(const dlc_real_kernels *kernels, int32_t dtype, int op)
{
    static const double far_off[] = {9.5, 12, 18, 60, 100, 7000};
    enum { FAR_COUNT = 2 * (int)(sizeof far_off / sizeof far_off[0]), COUNT = SPECIAL_COUNT + FAR_COUNT };
    double odd[COUNT];
    special_values(odd, dtype);
    for (int i = 0; i < FAR_COUNT; i++)
        odd[SPECIAL_COUNT + i] = far_off[i / 2] * (i % 2 == 0 ? 1 : -1);
    void *x = place(0, dtype, LONGEST, EDGE_BEHIND), *y = place(1, dtype, LONGEST, EDGE_BEHIND);
    void *together = place(2, dtype, LONGEST, EDGE_BEHIND), *alone = place(3, dtype, LONGEST, EDGE_BEHIND);
    const int64_t size = size_of(dtype);
    for (int k = 0; k < COUNT; k++) {
        fill_uniform(dtype, x, LONGEST, -5, 5);
        fill_uniform(dtype, y, LONGEST, -5, 5);
        set(dtype, x, 29 * k % LONGEST, odd[k]);
        set(dtype, x, (41 * k + 1) % LONGEST, odd[(k + 1) % COUNT]);
        describe("map %s beside %a, float%d", name_of(op), odd[k], dtype == DLC_FLOAT32 ? 32 : 64);
        apply(kernels, op, together, x, y, NULL, LONGEST);
        for (int64_t i = 0; i < LONGEST; i++)
            apply(kernels, op, (char *)alone + i * size, (char *)x + i * size, (char *)y + i * size, NULL, 1);
        for (int64_t i = 0; i < LONGEST; i++) {
            const double x_i = get(dtype, x, i), got = get(dtype, together, i), expected = get(dtype, alone, i);
            expect(is_same(got, expected), "of %a it is %a, but alone %a", x_i, got, expected);
        }
    }
}

/* A number in place of an array gives what the array filled with it gives. */
static void test_numbers(const dlc_real_kernels *kernels, int32_t dtype, int op)
{
    const bool has_three = arity_of(op) == 3;
    const unsigned taken[] = {DLC_MAP_B, has_three ? DLC_MAP_C : DLC_MAP_A,
                              has_three ? DLC_MAP_B | DLC_MAP_C : DLC_MAP_B};
    const double values[] = {1.25, -0.75, 0};
    enum { N = 2 * MOST_LANES + 3 };
    for (size_t k = 0; k < sizeof taken / sizeof taken[0]; k++) {
        const void *arrays[3], *numbers[3];
        describe("map %s with numbers %u, float%d", name_of(op), taken[k], dtype == DLC_FLOAT32 ? 32 : 64);
        for (int operand = 0; operand < 3; operand++) {
            void *array = place(operand, dtype, N, EDGE_BEHIND);
            fill_uniform(dtype, array, N, -2, 2);
            arrays[operand] = numbers[operand] = array;
            if (!(taken[k] >> operand & 1))
                continue;
            for (int64_t i = 0; i < N; i++)
                set(dtype, array, i, values[operand]);
            void *number = place(3 + operand, dtype, 1, EDGE_BEHIND);
            set(dtype, number, 0, values[operand]);
            numbers[operand] = number;
        }
        void *expected = place(6, dtype, N, EDGE_BEHIND), *got = place(7, dtype, N, EDGE_BEHIND);
        kernels->map[op](expected, arrays[0], arrays[1], arrays[2], N, 0);
        kernels->map[op](got, numbers[0], numbers[1], numbers[2], N, taken[k]);
        expect_same_bits(dtype, got, expected, N);
    }
}

static bool takes_numbers(int op)
{
    switch (op) {
    case DLC_MAP_ADD:
    case DLC_MAP_SUBTRACT:
    case DLC_MAP_MULTIPLY:
    case DLC_MAP_DIVIDE:
    case DLC_MAP_MAXIMUM:
    case DLC_MAP_MINIMUM:
    case DLC_MAP_GREATER:
    case DLC_MAP_GREATER_EQUAL:
    case DLC_MAP_LESS:
    case DLC_MAP_LESS_EQUAL:
    case DLC_MAP_EQUAL:
    case DLC_MAP_NOT_EQUAL: return true;
    default: return arity_of(op) == 3;
    }
}

static bool has_reference(int op)
{
    bool found = is_exact(op);
    for (int i = 0; i < unary_reference_count; i++)
        found |= unary_references[i].op == op;
    for (int i = 0; i < binary_reference_count; i++)
        found |= binary_references[i].op == op;
    return found;
}

void test_map(const dlc_real_kernels *kernels, int32_t dtype, int64_t samples)
{
    for (int op = 0; op < DLC_MAP_OP_COUNT; op++) {
        describe("map %s", name_of(op));
        expect(has_reference(op), "the instruction has no reference");
        if (is_exact(op))
            test_exact(kernels, dtype, op);
        if (takes_numbers(op))
            test_numbers(kernels, dtype, op);
        test_lengths(kernels, dtype, op);
        if (arity_of(op) < 3)
            test_neighbours(kernels, dtype, op);
    }
    test_integers(kernels, dtype);
    for (int i = 0; can_judge(dtype) && i < unary_reference_count; i++)
        test_unary(kernels, dtype, &unary_references[i], samples);
    for (int i = 0; can_judge(dtype) && i < binary_reference_count; i++) {
        test_binary(kernels, dtype, &binary_references[i], samples / 4);
        test_binary_specials(kernels, dtype, &binary_references[i]);
    }
}
