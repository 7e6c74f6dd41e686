/* GEMM: c (..., m, n) = or += a (..., m, k) @ b (..., k, n), with a map program run over each block of c while it is
 * in cache, or with the sum of each column of b, which is the gradient of a bias where c is that of its weights.
 *   outs  c[, further outputs of the program, or without one the sums (1, n)]
 *   ins   a, b[, inputs of the program]
 *   attributes  accumulate; then, if there is a program, its words
 * Register 0 of the program is c and holds the product from the start. All operands have the same number of axes and
 * one float dtype, but for inputs of the program, which may have any. Leading axes of a and b, and all axes of the
 * program's inputs, are those of c or have extent 1; further outputs have the shape of c. Transposes are strides, which
 * are free but for those of c: one of its last two is 1. Where it is not the last, c^T = b^T @ a^T is computed. */
#include <math.h>
#include <stdlib.h>

#include "gemm/gemm.h"
#include "map/map.h"
#include "plan/builtin.h"
#include "plan/operand.h"

typedef struct prepared_gemm {
    int64_t shared_offset, registers_offset; /* in a thread's scratch, which starts with the product's own */
    bool transposed; /* c^T is computed */
    bool is_one_row; /* for any number of rows of a step */
    bool sums_rows;
    bool may_pack; /* the second factor: c has rows, which it has not */
    bool sums_b;
    dlc_map_program program; /* all 0 when there is none */
    dlc_gemm_store in_tiles; /* how it begins, if tiles of a small product may do that */
    int32_t beside;          /* the operand that they read for it */
    dlc_map_program rest;    /* what is left of the program */
} prepared_gemm;

static int32_t index_of_a(const dlc_op *op) { return op->n_out; }
static int32_t index_of_b(const dlc_op *op) { return op->n_out + 1; }

/* ---- What tiles of small products do of the program ---- */

static bool is_input(const dlc_map_program *program, int r)
{
    return r >= program->n_out && r < program->n_out + program->n_in;
}

static bool is_literal_0(const dlc_map_program *program, int r)
{
    const int literal = r - program->n_out - program->n_in;
    if (literal < 0 || literal >= program->n_literals)
        return false;
    const double value = program->literals[literal].value;
    return value == 0 && !signbit(value);
}

/* What the first instruction does to register 0, and the other register that it reads for it */
static dlc_gemm_store first_store(int *beside, const dlc_map_program *program)
{
    const dlc_map_instruction *first = &program->instructions[0];
    *beside = first->a;
    if (program->n_instructions == 0)
        return DLC_STORE_PLAIN;
    if (first->op == DLC_MAP_ADD && first->a == 0)
        *beside = first->b;
    if (first->op == DLC_MAP_ADD && (first->a == 0 || first->b == 0))
        return DLC_STORE_BIAS;
    if (first->op == DLC_MAP_WHERE_POSITIVE && first->b == 0 && is_literal_0(program, first->c))
        return DLC_STORE_WHERE_POSITIVE;
    return first->op == DLC_MAP_TANH_GRADIENT && first->b == 0 ? DLC_STORE_TANH_GRADIENT : DLC_STORE_PLAIN;
}

/* Whether an operand can be what a store reads: a number for each row of what is computed, c^T, or one for each element. */
static bool fits_store(dlc_gemm_store store, const dlc_array *array, const dlc_operand *operand, const dlc_array *c,
                       const dlc_operand *of_c)
{
    if (array->dtype != c->dtype || operand->extents[1] != of_c->extents[1])
        return false;
    if (store == DLC_STORE_BIAS)
        return operand->extents[0] == 1 && array->stride[1] == 1;
    return operand->extents[0] == of_c->extents[0] && array->stride[0] == 1;
}

/* Where rows of a block lie adjacent, c^T = b^T @ a^T is computed, in small layers by small products. To walk a program for them
 * takes about as long as they do. */
static void find_store(prepared_gemm *prepared, const dlc_op *op, const dlc_array *args, const dlc_operand *operands)
{
    int beside;
    dlc_gemm_store store = first_store(&beside, &prepared->program);
    if (store == DLC_STORE_PLAIN || !prepared->transposed || args[0].ndim != 2 || op->attributes[0])
        return;
    if (!is_input(&prepared->program, beside) || !dlc_map_is_unread(&prepared->program, 1, beside))
        return;
    const int32_t operand = beside + 2; /* the factors stand between outputs and inputs */
    dlc_map_program *rest = &prepared->rest;
    *rest = prepared->program;
    if (!fits_store(store, &args[operand], &operands[operand], &args[0], &operands[0]) || !dlc_map_drop_first(rest))
        return;
    dlc_map_drop_input(rest, beside);
    const dlc_map_instruction *next = &rest->instructions[0];
    if (store == DLC_STORE_BIAS && rest->n_instructions > 0 && next->op == DLC_MAP_RELU && next->a == 0 && dlc_map_drop_first(rest))
        store = DLC_STORE_RECTIFIED_BIAS;
    prepared->in_tiles = store;
    prepared->beside = operand;
}

/* ---- Checks ---- */

static dlc_status decode_program(dlc_map_program *program, const dlc_op *op)
{
    if (op->n_attributes < 1 || !dlc_attribute_is_flag(op, 0))
        return dlc_fail(DLC_INVALID_PLAN, "its first attribute, accumulate, is not 0 or 1");
    if (op->n_attributes == 1)
        return dlc_expect_operands(op, op->n_out == 2 ? 2 : 1, 2, 1);
    DLC_TRY(dlc_map_decode(program, op->attributes + 1, op->n_attributes - 1, true));
    return dlc_expect_operands(op, program->n_out, program->n_in + 2, op->n_attributes);
}

/* Whether a matrix has the same extents for any number of rows. */
static bool is_fixed(const dlc_operand *operand) { return operand->extents[0] >= 0 && operand->extents[1] >= 0; }

/* Whether axes [0, n) of an operand are those of c, or broadcast against them. */
static bool fits_c(const dlc_operand *operand, const dlc_operand *of_c, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        if (operand->extents[i] != of_c->extents[i] && operand->extents[i] != 1)
            return false;
    return true;
}

static dlc_status check_factors(const dlc_op *op, const dlc_array *args, const dlc_operand *operands)
{
    const int32_t a = index_of_a(op), b = index_of_b(op), ndim = args[0].ndim, row = ndim - 2, col = ndim - 1;
    if (ndim < 2)
        return dlc_fail(DLC_INVALID_PLAN, "its product has %d axes; expected at least 2", (int)ndim);
    if (!dlc_is_real(args[0].dtype) || args[a].dtype != args[0].dtype || args[b].dtype != args[0].dtype)
        return dlc_fail(DLC_INVALID_PLAN, "c, a and b do not have one float dtype");
    if (args[a].ndim != ndim || args[b].ndim != ndim)
        return dlc_fail(DLC_INVALID_PLAN, "c, a and b differ in the number of axes");
    const int64_t *in_a = operands[a].extents, *in_b = operands[b].extents, *in_c = operands[0].extents;
    if (in_a[row] != in_c[row] || in_b[col] != in_c[col] || in_a[col] != in_b[row])
        return dlc_fail(DLC_INVALID_PLAN, "c (m, n), a (m, k) and b (k, n) differ in m, n or k");
    if (!fits_c(&operands[a], &operands[0], row) || !fits_c(&operands[b], &operands[0], row))
        return dlc_fail(DLC_INVALID_PLAN, "leading axes of a or b are neither those of c nor 1");
    if (args[0].stride[col] != 1 && in_c[col] != 1 && args[0].stride[row] != 1)
        return dlc_fail(DLC_INVALID_PLAN, "c has strides %lld and %lld in its last axes; expected a 1",
                        (long long)args[0].stride[row], (long long)args[0].stride[col]);
    for (int32_t i = 0; i < op->n_out; i++)
        if (dlc_views_overlap(&operands[i].view, &operands[a].view) ||
            dlc_views_overlap(&operands[i].view, &operands[b].view))
            return dlc_fail(DLC_INVALID_PLAN, "output %d overlaps a or b", (int)i);
    return DLC_OK;
}

static dlc_status check_store(const dlc_map_program *program, const dlc_op *op, const dlc_array *args,
                              const dlc_operand *operands)
{
    if (op->n_attributes > 1 && program->dtype != args[0].dtype)
        return dlc_fail(DLC_INVALID_PLAN, "the program of its store computes in another dtype than c has");
    for (int32_t i = 1; i < op->n_out; i++)
        if (args[i].dtype != args[0].dtype || !dlc_same_shape(&args[i], &operands[i], &args[0], &operands[0]))
            return dlc_fail(DLC_INVALID_PLAN, "output %d differs from c in dtype or shape", (int)i);
    for (int32_t i = op->n_out + 2; i < op->n_out + op->n_in; i++) {
        if (args[i].ndim != args[0].ndim || !fits_c(&operands[i], &operands[0], args[0].ndim))
            return dlc_fail(DLC_INVALID_PLAN, "input %d does not broadcast to c", (int)(i - op->n_out));
        if (dlc_views_overlap(&operands[0].view, &operands[i].view))
            return dlc_fail(DLC_INVALID_PLAN, "c overlaps input %d of its store", (int)(i - op->n_out));
    }
    return DLC_OK;
}

static dlc_status check(dlc_op *op, const dlc_array *args, const dlc_operand *operands)
{
    prepared_gemm *prepared = calloc(1, sizeof *prepared);
    if (!prepared)
        return dlc_fail(DLC_OUT_OF_MEMORY, "no memory for the store of a matrix product");
    op->prepared = prepared;
    DLC_TRY(decode_program(&prepared->program, op));
    DLC_TRY(check_factors(op, args, operands));
    const int32_t col = args[0].ndim - 1;
    prepared->transposed = args[0].stride[col] != 1 && operands[0].extents[col] != 1;
    prepared->sums_rows = operands[index_of_a(op)].extents[col] < 0;
    const dlc_operand *second = &operands[prepared->transposed ? index_of_a(op) : index_of_b(op)];
    prepared->may_pack = args[0].ndim == 2 && !is_fixed(&operands[0]) && is_fixed(second);
    prepared->sums_b = op->n_attributes == 1 && op->n_out == 2;
    if (!prepared->sums_b) {
        DLC_TRY(check_store(&prepared->program, op, args, operands));
        find_store(prepared, op, args, operands);
        return DLC_OK;
    }
    if (prepared->transposed)
        return dlc_fail(DLC_INVALID_PLAN, "the sums of b stand beside a c whose columns are contiguous");
    return dlc_check_column_sums(&args[1], &operands[1], &args[0], &operands[0]);
}

/* ---- One product of the leading axes ---- */

static int64_t count_products(const dlc_array *c)
{
    int64_t count = 1;
    for (int32_t i = 0; i < c->ndim - 2; i++)
        count *= c->shape[i];
    return count;
}

/* The matrix (last two axes, in this order or the other) of an operand that belongs to product `index` of c. Nothing is set
 * beyond its axes: to clear that took a fifth of predict_one of 10-32-2. */
static dlc_array matrix_of(const dlc_array *operand, const dlc_array *c, int64_t index, bool transposed)
{
    int64_t offset = 0;
    for (int32_t i = c->ndim - 3; i >= 0; i--) {
        if (operand->shape[i] != 1)
            offset += index % dlc_max64(c->shape[i], 1) * operand->stride[i];
        index /= dlc_max64(c->shape[i], 1);
    }
    const int32_t row = operand->ndim - 2 + transposed, col = operand->ndim - 1 - transposed;
    dlc_array matrix;
    matrix.data = (char *)operand->data + offset * dlc_dtype_size(operand->dtype);
    matrix.dtype = operand->dtype;
    matrix.ndim = 2;
    matrix.shape[0] = operand->shape[row];
    matrix.shape[1] = operand->shape[col];
    matrix.stride[0] = operand->stride[row];
    matrix.stride[1] = operand->stride[col];
    return matrix;
}

static dlc_gemm make_product(const dlc_op *op, const dlc_array *args, const dlc_kernels *kernels, int64_t index)
{
    const prepared_gemm *prepared = op->prepared;
    const bool transposed = prepared->transposed;
    const dlc_array c = matrix_of(&args[0], &args[0], index, transposed);
    const dlc_array a = matrix_of(&args[transposed ? index_of_b(op) : index_of_a(op)], &args[0], index, transposed);
    const dlc_array b = matrix_of(&args[transposed ? index_of_a(op) : index_of_b(op)], &args[0], index, transposed);
    return (dlc_gemm){.kernels = kernels->real[c.dtype]->gemm,
                      .element_size = dlc_dtype_size(c.dtype),
                      .c = c.data,
                      .a = a.data,
                      .b = b.data,
                      .m = c.shape[0],
                      .n = c.shape[1],
                      .k = a.shape[1],
                      .c_row = c.stride[0],
                      .a_row = a.stride[0],
                      .a_col = a.stride[1],
                      .b_row = b.stride[0],
                      .b_col = b.stride[1],
                      .accumulate = op->attributes[0],
                      .is_one_row = prepared->is_one_row,
                      .b_sums = prepared->sums_b ? args[1].data : NULL};
}

/* ---- Weights packed once ---- */

/* The second factor of what is computed. */
static int32_t packed_operand(const dlc_op *op)
{
    const prepared_gemm *prepared = op->prepared;
    if (!prepared->may_pack)
        return -1;
    return prepared->transposed ? index_of_a(op) : index_of_b(op);
}

static int64_t packed_bytes(const dlc_op *op, const dlc_array *args, const dlc_kernels *kernels)
{
    const dlc_gemm product = make_product(op, args, kernels, 0);
    int64_t size;
    if (!dlc_gemm_gains_by_packed_b(&product))
        return 0;
    return dlc_gemm_packed_size(&size, &product) && dlc_size_mul(&size, size, product.element_size) ? size : -1;
}

static void pack(void *packed, const dlc_op *op, const dlc_array *args, const dlc_kernels *kernels, int thread, int n_threads)
{
    const dlc_gemm product = make_product(op, args, kernels, 0);
    dlc_gemm_pack_b(packed, &product, thread, n_threads);
}

/* ---- The store ---- */

/* The operands of the store's program for one product, on the thread that runs it. */
typedef struct store {
    const dlc_map_program *program;
    const dlc_real_kernels *kernels;
    int64_t rows; /* of the step */
    void *registers;
    dlc_array arrays[DLC_MAP_MAX_OPERANDS];
} store;

static void finish(void *context, const dlc_gemm_block *block, int thread)
{
    (void)thread;
    const store *s = context;
    dlc_map_region(s->program, s->kernels, s->arrays, block->row, block->col, block->rows, block->cols, s->rows,
                   s->registers);
}

/* left_out: an input that is not the program's; 0: none */
static void find_store_arrays(dlc_array *arrays, const dlc_op *op, const dlc_array *args, int64_t index, int32_t left_out)
{
    const prepared_gemm *prepared = op->prepared;
    const bool transposed = prepared->transposed;
    int32_t n = 0;
    for (int32_t i = 0; i < op->n_out + op->n_in; i++)
        if (i != index_of_a(op) && i != index_of_b(op) && (i == 0 || i != left_out))
            arrays[n++] = matrix_of(&args[i], &args[0], index, transposed);
}

/* ---- Running ---- */

/* A single product is shared by the team, which needs its shared scratch; of several products every thread takes whole
 * ones, and has that scratch for itself. */
static void scratch(int64_t *shared, int64_t *own, const dlc_op *op, const dlc_array *args, const dlc_kernels *kernels)
{
    prepared_gemm *prepared = op->prepared;
    dlc_gemm product = make_product(op, args, kernels, 0);
    prepared->is_one_row = product.is_one_row = product.m == 1;
    dlc_gemm_scratch(shared, own, &product);
    prepared->shared_offset = dlc_align_up(*own);
    prepared->registers_offset = prepared->shared_offset;
    if (args[0].ndim > 2) {
        prepared->registers_offset += dlc_align_up(*shared);
        *shared = 0;
    }
    *own = prepared->registers_offset;
    if (op->n_attributes > 1) {
        dlc_array arrays[DLC_MAP_MAX_OPERANDS];
        int64_t none, registers;
        find_store_arrays(arrays, op, args, 0, 0);
        dlc_map_scratch(&none, &registers, &prepared->program, arrays, arrays[0].shape, 2);
        *own += registers;
    }
}

static int64_t cost(const dlc_op *op, const dlc_array *args)
{
    const dlc_array *c = &args[0];
    const int64_t m = c->shape[c->ndim - 2], n = c->shape[c->ndim - 1], k = args[index_of_a(op)].shape[c->ndim - 1];
    const int64_t product = dlc_gemm_cost(m, n, k, dlc_dtype_size(c->dtype));
    return dlc_cost_add(dlc_cost_mul(count_products(c), product), dlc_cost_mul(dlc_count(c), op->n_attributes > 1));
}

static bool is_packed(const dlc_op_call *call) { return call->step->packed && call->op->packed_offset >= 0; }

static dlc_gemm start_product(store *s, const dlc_op_call *call, int64_t index)
{
    const dlc_op *op = call->op;
    const prepared_gemm *prepared = op->prepared;
    dlc_gemm product = make_product(op, call->args, call->step->kernels, index);
    if (op->n_attributes > 1) {
        find_store_arrays(s->arrays, op, call->args, index, 0);
        s->kernels = call->step->kernels->real[call->args[0].dtype];
        product.finish = finish;
        product.context = s;
    }
    product.accumulate = product.accumulate || (call->accumulate && prepared->sums_rows);
    if (is_packed(call))
        product.packed_b = call->step->packed + op->packed_offset;
    return product;
}

/* What a product is bound to that is small and a thread's alone: its preparations, which would take longer than itself. */
typedef struct bound_gemm {
    bool is_small;
    bool has_store;
    dlc_gemm product;
    _Alignas(DLC_ALIGNMENT) char store[]; /* bound, too */
} bound_gemm;

static int64_t bound_bytes(const dlc_op *op)
{
    const prepared_gemm *prepared = op->prepared;
    return (int64_t)sizeof(bound_gemm) + (op->n_attributes > 1 ? dlc_map_bound_bytes(&prepared->program) : 0);
}

static void bind(void *memory, const dlc_op_call *call)
{
    bound_gemm *bound = memory;
    const dlc_op *op = call->op;
    const prepared_gemm *prepared = op->prepared;
    bound->is_small = false;
    if (call->args[0].ndim != 2 || call->n_threads > 1 || is_packed(call))
        return;
    bound->product = make_product(op, call->args, call->step->kernels, 0);
    bound->is_small = dlc_gemm_is_small(&bound->product);
    if (!bound->is_small)
        return;
    const dlc_map_program *program = &prepared->program;
    int32_t left_out = 0;
    if (prepared->in_tiles && dlc_gemm_takes_store(&bound->product, prepared->in_tiles)) {
        program = &prepared->rest;
        left_out = prepared->beside;
        bound->product.store = prepared->in_tiles;
        bound->product.beside = call->args[left_out].data;
        bound->product.beside_row = call->args[left_out].stride[1];
    }
    bound->has_store = program->n_instructions > 0;
    if (!bound->has_store)
        return;
    dlc_array arrays[DLC_MAP_MAX_OPERANDS];
    find_store_arrays(arrays, op, call->args, 0, left_out);
    dlc_map_bind(bound->store, program, call->step->kernels->real[call->args[0].dtype], arrays,
                 arrays[0].shape, 2, true, (char *)call->own + prepared->registers_offset);
}

static void run_bound(bound_gemm *bound, const dlc_op_call *call)
{
    const prepared_gemm *prepared = call->op->prepared;
    bound->product.accumulate = call->op->attributes[0] || (call->accumulate && prepared->sums_rows);
    dlc_gemm_run_small(&bound->product);
    if (bound->has_store)
        dlc_map_run_bound(bound->store, call->step->step_rows, 0, 1);
}

static dlc_status run(const dlc_op_call *call)
{
    const prepared_gemm *prepared = call->op->prepared;
    bound_gemm *bound = call->bound;
    char *own = call->own;
    if (bound->is_small) {
        run_bound(bound, call);
        return DLC_OK;
    }
    store s;
    s.program = &prepared->program;
    s.rows = call->step->step_rows;
    s.registers = own + prepared->registers_offset;
    if (call->args[0].ndim == 2) {
        const dlc_gemm product = start_product(&s, call, 0);
        dlc_gemm_run(&product, call->shared, own, call->barrier, call->thread, call->n_threads);
        return DLC_OK;
    }
    int64_t begin, end;
    dlc_barrier alone = {0};
    dlc_split(&begin, &end, count_products(&call->args[0]), 1, call->thread, call->n_threads);
    for (int64_t i = begin; i < end; i++) {
        dlc_gemm product = start_product(&s, call, i);
        dlc_gemm_run(&product, own + prepared->shared_offset, own, &alone, 0, 1);
    }
    return DLC_OK;
}

/* a (rows, k) @ b (k, n) is computed row by row, a (m, rows) @ b (rows, n) is a sum over rows. */
static dlc_row_role row_role(const dlc_op *op, const dlc_operand *operands)
{
    const dlc_operand *c = &operands[0], *a = &operands[index_of_a(op)], *b = &operands[index_of_b(op)];
    bool has_two_axes = true;
    for (int32_t i = 0; i < op->n_out + op->n_in; i++)
        has_two_axes = has_two_axes && operands[i].ndim == 2;
    if (!has_two_axes || op->attributes[0])
        return DLC_ROWS_TOGETHER;
    if (dlc_is_row_shape(c->extents, 2) && dlc_is_row_shape(a->extents, 2) && is_fixed(b))
        return DLC_ROWS_APART;
    const bool is_sum = is_fixed(c) && a->extents[1] == -1 && b->extents[0] == -1 && op->n_attributes == 1;
    return is_sum ? DLC_ROWS_SUMMED : DLC_ROWS_TOGETHER;
}

const dlc_op_def dlc_gemm_def = {
    .name = "gemm",
    .opcode = DLC_OP_GEMM,
    .check = check,
    .scratch = scratch,
    .cost = cost,
    .bound_bytes = bound_bytes,
    .bind = bind,
    .packed_operand = packed_operand,
    .packed_bytes = packed_bytes,
    .pack = pack,
    .row_role = row_role,
    .run = run,
};
