/* softmax and log_softmax along the last axis, whatever their strides. */
#include <string.h>

#include "cpu/transposed.h"
#include "ops_job.h"

typedef struct softmax_call {
    dlc_job job;
    const dlc_real_kernels *kernels;
    dlc_array out, x; /* two axes each, or more where their rows do not lie evenly */
    int64_t rows, cols;
    bool logarithm;
} softmax_call;

/* Makes one axis of those before the last, where that can be done. */
static void merge_rows(dlc_array *array, int64_t rows)
{
    int64_t stride = 0, count = 1;
    for (int32_t axis = array->ndim - 2; axis >= 0; axis--) {
        if (array->shape[axis] == 1)
            continue;
        if (count > 1 && array->stride[axis] != stride * count)
            return;
        if (count == 1)
            stride = array->stride[axis];
        count *= array->shape[axis];
    }
    *array = (dlc_array){array->data, array->dtype, 2, {rows, array->shape[array->ndim - 1]},
                         {stride, array->stride[array->ndim - 1]}};
}

static char *row_of(const dlc_array *array, int64_t row)
{
    int64_t offset = 0;
    for (int32_t axis = array->ndim - 2; axis >= 0; axis--) {
        offset += row % array->shape[axis] * array->stride[axis];
        row /= array->shape[axis];
    }
    return (char *)array->data + offset * dlc_dtype_size(array->dtype);
}

static bool has_even_rows(const dlc_array *array, int64_t cols)
{
    return array->ndim == 2 && (array->stride[1] == 1 || cols == 1);
}

static void softmax_rows(const softmax_call *call, void *out, int64_t ld_out, const void *x, int64_t ld_x, int64_t rows)
{
    if (call->logarithm)
        call->kernels->log_softmax(out, ld_out, x, ld_x, rows, call->cols);
    else
        call->kernels->softmax(out, ld_out, x, ld_x, rows, call->cols);
}

/* Whether elements are adjacent from row to row, as in a transposed matrix or along another axis than the last */
static bool has_adjacent_rows(const dlc_array *array)
{
    return array->ndim >= 2 && array->stride[array->ndim - 2] == 1 && array->stride[array->ndim - 1] > 0;
}

/* buffer (rows, cols) = rows of x from `row` on */
static void gather_rows(const softmax_call *call, char *buffer, int64_t row, int64_t rows)
{
    const dlc_array *x = &call->x;
    const int64_t cols = call->cols, size = dlc_dtype_size(x->dtype), stride = x->stride[x->ndim - 1];
    if (has_adjacent_rows(x))
        dlc_copy_transposed(call->kernels, size, buffer, cols, row_of(x, row), stride, rows, cols);
    else
        for (int64_t r = 0; r < rows; r++)
            call->kernels->convert[x->dtype](buffer + r * cols * size, row_of(x, row + r), stride, cols);
}

/* Rows of out from `row` on = buffer (rows, cols) */
static void scatter_rows(const softmax_call *call, const char *buffer, int64_t row, int64_t rows)
{
    const dlc_array *out = &call->out;
    const int64_t cols = call->cols, size = dlc_dtype_size(out->dtype), stride = out->stride[out->ndim - 1];
    if (has_adjacent_rows(out)) {
        dlc_copy_transposed(call->kernels, size, row_of(out, row), stride, buffer, cols, cols, rows);
        return;
    }
    for (int64_t r = 0; r < rows; r++, buffer += cols * size) {
        char *first = row_of(out, row + r);
        for (int64_t j = 0; j < cols; j++)
            memcpy(first + j * stride * size, buffer + j * size, (size_t)size);
    }
}

/* Rows that are staged at a time: a line of what is transposed, if they fit in a part of L2. */
static int64_t staged_rows(const softmax_call *call)
{
    enum { MOST_BYTES = 256 << 10 };
    const int64_t size = dlc_dtype_size(call->x.dtype), line = DLC_ALIGNMENT / size;
    if (!has_adjacent_rows(&call->x) && !has_adjacent_rows(&call->out))
        return 1;
    return dlc_max64(dlc_min64(line, MOST_BYTES / (call->cols * size)), 1);
}

/* The rows from `row` on that lie evenly in both arrays */
static int64_t even_rows(const softmax_call *call, int64_t row)
{
    const int64_t of_x = call->x.shape[call->x.ndim - 2], of_out = call->out.shape[call->out.ndim - 2];
    const int64_t inner = dlc_min64(of_x, of_out); /* the other's are as many, or have become one axis with those before */
    return inner - row % inner;
}

static void run_softmax_member(void *context, int thread, int n_threads)
{
    const softmax_call *call = context;
    const int64_t cols = call->cols;
    const bool reads = has_even_rows(&call->x, cols), writes = has_even_rows(&call->out, cols), staged = !reads || !writes;
    const int64_t at_once = staged ? staged_rows(call) : 1;
    int64_t begin, end;
    dlc_split(&begin, &end, call->rows, at_once, thread, n_threads);
    char *buffer = staged ? dlc_job_own(&call->job, thread) : NULL;
    for (int64_t row = begin, rows; row < end; row += rows) {
        rows = staged ? dlc_min64(at_once, even_rows(call, row)) : end - begin;
        rows = dlc_min64(rows, end - row);
        if (!reads)
            gather_rows(call, buffer, row, rows);
        softmax_rows(call, writes ? row_of(&call->out, row) : buffer, writes ? call->out.stride[0] : cols,
                     reads ? row_of(&call->x, row) : buffer, reads ? call->x.stride[0] : cols, rows);
        if (!writes)
            scatter_rows(call, buffer, row, rows);
    }
}

dlc_status dlc_softmax(const dlc_array *out, const dlc_array *x, bool logarithm)
{
    softmax_call call = {.out = *out, .x = *x, .rows = 1, .logarithm = logarithm};
    const dlc_kernels *kernels;
    int64_t count;
    if (!dlc_is_real(x->dtype) || out->dtype != x->dtype)
        return dlc_fail(DLC_INVALID_ARGUMENT, "x and out must both be float32 or both float64");
    if (x->ndim < 1 || out->ndim != x->ndim)
        return dlc_fail(DLC_INVALID_ARGUMENT, "x has %d axes and out %d; both need the same number, 1 or more", x->ndim,
                        out->ndim);
    for (int32_t axis = 0; axis < x->ndim; axis++)
        if (out->shape[axis] != x->shape[axis])
            return dlc_fail(DLC_INVALID_ARGUMENT, "out has extent %lld on axis %d, but x has %lld",
                            (long long)out->shape[axis], axis, (long long)x->shape[axis]);
    DLC_TRY(dlc_element_count(&count, x->shape, x->ndim, "x"));
    DLC_TRY(dlc_kernels_get(&kernels));
    if (count == 0)
        return DLC_OK;
    call.kernels = kernels->real[x->dtype];
    call.cols = x->shape[x->ndim - 1];
    call.rows = count / call.cols;
    merge_rows(&call.x, call.rows);
    merge_rows(&call.out, call.rows);
    const bool staged = !has_even_rows(&call.x, call.cols) || !has_even_rows(&call.out, call.cols);
    DLC_TRY(dlc_job_begin(&call.job, dlc_cost_mul(count, DLC_SOFTMAX_COST), 0,
                          staged ? staged_rows(&call) * call.cols * dlc_dtype_size(x->dtype) : 0));
    dlc_team_run(call.job.threads, run_softmax_member, &call);
    return DLC_OK;
}
