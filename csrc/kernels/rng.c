/* Random arrays. Element i depends on (seed, stream, step) and i alone: on no thread, no range and no vector width.
 *
 * The words of a stream are those of Philox blocks 0, 1, ... in order, four to a block. A float32 is made of word i, a float64 of
 * words 2 i (low half) and 2 i + 1; a keep mask of word i whatever its type. */
#include "kernels/kernels_decl.h"
#include "kernels/lanes.h"
#include "kernels/math.h"
#include "kernels/transpose.h"
#include "rng/philox.h"

enum {
    WORDS = DLC_RANDOM_WORDS, /* made at once */
    BLOCKS = WORDS / 4,
    WORDS_PER_REAL = DLC_REAL_BITS / 32,
    REALS = WORDS / WORDS_PER_REAL
};

typedef struct random_array {
    uint64_t seed, step;
    uint32_t stream;
} random_array;

/* SIDE_BY_SIDE vectors of blocks hide the latency of each other's multiplications: one takes 1.15 times as long. */
enum { WORD_LANES = DLC_VECTOR_BYTES / 4, SIDE_BY_SIDE = 2 };
_Static_assert(BLOCKS % (SIDE_BY_SIDE * WORD_LANES) == 0, "blocks are made in whole vectors, side by side");

/* The upper and lower halves of x factor */
static inline void multiply_words(vword *upper, vword *lower, vword x, uint32_t factor)
{
    const vlong factors = factor - (vlong){0}, halves = (vlong)x;
    const vlong even = v_multiply_low_halves(halves, factors), odd = v_multiply_low_halves(halves >> 32, factors);
    *upper = (vword)(even >> 32 | (odd & ~(uint64_t)0xFFFFFFFF));
    *lower = (vword)((even & 0xFFFFFFFF) | odd << 32);
}

/* x (SIDE_BY_SIDE, 4): the counters of vectors of blocks become their words. */
static void run_rounds(vword x[SIDE_BY_SIDE][4], uint32_t key_low, uint32_t key_high)
{
    DLC_UNROLL
    for (int round = 0; round < DLC_PHILOX_ROUNDS; round++) {
        DLC_UNROLL
        for (int i = 0; i < SIDE_BY_SIDE; i++) {
            vword upper0, lower0, upper2, lower2;
            multiply_words(&upper0, &lower0, x[i][0], DLC_PHILOX_FACTOR_0);
            multiply_words(&upper2, &lower2, x[i][2], DLC_PHILOX_FACTOR_2);
            x[i][0] = upper2 ^ x[i][1] ^ key_low;
            x[i][2] = upper0 ^ x[i][3] ^ key_high;
            x[i][1] = lower2;
            x[i][3] = lower0;
        }
        key_low += DLC_PHILOX_KEY_STEP_LOW;
        key_high += DLC_PHILOX_KEY_STEP_HIGH;
    }
}

/* words (4 WORD_LANES): x (4, WORD_LANES), block by block: those of the first lane of each quad, then of the second, ... */
static void store_blocks(uint32_t *words, const vword x[4])
{
    const vword low02 = __builtin_shufflevector(x[0], x[2], DLC_UNPACK_LOW_32);
    const vword high02 = __builtin_shufflevector(x[0], x[2], DLC_UNPACK_HIGH_32);
    const vword low13 = __builtin_shufflevector(x[1], x[3], DLC_UNPACK_LOW_32);
    const vword high13 = __builtin_shufflevector(x[1], x[3], DLC_UNPACK_HIGH_32);
    const vword blocks[4] = {__builtin_shufflevector(low02, low13, DLC_UNPACK_LOW_32),
                             __builtin_shufflevector(low02, low13, DLC_UNPACK_HIGH_32),
                             __builtin_shufflevector(high02, high13, DLC_UNPACK_LOW_32),
                             __builtin_shufflevector(high02, high13, DLC_UNPACK_HIGH_32)};
    memcpy(words, blocks, sizeof blocks);
}

/* words (WORDS): those of BLOCKS blocks from `block` on */
static void make_words(uint32_t *words, const random_array *array, uint32_t block)
{
    vword lane; /* which block it is of those of its vector, as store_blocks takes them */
    for (uint32_t i = 0; i < WORD_LANES; i++)
        lane[i] = i % 4 * QUADS + i / 4;
    for (uint32_t made = 0; made < BLOCKS; made += SIDE_BY_SIDE * WORD_LANES) {
        vword x[SIDE_BY_SIDE][4];
        DLC_UNROLL
        for (uint32_t i = 0; i < SIDE_BY_SIDE; i++) {
            x[i][0] = block + made + i * WORD_LANES + lane;
            x[i][1] = (uint32_t)array->step - (vword){0};
            x[i][2] = (uint32_t)(array->step >> 32) - (vword){0};
            x[i][3] = array->stream - (vword){0};
        }
        run_rounds(x, (uint32_t)array->seed, (uint32_t)(array->seed >> 32));
        DLC_UNROLL
        for (uint32_t i = 0; i < SIDE_BY_SIDE; i++)
            store_blocks(words + 4 * (made + i * WORD_LANES), x[i]);
    }
}

/* out (n) = elements [first, first + n), where make(out, words, parameter) makes those of WORDS words and each takes
 * words_per_element. */
DLC_INLINE void fill(real *out, const random_array *array, int64_t first, int64_t n, int words_per_element,
                     void (*make)(real *out, const uint32_t *words, double parameter), double parameter)
{
    const int64_t elements = WORDS / words_per_element;
    uint32_t words[WORDS];
    real batch[WORDS];
    int64_t elements_per_block = 4 / words_per_element;
    int64_t begin = first - first % elements_per_block; /* batches begin with a block */
    for (; begin < first + n; begin += elements) {
        make_words(words, array, (uint32_t)(begin / elements_per_block));
        make(batch, words, parameter);
        int64_t low = begin < first ? first : begin;
        int64_t high = begin + elements < first + n ? begin + elements : first + n;
        memcpy(out + (low - first), batch + (low - begin), (size_t)(high - low) * sizeof *out);
    }
}

/* Uniform in [0, 1): the top 24 or 53 bits of element i's words. */
DLC_INLINE real uniform_at(const uint32_t *words, int64_t i)
{
#if DLC_REAL_BITS == 32
    return (real)(int32_t)(words[i] >> 8) * 0x1p-24f;
#else
    uint64_t bits = words[2 * i] | (uint64_t)words[2 * i + 1] << 32;
    return (real)(int64_t)(bits >> 11) * 0x1p-53;
#endif
}

static void make_uniform(real *out, const uint32_t *words, double unused)
{
    (void)unused;
    for (int64_t i = 0; i < REALS; i++)
        out[i] = uniform_at(words, i);
}

/* Taylor series on [0, pi / 4], where the first term left out is under a quarter of an ULP:
 * (sin(x) - x) / x^3 and (cos(x) - 1) / x^2 by x^2. */
#if DLC_REAL_BITS == 32
static const real sin_series[] = {-1 / (real)6, 1 / (real)120, -1 / (real)5040, 1 / (real)362880};
static const real cos_series[] = {-1 / (real)2, 1 / (real)24, -1 / (real)720, 1 / (real)40320, -1 / (real)3628800};
#else
static const real sin_series[] = {-1 / 6.0,           1 / 120.0,        -1 / 5040.0,         1 / 362880.0,
                                  -1 / 39916800.0,    1 / 6227020800.0, -1 / 1307674368000.0, 1 / 355687428096000.0};
static const real cos_series[] = {-1 / 2.0,       1 / 24.0,           -1 / 720.0,
                                  1 / 40320.0,    -1 / 3628800.0,     1 / 479001600.0,
                                  -1 / 87178291200.0, 1 / 20922789888000.0, -1 / 6402373705728000.0};
#endif

/* cos and sin of 2 pi turns, for turns in [0, 1). Max error, absolute: 9.8e-8 (float32, all 2^24 inputs) and 1.8e-16
 * (float64, 2^25 inputs). */
static inline void cos_sin_turns(vreal *cosine, vreal *sine, vreal turns)
{
    vreal quarter = turns * 4 + DLC_ROUNDER; /* the quarter turn nearest is in its low bits */
    vreal x = (turns - (quarter - DLC_ROUNDER) / 4) * (real)6.283185307179586476925;
    vreal square = x * x;
    vreal sin_x = x + x * square * V_POLYNOMIAL(square, sin_series);
    vreal cos_x = 1 + square * V_POLYNOMIAL(square, cos_series);
    vuint bits = (vuint)quarter;
    vint swapped = (vint)-(bits & 1);
    vreal c = v_blend(swapped, sin_x, cos_x), s = v_blend(swapped, cos_x, sin_x);
    *cosine = (vreal)((vuint)c ^ (((bits + 1) & 2) << (DLC_REAL_BITS - 2)));
    *sine = (vreal)((vuint)s ^ ((bits & 2) << (DLC_REAL_BITS - 2)));
}

/* Not inlined: of v_log of lanes that were just loaded GCC 12 makes scalar code, lane by lane. */
static __attribute__((noinline)) vreal log_lanes(vreal x) { return v_log(x); }

/* Elements 2 k and 2 k + 1 are the two numbers that Box and Muller make of their uniforms (Annals of Mathematical
 * Statistics 29, 1958). They lie in one block. */
static void make_normal(real *out, const uint32_t *words, double unused)
{
    (void)unused;
    for (int64_t first = 0; first < REALS; first += 2 * DLC_LANES) {
        real radius_of[DLC_LANES], turns_of[DLC_LANES], even[DLC_LANES], odd[DLC_LANES];
        for (int64_t lane = 0; lane < DLC_LANES; lane++) {
            radius_of[lane] = 1 - uniform_at(words, first + 2 * lane); /* in (0, 1]: its logarithm is finite */
            turns_of[lane] = uniform_at(words, first + 2 * lane + 1);
        }
        vreal radius = v_sqrt(-2 * log_lanes(v_load(radius_of))), cosine, sine;
        cos_sin_turns(&cosine, &sine, v_load(turns_of));
        v_store(even, radius * cosine);
        v_store(odd, radius * sine);
        for (int64_t lane = 0; lane < DLC_LANES; lane++) {
            out[first + 2 * lane] = even[lane];
            out[first + 2 * lane + 1] = odd[lane];
        }
    }
}

/* Words up to `largest` are kept, of which there are keep 2^32; 32 bits hold the largest for keep = 1, too. Of none (keep < 2^-32)
 * it would wrap, and `kept` is 0 instead. */
static void make_keep_mask(real *out, const uint32_t *words, double keep)
{
    const int64_t kept_words = (int64_t)(keep * 0x1p32);
    const uint32_t largest = (uint32_t)(kept_words - 1);
    const real kept = kept_words > 0 ? (real)(1 / keep) : 0;
    for (int64_t i = 0; i < WORDS; i++)
        out[i] = words[i] <= largest ? kept : 0;
}

void DLC_NAME(dlc_random_words)(uint32_t *words, uint64_t seed, uint32_t stream, uint64_t step, uint32_t block)
{
    const random_array array = {.seed = seed, .step = step, .stream = stream};
    make_words(words, &array, block);
}

bool DLC_NAME(dlc_numbers_below)(uint64_t *numbers, const uint32_t *words, uint32_t bound)
{
    enum { LONG_LANES = DLC_VECTOR_BYTES / 8 };
    vlong bounds, small = {0};
    for (uint32_t i = 0; i < LONG_LANES; i++)
        bounds[i] = bound - i;
    for (int i = 0; i < WORDS / 2; i += LONG_LANES) {
        vlong pair;
        memcpy(&pair, words + 2 * i, sizeof pair);
        const vlong product = v_multiply_low_halves(pair >> 32, bounds) + (v_multiply_low_halves(pair, bounds) >> 32);
        const vlong number = product >> 32;
        memcpy(numbers + i, &number, sizeof number);
        small |= (vlong)((product & 0xFFFFFFFF) == 0);
        bounds -= LONG_LANES;
    }
    bool none = true;
    for (int i = 0; i < LONG_LANES; i++)
        none = none && small[i] == 0;
    return none;
}

void DLC_NAME(dlc_uniform)(void *out, uint64_t seed, uint32_t stream, uint64_t step, int64_t first, int64_t n)
{
    random_array array = {.seed = seed, .step = step, .stream = stream};
    fill(out, &array, first, n, WORDS_PER_REAL, make_uniform, 0);
}

void DLC_NAME(dlc_normal)(void *out, uint64_t seed, uint32_t stream, uint64_t step, int64_t first, int64_t n)
{
    random_array array = {.seed = seed, .step = step, .stream = stream};
    fill(out, &array, first, n, WORDS_PER_REAL, make_normal, 0);
}

void DLC_NAME(dlc_keep_mask)(void *out, double keep, uint64_t seed, uint32_t stream, uint64_t step, int64_t first,
                             int64_t n)
{
    random_array array = {.seed = seed, .step = step, .stream = stream};
    fill(out, &array, first, n, 1, make_keep_mask, keep);
}
