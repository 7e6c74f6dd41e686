/* Fused optimiser steps. All operands but the scalars are contiguous and have one float dtype and shape; the scalars
 * are float64 and change from step to step, as a learning rate does.
 *
 * SGD_STEP:  outs param[, velocity: exactly when momentum is not 0]; ins grad, scalars (lr)
 *            attributes: bits of momentum, bits of weight_decay, nesterov, sklearn
 * ADAM_STEP: outs param, m, v; ins grad, scalars (step_size, v_scale, decay)
 *            attributes: bits of beta1, beta2, eps and l2
 * The formulas stand in cpu/kernels.h. */
#include <math.h>

#include "plan/builtin.h"
#include "plan/operand.h"

static dlc_status check_operands(const dlc_op *op, const dlc_array *args, const dlc_operand *operands,
                                 int64_t n_scalars)
{
    int32_t grad = op->n_out, scalars = op->n_out + 1;
    for (int32_t i = 0; i <= grad; i++) {
        if (!dlc_is_real(args[i].dtype) || args[i].dtype != args[0].dtype ||
            !dlc_same_shape(&args[i], &operands[i], &args[0], &operands[0]))
            return dlc_fail(DLC_INVALID_PLAN, "operand %d differs from the parameter in dtype or shape", (int)i);
        if (!dlc_is_contiguous(&args[i], &operands[i], 0))
            return dlc_fail(DLC_INVALID_PLAN, "operand %d is not contiguous", (int)i);
    }
    if (args[scalars].dtype != DLC_FLOAT64 || args[scalars].ndim != 1 || operands[scalars].extents[0] < n_scalars ||
        !dlc_is_contiguous(&args[scalars], &operands[scalars], 0))
        return dlc_fail(DLC_INVALID_PLAN, "its scalars are not a contiguous vector of at least %lld float64",
                        (long long)n_scalars);
    return DLC_OK;
}

static dlc_status check_range(const dlc_op *op, int32_t index, const char *name, double limit)
{
    double value = dlc_attribute_double(op, index);
    if (!(value >= 0 && value < limit))
        return dlc_fail(DLC_INVALID_PLAN, "its %s is %g; expected a number in [0, %g)", name, value, limit);
    return DLC_OK;
}

/* The share of the elements that falls to a thread, chunk by chunk. */
typedef struct chunks {
    int64_t begin, end;
} chunks;

static chunks split(const dlc_op_call *call)
{
    chunks share;
    dlc_split(&share.begin, &share.end, dlc_count(&call->args[0]), DLC_CHUNK_ELEMENTS, call->thread, call->n_threads);
    return share;
}

static void *element(const dlc_array *array, int64_t index)
{
    return (char *)array->data + index * dlc_dtype_size(array->dtype);
}

/* ---- SGD_STEP ---- */

static dlc_status check_sgd(dlc_op *op, const dlc_array *args, const dlc_operand *operands)
{
    if (op->n_attributes != 4)
        return dlc_fail(DLC_INVALID_PLAN, "there are %d attributes; expected 4", (int)op->n_attributes);
    DLC_TRY(check_range(op, 0, "momentum", 1));
    DLC_TRY(check_range(op, 1, "weight_decay", INFINITY));
    if (!dlc_attribute_is_flag(op, 2) || !dlc_attribute_is_flag(op, 3))
        return dlc_fail(DLC_INVALID_PLAN, "its attributes nesterov and sklearn are not 0 or 1");
    DLC_TRY(dlc_expect_operands(op, dlc_attribute_double(op, 0) != 0 ? 2 : 1, 2, 4));
    return check_operands(op, args, operands, 1);
}

static int64_t cost_sgd(const dlc_op *op, const dlc_array *args)
{
    return dlc_cost_mul(dlc_count(&args[0]), op->n_out + 1);
}

static dlc_status run_sgd(const dlc_op_call *call)
{
    const dlc_op *op = call->op;
    const dlc_array *param = &call->args[0], *velocity = op->n_out == 2 ? &call->args[1] : NULL;
    const dlc_array *grad = &call->args[op->n_out];
    const double *scalars = call->args[op->n_out + 1].data;
    const dlc_sgd_options options = {.lr = scalars[0],
                                     .momentum = dlc_attribute_double(op, 0),
                                     .weight_decay = dlc_attribute_double(op, 1),
                                     .nesterov = op->attributes[2],
                                     .sklearn = op->attributes[3]};
    chunks share = split(call);
    for (int64_t i = share.begin; i < share.end; i += DLC_CHUNK_ELEMENTS)
        call->step->kernels->real[param->dtype]->sgd_step(element(param, i), velocity ? element(velocity, i) : NULL,
                                                          element(grad, i), &options,
                                                          dlc_min64(DLC_CHUNK_ELEMENTS, share.end - i));
    return DLC_OK;
}

const dlc_op_def dlc_sgd_step_def = {
    .name = "sgd_step",
    .opcode = DLC_OP_SGD_STEP,
    .check = check_sgd,
    .cost = cost_sgd,
    .run = run_sgd,
};

/* ---- ADAM_STEP ---- */

static dlc_status check_adam(dlc_op *op, const dlc_array *args, const dlc_operand *operands)
{
    DLC_TRY(dlc_expect_operands(op, 3, 2, 4));
    DLC_TRY(check_range(op, 0, "beta1", 1));
    DLC_TRY(check_range(op, 1, "beta2", 1));
    DLC_TRY(check_range(op, 2, "eps", INFINITY));
    DLC_TRY(check_range(op, 3, "l2", INFINITY));
    return check_operands(op, args, operands, 3);
}

static int64_t cost_adam(const dlc_op *op, const dlc_array *args)
{
    (void)op;
    return dlc_cost_mul(dlc_count(&args[0]), 8); /* four loads, and a square root and a division */
}

static dlc_status run_adam(const dlc_op_call *call)
{
    const dlc_op *op = call->op;
    const dlc_array *param = &call->args[0], *m = &call->args[1], *v = &call->args[2], *grad = &call->args[3];
    const double *scalars = call->args[4].data;
    const dlc_adam_options options = {.step_size = scalars[0],
                                      .v_scale = scalars[1],
                                      .decay = scalars[2],
                                      .beta1 = dlc_attribute_double(op, 0),
                                      .beta2 = dlc_attribute_double(op, 1),
                                      .eps = dlc_attribute_double(op, 2),
                                      .l2 = dlc_attribute_double(op, 3)};
    chunks share = split(call);
    for (int64_t i = share.begin; i < share.end; i += DLC_CHUNK_ELEMENTS)
        call->step->kernels->real[param->dtype]->adam_step(element(param, i), element(m, i), element(v, i),
                                                           element(grad, i), &options,
                                                           dlc_min64(DLC_CHUNK_ELEMENTS, share.end - i));
    return DLC_OK;
}

const dlc_op_def dlc_adam_step_def = {
    .name = "adam_step",
    .opcode = DLC_OP_ADAM_STEP,
    .check = check_adam,
    .cost = cost_adam,
    .run = run_adam,
};
