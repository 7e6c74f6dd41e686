#include "ops.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "map/map.h"
#include "ops_job.h"

/* What an element costs, where a loaded element or a flop counts one. */
enum { STEP_COST = 8, RANDOM_COST = 16 };

/* Threads share out flat arrays by pages' worth of elements. */
#define FLAT_GRAIN 1024

/* Scratch is kept by each calling thread from call to call: fresh pages cost more than a small product. */

typedef struct buffer {
    int64_t bytes;
    _Alignas(DLC_ALIGNMENT) char data[];
} buffer;

static pthread_key_t buffer_key;
static bool has_buffer_key;

static void make_buffer_key(void) { has_buffer_key = pthread_key_create(&buffer_key, free) == 0; }

static char *take_scratch(int64_t bytes)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_buffer_key);
    if (!has_buffer_key)
        return NULL;
    buffer *kept = pthread_getspecific(buffer_key);
    if (kept && kept->bytes >= bytes)
        return kept->data;
    free(kept);
    pthread_setspecific(buffer_key, NULL);
    kept = dlc_aligned_alloc((int64_t)sizeof *kept + bytes);
    if (!kept)
        return NULL;
    kept->bytes = bytes;
    if (pthread_setspecific(buffer_key, kept) != 0) {
        free(kept);
        return NULL;
    }
    return kept->data;
}

dlc_status dlc_job_begin(dlc_job *job, int64_t cost, int64_t shared_bytes, int64_t own_bytes)
{
    int64_t bytes;
    job->threads = dlc_threads_for(cost);
    job->own_bytes = dlc_align_up(own_bytes);
    shared_bytes = dlc_align_up(shared_bytes);
    if (!dlc_size_mul(&bytes, job->own_bytes, job->threads) || !dlc_size_add(&bytes, bytes, shared_bytes))
        return dlc_fail(DLC_OVERFLOW, "the scratch memory of %d threads does not fit in 63 bits", job->threads);
    job->shared = take_scratch(bytes);
    if (!job->shared)
        return dlc_fail(DLC_OUT_OF_MEMORY, "no memory for %lld bytes of scratch", (long long)bytes);
    job->own = job->shared + shared_bytes;
    memset(&job->barrier, 0, sizeof job->barrier);
    return DLC_OK;
}

static void count_member(void *context, int thread, int n_threads)
{
    if (thread == 0)
        *(int32_t *)context = n_threads;
}

int32_t dlc_team_size(int32_t requested)
{
    int32_t size = 0;
    dlc_team_run(requested, count_member, &size);
    return size;
}

/* Elementwise. */

typedef struct map_call {
    dlc_job job;
    const dlc_map_program *program;
    const dlc_real_kernels *kernels;
    const dlc_array *arrays;
    const int64_t *shape;
    int32_t ndim;
    int64_t rows;
} map_call;

static void run_map_member(void *context, int thread, int n_threads)
{
    map_call *call = context;
    dlc_map_run(call->program, call->kernels, call->arrays, call->shape, call->ndim,
                (dlc_map_rows){.all = call->rows, .here = call->rows}, call->job.shared,
                dlc_job_own(&call->job, thread), &call->job.barrier, thread, n_threads);
}

static dlc_status run_program(const dlc_map_program *program, const dlc_array *arrays, const int64_t *shape,
                              int32_t ndim, int64_t rows)
{
    map_call call = {.program = program, .arrays = arrays, .shape = shape, .ndim = ndim, .rows = rows};
    const dlc_kernels *kernels;
    int64_t shared, own;
    DLC_TRY(dlc_map_check(program, arrays, shape, ndim));
    DLC_TRY(dlc_kernels_get(&kernels));
    call.kernels = kernels->real[program->dtype];
    dlc_map_scratch(&shared, &own, program, arrays, shape, ndim);
    DLC_TRY(dlc_job_begin(&call.job, dlc_map_cost(program, shape, ndim), shared, own));
    dlc_team_run(call.job.threads, run_map_member, &call);
    return DLC_OK;
}

dlc_status dlc_run_map(const int64_t *words, int64_t n_words, const dlc_array *arrays, int32_t n_arrays,
                       const int64_t *shape, int32_t ndim, int64_t rows)
{
    dlc_map_program program;
    DLC_TRY(dlc_map_decode(&program, words, n_words, false));
    if (n_arrays != program.n_out + program.n_in)
        return dlc_fail(DLC_INVALID_ARGUMENT, "the map program has %d operands, but %d arrays came",
                        program.n_out + program.n_in, n_arrays);
    return run_program(&program, arrays, shape, ndim, rows);
}

/* *aligned = array with axes of extent 1 put before its own, as broadcasting does. */
static dlc_status prepend_axes(dlc_array *aligned, const dlc_array *array, int32_t ndim)
{
    int32_t missing = ndim - array->ndim;
    if (missing < 0)
        return dlc_fail(DLC_INVALID_ARGUMENT, "an input has %d axes, but out only %d", array->ndim, ndim);
    *aligned = *array;
    aligned->ndim = ndim;
    for (int32_t axis = 0; axis < ndim; axis++) {
        aligned->shape[axis] = axis < missing ? 1 : array->shape[axis - missing];
        aligned->stride[axis] = axis < missing ? 0 : array->stride[axis - missing];
    }
    return DLC_OK;
}

static dlc_status check_instruction(int32_t op)
{
    if (op < 0 || op >= DLC_MAP_OP_COUNT)
        return dlc_fail(DLC_INVALID_ARGUMENT, "there is no instruction with the code %d", op);
    return DLC_OK;
}

dlc_status dlc_map_instruction_info(const char **name, int32_t *arity, int32_t op)
{
    DLC_TRY(check_instruction(op));
    *name = dlc_map_name(op);
    *arity = dlc_map_arity(op);
    return DLC_OK;
}

/* Whether two arrays have one dtype and shape, lie in C order, and fill no more than a register: the most usual case. */
static bool are_small_and_flat(const dlc_array *array, const dlc_array *other, int64_t *count)
{
    if (array->dtype != other->dtype || array->ndim != other->ndim)
        return false;
    *count = 1;
    for (int32_t axis = array->ndim - 1; axis >= 0; axis--) {
        const int64_t extent = array->shape[axis];
        if (extent != other->shape[axis] || extent < 0 || extent > DLC_MAP_BLOCK_BYTES ||
            (extent > 1 && (array->stride[axis] != *count || other->stride[axis] != *count)))
            return false;
        *count *= extent;
        if (*count > DLC_MAP_BLOCK_BYTES / dlc_dtype_size(array->dtype))
            return false;
    }
    return true;
}

/* An instruction of one small array needs no program: to make it and to walk over it takes as long as 500 sigmoids. */
static bool apply_at_once(const dlc_kernels *kernels, const dlc_array *out, int32_t op, const dlc_array *x)
{
    int64_t count;
    if (!are_small_and_flat(out, x, &count))
        return false;
    kernels->real[out->dtype]->map[op](out->data, x->data, NULL, NULL, count, 0);
    return true;
}

dlc_status dlc_apply(const dlc_array *out, int32_t op, const dlc_array *inputs, bool out_is_new)
{
    dlc_map_program program;
    dlc_array arrays[4];
    const dlc_kernels *kernels;
    DLC_TRY(check_instruction(op));
    if (!dlc_is_real(out->dtype))
        return dlc_fail(DLC_INVALID_ARGUMENT, "out must be float32 or float64");
    DLC_TRY(dlc_kernels_get(&kernels));
    int arity = dlc_map_arity(op);
    if (arity == 1 && apply_at_once(kernels, out, op, &inputs[0]))
        return DLC_OK;
    arrays[0] = *out;
    for (int i = 0; i < arity; i++)
        DLC_TRY(prepend_axes(&arrays[1 + i], &inputs[i], out->ndim));
    dlc_map_program_init(&program, out->dtype, 1, arity, DLC_REDUCE_NONE);
    dlc_map_emit(&program, (dlc_map_op)op, 0, 1, 2, 3);
    program.new_outputs = out_is_new;
    return run_program(&program, arrays, out->shape, out->ndim, 1);
}

/* Losses. */

/* *mean = mean over `shape` of what a program writes to register 0; arrays[0] is the program's to set. */
static dlc_status run_mean(double *mean, const dlc_map_program *program, dlc_array *arrays, const int64_t *shape,
                           int32_t ndim)
{
    double result = 0;
    arrays[0] = (dlc_array){.data = &result, .dtype = program->dtype, .ndim = ndim};
    for (int32_t axis = 0; axis < ndim; axis++)
        arrays[0].shape[axis] = 1;
    DLC_TRY(run_program(program, arrays, shape, ndim, 1));
    if (program->dtype == DLC_FLOAT32) {
        float single;
        memcpy(&single, &result, sizeof single);
        result = single;
    }
    *mean = result;
    return DLC_OK;
}

static dlc_status check_weight(const dlc_array *weight, int64_t n)
{
    if (weight->ndim != 1 || weight->shape[0] != n)
        return dlc_fail(DLC_INVALID_ARGUMENT, "sample_weight must have shape (%lld,), one weight for each sample",
                        (long long)n);
    return DLC_OK;
}

/* Turns mean(w l) into sum(w l) / sum(w). */
static dlc_status divide_by_weight(double *loss, int32_t dtype, const dlc_array *weight)
{
    dlc_map_program program;
    dlc_array arrays[2] = {{0}, *weight};
    double mean;
    dlc_map_program_init(&program, dtype, 1, 1, DLC_REDUCE_MEAN);
    dlc_map_emit(&program, DLC_MAP_COPY, 0, 1, 0, 0);
    DLC_TRY(run_mean(&mean, &program, arrays, weight->shape, 1));
    if (mean == 0)
        return dlc_fail(DLC_INVALID_ARGUMENT, "sample_weight must not sum to zero");
    *loss /= mean;
    return DLC_OK;
}

static int add_literal(dlc_map_program *program, double value)
{
    program->literals[program->n_literals] = (dlc_map_literal){value, 0};
    return program->n_out + program->n_in + program->n_literals++;
}

static int add_temp(dlc_map_program *program)
{
    return program->n_out + program->n_in + program->n_literals + program->n_temps++;
}

/* Register 0 = the loss of each element of pred (register 1) and target (register 2). */
static void emit_loss(dlc_map_program *program, dlc_loss kind, double delta)
{
    enum { OUT, PRED, TARGET };
    if (kind == DLC_LOSS_BINARY_CROSS_ENTROPY) {
        /* max(p, 0) - t p + log(1 + exp(-|p|)), in which nothing large cancels for targets of 0 and 1 */
        int tail = add_temp(program), product = add_temp(program);
        dlc_map_emit(program, DLC_MAP_ABSOLUTE, tail, PRED, 0, 0);
        dlc_map_emit(program, DLC_MAP_NEGATIVE, tail, tail, 0, 0);
        dlc_map_emit(program, DLC_MAP_SOFTPLUS, tail, tail, 0, 0);
        dlc_map_emit(program, DLC_MAP_MULTIPLY, product, TARGET, PRED, 0);
        dlc_map_emit(program, DLC_MAP_RELU, OUT, PRED, 0, 0);
        dlc_map_emit(program, DLC_MAP_SUBTRACT, OUT, OUT, product, 0);
        dlc_map_emit(program, DLC_MAP_ADD, OUT, OUT, tail, 0);
        return;
    }
    dlc_map_emit(program, DLC_MAP_SUBTRACT, OUT, PRED, TARGET, 0);
    if (kind == DLC_LOSS_MSE) {
        dlc_map_emit(program, DLC_MAP_SQUARE, OUT, OUT, 0, 0);
        return;
    }
    dlc_map_emit(program, DLC_MAP_ABSOLUTE, OUT, OUT, 0, 0);
    if (kind == DLC_LOSS_HUBER) {
        /* c (d - c / 2), where c = min(d, delta) */
        int limit = add_literal(program, delta), minus_half = add_literal(program, -0.5);
        int clipped = add_temp(program);
        dlc_map_emit(program, DLC_MAP_MINIMUM, clipped, OUT, limit, 0);
        dlc_map_emit(program, DLC_MAP_MULTIPLY_ADD, OUT, clipped, minus_half, OUT);
        dlc_map_emit(program, DLC_MAP_MULTIPLY, OUT, OUT, clipped, 0);
    }
}

dlc_status dlc_elementwise_loss(double *loss, int32_t kind, const dlc_array *pred, const dlc_array *target,
                                const dlc_array *weight, double delta)
{
    dlc_map_program program;
    dlc_array arrays[4] = {{0}, *pred, *target};
    if (kind < 0 || kind >= DLC_LOSS_COUNT)
        return dlc_fail(DLC_INVALID_ARGUMENT, "there is no loss with the code %d", kind);
    if (!dlc_is_real(pred->dtype) || !dlc_is_real(target->dtype))
        return dlc_fail(DLC_INVALID_ARGUMENT, "pred and target must be float32 or float64");
    bool same = pred->ndim == target->ndim;
    for (int32_t axis = 0; same && axis < pred->ndim; axis++)
        same = pred->shape[axis] == target->shape[axis];
    if (!same)
        return dlc_fail(DLC_INVALID_ARGUMENT, "pred and target must have the same shape");
    int32_t dtype = pred->dtype > target->dtype ? pred->dtype : target->dtype;
    dlc_map_program_init(&program, dtype, 1, weight ? 3 : 2, DLC_REDUCE_MEAN);
    emit_loss(&program, (dlc_loss)kind, delta);
    if (!weight)
        return run_mean(loss, &program, arrays, pred->shape, pred->ndim);

    if (pred->ndim == 0)
        return dlc_fail(DLC_INVALID_ARGUMENT, "sample_weight was given, but pred has no axis of samples");
    DLC_TRY(check_weight(weight, pred->shape[0]));
    arrays[3] = (dlc_array){weight->data, weight->dtype, pred->ndim, {weight->shape[0]}, {weight->stride[0]}};
    for (int32_t axis = 1; axis < pred->ndim; axis++)
        arrays[3].shape[axis] = 1;
    dlc_map_emit(&program, DLC_MAP_MULTIPLY, 0, 0, 3, 0);
    DLC_TRY(run_mean(loss, &program, arrays, pred->shape, pred->ndim));
    return divide_by_weight(loss, dtype, weight);
}

typedef struct cross_entropy_call {
    dlc_job job;
    const dlc_real_kernels *kernels;
    const dlc_array *logits, *target;
    char *losses; /* of the rows */
} cross_entropy_call;

static void run_cross_entropy_member(void *context, int thread, int n_threads)
{
    const cross_entropy_call *call = context;
    const dlc_array *logits = call->logits, *target = call->target;
    bool labelled = target->dtype == DLC_INT64;
    int64_t begin, end, size = dlc_dtype_size(logits->dtype);
    dlc_split(&begin, &end, logits->shape[0], 16, thread, n_threads);
    const char *target_row = (const char *)target->data + begin * target->stride[0] * dlc_dtype_size(target->dtype);
    call->kernels->softmax_loss(call->losses + begin * size, NULL, 0,
                                (const char *)logits->data + begin * logits->stride[0] * size, logits->stride[0],
                                labelled ? (const int64_t *)target_row : NULL, labelled ? NULL : target_row,
                                labelled ? 0 : target->stride[0], NULL, 0, end - begin, logits->shape[1]);
}

static dlc_status check_labels(const int64_t *labels, int64_t n, int64_t classes)
{
    for (int64_t i = 0; i < n; i++)
        if (labels[i] < 0 || labels[i] >= classes)
            return dlc_fail(DLC_INVALID_ARGUMENT,
                            "target[%lld] is %lld, but pred has %lld columns: labels are 0 to %lld", (long long)i,
                            (long long)labels[i], (long long)classes, (long long)classes - 1);
    return DLC_OK;
}

static dlc_status check_cross_entropy(const dlc_array *logits, const dlc_array *target)
{
    if (logits->ndim != 2 || !dlc_is_real(logits->dtype))
        return dlc_fail(DLC_INVALID_ARGUMENT, "pred must be float32 or float64 of shape (n, classes)");
    int64_t n = logits->shape[0], classes = logits->shape[1];
    bool labelled = target->dtype == DLC_INT64 && target->ndim == 1;
    if (!labelled && (target->dtype != logits->dtype || target->ndim != 2 || target->shape[1] != classes))
        return dlc_fail(DLC_INVALID_ARGUMENT,
                        "target must be integer labels of shape (%lld,) or class weights of shape (%lld, %lld)",
                        (long long)n, (long long)n, (long long)classes);
    if (target->shape[0] != n)
        return dlc_fail(DLC_INVALID_ARGUMENT, "target has %lld rows, but pred has %lld", (long long)target->shape[0],
                        (long long)n);
    bool contiguous = (classes == 1 || logits->stride[1] == 1) &&
                      (target->shape[target->ndim - 1] == 1 || target->stride[target->ndim - 1] == 1);
    if (n > 0 && classes > 0 && !contiguous)
        return dlc_fail(DLC_INVALID_ARGUMENT, "the rows of pred and target must be contiguous");
    return labelled ? check_labels(target->data, n, classes) : DLC_OK;
}

/* *loss = the mean of the rows' losses, weighted */
static dlc_status mean_of_losses(double *loss, const dlc_array *losses, const dlc_array *weight)
{
    dlc_map_program program;
    dlc_array arrays[3] = {{0}, *losses};
    dlc_map_program_init(&program, losses->dtype, 1, weight ? 2 : 1, DLC_REDUCE_MEAN);
    if (weight) {
        arrays[2] = *weight;
        dlc_map_emit(&program, DLC_MAP_MULTIPLY, 0, 1, 2, 0);
    } else {
        dlc_map_emit(&program, DLC_MAP_COPY, 0, 1, 0, 0);
    }
    DLC_TRY(run_mean(loss, &program, arrays, losses->shape, 1));
    return weight ? divide_by_weight(loss, losses->dtype, weight) : DLC_OK;
}

dlc_status dlc_cross_entropy(double *loss, const dlc_array *logits, const dlc_array *target,
                             const dlc_array *weight)
{
    cross_entropy_call call = {.logits = logits, .target = target};
    const dlc_kernels *kernels;
    DLC_TRY(check_cross_entropy(logits, target));
    int64_t n = logits->shape[0];
    if (weight)
        DLC_TRY(check_weight(weight, n));
    DLC_TRY(dlc_kernels_get(&kernels));
    call.kernels = kernels->real[logits->dtype];
    call.losses = dlc_aligned_alloc(dlc_max64(n, 1) * dlc_dtype_size(logits->dtype));
    if (!call.losses)
        return dlc_fail(DLC_OUT_OF_MEMORY, "no memory for the losses of %lld rows", (long long)n);
    int64_t cost = dlc_cost_mul(dlc_cost_mul(n, logits->shape[1]), DLC_SOFTMAX_COST);
    dlc_status status = dlc_job_begin(&call.job, cost, 0, 0);
    if (status == DLC_OK) {
        const dlc_array losses = {call.losses, logits->dtype, 1, {n}, {1}};
        dlc_team_run(call.job.threads, run_cross_entropy_member, &call);
        status = mean_of_losses(loss, &losses, weight);
    }
    free(call.losses);
    return status;
}

/* Steps and random arrays: flat arrays, cut into ranges. */

typedef struct flat_call {
    dlc_job job;
    const dlc_real_kernels *kernels;
    int64_t size, n;
    void (*run)(const struct flat_call *call, int64_t begin, int64_t n);
    char *arrays[2 + DLC_STEP_MAX_STATES];
    int32_t step_kind;
    const dlc_step_options *options;
    const double *scalars;
    int32_t random_kind;
    double keep;
    uint64_t seed, step;
    uint32_t stream;
} flat_call;

static void run_flat_member(void *context, int thread, int n_threads)
{
    const flat_call *call = context;
    int64_t begin, end;
    dlc_split(&begin, &end, call->n, FLAT_GRAIN, thread, n_threads);
    if (begin < end)
        call->run(call, begin, end - begin);
}

static dlc_status run_flat(flat_call *call, int32_t dtype, int64_t cost)
{
    const dlc_kernels *kernels;
    if (!dlc_is_real(dtype))
        return dlc_fail(DLC_INVALID_ARGUMENT, "arrays must be float32 or float64");
    DLC_TRY(dlc_kernels_get(&kernels));
    call->kernels = kernels->real[dtype];
    call->size = dlc_dtype_size(dtype);
    DLC_TRY(dlc_job_begin(&call->job, dlc_cost_mul(call->n, cost), 0, 0));
    dlc_team_run(call->job.threads, run_flat_member, call);
    return DLC_OK;
}

static char *flat_element(const flat_call *call, int array, int64_t index)
{
    return call->arrays[array] ? call->arrays[array] + index * call->size : NULL;
}

static void run_step(const flat_call *call, int64_t begin, int64_t n)
{
    dlc_step_part part = {.arrays = {.param = flat_element(call, 0, begin), .grad = flat_element(call, 1, begin)}, .n = n};
    for (int state = 0; state < DLC_STEP_MAX_STATES; state++)
        part.arrays.states[state] = flat_element(call, 2 + state, begin);
    call->kernels->step[call->step_kind](&part, call->options, call->scalars);
}

dlc_status dlc_optimizer_step(int32_t dtype, int32_t kind, const dlc_step_arrays *arrays,
                              const dlc_step_options *options, const double *scalars, int64_t n)
{
    if (kind < 0 || kind >= DLC_STEP_COUNT)
        return dlc_fail(DLC_INVALID_ARGUMENT, "there is no optimiser step with the code %d", (int)kind);
    flat_call call = {
        .n = n,
        .run = run_step,
        .arrays = {arrays->param, (char *)(uintptr_t)arrays->grad},
        .step_kind = kind,
        .options = options,
        .scalars = scalars,
    };
    for (int state = 0; state < DLC_STEP_MAX_STATES; state++)
        call.arrays[2 + state] = arrays->states[state];
    return run_flat(&call, dtype, STEP_COST);
}

static void run_random(const flat_call *call, int64_t begin, int64_t n)
{
    const dlc_real_kernels *kernels = call->kernels;
    char *out = flat_element(call, 0, begin);
    switch (call->random_kind) {
    case DLC_RANDOM_FILL_UNIFORM:
        kernels->uniform(out, call->seed, call->stream, call->step, begin, n);
        return;
    case DLC_RANDOM_FILL_NORMAL:
        kernels->normal(out, call->seed, call->stream, call->step, begin, n);
        return;
    default:
        kernels->keep_mask(out, call->keep, call->seed, call->stream, call->step, begin, n);
    }
}

dlc_status dlc_random_fill(int32_t dtype, void *out, int64_t n, int32_t kind, double keep, uint64_t seed,
                           uint32_t stream, uint64_t step)
{
    if (kind < DLC_RANDOM_FILL_UNIFORM || kind > DLC_RANDOM_FILL_KEEP_MASK)
        return dlc_fail(DLC_INVALID_ARGUMENT, "there is no kind of random array with the code %d", kind);
    if (kind == DLC_RANDOM_FILL_KEEP_MASK && !(keep > 0 && keep <= 1))
        return dlc_fail(DLC_INVALID_ARGUMENT, "keep is %g; expected more than 0 and at most 1", keep);
    flat_call call = {
        .n = n,
        .run = run_random,
        .arrays = {out},
        .random_kind = kind,
        .keep = keep,
        .seed = seed,
        .step = step,
        .stream = stream,
    };
    return run_flat(&call, dtype, RANDOM_COST);
}
