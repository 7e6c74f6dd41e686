"""Reverse-mode differentiation: a graph in, a graph out."""

from __future__ import annotations

from collections.abc import Sequence

from dlcore.graph.canonical import merge_equal
from dlcore.graph.shape import describe
from dlcore.graph.tensor import Tensor, apply, literal, topological


def gradient(
    output: Tensor, wrt: Sequence[Tensor], cotangent: Tensor | None = None
) -> list[Tensor]:
    """The derivative of a scalar node for each of ``wrt``, as graph expressions.

    The rules of the table are themselves graph expressions, so that the result can be
    differentiated again.

    Parameters
    ----------
    output : Tensor
        A node of shape ``()``, or of any shape where a cotangent is given.
    wrt : sequence of Tensor
        Nodes of real dtype, any shapes.
    cotangent : Tensor, optional
        The derivative of something for ``output``, in its shape: then the result is that of the
        same thing for ``wrt`` (a product of the transposed Jacobian with the cotangent).

    Returns
    -------
    list of Tensor
        One for each of ``wrt``, of its shape and dtype; zeros where ``output`` does not depend
        on it.

    Raises
    ------
    ValueError
        If ``output`` is not a scalar and no cotangent is given.
    TypeError
        If ``output`` is not real.
    NotImplementedError
        If an op on the way has no gradient rule.
    """
    if output.dtype.kind != "f":
        raise TypeError(f"only floating point has a gradient; this is {output.dtype}")
    if cotangent is None:
        if output.shape != ():
            raise ValueError(
                f"only a scalar has a gradient; this has shape {describe(output.shape)}"
            )
        cotangent = literal(1.0, output.dtype)
    # Equal nodes are one before, so that they are differentiated, and their gradients summed, once.
    (output,) = merge_equal([output], keep=wrt)
    order = topological([output])
    active = _depends_on(order, wrt)
    adjoints: dict[Tensor, Tensor] = {output: cotangent}
    for node in reversed(order):
        if node not in adjoints or node not in active or not node.inputs:
            continue
        if node.op.gradient is None:
            raise NotImplementedError(f"{node.op.name} has no gradient rule")
        for operand, adjoint in zip(
            node.inputs, node.op.gradient(node, adjoints[node]), strict=True
        ):
            if adjoint is None or operand not in active:
                continue
            known = adjoints.get(operand)
            adjoints[operand] = adjoint if known is None else known + adjoint
    return [_adjoint_or_zeros(adjoints.get(node), node) for node in wrt]


def _adjoint_or_zeros(adjoint: Tensor | None, node: Tensor) -> Tensor:
    if adjoint is None:
        adjoint = literal(0.0, node.dtype)
    return apply("broadcast_to", adjoint, shape=node.shape)


def _depends_on(order: Sequence[Tensor], wrt: Sequence[Tensor]) -> set[Tensor]:
    active = set(wrt)
    for node in order:
        if any(operand in active for operand in node.inputs):
            active.add(node)
    return active
