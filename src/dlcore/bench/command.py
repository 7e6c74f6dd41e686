"""A run of the bench: contests of the chosen rows, printed as they are held."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from dlcore.bench import machine, report
from dlcore.bench.contest import SUBJECT, Contest, ContestantError, foreign_remarks
from dlcore.bench.figures import markdown_table, table, write_json
from dlcore.bench.libraries import Dlcore
from dlcore.bench.measure import Result, Settings, foreign_share, judge, measure_row
from dlcore.bench.peers import PEERS
from dlcore.bench.report import BenchError
from dlcore.bench.rows import Row, choose_rows

ROUNDS, QUICK_ROUNDS = 7, 3
TURN_SECONDS, QUICK_TURN_SECONDS = 0.02, 0.008
ROOF_SECONDS = 0.1


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
        1 when a contestant's result is wrong or a row fell behind ``options.against``, else 0.

    Raises
    ------
    BenchError
        If the bench cannot do what was asked.
    """
    rows = choose_rows(options.suites, options.rows, options.quick)
    if not rows:
        raise BenchError(f"no row's name has words that match {options.rows!r}")
    rows, left_out = _split_by_cpu(rows)
    if not rows:
        raise BenchError(left_out)
    earlier = None if options.against is None else report.read_report(options.against)
    if options.plot is not None:
        _require_matplotlib()
    threads = _thread_counts(options.threads)

    cleared = machine.clear_environment()
    described = machine.describe_machine()
    print(", ".join(described.values()))
    print(f"removed from the environment: {' '.join(cleared) or 'nothing'}")
    print(_sizes_remark(options))
    if left_out:
        print(left_out)
    contests, results = [], []
    for count in threads:
        held, measured = _hold(options, rows, count)
        contests.append(held)
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
    if options.plot is not None:
        from dlcore.bench.roofline import draw

        draw(options.plot, written)
    wrong = [line for result in results for line in result.wrong()]
    for line in wrong:
        print(f"WRONG {line}", file=sys.stderr)
    behind = earlier is not None and _fell_behind(written, earlier)
    return 1 if wrong or behind else 0


def _require_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise BenchError(
            f"--plot needs {error.name}, which is not installed: pip install 'dlcore[plot]'"
        ) from error


def _split_by_cpu(rows: Sequence[Row]) -> tuple[list[Row], str]:
    """The rows that this CPU has the instructions of, and what is said of the others."""
    from dlcore import _native

    if _native.bfloat16_is_native():
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


def _sizes_remark(options: Options) -> str:
    if not options.settings.drawn:
        return "nominal sizes only"
    return f"each row at its size and at three drawn within 10% of it, --seed {options.seed}"


def _hold(
    options: Options, rows: Sequence[Row], threads: int
) -> tuple[dict[str, Any], list[Result]]:
    """Hold the contests at one thread count, and print a table for each suite and dtype."""
    peers = list(PEERS) if options.peers is None else options.peers
    results: list[Result] = []
    with Contest([Dlcore, *(PEERS[name] for name in peers)], None, threads) as contest:
        print(f"\n{threads} thread{'s' * (threads > 1)} on CPU {contest.cpus}")
        for name, text in contest.runs_on.items():
            print(f"  {name}: {text}")
        for name, reason in contest.skipped.items():
            print(f"  {name}: skipped, {reason}")
        if SUBJECT in contest.skipped:
            raise BenchError(f"{SUBJECT}: {contest.skipped[SUBJECT]}")
        roofs = contest.ask(SUBJECT, "roofs", ROOF_SECONDS)
        print("  " + ", ".join(_roof_text(name, rate) for name, rate in roofs.items()))
        for (suite, dtype), group in groupby(_order(rows, options.dtypes), lambda item: item[:2]):
            print(f"\n{suite}, {dtype}, {threads} thread{'s' * (threads > 1)}\n", flush=True)
            measured = [_measure(contest, row, dtype, options) for _, _, row in group]
            _print_table(measured, options.markdown)
            results += measured
        held = {
            "threads": threads,
            "cpus": contest.cpus,
            "runs_on": contest.runs_on,
            "skipped": contest.skipped,
            "roofs": roofs,
            "foreign": foreign_share(results),
        }
    for remark in foreign_remarks(held["foreign"]):
        print(remark)
    return held, results


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


def _print_table(results: Sequence[Result], markdown: bool) -> None:
    taking_part = {name for result in results for name in result.nominal.seconds}
    peers = [name for name in PEERS if name in taking_part]
    rows = [report.cells(result, peers) for result in results]
    print((markdown_table if markdown else table)(report.header(peers), rows), flush=True)


def _print_summary(results: Sequence[Result]) -> None:
    verdicts = [judge(result)[0] for result in results]
    met = sum(verdict.startswith("met") for verdict in verdicts)
    judged = sum(verdict != "-" for verdict in verdicts)
    print(f"\n{met} of {judged} goals are met")


def _fell_behind(now: dict[str, Any], earlier: dict[str, Any]) -> bool:
    lines, compared = report.regressions(now, earlier)
    if earlier["machine"]["cpu"] != now["machine"]["cpu"]:
        print(f"note: the earlier run was on {earlier['machine']['cpu']}")
    for line in lines:
        print(f"REGRESSION {line}", file=sys.stderr)
    print(f"{compared} rows compared with the earlier run, {len(lines)} regressions")
    return bool(lines)
