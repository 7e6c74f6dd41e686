"""Optimisers step by step: against plain NumPy and torch, with every option, at any team size."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import dlcore as dl
import reference_mlp
import reference_optim
from dlcore.graph.lower import compile_plan
from dlcore.graph.tensor import Slot, apply, leaf, literal
from dlcore.train import TrainingState, batch_indices
from plan_runs import large_teams

REALS = ["float32", "float64"]
STEPS = 25

# By name: the class, its learning rate, and options that take every branch of its step.
CASES = {
    "sgd": ("SGD", 0.1, {}),
    "sgd momentum": ("SGD", 0.1, {"momentum": 0.9}),
    "sgd nesterov": ("SGD", 0.1, {"momentum": 0.9, "nesterov": True}),
    "adam": ("Adam", 0.05, {}),
    "adam amsgrad": ("Adam", 0.05, {"amsgrad": True, "beta2": 0.5}),
    "adamw": ("AdamW", 0.05, {"weight_decay": 0.0}),
    "nadam": ("NAdam", 0.05, {}),
    "nadam decoupled": ("NAdam", 0.05, {"decoupled_weight_decay": True, "momentum_decay": 0.1}),
    "radam": ("RAdam", 0.05, {}),
    "radam decoupled": ("RAdam", 0.05, {"decoupled_weight_decay": True, "beta2": 0.9}),
    "radam never rectified": ("RAdam", 0.05, {"beta2": 0.6}),
    "rmsprop": ("RMSprop", 0.05, {}),
    "rmsprop momentum": ("RMSprop", 0.05, {"momentum": 0.9, "alpha": 0.9}),
    "rmsprop centered": ("RMSprop", 0.05, {"centered": True}),
    "rmsprop both": ("RMSprop", 0.05, {"centered": True, "momentum": 0.5, "eps": 1e-3}),
    "adagrad": ("Adagrad", 0.1, {}),
    "adagrad decaying": ("Adagrad", 0.1, {"lr_decay": 0.1, "initial_accumulator_value": 0.5}),
    "adadelta": ("Adadelta", 1.0, {}),
    "adadelta slow": ("Adadelta", 0.5, {"rho": 0.5, "eps": 1e-3}),
    "lion": ("Lion", 0.01, {}),
    "lion short": ("Lion", 0.01, {"beta1": 0.5, "beta2": 0.6}),
}
OPTIONS = {
    "no option": {},
    "decay": {"weight_decay": 0.3},
    "masked decay": {"weight_decay": 0.3, "decay_mask": ["*.weight", "2.bias"]},
    "no decay": {"weight_decay": 0.3, "decay_mask": []},
    "clip value": {"clip_value": 0.5},
    "clip norm": {"clip_norm": 1.5},
    "clip global norm": {"clip_global_norm": 5.0},
    "average": {"average": 0.8},
    "all": {
        "weight_decay": 0.1,
        "decay_mask": ["*.weight"],
        "clip_value": 1.5,
        "clip_global_norm": 5.0,
        "average": 0.9,
    },
}
# No multiple of a vector, some shorter than one, and one without axes.
SHAPES = {"0.weight": (7, 11), "0.bias": (11,), "2.weight": (11, 1), "2.bias": (1,), "scale": ()}


def make(case, **options):
    name, rate, own = CASES[case]
    return getattr(dl.optim, name)(rate, **{**own, **options})


def make_reference(case, **options):
    name, rate, own = CASES[case]
    return getattr(reference_optim, name)(rate, **{**own, **options})


def make_arrays(dtype, shapes=SHAPES, steps=STEPS):
    """Parameters, and a gradient of each for every step; norms lie on both sides of the limits."""
    rng = np.random.default_rng(7)
    start = {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}
    sizes = np.geomspace(0.1, 2.0, steps)
    gradients = {
        name: (rng.normal(size=(steps, *shape)).T * rng.permutation(sizes)).T.astype(dtype)
        for name, shape in shapes.items()
    }
    return start, gradients


class Run:
    """A plan of updates alone, whose gradients are given step by step."""

    def __init__(self, optimizer, start, gradients):
        dtype = next(iter(start.values())).dtype
        parameters, slopes = {}, []
        for name, value in start.items():
            parameters[name] = leaf(Slot(f"parameter/{name}", "fixed", dtype, value.shape, True))
            slopes.append(leaf(Slot(f"gradient/{name}", "step", dtype, value.shape)))
        self.plan = compile_plan([], optimizer.updates(parameters, slopes), capacity=1)
        self.parameters = {name: value.copy() for name, value in start.items()}
        self.states = TrainingState.fresh(optimizer, self.parameters, 0, 1, 1).arrays
        self.bindings = {
            "scalars": optimizer.scalars(0, len(next(iter(gradients.values()))), 1),
            **{f"parameter/{name}": value for name, value in self.parameters.items()},
            **{f"gradient/{name}": value for name, value in gradients.items()},
            **self.states,
        }

    def step(self, begin, end, threads=1):
        self.plan.run(
            self.bindings, epoch_rows=1, batch_rows=1, step_begin=begin, step_end=end,
            threads=threads, budget=None,
        )  # fmt: skip

    def averages(self):
        return {name: self.states[f"average/{name}"] for name in self.parameters}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", REALS)
def test_every_step_equals_plain_numpy(case, options, dtype):
    """Parameters and averages after each of 25 steps, with each option and with all of them."""
    start, gradients = make_arrays(dtype)
    run = Run(make(case, **OPTIONS[options]), start, gradients)
    reference = make_reference(case, **OPTIONS[options])
    expected = {name: value.astype(np.float64) for name, value in start.items()}
    tolerance = {"float64": (1e-10, 1e-12), "float32": (1e-5, 1e-5)}[dtype]
    for t in range(STEPS):
        run.step(t, t + 1)
        reference.step(expected, {k: g[t].astype(np.float64) for k, g in gradients.items()})
        for name in SHAPES:
            message = f"{name}, step {t + 1}"
            assert_allclose(run.parameters[name], expected[name], *tolerance, err_msg=message)
            if reference.average is not None:
                mean = run.averages()[name]
                assert_allclose(mean, reference.averages[name], *tolerance, err_msg=message)
                assert np.all(mean != run.parameters[name])
    for name in SHAPES:
        assert np.all(run.parameters[name] != start[name]), "the steps changed nothing"


@pytest.fixture
def torch():
    """torch, which keeps scalars of an optimiser in its default dtype."""
    module = pytest.importorskip("torch", reason="torch is not installed")
    module.set_default_dtype(module.float64)
    yield module
    module.set_default_dtype(module.float32)


@pytest.mark.parametrize("options", ["no option", "clip value", "clip norm", "clip global norm"])
@pytest.mark.parametrize("case", [c for c in CASES if not c.startswith("lion")])
@pytest.mark.parametrize("decay", [0.0, 0.2])
def test_every_step_equals_torch(torch, case, options, decay):
    name, rate, own = CASES[case]
    start, gradients = make_arrays("float64")
    run = Run(make(case, **OPTIONS[options], weight_decay=decay), start, gradients)
    tensors = {k: torch.tensor(v, requires_grad=True) for k, v in start.items()}
    own = {**own, "weight_decay": decay}
    if "beta2" in own or name in ("Adam", "AdamW", "NAdam", "RAdam"):
        own["betas"] = (own.pop("beta1", 0.9), own.pop("beta2", 0.999))
    theirs = getattr(torch.optim, name)(tensors.values(), lr=rate, **own)
    clip = torch.nn.utils
    for t in range(STEPS):
        run.step(t, t + 1)
        for k, tensor in tensors.items():
            tensor.grad = torch.tensor(gradients[k][t])
            if options == "clip norm":
                clip.clip_grad_norm_([tensor], OPTIONS[options]["clip_norm"])
        if options == "clip value":
            clip.clip_grad_value_(tensors.values(), OPTIONS[options]["clip_value"])
        if options == "clip global norm":
            clip.clip_grad_norm_(tensors.values(), OPTIONS[options]["clip_global_norm"])
        theirs.step()
        for k, tensor in tensors.items():
            expected = tensor.detach().numpy()
            assert_allclose(run.parameters[k], expected, 1e-9, 1e-11, err_msg=f"{k}, step {t + 1}")


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", REALS)
def test_teams_of_any_size_give_the_same_bits(case, dtype):
    """Parameters, states and averages after 20 steps of 1, 2 and 3 threads, on sizes that chunks do
    not divide."""
    shapes = {"0.weight": (137, 73), "0.bias": (4097,), "1.weight": (3, 5)}
    start, gradients = make_arrays(dtype, shapes, steps=20)
    results = []
    with large_teams():
        for threads in (1, 2, 3):
            run = Run(make(case, **OPTIONS["all"]), start, gradients)
            run.step(0, 20, threads=threads)
            results.append({**run.parameters, **run.states})
    for name, expected in results[0].items():
        assert np.all(np.isfinite(expected))
        assert np.any(expected != 0)
        for other in results[1:]:
            assert other[name].tobytes() == expected.tobytes(), name


@pytest.mark.parametrize("options", ["decay", "clip value", "clip norm", "clip global norm", "all"])
@pytest.mark.parametrize("case", CASES)
def test_nan_is_not_hidden(case, options):
    """A gradient of NaN makes its parameter NaN, and with norms all that share the norm."""
    start, gradients = make_arrays("float32", steps=2)
    gradients["0.weight"][0, 3, 2] = np.nan
    run = Run(make(case, **OPTIONS[options]), start, gradients)
    run.step(0, 2)
    is_nan = {name: np.isnan(value) for name, value in run.parameters.items()}
    assert is_nan["0.weight"][3, 2]
    assert np.all(is_nan["0.weight"]) == ("norm" in options or options == "all")
    assert np.all(is_nan["0.bias"]) == np.any(is_nan["0.bias"])
    assert np.all(is_nan["0.bias"]) == (options in ("clip global norm", "all"))
    if options == "all":
        assert np.isnan(run.averages()["0.weight"][3, 2])


def test_gradients_of_0_are_not_scaled_to_nan():
    """Neither norms of 0 nor gradients that are no memory (those of parameters without use)."""
    start, gradients = make_arrays("float64", steps=1)
    for limit in ("clip_norm", "clip_global_norm"):
        run = Run(
            dl.optim.SGD(1.0, **{limit: 1.0}), start, {k: 0 * g for k, g in gradients.items()}
        )
        run.step(0, 1)
        for name, value in start.items():
            assert_array_equal(run.parameters[name], value)
    parameter = leaf(Slot("parameter/w", "fixed", np.dtype("f8"), (3,), True))
    nothing = apply("broadcast_to", literal(0.0, "f8"), shape=(3,))
    updates = dl.optim.SGD(1.0, weight_decay=0.5, clip_norm=1.0, clip_value=1.0).updates(
        {"w": parameter}, [nothing]
    )
    w = np.ones(3)
    compile_plan([], updates, capacity=1).run(
        {"parameter/w": w, "scalars": np.ones((1, 1))}, epoch_rows=1, batch_rows=1, step_end=1
    )
    assert_array_equal(w, np.full(3, 0.5))


def test_the_norm_of_more_parameters_than_a_program_has_registers():
    start, gradients = make_arrays("float64", {f"{i}.weight": (3,) for i in range(90)}, steps=1)
    run = Run(dl.optim.SGD(1.0, clip_global_norm=1.0), start, gradients)
    run.step(0, 1)
    moved = np.concatenate([start[name] - value for name, value in run.parameters.items()])
    flat = np.concatenate([g[0] for g in gradients.values()])
    assert_allclose(moved, flat / (np.linalg.norm(flat) + 1e-6), rtol=1e-9)


@pytest.mark.parametrize("dtype", REALS)
def test_a_centered_step_survives_a_constant_gradient(dtype):
    """Rounding makes the mean square less than the squared mean; its root stays a number."""
    start = {"w": np.zeros(1000, dtype)}
    gradient = np.random.default_rng(0).normal(size=1000).astype(dtype)
    gradients = {"w": np.tile(gradient, (100, 1))}
    run = Run(dl.optim.RMSprop(1e-12, alpha=0.5, centered=True), start, gradients)
    run.step(0, 100)
    v, mean = run.states["v/w"], run.states["mean/w"]
    assert np.any(v < mean * mean)
    assert np.all(np.isfinite(run.parameters["w"]))
    assert np.all(run.parameters["w"] * gradient < 0)


def test_nadam_after_the_product_of_its_momenta_vanished():
    """10000 steps with the product that underflows equal those that take it for 0."""
    optimizer = dl.optim.NAdam(0.1, momentum_decay=0.5)
    t = np.arange(1, 10002)
    mu = 0.9 * (1 - 0.5 * 0.96 ** (t * 0.5))
    product = np.cumprod(mu)[:-1]
    scalars = optimizer.scalars(0, 10000, 10)
    assert_allclose(scalars[:, 1], 0.1 * (1 - mu[:-1]) / (1 - product), rtol=1e-13)
    assert_allclose(scalars[:, 2], 0.1 * mu[1:] / (1 - product * mu[1:]), rtol=1e-13)


@pytest.mark.parametrize("case", CASES)
def test_scalars_do_not_depend_on_where_a_run_is_cut(case):
    optimizer = make(case)
    whole = optimizer.scalars(0, 1000, 7)
    assert whole.shape == (1000, optimizer.n_scalars)
    parts = [optimizer.scalars(i, min(i + 37, 1000) - i, 7) for i in range(0, 1000, 37)]
    assert_array_equal(np.concatenate(parts), whole)
    assert optimizer.scalars(5, 0, 7).shape == (0, optimizer.n_scalars)


# In whole fits


def make_model(dtype="float64"):
    layers = dl.nn.Linear(5, 9), dl.nn.Tanh(), dl.nn.Linear(9, 3)
    return dl.nn.Sequential(*layers, dtype=dtype).init(seed=3)


def make_data(n=53):
    rng = np.random.default_rng(1)
    return rng.normal(size=(n, 5)), rng.normal(size=(n, 3))


@pytest.mark.parametrize("options", ["no option", "all"])
@pytest.mark.parametrize("case", CASES)
def test_fits_equal_plain_numpy(case, options):
    """24 updates in shuffled batches: losses, weights and averages are those of the textbook."""
    x, y = make_data()
    model = make_model()
    expected = {name: value.copy() for name, value in model.parameters().items()}
    history = model.fit(
        x, y, loss="mse", optimizer=make(case, **OPTIONS[options]), batch_size=16, epochs=6, seed=2
    )
    batches = [rows for epoch in range(6) for rows in batch_indices(len(x), 16, epoch, 2)]
    reference = make_reference(case, **OPTIONS[options])
    losses = reference_mlp.train(expected, "tanh", "mse", reference, x, y, batches)
    shares = np.reshape([len(rows) for rows in batches], (6, -1))
    assert_allclose(
        history["loss"], np.average(losses.reshape(6, -1), axis=1, weights=shares), rtol=1e-9
    )
    for name, value in model.parameters().items():
        assert_allclose(value, expected[name], rtol=1e-8, atol=1e-11, err_msg=name)
    if options == "all":
        for name, value in model.averaged_parameters().items():
            assert_allclose(value, reference.averages[name], rtol=1e-8, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("way", ["in memory", "pickle", "deepcopy", "file"])
@pytest.mark.parametrize("case", CASES)
def test_resume_equals_a_run_that_never_stopped(case, way, tmp_path):
    """With all options; states, averages and the place in every schedule go on, bit by bit."""
    x, y = make_data()
    optimizer = make(case, **OPTIONS["all"])
    optimizer.learning_rate = dl.optim.Cosine(optimizer.learning_rate, epochs=6)
    arguments = {"loss": "mse", "batch_size": 16, "seed": 9}
    whole, parts = make_model("float32"), make_model("float32")
    whole.fit(x, y, optimizer=optimizer, epochs=6, **arguments)
    parts.fit(x, y, optimizer=optimizer, epochs=2, **arguments)
    if way == "file":
        parts.save(tmp_path / "m.safetensors", training_state=True)
        parts = dl.load(tmp_path / "m.safetensors")
        assert parts._state.optimizer.options() == optimizer.options()
    elif way != "in memory":
        parts = copy.deepcopy(parts) if way == "deepcopy" else pickle.loads(pickle.dumps(parts))
    parts.fit(x, y, epochs=4, resume=True, **arguments)
    for name, value in whole.parameters().items():
        assert_array_equal(parts.parameters()[name], value)
    assert whole.averaged_parameters().keys() == whole.parameters().keys()
    for name, value in whole.averaged_parameters().items():
        assert_array_equal(parts.averaged_parameters()[name], value)


def test_averages_begin_at_the_parameters_of_the_first_step():
    x, y = make_data()
    model = make_model()
    seen = [{name: value.copy() for name, value in model.parameters().items()}]

    def remember(fit):
        seen.append({name: value.copy() for name, value in fit.model.parameters().items()})

    model.fit(
        x, y, loss="mse", optimizer=dl.optim.SGD(0.1, average=0.7), batch_size=53, epochs=5,
        callbacks=[remember],
    )  # fmt: skip
    for name, mean in seen[0].items():
        for parameters in seen[1:]:
            mean = 0.7 * mean + 0.3 * parameters[name]
        assert_allclose(model.averaged_parameters()[name], mean, rtol=1e-12)
    averages = model.averaged_parameters()
    with pytest.raises(ValueError, match="read-only"):
        averages["0.bias"][0] = 1.0
    with pytest.raises(TypeError):
        averages["0.bias"] = 1.0
    model.set_parameters(averages)
    for name, value in averages.items():
        assert_array_equal(model.parameters()[name], value)


def test_averages_that_there_are_not():
    x, y = make_data()
    model = make_model()
    message = "there are no averages: the last fit had no optimizer with average="
    with pytest.raises(ValueError, match=message):
        model.averaged_parameters()
    model.fit(x, y, loss="mse", optimizer=dl.optim.SGD(0.1, average=0.5), epochs=1)
    model.averaged_parameters()
    model.fit(x, y, loss="mse", optimizer=dl.optim.SGD(0.1), epochs=1)
    with pytest.raises(ValueError, match=message):
        model.averaged_parameters()


def test_a_mask_that_fits_no_parameter_is_refused_and_changes_nothing():
    x, y = make_data()
    model = make_model()
    before = {name: value.copy() for name, value in model.parameters().items()}
    optimizer = dl.optim.AdamW(0.1, decay_mask=["0.*", "*.wieght"])
    known = r"'\*.wieght' fits no parameter; there are 0.weight, 0.bias, 2.weight, 2.bias"
    with pytest.raises(ValueError, match=f"decay_mask: {known}"):
        model.fit(x, y, loss="mse", optimizer=optimizer)
    for name, value in before.items():
        assert_array_equal(model.parameters()[name], value)


@pytest.mark.parametrize("options", [o for o in OPTIONS if o != "no option"])
def test_options_have_plans_of_their_own(options):
    """A fit does not take the plan of another one that has the optimiser without the option."""
    x, y = make_data()
    once, twice = make_model(), make_model()
    optimizer = make("sgd", **{"weight_decay": 0.3, **OPTIONS[options]})
    once.fit(x, y, loss="mse", optimizer=optimizer, epochs=2)
    start = {name: value.copy() for name, value in twice.parameters().items()}
    twice.fit(x, y, loss="mse", optimizer=make("sgd"), epochs=2)
    twice.set_parameters(start)
    twice.fit(x, y, loss="mse", optimizer=optimizer, epochs=2)
    for name, value in once.parameters().items():
        assert_array_equal(twice.parameters()[name], value)
