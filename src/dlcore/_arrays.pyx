"""NumPy arrays as the core sees them, for the modules that call it."""

from cpython.pyport cimport PY_SSIZE_T_MAX
from libc.stdint cimport uintptr_t

import numpy as np

cnp.import_array()

cdef extern from "core/sizes.h" nogil:
    enum:
        DLC_ALIGNMENT

cdef enum:
    MOST_AXES = 32  # of NumPy's arrays before NumPy 2


cdef cnp.ndarray plain_array(object value):
    cdef cnp.ndarray array = value if cnp.PyArray_CheckExact(value) else np.asarray(value)
    if not is_plain(array):
        array = np.array(array, array.dtype.newbyteorder("="), order="K")
    return array


cdef cnp.ndarray real_array(object value, str name):
    cdef cnp.ndarray array = plain_array(value)
    if not is_real(cnp.PyArray_TYPE(array)):
        raise TypeError(f"{name} has dtype {array.dtype}; expected float32 or float64")
    return array


cdef cnp.ndarray aligned_array(int ndim, const cnp.npy_intp *shape, int type_number):
    """An uninitialised array in C order that begins at a multiple of 64 bytes."""
    cdef cnp.npy_intp size = cnp.PyArray_DescrFromType(type_number).itemsize
    cdef int axis
    for axis in range(ndim):
        if shape[axis] > 0 and size > (PY_SSIZE_T_MAX - DLC_ALIGNMENT) // shape[axis]:
            raise MemoryError(f"no memory for an array of shape {tuple([shape[i] for i in range(ndim)])}")
        size *= shape[axis]
    size += DLC_ALIGNMENT
    cdef cnp.ndarray memory = cnp.PyArray_EMPTY(1, &size, cnp.NPY_UINT8, False)
    cdef uintptr_t address = <uintptr_t>cnp.PyArray_DATA(memory)
    address += (DLC_ALIGNMENT - address % DLC_ALIGNMENT) % DLC_ALIGNMENT
    cdef cnp.ndarray array = cnp.PyArray_SimpleNewFromData(
        ndim, <cnp.npy_intp *>shape, type_number, <void *>address
    )
    cnp.set_array_base(array, memory)
    return array


def aligned_empty(tuple shape not None, dtype):
    """An uninitialised C-contiguous array of a native dtype that begins at a multiple of 64 bytes."""
    cdef cnp.npy_intp[MOST_AXES] extents
    cdef Py_ssize_t axis
    if len(shape) > MOST_AXES:
        raise ValueError(f"shape has {len(shape)} axes; the limit is {MOST_AXES}")
    for axis in range(len(shape)):
        extents[axis] = shape[axis]
    return aligned_array(<int>len(shape), extents, (<cnp.dtype>np.dtype(dtype)).type_num)


cdef int describe(dlc_array *view, cnp.ndarray array, str name) except -1:
    """view = array, which is plain and of a dtype that the core knows."""
    cdef int axis, ndim = cnp.PyArray_NDIM(array)
    cdef Py_ssize_t size = cnp.PyArray_ITEMSIZE(array)
    cdef int log2_size = 3 if size == 8 else 2 if size == 4 else 0  # a division takes as long as all the rest
    if ndim > DLC_MAX_NDIM:
        raise ValueError(f"{name} has {ndim} axes; the limit is {DLC_MAX_NDIM}")
    view.data = cnp.PyArray_DATA(array)
    view.dtype = native_dtype(array)
    view.ndim = ndim
    for axis in range(ndim):
        view.shape[axis] = cnp.PyArray_DIM(array, axis)
        view.stride[axis] = cnp.PyArray_STRIDE(array, axis) >> log2_size if view.shape[axis] > 1 else 0
    return 0


cdef bint same_array(cnp.ndarray a, cnp.ndarray b) noexcept:
    cdef int ndim = cnp.PyArray_NDIM(a)
    return (cnp.PyArray_DATA(a) == cnp.PyArray_DATA(b) and cnp.PyArray_NDIM(b) == ndim
            and cnp.PyArray_TYPE(a) == cnp.PyArray_TYPE(b)
            and same_extents(ndim, cnp.PyArray_DIMS(a), cnp.PyArray_DIMS(b))
            and same_extents(ndim, cnp.PyArray_STRIDES(a), cnp.PyArray_STRIDES(b)))


cdef tuple shape_of(cnp.ndarray array):
    return (<object>array).shape


cdef int overlaps_itself(cnp.ndarray array) except -1:
    """Whether two elements may share memory: an axis does not step over all that the finer ones span."""
    cdef cnp.npy_intp span = cnp.PyArray_ITEMSIZE(array)
    if cnp.PyArray_IS_C_CONTIGUOUS(array) or cnp.PyArray_SIZE(array) == 0:
        return False
    for stride, extent in sorted(zip(np.abs((<object>array).strides).tolist(), (<object>array).shape)):
        if extent == 1:
            continue
        if stride < span:
            return True
        span = stride * extent
    return False


cdef cnp.ndarray checked_out(object out, int ndim, const cnp.npy_intp *dims, int number):
    cdef cnp.ndarray array
    cdef int i
    if not cnp.PyArray_Check(out):
        raise TypeError(f"out must be a numpy.ndarray, not {type(out).__name__}")
    array = out
    if cnp.PyArray_TYPE(array) != number or not cnp.PyArray_ISNOTSWAPPED(array):
        raise TypeError(f"out has dtype {array.dtype}, but the result is {np.dtype(cnp.PyArray_DescrFromType(number))}")
    if cnp.PyArray_NDIM(array) != ndim or not same_extents(ndim, cnp.PyArray_DIMS(array), dims):
        raise ValueError(f"out has shape {out.shape}, but the result has {tuple([dims[i] for i in range(ndim)])}")
    if not cnp.PyArray_ISWRITEABLE(array):
        raise ValueError("out is read-only")
    if not cnp.PyArray_ISALIGNED(array):
        raise ValueError("out is not aligned to its elements")
    if overlaps_itself(array):
        raise ValueError("elements of out share memory")
    return array


cdef void byte_bounds(char **low, char **high, cnp.ndarray array) noexcept:
    """The memory [low, high) that an array with elements lies in."""
    cdef int axis
    cdef cnp.npy_intp reach
    low[0] = <char *>cnp.PyArray_DATA(array)
    high[0] = low[0] + cnp.PyArray_ITEMSIZE(array)
    for axis in range(cnp.PyArray_NDIM(array)):
        reach = (cnp.PyArray_DIM(array, axis) - 1) * cnp.PyArray_STRIDE(array, axis)
        if reach < 0:
            low[0] += reach
        else:
            high[0] += reach


cdef int check_overlap(cnp.ndarray out, cnp.ndarray array, str name, str out_name="out") except -1:
    cdef char *out_low
    cdef char *out_high
    cdef char *low
    cdef char *high
    byte_bounds(&out_low, &out_high, out)
    byte_bounds(&low, &high, array)
    if out_low >= high or low >= out_high:  # NumPy's own function takes as long as a product of 16 x 16
        return 0
    # Past max_work it answers yes: such strides do not come up by accident.
    if np.may_share_memory(out, array, max_work=100_000):
        raise ValueError(f"{out_name} overlaps {name}")
    return 0


cdef object result_of(cnp.ndarray array, bint is_own):
    """The array, or a scalar where NumPy's functions give one."""
    return array[()] if is_own and cnp.PyArray_NDIM(array) == 0 else array


cdef cnp.ndarray as_double(cnp.ndarray array):
    if cnp.PyArray_TYPE(array) == cnp.NPY_FLOAT64:
        return array
    return cnp.PyArray_Cast(array, cnp.NPY_FLOAT64)


cdef bint is_traced(object value):
    return not cnp.PyArray_CheckExact(value) and hasattr(type(value), "__dlcore_traced__")


cdef object traced(str function, tuple arguments, object out=None):
    from dlcore.graph import traced_ops

    return traced_ops.run(function, *arguments, out=out)
