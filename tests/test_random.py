"""Random arrays, and the orders of epochs: Philox, distributions, permutations."""

import itertools
import math

import numpy as np
import pytest

from dlcore import _native
from helpers import REALS, THREADS, assert_same_bits, team


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ([0] * 4, [0] * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (
            [0xFFFFFFFF] * 4,
            [0xFFFFFFFF] * 2,
            (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_its_published_known_answers(counter, key, expected):
    """Known-answer tests of philox4x32-10 in Random123, the code of Salmon et al."""
    assert _native.philox_block(counter, key) == expected


def test_uniform_numbers_are_the_words_of_philox_in_order():
    """Element i of a float32 array is word i of the blocks (0, step, stream), (1, ...), ..."""
    seed, stream, step = 0x123456789ABCDEF0, 77, 0x1_0000_0002
    key = (seed & 0xFFFFFFFF, seed >> 32)
    words = [
        word
        for block in range(5)
        for word in _native.philox_block([block, step & 0xFFFFFFFF, step >> 32, stream], key)
    ]
    single = _native.random("uniform", 20, np.float32, seed, stream, step)
    np.testing.assert_array_equal(single, np.array([(word >> 8) / 2**24 for word in words]))
    double = _native.random("uniform", 10, np.float64, seed, stream, step)
    pairs = zip(words[::2], words[1::2], strict=True)
    expected = [((low | high << 32) >> 11) / 2**53 for low, high in pairs]
    np.testing.assert_array_equal(double, expected)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("kind", ["uniform", "normal", "keep_mask"])
def test_random_arrays_are_the_same_bits_at_any_number_of_threads(dtype, kind):
    arrays = []
    for threads in THREADS:
        with team(threads):
            arrays.append(_native.random(kind, (97, 103), dtype, 5, 6, 7, 0.75))
    for array in arrays[1:]:
        assert_same_bits(array, arrays[0])
    # A shorter array is the beginning of a longer one.
    assert_same_bits(_native.random(kind, 1001, dtype, 5, 6, 7, 0.75), arrays[0].ravel()[:1001])


@pytest.mark.parametrize("dtype", REALS)
def test_random_arrays_have_their_distribution(dtype):
    """Moments within five standard errors; the seed is fixed, so the outcome is too."""
    n = 100_000
    uniform = _native.random("uniform", n, dtype, 1, 2, 3).astype(np.float64)
    assert uniform.min() >= 0
    assert uniform.max() < 1
    counts = np.bincount((uniform * 100).astype(int), minlength=100)
    assert ((counts - n / 100) ** 2 / (n / 100)).sum() < 99 + 5 * math.sqrt(2 * 99)
    normal = _native.random("normal", n, dtype, 1, 2, 3).astype(np.float64)
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((normal**power).mean() - moment) < 5 * math.sqrt(variance / n)
    mask = _native.random("keep_mask", n, dtype, 1, 2, 3, 0.8)
    assert set(np.unique(mask)) == {dtype(0), dtype(1 / 0.8)}
    assert abs((mask > 0).mean() - 0.8) < 5 * math.sqrt(0.8 * 0.2 / n)


def test_random_arrays_differ_by_seed_stream_and_step():
    arrays = [
        _native.random("uniform", 50, np.float64, *key)
        for key in itertools.product((0, 1, 1 << 32), (0, 1), (0, 1, 1 << 32))
    ]
    assert len({array.tobytes() for array in arrays}) == len(arrays)


def test_random_checks_its_arguments():
    with pytest.raises(ValueError, match="kind is 'poisson'; expected one of uniform"):
        _native.random("poisson", 3, np.float64, 0, 0, 0)
    with pytest.raises(TypeError, match="dtype is int64"):
        _native.random("uniform", 3, np.int64, 0, 0, 0)
    with pytest.raises(ValueError, match="keep is 0; expected more than 0 and at most 1"):
        _native.random("keep_mask", 3, np.float64, 0, 0, 0, 0.0)


@pytest.mark.parametrize("n", [0, 1, 2, 127, 128, 129, 130, 1000])
def test_shuffle_is_a_permutation_for_each_seed_and_epoch(n):
    orders = [_native.shuffle(n, seed, epoch) for seed in (0, 1) for epoch in (0, 1, 1 << 40)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(n))
    if n > 100:
        assert len({order.tobytes() for order in orders}) == len(orders)
    np.testing.assert_array_equal(_native.shuffle(n, 0, 1), orders[1])


@pytest.mark.parametrize("n", [127, 128, 129, 130, 300])
def test_shuffle_swaps_by_the_words_of_philox_in_order(n):
    """Fisher and Yates, from the end on, with Lemire's numbers below a bound; none is rejected.
    More than 128 are drawn by vectors."""
    seed, epoch = 0x123456789ABCDEF0, 0x1_0000_0003
    key, stream = (seed & 0xFFFFFFFF, seed >> 32), 0xFFFFFFFF
    blocks = [
        _native.philox_block([block, epoch & 0xFFFFFFFF, epoch >> 32, stream], key)
        for block in range(n // 2)
    ]
    words = iter([block[i] | block[i + 1] << 32 for block in blocks for i in (0, 2)])
    expected = np.arange(n)
    for i in range(n - 1, 0, -1):
        j = next(words) * (i + 1) >> 64
        expected[[i, j]] = expected[[j, i]]
    np.testing.assert_array_equal(_native.shuffle(n, seed, epoch), expected)


def test_the_orders_of_several_epochs_are_those_of_each():
    orders = np.empty((3, 100), np.int64)
    _native.shuffle_epochs(orders, 7, 5)
    for i, order in enumerate(orders):
        np.testing.assert_array_equal(order, _native.shuffle(100, 7, 5 + i))


def test_shuffle_puts_every_element_everywhere():
    """All 24 orders of four elements, about equally often."""
    counts = {}
    for epoch in range(4800):
        order = tuple(_native.shuffle(4, 9, epoch))
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 24
    assert sum((count - 200) ** 2 / 200 for count in counts.values()) < 23 + 5 * math.sqrt(46)
