/* What the direct calls have in common: scratch memory, and a team as large as the work deserves. */
#ifndef DLC_OPS_JOB_H
#define DLC_OPS_JOB_H

#include "core/sizes.h"
#include "ops.h"
#include "threads.h"

/* What an element of a softmax costs, where a loaded element or a flop counts one. */
enum { DLC_SOFTMAX_COST = 24 };

typedef struct dlc_job {
    int threads; /* to request */
    int64_t own_bytes;
    char *shared, *own;
    dlc_barrier barrier;
} dlc_job;

/* Chooses the number of threads and takes scratch, which is the calling thread's until its next job. */
dlc_status dlc_job_begin(dlc_job *job, int64_t cost, int64_t shared_bytes, int64_t own_bytes);

static inline char *dlc_job_own(const dlc_job *job, int thread) { return job->own + thread * job->own_bytes; }

#endif
