"""What a row computes, for any library: inputs, the float64 reference, how much work it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dlcore.bench.goals import Sizes
from dlcore.memory import aligned_empty

Arrays = dict[str, np.ndarray]

# Elements, or rows, of a result that are compared with the reference.
SAMPLE = 512

# Random numbers that are drawn; larger arrays repeat them, as drawing is slower than measuring.
DRAWN = 65537

ADAM = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}
SGD = {"lr": 1e-3, "momentum": 0.9}


@dataclass(frozen=True)
class Work:
    """One operation.

    Attributes
    ----------
    inputs : (rng, sizes) -> arrays by the names that statements use, outputs included
    reference : (float64 arrays, rows) -> those rows of the result; rows indexes its first axis
    result : name of the array that holds the result
    moved : sizes -> elements that have to be read and written at least
    flops : sizes -> floating-point operations, 0 where they are not what one counts
    summed : sizes -> terms of the longest sum, which the rounding error grows with
    in_flops : whether its rate is quoted as FLOP/s, not bytes/s
    dtypes : those that it exists in
    rounding : the error that rounding of its operands adds, relative to the result
    """

    inputs: Callable[[np.random.Generator, Sizes], Arrays]
    reference: Callable[[Arrays, Any], Any]
    result: str
    moved: Callable[[Sizes], int]
    flops: Callable[[Sizes], int] = lambda sizes: 0
    summed: Callable[[Sizes], int] = lambda sizes: 1
    in_flops: bool = False
    dtypes: tuple[str, ...] = ("float32", "float64")
    rounding: float = 0.0


def make_inputs(op: str, sizes: Sizes, dtype: str, seed: int) -> Arrays:
    """The arrays of a row, the same in every process, aligned as the peers' own arrays are."""
    arrays = WORK[op].inputs(np.random.default_rng(seed), sizes)
    return {name: _aligned(array, dtype) for name, array in arrays.items()}


def _aligned(array: np.ndarray, dtype: str) -> np.ndarray:
    if not array.flags.c_contiguous:
        return _aligned(array.T, dtype).T
    copy = aligned_empty(array.shape, dtype)
    copy[...] = array
    return copy


def error(op: str, before: Arrays, result: np.ndarray) -> float:
    """The largest difference of a result from the reference, relative to its largest element."""
    work = WORK[op]
    rows: Any = ()
    if result.ndim:
        rows = np.unique(np.linspace(0, len(result) - 1, SAMPLE).astype(np.int64))
    expected = np.asarray(work.reference(before, rows), np.float64)
    difference = np.abs(np.asarray(result[rows], np.float64) - expected)
    return float(np.max(difference) / np.max(np.abs(expected)))


def tolerance(op: str, sizes: Sizes, dtype: str) -> float:
    """The error that rounding explains."""
    work = WORK[op]
    return work.rounding + float(np.finfo(dtype).eps) * (16 + 4 * math.sqrt(work.summed(sizes)))


# Inputs


def _normal(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return np.resize(rng.standard_normal(DRAWN, np.float32), shape)


def _like_output(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def _product(transposed: str = "") -> Callable[[np.random.Generator, Sizes], Arrays]:
    def inputs(rng: np.random.Generator, sizes: Sizes) -> Arrays:
        m, k, n = sizes
        a = _normal(rng, k, m).T if transposed == "a" else _normal(rng, m, k)
        b = _normal(rng, n, k).T if transposed == "b" else _normal(rng, k, n)
        return {"a": a, "b": b, "c": _like_output(m, n)}

    return inputs


def _linear(rng: np.random.Generator, sizes: Sizes) -> Arrays:
    m, k, n = sizes
    return {
        "x": _normal(rng, m, k),
        "w": _normal(rng, k, n) / np.float32(math.sqrt(k)),
        "b": _normal(rng, n),
        "y": _like_output(m, n),
    }


def _array(draw: Callable[..., np.ndarray]) -> Callable[[np.random.Generator, Sizes], Arrays]:
    def inputs(rng: np.random.Generator, sizes: Sizes) -> Arrays:
        return {"x": draw(rng, *sizes), "y": _like_output(*sizes)}

    return inputs


def _positive(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Numbers in [0.5, 1.5): their sums do not cancel, their logarithms are finite."""
    return np.resize(rng.random(DRAWN, np.float32) + np.float32(0.5), shape)


def _proper_fractions(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return _positive(rng, *shape) * np.float32(0.8) - np.float32(0.3)


def _wide(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return _normal(rng, *shape) * np.float32(3)


def _transposed(rng: np.random.Generator, sizes: Sizes) -> Arrays:
    return {"x": _wide(rng, *sizes[::-1]).T, "y": _like_output(*sizes)}


def _reduced(axis: int | None) -> Callable[[np.random.Generator, Sizes], Arrays]:
    def inputs(rng: np.random.Generator, sizes: Sizes) -> Arrays:
        x = _positive(rng, *sizes)
        return {"x": x, "r": np.zeros_like(x.sum(axis=axis))}

    return inputs


def _gram(rng: np.random.Generator, sizes: Sizes) -> Arrays:
    return {"x": _normal(rng, *sizes), "c": _like_output(sizes[1], sizes[1])}


def _parameters(*states: str) -> Callable[[np.random.Generator, Sizes], Arrays]:
    def inputs(rng: np.random.Generator, sizes: Sizes) -> Arrays:
        zeros = {name: _like_output(*sizes) for name in states}
        return {"p": _normal(rng, *sizes), "g": _normal(rng, *sizes), **zeros}

    return inputs


# References


def _double(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64)


def _matmul_reference(arrays: Arrays, rows: Any) -> np.ndarray:
    return _double(arrays["a"][rows]) @ _double(arrays["b"])


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _gelu(x: np.ndarray) -> np.ndarray:
    return x * np.vectorize(math.erfc)(-x / math.sqrt(2)) / 2


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


FUNCTIONS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "gelu": _gelu,
    "silu": lambda x: x * _sigmoid(x),
    "exp": np.exp,
    "log": np.log,
    "softmax": _softmax,
}


TRACED_NAMES = (
    *("exp2", "expm1", "log2", "log10", "log1p", "cbrt", "sin", "cos", "tan", "arcsin", "arccos"),
    *("arctan", "sinh", "cosh", "arcsinh", "arctanh"),
)
TRACED: Mapping[str, str] = {
    **{f"traced_{name}": f"np.{name}(x)" for name in TRACED_NAMES},
    "traced_power": "x ** 2.5",
}
"""Functions as they are written in NumPy, of numbers from 0.1 to 0.9"""


def _linear_reference(activation: str) -> Callable[[Arrays, Any], np.ndarray]:
    def reference(arrays: Arrays, rows: Any) -> np.ndarray:
        product = _double(arrays["x"][rows]) @ _double(arrays["w"])
        return FUNCTIONS[activation](product + _double(arrays["b"]))

    return reference


def _adam_reference(arrays: Arrays, rows: Any) -> np.ndarray:
    """The parameters after the first step from moments of zero."""
    gradient = _double(arrays["g"][rows])
    step = gradient / (np.abs(gradient) + ADAM["eps"])
    return _double(arrays["p"][rows]) - ADAM["lr"] * step


def _sgd_reference(arrays: Arrays, rows: Any) -> np.ndarray:
    return _double(arrays["p"][rows]) - SGD["lr"] * _double(arrays["g"][rows])


# The table


def _matmul(transposed: str = "") -> Work:
    return Work(
        inputs=_product(transposed),
        reference=_matmul_reference,
        result="c",
        moved=lambda sizes: sizes[0] * sizes[1] + sizes[1] * sizes[2] + sizes[0] * sizes[2],
        flops=lambda sizes: 2 * math.prod(sizes),
        summed=lambda sizes: sizes[1],
        in_flops=True,
    )


def _activated(activation: str) -> Work:
    return Work(
        inputs=_linear,
        reference=_linear_reference(activation),
        result="y",
        moved=_matmul().moved,
        flops=lambda sizes: 2 * math.prod(sizes),
        summed=lambda sizes: sizes[1],
        in_flops=True,
    )


def _elementwise(name: str, draw: Callable[..., np.ndarray] = _wide) -> Work:
    return Work(
        inputs=_array(draw),
        reference=lambda arrays, rows: FUNCTIONS[name](_double(arrays["x"][rows])),
        result="y",
        moved=lambda sizes: 2 * math.prod(sizes),
        flops=(lambda sizes: math.prod(sizes)) if name == "relu" else (lambda sizes: 0),
    )


def _traced(expression: str) -> Work:
    function = eval(f"lambda x: {expression}", {"np": np})
    return Work(
        inputs=_array(_proper_fractions),
        reference=lambda arrays, rows: function(_double(arrays["x"][rows])),
        result="y",
        moved=lambda sizes: 2 * math.prod(sizes),
        flops=lambda sizes: 0,
    )


def _reduction(axis: int | None, reference: Callable[[np.ndarray, Any], Any]) -> Work:
    return Work(
        inputs=_reduced(axis),
        reference=lambda arrays, rows: reference(arrays["x"], rows),
        result="r",
        moved=math.prod,
        flops=math.prod,
        summed=lambda sizes: math.prod(sizes) if axis is None else sizes[axis],
    )


WORK: Mapping[str, Work] = {
    "matmul": _matmul(),
    "matmul_ta": _matmul("a"),
    "matmul_tb": _matmul("b"),
    "matmul_bfloat16": replace(_matmul(), dtypes=("float32",), rounding=2**-7),
    "matmul_packed": replace(_matmul(), dtypes=("float32",), rounding=2**-7),
    "linear_relu": _activated("relu"),
    "linear_tanh": _activated("tanh"),
    "linear_gelu": _activated("gelu"),
    **{name: _elementwise(name) for name in FUNCTIONS if name != "log"},
    "log": _elementwise("log", _positive),
    "relu_transposed": replace(_elementwise("relu"), inputs=_transposed),
    "softmax_transposed": replace(_elementwise("softmax"), inputs=_transposed),
    **{op: _traced(expression) for op, expression in TRACED.items()},
    "sum": _reduction(None, lambda x, rows: _double(x).sum()),
    "max": _reduction(None, lambda x, rows: x.max()),
    "sum_rows": _reduction(1, lambda x, rows: _double(x[rows]).sum(axis=1)),
    "sum_columns": _reduction(0, lambda x, rows: _double(x[:, rows]).sum(axis=0)),
    "gram": Work(
        inputs=_gram,
        reference=lambda arrays, rows: _double(arrays["x"])[:, rows].T @ _double(arrays["x"]),
        result="c",
        moved=lambda sizes: math.prod(sizes) + sizes[1] ** 2,
        # The result is symmetric: one half and the diagonal have to be computed.
        flops=lambda sizes: sizes[0] * sizes[1] * (sizes[1] + 1),
        summed=lambda sizes: sizes[0],
        in_flops=True,
    ),
    "adam": Work(
        inputs=_parameters("m", "v"),
        reference=_adam_reference,
        result="p",
        moved=lambda sizes: 7 * math.prod(sizes),
        flops=lambda sizes: 12 * math.prod(sizes),
    ),
    "sgd_momentum": Work(
        inputs=_parameters("u"),
        reference=_sgd_reference,
        result="p",
        moved=lambda sizes: 5 * math.prod(sizes),
        flops=lambda sizes: 4 * math.prod(sizes),
    ),
    "call_matmul": _matmul(),
    "call_matmul_out": _matmul(),
    "call_tanh": _elementwise("tanh"),
    "call_relu": _elementwise("relu"),
}
