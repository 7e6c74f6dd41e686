/* Two ops that dlcore does not have, softsign and its gradient, on contiguous float64. They are compiled against the
 * headers alone and reach dlcore through dlc_op_register. softsign is bound to the number of its elements. */
#include <math.h>

#include "plan/op.h"

static int64_t count(const dlc_array *array)
{
    int64_t n = 1;
    for (int32_t i = 0; i < array->ndim; i++)
        n *= array->shape[i];
    return n;
}

static dlc_status check(dlc_op *op, const dlc_array *args, const dlc_operand *operands)
{
    int32_t n_in = op->def->opcode == DLC_OP_FIRST_CUSTOM ? 1 : 2;
    if (op->n_out != 1 || op->n_in != n_in || op->n_attributes != 0)
        return DLC_INVALID_PLAN;
    for (int32_t i = 0; i <= n_in; i++) {
        if (args[i].dtype != DLC_FLOAT64 || args[i].ndim != args[0].ndim)
            return DLC_INVALID_PLAN;
        int64_t expected = 1;
        for (int32_t axis = args[0].ndim - 1; axis >= 0; expected *= args[i].shape[axis--])
            if (operands[i].extents[axis] != operands[0].extents[axis] || args[i].stride[axis] != expected)
                return DLC_INVALID_PLAN;
    }
    return DLC_OK;
}

static int64_t cost(const dlc_op *op, const dlc_array *args) { return (1 + op->n_in) * count(&args[0]); }

static int64_t bound_bytes(const dlc_op *op)
{
    (void)op;
    return sizeof(int64_t);
}

static void bind(void *bound, const dlc_op_call *call) { *(int64_t *)bound = count(&call->args[0]); }

/* out (n) = x (n) / (1 + |x|) */
static dlc_status run_softsign(const dlc_op_call *call)
{
    double *out = call->args[0].data;
    const double *x = call->args[1].data;
    int64_t n = *(const int64_t *)call->bound;
    for (int64_t i = call->thread; i < n; i += call->n_threads)
        out[i] = x[i] / (1 + fabs(x[i]));
    return DLC_OK;
}

/* out (n) = grad (n) / (1 + |x (n)|)^2 */
static dlc_status run_gradient(const dlc_op_call *call)
{
    double *out = call->args[0].data;
    const double *grad = call->args[1].data, *x = call->args[2].data;
    int64_t n = count(&call->args[0]);
    for (int64_t i = call->thread; i < n; i += call->n_threads)
        out[i] = grad[i] / ((1 + fabs(x[i])) * (1 + fabs(x[i])));
    return DLC_OK;
}

static int32_t packed_operand(const dlc_op *op) { return op->n_out; }

const dlc_op_def softsign = {.name = "softsign",
                             .opcode = DLC_OP_FIRST_CUSTOM,
                             .check = check,
                             .cost = cost,
                             .bound_bytes = bound_bytes,
                             .bind = bind,
                             .run = run_softsign};
const dlc_op_def softsign_gradient = {
    .name = "softsign_gradient", .opcode = DLC_OP_FIRST_CUSTOM + 1, .check = check, .cost = cost, .run = run_gradient};
const dlc_op_def softsign_unbound = {.name = "softsign_unbound",
                                     .opcode = DLC_OP_FIRST_CUSTOM + 2,
                                     .check = check,
                                     .cost = cost,
                                     .bound_bytes = bound_bytes,
                                     .run = run_softsign};
const dlc_op_def softsign_unpacked = {.name = "softsign_unpacked",
                                      .opcode = DLC_OP_FIRST_CUSTOM + 2,
                                      .check = check,
                                      .cost = cost,
                                      .packed_operand = packed_operand,
                                      .run = run_softsign};
const dlc_op_def softsign_again = {
    .name = "softsign_again", .opcode = DLC_OP_FIRST_CUSTOM, .check = check, .cost = cost, .run = run_softsign};
