"""Graphs for many values of a node at once: every rule, beside each value by itself."""

import pickle
from collections import OrderedDict

import numpy as np
import pytest

import dlcore as dl
from dlcore import jacobians
from dlcore.graph import batching, plan_cache
from dlcore.graph.gradient import gradient
from dlcore.graph.shape import MAX_NDIM, ROWS
from dlcore.graph.table.shaping import reduce
from dlcore.graph.tensor import TABLE, Slot, apply, as_tensor, evaluate, leaf
from graph_tools import fixed_leaf, run_native

RNG = np.random.default_rng(0)
V, M, W = RNG.normal(size=4), RNG.normal(size=(3, 4)), RNG.normal(size=(4, 2))
STACK = RNG.normal(size=(5, 2, 3))
LABELS, TARGETS = np.array([0, 3, 1]), RNG.random((3, 4))
INDEX, INDEX_OF_ROWS = np.array([[2, 0, 2, 1, 1]]), np.array([[2, 0], [3, 3], [0, 1]])
PLACES = (((0, 1), (1, 2)), ((0, 3), (1, 1)))


def _taken(x):
    return apply("take", apply("reshape", x, shape=(1, 3, 4)), as_tensor(INDEX))


def _taken_by_row(x):
    return apply("take", apply("reshape", x, shape=(3, 4, 1)), as_tensor(INDEX_OF_ROWS))


def _loss(logits, targets):
    return apply("softmax_cross_entropy", logits, targets)


def _loss_gradient(logits, targets, scale):
    return apply("softmax_cross_entropy_gradient", logits, as_tensor(targets), scale)


# Functions of x (3, 4)
CASES = {
    "elementwise": lambda x: np.tanh(x) * V + M,
    "fewer axes than what it meets": lambda x: x[1] * M - x[:, :1],
    "where": lambda x: np.where(x > 0, x * 2.0, M),
    "dtypes": lambda x: apply("cast", x, dtype=np.dtype(np.float32)) * np.float32(3),
    "identity": lambda x: apply("identity", x) + apply("stop_gradient", x),
    "broadcast_to": lambda x: np.broadcast_to(x[:, :1], (2, 3, 4)) * 2.0,
    "reshape": lambda x: np.reshape(x, (2, 6)) * np.ones(6),
    "transpose": lambda x: np.transpose(np.reshape(x, (3, 2, 2)), (1, 2, 0)) * np.ones(3),
    "slice": lambda x: x[1:, ::2] * 3.0,
    "embed": lambda x: apply("embed", x, as_tensor(M), shape=(3, 12), places=PLACES),
    "concatenate": lambda x: np.concatenate([x, M, x * 2.0], axis=1),
    "sum": lambda x: np.sum(x, axis=0) + np.sum(x),
    "mean": lambda x: np.mean(x, axis=1, keepdims=True) * x,
    "max": lambda x: np.max(x, axis=1) + np.max(x, axis=(0, 1)),
    "min": lambda x: np.min(x, axis=0),
    "matrix from the right": lambda x: x @ W,
    "matrix from the left": lambda x: M.T @ x,
    "vector from the right": lambda x: x @ V,
    "vector from the left": lambda x: M @ x[0],
    "vectors": lambda x: x[0] @ V,
    "matrix times itself": lambda x: x @ np.transpose(x),
    "stack from the left": lambda x: STACK @ x,
    "stack from the right": lambda x: np.transpose(x) @ np.swapaxes(STACK, 1, 2),
    "stacks": lambda x: np.reshape(x, (3, 1, 4)) @ np.reshape(x, (3, 4, 1)),
    "take": lambda x: _taken(x),
    "take by row": lambda x: _taken_by_row(x),
    "take of a shared array": lambda x: apply(
        "take", as_tensor(M[None]), apply("cast", x[:1] > 0, dtype=np.dtype(np.int64))
    ),
    "scatter_add": lambda x: gradient(np.sum(_taken(x) ** 2), [x])[0],
    "scatter_add by row": lambda x: gradient(np.sum(_taken_by_row(x) ** 2), [x])[0],
    "softmax": lambda x: apply("softmax", x) + apply("softmax", x[0]),
    "log_softmax": lambda x: apply("log_softmax", x),
    "softmax_cross_entropy of logits": lambda x: _loss(x, as_tensor(TARGETS)),
    "softmax_cross_entropy of targets": lambda x: _loss(as_tensor(M), apply("square", x)),
    "softmax_cross_entropy_gradient": lambda x: _loss_gradient(x, TARGETS, as_tensor(V[:3])),
    "its scale": lambda x: _loss_gradient(as_tensor(M), LABELS, x[:, 0]),
    "its one scale": lambda x: _loss_gradient(as_tensor(M), LABELS, reduce("sum", x)),
    "logits and scale": lambda x: _loss_gradient(x, TARGETS, reduce("sum", x)),
}


def _of_several(build, count=5):
    """The results for `count` values, at once and by themselves."""
    node, values = fixed_leaf("x", M), RNG.normal(size=(count, 3, 4))
    output = build(node)
    stacked = fixed_leaf("values", values)
    (together,) = batching.batched([output], node, stacked)
    separate = [evaluate([output], {node: value}, 1)[0] for value in values]
    return together, {stacked: values}, np.stack(separate)


@pytest.mark.parametrize("build", CASES.values(), ids=CASES)
def test_a_rule_gives_what_each_value_gives(build):
    together, feed, expected = _of_several(build)
    (got,) = evaluate([together], feed, 1)
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, rtol=1e-5 if got.dtype == np.float32 else 1e-12)
    (native,) = run_native([together], feed, rows=1)
    np.testing.assert_allclose(native, expected, rtol=1e-5 if got.dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("name", [name for name in CASES if name != "dtypes"])
def test_a_gradient_in_a_batch_is_that_of_each_value(name):
    """Of a sum of squares, so that it depends on the value."""

    def build(x):
        return gradient(reduce("sum", apply("square", CASES[name](x))), [x])[0]

    together, feed, expected = _of_several(build)
    (got,) = evaluate([together], feed, 1)
    np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-12)


def test_every_op_is_elementwise_or_has_a_rule_or_none_can_be():
    without = {name for name, op in TABLE.items() if op.lowering != "map"} - set(batching.RULES)
    assert without == {"slot", "literal", "gather", "random", "custom_gradient"}


def test_what_does_not_depend_on_the_node_is_computed_once():
    node, other = fixed_leaf("x", V), fixed_leaf("m", M)
    shared = np.exp(other)
    values = fixed_leaf("values", RNG.normal(size=(7, 4)))
    product, alone = batching.batched([shared @ node, shared], node, values)
    assert product.shape == (7, 3)
    assert alone.op.name == "broadcast_to"
    assert alone.inputs == (shared,)


def test_what_has_no_rule_is_refused():
    values = fixed_leaf("values", RNG.normal(size=(2, 3, 4)))
    node = fixed_leaf("x", M)
    own = apply("custom_gradient", node, node, rule=lambda g: [g])
    with pytest.raises(batching.CannotBatch, match="custom_gradient"):
        batching.batched([own], node, values)
    many = np.reshape(node, (3, 4, *(1,) * (MAX_NDIM - 2)))
    with pytest.raises(batching.CannotBatch, match="reshape"):
        batching.batched([many], node, values)
    with pytest.raises(batching.CannotBatch, match="labels"):
        batching.batched([_loss(node, as_tensor(LABELS))], node, values)
    rows = leaf(Slot("rows", "stream", np.dtype(float), (ROWS, 4)))
    with pytest.raises(batching.CannotBatch, match="multiply"):
        batching.batched([rows * node[0]], node, values)


# Jacobians, which are made of them


def _layer(w, b):
    return np.tanh(M @ w + b) * np.arange(1.0, 3.0)


@pytest.fixture(params=["at once", "in chunks", "by runs"])
def passes(request, monkeypatch):
    """All passes as one graph, three at a time with the last chunk filled up, or one by one."""
    monkeypatch.setattr(plan_cache.PLANS, "_plans", OrderedDict())  # of other passes
    if request.param == "in chunks":
        monkeypatch.setattr(jacobians, "_PASSES_BYTES", 1)
        monkeypatch.setattr(jacobians, "_FEWEST_PASSES", 3)
    calls = []

    def watched(*arguments):
        calls.append(arguments)
        if request.param == "by runs":
            raise batching.CannotBatch
        return batching.batched(*arguments)

    monkeypatch.setattr(jacobians, "batched", watched)
    yield
    assert calls


def _jacobian_by_differences(f, x, step=1e-6):
    columns = []
    for i in range(x.size):
        shift = np.zeros(x.size)
        shift[i] = step
        shift = shift.reshape(x.shape)
        columns.append((f(x + shift) - f(x - shift)) / (2 * step))
    return np.stack(columns, axis=-1).reshape(*np.shape(f(x)), *x.shape)


@pytest.mark.usefixtures("passes")
@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize("f", [
    lambda x: np.tanh(M @ x),  # as many results as arguments
    lambda x: np.sum(np.sin(x) * x, axis=0)[:, None] * np.ones(2),  # fewer: by rows
    lambda x: np.exp(np.concatenate([x, x * x, np.transpose(x) @ x]))[:, :, None],  # by columns
], ids=["square", "by rows", "by columns"])  # fmt: skip
def test_a_jacobian_is_that_of_differences_however_it_is_computed(f, traced):
    x = RNG.normal(size=(4, 4))
    got = dl.jit(dl.jacobian(f))(x) if traced else dl.jacobian(f)(x)
    assert got.shape == (*f(x).shape, 4, 4)
    assert got.flags.c_contiguous
    np.testing.assert_allclose(got, _jacobian_by_differences(f, x), rtol=1e-6, atol=1e-8)


@pytest.mark.usefixtures("passes")
def test_columns_for_several_arguments_have_their_structure_and_dtypes():
    """More results than arguments, one of which is empty and one a number."""

    def f(parameters, scale):
        spread = np.reshape(parameters["w"], (2, 1)) * np.ones(9) + np.sum(parameters["none"])
        return scale * spread

    w, none = np.array([1.5, -2.0], np.float32), np.zeros((0, 3))
    parameters, scale = dl.jacobian(f, (0, 1))({"w": w, "none": none}, 3.0)
    assert parameters["w"].dtype == np.float32
    np.testing.assert_array_equal(parameters["w"], 3 * np.eye(2)[:, None].repeat(9, 1))
    assert parameters["none"].shape == (2, 9, 0, 3)
    np.testing.assert_array_equal(scale, w[:, None].repeat(9, 1))


@pytest.mark.usefixtures("passes")
def test_rules_of_the_user_that_are_not_linear_hold_for_every_row():
    """By columns they would be differentiated themselves."""

    @dl.custom_gradient
    def clipped(x):
        return x * 1.0, lambda g: np.clip(g, -0.5, 0.5)

    def f(x):
        return clipped(x) * np.arange(1.0, 7.0)

    np.testing.assert_array_equal(dl.jacobian(f)(2.0), np.full(6, 0.5))


@pytest.mark.parametrize("transform", [
    lambda n: dl.hessian(lambda w: np.sum(np.tanh(np.ones((5, n)) @ w) ** 2)),
    lambda n: dl.jacobian(lambda w: np.tanh(np.ones((50, n)) @ w)),
], ids=["hessian", "columns"])  # fmt: skip
def test_derivatives_within_a_traced_function_are_one_graph(transform):
    """It does not grow with the number of arguments."""

    def records(n):
        f = dl.jit(transform(n))
        f(np.ones(n))
        return len(f.plan_summary().splitlines())

    assert records(3) == records(30)


@pytest.mark.parametrize("traced", [False, True])
def test_a_derivative_of_too_many_axes_for_a_graph_is_computed_all_the_same(traced):
    x, shape = np.ones((1, 1, 1, 2, 1)), (1, 1, 1, 2, 1)
    f = dl.jacobian(lambda x: x * 2.0)
    if traced:
        with pytest.raises(ValueError, match="more than 8 axes"):
            dl.jit(f)(x)
    else:
        np.testing.assert_array_equal(f(x), 2 * np.eye(2).reshape(*shape, *shape))
    columns = dl.jacobian(lambda x: np.ones((2,) * 5) * np.sum(x))
    np.testing.assert_array_equal(columns(np.ones((1, 1, 2, 1))), np.ones((2,) * 5 + (1, 1, 2, 1)))


def test_what_cannot_be_one_graph_is_tried_once():
    traces = []

    def f(x):
        traces.append(1)
        many = np.reshape(x, (2, *(1,) * (MAX_NDIM - 1)))
        return np.reshape(np.exp(many), 2)

    jacobian = dl.jacobian(f)
    x = np.array([0.0, 1.0])
    for _ in range(2):
        np.testing.assert_allclose(jacobian(x), np.diag(np.exp(x)))
    several = len(traces)
    jacobian(x)
    assert len(traces) == several


@pytest.mark.parametrize("traced", [False, True])
def test_the_memory_of_many_passes_is_bounded(traced, monkeypatch):
    """64 passes through arrays of 1.6 MB, as one graph or by some at a time."""
    monkeypatch.setattr(plan_cache.PLANS, "_plans", OrderedDict())
    wide = RNG.normal(size=(200_000, 64))

    def memory():
        hessian = dl.hessian(lambda w: np.sum(np.tanh(wide @ w) ** 2))
        f = dl.jit(hessian) if traced else hessian
        f(np.ones(64) / 64)
        (summary,) = (f if traced else hessian._pull_rows).plan_summary().splitlines()[-1:]
        return int(summary.split()[4])

    assert memory() < 100e6
    if traced:
        monkeypatch.setattr(jacobians, "_PASSES_BYTES", 1 << 40)
        assert memory() > 150e6


def _gentle(x):
    return np.tanh(x) * 2.0


def _sum_of_gentle(x):
    return np.sum(_gentle(x))


def test_a_jacobian_can_be_pickled():
    x = RNG.normal(size=3)
    for derivative in (dl.jacobian(_gentle), dl.hessian(_sum_of_gentle)):
        again = pickle.loads(pickle.dumps(derivative))
        np.testing.assert_array_equal(again(x), derivative(x))


def test_random_numbers_are_the_same_in_all_chunks(monkeypatch):
    monkeypatch.setattr(jacobians, "_PASSES_BYTES", 1)
    monkeypatch.setattr(jacobians, "_FEWEST_PASSES", 2)
    jacobian = dl.jacobian(lambda x: x * dl.random.normal((), "float64"))
    got = jacobian(np.ones(7))
    np.testing.assert_array_equal(got, got[0, 0] * np.eye(7))
    assert got[0, 0] != 0
