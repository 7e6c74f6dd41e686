/* What gemm_amx.c defines. */
#ifndef DLC_KERNELS_AMX_KERNELS_H
#define DLC_KERNELS_AMX_KERNELS_H

#include "cpu/kernels.h"
#include "cpu/simd.h"

/* Only for threads of a process that dlc_cpu_enable_amx has let use AMX. */
extern const dlc_bfloat16_kernels DLC_NAME(dlc_bfloat16_kernels_amx);

#endif
