"""Ops with no tensor behind them: slots, literals, gathered rows, random arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlcore.graph.shape import Shape
from dlcore.graph.tensor import Tensor, define


def _no_reference(*_: Any, **__: Any) -> np.ndarray:
    raise ValueError("a source has no reference: feed its value to evaluate()")


define(
    "slot",
    shape=lambda slot: slot.shape,
    dtype=lambda slot: slot.dtype,
    reference=_no_reference,
    gradient=None,
    lowering="leaf",
    storage=lambda node: node.dtype,
)

define(
    "literal",
    shape=lambda value, power, dtype: (),
    dtype=lambda value, power, dtype: dtype,
    reference=_no_reference,
    gradient=None,
    lowering="leaf",
)


def _gather_shape(source: Tensor, dtype: np.dtype, classes: int | None = None) -> Shape:
    return source.shape


# Rows of a data set in the order of the run, converted to dtype. Where `classes` is given the
# values are labels and are checked to lie in [0, classes).
define(
    "gather",
    shape=_gather_shape,
    dtype=lambda source, dtype, classes=None: dtype,
    reference=_no_reference,
    gradient=lambda node, g: (None,),
    lowering="record",
    storage=lambda node: node.dtype,
)


# Random numbers keyed by (seed of the run, stream, step): `keep_mask` holds 1 / keep with
# probability keep, else 0; `uniform` lies in [0, 1); `normal` is standard normal.
define(
    "random",
    shape=lambda kind, shape, dtype, stream, keep=1.0: shape,
    dtype=lambda kind, shape, dtype, stream, keep=1.0: dtype,
    reference=_no_reference,
    gradient=None,
    lowering="record",
)
