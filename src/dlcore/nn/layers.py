"""Layers: what a model is made of.

A layer draws its parameters in ``init`` and says in ``apply`` what it computes, as an expression of
graph tensors; gradients, fusion and the native plan follow from that.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dlcore import random
from dlcore.graph import table  # noqa: F401  (fills the op table)
from dlcore.graph.shape import Rows, describe, fixed, flat_rows
from dlcore.graph.tensor import Tensor, apply
from dlcore.nn import initializers


class Layer:
    """The base of layers; by itself it has no parameters.

    Subclasses keep their constructor's arguments as attributes of the same names, so that a saved
    model can be built again.
    """

    def init(self, initializer: random.Initializer) -> dict[str, np.ndarray]:
        """Fresh parameters by name; none unless overridden."""
        return {}

    def apply(self, parameters: dict[str, Tensor], x: Tensor, training: bool) -> Tensor:
        """The layer's result for inputs ``x``, whose first axis is the rows."""
        raise NotImplementedError

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return dict(vars(self))

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.config().items())
        return f"{type(self).__name__}({arguments})"


class Linear(Layer):
    """``x @ weight + bias``.

    Parameters
    ----------
    in_features, out_features : int
        ``weight`` has shape (in_features, out_features), ``bias`` (out_features,).
    bias : bool, default True
    weight_init : str, default 'glorot_uniform'
        ``he_uniform``, ``he_normal``, ``glorot_uniform``, ``glorot_normal``, ``lecun_uniform`` or
        ``lecun_normal``. The bias starts at 0.

    Examples
    --------
    >>> import dlcore as dl
    >>> model = dl.nn.Sequential(dl.nn.Linear(4, 2)).init(seed=0)
    >>> model.parameters()["0.weight"].shape
    (4, 2)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        weight_init: str = "glorot_uniform",
    ):
        for name, value in (("in_features", in_features), ("out_features", out_features)):
            if not isinstance(value, int | np.integer) or value < 1:
                raise ValueError(f"{name} must be an integer >= 1, not {value!r}")
        initializers.check_name(weight_init)
        self.in_features = int(in_features)
        self.out_features = int(out_features)
        self.bias = bool(bias)
        self.weight_init = weight_init

    def init(self, initializer: random.Initializer) -> dict[str, np.ndarray]:
        shape = (self.in_features, self.out_features)
        parameters = {"weight": initializers.draw(self.weight_init, initializer, *shape)}
        if self.bias:
            parameters["bias"] = np.zeros(self.out_features, initializer.dtype)
        return parameters

    def apply(self, parameters: dict[str, Tensor], x: Tensor, training: bool) -> Tensor:
        if x.ndim < 2 or x.shape[-1] != self.in_features:
            columns = f"{x.shape[-1]} columns" if x.ndim > 1 else f"shape {describe(x.shape)}"
            raise ValueError(f"x has {columns}, but Linear takes {self.in_features}")
        rows = flat_rows(x.shape)
        product = apply("reshape", x, shape=(rows, self.in_features)) @ parameters["weight"]
        if self.bias:
            product = product + parameters["bias"]
        return apply("reshape", product, shape=(*x.shape[:-1], self.out_features))


class _Activation(Layer):
    """An elementwise op without parameters."""

    op: str

    def apply(self, parameters: dict[str, Tensor], x: Tensor, training: bool) -> Tensor:
        return apply(self.op, x)


class Identity(Layer):
    """``x`` as it is."""

    def apply(self, parameters: dict[str, Tensor], x: Tensor, training: bool) -> Tensor:
        return x


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


class LeakyReLU(Layer):
    """``x`` where ``x > 0``, else ``negative_slope * x``.

    Parameters
    ----------
    negative_slope : float, default 0.01
    """

    def __init__(self, negative_slope: float = 0.01):
        self.negative_slope = float(negative_slope)

    def apply(self, parameters: dict[str, Tensor], x: Tensor, training: bool) -> Tensor:
        return apply("leaky_relu", x, self.negative_slope)


class ELU(Layer):
    """``x`` where ``x > 0``, else ``alpha * (exp(x) - 1)`` (Clevert et al., 2016).

    Parameters
    ----------
    alpha : float, default 1.0
    """

    def __init__(self, alpha: float = 1.0):
        self.alpha = float(alpha)

    def apply(self, parameters: dict[str, Tensor], x: Tensor, training: bool) -> Tensor:
        return apply("elu", x, self.alpha)


class Softmax(Layer):
    """Softmax over the last axis; not before the loss ``cross_entropy``, which takes logits."""

    def apply(self, parameters: dict[str, Tensor], x: Tensor, training: bool) -> Tensor:
        return apply("softmax", x)


class Flatten(Layer):
    """Each sample's axes as one."""

    def apply(self, parameters: dict[str, Tensor], x: Tensor, training: bool) -> Tensor:
        if any(isinstance(extent, Rows) for extent in x.shape[1:]):
            raise ValueError(f"Flatten takes samples of fixed shape, not {describe(x.shape)}")
        return apply("reshape", x, shape=(x.shape[0], math.prod(map(fixed, x.shape[1:]))))


class Dropout(Layer):
    """While training, zeroes elements with probability ``p``, scales the others by ``1 / (1 - p)``.

    Parameters
    ----------
    p : float, default 0.5
        In [0, 1).

    References
    ----------
    Srivastava, Hinton, Krizhevsky, Sutskever, Salakhutdinov, Dropout, 2014.
    """

    def __init__(self, p: float = 0.5):
        if not 0 <= p < 1:
            raise ValueError(f"p must lie in [0, 1), not {p!r}")
        self.p = float(p)

    def apply(self, parameters: dict[str, Tensor], x: Tensor, training: bool) -> Tensor:
        if not training or self.p == 0:
            return x
        return x * random.keep_mask(x.shape, 1.0 - self.p, x.dtype)
