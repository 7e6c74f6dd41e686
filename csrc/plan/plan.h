/* Loading and running plans. */
#ifndef DLC_PLAN_H
#define DLC_PLAN_H

#include "plan/op.h"

typedef struct dlc_plan dlc_plan;

/* Copies and validates `bytes`; nothing is kept of the caller's memory. DLC_INVALID_PLAN names the record that is
 * wrong. The plan is immutable and may be run by several threads at once, each with its own arena. */
DLC_API dlc_status dlc_plan_load(dlc_plan **plan, const void *bytes, int64_t n_bytes);
DLC_API void dlc_plan_free(dlc_plan *plan);

/* The slots, owned by the plan; what a caller must bind. */
DLC_API const dlc_slot_record *dlc_plan_slots(int64_t *n_slots, const dlc_plan *plan);
DLC_API int64_t dlc_plan_row_capacity(const dlc_plan *plan);

/* The arena that a run with at most `threads` threads needs, in bytes: tensors and scratch. 0 threads: as many as
 * the plan deserves at its capacity of rows. */
DLC_API dlc_status dlc_plan_arena_bytes(int64_t *bytes, const dlc_plan *plan, int32_t threads);

/* A tensor that is to lie in an arena, live from op `first` to op `last`, inclusive. */
typedef struct dlc_buffer {
    int64_t bytes;
    int64_t first, last;
} dlc_buffer;

/* offsets (n) of buffers (n): one after the other, each at the lowest multiple of DLC_ALIGNMENT where it overlaps no
 * earlier one that is live with it. *arena_bytes: what they take together, a multiple of DLC_ALIGNMENT. */
DLC_API dlc_status dlc_arena_place(int64_t *offsets, int64_t *arena_bytes, const dlc_buffer *buffers, int64_t n);

/* Memory for a slot, aligned to its dtype; NULL where no byte is needed. FIXED: count is in bytes, and not less than
 * the record's; STREAM: in rows, and not less than epoch_rows; DATASET: in rows; STEP: in steps, and not less than
 * step_end. Memory of a writable slot overlaps that of no other. */
typedef struct dlc_binding {
    void *data;
    int64_t count;
    bool is_mapped; /* from a file: of a DATASET, rows that are not in memory are read a step ahead */
} dlc_binding;

/* The run goes over epochs of epoch_rows positions; step s is the (s % steps)-th of epoch s / steps, where steps =
 * ceil(epoch_rows / batch_rows), and has batch_rows rows but for the last of an epoch, which has what is left. */
typedef struct dlc_run {
    const dlc_binding *bindings; /* one for each slot */
    int64_t n_bindings;
    const int64_t *order; /* n_order dataset rows: epoch after epoch of epoch_rows, from epoch 0 to that of the last
                             step; NULL: 0, 1, ... in each epoch */
    int64_t n_order;
    int64_t epoch_rows, batch_rows;
    int64_t step_begin, step_end;
    uint64_t seed;
    uint64_t counter; /* random counter of step 0 */
    const void *packed; /* what dlc_plan_pack made of the values that its slots have now; NULL: nothing */
    void *arena; /* aligned to DLC_ALIGNMENT */
    int64_t arena_bytes;
    int32_t threads;    /* at most; 0: as many as the plan deserves and the arena has room for */
    int32_t training;   /* flush subnormals while it runs */
    int64_t budget_ns;  /* stop at the first step boundary after this time; 0: never */
    /* OUT */
    int64_t steps_done; /* from step_begin on */
    int32_t threads_used;
} dlc_run;

/* What the plan's ops read of read-only FIXED slots (weights) can be packed: laid out once for many runs as kernels read it
 * fastest, with the same results. It takes dlc_plan_packed_bytes, aligned to DLC_ALIGNMENT; 0: no op would gain. */
DLC_API int64_t dlc_plan_packed_bytes(const dlc_plan *plan);
/* is_packed (n slots): whether that is made of a slot. */
DLC_API void dlc_plan_packed_slots(bool *is_packed, const dlc_plan *plan);
/* Packs what is bound to those slots; other bindings (of n, one for each slot) are not looked at. */
DLC_API dlc_status dlc_plan_pack(void *packed, const dlc_plan *plan, const dlc_binding *bindings, int64_t n_bindings);

/* Everything bound is checked before the first step. When a step fails (a label out of range, say), no FIXED slot
 * is changed by that step (its rows and entries in STREAM and STEP slots are unspecified), and steps_done tells how many
 * steps were completed. */
DLC_API dlc_status dlc_plan_run(const dlc_plan *plan, dlc_run *run);

/* A run of one step, which is made once and run again and again: only what is bound to its STREAM and STEP slots may change in
 * between, to memory as large that is as well aligned and overlaps no other. `run` is copied; its bindings and its arena are
 * used. Its threads are counted: where they are several, a team of up to as many takes the step or the calling thread alone,
 * whichever turns out faster. Not for several threads at once. */
typedef struct dlc_repeated_step dlc_repeated_step;

/* As many threads may gain: 1 where a step is too short for any. */
DLC_API int32_t dlc_repeated_step_threads(const dlc_plan *plan);
DLC_API dlc_status dlc_repeated_step_make(dlc_repeated_step **step, const dlc_plan *plan, const dlc_run *run);
DLC_API void dlc_repeated_step_free(dlc_repeated_step *step);
DLC_API dlc_status dlc_repeated_step_run(dlc_repeated_step *step);
/* The threads of the last run; 0 before the first */
DLC_API int32_t dlc_repeated_step_team(const dlc_repeated_step *step);

/* The cost of a step at the capacity of rows, in about flops or elements: what a run's threads are chosen by. */
DLC_API int64_t dlc_plan_cost(const dlc_plan *plan);
/* The part of it that fewer rows cost, too. */
DLC_API int64_t dlc_plan_fixed_cost(const dlc_plan *plan);

/* order (n): the permutation of 0..n-1 that shuffles epoch `epoch` under `seed` (Fisher-Yates over Philox). */
DLC_API dlc_status dlc_shuffle(int64_t *order, int64_t n, uint64_t seed, uint64_t epoch);

#endif
