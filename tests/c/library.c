/* Tests what libdlcore exports, with the kernels that DLCORE_ISA names, or the best of this CPU. */
#include "library.h"

#include <math.h>
#include <string.h>

#include "arrays.h"
#include "checks.h"
#include "map/map_ops.h"
#include "ops.h"
#include "products.h"
#include "threads.h"

enum { OUT, LEFT, RIGHT, BIAS, FIRST };

static int bits_of(int32_t dtype) { return dtype == DLC_FLOAT32 ? 32 : 64; }

void use_team(int threads)
{
    static int64_t threshold = -1;
    if (threshold < 0)
        threshold = dlc_get_serial_threshold();
    dlc_set_num_threads(threads);
    dlc_set_serial_threshold(threads > 0 ? 0 : threshold);
    if (threads > 0)
        expect(dlc_team_size(threads) == threads, "the team is not of %d threads", threads);
}

static operand operand_of(const dlc_array *array) { return (operand){array->data, array->stride[0], array->stride[1]}; }

/* A rows x cols matrix of numbers with rows or columns contiguous, neither, or backwards. */
static dlc_array matrix_in_layout(int room, int32_t dtype, int64_t rows, int64_t cols, int layout)
{
    const int64_t n = rows * cols * (layout == 2 ? 6 : 1);
    char *x = place(room, dtype, n, EDGE_BEHIND);
    fill_uniform(dtype, x, n, -1, 1);
    switch (layout) {
    case 0: return matrix_of(dtype, x, rows, cols, cols, 1);
    case 1: return matrix_of(dtype, x, rows, cols, 1, rows);
    case 2: return matrix_of(dtype, x, rows, cols, 3 * cols, 2);
    default: return matrix_of(dtype, x + (n > 0 ? n - 1 : 0) * size_of(dtype), rows, cols, -cols, -1);
    }
}

enum { LAYOUTS = 4 };

static void test_matmul(int32_t dtype, int64_t m, int64_t n, int64_t k, int of_a, int of_b)
{
    const dlc_array a = matrix_in_layout(LEFT, dtype, m, k, of_a), b = matrix_in_layout(RIGHT, dtype, k, n, of_b);
    const void *first = NULL;
    for (int threads = 1; threads <= 3; threads++) {
        void *out = place(threads == 1 ? FIRST : OUT, dtype, m * n, EDGE_BEHIND);
        const dlc_array c = matrix_of(dtype, out, m, n, n, 1);
        describe("matmul %lld x %lld x %lld, layouts %d and %d, %d threads, float%d", (long long)m, (long long)n,
                 (long long)k, of_a, of_b, threads, bits_of(dtype));
        use_team(threads);
        expect(dlc_matmul(&c, &a, &b) == DLC_OK, "%s", dlc_last_error());
        if (threads == 1)
            expect_product(dtype, operand_of(&c), operand_of(&a), operand_of(&b), m, n, k, NULL);
        else
            expect_same_bits(dtype, out, first, m * n);
        first = threads == 1 ? out : first;
        expect_intact();
    }
    use_team(0);
}

/* Rows of out apart: what lies between stays. */
static void test_matmul_into_columns(int32_t dtype)
{
    enum { M = 9, N = 13, K = 21 };
    const dlc_array a = matrix_in_layout(LEFT, dtype, M, K, 0), b = matrix_in_layout(RIGHT, dtype, K, N, 0);
    void *out = place(OUT, dtype, 6 * M * N, EDGE_BEHIND);
    fill_uniform(dtype, out, 6 * M * N, 7, 7);
    const dlc_array c = matrix_of(dtype, out, M, N, 3 * N, 2);
    describe("matmul into every second column, float%d", bits_of(dtype));
    expect(dlc_matmul(&c, &a, &b) == DLC_OK, "%s", dlc_last_error());
    expect_product(dtype, operand_of(&c), operand_of(&a), operand_of(&b), M, N, K, NULL);
    for (int64_t i = 0; i < 6 * M * N; i++) {
        bool is_element = i % (3 * N) < 2 * N && i % (3 * N) % 2 == 0 && i < 3 * M * N;
        expect(is_element || get(dtype, out, i) == 7, "element %lld between those of out was written", (long long)i);
    }
}

/* (2, 1, M, K) @ (3, K, N): every item is the product of its own operands. */
static void test_broadcast_matmul(int32_t dtype)
{
    enum { M = 5, N = 7, K = 11 };
    void *a = place(LEFT, dtype, 2 * M * K, EDGE_BEHIND), *b = place(RIGHT, dtype, 3 * K * N, EDGE_BEHIND);
    void *c = place(OUT, dtype, 6 * M * N, EDGE_BEHIND);
    fill_uniform(dtype, a, 2 * M * K, -1, 1);
    fill_uniform(dtype, b, 3 * K * N, -1, 1);
    const dlc_array left = {a, dtype, 4, {2, 1, M, K}, {M * K, M * K, K, 1}};
    const dlc_array right = {b, dtype, 3, {3, K, N}, {K * N, N, 1}};
    const dlc_array out = {c, dtype, 4, {2, 3, M, N}, {3 * M * N, M * N, N, 1}};
    describe("matmul of a batch, float%d", bits_of(dtype));
    expect(dlc_matmul(&out, &left, &right) == DLC_OK, "%s", dlc_last_error());
    for (int64_t item = 0; item < 6; item++) {
        const operand of_a = {(char *)a + item / 3 * M * K * size_of(dtype), K, 1};
        const operand of_b = {(char *)b + item % 3 * K * N * size_of(dtype), N, 1};
        expect_product(dtype, (operand){(char *)c + item * M * N * size_of(dtype), N, 1}, of_a, of_b, M, N, K, NULL);
    }
}

static long double activated(int activation, long double x, double parameter)
{
    switch (activation) {
    case DLC_MAP_RELU: return x < 0 ? 0 : x;
    case DLC_MAP_LEAKY_RELU: return x > 0 ? x : parameter * x;
    case DLC_MAP_TANH: return tanhl(x);
    default: return x;
    }
}

/* The slope of these activations is at most 1, so that the bound of the product holds behind them, too. */
static void test_linear(int32_t dtype, int64_t n, int64_t k, int64_t m, int activation, bool has_bias)
{
    const double parameter = 0.125;
    const dlc_array x = matrix_in_layout(LEFT, dtype, n, k, n % LAYOUTS),
                    w = matrix_in_layout(RIGHT, dtype, k, m, m % LAYOUTS);
    void *bias = place(BIAS, dtype, m, EDGE_BEHIND), *first = place(FIRST, dtype, n * m, EDGE_BEHIND);
    fill_uniform(dtype, bias, m, -1, 1);
    const dlc_array b = vector_of(dtype, bias, m);
    for (int threads = 1; threads <= 3; threads++) {
        void *y = threads == 1 ? first : place(OUT, dtype, n * m, EDGE_BEHIND);
        const dlc_array out = matrix_of(dtype, y, n, m, m, 1);
        describe("linear %lld x %lld x %lld, activation %d, bias %d, %d threads, float%d", (long long)n, (long long)k,
                 (long long)m, activation, has_bias, threads, bits_of(dtype));
        use_team(threads);
        expect(dlc_linear(&out, &x, &w, has_bias ? &b : NULL, activation, parameter, false, NULL) == DLC_OK, "%s", dlc_last_error());
        if (threads > 1)
            expect_same_bits(dtype, y, first, n * m);
        expect_intact();
    }
    use_team(0);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < m; j++) {
            long double value, magnitude, of_bias = has_bias ? get(dtype, bias, j) : 0;
            reference_product(&value, &magnitude, dtype, operand_of(&x), operand_of(&w), i, j, k);
            long double expected = activated(activation, value + of_bias, parameter);
            long double bound =
                product_bound(dtype, k, magnitude + fabsl(of_bias)) + 2 * epsilon_of(dtype) * fabsl(expected);
            double got = get(dtype, first, i * m + j);
            expect(is_within(got, expected, bound), "element (%lld, %lld) is %.17g, not %.17Lg", (long long)i,
                   (long long)j, got, expected);
        }
}

void test_library_products(int32_t dtype)
{
    static const int64_t sizes[][3] = {
        {1, 1, 1},   {3, 5, 0},    {0, 4, 3},    {37, 45, 29}, {1, 33, 65},
        {33, 1, 65}, {1, 1, 4100}, {61, 19, 37}, {4, 3, 6200}, {20, 130, 33},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int layouts = 0; layouts < LAYOUTS * LAYOUTS; layouts++)
            test_matmul(dtype, sizes[i][0], sizes[i][1], sizes[i][2], layouts % LAYOUTS, layouts / LAYOUTS);
    test_matmul_into_columns(dtype);
    test_broadcast_matmul(dtype);
    static const int activations[] = {DLC_MAP_COPY, DLC_MAP_RELU, DLC_MAP_LEAKY_RELU, DLC_MAP_TANH};
    for (int i = 0; i < 4; i++)
        for (int has_bias = 0; has_bias < 2; has_bias++) {
            test_linear(dtype, 1, 17, 9, activations[i], has_bias);
            test_linear(dtype, 7, 0, 3, activations[i], has_bias);
            test_linear(dtype, 29, 31, 35, activations[i], has_bias);
            test_linear(dtype, 130, 5, 1, activations[i], has_bias);
        }
}

/* A status and a sentence for what does not fit, and nothing is written. */
static void test_errors(void)
{
    double numbers[12] = {0};
    const dlc_array a = matrix_of(DLC_FLOAT64, numbers, 2, 3, 3, 1), out = matrix_of(DLC_FLOAT64, numbers, 2, 2, 2, 1);
    describe("errors");
    expect(dlc_matmul(&out, &a, &a) == DLC_INVALID_ARGUMENT, "a product of shapes that do not fit is no error");
    expect(strstr(dlc_last_error(), "a has 3 columns, but b has 2 rows") != NULL, "the message is '%s'",
           dlc_last_error());
    expect(dlc_apply(&out, DLC_MAP_OP_COUNT, &out, false) == DLC_INVALID_ARGUMENT, "an unknown instruction is no error");
    expect(dlc_set_num_threads(-1) == DLC_INVALID_ARGUMENT, "-1 threads are no error");
}

int main(void)
{
    report_faults();
    if (!has_kernels())
        return SKIPPED;
    test_checks();
    test_errors();
    for (int32_t dtype = 0; dtype < DLC_REAL_COUNT; dtype++) {
        test_library_products(dtype);
        test_library_ops(dtype);
    }
    return finish_checks("library");
}
