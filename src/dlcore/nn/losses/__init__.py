"""Losses: by name, with parameters, or as functions written in NumPy.

``fit`` takes ``loss="huber"``, ``loss=dl.nn.losses.Huber(delta=2.0)``, or any function of
prediction and target. A batch's loss is the mean over its rows, of each row's elements first; with
weights it is normalised by their sum in the batch. The objects are functions themselves, of arrays
and within traced functions: ``dl.nn.losses.CrossEntropy()(logits, labels)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dlcore.nn.losses.base import FunctionLoss, Loss
from dlcore.nn.losses.classification import BinaryCrossEntropy, CrossEntropy, Focal, Hinge
from dlcore.nn.losses.regression import (
    MAE,
    MSE,
    Cosine,
    Gamma,
    GaussianNLL,
    Huber,
    LogCosh,
    Poisson,
    Quantile,
    Tweedie,
)

__all__ = [
    "LOSSES",
    "MAE",
    "MSE",
    "BinaryCrossEntropy",
    "Cosine",
    "CrossEntropy",
    "Focal",
    "FunctionLoss",
    "Gamma",
    "GaussianNLL",
    "Hinge",
    "Huber",
    "LogCosh",
    "Loss",
    "Poisson",
    "Quantile",
    "Tweedie",
    "find",
]

LOSSES: dict[str, Loss] = {
    loss.name: loss
    for loss in (
        MSE(),
        MAE(),
        Huber(),
        LogCosh(),
        Quantile(),
        Poisson(),
        Gamma(),
        Tweedie(),
        CrossEntropy(),
        BinaryCrossEntropy(),
        Focal(),
        Hinge(),
        GaussianNLL(),
        Cosine(),
    )
}
LOSSES["multilabel"] = LOSSES["binary_cross_entropy"]


def find(loss: str | Loss | Callable[[Any, Any], Any]) -> Loss:
    """The loss of that name, the one that is given, or the function as one.

    Raises
    ------
    ValueError
        If there is none of that name.
    TypeError
        If it is nothing of the kind.
    """
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, type) and issubclass(loss, Loss):
        raise TypeError(f"loss is the class {loss.__name__}; write {loss.__name__}()")
    if isinstance(loss, str):
        if loss not in LOSSES:
            raise ValueError(f"loss must be one of {', '.join(LOSSES)}, not {loss!r}")
        return LOSSES[loss]
    if not callable(loss):
        raise TypeError(f"loss must be a name, a Loss or a function, not {loss!r}")
    return FunctionLoss(loss)
