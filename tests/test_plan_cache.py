"""The cache of plans: what it takes for the same function, and that it keeps none alive."""

from __future__ import annotations

import functools
import gc
import logging
import pickle
import weakref

import numpy as np
import pytest

import dlcore as dl
from dlcore.graph.plan_cache import PLANS

X = np.array([1.0, 2.0, 3.0])


@pytest.fixture
def traces(caplog, monkeypatch):
    """How much has been traced since."""
    monkeypatch.setattr(dl.config, "log_traces", True)
    caplog.set_level(logging.WARNING, logger="dlcore")
    return lambda: len(caplog.records)


def cube(x):
    return np.sum(x**3)


@dl.jit
def doubled(x):
    return 2.0 * x


class Scaled:
    """A callable that equals others of its kind, and so cannot be hashed."""

    def __init__(self, factor):
        self.factor = factor

    def __eq__(self, other):
        return isinstance(other, Scaled)

    def __call__(self, x):
        return np.sum(x) * self.factor

    def scaled(self, x):
        return x * self.factor


@pytest.mark.parametrize(
    "transform",
    [
        dl.value_and_grad,
        dl.hessian,
        lambda f: dl.grad(dl.jit(f)),
        lambda f: dl.jit(dl.jacobian(f)),
        lambda f: dl.jit(dl.grad(lambda x: cube(x)) if f is None else dl.grad(f)),
    ],
)
def test_transforms_made_anew_find_their_plans(transform, traces):
    transform(cube)(X)
    count = traces()
    for _ in range(3):
        transform(cube)(X)
    assert traces() == count


def test_methods_find_their_plans(traces):
    scaled = Scaled(3.0)
    for _ in range(3):
        np.testing.assert_array_equal(dl.jit(scaled.scaled)(X), 3.0 * X)
    assert traces() == 1


def test_callables_are_told_apart_by_identity():
    assert dl.jit(Scaled(2.0))(X) == 12.0
    assert dl.jit(Scaled(5.0))(X) == 30.0


@pytest.mark.parametrize("transform", [dl.jit, dl.grad, dl.hessian, dl.check_grad, dl.minimize])
def test_functions_that_are_gone_are_forgotten(transform):
    """Together with what they capture."""
    captured = np.full(3, 2.0)

    def f(x):
        return np.sum(x**2 * captured)

    gone = weakref.ref(f)
    before = len(PLANS)
    if transform in (dl.check_grad, dl.minimize):
        transform(f, X)
    else:
        transform(f)(X)
    del f
    gc.collect()
    assert gone() is None
    assert len(PLANS) <= before


def test_an_id_that_is_used_again_is_no_identity():
    for factor in range(1, 30):
        f = functools.partial(lambda k, x: np.sum(x) * k, float(factor))
        assert dl.jit(f)(X) == 6.0 * factor
        del f


def test_functions_of_modules_pickle_and_decorate_methods():
    assert pickle.loads(pickle.dumps(doubled)) is doubled
    again = pickle.loads(pickle.dumps(dl.grad(cube)))
    np.testing.assert_array_equal(again(X), 3 * X**2)

    class Model:
        rate = 0.5

        @dl.jit
        def scaled(self, x):
            return x * self.rate

    np.testing.assert_array_equal(Model().scaled(X), X * 0.5)
