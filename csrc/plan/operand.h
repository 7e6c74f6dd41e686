/* Small questions about operands that the checks of ops share. */
#ifndef DLC_PLAN_OPERAND_H
#define DLC_PLAN_OPERAND_H

#include <string.h>

#include "plan/op.h"

/* Elements that ops deal out at once where an element is the same whatever it is computed with. With 4096 a step of
 * 32-64-64-64-64-10 in batches of 128 takes two threads 1.14 times as long: its matrices have that many, and one thread updates
 * all; 64 and 1024 are level with 256. */
#define DLC_SHARED_ELEMENTS 256

/* The number of elements of axes [axis, ndim). The validator has checked that it does not overflow. */
static inline int64_t dlc_count_from(const dlc_array *array, int32_t axis)
{
    int64_t count = 1;
    for (; axis < array->ndim; axis++)
        count *= array->shape[axis];
    return count;
}

static inline int64_t dlc_count(const dlc_array *array) { return dlc_count_from(array, 0); }

/* Whether it lies elsewhere in every step. */
static inline bool dlc_operand_moves(const dlc_operand *operand)
{
    return operand->slot_kind == DLC_SLOT_STREAM || operand->slot_kind == DLC_SLOT_STEP;
}

/* Whether axes [axis, ndim) are dense and in C order for every number of rows. Strides of axes of one element, and of
 * arrays of none, do not matter. */
static inline bool dlc_is_contiguous(const dlc_array *array, const dlc_operand *operand, int32_t axis)
{
    int64_t expected = 1;
    bool contiguous = true;
    for (int32_t i = array->ndim - 1; i >= axis; i--) {
        int64_t extent = operand->extents[i];
        if (extent == 0)
            return true;
        if (extent == 1)
            continue;
        contiguous = contiguous && array->stride[i] == expected;
        expected = extent < 0 ? -1 : expected * extent;
    }
    return contiguous;
}

/* Whether it is a matrix whose rows are contiguous. */
static inline bool dlc_has_contiguous_rows(const dlc_array *array)
{
    return array->ndim == 2 && (array->stride[1] == 1 || array->shape[1] <= 1);
}

/* Whether it is one whose columns are, and its rows are not. */
static inline bool dlc_has_contiguous_columns(const dlc_array *array)
{
    return array->ndim == 2 && array->stride[0] == 1 && !dlc_has_contiguous_rows(array);
}

/* Whether the shapes are the same for every number of rows. */
static inline bool dlc_same_shape(const dlc_array *a, const dlc_operand *of_a, const dlc_array *b,
                                  const dlc_operand *of_b)
{
    return a->ndim == b->ndim &&
           memcmp(of_a->extents, of_b->extents, (size_t)a->ndim * sizeof *of_a->extents) == 0;
}

/* Whether the first axis counts rows, and no other one does. */
static inline bool dlc_is_row_shape(const int64_t *extents, int32_t ndim)
{
    bool rest_is_fixed = true;
    for (int32_t i = 1; i < ndim; i++)
        rest_is_fixed = rest_is_fixed && extents[i] >= 0;
    return ndim >= 1 && extents[0] == -1 && rest_is_fixed;
}

static inline double dlc_attribute_double(const dlc_op *op, int32_t index)
{
    double value;
    memcpy(&value, &op->attributes[index], sizeof value);
    return value;
}

static inline bool dlc_attribute_is_flag(const dlc_op *op, int32_t index)
{
    return op->attributes[index] == 0 || op->attributes[index] == 1;
}

/* Whether two operands may share bytes. Exact for ranges, and for slices of the columns of one matrix. */
bool dlc_views_overlap(const dlc_view *a, const dlc_view *b);

/* Whether sums are those of the columns of b beside c (m, n) = a @ b: a contiguous (1, n), where m counts no rows and is not 0. */
dlc_status dlc_check_column_sums(const dlc_array *sums, const dlc_operand *of_sums, const dlc_array *c,
                                 const dlc_operand *of_c);

dlc_status dlc_expect_operands(const dlc_op *op, int32_t n_out, int32_t n_in, int32_t n_attributes);

#endif
