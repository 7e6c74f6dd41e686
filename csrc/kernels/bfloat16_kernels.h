/* What gemm_bfloat16.c, probe_bfloat16.c and table_bfloat16.c define. They are compiled for float32 on each ISA and, where an
 * extension of it multiplies bfloat16, once more with that, under names of their own. */
#ifndef DLC_KERNELS_BFLOAT16_KERNELS_H
#define DLC_KERNELS_BFLOAT16_KERNELS_H

#include <string.h>

#include "cpu/kernels.h"
#include "kernels/gemm_kernels.h"
#include "kernels/lanes.h"

#ifdef DLC_HAVE_PAIRS
#define DLC_BFLOAT16_NAME(name) DLC_NAME(name##_native)
#else
#define DLC_BFLOAT16_NAME(name) DLC_NAME(name)
#endif

extern const dlc_gemm_kernels DLC_BFLOAT16_NAME(dlc_gemm_bfloat16);

/* pairs (half of n, rounded up to whole vectors) from x (n) */
DLC_INLINE void round_row(int32_t *pairs, const real *x, int64_t n)
{
    for (int64_t i = 0; i < n; i += 2 * DLC_LANES) {
        const int64_t few = n - i, beyond = few - DLC_LANES; /* of the first vector, and of the second */
        const vreal first = beyond < 0 ? v_load_part(x + i, few, 0) : v_load(x + i);
        vreal second = {0};
        if (beyond >= DLC_LANES)
            second = v_load(x + i + DLC_LANES);
        else if (beyond > 0)
            second = v_load_part(x + i + DLC_LANES, beyond, 0);
        const vint rounded = v_round_neighbours(first, second);
        memcpy(pairs + i / 2, &rounded, sizeof rounded);
    }
}

/* c is float32, whatever its factors are rounded to. */
DLC_INLINE void sum_float32_parts(void *c, int64_t ldc, const void *parts, int64_t ldp, int64_t part_stride, int64_t count,
                                  int64_t rows, int64_t cols, bool accumulate)
{
    DLC_NAME(dlc_gemm_kernels).sum_parts(c, ldc, parts, ldp, part_stride, count, rows, cols, accumulate);
}

DLC_INLINE void mirror_float32(void *c, int64_t ldc, int64_t begin, int64_t end, int64_t n)
{
    DLC_NAME(dlc_gemm_kernels).mirror(c, ldc, begin, end, n);
}

/* Independent chains that cover latency times issue width, a pair of multiply-adds in each lane of them */
#if DLC_VECTOR_BYTES == 64 || defined(__aarch64__)
enum { DLC_BFLOAT16_CHAINS = 24 };
#else
enum { DLC_BFLOAT16_CHAINS = 12 };
#endif
enum { DLC_BFLOAT16_PROBE_FLOPS = 4 * DLC_LANES * DLC_BFLOAT16_CHAINS };
double DLC_BFLOAT16_NAME(dlc_probe_bfloat16)(int64_t repeats);

#endif
