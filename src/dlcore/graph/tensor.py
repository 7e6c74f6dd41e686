"""Graph nodes, and the table that says what each op is."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from dlcore.graph.interface import TensorInterface
from dlcore.graph.shape import MAX_NDIM, Rows, Shape, describe
from dlcore.memory import NATIVE_DTYPES

SlotKind = Literal["fixed", "stream", "step", "dataset"]

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
REALS = (FLOAT32, FLOAT64)
# Python's numbers, and tensors that stand for one, take the dtype of what they meet (NEP 50).
Weak = type[int] | type[float]
Number = bool | int | float


@dataclass(eq=False, frozen=True)
class Slot:
    """Memory that is bound when a plan runs.

    ``fixed``: the same array at every step; ``stream``: a row for each row of the run;
    ``step``: an entry for each step; ``dataset``: any number of rows, read by ``gather`` only.
    ``shape`` is that of the leaf: it begins with the rows for streams and data sets.
    ``value`` is the array of a captured constant, bound without being asked for. ``weak`` is set
    where a Python number is bound.
    """

    name: str
    kind: SlotKind
    dtype: np.dtype
    shape: Shape
    writable: bool = False
    value: np.ndarray | None = None
    weak: Weak | None = None


class Tensor(TensorInterface):
    """A node: an op applied to nodes. Behaves as a NumPy array does; hashes by identity.

    Attributes
    ----------
    op : Op
        Its entry in the table.
    inputs : tuple of Tensor
    attributes : dict
        What the op needs beside its inputs; values are hashable.
    shape : tuple of int or Rows
    dtype : numpy.dtype
        What NumPy would give.
    storage : numpy.dtype
        What its elements are in memory and registers: integers and truth values that are computed
        are held in floating point, integers exactly up to 2**53.
    weak : type or None
        ``float`` or ``int`` where it stands for a Python number.
    """

    __slots__ = (
        "__weakref__", "attributes", "dtype", "inputs", "op", "shape", "storage", "weak"
    )  # fmt: skip

    def __init__(
        self,
        op: Op,
        inputs: tuple[Tensor, ...],
        attributes: dict[str, Any],
        weak: Weak | None = None,
    ):
        self.op = op
        self.inputs = inputs
        self.attributes = attributes
        self.weak = weak
        self.shape: Shape = op.shape(*inputs, **attributes)
        if len(self.shape) > MAX_NDIM:
            raise ValueError(f"shape {describe(self.shape)} has more than {MAX_NDIM} axes")
        self.dtype: np.dtype = op.dtype(*inputs, **attributes)
        self.storage: np.dtype = op.storage(self)

    def with_inputs(self, inputs: tuple[Tensor, ...]) -> Tensor:
        """The same op of other nodes, which have the shapes and dtypes of the inputs."""
        if all(map(operator.is_, inputs, self.inputs)):
            return self
        if any(new.storage != old.storage for new, old in zip(inputs, self.inputs, strict=True)):
            return _in_one_storage(Tensor(self.op, inputs, self.attributes, self.weak))
        other = object.__new__(Tensor)
        other.op, other.inputs, other.attributes = self.op, inputs, self.attributes
        other.shape, other.dtype = self.shape, self.dtype
        other.storage, other.weak = self.storage, self.weak
        return other

    def __repr__(self) -> str:
        return f"Tensor({self.op.name}, shape={describe(self.shape)}, dtype={self.dtype})"


def real_storage(node: Tensor) -> np.dtype:
    """The floating-point dtype that holds the node's values when they are computed."""
    if node.dtype in REALS:
        return node.dtype
    if node.dtype.kind != "b":
        return FLOAT64
    operands = [computed_in(i) for i in node.inputs if i.op.name != "literal"]
    return max(operands, key=lambda dtype: dtype.itemsize, default=FLOAT32)


def computed_in(node: Tensor) -> np.dtype:
    """The floating-point dtype in which all values of the node are exact."""
    if node.storage in REALS:
        return node.storage
    return FLOAT32 if node.storage.itemsize == 1 else FLOAT64


@dataclass(frozen=True)
class Op:
    """An entry of the op table.

    Attributes
    ----------
    name : str
    shape, dtype : callable ``(*inputs, **attributes)``
        The rules for the result; they raise ValueError where the inputs do not fit.
    reference : callable ``(*arrays, **attributes) -> ndarray``
        The meaning, in NumPy. Tests hold the native kernel against it.
    gradient : callable ``(node, g) -> sequence of Tensor or None``, optional
        The gradient for each input, as graph expressions; None where there is none.
    lowering : str
        How a plan runs it: ``leaf``, ``view``, ``map`` (an instruction of a map program of the
        same name), ``reduce`` (the end of a map program) or ``record`` (an op record of its own,
        see :mod:`dlcore.graph.lower`).
    row_local : bool
        Whether a row of the result depends on the same row of the inputs alone.
    storage : callable ``(node) -> dtype``
        What the result is in memory.
    promote : callable ``(*dtypes) -> sequence of dtype or None``, optional
        For elementwise ops: the dtypes to which operands are converted first, as NumPy does.
        Python's numbers come as ``int`` and ``float``. None leaves an operand as it is.
    dense : tuple of int
        Inputs that have to be contiguous memory.
    numbers : tuple of int
        Inputs of a record that are part of it where they are literals, and need no memory.
    """

    name: str
    shape: Callable[..., Shape]
    dtype: Callable[..., np.dtype]
    reference: Callable[..., np.ndarray]
    gradient: Callable[[Tensor, Tensor], Sequence[Tensor | None]] | None
    lowering: Literal["leaf", "view", "map", "reduce", "record"]
    row_local: bool = True
    simplify: Callable[..., Tensor | None] | None = None
    storage: Callable[[Tensor], np.dtype] = real_storage
    promote: Callable[..., Sequence[np.dtype | None]] | None = None
    dense: tuple[int, ...] = ()
    numbers: tuple[int, ...] = ()


TABLE: dict[str, Op] = {}


def define(name: str, **rules: Any) -> Op:
    """Adds an op to the table."""
    if name in TABLE:
        raise ValueError(f"op {name} is already defined")
    TABLE[name] = Op(name=name, **rules)
    return TABLE[name]


# Nodes that are their first input by another name: a place at which to differentiate, or not to.
ALIASES = {"identity", "stop_gradient", "custom_gradient"}


def apply(name: str, *operands: Any, **attributes: Any) -> Tensor:
    """A node for the op; operands may be arrays and numbers, and are converted as NumPy does."""
    op = TABLE[name]
    if op.promote is None:
        inputs = tuple(map(as_tensor, operands))
    else:
        inputs, _ = promoted(op.promote, operands)
    if op.simplify is not None:
        simpler = op.simplify(*inputs, **attributes)
        if simpler is not None:
            return simpler
    weak = inputs[0].weak if name in ALIASES else None
    return _in_one_storage(Tensor(op, inputs, attributes, weak))


def promoted(
    promote: Callable[..., Sequence[np.dtype | None]], operands: Sequence[Any]
) -> tuple[tuple[Tensor, ...], tuple[np.dtype | Weak, ...]]:
    """The operands as nodes of the dtypes that they are promoted to, and what decided on those."""
    tensors = [o if is_number(o) else as_tensor(o) for o in operands]
    kinds = tuple(map(kind_of, tensors))
    return tuple(map(_converted, tensors, promote(*kinds))), kinds


def of_operator(result: Any, operands: Sequence[Any]) -> Any:
    """What one of Python's operators gave: of Python's numbers alone it is one of them."""
    if not isinstance(result, Tensor) or result.dtype.kind not in "fi":
        return result
    if not all(is_number(o) or (isinstance(o, Tensor) and o.weak) for o in operands):
        return result
    weak: Weak = float if result.dtype.kind == "f" else int
    return Tensor(TABLE["identity"], (result,), {}, weak)


def is_number(operand: Any) -> bool:
    """Whether it is a number of Python's own: NumPy's have a dtype that counts."""
    return isinstance(operand, Number) and not isinstance(operand, np.generic)


def kind_of(operand: Tensor | Number) -> np.dtype | Weak:
    """What decides on dtypes of an operand: its dtype, or ``int`` or ``float``."""
    if isinstance(operand, Tensor):
        return operand.weak or operand.dtype
    return np.dtype(bool) if isinstance(operand, bool) else type(operand)


def _converted(operand: Tensor | Number, dtype: np.dtype | None) -> Tensor:
    if not isinstance(operand, Tensor):
        dtype = dtype or np.result_type(operand)
        if dtype.kind in "iu":
            np.array(operand, dtype)  # raises OverflowError where it does not fit
        return literal(operand, dtype)
    if dtype is None or operand.dtype == dtype:
        return operand
    return apply("cast", operand, dtype=dtype)


def _in_one_storage(node: Tensor) -> Tensor:
    """A map node with operands that are held in another precision converted to its own."""
    if node.op.lowering != "map" or node.op.name == "cast":
        return node

    def held(operand: Tensor) -> Tensor:
        fits = operand.storage == node.storage or operand.storage not in REALS
        if fits or operand.op.name == "literal":
            return operand
        return apply("cast", operand, dtype=operand.dtype, storage=node.storage)

    inputs = tuple(map(held, node.inputs))
    same = all(a is b for a, b in zip(inputs, node.inputs, strict=True))
    return node if same else Tensor(node.op, inputs, node.attributes, node.weak)


def in_real_storage(node: Tensor) -> Tensor:
    """The node as maps compute it: integers and truth values that lie in memory are converted."""
    if node.storage in REALS:
        return node
    storage = FLOAT32 if node.dtype.kind == "b" else FLOAT64
    return apply("cast", node, dtype=node.dtype, storage=storage)


def leaf(slot: Slot) -> Tensor:
    """The node that stands for a slot."""
    return Tensor(TABLE["slot"], (), {"slot": slot}, slot.weak)


def transposed(node: Tensor) -> Tensor:
    """The node with its axes in the opposite order."""
    return apply("transpose", node, axes=tuple(reversed(range(len(node.shape)))))


def constant(value: np.ndarray, name: str = "constant") -> Tensor:
    """A captured array, bound by reference and read at every run."""
    check_kind(value, "an array")
    if value.flags.fnc:  # read where it lies
        return transposed(constant(value.T, name))
    dtype = value.dtype.newbyteorder("=")
    check_dtype(dtype, "an array")
    tensor = leaf(Slot(name, "fixed", stored_dtype(dtype), value.shape, value=value))
    return apply("cast", tensor, dtype=dtype)


def stored_dtype(dtype: np.dtype) -> np.dtype:
    """What plans read arrays of the dtype as."""
    return dtype if dtype in NATIVE_DTYPES else np.dtype(np.int64)


def check_kind(value: Any, what: str) -> None:
    """Raises TypeError for kinds of arrays whose meaning a plan would not keep."""
    if isinstance(value, np.ma.MaskedArray | np.matrix):
        raise TypeError(
            f"{what} is a {type(value).__name__}; expected an ndarray: its mask, or what its "
            "operators mean, would be lost"
        )


def check_dtype(dtype: np.dtype, what: str) -> None:
    """Raises TypeError unless arrays of this dtype can be traced."""
    if dtype.kind in "biu" or dtype in REALS:
        return
    raise TypeError(
        f"{what} has dtype {dtype}; dlcore computes with float32 and float64, and takes integers "
        "and booleans: convert it with astype"
    )


def literal(value: float, dtype: Any, power: int = 0, weak: Weak | None = None) -> Tensor:
    """The scalar ``value * rows**power``, which folds into the programs that use it."""
    attributes = {"value": float(value), "power": power, "dtype": np.dtype(dtype)}
    return Tensor(TABLE["literal"], (), attributes, weak)


def is_literal(tensor: Tensor, value: float | None = None) -> bool:
    """Whether the node is a literal (of that value, with no rows in it)."""
    if tensor.op.name != "literal":
        return False
    return value is None or (
        tensor.attributes["power"] == 0 and tensor.attributes["value"] == value
    )


def as_tensor(operand: Any) -> Tensor:
    """The operand as a node: arrays are captured by reference, numbers become literals.

    Raises
    ------
    TypeError
        If it is nothing that a graph computes with.
    """
    if isinstance(operand, Tensor):
        return operand
    if isinstance(operand, Rows):
        return literal(operand.factor, np.int64, power=1)
    if is_number(operand):
        weak = None if isinstance(operand, bool) else type(operand)
        return literal(operand, np.result_type(operand), weak=weak)
    if isinstance(operand, np.generic):
        check_dtype(operand.dtype, "a number")
        return literal(float(operand), operand.dtype)
    if isinstance(operand, np.ndarray):
        return constant(operand)
    if isinstance(operand, list | tuple):
        return constant(np.asarray(operand))
    raise TypeError(f"expected an array or a real number, not {type(operand).__name__}")


def topological(outputs: Sequence[Tensor]) -> list[Tensor]:
    """All nodes that the outputs need, inputs before users, each once."""
    order: list[Tensor] = []
    seen: set[Tensor] = set()
    stack: list[tuple[Tensor, bool]] = [(node, False) for node in reversed(outputs)]
    while stack:
        node, expanded = stack.pop()
        if expanded:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            stack.extend((i, False) for i in reversed(node.inputs) if i not in seen)
    return order


def evaluate(
    outputs: Sequence[Tensor], feed: dict[Tensor, np.ndarray], rows: int
) -> list[np.ndarray]:
    """The outputs by the ops' NumPy references; ``feed`` gives the leaves that are no constants.

    ``gather`` takes the array that is fed for the *result*: what a mini-batch holds is decided by
    the executor, not by the graph.
    """
    values = dict(feed)
    for node in topological(outputs):
        if node in values:
            continue
        if node.op.name == "literal":
            value = node.attributes["value"] * float(rows) ** node.attributes["power"]
            values[node] = np.asarray(value, node.dtype)
        elif node.op.name == "slot":
            values[node] = np.asarray(node.attributes["slot"].value, node.dtype)
        else:
            attributes = {
                key: _concrete_attribute(value, rows) for key, value in node.attributes.items()
            }
            arrays = [values[i] for i in node.inputs]
            values[node] = np.asarray(node.op.reference(*arrays, **attributes), node.dtype)
    return [values[node] for node in outputs]


def _concrete_attribute(value: Any, rows: int) -> Any:
    if isinstance(value, tuple):
        return tuple(e.factor * rows if isinstance(e, Rows) else e for e in value)
    return value
