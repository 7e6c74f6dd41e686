"""The comparisons that other tests rest on reject what they are there to reject."""

import numpy as np
import pytest

from dlcore import _native
from helpers import REALS, assert_close, assert_product_close, assert_same_bits, layouts


@pytest.fixture
def matrices():
    rng = np.random.default_rng(0)
    return rng.standard_normal((20, 30)), rng.standard_normal((30, 10))


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("wrong", [0.0, np.nan, np.inf])
def test_assert_close_rejects_zeros_nan_and_infinities(dtype, wrong):
    expected = np.array([1e-30, 1.0, 2.0])
    actual = expected.astype(dtype)
    assert_close(actual, actual, ulps=0)
    for i in range(3):
        broken = actual.copy()
        broken[i] = wrong
        with pytest.raises(AssertionError):
            assert_close(broken, expected, ulps=4)


def test_assert_close_rejects_a_number_where_nan_is_expected():
    with pytest.raises(AssertionError):
        assert_close(np.zeros(1), np.array([np.nan]), ulps=4)


def test_assert_close_counts_units_in_the_last_place():
    one = np.ones(1, np.float32)
    assert_close(one + np.finfo(np.float32).eps, one, ulps=1)
    with pytest.raises(AssertionError):
        assert_close(one + 2 * np.finfo(np.float32).eps, one, ulps=1)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("wrong", [0.0, np.nan])
def test_assert_product_close_rejects_zeros_and_nan(matrices, dtype, wrong):
    a, b = (m.astype(dtype) for m in matrices)
    assert_product_close((a.astype(np.longdouble) @ b).astype(dtype), a, b)
    with pytest.raises(AssertionError):
        assert_product_close(np.full((20, 10), wrong, dtype), a, b)


def test_assert_product_close_rejects_one_wrong_matrix_of_a_batch(matrices):
    a, b = (np.stack([m, m]).astype(np.float32) for m in matrices)
    c = a @ b
    c[1, 3, 3] += 1
    with pytest.raises(AssertionError):
        assert_product_close(c, a, b)


def test_assert_same_bits_tells_zeros_and_the_last_bit_apart():
    x = np.array([0.0, 1.0, np.nan])
    assert_same_bits(x.copy(), x)
    for broken in ([-0.0, 1.0, np.nan], [0.0, np.nextafter(1, 2), np.nan], [0.0, 1.0, 0.0]):
        with pytest.raises(AssertionError):
            assert_same_bits(np.array(broken), x)


def test_layouts_equal_their_array():
    x = np.arange(12.0).reshape(3, 4)
    for array in layouts(x):
        np.testing.assert_array_equal(array, x)


def test_teams_have_the_size_that_is_asked_for():
    from helpers import team

    before = _native.get_serial_threshold()
    with team(3):
        assert _native.get_num_threads() == 3
    assert _native.get_serial_threshold() == before
