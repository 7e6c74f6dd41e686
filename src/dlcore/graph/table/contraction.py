"""Matrix products."""

from __future__ import annotations

import numpy as np

from dlcore.graph.shape import Shape, broadcast, describe
from dlcore.graph.table.elementwise import astype, full, sum_to
from dlcore.graph.tensor import REALS, Tensor, apply, check_dtype, define


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


def product(a: Tensor, b: Tensor) -> Tensor:
    """NumPy's ``a @ b``: vectors and stacks of matrices, of any dtypes."""
    if a.ndim == 0 or b.ndim == 0:
        raise ValueError(
            f"matmul takes arrays with axes; got shapes {describe(a.shape)} and {describe(b.shape)}"
        )
    dtype = np.result_type(a.dtype, b.dtype)
    check_dtype(dtype, "matmul")
    real = dtype if dtype in REALS else np.dtype(np.float64)
    a, b = (apply("cast", node, dtype=real) for node in (a, b))
    shape_a = (1, *a.shape) if a.ndim == 1 else a.shape
    shape_b = (*b.shape, 1) if b.ndim == 1 else b.shape
    if shape_a[-1] != shape_b[-2]:
        raise ValueError(
            f"matmul: a has {shape_a[-1]} columns, but b has {shape_b[-2]} rows "
            f"(shapes {describe(a.shape)} and {describe(b.shape)})"
        )
    result = apply("matmul", apply("reshape", a, shape=shape_a), apply("reshape", b, shape=shape_b))
    rows, columns = result.shape[-2:]
    kept = (() if a.ndim == 1 else (rows,)) + (() if b.ndim == 1 else (columns,))
    result = apply("reshape", result, shape=(*result.shape[:-2], *kept))
    return astype(result, dtype)


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
