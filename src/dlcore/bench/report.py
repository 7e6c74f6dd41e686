"""What the bench says: tables, the JSON file, the comparison with an earlier one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dlcore.bench.contest import SUBJECT
from dlcore.bench.figures import Spread, ratios
from dlcore.bench.measure import Measured, Result, judge, sizes_text, worst_drawn
from dlcore.bench.training import mean_losses
from dlcore.errors import DlcoreError

FORMAT = 1
"""Of the JSON file; another number is refused by `read_report`."""

REGRESSION = 0.05


class BenchError(DlcoreError):
    """The bench cannot do what was asked; the message is one line."""


# Tables


def tables(results: Sequence[Result], peers: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """The header of a table and its lines; columns that none of the results fills are left out.

    Those of peers hold their time / dlcore's.
    """
    lines = [cells(result, peers) for result in results]
    header = [title for title in lines[0] if any(line[title] for line in lines)]
    return header, [[line[title] or "-" for title in header] for line in lines]


def cells(result: Result, peers: Sequence[str]) -> dict[str, str]:
    """What stands in each column, or nothing."""
    nominal = result.nominal
    verdict, short = judge(result)
    return {
        "": result.row.name,
        "us": f"{1e6 * Spread.of(nominal.ours).median:.4g}",
        "rate": rate_text(result),
        "of limit": str(nominal.fraction() or "-"),
        "barrier ns": str(nominal.barrier_ns() or ""),
        **{peer: str(nominal.ratio(peer) or "-") for peer in peers},
        "worst drawn": worst_text(result, peers),
        "loss / best": loss_text(nominal),
        "goal": result.row.goal.text(result.threads),
        "verdict": f"{verdict}: {'; '.join(short)}" if short else verdict,
    }


def rate_text(result: Result) -> str:
    nominal = result.nominal
    seconds = Spread.of(nominal.ours).median
    if result.row.in_flops:
        return f"{nominal.flops / seconds / 1e9:.3g} GFLOP/s"
    return f"{nominal.bytes / seconds / 1e9:.3g} GB/s"


def worst_text(result: Result, peers: Sequence[str]) -> str:
    """The drawn size that is furthest from the limit, and the worst ratio to a peer at any."""
    worst = worst_drawn(result)
    if worst is None:
        return ""
    fraction = worst.fraction()
    parts = [f"{fraction.median:.3g}" if fraction else "", _worst_ratio(result.drawn, peers)]
    return f"{', '.join(filter(None, parts))} at {sizes_text(worst.sizes)}"


def _worst_ratio(drawn: Sequence[Measured], peers: Sequence[str]) -> str:
    found = [
        (ratio.median, peer)
        for measured in drawn
        for peer in peers
        if (ratio := measured.ratio(peer)) is not None
    ]
    return f"{min(found)[1]} {min(found)[0]:.3g}" if found else ""


def loss_text(measured: Measured) -> str:
    """dlcore's mean loss / that of the best peer."""
    if len(measured.losses) < 2:
        return ""
    ours, best = mean_losses(measured.losses)
    return f"{ours / best:.3f}"


# The JSON file


def row_report(result: Result) -> dict[str, Any]:
    """All that was measured and what follows from it, as JSON holds it."""
    verdict, short = judge(result)
    return {
        "key": result.key,
        "suite": result.row.suite,
        "name": result.row.name,
        "op": result.row.op,
        "dtype": result.dtype,
        "threads": result.threads,
        "limit": result.row.limit,
        "data": result.row.data(),
        "goal": asdict(result.row.goal),
        "verdict": verdict,
        "short": short,
        "nominal": _size_report(result.nominal),
        "drawn": [_size_report(measured) for measured in result.drawn],
    }


def _size_report(measured: Measured) -> dict[str, Any]:
    peers = [name for name in measured.seconds if name != SUBJECT]
    fraction = measured.fraction()
    return {
        **asdict(measured),
        "fraction_of_limit": asdict(fraction) if fraction else None,
        "ratios": {peer: asdict(ratios(measured.seconds[peer], measured.ours)) for peer in peers},
    }


def read_report(path: Path) -> dict[str, Any]:
    """An earlier run's JSON file.

    Raises
    ------
    BenchError
        If the file cannot be read or is none of this version of the bench.
    """
    try:
        report = json.loads(path.read_text())
    except OSError as error:
        raise BenchError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise BenchError(f"{path} holds no JSON: {error}") from error
    if not isinstance(report, dict) or report.get("format") != FORMAT:
        raise BenchError(f"{path} was not written by this version of the bench")
    return report


# Comparison


def regressions(now: Mapping[str, Any], earlier: Mapping[str, Any]) -> tuple[list[str], int]:
    """Rows in which dlcore is further from the limit than in an earlier run, a line each.

    Compared is the fraction of the limit, which does not depend on clock and neighbours as a time
    does; where a row has none, the ratio to the first peer of both runs. A regression is a
    median more than 5% lower whose quartiles do not reach those of before.

    Returns
    -------
    lines : list of str
    compared : int
        How many rows both runs have.
    """
    before = {row["key"]: row["nominal"] for row in earlier["rows"]}
    lines, compared = [], 0
    for row in now["rows"]:
        pair = _comparable(row["nominal"], before.get(row["key"]))
        if pair is None:
            continue
        compared += 1
        what, new, old = pair
        if new.median < (1 - REGRESSION) * old.median and new.high < old.low:
            change = new.median / old.median - 1
            lines.append(f"{row['key']}: {what} {new}, before {old}: {change:+.1%}")
    return lines, compared


def _comparable(
    new: Mapping[str, Any], old: Mapping[str, Any] | None
) -> tuple[str, Spread, Spread] | None:
    if old is None:
        return None
    if new["fraction_of_limit"] and old["fraction_of_limit"]:
        pair = new["fraction_of_limit"], old["fraction_of_limit"]
        return "of limit", Spread(**pair[0]), Spread(**pair[1])
    for peer, ratio in new["ratios"].items():
        if peer in old["ratios"]:
            return f"{peer} / dlcore", Spread(**ratio), Spread(**old["ratios"][peer])
    return None
