"""Rewriting a graph into the form that fusion and lowering expect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dlcore.graph.shape import Rows, Shape, describe
from dlcore.graph.tensor import Tensor, apply, topological


def canonicalise(outputs: Sequence[Tensor]) -> list[Tensor]:
    """The same outputs with equal subexpressions merged and reshapes made views.

    A reshape of memory that is not contiguous (a transpose, a broadcast) first copies it. Nodes
    that no output needs are not visited, so they are gone.
    """
    known: dict[Any, Tensor] = {}
    replaced: dict[Tensor, Tensor] = {}
    for node in topological(outputs):
        inputs = tuple(replaced[i] for i in node.inputs)
        if node.op.name == "reshape":
            inputs = (_source_of_reshape(inputs[0], node.shape),)
        key = (node.op.name, *map(id, inputs), *_attribute_key(node))
        if key not in known:
            unchanged = inputs == node.inputs
            known[key] = node if unchanged else Tensor(node.op, inputs, node.attributes)
        replaced[node] = known[key]
    return [replaced[node] for node in outputs]


def _attribute_key(node: Tensor) -> list[Any]:
    # by its digits, so that 0.0 and -0.0 stay apart
    return [
        (name, value.hex() if isinstance(value, float) else value)
        for name, value in sorted(node.attributes.items())
    ]


def without_ones(shape: Shape) -> Shape:
    return tuple(extent for extent in shape if extent != 1)


def _source_of_reshape(source: Tensor, shape: Shape) -> Tensor:
    """What the reshape is a view of: a copy where the source's memory does not do."""
    if source.op.name == "reshape":
        source = source.inputs[0]
    return source if _is_view(source, shape) else apply("copy", source)


def _is_view(source: Tensor, shape: Shape) -> bool:
    if without_ones(source.shape) == without_ones(shape):
        return True
    for candidate in (source.shape, shape):
        if any(isinstance(extent, Rows) for extent in without_ones(candidate)[1:]):
            raise NotImplementedError(
                f"reshape {describe(source.shape)} to {describe(shape)}: "
                "rows must stay the first axis"
            )
    return is_contiguous(source)


def is_contiguous(node: Tensor) -> bool:
    """Whether the memory that holds the node is C-contiguous."""
    while node.op.name == "reshape":
        node = node.inputs[0]
    return node.op.lowering != "view"
