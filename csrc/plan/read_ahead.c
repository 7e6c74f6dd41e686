/* Rows in a random order are read from a file page by page, each when a thread comes to it, which waits meanwhile. Asked for
 * together (posix_madvise), those of a step are read at once, and while the step before is computed. To ask takes a system call for
 * each row, so nobody does until a page is seen to be missing; which data set it belongs to is not known, so then all are asked
 * for. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* RUSAGE_THREAD */
#endif
#include "plan/read_ahead.h"

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

static bool is_mapped(const dlc_plan *plan, const dlc_run *run, int64_t slot)
{
    return plan->slots[slot].kind == DLC_SLOT_DATASET && run->bindings[slot].is_mapped && plan->slots[slot].bytes > 0;
}

bool dlc_gathers_from_files(const dlc_plan *plan, const dlc_run *run)
{
    for (int64_t slot = 0; slot < plan->header->n_slots; slot++)
        if (is_mapped(plan, run, slot))
            return true;
    return false;
}

int64_t dlc_count_page_faults(void)
{
#ifdef __linux__
    const int who = RUSAGE_THREAD;
#else
    const int who = RUSAGE_SELF;
#endif
    struct rusage usage;
    return getrusage(who, &usage) == 0 ? (int64_t)usage.ru_majflt : 0;
}

/* Memory [begin, end) that is to be read, on whole pages. */
static void ask_for(uintptr_t begin, uintptr_t end, uintptr_t page)
{
    begin &= ~(page - 1);
    if (begin < end)
        posix_madvise((void *)begin, end - begin, POSIX_MADV_WILLNEED); /* advice: if it fails the page is read later */
}

/* The row at a position of a step, or -1 if the data set has no such row. */
static int64_t row_at(const dlc_step *step, int64_t position, int64_t count)
{
    const int64_t row = step->order ? step->order[position] : step->first_row + position;
    return row >= 0 && row < count ? row : -1;
}

/* Rows [first, end) of the step. Those that follow one another are asked for together. */
static void ask_for_rows(const dlc_binding *binding, int64_t row_bytes, const dlc_step *step, int64_t first, int64_t end)
{
    const uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t asked = 0, asked_end = 0;
    for (int64_t i = first; i < end; i++) {
        const int64_t row = row_at(step, i, binding->count);
        if (row < 0)
            continue;
        const uintptr_t begin = (uintptr_t)binding->data + (uintptr_t)(row * row_bytes);
        if (begin != asked_end) {
            ask_for(asked, asked_end, page);
            asked = begin;
        }
        asked_end = begin + (uintptr_t)row_bytes;
    }
    ask_for(asked, asked_end, page);
}

static void ask_for_share(const dlc_plan *plan, const dlc_run *run, const dlc_step *step, int thread, int n_threads)
{
    int64_t begin, end;
    dlc_split(&begin, &end, step->rows, 1, thread, n_threads);
    for (int64_t slot = 0; slot < plan->header->n_slots; slot++)
        if (is_mapped(plan, run, slot))
            ask_for_rows(&run->bindings[slot], plan->slots[slot].bytes, step, begin, end);
}

/* A byte of the first row of the thread's share. */
static void touch_share(const dlc_plan *plan, const dlc_run *run, const dlc_step *step, int thread, int n_threads)
{
    int64_t begin, end;
    dlc_split(&begin, &end, step->rows, 1, thread, n_threads);
    for (int64_t slot = 0; slot < plan->header->n_slots; slot++) {
        const dlc_binding *binding = &run->bindings[slot];
        const int64_t row = begin < end && is_mapped(plan, run, slot) ? row_at(step, begin, binding->count) : -1;
        if (row >= 0)
            (void)*((const volatile char *)binding->data + row * plan->slots[slot].bytes);
    }
}

void dlc_read_next_rows(dlc_read_ahead *ahead, const dlc_plan *plan, const dlc_run *run, const dlc_step *step,
                        const dlc_step *next, int thread, int n_threads)
{
    if (!ahead->has_begun) {
        touch_share(plan, run, step, thread, n_threads);
        ahead->has_begun = dlc_count_page_faults() != ahead->page_faults;
        if (ahead->has_begun)
            ask_for_share(plan, run, step, thread, n_threads);
    }
    if (ahead->has_begun && next)
        ask_for_share(plan, run, next, thread, n_threads);
}
