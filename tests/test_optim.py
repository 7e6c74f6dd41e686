"""Optimisers' options and learning rate schedules; their steps are tested in test_train and
test_ops."""

from __future__ import annotations

import numpy as np
import pytest

from dlcore.optim import SGD, Adam, AdamW, Constant, Cosine, Exponential, Step

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
        (lambda: Step(0.1, every=0), "every must be a number > 0, not 0"),
        (lambda: Cosine(0.1, epochs=0), "epochs must be a number > 0"),
        (lambda: Exponential(0.1, gamma=-1), "gamma must be a number > 0"),
        (lambda: Constant(0.1, warmup=-1), "warmup must be a number >= 0"),
    ],
)
def test_bad_options_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
