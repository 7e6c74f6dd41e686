/* MAP: an elementwise program over broadcast operands, of which outputs may be reduced; see map/map.h.
 *
 * Outputs and inputs are those of the program, and the attributes its words. All operands have the same number of axes;
 * the space is their common shape, where an operand has either the extent of the space or 1. */
#include <stdlib.h>

#include "map/map.h"
#include "plan/builtin.h"
#include "plan/operand.h"

typedef struct prepared_map {
    int32_t ndim;
    int64_t space[DLC_MAX_NDIM]; /* extents as recorded */
    bool sums_rows;
    dlc_map_program program;
} prepared_map;

static void resolve_space(int64_t *shape, const prepared_map *prepared, int64_t rows)
{
    for (int32_t i = 0; i < prepared->ndim; i++)
        shape[i] = prepared->space[i] < 0 ? -prepared->space[i] * rows : prepared->space[i];
}

/* The space, and that every operand fits it for every number of rows: dlc_map_check sees the capacity only. */
static dlc_status find_space(prepared_map *prepared, int64_t *shape, const dlc_op *op, const dlc_array *args,
                             const dlc_operand *operands)
{
    prepared->ndim = args[0].ndim;
    for (int32_t axis = 0; axis < prepared->ndim; axis++) {
        prepared->space[axis] = 1;
        shape[axis] = 1;
    }
    for (int32_t i = 0; i < op->n_out + op->n_in; i++) {
        if (args[i].ndim != prepared->ndim)
            return dlc_fail(DLC_INVALID_PLAN, "operand %d has %d axes; the first has %d", (int)i, (int)args[i].ndim,
                            (int)prepared->ndim);
        for (int32_t axis = 0; axis < prepared->ndim; axis++) {
            int64_t extent = operands[i].extents[axis];
            if (extent == 1)
                continue;
            if (prepared->space[axis] != 1 && prepared->space[axis] != extent)
                return dlc_fail(DLC_INVALID_PLAN, "operand %d does not fit the others along axis %d", (int)i,
                                (int)axis);
            prepared->space[axis] = extent;
            shape[axis] = args[i].shape[axis];
        }
    }
    return DLC_OK;
}

/* A thread writes a reduced output while another still reads; what stands beside it is to be a matrix of its own, too. */
static dlc_status check_reduction(const dlc_op *op, const dlc_operand *operands)
{
    for (int32_t out = 0; out < op->n_out; out++)
        for (int32_t in = op->n_out; in < op->n_out + op->n_in; in++)
            if (dlc_views_overlap(&operands[out].view, &operands[in].view))
                return dlc_fail(DLC_INVALID_PLAN, "output %d of a reduction overlaps input %d", (int)out,
                                (int)(in - op->n_out));
    return DLC_OK;
}

/* For every number of rows, of which blocks may have one. */
static dlc_status check_outputs(const prepared_map *prepared, const dlc_operand *operands)
{
    for (int32_t i = 0; i < prepared->program.n_out; i++) {
        const int64_t *expected = i < prepared->program.n_reduced ? operands[0].extents : prepared->space;
        if (memcmp(operands[i].extents, expected, (size_t)prepared->ndim * sizeof *expected) != 0)
            return dlc_fail(DLC_INVALID_PLAN, "output %d is not of the shape of %s", (int)i,
                            i < prepared->program.n_reduced ? "the first one" : "the space");
    }
    return DLC_OK;
}

static dlc_status check_program(prepared_map *prepared, const dlc_op *op, const dlc_array *args,
                                const dlc_operand *operands)
{
    int64_t shape[DLC_MAX_NDIM], count;
    DLC_TRY(dlc_map_decode(&prepared->program, op->attributes, op->n_attributes, false));
    DLC_TRY(dlc_expect_operands(op, prepared->program.n_out, prepared->program.n_in, op->n_attributes));
    if (prepared->program.reduction != DLC_REDUCE_NONE)
        DLC_TRY(check_reduction(op, operands));
    DLC_TRY(find_space(prepared, shape, op, args, operands));
    DLC_TRY(check_outputs(prepared, operands));
    for (int32_t i = 0; i < prepared->program.n_out; i++)
        if (dlc_operand_moves(&operands[i])) /* such memory is often made for the run */
            prepared->program.new_outputs |= 1u << i;
    prepared->sums_rows = prepared->ndim > 0 && prepared->space[0] < 0 && operands[0].extents[0] == 1;
    if (dlc_element_count(&count, shape, prepared->ndim, "the space of a map") != DLC_OK)
        return dlc_fail(DLC_INVALID_PLAN, "its operands span more elements than fit in 63 bits");
    return dlc_map_check(&prepared->program, args, shape, prepared->ndim);
}

static dlc_status check(dlc_op *op, const dlc_array *args, const dlc_operand *operands)
{
    prepared_map *prepared = malloc(sizeof *prepared);
    if (!prepared)
        return dlc_fail(DLC_OUT_OF_MEMORY, "no memory for the program of a map");
    op->prepared = prepared;
    return check_program(prepared, op, args, operands);
}

/* The space of resolved operands: no number of rows is needed, as some operand has each extent. */
static void find_shape(int64_t *shape, const dlc_op *op, const dlc_array *args)
{
    const prepared_map *prepared = op->prepared;
    for (int32_t axis = 0; axis < prepared->ndim; axis++) {
        shape[axis] = 1;
        for (int32_t i = 0; i < op->n_out + op->n_in; i++)
            if (args[i].shape[axis] != 1)
                shape[axis] = args[i].shape[axis];
    }
}

static void scratch(int64_t *shared, int64_t *own, const dlc_op *op, const dlc_array *args, const dlc_kernels *kernels)
{
    (void)kernels;
    const prepared_map *prepared = op->prepared;
    int64_t shape[DLC_MAX_NDIM];
    find_shape(shape, op, args);
    dlc_map_scratch(shared, own, &prepared->program, args, shape, prepared->ndim);
}

static int64_t cost(const dlc_op *op, const dlc_array *args)
{
    const prepared_map *prepared = op->prepared;
    int64_t shape[DLC_MAX_NDIM];
    find_shape(shape, op, args);
    return dlc_map_cost(&prepared->program, shape, prepared->ndim);
}

static bool reduces(const dlc_op *op)
{
    const prepared_map *prepared = op->prepared;
    return prepared->program.reduction != DLC_REDUCE_NONE;
}

static int64_t bound_bytes(const dlc_op *op)
{
    const prepared_map *prepared = op->prepared;
    return reduces(op) ? dlc_map_bound_reduction_bytes(&prepared->program) : dlc_map_bound_bytes(&prepared->program);
}

static void bind(void *bound, const dlc_op_call *call)
{
    const prepared_map *prepared = call->op->prepared;
    const dlc_map_program *program = &prepared->program;
    int64_t shape[DLC_MAX_NDIM];
    const dlc_real_kernels *kernels = call->step->kernels->real[program->dtype];
    resolve_space(shape, prepared, call->step->rows);
    if (reduces(call->op))
        dlc_map_bind_reduction(bound, program, kernels, call->args, shape, prepared->ndim, call->own);
    else
        dlc_map_bind(bound, program, kernels, call->args, shape, prepared->ndim, false, call->own);
}

static void move(void *bound, const dlc_op_call *call)
{
    const bool is_there =
        reduces(call->op) ? dlc_map_point_reduction_at(bound, call->args) : dlc_map_point_at(bound, call->args);
    if (!is_there)
        bind(bound, call);
}

static dlc_status run(const dlc_op_call *call)
{
    const prepared_map *prepared = call->op->prepared;
    const dlc_map_program *program = &prepared->program;
    int64_t shape[DLC_MAX_NDIM];
    if (!reduces(call->op)) {
        dlc_map_run_bound(call->bound, call->step->step_rows, call->thread, call->n_threads);
        return DLC_OK;
    }
    dlc_map_rows rows = {.all = call->step->step_rows, .here = call->step->step_rows};
    if (prepared->sums_rows)
        rows = (dlc_map_rows){call->step->step_rows, call->step->rows, call->accumulate};
    if (dlc_map_run_bound_reduction(call->bound, rows, call->thread, call->n_threads))
        return DLC_OK;
    resolve_space(shape, prepared, call->step->rows);
    dlc_map_run(program, call->step->kernels->real[program->dtype], call->args, shape, prepared->ndim, rows,
                call->shared, call->own, call->barrier, call->thread, call->n_threads);
    return DLC_OK;
}

/* A program without inputs writes the same numbers for every block. */
static dlc_row_role row_role(const dlc_op *op, const dlc_operand *operands)
{
    const prepared_map *prepared = op->prepared;
    const dlc_map_program *program = &prepared->program;
    if (op->n_in == 0 && (prepared->ndim < 1 || prepared->space[0] >= 0))
        return DLC_ROWS_APART;
    if (prepared->ndim < 1 || !dlc_is_row_shape(prepared->space, prepared->ndim))
        return DLC_ROWS_TOGETHER;
    if (operands[0].extents[0] != 1)
        return DLC_ROWS_APART;
    return program->reduction == DLC_REDUCE_SUM || program->reduction == DLC_REDUCE_MEAN ? DLC_ROWS_SUMMED
                                                                                         : DLC_ROWS_TOGETHER;
}

const dlc_op_def dlc_map_def = {
    .name = "map",
    .opcode = DLC_OP_MAP,
    .check = check,
    .scratch = scratch,
    .cost = cost,
    .bound_bytes = bound_bytes,
    .bind = bind,
    .move = move,
    .row_role = row_role,
    .run = run,
};
