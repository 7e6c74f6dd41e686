/* Products that have no tiles along the columns of c: with a vector, of few rows or columns, and by dot products. */
#include "gemm/product.h"

/* Elements of a strided vector that are made contiguous at a time: a third of an L1 cache. */
#define VECTOR_K 4096

/* y (n) = or += x (k) @ matrix (k, n), either stride of which is 1 */
static void multiply_vector(const dlc_gemm *g, void *y, int64_t y_stride, const void *x, int64_t x_stride,
                            const void *matrix, int64_t k_stride, int64_t n_stride, int64_t n, void *own)
{
    const dlc_gemm_kernels *kernels = g->kernels;
    int64_t p = 0;
    do {
        int64_t depth = dlc_min64(g->k - p, VECTOR_K);
        bool accumulate = g->accumulate || p > 0;
        const void *x_p = at(g, x, p * x_stride), *matrix_p = at(g, matrix, p * k_stride);
        if (n_stride == 1 && y_stride == 1) {
            kernels->vector_matrix(y, x_p, x_stride, matrix_p, k_stride, depth, n, accumulate);
        } else {
            if (x_stride != 1) {
                kernels->pack(own, depth, x_p, x_stride, 0, depth, 1);
                x_p = own;
            }
            kernels->matrix_vector(y, y_stride, matrix_p, n_stride, x_p, n, depth, accumulate);
        }
        p += VECTOR_K;
    } while (p < g->k);
}

void dlc_gemm_by_vector(const dlc_gemm *g, path path, void *own)
{
    if (path == MATRIX_TIMES_VECTOR)
        multiply_vector(g, g->c, g->c_row, g->b, g->b_row, g->a, g->a_col, g->a_row, g->m, own);
    else
        multiply_vector(g, g->c, 1, g->a, g->a_col, g->b, g->b_row, g->b_col, g->n, own);
    sum_columns(g, 0, g->b, g->b_row, g->b_col, g->k, g->n, g->accumulate);
}

/* A block of k, which is added to c as tiles do: its sum for itself. */
static void multiply_few_rows(const dlc_gemm *g, void *own)
{
    const dlc_gemm_kernels *kernels = g->kernels;
    for (int64_t col = 0; col < g->n; col += kernels->sums) {
        const int64_t cols = dlc_min64(kernels->sums, g->n - col);
        kernels->few_rows(own, g->a, g->a_row, g->a_col, at(g, g->b, col), g->b_row, g->m, g->k, cols);
        kernels->sum_parts(at(g, g->c, col), g->c_row, own, kernels->sums_apart, 0, 1, g->m, cols, g->accumulate);
    }
    sum_columns(g, 0, g->b, g->b_row, 1, g->k, g->n, g->accumulate);
}

void dlc_gemm_by_few_rows(const dlc_gemm *g, const scheme *scheme, void *own)
{
    const int64_t too_few_to_turn = 0, few = dlc_gemm_last_columns(g, scheme, too_few_to_turn);
    const int64_t block_depth = dlc_gemm_block_depth(g, scheme);
    for (int64_t p = 0; p < g->k; p += block_depth) {
        const dlc_gemm block = block_of_k(g, p, dlc_min64(block_depth, g->k - p));
        const dlc_gemm others = rectangle(&block, 0, g->m, 0, g->n - few);
        multiply_few_rows(&others, own);
        const dlc_gemm last = rectangle(&block, 0, g->m, g->n - few, few);
        if (few > 0)
            dlc_gemm_by_few_columns(&last, own);
    }
}

/* Vectors along k that have dot products with others */
typedef struct vectors {
    const void *first;
    int64_t apart, step; /* from one to the next; from one element to the next */
    int64_t count;
    int64_t c_stride; /* between their elements of c */
} vectors;

static vectors rows_of_a(const dlc_gemm *g) { return (vectors){g->a, g->a_row, g->a_col, g->m, g->c_row}; }
static vectors columns_of_b(const dlc_gemm *g) { return (vectors){g->b, g->b_col, g->b_row, g->n, 1}; }

/* By stretches of k of which the vectors of a tile stay in L1, as do up to about 10 of the few. These are packed unless they lie
 * as the others do, along k. */
void dlc_gemm_by_dots(const dlc_gemm *g, path path, void *own)
{
    const dlc_gemm_kernels *kernels = g->kernels;
    const bool few_rows = path == DOTS_OF_FEW_ROWS;
    const vectors few = few_rows ? rows_of_a(g) : columns_of_b(g), many = few_rows ? columns_of_b(g) : rows_of_a(g);
    const int64_t stretch = round_up(even_blocks(g->k, kernels->kc), kernels->lanes);
    for (int64_t p = 0; p < g->k; p += stretch) {
        const int64_t depth = dlc_min64(g->k - p, stretch);
        const void *x = at(g, few.first, p * few.step);
        int64_t apart = few.apart;
        if (few.step != 1) {
            apart = round_up(depth, kernels->lanes);
            kernels->pack(own, apart, x, few.step, few.apart, depth, few.count);
            x = own;
        }
        const void *y = at(g, many.first, p * many.step);
        kernels->dots(g->c, many.c_stride, few.c_stride, y, many.apart, x, apart, many.count, few.count, depth,
                      g->accumulate || p > 0);
        sum_columns(g, 0, few_rows ? y : x, 1, few_rows ? many.apart : apart, depth, g->n, g->accumulate || p > 0);
    }
}

void dlc_gemm_by_dot_blocks(const dlc_gemm *g, path path, int64_t first_row, int64_t first_col, void *own, int thread)
{
    for (int64_t row = 0; row < g->m; row += g->kernels->mc) {
        const dlc_gemm block = rectangle(g, row, dlc_min64(g->m - row, g->kernels->mc), 0, g->n);
        dlc_gemm_by_dots(&block, path, own);
        if (g->finish)
            finish_in_place(&block, first_row + row, first_col, thread);
    }
}

/* c = or += a @ b as rows of c^T = b^T @ a^T, whose tiles compute vectors of rows of c. The last of these tiles overlaps the one
 * before it. */
static void multiply_turned(const dlc_gemm *g, void *own)
{
    const dlc_gemm_kernels *kernels = g->kernels;
    const int64_t width = g->m < kernels->nr ? kernels->lanes : kernels->nr;
    void *turned = at(g, own, kernels->lanes * g->k);
    const void *b = g->b;
    int64_t b_row = g->b_row;
    if (g->b_col != 1 || g->b_row == 1) { /* in place, a column that is contiguous would be summed in another order */
        kernels->pack(own, kernels->lanes, g->b, g->b_col, g->b_row, g->n, g->k);
        b = own;
        b_row = kernels->lanes;
    }
    for (int64_t i = 0; i < g->m; i += width) {
        const int64_t row = dlc_min64(i, g->m - width);
        kernels->tile(at(g, turned, row), g->m, b, 1, b_row, at(g, g->a, row), g->a_col, g->k, g->n, width, false, NULL);
    }
    kernels->turn(g->c, g->c_row, turned, g->m, g->m, g->n, g->accumulate);
    sum_columns(g, 0, b, b_row, 1, g->k, g->n, g->accumulate);
}

/* A packed column of b for each lane, and as many turned ones */
int64_t dlc_gemm_few_columns_scratch(const dlc_gemm_kernels *kernels, int64_t rows, int64_t depth)
{
    return kernels->lanes * (rows + round_up(depth, kernels->lanes));
}

void dlc_gemm_by_few_columns(const dlc_gemm *g, void *own)
{
    if (g->a_col == 1)
        dlc_gemm_by_dots(g, DOTS_OF_FEW_COLUMNS, own);
    else
        multiply_turned(g, own);
}

int64_t dlc_gemm_narrow_scratch(const dlc_gemm *g)
{
    const dlc_gemm_kernels *kernels = g->kernels;
    const int64_t vector = round_up(dlc_min64(g->k, VECTOR_K), kernels->lanes);
    const int64_t depth = round_up(dlc_min64(g->k, kernels->kc), kernels->lanes);
    const int64_t few_rows = dlc_min64(g->m, kernels->few) * kernels->sums_apart;
    return dlc_max64(dlc_max64(vector, few_rows), dlc_min64(dlc_max64(g->m, g->n), kernels->nr) * depth);
}
