/* What kernels/gemm.c and gemm_narrow.c define, for the table of one ISA and real dtype. Contracts: see dlc_gemm_kernels. */
#ifndef DLC_KERNELS_GEMM_KERNELS_H
#define DLC_KERNELS_GEMM_KERNELS_H

#include "cpu/kernels.h"
#include "cpu/simd.h"

extern const dlc_gemm_kernels DLC_NAME(dlc_gemm_kernels);

/* Sums of few rows, 4 KiB of each at most so that they stay in L1 beside as many rows of b, lie a little further than that apart:
 * a load waits for a store that is whole pages away (2 x 1000 x 1000 takes 2.5 times as long with sums in rows of c on Zen 5, where
 * 5 KiB apart is level). */
enum { FEW_ROWS = 4, SUMS = 4096 / (int)sizeof(real), SUMS_APART = SUMS + 2 * DLC_LANES };

void DLC_NAME(dlc_vector_matrix)(void *y, const void *x, int64_t x_stride, const void *b, int64_t ldb, int64_t k, int64_t n,
                                 bool accumulate);
void DLC_NAME(dlc_few_rows)(void *y, const void *x, int64_t x_row, int64_t x_col, const void *b, int64_t ldb, int64_t m, int64_t k,
                            int64_t n);
void DLC_NAME(dlc_matrix_vector)(void *y, int64_t y_stride, const void *a, int64_t lda, const void *x, int64_t m, int64_t k,
                                 bool accumulate);
void DLC_NAME(dlc_dots)(void *c, int64_t c_row, int64_t c_col, const void *a, int64_t lda, const void *b, int64_t ldb, int64_t m,
                        int64_t n, int64_t k, bool accumulate);

#endif
