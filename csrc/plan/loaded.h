/* A loaded plan, as plan.c, validate.c, barriers.c and execute.c share it. */
#ifndef DLC_PLAN_LOADED_H
#define DLC_PLAN_LOADED_H

#include "plan/plan.h"

/* An operand whose address moves from step to step: it lies in a STREAM or STEP slot. */
typedef struct dlc_moving {
    int64_t operand; /* index in the table of operands */
    int64_t slot;
} dlc_moving;

struct dlc_plan {
    void *bytes; /* the private copy that the tables below point into */
    const dlc_plan_header *header;
    const dlc_slot_record *slots;
    const dlc_tensor_record *tensors;
    const dlc_op_record *records;
    const int32_t *operands;
    const int64_t *attributes;

    const dlc_kernels *kernels;
    dlc_op *ops;
    dlc_view *views; /* of each tensor */
    dlc_moving *moving; /* those of block ops first */
    int64_t n_moving, n_block_moving;
    int64_t shared_bytes, own_bytes; /* the largest scratch of an op, aligned */
    int64_t bound_bytes;             /* of all ops */
    int64_t packed_bytes;            /* of all that ops pack */
    int64_t cost;     /* of one step at row capacity */
    int64_t fixed_cost; /* of its ops that have no rows */
    int64_t barriers; /* within one step */
    int32_t sums_dtype; /* of all that block ops sum */
    int64_t block_operands; /* those of block ops: the first of the table */
};

/* Blocks are dealt out in groups, whose sums are added up in order: what is added to what depends on the number of rows
 * alone. As many threads can share the blocks. */
#define DLC_BLOCK_GROUPS 16

static inline int64_t dlc_count_blocks(const dlc_plan *plan, int64_t rows)
{
    return plan->header->n_block_ops > 0 ? dlc_ceil_div(rows, plan->header->block_rows) : 0;
}

static inline int64_t dlc_count_groups(const dlc_plan *plan, int64_t rows)
{
    return dlc_min64(dlc_count_blocks(plan, rows), DLC_BLOCK_GROUPS);
}

static inline bool dlc_is_block_op(const dlc_plan *plan, const dlc_op *op)
{
    return op - plan->ops < plan->header->n_block_ops;
}

/* Sets plan's tables and plan->views from its bytes, after checking every header field, slot and tensor. */
dlc_status dlc_plan_validate_memory(dlc_plan *plan, int64_t n_bytes);
/* Makes plan->ops after checking every op. */
dlc_status dlc_plan_validate_ops(dlc_plan *plan);
/* Sets barrier_before of every op, once its scratch is known. */
dlc_status dlc_plan_place_barriers(dlc_plan *plan);

/* The array of a tensor for a number of rows, data NULL. */
void dlc_tensor_array(dlc_array *array, const dlc_tensor_record *tensor, int64_t rows);
/* The operands of an op at row capacity, of a block op that of a block; data NULL. */
void dlc_op_arrays(dlc_array *args, const dlc_plan *plan, const dlc_op *op);
/* The place of an op's first operand in the table of all operands. */
static inline int64_t dlc_first_operand(const dlc_plan *plan, const dlc_op *op)
{
    return op->operands - plan->operands;
}

/* Whether what is bound to slot `index` is there, aligned, and no less than `needed`, in the units of the slot's kind. */
dlc_status dlc_check_binding(const dlc_slot_record *slot, const dlc_binding *binding, int64_t needed, int64_t index);
/* Steps, order and bindings of a run. */
dlc_status dlc_check_run(const dlc_plan *plan, const dlc_run *run);

/* The first failure of a thread during a run. */
typedef struct dlc_failure {
    int64_t serial; /* of the op within the run */
    int64_t block;  /* of its rows; 0 for ops that are no block ops */
    dlc_status status;
    char message[512];
} dlc_failure;

/* The parts of an arena, as offsets that are multiples of DLC_ALIGNMENT: the tensors, the sums of groups of blocks, the
 * scratch of the team, and for every thread its dlc_failure, its table of operands, what ops are bound to, its scratch, the
 * team's scratch for block ops, which it runs by itself, and its block arena. */
typedef struct dlc_arena_layout {
    int64_t sums; /* a group takes sums_size */
    int64_t sums_size;
    int64_t shared;
    int64_t threads;
    int64_t thread_size;
    int64_t table, bound, own, block_shared, block; /* within the part of a thread */
} dlc_arena_layout;

/* DLC_OVERFLOW when the offsets do not fit in int64_t. */
dlc_status dlc_plan_layout(dlc_arena_layout *layout, const dlc_plan *plan);
dlc_status dlc_layout_bytes(int64_t *bytes, const dlc_arena_layout *layout, int64_t threads);

#endif
