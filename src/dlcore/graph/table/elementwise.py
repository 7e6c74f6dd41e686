"""Elementwise ops: each is one instruction of a map program."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from dlcore.graph.shape import broadcast, element_count
from dlcore.graph.tensor import (
    FLOAT64,
    REALS,
    Tensor,
    Weak,
    apply,
    check_dtype,
    computed_in,
    define,
    is_literal,
    literal,
    real_storage,
)


def sum_to(g: Tensor, like: Tensor) -> Tensor:
    """The gradient of a broadcast: ``g`` summed over the axes along which ``like`` was repeated."""
    if g.shape == like.shape:
        return g
    added = g.ndim - like.ndim
    axes = tuple(range(max(added, 0))) + tuple(
        axis + added
        for axis, extent in enumerate(like.shape)
        if extent == 1 and axis + added >= 0 and g.shape[axis + added] != 1
    )
    if axes:
        g = apply("sum", g, axis=axes, keepdims=False)
    return g if g.shape == like.shape else apply("reshape", g, shape=like.shape)


def full(g: Tensor, node: Tensor) -> Tensor:
    """``g`` with the shape of ``node``: gradients of means arrive as scalars."""
    return g if g.shape == node.shape else apply("broadcast_to", g, shape=node.shape)


def _shape(*inputs: Tensor) -> Any:
    return broadcast(*(i.shape for i in inputs))


def _first_dtype(*inputs: Tensor) -> np.dtype:
    return inputs[0].dtype


def _truth(*inputs: Tensor) -> np.dtype:
    return np.dtype(bool)


# Promotion: the dtypes to which NumPy converts operands before it computes.

Kind = np.dtype | Weak


def ufunc_promotion(ufunc: np.ufunc) -> Callable[..., Sequence[np.dtype]]:
    """The dtypes in which NumPy computes the ufunc of operands of these."""

    @lru_cache(maxsize=256)
    def promote(*kinds: Kind) -> tuple[np.dtype, ...]:
        if not any(isinstance(kind, np.dtype) for kind in kinds):
            kinds = tuple(map(np.dtype, kinds))
        *operands, result = ufunc.resolve_dtypes((*kinds, None))
        for dtype in (*operands, result):
            check_dtype(dtype, f"np.{ufunc.__name__} of {', '.join(map(_kind_name, kinds))}")
        return tuple(operands)

    return promote


def comparison_promotion(ufunc: np.ufunc) -> Callable[..., Sequence[np.dtype]]:
    """As `ufunc_promotion`; Python's ints need not fit the integers that they are compared with."""
    promote = ufunc_promotion(ufunc)

    @lru_cache(maxsize=256)
    def unbounded(*kinds: Kind) -> tuple[np.dtype, ...]:
        return tuple(
            FLOAT64 if kind is int and dtype.kind in "iu" else dtype
            for kind, dtype in zip(kinds, promote(*kinds), strict=True)
        )

    return unbounded


def _kind_name(kind: Kind) -> str:
    return kind.name if isinstance(kind, np.dtype) else kind.__name__


@lru_cache(maxsize=256)
def _floating(*kinds: Kind) -> tuple[np.dtype, ...]:
    """Of functions that NumPy does not have: integers become float64."""
    (common, *_) = _common(*kinds)
    if common.kind != "f":
        common = np.dtype(np.float64)
    return (common,) * len(kinds)


def _common(*kinds: Kind) -> tuple[np.dtype, ...]:
    samples = [kind if isinstance(kind, np.dtype) else kind(0) for kind in kinds]
    return (np.result_type(*samples),) * len(kinds)


def _as_they_are(*kinds: Kind) -> tuple[None, ...]:
    return (None,) * len(kinds)


def _elementwise(
    name: str,
    reference: Callable[..., Any],
    gradient: Callable[..., tuple[Tensor | None, ...]] | None,
    simplify: Callable[..., Tensor | None] | None = None,
    *,
    dtype: Callable[..., np.dtype] = _first_dtype,
    promote: Callable[..., Sequence[np.dtype | None]] | None = None,
    storage: Callable[[Tensor], np.dtype] = real_storage,
) -> None:
    """Defines the op; ``gradient(node, g, *inputs)`` may leave results broadcast."""
    if promote is None:
        ufunc = reference if isinstance(reference, np.ufunc) else None
        promote = _floating if ufunc is None else ufunc_promotion(ufunc)

    def rule(node: Tensor, g: Tensor) -> list[Tensor | None]:
        if gradient is None:
            return [None] * len(node.inputs)
        g = full(g, node)
        return [
            None if adjoint is None else sum_to(full(adjoint, node), operand)
            for adjoint, operand in zip(gradient(node, g, *node.inputs), node.inputs, strict=True)
        ]

    define(
        name,
        shape=_shape,
        dtype=dtype,
        reference=reference,
        gradient=rule,
        lowering="map",
        simplify=simplify,
        promote=promote,
        storage=storage,
    )


def where(condition: Any, a: Any, b: Any) -> Tensor:
    return apply("where", condition, a, b)


# Folding. Literals carry a power of the rows, so that the 1 / rows of a mean stays a literal.


def _fold(
    combine: Callable[[float, float], float], powers: Callable[[int, int], int]
) -> Callable[[Tensor, Tensor], Tensor | None]:
    def fold(a: Tensor, b: Tensor) -> Tensor | None:
        if not (is_literal(a) and is_literal(b)):
            return None
        power = powers(a.attributes["power"], b.attributes["power"])
        if abs(power) > 1:
            return None
        try:
            return literal(combine(a.attributes["value"], b.attributes["value"]), a.dtype, power)
        except ZeroDivisionError:
            return None

    return fold


def _simplify_multiply(a: Tensor, b: Tensor) -> Tensor | None:
    if is_literal(a, 1.0):
        return b
    if is_literal(b, 1.0):
        return a
    return _fold(lambda x, y: x * y, lambda p, q: p + q)(a, b)


def _simplify_divide(a: Tensor, b: Tensor) -> Tensor | None:
    if is_literal(b, 1.0):
        return a
    return _fold(lambda x, y: x / y, lambda p, q: p - q)(a, b)


def _simplify_negative(a: Tensor) -> Tensor | None:
    if is_literal(a):
        return literal(-a.attributes["value"], a.dtype, a.attributes["power"])
    return None


def _simplify_power(a: Tensor, b: Tensor) -> Tensor | None:
    # a power takes as long as some fifty products
    if is_literal(b, 1.0):
        return a
    if is_literal(b, 2.0):
        return apply("square", a)
    if is_literal(b, 3.0):
        return a * apply("square", a)
    if is_literal(b, 4.0):
        return apply("square", apply("square", a))
    if is_literal(b, 0.5):
        return apply("sqrt", a)
    if is_literal(b, -1.0):
        return apply("reciprocal", a)
    if is_literal(b, -2.0):
        return apply("square", apply("reciprocal", a))
    return None


# Sums of different powers of the rows are no literal.
_fold_sum = _fold(lambda x, y: x + y, lambda p, q: p if p == q else 2)


def _simplify_add(a: Tensor, b: Tensor) -> Tensor | None:
    if a.dtype.kind == "b":
        return apply("logical_or", a, b)
    # gradients of several slices of one array
    if a.op.name == b.op.name == "embed" and a.shape == b.shape:
        places = a.attributes["places"] + b.attributes["places"]
        return apply("embed", *a.inputs, *b.inputs, shape=a.shape, places=places)
    return _fold_sum(a, b)


_simplify_subtract = _fold(lambda x, y: x - y, lambda p, q: p if p == q else 2)


_elementwise(
    "copy",
    np.copy,
    lambda node, g, a: (g,),
    promote=_as_they_are,
    storage=lambda node: computed_in(node.inputs[0]),
)
_elementwise("add", np.add, lambda node, g, a, b: (g, g), _simplify_add)
_elementwise("subtract", np.subtract, lambda node, g, a, b: (g, -g), _simplify_subtract)
_elementwise(
    "multiply",
    np.multiply,
    lambda node, g, a, b: (g * b, g * a),
    _simplify_multiply,
)
_elementwise(
    "divide",
    np.divide,
    lambda node, g, a, b: (g / b, -(g * node / b)),
    _simplify_divide,
)
_elementwise("negative", np.negative, lambda node, g, a: (-g,), _simplify_negative)


def _simplify_maximum(a: Tensor, b: Tensor) -> Tensor | None:
    # relu, whose gradient needs its result alone
    for operand, bound in ((a, b), (b, a)):
        is_zero = is_literal(bound, 0.0) and math.copysign(1.0, bound.attributes["value"]) > 0
        if is_zero and operand.dtype.kind == "f":
            return apply("relu", operand)
    return None


# A tie sends the whole gradient to the first argument.
_elementwise(
    "maximum",
    np.maximum,
    lambda node, g, a, b: (where(a >= b, g, 0.0), where(a >= b, 0.0, g)),
    _simplify_maximum,
)
_elementwise(
    "minimum",
    np.minimum,
    lambda node, g, a, b: (where(a <= b, g, 0.0), where(a <= b, 0.0, g)),
)


def _power_gradient(
    node: Tensor, g: Tensor, a: Tensor, b: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    if is_literal(b):
        exponent = b.attributes["value"]
        return (g * (b * a ** (exponent - 1.0)) if exponent else None), None
    # a ** 0 does not change with a, though a ** -1 may be inf; so does 0 ** b, and log(0) is -inf
    base = where(apply("equal", b, 0.0), 0.0, b * a ** (b - 1.0))
    return g * base, g * (node * apply("log", where(a > 0.0, a, 1.0)))


_elementwise("power", np.power, _power_gradient, _simplify_power)
_elementwise("absolute", np.absolute, lambda node, g, a: (g * apply("sign", a),))
_elementwise("sign", np.sign, None)
for _name in ("floor", "ceil", "trunc", "rint"):
    _elementwise(_name, getattr(np, _name), None)
_elementwise("square", np.square, lambda node, g, a: (g * (2.0 * a),))
_elementwise("sqrt", np.sqrt, lambda node, g, a: (g * (0.5 / node),))
_elementwise("reciprocal", np.reciprocal, lambda node, g, a: (-(g * apply("square", node)),))
_elementwise("exp", np.exp, lambda node, g, a: (g * node,))
_elementwise("expm1", np.expm1, lambda node, g, a: (g * (node + 1.0),))
_elementwise("log", np.log, lambda node, g, a: (g / a,))
_elementwise("log1p", np.log1p, lambda node, g, a: (g / (a + 1.0),))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0.0, -x))


def _erf(x: np.ndarray) -> np.ndarray:
    return np.vectorize(math.erf, otypes=[float])(x)


def _gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * np.vectorize(math.erfc, otypes=[float])(-x / math.sqrt(2.0))


def _gelu_gradient(node: Tensor, g: Tensor, x: Tensor) -> tuple[Tensor]:
    cdf = 0.5 * (1.0 + apply("erf", x * math.sqrt(0.5)))
    density = apply("exp", -0.5 * apply("square", x)) * (1.0 / math.sqrt(2.0 * math.pi))
    return (g * (cdf + x * density),)


def _silu_gradient(node: Tensor, g: Tensor, x: Tensor) -> tuple[Tensor]:
    s = apply("sigmoid", x)
    return (g * (s + node * (1.0 - s)),)


_elementwise("tanh", np.tanh, lambda node, g, a: (g * (1.0 - apply("square", node)),))
_elementwise("sigmoid", _sigmoid, lambda node, g, a: (g * (node * (1.0 - node)),))
_elementwise(
    "softplus",
    lambda x: np.logaddexp(0.0, x),
    lambda node, g, a: (g * apply("sigmoid", a),),
)
_elementwise(
    "erf",
    _erf,
    lambda node, g, a: (g * (2.0 / math.sqrt(math.pi) * apply("exp", -apply("square", a))),),
)
# The derivative of relu and its kin at 0 is that of the negative side. They are written in terms of
# the result where that does: then the argument need not be kept.
_elementwise(
    "relu",
    lambda x: np.where(x < 0.0, 0.0, x),
    lambda node, g, a: (where(node > 0.0, g, 0.0),),
)
_elementwise(
    "leaky_relu",
    lambda x, slope: np.where(x > 0.0, x, slope * x),
    lambda node, g, a, slope: (where(a > 0.0, g, g * slope), where(a > 0.0, 0.0, g * a)),
)
_elementwise(
    "elu",
    lambda x, alpha: np.where(x > 0.0, x, alpha * np.expm1(np.minimum(x, 0.0))),
    lambda node, g, a, alpha: (
        where(a > 0.0, g, g * (node + alpha)),
        where(a > 0.0, 0.0, g * apply("expm1", apply("minimum", a, 0.0))),
    ),
)
_elementwise("gelu", _gelu, _gelu_gradient)
_elementwise("silu", lambda x: x * _sigmoid(x), _silu_gradient)

# Trigonometric functions and their kin.

_elementwise("sin", np.sin, lambda node, g, a: (g * apply("cos", a),))
_elementwise("cos", np.cos, lambda node, g, a: (-(g * apply("sin", a)),))
_elementwise("tan", np.tan, lambda node, g, a: (g * (1.0 + apply("square", node)),))
_elementwise("sinh", np.sinh, lambda node, g, a: (g * apply("cosh", a),))
_elementwise("cosh", np.cosh, lambda node, g, a: (g * apply("sinh", a),))
_elementwise("arcsin", np.arcsin, lambda node, g, a: (g / apply("sqrt", 1.0 - apply("square", a)),))
_elementwise(
    "arccos", np.arccos, lambda node, g, a: (-(g / apply("sqrt", 1.0 - apply("square", a))),)
)
_elementwise("arctan", np.arctan, lambda node, g, a: (g / (1.0 + apply("square", a)),))
_elementwise("arcsinh", np.arcsinh, lambda node, g, a: (g / apply("hypot", a, 1.0),))
_elementwise(
    "arccosh", np.arccosh, lambda node, g, a: (g / apply("sqrt", apply("square", a) - 1.0),)
)
_elementwise("arctanh", np.arctanh, lambda node, g, a: (g / (1.0 - apply("square", a)),))


def _arctan2_gradient(node: Tensor, g: Tensor, y: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    scaled = g / (apply("square", x) + apply("square", y))
    return scaled * x, -(scaled * y)


_elementwise("arctan2", np.arctan2, _arctan2_gradient)
_elementwise("hypot", np.hypot, lambda node, g, a, b: (g * (a / node), g * (b / node)))
_elementwise("cbrt", np.cbrt, lambda node, g, a: (g / (3.0 * apply("square", node)),))
_elementwise("log2", np.log2, lambda node, g, a: (g / (a * math.log(2.0)),))
_elementwise("log10", np.log10, lambda node, g, a: (g / (a * math.log(10.0)),))
_elementwise("exp2", np.exp2, lambda node, g, a: (g * (node * math.log(2.0)),))

# The remainder is a - b * quotient, whose quotient is constant but for its jumps.
_elementwise("floor_divide", np.floor_divide, None)
_elementwise(
    "remainder",
    np.remainder,
    lambda node, g, a, b: (g, -(g * apply("floor_divide", a, b))),
)
_elementwise("fmod", np.fmod, lambda node, g, a, b: (g, -(g * apply("trunc", a / b))))
_elementwise(
    "copysign",
    np.copysign,
    lambda node, g, a, b: (g * apply("copysign", 1.0, node * a), None),
)
# Written by the difference, which neither overflows nor, for equal infinities, gives NaN.
_elementwise(
    "logaddexp",
    np.logaddexp,
    lambda node, g, a, b: (
        g * where(apply("equal", a, b), 0.5, apply("sigmoid", a - b)),
        g * where(apply("equal", a, b), 0.5, apply("sigmoid", b - a)),
    ),
)

# Truth values. They are 0 and 1 in memory and registers.

for _name in ("greater", "greater_equal", "less", "less_equal", "equal", "not_equal"):
    _ufunc = getattr(np, _name)
    _elementwise(_name, _ufunc, None, dtype=_truth, promote=comparison_promotion(_ufunc))
for _name in ("logical_and", "logical_or", "logical_xor", "logical_not"):
    _elementwise(_name, getattr(np, _name), None, dtype=_truth, promote=_as_they_are)
for _name in ("isnan", "isinf", "isfinite"):
    _elementwise(_name, getattr(np, _name), None, dtype=_truth)


def _where_promotion(condition: Kind, a: Kind, b: Kind) -> tuple[np.dtype | None, ...]:
    return (None, *_common(a, b))


# The gradient of the branch that is not taken is 0. Where the derivative of that branch is itself
# infinite or NaN, 0 times it is NaN: the branch's argument has to be made harmless with a where().
_elementwise(
    "where",
    lambda condition, a, b: np.where(condition != 0, a, b),
    lambda node, g, condition, a, b: (
        None,
        where(condition, g, 0.0),
        where(condition, 0.0, g),
    ),
    dtype=lambda condition, a, b: a.dtype,
    promote=_where_promotion,
)


def _cast_storage(node: Tensor) -> np.dtype:
    return node.attributes.get("storage") or real_storage(node)


def _cast_gradient(node: Tensor, g: Tensor) -> tuple[Tensor | None]:
    wanted = node.inputs[0].dtype
    return (apply("cast", full(g, node), dtype=wanted) if wanted in REALS else None,)


def _simplify_cast(a: Tensor, dtype: np.dtype, storage: np.dtype | None = None) -> Tensor | None:
    if storage is None and a.dtype == dtype:
        return a
    if is_literal(a):
        return literal(a.attributes["value"], dtype, a.attributes["power"])
    return None


# A change of the dtype that keeps the value (see `astype` for one that cuts off), or, where
# `storage` is given, of what holds it.
define(
    "cast",
    shape=lambda a, dtype, storage=None: a.shape,
    dtype=lambda a, dtype, storage=None: np.dtype(dtype),
    reference=lambda a, dtype, storage=None: a.astype(dtype),
    gradient=_cast_gradient,
    lowering="map",
    simplify=_simplify_cast,
    storage=_cast_storage,
)


def astype(a: Tensor, dtype: Any) -> Tensor:
    """NumPy's ``a.astype(dtype)``: integers cut off towards 0, bool asks whether it is not 0.

    Narrow integers wrap around.
    """
    dtype = np.dtype(dtype)
    check_dtype(dtype, "astype")
    if dtype.kind == "b" and a.dtype.kind != "b":
        return apply("not_equal", a, 0)
    if dtype.kind in "iu" and a.dtype.kind == "f":
        a = apply("trunc", a)
    fits = np.can_cast(a.dtype, dtype)
    return apply("cast", a if fits else _modulo(a, dtype), dtype=dtype)


def wrapped(a: Tensor) -> Tensor:
    """The node, whose values may lie outside of its dtype, modulo the range of that.

    Graphs compute with integers in float64, exactly up to 2**53; 64 bits do not wrap around.
    """
    return apply("cast", _modulo(a, a.dtype), dtype=a.dtype)


def _modulo(a: Tensor, dtype: np.dtype) -> Tensor:
    if dtype.kind not in "iu" or dtype.itemsize == 8:
        return a
    a = apply("cast", a, dtype=FLOAT64)
    least, size = float(np.iinfo(dtype).min), 2.0 ** (8 * dtype.itemsize)
    return a - size * apply("floor", (a - least) * (1.0 / size))


def mean_scale(shape: Any, dtype: np.dtype) -> Tensor:
    """``1 / (number of elements)`` as a literal."""
    number, power = element_count(shape)
    return literal(1.0 / number if number else math.nan, dtype, -power)
