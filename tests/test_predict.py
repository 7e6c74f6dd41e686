"""Predictions after the first, by the call that a model keeps: what it sees, takes and gives."""

from __future__ import annotations

import copy
import pickle
import weakref

import numpy as np
import pytest

import dlcore as dl
from dlcore._calls import BatchCall
from helpers import assert_same_bits, in_threads, team

FEATURES = 9
X = np.random.default_rng(0).normal(size=(1300, FEATURES)).astype(np.float32)


def network(*layers, width=20, **options):
    return dl.nn.Sequential(
        dl.nn.Linear(FEATURES, width),
        *layers,
        dl.nn.LeakyReLU(0.5),
        dl.nn.Linear(width, 3),
        **options,
    )


@pytest.fixture
def model():
    return network().init(0)


def predict_anew(model, x):
    """By a copy, which has kept nothing."""
    return copy.deepcopy(model).predict(x)


@pytest.fixture
def no_lookup(monkeypatch):
    """Predictions that look up their plan fail."""

    def refuse():
        def fail(model, x):
            raise AssertionError("a plan was looked up")

        monkeypatch.setattr(dl.nn.Sequential, "_predict_anew", fail)

    return refuse


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_kept_calls_serve_any_number_of_rows(no_lookup, dtype, threads):
    """With the bits of a first prediction, under and over the rows of a step."""
    model = network(width=600, dtype=dtype).init(0)
    with team(threads):
        expected = {rows: predict_anew(model, X[:rows]) for rows in (1, 2, 559, 560, 561, 1300)}
        assert np.abs(expected[1300]).max() > 0.1
        model.predict(X)
        no_lookup()
        for rows, result in expected.items():
            assert_same_bits(model.predict(X[:rows]), result)


def test_results_are_new_aligned_arrays(model):
    results = [model.predict(X[:5]) for _ in range(4)]
    for result in results:
        assert result.ctypes.data % 64 == 0
        assert result.flags.c_contiguous
        assert result.flags.writeable
    kept = results[0].copy()
    results[1][...] = 0
    assert_same_bits(results[0], kept)


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (1, 2, 3, 4, 5, 1, 2)])
def test_samples_of_any_shape(shape):
    model = dl.nn.Sequential(dl.nn.Tanh(), dtype="float64").init()
    x = np.random.default_rng(0).normal(size=(7, *shape))
    for rows in (7, 3, 1):
        np.testing.assert_allclose(model.predict(x[:rows]), np.tanh(x[:rows]), rtol=1e-12)


def halve(model):
    model.set_parameters({"0.weight": model.parameters()["0.weight"] / 2})


def fit(model):
    model.fit(X, np.ones((len(X), 3)), loss="mse", epochs=1)


def bend(model):
    model.layers[1].negative_slope = 0.1


@pytest.mark.parametrize("change", [halve, fit, bend, lambda model: model.init(5)])
def test_changes_are_seen(model, change):
    before = [model.predict(X) for _ in range(2)][1]
    change(model)
    for _ in range(2):
        after = model.predict(X)
        assert np.abs(after - before).max() > 1e-3
        assert_same_bits(after, predict_anew(model, X))


def test_predictions_during_a_fit_see_its_parameters(model):
    """Those of the epoch that ended."""
    seen = []

    def predict(_):
        seen.append((model.predict(X), predict_anew(model, X)))

    model.fit(X, np.ones((len(X), 3)), loss="mse", epochs=3, callbacks=predict)
    for got, expected in seen:
        assert_same_bits(got, expected)
    assert np.abs(seen[0][0] - seen[2][0]).max() > 1e-3


class Shift(dl.nn.Layer):
    """Adds an array that plans read in place, or copy where it has gaps."""

    def __init__(self, step):
        self.by = np.zeros(20 * step, np.float32)[::step]

    def apply(self, parameters, x, training):
        return x + self.by


@pytest.mark.parametrize("step", [1, 2])
def test_a_constant_of_a_layer_that_is_changed_in_place_is_seen(step):
    model = network(Shift(step)).init(0)
    seen = []
    for value in (0.0, 2.0, 5.0):
        model.layers[1].by[:] = value
        seen += [model.predict(X) for _ in range(2)]
        assert_same_bits(seen[-2], seen[-1])
        assert_same_bits(seen[-1], predict_anew(model, X))
    assert np.abs(seen[0] - seen[2]).max() > 0.1
    assert np.abs(seen[2] - seen[4]).max() > 0.1


class Scale(dl.nn.Layer):
    def __init__(self):
        self.factors = [2.0]

    def apply(self, parameters, x, training):
        return x * self.factors[0]


def test_a_list_of_a_layer_that_is_changed_in_place_is_seen():
    model = dl.nn.Sequential(dl.nn.Chain(Scale(), dl.nn.Tanh())).init()
    for value in (2.0, 5.0):
        model.layers[0].layers[0].factors[0] = value
        for _ in range(2):
            np.testing.assert_allclose(model.predict(X), np.tanh(X * value), rtol=1e-5)


class Quiet(dl.nn.Layer):
    """Sets attributes in a way of its own."""

    def __init__(self):
        self.factor = 2.0

    def __setattr__(self, name, value):
        object.__setattr__(self, name, value)

    def apply(self, parameters, x, training):
        return x * self.factor


def test_attributes_that_a_layer_sets_in_its_own_way_are_seen():
    model = dl.nn.Sequential(dl.nn.Chain(Quiet(), dl.nn.Tanh())).init()
    for value in (2.0, 5.0):
        model.layers[0].layers[0].factor = value
        for _ in range(2):
            np.testing.assert_allclose(model.predict(X), np.tanh(X * value), rtol=1e-5)
            np.testing.assert_allclose(model.predict_one(X[0]), np.tanh(X[0] * value), rtol=1e-5)


def test_debug_flags_are_seen(model, monkeypatch):
    """A plan is compiled for the flags of now."""
    first = [model.predict(X) for _ in range(2)][1]
    assert "blocks of" in model.plan_summary()
    monkeypatch.setattr(dl.config, "schedule", "whole-batch")
    for _ in range(2):
        np.testing.assert_allclose(model.predict(X), first, rtol=1e-5, atol=1e-6)
    assert "whole batch" in model.plan_summary()


def strided(x):
    return np.repeat(x, 2, axis=0)[::2]


def column_major(x):
    return np.asfortranarray(x)


def read_only(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def big_endian(x):
    return x.astype(">f4")


def unaligned(x):
    memory = np.zeros(x.nbytes + 1, np.uint8)
    result = memory[1:].view(x.dtype).reshape(x.shape)
    result[...] = x
    return result


class Subclass(np.ndarray):
    pass


@pytest.mark.parametrize(
    "form",
    [
        np.ndarray.tolist,
        strided,
        column_major,
        read_only,
        big_endian,
        unaligned,
        lambda x: x.view(Subclass),
        lambda x: x.astype(np.float64),
        lambda x: x[:0],
    ],
)
def test_arrays_of_other_forms_in_turn(model, form):
    x = X[:6]
    for _ in range(2):
        np.testing.assert_allclose(
            model.predict(form(x)), predict_anew(model, x)[: len(form(x))], rtol=1e-5, atol=1e-6
        )
        assert_same_bits(model.predict(x), predict_anew(model, x))


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (X[:, :5].copy(), ValueError, "x has 5 columns, but Linear takes 9"),
        (X[0], ValueError, "x"),
        (np.float32(3), ValueError, "x"),
        (np.array(["a"]), TypeError, "x must hold numbers"),
    ],
)
def test_what_does_not_fit_is_refused_also_after_a_prediction(model, x, error, message):
    expected = model.predict(X)
    for _ in range(2):
        with pytest.raises(error, match=message):
            model.predict(x)
        assert_same_bits(model.predict(X), expected)


def test_categories_are_checked_in_every_prediction():
    model = dl.nn.Sequential(dl.nn.Embedding(4, 2), dtype="float64").init()
    weight = model.parameters()["0.weight"]
    for value in (1, 2, 7, 3, -1, 0):
        x = np.array([0, value])
        if 0 <= value < 4:
            np.testing.assert_array_equal(model.predict(x), weight[x])
        else:
            with pytest.raises(ValueError, match=f"x has {value} in row 1"):
                model.predict(x)


def test_several_inputs():
    model = dl.nn.Sequential(dl.nn.Parallel(dl.nn.Identity(), dl.nn.Tanh(), combine="add"))
    model.init()
    for rows in (4, 2):
        x = X[:rows]
        for _ in range(2):
            np.testing.assert_allclose(model.predict((x, x)), x + np.tanh(x), rtol=1e-5, atol=1e-6)


def test_neither_rows_nor_results_are_kept_alive(model):
    rows = X.copy()
    results = [model.predict(rows) for _ in range(2)]
    kept = [weakref.ref(array) for array in (rows, *results)]
    del rows, results
    assert [each() for each in kept] == [None, None, None]


def test_new_parameters_leave_no_old_ones_alive(model):
    model.predict(X)
    model.predict_one(X[0])
    old = weakref.ref(model._parameters["0.weight"])
    model.init(1)
    assert old() is None


def test_copies_and_pickles_have_calls_of_their_own(model):
    expected = [model.predict(X) for _ in range(2)][1]
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        halve(other)
        assert np.abs(other.predict(X) - expected).max() > 1e-3
    assert_same_bits(model.predict(X), expected)


@pytest.mark.parametrize("width", [20, 1500])
def test_threads_predict_at_once(width):
    """Short calls keep the interpreter, long ones leave it to others."""
    model = network(width=width).init(0)
    parts = [X[i : i + 3] for i in range(0, 60, 3)] + [X]
    expected = [model.predict(part) for part in parts]

    def work(first):
        for i in range(first, first + 60):
            assert_same_bits(model.predict(parts[i % 21]), expected[i % 21])

    in_threads(work, 4)


def test_a_call_looks_at_the_rows_itself(model):
    """Whoever changes an array after `fits` gets an error."""
    model.predict(X)
    call = model._kept_call.call
    assert isinstance(call, BatchCall)
    for wrong in (X[:, :4].copy(), X.astype(np.float64), X[0], None):
        assert not call.fits(wrong, model._parameters)
        with pytest.raises(ValueError, match="fit"):
            call(wrong)
    assert not call.fits(X[:0], model._parameters)
    with pytest.raises(ValueError, match="fit"):
        call(X[:0])
    assert not call.fits(X, dict(model._parameters))
    assert call.fits(X, model._parameters)
