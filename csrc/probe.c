#include "probe.h"

#include <stdlib.h>
#include <time.h>

#include "core/sizes.h"
#include "cpu/kernels.h"
#include "threads.h"

/* Work between two looks at the clock: some 10 microseconds, so that a look costs nothing. */
#define FMA_REPEATS 20000
#define BYTES_PER_LOOK (1 << 18)
#define BARRIERS_PER_LOOK 100

/* Chains of multiply-adds */
typedef struct chains {
    double (*run)(int64_t repeats);
    int64_t flops_per_repeat;
} chains;

typedef struct probe_team probe_team;

struct probe_team {
    double (*rate)(probe_team *team, int thread, int n_threads);
    const dlc_probe_kernels *kernels;
    const dlc_probe_memory *memory;
    chains chains;
    double seconds;
    dlc_barrier barrier;
    bool stop[2];               /* of even and odd looks: the next look writes the other one */
    atomic_uint_least64_t sink; /* what the kernels return, so that it is used */
    double rates[];             /* of each thread */
};

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static uint64_t multiply_add(const chains *chains) { return (uint64_t)chains->run(FMA_REPEATS); }

/* Goes over float32 [begin, end) of the arrays once. */
static uint64_t pass(const probe_team *team, int64_t begin, int64_t end)
{
    const dlc_probe_kernels *kernels = team->kernels;
    const dlc_probe_memory *memory = team->memory;
    float *first = (float *)memory->arrays[0] + begin;
    switch (memory->kind) {
    case DLC_PROBE_COPY:
        kernels->copy(first, (const float *)memory->arrays[1] + begin, end - begin);
        return 0;
    case DLC_PROBE_COPY_STREAMING:
        kernels->copy_streaming(first, (const float *)memory->arrays[1] + begin, end - begin);
        return 0;
    case DLC_PROBE_READ:
        return kernels->read(first, end - begin);
    default:
        kernels->update(memory->arrays, memory->n_read, memory->n_written, begin, end - begin);
        return 0;
    }
}

static int64_t arrays_touched(const dlc_probe_memory *memory)
{
    switch (memory->kind) {
    case DLC_PROBE_COPY:
    case DLC_PROBE_COPY_STREAMING:
        return 2;
    case DLC_PROBE_READ:
        return 1;
    default:
        return memory->n_read + memory->n_written;
    }
}

static double fma_rate(probe_team *team, int thread, int n_threads)
{
    (void)thread;
    uint64_t sink = multiply_add(&team->chains);
    dlc_barrier_wait(&team->barrier, n_threads);
    double begin = now(), elapsed;
    int64_t looks = 0;
    do {
        sink += multiply_add(&team->chains);
        looks++;
        elapsed = now() - begin;
    } while (elapsed < team->seconds);
    atomic_fetch_add(&team->sink, sink);
    return (double)(team->chains.flops_per_repeat * FMA_REPEATS) * (double)looks / elapsed;
}

static double memory_rate(probe_team *team, int thread, int n_threads)
{
    const int64_t element = (int64_t)sizeof(float);
    int64_t begin_element, end_element;
    dlc_split(&begin_element, &end_element, team->memory->bytes / element, DLC_PROBE_GRAIN / element, thread, n_threads);
    int64_t bytes = (end_element - begin_element) * element * arrays_touched(team->memory);
    int64_t passes_per_look = bytes > 0 ? dlc_max64(1, BYTES_PER_LOOK / bytes) : 1;

    uint64_t sink = pass(team, begin_element, end_element);
    dlc_barrier_wait(&team->barrier, n_threads);
    double begin = now(), elapsed;
    int64_t passes = 0;
    do {
        for (int64_t i = 0; i < passes_per_look; i++)
            sink |= pass(team, begin_element, end_element);
        passes += passes_per_look;
        elapsed = now() - begin;
    } while (elapsed < team->seconds);
    atomic_fetch_add(&team->sink, sink);
    return (double)bytes * (double)passes / elapsed;
}

/* The share of one thread, so that the sum is the rate of the team. */
static double barrier_rate(probe_team *team, int thread, int n_threads)
{
    dlc_barrier_wait(&team->barrier, n_threads);
    double begin = now(), elapsed;
    int64_t looks = 0;
    bool *stop;
    do {
        stop = &team->stop[looks & 1];
        elapsed = now() - begin;
        if (thread == 0)
            *stop = looks > 0 && elapsed >= team->seconds;
        for (int i = 0; i < BARRIERS_PER_LOOK; i++)
            dlc_barrier_wait(&team->barrier, n_threads);
        looks++;
    } while (!*stop);
    elapsed = now() - begin;
    return (double)(looks * BARRIERS_PER_LOOK) / elapsed / n_threads;
}

static void run_member(void *context, int thread, int n_threads)
{
    probe_team *team = context;
    team->rates[thread] = team->rate(team, thread, n_threads);
}

/* *rate = the sum over the threads of a team like `what` */
static dlc_status measure(double *rate, const probe_team *what, int32_t threads, double seconds)
{
    const int32_t limit = dlc_get_num_threads();
    if (threads < 1 || threads > limit)
        return dlc_fail(DLC_INVALID_ARGUMENT, "threads is %d; expected 1 to %d, the limit of set_num_threads",
                        (int)threads, (int)limit);
    if (!(seconds >= 0 && seconds <= 3600))
        return dlc_fail(DLC_INVALID_ARGUMENT, "seconds is %g; expected 0 to 3600", seconds);
    int64_t size = (int64_t)(sizeof(probe_team) + (size_t)threads * sizeof(double));
    probe_team *team = dlc_aligned_alloc(size);
    if (!team)
        return dlc_fail(DLC_OUT_OF_MEMORY, "no memory for a probe on %d threads", (int)threads);
    *team = *what;
    team->seconds = seconds;
    int size_of_team = dlc_team_run(threads, run_member, team);
    *rate = 0;
    for (int i = 0; i < size_of_team; i++)
        *rate += team->rates[i];
    free(team);
    if (size_of_team < threads)
        return dlc_fail(DLC_UNSUPPORTED, "the probe got %d of %d threads: other calls hold the cores", size_of_team,
                        (int)threads);
    return DLC_OK;
}

dlc_status dlc_probe_fma(double *flops_per_second, int32_t dtype, int32_t threads, double seconds)
{
    const dlc_kernels *kernels;
    if (!dlc_is_real(dtype))
        return dlc_fail(DLC_INVALID_ARGUMENT, "dtype is %d; expected a real one", (int)dtype);
    DLC_TRY(dlc_kernels_get(&kernels));
    const dlc_probe_kernels *probe = kernels->real[dtype]->probe;
    const probe_team team = {.rate = fma_rate, .chains = {probe->multiply_add, probe->flops_per_repeat}};
    return measure(flops_per_second, &team, threads, seconds);
}

dlc_status dlc_probe_bfloat16(double *flops_per_second, int32_t threads, double seconds)
{
    const dlc_bfloat16_kernels *kernels;
    DLC_TRY(dlc_bfloat16_kernels_get(&kernels));
    const probe_team team = {.rate = fma_rate, .chains = {kernels->dot, kernels->flops_per_repeat}};
    return measure(flops_per_second, &team, threads, seconds);
}

dlc_status dlc_probe_memory_rate(double *bytes_per_second, const dlc_probe_memory *memory, int32_t threads,
                                 double seconds)
{
    const bool is_update = memory->kind == DLC_PROBE_UPDATE;
    const int64_t grain = is_update ? DLC_PROBE_GRAIN : (int64_t)sizeof(float);
    if (memory->bytes < grain || memory->bytes % grain != 0)
        return dlc_fail(DLC_INVALID_ARGUMENT, "bytes is %lld; expected a multiple of %lld", (long long)memory->bytes,
                        (long long)grain);
    if (is_update && !(1 <= memory->n_written && memory->n_written <= memory->n_read &&
                       memory->n_read <= DLC_PROBE_MAX_ARRAYS))
        return dlc_fail(DLC_INVALID_ARGUMENT, "n_read is %d and n_written %d; expected 1 <= n_written <= n_read <= %d",
                        (int)memory->n_read, (int)memory->n_written, DLC_PROBE_MAX_ARRAYS);
    const dlc_kernels *kernels;
    DLC_TRY(dlc_kernels_get(&kernels));
    const probe_team team = {.rate = memory_rate, .kernels = kernels->real[DLC_FLOAT32]->probe, .memory = memory};
    return measure(bytes_per_second, &team, threads, seconds);
}

dlc_status dlc_probe_barrier(double *barriers_per_second, int32_t threads, double seconds)
{
    const probe_team team = {.rate = barrier_rate};
    return measure(barriers_per_second, &team, threads, seconds);
}
