/* The functions of the kernel table that convert.c, copy.c, reduce.c, loss.c and rng.c define, one set for each ISA and real
 * dtype. Contracts: see dlc_real_kernels, and dlc_gemm_kernels for sum_columns. */
#ifndef DLC_KERNELS_DECL_H
#define DLC_KERNELS_DECL_H

#include "cpu/kernels.h"
#include "cpu/simd.h"

void DLC_NAME(dlc_fill)(void *out, double value, int64_t n);
void DLC_NAME(dlc_copy_rows)(void *out, int64_t ld_out, const void *in, int64_t ld_in, int64_t rows, int64_t cols);
void DLC_NAME(dlc_fill_rows)(void *out, const void *values, int64_t stride, int64_t rows, int64_t cols);
void DLC_NAME(dlc_add_to_rows)(void *out, const void *x, const void *values, int64_t stride, int64_t rows, int64_t cols);
void DLC_NAME(dlc_stream)(void *out, const void *in, int64_t n);
void DLC_NAME(dlc_stream_end)(void);
double DLC_NAME(dlc_sum)(const void *x, int64_t n);
double DLC_NAME(dlc_max)(const void *x, int64_t n);
double DLC_NAME(dlc_min)(const void *x, int64_t n);
void DLC_NAME(dlc_sum_each)(double *sums, int64_t step, const void *x, int64_t ld, int64_t rows, int64_t cols);
void DLC_NAME(dlc_sum_rows)(void *accumulator, const void *x, int64_t ld, int64_t rows, int64_t cols);
void DLC_NAME(dlc_sum_columns)(void *sums, const void *b, int64_t b_row, int64_t b_col, int64_t k, int64_t n, bool accumulate);
void DLC_NAME(dlc_max_rows)(void *accumulator, const void *x, int64_t ld, int64_t rows, int64_t cols);
void DLC_NAME(dlc_min_rows)(void *accumulator, const void *x, int64_t ld, int64_t rows, int64_t cols);

void DLC_NAME(dlc_softmax)(void *out, int64_t ld_out, const void *x, int64_t ld_x, int64_t rows, int64_t cols);
void DLC_NAME(dlc_log_softmax)(void *out, int64_t ld_out, const void *x, int64_t ld_x, int64_t rows, int64_t cols);
void DLC_NAME(dlc_softmax_loss)(void *loss, void *grad, int64_t ld_grad, const void *z, int64_t ld_z,
                                const int64_t *labels, const void *targets, int64_t ld_targets, const void *scale,
                                int64_t scale_stride, int64_t rows, int64_t cols);
void DLC_NAME(dlc_softmax_loss_transposed)(void *loss, void *grad, int64_t ld_grad, const void *z, int64_t ld_z,
                                           const int64_t *labels, const void *scale, int64_t scale_stride,
                                           int64_t rows, int64_t cols);

void DLC_NAME(dlc_random_words)(uint32_t *words, uint64_t seed, uint32_t stream, uint64_t step, uint32_t block);
bool DLC_NAME(dlc_numbers_below)(uint64_t *numbers, const uint32_t *words, uint32_t bound);
void DLC_NAME(dlc_uniform)(void *out, uint64_t seed, uint32_t stream, uint64_t step, int64_t first, int64_t n);
void DLC_NAME(dlc_normal)(void *out, uint64_t seed, uint32_t stream, uint64_t step, int64_t first, int64_t n);
void DLC_NAME(dlc_keep_mask)(void *out, double keep, uint64_t seed, uint32_t stream, uint64_t step, int64_t first,
                             int64_t n);

#endif
