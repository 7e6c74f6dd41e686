"""The functions of :mod:`dlcore.ops` on graph nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dlcore.graph.indexing import take
from dlcore.graph.interface import call
from dlcore.graph.numpy_functions import swapaxes
from dlcore.graph.shape import describe, normalise_axes
from dlcore.graph.table.contraction import product, swap_last
from dlcore.graph.table.shaping import reduce
from dlcore.graph.tensor import Tensor, apply, as_tensor


def run(function: str, *args: Any, out: Any = None) -> Tensor:
    """A function of ``dl.ops`` by name; its errors tell the line of the traced function."""

    def checked() -> Tensor:
        if out is not None:
            raise TypeError("out= would write a traced value into an ndarray; leave it out")
        return _FUNCTIONS[function](*args)

    return call(checked)


def _elementwise(name: str, x: Any, parameter: float | None) -> Tensor:
    return apply(name, x) if parameter is None else apply(name, x, parameter)


def _check_compute(compute: str | None) -> None:
    if compute is not None:
        raise NotImplementedError(
            f"compute={compute!r} in a traced function: its products are computed in the dtype of "
            "their operands; leave it out"
        )


def _matmul(a: Any, b: Any, transpose_a: bool, transpose_b: bool, compute: str | None) -> Tensor:
    _check_compute(compute)
    a, b = as_tensor(a), as_tensor(b)
    return product(swap_last(a) if transpose_a else a, swap_last(b) if transpose_b else b)


def _linear(
    x: Any, w: Any, b: Any, activation: str, parameter: float, compute: str | None
) -> Tensor:
    _check_compute(compute)
    result = product(as_tensor(x), as_tensor(w))
    if b is not None:
        result = result + b
    if activation == "copy":
        return result
    takes_parameter = activation in ("leaky_relu", "elu")
    return _elementwise(activation, result, parameter if takes_parameter else None)


def _softmax(name: str, x: Any, axis: int) -> Tensor:
    x = as_tensor(x)
    (place,) = normalise_axes(axis, x.ndim)
    if place == x.ndim - 1:
        return apply(name, x)
    return swapaxes(apply(name, swapaxes(x, place, -1)), place, -1)


def _take(a: Any, indices: Any, axis: int | None) -> Tensor:
    return take(a, indices, axis)


def _mean(elements: Tensor, weight: Any) -> Tensor:
    if weight is None:
        return reduce("mean", elements)
    weight = as_tensor(weight)
    if weight.shape != elements.shape[:1]:
        raise ValueError(
            f"sample_weight has shape {describe(weight.shape)}, "
            f"but there are {elements.shape[0]} rows"
        )
    rows = reduce("mean", elements, tuple(range(1, elements.ndim)))
    return reduce("sum", rows * weight) / reduce("sum", weight)


def _loss(name: str, pred: Any, target: Any, weight: Any, delta: float) -> Tensor:
    pred, target = as_tensor(pred), as_tensor(target)
    if pred.shape != target.shape:
        raise ValueError(
            f"target has shape {describe(target.shape)}, but pred has {describe(pred.shape)}"
        )
    from dlcore.nn import losses

    loss = losses.Huber(delta) if name == "huber" else losses.LOSSES[name]
    return _mean(loss.elements(pred, target), weight)


def _cross_entropy(pred: Any, target: Any, weight: Any) -> Tensor:
    return _mean(apply("softmax_cross_entropy", pred, target), weight)


_FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "elementwise": _elementwise,
    "matmul": _matmul,
    "linear": _linear,
    "softmax": _softmax,
    "elementwise_loss": _loss,
    "cross_entropy": _cross_entropy,
    "take": _take,
}
