"""dlcore.ops.softmax and log_softmax against NumPy."""

import itertools
import math

import numpy as np
import pytest

from dlcore import ops
from helpers import (
    REALS,
    SIZES,
    THREADS,
    assert_close,
    assert_same_bits,
    layouts,
    log_softmax,
    team,
)


@pytest.fixture
def rng():
    return np.random.default_rng(2)


def softmax(x, axis):
    x = x.astype(np.longdouble)
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


@pytest.mark.parametrize("dtype", REALS)
def test_softmax_at_every_length_of_a_row(dtype, rng):
    for size in SIZES[1:]:
        x = (rng.standard_normal((3, size)) * 5).astype(dtype)
        expected = softmax(x, -1)
        # x - max(x) is rounded, and exp turns its absolute error into a relative one; the sum of
        # up to 64 terms in a lane is off by sqrt(64) / 2 units or so.
        scale = expected * (1 + np.abs(x - x.max(-1, keepdims=True)))
        assert_close(ops.softmax(x), expected, ulps=8, scale=scale)
        assert_close(
            ops.log_softmax(x), log_softmax(x, -1), ulps=4, scale=np.abs(x).max() + math.log(size)
        )


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
def test_softmax_along_any_axis_of_any_layout(dtype, axis, rng):
    x = rng.standard_normal((4, 5, 6)).astype(dtype)
    for view in layouts(x):
        assert_close(ops.softmax(view, axis=axis), softmax(x, axis), ulps=8)
        assert_close(ops.log_softmax(view, axis=axis), log_softmax(x, axis), ulps=4, scale=8)
        if view.flags.behaved and view.dtype.isnative:
            out = np.empty_like(view)
            assert ops.softmax(view, axis=axis, out=out) is out
            assert_close(out, softmax(x, axis), ulps=8)
            expected = ops.log_softmax(view, axis=axis)
            assert_same_bits(ops.log_softmax(view, axis=axis, out=view), expected)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("columns", [2, 3, 10, 17, 24, 32, 33, 65, 80, 81])
def test_a_row_of_softmax_is_the_same_alone(dtype, columns, rng):
    """Whatever stands in the rows beside it, with which it may be computed in one go."""
    x = (rng.standard_normal((53, columns)) * 3).astype(
        dtype
    )  # rows from 32 on have nothing special
    x[3, 0], x[4, 0], x[20, 0], x[5, :] = np.inf, np.nan, -np.inf, -np.inf
    x[21] *= 1000
    for function in (ops.softmax, ops.log_softmax):
        alone = np.concatenate([function(row[np.newaxis]) for row in x])
        np.testing.assert_array_equal(function(x), alone)
        assert np.isnan(alone[3:6]).all()
        assert np.isfinite(alone[6:20]).all()


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("columns", [10, 40, 60])
def test_a_row_of_softmax_is_the_same_among_more_than_the_caches_hold(dtype, columns, rng):
    """Rows beyond the caches are fetched ahead where they are transposed."""
    x = rng.standard_normal(((8 << 20) // (columns * np.dtype(dtype).itemsize) + 5, columns))
    x = x.astype(dtype)
    labels = rng.integers(0, columns, len(x))
    few = slice(len(x) - 37, None)
    with team(1):
        for function in (ops.softmax, ops.log_softmax):
            assert_same_bits(function(x)[few], function(x[few]))
        loss = ops.cross_entropy(x, labels)
    expected = -log_softmax(x.astype(np.float64), -1)[np.arange(len(x)), labels].mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize(
    "shape", [(53, 7), (16, 16), (100, 150), (3, 20_000), (2, 37, 21), (40, 3, 5)]
)
def test_softmax_of_transposed_rows_has_the_bits_of_others(dtype, shape, rng):
    """By groups of rows and what is left of them, with any number of threads, and in place."""
    x = (rng.standard_normal(shape) * 3).astype(dtype)
    swapped = np.ascontiguousarray(np.swapaxes(x, -1, -2))
    for function in (ops.softmax, ops.log_softmax):
        expected = function(x)
        for threads in THREADS:
            with team(threads):
                assert_same_bits(
                    np.ascontiguousarray(np.swapaxes(function(swapped, axis=-2), -1, -2)), expected
                )
                out = np.full_like(x, np.nan)
                function(np.swapaxes(swapped, -1, -2), out=out)
                assert_same_bits(out, expected)
                frame = np.full((*swapped.shape[:-1], shape[-2] + 3), np.nan, dtype)
                view = np.swapaxes(frame[..., 1:-2], -1, -2)
                function(x, out=view)
                assert_same_bits(np.ascontiguousarray(view), expected)
                view[...] = x
                function(view, out=view)
                assert_same_bits(np.ascontiguousarray(view), expected)
                view[...] = np.nan
                assert np.isnan(frame).all()


@pytest.mark.parametrize("dtype", REALS)
def test_softmax_does_not_overflow(dtype):
    x = np.array([[1e4, 0, -1e4], [-1e30, -1e30, -1e30]], dtype)
    np.testing.assert_array_equal(ops.softmax(x), np.array([[1, 0, 0], [1 / 3] * 3], dtype))
    np.testing.assert_array_equal(ops.log_softmax(x)[0], np.array([0, -1e4, -2e4], dtype))


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("rows", [3, 40])
@pytest.mark.parametrize("columns", [5, 37, 70])
def test_nan_makes_its_row_nan_and_no_other(dtype, rows, columns, rng):
    """Of rows by themselves, transposed and in groups, also behind their last whole vector."""
    clean = rng.standard_normal((rows, columns)).astype(dtype)
    for function in (ops.softmax, ops.log_softmax):
        expected = function(clean)
        for i in range(columns):
            x = clean.copy()
            x[1, i] = np.nan
            actual = function(x)
            assert np.all(np.isnan(actual[1]))
            assert_same_bits(np.delete(actual, 1, 0), np.delete(expected, 1, 0))


@pytest.mark.parametrize("dtype", REALS)
def test_softmax_is_the_same_bits_at_any_number_of_threads(dtype, rng):
    x = rng.standard_normal((61, 37)).astype(dtype)
    for axis, function in itertools.product((0, 1), (ops.softmax, ops.log_softmax)):
        expected = function(x, axis=axis)
        for threads in THREADS:
            with team(threads):
                assert_same_bits(function(x, axis=axis), expected)


def test_softmax_of_nothing_and_of_no_axis():
    assert ops.softmax(np.ones((0, 3))).shape == (0, 3)
    assert ops.softmax(np.ones((3, 0))).shape == (3, 0)
    with pytest.raises(np.exceptions.AxisError):
        ops.softmax(np.ones((2, 2)), axis=2)
    with pytest.raises(np.exceptions.AxisError):
        ops.softmax(np.float64(1.0))
