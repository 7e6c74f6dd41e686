/* SOFTMAX: out (n, c) = softmax of each row of in (n, c); attribute: 1 for log_softmax, else 0.
 *
 * SOFTMAX_LOSS: cross-entropy of logits (n, c), its gradient and its mean in one pass.
 *   outs  loss (n), grad (n, c), mean (), in this order, those that the first three attributes ask for
 *   ins   logits (n, c); target int64 (n), range-checked, or of logits' dtype and shape (n, c);
 *         optionally scale (n) or ()
 *   attributes  has_loss, has_grad, has_mean; what the gradient is multiplied with, as the bits of a double and the power of the
 *         step's rows that it is multiplied with in turn: 1 and 0 where there is a scale, which is that
 *
 * Rows of matrices are contiguous; with int64 targets, all columns of logits and grad may be instead. */
#include <math.h>

#include "map/map.h"
#include "plan/builtin.h"
#include "plan/operand.h"

static dlc_status expect_matrix(const dlc_array *array, const char *name, bool transposed)
{
    if (!dlc_is_real(array->dtype) || !(transposed ? dlc_has_contiguous_columns(array) : dlc_has_contiguous_rows(array)))
        return dlc_fail(DLC_INVALID_PLAN, "its %s is not a float matrix of contiguous %s", name,
                        transposed ? "columns" : "rows");
    return DLC_OK;
}

/* Rows are dealt out so many at once; whole vectors of them where rows fill these. */
static int64_t rows_at_once(const dlc_array *matrix)
{
    const int64_t rows = dlc_max64(1, DLC_SHARED_ELEMENTS / dlc_max64(1, matrix->shape[1]));
    const int64_t vector = matrix->dtype == DLC_FLOAT32 ? DLC_ALIGNMENT / sizeof(float) : DLC_ALIGNMENT / sizeof(double);
    return dlc_has_contiguous_columns(matrix) ? (rows + vector - 1) & -vector : rows;
}

/* A thread's rows, [begin, end) */
typedef struct row_share {
    int64_t at_once, begin, end;
} row_share;

static row_share find_share(const dlc_array *matrix, const dlc_op_call *call)
{
    row_share share = {.at_once = rows_at_once(matrix)};
    dlc_split(&share.begin, &share.end, matrix->shape[0], share.at_once, call->thread, call->n_threads);
    return share;
}

static void *row_of(const dlc_array *array, int64_t row)
{
    return (char *)array->data + row * array->stride[0] * dlc_dtype_size(array->dtype);
}

/* About what an exponential costs beside a load. */
enum { COST_OF_EXP = 8 };

/* ---- SOFTMAX ---- */

static dlc_status check_softmax(dlc_op *op, const dlc_array *args, const dlc_operand *operands)
{
    DLC_TRY(dlc_expect_operands(op, 1, 1, 1));
    DLC_TRY(expect_matrix(&args[0], "output", false));
    DLC_TRY(expect_matrix(&args[1], "input", false));
    if (args[0].dtype != args[1].dtype || !dlc_same_shape(&args[0], &operands[0], &args[1], &operands[1]))
        return dlc_fail(DLC_INVALID_PLAN, "output and input differ in dtype or shape");
    if (!dlc_attribute_is_flag(op, 0))
        return dlc_fail(DLC_INVALID_PLAN, "its attribute log is %lld; expected 0 or 1", (long long)op->attributes[0]);
    return DLC_OK;
}

static int64_t cost_softmax(const dlc_op *op, const dlc_array *args)
{
    return dlc_cost_mul(dlc_count(&args[op->n_out]), COST_OF_EXP);
}

static dlc_status run_softmax(const dlc_op_call *call)
{
    const dlc_array *out = &call->args[0], *in = &call->args[1];
    const dlc_real_kernels *kernels = call->step->kernels->real[in->dtype];
    const row_share rows = find_share(in, call);
    if (rows.begin == rows.end)
        return DLC_OK;
    (call->op->attributes[0] ? kernels->log_softmax : kernels->softmax)(
        row_of(out, rows.begin), out->stride[0], row_of(in, rows.begin), in->stride[0], rows.end - rows.begin, in->shape[1]);
    return DLC_OK;
}

static dlc_row_role row_role_of_softmax(const dlc_op *op, const dlc_operand *operands)
{
    (void)op;
    return dlc_is_row_shape(operands[0].extents, operands[0].ndim) ? DLC_ROWS_APART : DLC_ROWS_TOGETHER;
}

const dlc_op_def dlc_softmax_def = {
    .name = "softmax",
    .opcode = DLC_OP_SOFTMAX,
    .check = check_softmax,
    .cost = cost_softmax,
    .row_role = row_role_of_softmax,
    .run = run_softmax,
};

/* ---- SOFTMAX_LOSS ---- */

typedef struct loss_operands {
    int32_t loss, grad, mean; /* -1: not asked for */
    int32_t logits, target;
    int32_t scale; /* -1: none */
} loss_operands;

static loss_operands find_operands(const dlc_op *op)
{
    loss_operands at;
    at.loss = op->attributes[0] ? 0 : -1;
    at.grad = op->attributes[1] ? at.loss + 1 : -1;
    at.mean = op->attributes[2] ? op->n_out - 1 : -1;
    at.logits = op->n_out;
    at.target = op->n_out + 1;
    at.scale = op->n_in == 3 ? op->n_out + 2 : -1;
    return at;
}

static dlc_status check_target(const dlc_array *target, const dlc_operand *of_target, const dlc_array *logits,
                               const dlc_operand *of_logits)
{
    if (target->dtype == DLC_INT64) {
        if (target->ndim != 1 || of_target->extents[0] != of_logits->extents[0] ||
            !dlc_is_contiguous(target, of_target, 0))
            return dlc_fail(DLC_INVALID_PLAN, "its labels are not a contiguous int64 for each row of logits");
        return DLC_OK;
    }
    DLC_TRY(expect_matrix(target, "target", false));
    if (target->dtype != logits->dtype || !dlc_same_shape(target, of_target, logits, of_logits))
        return dlc_fail(DLC_INVALID_PLAN, "target and logits differ in dtype or shape");
    return DLC_OK;
}

static dlc_status check_loss_outputs(const dlc_array *args, const dlc_operand *operands, loss_operands at,
                                     bool transposed)
{
    const dlc_array *logits = &args[at.logits];
    if (at.loss >= 0) {
        const dlc_array *loss = &args[at.loss];
        if (loss->dtype != logits->dtype || loss->ndim != 1 ||
            operands[at.loss].extents[0] != operands[at.logits].extents[0] ||
            !dlc_is_contiguous(loss, &operands[at.loss], 0))
            return dlc_fail(DLC_INVALID_PLAN, "its loss is not a contiguous number for each row of logits");
    }
    if (at.grad >= 0) {
        const dlc_array *grad = &args[at.grad];
        DLC_TRY(expect_matrix(grad, "gradient", transposed));
        if (grad->dtype != logits->dtype ||
            !dlc_same_shape(grad, &operands[at.grad], logits, &operands[at.logits]))
            return dlc_fail(DLC_INVALID_PLAN, "gradient and logits differ in dtype or shape");
    }
    if (at.mean >= 0 && (args[at.mean].dtype != logits->dtype || args[at.mean].ndim != 0))
        return dlc_fail(DLC_INVALID_PLAN, "its mean is not a number of the logits' dtype");
    return DLC_OK;
}

static dlc_map_literal number_of(const dlc_op *op)
{
    return (dlc_map_literal){.value = dlc_attribute_double(op, 3), .power = op->attributes[4]};
}

static dlc_status check_scale(const dlc_op *op, const dlc_array *args, const dlc_operand *operands, loss_operands at)
{
    const dlc_map_literal number = number_of(op);
    if (number.power < -1 || number.power > 1)
        return dlc_fail(DLC_INVALID_PLAN, "the power of its scale is %lld, not -1, 0 or 1", (long long)number.power);
    if (at.scale < 0)
        return DLC_OK;
    const dlc_array *scale = &args[at.scale];
    const bool fits = scale->ndim == 0 ||
                      (scale->ndim == 1 && operands[at.scale].extents[0] == operands[at.logits].extents[0]);
    if (scale->dtype != args[at.logits].dtype || !fits)
        return dlc_fail(DLC_INVALID_PLAN, "its scale is not a number, or one for each row of logits");
    if (number.value != 1 || number.power != 0)
        return dlc_fail(DLC_INVALID_PLAN, "it has a scale both as an operand and as attributes");
    return DLC_OK;
}

static dlc_status check_loss(dlc_op *op, const dlc_array *args, const dlc_operand *operands)
{
    enum { ATTRIBUTES = 5 };
    if (op->n_attributes != ATTRIBUTES || !dlc_attribute_is_flag(op, 0) || !dlc_attribute_is_flag(op, 1) ||
        !dlc_attribute_is_flag(op, 2))
        return dlc_fail(DLC_INVALID_PLAN, "its attributes are not has_loss, has_grad and has_mean, each 0 or 1, and a scale");
    const int32_t n_out = (int32_t)(op->attributes[0] + op->attributes[1] + op->attributes[2]);
    DLC_TRY(dlc_expect_operands(op, n_out, op->n_in == 3 ? 3 : 2, ATTRIBUTES));
    loss_operands at = find_operands(op);
    const dlc_array *logits = &args[at.logits];
    const bool transposed = dlc_has_contiguous_columns(logits) && args[at.target].dtype == DLC_INT64;
    DLC_TRY(expect_matrix(logits, "input", transposed));
    DLC_TRY(check_target(&args[at.target], &operands[at.target], logits, &operands[at.logits]));
    DLC_TRY(check_loss_outputs(args, operands, at, transposed));
    return check_scale(op, args, operands, at);
}

/* What as many rows as are dealt out at once add to the mean. Every thread leaves its own, whether or not it fails, so that the
 * mean of a step that fails is not stored. */
typedef struct loss_part {
    double sum;
    int64_t has_failed;
} loss_part;

/* Of n rows. They lie before the losses, where only the mean of these is asked for. */
static int64_t bytes_of_parts(int64_t n, int64_t at_once)
{
    return dlc_align_up(dlc_ceil_div(n, at_once) * (int64_t)sizeof(loss_part));
}

static void scratch_of_loss(int64_t *shared, int64_t *own, const dlc_op *op, const dlc_array *args, const dlc_kernels *kernels)
{
    (void)kernels;
    const loss_operands at = find_operands(op);
    const dlc_array *logits = &args[at.logits];
    const int64_t n = logits->shape[0], bytes_of_losses = at.loss < 0 ? n * dlc_dtype_size(logits->dtype) : 0;
    *own = 0;
    *shared = at.mean >= 0 ? bytes_of_parts(n, rows_at_once(logits)) + bytes_of_losses : 0;
}

static dlc_status check_labels(const int64_t *labels, int64_t begin, int64_t end, int64_t classes, int64_t row_in_step)
{
    uint64_t signs = 0; /* the first bit: whether a label, or what it leaves of the last class, is negative */
    for (int64_t i = begin; i < end; i++)
        signs |= (uint64_t)labels[i] | ((uint64_t)classes - 1 - (uint64_t)labels[i]);
    for (int64_t i = begin; signs >> 63 && i < end; i++)
        if (labels[i] < 0 || labels[i] >= classes)
            return dlc_fail(DLC_INVALID_ARGUMENT, "label %lld in row %lld of the batch is outside [0, %lld)",
                            (long long)labels[i], (long long)(row_in_step + i), (long long)classes);
    return DLC_OK;
}

/* Loss and gradient of this thread's rows; losses (n) may be NULL. */
static dlc_status run_rows_of_loss(const dlc_op_call *call, const loss_operands *at, row_share rows, char *losses)
{
    const dlc_array *grad = at->grad < 0 ? NULL : &call->args[at->grad];
    const dlc_array *scale = at->scale < 0 ? NULL : &call->args[at->scale];
    const dlc_array *logits = &call->args[at->logits], *target = &call->args[at->target];
    const bool has_labels = target->dtype == DLC_INT64;
    const int64_t size = dlc_dtype_size(logits->dtype), begin = rows.begin, end = rows.end;
    if (begin == end)
        return DLC_OK;
    if (has_labels)
        DLC_TRY(check_labels(target->data, begin, end, logits->shape[1], call->step->row_in_step));
    const dlc_real_kernels *kernels = call->step->kernels->real[logits->dtype];
    if (logits->shape[1] == 0) { /* targets of no classes may lie nowhere, which kernels take for labels */
        if (losses)
            kernels->fill(losses + begin * size, NAN, end - begin);
        return DLC_OK;
    }
    const int64_t scale_stride = scale && scale->ndim == 1 ? scale->stride[0] : 0;
    const dlc_map_literal literal = number_of(call->op);
    double number; /* or a float in its place */
    if (!scale)
        kernels->fill(&number, dlc_map_number_of(&literal, (double)call->step->step_rows), 1);
    const void *scales = scale ? (const char *)scale->data + begin * scale_stride * size : (const char *)&number;
    void *own_losses = losses ? losses + begin * size : NULL, *gradients = grad ? row_of(grad, begin) : NULL;
    const void *targets = row_of(target, begin);
    if (dlc_has_contiguous_columns(logits))
        kernels->softmax_loss_transposed(own_losses, gradients, grad ? grad->stride[1] : 0, row_of(logits, begin),
                                         logits->stride[1], targets, scales, scale_stride, end - begin,
                                         logits->shape[1]);
    else
        kernels->softmax_loss(own_losses, gradients, grad ? grad->stride[0] : 0, row_of(logits, begin), logits->stride[0],
                              has_labels ? targets : NULL, has_labels ? NULL : targets,
                              has_labels ? 0 : target->stride[0], scales, scale_stride, end - begin, logits->shape[1]);
    return DLC_OK;
}

/* The parts of this thread's rows */
static void leave_parts(loss_part *parts, const char *losses, row_share rows, bool has_failed, const dlc_real_kernels *kernels,
                        int64_t size)
{
    enum { STEP = sizeof *parts / sizeof(double) };
    if (rows.begin == rows.end)
        return;
    const int64_t first = rows.begin / rows.at_once, whole = rows.end / rows.at_once, last = rows.end - whole * rows.at_once;
    for (int64_t i = first; i < whole + (last > 0); i++)
        parts[i] = (loss_part){.has_failed = has_failed};
    kernels->sum_each(&parts[first].sum, STEP, losses + rows.begin * size, rows.at_once, whole - first, rows.at_once);
    if (last > 0)
        kernels->sum_each(&parts[whole].sum, STEP, losses + (rows.end - last) * size, rows.at_once, 1, last);
}

/* The mean of n losses, or what a block of them adds to that of all rows of the step */
static void store_mean(const dlc_array *mean, const loss_part *parts, int64_t n, int64_t at_once, const dlc_op_call *call)
{
    const dlc_step *step = call->step;
    double sum = 0;
    for (int64_t row = 0; row < n; row += at_once, parts++) {
        if (parts->has_failed)
            return;
        sum += parts->sum;
    }
    const double divisor = (double)(step->rows == step->step_rows ? n : step->step_rows);
    dlc_map_store_sums(mean->data, 1, dlc_dtype_size(mean->dtype), &sum, 1, divisor, call->accumulate);
}

static dlc_status run_loss(const dlc_op_call *call)
{
    const loss_operands at = find_operands(call->op);
    const dlc_array *logits = &call->args[at.logits];
    const row_share rows = find_share(logits, call);
    if (at.mean < 0)
        return run_rows_of_loss(call, &at, rows, at.loss >= 0 ? call->args[at.loss].data : NULL);
    const int64_t n = logits->shape[0];
    loss_part *parts = call->shared;
    char *losses = at.loss >= 0 ? call->args[at.loss].data : (char *)call->shared + bytes_of_parts(n, rows.at_once);
    const dlc_status status = run_rows_of_loss(call, &at, rows, losses);
    leave_parts(parts, losses, rows, status != DLC_OK, call->step->kernels->real[logits->dtype], dlc_dtype_size(logits->dtype));
    dlc_barrier_wait(call->barrier, call->n_threads);
    if (call->thread == 0)
        store_mean(&call->args[at.mean], parts, n, rows.at_once, call);
    return status;
}

/* Its scale may be the same for all rows, as a mean is. */
static dlc_row_role row_role_of_loss(const dlc_op *op, const dlc_operand *operands)
{
    bool has_rows = true;
    for (int32_t i = 0; i < op->n_out + op->n_in; i++)
        has_rows = has_rows && (operands[i].ndim == 0 || dlc_is_row_shape(operands[i].extents, operands[i].ndim));
    return !has_rows ? DLC_ROWS_TOGETHER : find_operands(op).mean >= 0 ? DLC_ROWS_SUMMED : DLC_ROWS_APART;
}

const dlc_op_def dlc_softmax_loss_def = {
    .name = "softmax_loss",
    .opcode = DLC_OP_SOFTMAX_LOSS,
    .can_fail = true,
    .check = check_loss,
    .scratch = scratch_of_loss,
    .cost = cost_softmax,
    .row_role = row_role_of_loss,
    .run = run_loss,
};
