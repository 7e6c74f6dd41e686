"""What the tests of layers share: models with parameters, passes as in training, gradients."""

from __future__ import annotations

import numpy as np

import dlcore as dl

nn = dl.nn
X = np.random.default_rng(0).normal(size=(9, 5)) * 2
X3 = np.random.default_rng(1).normal(size=(7, 4, 6))


def initialised(*layers, seed=3, dtype="float64"):
    """A model whose parameters are all away from 0 and from their first values."""
    model = nn.Sequential(*layers, dtype=dtype).init(seed)
    rng = np.random.default_rng(seed)
    model.set_parameters(
        {
            name: rng.uniform(0.5, 1.5, value.shape)
            if name.endswith(("gain", "running_var"))
            else rng.normal(size=value.shape) / 2
            for name, value in model.parameters().items()
        }
    )
    return model


def arrays(model):
    return {name: value.copy() for name, value in model.parameters().items()}


def training_pass(model, x):
    """The result and the new state of a pass as in training, computed natively."""
    run = dl.jit(lambda p, x: model.forward(p, x, training=True))
    return run(arrays(model), x)


def assert_gradients_right(model, x, *, training=True, rtol=1e-7):
    """For all parameters, and for the input where it is floating point."""
    probe = np.random.default_rng(9).normal(size=np.shape(training_pass(model, x)[0]))

    def f(parameters, x):
        return np.sum(model.forward(parameters, x, training=training)[0] * probe)

    assert dl.check_grad(f, arrays(model), x) < rtol


def assert_equal_parameters(a, b):
    assert list(a.parameters()) == list(b.parameters())
    for name, value in a.parameters().items():
        np.testing.assert_array_equal(b.parameters()[name], value, err_msg=name)


class Scale(nn.Layer):
    """A layer with parameters."""

    def __init__(self, features, power=1):
        self.features = features
        self.power = power

    def init(self, initializer):
        return {"scale": initializer.uniform((self.features,), 1.0), "shift": [0.5] * self.features}

    def apply(self, parameters, x, training):
        return np.tanh(x * parameters["scale"] ** self.power) + parameters["shift"]


class RunningMax(nn.Layer):
    """A layer with state: divides by the largest magnitude that it has seen in training."""

    state_names = ("largest",)

    def init(self, initializer):
        return {"largest": np.zeros(())}

    def apply(self, parameters, x, training):
        largest = parameters["largest"]
        if not training:
            return x / largest
        largest = np.maximum(largest, np.max(np.abs(x)))
        return x / largest, {"largest": largest}
