/* GATHER: out (rows, d...) = the rows of in (dataset rows, d...), a DATASET, that the run's order names.
 *
 * Without attributes, out is float32 or float64 and in any dtype, or both have one dtype. With the attributes low and
 * high, out is int64 and every value is checked to be an integer in [low, high): labels are trusted from here on. */
#include "plan/builtin.h"
#include "plan/index.h"
#include "plan/operand.h"

static dlc_status check(dlc_op *op, const dlc_array *args, const dlc_operand *operands)
{
    const dlc_array *out = &args[0], *in = &args[1];
    DLC_TRY(dlc_expect_operands(op, 1, 1, op->n_attributes == 0 ? 0 : 2));
    if (operands[1].slot_kind != DLC_SLOT_DATASET)
        return dlc_fail(DLC_INVALID_PLAN, "its input does not lie in a DATASET slot");
    if (out->ndim < 1 || !dlc_same_shape(out, &operands[0], in, &operands[1]))
        return dlc_fail(DLC_INVALID_PLAN, "output and input differ in shape");
    if (!dlc_is_contiguous(out, &operands[0], 1) || !dlc_is_contiguous(in, &operands[1], 1))
        return dlc_fail(DLC_INVALID_PLAN, "rows are not contiguous");
    if (op->n_attributes == 2 && out->dtype != DLC_INT64)
        return dlc_fail(DLC_INVALID_PLAN, "its output has dtype %d; labels are int64", (int)out->dtype);
    if (op->n_attributes == 2 && op->attributes[0] >= op->attributes[1])
        return dlc_fail(DLC_INVALID_PLAN, "its labels lie in [%lld, %lld), which is empty",
                        (long long)op->attributes[0], (long long)op->attributes[1]);
    if (op->n_attributes == 0 && out->dtype != in->dtype && !dlc_is_real(out->dtype))
        return dlc_fail(DLC_INVALID_PLAN, "it cannot convert dtype %d to %d", (int)in->dtype, (int)out->dtype);
    return DLC_OK;
}

static int64_t cost(const dlc_op *op, const dlc_array *args)
{
    (void)op;
    return dlc_count(&args[0]);
}

static dlc_status gather_labels(int64_t *out, const char *in, int32_t dtype, int64_t n, int64_t row, const dlc_op *op)
{
    const dlc_index_range range = {"label", "in row", op->attributes[0], op->attributes[1]};
    if (n == 1 && dtype == DLC_INT64) { /* what labels mostly are */
        memcpy(out, in, sizeof *out);
        if (*out >= range.low && *out < range.high)
            return DLC_OK;
    }
    for (int64_t i = 0; i < n; i++, in += dlc_dtype_size(dtype))
        DLC_TRY(dlc_read_indices(&out[i], in, dtype, 1, 1, &range, row));
    return DLC_OK;
}

/* memcpy, without the call for rows of a few numbers: two pieces that may overlap. */
static void copy_row(char *out, const char *in, int64_t bytes)
{
    if (bytes > 64) {
        memcpy(out, in, (size_t)bytes);
    } else if (bytes >= 32) {
        memcpy(out, in, 32);
        memcpy(out + bytes - 32, in + bytes - 32, 32);
    } else if (bytes >= 16) {
        memcpy(out, in, 16);
        memcpy(out + bytes - 16, in + bytes - 16, 16);
    } else if (bytes >= 8) {
        memcpy(out, in, 8);
        memcpy(out + bytes - 8, in + bytes - 8, 8);
    } else {
        for (int64_t i = 0; i < bytes; i++)
            out[i] = in[i];
    }
}

static dlc_status gather_row(const dlc_op_call *call, char *out, const char *in, int64_t width, int64_t row)
{
    int32_t to = call->args[0].dtype, from = call->args[1].dtype;
    if (call->op->n_attributes == 2)
        return gather_labels((int64_t *)out, in, from, width, row, call->op);
    if (to == from)
        copy_row(out, in, width * dlc_dtype_size(to));
    else
        call->step->kernels->real[to]->convert[from](out, in, 1, width);
    return DLC_OK;
}

/* Rows that lie one behind the other in both arrays are one. */
static bool is_one_run(const dlc_op_call *call, int64_t width)
{
    return !call->step->order && call->op->n_attributes == 0 && call->args[0].stride[0] == width &&
           call->args[1].stride[0] == width;
}

static dlc_status run(const dlc_op_call *call)
{
    const dlc_array *out = &call->args[0], *in = &call->args[1];
    const dlc_step *step = call->step;
    int64_t width = dlc_count_from(out, 1);
    int64_t out_row = out->stride[0] * dlc_dtype_size(out->dtype);
    int64_t in_row = in->stride[0] * dlc_dtype_size(in->dtype);
    int64_t begin, end;
    if (width == 0)
        return DLC_OK;
    dlc_split(&begin, &end, out->shape[0], dlc_max64(1, DLC_CHUNK_ELEMENTS / width), call->thread, call->n_threads);
    const int64_t at_once = is_one_run(call, width) && step->first_row + end <= in->shape[0] ? end - begin : 1;
    for (int64_t i = begin; i < end; i += at_once) {
        int64_t row = step->order ? step->order[i] : step->first_row + i;
        if (row < 0 || row >= in->shape[0])
            return dlc_fail(DLC_INVALID_ARGUMENT, "the order names row %lld; the data set has %lld rows",
                            (long long)row, (long long)in->shape[0]);
        DLC_TRY(gather_row(call, (char *)out->data + i * out_row, (const char *)in->data + row * in_row,
                           at_once * width, row));
    }
    return DLC_OK;
}

static dlc_row_role row_role(const dlc_op *op, const dlc_operand *operands)
{
    (void)op;
    (void)operands;
    return DLC_ROWS_APART;
}

const dlc_op_def dlc_gather_def = {
    .name = "gather",
    .opcode = DLC_OP_GATHER,
    .reads_dataset = true,
    .can_fail = true,
    .check = check,
    .cost = cost,
    .row_role = row_role,
    .run = run,
};
