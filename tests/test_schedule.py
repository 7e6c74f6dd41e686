"""Blocks of rows: the same training as on whole batches, whatever the rows, layers and threads."""

import itertools

import numpy as np
import pytest

import dlcore as dl
from dlcore import config
from dlcore.graph import lower
from dlcore.graph.schedule import choose_schedule, rows_of_block
from dlcore.team import TeamSize

ROWS = 700  # several groups of blocks, the last block shorter


@pytest.fixture
def schedule(monkeypatch):
    """Sets the debug flag for the plans that are compiled in the test."""
    return lambda name: monkeypatch.setattr(config, "schedule", name)


@pytest.fixture(autouse=True)
def default_threads():
    yield
    dl.set_num_threads(0)


class Gated(dl.nn.Layer):
    """Reads columns of its input, whose gradient is put together of theirs."""

    def apply(self, parameters, x, training):
        return x[:, :10] * np.tanh(x[:, 10:])


def data(rows, features, classes, kind):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, features))
    y = rng.integers(0, classes, rows) if kind == "labels" else rng.standard_normal((rows, classes))
    return x, y


def layers(name):
    linear, nn = dl.nn.Linear, dl.nn
    return {
        "mlp": lambda: [linear(5, 20), nn.ReLU(), linear(20, 9), nn.Tanh(), linear(9, 3)],
        "one": lambda: [linear(5, 3)],
        "dropout": lambda: [linear(5, 20), nn.ReLU(), nn.Dropout(0.3), linear(20, 3)],
        "columns": lambda: [linear(5, 20), Gated(), linear(10, 3)],
        "penalties": lambda: [linear(5, 20, l2=0.01), nn.ReLU(), linear(20, 3, l1=0.01)],
        "layer norm": lambda: [linear(5, 20), nn.LayerNorm(20), nn.GELU(), linear(20, 3)],
    }[name]()


def train(name, loss, *, rows=ROWS, batch=ROWS, weighted=False, dtype="float64", **optimizer):
    model = dl.nn.Sequential(*layers(name), dtype=dtype)
    model.init(1)
    x, y = data(rows, 5, 3, "labels" if loss == "cross_entropy" else "targets")
    weight = np.linspace(0.5, 2, rows) if weighted else None
    history = model.fit(
        x, y, loss=loss, optimizer=dl.optim.Adam(0.01, **optimizer), batch_size=batch, epochs=3,
        seed=2, sample_weight=weight,
    )  # fmt: skip
    return model, history["loss"]


def assert_same_parameters(got, expected, rtol, atol):
    for key, value in expected.items():
        assert np.abs(value).max() > 0
        np.testing.assert_allclose(got[key], value, rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", ["mlp", "one", "dropout", "columns", "layer norm"])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("batch", [1, 20, 130, ROWS])
def test_both_schedules_train_alike(schedule, name, loss, batch):
    """Records of both differ in what runs block by block; losses and parameters do not."""
    results = {}
    for wanted in ("whole-batch", "row-block"):
        schedule(wanted)
        model, losses = train(name, loss, batch=batch)
        results[wanted] = losses, model.parameters(), "schedule: blocks" in model.plan_summary()
    assert not results["whole-batch"][2]
    assert results["row-block"][2]
    np.testing.assert_allclose(results["row-block"][0], results["whole-batch"][0], rtol=1e-10)
    assert_same_parameters(results["row-block"][1], results["whole-batch"][1], 1e-8, 1e-12)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("batch", [20, 130, ROWS])
@pytest.mark.parametrize(
    ("dtype", "rtol", "atol"), [("float64", 1e-8, 1e-12), ("float32", 1e-5, 1e-6)]
)
def test_weighted_rows_go_by_blocks(schedule, loss, batch, dtype, rtol, atol):
    """A block is told what all rows of its step weigh."""
    results = []
    for wanted in ("whole-batch", "auto"):
        schedule(wanted)
        model, losses = train("mlp", loss, batch=batch, weighted=True, dtype=dtype)
        results.append((losses, model.parameters()))
    assert "schedule: blocks" in model.plan_summary()
    (whole, expected), (blocks, parameters) = results
    if loss == "cross_entropy":  # one pass, though the weights come between the two
        assert "softmax cross-entropy: rows, gradient" in model.plan_summary()
    np.testing.assert_allclose(blocks, whole, rtol=rtol)
    _, unweighted = train("mlp", loss, batch=batch, dtype=dtype)
    assert np.abs(np.subtract(unweighted, blocks)).min() > 1e-5
    assert_same_parameters(parameters, expected, rtol, atol)


@pytest.mark.parametrize(
    ("name", "optimizer"),
    [
        ("penalties", {}),
        ("mlp", {"clip_value": 1e-3}),
        ("mlp", {"clip_norm": 1e-2}),
        ("mlp", {"clip_global_norm": 1e-2}),
    ],
)
def test_what_is_done_to_gradients_follows_the_blocks(schedule, name, optimizer):
    """A block has no gradient that is complete; blocks are taken all the same, and train alike."""
    results = []
    for wanted in ("whole-batch", "auto"):
        schedule(wanted)
        model, losses = train(name, "cross_entropy", batch=300, **optimizer)
        results.append((losses, model.parameters()))
    assert "schedule: blocks" in model.plan_summary()
    assert "matmul and sum over (0,)" in model.plan_summary()
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=1e-10)
    assert_same_parameters(results[1][1], results[0][1], 1e-7, 1e-11)


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_steps_of_fewer_blocks_of_the_same_size(schedule, monkeypatch, loss):
    """What ops keep while blocks have the same rows is not how many rows the step has: the second
    of two threads has one block in steps of three blocks and of two, and its sums at one place."""
    monkeypatch.setattr(TeamSize, "run", lambda self, run: run(2, 1e6)[0])
    dl.set_num_threads(2)
    results = []
    for wanted in ("whole-batch", "row-block"):
        schedule(wanted)
        model, losses = train("mlp", loss, rows=1280, batch=768, dtype="float32")
        results.append((losses, model.parameters()))
    assert "blocks of 256 rows" in model.plan_summary()
    np.testing.assert_allclose(results[1][0], results[0][0], rtol=1e-6)
    assert_same_parameters(results[1][1], results[0][1], 1e-5, 1e-6)


@pytest.mark.parametrize("name", ["mlp", "dropout", "layer norm"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_do_not_change_a_bit(schedule, name, dtype):
    schedule("row-block")
    results = []
    for threads in (1, 2, 3, 8):
        dl.set_num_threads(threads)
        model, losses = train(name, "cross_entropy", rows=5000, batch=5000, dtype=dtype)
        results.append((losses, {k: v.tobytes() for k, v in model.parameters().items()}))
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize("batch", [1, ROWS])
def test_masks_lie_as_what_they_are_multiplied_with(schedule, monkeypatch, batch):
    """With the rows of a block adjacent, as products write them, unless there is but one."""
    chosen = []

    def choose(*arguments):
        chosen.append(choose_schedule(*arguments))
        return chosen[-1]

    monkeypatch.setattr(lower, "choose_schedule", choose)
    schedule("row-block")
    train("dropout", "mse", batch=batch)
    names = {node.op.name for blocks in chosen for node in blocks.transposed}
    assert "random" in names if batch > 1 else not names


def test_prediction_by_blocks_is_that_of_the_whole_batch(schedule):
    model, _ = train("mlp", "mse")
    x, _ = data(1000, 5, 3, "targets")
    predictions = []
    for wanted in ("whole-batch", "row-block"):
        schedule(wanted)
        predictions.append(model.predict(x))
    assert np.abs(predictions[0]).max() > 0.1
    np.testing.assert_allclose(predictions[1], predictions[0], rtol=1e-12)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_first_label_out_of_range_is_named_and_nothing_changed(schedule, threads):
    schedule("row-block")
    dl.set_num_threads(threads)
    model = dl.nn.Sequential(*layers("mlp"))
    model.init(1)
    before = {k: v.copy() for k, v in model.parameters().items()}
    x, y = data(ROWS, 5, 3, "labels")
    y[[300, 500, 600]] = 3
    with pytest.raises(ValueError, match="label 3 in row 300"):
        model.fit(x, y, loss="cross_entropy", batch_size=ROWS, epochs=1)
    for key, value in before.items():
        np.testing.assert_array_equal(model.parameters()[key], value)


def test_what_needs_all_rows_takes_the_whole_batch(schedule):
    """Batch normalisation reads a sum over the rows in the middle of the chain."""
    model = dl.nn.Sequential(dl.nn.Linear(5, 8), dl.nn.BatchNorm(8), dl.nn.Linear(8, 3))
    x, y = data(ROWS, 5, 3, "labels")
    model.fit(x, y, loss="cross_entropy", epochs=1)
    assert "schedule: whole batch, " in model.plan_summary()
    schedule("row-block")
    with pytest.raises(ValueError, match="row-block schedule is not possible: .*sum over rows"):
        model.fit(x, y, loss="cross_entropy", epochs=1)


@pytest.mark.parametrize(
    ("widths", "expected"),
    [
        ([5, 32, 3], "schedule: blocks of "),
        ([5, 20000, 3], "schedule: whole batch, weights"),
        ([5, *[64] * 40, 3], "schedule: blocks of 64"),  # large, of matrices that are not
        ([5, *[128] * 8, 3], "schedule: whole batch, weights"),
        ([5, 512, 512, *[32] * 40, 3], "schedule: whole batch, weights"),  # one wide matrix
        ([5, *[64] * 200, 3], "schedule: whole batch, weights"),
    ],
)
def test_the_cost_model_takes_blocks_for_narrow_layers_only(widths, expected):
    x, y = data(300, 5, 3, "labels")
    layers = []
    for n_in, n_out in itertools.pairwise(widths):
        layers += [dl.nn.Linear(n_in, n_out), dl.nn.ReLU()]
    model = dl.nn.Sequential(*layers[:-1])
    model.fit(x, y, loss="cross_entropy", epochs=1, batch_size=100)
    assert expected in model.plan_summary()


def test_an_unknown_schedule_is_refused(schedule):
    schedule("fastest")
    with pytest.raises(ValueError, match="auto, row-block, whole-batch, not 'fastest'"):
        train("one", "mse")


@pytest.mark.parametrize(
    ("bytes_of_row", "weights", "capacity", "rows"),
    [
        (680, 2688, 128, 128),  # little work: one block
        (1192, 6784, 128, 64),  # as many for each of two threads
        (1192, 6784, 40, 40),  # too few rows for two
        (1192, 6784, 600, 160),  # four, not three
        (2800, 6784, 700, 176),  # what fits in L2
        (10**6, 6784, 600, 64),
        (1192, 20000, 64, 64),  # too few rows for two
        (0, 0, 3, 3),
        (416, 704, 10_000, 256),
    ],
)
def test_rows_of_a_block(bytes_of_row, weights, capacity, rows):
    assert rows_of_block(bytes_of_row, weights, capacity) == rows
