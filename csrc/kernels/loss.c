/* Softmax, log-softmax and the cross-entropy of logits. Rows are independent: a row gives the same bits alone and in a batch.
 *
 * The largest logit is subtracted first, so that exp does not overflow. Where it is infinite or a NaN, so is the difference or
 * the sum, and with it the whole row: NaN. */
#include "kernels/kernels_decl.h"
#include "kernels/lanes.h"
#include "kernels/math.h"

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
        vreal v = rest >= DLC_LANES ? v_load(x + j) : v_load_part(x + j, rest, x[0]);
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

/* Not inlined: of v_log of a splat GCC 12 makes scalar code, lane by lane. */
static __attribute__((noinline)) vreal log_lanes(vreal x) { return v_log(x); }
static inline real log_of(double x) { return log_lanes(v_splat((real)x))[0]; }

void DLC_NAME(dlc_softmax)(void *out, int64_t ld_out, const void *x, int64_t ld_x, int64_t rows, int64_t cols)
{
    for (int64_t i = 0; i < rows; i++) {
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
    for (int64_t i = 0; i < rows; i++) {
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

/* One row of softmax_loss, in the order in which its parts are found. */
typedef struct loss_row {
    const real *z;
    const real *targets; /* NULL: one-hot at label */
    int64_t label, cols;
    row_range range;
    real scale, log_total; /* 1 / sum exp(z_j - max), and minus its logarithm */
    real target_sum, target_dot; /* sum t_j and sum t_j (z_j - max) */
} loss_row;

/* t * d, but 0 where t = 0 and d = -inf: a class that is impossible and did not occur costs nothing. */
static inline vreal weighted(vreal t, vreal d) { return v_blend((t == 0) & (d == MINUS_INFINITY), (vreal){0}, t * d); }

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

/* Reads z and targets before it writes what may be the same memory. */
DLC_INLINE void write_grad(real *grad, const loss_row *row, real scale, const bool near)
{
    int64_t j = 0, cols = row->cols;
    if (!row->targets) {
        real at_label = probability(row, v_splat(row->z[row->label]), near)[0];
        for (; j + DLC_LANES <= cols; j += DLC_LANES)
            v_store(grad + j, probability(row, v_load(row->z + j), near) * scale);
        if (j < cols)
            v_store_part(grad + j, probability(row, v_load_part(row->z + j, cols - j, row->range.max), near) * scale,
                         cols - j);
        grad[row->label] = (at_label - 1) * scale;
        return;
    }
    for (; j + DLC_LANES <= cols; j += DLC_LANES) {
        vreal p = probability(row, v_load(row->z + j), near);
        v_store(grad + j, (p * row->target_sum - v_load(row->targets + j)) * scale);
    }
    if (j < cols) {
        vreal p = probability(row, v_load_part(row->z + j, cols - j, row->range.max), near);
        vreal t = v_load_part(row->targets + j, cols - j, 0);
        v_store_part(grad + j, (p * row->target_sum - t) * scale, cols - j);
    }
}

void DLC_NAME(dlc_softmax_loss)(void *loss, void *grad, int64_t ld_grad, const void *z, int64_t ld_z,
                                const int64_t *labels, const void *targets, int64_t ld_targets, const void *scale,
                                int64_t scale_stride, int64_t rows, int64_t cols)
{
    for (int64_t i = 0; i < rows; i++) {
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
            ((real *)loss)[i] = row.target_sum * row.log_total - row.target_dot;
        if (grad && row.range.near)
            write_grad((real *)grad + i * ld_grad, &row, row_scale, true);
        else if (grad)
            write_grad((real *)grad + i * ld_grad, &row, row_scale, false);
    }
}

/* A vector of rows, whose logits stand a row of memory apart. Few classes fill no vector; as many rows do. */
typedef struct loss_lanes {
    const real *z;
    int64_t ld, cols;
    int64_t lanes; /* in use: rows that there are */
    vint label;
} loss_lanes;

static inline vreal load_lanes(const real *x, int64_t lanes) { return lanes == L ? v_load(x) : v_load_part(x, lanes, 0); }

static inline void store_lanes(real *x, vreal v, int64_t lanes)
{
    if (lanes == L)
        v_store(x, v);
    else
        v_store_part(x, v, lanes);
}

/* Where a lane has a row to itself, so many numbers are added before they go into its sum: with 73 in a row, one after
 * the other, a result exceeds the error bound of contiguous rows (tests/c/kernels_rows.c). */
enum { TERMS = 8 };

/* The sum of exp(z_j - max) of each lane; the terms go to `terms` unless it is NULL. */
DLC_INLINE vreal sum_exp_of_lanes(real *terms, int64_t ld_terms, const loss_lanes *x, vreal max, const bool near)
{
    vreal total = {0};
    for (int64_t j = 0; j < x->cols;) {
        const int64_t end = x->cols - j < TERMS ? x->cols : j + TERMS;
        vreal sum = {0};
        for (; j < end; j++) {
            const vreal e = exp_of(load_lanes(x->z + j * x->ld, x->lanes) - max, near);
            if (terms)
                store_lanes(terms + j * ld_terms, e, x->lanes);
            sum += e;
        }
        total += sum;
    }
    return total;
}

static vreal loss_of_lanes(real *grad, int64_t ld_grad, const loss_lanes *x, vreal scale)
{
    vreal max = v_splat(MINUS_INFINITY), min = -max, at_label = {0};
    for (int64_t j = 0; j < x->cols; j++) {
        const vreal z = load_lanes(x->z + j * x->ld, x->lanes);
        max = v_larger(z, max);
        min = v_smaller(z, min);
        at_label = v_blend(x->label == (real_int)j, z, at_label);
    }
    const vreal is_far = v_blend(max - min <= DLC_NEAR, (vreal){0}, v_splat(1)); /* also where that is a NaN */
    const bool near = v_fold_larger(is_far) == 0;
    const vreal total = near ? sum_exp_of_lanes(grad, ld_grad, x, max, true)
                             : sum_exp_of_lanes(grad, ld_grad, x, max, false);
    const vreal share = 1 / total;
    for (int64_t j = 0; grad && j < x->cols; j++) {
        const vreal p = load_lanes(grad + j * ld_grad, x->lanes) * share;
        store_lanes(grad + j * ld_grad, v_blend(x->label == (real_int)j, p - 1, p) * scale, x->lanes);
    }
    return v_log(total) - (at_label - max);
}

void DLC_NAME(dlc_softmax_loss_transposed)(void *loss, void *grad, int64_t ld_grad, const void *z, int64_t ld_z,
                                           const int64_t *labels, const void *scale, int64_t scale_stride,
                                           int64_t rows, int64_t cols)
{
    for (int64_t i = 0; i < rows; i += L) {
        loss_lanes x = {.z = (const real *)z + i, .ld = ld_z, .cols = cols, .lanes = rows - i < L ? rows - i : L};
        real_int label[L] = {0};
        real scales[L] = {0};
        for (int64_t lane = 0; lane < x.lanes; lane++) {
            label[lane] = (real_int)labels[i + lane];
            scales[lane] = scale ? ((const real *)scale)[(i + lane) * scale_stride] : 1;
        }
        memcpy(&x.label, label, sizeof label);
        const vreal losses = loss_of_lanes(grad ? (real *)grad + i : NULL, ld_grad, &x, v_load(scales));
        if (loss)
            store_lanes((real *)loss + i, losses, x.lanes);
    }
}
