"""Models of all kinds of layers: frozen, copied, resumed, at any number of threads; their plans."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import dlcore as dl
from helpers import assert_same_bits, team
from layer_tools import RunningMax, Scale, X, arrays, assert_equal_parameters, initialised

nn = dl.nn
RNG = np.random.default_rng(2)


# Freezing


def frozen_model():
    return initialised(nn.Linear(5, 4), nn.BatchNorm(4), nn.Tanh(), nn.Linear(4, 1))


def test_frozen_parameters_stay_and_have_no_optimizer_state():
    model, free = frozen_model(), frozen_model()
    model.freeze("0.*", "1.running_*")
    assert model.frozen == ("0.weight", "0.bias", "1.running_mean", "1.running_var")
    before = arrays(model)
    for each in (model, free):
        each.fit(X, X[:, 0], loss="mse", batch_size=4, epochs=2)
    for name, value in model.parameters().items():
        assert np.array_equal(value, before[name]) == (name in model.frozen), name
    assert np.all(free.parameters()["0.weight"] != before["0.weight"])
    trained = ["1.gain", "1.bias", "3.weight", "3.bias"]
    assert set(model._state.arrays) == {f"{state}/{name}" for state in "mv" for name in trained}
    assert model.plan_summary().count("adam_step") == 4


def test_the_gradient_of_what_is_not_frozen_is_the_same():
    model, free = frozen_model(), frozen_model()
    model.freeze("0.weight")
    for each in (model, free):
        each.fit(X, X[:, 0], loss="mse", optimizer=dl.optim.SGD(0.1), batch_size=9, epochs=1)
    for name, value in model.parameters().items():
        if name != "0.weight":
            np.testing.assert_allclose(value, free.parameters()[name], rtol=1e-9, atol=1e-12)


def test_freezing_is_part_of_the_plan():
    """A plan that was compiled before does not train what was frozen since, and back."""
    model = frozen_model()
    model.fit(X, X[:, 0], loss="mse", epochs=1)
    model.freeze("3.*")
    model.freeze("0.bias")
    assert model.frozen == ("0.bias", "3.weight", "3.bias")
    before = arrays(model)
    model.fit(X, X[:, 0], loss="mse", epochs=1)
    np.testing.assert_array_equal(model.parameters()["3.weight"], before["3.weight"])
    model.unfreeze("3.*")
    assert model.frozen == ("0.bias",)
    model.unfreeze()
    assert model.frozen == ()
    model.fit(X, X[:, 0], loss="mse", epochs=1)
    assert np.all(model.parameters()["3.weight"] != before["3.weight"])


def test_freezing_before_the_first_fit_leaves_the_seed_to_it():
    model, free = (nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 1)) for _ in range(2))
    model.freeze("0.*")
    model.fit(X, X[:, 0], loss="mse", epochs=1, seed=5)
    np.testing.assert_array_equal(
        model.parameters()["0.weight"], free.init(seed=5).parameters()["0.weight"]
    )


def test_a_model_may_be_frozen_altogether():
    model = frozen_model()
    model.freeze("*")
    before = arrays(model)
    history = model.fit(X, X[:, 0], loss="mse", epochs=2, batch_size=9)
    assert history["loss"][0] == history["loss"][1] > 0
    for name, value in model.parameters().items():
        np.testing.assert_array_equal(value, before[name])


def test_bad_freezing_is_refused():
    model = frozen_model()
    with pytest.raises(ValueError, match="'2.*' fits no parameter; there are 0.weight, 0.bias"):
        model.freeze("0.*", "2.*")
    with pytest.raises(TypeError, match="patterns must be strings, not 0"):
        model.freeze(0)
    assert model.frozen == ()
    model.fit(X, X[:, 0], loss="mse", epochs=1)
    model.freeze("0.*")
    with pytest.raises(ValueError, match="resume=True goes on with those parameters frozen"):
        model.fit(X, X[:, 0], loss="mse", epochs=1, resume=True)


# Everything together


def everything():
    """A model of all kinds of layers, for numbers and categories."""
    table = nn.Embedding(7, 3, l2=1e-3)
    encoder = nn.Linear(11, 6, l1=1e-3)
    return nn.Sequential(
        nn.Parallel(
            nn.Chain(Scale(5), nn.BatchNorm(5)), nn.Chain(table, nn.Flatten()), keys=("x", "c")
        ),
        encoder,
        nn.BatchNorm(6, momentum=0.2),
        nn.Mish(),
        nn.Residual(nn.Linear(6, 6), nn.LayerNorm(6), nn.Hardswish(), nn.Dropout(0.2)),
        nn.PReLU(6),
        nn.Parallel(nn.Linear(6, 11, tie=encoder), nn.Chain(RunningMax(), nn.Linear(6, 4))),
        nn.Linear(15, 3),
    )


def everything_data(n=103):
    rng = np.random.default_rng(4)
    x, c = rng.normal(size=(n, 5)).astype(np.float32), rng.integers(0, 7, (n, 2))
    return {"x": x, "c": c}, (c[:, 0] + (x[:, 0] > 0)) % 3


FIT = {"loss": "cross_entropy", "batch_size": 17, "seed": 8}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_is_bitwise_the_same_at_any_thread_count(dtype):
    x, y = everything_data()
    results = []
    for threads in (1, 2, 3):
        model = nn.Sequential(*everything().layers, dtype=dtype)
        model.freeze("7.bias")
        with team(threads):
            model.fit(x, y, epochs=3, **FIT)
            results.append({**model.parameters(), "prediction": model.predict(x)})
    for other in results[1:]:
        for name, value in results[0].items():
            assert_same_bits(other[name], value)


def test_everything_learns():
    x, y = everything_data()
    model = everything()
    model.fit(x, y, optimizer=dl.optim.Adam(0.02), epochs=150, **FIT)
    assert np.mean(model.predict(x).argmax(axis=1) == y) > 0.95


def test_resume_equals_a_run_that_never_stopped():
    x, y = everything_data()
    whole, parts = everything(), everything()
    history = whole.fit(x, y, epochs=5, **FIT)
    losses = parts.fit(x, y, epochs=2, **FIT)["loss"]
    losses += parts.fit(x, y, epochs=3, resume=True, **FIT)["loss"]
    assert losses == history["loss"]
    assert_equal_parameters(parts, whole)


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))]
)
def test_copies_predict_the_same_and_go_on_alike(copied):
    x, y = everything_data()
    model = everything()
    model.freeze("2.*")
    model.fit(x, y, epochs=2, **FIT)
    twin = copied(model)
    assert repr(twin) == repr(model)
    assert twin.frozen == model.frozen
    before = model.predict(x)
    np.testing.assert_array_equal(twin.predict(x), before)
    twin.fit(x, y, epochs=1, resume=True, **FIT)
    np.testing.assert_array_equal(model.predict(x), before)
    model.fit(x, y, epochs=1, resume=True, **FIT)
    assert_equal_parameters(twin, model)


# No plan of their own


def described(plan):
    """The op records of a plan, but for where their operands lie."""
    return [
        (
            record.label,
            record.opcode,
            record.attributes,
            [(v.shape, v.stride, v.dtype) for v in (*record.outputs, *record.inputs)],
        )
        for record in plan.records
    ]


def block_in_numpy(p, x):
    """Linear, Tanh, Residual(Linear, LayerNorm), Linear."""
    hidden = np.tanh(x @ p["0.weight"] + p["0.bias"])
    inner = hidden @ p["2.0.weight"] + p["2.0.bias"]
    deviation = inner - np.mean(inner, axis=1, keepdims=True)
    variance = np.mean(np.square(deviation), axis=1, keepdims=True)
    inner = deviation * (1.0 / np.sqrt(variance + 1e-5)) * p["2.1.gain"] + p["2.1.bias"]
    return (hidden + inner) @ p["3.weight"] + p["3.bias"]


def block_of_layers():
    return initialised(
        nn.Linear(5, 8), nn.Tanh(), nn.Residual(nn.Linear(8, 8), nn.LayerNorm(8)), nn.Linear(8, 3)
    )


class Block(nn.Layer):
    """The same net in NumPy, as one layer."""

    def init(self, initializer):
        return {name.replace(".", "_"): value for name, value in arrays(block_of_layers()).items()}

    def apply(self, parameters, x, training):
        p = {name.replace("_", "."): value for name, value in parameters.items()}
        return block_in_numpy(p, x)


@pytest.mark.parametrize("loss", [nn.losses.CrossEntropy(), lambda z, y: z[:, 0] * z[:, 1]])
def test_loss_and_gradients_of_layers_have_the_plan_of_a_numpy_function(loss):
    """Record by record: there is no special plan for layers."""
    model = block_of_layers()
    y = RNG.integers(0, 3, 9)

    def of_layers(p, x, y):
        return np.mean(loss(model.forward(p, x, training=True)[0], y))

    def in_numpy(p, x, y):
        return np.mean(loss(block_in_numpy(p, x), y))

    plans = []
    for function in (of_layers, in_numpy):
        differentiated = dl.value_and_grad(function)
        value, gradients = differentiated(arrays(model), X, y)
        assert value != 0
        assert all(np.any(g) for name, g in gradients.items() if name != "2.0.bias")
        plans.append(described(differentiated.trace(arrays(model), X, y).plan))
    assert plans[0] == plans[1]
    assert len(plans[0]) > 15
    if isinstance(loss, nn.losses.CrossEntropy):
        assert "softmax cross-entropy: gradient, mean" in differentiated.plan_summary()


@pytest.mark.parametrize(
    ("by_name", "function"),
    [
        ("mse", lambda prediction, target: np.square(prediction - target)),
        ("cross_entropy", nn.losses.CrossEntropy()),
    ],
)
def test_training_layers_and_training_a_numpy_function_is_the_same_plan(by_name, function):
    """The whole step of ``fit``: gather, forward, loss, backward, updates."""
    model, own = block_of_layers(), nn.Sequential(Block(), dtype="float64").init()
    y = RNG.integers(0, 3, 9) if by_name == "cross_entropy" else RNG.normal(size=(9, 3))
    plans = []
    for each, loss in ((model, by_name), (own, function)):
        each.fit(X, y, loss=loss, batch_size=4, epochs=2)
        plans.append(described(list(each._plans.values())[-1]))
    assert plans[0] == plans[1]
    values = zip(model.parameters().values(), own.parameters().values(), strict=True)
    for expected, got in values:
        np.testing.assert_array_equal(got, expected)
