/* RANDOM: out, contiguous, is filled from the counter-based generator keyed by (seed, stream, step).
 * Attributes: the kind, the stream (32 bits), and the bits of the double keep, which keep_mask alone reads. */
#include "plan/builtin.h"
#include "plan/operand.h"

enum { UNIFORM = 0, NORMAL = 1, KEEP_MASK = 2 };

/* About what one number costs beside a load: ten rounds of Philox for four of them, and a logarithm for a normal. */
enum { COST_OF_NUMBER = 16 };

static dlc_status check(dlc_op *op, const dlc_array *args, const dlc_operand *operands)
{
    DLC_TRY(dlc_expect_operands(op, 1, 0, 3));
    if (!dlc_is_real(args[0].dtype) || !dlc_is_contiguous(&args[0], &operands[0], 0))
        return dlc_fail(DLC_INVALID_PLAN, "its output is not a contiguous float array");
    if (op->attributes[0] < UNIFORM || op->attributes[0] > KEEP_MASK)
        return dlc_fail(DLC_INVALID_PLAN, "its kind is %lld; expected 0 to 2", (long long)op->attributes[0]);
    if (op->attributes[1] < 0 || op->attributes[1] > UINT32_MAX)
        return dlc_fail(DLC_INVALID_PLAN, "its stream is %lld; expected 0 to 2^32 - 1", (long long)op->attributes[1]);
    double keep = dlc_attribute_double(op, 2);
    if (op->attributes[0] == KEEP_MASK && !(keep > 0 && keep <= 1))
        return dlc_fail(DLC_INVALID_PLAN, "its keep is %g; expected a number in (0, 1]", keep);
    return DLC_OK;
}

static int64_t cost(const dlc_op *op, const dlc_array *args)
{
    (void)op;
    return dlc_cost_mul(dlc_count(&args[0]), COST_OF_NUMBER);
}

/* Elements [begin, begin + n) of the rows in hand, which are `before` elements further on in the step. */
static void fill(const dlc_op *op, const dlc_step *step, const dlc_array *out, int64_t before, int64_t begin, int64_t n)
{
    const dlc_real_kernels *kernels = step->kernels->real[out->dtype];
    void *elements = (char *)out->data + begin * dlc_dtype_size(out->dtype);
    const int64_t first = before + begin;
    uint32_t stream = (uint32_t)op->attributes[1];
    switch (op->attributes[0]) {
    case UNIFORM:
        kernels->uniform(elements, step->seed, stream, step->counter, first, n);
        break;
    case NORMAL:
        kernels->normal(elements, step->seed, stream, step->counter, first, n);
        break;
    default:
        kernels->keep_mask(elements, dlc_attribute_double(op, 2), step->seed, stream, step->counter, first, n);
    }
}

static dlc_status run(const dlc_op_call *call)
{
    const dlc_array *out = &call->args[0];
    int64_t begin, end;
    dlc_split(&begin, &end, dlc_count(out), DLC_CHUNK_ELEMENTS, call->thread, call->n_threads);
    const int64_t before = call->step->row_in_step * dlc_count_from(out, 1); /* of 0 rows where it has no axis of them */
    for (; begin < end; begin += DLC_CHUNK_ELEMENTS)
        fill(call->op, call->step, out, before, begin, dlc_min64(DLC_CHUNK_ELEMENTS, end - begin));
    return DLC_OK;
}

static dlc_row_role row_role(const dlc_op *op, const dlc_operand *operands)
{
    (void)op;
    return dlc_is_row_shape(operands[0].extents, operands[0].ndim) ? DLC_ROWS_APART : DLC_ROWS_TOGETHER;
}

const dlc_op_def dlc_random_def = {
    .name = "random",
    .opcode = DLC_OP_RANDOM,
    .check = check,
    .cost = cost,
    .row_role = row_role,
    .run = run,
};
