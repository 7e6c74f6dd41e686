/* Fused optimiser steps: an op for each kind in cpu/steps.h, which states what they compute.
 *
 * outs param, those states that the options ask for, average: exactly when its decay is not 0; ins grad, scalars
 * attributes: bits of weight_decay, decoupled, bits of the decay of the average; then the kind's own options. Numbers are
 *             given by their bits, flags as 0 or 1.
 * All operands but the scalars are contiguous and have one float dtype and shape; the scalars are float64 and change from
 * step to step, as a learning rate does. */
#include <math.h>

#include "plan/builtin.h"
#include "plan/operand.h"

typedef enum range { FRACTION /* [0, 1) */, NON_NEGATIVE /* [0, inf) */, FLAG } range;

typedef struct option_spec {
    const char *name; /* NULL behind the last one */
    range range;
} option_spec;

/* The attributes that come first in every step. */
enum { WEIGHT_DECAY, DECOUPLED, AVERAGE, N_SHARED };
static const option_spec shared_options[N_SHARED] = {
    {"weight_decay", NON_NEGATIVE}, {"decoupled", FLAG}, {"average", FRACTION}};

/* In place of the own option that a state depends on. */
enum { ALWAYS = -1 };

/* About what a square root and a division cost beside a load. */
enum { COST_OF_ROOT = 4 };

typedef struct step_spec {
    int32_t opcode;
    dlc_step_kind kind;
    int32_t n_scalars, n_states;
    int32_t states[DLC_STEP_MAX_STATES]; /* ALWAYS, or the own option with which a state is there: when it is not 0 */
    int32_t cost; /* beside loads and stores */
    option_spec own[DLC_STEP_MAX_OPTIONS];
} step_spec;

#define MOMENTS {"beta1", FRACTION}, {"beta2", FRACTION}, {"eps", NON_NEGATIVE}

static const step_spec steps[] = {
    {DLC_OP_SGD_STEP, DLC_STEP_SGD, 1, 1, {0}, 0, {{"momentum", FRACTION}, {"nesterov", FLAG}, {"sklearn", FLAG}}},
    {DLC_OP_ADAM_STEP, DLC_STEP_ADAM, 3, 3, {ALWAYS, ALWAYS, 3}, COST_OF_ROOT, {MOMENTS, {"amsgrad", FLAG}}},
    {DLC_OP_NADAM_STEP, DLC_STEP_NADAM, 4, 2, {ALWAYS, ALWAYS}, COST_OF_ROOT, {MOMENTS}},
    {DLC_OP_RADAM_STEP, DLC_STEP_RADAM, 3, 2, {ALWAYS, ALWAYS}, COST_OF_ROOT, {MOMENTS}},
    {DLC_OP_RMSPROP_STEP,
     DLC_STEP_RMSPROP,
     1,
     3,
     {ALWAYS, 3, 2},
     COST_OF_ROOT,
     {{"alpha", FRACTION}, {"eps", NON_NEGATIVE}, {"momentum", FRACTION}, {"centered", FLAG}}},
    {DLC_OP_ADAGRAD_STEP, DLC_STEP_ADAGRAD, 1, 1, {ALWAYS}, COST_OF_ROOT, {{"eps", NON_NEGATIVE}}},
    {DLC_OP_ADADELTA_STEP,
     DLC_STEP_ADADELTA,
     1,
     2,
     {ALWAYS, ALWAYS},
     2 * COST_OF_ROOT,
     {{"rho", FRACTION}, {"eps", NON_NEGATIVE}}},
    {DLC_OP_LION_STEP, DLC_STEP_LION, 1, 1, {ALWAYS}, 0, {{"beta1", FRACTION}, {"beta2", FRACTION}}},
};

static const step_spec *spec_of(const dlc_op *op)
{
    const step_spec *found = steps;
    while (found->opcode != op->def->opcode)
        found++;
    return found;
}

/* ---- Options and operands ---- */

static const option_spec *option_at(const step_spec *spec, int32_t index)
{
    return index < N_SHARED ? &shared_options[index] : &spec->own[index - N_SHARED];
}

static int32_t count_options(const step_spec *spec)
{
    int32_t count = N_SHARED;
    while (count < N_SHARED + DLC_STEP_MAX_OPTIONS && option_at(spec, count)->name)
        count++;
    return count;
}

static double option_value(const dlc_op *op, const step_spec *spec, int32_t index)
{
    return option_at(spec, index)->range == FLAG ? (double)op->attributes[index] : dlc_attribute_double(op, index);
}

static bool has_state(const dlc_op *op, const step_spec *spec, int32_t state)
{
    int32_t option = spec->states[state];
    return option == ALWAYS || option_value(op, spec, N_SHARED + option) != 0;
}

static bool has_average(const dlc_op *op) { return dlc_attribute_double(op, AVERAGE) != 0; }

static int32_t count_outputs(const dlc_op *op, const step_spec *spec)
{
    int32_t count = 1;
    for (int32_t state = 0; state < spec->n_states; state++)
        count += has_state(op, spec, state);
    return count + has_average(op);
}

/* ---- Checks ---- */

static dlc_status check_option(const dlc_op *op, const option_spec *option, int32_t index)
{
    if (option->range == FLAG) {
        if (!dlc_attribute_is_flag(op, index))
            return dlc_fail(DLC_INVALID_PLAN, "its %s is %lld; expected 0 or 1", option->name,
                            (long long)op->attributes[index]);
        return DLC_OK;
    }
    double value = dlc_attribute_double(op, index), limit = option->range == FRACTION ? 1 : INFINITY;
    if (!(value >= 0 && value < limit))
        return dlc_fail(DLC_INVALID_PLAN, "its %s is %g; expected a number in [0, %g)", option->name, value, limit);
    return DLC_OK;
}

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

static dlc_status check(dlc_op *op, const dlc_array *args, const dlc_operand *operands)
{
    const step_spec *spec = spec_of(op);
    int32_t n_options = count_options(spec);
    if (op->n_attributes != n_options)
        return dlc_fail(DLC_INVALID_PLAN, "there are %d attributes; expected %d", (int)op->n_attributes,
                        (int)n_options);
    for (int32_t i = 0; i < n_options; i++)
        DLC_TRY(check_option(op, option_at(spec, i), i));
    DLC_TRY(dlc_expect_operands(op, count_outputs(op, spec), 2, n_options));
    return check_operands(op, args, operands, spec->n_scalars);
}

/* ---- Running ---- */

static int64_t cost(const dlc_op *op, const dlc_array *args)
{
    return dlc_cost_mul(dlc_count(&args[0]), op->n_out + 1 + spec_of(op)->cost);
}

static dlc_step_options read_options(const dlc_op *op, const step_spec *spec)
{
    dlc_step_options options = {.weight_decay = dlc_attribute_double(op, WEIGHT_DECAY),
                                .decoupled = op->attributes[DECOUPLED],
                                .average = dlc_attribute_double(op, AVERAGE)};
    for (int32_t i = N_SHARED; i < op->n_attributes; i++)
        options.own[i - N_SHARED] = option_value(op, spec, i);
    return options;
}

static void *element(const dlc_array *array, int64_t index)
{
    return (char *)array->data + index * dlc_dtype_size(array->dtype);
}

/* The operands from an element on. */
static dlc_step_arrays find_arrays(const dlc_op_call *call, const step_spec *spec, int64_t begin)
{
    const dlc_op *op = call->op;
    const dlc_array *next = call->args;
    dlc_step_arrays arrays = {.param = element(next++, begin)};
    for (int32_t state = 0; state < spec->n_states; state++)
        if (has_state(op, spec, state))
            arrays.states[state] = element(next++, begin);
    if (has_average(op))
        arrays.average = element(next++, begin);
    arrays.grad = element(next, begin);
    return arrays;
}

static dlc_status run(const dlc_op_call *call)
{
    const dlc_op *op = call->op;
    const step_spec *spec = spec_of(op);
    const dlc_array *param = &call->args[0];
    const double *scalars = call->args[op->n_out + 1].data;
    const dlc_step_options options = read_options(op, spec);
    int64_t begin, end;
    dlc_split(&begin, &end, dlc_count(param), DLC_CHUNK_ELEMENTS, call->thread, call->n_threads);
    if (begin == end)
        return DLC_OK;
    const dlc_step_arrays arrays = find_arrays(call, spec, begin);
    call->step->kernels->real[param->dtype]->step[spec->kind](&arrays, &options, scalars, end - begin);
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
