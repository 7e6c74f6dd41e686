"""A run of the bench: contests over the chosen rows, printed as they are held."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from dlcore.bench import machine, report, roofline, scale
from dlcore.bench.contest import SUBJECT, Contest, ContestantError, foreign_remarks
from dlcore.bench.figures import markdown_table, table, write_json
from dlcore.bench.goals import Row
from dlcore.bench.measure import Result, Settings, foreign_share, judge, measure_row
from dlcore.bench.report import BenchError
from dlcore.bench.suites import KERNELS, SCALE, Chosen, Field, choose_rows

ROUNDS, QUICK_ROUNDS = 7, 3
TURN_SECONDS, QUICK_TURN_SECONDS = 0.02, 0.008
ROOF_SECONDS = 0.1

Table = tuple[list[str], list[list[str]]]
"""A header and lines."""


@dataclass(frozen=True)
class Options:
    """What `run` is asked for; see ``dlcore bench --help``.

    Attributes
    ----------
    dtypes : None for those that each row names
    peers : None for all that are installed
    rounds : None for the default
    drawn : whether rows are repeated at drawn sizes, too
    """

    suites: Sequence[str] = ()
    threads: Sequence[int] | None = None
    dtypes: Sequence[str] | None = None
    rounds: int | None = None
    rows: str | None = None
    peers: Sequence[str] | None = None
    seed: int = 0
    quick: bool = False
    drawn: bool = True
    markdown: bool = False
    json: Path | None = None
    against: Path | None = None
    plot: Path | None = None

    @property
    def settings(self) -> Settings:
        rounds = self.rounds or (QUICK_ROUNDS if self.quick else ROUNDS)
        seconds = QUICK_TURN_SECONDS if self.quick else TURN_SECONDS
        return Settings(rounds, seconds, self.seed, self.drawn and not self.quick)


def run(options: Options) -> int:
    """Run the bench and print its tables.

    Returns
    -------
    int
        1 when a contestant's result is wrong, dlcore's training loss too high, or a row fell behind
        ``options.against``, else 0.

    Raises
    ------
    BenchError
        If the bench cannot do what was asked.
    """
    chosen, left_out = _choose(options)
    draw = None if options.plot is None else _drawer(chosen)
    earlier = None if options.against is None else report.read_report(options.against)
    threads = _thread_counts(options.threads)

    cleared = machine.clear_environment()
    described = machine.describe_machine()
    print(", ".join(described.values()))
    print(f"removed from the environment: {' '.join(cleared) or 'nothing'}")
    print(_sizes_remark(options, chosen))
    if left_out:
        print(left_out)
    contests: list[dict[str, Any]] = []
    results: list[Result] = []
    for field, rows in chosen:
        measured = []
        for count in threads:
            held, found = _hold(options, field, rows, count)
            contests.append(held)
            measured += found
        if field is SCALE and len(threads) > 1:
            print("\nspeedup\n")
            _print_table(scale.speedups(measured), options.markdown)
        results += measured
    _print_summary(results)

    written = {
        "format": report.FORMAT,
        "machine": described,
        "seed": options.seed,
        "rounds": options.settings.rounds,
        "turn_seconds": options.settings.turn_seconds,
        "contests": contests,
        "rows": [report.row_report(result) for result in results],
    }
    if options.json is not None:
        write_json(options.json, written)
    if draw is not None and options.plot is not None:
        draw(options.plot, written)
    wrong = [line for result in results for line in result.wrong()]
    for line in wrong:
        print(f"WRONG {line}", file=sys.stderr)
    behind = earlier is not None and _fell_behind(written, earlier)
    return 1 if wrong or behind else 0


def _choose(options: Options) -> tuple[Chosen, str]:
    """The rows to measure, with who meets over them, and what is said of those left out."""
    chosen = choose_rows(options.suites, options.rows, options.quick)
    if not chosen:
        raise BenchError(f"no row's name has words that match {options.rows!r}")
    absent = set(options.peers or ()) - {name for field, _ in chosen for name in field.peers}
    if absent:
        raise BenchError(f"--peers: {', '.join(sorted(absent))} has no part in these suites")
    kept: Chosen = []
    sentences = []
    for field, rows in chosen:
        possible, sentence = _split_by_cpu(rows)
        sentences.append(sentence)
        if in_dtypes := [row for row in possible if row.dtypes_of(options.dtypes)]:
            kept.append((field, in_dtypes))
    left_out = " ".join(filter(None, sentences))
    if not kept:
        raise BenchError(left_out or f"no row is measured in {' or '.join(options.dtypes or ())}")
    return kept, left_out


def _drawer(chosen: Chosen) -> Callable[[Path, Mapping[str, Any]], None]:
    """What draws the picture of the chosen suites."""
    pictures = {KERNELS: roofline.draw, SCALE: scale.draw}
    found = [pictures[field] for field, _ in chosen if field in pictures]
    if len(found) != 1:
        raise BenchError(
            f"--plot draws one picture, of {', '.join(KERNELS.suites)}, or of scale: "
            "choose rows of either"
        )
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise BenchError(
            f"--plot needs {error.name}, which is not installed: pip install 'dlcore[plot]'"
        ) from error
    return found[0]


def _split_by_cpu(rows: Sequence[Row]) -> tuple[list[Row], str]:
    """The rows that this CPU has the instructions of, and what is said of the others."""
    from dlcore import _native

    if _native.bfloat16_kind() != "emulated":
        return list(rows), ""
    left_out = ", ".join(row.name for row in rows if row.needs_bfloat16)
    sentence = f"left out: {left_out}, as bfloat16 is emulated here" if left_out else ""
    return [row for row in rows if not row.needs_bfloat16], sentence


def _thread_counts(asked: Sequence[int] | None) -> Sequence[int]:
    usable = len(machine.usable_cpus())
    if asked is None:
        return [1, 2][:usable]
    for count in asked:
        if count > usable:
            raise BenchError(f"--threads {count}: this process may run on {usable} CPUs")
    return asked


def _sizes_remark(options: Options, chosen: Chosen) -> str:
    drawn = options.settings.drawn and any(field is KERNELS for field, _ in chosen)
    sizes = (
        "kernels at their size and at three drawn within 10% of it" if drawn else "nominal sizes"
    )
    return f"{sizes}, --seed {options.seed}"


def _hold(
    options: Options, field: Field, rows: Sequence[Row], threads: int
) -> tuple[dict[str, Any], list[Result]]:
    """Hold a contest at one thread count, and print a table for each suite and dtype."""
    asked = list(field.peers) if options.peers is None else options.peers
    peers = [field.peers[name] for name in asked if name in field.peers]
    results: list[Result] = []
    with Contest([field.subject, *peers], None, threads) as contest:
        _print_contestants(contest)
        roofs = contest.ask(SUBJECT, "roofs", ROOF_SECONDS) if field is KERNELS else {}
        if roofs:
            print("  " + ", ".join(_roof_text(name, rate) for name, rate in roofs.items()))
        for (suite, dtype), group in groupby(_order(rows, options.dtypes), lambda item: item[:2]):
            print(f"\n{suite}, {dtype}, {threads} thread{'s' * (threads > 1)}\n", flush=True)
            measured = [_measure(contest, row, dtype, options) for _, _, row in group]
            _print_table(_table_of(field, measured), options.markdown)
            _print_data(measured)
            results += measured
        foreign = foreign_share(results)
        held = {
            "suites": field.suites,
            "threads": threads,
            "cpus": contest.cpus,
            "runs_on": contest.runs_on,
            "skipped": contest.skipped,
            "roofs": roofs,
            "foreign": foreign,
        }
    for remark in foreign_remarks(foreign):
        print(remark)
    return held, results


def _print_contestants(contest: Contest) -> None:
    print(f"\n{contest.threads} thread{'s' * (contest.threads > 1)} on CPU {contest.cpus}")
    for name, text in contest.runs_on.items():
        print(f"  {name}: {text}")
    for name, reason in contest.skipped.items():
        print(f"  {name}: skipped, {reason}")
    if SUBJECT in contest.skipped:
        raise BenchError(f"{SUBJECT}: {contest.skipped[SUBJECT]}")


def _measure(contest: Contest, row: Row, dtype: str, options: Options) -> Result:
    progress = sys.stderr.isatty()
    if progress:
        print(f"\r\033[K{row.name}", end="", file=sys.stderr, flush=True)
    try:
        return measure_row(contest, row, dtype, options.settings)
    except ContestantError as error:
        raise BenchError(f"{row.suite} {row.name} {dtype}: {error}") from error
    finally:
        if progress:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _order(rows: Sequence[Row], dtypes: Sequence[str] | None) -> list[tuple[str, str, Row]]:
    """(suite, dtype, row), with what goes into one table side by side."""
    chosen = [(row.suite, dtype, row) for row in rows for dtype in row.dtypes_of(dtypes)]
    suites = list(dict.fromkeys(suite for suite, _, _ in chosen))
    return sorted(chosen, key=lambda item: (suites.index(item[0]), item[1]))


def _roof_text(name: str, rate: float) -> str:
    return f"{name} {rate / 1e9:.3g} {'GB/s' if name.startswith('copy') else 'GFLOP/s'}"


def _table_of(field: Field, results: Sequence[Result]) -> Table:
    if field is SCALE:
        return scale.tables(results)
    taking_part = {name for result in results for name in result.nominal.seconds}
    return report.tables(results, [name for name in field.peers if name in taking_part])


def _print_table(header_and_rows: Table, markdown: bool) -> None:
    print((markdown_table if markdown else table)(*header_and_rows), flush=True)


def _print_data(results: Sequence[Result]) -> None:
    lines = [f"{result.row.name}: {data}" for result in results if (data := result.row.data())]
    if lines:
        print("\n" + "\n".join(lines))


def _print_summary(results: Sequence[Result]) -> None:
    verdicts = [judge(result)[0] for result in results]
    met = sum(verdict.startswith("met") for verdict in verdicts)
    judged = sum(verdict != "-" for verdict in verdicts)
    if judged:
        print(f"\n{met} of {judged} goals are met")


def _fell_behind(now: dict[str, Any], earlier: dict[str, Any]) -> bool:
    lines, compared = report.regressions(now, earlier)
    if earlier["machine"]["cpu"] != now["machine"]["cpu"]:
        print(f"note: the earlier run was on {earlier['machine']['cpu']}")
    for line in lines:
        print(f"REGRESSION {line}", file=sys.stderr)
    print(f"{compared} rows compared with the earlier run, {len(lines)} regressions")
    return bool(lines)
