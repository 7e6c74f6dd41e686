"""Learning rates over the epochs of a training run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

import numpy as np


def check_positive(name: str, value: float, *, zero: bool = False) -> float:
    """The value as a float; ValueError unless it is a finite number > 0 (or >= 0)."""
    number = isinstance(value, Real) and math.isfinite(value)
    if not number or value < 0 or (value == 0 and not zero):
        raise ValueError(f"{name} must be a number {'>=' if zero else '>'} 0, not {value!r}")
    return float(value)


@dataclass(frozen=True)
class Schedule:
    """A learning rate that changes as training goes on.

    Parameters
    ----------
    learning_rate : float
        The rate before any decay.
    warmup : float, default 0
        Epochs over which the rate rises linearly from 0 at first.
    """

    learning_rate: float
    warmup: float = 0.0

    def __post_init__(self) -> None:
        check_positive("learning_rate", self.learning_rate, zero=True)
        check_positive("warmup", self.warmup, zero=True)

    def factor(self, epoch: np.ndarray) -> np.ndarray:
        """What the rate is multiplied with after so many epochs (whole and part), by element."""
        raise NotImplementedError

    def rates(self, first_step: int, n_steps: int, steps_per_epoch: int) -> np.ndarray:
        """The learning rates (n_steps,) of the steps from ``first_step`` on, counted from 0."""
        steps = np.arange(first_step, first_step + n_steps)
        rates = self.learning_rate * self.factor(steps / steps_per_epoch)
        if self.warmup > 0:
            rates = rates * np.minimum(1.0, (steps + 1) / (self.warmup * steps_per_epoch))
        return rates


@dataclass(frozen=True)
class Constant(Schedule):
    """The same rate throughout (after the warm-up).

    Examples
    --------
    >>> from dlcore.optim import Constant
    >>> Constant(0.1, warmup=1).rates(0, 3, steps_per_epoch=2)
    array([0.05, 0.1 , 0.1 ])
    """

    def factor(self, epoch: np.ndarray) -> np.ndarray:
        return np.ones_like(epoch)


@dataclass(frozen=True)
class Step(Schedule):
    """The rate times ``gamma`` after every ``every`` epochs.

    Examples
    --------
    >>> from dlcore.optim import Step
    >>> Step(1.0, every=1, gamma=0.5).rates(0, 4, steps_per_epoch=2)
    array([1. , 1. , 0.5, 0.5])
    """

    every: int = 10
    gamma: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("every", self.every)
        check_positive("gamma", self.gamma)

    def factor(self, epoch: np.ndarray) -> np.ndarray:
        return self.gamma ** (np.floor(epoch) // self.every)


@dataclass(frozen=True)
class Exponential(Schedule):
    """The rate times ``gamma`` after every epoch.

    Examples
    --------
    >>> from dlcore.optim import Exponential
    >>> Exponential(1.0, gamma=0.5).rates(0, 3, steps_per_epoch=1)
    array([1.  , 0.5 , 0.25])
    """

    gamma: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("gamma", self.gamma)

    def factor(self, epoch: np.ndarray) -> np.ndarray:
        return self.gamma ** np.floor(epoch)


@dataclass(frozen=True)
class Cosine(Schedule):
    """From the rate to ``final`` times it along half a cosine over ``epochs``, then constant.

    References
    ----------
    Loshchilov and Hutter, SGDR: stochastic gradient descent with warm restarts, 2017.

    Examples
    --------
    >>> from dlcore.optim import Cosine
    >>> Cosine(1.0, epochs=2).rates(0, 4, steps_per_epoch=1).round(3)
    array([1. , 0.5, 0. , 0. ])
    """

    epochs: float = 10
    final: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive("epochs", self.epochs)
        check_positive("final", self.final, zero=True)

    def factor(self, epoch: np.ndarray) -> np.ndarray:
        progress = np.minimum(epoch / self.epochs, 1.0)
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + np.cos(math.pi * progress))
