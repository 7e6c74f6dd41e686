"""Layers against NumPy, central differences and PyTorch; penalties; layers of one's own."""

from __future__ import annotations

import numpy as np
import pytest

import dlcore as dl
from dlcore.train import batch_indices
from layer_tools import (
    X3,
    RunningMax,
    Scale,
    X,
    arrays,
    assert_gradients_right,
    initialised,
    training_pass,
)

nn = dl.nn
RNG = np.random.default_rng(2)


def normalise(x, axes, eps=1e-5):
    mean = x.mean(axis=axes, keepdims=True)
    return (x - mean) / np.sqrt(x.var(axis=axes, keepdims=True) + eps)


# Activations


def mish(x):
    return x * np.tanh(np.log1p(np.exp(x)))


def hardswish(x):
    return x * np.minimum(np.maximum(x + 3, 0), 6) / 6


@pytest.mark.parametrize(
    ("layer", "reference"), [(nn.Mish(), mish), (nn.Hardswish(), hardswish)], ids=repr
)
def test_activations_equal_their_formulas(layer, reference):
    x = np.concatenate([X, 4 * X + 0.01, np.full((1, 5), 30.0), np.full((1, 5), -30.0)])
    model = nn.Sequential(layer, dtype="float64").init()
    np.testing.assert_allclose(model.predict(x), reference(x), rtol=1e-12, atol=1e-15)
    assert_gradients_right(model, x)


def test_mish_is_finite_for_large_inputs():
    model = nn.Sequential(nn.Mish()).init()
    got = model.predict(np.array([[1e4, -1e4, 100.0, -100.0]]))
    np.testing.assert_allclose(got, [[1e4, 0.0, 100.0, 0.0]], atol=1e-30)


@pytest.mark.parametrize("features", [1, 5])
def test_prelu_has_one_slope_or_one_for_each_column(features):
    model = initialised(nn.PReLU(features))
    slope = model.parameters()["0.slope"]
    assert slope.shape == (features,)
    np.testing.assert_allclose(model.predict(X), np.where(X > 0, X, slope * X), rtol=1e-14)
    assert_gradients_right(model, X)
    start = nn.Sequential(nn.PReLU(features, initial=0.1), dtype="float64").init()
    np.testing.assert_array_equal(start.parameters()["0.slope"], np.full(features, 0.1))


def test_prelu_refuses_other_columns():
    with pytest.raises(ValueError, match=r"x has shape \(rows, 5\), but PReLU has slopes for 4"):
        nn.Sequential(nn.PReLU(4)).init().predict(X)
    with pytest.raises(ValueError, match="features must be an integer >= 1, not 0"):
        nn.PReLU(0)


# Normalisation


@pytest.mark.parametrize(
    ("features", "axis", "axes"),
    [
        (6, None, (2,)),
        ((4, 6), None, (1, 2)),
        (4, 1, (1,)),
        (4, -2, (1,)),
        ((6, 4), (2, 1), (1, 2)),
    ],
)
def test_layer_norm_equals_numpy(features, axis, axes):
    """Over the last axis, the last two, an inner one, and two in another order."""
    model = initialised(nn.LayerNorm(features, axis=axis))
    p = model.parameters()
    gain, bias = p["0.gain"], p["0.bias"]
    if axis == (2, 1):
        gain, bias = gain.T, bias.T
    if axes == (1,):
        gain, bias = gain[:, np.newaxis], bias[:, np.newaxis]
    expected = normalise(X3, axes) * gain + bias
    np.testing.assert_allclose(model.predict(X3), expected, rtol=1e-10, atol=1e-13)
    assert_gradients_right(model, X3, rtol=1e-6)


@pytest.mark.parametrize("layer", [nn.LayerNorm, nn.BatchNorm])
def test_gain_bias_and_eps_are_options(layer):
    model = initialised(layer(5, gain=False, bias=False, eps=0.5))
    assert not {"0.gain", "0.bias"} & set(model.parameters())
    axes = (1,) if layer is nn.LayerNorm else (0,)
    got, _ = training_pass(model, X)
    np.testing.assert_allclose(got, normalise(X, axes, eps=0.5), rtol=1e-10, atol=1e-13)


def test_layer_norm_of_large_offsets_loses_no_more_than_they_do():
    """The variance is that of deviations, not a difference of squares."""
    x = (X + 1e4).astype(np.float32)
    got = nn.Sequential(nn.LayerNorm(5)).init().predict(x)
    np.testing.assert_allclose(got, normalise(x.astype(np.float64), (1,)), atol=2e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.LayerNorm(0), "features must be an integer >= 1, not 0"),
        (lambda: nn.LayerNorm(()), "features must name at least one extent"),
        (lambda: nn.LayerNorm(3, axis=0), "axis 0 holds the rows"),
        (lambda: nn.LayerNorm((3, 4), axis=1), "axis is 1, but features has 2 extents"),
        (lambda: nn.LayerNorm(3, eps=-1), "eps must be a number >= 0, not -1"),
        (lambda: nn.BatchNorm(3, momentum=1.5), r"momentum must lie in \[0, 1\], not 1.5"),
        (lambda: nn.BatchNorm(3.0), "features must be an integer >= 1, not 3.0"),
    ],
)
def test_bad_arguments_of_normalisation(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_normalisation_refuses_other_columns():
    with pytest.raises(ValueError, match=r"x has shape \(rows, 5\), but LayerNorm takes \(4,\)"):
        nn.Sequential(nn.LayerNorm(4)).init().predict(X)
    with pytest.raises(ValueError, match=r"x has shape \(rows, 5\), but BatchNorm takes 4"):
        nn.Sequential(nn.BatchNorm(4)).init().predict(X)


@pytest.mark.parametrize("x", [X, X3[..., :5]], ids=["rows", "inner axes"])
def test_batch_norm_normalises_by_the_batch_and_remembers_it(x):
    model = initialised(nn.BatchNorm(5, momentum=0.3))
    p = arrays(model)
    axes = tuple(range(x.ndim - 1))
    got, state = training_pass(model, x)
    expected = normalise(x, axes) * p["0.gain"] + p["0.bias"]
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-13)
    mean, var = x.mean(axis=axes), x.var(axis=axes, ddof=1)
    np.testing.assert_allclose(
        state["0.running_mean"], 0.7 * p["0.running_mean"] + 0.3 * mean, rtol=1e-12
    )
    np.testing.assert_allclose(
        state["0.running_var"], 0.7 * p["0.running_var"] + 0.3 * var, rtol=1e-12
    )
    running = (x - p["0.running_mean"]) / np.sqrt(p["0.running_var"] + 1e-5)
    np.testing.assert_allclose(
        model.predict(x), running * p["0.gain"] + p["0.bias"], rtol=1e-10, atol=1e-13
    )
    assert_gradients_right(model, x, rtol=1e-6)


class BatchNormReference:
    """Linear, BatchNorm, Linear in plain NumPy, trained by gradient descent on squared errors."""

    def __init__(self, parameters, momentum=0.1, eps=1e-5):
        self.p, self.momentum, self.eps = parameters, momentum, eps

    def step(self, x, y, weights, rate):
        p = self.p
        n = len(x)
        z = x @ p["0.weight"] + p["0.bias"]
        mean, var = z.mean(axis=0), z.var(axis=0)
        root = np.sqrt(var + self.eps)
        hat = (z - mean) / root
        h = hat * p["1.gain"] + p["1.bias"]
        error = h @ p["2.weight"] + p["2.bias"] - y
        share = (weights / weights.sum())[:, None]
        loss = np.sum(share * np.mean(error**2, axis=1, keepdims=True))
        g = 2 * share * error / y.shape[1]
        gradients = {"2.weight": h.T @ g, "2.bias": g.sum(axis=0)}
        g = g @ p["2.weight"].T
        gradients |= {"1.gain": np.sum(g * hat, axis=0), "1.bias": g.sum(axis=0)}
        g = g * p["1.gain"]
        g = (g - g.mean(axis=0) - hat * np.mean(g * hat, axis=0)) / root
        gradients |= {"0.weight": x.T @ g, "0.bias": g.sum(axis=0)}
        for name, gradient in gradients.items():
            p[name] -= rate * gradient
        if n > 1:
            for name, batch in (("mean", mean), ("var", var * n / (n - 1))):
                p[f"1.running_{name}"] *= 1 - self.momentum
                p[f"1.running_{name}"] += self.momentum * batch
        return loss


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("batch_size", [24, 34], ids=["7 rows last", "1 row last"])
def test_batch_norm_trains_as_plain_numpy(batch_size, weighted):
    """Shuffled mini-batches with a short last one, even of one row, which has no variance; sample
    weights do not enter the statistics."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(103, 4)) + 1.0, rng.normal(size=(103, 2))
    weights = rng.uniform(0.2, 2.0, 103) if weighted else np.ones(103)
    model = initialised(nn.Linear(4, 6), nn.BatchNorm(6), nn.Linear(6, 2))
    reference = BatchNormReference(arrays(model))
    history = model.fit(
        x, y, loss="mse", optimizer=dl.optim.SGD(0.05), batch_size=batch_size, epochs=4, seed=7,
        sample_weight=weights if weighted else None,
    )  # fmt: skip
    for epoch in range(4):
        batches = batch_indices(103, batch_size, epoch, 7)
        losses = [reference.step(x[rows], y[rows], weights[rows], 0.05) for rows in batches]
        expected = np.average(losses, weights=[weights[rows].sum() for rows in batches])
        np.testing.assert_allclose(history["loss"][epoch], expected, rtol=1e-9)
    for name, value in model.parameters().items():
        if name != "0.bias":  # which normalisation takes away: its gradient is rounding alone
            np.testing.assert_allclose(value, reference.p[name], rtol=1e-8, err_msg=name)


def test_validation_uses_the_running_statistics():
    model = initialised(nn.BatchNorm(5), nn.Linear(5, 1))
    y = X[:, 0] * 3
    history = model.fit(X, y, loss="mse", batch_size=4, epochs=2, validation_data=(X, y))
    expected = np.mean((model.predict(X)[:, 0] - y) ** 2)
    np.testing.assert_allclose(history["val_loss"][-1], expected, rtol=1e-12)


# Embedding


def test_embedding_takes_rows_of_its_weight():
    model = initialised(nn.Embedding(6, 3))
    weight = model.parameters()["0.weight"]
    flat, several = RNG.integers(0, 6, 20), RNG.integers(0, 6, (20, 2))
    np.testing.assert_array_equal(model.predict(flat), weight[flat])
    np.testing.assert_array_equal(model.predict(several), weight[several])
    for dtype in (np.int8, np.uint64, np.float32, np.float64):
        np.testing.assert_array_equal(model.predict(several.astype(dtype)), weight[several])
    np.testing.assert_array_equal(model.predict_one(several[3].astype(float)), weight[several[3]])


def test_embedding_gradients_add_up_over_rows():
    x = np.array([[0, 3], [3, 3], [1, 0]])
    model = initialised(nn.Embedding(4, 2), nn.Flatten(), nn.Linear(4, 1))
    start = arrays(model)
    y = np.array([1.0, -1.0, 2.0])
    model.fit(x, y, loss="mse", optimizer=dl.optim.SGD(1.0), batch_size=3, epochs=1)
    error = start["0.weight"][x].reshape(3, 4) @ start["2.weight"] + start["2.bias"] - y[:, None]
    g = (2 / 3 * error @ start["2.weight"].T).reshape(3, 2, 2)
    expected = np.zeros((4, 2))
    np.add.at(expected, x, g)
    moved = start["0.weight"] - model.parameters()["0.weight"]
    np.testing.assert_allclose(moved, expected, rtol=1e-12, atol=1e-15)
    assert np.all(moved[2] == 0)
    assert np.all(moved[[0, 1, 3]] != 0)


@pytest.mark.parametrize(
    ("value", "shown"), [(7, "7"), (-1, "-1"), (1.5, "1.5"), (np.nan, "nan"), (np.inf, "inf")]
)
def test_embedding_names_what_is_no_category(value, shown):
    x = np.array([[0], [2], [value], [1]])
    model = initialised(nn.Embedding(4, 2), nn.Flatten(), nn.Linear(2, 1))
    before = arrays(model)
    message = rf"x has {shown}(\.0)? in row 2, but the categories of Embedding are .* \[0, 4\)"
    with pytest.raises(ValueError, match=message):
        model.predict(x)
    with pytest.raises(ValueError, match=message):
        model.fit(x, np.ones(4), loss="mse", batch_size=1)
    for name, expected in before.items():
        np.testing.assert_array_equal(model.parameters()[name], expected)


@pytest.mark.parametrize("value", [4.0, -1.0, 0.5])
def test_categories_that_layers_computed_are_checked_as_the_plan_runs(value):
    class Second(nn.Layer):
        def apply(self, parameters, x, training):
            return x[:, 1]

    model = nn.Sequential(Second(), nn.Embedding(4, 2), dtype="float64").init()
    with pytest.raises(ValueError, match="index"):
        model.predict([[0.0, 0.0], [0.0, value]])
    direct = nn.Sequential(nn.Embedding(4, 2), dtype="float64").init()
    with pytest.raises(ValueError, match="index"):
        direct.predict_one(np.array([value]))


def test_bad_arguments_of_embedding():
    with pytest.raises(ValueError, match="categories must be an integer >= 1, not 0"):
        nn.Embedding(0, 2)
    with pytest.raises(ValueError, match="categories is 16777217, but a float32 model tells apart"):
        nn.Sequential(nn.Embedding(2**24 + 1, 1)).init()
    with pytest.raises(TypeError, match="Embedding takes one array, but x has several"):
        nn.Sequential(nn.Embedding(2, 2)).init().predict((np.ones(2), np.ones(2)))


# Penalties


def test_l1_and_l2_are_added_to_the_training_loss():
    """Of weights within containers and of tied ones too; not to the validation loss."""
    table = nn.Embedding(4, 2, l2=0.3)
    x, y = np.array([0, 3, 3, 1]), np.array([1.0, 2.0, -1.0, 0.5])
    plain = initialised(nn.Embedding(4, 2), nn.Residual(nn.Linear(2, 2)), nn.Linear(2, 1))
    model = initialised(
        table, nn.Residual(nn.Linear(2, 2, l1=0.1, l2=0.2)), nn.Linear(2, 1, l1=0.05)
    )
    p = arrays(model)
    added = (
        0.3 * np.sum(p["0.weight"] ** 2)
        + 0.1 * np.sum(np.abs(p["1.0.weight"]))
        + 0.2 * np.sum(p["1.0.weight"] ** 2)
        + 0.05 * np.sum(np.abs(p["2.weight"]))
    )
    slope = {
        "0.weight": 0.6 * p["0.weight"],
        "1.0.weight": 0.1 * np.sign(p["1.0.weight"]) + 0.4 * p["1.0.weight"],
        "2.weight": 0.05 * np.sign(p["2.weight"]),
    }
    losses = []
    for each in (plain, model):
        history = each.fit(
            x, y, loss="mse", optimizer=dl.optim.SGD(1e-3), batch_size=4, epochs=1,
            validation_data=(x, y),
        )  # fmt: skip
        losses.append(history["loss"][0])
        expected = np.mean((each.predict(x)[:, 0] - y) ** 2)
        np.testing.assert_allclose(history["val_loss"][0], expected, rtol=1e-12)
    np.testing.assert_allclose(losses[1] - losses[0], added, rtol=1e-10)
    for name, value in model.parameters().items():
        expected = plain.parameters()[name] - 1e-3 * slope.get(name, 0.0)
        np.testing.assert_allclose(value, expected, rtol=1e-10, atol=1e-14, err_msg=name)
    with pytest.raises(ValueError, match="l1 must be a number >= 0, not -1"):
        nn.Linear(2, 2, l1=-1)


# Layers of one's own


def test_a_layer_written_in_numpy_trains_like_the_others():
    model = nn.Sequential(Scale(5, power=2), nn.Linear(5, 1), dtype="float64").init(seed=1)
    p = arrays(model)
    expected = np.tanh(X * p["0.scale"] ** 2) + 0.5
    np.testing.assert_allclose(model.predict(X), expected @ p["1.weight"] + p["1.bias"], rtol=1e-12)
    assert_gradients_right(model, X)
    y = np.tanh(X[:, 0]) - np.tanh(X[:, 2])
    history = model.fit(X, y, loss="mse", optimizer=dl.optim.Adam(0.05), epochs=300)
    assert history["loss"][-1] < 0.5 * history["loss"][0]


class Columns(nn.Layer):
    """A layer with an array of its own, of Python's numbers."""

    def __init__(self, offsets):
        self.offsets = offsets

    def apply(self, parameters, x, training):
        return x * np.array([1.0, -1.0, 2.0, 0.5, 3.0]) + self.offsets


def test_arrays_of_a_layer_do_not_change_the_dtype_of_the_model():
    """NumPy makes float64 of float32 and float64; the model goes on in its own dtype."""
    model = nn.Sequential(Columns(np.ones(5)), nn.Linear(5, 2), nn.Tanh()).init()
    assert model.predict(X).dtype == np.float32
    assert "float64" not in model.plan_summary().split("matmul")[1]
    alone = nn.Sequential(Columns(np.ones(5))).init()
    expected = X * [1.0, -1.0, 2.0, 0.5, 3.0] + 1.0
    np.testing.assert_allclose(alone.predict(X), expected, rtol=1e-5, atol=1e-6)
    alone.layers[0].offsets = np.zeros(5)  # another array is another plan
    np.testing.assert_allclose(alone.predict(X), expected - 1.0, rtol=1e-5, atol=1e-6)
    alone.layers[0].offsets[...] = 1.0  # the same one is read where it lies
    np.testing.assert_allclose(alone.predict(X), expected, rtol=1e-5, atol=1e-6)


def test_results_that_are_no_floats_are_converted():
    class Positive(nn.Layer):
        def apply(self, parameters, x, training):
            return x > 0

    got = nn.Sequential(Positive()).init().predict(X)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, X > 0)


def test_state_is_handed_back_while_training():
    """Batch by batch, by the name within a container, and not by predict."""
    model = nn.Sequential(nn.Residual(RunningMax()), nn.Linear(5, 1), dtype="float64").init()
    model.fit(X, X[:, 0], loss="mse", batch_size=2, epochs=1)
    assert model.parameters()["0.0.largest"] == np.max(np.abs(X))
    assert "m/0.0.largest" not in model._state.arrays
    before = arrays(model)
    model.predict(100 * X)
    for name, value in model.parameters().items():
        np.testing.assert_array_equal(value, before[name])


def test_state_is_written_when_all_else_of_the_step_is_done():
    """New values that are other parameters, or one another, are those from before the step."""

    class Previous(nn.Layer):
        state_names = ("a", "b", "weight_before")

        def init(self, initializer):
            return {"a": 1.0, "b": 2.0, "weight": 3.0, "weight_before": 0.0, "unused": 0.0}

        def apply(self, parameters, x, training):
            p = parameters
            result = x * p["weight"] + p["a"]
            state = {"a": p["b"], "b": p["a"], "weight_before": p["weight"]}
            return (result, state) if training else result

    model = nn.Sequential(Previous(), dtype="float64").init()
    y = np.zeros((9, 5))
    model.fit(X, y, loss="mse", optimizer=dl.optim.SGD(0.1), batch_size=9, epochs=1)
    p = {name: float(value) for name, value in model.parameters().items()}
    assert (p["0.a"], p["0.b"], p["0.weight_before"], p["0.unused"]) == (2.0, 1.0, 3.0, 0.0)
    gradient = np.mean(2 * (3 * X + 1) * X)
    np.testing.assert_allclose(p["0.weight"], 3.0 - 0.1 * gradient, rtol=1e-12)


class Faulty(RunningMax):
    """Hands back what it is told to."""

    def __init__(self, handed, names):
        self.handed = handed
        self.state_names = names

    def apply(self, parameters, x, training):
        return (x, self.handed) if training else x


@pytest.mark.parametrize(
    ("handed", "names", "message"),
    [
        ({"other": 1.0}, ("largest",), "hands back a new 'other', which is not among"),
        ({"largest": 1.0}, (), r"hands back a new 'largest', which is not among its state_names"),
        ({"largest": np.ones(2)}, ("largest",), r"new value of 0.largest has shape \(2,\)"),
        ({}, ("most",), "state_names holds '0.most', which init does not give"),
    ],
)
def test_wrong_state_is_refused(handed, names, message):
    model = nn.Sequential(Faulty(handed, names), nn.Linear(5, 1))
    with pytest.raises(ValueError, match=message):
        model.fit(X, X[:, 0], loss="mse", epochs=1)


def test_layers_may_not_draw_from_numpy():
    class Noise(nn.Layer):
        def apply(self, parameters, x, training):
            return x + np.random.normal()

    with pytest.raises(TypeError, match="np.random.normal in a traced function"):
        nn.Sequential(Noise()).init().predict(X)


# PyTorch


def torch_pairs(torch):
    """Layers of ours and of theirs, an input, and their parameters by our names."""
    t = torch.nn
    norm = {"weight": "gain", "bias": "bias"}
    running = {"running_mean": "running_mean", "running_var": "running_var"}
    return {
        "Mish": (nn.Mish(), t.Mish(), X, {}),
        "Hardswish": (nn.Hardswish(), t.Hardswish(), X, {}),
        "PReLU": (nn.PReLU(5), t.PReLU(5), X, {"weight": "slope"}),
        "LayerNorm": (nn.LayerNorm(6), t.LayerNorm(6), X3, norm),
        "LayerNorm over two axes": (nn.LayerNorm((4, 6)), t.LayerNorm((4, 6)), X3, norm),
        "BatchNorm": (nn.BatchNorm(5), t.BatchNorm1d(5), X, norm | running),
        "Embedding": (
            nn.Embedding(4, 3), t.Embedding(4, 3), RNG.integers(0, 4, (7, 2)), {"weight": "weight"},
        ),
    }  # fmt: skip


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "name",
    [
        "Mish",
        "Hardswish",
        "PReLU",
        "LayerNorm",
        "LayerNorm over two axes",
        "BatchNorm",
        "Embedding",
    ],
)
def test_layers_are_those_of_pytorch(name, training):
    """Results, gradients and, after a pass in training, running statistics."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    ours, theirs, x, names = torch_pairs(torch)[name]
    model = initialised(ours)
    theirs = theirs.double().train(training)
    theirs.load_state_dict(
        {name: torch.tensor(model.parameters()[f"0.{own}"]) for name, own in names.items()},
        strict=False,
    )
    tensor = torch.tensor(x, requires_grad=x.dtype.kind == "f")
    expected = theirs(tensor)
    probe = np.random.default_rng(9).normal(size=expected.shape)
    (expected * torch.tensor(probe)).sum().backward()

    def f(p, x):
        result, state = model.forward(p, x, training=training)
        return np.sum(result * probe), result, state

    _, result, state = dl.jit(f)(arrays(model), x)
    np.testing.assert_allclose(result, expected.detach().numpy(), rtol=1e-10, atol=1e-12)
    for key, value in state.items():
        theirs_now = getattr(theirs, key.removeprefix("0.")).numpy()
        np.testing.assert_allclose(value, theirs_now, rtol=1e-10)
    gradients = dl.grad(lambda p, x: f(p, x)[0])(arrays(model), x) if names else {}
    for key, own in names.items():
        if not key.startswith("running"):
            theirs_now = getattr(theirs, key).grad.numpy()
            np.testing.assert_allclose(gradients[f"0.{own}"], theirs_now, rtol=1e-9, atol=1e-12)
    if x.dtype.kind == "f":
        got = dl.grad(lambda p, x: f(p, x)[0], argnums=1)(arrays(model), x)
        np.testing.assert_allclose(got, tensor.grad.numpy(), rtol=1e-8, atol=1e-11)
