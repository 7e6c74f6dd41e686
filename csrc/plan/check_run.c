/* What the caller of a run gave. */
#include "plan/loaded.h"

static dlc_status fail_run(const char *field, int64_t value, const char *expected)
{
    return dlc_fail(DLC_INVALID_ARGUMENT, "%s is %lld; expected %s", field, (long long)value, expected);
}

static dlc_status check_steps(const dlc_plan *plan, const dlc_run *run)
{
    if (run->epoch_rows < 1 || run->epoch_rows > INT64_MAX / 2)
        return fail_run("epoch_rows", run->epoch_rows, "at least 1, and less than 2^62");
    if (run->batch_rows < 1 || run->batch_rows > plan->header->row_capacity)
        return dlc_fail(DLC_INVALID_ARGUMENT, "batch_rows is %lld; expected 1 to %lld, the plan's capacity of rows",
                        (long long)run->batch_rows, (long long)plan->header->row_capacity);
    if (run->step_begin < 0)
        return fail_run("step_begin", run->step_begin, "at least 0");
    if (run->step_end < run->step_begin)
        return fail_run("step_end", run->step_end, "at least step_begin");
    if (run->threads < 0)
        return fail_run("threads", run->threads, "at least 0");
    if (run->budget_ns < 0)
        return fail_run("budget_ns", run->budget_ns, "at least 0");
    return DLC_OK;
}

/* The order reaches to the last row of the last step. */
static dlc_status check_order(const dlc_run *run)
{
    if (!run->order || run->step_end == run->step_begin)
        return DLC_OK;
    const int64_t steps_per_epoch = dlc_ceil_div(run->epoch_rows, run->batch_rows);
    int64_t last = run->step_end - 1, needed;
    int64_t rows_in_epoch = dlc_min64((last % steps_per_epoch + 1) * run->batch_rows, run->epoch_rows);
    if (!dlc_size_mul(&needed, last / steps_per_epoch, run->epoch_rows) ||
        !dlc_size_add(&needed, needed, rows_in_epoch))
        return fail_run("step_end", run->step_end, "a number of rows that fits in 63 bits");
    if (run->n_order < needed)
        return dlc_fail(DLC_INVALID_ARGUMENT, "order has %lld rows; the run needs %lld", (long long)run->n_order,
                        (long long)needed);
    return DLC_OK;
}

static int64_t count_needed(const dlc_slot_record *slot, const dlc_run *run)
{
    switch (slot->kind) {
    case DLC_SLOT_FIXED:
        return slot->bytes;
    case DLC_SLOT_STEP:
        return run->step_end;
    case DLC_SLOT_STREAM:
        return run->epoch_rows;
    default:
        return run->order ? 0 : run->epoch_rows; /* gather checks what an order refers to */
    }
}

dlc_status dlc_check_binding(const dlc_slot_record *slot, const dlc_binding *binding, int64_t needed, int64_t index)
{
    int64_t bytes;
    if (binding->count < needed)
        return dlc_fail(DLC_INVALID_ARGUMENT, "slot %lld is bound to %lld %s; the run needs %lld", (long long)index,
                        (long long)binding->count,
                        slot->kind == DLC_SLOT_FIXED  ? "bytes"
                        : slot->kind == DLC_SLOT_STEP ? "steps"
                                                      : "rows",
                        (long long)needed);
    int64_t size = slot->kind == DLC_SLOT_FIXED ? 1 : slot->bytes;
    if (!dlc_size_mul(&bytes, binding->count, size))
        return dlc_fail(DLC_INVALID_ARGUMENT, "slot %lld is bound to more than 63 bits of bytes", (long long)index);
    if (!binding->data && bytes > 0)
        return dlc_fail(DLC_INVALID_ARGUMENT, "slot %lld is bound to nothing", (long long)index);
    if ((uintptr_t)binding->data % (uintptr_t)dlc_dtype_size(slot->dtype) != 0)
        return dlc_fail(DLC_INVALID_ARGUMENT, "slot %lld is bound to memory that is not aligned to its dtype",
                        (long long)index);
    return DLC_OK;
}

/* Bytes of a binding that the run may touch. */
static int64_t bytes_touched(const dlc_slot_record *slot, const dlc_binding *binding, const dlc_run *run)
{
    if (slot->kind == DLC_SLOT_DATASET)
        return binding->count * slot->bytes;
    return count_needed(slot, run) * (slot->kind == DLC_SLOT_FIXED ? 1 : slot->bytes);
}

/* The plan's barriers know only of overlaps within a slot. */
static dlc_status check_aliases(const dlc_plan *plan, const dlc_run *run)
{
    for (int64_t i = 0; i < run->n_bindings; i++) {
        if (!plan->slots[i].writable)
            continue;
        uintptr_t begin = (uintptr_t)run->bindings[i].data;
        uintptr_t end = begin + (uintptr_t)bytes_touched(&plan->slots[i], &run->bindings[i], run);
        for (int64_t j = 0; j < run->n_bindings; j++) {
            uintptr_t other = (uintptr_t)run->bindings[j].data;
            uintptr_t other_end = other + (uintptr_t)bytes_touched(&plan->slots[j], &run->bindings[j], run);
            if (j != i && begin < other_end && other < end)
                return dlc_fail(DLC_INVALID_ARGUMENT, "slots %lld and %lld are bound to memory that overlaps",
                                (long long)i, (long long)j);
        }
    }
    return DLC_OK;
}

static dlc_status check_bindings(const dlc_plan *plan, const dlc_run *run)
{
    if (run->n_bindings != plan->header->n_slots)
        return dlc_fail(DLC_INVALID_ARGUMENT, "there are %lld bindings; the plan has %lld slots",
                        (long long)run->n_bindings, (long long)plan->header->n_slots);
    for (int64_t i = 0; i < run->n_bindings; i++)
        DLC_TRY(dlc_check_binding(&plan->slots[i], &run->bindings[i], count_needed(&plan->slots[i], run), i));
    return check_aliases(plan, run);
}

dlc_status dlc_check_run(const dlc_plan *plan, const dlc_run *run)
{
    DLC_TRY(check_steps(plan, run));
    DLC_TRY(check_order(run));
    return check_bindings(plan, run);
}
