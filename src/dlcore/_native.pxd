# The native core as other Cython code sees it: dlcore.h, and one function that raises its errors.
from libc.stdint cimport int32_t, int64_t


cdef extern from "dlcore.h" nogil:
    enum:
        DLC_MAX_NDIM

    ctypedef enum dlc_status:
        DLC_OK
        DLC_INVALID_ARGUMENT
        DLC_OUT_OF_MEMORY
        DLC_OVERFLOW
        DLC_INVALID_PLAN
        DLC_UNSUPPORTED

    ctypedef enum dlc_dtype:
        DLC_FLOAT32
        DLC_FLOAT64
        DLC_UINT8
        DLC_INT32
        DLC_INT64
        DLC_BOOL

    ctypedef struct dlc_array:
        void *data
        int32_t dtype
        int32_t ndim
        int64_t shape[8]
        int64_t stride[8]

    const char *dlc_last_error()
    const char *dlc_version()
    dlc_status dlc_isa_name(const char **name)
    const char *dlc_isa_available()
    dlc_status dlc_set_num_threads(int32_t threads)
    int32_t dlc_get_num_threads()
    dlc_status dlc_matmul(const dlc_array *out, const dlc_array *a, const dlc_array *b)


# Raises ValueError, MemoryError, OverflowError or dlcore.DlcoreError unless status is DLC_OK.
cdef int check(dlc_status status) except -1
