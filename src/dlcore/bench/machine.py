"""The machine that a bench runs on: its CPUs, its load, its settings."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

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
    first: list[int] = []
    second: list[int] = []
    seen = set()
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
    """Name the BLAS and OpenMP libraries loaded in this process, with kernels and thread counts.

    Empty where threadpoolctl is not installed.
    """
    try:
        from threadpoolctl import threadpool_info
    except ModuleNotFoundError:
        return ""
    found = []
    for library in threadpool_info():
        kernels = library.get("architecture")
        name = f"{library['internal_api']} ({kernels})" if kernels else library["internal_api"]
        found.append(f"{name} x {library['num_threads']}")
    return ", ".join(sorted(set(found)))
