/* Philox4x32-10, the counter-based generator of J. K. Salmon, M. A. Moraes, R. O. Dror and D. E. Shaw, "Parallel random
 * numbers: as easy as 1, 2, 3", SC 2011. A block of four words is a function of a counter and a key, with no state. */
#ifndef DLC_RNG_PHILOX_H
#define DLC_RNG_PHILOX_H

#include <stdint.h>

#include "dlcore.h"

/* Counters are (block index, step low, step high, stream), keys (seed low, seed high). */
#define DLC_STREAM_SHUFFLE 0xFFFFFFFFu /* the stream that orders epochs; no array may use it */

#define DLC_PHILOX_ROUNDS 10
#define DLC_PHILOX_FACTOR_0 0xD2511F53u
#define DLC_PHILOX_FACTOR_2 0xCD9E8D57u
#define DLC_PHILOX_KEY_STEP_LOW 0x9E3779B9u
#define DLC_PHILOX_KEY_STEP_HIGH 0xBB67AE85u

/* One block, for tests of the published known answers. */
DLC_API void dlc_philox_block(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);

#endif
