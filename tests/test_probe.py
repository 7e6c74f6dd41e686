"""Probes of the machine's limits: types of results, arguments, and that copies are right."""

import time

import numpy as np
import pytest

import dlcore as dl
from dlcore import _probe

SHORT = 1e-4


def is_rate(value):
    return isinstance(value, float) and 0 < value < np.inf


@pytest.fixture
def two_threads():
    dl.set_num_threads(2)
    yield
    dl.set_num_threads(0)


@pytest.mark.parametrize("dtype", ["float32", "float64", np.float32, np.dtype("f8")])
def test_fma_rate(dtype):
    assert is_rate(_probe.fma_rate(dtype, 1, SHORT))


def test_bfloat16_rate():
    assert is_rate(_probe.bfloat16_rate(1, SHORT))


@pytest.mark.parametrize("nbytes", [1, 4096, 100_001])
def test_memory_rates(nbytes):
    copied = _probe.copy_rate(nbytes, 1, SHORT)
    assert is_rate(copied.rate)
    assert copied.stores in ("plain", "streaming")
    assert is_rate(_probe.read_rate(nbytes, 1, SHORT))
    assert is_rate(_probe.stream_rate(4, 3, nbytes, 1, SHORT))


def test_rates_of_a_team(two_threads):
    assert is_rate(_probe.fma_rate(np.float32, 2, SHORT))
    assert is_rate(_probe.bfloat16_rate(2, SHORT))
    assert is_rate(_probe.copy_rate(1 << 20, 2, SHORT).rate)
    assert is_rate(_probe.read_rate(1 << 20, 2, SHORT))
    assert is_rate(_probe.stream_rate(8, 8, 1 << 16, 2, SHORT))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("seconds", [0.0, SHORT])
def test_a_team_meets_at_barriers_for_as_long_as_asked(two_threads, threads, seconds):
    begin = time.perf_counter()
    rate = _probe.barrier_rate(threads, seconds)
    elapsed = time.perf_counter() - begin
    assert is_rate(rate)
    assert elapsed >= seconds
    assert rate * elapsed >= 100  # the fewest that are counted


@pytest.mark.parametrize("n", [1, 7, 64, 1000, 4099])
@pytest.mark.parametrize("offset", [0, 1, 5])
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
def test_copy_copies_all_and_no_more(two_threads, n, offset, streaming, threads):
    source = np.random.default_rng(n).normal(size=n + offset).astype(np.float32)[offset:]
    around = np.full(n + offset + 9, np.nan, np.float32)
    out = around[offset : offset + n]
    assert is_rate(_probe.copy(out, source, threads, streaming=streaming))
    np.testing.assert_array_equal(out, source)
    assert np.isnan(around[:offset]).all()
    assert np.isnan(around[offset + n :]).all()


def test_limit_of_threads_is_kept():
    dl.set_num_threads(1)
    try:
        with pytest.raises(ValueError, match="threads is 2; expected 1 to 1"):
            _probe.fma_rate(np.float32, 2, SHORT)
    finally:
        dl.set_num_threads(0)


@pytest.mark.parametrize("threads", [0, -1])
def test_wrong_threads(threads):
    with pytest.raises(ValueError, match=f"threads is {threads}; expected 1 to"):
        _probe.read_rate(4096, threads, SHORT)


@pytest.mark.parametrize("seconds", [-1.0, np.nan, np.inf])
def test_wrong_seconds(seconds):
    with pytest.raises(ValueError, match=f"seconds is -?{abs(seconds):g}; expected 0 to 3600"):
        _probe.read_rate(4096, 1, seconds)


@pytest.mark.parametrize("dtype", [np.int32, np.float16, ">f4"])
def test_wrong_dtype(dtype):
    with pytest.raises(TypeError, match="expected float32 or float64"):
        _probe.fma_rate(dtype, 1, SHORT)


@pytest.mark.parametrize("nbytes", [0, -5])
def test_wrong_bytes(nbytes):
    with pytest.raises(ValueError, match=f"nbytes is {nbytes}; expected 1 to"):
        _probe.read_rate(nbytes, 1, SHORT)


@pytest.mark.parametrize(("n_read", "n_written"), [(2, 3), (1, 0), (9, 1), (0, 0)])
def test_wrong_streams(n_read, n_written):
    with pytest.raises(ValueError, match=f"n_read is {n_read} and n_written {n_written}; expected"):
        _probe.stream_rate(n_read, n_written, 4096, 1, SHORT)


def test_wrong_arrays_to_copy():
    x = np.zeros(8, np.float32)
    with pytest.raises(ValueError, match="source is no C-contiguous"):
        _probe.copy(np.zeros(4, np.float32), x[::2])
    with pytest.raises(ValueError, match="out is no C-contiguous"):
        _probe.copy(np.zeros(8), x)
    with pytest.raises(ValueError, match="out has 12 bytes, source 32"):
        _probe.copy(np.zeros(3, np.float32), x)
    x.flags.writeable = False
    with pytest.raises(ValueError, match="out is read-only"):
        _probe.copy(x, np.zeros(8, np.float32))
