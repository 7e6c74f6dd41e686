#include "plan/index.h"

#include <math.h>

#include "plan/operand.h"

static inline dlc_status read_real(int64_t *out, double value, const dlc_index_range *range, int64_t position)
{
    if (value != trunc(value)) /* NaN, too */
        return dlc_fail(DLC_INVALID_ARGUMENT, "%s %.15g %s %lld is not an integer", range->name, value, range->place,
                        (long long)position);
    if (value < (double)range->low || value >= (double)range->high)
        return dlc_fail(DLC_INVALID_ARGUMENT, "%s %.15g %s %lld is outside [%lld, %lld)", range->name, value,
                        range->place, (long long)position, (long long)range->low, (long long)range->high);
    *out = (int64_t)value;
    return DLC_OK;
}

static inline dlc_status read_integer(int64_t *out, int64_t value, const dlc_index_range *range, int64_t position)
{
    if (value < range->low || value >= range->high)
        return dlc_fail(DLC_INVALID_ARGUMENT, "%s %lld %s %lld is outside [%lld, %lld)", range->name, (long long)value,
                        range->place, (long long)position, (long long)range->low, (long long)range->high);
    *out = value;
    return DLC_OK;
}

#define READ_ALL(type, read)             \
    for (int64_t i = 0; i < n; i++)      \
        DLC_TRY(read(&out[i], ((const type *)in)[i * stride], range, position + i))

dlc_status dlc_read_indices(int64_t *out, const void *in, int32_t dtype, int64_t stride, int64_t n,
                            const dlc_index_range *range, int64_t position)
{
    switch (dtype) {
    case DLC_FLOAT32:
        READ_ALL(float, read_real);
        break;
    case DLC_FLOAT64:
        READ_ALL(double, read_real);
        break;
    case DLC_INT32:
        READ_ALL(int32_t, read_integer);
        break;
    case DLC_INT64:
        READ_ALL(int64_t, read_integer);
        break;
    default: /* uint8 and bool */
        READ_ALL(uint8_t, read_integer);
    }
    return DLC_OK;
}

dlc_status dlc_read_rows(dlc_row_block *block, const dlc_array *index, int64_t o, int64_t j, int64_t count,
                         int64_t extent)
{
    const dlc_index_range range = {"index", "at position", -extent, extent};
    if (index->shape[0] == 1)
        o = 0;
    int64_t position = o * index->shape[1] + j;
    if (block->position == position && block->count == count)
        return DLC_OK;
    block->position = position;
    block->count = 0;
    const char *in = (const char *)index->data +
                     (o * index->stride[0] + j * index->stride[1]) * dlc_dtype_size(index->dtype);
    DLC_TRY(dlc_read_indices(block->rows, in, index->dtype, index->stride[1], count, &range, position));
    for (int64_t i = 0; i < count; i++)
        block->rows[i] += block->rows[i] < 0 ? extent : 0;
    block->count = count;
    return DLC_OK;
}

static dlc_status check_index(const dlc_array *index, const dlc_operand *of_index, const dlc_operand *of_picked)
{
    if (index->dtype == DLC_BOOL)
        return dlc_fail(DLC_INVALID_PLAN, "its index is bool; expected numbers");
    if (of_index->extents[0] != 1 && of_index->extents[0] != of_picked->extents[0])
        return dlc_fail(DLC_INVALID_PLAN, "its index fits the other operands neither along axis 0, nor is it 1 there");
    if (of_index->extents[1] != of_picked->extents[1])
        return dlc_fail(DLC_INVALID_PLAN, "its index has another extent along axis 1 than what it picks");
    return DLC_OK;
}

dlc_status dlc_check_indexed(const dlc_op *op, const dlc_array *args, const dlc_operand *operands, int32_t whole,
                             int32_t picked)
{
    DLC_TRY(dlc_expect_operands(op, 1, 2, 0));
    if (args[0].ndim != 3 || args[1].ndim != 3 || args[2].ndim != 2)
        return dlc_fail(DLC_INVALID_PLAN, "its operands have %d, %d and %d axes; expected 3, 3 and 2",
                        (int)args[0].ndim, (int)args[1].ndim, (int)args[2].ndim);
    if (args[0].dtype != args[1].dtype)
        return dlc_fail(DLC_INVALID_PLAN, "output and input have dtypes %d and %d; expected one", (int)args[0].dtype,
                        (int)args[1].dtype);
    for (int32_t axis = 0; axis < 3; axis += 2)
        if (operands[whole].extents[axis] != operands[picked].extents[axis])
            return dlc_fail(DLC_INVALID_PLAN, "output and input differ along axis %d", (int)axis);
    for (int32_t i = 0; i < 2; i++)
        if (!dlc_is_contiguous(&args[i], &operands[i], 2))
            return dlc_fail(DLC_INVALID_PLAN, "the last axis of its %s is not contiguous", i == 0 ? "output" : "input");
    for (int32_t in = 1; in < 3; in++)
        if (dlc_views_overlap(&operands[0].view, &operands[in].view))
            return dlc_fail(DLC_INVALID_PLAN, "its output overlaps %s", in == 1 ? "its input" : "its index");
    return check_index(&args[2], &operands[2], &operands[picked]);
}
