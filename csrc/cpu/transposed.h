/* Copies of transposed matrices, by what packs operands of products. */
#ifndef DLC_CPU_TRANSPOSED_H
#define DLC_CPU_TRANSPOSED_H

#include "cpu/kernels.h"

/* out (rows, cols; leading dimension ld_out) = in (cols, rows; leading dimension ld_in) transposed */
static inline void dlc_copy_transposed(const dlc_real_kernels *kernels, int64_t size, void *out, int64_t ld_out, const void *in,
                                       int64_t ld_in, int64_t rows, int64_t cols)
{
    const dlc_gemm_kernels *gemm = kernels->gemm;
    const int64_t packed = cols / gemm->lanes * gemm->lanes; /* beyond, pack would run over into the next row */
    if (packed > 0)
        gemm->pack(out, ld_out, in, ld_in, 1, packed, rows);
    if (packed < cols)
        gemm->turn((char *)out + packed * size, ld_out, (const char *)in + packed * ld_in * size, ld_in, rows, cols - packed,
                   false);
}

#endif
