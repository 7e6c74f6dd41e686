"""Layers that bring what they are given to mean 0 and variance 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dlcore import random
from dlcore.graph.shape import describe, element_count
from dlcore.graph.tensor import Tensor, literal
from dlcore.nn.layers import Layer, check_count
from dlcore.optim.schedules import check_positive


class LayerNorm(Layer):
    """Each sample less its mean, over the root of its variance: ``gain * normalised + bias``.

    Parameters
    ----------
    features : int or sequence of int
        The extents of the axes that are normalised over, and the shape of ``gain`` and ``bias``.
    axis : int or sequence of int, optional
        Those axes, counted with the rows as axis 0, which they must not hold. Default: the last
        ones.
    gain, bias : bool, default True
        Whether there are such parameters; they start at 1 and 0.
    eps : float, default 1e-5
        Added to the variance, which is that of the elements (not corrected for their number).

    References
    ----------
    Ba, Kiros, Hinton, Layer normalization, 2016.

    Examples
    --------
    >>> import dlcore as dl
    >>> model = dl.nn.Sequential(dl.nn.LayerNorm(2, eps=0)).init()
    >>> model.predict([[1.0, 3.0], [10.0, -10.0]])
    array([[-1.,  1.],
           [ 1., -1.]], dtype=float32)
    """

    def __init__(
        self,
        features: int | Sequence[int],
        *,
        axis: int | Sequence[int] | None = None,
        gain: bool = True,
        bias: bool = True,
        eps: float = 1e-5,
    ):
        extents = features if isinstance(features, Sequence) else (features,)
        self.features = tuple(check_count("features", extent) for extent in extents)
        if not self.features:
            raise ValueError("features must name at least one extent")
        if axis is None:
            self.axis = tuple(range(-len(self.features), 0))
        else:
            self.axis = tuple(axis) if isinstance(axis, Sequence) else (axis,)
        if len(self.axis) != len(self.features) or len(set(self.axis)) != len(self.axis):
            raise ValueError(f"axis is {axis!r}, but features has {len(self.features)} extents")
        if 0 in self.axis:
            raise ValueError("axis 0 holds the rows; LayerNorm normalises within a sample")
        self.gain = bool(gain)
        self.bias = bool(bias)
        self.eps = check_positive("eps", eps, zero=True)

    def init(self, initializer: random.Initializer) -> dict[str, np.ndarray]:
        parameters = {}
        if self.gain:
            parameters["gain"] = np.ones(self.features)
        if self.bias:
            parameters["bias"] = np.zeros(self.features)
        return parameters

    def apply(self, parameters: Mapping[str, Tensor], x: Tensor, training: bool) -> Tensor:
        axes = self._checked_axes(x)
        deviation = x - np.mean(x, axis=axes, keepdims=True)
        variance = np.mean(np.square(deviation), axis=axes, keepdims=True)
        result = deviation * (1.0 / np.sqrt(variance + self.eps))
        if self.gain:
            result = result * self._along(parameters["gain"], axes, x.ndim)
        if self.bias:
            result = result + self._along(parameters["bias"], axes, x.ndim)
        return result

    def _checked_axes(self, x: Tensor) -> tuple[int, ...]:
        """The axes, none of them negative, in the order of ``features``."""
        axes = tuple(axis + x.ndim if axis < 0 else axis for axis in self.axis)
        inside = all(0 < axis < x.ndim for axis in axes) and len(set(axes)) == len(axes)
        if not inside or tuple(x.shape[axis] for axis in axes) != self.features:
            raise ValueError(
                f"x has shape {describe(x.shape)}, but LayerNorm takes {describe(self.features)} "
                f"along axis {describe(self.axis)}"
            )
        return axes

    def _along(self, parameter: Tensor, axes: tuple[int, ...], ndim: int) -> Tensor:
        """The parameter in a shape that broadcasts with its axes at those of x."""
        order = sorted(range(len(axes)), key=axes.__getitem__)
        extents = dict(zip(axes, self.features, strict=True))
        shape = tuple(extents.get(axis, 1) for axis in range(min(axes), ndim))
        return parameter.transpose(order).reshape(shape)


class BatchNorm(Layer):
    """Each feature less its mean, over the root of its variance: ``gain * normalised + bias``.

    While training, mean and variance are those of the batch, over all axes but the last, which
    holds the features; elsewhere they are running means of these.

    Parameters
    ----------
    features : int
        The extent of the last axis.
    momentum : float, default 0.1
        In [0, 1]: ``running = (1 - momentum) * running + momentum * batch`` at each step.
    gain, bias : bool, default True
        Whether there are such parameters, of shape (features,); they start at 1 and 0.
    eps : float, default 1e-5
        Added to the variance.

    Notes
    -----
    As in PyTorch, a batch is normalised by its biased variance, and the running one is that of the
    unbiased, which is n / (n - 1) times as large. A batch with one value for each feature has no
    variance: its result is the bias, and the running statistics stay as they are. Sample weights
    do not enter the statistics: a row of weight 2 counts once there.

    ``running_mean`` and ``running_var`` are state: they are among the model's parameters, saved and
    copied with them, and not trained. ``model.freeze`` keeps them as they are where its pattern
    fits their names.

    References
    ----------
    Ioffe and Szegedy, Batch normalization, 2015.

    Examples
    --------
    >>> import dlcore as dl
    >>> model = dl.nn.Sequential(dl.nn.Linear(4, 8), dl.nn.BatchNorm(8), dl.nn.ReLU()).init()
    >>> [name for name in model.parameters() if name.startswith("1.")]
    ['1.gain', '1.bias', '1.running_mean', '1.running_var']
    """

    state_names = ("running_mean", "running_var")

    def __init__(
        self,
        features: int,
        *,
        momentum: float = 0.1,
        gain: bool = True,
        bias: bool = True,
        eps: float = 1e-5,
    ):
        self.features = check_count("features", features)
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum must lie in [0, 1], not {momentum!r}")
        self.momentum = float(momentum)
        self.gain = bool(gain)
        self.bias = bool(bias)
        self.eps = check_positive("eps", eps, zero=True)

    def init(self, initializer: random.Initializer) -> dict[str, np.ndarray]:
        parameters = {}
        if self.gain:
            parameters["gain"] = np.ones(self.features)
        if self.bias:
            parameters["bias"] = np.zeros(self.features)
        return parameters | {
            "running_mean": np.zeros(self.features),
            "running_var": np.ones(self.features),
        }

    def apply(self, parameters: Mapping[str, Tensor], x: Tensor, training: bool) -> Any:
        if x.ndim < 2 or x.shape[-1] != self.features:
            raise ValueError(
                f"x has shape {describe(x.shape)}, but BatchNorm takes {self.features} columns"
            )
        if not training:
            running = parameters["running_mean"], parameters["running_var"]
            return self._normalised(parameters, x - running[0], running[1])
        axes = tuple(range(x.ndim - 1))
        mean = np.mean(x, axis=axes)
        deviation = x - mean
        variance = np.mean(np.square(deviation), axis=axes)
        state = self._running(parameters, mean, variance, element_count(x.shape[:-1]))
        return self._normalised(parameters, deviation, variance), state

    def _normalised(
        self, parameters: Mapping[str, Tensor], deviation: Tensor, variance: Tensor
    ) -> Tensor:
        scale = 1.0 / np.sqrt(variance + self.eps)
        if self.gain:
            scale = scale * parameters["gain"]
        result = deviation * scale
        return result + parameters["bias"] if self.bias else result

    def _running(
        self,
        parameters: Mapping[str, Tensor],
        mean: Tensor,
        variance: Tensor,
        elements: tuple[int, int],
    ) -> dict[str, Tensor]:
        count = literal(elements[0], mean.dtype, elements[1])
        several = count > 1.0
        momentum = np.where(several, literal(self.momentum, mean.dtype), 0.0)
        unbiased = variance * (count / np.where(several, count - 1.0, 1.0))
        return {
            name: (1.0 - momentum) * parameters[name] + momentum * batch
            for name, batch in (("running_mean", mean), ("running_var", unbiased))
        }
