"""Shapes whose extents may depend on the number of rows that a plan is run with."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

MAX_NDIM = 8  # DLC_MAX_NDIM of csrc/include/dlcore.h


@dataclass(frozen=True)
class Rows:
    """An extent of ``factor`` times the rows of the step; only known when a plan runs.

    A multiple of it is an extent again; other arithmetic gives graph nodes.
    """

    factor: int = 1

    def __str__(self) -> str:
        return "rows" if self.factor == 1 else f"{self.factor}*rows"

    def __mul__(self, other: Any) -> Any:
        return Rows(self.factor * other) if isinstance(other, int) else self._node() * other

    __rmul__ = __mul__

    def __add__(self, other: Any) -> Any:
        return self._node() + other

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return self._node() - other

    def __rsub__(self, other: Any) -> Any:
        return other - self._node()

    def __truediv__(self, other: Any) -> Any:
        return self._node() / other

    def __rtruediv__(self, other: Any) -> Any:
        return other / self._node()

    def _node(self) -> Any:
        from dlcore.graph.tensor import as_tensor

        return as_tensor(self)


Extent = int | Rows
Shape = tuple[Extent, ...]

ROWS = Rows(1)


def describe(shape: Sequence[Extent]) -> str:
    """``(rows, 10)``: a shape as messages show it."""
    inner = ", ".join(str(extent) for extent in shape)
    return f"({inner},)" if len(shape) == 1 else f"({inner})"


def fixed(extent: Extent) -> int:
    """The extent, which does not count rows; ValueError where it does."""
    if isinstance(extent, Rows):
        raise ValueError(f"an extent of {extent} is not fixed")
    return extent


def encode(extent: Extent) -> int:
    """The extent as plan records hold it: fixed if >= 0, else minus the factor of the rows."""
    return -extent.factor if isinstance(extent, Rows) else extent


def concrete(shape: Sequence[Extent], rows: int) -> tuple[int, ...]:
    """The shape for a given number of rows."""
    return tuple(e.factor * rows if isinstance(e, Rows) else e for e in shape)


def element_count(shape: Sequence[Extent]) -> tuple[int, int]:
    """``(number, power)`` with ``number * rows**power`` elements.

    Raises
    ------
    ValueError
        If more than one extent depends on the rows.
    """
    power = sum(isinstance(extent, Rows) for extent in shape)
    if power > 1:
        raise ValueError(f"shape {describe(shape)} has more than one extent that counts rows")
    return math.prod(e.factor if isinstance(e, Rows) else e for e in shape), power


def flat_rows(shape: Sequence[Extent]) -> Extent:
    """The extent of all axes but the last, as one."""
    number, power = element_count(shape[:-1])
    return Rows(number) if power else number


def broadcast(*shapes: Shape) -> Shape:
    """The shape that the shapes broadcast to by NumPy's rules.

    Raises
    ------
    ValueError
        If they do not; an extent of rows agrees only with itself and with 1.
    """
    if shapes and all(shape == shapes[0] for shape in shapes[1:]):
        return shapes[0]
    ndim = max((len(shape) for shape in shapes), default=0)
    result: list[Extent] = []
    for axis in range(-ndim, 0):
        extents = {shape[axis] for shape in shapes if len(shape) >= -axis} - {1}
        if len(extents) > 1:
            names = " and ".join(describe(shape) for shape in shapes)
            raise ValueError(f"shapes {names} do not broadcast")
        result.append(extents.pop() if extents else 1)
    return tuple(result)


def normalise_axes(axis: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """Axes as a sorted tuple of non-negative numbers; None stands for all of them."""
    if axis is None:
        return tuple(range(ndim))
    axes = tuple(map(operator.index, axis if isinstance(axis, Sequence) else (axis,)))
    for a in axes:
        if not -ndim <= a < ndim:
            raise ValueError(f"axis {a} is out of bounds for an array of {ndim} axes")
    result = tuple(sorted(a % ndim for a in axes))
    if len(set(result)) != len(result):
        raise ValueError(f"axis {axes} names an axis twice")
    return result
