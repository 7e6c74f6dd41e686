"""Optimisers' options and learning rate schedules; their steps are tested in test_optim_steps."""

from __future__ import annotations

import inspect
import pickle

import numpy as np
import pytest

from dlcore import optim
from dlcore.optim import (
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    AdamW,
    Constant,
    Cosine,
    Exponential,
    Lion,
    NAdam,
    RAdam,
    RMSprop,
    Step,
)

pytestmark = pytest.mark.isa_independent


def test_schedules_by_hand():
    np.testing.assert_allclose(Constant(0.5).rates(7, 3, 4), [0.5] * 3)
    np.testing.assert_allclose(Step(1.0, every=2, gamma=0.1).rates(0, 5, 1), [1, 1, 0.1, 0.1, 0.01])
    np.testing.assert_allclose(Exponential(8.0, gamma=0.5).rates(0, 6, 2), [8, 8, 4, 4, 2, 2])
    np.testing.assert_allclose(
        Cosine(2.0, epochs=4, final=0.5).rates(0, 6, 1),
        [2.0, 2 - 0.5 * (1 - np.sqrt(0.5)), 1.5, 1 + 0.5 * (1 - np.sqrt(0.5)), 1.0, 1.0],
    )


def test_warm_up_rises_linearly():
    np.testing.assert_allclose(
        Constant(1.0, warmup=2).rates(0, 6, 2), [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    )


@pytest.mark.parametrize(
    "schedule",
    [Constant(0.1, warmup=3), Step(0.1, every=3), Exponential(0.1), Cosine(0.1, epochs=20)],
)
def test_rates_do_not_depend_on_where_a_run_is_cut(schedule):
    whole = schedule.rates(0, 100, 7)
    parts = [schedule.rates(start, 25, 7) for start in range(0, 100, 25)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert np.all(whole > 0)


def test_torch_schedulers_agree():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    parameter = torch.zeros(1, requires_grad=True)

    def rates(make, epochs=12):
        optimizer = torch.optim.SGD([parameter], lr=0.1)
        scheduler = make(optimizer)
        result = []
        for _ in range(epochs):
            result.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        return result

    schedulers = torch.optim.lr_scheduler
    for ours, theirs in (
        (Step(0.1, every=5, gamma=0.3), lambda o: schedulers.StepLR(o, 5, 0.3)),
        (Exponential(0.1, gamma=0.9), lambda o: schedulers.ExponentialLR(o, 0.9)),
        (Cosine(0.1, epochs=12), lambda o: schedulers.CosineAnnealingLR(o, 12)),
    ):
        np.testing.assert_allclose(ours.rates(0, 12, 1), rates(theirs), rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(-0.1), "learning_rate must be a number >= 0, not -0.1"),
        (lambda: SGD(float("nan")), "learning_rate must be a number >= 0, not nan"),
        (lambda: SGD(momentum=1.0), r"momentum must lie in \[0, 1\), not 1.0"),
        (lambda: SGD(nesterov=True), "nesterov needs momentum > 0"),
        (lambda: SGD(convention="keras"), "convention must be 'pytorch' or 'sklearn'"),
        (lambda: Adam(beta1=1.0), r"beta1 must lie in \[0, 1\), not 1.0"),
        (lambda: Adam(eps=-1.0), "eps must be a number >= 0"),
        (lambda: AdamW(weight_decay=-1), "weight_decay must be a number >= 0"),
        (lambda: Adam(convention="keras"), "convention must be 'pytorch' or 'sklearn'"),
        (lambda: NAdam(momentum_decay=-1), "momentum_decay must be a number >= 0, not -1"),
        (lambda: RAdam(beta2=1.0), r"beta2 must lie in \[0, 1\), not 1.0"),
        (lambda: RMSprop(alpha=1), r"alpha must lie in \[0, 1\), not 1"),
        (lambda: RMSprop(momentum=-0.1), r"momentum must lie in \[0, 1\), not -0.1"),
        (lambda: RMSprop(eps=float("inf")), "eps must be a number >= 0, not inf"),
        (lambda: Adagrad(lr_decay=-1), "lr_decay must be a number >= 0, not -1"),
        (
            lambda: Adagrad(initial_accumulator_value=-1),
            "initial_accumulator_value must be a number >= 0, not -1",
        ),
        (lambda: Adadelta(rho=float("nan")), r"rho must lie in \[0, 1\), not nan"),
        (lambda: Adadelta(eps=-1), "eps must be a number >= 0, not -1"),
        (lambda: Lion(beta2="a"), r"beta2 must lie in \[0, 1\), not 'a'"),
        (lambda: SGD(clip_value=0), "clip_value must be a number > 0, not 0"),
        (lambda: SGD(clip_norm=-1), "clip_norm must be a number > 0, not -1"),
        (lambda: SGD(clip_global_norm=0), "clip_global_norm must be a number > 0, not 0"),
        (
            lambda: SGD(clip_norm=1, clip_global_norm=1),
            "clip_norm and clip_global_norm exclude each other",
        ),
        (lambda: SGD(average=1.0), r"average must lie in \(0, 1\), not 1.0"),
        (lambda: SGD(average=0), r"average must lie in \(0, 1\), not 0"),
        (lambda: SGD(decay_mask=["*.weight"]), "decay_mask needs weight_decay > 0"),
        (lambda: Step(0.1, every=0), "every must be a number > 0, not 0"),
        (lambda: Cosine(0.1, epochs=0), "epochs must be a number > 0"),
        (lambda: Exponential(0.1, gamma=-1), "gamma must be a number > 0"),
        (lambda: Constant(0.1, warmup=-1), "warmup must be a number >= 0"),
    ],
)
def test_bad_options_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9, 0.999])
def test_corrections_of_moments_that_are_long_forgotten(beta):
    """Exact to the last bit, where powers are computed and where they are lost beside 1."""
    count = np.arange(1.0, 100_001.0)
    weight = 1 - beta**count
    first, second = Adam(1.0, beta1=beta, beta2=beta).scalars(0, len(count), 1)[:, 1:].T
    np.testing.assert_array_equal(first, 1 / weight)
    np.testing.assert_array_equal(second, 1 / np.sqrt(weight))
    np.testing.assert_array_equal(NAdam(beta2=beta).scalars(0, len(count), 1)[:, -1], second)
    np.testing.assert_array_equal(
        RAdam(1.0, beta1=beta, beta2=0.5).scalars(0, len(count), 1)[:, 1], 1 / weight
    )


@pytest.mark.parametrize("mask", ["*.weight", [1], 3, len])
def test_a_mask_is_a_sequence_of_patterns(mask):
    with pytest.raises(TypeError, match="decay_mask must be a sequence of names or patterns, not"):
        SGD(weight_decay=0.1, decay_mask=mask)


OPTIMIZERS = [SGD, Adam, AdamW, NAdam, RAdam, RMSprop, Adagrad, Adadelta, Lion]
# An option of each kind with a value that is not its default; eps is the last of most.
CHANGED = {
    "weight_decay": 0.3,
    "clip_value": 2.0,
    "clip_norm": 2.0,
    "clip_global_norm": 2.0,
    "average": 0.5,
    "momentum": 0.5,
    "beta1": 0.5,
    "beta2": 0.5,
    "eps": 0.5,
    "amsgrad": True,
    "convention": "sklearn",
    "momentum_decay": 0.5,
    "decoupled_weight_decay": True,
    "alpha": 0.5,
    "centered": True,
    "lr_decay": 0.5,
    "initial_accumulator_value": 0.5,
    "rho": 0.5,
}


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_an_optimizer_is_its_options(make):
    """Repr, pickle and options() give the same one again; every option but the rate tells two runs
    and their plans apart."""
    plain = make()
    known = set(plain.options()) - {"learning_rate", "decay_mask", "nesterov"}
    assert known <= set(CHANGED)
    assert plain.continues(make(0.5))
    for name in known:
        changed = make(**{name: CHANGED[name]})
        for again in (
            make(**changed.options()),
            pickle.loads(pickle.dumps(changed)),
            eval(repr(changed), vars(optim)),
        ):
            assert again.options() == changed.options()
            assert again.continues(changed)
            assert again.plan_key() == changed.plan_key()
        assert not changed.continues(plain)
        assert changed.plan_key() != plain.plan_key()
    masked = make(weight_decay=0.3, decay_mask=["*.weight"])
    assert eval(repr(masked), vars(optim)).continues(masked)
    assert not masked.continues(make(weight_decay=0.3))
    assert not plain.continues(SGD(0.1, momentum=0.1))


def test_defaults_are_those_of_torch():
    """But for the rate of SGD; torch has no Lion."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    renamed = {"learning_rate": "lr"}
    for make in OPTIMIZERS[1:-1]:
        theirs = inspect.signature(getattr(torch.optim, make.__name__)).parameters
        ours = make().options()
        for name, value in ours.items():
            if (name := renamed.get(name, name)) in theirs:
                assert theirs[name].default == value, (make, name)
        if "beta1" in ours:
            assert theirs["betas"].default == (ours["beta1"], ours["beta2"])
