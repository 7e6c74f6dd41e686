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
from dlcore.graph.tensor import REALS, apply

INIT_STREAM = 0x1000_0000
TRACE_STREAM = 0x2000_0000
EAGER_STREAM = 0x3000_0000
# 0xffff_ffff belongs to the shuffling of epochs, see csrc/rng.


class Streams:
    """Numbers the random ops of one trace."""

    def __init__(self) -> None:
        self._next = itertools.count(TRACE_STREAM)
        self.used = False

    def __next__(self) -> int:
        self.used = True
        return next(self._next)


_streams: contextvars.ContextVar[Streams | None] = contextvars.ContextVar("streams", default=None)
_fixed_key: contextvars.ContextVar[tuple[int, int] | None] = contextvars.ContextVar(
    "fixed_key", default=None
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
def tracing() -> Iterator[Streams]:
    """Numbers the random ops of one trace from the start, so that equal traces are equal."""
    token = _streams.set(streams := Streams())
    try:
        yield streams
    finally:
        _streams.reset(token)


@contextmanager
def outside_trace() -> Iterator[None]:
    """What runs within is no part of a function that is being traced."""
    token = _streams.set(None)
    try:
        yield
    finally:
        _streams.reset(token)


def is_tracing() -> bool:
    """Whether a function is being traced by this thread."""
    return _streams.get() is not None


class _Key:
    """The seed of the process, and how often it has been drawn with."""

    def __init__(self) -> None:
        self.seed = 0
        self.counter = itertools.count()


_key = _Key()


def seed(value: int) -> None:
    """Starts the random numbers of traced functions, and those drawn here, anew.

    Models are not concerned: their numbers follow from the seed that ``fit`` is given.

    Parameters
    ----------
    value : int
        In [0, 2**64). A process starts with 0.

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.random.seed(1)
    >>> first = dl.random.uniform((2,))
    >>> dl.random.seed(1)
    >>> bool((dl.random.uniform((2,)) == first).all())
    True
    """
    from dlcore.train import check_seed

    _key.seed = check_seed(value)
    _key.counter = itertools.count()


def next_key() -> tuple[int, int]:
    """The seed and counter of the next call that draws."""
    return _fixed_key.get() or (_key.seed, next(_key.counter))


@contextmanager
def fixed_key() -> Iterator[None]:
    """Lets all calls within draw the same numbers."""
    token = _fixed_key.set(next_key())
    try:
        yield
    finally:
        _fixed_key.reset(token)


def _draw(kind: str, shape: Any, dtype: Any, keep: float = 1.0) -> Any:
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    dtype = np.dtype(dtype)
    if dtype not in REALS:
        raise TypeError(f"dtype must be float32 or float64, not {dtype}")
    streams = _streams.get()
    if streams is not None:
        options = {"keep": keep} if kind == "keep_mask" else {}
        return apply("random", kind=kind, shape=shape, dtype=dtype, stream=next(streams), **options)
    key, counter = next_key()
    if kind == "keep_mask":
        chosen = _native.random("uniform", shape, dtype, key, EAGER_STREAM, counter) < keep
        return np.where(chosen, 1.0 / keep, 0.0).astype(dtype)
    return _native.random(kind, shape, dtype, key, EAGER_STREAM, counter)


def uniform(shape: Shape | int, dtype: Any = "float32") -> Any:
    """Numbers uniform in [0, 1), drawn anew at every call of the traced function.

    Parameters
    ----------
    shape : int or tuple of int
    dtype : {'float32', 'float64'}

    Returns
    -------
    Tensor or ndarray
        A graph node while a function is traced, else an array.

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.random.uniform((2, 3)).shape
    (2, 3)
    """
    return _draw("uniform", shape, dtype)


def normal(shape: Shape | int, dtype: Any = "float32") -> Any:
    """Standard normal numbers; otherwise as :func:`uniform`."""
    return _draw("normal", shape, dtype)


def keep_mask(shape: Shape | int, keep: float, dtype: Any = "float32") -> Any:
    """``1 / keep`` with probability ``keep``, else 0, as dropout needs it.

    Parameters
    ----------
    shape : int or tuple of int
    keep : float
        In (0, 1].
    dtype : {'float32', 'float64'}

    Raises
    ------
    ValueError
        If ``keep`` is no probability.
    """
    if not 0 < keep <= 1:
        raise ValueError(f"keep must lie in (0, 1], not {keep!r}")
    return _draw("keep_mask", shape, dtype, float(keep))
