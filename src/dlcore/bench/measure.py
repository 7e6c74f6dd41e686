"""Measuring rows: every contestant in turns, at the nominal size and at the drawn ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dlcore.bench.contest import SUBJECT, Contest
from dlcore.bench.figures import Spread, ratios
from dlcore.bench.libraries import Case, Prepared
from dlcore.bench.rows import Row
from dlcore.bench.work import Sizes, tolerance

SECONDS_OF_A_SIZE = 2.5
"""Sizes whose rounds take longer than that get fewer rounds, but not fewer than `FEWEST_ROUNDS`."""
FEWEST_ROUNDS = 3


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
    """A row at one size; times are seconds of a call, one for each round."""

    sizes: Sizes
    flops: int
    bytes: int
    seconds: dict[str, list[float]]
    limits: list[dict[str, float]]
    errors: dict[str, float]
    foreign: float

    @property
    def ours(self) -> list[float]:
        return self.seconds[SUBJECT]

    def fraction(self) -> Spread | None:
        """Of the limit; None for rows without one."""
        if not all("seconds" in limit for limit in self.limits):
            return None
        return ratios([limit["seconds"] for limit in self.limits], self.ours)

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
        """Whose results differ from the reference by more than rounding explains, a line each."""
        return [
            f"{self.key} at {sizes_text(size.sizes)}: the result of {name} is off by {found:.2g}, "
            f"relative to its largest element; rounding explains {allowed:.2g}"
            for size in (self.nominal, *self.drawn)
            for allowed in (tolerance(self.row.op, size.sizes, self.dtype),)
            for name, found in size.errors.items()
            if not found <= allowed
        ]


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
    case = Case(row.op, sizes, dtype, row.limit, settings.seed, settings.turn_seconds)
    prepared = {name: contest.ask(name, "prepare", case) for name in contest.names}
    taking_part = {name: answer for name, answer in prepared.items() if answer is not None}
    held = contest.rounds(_affordable(rounds, taking_part.values()), case, list(taking_part))
    return Measured(
        sizes=sizes,
        flops=case.flops,
        bytes=case.bytes,
        seconds=held.seconds,
        limits=held.limits,
        errors={name: answer.error for name, answer in taking_part.items()},
        foreign=contest.foreign,
    )


def _affordable(rounds: int, prepared: Iterable[Prepared]) -> int:
    round_seconds = sum(answer.turn_seconds for answer in prepared)
    return min(rounds, max(FEWEST_ROUNDS, int(SECONDS_OF_A_SIZE / round_seconds)))


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
    goal, fraction = result.row.goal, measured.fraction()
    ratios = {peer: ratio for peer in goal.vs if (ratio := measured.ratio(peer)) is not None}
    behind = [
        f"{peer} {ratio.median:.3g} < {goal.ratio(peer, result.threads):g}"
        for peer, ratio in ratios.items()
        if not ratio.median >= goal.ratio(peer, result.threads)
    ]
    far = []
    if goal.fraction is not None and fraction is not None and not fraction.median >= goal.fraction:
        far = [f"limit {fraction.median:.3g} < {goal.fraction:g}"]
    if not ratios and (goal.fraction is None or fraction is None):
        return "-", []
    if far and goal.ratio_decides and ratios and not behind:
        return "met by ratio", far
    return ("short", far + behind) if far or behind else ("met", [])


def worst_drawn(result: Result) -> Measured | None:
    """The drawn size that is furthest from the limit, or from its peers where there is none."""

    def standing(measured: Measured) -> float:
        figure = measured.fraction() or measured.ratio("best")
        return figure.median if figure else 0.0

    return min(result.drawn, key=standing, default=None)


def foreign_share(results: Sequence[Result]) -> float:
    shares = [size.foreign for result in results for size in (result.nominal, *result.drawn)]
    return sum(shares) / len(shares) if shares else 0.0
