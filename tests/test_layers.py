"""Layers against NumPy, central differences and PyTorch; containers, ties, state, frozen layers."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import dlcore as dl
from dlcore.train import batch_indices
from helpers import assert_same_bits, team

nn = dl.nn


def initialised(*layers, seed=3, dtype="float64"):
    """A model whose parameters are all away from 0 and from their first values."""
    model = nn.Sequential(*layers, dtype=dtype).init(seed)
    rng = np.random.default_rng(seed)
    model.set_parameters(
        {
            name: rng.uniform(0.5, 1.5, value.shape)
            if name.endswith(("gain", "running_var"))
            else rng.normal(size=value.shape) / 2
            for name, value in model.parameters().items()
        }
    )
    return model


def arrays(model):
    return {name: value.copy() for name, value in model.parameters().items()}


def training_pass(model, x):
    """The result and the new state of a pass as in training, computed natively."""
    run = dl.jit(lambda p, x: model.forward(p, x, training=True))
    return run(arrays(model), x)


def assert_gradients_right(model, x, *, training=True, rtol=1e-7):
    """For all parameters, and for the input where it is floating point."""
    probe = np.random.default_rng(9).normal(size=np.shape(training_pass(model, x)[0]))

    def f(parameters, x):
        return np.sum(model.forward(parameters, x, training=training)[0] * probe)

    assert dl.check_grad(f, arrays(model), x) < rtol


def assert_equal_parameters(a, b):
    assert list(a.parameters()) == list(b.parameters())
    for name, value in a.parameters().items():
        np.testing.assert_array_equal(b.parameters()[name], value, err_msg=name)


X = np.random.default_rng(0).normal(size=(9, 5)) * 2
X3 = np.random.default_rng(1).normal(size=(7, 4, 6))
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


# Containers


def test_residual_adds_its_input():
    model = initialised(nn.Residual(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 5)))
    p = model.parameters()
    assert list(p) == ["0.0.weight", "0.0.bias", "0.2.weight", "0.2.bias"]
    inner = np.tanh(X @ p["0.0.weight"] + p["0.0.bias"]) @ p["0.2.weight"] + p["0.2.bias"]
    np.testing.assert_allclose(model.predict(X), X + inner, rtol=1e-12)
    assert_gradients_right(model, X)


@pytest.mark.parametrize("combine", ["concatenate", "add"])
def test_parallel_joins_its_branches(combine):
    width = 3 if combine == "add" else 2
    model = initialised(
        nn.Parallel(nn.Linear(5, 3), nn.Chain(nn.Linear(5, width), nn.Tanh()), combine=combine)
    )
    p = model.parameters()
    assert list(p) == ["0.0.weight", "0.0.bias", "0.1.0.weight", "0.1.0.bias"]
    first = X @ p["0.0.weight"] + p["0.0.bias"]
    second = np.tanh(X @ p["0.1.0.weight"] + p["0.1.0.bias"])
    expected = first + second if combine == "add" else np.hstack([first, second])
    np.testing.assert_allclose(model.predict(X), expected, rtol=1e-12)
    assert_gradients_right(model, X)


def mixed_branches(**options):
    return nn.Parallel(nn.Identity(), nn.Chain(nn.Embedding(4, 2), nn.Flatten()), **options)


def test_branches_take_inputs_of_their_own():
    """Numbers and categories, as a tuple, as a dict in order, and as a dict by keys."""
    numbers, categories = X, RNG.integers(0, 4, (9, 3))
    model = initialised(mixed_branches(), nn.Linear(11, 1))
    weight = model.parameters()["0.1.0.weight"]
    joined = np.hstack([numbers, weight[categories].reshape(9, 6)])
    expected = joined @ model.parameters()["1.weight"] + model.parameters()["1.bias"]
    by_key = initialised(mixed_branches(keys=("sizes", "kinds")), nn.Linear(11, 1))
    got = [
        model.predict((numbers, categories)),
        model.predict({"sizes": numbers, "kinds": categories}),
        by_key.predict({"kinds": categories, "sizes": numbers}),
    ]
    for each in got:
        np.testing.assert_allclose(each, expected, rtol=1e-12)
    history = by_key.fit(
        {"kinds": categories, "sizes": numbers}, categories[:, 0] - numbers[:, 1], loss="mse",
        optimizer=dl.optim.Adam(0.05), epochs=200,
    )  # fmt: skip
    assert history["loss"][-1] < 0.01 * history["loss"][0]
    with pytest.raises(ValueError, match=r"x\['kinds'\] has 4 in row 1, but the categories"):
        by_key.predict({"kinds": categories * 0 + np.arange(9)[:, None] * 4, "sizes": numbers})


def test_a_sequential_within_another_is_its_layers():
    inner = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm(4))
    nested = nn.Sequential(nn.Parallel(inner, nn.Identity()), nn.Residual(inner.layers[0]))
    assert list(nested.init().parameters())[:3] == ["0.0.0.weight", "0.0.0.bias", "0.0.1.gain"]
    plain = initialised(nn.Linear(5, 4), nn.BatchNorm(4), nn.Linear(4, 1))
    nested = initialised(nn.Sequential(nn.Linear(5, 4), nn.BatchNorm(4)), nn.Linear(4, 1))
    for model in (plain, nested):
        model.fit(X, X[:, 0], loss="mse", batch_size=4, epochs=2)
    values = zip(plain.parameters().values(), nested.parameters().values(), strict=True)
    for expected, got in values:
        np.testing.assert_array_equal(got, expected)


def test_bad_containers_are_refused():
    with pytest.raises(ValueError, match="a Residual needs at least one layer"):
        nn.Residual()
    with pytest.raises(TypeError, match="layer 1 is no dlcore.nn.Layer, but 'relu'"):
        nn.Parallel(nn.Identity(), "relu")
    with pytest.raises(ValueError, match="combine must be 'concatenate' or 'add', not 'stack'"):
        nn.Parallel(nn.Identity(), combine="stack")
    with pytest.raises(ValueError, match="keys has 1 keys for 2 branches"):
        mixed_branches(keys="a")
    with pytest.raises(ValueError, match="layer 0 is a Sequential that has parameters"):
        nn.Sequential(nn.Sequential(nn.Linear(2, 2)).init())


@pytest.mark.parametrize(
    ("layer", "x", "message"),
    [
        (nn.Residual(nn.Linear(5, 4)), X, r"x has shape \(rows, 5\), but the layers of Residual"),
        (
            nn.Parallel(nn.Linear(5, 3), nn.Linear(5, 2), combine="add"),
            X,
            r"cannot add .* branch 0 shape \(rows, 3\), branch 1 shape \(rows, 2\)",
        ),
        (mixed_branches(), (X,), "x has 1 arrays for the 2 branches"),
        (mixed_branches(keys=("a", "b")), X, "x is one array; Parallel takes a dict with 'a', 'b'"),
        (
            mixed_branches(keys=("a", "b")),
            {"a": X, "c": X},
            "x has the keys 'a', 'c'; Parallel takes 'a', 'b'",
        ),
    ],
)
def test_containers_say_what_does_not_fit(layer, x, message):
    with pytest.raises(ValueError, match=message):
        nn.Sequential(layer).init().predict(x)


def test_errors_within_containers_name_the_way_to_the_layer():
    model = nn.Sequential(nn.Identity(), nn.Residual(nn.Tanh(), nn.Linear(4, 5))).init()
    with pytest.raises(ValueError, match="x has 5 columns, but Linear takes 4") as caught:
        model.predict(X)
    assert [note.split(":")[0] for note in caught.value.__notes__] == ["in layer 1", "in layer 1"]


# Tied weights


def test_a_tied_weight_is_one_parameter_with_the_sum_of_both_gradients():
    encoder = nn.Linear(5, 3)
    model = initialised(encoder, nn.Tanh(), nn.Linear(3, 5, tie=encoder))
    p = arrays(model)
    assert list(p) == ["0.weight", "0.bias", "2.bias"]
    hidden = np.tanh(X @ p["0.weight"] + p["0.bias"])
    np.testing.assert_allclose(model.predict(X), hidden @ p["0.weight"].T + p["2.bias"], rtol=1e-12)
    assert_gradients_right(model, X)


def test_ties_as_they_are_of_embeddings_and_in_chains():
    first = nn.Linear(4, 4)
    second = nn.Linear(4, 4, tie=first, tie_transposed=False, bias=False)
    third = nn.Linear(4, 4, tie=second, tie_transposed=True, bias=False)
    model = initialised(first, nn.Residual(nn.Tanh(), second), third)
    p = model.parameters()
    assert list(p) == ["0.weight", "0.bias"]
    w = p["0.weight"]
    h = X[:, :4] @ w + p["0.bias"]
    np.testing.assert_allclose(model.predict(X[:, :4]), (h + np.tanh(h) @ w) @ w.T, rtol=1e-11)
    assert_gradients_right(model, X[:, :4])

    table = nn.Embedding(6, 3)
    model = initialised(table, nn.Linear(3, 6, tie=table))
    words = RNG.integers(0, 6, 20)
    p = model.parameters()
    expected = p["0.weight"][words] @ p["0.weight"].T + p["1.bias"]
    np.testing.assert_allclose(model.predict(words), expected, rtol=1e-12)
    history = model.fit(words, words, loss="cross_entropy", epochs=50, batch_size=5)
    assert history["loss"][-1] < history["loss"][0]


def test_the_optimizer_keeps_state_for_a_tied_weight_once(tmp_path):
    encoder = nn.Linear(5, 3)
    model = nn.Sequential(encoder, nn.Linear(3, 5, tie=encoder)).init()
    model.fit(X, X, loss="mse", epochs=2)
    assert sorted(model._state.arrays) == [
        f"{state}/{name}" for state in "mv" for name in ("0.bias", "0.weight", "1.bias")
    ]
    assert model.plan_summary().count("adam_step") == 3


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tie": nn.Linear(4, 2)}, ValueError, r"tie has a weight of shape \(4, 2\), which does"),
        ({"tie": nn.Linear(3, 5), "tie_transposed": False}, ValueError, r"does not fit \(5, 3\)"),
        ({"tie": nn.Linear(5, 3), "tie_transposed": True}, ValueError, "transposed does not fit"),
        ({"tie": nn.ReLU()}, TypeError, r"tie must be a Linear or an Embedding, not ReLU\(\)"),
        ({"tie_transposed": True}, ValueError, "tie_transposed is for a tied weight"),
        (
            {"tie": nn.Linear(5, 3), "weight_init": "he_normal"},
            ValueError,
            "weight_init has no effect on a tied weight",
        ),
    ],
)
def test_bad_ties_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        nn.Linear(5, 3, **options)


def test_ties_lead_to_one_layer_of_the_model():
    square = nn.Linear(3, 3)
    with pytest.raises(ValueError, match="say tie_transposed=True or tie_transposed=False"):
        nn.Linear(3, 3, tie=square)
    tied = nn.Linear(3, 3, tie=square, tie_transposed=True)
    with pytest.raises(ValueError, match="layer 1 is tied to .*, which is no part of this model"):
        nn.Sequential(nn.Linear(3, 3), tied)
    with pytest.raises(ValueError, match="which stands at several places of this model"):
        nn.Sequential(square, square, tied)


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


# Freezing


def frozen_model():
    return initialised(nn.Linear(5, 4), nn.BatchNorm(4), nn.Tanh(), nn.Linear(4, 1))


def test_frozen_parameters_stay_and_have_no_optimizer_state():
    model, free = frozen_model(), frozen_model()
    model.freeze("0.*", "1.running_*")
    assert model.frozen == ("0.weight", "0.bias", "1.running_mean", "1.running_var")
    before = arrays(model)
    for each in (model, free):
        each.fit(X, X[:, 0], loss="mse", batch_size=4, epochs=2)
    for name, value in model.parameters().items():
        assert np.array_equal(value, before[name]) == (name in model.frozen), name
    assert np.all(free.parameters()["0.weight"] != before["0.weight"])
    trained = ["1.gain", "1.bias", "3.weight", "3.bias"]
    assert set(model._state.arrays) == {f"{state}/{name}" for state in "mv" for name in trained}
    assert model.plan_summary().count("adam_step") == 4


def test_the_gradient_of_what_is_not_frozen_is_the_same():
    model, free = frozen_model(), frozen_model()
    model.freeze("0.weight")
    for each in (model, free):
        each.fit(X, X[:, 0], loss="mse", optimizer=dl.optim.SGD(0.1), batch_size=9, epochs=1)
    for name, value in model.parameters().items():
        if name != "0.weight":
            np.testing.assert_allclose(value, free.parameters()[name], rtol=1e-9, atol=1e-12)


def test_freezing_is_part_of_the_plan():
    """A plan that was compiled before does not train what was frozen since, and back."""
    model = frozen_model()
    model.fit(X, X[:, 0], loss="mse", epochs=1)
    model.freeze("3.*")
    model.freeze("0.bias")
    assert model.frozen == ("0.bias", "3.weight", "3.bias")
    before = arrays(model)
    model.fit(X, X[:, 0], loss="mse", epochs=1)
    np.testing.assert_array_equal(model.parameters()["3.weight"], before["3.weight"])
    model.unfreeze("3.*")
    assert model.frozen == ("0.bias",)
    model.unfreeze()
    assert model.frozen == ()
    model.fit(X, X[:, 0], loss="mse", epochs=1)
    assert np.all(model.parameters()["3.weight"] != before["3.weight"])


def test_freezing_before_the_first_fit_leaves_the_seed_to_it():
    model, free = (nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 1)) for _ in range(2))
    model.freeze("0.*")
    model.fit(X, X[:, 0], loss="mse", epochs=1, seed=5)
    np.testing.assert_array_equal(
        model.parameters()["0.weight"], free.init(seed=5).parameters()["0.weight"]
    )


def test_a_model_may_be_frozen_altogether():
    model = frozen_model()
    model.freeze("*")
    before = arrays(model)
    history = model.fit(X, X[:, 0], loss="mse", epochs=2, batch_size=9)
    assert history["loss"][0] == history["loss"][1] > 0
    for name, value in model.parameters().items():
        np.testing.assert_array_equal(value, before[name])


def test_bad_freezing_is_refused():
    model = frozen_model()
    with pytest.raises(ValueError, match="'2.*' fits no parameter; there are 0.weight, 0.bias"):
        model.freeze("0.*", "2.*")
    with pytest.raises(TypeError, match="patterns must be strings, not 0"):
        model.freeze(0)
    assert model.frozen == ()
    model.fit(X, X[:, 0], loss="mse", epochs=1)
    model.freeze("0.*")
    with pytest.raises(ValueError, match="resume=True goes on with those parameters frozen"):
        model.fit(X, X[:, 0], loss="mse", epochs=1, resume=True)


# Layers of one's own


class Scale(nn.Layer):
    """A layer with parameters."""

    def __init__(self, features, power=1):
        self.features = features
        self.power = power

    def init(self, initializer):
        return {"scale": initializer.uniform((self.features,), 1.0), "shift": [0.5] * self.features}

    def apply(self, parameters, x, training):
        return np.tanh(x * parameters["scale"] ** self.power) + parameters["shift"]


class RunningMax(nn.Layer):
    """A layer with state: divides by the largest magnitude that it has seen in training."""

    state_names = ("largest",)

    def init(self, initializer):
        return {"largest": np.zeros(())}

    def apply(self, parameters, x, training):
        largest = parameters["largest"]
        if not training:
            return x / largest
        largest = np.maximum(largest, np.max(np.abs(x)))
        return x / largest, {"largest": largest}


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

    with pytest.raises(TypeError, match="np.random in a traced function"):
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


# Everything together


def everything():
    """A model of all kinds of layers, for numbers and categories."""
    table = nn.Embedding(7, 3, l2=1e-3)
    encoder = nn.Linear(11, 6, l1=1e-3)
    return nn.Sequential(
        nn.Parallel(
            nn.Chain(Scale(5), nn.BatchNorm(5)), nn.Chain(table, nn.Flatten()), keys=("x", "c")
        ),
        encoder,
        nn.BatchNorm(6, momentum=0.2),
        nn.Mish(),
        nn.Residual(nn.Linear(6, 6), nn.LayerNorm(6), nn.Hardswish(), nn.Dropout(0.2)),
        nn.PReLU(6),
        nn.Parallel(nn.Linear(6, 11, tie=encoder), nn.Chain(RunningMax(), nn.Linear(6, 4))),
        nn.Linear(15, 3),
    )


def everything_data(n=103):
    rng = np.random.default_rng(4)
    x, c = rng.normal(size=(n, 5)).astype(np.float32), rng.integers(0, 7, (n, 2))
    return {"x": x, "c": c}, (c[:, 0] + (x[:, 0] > 0)) % 3


FIT = {"loss": "cross_entropy", "batch_size": 17, "seed": 8}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_is_bitwise_the_same_at_any_thread_count(dtype):
    x, y = everything_data()
    results = []
    for threads in (1, 2, 3):
        model = nn.Sequential(*everything().layers, dtype=dtype)
        model.freeze("7.bias")
        with team(threads):
            model.fit(x, y, epochs=3, **FIT)
            results.append({**model.parameters(), "prediction": model.predict(x)})
    for other in results[1:]:
        for name, value in results[0].items():
            assert_same_bits(other[name], value)


def test_everything_learns():
    x, y = everything_data()
    model = everything()
    model.fit(x, y, optimizer=dl.optim.Adam(0.02), epochs=150, **FIT)
    assert np.mean(model.predict(x).argmax(axis=1) == y) > 0.95


def test_resume_equals_a_run_that_never_stopped():
    x, y = everything_data()
    whole, parts = everything(), everything()
    history = whole.fit(x, y, epochs=5, **FIT)
    losses = parts.fit(x, y, epochs=2, **FIT)["loss"]
    losses += parts.fit(x, y, epochs=3, resume=True, **FIT)["loss"]
    assert losses == history["loss"]
    assert_equal_parameters(parts, whole)


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))]
)
def test_copies_predict_the_same_and_go_on_alike(copied):
    x, y = everything_data()
    model = everything()
    model.freeze("2.*")
    model.fit(x, y, epochs=2, **FIT)
    twin = copied(model)
    assert repr(twin) == repr(model)
    assert twin.frozen == model.frozen
    before = model.predict(x)
    np.testing.assert_array_equal(twin.predict(x), before)
    twin.fit(x, y, epochs=1, resume=True, **FIT)
    np.testing.assert_array_equal(model.predict(x), before)
    model.fit(x, y, epochs=1, resume=True, **FIT)
    assert_equal_parameters(twin, model)


# No plan of their own


def described(plan):
    """The op records of a plan, but for where their operands lie."""
    return [
        (
            record.label,
            record.opcode,
            record.attributes,
            [(v.shape, v.stride, v.dtype) for v in (*record.outputs, *record.inputs)],
        )
        for record in plan.records
    ]


def block_in_numpy(p, x):
    """Linear, Tanh, Residual(Linear, LayerNorm), Linear."""
    hidden = np.tanh(x @ p["0.weight"] + p["0.bias"])
    inner = hidden @ p["2.0.weight"] + p["2.0.bias"]
    deviation = inner - np.mean(inner, axis=1, keepdims=True)
    variance = np.mean(np.square(deviation), axis=1, keepdims=True)
    inner = deviation * (1.0 / np.sqrt(variance + 1e-5)) * p["2.1.gain"] + p["2.1.bias"]
    return (hidden + inner) @ p["3.weight"] + p["3.bias"]


def block_of_layers():
    return initialised(
        nn.Linear(5, 8), nn.Tanh(), nn.Residual(nn.Linear(8, 8), nn.LayerNorm(8)), nn.Linear(8, 3)
    )


class Block(nn.Layer):
    """The same net in NumPy, as one layer."""

    def init(self, initializer):
        return {name.replace(".", "_"): value for name, value in arrays(block_of_layers()).items()}

    def apply(self, parameters, x, training):
        p = {name.replace("_", "."): value for name, value in parameters.items()}
        return block_in_numpy(p, x)


@pytest.mark.parametrize("loss", [nn.losses.CrossEntropy(), lambda z, y: z[:, 0] * z[:, 1]])
def test_loss_and_gradients_of_layers_have_the_plan_of_a_numpy_function(loss):
    """Record by record: there is no special plan for layers."""
    model = block_of_layers()
    y = RNG.integers(0, 3, 9)

    def of_layers(p, x, y):
        return np.mean(loss(model.forward(p, x, training=True)[0], y))

    def in_numpy(p, x, y):
        return np.mean(loss(block_in_numpy(p, x), y))

    plans = []
    for function in (of_layers, in_numpy):
        differentiated = dl.value_and_grad(function)
        value, gradients = differentiated(arrays(model), X, y)
        assert value != 0
        assert all(np.any(g) for name, g in gradients.items() if name != "2.0.bias")
        plans.append(described(differentiated.trace(arrays(model), X, y).plan))
    assert plans[0] == plans[1]
    assert len(plans[0]) > 15
    if isinstance(loss, nn.losses.CrossEntropy):
        assert "softmax cross-entropy and gradient" in differentiated.plan_summary()


@pytest.mark.parametrize(
    ("by_name", "function"),
    [
        ("mse", lambda prediction, target: np.square(prediction - target)),
        ("cross_entropy", nn.losses.CrossEntropy()),
    ],
)
def test_training_layers_and_training_a_numpy_function_is_the_same_plan(by_name, function):
    """The whole step of ``fit``: gather, forward, loss, backward, updates."""
    model, own = block_of_layers(), nn.Sequential(Block(), dtype="float64").init()
    y = RNG.integers(0, 3, 9) if by_name == "cross_entropy" else RNG.normal(size=(9, 3))
    plans = []
    for each, loss in ((model, by_name), (own, function)):
        each.fit(X, y, loss=loss, batch_size=4, epochs=2)
        plans.append(described(list(each._plans.values())[-1]))
    assert plans[0] == plans[1]
    values = zip(model.parameters().values(), own.parameters().values(), strict=True)
    for expected, got in values:
        np.testing.assert_array_equal(got, expected)
