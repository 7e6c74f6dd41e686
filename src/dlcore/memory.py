"""Arrays as the native core wants them."""

from __future__ import annotations

import mmap
from typing import Any

import numpy as np

from dlcore._arrays import aligned_empty
from dlcore._ops import as_contiguous

__all__ = ["ALIGNMENT", "NATIVE_DTYPES", "aligned_empty", "is_mapped", "native_array"]

ALIGNMENT = 64  # a cache line, and the widest vector
NATIVE_DTYPES = tuple(np.dtype(t) for t in ("f4", "f8", "u1", "i4", "i8", "?"))


def is_mapped(array: np.ndarray) -> bool:
    """Whether the array's memory is that of an ``mmap``, as in ``numpy.memmap`` and its views."""
    owner: Any = array
    while isinstance(owner, np.ndarray | memoryview):
        owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
    return isinstance(owner, mmap.mmap)


def native_array(value: Any, name: str) -> np.ndarray:
    """``value`` as a C-contiguous, aligned array of a dtype that plans read.

    Arrays that are so already are returned as they are; other integers become int64 where they
    fit, and other floats float64.

    Raises
    ------
    TypeError
        If it holds anything but real numbers or booleans.
    """
    array = np.asarray(value)
    if array.dtype.kind not in "buif":
        raise TypeError(f"{name} must hold numbers, but its dtype is {array.dtype}")
    if array.dtype in NATIVE_DTYPES and array.flags.aligned:
        return as_contiguous(array)
    dtype = array.dtype.newbyteorder("=")
    if dtype not in NATIVE_DTYPES:
        fits_int64 = dtype.kind != "f" and (dtype.itemsize < 8 or np.all(array < 1 << 63))
        dtype = np.dtype(np.int64 if fits_int64 else np.float64)
    return np.require(array, dtype, ["C_CONTIGUOUS", "ALIGNED"])
