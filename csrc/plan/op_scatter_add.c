/* SCATTER_ADD, the gradient of TAKE: out (outer, extent, inner) = 0, then for j = 0, 1, ...
 * out[o, index[o, j], :] += g[o, j, :].
 *
 * ins g (outer, n, inner), index (outer or 1, n); no attributes. Output and g have one real dtype, and inner is
 * contiguous in both. The index is as in TAKE.
 *
 * Threads share out what is written, never what is added, so that every sum is taken in the order of j. */
#include "plan/builtin.h"
#include "plan/index.h"
#include "plan/operand.h"

static dlc_status check(dlc_op *op, const dlc_array *args, const dlc_operand *operands)
{
    DLC_TRY(dlc_check_indexed(op, args, operands, 0, 1));
    if (!dlc_is_real(args[0].dtype))
        return dlc_fail(DLC_INVALID_PLAN, "its output has dtype %d; expected float32 or float64", (int)args[0].dtype);
    return DLC_OK;
}

/* About what an index costs to read, and a row to find, beside a load. */
enum { COST_OF_INDEX = 8 };

static int64_t cost(const dlc_op *op, const dlc_array *args)
{
    (void)op;
    int64_t indices = dlc_cost_mul(COST_OF_INDEX, args[1].shape[0] * args[1].shape[1]);
    return dlc_cost_add(dlc_count(&args[0]), dlc_cost_add(indices, dlc_cost_mul(2, dlc_count(&args[1]))));
}

/* What a thread writes: out[outer.begin ... outer.end, rows.begin ..., cols.begin ...]. */
typedef struct range {
    int64_t begin, end;
} range;

typedef struct part {
    range outer, rows, cols;
} part;

/* Columns that are worth their own pass over the indices: 64 bytes and more. */
#define MIN_COLUMNS 16

/* Over outer where that is even; else over columns, which are even whatever the indices are, where there are enough;
 * else over rows. */
static part split(const dlc_array *out, int thread, int n_threads)
{
    part p = {{0, out->shape[0]}, {0, out->shape[1]}, {0, out->shape[2]}};
    range *shared = &p.rows;
    int64_t grain = 1;
    if (out->shape[0] >= 4 * (int64_t)n_threads) {
        shared = &p.outer;
    } else if (out->shape[2] >= MIN_COLUMNS * (int64_t)n_threads) {
        shared = &p.cols;
        grain = MIN_COLUMNS;
    }
    dlc_split(&shared->begin, &shared->end, shared->end, grain, thread, n_threads);
    return p;
}

static char *row_of(const dlc_array *array, int64_t o, int64_t row, int64_t col)
{
    return (char *)array->data +
           (o * array->stride[0] + row * array->stride[1] + col) * dlc_dtype_size(array->dtype);
}

static void clear_rows(const dlc_array *out, int64_t o, const part *p)
{
    int64_t rows = p->rows.end - p->rows.begin, cols = p->cols.end - p->cols.begin;
    if (out->stride[1] == cols) {
        cols *= rows;
        rows = 1;
    }
    for (int64_t r = 0; r < rows; r++)
        memset(row_of(out, o, p->rows.begin + r, p->cols.begin), 0, (size_t)(cols * dlc_dtype_size(out->dtype)));
}

/* out (rows; stride) += g (count; stride), a number for each index; rows not in [begin, end) are another thread's. */
#define DEFINE_ADD_NUMBERS(real)                                                                                  \
    static void add_numbers_##real(real *out, int64_t out_stride, const real *g, int64_t g_stride,                \
                                   const dlc_row_block *block, range rows)                                        \
    {                                                                                                             \
        for (int64_t i = 0; i < block->count; i++)                                                                \
            if (block->rows[i] >= rows.begin && block->rows[i] < rows.end)                                        \
                out[block->rows[i] * out_stride] += g[i * g_stride];                                              \
    }

DEFINE_ADD_NUMBERS(float)
DEFINE_ADD_NUMBERS(double)

static void add_rows(const dlc_op_call *call, int64_t o, int64_t j, const dlc_row_block *block, const part *p)
{
    const dlc_array *out = &call->args[0], *g = &call->args[1];
    int64_t col = p->cols.begin, cols = p->cols.end - p->cols.begin;
    if (cols == 1) {
        if (out->dtype == DLC_FLOAT32)
            add_numbers_float((float *)row_of(out, o, 0, col), out->stride[1], (const float *)row_of(g, o, j, col),
                              g->stride[1], block, p->rows);
        else
            add_numbers_double((double *)row_of(out, o, 0, col), out->stride[1],
                               (const double *)row_of(g, o, j, col), g->stride[1], block, p->rows);
        return;
    }
    dlc_map_kernel *add = call->step->kernels->real[out->dtype]->map[DLC_MAP_ADD];
    for (int64_t i = 0; i < block->count; i++) {
        int64_t row = block->rows[i];
        if (row < p->rows.begin || row >= p->rows.end)
            continue;
        char *sum = row_of(out, o, row, col);
        add(sum, sum, row_of(g, o, j + i, col), NULL, cols, 0);
    }
}

static dlc_status run(const dlc_op_call *call)
{
    const dlc_array *out = &call->args[0], *g = &call->args[1], *index = &call->args[2];
    const part p = split(out, call->thread, call->n_threads);
    dlc_row_block block;
    block.count = 0;
    for (int64_t o = p.outer.begin; o < p.outer.end; o++) {
        if (out->shape[2] > 0)
            clear_rows(out, o, &p);
        for (int64_t j = 0; j < g->shape[1]; j += DLC_ROW_BLOCK) {
            DLC_TRY(dlc_read_rows(&block, index, o, j, dlc_min64(g->shape[1] - j, DLC_ROW_BLOCK), out->shape[1]));
            if (out->shape[2] > 0)
                add_rows(call, o, j, &block, &p);
        }
    }
    return DLC_OK;
}

const dlc_op_def dlc_scatter_add_def = {
    .name = "scatter_add",
    .opcode = DLC_OP_SCATTER_ADD,
    .can_fail = true,
    .check = check,
    .cost = cost,
    .run = run,
};
