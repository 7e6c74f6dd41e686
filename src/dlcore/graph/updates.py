"""Optimiser steps, and which of them are made in the store of the product that is their gradient.

A parameter may be updated there when that product is all of its gradient and nothing else reads it,
and when all that reads the parameter, or may still fail, comes before. What is clipped, scaled,
shared by tied layers or penalised has a gradient that is computed from the product, and is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from dlcore.graph.fusion import Launch, base, is_plain_product
from dlcore.graph.tensor import Slot, Tensor


@dataclass(eq=False, frozen=True)
class Update:
    """An optimiser step: writes the slots of ``targets`` when all else of the step is done."""

    op: str
    targets: tuple[Tensor, ...]
    operands: tuple[Tensor, ...]
    attributes: tuple[int, ...]

    @property
    def is_step(self) -> bool:
        """Whether its operands are a gradient and scalars; others assign or copy."""
        return self.op.endswith("_step")


# What an op record of theirs may find wrong in the data, as csrc/plan has it.
_MAY_FAIL = {
    "gather",
    "take",
    "scatter_add",
    "softmax_cross_entropy",
    "softmax_cross_entropy_gradient",
}


def updates_in_store(
    launches: Sequence[Launch],
    stored: Collection[Tensor],
    updates: Sequence[Update],
    replaced: Mapping[Tensor, Tensor],
) -> tuple[list[Launch], dict[Launch, Update]]:
    """The launches, and the products among them that make an update.

    Parameters
    ----------
    launches : sequence of Launch
        In order.
    stored : collection of Tensor
        Results that go to slots.
    updates : sequence of Update
    replaced : mapping of Tensor to Tensor
        What stands in the launches for operands and targets of updates.

    Returns
    -------
    launches : list of Launch
        The same, but for products that moved behind the last use of what they update.
    in_store : dict of Launch to Update
    """
    readers = Counter(base(node) for launch in launches for node in launch.inputs)
    readers.update(base(replaced[operand]) for update in updates for operand in update.operands)
    products = {
        launch.records[0]: launch
        for launch in launches
        if is_plain_product(launch) and launch.records[0] not in stored
    }
    read_by_updates = _slots(replaced[operand] for update in updates for operand in update.operands)
    candidates: dict[Launch, Update] = {}
    for update in updates:
        gradient = replaced[update.operands[0]]
        if (
            update.is_step
            and gradient in products
            and readers[gradient] == 1
            and read_by_updates.isdisjoint(_slots(update.targets))
        ):
            candidates[products[gradient]] = update
    # Products that read each other's weights have no order in which each comes last.
    factors = {slot for launch in candidates for slot in _slots(launch.inputs)}
    in_store = {
        launch: update
        for launch, update in candidates.items()
        if factors.isdisjoint(_slots(update.targets))
    }
    return _moved(launches, in_store), in_store


def _slots(nodes: Iterable[Tensor]) -> set[Slot]:
    """The slots that they are, or are views of."""
    leaves = (base(node) for node in nodes)
    return {node.attributes["slot"] for node in leaves if node.op.name == "slot"}


def _moved(launches: Sequence[Launch], in_store: Mapping[Launch, Update]) -> list[Launch]:
    """The launches, with each product that updates behind all that has to come before it."""
    places = {slot: -1 for update in in_store.values() for slot in _slots(update.targets)}
    last_that_may_fail = -1
    for i, launch in enumerate(launches):
        for slot in _slots(launch.inputs) & places.keys():
            places[slot] = i
        if any(node.op.name in _MAY_FAIL for node in launch.records):
            last_that_may_fail = i

    def place(i: int) -> tuple[int, bool]:
        update = in_store.get(launches[i])
        if update is None:
            return i, False
        return max(i, last_that_may_fail, *(places[slot] for slot in _slots(update.targets))), True

    return [launches[i] for i in sorted(range(len(launches)), key=place)]
