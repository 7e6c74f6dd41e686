"""Activations: elementwise layers, and softmax."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dlcore import random
from dlcore.graph.shape import describe
from dlcore.graph.tensor import Tensor, apply
from dlcore.nn.layers import Layer, check_count


class _Activation(Layer):
    """An elementwise op without parameters."""

    op: str

    def apply(self, parameters: Mapping[str, Tensor], x: Tensor, training: bool) -> Tensor:
        return apply(self.op, x)


class ReLU(_Activation):
    """``max(x, 0)``; its derivative at 0 is 0."""

    op = "relu"


class Sigmoid(_Activation):
    """``1 / (1 + exp(-x))``."""

    op = "sigmoid"


class Tanh(_Activation):
    """The hyperbolic tangent."""

    op = "tanh"


class GELU(_Activation):
    """``x * Phi(x)``, Phi the normal distribution function (Hendrycks and Gimpel, 2016)."""

    op = "gelu"


class SiLU(_Activation):
    """``x * sigmoid(x)`` (Elfwing, Uchibe, Doya, 2017)."""

    op = "silu"


class Softplus(_Activation):
    """``log(1 + exp(x))``."""

    op = "softplus"


class Hardswish(Layer):
    """``x * min(max(x + 3, 0), 6) / 6`` (Howard et al., Searching for MobileNetV3, 2019)."""

    def apply(self, parameters: Mapping[str, Tensor], x: Tensor, training: bool) -> Tensor:
        return x * np.clip(x + 3.0, 0.0, 6.0) * (1.0 / 6.0)


class Mish(Layer):
    """``x * tanh(log(1 + exp(x)))`` (Misra, 2020)."""

    def apply(self, parameters: Mapping[str, Tensor], x: Tensor, training: bool) -> Tensor:
        return x * np.tanh(apply("softplus", x))


class LeakyReLU(Layer):
    """``x`` where ``x > 0``, else ``negative_slope * x``.

    Parameters
    ----------
    negative_slope : float, default 0.01
    """

    def __init__(self, negative_slope: float = 0.01):
        self.negative_slope = float(negative_slope)

    def apply(self, parameters: Mapping[str, Tensor], x: Tensor, training: bool) -> Tensor:
        return apply("leaky_relu", x, self.negative_slope)


class PReLU(Layer):
    """``x`` where ``x > 0``, else ``slope * x`` with a slope that is learned.

    Parameters
    ----------
    features : int, default 1
        1 for one slope, or the extent of the last axis for one for each feature: the parameter
        ``slope`` has shape (features,).
    initial : float, default 0.25
        What the slopes start at.

    References
    ----------
    He, Zhang, Ren, Sun, Delving deep into rectifiers, 2015.

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.nn.Sequential(dl.nn.PReLU(2)).init().predict([[-4.0, 4.0]])
    array([[-1.,  4.]], dtype=float32)
    """

    def __init__(self, features: int = 1, *, initial: float = 0.25):
        self.features = check_count("features", features)
        self.initial = float(initial)

    def init(self, initializer: random.Initializer) -> dict[str, np.ndarray]:
        return {"slope": np.full(self.features, self.initial)}

    def apply(self, parameters: Mapping[str, Tensor], x: Tensor, training: bool) -> Tensor:
        if self.features != 1 and (x.ndim < 2 or x.shape[-1] != self.features):
            raise ValueError(
                f"x has shape {describe(x.shape)}, but PReLU has slopes for {self.features} columns"
            )
        return apply("leaky_relu", x, parameters["slope"])


class ELU(Layer):
    """``x`` where ``x > 0``, else ``alpha * (exp(x) - 1)`` (Clevert et al., 2016).

    Parameters
    ----------
    alpha : float, default 1.0
    """

    def __init__(self, alpha: float = 1.0):
        self.alpha = float(alpha)

    def apply(self, parameters: Mapping[str, Tensor], x: Tensor, training: bool) -> Tensor:
        return apply("elu", x, self.alpha)


class Softmax(Layer):
    """Softmax over the last axis; not before the loss ``cross_entropy``, which takes logits."""

    def apply(self, parameters: Mapping[str, Tensor], x: Tensor, training: bool) -> Tensor:
        return apply("softmax", x)
