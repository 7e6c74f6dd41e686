"""Fit the constants of the cost model that chooses between schedules (dlcore/graph/schedule.py).

    python tools/fit_schedule.py measure times.json    # a quarter of an hour on an idle machine
    python tools/fit_schedule.py fit times.json [more.json ...]

``measure`` times a step of training of networks, narrow, wide and deep, under the
whole-batch schedule and under row blocks of every size that a candidate of the constants would
choose, in turns, on one thread and on two. ``fit`` tries all combinations of the candidates: for
each network, the time of what they choose is divided by that of the fastest schedule, and the mean
of the logarithms is the loss. It prints the best beside the constants in use, and the networks that
lose most.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import dlcore as dl
from dlcore.graph import schedule

WHOLE = 0  # rows of a block that stand for the whole-batch schedule
TURNS = 5
TURN_SECONDS = 0.03

# Widths, and the rows of a batch.
NETWORKS: tuple[tuple[tuple[int, ...], int], ...] = (
    ((10, 32, 2), 32),
    ((10, 32, 2), 256),
    ((4, 32, 16, 4), 1000),
    ((4, 32, 16, 4), 10000),
    ((30, 16, 16, 16, 1), 512),
    ((32, 64, 64, 10), 64),
    ((32, 64, 64, 10), 128),
    ((32, 64, 64, 10), 1024),
    ((32, 64, 64, 10), 4096),
    ((64, 100, 10), 32),
    ((64, 100, 10), 200),
    ((64, 100, 10), 1000),
    ((64, 64, 64, 64, 64, 10), 256),
    ((13, 100, 1), 200),
    ((100, 128, 10), 64),
    ((100, 128, 10), 512),
    ((128, 128, 128, 10), 128),
    ((128, 128, 128, 10), 512),
    ((128, 128, 128, 10), 2048),
    ((784, 32, 10), 128),
    ((784, 64, 10), 128),
    ((784, 64, 10), 512),
    ((256, 128, 10), 256),
    ((256, 160, 10), 256),
    ((200, 200, 10), 256),
    ((64, 256, 64, 10), 256),
    ((256, 256, 10), 256),
    ((784, 128, 10), 128),
    ((784, 128, 10), 512),
    ((256, 256, 256, 10), 128),
    ((784, 256, 128, 10), 128),
    ((784, 256, 128, 10), 1024),
    ((32, *8 * (64,), 10), 128),
    ((32, *16 * (64,), 10), 128),
    ((32, *16 * (64,), 10), 512),
    ((32, *32 * (32,), 10), 128),
    ((32, *4 * (128,), 10), 128),
    ((32, *32 * (64,), 10), 128),
    ((32, *64 * (64,), 10), 128),
    ((32, *128 * (64,), 10), 128),
)

CANDIDATES: dict[str, tuple[int, ...]] = {
    "LARGEST_WEIGHTS": tuple(
        1024 * k for k in (32, 64, 96, 128, 160, 192, 256, 320, 384, 512, 768)
    ),
    "NARROW_MATRIX": tuple(1024 * k for k in (16, 32, 64, 128)),
    "LARGEST_NARROW_WEIGHTS": tuple(1024 * k for k in (320, 512, 1024, 2048)),
    "BLOCK_BYTES": tuple(1024 * k for k in (64, 128, 192, 256, 320, 384, 512, 768)),
    "FEWEST_ROWS": (16, 32, 64),
    "MOST_ROWS": (64, 128, 192, 256, 384, 512),
    "SHARED_PRODUCTS": tuple(1 << n for n in (17, 18, 19, 20, 21, 40)),
}
"""Values of the constants of the model; with the last of SHARED_PRODUCTS nothing is shared out."""

OF_WEIGHTS = ("LARGEST_WEIGHTS", "NARROW_MATRIX", "LARGEST_NARROW_WEIGHTS")
"""Those that decide on blocks at all, and not on their rows."""


@dataclass(frozen=True)
class Case:
    """A network on a number of threads, with what the model knows of it, and its times."""

    widths: tuple[int, ...]
    batch: int
    threads: int
    bytes_of_row: int
    weights: int  # elements
    seconds: dict[int, float]  # of a step, by the rows of a block

    @property
    def fastest(self) -> float:
        return min(self.seconds.values())

    def chosen(self) -> int:
        """The rows of a block that the model takes, with its present constants."""
        matrices = [4 * n_in * n_out for n_in, n_out in itertools.pairwise(self.widths)]
        if schedule.weights_beyond_limits(matrices) is not None:
            return WHOLE
        return schedule.rows_of_block(self.bytes_of_row, self.weights, self.batch)

    def loss(self) -> float:
        rows = self.chosen()
        if rows not in self.seconds:
            raise ValueError(f"no time of {name_of(self)} in blocks of {rows} rows: measure again")
        return math.log(self.seconds[rows] / self.fastest)


def combinations(names: Iterable[str] = CANDIDATES) -> Iterator[dict[str, int]]:
    names = list(names)
    for values in itertools.product(*(CANDIDATES[name] for name in names)):
        yield dict(zip(names, values, strict=True))


@contextmanager
def constants(values: dict[str, Any]) -> Iterator[None]:
    with mock.patch.multiple(schedule, **values):
        yield


# Measuring


@contextmanager
def blocks_of(rows: int, seen: dict[str, int]) -> Iterator[None]:
    """Plans that are compiled within have blocks of so many rows; ``seen`` gets their features."""

    def rows_of_block(bytes_of_row: int, weights: int, capacity: int) -> int:
        seen.update(bytes_of_row=bytes_of_row, weights=weights)
        return rows

    name = "whole-batch" if rows == WHOLE else "row-block"
    with (
        mock.patch.object(schedule, "rows_of_block", rows_of_block),
        mock.patch.object(dl.config, "schedule", name),
    ):
        yield


def trainer(widths: tuple[int, ...], batch: int) -> Callable[[], float]:
    """A turn of training, which returns the seconds of a step; the first call compiles."""
    rng = np.random.default_rng(0)
    steps = max(1, 8192 // batch)
    x = rng.standard_normal((steps * batch, widths[0])).astype("float32")
    y = rng.integers(0, max(widths[-1], 2), len(x))
    layers: list[Any] = []
    for n_in, n_out in itertools.pairwise(widths):
        layers += [dl.nn.Linear(n_in, n_out), dl.nn.ReLU()]
    model = dl.nn.Sequential(*layers[:-1])
    loss: str = "cross_entropy"
    if widths[-1] == 1:
        loss, y = "mse", y.astype("float32")[:, None]
    options: dict[str, Any] = {
        "loss": loss,
        "optimizer": dl.optim.Adam(1e-3),
        "batch_size": batch,
        "seed": 0,
    }

    def seconds(epochs: int) -> float:
        begin = time.perf_counter()
        model.fit(x, y, epochs=epochs, resume=True, **options)
        return time.perf_counter() - begin

    model.fit(x, y, epochs=1, **options)
    epochs = 1
    while seconds(epochs) < TURN_SECONDS and epochs < 4096:
        epochs *= 2

    def turn() -> float:
        # the difference leaves out what a fit takes beside its steps
        difference = seconds(3 * epochs) - seconds(epochs)
        if difference <= 0:
            raise RuntimeError("three times the epochs took no longer: the machine is too busy")
        return difference / (2 * epochs * steps)

    return turn


def sizes_of_blocks(seen: dict[str, int], batch: int) -> set[int]:
    """Every size that some candidate of the constants chooses."""
    sizes = set()
    for values in combinations(name for name in CANDIDATES if name not in OF_WEIGHTS):
        with constants(values):
            sizes.add(schedule.rows_of_block(seen["bytes_of_row"], seen["weights"], batch))
    return sizes


def measure_case(widths: tuple[int, ...], batch: int, threads: int) -> Case:
    dl.set_num_threads(threads)
    seen: dict[str, int] = {}
    with blocks_of(min(schedule.VECTOR_ROWS, batch), seen):
        trainer(widths, batch)
    trainers = {}
    for rows in (WHOLE, *sorted(sizes_of_blocks(seen, batch))):
        with blocks_of(rows, seen):
            trainers[rows] = trainer(widths, batch)
    turns: dict[int, list[float]] = {rows: [] for rows in trainers}
    for turn in range(TURNS):
        for rows in list(trainers)[:: -1 if turn % 2 else 1]:
            # plans are kept by config.schedule and not by the size, of which each has a model
            with blocks_of(rows, seen):
                turns[rows].append(trainers[rows]())
    seconds = {rows: statistics.median(times) for rows, times in turns.items()}
    return Case(widths, batch, threads, seen["bytes_of_row"], seen["weights"], seconds)


def measure(path: Path) -> None:
    lines = []
    for (widths, batch), threads in itertools.product(NETWORKS, (1, 2)):
        case = measure_case(widths, batch, threads)
        best = min(case.seconds, key=case.seconds.__getitem__)
        print(f"{name_of(case):36}", "whole batch" if best == WHOLE else f"blocks of {best}")
        seconds = [(rows, float(f"{time:.4g}")) for rows, time in case.seconds.items()]
        lines.append(json.dumps({**vars(case), "seconds": seconds}))
    isa = json.dumps(dl.config_info()["isa"])
    path.write_text(f'{{"isa": {isa}, "cases": [\n' + ",\n".join(lines) + "\n]}\n")


# Fitting


def read(path: Path) -> list[Case]:
    cases = json.loads(path.read_text())["cases"]
    return [
        Case(**{**case, "widths": tuple(case["widths"]), "seconds": dict(case["seconds"])})
        for case in cases
    ]


def mean_loss(cases: list[Case], values: dict[str, int]) -> float:
    with constants(values):
        return statistics.fmean(case.loss() for case in cases)


def fit(cases: list[Case]) -> dict[str, int]:
    """The best of all combinations of candidates."""
    return min(combinations(), key=lambda values: mean_loss(cases, values))


def name_of(case: Case) -> str:
    plural = "s" if case.threads > 1 else ""
    return f"{'-'.join(map(str, case.widths))} x {case.batch}, {case.threads} thread{plural}"


def report(title: str, cases: list[Case], values: dict[str, int]) -> None:
    print(f"\n{title}:", ", ".join(f"{name} = {value}" for name, value in values.items()))
    mean = math.exp(mean_loss(cases, values))
    print(f"  {mean:.3f} of the time of the fastest schedule on average; the most:")
    with constants(values):
        for case in sorted(cases, key=Case.loss, reverse=True)[:8]:
            sizes = {rows: f"{time / case.fastest:.2f}" for rows, time in case.seconds.items()}
            print(f"  {math.exp(case.loss()):.2f}  {name_of(case)}: {case.chosen()} of {sizes}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("measure").add_argument("file", type=Path)
    commands.add_parser("fit").add_argument("files", type=Path, nargs="+")
    arguments = parser.parse_args()
    if arguments.command == "measure":
        measure(arguments.file)
        return
    cases = [case for path in arguments.files for case in read(path)]
    report("In use", cases, {name: getattr(schedule, name) for name in CANDIDATES})
    report("Fitted", cases, fit(cases))


if __name__ == "__main__":
    main()
