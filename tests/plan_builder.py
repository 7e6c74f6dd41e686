"""Writes plans by hand: an encoder of csrc/plan/record.h that shares nothing with dlcore's own."""

import math
import struct

import numpy as np

ROWS = -1  # an extent: the rows of a step, or of a block
IN_BLOCK = -2  # a slot: the arena of a block
MAGIC = int.from_bytes(b"DLCPLAN1", "little")
VERSION = 4
FIXED, STREAM, STEP, DATASET = range(4)
GATHER, GEMM, MAP, SOFTMAX, SOFTMAX_LOSS, RANDOM, SGD_STEP, ADAM_STEP = range(1, 9)
TAKE, SCATTER_ADD, GEMM_STEP = 9, 10, 11
NADAM_STEP, RADAM_STEP, RMSPROP_STEP, ADAGRAD_STEP, ADADELTA_STEP, LION_STEP = range(20, 26)
SUM, MAX, MIN, MEAN = range(1, 5)  # reductions
DTYPES = [np.dtype(name) for name in ("f4", "f8", "u1", "i4", "i8", "?")]
MAP_CODES = {
    "copy": 0,
    "add": 1,
    "subtract": 2,
    "multiply": 3,
    "maximum": 5,
    "square": 11,
    "tanh": 18,
    "relu": 22,
    "greater": 27,
    "where_positive": 70,
    "tanh_gradient": 71,
}

HEADER = struct.Struct("<14q")
SLOT = struct.Struct("<4iq")
TENSOR = struct.Struct("<2i2q8q8q")
OP = struct.Struct("<6i")


def code_of(dtype):
    return DTYPES.index(np.dtype(dtype))


def bits(number):
    """The bits of a double as a signed word."""
    return struct.unpack("<q", struct.pack("<d", number))[0]


def program(
    dtype, n_out, n_in, instructions, *, literals=(), n_temps=0, reduction=0, n_reduced=None
):
    """The words of a map program: instructions (name, dst, *operands), literals (value, power).

    A reduction takes the first ``n_reduced`` outputs, and without that number all.
    """
    if n_reduced is None:
        n_reduced = n_out if reduction else 0
    words = [
        code_of(dtype),
        n_out,
        n_in,
        reduction,
        n_reduced,
        len(literals),
        n_temps,
        len(instructions),
    ]
    for value, power in literals:
        words += [bits(value), power]
    for name, dst, *operands in instructions:
        a, b, c = [*operands, 0, 0][:3]
        words.append(MAP_CODES[name] | dst << 16 | a << 24 | b << 32 | c << 40)
    return words


def step_attributes(*own, weight_decay=0.0, decoupled=0, average=0.0):
    """The attributes of an optimiser step: numbers are floats, flags are ints."""
    words = (weight_decay, decoupled, average, *own)
    return [bits(word) if isinstance(word, float) else word for word in words]


class PlanBuilder:
    """Collects records; tensors in the arena lie one behind the other unless given an offset."""

    def __init__(self, row_capacity):
        self.row_capacity = row_capacity
        self.arena_bytes = 0
        self.slots, self.tensors, self.ops = [], [], []
        self.operands, self.attributes = [], []
        self.n_block_ops = self.block_rows = self.block_arena_bytes = self.sums_bytes = 0

    def slot(self, kind, dtype, n_bytes, *, writable=False):
        self.slots.append([kind, int(writable), code_of(dtype), 0, n_bytes])
        return len(self.slots) - 1

    def tensor(self, dtype, shape, *, slot=-1, offset=None, stride=None):
        """shape may hold multiples of ROWS; strides are by default those of C order at capacity."""
        dtype = np.dtype(dtype)
        rows = self.block_rows if slot == IN_BLOCK else self.row_capacity
        at_capacity = [extent if extent >= 0 else -extent * rows for extent in shape]
        if stride is None:
            stride = [math.prod(at_capacity[i + 1 :]) for i in range(len(shape))]
        if offset is None:
            offset = 0
            if slot < 0:
                arena = "block_arena_bytes" if slot == IN_BLOCK else "arena_bytes"
                offset = getattr(self, arena)
                size = math.prod(at_capacity) * dtype.itemsize
                setattr(self, arena, offset + -(-size // 64) * 64)
        padding = [0] * (8 - len(shape))
        self.tensors.append(
            [code_of(dtype), len(shape), slot, offset, *shape, *padding, *stride, *padding]
        )
        return len(self.tensors) - 1

    def view(self, tensor, shape, stride=None):
        """Another tensor in the place of one in the arena."""
        dtype, _, _, offset, *_ = self.tensors[tensor]
        return self.tensor(DTYPES[dtype], shape, offset=offset, stride=stride)

    def bound(self, kind, dtype, shape, *, writable=False):
        """A slot and the tensor that spans it; for STREAM and DATASET, shape is that of a row."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        slot = self.slot(kind, dtype, size, writable=writable)
        rows = (ROWS,) if kind in (STREAM, DATASET) else ()
        return self.tensor(dtype, (*rows, *shape), slot=slot)

    def op(self, opcode, outs, ins, attributes=()):
        self.ops.append(
            [opcode, len(outs), len(ins), len(attributes), len(self.operands), len(self.attributes)]
        )
        self.operands += [*outs, *ins]
        self.attributes += attributes

    def build(self):
        body = b"".join(
            [
                *(SLOT.pack(*slot) for slot in self.slots),
                *(TENSOR.pack(*tensor) for tensor in self.tensors),
                *(OP.pack(*op) for op in self.ops),
                struct.pack(f"<{len(self.operands)}i", *self.operands),
                b"\0" * (-4 * len(self.operands) % 8),
                struct.pack(f"<{len(self.attributes)}q", *self.attributes),
            ]
        )
        header = HEADER.pack(
            MAGIC,
            VERSION,
            HEADER.size + len(body),
            self.row_capacity,
            self.arena_bytes,
            len(self.slots),
            len(self.tensors),
            len(self.ops),
            len(self.operands),
            len(self.attributes),
            self.n_block_ops,
            self.block_rows,
            self.block_arena_bytes,
            self.sums_bytes,
        )
        return header + body
