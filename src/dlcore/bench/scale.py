"""How the time of an epoch grows with rows, width and depth, and where it grows by a cliff."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from statistics import median
from typing import Any

from dlcore.bench.figures import Spread
from dlcore.bench.goals import Goal
from dlcore.bench.measure import Result
from dlcore.bench.networks import Network
from dlcore.bench.training import NetworkRow, network_row

ROWS_OF_DATA = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
WIDTHS = (16, 32, 64, 128, 256, 512, 1024, 2048)
DEPTHS = (1, 2, 4, 8, 16, 32)
BASE_WIDTH, BASE_DEPTH, BASE_ROWS = 64, 2, 4096
FEATURES, CLASSES, BATCH = 32, 10, 128

TURN_FLOPS = 2_000_000_000
"""Epochs of less work are repeated, so that the call does not count."""

CLIFF = 1.3
"""Growth of the time per operation from one point to the next that is flagged."""


def _point(sweep: str, value: int, rows: int, width: int, depth: int) -> NetworkRow:
    units = (FEATURES, *[width] * depth, CLASSES)
    epoch = Network(units, rows, BATCH)
    epochs = max(1, TURN_FLOPS // epoch.training_flops)
    network = Network(units, rows, BATCH, epochs=epochs)
    heavy = network.training_flops > 10 * TURN_FLOPS
    return network_row("scale", f"{sweep} {value}", "scale", network, Goal(), heavy=heavy)


ROWS: Sequence[NetworkRow] = (
    *(_point("rows", n, n, BASE_WIDTH, BASE_DEPTH) for n in ROWS_OF_DATA),
    *(_point("width", n, BASE_ROWS, n, BASE_DEPTH) for n in WIDTHS),
    *(_point("depth", n, BASE_ROWS, BASE_WIDTH, n) for n in DEPTHS),
)


def sweep_of(name: str) -> str:
    """The first word of a point's name: what is varied."""
    return name.partition(" ")[0]


def seconds_per_flop(flops: int, seconds: Sequence[float]) -> float:
    return median(seconds) / flops


def growth(times_per_flop: Sequence[float]) -> list[float | None]:
    """Each point's time per operation / that of the point before it; None for the first."""
    return [None, *(after / before for before, after in pairwise(times_per_flop))]


def is_cliff(ratio: float | None) -> bool:
    """Whether the time grew by more than operations explain."""
    return ratio is not None and not ratio <= CLIFF


def tables(results: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """The header and the lines of one thread count, sweep by sweep."""
    header = ["", "network", "ms / epoch", "us / step", "GFLOP/s", "of limit", "barrier ns"]
    lines = []
    for _, group in groupby(results, lambda result: sweep_of(result.row.name)):
        points = list(group)
        ratios = growth([_time_per_flop(point) for point in points])
        lines += [_line(point, ratio) for point, ratio in zip(points, ratios, strict=True)]
    return [*header, "ns / FLOP", "/ the one before", ""], lines


def _time_per_flop(point: Result) -> float:
    return seconds_per_flop(point.nominal.flops, point.nominal.ours)


def _line(point: Result, ratio: float | None) -> list[str]:
    assert isinstance(point.row, NetworkRow)
    network, step = point.row.network, Spread.of(point.nominal.ours).median
    return [
        point.row.name,
        f"{network.rows} rows of {_short(network)}",
        f"{1e3 * step * network.steps_per_epoch:.4g}",
        f"{1e6 * step:.4g}",
        f"{point.nominal.flops / step / 1e9:.3g}",
        str(point.nominal.fraction()),
        str(point.nominal.barrier_ns() or "-"),
        f"{1e9 * _time_per_flop(point):.3g}",
        "-" if ratio is None else f"{ratio:.2f}",
        "CLIFF" if is_cliff(ratio) else "",
    ]


def _short(network: Network) -> str:
    first, *hidden, last = network.units
    return f"{first}-{len(hidden)} x {hidden[0]}-{last}"


def speedups(results: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """The time of every point at the lowest thread count / that at the others."""
    threads = sorted({result.threads for result in results})
    medians = {(result.row.name, result.threads): median(result.nominal.ours) for result in results}
    names = dict.fromkeys(result.row.name for result in results)
    few, *more = threads
    lines = [
        [name, *(f"{medians[name, few] / medians[name, count]:.2f}" for count in more)]
        for name in names
    ]
    return ["", *(f"{count} threads / {few}" for count in more)], lines


def draw(path: Path, report: Mapping[str, Any]) -> None:
    """Write a picture of a report's points: time per operation against what is varied."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    points = [row for row in report["rows"] if row["suite"] == "scale"]
    sweeps = list(dict.fromkeys(sweep_of(point["name"]) for point in points))
    figure, axes = pyplot.subplots(
        1, len(sweeps), figsize=(5 * len(sweeps), 4.5), squeeze=False, sharey=True
    )
    for axis, sweep in zip(axes[0], sweeps, strict=True):
        _draw_sweep(axis, sweep, [p for p in points if sweep_of(p["name"]) == sweep])
    axes[0][0].set_ylabel("ns per operation")
    axes[0][0].set_ylim(bottom=0)  # of all, and only now: it ends the fitting to what is drawn
    figure.suptitle(f"{report['machine']['cpu']}, {report['machine']['date']}")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _draw_sweep(axis: Any, sweep: str, points: Sequence[Mapping[str, Any]]) -> None:
    for threads in sorted({point["threads"] for point in points}):
        chosen = [point for point in points if point["threads"] == threads]
        values = [_value(point) for point in chosen]
        times = [
            1e9 * seconds_per_flop(point["nominal"]["flops"], point["nominal"]["seconds"]["dlcore"])
            for point in chosen
        ]
        axis.semilogx(values, times, "o-", label=f"{threads} thread{'s' * (threads > 1)}")
        for value, time, ratio in zip(values, times, growth(times), strict=True):
            if is_cliff(ratio):
                axis.annotate(f"x {ratio:.2f}", (value, time))
    values = sorted({_value(point) for point in points})
    axis.set_xticks(values, map(str, values), rotation=45)
    axis.minorticks_off()
    axis.set_xlabel(sweep)
    axis.grid(True, alpha=0.2)
    axis.legend()


def _value(point: Mapping[str, Any]) -> int:
    return int(point["name"].rpartition(" ")[2])
