/* Products that have no tiles along the columns of c: with a vector, of few rows, and by dot products. See dlc_gemm_kernels for the
 * contracts. */
#include "kernels/gemm_kernels.h"
#include "kernels/gemm_tile.h"
#include "kernels/transpose.h"

/* y (n) += scale (rows) @ b (rows, n) for n < L */
DLC_INLINE void add_part(real *y, const real *scale, const real *b, int64_t ldb, int64_t n, const int rows)
{
    vreal sum = v_load_part(y, n, 0);
    DLC_UNROLL
    for (int i = 0; i < rows; i++)
        sum += v_splat(scale[i]) * v_load_part(b + i * ldb, n, 0);
    v_store_part(y, sum, n);
}

/* y (n) += x (rows) @ b (rows, n), each element a chain over the rows in order, a line at a time; the first `head` columns
 * come before the first whole line. Four rows take 90% of the rate at which a matrix of 4 MB can be read, eight or twelve
 * 83%: what the caches fetch ahead ends with a page, and so often with a row. To fetch the next rows here costs a third, as
 * many lines at powers of two do not fit a set of L1. */
DLC_INLINE void add_rows(real *y, const real *x, int64_t x_stride, const real *b, int64_t ldb, int64_t n, int64_t head,
                         const int rows)
{
    real scale[4];
    for (int i = 0; i < rows; i++)
        scale[i] = x[i * x_stride];
    if (head > 0)
        add_part(y, scale, b, ldb, head, rows);
    int64_t j = head;
    for (; j + NR <= n; j += NR) {
        vreal left = v_load(y + j), right = v_load(y + j + L);
        DLC_UNROLL
        for (int i = 0; i < rows; i++) {
            const real *row = b + i * ldb + j;
            left += v_splat(scale[i]) * v_load(row);
            right += v_splat(scale[i]) * v_load(row + L);
        }
        v_store(y + j, left);
        v_store(y + j + L, right);
    }
    for (; j + L <= n; j += L) {
        vreal sum = v_load(y + j);
        DLC_UNROLL
        for (int i = 0; i < rows; i++)
            sum += v_splat(scale[i]) * v_load(b + i * ldb + j);
        v_store(y + j, sum);
    }
    if (j < n)
        add_part(y + j, scale, b + j, ldb, n - j, rows);
}

/* Columns before the first that begins a vector's worth of aligned memory in every row; 0 where there is none, or where two
 * more parts of a row take longer than they save. Loads that straddle two lines cost 784 x 256 in L2 18% (NumPy's arrays
 * begin 16 bytes after a line); 784 x 128 takes as long either way, 784 x 64 twice as long with parts. */
static int64_t columns_to_alignment(const real *b, int64_t ldb, int64_t n)
{
    const uintptr_t behind = (uintptr_t)b % DLC_VECTOR_BYTES;
    if (n < 8 * NR || ldb % L != 0 || behind % sizeof(real) != 0)
        return 0;
    return (int64_t)((DLC_VECTOR_BYTES - behind) / sizeof(real)) % L;
}

/* The same for n <= L, for which y stays in a register. */
DLC_INLINE void multiply_narrow(real *y, const real *x, int64_t x_stride, const real *b, int64_t ldb, int64_t k, int64_t n,
                                const bool whole)
{
    vreal sum = whole ? v_load(y) : v_load_part(y, n, 0);
    for (int64_t p = 0; p < k; p++)
        sum += v_splat(x[p * x_stride]) * (whole ? v_load(b + p * ldb) : v_load_part(b + p * ldb, n, 0));
    if (whole)
        v_store(y, sum);
    else
        v_store_part(y, sum, n);
}

void DLC_NAME(dlc_vector_matrix)(void *y, const void *x, int64_t x_stride, const void *b, int64_t ldb, int64_t k, int64_t n,
                                 bool accumulate)
{
    const real *x_p = x, *b_p = b;
    if (!accumulate)
        memset(y, 0, (size_t)n * sizeof(real));
    if (n < L) {
        multiply_narrow(y, x, x_stride, b, ldb, k, n, false);
        return;
    }
    if (n == L) {
        multiply_narrow(y, x, x_stride, b, ldb, k, n, true);
        return;
    }
    const int64_t head = columns_to_alignment(b, ldb, n);
    int64_t p = 0;
    for (; p + 4 <= k; p += 4)
        add_rows(y, x_p + p * x_stride, x_stride, b_p + p * ldb, ldb, n, head, 4);
    for (; p < k; p++)
        add_rows(y, x_p + p * x_stride, x_stride, b_p + p * ldb, ldb, n, head, 1);
}

/* Rows of b that are added at a time */
enum { FEW_STEPS = 4 };

/* y (count, n) += scale (count, rows) @ b (rows, n) for n < L */
DLC_INLINE void add_part_to_few(real *y, real scale[FEW_ROWS][FEW_STEPS], const real *b, int64_t ldb, int64_t n, const int count,
                                const int rows)
{
    for (int i = 0; i < count; i++) {
        vreal sum = v_load_part(y + i * SUMS_APART, n, 0);
        for (int p = 0; p < rows; p++)
            v_add_product(&sum, v_splat(scale[i][p]), v_load_part(b + p * ldb, n, 0));
        v_store_part(y + i * SUMS_APART, sum, n);
    }
}

/* The same for n = L, if wide 2 L */
DLC_INLINE void add_vectors_to_few(real *y, real scale[FEW_ROWS][FEW_STEPS], const real *b, int64_t ldb, const int count,
                                   const int rows, const bool wide)
{
    vreal b_left[FEW_STEPS], b_right[FEW_STEPS];
    DLC_UNROLL
    for (int p = 0; p < rows; p++) {
        b_left[p] = v_load(b + p * ldb);
        b_right[p] = wide ? v_load(b + p * ldb + L) : b_left[p];
    }
    DLC_UNROLL
    for (int i = 0; i < count; i++) {
        real *sums = y + i * SUMS_APART;
        vreal left = v_load(sums), right = wide ? v_load(sums + L) : left;
        DLC_UNROLL
        for (int p = 0; p < rows; p++) {
            v_add_product(&left, v_splat(scale[i][p]), b_left[p]);
            if (wide)
                v_add_product(&right, v_splat(scale[i][p]), b_right[p]);
        }
        v_store(sums, left);
        if (wide)
            v_store(sums + L, right);
    }
}

/* y (count, n) += x (count, rows) @ b (rows, n), each element a chain over the rows in order */
DLC_INLINE void add_rows_to_few(real *y, const real *x, int64_t x_row, int64_t x_col, const real *b, int64_t ldb, int64_t n,
                                const int count, const int rows)
{
    real scale[FEW_ROWS][FEW_STEPS];
    for (int i = 0; i < count; i++)
        for (int p = 0; p < rows; p++)
            scale[i][p] = x[i * x_row + p * x_col];
    int64_t j = 0;
    for (; j + NR <= n; j += NR)
        add_vectors_to_few(y + j, scale, b + j, ldb, count, rows, true);
    for (; j + L <= n; j += L)
        add_vectors_to_few(y + j, scale, b + j, ldb, count, rows, false);
    if (j < n)
        add_part_to_few(y + j, scale, b + j, ldb, n - j, count, rows);
}

DLC_INLINE void few_rows_of(real *y, const real *x, int64_t x_row, int64_t x_col, const real *b, int64_t ldb, int64_t k, int64_t n,
                            const int count)
{
    for (int i = 0; i < count; i++)
        memset(y + i * SUMS_APART, 0, (size_t)n * sizeof(real));
    int64_t p = 0;
    for (; p + FEW_STEPS <= k; p += FEW_STEPS)
        add_rows_to_few(y, x + p * x_col, x_row, x_col, b + p * ldb, ldb, n, count, FEW_STEPS);
    for (; p < k; p++)
        add_rows_to_few(y, x + p * x_col, x_row, x_col, b + p * ldb, ldb, n, count, 1);
}

void DLC_NAME(dlc_few_rows)(void *y, const void *x, int64_t x_row, int64_t x_col, const void *b, int64_t ldb, int64_t m, int64_t k,
                            int64_t n)
{
    if (m == 2)
        few_rows_of(y, x, x_row, x_col, b, ldb, k, n, 2);
    else if (m == 3)
        few_rows_of(y, x, x_row, x_col, b, ldb, k, n, 3);
    else
        few_rows_of(y, x, x_row, x_col, b, ldb, k, n, FEW_ROWS);
}

/* y[i] = or += a[i] . x for `rows` rows, each summed in the same order whatever `rows` */
DLC_INLINE void dot_rows(real *y, int64_t y_stride, const real *a, int64_t lda, const real *x, int64_t k,
                         bool accumulate, const int rows)
{
    vreal sum[4][2] = {{{0}}};
    int64_t p = 0;
    for (; p + 2 * L <= k; p += 2 * L) {
        vreal x0 = v_load(x + p), x1 = v_load(x + p + L);
        DLC_UNROLL
        for (int i = 0; i < rows; i++) {
            sum[i][0] += v_load(a + i * lda + p) * x0;
            sum[i][1] += v_load(a + i * lda + p + L) * x1;
        }
    }
    int64_t rest = k - p;
    real x_rest[NR] = {0}, a_rest[NR] = {0};
    copy_few(x_rest, x + p, rest);
    DLC_UNROLL
    for (int i = 0; i < rows; i++) {
        copy_few(a_rest, a + i * lda + p, rest);
        sum[i][0] += v_load(a_rest) * v_load(x_rest);
        sum[i][1] += v_load(a_rest + L) * v_load(x_rest + L);
        real lanes[L];
        v_store(lanes, sum[i][0] + sum[i][1]);
        DLC_UNROLL
        for (int half = L / 2; half > 0; half /= 2) {
            DLC_UNROLL
            for (int j = 0; j < half; j++)
                lanes[j] += lanes[j + half];
        }
        y[i * y_stride] = accumulate ? y[i * y_stride] + lanes[0] : lanes[0];
    }
}

void DLC_NAME(dlc_matrix_vector)(void *y, int64_t y_stride, const void *a, int64_t lda, const void *x, int64_t m, int64_t k,
                                 bool accumulate)
{
    real *y_i = y;
    const real *a_i = a;
    int64_t i = 0;
    for (; i + 4 <= m; i += 4)
        dot_rows(y_i + i * y_stride, y_stride, a_i + i * lda, lda, x, k, accumulate, 4);
    for (; i < m; i++)
        dot_rows(y_i + i * y_stride, y_stride, a_i + i * lda, lda, x, k, accumulate, 1);
}

/* Accumulators of a tile of dot products: enough to hide the latency of multiply-adds, in half of the registers or less,
 * and a multiple of L, as the sums of L of them fill a vector. */
enum { DOTS = DLC_VECTOR_BYTES == 64 ? 16 : 8 };

/* sum[i * cols + j] += a[i] * b[j], a vector of each from p on, or its first n < L elements; `whole` is a constant */
DLC_INLINE void add_products(vreal *sum, const real *const *a, const real *const *b, int64_t p, int64_t n, const int rows,
                             const int cols, const bool whole)
{
    vreal b_p[DOTS];
    DLC_UNROLL
    for (int j = 0; j < cols; j++)
        b_p[j] = whole ? v_load(b[j] + p) : v_load_part(b[j] + p, n, 0);
    DLC_UNROLL
    for (int i = 0; i < rows; i++) {
        const vreal a_p = whole ? v_load(a[i] + p) : v_load_part(a[i] + p, n, 0);
        DLC_UNROLL
        for (int j = 0; j < cols; j++)
            sum[i * cols + j] += a_p * b_p[j];
    }
}

/* dots (rows, cols) = the dot products of each of `rows` vectors with each of `cols`, rows * cols == DOTS */
DLC_INLINE void dots_of_tile(real *dots, const real *const *a, const real *const *b, int64_t k, const int rows,
                             const int cols)
{
    vreal sum[DOTS];
    DLC_UNROLL
    for (int i = 0; i < DOTS; i++)
        sum[i] = (vreal){0};
    int64_t p = 0;
    for (; p + L <= k; p += L)
        add_products(sum, a, b, p, L, rows, cols, true);
    if (p < k)
        add_products(sum, a, b, p, k - p, rows, cols, false);
    DLC_UNROLL
    for (int i = 0; i < DOTS; i += L)
        v_store(dots + i, v_sum_each(sum + i));
}

/* Where dot products go: c (., .; strides row and col), to which they are added if accumulate */
typedef struct dots_target {
    real *c;
    int64_t row, col;
    bool accumulate;
} dots_target;

/* (rows, cols) from the first element on; dots has leading dimension ld */
DLC_INLINE void store_dots(const dots_target *to, const real *dots, int64_t rows, int64_t cols, int64_t ld)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) {
            real *out = to->c + i * to->row + j * to->col;
            *out = to->accumulate ? *out + dots[i * ld + j] : dots[i * ld + j];
        }
}

/* c (m, n) = or += dot products of rows of a with n <= cols rows of b, by tiles that end with copies of the last row */
DLC_INLINE void dots_of_columns(dots_target to, const real *a, int64_t lda, const real *b, int64_t ldb, int64_t m, int64_t n,
                                int64_t k, const int rows, const int cols)
{
    const real *a_rows[DOTS], *b_rows[DOTS];
    for (int j = 0; j < cols; j++)
        b_rows[j] = b + (j < n ? j : n - 1) * ldb;
    for (int64_t row = 0; row < m; row += rows, to.c += rows * to.row) {
        const int64_t count = m - row < rows ? m - row : rows;
        for (int i = 0; i < rows; i++)
            a_rows[i] = a + (row + (i < count ? i : count - 1)) * lda;
        real dots[DOTS];
        dots_of_tile(dots, a_rows, b_rows, k, rows, cols);
        if (count == rows && n == cols) /* constants, that the loops are unrolled for */
            store_dots(&to, dots, rows, cols, cols);
        else
            store_dots(&to, dots, count, n, cols);
    }
}

/* A tile of 4 x 4 loads 8 vectors for 16 multiply-adds, one of 8 x 2, for the last two columns, 10. */
void DLC_NAME(dlc_dots)(void *c, int64_t c_row, int64_t c_col, const void *a, int64_t lda, const void *b, int64_t ldb, int64_t m,
                        int64_t n, int64_t k, bool accumulate)
{
    enum { FEW = 2, MANY = DOTS < 16 ? FEW : 4 };
    dots_target to = {c, c_row, c_col, accumulate};
    const real *columns = b;
    int64_t left = n;
    for (; left > FEW; left -= MANY, columns += MANY * ldb, to.c += MANY * c_col)
        dots_of_columns(to, a, lda, columns, ldb, m, left < MANY ? left : MANY, k, DOTS / MANY, MANY);
    if (left > 0)
        dots_of_columns(to, a, lda, columns, ldb, m, left, k, DOTS / FEW, FEW);
}
