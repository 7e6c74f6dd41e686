#include "cpu/transposed.h"
#include "map/walk.h"

static double number_at(const char *p, int64_t size)
{
    return size == 4 ? (double)*(const float *)p : *(const double *)p;
}

/* out[i * stride] = in[i] */
static void scatter(char *out, int64_t stride, const char *in, int64_t size, int64_t n)
{
    if (size == 4)
        for (int64_t i = 0; i < n; i++)
            memcpy(out + i * stride * 4, in + i * 4, 4);
    else
        for (int64_t i = 0; i < n; i++)
            memcpy(out + i * stride * 8, in + i * 8, 8);
}

static void seek(dlc_map_walk *w, int64_t block)
{
    w->col_block = block % w->col_blocks;
    block /= w->col_blocks;
    w->row_block = block % w->row_blocks;
    block /= w->row_blocks;
    for (int axis = w->ndim - 3; axis >= 0; axis--) {
        dlc_map_move(w, axis, block % w->extent[axis]);
        block /= w->extent[axis];
    }
}

static void advance(dlc_map_walk *w, int64_t blocks)
{
    w->col_block += blocks;
    if (w->col_block < w->col_blocks)
        return;
    w->col_block = 0;
    if (++w->row_block < w->row_blocks)
        return;
    w->row_block = 0;
    for (int axis = w->ndim - 3; axis >= 0; axis--) {
        if (w->index[axis] + 1 < w->extent[axis]) {
            dlc_map_move(w, axis, 1);
            return;
        }
        dlc_map_move(w, axis, -w->index[axis]);
    }
}

/* o->buffer (rows, cols) = the operand's elements from `data` on. What the buffer holds already is kept: scalars and
 * rows that all blocks share are loaded once. */
static void load(const dlc_map_walk *w, dlc_map_operand *o, const char *data, int64_t rows, int64_t cols)
{
    dlc_convert_kernel *convert = w->kernels->convert[o->dtype];
    int64_t row_stride = o->stride[w->ndim - 2], col_stride = o->stride[w->ndim - 1], size = w->size;
    char *buffer = o->buffer;

    if (o->filled == data && o->filled_count >= rows * cols)
        return;
    o->filled = data;
    o->filled_count = rows * cols;
    if (rows == 1)
        row_stride = 0;
    if (row_stride == 0 && col_stride == 0) {
        convert(buffer, data, 1, 1);
        w->kernels->fill(buffer, number_at(buffer, size), rows * cols);
    } else if (row_stride == 0) {
        convert(buffer, data, col_stride, cols);
        for (int64_t r = 1; r < rows; r++)
            memcpy(buffer + r * cols * size, buffer, (size_t)(cols * size));
    } else if (col_stride == 0) {
        if (o->dtype == w->program->dtype) {
            w->kernels->fill_rows(buffer, data, row_stride, rows, cols);
            return;
        }
        char *values = buffer + rows * (cols - 1) * size;
        convert(values, data, row_stride, rows);
        w->kernels->fill_rows(buffer, values, 1, rows, cols);
    } else if (row_stride == cols * col_stride) {
        convert(buffer, data, col_stride, rows * cols);
    } else if (row_stride == 1 && o->dtype == w->program->dtype) {
        dlc_copy_transposed(w->kernels, size, buffer, cols, data, col_stride, rows, cols);
    } else if (col_stride == 1 && o->dtype == w->program->dtype) {
        w->kernels->copy_rows(buffer, cols, data, row_stride, rows, cols);
    } else {
        for (int64_t r = 0; r < rows; r++)
            convert(buffer + r * cols * size, data + r * row_stride * o->size, col_stride, cols);
    }
}

static void store(const dlc_map_walk *w, const dlc_map_operand *o, char *data, int64_t rows, int64_t cols)
{
    if (o->streams) {
        w->kernels->stream(data, o->buffer, rows * cols);
        return;
    }
    if (o->stride[w->ndim - 1] == 1) {
        w->kernels->copy_rows(data, o->stride[w->ndim - 2], o->buffer, cols, rows, cols);
        return;
    }
    for (int64_t r = 0; r < rows; r++)
        scatter(data + r * o->stride[w->ndim - 2] * w->size, o->stride[w->ndim - 1],
                o->buffer + r * cols * w->size, w->size, cols);
}

/* The first instruction, where it adds a number to each row; of one row the stride may be anything. */
static void add_row_numbers(const dlc_map_walk *w, const char *numbers, int64_t rows, int64_t cols)
{
    const dlc_map_instruction *first = &w->program->instructions[0];
    const int other = first->a == w->row_numbers ? first->b : first->a;
    w->kernels->add_to_rows(w->registers[first->dst], w->registers[other], numbers,
                            w->operands[w->row_numbers].stride[w->ndim - 2], rows, cols);
}

static void run_instructions(const dlc_map_walk *w, int begin, int64_t n)
{
    const dlc_map_program *program = w->program;
    for (int i = begin; i < program->n_instructions; i++) {
        const dlc_map_instruction *instruction = &program->instructions[i];
        w->kernels->map[instruction->op](w->registers[instruction->dst], w->registers[instruction->a],
                                         w->registers[instruction->b], w->registers[instruction->c], n,
                                         instruction->numbers);
    }
}

static char *place_of(const dlc_map_walk *w, const dlc_map_operand *o, int64_t row, int64_t col)
{
    return o->data + (row * o->stride[w->ndim - 2] + col * o->stride[w->ndim - 1]) * o->size;
}

/* The block is all of a strip, or row `row_of_strip` of one, where what is transposed has been loaded and is stored later. */
static void run_block(dlc_map_walk *w, int64_t row, int64_t rows, int64_t col, int64_t cols, int64_t row_of_strip)
{
    const dlc_map_program *program = w->program;
    char *place[DLC_MAP_MAX_OPERANDS];
    for (int i = 0; i < dlc_map_operand_count(program); i++) {
        dlc_map_operand *o = &w->operands[i];
        place[i] = place_of(w, o, row, col);
        if (o->in_place)
            w->registers[i] = place[i];
        else if (dlc_map_is_strip(w, o))
            w->registers[i] = o->buffer + row_of_strip * cols * w->size;
        else if ((i >= program->n_out && i != w->row_numbers) || (i == 0 && w->first_defined))
            load(w, o, place[i], rows, cols);
    }
    if (w->row_numbers >= 0)
        add_row_numbers(w, place[w->row_numbers], rows, cols);
    run_instructions(w, w->row_numbers >= 0, rows * cols);
    if (w->sums)
        dlc_map_accumulate(w, row, rows, col, cols);
    for (int i = dlc_map_count_accumulated(w); i < program->n_out; i++)
        if (!w->operands[i].in_place && !dlc_map_is_strip(w, &w->operands[i]))
            store(w, &w->operands[i], place[i], rows, cols);
}

/* Output 0 of what has no reduction leads the walk, so that no register that is defined from the start is transposed. */
static void run_strip(dlc_map_walk *w, int64_t row, int64_t rows, int64_t col, int64_t cols)
{
    const int n_out = w->program->n_out;
    for (int i = n_out; i < dlc_map_operand_count(w->program); i++)
        if (w->operands[i].transposed)
            load(w, &w->operands[i], place_of(w, &w->operands[i], row, col), rows, cols);
    for (int64_t r = 0; r < rows; r++)
        run_block(w, row + r, 1, col, cols, r);
    for (int i = dlc_map_count_accumulated(w); i < n_out; i++)
        if (w->operands[i].transposed)
            store(w, &w->operands[i], place_of(w, &w->operands[i], row, col), rows, cols);
}

/* Fetches what the next block reads: further on in these rows, or the rows that follow. Addresses may lie beyond the arrays: they
 * are hints. */
static void fetch_next_block(const dlc_map_walk *w, int64_t row, int64_t rows, int64_t col, int64_t cols)
{
    const bool is_end = col + cols == w->extent[w->ndim - 1];
    const int64_t next_row = is_end ? row + rows : row, next_col = is_end ? 0 : col + cols;
    for (int i = w->program->n_out; i < dlc_map_operand_count(w->program); i++) {
        const dlc_map_operand *o = &w->operands[i];
        if (!dlc_map_has_whole_blocks(w, o))
            continue;
        const int64_t offset = (next_row * o->stride[w->ndim - 2] + next_col * o->stride[w->ndim - 1]) * o->size;
        const uintptr_t next = (uintptr_t)o->data + (uintptr_t)offset, bytes = (uintptr_t)(rows * cols * o->size);
        for (uintptr_t line = next; line < next + bytes; line += DLC_ALIGNMENT)
            __builtin_prefetch((const void *)line);
    }
}

static int64_t first_column_of(const dlc_map_walk *w, int64_t col_block)
{
    return dlc_max64(col_block * w->block_cols - w->missing_cols, 0);
}

void dlc_map_walk_run(dlc_map_walk *w, int64_t begin, int64_t end)
{
    if (begin >= end)
        return;
    if (begin > 0)
        seek(w, begin);
    const bool in_strips = w->strip_rows > w->block_rows;
    const bool fetches = w->fetches && w->blocks_per_call == 1 && !in_strips;
    for (int64_t block = begin, blocks = 1; block < end; block += blocks, advance(w, blocks)) {
        if (w->blocks_per_call > 1)
            blocks = dlc_min64(dlc_min64(w->blocks_per_call, end - block), w->col_blocks - w->col_block);
        int64_t row = w->row_block * w->strip_rows, col = first_column_of(w, w->col_block);
        int64_t rows = dlc_min64(w->strip_rows, w->extent[w->ndim - 2] - row);
        int64_t cols = dlc_min64(first_column_of(w, w->col_block + blocks), w->extent[w->ndim - 1]) - col;
        if (w->direct) {
            dlc_map_accumulate(w, row, rows, col, cols);
            continue;
        }
        if (fetches)
            fetch_next_block(w, row, rows, col, cols);
        if (in_strips)
            run_strip(w, row, rows, col, cols);
        else
            run_block(w, row, rows, col, cols, 0);
    }
    if (w->streams)
        w->kernels->stream_end();
}

