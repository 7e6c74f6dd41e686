"""What the tests of the native core share: comparisons, odd memory layouts, and thread counts."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np

from dlcore import _native

REALS = [np.float32, np.float64]
THREADS = [1, 2, 3, 8]
# 0, 1, primes, and the edges of vectors, of register tiles and of blocks.
SIZES = sorted(
    {0, 1, 3, 5, 7, 13, 31, 67, 127}
    | {edge + offset for edge in (4, 6, 8, 14, 16, 32, 64, 256, 512, 1024) for offset in (-1, 0, 1)}
)


def assert_close(actual, expected, *, ulps, scale=None):
    """Fails unless every element of ``actual`` is within ``ulps`` units of its dtype's precision.

    The unit is relative to ``scale``, by default the magnitude of ``expected``, a reference of a
    higher precision. NaN and infinities must stand at the same places.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert actual.dtype in REALS
    wide = actual.astype(np.longdouble)
    expected = expected.astype(np.longdouble)
    np.testing.assert_array_equal(np.isnan(wide), np.isnan(expected))
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(wide[~finite], expected[~finite])
    info = np.finfo(actual.dtype)
    magnitude = np.abs(expected) if scale is None else np.broadcast_to(scale, expected.shape)
    unit = np.maximum(info.eps * magnitude[finite], info.smallest_subnormal)
    # An infinite result is wrong even where the last finite number is near; inf - x says so.
    error = np.abs(wide[finite] - expected[finite]) / unit
    assert np.all(error <= ulps), f"off by {np.max(error):.3g} units, {ulps} allowed"


def assert_product_close(c, a, b, c0=None):
    """Fails unless ``c`` is ``c0 + a @ b`` within the bound of BLAS++'s tester, for matrices.

    ||C - Cref||_F / (sqrt(k + 2) ||A||_F ||B||_F + 2 ||C0||_F) < eps, the norms over each matrix of
    a batch.
    """
    a, b = a.astype(np.longdouble), b.astype(np.longdouble)
    start = np.longdouble(0) if c0 is None else c0.astype(np.longdouble)
    expected = start + a @ b
    assert c.shape == expected.shape

    def norm(x):
        return np.sqrt(np.sum(x * x, axis=(-2, -1)))

    bound = np.sqrt(a.shape[-1] + 2) * norm(a) * norm(b)
    if c0 is not None:
        bound = bound + 2 * norm(start)
    error = norm(c - expected)
    assert np.all(error <= np.finfo(c.dtype).eps * bound), f"off by {np.max(error / bound):.3g}"


def assert_same_bits(actual, expected):
    """Fails unless two arrays agree bit by bit, signs of zeros included, and hold the same NaNs."""
    assert actual.shape == expected.shape
    assert actual.dtype == expected.dtype
    nan = np.isnan(expected)
    np.testing.assert_array_equal(np.isnan(actual), nan)
    np.testing.assert_array_equal(actual[~nan], expected[~nan])
    np.testing.assert_array_equal(np.signbit(actual[~nan]), np.signbit(expected[~nan]))


def log_softmax(x, axis):
    """The reference in a wider type, of losses, too."""
    x = x.astype(np.longdouble)
    x = x - x.max(axis, keepdims=True)
    return x - np.log(np.exp(x).sum(axis, keepdims=True))


def in_threads(work, count):
    """Runs ``work(i)`` in a Python thread of its own for each i; raises what one of them raised."""
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(work, range(count)))


def layouts(x: np.ndarray) -> Iterator[np.ndarray]:
    """Arrays that equal ``x`` and lie in memory in every way that an argument may."""
    yield np.asfortranarray(x)

    wide = np.full([2 * extent for extent in x.shape], np.nan, x.dtype)
    every_other = wide[tuple(slice(None, None, 2) for _ in x.shape)]
    every_other[...] = x
    yield every_other

    yield x[tuple(slice(None, None, -1) for _ in x.shape)].copy()[
        tuple(slice(None, None, -1) for _ in x.shape)
    ]

    raw = np.empty(x.nbytes + 1, np.uint8)
    misaligned = raw[1:].view(x.dtype).reshape(x.shape)
    misaligned[...] = x
    assert x.size == 0 or not misaligned.flags.aligned
    yield misaligned

    yield x.astype(x.dtype.newbyteorder())

    read_only = x.copy()
    read_only.flags.writeable = False
    yield read_only


@contextmanager
def team(n: int) -> Iterator[None]:
    """Runs every call, however small, on a team of exactly ``n`` threads."""
    threshold = _native.get_serial_threshold()
    _native.set_num_threads(n)
    _native.set_serial_threshold(0)
    try:
        assert _native.team_size(n) == n
        yield
    finally:
        _native.set_num_threads(0)
        _native.set_serial_threshold(threshold)
