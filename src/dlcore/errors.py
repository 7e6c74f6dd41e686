"""Errors that are none of Python's own."""

from __future__ import annotations

import numpy as np


class DlcoreError(RuntimeError):
    """A plan that contradicts itself, or something that this machine or build cannot do."""


class DivergenceError(ArithmeticError):
    """A minimisation that got away from every minimum.

    Attributes
    ----------
    step : int
        How many steps had been made.
    loss : float
        The function there.
    history : ndarray (step + 1,)
        The function at every point, from the first one on.
    """

    def __init__(self, message: str, *, step: int, loss: float, history: np.ndarray):
        super().__init__(message)
        self.step, self.loss, self.history = step, loss, history

    def __reduce__(self) -> tuple:
        return _rebuild, (str(self), self.step, self.loss, self.history)


def _rebuild(message: str, step: int, loss: float, history: np.ndarray) -> DivergenceError:
    return DivergenceError(message, step=step, loss=loss, history=history)
