/* A matrix product that is the gradient of a parameter, and the optimiser step that takes it: the parameter is updated block by
 * block, while the gradient's block is in cache, and the whole gradient is nowhere.
 *   outs  those of plan/recorded_step.h, (m, n)[, the sum (1, n) of each column of b: the gradient of a bias]
 *   ins   a (m, k), b (k, n), the scalars of the step
 *   attributes  the opcode of the step; then those of plan/recorded_step.h
 * Transposes of a and b are strides, which are free. A k that is cut in several blocks, and the odd shapes of the
 * product that are not cut in blocks at all, have the gradient in scratch. */
#include <stdlib.h>

#include "gemm/gemm.h"
#include "plan/builtin.h"
#include "plan/recorded_step.h"

typedef struct prepared_gemm_step {
    dlc_recorded_step step;
    bool sums_b;
    bool is_transient;
    int64_t gradient_offset; /* in the shared scratch, which starts with the product's own, unless it is transient */
} prepared_gemm_step;

/* ---- Checks ---- */

static int32_t index_of_a(const dlc_op *op) { return op->n_out; }
static int32_t index_of_b(const dlc_op *op) { return op->n_out + 1; }

static dlc_status check_factors(const dlc_op *op, const dlc_array *args, const dlc_operand *operands)
{
    const int32_t a = index_of_a(op), b = index_of_b(op);
    if (args[0].ndim != 2 || args[a].ndim != 2 || args[b].ndim != 2)
        return dlc_fail(DLC_INVALID_PLAN, "parameter, a and b have %d, %d and %d axes; expected 2", (int)args[0].ndim,
                        (int)args[a].ndim, (int)args[b].ndim);
    if (args[a].dtype != args[0].dtype || args[b].dtype != args[0].dtype)
        return dlc_fail(DLC_INVALID_PLAN, "parameter, a and b do not have one float dtype");
    const int64_t *in_a = operands[a].extents, *in_b = operands[b].extents, *in_c = operands[0].extents;
    if (in_c[0] < 0 || in_c[1] < 0) /* with few of them the product would take another way than at capacity */
        return dlc_fail(DLC_INVALID_PLAN, "the shape of its parameter counts rows");
    if (in_a[0] != in_c[0] || in_b[1] != in_c[1] || in_a[1] != in_b[0])
        return dlc_fail(DLC_INVALID_PLAN, "parameter (m, n), a (m, k) and b (k, n) differ in m, n or k");
    for (int32_t i = 0; i < op->n_out; i++)
        if (dlc_views_overlap(&operands[i].view, &operands[a].view) ||
            dlc_views_overlap(&operands[i].view, &operands[b].view))
            return dlc_fail(DLC_INVALID_PLAN, "output %d overlaps a or b", (int)i);
    return DLC_OK;
}

static dlc_status check(dlc_op *op, const dlc_array *args, const dlc_operand *operands)
{
    prepared_gemm_step *prepared = calloc(1, sizeof *prepared);
    if (!prepared)
        return dlc_fail(DLC_OUT_OF_MEMORY, "no memory for the options of a step");
    op->prepared = prepared;
    if (op->n_attributes < 1 || op->attributes[0] < 0 || op->attributes[0] > INT32_MAX)
        return dlc_fail(DLC_INVALID_PLAN, "its first attribute is no opcode");
    DLC_TRY(dlc_recorded_step_read(&prepared->step, (int32_t)op->attributes[0], op, 1));
    const int32_t sums = prepared->step.n_out;
    prepared->sums_b = op->n_out == sums + 1;
    DLC_TRY(dlc_expect_operands(op, sums + prepared->sums_b, 3, op->n_attributes));
    DLC_TRY(dlc_recorded_step_check(&prepared->step, op, args, operands));
    DLC_TRY(check_factors(op, args, operands));
    return prepared->sums_b ? dlc_check_column_sums(&args[sums], &operands[sums], &args[0], &operands[0]) : DLC_OK;
}

/* ---- Running ---- */

static dlc_gemm make_product(const dlc_op *op, const dlc_array *args, const dlc_kernels *kernels)
{
    const prepared_gemm_step *prepared = op->prepared;
    const dlc_array *a = &args[index_of_a(op)], *b = &args[index_of_b(op)];
    return (dlc_gemm){.kernels = kernels->real[args[0].dtype]->gemm,
                      .element_size = dlc_dtype_size(args[0].dtype),
                      .c_row = args[0].shape[1],
                      .a = a->data,
                      .b = b->data,
                      .m = args[0].shape[0],
                      .n = args[0].shape[1],
                      .k = a->shape[1],
                      .a_row = a->stride[0],
                      .a_col = a->stride[1],
                      .b_row = b->stride[0],
                      .b_col = b->stride[1],
                      .b_sums = prepared->sums_b ? args[prepared->step.n_out].data : NULL};
}

static void scratch(int64_t *shared, int64_t *own, const dlc_op *op, const dlc_array *args, const dlc_kernels *kernels)
{
    prepared_gemm_step *prepared = op->prepared;
    dlc_gemm product = make_product(op, args, kernels);
    product.is_transient = prepared->is_transient = dlc_gemm_may_be_transient(&product);
    dlc_gemm_scratch(shared, own, &product);
    if (!prepared->is_transient) {
        prepared->gradient_offset = dlc_align_up(*shared);
        *shared = prepared->gradient_offset + dlc_align_up(product.m * product.n * product.element_size);
    }
}

static int64_t cost(const dlc_op *op, const dlc_array *args)
{
    const prepared_gemm_step *prepared = op->prepared;
    const int64_t count = dlc_count(&args[0]), k = args[index_of_a(op)].shape[1];
    return dlc_cost_add(dlc_gemm_cost(args[0].shape[0], args[0].shape[1], k, dlc_dtype_size(args[0].dtype)),
                        dlc_cost_mul(count, prepared->step.n_out + prepared->step.cost));
}

/* What updates the parameter by blocks of its gradient. */
typedef struct update {
    const dlc_recorded_step *step;
    const dlc_real_kernels *kernels;
    const dlc_array *outs;
    const double *scalars;
} update;

static void update_block(void *context, const dlc_gemm_block *block, int thread)
{
    (void)thread;
    const update *u = context;
    const int64_t n = u->outs[0].shape[1], size = dlc_dtype_size(u->outs[0].dtype);
    const bool is_whole = block->cols == n && block->ld == n;
    const int64_t pieces = is_whole ? 1 : block->rows, length = is_whole ? block->rows * n : block->cols;
    for (int64_t i = 0; i < pieces; i++) {
        const int64_t begin = (block->row + i) * n + block->col;
        dlc_recorded_step_run(u->step, u->kernels, u->outs, (char *)block->data + i * block->ld * size, u->scalars, begin,
                              begin + length);
    }
}

static dlc_status run(const dlc_op_call *call)
{
    const dlc_op *op = call->op;
    const prepared_gemm_step *prepared = op->prepared;
    dlc_gemm product = make_product(op, call->args, call->step->kernels);
    update update = {.step = &prepared->step,
                     .kernels = call->step->kernels->real[call->args[0].dtype],
                     .outs = call->args,
                     .scalars = call->args[op->n_out + op->n_in - 1].data};
    if (prepared->is_transient) {
        product.is_transient = true;
        product.finish = update_block;
        product.context = &update;
        dlc_gemm_run(&product, call->shared, call->own, call->barrier, call->thread, call->n_threads);
        return DLC_OK;
    }
    char *gradient = (char *)call->shared + prepared->gradient_offset;
    product.c = gradient;
    dlc_gemm_run(&product, call->shared, call->own, call->barrier, call->thread, call->n_threads);
    dlc_barrier_wait(call->barrier, call->n_threads);
    int64_t begin, end;
    dlc_split(&begin, &end, dlc_count(&call->args[0]), DLC_SHARED_ELEMENTS, call->thread, call->n_threads);
    if (begin < end)
        dlc_recorded_step_run(&prepared->step, update.kernels, call->args, gradient + begin * product.element_size,
                              update.scalars, begin, end);
    return DLC_OK;
}

const dlc_op_def dlc_gemm_step_def = {
    .name = "gemm_step",
    .opcode = DLC_OP_GEMM_STEP,
    .check = check,
    .scratch = scratch,
    .cost = cost,
    .run = run,
};
