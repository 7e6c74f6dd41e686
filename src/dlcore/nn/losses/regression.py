"""Losses of numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dlcore.graph.shape import Shape, describe, fixed
from dlcore.graph.table.elementwise import where
from dlcore.graph.table.shaping import part, reduce
from dlcore.graph.tensor import Tensor, apply
from dlcore.nn.losses.base import Loss, set_fields
from dlcore.optim.schedules import check_positive


@dataclass(frozen=True)
class MSE(Loss):
    """``(prediction - target)**2``.

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.nn.losses.MSE()([1.0, 2.0], [1.0, 4.0])
    2.0
    """

    name: ClassVar[str] = "mse"

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        return apply("square", prediction - target)


@dataclass(frozen=True)
class MAE(Loss):
    """``|prediction - target|``, with derivative 0 where they are equal."""

    name: ClassVar[str] = "mae"

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        return apply("absolute", prediction - target)


@dataclass(frozen=True)
class Huber(Loss):
    """``e**2 / 2`` for errors up to ``delta``, ``delta * (|e| - delta / 2)`` beyond.

    Parameters
    ----------
    delta : float, default 1

    References
    ----------
    Huber, Robust estimation of a location parameter, 1964.

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.nn.losses.Huber(delta=2.0)([1.0, 5.0], [0.0, 0.0])
    4.25
    """

    name: ClassVar[str] = "huber"
    delta: float = 1.0

    def __post_init__(self) -> None:
        set_fields(self, delta=check_positive("delta", self.delta))

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        error = apply("absolute", prediction - target)
        beyond = self.delta * error - 0.5 * self.delta**2
        return where(error <= self.delta, 0.5 * apply("square", error), beyond)


@dataclass(frozen=True)
class LogCosh(Loss):
    """``log(cosh(prediction - target))``: about ``e**2 / 2`` near 0, ``|e| - log(2)`` far from it.

    References
    ----------
    Green, Bayesian reconstructions from emission tomography data using a modified EM algorithm,
    1990.
    """

    name: ClassVar[str] = "log_cosh"

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        error = apply("absolute", prediction - target)
        # log(1 + 2 sinh(e / 2)**2) loses no digits near 0; beyond 1 it is not used, and held there
        half = apply("sinh", 0.5 * apply("minimum", error, 1.0))
        near = apply("log1p", 2.0 * apply("square", half))
        far = error + apply("log1p", apply("exp", -2.0 * error)) - math.log(2.0)
        return where(error < 1.0, near, far)


@dataclass(frozen=True)
class Quantile(Loss):
    """``q * e`` where the error ``e = target - prediction`` is positive, else ``(q - 1) * e``.

    Its minimum is the q-quantile of the targets; it is scikit-learn's ``mean_pinball_loss``.

    Parameters
    ----------
    q : float, default 0.5
        In (0, 1).

    References
    ----------
    Koenker and Bassett, Regression quantiles, 1978.

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.nn.losses.Quantile(0.75)([0.0, 0.0], [1.0, -1.0])
    0.5
    """

    name: ClassVar[str] = "quantile"
    q: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.q < 1:
            raise ValueError(f"q must lie in (0, 1), not {self.q!r}")
        set_fields(self, q=float(self.q))

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        error = target - prediction
        return where(error >= 0.0, self.q * error, (self.q - 1.0) * error)


@dataclass(frozen=True)
class Poisson(Loss):
    """``exp(prediction) - target * prediction``, the prediction being the logarithm of the mean.

    That is half the deviance but for terms of the target alone: scikit-learn's ``HalfPoissonLoss``
    and PyTorch's ``PoissonNLLLoss`` with their defaults. Targets are at least 0.

    References
    ----------
    McCullagh and Nelder, Generalized linear models, 1989.
    """

    name: ClassVar[str] = "poisson"

    def check(self, target: np.ndarray, name: str) -> None:
        self.refuse(target, ~(target >= 0), name, "values >= 0")

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        return apply("exp", prediction) - target * prediction


@dataclass(frozen=True)
class Gamma(Loss):
    """``prediction + target * exp(-prediction)``, the prediction being the logarithm of the mean.

    That is half the deviance but for terms of the target alone, scikit-learn's ``HalfGammaLoss``.
    Targets are greater than 0.

    References
    ----------
    McCullagh and Nelder, Generalized linear models, 1989.
    """

    name: ClassVar[str] = "gamma"

    def check(self, target: np.ndarray, name: str) -> None:
        self.refuse(target, ~(target > 0), name, "values > 0")

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        return prediction + target * apply("exp", -prediction)


@dataclass(frozen=True)
class Tweedie(Loss):
    """Half the deviance of a Tweedie distribution, the prediction being the logarithm of the mean.

    With m = exp(prediction) and p the power: ``m**(2 - p) / (2 - p) - target * m**(1 - p) /
    (1 - p)``, which leaves out terms of the target alone; ``(m - target)**2 / 2`` for p = 0,
    :class:`Poisson` for 1 and :class:`Gamma` for 2. It is scikit-learn's ``HalfTweedieLoss``.

    Parameters
    ----------
    power : float, default 1.5
        Not between 0 and 1, where there is no such distribution. Targets are any numbers for
        ``power <= 0``, at least 0 for ``1 <= power < 2``, greater than 0 above.

    References
    ----------
    Jørgensen, Exponential dispersion models, 1987.
    """

    name: ClassVar[str] = "tweedie"
    power: float = 1.5

    def __post_init__(self) -> None:
        if not math.isfinite(self.power) or 0 < self.power < 1:
            raise ValueError(f"power must be a number outside (0, 1), not {self.power!r}")
        set_fields(self, power=float(self.power))

    def check(self, target: np.ndarray, name: str) -> None:
        if self.power >= 2:
            self.refuse(target, ~(target > 0), name, f"values > 0 with power={self.power}")
        elif self.power >= 1:
            self.refuse(target, ~(target >= 0), name, f"values >= 0 with power={self.power}")

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        if self.power == 0:
            return 0.5 * apply("square", apply("exp", prediction) - target)
        if self.power == 1:
            return Poisson().elements(prediction, target)
        if self.power == 2:
            return Gamma().elements(prediction, target)
        first, second = 2.0 - self.power, 1.0 - self.power
        growing = apply("exp", first * prediction) * (1.0 / first)
        return growing - target * (apply("exp", second * prediction) * (1.0 / second))


@dataclass(frozen=True)
class GaussianNLL(Loss):
    """``(log v + (target - mean)**2 / v) / 2`` for a model that gives mean and log-variance.

    The last axis of the prediction holds the k means and then the k logarithms of the variances v;
    the target has k columns. PyTorch's ``GaussianNLLLoss`` takes the variance itself.

    Parameters
    ----------
    full : bool, default False
        Whether to add the constant ``log(2 pi) / 2``.
    eps : float, default 1e-6
        Smaller variances count as this one, with the derivatives that they would have above it, as
        in PyTorch.

    References
    ----------
    Nix and Weigend, Estimating the mean and variance of the target probability distribution, 1994.

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.nn.losses.GaussianNLL()([[3.0, 0.0]], [[1.0]])
    2.0
    """

    name: ClassVar[str] = "gaussian_nll"
    full: bool = False
    eps: float = 1e-6

    def __post_init__(self) -> None:
        set_fields(self, full=bool(self.full), eps=check_positive("eps", self.eps))

    def expected_width(self, width: Shape) -> Shape:
        if not width or not isinstance(width[-1], int) or width[-1] % 2:
            raise ValueError(
                "gaussian_nll takes predictions with an even number of columns, means and then "
                f"log-variances; a sample of the model's has shape {describe(width)}"
            )
        return (*width[:-1], width[-1] // 2)

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        columns = fixed(self.expected_width(prediction.shape[1:])[-1])
        axis = prediction.ndim - 1
        mean = part(prediction, axis, 0, columns)
        log_variance = part(prediction, axis, columns, columns)
        below = apply("minimum", log_variance - math.log(self.eps), 0.0)
        log_variance = log_variance - apply("stop_gradient", below)
        scaled = apply("square", target - mean) * apply("exp", -log_variance)
        constant = 0.5 * math.log(2.0 * math.pi) if self.full else 0.0
        return 0.5 * (log_variance + scaled) + constant


@dataclass(frozen=True)
class Cosine(Loss):
    """``1 - cos(prediction, target)``, of the vectors along the last axis.

    Norms below 1e-8 count as that.

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.nn.losses.Cosine()([[3.0, 0.0]], [[0.0, 1.0]])
    1.0
    """

    name: ClassVar[str] = "cosine"

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        if prediction.ndim < 2:
            raise ValueError("cosine takes vectors; a sample of the model's has shape ()")
        product = reduce("sum", prediction * target, -1)
        return 1.0 - product / (self._norm(prediction) * self._norm(target))

    def _norm(self, a: Tensor) -> Tensor:
        squares = reduce("sum", apply("square", a), -1)
        return apply("sqrt", apply("maximum", 1e-16, squares))
