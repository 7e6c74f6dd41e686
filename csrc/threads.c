#include "threads.h"

#include <omp.h>
#include <pthread.h>
#include <sched.h>
#include <time.h>

#include "core/sizes.h"
#include "cpu/quota.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* More would be a mistake in units rather than a wish; scratch memory grows with the number of threads. */
#define MAX_THREADS 1024

/* About 10 microseconds: 2^19 multiply-adds of a float32 product with AVX2, exp of 15 000 float32, relu of 90 000. A team of
 * two starts and ends in 1.5 to 2 on idle cores (Zen 3), and took 14 to 21 where other programs shared them. */
#define DEFAULT_SERIAL_THRESHOLD (1 << 18)

/* Pauses before the first yield, about 5 microseconds. On a busy machine the thread that is waited for may not be running:
 * 1000 rounds made a barrier of two threads 2 to 4 times slower there than 30 to 100 did. */
#define SPIN_ROUNDS 100

static atomic_int explicit_limit; /* 0: the default limit */
static atomic_int_least64_t serial_threshold = DEFAULT_SERIAL_THRESHOLD;
static atomic_int threads_in_use; /* by all teams of the process */
static atomic_int cores;          /* that the process may use; kept for the barrier, which must be cheap */
static atomic_bool is_forked_child;
static _Thread_local bool inside_team;

/* libgomp's worker threads do not survive a fork, and its next region in the child waits for them for ever. */
static void mark_forked_child(void)
{
    atomic_store(&is_forked_child, true);
    atomic_store(&threads_in_use, 0);
}

__attribute__((constructor)) static void register_fork_handler(void)
{
    pthread_atfork(NULL, NULL, mark_forked_child);
}

static int clamp(int value, int low, int high)
{
    return value < low ? low : value > high ? high : value;
}

/* A tick of the clock that is read without a system call: 1 to 10 ms on Linux. */
static int64_t clock_tick(void)
{
#ifdef CLOCK_MONOTONIC_COARSE
    const clockid_t clock = CLOCK_MONOTONIC_COARSE;
#else
    const clockid_t clock = CLOCK_MONOTONIC;
#endif
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* omp_get_num_procs counts the affinity mask; unlike sched_getaffinity it is not fooled by OMP_PROC_BIND, which ties the
 * calling thread to a single core. It is a system call, 0.4 microseconds, and so is asked once a tick: 128^3 products of
 * two threads take 20. */
static int available_cores(void)
{
    static atomic_int quota; /* 0: not read yet */
    static _Thread_local int known; /* the mask is the calling thread's own */
    static _Thread_local int64_t read_at;
    int64_t tick = clock_tick();
    if (known > 0 && read_at == tick)
        return known;
    int limit = atomic_load_explicit(&quota, memory_order_relaxed);
    if (limit == 0) {
        limit = dlc_cpu_quota();
        atomic_store_explicit(&quota, limit, memory_order_relaxed);
    }
    known = clamp(omp_get_num_procs(), 1, limit);
    read_at = tick;
    return known;
}

dlc_status dlc_set_num_threads(int32_t threads)
{
    if (threads < 0 || threads > MAX_THREADS)
        return dlc_fail(DLC_INVALID_ARGUMENT, "the number of threads is %d; expected 0 (the default) to %d",
                        (int)threads, MAX_THREADS);
    atomic_store(&explicit_limit, threads);
    return DLC_OK;
}

int32_t dlc_get_num_threads(void)
{
    if (atomic_load_explicit(&is_forked_child, memory_order_relaxed))
        return 1;
    int limit = atomic_load_explicit(&explicit_limit, memory_order_relaxed);
    if (limit > 0)
        return limit;
    return clamp(omp_get_max_threads(), 1, clamp(available_cores(), 1, MAX_THREADS));
}

void dlc_set_serial_threshold(int64_t cost)
{
    atomic_store_explicit(&serial_threshold, dlc_max64(cost, 0), memory_order_relaxed);
}

int64_t dlc_get_serial_threshold(void)
{
    return atomic_load_explicit(&serial_threshold, memory_order_relaxed);
}

int dlc_threads_for(int64_t cost)
{
    int64_t threshold = dlc_get_serial_threshold();
    if (cost < threshold)
        return 1;
    int64_t limit = dlc_get_num_threads();
    return (int)(threshold == 0 || cost / threshold >= limit ? limit : 1 + cost / threshold);
}

void dlc_split(int64_t *begin, int64_t *end, int64_t count, int64_t grain, int thread, int n_threads)
{
    if (n_threads == 1) { /* without divisions, which small ops would feel */
        *begin = 0;
        *end = count;
        return;
    }
    int64_t grains = count / grain + (count % grain != 0);
    int64_t share = grains / n_threads, rest = grains % n_threads;
    int64_t first = thread * share + dlc_min64(thread, rest);
    int64_t last = first + share + (thread < rest);
    *begin = dlc_min64(count, first * grain);
    *end = last == grains ? count : last * grain;
}

static void pause_spinning(void)
{
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Spinning keeps from its core the very thread that is waited for when there are more threads than cores. */
static bool is_oversubscribed(void)
{
    return atomic_load_explicit(&threads_in_use, memory_order_relaxed) >
           atomic_load_explicit(&cores, memory_order_relaxed);
}

void dlc_barrier_wait(dlc_barrier *barrier, int n_threads)
{
    if (n_threads == 1)
        return;
    /* Read before arriving: once the last thread has arrived it may change at any time. */
    int generation = atomic_load_explicit(&barrier->generation, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&barrier->arrived, 1, memory_order_acq_rel) == n_threads - 1) {
        atomic_store_explicit(&barrier->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&barrier->generation, (int)((unsigned)generation + 1), memory_order_release);
        return;
    }
    int rounds = is_oversubscribed() ? 0 : SPIN_ROUNDS;
    while (atomic_load_explicit(&barrier->generation, memory_order_acquire) == generation) {
        if (rounds > 0) {
            rounds--;
            pause_spinning();
        } else {
            sched_yield();
        }
    }
}

/* Takes up to `requested` threads out of those that other teams leave; the calling thread is always granted. */
static int reserve_threads(int requested)
{
    if (requested <= 1) {
        atomic_fetch_add(&threads_in_use, 1);
        return 1;
    }
    int limit = dlc_get_num_threads();
    int used = atomic_load_explicit(&threads_in_use, memory_order_relaxed);
    int granted;
    do {
        granted = clamp(requested, 1, clamp(limit - used, 1, limit));
    } while (!atomic_compare_exchange_weak(&threads_in_use, &used, used + granted));
    return granted;
}

static int run_alone(dlc_team_member *member, void *context)
{
    member(context, 0, 1);
    return 1;
}

static int run_team(int granted, dlc_team_member *member, void *context)
{
    int size = 1; /* OpenMP may make a team smaller than it was asked for (OMP_THREAD_LIMIT, OMP_DYNAMIC) */
#pragma omp parallel num_threads(granted) default(none) shared(size, member, context)
    {
        int thread = omp_get_thread_num(), n_threads = omp_get_num_threads();
        if (thread == 0)
            size = n_threads;
        inside_team = true;
        member(context, thread, n_threads);
        inside_team = false;
    }
    return size;
}

int dlc_team_run(int requested, dlc_team_member *member, void *context)
{
    if (inside_team || atomic_load_explicit(&is_forked_child, memory_order_relaxed))
        return run_alone(member, context);
    int granted = reserve_threads(requested);
    int size;
    if (granted == 1) {
        size = run_alone(member, context);
    } else {
        atomic_store_explicit(&cores, available_cores(), memory_order_relaxed);
        size = run_team(granted, member, context);
    }
    atomic_fetch_sub(&threads_in_use, granted);
    return size;
}

#if defined(__x86_64__)

uint64_t dlc_flush_subnormals(void)
{
    unsigned int before = _mm_getcsr();
    _mm_setcsr(before | _MM_FLUSH_ZERO_ON | 0x40 /* denormals are zero */);
    return before;
}

void dlc_restore_float_mode(uint64_t mode) { _mm_setcsr((unsigned int)mode); }

#elif defined(__aarch64__)

uint64_t dlc_flush_subnormals(void)
{
    uint64_t before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"(before | (UINT64_C(1) << 24))); /* FZ: inputs and results */
    return before;
}

void dlc_restore_float_mode(uint64_t mode) { __asm__ volatile("msr fpcr, %0" : : "r"(mode)); }

#endif

int32_t dlc_openmp_date(void) { return _OPENMP; }
