/* Softmax, log-softmax and the cross-entropy of logits. Rows are independent: a row gives the same bits alone and in a batch (what
 * a compiler might fuse in one of them is spelled out), and up to CHUNK columns also where logits are transposed.
 *
 * The largest logit is subtracted first, so that exp does not overflow. Where it is infinite or a NaN, so is the difference or
 * the sum, and with it the whole row: NaN. */
#include "kernels/kernels_decl.h"
#include "kernels/loss_groups.h"

/* ---- Softmax ---- */

void DLC_NAME(dlc_softmax)(void *out, int64_t ld_out, const void *x, int64_t ld_x, int64_t rows, int64_t cols)
{
    const bool is_narrow = are_narrow(cols), fetches = are_far(rows, cols);
    int64_t i = 0;
    for (; is_narrow && i + L <= rows; i += L)
        softmax_of_narrow((real *)out + i * ld_out, ld_out, (const real *)x + i * ld_x, ld_x, cols, fetches, false);
    for (; are_grouped(cols) && i + L <= rows; i += L)
        softmax_of_rows((real *)out + i * ld_out, ld_out, (const real *)x + i * ld_x, ld_x, cols);
    for (; i < rows; i++) {
        real *out_row = (real *)out + i * ld_out;
        const real *x_row = (const real *)x + i * ld_x;
        const real share = (real)(1 / sum_exp(out_row, x_row, range_of(x_row, cols), cols));
        scale_row(out_row, cols, share, 1, false);
    }
}

void DLC_NAME(dlc_log_softmax)(void *out, int64_t ld_out, const void *x, int64_t ld_x, int64_t rows, int64_t cols)
{
    const bool is_narrow = are_narrow(cols), fetches = are_far(rows, cols);
    int64_t i = 0;
    for (; is_narrow && i + L <= rows; i += L)
        softmax_of_narrow((real *)out + i * ld_out, ld_out, (const real *)x + i * ld_x, ld_x, cols, fetches, true);
    for (; are_grouped(cols) && i + L <= rows; i += L)
        log_softmax_of_rows((real *)out + i * ld_out, ld_out, (const real *)x + i * ld_x, ld_x, cols);
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

void DLC_NAME(dlc_softmax_loss)(void *loss, void *grad, int64_t ld_grad, const void *z, int64_t ld_z,
                                const int64_t *labels, const void *targets, int64_t ld_targets, const void *scale,
                                int64_t scale_stride, int64_t rows, int64_t cols)
{
    const bool is_narrow = are_narrow(cols), fetches = are_far(rows, cols);
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
    for (; are_grouped(cols) && i + L <= rows; i += L) {
        const vreal scales = load_scales(scale ? (const real *)scale + i * scale_stride : NULL, scale_stride, L);
        const real *z_rows = (const real *)z + i * ld_z;
        real *grad_rows = grad ? (real *)grad + i * ld_grad : NULL;
        const vreal losses = labels ? label_loss_of_rows(grad_rows, ld_grad, z_rows, ld_z, labels + i, cols, scales)
                                    : target_loss_of_rows(grad_rows, ld_grad, z_rows, ld_z,
                                                          (const real *)targets + i * ld_targets, ld_targets, cols, scales);
        if (loss)
            v_store((real *)loss + i, losses);
    }
    for (; i < rows; i++) {
        const real row_scale = scale ? ((const real *)scale)[i * scale_stride] : 1; /* loss may be its memory */
        const real *z_row = (const real *)z + i * ld_z;
        real *grad_row = grad ? (real *)grad + i * ld_grad : NULL;
        const real row_loss = labels ? label_loss_of_row(grad_row, z_row, labels[i], cols, row_scale)
                                     : target_loss_of_row(grad_row, z_row, (const real *)targets + i * ld_targets, cols, row_scale);
        if (loss)
            ((real *)loss)[i] = row_loss;
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
