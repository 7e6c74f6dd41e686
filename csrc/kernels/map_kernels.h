/* What kernels/map.c, map_functions.c and convert.c define, for the table of one ISA and real dtype. */
#ifndef DLC_KERNELS_MAP_KERNELS_H
#define DLC_KERNELS_MAP_KERNELS_H

#include "cpu/kernels.h"
#include "cpu/simd.h"

/* The kernel of an operation, and what it leaves unread with so many inputs and no numbers */
#define DLC_MAP_HEAD(name) \
    void DLC_NAME(dlc_map_##name)(void *out, const void *a, const void *b, const void *c, int64_t n, unsigned numbers)
#define DLC_UNREAD_1 (void)b, (void)c, (void)numbers;
#define DLC_UNREAD_2 (void)c, (void)numbers;
#define DLC_UNREAD_3 (void)numbers;

#define X(code, NAME, name, arity) DLC_MAP_HEAD(name);
DLC_MAP_OPS(X)
#undef X

extern dlc_map_kernel *const DLC_NAME(dlc_map_kernels)[DLC_MAP_OP_COUNT];
extern dlc_convert_kernel *const DLC_NAME(dlc_convert_kernels)[DLC_DTYPE_COUNT];

#endif
