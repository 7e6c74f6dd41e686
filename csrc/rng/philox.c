#include "rng/philox.h"

void dlc_philox_block(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3], k0 = key[0], k1 = key[1];
    for (int round = 0; round < DLC_PHILOX_ROUNDS; round++) {
        const uint64_t product0 = (uint64_t)c0 * DLC_PHILOX_FACTOR_0, product2 = (uint64_t)c2 * DLC_PHILOX_FACTOR_2;
        c0 = (uint32_t)(product2 >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(product0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)product2;
        c3 = (uint32_t)product0;
        k0 += DLC_PHILOX_KEY_STEP_LOW;
        k1 += DLC_PHILOX_KEY_STEP_HIGH;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}
