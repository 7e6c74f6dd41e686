/* The kernels of matrix products, and the blocked product above them. */
#include "gemm/gemm.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "arrays.h"
#include "checks.h"
#include "core/sizes.h"
#include "kernels.h"
#include "products.h"

enum { C, A, B, START, SECOND, SUMS, SECOND_SUMS, BESIDE, PACKED };

static int bits_of(int32_t dtype) { return dtype == DLC_FLOAT32 ? 32 : 64; }

static const char *name_of(const dlc_gemm_kernels *kernels, int32_t dtype)
{
    return kernels->packs_pairs ? "bfloat16" : dtype == DLC_FLOAT32 ? "float32" : "float64";
}

/* The bits of x rounded to bfloat16, as float32: among the numbers whose lower halves are 0 the nearest, of two the even one.
 * NaN becomes quiet, subnormals 0. */
static uint32_t round_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    const uint32_t lower = bits & 0xffff, truncated = bits - lower;
    if (isnan(x))
        return truncated | 0x00400000;
    if (fabsf(x) < 0x1p-126f)
        return bits & 0x80000000;
    const bool up = lower > 0x8000 || (lower == 0x8000 && (truncated & 0x10000));
    return up ? truncated + 0x10000 : truncated;
}

static void round_all(float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        uint32_t bits = round_bits(x[i]);
        memcpy(&x[i], &bits, sizeof bits);
    }
}

static int64_t round_up(int64_t n, int64_t multiple) { return dlc_ceil_div(n, multiple) * multiple; }

/* A copy of an array, as what an accumulating product starts from. */
static const void *copy_of(int32_t dtype, const void *x, int64_t n)
{
    return memcpy(place(START, dtype, n, EDGE_BEHIND), x, (size_t)(n * size_of(dtype)));
}

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

/* The source begins or ends at a page without access: packing may read no further. step: width, or that filled up to whole
 * vectors, or more where it is some. */
static void test_pack_of(const dlc_gemm_kernels *kernels, int32_t dtype, int64_t step, int64_t width, int64_t depth,
                         int64_t width_stride, int64_t depth_stride, edge edge)
{
    const int64_t overrun = step == width ? kernels->lanes - 1 : 0;
    const int64_t last = (width - 1) * width_stride + (depth - 1) * depth_stride; /* from the first, if below it */
    const int64_t span = depth == 0 ? 0 : 1 + llabs((width - 1) * width_stride) + llabs((depth - 1) * depth_stride);
    const int64_t filled = step == width ? width : round_up(width, kernels->lanes);
    void *panel = place(C, dtype, depth * step + overrun, edge);
    const double untouched = depth > 0 ? get(dtype, panel, 0) : 0;
    char *x = place(A, dtype, span, edge);
    fill_uniform(dtype, x, span, 1, 2);
    const char *first = x + (last < 0 ? -last : 0) * size_of(dtype);
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
static void test_sum_parts(const dlc_gemm_kernels *kernels, int32_t dtype)
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

static void test_turn(const dlc_gemm_kernels *kernels, int32_t dtype)
{
    enum { ROWS = 9, COLS = 5, LDC = 7 };
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        void *c = place(C, dtype, (ROWS - 1) * LDC + COLS, EDGE_BEHIND), *x = place(A, dtype, COLS * ROWS, EDGE_BEHIND);
        fill_integers(dtype, c, (ROWS - 1) * LDC + COLS, 9);
        fill_integers(dtype, x, COLS * ROWS, 9);
        const void *start = copy_of(dtype, c, (ROWS - 1) * LDC + COLS);
        describe("turn, accumulate %d, float%d", accumulate, bits_of(dtype));
        kernels->turn(c, LDC, x, ROWS, ROWS, COLS, accumulate);
        for (int64_t i = 0; i < (ROWS - 1) * LDC + COLS; i++) {
            const int64_t row = i / LDC, col = i % LDC;
            const bool is_kept = accumulate || col >= COLS;
            const double expected = (is_kept ? get(dtype, start, i) : 0) + (col < COLS ? get(dtype, x, col * ROWS + row) : 0);
            expect(get(dtype, c, i) == expected, "element %lld is %g, not %g", (long long)i, get(dtype, c, i), expected);
        }
        expect_intact();
    }
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
    if (accumulate)
        return;
    describe("the same with the roles of a and b exchanged");
    void *transposed = place(SECOND, dtype, m * n, EDGE_BEHIND);
    kernels->dots(transposed, 1, n, b, ldb, a, lda, n, m, k, false);
    for (int64_t i = 0; i < m * n; i++)
        expect(get(dtype, transposed, i) == get(dtype, c, i / n * ldc + i % n), "element %lld differs", (long long)i);
    expect_intact();
}

static void test_dots(const dlc_gemm_kernels *kernels, int32_t dtype)
{
    static const int64_t depths[] = {1, 3, 8, 16, 37, 64};
    for (int64_t m = 1; m < 11; m++)
        for (int64_t n = 1; n < 11; n++)
            for (int i = 0; i < 6; i++)
                test_dots_of(kernels, dtype, m, n, depths[i], (m + n + i) % 2, (m + i) % 2);
}

/* How far sums (n) are from those of the columns of b, to which those of `start` are added unless it is NULL. */
static void expect_column_sums(int32_t dtype, const void *sums, const void *b, int64_t b_row, int64_t b_col, int64_t k,
                               int64_t n, const void *start)
{
    for (int64_t j = 0; j < n; j++) {
        long double expected = start ? get(dtype, start, j) : 0, magnitude = fabsl(expected);
        for (int64_t p = 0; p < k; p++) {
            const double term = get(dtype, b, p * b_row + j * b_col);
            expected += term;
            magnitude += fabs(term);
        }
        /* numbers are added up by about a hundred, and then these sums: no bound that a lost row would stay within */
        if (!expect(is_within(get(dtype, sums, j), expected, (100 + (double)k / 128) * epsilon_of(dtype) * magnitude),
                    "sum of column %lld", (long long)j))
            return;
    }
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

/* A product on a team. */
typedef struct team_product {
    dlc_gemm gemm;
    char *shared, *own;
    int64_t own_bytes;
    dlc_barrier barrier;
} team_product;

static void run_member(void *context, int thread, int n_threads)
{
    team_product *p = context;
    dlc_gemm_run(&p->gemm, p->shared, p->own + thread * p->own_bytes, &p->barrier, thread, n_threads);
}

static void run_on_team(const dlc_gemm *gemm, int threads)
{
    team_product product = {.gemm = *gemm};
    int64_t shared;
    dlc_gemm_scratch(&shared, &product.own_bytes, gemm);
    product.shared = dlc_aligned_alloc(shared + DLC_ALIGNMENT);
    product.own = dlc_aligned_alloc(threads * product.own_bytes + DLC_ALIGNMENT);
    char *end = product.own + threads * product.own_bytes, *end_of_shared = product.shared + shared, untouched[DLC_ALIGNMENT];
    memset(untouched, 0x5a, sizeof untouched);
    memset(end, 0x5a, sizeof untouched);
    memset(end_of_shared, 0x5a, sizeof untouched);
    dlc_set_num_threads(threads);
    expect(dlc_team_run(threads, run_member, &product) == threads, "the team is not of %d threads", threads);
    dlc_set_num_threads(0);
    expect(memcmp(end, untouched, sizeof untouched) == 0, "what lies behind the scratch memory has changed");
    expect(memcmp(end_of_shared, untouched, sizeof untouched) == 0, "what lies behind the team's scratch memory has changed");
    free(product.shared);
    free(product.own);
}

/* The strides of a rows x cols matrix: rows or columns contiguous, or neither. */
static operand laid_out(const void *data, int64_t rows, int64_t cols, int layout)
{
    return layout == 0   ? (operand){data, cols, 1}
           : layout == 1 ? (operand){data, 1, rows}
                         : (operand){data, 2 * cols, 2};
}

/* The sums of b beside a product change nothing of it, and are the same for every team. They start as the first elements of c. */
static void test_product_with_sums(const dlc_gemm *gemm, int32_t dtype, const void *start, int threads, const void *expected,
                                   void *sums, const void *of_one)
{
    dlc_gemm both = *gemm;
    both.b_sums = sums;
    both.c = memcpy(place(BESIDE, dtype, gemm->m * gemm->n, EDGE_BEHIND), start,
                    (size_t)(gemm->m * gemm->n * size_of(dtype)));
    memcpy(sums, start, (size_t)(gemm->n * size_of(dtype)));
    run_on_team(&both, threads);
    expect_same_bits(dtype, both.c, expected, gemm->m * gemm->n);
    if (threads == 1)
        expect_column_sums(dtype, sums, gemm->b, gemm->b_row, gemm->b_col, gemm->k, gemm->n,
                           gemm->accumulate ? start : NULL);
    else
        expect_same_bits(dtype, sums, of_one, gemm->n);
    expect_intact();
}

/* From this depth on the team may cut k (DEEP_K of csrc/gemm/gemm.c). */
#define CUT_K 6144

/* The product with a b that is packed ahead, by as many threads, is the product that packs: bit by bit where k is not cut. */
static void test_product_with_packed_b(const dlc_gemm *gemm, int32_t dtype, const operand *left, const operand *right,
                                       const void *start, int threads, const void *expected)
{
    const int64_t of_c = gemm->m * gemm->n;
    int64_t size = 0;
    dlc_gemm ahead = *gemm;
    expect(dlc_gemm_packed_size(&size, gemm), "packed columns cannot be counted");
    void *packed = place(PACKED, dtype, size, EDGE_BEHIND);
    for (int thread = 0; thread < threads; thread++)
        dlc_gemm_pack_b(packed, gemm, thread, threads);
    ahead.packed_b = packed;
    ahead.c = memcpy(place(BESIDE, dtype, of_c, EDGE_BEHIND), start, (size_t)(of_c * size_of(dtype)));
    run_on_team(&ahead, threads);
    if (gemm->k < CUT_K)
        expect_same_bits(dtype, ahead.c, expected, of_c);
    else
        expect_product(dtype, (operand){ahead.c, gemm->n, 1}, *left, *right, gemm->m, gemm->n, gemm->k,
                       gemm->accumulate ? start : NULL);
    expect_intact();
}

static void test_product_of(const dlc_gemm_kernels *kernels, int32_t dtype, const int64_t size[3], int layout_a,
                            int layout_b, bool accumulate)
{
    const int64_t m = size[0], n = size[1], k = size[2], of_c = m * n;
    void *a = place(A, dtype, 2 * m * k, EDGE_BEHIND), *b = place(B, dtype, 2 * k * n, EDGE_BEHIND);
    fill_uniform(dtype, a, 2 * m * k, -1, 1);
    fill_uniform(dtype, b, 2 * k * n, -1, 1);
    if (kernels->packs_pairs) {
        round_all(a, 2 * m * k);
        round_all(b, 2 * k * n);
    }
    void *start = place(START, dtype, of_c, EDGE_BEHIND);
    fill_uniform(dtype, start, of_c, -1, 1);
    const operand left = laid_out(a, m, k, layout_a), right = laid_out(b, k, n, layout_b);
    void *results[2] = {place(C, dtype, of_c, EDGE_BEHIND), place(SECOND, dtype, of_c, EDGE_BEHIND)};
    void *sums[2] = {place(SUMS, dtype, n, EDGE_BEHIND), place(SECOND_SUMS, dtype, n, EDGE_BEHIND)};
    for (int threads = 1; threads <= 3; threads++) {
        void *c = results[threads > 1];
        memcpy(c, start, (size_t)(of_c * size_of(dtype)));
        describe("product %lld x %lld x %lld, layouts %d and %d, accumulate %d, %d threads, %s", (long long)m,
                 (long long)n, (long long)k, layout_a, layout_b, accumulate, threads, name_of(kernels, dtype));
        const dlc_gemm gemm = {.kernels = kernels,
                               .element_size = size_of(dtype),
                               .c = c,
                               .a = a,
                               .b = b,
                               .m = m,
                               .n = n,
                               .k = k,
                               .c_row = n,
                               .a_row = left.row,
                               .a_col = left.col,
                               .b_row = right.row,
                               .b_col = right.col,
                               .accumulate = accumulate,
                               .is_one_row = m == 1};
        run_on_team(&gemm, threads);
        if (threads == 1)
            expect_product(dtype, (operand){c, n, 1}, left, right, m, n, k, accumulate ? start : NULL);
        else
            expect_same_bits(dtype, c, results[0], of_c);
        expect_intact();
        const bool has_few_rows = m > 1 && m <= kernels->few; /* which may gain where there are more rows at other times */
        if (kernels->packs_pairs || has_few_rows || dlc_gemm_gains_by_packed_b(&gemm))
            test_product_with_packed_b(&gemm, dtype, &left, &right, start, threads, c);
        if (!kernels->packs_pairs)
            test_product_with_sums(&gemm, dtype, start, threads, c, sums[threads > 1], sums[0]);
    }
}

/* x^T x is computed whole where b is packed ahead: panels are as wide as they were packed. */
static void test_gram_with_packed_b(const dlc_gemm_kernels *kernels)
{
    enum { N = 100, K = 80 };
    float *x = place(A, DLC_FLOAT32, N * K, EDGE_BEHIND), *c = place(C, DLC_FLOAT32, N * N, EDGE_BEHIND);
    fill_uniform(DLC_FLOAT32, x, N * K, -1, 1);
    round_all(x, N * K);
    const operand left = {x, 1, N}, right = {x, N, 1};
    const dlc_gemm gemm = {.kernels = kernels,
                           .element_size = sizeof(float),
                           .c = c,
                           .a = x,
                           .b = x,
                           .m = N,
                           .n = N,
                           .k = K,
                           .c_row = N,
                           .a_row = left.row,
                           .a_col = left.col,
                           .b_row = right.row,
                           .b_col = right.col};
    float *start = place(START, DLC_FLOAT32, N * N, EDGE_BEHIND);
    fill_uniform(DLC_FLOAT32, start, N * N, -1, 1);
    describe("Gram matrix of a packed b");
    run_on_team(&gemm, 1);
    expect_product(DLC_FLOAT32, (operand){c, N, 1}, left, right, N, N, K, NULL);
    for (int threads = 1; threads <= 3; threads++)
        test_product_with_packed_b(&gemm, DLC_FLOAT32, &left, &right, start, threads, c);
}

/* Odd sizes, sizes past each block, no depth at all, and depths that are cut for a team. */
static void test_products(const dlc_gemm_kernels *kernels, int32_t dtype)
{
    const int64_t sizes[][3] = {
        {1, 1, 1},   {3, 5, 0},   {7, 9, 11},  {17, 33, 5},  {37, 45, 29}, {1, 33, 65},  {33, 1, 65},  {1, 1, 500},
        {5, 2, 700}, {3, 70, 12}, {70, 3, 12}, {9, 140, 70}, {3, 4, 6200}, {1, 3, 6151}, {2, 1, 6151},
        {3, 2, 1},   {2, 17, 1},  {5, 20, 90},
    };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int layouts = 0; layouts < 9; layouts++)
            test_product_of(kernels, dtype, sizes[i], layouts % 3, layouts / 3, (i + (size_t)layouts) % 2);
    test_product_of(kernels, dtype, (const int64_t[]){2 * kernels->mr + 1, 3, kernels->kc + 1}, 0, 0, true);
    test_product_of(kernels, dtype, (const int64_t[]){kernels->mc + 1, 3, 3}, 0, 1, false);
    test_product_of(kernels, dtype, (const int64_t[]){kernels->mc + 1, 5, kernels->kc + 3}, 0, 0, false);
    test_product_of(kernels, dtype, (const int64_t[]){kernels->mr + 1, 1100, 2}, 1, 0, false);
    /* columns beyond whole vectors, as few as go by dots or are turned into rows: in small products, in blocks of rows, of k and of
     * columns, and alone */
    const int64_t few[][3] = {{40, 65, 60}, {kernels->mc + 40, 35, kernels->kc + 60}, {70, 1026, 80}, {kernels->mc + 20, 2, 90}};
    for (size_t i = 0; i < sizeof few / sizeof few[0]; i++)
        for (int layouts = 0; layouts < 9; layouts++)
            test_product_of(kernels, dtype, few[i], layouts % 3, layouts / 3, (i + (size_t)layouts) % 2);
    /* the rows of b whole pages apart, and in several blocks */
    test_product_of(kernels, dtype, (const int64_t[]){kernels->mr + 1, 4096 / size_of(dtype), 300}, 0, 0, false);
    /* few rows and a large b, which is read row by row: of little else the scratch memory, or of blocks of k */
    test_product_of(kernels, dtype, (const int64_t[]){4, 20000, 5}, 0, 0, false);
    test_product_of(kernels, dtype, (const int64_t[]){4, 20000, 5}, 1, 0, true);
    test_product_of(kernels, dtype, (const int64_t[]){3, 4096 / size_of(dtype), 300}, 0, 0, true);
    /* a row and a large b, whose k is cut in parts where its rows are contiguous */
    for (int layout_b = 0; layout_b < 3; layout_b++)
        test_product_of(kernels, dtype, (const int64_t[]){1, 2120 / size_of(dtype), 520}, layout_b % 2, layout_b, layout_b != 1);
    test_product_of(kernels, dtype, (const int64_t[]){1, 240 / size_of(dtype), 5000}, 2, 0, false);
    const int64_t kept = kernels->panels * kernels->nr; /* columns of b, for more than one block of rows */
    test_product_of(kernels, dtype, (const int64_t[]){kernels->mc + 9, kept + 5, 3}, 0, 1, true);
}

void test_gemm(const dlc_gemm_kernels *kernels, int32_t dtype)
{
    test_tile(kernels, dtype);
    test_packing_tile(kernels, dtype);
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

/* A pair of bfloat16 as an element of a panel */
static uint32_t pair_of(float first, float second)
{
    return (uint32_t)(round_bits(first) >> 16) | round_bits(second);
}

/* Numbers at the edges of rounding: ties, carries into the exponent, the largest and least ones, infinities and NaN. */
static const uint32_t special_bits[] = {
    0x00000000, 0x80000000, 0x3f808000, 0x3f818000, 0x3f808001, 0x3f807fff, 0xbfffffff, 0x7f7fffff, 0xff7f8000, 0x7f7f7fff,
    0x7f800000, 0xff800000, 0x7f800001, 0xffc00000, 0x7fffffff, 0x00000001, 0x807fffff, 0x00800000, 0x80808000,
};

static void fill_specials(float *x, int64_t n)
{
    enum { COUNT = sizeof special_bits / sizeof special_bits[0] };
    fill_uniform(DLC_FLOAT32, x, n, -1, 1);
    for (int64_t i = 0; i < n; i += 2)
        memcpy(&x[i], &special_bits[next_bits() % COUNT], sizeof x[i]);
}

static void test_pack_pairs_of(const dlc_gemm_kernels *kernels, int64_t step, int64_t width, int64_t depth,
                               int64_t width_stride, int64_t depth_stride, edge edge)
{
    const int64_t pairs = (depth + 1) / 2, overrun = step == width ? kernels->lanes - 1 : 0;
    const int64_t last = (width - 1) * width_stride + (depth - 1) * depth_stride; /* from the first, if below it */
    const int64_t span = depth == 0 ? 0 : 1 + llabs((width - 1) * width_stride) + llabs((depth - 1) * depth_stride);
    uint32_t *panel = place(C, DLC_FLOAT32, pairs * step + overrun, edge);
    float *x = place(A, DLC_FLOAT32, span, edge);
    fill_specials(x, span);
    const float *first = x + (last < 0 ? -last : 0);
    describe("pack pairs, %lld of %lld x %lld, strides %lld and %lld", (long long)width, (long long)step, (long long)depth,
             (long long)width_stride, (long long)depth_stride);
    kernels->pack(panel, step, first, width_stride, depth_stride, width, depth);
    for (int64_t p = 0; p < pairs; p++)
        for (int64_t w = 0; w < step; w++) {
            const float *at = first + w * width_stride + 2 * p * depth_stride;
            uint32_t expected = w < width ? pair_of(at[0], 2 * p + 1 < depth ? at[depth_stride] : 0) : 0;
            if (!expect(panel[p * step + w] == expected, "pair (%lld, %lld) is %08x, not %08x", (long long)p, (long long)w,
                        (unsigned)panel[p * step + w], (unsigned)expected))
                return;
        }
    expect_intact();
}

static void test_pack_pairs(const dlc_gemm_kernels *kernels)
{
    static const int64_t depths[] = {0, 1, 2, 3, 8, 63, 64, 65, 127, 128, 129, 165};
    for (int64_t width = 1; width <= kernels->nr; width++)
        for (size_t i = 0; i < sizeof depths / sizeof depths[0]; i++)
            for (int variant = 0; variant < 2 * EDGE_COUNT; variant++) {
                const edge edge = variant / 2;
                const int64_t depth = depths[i], step = variant % 2 ? width : round_up(width, kernels->lanes);
                test_pack_pairs_of(kernels, step, width, depth, 1, width, edge);
                test_pack_pairs_of(kernels, step, width, depth, 1, width + 3, edge);
                test_pack_pairs_of(kernels, step, width, depth, depth + 5, 1, edge);
                test_pack_pairs_of(kernels, step, width, depth, -2, -2 * width, edge);
            }
}

/* Packs x (depth, step), columns of b that are filled up, with the reference. */
static const void *packed_columns(const float *x, int64_t step, int64_t depth, edge edge)
{
    uint32_t *panel = place(B, DLC_FLOAT32, (depth + 1) / 2 * step, edge);
    for (int64_t p = 0; p < depth; p += 2)
        for (int64_t w = 0; w < step; w++)
            panel[p / 2 * step + w] = pair_of(x[p * step + w], p + 1 < depth ? x[(p + 1) * step + w] : 0);
    return panel;
}

/* Packs x (depth, rows), which are rows of a, into a layout that the kernels alone know. */
static const void *packed_rows(const dlc_gemm_kernels *kernels, const float *x, int64_t rows, int64_t depth, edge edge)
{
    uint32_t *panel = place(A, DLC_FLOAT32, (depth + 1) / 2 * rows + kernels->lanes - 1, edge);
    kernels->pack_a(panel, rows, x, 1, rows, rows, depth);
    return panel;
}

static void test_tile_of_pairs_of(const dlc_gemm_kernels *kernels, int64_t rows, int64_t cols, int64_t depth,
                                  bool accumulate, edge edge)
{
    enum { FLOATS_A = SECOND + 1, FLOATS_B };
    const int32_t dtype = DLC_FLOAT32;
    const int64_t ldb = round_up(cols, kernels->lanes);
    float *c = place(C, dtype, rows * cols, edge);
    float *a = place(FLOATS_A, dtype, rows * depth, edge), *b = place(FLOATS_B, dtype, depth * ldb, edge);
    fill_uniform(dtype, a, rows * depth, -1, 1);
    fill_uniform(dtype, b, depth * ldb, -1, 1);
    fill_uniform(dtype, c, rows * cols, -1, 1);
    round_all(a, rows * depth);
    round_all(b, depth * ldb);
    const void *start = accumulate ? copy_of(dtype, c, rows * cols) : NULL;
    describe("tile of pairs, %lld x %lld x %lld, accumulate %d", (long long)rows, (long long)cols, (long long)depth,
             accumulate);
    kernels->tile(c, cols, packed_rows(kernels, a, rows, depth, edge), 1, rows, packed_columns(b, ldb, depth, edge), ldb,
                  (depth + 1) / 2, rows, cols, accumulate, NULL);
    if (kernels->end)
        kernels->end();
    expect_product(dtype, (operand){c, cols, 1}, (operand){a, 1, rows}, (operand){b, ldb, 1}, rows, cols, depth, start);
    expect_intact();
}

static void test_tile_of_pairs(const dlc_gemm_kernels *kernels)
{
    static const int64_t depths[] = {0, 1, 2, 7, 19, 32, 33, 63, 71}; /* AMX takes 32 at a time */
    for (int64_t rows = 1; rows <= kernels->mr; rows++)
        for (int64_t cols = 1; cols <= kernels->nr; cols++)
            for (int flags = 0; flags < 4; flags++)
                test_tile_of_pairs_of(kernels, rows, cols, depths[(rows + cols + flags) % 9], flags & 1, flags >> 1);
}

void test_gemm_bfloat16(const dlc_gemm_kernels *kernels)
{
    test_pack_pairs(kernels);
    test_tile_of_pairs(kernels);
    test_sum_parts(kernels, DLC_FLOAT32);
    test_products(kernels, DLC_FLOAT32);
    test_gram_with_packed_b(kernels);
}
