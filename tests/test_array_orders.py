"""Traced functions of arrays in C order, Fortran order and neither: what is read where it lies,
which plans are made, and that results are the same."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import dlcore as dl
from dlcore.graph.plan_cache import PLANS


def test_large_arrays_in_fortran_order_are_read_where_they_lie(traces):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 130, 70))
    f = dl.jit(lambda x, y: (np.tanh(x) - y).T @ x + x.sum())
    expected = f(x, y)
    x_f, y_f = np.asfortranarray(x), np.asfortranarray(y)
    for _ in range(2):
        for arguments in ((x_f, y), (x, y_f), (x_f, y_f), (x, y)):
            np.testing.assert_allclose(f(*arguments), expected, rtol=1e-12)
    assert traces() == 1
    trace = f.trace(x_f, y)
    assert trace.plan is not f.trace(x, y).plan
    assert f.trace(x_f, y) is trace
    assert all(map(np.shares_memory, trace.native_arrays([x_f, y]), [x_f, y]))
    x_f[3, 4] += 1
    np.testing.assert_allclose(f(x_f, y), f(np.ascontiguousarray(x_f), y), rtol=1e-12)


def test_no_plan_is_made_for_the_order_of_what_is_not_read():
    x, unread = np.ones((90, 80)), np.asfortranarray(np.ones((90, 80)))
    f = dl.jit(lambda unread, x: 2 * x)
    assert f.trace(unread, x) is f.trace(np.ones((90, 80)), x)
    for layout in (unread, unread[:, ::-1], np.ones((90, 80))):
        np.testing.assert_array_equal(f(layout, x), 2 * x)


def test_plans_for_other_orders_go_with_their_function():
    """And what they read of it, without a run of the garbage collector."""
    captured = np.ones((90, 80))
    f = dl.jit(lambda x, captured=captured: x + captured)
    alive = weakref.ref(captured)
    gc.disable()
    try:
        before = len(PLANS)
        f(np.ones((90, 80)))
        f(np.asfortranarray(np.ones((90, 80))))
        assert len(PLANS) == before + 2
        del f, captured
        assert len(PLANS) == before
        assert alive() is None
    finally:
        gc.enable()


def test_large_arguments_of_any_kind_in_fortran_order(tmp_path):
    class Special(np.ndarray):
        pass

    x = np.random.default_rng(5).normal(size=(90, 80))
    mapped = np.memmap(tmp_path / "x", x.dtype, "w+", shape=x.shape, order="F")
    mapped[...] = x
    read_only = np.asfortranarray(x)
    read_only.flags.writeable = False
    f = dl.jit(lambda x: np.tanh(x) + 1)
    for _ in range(2):
        for argument in (mapped, read_only, np.asfortranarray(x).view(Special), x):
            np.testing.assert_array_equal(f(argument), f(x))


def test_calls_from_several_threads_with_arrays_in_several_orders():
    x = np.random.default_rng(6).normal(size=(70, 75))
    f = dl.jit(lambda x: (x * 2, x[:3, :2] + 1))
    layouts = [x, np.asfortranarray(x), x[::-1, ::-1], np.repeat(x, 2, axis=1)[:, ::2]]

    def call(i):
        layout = layouts[i % 4]
        doubled, corner = f(layout)
        return np.array_equal(doubled, layout * 2) and np.array_equal(corner, layout[:3, :2] + 1)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(call, range(400)))


def test_captured_integers_beyond_those_of_64_bits_wrap_around():
    captured = np.array([2**64 - 1, 2**64 - 3, 7], np.uint64)
    f = dl.jit(lambda x: captured + x)
    np.testing.assert_array_equal(f(np.zeros(3, np.uint64)), captured)


@pytest.mark.parametrize("dtype", ["f4", "f8", "u1", "i4", ">f8"])
@pytest.mark.parametrize("shape", [(6, 5), (400, 300), (20, 30, 60)])
def test_arguments_in_any_order(dtype, shape):
    """Small and large, copied or not, the first call or a later one, and differentiated."""
    x = np.random.default_rng(2).integers(0, 9, shape).astype(dtype)
    wide = np.zeros((*shape[:-1], 2 * shape[-1]), dtype)
    wide[..., ::2] = x
    layouts = [x, np.asfortranarray(x), wide[..., ::2], np.asfortranarray(x[::-1])[::-1], x.copy()]
    f = dl.jit(lambda x, scale: (scale * x, np.sum(x, axis=0), x[1:] - x[:-1]))
    slope = dl.grad(lambda scale, x: np.sum(np.sin(scale * x)))
    exact = x.astype("f8")
    expected_slope = np.sum(exact * np.cos(0.5 * exact))
    accuracy = 1e-4 if dtype == "f4" else 1e-12
    for _ in range(2):
        for layout in layouts:
            for result, expected in zip(f(layout, 0.5), f(x, 0.5), strict=True):
                np.testing.assert_array_equal(result, expected)
            np.testing.assert_array_equal(f(layout, 0.5)[0], 0.5 * x)
            np.testing.assert_allclose(slope(0.5, layout), expected_slope, rtol=accuracy)


def test_the_gradient_of_an_array_in_fortran_order():
    x = np.asfortranarray(np.random.default_rng(3).normal(size=(90, 80)))
    value, gradient = dl.value_and_grad(lambda x: np.sum(x**3 * np.arange(80.0)))(x)
    np.testing.assert_allclose(value, np.sum(x**3 * np.arange(80.0)), rtol=1e-12)
    np.testing.assert_allclose(gradient, 3 * x**2 * np.arange(80.0), rtol=1e-12)


@pytest.mark.parametrize("shape", [(4, 3), (90, 80)])
def test_captured_arrays_in_any_order_are_read_at_every_call(shape):
    rng = np.random.default_rng(4)
    wide = rng.normal(size=(shape[0], 2 * shape[1]))
    for captured in (np.asfortranarray(wide[:, ::2]), wide[:, 1::2], wide.T):
        f = dl.jit(lambda v, captured=captured: captured @ np.sin(v) + v[0])
        v = rng.normal(size=captured.shape[1])
        for _ in range(3):
            np.testing.assert_allclose(f(v), captured @ np.sin(v) + v[0], rtol=1e-11)
            captured *= 2
