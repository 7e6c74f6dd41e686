#include "map/walk.h"

#include <math.h>

/* A reduction is cut into at most REDUCE_ITEMS items of work, mostly of REDUCE_GRAIN elements or more, by its shape
 * alone: enough for the threads of a big machine, and a partial result costs little beside its item. */
#define REDUCE_ITEMS 64
#define REDUCE_GRAIN 8192
/* The same where elements are stored, too, as gradients are, which a team would share by 1024 of them. */
#define STORING_GRAIN 2048

/* Up to as many elements, which are few items, lines are added up without a walk: to prepare one takes as long as to add up
 * 32 lines of 32 numbers. */
#define LINES_ELEMENTS REDUCE_GRAIN

/* A part of columns has at least this many rows, beside which its partial results cost little to combine. */
#define PART_ROWS 32

/* Reductions. The kept axes are cut into tiles, whose accumulators fit in L1, and, where tiles alone are too few to
 * share out, the longest reduced axis into parts; an item of work is a part of a tile. */
typedef struct reduction {
    int64_t chunk[DLC_MAX_NDIM]; /* extent of a tile or part on each axis */
    int64_t tiles, parts, tile_elements;
    int part_axis;
    int64_t count; /* elements reduced to one, those of other blocks of rows included */
    bool accumulate;
} reduction;

typedef struct box {
    int64_t begin[DLC_MAX_NDIM], extent[DLC_MAX_NDIM];
    int64_t kept_stride[DLC_MAX_NDIM];
    int64_t elements; /* accumulators: the product of its kept extents */
} box;

static int64_t item_limit(const dlc_map_program *program, int64_t elements)
{
    const int64_t grain = program->n_reduced < program->n_out ? STORING_GRAIN : REDUCE_GRAIN;
    return dlc_clamp64(elements / grain, 1, REDUCE_ITEMS);
}

/* Cuts an axis into equal chunks of at most `limit`, whole cache lines where that is possible. */
static int64_t even_chunk(int64_t extent, int64_t limit)
{
    int64_t chunk = dlc_ceil_div(extent, dlc_ceil_div(extent, limit));
    return dlc_min64((chunk + 15) & ~(int64_t)15, dlc_min64(extent, limit));
}

/* Elements reduced to one in all blocks of rows, for those in this one */
static int64_t count_in_all(int64_t count, dlc_map_rows rows)
{
    return rows.here == rows.all ? count : count / rows.here * rows.all;
}

static reduction plan_reduction(const dlc_map_walk *w, dlc_map_rows rows)
{
    reduction plan = {.tiles = 1, .parts = 1, .tile_elements = 1, .part_axis = -1, .count = 1};
    int64_t kept = 1;
    for (int axis = 0; axis < w->ndim; axis++) {
        plan.chunk[axis] = w->extent[axis];
        if (!w->reduced[axis]) {
            kept *= w->extent[axis];
            continue;
        }
        plan.count *= w->extent[axis];
        if (plan.part_axis < 0 || w->extent[axis] > w->extent[plan.part_axis])
            plan.part_axis = axis;
    }
    bool in_columns = !w->reduced[w->ndim - 1];
    int64_t limit = dlc_map_block_elements(w->program);
    int64_t room = limit;
    if (!in_columns)
        room = dlc_clamp64(REDUCE_GRAIN / dlc_max64(plan.count, 1), 1, limit);
    for (int axis = w->ndim - 1; axis >= 0; axis--) {
        if (w->reduced[axis] || w->extent[axis] == 0)
            continue;
        plan.chunk[axis] = even_chunk(w->extent[axis], room);
        room = plan.chunk[axis] == w->extent[axis] ? room / plan.chunk[axis] : 1;
        plan.tiles *= dlc_ceil_div(w->extent[axis], plan.chunk[axis]);
        plan.tile_elements *= plan.chunk[axis];
    }
    if (kept == 0)
        plan.tiles = 0;
    int64_t items = item_limit(w->program, kept * plan.count);
    if (plan.part_axis >= 0 && plan.tiles > 0 && items / plan.tiles > 1) {
        int64_t extent = w->extent[plan.part_axis];
        int64_t most = in_columns ? dlc_max64(extent / PART_ROWS, 1) : extent;
        plan.chunk[plan.part_axis] = dlc_ceil_div(extent, dlc_min64(items / plan.tiles, most));
        plan.parts = dlc_ceil_div(extent, plan.chunk[plan.part_axis]);
    }
    plan.count = count_in_all(plan.count, rows);
    plan.accumulate = rows.accumulate;
    return plan;
}

static box item_box(const dlc_map_walk *w, const reduction *plan, int64_t tile, int64_t part)
{
    box b;
    b.elements = 1;
    for (int axis = w->ndim - 1; axis >= 0; axis--) {
        int64_t chunk = plan->chunk[axis];
        int64_t chunks = chunk ? dlc_ceil_div(w->extent[axis], chunk) : 1;
        int64_t which = axis == plan->part_axis ? part : 0;
        if (!w->reduced[axis]) {
            which = tile % chunks;
            tile /= chunks;
        }
        b.begin[axis] = which * chunk;
        b.extent[axis] = dlc_min64(chunk, w->extent[axis] - b.begin[axis]);
        b.kept_stride[axis] = w->reduced[axis] ? 0 : b.elements;
        if (!w->reduced[axis])
            b.elements *= b.extent[axis];
    }
    return b;
}

/* The larger of two numbers or the smaller, NaN where one is */
static double larger(double a, double b) { return a >= b || isnan(a) ? a : b; }
static double smaller(double a, double b) { return a <= b || isnan(a) ? a : b; }

static double identity(int reduction)
{
    return reduction == DLC_REDUCE_MAX ? -INFINITY : reduction == DLC_REDUCE_MIN ? INFINITY : 0;
}

/* results (rows; stride step) take up rows of x (rows, cols; leading dimension ld) */
static void reduce_rows(const dlc_map_walk *w, double *results, int64_t step, const char *x, int64_t ld, int64_t rows,
                        int64_t cols)
{
    const int reduction = w->program->reduction;
    if (reduction != DLC_REDUCE_MAX && reduction != DLC_REDUCE_MIN) {
        w->kernels->sum_each(results, step, x, ld, rows, cols);
        return;
    }
    for (int64_t r = 0; r < rows; r++) {
        const char *row = x + r * ld * w->size;
        double *result = &results[r * step];
        *result = reduction == DLC_REDUCE_MAX ? larger(*result, w->kernels->max(row, cols))
                                              : smaller(*result, w->kernels->min(row, cols));
    }
}

static void reduce_columns(const dlc_map_walk *w, char *accumulator, const char *x, int64_t ld, int64_t rows,
                           int64_t cols)
{
    switch (w->program->reduction) {
    case DLC_REDUCE_MAX:
        w->kernels->max_rows(accumulator, x, ld, rows, cols);
        return;
    case DLC_REDUCE_MIN:
        w->kernels->min_rows(accumulator, x, ld, rows, cols);
        return;
    default:
        w->kernels->sum_rows(accumulator, x, ld, rows, cols);
    }
}

/* Adds a block of output `out`, x (rows, cols; leading dimension ld), to the accumulators from `position` on. */
static void accumulate_output(dlc_map_walk *w, int out, const char *x, int64_t ld, int64_t position, int64_t rows,
                              int64_t cols)
{
    int row = w->ndim - 2, col = w->ndim - 1;
    int64_t step = w->kept_stride[row];
    bool whole = ld == cols && !w->direct; /* the block is one run of elements */
    if (whole && (w->reduced[row] ? w->reduced[col] : !w->reduced[col] && step == cols)) {
        cols *= rows;
        rows = 1;
    }
    if (!w->reduced[col]) {
        char *accumulator = w->columns + (out * w->capacity + position) * w->size;
        if (w->reduced[row])
            reduce_columns(w, accumulator, x, ld, rows, cols);
        else
            for (int64_t r = 0; r < rows; r++)
                reduce_columns(w, accumulator + r * step * w->size, x + r * ld * w->size, ld, 1, cols);
        return;
    }
    reduce_rows(w, w->sums + out * w->capacity + position, step, x, ld, rows, cols);
}

void dlc_map_accumulate(dlc_map_walk *w, int64_t row, int64_t rows, int64_t col, int64_t cols)
{
    int row_axis = w->ndim - 2, col_axis = w->ndim - 1;
    int64_t position = w->position + row * w->kept_stride[row_axis] + col * w->kept_stride[col_axis];
    for (int i = 0; i < w->program->n_reduced; i++) {
        const char *x = w->registers[i];
        int64_t ld = cols;
        if (w->direct) {
            const dlc_map_operand *source = &w->operands[w->program->instructions[i].a];
            ld = source->stride[row_axis];
            x = source->data + (row * ld + col) * w->size;
        }
        accumulate_output(w, w->direct ? w->program->instructions[i].dst : i, x, ld, position, rows, cols);
    }
}

/* Whether every output is a plain copy of an input whose rows can be read where they are. */
static bool is_direct(const dlc_map_walk *w)
{
    const dlc_map_program *program = w->program;
    if (program->n_instructions != program->n_out || program->n_reduced != program->n_out)
        return false;
    for (int i = 0; i < program->n_instructions; i++) {
        const dlc_map_instruction *instruction = &program->instructions[i];
        if (instruction->op != DLC_MAP_COPY || instruction->a < program->n_out ||
            instruction->a >= dlc_map_operand_count(program))
            return false;
        const dlc_map_operand *source = &w->operands[instruction->a];
        if (source->dtype != program->dtype || source->stride[w->ndim - 1] != 1)
            return false;
    }
    return true;
}

/* Where the accumulators (n_reduced, plan->tile_elements) of an item lie, and registers */
typedef struct item_memory {
    double *sums;
    char *columns, *registers;
} item_memory;

static item_memory divide_own(const dlc_map_walk *w, const reduction *plan, char *own)
{
    const int64_t elements = w->program->n_reduced * plan->tile_elements;
    char *columns = own + dlc_align_up(elements * (int64_t)sizeof(double));
    return (item_memory){(double *)own, columns, columns + dlc_align_up(elements * w->size)};
}

/* The walk over the whole space becomes one over an item. */
static void begin_item(dlc_map_walk *w, const reduction *plan, const box *item, item_memory memory)
{
    w->capacity = plan->tile_elements;
    w->sums = memory.sums;
    w->columns = memory.columns;
    for (int axis = 0; axis < w->ndim; axis++) {
        w->extent[axis] = item->extent[axis];
        w->kept_stride[axis] = item->kept_stride[axis];
        for (int i = 0; i < dlc_map_operand_count(w->program); i++)
            w->operands[i].data += item->begin[axis] * w->operands[i].stride[axis] * w->operands[i].size;
    }
    dlc_map_walk_begin(w, memory.registers);
}

/* The sums of an item whose walk stands at block 0 */
static void run_item(dlc_map_walk *w)
{
    const double start = identity(w->program->reduction);
    const int64_t elements = w->program->n_reduced * w->capacity;
    const bool in_columns = !w->reduced[w->ndim - 1];
    if (in_columns)
        w->kernels->fill(w->columns, start, elements);
    else
        for (int64_t i = 0; i < elements; i++)
            w->sums[i] = start;
    dlc_map_walk_run(w, 0, w->blocks);
    if (in_columns)
        for (int64_t i = 0; i < elements; i++)
            w->sums[i] = w->size == 4 ? ((const float *)w->columns)[i] : ((const double *)w->columns)[i];
}

static void reduce_item(const dlc_map_walk *space, const reduction *plan, const box *item, item_memory memory)
{
    dlc_map_walk w;
    memcpy(&w, space, (size_t)dlc_map_walk_bytes(space->program));
    begin_item(&w, plan, item, memory);
    run_item(&w);
}

/* The kept axes of a tile, the fastest first. */
typedef struct kept_axes {
    int n;
    int64_t extent[DLC_MAX_NDIM], stride[DLC_MAX_NDIM]; /* of an output */
} kept_axes;

static kept_axes find_kept_axes(const dlc_map_walk *w, const box *tile, const dlc_map_operand *o)
{
    kept_axes kept = {.n = 0};
    for (int axis = w->ndim - 1; axis >= 0; axis--) {
        if (w->reduced[axis] || w->extent[axis] == 1)
            continue;
        kept.extent[kept.n] = tile->extent[axis];
        kept.stride[kept.n++] = o->stride[axis];
    }
    if (kept.n == 0)
        kept = (kept_axes){.n = 1, .extent = {1}, .stride = {0}};
    return kept;
}

void dlc_map_store_sums(void *out, int64_t stride, int64_t size, const double *sums, int64_t n, double divisor, bool accumulate)
{
    for (int64_t i = 0; i < n; i++) {
        const double sum = divisor == 1 ? sums[i] : sums[i] / divisor;
        if (size == 4)
            ((float *)out)[i * stride] = (float)sum + (accumulate ? ((float *)out)[i * stride] : 0);
        else
            ((double *)out)[i * stride] = sum + (accumulate ? ((double *)out)[i * stride] : 0);
    }
}

/* Writes accumulators [begin, end) of a tile to the outputs, run by run along the fastest kept axis. */
static void store_sums(const dlc_map_walk *w, const reduction *plan, const box *tile, const double *sums, int64_t begin,
                       int64_t end)
{
    const double divisor = w->program->reduction == DLC_REDUCE_MEAN ? (double)plan->count : 1;
    for (int out = 0; out < w->program->n_reduced; out++) {
        const dlc_map_operand *o = &w->operands[out];
        const kept_axes kept = find_kept_axes(w, tile, o);
        int64_t first = 0; /* of the tile, in the output */
        for (int axis = 0; axis < w->ndim; axis++)
            first += tile->begin[axis] * o->stride[axis];
        int64_t i = begin;
        while (i < end) {
            const int64_t n = dlc_min64(end - i, kept.extent[0] - i % kept.extent[0]);
            int64_t offset = first, rest = i;
            for (int axis = 0; axis < kept.n; axis++) {
                offset += rest % kept.extent[axis] * kept.stride[axis];
                rest /= kept.extent[axis];
            }
            dlc_map_store_sums(o->data + offset * w->size, kept.stride[0], w->size, sums + out * plan->tile_elements + i, n,
                      divisor, plan->accumulate);
            i += n;
        }
    }
}

/* sums (n) take up those of another part. With a choice for each element, sums and maxima of the columns of 1024 x 1024 numbers
 * took 1.2 and 1.4 times as long (Zen 5, two builds in turns). */
static void combine_all(int reduction, double *sums, const double *part, int64_t n)
{
    if (reduction == DLC_REDUCE_MAX)
        for (int64_t i = 0; i < n; i++)
            sums[i] = larger(sums[i], part[i]);
    else if (reduction == DLC_REDUCE_MIN)
        for (int64_t i = 0; i < n; i++)
            sums[i] = smaller(sums[i], part[i]);
    else
        for (int64_t i = 0; i < n; i++)
            sums[i] += part[i];
}

/* Accumulators [begin, end) of part 0 take up those of the other parts, in order. */
static void combine_parts(const dlc_map_walk *w, const reduction *plan, double *sums, int64_t begin, int64_t end)
{
    int64_t elements = w->program->n_reduced * plan->tile_elements;
    for (int64_t part = 1; part < plan->parts; part++)
        for (int out = 0; out < w->program->n_reduced; out++) {
            double *first = sums + out * plan->tile_elements + begin;
            combine_all(w->program->reduction, first, first + part * elements, end - begin);
        }
}

void dlc_map_reduce(dlc_map_walk *w, dlc_map_rows rows, double *shared, char *own, dlc_barrier *barrier, int thread,
                    int n_threads)
{
    w->direct = is_direct(w);
    reduction plan = plan_reduction(w, rows);
    const int64_t elements = w->program->n_reduced * plan.tile_elements;
    item_memory memory = divide_own(w, &plan, own);

    int64_t begin, end;
    dlc_split(&begin, &end, plan.tiles * plan.parts, 1, thread, n_threads);
    for (int64_t i = begin; i < end; i++) {
        box item = item_box(w, &plan, i / plan.parts, i % plan.parts);
        if (plan.parts > 1)
            memory.sums = shared + i * elements;
        reduce_item(w, &plan, &item, memory);
        if (plan.parts == 1)
            store_sums(w, &plan, &item, memory.sums, 0, item.elements);
    }
    if (plan.parts == 1)
        return;
    dlc_barrier_wait(barrier, n_threads);
    for (int64_t tile = 0; tile < plan.tiles; tile++) {
        box item = item_box(w, &plan, tile, 0);
        double *sums = shared + tile * plan.parts * elements;
        dlc_split(&begin, &end, item.elements, 8, thread, n_threads);
        combine_parts(w, &plan, sums, begin, end);
        store_sums(w, &plan, &item, sums, begin, end);
    }
}

void dlc_map_reduce_scratch(int64_t *shared, int64_t *per_thread, const dlc_map_program *program, int64_t elements,
                            int64_t kept)
{
    /* A tile has at most a block's elements, and partial results exist of at most item_limit items. */
    int64_t accumulators = program->n_reduced * dlc_clamp64(kept, 1, dlc_map_block_elements(program));
    int64_t items = item_limit(program, elements);
    *shared = items > 1 ? items * accumulators * (int64_t)sizeof(double) : 0;
    *per_thread = dlc_align_up(accumulators * (int64_t)sizeof(double)) +
                  dlc_align_up(accumulators * dlc_dtype_size(program->dtype));
}

/* The axes of sums that need no walk: an array's lines are added up where they lie. reduced < 0: there is none. */
typedef struct line_axes {
    int reduced, kept; /* kept < 0: a single line */
} line_axes;

static line_axes find_lines(const dlc_map_program *program, const dlc_array *arrays, const int64_t *shape, int32_t ndim)
{
    const dlc_map_instruction *first = &program->instructions[0];
    const bool is_sum = program->reduction == DLC_REDUCE_SUM || program->reduction == DLC_REDUCE_MEAN;
    const bool is_copy = program->n_instructions == 1 && program->n_out == 1 && program->n_in == 1 &&
                         first->op == DLC_MAP_COPY && first->a == 1 && arrays[1].dtype == program->dtype;
    line_axes axes = {-1, -1};
    if (!is_sum || !is_copy || ndim > 2)
        return axes;
    for (int axis = 0; axis < ndim; axis++)
        if (arrays[0].shape[axis] != shape[axis] && arrays[1].shape[axis] == shape[axis] && arrays[1].stride[axis] == 1)
            axes = (line_axes){axis, ndim == 2 ? 1 - axis : -1};
    if (axes.kept >= 0 && (arrays[0].shape[axes.kept] != shape[axes.kept] || arrays[1].shape[axes.kept] != shape[axes.kept]))
        axes.reduced = -1;
    return axes;
}

/* Sums of such lines, of which there are few */
typedef struct line_sums {
    const dlc_real_kernels *kernels;
    const char *in;
    char *out;
    int64_t lines, length;
    int64_t ld, step; /* from a line to the next, and from its sum */
    int64_t size;     /* of an element */
    bool is_mean;
} line_sums;

static bool find_line_sums(line_sums *sums, const dlc_map_program *program, const dlc_real_kernels *kernels,
                           const dlc_array *arrays, const int64_t *shape, int32_t ndim)
{
    const line_axes axes = find_lines(program, arrays, shape, ndim);
    if (axes.reduced < 0)
        return false;
    const bool is_single = axes.kept < 0;
    *sums = (line_sums){.kernels = kernels,
                        .in = arrays[1].data,
                        .out = arrays[0].data,
                        .lines = is_single ? 1 : shape[axes.kept],
                        .length = shape[axes.reduced],
                        .ld = is_single ? 0 : arrays[1].stride[axes.kept],
                        .step = is_single ? 0 : arrays[0].stride[axes.kept],
                        .size = dlc_dtype_size(program->dtype),
                        .is_mean = program->reduction == DLC_REDUCE_MEAN};
    return sums->length > 0 && sums->lines <= LINES_ELEMENTS / sums->length;
}

static void add_up_lines(const line_sums *of, dlc_map_rows rows, int thread, int n_threads)
{
    enum { AT_A_TIME = 64 };
    const double divisor = of->is_mean ? (double)count_in_all(of->length, rows) : 1;
    int64_t begin, end;
    dlc_split(&begin, &end, of->lines, 1, thread, n_threads);
    for (int64_t line = begin; line < end; line += AT_A_TIME) {
        const int64_t n = dlc_min64(end - line, AT_A_TIME);
        double sums[AT_A_TIME];
        for (int64_t i = 0; i < n; i++)
            sums[i] = 0;
        of->kernels->sum_each(sums, 1, of->in + line * of->ld * of->size, of->ld, n, of->length);
        dlc_map_store_sums(of->out + line * of->step * of->size, of->step, of->size, sums, n, divisor, rows.accumulate);
    }
}

bool dlc_map_sum_lines(const dlc_map_program *program, const dlc_real_kernels *kernels, const dlc_array *arrays,
                       const int64_t *shape, int32_t ndim, dlc_map_rows rows, int thread, int n_threads)
{
    line_sums sums;
    if (!find_line_sums(&sums, program, kernels, arrays, shape, ndim))
        return false;
    add_up_lines(&sums, rows, thread, n_threads);
    return true;
}

/* ---- Reductions that are prepared once ---- */

/* One of few lines, or that is a single item of work */
typedef struct bound_reduction {
    enum { NOT_BOUND, BOUND_LINES, BOUND_ITEM } kind;
    line_sums lines;
    reduction plan;
    box item;
    int64_t count; /* elements reduced to one in these rows */
    _Alignas(DLC_ALIGNMENT) char walk[]; /* a dlc_map_walk that has begun */
} bound_reduction;

int64_t dlc_map_bound_reduction_bytes(const dlc_map_program *program)
{
    return (int64_t)sizeof(bound_reduction) + dlc_map_walk_bytes(program);
}

void dlc_map_bind_reduction(void *memory, const dlc_map_program *program, const dlc_real_kernels *kernels,
                            const dlc_array *arrays, const int64_t *shape, int32_t ndim, void *own)
{
    bound_reduction *bound = memory;
    dlc_map_walk *walk = (dlc_map_walk *)bound->walk;
    bound->kind = find_line_sums(&bound->lines, program, kernels, arrays, shape, ndim) ? BOUND_LINES : NOT_BOUND;
    if (bound->kind == BOUND_LINES)
        return;
    dlc_map_walk_init(walk, program, kernels, arrays, shape, ndim, 1);
    bool reduces = false;
    for (int axis = 0; axis < walk->ndim; axis++)
        reduces = reduces || walk->reduced[axis];
    if (!reduces || is_direct(walk))
        return;
    bound->plan = plan_reduction(walk, (dlc_map_rows){1, 1, false});
    if (bound->plan.tiles * bound->plan.parts != 1)
        return;
    bound->count = bound->plan.count;
    bound->item = item_box(walk, &bound->plan, 0, 0);
    begin_item(walk, &bound->plan, &bound->item, divide_own(walk, &bound->plan, own));
    bound->kind = BOUND_ITEM;
}

bool dlc_map_point_reduction_at(void *memory, const dlc_array *arrays)
{
    bound_reduction *bound = memory;
    if (bound->kind == BOUND_LINES) {
        bound->lines.out = arrays[0].data;
        bound->lines.in = arrays[1].data;
    }
    return bound->kind != BOUND_ITEM || dlc_map_walk_point_at((dlc_map_walk *)bound->walk, arrays);
}

bool dlc_map_run_bound_reduction(void *memory, dlc_map_rows rows, int thread, int n_threads)
{
    bound_reduction *bound = memory;
    dlc_map_walk *walk = (dlc_map_walk *)bound->walk;
    if (bound->kind == NOT_BOUND)
        return false;
    if (bound->kind == BOUND_LINES) {
        add_up_lines(&bound->lines, rows, thread, n_threads);
        return true;
    }
    if (thread > 0) /* a single item is the first one's */
        return true;
    bound->plan.count = count_in_all(bound->count, rows);
    bound->plan.accumulate = rows.accumulate;
    dlc_map_walk_restart(walk, rows.all);
    run_item(walk);
    store_sums(walk, &bound->plan, &bound->item, walk->sums, 0, bound->item.elements);
    return true;
}
