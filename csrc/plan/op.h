/* What an op is to the plan: how its records are checked, what scratch it needs, how it runs. The executor knows
 * ops only through this table; a new one is added with dlc_op_register and nothing else changes. */
#ifndef DLC_PLAN_OP_H
#define DLC_PLAN_OP_H

#include "core/sizes.h"
#include "cpu/kernels.h"
#include "plan/record.h"
#include "threads.h"

/* Opcodes stand in saved plans: they are never reused. Codes from DLC_OP_FIRST_CUSTOM on are for ops that are
 * registered at run time. The file of an op (op_gather.c, ...) states its operands and attributes in full. */
enum {
    DLC_OP_GATHER = 1,       /* out (rows, ...) = rows of in at the run's order; attr: low, high of labels, or none */
    DLC_OP_GEMM = 2,         /* outs c, ...[, sums]; ins a, b, ...; attr: accumulate, then the map program of the store */
    DLC_OP_MAP = 3,          /* outs, ins of a map program; attr: its words */
    DLC_OP_SOFTMAX = 4,      /* out = softmax over the last axis of in; attr: 1 for log_softmax */
    DLC_OP_SOFTMAX_LOSS = 5, /* outs loss, grad, mean; ins logits, target[, scale]; attr: which outs, a scale */
    DLC_OP_RANDOM = 6,       /* out; attr: kind, stream, bits of the double keep */
    DLC_OP_SGD_STEP = 7,     /* outs param, states; ins grad, scalars; attr: options; the same for every step */
    DLC_OP_ADAM_STEP = 8,
    DLC_OP_TAKE = 9,         /* out; ins source, index: out[o, j, :] = source[o, index[o, j], :] */
    DLC_OP_SCATTER_ADD = 10, /* out; ins g, index: out = 0, then out[o, index[o, j], :] += g[o, j, :] */
    DLC_OP_GEMM_STEP = 11,   /* outs of a step[, sums]; ins a, b, scalars: the step by a gradient a @ b; attr: its opcode and its own */
    DLC_OP_NADAM_STEP = 20,
    DLC_OP_RADAM_STEP = 21,
    DLC_OP_RMSPROP_STEP = 22,
    DLC_OP_ADAGRAD_STEP = 23,
    DLC_OP_ADADELTA_STEP = 24,
    DLC_OP_LION_STEP = 25,
    DLC_OP_FIRST_CUSTOM = 4096
};

/* An op of a loaded plan. */
typedef struct dlc_op {
    const struct dlc_op_def *def;
    int32_t n_out, n_in, n_attributes;
    const int32_t *operands; /* indices of tensors, outputs first */
    const int64_t *attributes;
    void *prepared; /* what def->check made; freed with free() when the plan is */
    bool barrier_before; /* an earlier op of the step since the last barrier conflicts with this one */
    bool moves;          /* an operand lies elsewhere in every step */
    /* In the plan; NULL at its ends, and between block ops and others. Those beside each other are bound in one pass, and run in
     * order: where nothing stands between them, one may do what the next would. */
    const struct dlc_op *previous, *next;
    int64_t bound_offset; /* of what def->bind makes, in a thread's memory for it */
    int64_t packed_offset; /* of what def->pack makes, in dlc_step.packed; -1: nothing */
    int64_t shared_bytes, own_bytes;
} dlc_op;

/* Where an operand lies, at row capacity: bytes [begin, end) of a slot or of the arena, as runs of at most
 * `width` bytes that start `period` bytes apart (0: a single run). */
typedef struct dlc_view {
    int64_t slot; /* as recorded: an arena is a memory of its own, too */
    int64_t begin, end;
    int64_t period, width;
} dlc_view;

/* What def->check learns of an operand beside its array. */
typedef struct dlc_operand {
    int32_t ndim;
    const int64_t *extents; /* as recorded: shapes that are to match for every number of rows are compared here */
    int32_t slot_kind;      /* a dlc_slot_kind; -1: an arena */
    dlc_view view;
} dlc_operand;

/* What an op makes of a step's rows that it gets block by block. */
typedef enum dlc_row_role {
    DLC_ROWS_TOGETHER = 0, /* nothing that is right: it needs all of them at once */
    DLC_ROWS_APART,        /* a result for each row, which depends on that row alone */
    DLC_ROWS_SUMMED        /* sums over rows, to which call->accumulate adds those of a further block; outputs that have rows
                            * are a result for each, as with DLC_ROWS_APART */
} dlc_row_role;

/* A step of a run as the ops see it, or a block of its rows. */
typedef struct dlc_step {
    const dlc_kernels *kernels;
    int64_t rows;        /* those in hand */
    int64_t step_rows;   /* of the whole step */
    int64_t row_in_step; /* where those in hand begin */
    int64_t first_row;   /* position of the first one in the epoch */
    const int64_t *order; /* (rows): the dataset row of each row; NULL: first_row, first_row + 1, ... */
    uint64_t seed;
    uint64_t counter; /* the step's number for the random generator */
    const char *packed; /* what the ops' def->pack made; NULL: the run has none of it */
} dlc_step;

typedef struct dlc_op_call {
    const dlc_op *op;
    const dlc_array *args; /* the operands, outputs first, for the rows in hand; a DATASET has all its rows */
    const dlc_step *step;
    void *shared; /* op->shared_bytes, one for the team */
    void *own;    /* op->own_bytes, one a thread */
    void *bound;  /* what def->bind made */
    dlc_barrier *barrier;
    int thread, n_threads;
    bool accumulate; /* of DLC_ROWS_SUMMED: add to the outputs */
} dlc_op_call;

/* The validator sees to it that outputs overlap neither one another nor an input, unless they are exactly that input
 * (the same element type, place, shape and strides), and that no two elements of an output share memory. */
typedef struct dlc_op_def {
    const char *name;
    int32_t opcode;
    /* Range-checks the rows that it reads, so that its inputs may be DATASET slots. */
    bool reads_dataset;
    /* run may fail (a label out of range): it writes no FIXED slot, no op before it does, and every thread learns of
     * the failure before an op after it writes a slot of any kind. */
    bool can_fail;
    /* Rejects records that do not make sense, with DLC_INVALID_PLAN and a message. args: the operands at row capacity,
     * data NULL. May leave something in op->prepared. */
    dlc_status (*check)(dlc_op *op, const dlc_array *args, const dlc_operand *operands);
    /* Scratch in bytes for any number of rows up to the capacity that args have; NULL: none. Depends on the kernels in
     * use (packing buffers do). */
    void (*scratch)(int64_t *shared, int64_t *own, const dlc_op *op, const dlc_array *args,
                    const dlc_kernels *kernels);
    /* A rough cost in elements or flops for one step: decides how many threads a plan deserves. */
    int64_t (*cost)(const dlc_op *op, const dlc_array *args);
    /* The first two both or none. bind works out what follows from where the operands lie and from step->rows, which small ops
     * take longer for than to run; run finds it in call->bound until these change. bind may be called before ops that come
     * first have run, and while other threads do, so it reads and writes no operand and no `shared`. The rest of the step,
     * `accumulate` and what lies in `own` are others when run is called. bound_bytes is asked once the op is checked. */
    int64_t (*bound_bytes)(const dlc_op *op);
    void (*bind)(void *bound, const dlc_op_call *call);
    /* Before each run of an op with an operand in a STREAM or STEP slot: what bind made, for operands that lie elsewhere now.
     * In bind the addresses of these say no more than which operands are one view, as the validator lets none overlap
     * otherwise. NULL: bind does it anew for every run. */
    void (*move)(void *bound, const dlc_op_call *call);
    /* All or none, for an operand that stays the same from run to run, as weights do. packed_operand: its index, or -1. If it lies
     * in a read-only FIXED slot, packed_bytes says how much its packed form takes at the capacity that args have (0: run would
     * not gain). pack may be called, by every thread of a team, to make it of that operand alone; the data of others is NULL. run
     * finds it at op->packed_offset in step->packed, and gives the results that it gives without. Ops of one kind that pack one
     * tensor share what the first of them makes. */
    int32_t (*packed_operand)(const dlc_op *op);
    int64_t (*packed_bytes)(const dlc_op *op, const dlc_array *args, const dlc_kernels *kernels);
    void (*pack)(void *packed, const dlc_op *op, const dlc_array *args, const dlc_kernels *kernels, int thread, int n_threads);
    /* NULL: DLC_ROWS_TOGETHER always. Asked once the op is checked. */
    dlc_row_role (*row_role)(const dlc_op *op, const dlc_operand *operands);
    /* Runs this thread's part. Every thread of the team calls it, also after another one failed. */
    dlc_status (*run)(const dlc_op_call *call);
} dlc_op_def;

/* Adds an op; the definition must stay alive. DLC_INVALID_ARGUMENT when its code is taken or a function is missing. */
DLC_API dlc_status dlc_op_register(const dlc_op_def *def);
/* NULL when there is none. */
const dlc_op_def *dlc_op_find(int32_t opcode);

#endif
