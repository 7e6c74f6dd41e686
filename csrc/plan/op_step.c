/* Fused optimiser steps: an op for each kind in cpu/steps.h, which states what they compute.
 *
 * outs  those of plan/recorded_step.h; ins grad, like the parameter, and the scalars
 * attributes  those of plan/recorded_step.h */
#include <stdlib.h>
#include <string.h>

#include "plan/builtin.h"
#include "plan/recorded_step.h"

typedef struct prepared_step {
    dlc_recorded_step step;
    int32_t dtype;
    bool stays; /* all but the scalars lie in the same place in every step */
} prepared_step;

static dlc_status check(dlc_op *op, const dlc_array *args, const dlc_operand *operands)
{
    prepared_step *prepared = calloc(1, sizeof *prepared);
    if (!prepared)
        return dlc_fail(DLC_OUT_OF_MEMORY, "no memory for the options of a step");
    op->prepared = prepared;
    dlc_recorded_step *step = &prepared->step;
    DLC_TRY(dlc_recorded_step_read(step, op->def->opcode, op, 0));
    DLC_TRY(dlc_expect_operands(op, step->n_out, 2, op->n_attributes));
    DLC_TRY(dlc_recorded_step_check(step, op, args, operands));
    const int32_t grad = op->n_out;
    if (args[grad].dtype != args[0].dtype || !dlc_same_shape(&args[grad], &operands[grad], &args[0], &operands[0]))
        return dlc_fail(DLC_INVALID_PLAN, "operand %d differs from the parameter in dtype or shape", (int)grad);
    if (!dlc_is_contiguous(&args[grad], &operands[grad], 0))
        return dlc_fail(DLC_INVALID_PLAN, "operand %d is not contiguous", (int)grad);
    prepared->dtype = args[0].dtype;
    prepared->stays = true;
    for (int32_t i = 0; i <= grad; i++)
        prepared->stays = prepared->stays && !dlc_operand_moves(&operands[i]);
    return DLC_OK;
}

static int64_t cost(const dlc_op *op, const dlc_array *args)
{
    const dlc_recorded_step *step = &((const prepared_step *)op->prepared)->step;
    return dlc_cost_mul(dlc_count(&args[0]), op->n_out + 1 + step->cost);
}

/* ---- Steps that are one ---- */

/* Whether the op takes the same step as the one before it. The parameters of a model do, and on one thread the first of them takes
 * it for all. (With a call for each, 10-32-2 in batches of 32 takes 1.06 of the time, 10-32-32-32-2 1.05, 64-100-10 in batches of
 * 200 1.01: Zen 5, two builds in turns.) */
static bool continues(const dlc_op *op)
{
    const dlc_op *previous = op->previous;
    if (!previous || previous->def != op->def || op->barrier_before)
        return false;
    const prepared_step *prepared = op->prepared, *before = previous->prepared;
    const int32_t scalars = op->n_out + 1;
    return prepared->stays && before->stays && prepared->dtype == before->dtype && op->n_out == previous->n_out &&
           op->operands[scalars] == previous->operands[scalars] &&
           memcmp(op->attributes, previous->attributes, (size_t)op->n_attributes * sizeof *op->attributes) == 0;
}

typedef struct bound_step {
    bool is_alone;  /* on one thread, in one place */
    bool continues; /* what an earlier op does */
    dlc_step_part part;
} bound_step;

/* Of the next op, which is bound in one pass with this one and by the same thread */
static const bound_step *bound_next(const void *memory, const dlc_op *op)
{
    return (const bound_step *)((const char *)memory - op->bound_offset + op->next->bound_offset);
}

static int64_t bound_bytes(const dlc_op *op)
{
    (void)op;
    return sizeof(bound_step);
}

static void bind(void *memory, const dlc_op_call *call)
{
    bound_step *bound = memory;
    const dlc_op *op = call->op;
    const prepared_step *prepared = op->prepared;
    const dlc_array *param = &call->args[0], *grad = &call->args[op->n_out];
    bound->is_alone = call->n_threads == 1 && prepared->stays;
    if (!bound->is_alone)
        return;
    bound->continues = continues(op);
    bound->part = dlc_recorded_step_part(&prepared->step, param, grad->data, 0, dlc_count(param));
    if (op->next && continues(op->next))
        bound->part.next = &bound_next(memory, op)->part;
}

/* What is bound stays where it is; the scalars are found when the step is taken. */
static void move(void *memory, const dlc_op_call *call)
{
    (void)memory;
    (void)call;
}

static dlc_status run(const dlc_op_call *call)
{
    const dlc_recorded_step *step = &((const prepared_step *)call->op->prepared)->step;
    const dlc_array *param = &call->args[0], *grad = param + step->n_out, *scalars = grad + 1;
    const dlc_real_kernels *kernels = call->step->kernels->real[param->dtype];
    const bound_step *bound = call->bound;
    if (bound->is_alone) {
        if (!bound->continues)
            kernels->step[step->kind](&bound->part, &step->options, scalars->data);
        return DLC_OK;
    }
    int64_t begin, end;
    dlc_split(&begin, &end, dlc_count(param), DLC_SHARED_ELEMENTS, call->thread, call->n_threads);
    if (begin < end)
        dlc_recorded_step_run(step, kernels, param, (char *)grad->data + begin * dlc_dtype_size(grad->dtype), scalars->data,
                              begin, end);
    return DLC_OK;
}

#define DEFINE_STEP_OP(name_, NAME)             \
    const dlc_op_def dlc_##name_##_step_def = { \
        .name = #name_ "_step",                 \
        .opcode = DLC_OP_##NAME##_STEP,         \
        .check = check,                         \
        .cost = cost,                           \
        .bound_bytes = bound_bytes,             \
        .bind = bind,                           \
        .move = move,                           \
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
