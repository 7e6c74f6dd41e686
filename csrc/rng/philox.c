#include "rng/philox.h"

void dlc_philox_block(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2])
{
    dlc_philox(out, counter[0], counter[1], counter[2], counter[3], key[0], key[1]);
}
