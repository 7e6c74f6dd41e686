/* Where the tensors of a plan lie in its arena. */
#include <stdlib.h>
#include <string.h>

#include "plan/plan.h"

typedef struct placed_buffer {
    int64_t begin, end; /* offsets */
    int64_t first, last;
} placed_buffer;

/* The lowest offset that is free; placed (n) lie in ascending order of their begins. */
static int64_t find_offset(const dlc_buffer *buffer, const placed_buffer *placed, int64_t n)
{
    int64_t offset = 0;
    for (int64_t i = 0; i < n; i++) {
        if (placed[i].last < buffer->first || buffer->last < placed[i].first)
            continue;
        if (placed[i].begin - offset >= buffer->bytes)
            break;
        offset = dlc_max64(offset, placed[i].end);
    }
    return offset;
}

static void insert(placed_buffer *placed, int64_t n, placed_buffer added)
{
    int64_t i = n;
    while (i > 0 && placed[i - 1].begin > added.begin)
        i--;
    memmove(&placed[i + 1], &placed[i], (size_t)(n - i) * sizeof *placed);
    placed[i] = added;
}

static dlc_status place_all(int64_t *offsets, int64_t *arena_bytes, const dlc_buffer *buffers, int64_t n,
                            placed_buffer *placed)
{
    for (int64_t i = 0; i < n; i++) {
        int64_t end, offset = find_offset(&buffers[i], placed, i);
        if (buffers[i].bytes < 0 || !dlc_size_add(&end, offset, buffers[i].bytes) || end > INT64_MAX - DLC_ALIGNMENT)
            return dlc_fail(DLC_OVERFLOW, "the arena of a plan does not fit in 63 bits");
        end = dlc_align_up(end);
        insert(placed, i, (placed_buffer){offset, end, buffers[i].first, buffers[i].last});
        offsets[i] = offset;
        *arena_bytes = dlc_max64(*arena_bytes, end);
    }
    return DLC_OK;
}

dlc_status dlc_arena_place(int64_t *offsets, int64_t *arena_bytes, const dlc_buffer *buffers, int64_t n)
{
    *arena_bytes = 0;
    placed_buffer *placed = malloc((size_t)(n + 1) * sizeof *placed);
    dlc_status status = placed ? place_all(offsets, arena_bytes, buffers, n, placed)
                               : dlc_fail(DLC_OUT_OF_MEMORY, "no memory to place %lld buffers", (long long)n);
    free(placed);
    return status;
}
