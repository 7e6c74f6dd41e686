"""Jacobians of traced functions, by many passes at once."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from dlcore import random
from dlcore.graph import tree
from dlcore.graph.arguments import Inputs, positions_of
from dlcore.graph.batching import CannotBatch, batched
from dlcore.graph.function import Function, where_it_decorates
from dlcore.graph.gradient import gradient
from dlcore.graph.numpy_functions import stack
from dlcore.graph.plan_cache import identity_of
from dlcore.graph.shape import MAX_NDIM, Rows, describe, fixed
from dlcore.graph.table.shaping import reduce
from dlcore.graph.tensor import Tensor, apply, as_tensor, literal, topological


class Jacobian:
    """The Jacobian by products with unit vectors, many at once.

    Of as many results as arguments or fewer, they are reverse passes, one for each element of the
    result: the rows. Of more, they are forward passes, one for each element of the arguments: the
    columns. All passes are one graph, or where its arrays would be large, some at a time; where no
    graph can be for several, each is a run of one plan, or a part of the traced function.
    """

    def __init__(self, f: Callable[..., Any], argnums: int | tuple[int, ...]):
        functools.update_wrapper(self, f)
        self._function, self._argnums = f, argnums
        self._value = Function(f, f, "jit")
        self.plan_key = ("jacobian of", identity_of(f), argnums)
        self._pull = Function(self._pulled, f, "jacobian", argnums)
        self._whole = Function(self._in_one_graph, f, "whole jacobian", argnums)
        self._pull_rows = Function(self._pulled_rows, f, "rows of jacobian", argnums)
        self._push_columns = Function(self._pushed_columns, f, "columns of jacobian", argnums)
        self._outlines: WeakKeyDictionary[Any, _Outline] = WeakKeyDictionary()

    def __reduce__(self) -> Any:
        return where_it_decorates(self) or (Jacobian, (self._function, self._argnums))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        leaves, _ = tree.flatten((args, kwargs))
        if random.is_tracing() or any(isinstance(leaf, Tensor) for leaf in leaves):
            return self._symbolic(args, kwargs)
        with random.fixed_key():
            return self._of_arrays(args, kwargs)

    def _traced(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Inputs, Tensor]:
        inputs = Inputs(self._argnums, args)
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
            way = result.ways[0]
            try:
                return way(result, args, kwargs)
            except CannotBatch:  # which another thread may have found, too
                result.ways = [other for other in result.ways if other != way]

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
        positions = positions_of(self._argnums, args)
        return [leaf for i in positions for leaf in tree.flatten(args[i])[0]]

    def _like_arguments(self, leaves: Sequence[Any], args: tuple[Any, ...]) -> Any:
        """One value for each leaf, in the structure of the arguments."""
        rest = iter(leaves)
        positions = positions_of(self._argnums, args)
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
    """Whether forward passes are fewer and possible: they differentiate the gradient rules.

    A rule of the user need not be linear, or have a derivative.
    """
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


def _array(value: Any) -> Tensor:
    if isinstance(value, tuple | list | dict) or value is None:
        raise TypeError(f"the function returned a {type(value).__name__}; expected one array")
    return as_tensor(value)
