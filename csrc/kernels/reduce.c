/* Sums, maxima and minima of arrays and of columns. Each result is a fixed tree over its elements: it depends on
 * the sizes and on nothing else. */
#include "kernels/kernels_decl.h"
#include "kernels/lanes.h"

typedef vreal combine_lanes(vreal a, vreal b);

static inline vreal add(vreal a, vreal b) { return a + b; }

/* NaN if a or b is, as vquad_max. */
static inline vreal larger(vreal a, vreal b) { return v_blend((a > b) | (a != a), a, b); }
static inline vreal smaller(vreal a, vreal b) { return v_blend((a < b) | (a != a), a, b); }

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

double DLC_NAME(dlc_max)(const void *x, int64_t n)
{
    return (double)v_fold_max(combine_all(x, n, larger, -(real)__builtin_inf()));
}

double DLC_NAME(dlc_min)(const void *x, int64_t n)
{
    return (double)v_fold_min(combine_all(x, n, smaller, (real)__builtin_inf()));
}

/* Rows that are added up before they go into the accumulator; it then has that many times fewer roundings. */
enum { ROW_BLOCK = 64 };

/* accumulator (width vectors, of which the last has `part` lanes, or all of them where part is 0) */
DLC_INLINE void combine_panel(real *accumulator, const real *x, int64_t ld, int64_t rows, int width, int64_t part,
                              combine_lanes *combine, real identity)
{
    const int whole = part ? width - 1 : width;
    real *rest = accumulator + whole * DLC_LANES;
    for (int64_t first = 0; first < rows; first += ROW_BLOCK) {
        int64_t last = rows - first < ROW_BLOCK ? rows : first + ROW_BLOCK;
        vreal block[CHAINS];
        for (int v = 0; v < width; v++)
            block[v] = v_splat(identity);
        for (int64_t row = first; row < last; row++) {
            const real *x_row = x + row * ld;
            for (int v = 0; v < whole; v++)
                block[v] = combine(block[v], v_load(x_row + v * DLC_LANES));
            if (part)
                block[whole] = combine(block[whole], v_load_part(x_row + whole * DLC_LANES, part, identity));
        }
        for (int v = 0; v < whole; v++)
            v_store(accumulator + v * DLC_LANES, combine(v_load(accumulator + v * DLC_LANES), block[v]));
        if (part)
            v_store_part(rest, combine(v_load_part(rest, part, identity), block[whole]), part);
    }
}

DLC_INLINE void combine_rows(real *accumulator, const real *x, int64_t ld, int64_t rows, int64_t cols,
                             combine_lanes *combine, real identity)
{
    int64_t j = 0;
    for (; j + CHAINS * DLC_LANES <= cols; j += CHAINS * DLC_LANES)
        combine_panel(accumulator + j, x + j, ld, rows, CHAINS, 0, combine, identity);
    for (; j + DLC_LANES <= cols; j += DLC_LANES)
        combine_panel(accumulator + j, x + j, ld, rows, 1, 0, combine, identity);
    if (j < cols)
        combine_panel(accumulator + j, x + j, ld, rows, 1, cols - j, combine, identity);
}

void DLC_NAME(dlc_sum_rows)(void *accumulator, const void *x, int64_t ld, int64_t rows, int64_t cols)
{
    combine_rows(accumulator, x, ld, rows, cols, add, 0);
}

void DLC_NAME(dlc_max_rows)(void *accumulator, const void *x, int64_t ld, int64_t rows, int64_t cols)
{
    combine_rows(accumulator, x, ld, rows, cols, larger, -(real)__builtin_inf());
}

void DLC_NAME(dlc_min_rows)(void *accumulator, const void *x, int64_t ld, int64_t rows, int64_t cols)
{
    combine_rows(accumulator, x, ld, rows, cols, smaller, (real)__builtin_inf());
}
