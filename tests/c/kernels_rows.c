/* Kernels over rows and columns: conversion, filling, reductions, softmax and its loss. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "arrays.h"
#include "checks.h"
#include "kernels.h"

static int bits_of(int32_t dtype) { return dtype == DLC_FLOAT32 ? 32 : 64; }

static void set_any(int32_t dtype, void *x, int64_t i, int64_t value)
{
    switch (dtype) {
    case DLC_UINT8: ((uint8_t *)x)[i] = (uint8_t)value; break;
    case DLC_BOOL: ((uint8_t *)x)[i] = value != 0; break;
    case DLC_INT32: ((int32_t *)x)[i] = (int32_t)value; break;
    case DLC_INT64: ((int64_t *)x)[i] = value; break;
    default: set(dtype, x, i, (double)value);
    }
}

static void test_convert(const dlc_real_kernels *kernels, int32_t dtype)
{
    static const int64_t lengths[] = {0, 1, 3, 15, 16, 17, 35}, strides[] = {1, 2, 3, -1, -2};
    for (int32_t from = 0; from < DLC_DTYPE_COUNT; from++)
        for (size_t k = 0; k < sizeof lengths / sizeof lengths[0]; k++)
            for (size_t s = 0; s < 2 * sizeof strides / sizeof strides[0]; s++) {
                const int64_t n = lengths[k], stride = strides[s / 2], last = n == 0 ? 0 : (n - 1) * stride;
                const edge edge = s % 2 ? EDGE_BEFORE : EDGE_BEHIND;
                char *in = place(0, from, n == 0 ? 0 : llabs(last) + 1, edge);
                void *out = place(1, dtype, n, edge);
                in -= (last < 0 ? last : 0) * size_of(from);
                for (int64_t i = 0; i < n; i++)
                    set_any(from, in, i * stride, i % 11 * 5);
                describe("conversion of %lld elements of dtype %d, %lld apart, to float%d", (long long)n, from, (long long)stride,
                         bits_of(dtype));
                kernels->convert[from](out, in, stride, n);
                for (int64_t i = 0; i < n; i++) {
                    double expected = from == DLC_BOOL ? i % 11 != 0 : (double)(i % 11 * 5);
                    expect(get(dtype, out, i) == expected, "element %lld is %g", (long long)i, get(dtype, out, i));
                }
                expect_intact();
            }
}

static void test_fill(const dlc_real_kernels *kernels, int32_t dtype)
{
    for (int64_t n = 0; n < 140; n++) {
        void *out = place(0, dtype, n, n % 2 ? EDGE_BEFORE : EDGE_BEHIND);
        describe("fill of %lld elements, float%d", (long long)n, bits_of(dtype));
        kernels->fill(out, 2.5, n);
        for (int64_t i = 0; i < n; i++)
            expect(get(dtype, out, i) == 2.5, "element %lld", (long long)i);
        expect_intact();
    }
}

static void test_copy_rows(const dlc_real_kernels *kernels, int32_t dtype)
{
    enum { ROWS = 3, GAP = 5 };
    for (int64_t cols = 0; cols < 70; cols++)
        for (int64_t gap = 0; gap <= GAP; gap += GAP)
            for (edge edge = 0; edge < EDGE_COUNT; edge++) {
                const int64_t ld = cols + gap, n = cols == 0 ? 0 : (ROWS - 1) * ld + cols;
                void *in = place(0, dtype, n, edge), *out = place(1, dtype, n, edge);
                fill_uniform(dtype, in, n, 1, 2);
                const double untouched = n > 0 ? get(dtype, out, 0) : 0;
                describe("copy of rows of %lld, %lld apart, float%d", (long long)cols, (long long)ld, bits_of(dtype));
                kernels->copy_rows(out, ld, in, ld, ROWS, cols);
                for (int64_t i = 0; i < n; i++)
                    expect(get(dtype, out, i) == (i % ld < cols ? get(dtype, in, i) : untouched), "element %lld", (long long)i);
                expect_intact();
            }
}

/* Values of their own, and those that are the last of what is filled. */
static void test_fill_rows(const dlc_real_kernels *kernels, int32_t dtype)
{
    enum { ROWS = 5 };
    for (int64_t cols = 1; cols < 40; cols++)
        for (int64_t stride = 0; stride < 3; stride++) {
            void *out = place(0, dtype, ROWS * cols, cols % 2 ? EDGE_BEFORE : EDGE_BEHIND);
            void *values = place(1, dtype, (ROWS - 1) * stride + 1, EDGE_BEHIND);
            fill_integers(dtype, values, (ROWS - 1) * stride + 1, 1000);
            describe("%lld columns of values %lld apart, float%d", (long long)cols, (long long)stride, bits_of(dtype));
            kernels->fill_rows(out, values, stride, ROWS, cols);
            for (int64_t i = 0; i < ROWS * cols; i++)
                expect(get(dtype, out, i) == get(dtype, values, i / cols * stride), "element %lld", (long long)i);
            for (int64_t row = 0; row < ROWS; row++)
                set(dtype, out, ROWS * (cols - 1) + row, (double)row);
            kernels->fill_rows(out, (char *)out + ROWS * (cols - 1) * (bits_of(dtype) / 8), 1, ROWS, cols);
            for (int64_t i = 0; i < ROWS * cols; i++)
                expect(get(dtype, out, i) == (double)(i / cols), "element %lld, in place", (long long)i);
            expect_intact();
        }
}

/* To another array and in place */
static void test_add_to_rows(const dlc_real_kernels *kernels, int32_t dtype)
{
    enum { ROWS = 5 };
    for (int64_t cols = 1; cols < 40; cols++)
        for (int64_t stride = 0; stride < 3; stride++) {
            const edge edge = cols % 2 ? EDGE_BEFORE : EDGE_BEHIND;
            void *out = place(0, dtype, ROWS * cols, edge), *x = place(2, dtype, ROWS * cols, edge);
            void *values = place(1, dtype, (ROWS - 1) * stride + 1, edge);
            fill_integers(dtype, values, (ROWS - 1) * stride + 1, 1000);
            fill_integers(dtype, x, ROWS * cols, 1000);
            describe("%lld columns and values %lld apart are added, float%d", (long long)cols, (long long)stride, bits_of(dtype));
            kernels->add_to_rows(out, x, values, stride, ROWS, cols);
            for (int64_t i = 0; i < ROWS * cols; i++)
                expect(get(dtype, out, i) == get(dtype, x, i) + get(dtype, values, i / cols * stride), "element %lld",
                       (long long)i);
            kernels->add_to_rows(x, x, values, stride, ROWS, cols);
            for (int64_t i = 0; i < ROWS * cols; i++)
                expect(get(dtype, x, i) == get(dtype, out, i), "element %lld, in place", (long long)i);
            expect_intact();
        }
}

/* Of small integers every order of summation gives the same. */
static void test_reductions(const dlc_real_kernels *kernels, int32_t dtype)
{
    for (int64_t n = 0; n < 300; n += 1 + n / 8) {
        void *x = place(0, dtype, n, n % 2 ? EDGE_BEFORE : EDGE_BEHIND);
        double sum = 0, max = -INFINITY, min = INFINITY;
        fill_integers(dtype, x, n, 1000);
        for (int64_t i = 0; i < n; i++) {
            sum += get(dtype, x, i);
            max = fmax(max, get(dtype, x, i));
            min = fmin(min, get(dtype, x, i));
        }
        describe("reductions of %lld elements, float%d", (long long)n, bits_of(dtype));
        expect(kernels->sum(x, n) == sum, "the sum is %g, not %g", kernels->sum(x, n), sum);
        expect(kernels->max(x, n) == max, "the maximum is %g, not %g", kernels->max(x, n), max);
        expect(kernels->min(x, n) == min, "the minimum is %g, not %g", kernels->min(x, n), min);
        for (int64_t i = 0; i < n; i++) {
            double before = get(dtype, x, i);
            set(dtype, x, i, NAN);
            expect(isnan(kernels->sum(x, n)) && isnan(kernels->max(x, n)) && isnan(kernels->min(x, n)),
                   "NaN at %lld is lost", (long long)i);
            set(dtype, x, i, before);
        }
    }
}

/* The error of a sum does not grow with its length. */
static void test_long_sum(const dlc_real_kernels *kernels, int32_t dtype)
{
    enum { N = 300000 };
    void *x = place(0, dtype, N, EDGE_BEHIND);
    long double sum = 0;
    fill_uniform(dtype, x, N, 0, 1);
    for (int64_t i = 0; i < N; i++)
        sum += get(dtype, x, i);
    describe("a sum of %d elements, float%d", N, bits_of(dtype));
    double got = kernels->sum(x, N);
    expect(is_within(got, sum, 8 * epsilon_of(dtype) * sum), "it is %.17g, not %.17Lg", got, sum);
}

static double join(int kind, double a, double b)
{
    return isnan(a) || isnan(b) ? NAN : kind == 0 ? a + b : kind == 1 ? fmax(a, b) : fmin(a, b);
}

static void test_column_reductions(const dlc_real_kernels *kernels, int32_t dtype)
{
    void (*const reduce[3])(void *, const void *, int64_t, int64_t, int64_t) = {kernels->sum_rows, kernels->max_rows,
                                                                                kernels->min_rows};
    enum { ROWS = 67, GAP = 3 };
    for (int64_t cols = 1; cols < 80; cols += 1 + cols / 6)
        for (int kind = 0; kind < 3; kind++) {
            const int64_t ld = cols + GAP;
            void *x = place(0, dtype, (ROWS - 1) * ld + cols, EDGE_BEHIND);
            void *got = place(1, dtype, cols, EDGE_BEHIND), *expected = place(2, dtype, cols, EDGE_BEHIND);
            fill_integers(dtype, x, (ROWS - 1) * ld + cols, 1000);
            fill_integers(dtype, got, cols, 1000);
            set(dtype, x, 5 * ld + cols / 2, NAN);
            memcpy(expected, got, (size_t)(cols * size_of(dtype)));
            for (int64_t i = 0; i < ROWS; i++)
                for (int64_t j = 0; j < cols; j++)
                    set(dtype, expected, j, join(kind, get(dtype, expected, j), get(dtype, x, i * ld + j)));
            describe("reduction %d of %lld columns, float%d", kind, (long long)cols, bits_of(dtype));
            reduce[kind](got, x, ld, ROWS, cols);
            for (int64_t j = 0; j < cols; j++)
                expect(is_same(get(dtype, got, j), get(dtype, expected, j)), "column %lld is %g, not %g", (long long)j,
                       get(dtype, got, j), get(dtype, expected, j));
            expect_intact();
        }
}

/* Many rows at once have the bits of each by itself. */
static void test_sums_of_rows(const dlc_real_kernels *kernels, int32_t dtype)
{
    enum { ROWS = 37, STEP = 2, GAP = 3 };
    for (int64_t cols = 0; cols < 300; cols += 1 + cols / 5)
        for (int64_t rows = 1; rows <= ROWS; rows += 1 + rows / 3) {
            const int64_t ld = cols + GAP, n = (rows - 1) * ld + cols;
            double sums[ROWS * STEP], expected[ROWS * STEP];
            void *x = place(0, dtype, n, EDGE_BEHIND);
            fill_uniform(dtype, x, n, -1, 1);
            for (int64_t i = 0; i < ROWS * STEP; i++)
                sums[i] = expected[i] = (double)i;
            for (int64_t i = 0; i < rows; i++)
                expected[i * STEP] += kernels->sum((const char *)x + i * ld * size_of(dtype), cols);
            describe("sums of %lld rows of %lld, float%d", (long long)rows, (long long)cols, bits_of(dtype));
            kernels->sum_each(sums, STEP, x, ld, rows, cols);
            for (int64_t i = 0; i < ROWS * STEP; i++)
                expect(sums[i] == expected[i], "element %lld is %.17g, not %.17g", (long long)i, sums[i], expected[i]);
            expect_intact();
        }
}

/* A row of logits and what softmax and its loss make of it. */
typedef struct reference_row {
    long double max, total;
} reference_row;

static reference_row reference_of(int32_t dtype, const void *z, int64_t first, int64_t cols)
{
    reference_row row = {-INFINITY, 0};
    for (int64_t j = 0; j < cols; j++)
        row.max = fmaxl(row.max, get(dtype, z, first + j));
    for (int64_t j = 0; j < cols; j++)
        row.total += expl(get(dtype, z, first + j) - row.max);
    return row;
}

/* Two vectors of rows of the widest, and some over */
enum { ROWS = 35, GAP = 2 };

/* Logits of ROWS rows; those of the second lie so far apart that the exponential takes its long form, in the first vector of rows
 * alone. */
static void fill_logits(int32_t dtype, void *z, int64_t ld, int64_t cols)
{
    fill_uniform(dtype, z, (ROWS - 1) * ld + cols, -20, 20);
    if (cols > 1) {
        set(dtype, z, ld, -55);
        set(dtype, z, ld + 1, 20);
    }
}

/* That row i of a result has the bits of the row alone. */
static void expect_same_row(int32_t dtype, const void *rows, int64_t i, const void *alone, int64_t cols, const char *name)
{
    const int64_t size = cols * size_of(dtype);
    expect(memcmp((const char *)rows + i * size, alone, (size_t)size) == 0, "%s of row %lld differs from that of the row alone",
           name, (long long)i);
}

static void test_softmax(const dlc_real_kernels *kernels, int32_t dtype, int64_t cols, edge edge)
{
    const int64_t ld = cols + GAP, n = (ROWS - 1) * ld + cols;
    void *z = place(0, dtype, n, edge), *p = place(1, dtype, ROWS * cols, edge),
         *log_p = place(2, dtype, ROWS * cols, edge), *alone = place(3, dtype, cols, edge);
    fill_logits(dtype, z, ld, cols);
    kernels->softmax(p, cols, z, ld, ROWS, cols);
    kernels->log_softmax(log_p, cols, z, ld, ROWS, cols);
    describe("softmax of %lld columns, float%d", (long long)cols, bits_of(dtype));
    for (int64_t i = 0; i < ROWS; i++) {
        const reference_row row = reference_of(dtype, z, i * ld, cols);
        for (int64_t j = 0; j < cols; j++) {
            long double shifted = get(dtype, z, i * ld + j) - row.max, expected = expl(shifted) / row.total;
            /* the rounding of z - max counts as often as the exponential multiplies it */
            long double unit = epsilon_of(dtype) * (4 - shifted);
            double got = get(dtype, p, i * cols + j), log_got = get(dtype, log_p, i * cols + j);
            expect(is_within(got, expected, unit * expected), "p (%lld, %lld) is %g, not %Lg", (long long)i,
                   (long long)j, got, expected);
            expect(is_within(log_got, shifted - logl(row.total), unit), "log p (%lld, %lld) is %g, not %Lg",
                   (long long)i, (long long)j, log_got, shifted - logl(row.total));
        }
        const void *row_of_z = (char *)z + i * ld * size_of(dtype);
        kernels->softmax(alone, cols, row_of_z, ld, 1, cols);
        expect_same_row(dtype, p, i, alone, cols, "softmax");
        kernels->log_softmax(alone, cols, row_of_z, ld, 1, cols);
        expect_same_row(dtype, log_p, i, alone, cols, "log_softmax");
    }
    expect_intact();
}

/* As many rows as leave each number of lanes over; the bits are those of rows that are not transposed, up to CHUNK columns. */
static void test_transposed_softmax_loss(const dlc_real_kernels *kernels, int32_t dtype, int64_t rows, int64_t cols,
                                         edge edge, bool same_bits)
{
    enum { MOST_ROWS = 40 };
    int64_t labels[MOST_ROWS];
    const int64_t ld = rows + GAP, n = (cols - 1) * ld + rows;
    void *z = place(0, dtype, n, edge), *scale = place(1, dtype, rows, edge);
    void *loss = place(2, dtype, rows, edge), *grad = place(3, dtype, cols * rows, edge);
    void *row_of_z = place(4, dtype, cols, edge), *row_of_grad = place(5, dtype, cols, edge);
    void *loss_alone = place(6, dtype, 1, edge);
    fill_uniform(dtype, z, n, -20, 20);
    fill_uniform(dtype, scale, rows, 0.5, 2);
    for (int64_t i = 0; i < rows; i++)
        labels[i] = i * 7 % cols;
    kernels->softmax_loss_transposed(loss, grad, rows, z, ld, labels, scale, 1, rows, cols);
    describe("transposed softmax loss of %lld rows and %lld columns, float%d", (long long)rows, (long long)cols,
             bits_of(dtype));
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t j = 0; j < cols; j++)
            memcpy((char *)row_of_z + j * size_of(dtype), (char *)z + (j * ld + i) * size_of(dtype),
                   (size_t)size_of(dtype));
        const reference_row row = reference_of(dtype, row_of_z, 0, cols);
        const long double log_total = logl(row.total), s = get(dtype, scale, i);
        const long double expected = row.max + log_total - get(dtype, row_of_z, labels[i]);
        const double got = get(dtype, loss, i);
        kernels->softmax_loss(loss_alone, row_of_grad, cols, row_of_z, cols, labels + i, NULL, 0,
                              (char *)scale + i * size_of(dtype), 1, 1, cols);
        expect(!same_bits || got == get(dtype, loss_alone, 0), "loss %lld is %g, and %g by its row", (long long)i, got,
               get(dtype, loss_alone, 0));
        expect(is_within(got, expected, 4 * epsilon_of(dtype) * (1 + fabsl(expected) + log_total)),
               "loss %lld is %g, not %Lg", (long long)i, got, expected);
        for (int64_t j = 0; j < cols; j++) {
            const long double shifted = get(dtype, row_of_z, j) - row.max, p = expl(shifted) / row.total;
            const long double t = j == labels[i], bound = epsilon_of(dtype) * ((5 - shifted) * p + 2 * t) * s;
            const double g = get(dtype, grad, j * rows + i);
            expect(is_within(g, (p - t) * s, bound), "gradient (%lld, %lld) is %g, not %Lg", (long long)i, (long long)j,
                   g, (p - t) * s);
            expect(!same_bits || g == get(dtype, row_of_grad, j), "gradient (%lld, %lld) is %g, and %g by its row", (long long)i,
                   (long long)j, g, get(dtype, row_of_grad, j));
        }
    }
    expect_intact();
}

/* The gradient may take the place of the logits or of the targets and the loss that of the scale, one factor may serve all rows, and
 * a result may not be asked for. */
static void test_softmax_loss_in_place(const dlc_real_kernels *kernels, int32_t dtype, int64_t cols, edge edge)
{
    const int64_t size = size_of(dtype), n = ROWS * cols;
    int64_t labels[ROWS];
    void *z = place(0, dtype, n, edge), *scale = place(1, dtype, ROWS, edge);
    void *loss = place(2, dtype, ROWS, edge), *grad = place(3, dtype, n, edge), *other = place(4, dtype, n, edge);
    for (int64_t i = 0; i < ROWS; i++)
        labels[i] = i * 5 % cols;
    fill_logits(dtype, z, cols, cols);
    fill_uniform(dtype, scale, ROWS, 0.5, 2);
    describe("softmax loss of %lld columns in place, float%d", (long long)cols, bits_of(dtype));
    kernels->softmax_loss(loss, grad, cols, z, cols, labels, NULL, 0, NULL, 0, ROWS, cols);
    set(dtype, other, 0, 1);
    kernels->softmax_loss(NULL, other, cols, z, cols, labels, NULL, 0, other, 0, 0, cols); /* no rows, no change */
    expect(get(dtype, other, 0) == 1, "no rows were changed");
    void *half = place(5, dtype, 1, edge);
    set(dtype, half, 0, 0.5);
    kernels->softmax_loss(NULL, other, cols, z, cols, labels, NULL, 0, half, 0, ROWS, cols);
    for (int64_t i = 0; i < n; i++)
        expect(get(dtype, other, i) == get(dtype, grad, i) / 2, "gradient %lld by half is %g, of %g", (long long)i,
               get(dtype, other, i), get(dtype, grad, i));
    kernels->softmax_loss(NULL, grad, cols, z, cols, labels, NULL, 0, scale, 1, ROWS, cols);
    kernels->softmax_loss(scale, z, cols, z, cols, labels, NULL, 0, scale, 1, ROWS, cols);
    expect(memcmp(z, grad, (size_t)(n * size)) == 0, "the gradient in place of the logits differs");
    expect(memcmp(scale, loss, (size_t)(ROWS * size)) == 0, "the loss in place of the scale differs");
    void *targets = other;
    fill_logits(dtype, z, cols, cols);
    fill_uniform(dtype, targets, n, 0, 1);
    kernels->softmax_loss(loss, grad, cols, z, cols, NULL, targets, cols, NULL, 0, ROWS, cols);
    kernels->softmax_loss(NULL, targets, cols, z, cols, NULL, targets, cols, NULL, 0, ROWS, cols);
    expect(memcmp(targets, grad, (size_t)(n * size)) == 0, "the gradient in place of the targets differs");
    expect_intact();
}

/* With labels, and with weights of classes that do not sum to 1. */
static void test_softmax_loss(const dlc_real_kernels *kernels, int32_t dtype, int64_t cols, bool labelled, edge edge)
{
    const int64_t ld = cols + GAP, n = (ROWS - 1) * ld + cols;
    int64_t labels[ROWS];
    void *z = place(0, dtype, n, edge), *targets = place(1, dtype, ROWS * cols, edge),
         *scale = place(2, dtype, ROWS, edge);
    void *loss = place(3, dtype, ROWS, edge), *grad = place(4, dtype, ROWS * cols, edge);
    void *loss_alone = place(5, dtype, 1, edge), *alone = place(6, dtype, cols, edge);
    for (int64_t i = 0; i < ROWS; i++)
        labels[i] = i * 7 % cols;
    fill_logits(dtype, z, ld, cols);
    fill_uniform(dtype, targets, ROWS * cols, 0, 1);
    fill_uniform(dtype, scale, ROWS, 0.5, 2);
    kernels->softmax_loss(loss, grad, cols, z, ld, labelled ? labels : NULL, targets, cols, scale, 1, ROWS, cols);
    describe("softmax loss of %lld columns, labels %d, float%d", (long long)cols, labelled, bits_of(dtype));
    for (int64_t i = 0; i < ROWS; i++) {
        const reference_row row = reference_of(dtype, z, i * ld, cols);
        long double expected = 0, size = 0, sum = 0, s = get(dtype, scale, i);
        for (int64_t j = 0; j < cols; j++) {
            long double t = labelled ? j == labels[i] : get(dtype, targets, i * cols + j);
            long double log_p = get(dtype, z, i * ld + j) - row.max - logl(row.total);
            sum += t;
            expected -= t * log_p;
            size += t * (1 + fabsl(log_p) + logl(row.total));
        }
        double got = get(dtype, loss, i);
        expect(is_within(got, expected, 4 * epsilon_of(dtype) * size), "loss %lld is %g, not %Lg", (long long)i, got,
               expected);
        for (int64_t j = 0; j < cols; j++) {
            long double t = labelled ? j == labels[i] : get(dtype, targets, i * cols + j);
            long double shifted = get(dtype, z, i * ld + j) - row.max, p = expl(shifted) / row.total;
            long double bound = epsilon_of(dtype) * ((5 - shifted) * p * sum + 2 * t) * s;
            double g = get(dtype, grad, i * cols + j);
            expect(is_within(g, (p * sum - t) * s, bound), "gradient (%lld, %lld) is %g, not %Lg", (long long)i,
                   (long long)j, g, (p * sum - t) * s);
        }
        kernels->softmax_loss(loss_alone, alone, cols, (char *)z + i * ld * size_of(dtype), ld, labelled ? labels + i : NULL,
                              (char *)targets + i * cols * size_of(dtype), cols, (char *)scale + i * size_of(dtype), 1, 1, cols);
        expect_same_row(dtype, grad, i, alone, cols, "gradient");
        expect(got == get(dtype, loss_alone, 0), "loss %lld is %g, and %g alone", (long long)i, got, get(dtype, loss_alone, 0));
    }
    expect_intact();
}

/* Every alignment of out to a line, and all that is left over of lines. */
static void test_stream(const dlc_real_kernels *kernels, int32_t dtype)
{
    enum { LONGEST = 100, LINE = 16 };
    for (int64_t n = 0; n <= LONGEST; n++)
        for (int64_t offset = 0; offset < LINE; offset++)
            for (edge edge = 0; edge < EDGE_COUNT; edge++) {
                char *out = place(0, dtype, offset + n, edge);
                void *in = place(1, dtype, n, edge);
                fill_uniform(dtype, in, n, 1, 2);
                fill_uniform(dtype, out, offset + n, 3, 4);
                describe("stream of %lld at %lld, float%d", (long long)n, (long long)offset, 8 * (int)size_of(dtype));
                kernels->stream(out + offset * size_of(dtype), in, n);
                kernels->stream_end();
                for (int64_t i = 0; i < offset + n; i++) {
                    const double got = get(dtype, out, i);
                    expect(i < offset ? got >= 3 : got == get(dtype, in, i - offset), "element %lld", (long long)i);
                }
                expect_intact();
            }
}

void test_rows(const dlc_real_kernels *kernels, int32_t dtype)
{
    test_stream(kernels, dtype);
    test_convert(kernels, dtype);
    test_fill(kernels, dtype);
    test_copy_rows(kernels, dtype);
    test_fill_rows(kernels, dtype);
    test_add_to_rows(kernels, dtype);
    test_reductions(kernels, dtype);
    test_long_sum(kernels, dtype);
    test_column_reductions(kernels, dtype);
    test_sums_of_rows(kernels, dtype);
    /* columns beyond CHUNK, whose sums are added up in two goes */
    test_transposed_softmax_loss(kernels, dtype, 5, 1100, EDGE_BEHIND, false);
    for (int64_t cols = 1; cols < 90; cols += 1 + cols / 8)
        for (edge edge = 0; edge < EDGE_COUNT; edge++) {
            test_softmax_loss_in_place(kernels, dtype, cols, edge);
            test_softmax(kernels, dtype, cols, edge);
            test_softmax_loss(kernels, dtype, cols, false, edge);
            test_softmax_loss(kernels, dtype, cols, true, edge);
            for (int64_t rows = 1; rows <= 37; rows += 4)
                test_transposed_softmax_loss(kernels, dtype, rows, cols, edge, true);
        }
    /* whole vectors, and rows that are just in groups and not any more: of both dtypes on all CPUs */
    const int64_t wider[] = {4, 8, 16, 24, 32, 64, 128, 250, 256, 260, 512, 520};
    for (size_t i = 0; i < sizeof wider / sizeof *wider; i++)
        for (edge edge = 0; edge < EDGE_COUNT; edge++) {
            test_softmax(kernels, dtype, wider[i], edge);
            test_softmax_loss(kernels, dtype, wider[i], false, edge);
            test_softmax_loss(kernels, dtype, wider[i], true, edge);
            test_softmax_loss_in_place(kernels, dtype, wider[i], edge);
        }
}
