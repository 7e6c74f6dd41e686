"""A row of the bench, whatever it measures, and what it should reach."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

Sizes = tuple[int, ...]

PerThreads = float | tuple[float | None, float | None] | None
"""A number for all thread counts, or one at one thread and one at more; None is no goal."""


def at_threads(goal: PerThreads, threads: int) -> float | None:
    return goal[min(threads, 2) - 1] if isinstance(goal, tuple) else goal


@dataclass(frozen=True)
class Goal:
    """What a row should reach.

    Attributes
    ----------
    fraction : of the limit
    vs : peer -> time of the peer / time of dlcore; "best" is the fastest peer that takes part
    ratio_decides : whether ratios that are met make up for a fraction that is not
    seconds : dlcore's time, at most
    """

    fraction: PerThreads = None
    vs: Mapping[str, PerThreads] = field(default_factory=dict)
    ratio_decides: bool = False
    seconds: float | None = None

    def fraction_at(self, threads: int) -> float | None:
        return at_threads(self.fraction, threads)

    def ratios(self, threads: int) -> dict[str, float]:
        """Those that are asked for at a thread count, by peer."""
        found = {peer: at_threads(goal, threads) for peer, goal in self.vs.items()}
        return {peer: goal for peer, goal in found.items() if goal is not None}

    def text(self, threads: int) -> str:
        fraction = self.fraction_at(threads)
        parts = [] if fraction is None else [f"{fraction:g} of limit"]
        parts += [f"{peer} {ratio:g}" for peer, ratio in self.ratios(threads).items()]
        if self.seconds is not None:
            parts.append(f"{1e3 * self.seconds:g} ms")
        return ", ".join(parts) or "-"


class Measurable(Protocol):
    """What a contestant is sent: a row at one size. `flops` and `bytes` are those of a call."""

    @property
    def flops(self) -> int: ...

    @property
    def bytes(self) -> int: ...


@dataclass(frozen=True)
class Row(ABC):
    """What a line of a table is about.

    Attributes
    ----------
    limit : what its time is held against; the subject measures it
    dtypes : those it is measured in where none is asked for
    heavy : left out of quick runs
    patience : seconds after which a size gets fewer rounds
    """

    suite: str
    name: str
    op: str
    sizes: Sizes
    limit: str
    goal: Goal = Goal()
    dtypes: tuple[str, ...] = ("float32",)
    heavy: bool = False

    patience: ClassVar[float]

    @property
    @abstractmethod
    def in_flops(self) -> bool:
        """Whether its rate is quoted as FLOP/s, not bytes/s."""

    @property
    def needs_bfloat16(self) -> bool:
        """Whether it is left out where bfloat16 is emulated."""
        return self.limit == "bfloat16"

    @abstractmethod
    def dtypes_of(self, asked: Sequence[str] | None) -> list[str]:
        """The dtypes it is measured in where some are asked for."""

    @abstractmethod
    def case(self, sizes: Sizes, dtype: str, seed: int, seconds: float) -> Measurable:
        """What contestants are sent, for turns of so many seconds where they repeat a call."""

    @abstractmethod
    def tolerance(self, sizes: Sizes, dtype: str) -> float:
        """The error of a result that rounding explains."""

    def drawn(self, seed: int) -> list[Sizes]:
        """Sizes near the nominal ones that it is repeated at."""
        return []

    def data(self) -> str:
        """What it computes on, where that depends on the machine or is worth a line."""
        return ""

    def losses(self, case: Any, results: Mapping[str, Sequence[Any]]) -> dict[str, list[float]]:
        """Of what each contestant trained, after each round; empty where nothing is trained."""
        return {}
