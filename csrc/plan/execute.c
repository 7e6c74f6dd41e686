/* The executor. One team walks the ops of every step of a run; its threads meet at a barrier where an op conflicts
 * with an earlier one, and at the end of every step. Block ops come first: each thread takes blocks of the step's rows
 * through all of them by itself, and the team meets when their sums are complete. Nothing is allocated, and nothing in it
 * knows an op. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "plan/loaded.h"
#include "plan/operand.h"
#include "plan/read_ahead.h"
#include "plan/team_choice.h"

#define NOTHING_FAILED INT64_MAX

typedef struct dlc_team {
    const dlc_plan *plan;
    const dlc_run *run;
    dlc_arena_layout layout;
    int64_t steps_per_epoch;
    int64_t deadline; /* ns of the monotonic clock */
    bool gathers_from_files;
    int64_t steps_done;
    dlc_barrier barrier;
    /* Serial number (step, then op) of the first op that failed. Two threads that look after the same barrier may
     * read different values, but agree on whether one lies before the barrier. */
    _Alignas(64) atomic_int_least64_t failed;
    /* Written by thread 0 before the barrier at a step's end, read by all behind it. Two, by the step's parity, so
     * that the next step's write does not race with a slow reader. */
    bool stop[2];
} dlc_team;

static int64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static char *thread_part(const dlc_team *team, int thread)
{
    return (char *)team->run->arena + team->layout.threads + thread * team->layout.thread_size;
}

/* ---- Operands ---- */

/* Where tensors lie that are in no slot. */
typedef struct arenas {
    char *shared, *block;
} arenas;

/* Operands [begin, end) of the table, for a number of rows. */
static void resolve(dlc_array *table, int64_t begin, int64_t end, const dlc_plan *plan, const dlc_run *run,
                    arenas arenas, int64_t rows)
{
    for (int64_t i = begin; i < end; i++) {
        const dlc_tensor_record *tensor = &plan->tensors[plan->operands[i]];
        dlc_tensor_array(&table[i], tensor, rows);
        char *memory = tensor->slot == DLC_IN_BLOCK_ARENA ? arenas.block : arenas.shared;
        if (tensor->slot >= 0) {
            memory = run->bindings[tensor->slot].data;
            if (plan->slots[tensor->slot].kind == DLC_SLOT_DATASET)
                table[i].shape[0] = run->bindings[tensor->slot].count;
        }
        table[i].data = memory ? memory + tensor->offset : NULL;
    }
}

/* The call becomes one of an op. */
static void take_up(dlc_op_call *call, const dlc_op *op, const dlc_plan *plan, const dlc_array *table, char *bound)
{
    call->op = op;
    call->args = table + dlc_first_operand(plan, op);
    call->bound = bound + op->bound_offset;
}

/* Binds ops [begin, end), whose operands are resolved, but for those of moving ops, which are told where they lie when they run. */
static void bind_ops(dlc_op_call *call, int64_t begin, int64_t end, const dlc_plan *plan, const dlc_array *table, char *bound)
{
    for (int64_t i = begin; i < end; i++) {
        take_up(call, &plan->ops[i], plan, table, bound);
        if (call->op->def->bind && (!call->op->moves || call->op->def->move))
            call->op->def->bind(call->bound, call);
    }
}

static dlc_status run_op(const dlc_op_call *call)
{
    const dlc_op_def *def = call->op->def;
    if (call->op->moves && def->bind)
        (def->move ? def->move : def->bind)(call->bound, call);
    return def->run(call);
}

/* Points the moving operands [begin, end), which lie in STREAM and STEP slots, at the memory of a step or block. */
static void advance(dlc_array *table, int64_t begin, int64_t end, const dlc_plan *plan, const dlc_run *run,
                    int64_t number, int64_t first_row)
{
    for (int64_t i = begin; i < end; i++) {
        const dlc_moving *moving = &plan->moving[i];
        const dlc_slot_record *slot = &plan->slots[moving->slot];
        char *memory = run->bindings[moving->slot].data;
        int64_t index = slot->kind == DLC_SLOT_STEP ? number : first_row;
        if (memory)
            table[moving->operand].data =
                memory + index * slot->bytes + plan->tensors[plan->operands[moving->operand]].offset;
    }
}

static void start_step(dlc_step *step, const dlc_team *team, int64_t number)
{
    const dlc_run *run = team->run;
    int64_t epoch = number / team->steps_per_epoch;
    step->first_row = number % team->steps_per_epoch * run->batch_rows;
    step->rows = dlc_min64(run->batch_rows, run->epoch_rows - step->first_row);
    step->step_rows = step->rows;
    step->order = run->order ? run->order + epoch * run->epoch_rows + step->first_row : NULL;
    step->counter = run->counter + (uint64_t)number;
}

/* ---- Failures ---- */

static void record_failure(dlc_team *team, dlc_failure *own, dlc_status status, int64_t serial, int64_t block)
{
    if (own->status != DLC_OK)
        return;
    own->status = status;
    own->serial = serial;
    own->block = block;
    snprintf(own->message, sizeof own->message, "%s", dlc_last_error());
    int_least64_t first = atomic_load_explicit(&team->failed, memory_order_relaxed);
    while (serial < first && !atomic_compare_exchange_weak(&team->failed, &first, serial))
        ;
}

/* Waits for the team; whether no op before `serial` has failed. */
static bool meet(dlc_team *team, int64_t serial, int n_threads)
{
    dlc_barrier_wait(&team->barrier, n_threads);
    return atomic_load_explicit(&team->failed, memory_order_relaxed) >= serial;
}

/* Which rows come first. Threads that fail in one step have either all failed in block ops, each in its first block that
 * does, or all in others. */
static bool is_earlier(const dlc_failure *a, const dlc_failure *b)
{
    return a->block != b->block ? a->block < b->block : a->serial < b->serial;
}

/* The earliest failure of the team, and of several threads in one op that of the first: its rows come first. */
static dlc_status report_failure(const dlc_team *team, int n_threads)
{
    const dlc_failure *first = NULL;
    for (int thread = 0; thread < n_threads; thread++) {
        const dlc_failure *failure = (const dlc_failure *)thread_part(team, thread);
        if (failure->status != DLC_OK && (!first || is_earlier(failure, first)))
            first = failure;
    }
    return first ? dlc_fail(first->status, "%s", first->message) : DLC_OK;
}

/* ---- Members of the team ---- */

/* The block ops of a thread */
typedef struct block_run {
    arenas arenas; /* the shared one holds the sums of the group in hand */
    int64_t resolved_rows; /* of what is resolved for these arenas; 0: nothing */
    dlc_barrier alone;
    dlc_step block;
    dlc_op_call call;
} block_run;

/* A thread of the team. It must stay where it is. */
typedef struct member {
    _Alignas(DLC_ALIGNMENT) dlc_team *team;
    dlc_step step;
    dlc_op_call call;
    dlc_array *table; /* of all operands */
    char *bound;
    dlc_failure *failure;
    int64_t resolved_rows; /* of what is resolved for ops that are no block ops; 0: nothing */
    dlc_read_ahead ahead;
    block_run blocks;
} member;

static void join_team(member *member, dlc_team *team, int thread, int n_threads)
{
    char *part = thread_part(team, thread);
    memset(member, 0, sizeof *member);
    member->team = team;
    member->step = (dlc_step){.kernels = team->plan->kernels, .seed = team->run->seed, .packed = team->run->packed};
    member->call = (dlc_op_call){.step = &member->step,
                                 .shared = (char *)team->run->arena + team->layout.shared,
                                 .own = part + team->layout.own,
                                 .barrier = &team->barrier,
                                 .thread = thread,
                                 .n_threads = n_threads};
    member->table = (dlc_array *)(part + team->layout.table);
    member->bound = part + team->layout.bound;
    member->failure = (dlc_failure *)part;
    member->failure->status = DLC_OK;
    if (team->gathers_from_files)
        member->ahead.page_faults = dlc_count_page_faults();
    block_run *blocks = &member->blocks;
    blocks->arenas.block = part + team->layout.block;
    blocks->call = (dlc_op_call){.step = &blocks->block,
                                 .shared = part + team->layout.block_shared,
                                 .own = part + team->layout.own,
                                 .barrier = &blocks->alone,
                                 .n_threads = 1};
}

/* ---- Blocks of rows ---- */

/* What is resolved stays so from step to step where there is one group, as all small steps are: to resolve took 7% of a profile
 * of 10-32-2 in batches of 32. */
static void set_sums(block_run *run, char *sums)
{
    if (run->arenas.shared == sums)
        return;
    run->arenas.shared = sums;
    run->resolved_rows = 0;
}

static dlc_status run_block(member *member, int64_t number, int64_t index, int64_t *op_index)
{
    block_run *run = &member->blocks;
    const dlc_step *step = &member->step;
    const dlc_plan *plan = member->team->plan;
    const int64_t first = index * plan->header->block_rows;
    run->block = *step;
    run->block.row_in_step = first;
    run->block.first_row += first;
    run->block.rows = dlc_min64(plan->header->block_rows, step->rows - first);
    if (step->order)
        run->block.order += first;
    if (run->block.rows != run->resolved_rows) {
        resolve(member->table, 0, plan->block_operands, plan, member->team->run, run->arenas, run->block.rows);
        bind_ops(&run->call, 0, plan->header->n_block_ops, plan, member->table, member->bound);
    }
    run->resolved_rows = run->block.rows;
    advance(member->table, 0, plan->n_block_moving, plan, member->team->run, number, run->block.first_row);
    for (*op_index = 0; *op_index < plan->header->n_block_ops; ++*op_index) {
        take_up(&run->call, &plan->ops[*op_index], plan, member->table, member->bound);
        DLC_TRY(run_op(&run->call));
    }
    return DLC_OK;
}

/* The sums of all groups, added up: this thread's share of them. */
static void add_sums(const dlc_team *team, int64_t groups, int thread, int n_threads)
{
    const dlc_plan *plan = team->plan;
    const int64_t size = dlc_dtype_size(plan->sums_dtype);
    int64_t begin, end;
    dlc_split(&begin, &end, plan->header->sums_bytes / size, DLC_ALIGNMENT / size, thread, n_threads);
    char *arena = (char *)team->run->arena;
    plan->kernels->real[plan->sums_dtype]->gemm->sum_parts(
        arena + begin * size, end - begin, arena + team->layout.sums + begin * size, end - begin,
        team->layout.sums_size / size, groups, 1, end - begin, false);
}

/* The block ops of a step, for the groups of blocks that are this thread's. False when one failed, to all threads. */
static bool run_blocks(member *member, int64_t number, int64_t serial)
{
    dlc_team *team = member->team;
    const dlc_plan *plan = team->plan;
    const dlc_op_call *whole = &member->call;
    const int64_t rows = member->step.rows, blocks = dlc_count_blocks(plan, rows), groups = dlc_count_groups(plan, rows);
    char *arena = team->run->arena;
    /* in turns: the first groups are those that have a block more */
    for (int64_t group = whole->thread; group < groups; group += whole->n_threads) {
        int64_t begin, end, op_index;
        dlc_split(&begin, &end, blocks, 1, (int)group, (int)groups);
        set_sums(&member->blocks, groups > 1 ? arena + team->layout.sums + group * team->layout.sums_size : arena);
        for (int64_t index = begin; index < end && member->failure->status == DLC_OK; index++) {
            member->blocks.call.accumulate = index > begin;
            const dlc_status status = run_block(member, number, index, &op_index);
            if (status != DLC_OK)
                record_failure(team, member->failure, status, serial + op_index, index);
        }
    }
    if (!meet(team, serial + plan->header->n_block_ops, whole->n_threads))
        return false;
    if (groups > 1 && plan->header->sums_bytes > 0 && plan->sums_dtype >= 0) {
        add_sums(team, groups, whole->thread, whole->n_threads);
        dlc_barrier_wait(&team->barrier, whole->n_threads);
    }
    return true;
}

/* ---- Steps ---- */

/* The other ops of one step, on one thread. False when one failed: then every thread of the team gets false. */
static bool run_ops(member *member, int64_t serial)
{
    dlc_team *team = member->team;
    const dlc_plan *plan = team->plan;
    dlc_op_call *call = &member->call;
    for (int64_t i = plan->header->n_block_ops; i < plan->header->n_ops; i++) {
        const dlc_op *op = &plan->ops[i];
        if (op->barrier_before && !meet(team, serial + i, call->n_threads))
            return false;
        take_up(call, op, plan, member->table, member->bound);
        dlc_status status = run_op(call);
        if (status != DLC_OK)
            record_failure(team, member->failure, status, serial + i, 0);
    }
    return true;
}

/* To look takes 20 ns, 1.5% of the shortest steps. Of those that cost little, in about flops, and wait for nobody, several take
 * less than a millisecond, which is little of a long budget. */
static bool looks_at_clock(const dlc_team *team, int64_t number, int n_threads)
{
    enum { SMALL_COST = 1 << 17, STEPS = 16, LONG_BUDGET = 10000000 };
    const bool are_short = team->plan->cost <= SMALL_COST && !team->gathers_from_files && n_threads == 1;
    return !are_short || team->run->budget_ns < LONG_BUDGET || number % STEPS == 0;
}

/* The barrier at the end of a step. Whether the team goes on: false after a failure or when time is up. */
static bool end_step(dlc_team *team, bool *is_done, int64_t number, int64_t next_serial, int thread, int n_threads)
{
    bool *stop = &team->stop[number & 1];
    if (thread == 0)
        *stop = team->run->budget_ns > 0 && looks_at_clock(team, number, n_threads) && now_ns() >= team->deadline;
    *is_done = meet(team, next_serial, n_threads);
    return *is_done && !*stop;
}

/* Asks for what the next step gathers, if it lies in files. */
static void read_ahead(member *member, int64_t number)
{
    const dlc_team *team = member->team;
    const bool has_next = number + 1 < team->run->step_end;
    dlc_step next;
    if (has_next)
        start_step(&next, team, number + 1);
    dlc_read_next_rows(&member->ahead, team->plan, team->run, &member->step, has_next ? &next : NULL, member->call.thread,
                       member->call.n_threads);
}

/* All ops of a step. False when one failed. */
static bool run_step(member *member, int64_t number, int64_t serial)
{
    const dlc_team *team = member->team;
    const dlc_plan *plan = team->plan;
    const dlc_run *run = team->run;
    start_step(&member->step, team, number);
    if (team->gathers_from_files)
        read_ahead(member, number);
    if (member->step.rows != member->resolved_rows) {
        resolve(member->table, plan->block_operands, plan->header->n_operands, plan, run, (arenas){run->arena, NULL},
                member->step.rows);
        bind_ops(&member->call, plan->header->n_block_ops, plan->header->n_ops, plan, member->table, member->bound);
    }
    member->resolved_rows = member->step.rows;
    advance(member->table, plan->n_block_moving, plan->n_moving, plan, run, number, member->step.first_row);
    return (plan->header->n_block_ops == 0 || run_blocks(member, number, serial)) && run_ops(member, serial);
}

static void run_steps(void *context, int thread, int n_threads)
{
    dlc_team *team = context;
    const dlc_run *run = team->run;
    member member;
    join_team(&member, team, thread, n_threads);
    uint64_t float_mode = run->training ? dlc_flush_subnormals() : 0;
    int64_t serial = 0, done = 0;
    bool goes_on = true;
    for (int64_t number = run->step_begin; goes_on && number < run->step_end; number++) {
        bool is_done = false;
        goes_on = run_step(&member, number, serial);
        serial += team->plan->header->n_ops;
        if (goes_on)
            goes_on = end_step(team, &is_done, number, serial, thread, n_threads);
        done += is_done;
    }
    if (run->training)
        dlc_restore_float_mode(float_mode);
    if (thread == 0)
        team->steps_done = done;
}

/* ---- The run ---- */

/* The cost of a step of a number of rows; table is room to work in. */
static int64_t cost_of_step(const dlc_plan *plan, dlc_array *table, const dlc_run *run, int64_t rows)
{
    const arenas nowhere = {NULL, NULL};
    const int64_t blocks = dlc_count_blocks(plan, rows);
    resolve(table, 0, plan->block_operands, plan, run, nowhere, dlc_min64(rows, plan->header->block_rows));
    resolve(table, plan->block_operands, plan->header->n_operands, plan, run, nowhere, rows);
    int64_t cost = 0;
    for (int64_t i = 0; i < plan->header->n_ops; i++) {
        const dlc_op *op = &plan->ops[i];
        const int64_t once = op->def->cost(op, table + dlc_first_operand(plan, op));
        cost = dlc_cost_add(cost, dlc_is_block_op(plan, op) ? dlc_cost_mul(once, blocks) : once);
    }
    return cost;
}

/* How many threads a step of a number of rows deserves, by its cost between two barriers, on average: what a team shares
 * out before it has to meet again. (64-256-10 in batches of 64, about 80 us a step, lost 25% to a second thread;
 * 256-256-10, 230 us, won 15%.) The arena's room for the table of thread 0 serves to find the cost of fewer rows than
 * the capacity, unless even those of the capacity deserve no team. */
static int threads_for_step(const dlc_team *team, int64_t rows)
{
    const dlc_plan *plan = team->plan;
    int64_t parts = plan->barriers + 1;
    int threads = dlc_threads_for(plan->cost / parts);
    if (threads == 1 || rows == plan->header->row_capacity)
        return threads;
    dlc_array *table = (dlc_array *)(thread_part(team, 0) + team->layout.table);
    return dlc_threads_for(cost_of_step(plan, table, team->run, rows) / parts);
}

/* The largest team to ask for. */
static dlc_status choose_threads(int *threads, const dlc_team *team)
{
    const dlc_run *run = team->run;
    int64_t needed;
    DLC_TRY(dlc_layout_bytes(&needed, &team->layout, run->threads ? run->threads : 1));
    if ((uintptr_t)run->arena % DLC_ALIGNMENT != 0)
        return dlc_fail(DLC_INVALID_ARGUMENT, "the arena is not aligned to %d bytes", DLC_ALIGNMENT);
    if (!run->arena || run->arena_bytes < needed)
        return dlc_fail(DLC_INVALID_ARGUMENT, "the arena has %lld bytes; the run needs %lld",
                        (long long)run->arena_bytes, (long long)needed);
    if ((uintptr_t)run->packed % DLC_ALIGNMENT != 0)
        return dlc_fail(DLC_INVALID_ARGUMENT, "what is packed is not aligned to %d bytes", DLC_ALIGNMENT);
    *threads = run->threads;
    if (run->threads == 0) {
        int64_t room = (run->arena_bytes - team->layout.threads) / team->layout.thread_size;
        *threads = (int)dlc_min64(threads_for_step(team, dlc_min64(run->batch_rows, run->epoch_rows)), room);
    }
    return DLC_OK;
}

/* Looks at everything of a run that is right or wrong before its first step. */
static dlc_status begin_run(dlc_team *team, int *threads)
{
    const dlc_run *run = team->run;
    DLC_TRY(dlc_check_run(team->plan, run));
    team->steps_per_epoch = dlc_ceil_div(run->epoch_rows, run->batch_rows);
    team->gathers_from_files = dlc_gathers_from_files(team->plan, run);
    DLC_TRY(dlc_plan_layout(&team->layout, team->plan));
    return choose_threads(threads, team);
}

dlc_status dlc_plan_run(const dlc_plan *plan, dlc_run *run)
{
    dlc_team team = {.plan = plan, .run = run, .failed = NOTHING_FAILED};
    int threads = 1;
    run->steps_done = 0;
    run->threads_used = 0;
    DLC_TRY(begin_run(&team, &threads));
    if (run->step_begin == run->step_end)
        return DLC_OK;
    if (run->budget_ns > 0 && !dlc_size_add(&team.deadline, now_ns(), run->budget_ns))
        team.deadline = INT64_MAX;
    run->threads_used = dlc_team_run(threads, run_steps, &team);
    run->steps_done = team.steps_done;
    return report_failure(&team, run->threads_used);
}

/* ---- One step, again and again ---- */

struct dlc_repeated_step {
    dlc_run run;
    dlc_team team;
    dlc_team_choice choice;
    member members[]; /* run.threads; each has joined a team, or none yet */
};

int32_t dlc_repeated_step_threads(const dlc_plan *plan)
{
    enum { LEAST_COST = 1 << 17 }; /* about 5 microseconds, of which half may be saved; a team takes 1.5 to 2 */
    return plan->cost < LEAST_COST ? 1 : dlc_threads_for(dlc_cost_mul(2, plan->cost));
}

dlc_status dlc_repeated_step_make(dlc_repeated_step **step, const dlc_plan *plan, const dlc_run *run)
{
    int threads;
    if (run->step_end - run->step_begin != 1 || run->threads < 1 || run->training)
        return dlc_fail(DLC_INVALID_ARGUMENT, "the run is not of one step, on threads that are counted, without training");
    const size_t bytes = sizeof(dlc_repeated_step) + (size_t)run->threads * sizeof(member);
    dlc_repeated_step *made = dlc_aligned_alloc((int64_t)bytes);
    if (!made)
        return dlc_fail(DLC_OUT_OF_MEMORY, "no memory for a repeated step");
    memset(made, 0, bytes);
    made->run = *run;
    made->team = (dlc_team){.plan = plan, .run = &made->run, .failed = NOTHING_FAILED};
    made->choice = dlc_team_choice_begin();
    const dlc_status status = begin_run(&made->team, &threads);
    if (status != DLC_OK) {
        free(made);
        return status;
    }
    *step = made;
    return DLC_OK;
}

void dlc_repeated_step_free(dlc_repeated_step *step) { free(step); }

int32_t dlc_repeated_step_team(const dlc_repeated_step *step) { return step->members[0].call.n_threads; }

/* What is resolved and bound stays so from run to run, but for a team of another size. */
static void run_again(void *context, int thread, int n_threads)
{
    dlc_repeated_step *step = context;
    member *member = &step->members[thread];
    if (member->call.n_threads != n_threads)
        join_team(member, &step->team, thread, n_threads);
    run_step(member, step->run.step_begin, 0);
}

static void run_once(dlc_repeated_step *step, bool is_alone)
{
    if (is_alone)
        run_again(step, 0, 1);
    else
        dlc_team_run(step->run.threads, run_again, step);
}

static void run_and_measure(dlc_repeated_step *step)
{
    const int64_t begin = now_ns();
    run_once(step, dlc_team_choice_is_alone(&step->choice));
    dlc_team_choice_note(&step->choice, now_ns() - begin);
}

dlc_status dlc_repeated_step_run(dlc_repeated_step *step)
{
    if (step->run.threads == 1)
        run_once(step, true);
    else
        run_and_measure(step);
    if (atomic_load_explicit(&step->team.failed, memory_order_relaxed) == NOTHING_FAILED)
        return DLC_OK;
    const int n_threads = step->members[0].call.n_threads;
    const dlc_status status = report_failure(&step->team, n_threads);
    for (int thread = 0; thread < n_threads; thread++)
        step->members[thread].failure->status = DLC_OK;
    atomic_store_explicit(&step->team.failed, NOTHING_FAILED, memory_order_relaxed);
    return status;
}
