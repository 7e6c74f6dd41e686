"""What every bench shares: contestants, alternating rounds, ratios with their spread, the limit.

The machines that benches run on are shared and noisy, so no time is quoted alone. Each contestant
lives in a process of its own, pinned to the same CPUs, and the processes take turns: A B C, C B A,
A B C, ... A round gives every contestant one turn, and ratios are taken within a round, where the
machine was in much the same state for both sides. Beside them stands the rate of register-only
fused multiply-adds on those CPUs, measured in the same rounds.

A bench subclasses `Contestant` once per library and drives a `Contest`::

    with Contest([Ours, Theirs], task, threads=2) as contest:
        contest.rounds(1)                  # compiles, warms up
        held = contest.rounds(5)
    ratios(held.seconds["theirs"], held.seconds["ours"])
"""

from __future__ import annotations

import contextlib
import gc
import importlib.metadata
import json
import math
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

SUBJECT = "dlcore"

# Settings that choose another kernel, thread count or waiting policy than the library itself would
# (OPENBLAS_CORETYPE of an old core halves numpy on an AVX-512 machine). A contestant runs without
# them; DLCORE_* stay, because forcing our own kernels is a legitimate question to a bench.
HOLDS_BACK = (
    "OPENBLAS_",
    "GOTO_",
    "OMP_",
    "GOMP_",
    "KMP_",
    "MKL_",
    "NVPL_",
    "BLIS_",
    "VECLIB_",
    "DNNL_",
    "ONEDNN_",
    "ATEN_",
    "TORCH",
    "PYTORCH_",
    "XLA_",
    "JAX_",
    "NPROC",
    "NPY_",
)


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

    @abstractmethod
    def turn(self, case: Any) -> None:
        """Do the work that is timed, to completion."""

    def result(self) -> Any:
        """Return what the parent judges the latest turn by."""
        return None


@dataclass(frozen=True)
class Rounds:
    """Each contestant's seconds and results, and the FMA peak (FLOP/s), one entry per round."""

    seconds: dict[str, list[float]]
    results: dict[str, list[Any]]
    peak: list[float]


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
        self._disturbed = self._foreign = 0.0
        self._workers: dict[str, _Worker] = {}
        self._rounds_held = 0
        self._peak = FmaPeak()
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

    def rounds(self, count: int, case: Any = None) -> Rounds:
        """Give each contestant `count` turns at `case`, in alternation."""
        held = Rounds({name: [] for name in self.names}, {name: [] for name in self.names}, [])
        begin, foreign = time.monotonic(), self._foreign_cpu_seconds()
        self._disturbed = 0.0
        for _ in range(count):
            held.peak.append(self._peak.measure(self.threads, self.cpus))
            for name in self.names if self._rounds_held % 2 == 0 else self.names[::-1]:
                held.seconds[name].append(self._turn(name, case))
                held.results[name].append(self._workers[name].ask("result"))
            self._rounds_held += 1
        available = (time.monotonic() - begin) * self.threads
        self._foreign = (self._foreign_cpu_seconds() - foreign) / available
        return held

    def remarks(self) -> list[str]:
        """Say what a reader of the latest rounds' figures should know."""
        remarks = []
        if self._peak.missing:
            remarks.append(f"FMA peak: skipped, {self._peak.missing}")
        if self._disturbed > 0.02:
            remarks.append(
                f"warning: waiting contestants used {self._disturbed:.0%} of the CPUs in one turn"
            )
        if self._foreign > 0.05:
            remarks.append(
                f"warning: other processes used {self._foreign:.0%} of the CPUs meanwhile; figures "
                "at several threads mean little when each waits for the slowest"
            )
        return remarks

    def close(self) -> None:
        for worker in self._workers.values():
            worker.close()
        self._peak.close()

    def _admit(self, contestant: type[Contestant], task: Any) -> None:
        worker = _Worker(contestant, task, self.threads, self.cpus)
        try:
            self.runs_on[contestant.name] = worker.ask("runs_on")
        except Unavailable as reason:
            self.skipped[contestant.name] = str(reason)
            worker.close()
        except BaseException:
            worker.close()
            raise
        else:
            self._workers[contestant.name] = worker

    def _turn(self, name: str, case: Any) -> float:
        self._wait_until_idle()
        others = [worker for other, worker in self._workers.items() if other != name]
        before = sum(worker.cpu_seconds() for worker in others)
        elapsed = self._workers[name].ask("turn", case)
        stolen = sum(worker.cpu_seconds() for worker in others) - before
        self._disturbed = max(self._disturbed, stolen / (elapsed * self.threads))
        return elapsed

    def _foreign_cpu_seconds(self) -> float:
        """CPU time that neither the contestants nor this process spent on the contest's CPUs."""
        ours = sum(worker.cpu_seconds() for worker in self._workers.values()) + sum(os.times()[:4])
        return busy_seconds(self.cpus) - ours

    def _wait_until_idle(self, limit: float = 5.0) -> None:
        """Wait for the threads of earlier turns to fall asleep.

        An idle OpenMP or BLAS thread spins for up to 200 ms before it sleeps. Shortening that by
        environment variables would slow the library that spins, so the others wait instead.
        """
        if sys.platform != "linux":
            time.sleep(0.3)
            return
        deadline = time.monotonic() + limit
        interval = 0.02
        before = math.inf
        while time.monotonic() < deadline:
            now = sum(worker.cpu_seconds() for worker in self._workers.values())
            if now - before < 0.05 * interval and now >= before:
                return
            before = now
            time.sleep(interval)


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
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _serve(pipe: Any, contestant_class: type[Contestant], threads: int) -> None:
    """Answer the parent's questions until it closes the pipe."""
    contestant = None
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
        pipe.send(answer)


def _timed_turn(contestant: Contestant, case: Any) -> float:
    gc.collect()
    begin = time.perf_counter()
    contestant.turn(case)
    return time.perf_counter() - begin


# --- the machine ---------------------------------------------------------------------------------


def clear_environment() -> list[str]:
    """Remove the variables of `HOLDS_BACK` for the processes started from now on; return them."""
    removed = [f"{name}={value}" for name, value in os.environ.items() if _holds_back(name)]
    for assignment in removed:
        del os.environ[assignment.partition("=")[0]]
    return removed


def _holds_back(name: str) -> bool:
    return name.startswith(HOLDS_BACK)


def usable_cpus() -> list[int]:
    """CPUs this process may run on, one of each physical core before any second one."""
    if not hasattr(os, "sched_getaffinity"):
        return list(range(os.cpu_count() or 1))
    first, second, seen = [], [], set()
    for cpu in sorted(os.sched_getaffinity(0)):
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        core = siblings.read_text() if siblings.exists() else str(cpu)
        (second if core in seen else first).append(cpu)
        seen.add(core)
    return first + second


def choose_cpus(threads: int) -> list[int]:
    usable = usable_cpus()
    if not 1 <= threads <= len(usable):
        raise ValueError(f"threads is {threads}, but this process may run on {len(usable)} CPUs")
    return usable[:threads]


def can_pin() -> bool:
    return hasattr(os, "sched_setaffinity")


@contextlib.contextmanager
def pinned(cpus: Sequence[int]) -> Iterator[None]:
    """Processes started inside run on `cpus` only (where the system can pin)."""
    if not can_pin():
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def busy_seconds(cpus: Sequence[int]) -> float:
    """Seconds that `cpus` were not idle since boot, time stolen by the host included (Linux)."""
    if sys.platform != "linux":
        return 0.0
    ticks = 0
    for line in Path("/proc/stat").read_text().splitlines():
        label, *fields = line.split()
        if label in {f"cpu{cpu}" for cpu in cpus}:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
            ticks += user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK")


class FmaPeak:
    """Measures the rate of register-only float32 multiply-adds, with fma_peak.c.

    Where no C compiler builds it, `measure` returns NaN and `missing` says so.
    """

    SOURCE = Path(__file__).with_name("fma_peak.c")
    SECONDS = 0.05

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fma_peak")
        self._program = Path(self._folder.name) / "fma_peak"
        self.missing = self._build()

    def _build(self) -> str | None:
        compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
        if compiler is None:
            return "no C compiler found"
        for native in ("-march=native", "-mcpu=native"):
            command = [compiler, "-std=c11", "-O3", "-ffp-contract=fast", native, "-pthread"]
            command += [str(self.SOURCE), "-o", str(self._program)]
            built = subprocess.run(command, capture_output=True, text=True)
            if built.returncode == 0:
                return None
        return f"{compiler} cannot build {self.SOURCE.name}: {built.stderr.strip()}"

    def measure(self, threads: int, cpus: Sequence[int]) -> float:
        """Return FLOP/s of `threads` threads pinned to `cpus`, two per multiply-add."""
        if self.missing:
            return math.nan
        with pinned(cpus):
            command = [str(self._program), str(threads), str(self.SECONDS)]
            measured = subprocess.run(command, capture_output=True, text=True, check=True)
        return float(measured.stdout)

    def close(self) -> None:
        self._folder.cleanup()


def describe_machine() -> dict[str, str]:
    return {
        "cpu": _cpu_model(),
        "cpus": str(len(usable_cpus())),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def version(package: str) -> str:
    return importlib.metadata.version(package)


def blas_in_use() -> str:
    """Name the BLAS and OpenMP libraries loaded in this process, with kernels and thread counts."""
    from threadpoolctl import threadpool_info

    found = []
    for library in threadpool_info():
        kernels = library.get("architecture")
        name = f"{library['internal_api']} ({kernels})" if kernels else library["internal_api"]
        found.append(f"{name} x {library['num_threads']}")
    return ", ".join(sorted(set(found)))


# --- figures -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of one figure over the rounds."""

    low: float
    median: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(low, median, high)

    def __str__(self) -> str:
        return f"{self.median:.3g} [{self.low:.3g}, {self.high:.3g}]"


def ratios(values: Sequence[float], base: Sequence[float]) -> Spread:
    """Spread of value / base, each pair taken from one round."""
    return Spread.of([value / other for value, other in zip(values, base, strict=True)])


def fraction_of_peak(flops: float, seconds: Sequence[float], peak: Sequence[float]) -> Spread:
    """Spread of the fraction of the FMA peak reached by turns of `flops` operations."""
    return ratios([flops / elapsed for elapsed in seconds], peak)


def loss_too_high(
    losses: Mapping[str, float], subject: str = SUBJECT, tolerance: float = 0.05
) -> str | None:
    """Say by how much the subject's loss exceeds the best, or None when it is within bounds.

    A loss that is not finite is never within bounds.
    """
    if subject not in losses:
        return None
    best = min((loss for loss in losses.values() if math.isfinite(loss)), default=math.nan)
    if losses[subject] <= (1 + tolerance) * best:
        return None
    return (
        f"{subject}'s training loss is {losses[subject]:.4f}, the best is {best:.4f}: "
        f"more than {tolerance:.0%} above"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format text columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    lines = []
    for row in (header, *rows):
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def write_json(path: str | os.PathLike[str], report: Mapping[str, Any]) -> None:
    Path(path).write_text(json.dumps(report, indent=2) + "\n")
