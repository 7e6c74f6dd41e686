import numpy as np
from numpy.typing import ArrayLike

def mse(pred: ArrayLike, target: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float: ...
def mae(pred: ArrayLike, target: ArrayLike, *, sample_weight: ArrayLike | None = None) -> float: ...
def huber(
    pred: ArrayLike,
    target: ArrayLike,
    *,
    delta: float = 1.0,
    sample_weight: ArrayLike | None = None,
) -> float: ...
def cross_entropy(
    pred: ArrayLike, target: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> float: ...
def binary_cross_entropy(
    pred: ArrayLike, target: ArrayLike, *, sample_weight: ArrayLike | None = None
) -> float: ...
def sgd_step(
    param: np.ndarray,
    grad: np.ndarray,
    *,
    lr: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
    velocity: np.ndarray | None = None,
) -> None: ...
def adam_step(
    param: np.ndarray,
    grad: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    *,
    step: int,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> None: ...
