"""Layers made of layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import numpy as np

from dlcore import random
from dlcore.graph.interface import TensorInterface
from dlcore.graph.purity import no_numpy_random
from dlcore.graph.shape import describe
from dlcore.graph.tensor import Tensor, apply
from dlcore.nn.layers import Layer


class Container(Layer):
    """The base of layers made of others: the parameters of layer i are named ``i.name``.

    Parameters
    ----------
    *layers : Layer or Sequential
        A Sequential stands for its layers in a row. It must have no parameters yet: those of the
        whole model, and their dtype, are the outer model's.
    """

    def __init__(self, *layers: Any):
        self.layers = _as_layers(layers, type(self).__name__)

    @property
    def state_names(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(
            f"{i}.{name}" for i, layer in enumerate(self.layers) for name in layer.state_names
        )

    def children(self) -> tuple[Layer, ...]:
        return self.layers

    def init(self, initializer: random.Initializer) -> dict[str, Any]:
        return {
            f"{i}.{name}": value
            for i, layer in enumerate(self.layers)
            for name, value in layer.init(initializer).items()
        }

    def penalty(self, parameters: Mapping[str, Tensor]) -> Tensor | None:
        total = None
        for i, layer in enumerate(self.layers):
            own = layer.penalty(_within(parameters, i))
            if own is not None:
                total = own if total is None else total + own
        return total

    def check_input(self, x: Any, name: str) -> None:
        self.layers[0].check_input(x, name)


def _as_layers(layers: Sequence[Any], container: str) -> tuple[Layer, ...]:
    from dlcore.nn.sequential import Sequential

    if not layers:
        raise ValueError(f"a {container} needs at least one layer")
    found = []
    for i, layer in enumerate(layers):
        if isinstance(layer, Sequential):
            if layer.has_parameters:
                raise ValueError(
                    f"layer {i} is a Sequential that has parameters, which would be lost: build it "
                    "anew, and pass them to set_parameters of the whole model"
                )
            layer = Chain(*layer.layers)
        if not isinstance(layer, Layer):
            raise TypeError(f"layer {i} is no dlcore.nn.Layer, but {layer!r}")
        found.append(layer)
    return tuple(found)


def _within(parameters: Mapping[str, Any], i: int) -> dict[str, Any]:
    """The parameters of layer i by the names that it gave them."""
    prefix = f"{i}."
    return {k.removeprefix(prefix): v for k, v in parameters.items() if k.startswith(prefix)}


def walk(layer: Layer, path: str = "") -> Iterator[tuple[str, Layer]]:
    """All layers within one, with the prefix of their parameters' names: ``"1.0."``."""
    for i, child in enumerate(layer.children()):
        yield f"{path}{i}.", child
        yield from walk(child, f"{path}{i}.")


def _guard(layer: Layer) -> AbstractContextManager[None]:
    """Refuses NumPy's random numbers in layers that are not dlcore's own, by reading their code."""
    own = type(layer).__module__.startswith("dlcore.")
    return nullcontext() if own else no_numpy_random(layer.apply)


class _Pass:
    """One pass through the layers of a container, which collects what they make of their state."""

    def __init__(self, container: Container, parameters: Mapping[str, Tensor], training: bool):
        self.container = container
        self.parameters = parameters
        self.training = training
        self.state: dict[str, Tensor] = {}

    def run(self, i: int, x: Any) -> Any:
        """The result of layer i."""
        layer = self.container.layers[i]
        try:
            with _guard(layer):
                result = layer.apply(_within(self.parameters, i), x, self.training)
            if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict):
                result, state = result
                self._keep(i, layer, state)
            result = self._no_wider(result, x)
        except (TypeError, ValueError, IndexError, NotImplementedError) as error:
            error.add_note(f"in layer {i}: {layer!r}")
            raise
        return result

    def _no_wider(self, result: Any, x: Any) -> Any:
        """The result in the dtype of what it was made of: NumPy makes float64 of float32 with an
        array of Python's numbers."""
        inputs = x.values() if isinstance(x, dict) else x if isinstance(x, tuple) else (x,)
        known = [a.dtype for a in (*inputs, *self.parameters.values()) if a.dtype.kind == "f"]
        if isinstance(result, Tensor) and result.dtype.kind == "f" and known:
            widest = np.result_type(*known)
            if result.dtype.itemsize > widest.itemsize:
                return apply("cast", result, dtype=widest)
        return result

    def _keep(self, i: int, layer: Layer, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            if name not in layer.state_names:
                raise ValueError(
                    f"{type(layer).__name__} hands back a new {name!r}, which is not among its "
                    f"state_names {layer.state_names}"
                )
            self.state[f"{i}.{name}"] = value

    def result(self, x: Any) -> Any:
        """What the container's ``apply`` returns for this result."""
        return (x, self.state) if self.training and self.container.state_names else x


class Chain(Container):
    """Layers in a row as one layer, for the branches of a :class:`Parallel`.

    Parameters
    ----------
    *layers : Layer or Sequential
        Each is applied to the result of the one before.

    Examples
    --------
    >>> import dlcore as dl
    >>> branch = dl.nn.Chain(dl.nn.Linear(2, 3), dl.nn.ReLU())
    >>> model = dl.nn.Sequential(dl.nn.Parallel(branch, dl.nn.Identity()), dl.nn.Linear(5, 1))
    >>> list(model.init().parameters())
    ['0.0.0.weight', '0.0.0.bias', '1.weight', '1.bias']
    """

    def apply(self, parameters: Mapping[str, Tensor], x: Any, training: bool) -> Any:
        through = _Pass(self, parameters, training)
        for i in range(len(self.layers)):
            x = through.run(i, x)
        return through.result(x)


class Residual(Container):
    """``x`` plus what its layers, in a row, make of it.

    Parameters
    ----------
    *layers : Layer or Sequential
        Their result has the shape of ``x``.

    References
    ----------
    He, Zhang, Ren, Sun, Deep residual learning for image recognition, 2016.

    Examples
    --------
    >>> import dlcore as dl
    >>> block = dl.nn.Residual(dl.nn.Linear(8, 8), dl.nn.ReLU())
    >>> list(dl.nn.Sequential(dl.nn.Linear(4, 8), block).init().parameters())
    ['0.weight', '0.bias', '1.0.weight', '1.0.bias']
    """

    def apply(self, parameters: Mapping[str, Tensor], x: Tensor, training: bool) -> Any:
        through = _Pass(self, parameters, training)
        result: Any = x
        for i in range(len(self.layers)):
            result = through.run(i, result)
        if result.shape != x.shape:
            raise ValueError(
                f"x has shape {describe(x.shape)}, but the layers of Residual make "
                f"{describe(result.shape)} of it"
            )
        return through.result(x + result)


class Parallel(Container):
    """Branches side by side, whose results are joined.

    Parameters
    ----------
    *branches : Layer or Sequential
        Each gets the same input or, where that is a tuple or dict of arrays, its own: the first
        branch the first one, and so on.
    combine : {'concatenate', 'add'}, default 'concatenate'
        ``concatenate`` joins the results along their last axis; for ``add`` they have one shape.
    keys : sequence of str, optional
        For dicts: the key of each branch's input. Without it, the order of the dict decides, and
        has to be the same in ``fit`` and ``predict``.

    Examples
    --------
    Numbers and a category with five values:

    >>> import numpy as np
    >>> import dlcore as dl
    >>> model = dl.nn.Sequential(
    ...     dl.nn.Parallel(dl.nn.Identity(), dl.nn.Embedding(5, 3), keys=("sizes", "colour")),
    ...     dl.nn.Linear(2 + 3, 1),
    ... ).init()
    >>> model.predict({"sizes": np.ones((4, 2)), "colour": np.array([0, 4, 2, 2])}).shape
    (4, 1)
    """

    def __init__(
        self,
        *branches: Any,
        combine: Literal["concatenate", "add"] = "concatenate",
        keys: Sequence[str] | None = None,
    ):
        super().__init__(*branches)
        if combine not in ("concatenate", "add"):
            raise ValueError(f"combine must be 'concatenate' or 'add', not {combine!r}")
        if keys is not None:
            keys = (keys,) if isinstance(keys, str) else tuple(keys)
            if len(keys) != len(branches):
                raise ValueError(f"keys has {len(keys)} keys for {len(branches)} branches")
        self.combine = combine
        self.keys = keys

    @property
    def branches(self) -> tuple[Layer, ...]:
        return self.layers

    def apply(self, parameters: Mapping[str, Tensor], x: Any, training: bool) -> Any:
        through = _Pass(self, parameters, training)
        results = [through.run(i, each) for i, each in enumerate(self._inputs(x))]
        first = results[0].shape
        for i, result in enumerate(results):
            joined = result.shape[:-1] == first[:-1] and len(result.shape) == len(first) > 1
            if not (joined if self.combine == "concatenate" else result.shape == first):
                raise ValueError(
                    f"cannot {self.combine} what the branches of Parallel give: branch 0 shape "
                    f"{describe(first)}, branch {i} shape {describe(result.shape)}"
                )
        if self.combine == "add":
            return through.result(sum(results[1:], results[0]))
        return through.result(np.concatenate(results, axis=-1))

    def check_input(self, x: Any, name: str) -> None:
        inputs = self._inputs(x)
        names = [name] * len(inputs)
        if isinstance(x, tuple):
            names = [f"{name}[{i}]" for i in range(len(inputs))]
        elif isinstance(x, dict):
            names = [f"{name}[{key!r}]" for key in self.keys or x]
        for branch, each, label in zip(self.layers, inputs, names, strict=True):
            branch.check_input(each, label)

    def _inputs(self, x: Any) -> list[Any]:
        """The input of each branch."""
        if isinstance(x, np.ndarray | TensorInterface):
            if self.keys is not None:
                raise ValueError(f"x is one array; Parallel takes a dict with {self._described()}")
            return [x] * len(self.layers)
        if isinstance(x, dict) and self.keys is not None:
            if set(x) != set(self.keys):
                raise ValueError(
                    f"x has the keys {', '.join(map(repr, x))}; Parallel takes {self._described()}"
                )
            return [x[key] for key in self.keys]
        if len(x) != len(self.layers):
            raise ValueError(f"x has {len(x)} arrays for the {len(self.layers)} branches")
        return list(x.values()) if isinstance(x, dict) else list(x)

    def _described(self) -> str:
        return ", ".join(map(repr, self.keys or ()))
