"""Elementwise ops: each is one instruction of a map program."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from dlcore.graph.shape import broadcast, element_count
from dlcore.graph.tensor import Tensor, apply, define, is_literal, literal


def sum_to(g: Tensor, like: Tensor) -> Tensor:
    """The gradient of a broadcast: ``g`` summed over the axes along which ``like`` was repeated."""
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
    return apply("broadcast_to", g, shape=node.shape)


def _shape(*inputs: Tensor) -> Any:
    return broadcast(*(i.shape for i in inputs))


def _dtype(*inputs: Tensor) -> np.dtype:
    return inputs[0].dtype


def _elementwise(
    name: str,
    reference: Callable[..., Any],
    gradient: Callable[..., tuple[Tensor | None, ...]] | None,
    simplify: Callable[..., Tensor | None] | None = None,
) -> None:
    """Defines the op; ``gradient(node, g, *inputs)`` may leave results broadcast."""

    def rule(node: Tensor, g: Tensor) -> list[Tensor | None]:
        g = full(g, node)
        if gradient is None:
            return [None] * len(node.inputs)
        return [
            None if adjoint is None else sum_to(full(adjoint, node), operand)
            for adjoint, operand in zip(gradient(node, g, *node.inputs), node.inputs, strict=True)
        ]

    define(
        name,
        shape=_shape,
        dtype=_dtype,
        reference=reference,
        gradient=rule,
        lowering="map",
        simplify=simplify,
    )


def where(condition: Tensor, a: Any, b: Any) -> Tensor:
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
    if is_literal(b, 1.0):
        return a
    if is_literal(b, 2.0):
        return apply("square", a)
    return None


_elementwise("copy", np.positive, lambda node, g, a: (g,))
_elementwise("add", np.add, lambda node, g, a, b: (g, g))
_elementwise("subtract", np.subtract, lambda node, g, a, b: (g, -g))
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
# A tie sends the whole gradient to the first argument.
_elementwise(
    "maximum",
    np.maximum,
    lambda node, g, a, b: (where(a >= b, g, 0.0), where(a >= b, 0.0, g)),
)
_elementwise(
    "minimum",
    np.minimum,
    lambda node, g, a, b: (where(a <= b, g, 0.0), where(a <= b, 0.0, g)),
)


def _power_gradient(node: Tensor, g: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor | None]:
    base = g * b * a ** (b - 1.0)
    if is_literal(b):
        if b.attributes["power"] == 0:
            base = g * b * a ** (b.attributes["value"] - 1.0)
        return base, None
    # 0 ** b does not change with b > 0, though log(0) is -inf
    return base, g * node * apply("log", where(a > 0.0, a, 1.0))


_elementwise("power", np.power, _power_gradient, _simplify_power)
_elementwise("absolute", np.absolute, lambda node, g, a: (g * apply("sign", a),))
_elementwise("sign", np.sign, None)
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

for _name in ("greater", "greater_equal", "less", "less_equal", "equal", "not_equal"):
    _elementwise(_name, getattr(np, _name), None)

_elementwise(
    "where",
    lambda condition, a, b: np.where(condition != 0, a, b),
    lambda node, g, condition, a, b: (
        None,
        where(condition, g, 0.0),
        where(condition, 0.0, g),
    ),
)


define(
    "cast",
    shape=lambda a, dtype: a.shape,
    dtype=lambda a, dtype: np.dtype(dtype),
    reference=lambda a, dtype: a.astype(dtype),
    gradient=lambda node, g: (
        apply("cast", full(g, node), dtype=node.inputs[0].dtype)
        if node.inputs[0].dtype.kind == "f"
        else None,
    ),
    lowering="map",
    simplify=lambda a, dtype: (
        a
        if a.dtype == dtype
        else literal(a.attributes["value"], dtype, a.attributes["power"])
        if is_literal(a)
        else None
    ),
)


def mean_scale(shape: Any, dtype: np.dtype) -> Tensor:
    """``1 / (number of elements)`` as a literal."""
    number, power = element_count(shape)
    return literal(1.0 / number if number else math.nan, dtype, -power)
