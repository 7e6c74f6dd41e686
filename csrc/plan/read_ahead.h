/* Data sets that are mapped from files: what steps gather is read from the disk ahead of them. */
#ifndef DLC_PLAN_READ_AHEAD_H
#define DLC_PLAN_READ_AHEAD_H

#include "plan/loaded.h"

/* A thread's part of it. */
typedef struct dlc_read_ahead {
    bool has_begun;      /* as this thread has waited for the disk in this run */
    int64_t page_faults; /* that it had waited for before */
} dlc_read_ahead;

/* Whether the run gathers from a file. */
bool dlc_gathers_from_files(const dlc_plan *plan, const dlc_run *run);

/* How often this thread, or elsewhere than on Linux this process, has waited for the disk to read memory. */
int64_t dlc_count_page_faults(void);

/* Before a step: asks for the thread's share of the rows of the next one, once data had to be waited for; `next` NULL: there is
 * none. Rows that do not exist are left to the op that gathers them. */
void dlc_read_next_rows(dlc_read_ahead *ahead, const dlc_plan *plan, const dlc_run *run, const dlc_step *step,
                        const dlc_step *next, int thread, int n_threads);

#endif
