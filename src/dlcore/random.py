"""Random numbers keyed by (seed, stream, step): the same at any thread count and after a resume.

The generator is Philox4x32-10 (Salmon, Moraes, Dror, Shaw, Parallel random numbers: as easy as
1, 2, 3, 2011). Streams keep the uses apart.
"""

from __future__ import annotations

import contextvars
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from dlcore import _native
from dlcore.graph.shape import Shape
from dlcore.graph.tensor import Tensor, apply

INIT_STREAM = 0x1000_0000
TRACE_STREAM = 0x2000_0000
# 0xffff_ffff belongs to the shuffling of epochs, see csrc/rng.

_streams: contextvars.ContextVar[Iterator[int] | None] = contextvars.ContextVar(
    "streams", default=None
)


class Initializer:
    """Draws the first values of parameters, each array from a stream of its own."""

    def __init__(self, seed: int, dtype: Any):
        self.seed = seed
        self.dtype = np.dtype(dtype)
        self._stream = itertools.count(INIT_STREAM)

    def uniform(self, shape: tuple[int, ...], bound: float) -> np.ndarray:
        """Uniform in [-bound, bound)."""
        return self._draw("uniform", shape) * (2 * bound) - bound

    def normal(self, shape: tuple[int, ...], scale: float) -> np.ndarray:
        """Normal with mean 0 and this standard deviation."""
        return self._draw("normal", shape) * scale

    def _draw(self, kind: str, shape: tuple[int, ...]) -> np.ndarray:
        stream = next(self._stream)
        return _native.random(kind, shape, np.float64, self.seed, stream, 0).astype(self.dtype)


@contextmanager
def tracing() -> Iterator[None]:
    """Numbers the random ops of one trace from the start, so that equal traces are equal."""
    token = _streams.set(itertools.count(TRACE_STREAM))
    try:
        yield
    finally:
        _streams.reset(token)


def keep_mask(shape: Shape, keep: float, dtype: np.dtype) -> Tensor:
    """A node that is ``1 / keep`` with probability ``keep``, else 0, drawn anew at every step.

    Raises
    ------
    RuntimeError
        Outside a trace.
    """
    streams = _streams.get()
    if streams is None:
        raise RuntimeError("random ops can only be used while a model is traced")
    return apply(
        "random", kind="keep_mask", shape=shape, dtype=dtype, stream=next(streams), keep=keep
    )
