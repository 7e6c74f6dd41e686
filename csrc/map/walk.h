/* The walk over blocks that runs a map program. A run collapses its arrays to few axes, then walks blocks over the
 * two innermost: a block is as many whole rows as a register holds, or a part of one row where rows are longer. In a
 * block every operand is a contiguous register: the array itself where it is contiguous there and of the computed
 * dtype, else a buffer that the block is staged in. Where blocks would have few rows and elements of an operand are nearer from
 * row to row than along rows, as in a transposed array, the walk goes by strips: blocks of one row each, whose transposed operands
 * are staged together. What a block gives for an element depends on that element's
 * inputs alone, so any split into blocks and threads gives the same bits. */
#ifndef DLC_MAP_WALK_H
#define DLC_MAP_WALK_H

#include <stddef.h>
#include <string.h>

#include "core/sizes.h"
#include "map/map.h"

typedef struct dlc_map_operand {
    char *data; /* the element at the walk's outer index, row 0, column 0 */
    int64_t stride[DLC_MAX_NDIM];
    int64_t size;
    int32_t dtype;
    bool in_place;      /* the array itself is the register */
    bool transposed;    /* elements lie nearer from row to row than along rows */
    bool streams;       /* blocks of an output go past the caches */
    char *buffer;       /* the register otherwise */
    const char *filled; /* what the buffer holds: filled_count elements from here on */
    int64_t filled_count;
} dlc_map_operand;

typedef struct dlc_map_walk {
    const dlc_map_program *program;
    const dlc_real_kernels *kernels;
    int64_t size;       /* of an element as it is computed */
    double rows;        /* that literals refer to */
    bool first_defined; /* register 0 is read as well as written */
    bool exceeds_cache; /* all arrays together */
    bool streams;       /* some output goes past the caches */
    bool fetches;       /* inputs are fetched a block ahead */
    int row_numbers;    /* an operand with a number for each row that the first instruction adds, and no other reads; or -1 */

    int32_t ndim; /* at least 2: the last two axes are the rows and columns of blocks */
    int64_t extent[DLC_MAX_NDIM];
    bool reduced[DLC_MAX_NDIM];

    int64_t block_rows, block_cols;
    int64_t strip_rows;      /* of a step of the walk: those of a block, or of several one below the other */
    int64_t blocks_per_call; /* of kernels, at most: of a row, where a single short instruction needs no buffer */
    int64_t missing_cols;           /* that the first block of a row has less than others */
    int64_t row_blocks, col_blocks; /* for each outer index */
    int64_t blocks;                 /* all of them */
    int64_t index[DLC_MAX_NDIM];    /* where the walk is on the outer axes */
    int64_t row_block, col_block;   /* and on the inner two */

    /* Of a reduction. The accumulator of a place is found like the element of an array over the kept axes. */
    bool direct; /* outputs are copies of rows as they stand in memory: nothing is computed or staged */
    int64_t kept_stride[DLC_MAX_NDIM];
    int64_t position; /* of the accumulator at the walk's outer index */
    int64_t capacity; /* accumulators of one output that is reduced */
    double *sums;     /* (n_reduced, capacity), where columns are reduced; NULL without a reduction */
    char *columns;    /* (n_reduced, capacity) as computed, where columns are kept */

    char *registers[DLC_MAP_MAX_REGISTERS];
    /* Last, as most of their room is not in use; see dlc_map_walk_bytes. */
    dlc_map_operand operands[DLC_MAP_MAX_OPERANDS];
} dlc_map_walk;

static inline int64_t dlc_map_block_elements(const dlc_map_program *program)
{
    return DLC_MAP_BLOCK_BYTES / (int64_t)(program->dtype == DLC_FLOAT32 ? sizeof(float) : sizeof(double));
}

static inline int dlc_map_operand_count(const dlc_map_program *program) { return program->n_out + program->n_in; }

static inline int64_t dlc_clamp64(int64_t x, int64_t low, int64_t high)
{
    return dlc_max64(low, dlc_min64(x, high));
}

/* The stride of an array along an axis; 0 where it broadcasts. */
static inline int64_t dlc_map_stride(const dlc_array *array, int axis)
{
    return array->shape[axis] == 1 ? 0 : array->stride[axis];
}

/* Whether a block of the array is one run of its elements. */
static inline bool dlc_map_has_whole_blocks(const dlc_map_walk *w, const dlc_map_operand *o)
{
    const int row = w->ndim - 2, col = w->ndim - 1;
    return (o->stride[col] == 1 || w->extent[col] == 1) && (w->block_rows == 1 || o->stride[row] == w->extent[col]);
}

/* Whether the operand is staged by strips. */
static inline bool dlc_map_is_strip(const dlc_map_walk *w, const dlc_map_operand *o)
{
    return o->transposed && w->strip_rows > w->block_rows;
}

/* The first outputs, that are accumulated and not stored. */
static inline int dlc_map_count_accumulated(const dlc_map_walk *w) { return w->sums ? w->program->n_reduced : 0; }

/* Takes the walk `steps` further along one of its outer axes. */
static inline void dlc_map_move(dlc_map_walk *w, int axis, int64_t steps)
{
    w->index[axis] += steps;
    w->position += steps * w->kept_stride[axis];
    for (int i = 0; i < dlc_map_operand_count(w->program); i++)
        w->operands[i].data += steps * w->operands[i].stride[axis] * w->operands[i].size;
}

/* Sets up the space: axes of extent 1 are dropped, neighbours merged where that makes no difference to any operand. */
void dlc_map_walk_init(dlc_map_walk *walk, const dlc_map_program *program, const dlc_real_kernels *kernels,
                       const dlc_array *arrays, const int64_t *shape, int32_t ndim, int64_t rows);

/* What a walk of a program takes up of the 4 KB that it has room for. To copy all of it took a fifth of the time of a small
 * reduction. */
static inline int64_t dlc_map_walk_bytes(const dlc_map_program *program)
{
    return (int64_t)(offsetof(dlc_map_walk, operands) + (size_t)dlc_map_operand_count(program) * sizeof(dlc_map_operand));
}

/* Chooses blocks, gives registers their place in `own`, and goes to block 0; returns the number of blocks. */
int64_t dlc_map_walk_begin(dlc_map_walk *walk, char *own);

/* Bytes of strips at most, whichever array leads the walk, whatever extents are then 1. */
int64_t dlc_map_strip_bytes(const dlc_map_program *program, const dlc_array *arrays, int64_t elements, int32_t ndim);

/* Runs blocks [begin, end); the walk must stand at block 0. */
void dlc_map_walk_run(dlc_map_walk *walk, int64_t begin, int64_t end);

/* A walk that has begun, over arrays of the same shapes and strides that lie elsewhere and are equal where they were. False where
 * it has to be made anew, as blocks are laid out by addresses; it stands at block 0 else. */
bool dlc_map_walk_point_at(dlc_map_walk *walk, const dlc_array *arrays);

/* Takes a walk that has begun back to block 0, whatever its arrays and `own` hold by now; literals refer to
 * `rows`. */
void dlc_map_walk_restart(dlc_map_walk *walk, int64_t rows);

/* Takes a block of the outputs that are reduced into the accumulators: rows [row, row + rows), columns [col, col + cols). */
void dlc_map_accumulate(dlc_map_walk *walk, int64_t row, int64_t rows, int64_t col, int64_t cols);

/* The part of a run that reduces; see dlc_map_run. */
void dlc_map_reduce(dlc_map_walk *walk, dlc_map_rows rows, double *shared, char *own, dlc_barrier *barrier, int thread,
                    int n_threads);

/* The thread's share of sums or means of few lines of an array, which are read where they lie. False where it is not that. */
bool dlc_map_sum_lines(const dlc_map_program *program, const dlc_real_kernels *kernels, const dlc_array *arrays,
                       const int64_t *shape, int32_t ndim, dlc_map_rows rows, int thread, int n_threads);

/* Scratch of a reduction that makes `kept` outputs of `elements` elements, beside the walk's registers. */
void dlc_map_reduce_scratch(int64_t *shared, int64_t *per_thread, const dlc_map_program *program, int64_t elements,
                            int64_t kept);

#endif
