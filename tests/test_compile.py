"""Large graphs: compiling needs no deep stack, and fusion, placement and barriers stay right."""

from __future__ import annotations

import itertools
import sys
from contextlib import contextmanager

import numpy as np
import pytest

from dlcore import config
from dlcore.graph import arena, lower
from dlcore.graph.canonical import canonicalise
from dlcore.graph.encode import ARENA
from dlcore.graph.fusion import base, fuse
from dlcore.graph.gradient import gradient
from dlcore.graph.shape import ROWS
from dlcore.graph.table.shaping import reduce
from dlcore.graph.tensor import apply, evaluate
from graph_tools import assert_gradients_close, compile_outputs, fixed_leaf, row_leaf, run_native
from plan_runs import large_teams

N_ROWS, WIDTH = 5, 6


@contextmanager
def shallow_stack(frames=60):
    """Lets Python code call no more than some frames deep from here."""
    limit = sys.getrecursionlimit()
    depth = next(n for n in itertools.count() if not _has_frame(n))
    sys.setrecursionlimit(depth + frames)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def _has_frame(depth):
    try:
        sys._getframe(depth)
    except ValueError:
        return False
    return True


def orthogonal(rng):
    """A matrix that neither grows nor shrinks what it is applied to."""
    return np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0]


def test_a_thousand_different_layers_and_their_gradient():
    rng = np.random.default_rng(0)
    x0 = rng.normal(size=(N_ROWS, WIDTH))
    weights = [orthogonal(rng) for _ in range(1000)]
    biases = [0.1 * rng.normal(size=WIDTH) for _ in range(1000)]
    x = row_leaf("x", x0)
    w = [fixed_leaf(f"w{i}", value) for i, value in enumerate(weights)]
    b = [fixed_leaf(f"b{i}", value) for i, value in enumerate(biases)]
    feed = {x: x0, **dict(zip(w, weights, strict=True)), **dict(zip(b, biases, strict=True))}
    checked = (0, 500, 999)
    with shallow_stack():
        y = x
        for weight, bias in zip(w, b, strict=True):
            y = apply("tanh", y @ weight + bias)
        gradients = gradient(reduce("sum", y), [*w, *b])
        outputs = [y, *(gradients[i] for i in checked), *(gradients[1000 + i] for i in checked)]
        got = run_native(outputs, feed, rows=N_ROWS)

    layers = [x0]
    for weight, bias in zip(weights, biases, strict=True):
        layers.append(np.tanh(layers[-1] @ weight + bias))
    adjoint = np.ones_like(x0)
    by_weight, by_bias = {}, {}
    for i in reversed(range(1000)):
        inner = adjoint * (1 - layers[i + 1] ** 2)
        by_weight[i], by_bias[i] = layers[i].T @ inner, inner.sum(axis=0)
        adjoint = inner @ weights[i].T
    np.testing.assert_allclose(got[0], layers[-1], rtol=1e-9)
    expected = [*(by_weight[i] for i in checked), *(by_bias[i] for i in checked)]
    for actual, wanted in zip(got[1:], expected, strict=True):
        assert np.max(np.abs(wanted)) > 0
        np.testing.assert_allclose(actual, wanted, rtol=1e-8, atol=1e-9 * np.max(np.abs(wanted)))


def fold(value, thresholds):
    """x = |x - t| again and again: exact whatever is fused, and sensitive to every t."""
    for t in thresholds:
        value = apply("absolute", value - float(t))
    return value


def test_twenty_thousand_elementwise_nodes():
    rng = np.random.default_rng(1)
    x0 = rng.normal(size=(N_ROWS, WIDTH))
    thresholds = rng.choice(rng.uniform(size=8), size=10_000)
    x = row_leaf("x", x0)
    with shallow_stack():
        (got,) = run_native([fold(x, thresholds)], {x: x0}, rows=N_ROWS)
    expected = x0
    for t in thresholds:
        expected = np.abs(expected - t)
    np.testing.assert_array_equal(got, expected)


def test_the_gradient_of_two_thousand_elementwise_nodes():
    rng = np.random.default_rng(1)
    x0 = rng.normal(size=(N_ROWS, WIDTH))
    thresholds = rng.choice(rng.uniform(size=8), size=1000)
    x = row_leaf("x", x0)
    with shallow_stack():
        derivatives = gradient(reduce("sum", fold(x, thresholds)), [x])
        (got,) = run_native(derivatives, {x: x0}, rows=N_ROWS)
    value, sign = x0, np.ones_like(x0)
    for t in thresholds:
        sign = sign * np.sign(value - t)
        value = np.abs(value - t)
    assert len(np.unique(sign)) == 2
    np.testing.assert_array_equal(got, sign)


def test_a_weight_that_five_hundred_products_share():
    rng = np.random.default_rng(2)
    x0, w0 = rng.normal(size=(N_ROWS, WIDTH)), np.abs(orthogonal(rng))
    w0 /= np.max(np.abs(np.linalg.eigvals(w0)))
    x, w = row_leaf("x", x0), fixed_leaf("w", w0)
    with shallow_stack():
        y = x
        for _ in range(500):
            y = apply("relu", y @ w)
        (derivative,) = gradient(reduce("sum", y), [w])
        got = run_native([y, derivative], {x: x0, w: w0}, rows=N_ROWS)

    layers = [x0]
    for _ in range(500):
        layers.append(np.maximum(layers[-1] @ w0, 0))
    adjoint, expected = np.ones_like(x0), np.zeros_like(w0)
    for before, after in zip(layers[-2::-1], layers[:0:-1], strict=True):
        adjoint = adjoint * (after > 0)
        expected += before.T @ adjoint
        adjoint = adjoint @ w0.T
    assert np.max(layers[-1]) > 1e-3
    np.testing.assert_allclose(got[0], layers[-1], rtol=1e-9)
    assert_gradients_close(got[1], expected, rtol=1e-9)


def test_a_long_chain_of_views():
    x0 = np.random.default_rng(3).normal(size=(N_ROWS, 4))
    x = row_leaf("x", x0)
    with shallow_stack():
        y = x
        for _ in range(5000):
            y = apply("transpose", apply("reshape", y.T, shape=(4, 1, ROWS)), axes=(2, 1, 0))
            y = apply("reshape", y, shape=(ROWS, 4))
        (got,) = run_native([y * 2.0], {x: x0}, rows=N_ROWS)
    np.testing.assert_array_equal(got, 2 * x0)


# Random graphs

UNARY = ("tanh", "sigmoid", "negative", "erf")
BINARY = ("add", "subtract", "multiply")
CHOOSING = ("maximum", "greater")


def random_outputs(seed):
    """Outputs of a graph with shared, recomputed, reduced and transposed nodes; what to feed it."""
    rng = np.random.default_rng(seed)
    x0, w0 = rng.normal(size=(N_ROWS, WIDTH)), orthogonal(rng)
    x, w = row_leaf("x", x0), fixed_leaf("w", w0)
    nodes = [x]

    def recent():
        return nodes[rng.integers(max(0, len(nodes) - 8), len(nodes))]

    def step(kind):
        if kind < 3:
            return apply(str(rng.choice(UNARY)), recent())
        if kind < 5:
            return apply(str(rng.choice(BINARY)), recent(), recent())
        if kind == 5:  # the shift: rounding must not decide between equal operands
            chosen = apply(str(rng.choice(CHOOSING)), recent(), recent() + 0.37)
            return apply("cast", chosen, dtype=x.dtype)
        if kind == 6:
            return apply("where", apply("greater", recent(), recent() + 0.37), recent(), 0.5)
        if kind == 7:
            return recent() - reduce("mean", recent(), 1, keepdims=True)
        if kind == 8:
            return apply("tanh", recent() @ (recent().T @ recent()))
        return recent() @ w

    for kind in rng.integers(10, size=rng.integers(5, 80)):
        nodes.append(step(kind))
    loss = reduce("mean", sum(nodes[-3:], 0.0))
    return [loss, *gradient(loss, [w]), nodes[-1] + x, nodes[len(nodes) // 2] + x], {x: x0, w: w0}


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs_agree_with_numpy_fused_or_not_and_at_any_number_of_threads(seed):
    outputs, feed = random_outputs(seed)
    with large_teams():
        fused = run_native(outputs, feed, rows=N_ROWS)
        shared = run_native(outputs, feed, rows=N_ROWS, threads=3)
        unfused = run_native(outputs, feed, rows=N_ROWS, fusion=False)
    expected = evaluate(outputs, feed, N_ROWS)
    for got, at_three, alone, wanted in zip(fused, shared, unfused, expected, strict=True):
        assert got.tobytes() == at_three.tobytes()
        atol = 1e-10 * max(1.0, np.max(np.abs(wanted)))
        np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=atol)
        np.testing.assert_allclose(alone, wanted, rtol=1e-9, atol=atol)


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("seed", range(40))
def test_launches_of_random_graphs_read_only_what_is_there(seed, enabled):
    outputs = canonicalise(random_outputs(seed)[0])
    made = set()
    for launch in fuse(outputs, enabled=enabled):
        assert launch.fits
        for node in launch.inputs:
            assert base(node).op.lowering == "leaf" or base(node) in made
        assert made.isdisjoint(launch.outputs), "a result is computed twice"
        made.update(launch.outputs)
    assert all(base(node).op.lowering == "leaf" or base(node) in made for node in outputs)


# Rows that would lie whole pages apart


def hidden_layer(width):
    """The outputs of a product of so many columns that more is made of; what to feed it."""
    rng = np.random.default_rng(3)
    x0, w0 = rng.normal(size=(9, 4)), rng.normal(size=(4, width))
    x, w = row_leaf("x", x0), fixed_leaf("w", w0)
    return apply("tanh", x @ w), {x: x0, w: w0}


def strides_of(outputs, width):
    """The strides of the tensors of so many columns that lie in the arena."""
    plan, _ = compile_outputs(outputs, capacity=9, schedule="whole-batch")
    views = [view for record in plan.records for view in (*record.outputs, *record.inputs)]
    return {view.stride for view in views if view.slot == ARENA and view.shape == (ROWS, width)}


@pytest.mark.parametrize(("width", "row"), [(512, 520), (1024, 1032), (500, 500), (256, 256)])
def test_rows_of_products_that_would_lie_whole_pages_apart_are_a_line_longer(width, row):
    """Of doubles, 8 of which are a line, and 512 a page."""
    hidden, feed = hidden_layer(width)
    outputs = [reduce("sum", hidden * hidden, 1), hidden.T @ hidden]
    assert strides_of(outputs, width) == {(row, 1)}
    for got, expected in zip(
        run_native(outputs, feed, rows=9), evaluate(outputs, feed, 9), strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


def test_what_is_read_in_another_shape_has_no_longer_rows():
    """A reshape is a view of contiguous memory."""
    hidden, feed = hidden_layer(512)
    outputs = [reduce("max", apply("reshape", hidden, shape=(ROWS, 16, 32)), 2), hidden.T @ hidden]
    assert strides_of(outputs, 512) == {(512, 1)}
    for got, expected in zip(
        run_native(outputs, feed, rows=9), evaluate(outputs, feed, 9), strict=True
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


def test_longer_rows_change_no_bit_of_random_graphs(monkeypatch):
    monkeypatch.setattr(config, "schedule", "whole-batch")
    with_longer_rows = 0
    for seed in range(40):
        outputs, feed = random_outputs(seed)
        with monkeypatch.context() as context:
            expected = run_native(outputs, feed, rows=N_ROWS)
            context.setattr(lower, "L1_SET_BYTES", 8)  # so that rows of all products are longer
            got = run_native(outputs, feed, rows=N_ROWS)
            with_longer_rows += (WIDTH + 8, 1) in strides_of(outputs, WIDTH)
        assert [array.tobytes() for array in got] == [array.tobytes() for array in expected]
    assert with_longer_rows > 20


# Placement


def lowest_offset(size, first, last, placed):
    """By trying every multiple of 64, from 0 on."""
    live = [(o, o + n) for o, n, f, e in placed if n > 0 and f <= last and first <= e]
    return next(
        offset
        for offset in itertools.count(0, 64)
        if size == 0 or all(offset + size <= begin or end <= offset for begin, end in live)
    )


@pytest.mark.parametrize("seed", range(30))
def test_the_largest_buffers_come_first_each_at_its_lowest_free_offset(seed):
    rng = np.random.default_rng(seed)
    buffers = {}
    for key in range(int(rng.integers(1, 40))):
        first, last = sorted(int(t) for t in rng.integers(-1, 20, size=2))
        buffers[key] = (int(rng.choice([0, 4, 64, 100, 640, rng.integers(2000)])), first, last)
    offsets, total = arena.place(buffers)
    placed = []
    for key in sorted(buffers, key=lambda key: -buffers[key][0]):
        size, first, last = buffers[key]
        assert offsets[key] == lowest_offset(size, first, last, placed)
        placed.append((offsets[key], size, first, last))
    assert total == max(-(-(offset + size) // 64) * 64 for offset, size, _, _ in placed)


def test_an_arena_of_nothing():
    assert arena.place({}) == ({}, 0)


def test_an_arena_beyond_63_bits_is_refused():
    with pytest.raises(OverflowError, match="63 bits"):
        arena.place({"a": (2**62, 0, 1), "b": (2**62, 1, 2)})
