/* The kernels of matrix products. */
#include "kernels_gemm.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "checks.h"
#include "kernels.h"
#include "products.h"

static void test_tile_of(const dlc_gemm_kernels *kernels, int32_t dtype, int64_t rows, int64_t cols, int64_t depth,
                         bool adjacent, bool accumulate, bool fetches, edge edge)
{
    const int64_t ldb = round_up(cols, kernels->lanes);
    void *c = place(C, dtype, rows * cols, edge);
    void *a = place(A, dtype, rows * depth, edge), *b = place(B, dtype, depth * ldb, edge);
    fill_uniform(dtype, a, rows * depth, -1, 1);
    fill_uniform(dtype, b, depth * ldb, -1, 1);
    fill_uniform(dtype, c, rows * cols, -1, 1);
    const void *start = accumulate ? copy_of(dtype, c, rows * cols) : NULL;
    const operand of_a = {a, adjacent ? 1 : depth, adjacent ? rows : 1}, of_b = {b, ldb, 1}, of_c = {c, cols, 1};
    describe("tile %lld x %lld x %lld, a rows %s, accumulate %d, float%d", (long long)rows, (long long)cols,
             (long long)depth, adjacent ? "adjacent" : "apart", accumulate, bits_of(dtype));
    const dlc_gemm_ahead ahead = {a, 3 * DLC_ALIGNMENT};
    kernels->tile(c, cols, a, of_a.row, of_a.col, b, ldb, depth, rows, cols, accumulate, fetches ? &ahead : NULL);
    expect_product(dtype, of_c, of_a, of_b, rows, cols, depth, start);
    expect_intact();
}

/* The product, and b in the panel, if one is packed. */
static void test_packing_tile_of(const dlc_gemm_kernels *kernels, int32_t dtype, int64_t rows, int64_t depth, bool adjacent,
                                 bool accumulate, bool fetches, bool packs, edge edge)
{
    const int64_t cols = kernels->nr, ldb = cols + 3;
    void *c = place(C, dtype, rows * cols, edge), *panel = place(SECOND, dtype, depth * cols, edge);
    void *a = place(A, dtype, rows * depth, edge), *b = place(B, dtype, depth > 0 ? depth * ldb - 3 : 0, edge);
    fill_uniform(dtype, a, rows * depth, -1, 1);
    fill_uniform(dtype, b, depth > 0 ? depth * ldb - 3 : 0, -1, 1);
    fill_uniform(dtype, c, rows * cols, -1, 1);
    const void *start = accumulate ? copy_of(dtype, c, rows * cols) : NULL;
    const operand of_a = {a, adjacent ? 1 : depth, adjacent ? rows : 1}, of_b = {b, ldb, 1}, of_c = {c, cols, 1};
    describe("packing tile %lld x %lld, a rows %s, accumulate %d, packs %d, float%d", (long long)rows, (long long)depth,
             adjacent ? "adjacent" : "apart", accumulate, packs, bits_of(dtype));
    const dlc_gemm_ahead ahead = {a, 3 * DLC_ALIGNMENT};
    kernels->packing_tile(c, cols, a, of_a.row, of_a.col, packs ? panel : NULL, b, ldb, depth, rows, accumulate,
                          fetches ? &ahead : NULL);
    expect_product(dtype, of_c, of_a, of_b, rows, cols, depth, start);
    for (int64_t p = 0; packs && p < depth; p++)
        for (int64_t j = 0; j < cols; j++)
            if (!expect(get(dtype, panel, p * cols + j) == get(dtype, b, p * ldb + j), "packed (%lld, %lld)", (long long)p,
                        (long long)j))
                return;
    expect_intact();
}

static void test_packing_tile(const dlc_gemm_kernels *kernels, int32_t dtype)
{
    static const int64_t depths[] = {0, 1, 2, 7, 19};
    for (int64_t rows = 1; rows <= kernels->mr; rows++)
        for (int flags = 0; flags < 32; flags++)
            for (int depth = 0; depth < 5; depth++)
                test_packing_tile_of(kernels, dtype, rows, depths[depth], flags & 1, flags >> 1 & 1, flags >> 2 & 1,
                                     flags >> 3 & 1, flags >> 4);
}

static void test_tile(const dlc_gemm_kernels *kernels, int32_t dtype)
{
    static const int64_t depths[] = {0, 1, 2, 7, 19};
    for (int64_t rows = 1; rows <= kernels->mr; rows++)
        for (int64_t cols = 1; cols <= kernels->nr; cols++)
            for (int flags = 0; flags < 16; flags++)
                test_tile_of(kernels, dtype, rows, cols, depths[(rows + cols + flags) % 5], flags & 1, flags >> 1 & 1,
                             flags >> 2 & 1, flags >> 3);
}

/* What a tile stores beside a plain one of the same product */
typedef enum stored { UNBIASED, BIASED, RECTIFIED, BY_SIGN, BY_TANH, STORED_COUNT } stored;

static double expected_store(stored stored, int32_t dtype, double x, double with)
{
    switch (stored) {
    case UNBIASED:
        return x;
    case BIASED:
        return round_to(dtype, x + with);
    case RECTIFIED: {
        const double sum = round_to(dtype, x + with);
        return sum < 0 ? 0 : sum;
    }
    case BY_SIGN:
        return with > 0 ? x : 0;
    default:
        return (1 - with * with) * x;
    }
}

/* What stores must not take for another number: every seventh element, each time another */
static void fill_with_special(int32_t dtype, void *x, int64_t n)
{
    static const double special[] = {NAN, 0.0, -0.0, INFINITY, -INFINITY};
    static int next;
    fill_uniform(dtype, x, n, -1, 1);
    for (int64_t i = (int64_t)(next_bits() % 7); i < n; i += 7)
        set(dtype, x, i, special[next++ % 5]);
}

static void test_storing_tile_of(const dlc_gemm_kernels *kernels, int32_t dtype, stored stored, int64_t rows, int64_t cols,
                                 int64_t depth, edge edge)
{
    const bool is_biased = stored < BY_SIGN;
    const int64_t ldb = round_up(cols, kernels->lanes), n_with = is_biased ? rows : rows * cols;
    void *c = place(C, dtype, rows * cols, edge), *plain = place(START, dtype, rows * cols, edge);
    void *a = place(A, dtype, rows * depth, edge), *b = place(B, dtype, depth * ldb, edge);
    void *with = place(BESIDE, dtype, n_with, edge);
    fill_with_special(dtype, a, rows * depth);
    fill_uniform(dtype, b, depth * ldb, -1, 1);
    fill_with_special(dtype, with, n_with);
    describe("tile %lld x %lld x %lld, store %d, float%d", (long long)rows, (long long)cols, (long long)depth, (int)stored,
             bits_of(dtype));
    kernels->tile(plain, cols, a, is_biased ? 1 : depth, is_biased ? rows : 1, b, ldb, depth, rows, cols, false, NULL);
    if (is_biased)
        kernels->biased_tile(c, cols, a, rows, b, ldb, depth, rows, cols, stored == UNBIASED ? NULL : with,
                             stored == RECTIFIED);
    else
        kernels->gated_tile(c, cols, a, depth, b, ldb, depth, rows, cols, with, cols, stored == BY_SIGN);
    for (int64_t i = 0; i < rows * cols; i++) {
        const double expected = expected_store(stored, dtype, get(dtype, plain, i), get(dtype, with, is_biased ? i / cols : i));
        const double got = get(dtype, c, i), bound = 2 * epsilon_of(dtype) * (fabs(expected) + fabs(get(dtype, plain, i)));
        const bool is_right = stored == BY_TANH ? is_within(got, expected, bound) : is_same(got, expected);
        if (!expect(is_right, "element %lld is %g, not %g", (long long)i, got, expected))
            return;
    }
    expect_intact();
}

static void test_storing_tiles(const dlc_gemm_kernels *kernels, int32_t dtype)
{
    static const int64_t depths[] = {0, 1, 2, 7, 19};
    for (int stored = 0; stored < STORED_COUNT; stored++)
        for (int64_t rows = 1; rows <= kernels->mr; rows++)
            for (int64_t cols = 1; cols <= kernels->nr; cols++)
                if (stored < BY_SIGN || cols % kernels->lanes == 0)
                    for (int edge = 0; edge < EDGE_COUNT; edge++)
                        test_storing_tile_of(kernels, dtype, stored, rows, cols, depths[(rows + cols + edge) % 5], edge);
}

/* The source begins or ends at a page without access: packing may read no further. step: width, or that filled up to whole
 * vectors, or more where it is some. */
static void test_pack_of(const dlc_gemm_kernels *kernels, int32_t dtype, int64_t step, int64_t width, int64_t depth,
                         int64_t width_stride, int64_t depth_stride, edge edge)
{
    const int64_t overrun = step == width ? kernels->lanes - 1 : 0;
    const int64_t across = (width - 1) * width_stride, along = depth == 0 ? 0 : (depth - 1) * depth_stride;
    const int64_t span = depth == 0 ? 0 : 1 + llabs(across) + llabs(along);
    const int64_t filled = step == width ? width : round_up(width, kernels->lanes);
    void *panel = place(C, dtype, depth * step + overrun, edge);
    const double untouched = depth > 0 ? get(dtype, panel, 0) : 0;
    char *x = place(A, dtype, span, edge);
    fill_uniform(dtype, x, span, 1, 2);
    const char *first = x - ((across < 0 ? across : 0) + (along < 0 ? along : 0)) * size_of(dtype);
    describe("pack %lld of %lld x %lld, strides %lld and %lld, float%d", (long long)width, (long long)step,
             (long long)depth, (long long)width_stride, (long long)depth_stride, bits_of(dtype));
    kernels->pack(panel, step, first, width_stride, depth_stride, width, depth);
    for (int64_t p = 0; p < depth; p++)
        for (int64_t w = 0; w < step; w++) {
            double expected = w < width    ? get(dtype, first, w * width_stride + p * depth_stride)
                              : w < filled ? 0
                                           : untouched;
            if (!expect(get(dtype, panel, p * step + w) == expected, "element (%lld, %lld)", (long long)p,
                        (long long)w))
                return;
        }
    expect_intact();
}

static void test_pack_to(const dlc_gemm_kernels *kernels, int32_t dtype, int64_t step, int64_t width, int64_t depth)
{
    for (edge edge = 0; edge < EDGE_COUNT; edge++) {
        test_pack_of(kernels, dtype, step, width, depth, 1, width, edge);
        test_pack_of(kernels, dtype, step, width, depth, 1, width + 3, edge);
        test_pack_of(kernels, dtype, step, width, depth, depth > 0 ? depth : 1, 1, edge);
        test_pack_of(kernels, dtype, step, width, depth, depth + 5, 1, edge);
        test_pack_of(kernels, dtype, step, width, depth, 2, 2 * width, edge);
        test_pack_of(kernels, dtype, step, width, depth, -1, -width, edge);
        test_pack_of(kernels, dtype, step, width, depth, -depth - 1, -1, edge);
        test_pack_of(kernels, dtype, step, width, depth, -depth - 1, 1, edge);
    }
}

static void test_pack(const dlc_gemm_kernels *kernels, int32_t dtype)
{
    for (int64_t width = 1; width <= 2 * kernels->nr; width++)
        for (int64_t depth = 0; depth <= 2 * kernels->lanes + 1; depth++) {
            const int64_t filled = round_up(width, kernels->lanes);
            test_pack_to(kernels, dtype, width, width, depth);
            test_pack_to(kernels, dtype, filled, width, depth);
            if (width == filled)
                test_pack_to(kernels, dtype, width + 5, width, depth);
        }
}

/* Sums of small integers are exact. */
void test_sum_parts(const dlc_gemm_kernels *kernels, int32_t dtype)
{
    enum { ROWS = 3, COLS = 21, COUNT = 5 };
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        void *c = place(C, dtype, ROWS * COLS, EDGE_BEHIND), *parts = place(A, dtype, COUNT * ROWS * COLS, EDGE_BEHIND);
        fill_integers(dtype, c, ROWS * COLS, 9);
        fill_integers(dtype, parts, COUNT * ROWS * COLS, 9);
        const void *start = copy_of(dtype, c, ROWS * COLS);
        describe("sum of parts, accumulate %d, float%d", accumulate, bits_of(dtype));
        kernels->sum_parts(c, COLS, parts, COLS, ROWS * COLS, COUNT, ROWS, COLS, accumulate);
        for (int64_t i = 0; i < ROWS * COLS; i++) {
            double expected = accumulate ? get(dtype, start, i) : 0;
            for (int64_t s = 0; s < COUNT; s++)
                expected += get(dtype, parts, s * ROWS * COLS + i);
            expect(get(dtype, c, i) == expected, "element %lld is %g, not %g", (long long)i, get(dtype, c, i),
                   expected);
        }
        expect_intact();
    }
}

static void test_turn_of(const dlc_gemm_kernels *kernels, int32_t dtype, int64_t rows, int64_t cols, bool accumulate, edge edge)
{
    const int64_t ldc = cols + 2, ldx = rows + 2, of_c = (rows - 1) * ldc + cols, of_x = (cols - 1) * ldx + rows;
    void *c = place(C, dtype, of_c, edge), *x = place(A, dtype, of_x, edge);
    fill_integers(dtype, c, of_c, 9);
    fill_integers(dtype, x, of_x, 9);
    const void *start = copy_of(dtype, c, of_c);
    describe("turn (%lld, %lld), accumulate %d, float%d", (long long)rows, (long long)cols, accumulate, bits_of(dtype));
    kernels->turn(c, ldc, x, ldx, rows, cols, accumulate);
    for (int64_t i = 0; i < of_c; i++) {
        const int64_t row = i / ldc, col = i % ldc;
        const bool is_kept = accumulate || col >= cols;
        const double expected = (is_kept ? get(dtype, start, i) : 0) + (col < cols ? get(dtype, x, col * ldx + row) : 0);
        expect(get(dtype, c, i) == expected, "element %lld is %g, not %g", (long long)i, get(dtype, c, i), expected);
    }
    expect_intact();
}

static void test_turn(const dlc_gemm_kernels *kernels, int32_t dtype)
{
    for (int64_t rows = 1; rows <= 2 * kernels->lanes + 1; rows++)
        for (int64_t cols = 1; cols < kernels->lanes; cols++)
            test_turn_of(kernels, dtype, rows, cols, (rows + cols) % 2, (edge)(rows % EDGE_COUNT));
}

static void test_vector_products_of(const dlc_gemm_kernels *kernels, int32_t dtype, int64_t n, int64_t k,
                                    bool accumulate, edge edge)
{
    const int64_t stride = 1 + n % 3;
    void *y = place(C, dtype, n, edge), *x = place(A, dtype, (k - 1) * stride + 1, edge);
    void *b = place(B, dtype, n * k, edge);
    fill_uniform(dtype, y, n, -1, 1);
    fill_uniform(dtype, x, (k - 1) * stride + 1, -1, 1);
    fill_uniform(dtype, b, n * k, -1, 1);
    const void *start = accumulate ? copy_of(dtype, y, n) : NULL;
    describe("vector %lld times matrix %lld x %lld, accumulate %d, float%d", (long long)k, (long long)k, (long long)n,
             accumulate, bits_of(dtype));
    kernels->vector_matrix(y, x, stride, b, n, k, n, accumulate);
    expect_product(dtype, (operand){y, n, 1}, (operand){x, 0, stride}, (operand){b, n, 1}, 1, n, k, start);
    expect_intact();

    void *out = place(C, dtype, (n - 1) * stride + 1, edge);
    fill_uniform(dtype, out, (n - 1) * stride + 1, -1, 1);
    void *first = place(START, dtype, n, EDGE_BEHIND);
    for (int64_t i = 0; i < n; i++)
        set(dtype, first, i, get(dtype, out, i * stride));
    void *column = place(A, dtype, k, edge);
    fill_uniform(dtype, column, k, -1, 1);
    describe("matrix %lld x %lld times vector, accumulate %d, float%d", (long long)n, (long long)k, accumulate,
             bits_of(dtype));
    kernels->matrix_vector(out, stride, b, k, column, n, k, accumulate);
    expect_product(dtype, (operand){out, stride, 0}, (operand){b, k, 1}, (operand){column, 1, 0}, n, 1, k,
                   accumulate ? first : NULL);
    expect_intact();
}

static void test_vector_products(const dlc_gemm_kernels *kernels, int32_t dtype)
{
    static const int64_t sizes[] = {1, 2, 3, 4, 7, 8, 9, 15, 17, 31, 33};
    enum { COUNT = sizeof sizes / sizeof sizes[0] };
    for (int i = 0; i < COUNT; i++)
        for (int j = 0; j < COUNT; j++)
            test_vector_products_of(kernels, dtype, sizes[i], sizes[j], (i + j) % 2, j % 2);
    /* rows about as long as those whose lanes are added up in another way, and what is left of their vectors */
    const int64_t lanes = kernels->lanes, lengths[] = {32 * lanes - 1, 32 * lanes, 32 * lanes + 1, 33 * lanes, 34 * lanes - 1};
    for (int64_t n = 1; n <= 9; n++)
        for (int i = 0; i < 5; i++)
            test_vector_products_of(kernels, dtype, n, lengths[i], (n + i) % 2, (edge)(i % 2));
}

/* Of c only its own elements are written. */
static void test_few_rows_of(const dlc_gemm_kernels *kernels, int32_t dtype, int64_t m, int64_t n, int64_t k, edge edge)
{
    const int64_t a_row = k + n % 3, b_row = n + k % 3, c_row = kernels->sums_apart;
    const bool transposed = k % 2;
    void *c = place(C, dtype, (m - 1) * c_row + n, edge);
    void *a = place(A, dtype, transposed ? m * k : (m - 1) * a_row + k, edge), *b = place(B, dtype, (k - 1) * b_row + n, edge);
    fill_uniform(dtype, c, (m - 1) * c_row + n, -1, 1);
    fill_uniform(dtype, a, transposed ? m * k : (m - 1) * a_row + k, -1, 1);
    fill_uniform(dtype, b, (k - 1) * b_row + n, -1, 1);
    const void *start = copy_of(dtype, c, (m - 1) * c_row + n);
    describe("%lld rows by rows of b, %lld x %lld, float%d", (long long)m, (long long)k, (long long)n, bits_of(dtype));
    kernels->few_rows(c, a, transposed ? 1 : a_row, transposed ? m : 1, b, b_row, m, k, n);
    expect_product(dtype, (operand){c, c_row, 1}, transposed ? (operand){a, 1, m} : (operand){a, a_row, 1},
                   (operand){b, b_row, 1}, m, n, k, NULL);
    for (int64_t i = 0; i < (m - 1) * c_row + n; i++)
        expect(i % c_row < n || get(dtype, c, i) == get(dtype, start, i), "element %lld was changed", (long long)i);
    expect_intact();
}

static void test_few_rows(const dlc_gemm_kernels *kernels, int32_t dtype)
{
    static const int64_t depths[] = {1, 3, 4, 5, 8, 11};
    enum { COUNT = sizeof depths / sizeof depths[0] };
    const int64_t lanes = kernels->lanes, nr = kernels->nr;
    const int64_t widths[] = {1, lanes - 1, lanes, nr, nr + 1, 3 * nr - 1, kernels->sums};
    for (int64_t m = 2; m <= kernels->few; m++)
        for (int i = 0; i < COUNT; i++)
            for (int j = 0; j < (int)(sizeof widths / sizeof widths[0]); j++)
                test_few_rows_of(kernels, dtype, m, widths[j], depths[i], (edge)((i + j) % EDGE_COUNT));
}

static void test_dots_of(const dlc_gemm_kernels *kernels, int32_t dtype, int64_t m, int64_t n, int64_t k, bool accumulate,
                         edge edge)
{
    const int64_t gap = k % 3, ldc = n + gap, lda = k + gap, ldb = k + 2 * gap;
    const int64_t of_c = (m - 1) * ldc + n, of_a = (m - 1) * lda + k, of_b = (n - 1) * ldb + k;
    void *c = place(C, dtype, of_c, edge), *a = place(A, dtype, of_a, edge), *b = place(B, dtype, of_b, edge);
    fill_uniform(dtype, c, of_c, -1, 1);
    fill_uniform(dtype, a, of_a, -1, 1);
    fill_uniform(dtype, b, of_b, -1, 1);
    for (int64_t i = 0; i < of_a; i++)
        if (i % lda >= k)
            set(dtype, a, i, NAN);
    for (int64_t i = 0; i < of_b; i++)
        if (i % ldb >= k)
            set(dtype, b, i, NAN);
    for (int64_t i = 0; i < of_c; i++)
        if (i % ldc >= n)
            set(dtype, c, i, 7);
    void *start = place(START, dtype, m * n, EDGE_BEHIND);
    for (int64_t i = 0; i < m * n; i++)
        set(dtype, start, i, get(dtype, c, i / n * ldc + i % n));
    describe("dot products of %lld with %lld vectors of %lld, accumulate %d, float%d", (long long)m, (long long)n,
             (long long)k, accumulate, bits_of(dtype));
    kernels->dots(c, ldc, 1, a, lda, b, ldb, m, n, k, accumulate);
    for (int64_t i = 0; i < of_c; i++)
        expect(i % ldc < n || get(dtype, c, i) == 7, "what lies between rows of c has changed");
    expect_product(dtype, (operand){c, ldc, 1}, (operand){a, lda, 1}, (operand){b, 1, ldb}, m, n, k,
                   accumulate ? start : NULL);
    expect_intact();
    describe("the same with the roles of a and b exchanged");
    void *transposed = place(SECOND, dtype, of_c, edge);
    for (int64_t i = 0; i < of_c; i++)
        set(dtype, transposed, i, i % ldc < n ? get(dtype, start, i / ldc * n + i % ldc) : 7);
    kernels->dots(transposed, 1, ldc, b, ldb, a, lda, n, m, k, accumulate);
    for (int64_t i = 0; i < of_c; i++)
        expect(get(dtype, transposed, i) == get(dtype, c, i), "element %lld differs", (long long)i);
    expect_intact();
}

static void test_dots(const dlc_gemm_kernels *kernels, int32_t dtype)
{
    static const int64_t rows[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 37}, depths[] = {1, 3, 8, 16, 37, 64};
    for (int r = 0; r < (int)(sizeof rows / sizeof rows[0]); r++)
        for (int64_t n = 1; n < 14; n++)
            for (int i = 0; i < 6; i++)
                test_dots_of(kernels, dtype, rows[r], n, depths[i], (r + n + i) % 2, (r + i) % 2);
}

static void test_sum_columns_of(const dlc_gemm_kernels *kernels, int32_t dtype, int64_t k, int64_t n, int64_t b_row,
                                int64_t b_col, bool accumulate, edge edge)
{
    const int64_t span = k == 0 ? 0 : (k - 1) * b_row + (n - 1) * b_col + 1;
    void *b = place(B, dtype, span, edge), *sums = place(C, dtype, n, edge);
    fill_uniform(dtype, b, span, 1, 2);
    fill_uniform(dtype, sums, n, 1, 2);
    const void *start = accumulate ? copy_of(dtype, sums, n) : NULL;
    describe("sums of %lld columns of %lld, strides %lld and %lld, accumulate %d, float%d", (long long)n, (long long)k,
             (long long)b_row, (long long)b_col, accumulate, bits_of(dtype));
    kernels->sum_columns(sums, b, b_row, b_col, k, n, accumulate);
    expect_column_sums(dtype, sums, b, b_row, b_col, k, n, start);
    expect_intact();
}

static void test_sum_columns(const dlc_gemm_kernels *kernels, int32_t dtype)
{
    static const int64_t depths[] = {0, 1, 7, 8, 9, 33, 70, 200, 1030, 5000};
    for (int64_t n = 1; n <= 2 * kernels->nr + 1; n++)
        for (int i = 0; i < (n < 4 ? 10 : 9); i++)
            for (int flags = 0; flags < 4; flags++) {
                const int64_t k = depths[i];
                test_sum_columns_of(kernels, dtype, k, n, n, 1, flags & 1, flags >> 1);
                test_sum_columns_of(kernels, dtype, k, n, n + 3, 1, flags & 1, flags >> 1);
                test_sum_columns_of(kernels, dtype, k, n, 1, k > 0 ? k : 1, flags & 1, flags >> 1);
                test_sum_columns_of(kernels, dtype, k, n, 1, k + 5, flags & 1, flags >> 1);
                if (n == 1)
                    test_sum_columns_of(kernels, dtype, k, n, 3, 7, flags & 1, flags >> 1);
            }
}

/* Chains over all rows would lose a part of each: of float32, 75 (along k) and 1060 units in the last place of the sum. */
static void test_sums_of_many_rows(const dlc_gemm_kernels *kernels, int32_t dtype)
{
    enum { ROWS = 100000, COLUMNS = 3 };
    void *b = place(B, dtype, ROWS * COLUMNS, EDGE_BEHIND), *sums = place(C, dtype, COLUMNS, EDGE_BEHIND);
    for (int64_t i = 0; i < ROWS * COLUMNS; i++)
        set(dtype, b, i, 0.1);
    for (int along_k = 0; along_k < 2; along_k++) {
        describe("sums of %d rows, contiguous along k %d, float%d", ROWS, along_k, bits_of(dtype));
        kernels->sum_columns(sums, b, along_k ? 1 : COLUMNS, along_k ? ROWS : 1, ROWS, COLUMNS, false);
        const long double expected = ROWS * (long double)round_to(dtype, 0.1);
        for (int64_t j = 0; j < COLUMNS; j++)
            expect(is_within(get(dtype, sums, j), expected, 20 * epsilon_of(dtype) * expected), "sum %lld is %.9g",
                   (long long)j, get(dtype, sums, j));
    }
}

void test_gemm(const dlc_gemm_kernels *kernels, int32_t dtype)
{
    test_tile(kernels, dtype);
    test_packing_tile(kernels, dtype);
    test_storing_tiles(kernels, dtype);
    test_pack(kernels, dtype);
    test_sum_parts(kernels, dtype);
    test_turn(kernels, dtype);
    test_vector_products(kernels, dtype);
    test_few_rows(kernels, dtype);
    test_dots(kernels, dtype);
    test_sum_columns(kernels, dtype);
    test_sums_of_many_rows(kernels, dtype);
    test_products(kernels, dtype);
}
