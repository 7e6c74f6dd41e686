"""A graph for many values of one of its nodes at once.

What depends on that node gets an axis in front that counts the values, and the rest stays as it
is: a matrix times each of many vectors becomes one product of matrices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from dlcore.graph.shape import MAX_NDIM, Rows, Shape, fixed
from dlcore.graph.table.contraction import swap_last
from dlcore.graph.tensor import TABLE, Tensor, apply, topological


class CannotBatch(Exception):
    """The graph has a node that no rule is for, or that would have too many axes."""


class _Inputs:
    """The inputs of a node, of which some have the axis of the values in front."""

    def __init__(self, node: Tensor, stacked: dict[Tensor, Tensor], count: int):
        self.count = count
        self.is_stacked = [operand in stacked for operand in node.inputs]
        self.nodes = [stacked.get(operand, operand) for operand in node.inputs]

    def all_stacked(self) -> list[Tensor]:
        """All with that axis: what does not depend on the value is repeated."""
        return [
            each if is_stacked else repeated(each, self.count)
            for each, is_stacked in zip(self.nodes, self.is_stacked, strict=True)
        ]

    def aligned(self, ndim: int) -> list[Tensor]:
        """Those with that axis have `ndim` others, so that all broadcast as they did without."""
        return [
            _with_axes(each, ndim) if is_stacked else each
            for each, is_stacked in zip(self.nodes, self.is_stacked, strict=True)
        ]


def batched(outputs: Sequence[Tensor], node: Tensor, values: Tensor) -> list[Tensor]:
    """The outputs for each value of a node.

    Parameters
    ----------
    outputs : sequence of Tensor
    node : Tensor
        What the values are put in place of.
    values : Tensor (count, ...)
        ``count`` values of the node's shape and dtype.

    Returns
    -------
    list of Tensor (count, ...)

    Raises
    ------
    CannotBatch
    """
    count = values.shape[0]
    assert isinstance(count, int)
    stacked = {node: values}
    for each in topological(outputs):
        if each in stacked or not any(operand in stacked for operand in each.inputs):
            continue
        if len(each.shape) == MAX_NDIM or any(isinstance(e, Rows) for e in each.shape):
            raise CannotBatch(f"{each.op.name} of shape {each.shape}")
        result = _rule_of(each)(each, _Inputs(each, stacked, count))
        stacked[each] = apply("broadcast_to", result, shape=(count, *each.shape))
    return [stacked[out] if out in stacked else repeated(out, count) for out in outputs]


def repeated(node: Tensor, count: int) -> Tensor:
    return apply("broadcast_to", node, shape=(count, *node.shape))


Rule = Callable[[Tensor, _Inputs], Tensor]


def _rule_of(node: Tensor) -> Rule:
    if node.op.name in RULES:
        return RULES[node.op.name]
    if node.op.lowering == "map":
        return _elementwise
    raise CannotBatch(f"{node.op.name} has no rule")


def _with_axes(a: Tensor, ndim: int) -> Tensor:
    count, *shape = a.shape
    return apply("reshape", a, shape=(count, *(1,) * (ndim - len(shape)), *shape))


def _merged(a: Tensor) -> Tensor:
    """The first two axes as one."""
    return apply("reshape", a, shape=(_product(a.shape[:2]), *a.shape[2:]))


def _split(a: Tensor, count: int) -> Tensor:
    """The opposite of `_merged`."""
    (extent, *shape) = a.shape
    assert isinstance(extent, int)
    return apply("reshape", a, shape=(count, extent // count, *shape))


def _product(extents: Shape) -> int:
    if any(isinstance(extent, Rows) for extent in extents):
        raise CannotBatch("an axis that counts rows")
    return math.prod(map(fixed, extents))


def _elementwise(node: Tensor, inputs: _Inputs) -> Tensor:
    return apply(node.op.name, *inputs.aligned(len(node.shape)), **node.attributes)


def _first_input(node: Tensor, inputs: _Inputs) -> Tensor:
    return apply(node.op.name, inputs.nodes[0])


def _broadcast_to(node: Tensor, inputs: _Inputs) -> Tensor:
    return inputs.aligned(len(node.shape))[0]


def _reshape(node: Tensor, inputs: _Inputs) -> Tensor:
    return apply("reshape", inputs.nodes[0], shape=(inputs.count, *node.shape))


def _transpose(node: Tensor, inputs: _Inputs) -> Tensor:
    axes = (0, *(axis + 1 for axis in node.attributes["axes"]))
    return apply("transpose", inputs.nodes[0], axes=axes)


def _slice(node: Tensor, inputs: _Inputs) -> Tensor:
    begin, step, extent = (node.attributes[name] for name in ("begin", "step", "extent"))
    return apply(
        "slice",
        inputs.nodes[0],
        begin=(0, *begin),
        step=(1, *step),
        extent=(inputs.count, *extent),
    )


def _embed(node: Tensor, inputs: _Inputs) -> Tensor:
    places = tuple(((0, *begin), (1, *step)) for begin, step in node.attributes["places"])
    shape = (inputs.count, *node.shape)
    return apply("embed", *inputs.all_stacked(), shape=shape, places=places)


def _concatenate(node: Tensor, inputs: _Inputs) -> Tensor:
    return apply("concatenate", *inputs.all_stacked(), axis=node.attributes["axis"] + 1)


def _reduction(node: Tensor, inputs: _Inputs) -> Tensor:
    axis = tuple(i + 1 for i in node.attributes["axis"])
    return apply(node.op.name, inputs.nodes[0], axis=axis, keepdims=node.attributes["keepdims"])


def _matmul(node: Tensor, inputs: _Inputs) -> Tensor:
    """One product of matrices, where one operand is the same matrix for all values."""
    a, b = inputs.nodes
    a_is_stacked, b_is_stacked = inputs.is_stacked
    if not b_is_stacked and b.ndim == 2:
        rows = apply("reshape", a, shape=(_product(a.shape[:-1]), a.shape[-1]))
        return apply("reshape", apply("matmul", rows, b), shape=(*a.shape[:-1], b.shape[-1]))
    if not a_is_stacked and a.ndim == 2 and b.ndim == 3:  # the same, transposed
        columns = _merged(swap_last(b))
        return swap_last(_split(apply("matmul", columns, swap_last(a)), inputs.count))
    return apply("matmul", *inputs.aligned(len(node.shape)))


def _by_indices(node: Tensor, inputs: _Inputs) -> Tensor:
    """`take` and `scatter_add`, whose first axis takes in that of the values."""
    outer = node.inputs[0].shape[0]
    array, index = inputs.nodes
    if inputs.is_stacked[1] or index.shape[0] != 1:
        array, index = inputs.all_stacked()
        index = _merged(apply("broadcast_to", index, shape=(inputs.count, outer, index.shape[-1])))
    return _split(apply(node.op.name, _merged(array), index, **node.attributes), inputs.count)


def _check_target(target: Tensor) -> None:
    if target.dtype.kind != "f":  # plans repeat floating point alone
        raise CannotBatch("labels for several arrays of logits")


def _cross_entropy(node: Tensor, inputs: _Inputs) -> Tensor:
    _check_target(inputs.nodes[1])
    logits, target = map(_merged, inputs.all_stacked())
    return _split(apply(node.op.name, logits, target), inputs.count)


def _cross_entropy_gradient(node: Tensor, inputs: _Inputs) -> Tensor:
    rows = node.shape[0]
    if inputs.is_stacked == [False, False, True]:
        logits, target, scale = inputs.nodes
        per_row = _with_axes(scale, 1)
        column = apply("reshape", per_row, shape=(*per_row.shape, 1))
        return apply("multiply", apply(node.op.name, logits, target, 1.0), column)
    _check_target(inputs.nodes[1])
    logits, target, scale = inputs.all_stacked()
    per_row = apply("broadcast_to", _with_axes(scale, 1), shape=(inputs.count, rows))
    merged = (_merged(logits), _merged(target), _merged(per_row))
    return _split(apply(node.op.name, *merged), inputs.count)


RULES: dict[str, Rule] = {
    "identity": _first_input,
    "stop_gradient": _first_input,
    "broadcast_to": _broadcast_to,
    "reshape": _reshape,
    "transpose": _transpose,
    "slice": _slice,
    "embed": _embed,
    "concatenate": _concatenate,
    **dict.fromkeys(("sum", "mean", "max", "min"), _reduction),
    "matmul": _matmul,
    **dict.fromkeys(("take", "scatter_add"), _by_indices),
    **dict.fromkeys(("softmax", "log_softmax"), _first_input),
    "softmax_cross_entropy": _cross_entropy,
    "softmax_cross_entropy_gradient": _cross_entropy_gradient,
}
assert set(RULES) <= set(TABLE)
