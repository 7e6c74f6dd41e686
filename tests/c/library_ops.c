/* Direct calls on arrays: instructions, map programs that reduce, softmax, losses, optimiser steps and random arrays. */
#include <math.h>
#include <string.h>

#include "arrays.h"
#include "checks.h"
#include "library.h"
#include "map/map.h"
#include "map_reference.h"
#include "ops.h"

enum { OUT, X, Y, FIRST, STATE };

static int bits_of(int32_t dtype) { return dtype == DLC_FLOAT32 ? 32 : 64; }

/* Every instruction of one operand on a strided array, on teams; odd elements are those of the array's gaps. */
static void test_apply(int32_t dtype, const unary_reference *reference)
{
    enum { N = 261 };
    void *x = place(X, dtype, 2 * N, EDGE_BEHIND), *first = place(FIRST, dtype, N, EDGE_BEHIND);
    fill_uniform(dtype, x, 2 * N, 0.1, reference->op == DLC_MAP_ARCTANH ? 0.9 : 1);
    const dlc_array in = {x, dtype, 1, {N}, {2}};
    for (int threads = 1; threads <= 3; threads++) {
        void *y = threads == 1 ? first : place(OUT, dtype, N, EDGE_BEHIND);
        const dlc_array out = vector_of(dtype, y, N);
        describe("apply %s, %d threads, float%d", name_of(reference->op), threads, bits_of(dtype));
        use_team(threads);
        expect(dlc_apply(&out, reference->op, &in, false) == DLC_OK, "%s", dlc_last_error());
        if (threads > 1)
            expect_same_bits(dtype, y, first, N);
        expect_intact();
    }
    use_team(0);
    for (int64_t i = 0; i < N; i++) {
        double error = ulp_error(dtype, get(dtype, first, i), reference->of(get(dtype, x, 2 * i)));
        expect(error <= reference->limit[dtype], "element %lld is off by %g ULP", (long long)i, error);
    }
}

/* out (ROWS, COLS) = column (ROWS, 1; int32) + row (COLS; uint8) */
static void test_apply_broadcasts(int32_t dtype)
{
    enum { ROWS = 5, COLS = 9 };
    int32_t column[ROWS];
    uint8_t row[COLS];
    for (int i = 0; i < ROWS; i++)
        column[i] = 1000 * i - 1500;
    for (int j = 0; j < COLS; j++)
        row[j] = (uint8_t)(30 * j);
    void *out = place(OUT, dtype, ROWS * COLS, EDGE_BEHIND);
    const dlc_array inputs[2] = {matrix_of(DLC_INT32, column, ROWS, 1, 1, 1), vector_of(DLC_UINT8, row, COLS)};
    const dlc_array result = matrix_of(dtype, out, ROWS, COLS, COLS, 1);
    describe("apply add of integers that broadcast, float%d", bits_of(dtype));
    expect(dlc_apply(&result, DLC_MAP_ADD, inputs, true) == DLC_OK, "%s", dlc_last_error());
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLS; j++)
            expect(get(dtype, out, i * COLS + j) == column[i] + row[j], "element (%d, %d)", i, j);
    expect_intact();
}

static double reduced(int reduction, double a, double b)
{
    return reduction == DLC_REDUCE_MAX ? fmax(a, b) : reduction == DLC_REDUCE_MIN ? fmin(a, b) : a + b;
}

/* The square of x (rows, cols), reduced over rows, columns or both; squares of small integers are summed exactly. */
static void test_reduction(int32_t dtype, int reduction, int64_t rows, int64_t cols, bool over_rows, bool over_cols)
{
    const int64_t out_rows = over_rows ? 1 : rows, out_cols = over_cols ? 1 : cols, n_out = out_rows * out_cols;
    const int64_t words[] = {dtype, 1, 1, reduction, 1, 0, 0, 1, DLC_MAP_SQUARE | 0 << 16 | 1 << 24 | INT64_C(1) << 32};
    const int64_t shape[2] = {rows, cols};
    void *x = place(X, dtype, rows * cols, EDGE_BEHIND), *first = place(FIRST, dtype, n_out, EDGE_BEHIND);
    fill_integers(dtype, x, rows * cols, 9);
    for (int threads = 1; threads <= 3; threads++) {
        void *out = threads == 1 ? first : place(OUT, dtype, n_out, EDGE_BEHIND);
        const dlc_array arrays[2] = {matrix_of(dtype, out, out_rows, out_cols, out_cols, 1),
                                     matrix_of(dtype, x, rows, cols, cols, 1)};
        describe("reduction %d of %lld x %lld over rows %d, columns %d, %d threads, float%d", reduction,
                 (long long)rows, (long long)cols, over_rows, over_cols, threads, bits_of(dtype));
        use_team(threads);
        expect(dlc_run_map(words, sizeof words / sizeof words[0], arrays, 2, shape, 2, rows) == DLC_OK, "%s",
               dlc_last_error());
        if (threads > 1)
            expect_same_bits(dtype, out, first, n_out);
        expect_intact();
    }
    use_team(0);
    for (int64_t place = 0; place < n_out; place++) {
        double expected = reduction == DLC_REDUCE_MAX ? -INFINITY : reduction == DLC_REDUCE_MIN ? INFINITY : 0;
        for (int64_t i = 0; i < rows * cols; i++)
            if ((over_rows ? 0 : i / cols) * out_cols + (over_cols ? 0 : i % cols) == place)
                expected = reduced(reduction, expected, get(dtype, x, i) * get(dtype, x, i));
        expect(get(dtype, first, place) == expected, "element %lld is %g, not %g", (long long)place,
               get(dtype, first, place), expected);
    }
}

/* Along the last axis of an array whose columns lie apart. */
static void test_softmax(int32_t dtype, bool logarithm)
{
    enum { ROWS = 7, COLS = 23 };
    void *x = place(X, dtype, 2 * ROWS * COLS, EDGE_BEHIND), *first = place(FIRST, dtype, ROWS * COLS, EDGE_BEHIND);
    fill_uniform(dtype, x, 2 * ROWS * COLS, -5, 5);
    const dlc_array in = matrix_of(dtype, x, ROWS, COLS, 2 * COLS, 2);
    for (int threads = 1; threads <= 3; threads++) {
        void *out = threads == 1 ? first : place(OUT, dtype, ROWS * COLS, EDGE_BEHIND);
        const dlc_array result = matrix_of(dtype, out, ROWS, COLS, COLS, 1);
        describe("softmax, logarithm %d, %d threads, float%d", logarithm, threads, bits_of(dtype));
        use_team(threads);
        expect(dlc_softmax(&result, &in, logarithm) == DLC_OK, "%s", dlc_last_error());
        if (threads > 1)
            expect_same_bits(dtype, out, first, ROWS * COLS);
        expect_intact();
    }
    use_team(0);
    for (int64_t i = 0; i < ROWS; i++) {
        long double total = 0;
        for (int64_t j = 0; j < COLS; j++)
            total += expl(get(dtype, x, 2 * (i * COLS + j)));
        for (int64_t j = 0; j < COLS; j++) {
            long double z = get(dtype, x, 2 * (i * COLS + j)), expected = logarithm ? z - logl(total) : expl(z) / total;
            double got = get(dtype, first, i * COLS + j);
            expect(is_within(got, expected,
                             16 * epsilon_of(dtype) * fabsl(expected) + (logarithm ? 8 * epsilon_of(dtype) : 0)),
                   "element (%lld, %lld) is %.17g, not %.17Lg", (long long)i, (long long)j, got, expected);
        }
    }
}

static long double loss_of(int kind, long double p, long double t, double delta)
{
    const long double d = fabsl(p - t);
    switch (kind) {
    case DLC_LOSS_MSE: return d * d;
    case DLC_LOSS_MAE: return d;
    case DLC_LOSS_HUBER: return d <= delta ? d * d / 2 : delta * (d - delta / 2);
    default: return logl(1 + expl(p)) - t * p;
    }
}

static void test_losses(int32_t dtype)
{
    enum { ROWS = 19, COLS = 5 };
    const double delta = 0.75;
    void *p = place(X, dtype, ROWS * COLS, EDGE_BEHIND), *t = place(Y, dtype, ROWS * COLS, EDGE_BEHIND);
    void *w = place(STATE, dtype, ROWS, EDGE_BEHIND);
    fill_uniform(dtype, p, ROWS * COLS, -3, 3);
    fill_uniform(dtype, t, ROWS * COLS, 0, 1);
    fill_uniform(dtype, w, ROWS, 0.5, 2);
    const dlc_array pred = matrix_of(dtype, p, ROWS, COLS, COLS, 1), target = matrix_of(dtype, t, ROWS, COLS, COLS, 1);
    const dlc_array weight = vector_of(dtype, w, ROWS);
    for (int kind = 0; kind < DLC_LOSS_COUNT; kind++)
        for (int weighted = 0; weighted < 2; weighted++) {
            long double sum = 0, total = 0;
            double got;
            for (int64_t i = 0; i < ROWS * COLS; i++) {
                long double of_row = weighted ? get(dtype, w, i / COLS) : 1;
                sum += of_row * loss_of(kind, get(dtype, p, i), get(dtype, t, i), delta);
                total += of_row;
            }
            describe("loss %d, weighted %d, float%d", kind, weighted, bits_of(dtype));
            expect(dlc_elementwise_loss(&got, kind, &pred, &target, weighted ? &weight : NULL, delta) == DLC_OK, "%s",
                   dlc_last_error());
            expect(is_within(got, sum / total, 16 * epsilon_of(dtype) * (sum / total)), "it is %.17g, not %.17Lg", got,
                   sum / total);
        }
}

static void test_cross_entropy(int32_t dtype)
{
    enum { ROWS = 11, COLS = 4 };
    void *z = place(X, dtype, ROWS * COLS, EDGE_BEHIND);
    int64_t labels[ROWS];
    long double expected = 0;
    double got;
    fill_uniform(dtype, z, ROWS * COLS, -3, 3);
    for (int64_t i = 0; i < ROWS; i++) {
        long double total = 0;
        labels[i] = i % COLS;
        for (int64_t j = 0; j < COLS; j++)
            total += expl(get(dtype, z, i * COLS + j));
        expected += (logl(total) - get(dtype, z, i * COLS + labels[i])) / ROWS;
    }
    const dlc_array logits = matrix_of(dtype, z, ROWS, COLS, COLS, 1), target = vector_of(DLC_INT64, labels, ROWS);
    describe("cross-entropy, float%d", bits_of(dtype));
    expect(dlc_cross_entropy(&got, &logits, &target, NULL) == DLC_OK, "%s", dlc_last_error());
    expect(is_within(got, expected, 16 * epsilon_of(dtype) * expected), "it is %.17g, not %.17Lg", got, expected);
    labels[3] = COLS;
    expect(dlc_cross_entropy(&got, &logits, &target, NULL) == DLC_INVALID_ARGUMENT, "a label out of range is no error");
}

/* p -= rate g on a team; the formulas of all optimisers are the kernels' tests. */
static void test_step(int32_t dtype, int threads)
{
    enum { N = 1003 };
    void *p = place(OUT, dtype, N, EDGE_BEHIND), *g = place(X, dtype, N, EDGE_BEHIND),
         *before = place(Y, dtype, N, EDGE_BEHIND);
    fill_integers(dtype, p, N, 99);
    fill_integers(dtype, g, N, 99);
    memcpy(before, p, (size_t)(N * size_of(dtype)));
    const dlc_step_arrays arrays = {.param = p, .grad = g};
    const dlc_step_options options = {.weight_decay = 0};
    const double rate = 0.25;
    describe("a step of gradient descent, %d threads, float%d", threads, bits_of(dtype));
    use_team(threads);
    expect(dlc_optimizer_step(dtype, DLC_STEP_SGD, &arrays, &options, &rate, N) == DLC_OK, "%s", dlc_last_error());
    use_team(0);
    for (int64_t i = 0; i < N; i++)
        expect(get(dtype, p, i) == get(dtype, before, i) - rate * get(dtype, g, i), "element %lld", (long long)i);
    expect_intact();
}

/* The same bits on any team, and numbers that are spread as they should be. */
static void test_random_fill(int32_t dtype, int kind)
{
    enum { N = 5000 };
    static const double mean[] = {0.5, 0, 1}, variance[] = {1.0 / 12, 1, 0.25};
    void *first = place(FIRST, dtype, N, EDGE_BEHIND);
    long double sum = 0, squares = 0;
    for (int threads = 1; threads <= 3; threads++) {
        void *out = threads == 1 ? first : place(OUT, dtype, N, EDGE_BEHIND);
        describe("random array of kind %d, %d threads, float%d", kind, threads, bits_of(dtype));
        use_team(threads);
        expect(dlc_random_fill(dtype, out, N, kind, 0.8, 42, 1, 7) == DLC_OK, "%s", dlc_last_error());
        if (threads > 1)
            expect_same_bits(dtype, out, first, N);
        expect_intact();
    }
    use_team(0);
    for (int64_t i = 0; i < N; i++) {
        sum += get(dtype, first, i);
        squares += get(dtype, first, i) * get(dtype, first, i);
    }
    double got_mean = (double)(sum / N), got_variance = (double)(squares / N) - got_mean * got_mean;
    /* four standard errors of the mean; of the variance at most sqrt(2 / N) of it each */
    expect(is_within(got_mean, mean[kind], 4 * sqrt(variance[kind] / N)), "the mean is %g", got_mean);
    expect(is_within(got_variance, variance[kind], 4 * sqrt(2.0 / N) * variance[kind]), "the variance is %g",
           got_variance);
}

void test_library_ops(int32_t dtype)
{
    for (int i = 0; can_judge(dtype) && i < unary_reference_count; i++)
        if (unary_references[i].op != DLC_MAP_ARCCOSH) /* of nothing below 1 */
            test_apply(dtype, &unary_references[i]);
    test_apply_broadcasts(dtype);
    static const int reductions[] = {DLC_REDUCE_SUM, DLC_REDUCE_MAX, DLC_REDUCE_MIN};
    for (int i = 0; i < 3; i++)
        for (int axes = 1; axes < 4; axes++) {
            test_reduction(dtype, reductions[i], 33, 17, axes & 1, axes & 2);
            test_reduction(dtype, reductions[i], 2, 1100, axes & 1, axes & 2);
            test_reduction(dtype, reductions[i], 700, 3, axes & 1, axes & 2);
        }
    test_softmax(dtype, false);
    test_softmax(dtype, true);
    test_losses(dtype);
    test_cross_entropy(dtype);
    for (int threads = 1; threads <= 3; threads++)
        test_step(dtype, threads);
    for (int kind = DLC_RANDOM_FILL_UNIFORM; kind <= DLC_RANDOM_FILL_KEEP_MASK; kind++)
        test_random_fill(dtype, kind);
}
