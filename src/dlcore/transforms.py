"""Functions written in NumPy, compiled and differentiated.

A function is traced: it is called once with graph nodes in place of its arguments, and from what it
does with them follow its plan and those of its derivatives. The rules:

- Arguments are arrays, floats, and nested dicts, lists and tuples of them; what else is passed (an
  int, a string, a bool) is a part of the plan, and another value makes another plan.
- What changes between calls belongs in the arguments. Arrays that the function captures are read
  at every call, where they lie. Captured numbers, and what NumPy computes of captured arrays alone,
  are those of the first call, as is the array that a captured name stands for.
- Dtypes follow NumPy 2; floats that are passed are as weak as those that are written. Integers are
  computed in float64: those of up to 32 bits wrap around as in NumPy where what an operation gives
  is below 2**53 before it is wrapped, those of 64 bits are exact up to 2**53. Integers may have
  constant powers only: one that is negative is an error in NumPy.
- Control flow may depend on shapes and on arguments that are no arrays, not on values of arrays.
- Random numbers come from :mod:`dlcore.random`.

Derivatives where there are none, or several:

- Of a maximum or minimum of two equal arguments the first has the derivative, and of ``np.clip`` at
  its bounds the array; equal elements of a ``np.max`` share it evenly.
- The derivatives of abs and relu at 0 are 0; relu is what ``np.maximum(x, 0)`` is, in either order,
  and ``np.clip`` with a lower bound of 0.
- The derivatives of floor, rint, sign and their kin are 0, and so are that of ``x**0`` for x and
  that of ``0**y`` for y.
- Where a derivative is infinite it is inf, as that of sqrt at 0; times 0 that is NaN, as in
  ``np.linalg.norm`` of zeros, and elsewhere in its column of a Jacobian, or in its row if that is
  computed by columns.
- ``np.where`` gives the branch that is not taken the derivative 0: where the derivative of that
  branch is inf or NaN itself, make its argument harmless first, as in
  ``np.where(x > 0, np.sqrt(np.where(x > 0, x, 1)), 0)``.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from dlcore import random
from dlcore.graph import tree
from dlcore.graph.batching import CannotBatch, batched
from dlcore.graph.function import Function, is_array, where_it_decorates
from dlcore.graph.gradient import gradient
from dlcore.graph.interface import call
from dlcore.graph.numpy_functions import stack
from dlcore.graph.plan_cache import identity_of
from dlcore.graph.shape import MAX_NDIM, Rows, describe, fixed
from dlcore.graph.table.shaping import reduce
from dlcore.graph.tensor import Tensor, apply, as_tensor, literal, topological

Argnums = int | Sequence[int]


def jit(f: Callable[..., Any]) -> Function:
    """The function as a native plan, made at the first call with new shapes and dtypes.

    Parameters
    ----------
    f : callable
        Written in NumPy; see :mod:`dlcore.transforms` for what it may do.

    Returns
    -------
    Function
        Takes what ``f`` takes and returns what ``f`` returns. Its ``plan_summary()`` shows the
        plan that ran last.

    Notes
    -----
    Arguments in C order are read where they lie, and so are those in Fortran order from 32 KiB on,
    by a plan of their own; the last bits of a sum may be others then. Other arrays are copied.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> dl.jit(lambda x: np.tanh(x) ** 2)(np.zeros(3))
    array([0., 0., 0.])
    """
    return Function(f, f, "jit")


def value_and_grad(f: Callable[..., Any], argnums: Argnums = 0) -> Function:
    """A function that returns the value of ``f`` and its gradient.

    Parameters
    ----------
    f : callable
        Written in NumPy; returns a scalar.
    argnums : int or sequence of int, default 0
        Which positional arguments to differentiate for: arrays of floating point, floats, or nested
        dicts, lists and tuples of them.

    Returns
    -------
    Function
        ``(value, gradient)`` for the arguments of ``f``. The gradient has the structure, shapes and
        dtypes of the argument; it is a tuple of such for a sequence of ``argnums``.

    Raises
    ------
    ValueError
        When called: if ``f`` does not return a scalar, or ``argnums`` is out of range.
    TypeError
        When called: if an argument to differentiate for is not floating point, or ``f`` does what
        cannot be traced.

    References
    ----------
    Baydin, Pearlmutter, Radul, Siskind, Automatic differentiation in machine learning: a survey,
    2018.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> value, gradient = dl.value_and_grad(lambda w, x: np.sum(w * x**2))(2.0, np.ones(3))
    >>> float(value), float(gradient)
    (6.0, 3.0)
    """
    argnums = _checked_argnums(argnums)

    def transformed(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        return _value_and_gradient(f, argnums, args, kwargs)

    return Function(transformed, f, "value_and_grad", argnums)


def grad(f: Callable[..., Any], argnums: Argnums = 0) -> Function:
    """A function that returns the gradient of ``f``; see :func:`value_and_grad`.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> dl.grad(lambda x: np.sum(x**3))(np.array([1.0, 2.0]))
    array([ 3., 12.])
    >>> float(dl.grad(dl.grad(np.sin))(0.5) + np.sin(0.5))
    0.0
    """
    argnums = _checked_argnums(argnums)

    def transformed(*args: Any, **kwargs: Any) -> Any:
        return _value_and_gradient(f, argnums, args, kwargs)[1]

    return Function(transformed, f, "grad", argnums)


def _checked_argnums(argnums: Argnums) -> int | tuple[int, ...]:
    if type(argnums) is int:
        return argnums
    if isinstance(argnums, Iterable) and all(type(i) is int for i in argnums):
        return tuple(argnums)
    raise TypeError(f"argnums must be an int or a sequence of ints, not {argnums!r}")


class _Inputs:
    """The arguments to differentiate for, each a node of its own."""

    def __init__(self, argnums: int | tuple[int, ...], args: tuple[Any, ...]):
        self.single = isinstance(argnums, int)
        self.args = list(args)
        self.nodes: list[Tensor] = []
        self.structures = []
        for position in _positions(argnums, args):
            leaves, structure = tree.flatten(args[position])
            names = tree.paths(structure, f"argument {position % len(args)}")
            fresh = [_differentiable(leaf, name) for leaf, name in zip(leaves, names, strict=True)]
            self.args[position] = tree.unflatten(structure, fresh)
            self.nodes += fresh
            self.structures.append(structure)

    def like(self, leaves: Sequence[Any]) -> Any:
        """One value for each node, in the structure of the arguments."""
        rest = list(leaves)
        trees = []
        for structure in self.structures:
            count = len(tree.paths(structure))
            trees.append(tree.unflatten(structure, rest[:count]))
            rest = rest[count:]
        return trees[0] if self.single else tuple(trees)


def _positions(argnums: int | tuple[int, ...], args: tuple[Any, ...]) -> tuple[int, ...]:
    positions = (argnums,) if isinstance(argnums, int) else argnums
    if not all(-len(args) <= position < len(args) for position in positions):
        raise ValueError(f"argnums is {argnums}, but there are {len(args)} positional arguments")
    return positions


def _differentiable(value: Any, name: str) -> Tensor:
    """A node that stands for this argument alone, even where it is passed twice or captured."""
    if is_array(value):  # within a traced function, a value that does not depend on its arguments
        value = as_tensor(value)
    if not isinstance(value, Tensor):
        found = f"{value!r} ({type(value).__name__})"
    elif value.dtype.kind == "f":
        return apply("identity", value)
    else:
        found = f"of dtype {value.dtype}"
    raise TypeError(
        f"{name} is {found}; a gradient is for floating point: write 2.0 for 2, "
        "x.astype(float) for an array x"
    )


def _value_and_gradient(
    f: Callable[..., Any],
    argnums: int | tuple[int, ...],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> tuple[Tensor, Any]:
    inputs = _Inputs(argnums, args)
    value = scalar_result(f(*inputs.args, **kwargs))
    return value, inputs.like(gradient(value, inputs.nodes))


def scalar_result(value: Any) -> Tensor:
    """What a function returned, where that has to be a scalar to differentiate."""
    if isinstance(value, tuple | list | dict) or value is None:
        raise TypeError(
            f"the function returned a {type(value).__name__}; expected one scalar: what else it "
            "computes is to be had from dl.jit"
        )
    node = as_tensor(value)
    if node.shape != ():
        raise ValueError(
            f"the function returned shape {describe(node.shape)}; a gradient is that of a scalar: "
            "end with np.sum or np.mean, or use dl.jacobian"
        )
    if node.dtype.kind != "f":
        raise TypeError(f"the function returned {node.dtype}, which has no gradient")
    return node


def _array(value: Any) -> Tensor:
    if isinstance(value, tuple | list | dict) or value is None:
        raise TypeError(f"the function returned a {type(value).__name__}; expected one array")
    return as_tensor(value)


class _Jacobian:
    """The Jacobian by products with unit vectors, many at once.

    Of as many results as arguments or fewer, they are reverse passes, one for each element of the
    result: the rows. Of more, they are forward passes, one for each element of the arguments: the
    columns. All passes are one graph, or where its arrays would be large, some at a time; where no
    graph can be for several, each is a run of one plan, or a part of the traced function.
    """

    def __init__(self, f: Callable[..., Any], argnums: int | tuple[int, ...]):
        functools.update_wrapper(self, f)
        self._function, self._argnums = f, argnums
        self._value = jit(f)
        self.plan_key = ("jacobian of", identity_of(f), argnums)
        self._pull = Function(self._pulled, f, "jacobian", argnums)
        self._whole = Function(self._in_one_graph, f, "whole jacobian", argnums)
        self._pull_rows = Function(self._pulled_rows, f, "rows of jacobian", argnums)
        self._push_columns = Function(self._pushed_columns, f, "columns of jacobian", argnums)
        self._outlines: WeakKeyDictionary[Any, _Outline] = WeakKeyDictionary()

    def __reduce__(self) -> Any:
        return where_it_decorates(self) or (jacobian, (self._function, self._argnums))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        leaves, _ = tree.flatten((args, kwargs))
        if random.is_tracing() or any(isinstance(leaf, Tensor) for leaf in leaves):
            return self._symbolic(args, kwargs)
        with random.fixed_key():
            return self._of_arrays(args, kwargs)

    def _traced(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[_Inputs, Tensor]:
        inputs = _Inputs(self._argnums, args)
        return inputs, _array(self._function(*inputs.args, **kwargs))

    # What is traced

    def _pulled(self, cotangent: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        inputs, value = self._traced(args, kwargs)
        return inputs.like(gradient(value, inputs.nodes, cotangent))

    def _pulled_rows(
        self, cotangents: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        inputs, value = self._traced(args, kwargs)
        pull = _reverse_pass(value, inputs.nodes)
        return inputs.like(batched(pull.results, pull.vector, cotangents))

    def _pushed_columns(
        self, tangents: Tensor, number: int, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        inputs, value = self._traced(args, kwargs)
        push = _forward_pass(value, inputs.nodes[number])
        return batched(push.results, push.vector, tangents)[0]

    def _in_one_graph(self, *args: Any, **kwargs: Any) -> Any:
        inputs, value = self._traced(args, kwargs)
        return inputs.like(_derivatives(value, inputs.nodes))

    def _symbolic(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        inputs, value = self._traced(args, kwargs)
        shape = tuple(map(fixed, value.shape))
        if math.prod(shape) > 0:
            with contextlib.suppress(CannotBatch):
                return inputs.like(_derivatives(value, inputs.nodes))
        separate = []
        for index in np.ndindex(*shape):
            picked = value[index] if index else value
            separate.append(inputs.like(gradient(picked, inputs.nodes)))
        return _stacked(separate, value.shape, stack)

    # Of arrays

    def _of_arrays(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = self._outline(args, kwargs)
        if math.prod(result.shape) == 0:
            return self._without_rows(result, args)
        while True:
            try:
                return result.ways[0](result, args, kwargs)
            except CannotBatch:
                del result.ways[0]

    def _outline(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Outline:
        trace = self._value.trace(*args, **kwargs)
        outline = self._outlines.get(trace)
        if outline is None:
            value = _array_result(trace)
            sizes = [int(np.size(leaf)) for leaf in self._leaves(args)]
            by_columns = _is_by_columns(value, sum(sizes))
            passes = _passes_at_once(value, sizes)
            ways: list[Callable[..., Any]] = [
                self._by_columns if by_columns else self._by_rows,
                self._by_runs,
            ]
            if (sum(sizes) if by_columns else _size(value)) <= passes:
                ways.insert(0, self._by_one_run)
            shape = tuple(map(fixed, value.shape))
            outline = self._outlines[trace] = _Outline(shape, value.dtype, passes, ways)
        return outline

    def _leaves(self, args: tuple[Any, ...]) -> list[Any]:
        positions = _positions(self._argnums, args)
        return [leaf for i in positions for leaf in tree.flatten(args[i])[0]]

    def _like_arguments(self, leaves: Sequence[Any], args: tuple[Any, ...]) -> Any:
        """One value for each leaf, in the structure of the arguments."""
        rest = iter(leaves)
        positions = _positions(self._argnums, args)
        trees = [tree.transform(lambda _: next(rest), args[i]) for i in positions]
        return trees[0] if isinstance(self._argnums, int) else tuple(trees)

    def _by_one_run(self, _: _Outline, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._whole(*args, **kwargs)

    def _by_rows(self, result: _Outline, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        parts = [
            tree.flatten(self._pull_rows(cotangents, args, kwargs))
            for cotangents in _unit_vectors(result.shape, result.dtype, result.passes)
        ]
        chunks = zip(*(leaves for leaves, _ in parts), strict=True)
        return tree.unflatten(parts[0][1], [_joined(each, result.shape) for each in chunks])

    def _by_columns(self, result: _Outline, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        columns = []
        for number, leaf in enumerate(self._leaves(args)):
            shape, dtype = np.shape(leaf), np.asarray(leaf).dtype
            chunks = [
                self._push_columns(tangents, number, args, kwargs)
                for tangents in _unit_vectors(shape, dtype, result.passes)
            ]
            first = _joined(chunks or [np.zeros((0, *result.shape), dtype)], shape)
            axes = range(len(shape))
            last = np.moveaxis(first, axes, [len(result.shape) + axis for axis in axes])
            columns.append(np.ascontiguousarray(last))
        return self._like_arguments(columns, args)

    def _by_runs(self, result: _Outline, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        rows = [
            self._pull(cotangent, args, kwargs)
            for (cotangent,) in _unit_vectors(result.shape, result.dtype, 1)
        ]
        return _stacked(rows, result.shape, np.stack)

    def _without_rows(self, result: _Outline, args: tuple[Any, ...]) -> Any:
        leaves = [np.asarray(leaf) for leaf in self._leaves(args)]
        empty = [np.zeros((*result.shape, *leaf.shape), leaf.dtype) for leaf in leaves]
        return self._like_arguments(empty, args)


@dataclass
class _Outline:
    """How the Jacobian of a function of arguments of some shapes and dtypes is computed.

    Attributes
    ----------
    shape, dtype
        Those of the function's result.
    passes : int
        How many are one graph at most.
    ways : list of callable
        The first is taken; one that turns out not to be possible goes.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    passes: int
    ways: list[Callable[..., Any]]


_PASSES_BYTES = 32 << 20  # of the largest array of all passes that are one graph
_FEWEST_PASSES = 16
_MOST_CHUNKS = 64  # of a graph that has all passes, some of them at a time


def _passes_at_once(value: Tensor, arguments: Sequence[int]) -> int:
    """How many passes make arrays of no more than some megabytes."""
    computed = [
        _size(node)
        for node in topological([value])
        if node.op.lowering not in ("leaf", "view") and not _counts_rows(node)
    ]
    largest = max(1, _size(value), *arguments, *computed)
    return max(_FEWEST_PASSES, _PASSES_BYTES // (8 * largest))


def _is_by_columns(value: Tensor, arguments: int) -> bool:
    """Gradient rules of the user need not be linear, or have derivatives of their own."""
    has_own_rule = any(node.op.name == "custom_gradient" for node in topological([value]))
    return arguments < _size(value) and not has_own_rule


def _size(node: Tensor) -> int:
    return math.prod(map(fixed, node.shape))


def _counts_rows(node: Tensor) -> bool:
    return any(isinstance(extent, Rows) for extent in node.shape)


@dataclass(frozen=True)
class _Pass:
    """Results as a function of a vector, for which a node stands in."""

    results: list[Tensor]
    vector: Tensor

    def for_unit_vectors(self, at_once: int) -> list[Tensor]:
        """The results (elements of the vector, ...) for all of its unit vectors."""
        size = _size(self.vector)
        if size == 0:
            zero = literal(0.0, self.vector.dtype)
            return [apply("broadcast_to", zero, shape=(0, *node.shape)) for node in self.results]
        count = max(at_once, -(-size // _MOST_CHUNKS))
        chunks = [
            batched(self.results, self.vector, self._unit_vectors(first, min(count, size - first)))
            for first in range(0, size, count)
        ]
        return [
            parts[0] if len(parts) == 1 else apply("concatenate", *parts, axis=0)
            for parts in zip(*chunks, strict=True)
        ]

    def _unit_vectors(self, first: int, count: int) -> Tensor:
        """Compared, as a plan that held them would hold a matrix."""
        shape, dtype = self.vector.shape, self.vector.dtype
        place = as_tensor(np.arange(_size(self.vector), dtype=dtype))
        one_at = as_tensor(np.arange(first, first + count, dtype=dtype)[:, np.newaxis])
        vectors = apply("cast", apply("equal", one_at, place), dtype=dtype)
        return apply("reshape", vectors, shape=(count, *shape))


def _stand_in(like: Tensor) -> Tensor:
    """A node of its own of the same shape and dtype."""
    zero = literal(0.0, like.dtype)
    return apply("identity", apply("broadcast_to", zero, shape=like.shape))


def _reverse_pass(value: Tensor, nodes: Sequence[Tensor]) -> _Pass:
    """Products of a cotangent with the Jacobian."""
    cotangent = _stand_in(value)
    return _Pass(gradient(value, nodes, cotangent), cotangent)


def _forward_pass(value: Tensor, node: Tensor) -> _Pass:
    """The product of the Jacobian with a tangent.

    A product with a cotangent is linear in that, and its derivative for the cotangent, along a
    tangent, is the product of the Jacobian with the tangent.
    """
    cotangent, tangent = _stand_in(value), _stand_in(node)
    (pulled,) = gradient(value, [node], cotangent)
    (pushed,) = gradient(reduce("sum", pulled * tangent), [cotangent])
    return _Pass([apply("cast", pushed, dtype=node.dtype)], tangent)


def _derivatives(value: Tensor, nodes: Sequence[Tensor]) -> list[Tensor]:
    """The Jacobian for each of the nodes, by rows or by columns."""
    if any(map(_counts_rows, (value, *nodes))):
        raise CannotBatch("an axis that counts rows")
    if any(value.ndim + node.ndim > MAX_NDIM for node in nodes):
        raise CannotBatch("a derivative of too many axes")
    sizes = [_size(node) for node in nodes]
    passes = _passes_at_once(value, sizes)
    if _is_by_columns(value, sum(sizes)):
        columns = [_forward_pass(value, node).for_unit_vectors(passes) for node in nodes]
        return [_columns_last(each, node) for (each,), node in zip(columns, nodes, strict=True)]
    rows = _reverse_pass(value, nodes).for_unit_vectors(passes)
    return [apply("reshape", row, shape=(*value.shape, *row.shape[1:])) for row in rows]


def _columns_last(columns: Tensor, node: Tensor) -> Tensor:
    """Columns (elements of the node, ...) with the axes of the node behind the others."""
    apart = apply("reshape", columns, shape=(*node.shape, *columns.shape[1:]))
    axes = (*range(node.ndim, apart.ndim), *range(node.ndim))
    return apply("transpose", apart, axes=axes)


def _unit_vectors(shape: tuple[int, ...], dtype: Any, at_once: int) -> Iterator[np.ndarray]:
    """Arrays of the shape with a 1 in one place each, in chunks (count, ...) of the same count.

    The last chunk is filled up with zeros.
    """
    size = math.prod(shape)
    chunks = -(-size // at_once)
    count = -(-size // chunks) if chunks else 0
    for first in range(0, size, count or 1):
        vectors = np.zeros((count, size), dtype)
        here = np.arange(min(count, size - first))
        vectors[here, first + here] = 1
        yield vectors.reshape(count, *shape)


def _joined(chunks: Sequence[np.ndarray], shape: tuple[int, ...]) -> np.ndarray:
    """Chunks of results for `_unit_vectors`, with the axes of the shape in front."""
    whole = chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
    return whole[: math.prod(shape)].reshape(*shape, *whole.shape[1:])


def _array_result(trace: Any) -> Tensor:
    if trace.structure != tree.LEAF:
        raise TypeError("the function returned several values; expected one array")
    output = trace.results[0]
    if output is None or output.dtype.kind != "f":
        raise TypeError("the function returned no array of floating point, which has no gradient")
    return output


def _stacked(rows: Sequence[Any], shape: Any, join: Callable[..., Any]) -> Any:
    """Trees of arrays as one tree of arrays with the axes of the result in front."""
    if not rows:
        raise ValueError(f"the function returned shape {describe(shape)}, which is empty")
    flat = [tree.flatten(row) for row in rows]
    joined = []
    for parts in zip(*(leaves for leaves, _ in flat), strict=True):
        joined.append(np.reshape(join(parts), (*shape, *parts[0].shape)))
    return tree.unflatten(flat[0][1], joined)


def jacobian(f: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """A function that returns the Jacobian of ``f``.

    Parameters
    ----------
    f : callable
        Written in NumPy; returns one array.
    argnums : int or sequence of int, default 0
        As in :func:`value_and_grad`.

    Returns
    -------
    callable
        For a result of shape (a, ...) and an argument of shape (b, ...) it gives an array of shape
        (a, ..., b, ...); for nested arguments, such arrays in their structure. The cost is that of
        a gradient for each element of the result or of the arguments, whichever are fewer (with
        :func:`custom_gradient` always of the result), of which many are computed at once.

    Raises
    ------
    TypeError, ValueError
        As :func:`value_and_grad`.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> dl.jacobian(lambda x: x**2)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """
    return _Jacobian(f, _checked_argnums(argnums))


def hessian(f: Callable[..., Any], argnums: int = 0) -> Callable[..., Any]:
    """A function that returns the Hessian of a scalar function, for one argument that is an array.

    Parameters
    ----------
    f : callable
        Written in NumPy; returns a scalar.
    argnums : int, default 0

    Returns
    -------
    callable
        For an argument of shape (a, ...) it gives an array of shape (a, ..., a, ...), at the cost
        of a Hessian-vector product for each of its elements, of which many are computed at once.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> dl.hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 2.0]))
    array([[4., 2.],
           [2., 0.]])
    """
    if not isinstance(argnums, int):
        raise TypeError(f"argnums must be an int, not {argnums!r}")
    return jacobian(grad(f, argnums), argnums)


def hvp(f: Callable[..., Any], argnums: int = 0) -> Function:
    """A function that returns the product of the Hessian of ``f`` with a vector.

    Parameters
    ----------
    f : callable
        Written in NumPy; returns a scalar.
    argnums : int, default 0
        The argument to differentiate for.

    Returns
    -------
    Function
        Takes the arguments of ``f`` and then the vector, in the structure and shapes of the
        argument, and returns the product in the same; the Hessian itself is never formed.

    References
    ----------
    Pearlmutter, Fast exact multiplication by the Hessian, 1994.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> x, v = np.array([1.0, 2.0]), np.array([1.0, 0.0])
    >>> dl.hvp(lambda x: x[0] ** 2 * x[1])(x, v)
    array([4., 2.])
    """
    if not isinstance(argnums, int):
        raise TypeError(f"argnums must be an int, not {argnums!r}")

    def transformed(*args: Any, **kwargs: Any) -> Any:
        if len(args) < 2:
            raise TypeError("hvp: expected the arguments of the function and then the vector")
        *args_of_f, vector = args
        inputs = _Inputs(argnums, tuple(args_of_f))
        first = gradient(scalar_result(f(*inputs.args, **kwargs)), inputs.nodes)
        along = _like_inputs(vector, inputs)
        total = as_tensor(0.0)
        for g, v in zip(first, along, strict=True):
            total = total + reduce("sum", g * apply("stop_gradient", v))
        return inputs.like(gradient(total, inputs.nodes))

    return Function(transformed, f, "hvp", argnums)


def _like_inputs(vector: Any, inputs: _Inputs) -> list[Tensor]:
    try:
        leaves = tree.leaves_like(inputs.structures[0], vector)
    except ValueError as error:
        raise ValueError(f"hvp: the vector is not like the argument: {error}") from None
    nodes = [as_tensor(leaf) for leaf in leaves]
    for node, wanted in zip(nodes, inputs.nodes, strict=True):
        if node.shape != wanted.shape:
            raise ValueError(
                f"hvp: the vector has shape {describe(node.shape)}, "
                f"but the argument has {describe(wanted.shape)}"
            )
    return nodes


def stop_gradient(x: Any) -> Any:
    """``x`` itself, as a constant to derivatives.

    Parameters
    ----------
    x : array_like
        In a traced function a part of it; elsewhere it is returned as it is.

    Examples
    --------
    >>> import dlcore as dl
    >>> float(dl.grad(lambda x: x * dl.stop_gradient(x))(3.0))
    3.0
    """
    return tree.transform(
        lambda leaf: apply("stop_gradient", leaf) if isinstance(leaf, Tensor) else leaf, x
    )


def custom_gradient(f: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a function a gradient of its own.

    Parameters
    ----------
    f : callable
        Returns ``(value, rule)``: an array, and a function that takes the derivative for the value
        and returns those for the arguments: one, or a tuple with one for each of several, in
        their structures and shapes; None for 0, and for arguments that hold no arrays.

    Returns
    -------
    callable
        Takes what ``f`` takes and returns the value.

    Raises
    ------
    TypeError, ValueError
        When differentiated: if the rule returns another number of derivatives, or other shapes.

    Examples
    --------
    A gradient that is clipped on its way back:

    >>> import numpy as np
    >>> import dlcore as dl
    >>> @dl.custom_gradient
    ... def clipped(x):
    ...     return x, lambda g: np.clip(g, -1.0, 1.0)
    >>> float(dl.grad(lambda x: 5.0 * clipped(x))(2.0))
    1.0
    """

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        leaves, _ = tree.flatten((args, kwargs))
        if not any(isinstance(leaf, Tensor) for leaf in leaves):
            return f(*args, **kwargs)[0]
        return call(_with_rule, f, args, kwargs)

    return wrapped


def _with_rule(f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    bound = inspect.signature(f).bind(*args, **kwargs)
    bound.apply_defaults()
    leaves, structure = tree.flatten(bound.args)
    leaves = [
        apply("identity", leaf) if isinstance(leaf, Tensor) or is_array(leaf) else leaf
        for leaf in leaves
    ]
    named, _ = tree.flatten(bound.kwargs)
    if any(isinstance(leaf, Tensor) for leaf in named):
        raise TypeError("a custom gradient has no derivatives for keyword-only arguments")
    result = f(*tree.unflatten(structure, leaves), **bound.kwargs)
    if not (isinstance(result, tuple) and len(result) == 2 and callable(result[1])):
        raise TypeError("a function with a custom gradient must return (value, rule)")
    value, rule = result

    def checked(g: Tensor) -> list[Tensor | None]:
        derivatives = _by_leaf(rule(g), structure)
        return [
            _fitting(derivative, leaf)
            for derivative, leaf in zip(derivatives, leaves, strict=True)
            if isinstance(leaf, Tensor)
        ]

    arguments = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    return apply("custom_gradient", value, *arguments, rule=checked)


def _by_leaf(found: Any, structure: Any) -> list[Any]:
    """What a gradient rule returned, for each leaf of the positional arguments."""
    _, _, arguments = structure
    listed = isinstance(found, tuple | list) and arguments[0] == tree.LEAF
    derivatives = found if len(arguments) > 1 or listed else [found]
    if not isinstance(derivatives, tuple | list) or len(derivatives) != len(arguments):
        count = len(derivatives) if isinstance(derivatives, tuple | list) else 1
        raise TypeError(
            f"the gradient rule returned {count} derivatives for {len(arguments)} arguments"
        )
    try:
        return [
            leaf
            for argument, derivative in zip(arguments, derivatives, strict=True)
            for leaf in tree.leaves_like(argument, derivative)
        ]
    except ValueError as error:
        raise ValueError(f"the gradient rule's result is not like its argument: {error}") from None


def _fitting(derivative: Any, argument: Tensor) -> Tensor | None:
    if derivative is None or argument.dtype.kind != "f":
        return None
    node = apply("cast", as_tensor(derivative), dtype=argument.dtype)
    if node.shape == ():
        return apply("broadcast_to", node, shape=argument.shape)
    if node.shape != argument.shape:
        raise ValueError(
            f"the gradient rule returned shape {describe(node.shape)} "
            f"for an argument of shape {describe(argument.shape)}"
        )
    return node
