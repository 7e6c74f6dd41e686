#include "cpu/kernels.h"
#include "plan/plan.h"
#include "rng/philox.h"

/* Of a random word, a number in [0, bound), all equally likely; -1 where the word would make some likelier than others.
 * D. Lemire, "Fast random integer generation in an interval", ACM TOMACS 29 (2019). */
static inline int64_t number_below(uint64_t bound, uint64_t word)
{
    __extension__ typedef unsigned __int128 uint128;
    const uint128 product = (uint128)word * bound;
    const uint64_t low = (uint64_t)product;
    return low < bound && low < -bound % bound ? -1 : (int64_t)(product >> 64);
}

dlc_status dlc_shuffle(int64_t *order, int64_t n, uint64_t seed, uint64_t epoch)
{
    const dlc_kernels *kernels;
    DLC_TRY(dlc_kernels_get(&kernels));
    for (int64_t i = 0; i < n; i++)
        order[i] = i;
    int64_t left = n;
    for (uint32_t block = 0; left > 1; block += DLC_RANDOM_WORDS / 4) {
        uint32_t words[DLC_RANDOM_WORDS];
        kernels->real[DLC_FLOAT32]->random_words(words, seed, DLC_STREAM_SHUFFLE, epoch, block);
        for (int i = 0; i < DLC_RANDOM_WORDS && left > 1; i += 2) {
            const int64_t j = number_below((uint64_t)left, words[i] | (uint64_t)words[i + 1] << 32);
            if (j < 0)
                continue;
            left--;
            const int64_t swapped = order[left];
            order[left] = order[j];
            order[j] = swapped;
        }
    }
    return DLC_OK;
}
