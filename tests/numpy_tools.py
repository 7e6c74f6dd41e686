"""Functions written in NumPy against NumPy itself: operands of any layout, values, derivatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

import dlcore as dl
from graph_tools import assert_gradients_close, numerical_gradient
from helpers import layouts

DTYPES = ("?", "i1", "u1", "i2", "i4", "u4", "i8", "u8", "f4", "f8")
FLOATS = ("f4", "f8")


def spread_out(shape: Sequence[int], low: float, high: float, seed: int) -> np.ndarray:
    """Values in [low, high) that differ from one another, from those of the next seed, and from
    multiples of 0.5 by more than the steps of finite differences."""
    size = int(np.prod(shape))
    places = np.random.default_rng(seed).permutation(size) + (0.21 + 0.31 * (seed % 3))
    values = low + (high - low) * places / max(size, 1)
    near_a_kink = np.abs(2 * values - np.rint(2 * values)) < 0.06
    return np.where(near_a_kink, values + 0.07, values).reshape(shape)


def values(shape: Sequence[int], dtype: str, low: float, high: float, seed: int) -> np.ndarray:
    """An array of the dtype; integers are small enough for every dtype."""
    kind = np.dtype(dtype).kind
    if kind == "f":
        return spread_out(shape, low, high, seed).astype(dtype)
    rng = np.random.default_rng(seed)
    if kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    least = max(int(np.ceil(low)), 0 if kind == "u" else -9)
    return rng.integers(least, max(int(high), least) + 1, shape).astype(dtype)


@st.composite
def operand(draw, shape, low=-2.0, high=2.0, dtypes=DTYPES):
    """An array of the shape, in one of the dtypes and any layout."""
    array = values(shape, draw(st.sampled_from(dtypes)), low, high, draw(st.integers(0, 99)))
    if array.ndim == 0:
        return array
    if array.itemsize == 1:  # which is always aligned
        return draw(st.sampled_from([array, np.asfortranarray(array), array[::-1]]))
    return draw(st.sampled_from([array, *layouts(array)]))


def assert_like_numpy(got: Any, expected: Any, precision: Any = np.float64) -> None:
    """The same dtype and shape; integers and truth values are the same, others up to rounding."""
    expected = np.asarray(expected)
    assert np.asarray(got).dtype == expected.dtype.newbyteorder("=")
    assert np.shape(got) == expected.shape
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(got, expected)
        return
    tolerance = 1e-11 if {expected.dtype, np.dtype(precision)} == {np.dtype("f8")} else 1e-5
    finite = np.abs(expected[np.isfinite(expected)])
    atol = tolerance * max(1.0, np.max(finite, initial=0.0))
    np.testing.assert_allclose(got, expected, rtol=tolerance, atol=atol)


def check_value(f: Callable[..., Any], arrays: Sequence[Any]) -> None:
    """What the traced function gives is what NumPy gives, and it refuses what NumPy refuses.

    NumPy's float16, of functions of small integers, is refused too.
    """
    try:
        with np.errstate(all="ignore"):
            expected = f(*arrays)
    except TypeError:
        expected = None
    several = expected if isinstance(expected, list | tuple) else [expected]
    if expected is None or any(np.asarray(e).dtype == np.float16 for e in several):
        try:
            dl.jit(f)(*arrays)
        except TypeError:
            return
        raise AssertionError(f"NumPy refuses {[a.dtype for a in arrays]}, or gives float16")
    with np.errstate(all="ignore"):
        got = dl.jit(f)(*arrays)
    assert type(got) is type(expected) or not isinstance(expected, list | tuple)
    narrow = any(np.asarray(a).dtype.newbyteorder("=") == np.float32 for a in arrays)
    for one, wanted in zip(got if isinstance(got, list | tuple) else [got], several, strict=True):
        assert_like_numpy(one, wanted, np.float32 if narrow else np.float64)


def check_derivatives(f: Callable[..., Any], arrays: Sequence[np.ndarray], rtol=1e-6) -> None:
    """The first and second derivatives for all arrays of floats, against central differences."""
    argnums = tuple(i for i, a in enumerate(arrays) if np.asarray(a).dtype.kind == "f")
    rng = np.random.default_rng(5)
    weights = rng.uniform(0.5, 1.5, np.shape(f(*arrays)))
    directions = [rng.uniform(0.5, 1.5, np.shape(arrays[i])) for i in argnums]

    def weighted(*args):
        return np.sum(f(*args) * weights)

    first = dl.grad(weighted, argnums)

    def contracted(*args):
        pairs = zip(first(*args), directions, strict=True)
        return sum(np.sum(g * v) for g, v in pairs)

    _check_against_differences(weighted, weighted, arrays, argnums, rtol)
    _check_against_differences(contracted, dl.jit(contracted), arrays, argnums, rtol)


def _check_against_differences(traced, evaluate, arrays, argnums, rtol) -> None:
    got = dl.grad(traced, argnums)(*arrays)
    for i, gradient in zip(argnums, got, strict=True):
        assert np.asarray(gradient).dtype == arrays[i].dtype

        def moved(x, i=i):
            return float(evaluate(*arrays[:i], x, *arrays[i + 1 :]))

        expected = numerical_gradient(moved, np.array(arrays[i], order="C"))
        assert_gradients_close(np.asarray(gradient), expected, rtol)
