"""Elements chosen by arrays of indices."""

from __future__ import annotations

from typing import Any

import numpy as np

from dlcore.graph.shape import Extent, Shape, describe
from dlcore.graph.table.elementwise import full
from dlcore.graph.tensor import Tensor, apply, define


def _check_index(array: Tensor, index: Tensor) -> None:
    if array.ndim != 3 or index.ndim != 2 or index.shape[0] not in (1, array.shape[0]):
        raise ValueError(
            f"take: arrays (outer, extent, inner) have indices (outer or 1, n), "
            f"but these are {describe(array.shape)} and {describe(index.shape)}"
        )


def _take_shape(source: Tensor, index: Tensor) -> Shape:
    _check_index(source, index)
    return (source.shape[0], index.shape[1], source.shape[2])


def _rows_of(index: np.ndarray, outer: int) -> Any:
    return [index[o if len(index) > 1 else 0].astype(np.int64) for o in range(outer)]


def _take_reference(source: np.ndarray, index: np.ndarray) -> np.ndarray:
    rows = _rows_of(index, len(source))
    result = [each[row] for each, row in zip(source, rows, strict=True)]
    return np.array(result, source.dtype).reshape(len(source), index.shape[1], source.shape[2])


def _scatter_reference(g: np.ndarray, index: np.ndarray, extent: int) -> np.ndarray:
    result = np.zeros((len(g), extent, g.shape[2]), g.dtype)
    for out, row, each in zip(result, _rows_of(index, len(g)), g, strict=True):
        np.add.at(out, row, each)
    return result


def _scatter_shape(g: Tensor, index: Tensor, extent: Extent) -> Shape:
    _check_index(g, index)
    return (g.shape[0], extent, g.shape[2])


# source (outer, extent, inner), index (outer or 1, n) -> (outer, n, inner): elements index[o, j]
# of the middle axis. Negative indices count from the end; one that is out of range fails the run.
define(
    "take",
    shape=_take_shape,
    dtype=lambda source, index: source.dtype,
    reference=_take_reference,
    gradient=lambda node, g: (
        apply("scatter_add", full(g, node), node.inputs[1], extent=node.inputs[0].shape[1]),
        None,
    ),
    lowering="record",
    storage=lambda node: node.inputs[0].storage,
    row_local=False,
    dense=(0,),
)

# g (outer, n, inner), index (outer or 1, n) -> (outer, extent, inner): sums of the elements of g
# that have the same index.
define(
    "scatter_add",
    shape=_scatter_shape,
    dtype=lambda g, index, extent: g.dtype,
    reference=_scatter_reference,
    gradient=lambda node, g: (apply("take", full(g, node), node.inputs[1]), None),
    lowering="record",
    row_local=False,
    dense=(0,),
)
