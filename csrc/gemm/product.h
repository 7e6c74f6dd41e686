/* What the files of this directory share, and they alone: the parts of a product, and what is decided for it. */
#ifndef DLC_GEMM_PRODUCT_H
#define DLC_GEMM_PRODUCT_H

#include <stddef.h>

#include "core/sizes.h"
#include "gemm/gemm.h"

/* Rows of b further apart than so many bytes lie in more pages than the first-level TLB holds, and in powers of two in few sets of
 * L1: to read a panel twice is slower than to pack it (32 x 1024 x 1024: 46% of peak, packed 58%). */
#define PACK_B_STRIDE 1024

static inline void *at(const dlc_gemm *g, const void *base, int64_t element)
{
    return (char *)(uintptr_t)base + element * g->element_size;
}

static inline int64_t round_up(int64_t n, int64_t multiple) { return dlc_ceil_div(n, multiple) * multiple; }

/* How many elements of a panel stand for such a depth */
static inline int64_t packed_depth(const dlc_gemm_kernels *kernels, int64_t depth)
{
    return kernels->packs_pairs ? round_up(dlc_ceil_div(depth, 2), kernels->pairs_multiple) : depth;
}

/* The size of equal blocks of at most `most` that `n` is cut in */
static inline int64_t even_blocks(int64_t n, int64_t most)
{
    return n <= most ? n : dlc_ceil_div(n, dlc_ceil_div(n, most));
}

/* Whether rows of b lie so near each other that a panel of it can be read in place. */
static inline bool has_near_rows(const dlc_gemm *g)
{
    const int64_t apart = g->b_row < 0 ? -g->b_row : g->b_row;
    return apart <= PACK_B_STRIDE / g->element_size;
}

/* A part of the product: the elements of c from (row, col) on. That of the first rows has the sums of its columns of b, too. */
static inline dlc_gemm rectangle(const dlc_gemm *g, int64_t row, int64_t rows, int64_t col, int64_t cols)
{
    dlc_gemm part = *g;
    part.m = rows;
    part.n = cols;
    if (!g->is_transient)
        part.c = at(g, g->c, row * g->c_row + col);
    part.a = at(g, g->a, row * g->a_row);
    part.b = at(g, g->b, col * g->b_col);
    part.b_sums = g->b_sums && row == 0 ? at(g, g->b_sums, col) : NULL;
    return part;
}

/* Rows [p, p + depth) of b, a block of k, whose product is added to those of the blocks before. */
static inline dlc_gemm block_of_k(const dlc_gemm *g, int64_t p, int64_t depth)
{
    dlc_gemm block = *g;
    block.a = at(g, g->a, p * g->a_col);
    block.b = at(g, g->b, p * g->b_row);
    block.k = depth;
    block.accumulate = g->accumulate || p > 0;
    return block;
}

typedef enum path { GENERAL, VECTOR_TIMES_MATRIX, MATRIX_TIMES_VECTOR, DOTS_OF_FEW_COLUMNS, DOTS_OF_FEW_ROWS } path;

/* What is decided for the whole product and not for a thread's share of it: all that decides on the order of summation. */
typedef struct scheme {
    path path;
    bool pack_a;
    bool is_symmetric;    /* only what lies on or below the diagonal is computed */
    int64_t most_depth;   /* of the blocks that k is cut in */
    int64_t dotted;       /* how many of the last columns are computed by dots and not by tiles */
    int64_t least_turned; /* rows of a block whose last columns are turned, at least */
} scheme;

static inline bool is_by_dots(path path) { return path == DOTS_OF_FEW_COLUMNS || path == DOTS_OF_FEW_ROWS; }

static inline bool is_by_vector(path path) { return path == MATRIX_TIMES_VECTOR || path == VECTOR_TIMES_MATRIX; }

static inline void sum_columns(const dlc_gemm *g, int64_t col, const void *b, int64_t b_row, int64_t b_col, int64_t k, int64_t n,
                               bool accumulate)
{
    if (g->b_sums)
        g->kernels->sum_columns(at(g, g->b_sums, col), b, b_row, b_col, k, n, accumulate);
}

/* All of a part of the product whose first element is (row, col) of the whole */
static inline void finish_in_place(const dlc_gemm *g, int64_t row, int64_t col, int thread)
{
    const dlc_gemm_block block = {g->c, g->c_row, row, col, g->m, g->n};
    g->finish(g->context, &block, thread);
}

/* For the kernels, shape and strides of the whole product */
scheme dlc_gemm_choose_scheme(const dlc_gemm *gemm);

/* How many of the last columns of a part are left to dlc_gemm_by_few_columns: those that are dotted, as parts begin with whole
 * vectors, or those that it turns into rows, which have the same bits by tiles. least_rows: of the blocks of rows. */
int64_t dlc_gemm_last_columns(const dlc_gemm *gemm, const scheme *scheme, int64_t least_rows);

/* How many rows of b the blocks have that its k is cut in */
int64_t dlc_gemm_block_depth(const dlc_gemm *gemm, const scheme *scheme);

/* Products of few rows with a b of contiguous rows, in the order in which these lie, bit for bit as by tiles; their `finish` is not
 * called. */
void dlc_gemm_by_few_rows(const dlc_gemm *gemm, const scheme *scheme, void *own);
/* Products with a vector. own may be NULL where the vector is contiguous, or stands left of contiguous rows. */
void dlc_gemm_by_vector(const dlc_gemm *gemm, path path, void *own);
/* Products by dots, whose `finish` is not called */
void dlc_gemm_by_dots(const dlc_gemm *gemm, path path, void *own);
/* The same for many rows, finished block by block */
void dlc_gemm_by_dot_blocks(const dlc_gemm *gemm, path path, int64_t first_row, int64_t first_col, void *own, int thread);
/* Products with few columns and one block of k: by dots where rows of a are contiguous, else turned into rows of c^T = b^T @ a^T,
 * of an a whose columns are contiguous and fill a vector. Their `finish` is not called. */
void dlc_gemm_by_few_columns(const dlc_gemm *gemm, void *own);
/* Tiles of blocks of rows and columns. A block of rows of a is packed for L2 and stays for all columns in hand. A panel of b is
 * packed for L1 just before its use, and where more blocks of rows follow it is kept for them. (first_row, first_col): where the
 * part begins in the whole product. */
void dlc_gemm_by_blocks(const dlc_gemm *gemm, int64_t first_row, int64_t first_col, const scheme *scheme, void *own, int thread);


/* The room of `own` in elements, of all but the last and of the last */
int64_t dlc_gemm_narrow_scratch(const dlc_gemm *gemm);
int64_t dlc_gemm_blocks_scratch(const dlc_gemm *gemm);
/* Of products with few columns. What is small has as much on the stack. */
int64_t dlc_gemm_few_columns_scratch(const dlc_gemm_kernels *kernels, int64_t rows, int64_t depth);

#endif
