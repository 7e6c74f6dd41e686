"""Models of layers: parameters, prediction, layers, plans."""

from __future__ import annotations

import copy
import weakref
from collections import Counter

import numpy as np
import pytest
from scipy import special

import dlcore as dl
from dlcore import config
from dlcore.nn.initializers import NAMES
from helpers import THREADS, assert_same_bits, in_threads, team


def two_layers(**options):
    return dl.nn.Sequential(dl.nn.Linear(4, 6), dl.nn.Tanh(), dl.nn.Linear(6, 3), **options)


def numpy_forward(model, x):
    p = {name: value.astype(np.float64) for name, value in model.parameters().items()}
    return np.tanh(x @ p["0.weight"] + p["0.bias"]) @ p["2.weight"] + p["2.bias"]


@pytest.mark.parametrize("n", [0, 1, 2, 31, 1023, 1024, 1025, 3000])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_predict_equals_numpy(n, dtype):
    """Any number of rows, over and under the rows of a step."""
    model = two_layers(dtype=dtype).init(seed=1)
    x = np.random.default_rng(0).normal(size=(n, 4))
    got = model.predict(x)
    assert got.shape == (n, 3)
    assert got.dtype == dtype
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(got, numpy_forward(model, x), rtol=tolerance, atol=tolerance)


def test_predict_one_equals_predict():
    model = two_layers().init(seed=1)
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    expected = model.predict(x)
    out = np.empty(3, np.float32)
    for row, wanted in zip(x, expected, strict=True):
        np.testing.assert_allclose(model.predict_one(row), wanted, rtol=1e-5, atol=1e-6)
        assert model.predict_one(row, out=out) is out
        np.testing.assert_allclose(out, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 8, 1025])
def test_one_row_of_large_layers(rows):
    """Plans of one row cut the depth of large weights in parts; a last step of one row does not."""
    model = dl.nn.Sequential(dl.nn.Linear(700, 600), dl.nn.Tanh(), dl.nn.Linear(600, 500))
    model.init(seed=0)
    x = np.random.default_rng(0).normal(size=(1025, 700)).astype(np.float32)
    expected = numpy_forward(model, x)
    results = []
    for threads in THREADS:
        with team(threads):
            results.append((model.predict_one(x[0]), model.predict(x[:rows])))
    for one, several in results:
        assert_same_bits(one, results[0][0])
        assert_same_bits(several, results[0][1])
        np.testing.assert_allclose(one, expected[0], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(several, expected[:rows], rtol=1e-5, atol=1e-5)


def test_predict_one_checks_dtype_and_size():
    model = two_layers().init()
    with pytest.raises(TypeError, match="x is float64, but the model computes in float32"):
        model.predict_one(np.zeros(4))
    with pytest.raises(ValueError, match="x has 5 columns, but Linear takes 4"):
        model.predict_one(np.zeros(5, np.float32))
    with pytest.raises(ValueError, match=r"out must be float32 \(3,\), not float32 \(2,\)"):
        model.predict_one(np.zeros(4, np.float32), out=np.zeros(2, np.float32))


def as_predict(model, row):
    """Checks predict_one against predict, with the plan that is looked up and with the kept one."""
    expected = model.predict(row[np.newaxis])[0]
    for _ in range(2):
        np.testing.assert_allclose(model.predict_one(row), expected, rtol=1e-5, atol=1e-6)
    return expected


def test_predict_one_sees_what_changed_since_the_last_call():
    model = dl.nn.Sequential(dl.nn.Linear(4, 6), dl.nn.LeakyReLU(0.5), dl.nn.Linear(6, 3)).init()
    row = np.array([1.0, -2.0, 3.0, -4.0], np.float32)
    seen = [as_predict(model, row)]
    model.set_parameters({"0.bias": np.arange(6) - 3})
    seen.append(as_predict(model, row))
    model.layers[1].negative_slope = 0.1
    seen.append(as_predict(model, row))
    model.init(seed=5)
    seen.append(as_predict(model, row))
    model.fit(np.stack([row, -row]), np.array([0, 1]), loss="cross_entropy", epochs=3)
    seen.append(as_predict(model, row))
    for i, one in enumerate(seen):
        for other in seen[:i]:
            assert not np.allclose(one, other, rtol=1e-3)


@pytest.mark.parametrize("step", [1, 2])
def test_predict_one_sees_a_constant_of_a_layer_that_is_changed_in_place(step):
    """As predict does, whether plans read it where it is or copy it."""

    class Shift(dl.nn.Layer):
        def __init__(self):
            self.by = np.zeros(4 * step, np.float32)[::step]

        def apply(self, parameters, x, training):
            return x + self.by

    model = dl.nn.Sequential(Shift()).init()
    row = np.ones(4, np.float32)
    for value in (0.0, 2.0, 5.0):
        model.layers[0].by[:] = value
        np.testing.assert_array_equal(as_predict(model, row), np.full(4, 1 + value))


def test_predict_one_sees_a_list_of_a_layer_that_is_changed_in_place():
    class Scale(dl.nn.Layer):
        def __init__(self):
            self.factors = [2.0]

        def apply(self, parameters, x, training):
            return x * self.factors[0]

    model = dl.nn.Sequential(dl.nn.Chain(Scale(), dl.nn.Tanh())).init()
    row = np.full(4, 0.1, np.float32)
    for value in (2.0, 5.0):
        model.layers[0].layers[0].factors[0] = value
        np.testing.assert_allclose(as_predict(model, row), np.tanh(0.1 * value), rtol=1e-6)


def test_predict_one_keeps_neither_the_row_nor_the_result_alive():
    model = two_layers().init()
    row, out = np.ones(4, np.float32), np.empty(3, np.float32)
    kept = [weakref.ref(array) for array in (row, out)]
    for _ in range(2):
        model.predict_one(row, out)
    del row, out
    assert [each() for each in kept] == [None, None]


def test_predict_one_takes_samples_of_several_shapes_in_turn():
    model = dl.nn.Sequential(dl.nn.Tanh(), dtype="float64").init()
    for shape in ((3,), (2, 3), (), (3,), (2, 3)):
        x = np.random.default_rng(0).normal(size=shape)
        np.testing.assert_allclose(model.predict_one(x), np.tanh(x), rtol=1e-12)


def test_predict_one_refuses_what_does_not_fit_also_after_a_call():
    model = two_layers().init()
    row, out = np.ones(4, np.float32), np.empty(3, np.float32)
    expected = model.predict_one(row).copy()
    read_only = np.empty(3, np.float32)
    read_only.flags.writeable = False
    shared = np.ones(7, np.float32)
    for x, result, error, message in (
        (np.ones(4), None, TypeError, "x is float64"),
        (np.ones(5, np.float32), None, ValueError, "x has 5 columns"),
        (np.ones(8, np.float32)[::2], out, ValueError, "not C-contiguous"),
        (row, np.empty(2, np.float32), ValueError, "out must be"),
        (row, np.empty(6, np.float32)[::2], ValueError, "not C-contiguous"),
        (row, read_only, ValueError, "is read-only"),
        (shared[:4], shared[3:6], ValueError, "overlaps"),
    ):
        with pytest.raises(error, match=message):
            model.predict_one(x, result)
        np.testing.assert_array_equal(model.predict_one(row), expected)
    np.testing.assert_array_equal(shared, 1)


def test_predict_one_goes_on_after_a_row_that_failed():
    model = dl.nn.Sequential(dl.nn.Embedding(4, 2), dtype="float64").init()
    weight = model.parameters()["0.weight"]
    for value in (1, 2, 7, 3, -1, 0):
        if 0 <= value < 4:
            np.testing.assert_array_equal(
                model.predict_one(np.array([float(value)])), weight[[value]]
            )
        else:
            with pytest.raises(ValueError, match="index"):
                model.predict_one(np.array([float(value)]))


@pytest.mark.parametrize("schedule", ["row-block", "whole-batch"])
def test_predict_one_with_either_schedule(monkeypatch, schedule):
    monkeypatch.setattr(config, "schedule", schedule)
    as_predict(two_layers().init(seed=2), np.arange(4, dtype=np.float32))


@pytest.mark.parametrize("width", [8, 1500])
def test_predict_one_from_many_threads_at_once(width):
    """Short calls keep the interpreter; long ones leave it to others, which find another plan."""
    layers = (
        dl.nn.Linear(4, width),
        dl.nn.Tanh(),
        dl.nn.Linear(width, width),
        dl.nn.Linear(width, 3),
    )
    model = dl.nn.Sequential(*layers).init()
    rows = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    expected = [model.predict_one(row) for row in rows]

    def work(first):
        for i in range(first, first + 100):
            np.testing.assert_array_equal(model.predict_one(rows[i % 20]), expected[i % 20])

    in_threads(work, 4)


def wide_model():
    """A model whose single rows may gain by a team: of about 20 microseconds on one thread."""
    return dl.nn.Sequential(
        dl.nn.Embedding(4, 256), dl.nn.Linear(256, 2000), dl.nn.Tanh(), dl.nn.Linear(2000, 3)
    ).init(seed=0)


@pytest.mark.parametrize("threads", THREADS)
def test_predict_one_has_the_same_bits_on_a_team(threads):
    """Long calls are tried on a team, now and then, after some milliseconds of calls."""
    model = wide_model()
    row = np.array(1, np.float32)
    expected = model.predict_one(row)
    teams = Counter()
    with team(threads):
        while min(teams[1], teams[threads]) < 5:  # a look is five runs of each
            assert_same_bits(model.predict_one(row), expected)
            teams[model._row_call.team] += 1
            assert teams.total() < 1_000_000


def test_predict_one_goes_on_after_a_row_that_failed_on_a_team():
    model = wide_model()
    rows = np.split(np.arange(8, dtype=np.float32), 8)
    expected = [model.predict_one(row) for row in rows[:4]]
    failed_on = Counter()
    with team(3):
        while min(failed_on[1], failed_on[3]) < 2:
            i = failed_on.total()
            assert_same_bits(model.predict_one(rows[i % 4]), expected[i % 4])
            with pytest.raises(ValueError, match="index"):
                model.predict_one(rows[4 + i % 4])
            failed_on[model._row_call.team] += 1
            assert i < 1_000_000


def test_predict_one_follows_the_number_of_threads():
    """What is kept for a number of threads is made anew for more."""
    model, wide = two_layers().init(), wide_model()
    model.predict_one(np.zeros(4, np.float32))
    short = model._row_call
    calls = []
    for threads in (1, 2, 2, 1):
        with team(threads):
            model.predict_one(np.zeros(4, np.float32))
            wide.predict_one(np.array(1, np.float32))
            calls.append(wide._row_call)
    assert model._row_call is short
    assert calls[0] is not calls[1]
    assert calls[1] is calls[2]
    assert calls[2] is calls[3]


def test_predict_uses_the_parameters_of_now():
    """Plans are kept, parameters are not copied into them."""
    model = two_layers(dtype="float64").init()
    x = np.ones((2, 4))
    model.predict(x)
    model.set_parameters({"2.bias": [1.0, 2.0, 3.0], "2.weight": np.zeros((6, 3))})
    np.testing.assert_array_equal(model.predict(x), [[1.0, 2.0, 3.0]] * 2)


def test_first_predictions_from_many_threads_at_once():
    model = two_layers().init()
    x = np.random.default_rng(0).normal(size=(2000, 4)).astype(np.float32)
    expected = copy.deepcopy(model).predict(x)
    in_threads(lambda _: np.testing.assert_array_equal(model.predict(x), expected), 8)


def test_parameters_are_live_and_read_only():
    model = two_layers().init(seed=0)
    parameters = model.parameters()
    assert list(parameters) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert parameters["0.weight"].shape == (4, 6)
    with pytest.raises(ValueError, match="read-only"):
        parameters["0.weight"][0, 0] = 1.0
    model.set_parameters({"0.bias": np.arange(6)})
    np.testing.assert_array_equal(parameters["0.bias"], np.arange(6))


def test_set_parameters_changes_all_or_nothing():
    model = two_layers().init(seed=0)
    before = model.parameters()["0.bias"].copy()
    with pytest.raises(ValueError, match=r"2.bias has shape \(2,\), expected \(3,\)"):
        model.set_parameters({"0.bias": np.ones(6), "2.bias": np.ones(2)})
    with pytest.raises(ValueError, match="there is no parameter '1.bias'; there are 0.weight"):
        model.set_parameters({"1.bias": np.ones(2)})
    with pytest.raises(TypeError, match="0.bias must hold numbers"):
        model.set_parameters({"0.bias": np.full(6, "a")})
    np.testing.assert_array_equal(model.parameters()["0.bias"], before)


ACTIVATIONS = {
    "ReLU": (dl.nn.ReLU(), lambda x: np.maximum(x, 0)),
    "LeakyReLU": (dl.nn.LeakyReLU(0.2), lambda x: np.where(x > 0, x, 0.2 * x)),
    "ELU": (dl.nn.ELU(0.7), lambda x: np.where(x > 0, x, 0.7 * np.expm1(x))),
    "Sigmoid": (dl.nn.Sigmoid(), special.expit),
    "Tanh": (dl.nn.Tanh(), np.tanh),
    "GELU": (dl.nn.GELU(), lambda x: x * special.ndtr(x)),
    "SiLU": (dl.nn.SiLU(), lambda x: x * special.expit(x)),
    "Softplus": (dl.nn.Softplus(), lambda x: np.logaddexp(0, x)),
    "Softmax": (dl.nn.Softmax(), lambda x: special.softmax(x, axis=1)),
    "Identity": (dl.nn.Identity(), lambda x: x),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    layer, reference = ACTIVATIONS[name]
    model = dl.nn.Sequential(layer, dtype="float64").init()
    x = np.random.default_rng(0).normal(size=(9, 5)) * 3
    np.testing.assert_allclose(model.predict(x), reference(x), rtol=1e-13, atol=1e-15)


def test_dropout_drops_and_scales_in_training_only():
    """With a rate of 0 the weight receives the gradient of the mean of its dropped input."""
    p, n = 0.25, 40000
    model = dl.nn.Sequential(
        dl.nn.Dropout(p), dl.nn.Linear(1, 1, bias=False), dtype="float64"
    ).init()
    model.set_parameters({"1.weight": [[0.0]]})
    x = np.ones((n, 1))
    np.testing.assert_array_equal(model.predict(x), np.zeros((n, 1)))
    # d/dw mean (w d - 1)^2 at w = 0 is -2 mean d, and d is 1 / (1 - p) or 0
    model.fit(
        x, np.ones(n), loss="mse", optimizer=dl.optim.SGD(0.5), batch_size=n, epochs=1, seed=3
    )
    kept = model.parameters()["1.weight"][0, 0] * (1 - p)
    assert abs(kept - (1 - p)) < 5 * np.sqrt(p * (1 - p) / n)
    assert kept * n == pytest.approx(round(kept * n), abs=1e-6)


def test_dropout_masks_change_from_step_to_step():
    model = dl.nn.Sequential(dl.nn.Dropout(0.5), dl.nn.Linear(16, 1), dtype="float64").init()
    x, y = np.ones((1, 16)), np.ones(1)
    before = model.parameters()["1.weight"].copy()
    touched = []
    for _ in range(3):
        model.set_parameters({"1.weight": before})
        model.fit(x, y, loss="mse", optimizer=dl.optim.SGD(0.1), epochs=1, resume=bool(touched))
        touched.append(tuple((model.parameters()["1.weight"] != before).ravel()))
    assert len(set(touched)) == 3


@pytest.mark.parametrize("name", NAMES)
def test_initial_weights_have_the_variance_of_the_method(name):
    fan_in, fan_out = 300, 200
    fan = {"lecun": fan_in, "glorot": (fan_in + fan_out) / 2, "he": fan_in / 2}[name.split("_")[0]]
    model = dl.nn.Sequential(dl.nn.Linear(fan_in, fan_out, weight_init=name), dtype="float64")
    weight = model.init(seed=4).parameters()["0.weight"]
    assert np.mean(weight) == pytest.approx(0, abs=5 * np.sqrt(1 / fan / weight.size))
    assert np.var(weight) == pytest.approx(1 / fan, rel=0.03)
    if name.endswith("uniform"):
        assert np.max(np.abs(weight)) <= np.sqrt(3 / fan)
    else:
        assert np.max(np.abs(weight)) > 3 * np.sqrt(1 / fan)
    np.testing.assert_array_equal(model.parameters()["0.bias"], np.zeros(fan_out))


def test_flatten_and_inner_axes():
    """Linear applies to the last axis of any sample shape; Flatten joins the axes."""
    x = np.random.default_rng(0).normal(size=(7, 2, 4))
    inner = dl.nn.Sequential(dl.nn.Linear(4, 3), dl.nn.Flatten(), dtype="float64").init()
    p = inner.parameters()
    expected = (x @ p["0.weight"] + p["0.bias"]).reshape(7, 6)
    np.testing.assert_allclose(inner.predict(x), expected, rtol=1e-13)
    outer = dl.nn.Sequential(dl.nn.Flatten(), dl.nn.Linear(8, 2), dtype="float64").init()
    expected = x.reshape(7, 8) @ outer.parameters()["1.weight"]
    np.testing.assert_allclose(outer.predict(x), expected, rtol=1e-13)


def test_training_through_inner_axes():
    x = np.random.default_rng(0).normal(size=(30, 2, 4))
    y = np.tanh(x.sum(axis=(1, 2)))
    model = dl.nn.Sequential(dl.nn.Linear(4, 8), dl.nn.Tanh(), dl.nn.Flatten(), dl.nn.Linear(16, 1))
    history = model.fit(x, y, loss="mse", optimizer=dl.optim.Adam(0.01), epochs=100)
    assert history["loss"][-1] < 0.2 * history["loss"][0]


def test_several_inputs():
    """A layer may take a dict of inputs, gathered from arrays of their own dtypes."""

    class Difference(dl.nn.Layer):
        def apply(self, parameters, x, training):
            return x["a"] - x["b"]

    model = dl.nn.Sequential(Difference(), dl.nn.Linear(3, 1), dtype="float64")
    rng = np.random.default_rng(0)
    inputs = {"a": rng.normal(size=(50, 3)), "b": rng.integers(0, 5, (50, 3))}
    plain = dl.nn.Sequential(dl.nn.Linear(3, 1), dtype="float64")
    y = rng.normal(size=50)
    model.fit(inputs, y, loss="mse", batch_size=16, epochs=3)
    plain.fit(inputs["a"] - inputs["b"], y, loss="mse", batch_size=16, epochs=3)
    np.testing.assert_array_equal(model.parameters()["1.weight"], plain.parameters()["0.weight"])
    with pytest.raises(ValueError, match="differ in their number of rows"):
        model.predict({"a": np.ones((3, 3)), "b": np.ones((2, 3))})


def test_errors_name_the_layer():
    model = dl.nn.Sequential(dl.nn.Linear(4, 6), dl.nn.Linear(5, 3)).init()
    with pytest.raises(ValueError, match="x has 6 columns, but Linear takes 5") as caught:
        model.predict(np.ones((2, 4)))
    assert any("in layer 1" in note for note in caught.value.__notes__)


def test_bad_construction_is_refused():
    with pytest.raises(ValueError, match="needs at least one layer"):
        dl.nn.Sequential()
    with pytest.raises(TypeError, match="layer 1 is no dlcore.nn.Layer, but 'relu'"):
        dl.nn.Sequential(dl.nn.Linear(1, 1), "relu")
    with pytest.raises(ValueError, match="dtype must be float32 or float64, not float16"):
        two_layers(dtype="float16")
    with pytest.raises(ValueError, match="out_features must be an integer >= 1, not 0"):
        dl.nn.Linear(3, 0)
    with pytest.raises(ValueError, match="weight_init must be one of lecun_uniform"):
        dl.nn.Linear(3, 1, weight_init="zeros")
    with pytest.raises(ValueError, match=r"p must lie in \[0, 1\), not 1"):
        dl.nn.Dropout(1)


def test_predict_before_parameters():
    with pytest.raises(ValueError, match="the model has no parameters yet"):
        two_layers().predict(np.ones((1, 4)))


def test_plan_summary_shows_the_fused_records():
    model = two_layers()
    with pytest.raises(ValueError, match="no plan has been compiled yet"):
        model.plan_summary()
    model.fit(np.ones((8, 4)), np.zeros(8, int), loss="cross_entropy", epochs=1)
    summary = model.plan_summary()
    assert "matmul + add tanh" in summary
    assert "softmax cross-entropy: gradient, mean" in summary
    assert summary.count("adam_step") == 4


def test_a_refused_parameter_leaves_a_fresh_model_fresh():
    model = two_layers()
    with pytest.raises(ValueError, match="there is no parameter"):
        model.set_parameters({"9.weight": np.ones(3)})
    with pytest.raises(ValueError, match="2.bias has values that do not fit in float32"):
        model.set_parameters({"2.bias": [1e300, 0, 0]})
    with pytest.raises(ValueError, match="the model has no parameters yet"):
        model.parameters()


def test_copies_share_nothing():
    model = two_layers().init()
    copied = copy.copy(model)
    assert not np.shares_memory(copied.parameters()["0.bias"], model.parameters()["0.bias"])
    np.testing.assert_array_equal(copied.parameters()["0.weight"], model.parameters()["0.weight"])


def test_inputs_keep_their_container():
    """A dict whose keys look like positions stays a dict; other keys are refused."""

    class First(dl.nn.Layer):
        def apply(self, parameters, x, training):
            return x["0"]

    x = np.arange(6.0).reshape(3, 2)
    model = dl.nn.Sequential(First(), dtype="float64").init()
    np.testing.assert_array_equal(model.predict({"0": x, "1": -x}), x)
    with pytest.raises(TypeError, match="the keys of x must be strings"):
        model.predict({0: x})
