/* TAKE: out (outer, n, inner) = the rows of source (outer, extent, inner) that index (outer or 1, n) names:
 * out[o, j, :] = source[o, index[o, j], :].
 *
 * ins source, index; no attributes. Output and source have one dtype, any, and inner is contiguous in both. The index is
 * of any dtype but bool; its values are checked to be integers in [-extent, extent), negative ones from the end. */
#include "plan/builtin.h"
#include "plan/index.h"
#include "plan/operand.h"

static dlc_status check(dlc_op *op, const dlc_array *args, const dlc_operand *operands)
{
    return dlc_check_indexed(op, args, operands, 1, 0);
}

/* About what reading and checking an index costs beside a load. */
enum { COST_OF_INDEX = 4 };

static int64_t cost(const dlc_op *op, const dlc_array *args)
{
    (void)op;
    return dlc_cost_add(dlc_count(&args[0]), dlc_cost_mul(COST_OF_INDEX, args[0].shape[0] * args[0].shape[1]));
}

/* Rows of out, out_step bytes apart, = the named rows of in, of `bytes` bytes each. */
static inline __attribute__((always_inline)) void copy_rows(char *out, int64_t out_step, const char *in,
                                                            int64_t in_step, const dlc_row_block *block,
                                                            int64_t bytes)
{
    for (int64_t i = 0; i < block->count; i++)
        memcpy(out + i * out_step, in + block->rows[i] * in_step, (size_t)bytes);
}

static void take_rows(char *out, int64_t out_step, const char *in, int64_t in_step, const dlc_row_block *block,
                      int64_t bytes)
{
    switch (bytes) { /* a copy of constant size is an instruction, another one a call */
    case 1:
        copy_rows(out, out_step, in, in_step, block, 1);
        break;
    case 4:
        copy_rows(out, out_step, in, in_step, block, 4);
        break;
    case 8:
        copy_rows(out, out_step, in, in_step, block, 8);
        break;
    case 16:
        copy_rows(out, out_step, in, in_step, block, 16);
        break;
    default:
        copy_rows(out, out_step, in, in_step, block, bytes);
    }
}

static dlc_status run(const dlc_op_call *call)
{
    const dlc_array *out = &call->args[0], *source = &call->args[1], *index = &call->args[2];
    int64_t n = out->shape[1], inner = out->shape[2], size = dlc_dtype_size(out->dtype);
    int64_t begin, end;
    dlc_row_block block;
    block.count = 0;
    dlc_split(&begin, &end, out->shape[0] * n, dlc_max64(1, DLC_SHARED_ELEMENTS / dlc_max64(1, inner)), call->thread,
              call->n_threads);
    while (begin < end) {
        int64_t o = begin / n, j = begin % n;
        int64_t count = dlc_min64(dlc_min64(n - j, end - begin), DLC_ROW_BLOCK);
        DLC_TRY(dlc_read_rows(&block, index, o, j, count, source->shape[1]));
        if (inner > 0)
            take_rows((char *)out->data + (o * out->stride[0] + j * out->stride[1]) * size, out->stride[1] * size,
                      (const char *)source->data + o * source->stride[0] * size, source->stride[1] * size, &block,
                      inner * size);
        begin += count;
    }
    return DLC_OK;
}

const dlc_op_def dlc_take_def = {
    .name = "take",
    .opcode = DLC_OP_TAKE,
    .can_fail = true,
    .check = check,
    .cost = cost,
    .run = run,
};
