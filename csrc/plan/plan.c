/* The life of a plan: loading, and what it needs of an arena. */
#include "plan/plan.h"

#include <stdlib.h>
#include <string.h>

#include "plan/loaded.h"
#include "plan/operand.h"

static dlc_status check_bytes(int64_t bytes, const char *what, const dlc_op *op)
{
    if (bytes < 0 || bytes > INT64_MAX - DLC_ALIGNMENT)
        return dlc_fail(DLC_OVERFLOW, "%s of op %s does not fit in 63 bits", what, op->def->name);
    return DLC_OK;
}

/* Ops take turns with one area of scratch, which is as large as the largest of them needs. */
static dlc_status widen(int64_t *area, int64_t bytes, const dlc_op *op)
{
    DLC_TRY(check_bytes(bytes, "the scratch", op));
    *area = dlc_max64(*area, dlc_align_up(bytes));
    return DLC_OK;
}

/* What each of them is bound to has a place of its own. */
static dlc_status place_bound(dlc_plan *plan, dlc_op *op)
{
    op->bound_offset = plan->bound_bytes;
    if (!op->def->bind)
        return DLC_OK;
    const int64_t bytes = op->def->bound_bytes(op);
    DLC_TRY(check_bytes(bytes, "what is bound", op));
    if (!dlc_size_add(&plan->bound_bytes, plan->bound_bytes, dlc_align_up(bytes)))
        return dlc_fail(DLC_OVERFLOW, "what the ops of a plan are bound to does not fit in 63 bits");
    return DLC_OK;
}

static bool is_constant(const dlc_plan *plan, int32_t tensor)
{
    const int64_t slot = plan->tensors[tensor].slot;
    return slot >= 0 && plan->slots[slot].kind == DLC_SLOT_FIXED && !plan->slots[slot].writable;
}

/* Whether two ops that pack one tensor do it alike: for a product, as the same factor. */
static bool packs_alike(const dlc_op *a, const dlc_op *b)
{
    return a->def == b->def && a->def->packed_operand(a) - a->n_out == b->def->packed_operand(b) - b->n_out;
}

/* packers: of each tensor, the last op that packs it, or NULL. What several ops read (a matrix that a layer applies again and
 * again) is packed once. */
static dlc_status place_packed(dlc_plan *plan, dlc_op *op, const dlc_array *args, const dlc_op **packers)
{
    op->packed_offset = -1;
    const int32_t operand = op->def->pack ? op->def->packed_operand(op) : -1;
    if (operand < 0 || !is_constant(plan, op->operands[operand]))
        return DLC_OK;
    const dlc_op **packer = &packers[op->operands[operand]];
    if (*packer && packs_alike(*packer, op)) {
        op->packed_offset = (*packer)->packed_offset;
        return DLC_OK;
    }
    const int64_t bytes = op->def->packed_bytes(op, args, plan->kernels);
    DLC_TRY(check_bytes(bytes, "what is packed", op));
    if (bytes == 0)
        return DLC_OK;
    op->packed_offset = plan->packed_bytes;
    *packer = op;
    if (!dlc_size_add(&plan->packed_bytes, plan->packed_bytes, dlc_align_up(bytes)))
        return dlc_fail(DLC_OVERFLOW, "what the ops of a plan pack does not fit in 63 bits");
    return DLC_OK;
}

static bool has_rows(const dlc_plan *plan, const dlc_op *op)
{
    for (int32_t i = 0; i < op->n_out + op->n_in; i++) {
        const dlc_tensor_record *tensor = &plan->tensors[op->operands[i]];
        for (int32_t axis = 0; axis < tensor->ndim; axis++)
            if (tensor->shape[axis] < 0)
                return true;
    }
    return false;
}

static dlc_status measure_op(dlc_plan *plan, dlc_op *op, dlc_array *args, const dlc_op **packers)
{
    const int64_t times = dlc_is_block_op(plan, op) ? dlc_count_blocks(plan, plan->header->row_capacity) : 1;
    dlc_op_arrays(args, plan, op);
    if (op->def->scratch)
        op->def->scratch(&op->shared_bytes, &op->own_bytes, op, args, plan->kernels);
    DLC_TRY(widen(&plan->shared_bytes, op->shared_bytes, op));
    DLC_TRY(widen(&plan->own_bytes, op->own_bytes, op));
    const int64_t cost = dlc_cost_mul(op->def->cost(op, args), times);
    plan->cost = dlc_cost_add(plan->cost, cost);
    if (!has_rows(plan, op))
        plan->fixed_cost = dlc_cost_add(plan->fixed_cost, cost);
    DLC_TRY(place_bound(plan, op));
    return place_packed(plan, op, args, packers);
}

static dlc_status measure_ops(dlc_plan *plan)
{
    dlc_array *args = malloc((size_t)(plan->header->n_operands + 1) * sizeof *args);
    const dlc_op **packers = calloc((size_t)(plan->header->n_tensors + 1), sizeof(dlc_op *));
    dlc_status status =
        args && packers ? DLC_OK : dlc_fail(DLC_OUT_OF_MEMORY, "no memory for the operands of a plan");
    for (int64_t i = 0; i < plan->header->n_ops && status == DLC_OK; i++)
        status = measure_op(plan, &plan->ops[i], args, packers);
    free(packers);
    free(args);
    return status;
}

static bool is_moving(const dlc_plan *plan, int32_t tensor)
{
    const int64_t slot = plan->tensors[tensor].slot;
    return slot >= 0 && (plan->slots[slot].kind == DLC_SLOT_STREAM || plan->slots[slot].kind == DLC_SLOT_STEP);
}

static dlc_status find_moving(dlc_plan *plan)
{
    plan->moving = malloc((size_t)(plan->header->n_operands + 1) * sizeof *plan->moving);
    if (!plan->moving)
        return dlc_fail(DLC_OUT_OF_MEMORY, "no memory for the operands of a plan");
    for (int64_t i = 0; i < plan->header->n_operands; i++) {
        if (!is_moving(plan, plan->operands[i]))
            continue;
        plan->moving[plan->n_moving++] = (dlc_moving){i, plan->tensors[plan->operands[i]].slot};
        plan->n_block_moving += i < plan->block_operands;
    }
    for (int64_t i = 0; i < plan->header->n_ops; i++) {
        dlc_op *op = &plan->ops[i];
        for (int32_t j = 0; j < op->n_out + op->n_in; j++)
            op->moves = op->moves || is_moving(plan, op->operands[j]);
    }
    return DLC_OK;
}

/* Block ops run for themselves, again and again. */
static void link_ops(dlc_plan *plan)
{
    for (int64_t i = 1; i < plan->header->n_ops; i++) {
        if (i == plan->header->n_block_ops)
            continue;
        plan->ops[i].previous = &plan->ops[i - 1];
        plan->ops[i - 1].next = &plan->ops[i];
    }
}

/* ---- Loading ---- */

static dlc_status prepare(dlc_plan *plan, int64_t n_bytes)
{
    DLC_TRY(dlc_kernels_get(&plan->kernels));
    DLC_TRY(dlc_plan_validate_memory(plan, n_bytes));
    DLC_TRY(dlc_plan_validate_ops(plan));
    DLC_TRY(measure_ops(plan));
    DLC_TRY(dlc_plan_place_barriers(plan));
    link_ops(plan);
    return find_moving(plan);
}

dlc_status dlc_plan_load(dlc_plan **out, const void *bytes, int64_t n_bytes)
{
    *out = NULL;
    if (!bytes || n_bytes < 1)
        return dlc_fail(DLC_INVALID_PLAN, "a plan of no bytes");
    dlc_plan *plan = calloc(1, sizeof *plan);
    if (!plan || !(plan->bytes = dlc_aligned_alloc(n_bytes))) {
        free(plan);
        return dlc_fail(DLC_OUT_OF_MEMORY, "no memory for a plan of %lld bytes", (long long)n_bytes);
    }
    memcpy(plan->bytes, bytes, (size_t)n_bytes);
    dlc_status status = prepare(plan, n_bytes);
    if (status == DLC_OK)
        *out = plan;
    else
        dlc_plan_free(plan);
    return status;
}

void dlc_plan_free(dlc_plan *plan)
{
    if (!plan)
        return;
    for (int64_t i = 0; plan->ops && i < plan->header->n_ops; i++)
        free(plan->ops[i].prepared);
    free(plan->ops);
    free(plan->views);
    free(plan->moving);
    free(plan->bytes);
    free(plan);
}

const dlc_slot_record *dlc_plan_slots(int64_t *n_slots, const dlc_plan *plan)
{
    *n_slots = plan->header->n_slots;
    return plan->slots;
}

int64_t dlc_plan_row_capacity(const dlc_plan *plan) { return plan->header->row_capacity; }

int64_t dlc_plan_cost(const dlc_plan *plan) { return plan->cost; }

int64_t dlc_plan_fixed_cost(const dlc_plan *plan) { return plan->fixed_cost; }

/* ---- The arena ---- */

dlc_status dlc_plan_layout(dlc_arena_layout *layout, const dlc_plan *plan)
{
    const dlc_plan_header *header = plan->header;
    const int64_t tables = header->n_operands * (int64_t)sizeof(dlc_array); /* the operands fit in memory already */
    const int64_t groups = dlc_count_groups(plan, header->row_capacity);
    int64_t sums;
    layout->sums = dlc_align_up(header->arena_bytes);
    layout->sums_size = dlc_align_up(header->sums_bytes);
    layout->table = dlc_align_up(sizeof(dlc_failure));
    layout->bound = layout->table + dlc_align_up(tables);
    if (!dlc_size_add(&layout->own, layout->bound, plan->bound_bytes) ||
        !dlc_size_mul(&sums, groups > 1 ? groups : 0, layout->sums_size) ||
        !dlc_size_add(&layout->shared, layout->sums, sums) ||
        !dlc_size_add(&layout->threads, layout->shared, plan->shared_bytes) ||
        !dlc_size_add(&layout->block_shared, layout->own, plan->own_bytes) ||
        !dlc_size_add(&layout->block, layout->block_shared, groups > 0 ? plan->shared_bytes : 0) ||
        !dlc_size_add(&layout->thread_size, layout->block, dlc_align_up(header->block_arena_bytes)))
        return dlc_fail(DLC_OVERFLOW, "the arena of a plan does not fit in 63 bits");
    return DLC_OK;
}

dlc_status dlc_layout_bytes(int64_t *bytes, const dlc_arena_layout *layout, int64_t threads)
{
    if (!dlc_size_mul(bytes, layout->thread_size, threads) || !dlc_size_add(bytes, *bytes, layout->threads))
        return dlc_fail(DLC_OVERFLOW, "the arena of a plan for %lld threads does not fit in 63 bits",
                        (long long)threads);
    return DLC_OK;
}

dlc_status dlc_plan_arena_bytes(int64_t *bytes, const dlc_plan *plan, int32_t threads)
{
    dlc_arena_layout layout = {0};
    if (threads < 0)
        return dlc_fail(DLC_INVALID_ARGUMENT, "threads is %d; expected at least 0", (int)threads);
    DLC_TRY(dlc_plan_layout(&layout, plan));
    return dlc_layout_bytes(bytes, &layout, threads ? threads : dlc_threads_for(plan->cost));
}
