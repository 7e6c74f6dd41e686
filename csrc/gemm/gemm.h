/* Matrix product: blocking, packing and the split over threads, above the tile kernels. */
#ifndef DLC_GEMM_H
#define DLC_GEMM_H

#include "cpu/kernels.h"
#include "threads.h"

/* A block of c: rows [row, row + rows), columns [col, col + cols), which lie from `data` on, `ld` elements apart. */
typedef struct dlc_gemm_block {
    void *data;
    int64_t ld;
    int64_t row, col, rows, cols;
} dlc_gemm_block;

typedef enum dlc_gemm_store {
    DLC_STORE_PLAIN = 0,
    DLC_STORE_BIAS,           /* + the bias of the row */
    DLC_STORE_RECTIFIED_BIAS, /* and then the larger of that and 0 */
    DLC_STORE_WHERE_POSITIVE, /* 0 where y is not above 0 */
    DLC_STORE_TANH_GRADIENT   /* times 1 - y^2 */
} dlc_gemm_store;

/* c (m, n) = or += a (m, k) @ b (k, n). Strides count elements; c_col must be 1. c overlaps neither a nor b.
 * When set, finish is called once for every block of c that is complete, while it is in cache, by the thread
 * that made it: bias, activation and the like. The blocks tile c; every call has rows, cols > 0 (k may be 0).
 * A transient c exists only as the blocks that finish gets, one after the other in a thread's scratch. */
typedef struct dlc_gemm {
    const dlc_gemm_kernels *kernels;
    int64_t element_size;
    void *c;
    const void *a, *b;
    int64_t m, n, k;
    int64_t c_row;
    int64_t a_row, a_col;
    int64_t b_row, b_col;
    bool accumulate;
    bool is_one_row; /* m is 1, whenever this is computed: scratch is there for a k in parts */
    bool is_transient; /* c and c_row are not read; finish is set, accumulate is not */
    /* NULL, or all of b by dlc_gemm_pack_b, which products of tiles along the columns of c read instead. k is not cut in parts for
     * the team then. */
    const void *packed_b;
    /* (n), contiguous, or NULL: = or += the sum of each column of b, taken while a panel of it is in cache (behind a product
     * with a vector, which has none). m is not 0 then, and elements are no pairs. */
    void *b_sums;
    /* What tiles of a small product do to its elements before they store them; for what dlc_gemm_takes_store. dlc_gemm_run does not
     * look at it. */
    dlc_gemm_store store;
    const void *beside; /* the bias (m), contiguous, or y (m, n), beside_row from row to row and contiguous along columns */
    int64_t beside_row;
    void (*finish)(void *context, const dlc_gemm_block *block, int thread);
    void *context; /* of finish */
} dlc_gemm;

/* Whether products gain by a b that is packed once, which changes no bit of their results, for m or any smaller one: those that
 * do not read it (few rows) read b, which has to be set then. For kernels that do not pack pairs. */
bool dlc_gemm_gains_by_packed_b(const dlc_gemm *gemm);

/* How many elements dlc_gemm_pack_b writes. False: more than 63 bits can count. */
bool dlc_gemm_packed_size(int64_t *size, const dlc_gemm *gemm);

/* packed = b (k, n), laid out as tiles read it, and rounded by kernels that pack pairs. Every thread of a team calls it and packs
 * columns of its own. c and a are not read. */
void dlc_gemm_pack_b(void *packed, const dlc_gemm *gemm, int thread, int n_threads);

/* Whether c (m, n) may be transient, for k and any smaller one: every element is complete when its tile is. */
bool dlc_gemm_may_be_transient(const dlc_gemm *gemm);

/* Scratch in bytes: shared by the team, and for each of its threads. Bounded whatever m, n and k, and monotone in
 * each: the scratch for a capacity of rows serves fewer rows. Pointers and strides are not read. */
void dlc_gemm_scratch(int64_t *shared, int64_t *per_thread, const dlc_gemm *gemm);

/* The cost of a product for dlc_threads_for, where a loaded element counts one: with AVX2, a core does about two multiply-adds of
 * 4 bytes, or one of 8, in the time that an elementwise kernel takes for an operand of an element in cache. A product with a vector
 * loads its matrix (1 x 784 x 512 takes two threads 0.66 of the time of one, 1 x 784 x 256 0.88: Zen 5). */
int64_t dlc_gemm_cost(int64_t m, int64_t n, int64_t k, int64_t element_size);

/* The part of the product that falls to `thread`. Every thread of the team calls it with its own scratch; it may wait on
 * the barrier. The result does not depend on n_threads, bit by bit; the blocks that finish sees do. The caller has a barrier
 * after it before c is read elsewhere. */
void dlc_gemm_run(const dlc_gemm *gemm, void *shared, void *own, dlc_barrier *barrier, int thread,
                  int n_threads);

/* Whether a product is so small that it takes no scratch */
bool dlc_gemm_is_small(const dlc_gemm *gemm);

/* Whether tiles may do that to the elements of a small product, which have to leave them complete */
bool dlc_gemm_takes_store(const dlc_gemm *gemm, dlc_gemm_store store);

/* Computes one that is, with the bits of dlc_gemm_run. `finish` is not called: what it runs takes scratch. */
void dlc_gemm_run_small(const dlc_gemm *gemm);

#endif
