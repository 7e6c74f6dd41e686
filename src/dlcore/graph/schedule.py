"""How a plan goes through the rows of a step: all of them, op after op, or block by block.

Row by row, most of a step is a chain: gather, forward pass, loss, backward pass. In the row-block
schedule a thread takes a block of rows through the whole chain while it stays in cache, sums what
belongs to all rows (the gradients of parameters, the loss) over its blocks, and meets the others
once; the rest of the step, the updates above all, follows. In the whole-batch schedule the team
shares out every op.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dlcore.graph.canonical import is_reshaped
from dlcore.graph.fusion import Launch, base
from dlcore.graph.shape import ROWS, Rows, Shape, concrete
from dlcore.graph.tensor import Slot, Tensor

ScheduleName = Literal["auto", "row-block", "whole-batch"]
SCHEDULES: tuple[ScheduleName, ...] = ("auto", "row-block", "whole-batch")

# The cost model, fitted by tools/fit_schedule.py to the times of networks with AVX-512 and AVX2:
# what it chooses takes 1.02 times as long as the fastest schedule on average, the whole batch 1.19.
# Weights beyond this size do not stay in L2 beside a block, which then waits for them where the
# whole batch would use them once.
LARGEST_WEIGHTS = 320 * 1024
# A matrix up to this size gives ops that are too short for a team where they are shared out one by
# one, so that deep networks of such gain by blocks all the same. These count towards a second limit
# alone, as sums over rows take as much for each group of blocks.
NARROW_MATRIX, LARGEST_NARROW_WEIGHTS = 32 * 1024, 2048 * 1024
# What a block's tensors may take together, and the fewest and most rows that follow from it: larger
# blocks are faster as long as they stay in L2, beside weights in one of 1 MiB. In blocks of fewer
# rows, what has no rows (weights and their gradients) is most of the traffic.
BLOCK_BYTES = 512 * 1024
FEWEST_ROWS, MOST_ROWS = 64, 256
# The multiply-adds with weights in the forward pass of a step from which on two threads are to have
# as many blocks each, where rounding to whole vectors lets them. Two blocks of 64 rows take one
# thread 7% longer than one of 128, and two threads 26% less.
SHARED_PRODUCTS = 1 << 19
# Blocks are whole vectors of rows, those of the last block excepted.
VECTOR_ROWS = 16


@dataclass(frozen=True)
class RowBlocks:
    """The part of a step that runs block by block.

    Attributes
    ----------
    rows : int
        Of a block.
    launches : tuple of Launch
        In their order.
    sums : frozenset of Tensor
        Which of their results are sums over all rows.
    transposed : frozenset of Tensor
        Which of their results lie with the rows of the block adjacent, so that rows fill vectors
        whatever the width of a layer.
    reason : str
        Why this schedule, in words and numbers.
    """

    rows: int
    launches: tuple[Launch, ...]
    sums: frozenset[Tensor]
    transposed: frozenset[Tensor]
    reason: str


@dataclass(frozen=True)
class WholeBatch:
    """That nothing runs block by block, and why."""

    reason: str


class _NotByRows(Exception):
    """Blocks of rows would not compute the same; the message says why."""


def choose_schedule(
    launches: Sequence[Launch],
    stored: Mapping[Tensor, Slot],
    read_by_updates: Collection[Tensor],
    capacity: int,
    wanted: ScheduleName,
) -> RowBlocks | WholeBatch:
    """The schedule of a plan, by the shapes and dtypes of what it computes alone.

    Parameters
    ----------
    launches : sequence of Launch
    stored : mapping of Tensor to Slot
        Results that go to slots.
    read_by_updates : collection of Tensor
        What optimiser steps read.
    capacity : int
        The largest number of rows in a step.
    wanted : str
        ``"auto"`` to choose; else the schedule to use.

    Raises
    ------
    ValueError
        If ``wanted`` is unknown, or is ``"row-block"`` where that would not compute the same.
    """
    if wanted not in SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, not {wanted!r}")
    if wanted == "whole-batch":
        return WholeBatch("as asked for")
    try:
        chosen, sums = _block_launches(launches, stored, read_by_updates)
    except _NotByRows as error:
        if wanted == "row-block":
            raise ValueError(f"the row-block schedule is not possible: {error}") from None
        return WholeBatch(str(error))
    reason = "as asked for"
    if wanted == "auto":
        if capacity < VECTOR_ROWS:
            return WholeBatch(f"{capacity} rows are fewer than {VECTOR_ROWS}")
        matrices = [_bytes(node, 1) for node in _weights(chosen)]
        weights = sum(matrices)
        if weights == 0:
            return WholeBatch("there is no product with weights")
        excess = weights_beyond_limits(matrices)
        if excess is not None:
            return WholeBatch(excess)
        reason = f"weights take {weights} bytes, up to {LARGEST_WEIGHTS} or of narrow matrices"
    rows = rows_of_block(_bytes_of_row(chosen), _count_elements(_weights(chosen)), capacity)
    # strides (1, 1) of a single row would not tell columns from rows, and "random" refuses them
    transposed = _transposed(chosen, stored) if rows > 1 else frozenset[Tensor]()
    return RowBlocks(rows, chosen, sums, transposed, reason)


# What can run block by block


def _block_launches(
    launches: Sequence[Launch],
    stored: Mapping[Tensor, Slot],
    read_by_updates: Collection[Tensor],
) -> tuple[tuple[Launch, ...], frozenset[Tensor]]:
    chosen: list[Launch] = []
    by_row: set[Tensor] = set()
    sums: set[Tensor] = set()
    for launch in launches:
        if not any(_counts_rows(node.shape) for node in (*launch.outputs, *launch.inputs)):
            continue
        if _is_apart(launch):
            by_row.update(launch.outputs)
        elif _is_sum(launch):
            of_rows = {node for node in launch.outputs if _counts_rows(node.shape)}
            by_row |= of_rows
            sums.update(node for node in launch.outputs if node not in of_rows)
        else:
            raise _NotByRows(f"{_name(launch)} needs all rows at once")
        chosen.append(launch)
    if not chosen:
        raise _NotByRows("nothing in it has rows")
    _check_reads(launches, chosen, by_row, sums)
    for node, slot in stored.items():
        if node in by_row and slot.kind != "stream":
            raise _NotByRows(f"a result with rows goes to slot {slot.name}, which has none")
    for node in read_by_updates:
        if base(node) in by_row:
            raise _NotByRows("an update reads rows")
    if len({node.storage for node in sums}) > 1:
        raise _NotByRows("sums over rows have several dtypes")
    return tuple(chosen), frozenset(sums)


def _check_reads(
    launches: Sequence[Launch],
    chosen: Sequence[Launch],
    by_row: Collection[Tensor],
    sums: Collection[Tensor],
) -> None:
    others = set(launches) - set(chosen)
    computed = {node for launch in others for node in launch.outputs}
    literals = set()
    for launch in chosen:
        for operand in launch.inputs:
            node = base(operand)
            if node in sums:
                raise _NotByRows(f"{_name(launch)} reads a sum over rows")
            if node in computed:
                raise _NotByRows(f"{_name(launch)} reads what is computed of no rows")
            if node.op.name == "literal":
                literals.add(node)
    for launch in others:
        for operand in launch.inputs:
            if base(operand) in by_row or base(operand) in literals:
                raise _NotByRows(f"{_name(launch)} reads what a block has")


def _counts_rows(shape: Shape) -> bool:
    return any(isinstance(extent, Rows) for extent in shape)


def _has_rows_first(shape: Shape) -> bool:
    return len(shape) > 0 and shape[0] == ROWS and not _counts_rows(shape[1:])


def _is_apart(launch: Launch) -> bool:
    """Whether each row of the results depends on the same row of what is read alone."""
    if not all(_has_rows_first(node.shape) for node in launch.outputs):
        return False
    if not launch.records:
        return _has_rows_first(launch.space)
    node = launch.records[0]
    if node.op.name == "matmul":
        a, b = node.inputs
        return a.ndim == b.ndim == 2 and _has_rows_first(a.shape) and not _counts_rows(b.shape)
    return node.op.row_local and all(_has_rows_first(i.shape) or i.ndim == 0 for i in node.inputs)


def _is_sum(launch: Launch) -> bool:
    """Whether results are sums over the rows of what is read, and others those of each row."""
    reduction = launch.reduction
    if reduction is not None:
        return (
            reduction.op.name in ("sum", "mean")
            and not _counts_rows(reduction.shape)
            and _has_rows_first(launch.space)
        )
    if not launch.records or any(_counts_rows(node.shape) for node in launch.outputs):
        return False
    product = launch.records[0]
    if product.op.name != "matmul" or launch.body or product.ndim != 2:
        return False
    a, b = product.inputs
    return a.shape[1] == ROWS and b.shape[0] == ROWS


def _name(launch: Launch) -> str:
    return (launch.records or launch.roots)[0].op.name


# How large blocks are


def _weights(launches: Sequence[Launch]) -> set[Tensor]:
    """The matrices without rows that rows are multiplied with."""
    return {
        base(factor)
        for launch in launches
        if launch.records and launch.records[0].op.name == "matmul"
        for factor in launch.records[0].inputs
        if not _counts_rows(factor.shape)
    }


def weights_beyond_limits(matrices: Sequence[int]) -> str | None:
    """Why matrices of so many bytes each are too large for blocks; None where they are not."""
    wide = sum(size for size in matrices if size > NARROW_MATRIX)
    if wide > LARGEST_WEIGHTS:
        return f"weights of over {NARROW_MATRIX} bytes take {wide}, over {LARGEST_WEIGHTS}"
    if sum(matrices) > LARGEST_NARROW_WEIGHTS:
        return f"weights take {sum(matrices)} bytes, over {LARGEST_NARROW_WEIGHTS}"
    return None


def _bytes_of_row(launches: Sequence[Launch]) -> int:
    """What all that launches compute takes for a row."""
    return sum(
        _bytes(node, 1)
        for launch in launches
        for node in launch.outputs
        if _counts_rows(node.shape)
    )


def rows_of_block(bytes_of_row: int, weights: int, capacity: int) -> int:
    """As many rows as fit, in blocks of about the same size.

    Parameters
    ----------
    bytes_of_row : int
    weights : int
        Elements that each row is multiplied with.
    capacity : int
        The largest number of rows in a step.
    """
    most = min(max(BLOCK_BYTES // max(bytes_of_row, 1), FEWEST_ROWS), MOST_ROWS)
    blocks = -(-capacity // most)
    if weights * capacity >= SHARED_PRODUCTS and capacity >= 2 * FEWEST_ROWS:
        blocks += blocks % 2
    rows = -(-capacity // blocks)
    return min(-(-rows // VECTOR_ROWS) * VECTOR_ROWS, capacity)


def _count_elements(nodes: Iterable[Tensor]) -> int:
    return sum(math.prod(concrete(node.shape, 1)) for node in nodes)


def _bytes(node: Tensor, rows: int) -> int:
    return math.prod(concrete(node.shape, rows)) * node.storage.itemsize


# How a block lies in memory


def _transposed(launches: Sequence[Launch], stored: Collection[Tensor]) -> frozenset[Tensor]:
    """The matrices of a block that can lie with their rows adjacent."""
    chosen = {
        node
        for launch in launches
        for node in launch.outputs
        if node.ndim == 2 and _has_rows_first(node.shape) and node not in stored
        and _writes_transposed(launch)
    }  # fmt: skip
    for launch in launches:
        for operand in launch.inputs:
            if not _reads_transposed(launch, operand):
                chosen.discard(base(operand))
    for launch in launches:
        if _is_softmax_loss(launch):
            matrices = {launch.records[0].inputs[0], *(n for n in launch.outputs if n.ndim == 2)}
            if not matrices <= chosen:
                chosen -= matrices
    return frozenset(chosen)


def _is_softmax_loss(launch: Launch) -> bool:
    return bool(launch.records) and launch.records[0].op.name.startswith("softmax_cross_entropy")


def _has_labels(launch: Launch) -> bool:
    return launch.records[0].inputs[1].storage.kind == "i"


def _writes_transposed(launch: Launch) -> bool:
    if not launch.records or launch.records[0].op.name in ("matmul", "random"):
        return True
    return _is_softmax_loss(launch) and _has_labels(launch)


def _reads_transposed(launch: Launch, operand: Tensor) -> bool:
    if is_reshaped(operand):
        return False
    if not launch.records or launch.records[0].op.name == "matmul":
        return True
    return _is_softmax_loss(launch) and _has_labels(launch) and operand is base(operand)
