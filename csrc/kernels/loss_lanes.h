/* Softmax and cross-entropy of a vector of rows, whose elements of one column lie side by side or are brought there; see loss.c. */
#ifndef DLC_KERNELS_LOSS_LANES_H
#define DLC_KERNELS_LOSS_LANES_H

#include "kernels/loss_row.h"
#include "kernels/transpose.h"

/* Logits of a vector of rows, those of a column side by side, a leading dimension after those of the column before: as many rows
 * fill a vector where a row itself would not. */
typedef struct loss_lanes {
    const real *z;
    int64_t ld, cols;
    int64_t lanes; /* how many of a vector's are rows; the last vector may have fewer */
} loss_lanes;

static vreal max_of_lanes(const loss_lanes *x, bool *near)
{
    vreal max = v_splat(MINUS_INFINITY), min = -max;
    for (int64_t j = 0; j < x->cols; j++) {
        const vreal z = v_load_lanes(x->z + j * x->ld, x->lanes, 0);
        max = v_larger(z, max);
        min = v_smaller(z, min);
    }
    *near = ASKS_FOR_NEAR && !v_any(~(max - min <= DLC_NEAR)); /* which a NaN is not, either */
    return max;
}

/* The sum of n columns, or of L if there are more, in the order in which the lanes of a vector are folded */
static inline vreal fold_columns(vreal sums[L], int64_t n)
{
    n = n < L ? n : L;
    for (int64_t half = L / 2; half > 0; half /= 2)
        for (int64_t i = 0; i < half && i + half < n; i++)
            sums[i] += sums[i + half];
    return sums[0];
}

/* The sum of columns [begin, end), one at least, of exp(z_j - max) of each lane, in the order in which sum_exp_of adds up a row.
 * terms may be the memory of x: a column is read before its terms are stored. */
DLC_INLINE vreal sum_exp_of_columns(real *terms, int64_t ld_terms, const loss_lanes *x, vreal max, int64_t begin, int64_t end,
                                    const bool near)
{
    vreal sums[L] = {{0}};
    for (int64_t j = begin; j < end; j++) {
        const vreal e = exp_of(v_load_lanes(x->z + j * x->ld, x->lanes, 0) - max, near);
        if (terms)
            v_store_lanes(terms + j * ld_terms, e, x->lanes);
        sums[(j - begin) % L] += e;
    }
    return fold_columns(sums, end - begin);
}

/* The sum of exp(z_j - max) of each lane; the terms go to `terms` unless it is NULL. Up to CHUNK columns it has the bits of
 * sum_exp_of. */
DLC_INLINE vreal sum_exp_of_lanes(real *terms, int64_t ld_terms, const loss_lanes *x, vreal max, const bool near)
{
    vreal total = {0};
    for (int64_t j = 0; j < x->cols; j += CHUNK)
        total += sum_exp_of_columns(terms, ld_terms, x, max, j, x->cols - j < CHUNK ? x->cols : j + CHUNK, near);
    return total;
}

static vreal sum_exp_lanes(real *terms, int64_t ld_terms, const loss_lanes *x, vreal max, bool near)
{
    return ASKS_FOR_NEAR && near ? sum_exp_of_lanes(terms, ld_terms, x, max, true)
                                 : sum_exp_of_lanes(terms, ld_terms, x, max, false);
}

/* The targets of a vector of rows: columns of L lanes (CHUNK of them at most), or one-hot at label where there are none */
typedef struct lane_targets {
    vint label;
    const real *columns;
} lane_targets;

/* sum t_j and sum t_j (z_j - max) of each lane, in the order of sum_targets */
typedef struct lane_sums {
    vreal sum, dot;
} lane_sums;

static lane_sums sum_targets_of_lanes(const loss_lanes *x, const lane_targets *targets, vreal max)
{
    vreal sums[L] = {{0}}, dots[L] = {{0}};
    for (int64_t j = 0; j < x->cols; j++) {
        const vreal t = v_load(targets->columns + j * L);
        sums[j % L] += t;
        dots[j % L] += weighted(t, v_load_lanes(x->z + j * x->ld, x->lanes, 0) - max);
    }
    return (lane_sums){fold_columns(sums, x->cols), fold_columns(dots, x->cols)};
}

static lane_sums sum_label_of_lanes(const loss_lanes *x, const lane_targets *targets, vreal max)
{
    vreal at_label = {0};
    for (int64_t j = 0; j < x->cols; j++)
        at_label = v_blend(targets->label == (real_int)j, v_load_lanes(x->z + j * x->ld, x->lanes, 0), at_label);
    return (lane_sums){v_splat(1), at_label - max};
}

/* grad (cols, lanes) holds exp(z_j - max), of which each lane has this share. */
DLC_INLINE void gradient_of_lanes(real *grad, int64_t ld_grad, const loss_lanes *x, const lane_targets *targets, vreal share,
                                  vreal target_sum, vreal scale, const bool one_hot)
{
    for (int64_t j = 0; j < x->cols; j++) {
        const vreal p = v_load_lanes(grad + j * ld_grad, x->lanes, 0) * share;
        const vreal difference = one_hot ? v_blend(targets->label == (real_int)j, p - 1, p)
                                         : v_multiply_add(p, target_sum, -v_load(targets->columns + j * L));
        v_store_lanes(grad + j * ld_grad, difference * scale, x->lanes);
    }
}

static vreal loss_of_lanes(real *grad, int64_t ld_grad, const loss_lanes *x, const lane_targets *targets, vreal scale)
{
    bool near;
    const vreal max = max_of_lanes(x, &near);
    const lane_sums of_targets =
        targets->columns ? sum_targets_of_lanes(x, targets, max) : sum_label_of_lanes(x, targets, max);
    const vreal total = sum_exp_lanes(grad, ld_grad, x, max, near);
    if (grad && targets->columns)
        gradient_of_lanes(grad, ld_grad, x, targets, 1 / total, of_targets.sum, scale, false);
    else if (grad)
        gradient_of_lanes(grad, ld_grad, x, targets, 1 / total, of_targets.sum, scale, true);
    return v_multiply_add(of_targets.sum, log_lanes(total), -of_targets.dot);
}

static vint load_labels(const int64_t *labels, int64_t lanes)
{
    real_int label[L] = {0};
    vint v;
    if (lanes == L)
        for (int lane = 0; lane < L; lane++)
            label[lane] = (real_int)labels[lane];
    else
        for (int64_t lane = 0; lane < lanes; lane++)
            label[lane] = (real_int)labels[lane];
    memcpy(&v, label, sizeof v);
    return v;
}

/* 1 where scale is NULL */
static vreal load_scales(const real *scale, int64_t stride, int64_t lanes)
{
    if (!scale || stride == 0)
        return v_splat(scale ? *scale : 1);
    real scales[L] = {0};
    for (int64_t lane = 0; lane < lanes; lane++)
        scales[lane] = scale[lane * stride];
    return v_load(scales);
}

/* ---- Narrow rows, transposed ---- */

/* Rows of up to so many columns are transposed as many at a time as a vector has lanes: those of a row of its own would be left
 * empty, and wait for its sum and for the largest of them before. Of whole vectors the lanes are full, and only AVX2 gains. Beside
 * rows in groups (loss_groups.h), on an Intel Xeon, one thread, float32, softmax of 17 columns takes 0.64 of the time, 24 0.76, 33
 * 0.91, but 50 1.13, and of whole vectors 16 1.16, 32 1.5; AVX2 9 0.54, 20 0.84, but 30 1.02, whole vectors 8 0.9, 16 0.86, but 24
 * 1.3; SSE 5 0.97, 6 1.04; float64 9 0.63, 20 0.91, but 26 1.09, AVX2 5 0.63, 7 0.76. Cross-entropy is alike, and rows that come
 * from memory are, too. */
enum {
    NARROW = DLC_VECTOR_BYTES == 64 ? 5 * L / 2 : DLC_VECTOR_BYTES == 32 ? (DLC_REAL_BITS == 32 ? 7 * L / 2 : 2 * L) : L - 1,
    NARROW_VECTORS = DLC_VECTOR_BYTES == 32 && DLC_REAL_BITS == 32 ? 2 : 0,
    NARROW_COLUMNS = (NARROW + L - 1) / L * L
};

static bool are_narrow(int64_t cols) { return cols % L == 0 ? cols <= NARROW_VECTORS * L : cols <= NARROW; }

typedef struct narrow_rows {
    _Alignas(DLC_VECTOR_BYTES) real columns[NARROW_COLUMNS * L];
} narrow_rows;

static DLC_ONCE loss_lanes load_rows(narrow_rows *block, const real *x, int64_t ld, int64_t cols)
{
    for (int64_t first = 0; first < cols; first += L) {
        const int64_t n = cols - first < L ? cols - first : L;
        vreal part[L];
        DLC_UNROLL
        for (int i = 0; i < L; i++)
            part[i] = v_load_lanes(x + i * ld + first, n, 0);
        v_transpose(part);
        DLC_UNROLL
        for (int j = 0; j < L; j++)
            v_store(block->columns + (first + j) * L, part[j]);
    }
    return (loss_lanes){.z = block->columns, .ld = L, .cols = cols, .lanes = L};
}

static DLC_ONCE void store_rows(real *out, int64_t ld, const narrow_rows *block, int64_t cols)
{
    for (int64_t first = 0; first < cols; first += L) {
        const int64_t n = cols - first < L ? cols - first : L;
        vreal part[L];
        DLC_UNROLL
        for (int j = 0; j < L; j++)
            part[j] = v_load(block->columns + (first + j) * L);
        v_transpose(part);
        DLC_UNROLL
        for (int i = 0; i < L; i++)
            if (n == L)
                v_store(out + i * ld + first, part[i]);
            else
                v_store_part(out + i * ld + first, part[i], n);
    }
}

/* Rows of more bytes than this are beyond the caches of a core, and those of the next vector are fetched while one is computed:
 * what goes from column to column of 16 rows the caches do not fetch by themselves. (Zen 5, float32, two builds in turns: 1000000 x
 * 10 takes 0.37 of the time, 500000 x 32 0.62 to 0.8. Rows in cache take 1.02 to 1.09 of their time by it.) */
enum { FAR_BYTES = 8 << 20 };

static bool are_far(int64_t rows, int64_t cols) { return rows * cols > FAR_BYTES / (int64_t)sizeof(real); }

/* The next vector of rows of x, and of out unless it is NULL */
static void fetch_next_rows(const real *x, int64_t ld, const real *out, int64_t ld_out, int64_t cols)
{
    const uintptr_t bytes = (uintptr_t)cols * sizeof *x;
    for (uintptr_t row = L; row < 2 * L; row++) {
        const uintptr_t from = (uintptr_t)x + row * (uintptr_t)ld * sizeof *x;
        const uintptr_t to = (uintptr_t)out + row * (uintptr_t)ld_out * sizeof *x;
        for (uintptr_t line = 0; line < bytes; line += DLC_ALIGNMENT)
            __builtin_prefetch((const void *)(from + line), 0);
        for (uintptr_t line = 0; out && line < bytes; line += DLC_ALIGNMENT)
            __builtin_prefetch((const void *)(to + line), 1);
    }
}

/* A vector of rows of softmax, or of log_softmax */
static void softmax_of_narrow(real *out, int64_t ld_out, const real *rows, int64_t ld, int64_t cols, bool fetches, bool logarithm)
{
    narrow_rows block;
    const loss_lanes x = load_rows(&block, rows, ld, cols);
    if (fetches)
        fetch_next_rows(rows, ld, out, ld_out, cols);
    bool near;
    const vreal max = max_of_lanes(&x, &near);
    const vreal total = sum_exp_lanes(logarithm ? NULL : block.columns, L, &x, max, near);
    const vreal share = 1 / total, log_total = logarithm ? log_lanes(total) : total;
    for (int64_t j = 0; j < cols; j++) {
        const vreal v = v_load(block.columns + j * L);
        v_store(block.columns + j * L, logarithm ? v - max - log_total : v * share);
    }
    store_rows(out, ld_out, &block, cols);
}

#endif
