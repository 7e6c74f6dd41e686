"""Measuring rows: every contestant in turns, at the nominal size and at the drawn ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dlcore.bench.contest import SUBJECT, Contest
from dlcore.bench.figures import Spread, ratios
from dlcore.bench.goals import Row, Sizes
from dlcore.bench.libraries import Prepared
from dlcore.bench.training import loss_too_high

FEWEST_ROUNDS = 3
"""Sizes whose rounds take longer than a row's `patience` get fewer, but not fewer than that."""


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes
    ----------
    rounds : at the nominal size; half as many at a drawn one
    turn_seconds : how long a contestant repeats a call in one turn
    seed : chooses the drawn sizes
    drawn : whether there are any
    """

    rounds: int
    turn_seconds: float
    seed: int
    drawn: bool


@dataclass(frozen=True)
class Measured:
    """A row at one size; times are seconds of a call, one for each round.

    Attributes
    ----------
    errors : of the results of those that were compared with a reference
    losses : of what was trained, one for each round
    """

    sizes: Sizes
    flops: int
    bytes: int
    seconds: dict[str, list[float]]
    limits: list[dict[str, float]]
    errors: dict[str, float]
    foreign: float
    losses: dict[str, list[float]] = field(default_factory=dict)

    @property
    def ours(self) -> list[float]:
        return self.seconds[SUBJECT]

    def fraction(self) -> Spread | None:
        """Of the limit; None for rows without one."""
        if not all("seconds" in limit for limit in self.limits):
            return None
        return ratios([limit["seconds"] for limit in self.limits], self.ours)

    def barrier_ns(self) -> Spread | None:
        """Nanoseconds that the threads took to meet; None where that was not measured."""
        found = [1e9 * limit["barrier"] for limit in self.limits if "barrier" in limit]
        return Spread.of(found) if found else None

    def ratio(self, peer: str) -> Spread | None:
        """Time of a peer, or of the "best", relative to dlcore's; None where it takes no part."""
        peers = [name for name in self.seconds if name != SUBJECT]
        if peer == "best":
            found = [self.ratio(name) for name in peers]
            return min((r for r in found if r), key=lambda r: r.median, default=None)
        return ratios(self.seconds[peer], self.ours) if peer in peers else None


@dataclass(frozen=True)
class Result:
    """All that was measured of a row."""

    row: Row
    dtype: str
    threads: int
    nominal: Measured
    drawn: list[Measured] = field(default_factory=list)

    @property
    def key(self) -> str:
        return f"{self.row.suite}/{self.row.name}/{self.dtype}/{self.threads}"

    def wrong(self) -> list[str]:
        """What disqualifies the run, a line each.

        Results that differ from the reference by more than rounding explains, and a loss that is
        too far above the peers'.
        """
        lines = [
            f"{self.key} at {sizes_text(size.sizes)}: the result of {name} is off by {found:.2g}, "
            f"relative to its largest element; rounding explains {allowed:.2g}"
            for size in (self.nominal, *self.drawn)
            for allowed in (self.row.tolerance(size.sizes, self.dtype),)
            for name, found in size.errors.items()
            if not found <= allowed
        ]
        complaint = loss_too_high(self.nominal.losses)
        return lines if complaint is None else [*lines, f"{self.key}: {complaint}"]


def sizes_text(sizes: Sizes) -> str:
    return "x".join(map(str, sizes))


def measure_row(contest: Contest, row: Row, dtype: str, settings: Settings) -> Result:
    nominal = _measure(contest, row, row.sizes, dtype, settings, settings.rounds)
    drawn = row.drawn(settings.seed) if settings.drawn else []
    few = max(1, settings.rounds // 2)
    measured = [_measure(contest, row, sizes, dtype, settings, few) for sizes in drawn]
    return Result(row, dtype, contest.threads, nominal, measured)


def _measure(
    contest: Contest, row: Row, sizes: Sizes, dtype: str, settings: Settings, rounds: int
) -> Measured:
    case = row.case(sizes, dtype, settings.seed, settings.turn_seconds)
    prepared = {name: contest.ask(name, "prepare", case) for name in contest.names}
    taking_part = {name: answer for name, answer in prepared.items() if answer is not None}
    affordable = _affordable(rounds, row.patience, taking_part.values())
    held = contest.rounds(affordable, case, list(taking_part))
    return Measured(
        sizes=sizes,
        flops=case.flops,
        bytes=case.bytes,
        seconds=held.seconds,
        limits=held.limits,
        errors={
            name: answer.error for name, answer in taking_part.items() if answer.error is not None
        },
        foreign=contest.foreign,
        losses=row.losses(case, held.results),
    )


def _affordable(rounds: int, patience: float, prepared: Iterable[Prepared]) -> int:
    round_seconds = sum(answer.turn_seconds for answer in prepared)
    return min(rounds, max(FEWEST_ROUNDS, int(patience / round_seconds)))


def judge(result: Result) -> tuple[str, list[str]]:
    """The verdict on a row, "met", "met by ratio", "short" or "-", and what it is short of.

    A row whose nominal size meets its goal while a drawn one does not is "short when drawn".
    """
    verdict, short = _judge_size(result, result.nominal)
    if verdict in ("short", "-"):
        return verdict, short
    for measured in result.drawn:
        at_size, missed = _judge_size(result, measured)
        if at_size == "short":
            return "short when drawn", [
                f"{part} at {sizes_text(measured.sizes)}" for part in missed
            ]
    return verdict, short


def _judge_size(result: Result, measured: Measured) -> tuple[str, list[str]]:
    goal, threads = result.row.goal, result.threads
    far = _short_of_fraction(goal.fraction_at(threads), measured)
    behind = _short_of_ratios(goal.ratios(threads), measured)
    late = _short_of_seconds(goal.seconds, measured)
    if far is None and behind is None and late is None:
        return "-", []
    if far and goal.ratio_decides and behind == []:
        return "met by ratio", far
    short = [*(far or ()), *(behind or ()), *(late or ())]
    return ("short", short) if short else ("met", [])


# What is short of a goal, in words; None where there is no goal, or nothing to judge it by.


def _short_of_fraction(wanted: float | None, measured: Measured) -> list[str] | None:
    reached = measured.fraction()
    if wanted is None or reached is None:
        return None
    return [] if reached.median >= wanted else [f"limit {reached.median:.3g} < {wanted:g}"]


def _short_of_ratios(wanted: Mapping[str, float], measured: Measured) -> list[str] | None:
    found = {peer: ratio.median for peer in wanted if (ratio := measured.ratio(peer))}
    if not found:
        return None
    return [
        f"{peer} {ratio:.3g} < {wanted[peer]:g}"
        for peer, ratio in found.items()
        if not ratio >= wanted[peer]
    ]


def _short_of_seconds(wanted: float | None, measured: Measured) -> list[str] | None:
    if wanted is None:
        return None
    taken = Spread.of(measured.ours).median
    return [] if taken <= wanted else [f"{1e3 * taken:.3g} ms > {1e3 * wanted:g} ms"]


def worst_drawn(result: Result) -> Measured | None:
    """The drawn size that is furthest from the limit, or from its peers where there is none."""

    def standing(measured: Measured) -> float:
        figure = measured.fraction() or measured.ratio("best")
        return figure.median if figure else 0.0

    return min(result.drawn, key=standing, default=None)


def foreign_share(results: Sequence[Result]) -> float:
    shares = [size.foreign for result in results for size in (result.nominal, *result.drawn)]
    return sum(shares) / len(shares) if shares else 0.0
