"""``np.einsum`` of one or two operands: sums, and the batched matrix product."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from dlcore.graph.shape import Extent, Rows, Shape, describe, element_count
from dlcore.graph.table.contraction import product
from dlcore.graph.table.elementwise import astype
from dlcore.graph.table.shaping import reduce
from dlcore.graph.tensor import Tensor, apply

Labels = Sequence[Hashable]


def einsum(subscripts: str, operands: Sequence[Tensor]) -> Tensor:
    """The contraction that the subscripts say, as in ``"bij,bjk->bik"``.

    Raises
    ------
    TypeError
        For what is no batched matrix product: an ellipsis, an index that stands twice in one
        operand, more than two operands.
    """
    text = subscripts.replace(" ", "")
    inputs, arrow, output = text.partition("->")
    terms = inputs.split(",")
    if "." in text:
        raise TypeError(f"einsum {subscripts!r}: an ellipsis is not supported; name all axes")
    if len(terms) != len(operands):
        raise ValueError(
            f"einsum {subscripts!r} names {len(terms)} operands, but there are {len(operands)}"
        )
    if not arrow:
        letters = sorted(set(inputs) - {","})
        output = "".join(x for x in letters if inputs.count(x) == 1)
    for term, operand in zip(terms, operands, strict=True):
        if len(term) != operand.ndim:
            raise ValueError(
                f"einsum {subscripts!r}: {term!r} names {len(term)} axes, "
                f"but the operand has shape {describe(operand.shape)}"
            )
        if len(set(term)) != len(term):
            raise TypeError(
                f"einsum {subscripts!r}: an index that stands twice in one operand is not "
                "supported; write np.diagonal"
            )
    if len(set(output)) != len(output) or not set(output) <= set(inputs):
        raise ValueError(f"einsum {subscripts!r}: the output names an index twice, or an unknown")
    return contract([list(term) for term in terms], operands, list(output))


def contract(labels: Sequence[Labels], operands: Sequence[Tensor], output: Labels) -> Tensor:
    """The sum over all labels that the output lacks of the product of one or two operands."""
    dtype = np.result_type(*(operand.dtype for operand in operands))
    return astype(_contracted(labels, operands, output), dtype)


def _contracted(labels: Sequence[Labels], operands: Sequence[Tensor], output: Labels) -> Tensor:
    if len(operands) == 1:
        node, names = _summed(operands[0], labels[0], set(output))
        return _arranged(node, names, output)
    if len(operands) != 2:
        raise TypeError(
            f"einsum of {len(operands)} operands is not supported; contract two at a time"
        )
    _check_extents(labels, operands)
    a, names_a = _summed(operands[0], labels[0], {*labels[1], *output})
    b, names_b = _summed(operands[1], labels[1], {*labels[0], *output})
    shared = [x for x in names_a if x in names_b]
    batch = [x for x in shared if x in output]
    summed = [x for x in shared if x not in output]
    left = [x for x in names_a if x not in names_b]
    right = [x for x in names_b if x not in names_a]
    extent = dict(zip((*names_a, *names_b), (*a.shape, *b.shape), strict=True))
    if not summed:
        full = [*batch, *left, *right]
        return _arranged(_spread(a, names_a, full) * _spread(b, names_b, full), full, output)
    leading = tuple(extent[x] for x in batch)
    m, k, n = (_merged([extent[x] for x in group]) for group in (left, summed, right))
    matrix_a = apply("reshape", _arranged(a, names_a, [*batch, *left, *summed]),
                     shape=(*leading, m, k))  # fmt: skip
    matrix_b = apply("reshape", _arranged(b, names_b, [*batch, *summed, *right]),
                     shape=(*leading, k, n))  # fmt: skip
    full = [*batch, *left, *right]
    result = apply("reshape", product(matrix_a, matrix_b), shape=tuple(extent[x] for x in full))
    return _arranged(result, full, output)


def _check_extents(labels: Sequence[Labels], operands: Sequence[Tensor]) -> None:
    known: dict[Hashable, Extent] = {}
    for names, operand in zip(labels, operands, strict=True):
        for name, extent in zip(names, operand.shape, strict=True):
            if known.setdefault(name, extent) != extent:
                shapes = " and ".join(describe(operand.shape) for operand in operands)
                raise ValueError(
                    f"index {name!r} has {known[name]} elements in one operand and {extent} in the "
                    f"other (shapes {shapes})"
                )


def _summed(node: Tensor, names: Labels, kept: set[Hashable]) -> tuple[Tensor, list[Hashable]]:
    """The operand with the axes that nobody else names summed away."""
    axes = tuple(i for i, name in enumerate(names) if name not in kept)
    left = [name for name in names if name in kept]
    return (reduce("sum", node, axes) if axes else node), left


def _arranged(node: Tensor, names: Labels, wanted: Labels) -> Tensor:
    return apply("transpose", node, axes=tuple(list(names).index(x) for x in wanted))


def _spread(node: Tensor, names: Labels, full: Labels) -> Tensor:
    """The operand with an axis for each label, of extent 1 where it has none."""
    node = _arranged(node, names, [x for x in full if x in names])
    extents = iter(node.shape)
    shape: Shape = tuple(next(extents) if x in names else 1 for x in full)
    return apply("reshape", node, shape=shape)


def _merged(extents: Sequence[Extent]) -> Extent:
    number, power = element_count(extents)
    return Rows(number) if power else number
