"""Graph nodes, and the table that says what each op is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from dlcore.graph.shape import Rows, Shape, describe

SlotKind = Literal["fixed", "stream", "step", "dataset"]


@dataclass(eq=False, frozen=True)
class Slot:
    """Memory that is bound when a plan runs.

    ``fixed``: the same array at every step; ``stream``: a row for each row of the run;
    ``step``: an entry for each step; ``dataset``: any number of rows, read by ``gather`` only.
    ``shape`` is that of the leaf: it begins with the rows for streams and data sets.
    ``value`` is the array of a captured constant, bound without being asked for.
    """

    name: str
    kind: SlotKind
    dtype: np.dtype
    shape: Shape
    writable: bool = False
    value: np.ndarray | None = None


class Tensor:
    """A node: an op applied to nodes. Hashes by identity.

    Attributes
    ----------
    op : Op
        Its entry in the table.
    inputs : tuple of Tensor
    attributes : dict
        What the op needs beside its inputs; values are hashable.
    shape : tuple of int or Rows
    dtype : numpy.dtype
    """

    __slots__ = ("__weakref__", "attributes", "dtype", "inputs", "op", "shape")
    __array_ufunc__ = None  # so that ndarray + tensor asks the tensor

    def __init__(self, op: Op, inputs: tuple[Tensor, ...], attributes: dict[str, Any]):
        self.op = op
        self.inputs = inputs
        self.attributes = attributes
        self.shape: Shape = op.shape(*inputs, **attributes)
        self.dtype: np.dtype = op.dtype(*inputs, **attributes)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __repr__(self) -> str:
        return f"Tensor({self.op.name}, shape={describe(self.shape)}, dtype={self.dtype})"

    def __bool__(self) -> bool:
        raise TypeError(
            "the value of a traced tensor is not known while tracing; use where() in place of if"
        )

    def __add__(self, other: Any) -> Tensor:
        return apply("add", self, other)

    def __radd__(self, other: Any) -> Tensor:
        return apply("add", other, self)

    def __sub__(self, other: Any) -> Tensor:
        return apply("subtract", self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return apply("subtract", other, self)

    def __mul__(self, other: Any) -> Tensor:
        return apply("multiply", self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return apply("multiply", other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return apply("divide", self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return apply("divide", other, self)

    def __pow__(self, other: Any) -> Tensor:
        return apply("power", self, other)

    def __neg__(self) -> Tensor:
        return apply("negative", self)

    def __matmul__(self, other: Any) -> Tensor:
        return apply("matmul", self, other)

    def __gt__(self, other: Any) -> Tensor:
        return apply("greater", self, other)

    def __ge__(self, other: Any) -> Tensor:
        return apply("greater_equal", self, other)

    def __lt__(self, other: Any) -> Tensor:
        return apply("less", self, other)

    def __le__(self, other: Any) -> Tensor:
        return apply("less_equal", self, other)

    @property
    def T(self) -> Tensor:
        return apply("transpose", self, axes=tuple(reversed(range(self.ndim))))


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
    """

    name: str
    shape: Callable[..., Shape]
    dtype: Callable[..., np.dtype]
    reference: Callable[..., np.ndarray]
    gradient: Callable[[Tensor, Tensor], Sequence[Tensor | None]] | None
    lowering: Literal["leaf", "view", "map", "reduce", "record"]
    row_local: bool = True
    simplify: Callable[..., Tensor | None] | None = None


TABLE: dict[str, Op] = {}


def define(name: str, **rules: Any) -> Op:
    """Adds an op to the table."""
    if name in TABLE:
        raise ValueError(f"op {name} is already defined")
    TABLE[name] = Op(name=name, **rules)
    return TABLE[name]


def apply(name: str, *operands: Any, **attributes: Any) -> Tensor:
    """A node for the op, its operands made tensors and, for elementwise ops, of one dtype."""
    op = TABLE[name]
    inputs = as_tensors(operands, unify=op.lowering == "map" and name != "cast")
    if op.simplify is not None:
        simpler = op.simplify(*inputs, **attributes)
        if simpler is not None:
            return simpler
    return Tensor(op, inputs, attributes)


def leaf(slot: Slot) -> Tensor:
    """The node that stands for a slot."""
    return Tensor(TABLE["slot"], (), {"slot": slot})


def constant(value: np.ndarray, name: str = "constant") -> Tensor:
    """A captured array, bound by reference and read at every run."""
    value = np.asarray(value)
    return leaf(Slot(name, "fixed", value.dtype, value.shape, value=value))


def literal(value: float, dtype: Any, power: int = 0) -> Tensor:
    """The scalar ``value * rows**power``, which folds into the programs that use it."""
    dtype = np.dtype(dtype)
    return Tensor(TABLE["literal"], (), {"value": float(value), "power": power, "dtype": dtype})


def is_literal(tensor: Tensor, value: float | None = None) -> bool:
    """Whether the node is a literal (of that value, with no rows in it)."""
    if tensor.op.name != "literal":
        return False
    return value is None or (
        tensor.attributes["power"] == 0 and tensor.attributes["value"] == value
    )


def as_tensors(operands: Sequence[Any], *, unify: bool) -> tuple[Tensor, ...]:
    """Operands as nodes. Python scalars take the dtype of the others, as in NumPy 2."""
    dtypes = [o.dtype for o in operands if isinstance(o, Tensor | np.ndarray | np.generic)]
    common = np.result_type(*dtypes) if dtypes else np.dtype(np.float64)
    result = []
    for operand in operands:
        if isinstance(operand, int | float) and not isinstance(operand, np.generic):
            tensor = literal(operand, common)
        elif isinstance(operand, Tensor):
            tensor = operand
        elif isinstance(operand, np.ndarray | np.generic) and np.ndim(operand) == 0:
            tensor = literal(float(operand), operand.dtype)
        else:
            tensor = constant(operand)
        if unify and tensor.dtype != common:
            tensor = apply("cast", tensor, dtype=common)
        result.append(tensor)
    return tuple(result)


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
            values[node] = node.attributes["slot"].value
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
