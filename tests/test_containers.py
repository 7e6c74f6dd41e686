"""Layers made of layers: names, inputs of their own, ties."""

from __future__ import annotations

import numpy as np
import pytest

import dlcore as dl
from layer_tools import X, arrays, assert_gradients_right, initialised

nn = dl.nn
RNG = np.random.default_rng(2)


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
