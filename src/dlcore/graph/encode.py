"""Op records as bytes: the layout of csrc/plan/record.h."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from dlcore.graph.program import DTYPE_CODES
from dlcore.graph.shape import MAX_NDIM, Shape, encode
from dlcore.graph.tensor import Slot

MAGIC = int.from_bytes(b"DLCPLAN1", "little")
VERSION = 4
SLOT_KINDS = {"fixed": 0, "stream": 1, "step": 2, "dataset": 3}
ARENA, BLOCK_ARENA = -1, -2

OPCODES = {
    "gather": 1,
    "matmul": 2,
    "map": 3,
    "softmax": 4,
    "softmax_loss": 5,
    "random": 6,
    "sgd_step": 7,
    "adam_step": 8,
    "take": 9,
    "scatter_add": 10,
    "matmul_step": 11,
    "nadam_step": 20,
    "radam_step": 21,
    "rmsprop_step": 22,
    "adagrad_step": 23,
    "adadelta_step": 24,
    "lion_step": 25,
}

_HEADER = struct.Struct("<14q")
_SLOT = struct.Struct("<4iq")
_TENSOR = struct.Struct(f"<2i2q{2 * MAX_NDIM}q")
_OP = struct.Struct("<6i")


class View(NamedTuple):
    """Memory that an operand refers to: where it starts, and its strides in elements."""

    slot: int
    offset: int
    shape: Shape
    stride: tuple[int, ...]
    dtype: np.dtype


@dataclass
class Record:
    """An op record; ``label`` is what ``plan_summary`` shows."""

    opcode: int
    outputs: list[View]
    inputs: list[View]
    attributes: list[int]
    label: str


class BlockPart(NamedTuple):
    """The records that run block by block, and what they need of memory."""

    records: int = 0  # the first ones of the plan
    rows: int = 0
    arena_bytes: int = 0
    sums_bytes: int = 0


@dataclass
class Encoder:
    """Collects records and writes them as one plan."""

    slots: list[Slot]
    slot_bytes: list[int]
    capacity: int
    arena_bytes: int
    records: list[Record]
    blocks: BlockPart = BlockPart()
    _tensors: dict[View, int] = field(default_factory=dict)

    def encode(self) -> bytes:
        slots, ops = bytearray(), bytearray()
        operands: list[int] = []
        attributes: list[int] = []
        for slot, size in zip(self.slots, self.slot_bytes, strict=True):
            kind = SLOT_KINDS[slot.kind]
            slots += _SLOT.pack(kind, slot.writable, DTYPE_CODES[slot.dtype], 0, size)
        for record in self.records:
            ops += _OP.pack(
                record.opcode,
                len(record.outputs),
                len(record.inputs),
                len(record.attributes),
                len(operands),
                len(attributes),
            )
            operands += [self._tensor(view) for view in (*record.outputs, *record.inputs)]
            attributes += record.attributes
        tensors = b"".join(self._pack_tensor(view) for view in self._tensors)
        padding = [0] if len(operands) % 2 else []
        body = slots + tensors + ops
        body += struct.pack(f"<{len(operands) + len(padding)}i", *operands, *padding)
        body += struct.pack(f"<{len(attributes)}q", *attributes)
        header = _HEADER.pack(
            MAGIC,
            VERSION,
            _HEADER.size + len(body),
            self.capacity,
            self.arena_bytes,
            len(self.slots),
            len(self._tensors),
            len(self.records),
            len(operands),
            len(attributes),
            *self.blocks,
        )
        return header + body

    def _tensor(self, view: View) -> int:
        return self._tensors.setdefault(view, len(self._tensors))

    def _pack_tensor(self, view: View) -> bytes:
        unused = [0] * (MAX_NDIM - len(view.shape))
        return _TENSOR.pack(
            DTYPE_CODES[view.dtype],
            len(view.shape),
            view.slot,
            view.offset,
            *(encode(extent) for extent in view.shape),
            *unused,
            *view.stride,
            *unused,
        )
