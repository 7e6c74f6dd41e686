"""All suites of the bench: who meets in them, and over which rows."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dlcore.bench import inference, libraries, peers, rows, scale, trainers, training
from dlcore.bench.contest import Contestant
from dlcore.bench.goals import Row


@dataclass(frozen=True, eq=False)
class Field:
    """Contestants that meet over some rows.

    Attributes
    ----------
    subject : dlcore
    peers : by name
    by_default : whether its suites are run where none is named
    """

    subject: type[Contestant]
    rows: Sequence[Row]
    peers: Mapping[str, type[Contestant]] = field(default_factory=dict)
    by_default: bool = True

    @property
    def suites(self) -> list[str]:
        return list(dict.fromkeys(row.suite for row in self.rows))


KERNELS = Field(libraries.Dlcore, rows.ROWS, peers.PEERS)
TRAINING = Field(trainers.Dlcore, training.ROWS, trainers.PEERS)
INFERENCE = Field(inference.Dlcore, inference.ROWS, inference.PEERS)
SCALE = Field(trainers.Dlcore, scale.ROWS, by_default=False)

FIELDS = (KERNELS, TRAINING, INFERENCE, SCALE)
SUITES: tuple[str, ...] = tuple(suite for field in FIELDS for suite in field.suites)
PEERS: tuple[str, ...] = tuple(dict.fromkeys(name for field in FIELDS for name in field.peers))

Chosen = list[tuple[Field, list[Row]]]


def choose_rows(suites: Sequence[str], pattern: str | None, quick: bool) -> Chosen:
    """The rows of some suites whose names have words that match `pattern`, with * and ?."""
    chosen = [
        (field, [row for row in field.rows if _is_chosen(row, field, suites, pattern, quick)])
        for field in FIELDS
    ]
    return [(field, rows) for field, rows in chosen if rows]


def _is_chosen(
    row: Row, field: Field, suites: Sequence[str], pattern: str | None, quick: bool
) -> bool:
    named = row.suite in suites if suites else field.by_default
    matches = pattern is None or fnmatch.fnmatchcase(f" {row.name} ", f"* {pattern} *")
    return named and matches and not (quick and row.heavy)
