/* Softmax, log-softmax and the cross-entropy of logits. Rows are independent: a row gives the same bits alone and in a batch.
 *
 * The largest logit is subtracted first, so that exp does not overflow. Where it is infinite or a NaN, so is the difference or
 * the sum, and with it the whole row: NaN. */
#include "kernels/kernels_decl.h"
#include "kernels/lanes.h"
#include "kernels/math.h"

#define MINUS_INFINITY (-(real)__builtin_inf())

/* The largest element; any value where one is NaN. */
static inline real row_max(const real *x, int64_t cols)
{
    vreal largest = v_splat(MINUS_INFINITY);
    int64_t j = 0;
    for (; j + DLC_LANES <= cols; j += DLC_LANES) {
        vreal v = v_load(x + j);
        largest = v_blend(v > largest, v, largest);
    }
    if (j < cols) {
        vreal v = v_load_part(x + j, cols - j, MINUS_INFINITY);
        largest = v_blend(v > largest, v, largest);
    }
    return v_fold_max(largest);
}

/* A lane adds 64 numbers before it goes into a double: the error of float32 does not grow with the row. */
enum { CHUNK = 64 * DLC_LANES };

/* The sum of exp(x - max); the terms go to out unless it is NULL. */
DLC_INLINE double sum_exp(real *out, const real *x, real max, int64_t cols)
{
    double total = 0;
    for (int64_t j = 0; j < cols;) {
        int64_t end = cols - j < CHUNK ? cols : j + CHUNK;
        vreal sum = {0};
        for (; j + DLC_LANES <= end; j += DLC_LANES) {
            vreal e = v_exp(v_load(x + j) - max);
            if (out)
                v_store(out + j, e);
            sum += e;
        }
        if (j < end) {
            /* filled with max, not -inf: exp would be subnormal on its way to 0, which takes most CPUs 100 cycles and more */
            vreal e = v_keep_first(v_exp(v_load_part(x + j, end - j, max) - max), end - j);
            if (out)
                v_store_part(out + j, e, end - j);
            sum += e;
            j = end;
        }
        total += (double)v_fold_add(sum);
    }
    return total;
}

/* Not inlined: of v_log of a splat GCC 12 makes scalar code, lane by lane. */
static __attribute__((noinline)) vreal log_lanes(vreal x) { return v_log(x); }
static inline real log_of(double x) { return log_lanes(v_splat((real)x))[0]; }

void DLC_NAME(dlc_softmax)(void *out, int64_t ld_out, const void *x, int64_t ld_x, int64_t rows, int64_t cols)
{
    for (int64_t i = 0; i < rows; i++) {
        real *out_row = (real *)out + i * ld_out;
        const real *x_row = (const real *)x + i * ld_x;
        real total = (real)sum_exp(out_row, x_row, row_max(x_row, cols), cols);
        int64_t j = 0;
        for (; j + DLC_LANES <= cols; j += DLC_LANES)
            v_store(out_row + j, v_load(out_row + j) / total);
        if (j < cols)
            v_store_part(out_row + j, v_load_part(out_row + j, cols - j, 0) / total, cols - j);
    }
}

void DLC_NAME(dlc_log_softmax)(void *out, int64_t ld_out, const void *x, int64_t ld_x, int64_t rows, int64_t cols)
{
    for (int64_t i = 0; i < rows; i++) {
        real *out_row = (real *)out + i * ld_out;
        const real *x_row = (const real *)x + i * ld_x;
        real max = row_max(x_row, cols);
        real log_total = log_of(sum_exp(NULL, x_row, max, cols));
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
    real max, total, log_total;
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
            lane_dot += weighted(t, v_load(row->z + j) - row->max);
        }
        if (j < end) {
            vreal t = v_load_part(row->targets + j, end - j, 0);
            lane_sum += t;
            lane_dot += weighted(t, v_load_part(row->z + j, end - j, row->max) - row->max);
            j = end;
        }
        sum += (double)v_fold_add(lane_sum);
        dot += (double)v_fold_add(lane_dot);
    }
    row->target_sum = (real)sum;
    row->target_dot = (real)dot;
}

static inline vreal probability(const loss_row *row, vreal z) { return v_exp(z - row->max) / row->total; }

/* Reads z and targets before it writes what may be the same memory. */
static inline void write_grad(real *grad, const loss_row *row, real scale)
{
    int64_t j = 0, cols = row->cols;
    if (!row->targets) {
        real at_label = probability(row, v_splat(row->z[row->label]))[0];
        for (; j + DLC_LANES <= cols; j += DLC_LANES)
            v_store(grad + j, probability(row, v_load(row->z + j)) * scale);
        if (j < cols)
            v_store_part(grad + j, probability(row, v_load_part(row->z + j, cols - j, row->max)) * scale, cols - j);
        grad[row->label] = (at_label - 1) * scale;
        return;
    }
    for (; j + DLC_LANES <= cols; j += DLC_LANES) {
        vreal p = probability(row, v_load(row->z + j));
        v_store(grad + j, (p * row->target_sum - v_load(row->targets + j)) * scale);
    }
    if (j < cols) {
        vreal p = probability(row, v_load_part(row->z + j, cols - j, row->max));
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
        row.max = row_max(row.z, cols);
        row.total = (real)sum_exp(NULL, row.z, row.max, cols);
        row.log_total = log_of(row.total);
        if (labels) {
            row.label = labels[i];
            row.target_sum = 1;
            row.target_dot = row.z[row.label] - row.max;
        } else {
            row.targets = (const real *)targets + i * ld_targets;
            sum_targets(&row);
        }
        if (loss)
            ((real *)loss)[i] = row.target_sum * row.log_total - row.target_dot;
        if (grad)
            write_grad((real *)grad + i * ld_grad, &row, row_scale);
    }
}
