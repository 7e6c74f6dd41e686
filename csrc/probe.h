/* What the machine can do at most, measured now: multiply-adds in registers, memory at a given footprint, and how soon
 * threads meet. Benches run these beside what they judge, in the same process and at the same clock. */
#ifndef DLC_PROBE_H
#define DLC_PROBE_H

#include "dlcore.h"

#define DLC_PROBE_MAX_ARRAYS 8

typedef enum dlc_probe_kind {
    DLC_PROBE_COPY,           /* arrays[0] = arrays[1] */
    DLC_PROBE_COPY_STREAMING, /* the same, by stores that go past the caches */
    DLC_PROBE_READ,           /* arrays[0] */
    DLC_PROBE_UPDATE          /* reads n_read arrays, writes the first n_written of them */
} dlc_probe_kind;

typedef struct dlc_probe_memory {
    void *arrays[DLC_PROBE_MAX_ARRAYS]; /* `bytes` each, aligned to float32 */
    int64_t bytes;                      /* a multiple of DLC_PROBE_GRAIN for an update, else of a float32 */
    int32_t kind;
    int32_t n_read, n_written; /* of an update; 1 <= n_written <= n_read <= DLC_PROBE_MAX_ARRAYS */
} dlc_probe_memory;

/* The rate of multiply-adds of a real dtype on a team of `threads`, two operations each, over at least `seconds`. */
DLC_API dlc_status dlc_probe_fma(double *flops_per_second, int32_t dtype, int32_t threads, double seconds);

/* The same of the multiply-adds that dlc_matmul_bfloat16 is made of. */
DLC_API dlc_status dlc_probe_bfloat16(double *flops_per_second, int32_t threads, double seconds);

/* The bytes read and written per second by a team of `threads`, of which each goes over its own part of the arrays again and
 * again: at least once to warm up, and then for at least `seconds` and at least once. */
DLC_API dlc_status dlc_probe_memory_rate(double *bytes_per_second, const dlc_probe_memory *memory, int32_t threads,
                                         double seconds);

/* The barriers per second that a team of `threads` passes when it does nothing else, over at least `seconds`. Threads on cores
 * without a common cache take several times as long, and a host may move the CPUs of a virtual machine there at any time. */
DLC_API dlc_status dlc_probe_barrier(double *barriers_per_second, int32_t threads, double seconds);

#endif
