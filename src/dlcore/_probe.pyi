from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

class CopyRate(NamedTuple):
    rate: float
    stores: str

def fma_rate(dtype: DTypeLike = ..., threads: int = 1, seconds: float = 0.05) -> float: ...
def bfloat16_rate(threads: int = 1, seconds: float = 0.05) -> float: ...
def barrier_rate(threads: int = 2, seconds: float = 0.01) -> float: ...
def copy_rate(nbytes: int, threads: int = 1, seconds: float = 0.05) -> CopyRate: ...
def copy(
    out: np.ndarray,
    source: np.ndarray,
    threads: int = 1,
    seconds: float = 0.0,
    streaming: bool = False,
) -> float: ...
def read_rate(nbytes: int, threads: int = 1, seconds: float = 0.05) -> float: ...
def stream_rate(
    n_read: int, n_written: int, nbytes: int, threads: int = 1, seconds: float = 0.05
) -> float: ...
