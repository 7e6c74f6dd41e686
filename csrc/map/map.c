#include "map/walk.h"

void dlc_map_scratch(int64_t *shared, int64_t *per_thread, const dlc_map_program *program,
                     const dlc_array *arrays, const int64_t *shape, int32_t ndim)
{
    int64_t elements = 1, kept = 1;
    for (int axis = 0; axis < ndim; axis++) {
        elements *= shape[axis];
        kept *= arrays[0].shape[axis];
    }
    int registers = dlc_map_operand_count(program) + program->n_literals + program->n_temps;
    int64_t block = dlc_clamp64(elements, 1, dlc_map_block_elements(program));
    *shared = 0;
    *per_thread = 0;
    if (program->reduction != DLC_REDUCE_NONE)
        dlc_map_reduce_scratch(shared, per_thread, program, elements, kept);
    *per_thread += registers * dlc_align_up(block * dlc_dtype_size(program->dtype));
    *per_thread += dlc_map_strip_bytes(program, arrays, elements, ndim);
}

void dlc_map_run(const dlc_map_program *program, const dlc_real_kernels *kernels, const dlc_array *arrays,
                 const int64_t *shape, int32_t ndim, dlc_map_rows rows, void *shared, void *own,
                 dlc_barrier *barrier, int thread, int n_threads)
{
    if (dlc_map_sum_lines(program, kernels, arrays, shape, ndim, rows, thread, n_threads))
        return;
    dlc_map_walk w;
    dlc_map_walk_init(&w, program, kernels, arrays, shape, ndim, rows.all);
    bool reduces = rows.accumulate || rows.here != rows.all; /* what is reduced in a block of one row is a single number */
    for (int axis = 0; axis < w.ndim; axis++)
        reduces = reduces || w.reduced[axis];
    if (reduces) {
        dlc_map_reduce(&w, rows, shared, own, barrier, thread, n_threads);
        return;
    }
    int64_t begin, end;
    int64_t blocks = dlc_map_walk_begin(&w, own);
    dlc_split(&begin, &end, blocks, 1, thread, n_threads);
    dlc_map_walk_run(&w, begin, end);
}

void dlc_map_region(const dlc_map_program *program, const dlc_real_kernels *kernels, const dlc_array *arrays,
                    int64_t row, int64_t col, int64_t n_rows, int64_t n_cols, int64_t rows, void *own)
{
    dlc_array region[DLC_MAP_MAX_OPERANDS];
    const int64_t shape[2] = {n_rows, n_cols};
    for (int i = 0; i < dlc_map_operand_count(program); i++) {
        const dlc_array *array = &arrays[i];
        int64_t offset = row * dlc_map_stride(array, 0) + col * dlc_map_stride(array, 1);
        region[i] = *array;
        region[i].data = (char *)array->data + offset * dlc_dtype_size(array->dtype);
        for (int axis = 0; axis < 2; axis++)
            region[i].shape[axis] = array->shape[axis] == 1 ? 1 : shape[axis];
    }
    dlc_map_walk w;
    dlc_map_walk_init(&w, program, kernels, region, shape, 2, rows);
    w.first_defined = true;
    int64_t blocks = dlc_map_walk_begin(&w, own);
    dlc_map_walk_run(&w, 0, blocks);
}

/* What is prepared of a run. The copy of a single number, as a loss is, or of a literal takes half of the time that a walk over it
 * does (35 ns on an Intel Xeon; 10-32-2 in batches of 32 has one of each in a step). */
typedef struct bound_map {
    bool is_number;
    const dlc_map_program *program;
    const dlc_real_kernels *kernels;
    void *number;
    const void *copied; /* NULL: the literal */
    _Alignas(DLC_ALIGNMENT) char walk[];
} bound_map;

static bool copies_number(const dlc_map_program *program, const dlc_array *arrays, const int64_t *shape, int32_t ndim)
{
    for (int axis = 0; axis < ndim; axis++)
        if (shape[axis] != 1)
            return false;
    for (int i = 0; i < dlc_map_operand_count(program); i++)
        if (arrays[i].dtype != program->dtype)
            return false;
    const dlc_map_instruction *only = &program->instructions[0];
    return program->n_out == 1 && program->n_in + program->n_literals == 1 && program->n_instructions == 1 &&
           only->op == DLC_MAP_COPY && only->dst == 0 && only->a == 1;
}

static void copy_number(const bound_map *bound, int64_t rows)
{
    const dlc_map_program *program = bound->program;
    if (!bound->copied)
        bound->kernels->fill(bound->number, dlc_map_number_of(&program->literals[0], (double)rows), 1);
    else if (program->dtype == DLC_FLOAT32)
        *(float *)bound->number = *(const float *)bound->copied;
    else
        *(double *)bound->number = *(const double *)bound->copied;
}

static void point_at_number(bound_map *bound, const dlc_array *arrays)
{
    bound->number = arrays[0].data;
    bound->copied = bound->program->n_in == 1 ? arrays[1].data : NULL;
}

int64_t dlc_map_bound_bytes(const dlc_map_program *program)
{
    return (int64_t)sizeof(bound_map) + dlc_map_walk_bytes(program);
}

void dlc_map_bind(void *memory, const dlc_map_program *program, const dlc_real_kernels *kernels, const dlc_array *arrays,
                  const int64_t *shape, int32_t ndim, bool first_defined, void *own)
{
    bound_map *bound = memory;
    dlc_map_walk *walk = (dlc_map_walk *)bound->walk;
    *bound = (bound_map){copies_number(program, arrays, shape, ndim), program, kernels, NULL, NULL};
    if (bound->is_number) {
        point_at_number(bound, arrays);
        return;
    }
    dlc_map_walk_init(walk, program, kernels, arrays, shape, ndim, 1);
    walk->first_defined = first_defined;
    dlc_map_walk_begin(walk, own);
}

bool dlc_map_point_at(void *memory, const dlc_array *arrays)
{
    bound_map *bound = memory;
    if (!bound->is_number)
        return dlc_map_walk_point_at((dlc_map_walk *)bound->walk, arrays);
    point_at_number(bound, arrays);
    return true;
}

void dlc_map_run_bound(void *memory, int64_t rows, int thread, int n_threads)
{
    bound_map *bound = memory;
    if (bound->is_number) {
        if (thread == 0)
            copy_number(bound, rows);
        return;
    }
    dlc_map_walk *walk = (dlc_map_walk *)bound->walk;
    int64_t begin, end;
    dlc_map_walk_restart(walk, rows);
    dlc_split(&begin, &end, walk->blocks, 1, thread, n_threads);
    dlc_map_walk_run(walk, begin, end);
}
