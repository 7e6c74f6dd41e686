"""LinearRegression beside scikit-learn's and LAPACK's least squares."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression as SklearnRegression

import dlcore as dl
from dlcore.estimators import linear

X, Y = load_diabetes(return_X_y=True)
RNG = np.random.default_rng(0)


def assert_same_fit(mine, other, rtol):
    np.testing.assert_allclose(
        mine.coef_, other.coef_, rtol=rtol, atol=rtol * np.abs(other.coef_).max()
    )
    np.testing.assert_allclose(mine.intercept_, other.intercept_, rtol=rtol, atol=rtol)
    assert mine.coef_.shape == other.coef_.shape


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("targets", [None, 1, 3])
def test_exact_equals_scikit_learn(targets, fit_intercept, weighted):
    y = Y if targets is None else np.stack([Y * (i + 1) + X[:, i] for i in range(targets)], axis=1)
    weight = RNG.uniform(0.1, 2.0, len(X)) if weighted else None
    mine = dl.LinearRegression(fit_intercept=fit_intercept).fit(X, y, weight)
    other = SklearnRegression(fit_intercept=fit_intercept).fit(X, y, weight)
    assert_same_fit(mine, other, 1e-8)
    np.testing.assert_allclose(mine.predict(X), other.predict(X), rtol=1e-8, atol=1e-8)
    assert mine.rank_ == other.rank_
    if not weighted:
        np.testing.assert_allclose(mine.singular_, other.singular_, rtol=1e-6)


@pytest.mark.parametrize("layout", ["C", "F", "every second row", "part of the columns"])
@pytest.mark.parametrize("columns", [1, 5, 600])
def test_more_rows_than_a_block_and_a_far_offset(columns, layout):
    """Columns far from 0 lose nothing: blocks are centred before they are multiplied."""
    n = max(2 * linear._block_rows(columns), columns) + 117  # nor whole groups of rows
    if layout == "every second row":
        x = (RNG.normal(size=(2 * n, columns)) + 1e6)[::2]
    elif layout == "part of the columns":
        x = (RNG.normal(size=(n, columns + 3)) + 1e6)[:, 1:-2]
    else:
        x = np.asarray(RNG.normal(size=(n, columns)) + 1e6, order=layout)
    y = x @ np.arange(1.0, columns + 1) + RNG.normal(size=n)
    assert_same_fit(dl.LinearRegression().fit(x, y), SklearnRegression().fit(x, y), 1e-8)


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_columns_of_any_scale(scale):
    x = RNG.normal(size=(50, 3)) * [1.0, scale, 1.0]
    mine = dl.LinearRegression().fit(x, x @ [1.0, 2.0 / scale, 3.0] + 4.0)
    np.testing.assert_allclose(mine.coef_ * [1, scale, 1], [1.0, 2.0, 3.0], rtol=1e-9)
    assert mine.intercept_ == pytest.approx(4.0)


def test_ill_conditioned_and_rank_deficient_data_take_least_squares(monkeypatch):
    """The normal equations are refused, and the answer is that of lstsq."""
    calls = []
    lstsq = np.linalg.lstsq
    monkeypatch.setattr(np.linalg, "lstsq", lambda *a, **k: calls.append(1) or lstsq(*a, **k))
    base = RNG.normal(size=(100, 3))
    near = np.hstack([base, base[:, :1] + 1e-7 * RNG.normal(size=(100, 1))])
    exact = np.hstack([base, base[:, :1]])
    constant = np.hstack([base, np.ones((100, 1))])
    for x in (near, exact, constant, base[:2]):
        y = x.sum(axis=1) + np.arange(len(x))
        mine, other = dl.LinearRegression().fit(x, y), SklearnRegression().fit(x, y)
        np.testing.assert_allclose(mine.predict(x), other.predict(x), rtol=1e-6, atol=1e-6)
        assert mine.rank_ == other.rank_
    assert len(calls) == 4
    dl.LinearRegression().fit(base, base.sum(axis=1))
    assert len(calls) == 4


def test_float32_is_solved_in_float64_and_given_back_in_float32():
    x = X.astype(np.float32)
    mine = dl.LinearRegression().fit(x, Y.astype(np.float32))
    assert mine.coef_.dtype == mine.intercept_.dtype == np.float32
    assert mine.predict(x).dtype == np.float32
    np.testing.assert_allclose(mine.coef_, SklearnRegression().fit(X, Y).coef_, rtol=1e-3)


@pytest.mark.parametrize("weighted", [False, True])
def test_gradient_descent_reaches_the_exact_answer(weighted):
    weight = RNG.uniform(0.5, 2.0, len(X)) if weighted else None
    x = X[:, :4] * [1.0, 10.0, 100.0, 1000.0]
    y = np.stack([Y, 3 * Y + x[:, 1]], axis=1)
    mine = dl.LinearRegression(solver="gd", tol=1e-12).fit(x, y, weight)
    assert_same_fit(mine, SklearnRegression().fit(x, y, weight), 1e-4)
    assert 10 < mine.n_iter_ < 10000


def test_gradient_descent_that_does_not_converge_warns():
    with pytest.warns(UserWarning, match="has not converged after max_iter=3 steps"):
        dl.LinearRegression(solver="gd", max_iter=3).fit(X, Y)


def test_x_is_not_written_to():
    x = X.copy()
    dl.LinearRegression(copy_X=False).fit(x, Y)
    np.testing.assert_array_equal(x, X)


def test_what_is_not_supported_yet_says_so():
    with pytest.raises(NotImplementedError, match="positive=True is not supported yet"):
        dl.LinearRegression(positive=True).fit(X, Y)
    with pytest.raises(NotImplementedError, match="n_jobs=2 is not supported yet"):
        dl.LinearRegression(n_jobs=2).fit(X, Y)
    with pytest.raises(ValueError, match="solver must be 'exact' or 'gd', not 'svd'"):
        dl.LinearRegression(solver="svd").fit(X, Y)
