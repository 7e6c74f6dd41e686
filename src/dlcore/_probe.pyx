"""Limits of the machine, measured now and in this process: what benches hold kernels against."""

from libc.stdint cimport int32_t, int64_t

cimport numpy as cnp

from dlcore._native cimport DLC_FLOAT32, DLC_FLOAT64, check, dlc_status

from typing import NamedTuple

import numpy as np

from dlcore.memory import aligned_empty

cnp.import_array()


cdef extern from "cpu/kernels.h":
    enum:
        DLC_PROBE_GRAIN


cdef extern from "probe.h" nogil:
    enum:
        DLC_PROBE_MAX_ARRAYS
        DLC_PROBE_COPY
        DLC_PROBE_COPY_STREAMING
        DLC_PROBE_READ
        DLC_PROBE_UPDATE

    ctypedef struct dlc_probe_memory:
        void *arrays[8]
        int64_t bytes
        int32_t kind
        int32_t n_read, n_written

    dlc_status dlc_probe_fma(double *flops_per_second, int32_t dtype, int32_t threads, double seconds)
    dlc_status dlc_probe_bfloat16(double *flops_per_second, int32_t threads, double seconds)
    dlc_status dlc_probe_memory_rate(double *bytes_per_second, const dlc_probe_memory *memory, int32_t threads,
                                     double seconds)
    dlc_status dlc_probe_barrier(double *barriers_per_second, int32_t threads, double seconds)


class CopyRate(NamedTuple):
    """Bytes read and written per second, and which stores gave that: "plain" or "streaming"."""

    rate: float
    stores: str


# Bytes that each array begins further into its page than the one before: at the same place, a load
# has to wait for a store of another array that only looks like its own.
cdef int64_t STAGGER = 576

# Memory of the last probe: to fault in new pages in each round would take longer than a probe.
_kept = None


def fma_rate(dtype=np.float32, int32_t threads=1, double seconds=0.05):
    """The rate of multiply-adds that touch registers only.

    Parameters
    ----------
    dtype : float32 or float64
    threads : int
        At most the limit of ``dl.set_num_threads``.
    seconds : float
        For how long to measure, at least.

    Returns
    -------
    float
        Operations per second of all threads together, two per multiply-add.

    Raises
    ------
    ValueError
        If `threads` or `seconds` is out of range.
    TypeError
        For another dtype.
    DlcoreError
        If other calls hold the cores.
    """
    cdef double rate = 0
    cdef int32_t number = DLC_FLOAT32
    cdef dlc_status status
    kind = np.dtype(dtype)
    if kind == np.float64:
        number = DLC_FLOAT64
    elif kind != np.float32:
        raise TypeError(f"dtype is {kind}; expected float32 or float64")
    with nogil:
        status = dlc_probe_fma(&rate, number, threads, seconds)
    check(status)
    return rate


def bfloat16_rate(int32_t threads=1, double seconds=0.05):
    """The rate of the multiply-adds that products with ``compute="bfloat16"`` are made of.

    Parameters
    ----------
    threads, seconds
        As of `fma_rate`.

    Returns
    -------
    float
        Operations per second, as of `fma_rate`.
    """
    cdef double rate = 0
    cdef dlc_status status
    with nogil:
        status = dlc_probe_bfloat16(&rate, threads, seconds)
    check(status)
    return rate


def barrier_rate(int32_t threads=2, double seconds=0.01):
    """How often per second a team of threads meets at a barrier when it does nothing else.

    Threads on cores without a common cache meet several times less often, and hand data to each
    other as much more slowly. The host of a virtual machine may move its CPUs there at any time.

    Parameters
    ----------
    threads, seconds
        As of `fma_rate`.

    Returns
    -------
    float
        Barriers per second.
    """
    cdef double rate = 0
    cdef dlc_status status
    with nogil:
        status = dlc_probe_barrier(&rate, threads, seconds)
    check(status)
    return rate


def copy_rate(int64_t nbytes, int32_t threads=1, double seconds=0.05):
    """The rate of copying `nbytes` again and again, by the stores that are faster at that size.

    Parameters
    ----------
    nbytes : int
        Of the source, so that the footprint is twice as large.
    threads, seconds
        As of `fma_rate`; `seconds` is shared by the two kinds of stores.

    Returns
    -------
    CopyRate
        `rate` in bytes per second, read and written, and `stores`, "plain" or "streaming".
    """
    out, source = _arrays(2, nbytes)
    rates = [
        CopyRate(copy(out, source, threads, seconds / 2, stores == "streaming"), stores)
        for stores in ("plain", "streaming")
    ]
    return max(rates)


def copy(cnp.ndarray out, cnp.ndarray source, int32_t threads=1, double seconds=0.0, bint streaming=False):
    """``out[:] = source``, at least once to warm up and then for `seconds`; bytes per second.

    Both are C-contiguous float32 arrays of one size.
    """
    cdef dlc_probe_memory memory
    for name, array in (("out", out), ("source", source)):
        if array.dtype != np.float32 or not array.flags.c_contiguous or not array.flags.aligned:
            raise ValueError(f"{name} is no C-contiguous, aligned float32 array")
    if not out.flags.writeable:
        raise ValueError("out is read-only")
    if out.nbytes != source.nbytes:
        raise ValueError(f"out has {out.nbytes} bytes, source {source.nbytes}; expected as many")
    memory.arrays[0], memory.arrays[1] = cnp.PyArray_DATA(out), cnp.PyArray_DATA(source)
    memory.bytes = out.nbytes
    memory.kind = DLC_PROBE_COPY_STREAMING if streaming else DLC_PROBE_COPY
    return _memory_rate(&memory, threads, seconds)


def read_rate(int64_t nbytes, int32_t threads=1, double seconds=0.05):
    """The rate of reading the same `nbytes` again and again: that of the cache they fit in.

    Returns
    -------
    float
        Bytes per second.
    """
    cdef dlc_probe_memory memory
    cdef cnp.ndarray source = _arrays(1, nbytes)[0]
    memory.arrays[0] = cnp.PyArray_DATA(source)
    memory.bytes = source.nbytes
    memory.kind = DLC_PROBE_READ
    return _memory_rate(&memory, threads, seconds)


def stream_rate(int32_t n_read, int32_t n_written, int64_t nbytes, int32_t threads=1, double seconds=0.05):
    """The rate of reading `n_read` arrays side by side and writing the first `n_written` in place.

    An Adam step reads 4 arrays (parameter, gradient and two moments) and writes 3 of them.

    Parameters
    ----------
    n_read, n_written : int
        ``1 <= n_written <= n_read <= 8``
    nbytes : int
        Of each array; rounded up to a multiple of 512.
    threads, seconds
        As of `fma_rate`.

    Returns
    -------
    float
        Bytes per second, read and written.
    """
    cdef dlc_probe_memory memory
    if not 1 <= n_written <= n_read <= DLC_PROBE_MAX_ARRAYS:
        raise ValueError(
            f"n_read is {n_read} and n_written {n_written}; "
            f"expected 1 <= n_written <= n_read <= {DLC_PROBE_MAX_ARRAYS}"
        )
    for i, array in enumerate(_arrays(n_read, nbytes)):
        memory.arrays[i] = cnp.PyArray_DATA(array)
        memory.bytes = array.nbytes
    memory.kind = DLC_PROBE_UPDATE
    memory.n_read, memory.n_written = n_read, n_written
    return _memory_rate(&memory, threads, seconds)


cdef double _memory_rate(const dlc_probe_memory *memory, int32_t threads, double seconds) except -1:
    cdef double rate = 0
    cdef dlc_status status
    with nogil:
        status = dlc_probe_memory_rate(&rate, memory, threads, seconds)
    check(status)
    return rate


def _arrays(int count, int64_t nbytes):
    """So many float32 arrays of `nbytes`, rounded up to whole grains."""
    global _kept
    if not 1 <= nbytes <= 1 << 40:
        raise ValueError(f"nbytes is {nbytes}; expected 1 to 2**40")
    cdef int64_t size = (nbytes + DLC_PROBE_GRAIN - 1) // DLC_PROBE_GRAIN * DLC_PROBE_GRAIN
    cdef int64_t step = size + STAGGER
    if _kept is None or _kept.size < count * step // 4:
        _kept = aligned_empty((count * step // 4,), np.float32)
        _kept.fill(0)
    return [_kept[i * step // 4 : (i * step + size) // 4] for i in range(count)]
