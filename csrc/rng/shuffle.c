#include "plan/plan.h"
#include "rng/philox.h"

/* The 64-bit words of one stream, in order. */
typedef struct word_source {
    uint64_t seed, epoch;
    uint32_t block;
    uint64_t spare;
    bool has_spare;
} word_source;

static uint64_t next_word(word_source *source)
{
    if (source->has_spare) {
        source->has_spare = false;
        return source->spare;
    }
    uint32_t out[4];
    dlc_philox(out, source->block++, (uint32_t)source->epoch, (uint32_t)(source->epoch >> 32), DLC_STREAM_SHUFFLE,
               (uint32_t)source->seed, (uint32_t)(source->seed >> 32));
    source->spare = out[2] | (uint64_t)out[3] << 32;
    source->has_spare = true;
    return out[0] | (uint64_t)out[1] << 32;
}

/* Uniform in [0, bound): D. Lemire, "Fast random integer generation in an interval", ACM TOMACS 29 (2019). */
static uint64_t next_below(word_source *source, uint64_t bound)
{
    __extension__ typedef unsigned __int128 uint128;
    uint128 product = (uint128)next_word(source) * bound;
    if ((uint64_t)product < bound) {
        uint64_t biased = -bound % bound; /* the low halves that would make some results likelier than others */
        while ((uint64_t)product < biased)
            product = (uint128)next_word(source) * bound;
    }
    return (uint64_t)(product >> 64);
}

void dlc_shuffle(int64_t *order, int64_t n, uint64_t seed, uint64_t epoch)
{
    word_source source = {.seed = seed, .epoch = epoch};
    for (int64_t i = 0; i < n; i++)
        order[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = (int64_t)next_below(&source, (uint64_t)i + 1);
        int64_t swapped = order[i];
        order[i] = order[j];
        order[j] = swapped;
    }
}
