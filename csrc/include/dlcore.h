/* dlcore: training and inference of small and medium neural networks on CPUs.
 *
 * The only public C header. Every function that can fail returns a dlc_status; dlc_last_error()
 * then holds one sentence that says what was wrong, for the calling thread. Nothing here prints,
 * exits or aborts. Sizes are int64_t; strides count elements, not bytes. */
#ifndef DLCORE_H
#define DLCORE_H

#include <stdint.h>

#define DLC_VERSION_MAJOR 0
#define DLC_VERSION_MINOR 1
#define DLC_VERSION_PATCH 0

#if defined(__GNUC__)
#define DLC_API __attribute__((visibility("default")))
#else
#define DLC_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum dlc_status {
    DLC_OK = 0,
    DLC_INVALID_ARGUMENT, /* a value, shape or dtype that the function does not take */
    DLC_OUT_OF_MEMORY,    /* an allocation failed */
    DLC_OVERFLOW,         /* a product of sizes does not fit in 63 bits */
    DLC_INVALID_PLAN,     /* a plan whose records contradict themselves or their bounds */
    DLC_UNSUPPORTED       /* this machine or build cannot do what was asked */
} dlc_status;

typedef enum dlc_dtype {
    DLC_FLOAT32 = 0,
    DLC_FLOAT64 = 1,
    DLC_UINT8 = 2,
    DLC_INT32 = 3,
    DLC_INT64 = 4,
    DLC_BOOL = 5
} dlc_dtype;
#define DLC_DTYPE_COUNT 6
#define DLC_REAL_COUNT 2 /* the first two dtypes are the ones that kernels compute in */

#define DLC_MAX_NDIM 8

/* An array in memory that the caller owns. Strides count elements and may be zero or negative. */
typedef struct dlc_array {
    void *data;
    int32_t dtype; /* a dlc_dtype */
    int32_t ndim;
    int64_t shape[DLC_MAX_NDIM];
    int64_t stride[DLC_MAX_NDIM];
} dlc_array;

/* The last error of the calling thread; "" when there was none. Valid until its next call. */
DLC_API const char *dlc_last_error(void);
DLC_API const char *dlc_version(void);

/* The kernel table in use ("x86-64-v4", ...), chosen once: the best that CPU and operating system
 * support, or the one that the environment variable DLCORE_ISA names. */
DLC_API dlc_status dlc_isa_name(const char **name);
/* The names of the tables that run here, best first, separated by blanks. */
DLC_API const char *dlc_isa_available(void);

/* The limit on threads: what dlc_set_num_threads set (0: the default again), else the smallest of the
 * OpenMP limit of the calling thread, the affinity mask and the cgroup quota. */
DLC_API dlc_status dlc_set_num_threads(int32_t threads);
DLC_API int32_t dlc_get_num_threads(void);

/* out (..., m, n) = a (..., m, k) @ b (..., k, n); leading axes broadcast, all of one real dtype.
 * out must not overlap a or b. */
DLC_API dlc_status dlc_matmul(const dlc_array *out, const dlc_array *a, const dlc_array *b);

#ifdef __cplusplus
}
#endif
#endif
