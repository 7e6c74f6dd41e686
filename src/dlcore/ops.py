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

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from dlcore import _native

__all__ = [
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
    "relu",
    "sgd_step",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "take",
    "tanh",
]

Activation = Literal[
    "identity", "relu", "leaky_relu", "elu", "sigmoid", "tanh", "gelu", "silu", "softplus"
]

_CODES = {name: code for name, (code, _) in _native.map_instructions().items()}
_RELU = _CODES["relu"]
_LEAKY_RELU = _CODES["leaky_relu"]
_ELU = _CODES["elu"]
_SIGMOID = _CODES["sigmoid"]
_TANH = _CODES["tanh"]
_GELU = _CODES["gelu"]
_SILU = _CODES["silu"]
_SOFTPLUS = _CODES["softplus"]
_EXP = _CODES["exp"]
_LOG = _CODES["log"]


def matmul(
    a: ArrayLike,
    b: ArrayLike,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
    out: np.ndarray | None = None,
) -> Any:
    """Matrix product, with the rules of ``numpy.matmul``.

    Parameters
    ----------
    a : array_like, shape (..., m, k) or (k,)
    b : array_like, shape (..., k, n) or (k,)
        Leading axes broadcast. An array of one axis is a row (``a``) or a column (``b``), and its
        axis of extent 1 is not in the result.
    transpose_a, transpose_b : bool, default=False
        Exchange the last two axes first; nothing is copied for it.
    out : ndarray, optional
        Where to write the result; it must not overlap `a` or `b`.

    Returns
    -------
    ndarray, shape (..., m, n)
        A scalar where both `a` and `b` have one axis.

    Raises
    ------
    ValueError
        If the shapes do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> x = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> dl.ops.matmul(x, x, transpose_b=True)
    array([[ 5., 11.],
           [11., 25.]])
    """
    return _native.matmul(a, b, transpose_a, transpose_b, out)


def linear(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    *,
    activation: Activation = "identity",
    out: np.ndarray | None = None,
) -> np.ndarray:
    """``activation(x @ w + b)``; bias and activation are applied while the product is in cache.

    Parameters
    ----------
    x : array_like, shape (n, k)
    w : array_like, shape (k, m)
    b : array_like, shape (m,), optional
    activation : str, default="identity"
        "identity", "relu", "leaky_relu" (slope 0.01), "elu" (alpha 1), "sigmoid", "tanh", "gelu",
        "silu" or "softplus", as the functions of these names.
    out : ndarray of shape (n, m), optional

    Returns
    -------
    ndarray, shape (n, m)

    Raises
    ------
    ValueError
        If the shapes do not fit, or for an unknown activation.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> dl.ops.linear(np.eye(2), np.array([[1.0, -1.0], [0.0, 2.0]]), [0.5, 0.5], activation="relu")
    array([[1.5, 0. ],
           [0.5, 2.5]])
    """
    return _native.linear(x, w, b, activation, out)


def relu(x: ArrayLike, *, out: np.ndarray | None = None) -> Any:
    """``max(x, 0)``; NaN stays NaN.

    Parameters
    ----------
    x : array_like
    out : ndarray, optional

    Returns
    -------
    ndarray, or scalar for an `x` without axes

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> dl.ops.relu(np.array([-1.0, 2.0]))
    array([0., 2.])
    """
    return _native.elementwise(_RELU, x, out)


def leaky_relu(x: ArrayLike, negative_slope: float = 0.01, *, out: np.ndarray | None = None) -> Any:
    """``x`` where it is positive, else ``negative_slope * x``.

    Parameters
    ----------
    x : array_like
    negative_slope : float, default=0.01
    out : ndarray, optional

    Returns
    -------
    ndarray, or scalar for an `x` without axes

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> dl.ops.leaky_relu(np.array([-1.0, 2.0]), 0.25)
    array([-0.25,  2.  ])
    """
    return _native.elementwise(_LEAKY_RELU, x, out, negative_slope)


def elu(x: ArrayLike, alpha: float = 1.0, *, out: np.ndarray | None = None) -> Any:
    """``x`` where it is positive, else ``alpha * (exp(x) - 1)``.

    Parameters
    ----------
    x : array_like
    alpha : float, default=1.0
    out : ndarray, optional

    Returns
    -------
    ndarray, or scalar for an `x` without axes

    References
    ----------
    D.-A. Clevert, T. Unterthiner, S. Hochreiter, Fast and accurate deep network learning by
    exponential linear units, ICLR 2016.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> dl.ops.elu(np.array([-1.0, 2.0])).round(4)
    array([-0.6321,  2.    ])
    """
    return _native.elementwise(_ELU, x, out, alpha)


def sigmoid(x: ArrayLike, *, out: np.ndarray | None = None) -> Any:
    """The logistic function ``1 / (1 + exp(-x))``.

    Parameters
    ----------
    x : array_like
    out : ndarray, optional

    Returns
    -------
    ndarray, or scalar for an `x` without axes

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> dl.ops.sigmoid(np.array([0.0, 2.0])).round(4)
    array([0.5   , 0.8808])
    """
    return _native.elementwise(_SIGMOID, x, out)


def tanh(x: ArrayLike, *, out: np.ndarray | None = None) -> Any:
    """The hyperbolic tangent.

    Parameters
    ----------
    x : array_like
    out : ndarray, optional

    Returns
    -------
    ndarray, or scalar for an `x` without axes

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> dl.ops.tanh(np.array([0.0, 0.5])).round(4)
    array([0.    , 0.4621])
    """
    return _native.elementwise(_TANH, x, out)


def gelu(x: ArrayLike, *, out: np.ndarray | None = None) -> Any:
    """The Gaussian error linear unit ``x * Phi(x)``, with the error function, not an approximation.

    Parameters
    ----------
    x : array_like
    out : ndarray, optional

    Returns
    -------
    ndarray, or scalar for an `x` without axes

    References
    ----------
    D. Hendrycks, K. Gimpel, Gaussian error linear units, arXiv:1606.08415.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> dl.ops.gelu(np.array([-1.0, 1.0])).round(4)
    array([-0.1587,  0.8413])
    """
    return _native.elementwise(_GELU, x, out)


def silu(x: ArrayLike, *, out: np.ndarray | None = None) -> Any:
    """The sigmoid linear unit ``x * sigmoid(x)``, also called swish.

    Parameters
    ----------
    x : array_like
    out : ndarray, optional

    Returns
    -------
    ndarray, or scalar for an `x` without axes

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> dl.ops.silu(np.array([-1.0, 1.0])).round(4)
    array([-0.2689,  0.7311])
    """
    return _native.elementwise(_SILU, x, out)


def softplus(x: ArrayLike, *, out: np.ndarray | None = None) -> Any:
    """``log(1 + exp(x))``, which does not overflow.

    Parameters
    ----------
    x : array_like
    out : ndarray, optional

    Returns
    -------
    ndarray, or scalar for an `x` without axes

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> dl.ops.softplus(np.array([0.0, 1000.0])).round(4)
    array([6.931e-01, 1.000e+03])
    """
    return _native.elementwise(_SOFTPLUS, x, out)


def exp(x: ArrayLike, *, out: np.ndarray | None = None) -> Any:
    """The exponential function.

    Parameters
    ----------
    x : array_like
    out : ndarray, optional

    Returns
    -------
    ndarray, or scalar for an `x` without axes

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> dl.ops.exp(np.array([0.0, 1.0])).round(4)
    array([1.    , 2.7183])
    """
    return _native.elementwise(_EXP, x, out)


def log(x: ArrayLike, *, out: np.ndarray | None = None) -> Any:
    """The natural logarithm: -inf at 0, NaN below. Unlike ``numpy.log`` it gives no warning.

    Parameters
    ----------
    x : array_like
    out : ndarray, optional

    Returns
    -------
    ndarray, or scalar for an `x` without axes

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> dl.ops.log(np.array([0.0, 1.0]))
    array([-inf,   0.])
    """
    return _native.elementwise(_LOG, x, out)


def softmax(x: ArrayLike, *, axis: int = -1, out: np.ndarray | None = None) -> np.ndarray:
    """``exp(x) / sum(exp(x))`` along an axis, which does not overflow.

    Parameters
    ----------
    x : array_like with at least one axis
    axis : int, default=-1
        The axis whose elements add up to 1.
    out : ndarray, optional
        May be `x`.

    Returns
    -------
    ndarray, of the shape of `x`

    Raises
    ------
    numpy.exceptions.AxisError
        If `x` has no such axis.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> dl.ops.softmax(np.array([0.0, np.log(3.0)])).round(4)
    array([0.25, 0.75])
    """
    return _native.softmax(x, axis, out, False)


def log_softmax(x: ArrayLike, *, axis: int = -1, out: np.ndarray | None = None) -> np.ndarray:
    """The logarithm of :func:`softmax`, exact where that is almost 0 or 1.

    Parameters
    ----------
    x : array_like with at least one axis
    axis : int, default=-1
    out : ndarray, optional
        May be `x`.

    Returns
    -------
    ndarray, of the shape of `x`

    Raises
    ------
    numpy.exceptions.AxisError
        If `x` has no such axis.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> dl.ops.log_softmax(np.array([0.0, 1000.0]))
    array([-1000.,     0.])
    """
    return _native.softmax(x, axis, out, True)


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


def mse(pred: ArrayLike, target: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float:
    """Mean squared error, over all elements.

    Parameters
    ----------
    pred : array_like, shape (n, ...)
    target : array_like, of the shape of `pred`
    sample_weight : array_like, shape (n,), optional
        With weights w and the mean l of a sample's losses, the result is sum(w l) / sum(w).

    Returns
    -------
    float
        NaN when there are no elements.

    Raises
    ------
    ValueError
        If the shapes differ, or the weights add up to 0.

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.ops.mse([1.0, 2.0], [1.0, 4.0])
    2.0
    """
    return _native.elementwise_loss("mse", pred, target, sample_weight)


def mae(pred: ArrayLike, target: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float:
    """Mean absolute error, over all elements.

    Parameters
    ----------
    pred : array_like, shape (n, ...)
    target : array_like, of the shape of `pred`
    sample_weight : array_like, shape (n,), optional
        With weights w and the mean l of a sample's losses, the result is sum(w l) / sum(w).

    Returns
    -------
    float
        NaN when there are no elements.

    Raises
    ------
    ValueError
        If the shapes differ, or the weights add up to 0.

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.ops.mae([1.0, 2.0], [1.0, 4.0])
    1.0
    """
    return _native.elementwise_loss("mae", pred, target, sample_weight)


def huber(
    pred: ArrayLike,
    target: ArrayLike,
    *,
    delta: float = 1.0,
    sample_weight: ArrayLike | None = None,
) -> float:
    """Mean Huber loss: quadratic up to an error of `delta`, linear beyond.

    An element's loss is ``d**2 / 2`` for ``d = abs(pred - target) <= delta``, else
    ``delta * (d - delta / 2)``.

    Parameters
    ----------
    pred : array_like, shape (n, ...)
    target : array_like, of the shape of `pred`
    delta : float, default=1.0
        More than 0.
    sample_weight : array_like, shape (n,), optional
        With weights w and the mean l of a sample's losses, the result is sum(w l) / sum(w).

    Returns
    -------
    float
        NaN when there are no elements.

    Raises
    ------
    ValueError
        If the shapes differ, `delta` is not positive, or the weights add up to 0.

    References
    ----------
    P. J. Huber, Robust estimation of a location parameter, Ann. Math. Statist. 35 (1964).

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.ops.huber([1.0, 2.0], [1.5, 5.0])
    1.3125
    """
    if not delta > 0:
        raise ValueError(f"delta is {delta}; expected more than 0")
    return _native.elementwise_loss("huber", pred, target, sample_weight, delta)


def cross_entropy(
    pred: ArrayLike, target: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> float:
    """Mean cross entropy of softmax; `pred` holds logits, not probabilities.

    Parameters
    ----------
    pred : array_like, shape (n, classes)
        Logits: the loss applies :func:`log_softmax` itself.
    target : array_like of integers, shape (n,), or of floats, shape (n, classes)
        Labels 0 to classes - 1, or the probability of every class.
    sample_weight : array_like, shape (n,), optional
        With weights w and the samples' losses l, the result is sum(w l) / sum(w).

    Returns
    -------
    float
        NaN when there are no samples.

    Raises
    ------
    ValueError
        If the shapes do not fit, a label is out of range, or the weights add up to 0.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> round(dl.ops.cross_entropy(np.zeros((2, 4)), [1, 3]), 6)
    1.386294
    """
    return _native.cross_entropy(pred, target, sample_weight)


def binary_cross_entropy(
    pred: ArrayLike, target: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> float:
    """Mean cross entropy of sigmoid; `pred` holds logits, not probabilities.

    An element's loss is ``log(1 + exp(p)) - t * p``, computed so that nothing overflows.

    Parameters
    ----------
    pred : array_like, shape (n, ...)
        Logits: the loss applies :func:`sigmoid` itself.
    target : array_like, of the shape of `pred`
        The probability of class 1, from 0 to 1.
    sample_weight : array_like, shape (n,), optional
        With weights w and the mean l of a sample's losses, the result is sum(w l) / sum(w).

    Returns
    -------
    float
        NaN when there are no elements.

    Raises
    ------
    ValueError
        If the shapes differ, or the weights add up to 0.

    Examples
    --------
    >>> import dlcore as dl
    >>> round(dl.ops.binary_cross_entropy([0.0, 3.0], [0.0, 1.0]), 6)
    0.370867
    """
    return _native.elementwise_loss("binary_cross_entropy", pred, target, sample_weight)


def sgd_step(
    param: np.ndarray,
    grad: np.ndarray,
    *,
    lr: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    velocity: np.ndarray | None = None,
) -> None:
    """One step of stochastic gradient descent, in place, with PyTorch's formulas.

    With ``g = grad + weight_decay * param`` and ``velocity = momentum * velocity + g``, `param` is
    moved by ``-lr * velocity``, or by ``-lr * (g + momentum * velocity)`` with `nesterov`.

    Parameters
    ----------
    param : ndarray
        Changed in place. All arrays are C-contiguous and agree in shape and dtype.
    grad : ndarray
    lr : float
        The learning rate.
    momentum : float, default=0.0
    nesterov : bool, default=False
    weight_decay : float, default=0.0
    velocity : ndarray, optional
        Changed in place; zeros before the first step. Needed with `momentum`, else left alone.

    Raises
    ------
    TypeError
        If `param` is neither float32 nor float64.
    ValueError
        If an array does not fit `param`, is not C-contiguous, is read-only or overlaps another,
        or a number is negative.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> param = np.array([1.0, 2.0])
    >>> dl.ops.sgd_step(param, np.array([4.0, 8.0]), lr=0.25)
    >>> param
    array([0., 0.])
    """
    _native.sgd_step(param, grad, lr, momentum, nesterov, weight_decay, velocity)


def adam_step(
    param: np.ndarray,
    grad: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    *,
    step: int,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> None:
    """One step of Adam, in place, with decoupled weight decay (AdamW).

    Parameters
    ----------
    param : ndarray
        Changed in place. All arrays are C-contiguous and agree in shape and dtype.
    grad : ndarray
    m, v : ndarray
        The running means of the gradient and of its square, changed in place; zeros before step 1.
    step : int
        The number of the step; the first is 1.
    lr : float
        The learning rate.
    beta1, beta2 : float, default=0.9, 0.999
        The decay of `m` and `v`, from 0 to less than 1.
    eps : float, default=1e-8
    weight_decay : float, default=0.0
        `param` is first multiplied by ``1 - lr * weight_decay``.

    Raises
    ------
    TypeError
        If `param` is neither float32 nor float64.
    ValueError
        If an array does not fit `param`, is not C-contiguous, is read-only or overlaps another,
        or a number is out of range.

    References
    ----------
    D. P. Kingma, J. Ba, Adam: a method for stochastic optimization, ICLR 2015.
    I. Loshchilov, F. Hutter, Decoupled weight decay regularization, ICLR 2019.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> param, m, v = np.ones(2), np.zeros(2), np.zeros(2)
    >>> dl.ops.adam_step(param, np.array([3.0, -5.0]), m, v, step=1, lr=0.1)
    >>> param.round(6)
    array([0.9, 1.1])
    """
    _native.adam_step(param, grad, m, v, step, lr, beta1, beta2, eps, weight_decay)
