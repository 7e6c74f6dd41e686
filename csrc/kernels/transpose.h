/* A square block of vectors, transposed in registers. */
#ifndef DLC_KERNELS_TRANSPOSE_H
#define DLC_KERNELS_TRANSPOSE_H

#include "kernels/lanes.h"

/* The lower and upper half of x0 y0 x1 y1 ..., for lanes of so many bits */
#if DLC_VECTOR_BYTES == 64
#define DLC_ZIP_LOW_32 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define DLC_ZIP_HIGH_32 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define DLC_ZIP_LOW_64 0, 8, 1, 9, 2, 10, 3, 11
#define DLC_ZIP_HIGH_64 4, 12, 5, 13, 6, 14, 7, 15
#elif DLC_VECTOR_BYTES == 32
#define DLC_ZIP_LOW_32 0, 8, 1, 9, 2, 10, 3, 11
#define DLC_ZIP_HIGH_32 4, 12, 5, 13, 6, 14, 7, 15
#define DLC_ZIP_LOW_64 0, 4, 1, 5
#define DLC_ZIP_HIGH_64 2, 6, 3, 7
#else
#define DLC_ZIP_LOW_32 0, 4, 1, 5
#define DLC_ZIP_HIGH_32 2, 6, 3, 7
#define DLC_ZIP_LOW_64 0, 2
#define DLC_ZIP_HIGH_64 1, 3
#endif

/* Of reals */
#if DLC_REAL_BITS == 32
#define DLC_ZIP_LOW DLC_ZIP_LOW_32
#define DLC_ZIP_HIGH DLC_ZIP_HIGH_32
#else
#define DLC_ZIP_LOW DLC_ZIP_LOW_64
#define DLC_ZIP_HIGH DLC_ZIP_HIGH_64
#endif

/* Transposes a block of as many vectors as they have lanes: log2 as many perfect shuffles of its rows. */
DLC_INLINE void v_transpose(vreal x[DLC_LANES])
{
    DLC_UNROLL
    for (int stage = 1; stage < DLC_LANES; stage *= 2) {
        vreal y[DLC_LANES];
        DLC_UNROLL
        for (int i = 0; i < DLC_LANES / 2; i++) {
            y[2 * i] = __builtin_shufflevector(x[i], x[i + DLC_LANES / 2], DLC_ZIP_LOW);
            y[2 * i + 1] = __builtin_shufflevector(x[i], x[i + DLC_LANES / 2], DLC_ZIP_HIGH);
        }
        DLC_UNROLL
        for (int i = 0; i < DLC_LANES; i++)
            x[i] = y[i];
    }
}

/* Adds the halves of each of 2 n vectors; the sums of two stand in one, alternately. */
DLC_INLINE void v_fold_pairs(vreal *x, const int n)
{
    DLC_UNROLL
    for (int i = 0; i < n; i++)
        x[i] = __builtin_shufflevector(x[i], x[i + n], DLC_ZIP_LOW) + __builtin_shufflevector(x[i], x[i + n], DLC_ZIP_HIGH);
}

/* The sums of the lanes of each vector, folded by halves as v_fold_add does: half as many shuffles as to transpose first. A
 * loop over the halves would keep x in memory. */
DLC_INLINE vreal v_sum_each(vreal x[DLC_LANES])
{
    if (DLC_LANES > 8)
        v_fold_pairs(x, 8);
    if (DLC_LANES > 4)
        v_fold_pairs(x, 4);
    if (DLC_LANES > 2)
        v_fold_pairs(x, 2);
    v_fold_pairs(x, 1);
    return x[0];
}

#endif
