/* The kernel table: what an instruction set provides. Everything above (gemm, map, plan, ops) calls
 * kernels through it and knows no ISA.
 *
 * Kernels for float32 and float64 have the same signature with void pointers; the sources are compiled
 * once per ISA and dtype. Sizes may be 0. Pointers are aligned to their element only. An output may be
 * one of the inputs exactly; any other overlap is the caller's error. */
#ifndef DLC_CPU_KERNELS_H
#define DLC_CPU_KERNELS_H

#include <stdbool.h>
#include <stdint.h>

#include "cpu/steps.h"
#include "dlcore.h"
#include "map/map_ops.h"

/* out[i] = op(a[i], b[i], c[i]) for i < n; inputs beyond the op's arity are not looked at. numbers: which inputs are one
 * number for all i: DLC_MAP_A, DLC_MAP_B, ..., of those that map/program.c offers the op. */
typedef void dlc_map_kernel(void *out, const void *a, const void *b, const void *c, int64_t n, unsigned numbers);

/* out[i] = in[i * stride] as the table's real type. */
typedef void dlc_convert_kernel(void *out, const void *in, int64_t stride, int64_t n);

/* Of a row of a panel of b: two vectors. */
#define DLC_GEMM_MAX_NR_BYTES 128

/* Memory that a tile of an a whose rows are adjacent fetches, as a hint: a line every `apart` bytes, one for each steps_per_line of
 * its depth, and if it does not pack b the line behind each. Of pairs, lines that lie one behind the other. */
typedef struct dlc_gemm_ahead {
    const void *first;
    int64_t apart;
} dlc_gemm_ahead;

/* Register-tiled product and what feeds it. A tile of c is at most mr x nr; nr is two vectors of `lanes` elements. mc, kc and
 * nc are the cache blocks; mc and nc are multiples of mr and nr. `panels` of b are kept packed at a
 * time, of a depth of kc; of a smaller one as many as take the same memory. */
typedef struct dlc_gemm_kernels {
    /* Packed elements are pairs along the depth. Then all of a and b is packed, tile counts its depth in pairs and takes rows
     * of a as pack_a leaves them, kc is a multiple of 32, and there is neither packing_tile nor a product with a vector or of few
     * rows nor dots nor turn nor sum_columns, nor a biased or gated tile. */
    bool packs_pairs;
    int64_t pairs_multiple; /* 16 at most: panels are filled up with 0 to a multiple of it, and tiles take multiples */
    int64_t mr, nr, lanes, mc, kc, nc, panels;
    int64_t steps_per_line; /* 0: nothing is fetched; with packs_pairs only panels of a packed b are */
    int64_t part_depth;     /* with packs_pairs: of a panel of b what stays in L1 while all tiles take it; 0: all */

    /* c (rows, cols; leading dimension ldc) = or += a (rows, depth) @ b (depth, cols), 0 < rows <= mr, 0 < cols <= nr.
     * a_row or a_col is 1. b has unit column stride and is read up to the next multiple of lanes: all of it when cols is
     * one, a packed panel otherwise. ahead may be NULL. */
    void (*tile)(void *c, int64_t ldc, const void *a, int64_t a_row, int64_t a_col, const void *b, int64_t ldb,
                 int64_t depth, int64_t rows, int64_t cols, bool accumulate, const dlc_gemm_ahead *ahead);
    /* The same as tile for an a of contiguous columns, a_col apart: c = a @ b + bias[i] in row i, of that no less than 0 if
     * rectified. bias may be NULL: there is none. Its loop is not written out, as suits small depths. */
    void (*biased_tile)(void *c, int64_t ldc, const void *a, int64_t a_col, const void *b, int64_t ldb, int64_t depth,
                        int64_t rows, int64_t cols, const void *bias, bool is_rectified);
    /* The same for an a of contiguous rows, a_row apart, and cols of lanes or nr: c = a @ b, by_sign where y > 0, and else 0, or
     * times 1 - y^2. y (rows, cols) has the leading dimension ldy. */
    void (*gated_tile)(void *c, int64_t ldc, const void *a, int64_t a_row, const void *b, int64_t ldb, int64_t depth,
                       int64_t rows, int64_t cols, const void *y, int64_t ldy, bool by_sign);
    /* The same as tile with nr columns, which are packed into panel (depth, nr; its leading dimension is nr) on the way, or with
     * a panel of NULL are fetched ahead where that gains: b is a packed panel, and may be far away. */
    void (*packing_tile)(void *c, int64_t ldc, const void *a, int64_t a_row, int64_t a_col, void *panel, const void *b,
                         int64_t ldb, int64_t depth, int64_t rows, bool accumulate, const dlc_gemm_ahead *ahead);
    /* panel[p * step + w] = x[w * width_stride + p * depth_stride] for w < width and p < depth; rows of a and columns of b are
     * packed alike. A step of width rounded up to a multiple of lanes is filled up with 0 (columns of b: ldb == step); a
     * step of width leaves no gaps (rows of a: a_row == 1, a_col == step), but up to lanes - 1 elements after the panel
     * are overwritten. Of a width that is a multiple of lanes, the step may be any larger number, and what lies between the rows
     * of the panel is not written. What lies between the rows of x may be read, but nothing before its first or after its last
     * element.
     * With packs_pairs an element of the panel is a pair along the depth, it has half as many rows, filled up to a multiple of
     * pairs_multiple, and no larger step. */
    void (*pack)(void *panel, int64_t step, const void *x, int64_t width_stride, int64_t depth_stride, int64_t width,
                 int64_t depth);
    /* The same for rows of a, with a step of the width and what that overwrites. Where it is not pack, the panel has a layout of
     * its own. */
    void (*pack_a)(void *panel, int64_t step, const void *x, int64_t width_stride, int64_t depth_stride, int64_t width,
                   int64_t depth);
    /* NULL, or what a thread that has called tile calls before anything else may run on it: registers are given back. */
    void (*end)(void);
    /* c (rows, cols; leading dimension ldc) = or += the sum of `count` parts, in order; element (i, j) of part s is
     * parts[s * part_stride + i * ldp + j] */
    void (*sum_parts)(void *c, int64_t ldc, const void *parts, int64_t ldp, int64_t part_stride, int64_t count,
                      int64_t rows, int64_t cols, bool accumulate);

    /* c (rows, cols; leading dimension ldc) = or += x (cols, rows; leading dimension ldx) transposed; cols < lanes */
    void (*turn)(void *c, int64_t ldc, const void *x, int64_t ldx, int64_t rows, int64_t cols, bool accumulate);

    /* Of rows [begin, end) of c (n, n; leading dimension ldc), what lies right of the diagonal becomes what mirrors it. */
    void (*mirror)(void *c, int64_t ldc, int64_t begin, int64_t end, int64_t n);

    /* y (n; contiguous) = or += x (k; stride x_stride) @ b (k, n; leading dimension ldb) */
    void (*vector_matrix)(void *y, const void *x, int64_t x_stride, const void *b, int64_t ldb, int64_t k,
                          int64_t n, bool accumulate);
    /* y (m, n; leading dimension sums_apart) = x (m, k; strides x_row and x_col) @ b (k, n; leading dimension ldb) for 1 < m <= few
     * and n <= sums, going through the rows of b in order. An element is what a tile makes it. */
    void (*few_rows)(void *y, const void *x, int64_t x_row, int64_t x_col, const void *b, int64_t ldb, int64_t m, int64_t k,
                     int64_t n);
    int64_t few, sums, sums_apart;
    /* y (m; stride y_stride) = or += a (m, k; leading dimension lda) @ x (k; contiguous) */
    void (*matrix_vector)(void *y, int64_t y_stride, const void *a, int64_t lda, const void *x, int64_t m,
                          int64_t k, bool accumulate);
    /* c (m, n; strides c_row and c_col, one of which is 1) = or += a (m, k; leading dimension lda) @ b^T for b (n, k; leading
     * dimension ldb), both contiguous along k; m and n are not 0. An element is the same wherever it stands. */
    void (*dots)(void *c, int64_t c_row, int64_t c_col, const void *a, int64_t lda, const void *b, int64_t ldb, int64_t m,
                 int64_t n, int64_t k, bool accumulate);
    /* sums (n; contiguous) = or += the sum of each column of b (k, n), of whose strides one is 1, or of n = 1 columns. A sum is
     * the same wherever its column stands. */
    void (*sum_columns)(void *sums, const void *b, int64_t b_row, int64_t b_col, int64_t k, int64_t n, bool accumulate);
} dlc_gemm_kernels;

/* Loops at a limit of the machine, which benches measure other kernels against. Their results only keep compilers from
 * dropping the work. */
typedef struct dlc_probe_kernels {
    int64_t flops_per_repeat;               /* of multiply_add, two per multiply-add */
    double (*multiply_add)(int64_t repeats); /* chains of multiply-adds that touch registers only */
    void (*copy)(void *out, const void *in, int64_t n);
    void (*copy_streaming)(void *out, const void *in, int64_t n); /* by stores that go past the caches */
    uint64_t (*read)(const void *in, int64_t n);                  /* the bits that any element has */
    /* reads [first, first + n) of n_read arrays and writes it in the first n_written of them; n is a multiple of
     * DLC_PROBE_GRAIN bytes */
    void (*update)(void *const *arrays, int n_read, int n_written, int64_t first, int64_t n);
} dlc_probe_kernels;
#define DLC_PROBE_GRAIN 512

#define DLC_RANDOM_WORDS 256

typedef struct dlc_real_kernels {
    /* pointers, as each is defined in a file of its own */
    const dlc_gemm_kernels *gemm;
    dlc_map_kernel *const *map;         /* [DLC_MAP_OP_COUNT], by operation */
    dlc_convert_kernel *const *convert; /* [DLC_DTYPE_COUNT], by source dtype */
    dlc_step_kernel *const *step;       /* [DLC_STEP_COUNT], by kind */
    const dlc_probe_kernels *probe;

    void (*fill)(void *out, double value, int64_t n); /* out (n) = value */
    /* out (rows, cols) = in; leading dimensions ld_out, ld_in */
    void (*copy_rows)(void *out, int64_t ld_out, const void *in, int64_t ld_in, int64_t rows, int64_t cols);
    /* Row r of out (rows, cols) = values[r * stride]. With a stride of 1 the values may be the last of out: no row then lies
     * over a value that is still to be read. */
    void (*fill_rows)(void *out, const void *values, int64_t stride, int64_t rows, int64_t cols);
    /* Row r of out (rows, cols) = that of x, which may be out, + values[r * stride] */
    void (*add_to_rows)(void *out, const void *x, const void *values, int64_t stride, int64_t rows, int64_t cols);
    /* out (n) = in (n), past the caches. A thread that has streamed calls stream_end before it tells another one so. */
    void (*stream)(void *out, const void *in, int64_t n);
    void (*stream_end)(void);
    /* x (n): sum in lanes, added up in double; max and min pass NaN on; n == 0 gives 0, -inf, +inf. */
    double (*sum)(const void *x, int64_t n);
    double (*max)(const void *x, int64_t n);
    double (*min)(const void *x, int64_t n);
    /* sums (rows; stride step) += the sum of each row of x (rows, cols; leading dimension ld), as `sum` computes it */
    void (*sum_each)(double *sums, int64_t step, const void *x, int64_t ld, int64_t rows, int64_t cols);
    /* accumulator (cols) = op(accumulator, every row of x (rows, cols; leading dimension ld)) */
    void (*sum_rows)(void *accumulator, const void *x, int64_t ld, int64_t rows, int64_t cols);
    void (*max_rows)(void *accumulator, const void *x, int64_t ld, int64_t rows, int64_t cols);
    void (*min_rows)(void *accumulator, const void *x, int64_t ld, int64_t rows, int64_t cols);

    /* out (rows, cols) = softmax or log_softmax of each row of x; leading dimensions ld_out, ld_x */
    void (*softmax)(void *out, int64_t ld_out, const void *x, int64_t ld_x, int64_t rows, int64_t cols);
    void (*log_softmax)(void *out, int64_t ld_out, const void *x, int64_t ld_x, int64_t rows, int64_t cols);
    /* Per row of logits z (cols): loss = -sum_j t_j log softmax(z)_j; grad = (softmax(z) * sum_j t_j - t) * scale.
     * t is one-hot at labels[i] (already range-checked), or the row of targets where labels is NULL. loss (rows) or
     * grad may be NULL; scale is read at i * scale_stride and 1 where NULL. */
    void (*softmax_loss)(void *loss, void *grad, int64_t ld_grad, const void *z, int64_t ld_z,
                         const int64_t *labels, const void *targets, int64_t ld_targets, const void *scale,
                         int64_t scale_stride, int64_t rows, int64_t cols);
    /* The same of logits z (cols, rows) and grad (cols, rows) that are transposed, with labels. */
    void (*softmax_loss_transposed)(void *loss, void *grad, int64_t ld_grad, const void *z, int64_t ld_z,
                                    const int64_t *labels, const void *scale, int64_t scale_stride, int64_t rows,
                                    int64_t cols);

    /* words (DLC_RANDOM_WORDS): those of a stream from a block of four on, whatever a real is */
    void (*random_words)(uint32_t *words, uint64_t seed, uint32_t stream, uint64_t step, uint32_t block);
    /* numbers (DLC_RANDOM_WORDS / 2): of pair i of words, low half first, its product with bound - i, divided by 2^64. False where
     * any remainder is below 2^32, and the number may be one that is to be rejected. bound >= DLC_RANDOM_WORDS / 2 */
    bool (*numbers_below)(uint64_t *numbers, const uint32_t *words, uint32_t bound);
    /* Elements [first, first + n) of the random array keyed by (seed, stream, step); see kernels/rng.c.
     * uniform: in [0, 1). normal: standard normal. keep_mask: 1 / keep with probability keep, else 0. */
    void (*uniform)(void *out, uint64_t seed, uint32_t stream, uint64_t step, int64_t first, int64_t n);
    void (*normal)(void *out, uint64_t seed, uint32_t stream, uint64_t step, int64_t first, int64_t n);
    void (*keep_mask)(void *out, double keep, uint64_t seed, uint32_t stream, uint64_t step, int64_t first,
                      int64_t n);
} dlc_real_kernels;

/* Products of float32 arrays whose elements are rounded to bfloat16; sums are float32. */
typedef struct dlc_bfloat16_kernels {
    /* "emulated", "native" (by an instruction; whether that outruns float32 depends on the CPU: bench/README.md) or "amx" */
    const char *kind;
    const dlc_gemm_kernels *gemm;
    int64_t flops_per_repeat;       /* of dot, two per multiply-add */
    double (*dot)(int64_t repeats); /* chains of the multiply-adds of tiles that touch registers only */
} dlc_bfloat16_kernels;

typedef struct dlc_kernels {
    const char *isa;
    const dlc_real_kernels *real[DLC_REAL_COUNT];
    const dlc_bfloat16_kernels *bfloat16;
    const dlc_bfloat16_kernels *amx; /* NULL, or what takes their place if the system lets this process use AMX */
} dlc_kernels;

/* The table in use, chosen at the first call; see cpu/dispatch.c. */
dlc_status dlc_kernels_get(const dlc_kernels **kernels);

/* Those in use for bfloat16, likewise. Where the CPU has AMX, the first call asks the operating system for its registers, which
 * makes the stacks larger that handlers of signals need: so it is not asked before. DLCORE_ISA names an ISA without it. */
dlc_status dlc_bfloat16_kernels_get(const dlc_bfloat16_kernels **kernels);

#endif
