/* What kernels/step.c defines, for the table of one ISA and real dtype. */
#ifndef DLC_KERNELS_STEP_KERNELS_H
#define DLC_KERNELS_STEP_KERNELS_H

#include "cpu/kernels.h"
#include "cpu/simd.h"

extern dlc_step_kernel *const DLC_NAME(dlc_step_kernels)[DLC_STEP_COUNT];

#endif
