from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

def map_instructions() -> dict[str, tuple[int, int]]: ...
def elementwise(
    op: int, x: ArrayLike, out: np.ndarray | None = None, parameter: float | None = None
) -> Any: ...
def apply(name: str, *inputs: ArrayLike, out: np.ndarray | None = None) -> Any: ...
def run_map(
    words: ArrayLike,
    outputs: Sequence[np.ndarray],
    inputs: Sequence[np.ndarray],
    shape: Sequence[int],
    rows: int,
) -> None: ...
def matmul(
    a: ArrayLike,
    b: ArrayLike,
    transpose_a: bool = False,
    transpose_b: bool = False,
    out: np.ndarray | None = None,
) -> Any: ...
def linear(
    x: ArrayLike,
    w: ArrayLike,
    b: ArrayLike | None = None,
    activation: str = "identity",
    out: np.ndarray | None = None,
) -> np.ndarray: ...
def softmax(
    x: ArrayLike, axis: int = -1, out: np.ndarray | None = None, logarithm: bool = False
) -> np.ndarray: ...
def elementwise_loss(
    name: str,
    pred: ArrayLike,
    target: ArrayLike,
    sample_weight: ArrayLike | None = None,
    delta: float = 1.0,
) -> float: ...
def cross_entropy(
    pred: ArrayLike, target: ArrayLike, sample_weight: ArrayLike | None = None
) -> float: ...
def sgd_step(
    param: np.ndarray,
    grad: np.ndarray,
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
    step: int,
    lr: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> None: ...
def is_traced_array(value: Any) -> bool: ...
def random(
    kind: str,
    shape: int | tuple[int, ...],
    dtype: DTypeLike,
    seed: int,
    stream: int,
    step: int,
    keep: float = 1.0,
) -> np.ndarray: ...
def shuffle(n: int, seed: int, epoch: int) -> np.ndarray: ...
def philox_block(counter: Sequence[int], key: Sequence[int]) -> tuple[int, int, int, int]: ...
def version() -> str: ...
def isa_name() -> str: ...
def isa_available() -> list[str]: ...
def set_num_threads(n: int) -> None: ...
def get_num_threads() -> int: ...
def set_serial_threshold(cost: int) -> None: ...
def get_serial_threshold() -> int: ...
def openmp_version() -> str: ...
def team_size(requested: int) -> int: ...
