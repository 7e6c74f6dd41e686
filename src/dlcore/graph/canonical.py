"""Rewriting a graph: into the form that fusion and lowering expect, and to read other slots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dlcore.graph.shape import Rows, Shape, describe
from dlcore.graph.tensor import ALIASES, Slot, Tensor, apply, topological


def canonicalise(outputs: Sequence[Tensor]) -> list[Tensor]:
    """The same outputs with equal subexpressions merged, aliases gone, and reshapes made views.

    What has to be contiguous and is not (a transpose, a broadcast) is copied first. Nodes that no
    output needs are not visited, so they are gone.
    """
    known = _Known()
    replaced: dict[Tensor, Tensor] = {}
    for node in topological(outputs):
        inputs = tuple(replaced[i] for i in node.inputs)
        if node.op.name in ALIASES:
            replaced[node] = inputs[0]
            continue
        if node.op.name == "reshape":
            inputs = (known.unique(_source_of_reshape(inputs[0], node.shape)),)
        if node.op.dense:
            inputs = tuple(
                known.unique(apply("copy", operand))
                if i in node.op.dense and not is_contiguous(operand)
                else operand
                for i, operand in enumerate(inputs)
            )
        replaced[node] = known.unique(node.with_inputs(inputs))
    return [replaced[node] for node in outputs]


def merge_equal(outputs: Sequence[Tensor], keep: Sequence[Tensor] = ()) -> list[Tensor]:
    """The same outputs with equal subexpressions merged; the nodes of ``keep`` stay themselves.

    So do identities: they are what other transforms, around this one, differentiate for.
    """
    known = _Known()
    kept = set(keep)
    replaced: dict[Tensor, Tensor] = {}
    for node in topological(outputs):
        if node in kept or node.op.name == "identity":
            replaced[node] = node
        else:
            inputs = tuple(replaced[i] for i in node.inputs)
            replaced[node] = known.unique(node.with_inputs(inputs))
    return [replaced[node] for node in outputs]


def with_slots_read_from(outputs: Sequence[Tensor], memory: Mapping[Slot, Tensor]) -> list[Tensor]:
    """The same outputs with nodes of the same shapes and dtypes in place of some slots'."""
    replaced: dict[Tensor, Tensor] = {}
    for node in topological(outputs):
        if node.op.name == "slot":
            replaced[node] = memory.get(node.attributes["slot"], node)
        else:
            replaced[node] = node.with_inputs(tuple(replaced[i] for i in node.inputs))
    return [replaced[node] for node in outputs]


class _Known:
    """Nodes by what they compute."""

    def __init__(self) -> None:
        self._nodes: dict[Any, Tensor] = {}

    def unique(self, node: Tensor) -> Tensor:
        """The first node that computes the same."""
        key = (node.op.name, *map(id, node.inputs), *_attribute_key(node))
        return self._nodes.setdefault(key, node)


def _attribute_key(node: Tensor) -> list[Any]:
    # by its digits, so that 0.0 and -0.0 stay apart
    return [
        (name, value.hex() if isinstance(value, float) else value)
        for name, value in sorted(node.attributes.items())
    ]


def without_ones(shape: Shape) -> Shape:
    return tuple(extent for extent in shape if extent != 1)


def is_reshaped(node: Tensor) -> bool:
    """Whether it is a view that takes the memory of what it is a view of for contiguous."""
    while node.op.lowering == "view":
        source = node.inputs[0]
        keeps_strides = node.op.name in ("transpose", "broadcast_to", "slice")
        if not keeps_strides and without_ones(source.shape) != without_ones(node.shape):
            return True
        node = source
    return False


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
    while node.op.lowering == "view":
        if node.op.name != "reshape" and not _is_leading_part(node):
            return False
        node = node.inputs[0]
    return True


def _is_leading_part(node: Tensor) -> bool:
    """Whether it is a slice of neighbours along the first axis that has more than one element."""
    if node.op.name != "slice":
        return False
    shape = node.inputs[0].shape
    first = next((axis for axis, extent in enumerate(shape) if extent != 1), 0)
    return node.shape[first + 1 :] == shape[first + 1 :] and node.attributes["step"][first] == 1
