/* What kernels/gemm.c defines, for the table of one ISA and real dtype. */
#ifndef DLC_KERNELS_GEMM_KERNELS_H
#define DLC_KERNELS_GEMM_KERNELS_H

#include "cpu/kernels.h"
#include "cpu/simd.h"

extern const dlc_gemm_kernels DLC_NAME(dlc_gemm_kernels);

#endif
