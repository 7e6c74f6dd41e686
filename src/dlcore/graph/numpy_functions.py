"""NumPy's functions on graph nodes: each is an op of the table, or composed of them."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dlcore.graph import einsum, indexing
from dlcore.graph.interface import FUNCTIONS, REDUCTIONS, REWRITES, UFUNCS, TensorInterface
from dlcore.graph.shape import (
    Extent,
    Rows,
    Shape,
    describe,
    element_count,
    fixed,
    normalise_axes,
)
from dlcore.graph.table.contraction import product, swap_last
from dlcore.graph.table.elementwise import astype, ufunc_promotion, where, wrapped
from dlcore.graph.table.shaping import part, reduce
from dlcore.graph.tensor import (
    TABLE,
    Tensor,
    apply,
    as_tensor,
    in_real_storage,
    is_literal,
    kind_of,
    literal,
    promoted,
)

Axis = int | Sequence[int] | None


def _implements(*functions: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def enter(implementation: Callable[..., Any]) -> Callable[..., Any]:
        implementation.__qualname__ = f"np.{functions[0].__name__}"  # what Python's errors name
        for function in functions:
            table = UFUNCS if isinstance(function, np.ufunc) else FUNCTIONS
            table[function] = implementation
        return implementation

    return enter


# Universal functions


# Whose results may lie outside of the dtype of their operands.
_WRAPPING = {"add", "subtract", "multiply", "negative", "square", "absolute"}


def _elementwise(name: str) -> Callable[..., Tensor]:
    if name in _WRAPPING:
        return lambda *operands: wrapped(apply(name, *operands))
    return lambda *operands: apply(name, *operands)


for _name, _op in TABLE.items():
    if _op.lowering == "map" and isinstance(getattr(np, _name, None), np.ufunc):
        UFUNCS[getattr(np, _name)] = _elementwise(_name)


@_implements(np.power)
def power(x: Any, exponent: Any) -> Tensor:
    (a, b), _ = promoted(ufunc_promotion(np.power), (x, exponent))
    return _integer_power(a, b) if a.dtype.kind in "iu" else apply("power", x, exponent)


def _integer_power(a: Tensor, b: Tensor) -> Tensor:
    """By squaring, so that every product is exact, and wraps around, as in NumPy."""
    if not is_literal(b):
        raise TypeError(
            "integers to the power of an array of integers are an error in NumPy where one of "
            "these is negative, which is not known while tracing; write x ** n.astype(float)"
        )
    exponent = int(b.attributes["value"])
    if exponent < 0:
        raise ValueError("integers to negative integer powers are not allowed; write 1.0 * x")
    result, factor = full_like(a, 1), a
    while exponent:
        if exponent % 2:
            result = result * factor
        exponent //= 2
        if exponent:
            factor = factor * factor
    return result


def _composed(*ufuncs: np.ufunc) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Enters a function of operands that are promoted as those of the ufuncs."""

    def enter(implementation: Callable[..., Tensor]) -> Callable[..., Tensor]:
        promote = ufunc_promotion(ufuncs[0])
        for ufunc in ufuncs:
            UFUNCS[ufunc] = lambda *operands: implementation(*promoted(promote, operands)[0])
        return implementation

    return enter


@_composed(np.positive)
def positive(a: Tensor) -> Tensor:
    return a


@_composed(np.fabs)
def fabs(a: Tensor) -> Tensor:
    return apply("absolute", a)


@_composed(np.reciprocal)
def reciprocal(a: Tensor) -> Tensor:
    return apply("reciprocal", a) if a.dtype.kind == "f" else astype(1.0 / a, a.dtype)


def _quotient(name: str) -> Callable[..., Tensor]:
    """Integers by 0 are 0, and the least by -1 wraps around."""

    def implementation(a: Tensor, b: Tensor) -> Tensor:
        result = apply(name, a, b)
        if a.dtype.kind == "f":
            return result
        return wrapped(where(apply("equal", b, 0), literal(0, a.dtype), result))

    return implementation


for _name in ("floor_divide", "remainder", "fmod"):
    _composed(getattr(np, _name))(_quotient(_name))


@_composed(np.float_power)
def float_power(a: Tensor, b: Tensor) -> Tensor:
    return apply("power", a, b)


@_composed(np.deg2rad, np.radians)
def deg2rad(a: Tensor) -> Tensor:
    return a * (math.pi / 180.0)


@_composed(np.rad2deg, np.degrees)
def rad2deg(a: Tensor) -> Tensor:
    return a * (180.0 / math.pi)


@_composed(np.heaviside)
def heaviside(a: Tensor, at_zero: Tensor) -> Tensor:
    step = where(apply("isnan", a), a, apply("cast", a > 0, dtype=a.dtype))
    return where(apply("equal", a, 0), at_zero, step)


@_composed(np.logaddexp2)
def logaddexp2(a: Tensor, b: Tensor) -> Tensor:
    return apply("logaddexp", a * math.log(2.0), b * math.log(2.0)) / math.log(2.0)


def _logical(name: str, ufunc: np.ufunc) -> Callable[..., Tensor]:
    def implementation(*operands: Any) -> Tensor:
        nodes = [as_tensor(operand) for operand in operands]
        if any(node.dtype.kind != "b" for node in nodes):
            dtypes = " and ".join(node.dtype.name for node in nodes)
            raise TypeError(f"np.{ufunc.__name__} is supported on booleans only, not on {dtypes}")
        return apply(name, *nodes)

    return implementation


for _name in ("and", "or", "xor"):
    _ufunc = getattr(np, f"bitwise_{_name}")
    UFUNCS[_ufunc] = _logical(f"logical_{_name}", _ufunc)
UFUNCS[np.invert] = _logical("logical_not", np.invert)


@_implements(np.round, np.around)
def round_(a: Any, decimals: int = 0) -> Tensor:
    if decimals != 0:
        raise TypeError(
            f"np.round to {decimals} decimals is not supported on traced arrays; "
            "write np.rint(x * 10**n) / 10**n"
        )
    a = as_tensor(a)
    return a if a.dtype.kind in "iu" else apply("rint", a)


# Reductions


def _in(a: Tensor, dtype: Any) -> Tensor:
    return a if dtype is None else astype(a, dtype)


@_implements(np.sum)
def sum_(
    a: Any, axis: Axis = None, dtype: Any = None, *, keepdims: bool = False, where: Any = None
) -> Tensor:
    a = _in(as_tensor(a), dtype)
    if where is not None:
        a = where_(where, a, 0)
    return _in(reduce("sum", a, axis, keepdims), dtype)


@_implements(np.mean)
def mean(a: Any, axis: Axis = None, dtype: Any = None, *, keepdims: bool = False) -> Tensor:
    return _in(reduce("mean", _in(as_tensor(a), dtype), axis, keepdims), dtype)


@_implements(np.max, np.amax)
def max_(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    return reduce("max", as_tensor(a), axis, keepdims)


@_implements(np.min, np.amin)
def min_(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    return reduce("min", as_tensor(a), axis, keepdims)


@_implements(np.any)
def any_(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    return count_nonzero(a, axis, keepdims=keepdims) > 0


@_implements(np.all)
def all_(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    zeros = apply("logical_not", as_tensor(a))
    return apply("logical_not", count_nonzero(zeros, axis, keepdims=keepdims))


@_implements(np.count_nonzero)
def count_nonzero(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    return reduce("sum", astype(as_tensor(a), bool), axis, keepdims)


@_implements(np.ptp)
def ptp(a: Any, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    return max_(a, axis, keepdims=keepdims) - min_(a, axis, keepdims=keepdims)


@_implements(np.var)
def var(
    a: Any, axis: Axis = None, dtype: Any = None, *, ddof: float = 0, keepdims: bool = False
) -> Tensor:
    a = _in(as_tensor(a), dtype)
    axes = normalise_axes(axis, a.ndim)
    deviation = apply("square", a - reduce("mean", a, axes, keepdims=True))
    if ddof == 0:
        return reduce("mean", deviation, axes, keepdims)
    number, power = element_count([a.shape[i] for i in axes])
    freedom = literal(number, deviation.dtype, power) - literal(ddof, deviation.dtype)
    return reduce("sum", deviation, axes, keepdims) / freedom


@_implements(np.std)
def std(
    a: Any, axis: Axis = None, dtype: Any = None, *, ddof: float = 0, keepdims: bool = False
) -> Tensor:
    return apply("sqrt", var(a, axis, dtype, ddof=ddof, keepdims=keepdims))


@_implements(np.average)
def average(a: Any, axis: Axis = None, weights: Any = None, *, keepdims: bool = False) -> Tensor:
    if weights is None:
        return mean(a, axis, keepdims=keepdims)
    a, weights = as_tensor(a), as_tensor(weights)
    if weights.shape != a.shape:
        axes = normalise_axes(axis, a.ndim)
        if axis is None or weights.shape != tuple(a.shape[i] for i in axes):
            raise ValueError(
                f"average: weights have shape {describe(weights.shape)}, "
                f"but a has {describe(a.shape)} and axis is {axis}"
            )
        shape = tuple(extent if i in axes else 1 for i, extent in enumerate(a.shape))
        weights = reshape(weights, shape)
    weights = astype(weights, np.result_type(a.dtype, weights.dtype, *_float_of(a)))
    total = reduce("sum", apply("broadcast_to", weights, shape=a.shape), axis, keepdims)
    return reduce("sum", a * weights, axis, keepdims) / total


def _float_of(a: Tensor) -> list[np.dtype]:
    """What NumPy adds to the dtypes of an average where those of the array are integers."""
    return [] if a.dtype.kind == "f" else [np.dtype(np.float64)]


def logaddexp_reduce(a: Any, axis: Axis = 0, keepdims: bool = False) -> Tensor:
    """``np.logaddexp.reduce``, which does not overflow."""
    (a, _), _ = promoted(ufunc_promotion(np.logaddexp), (a, a))
    largest = apply("stop_gradient", reduce("max", a, axis, keepdims=True))
    finite = where(apply("isfinite", largest), largest, 0.0)
    total = apply("log", reduce("sum", apply("exp", a - finite), axis, keepdims=True)) + finite
    return total if keepdims else _without(total, normalise_axes(axis, a.ndim))


@_implements(np.linalg.norm)
def norm(x: Any, ord: Any = None, axis: Axis = None, keepdims: bool = False) -> Tensor:
    x = as_tensor(x)
    if x.dtype.kind != "f":
        x = apply("cast", x, dtype=np.dtype(np.float64))
    axes = normalise_axes(axis, x.ndim)
    if ord is None or (ord == "fro" and len(axes) == 2) or (ord == 2 and len(axes) == 1):
        return apply("sqrt", reduce("sum", apply("square", x), axes, keepdims))
    if len(axes) == 1 and ord == 1:
        return reduce("sum", apply("absolute", x), axes, keepdims)
    if len(axes) == 1 and ord == np.inf:
        return reduce("max", apply("absolute", x), axes, keepdims)
    raise TypeError(
        f"np.linalg.norm with ord={ord!r} over {len(axes)} axes is not supported on traced "
        "arrays; the nearest that is supported: ord=None, and 1, 2 and inf for vectors"
    )


for _ufunc, _function in (
    (np.add, sum_),
    (np.maximum, max_),
    (np.minimum, min_),
    (np.logical_and, all_),
    (np.logical_or, any_),
    (np.logaddexp, logaddexp_reduce),
):
    REDUCTIONS[_ufunc] = _function


# Shapes


@_implements(np.copy)
def copy(a: Any) -> Tensor:
    return apply("identity", a)


def _without(a: Tensor, axes: Sequence[int]) -> Tensor:
    return apply("reshape", a, shape=tuple(e for i, e in enumerate(a.shape) if i not in axes))


def _axis(axis: Any, ndim: int) -> int:
    return normalise_axes(operator.index(axis), ndim)[0]


@_implements(np.shape)
def shape(a: Tensor) -> Shape:
    return a.shape


@_implements(np.ndim)
def ndim(a: Tensor) -> int:
    return a.ndim


@_implements(np.size)
def size(a: Tensor, axis: int | None = None) -> Any:
    return a.size if axis is None else a.shape[axis]


@_implements(np.astype)
def astype_(x: Any, dtype: Any, /, *, copy: bool = True) -> Tensor:
    return astype(as_tensor(x), dtype)


@_implements(np.reshape)
def reshape(a: Any, /, shape: Any) -> Tensor:
    a = as_tensor(a)
    wanted = list(shape) if isinstance(shape, tuple | list) else [shape]
    if any(isinstance(e, float | np.floating) for e in wanted):
        raise TypeError(f"reshape: the shape must be of integers, not {shape}")
    extents = [e if isinstance(e, Rows) else operator.index(e) for e in wanted]
    return apply("reshape", a, shape=_inferred(a.shape, extents))


def _inferred(shape: Shape, wanted: Sequence[Extent]) -> Shape:
    """The wanted extents, an extent of -1 worked out from the others."""
    unknown = [i for i, extent in enumerate(wanted) if extent == -1]
    if not unknown:
        return tuple(wanted)
    rest = [extent for extent in wanted if extent != -1]
    (number, power), (known, known_power) = element_count(shape), element_count(rest)
    fits = len(unknown) == 1 and known > 0 and number % known == 0
    if not fits or power - known_power not in (0, 1):
        raise ValueError(f"cannot reshape {describe(shape)} to {describe(wanted)}")
    found: Extent = Rows(number // known) if power > known_power else number // known
    return tuple(found if extent == -1 else extent for extent in wanted)


@_implements(np.ravel)
def ravel(a: Any) -> Tensor:
    return reshape(a, -1)


@_implements(np.transpose, np.permute_dims)
def transpose(a: Any, axes: Sequence[int] | None = None) -> Tensor:
    a = as_tensor(a)
    order = range(a.ndim)[::-1] if axes is None else [_axis(axis, a.ndim) for axis in axes]
    return apply("transpose", a, axes=tuple(order))


@_implements(np.matrix_transpose)
def matrix_transpose(x: Any, /) -> Tensor:
    x = as_tensor(x)
    if x.ndim < 2:
        raise ValueError(f"matrix_transpose takes matrices, not shape {describe(x.shape)}")
    return swap_last(x)


@_implements(np.swapaxes)
def swapaxes(a: Any, axis1: int, axis2: int) -> Tensor:
    a = as_tensor(a)
    order = list(range(a.ndim))
    first, second = _axis(axis1, a.ndim), _axis(axis2, a.ndim)
    order[first], order[second] = order[second], order[first]
    return apply("transpose", a, axes=tuple(order))


@_implements(np.moveaxis)
def moveaxis(a: Any, source: Axis, destination: Axis) -> Tensor:
    a = as_tensor(a)
    sources = [_axis(s, a.ndim) for s in np.atleast_1d(np.asarray(source))]
    places = [_axis(d, a.ndim) for d in np.atleast_1d(np.asarray(destination))]
    order = [i for i in range(a.ndim) if i not in sources]
    for place, moved in sorted(zip(places, sources, strict=True)):
        order.insert(place, moved)
    return apply("transpose", a, axes=tuple(order))


@_implements(np.expand_dims)
def expand_dims(a: Any, axis: int | Sequence[int]) -> Tensor:
    a = as_tensor(a)
    added = axis if isinstance(axis, Sequence) else (axis,)
    axes = normalise_axes(added, a.ndim + len(added))
    extents = iter(a.shape)
    ndim = a.ndim + len(added)
    return apply("reshape", a, shape=tuple(1 if i in axes else next(extents) for i in range(ndim)))


@_implements(np.squeeze)
def squeeze(a: Any, axis: Axis = None) -> Tensor:
    a = as_tensor(a)
    ones = [i for i, extent in enumerate(a.shape) if extent == 1]
    axes = ones if axis is None else normalise_axes(axis, a.ndim)
    for i in axes:
        if a.shape[i] != 1:
            raise ValueError(f"squeeze: axis {i} of shape {describe(a.shape)} is not 1")
    return _without(a, axes)


@_implements(np.atleast_1d)
def atleast_1d(a: Any) -> Tensor:
    a = as_tensor(a)
    return a if a.ndim else apply("reshape", a, shape=(1,))


@_implements(np.atleast_2d)
def atleast_2d(a: Any) -> Tensor:
    a = as_tensor(a)
    return a if a.ndim > 1 else apply("reshape", a, shape=(1, *a.shape) if a.ndim else (1, 1))


@_implements(np.broadcast_to)
def broadcast_to(array: Any, shape: Any) -> Tensor:
    wanted = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    return apply("broadcast_to", array, shape=wanted)


def _joinable(arrays: Sequence[Any]) -> list[Tensor]:
    """The arrays in one dtype and one storage."""
    if isinstance(arrays, Tensor):
        arrays = list(arrays)
    nodes = [as_tensor(array) for array in arrays]
    if not nodes:
        raise ValueError("need at least one array to join")
    common = np.result_type(*(node.dtype for node in nodes))
    nodes = [apply("cast", node, dtype=common) for node in nodes]
    widest = max((node.storage for node in nodes), key=lambda dtype: dtype.itemsize)
    held = widest if widest.kind == "f" else np.dtype(np.float64)
    return [
        node if node.storage == held else apply("cast", node, dtype=common, storage=held)
        for node in nodes
    ]


@_implements(np.concatenate)
def concatenate(arrays: Sequence[Any], /, axis: int | None = 0) -> Tensor:
    nodes = _joinable(arrays)
    if axis is None:
        return concatenate([ravel(node) for node in nodes])
    if nodes[0].ndim == 0:
        raise ValueError("arrays without axes cannot be concatenated; write np.stack")
    return nodes[0] if len(nodes) == 1 else _concatenated(nodes, _axis(axis, nodes[0].ndim))


def _concatenated(nodes: Sequence[Tensor], axis: int) -> Tensor:
    return apply("concatenate", *nodes, axis=axis)


@_implements(np.stack)
def stack(arrays: Sequence[Any], axis: int = 0) -> Tensor:
    nodes = _joinable(arrays)
    for i, node in enumerate(nodes):
        if node.shape != nodes[0].shape:
            raise ValueError(
                f"stack: array 0 has shape {describe(nodes[0].shape)}, "
                f"but array {i} has {describe(node.shape)}"
            )
    place = _axis(axis, nodes[0].ndim + 1)
    return _concatenated([expand_dims(node, place) for node in nodes], place)


@_implements(np.vstack)
def vstack(tup: Sequence[Any]) -> Tensor:
    return concatenate([atleast_2d(a) for a in tup], 0)


@_implements(np.hstack)
def hstack(tup: Sequence[Any]) -> Tensor:
    nodes = [atleast_1d(a) for a in tup]
    return concatenate(nodes, 0 if nodes and nodes[0].ndim == 1 else 1)


@_implements(np.column_stack)
def column_stack(tup: Sequence[Any]) -> Tensor:
    nodes = [as_tensor(a) for a in tup]
    columns = [a if a.ndim > 1 else apply("reshape", a, shape=(*a.shape, 1)) for a in nodes]
    return concatenate(columns, 1)


@_implements(np.split)
def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    a = as_tensor(ary)
    extent = fixed(a.shape[_axis(axis, a.ndim)])
    if isinstance(indices_or_sections, int) and extent % indices_or_sections:
        raise ValueError(
            f"split: {extent} elements along axis {axis} do not make {indices_or_sections} equal "
            "parts; write np.array_split"
        )
    return array_split(a, indices_or_sections, axis)


@_implements(np.array_split)
def array_split(ary: Any, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    a = as_tensor(ary)
    axis = _axis(axis, a.ndim)
    extent = fixed(a.shape[axis])
    if isinstance(indices_or_sections, int):
        pieces = np.array_split(np.arange(extent), indices_or_sections)
        cuts = np.cumsum([len(piece) for piece in pieces])[:-1].tolist()
    else:
        cuts = [operator.index(i) for i in indices_or_sections]
    ahead = (slice(None),) * axis
    return [
        indexing.getitem(a, (*ahead, slice(begin, end)))
        for begin, end in zip([0, *cuts], [*cuts, None], strict=True)
    ]


@_implements(np.flip)
def flip(m: Any, axis: Axis = None) -> Tensor:
    m = as_tensor(m)
    for i in normalise_axes(axis, m.ndim):
        m = indexing.take(m, np.arange(fixed(m.shape[i]))[::-1], i)
    return m


@_implements(np.roll)
def roll(a: Any, shift: Any, axis: Axis = None) -> Tensor:
    a = as_tensor(a)
    if axis is None:
        return apply("reshape", roll(ravel(a), shift, 0), shape=a.shape)
    for by, along in np.broadcast(shift, axis):
        a = _rolled(a, by, _axis(along, a.ndim))
    return a


def _rolled(a: Tensor, shift: int, axis: int) -> Tensor:
    extent = fixed(a.shape[axis])
    cut = -operator.index(shift) % max(extent, 1)
    if cut == 0:
        return a
    return concatenate([part(a, axis, cut, extent - cut), part(a, axis, 0, cut)], axis)


@_implements(np.diff)
def diff(a: Any, n: int = 1, axis: int = -1) -> Tensor:
    a = as_tensor(a)
    axis = _axis(axis, a.ndim)
    for _ in range(n):
        extent = max(fixed(a.shape[axis]) - 1, 0)
        ends = part(a, axis, 1 if extent else 0, extent), part(a, axis, 0, extent)
        a = apply("not_equal", *ends) if a.dtype.kind == "b" else ends[0] - ends[1]
    return a


@_implements(np.repeat)
def repeat(a: Any, repeats: Any, axis: int | None = None) -> Tensor:
    a = as_tensor(a)
    if axis is None:
        return repeat(ravel(a), repeats, 0)
    axis = _axis(axis, a.ndim)
    if np.ndim(repeats):
        return indexing.take(a, np.repeat(np.arange(fixed(a.shape[axis])), repeats), axis)
    times = operator.index(repeats)
    spread = (*a.shape[: axis + 1], times, *a.shape[axis + 1 :])
    wide = apply("broadcast_to", expand_dims(a, axis + 1), shape=spread)
    merged = (*a.shape[:axis], a.shape[axis] * times, *a.shape[axis + 1 :])
    return apply("reshape", wide, shape=merged)


@_implements(np.tile)
def tile(A: Any, reps: Any) -> Tensor:
    a = as_tensor(A)
    times = [operator.index(r) for r in np.atleast_1d(np.asarray(reps))]
    times = [1] * (a.ndim - len(times)) + times
    shape = (1,) * (len(times) - a.ndim) + a.shape
    a = apply("reshape", a, shape=shape)
    for axis, count in enumerate(times):
        if count != 1:
            a = concatenate([a] * count, axis) if count else part(a, axis, 0, 0)
    return a


@_implements(np.pad)
def pad(array: Any, pad_width: Any, mode: str = "constant") -> Tensor:
    if mode != "constant":
        raise TypeError(
            f"np.pad with mode={mode!r} is not supported on traced arrays; "
            "the nearest that is supported: mode='constant'"
        )
    a = as_tensor(array)
    widths = np.broadcast_to(np.asarray(pad_width), (a.ndim, 2)).tolist()
    shape = tuple(
        extent if before + after == 0 else before + fixed(extent) + after
        for extent, (before, after) in zip(a.shape, widths, strict=True)
    )
    begin = tuple(before for before, _ in widths)
    return apply("embed", in_real_storage(a), shape=shape, places=((begin, (1,) * a.ndim),))


@_implements(np.diagonal)
def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    a = as_tensor(a)
    axes = [_axis(axis1, a.ndim), _axis(axis2, a.ndim)]
    order = [i for i in range(a.ndim) if i not in axes] + axes
    a = apply("transpose", a, axes=tuple(order))
    rows, columns = fixed(a.shape[-2]), fixed(a.shape[-1])
    length = max(min(rows + min(offset, 0), columns - max(offset, 0)), 0)
    first = max(offset, 0) - min(offset, 0) * columns
    flat = apply("reshape", a, shape=(*a.shape[:-2], rows * columns))
    return indexing.take(flat, first + np.arange(length) * (columns + 1), a.ndim - 2)


@_implements(np.trace)
def trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    return reduce("sum", diagonal(a, offset, axis1, axis2), -1)


@_implements(np.diag)
def diag(v: Any, k: int = 0) -> Tensor:
    v = as_tensor(v)
    if v.ndim == 2:
        return diagonal(v, k)
    if v.ndim != 1:
        raise ValueError(f"diag takes a vector or a matrix, not shape {describe(v.shape)}")
    extent = fixed(v.shape[0]) + abs(k)
    return _kept(np.eye(extent, k=k, dtype=bool), _on_diagonal(v, k, extent))


def _kept(mask: np.ndarray, a: Tensor) -> Tensor:
    """The array with zeros of its dtype where the mask is False."""
    return where(mask, a, literal(0, a.dtype))


def _on_diagonal(v: Tensor, k: int, extent: int) -> Tensor:
    """A matrix whose k-th diagonal is v; its other elements are of no importance."""
    before, after = max(k, 0), max(-k, 0)
    columns = pad(v, (before, after)) if k else v
    return apply("broadcast_to", columns, shape=(extent, extent))


@_implements(np.tril)
def tril(m: Any, k: int = 0) -> Tensor:
    m = as_tensor(m)
    return _kept(_below(m, k), m)


@_implements(np.triu)
def triu(m: Any, k: int = 0) -> Tensor:
    m = as_tensor(m)
    return _kept(~_below(m, k - 1), m)


def _below(m: Tensor, k: int) -> np.ndarray:
    """True on and below the k-th diagonal of the matrices, or of one whose rows are the vector."""
    if m.ndim == 0:
        raise ValueError("tril and triu take matrices and vectors, not an array without axes")
    rows = m.shape[-2] if m.ndim > 1 else m.shape[0]
    return np.tri(fixed(rows), fixed(m.shape[-1]), k, dtype=bool)


# Choosing


@_implements(np.where)
def where_(condition: Any, x: Any = None, y: Any = None, /) -> Tensor:
    if x is None or y is None:
        raise TypeError(
            "np.where(condition) has a size that depends on data; write np.where(condition, x, y)"
        )
    return where(condition, x, y)


@_implements(np.clip)
def clip(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:
    low = a_min if a_min is not None else min
    high = a_max if a_max is not None else max
    a = as_tensor(a)
    # Python's ints that are no bound, because they lie outside of the dtype, need not fit it.
    limits = np.iinfo(a.dtype) if a.dtype.kind in "iu" else None
    if low is not None and not (limits and type(low) is int and low < limits.min):
        a = apply("maximum", a, low)
    if high is not None and not (limits and type(high) is int and high > limits.max):
        a = apply("minimum", a, high)
    return a


@_implements(np.nan_to_num)
def nan_to_num(
    x: Any, *, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Tensor:
    x = as_tensor(x)
    if x.dtype.kind != "f":
        return x
    limits = np.finfo(x.dtype)
    high = float(limits.max) if posinf is None else posinf
    low = float(limits.min) if neginf is None else neginf
    x = where(apply("equal", x, np.inf), high, where(apply("equal", x, -np.inf), low, x))
    return where(apply("isnan", x), nan, x)


FUNCTIONS[np.take] = indexing.take
FUNCTIONS[np.take_along_axis] = indexing.take_along_axis
FUNCTIONS[TensorInterface.__getitem__] = indexing.getitem


def _like(value: float) -> Callable[..., Tensor]:
    def implementation(a: Any, dtype: Any = None) -> Tensor:
        return full_like(a, value, dtype)

    return implementation


@_implements(np.full_like)
def full_like(a: Any, fill_value: Any, dtype: Any = None) -> Tensor:
    a = as_tensor(a)
    dtype = np.dtype(a.dtype if dtype is None else dtype)
    if type(fill_value) is int and dtype.kind in "iu":
        fill_value = dtype.type(fill_value)  # raises OverflowError where it does not fit
    value = as_tensor(fill_value)
    return apply("broadcast_to", astype(value, dtype), shape=a.shape)


for _function, _value in ((np.zeros_like, 0), (np.empty_like, 0), (np.ones_like, 1)):
    _implements(_function)(_like(_value))


@_implements(np.result_type)
def result_type(*operands: Any) -> np.dtype:
    kinds = [kind_of(o) if isinstance(o, Tensor) else o for o in operands]
    return np.result_type(*(kind(0) if isinstance(kind, type) else kind for kind in kinds))


@_implements(np.isclose)
def isclose(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8) -> Tensor:
    a, b = as_tensor(a), as_tensor(b)
    close = apply("less_equal", apply("absolute", a - b), atol + rtol * apply("absolute", b))
    finite = apply("logical_and", apply("isfinite", a), apply("isfinite", b))
    return where(finite, close, apply("equal", a, b))


# Products


@_implements(np.matmul)
def matmul(a: Any, b: Any) -> Tensor:
    return product(as_tensor(a), as_tensor(b))


@_implements(np.dot)
def dot(a: Any, b: Any) -> Tensor:
    a, b = as_tensor(a), as_tensor(b)
    if a.ndim == 0 or b.ndim == 0:
        return a * b
    if b.ndim <= 2:
        return product(a, b)
    return tensordot(a, b, ((a.ndim - 1,), (b.ndim - 2,)))


@_implements(np.vdot)
def vdot(a: Any, b: Any) -> Tensor:
    return dot(ravel(a), ravel(b))


@_implements(np.inner)
def inner(a: Any, b: Any) -> Tensor:
    a, b = as_tensor(a), as_tensor(b)
    if a.ndim == 0 or b.ndim == 0:
        return a * b
    return tensordot(a, b, ((a.ndim - 1,), (b.ndim - 1,)))


@_implements(np.vecdot)
def vecdot(a: Any, b: Any) -> Tensor:
    terms = as_tensor(a) * b
    return astype(reduce("sum", terms, -1), terms.dtype)


@_implements(np.outer)
def outer(a: Any, b: Any) -> Tensor:
    return expand_dims(ravel(a), 1) * expand_dims(ravel(b), 0)


@_implements(np.tensordot)
def tensordot(a: Any, b: Any, axes: Any = 2) -> Tensor:
    a, b = as_tensor(a), as_tensor(b)
    if isinstance(axes, int):
        axes = (range(a.ndim - axes, a.ndim), range(axes))
    summed_a, summed_b = (
        [_axis(i, node.ndim) for i in np.atleast_1d(np.asarray(each, int))]
        for node, each in zip((a, b), axes, strict=True)
    )
    labels_a: list[int] = list(range(a.ndim))
    labels_b: list[int] = list(range(a.ndim, a.ndim + b.ndim))
    for i, j in zip(summed_a, summed_b, strict=True):
        labels_b[j] = labels_a[i]
    kept = [x for i, x in enumerate(labels_a) if i not in summed_a]
    kept += [x for j, x in enumerate(labels_b) if j not in summed_b]
    return einsum.contract([labels_a, labels_b], [a, b], kept)


@_implements(np.einsum)
def einsum_(subscripts: str, *operands: Any) -> Tensor:
    return einsum.einsum(subscripts, [as_tensor(operand) for operand in operands])


REWRITES.update(
    {
        "np.prod": "np.exp(np.sum(np.log(x))) for positive x",
        "np.multiply.reduce": "np.exp(np.sum(np.log(x))) for positive x",
        "np.cumsum": "np.tri(n) @ x",
        "np.add.accumulate": "np.tri(n) @ x",
        "np.cumprod": "np.exp(np.tri(n) @ np.log(x)) for positive x",
        "np.argmax": "x == np.max(x, axis, keepdims=True)",
        "np.argmin": "x == np.min(x, axis, keepdims=True)",
        "np.median": "np.mean, or sort outside of the traced function",
        "np.array_equal": "np.all(a == b)",
        "np.nonzero": "np.where(condition, x, y)",
        "np.select": "nested np.where(condition, x, y)",
        "np.piecewise": "nested np.where(condition, x, y)",
        "np.put": "np.where(mask, value, x)",
        "np.copyto": "np.where(mask, value, x)",
        "np.allclose": "np.all(np.isclose(a, b))",
        "np.dstack": "np.stack(arrays, axis=2)",
        "np.nansum": "np.sum(np.where(np.isnan(x), 0, x))",
        "np.fix": "np.trunc",
        "np.divmod": "a // b and a % b",
        "np.left_shift": "x * 2**n",
        "np.right_shift": "x // 2**n",
        "np.linspace": "start + (stop - start) * np.linspace(0, 1, n)",
        "np.interp": "fp[0] + np.sum(np.diff(fp) / np.diff(xp) * "
        "np.clip(x[..., None] - xp[:-1], 0, np.diff(xp)), -1)",
        "np.fft": "a product with the real and imaginary parts of np.fft.fft(np.eye(n))",
        "np.real": "x, which is real",
        "np.conj": "x, which is real",
        "np.conjugate": "x, which is real",
        "np.imag": "np.zeros_like(x)",
        "ndarray.flat": "x.ravel()",
        "ndarray.itemsize": "x.dtype.itemsize",
        "ndarray.nbytes": "x.size * x.dtype.itemsize",
        "ndarray.fill": "np.full_like(x, value)",
        "scipy.special.expit": "dl.ops.sigmoid(x)",
        "scipy.special.logit": "np.log(x / (1 - x))",
        "scipy.special.xlogy": "x * np.log(np.where(x == 0, 1, y))",
        "np.signbit": "x < 0",
        "np.gradient": "np.diff",
        "np.trapezoid": "np.sum((y[1:] + y[:-1]) * np.diff(x)) / 2",
        "np.meshgrid": "x[None, :] and y[:, None], which broadcast",
        "np.block": "np.concatenate",
        "np.append": "np.concatenate",
        "np.matvec": "np.squeeze(a @ x[..., None], -1)",
        "np.nanmean": "np.average(np.where(np.isnan(x), 0, x), weights=~np.isnan(x))",
        **dict.fromkeys(
            ["np.sort", "np.argsort", "np.unique", "np.searchsorted", "np.quantile"],
            "np.take with indices that are found outside of the traced function",
        ),
        **dict.fromkeys(
            ["np.linalg.inv", "np.linalg.solve", "np.linalg.det"],
            "np.matmul with a matrix that is inverted outside of the traced function",
        ),
        "np.fmax": "np.where(np.isnan(a), b, np.maximum(a, b))",
        "np.fmin": "np.where(np.isnan(a), b, np.minimum(a, b))",
    }
)
