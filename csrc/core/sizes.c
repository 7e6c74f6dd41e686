#include "core/sizes.h"

#include <stdlib.h>

dlc_status dlc_element_count(int64_t *count, const int64_t *shape, int32_t ndim, const char *what)
{
    int64_t product = 1;
    bool fits = true, empty = false;
    for (int32_t axis = 0; axis < ndim; axis++) {
        if (shape[axis] < 0)
            return dlc_fail(DLC_INVALID_ARGUMENT, "%s has extent %lld on axis %d; extents are not negative", what,
                            (long long)shape[axis], (int)axis);
        empty = empty || shape[axis] == 0;
        fits = fits && dlc_size_mul(&product, product, shape[axis]);
    }
    if (!fits && !empty)
        return dlc_fail(DLC_OVERFLOW, "the number of elements of %s does not fit in 63 bits", what);
    *count = empty ? 0 : product;
    return DLC_OK;
}

void *dlc_aligned_alloc(int64_t bytes)
{
    if (bytes < 0 || bytes > INT64_MAX - DLC_ALIGNMENT)
        return NULL;
    /* aligned_alloc wants a multiple of the alignment, and may answer 0 bytes with NULL */
    return aligned_alloc(DLC_ALIGNMENT, (size_t)dlc_align_up(dlc_max64(bytes, 1)));
}
