/* Random arrays: the published answers of Philox, what is made of its words, and any range of an array. */
#include <math.h>
#include <string.h>

#include "arrays.h"
#include "checks.h"
#include "kernels.h"
#include "rng/philox.h"

/* From kat_vectors of Random123, the code of Salmon, Moraes, Dror and Shaw (SC 2011): philox4x32, 10 rounds. */
static const struct {
    uint32_t counter[4], key[2], words[4];
} known_answers[] = {
    {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
    {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
     {0xffffffff, 0xffffffff},
     {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
    {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
     {0xa4093822, 0x299f31d0},
     {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
};
enum { ANSWERS = sizeof known_answers / sizeof known_answers[0] };

static double uniform_of(int32_t dtype, const uint32_t *words, int64_t i)
{
    if (dtype == DLC_FLOAT32)
        return (words[i] >> 8) * 0x1p-24;
    return (double)((words[2 * i] | (uint64_t)words[2 * i + 1] << 32) >> 11) * 0x1p-53;
}

static uint64_t joined(uint32_t low, uint32_t high) { return low | (uint64_t)high << 32; }

/* The block itself, and through the kernel the numbers that are made of it. */
static void test_known_answers(const dlc_real_kernels *kernels, int32_t dtype)
{
    const int64_t count = dtype == DLC_FLOAT32 ? 4 : 2;
    describe("the known answers of Philox4x32-10, float%d", dtype == DLC_FLOAT32 ? 32 : 64);
    for (int k = 0; k < ANSWERS; k++) {
        const uint32_t *counter = known_answers[k].counter, *key = known_answers[k].key;
        uint32_t words[4];
        dlc_philox_block(words, counter, key);
        expect(memcmp(words, known_answers[k].words, sizeof words) == 0, "block %d", k);
        void *out = place(0, dtype, count, EDGE_BEHIND);
        kernels->uniform(out, joined(key[0], key[1]), counter[3], joined(counter[1], counter[2]), counter[0] * count,
                         count);
        for (int64_t i = 0; i < count; i++)
            expect(get(dtype, out, i) == uniform_of(dtype, known_answers[k].words, i), "number %lld of block %d",
                   (long long)i, k);
        expect_intact();
    }
}

enum { COUNT = 700, SEED = 77, STREAM = 3, STEP = 5, KEEP_PERCENT = 70 };

/* Box and Muller's two numbers of two uniforms. The bound is that of kernels/rng.c's sine and cosine, on that radius. */
static void test_normal(const dlc_real_kernels *kernels, int32_t dtype)
{
    void *uniform = place(0, dtype, COUNT, EDGE_BEHIND), *normal = place(1, dtype, COUNT, EDGE_BEHIND);
    describe("normal numbers, float%d", dtype == DLC_FLOAT32 ? 32 : 64);
    kernels->uniform(uniform, SEED, STREAM, STEP, 0, COUNT);
    kernels->normal(normal, SEED, STREAM, STEP, 0, COUNT);
    for (int64_t i = 0; i < COUNT; i += 2) {
        long double radius = sqrtl(-2 * logl(1 - (long double)get(dtype, uniform, i)));
        long double angle = 6.283185307179586476925286766559L * get(dtype, uniform, i + 1);
        long double bound = 3 * epsilon_of(dtype) * radius;
        expect(is_within(get(dtype, normal, i), radius * cosl(angle), bound), "element %lld", (long long)i);
        expect(is_within(get(dtype, normal, i + 1), radius * sinl(angle), bound), "element %lld", (long long)i + 1);
    }
}

/* A mask reads one word for each element whatever its type: the float32 uniforms hold the upper bits of these. */
static void test_keep_mask(const dlc_real_kernels *narrow, const dlc_real_kernels *kernels, int32_t dtype)
{
    const double keep = KEEP_PERCENT / 100.0;
    float *uniform = place(0, DLC_FLOAT32, COUNT, EDGE_BEHIND);
    void *mask = place(1, dtype, COUNT, EDGE_BEHIND);
    describe("masks, float%d", dtype == DLC_FLOAT32 ? 32 : 64);
    narrow->uniform(uniform, SEED, STREAM, STEP, 0, COUNT);
    kernels->keep_mask(mask, keep, SEED, STREAM, STEP, 0, COUNT);
    for (int64_t i = 0; i < COUNT; i++)
        expect(get(dtype, mask, i) == (uniform[i] < keep ? round_to(dtype, 1 / keep) : 0), "element %lld",
               (long long)i);
}

static void make(const dlc_real_kernels *kernels, int kind, void *out, int64_t first, int64_t n)
{
    if (kind == 0)
        kernels->uniform(out, SEED, STREAM, STEP, first, n);
    else if (kind == 1)
        kernels->normal(out, SEED, STREAM, STEP, first, n);
    else
        kernels->keep_mask(out, KEEP_PERCENT / 100.0, SEED, STREAM, STEP, first, n);
}

static void test_ranges(const dlc_real_kernels *kernels, int32_t dtype, int kind)
{
    char *whole = place(0, dtype, COUNT, EDGE_BEHIND);
    make(kernels, kind, whole, 0, COUNT);
    for (int64_t first = 0; first < COUNT; first += 37)
        for (int64_t n = 0; first + n <= COUNT; n += 1 + n) {
            describe("elements %lld to %lld of random array %d, float%d", (long long)first, (long long)(first + n),
                     kind, dtype == DLC_FLOAT32 ? 32 : 64);
            void *part = place(1, dtype, n, first % 2 ? EDGE_BEFORE : EDGE_BEHIND);
            make(kernels, kind, part, first, n);
            expect_same_bits(dtype, part, whole + first * size_of(dtype), n);
            expect_intact();
        }
}

/* The index of a block has 32 bits: behind the last block comes the first. */
static void test_last_blocks(const dlc_real_kernels *kernels, int32_t dtype)
{
    enum { BLOCKS = 40 };
    const uint32_t first_block = UINT32_MAX - BLOCKS / 2;
    const int64_t numbers = dtype == DLC_FLOAT32 ? 4 : 2; /* of a block */
    void *out = place(0, dtype, numbers * BLOCKS, EDGE_BEHIND);
    describe("numbers about the last block, float%d", dtype == DLC_FLOAT32 ? 32 : 64);
    kernels->uniform(out, SEED, STREAM, STEP, first_block * numbers, numbers * BLOCKS);
    for (uint32_t block = 0; block < BLOCKS; block++) {
        const uint32_t counter[4] = {first_block + block, STEP, 0, STREAM}, key[2] = {SEED, 0};
        uint32_t words[4];
        dlc_philox_block(words, counter, key);
        for (int64_t i = 0; i < numbers; i++)
            expect(get(dtype, out, block * numbers + i) == uniform_of(dtype, words, i), "number %lld of block %lld",
                   (long long)i, (long long)block);
    }
    expect_intact();
}

enum { PAIRS = DLC_RANDOM_WORDS / 2 };

static void set_pair(uint32_t *words, int i, uint64_t pair)
{
    words[2 * i] = (uint32_t)pair;
    words[2 * i + 1] = (uint32_t)(pair >> 32);
}

/* Upper halves of products, and that a lower half under 2^32 is found in every place, and none beyond. */
static void test_numbers_below(const dlc_real_kernels *kernels)
{
    __extension__ typedef unsigned __int128 uint128;
    const uint32_t bounds[] = {PAIRS, 1000, UINT32_MAX};
    uint32_t words[DLC_RANDOM_WORDS];
    uint64_t numbers[PAIRS];
    for (size_t b = 0; b < sizeof bounds / sizeof *bounds; b++) {
        describe("numbers below %lld", (long long)bounds[b]);
        kernels->random_words(words, SEED, STREAM, STEP, 0);
        expect(kernels->numbers_below(numbers, words, bounds[b]), "one may be rejected");
        for (int i = 0; i < PAIRS; i++) {
            const uint64_t pair = words[2 * i] | (uint64_t)words[2 * i + 1] << 32;
            expect(numbers[i] == (uint64_t)((uint128)pair * (bounds[b] - (uint32_t)i) >> 64), "number %d", i);
        }
        for (int i = 0; i < PAIRS; i++) {
            const uint64_t kept = words[2 * i] | (uint64_t)words[2 * i + 1] << 32;
            const uint64_t last = UINT32_MAX / (bounds[b] - (uint32_t)i);
            set_pair(words, i, last);
            expect(!kernels->numbers_below(numbers, words, bounds[b]), "pair %d, whose product is under 2^32, is taken", i);
            set_pair(words, i, last + 1);
            expect(kernels->numbers_below(numbers, words, bounds[b]), "pair %d, whose product is not, is left", i);
            set_pair(words, i, kept);
        }
    }
}

void test_random(const dlc_real_kernels *kernels, int32_t dtype)
{
    const dlc_kernels *table;
    if (dlc_kernels_get(&table) != DLC_OK)
        return;
    test_known_answers(kernels, dtype);
    test_normal(kernels, dtype);
    test_keep_mask(table->real[DLC_FLOAT32], kernels, dtype);
    test_last_blocks(kernels, dtype);
    test_numbers_below(kernels);
    for (int kind = 0; kind < 3; kind++)
        test_ranges(kernels, dtype, kind);
}
