"""What this build is and runs on."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import dlcore
from dlcore import _native

if TYPE_CHECKING:
    from dlcore.graph.schedule import ScheduleName

# Debug flags, for plans that are compiled from then on. False gives every node of a graph an op of
# its own:
fusion = True
# False keeps apart a gradient and the optimiser step that takes it:
update_in_store = True
# "row-block" or "whole-batch" takes that schedule whatever the cost model says:
schedule: ScheduleName = "auto"

# Whether models that predict again and again keep their weights packed, which takes as much memory
# again; see Sequential.predict.
pack_weights = True

# Whether every tracing of a function is logged, as a warning of the logger "dlcore".
log_traces = False
# How many plans of traced functions are kept.
max_plans = 256


def plan_flags() -> tuple[bool, bool, str]:
    """The debug flags, which plans depend on."""
    return fusion, update_in_store, schedule


def config_info() -> dict[str, str]:
    """Version, kernels, threads and libraries, by name.

    "bfloat16" says what products with ``compute="bfloat16"`` are made of: "amx" where the CPU
    has matrix registers for them (Intel's Xeons from Sapphire Rapids on), "native" where it has
    an instruction for vectors (AMD from Zen 4 on, about twice as fast as float32; on Intel slower
    than float32), "emulated", which is slower than float32. AMX is left out where ``DLCORE_ISA``
    names an instruction set, and where the system refuses it, as Linux does while a thread has
    a stack for signals that is too small. It is asked for by the first product in bfloat16,
    packed matrix or call of this function.

    Returns
    -------
    dict of str to str

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.config_info()["version"]
    '0.1.0'
    """
    return {
        "version": dlcore.__version__,
        "isa": _native.isa_name(),
        "isa available": " ".join(_native.isa_available()),
        "bfloat16": _native.bfloat16_kind(),
        "threads": str(_native.get_num_threads()),
        "openmp": _native.openmp_version(),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "library": get_library_dir(),
    }


def show_config() -> None:
    """Prints :func:`config_info`, a line each."""
    info = config_info()
    width = max(map(len, info))
    for name, value in info.items():
        print(f"{name:<{width}}  {value}")


def get_include() -> str:
    """The directory of ``dlcore.h``, for C compilers."""
    return str(_installed("include"))


def get_library_dir() -> str:
    """The directory of the shared library ``libdlcore``, for linkers."""
    return str(_installed("lib"))


def _installed(name: str) -> Path:
    # Beside the compiled module: in an editable install that is not where the sources are.
    return Path(_native.__file__).parent / name
