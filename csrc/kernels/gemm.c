/* Register-tiled matrix product, packing, and the table of all kernels of products. See dlc_gemm_kernels for the contracts.
 *
 * Every element of c is one chain of multiply-adds over p, in order, whatever the tile that holds it; dot products and products
 * with a vector (gemm_narrow.c) add up lanes, in an order that is the same for all elements. So a product does not depend on how
 * c is cut into tiles, only on where k is cut. */
#include <math.h>

#include "kernels/gemm_kernels.h"
#include "kernels/gemm_tile.h"
#include "kernels/kernels_decl.h"
#include "kernels/transpose.h"

/* Rows of b that are fetched ahead of those being packed: they may come from memory. Where they lie whole pages apart, they fall
 * into one set of L1, which has 8 to 12 lines: 16 ahead take 1.04 to 1.1 times as long there, and 4 to 12 are within 4%. */
enum { PACK_AHEAD = 8 };

/* The same of a panel that was packed before: it is read once, from L3, and what processors fetch by themselves ends with a page.
 * (Intel Xeon, one thread, beside b packed on the way: with 16 rows, 16 x 1024 x 1024 takes 0.88 of the time, float64 0.95;
 * 0.88 and 1.02 with 32, 0.95 and 0.93 with 8, 0.97 and 1.07 with none.) */
enum { PANEL_AHEAD = 16 };

/* What a tile does beside its products: nothing; packs b, and fetches what comes of it; fetches what comes of a panel; fetches what
 * comes of other rows. */
typedef enum feed { PLAIN, PACK, FETCH, AHEAD } feed;

/* x + count * step, where nothing is read that is none of x's elements: after a last row, or only to be fetched */
DLC_INLINE const real *after(const real *x, int64_t count, int64_t step)
{
    return (const real *)((uintptr_t)x + (uintptr_t)count * (uintptr_t)step * sizeof *x);
}

/* left and right (rows) += the products of an element of each row of a and a row of b. The first half of the rows of a lies from
 * `upper` on, the others from `lower` on. With PACK, a row of the panel becomes that of b. */
DLC_INLINE void multiply_step(vreal *left, vreal *right, const real *upper, const real *lower, int64_t apart, const real *b,
                              int64_t ldb, real *panel_row, const int rows, const bool wide, const feed feed)
{
    const int half = (rows + 1) / 2;
    const vreal b_left = v_load(b), b_right = wide ? v_load(b + L) : b_left;
    if (feed == PACK || feed == FETCH)
        prefetch_row(after(b, feed == PACK ? PACK_AHEAD : PANEL_AHEAD, ldb), true);
    if (feed == PACK) {
        v_store(panel_row, b_left);
        v_store(panel_row + L, b_right);
    }
    DLC_UNROLL
    for (int i = 0; i < rows; i++) {
        const vreal a_i = v_splat(i < half ? upper[i * apart] : lower[(i - half) * apart]);
        v_add_product(&left[i], a_i, b_left);
        if (wide)
            v_add_product(&right[i], a_i, b_right);
    }
}

/* The lines that a tile fetches one by one, as far as its depth goes. Of c: those that its rows begin in, from top to bottom, then
 * those right of them; beyond its columns that is what the next panels store. Addresses may wrap: they are hints. */
typedef struct lines_ahead {
    uintptr_t line;      /* fetched next */
    uintptr_t end;       /* where the row below the tile begins */
    uintptr_t row_bytes; /* from a row to the next */
    uintptr_t to_top;    /* from below the tile to the next line of its first row */
} lines_ahead;

DLC_INLINE lines_ahead lines_of(const real *c, int64_t ldc, const int rows)
{
    const uintptr_t row_bytes = (uintptr_t)ldc * sizeof(real), bytes = (uintptr_t)rows * row_bytes;
    return (lines_ahead){(uintptr_t)c, (uintptr_t)c + bytes, row_bytes, DLC_ALIGNMENT - bytes};
}

DLC_INLINE lines_ahead lines_apart(const dlc_gemm_ahead *ahead)
{
    return (lines_ahead){(uintptr_t)ahead->first, UINTPTR_MAX, (uintptr_t)ahead->apart, 0};
}

/* One line in the time of four steps, 56 cycles, is less than memory gives: where products are few, the next is fetched with it.
 * (Zen 5, one thread, two builds in turns: 1000000 x 50 transposed times itself takes 0.78 of the time, float64 0.66, x 64 0.88, 20
 * x 300000 x 100 with a transposed 0.82, others of that kind 0.77 to 1.02; three lines take as long as two. In one tile for both
 * kinds of lines, large products take 1% longer.) */
DLC_INLINE void fetch_line(lines_ahead *ahead, const feed feed)
{
    __builtin_prefetch((const void *)ahead->line);
    if (feed == AHEAD)
        __builtin_prefetch((const void *)(ahead->line + DLC_ALIGNMENT));
    ahead->line += ahead->row_bytes;
    if (ahead->line >= ahead->end)
        ahead->line += ahead->to_top;
}

/* Steps of a tile of columns that are written out. With 16 registers and products to be added, four spill (SSE: 1.05 to 1.15 of the
 * time). */
#if defined(__x86_64__) && !defined(__FMA__)
enum { STEPS = 1 };
#else
enum { STEPS = 4 };
#endif

/* Both tiles: c (rows, cols; leading dimension ldc) = or += a (rows, depth) @ b (depth, NR if wide, else L; leading dimension
 * ldb). rows, wide and feed are constants where this is inlined. */

/* Of an a whose rows are contiguous, a_step apart. It ignores `ahead`: with a second loop that fetches, products without it
 * take 2 to 4% longer from 64^3 to 256^3. Unrolled, 16 instead of 20 instructions go with 12 multiply-adds of a tile for AVX2.
 * Two pointers share the row offsets; with one, 14 rows need more of these than x86-64 has registers (95% of the speed instead
 * of 99%). */
DLC_INLINE void strided_tile(real *c, int64_t ldc, const real *a, int64_t a_step, const real *b, int64_t ldb, real *panel,
                             int64_t depth, int64_t cols, bool accumulate, const dlc_gemm_ahead *ahead, const int rows,
                             const bool wide, const feed feed)
{
    (void)ahead;
    vreal left[DLC_MR] = {{0}}, right[DLC_MR] = {{0}};
    const real *upper = a, *lower = rows > 1 ? a + (rows + 1) / 2 * a_step : a;
    if (accumulate || cols < (wide ? NR : L)) /* parts of lines are stored */
        prefetch_rows(c, ldc, rows, wide);
#if DLC_VECTOR_BYTES == 64 /* where four steps a turn are level, and take 0.05 MB more in the library */
#pragma GCC unroll 2
#else
#pragma GCC unroll 4
#endif
    for (int64_t p = 0; p < depth; p++) {
        real *row = feed == PACK ? panel + p * NR : NULL;
        multiply_step(left, right, upper + p, lower + p, a_step, b + p * ldb, ldb, row, rows, wide, feed);
    }
    store_tile(c, ldc, left, right, cols, accumulate, rows, wide);
}

/* Of an a whose columns are contiguous, a_step apart, as in a packed block of rows: there c is large, and may lie in memory. A
 * line of it is fetched every STEPS steps, as a core has fewer line fill buffers than the tile has lines, and what is fetched
 * at once is waited for (ARCHITECTURE.md has what it gains). Where c is near, it costs nothing. With `ahead` those lines take
 * their turn, and none of c is fetched: 128 x 100000 x 256 with a transposed takes 1.03 to 1.05 of the time with c's fetched,
 * and as long with all of its lines fetched at once. */
DLC_INLINE void panel_tile(real *c, int64_t ldc, const real *a, int64_t a_step, const real *b, int64_t ldb, real *panel,
                           int64_t depth, int64_t cols, bool accumulate, const dlc_gemm_ahead *ahead, const int rows,
                           const bool wide, const feed feed)
{
    vreal left[DLC_MR] = {{0}}, right[DLC_MR] = {{0}};
    lines_ahead lines = ahead ? lines_apart(ahead) : lines_of(c, ldc, rows);
    if (accumulate && depth < STEPS * rows) /* too few to fetch a line of every row */
        prefetch_rows(c, ldc, rows, wide);
    /* tiles of a single vector do well without, and take 0.04 MB less */
    const bool is_written_out = wide || feed == AHEAD;
    int64_t p = 0;
    for (; is_written_out && p + STEPS <= depth; p += STEPS) {
        fetch_line(&lines, feed);
        DLC_UNROLL
        for (int step = 0; step < STEPS; step++) {
            real *row = feed == PACK ? panel + (p + step) * NR : NULL;
            multiply_step(left, right, a, a + (rows + 1) / 2, 1, b, ldb, row, rows, wide, feed);
            a = after(a, 1, a_step);
            b = after(b, 1, ldb);
            __asm__("" : "+r"(a), "+r"(b)); /* GCC keeps four pointers to each else, more than there are registers for */
        }
    }
    for (; p < depth; p++) {
        real *row = feed == PACK ? panel + p * NR : NULL;
        multiply_step(left, right, a, a + (rows + 1) / 2, 1, b, ldb, row, rows, wide, feed);
        a = after(a, 1, a_step);
        b = after(b, 1, ldb);
    }
    store_tile(c, ldc, left, right, cols, accumulate, rows, wide);
}

/* Tiles of small products, whose lines are near. Loops are not written out several times: small depths are soon over. (Zen 5,
 * runs of their own: with four steps a turn 10-32-2 in batches of 32 takes 1.06 of the time, 4-32-16-4 as long.) */

/* To each row its bias; NaN stays. */
DLC_INLINE void add_bias(vreal *left, vreal *right, const real *bias, real least, const int rows, const bool wide)
{
    DLC_UNROLL
    for (int i = 0; i < rows; i++) {
        const vreal bias_i = v_splat(bias[i]);
        left[i] = v_at_least(left[i] + bias_i, least);
        if (wide)
            right[i] = v_at_least(right[i] + bias_i, least);
    }
}

DLC_INLINE void biased_body(real *c, int64_t ldc, const real *a, int64_t a_step, const real *b, int64_t ldb, int64_t depth,
                            int64_t cols, const real *bias, real least, const int rows, const bool wide)
{
    vreal left[DLC_MR] = {{0}}, right[DLC_MR] = {{0}};
    for (int64_t p = 0; p < depth; p++) {
        multiply_step(left, right, a, a + (rows + 1) / 2, 1, b, ldb, NULL, rows, wide, PLAIN);
        a = after(a, 1, a_step);
        b = after(b, 1, ldb);
    }
    add_bias(left, right, bias, least, rows, wide);
    store_tile(c, ldc, left, right, cols, false, rows, wide);
}

/* As the instructions of programs compute it (map.c). GCC 12 makes branches of v_select here. */
DLC_INLINE vreal gate(vreal x, const real *y, const bool by_sign)
{
    const vreal gate = v_load(y);
    return by_sign ? (vreal)((vint)x & (gate > 0)) : (1 - gate * gate) * x;
}

DLC_INLINE void gate_rows(vreal *left, vreal *right, const real *y, int64_t ldy, const int rows, const bool wide,
                          const bool by_sign)
{
    DLC_UNROLL
    for (int i = 0; i < rows; i++) {
        left[i] = gate(left[i], y + i * ldy, by_sign);
        if (wide)
            right[i] = gate(right[i], y + i * ldy + L, by_sign);
    }
}

DLC_INLINE void gated_body(real *c, int64_t ldc, const real *a, int64_t a_step, const real *b, int64_t ldb, int64_t depth,
                           const real *y, int64_t ldy, bool by_sign, const int rows, const bool wide)
{
    vreal left[DLC_MR] = {{0}}, right[DLC_MR] = {{0}};
    const real *upper = a, *lower = rows > 1 ? a + (rows + 1) / 2 * a_step : a;
    for (int64_t p = 0; p < depth; p++)
        multiply_step(left, right, upper + p, lower + p, a_step, b + p * ldb, ldb, NULL, rows, wide, PLAIN);
    if (by_sign)
        gate_rows(left, right, y, ldy, rows, wide, true);
    else
        gate_rows(left, right, y, ldy, rows, wide, false);
    store_tile(c, ldc, left, right, wide ? NR : L, false, rows, wide);
}

typedef void tile_function(real *c, int64_t ldc, const real *a, int64_t a_step, const real *b, int64_t ldb, real *panel,
                           int64_t depth, int64_t cols, bool accumulate, const dlc_gemm_ahead *ahead);

#define DLC_TILE(name, body, rows, wide, feed)                                                                           \
    static void name##rows(real *c, int64_t ldc, const real *a, int64_t a_step, const real *b, int64_t ldb, real *panel, \
                           int64_t depth, int64_t cols, bool accumulate, const dlc_gemm_ahead *ahead)                    \
    {                                                                                                                    \
        (void)panel;                                                                                                     \
        body(c, ldc, a, a_step, b, ldb, panel, depth, cols, accumulate, ahead, rows, wide, feed);                        \
    }
#define DLC_BIASED_TILE(name, rows, wide)                                                                                  \
    static void name##rows(real *c, int64_t ldc, const real *a, int64_t a_step, const real *b, int64_t ldb, int64_t depth, \
                           int64_t cols, const real *bias, real least)                                                     \
    {                                                                                                                      \
        biased_body(c, ldc, a, a_step, b, ldb, depth, cols, bias, least, rows, wide);                                      \
    }
#define DLC_GATED_TILE(name, rows, wide)                                                                                   \
    static void name##rows(real *c, int64_t ldc, const real *a, int64_t a_step, const real *b, int64_t ldb, int64_t depth, \
                           const real *y, int64_t ldy, bool by_sign)                                                       \
    {                                                                                                                      \
        gated_body(c, ldc, a, a_step, b, ldb, depth, y, ldy, by_sign, rows, wide);                                         \
    }
#define DLC_TILES(rows)                                        \
    DLC_TILE(wide_panel, panel_tile, rows, true, PLAIN)        \
    DLC_TILE(narrow_panel, panel_tile, rows, false, PLAIN)     \
    DLC_TILE(wide_ahead, panel_tile, rows, true, AHEAD)        \
    DLC_TILE(narrow_ahead, panel_tile, rows, false, AHEAD)     \
    DLC_TILE(wide_strided, strided_tile, rows, true, PLAIN)    \
    DLC_TILE(narrow_strided, strided_tile, rows, false, PLAIN) \
    DLC_TILE(packing_panel, panel_tile, rows, true, PACK)      \
    DLC_TILE(packing_strided, strided_tile, rows, true, PACK)  \
    DLC_TILE(fetching_panel, panel_tile, rows, true, FETCH)    \
    DLC_BIASED_TILE(wide_biased, rows, true)                   \
    DLC_BIASED_TILE(narrow_biased, rows, false)                \
    DLC_GATED_TILE(wide_gated, rows, true)                     \
    DLC_GATED_TILE(narrow_gated, rows, false)
DLC_EACH_ROWS(DLC_TILES)

#define DLC_WIDE_PANEL(rows) wide_panel##rows,
#define DLC_NARROW_PANEL(rows) narrow_panel##rows,
#define DLC_PACKING_PANEL(rows) packing_panel##rows,
#define DLC_WIDE_STRIDED(rows) wide_strided##rows,
#define DLC_NARROW_STRIDED(rows) narrow_strided##rows,
#define DLC_PACKING_STRIDED(rows) packing_strided##rows,
#define DLC_FETCHING_PANEL(rows) fetching_panel##rows,
#define DLC_WIDE_AHEAD(rows) wide_ahead##rows,
#define DLC_NARROW_AHEAD(rows) narrow_ahead##rows,
enum { NARROW, WIDE, NARROW_AHEAD, WIDE_AHEAD, PACKING, FETCHING, KINDS };
/* To fetch b where rows of a are read in place is level (64 x 784 x 256, 32 x 512 x 512). */
static tile_function *const tiles[2][KINDS][DLC_MR] = {
    {{DLC_EACH_ROWS(DLC_NARROW_STRIDED)},
     {DLC_EACH_ROWS(DLC_WIDE_STRIDED)},
     {DLC_EACH_ROWS(DLC_NARROW_STRIDED)},
     {DLC_EACH_ROWS(DLC_WIDE_STRIDED)},
     {DLC_EACH_ROWS(DLC_PACKING_STRIDED)},
     {DLC_EACH_ROWS(DLC_WIDE_STRIDED)}},
    {{DLC_EACH_ROWS(DLC_NARROW_PANEL)},
     {DLC_EACH_ROWS(DLC_WIDE_PANEL)},
     {DLC_EACH_ROWS(DLC_NARROW_AHEAD)},
     {DLC_EACH_ROWS(DLC_WIDE_AHEAD)},
     {DLC_EACH_ROWS(DLC_PACKING_PANEL)},
     {DLC_EACH_ROWS(DLC_FETCHING_PANEL)}},
};

static void tile(void *c, int64_t ldc, const void *a, int64_t a_row, int64_t a_col, const void *b, int64_t ldb,
                 int64_t depth, int64_t rows, int64_t cols, bool accumulate, const dlc_gemm_ahead *ahead)
{
    bool a_rows_adjacent = a_row == 1;
    tile_function *const function = tiles[a_rows_adjacent][(ahead ? NARROW_AHEAD : NARROW) + (cols > L)][rows - 1];
    function(c, ldc, a, a_rows_adjacent ? a_col : a_row, b, ldb, NULL, depth, cols, accumulate, ahead);
}

typedef void biased_function(real *c, int64_t ldc, const real *a, int64_t a_step, const real *b, int64_t ldb, int64_t depth,
                             int64_t cols, const real *bias, real least);
typedef void gated_function(real *c, int64_t ldc, const real *a, int64_t a_step, const real *b, int64_t ldb, int64_t depth,
                            const real *y, int64_t ldy, bool by_sign);

#define DLC_WIDE_BIASED(rows) wide_biased##rows,
#define DLC_NARROW_BIASED(rows) narrow_biased##rows,
#define DLC_NOTHING(rows) -(real)0, /* which added changes no number */
#define DLC_WIDE_GATED(rows) wide_gated##rows,
#define DLC_NARROW_GATED(rows) narrow_gated##rows,

static void biased_tile(void *c, int64_t ldc, const void *a, int64_t a_col, const void *b, int64_t ldb, int64_t depth,
                        int64_t rows, int64_t cols, const void *bias, bool is_rectified)
{
    static biased_function *const functions[2][DLC_MR] = {{DLC_EACH_ROWS(DLC_NARROW_BIASED)}, {DLC_EACH_ROWS(DLC_WIDE_BIASED)}};
    static const real nothing[] = {DLC_EACH_ROWS(DLC_NOTHING)};
    functions[cols > L][rows - 1](c, ldc, a, a_col, b, ldb, depth, cols, bias ? bias : nothing,
                                  is_rectified ? 0 : -(real)INFINITY);
}

static void gated_tile(void *c, int64_t ldc, const void *a, int64_t a_row, const void *b, int64_t ldb, int64_t depth,
                       int64_t rows, int64_t cols, const void *y, int64_t ldy, bool by_sign)
{
    static gated_function *const functions[2][DLC_MR] = {{DLC_EACH_ROWS(DLC_NARROW_GATED)}, {DLC_EACH_ROWS(DLC_WIDE_GATED)}};
    functions[cols > L][rows - 1](c, ldc, a, a_row, b, ldb, depth, y, ldy, by_sign);
}

static void packing_tile(void *c, int64_t ldc, const void *a, int64_t a_row, int64_t a_col, void *panel, const void *b,
                         int64_t ldb, int64_t depth, int64_t rows, bool accumulate, const dlc_gemm_ahead *ahead)
{
    bool a_rows_adjacent = a_row == 1;
    tile_function *const function = tiles[a_rows_adjacent][panel ? PACKING : FETCHING][rows - 1];
    function(c, ldc, a, a_rows_adjacent ? a_col : a_row, b, ldb, panel, depth, NR, accumulate, ahead);
}

/* Panels are written in whole vectors, and so that what runs over the width is overwritten by what belongs there: with a step of
 * the width itself it runs over into the next row of the panel. So depth ascends, and vectors of the width come last to first. */

/* panel (depth, step) from x, adjacent along the depth, which is under L */
static void pack_shallow(real *panel, int64_t step, const real *x, int64_t stride, int64_t width, int64_t depth)
{
    for (int64_t w = (width - 1) / L * L; w >= 0; w -= L) {
        const int64_t rows = width - w;
        const real *in = x + w * stride;
        real *out = panel + w;
        vreal block[L];
        DLC_UNROLL
        for (int i = 0; i < L; i++)
            block[i] = i < rows ? v_load_part(in + i * stride, depth, 0) : (vreal){0};
        v_transpose(block);
        DLC_UNROLL
        for (int p = 0; p < L - 1; p++)
            if (p < depth)
                v_store(out + p * step, block[p]);
    }
}

#if DLC_VECTOR_BYTES == 64

/* panel (depth, step) from x, adjacent along the depth, which is that of one or two quads. (Zen 5, one thread, products with b
 * transposed, builds in turns: 32 x 4 x 256 takes 0.92 of the time, 32 x 6 x 256 0.97, 32 x 8 x 256 as long, float64 32 x 2 x 256
 * 0.92. With AVX2 four steps take 0.99 of the time, and five to seven 1.02.) */
static void pack_quads(real *panel, int64_t step, const real *x, int64_t stride, int64_t width, int64_t depth)
{
    for (int64_t w = (width - 1) / L * L; w >= 0; w -= L) {
        const int64_t rows = width - w;
        for (int64_t p = 0; p < depth; p += QUAD_LANES) {
            const int64_t first = p + QUAD_LANES <= depth ? p : depth - QUAD_LANES; /* the last overlaps the one before it */
            const real *in = x + w * stride + first;
            real *out = panel + first * step + w;
            vreal block[QUAD_LANES];
            DLC_UNROLL
            for (int i = 0; i < QUAD_LANES; i++)
                block[i] = rows >= L ? v_load_quads(in + i * stride, QUAD_LANES * stride, QUADS)
                                     : v_load_quads(in + i * stride, QUAD_LANES * stride, (rows - i + QUAD_LANES - 1) / QUAD_LANES);
            v_transpose_within_quads(block);
            DLC_UNROLL
            for (int i = 0; i < QUAD_LANES; i++)
                v_store(out + i * step, block[i]);
        }
    }
}

#endif

/* panel (depth, step) from x, adjacent along the depth. A vector's worth of its rows is read from end to end before the next: block
 * by block across a panel of two, 128 x 256 x 784 with b transposed takes 1.02 to 1.06 of the time (Zen 5). */
static void pack_transposed(real *panel, int64_t step, const real *x, int64_t stride, int64_t width, int64_t depth)
{
#if DLC_VECTOR_BYTES == 64
    if (depth >= QUAD_LANES && depth <= 2 * QUAD_LANES) {
        pack_quads(panel, step, x, stride, width, depth);
        return;
    }
#endif
    if (depth < L) {
        pack_shallow(panel, step, x, stride, width, depth);
        return;
    }
    for (int64_t w = (width - 1) / L * L; w >= 0; w -= L) {
        const int64_t rows = width - w;
        for (int64_t p = 0; p < depth; p += L) {
            const int64_t first = p + L <= depth ? p : depth - L; /* the last block overlaps the one before it */
            const real *in = x + w * stride + first;
            real *out = panel + first * step + w;
            vreal block[L];
            DLC_UNROLL
            for (int i = 0; i < L; i++)
                block[i] = i < rows ? v_load(in + i * stride) : (vreal){0};
            v_transpose(block);
            DLC_UNROLL
            for (int i = 0; i < L; i++)
                v_store(out + i * step, block[i]);
        }
    }
}

/* panel (depth, step) from x, adjacent along the width */
static void pack_straight(real *panel, int64_t step, const real *x, int64_t stride, int64_t width, int64_t depth)
{
    if (width == NR) {
        for (int64_t p = 0; p < depth; p++, panel += step, x += stride) {
            v_store(panel, v_load(x));
            v_store(panel + L, v_load(x + L));
        }
        return;
    }
    const int64_t whole = width / L * L, rest = width - whole;
    for (int64_t p = 0; p < depth; p++, panel += step, x += stride) {
        for (int64_t w = 0; w < whole; w += L)
            v_store(panel + w, v_load(x + w));
        if (rest > 0)
            v_store(panel + whole, v_load_part(x + whole, rest, 0));
    }
}

static void pack(void *panel, int64_t step, const void *x, int64_t width_stride, int64_t depth_stride, int64_t width,
                 int64_t depth)
{
    const real *in = x;
    real *out = panel;
    if (depth == 0)
        return; /* there may be no memory at x, whatever its strides */
    if (width_stride == 1) {
        pack_straight(out, step, in, depth_stride, width, depth);
    } else if (depth_stride == 1) {
        pack_transposed(out, step, in, width_stride, width, depth);
    } else {
        const int64_t whole = (width + L - 1) / L * L, filled = step < whole ? step : whole;
        for (int64_t p = 0; p < depth; p++, in += depth_stride, out += step) {
            for (int64_t w = 0; w < width; w++)
                out[w] = in[w * width_stride];
            for (int64_t w = width; w < filled; w++)
                out[w] = 0;
        }
    }
}

static void sum_parts(void *c, int64_t ldc, const void *parts, int64_t ldp, int64_t part_stride, int64_t count,
                      int64_t rows, int64_t cols, bool accumulate)
{
    for (int64_t i = 0; i < rows; i++) {
        real *out = (real *)c + i * ldc;
        const real *part = (const real *)parts + i * ldp;
        int64_t j = 0;
        for (; j + L <= cols; j += L) {
            vreal sum = v_load(part + j);
            for (int64_t s = 1; s < count; s++)
                sum += v_load(part + s * part_stride + j);
            v_store(out + j, accumulate ? v_load(out + j) + sum : sum);
        }
        for (; j < cols; j++) {
            real sum = part[j];
            for (int64_t s = 1; s < count; s++)
                sum += part[s * part_stride + j];
            out[j] = accumulate ? out[j] + sum : sum;
        }
    }
}

#if DLC_VECTOR_BYTES > 16

static void turn(void *c, int64_t ldc, const void *x, int64_t ldx, int64_t rows, int64_t cols, bool accumulate)
{
    const real *in = x;
    for (int64_t first = 0; first < rows; first += L) {
        const int64_t count = rows - first < L ? rows - first : L;
        real *out = (real *)c + first * ldc;
        vreal block[L];
        DLC_UNROLL
        for (int j = 0; j < L; j++)
            block[j] = j < cols ? v_load_lanes(in + j * ldx + first, count, 0) : (vreal){0};
        v_transpose(block);
        DLC_UNROLL
        for (int i = 0; i < L; i++, out += ldc)
            if (i < count)
                v_store_part(out, accumulate ? v_load_part(out, cols, 0) + block[i] : block[i], cols);
    }
}

#else /* parts of vectors are stored lane by lane, which takes longer */

static void turn(void *c, int64_t ldc, const void *x, int64_t ldx, int64_t rows, int64_t cols, bool accumulate)
{
    real *out = c;
    const real *in = x;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < cols; j++) {
            const real value = in[j * ldx + i];
            out[i * ldc + j] = accumulate ? out[i * ldc + j] + value : value;
        }
}

#endif

/* By blocks of columns, whose rows are lines of the mirror image that stay in L1. */
static void mirror(void *c, int64_t ldc, int64_t begin, int64_t end, int64_t n)
{
    enum { BLOCK = 64 };
    real *x = c;
    for (int64_t first = begin; first < n; first += BLOCK) {
        const int64_t last = first + BLOCK < n ? first + BLOCK : n;
        for (int64_t i = begin; i < end; i++)
            for (int64_t j = i + 1 > first ? i + 1 : first; j < last; j++)
                x[i * ldc + j] = x[j * ldc + i];
    }
}

const dlc_gemm_kernels DLC_NAME(dlc_gemm_kernels) = {
    .mr = DLC_MR,
    .nr = NR,
    .lanes = L,
    .mc = MC,
    .kc = KC,
    .panels = PANELS,
    .steps_per_line = STEPS,
    .nc = 8 * NR, /* the block that a fused store works on is still in L2 */
    .tile = tile,
    .biased_tile = biased_tile,
    .gated_tile = gated_tile,
    .packing_tile = packing_tile,
    .pack = pack,
    .pack_a = pack,
    .sum_parts = sum_parts,
    .turn = turn,
    .mirror = mirror,
    .vector_matrix = DLC_NAME(dlc_vector_matrix),
    .few_rows = DLC_NAME(dlc_few_rows),
    .few = FEW_ROWS,
    .sums = SUMS,
    .sums_apart = SUMS_APART,
    .matrix_vector = DLC_NAME(dlc_matrix_vector),
    .dots = DLC_NAME(dlc_dots),
    .sum_columns = DLC_NAME(dlc_sum_columns),
};
