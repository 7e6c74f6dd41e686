"""dl.minimize: optimisers in native code and methods that decide in Python, on known minima."""

from __future__ import annotations

import importlib
import pickle

import numpy as np
import pytest

import dlcore as dl
from helpers import assert_same_bits, team

METHODS = ["armijo", "wolfe", "cg", "lbfgs"]
START = np.array([-1.2, 1.0])


def rosenbrock(x):
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def bowl(x, center, scale):
    return np.sum(scale * (x - center) ** 2)


CENTER, SCALE = np.array([1.0, -2.0, 0.5]), np.array([1.0, 3.0, 0.2])


@pytest.mark.parametrize("optimizer", [*METHODS, dl.optim.SGD(0.1), dl.optim.Adam(0.1)])
def test_a_quadratic_is_brought_to_its_minimum(optimizer):
    """x, fun, history and trajectory belong together, and x0 stays as it is."""
    start = np.array([5.0, 5.0, 5.0])
    kept = start.copy()
    result = dl.minimize(
        bowl, start, (CENTER, SCALE), optimizer=optimizer, steps=2000, tol=1e-7, trajectory=True
    )
    np.testing.assert_allclose(result.x, CENTER, rtol=0, atol=1e-6)
    assert result.converged
    assert 0 < result.n_steps < 2000
    assert result.history.shape == (result.n_steps + 1,)
    assert result.trajectory.shape == (result.n_steps + 1, 3)
    np.testing.assert_array_equal(result.trajectory[0], start)
    np.testing.assert_array_equal(result.trajectory[-1], result.x)
    expected = [bowl(x, CENTER, SCALE) for x in result.trajectory]
    np.testing.assert_allclose(result.history, expected, rtol=1e-12, atol=1e-25)
    assert result.fun == result.history[-1]
    np.testing.assert_array_equal(start, kept)


@pytest.mark.parametrize("optimizer", ["cg", "lbfgs"])
def test_scipys_methods_reach_the_end_of_rosenbrocks_valley(optimizer):
    result = dl.minimize(rosenbrock, np.zeros(20), optimizer=optimizer, tol=1e-8)
    assert result.converged
    np.testing.assert_allclose(result.x, np.ones(20), rtol=1e-6)


def test_gradient_descent_is_what_numpy_computes():
    """Every point of a run of 300 steps, which is more than one native call."""
    result = dl.minimize(
        bowl, np.zeros(3), (CENTER, SCALE), optimizer=dl.optim.SGD(0.01), steps=300,
        trajectory=True,
    )  # fmt: skip
    x = np.zeros(3)
    for point in result.trajectory:
        np.testing.assert_allclose(point, x, rtol=1e-12)
        x = x - 0.01 * 2 * SCALE * (x - CENTER)
    assert np.all(result.x != 0)


def test_schedules_count_steps():
    """The rate halves after every step, as the schedule says of epochs."""
    rate = dl.optim.Exponential(0.1, gamma=0.5)
    result = dl.minimize(lambda x: 3.0 * x, 1.0, optimizer=dl.optim.SGD(rate), steps=3)
    assert result.x == pytest.approx(1.0 - 3.0 * (0.1 + 0.05 + 0.025), rel=1e-14)


def test_tol_ends_at_the_first_point_that_is_flat_enough():
    """The point does not depend on how many steps a native call makes."""
    arguments = {"args": (CENTER, SCALE), "optimizer": dl.optim.SGD(0.05), "steps": 3000}
    free = dl.minimize(bowl, np.zeros(3), **arguments, trajectory=True)
    slopes = np.max(np.abs(2 * SCALE * (free.trajectory - CENTER)), axis=1)
    first = int(np.argmax(slopes <= 1e-3))
    result = dl.minimize(bowl, np.zeros(3), **arguments, tol=1e-3)
    assert result.converged
    assert result.n_steps == first > 128
    assert_same_bits(result.x, free.trajectory[first])


def test_points_have_the_structure_and_dtypes_of_the_start():
    start = {"w": np.ones((2, 2), np.float32), "b": [3.0, np.float64(1.0)]}

    def f(p):
        return np.sum(p["w"] ** 2) + (p["b"][0] - 1.0) ** 2 + p["b"][1] ** 2

    for optimizer in (dl.optim.SGD(0.2), "lbfgs"):
        result = dl.minimize(f, start, optimizer=optimizer, steps=60, trajectory=True)
        assert result.x["w"].dtype == np.float32
        assert result.x["w"].shape == (2, 2)
        assert result.x["b"][0] == pytest.approx(1.0, abs=1e-5)
        assert result.trajectory["w"].shape == (result.n_steps + 1, 2, 2)
        assert result.fun < 1e-8


@pytest.mark.parametrize("optimizer", ["armijo", "lbfgs", dl.optim.SGD(0.05)])
def test_callbacks_see_every_point_and_may_end_the_run(optimizer):
    seen = []

    def callback(step, x, fun):
        seen.append((step, x.copy(), fun))
        return step == 3

    result = dl.minimize(bowl, np.zeros(3), (CENTER, SCALE), optimizer=optimizer, callback=callback)
    assert [step for step, _, _ in seen] == [0, 1, 2, 3]
    assert result.n_steps == 3
    assert not result.converged
    assert "callback" in result.message
    np.testing.assert_array_equal(seen[-1][1], result.x)
    np.testing.assert_allclose([fun for _, _, fun in seen], result.history, rtol=1e-13)


@pytest.mark.parametrize("optimizer", ["armijo", "lbfgs", dl.optim.SGD(0.1)])
def test_no_steps_give_the_start(optimizer):
    result = dl.minimize(rosenbrock, START, optimizer=optimizer, steps=0)
    np.testing.assert_array_equal(result.x, START)
    assert result.fun == pytest.approx(rosenbrock(START), rel=1e-14)
    assert result.n_steps == 0


def test_divergence_is_reported_with_step_loss_and_hint():
    message = "after 3 steps.*learning rate than 0.01"
    with pytest.raises(dl.DivergenceError, match=message) as caught:
        dl.minimize(rosenbrock, START, optimizer=dl.optim.SGD(0.01))
    error = caught.value
    assert error.step == 3
    assert error.history[0] == pytest.approx(24.2)
    assert error.loss == error.history[-1] > 1e10
    assert pickle.loads(pickle.dumps(error)).step == 3


def test_a_value_that_is_not_finite_is_divergence():
    """log gets NaN once x is negative."""
    with pytest.raises(dl.DivergenceError, match="is nan after"):
        dl.minimize(lambda x: np.log(x) + x**2, 1.0, optimizer=dl.optim.SGD(0.5))


def test_a_function_without_minimum_diverges_by_line_search():
    with pytest.raises(dl.DivergenceError):
        dl.minimize(lambda x: -np.exp(x), 1.0, optimizer="armijo")


@pytest.mark.parametrize("optimizer", ["armijo", dl.optim.SGD(0.1)])
def test_a_start_that_is_not_finite_is_refused(optimizer):
    with pytest.raises(ValueError, match="is nan at x0"):
        dl.minimize(lambda x: np.log(x), -1.0, optimizer=optimizer)


def test_noise_is_drawn_anew_at_every_step_and_repeats_by_seed():
    def f(x):
        return np.sum((x - dl.random.normal((3,), "float64")) ** 2)

    def run():
        dl.random.seed(5)
        return dl.minimize(f, np.zeros(3), optimizer=dl.optim.SGD(0.0), steps=10)

    first, second = run(), run()
    assert len(np.unique(first.history[:-1])) == 10
    np.testing.assert_array_equal(first.history[:-1], second.history[:-1])


def test_the_same_bits_at_any_number_of_threads():
    rng = np.random.default_rng(0)
    x, y, w = rng.normal(size=(50, 20)), rng.normal(size=50), np.zeros(20)

    def f(w, x, y):
        return np.mean((np.tanh(x @ w) - y) ** 2)

    results = []
    for threads in (1, 2, 3):
        with team(threads):
            results.append(dl.minimize(f, w, (x, y), optimizer=dl.optim.Adam(0.01), steps=50).x)
    assert np.any(results[0] != 0)
    for other in results[1:]:
        assert_same_bits(other, results[0])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x0": 2}, TypeError, "x0 is 2; expected floating point"),
        ({"x0": np.arange(3)}, TypeError, "expected floating point"),
        ({"steps": -1}, ValueError, "steps must be an integer >= 0, not -1"),
        ({"steps": 1.5}, ValueError, "steps must be an integer"),
        ({"tol": -1.0}, ValueError, "tol must be a number >= 0"),
        ({"args": [1.0]}, TypeError, "args must be a tuple"),
        ({"optimizer": "newton"}, ValueError, "one of armijo, wolfe, cg, lbfgs, not 'newton'"),
        ({"f": lambda x: x, "x0": np.ones(2)}, ValueError, r"returned shape \(2,\)"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    given = {"f": lambda x: np.sum(x**2), "x0": np.ones(3), "optimizer": dl.optim.SGD(0.1)}
    given |= arguments
    with pytest.raises(error, match=message):
        dl.minimize(**given)


def test_a_missing_scipy_is_named_with_its_command(monkeypatch):
    real = importlib.import_module

    def without_scipy(name, *rest):
        if name.startswith("scipy"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr("importlib.import_module", without_scipy)
    with pytest.raises(ImportError, match=r"optimizer='lbfgs' needs scipy: pip install"):
        dl.minimize(rosenbrock, START, optimizer="lbfgs")


@pytest.mark.parametrize("optimizer", ["armijo", "lbfgs", dl.optim.SGD(0.1)])
def test_a_gradient_that_is_not_finite_is_reported(optimizer):
    """The value alone is finite: where() hides the root, not its derivative."""

    def f(p):
        return (p[0] - 1.0) ** 2 + np.where(p[1] > 0.0, np.sqrt(p[1]), 0.0)

    with pytest.raises(ValueError, match="gradient of the function is nan at x0"):
        dl.minimize(f, np.zeros(2), optimizer=optimizer)


def test_a_gradient_that_gets_nan_is_divergence():
    """At 0, which the second step reaches, the derivative of the root is infinite."""
    with pytest.raises(dl.DivergenceError, match="after 1 steps.*gradient is not finite") as caught:
        dl.minimize(lambda x: np.sqrt(x) * 2.0, 1.0, optimizer=dl.optim.SGD(1.0))
    assert caught.value.step == 1


def test_the_last_step_may_converge():
    for optimizer in (dl.optim.SGD(0.5), "armijo"):
        result = dl.minimize(lambda x: x**2, 1.0, optimizer=optimizer, steps=1, tol=1e-9)
        assert result.converged
        assert result.x == 0.0
        assert "tol" in result.message


def test_a_callback_costs_no_room_for_the_points_to_come():
    x0 = np.ones(1000)
    result = dl.minimize(
        lambda x: np.sum(x**2), x0, steps=10**9 // 8, callback=lambda step, x, fun: step == 2
    )
    assert result.n_steps == 2
    assert result.trajectory is None


@pytest.mark.parametrize("optimizer", ["lbfgs", dl.optim.SGD(0.1)])
def test_a_start_without_arrays_is_refused(optimizer):
    with pytest.raises(ValueError, match="x0 holds no arrays"):
        dl.minimize(lambda p: 1.0, {}, optimizer=optimizer)


def test_numpys_random_numbers_are_refused_before_the_first_step():
    rng = np.random.default_rng(0)
    with pytest.raises(TypeError, match="np.random"):
        dl.minimize(lambda x: x**2 * rng.normal(), 1.0)
