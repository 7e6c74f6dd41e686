// The rate of single-precision fused multiply-adds that touch registers only: the limit that a
// matrix product is measured against. Built with -march=native for the machine it runs on.
//
// usage: fma_peak THREADS SECONDS      prints floating-point operations per second, two per FMA
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif

// Enough independent chains to cover latency x issue width (4 x 2 on x86, 4 x 4 on wide Arm cores),
// few enough that they and the two operands stay in the register file.
#if defined(__AVX512F__) || defined(__aarch64__)
#define CHAINS 24
#else
#define CHAINS 12
#endif

#define FMAS_PER_CHUNK 20000

typedef float vector __attribute__((vector_size(VECTOR_BYTES)));

typedef struct {
    double seconds;
    double flops;
    float sink;
    atomic_int *waiting;
} worker;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void fma_chunk(vector chain[CHAINS], vector factor, vector term)
{
    vector x[CHAINS];
    for (int i = 0; i < CHAINS; i++)
        x[i] = chain[i];
    for (int repeat = 0; repeat < FMAS_PER_CHUNK; repeat++) {
#pragma GCC unroll 24
        for (int i = 0; i < CHAINS; i++)
            x[i] = x[i] * factor + term;
    }
    for (int i = 0; i < CHAINS; i++)
        chain[i] = x[i];
}

static void *run(void *argument)
{
    worker *self = argument;
    vector chain[CHAINS];
    // A factor below one keeps every chain near its fixed point: no overflow, no subnormals.
    vector factor = (vector){0} + 0.5f;
    vector term = (vector){0} + 1.0f;
    for (int i = 0; i < CHAINS; i++)
        chain[i] = (vector){0} + (float)(i + 1);
    fma_chunk(chain, factor, term);

    // Counted down by hand: macOS has no pthread barriers.
    atomic_fetch_sub(self->waiting, 1);
    while (atomic_load(self->waiting) > 0)
        sched_yield();
    double begin = now(), elapsed;
    int64_t chunks = 0;
    do {
        fma_chunk(chain, factor, term);
        chunks++;
        elapsed = now() - begin;
    } while (elapsed < self->seconds);

    const double lanes = VECTOR_BYTES / sizeof(float);
    self->flops = 2.0 * lanes * CHAINS * FMAS_PER_CHUNK * (double)chunks / elapsed;
    for (int i = 0; i < CHAINS; i++)
        self->sink += chain[i][0];
    return NULL;
}

int main(int argc, char **argv)
{
    int threads = argc == 3 ? atoi(argv[1]) : 0;
    double seconds = argc == 3 ? atof(argv[2]) : 0.0;
    if (threads < 1 || threads > 1024 || !(seconds > 0.0)) {
        fprintf(stderr, "usage: fma_peak THREADS SECONDS\n");
        return 2;
    }
    worker *workers = calloc((size_t)threads, sizeof *workers);
    pthread_t *handles = calloc((size_t)threads, sizeof *handles);
    atomic_int waiting;
    atomic_init(&waiting, threads);
    if (!workers || !handles)
        return 1;
    for (int i = 0; i < threads; i++) {
        workers[i] = (worker){.seconds = seconds, .waiting = &waiting};
        if (pthread_create(&handles[i], NULL, run, &workers[i]))
            return 1;
    }
    double flops = 0.0;
    float sink = 0.0f;
    for (int i = 0; i < threads; i++) {
        pthread_join(handles[i], NULL);
        flops += workers[i].flops;
        sink += workers[i].sink;
    }
    printf("%.6e\n", flops);
    return sink > 0.0f ? 0 : 1;
}
