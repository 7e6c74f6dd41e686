/* Loops that do nothing but what a limit is named after: multiply-adds in registers, and loads and stores. */
#include "kernels/probe_kernels.h"

#include "kernels/kernels_decl.h"
#include "kernels/lanes.h"

/* Independent chains that cover latency times issue width (4 x 2 on x86, 4 x 4 on wide Arm cores); they and the two operands
 * stay in the register file. */
#if defined(__AVX512F__) || defined(__aarch64__)
enum { FMA_CHAINS = 24 };
#else
enum { FMA_CHAINS = 12 };
#endif

static double multiply_add(int64_t repeats)
{
    vreal chain[FMA_CHAINS];
    /* A factor below one brings each chain near its fixed point, 2: no overflow, no subnormals. None starts there, as it
     * would stay there, and the compiler would see that and compute it no more. */
    const vreal factor = v_splat((real)0.5), term = v_splat(1);
    DLC_UNROLL
    for (int c = 0; c < FMA_CHAINS; c++)
        chain[c] = v_splat((real)(c + 3));
    for (int64_t repeat = 0; repeat < repeats; repeat++) {
        DLC_UNROLL
        for (int c = 0; c < FMA_CHAINS; c++)
            chain[c] = chain[c] * factor + term;
    }
    double total = 0;
    for (int c = 0; c < FMA_CHAINS; c++)
        total += (double)v_fold_add(chain[c]);
    return total;
}

/* Vectors between two looks at the loop's end. */
enum { BLOCK = 8, BLOCK_REALS = BLOCK * DLC_LANES };

/* Keeps compilers from calling memcpy instead, which chooses its stores itself. */
static inline void compiler_barrier(void) { __asm__ volatile("" ::: "memory"); }

static void copy(void *out, const void *in, int64_t n)
{
    real *dst = out;
    const real *src = in;
    int64_t i = 0;
    for (; i + BLOCK_REALS <= n; i += BLOCK_REALS) {
        vreal v[BLOCK];
        DLC_UNROLL
        for (int b = 0; b < BLOCK; b++)
            v[b] = v_load(src + i + b * DLC_LANES);
        compiler_barrier();
        DLC_UNROLL
        for (int b = 0; b < BLOCK; b++)
            v_store(dst + i + b * DLC_LANES, v[b]);
    }
    memcpy(dst + i, src + i, (size_t)(n - i) * sizeof(real));
}

static void copy_streaming(void *out, const void *in, int64_t n)
{
    DLC_NAME(dlc_stream)(out, in, n);
    DLC_NAME(dlc_stream_end)();
}

static uint64_t read(const void *in, int64_t n)
{
    const real *src = in;
    vint seen[BLOCK] = {{0}};
    int64_t i = 0;
    for (; i + BLOCK_REALS <= n; i += BLOCK_REALS) {
        DLC_UNROLL
        for (int b = 0; b < BLOCK; b++)
            seen[b] |= (vint)v_load(src + i + b * DLC_LANES);
    }
    for (int b = 1; b < BLOCK; b++)
        seen[0] |= seen[b];
    real_int bits = 0;
    for (int lane = 0; lane < DLC_LANES; lane++)
        bits |= seen[0][lane];
    for (; i < n; i++) {
        real_int last;
        memcpy(&last, src + i, sizeof last);
        bits |= last;
    }
    return (uint64_t)bits;
}

/* Half a block: the accumulators and one operand at a time stay in registers for any number of arrays. */
enum { UPDATE_BLOCK = BLOCK / 2, UPDATE_REALS = UPDATE_BLOCK * DLC_LANES };

static void update(void *const *arrays, int n_read, int n_written, int64_t first, int64_t n)
{
    for (int64_t i = first; i + UPDATE_REALS <= first + n; i += UPDATE_REALS) {
        vint mixed[UPDATE_BLOCK] = {{0}};
        for (int a = 0; a < n_read; a++) {
            const real *x = (const real *)arrays[a] + i;
            DLC_UNROLL
            for (int b = 0; b < UPDATE_BLOCK; b++)
                mixed[b] ^= (vint)v_load(x + b * DLC_LANES);
        }
        for (int a = 0; a < n_written; a++) {
            real *x = (real *)arrays[a] + i;
            DLC_UNROLL
            for (int b = 0; b < UPDATE_BLOCK; b++)
                v_store(x + b * DLC_LANES, (vreal)mixed[b]);
        }
    }
}

const dlc_probe_kernels DLC_NAME(dlc_probe_kernels) = {
    .flops_per_repeat = 2 * FMA_CHAINS * DLC_LANES,
    .multiply_add = multiply_add,
    .copy = copy,
    .copy_streaming = copy_streaming,
    .read = read,
    .update = update,
};
