/* The checks that every plan passes before it runs, whether it was just compiled or read from a file. What they let
 * through cannot make the executor or an op touch memory outside the arena and the bound slots, for any number of
 * rows up to the capacity. */
#include <stdio.h>
#include <stdlib.h>

#include "plan/loaded.h"
#include "plan/operand.h"

_Static_assert(sizeof(dlc_plan_header) == 112 && sizeof(dlc_slot_record) == 24 && sizeof(dlc_tensor_record) == 152 &&
                   sizeof(dlc_op_record) == 24,
               "records are the same on every machine");

/* Room to add a few sizes without a check. */
#define MAX_BYTES (INT64_MAX / 8)

static dlc_status fail_header(const char *field, int64_t value, const char *expected)
{
    return dlc_fail(DLC_INVALID_PLAN, "plan header: %s is %lld; expected %s", field, (long long)value, expected);
}

static dlc_status fail_record(const char *record, int64_t index, const char *field, int64_t value, const char *expected)
{
    return dlc_fail(DLC_INVALID_PLAN, "plan %s %lld: %s is %lld; expected %s", record, (long long)index, field,
                    (long long)value, expected);
}

/* ---- Header and tables ---- */

static dlc_status check_header(const dlc_plan_header *header, int64_t n_bytes)
{
    if (header->magic != DLC_PLAN_MAGIC)
        return dlc_fail(DLC_INVALID_PLAN, "plan header: magic is wrong; these bytes are not a plan");
    if (header->version != DLC_PLAN_VERSION)
        return dlc_fail(DLC_INVALID_PLAN,
                        "plan header: version is %lld; expected %d; another version of dlcore wrote this plan",
                        (long long)header->version, DLC_PLAN_VERSION);
    if (header->total_bytes != n_bytes)
        return fail_header("total_bytes", header->total_bytes, "the number of bytes that there are");
    if (header->row_capacity < 1 || header->row_capacity > MAX_BYTES)
        return fail_header("row_capacity", header->row_capacity, "at least 1");
    if (header->arena_bytes < 0 || header->arena_bytes > MAX_BYTES)
        return fail_header("arena_bytes", header->arena_bytes, "at least 0");
    if (header->n_ops < 1)
        return fail_header("n_ops", header->n_ops, "at least 1");
    if (header->n_block_ops < 0 || header->n_block_ops > header->n_ops)
        return fail_header("n_block_ops", header->n_block_ops, "0 to n_ops");
    if (header->block_rows < (header->n_block_ops > 0) || header->block_rows > header->row_capacity)
        return fail_header("block_rows", header->block_rows, "1 to row_capacity, or 0 without block ops");
    if (header->block_arena_bytes < 0 || header->block_arena_bytes > MAX_BYTES)
        return fail_header("block_arena_bytes", header->block_arena_bytes, "at least 0");
    if (header->sums_bytes < 0 || header->sums_bytes > header->arena_bytes)
        return fail_header("sums_bytes", header->sums_bytes, "0 to arena_bytes");
    return DLC_OK;
}

typedef struct dlc_reader {
    const char *next;
    int64_t rest; /* bytes from next on */
} dlc_reader;

/* The next table, of `count` entries padded to 8 bytes; NULL when the bytes do not hold it. */
static const void *take_table(dlc_reader *reader, int64_t count, int64_t size, const char *field)
{
    const char *table = reader->next;
    int64_t bytes = -1;
    if (count >= 0 && count <= reader->rest / size)
        bytes = (count * size + 7) / 8 * 8;
    if (bytes < 0 || bytes > reader->rest) {
        fail_header(field, count, "a table that fits in total_bytes");
        return NULL;
    }
    reader->next += bytes;
    reader->rest -= bytes;
    return table;
}

static dlc_status find_tables(dlc_plan *plan, int64_t n_bytes)
{
    if (n_bytes < (int64_t)sizeof(dlc_plan_header))
        return dlc_fail(DLC_INVALID_PLAN, "a plan of %lld bytes is shorter than its header", (long long)n_bytes);
    const dlc_plan_header *header = plan->bytes;
    DLC_TRY(check_header(header, n_bytes));
    dlc_reader reader = {(const char *)plan->bytes + sizeof *header, n_bytes - (int64_t)sizeof *header};
    const bool found =
        (plan->slots = take_table(&reader, header->n_slots, sizeof *plan->slots, "n_slots")) &&
        (plan->tensors = take_table(&reader, header->n_tensors, sizeof *plan->tensors, "n_tensors")) &&
        (plan->records = take_table(&reader, header->n_ops, sizeof *plan->records, "n_ops")) &&
        (plan->operands = take_table(&reader, header->n_operands, sizeof *plan->operands, "n_operands")) &&
        (plan->attributes = take_table(&reader, header->n_attributes, sizeof *plan->attributes, "n_attributes"));
    if (!found)
        return DLC_INVALID_PLAN;
    if (reader.rest != 0)
        return fail_header("total_bytes", header->total_bytes, "the sum of the tables");
    plan->header = header;
    return DLC_OK;
}

/* ---- Slots ---- */

static dlc_status check_slot(const dlc_slot_record *slot, int64_t index)
{
    if (slot->kind < DLC_SLOT_FIXED || slot->kind > DLC_SLOT_DATASET)
        return fail_record("slot", index, "kind", slot->kind, "0 to 3");
    if (slot->writable != 0 && slot->writable != 1)
        return fail_record("slot", index, "writable", slot->writable, "0 or 1");
    if (slot->writable && slot->kind == DLC_SLOT_DATASET)
        return fail_record("slot", index, "writable", slot->writable, "0, as for every data set");
    if (slot->dtype < 0 || slot->dtype >= DLC_DTYPE_COUNT)
        return fail_record("slot", index, "dtype", slot->dtype, "0 to 5");
    if (slot->reserved != 0)
        return fail_record("slot", index, "reserved", slot->reserved, "0");
    if (slot->bytes < 0 || slot->bytes > MAX_BYTES || slot->bytes % dlc_dtype_size(slot->dtype) != 0)
        return fail_record("slot", index, "bytes", slot->bytes, "a multiple of the size of its dtype");
    return DLC_OK;
}

/* ---- Tensors ---- */

void dlc_tensor_array(dlc_array *array, const dlc_tensor_record *tensor, int64_t rows)
{
    array->data = NULL;
    array->dtype = tensor->dtype;
    array->ndim = tensor->ndim;
    for (int32_t i = 0; i < DLC_MAX_NDIM; i++) {
        bool used = i < tensor->ndim;
        int64_t extent = used ? tensor->shape[i] : 1;
        array->shape[i] = extent < 0 ? -extent * rows : extent;
        array->stride[i] = used ? tensor->stride[i] : 0;
    }
}

/* Checks what can be said of the numbers alone, so that dlc_tensor_array cannot overflow. */
static dlc_status check_extents(const dlc_tensor_record *tensor, int64_t index, int64_t rows)
{
    int64_t bytes = dlc_dtype_size(tensor->dtype);
    for (int32_t i = 0; i < tensor->ndim; i++) {
        int64_t extent = tensor->shape[i];
        if (extent < -MAX_BYTES || (extent < 0 && !dlc_size_mul(&extent, -extent, rows)))
            return fail_record("tensor", index, "shape", tensor->shape[i], "an extent that fits at row_capacity");
        if (!dlc_size_mul(&bytes, bytes, dlc_max64(extent, 1)) || bytes > MAX_BYTES)
            return fail_record("tensor", index, "shape", tensor->shape[i], "a number of elements that fits in 63 bits");
        if (tensor->stride[i] < 0)
            return fail_record("tensor", index, "stride", tensor->stride[i], "at least 0");
    }
    for (int32_t i = tensor->ndim; i < DLC_MAX_NDIM; i++)
        if (tensor->shape[i] != 0 || tensor->stride[i] != 0)
            return fail_record("tensor", index, "ndim", tensor->ndim, "as many axes as it has extents and strides");
    return DLC_OK;
}

/* *end = the offset just behind the last byte of the array; false when it does not fit. */
static bool find_end(int64_t *end, const dlc_tensor_record *tensor, const dlc_array *array)
{
    int64_t last = 0;
    for (int32_t i = 0; i < array->ndim; i++) {
        int64_t span;
        if (array->shape[i] == 0) {
            *end = tensor->offset;
            return true;
        }
        if (!dlc_size_mul(&span, array->shape[i] - 1, array->stride[i]) || !dlc_size_add(&last, last, span))
            return false;
    }
    return dlc_size_add(&last, last, 1) && dlc_size_mul(&last, last, dlc_dtype_size(array->dtype)) &&
           dlc_size_add(end, last, tensor->offset);
}

/* The one axis that counts rows; -1 when there is none or more than one. */
static int32_t find_row_axis(const dlc_tensor_record *tensor)
{
    int32_t axis = -1;
    for (int32_t i = 0; i < tensor->ndim; i++) {
        if (tensor->shape[i] < 0 && axis >= 0)
            return -1;
        if (tensor->shape[i] < 0)
            axis = i;
    }
    return axis;
}

/* Rows of a slot lie slot->bytes apart. A tensor has one axis of d elements for each row, which divides a row into d
 * equal parts, and its other axes stay within such a part: so it never leaves the rows of a step. */
static dlc_status check_rows(const dlc_tensor_record *tensor, int64_t index, const dlc_array *array,
                             const dlc_slot_record *slot)
{
    int32_t axis = find_row_axis(tensor);
    if (axis < 0)
        return fail_record("tensor", index, "shape", tensor->ndim > 0 ? tensor->shape[0] : 0,
                           "one axis that counts rows in a slot of rows");
    if (slot->kind == DLC_SLOT_DATASET && (axis != 0 || tensor->shape[0] != -1))
        return fail_record("tensor", index, "shape", tensor->shape[0], "-1 first in a slot of a data set");
    int64_t part, row, end;
    if (!dlc_size_mul(&part, tensor->stride[axis], dlc_dtype_size(tensor->dtype)) ||
        !dlc_size_mul(&row, part, -tensor->shape[axis]) || row != slot->bytes)
        return fail_record("tensor", index, "stride", tensor->stride[axis], "that of the slot's rows");
    dlc_array within = *array;
    within.shape[axis] = 1;
    if (!find_end(&end, tensor, &within) || end > part)
        return fail_record("tensor", index, "offset", tensor->offset, "a tensor that lies within the slot's rows");
    return DLC_OK;
}

/* The most rows that a tensor is asked to hold: its operand may be a block op's. */
static int64_t capacity_of(const dlc_plan *plan, const dlc_tensor_record *tensor)
{
    return tensor->slot == DLC_IN_BLOCK_ARENA ? plan->header->block_rows : plan->header->row_capacity;
}

static dlc_status check_place(const dlc_plan *plan, const dlc_tensor_record *tensor, int64_t index)
{
    dlc_array array;
    dlc_tensor_array(&array, tensor, capacity_of(plan, tensor));
    int64_t end;
    int64_t limit = tensor->slot == DLC_IN_BLOCK_ARENA ? plan->header->block_arena_bytes : plan->header->arena_bytes;
    if (tensor->slot >= 0) {
        const dlc_slot_record *slot = &plan->slots[tensor->slot];
        if (tensor->dtype != slot->dtype)
            return fail_record("tensor", index, "dtype", tensor->dtype, "that of its slot");
        limit = slot->bytes;
        if (slot->kind == DLC_SLOT_STREAM || slot->kind == DLC_SLOT_DATASET) {
            DLC_TRY(check_rows(tensor, index, &array, slot));
            limit = MAX_BYTES;
        }
    }
    if (!find_end(&end, tensor, &array) || end > limit)
        return fail_record("tensor", index, "offset", tensor->offset,
                           "a tensor that lies within its slot or arena at its capacity of rows");
    return DLC_OK;
}

static dlc_status check_tensor(const dlc_plan *plan, const dlc_tensor_record *tensor, int64_t index)
{
    if (tensor->dtype < 0 || tensor->dtype >= DLC_DTYPE_COUNT)
        return fail_record("tensor", index, "dtype", tensor->dtype, "0 to 5");
    if (tensor->ndim < 0 || tensor->ndim > DLC_MAX_NDIM)
        return fail_record("tensor", index, "ndim", tensor->ndim, "0 to 8");
    if (tensor->slot < DLC_IN_BLOCK_ARENA || tensor->slot >= plan->header->n_slots)
        return fail_record("tensor", index, "slot", tensor->slot, "-2, -1 or the index of a slot");
    if (tensor->offset < 0 || tensor->offset % dlc_dtype_size(tensor->dtype) != 0)
        return fail_record("tensor", index, "offset", tensor->offset, "a multiple of the size of its dtype");
    DLC_TRY(check_extents(tensor, index, plan->header->row_capacity));
    return check_place(plan, tensor, index);
}

/* The axis with the longest stride makes the runs of the view, the others their width. */
static dlc_view find_view(const dlc_tensor_record *tensor, int64_t rows)
{
    dlc_array array;
    dlc_tensor_array(&array, tensor, rows);
    int64_t end = tensor->offset, size = dlc_dtype_size(tensor->dtype);
    find_end(&end, tensor, &array);
    int32_t longest = -1;
    for (int32_t i = 0; i < array.ndim; i++)
        if (array.shape[i] > 1 && (longest < 0 || array.stride[i] > array.stride[longest]))
            longest = i;
    int64_t period = longest < 0 ? 0 : array.stride[longest] * size;
    int64_t width = end - tensor->offset;
    if (longest >= 0 && width > 0)
        width -= (array.shape[longest] - 1) * period;
    return (dlc_view){tensor->slot, tensor->offset, end, period, width};
}

dlc_status dlc_plan_validate_memory(dlc_plan *plan, int64_t n_bytes)
{
    DLC_TRY(find_tables(plan, n_bytes));
    for (int64_t i = 0; i < plan->header->n_slots; i++)
        DLC_TRY(check_slot(&plan->slots[i], i));
    for (int64_t i = 0; i < plan->header->n_tensors; i++)
        DLC_TRY(check_tensor(plan, &plan->tensors[i], i));
    for (int64_t i = 0; i < plan->header->n_operands; i++)
        if (plan->operands[i] < 0 || plan->operands[i] >= plan->header->n_tensors)
            return fail_record("operand", i, "tensor", plan->operands[i], "the index of a tensor");
    plan->views = malloc((size_t)plan->header->n_tensors * sizeof *plan->views + 1);
    if (!plan->views)
        return dlc_fail(DLC_OUT_OF_MEMORY, "no memory for the views of a plan");
    for (int64_t i = 0; i < plan->header->n_tensors; i++)
        plan->views[i] = find_view(&plan->tensors[i], capacity_of(plan, &plan->tensors[i]));
    return DLC_OK;
}

/* ---- Ops ---- */

bool dlc_views_overlap(const dlc_view *a, const dlc_view *b)
{
    if (a->slot != b->slot || a->begin >= b->end || b->begin >= a->end || a->width == 0 || b->width == 0)
        return false;
    if (a->period == 0 || a->period != b->period)
        return true;
    int64_t first = a->begin % a->period, second = b->begin % b->period;
    bool disjoint = first + a->width <= a->period && second + b->width <= b->period &&
                    (first + a->width <= second || second + b->width <= first);
    return !disjoint;
}

/* Whether two tensors are the same elements in the same order for every number of rows. */
static bool is_same(const dlc_tensor_record *a, const dlc_tensor_record *b)
{
    bool same = a->dtype == b->dtype && a->ndim == b->ndim && a->slot == b->slot && a->offset == b->offset;
    for (int32_t i = 0; same && i < a->ndim; i++)
        same = a->shape[i] == b->shape[i] && (a->shape[i] == 1 || a->stride[i] == b->stride[i]);
    return same;
}

/* Whether no two elements share memory: from the shortest stride on, each is longer than all before it reach. */
static bool has_distinct_elements(const dlc_array *array)
{
    bool done[DLC_MAX_NDIM] = {false};
    int64_t reach = 0;
    if (dlc_count(array) == 0)
        return true;
    for (int32_t round = 0; round < array->ndim; round++) {
        int32_t next = -1;
        for (int32_t i = 0; i < array->ndim; i++)
            if (!done[i] && (next < 0 || array->stride[i] < array->stride[next]))
                next = i;
        done[next] = true;
        if (array->shape[next] == 1)
            continue;
        if (array->stride[next] <= reach)
            return false;
        reach += (array->shape[next] - 1) * array->stride[next];
    }
    return true;
}

static dlc_status check_output(const dlc_plan *plan, const dlc_op *op, const dlc_array *args, int32_t out)
{
    int32_t tensor = op->operands[out];
    const dlc_tensor_record *record = &plan->tensors[tensor];
    if (record->slot >= 0 && !plan->slots[record->slot].writable)
        return dlc_fail(DLC_INVALID_PLAN, "output %d lies in slot %lld, which is not writable", (int)out,
                        (long long)record->slot);
    if (!has_distinct_elements(&args[out]))
        return dlc_fail(DLC_INVALID_PLAN, "output %d has elements that share memory", (int)out);
    for (int32_t other = out + 1; other < op->n_out + op->n_in; other++) {
        if (!dlc_views_overlap(&plan->views[tensor], &plan->views[op->operands[other]]))
            continue;
        if (other < op->n_out || !is_same(record, &plan->tensors[op->operands[other]]))
            return dlc_fail(DLC_INVALID_PLAN, "output %d overlaps %s %d", (int)out,
                            other < op->n_out ? "output" : "input",
                            (int)(other < op->n_out ? other : other - op->n_out));
    }
    return DLC_OK;
}

static dlc_status check_inputs(const dlc_plan *plan, const dlc_op *op)
{
    for (int32_t i = 0; i < op->n_in; i++) {
        int64_t slot = plan->tensors[op->operands[op->n_out + i]].slot;
        if (slot >= 0 && plan->slots[slot].kind == DLC_SLOT_DATASET && !op->def->reads_dataset)
            return dlc_fail(DLC_INVALID_PLAN, "input %d lies in slot %lld, a data set, which this op cannot read",
                            (int)i, (long long)slot);
    }
    return DLC_OK;
}

static bool writes_fixed_slot(const dlc_plan *plan, const dlc_op *op)
{
    for (int32_t i = 0; i < op->n_out; i++) {
        int64_t slot = plan->tensors[op->operands[i]].slot;
        if (slot >= 0 && plan->slots[slot].kind == DLC_SLOT_FIXED)
            return true;
    }
    return false;
}

/* With this, and the barrier that stands between an op that can fail and the next one that writes a slot, a step that
 * fails leaves parameters and optimiser state as they were. */
static dlc_status check_failure_order(const dlc_plan *plan, const dlc_op *op, bool *has_written)
{
    *has_written = *has_written || writes_fixed_slot(plan, op);
    if (op->def->can_fail && *has_written)
        return dlc_fail(DLC_INVALID_PLAN, "an op that can fail stands at or behind one that writes a FIXED slot");
    return DLC_OK;
}

static dlc_status find_op(dlc_op *op, const dlc_plan *plan, int64_t index)
{
    const dlc_plan_header *header = plan->header;
    const dlc_op_record *record = &plan->records[index];
    op->def = dlc_op_find(record->opcode);
    if (!op->def)
        return fail_record("op", index, "opcode", record->opcode, "the code of an op");
    if (record->n_out < 1 || record->n_out > header->n_operands)
        return fail_record("op", index, "n_out", record->n_out, "1 to n_operands");
    if (record->n_in < 0 || record->n_in > header->n_operands)
        return fail_record("op", index, "n_in", record->n_in, "0 to n_operands");
    int64_t n_operands = (int64_t)record->n_out + record->n_in;
    if (n_operands > INT32_MAX || record->first_operand < 0 || record->first_operand > header->n_operands - n_operands)
        return fail_record("op", index, "first_operand", record->first_operand, "operands within their table");
    if (record->n_attributes < 0 || record->n_attributes > header->n_attributes)
        return fail_record("op", index, "n_attributes", record->n_attributes, "0 to that of the plan");
    if (record->first_attribute < 0 || record->first_attribute > header->n_attributes - record->n_attributes)
        return fail_record("op", index, "first_attribute", record->first_attribute, "attributes within their table");
    op->n_out = record->n_out;
    op->n_in = record->n_in;
    op->n_attributes = record->n_attributes;
    op->operands = plan->operands + record->first_operand;
    op->attributes = plan->attributes + record->first_attribute;
    return DLC_OK;
}

void dlc_op_arrays(dlc_array *args, const dlc_plan *plan, const dlc_op *op)
{
    const int64_t rows = dlc_is_block_op(plan, op) ? plan->header->block_rows : plan->header->row_capacity;
    for (int32_t i = 0; i < op->n_out + op->n_in; i++)
        dlc_tensor_array(&args[i], &plan->tensors[op->operands[i]], rows);
}

/* ---- Ops that run block by block ---- */

/* What block ops read of the step is bound, or of their own block; what they write is a row's, or a sum in the arena. Where a
 * single block has all rows of a step, its sums are complete, and may lie in slots. */
static dlc_status check_block_operand(dlc_plan *plan, const dlc_op *op, int32_t index, dlc_row_role role)
{
    const dlc_tensor_record *tensor = &plan->tensors[op->operands[index]];
    const bool is_output = index < op->n_out, has_rows = dlc_is_row_shape(tensor->shape, tensor->ndim);
    const bool is_sum = is_output && role == DLC_ROWS_SUMMED && !has_rows;
    if (is_sum && tensor->slot >= 0 && plan->header->block_rows == plan->header->row_capacity)
        return DLC_OK;
    if (is_sum && (tensor->slot != DLC_IN_ARENA || plan->views[op->operands[index]].end > plan->header->sums_bytes))
        return dlc_fail(DLC_INVALID_PLAN, "output %d sums rows and does not lie in the first %lld bytes of the arena",
                        (int)index, (long long)plan->header->sums_bytes);
    if (is_sum) {
        if (plan->sums_dtype >= 0 && plan->sums_dtype != tensor->dtype)
            return dlc_fail(DLC_INVALID_PLAN, "output %d sums rows in another dtype than an op before it", (int)index);
        plan->sums_dtype = tensor->dtype;
        return DLC_OK;
    }
    if (tensor->slot == DLC_IN_ARENA)
        return dlc_fail(DLC_INVALID_PLAN, "operand %d of this block op lies in the arena that threads share", (int)index);
    if (is_output && tensor->slot >= 0 && plan->slots[tensor->slot].kind != DLC_SLOT_STREAM)
        return dlc_fail(DLC_INVALID_PLAN, "output %d of this block op lies in a slot that has no rows", (int)index);
    return DLC_OK;
}

static dlc_status check_block_op(dlc_plan *plan, const dlc_op *op, const dlc_operand *operands)
{
    const dlc_row_role role = op->def->row_role ? op->def->row_role(op, operands) : DLC_ROWS_TOGETHER;
    if (role == DLC_ROWS_TOGETHER)
        return dlc_fail(DLC_INVALID_PLAN, "this block op needs all rows of a step at once");
    for (int32_t i = 0; i < op->n_out + op->n_in; i++)
        DLC_TRY(check_block_operand(plan, op, i, role));
    plan->block_operands = dlc_max64(plan->block_operands, dlc_first_operand(plan, op) + op->n_out + op->n_in);
    return DLC_OK;
}

/* The operands of block ops are resolved for other rows: none is another op's, too. */
static dlc_status check_other_op(const dlc_plan *plan, const dlc_op *op)
{
    if (dlc_first_operand(plan, op) < plan->block_operands)
        return dlc_fail(DLC_INVALID_PLAN, "it shares entries of the table of operands with a block op");
    for (int32_t i = 0; i < op->n_out + op->n_in; i++)
        if (plan->tensors[op->operands[i]].slot == DLC_IN_BLOCK_ARENA)
            return dlc_fail(DLC_INVALID_PLAN, "operand %d lies in the block arena, and this is no block op", (int)i);
    return DLC_OK;
}

static void describe_operands(dlc_operand *operands, const dlc_plan *plan, const dlc_op *op)
{
    for (int32_t i = 0; i < op->n_out + op->n_in; i++) {
        const dlc_tensor_record *tensor = &plan->tensors[op->operands[i]];
        operands[i].ndim = tensor->ndim;
        operands[i].extents = tensor->shape;
        operands[i].slot_kind = tensor->slot < 0 ? -1 : plan->slots[tensor->slot].kind;
        operands[i].view = plan->views[op->operands[i]];
    }
}

static dlc_status check_op(dlc_plan *plan, dlc_op *op, dlc_array *args, dlc_operand *operands, bool *has_written)
{
    dlc_op_arrays(args, plan, op);
    describe_operands(operands, plan, op);
    for (int32_t i = 0; i < op->n_out; i++)
        DLC_TRY(check_output(plan, op, args, i));
    DLC_TRY(check_inputs(plan, op));
    DLC_TRY(check_failure_order(plan, op, has_written));
    dlc_fail(DLC_OK, "its operands or attributes do not fit"); /* for ops of others that leave no message */
    DLC_TRY(op->def->check(op, args, operands));
    return dlc_is_block_op(plan, op) ? check_block_op(plan, op, operands) : check_other_op(plan, op);
}

static dlc_status check_ops(dlc_plan *plan, dlc_array *args, dlc_operand *operands)
{
    bool has_written = false;
    plan->sums_dtype = -1;
    for (int64_t i = 0; i < plan->header->n_ops; i++) {
        dlc_op *op = &plan->ops[i];
        DLC_TRY(find_op(op, plan, i));
        dlc_status status = check_op(plan, op, args, operands, &has_written);
        if (status != DLC_OK) {
            char reason[400];
            snprintf(reason, sizeof reason, "%s", dlc_last_error());
            return dlc_fail(status == DLC_OUT_OF_MEMORY ? status : DLC_INVALID_PLAN, "plan op %lld (%s): %s",
                            (long long)i, op->def->name, reason);
        }
    }
    return DLC_OK;
}

dlc_status dlc_plan_validate_ops(dlc_plan *plan)
{
    size_t n_operands = (size_t)plan->header->n_operands + 1;
    plan->ops = calloc((size_t)plan->header->n_ops, sizeof *plan->ops);
    dlc_array *args = malloc(n_operands * sizeof *args);
    dlc_operand *operands = malloc(n_operands * sizeof *operands);
    dlc_status status = plan->ops && args && operands
                            ? check_ops(plan, args, operands)
                            : dlc_fail(DLC_OUT_OF_MEMORY, "no memory for the ops of a plan");
    free(args);
    free(operands);
    return status;
}

dlc_status dlc_check_column_sums(const dlc_array *sums, const dlc_operand *of_sums, const dlc_array *c,
                                 const dlc_operand *of_c)
{
    if (c->ndim != 2 || of_c->extents[0] < 1 || of_c->extents[1] < 0)
        return dlc_fail(DLC_INVALID_PLAN, "the sums of b stand beside a product that is no matrix of fixed shape, with rows");
    if (sums->dtype != c->dtype || sums->ndim != 2 || of_sums->extents[0] != 1 ||
        of_sums->extents[1] != of_c->extents[1] || !dlc_is_contiguous(sums, of_sums, 0))
        return dlc_fail(DLC_INVALID_PLAN, "the sums of b are no contiguous (1, n) of the product's dtype");
    return DLC_OK;
}

dlc_status dlc_expect_operands(const dlc_op *op, int32_t n_out, int32_t n_in, int32_t n_attributes)
{
    if (op->n_out != n_out || op->n_in != n_in || op->n_attributes != n_attributes)
        return dlc_fail(DLC_INVALID_PLAN, "there are %d outputs, %d inputs and %d attributes; expected %d, %d and %d",
                        (int)op->n_out, (int)op->n_in, (int)op->n_attributes, (int)n_out, (int)n_in,
                        (int)n_attributes);
    return DLC_OK;
}
