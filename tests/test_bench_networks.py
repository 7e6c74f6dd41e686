"""The bench of training, inference and scale: what is trained is what the tasks say, work is
counted, losses and predictions are checked, cliffs are found."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dlcore.bench import inference, networks, scale, suites, trainers, training
from dlcore.bench.contest import Contest
from dlcore.bench.measure import Measured, Result
from dlcore.bench.networks import Network, make_task, training_loss
from dlcore.bench.training import NetworkCase, loss_too_high

pytestmark = pytest.mark.isa_independent

SMALL = Network((6, 8, 3), rows=70, batch=20, epochs=2)
BINARY = replace(SMALL, units=(6, 8, 2))
FULL_BATCH = Network(
    (4, 8, 4), rows=50, batch=50, activation="tanh", loss="mse", shuffled=False,
    data="matrix exponentials", epochs=3,
)  # fmt: skip
NETWORKS = (SMALL, BINARY, FULL_BATCH)


def case(network, op="train", limit="fma"):
    return NetworkCase(op, network, limit, seed=1, seconds=1e-3)


def result(row, seconds, threads=1, losses=None):
    measured = Measured(
        sizes=row.sizes,
        flops=row.case(row.sizes, "float32", 0, 1.0).flops,
        bytes=0,
        seconds={name: [value] * 3 for name, value in seconds.items()},
        limits=[{}] * 3,
        errors={},
        foreign=0.0,
        losses=losses or {},
    )
    return Result(row, "float32", threads, measured)


def row_named(name):
    rows = (*training.ROWS, *inference.ROWS, *scale.ROWS)
    return next(row for row in rows if row.name == name)


# The command


ALONE = "--threads 1 --rounds 2 --quick --peers none --seed 3 --json now.json"


def test_train_alone(run):
    status, out, err = run(f"bench train --rows *-2 {ALONE}")
    assert status == 0, err
    assert "10-32-2 batch 32: synthetic classes" in out
    (row,) = json.loads(Path("now.json").read_text())["rows"]
    assert (row["suite"], row["op"], row["data"]) == ("train", "train", "synthetic classes")
    assert row["nominal"]["flops"] == 2 * (2 * 10 * 32 + 3 * 32 * 2) * 32
    assert len(row["nominal"]["seconds"]["dlcore"]) == 2
    first, second = row["nominal"]["losses"]["dlcore"]
    assert second < first < np.log(2)
    # of the peak as it was measured, of which a neighbour may have taken a part just then
    at_peak = [limit["seconds"] for limit in row["nominal"]["limits"]]
    fractions = np.divide(at_peak, row["nominal"]["seconds"]["dlcore"])
    assert 0 < min(fractions) <= row["nominal"]["fraction_of_limit"]["median"] <= max(fractions)


def test_a_loss_that_is_too_high_fails_the_run(run, monkeypatch):
    monkeypatch.setattr(training, "training_loss", lambda task, layers: np.nan)
    status, _, err = run(f"bench train --rows *-2 {ALONE}")
    assert status == 1
    assert "WRONG train/10-32-2 batch 32/float32/1: the training loss of dlcore is nan" in err


def test_infer_beside_numpy(run):
    command = ALONE.replace("none", "numpy")
    status, out, err = run(f"bench infer --rows 10-32-2 {command}")
    assert status == 0, err
    rows = json.loads(Path("now.json").read_text())["rows"]
    for row, (name, count) in zip(rows, (("1 row", 1), ("32 rows", 32)), strict=True):
        assert f"10-32-2 {name}" in out
        assert set(row["nominal"]["ratios"]) == {"numpy"}
        assert row["nominal"]["flops"] == 2 * (10 * 32 + 32 * 2) * count
        assert all(error < 1e-5 for error in row["nominal"]["errors"].values())


def test_a_wrong_prediction_fails_the_run(run, monkeypatch):
    monkeypatch.setattr(training.NetworkRow, "tolerance", lambda self, sizes, dtype: -1.0)
    status, _, err = run(f"bench infer --rows 10-32-2 {ALONE}")
    assert status == 1
    assert "WRONG infer/10-32-2 1 row/float32/1" in err


def test_scale_prints_growth_and_draws(run):
    pytest.importorskip("matplotlib")
    status, out, err = run(f"bench scale --rows 'depth [12]' {ALONE} --plot scale.png")
    assert status == 0, err
    assert "32-2 x 64-10" in out
    assert "/ the one before" in out
    assert Path("scale.png").read_bytes().startswith(b"\x89PNG")
    rows = json.loads(Path("now.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["depth 1", "depth 2"]


# Tasks


def test_flops_count_the_products():
    weights = [6 * 8, 8 * 3]
    assert SMALL.weights == weights
    assert SMALL.forward_flops == 2 * sum(weights) * 70
    # forward and weight gradients of both layers, the input gradient of the second
    assert SMALL.training_flops == 2 * (2 * weights[0] + 3 * weights[1]) * 70
    assert SMALL.steps_per_epoch == 4
    assert case(SMALL).flops == SMALL.training_flops // 4
    assert case(SMALL, "predict").flops == SMALL.forward_flops


@pytest.mark.parametrize("network", NETWORKS)
def test_tasks_are_the_same_for_all(network):
    first, second = (make_task(network, 5) for _ in range(2))
    np.testing.assert_array_equal(first.X, second.X)
    np.testing.assert_array_equal(first.y, second.y)
    np.testing.assert_array_equal(first.order(3), second.order(3))
    assert first.X.shape == (network.rows, network.units[0])
    assert [weight.shape for weight, _ in first.initial] == [
        network.units[i : i + 2] for i in range(len(network.units) - 1)
    ]
    assert not np.array_equal(first.X, make_task(network, 6).X)


def test_matrix_exponentials():
    matrices, exponentials = networks.matrix_exponentials(20, np.random.default_rng(0))
    for matrix, exponential in zip(matrices.reshape(-1, 2, 2), exponentials, strict=True):
        series, term = np.eye(2), np.eye(2)
        for k in range(1, 40):
            term = term @ matrix.astype(float) / k
            series = series + term
        np.testing.assert_allclose(exponential, series.ravel(), rtol=1e-5, atol=1e-6)


def write_idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


def test_fashion_mnist_is_read_where_it_is_found(tmp_path, monkeypatch):
    folder = tmp_path / "fashion-mnist"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (9, 28, 28))
    write_idx(folder / networks.FASHION_MNIST[0], pixels)
    write_idx(folder / networks.FASHION_MNIST[1], np.arange(9))
    monkeypatch.setenv("DLCORE_DATASETS", str(tmp_path))
    network = Network((784, 5, 10), rows=8, batch=4, data="Fashion-MNIST")
    task = make_task(network, 0)
    np.testing.assert_allclose(task.X, pixels[:8].reshape(8, -1) / 255, rtol=1e-6)
    np.testing.assert_array_equal(task.y, np.arange(8))
    assert networks.describe_data(network) == f"the first 8 rows of Fashion-MNIST, {folder}"


def test_classes_take_the_place_of_missing_files(monkeypatch):
    monkeypatch.setattr(networks, "fashion_mnist_folder", lambda: None)
    network = Network((784, 5, 10), rows=200, batch=4, data="Fashion-MNIST")
    task = make_task(network, 0)
    assert task.X.shape == (200, 784)
    assert set(task.y) == set(range(10))
    assert networks.describe_data(network).startswith("synthetic classes, as Fashion-MNIST is not")


def test_training_loss_of_uniform_and_of_wrong_outputs():
    task = make_task(SMALL, 0)
    uniform = [(0 * weight, 0 * bias) for weight, bias in task.initial]
    assert training_loss(task, uniform) == pytest.approx(np.log(3))
    certain = [uniform[0], (uniform[1][0], np.array([0.0, 1e3, 0.0]))]
    assert training_loss(task, certain) == pytest.approx(1e3 * np.mean(task.y != 1))
    assert np.isnan(training_loss(task, [(np.nan * weight, bias) for weight, bias in uniform]))
    task = make_task(FULL_BATCH, 0)
    zeros = [(0 * weight, 0 * bias) for weight, bias in task.initial]
    assert training_loss(task, zeros) == pytest.approx(np.mean(task.y.astype(float) ** 2))


# The check of losses, goals


@pytest.mark.parametrize(
    ("losses", "complaint"),
    [
        ({}, None),
        ({"dlcore": [1.0, 3.0]}, None),
        ({"dlcore": [1.0, 1.09], "jax": [1.0, 1.0]}, None),
        ({"dlcore": [1.0, 1.11], "jax": [1.0, 1.0], "torch": [2.0, 2.0]}, "best peer 1: more than"),
        ({"dlcore": [1.0, np.nan]}, "is nan"),
        ({"dlcore": [np.inf], "jax": [np.inf]}, "is inf"),
        ({"dlcore": [1.0], "jax": [np.nan]}, None),
        ({"dlcore": [3.0], "jax": [np.nan], "torch": [1.0]}, "best peer 1: more than"),
    ],
)
def test_losses_are_judged_by_their_mean(losses, complaint):
    found = loss_too_high(losses)
    wrong = result(row_named("10-32-2 batch 32"), {"dlcore": 1.0}, losses=losses).wrong()
    if complaint is None:
        assert found is None
        assert wrong == []
    else:
        assert complaint in found
        assert len(wrong) == 1


@pytest.mark.parametrize(
    ("name", "threads", "text"),
    [
        ("10-32-2 batch 32", 1, "jax 6"),
        ("10-32-2 batch 32", 2, "-"),
        ("64-100-10 batch 200", 1, "jax 3"),
        ("784-256-128-10 batch 128", 1, "jax 1.25"),
        ("784-256-128-10 batch 128", 2, "jax 1.5"),
        ("784-1024-1024-10 batch 256", 1, "0.83 of limit, jax 1.2"),
        ("784-1024-1024-10 batch 256", 2, "jax 1.2"),
        ("4-32-16-4 batch 10000", 1, "-"),
        ("4-32-16-4 batch 10000", 2, "jax 3.5"),
        ("784-256-128-10 first step", 1, "10 ms"),
        ("784-256-128-10 1 row", 1, "best 1.5"),
        ("10-32-2 1 row", 1, "numpy 5"),
        ("784-1024-1024-10 1 row", 1, "-"),
        ("10-32-2 32 rows", 1, "-"),
        ("784-256-128-10 16 rows", 1, "-"),
        ("784-1024-1024-10 16 rows", 1, "-"),
        ("784-256-128-10 10000 rows", 2, "best 1.2"),
    ],
)
def test_goals(name, threads, text):
    assert row_named(name).goal.text(threads) == text


def test_rows_have_names_of_their_own_and_peers_that_exist():
    for field in suites.FIELDS:
        names = [(row.suite, row.name) for row in field.rows]
        assert len(set(names)) == len(names)
        for row in field.rows:
            assert set(row.goal.vs) <= {*field.peers, "best"}


# Contestants


# In processes of their own, as in a run: libraries leave threads and settings behind.

TRAINERS = (trainers.Dlcore, trainers.ScikitLearn, trainers.Torch, trainers.Jax)
PREDICTORS = (inference.Dlcore, *inference.PEERS.values())


@pytest.fixture(scope="module")
def training_contest():
    with Contest(TRAINERS, None, 1) as contest:
        yield contest


@pytest.fixture(scope="module")
def inference_contest():
    with Contest(PREDICTORS, None, 1) as contest:
        yield contest


def skip_missing(contest, name):
    if name in contest.skipped:
        pytest.skip(contest.skipped[name])


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", [trainer.name for trainer in TRAINERS])
def test_trainers_learn_the_same(training_contest, name, network):
    skip_missing(training_contest, name)
    one = case(network)
    prepared = training_contest.ask(name, "prepare", one)
    if prepared is None:
        assert name == "sklearn"
        assert network is FULL_BATCH
        return
    held = training_contest.rounds(1, one, [name])
    assert held.seconds[name][0] > 0

    task, (layers,) = make_task(network, one.seed), held.results[name]
    assert [weight.shape for weight, _ in layers] == [weight.shape for weight, _ in task.initial]
    if name == "sklearn":  # its initial weights are its own
        assert np.isfinite(training_loss(task, layers))
        return
    expected = training_loss(task, adam(task, 2 * network.epochs))
    assert training_loss(task, layers) == pytest.approx(expected, rel=0.02)
    assert expected < 0.98 * training_loss(task, task.initial)


def adam(task, epochs):
    """The layers after some epochs of Adam in float64."""
    network = task.network
    parameters = [array.astype(float) for layer in task.initial for array in layer]
    moments = [(np.zeros_like(p), np.zeros_like(p)) for p in parameters]
    step = 0
    for epoch in range(epochs):
        order = task.order(epoch) if network.shuffled else np.arange(network.rows)
        for begin in range(0, network.rows, network.batch):
            rows, step = order[begin : begin + network.batch], step + 1
            for p, (m, v), g in zip(parameters, moments, gradient(task, parameters, rows),
                                    strict=True):  # fmt: skip
                m += 0.1 * (g - m)
                v += 0.001 * (g * g - v)
                p -= 1e-3 * m / (1 - 0.9**step) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
    return list(zip(parameters[::2], parameters[1::2], strict=True))


def gradient(task, parameters, rows):
    """Of the mean loss over some rows, for networks of two layers."""
    w0, b0, w1, b1 = parameters
    x, y = task.X[rows].astype(float), task.y[rows]
    z = x @ w0 + b0
    if task.network.loss == "mse":
        h, slope = np.tanh(z), 1 - np.tanh(z) ** 2
        d = 2 * (h @ w1 + b1 - y) / y.size
    else:
        h, slope = np.maximum(z, 0), z > 0
        d = (networks.softmax(h @ w1 + b1) - np.eye(len(b1))[y]) / len(y)
    dz = (d @ w1.T) * slope
    return [x.T @ dz, dz.sum(axis=0), h.T @ d, d.sum(axis=0)]


def test_the_first_step_is_of_a_new_model_each_turn():
    first = replace(SMALL, rows=SMALL.batch, epochs=1)
    contestant, one = trainers.Dlcore(None, 1), case(first, "first_step", "none")
    contestant.prepare(one)
    models, weights = [], []
    for _ in range(2):
        contestant.before_turn(one)
        assert contestant.turn(one) > 0
        models.append(contestant._model)
        weights.append(contestant.result())
    assert models[0] is not models[1]
    for once, again in zip(*weights, strict=True):
        np.testing.assert_array_equal(once[0], again[0])
    assert contestant.limits(one) == {}


def test_the_limit_is_the_rate_of_multiply_adds():
    found = trainers.Dlcore(None, 1).limits(case(SMALL))
    assert found["seconds"] == pytest.approx(case(SMALL).flops / found["fma"])


@pytest.mark.parametrize("units", [(6, 8, 3), (6, 8, 5, 2)])
@pytest.mark.parametrize("rows", [1, 30])
@pytest.mark.parametrize("name", [predictor.name for predictor in PREDICTORS])
def test_predictors_compute_what_the_reference_says(inference_contest, name, rows, units):
    skip_missing(inference_contest, name)
    one = case(Network(units, rows, rows), "predict", "none")
    assert inference_contest.ask(name, "prepare", one).error < 1e-5
    assert inference_contest.rounds(1, one, [name]).seconds[name][0] > 0


@pytest.mark.parametrize("wrong", [0.0, np.nan, 1.001])
def test_errors_of_predictions_reject_what_is_wrong(wrong):
    task = make_task(SMALL, 1)
    right = networks.forward(SMALL, task.initial, task.X)
    predictor = inference.NumPy(None, 1)
    allowed = row_named("10-32-2 1 row").tolerance((), "float32")
    assert predictor._error(task, right.astype(np.float32)) <= allowed
    assert not predictor._error(task, wrong * right) <= allowed


# Scale


def test_cliffs_are_where_time_grows_more_than_the_operations():
    growth = scale.growth([2.0, 1.0, 1.25, 1.75])
    assert growth == [None, 0.5, 1.25, 1.4]
    assert [scale.is_cliff(ratio) for ratio in growth] == [False, False, False, True]
    assert scale.is_cliff(np.nan)


def test_scale_tables():
    points = [row for row in scale.ROWS if row.name in ("width 64", "width 128", "depth 1")]
    seconds = [row.case(row.sizes, "float32", 0, 1.0).flops / 1e9 for row in points]
    slow = [seconds[0], 2 * seconds[1], seconds[2]]
    results = [result(row, {"dlcore": value}) for row, value in zip(points, slow, strict=True)]
    header, lines = scale.tables(results)
    assert [line[0] for line in lines] == ["width 64", "width 128", "depth 1"]
    assert [line[header.index("ns / FLOP")] for line in lines] == ["1", "2", "1"]
    assert [line[-2:] for line in lines] == [["-", ""], ["2.00", "CLIFF"], ["-", ""]]

    twice = [
        result(row, {"dlcore": value / 1.6}, 2) for row, value in zip(points, slow, strict=True)
    ]
    header, lines = scale.speedups(results + twice)
    assert header == ["", "2 threads / 1"]
    assert lines == [[row.name, "1.60"] for row in points]


def test_points_vary_one_thing_around_the_base():
    base = {"rows": scale.BASE_ROWS, "width": scale.BASE_WIDTH, "depth": scale.BASE_DEPTH}
    for row in scale.ROWS:
        _, *hidden, _ = row.network.units
        found = {"rows": row.network.rows, "width": hidden[0], "depth": len(hidden)}
        sweep, value = row.name.split()
        if sweep == "rows":
            assert found == {**base, "rows": int(value)}
        else:
            assert found == {**base, sweep: int(value)}
        assert row.network.epochs == 1 or (
            row.network.epochs * row.network.training_flops <= scale.TURN_FLOPS
        )
