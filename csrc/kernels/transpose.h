/* A square block of vectors, transposed in registers. */
#ifndef DLC_KERNELS_TRANSPOSE_H
#define DLC_KERNELS_TRANSPOSE_H

#include "kernels/lanes.h"

/* The lower and upper half of x0 y0 x1 y1 ... */
#if DLC_VECTOR_BYTES == 16 && DLC_REAL_BITS == 64
#define DLC_ZIP_LOW 0, 2
#define DLC_ZIP_HIGH 1, 3
#elif DLC_VECTOR_BYTES == 16 || (DLC_VECTOR_BYTES == 32 && DLC_REAL_BITS == 64)
#define DLC_ZIP_LOW 0, 4, 1, 5
#define DLC_ZIP_HIGH 2, 6, 3, 7
#elif DLC_VECTOR_BYTES == 32 || DLC_REAL_BITS == 64
#define DLC_ZIP_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define DLC_ZIP_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#else
#define DLC_ZIP_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define DLC_ZIP_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
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

/* The sums of the lanes of each vector, all in the same order */
DLC_INLINE vreal v_sum_each(vreal x[DLC_LANES])
{
    v_transpose(x);
    DLC_UNROLL
    for (int half = DLC_LANES / 2; half > 0; half /= 2) {
        DLC_UNROLL
        for (int i = 0; i < half; i++)
            x[i] += x[i + half];
    }
    return x[0];
}

#endif
