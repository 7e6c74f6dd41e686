"""Ops that change shapes: views of the same memory, and reductions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dlcore.graph.shape import (
    Extent,
    Rows,
    Shape,
    broadcast,
    describe,
    element_count,
    fixed,
    normalise_axes,
)
from dlcore.graph.table.elementwise import full, mean_scale, sum_to, where
from dlcore.graph.tensor import Tensor, apply, define, in_real_storage


def _same_dtype(a: Tensor, **_: Any) -> np.dtype:
    return a.dtype


def _same_storage(node: Tensor) -> np.dtype:
    return node.inputs[0].storage


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
    storage=_same_storage,
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
    storage=_same_storage,
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
    storage=_same_storage,
    row_local=False,
    simplify=_simplify_transpose,
)


# ALIASES.
define(
    "identity",
    shape=lambda a: a.shape,
    dtype=_same_dtype,
    reference=lambda a: a,
    gradient=lambda node, g: (g,),
    lowering="view",
    storage=_same_storage,
)
define(
    "stop_gradient",
    shape=lambda a: a.shape,
    dtype=_same_dtype,
    reference=lambda a: a,
    gradient=lambda node, g: (None,),
    lowering="view",
    storage=_same_storage,
)


def _custom_gradient(node: Tensor, g: Tensor) -> list[Tensor | None]:
    return [None, *node.attributes["rule"](full(g, node))]


# The first input, with gradients for the others that `rule(g)` gives.
define(
    "custom_gradient",
    shape=lambda value, *arguments, rule: value.shape,
    dtype=lambda value, *arguments, rule: value.dtype,
    reference=lambda value, *arguments, rule: value,
    gradient=_custom_gradient,
    lowering="view",
    storage=_same_storage,
)


def _slice_shape(a: Tensor, begin: tuple[int, ...], step: tuple[int, ...], extent: Shape) -> Shape:
    for axis, (first, by, wanted) in enumerate(zip(begin, step, extent, strict=True)):
        whole = a.shape[axis]
        if wanted == whole and first == 0 and by == 1:
            continue
        if isinstance(whole, Rows) or isinstance(wanted, Rows):
            raise ValueError(f"axis {axis} counts rows and can only be taken whole")
        if first < 0 or by < 1 or (wanted > 0 and first + (wanted - 1) * by >= whole):
            raise ValueError(f"a slice of axis {axis} leaves its {whole} elements")
    return extent


Place = tuple[tuple[int, ...], tuple[int, ...]]  # begin and step on each axis


def _slices(place: Place, extent: Shape) -> tuple[slice, ...]:
    return tuple(
        slice(first, first + count * by, by)
        for first, by, count in zip(*place, extent, strict=True)
    )


def _slice_reference(
    a: np.ndarray, begin: tuple[int, ...], step: tuple[int, ...], extent: Shape
) -> np.ndarray:
    return a[_slices((begin, step), extent)]


def _embed_reference(
    *parts: np.ndarray, shape: tuple[int, ...], places: tuple[Place, ...]
) -> np.ndarray:
    result = np.zeros(shape, parts[0].dtype)
    for each, place in zip(parts, places, strict=True):
        result[_slices(place, each.shape)] += each
    return result


def _slice_gradient(node: Tensor, g: Tensor) -> tuple[Tensor]:
    place = (node.attributes["begin"], node.attributes["step"])
    return (apply("embed", full(g, node), shape=node.inputs[0].shape, places=(place,)),)


def _embed_gradient(node: Tensor, g: Tensor) -> list[Tensor]:
    g = full(g, node)
    return [
        apply("slice", g, begin=begin, step=step, extent=each.shape)
        for each, (begin, step) in zip(node.inputs, node.attributes["places"], strict=True)
    ]


# Elements begin, begin + step, ... of every axis, `extent` of them.
define(
    "slice",
    shape=_slice_shape,
    dtype=_same_dtype,
    reference=_slice_reference,
    gradient=_slice_gradient,
    lowering="view",
    storage=_same_storage,
    simplify=lambda a, begin, step, extent: a if a.shape == extent else None,
)

# Zeros, to which each input is added in the place that `slice` would take it from.
define(
    "embed",
    shape=lambda *parts, shape, places: shape,
    dtype=lambda *parts, shape, places: parts[0].dtype,
    reference=_embed_reference,
    gradient=_embed_gradient,
    lowering="record",
)


def part(a: Tensor, axis: int, begin: int, extent: Extent) -> Tensor:
    """``extent`` elements of an axis from ``begin`` on."""
    return apply(
        "slice",
        a,
        begin=tuple(begin if i == axis else 0 for i in range(a.ndim)),
        step=(1,) * a.ndim,
        extent=tuple(extent if i == axis else e for i, e in enumerate(a.shape)),
    )


def _concatenate_shape(*parts: Tensor, axis: int) -> Shape:
    first = parts[0].shape
    total = 0
    for i, each in enumerate(parts):
        if each.ndim != len(first) or any(
            j != axis and a != b for j, (a, b) in enumerate(zip(first, each.shape, strict=True))
        ):
            raise ValueError(
                f"concatenate along axis {axis}: array 0 has shape {describe(first)}, "
                f"but array {i} has {describe(each.shape)}"
            )
        if isinstance(each.shape[axis], Rows):
            raise ValueError(f"concatenate cannot join arrays along axis {axis}, which counts rows")
        total += fixed(each.shape[axis])
    return (*first[:axis], total, *first[axis + 1 :])


def offsets(parts: Sequence[Tensor], axis: int) -> list[int]:
    """Where each part begins when they are joined along the axis."""
    extents = [fixed(each.shape[axis]) for each in parts]
    return [sum(extents[:i]) for i in range(len(extents))]


def _concatenate_gradient(node: Tensor, g: Tensor) -> list[Tensor]:
    axis = node.attributes["axis"]
    g = full(g, node)
    return [
        part(g, axis, begin, each.shape[axis])
        for each, begin in zip(node.inputs, offsets(node.inputs, axis), strict=True)
    ]


define(
    "concatenate",
    shape=_concatenate_shape,
    dtype=lambda *parts, axis: parts[0].dtype,
    reference=lambda *parts, axis: np.concatenate(parts, axis),
    gradient=_concatenate_gradient,
    lowering="record",
    row_local=False,
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
    chosen = apply("cast", apply("equal", source, _spread(node, node)), dtype=node.dtype)
    shares = apply(
        "sum", chosen, axis=node.attributes["axis"], keepdims=node.attributes["keepdims"]
    )
    return (where(chosen, _spread(node, full(g, node) / shares), 0.0),)


def _simplify_reduction(a: Tensor, axis: tuple[int, ...], keepdims: bool) -> Tensor | None:
    return a if not axis else None


def _reduction(name: str, reference: Any, gradient: Any) -> None:
    define(
        name,
        shape=lambda a, axis, keepdims: reduced_shape(a.shape, axis, keepdims),
        dtype=_same_dtype,
        reference=lambda a, axis, keepdims: reference(a, axis=axis, keepdims=keepdims),
        gradient=gradient,
        lowering="reduce",
        row_local=False,
        simplify=_simplify_reduction,
    )


_reduction("sum", np.sum, lambda node, g: (_spread(node, g),))
_reduction("mean", np.mean, _mean_gradient)
_reduction("max", np.max, _extreme_gradient)
_reduction("min", np.min, _extreme_gradient)


def reduce(name: str, a: Tensor, axis: Any = None, keepdims: bool = False) -> Tensor:
    """A reduction over ``axis`` (an int, several, or None for all), as NumPy names them.

    Sums of integers and booleans are of 64 bits, their means float64.

    Raises
    ------
    ValueError
        For ``max`` and ``min`` of no elements.
    """
    axes = normalise_axes(axis, a.ndim)
    if a.dtype.kind != "f" and name in ("sum", "mean"):
        total = np.uint64 if a.dtype.kind == "u" else np.int64
        a = apply("cast", a, dtype=np.dtype(total if name == "sum" else np.float64))
    if name in ("max", "min") and any(a.shape[i] == 0 for i in axes):
        raise ValueError(
            f"{name} of an array of shape {describe(a.shape)} over axis {axis}: "
            "no elements have no such value"
        )
    return apply(name, in_real_storage(a), axis=axes, keepdims=bool(keepdims))
