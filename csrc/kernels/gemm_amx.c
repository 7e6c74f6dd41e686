/* Matrix products of float32 that is rounded to bfloat16 as it is packed, by the matrix registers of AMX (Intel's Xeons from
 * Sapphire Rapids on), here called squares: 16 rows of 64 bytes. One instruction multiplies a square of a, 16 rows by 16 pairs,
 * with one of b, 16 pairs by 16 columns. A tile has two by two of them, which hide the instruction's latency and load each
 * operand for two.
 *
 * Panels of b are those of gemm_bfloat16.c, filled up with 0 to whole squares. Those of a lie square by square, in each row by
 * row. An element of c is one chain over the squares, in order, whatever tile holds it. Within a square the first
 * and the second elements of pairs are added up apart and then to c, so that bits differ from those of vectors; subnormals are
 * taken for 0 (Intel's Intrinsics Guide, _tile_dpbf16ps). */
#include <immintrin.h>

#include "kernels/bfloat16_kernels.h"
#include "kernels/gemm_kernels.h"
#include "kernels/gemm_tile.h"

enum { SIDE = 16, ROW_BYTES = 64, AMX_MR = 2 * SIDE };

/* A block of a takes 512 KB of L2, a panel of b 64 KB. With blocks of twice the rows 1024^3 and 2048^3 take 1.2 to 1.3 times as
 * long.
 *
 * This and what follows was measured on an Intel Xeon, one thread, b packed, two builds in turns. Beside tiles without parts and
 * fetches 512^3 takes 0.84 of the time, 1024^3 0.74, 2048^3 0.89, 1000 x 900 x 1000 0.57, 128 x 784 x 256 0.85. */
enum { AMX_MC = 8 * AMX_MR };

/* So many pairs of a panel of b, 40 KB, stay in L1 while all tiles of a block take them. Rows of a come past them from L2, by the
 * hint that they are not kept, without which they push the others out. (A loop of tiles on data in L2 went from 0.58 of the rate of
 * AMX in registers to 0.74, with depths of 512 or 640; by the hint alone, of panels that exceed L1, to 0.56.) */
enum { AMX_PART_DEPTH = 320 };

/* Beside each square a tile fetches rows of c, which it is going to store (0.73 to 0.85 of the time; with four rows 1.06 times as
 * long), up to three lines of each, as rows of NumPy's arrays begin within one: 512^3 takes 0.89 of the time that it does with two,
 * 1000 x 900 x 1000 0.73. And lines of the panel of b that comes next, where b is packed and does not stay in L2: 512 x 2048 x 2048
 * 0.9; where b does, it would take 1.1 times as long. */
enum { ROWS_BETWEEN = 2, LINES_BETWEEN = 4 };

/* The registers: macros, as intrinsics take their numbers literally */
#define UPPER_LEFT 0
#define UPPER_RIGHT 1
#define LOWER_LEFT 2
#define LOWER_RIGHT 3
#define A_UPPER 4
#define A_LOWER 5
#define B_LEFT 6
#define B_RIGHT 7

/* All that was written is in memory: GCC 12's intrinsics do not say what they read of it. */
#define DLC_IN_MEMORY(address) __asm__ volatile("" : : "r"(address) : "memory")

/* What ldtilecfg reads */
typedef struct configuration {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} configuration;

/* The rows of the tiles that the registers are configured for; 0: none. To configure takes 50 ns and waits for the tile before:
 * neighbours that are as high share it, so that it is done once or twice a part of a panel. */
static _Thread_local int64_t configured_rows;

static void configure(int64_t rows)
{
    if (rows == configured_rows)
        return;
    const uint8_t upper = (uint8_t)(rows < SIDE ? rows : SIDE), lower = (uint8_t)(rows > SIDE ? rows - SIDE : SIDE);
    const configuration chosen = {
        .palette = 1,
        .row_bytes = {ROW_BYTES, ROW_BYTES, ROW_BYTES, ROW_BYTES, ROW_BYTES, ROW_BYTES, ROW_BYTES, ROW_BYTES},
        .rows = {[UPPER_LEFT] = upper, [UPPER_RIGHT] = upper, [LOWER_LEFT] = lower, [LOWER_RIGHT] = lower,
                 [A_UPPER] = upper, [A_LOWER] = lower, [B_LEFT] = SIDE, [B_RIGHT] = SIDE},
    };
    DLC_IN_MEMORY(&chosen);
    _tile_loadconfig(&chosen);
    configured_rows = rows;
}

/* While registers are in use, the operating system saves their 8 KB with a thread. */
static void release(void)
{
    if (configured_rows > 0)
        _tile_release();
    configured_rows = 0;
}

DLC_INLINE void clear_squares(const bool tall, const bool wide)
{
    _tile_zero(UPPER_LEFT);
    if (wide)
        _tile_zero(UPPER_RIGHT);
    if (tall)
        _tile_zero(LOWER_LEFT);
    if (tall && wide)
        _tile_zero(LOWER_RIGHT);
}

/* The squares of c += those of a (rows, 16 pairs; contiguous) times those of b (16, leading dimension ldb) */
DLC_INLINE void multiply_squares(const int32_t *a, const int32_t *b, int64_t ldb, const bool tall, const bool wide)
{
    const int64_t b_bytes = ldb * (int64_t)sizeof *b;
    _tile_loadd(B_LEFT, b, b_bytes);
    _tile_stream_loadd(A_UPPER, a, ROW_BYTES);
    _tile_dpbf16ps(UPPER_LEFT, A_UPPER, B_LEFT);
    if (wide) {
        _tile_loadd(B_RIGHT, b + L, b_bytes);
        _tile_dpbf16ps(UPPER_RIGHT, A_UPPER, B_RIGHT);
    }
    if (tall) {
        _tile_stream_loadd(A_LOWER, a + SIDE * SIDE, ROW_BYTES);
        _tile_dpbf16ps(LOWER_LEFT, A_LOWER, B_LEFT);
        if (wide)
            _tile_dpbf16ps(LOWER_RIGHT, A_LOWER, B_RIGHT);
    }
}

/* The squares of c = from (rows, leading dimension ld) */
DLC_INLINE void load_squares(const real *from, int64_t ld, const bool tall, const bool wide)
{
    const int64_t bytes = ld * (int64_t)sizeof *from;
    _tile_loadd(UPPER_LEFT, from, bytes);
    if (wide)
        _tile_loadd(UPPER_RIGHT, from + L, bytes);
    if (tall) {
        _tile_loadd(LOWER_LEFT, from + SIDE * ld, bytes);
        if (wide)
            _tile_loadd(LOWER_RIGHT, from + SIDE * ld + L, bytes);
    }
}

/* to (rows, leading dimension ld) = the squares of c */
DLC_INLINE void store_squares(real *to, int64_t ld, const bool tall, const bool wide)
{
    const int64_t bytes = ld * (int64_t)sizeof *to;
    _tile_stored(UPPER_LEFT, to, bytes);
    if (wide)
        _tile_stored(UPPER_RIGHT, to + L, bytes);
    if (tall) {
        _tile_stored(LOWER_LEFT, to + SIDE * ld, bytes);
        if (wide)
            _tile_stored(LOWER_RIGHT, to + SIDE * ld + L, bytes);
    }
}

/* to (rows, cols) = from (rows, cols), cols < NR */
static void copy_columns(real *to, int64_t ld_to, const real *from, int64_t ld_from, int64_t rows, int64_t cols)
{
    for (int64_t i = 0; i < rows; i++)
        copy_few(to + i * ld_to, from + i * ld_from, cols);
}

/* The sums of a tile begin with c, or with 0. */
DLC_INLINE void begin_squares(const real *c, int64_t ldc, bool accumulate, const bool tall, const bool wide)
{
    if (accumulate) {
        DLC_IN_MEMORY(c);
        load_squares(c, ldc, tall, wide);
    } else {
        clear_squares(tall, wide);
    }
}

/* What a tile has still to fetch: addresses, which are hints */
typedef struct fetches {
    uintptr_t row, end, row_bytes; /* of c, and where they end */
    uintptr_t line;                /* 0: none */
} fetches;

DLC_INLINE void fetch_some(fetches *next, const bool wide)
{
    for (int i = 0; i < ROWS_BETWEEN && next->row < next->end; i++, next->row += next->row_bytes) {
        __builtin_prefetch((const void *)next->row);
        if (wide)
            __builtin_prefetch((const void *)(next->row + ROW_BYTES));
        __builtin_prefetch((const void *)(next->row + (wide ? 2 : 1) * ROW_BYTES - 1)); /* it may begin within a line */
    }
    for (int i = 0; i < LINES_BETWEEN && next->line; i++, next->line += DLC_ALIGNMENT)
        __builtin_prefetch((const void *)next->line, 0, 2);
}

/* Where c has fewer columns than squares have, they stand in a copy of it. */
DLC_INLINE void tile_body(real *c, int64_t ldc, const int32_t *a, const int32_t *b, int64_t ldb, int64_t depth, int64_t rows,
                          int64_t cols, bool accumulate, const dlc_gemm_ahead *ahead, const bool tall, const bool wide)
{
    _Alignas(ROW_BYTES) real copy[AMX_MR * NR];
    const bool is_part = cols % L != 0;
    real *whole = is_part ? copy : c;
    const int64_t ld = is_part ? NR : ldc;
    if (is_part && accumulate)
        copy_columns(copy, NR, c, ldc, rows, cols);
    configure(rows);
    begin_squares(whole, ld, accumulate, tall, wide);
    DLC_IN_MEMORY(a);
    DLC_IN_MEMORY(b);
    const uintptr_t row_bytes = (uintptr_t)ldc * sizeof *c;
    fetches next = {(uintptr_t)c, (uintptr_t)c + (uintptr_t)rows * row_bytes, row_bytes, ahead ? (uintptr_t)ahead->first : 0};
    for (int64_t p = 0; p < depth; p += SIDE) {
        multiply_squares(a + p * rows, b + p * ldb, ldb, tall, wide);
        fetch_some(&next, wide);
    }
    store_squares(whole, ld, tall, wide);
    if (is_part)
        copy_columns(c, ldc, copy, NR, rows, cols);
}

static void tile(void *c, int64_t ldc, const void *a, int64_t a_row, int64_t a_col, const void *b, int64_t ldb,
                 int64_t depth, int64_t rows, int64_t cols, bool accumulate, const dlc_gemm_ahead *ahead)
{
    (void)a_row;
    (void)a_col;
    if (rows > SIDE && cols > L)
        tile_body(c, ldc, a, b, ldb, depth, rows, cols, accumulate, ahead, true, true);
    else if (rows > SIDE)
        tile_body(c, ldc, a, b, ldb, depth, rows, cols, accumulate, ahead, true, false);
    else if (cols > L)
        tile_body(c, ldc, a, b, ldb, depth, rows, cols, accumulate, ahead, false, true);
    else
        tile_body(c, ldc, a, b, ldb, depth, rows, cols, accumulate, ahead, false, false);
}

static void pack_b(void *panel, int64_t step, const void *x, int64_t width_stride, int64_t depth_stride, int64_t width,
                   int64_t depth)
{
    const int64_t pairs = (depth + 1) / 2, beyond = -pairs & (SIDE - 1);
    DLC_BFLOAT16_NAME(dlc_gemm_bfloat16).pack(panel, step, x, width_stride, depth_stride, width, depth);
    memset((int32_t *)panel + pairs * step, 0, (size_t)(beyond * step) * sizeof(int32_t));
}

/* The squares of a panel. Rows whose elements do not lie along the depth are brought together as float32 first. */
static void pack_a(void *panel, int64_t step, const void *x, int64_t width_stride, int64_t depth_stride, int64_t width,
                   int64_t depth)
{
    (void)step;
    real staged[AMX_MR * 2 * SIDE];
    int32_t *square = panel;
    for (int64_t p = 0; p < depth; p += 2 * SIDE) {
        const int64_t few = dlc_min64(depth - p, 2 * SIDE);
        const real *rows = (const real *)x + p * depth_stride;
        int64_t apart = width_stride;
        if (depth_stride != 1) {
            apart = (few + L - 1) / L * L;
            DLC_NAME(dlc_gemm_kernels).pack(staged, apart, rows, depth_stride, width_stride, few, width);
            rows = staged;
        }
        for (int64_t w = 0; w < width; w++, square += SIDE)
            round_row(square, rows + w * apart, few);
    }
}

static const dlc_gemm_kernels gemm = {
    .packs_pairs = true,
    .pairs_multiple = SIDE,
    .mr = AMX_MR,
    .nr = NR,
    .lanes = L,
    .mc = AMX_MC,
    .kc = PAIRS_KC,
    .panels = PAIRS_PANELS,
    .part_depth = AMX_PART_DEPTH,
    .steps_per_line = SIDE / LINES_BETWEEN,
    .nc = 8 * NR,
    .tile = tile,
    .pack = pack_b,
    .pack_a = pack_a,
    .sum_parts = sum_float32_parts,
    .mirror = mirror_float32,
    .end = release,
};

/* Two by two squares in registers, as in a tile: 1 and -1 times 1 and 0.5, in which each pair adds a half */
static double dot(int64_t repeats)
{
    _Alignas(ROW_BYTES) int32_t a[SIDE * SIDE], b[SIDE * SIDE];
    _Alignas(ROW_BYTES) real sums[4 * SIDE * L];
    for (int i = 0; i < SIDE * SIDE; i++) {
        a[i] = 0x3f80bf80;
        b[i] = 0x3f803f00;
    }
    DLC_IN_MEMORY(a);
    DLC_IN_MEMORY(b);
    configure(AMX_MR);
    clear_squares(true, true);
    _tile_loadd(A_UPPER, a, ROW_BYTES);
    _tile_loadd(A_LOWER, a, ROW_BYTES);
    _tile_loadd(B_LEFT, b, ROW_BYTES);
    _tile_loadd(B_RIGHT, b, ROW_BYTES);
    for (int64_t repeat = 0; repeat < repeats; repeat++) {
        _tile_dpbf16ps(UPPER_LEFT, A_UPPER, B_LEFT);
        _tile_dpbf16ps(UPPER_RIGHT, A_UPPER, B_RIGHT);
        _tile_dpbf16ps(LOWER_LEFT, A_LOWER, B_LEFT);
        _tile_dpbf16ps(LOWER_RIGHT, A_LOWER, B_RIGHT);
    }
    store_squares(sums, NR, true, true);
    release();
    double total = 0;
    for (int i = 0; i < 4 * SIDE * L; i++)
        total += (double)sums[i];
    return total;
}

/* Only for threads of a process that dlc_cpu_enable_amx has let use AMX. */
extern const dlc_bfloat16_kernels DLC_NAME(dlc_bfloat16_kernels_amx);

const dlc_bfloat16_kernels DLC_NAME(dlc_bfloat16_kernels_amx) = {
    .kind = "amx",
    .gemm = &gemm,
    .flops_per_repeat = 4 * SIDE * SIDE * SIDE * 4, /* squares, rows, columns, pairs, operations */
    .dot = dot,
};
