"""Random numbers of NumPy in traced functions: what is refused, what is not, and other threads."""

from __future__ import annotations

import functools
import sys
import threading
from collections import namedtuple
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.random import Generator, normal

import dlcore as dl

GENERATOR = np.random.default_rng(0)
LEGACY = np.random.RandomState(0)
IN_LIST = [GENERATOR]
IN_DICT = {"noise": {"rng": (GENERATOR,)}}
X = np.arange(1.0, 4.0)


class Noisy:
    def __init__(self):
        self.generator = np.random.default_rng(0)

    def __call__(self, x):
        return x + self.generator.normal()

    def method(self, x):
        return self(x)


class Indirect:
    """Draws in methods that its methods call."""

    def of_method(self, x):
        return x + self._drawn()

    def of_property(self, x):
        return x + self.noise

    def of_static(self, x):
        return x + self.static()

    def _drawn(self):
        return np.random.rand()

    @property
    def noise(self):
        return np.random.rand()

    @staticmethod
    def static():
        return np.random.rand()


class Inherits(Indirect):
    pass


HOLDER = Inherits()


def helper(x):
    return x + GENERATOR.normal()


def with_generator(rng, x):
    return x + rng.normal()


def imports_numpy(x):
    import numpy

    return x + numpy.random.rand()


def imports_functions(x):
    from numpy.random import rand

    return x + rand()


def nested(x):
    def inner():
        return [np.random.rand() for _ in range(2)]

    return x + inner()[0]


def or_given(x, w=None):
    if w is None:
        w = np.random.default_rng(0).normal()
    return x * w


def or_given_in_one_line(x, w=None):
    return x * (np.random.default_rng(0).normal() if w is None else w)


@functools.wraps(helper)
def decorated(x):
    return nested(x)


@functools.lru_cache
def cached():
    return np.random.rand()


USERS_MODULE = ModuleType("of_the_user")
exec("import numpy as np\ndef noisy(x):\n    return x + np.random.rand()", vars(USERS_MODULE))

# More names than one byte counts, so that instructions have long operands.
LONG: dict[str, Any] = {"np": np}
exec(
    "def noisy(x):\n    if x is None:\n"
    + "".join(f"        name_{i}.attribute_{i}\n" for i in range(300))
    + "    return x + np.random.standard_cauchy()",
    LONG,
)

REFUSED = {
    "legacy function": lambda x: x + np.random.rand(),
    "legacy function with arguments": lambda x: x + np.random.normal(size=3),
    "maker": lambda x: x + np.random.default_rng(0).normal(),
    "legacy class": lambda x: x + np.random.RandomState(0).normal(),
    "class": lambda x: x + np.random.Generator(np.random.PCG64(0)).normal(),
    "name of its own": lambda x: x + normal(),
    "class by a name of its own": lambda x: x + Generator(np.random.PCG64(0)).normal(),
    "function as an argument": lambda x: x + next(map(np.random.normal, [1.0])),
    "generator": lambda x: x + GENERATOR.normal(),
    "legacy generator": lambda x: x + LEGACY.normal(),
    "generator in a list": lambda x: x + IN_LIST[0].normal(),
    "generator in dicts": lambda x: x + IN_DICT["noise"]["rng"][0].normal(),
    "generator of a partial function": functools.partial(with_generator, GENERATOR),
    "legacy generator of a partial function": functools.partial(
        lambda x, g: x + g.rand(), g=LEGACY
    ),
    "function in a list": lambda x, draws=[np.random.rand]: x + draws[0](),
    "helper": lambda x: helper(x),
    "default": lambda x, g=GENERATOR: x + g.normal(),
    "default function": lambda x, draw=np.random.rand: x + draw(),
    "callable object": Noisy(),
    "method": Noisy().method,
    "method of a method": HOLDER.of_method,
    "property": HOLDER.of_property,
    "static method": HOLDER.of_static,
    "method of a global": lambda x: HOLDER.of_method(x),
    "object made within": lambda x: Inherits().of_property(x),
    "traced function": dl.jit(lambda x: x + np.random.default_rng(0).normal()),
    "partial function": functools.partial(lambda a, x: x + a * np.random.rand(), 1.0),
    "import": imports_numpy,
    "import of a function": imports_functions,
    "nested function": nested,
    "decorated function": decorated,
    "cached function": lambda x: x + cached(),
    "function of a module": lambda x: USERS_MODULE.noisy(x),
    "branch that is taken": or_given,
    "expression that is taken": or_given_in_one_line,
    "long function": LONG["noisy"],
}


@pytest.mark.parametrize("name", REFUSED)
def test_random_numbers_of_numpy_are_refused(name):
    f = REFUSED[name]
    cached.cache_clear()
    tracer = sys.gettrace()
    with pytest.raises(TypeError, match="dl.random"):
        dl.grad(lambda x: np.sum(f(x)))(X)
    cached.cache_clear()
    with pytest.raises(TypeError, match="dl.random"):
        dl.jit(f)(X)
    assert sys.gettrace() is tracer


def test_the_message_has_the_function_and_the_line():
    with pytest.raises(
        TypeError, match=r"np.random.rand in.*\n    at .*test_purity.py:\d+: return"
    ):
        dl.jit(nested)(X)


def test_a_generator_as_an_argument_is_refused():
    for draw in (lambda x, g: x + g.normal(), lambda x, g: x + g.generator.normal()):
        for g in (np.random.default_rng(0), Noisy()):
            if hasattr(g, "normal") == (draw.__code__.co_names == ("normal",)):
                with pytest.raises(TypeError, match="dl.random"):
                    dl.jit(draw)(X, g)


def make():
    return np.random.default_rng(0)


def make_weights():
    return make().normal()


class Layer:
    def __init__(self):
        self.init = make_weights

    def apply(self, x):
        return x * 2

    def reset(self):
        self.weight = np.random.rand()


Pair = namedtuple("Pair", ["make", "other"])

INNOCENT = {
    "function that is not called": (Layer().apply, lambda x: x * 2),
    "attribute of the name of a function": (
        lambda x: x * Pair(2.0, 0.0).make, lambda x: x * 2
    ),
    "branch that is not taken": (lambda x: or_given(x, 2.0), lambda x: x * 2),
    "expression that is not taken": (lambda x: or_given_in_one_line(x, 2.0), lambda x: x * 2),
    "question for the class": (
        lambda x: x * (3.0 if isinstance(x, np.random.Generator) else 2.0), lambda x: x * 2
    ),
    "generator that is only passed on": (lambda x, g=GENERATOR: x * 2, lambda x: x * 2),
    "names of dlcore": (lambda x: x * 2 + 0 * dl.random.normal((3,)), lambda x: x * 2),
}  # fmt: skip


@pytest.mark.parametrize("name", INNOCENT)
def test_what_draws_no_random_numbers_is_traced(name):
    f, reference = INNOCENT[name]
    tracer = sys.gettrace()
    np.testing.assert_array_equal(dl.jit(f)(X), reference(X))
    assert sys.gettrace() is tracer


def test_other_threads_may_draw_meanwhile():
    stop, started = threading.Event(), threading.Event()

    def draw():
        while not stop.is_set():
            np.random.rand()
            started.set()

    def slow(x):
        started.clear()
        assert started.wait(10)  # the other thread has drawn since
        return or_given(x, 2.0)

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        np.testing.assert_array_equal(dl.jit(slow)(X), 2 * X)
    finally:
        stop.set()
        thread.join()


def test_an_error_of_the_function_passes_and_leaves_no_tracer():
    def f(x):
        if x is None:
            np.random.rand()
        raise KeyError("of the function")

    tracer = sys.gettrace()
    with pytest.raises(KeyError, match="of the function"):
        dl.jit(f)(X)
    assert sys.gettrace() is tracer


def test_tracers_of_others_are_put_back():
    before = sys.gettrace()
    sys.settrace(lambda *_: None)
    try:
        tracer = sys.gettrace()
        dl.jit(lambda x: or_given(x, 2.0))(X)
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(before)
