/* What kernels/map.c and kernels/convert.c define, for the table of one ISA and real dtype. */
#ifndef DLC_KERNELS_MAP_KERNELS_H
#define DLC_KERNELS_MAP_KERNELS_H

#include "cpu/kernels.h"
#include "cpu/simd.h"

extern dlc_map_kernel *const DLC_NAME(dlc_map_kernels)[DLC_MAP_OP_COUNT];
extern dlc_convert_kernel *const DLC_NAME(dlc_convert_kernels)[DLC_DTYPE_COUNT];

#endif
