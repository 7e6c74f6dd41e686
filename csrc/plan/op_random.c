/* RANDOM: out, contiguous, is filled from the counter-based generator keyed by (seed, stream, step). The columns of a matrix may be
 * contiguous instead, which changes where a number lies and not which it is.
 * Attributes: the kind, the stream (32 bits), and the bits of the double keep, which keep_mask alone reads. */
#include "plan/builtin.h"
#include "plan/operand.h"

enum { UNIFORM = 0, NORMAL = 1, KEEP_MASK = 2 };

/* About what one number costs beside a load: ten rounds of Philox for four of them, and a logarithm for a normal. */
enum { COST_OF_NUMBER = 16 };

static dlc_status check(dlc_op *op, const dlc_array *args, const dlc_operand *operands)
{
    DLC_TRY(dlc_expect_operands(op, 1, 0, 3));
    const bool by_columns = dlc_has_contiguous_columns(&args[0]) && operands[0].extents[1] >= 0;
    if (!dlc_is_real(args[0].dtype) || !(by_columns || dlc_is_contiguous(&args[0], &operands[0], 0)))
        return dlc_fail(DLC_INVALID_PLAN, "its output is neither a contiguous float array nor one of contiguous columns");
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

/* Rows of a matrix that are made at a time where its columns are contiguous: whole vectors of any width. */
enum { ROWS_AT_ONCE = 16 };

static void scratch(int64_t *shared, int64_t *own, const dlc_op *op, const dlc_array *args, const dlc_kernels *kernels)
{
    (void)op;
    (void)kernels;
    *shared = 0;
    *own = dlc_has_contiguous_columns(&args[0])
               ? dlc_min64(args[0].shape[0], ROWS_AT_ONCE) * args[0].shape[1] * dlc_dtype_size(args[0].dtype)
               : 0;
}

/* elements (n): from number `first` of the step on */
static void fill(void *elements, const dlc_op_call *call, int64_t first, int64_t n)
{
    const dlc_step *step = call->step;
    const dlc_real_kernels *kernels = step->kernels->real[call->args[0].dtype];
    uint32_t stream = (uint32_t)call->op->attributes[1];
    switch (call->op->attributes[0]) {
    case UNIFORM:
        kernels->uniform(elements, step->seed, stream, step->counter, first, n);
        break;
    case NORMAL:
        kernels->normal(elements, step->seed, stream, step->counter, first, n);
        break;
    default:
        kernels->keep_mask(elements, dlc_attribute_double(call->op, 2), step->seed, stream, step->counter, first, n);
    }
}

/* columns (cols, n; leading dimension ld) = the transpose of rows (n, cols) */
static void transpose(char *columns, int64_t ld, const char *rows, int64_t n, int64_t cols, int32_t dtype,
                      const dlc_real_kernels *kernels)
{
    const int64_t size = dlc_dtype_size(dtype);
    if (n % kernels->gemm->lanes == 0) {
        kernels->gemm->pack(columns, ld, rows, cols, 1, n, cols);
        return;
    }
    for (int64_t row = 0; row < n; row++)
        for (int64_t col = 0; col < cols; col++)
            memcpy(columns + (col * ld + row) * size, rows + (row * cols + col) * size, (size_t)size);
}

static void fill_columns(const dlc_op_call *call, int64_t before)
{
    const dlc_array *out = &call->args[0];
    const int64_t cols = out->shape[1], ld = out->stride[1], size = dlc_dtype_size(out->dtype);
    int64_t row, end;
    dlc_split(&row, &end, out->shape[0], ROWS_AT_ONCE, call->thread, call->n_threads);
    for (; row < end; row += ROWS_AT_ONCE) {
        const int64_t n = dlc_min64(ROWS_AT_ONCE, end - row);
        fill(call->own, call, before + row * cols, n * cols);
        transpose((char *)out->data + row * size, ld, call->own, n, cols, out->dtype,
                  call->step->kernels->real[out->dtype]);
    }
}

static void fill_in_order(const dlc_op_call *call, int64_t before)
{
    const dlc_array *out = &call->args[0];
    int64_t begin, end;
    dlc_split(&begin, &end, dlc_count(out), DLC_SHARED_ELEMENTS, call->thread, call->n_threads);
    if (begin < end)
        fill((char *)out->data + begin * dlc_dtype_size(out->dtype), call, before + begin, end - begin);
}

static dlc_status run(const dlc_op_call *call)
{
    /* numbers of the step before those in hand: of 0 rows where it has no axis of them */
    const int64_t before = call->step->row_in_step * dlc_count_from(&call->args[0], 1);
    if (dlc_has_contiguous_columns(&call->args[0]))
        fill_columns(call, before);
    else
        fill_in_order(call, before);
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
    .scratch = scratch,
    .cost = cost,
    .row_role = row_role,
    .run = run,
};
