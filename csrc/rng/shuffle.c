#include "cpu/kernels.h"
#include "plan/plan.h"
#include "rng/philox.h"

enum { PAIRS = DLC_RANDOM_WORDS / 2 };

/* numbers: of pairs of words one in [0, bound), then in [0, bound - 1), ... down to [0, 2), all equally likely; how many. A pair
 * that would make some likelier than others is left out.
 * D. Lemire, "Fast random integer generation in an interval", ACM TOMACS 29 (2019). */
static int64_t draw_one_by_one(uint64_t numbers[PAIRS], const uint32_t *words, uint64_t bound)
{
    __extension__ typedef unsigned __int128 uint128;
    int64_t drawn = 0;
    for (int i = 0; i < PAIRS && bound > 1; i++) {
        const uint128 product = (uint128)(words[2 * i] | (uint64_t)words[2 * i + 1] << 32) * bound;
        const uint64_t low = (uint64_t)product;
        if (low < bound && low < -bound % bound)
            continue;
        numbers[drawn++] = (uint64_t)(product >> 64);
        bound--;
    }
    return drawn;
}

static int64_t draw(uint64_t numbers[PAIRS], const uint32_t *words, uint64_t bound, const dlc_real_kernels *kernels)
{
    const bool fits = bound > PAIRS && bound <= UINT32_MAX;
    return fits && kernels->numbers_below(numbers, words, (uint32_t)bound) ? PAIRS : draw_one_by_one(numbers, words, bound);
}

/* By R. A. Fisher and F. Yates, from the last element on */
dlc_status dlc_shuffle(int64_t *order, int64_t n, uint64_t seed, uint64_t epoch)
{
    const dlc_kernels *table;
    DLC_TRY(dlc_kernels_get(&table));
    const dlc_real_kernels *kernels = table->real[DLC_FLOAT32];
    for (int64_t i = 0; i < n; i++)
        order[i] = i;
    int64_t left = n;
    for (uint32_t block = 0; left > 1; block += DLC_RANDOM_WORDS / 4) {
        uint32_t words[DLC_RANDOM_WORDS];
        uint64_t numbers[PAIRS];
        kernels->random_words(words, seed, DLC_STREAM_SHUFFLE, epoch, block);
        const int64_t drawn = draw(numbers, words, (uint64_t)left, kernels);
        for (int64_t i = 0; i < drawn; i++) {
            const int64_t swapped = order[--left];
            order[left] = order[numbers[i]];
            order[numbers[i]] = swapped;
        }
    }
    return DLC_OK;
}
