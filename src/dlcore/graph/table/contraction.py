"""Matrix products."""

from __future__ import annotations

import numpy as np

from dlcore.graph.shape import Shape, broadcast, describe
from dlcore.graph.table.elementwise import full, sum_to
from dlcore.graph.tensor import Tensor, apply, define


def swap_last(a: Tensor) -> Tensor:
    """The matrices of ``a`` transposed."""
    axes = (*range(a.ndim - 2), a.ndim - 1, a.ndim - 2)
    return apply("transpose", a, axes=axes)


def _matmul_shape(a: Tensor, b: Tensor) -> Shape:
    if a.ndim < 2 or b.ndim < 2:
        raise ValueError(
            f"matmul takes matrices; got shapes {describe(a.shape)} and {describe(b.shape)}"
        )
    if a.shape[-1] != b.shape[-2]:
        raise ValueError(
            f"matmul: a has {a.shape[-1]} columns, but b has {b.shape[-2]} rows "
            f"(shapes {describe(a.shape)} and {describe(b.shape)})"
        )
    return (*broadcast(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])


def _matmul_dtype(a: Tensor, b: Tensor) -> np.dtype:
    if a.dtype != b.dtype:
        raise ValueError(f"matmul: a is {a.dtype}, but b is {b.dtype}")
    return a.dtype


def _matmul_gradient(node: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    a, b = node.inputs
    g = full(g, node)
    return (
        sum_to(apply("matmul", g, swap_last(b)), a),
        sum_to(apply("matmul", swap_last(a), g), b),
    )


define(
    "matmul",
    shape=_matmul_shape,
    dtype=_matmul_dtype,
    reference=np.matmul,
    gradient=_matmul_gradient,
    lowering="record",
)
