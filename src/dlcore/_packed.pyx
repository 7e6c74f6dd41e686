"""Matrices that are packed once for many products."""

cimport cython
cimport numpy as cnp
from libc.stdint cimport int64_t

import numpy as np

from dlcore._arrays cimport describe, is_traced, real_array, shape_of
from dlcore._native cimport check, dlc_array, dlc_status

from dlcore._arrays import aligned_empty

cnp.import_array()


cdef extern from "ops.h" nogil:
    dlc_status dlc_packed_bytes(int64_t *bytes, const dlc_array *w)
    dlc_status dlc_pack_bfloat16(void *packed, const dlc_array *w)


cdef object _maker = object()  # what pack_bfloat16 alone can hand over


@cython.final
cdef class PackedMatrix:
    """A matrix rounded to bfloat16 and laid out for products, as :func:`dlcore.ops.pack_bfloat16` makes it.

    It cannot be changed, and belongs to the process and CPU that it was made for.

    Attributes
    ----------
    shape : tuple of int
    nbytes : int
        2 an element, with the rows rounded up to an even number, with AMX to a multiple of 32, and the columns
        to whole vectors (of 16 elements at most).
    """

    def __cinit__(self, object maker=None):
        if maker is not _maker:
            raise TypeError("packed matrices are made by dlcore.ops.pack_bfloat16")

    @property
    def nbytes(self):
        return self.memory.nbytes

    def __repr__(self):
        return f"<{self.shape[0]} x {self.shape[1]} matrix packed in bfloat16>"

    def __array__(self, dtype=None, copy=None):
        raise TypeError("a packed matrix can only be the second operand of dlcore.ops.matmul and dlcore.ops.linear")

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        raise TypeError("a packed matrix is for this process and CPU only; pack the array again where it is needed")


def pack_bfloat16(w, *, bint transpose=False):
    """A matrix rounded to bfloat16 and packed once for many products.

    :func:`matmul` and :func:`linear` take it as their second operand, and compute as with
    ``compute="bfloat16"``. Without it they round and pack the whole matrix at every call, which takes
    7% of 512 x 512 x 512, 20% of 32 x 784 x 256 and 43% of 8 x 784 x 256 (Zen 4, one thread).

    Parameters
    ----------
    w : array_like of float32, shape (k, n)
        It is copied; what is written to it later changes nothing.
    transpose : bool, default=False
        Pack the transpose of `w`, which has shape (n, k) then.

    Returns
    -------
    PackedMatrix
        With `shape` (k, n) and `nbytes`, about half of those of `w`, or more where it has few rows or columns.

    Raises
    ------
    TypeError
        If `w` is not float32.
    ValueError
        If `w` is no matrix.
    OverflowError
        If no memory could hold the packed matrix.
    NotImplementedError
        If `w` is traced.

    See Also
    --------
    matmul : What rounding to bfloat16 does to a product, and the CPUs that it is faster on.

    Notes
    -----
    A product has the bits of ``compute="bfloat16"`` where k is below 6144, or its result has more than
    8192 elements. Elsewhere products of unpacked matrices add up parts of k.

    References
    ----------
    Goto, van de Geijn, Anatomy of high-performance matrix multiplication, ACM Transactions on
    Mathematical Software 34 (3), 2008: what packing is for.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> w = dl.ops.pack_bfloat16(np.eye(3, dtype=np.float32))
    >>> w
    <3 x 3 matrix packed in bfloat16>
    >>> dl.ops.matmul(np.array([[1, 2, 3]], np.float32), w)
    array([[1., 2., 3.]], dtype=float32)
    """
    if is_traced(w):
        raise NotImplementedError("pack_bfloat16 in a traced function: its products are computed in the dtype of "
                                  "their operands")
    cdef cnp.ndarray array = real_array(w, "w")
    if cnp.PyArray_TYPE(array) != cnp.NPY_FLOAT32:
        raise TypeError(f"w has dtype {array.dtype}; pack_bfloat16 takes float32 only")
    if cnp.PyArray_NDIM(array) != 2:
        raise ValueError(f"w has shape {shape_of(array)}; expected 2 axes")
    if transpose:
        array = array.T
    cdef dlc_array view
    cdef int64_t size
    describe(&view, array, "w")
    check(dlc_packed_bytes(&size, &view))
    cdef PackedMatrix packed = PackedMatrix.__new__(PackedMatrix, _maker)
    packed.memory = aligned_empty((1, size // 4), np.float32)
    packed.shape = (view.shape[0], view.shape[1])
    cdef void *memory = cnp.PyArray_DATA(packed.memory)
    cdef dlc_status status
    with nogil:
        status = dlc_pack_bfloat16(memory, &view)
    check(status)
    return packed
