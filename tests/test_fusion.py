"""Fusion: what runs together, and that it changes nothing but the records."""

from __future__ import annotations

import numpy as np
import pytest

import dlcore as dl
from dlcore import config
from dlcore.graph.canonical import canonicalise
from dlcore.graph.fusion import fuse
from dlcore.graph.gradient import gradient
from dlcore.graph.shape import ROWS
from dlcore.graph.table.shaping import reduce
from dlcore.graph.tensor import apply, topological
from dlcore.nn import losses, tracing
from graph_tools import compile_outputs, fixed_leaf, row_leaf, run_native

X = np.random.default_rng(0).normal(size=(9, 5))
W = np.random.default_rng(1).normal(size=(5, 4))
B = np.random.default_rng(2).normal(size=4)


def labels(outputs, **options):
    plan, _ = compile_outputs(outputs, capacity=16, **options)
    return [record.label for record in plan.records]


def test_bias_and_activation_run_in_the_product_store():
    x, w, b = row_leaf("x", X), fixed_leaf("w", W), fixed_leaf("b", B)
    y = apply("tanh", x @ w + b)
    assert labels([y]) == ["matmul + add tanh"]
    assert labels([y], fusion=False) == ["matmul", "add", "tanh"]


def test_fused_and_unfused_agree():
    x, w, b = row_leaf("x", X), fixed_leaf("w", W), fixed_leaf("b", B)
    z = x @ w + b
    outputs = [apply("gelu", z), z, reduce("sum", apply("exp", z) * 0.5, 0)]
    feed = {x: X, w: W, b: B}
    fused = run_native(outputs, feed, rows=9)
    unfused = run_native(outputs, feed, rows=9, fusion=False)
    for got, expected in zip(fused, unfused, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-13)


def test_a_product_that_is_read_elsewhere_is_kept():
    x, w = row_leaf("x", X), fixed_leaf("w", W)
    z = x @ w
    y = apply("tanh", z)
    again = z.T @ y
    assert labels([y, again], schedule="whole-batch") == ["matmul + tanh", "matmul"]
    got = run_native([y, again], {x: X, w: W}, rows=9)
    expected = np.tanh(X @ W)
    np.testing.assert_allclose(got[0], expected, rtol=1e-12)
    np.testing.assert_allclose(got[1], (X @ W).T @ expected, rtol=1e-12)


def test_what_depends_on_the_product_otherwise_stays_out_of_its_store():
    """Softmax written out: the division needs the sum over the rows that the store makes."""
    x, w = row_leaf("x", X), fixed_leaf("w", W)
    e = apply("exp", x @ w)
    y = e / reduce("sum", e, 1, keepdims=True)
    (got,) = run_native([y], {x: X, w: W}, rows=9)
    expected = np.exp(X @ W)
    np.testing.assert_allclose(got, expected / expected.sum(axis=1, keepdims=True), rtol=1e-12)


def test_crossed_groups_do_not_make_a_cycle():
    """Two products whose stores would each need the other's result."""
    x, w = row_leaf("x", X), fixed_leaf("w", W)
    p, q = x @ w, (x * 2.0) @ w
    a, b = apply("exp", p), apply("tanh", q)
    outputs = [a, b, a * b + p, a + q]
    got = run_native(outputs, {x: X, w: W}, rows=9)
    ea, eb = np.exp(X @ W), np.tanh(2 * X @ W)
    for result, expected in zip(got, [ea, eb, ea * eb + X @ W, ea + 2 * X @ W], strict=True):
        np.testing.assert_allclose(result, expected, rtol=1e-12)


def test_equal_expressions_merge_and_dead_ones_go():
    x = row_leaf("x", X)
    apply("exp", x)
    a, b = apply("tanh", x * 2.0), apply("tanh", x * 2.0)
    (y,) = canonicalise([a + b])
    names = [node.op.name for node in topological([y])]
    assert names.count("tanh") == 1
    assert "exp" not in names


def test_positive_and_negative_zero_stay_apart():
    """Literals merge by their bits: 1 / (x * 0.0) and 1 / (x * -0.0) differ in sign."""
    x = row_leaf("x", X)
    outputs = [1.0 / (x * 0.0), 1.0 / (x * -0.0)]
    positive, negative = run_native(outputs, {x: np.abs(X)}, rows=9)
    assert np.all(np.isposinf(positive))
    assert np.all(np.isneginf(negative))


def test_a_comparison_that_a_reduction_computes_again_keeps_what_it_compares():
    x, w = row_leaf("x", X), fixed_leaf("w", W)
    product = x @ w
    positive = apply("greater", product, 0.0)
    y = apply("where", positive, apply("exp", product), product)
    got, count = run_native([y, reduce("sum", positive, 0)], {x: X, w: W}, rows=9)
    expected = X @ W
    np.testing.assert_allclose(got, np.where(expected > 0, np.exp(expected), expected), rtol=1e-12)
    np.testing.assert_array_equal(count, (expected > 0).sum(axis=0))


def test_gradients_of_activations_are_one_instruction():
    """Unless what they are made of differs in a number or a factor, or is read elsewhere."""
    x, g = row_leaf("x", X), row_leaf("g", X)
    values = np.stack([X[0], -X[0], 0 * X[0]] * 3)
    values[1, 2] = np.nan
    for label, output, expected in (
        ("where_positive", apply("where", x > 0.0, g, 2.0), np.where(values > 0, X, 2)),
        ("greater where", apply("where", x > 0.5, g, 2.0), np.where(values > 0.5, X, 2)),
        ("tanh_gradient", g * (1.0 - x * x), X * (1 - values**2)),
        ("subtract_multiply multiply", g * (2.0 - x * x), X * (2 - values**2)),
        ("subtract_multiply multiply", g * (1.0 - x * g), X * (1 - values * X)),
    ):
        assert labels([output]) == [label]
        (got,) = run_native([output], {x: values, g: X}, rows=9)
        np.testing.assert_allclose(got, expected, rtol=1e-12)
    rest = 1.0 - x * x
    assert labels([g * rest, 3.0 * rest]) == ["subtract_multiply 2 multiply"]


def test_a_loss_and_its_gradient_are_one_program():
    """Bias and activation stay in the store of the product; sums over some axes stay alone."""
    targets = X[:, 1:].copy()
    x, w, b, y = row_leaf("x", X), fixed_leaf("w", W), fixed_leaf("b", B), row_leaf("y", targets)
    prediction = apply("tanh", x @ w + b)
    difference = prediction - y
    squares = apply("square", difference)
    loss, grad = reduce("mean", squares, (0, 1)), difference * 2.0
    feed = {x: X, w: W, b: B, y: targets}
    expected = np.tanh(X @ W + B) - targets
    for schedule in ("row-block", "whole-batch"):
        assert labels([loss, grad], schedule=schedule)[:2] == [
            "matmul + add tanh", "subtract square multiply mean over (0, 1)"
        ]  # fmt: skip
    total, slope = run_native([loss, grad], feed, rows=9)
    np.testing.assert_allclose(total, np.square(expected).mean(), rtol=1e-12)
    np.testing.assert_allclose(slope, 2 * expected, rtol=1e-12)
    columns = reduce("sum", squares, 0)
    assert labels([columns, grad], schedule="whole-batch") == [
        "matmul + add tanh subtract multiply", "square sum over (0,)"
    ]  # fmt: skip


KINDS = np.random.default_rng(3).integers(0, 5, 9)
SHARES = np.random.default_rng(4).uniform(size=(9, 5))


def cross_entropy(target=KINDS):
    """Its leaves, and the loss of each row."""
    x, y = row_leaf("x", X), row_leaf("y", target)
    return x, y, apply("softmax_cross_entropy", x, y)


@pytest.mark.parametrize("schedule", ["row-block", "whole-batch"])
@pytest.mark.parametrize("target", [KINDS, SHARES], ids=["labels", "shares"])
@pytest.mark.parametrize("reads_loss", [False, True])
def test_a_softmax_cross_entropy_its_mean_and_its_gradient_are_one_record(
    schedule, target, reads_loss
):
    """The losses of the rows go to memory only where something else reads them."""
    x, y, loss = cross_entropy(target)
    mean = reduce("mean", loss, 0)
    outputs = [mean, *gradient(mean, [x]), *([loss] if reads_loss else [])]
    made = "rows, gradient, mean" if reads_loss else "gradient, mean"
    plan, _ = compile_outputs(outputs, capacity=16, schedule=schedule)
    assert plan.records[0].label == f"softmax cross-entropy: {made}"  # no literal before it
    assert len(plan.records[0].inputs) == 2  # the scale is a number
    feed = {x: X, y: target}
    got = run_native(outputs, feed, rows=9, schedule=schedule)
    unfused = run_native(outputs, feed, rows=9, schedule=schedule, fusion=False)
    p = np.exp(X) / np.exp(X).sum(1, keepdims=True)
    shares = np.eye(5)[KINDS] if target is KINDS else SHARES
    losses = -(shares * np.log(p)).sum(1)
    slope = (p * shares.sum(1, keepdims=True) - shares) / 9
    for result, other, reference in zip(got, unfused, [losses.mean(), slope, losses], strict=False):
        np.testing.assert_allclose(result, reference, rtol=1e-12, atol=1e-16)
        np.testing.assert_allclose(other, reference, rtol=1e-12, atol=1e-16)


def test_other_sums_of_a_softmax_cross_entropy_stay_alone():
    """Those of what is made of it, with an axis that stays, and over two axes."""
    _, _, loss = cross_entropy()
    weighted = reduce("mean", loss * 2.0, 0)
    kept = reduce("mean", loss, 0, keepdims=True)
    for mean in (weighted, kept, reduce("mean", loss.reshape(-1, 1), (0, 1))):
        assert labels([mean], schedule="whole-batch")[0] == "softmax cross-entropy: rows"


def test_what_a_product_takes_of_a_loss_may_be_a_result():
    x, w, b = row_leaf("x", X), fixed_leaf("w", W), fixed_leaf("b", B)
    y = x @ w + b
    total = reduce("sum", apply("square", y), (0, 1))
    assert labels([y, total], schedule="whole-batch")[:2] == [
        "matmul + add", "square sum over (0, 1)"
    ]  # fmt: skip
    got = run_native([y, total], {x: X, w: W, b: B}, rows=9)
    np.testing.assert_allclose(got[0], X @ W + B, rtol=1e-12)
    np.testing.assert_allclose(got[1], np.square(X @ W + B).sum(), rtol=1e-12)


def test_a_value_that_only_its_sum_and_its_program_read_goes_to_no_memory():
    x = row_leaf("x", X)
    y = apply("tanh", x)
    plan, _ = compile_outputs([reduce("sum", y, (0, 1)), y * 3.0 * y], capacity=16)
    assert plan.records[0].label == "tanh 2 multiply sum over (0, 1)"
    assert len(plan.records[0].outputs) == 2


def test_a_loss_that_needs_its_gradient_otherwise_stays_alone():
    """By a sum of it, which all rows come before."""
    x, y = row_leaf("x", X), row_leaf("y", X)
    difference = x - 2.0 * y
    means = reduce("sum", difference, 1).reshape(-1, 1)
    outputs = [reduce("sum", difference * means, (0, 1)), difference]
    assert [label for label in labels(outputs, schedule="whole-batch") if "sum" in label] == [
        "copy sum over (1,)", "multiply sum over (0, 1)"
    ]  # fmt: skip
    got = run_native(outputs, {x: X, y: X}, rows=9)
    np.testing.assert_allclose(got[0], np.square(X.sum(axis=1)).sum(), rtol=1e-12)
    np.testing.assert_allclose(got[1], -X, rtol=1e-12)


def test_a_store_keeps_what_is_a_result_beside_its_sum():
    """As a penalised gradient beside its norm: the sum saves nothing."""
    x, w, r = row_leaf("x", X), fixed_leaf("w", W), row_leaf("r", X[:, 1:])
    y = x @ w + r
    outputs = [y, reduce("sum", apply("square", y), (0, 1))]
    assert labels(outputs, schedule="whole-batch")[:2] == [
        "matmul + add", "square sum over (0, 1)"
    ]  # fmt: skip


@pytest.mark.parametrize("length", [255, 256, 257])
def test_a_reduction_fits_its_program(length):
    """The copy of a value that is a result, too, is one more instruction."""
    x = row_leaf("x", X)
    y = x
    for _ in range(length):
        y = apply("tanh", y)
    got = run_native([reduce("sum", y, (0, 1)), y, y * 3.0], {x: X}, rows=9)
    expected = X
    for _ in range(length):
        expected = np.tanh(expected)
    np.testing.assert_allclose(got[0], expected.sum(), rtol=1e-11)
    np.testing.assert_allclose(got[1], expected, rtol=1e-11)


@pytest.mark.parametrize("fusion", [True, False])
def test_sums_of_repeated_literals_count_every_element(fusion):
    """The gradients of sums that a bias enters unchanged: no operand has the rows but a literal."""
    x, b = row_leaf("x", X), fixed_leaf("b", X[0])
    for value, expected in (
        (reduce("sum", x + b), 9.0),
        (reduce("sum", x - b), -9.0),
        (reduce("mean", x - reduce("mean", x + b, 1, keepdims=True)), -0.2),
    ):
        (got,) = run_native(gradient(value, [b]), {x: X, b: X[0]}, rows=9, fusion=fusion)
        np.testing.assert_allclose(got, np.full(5, expected), rtol=1e-12)


@pytest.mark.parametrize("fusion", [True, False])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_sums_of_gradients_by_repeated_literals_count_every_element(fusion, axis):
    """What an instruction for a gradient would no longer read may be all that has rows."""
    x, b = row_leaf("x", X), fixed_leaf("b", X[0])
    everywhere = np.broadcast_to(X[0], X.shape)
    for value, expected in (
        (np.where(b > np.zeros_like(x), 2.0 * b, 3.0), np.where(everywhere > 0, 2 * everywhere, 3)),
        (np.where(b > np.zeros_like(x), b, 3.0), np.where(everywhere > 0, everywhere, 3)),
        ((np.ones_like(x) - b * b) * b, (1 - everywhere**2) * everywhere),
    ):
        (got,) = run_native([reduce("sum", value, axis)], {x: X, b: X[0]}, rows=9, fusion=fusion)
        np.testing.assert_allclose(got, expected.sum(axis=axis), rtol=1e-12)


def test_sums_of_a_second_factor_are_taken_by_its_product():
    """The gradients of weights and of a bias; one product takes them where two read the same."""
    x, h = row_leaf("x", X), row_leaf("h", 2 * X)
    product, other, sums = x.T @ h, (x * 3.0).T @ h, reduce("sum", h, 0)
    together = labels([product, other, sums], schedule="whole-batch")
    assert sorted(together) == ["matmul", "matmul and sum over (0,)", "multiply"]
    alone = labels([product, other, sums], schedule="whole-batch", fusion=False)
    assert sorted(alone) == ["copy sum over (0,)", "matmul", "matmul", "multiply"]
    for got, expected in zip(
        run_native([product, other, sums], {x: X, h: 2 * X}, rows=9),
        (2 * X.T @ X, 6 * X.T @ X, 2 * X.sum(axis=0)),
        strict=True,
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_sums_that_no_product_can_take_stay_alone():
    """Of a first factor, of maxima, beside a product that has rows, and beside a Gram matrix."""
    x, w = row_leaf("x", X), fixed_leaf("w", W)
    outputs = [x.T @ (x * 2.0), reduce("sum", x, 0), x @ w, reduce("sum", w, 0)]
    assert "matmul and sum over (0,)" not in labels(outputs, schedule="whole-batch")
    largest = labels([(x * 2.0).T @ x, reduce("max", x, 0)], schedule="whole-batch")
    assert "matmul and sum over (0,)" not in largest
    h = x * 2.0
    for total in (reduce("sum", h, 1), reduce("sum", h, (0, 1)), reduce("sum", apply("exp", h), 0)):
        assert "matmul and sum over (0,)" not in labels([x.T @ h, total], schedule="whole-batch")
    solid = fixed_leaf("t", np.ones((2, 5, 3)))
    stacked = [fixed_leaf("u", np.ones((2, 4, 5))) @ solid, reduce("sum", solid, 0)]
    assert "matmul and sum over (0,)" not in labels(stacked, schedule="whole-batch")
    empty = fixed_leaf("e", np.ones((0, 5)))
    feed = {empty: np.ones((0, 5)), w: W}
    _, sums = run_native([empty @ w, reduce("sum", w, 0)], feed, rows=1)
    np.testing.assert_allclose(sums, W.sum(axis=0), rtol=1e-12)
    gram = labels([x.T @ x, reduce("sum", x, 0)], schedule="whole-batch")
    assert "matmul and sum over (0,)" not in gram  # of which half is computed


def test_sums_that_are_read_are_taken_by_a_product_that_is_read():
    """As of clipped gradients; one that nobody reads may have to come last (see updates)."""
    x, h = row_leaf("x", X), row_leaf("h", 2 * X)
    product, sums = x.T @ h, reduce("sum", h, 0)
    outputs = [reduce("sum", product * product), product, sums * 2.0]
    assert "matmul and sum over (0,)" in labels(outputs, schedule="whole-batch")
    assert "matmul and sum over (0,)" not in labels(outputs[1:], schedule="whole-batch")
    squares, _, doubled = run_native(outputs, {x: X, h: 2 * X}, rows=9)
    np.testing.assert_allclose(squares, (4 * (X.T @ X) ** 2).sum(), rtol=1e-12)
    np.testing.assert_allclose(doubled, 4 * X.sum(axis=0), rtol=1e-12)


def test_programs_behind_sums_over_rows_run_in_their_store_in_the_whole_batch_alone():
    x, h, w = row_leaf("x", X), row_leaf("h", 2 * X), fixed_leaf("w", X[:5])
    outputs = [apply("tanh", x.T @ h + w), reduce("sum", h, 0)]
    for wanted in ("whole-batch", "auto"):  # which takes it, as no weights are multiplied with
        assert "matmul + add tanh" in labels(outputs, schedule=wanted)
        summed = [reduce("sum", apply("tanh", x.T @ h), 1)]
        assert labels(summed, schedule=wanted) == ["matmul + tanh", "copy sum over (1,)"]
    assert sorted(labels(outputs, schedule="row-block")) == ["add tanh", "matmul and sum over (0,)"]
    expected = np.tanh(2 * X.T @ X + X[:5])
    for wanted in ("whole-batch", "auto", "row-block"):
        got, _ = run_native(outputs, {x: X, h: 2 * X, w: X[:5]}, rows=9, schedule=wanted)
        np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_a_product_of_the_sums_of_its_second_factor():
    """Directly, and through other nodes: sums that a product takes must not be what it reads."""
    square = fixed_leaf("s", X[:5])
    total = reduce("sum", square, 0, keepdims=True)
    for output, expected in (
        (total @ square, X[:5].sum(axis=0, keepdims=True) @ X[:5]),
        ((square.T * total) @ square, (X[:5].T * X[:5].sum(axis=0)) @ X[:5]),
        (reduce("max", total @ square, 1), (X[:5].sum(axis=0) @ X[:5]).max(keepdims=True)),
    ):
        assert "matmul and sum over (0,)" not in labels([output], schedule="whole-batch")
        (got,) = run_native([output], {square: X[:5]}, rows=1)
        np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_programs_too_large_for_the_registers_are_split():
    """A sum of 60 different inputs has more operands than one program takes."""
    arrays = [np.full((9, 2), float(i + 1)) for i in range(60)]
    nodes = [row_leaf(f"x{i}", a) for i, a in enumerate(arrays)]
    total = nodes[0] * 1.5
    for node in nodes[1:]:
        total = total + apply("exp", node * 0.01)
    (got,) = run_native([total], dict(zip(nodes, arrays, strict=True)), rows=9)
    expected = 1.5 * arrays[0] + sum(np.exp(0.01 * a) for a in arrays[1:])
    np.testing.assert_allclose(got, expected, rtol=1e-12)
    (canonical,) = canonicalise([total])
    assert len(fuse([canonical])) > 1


def test_rows_fewer_than_the_capacity():
    x, w = row_leaf("x", X), fixed_leaf("w", W)
    y = reduce("mean", apply("exp", x @ w), 0)
    (got,) = run_native([y], {x: X, w: W}, rows=9, capacity=50)
    np.testing.assert_allclose(got, np.exp(X @ W).mean(axis=0), rtol=1e-12)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "huber", "mae", "binary_cross_entropy"])
def test_training_with_and_without_fusion_agrees(loss):
    """Every fusion can be switched off; the records differ, the weights do not."""
    shape = () if loss == "cross_entropy" else (3,)
    target = (("y", "<i8" if shape == () else "<f8", shape),)
    model = dl.nn.Sequential(
        dl.nn.Linear(5, 6), dl.nn.GELU(), dl.nn.Dropout(0.2), dl.nn.Linear(6, 3), dtype="float64"
    ).init(1)
    start = {name: value.copy() for name, value in model.parameters().items()}
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 5))
    y = rng.integers(0, 3, 20) if shape == () else rng.uniform(size=(20, 3))
    results, labels = [], []
    for fusion in (True, False):
        model.set_parameters(start)
        plan = tracing.training_plan(
            model, (("x", "<f8", (5,)),), target, None, losses.find(loss), dl.optim.SGD(0.1), 8,
            None, fusion,
        )  # fmt: skip
        values = np.zeros(6)
        bindings = {tracing.parameter_slot(k): v for k, v in model._parameters.items()}
        bindings |= {"x": x, "y": y, "loss": values, "scalars": np.full((6, 1), 0.1)}
        options = {"epoch_rows": 20, "batch_rows": 8, "step_begin": 0, "step_end": 6}
        assert plan.run(bindings, **options, order=np.tile(np.arange(20), 2))[0] == 6
        results.append(np.concatenate([p.ravel() for p in model.parameters().values()]))
        labels.append([record.label for record in plan.records])
        results.append(values)
    assert len(labels[0]) < len(labels[1])
    assert np.any(results[0] != np.concatenate([p.ravel() for p in start.values()]))
    np.testing.assert_allclose(results[0], results[2], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(results[1], results[3], rtol=1e-12)


@pytest.mark.parametrize("schedule", ["row-block", "whole-batch"])
def test_a_product_that_is_read_again_is_kept_as_it_is(monkeypatch, schedule):
    """What is passed back to a residual is masked for its layers, and not for what skips them."""
    monkeypatch.setattr(config, "schedule", schedule)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 5)), rng.normal(size=(64, 3))
    results = []
    for fusion in (True, False):
        monkeypatch.setattr(config, "fusion", fusion)
        skipped = dl.nn.Residual(dl.nn.Linear(16, 16), dl.nn.Dropout(0.2), dl.nn.ReLU())
        layers = dl.nn.Linear(5, 16), skipped, dl.nn.Linear(16, 3)
        model = dl.nn.Sequential(*layers, dtype="float64").init(0)
        model.fit(x, y, loss="mse", batch_size=32, epochs=3, seed=0)
        results.append(np.concatenate([p.ravel() for p in model.parameters().values()]))
    np.testing.assert_allclose(results[0], results[1], rtol=1e-11, atol=1e-13)


def test_shapes_with_rows_elsewhere_are_refused_by_name():
    x = row_leaf("x", X)
    with pytest.raises(NotImplementedError, match="rows must stay the first axis"):
        compile_outputs([apply("reshape", x.T, shape=(ROWS, 5)) * 1.0], capacity=9)


def test_programs_of_different_dtypes_stay_apart():
    """A scalar in float32 and one in float64, of which one is read by the other."""
    x = row_leaf("x", X.astype(np.float32))
    narrow = reduce("sum", x) + 1.0
    wide = apply("cast", narrow, dtype=np.dtype(np.float64)) * 0.1
    total, scaled = run_native([narrow, wide], {x: X.astype(np.float32)}, rows=9)
    np.testing.assert_allclose(total, np.sum(X) + 1, rtol=1e-6)
    assert scaled == np.float64(total) * 0.1
