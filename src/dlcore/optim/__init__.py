"""Optimisers and learning rate schedules."""

from dlcore.optim.optimizers import SGD, Adam, AdamW, Optimizer
from dlcore.optim.schedules import Constant, Cosine, Exponential, Schedule, Step

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Constant",
    "Cosine",
    "Exponential",
    "Optimizer",
    "Schedule",
    "Step",
]
