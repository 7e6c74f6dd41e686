/* Matrix products of float32 that is rounded to bfloat16 as it is packed. See dlc_gemm_kernels for the contracts.
 *
 * A packed element is a pair of bfloat16 that follow each other along the depth, the first in the lower half; an odd depth is
 * filled up with 0. As in gemm.c, an element of c is one chain over the pairs, in order, whatever tile holds it. */
#include "kernels/bfloat16_kernels.h"
#include "kernels/gemm_kernels.h"
#include "kernels/gemm_tile.h"

/* c (rows, cols; leading dimension ldc) = or += a (rows, 2 depth) @ b (2 depth, NR if wide, else L; leading dimension ldb), both
 * packed. rows and wide are constants where this is inlined. With AVX512_BF16, GCC 12 makes 187 instructions of four steps of
 * 14 rows: 112 vdpbf16ps, 64 loads, no spills. */
DLC_INLINE void tile_body(real *c, int64_t ldc, const int32_t *a, int64_t a_step, const int32_t *b, int64_t ldb,
                          int64_t depth, int64_t cols, bool accumulate, const int rows, const bool wide)
{
    vreal left[DLC_MR] = {{0}}, right[DLC_MR] = {{0}};
    if (accumulate)
        prefetch_rows(c, ldc, rows, wide);
#pragma GCC unroll 4
    for (int64_t p = 0; p < depth; p++) {
        const vint b_left = v_load_int(b + p * ldb), b_right = wide ? v_load_int(b + p * ldb + L) : b_left;
        DLC_UNROLL
        for (int i = 0; i < rows; i++) {
            const vint a_ip = v_splat_int(a[p * a_step + i]);
            left[i] = v_dot_pairs(left[i], a_ip, b_left);
            if (wide)
                right[i] = v_dot_pairs(right[i], a_ip, b_right);
        }
    }
    store_tile(c, ldc, left, right, cols, accumulate, rows, wide);
}

typedef void tile_function(real *c, int64_t ldc, const int32_t *a, int64_t a_step, const int32_t *b, int64_t ldb,
                           int64_t depth, int64_t cols, bool accumulate);

#define DLC_TILE(name, rows, wide)                                                                              \
    static void name##rows(real *c, int64_t ldc, const int32_t *a, int64_t a_step, const int32_t *b, int64_t ldb, \
                           int64_t depth, int64_t cols, bool accumulate)                                        \
    {                                                                                                           \
        tile_body(c, ldc, a, a_step, b, ldb, depth, cols, accumulate, rows, wide);                              \
    }
#define DLC_TILES(rows)          \
    DLC_TILE(wide, rows, true)   \
    DLC_TILE(narrow, rows, false)
DLC_EACH_ROWS(DLC_TILES)

#define DLC_WIDE(rows) wide##rows,
#define DLC_NARROW(rows) narrow##rows,
static tile_function *const tiles[2][DLC_MR] = {{DLC_EACH_ROWS(DLC_NARROW)}, {DLC_EACH_ROWS(DLC_WIDE)}};

static void tile(void *c, int64_t ldc, const void *a, int64_t a_row, int64_t a_col, const void *b, int64_t ldb,
                 int64_t depth, int64_t rows, int64_t cols, bool accumulate, const dlc_gemm_ahead *ahead)
{
    (void)ahead;
    (void)a_row;
    tiles[cols > L][rows - 1](c, ldc, a, a_col, b, ldb, depth, cols, accumulate);
}

/* panel (half of depth, step) from x, whose rows have whole vectors */
static void pack_pairs(int32_t *panel, int64_t step, const real *x, int64_t stride, int64_t width, int64_t depth)
{
    for (int64_t p = 0; p < depth; p += 2, x += 2 * stride, panel += step)
        for (int64_t w = 0; w < width; w += L) {
            const vreal second = p + 1 < depth ? v_load(x + stride + w) : (vreal){0};
            const vint pairs = v_round_pairs(v_load(x + w), second);
            memcpy(panel + w, &pairs, sizeof pairs);
        }
}

/* What of a panel is in another layout for a while: half of L1 at most. */
enum { STAGED = 64 };

/* Of an x whose elements lie along the depth: pairs are rounded where they lie, and half as many elements are transposed. */
static void pack_rows(int32_t *panel, int64_t step, const real *x, int64_t stride, int64_t width, int64_t depth)
{
    int32_t pairs[NR * STAGED];
    for (int64_t p = 0; p < depth; p += 2 * STAGED, panel += STAGED * step) {
        const int64_t few = depth - p < 2 * STAGED ? depth - p : 2 * STAGED;
        for (int64_t w = 0; w < width; w++)
            round_row(pairs + w * STAGED, x + w * stride + p, few);
        DLC_NAME(dlc_gemm_kernels).pack(panel, step, pairs, STAGED, 1, width, (few + 1) / 2);
    }
}

/* Of any other x, whose panels are brought together as float32 first */
static void pack_staged(int32_t *panel, int64_t step, const real *x, int64_t width_stride, int64_t depth_stride,
                        int64_t width, int64_t depth)
{
    real rows[STAGED * NR];
    const int64_t stride = (width + L - 1) / L * L;
    for (int64_t p = 0; p < depth; p += STAGED) {
        const int64_t few = depth - p < STAGED ? depth - p : STAGED;
        DLC_NAME(dlc_gemm_kernels).pack(rows, stride, x + p * depth_stride, width_stride, depth_stride, width, few);
        pack_pairs(panel + p / 2 * step, step, rows, stride, width, few);
    }
}

static void pack(void *panel, int64_t step, const void *x, int64_t width_stride, int64_t depth_stride, int64_t width,
                 int64_t depth)
{
    if (width_stride == 1 && width % L == 0)
        pack_pairs(panel, step, x, depth_stride, width, depth);
    else if (depth_stride == 1)
        pack_rows(panel, step, x, width_stride, width, depth);
    else
        pack_staged(panel, step, x, width_stride, depth_stride, width, depth);
}

const dlc_gemm_kernels DLC_BFLOAT16_NAME(dlc_gemm_bfloat16) = {
    .packs_pairs = true,
    .pairs_multiple = 1,
    .mr = DLC_MR,
    .nr = NR,
    .lanes = L,
    .mc = MC,
    .kc = PAIRS_KC,
    .panels = PAIRS_PANELS,
    .nc = 8 * NR,
    .tile = tile,
    .pack = pack,
    .pack_a = pack,
    .sum_parts = sum_float32_parts,
    .mirror = mirror_float32,
};
