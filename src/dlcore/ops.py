"""Operations on NumPy arrays, run by the native kernels.

Arrays are float32 or float64; where both meet, the result is float64, as in NumPy. Any strides
and read-only inputs do. Anything that ``numpy.asarray`` takes stands for an array. With ``out``,
the result is written there and ``out`` is returned; it must have the result's shape and dtype. It
may be the very input of an elementwise function, but share no other memory with an input.

All functions raise

- ``TypeError`` naming the argument, for another dtype (but of `take`);
- ``ValueError`` naming the argument, for shapes that do not fit, more than 8 axes, and an ``out``
  that is read-only or overlaps an input.

Results are the same at any number of threads, bit by bit. In a function that is traced (see
:mod:`dlcore.transforms`), all but the optimiser steps take traced arrays and are a part of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dlcore import _native
from dlcore._ops import (
    elu,
    exp,
    gelu,
    leaky_relu,
    linear,
    log,
    log_softmax,
    matmul,
    relu,
    sigmoid,
    silu,
    softmax,
    softplus,
    tanh,
)
from dlcore._packed import PackedMatrix, pack_bfloat16
from dlcore._training import (
    adam_step,
    binary_cross_entropy,
    cross_entropy,
    huber,
    mae,
    mse,
    sgd_step,
)

__all__ = [
    "PackedMatrix",
    "adam_step",
    "binary_cross_entropy",
    "cross_entropy",
    "elu",
    "exp",
    "gelu",
    "huber",
    "leaky_relu",
    "linear",
    "log",
    "log_softmax",
    "mae",
    "matmul",
    "mse",
    "pack_bfloat16",
    "relu",
    "sgd_step",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "take",
    "tanh",
]


def take(a: ArrayLike, indices: ArrayLike, *, axis: int | None = None) -> Any:
    """``np.take``, also of arrays by indices that are traced.

    NumPy's own looks at the array alone, and so is no part of a traced function where only the
    indices are traced.

    Parameters
    ----------
    a : array_like
        Of any dtype.
    indices : array_like of int
        Negative ones count from the end.
    axis : int, optional
        By default ``a`` is taken as flat.

    Returns
    -------
    ndarray

    Raises
    ------
    IndexError, ValueError
        If an index is out of bounds: IndexError from NumPy, ValueError from a traced function.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> table = np.array([10.0, 20.0, 30.0])
    >>> dl.jit(lambda i: dl.ops.take(table, i))(np.array([2, 0]))
    array([30., 10.])
    """
    if _native.is_traced_array(a) or _native.is_traced_array(indices):
        from dlcore.graph import traced_ops

        return traced_ops.run("take", a, indices, axis)
    return np.take(np.asarray(a), np.asarray(indices), axis)
