"""Gradients bounded by value or by norm, as graph expressions."""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

from dlcore.graph.table.shaping import reduce
from dlcore.graph.tensor import Tensor, apply

# PyTorch's clip_grad_norm_ adds it to the norm.
_NORM_EPSILON = 1e-6


def clip(
    gradients: Sequence[Tensor],
    value: float | None,
    norm: float | None,
    global_norm: float | None,
) -> list[Tensor]:
    """The gradients with each element in [-value, value], then scaled to a norm of at most
    ``norm`` each, or of ``global_norm`` all together. NaN stays."""
    clipped = list(gradients)
    if value is not None:
        clipped = [apply("minimum", apply("maximum", g, -value), value) for g in clipped]
    if norm is not None:
        clipped = [g * _scale(_squares(g), norm) for g in clipped]
    if global_norm is not None and clipped:
        scale = _scale(functools.reduce(operator.add, map(_squares, clipped)), global_norm)
        clipped = [g * scale for g in clipped]
    return clipped


def _squares(gradient: Tensor) -> Tensor:
    return reduce("sum", apply("square", gradient))


def _scale(squares: Tensor, largest: float) -> Tensor:
    """What brings a vector of this sum of squares to a norm of at most ``largest``."""
    norm = apply("sqrt", squares)
    return apply("minimum", largest / (norm + _NORM_EPSILON), 1.0)
