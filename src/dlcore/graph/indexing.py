"""NumPy's indexing on graph nodes: slices are views, arrays of indices gather."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from dlcore.graph.shape import (
    Extent,
    Rows,
    Shape,
    broadcast,
    element_count,
    fixed,
    normalise_axes,
)
from dlcore.graph.tensor import Tensor, apply, as_tensor, constant


def getitem(a: Tensor, key: Any) -> Tensor:
    """``a[key]`` for integers, slices, None, Ellipsis and arrays of integers."""
    key = key if isinstance(key, tuple) else (key,)
    entries = _expanded(key, a.ndim)
    plan = _Basic()
    arrays: dict[int, Tensor] = {}
    for entry in entries:
        if entry is None:
            plan.shape.append(1)
            continue
        axis = len(plan.begin)
        if _is_array(entry):
            arrays[len(plan.shape)] = _index_tensor(entry)
            entry = slice(None)
        plan.add(entry, a.shape[axis])
    a = plan.apply_to(a)
    return _gather(a, arrays, _are_neighbours(key)) if arrays else a


def _are_neighbours(key: Sequence[Any]) -> bool:
    """Whether arrays of indices, for which integers count as well, stand side by side.

    An Ellipsis stands between them even where it is no axis.
    """
    no_index = (slice, type(None), type(Ellipsis))
    places = [i for i, entry in enumerate(key) if not isinstance(entry, no_index)]
    return places[-1] - places[0] < len(places)


def _expanded(key: tuple[Any, ...], ndim: int) -> list[Any]:
    """The key with its Ellipsis replaced, so that every axis has an entry."""
    used = sum(entry is not None and entry is not Ellipsis for entry in key)
    if used > ndim:
        raise IndexError(f"{used} indices for an array of {ndim} axes")
    missing = [slice(None)] * (ndim - used)
    places = [i for i, entry in enumerate(key) if entry is Ellipsis]
    if len(places) > 1:
        raise IndexError("an index can only have a single ellipsis")
    if not places:
        return [*key, *missing]
    return [*key[: places[0]], *missing, *key[places[0] + 1 :]]


def _is_array(entry: Any) -> bool:
    if isinstance(entry, bool | np.bool_):
        raise TypeError(f"an index of {entry!r} is not supported; write np.where(mask, x, y)")
    return isinstance(entry, Tensor | list | tuple | np.ndarray)


def _index_tensor(entry: Any) -> Tensor:
    index = entry if isinstance(entry, Tensor) else np.asarray(entry)
    if index.dtype.kind == "b":
        raise TypeError(
            "an index of booleans gives a size that depends on data; "
            "write np.where(mask, x, 0) or np.sum(..., where=mask)"
        )
    if index.dtype.kind not in "iu" and index.shape != (0,):
        raise IndexError(f"arrays of indices must be of integers, not of {index.dtype}")
    if isinstance(index, Tensor):  # of 64 bits, so that positions do not wrap around
        return apply("cast", index, dtype=np.dtype(np.int64))
    return constant(index.astype(np.int64))


class _Basic:
    """Integers and slices, collected axis by axis, as a slice, a reversal and a reshape."""

    def __init__(self) -> None:
        self.begin: list[int] = []
        self.step: list[int] = []
        self.extent: list[Extent] = []
        self.shape: list[Extent] = []
        self.reversed: list[int] = []

    def add(self, entry: Any, extent: Extent) -> None:
        if isinstance(entry, slice):
            begin, step, count = self._resolve(entry, extent)
            self.shape.append(count)
        else:
            begin, step, count = self._position(entry, extent), 1, 1
        self.begin.append(begin)
        self.step.append(step)
        self.extent.append(count)

    def _position(self, entry: Any, extent: Extent) -> int:
        position = operator.index(entry)
        if isinstance(extent, Rows):
            raise IndexError(f"an axis of {extent} has no fixed rows to take by number")
        if not -extent <= position < extent:
            raise IndexError(f"index {position} is out of bounds for an axis of {extent} elements")
        return position % extent

    def _resolve(self, entry: slice, extent: Extent) -> tuple[int, int, Extent]:
        if isinstance(extent, Rows):
            if entry != slice(None):
                raise IndexError(f"an axis of {extent} can only be taken whole, with ':'")
            return 0, 1, extent
        begin, end, step = entry.indices(extent)
        count = len(range(begin, end, step))
        if count == 0:
            return 0, 1, 0
        if step < 0:
            self.reversed.append(len(self.begin))
            begin, step = begin + (count - 1) * step, -step
        return begin, step, count

    def apply_to(self, a: Tensor) -> Tensor:
        a = apply(
            "slice",
            a,
            begin=tuple(self.begin),
            step=tuple(self.step),
            extent=tuple(self.extent),
        )
        for axis in self.reversed:
            a = take(a, np.arange(fixed(a.shape[axis]))[::-1], axis)
        return apply("reshape", a, shape=tuple(self.shape))


def _gather(a: Tensor, arrays: dict[int, Tensor], neighbours: bool) -> Tensor:
    """Arrays of indices on some axes, which broadcast against one another.

    Their axes come in the place of the first of them, or in front where they are no neighbours.
    """
    axes = list(arrays)
    first = axes[0] if neighbours else 0
    if axes == [first]:
        return take(a, arrays[first], first)
    shape = broadcast(*(index.shape for index in arrays.values()))
    rest = [i for i in range(a.ndim) if i not in axes]
    a = apply("transpose", a, axes=tuple(rest[:first] + axes + rest[first:]))
    extents = [fixed(a.shape[first + i]) for i in range(len(axes))]
    flat: Any = 0
    for index, extent in zip(arrays.values(), extents, strict=True):
        flat = flat * extent + _counted_from_start(index, extent)
    flat = apply("broadcast_to", flat, shape=shape)
    merged = (*a.shape[:first], int(np.prod(extents)), *a.shape[first + len(axes) :])
    return take(apply("reshape", a, shape=merged), flat, first)


def _counted_from_start(index: Tensor, extent: int) -> Tensor:
    """The index with negative ones made positive, and those out of range far out of all ranges."""
    inside = apply("logical_and", index >= -extent, index < extent)
    position = apply("where", index < 0, index + extent, index)
    return apply("where", inside, position, 1 << 52)


def take(a: Any, indices: Any, axis: int | None = None, *, mode: str = "raise") -> Tensor:
    """As ``np.take``."""
    if mode != "raise":
        raise TypeError(f"np.take with mode={mode!r} is not supported on traced arrays")
    a = as_tensor(a)
    index = _index_tensor(indices if isinstance(indices, Tensor) else np.asarray(indices))
    if axis is None:
        a, axis = apply("reshape", a, shape=(_count(a.shape),)), 0
    (axis,) = normalise_axes(operator.index(axis), a.ndim)
    outer, extent, inner = a.shape[:axis], a.shape[axis], a.shape[axis + 1 :]
    source = apply("reshape", a, shape=(_count(outer), extent, _count(inner)))
    flat = apply("reshape", index, shape=(1, _count(index.shape)))
    chosen = apply("take", source, flat)
    return apply("reshape", chosen, shape=(*outer, *index.shape, *inner))


def take_along_axis(arr: Any, indices: Any, axis: int = -1) -> Tensor:
    """As ``np.take_along_axis``, along the last axis; others are brought there and back."""
    a, index = as_tensor(arr), _index_tensor(indices)
    if a.ndim != index.ndim:
        raise ValueError(
            f"take_along_axis: the array has {a.ndim} axes, but the indices have {index.ndim}"
        )
    (axis,) = normalise_axes(operator.index(axis), a.ndim)
    if axis != a.ndim - 1:
        order = tuple([i for i in range(a.ndim) if i != axis] + [axis])
        back = tuple(int(i) for i in np.argsort(order))
        moved = take_along_axis(
            apply("transpose", a, axes=order), apply("transpose", index, axes=order)
        )
        return apply("transpose", moved, axes=back)
    outer = broadcast(a.shape[:-1], index.shape[:-1])
    a = apply("broadcast_to", a, shape=(*outer, a.shape[-1]))
    index = apply("broadcast_to", index, shape=(*outer, index.shape[-1]))
    source = apply("reshape", a, shape=(_count(outer), a.shape[-1], 1))
    chosen = apply("take", source, apply("reshape", index, shape=(_count(outer), index.shape[-1])))
    return apply("reshape", chosen, shape=(*outer, index.shape[-1]))


def _count(shape: Shape) -> Extent:
    number, power = element_count(shape)
    return Rows(number) if power else number
