/* Sums, maxima and minima of arrays and of columns. Each result is a fixed tree over its elements: it depends on
 * the sizes and on nothing else. */
#include "kernels/kernels_decl.h"
#include "kernels/lanes.h"
#include "kernels/transpose.h"

typedef vreal combine_lanes(vreal a, vreal b);

static inline vreal add(vreal a, vreal b) { return a + b; }

/* NaN if a or b is: a by what v_larger takes where the order is not defined, b by bits that are all set. */
static inline vreal larger(vreal a, vreal b) { return (vreal)((vint)v_larger(b, a) | (b != b)); }
static inline vreal smaller(vreal a, vreal b) { return (vreal)((vint)v_smaller(b, a) | (b != b)); }

/* Independent chains, enough to hide the latency of an addition. */
enum { CHAINS = 4 };

DLC_INLINE vreal combine_all(const real *x, int64_t n, combine_lanes *combine, real identity)
{
    vreal chain[CHAINS];
    for (int c = 0; c < CHAINS; c++)
        chain[c] = v_splat(identity);
    int64_t i = 0;
    for (; i + CHAINS * DLC_LANES <= n; i += CHAINS * DLC_LANES)
        for (int c = 0; c < CHAINS; c++)
            chain[c] = combine(chain[c], v_load(x + i + c * DLC_LANES));
    for (; i + DLC_LANES <= n; i += DLC_LANES)
        chain[0] = combine(chain[0], v_load(x + i));
    if (i < n)
        chain[1] = combine(chain[1], v_load_part(x + i, n - i, identity));
    return combine(combine(chain[0], chain[1]), combine(chain[2], chain[3]));
}

/* A lane adds 64 numbers before it goes into a double: the error of float32 does not grow with n. */
enum { SUM_CHUNK = 64 * CHAINS * DLC_LANES };

double DLC_NAME(dlc_sum)(const void *x, int64_t n)
{
    double total = 0;
    for (int64_t i = 0; i < n; i += SUM_CHUNK) {
        int64_t count = n - i < SUM_CHUNK ? n - i : SUM_CHUNK;
        total += (double)v_fold_add(combine_all((const real *)x + i, count, add, 0));
    }
    return total;
}

/* Of fewer elements `sum` adds whole vectors to chain 0 and the rest, which is then added to it, to chain 1. */
enum { ONE_CHAIN = CHAINS * DLC_LANES };

/* lanes (rows) = the lanes that `sum` would add up of each of such rows */
DLC_INLINE void add_short_rows(vreal *lanes, const real *x, int64_t ld, int64_t cols, const int rows)
{
    DLC_UNROLL
    for (int i = 0; i < rows; i++)
        lanes[i] = v_splat(0);
    int64_t p = 0;
    for (; p + DLC_LANES <= cols; p += DLC_LANES) {
        DLC_UNROLL
        for (int i = 0; i < rows; i++)
            lanes[i] += v_load(x + i * ld + p);
    }
    if (p == cols)
        return;
    DLC_UNROLL
    for (int i = 0; i < rows; i++)
        lanes[i] += v_load_part(x + i * ld + p, cols - p, 0);
}

/* A function of its own, so that the lanes of short rows are registers */
static __attribute__((noinline)) vreal sum_long_rows(const real *x, int64_t ld, int64_t cols)
{
    vreal lanes[DLC_LANES];
    for (int i = 0; i < DLC_LANES; i++)
        lanes[i] = combine_all(x + i * ld, cols, add, 0);
    return v_sum_each(lanes);
}

/* The sums of a vector of rows, side by side: one by one, each waits for its own last additions. */
DLC_INLINE vreal sum_side_by_side(const real *x, int64_t ld, int64_t cols)
{
    if (cols >= ONE_CHAIN)
        return sum_long_rows(x, ld, cols);
    vreal lanes[DLC_LANES];
    add_short_rows(lanes, x, ld, cols, DLC_LANES);
    return v_sum_each(lanes);
}

void DLC_NAME(dlc_sum_each)(double *sums, int64_t step, const void *x, int64_t ld, int64_t rows, int64_t cols)
{
    int64_t row = 0;
    for (; cols <= SUM_CHUNK && row + DLC_LANES <= rows; row += DLC_LANES) {
        const vreal sum = sum_side_by_side((const real *)x + row * ld, ld, cols);
        for (int i = 0; i < DLC_LANES; i++)
            sums[(row + i) * step] += (double)sum[i];
    }
    for (; row < rows; row++)
        sums[row * step] += DLC_NAME(dlc_sum)((const real *)x + row * ld, cols);
}

double DLC_NAME(dlc_max)(const void *x, int64_t n)
{
    return (double)v_fold_max(combine_all(x, n, larger, -(real)__builtin_inf()));
}

double DLC_NAME(dlc_min)(const void *x, int64_t n)
{
    return (double)v_fold_min(combine_all(x, n, smaller, (real)__builtin_inf()));
}

/* Rows that are added up before they go into the accumulator; it then has that many times fewer roundings. Of these, so many
 * are read side by side, along a stretch of columns whose sums stay in L1: read one by one, or column by column, memory
 * is half as fast (1024 x 1024). */
enum { ROW_BLOCK = 64, SIDE_BY_SIDE = 8, STRETCH = 128 * DLC_LANES };

/* sums (cols) = combine(sums, every row of x (rows, cols; leading dimension ld)), rows <= SIDE_BY_SIDE */
DLC_INLINE void combine_group(real *sums, const real *x, int64_t ld, const int rows, int64_t cols, combine_lanes *combine,
                              real identity)
{
    int64_t j = 0;
    for (; j + DLC_LANES <= cols; j += DLC_LANES) {
        vreal sum = v_load(sums + j);
#pragma GCC unroll 8
        for (int i = 0; i < rows; i++)
            sum = combine(sum, v_load(x + i * ld + j));
        v_store(sums + j, sum);
    }
    if (j == cols)
        return;
    vreal sum = v_load_part(sums + j, cols - j, identity);
    for (int i = 0; i < rows; i++)
        sum = combine(sum, v_load_part(x + i * ld + j, cols - j, identity));
    v_store_part(sums + j, sum, cols - j);
}

/* accumulator (cols), with cols <= STRETCH */
DLC_INLINE void combine_stretch(real *accumulator, const real *x, int64_t ld, int64_t rows, int64_t cols,
                                combine_lanes *combine, real identity)
{
    for (int64_t first = 0; first < rows; first += ROW_BLOCK) {
        const int64_t last = rows - first < ROW_BLOCK ? rows : first + ROW_BLOCK;
        real sums[STRETCH];
        for (int64_t j = 0; j < cols; j++)
            sums[j] = identity;
        int64_t row = first;
        for (; row + SIDE_BY_SIDE <= last; row += SIDE_BY_SIDE)
            combine_group(sums, x + row * ld, ld, SIDE_BY_SIDE, cols, combine, identity);
        for (; row < last; row++)
            combine_group(sums, x + row * ld, ld, 1, cols, combine, identity);
        combine_group(accumulator, sums, 0, 1, cols, combine, identity);
    }
}

DLC_INLINE void combine_rows(real *accumulator, const real *x, int64_t ld, int64_t rows, int64_t cols,
                             combine_lanes *combine, real identity)
{
    for (int64_t j = 0; j < cols; j += STRETCH)
        combine_stretch(accumulator + j, x + j, ld, rows, cols - j < STRETCH ? cols - j : STRETCH, combine, identity);
}

void DLC_NAME(dlc_sum_rows)(void *accumulator, const void *x, int64_t ld, int64_t rows, int64_t cols)
{
    combine_rows(accumulator, x, ld, rows, cols, add, 0);
}

/* Sums (n) of the columns of b (k, n), which is contiguous along k: whole vectors of them side by side. */
DLC_INLINE void sum_contiguous_columns(real *sums, const real *b, int64_t ld, int64_t k, int64_t n, bool accumulate)
{
    int64_t j = 0;
    for (; j + DLC_LANES <= n; j += DLC_LANES) {
        const vreal sum = sum_side_by_side(b + j * ld, ld, k);
        v_store(sums + j, accumulate ? v_load(sums + j) + sum : sum);
    }
    for (; j < n; j++) {
        const real sum = v_fold_add(combine_all(b + j * ld, k, add, 0));
        sums[j] = accumulate ? sums[j] + sum : sum;
    }
}

/* Of the first n columns of b (k, .), contiguous along its rows; `whole` is a constant, and n then a vector. */
DLC_INLINE void sum_vector_of_columns(real *sums, const real *b, int64_t ld, int64_t k, int64_t n, bool accumulate,
                                      const bool whole)
{
    enum { ROWS = 2 * CHAINS }; /* which are chains: half as many take as long as two loads a row would */
    vreal chain[ROWS] = {{0}};
    int64_t p = 0;
    for (; p + ROWS <= k; p += ROWS) {
        DLC_UNROLL
        for (int i = 0; i < ROWS; i++)
            chain[i] += whole ? v_load(b + (p + i) * ld) : v_load_part(b + (p + i) * ld, n, 0);
    }
    for (; p < k; p++)
        chain[0] += whole ? v_load(b + p * ld) : v_load_part(b + p * ld, n, 0);
    DLC_UNROLL
    for (int half = ROWS / 2; half > 0; half /= 2) {
        DLC_UNROLL
        for (int i = 0; i < half; i++)
            chain[i] += chain[i + half];
    }
    const vreal before = !accumulate ? v_splat(0) : whole ? v_load(sums) : v_load_part(sums, n, 0);
    if (whole)
        v_store(sums, before + chain[0]);
    else
        v_store_part(sums, before + chain[0], n);
}

DLC_INLINE void sum_rows_of_columns(real *sums, const real *b, int64_t ld, int64_t k, int64_t n, bool accumulate)
{
    int64_t j = 0;
    for (; j + DLC_LANES <= n; j += DLC_LANES)
        sum_vector_of_columns(sums + j, b + j, ld, k, DLC_LANES, accumulate, true);
    if (j < n)
        sum_vector_of_columns(sums + j, b + j, ld, k, n - j, accumulate, false);
}

/* By stretches of k of which a chain adds up about 64 numbers. */
void DLC_NAME(dlc_sum_columns)(void *sums, const void *b, int64_t b_row, int64_t b_col, int64_t k, int64_t n, bool accumulate)
{
    const bool along_k = b_row == 1 && (b_col != 1 || n == 1);
    const int64_t stretch = along_k ? SUM_CHUNK : 64 * 2 * CHAINS;
    int64_t p = 0;
    do {
        const int64_t depth = k - p < stretch ? k - p : stretch;
        const real *first = (const real *)b + p * b_row;
        if (along_k)
            sum_contiguous_columns(sums, first, b_col, depth, n, accumulate || p > 0);
        else
            sum_rows_of_columns(sums, first, b_row, depth, n, accumulate || p > 0);
        p += stretch;
    } while (p < k);
}

void DLC_NAME(dlc_max_rows)(void *accumulator, const void *x, int64_t ld, int64_t rows, int64_t cols)
{
    combine_rows(accumulator, x, ld, rows, cols, larger, -(real)__builtin_inf());
}

void DLC_NAME(dlc_min_rows)(void *accumulator, const void *x, int64_t ld, int64_t rows, int64_t cols)
{
    combine_rows(accumulator, x, ld, rows, cols, smaller, (real)__builtin_inf());
}
