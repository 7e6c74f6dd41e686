/* What the tiles of all products have in common: their size, the cache blocks they lie in, and how they are stored. */
#ifndef DLC_KERNELS_GEMM_TILE_H
#define DLC_KERNELS_GEMM_TILE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/sizes.h"
#include "kernels/lanes.h"

/* A tile is DLC_MR x (2 vectors). The accumulators, two vectors of b and one broadcast of a fill the register file:
 * 14 x 2 + 3 of 32 (AVX-512), 6 x 2 + 3 of 16 (AVX2); SSE has no fused multiply-add and needs a fourth for the product. */
#if DLC_VECTOR_BYTES == 64
#define DLC_MR 14
#define DLC_EACH_ROWS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14)
#elif defined(__aarch64__)
#define DLC_MR 8
#define DLC_EACH_ROWS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8)
#else
#define DLC_MR 6
#define DLC_EACH_ROWS(X) X(1) X(2) X(3) X(4) X(5) X(6)
#endif

enum { L = DLC_LANES, NR = 2 * DLC_LANES };

/* A block of a (MC x KC) takes 200 to 290 KB of L2, with AVX-512 430 (float64) or 700, a panel of b (KC x NR) 8 to 32 KB, with
 * AVX-512 80: it is refilled from L2 where L1 is smaller, which costs less than to load and store c once more for every KC.
 * Measured, to some 2%: on AVX2 with 512 KB of L2, blocks of a of twice the size are 3% slower and half of it level, for float32 a KC
 * of 384 is 1 to 2% slower (128 x 784 x 256 and 512^3) and 1024 level; with AVX-512 and 1 MB of L2 (128 x 784 x 256 to
 * 2048^3), a KC of 256 is 1 to 4% slower than 512, 384 up to 2%, 768 and 1024 level, as are blocks of a of half or twice the rows.
 * 640 leaves powers of two cut as 512 does and cuts less often what is a little deeper: on an Intel Xeon 1087 x 1100 x 948 and
 * 256 x 600 x 256 gain 2.5%, 560^3 1%, float64 1100^3 with 320 for 256 1.7%; 800 gains no more.
 * The packed panels of b that wait for the next block of rows (PANELS) take 3 MB of L3: with half of it a is packed twice as
 * often from 1000 columns on, which takes 2% there, with twice of it 2048^3 gains 0 to 2%. */
#if DLC_VECTOR_BYTES == 64
enum { MC = (DLC_REAL_BITS == 32 ? 280 : 168) / DLC_MR * DLC_MR, KC = DLC_REAL_BITS == 32 ? 640 : 320 };
#else
enum { MC = (DLC_REAL_BITS == 32 ? 144 : 96) / DLC_MR * DLC_MR, KC = DLC_REAL_BITS == 32 ? 512 : 256 };
#endif
enum { KEPT_BYTES = 3 << 20, PANELS = KEPT_BYTES / (KC * NR * (int)sizeof(real)) };

/* The same for pairs of bfloat16, of which a packed element holds two */
enum { PAIRS_KC = 1024, PAIRS_PANELS = KEPT_BYTES / (PAIRS_KC / 2 * NR * (int)sizeof(int32_t)) };

/* Of a tile whose columns do not fill its vectors: c (rows, cols; leading dimension ldc) = or += its accumulators. */
#if DLC_VECTOR_BYTES == 64

/* By masks, beside which a copy of the tile takes 1.01 to 1.04 times as long (products of 64 to 800), 1.1 times for 10 columns (Zen
 * 5). */
DLC_INLINE void store_edge(real *c, int64_t ldc, const vreal *left, const vreal *right, int64_t cols, bool accumulate,
                           const int rows, const bool wide)
{
    const int64_t part = wide ? cols - L : cols;
    DLC_UNROLL
    for (int i = 0; i < rows; i++) {
        real *out = c + i * ldc;
        if (wide) {
            v_store(out, accumulate ? v_load(out) + left[i] : left[i]);
            out += L;
        }
        const vreal last = wide ? right[i] : left[i];
        v_store_part(out, accumulate ? v_load_part(out, part, 0) + last : last, part);
    }
}

#else

/* c (rows, cols; leading dimension ldc) = or += tile (rows, cols; leading dimension NR), cols < NR. Not inlined: it would
 * triple the size of each of the tile functions. */
static __attribute__((noinline)) void store_copy(real *c, int64_t ldc, const real *tile, int64_t rows, int64_t cols,
                                                 bool accumulate)
{
    for (int64_t i = 0; i < rows; i++, c += ldc, tile += NR) {
        if (!accumulate) {
            copy_few(c, tile, cols);
            continue;
        }
        real sum[NR] = {0};
        copy_few(sum, c, cols);
        v_store(sum, v_load(sum) + v_load(tile));
        if (cols > L)
            v_store(sum + L, v_load(sum + L) + v_load(tile + L));
        copy_few(c, sum, cols);
    }
}

DLC_INLINE void store_edge(real *c, int64_t ldc, const vreal *left, const vreal *right, int64_t cols, bool accumulate,
                           const int rows, const bool wide)
{
    real whole[DLC_MR * NR];
    DLC_UNROLL
    for (int i = 0; i < rows; i++) {
        v_store(whole + i * NR, left[i]);
        if (wide)
            v_store(whole + i * NR + L, right[i]);
    }
    store_copy(c, ldc, whole, rows, cols, accumulate);
}

#endif

/* A row of two vectors may lie in one line more than its bytes fill. */
DLC_INLINE void prefetch_row(const real *x, const bool wide)
{
    __builtin_prefetch(x);
    if (!wide)
        return;
    if (NR * sizeof(real) > DLC_ALIGNMENT)
        __builtin_prefetch(x + L);
    __builtin_prefetch(x + NR - 1);
}

DLC_INLINE void prefetch_rows(const real *x, int64_t ld, const int rows, const bool wide)
{
    DLC_UNROLL
    for (int i = 0; i < rows; i++)
        prefetch_row(x + i * ld, wide);
}

/* c (rows, cols; leading dimension ldc) = or += the accumulators of a tile. rows and wide are constants where this is
 * inlined. */
DLC_INLINE void store_tile(real *c, int64_t ldc, const vreal *left, const vreal *right, int64_t cols, bool accumulate,
                           const int rows, const bool wide)
{
    if (cols != (wide ? NR : L)) {
        store_edge(c, ldc, left, right, cols, accumulate, rows, wide);
        return;
    }
    DLC_UNROLL
    for (int i = 0; i < rows; i++) {
        real *out = c + i * ldc;
        v_store(out, accumulate ? v_load(out) + left[i] : left[i]);
        if (wide)
            v_store(out + L, accumulate ? v_load(out + L) + right[i] : right[i]);
    }
}

#endif
