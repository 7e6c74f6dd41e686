/* Fused optimiser steps: an op for each kind in cpu/steps.h, which states what they compute.
 *
 * outs  those of plan/recorded_step.h; ins grad, like the parameter, and the scalars
 * attributes  those of plan/recorded_step.h */
#include <stdlib.h>

#include "plan/builtin.h"
#include "plan/recorded_step.h"

static dlc_status check(dlc_op *op, const dlc_array *args, const dlc_operand *operands)
{
    dlc_recorded_step *step = calloc(1, sizeof *step);
    if (!step)
        return dlc_fail(DLC_OUT_OF_MEMORY, "no memory for the options of a step");
    op->prepared = step;
    DLC_TRY(dlc_recorded_step_read(step, op->def->opcode, op, 0));
    DLC_TRY(dlc_expect_operands(op, step->n_out, 2, op->n_attributes));
    DLC_TRY(dlc_recorded_step_check(step, op, args, operands));
    const int32_t grad = op->n_out;
    if (args[grad].dtype != args[0].dtype || !dlc_same_shape(&args[grad], &operands[grad], &args[0], &operands[0]))
        return dlc_fail(DLC_INVALID_PLAN, "operand %d differs from the parameter in dtype or shape", (int)grad);
    if (!dlc_is_contiguous(&args[grad], &operands[grad], 0))
        return dlc_fail(DLC_INVALID_PLAN, "operand %d is not contiguous", (int)grad);
    return DLC_OK;
}

static int64_t cost(const dlc_op *op, const dlc_array *args)
{
    const dlc_recorded_step *step = op->prepared;
    return dlc_cost_mul(dlc_count(&args[0]), op->n_out + 1 + step->cost);
}

static dlc_status run(const dlc_op_call *call)
{
    const dlc_recorded_step *step = call->op->prepared;
    const dlc_array *param = &call->args[0], *grad = param + step->n_out, *scalars = grad + 1;
    int64_t begin, end;
    dlc_split(&begin, &end, dlc_count(param), DLC_SHARED_ELEMENTS, call->thread, call->n_threads);
    if (begin < end)
        dlc_recorded_step_run(step, call->step->kernels->real[param->dtype], param,
                              (char *)grad->data + begin * dlc_dtype_size(grad->dtype), scalars->data, begin, end);
    return DLC_OK;
}

#define DEFINE_STEP_OP(name_, NAME)             \
    const dlc_op_def dlc_##name_##_step_def = { \
        .name = #name_ "_step",                 \
        .opcode = DLC_OP_##NAME##_STEP,         \
        .check = check,                         \
        .cost = cost,                           \
        .run = run,                             \
    }

DEFINE_STEP_OP(sgd, SGD);
DEFINE_STEP_OP(adam, ADAM);
DEFINE_STEP_OP(nadam, NADAM);
DEFINE_STEP_OP(radam, RADAM);
DEFINE_STEP_OP(rmsprop, RMSPROP);
DEFINE_STEP_OP(adagrad, ADAGRAD);
DEFINE_STEP_OP(adadelta, ADADELTA);
DEFINE_STEP_OP(lion, LION);
