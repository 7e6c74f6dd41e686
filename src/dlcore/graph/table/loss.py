"""Softmax over the last axis, and its cross-entropy fused with the gradient."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dlcore.graph.shape import Shape, describe, flat_rows
from dlcore.graph.table.elementwise import full
from dlcore.graph.table.shaping import reduce
from dlcore.graph.tensor import Tensor, apply, define


def _softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - np.max(z, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def _log_softmax(z: np.ndarray) -> np.ndarray:
    shifted = z - np.max(z, axis=-1, keepdims=True)
    return shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True))


def _softmax_gradient(node: Tensor, g: Tensor) -> tuple[Tensor]:
    g = full(g, node)
    return (node * (g - reduce("sum", g * node, -1, keepdims=True)),)


def _log_softmax_gradient(node: Tensor, g: Tensor) -> tuple[Tensor]:
    g = full(g, node)
    return (g - apply("exp", node) * reduce("sum", g, -1, keepdims=True),)


def _as_matrix(name: str) -> Callable[[Tensor], Tensor | None]:
    """The kernels take matrices: other inputs are reshaped to one and back."""

    def simplify(z: Tensor) -> Tensor | None:
        if z.ndim == 2:
            return None
        matrix = apply(name, apply("reshape", z, shape=(flat_rows(z.shape), z.shape[-1])))
        return apply("reshape", matrix, shape=z.shape)

    return simplify


for _name, _reference, _gradient in (
    ("softmax", _softmax, _softmax_gradient),
    ("log_softmax", _log_softmax, _log_softmax_gradient),
):
    define(
        _name,
        shape=lambda z: z.shape,
        dtype=lambda z: z.dtype,
        reference=_reference,
        gradient=_gradient,
        lowering="record",
        simplify=_as_matrix(_name),
        dense=(0,),
    )


def _check_target(logits: Tensor, target: Tensor) -> None:
    if logits.ndim != 2:
        raise ValueError(f"cross_entropy takes logits (n, classes), not {describe(logits.shape)}")
    expected = logits.shape if target.dtype.kind == "f" else logits.shape[:1]
    if target.shape != expected:
        raise ValueError(
            f"cross_entropy: target has shape {describe(target.shape)}, "
            f"but the logits ask for {describe(expected)}"
        )


def _dense(target: np.ndarray, logits: np.ndarray) -> np.ndarray:
    if target.dtype.kind == "f":
        return target
    return np.eye(logits.shape[1], dtype=logits.dtype)[target]


def _rows_shape(logits: Tensor, target: Tensor) -> Shape:
    _check_target(logits, target)
    return logits.shape[:1]


def _cross_entropy_gradient(node: Tensor, g: Tensor) -> tuple[Tensor, Tensor | None]:
    logits, target = node.inputs
    g = full(g, node)
    for_target = None
    if target.dtype.kind == "f":
        column = apply("reshape", g, shape=(logits.shape[0], 1))
        for_target = -(column * apply("log_softmax", logits))
    return apply("softmax_cross_entropy_gradient", logits, target, g), for_target


# The loss of each row, -sum_j target_j log softmax(logits)_j; integer targets are class labels.
define(
    "softmax_cross_entropy",
    shape=_rows_shape,
    dtype=lambda logits, target: logits.dtype,
    reference=lambda z, t: -np.sum(_dense(t, z) * _log_softmax(z), axis=-1),
    gradient=_cross_entropy_gradient,
    lowering="record",
    dense=(0, 1),
)


def _gradient_shape(logits: Tensor, target: Tensor, scale: Tensor) -> Shape:
    _check_target(logits, target)
    return logits.shape


def _gradient_reference(z: np.ndarray, t: np.ndarray, scale: np.ndarray) -> np.ndarray:
    dense = _dense(t, z)
    total = np.sum(dense, axis=-1, keepdims=True)
    return (_softmax(z) * total - dense) * np.reshape(scale, (-1, 1))


def _second_gradient(node: Tensor, u: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
    logits, target, scale = node.inputs
    u = full(u, node)
    rows = logits.shape[0]
    p = apply("softmax", logits)
    along = reduce("sum", p * u, -1, keepdims=True)
    column = apply("reshape", apply("broadcast_to", scale, shape=(rows,)), shape=(rows, 1))
    for_target = None
    for_logits = column * (p * (u - along))
    if target.dtype.kind == "f":
        for_logits = for_logits * reduce("sum", target, -1, keepdims=True)
        for_target = column * (along - u)
    unscaled = apply("softmax_cross_entropy_gradient", logits, target, 1.0)
    for_scale = reduce("sum", u * unscaled, -1)
    if scale.shape == ():
        for_scale = reduce("sum", for_scale)
    return for_logits, for_target, for_scale


# The derivative of sum_i scale_i loss_i for the logits: (softmax(logits) * sum(target) - target) *
# scale, where scale is a value for each row or one for all.
define(
    "softmax_cross_entropy_gradient",
    shape=_gradient_shape,
    dtype=lambda logits, target, scale: logits.dtype,
    reference=_gradient_reference,
    gradient=_second_gradient,
    lowering="record",
    promote=lambda logits, target, scale: (None, None, logits),
    dense=(0, 1),
    numbers=(2,),
)
