# Array helpers that the modules of dlcore share; see _arrays.pyx for the longer ones.
cimport numpy as cnp

from dlcore._native cimport (
    DLC_BOOL,
    DLC_FLOAT32,
    DLC_FLOAT64,
    DLC_INT32,
    DLC_INT64,
    DLC_MAX_NDIM,
    DLC_UINT8,
    dlc_array,
)
from libc.string cimport memcmp

cdef cnp.ndarray plain_array(object value)
cdef cnp.ndarray real_array(object value, str name)
cdef cnp.ndarray aligned_array(int ndim, const cnp.npy_intp *shape, int type_number)
cdef int describe(dlc_array *view, cnp.ndarray array, str name) except -1
cdef bint same_array(cnp.ndarray a, cnp.ndarray b) noexcept
cdef tuple shape_of(cnp.ndarray array)
cdef cnp.ndarray checked_out(object out, int ndim, const cnp.npy_intp *dims, int number)
cdef int check_overlap(cnp.ndarray out, cnp.ndarray array, str name, str out_name=*) except -1
cdef object result_of(cnp.ndarray array, bint is_own)
cdef cnp.ndarray as_double(cnp.ndarray array)
cdef bint is_traced(object value)
cdef object traced(str function, tuple arguments, object out=*)


cdef inline int native_dtype(cnp.ndarray array) noexcept:
    """The dlc_dtype of an array, or -1 where the core has none."""
    cdef int number = cnp.PyArray_TYPE(array)
    if number == cnp.NPY_FLOAT32:
        return DLC_FLOAT32
    if number == cnp.NPY_FLOAT64:
        return DLC_FLOAT64
    if number == cnp.NPY_UINT8:
        return DLC_UINT8
    if number == cnp.NPY_BOOL:
        return DLC_BOOL
    cdef Py_ssize_t size = cnp.PyArray_ITEMSIZE(array)
    if cnp.PyTypeNum_ISSIGNED(number) and not cnp.PyTypeNum_ISFLOAT(number):  # long is int32 or int64
        return DLC_INT32 if size == 4 else DLC_INT64 if size == 8 else -1
    return -1


cdef inline bint is_real(int number) noexcept:
    return number == cnp.NPY_FLOAT32 or number == cnp.NPY_FLOAT64


cdef inline bint is_plain(cnp.ndarray array) noexcept:
    """Whether the core can read an array as it lies: aligned, in this machine's byte order."""
    return cnp.PyArray_ISALIGNED(array) and cnp.PyArray_ISNOTSWAPPED(array)


cdef inline bint same_extents(int ndim, const cnp.npy_intp *a, const cnp.npy_intp *b) noexcept:
    return ndim == 0 or memcmp(a, b, ndim * sizeof(cnp.npy_intp)) == 0
