/* The ops by their codes: those of dlcore in one table, and those that are registered at run time. */
#include "plan/builtin.h"

#include <stdatomic.h>
#include <stddef.h>

#define MAX_CUSTOM 256

static const dlc_op_def *const builtin[] = {
    &dlc_gather_def,       &dlc_gemm_def,   &dlc_map_def,      &dlc_softmax_def,
    &dlc_softmax_loss_def, &dlc_random_def, &dlc_sgd_step_def, &dlc_adam_step_def,
    &dlc_take_def,         &dlc_scatter_add_def,   &dlc_gemm_step_def,
    &dlc_nadam_step_def,   &dlc_radam_step_def,    &dlc_rmsprop_step_def,
    &dlc_adagrad_step_def, &dlc_adadelta_step_def, &dlc_lion_step_def,
};

/* Entries are only ever appended, and counted once they are in place, so that finding one needs no lock. */
static const dlc_op_def *custom[MAX_CUSTOM];
static atomic_int n_custom;
static atomic_flag registering = ATOMIC_FLAG_INIT;

const dlc_op_def *dlc_op_find(int32_t opcode)
{
    for (size_t i = 0; i < sizeof builtin / sizeof builtin[0]; i++)
        if (builtin[i]->opcode == opcode)
            return builtin[i];
    int count = atomic_load_explicit(&n_custom, memory_order_acquire);
    for (int i = 0; i < count; i++)
        if (custom[i]->opcode == opcode)
            return custom[i];
    return NULL;
}

static dlc_status append(const dlc_op_def *def)
{
    if (dlc_op_find(def->opcode))
        return dlc_fail(DLC_INVALID_ARGUMENT, "opcode %d is already taken by op %s", (int)def->opcode,
                        dlc_op_find(def->opcode)->name);
    int count = atomic_load_explicit(&n_custom, memory_order_relaxed);
    if (count == MAX_CUSTOM)
        return dlc_fail(DLC_OUT_OF_MEMORY, "there is room for %d registered ops, and all of it is taken", MAX_CUSTOM);
    custom[count] = def;
    atomic_store_explicit(&n_custom, count + 1, memory_order_release);
    return DLC_OK;
}

dlc_status dlc_op_register(const dlc_op_def *def)
{
    if (!def || !def->name || !def->check || !def->cost || !def->run || !def->bind != !def->bound_bytes ||
        !def->pack != !def->packed_bytes || !def->pack != !def->packed_operand)
        return dlc_fail(DLC_INVALID_ARGUMENT,
                        "an op needs a name, the functions check, cost and run, both of bind and bound_bytes or neither, and all "
                        "of pack, packed_bytes and packed_operand or none");
    if (def->opcode < DLC_OP_FIRST_CUSTOM)
        return dlc_fail(DLC_INVALID_ARGUMENT, "op %s has opcode %d; codes under %d are dlcore's own", def->name,
                        (int)def->opcode, (int)DLC_OP_FIRST_CUSTOM);
    while (atomic_flag_test_and_set_explicit(&registering, memory_order_acquire))
        ;
    dlc_status status = append(def);
    atomic_flag_clear_explicit(&registering, memory_order_release);
    return status;
}
