"""Updates in the store of a gradient's product: where they are made; nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

import dlcore as dl
from dlcore import config
from dlcore.graph.gradient import gradient
from dlcore.graph.lower import compile_plan
from dlcore.graph.tensor import Slot, apply, leaf
from dlcore.graph.updates import Update
from graph_tools import row_leaf

OPTIMIZERS = {
    "sgd": lambda **options: dl.optim.SGD(0.05, **options),
    "momentum": lambda **options: dl.optim.SGD(0.05, momentum=0.9, nesterov=True, **options),
    "adam": lambda **options: dl.optim.Adam(0.01, **options),
    "amsgrad": lambda **options: dl.optim.Adam(0.01, amsgrad=True, **options),
    "nadam": lambda **options: dl.optim.NAdam(0.01, **options),
    "radam": lambda **options: dl.optim.RAdam(0.01, **options),
    "rmsprop": lambda **options: dl.optim.RMSprop(0.01, centered=True, momentum=0.5, **options),
    "adagrad": lambda **options: dl.optim.Adagrad(0.01, **options),
    "adadelta": lambda **options: dl.optim.Adadelta(0.5, **options),
    "lion": lambda **options: dl.optim.Lion(0.001, **options),
}


@pytest.fixture
def flags(monkeypatch):
    """Sets the debug flags for the plans that are compiled in the test."""
    monkeypatch.setattr(config, "schedule", "whole-batch")

    def change(**values):
        for name, value in values.items():
            monkeypatch.setattr(config, name, value)

    return change


@pytest.fixture(autouse=True)
def default_threads():
    yield
    dl.set_num_threads(0)


def three_layers(features=30, width=70, dtype="float64"):
    nn = dl.nn
    layers = [
        nn.Linear(features, width),
        nn.ReLU(),
        nn.Linear(width, 40),
        nn.Tanh(),
        nn.Linear(40, 3),
    ]
    return nn.Sequential(*layers, dtype=dtype).init(1)


def train(model, optimizer, *, rows=150, batch=60, first="0.weight"):
    """Its parameters and state behind a few epochs, whose last step has fewer rows."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, len(model.parameters()[first])))
    y = rng.integers(0, 3, rows)
    history = model.fit(
        x, y, loss="cross_entropy", optimizer=optimizer, batch_size=batch, epochs=3, seed=2
    )
    return history["loss"], {**model.parameters(), **model._state.arrays}


def updates_in(model):
    """How many updates are made in a store, and how many by a record of their own."""
    lines = model.plan_summary().splitlines()
    steps = [line for line in lines if "_step" in line]
    in_store = [line for line in steps if "matmul" in line]
    return len(in_store), len(steps) - len(in_store)


def in_store_and_apart(flags, make_model, make_optimizer, **options):
    results = []
    for wanted in (True, False):
        flags(update_in_store=wanted)
        model = make_model()
        results.append((train(model, make_optimizer(), **options), updates_in(model)))
    return results


def assert_alike(left, right, **tolerance):
    np.testing.assert_allclose(left[0], right[0], **tolerance)
    assert left[1].keys() == right[1].keys()
    for name, value in right[1].items():
        assert np.abs(value).max() > 0
        np.testing.assert_allclose(left[1][name], value, err_msg=name, **tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_step_is_the_same_to_the_bit(flags, name, dtype):
    options = {"weight_decay": 0.01, "average": 0.9} if name in ("sgd", "adam") else {}
    (together, counts), (apart, apart_counts) = in_store_and_apart(
        flags, lambda: three_layers(dtype=dtype), lambda: OPTIMIZERS[name](**options)
    )
    assert counts == (3, 3)
    assert apart_counts == (0, 6)
    assert_alike(together, apart, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("features", "width", "batch"),
    [
        (1, 70, 60),  # products with a vector
        (30, 1, 60),
        (700, 530, 200),  # factors that are packed, several blocks of rows and of columns
        (40, 600, 1100),  # rows that are summed in several blocks
        (20, 30, 7000),  # and in parts
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_shapes_that_products_treat_in_ways_of_their_own(flags, features, width, batch, dtype):
    (together, counts), (apart, _) = in_store_and_apart(
        flags,
        lambda: three_layers(features, width, dtype),
        lambda: dl.optim.SGD(0.1, momentum=0.5),
        rows=batch + 30,
        batch=batch,
    )
    assert counts == (3, 3)
    tolerance = 2e-4 if dtype == "float32" else 1e-9
    assert_alike(together, apart, rtol=tolerance, atol=tolerance * 1e-2)


@pytest.mark.parametrize(("features", "batch"), [(30, 60), (300, 600), (20, 7000)])
def test_threads_do_not_change_a_bit(flags, features, batch):
    results = []
    for threads in (1, 2, 3, 8):
        dl.set_num_threads(threads)
        model = three_layers(features, 300, "float32")
        losses, arrays = train(model, dl.optim.Adam(0.01), rows=batch + 30, batch=batch)
        assert updates_in(model) == (3, 3)
        results.append((losses, {name: array.tobytes() for name, array in arrays.items()}))
    assert all(result == results[0] for result in results)


# Where a gradient is kept


def tied():
    first = dl.nn.Linear(30, 30)
    layers = [
        first,
        dl.nn.Tanh(),
        dl.nn.Linear(30, 30, tie=first, tie_transposed=True),
        dl.nn.Linear(30, 3),
    ]
    return dl.nn.Sequential(*layers, dtype="float64").init(1)


def penalised():
    layers = [dl.nn.Linear(30, 20, l2=0.1), dl.nn.Tanh(), dl.nn.Linear(20, 3)]
    return dl.nn.Sequential(*layers, dtype="float64").init(1)


def test_a_weight_of_two_layers_is_updated_once_by_the_sum(flags):
    (together, counts), (apart, _) = in_store_and_apart(flags, tied, lambda: dl.optim.Adam(0.01))
    assert counts[0] == 1  # the last layer's
    assert_alike(together, apart, rtol=1e-12, atol=1e-15)


def test_a_penalty_is_part_of_the_gradient(flags):
    (together, counts), (apart, _) = in_store_and_apart(
        flags, penalised, lambda: dl.optim.Adam(0.01)
    )
    assert counts[0] == 1
    assert_alike(together, apart, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("clip", ["clip_value", "clip_norm", "clip_global_norm"])
def test_a_gradient_that_is_clipped_is_complete_before(flags, clip):
    (together, counts), (apart, _) = in_store_and_apart(
        flags, three_layers, lambda: dl.optim.SGD(0.1, **{clip: 0.01})
    )
    assert counts == (0, 6)
    assert_alike(together, apart, rtol=0, atol=0)


def test_blocks_of_rows_sum_their_gradients(flags):
    flags(schedule="row-block")
    model = three_layers()
    train(model, dl.optim.Adam(0.01))
    assert updates_in(model) == (0, 6)


def test_no_fusion_is_no_update_in_a_store(flags):
    flags(fusion=False)
    model = three_layers()
    train(model, dl.optim.Adam(0.01))
    assert updates_in(model) == (0, 6)


class Doubled(dl.nn.Layer):
    """Hides from the checks before a run what the layer behind it gets."""

    def apply(self, parameters, x, training):
        return 2 * x


def test_a_step_that_fails_changes_no_parameter(flags):
    layers = [Doubled(), dl.nn.Embedding(10, 30), dl.nn.Flatten(), dl.nn.Linear(60, 3)]
    model = dl.nn.Sequential(*layers, dtype="float64").init(1)
    before = {name: value.copy() for name, value in model.parameters().items()}
    x, y = np.ones((10, 2)), np.arange(10) % 3
    x[7, 1] = 5
    with pytest.raises(ValueError, match="index"):
        model.fit(x, y, loss="cross_entropy", batch_size=10, epochs=1)
    assert updates_in(model)[0] == 1
    for name, value in before.items():
        np.testing.assert_array_equal(model.parameters()[name], value)
    model.fit(np.ones((10, 2)), y, loss="cross_entropy", batch_size=10, epochs=1)
    for name, value in before.items():
        assert not np.array_equal(model.parameters()[name], value)


class LowRank(dl.nn.Layer):
    """Of two weights, each of which is a factor of the other's gradient."""

    def init(self, initializer):
        return {"u": initializer.normal((30, 4), 0.3), "v": initializer.normal((4, 20), 0.3)}

    def apply(self, parameters, x, training):
        return x @ (parameters["u"] @ parameters["v"])


def test_weights_that_are_factors_of_each_others_gradients(flags):
    (together, counts), (apart, _) = in_store_and_apart(
        flags,
        lambda: dl.nn.Sequential(
            LowRank(), dl.nn.Tanh(), dl.nn.Linear(20, 3), dtype="float64"
        ).init(1),
        lambda: dl.optim.SGD(0.5),
        first="0.u",
    )
    assert counts == (1, 3)
    assert_alike(together, apart, rtol=0, atol=0)


# Plans of one weight, read in several places

ROWS, M, N = 20, 6, 5
RNG = np.random.default_rng(3)
ARRAYS = {
    "x": RNG.standard_normal((ROWS, M)),
    "g": RNG.standard_normal((ROWS, N)),
    "i": RNG.integers(0, M, ROWS),
}
WEIGHT = RNG.standard_normal((M, N))
RATE = 0.25


def sgd(target, value):
    scalars = leaf(Slot("scalars", "step", np.dtype("f8"), (1,)))
    words = (0, 0, 0, 0, 0, 0)  # neither weight decay, average nor momentum
    return Update("sgd_step", (target,), (value, scalars), words)


def weight_leaf(name="w"):
    return leaf(Slot(name, "fixed", WEIGHT.dtype, WEIGHT.shape, True))


def run(outputs, updates, weights=("w",)):
    """One step; outputs, weights, and the labels of the records."""
    slots = [
        Slot(f"out{i}", "fixed", node.storage, node.shape, True) for i, node in enumerate(outputs)
    ]
    plan = compile_plan(list(zip(slots, outputs, strict=True)), updates, capacity=ROWS)
    results = {slot.name: np.full(slot.shape, np.nan) for slot in slots}
    values = {name: WEIGHT.copy() for name in weights}
    bindings = {**ARRAYS, **values, **results, "scalars": np.full((1, 1), RATE)}
    plan.run(bindings, epoch_rows=ROWS, batch_rows=ROWS, step_begin=0, step_end=1)
    return list(results.values()), list(values.values()), [record.label for record in plan.records]


def product_gradient():
    return row_leaf("x", ARRAYS["x"]).T @ row_leaf("g", ARRAYS["g"])


UPDATED = WEIGHT - RATE * ARRAYS["x"].T @ ARRAYS["g"]


def test_a_product_updates_behind_all_that_reads_the_weight(flags):
    """Also where what reads it was asked for after the gradient."""
    w = weight_leaf()
    g = product_gradient()
    scaled = apply("exp", w) * 2.0
    (read,), (updated,), labels = run([scaled], [sgd(w, g)])
    assert labels[-1] == "matmul + sgd_step"
    np.testing.assert_allclose(read, np.exp(WEIGHT) * 2, rtol=1e-12)
    np.testing.assert_allclose(updated, UPDATED, rtol=1e-12)


def test_a_product_updates_behind_all_that_may_fail(flags):
    w = weight_leaf()
    table = leaf(Slot("other", "fixed", WEIGHT.dtype, WEIGHT.shape, True))
    sums = table[row_leaf("i", ARRAYS["i"])].sum(axis=0)
    (read,), (updated, _), labels = run([sums], [sgd(w, product_gradient())], ("w", "other"))
    assert labels.index("take") < labels.index("matmul + sgd_step")
    np.testing.assert_allclose(read, WEIGHT[ARRAYS["i"]].sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(updated, UPDATED, rtol=1e-12)


def test_a_product_that_updates_takes_the_gradient_of_the_bias(flags):
    w, bias = weight_leaf(), leaf(Slot("b", "fixed", WEIGHT.dtype, (N,), True))
    x, g = (row_leaf(name, ARRAYS[name]) for name in "xg")
    updates = [sgd(w, x.T @ g), sgd(bias, g.sum(axis=0))]
    plan = compile_plan([], updates, capacity=ROWS)
    values = {"w": WEIGHT.copy(), "b": np.ones(N)}
    plan.run(
        {**ARRAYS, **values, "scalars": np.full((1, 1), RATE)},
        epoch_rows=ROWS, batch_rows=ROWS, step_begin=0, step_end=1,
    )  # fmt: skip
    labels = [record.label for record in plan.records]
    assert labels == ["matmul and sum over (0,) + sgd_step", "sgd_step"]
    np.testing.assert_allclose(values["w"], UPDATED, rtol=1e-12)
    np.testing.assert_allclose(values["b"], 1 - RATE * ARRAYS["g"].sum(axis=0), rtol=1e-12)


def test_a_product_updates_where_the_gradient_of_the_bias_is_read(flags):
    """Which it then leaves alone: behind all that reads the weight it would come too late."""
    w, x, g = weight_leaf(), *(row_leaf(name, ARRAYS[name]) for name in "xg")
    scaled = w * g.sum(axis=0)
    (read,), (updated,), labels = run([scaled], [sgd(w, x.T @ g)])
    assert labels[-1] == "matmul + sgd_step"
    np.testing.assert_allclose(read, WEIGHT * ARRAYS["g"].sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(updated, UPDATED, rtol=1e-12)


def test_a_gradient_that_is_a_result_too_is_kept(flags):
    w, g = weight_leaf(), product_gradient()
    (stored,), (updated,), labels = run([g], [sgd(w, g)])
    assert "matmul + sgd_step" not in labels
    np.testing.assert_allclose(stored, ARRAYS["x"].T @ ARRAYS["g"], rtol=1e-12)
    np.testing.assert_allclose(updated, UPDATED, rtol=1e-12)


def test_a_gradient_of_two_weights_is_kept(flags):
    v, w, g = weight_leaf("v"), weight_leaf(), product_gradient()
    _, updated, labels = run([], [sgd(v, g), sgd(w, g)], ("v", "w"))
    assert "matmul + sgd_step" not in labels
    for value in updated:
        np.testing.assert_allclose(value, UPDATED, rtol=1e-12)


def test_a_weight_that_another_update_reads_is_updated_in_its_turn(flags):
    v, w = weight_leaf("v"), weight_leaf()
    _, (first, second), labels = run([], [sgd(w, product_gradient()), sgd(v, w)], ("w", "v"))
    assert "matmul + sgd_step" not in labels
    np.testing.assert_allclose(first, UPDATED, rtol=1e-12)
    np.testing.assert_allclose(second, WEIGHT - RATE * UPDATED, rtol=1e-12)


def test_a_weight_that_is_a_factor_of_a_later_product_is_kept(flags):
    """The product that updates w would else read a v that is updated already."""
    v, w = leaf(Slot("v", "fixed", WEIGHT.dtype, (N, N), True)), weight_leaf()
    gradient_of_v = row_leaf("g", ARRAYS["g"]).T @ row_leaf("g", ARRAYS["g"])
    gradient_of_w = leaf(Slot("w0", "fixed", WEIGHT.dtype, (M, N), True)) @ v
    square = np.arange(N * N).reshape(N, N) / 7.0
    plan = compile_plan([], [sgd(v, gradient_of_v), sgd(w, gradient_of_w)], capacity=ROWS)
    values = {"v": square.copy(), "w": WEIGHT.copy(), "w0": WEIGHT.copy()}
    plan.run(
        {**ARRAYS, **values, "scalars": np.full((1, 1), RATE)},
        epoch_rows=ROWS, batch_rows=ROWS, step_begin=0, step_end=1,
    )  # fmt: skip
    assert [record.label for record in plan.records].count("matmul + sgd_step") == 1
    np.testing.assert_allclose(values["w"], WEIGHT - RATE * WEIGHT @ square, rtol=1e-12)
    expected = square - RATE * ARRAYS["g"].T @ ARRAYS["g"]
    np.testing.assert_allclose(values["v"], expected, rtol=1e-12)


def test_a_product_that_reads_the_weight_itself_is_kept(flags):
    w = leaf(Slot("w", "fixed", WEIGHT.dtype, (M, N), True))
    square = row_leaf("g", ARRAYS["g"]).T @ row_leaf("g", ARRAYS["g"])
    _, (updated,), labels = run([], [sgd(w, w @ square)])
    assert "matmul + sgd_step" not in labels
    np.testing.assert_allclose(
        updated, WEIGHT - RATE * WEIGHT @ (ARRAYS["g"].T @ ARRAYS["g"]), rtol=1e-12
    )


def test_the_gradient_of_a_weight_takes_no_memory(flags):
    arenas = []
    for wanted in (True, False):
        flags(update_in_store=wanted)
        w = weight_leaf()
        loss = apply("sum", row_leaf("x", ARRAYS["x"]) @ w, axis=(0, 1), keepdims=False)
        (g,) = gradient(loss, [w])
        plan = compile_plan([], [sgd(w, g)], capacity=ROWS)
        arenas.append(plan.arena_bytes)
    assert arenas[1] - arenas[0] >= WEIGHT.nbytes
