"""The rows of training: networks, goals, and the check of what was learnt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import mean
from typing import Any, ClassVar

import numpy as np

from dlcore.bench.contest import SUBJECT
from dlcore.bench.goals import Goal, Row, Sizes
from dlcore.bench.networks import Network, describe_data, make_task, training_loss

LOSS_TOLERANCE = 0.05
"""How far dlcore's mean loss may be above the best peer's.

Order and rounding alone make that much of a difference between single rounds: a dozen updates after
the same weights and order, libraries agree to 5 digits, some hundred updates later to 1 to 3%. The
mean over the rounds is steadier.
"""


@dataclass(frozen=True)
class NetworkCase:
    """What is done with a network: "train", "first_step", "predict" or "predict_one"."""

    op: str
    network: Network
    limit: str
    seed: int
    seconds: float

    @property
    def flops(self) -> int:
        """Of a step, on the average over an epoch, or of a prediction."""
        if self.op.startswith("predict"):
            return self.network.forward_flops
        return self.network.training_flops // self.network.steps_per_epoch

    @property
    def bytes(self) -> int:
        """Not counted: what of a network stays in which cache is what a schedule decides."""
        return 0


@dataclass(frozen=True)
class NetworkRow(Row):
    """Training or running a network; `limit` is "fma" or "none"."""

    network: Network = field(kw_only=True)

    # Turns are whole epochs, and losses are compared over as many rounds as were asked for.
    patience: ClassVar[float] = 60.0

    @property
    def in_flops(self) -> bool:
        return True

    def dtypes_of(self, asked: Sequence[str] | None) -> list[str]:
        return [dtype for dtype in self.dtypes if asked is None or dtype in asked]

    def case(self, sizes: Sizes, dtype: str, seed: int, seconds: float) -> NetworkCase:
        return NetworkCase(self.op, self.network, self.limit, seed, seconds)

    def tolerance(self, sizes: Sizes, dtype: str) -> float:
        return float(np.finfo(dtype).eps) * (16 + 4 * math.sqrt(sum(self.network.units)))

    def data(self) -> str:
        return describe_data(self.network) if self.op == "train" else ""

    def losses(
        self, case: NetworkCase, results: Mapping[str, Sequence[Any]]
    ) -> dict[str, list[float]]:
        if self.op != "train":
            return {}
        task = make_task(self.network, case.seed)
        return {
            name: [training_loss(task, layers) for layers in after_round]
            for name, after_round in results.items()
        }


def mean_losses(losses: Mapping[str, Sequence[float]]) -> tuple[float, float]:
    """dlcore's mean loss over the rounds, and the best peer's: NaN where no peer has a finite one.

    Returns
    -------
    ours, best : float
    """
    means = {name: mean(after_round) for name, after_round in losses.items()}
    ours = means.pop(SUBJECT)
    return ours, min(filter(math.isfinite, means.values()), default=math.nan)


def loss_too_high(losses: Mapping[str, Sequence[float]]) -> str | None:
    """Say by how much dlcore's mean loss exceeds the best peer's, or None where it does not.

    A loss that is not finite is never within bounds; without peers any other one is.
    """
    if not losses:
        return None
    ours, best = mean_losses(losses)
    if not math.isfinite(ours):
        return f"the training loss of {SUBJECT} is {ours}"
    if math.isnan(best) or ours <= (1 + LOSS_TOLERANCE) * best:
        return None
    return (
        f"the training loss of {SUBJECT} is {ours:.4g}, that of the best peer {best:.4g}: "
        f"more than {LOSS_TOLERANCE:.0%} above"
    )


def network_row(
    suite: str,
    name: str,
    op: str,
    network: Network,
    goal: Goal,
    *,
    limit: str = "fma",
    heavy: bool = False,
) -> NetworkRow:
    sizes = network.rows, network.batch
    return NetworkRow(suite, name, op, sizes, limit, goal, heavy=heavy, network=network)


def _train() -> list[NetworkRow]:
    # Turns of the small ones take 8 to 16 ms: of 2 ms, a process that was stopped before needs a
    # quarter to come back.
    small = Network((10, 32, 2), rows=3200, batch=32, epochs=50)
    digits = Network((64, 100, 10), rows=1797, batch=200, epochs=40)
    images = Network((784, 256, 128, 10), rows=12800, batch=128, data="Fashion-MNIST")
    wide = Network((784, 1024, 1024, 10), rows=5120, batch=256)
    matrices = Network(
        (4, 32, 16, 4),
        rows=10_000,
        batch=10_000,
        activation="tanh",
        loss="mse",
        shuffled=False,
        data="matrix exponentials",
        epochs=40,
    )
    # A step of its own is an epoch of one batch.
    first = replace(images, rows=images.batch)
    goals = {
        small: Goal(vs={"jax": (6.0, None)}),
        digits: Goal(vs={"jax": (3.0, None)}),
        images: Goal(vs={"jax": (1.25, 1.5)}),
        wide: Goal((0.83, None), {"jax": 1.2}),
        matrices: Goal(vs={"jax": (None, 3.5)}),
    }
    rows = [
        network_row("train", f"{net} batch {net.batch}", "train", net, goal, heavy=net is wide)
        for net, goal in goals.items()
    ]
    name = f"{images} first step"
    rows.append(network_row("train", name, "first_step", first, Goal(seconds=0.010), limit="none"))
    return rows


ROWS: Sequence[NetworkRow] = _train()
