/* Softmax and cross-entropy of a row by itself; see loss.c. */
#ifndef DLC_KERNELS_LOSS_ROW_H
#define DLC_KERNELS_LOSS_ROW_H

#include "core/sizes.h"
#include "kernels/lanes.h"
#include "kernels/math.h"

/* For functions that are long and run for many elements, of which one copy is enough. */
#define DLC_ONCE __attribute__((noinline))

#define MINUS_INFINITY (-(real)__builtin_inf())

#ifdef DLC_HAVE_SCALEF
enum { ASKS_FOR_NEAR = false }; /* e^x of any x <= 0 is as short */
#else
enum { ASKS_FOR_NEAR = true };
#endif

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
    return (row_range){max, ASKS_FOR_NEAR && max - v_fold_smaller(v_smaller(smallest[0], smallest[1])) <= DLC_NEAR};
}

DLC_INLINE vreal exp_of(vreal x, const bool near) { return near ? v_exp_near(x) : v_exp_down(x); }

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

static DLC_ONCE double sum_exp(real *out, const real *x, row_range range, int64_t cols)
{
    return ASKS_FOR_NEAR && range.near ? sum_exp_of(out, x, range.max, cols, true) : sum_exp_of(out, x, range.max, cols, false);
}

/* Not inlined: of v_log of a splat GCC 12 makes scalar code, lane by lane, and in several copies of it a compiler may fuse
 * different multiply-adds, where a row alone and in a vector of rows shall have the same bits. */
static __attribute__((noinline)) vreal log_lanes(vreal x) { return v_log(x); }
static inline real log_of(double x) { return log_lanes(v_splat((real)x))[0]; }

/* t * d, but 0 where t = 0 and d = -inf: a class that is impossible and did not occur costs nothing. */
static inline vreal weighted(vreal t, vreal d) { return v_blend((t == 0) & (d == MINUS_INFINITY), (vreal){0}, t * d); }

/* x times a number, and of a gradient times another */
DLC_INLINE void scale_row(real *x, int64_t cols, real share, real scale, const bool is_gradient)
{
    int64_t j = 0;
#pragma GCC unroll 4
    for (; j + DLC_LANES <= cols; j += DLC_LANES)
        v_store(x + j, is_gradient ? v_load(x + j) * share * scale : v_load(x + j) * share);
    if (j < cols) {
        const vreal v = v_load_part(x + j, cols - j, 0) * share;
        v_store_part(x + j, is_gradient ? v * scale : v, cols - j);
    }
}

/* ---- Cross-entropy ---- */

/* (p - 1) scale, where p is rounded. Not inlined: a compiler might fuse the product that p is with the subtraction. */
static __attribute__((noinline)) vreal gradient_at_label(vreal p, vreal scale) { return (p - 1) * scale; }

/* Cross-entropy of a row at its label. Its gradient goes to grad, which may be z, unless that is NULL. */
static real label_loss_of_row(real *grad, const real *z, int64_t label, int64_t cols, real scale)
{
    const row_range range = range_of(z, cols);
    const real dot = z[label] - range.max;
    const double total = sum_exp(grad, z, range, cols);
    const real share = (real)(1 / total);
    if (grad) {
        const real at_label = gradient_at_label(v_splat(grad[label] * share), v_splat(scale))[0];
        scale_row(grad, cols, share, scale, true);
        grad[label] = at_label;
    }
    return v_multiply_add(v_splat(1), v_splat(log_of(total)), -v_splat(dot))[0];
}

/* A row with targets, in the order in which its parts are found. */
typedef struct loss_row {
    const real *z, *targets;
    int64_t cols;
    row_range range;
    real share; /* 1 / sum exp(z_j - max) */
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

/* Reads z and targets before it writes what may be the same memory. */
DLC_INLINE void write_grad_by(real *grad, const loss_row *row, real scale, const bool near)
{
    const vreal target_sum = v_splat(row->target_sum);
    const int64_t cols = row->cols;
    int64_t j = 0;
    for (; j + DLC_LANES <= cols; j += DLC_LANES) {
        const vreal p = exp_of(v_load(row->z + j) - row->range.max, near) * row->share;
        v_store(grad + j, v_multiply_add(p, target_sum, -v_load(row->targets + j)) * scale);
    }
    if (j < cols) {
        const vreal p = exp_of(v_load_part(row->z + j, cols - j, row->range.max) - row->range.max, near) * row->share;
        const vreal t = v_load_part(row->targets + j, cols - j, 0);
        v_store_part(grad + j, v_multiply_add(p, target_sum, -t) * scale, cols - j);
    }
}

static DLC_ONCE void write_grad(real *grad, const loss_row *row, real scale)
{
    if (ASKS_FOR_NEAR && row->range.near)
        write_grad_by(grad, row, scale, true);
    else
        write_grad_by(grad, row, scale, false);
}

/* The same as label_loss_of_row by targets, whose memory grad may be, too: terms are computed twice, and not stored. */
static real target_loss_of_row(real *grad, const real *z, const real *targets, int64_t cols, real scale)
{
    loss_row row = {.z = z, .targets = targets, .cols = cols, .range = range_of(z, cols)};
    const double total = sum_exp(NULL, z, row.range, cols);
    row.share = (real)(1 / total);
    sum_targets(&row);
    const vreal loss = v_multiply_add(v_splat(row.target_sum), v_splat(log_of(total)), -v_splat(row.target_dot));
    if (grad)
        write_grad(grad, &row, scale);
    return loss[0];
}

#endif
