/* Operands that stay the same from run to run, laid out once as kernels read them. */
#include <stdlib.h>
#include <string.h>

#include "plan/loaded.h"

int64_t dlc_plan_packed_bytes(const dlc_plan *plan) { return plan->packed_bytes; }

/* The index of the tensor that an op packs; -1: none. */
static int32_t packed_tensor(const dlc_op *op)
{
    return op->packed_offset < 0 ? -1 : op->operands[op->def->packed_operand(op)];
}

void dlc_plan_packed_slots(bool *is_packed, const dlc_plan *plan)
{
    memset(is_packed, 0, (size_t)plan->header->n_slots * sizeof *is_packed);
    for (int64_t i = 0; i < plan->header->n_ops; i++) {
        const int32_t tensor = packed_tensor(&plan->ops[i]);
        if (tensor >= 0)
            is_packed[plan->tensors[tensor].slot] = true;
    }
}

typedef struct packing {
    char *packed;
    const dlc_plan *plan;
    const dlc_array *table; /* of all operands */
} packing;

static void pack_ops(void *context, int thread, int n_threads)
{
    const packing *p = context;
    int64_t done = -1; /* the offset of the last that is packed; the op that reads it first comes first */
    for (int64_t i = 0; i < p->plan->header->n_ops; i++) {
        const dlc_op *op = &p->plan->ops[i];
        if (op->packed_offset <= done)
            continue;
        done = op->packed_offset;
        op->def->pack(p->packed + done, op, p->table + dlc_first_operand(p->plan, op), p->plan->kernels, thread, n_threads);
    }
}

static dlc_status resolve(dlc_array *table, const dlc_plan *plan, const dlc_binding *bindings)
{
    for (int64_t i = 0; i < plan->header->n_ops; i++) {
        const dlc_op *op = &plan->ops[i];
        if (op->packed_offset < 0)
            continue;
        const dlc_tensor_record *tensor = &plan->tensors[packed_tensor(op)];
        const dlc_binding *binding = &bindings[tensor->slot];
        DLC_TRY(dlc_check_binding(&plan->slots[tensor->slot], binding, plan->slots[tensor->slot].bytes, tensor->slot));
        dlc_array *args = table + dlc_first_operand(plan, op);
        dlc_op_arrays(args, plan, op);
        args[op->def->packed_operand(op)].data = (char *)binding->data + tensor->offset;
    }
    return DLC_OK;
}

dlc_status dlc_plan_pack(void *packed, const dlc_plan *plan, const dlc_binding *bindings, int64_t n_bindings)
{
    if (n_bindings != plan->header->n_slots)
        return dlc_fail(DLC_INVALID_ARGUMENT, "there are %lld bindings; the plan has %lld slots", (long long)n_bindings,
                        (long long)plan->header->n_slots);
    if (plan->packed_bytes == 0)
        return DLC_OK;
    dlc_array *table = malloc((size_t)plan->header->n_operands * sizeof *table);
    if (!table)
        return dlc_fail(DLC_OUT_OF_MEMORY, "no memory for the operands of a plan");
    const dlc_status status = resolve(table, plan, bindings);
    if (status == DLC_OK) {
        packing context = {packed, plan, table};
        dlc_team_run(dlc_threads_for(plan->packed_bytes / (int64_t)sizeof(double)), pack_ops, &context);
    }
    free(table);
    return status;
}
