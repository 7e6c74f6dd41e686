"""Random functions of 5 to 50 operations: values against NumPy, first and second derivatives
against PyTorch's autograd and, along a random direction, against central differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest

import dlcore as dl
from helpers import assert_same_bits, team

SEEDS = range(40)
SHAPE = (3, 4)
MATRIX = np.random.default_rng(100).normal(size=(4, 4)) / 2
ROWS = np.array([2, 0, 0])
COLUMNS = np.array([3, 1, 1, 0])


class Op(NamedTuple):
    """One operation in NumPy and in PyTorch; arrays are broadcast to SHAPE by what follows."""

    arity: int
    numpy: Callable[..., Any]
    torch: Callable[..., Any]


def _same(arity: int, f: Callable[..., Any]) -> Op:
    return Op(arity, f, f)


def _of(name: str, arity: int = 1) -> Op:
    """The function that both have under one name."""

    def in_torch(*operands: Any) -> Any:
        import torch

        return getattr(torch, name)(*operands)

    return Op(arity, getattr(np, name), in_torch)


def _in_torch(f: Callable[..., Any]) -> Callable[..., Any]:
    """``f(torch, *operands)`` with PyTorch imported when it runs."""

    def call(*operands: Any) -> Any:
        import torch

        return f(torch, *operands)

    return call


OPS = [
    *[_of(name) for name in ("tanh", "sin", "cos", "arctan", "square")],
    *[_of(name, 2) for name in ("maximum", "minimum", "logaddexp", "multiply")],
    # neither has a derivative at (0, 0)
    Op(2, lambda a, b: np.hypot(a, b + 2), _in_torch(lambda torch, a, b: torch.hypot(a, b + 2))),
    Op(
        2,
        lambda a, b: np.arctan2(a, 1 + b * b),
        _in_torch(lambda torch, a, b: torch.arctan2(a, 1 + b * b)),
    ),
    _same(2, lambda a, b: a + b),
    _same(2, lambda a, b: a - b),
    _same(2, lambda a, b: a / (1.5 + b * b)),
    _same(1, lambda a: (a * a + 0.5) ** 1.5),
    _same(1, lambda a: abs(a)),
    _same(1, lambda a: a[[2, 0, 0]]),
    _same(1, lambda a: a[:, [3, 1, 1, 0]]),
    _same(1, lambda a: a[1:2] - a[:, :1]),
    _same(1, lambda a: a.T.reshape(3, 4)),
    _same(2, lambda a, b: (a @ b.T) @ a),
    Op(1, lambda a: a @ MATRIX, _in_torch(lambda torch, a: a @ torch.from_numpy(MATRIX))),
    Op(1, lambda a: np.exp(np.tanh(a)), _in_torch(lambda torch, a: torch.exp(torch.tanh(a)))),
    Op(1, lambda a: np.log1p(a * a), _in_torch(lambda torch, a: torch.log1p(a * a))),
    Op(1, lambda a: np.sqrt(a * a + 1), _in_torch(lambda torch, a: torch.sqrt(a * a + 1))),
    Op(1, lambda a: np.clip(a, -0.7, 0.8), _in_torch(lambda torch, a: torch.clip(a, -0.7, 0.8))),
    Op(
        1,
        lambda a: a - np.mean(a, axis=1, keepdims=True),
        _in_torch(lambda torch, a: a - torch.mean(a, dim=1, keepdim=True)),
    ),
    Op(
        1,
        lambda a: a * np.max(a, axis=0),
        _in_torch(lambda torch, a: a * torch.amax(a, dim=0)),
    ),
    Op(
        1,
        lambda a: a + np.var(a),
        _in_torch(lambda torch, a: a + torch.var(a, correction=0)),
    ),
    Op(
        2,
        lambda a, b: np.where(a > b, a * b, a - b),
        _in_torch(lambda torch, a, b: torch.where(a > b, a * b, a - b)),
    ),
    Op(
        2,
        lambda a, b: np.concatenate([a[:1], b[1:]]),
        _in_torch(lambda torch, a, b: torch.cat([a[:1], b[1:]])),
    ),
    Op(
        2,
        lambda a, b: np.sum(np.stack([a, b], axis=-1), axis=-1),
        _in_torch(lambda torch, a, b: torch.sum(torch.stack([a, b], dim=-1), dim=-1)),
    ),
    Op(
        2,
        lambda a, b: np.einsum("ij,kj->ik", a, b) @ a,
        _in_torch(lambda torch, a, b: torch.einsum("ij,kj->ik", a, b) @ a),
    ),
]


class Step(NamedTuple):
    op: Op
    operands: tuple[int, ...]


class Graph:
    """A random function of three arrays of SHAPE that broadcast; its result is a scalar."""

    def __init__(self, seed: int):
        rng = np.random.default_rng(seed)
        self.inputs = [rng.normal(size=shape) for shape in (SHAPE, SHAPE[1:], (SHAPE[0], 1))]
        self.directions = [rng.normal(size=x.shape) for x in self.inputs]
        self.steps: list[Step] = []
        known = len(self.inputs)
        for _ in range(int(rng.integers(5, 51))):
            op = OPS[rng.integers(len(OPS))]
            # recent results more often, so that graphs are deep as well as wide
            picked = known - 1 - np.minimum(rng.geometric(0.3, op.arity) - 1, known - 1)
            self.steps.append(Step(op, tuple(map(int, picked))))
            known += 1
        self.weights = rng.normal(size=(2, *SHAPE))

    def run(self, inputs: Sequence[Any], framework: str) -> Any:
        """The scalar, computed by the framework; steps are kept in range by tanh."""
        zeros, squash = np.zeros(SHAPE), np.tanh
        weights = self.weights
        if framework == "torch":
            import torch

            zeros, squash = torch.from_numpy(zeros), torch.tanh
            weights = torch.from_numpy(weights)
        values = [x + zeros for x in inputs]
        for op, operands in self.steps:
            result = getattr(op, framework)(*(values[i] for i in operands))
            values.append(squash(result + zeros))
        total = (values[-1] * weights[0] + values[len(values) // 2] * weights[1]).sum()
        return total + sum((x * x).sum() for x in inputs) / 10  # every input counts

    def in_numpy(self, *inputs: Any) -> Any:
        return self.run(inputs, "numpy")


@pytest.mark.parametrize("seed", SEEDS)
def test_value_is_numpys(seed):
    graph = Graph(seed)
    expected = graph.in_numpy(*graph.inputs)
    got = dl.jit(graph.in_numpy)(*graph.inputs)
    np.testing.assert_allclose(got, expected, rtol=1e-10)
    narrow = [x.astype("f4") for x in graph.inputs]
    got = dl.jit(lambda *inputs: graph.in_numpy(*inputs))(*narrow)
    np.testing.assert_allclose(got, graph.in_numpy(*narrow), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_derivatives_along_a_direction_are_those_of_central_differences(seed):
    graph = Graph(seed)

    def moved(step: float) -> list[np.ndarray]:
        pairs = zip(graph.inputs, graph.directions, strict=True)
        return [x + step * d for x, d in pairs]

    def slope(*inputs: Any) -> Any:
        gradients = dl.grad(graph.in_numpy, (0, 1, 2))(*inputs)
        pairs = zip(gradients, graph.directions, strict=True)
        return sum(np.sum(g * d) for g, d in pairs)

    def curvature(*inputs: Any) -> Any:
        gradients = dl.grad(slope, (0, 1, 2))(*inputs)
        return sum(np.sum(g * d) for g, d in zip(gradients, graph.directions, strict=True))

    value, first = dl.jit(graph.in_numpy), dl.jit(slope)
    for f, derivative in ((value, slope), (first, curvature)):
        h = 1e-6
        expected = (f(*moved(h)) - f(*moved(-h))) / (2 * h)
        got = dl.jit(derivative)(*graph.inputs)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6 * max(1, abs(f(*moved(0)))))


@pytest.mark.parametrize("seed", SEEDS)
def test_derivatives_are_those_of_torch(seed):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    graph = Graph(seed)
    inputs = [torch.from_numpy(x).requires_grad_() for x in graph.inputs]
    value = graph.run(inputs, "torch")
    first = torch.autograd.grad(value, inputs, create_graph=True)
    pairs = zip(first, graph.directions, strict=True)
    along = sum((g * torch.from_numpy(d)).sum() for g, d in pairs)
    second = torch.autograd.grad(along, inputs)

    def slope(*args: Any) -> Any:
        gradients = dl.grad(graph.in_numpy, (0, 1, 2))(*args)
        return sum(np.sum(g * d) for g, d in zip(gradients, graph.directions, strict=True))

    got_value, got_first = dl.value_and_grad(graph.in_numpy, (0, 1, 2))(*graph.inputs)
    got_second = dl.grad(slope, (0, 1, 2))(*graph.inputs)
    np.testing.assert_allclose(got_value, value.item(), rtol=1e-10)
    for got, expected in ((got_first, first), (got_second, second)):
        arrays = [e.detach().numpy() for e in expected]
        scale = max(np.max(np.abs(e)) for e in arrays)
        assert scale > 1e-3
        for g, e in zip(got, arrays, strict=True):
            np.testing.assert_allclose(g, e, rtol=1e-9, atol=1e-11 * scale)


@pytest.mark.parametrize("seed", SEEDS[:5])
def test_same_bits_at_any_number_of_threads(seed):
    graph = Graph(seed)
    function = dl.value_and_grad(graph.in_numpy, (0, 1, 2))
    results = []
    for n in (1, 2, 3):
        with team(n):
            value, gradients = function(*graph.inputs)
            results.append([np.asarray(value), *gradients])
    for other in results[1:]:
        for got, expected in zip(other, results[0], strict=True):
            assert_same_bits(got, expected)


# Mixed dtypes: bool, integers and both precisions, in programs, views, joins and reductions.

MIXED_DTYPES = ("?", "u1", "i4", "i8", "f4", "f8")
UNARY = [
    np.abs, np.sign, np.floor, np.logical_not, np.copy,
    lambda a: a * 2, lambda a: a * 0.5, lambda a: a + True, lambda a: a > 0,
    lambda a: a.astype("f4"), lambda a: a.astype("i4"), lambda a: a.astype(bool),
    lambda a: np.where(a > 1, a, 0), lambda a: np.clip(a, 0, 2),
    lambda a: a.T, lambda a: a[::-1], lambda a: a[:, 1:], lambda a: a[[0, -1, 0]],
    lambda a: np.reshape(a, (-1, 2)), lambda a: np.roll(a, 1, 0), lambda a: np.pad(a, 1),
    lambda a: np.repeat(a, 2, axis=0), lambda a: np.broadcast_to(a, (2, *np.shape(a)))[1],
    lambda a: np.sum(a, axis=0, keepdims=True), lambda a: np.mean(a, axis=1, keepdims=True),
    lambda a: np.max(a, axis=-1, keepdims=True), lambda a: np.any(a, axis=0, keepdims=True),
    lambda a: np.all(a, axis=1, keepdims=True),
]  # fmt: skip
BINARY = [
    np.add, np.multiply, np.maximum, np.less, np.equal, np.logical_and, np.matmul,
    lambda a, b: np.where(a > b, a, b), lambda a, b: a / (1.5 + b * b),
    lambda a, b: np.concatenate([a, b], axis=0), lambda a, b: np.stack([a, b], -1)[..., 1],
]  # fmt: skip


def _fits_exactly(result: np.ndarray) -> bool:
    """Whether a result is small enough to go on with, and no integer has wrapped around."""
    if result.dtype == np.float16 or result.ndim != 2 or not 0 < result.size <= 200:
        return False
    return bool(np.max(np.abs(result.astype(float))) < (1e3 if result.dtype.kind == "f" else 100))


def _mixed_graph(seed: int) -> tuple[Callable[..., Any], list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    inputs = [rng.integers(0, 4, (3, 4)).astype(dtype) for dtype in MIXED_DTYPES]
    inputs += [rng.normal(size=(1, 4)).astype("f4"), rng.normal(size=(3, 1))]
    values, steps = list(inputs), []
    while len(steps) < 4 + seed % 40:
        table, arity = (UNARY, 1) if rng.random() < 0.5 else (BINARY, 2)
        op = table[rng.integers(len(table))]
        picked = [max(0, len(values) - int(rng.geometric(0.15))) for _ in range(arity)]
        try:
            result = op(*(values[i] for i in picked))
        except (TypeError, ValueError):  # of shapes or dtypes that do not go together
            continue
        if _fits_exactly(result):
            steps.append((op, picked))
            values.append(result)

    def run(*args: Any) -> Any:
        known = list(args)
        for op, picked in steps:
            known.append(op(*(known[i] for i in picked)))
        return known[-1], known[-3], known[len(known) // 2], known[-1]

    return run, inputs


@pytest.mark.parametrize("seed", range(150))
def test_functions_of_mixed_dtypes_are_numpys(seed):
    f, inputs = _mixed_graph(seed)
    for got, expected in zip(dl.jit(f)(*inputs), f(*inputs), strict=True):
        assert got.dtype == expected.dtype
        assert got.shape == expected.shape
        tolerance = 2e-5 if expected.dtype.kind == "f" else 0
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=20 * tolerance)


def test_integers_that_are_embedded_twice():
    x = np.arange(6).reshape(2, 3)
    expected = np.pad(x, 1) + np.pad(x, 1)
    np.testing.assert_array_equal(dl.jit(lambda x: np.pad(x, 1) + np.pad(x, 1))(x), expected)
