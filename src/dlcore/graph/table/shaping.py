"""Ops that change shapes: views of the same memory, and reductions."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlcore.graph.shape import Extent, Shape, broadcast, describe, element_count, normalise_axes
from dlcore.graph.table.elementwise import full, mean_scale, sum_to, where
from dlcore.graph.tensor import Tensor, apply, define


def _same_dtype(a: Tensor, **_: Any) -> np.dtype:
    return a.dtype


def _broadcast_shape(a: Tensor, shape: Shape) -> Shape:
    if broadcast(a.shape, shape) != shape:
        raise ValueError(f"shape {describe(a.shape)} does not broadcast to {describe(shape)}")
    return shape


define(
    "broadcast_to",
    shape=_broadcast_shape,
    dtype=_same_dtype,
    reference=lambda a, shape: np.broadcast_to(a, shape),
    gradient=lambda node, g: (sum_to(full(g, node), node.inputs[0]),),
    lowering="view",
    simplify=lambda a, shape: a if a.shape == shape else None,
)


def _reshape_shape(a: Tensor, shape: Shape) -> Shape:
    if element_count(a.shape) != element_count(shape):
        raise ValueError(f"cannot reshape {describe(a.shape)} to {describe(shape)}")
    return shape


define(
    "reshape",
    shape=_reshape_shape,
    dtype=_same_dtype,
    reference=lambda a, shape: np.reshape(a, shape),
    gradient=lambda node, g: (apply("reshape", full(g, node), shape=node.inputs[0].shape),),
    lowering="view",
    simplify=lambda a, shape: a if a.shape == shape else None,
)


def _transpose_shape(a: Tensor, axes: tuple[int, ...]) -> Shape:
    if sorted(axes) != list(range(a.ndim)):
        raise ValueError(f"axes {axes} are not a permutation of the {a.ndim} axes")
    return tuple(a.shape[axis] for axis in axes)


def _simplify_transpose(a: Tensor, axes: tuple[int, ...]) -> Tensor | None:
    if axes == tuple(range(a.ndim)):
        return a
    if a.op.name == "transpose":
        inner = a.attributes["axes"]
        return apply("transpose", a.inputs[0], axes=tuple(inner[axis] for axis in axes))
    return None


define(
    "transpose",
    shape=_transpose_shape,
    dtype=_same_dtype,
    reference=lambda a, axes: np.transpose(a, axes),
    gradient=lambda node, g: (
        apply(
            "transpose",
            full(g, node),
            axes=tuple(int(axis) for axis in np.argsort(node.attributes["axes"])),
        ),
    ),
    lowering="view",
    row_local=False,
    simplify=_simplify_transpose,
)


def reduced_shape(shape: Shape, axis: tuple[int, ...], keepdims: bool) -> Shape:
    """The shape after a reduction over the (normalised) axes."""
    if keepdims:
        return tuple(1 if i in axis else extent for i, extent in enumerate(shape))
    return tuple(extent for i, extent in enumerate(shape) if i not in axis)


def _spread(node: Tensor, g: Tensor) -> Tensor:
    """``g`` of a reduction, broadcast back over the reduced axes."""
    source = node.inputs[0]
    kept = reduced_shape(source.shape, node.attributes["axis"], keepdims=True)
    return apply("broadcast_to", apply("reshape", full(g, node), shape=kept), shape=source.shape)


def _mean_gradient(node: Tensor, g: Tensor) -> tuple[Tensor]:
    source = node.inputs[0]
    extents: list[Extent] = [source.shape[axis] for axis in node.attributes["axis"]]
    return (_spread(node, full(g, node) * mean_scale(extents, node.dtype)),)


def _extreme_gradient(node: Tensor, g: Tensor) -> tuple[Tensor]:
    # elements that tie share the gradient evenly
    source = node.inputs[0]
    chosen = apply("equal", source, _spread(node, node))
    shares = apply(
        "sum", chosen, axis=node.attributes["axis"], keepdims=node.attributes["keepdims"]
    )
    return (where(chosen, _spread(node, full(g, node) / shares), 0.0),)


def _reduction(name: str, reference: Any, gradient: Any) -> None:
    define(
        name,
        shape=lambda a, axis, keepdims: reduced_shape(a.shape, axis, keepdims),
        dtype=_same_dtype,
        reference=lambda a, axis, keepdims: reference(a, axis=axis, keepdims=keepdims),
        gradient=gradient,
        lowering="reduce",
        row_local=False,
        simplify=lambda a, axis, keepdims: a if not axis else None,
    )


_reduction("sum", np.sum, lambda node, g: (_spread(node, g),))
_reduction("mean", np.mean, _mean_gradient)
_reduction("max", np.max, _extreme_gradient)
_reduction("min", np.min, _extreme_gradient)


def reduce(name: str, a: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """A reduction over ``axis`` (an int, several, or None for all), as NumPy names them."""
    return apply(name, a, axis=normalise_axes(axis, a.ndim), keepdims=keepdims)
