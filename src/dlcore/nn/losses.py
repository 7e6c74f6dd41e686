"""Losses by name: the loss of each element or row, as graph expressions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dlcore.graph.shape import ROWS, describe, fixed
from dlcore.graph.table.elementwise import where
from dlcore.graph.table.shaping import reduce
from dlcore.graph.tensor import Tensor, apply


@dataclass(frozen=True)
class Loss:
    """A loss: ``elements(prediction, target)`` has the rows first.

    ``target`` says what targets are: ``classes`` takes integer labels or a distribution over the
    classes, ``same`` takes numbers in the shape of the prediction.
    """

    name: str
    elements: Callable[[Tensor, Tensor], Tensor]
    target: Literal["same", "classes"]

    def mean(
        self, prediction: Tensor, target: Tensor, weight: Tensor | None, total: Tensor
    ) -> Tensor:
        """The mean over rows, of a row's elements first; with weights their sum over ``total``."""
        elements = self.elements(prediction, target)
        if weight is None:
            return reduce("mean", elements)
        rows = reduce("mean", elements, tuple(range(1, elements.ndim)))
        return reduce("sum", rows * weight) / total


def _mse(prediction: Tensor, target: Tensor) -> Tensor:
    return apply("square", prediction - target)


def _mae(prediction: Tensor, target: Tensor) -> Tensor:
    return apply("absolute", prediction - target)


def _huber(prediction: Tensor, target: Tensor) -> Tensor:
    # delta = 1: quadratic within, linear beyond (Huber, 1964)
    error = apply("absolute", prediction - target)
    return where(error <= 1.0, 0.5 * apply("square", error), error - 0.5)


def _cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    return apply("softmax_cross_entropy", logits, target)


def _binary_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    # softplus(z) - t z, which neither overflows nor takes the logarithm of 0
    return apply("softplus", logits) - target * logits


LOSSES = {
    loss.name: loss
    for loss in (
        Loss("mse", _mse, "same"),
        Loss("mae", _mae, "same"),
        Loss("huber", _huber, "same"),
        Loss("cross_entropy", _cross_entropy, "classes"),
        Loss("binary_cross_entropy", _binary_cross_entropy, "same"),
    )
}


def find(name: str | Loss) -> Loss:
    """The loss of that name, or the one that is given.

    Raises
    ------
    ValueError
        If there is none.
    """
    if isinstance(name, Loss):
        return name
    if not isinstance(name, str) or name not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}, not {name!r}")
    return LOSSES[name]


def _check_labels(y: np.ndarray, classes: int, name: str) -> None:
    """Labels are checked before the first step, so that a bad one does not end a fit half-way."""
    wrong = (y < 0) | (y >= classes)
    if np.any(wrong):
        row = int(np.argmax(wrong))
        raise ValueError(f"{name} has label {y[row]} in row {row}, outside [0, {classes})")


def _check_probabilities(y: np.ndarray, name: str) -> None:
    wrong = ~((y >= 0) & (y <= 1))
    if np.any(wrong):
        row = int(np.argwhere(wrong)[0][0])
        value = y[wrong][0]
        raise ValueError(
            f"{name} has {value} in row {row}, but binary_cross_entropy takes values in [0, 1]"
        )


def prepare_target(y: np.ndarray, loss: Loss, prediction: Tensor, name: str) -> np.ndarray:
    """``y`` in the shape and kind that the loss takes for such a prediction.

    Raises
    ------
    ValueError
        If its shape does not fit.
    TypeError
        If labels are no integers.
    """
    if y.ndim == 0:
        raise ValueError(f"{name} has no axis of rows")
    width = prediction.shape[1:]
    if loss.target == "classes" and y.shape[1:] == (1,) and y.dtype.kind != "f":
        y = y.reshape(-1)
    if loss.target == "classes" and y.ndim == 1:
        if y.dtype.kind == "f":
            raise TypeError(
                f"{name} must hold integer labels for {loss.name}, but its dtype is {y.dtype}"
            )
        _check_labels(y, fixed(prediction.shape[-1]), name)
        return y.astype(np.int64) if y.dtype != np.int64 else y
    if loss.name == "binary_cross_entropy":
        _check_probabilities(y, name)
    if y.ndim == 1 and width in ((), (1,)):
        return y.reshape(-1, *width)
    if y.shape[1:] != width:
        raise ValueError(
            f"{name} has shape {describe(y.shape)}, but the model gives {describe((ROWS, *width))}"
        )
    return y
