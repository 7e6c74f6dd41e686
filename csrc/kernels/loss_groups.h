/* Softmax and cross-entropy of a group of rows, as many as a vector has lanes, row by row; see loss.c. */
#ifndef DLC_KERNELS_LOSS_GROUPS_H
#define DLC_KERNELS_LOSS_GROUPS_H

#include "kernels/loss_lanes.h"

/* Rows of up to so many columns go in groups, with the largest elements and the sums of all rows of one folded at once: a row by
 * itself waits for its own lanes to be folded, twice. On an Intel Xeon, one thread, float32, softmax of 64 columns takes 0.46 of
 * the time that it takes transposed or row by row, of 128 0.4, 256 0.73, 512 0.78; AVX2 32 0.74, 64 0.8, but 256 1.08; SSE 16 0.76,
 * 64 0.97, but 1000 1.09; float64 32 0.81, 256 0.83, but 1000 1.17. Cross-entropy of 64 columns and its gradient take 0.45, of 128
 * 0.43, of 512 0.56, as terms are stored, and not computed again. */
enum { GROUPED = DLC_VECTOR_BYTES / 2 * L };

static bool are_grouped(int64_t cols) { return cols >= L && cols <= GROUPED; }

/* The largest element of each row; any value where one is NaN */
static DLC_ONCE vreal max_of_rows(const real *x, int64_t ld, int64_t cols, bool *near)
{
    vreal max[L], min[L];
    for (int i = 0; i < L; i++) {
        const real *row = x + i * ld;
        vreal largest = v_load(row + cols - L), smallest = largest; /* also what whole vectors leave */
        for (int64_t j = 0; j + L <= cols; j += L) {
            const vreal z = v_load(row + j);
            largest = v_larger(z, largest);
            smallest = v_smaller(z, smallest);
        }
        max[i] = largest;
        min[i] = smallest;
    }
    const vreal maxima = v_larger_each(max);
    *near = ASKS_FOR_NEAR && !v_any(~(maxima - v_smaller_each(min) <= DLC_NEAR));
    return maxima;
}

/* The sum of exp(x - max) of each row, in the order of sum_exp_of. Unless out is NULL the terms go there, but those that fill no
 * vector go to `rest` (L vectors): a part of a vector that was just stored would be waited for. */
DLC_INLINE vreal sum_exp_of_rows(real *out, int64_t ld_out, vreal *rest, const real *x, int64_t ld, int64_t cols, vreal maxima,
                                 const bool near)
{
    real max[L];
    vreal sums[L];
    const int64_t last = cols % L, whole = cols - last;
    v_store(max, maxima);
    for (int i = 0; i < L; i++) {
        const real *row = x + i * ld;
        real *terms = out ? out + i * ld_out : NULL;
        vreal sum = {0};
        for (int64_t j = 0; j < whole; j += L) {
            const vreal e = exp_of(v_load(row + j) - max[i], near);
            if (terms)
                v_store(terms + j, e);
            sum += e;
        }
        if (last > 0) {
            const vreal e = v_keep_first(exp_of(v_load_part(row + whole, last, max[i]) - max[i], near), last);
            if (terms)
                rest[i] = e;
            sum += e;
        }
        sums[i] = sum;
    }
    return v_sum_each(sums);
}

static DLC_ONCE vreal sum_exp_rows(real *out, int64_t ld_out, vreal *rest, const real *x, int64_t ld, int64_t cols, vreal maxima,
                                   bool near)
{
    return ASKS_FOR_NEAR && near ? sum_exp_of_rows(out, ld_out, rest, x, ld, cols, maxima, true)
                                 : sum_exp_of_rows(out, ld_out, rest, x, ld, cols, maxima, false);
}

/* out (rows; leading dimension ld), whose columns that fill no vector are in `rest`, times a number for each row, and of a gradient
 * times another */
DLC_INLINE void scale_rows(real *out, int64_t ld, const vreal *rest, int64_t cols, vreal shares, vreal scales,
                           const bool is_gradient)
{
    real share[L], scale[L];
    const int64_t last = cols % L, whole = cols - last;
    v_store(share, shares);
    v_store(scale, scales);
    for (int i = 0; i < L; i++) {
        real *row = out + i * ld;
        for (int64_t j = 0; j < whole; j += L)
            v_store(row + j, is_gradient ? v_load(row + j) * share[i] * scale[i] : v_load(row + j) * share[i]);
        if (last > 0)
            v_store_part(row + whole, is_gradient ? rest[i] * share[i] * scale[i] : rest[i] * share[i], last);
    }
}

static void softmax_of_rows(real *out, int64_t ld_out, const real *x, int64_t ld, int64_t cols)
{
    bool near;
    vreal rest[L];
    const vreal maxima = max_of_rows(x, ld, cols, &near);
    const vreal totals = sum_exp_rows(out, ld_out, rest, x, ld, cols, maxima, near);
    scale_rows(out, ld_out, rest, cols, 1 / totals, totals, false);
}

static void log_softmax_of_rows(real *out, int64_t ld_out, const real *x, int64_t ld, int64_t cols)
{
    bool near;
    real max[L], log_total[L];
    const int64_t last = cols % L, whole = cols - last;
    const vreal maxima = max_of_rows(x, ld, cols, &near);
    v_store(max, maxima);
    v_store(log_total, log_lanes(sum_exp_rows(NULL, 0, NULL, x, ld, cols, maxima, near)));
    for (int i = 0; i < L; i++) {
        const real *from = x + i * ld;
        real *to = out + i * ld_out;
        for (int64_t j = 0; j < whole; j += L)
            v_store(to + j, v_load(from + j) - max[i] - log_total[i]);
        if (last > 0)
            v_store_part(to + whole, v_load_part(from + whole, last, 0) - max[i] - log_total[i], last);
    }
}

/* The gradient where grad, and `rest` for the columns that fill no vector, hold exp(z - max) */
static void gradient_at_labels(real *grad, int64_t ld, const vreal *rest, const int64_t *labels, int64_t cols, vreal shares,
                               vreal scales)
{
    const int64_t whole = cols / L * L;
    real at_label[L];
    for (int i = 0; i < L; i++)
        at_label[i] = labels[i] < whole ? grad[i * ld + labels[i]] : rest[i][labels[i] - whole];
    v_store(at_label, gradient_at_label(v_load(at_label) * shares, scales));
    scale_rows(grad, ld, rest, cols, shares, scales, true);
    for (int i = 0; i < L; i++)
        grad[i * ld + labels[i]] = at_label[i];
}

/* Cross-entropy of L rows at their labels. Its gradient goes to grad, which may be z, unless that is NULL. */
static vreal label_loss_of_rows(real *grad, int64_t ld_grad, const real *z, int64_t ld, const int64_t *labels, int64_t cols,
                                vreal scales)
{
    bool near;
    real at_label[L];
    vreal rest[L];
    const vreal maxima = max_of_rows(z, ld, cols, &near);
    for (int i = 0; i < L; i++)
        at_label[i] = z[i * ld + labels[i]];
    const vreal dots = v_load(at_label) - maxima;
    const vreal totals = sum_exp_rows(grad, ld_grad, rest, z, ld, cols, maxima, near);
    if (grad)
        gradient_at_labels(grad, ld_grad, rest, labels, cols, 1 / totals, scales);
    return v_multiply_add(v_splat(1), log_lanes(totals), -dots);
}

/* sum t_j and sum t_j (z_j - max) of each row, in the order of sum_targets */
static lane_sums sum_targets_of_rows(const real *targets, int64_t ld_targets, const real *z, int64_t ld, int64_t cols, vreal maxima)
{
    real max[L];
    vreal sums[L], dots[L];
    const int64_t last = cols % L, whole = cols - last;
    v_store(max, maxima);
    for (int i = 0; i < L; i++) {
        const real *of_row = targets + i * ld_targets, *row = z + i * ld;
        vreal sum = {0}, dot = {0};
        for (int64_t j = 0; j < whole; j += L) {
            const vreal t = v_load(of_row + j);
            sum += t;
            dot += weighted(t, v_load(row + j) - max[i]);
        }
        if (last > 0) {
            const vreal t = v_load_part(of_row + whole, last, 0);
            sum += t;
            dot += weighted(t, v_load_part(row + whole, last, max[i]) - max[i]);
        }
        sums[i] = sum;
        dots[i] = dot;
    }
    const vreal sum = v_sum_each(sums);
    return (lane_sums){sum, v_sum_each(dots)};
}

/* The same as label_loss_of_rows by targets, whose memory grad may be, too: terms are computed twice, and not stored. */
static vreal target_loss_of_rows(real *grad, int64_t ld_grad, const real *z, int64_t ld, const real *targets, int64_t ld_targets,
                                 int64_t cols, vreal scales)
{
    bool near;
    const vreal maxima = max_of_rows(z, ld, cols, &near);
    const lane_sums of_targets = sum_targets_of_rows(targets, ld_targets, z, ld, cols, maxima);
    const vreal totals = sum_exp_rows(NULL, 0, NULL, z, ld, cols, maxima, near), shares = 1 / totals;
    for (int i = 0; grad && i < L; i++) {
        const loss_row row = {.z = z + i * ld,
                              .targets = targets + i * ld_targets,
                              .cols = cols,
                              .range = {maxima[i], near},
                              .share = shares[i],
                              .target_sum = of_targets.sum[i]};
        write_grad(grad + i * ld_grad, &row, scales[i]);
    }
    return v_multiply_add(of_targets.sum, log_lanes(totals), -of_targets.dot);
}

#endif
