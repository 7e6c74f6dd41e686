/* Softmax, log-softmax and the cross-entropy of logits. Rows are independent: a row gives the same bits alone and in a batch (what
 * a compiler might fuse in one of them is spelled out), and up to CHUNK columns also where logits are transposed.
 *
 * The largest logit is subtracted first, so that exp does not overflow. Where it is infinite or a NaN, so is the difference or
 * the sum, and with it the whole row: NaN. */
#include "core/sizes.h"
#include "kernels/kernels_decl.h"
#include "kernels/lanes.h"
#include "kernels/math.h"
#include "kernels/transpose.h"

#define MINUS_INFINITY (-(real)__builtin_inf())

typedef struct {
    real max;  /* the largest element; any value where one is NaN */
    bool near; /* whether v_exp_near serves for all elements less that */
} row_range;

static inline row_range range_of(const real *x, int64_t cols)
{
    vreal largest[2] = {v_splat(MINUS_INFINITY), v_splat(MINUS_INFINITY)}, smallest[2] = {-largest[0], -largest[0]};
    int64_t j = 0;
    for (; j + 2 * DLC_LANES <= cols; j += 2 * DLC_LANES)
        for (int chain = 0; chain < 2; chain++) {
            vreal v = v_load(x + j + chain * DLC_LANES);
            largest[chain] = v_larger(v, largest[chain]);
            smallest[chain] = v_smaller(v, smallest[chain]);
        }
    for (; j < cols; j += DLC_LANES) {
        const int64_t rest = cols - j;
        vreal v = v_load_lanes(x + j, rest, x[0]);
        largest[0] = v_larger(v, largest[0]);
        smallest[0] = v_smaller(v, smallest[0]);
    }
    const real max = v_fold_larger(v_larger(largest[0], largest[1]));
    return (row_range){max, max - v_fold_smaller(v_smaller(smallest[0], smallest[1])) <= DLC_NEAR};
}

DLC_INLINE vreal exp_of(vreal x, const bool near) { return near ? v_exp_near(x) : v_exp(x); }

enum { L = DLC_LANES };

/* A lane adds 64 numbers before it goes into a double: the error of float32 does not grow with the row. */
enum { CHUNK = 64 * L };

/* The sum of exp(x - max); the terms go to out unless it is NULL. */
DLC_INLINE double sum_exp_of(real *out, const real *x, real max, int64_t cols, const bool near)
{
    double total = 0;
    for (int64_t j = 0; j < cols;) {
        int64_t end = cols - j < CHUNK ? cols : j + CHUNK;
        vreal sum = {0};
        for (; j + DLC_LANES <= end; j += DLC_LANES) {
            vreal e = exp_of(v_load(x + j) - max, near);
            if (out)
                v_store(out + j, e);
            sum += e;
        }
        if (j < end) {
            /* filled with max, not -inf: exp would be subnormal on its way to 0, which takes most CPUs 100 cycles and more */
            vreal e = v_keep_first(exp_of(v_load_part(x + j, end - j, max) - max, near), end - j);
            if (out)
                v_store_part(out + j, e, end - j);
            sum += e;
            j = end;
        }
        total += (double)v_fold_add(sum);
    }
    return total;
}

DLC_INLINE double sum_exp(real *out, const real *x, row_range range, int64_t cols)
{
    return range.near ? sum_exp_of(out, x, range.max, cols, true) : sum_exp_of(out, x, range.max, cols, false);
}

/* Not inlined: of v_log of a splat GCC 12 makes scalar code, lane by lane, and in several copies of it a compiler may fuse
 * different multiply-adds, where a row alone and in a vector of rows shall have the same bits. */
static __attribute__((noinline)) vreal log_lanes(vreal x) { return v_log(x); }
static inline real log_of(double x) { return log_lanes(v_splat((real)x))[0]; }

/* ---- A vector of rows ---- */

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
    *near = !v_any(~(max - min <= DLC_NEAR)); /* which a NaN is not, either */
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
    return near ? sum_exp_of_lanes(terms, ld_terms, x, max, true) : sum_exp_of_lanes(terms, ld_terms, x, max, false);
}

/* t * d, but 0 where t = 0 and d = -inf: a class that is impossible and did not occur costs nothing. */
static inline vreal weighted(vreal t, vreal d) { return v_blend((t == 0) & (d == MINUS_INFINITY), (vreal){0}, t * d); }

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

/* Rows of up to so many columns are transposed as many at a time as a vector has lanes. A row by itself waits for its sum, and
 * for the largest of its lanes before: transposed, on an Intel Xeon (AVX-512, float32), 1024 x 10 takes
 * 0.36 of the time, its cross-entropy 0.24, 1024 x 32 0.68 and 0.48. Longer rows wait less, and what is transposed grows: on
 * Zen 5 in float32 91 columns take 0.75 of the time, 96 0.81, 112 0.83, 128 0.92, but 144 1.02 and 160 1.06; with AVX2 25 0.61,
 * 32 0.99, but 48 1.04; in float64 20 0.7, 24 0.91, but 32 1.1, with AVX2 9 0.76, but 12 1.13; SSE 12 0.99. */
enum { NARROW = DLC_REAL_BITS == 32 ? L / 2 * L : (L > 4 ? 3 : 2) * L };

typedef struct narrow_rows {
    _Alignas(DLC_VECTOR_BYTES) real columns[NARROW * L];
} narrow_rows;

static loss_lanes load_rows(narrow_rows *block, const real *x, int64_t ld, int64_t cols)
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

static void store_rows(real *out, int64_t ld, const narrow_rows *block, int64_t cols)
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
 * 10 takes 0.37 of the time, 500000 x 32 0.62 to 0.8; beside each row by itself 500000 x 33 0.54 to 0.58, 262144 x 48 0.76 to 0.8,
 * but x 64 1.06 and 200000 x 80 1.16, and without fetching 0.98 to 1.38. Rows in cache take 1.02 to 1.09 of their time by it.) */
enum { FAR_BYTES = 8 << 20, FAR_NARROW = DLC_REAL_BITS == 32 && NARROW > 3 * L ? 3 * L : 2 * L };

static bool are_far(int64_t rows, int64_t cols) { return rows * cols > FAR_BYTES / (int64_t)sizeof(real); }

static bool are_narrow(int64_t rows, int64_t cols) { return cols <= (are_far(rows, cols) ? FAR_NARROW : NARROW); }

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

/* ---- Softmax ---- */

void DLC_NAME(dlc_softmax)(void *out, int64_t ld_out, const void *x, int64_t ld_x, int64_t rows, int64_t cols)
{
    const bool is_narrow = are_narrow(rows, cols), fetches = are_far(rows, cols);
    int64_t i = 0;
    for (; is_narrow && i + L <= rows; i += L)
        softmax_of_narrow((real *)out + i * ld_out, ld_out, (const real *)x + i * ld_x, ld_x, cols, fetches, false);
    for (; i < rows; i++) {
        real *out_row = (real *)out + i * ld_out;
        const real *x_row = (const real *)x + i * ld_x;
        const real scale = (real)(1 / sum_exp(out_row, x_row, range_of(x_row, cols), cols));
        int64_t j = 0;
#pragma GCC unroll 4
        for (; j + DLC_LANES <= cols; j += DLC_LANES)
            v_store(out_row + j, v_load(out_row + j) * scale);
        if (j < cols)
            v_store_part(out_row + j, v_load_part(out_row + j, cols - j, 0) * scale, cols - j);
    }
}

void DLC_NAME(dlc_log_softmax)(void *out, int64_t ld_out, const void *x, int64_t ld_x, int64_t rows, int64_t cols)
{
    const bool is_narrow = are_narrow(rows, cols), fetches = are_far(rows, cols);
    int64_t i = 0;
    for (; is_narrow && i + L <= rows; i += L)
        softmax_of_narrow((real *)out + i * ld_out, ld_out, (const real *)x + i * ld_x, ld_x, cols, fetches, true);
    for (; i < rows; i++) {
        real *out_row = (real *)out + i * ld_out;
        const real *x_row = (const real *)x + i * ld_x;
        const row_range range = range_of(x_row, cols);
        const real max = range.max, log_total = log_of(sum_exp(NULL, x_row, range, cols));
        int64_t j = 0;
        for (; j + DLC_LANES <= cols; j += DLC_LANES)
            v_store(out_row + j, v_load(x_row + j) - max - log_total);
        if (j < cols)
            v_store_part(out_row + j, v_load_part(x_row + j, cols - j, 0) - max - log_total, cols - j);
    }
}

/* ---- Cross-entropy ---- */

/* One row of softmax_loss, in the order in which its parts are found. */
typedef struct loss_row {
    const real *z;
    const real *targets; /* NULL: one-hot at label */
    int64_t label, cols;
    row_range range;
    real scale, log_total; /* 1 / sum exp(z_j - max), and minus its logarithm */
    real target_sum, target_dot; /* sum t_j and sum t_j (z_j - max) */
} loss_row;

static inline void sum_targets(loss_row *row)
{
    double sum = 0, dot = 0;
    for (int64_t j = 0; j < row->cols;) {
        int64_t end = row->cols - j < CHUNK ? row->cols : j + CHUNK;
        vreal lane_sum = {0}, lane_dot = {0};
        for (; j + DLC_LANES <= end; j += DLC_LANES) {
            vreal t = v_load(row->targets + j);
            lane_sum += t;
            lane_dot += weighted(t, v_load(row->z + j) - row->range.max);
        }
        if (j < end) {
            vreal t = v_load_part(row->targets + j, end - j, 0);
            lane_sum += t;
            lane_dot += weighted(t, v_load_part(row->z + j, end - j, row->range.max) - row->range.max);
            j = end;
        }
        sum += (double)v_fold_add(lane_sum);
        dot += (double)v_fold_add(lane_dot);
    }
    row->target_sum = (real)sum;
    row->target_dot = (real)dot;
}

DLC_INLINE vreal probability(const loss_row *row, vreal z, const bool near)
{
    return exp_of(z - row->range.max, near) * row->scale;
}

/* Not inlined: with the 1 that is subtracted, a compiler might fuse it in a row alone and not in a vector of rows. */
static __attribute__((noinline)) real probability_at_label(const loss_row *row, bool near)
{
    const vreal z = v_splat(row->z[row->label]);
    return (near ? probability(row, z, true) : probability(row, z, false))[0];
}

/* Reads z and targets before it writes what may be the same memory. */
DLC_INLINE void write_grad(real *grad, const loss_row *row, real scale, const bool near)
{
    int64_t j = 0, cols = row->cols;
    if (!row->targets) {
        real at_label = probability_at_label(row, near);
        for (; j + DLC_LANES <= cols; j += DLC_LANES)
            v_store(grad + j, probability(row, v_load(row->z + j), near) * scale);
        if (j < cols)
            v_store_part(grad + j, probability(row, v_load_part(row->z + j, cols - j, row->range.max), near) * scale,
                         cols - j);
        grad[row->label] = (at_label - 1) * scale;
        return;
    }
    const vreal target_sum = v_splat(row->target_sum);
    for (; j + DLC_LANES <= cols; j += DLC_LANES) {
        vreal p = probability(row, v_load(row->z + j), near);
        v_store(grad + j, v_multiply_add(p, target_sum, -v_load(row->targets + j)) * scale);
    }
    if (j < cols) {
        vreal p = probability(row, v_load_part(row->z + j, cols - j, row->range.max), near);
        vreal t = v_load_part(row->targets + j, cols - j, 0);
        v_store_part(grad + j, v_multiply_add(p, target_sum, -t) * scale, cols - j);
    }
}

void DLC_NAME(dlc_softmax_loss)(void *loss, void *grad, int64_t ld_grad, const void *z, int64_t ld_z,
                                const int64_t *labels, const void *targets, int64_t ld_targets, const void *scale,
                                int64_t scale_stride, int64_t rows, int64_t cols)
{
    const bool is_narrow = are_narrow(rows, cols), fetches = are_far(rows, cols);
    int64_t i = 0;
    for (; is_narrow && i + L <= rows; i += L) {
        narrow_rows block, target_block;
        const loss_lanes x = load_rows(&block, (const real *)z + i * ld_z, ld_z, cols);
        if (fetches)
            fetch_next_rows((const real *)z + i * ld_z, ld_z, grad ? (real *)grad + i * ld_grad : NULL, ld_grad, cols);
        const vreal scales = load_scales(scale ? (const real *)scale + i * scale_stride : NULL, scale_stride, L);
        lane_targets of_lanes = {.columns = NULL};
        if (labels)
            of_lanes.label = load_labels(labels + i, L);
        else
            of_lanes.columns = load_rows(&target_block, (const real *)targets + i * ld_targets, ld_targets, cols).z;
        const vreal losses = loss_of_lanes(grad ? block.columns : NULL, L, &x, &of_lanes, scales);
        if (grad)
            store_rows((real *)grad + i * ld_grad, ld_grad, &block, cols);
        if (loss)
            v_store((real *)loss + i, losses);
    }
    for (; i < rows; i++) {
        const real row_scale = scale ? ((const real *)scale)[i * scale_stride] : 1; /* loss may be its memory */
        loss_row row = {.z = (const real *)z + i * ld_z, .cols = cols};
        row.range = range_of(row.z, cols);
        const double total = sum_exp(NULL, row.z, row.range, cols);
        row.scale = (real)(1 / total);
        row.log_total = log_of(total);
        if (labels) {
            row.label = labels[i];
            row.target_sum = 1;
            row.target_dot = row.z[row.label] - row.range.max;
        } else {
            row.targets = (const real *)targets + i * ld_targets;
            sum_targets(&row);
        }
        if (loss)
            ((real *)loss)[i] =
                v_multiply_add(v_splat(row.target_sum), v_splat(row.log_total), -v_splat(row.target_dot))[0];
        if (grad && row.range.near)
            write_grad((real *)grad + i * ld_grad, &row, row_scale, true);
        else if (grad)
            write_grad((real *)grad + i * ld_grad, &row, row_scale, false);
    }
}

void DLC_NAME(dlc_softmax_loss_transposed)(void *loss, void *grad, int64_t ld_grad, const void *z, int64_t ld_z,
                                           const int64_t *labels, const void *scale, int64_t scale_stride,
                                           int64_t rows, int64_t cols)
{
    for (int64_t i = 0; i < rows; i += L) {
        const int64_t lanes = rows - i < L ? rows - i : L;
        const loss_lanes x = {.z = (const real *)z + i, .ld = ld_z, .cols = cols, .lanes = lanes};
        const vreal scales = load_scales(scale ? (const real *)scale + i * scale_stride : NULL, scale_stride, lanes);
        const lane_targets targets = {.label = load_labels(labels + i, lanes)};
        const vreal losses = loss_of_lanes(grad ? (real *)grad + i : NULL, ld_grad, &x, &targets, scales);
        if (loss)
            v_store_lanes((real *)loss + i, losses, lanes);
    }
}
