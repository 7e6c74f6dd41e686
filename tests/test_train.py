"""Training through native plans: exact losses, determinism, state, callbacks."""

from __future__ import annotations

import copy
import pickle
import threading
import warnings

import numpy as np
import pytest

import dlcore as dl
import reference_mlp
from dlcore import _native
from dlcore.train import EarlyStopping, batch_indices
from graph_tools import assert_gradients_close, numerical_gradient

LAYERS = {"relu": dl.nn.ReLU, "tanh": dl.nn.Tanh, "sigmoid": dl.nn.Sigmoid}


def make_model(widths=(5, 9, 7, 3), activation="relu", dtype="float64", seed=3, dropout=0.0):
    layers = []
    for before, after in zip(widths[:-1], widths[1:], strict=True):
        layers += [dl.nn.Linear(before, after), LAYERS[activation]()]
        if dropout:
            layers.append(dl.nn.Dropout(dropout))
    last = max(i for i, layer in enumerate(layers) if isinstance(layer, dl.nn.Linear))
    model = dl.nn.Sequential(*layers[: last + 1], dtype=dtype).init(seed)
    rng = np.random.default_rng(seed)
    for name, value in model.parameters().items():
        if name.endswith("bias"):
            model.set_parameters({name: rng.uniform(-0.5, 0.5, value.shape)})
    return model


def make_data(loss, n=103, features=5, outputs=3, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, features))
    if loss == "cross_entropy":
        return x, rng.integers(0, outputs, n)
    return x, rng.normal(size=(n, outputs))


OPTIMIZERS = {
    "sgd": (dl.optim.SGD(0.1), lambda: reference_mlp.SGD(0.1)),
    "momentum": (
        dl.optim.SGD(0.05, momentum=0.9, weight_decay=0.01),
        lambda: reference_mlp.SGD(0.05, 0.9, weight_decay=0.01),
    ),
    "nesterov": (
        dl.optim.SGD(0.05, momentum=0.9, nesterov=True),
        lambda: reference_mlp.SGD(0.05, 0.9, nesterov=True),
    ),
    "adam": (dl.optim.Adam(0.01), lambda: reference_mlp.Adam(0.01)),
    "adam l2": (
        dl.optim.Adam(0.01, weight_decay=0.1),
        lambda: reference_mlp.Adam(0.01, weight_decay=0.1),
    ),
    "adamw": (
        dl.optim.AdamW(0.01, weight_decay=0.1),
        lambda: reference_mlp.Adam(0.01, weight_decay=0.1, decoupled=True),
    ),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_losses_equal_plain_numpy(optimizer, activation, loss, weighted):
    """50 updates in shuffled mini-batches with a short last one: every epoch's loss and the final
    weights equal those of the textbook implementation."""
    x, y = make_data(loss)
    model = make_model(activation=activation)
    start = {name: value.copy() for name, value in model.parameters().items()}
    weights = np.random.default_rng(1).uniform(0.2, 2.0, len(x)) if weighted else None
    ours, reference = OPTIMIZERS[optimizer]
    epochs, batch = 10, 24
    history = model.fit(
        x, y, loss=loss, optimizer=ours, batch_size=batch, epochs=epochs, seed=11,
        sample_weight=weights,
    )  # fmt: skip
    batches = [rows for e in range(epochs) for rows in batch_indices(len(x), batch, e, 11)]
    assert len(batches) == 50
    steps = reference_mlp.train(start, activation, loss, reference(), x, y, batches, weights)
    shares = [len(rows) if weights is None else weights[rows].sum() for rows in batches]
    expected = np.average(
        steps.reshape(epochs, -1), axis=1, weights=np.reshape(shares, (epochs, -1))
    )
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-10)
    for name, value in model.parameters().items():
        np.testing.assert_allclose(value, start[name], rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("activation", ["GELU", "SiLU", "ELU", "LeakyReLU", "Softplus", "Tanh"])
@pytest.mark.parametrize("loss", ["cross_entropy", "mse", "mae", "huber", "binary_cross_entropy"])
def test_gradients_of_whole_models_equal_central_differences(loss, activation):
    """A step of SGD with rate 1 moves the parameters by the gradient of the loss."""
    rng = np.random.default_rng(6)
    x, weights = rng.normal(size=(11, 4)), rng.uniform(0.5, 2.0, 11)
    model = dl.nn.Sequential(
        dl.nn.Linear(4, 5), getattr(dl.nn, activation)(), dl.nn.Linear(5, 3), dtype="float64"
    ).init(seed=8)
    start = {name: value.copy() for name, value in model.parameters().items()}
    if loss == "cross_entropy":
        y = rng.integers(0, 3, 11)
    elif loss == "binary_cross_entropy":
        y = rng.uniform(size=(11, 3))
    else:  # errors on both sides of the kinks of mae and huber, and far from them
        y = model.predict(x) + rng.choice([-3.0, -0.5, 0.5, 3.0], (11, 3))

    def step(parameters, rate):
        model.set_parameters(parameters)
        optimizer = dl.optim.SGD(rate)
        history = model.fit(
            x, y, loss=loss, optimizer=optimizer, batch_size=11, epochs=1, sample_weight=weights
        )
        return history["loss"][0]

    step(start, 1.0)
    for name, value in start.items():
        gradient = value - model.parameters()[name]

        def f(moved, name=name):
            kept = {k: v.copy() for k, v in model.parameters().items()}
            result = step({**start, name: moved}, 0.0)
            model.set_parameters(kept)
            return result

        assert_gradients_close(gradient, numerical_gradient(f, value), 1e-6)


def test_first_50_step_losses_equal_plain_numpy():
    """Full-batch steps: an epoch is a step, so each of the 50 losses is seen by itself."""
    x, y = make_data("cross_entropy")
    model = make_model()
    start = {name: value.copy() for name, value in model.parameters().items()}
    history = model.fit(
        x, y, loss="cross_entropy", optimizer=dl.optim.Adam(0.01), batch_size=len(x), epochs=50
    )
    batches = [np.arange(len(x))] * 50
    expected = reference_mlp.train(
        start, "relu", "cross_entropy", reference_mlp.Adam(0.01), x, y, batches
    )
    assert expected[-1] < 0.9 * expected[0]
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-10)


@pytest.fixture
def always_threaded():
    """Teams for any size of work."""
    before = _native.get_serial_threshold()
    _native.set_serial_threshold(0)
    yield
    _native.set_serial_threshold(before)
    dl.set_num_threads(0)


def _weights_after_training(threads, dtype, loss="cross_entropy", dropout=0.2):
    dl.set_num_threads(threads)
    assert _native.team_size(threads) == threads
    x, y = make_data(loss, n=331, features=37, outputs=11)
    model = make_model((37, 53, 29, 11), dtype=dtype, dropout=dropout)
    model.fit(x, y, loss=loss, optimizer=dl.optim.Adam(0.01), batch_size=67, epochs=4, seed=5)
    return {name: value.copy() for name, value in model.parameters().items()}


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_are_bitwise_equal_at_any_thread_count(always_threaded, dtype, loss):
    """1, 2, 3 and 8 threads, on sizes that no tile divides."""
    expected = _weights_after_training(1, dtype, loss)
    assert all(np.any(value != 0) for value in expected.values())
    for threads in (1, 2, 3, 8):
        got = _weights_after_training(threads, dtype, loss)
        for name, value in expected.items():
            np.testing.assert_array_equal(got[name], value, err_msg=f"{name}, {threads} threads")


def test_seeds_decide(always_threaded):
    """One seed gives one result; another gives another."""

    def weights(seed):
        x, y = make_data("cross_entropy")
        model = dl.nn.Sequential(dl.nn.Linear(5, 8), dl.nn.Dropout(0.3), dl.nn.Linear(8, 3))
        model.fit(x, y, loss="cross_entropy", batch_size=16, epochs=2, seed=seed)
        return model.parameters()["0.weight"].copy()

    np.testing.assert_array_equal(weights(1), weights(1))
    assert np.any(weights(1) != weights(2))


@pytest.mark.parametrize("optimizer", [dl.optim.Adam(0.01), dl.optim.SGD(0.1, momentum=0.9)])
def test_resume_equals_a_run_that_never_stopped(optimizer):
    """Optimiser state, step count, order of rows and dropout all go on."""
    x, y = make_data("cross_entropy")
    whole, parts = make_model(dropout=0.2), make_model(dropout=0.2)
    arguments = {"loss": "cross_entropy", "batch_size": 16, "seed": 9}
    history = whole.fit(x, y, optimizer=optimizer, epochs=6, **arguments)
    first = parts.fit(x, y, optimizer=optimizer, epochs=2, **arguments)
    second = parts.fit(x, y, epochs=4, resume=True, **arguments)
    assert first["loss"] + second["loss"] == history["loss"]
    for name, value in whole.parameters().items():
        np.testing.assert_array_equal(parts.parameters()[name], value)


def test_resume_after_an_interrupted_epoch(monkeypatch):
    """A run that is broken off within an epoch goes on at the very next step."""
    x, y = make_data("cross_entropy")
    whole, parts = make_model(), make_model()
    arguments = {"loss": "cross_entropy", "batch_size": 16, "seed": 9}
    whole.fit(x, y, optimizer=dl.optim.Adam(0.01), epochs=3, **arguments)

    from dlcore.graph.lower import CompiledPlan

    run = CompiledPlan.run
    calls = []

    def run_four_steps_then_interrupt(self, bindings, **options):
        if calls:
            raise KeyboardInterrupt
        calls.append(1)
        return run(self, bindings, **{**options, "step_end": options["step_begin"] + 4})

    monkeypatch.setattr(CompiledPlan, "run", run_four_steps_then_interrupt)
    with pytest.raises(KeyboardInterrupt):
        parts.fit(x, y, optimizer=dl.optim.Adam(0.01), epochs=3, **arguments)
    monkeypatch.undo()
    parts.fit(x, y, epochs=3, resume=True, **arguments)
    for name, value in whole.parameters().items():
        np.testing.assert_array_equal(parts.parameters()[name], value)


def test_a_second_fit_has_a_fresh_optimizer():
    x, y = make_data("mse")
    a, b = make_model(), make_model()
    a.fit(x, y, loss="mse", optimizer=dl.optim.Adam(0.01), epochs=3)
    b.set_parameters(a.parameters())
    a.fit(x, y, loss="mse", optimizer=dl.optim.Adam(0.01), epochs=2)
    b.fit(x, y, loss="mse", optimizer=dl.optim.Adam(0.01), epochs=2)
    for name, value in a.parameters().items():
        np.testing.assert_array_equal(b.parameters()[name], value)


def test_batch_indices_partition_the_rows():
    batches = batch_indices(103, 25, epoch=2, seed=7)
    assert [len(rows) for rows in batches] == [25, 25, 25, 25, 3]
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(103))
    again = batch_indices(103, 25, epoch=2, seed=7)
    other = batch_indices(103, 25, epoch=3, seed=7)
    np.testing.assert_array_equal(np.concatenate(batches), np.concatenate(again))
    assert np.any(np.concatenate(batches) != np.concatenate(other))
    np.testing.assert_array_equal(batch_indices(10, 10, 0, 0)[0], np.arange(10))


def test_order_of_rows_is_uniform():
    """Each row is as likely to be at each place: chi-squared over 6000 shuffles of 6 rows."""
    counts = np.zeros((6, 6))
    for epoch in range(6000):
        order = np.concatenate(batch_indices(6, 2, epoch, seed=1))
        counts[order, np.arange(6)] += 1
    statistic = np.sum((counts - 1000) ** 2 / 1000)
    assert 5 < statistic < 60  # 25 degrees of freedom: beyond 60 has probability 1e-4


def test_history_and_validation_loss():
    x, y = make_data("mse")
    model = make_model()
    history = model.fit(
        x, y, loss="mse", epochs=3, batch_size=20, validation_data=(x[:31], y[:31]), seed=2
    )
    expected, _ = reference_mlp.loss_and_gradients(
        model.parameters(), "relu", "mse", x[:31], y[:31]
    )
    assert len(history["loss"]) == len(history["val_loss"]) == 3
    np.testing.assert_allclose(history["val_loss"][-1], expected, rtol=1e-10)


def test_validation_loss_in_many_steps_and_with_weights():
    x, y = make_data("cross_entropy", n=2500)
    weights = np.random.default_rng(3).uniform(0, 2, len(x))
    model = make_model()
    history = model.fit(
        x[:50], y[:50], loss="cross_entropy", epochs=1, validation_data=(x, y, weights)
    )
    expected, _ = reference_mlp.loss_and_gradients(
        model.parameters(), "relu", "cross_entropy", x, y, weights
    )
    np.testing.assert_allclose(history["val_loss"][0], expected, rtol=1e-10)


def test_weight_of_two_equals_the_row_twice():
    """Full-batch: the loss is normalised by the sum of the weights."""
    x, y = make_data("mse", n=20)
    twice = np.concatenate([np.arange(20), np.arange(5)])
    weights = np.where(np.arange(20) < 5, 2.0, 1.0)
    a, b = make_model(), make_model()
    a.fit(x, y, loss="mse", optimizer=dl.optim.SGD(0.1), sample_weight=weights, batch_size=20)
    b.fit(x[twice], y[twice], loss="mse", optimizer=dl.optim.SGD(0.1), batch_size=25)
    for name, value in a.parameters().items():
        np.testing.assert_allclose(b.parameters()[name], value, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.float32, np.bool_, np.int16])
def test_inputs_of_any_dtype(dtype):
    """Inputs are converted as they are gathered."""
    x = np.random.default_rng(0).integers(0, 2, (60, 5)).astype(dtype)
    y = make_data("mse", n=60)[1]
    a, b = make_model(), make_model()
    a.fit(x, y, loss="mse", batch_size=16)
    b.fit(x.astype(np.float64), y, loss="mse", batch_size=16)
    np.testing.assert_array_equal(a.parameters()["0.weight"], b.parameters()["0.weight"])
    np.testing.assert_array_equal(a.predict(x), b.predict(x.astype(np.float64)))


def test_inputs_of_any_layout():
    x, y = make_data("mse")
    models = [make_model() for _ in range(3)]
    layouts = (x, np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2])
    for model, layout in zip(models, layouts, strict=True):
        model.fit(layout, y, loss="mse", batch_size=16)
    for model in models[1:]:
        np.testing.assert_array_equal(
            model.parameters()["0.weight"], models[0].parameters()["0.weight"]
        )


def test_callbacks_see_epochs_and_may_stop():
    x, y = make_data("mse")
    seen = []

    def stop_after_three(fit):
        seen.append((fit.epoch, len(fit.history["loss"])))
        if fit.epoch == 2:
            fit.stop()

    history = make_model().fit(x, y, loss="mse", epochs=10, callbacks=[stop_after_three])
    assert seen == [(0, 1), (1, 2), (2, 3)]
    assert len(history["loss"]) == 3


def test_early_stopping_restores_the_best():
    x, y = make_data("mse", n=30)
    model = make_model()
    best = {}

    def remember(fit):
        if fit.history["val_loss"][-1] == min(fit.history["val_loss"]):
            best.update({k: v.copy() for k, v in fit.model.parameters().items()})

    history = model.fit(
        x[:15], y[:15], loss="mse", optimizer=dl.optim.Adam(0.05), epochs=400, batch_size=5,
        validation_data=(x[15:], y[15:]),
        callbacks=[remember, EarlyStopping(patience=5)],
    )  # fmt: skip
    values = history["val_loss"]
    assert len(values) < 400
    assert len(values) - 1 - int(np.argmin(values)) == 5
    for name, value in model.parameters().items():
        np.testing.assert_array_equal(value, best[name])


def test_early_stopping_names_a_wrong_monitor():
    x, y = make_data("mse")
    with pytest.raises(ValueError, match="'val_loss', but the fit has no validation_data"):
        make_model().fit(x, y, loss="mse", callbacks=EarlyStopping())
    with pytest.raises(ValueError, match="monitor is 'accuracy', but the history has loss"):
        make_model().fit(x, y, loss="mse", callbacks=EarlyStopping("accuracy"))
    with pytest.raises(ValueError, match="restore_best=True needs a monitor that is measured"):
        EarlyStopping("loss", restore_best=True)


def test_learning_rate_may_be_changed_by_a_callback():
    x, y = make_data("mse")
    model = make_model()
    states = []

    def freeze(fit):
        states.append(fit.model.parameters()["0.weight"].copy())
        fit.optimizer.learning_rate = 0.0

    model.fit(x, y, loss="mse", optimizer=dl.optim.SGD(0.1), epochs=3, callbacks=[freeze])
    np.testing.assert_array_equal(states[0], states[2])


def test_loss_that_is_not_finite_warns():
    x, y = make_data("mse")
    with pytest.warns(RuntimeWarning, match="training loss is not finite from epoch"):
        make_model().fit(x * 1e200, y, loss="mse", optimizer=dl.optim.SGD(1e3), epochs=3)


BAD_FITS = {
    "unknown loss": ({"loss": "cubic"}, ValueError, "loss must be one of mse"),
    "batch size": ({"batch_size": 0}, ValueError, "batch_size must be an integer >= 1, not 0"),
    "epochs": ({"epochs": -1}, ValueError, "epochs must be an integer >= 0, not -1"),
    "seed": ({"seed": -1}, ValueError, r"seed must be an integer in \[0, 2\*\*64\), not -1"),
    "optimizer": ({"optimizer": "adam"}, TypeError, "optimizer must be a dlcore.optim.Optimizer"),
    "weights' length": ({"sample_weight": np.ones(3)}, ValueError, r"sample_weight has shape \(3,"),
    "weights' sign": ({"sample_weight": -np.ones(103)}, ValueError, "must be finite and >= 0"),
    "weights' sum": (
        {"sample_weight": np.full(103, 1e308)},
        ValueError,
        "adds up to inf, more than",
    ),
    "callbacks": ({"callbacks": [3]}, TypeError, "callbacks must be Callback objects or functions"),
    "resume": ({"resume": True}, ValueError, "no training state to go on from"),
    "y": ({"y": np.ones((50, 3))}, ValueError, "y has 50 rows, but x has 103"),
    "y's shape": ({"y": np.ones((103, 2))}, ValueError, r"y has shape \(103, 2\), but the model"),
    "X": ({"X": np.ones((103, 4))}, ValueError, "x has 4 columns, but Linear takes 5"),
    "text": ({"X": np.full((103, 5), "a")}, TypeError, "x must hold numbers, but its dtype is <U1"),
    "no rows": ({"X": np.ones((0, 5)), "y": np.ones((0, 3))}, ValueError, "x has no rows"),
    "validation": ({"validation_data": (1,)}, ValueError, "validation_data must be"),
}


@pytest.mark.parametrize("name", BAD_FITS)
def test_bad_arguments_are_named_and_change_nothing(name):
    changes, error, message = BAD_FITS[name]
    x, y = make_data("mse")
    model = dl.nn.Sequential(dl.nn.Linear(5, 3))
    arguments = {"X": x, "y": y, "loss": "mse", **changes}
    with pytest.raises(error, match=message):
        model.fit(**arguments)
    with pytest.raises(ValueError, match="the model has no parameters yet"):
        model.parameters()


def test_labels_out_of_range_are_named_and_change_nothing():
    x, y = make_data("cross_entropy")
    y[57] = 3
    model = make_model()
    before = {name: value.copy() for name, value in model.parameters().items()}
    with pytest.raises(ValueError, match=r"y has label 3 in row 57, outside \[0, 3\)"):
        model.fit(x, y, loss="cross_entropy", batch_size=8)
    for name, value in model.parameters().items():
        np.testing.assert_array_equal(value, before[name])


def test_float_labels_are_refused():
    x, y = make_data("cross_entropy")
    with pytest.raises(TypeError, match="y must hold integer labels for cross_entropy"):
        make_model().fit(x, y.astype(float), loss="cross_entropy")


def test_a_concurrent_fit_of_one_model_raises():
    x, y = make_data("mse")
    model = make_model()
    errors = []

    def fit_again(fit):
        def other():
            try:
                model.fit(x, y, loss="mse")
            except RuntimeError as error:
                errors.append(str(error))

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    model.fit(x, y, loss="mse", epochs=1, callbacks=[fit_again])
    assert errors == ["another fit of this model is running"]


def test_models_pickle_and_deepcopy():
    x, y = make_data("mse")
    model = make_model()
    model.fit(x, y, loss="mse", epochs=2)
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(copied.predict(x), model.predict(x))
        copied.fit(x, y, loss="mse", epochs=1, resume=True)
        assert np.any(copied.predict(x) != model.predict(x))


def test_the_textbook_line():
    """100 points of y = 2x + 1 + 0.1 noise, by gradient descent: 2, 3 and 4 at 0.5, 1 and 1.5."""
    rng = np.random.default_rng(42)
    x = rng.uniform(0, 2, (100, 1))
    y = 2 * x + 1 + 0.1 * rng.normal(size=(100, 1))
    model = dl.nn.Sequential(dl.nn.Linear(1, 1), dtype="float64")
    model.fit(x, y, loss="mse", optimizer=dl.optim.SGD(0.1), batch_size=100, epochs=1000)
    assert model.parameters()["0.weight"].shape == (1, 1)
    predicted = model.predict(np.array([[0.5], [1.0], [1.5]]))
    np.testing.assert_allclose(predicted, [[2.0], [3.0], [4.0]], atol=0.1)
    design = np.hstack([x, np.ones_like(x)])
    (slope,), (intercept,) = np.linalg.lstsq(design, y, rcond=None)[0]
    np.testing.assert_allclose(model.parameters()["0.weight"], [[slope]], rtol=1e-6)
    np.testing.assert_allclose(model.parameters()["0.bias"], [intercept], rtol=1e-6)


def test_several_epochs_in_one_call_equal_one_by_one():
    """Epochs that nothing watches run in one native call, with the same result."""
    x, y = make_data("cross_entropy")
    a, b = make_model(dropout=0.1), make_model(dropout=0.1)
    together = a.fit(x, y, loss="cross_entropy", epochs=5, batch_size=17)
    apart = b.fit(x, y, loss="cross_entropy", epochs=5, batch_size=17, callbacks=[lambda fit: None])
    assert together["loss"] == apart["loss"]
    np.testing.assert_array_equal(a.parameters()["0.weight"], b.parameters()["0.weight"])


def test_verbose_shows_losses(capsys):
    x, y = make_data("mse")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make_model().fit(x, y, loss="mse", epochs=2, verbose=1)
    out, err = capsys.readouterr()
    assert "loss" in out + err


@pytest.mark.parametrize(
    ("dtype", "least"),
    [
        ("float64", 0.0),
        ("float64", 5e-324),
        ("float32", 0.0),
        ("float32", 1e-50),
        ("float32", 1e-40),
    ],
)
def test_batches_without_weight_change_nothing(dtype, least):
    """Rows of weight 0, or less than training can tell from it, fill whole batches: their loss is
    0 and the parameters stay finite."""
    x, y = make_data("mse", n=40)
    weights = np.full(40, least)
    weights[:3] = 1.0
    model, few = make_model(dtype=dtype), make_model(dtype=dtype)
    model.fit(
        x, y, loss="mse", optimizer=dl.optim.SGD(0.1), batch_size=1, epochs=2,
        sample_weight=weights, shuffle=False,
    )  # fmt: skip
    few.fit(
        x[:3], y[:3], loss="mse", optimizer=dl.optim.SGD(0.1), batch_size=1, epochs=2, shuffle=False
    )
    for name, value in few.parameters().items():
        np.testing.assert_allclose(
            model.parameters()[name], value, rtol=1e-12 if dtype == "float64" else 1e-5
        )
    with pytest.raises(ValueError, match="sample_weight is 0 for every row"):
        model.fit(x, y, loss="mse", sample_weight=np.zeros(40))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "resume=True goes on with seed=9, not 1"),
        ({"batch_size": 8}, "goes on with 103 rows in batches of 16, not 103 in batches of 8"),
        ({"optimizer": dl.optim.AdamW(0.01)}, r"goes on with Adam\("),
        ({"optimizer": dl.optim.Adam(0.01, beta1=0.5)}, r"goes on with Adam\("),
    ],
)
def test_resume_refuses_what_would_be_another_run(changes, message):
    x, y = make_data("mse")
    model = make_model()
    arguments = {"loss": "mse", "batch_size": 16, "epochs": 1}
    model.fit(x, y, optimizer=dl.optim.Adam(0.01), seed=9, **arguments)
    before = model.parameters()["0.weight"].copy()
    with pytest.raises(ValueError, match=message):
        model.fit(x, y, resume=True, **{**arguments, **changes})
    np.testing.assert_array_equal(model.parameters()["0.weight"], before)
    model.fit(x, y, resume=True, optimizer=dl.optim.Adam(0.5), **arguments)


def test_callbacks_that_began_are_ended():
    x, y = make_data("mse")
    seen = []

    class Noisy(dl.train.Callback):
        def __init__(self, fails):
            self.fails = fails

        def on_fit_begin(self, fit):
            if self.fails:
                raise OSError("no room")
            seen.append("begin")

        def on_fit_end(self, fit):
            seen.append("end")

    with pytest.raises(OSError, match="no room"):
        make_model().fit(x, y, loss="mse", callbacks=[Noisy(False), Noisy(True)])
    assert seen == ["begin", "end"]


def test_errors_in_validation_data_say_so():
    x, y = make_data("mse")
    with pytest.raises(ValueError, match="x has 3 columns") as caught:
        make_model().fit(x, y, loss="mse", validation_data=(x[:, :3], y))
    assert "in validation_data" in caught.value.__notes__


def test_binary_targets_outside_0_and_1_are_named():
    x, y = make_data("cross_entropy", outputs=1)
    y[31] = 2
    model = make_model((5, 4, 1))
    with pytest.raises(ValueError, match=r"y has 2 in row 31, but binary_cross_entropy takes"):
        model.fit(x, y, loss="binary_cross_entropy")


@pytest.mark.parametrize("dtype", [np.uint64, np.uint32, np.int8, np.int64])
def test_labels_of_any_integer_dtype(dtype):
    x, y = make_data("cross_entropy")
    a, b = make_model(), make_model()
    a.fit(x, y, loss="cross_entropy", epochs=1)
    b.fit(x, y.astype(dtype)[:, np.newaxis], loss="cross_entropy", epochs=1)
    np.testing.assert_array_equal(a.parameters()["0.weight"], b.parameters()["0.weight"])


def test_layers_that_were_changed_are_compiled_again():
    x, y = make_data("mse")
    a, b = make_model(dropout=0.5), make_model(dropout=0.5)
    a.fit(x, y, loss="mse", epochs=1)
    a.layers[2].p = 0.0
    b.fit(x, y, loss="mse", epochs=1)
    for model in (a, b):
        model.fit(x, y, loss="mse", epochs=1)
    assert np.any(a.parameters()["0.weight"] != b.parameters()["0.weight"])
