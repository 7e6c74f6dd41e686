/* Square blocks of vectors, transposed and added up in registers.
 *
 * Shuffles either stay within quads, the 16 bytes that vectors are made of, or move whole ones: on Zen 5 a block of 16 x 16 then
 * takes 20 cycles to transpose, where permutations of all lanes take 49 (in L1, with its loads and stores). */
#ifndef DLC_KERNELS_TRANSPOSE_H
#define DLC_KERNELS_TRANSPOSE_H

#include "kernels/lanes.h"

enum { QUADS = DLC_VECTOR_BYTES / 16, QUAD_LANES = DLC_LANES / QUADS };

/* UNPACK_LOW, HIGH: x0 y0 x1 y1 ... of the lower and upper halves of each quad, for lanes of so many bits. EVEN_QUADS,
 * ODD_QUADS: those of x, then those of y, for lanes of 64 bits. */
#if DLC_VECTOR_BYTES == 64
#define DLC_UNPACK_LOW_32 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29
#define DLC_UNPACK_HIGH_32 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31
#define DLC_UNPACK_LOW_64 0, 8, 2, 10, 4, 12, 6, 14
#define DLC_UNPACK_HIGH_64 1, 9, 3, 11, 5, 13, 7, 15
#define DLC_EVEN_QUADS 0, 1, 4, 5, 8, 9, 12, 13
#define DLC_ODD_QUADS 2, 3, 6, 7, 10, 11, 14, 15
#elif DLC_VECTOR_BYTES == 32
#define DLC_UNPACK_LOW_32 0, 8, 1, 9, 4, 12, 5, 13
#define DLC_UNPACK_HIGH_32 2, 10, 3, 11, 6, 14, 7, 15
#define DLC_UNPACK_LOW_64 0, 4, 2, 6
#define DLC_UNPACK_HIGH_64 1, 5, 3, 7
#define DLC_EVEN_QUADS 0, 1, 4, 5
#define DLC_ODD_QUADS 2, 3, 6, 7
#else
#define DLC_UNPACK_LOW_32 0, 4, 1, 5
#define DLC_UNPACK_HIGH_32 2, 6, 3, 7
#define DLC_UNPACK_LOW_64 0, 2
#define DLC_UNPACK_HIGH_64 1, 3
#endif

static inline vreal v_unpack_low(vreal x, vreal y)
{
#if DLC_REAL_BITS == 32
    return __builtin_shufflevector(x, y, DLC_UNPACK_LOW_32);
#else
    return __builtin_shufflevector(x, y, DLC_UNPACK_LOW_64);
#endif
}

static inline vreal v_unpack_high(vreal x, vreal y)
{
#if DLC_REAL_BITS == 32
    return __builtin_shufflevector(x, y, DLC_UNPACK_HIGH_32);
#else
    return __builtin_shufflevector(x, y, DLC_UNPACK_HIGH_64);
#endif
}

#if DLC_VECTOR_BYTES > 16
static inline vreal v_even_quads(vreal x, vreal y)
{
    return (vreal)__builtin_shufflevector((vlong)x, (vlong)y, DLC_EVEN_QUADS);
}

static inline vreal v_odd_quads(vreal x, vreal y) { return (vreal)__builtin_shufflevector((vlong)x, (vlong)y, DLC_ODD_QUADS); }

/* Of every QUAD_LANES-th vector the quads: log2 as many times, the even ones to the first half and the odd ones to the second. */
DLC_INLINE void v_transpose_quads(vreal *x)
{
    DLC_UNROLL
    for (int stage = 1; stage < QUADS; stage *= 2) {
        vreal y[QUADS];
        DLC_UNROLL
        for (int i = 0; i < QUADS / 2; i++) {
            y[i] = v_even_quads(x[2 * i * QUAD_LANES], x[(2 * i + 1) * QUAD_LANES]);
            y[i + QUADS / 2] = v_odd_quads(x[2 * i * QUAD_LANES], x[(2 * i + 1) * QUAD_LANES]);
        }
        DLC_UNROLL
        for (int i = 0; i < QUADS; i++)
            x[i * QUAD_LANES] = y[i];
    }
}
#endif

#if DLC_VECTOR_BYTES == 64
static inline vreal v_join_quads(const vquad *quad)
{
    typedef uint64_t part __attribute__((vector_size(16)));
    typedef uint64_t pair __attribute__((vector_size(32)));
    const pair low = __builtin_shufflevector((part)quad[0], (part)quad[1], 0, 1, 2, 3);
    const pair high = __builtin_shufflevector((part)quad[2], (part)quad[3], 0, 1, 2, 3);
    return (vreal)__builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7);
}

/* The quads that lie `stride` elements apart from p on; only the first `count` are read, and the others are 0. */
DLC_INLINE vreal v_load_quads(const real *p, int64_t stride, int64_t count)
{
    vquad quad[QUADS];
    DLC_UNROLL
    for (int i = 0; i < QUADS; i++) {
        quad[i] = (vquad){0};
        if (i < count)
            memcpy(&quad[i], p + i * stride, sizeof quad[i]);
    }
    return v_join_quads(quad);
}

/* The lower halves of x and y, and their upper ones */
static inline vreal v_low_halves(vreal x, vreal y)
{
    return (vreal)__builtin_shufflevector((vlong)x, (vlong)y, 0, 1, 2, 3, 8, 9, 10, 11);
}

static inline vreal v_high_halves(vreal x, vreal y)
{
    return (vreal)__builtin_shufflevector((vlong)x, (vlong)y, 4, 5, 6, 7, 12, 13, 14, 15);
}
#endif

/* In each quad for itself, its lanes from vector to vector: log2 as many perfect shuffles. */
DLC_INLINE void v_transpose_within_quads(vreal x[QUAD_LANES])
{
    DLC_UNROLL
    for (int stage = 1; stage < QUAD_LANES; stage *= 2) {
        vreal y[QUAD_LANES];
        DLC_UNROLL
        for (int i = 0; i < QUAD_LANES / 2; i++) {
            y[2 * i] = v_unpack_low(x[i], x[i + QUAD_LANES / 2]);
            y[2 * i + 1] = v_unpack_high(x[i], x[i + QUAD_LANES / 2]);
        }
        DLC_UNROLL
        for (int i = 0; i < QUAD_LANES; i++)
            x[i] = y[i];
    }
}

/* Transposes a block of as many vectors as they have lanes. */
DLC_INLINE void v_transpose(vreal x[DLC_LANES])
{
    DLC_UNROLL
    for (int i = 0; i < DLC_LANES; i += QUAD_LANES)
        v_transpose_within_quads(x + i);
#if DLC_VECTOR_BYTES > 16
    DLC_UNROLL
    for (int i = 0; i < QUAD_LANES; i++)
        v_transpose_quads(x + i);
#endif
}

/* The lanes of each vector combined, folded by halves as v_fold_add does: half as many shuffles as to transpose first. */
DLC_INLINE vreal v_fold_each(vreal x[DLC_LANES], vreal combine(vreal, vreal))
{
#if DLC_VECTOR_BYTES == 64
    DLC_UNROLL
    for (int i = 0; i < QUAD_LANES; i++) {
        const vreal *other = x + i + 2 * QUAD_LANES;
        x[i] = combine(v_low_halves(x[i], x[i + QUAD_LANES]), v_high_halves(x[i], x[i + QUAD_LANES]));
        x[i + QUAD_LANES] = combine(v_low_halves(other[0], other[QUAD_LANES]), v_high_halves(other[0], other[QUAD_LANES]));
    }
#endif
#if DLC_VECTOR_BYTES > 16
    DLC_UNROLL
    for (int i = 0; i < QUAD_LANES; i++)
        x[i] = combine(v_even_quads(x[i], x[i + QUAD_LANES]), v_odd_quads(x[i], x[i + QUAD_LANES]));
#endif
    DLC_UNROLL
    for (int half = QUAD_LANES / 2; half > 0; half /= 2) {
        DLC_UNROLL
        for (int i = 0; i < half; i++)
            x[i] = combine(v_unpack_low(x[i], x[i + half]), v_unpack_high(x[i], x[i + half]));
    }
    return x[0];
}

static inline vreal v_add(vreal x, vreal y) { return x + y; }
DLC_INLINE vreal v_sum_each(vreal x[DLC_LANES]) { return v_fold_each(x, v_add); }
/* Any value where a lane is NaN */
DLC_INLINE vreal v_larger_each(vreal x[DLC_LANES]) { return v_fold_each(x, v_larger); }
DLC_INLINE vreal v_smaller_each(vreal x[DLC_LANES]) { return v_fold_each(x, v_smaller); }

#endif
