"""From a graph to a native plan: fusion, placement, op records."""

from __future__ import annotations

import gc
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from dlcore import config
from dlcore._calls import BatchCall, RowCall
from dlcore._plan import Plan
from dlcore.graph import arena
from dlcore.graph.canonical import canonicalise, is_contiguous, is_reshaped, without_ones
from dlcore.graph.encode import (
    ARENA,
    BLOCK_ARENA,
    OPCODES,
    BlockPart,
    Encoder,
    Record,
    View,
)
from dlcore.graph.fusion import Launch, base, fuse, reads_sum_over_rows
from dlcore.graph.program import Program, build_program, float_bits, literal_of
from dlcore.graph.schedule import RowBlocks, ScheduleName, WholeBatch, choose_schedule
from dlcore.graph.shape import ROWS, Shape, concrete, describe, element_count
from dlcore.graph.table.shaping import offsets
from dlcore.graph.tensor import Slot, Tensor, apply, leaf, literal
from dlcore.graph.updates import Update, updates_in_store
from dlcore.memory import ALIGNMENT, native_array
from dlcore.team import TeamSize

# Rows so far apart, or a multiple, share one set of a first-level cache; as in csrc/gemm/gemm.c.
L1_SET_BYTES = 4096

_CallOfRows = TypeVar("_CallOfRows", RowCall, BatchCall)

RANDOM_KINDS = {"uniform": 0, "normal": 1, "keep_mask": 2}


class CompiledPlan:
    """A validated native plan, and the names of the slots that its runs bind.

    Attributes
    ----------
    native : dlcore._plan.Plan
    slots : list of Slot
        In the order of the plan's slot table.
    capacity : int
        The largest number of rows in a step.
    records : list of Record
    blocks : BlockPart
        Which of them run on blocks of rows, and what they need.
    schedule : RowBlocks or WholeBatch
    team_size : TeamSize
        What runs of many steps have found out about its threads.
    packed_bytes : int
        What ``pack`` takes: 0 where no product would gain, or where one reads an array that its
        owner may write.
    """

    def __init__(self, encoder: Encoder, schedule: RowBlocks | WholeBatch):
        self.slots = encoder.slots
        self.capacity = encoder.capacity
        self.records = encoder.records
        self.arena_bytes = encoder.arena_bytes
        self.blocks = encoder.blocks
        self.schedule = schedule
        self.native = Plan(encoder.encode())
        self.team_size = TeamSize()
        self.packed_bytes = self._count_packed()

    def run(self, bindings: Mapping[str, np.ndarray], **options: Any) -> tuple[int, int]:
        """Runs steps with arrays bound by slot name; see ``dlcore._plan.Plan.run``."""
        return self.native.run(self._arrays(bindings), **options)

    def pack(self, bindings: Mapping[str, np.ndarray]) -> np.ndarray:
        """The weights that products read in every step, laid out once for ``run(packed=...)``."""
        return self.native.pack(self._arrays(bindings))

    def _count_packed(self) -> int:
        read = [self.slots[index] for index in self.native.packed_slots]
        return 0 if any(slot.value is not None for slot in read) else self.native.packed_bytes

    def call_of_rows(
        self,
        kind: type[_CallOfRows],
        bindings: Mapping[str, np.ndarray],
        rows: str,
        results: str,
        parameters: object,
        revision: int,
    ) -> _CallOfRows | None:
        """The plan as a function of rows: a ``RowCall`` or ``BatchCall`` of ``dlcore._calls``.

        None where a constant is not read in place, so that it has to be copied at each run.
        """
        arrays = self._arrays_in_place(bindings)
        if arrays is None:
            return None
        names = [slot.name for slot in self.slots]
        places = names.index(rows), names.index(results)
        return kind(self.native, arrays, *places, parameters, revision)

    def _arrays_in_place(self, bindings: Mapping[str, np.ndarray]) -> list[np.ndarray] | None:
        """What slots are bound to, or None where a constant is bound to a copy."""
        arrays = self._arrays(bindings)
        for slot, array in zip(self.slots, arrays, strict=True):
            if slot.value is not None and array is not slot.value:
                return None
        return arrays

    def _arrays(self, bindings: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        return [
            bindings[s.name] if s.value is None else native_array(s.value, s.name)
            for s in self.slots
        ]

    def summary(self) -> str:
        """The schedule, one line for each op record, and the memory of a run."""
        lines = [self._schedule_line()]
        for i, record in enumerate(self.records):
            if i == self.blocks.records > 0:
                has_parts = self.blocks.rows < self.capacity
                what = "sums of the blocks are added up; then" if has_parts else "then"
                lines.append(f"--- {what}, on all rows:")
            outs = ", ".join(describe(v.shape) for v in record.outputs)
            ins = ", ".join(describe(v.shape) for v in record.inputs)
            dtype = record.outputs[0].dtype
            lines.append(f"{i:3}  {record.label:<40} {dtype!s:<8} {outs} <- {ins}")
        lines.append(f"arena: {self.arena_bytes} bytes for {self.capacity} rows")
        if self.blocks.records:
            lines.append(
                f"a block: {self.blocks.arena_bytes} bytes a thread for {self.blocks.rows} rows, "
                f"{self.blocks.sums_bytes} bytes of sums a group of blocks"
            )
        lines.append(f"memory of a run: {self.native.arena_bytes()} bytes, scratch included")
        if self.packed_bytes:
            lines.append(f"weights, if packed for repeated predictions: {self.packed_bytes} bytes")
        return "\n".join(lines)

    def _schedule_line(self) -> str:
        reason = self.schedule.reason
        if isinstance(self.schedule, WholeBatch):
            return f"schedule: whole batch, {reason}"
        return f"schedule: blocks of {self.schedule.rows} rows, {reason}"


def compile_plan(
    stores: Sequence[tuple[Slot, Tensor]],
    updates: Sequence[Update] = (),
    *,
    capacity: int,
    fusion: bool | None = None,
    schedule: ScheduleName | None = None,
) -> CompiledPlan:
    """The plan that computes each tensor into its slot and then makes the updates.

    Parameters
    ----------
    stores : sequence of (Slot, Tensor)
        Writable slots of the tensors' shapes and dtypes.
    updates : sequence of Update
    capacity : int
        The largest number of rows in a step.
    fusion : bool, optional
        False runs every node by itself, for comparison and debugging; by default what
        ``dlcore.config.fusion`` says.
    schedule : str, optional
        ``"auto"``, ``"row-block"`` or ``"whole-batch"``; by default what
        ``dlcore.config.schedule`` says.
    """
    fusion = config.fusion if fusion is None else fusion
    schedule = config.schedule if schedule is None else schedule
    wanted = [_checked_store(slot, tensor) for slot, tensor in stores]
    with _no_garbage_collection():
        read = list(dict.fromkeys(t for u in updates for t in (*u.operands, *u.targets)))
        canonical = canonicalise([*wanted, *read])
        results = _own_memory(canonical[: len(stores)])
        dense = [_dense(node) for node in canonical[len(stores) :]]
        replaced = dict(zip(read, dense, strict=True))
        nodes = [*results, *replaced.values()]
        launches = fuse(nodes, enabled=fusion, plain_sums=schedule != "whole-batch")
        stored = {result: slot for result, (slot, _) in zip(results, stores, strict=True)}
        chosen = choose_schedule(
            launches, stored, [replaced[o] for u in updates for o in u.operands], capacity, schedule
        )
        if fusion and isinstance(chosen, WholeBatch) and any(map(reads_sum_over_rows, launches)):
            launches = fuse(nodes)
        in_store: dict[Launch, Update] = {}
        if fusion and config.update_in_store and isinstance(chosen, WholeBatch):
            launches, in_store = updates_in_store(launches, stored, updates, replaced)
        return _Lowering(launches, stored, updates, in_store, replaced, capacity, chosen).compile()


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Puts off the search for cycles: a graph makes many objects, and all of them are in use.

    Of 1000 layers it took a quarter of the time to compile them.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _checked_store(slot: Slot, tensor: Tensor) -> Tensor:
    if tensor.shape != slot.shape or tensor.storage != slot.dtype:
        raise ValueError(
            f"slot {slot.name} holds {slot.dtype} {describe(slot.shape)}, "
            f"but its value is {tensor.storage} {describe(tensor.shape)}"
        )
    return tensor


def _own_memory(nodes: Sequence[Tensor]) -> list[Tensor]:
    """Nodes that can be placed in slots: leaves, views and repeated ones are copied."""
    result: dict[Tensor, None] = {}
    for node in nodes:
        owned = node.op.lowering not in ("leaf", "view") and node not in result
        result[node if owned else apply("copy", node)] = None
    return list(result)


def _dense(node: Tensor) -> Tensor:
    """The node where it is contiguous memory, else a copy of it: what optimiser steps read."""
    dense = is_contiguous(node) and base(node).op.name != "literal"
    return node if dense else apply("copy", node)


# Where no op runs block by block.
_NO_BLOCKS = RowBlocks(0, (), frozenset(), frozenset(), "")


class _Lowering:
    def __init__(
        self,
        launches: list[Launch],
        stored: dict[Tensor, Slot],
        updates: Sequence[Update],
        in_store: dict[Launch, Update],
        replaced: dict[Tensor, Tensor],
        capacity: int,
        schedule: RowBlocks | WholeBatch,
    ):
        self.schedule = schedule
        self.blocks = schedule if isinstance(schedule, RowBlocks) else _NO_BLOCKS
        in_blocks = set(self.blocks.launches)
        self.launches = [launch for launch in launches if launch not in in_blocks]
        # A single block has the sums of a step complete, and writes them where they are to go.
        parts = self.blocks.sums if self.blocks.rows < capacity else frozenset[Tensor]()
        self.stored = {n: slot for n, slot in stored.items() if n not in parts}
        self.stored_sums = {n: slot for n, slot in stored.items() if n in parts}
        made_in_store = set(in_store.values())
        self.updates = [update for update in updates if update not in made_in_store]
        self.in_store = in_store
        self.replaced = replaced
        self.capacity = capacity
        self.slots: dict[Slot, int] = {}
        self.offsets: dict[Tensor, int] = {}
        self.literals: dict[Tensor, None] = {}
        self.block_literals: dict[Tensor, None] = {}
        self.in_block: set[Tensor] = set()
        self.padded: frozenset[Tensor] = frozenset()
        self.views: dict[Tensor, View] = {}
        self.records: list[Record] = []

    def compile(self) -> CompiledPlan:
        read = [i for launch in self.launches for i in launch.inputs]
        read += [self.replaced[o] for update in self.updates for o in update.operands]
        self.literals = _literals_in_memory(read)
        self.block_literals = _literals_in_memory(
            i for launch in self.blocks.launches for i in launch.inputs
        )
        sums_bytes, arena_bytes, block_bytes = self._place()
        self._add_records(self.block_literals, self.blocks.launches)
        blocks = BlockPart(len(self.records), self.blocks.rows, block_bytes, sums_bytes)
        for node, slot in self.stored_sums.items():
            self.records.append(self._copy(node, self._in_slot(node, slot)))
        self._add_records(self.literals, self.launches)
        self.records += [self._lower_update(update) for update in self.updates]
        encoder = Encoder(
            list(self.slots),
            [self._slot_bytes(slot) for slot in self.slots],
            self.capacity,
            arena_bytes,
            self.records,
            blocks,
        )
        return CompiledPlan(encoder, self.schedule)

    def _add_records(self, literals: Iterable[Tensor], launches: Iterable[Launch]) -> None:
        self.records += [self._fill(number) for number in literals]
        for launch in launches:
            self.records += self._lower(launch)

    # Placement

    def _place(self) -> tuple[int, int, int]:
        """Sets offsets; returns the bytes of the sums, the whole arena and the block arena."""
        in_block = _lifetimes(self.block_literals, self.blocks.launches)
        self.in_block = {
            node for node in in_block if node not in self.stored and node not in self.blocks.sums
        }
        offsets, block_bytes = arena.place(
            {
                node: (self._bytes(node), *in_block[node])
                for node in in_block
                if node in self.in_block
            }
        )
        self.padded = self._find_padded()
        sums_bytes = 0
        for node in in_block:
            if node in self.blocks.sums and node not in self.stored:
                offsets[node] = sums_bytes
                sums_bytes += -(-self._bytes(node) // ALIGNMENT) * ALIGNMENT
        others = _lifetimes(self.literals, self.launches)
        for update in self.updates:
            for operand in update.operands:
                node = base(self.replaced[operand])
                if node in others:
                    others[node] = (others[node][0], len(self.launches))
        nowhere = {launch.records[0] for launch in self.in_store}
        placed, other_bytes = arena.place(
            {
                node: (self._bytes(node), *lifetime)
                for node, lifetime in others.items()
                if node not in self.stored and node not in nowhere
            }
        )
        offsets.update({node: sums_bytes + offset for node, offset in placed.items()})
        self.offsets = offsets
        return sums_bytes, sums_bytes + other_bytes, block_bytes

    def _find_padded(self) -> frozenset[Tensor]:
        """Results of products whose rows would share one set of a first-level cache."""
        read = {operand for launch in self.launches for operand in launch.inputs}
        reshaped = {base(operand) for operand in read if is_reshaped(operand)}
        return frozenset(
            node
            for launch in self.launches
            if launch.records and launch.records[0].op.name == "matmul"
            for node in launch.outputs
            if node.shape[:1] == (ROWS,)
            and node.ndim == 2
            and self._dense_strides(node)[0] * node.storage.itemsize % L1_SET_BYTES == 0
            and node not in reshaped
            and node not in self.stored
        )

    def _rows(self, node: Tensor) -> int:
        """The most rows that its memory holds."""
        return self.blocks.rows if base(node) in self.in_block else self.capacity

    def _bytes(self, node: Tensor) -> int:
        if node in self.padded:
            return self.capacity * self._padded_strides(node)[0] * node.storage.itemsize
        return math.prod(concrete(node.shape, self._rows(node))) * node.storage.itemsize

    def _slot_index(self, slot: Slot) -> int:
        return self.slots.setdefault(slot, len(self.slots))

    def _slot_bytes(self, slot: Slot) -> int:
        per_row = slot.kind in ("stream", "dataset")
        number, power = element_count(slot.shape[1:] if per_row else slot.shape)
        return number * self.capacity**power * slot.dtype.itemsize

    def _view(self, node: Tensor) -> View:
        """The memory of a node: a slot, its place in the arena, or a view of its input's."""
        pending = []
        while node not in self.views:
            pending.append(node)
            if node.op.lowering != "view":
                break
            node = node.inputs[0]
        for node in reversed(pending):
            derived = node.op.lowering == "view"
            self.views[node] = self._derived_view(node) if derived else self._whole(node)
        return self.views[node]

    def _whole(self, node: Tensor) -> View:
        slot = node.attributes["slot"] if node.op.name == "slot" else self.stored.get(node)
        if slot is not None:
            return self._in_slot(node, slot)
        memory = BLOCK_ARENA if node in self.in_block else ARENA
        stride = self._dense_strides(node)
        if node in self.padded:
            stride = self._padded_strides(node)
        elif node in self.blocks.transposed:
            stride = (1, self.blocks.rows)
        return View(memory, self.offsets[node], node.shape, stride, node.storage)

    def _in_slot(self, node: Tensor, slot: Slot) -> View:
        stride = self._dense_strides(node)
        return View(self._slot_index(slot), 0, node.shape, stride, node.storage)

    def _dense_strides(self, node: Tensor) -> tuple[int, ...]:
        extents = concrete(node.shape, self._rows(node))
        return tuple(math.prod(extents[axis + 1 :]) for axis in range(len(extents)))

    def _padded_strides(self, node: Tensor) -> tuple[int, ...]:
        row, column = self._dense_strides(node)
        return row + ALIGNMENT // node.storage.itemsize, column

    def _derived_view(self, node: Tensor) -> View:
        source = self.views[node.inputs[0]]
        if node.op.name == "transpose":
            stride = tuple(source.stride[axis] for axis in node.attributes["axes"])
        elif node.op.name == "broadcast_to":
            return _broadcast_view(source, node.shape)
        elif node.op.name == "slice":
            return _part_of(source, **node.attributes)
        elif without_ones(source.shape) == without_ones(node.shape):
            strides = (
                s for s, extent in zip(source.stride, source.shape, strict=True) if extent != 1
            )
            stride = tuple(0 if extent == 1 else next(strides) for extent in node.shape)
        else:
            stride = self._dense_strides(node)
        return View(source.slot, source.offset, node.shape, stride, node.storage)

    # Records

    def _fill(self, literal: Tensor) -> Record:
        program = build_program([copied := apply("copy", literal)], [copied])
        return Record(OPCODES["map"], [self._view(literal)], [], program.words, "literal")

    def _lower(self, launch: Launch) -> list[Record]:
        if not launch.records:
            return [self._lower_map(launch)]
        lowered = getattr(self, f"_lower_{launch.records[0].op.name}")(launch)
        return lowered if isinstance(lowered, list) else [lowered]

    def _lower_concatenate(self, launch: Launch) -> list[Record]:
        node = launch.records[0]
        axis = node.attributes["axis"]
        whole = self._view(node)
        begins = offsets(node.inputs, axis)
        copies = [
            self._copy(operand, _part_of(whole, *_place(operand.ndim, axis, begin), operand.shape))
            for operand, begin in zip(node.inputs, begins, strict=True)
            if 0 not in operand.shape
        ]
        return copies or [self._copy(literal(0.0, node.storage), whole)]  # of nothing

    def _lower_embed(self, launch: Launch) -> list[Record]:
        """The first part between zeros, to which the others are added."""
        node = launch.records[0]
        whole = self._view(node)
        zeros = self._copy(literal(0.0, node.storage), whole)
        first, *others = [
            (operand, _part_of(whole, begin, step, operand.shape))
            for operand, (begin, step) in zip(node.inputs, node.attributes["places"], strict=True)
        ]
        records = [self._copy(*first), *(self._add(*other) for other in others)]
        return [zeros, *(record for record in records if 0 not in record.outputs[0].shape)]

    def _copy(self, operand: Tensor, place: View) -> Record:
        """Copies the operand into a part of another tensor's memory."""
        program = build_program([copied := apply("copy", operand)], [copied])
        return self._into(place, program, {})

    def _add(self, operand: Tensor, place: View) -> Record:
        """Adds the operand to a part of another tensor's memory."""
        there = leaf(Slot("there", "fixed", place.dtype, operand.shape))
        total = apply("add", there, operand)
        converted = [node for node in total.inputs if node not in {there, operand}]
        program = build_program([*converted, total], [total])
        return self._into(place, program, {there: place})

    def _into(self, place: View, program: Program, known: dict[Tensor, View]) -> Record:
        ndim = len(place.shape)
        views = [known[node] if node in known else self._view(node) for node in program.inputs]
        return Record(
            OPCODES["map"],
            [_aligned(place, ndim)],
            [_aligned(view, ndim) for view in views],
            program.words,
            f"{program.names[0]} into a part",
        )

    def _lower_take(self, launch: Launch) -> Record:
        return self._plain("take", launch, [], "take")

    def _lower_scatter_add(self, launch: Launch) -> Record:
        return self._plain("scatter_add", launch, [], "scatter-add")

    def _lower_map(self, launch: Launch) -> Record:
        program = launch.program
        outputs = [self._view(node) for node in program.outputs]
        if launch.reduction is not None:  # the first of them
            axes = launch.reduction.attributes["axis"]
            outputs[0] = _with_reduced_axes(outputs[0], axes, len(launch.space))
        return Record(
            OPCODES["map"],
            [_aligned(view, len(launch.space)) for view in outputs],
            [_aligned(self._view(node), len(launch.space)) for node in program.inputs],
            program.words,
            _program_label(program.names, launch.reduction),
        )

    def _lower_matmul(self, launch: Launch) -> Record:
        product = launch.records[0]
        factors = [self._view(node) for node in product.inputs]
        sums = [_with_reduced_axes(self._view(node), (0,), 2) for node in launch.records[1:]]
        label = "matmul and sum over (0,)" if sums else "matmul"
        if launch in self.in_store:
            return self._lower_update_in_store(self.in_store[launch], factors, sums, label)
        if not launch.body:
            outputs = [self._view(product), *sums]
            factors = [_aligned(view, product.ndim) for view in factors]
            return Record(OPCODES["matmul"], outputs, factors, [0], label)
        program = launch.program
        outputs = [self._view(node) for node in program.outputs]
        store = [_aligned(self._view(node), 2) for node in program.inputs]
        label = f"matmul + {_program_label(program.names, None)}"
        return Record(OPCODES["matmul"], outputs, factors + store, [0, *program.words], label)

    def _lower_softmax(self, launch: Launch) -> Record:
        node = launch.records[0]
        attributes = [int(node.op.name == "log_softmax")]
        return self._plain("softmax", launch, attributes, node.op.name)

    _lower_log_softmax = _lower_softmax

    def _lower_softmax_cross_entropy(self, launch: Launch) -> Record:
        """The losses of the rows, their gradient and their mean, as far as the launch has them."""
        makes_loss = launch.keep_first and launch.records[0].op.name == "softmax_cross_entropy"
        logits, target, *scales = launch.records[-1].inputs  # a gradient's, which comes last
        made = {"rows": makes_loss, "gradient": len(scales) > 0, "mean": len(launch.roots) > 0}
        numbers = [number for scale in scales if (number := literal_of(scale)) is not None]
        factor = (numbers or [literal(1.0, logits.storage)])[0].attributes
        what = ", ".join(name for name, is_made in made.items() if is_made)
        return Record(
            OPCODES["softmax_loss"],
            [self._view(node) for node in launch.outputs],
            [self._view(i) for i in (logits, target, *([] if numbers else scales))],
            [*map(int, made.values()), float_bits(factor["value"]), factor["power"]],
            f"softmax cross-entropy: {what}",
        )

    _lower_softmax_cross_entropy_gradient = _lower_softmax_cross_entropy

    def _lower_gather(self, launch: Launch) -> Record:
        classes = launch.records[0].attributes.get("classes")
        return self._plain("gather", launch, [] if classes is None else [0, classes], "gather")

    def _lower_random(self, launch: Launch) -> Record:
        attributes = launch.records[0].attributes
        kind = attributes["kind"]
        words = [RANDOM_KINDS[kind], attributes["stream"], float_bits(attributes.get("keep", 1.0))]
        return self._plain("random", launch, words, kind)

    def _plain(self, op: str, launch: Launch, attributes: list[int], label: str) -> Record:
        node = launch.records[0]
        inputs = [self._view(i) for i in node.inputs]
        return Record(OPCODES[op], [self._view(node)], inputs, attributes, label)

    def _lower_update_in_store(
        self, update: Update, factors: list[View], sums: list[View], label: str
    ) -> Record:
        targets = [self._view(self.replaced[node]) for node in update.targets]
        scalars = [self._view(self.replaced[node]) for node in update.operands[1:]]
        words = [OPCODES[update.op], *update.attributes]
        return Record(
            OPCODES["matmul_step"],
            targets + sums,
            factors + scalars,
            words,
            f"{label} + {update.op}",
        )

    def _lower_update(self, update: Update) -> Record:
        targets = [self._view(self.replaced[node]) for node in update.targets]
        operands = [self._view(self.replaced[node]) for node in update.operands]
        return Record(OPCODES[update.op], targets, operands, list(update.attributes), update.op)


def _literals_in_memory(operands: Iterable[Tensor]) -> dict[Tensor, None]:
    """Literals that something other than a map program reads need memory."""
    return {base(i): None for i in operands if base(i).op.name == "literal"}


def _lifetimes(
    literals: Iterable[Tensor], launches: Sequence[Launch]
) -> dict[Tensor, tuple[int, int]]:
    """The first and last launch of what launches compute, by its index; -1 for literals."""
    first = dict.fromkeys(literals, -1)
    last = dict(first)
    for i, launch in enumerate(launches):
        for node in launch.outputs:
            first[node] = last[node] = i
        for node in launch.inputs:
            last[base(node)] = i
    return {node: (begin, last[node]) for node, begin in first.items()}


def _place(ndim: int, axis: int, begin: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Begin and step of a part that lies from ``begin`` on along the axis."""
    return tuple(begin if i == axis else 0 for i in range(ndim)), (1,) * ndim


def _part_of(source: View, begin: tuple[int, ...], step: tuple[int, ...], extent: Shape) -> View:
    """The view of every ``step``-th of its elements from ``begin`` on."""
    first = sum(b * stride for b, stride in zip(begin, source.stride, strict=True))
    stride = tuple(by * stride for by, stride in zip(step, source.stride, strict=True))
    offset = source.offset + first * source.dtype.itemsize
    return View(source.slot, offset, extent, stride, source.dtype)


def _broadcast_view(source: View, shape: Shape) -> View:
    """The view repeated to a shape, by strides of 0."""
    added = len(shape) - len(source.shape)
    stride = [0] * added
    for extent, wanted, step in zip(source.shape, shape[added:], source.stride, strict=True):
        stride.append(0 if extent == 1 and wanted != 1 else step)
    return View(source.slot, source.offset, shape, tuple(stride), source.dtype)


def _aligned(view: View, ndim: int) -> View:
    """The view with leading axes of extent 1 up to ``ndim``, and stride 0 on those of extent 1."""
    added = ndim - len(view.shape)
    shape = (1,) * added + view.shape
    stride = (0,) * added + view.stride
    stride = tuple(0 if extent == 1 else step for extent, step in zip(shape, stride, strict=True))
    return View(view.slot, view.offset, shape, stride, view.dtype)


def _with_reduced_axes(view: View, axes: tuple[int, ...], ndim: int) -> View:
    """The result of a reduction as an operand over the space that is reduced."""
    if len(view.shape) == ndim:
        return view
    kept = iter(zip(view.shape, view.stride, strict=True))
    pairs = [(1, 0) if axis in axes else next(kept) for axis in range(ndim)]
    shape, stride = zip(*pairs, strict=True) if pairs else ((), ())
    return View(view.slot, view.offset, tuple(shape), tuple(stride), view.dtype)


def _program_label(names: Sequence[str], reduction: Tensor | None) -> str:
    runs = [
        name if count == 1 else f"{count} {name}"
        for name, group in itertools.groupby(names)
        if (count := len(list(group)))
    ]
    if reduction is not None:
        runs.append(f"{reduction.op.name} over {reduction.attributes['axis']}")
    return " ".join(runs)
