/* Sizes: the one place where products of extents are checked, and what a dtype weighs. */
#ifndef DLC_CORE_SIZES_H
#define DLC_CORE_SIZES_H

#include <stdbool.h>

#include "core/status.h"

#define DLC_ALIGNMENT 64 /* of arenas and of every tensor in them: a cache line, a v4 vector */

/* *out = a * b (or a + b); false when the result does not fit in int64_t. */
static inline bool dlc_size_mul(int64_t *out, int64_t a, int64_t b)
{
    return !__builtin_mul_overflow(a, b, out);
}

static inline bool dlc_size_add(int64_t *out, int64_t a, int64_t b)
{
    return !__builtin_add_overflow(a, b, out);
}

static inline int64_t dlc_align_up(int64_t bytes)
{
    return (bytes + DLC_ALIGNMENT - 1) & ~(int64_t)(DLC_ALIGNMENT - 1);
}

static inline int64_t dlc_min64(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t dlc_max64(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t dlc_ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

static inline int64_t dlc_dtype_size(int32_t dtype)
{
    static const int8_t size[DLC_DTYPE_COUNT] = {4, 8, 1, 4, 8, 1};
    return size[dtype];
}

/* Products and sums of costs, which end at INT64_MAX instead of overflowing. */
static inline int64_t dlc_cost_mul(int64_t a, int64_t b)
{
    int64_t product;
    return dlc_size_mul(&product, a, b) ? product : INT64_MAX;
}

static inline int64_t dlc_cost_add(int64_t a, int64_t b)
{
    int64_t sum;
    return dlc_size_add(&sum, a, b) ? sum : INT64_MAX;
}

/* Whether kernels compute in the dtype. */
static inline bool dlc_is_real(int32_t dtype) { return dtype >= 0 && dtype < DLC_REAL_COUNT; }

/* The number of elements of a shape; DLC_OVERFLOW names what when it does not fit. */
dlc_status dlc_element_count(int64_t *count, const int64_t *shape, int32_t ndim, const char *what);

/* Memory aligned to DLC_ALIGNMENT, or NULL. Free it with free(). */
void *dlc_aligned_alloc(int64_t bytes);

#endif
