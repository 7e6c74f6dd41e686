"""Every op of the table: the native plan against the NumPy reference, and gradient rules against
finite differences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from dlcore.graph.gradient import gradient
from dlcore.graph.shape import ROWS
from dlcore.graph.table.shaping import reduce
from dlcore.graph.tensor import TABLE, Tensor, apply, evaluate, literal
from graph_tools import (
    assert_gradients_close,
    fixed_leaf,
    leaves,
    numerical_gradient,
    row_leaf,
    run_native,
)

N = 7


@dataclass
class Case:
    """An expression over row leaves (arrays with N rows) and fixed leaves."""

    build: Callable[..., Tensor]
    rows: tuple[np.ndarray, ...] = ()
    fixed: tuple[np.ndarray, ...] = ()
    differentiable: bool = True


def _away_from_zero(shape, seed, low=0.2, high=2.0):
    rng = np.random.default_rng(seed)
    return rng.uniform(low, high, shape) * rng.choice([-1.0, 1.0], shape)


def _positive(shape, seed):
    return np.random.default_rng(seed).uniform(0.2, 2.0, shape)


def _well_apart(shape, seed):
    """Values that differ by more than the steps of finite differences."""
    values = np.random.default_rng(seed).permutation(np.arange(1.0, 1.0 + np.prod(shape)))
    return values.reshape(shape) / 20


A = _away_from_zero((N, 5), 1)
B = _away_from_zero((N, 5), 2)
P = _positive((N, 5), 3)
V = _away_from_zero((5,), 4)
REPEATED = np.round(2 * A) / 2
W = _away_from_zero((5, 4), 5)
LABELS = np.array([0, 4, 2, 2, 1, 3, 0])
SOFT = P / P.sum(axis=1, keepdims=True)
SCALE = _positive((N,), 6)
BETWEEN = np.random.default_rng(15).uniform(-0.9, 0.9, (N, 5))
QUOTIENTS = np.random.default_rng(19).integers(-3, 4, (N, 5)) + _positive((N, 5), 20) / 2.5
SOURCE = _away_from_zero((2, 4, 3), 16)
ROW_SOURCE = _away_from_zero((N, 4, 2), 17)
INDEX = np.array([[3, 0, 0, -1, 2]])
ROW_INDEX = np.random.default_rng(18).integers(-4, 4, (N, 3))


def _unary(name: str, x: np.ndarray = A, differentiable: bool = True) -> Case:
    return Case(lambda a: apply(name, a), (x,), differentiable=differentiable)


def _binary(name: str, differentiable: bool = True) -> Case:
    return Case(lambda a, v: apply(name, a, v), (A,), (V,), differentiable)


def _with_rule(x: Tensor) -> Tensor:
    """x**2 by way of a custom gradient."""
    return apply("custom_gradient", x * x, x, rule=lambda g: [g * (2.0 * x)])


def _with_infinities(name: str) -> Case:
    def build(a: Tensor, b: Tensor) -> Tensor:
        special = apply("where", b > 0.0, np.nan, -np.inf)
        return apply(name, apply("where", a > 0.0, a, special))

    return Case(build, (A, B), differentiable=False)


CASES: dict[str, dict[str, Case]] = {
    **{
        name: {"plain": _unary(name)}
        for name in [
            "copy",
            "negative",
            "absolute",
            "sign",
            "square",
            "exp",
            "expm1",
            "tanh",
            "sigmoid",
            "softplus",
            "erf",
            "relu",
            "gelu",
            "silu",
            "identity",
            "floor",
            "ceil",
            "trunc",
            "rint",
            "sin",
            "cos",
            "sinh",
            "cosh",
            "arctan",
            "arcsinh",
            "cbrt",
            "exp2",
        ]
    },
    **{
        name: {"plain": _unary(name, P)}
        for name in ["sqrt", "log", "log1p", "log2", "log10", "reciprocal"]
    },
    **{name: {"plain": _unary(name, BETWEEN)} for name in ["tan", "arcsin", "arccos", "arctanh"]},
    "arccosh": {"plain": _unary("arccosh", P + 1.0)},
    **{name: {"plain": _with_infinities(name)} for name in ["isnan", "isinf", "isfinite"]},
    **{
        name: {"row": Case(lambda a, v, n=name: apply(n, a > 0.0, v > 0.0), (A,), (V,), False)}
        for name in ["logical_and", "logical_or", "logical_xor"]
    },
    "logical_not": {
        "truth": Case(lambda a: apply("logical_not", a > 0.5), (A,), differentiable=False),
        "numbers": Case(lambda a: apply("logical_not", apply("floor", a)), (P,), (), False),
    },
    "stop_gradient": {"plain": _unary("stop_gradient", differentiable=False)},
    "custom_gradient": {"square": Case(_with_rule, (A,))},
    **{
        name: {"row": _binary(name), "same": Case(lambda a, b, n=name: apply(n, a, b), (A, B))}
        for name in [
            "add",
            "subtract",
            "multiply",
            "divide",
            "maximum",
            "minimum",
            "arctan2",
            "hypot",
            "copysign",
            "logaddexp",
        ]
    },
    **{
        name: {
            "row": Case(lambda a, v, n=name: apply(n, a, v), (V * QUOTIENTS,), (V,)),
            "same": Case(lambda a, b, n=name: apply(n, a, b), (B * QUOTIENTS, B)),
        }
        for name in ["remainder", "fmod", "floor_divide"]
    },
    "slice": {
        "steps": Case(
            lambda a: apply("slice", a, begin=(0, 1), step=(1, 2), extent=(ROWS, 2)) * 2.0, (A,)
        ),
        "of a slice": Case(
            lambda w: w[1:4, ::2][1:] * w[:2, :2],
            (),
            (W,),
        ),
    },
    "embed": {
        "one part": Case(
            lambda a: apply("embed", a, shape=(ROWS, 9), places=(((0, 3), (1, 1)),)), (A,)
        ),
        "parts that overlap": Case(
            lambda a, b: apply(
                "embed", a, b, shape=(ROWS, 12), places=(((0, 1), (1, 2)), ((0, 3), (1, 1)))
            ),
            (A, B),
        ),
    },
    "concatenate": {
        "columns": Case(lambda a, b: apply("concatenate", a, b, a * b, axis=1), (A, B)),
        "first axis": Case(
            lambda w, v: apply("concatenate", w.T, apply("reshape", v, shape=(1, 5)), axis=0),
            (),
            (W, V),
        ),
    },
    "take": {
        "shared indices": Case(lambda s, i: apply("take", s, i), (), (SOURCE, INDEX)),
        "indices of each row": Case(lambda s, i: apply("take", s, i), (ROW_SOURCE, ROW_INDEX)),
    },
    "scatter_add": {
        "shared indices": Case(
            lambda g, i: apply("scatter_add", g, i, extent=4),
            (),
            (np.ones((2, 5, 3)) + V[:, None], INDEX),
        ),
        "indices of each row": Case(
            lambda g, i: apply("scatter_add", g[:, :3], i, extent=4), (ROW_SOURCE, ROW_INDEX)
        ),
    },
    **{
        name: {"row": Case(lambda a, v, n=name: apply(n, a, v), (REPEATED,), (REPEATED[2],), False)}
        for name in ["greater", "greater_equal", "less", "less_equal", "equal", "not_equal"]
    },
    "power": {
        "tensor": Case(lambda a, v: a**v, (P,), (V,)),
        "cube": Case(lambda a: a**3.0, (A,)),
        "square": Case(lambda a: a**2, (A,)),
    },
    "leaky_relu": {"plain": Case(lambda a: apply("leaky_relu", a, 0.1), (A,))},
    "elu": {"plain": Case(lambda a: apply("elu", a, 1.5), (A,))},
    "where": {
        "mask": Case(lambda a, b: apply("where", a > b, a * 2.0, b), (A, B)),
        "scalar": Case(lambda a: apply("where", a > 0.0, a, 0.5), (A,)),
    },
    "cast": {
        "integers": Case(
            lambda k, a: a * apply("cast", k, dtype=np.dtype(float)),
            (np.arange(N * 5).reshape(N, 5), A),
            differentiable=False,
        )
    },
    "broadcast_to": {
        "row": Case(lambda v: apply("broadcast_to", v, shape=(ROWS, 5)) * 1.5, (), (V,)),
        "column": Case(
            lambda a: apply("broadcast_to", reduce("sum", a, 1, keepdims=True), shape=(ROWS, 5)),
            (A,),
        ),
    },
    "reshape": {
        "merge": Case(
            lambda a: apply("exp", apply("reshape", a, shape=(ROWS, 6))),
            (_away_from_zero((N, 2, 3), 8),),
        ),
        "ones": Case(lambda a: apply("reshape", a, shape=(ROWS, 1, 5)) * 2.0, (A,)),
        "of a transpose": Case(
            lambda w: apply("reshape", apply("transpose", w, axes=(1, 0)), shape=(10, 2)) * 3.0,
            (),
            (W,),
        ),
    },
    "transpose": {
        "matrix": Case(lambda w: apply("transpose", w, axes=(1, 0)) * 2.0, (), (W,)),
        "rows last": Case(lambda a, b: (a.T * b.T).T + a, (A, B)),
        "three axes": Case(
            lambda a: apply("exp", apply("transpose", a, axes=(0, 2, 1))),
            (_away_from_zero((N, 2, 3), 9),),
        ),
    },
    **{
        name: {
            "rows": Case(lambda a, n=name: reduce(n, a, 0), (A,)),
            "columns": Case(lambda a, n=name: reduce(n, a, 1), (A,)),
            "kept": Case(lambda a, n=name: a * reduce(n, a, 1, keepdims=True), (A,)),
            "all": Case(lambda a, n=name: reduce(n, apply("square", a)), (A,)),
            "middle": Case(lambda a, n=name: reduce(n, a, (0, 2)), (_well_apart((N, 4, 3), 10),)),
        }
        for name in ["sum", "mean", "max", "min"]
    },
    "matmul": {
        "weights": Case(lambda a, w: a @ w, (A,), (W,)),
        "both rows": Case(lambda a, b: a.T @ b, (A, B)),
        "transposed": Case(lambda a, w: apply("tanh", a @ w) @ w.T, (A,), (W,)),
        "batched": Case(
            lambda a, b: a @ b, (_away_from_zero((N, 2, 3), 11), _away_from_zero((N, 3, 4), 12))
        ),
        "batch of one matrix": Case(lambda a, w: a @ w, (_away_from_zero((N, 3, 5), 13),), (W,)),
    },
    **{
        name: {
            "matrix": _unary(name),
            "three axes": _unary(name, _away_from_zero((N, 2, 3), 14)),
            "vector": Case(lambda v, n=name: apply(n, v), (), (V,)),
        }
        for name in ("softmax", "log_softmax")
    },
    "softmax_cross_entropy": {
        "labels": Case(lambda a, k: apply("softmax_cross_entropy", a, k), (A, LABELS)),
        "targets": Case(lambda a, t: apply("softmax_cross_entropy", a, t), (A, SOFT)),
    },
    "softmax_cross_entropy_gradient": {
        "labels": Case(
            lambda a, k, s: apply("softmax_cross_entropy_gradient", a, k, s), (A, LABELS, SCALE)
        ),
        "targets": Case(
            lambda a, t, s: apply("softmax_cross_entropy_gradient", a, t, s), (A, SOFT, SCALE)
        ),
        "one scale": Case(
            lambda a, t: apply("softmax_cross_entropy_gradient", a, t, 0.25), (A, SOFT)
        ),
    },
}

# What these mean is decided by the executor: test_plan and test_train hold them against NumPy.
SOURCES = {"slot", "literal", "gather", "random"}
PARAMETERS = [
    pytest.param(case, id=f"{op} {name}")
    for op, cases in CASES.items()
    for name, case in cases.items()
]


def _graph(case: Case, dtype=np.float64) -> tuple[Tensor, dict[Tensor, np.ndarray]]:
    def typed(array):
        return array.astype(dtype) if array.dtype.kind == "f" else array

    rows = {row_leaf(f"r{i}", typed(a)): typed(a) for i, a in enumerate(case.rows)}
    fixed = {fixed_leaf(f"f{i}", typed(a)): typed(a) for i, a in enumerate(case.fixed)}
    feed = rows | fixed
    return case.build(*feed), feed


def test_every_op_of_the_table_has_a_case():
    assert set(CASES) | SOURCES == set(TABLE)


@pytest.mark.parametrize("fusion", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", PARAMETERS)
def test_native_equals_reference(case, dtype, fusion):
    """The plan computes what the table's NumPy reference says, fused or not."""
    node, feed = _graph(case, dtype)
    (expected,) = evaluate([node], feed, N)
    (got,) = run_native([node], feed, rows=N, fusion=fusion)
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    assert np.any(expected != 0)
    tolerance = 1e-12 if got.dtype == np.float64 else 2e-5
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("case", [p for p in PARAMETERS if p.values[0].differentiable])
def test_gradient_equals_finite_differences(case):
    """The gradient rules hold for every input of every op, through the native plan."""
    _check_gradients(*_graph(case))


@pytest.mark.parametrize("case", [p for p in PARAMETERS if p.values[0].differentiable])
def test_second_gradient_equals_finite_differences(case):
    """Gradient rules are graph expressions whose own gradients are right."""
    node, feed = _graph(case)
    inputs = _real_inputs(feed)
    total = literal(0.0, np.float64)
    for seed, first in enumerate(gradient(_weighted_sum(node, feed), inputs), start=20):
        total = total + _weighted_sum(first, feed, seed)
    _check_gradients(total, feed)


def _weighted_sum(node: Tensor, feed: dict[Tensor, np.ndarray], seed: int = 7) -> Tensor:
    """A scalar in which every element of the node counts differently; the weights join the feed."""
    if ROWS in node.shape[1:]:
        return _weighted_sum(node.T, feed, seed)
    shape = tuple(N if extent == ROWS else extent for extent in node.shape)
    values = np.random.default_rng(seed).uniform(0.5, 1.5, shape)
    make = row_leaf if ROWS in node.shape else fixed_leaf
    weight = make(f"weight{seed}", values)
    feed[weight] = values
    return reduce("sum", node * weight)


def _real_inputs(feed: dict[Tensor, np.ndarray]) -> list[Tensor]:
    return [node for node in feed if node.dtype.kind == "f"]


def _check_gradients(node: Tensor, feed: dict[Tensor, np.ndarray]) -> None:
    inputs = _real_inputs(feed)
    scalar = node if node.shape == () else _weighted_sum(node, feed)
    derivatives = gradient(scalar, inputs)
    used = {slot: feed[slot] for slot in leaves(derivatives)}
    for wrt, got in zip(inputs, run_native(derivatives, used, rows=N), strict=True):

        def f(x: np.ndarray, wrt: Tensor = wrt) -> float:
            return float(evaluate([scalar], {**feed, wrt: x}, N)[0])

        assert_gradients_close(got, numerical_gradient(f, feed[wrt]), 1e-6)


def test_gradient_check_rejects_zeros_and_nan():
    expected = np.array([1.0, 2.0])
    for wrong in (np.zeros(2), np.array([1.0, np.nan]), np.array([1.0, 2.00001])):
        with pytest.raises(AssertionError):
            assert_gradients_close(wrong, expected)


def test_relu_passes_nan_on():
    x = np.array([[-1.0, np.nan, 2.0]])
    node = row_leaf("x", x)
    (got,) = run_native([apply("relu", node)], {node: x}, rows=1)
    np.testing.assert_array_equal(got, [[0.0, np.nan, 2.0]])


def test_gradient_of_relu_at_zero_is_zero():
    x = np.zeros((1, 3))
    node = row_leaf("x", x)
    (g,) = gradient(reduce("sum", apply("relu", node)), [node])
    (got,) = run_native([g], {node: x}, rows=1)
    np.testing.assert_array_equal(got, np.zeros((1, 3)))


def test_gradient_stops():
    node = row_leaf("a", A)
    (g,) = gradient(reduce("sum", apply("stop_gradient", node) * node), [node])
    (got,) = run_native([g], {node: A}, rows=N)
    np.testing.assert_array_equal(got, A)


def test_only_scalars_have_gradients():
    node = row_leaf("x", A)
    with pytest.raises(ValueError, match=r"only a scalar has a gradient; this has shape \(rows, 5"):
        gradient(node * 2.0, [node])


def test_gradient_of_what_is_not_used_is_zero():
    a, v = row_leaf("a", A), fixed_leaf("v", V)
    (g,) = gradient(reduce("sum", a), [v])
    (got,) = run_native([g], {}, rows=N)
    np.testing.assert_array_equal(got, np.zeros(5))


def test_data_dependent_control_flow_is_refused():
    with pytest.raises(TypeError, match="not known while tracing"):
        bool(row_leaf("x", A) > 0.0)


def test_shapes_that_do_not_fit_are_named():
    a, w = row_leaf("a", A), fixed_leaf("w", np.ones((4, 3)))
    with pytest.raises(ValueError, match="a has 5 columns, but b has 4 rows"):
        a @ w
    with pytest.raises(ValueError, match=r"shapes \(rows, 5\) and \(4, 3\) do not broadcast"):
        a + w
