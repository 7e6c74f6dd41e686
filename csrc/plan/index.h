/* Integers in data that choose something: labels a class, indices a row. Read from any dtype, and checked. */
#ifndef DLC_PLAN_INDEX_H
#define DLC_PLAN_INDEX_H

#include "plan/op.h"

/* The integers in [low, high), and what to call one: "<name> 7 <place> 3 is outside [0, 5)". */
typedef struct dlc_index_range {
    const char *name, *place;
    int64_t low, high;
} dlc_index_range;

/* out (n) = in (n; stride); DLC_INVALID_ARGUMENT where one is no integer in the range. in[i] stands at position + i. */
dlc_status dlc_read_indices(int64_t *out, const void *in, int32_t dtype, int64_t stride, int64_t n,
                            const dlc_index_range *range, int64_t position);

/* ---- What take and scatter_add have in common ----
 *
 * picked[o, j, :] stands for whole[o, index[o, j], :]; whole (outer, extent, inner), picked (outer, n, inner), index
 * (outer or 1, n). Negative indices count from the end. */

/* As many indices as are read at once: 4 KiB of L1. */
#define DLC_ROW_BLOCK 512

/* The rows of whole that `count` elements of the index name, from a position on that counts in C order. Zero count to
 * begin with. */
typedef struct dlc_row_block {
    int64_t position, count;
    int64_t rows[DLC_ROW_BLOCK];
} dlc_row_block;

/* block = index[o, j ... j + count), in [0, extent). Nothing to do when it holds them already, as it does for every o
 * after the first where all share one short index. */
dlc_status dlc_read_rows(dlc_row_block *block, const dlc_array *index, int64_t o, int64_t j, int64_t count,
                         int64_t extent);

/* Checks the record of such an op: operands output, input, index; `whole` and `picked` are 0 and 1 or 1 and 0. */
dlc_status dlc_check_indexed(const dlc_op *op, const dlc_array *args, const dlc_operand *operands, int32_t whole,
                             int32_t picked);

#endif
