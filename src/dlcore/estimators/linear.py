"""Linear regression with scikit-learn's interface."""

from __future__ import annotations

import warnings
from numbers import Integral
from typing import Any

import numpy as np
from scipy import linalg
from scipy.linalg import lapack
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from dlcore import nn, ops, optim
from dlcore.train import EarlyStopping

# Of rows whose centred copy is multiplied at a time: it stays in the caches between being written
# and being read.
_BLOCK_BYTES = 1 << 20
# NumPy computes row after row, which takes as long for a few columns as for so many.
_WIDE = 512
# Of the Gram matrix with its diagonal scaled to 1, the square of the condition of X: its product
# with the rounding of a float64 is the relative error to expect, and beyond 1e-8 lstsq does better.
_MAX_CONDITION = 1e8


class LinearRegression(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Ordinary least squares, as ``sklearn.linear_model.LinearRegression``.

    Parameters
    ----------
    fit_intercept : bool, default True
    copy_X : bool, default True
        X is never written to, so that both values mean the same.
    tol : float, default 1e-6
        For ``solver='exact'``: where least squares are used, singular values below ``tol`` times
        the largest count as 0. They are not used for columns of very different scale alone.
        For ``solver='gd'``: training stops when the loss has improved by less than ``tol`` times
        its first value for 10 epochs.
    n_jobs : None
        Other values are not supported yet; see ``dlcore.set_num_threads``.
    positive : bool, default False
        True is not supported yet.
    solver : {'exact', 'gd'}, default 'exact'
        ``exact`` solves the normal equations by Cholesky, or takes LAPACK's least squares where
        those are ill-conditioned. ``gd`` is full-batch gradient descent with momentum on
        standardised columns, run by the same native plans as networks.
    max_iter : int, default 10000
        Steps of ``gd`` at most.

    Attributes
    ----------
    coef_ : ndarray (n_features,) or (n_targets, n_features)
    intercept_ : float or ndarray (n_targets,)
    rank_ : int
    singular_ : ndarray (min(n_samples, n_features),)
        Rank and singular values of the centred X; ``exact`` only.
    n_iter_ : int
        Steps taken by ``gd``; 1 for ``exact``.
    n_features_in_ : int

    Notes
    -----
    The Gram matrix is summed in float64 over blocks of centred rows, for float32 data too.

    References
    ----------
    Higham, Accuracy and stability of numerical algorithms, 2002, chapter 20.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> X = np.arange(6.0).reshape(3, 2) ** 2
    >>> model = dl.LinearRegression().fit(X, X @ [1.0, 2.0] + 3.0)
    >>> model.coef_.round(6), round(float(model.intercept_), 6)
    (array([1., 2.]), 3.0)
    """

    def __init__(
        self,
        *,
        fit_intercept: bool = True,
        copy_X: bool = True,
        tol: float = 1e-6,
        n_jobs: Any = None,
        positive: bool = False,
        solver: str = "exact",
        max_iter: int = 10000,
    ):
        self.fit_intercept = fit_intercept
        self.copy_X = copy_X
        self.tol = tol
        self.n_jobs = n_jobs
        self.positive = positive
        self.solver = solver
        self.max_iter = max_iter

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LinearRegression:
        """Fits the coefficients.

        Parameters
        ----------
        X : array_like (n_samples, n_features)
        y : array_like (n_samples,) or (n_samples, n_targets)
        sample_weight : array_like (n_samples,), optional

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If X or y hold NaN, infinities or nothing, or differ in length.
        NotImplementedError
            For parameters that are not supported yet.
        """
        if self.positive:
            raise NotImplementedError("positive=True is not supported yet")
        if self.n_jobs is not None:
            raise NotImplementedError(
                f"n_jobs={self.n_jobs!r} is not supported yet; use dlcore.set_num_threads"
            )
        if self.solver not in ("exact", "gd"):
            raise ValueError(f"solver must be 'exact' or 'gd', not {self.solver!r}")
        if not isinstance(self.max_iter, Integral) or self.max_iter < 1:
            raise ValueError(f"max_iter must be an integer >= 1, not {self.max_iter!r}")
        X, y = validate_data(
            self, X, y, multi_output=True, y_numeric=True, dtype=(np.float64, np.float32)
        )
        weight = None
        if sample_weight is not None:
            weight = _check_sample_weight(
                sample_weight, X, dtype=np.float64, ensure_non_negative=True
            )
        targets = y.reshape(len(y), -1).astype(np.float64)
        x_mean, y_mean = self._means(X, targets, weight)
        if self.solver == "exact":
            coef = self._solve_exactly(X, targets, weight, x_mean, y_mean)
        else:
            coef = self._descend(X, targets, weight, x_mean, y_mean)
        intercept = y_mean - x_mean @ coef
        self._publish(coef, intercept, X.dtype, y.ndim)
        return self

    def _means(
        self, X: np.ndarray, y: np.ndarray, weight: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        if not self.fit_intercept:
            return np.zeros(X.shape[1]), np.zeros(y.shape[1])
        if weight is None:
            return _column_means(X), _column_means(y)
        return weight @ X / np.sum(weight), weight @ y / np.sum(weight)

    def _solve_exactly(
        self,
        X: np.ndarray,
        y: np.ndarray,
        weight: np.ndarray | None,
        x_mean: np.ndarray,
        y_mean: np.ndarray,
    ) -> np.ndarray:
        """Coefficients (n_features, n_targets) of least Euclidean error."""
        self.n_iter_ = 1
        features = X.shape[1]
        if len(X) > features:
            gram, moment = _normal_equations(X, y, weight, x_mean, y_mean)
            coef = _solve_cholesky(gram, moment)
            if coef is not None:
                self.rank_ = features
                self.singular_ = np.sqrt(linalg.eigvalsh(gram)[::-1])
                return coef
        root = np.ones((len(X), 1)) if weight is None else np.sqrt(weight)[:, np.newaxis]
        coef, _, self.rank_, self.singular_ = np.linalg.lstsq(
            (X - x_mean) * root, (y - y_mean) * root, rcond=self.tol
        )
        return coef

    def _descend(
        self,
        X: np.ndarray,
        y: np.ndarray,
        weight: np.ndarray | None,
        x_mean: np.ndarray,
        y_mean: np.ndarray,
    ) -> np.ndarray:
        """Coefficients (n_features, n_targets) by full-batch gradient descent."""
        centred = X - x_mean
        scale = np.sqrt(np.average(np.square(centred), axis=0, weights=weight))
        scale[scale == 0] = 1.0
        standard = centred / scale
        self.__dict__.pop("rank_", None)
        self.__dict__.pop("singular_", None)
        model = nn.Sequential(nn.Linear(X.shape[1], y.shape[1], bias=False), dtype="float64").init()
        model.set_parameters({"0.weight": np.zeros((X.shape[1], y.shape[1]))})
        goal = y - y_mean
        first = float(np.mean(np.average(np.square(goal), axis=0, weights=weight)))
        stopping = EarlyStopping(monitor="loss", patience=10, min_delta=self.tol * first)
        # The mean square's curvature is at most 2 / targets * trace(correlations); a rate of one
        # over that descends without oscillating, and momentum makes up for the flat directions.
        rate = 0.5 * y.shape[1] / X.shape[1]
        history = model.fit(
            standard,
            goal,
            loss="mse",
            sample_weight=weight,
            optimizer=optim.SGD(rate, momentum=0.9, nesterov=True),
            batch_size=len(X),
            epochs=self.max_iter,
            callbacks=[stopping],
        )
        self.n_iter_ = len(history["loss"])
        if self.n_iter_ == self.max_iter:
            warnings.warn(
                f"gradient descent has not converged after max_iter={self.max_iter} steps",
                ConvergenceWarning,
                stacklevel=3,
            )
        return model.parameters()["0.weight"] / scale[:, np.newaxis]

    def _publish(
        self, coef: np.ndarray, intercept: np.ndarray, dtype: np.dtype, target_axes: int
    ) -> None:
        self.coef_ = np.ascontiguousarray(coef.T, dtype=dtype)
        self.intercept_: Any = intercept.astype(dtype)
        if target_axes == 1:
            self.coef_ = self.coef_[0]
            self.intercept_ = self.intercept_[0]
        if not self.fit_intercept:
            self.intercept_ = 0.0

    def predict(self, X: Any) -> np.ndarray:
        """Predictions (n_samples,) or (n_samples, n_targets), in the dtype of X.

        Raises
        ------
        ValueError
            If X has another number of columns than the X of ``fit``.
        """
        check_is_fitted(self)
        X = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        coef = np.asarray(self.coef_, X.dtype)
        return ops.matmul(X, coef.T) + np.asarray(self.intercept_, X.dtype)


def _block_rows(columns: int) -> int:
    return max(256, _BLOCK_BYTES // (8 * columns))


def _rows_as_one(x: np.ndarray, rows: int) -> np.ndarray:
    """A view of the whole groups of so many rows, each as one row; several if C-contiguous."""
    return x[: len(x) // rows * rows].reshape(-1, rows * x.shape[1])


def _group_of(x: np.ndarray) -> int:
    """Rows that are better computed as one."""
    return max(1, _WIDE // x.shape[1]) if x.flags.c_contiguous else 1


def _column_means(x: np.ndarray) -> np.ndarray:
    """Means in float64, without a float64 copy of x."""
    group = _group_of(x)
    wide = _rows_as_one(x, group)
    sums = np.sum(wide, axis=0, dtype=np.float64).reshape(group, -1).sum(axis=0)
    rest = x[len(wide) * group :]
    return np.asarray((sums + np.sum(rest, axis=0, dtype=np.float64)) / len(x))


def _centred(x: np.ndarray, means: np.ndarray) -> np.ndarray:
    """x less the means of its columns, in float64."""
    group = _group_of(x)
    result = np.empty_like(x, np.float64)  # in the order in which x lies
    wide, wide_result = _rows_as_one(x, group), _rows_as_one(result, group)
    np.subtract(wide, np.tile(means, group), out=wide_result)
    rest = slice(len(wide) * group, None)
    np.subtract(x[rest], means, out=result[rest])
    return result


def _normal_equations(
    X: np.ndarray,
    y: np.ndarray,
    weight: np.ndarray | None,
    x_mean: np.ndarray,
    y_mean: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """``Xc^T W Xc`` and ``Xc^T W yc`` of the centred data, in float64."""
    features = X.shape[1]
    gram, moment = np.zeros((features, features)), np.zeros((features, y.shape[1]))
    block_rows = _block_rows(features)
    for start in range(0, len(X), block_rows):
        rows = slice(start, start + block_rows)
        block = _centred(X[rows], x_mean)
        left = block if weight is None else block * weight[rows, np.newaxis]
        gram += ops.matmul(left, block, transpose_a=True)
        moment += ops.matmul(left, _centred(y[rows], y_mean), transpose_a=True)
    return gram, moment


def _solve_cholesky(gram: np.ndarray, moment: np.ndarray) -> np.ndarray | None:
    """The solution, or None where the condition of the Gram matrix forbids it."""
    scale = np.sqrt(np.diagonal(gram))
    if not np.all(scale > 0):
        return None
    scaled = gram / np.outer(scale, scale)
    factor, info = lapack.dpotrf(scaled, lower=True)
    if info != 0:
        return None
    reciprocal, info = lapack.dpocon(factor, np.linalg.norm(scaled, 1), uplo="L")
    if info != 0 or reciprocal < 1.0 / _MAX_CONDITION:
        return None
    solution, _ = lapack.dpotrs(factor, moment / scale[:, np.newaxis], lower=True)
    return solution / scale[:, np.newaxis]
