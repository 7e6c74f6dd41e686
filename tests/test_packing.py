"""Models that predict again and again: weights packed once, and forgotten when they change."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import dlcore as dl
from dlcore.graph.lower import CompiledPlan
from dlcore.nn.packing import CALLS_BEFORE_PACKING
from dlcore.nn.tracing import parameter_slot
from helpers import assert_same_bits, team

FEATURES, WIDTH = 150, 600  # too many weights for the cache that blocks of rows would stay in
X = np.random.default_rng(0).normal(size=(20, FEATURES)).astype(np.float32)


def network(*layers):
    return dl.nn.Sequential(
        dl.nn.Linear(FEATURES, WIDTH),
        dl.nn.ReLU(),
        *layers,
        dl.nn.Linear(WIDTH, 70),
        dl.nn.Tanh(),
        dl.nn.Linear(70, 3),
    )


@pytest.fixture
def model():
    return network().init(0)


def packed_of(model):
    """What the model keeps packed, or None."""
    predictions = model._packed._predictions
    return None if predictions is None else predictions.packed


def predict_often(model, x=X):
    """The last of so many predictions that the weights are packed for it; all are alike."""
    first = model.predict(x)
    for _ in range(CALLS_BEFORE_PACKING):
        assert_same_bits(model.predict(x), first)
    return first


def predict_anew(model, x=X):
    """By a model that has never packed anything."""
    other = network().init()
    other.set_parameters(model.parameters())
    return other.predict(x)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_weights_are_packed_for_the_17th_prediction(model, threads):
    """And results stay as they are, for any rows."""
    with team(threads):
        for _ in range(CALLS_BEFORE_PACKING):
            model.predict(X)
            assert packed_of(model) is None
        model.predict(X)
        packed = packed_of(model)
        assert packed.nbytes >= (FEATURES + 70) * WIDTH * 4
        for rows in (1, 2, 20):
            assert_same_bits(model.predict(X[:rows]), predict_anew(model, X[:rows]))
        many = np.tile(X, (60, 1))  # more than a step
        assert_same_bits(model.predict(many), predict_anew(model, many))
        assert packed_of(model) is packed


def test_packed_weights_are_used(model):
    """Predictions of the packed weights follow what is packed."""
    expected = predict_often(model)
    packed_of(model)[:] = 0
    without_weights = network().init()
    parameters = model.parameters()
    zeros = {name: np.zeros_like(parameters[name]) for name in ("0.weight", "2.weight")}
    without_weights.set_parameters({**parameters, **zeros})
    assert_same_bits(model.predict(X), without_weights.predict(X))
    assert np.abs(expected - model.predict(X)).max() > 0.1


def halve(model):
    model.set_parameters({"0.weight": model.parameters()["0.weight"] / 2})


def fit(model):
    model.fit(X, X[:, :3], loss="mse", epochs=1)


def fail_to_fit(model):
    def stop(_):
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        model.fit(X, X[:, :3], loss="mse", epochs=3, callbacks=stop)


def fail_to_set(model, monkeypatch):
    """After the first of two arrays."""

    def check(self, name, value):
        return value

    monkeypatch.setattr(type(model), "_checked_parameter", check)
    weight = model.parameters()["0.weight"] / 2
    with pytest.raises(ValueError, match="broadcast"):
        model.set_parameters({"0.weight": weight, "0.bias": np.zeros(7)})
    monkeypatch.undo()


def test_parameters_that_were_set_in_part_are_seen(model, monkeypatch):
    before = predict_often(model)
    fail_to_set(model, monkeypatch)
    assert np.abs(model.predict(X) - before).max() > 1e-3
    assert_same_bits(model.predict(X), predict_anew(model))


@pytest.mark.parametrize("change", [halve, fit, fail_to_fit, lambda model: model.init(5)])
def test_new_parameters_are_seen(model, change):
    """Whatever changes them; they are packed again only when they have stayed for a while."""
    before = predict_often(model)
    change(model)
    assert packed_of(model) is None
    after = model.predict(X)
    assert np.abs(after - before).max() > 1e-3
    assert_same_bits(after, predict_anew(model))
    predict_often(model)
    assert packed_of(model) is not None
    assert_same_bits(model.predict(X), after)


def test_nothing_is_packed_while_a_fit_runs(model):
    """A callback predicts with the parameters of its epoch."""
    predict_often(model)
    seen = []

    def predict(_):
        seen.append((model.predict(X), predict_anew(model)))

    model.fit(X, X[:, :3], loss="mse", epochs=2 * CALLS_BEFORE_PACKING, callbacks=predict)
    assert len(seen) == 2 * CALLS_BEFORE_PACKING
    for got, expected in seen:
        assert_same_bits(got, expected)
    assert packed_of(model) is None


def test_single_rows_read_weights_as_they_are(model):
    for _ in range(CALLS_BEFORE_PACKING + 1):
        model.predict(X[:1])
    assert packed_of(model) is None


def test_inputs_of_another_dtype_have_plans_of_their_own(model):
    """Weights are kept packed for one plan at a time."""
    predict_often(model)
    doubles = X.astype(np.float64)
    np.testing.assert_allclose(model.predict(doubles), model.predict(X), rtol=1e-5, atol=1e-6)
    assert packed_of(model) is None
    predict_often(model, doubles)
    assert packed_of(model) is not None


def test_copies_and_pickles_leave_the_packed_weights_behind(model):
    expected = predict_often(model)
    size = len(pickle.dumps(network().init(0)))
    assert len(pickle.dumps(model)) < size + 1000
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert packed_of(other) is None
        halve(other)
        assert not np.array_equal(predict_often(other), expected)
    assert_same_bits(model.predict(X), expected)


class Mix(dl.nn.Layer):
    """A product with a matrix that the layer's owner may write."""

    def __init__(self):
        self.matrix = np.eye(WIDTH, dtype=np.float32)

    def apply(self, parameters, x, training):
        return x @ self.matrix


def test_a_constant_of_a_layer_that_is_changed_in_place_is_seen():
    """Models with such a product are not packed."""
    model = network(Mix()).init(0)
    before = predict_often(model)
    model.layers[2].matrix *= 2
    assert packed_of(model) is None
    after = model.predict(X)
    assert np.abs(after - before).max() > 0.1
    doubled = network().init()
    p = model.parameters()
    first = {name: 2 * p[name] for name in ("0.weight", "0.bias")}  # relu(x) @ 2 = relu(2 x)
    rest = {f"{i - 1}.{kind}": p[f"{i}.{kind}"] for i in (3, 5) for kind in ("weight", "bias")}
    doubled.set_parameters({**first, **rest})
    np.testing.assert_allclose(after, doubled.predict(X), rtol=1e-5, atol=1e-5)


def test_the_summary_says_how_much_is_packed(model):
    model.predict(X)
    line = next(line for line in model.plan_summary().splitlines() if "packed" in line)
    predict_often(model)
    assert line == f"weights, if packed for repeated predictions: {packed_of(model).nbytes} bytes"
    narrow = dl.nn.Sequential(dl.nn.Linear(FEATURES, 2)).init(0)
    narrow.predict(X)
    assert "packed" not in narrow.plan_summary()


def test_packing_can_be_switched_off(model, monkeypatch):
    predict_often(model)
    monkeypatch.setattr(dl.config, "pack_weights", False)
    predict_often(model)
    assert packed_of(model) is None


def test_a_model_predicts_where_there_is_no_memory_for_packed_weights(model, monkeypatch):
    tried = []

    def refuse(plan, bindings):
        tried.append(plan)
        raise MemoryError

    monkeypatch.setattr(CompiledPlan, "pack", refuse)
    expected = predict_often(model)
    assert_same_bits(predict_often(model), expected)
    assert len(tried) == 1


def test_other_arrays_of_parameters_are_not_taken_for_these(model):
    """As `init` makes them, also where a prediction that began before it comes to its end."""
    old, plan = model._initialised(), model._prediction_plan({"x": X}, 560)[0]
    model.init(5)
    predict_often(model)
    kept = packed_of(model)
    bound = {parameter_slot(name): value for name, value in old.items()}
    assert model._packed.find(plan, old, bound) is None
    assert packed_of(model) is not kept
    assert_same_bits(model.predict(X), predict_anew(model))


def test_threads_predict_at_once(model):
    """Also while the weights are packed."""
    expected = predict_anew(model)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: model.predict(X), range(6 * CALLS_BEFORE_PACKING)))
    for result in results:
        assert_same_bits(result, expected)
    assert packed_of(model) is not None
