/* Matrix products: broadcasting of leading axes, and the fused store of a linear layer. */
#include <stdlib.h>
#include <string.h>

#include "gemm/gemm.h"
#include "map/map.h"
#include "ops_job.h"

/* Runs a call that needs contiguous rows of its output on a temporary, and copies that to `out`. */
static dlc_status run_on_copy(const dlc_array *out, dlc_status (*run)(const dlc_array *out, const void *context),
                              const void *context)
{
    dlc_array temporary = *out;
    int64_t count, bytes, stride = 1;
    DLC_TRY(dlc_element_count(&count, out->shape, out->ndim, "out"));
    if (!dlc_size_mul(&bytes, count, dlc_dtype_size(out->dtype)))
        return dlc_fail(DLC_OVERFLOW, "the bytes of out do not fit in 63 bits");
    for (int32_t axis = out->ndim - 1; axis >= 0; axis--) {
        temporary.stride[axis] = stride;
        stride *= out->shape[axis];
    }
    temporary.data = dlc_aligned_alloc(dlc_max64(bytes, 1));
    if (!temporary.data)
        return dlc_fail(DLC_OUT_OF_MEMORY, "%lld bytes for a copy of out are not to be had", (long long)bytes);
    dlc_status status = run(&temporary, context);
    if (status == DLC_OK)
        status = dlc_apply(out, DLC_MAP_COPY, &temporary, false);
    free(temporary.data);
    return status;
}

enum { MAX_BATCH_AXES = DLC_MAX_NDIM - 2 };

typedef struct product {
    dlc_job job;
    dlc_gemm gemm; /* of the first item of the batch */
    int64_t shared_bytes;
    int batch_axes;
    int64_t items;
    int64_t extent[MAX_BATCH_AXES];
    int64_t stride[3][MAX_BATCH_AXES]; /* of c, a, b */
} product;

/* The stride of a single row means nothing, but as a leading dimension it must not be less than the row. */
static void set_output(dlc_gemm *gemm, void *c, int64_t row, int64_t m, int64_t n)
{
    gemm->c = c;
    gemm->c_row = m == 1 ? n : row;
}

static void swap_roles(dlc_gemm *gemm)
{
    dlc_gemm g = *gemm;
    gemm->m = g.n;
    gemm->n = g.m;
    gemm->a = g.b;
    gemm->a_row = g.b_col;
    gemm->a_col = g.b_row;
    gemm->b = g.a;
    gemm->b_row = g.a_col;
    gemm->b_col = g.a_row;
}

static dlc_gemm gemm_of(const dlc_gemm_kernels *kernels, const dlc_array *a, const dlc_array *b)
{
    int row_a = a->ndim - 2, row_b = b->ndim - 2;
    return (dlc_gemm){
        .kernels = kernels,
        .element_size = dlc_dtype_size(a->dtype),
        .a = a->data,
        .b = b->data,
        .m = a->shape[row_a],
        .n = b->shape[row_b + 1],
        .k = a->shape[row_a + 1],
        .a_row = a->stride[row_a],
        .a_col = a->stride[row_a + 1],
        .b_row = b->stride[row_b],
        .b_col = b->stride[row_b + 1],
    };
}

static dlc_gemm batch_item(const product *p, int64_t item)
{
    dlc_gemm gemm = p->gemm;
    int64_t offset[3] = {0, 0, 0};
    for (int axis = p->batch_axes - 1; axis >= 0; axis--) {
        int64_t index = item % p->extent[axis];
        item /= p->extent[axis];
        for (int i = 0; i < 3; i++)
            offset[i] += index * p->stride[i][axis];
    }
    gemm.c = (char *)gemm.c + offset[0] * gemm.element_size;
    gemm.a = (const char *)gemm.a + offset[1] * gemm.element_size;
    gemm.b = (const char *)gemm.b + offset[2] * gemm.element_size;
    return gemm;
}

/* Every thread computes items of its own where they are enough, else all share each item: the results are the same. */
static void run_product_member(void *context, int thread, int n_threads)
{
    product *p = context;
    char *own = dlc_job_own(&p->job, thread);
    if (p->items < n_threads || p->items == 1) {
        for (int64_t i = 0; i < p->items; i++) {
            dlc_gemm gemm = batch_item(p, i);
            if (i > 0)
                dlc_barrier_wait(&p->job.barrier, n_threads);
            dlc_gemm_run(&gemm, p->job.shared, own, &p->job.barrier, thread, n_threads);
        }
        return;
    }
    int64_t begin, end;
    dlc_barrier alone = {0};
    dlc_split(&begin, &end, p->items, 1, thread, n_threads);
    for (int64_t i = begin; i < end; i++) {
        dlc_gemm gemm = batch_item(p, i);
        dlc_gemm_run(&gemm, own, own + p->shared_bytes, &alone, 0, 1);
    }
}

static dlc_status run_product(product *p)
{
    p->gemm.is_one_row = p->gemm.m == 1;
    int64_t own, cost = dlc_gemm_cost(p->gemm.m, p->gemm.n, p->gemm.k, p->gemm.element_size);
    dlc_gemm_scratch(&p->shared_bytes, &own, &p->gemm);
    p->shared_bytes = dlc_align_up(p->shared_bytes);
    if (p->items > 1)
        own += p->shared_bytes;
    DLC_TRY(dlc_job_begin(&p->job, dlc_cost_mul(cost, p->items), p->shared_bytes, own));
    dlc_team_run(p->job.threads, run_product_member, p);
    return DLC_OK;
}

/* The rows of a batch whose items share b and lie one after the other are the rows of one product. */
static void fold_batch(product *p)
{
    dlc_gemm *gemm = &p->gemm;
    while (p->batch_axes > 0) {
        int last = p->batch_axes - 1;
        if (p->stride[2][last] != 0 || p->stride[1][last] != gemm->m * gemm->a_row ||
            p->stride[0][last] != gemm->m * gemm->c_row)
            return;
        gemm->m *= p->extent[last];
        p->items /= p->extent[last];
        p->batch_axes--;
    }
}

/* The extent and stride of a batch axis of out along an operand, whose axes are aligned at the last. */
static int64_t batch_extent(const dlc_array *array, int32_t axis, int32_t ndim)
{
    axis -= ndim - array->ndim;
    return axis < 0 ? 1 : array->shape[axis];
}

static int64_t batch_stride(const dlc_array *array, int32_t axis, int32_t ndim)
{
    return batch_extent(array, axis, ndim) == 1 ? 0 : array->stride[axis - (ndim - array->ndim)];
}

dlc_status dlc_matmul_shape(int64_t *shape, int32_t *ndim, const dlc_array *a, const dlc_array *b)
{
    if (a->ndim < 2 || b->ndim < 2)
        return dlc_fail(DLC_INVALID_ARGUMENT, "%s has %d axes; a matrix product needs 2 or more",
                        a->ndim < 2 ? "a" : "b", a->ndim < 2 ? a->ndim : b->ndim);
    int64_t k = a->shape[a->ndim - 1];
    if (b->shape[b->ndim - 2] != k)
        return dlc_fail(DLC_INVALID_ARGUMENT, "a has %lld columns, but b has %lld rows", (long long)k,
                        (long long)b->shape[b->ndim - 2]);
    *ndim = a->ndim > b->ndim ? a->ndim : b->ndim;
    for (int32_t axis = 0; axis < *ndim - 2; axis++) {
        int64_t in_a = batch_extent(a, axis, *ndim), in_b = batch_extent(b, axis, *ndim);
        if (in_a != in_b && in_a != 1 && in_b != 1)
            return dlc_fail(DLC_INVALID_ARGUMENT, "a has extent %lld on a leading axis where b has %lld: they do not "
                            "broadcast", (long long)in_a, (long long)in_b);
        shape[axis] = in_a == 1 ? in_b : in_a;
    }
    shape[*ndim - 2] = a->shape[a->ndim - 2];
    shape[*ndim - 1] = b->shape[b->ndim - 1];
    int64_t count;
    return dlc_element_count(&count, shape, *ndim, "the product of a and b");
}

static dlc_status check_product(const dlc_array *out, const dlc_array *a, const dlc_array *b)
{
    int64_t shape[DLC_MAX_NDIM];
    int32_t ndim;
    if (!dlc_is_real(a->dtype) || b->dtype != a->dtype || out->dtype != a->dtype)
        return dlc_fail(DLC_INVALID_ARGUMENT, "out, a and b must all be float32 or all float64");
    DLC_TRY(dlc_matmul_shape(shape, &ndim, a, b));
    if (out->ndim != ndim)
        return dlc_fail(DLC_INVALID_ARGUMENT, "out has %d axes, but the product of a and b has %d", out->ndim, ndim);
    for (int32_t axis = 0; axis < ndim; axis++)
        if (out->shape[axis] != shape[axis])
            return dlc_fail(DLC_INVALID_ARGUMENT, "out has extent %lld on axis %d, but the product of a and b has %lld",
                            (long long)out->shape[axis], axis, (long long)shape[axis]);
    return DLC_OK;
}

/* Of arrays of one dtype */
static dlc_status check_float32(const dlc_array *array)
{
    if (array->dtype != DLC_FLOAT32)
        return dlc_fail(DLC_INVALID_ARGUMENT, "arrays that are multiplied in bfloat16 must be float32");
    return DLC_OK;
}

typedef struct matrix_pair {
    const dlc_array *a, *b;
    const dlc_gemm_kernels *kernels;
    const void *packed_b; /* or NULL */
} matrix_pair;

static dlc_status multiply_pair(const dlc_array *out, const void *pair);

/* Small products of no more rows and columns, and no deeper, deserve no team. */
#define ALONE_EXTENT 80

/* Whether a product is small and for one thread: 64 x 64 x 256 takes two 0.6 to 0.77 of the time. */
static bool is_small_and_alone(const dlc_gemm *gemm)
{
    return dlc_gemm_is_small(gemm) &&
           (dlc_max64(dlc_max64(gemm->m, gemm->n), gemm->k) <= ALONE_EXTENT ||
            dlc_threads_for(dlc_gemm_cost(gemm->m, gemm->n, gemm->k, gemm->element_size)) == 1);
}

/* Small products of two matrices are called for by the million: they are looked at before anything general. */
static bool multiply_small(const dlc_kernels *kernels, const dlc_array *out, const dlc_array *a, const dlc_array *b)
{
    if (out->ndim != 2 || a->ndim != 2 || b->ndim != 2 || a->dtype != out->dtype || b->dtype != out->dtype ||
        !dlc_is_real(out->dtype) || a->shape[1] != b->shape[0] || out->shape[0] != a->shape[0] ||
        out->shape[1] != b->shape[1] || (out->stride[1] != 1 && out->shape[1] > 1) || a->shape[0] < 0 ||
        a->shape[1] < 0 || b->shape[1] < 0)
        return false;
    dlc_gemm gemm = gemm_of(kernels->real[a->dtype]->gemm, a, b);
    set_output(&gemm, out->data, out->stride[0], gemm.m, gemm.n);
    if (!is_small_and_alone(&gemm))
        return false;
    dlc_gemm_run_small(&gemm);
    return true;
}

/* out = a @ b, which have been checked */
static dlc_status multiply(const dlc_array *out, const matrix_pair *pair)
{
    const dlc_array *a = pair->a, *b = pair->b;
    product p = {.items = 1, .batch_axes = out->ndim - 2, .gemm = gemm_of(pair->kernels, a, b)};
    for (int32_t axis = 0; axis < p.batch_axes; axis++)
        p.items *= out->shape[axis];
    int64_t row = out->stride[out->ndim - 2], col = out->stride[out->ndim - 1];
    int64_t m = p.gemm.m, n = p.gemm.n;
    if (p.items == 0 || m == 0 || n == 0)
        return DLC_OK;
    bool swapped = n > 1 && col != 1;
    if (swapped && ((m > 1 && row != 1) || pair->packed_b))
        return run_on_copy(out, multiply_pair, pair);
    if (swapped)
        swap_roles(&p.gemm);
    p.gemm.packed_b = pair->packed_b;
    set_output(&p.gemm, out->data, swapped ? col : row, p.gemm.m, p.gemm.n);

    const dlc_array *operands[3] = {out, swapped ? b : a, swapped ? a : b};
    for (int32_t axis = 0; axis < p.batch_axes; axis++) {
        p.extent[axis] = out->shape[axis];
        for (int i = 0; i < 3; i++)
            p.stride[i][axis] = batch_stride(operands[i], axis, out->ndim);
    }
    fold_batch(&p);
    return run_product(&p);
}

static dlc_status multiply_pair(const dlc_array *out, const void *pair) { return multiply(out, pair); }

dlc_status dlc_matmul(const dlc_array *out, const dlc_array *a, const dlc_array *b)
{
    const dlc_kernels *kernels;
    DLC_TRY(dlc_kernels_get(&kernels));
    if (multiply_small(kernels, out, a, b))
        return DLC_OK;
    DLC_TRY(check_product(out, a, b));
    return multiply(out, &(matrix_pair){a, b, kernels->real[out->dtype]->gemm, NULL});
}

dlc_status dlc_matmul_bfloat16(const dlc_array *out, const dlc_array *a, const dlc_array *b, const void *packed_b)
{
    const dlc_bfloat16_kernels *kernels;
    DLC_TRY(dlc_bfloat16_kernels_get(&kernels));
    DLC_TRY(check_product(out, a, b));
    DLC_TRY(check_float32(out));
    if (packed_b && b->ndim != 2)
        return dlc_fail(DLC_INVALID_ARGUMENT, "a packed b has %d axes; expected 2", b->ndim);
    return multiply(out, &(matrix_pair){a, b, kernels->gemm, packed_b});
}

dlc_status dlc_bfloat16_kind(const char **kind)
{
    const dlc_bfloat16_kernels *kernels;
    DLC_TRY(dlc_bfloat16_kernels_get(&kernels));
    *kind = kernels->kind;
    return DLC_OK;
}

typedef struct packing {
    dlc_gemm gemm;
    void *packed;
} packing;

static void pack_member(void *context, int thread, int n_threads)
{
    packing *call = context;
    dlc_gemm_pack_b(call->packed, &call->gemm, thread, n_threads);
}

/* The product of an a that has no rows and w (k, n) */
static dlc_status product_of(dlc_gemm *gemm, const dlc_array *w)
{
    const dlc_bfloat16_kernels *kernels;
    int64_t count;
    DLC_TRY(dlc_bfloat16_kernels_get(&kernels));
    if (w->ndim != 2)
        return dlc_fail(DLC_INVALID_ARGUMENT, "w has %d axes; expected 2", w->ndim);
    DLC_TRY(check_float32(w));
    DLC_TRY(dlc_element_count(&count, w->shape, w->ndim, "w"));
    const dlc_array a = {.dtype = w->dtype, .ndim = 2, .shape = {0, w->shape[0]}};
    *gemm = gemm_of(kernels->gemm, &a, w);
    return DLC_OK;
}

dlc_status dlc_packed_bytes(int64_t *bytes, const dlc_array *w)
{
    dlc_gemm gemm;
    DLC_TRY(product_of(&gemm, w));
    if (!dlc_gemm_packed_size(bytes, &gemm) || !dlc_size_mul(bytes, *bytes, gemm.element_size))
        return dlc_fail(DLC_OVERFLOW, "the bytes of w, packed, do not fit in 63 bits");
    return DLC_OK;
}

dlc_status dlc_pack_bfloat16(void *packed, const dlc_array *w)
{
    packing call = {.packed = packed};
    DLC_TRY(product_of(&call.gemm, w));
    dlc_team_run(dlc_threads_for(dlc_cost_mul(w->shape[0], w->shape[1])), pack_member, &call);
    return DLC_OK;
}

typedef struct linear_call {
    product product;
    const dlc_real_kernels *kernels;
    dlc_map_program program;
    dlc_array arrays[2]; /* out, b */
    char *registers;     /* of each thread */
    int64_t register_bytes;
} linear_call;

static void finish_linear(void *context, const dlc_gemm_block *block, int thread)
{
    linear_call *call = context;
    dlc_map_region(&call->program, call->kernels, call->arrays, block->row, block->col, block->rows,
                   block->cols, 1, call->registers + thread * call->register_bytes);
}

/* Bias and activation as a program whose register 0 is the product. */
static void linear_program(linear_call *call, const dlc_array *out, const dlc_array *b, int32_t activation,
                           double parameter)
{
    dlc_map_program *program = &call->program;
    dlc_map_program_init(program, out->dtype, 1, b ? 1 : 0, DLC_REDUCE_NONE);
    call->arrays[0] = *out;
    if (b) {
        call->arrays[1] = (dlc_array){b->data, b->dtype, 2, {1, b->shape[0]}, {0, b->stride[0]}};
        dlc_map_emit(program, DLC_MAP_ADD, 0, 0, 1, 0);
    }
    if (dlc_map_arity(activation) == 2) {
        program->literals[program->n_literals++] = (dlc_map_literal){parameter, 0};
        dlc_map_emit(program, activation, 0, 0, program->n_out + program->n_in, 0);
    } else if (activation != DLC_MAP_COPY) {
        dlc_map_emit(program, activation, 0, 0, 0, 0);
    }
}

static dlc_status check_linear(const dlc_array *out, const dlc_array *x, const dlc_array *w, const dlc_array *b,
                               int32_t activation)
{
    if (x->ndim != 2 || w->ndim != 2 || (b && b->ndim != 1) || out->ndim != 2)
        return dlc_fail(DLC_INVALID_ARGUMENT, "x, w and out must have 2 axes and b 1, but they have %d, %d, %d and %d",
                        x->ndim, w->ndim, out->ndim, b ? b->ndim : 1);
    if (!dlc_is_real(x->dtype) || w->dtype != x->dtype || out->dtype != x->dtype || (b && b->dtype != x->dtype))
        return dlc_fail(DLC_INVALID_ARGUMENT, "out, x, w and b must all be float32 or all float64");
    if (x->shape[1] != w->shape[0])
        return dlc_fail(DLC_INVALID_ARGUMENT, "x has %lld columns, but w has %lld rows", (long long)x->shape[1],
                        (long long)w->shape[0]);
    if (b && b->shape[0] != w->shape[1])
        return dlc_fail(DLC_INVALID_ARGUMENT, "b has %lld elements, but w has %lld columns", (long long)b->shape[0],
                        (long long)w->shape[1]);
    if (out->shape[0] != x->shape[0] || out->shape[1] != w->shape[1])
        return dlc_fail(DLC_INVALID_ARGUMENT, "out has shape (%lld, %lld); expected (%lld, %lld)",
                        (long long)out->shape[0], (long long)out->shape[1], (long long)x->shape[0],
                        (long long)w->shape[1]);
    if (activation < 0 || activation >= DLC_MAP_OP_COUNT || dlc_map_arity(activation) > 2)
        return dlc_fail(DLC_INVALID_ARGUMENT, "there is no activation with the code %d", activation);
    return DLC_OK;
}

typedef struct linear_arguments {
    const dlc_array *x, *w, *b;
    int32_t activation;
    double parameter;
    bool in_bfloat16;
    const void *packed_w;
} linear_arguments;

static dlc_status linear_from(const dlc_array *out, const void *context)
{
    const linear_arguments *arguments = context;
    return dlc_linear(out, arguments->x, arguments->w, arguments->b, arguments->activation, arguments->parameter,
                      arguments->in_bfloat16, arguments->packed_w);
}

static void run_linear_member(void *context, int thread, int n_threads)
{
    linear_call *call = context;
    dlc_job *job = &call->product.job;
    dlc_gemm_run(&call->product.gemm, job->shared, dlc_job_own(job, thread), &job->barrier, thread, n_threads);
}

static dlc_status run_small_linear(linear_call *call)
{
    const dlc_gemm *gemm = &call->product.gemm;
    if (gemm->finish) {
        DLC_TRY(dlc_job_begin(&call->product.job, 0, 0, call->register_bytes));
        call->registers = call->product.job.own;
    }
    dlc_gemm_run_small(gemm);
    if (gemm->finish)
        gemm->finish(call, &(dlc_gemm_block){gemm->c, gemm->c_row, 0, 0, gemm->m, gemm->n}, 0);
    return DLC_OK;
}

dlc_status dlc_linear(const dlc_array *out, const dlc_array *x, const dlc_array *w, const dlc_array *b,
                      int32_t activation, double parameter, bool in_bfloat16, const void *packed_w)
{
    const dlc_kernels *kernels;
    linear_call call;
    DLC_TRY(check_linear(out, x, w, b, activation));
    if (packed_w && !in_bfloat16)
        return dlc_fail(DLC_INVALID_ARGUMENT, "w is packed in bfloat16, but the product is not in bfloat16");
    if (in_bfloat16)
        DLC_TRY(check_float32(out));
    if (out->shape[0] == 0 || out->shape[1] == 0)
        return DLC_OK;
    if (out->stride[1] != 1 && out->shape[1] > 1)
        return run_on_copy(out, linear_from,
                           &(linear_arguments){x, w, b, activation, parameter, in_bfloat16, packed_w});
    DLC_TRY(dlc_kernels_get(&kernels));

    dlc_gemm *gemm = &call.product.gemm;
    call.kernels = kernels->real[out->dtype];
    *gemm = gemm_of(call.kernels->gemm, x, w);
    if (in_bfloat16) {
        const dlc_bfloat16_kernels *rounding;
        DLC_TRY(dlc_bfloat16_kernels_get(&rounding));
        gemm->kernels = rounding->gemm;
    }
    gemm->packed_b = packed_w;
    set_output(gemm, out->data, out->stride[0], gemm->m, gemm->n);
    linear_program(&call, out, b, activation, parameter);
    call.register_bytes = 0;
    if (call.program.n_instructions > 0) {
        int64_t none;
        gemm->finish = finish_linear;
        gemm->context = &call;
        dlc_map_scratch(&none, &call.register_bytes, &call.program, call.arrays, out->shape, 2);
    }
    if (is_small_and_alone(gemm))
        return run_small_linear(&call);
    gemm->is_one_row = gemm->m == 1;
    int64_t shared, own, cost = dlc_gemm_cost(gemm->m, gemm->n, gemm->k, gemm->element_size);
    dlc_gemm_scratch(&shared, &own, gemm);
    own = dlc_align_up(own);
    DLC_TRY(dlc_job_begin(&call.product.job, cost, shared, own + call.register_bytes));
    call.registers = call.product.job.own + own;
    call.register_bytes = call.product.job.own_bytes;
    dlc_team_run(call.product.job.threads, run_linear_member, &call);
    return DLC_OK;
}
