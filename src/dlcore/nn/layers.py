"""Layers: what a model is made of.

A layer draws its parameters in ``init`` and says in ``apply`` what it computes, as an expression of
graph tensors; gradients, fusion and the native plan follow from that.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from dlcore import random
from dlcore._calls import outdate_calls
from dlcore.graph import table  # noqa: F401  (fills the op table)
from dlcore.graph.shape import Rows, describe, fixed, flat_rows
from dlcore.graph.table.shaping import reduce
from dlcore.graph.tensor import Tensor, apply
from dlcore.nn import initializers
from dlcore.optim.schedules import check_positive


class Layer:
    """The base of layers, and how to write one of your own.

    ``init`` gives the parameters' first values by name, and ``apply`` computes the result in NumPy,
    of traced arrays whose first axis is the rows (see :mod:`dlcore.transforms` for what they may be
    used in). By itself a layer has no parameters and no state. The constructor's arguments are kept
    as attributes of the same names, so that a saved model can be built again.

    Attributes
    ----------
    state_names : tuple of str, default ()
        Those of the names that ``init`` gives which are state: not trained, but replaced by what
        ``apply`` hands back beside its result while training, as ``(result, {name: value})``.
        State belongs to the model's parameters, is saved and copied with them, and is written at
        the end of every step.

    Examples
    --------
    A layer with parameters:

    >>> import numpy as np
    >>> import dlcore as dl
    >>> class Affine(dl.nn.Layer):
    ...     def __init__(self, features):
    ...         self.features = features
    ...
    ...     def init(self, initializer):
    ...         return {"scale": np.ones(self.features), "shift": np.zeros(self.features)}
    ...
    ...     def apply(self, parameters, x, training):
    ...         return x * parameters["scale"] + parameters["shift"]
    >>> dl.nn.Sequential(Affine(2)).init().predict([[1.0, 2.0]])
    array([[1., 2.]], dtype=float32)

    And one with state, which counts the steps it was trained for:

    >>> class Counter(dl.nn.Layer):
    ...     state_names = ("steps",)
    ...
    ...     def init(self, initializer):
    ...         return {"steps": np.zeros(())}
    ...
    ...     def apply(self, parameters, x, training):
    ...         return (x, {"steps": parameters["steps"] + 1}) if training else x
    >>> model = dl.nn.Sequential(Counter(), dl.nn.Linear(2, 1))
    >>> history = model.fit(np.ones((8, 2)), np.ones(8), loss="mse", batch_size=4, epochs=3)
    >>> model.parameters()["0.steps"]
    array(6., dtype=float32)
    """

    state_names: tuple[str, ...] = ()

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        outdate_calls()

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        outdate_calls()

    def init(self, initializer: random.Initializer) -> Mapping[str, Any]:
        """The first values of parameters and state by name; none unless overridden.

        Parameters
        ----------
        initializer : Initializer
            ``initializer.uniform(shape, bound)`` and ``initializer.normal(shape, scale)`` draw from
            the model's seed. Arrays of other dtypes are converted to the model's.
        """
        return {}

    def apply(self, parameters: Mapping[str, Tensor], x: Any, training: bool) -> Any:
        """The layer's result for inputs ``x``, whose first axis is the rows.

        Parameters
        ----------
        parameters : mapping of str to Tensor
            What ``init`` gave, as traced arrays in the model's dtype.
        x : Tensor, or tuple or dict of them
            The result of the layer before, or the model's input in the model's dtype.
        training : bool
            False in ``predict`` and for validation data.

        Returns
        -------
        Tensor, or (Tensor, dict) where the layer has state and ``training`` is set
        """
        raise NotImplementedError

    def penalty(self, parameters: Mapping[str, Tensor]) -> Tensor | None:
        """What the layer adds to the training loss; nothing unless overridden."""
        return None

    def check_input(self, x: Any, name: str) -> None:
        """Raises where the model's own input, as arrays, is wrong for a layer that reads it."""

    def children(self) -> tuple[Layer, ...]:
        """The layers that this one is made of; their parameters begin with their number."""
        return ()

    def ties(self) -> dict[str, tuple[Layer, str]]:
        """Names that ``apply`` finds among its parameters for those of other layers."""
        return {}

    def config(self) -> dict[str, Any]:
        """The constructor's arguments by name, as attributes hold them; ``*layers`` is a tuple."""
        arguments = _arguments(type(self))
        for name in arguments:
            if not hasattr(self, name):
                raise AttributeError(
                    f"{type(self).__name__} has the argument {name}, but no attribute of that name"
                )
        return {name: getattr(self, name) for name in arguments}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Layer:
        """The layer whose ``config`` that is."""
        rest = dict(config)
        several = [name for name, a in _arguments(cls).items() if a.kind is a.VAR_POSITIONAL]
        positional = [value for name in several for value in rest.pop(name)]
        return cls(*positional, **rest)

    def __repr__(self) -> str:
        shown = []
        for name, argument in _arguments(type(self)).items():
            value = getattr(self, name, argument.default)
            if argument.kind is argument.VAR_POSITIONAL:
                shown += [repr(each) for each in value]
            elif argument.default is argument.empty:
                shown.append(repr(value))
            elif repr(value) != repr(argument.default):
                shown.append(f"{name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"


def _arguments(layer: type[Layer]) -> dict[str, inspect.Parameter]:
    """What the constructor takes."""
    constructor: Any = layer.__init__
    if constructor is object.__init__:
        return {}
    arguments = dict(list(inspect.signature(constructor).parameters.items())[1:])
    for name, argument in arguments.items():
        if argument.kind is argument.VAR_KEYWORD:
            raise TypeError(f"{layer.__name__} takes **{name}; name its arguments one by one")
    return arguments


def check_count(name: str, value: Any) -> int:
    """The value as an int; ValueError unless it is a whole number >= 1."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} must be an integer >= 1, not {value!r}")
    return int(value)


def weight_penalty(weight: Tensor, l1: float, l2: float) -> Tensor | None:
    """``l1 * sum|w| + l2 * sum w**2``, or None where both are 0."""
    terms = []
    if l1:
        terms.append(l1 * reduce("sum", apply("absolute", weight)))
    if l2:
        terms.append(l2 * reduce("sum", apply("square", weight)))
    return sum(terms[1:], terms[0]) if terms else None


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
    l1, l2 : float, default 0
        ``l1 * sum|weight| + l2 * sum(weight**2)`` is added to every batch's training loss, and so
        to ``history["loss"]``, but not to the loss of validation data.
    tie : Linear or Embedding, optional
        Another layer of the same model whose weight is used in place of an own one: as it is where
        its shape is (in_features, out_features), and transposed where it is (out_features,
        in_features). It is one parameter, under the other layer's name, with the sum of both
        gradients.
    tie_transposed : bool, optional
        Whether a tied weight is transposed. It has to be said where the weight is square, and
        follows from the shapes elsewhere.

    References
    ----------
    Press and Wolf, Using the output embedding to improve language models, 2017 (tied weights).

    Examples
    --------
    >>> import dlcore as dl
    >>> model = dl.nn.Sequential(dl.nn.Linear(4, 2)).init(seed=0)
    >>> model.parameters()["0.weight"].shape
    (4, 2)

    An autoencoder whose decoder is the transposed encoder:

    >>> encoder = dl.nn.Linear(4, 2)
    >>> model = dl.nn.Sequential(encoder, dl.nn.Tanh(), dl.nn.Linear(2, 4, tie=encoder)).init()
    >>> list(model.parameters())
    ['0.weight', '0.bias', '2.bias']
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        weight_init: str = "glorot_uniform",
        *,
        l1: float = 0.0,
        l2: float = 0.0,
        tie: Layer | None = None,
        tie_transposed: bool | None = None,
    ):
        self.in_features = check_count("in_features", in_features)
        self.out_features = check_count("out_features", out_features)
        initializers.check_name(weight_init)
        self.bias = bool(bias)
        self.weight_init = weight_init
        self.l1 = check_positive("l1", l1, zero=True)
        self.l2 = check_positive("l2", l2, zero=True)
        self.tie = tie
        self.tie_transposed = self._checked_tie(tie, tie_transposed)

    def _checked_tie(self, tie: Any, transposed: bool | None) -> bool | None:
        if tie is None:
            if transposed is not None:
                raise ValueError("tie_transposed is for a tied weight: give tie as well")
            return None
        shape = getattr(tie, "weight_shape", None)
        if shape is None:
            raise TypeError(f"tie must be a Linear or an Embedding, not {tie!r}")
        if self.weight_init != "glorot_uniform":
            raise ValueError("weight_init has no effect on a tied weight; leave it out")
        own = (self.in_features, self.out_features)
        fitting = [way for way, needed in ((False, own), (True, own[::-1])) if shape == needed]
        if not fitting or (transposed is not None and bool(transposed) not in fitting):
            raise ValueError(
                f"tie has a weight of shape {shape}, which "
                f"{'transposed ' if transposed else ''}does not fit {own}"
            )
        if transposed is None and len(fitting) > 1:
            raise ValueError(
                f"tie has a square weight {shape}: say tie_transposed=True or tie_transposed=False"
            )
        return fitting[0] if transposed is None else bool(transposed)

    @property
    def weight_shape(self) -> tuple[int, int]:
        """The shape of the parameter that holds the weight."""
        own = (self.in_features, self.out_features)
        return own[::-1] if self.tie_transposed else own

    def init(self, initializer: random.Initializer) -> dict[str, np.ndarray]:
        parameters = {}
        if self.tie is None:
            parameters["weight"] = initializers.draw(
                self.weight_init, initializer, self.in_features, self.out_features
            )
        if self.bias:
            parameters["bias"] = np.zeros(self.out_features, initializer.dtype)
        return parameters

    def apply(self, parameters: Mapping[str, Tensor], x: Tensor, training: bool) -> Tensor:
        if x.ndim < 2 or x.shape[-1] != self.in_features:
            columns = f"{x.shape[-1]} columns" if x.ndim > 1 else f"shape {describe(x.shape)}"
            raise ValueError(f"x has {columns}, but Linear takes {self.in_features}")
        weight = parameters["weight"]
        if self.tie_transposed:
            weight = weight.T
        rows = flat_rows(x.shape)
        product = apply("reshape", x, shape=(rows, self.in_features)) @ weight
        if self.bias:
            product = product + parameters["bias"]
        return apply("reshape", product, shape=(*x.shape[:-1], self.out_features))

    def penalty(self, parameters: Mapping[str, Tensor]) -> Tensor | None:
        return weight_penalty(parameters["weight"], self.l1, self.l2)

    def ties(self) -> dict[str, tuple[Layer, str]]:
        return {} if self.tie is None else {"weight": (self.tie, "weight")}


class Identity(Layer):
    """``x`` as it is."""

    def apply(self, parameters: Mapping[str, Tensor], x: Any, training: bool) -> Any:
        return x


class Flatten(Layer):
    """Each sample's axes as one."""

    def apply(self, parameters: Mapping[str, Tensor], x: Tensor, training: bool) -> Tensor:
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

    def apply(self, parameters: Mapping[str, Tensor], x: Tensor, training: bool) -> Tensor:
        if not training or self.p == 0:
            return x
        return x * random.keep_mask(x.shape, 1.0 - self.p, x.dtype)
