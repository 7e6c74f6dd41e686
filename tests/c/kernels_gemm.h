/* What the tests of products share, of kernels and of what is above them. */
#ifndef DLC_TESTS_KERNELS_GEMM_H
#define DLC_TESTS_KERNELS_GEMM_H

#include <string.h>

#include "arrays.h"
#include "core/sizes.h"
#include "cpu/kernels.h"

/* Places of arrays */
enum { C, A, B, START, SECOND, SUMS, SECOND_SUMS, BESIDE, PACKED };

static inline int bits_of(int32_t dtype) { return dtype == DLC_FLOAT32 ? 32 : 64; }

static inline const char *name_of(const dlc_gemm_kernels *kernels, int32_t dtype)
{
    return kernels->packs_pairs ? "bfloat16" : dtype == DLC_FLOAT32 ? "float32" : "float64";
}

static inline int64_t round_up(int64_t n, int64_t multiple) { return dlc_ceil_div(n, multiple) * multiple; }

/* A copy of an array, as what an accumulating product starts from. */
static inline const void *copy_of(int32_t dtype, const void *x, int64_t n)
{
    return memcpy(place(START, dtype, n, EDGE_BEHIND), x, (size_t)(n * size_of(dtype)));
}

/* In kernels_gemm.c and blocked_products.c, also for kernels of bfloat16 */
void test_sum_parts(const dlc_gemm_kernels *kernels, int32_t dtype);
void test_products(const dlc_gemm_kernels *kernels, int32_t dtype);
void test_parts_of_panels(const dlc_gemm_kernels *kernels);
void test_gram_with_packed_b(const dlc_gemm_kernels *kernels);

#endif
