#include "plan/plan.h"
#include "rng/philox.h"

/* Blocks of the generator that are made at once, as vectors: one by one, a shuffle takes 1.3 to 1.4 times as long. */
enum { BLOCKS = 16, HALF_WORDS = 4 * BLOCKS };

/* The 64-bit words of one stream, in order. */
typedef struct word_source {
    uint64_t seed, epoch;
    uint32_t block; /* to be made next */
    int used;
    uint32_t halves[HALF_WORDS];
} word_source;

static void make_words(word_source *source)
{
    const uint32_t epoch_low = (uint32_t)source->epoch, epoch_high = (uint32_t)(source->epoch >> 32);
    const uint32_t seed_low = (uint32_t)source->seed, seed_high = (uint32_t)(source->seed >> 32), block = source->block;
    for (uint32_t i = 0; i < BLOCKS; i++)
        dlc_philox(source->halves + 4 * i, block + i, epoch_low, epoch_high, DLC_STREAM_SHUFFLE, seed_low, seed_high);
    source->block += BLOCKS;
    source->used = 0;
}

static uint64_t next_word(word_source *source)
{
    if (source->used == HALF_WORDS)
        make_words(source);
    const uint32_t *halves = source->halves + source->used;
    source->used += 2;
    return halves[0] | (uint64_t)halves[1] << 32;
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
    word_source source = {.seed = seed, .epoch = epoch, .used = HALF_WORDS};
    for (int64_t i = 0; i < n; i++)
        order[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = (int64_t)next_below(&source, (uint64_t)i + 1);
        int64_t swapped = order[i];
        order[i] = order[j];
        order[j] = swapped;
    }
}
