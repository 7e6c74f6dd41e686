"""What every bench shares: contestants that take turns in processes of their own.

The machines that benches run on are shared and noisy, so no time is quoted alone. Each contestant
lives in a process of its own, pinned to the same CPUs, and the processes take turns: A B C, C B A,
A B C, ... A round gives every contestant one turn, and ratios are taken within a round, where the
machine was in much the same state for both sides. The processes that wait are stopped: the threads
of a library may go on spinning for 200 ms after its last call.

What the machine can do at most is measured in dlcore's process, right beside its turn.

A bench subclasses `Contestant` once per library and drives a `Contest`::

    with Contest([Ours, Theirs], task, threads=2) as contest:
        contest.rounds(1)                  # compiles, warms up
        held = contest.rounds(5)
    ratios(held.seconds["theirs"], held.seconds["ours"])
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import signal
import sys
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from dlcore.bench.machine import busy_seconds, choose_cpus, pinned

SUBJECT = "dlcore"


class Unavailable(Exception):
    """A contestant cannot take part here; the message says why."""


class ContestantError(RuntimeError):
    """A contestant raised or died; the message holds its traceback."""


class Contestant(ABC):
    """One library's way of doing the bench's task.

    Instances are made, and all methods called, in a process of their own that no other contestant
    shares; import the library in `__init__`. A `ModuleNotFoundError` or `Unavailable` raised there
    leaves the contestant out, by name.
    """

    name: ClassVar[str]

    @abstractmethod
    def __init__(self, task: Any, threads: int) -> None: ...

    @abstractmethod
    def runs_on(self) -> str:
        """Return version, kernels and threads as the library itself reports them."""

    def before_turn(self, case: Any) -> None:  # noqa: B027, most have nothing to do here
        """Do what is not timed: wake threads, fill caches."""

    @abstractmethod
    def turn(self, case: Any) -> float | None:
        """Do the work that is timed, to completion; return its seconds where that took others."""

    def result(self) -> Any:
        """Return what the parent judges the latest turn by."""
        return None

    def limits(self, case: Any) -> dict[str, float]:
        """Measure what the machine can do at most for the case; the subject is asked each round."""
        return {}


@dataclass(frozen=True)
class Rounds:
    """Each contestant's seconds and results, and the limits, one entry per round."""

    seconds: dict[str, list[float]]
    results: dict[str, list[Any]]
    limits: list[dict[str, float]] = field(default_factory=list)


class Contest:
    """Contestants in their own processes, on the same CPUs, taking turns.

    Parameters
    ----------
    contestants : classes of the contestants, importable by name
    task : picklable, handed to each contestant
    threads : CPUs that each contestant may use, and the thread count it is told

    Attributes
    ----------
    cpus : the CPUs used
    runs_on : dict, name -> what the library reports to run on
    skipped : dict, name -> why the contestant does not take part
    """

    def __init__(self, contestants: Sequence[type[Contestant]], task: Any, threads: int) -> None:
        self.threads = threads
        self.cpus = choose_cpus(threads)
        self.runs_on: dict[str, str] = {}
        self.skipped: dict[str, str] = {}
        self._foreign = 0.0
        self._workers: dict[str, _Worker] = {}
        self._rounds_held = 0
        try:
            for contestant in contestants:
                self._admit(contestant, task)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Contest:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def names(self) -> list[str]:
        return list(self._workers)

    def ask(self, name: str, method: str, *arguments: Any) -> Any:
        """Call a method of one contestant, while the others are stopped."""
        with self._workers[name].awake() as worker:
            return worker.ask(method, *arguments)

    def rounds(self, count: int, case: Any = None, names: Sequence[str] | None = None) -> Rounds:
        """Give each contestant, or those of `names`, `count` turns at `case`, in alternation."""
        names = self.names if names is None else list(names)
        held = Rounds({name: [] for name in names}, {name: [] for name in names})
        begin, foreign = time.monotonic(), self._foreign_cpu_seconds()
        for _ in range(count):
            forwards = self._rounds_held % 2 == 0
            for name in names if forwards else names[::-1]:
                with self._workers[name].awake() as worker:
                    held.seconds[name].append(worker.ask("turn", case))
                    held.results[name].append(worker.ask("result"))
                    if name == SUBJECT:
                        held.limits.append(worker.ask("limits", case))
            self._rounds_held += 1
        available = (time.monotonic() - begin) * self.threads
        self._foreign = (self._foreign_cpu_seconds() - foreign) / available
        return held

    @property
    def foreign(self) -> float:
        """Part of the CPUs that processes outside the bench used in the latest rounds."""
        return self._foreign

    def remarks(self) -> list[str]:
        """Say what a reader of the latest rounds' figures should know."""
        return foreign_remarks(self._foreign)

    def close(self) -> None:
        for worker in self._workers.values():
            worker.close()

    def _admit(self, contestant: type[Contestant], task: Any) -> None:
        worker = _Worker(contestant, task, self.threads, self.cpus)
        try:
            with worker.awake():
                self.runs_on[contestant.name] = worker.ask("runs_on")
        except Unavailable as reason:
            self.skipped[contestant.name] = str(reason)
            worker.close()
        except BaseException:
            worker.close()
            raise
        else:
            self._workers[contestant.name] = worker

    def _foreign_cpu_seconds(self) -> float:
        """CPU time that neither the contestants nor this process spent on the contest's CPUs."""
        ours = sum(worker.cpu_seconds() for worker in self._workers.values()) + sum(os.times()[:4])
        return busy_seconds(self.cpus) - ours


def foreign_remarks(foreign: float) -> list[str]:
    """Warn when processes outside the bench used the part `foreign` of its CPUs."""
    if foreign <= 0.05:
        return []
    return [
        f"warning: other processes used {foreign:.0%} of the CPUs meanwhile; figures "
        "at several threads mean little when each waits for the slowest"
    ]


class _Worker:
    """A contestant's process, seen from the parent."""

    def __init__(
        self, contestant: type[Contestant], task: Any, threads: int, cpus: Sequence[int]
    ) -> None:
        self.name = contestant.name
        # A fresh interpreter: nothing imported, no threads inherited. It starts pinned, because
        # OpenBLAS and XLA count the CPUs they may use when they load.
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(
            target=_serve, args=(theirs, contestant, threads), name=self.name, daemon=True
        )
        with pinned(cpus):
            self._process.start()
        theirs.close()
        self._pipe.send(task)

    @contextlib.contextmanager
    def awake(self) -> Iterator[_Worker]:
        """Let the process run; it is stopped, threads and all, at the end."""
        self._signal(signal.SIGCONT)
        try:
            yield self
        finally:
            self._signal(signal.SIGSTOP)

    def _signal(self, number: signal.Signals) -> None:
        if self._process.pid is not None and self._process.is_alive():
            os.kill(self._process.pid, number)

    def ask(self, method: str, *arguments: Any) -> Any:
        try:
            self._pipe.send((method, arguments))
            outcome, answer = self._pipe.recv()
        except (EOFError, ConnectionError) as lost:
            self._process.join(10)
            raise ContestantError(
                f"{self.name} died with exit code {self._process.exitcode}"
            ) from lost
        if outcome == "unavailable":
            raise Unavailable(answer)
        if outcome == "error":
            raise ContestantError(f"{self.name} failed\n{answer}")
        return answer

    def cpu_seconds(self) -> float:
        """CPU time of all threads so far (Linux; 0 elsewhere)."""
        if sys.platform != "linux" or self._process.pid is None:
            return 0.0
        # What clock_getcpuclockid(3) computes: the per-process CPU clock of another process.
        return time.clock_gettime((~self._process.pid << 3) | 2)

    def close(self) -> None:
        self._pipe.close()
        self._signal(signal.SIGCONT)
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _serve(pipe: Any, contestant_class: type[Contestant], threads: int) -> None:
    """Answer the parent's questions until it closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    _die_with_parent()
    contestant = None
    answer: tuple[str, Any]
    task = pipe.recv()
    while True:
        try:
            method, arguments = pipe.recv()
        except EOFError:
            return
        try:
            if contestant is None:
                contestant = contestant_class(task, threads)
                del task
                # The modules stay; looking through them before each turn would take longer than it.
                gc.collect()
                gc.freeze()
            if method == "turn":
                answer = ("ok", _timed_turn(contestant, *arguments))
            else:
                answer = ("ok", getattr(contestant, method)(*arguments))
        except Unavailable as reason:
            answer = ("unavailable", str(reason))
        except ModuleNotFoundError as missing:
            answer = ("unavailable", f"{missing.name} is not installed")
        except Exception:
            answer = ("error", traceback.format_exc())
        try:
            pipe.send(answer)
        except ConnectionError:  # the parent was interrupted and waits no longer
            return


def _die_with_parent() -> None:
    """Have the kernel end this process when its parent is killed (Linux): a stopped process does
    not see its pipe closed."""
    if sys.platform == "linux":
        import ctypes

        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def _timed_turn(contestant: Contestant, case: Any) -> float:
    gc.collect()
    contestant.before_turn(case)
    begin = time.perf_counter()
    timed = contestant.turn(case)
    return time.perf_counter() - begin if timed is None else timed
