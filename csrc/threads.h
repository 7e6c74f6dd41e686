/* The OpenMP layer: csrc/threads.c is the only file that knows OpenMP. */
#ifndef DLC_THREADS_H
#define DLC_THREADS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "dlcore.h"

/* A barrier for a team. Zero-initialise it; the team size is given at each wait, as it is only
 * known inside the region. Spins for a short while, then yields the processor. */
typedef struct dlc_barrier {
    _Alignas(64) atomic_int arrived;
    _Alignas(64) atomic_int generation;
} dlc_barrier;

DLC_API void dlc_barrier_wait(dlc_barrier *barrier, int n_threads);

/* Runs member(context, thread, n_threads) on every thread of a team of at most `requested` threads
 * and returns the size of the team. The team is smaller when other teams hold the cores, and 1 in a
 * forked child, where the OpenMP pool of the parent is gone. */
typedef void dlc_team_member(void *context, int thread, int n_threads);
int dlc_team_run(int requested, dlc_team_member *member, void *context);

/* How many threads work worth `cost` (about one loaded element, or one cheap operation on it, each) deserves: 1 under the
 * serial threshold, else at most the limit of dlc_get_num_threads(). */
int dlc_threads_for(int64_t cost);

/* The date of the OpenMP specification that the compiler follows: 201511 is 4.5. */
DLC_API int32_t dlc_openmp_date(void);

/* The threshold of dlc_threads_for; tests set it to 0 so that small sizes use teams. */
DLC_API void dlc_set_serial_threshold(int64_t cost);
DLC_API int64_t dlc_get_serial_threshold(void);

/* The half-open range [*begin, *end) of `count` items that falls to `thread`: contiguous, multiples of
 * `grain` but for the end, and the same for every call with the same arguments. */
DLC_API void dlc_split(int64_t *begin, int64_t *end, int64_t count, int64_t grain, int thread, int n_threads);

/* Sets flush-to-zero and denormals-are-zero on the calling thread and returns what was set before. */
uint64_t dlc_flush_subnormals(void);
void dlc_restore_float_mode(uint64_t mode);

#endif
