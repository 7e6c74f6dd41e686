/* GATHER: out (rows, d...) = the rows of in (dataset rows, d...), a DATASET, that the run's order names.
 *
 * Without attributes, out is float32 or float64 and in any dtype, or both have one dtype. With the attributes low and
 * high, out is int64 and every value is checked to be an integer in [low, high): labels are trusted from here on. */
#include "plan/builtin.h"
#include "plan/index.h"
#include "plan/operand.h"

static dlc_status check(dlc_op *op, const dlc_array *args, const dlc_operand *operands)
{
    const dlc_array *out = &args[0], *in = &args[1];
    DLC_TRY(dlc_expect_operands(op, 1, 1, op->n_attributes == 0 ? 0 : 2));
    if (operands[1].slot_kind != DLC_SLOT_DATASET)
        return dlc_fail(DLC_INVALID_PLAN, "its input does not lie in a DATASET slot");
    if (out->ndim < 1 || !dlc_same_shape(out, &operands[0], in, &operands[1]))
        return dlc_fail(DLC_INVALID_PLAN, "output and input differ in shape");
    if (!dlc_is_contiguous(out, &operands[0], 1) || !dlc_is_contiguous(in, &operands[1], 1))
        return dlc_fail(DLC_INVALID_PLAN, "rows are not contiguous");
    if (op->n_attributes == 2 && out->dtype != DLC_INT64)
        return dlc_fail(DLC_INVALID_PLAN, "its output has dtype %d; labels are int64", (int)out->dtype);
    if (op->n_attributes == 2 && op->attributes[0] >= op->attributes[1])
        return dlc_fail(DLC_INVALID_PLAN, "its labels lie in [%lld, %lld), which is empty",
                        (long long)op->attributes[0], (long long)op->attributes[1]);
    if (op->n_attributes == 0 && out->dtype != in->dtype && !dlc_is_real(out->dtype))
        return dlc_fail(DLC_INVALID_PLAN, "it cannot convert dtype %d to %d", (int)in->dtype, (int)out->dtype);
    return DLC_OK;
}

static int64_t cost(const dlc_op *op, const dlc_array *args)
{
    (void)op;
    return dlc_count(&args[0]);
}

/* Rows [begin, end) of a step: which they are, where they lie and where they go. A copy, which stores cannot change: read
 * from the call, each of its fields was loaded anew for each row, a third of the time of rows of ten numbers. */
typedef struct gathering {
    char *out;
    const char *in;
    int64_t out_row, in_row; /* bytes from row to row */
    int64_t width;           /* elements of a row */
    const int64_t *order;
    int64_t first_row, in_rows;
    int64_t begin, end;
} gathering;

static gathering find_rows(const dlc_op_call *call)
{
    const dlc_array *out = &call->args[0], *in = &call->args[1];
    gathering rows = {.out = out->data,
                      .in = in->data,
                      .out_row = out->stride[0] * dlc_dtype_size(out->dtype),
                      .in_row = in->stride[0] * dlc_dtype_size(in->dtype),
                      .width = dlc_count_from(out, 1),
                      .order = call->step->order,
                      .first_row = call->step->first_row,
                      .in_rows = in->shape[0]};
    if (rows.width > 0)
        dlc_split(&rows.begin, &rows.end, out->shape[0], dlc_max64(1, DLC_SHARED_ELEMENTS / rows.width), call->thread,
                  call->n_threads);
    return rows;
}

static inline int64_t row_at(const gathering *rows, int64_t i) { return rows->order ? rows->order[i] : rows->first_row + i; }
static inline bool exists(const gathering *rows, int64_t row) { return (uint64_t)row < (uint64_t)rows->in_rows; }

static dlc_status fail_row(const gathering *rows, int64_t row)
{
    return dlc_fail(DLC_INVALID_ARGUMENT, "the order names row %lld; the data set has %lld rows", (long long)row,
                    (long long)rows->in_rows);
}

/* Rows that lie one behind the other in both arrays become one. */
static void merge_rows(gathering *rows, int64_t out_size, int64_t in_size)
{
    const int64_t n = rows->end - rows->begin, first = rows->first_row + rows->begin;
    if (rows->order || n < 2 || rows->out_row != rows->width * out_size || rows->in_row != rows->width * in_size ||
        !exists(rows, first) || !exists(rows, first + n - 1))
        return;
    rows->width *= n;
    rows->end = rows->begin + 1;
}

/* Rows in any order that are longer than FETCHED_ROW are fetched two ahead, the first MOST_FETCHED bytes of them: processors
 * fetch what follows, but not what comes first. 784-256-128-10 takes 1% less time, and 4% less on two threads. Rows of 64
 * numbers come soon enough, and lose 1%; rows that are converted gain nothing. */
#define FETCHED_ROW 1024
#define MOST_FETCHED 4096

static void fetch_row(const gathering *rows, int64_t i, int64_t bytes)
{
    if (!rows->order || bytes <= FETCHED_ROW || i >= rows->end || !exists(rows, rows->order[i]))
        return;
    const char *row = rows->in + rows->order[i] * rows->in_row, *end = row + dlc_min64(bytes, MOST_FETCHED);
    for (; row < end; row += DLC_ALIGNMENT)
        __builtin_prefetch(row);
}

static dlc_status copy_long_rows(gathering rows, int64_t bytes)
{
    for (int64_t i = rows.begin; i < rows.end; i++) {
        const int64_t row = row_at(&rows, i);
        if (!exists(&rows, row))
            return fail_row(&rows, row);
        fetch_row(&rows, i + 2, bytes);
        memcpy(rows.out + i * rows.out_row, rows.in + row * rows.in_row, (size_t)bytes);
    }
    return DLC_OK;
}

/* Rows of piece to 2 piece bytes: two pieces that may overlap, without a call. `piece` is a constant. */
static inline __attribute__((always_inline)) dlc_status copy_short_rows(gathering rows, int64_t bytes, const int piece)
{
    char *out = rows.out + rows.begin * rows.out_row;
    for (int64_t i = rows.begin; i < rows.end; i++, out += rows.out_row) {
        const int64_t row = row_at(&rows, i);
        if (!exists(&rows, row))
            return fail_row(&rows, row);
        const char *in = rows.in + row * rows.in_row;
        memcpy(out, in, piece);
        memcpy(out + bytes - piece, in + bytes - piece, piece);
    }
    return DLC_OK;
}

static dlc_status copy_rows(gathering rows, int64_t size)
{
    const int64_t bytes = rows.width * size;
    if (bytes > 64)
        return copy_long_rows(rows, bytes);
    if (bytes >= 32)
        return copy_short_rows(rows, bytes, 32);
    if (bytes >= 16)
        return copy_short_rows(rows, bytes, 16);
    if (bytes >= 8)
        return copy_short_rows(rows, bytes, 8);
    if (bytes >= 4)
        return copy_short_rows(rows, bytes, 4);
    if (bytes >= 2)
        return copy_short_rows(rows, bytes, 2);
    return copy_short_rows(rows, bytes, 1);
}

static dlc_status convert_rows(gathering rows, dlc_convert_kernel *convert)
{
    for (int64_t i = rows.begin; i < rows.end; i++) {
        const int64_t row = row_at(&rows, i);
        if (!exists(&rows, row))
            return fail_row(&rows, row);
        convert(rows.out + i * rows.out_row, rows.in + row * rows.in_row, 1, rows.width);
    }
    return DLC_OK;
}

static dlc_status read_labels(const gathering *rows, int32_t dtype, const dlc_op *op, int64_t i, int64_t row)
{
    const dlc_index_range range = {"label", "in row", op->attributes[0], op->attributes[1]};
    const int64_t size = dlc_dtype_size(dtype);
    int64_t *out = (int64_t *)(rows->out + i * rows->out_row);
    const char *in = rows->in + row * rows->in_row;
    for (int64_t j = 0; j < rows->width; j++)
        DLC_TRY(dlc_read_indices(&out[j], in + j * size, dtype, 1, 1, &range, row));
    return DLC_OK;
}

/* What labels mostly are: an int64 for each row. Returns which row is the first that cannot be gathered; rows.end: none. */
static int64_t copy_plain_labels(const gathering rows, uint64_t low, uint64_t count)
{
    int64_t i = rows.begin;
    for (; i < rows.end; i++) {
        const int64_t row = row_at(&rows, i);
        if (!exists(&rows, row))
            break;
        const int64_t label = *(const int64_t *)(rows.in + row * rows.in_row);
        if ((uint64_t)label - low >= count)
            break;
        *(int64_t *)(rows.out + i * rows.out_row) = label;
    }
    return i;
}

static dlc_status gather_labels(gathering rows, int32_t dtype, const dlc_op *op)
{
    const uint64_t low = (uint64_t)op->attributes[0], count = (uint64_t)op->attributes[1] - low;
    if (dtype == DLC_INT64 && rows.width == 1)
        rows.begin = copy_plain_labels(rows, low, count);
    for (int64_t i = rows.begin; i < rows.end; i++) {
        const int64_t row = row_at(&rows, i);
        if (!exists(&rows, row))
            return fail_row(&rows, row);
        DLC_TRY(read_labels(&rows, dtype, op, i, row));
    }
    return DLC_OK;
}

static dlc_status run(const dlc_op_call *call)
{
    gathering rows = find_rows(call);
    const int32_t to = call->args[0].dtype, from = call->args[1].dtype;
    if (call->op->n_attributes == 2)
        return gather_labels(rows, from, call->op);
    merge_rows(&rows, dlc_dtype_size(to), dlc_dtype_size(from));
    if (to == from)
        return copy_rows(rows, dlc_dtype_size(to));
    return convert_rows(rows, call->step->kernels->real[to]->convert[from]);
}

static dlc_row_role row_role(const dlc_op *op, const dlc_operand *operands)
{
    (void)op;
    (void)operands;
    return DLC_ROWS_APART;
}

const dlc_op_def dlc_gather_def = {
    .name = "gather",
    .opcode = DLC_OP_GATHER,
    .reads_dataset = true,
    .can_fail = true,
    .check = check,
    .cost = cost,
    .row_role = row_role,
    .run = run,
};
