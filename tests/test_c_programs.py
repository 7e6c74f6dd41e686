"""The program in C that tests what libdlcore exports, against the library that is installed.

``nox -s c_tests`` also builds and runs the program that tests the kernels one by one: that takes
a build of all kernels, a minute, as the library does not export their table.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import dlcore

ROOT = Path(__file__).parents[1]
SOURCES = ("arrays", "checks", "library", "library_ops", "map_reference", "products")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        pytest.skip("there is no C compiler")
    output = tmp_path_factory.mktemp("c") / "library"
    library = dlcore.get_library_dir()
    subprocess.run(
        [
            compiler,
            *("-std=gnu11", "-O1", "-ffp-contract=off"),
            *(f"-I{ROOT / directory}" for directory in ("csrc", "csrc/include")),
            *(ROOT / "tests" / "c" / f"{name}.c" for name in SOURCES),
            *(f"-L{library}", f"-Wl,-rpath,{library}", "-ldlcore", "-lm"),
            *("-o", output),
        ],
        check=True,
    )
    return output


def test_the_library_passes_its_tests_in_c(program):
    """Products, instructions, reductions, losses, steps and random arrays, called from C."""
    run = subprocess.run([program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "checks, 0 failures" in run.stdout
