/* The kernels of products in bfloat16, and these products. */
#include <stdlib.h>
#include <string.h>

#include "checks.h"
#include "kernels.h"
#include "kernels_gemm.h"
#include "products.h"

/* A pair of bfloat16 as an element of a panel */
static uint32_t pair_of(float first, float second)
{
    return (uint32_t)(round_to_bfloat16(first) >> 16) | round_to_bfloat16(second);
}

/* The rows of a panel */
static int64_t rows_of_panel(const dlc_gemm_kernels *kernels, int64_t depth)
{
    return round_up((depth + 1) / 2, kernels->pairs_multiple);
}

/* Numbers at the edges of rounding: ties, carries into the exponent, the largest and least ones, infinities and NaN. */
static const uint32_t special_bits[] = {
    0x00000000, 0x80000000, 0x3f808000, 0x3f818000, 0x3f808001, 0x3f807fff, 0xbfffffff, 0x7f7fffff, 0xff7f8000, 0x7f7f7fff,
    0x7f800000, 0xff800000, 0x7f800001, 0xffc00000, 0x7fffffff, 0x00000001, 0x807fffff, 0x00800000, 0x80808000,
};

static void fill_specials(float *x, int64_t n)
{
    enum { COUNT = sizeof special_bits / sizeof special_bits[0] };
    fill_uniform(DLC_FLOAT32, x, n, -1, 1);
    for (int64_t i = 0; i < n; i += 2)
        memcpy(&x[i], &special_bits[next_bits() % COUNT], sizeof x[i]);
}

static void test_pack_pairs_of(const dlc_gemm_kernels *kernels, int64_t step, int64_t width, int64_t depth,
                               int64_t width_stride, int64_t depth_stride, edge edge)
{
    const int64_t pairs = rows_of_panel(kernels, depth), overrun = step == width ? kernels->lanes - 1 : 0;
    const int64_t last = (width - 1) * width_stride + (depth - 1) * depth_stride; /* from the first, if below it */
    const int64_t span = depth == 0 ? 0 : 1 + llabs((width - 1) * width_stride) + llabs((depth - 1) * depth_stride);
    uint32_t *panel = place(C, DLC_FLOAT32, pairs * step + overrun, edge);
    float *x = place(A, DLC_FLOAT32, span, edge);
    fill_specials(x, span);
    const float *first = x + (last < 0 ? -last : 0);
    describe("pack pairs, %lld of %lld x %lld, strides %lld and %lld", (long long)width, (long long)step, (long long)depth,
             (long long)width_stride, (long long)depth_stride);
    kernels->pack(panel, step, first, width_stride, depth_stride, width, depth);
    for (int64_t p = 0; p < pairs; p++)
        for (int64_t w = 0; w < step; w++) {
            const float *at = first + w * width_stride + 2 * p * depth_stride;
            const bool is_there = w < width && 2 * p < depth;
            uint32_t expected = is_there ? pair_of(at[0], 2 * p + 1 < depth ? at[depth_stride] : 0) : 0;
            if (!expect(panel[p * step + w] == expected, "pair (%lld, %lld) is %08x, not %08x", (long long)p, (long long)w,
                        (unsigned)panel[p * step + w], (unsigned)expected))
                return;
        }
    expect_intact();
}

static void test_pack_pairs(const dlc_gemm_kernels *kernels)
{
    static const int64_t depths[] = {0, 1, 2, 3, 8, 63, 64, 65, 127, 128, 129, 165};
    for (int64_t width = 1; width <= kernels->nr; width++)
        for (size_t i = 0; i < sizeof depths / sizeof depths[0]; i++)
            for (int variant = 0; variant < 2 * EDGE_COUNT; variant++) {
                const edge edge = variant / 2;
                const int64_t depth = depths[i], step = variant % 2 ? width : round_up(width, kernels->lanes);
                test_pack_pairs_of(kernels, step, width, depth, 1, width, edge);
                test_pack_pairs_of(kernels, step, width, depth, 1, width + 3, edge);
                test_pack_pairs_of(kernels, step, width, depth, depth + 5, 1, edge);
                test_pack_pairs_of(kernels, step, width, depth, -2, -2 * width, edge);
            }
}

/* Packs x (depth, step), columns of b that are filled up, with the reference. */
static const void *packed_columns(const dlc_gemm_kernels *kernels, const float *x, int64_t step, int64_t depth, edge edge)
{
    const int64_t size = rows_of_panel(kernels, depth) * step;
    uint32_t *panel = memset(place(B, DLC_FLOAT32, size, edge), 0, (size_t)size * sizeof *panel);
    for (int64_t p = 0; p < depth; p += 2)
        for (int64_t w = 0; w < step; w++)
            panel[p / 2 * step + w] = pair_of(x[p * step + w], p + 1 < depth ? x[(p + 1) * step + w] : 0);
    return panel;
}

/* Packs x (depth, rows), which are rows of a, into a layout that the kernels alone know. */
static const void *packed_rows(const dlc_gemm_kernels *kernels, const float *x, int64_t rows, int64_t depth, edge edge)
{
    uint32_t *panel = place(A, DLC_FLOAT32, rows_of_panel(kernels, depth) * rows + kernels->lanes - 1, edge);
    kernels->pack_a(panel, rows, x, 1, rows, rows, depth);
    return panel;
}

static void test_tile_of_pairs_of(const dlc_gemm_kernels *kernels, int64_t rows, int64_t cols, int64_t depth,
                                  bool accumulate, edge edge)
{
    enum { FLOATS_A = SECOND + 1, FLOATS_B };
    const int32_t dtype = DLC_FLOAT32;
    const int64_t ldb = round_up(cols, kernels->lanes);
    float *c = place(C, dtype, rows * cols, edge);
    float *a = place(FLOATS_A, dtype, rows * depth, edge), *b = place(FLOATS_B, dtype, depth * ldb, edge);
    fill_uniform(dtype, a, rows * depth, -1, 1);
    fill_uniform(dtype, b, depth * ldb, -1, 1);
    fill_uniform(dtype, c, rows * cols, -1, 1);
    round_all_to_bfloat16(a, rows * depth);
    round_all_to_bfloat16(b, depth * ldb);
    const void *start = accumulate ? copy_of(dtype, c, rows * cols) : NULL;
    describe("tile of pairs, %lld x %lld x %lld, accumulate %d", (long long)rows, (long long)cols, (long long)depth,
             accumulate);
    const dlc_gemm_ahead ahead = {a, DLC_ALIGNMENT};
    kernels->tile(c, cols, packed_rows(kernels, a, rows, depth, edge), 1, rows, packed_columns(kernels, b, ldb, depth, edge), ldb,
                  rows_of_panel(kernels, depth), rows, cols, accumulate, depth % 2 ? &ahead : NULL);
    if (kernels->end)
        kernels->end();
    expect_product(dtype, (operand){c, cols, 1}, (operand){a, 1, rows}, (operand){b, ldb, 1}, rows, cols, depth, start);
    expect_intact();
}

static void test_tile_of_pairs(const dlc_gemm_kernels *kernels)
{
    static const int64_t depths[] = {0, 1, 2, 7, 19, 32, 33, 63, 71}; /* AMX takes 32 at a time */
    for (int64_t rows = 1; rows <= kernels->mr; rows++)
        for (int64_t cols = 1; cols <= kernels->nr; cols++)
            for (int flags = 0; flags < 4; flags++)
                test_tile_of_pairs_of(kernels, rows, cols, depths[(rows + cols + flags) % 9], flags & 1, flags >> 1);
}

void test_gemm_bfloat16(const dlc_gemm_kernels *kernels)
{
    test_pack_pairs(kernels);
    test_tile_of_pairs(kernels);
    test_sum_parts(kernels, DLC_FLOAT32);
    test_products(kernels, DLC_FLOAT32);
    test_parts_of_panels(kernels);
    test_gram_with_packed_b(kernels);
}
