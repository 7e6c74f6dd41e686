"""check_grad: what it finds, and what it says about it."""

from __future__ import annotations

import ast
import pickle

import numpy as np
import pytest

import dlcore as dl

X = np.random.default_rng(0).normal(size=(5, 3))
W = np.random.default_rng(1).normal(size=(3, 2))


def right(w, x):
    return np.mean(np.tanh(x @ w) ** 2)


def wrong_at(*entries: tuple[int, ...], by: float = 1e-3):
    """sum(w**2), whose gradient is off by that at some entries."""
    scale = np.ones_like(W)
    for entry in entries:
        scale[entry] += by

    @dl.custom_gradient
    def squares(w):
        return np.sum(w**2), lambda g: g * 2 * w * scale

    return squares


def test_a_right_gradient_has_a_small_error():
    error = dl.check_grad(right, W, X)
    assert 0 <= error < 1e-9
    assert error.entry.split("[")[0] in ("w", "x")
    assert np.isfinite([error.gradient, error.difference]).all()
    assert error.difference != 0


def test_float32_is_checked_against_differences_in_float64():
    assert dl.check_grad(right, W.astype("f4"), X.astype("f4")) < 1e-4
    wrong = wrong_at((2, 1), by=3e-3)
    error = dl.check_grad(wrong, W.astype("f4"))
    assert error.entry == "w[2, 1]"
    assert 2e-3 < error < 4e-3


def test_the_worst_entry_is_named():
    scale = 1 + 1e-3 * np.eye(3, 2, -1)

    @dl.custom_gradient
    def wrong(w):
        return np.sum(w**2), lambda g: g * 2 * w * scale

    def loss(weights, x):
        return wrong(weights["hidden"][0]) + np.sum(x)

    error = dl.check_grad(loss, {"hidden": (W,)}, X)
    assert error.entry in ("weights['hidden'][0][1, 0]", "weights['hidden'][0][2, 1]")
    assert 9e-4 < error < 1.1e-3
    index = tuple(ast.literal_eval(error.entry.removeprefix("weights['hidden'][0]")))
    np.testing.assert_allclose(error.gradient, 2 * W[index] * 1.001, rtol=1e-12)
    np.testing.assert_allclose(error.difference, 2 * W[index], rtol=1e-9)
    assert error.entry in repr(error)
    assert f"gradient {error.gradient:.9g}" in repr(error)


def test_zeros_and_nan_are_found():
    zeros = dl.custom_gradient(lambda w: (np.sum(w**2), lambda g: 0 * w))
    assert dl.check_grad(lambda w: zeros(w), W) == 1.0
    not_a_number = dl.custom_gradient(lambda w: (np.sum(w**2), lambda g: np.nan * w))
    assert dl.check_grad(lambda w: not_a_number(w), W) == np.inf


def test_a_derivative_of_zero_is_compared_with_the_others_of_its_array():
    """The rounding of differences must not count as an error of 100% where nothing changes."""
    assert dl.check_grad(lambda w: np.sum(np.tanh(w[0] * 10) ** 2), W) < 1e-8


def test_argnums_choose_what_is_checked():
    wrong = wrong_at((0, 0))

    def loss(w, v):
        return wrong(w) + np.sum(v**2)

    assert dl.check_grad(loss, W, W, argnums=1) < 1e-9
    assert dl.check_grad(loss, W, W, argnums=[0, 1]) > 5e-4
    assert dl.check_grad(loss, W, W, argnums=-2).entry == "w[0, 0]"


def test_max_entries_checks_some_of_them_by_the_seed():
    calls = []

    @dl.custom_gradient
    def wrong(w):
        return np.sum(w**2), lambda g: g * 2 * w * (1 + 1e-3 * np.arange(100))

    x = np.linspace(1, 2, 100)
    for seed in (0, 0, 1):
        calls.append(dl.check_grad(wrong, x, max_entries=3, seed=seed).entry)
    assert calls[0] == calls[1] != calls[2]
    assert dl.check_grad(wrong, x).entry == "w[99]"


def test_floats_and_integers_beside_what_is_checked():
    error = dl.check_grad(lambda s, n, k: np.sum(s * np.arange(4.0) ** n) * k[1], 0.5, 2, X[0][:2])
    assert error < 1e-9
    assert dl.check_grad(lambda s, n: s**n, 0.5, 3).entry == "s"


def test_integer_arrays_are_not_checked():
    assert dl.check_grad(lambda x, i: np.sum(x[i] ** 2), X[:, 0], np.array([0, 0, 3])) < 1e-9


def test_random_functions_draw_the_same_numbers_for_all_differences():
    def noisy(w):
        return np.sum(w**2 * dl.random.normal((3, 2), "float64"))

    assert dl.check_grad(noisy, W) < 1e-8


def test_what_cannot_be_checked_is_refused():
    with pytest.raises(ValueError, match="no argument holds floating point"):
        dl.check_grad(lambda n: np.sum(n), np.arange(3))
    with pytest.raises(ValueError, match="dl.jacobian"):
        dl.check_grad(lambda w: w, W)
    with pytest.raises(TypeError, match="argument 0 is of dtype int64"):
        dl.check_grad(lambda n: np.sum(n) * 1.0, np.arange(3), argnums=0)


def test_the_error_pickles():
    error = dl.check_grad(lambda w: np.sum(np.tanh(w)), np.ones(2))
    again = pickle.loads(pickle.dumps(error))
    assert (float(again), again.entry, again.gradient) == (
        float(error),
        error.entry,
        error.gradient,
    )


def test_nothing_to_check_is_an_error():
    with pytest.raises(ValueError, match="nothing to check"):
        dl.check_grad(lambda x: np.sum(x), np.zeros((0, 3)))


def test_steps_stay_within_the_domain_of_the_function():
    assert dl.check_grad(lambda x: np.sum(np.log(x)), np.array([1e-5, 1e-4, 1.0])) < 1e-6


def test_arguments_that_hold_other_things_too_are_named():
    with pytest.raises(TypeError, match=r"argument 0\['n'\] is 2"):
        dl.check_grad(lambda p: np.sum(p["w"]) * p["n"], {"w": np.ones(2), "n": 2})
