#include "map/walk.h"

#include <stdlib.h>
#include <string.h>

#include "cpu/cache.h"
#include "cpu/detect.h"

/* Rows at least this long are run one at a time where the array itself can be the register, rather than be copied
 * several to a block: from about here on a copy in and out costs more than the additional kernel calls. */
#define ROW_IN_PLACE 128

/* Bytes of the rows of a strip, of which there are as many as a line of a transposed operand has elements: so lines are read once,
 * and the other operands can be registers where they lie. (Zen 5, one thread, float32: of 1000 x 1000 numbers plus others
 * transposed, rows of 512 bytes take 1.15 times as long as of 1024, and those 1.06 times as long as of 2048. Blocks of 64 x 16,
 * that all operands are copied in and out of, take twice as long, and rows of 4 KiB, element by element, 4 times, of 1024 x 1024
 * 12 times.) */
#define STRIP_ROW_BYTES 2048

/* Bytes of all arrays from which on outputs are streamed past the caches: three quarters of the last-level cache, within what has
 * been measured, as the cache that the system reports may be that of all cores and of other machines on the same host. With 32 MB
 * (Zen 3) a copy of 8 MB is 1.3 times as fast by plain stores, and one of 16 MB 1.5 times by streaming ones; where 480 MB are
 * reported (an Intel Xeon), streaming wins from 64 MB of arrays on for relu, and from 64 to 100 MB for costlier functions. */
enum { LEAST_STREAMED = 24 << 20, MOST_CACHED = 64 << 20 };

/* Blocks have that part of the size of others where inputs are fetched a block ahead, of arrays beyond the cache. (What takes
 * several blocks at once fetches nothing, and is level with either size.) */
#define FETCHED_PART 2

/* Bytes up to which glibc's malloc may give out what was freed before; beyond, new arrays are new to the system as well. */
enum { MOST_REUSED = 32 << 20 };

/* Instructions up to this cost keep up with memory: streaming is faster than plain stores even where blocks share lines. */
#define SHORT_COST 8

/* The blocks that one call of a kernel takes where no register is needed: rows that are reduced where they lie, of which a call
 * takes a third of the time of 4 KiB, and single instructions that keep up with memory (relu of 1 MB: 1.1 times the speed). Of
 * functions that look at all arguments first, 32 KiB at a time take 1.1 to 1.3 times as long where they come from L3. */
#define BLOCKS_AT_ONCE 8

static bool is_broadcast(const dlc_array *array, const int64_t *shape, int32_t ndim)
{
    for (int axis = 0; axis < ndim; axis++)
        if (array->shape[axis] != shape[axis])
            return true;
    return false;
}

/* The array by whose strides axes are visited: output 0, and where that is reduced, the first other operand that spans the
 * space. NULL: there is none. */
static const dlc_array *leading_array(const dlc_map_program *program, const dlc_array *arrays, const int64_t *shape,
                                      int32_t ndim)
{
    if (program->reduction == DLC_REDUCE_NONE)
        return &arrays[0];
    for (int i = program->n_reduced; i < dlc_map_operand_count(program); i++)
        if (!is_broadcast(&arrays[i], shape, ndim))
            return &arrays[i];
    return NULL;
}

/* The longest stride first. */
static void order_axes(int *order, const dlc_array *leading, int32_t ndim)
{
    for (int axis = 0; axis < ndim; axis++) {
        int place = axis;
        if (leading)
            for (; place > 0 && llabs(leading->stride[order[place - 1]]) < llabs(leading->stride[axis]); place--)
                order[place] = order[place - 1];
        order[place] = axis;
    }
}

/* Whether the walk's last axis so far and `axis`, which comes next inside it, are one axis to every operand. */
static bool merges(const dlc_map_walk *w, const dlc_array *arrays, int axis, int64_t extent, bool reduced)
{
    if (w->ndim == 0 || w->reduced[w->ndim - 1] != reduced)
        return false;
    for (int i = 0; i < dlc_map_operand_count(w->program); i++)
        if (w->operands[i].stride[w->ndim - 1] != dlc_map_stride(&arrays[i], axis) * extent)
            return false;
    return true;
}

/* Of all operands, without what is broadcast; as a double, as a sum of sizes may be past 63 bits. */
static double count_bytes(const dlc_map_walk *w)
{
    double bytes = 0;
    for (int i = 0; i < dlc_map_operand_count(w->program); i++) {
        double own = (double)w->operands[i].size;
        for (int axis = 0; axis < w->ndim; axis++)
            if (w->operands[i].stride[axis] != 0)
                own *= (double)w->extent[axis];
        bytes += own;
    }
    return bytes;
}

static void prepend_axis(dlc_map_walk *w)
{
    for (int axis = w->ndim++; axis > 0; axis--) {
        w->extent[axis] = w->extent[axis - 1];
        w->reduced[axis] = w->reduced[axis - 1];
        for (int i = 0; i < dlc_map_operand_count(w->program); i++)
            w->operands[i].stride[axis] = w->operands[i].stride[axis - 1];
    }
    w->extent[0] = 1;
    w->reduced[0] = false;
    for (int i = 0; i < dlc_map_operand_count(w->program); i++)
        w->operands[i].stride[0] = 0;
}

static bool exceeds_cache(double bytes)
{
    if (bytes <= LEAST_STREAMED) /* without asking for more */
        return false;
    return bytes > (double)dlc_min64(dlc_last_cache_bytes() / 4 * 3, MOST_CACHED);
}

void dlc_map_walk_init(dlc_map_walk *w, const dlc_map_program *program, const dlc_real_kernels *kernels,
                       const dlc_array *arrays, const int64_t *shape, int32_t ndim, int64_t rows)
{
    int order[DLC_MAX_NDIM];
    w->program = program;
    w->kernels = kernels;
    w->size = dlc_dtype_size(program->dtype);
    w->rows = (double)rows;
    w->first_defined = false;
    w->direct = false;
    w->sums = NULL;
    w->ndim = 0;
    memset(w->kept_stride, 0, sizeof w->kept_stride);
    for (int i = 0; i < dlc_map_operand_count(program); i++) {
        w->operands[i].data = arrays[i].data;
        w->operands[i].dtype = arrays[i].dtype;
        w->operands[i].size = dlc_dtype_size(arrays[i].dtype);
    }
    order_axes(order, leading_array(program, arrays, shape, ndim), ndim);
    for (int i = 0; i < ndim; i++) {
        int axis = order[i];
        int64_t extent = shape[axis];
        if (extent == 1)
            continue;
        bool reduced = arrays[0].shape[axis] != extent;
        if (merges(w, arrays, axis, extent, reduced)) {
            w->extent[w->ndim - 1] *= extent;
        } else {
            w->extent[w->ndim] = extent;
            w->reduced[w->ndim++] = reduced;
        }
        for (int j = 0; j < dlc_map_operand_count(program); j++)
            w->operands[j].stride[w->ndim - 1] = dlc_map_stride(&arrays[j], axis);
    }
    while (w->ndim < 2)
        prepend_axis(w);
    w->exceeds_cache = exceeds_cache(count_bytes(w));
    w->fetches = w->exceeds_cache && dlc_cpu_is_amd(); /* an Intel Xeon loses by it, or is level */
    w->streams = false;
}

/* Whether `out` is written before an input that is the same array is read for the last time. */
static bool overwrites_input(const dlc_map_walk *w, int out)
{
    const dlc_map_program *program = w->program;
    for (int in = program->n_out; in < dlc_map_operand_count(program); in++) {
        if (w->operands[in].data != w->operands[out].data)
            continue;
        bool written = false;
        for (int i = 0; i < program->n_instructions; i++) {
            const dlc_map_instruction *instruction = &program->instructions[i];
            const uint8_t read[3] = {instruction->a, instruction->b, instruction->c};
            for (int j = 0; written && j < 3; j++)
                if (read[j] == in)
                    return true;
            written |= instruction->dst == out;
        }
    }
    return false;
}

/* Whether an array can be the register of one row, but not of several. */
static bool contiguous_by_row_only(const dlc_map_walk *w, const dlc_map_operand *o)
{
    int row = w->ndim - 2, col = w->ndim - 1;
    return o->dtype == w->program->dtype && o->stride[col] == 1 && o->stride[row] != w->extent[col] &&
           o->stride[row] != 0;
}

/* Most arrays are one block, and most runs start at the first one: without the divisions that such do not need, a map
 * of a few elements takes a seventh less time. */
static int64_t count_blocks(int64_t extent, int64_t block)
{
    return extent <= block ? extent > 0 : dlc_ceil_div(extent, block);
}

static int64_t rows_of_block(const dlc_map_walk *w, int64_t rows, int64_t cols, int64_t limit)
{
    if (cols > limit)
        return 1;
    if (w->direct || (rows <= limit && rows * cols <= limit))
        return rows;
    return limit / dlc_max64(cols, 1);
}

static bool is_new(const dlc_map_walk *w, int out)
{
    double bytes = (double)w->size;
    for (int axis = 0; axis < w->ndim; axis++)
        bytes *= (double)w->extent[axis];
    return (w->program->new_outputs >> out & 1) && bytes > MOST_REUSED;
}

/* Whether an output is written past the caches, if its lines permit: it is not in them anyway, as an input that is the same array
 * is, and as a new array is that the system has just cleared. */
static bool may_stream(const dlc_map_walk *w, int i)
{
    if (!w->exceeds_cache || i < dlc_map_count_accumulated(w) || i >= w->program->n_out ||
        !dlc_map_has_whole_blocks(w, &w->operands[i]))
        return false;
    for (int in = w->program->n_out; in < dlc_map_operand_count(w->program); in++)
        if (w->operands[in].data == w->operands[i].data)
            return false;
    return !is_new(w, i) && !(i == 0 && w->first_defined);
}

static bool is_one_row(const dlc_map_walk *w) { return w->ndim == 2 && w->extent[0] == 1; }

/* Columns by which an element lies behind its line. */
static int64_t columns_behind_line(const dlc_map_walk *w, const char *element)
{
    return (int64_t)((uintptr_t)element % DLC_ALIGNMENT) / w->size;
}

/* Whether blocks that begin so many columns before the rows do begin with a KiB of the first input that is read in place. */
static bool reads_whole_regions(const dlc_map_walk *w, int64_t columns)
{
    enum { REGION = 1024 };
    for (int i = w->program->n_out; i < dlc_map_operand_count(w->program); i++) {
        const dlc_map_operand *o = &w->operands[i];
        if (o->dtype == w->program->dtype && dlc_map_has_whole_blocks(w, o))
            return ((uintptr_t)o->data - (uintptr_t)(columns * o->size)) % REGION < DLC_ALIGNMENT;
    }
    return false;
}

/* Columns that the first block has less than others, of what exceeds the cache. So blocks of the first output that is streamed
 * begin with a line: one that two blocks share is stored in the usual way, with which functions take 1.2 to 1.4 times as long
 * (Intel Xeon, arrays as NumPy allocates them, 16 bytes after a line). And blocks end within a KiB of the input: where they end
 * with it, Zen 5 does not fetch the next while outputs are stored, and functions take 1.4 to 1.7 times as long (arrays that both
 * begin 16 bytes after a page). */
static int64_t columns_before_blocks(const dlc_map_walk *w)
{
    const bool adds_up = w->program->reduction != DLC_REDUCE_NONE; /* block by block, wherever arrays lie */
    if (adds_up || !w->exceeds_cache || !is_one_row(w))
        return 0;
    int64_t columns = 0;
    for (int i = w->program->n_out - 1; i >= 0; i--)
        if (may_stream(w, i))
            columns = columns_behind_line(w, w->operands[i].data);
    return reads_whole_regions(w, columns) ? columns + DLC_ALIGNMENT / w->size : columns;
}

static bool begins_with_lines(const dlc_map_walk *w, const dlc_map_operand *o)
{
    return is_one_row(w) && ((uintptr_t)o->data - (uintptr_t)(w->missing_cols * w->size)) % DLC_ALIGNMENT == 0;
}

static bool is_streamed(const dlc_map_walk *w, int i)
{
    return may_stream(w, i) &&
           (begins_with_lines(w, &w->operands[i]) || dlc_map_instruction_cost(w->program) <= SHORT_COST);
}

/* Marks the operands whose elements lie nearer from row to row than along rows, of those that are read or stored. False: there
 * are none. */
static bool find_transposed(dlc_map_walk *w)
{
    const int row = w->ndim - 2, col = w->ndim - 1, accumulated = dlc_map_count_accumulated(w);
    bool found = false;
    for (int i = 0; i < dlc_map_operand_count(w->program); i++) {
        dlc_map_operand *o = &w->operands[i];
        const bool is_nearer = o->stride[row] != 0 && llabs(o->stride[row]) < llabs(o->stride[col]);
        o->transposed = i >= accumulated && w->extent[row] > 1 && is_nearer;
        found = found || o->transposed;
    }
    return found && !w->direct;
}

static int64_t line_elements(const dlc_map_program *program) { return DLC_ALIGNMENT / dlc_dtype_size(program->dtype); }

static int64_t strip_row_elements(const dlc_map_program *program) { return STRIP_ROW_BYTES / dlc_dtype_size(program->dtype); }

static void choose_blocks(dlc_map_walk *w)
{
    int64_t limit = dlc_map_block_elements(w->program);
    if (w->fetches && w->program->reduction == DLC_REDUCE_NONE)
        limit /= FETCHED_PART;
    if (w->direct) /* needs no register */
        limit *= BLOCKS_AT_ONCE;
    int64_t rows = w->extent[w->ndim - 2], cols = w->extent[w->ndim - 1];
    w->block_cols = dlc_clamp64(cols, 1, limit);
    w->block_rows = dlc_max64(rows_of_block(w, rows, cols, limit), 1);
    const int64_t strip_rows = dlc_min64(rows, line_elements(w->program));
    const bool in_strips = find_transposed(w) && w->block_rows < strip_rows;
    if (in_strips) {
        w->block_cols = dlc_min64(cols, strip_row_elements(w->program));
        w->block_rows = 1;
    } else if (cols >= ROW_IN_PLACE && !w->direct) {
        for (int i = 0; i < dlc_map_operand_count(w->program); i++)
            if (contiguous_by_row_only(w, &w->operands[i]))
                w->block_rows = 1;
    }
    w->strip_rows = in_strips ? strip_rows : w->block_rows;
    w->row_blocks = count_blocks(rows, w->strip_rows);
    w->missing_cols = columns_before_blocks(w);
    w->col_blocks = count_blocks(cols + w->missing_cols, w->block_cols);
}

static bool is_in_place(const dlc_map_walk *w, int i)
{
    const dlc_map_operand *o = &w->operands[i];
    if (i < dlc_map_count_accumulated(w) || (i < w->program->n_out && overwrites_input(w, i)))
        return false;
    return o->dtype == w->program->dtype && dlc_map_has_whole_blocks(w, o);
}

static int64_t block_count(const dlc_map_walk *w)
{
    int64_t count = w->row_blocks * w->col_blocks;
    for (int axis = 0; axis < w->ndim - 2; axis++)
        count *= w->extent[axis];
    return count;
}

/* What registers hold before the first block */
static void fill_registers(dlc_map_walk *w)
{
    const dlc_map_program *program = w->program;
    int r = 0;
    for (; r < dlc_map_operand_count(program); r++)
        w->operands[r].filled = NULL;
    for (int i = 0; i < program->n_literals; i++, r++) {
        w->kernels->fill(w->registers[r], dlc_map_number_of(&program->literals[i], w->rows),
                         program->filled_literals >> i & 1 ? w->block_rows * w->block_cols : 1);
    }
}

static bool is_row_numbers(const dlc_map_walk *w, int r)
{
    const dlc_map_program *program = w->program;
    if (r < program->n_out || r >= dlc_map_operand_count(program) || w->operands[r].dtype != program->dtype)
        return false;
    return w->operands[r].stride[w->ndim - 1] == 0 && w->operands[r].stride[w->ndim - 2] != 0 && dlc_map_is_unread(program, 1, r);
}

/* A bias, where columns are contiguous. With a register that is filled with it first, 10-32-2 takes 1.01 of the time, 64-100-10
 * 1.01, 4-32-16-4 1.02 and on two threads 1.03 (Zen 5). */
static int find_row_numbers(const dlc_map_walk *w)
{
    const dlc_map_instruction *first = &w->program->instructions[0];
    if (w->program->n_instructions == 0 || first->op != DLC_MAP_ADD || first->numbers || first->a == first->b)
        return -1;
    return is_row_numbers(w, first->b) ? first->b : is_row_numbers(w, first->a) ? first->a : -1;
}

/* Whether the blocks of a row can be one call: a single short instruction, on arrays and numbers. */
static bool takes_blocks_at_once(const dlc_map_walk *w)
{
    const dlc_map_program *program = w->program;
    if (w->col_blocks == 1 || w->direct || w->strip_rows != 1)
        return false;
    if (program->n_instructions != 1 || program->filled_literals || dlc_map_instruction_cost(program) > SHORT_COST)
        return false;
    for (int i = 0; i < dlc_map_operand_count(program); i++)
        if (!w->operands[i].in_place)
            return false;
    return true;
}

int64_t dlc_map_walk_begin(dlc_map_walk *w, char *own)
{
    const dlc_map_program *program = w->program;
    choose_blocks(w);
    w->row_numbers = find_row_numbers(w);
    memset(w->index, 0, sizeof w->index);
    w->row_block = w->col_block = 0;
    w->position = 0;
    w->blocks_per_call = 1;
    w->blocks = block_count(w);
    if (w->direct || w->blocks == 0) /* for an empty space there is no scratch to fill */
        return w->blocks;

    const int64_t bytes = dlc_align_up(w->block_rows * w->block_cols * w->size);
    int r = 0;
    for (; r < dlc_map_operand_count(program); r++) {
        dlc_map_operand *o = &w->operands[r];
        o->streams = is_streamed(w, r);
        w->streams = w->streams || o->streams;
        o->in_place = !o->streams && is_in_place(w, r);
        if (!o->in_place) {
            w->registers[r] = o->buffer = own;
            own += dlc_map_is_strip(w, o) ? dlc_align_up(w->strip_rows * w->block_cols * w->size) : bytes;
        }
    }
    for (int i = 0; i < program->n_literals + program->n_temps; i++, r++, own += bytes)
        w->registers[r] = own;
    fill_registers(w);
    w->blocks_per_call = takes_blocks_at_once(w) ? BLOCKS_AT_ONCE : 1;
    return w->blocks;
}

void dlc_map_walk_restart(dlc_map_walk *w, int64_t rows)
{
    for (int axis = 0; axis < w->ndim - 2; axis++)
        if (w->index[axis] != 0)
            dlc_map_move(w, axis, -w->index[axis]);
    w->row_block = w->col_block = 0;
    w->rows = (double)rows;
    if (w->blocks > 0)
        fill_registers(w);
}

bool dlc_map_walk_point_at(dlc_map_walk *w, const dlc_array *arrays)
{
    if (w->exceeds_cache)
        return false;
    for (int i = 0; i < dlc_map_operand_count(w->program); i++)
        w->operands[i].data = arrays[i].data;
    memset(w->index, 0, sizeof w->index);
    w->position = 0;
    return true;
}

/* Whether the walk may take an array for transposed, if it takes axes by the strides of `leading`, or as they come where that is
 * NULL. An axis that `leading` does not have has an extent of 1 where it leads. */
static bool may_be_transposed(const dlc_array *array, const dlc_array *leading, int32_t ndim)
{
    for (int row = 0; row < ndim; row++)
        for (int col = 0; col < ndim; col++) {
            const int64_t row_stride = llabs(dlc_map_stride(array, row)), col_stride = llabs(dlc_map_stride(array, col));
            if (row_stride == 0 || row_stride >= col_stride)
                continue;
            if (leading ? leading->shape[row] != 1 && leading->shape[col] != 1 &&
                              llabs(leading->stride[row]) >= llabs(leading->stride[col])
                        : row < col)
                return true;
        }
    return false;
}

/* The same whichever array leads for the capacity of rows or fewer, for which others may span the space. */
static bool may_go_by_strips(const dlc_map_program *program, const dlc_array *arrays, const dlc_array *array, int32_t ndim)
{
    if (program->reduction == DLC_REDUCE_NONE)
        return may_be_transposed(array, &arrays[0], ndim);
    for (int i = program->n_reduced; i < dlc_map_operand_count(program); i++)
        if (may_be_transposed(array, &arrays[i], ndim))
            return true;
    return may_be_transposed(array, NULL, ndim);
}

int64_t dlc_map_strip_bytes(const dlc_map_program *program, const dlc_array *arrays, int64_t elements, int32_t ndim)
{
    const int64_t strip = line_elements(program) * strip_row_elements(program);
    const int64_t bytes = dlc_align_up(dlc_min64(elements, strip) * dlc_dtype_size(program->dtype));
    int64_t count = 0;
    for (int i = 0; i < dlc_map_operand_count(program); i++) /* where axes that are reduced have an extent of 1, nothing is */
        count += may_go_by_strips(program, arrays, &arrays[i], ndim);
    return count * bytes;
}
