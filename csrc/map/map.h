/* Map programs: an elementwise expression over broadcast arrays, run block by block in L1, with an optional
 * reduction of its outputs, or of the first of them. One interpreter serves the map op, the store of a GEMM, and dl.ops. */
#ifndef DLC_MAP_H
#define DLC_MAP_H

#include "cpu/kernels.h"
#include "threads.h"

#define DLC_MAP_MAX_OPERANDS 24
#define DLC_MAP_MAX_LITERALS 16
#define DLC_MAP_MAX_TEMPS 16
#define DLC_MAP_MAX_REGISTERS (DLC_MAP_MAX_OPERANDS + DLC_MAP_MAX_LITERALS + DLC_MAP_MAX_TEMPS)
#define DLC_MAP_MAX_INSTRUCTIONS 256
#define DLC_MAP_BLOCK_BYTES 4096 /* of one register: small enough that a program's registers stay in L1 */

typedef enum dlc_reduction {
    DLC_REDUCE_NONE = 0,
    DLC_REDUCE_SUM,
    DLC_REDUCE_MAX,
    DLC_REDUCE_MIN,
    DLC_REDUCE_MEAN,
    DLC_REDUCTION_COUNT
} dlc_reduction;

/* A number in a program: value * rows^power, so that a mean over a run-time number of rows is a literal. */
typedef struct dlc_map_literal {
    double value;
    int64_t power; /* -1, 0 or 1 */
} dlc_map_literal;

static inline double dlc_map_number_of(const dlc_map_literal *literal, double rows)
{
    return literal->power == 0 ? literal->value : literal->value * (literal->power > 0 ? rows : 1 / rows);
}

/* dst = op(a, b, c). Registers: first the n_out outputs, then the n_in inputs, the literals, the temporaries.
 * Only outputs and temporaries are written, and each is written before it is read; in the store of a GEMM
 * register 0 holds the product from the start. What stands in operands beyond the op's arity is ignored, and
 * replaced by a, so that every operand is a register. */
typedef struct dlc_map_instruction {
    uint16_t op;
    uint8_t dst, a, b, c;
    uint8_t numbers; /* operands that are literals and are read as one number: DLC_MAP_A, ... */
} dlc_map_instruction;

typedef struct dlc_map_program {
    int32_t dtype; /* the real dtype it computes in; inputs of other dtypes are converted as they are read */
    int32_t n_out, n_in, n_literals, n_temps, n_instructions;
    int32_t reduction; /* of the first n_reduced outputs over the axes where their extent is 1 and that of the space is not */
    int32_t n_reduced; /* 0 where there is none; the outputs behind them span the space */
    uint32_t filled_literals; /* as bits: those that some instruction reads as an array */
    uint32_t new_outputs; /* as bits: those just allocated. The system clears such memory as it is first written, which leaves it
                           * in the caches */
    dlc_map_literal literals[DLC_MAP_MAX_LITERALS];
    dlc_map_instruction instructions[DLC_MAP_MAX_INSTRUCTIONS];
} dlc_map_program;

/* How many operands an instruction reads (1, 2 or 3), and what it is called. */
int dlc_map_arity(int op);
const char *dlc_map_name(int op);

/* For programs that C builds: an empty one, of which a reduction takes all outputs, and one more instruction at its end, after
 * the literals that it reads. Not checked. */
void dlc_map_program_init(dlc_map_program *program, int32_t dtype, int32_t n_out, int32_t n_in, int32_t reduction);
void dlc_map_emit(dlc_map_program *program, dlc_map_op op, int dst, int a, int b, int c);

/* A program as 8-byte words, as it stands in a plan record:
 *   [dtype, n_out, n_in, reduction, n_reduced, n_literals, n_temps, n_instructions,
 *    n_literals x (bits of the double, power), n_instructions x (op | dst << 16 | a << 24 | b << 32 | c << 40)]
 * Checks every count, code, register and definition before use; DLC_INVALID_PLAN says what is wrong.
 * first_defined: register 0 holds a value from the start (the store of a GEMM). */
dlc_status dlc_map_decode(dlc_map_program *program, const int64_t *words, int64_t n_words, bool first_defined);

/* For who does the first instruction, of register 0, in its place: the program without it, whose register 0 holds its result from
 * the start. False, and the program as it was, where the result cannot lie there as long as it is read. */
bool dlc_map_drop_first(dlc_map_program *program);
/* Whether no instruction from `begin` on reads register r. */
bool dlc_map_is_unread(const dlc_map_program *program, int begin, int r);
/* The program without an input, register r, that none of its instructions reads. */
void dlc_map_drop_input(dlc_map_program *program, int r);

/* Checks that `arrays` (outputs, then inputs) fit the program and the iteration space `shape`: every array has
 * ndim axes; an extent is that of the space, or 1 (broadcast; for outputs: reduced, the same axes in all that
 * are). Strides of axes with extent 1 are not looked at, here and below. An output may be the same array as an
 * input exactly; that they do not overlap otherwise is the caller's to see. */
dlc_status dlc_map_check(const dlc_map_program *program, const dlc_array *arrays, const int64_t *shape,
                         int32_t ndim);

/* Scratch in bytes: for partial reductions shared by the team, and registers for each thread. The scratch for a
 * capacity of rows serves fewer rows. */
void dlc_map_scratch(int64_t *shared, int64_t *per_thread, const dlc_map_program *program,
                     const dlc_array *arrays, const int64_t *shape, int32_t ndim);

/* The rows that a run is about. */
typedef struct dlc_map_rows {
    int64_t all;  /* what literals refer to, and a mean over rows divides by */
    int64_t here; /* those of this run: all of them, or a block */
    bool accumulate; /* sums and means are added to what the outputs hold */
} dlc_map_rows;

/* The part of the program's run over `shape` that falls to `thread`. Every thread of the team calls it; with a
 * reduction it may wait on the barrier, and a barrier must follow before `shared` is used again. Results do not
 * depend on n_threads. Scratch is aligned to DLC_ALIGNMENT. */
void dlc_map_run(const dlc_map_program *program, const dlc_real_kernels *kernels, const dlc_array *arrays,
                 const int64_t *shape, int32_t ndim, dlc_map_rows rows, void *shared, void *own,
                 dlc_barrier *barrier, int thread, int n_threads);

/* One 2-D region of a space whose arrays have two axes (no reduction): rows [row, row + n_rows), columns
 * [col, col + n_cols). Register 0 is read as well as written. This is what a GEMM's finish calls; `own` is the
 * calling thread's. */
void dlc_map_region(const dlc_map_program *program, const dlc_real_kernels *kernels, const dlc_array *arrays,
                    int64_t row, int64_t col, int64_t n_rows, int64_t n_cols, int64_t rows, void *own);

/* A run that is prepared once and run again and again, with no reduction, in memory of dlc_map_bound_bytes. first_defined: as in
 * a region. What lies in the arrays and in `own`, which keeps its place, may change from run to run, as may `rows`; the thread's
 * part of a run is what falls to it in dlc_map_run. */
int64_t dlc_map_bound_bytes(const dlc_map_program *program);
void dlc_map_bind(void *bound, const dlc_map_program *program, const dlc_real_kernels *kernels, const dlc_array *arrays,
                  const int64_t *shape, int32_t ndim, bool first_defined, void *own);
/* The arrays, of the same shapes and strides, lie elsewhere now. False where they exceed the caches, and are to be bound anew. */
bool dlc_map_point_at(void *bound, const dlc_array *arrays);
void dlc_map_run_bound(void *bound, int64_t rows, int thread, int n_threads);

/* The same for reductions, of which small ones are prepared: few lines, and what is one piece of work. `rows` may change from run
 * to run but for rows.here. The run returns false where nothing is prepared: then dlc_map_run does it. */
int64_t dlc_map_bound_reduction_bytes(const dlc_map_program *program);
void dlc_map_bind_reduction(void *bound, const dlc_map_program *program, const dlc_real_kernels *kernels,
                            const dlc_array *arrays, const int64_t *shape, int32_t ndim, void *own);
bool dlc_map_point_reduction_at(void *bound, const dlc_array *arrays);
bool dlc_map_run_bound_reduction(void *bound, dlc_map_rows rows, int thread, int n_threads);

/* out[i * stride] = or += sums[i] / divisor for i < n, of reals of `size` bytes; the divisor is 1 for what is no mean. */
void dlc_map_store_sums(void *out, int64_t stride, int64_t size, const double *sums, int64_t n, double divisor, bool accumulate);

/* What the instructions cost an element, in flops; a function that is a polynomial costs 16. */
int64_t dlc_map_instruction_cost(const dlc_map_program *program);

/* The cost of a run in loaded elements and flops, for dlc_threads_for. */
int64_t dlc_map_cost(const dlc_map_program *program, const int64_t *shape, int32_t ndim);

#endif
