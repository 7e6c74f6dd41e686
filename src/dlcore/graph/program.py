"""Map programs: a group of elementwise nodes as instructions over registers."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dlcore import _native
from dlcore.graph.tensor import Tensor

# Mirrors csrc/map/map.h.
MAX_OPERANDS = 24
MAX_LITERALS = 16
MAX_TEMPS = 16
MAX_INSTRUCTIONS = 256
FEWEST_REGISTERS = min(MAX_OPERANDS, MAX_LITERALS, MAX_TEMPS)  # that a program has of each kind
REDUCTIONS = {None: 0, "sum": 1, "max": 2, "min": 3, "mean": 4}

# Mirrors dlc_dtype in csrc/include/dlcore.h.
DTYPE_CODES = {
    np.dtype(np.float32): 0,
    np.dtype(np.float64): 1,
    np.dtype(np.uint8): 2,
    np.dtype(np.int32): 3,
    np.dtype(np.int64): 4,
    np.dtype(np.bool_): 5,
}

_INSTRUCTIONS = _native.map_instructions()

# What a sum or difference becomes where its first, or its second, operand is a product.
_CONTRACTIONS = {
    "add": ("multiply_add", "multiply_add"),
    "subtract": ("multiply_subtract", "subtract_multiply"),
}
_PRODUCTS = {"multiply", "square"}


class ProgramTooLarge(Exception):
    """The group does not fit the registers of one program."""


@dataclass
class Program:
    """Instructions with their operands, outputs first.

    ``outputs`` and ``inputs`` are nodes whose memory the operands are.
    """

    outputs: list[Tensor]
    inputs: list[Tensor]
    words: list[int] = field(default_factory=list)
    names: list[str] = field(default_factory=list)


def float_bits(value: float) -> int:
    """The double as the signed 64-bit word of its bits."""
    return struct.unpack("<q", struct.pack("<d", value))[0]


def literal_of(node: Tensor) -> Tensor | None:
    """The literal that the node repeats, if it is one or a view of one."""
    while node.op.lowering == "view":
        node = node.inputs[0]
    return node if node.op.name == "literal" else None


def build_program(
    body: Sequence[Tensor],
    roots: Sequence[Tensor],
    *,
    reduction: Tensor | None = None,
    product: Tensor | None = None,
    keep_product: bool = False,
    stored_literals: bool = False,
) -> Program:
    """The program that computes ``roots`` (some of ``body``, which is in topological order).

    With ``reduction`` (a reduce node) its value is reduced into it, beside the roots. With
    ``product`` (a GEMM's result) register 0 holds that to begin with, and keeps it or takes the
    last root. With ``stored_literals`` views of literals are inputs like others.
    """
    if len(body) > MAX_INSTRUCTIONS:
        raise ProgramTooLarge
    if reduction is not None:
        outputs = [reduction, *roots]
        value = reduction.inputs[0]
        results = {root: i for i, root in enumerate(outputs[1:], 1)}
        if value in set(body) and value not in results:
            results[value] = 0
    elif product is None or keep_product:
        outputs = ([product] if product is not None else []) + list(roots)
        results = {root: i for i, root in enumerate(outputs) if root is not product}
    else:
        place = {node: i for i, node in enumerate(body)}
        last = max(roots, key=place.__getitem__)
        outputs = [last, *(root for root in roots if root is not last)]
        results = {root: i for i, root in enumerate(outputs)}

    writer = _Writer(body, outputs, results, product, stored_literals)
    for position, node in enumerate(body):
        writer.emit_node(node, position)
    if reduction is not None and results.get(value) != 0:
        writer.emit("copy", 0, [value])
    if len(writer.instructions) > MAX_INSTRUCTIONS:
        raise ProgramTooLarge
    last_node = body[-1] if reduction is None else reduction
    how = None if reduction is None else reduction.op.name
    return writer.finish(DTYPE_CODES[last_node.storage], REDUCTIONS[how])


class _Writer:
    def __init__(
        self,
        body: Sequence[Tensor],
        outputs: list[Tensor],
        results: dict[Tensor, int],
        product: Tensor | None,
        stored_literals: bool,
    ):
        self.outputs = outputs
        self.results = results
        self.product = product
        self.stored_literals = stored_literals
        self.members = set(body)
        # A cast is a name for its input: memory is converted as it is read.
        self.aliases = {node for node in body if node.op.name == "cast" and node not in results}
        self.inputs: dict[Tensor, int] = {}
        self.literals: dict[tuple[str, int], int] = {}
        self.instructions: list[tuple[str, int, list[int]]] = []
        self.registers: dict[Tensor, int] = {}
        self.operations = self._operations(body)
        operands = [i for _, read in self.operations.values() for i in read]
        operands += [self._source(o.inputs[0]) for o in outputs if o.op.lowering == "reduce"]
        for operand in dict.fromkeys(operands):
            self._declare(operand)
            if len(outputs) + len(self.inputs) > MAX_OPERANDS or len(self.literals) > MAX_LITERALS:
                raise ProgramTooLarge
        self.first_temp = len(outputs) + len(self.inputs) + len(self.literals)
        self.free: list[int] = []
        self.n_temps = 0
        self.last_use = {
            i: position
            for position, node in enumerate(body)
            if node in self.operations
            for i in self.operations[node][1]
        }

    def _source(self, operand: Tensor) -> Tensor:
        while operand in self.aliases:
            operand = operand.inputs[0]
        return operand

    def _operations(self, body: Sequence[Tensor]) -> dict[Tensor, tuple[str, list[Tensor]]]:
        """The instruction of each node that needs one, and what it reads."""
        operations = {
            node: (
                "copy" if node.op.name == "cast" else node.op.name,
                [self._source(i) for i in node.inputs],
            )
            for node in body
            if node not in self.aliases
        }
        products = {
            node for node in operations if node.op.name in _PRODUCTS and node not in self.results
        }
        if products:
            self._contract(operations, products)
        self._join_gradients(operations)
        return operations

    def _contract(
        self, operations: dict[Tensor, tuple[str, list[Tensor]]], products: set[Tensor]
    ) -> None:
        """Joins a sum or difference with a product that it alone reads, to one instruction."""
        uses = Counter(i for _, read in operations.values() for i in read)
        for node, (name, read) in list(operations.items()):
            for side, joined in enumerate(_CONTRACTIONS.get(name, ())):
                product = read[side]
                if product in products and uses[product] == 1:
                    factors = operations.pop(product)[1]
                    factors = factors if len(factors) == 2 else 2 * factors
                    # kernels read a number in any place but the first
                    factors.sort(key=lambda factor: literal_of(factor) is not None)
                    operations[node] = (joined, [*factors, read[1 - side]])
                    break

    def _join_gradients(self, operations: dict[Tensor, tuple[str, list[Tensor]]]) -> None:
        """Joins what gradients of activations are made of: a choice by a sign, (1 - y**2) * g."""
        uses = Counter(i for _, read in operations.values() for i in read)
        for node, (name, read) in list(operations.items()):
            for side in {"where": (0,), "multiply": (0, 1)}.get(name, ()):
                inner = read[side]
                if inner not in operations or inner in self.results or uses[inner] != 1:
                    continue
                match operations[inner]:
                    case "greater", [x, zero] if name == "where" and self._is_number(zero, 0.0):
                        operations[node] = ("where_positive", [x, *read[1:]])
                    case "subtract_multiply", [y, same, one] if (
                        name == "multiply" and same is y and self._is_number(one, 1.0)
                    ):
                        operations[node] = ("tanh_gradient", [y, read[1 - side]])
                    case _:
                        continue
                del operations[inner]
                break

    def _literal(self, operand: Tensor) -> Tensor | None:
        stored = self.stored_literals and operand.op.lowering == "view"
        return None if stored else literal_of(operand)

    def _is_number(self, operand: Tensor, value: float) -> bool:
        """Whether it is this literal, and no input, which may be all that has the extents."""
        literal = self._literal(operand)
        if literal is None or literal.attributes["power"] != 0:
            return False
        return literal.attributes["value"] == value

    def _declare(self, operand: Tensor) -> None:
        found = self._literal(operand)
        if found is not None:
            self.literals.setdefault(_literal_key(found), len(self.literals))
        elif operand not in self.members and operand is not self.product:
            self.inputs.setdefault(operand, len(self.inputs))

    def _register(self, operand: Tensor) -> int:
        operand = self._source(operand)
        if operand in self.registers:
            return self.registers[operand]
        found = self._literal(operand)
        if found is not None:
            return len(self.outputs) + len(self.inputs) + self.literals[_literal_key(found)]
        if operand is self.product:
            return 0
        return len(self.outputs) + self.inputs[operand]

    def emit_node(self, node: Tensor, position: int) -> None:
        if node not in self.operations:
            return
        name, operands = self.operations[node]
        sources = [self._register(i) for i in operands]
        for operand in dict.fromkeys(operands):
            register = self.registers.get(operand, -1)
            if self.last_use.get(operand) == position and register >= self.first_temp:
                self.free.append(register)
        register = self.results[node] if node in self.results else self._new_temp()
        self.registers[node] = register
        self.instructions.append((name, register, sources))

    def emit(self, name: str, register: int, operands: list[Tensor]) -> None:
        self.instructions.append((name, register, [self._register(o) for o in operands]))

    def _new_temp(self) -> int:
        if self.free:
            return self.free.pop()
        if self.n_temps == MAX_TEMPS:
            raise ProgramTooLarge
        self.n_temps += 1
        return self.first_temp + self.n_temps - 1

    def finish(self, dtype: int, reduction: int) -> Program:
        n_reduced = 1 if reduction else 0
        words = [dtype, len(self.outputs), len(self.inputs), reduction, n_reduced]
        words += [len(self.literals), self.n_temps, len(self.instructions)]
        for value, power in self.literals:
            words += [float_bits(float.fromhex(value)), power]
        for name, register, sources in self.instructions:
            code, _ = _INSTRUCTIONS[name]
            a, b, c = (*sources, 0, 0)[:3]
            words.append(code | register << 16 | a << 24 | b << 32 | c << 40)
        names = [name for name, _, _ in self.instructions]
        return Program(self.outputs, list(self.inputs), words, names)


def _literal_key(literal: Tensor) -> tuple[str, int]:
    # by its digits, so that 0.0 and -0.0 stay apart
    return literal.attributes["value"].hex(), literal.attributes["power"]
