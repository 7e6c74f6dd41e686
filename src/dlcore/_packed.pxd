# A matrix that is packed once for many products; see _packed.pyx.
cimport cython
cimport numpy as cnp


@cython.final
cdef class PackedMatrix:
    cdef cnp.ndarray memory  # (1, float32 that it takes): to checks it is a matrix of that dtype
    cdef readonly tuple shape
