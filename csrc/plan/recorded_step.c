#include "plan/recorded_step.h"

#include <math.h>
#include <stddef.h>

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

static const step_spec *spec_of(int32_t opcode)
{
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
        if (steps[i].opcode == opcode)
            return &steps[i];
    return NULL;
}

/* ---- Attributes ---- */

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

static dlc_status read_option(double *value, const option_spec *option, const dlc_op *op, int32_t index)
{
    if (option->range == FLAG) {
        if (!dlc_attribute_is_flag(op, index))
            return dlc_fail(DLC_INVALID_PLAN, "its %s is %lld; expected 0 or 1", option->name,
                            (long long)op->attributes[index]);
        *value = (double)op->attributes[index];
        return DLC_OK;
    }
    const double limit = option->range == FRACTION ? 1 : INFINITY;
    *value = dlc_attribute_double(op, index);
    if (!(*value >= 0 && *value < limit))
        return dlc_fail(DLC_INVALID_PLAN, "its %s is %g; expected a number in [0, %g)", option->name, *value, limit);
    return DLC_OK;
}

dlc_status dlc_recorded_step_read(dlc_recorded_step *step, int32_t opcode, const dlc_op *op, int32_t first)
{
    const step_spec *spec = spec_of(opcode);
    if (!spec)
        return dlc_fail(DLC_INVALID_PLAN, "its step has the opcode %d, which is that of no optimiser step", (int)opcode);
    const int32_t n_options = count_options(spec);
    double values[N_SHARED + DLC_STEP_MAX_OPTIONS] = {0};
    if (op->n_attributes - first != n_options)
        return dlc_fail(DLC_INVALID_PLAN, "there are %d attributes; expected %d", (int)op->n_attributes,
                        (int)(first + n_options));
    for (int32_t i = 0; i < n_options; i++)
        DLC_TRY(read_option(&values[i], option_at(spec, i), op, first + i));

    *step = (dlc_recorded_step){.kind = spec->kind,
                                .options = {.weight_decay = values[WEIGHT_DECAY],
                                            .decoupled = values[DECOUPLED] != 0,
                                            .average = values[AVERAGE]},
                                .has_average = values[AVERAGE] != 0,
                                .n_out = 1 + (values[AVERAGE] != 0),
                                .n_scalars = spec->n_scalars,
                                .cost = spec->cost};
    for (int32_t i = 0; i < DLC_STEP_MAX_OPTIONS; i++)
        step->options.own[i] = values[N_SHARED + i];
    for (int32_t i = 0; i < spec->n_states; i++) {
        const int32_t option = spec->states[i];
        step->has_state[i] = option == ALWAYS || step->options.own[option] != 0;
        step->n_out += step->has_state[i];
    }
    return DLC_OK;
}

/* ---- Operands ---- */

dlc_status dlc_recorded_step_check(const dlc_recorded_step *step, const dlc_op *op, const dlc_array *args,
                                   const dlc_operand *operands)
{
    const int32_t scalars = op->n_out + op->n_in - 1;
    for (int32_t i = 0; i < step->n_out; i++) {
        if (!dlc_is_real(args[i].dtype) || args[i].dtype != args[0].dtype ||
            !dlc_same_shape(&args[i], &operands[i], &args[0], &operands[0]))
            return dlc_fail(DLC_INVALID_PLAN, "operand %d differs from the parameter in dtype or shape", (int)i);
        if (!dlc_is_contiguous(&args[i], &operands[i], 0))
            return dlc_fail(DLC_INVALID_PLAN, "operand %d is not contiguous", (int)i);
    }
    if (args[scalars].dtype != DLC_FLOAT64 || args[scalars].ndim != 1 ||
        operands[scalars].extents[0] < step->n_scalars || !dlc_is_contiguous(&args[scalars], &operands[scalars], 0))
        return dlc_fail(DLC_INVALID_PLAN, "its scalars are not a contiguous vector of at least %lld float64",
                        (long long)step->n_scalars);
    return DLC_OK;
}

/* ---- Running ---- */

static void *element(const dlc_array *array, int64_t index)
{
    return (char *)array->data + index * dlc_dtype_size(array->dtype);
}

dlc_step_part dlc_recorded_step_part(const dlc_recorded_step *step, const dlc_array *outs, const void *grad, int64_t begin,
                                     int64_t end)
{
    dlc_step_part part = {.arrays = {.param = element(outs++, begin), .grad = grad}, .n = end - begin};
    for (int32_t i = 0; i < DLC_STEP_MAX_STATES; i++)
        if (step->has_state[i])
            part.arrays.states[i] = element(outs++, begin);
    if (step->has_average)
        part.arrays.average = element(outs, begin);
    return part;
}

void dlc_recorded_step_run(const dlc_recorded_step *step, const dlc_real_kernels *kernels, const dlc_array *outs,
                           const void *grad, const double *scalars, int64_t begin, int64_t end)
{
    const dlc_step_part part = dlc_recorded_step_part(step, outs, grad, begin, end);
    kernels->step[step->kind](&part, &step->options, scalars);
}
