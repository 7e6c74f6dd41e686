"""Tasks of development; ``nox -l`` lists them, CONTRIBUTING.md says when to run which."""

import os
import shlex
import shutil
import subprocess

import nox

nox.needs_version = ">=2024.3"
nox.options.sessions = ["lint", "tests"]
nox.options.reuse_existing_virtualenvs = True

BUILD_REQUIREMENTS = ("scikit-build-core>=0.11", "Cython>=3.1", "numpy>=2", "cmake>=3.26", "ninja")


@nox.session(venv_backend="none")
def dev(session: nox.Session) -> None:
    """An editable install in .venv; C and Cython are compiled again at import when they changed."""
    session.run("python3", "-m", "venv", ".venv")
    pip = os.path.join(".venv", "bin", "pip")
    session.run(pip, "install", *BUILD_REQUIREMENTS)
    # cmake and ninja have to be found at import: without isolation they are those of .venv
    env = {"PATH": os.path.abspath(".venv/bin") + os.pathsep + os.environ["PATH"]}
    options = [
        "--no-build-isolation",
        "-Cbuild-dir=build/{wheel_tag}",
        "-Ceditable.rebuild=true",
        "-Ceditable.verbose=false",  # an import prints nothing: programs read our stdout
    ]
    session.run(pip, "install", *options, "-e", ".[dev]", env=env)
    session.log("now run: . .venv/bin/activate")


@nox.session
def tests(session: nox.Session) -> None:
    """The tests on every instruction set of this machine; arguments go to pytest."""
    session.install(".[test]")
    for isa in _available_isas(session):
        session.run("pytest", *session.posargs, env={"DLCORE_ISA": isa})


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff, by the hooks that run before a commit, and mypy."""
    session.install("pre-commit", "mypy", "numpy>=2")
    session.run("pre-commit", "run", "--all-files", "--show-diff-on-failure")
    session.run("mypy")


@nox.session
def bench(session: nox.Session) -> None:
    """Kernels, training and inference beside the peers; arguments go to ``dlcore bench``."""
    session.install(".[bench]")
    session.run("dlcore", "bench", *session.posargs)


@nox.session
def sanitize(session: nox.Session) -> None:
    """The tests of the core with address and undefined-behaviour checks in it."""
    session.install(
        "-Ccmake.define.DLC_SANITIZE=address;undefined",
        "-Ccmake.build-type=RelWithDebInfo",
        ".[test]",
    )
    compiler = [*shlex.split(os.environ.get("CC", "cc")), "-print-file-name=libasan.so"]
    env = {
        # Python is not instrumented, so that the runtime has to be there before it starts.
        "LD_PRELOAD": subprocess.check_output(compiler, text=True).strip(),
        # Python itself leaks by design.
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    }
    names = ("ops", "random", "gemm", "map", "plan", "plan_ops", "plan_gemm_step", "updates")
    core = [f"tests/test_{name}.py" for name in names]
    session.run("pytest", *(session.posargs or core), env=env)


@nox.session
def c_tests(session: nox.Session) -> None:
    """The core's tests in C on every instruction set of this machine; arguments go to ctest."""
    _run_c_tests(session)


@nox.session
def neon(session: nox.Session) -> None:
    """The core's tests in C on AArch64: cross-compiled, and run by qemu; arguments go to ctest."""
    found = {
        "gcc-aarch64-linux-gnu": shutil.which("aarch64-linux-gnu-gcc"),
        "libc6-dev-arm64-cross": os.path.exists("/usr/aarch64-linux-gnu/include/stdio.h"),
        "qemu-user": shutil.which("qemu-aarch64"),
    }
    missing = [package for package, is_there in found.items() if not is_there]
    if missing:
        session.error(f"Debian packages are missing: apt install {' '.join(missing)}")
    _run_c_tests(session, "-DCMAKE_TOOLCHAIN_FILE=cmake/aarch64-linux-gnu.cmake")


def _run_c_tests(session: nox.Session, *options: str) -> None:
    session.install("cmake>=3.26", "ninja")
    build = os.path.join("build", session.name)
    switches = ["-DDLC_PYTHON=OFF", "-DDLC_TESTS=ON", "-DDLC_WERROR=ON"]
    session.run("cmake", "-S", ".", "-B", build, "-G", "Ninja", *switches, *options)
    session.run("cmake", "--build", build)
    session.run("ctest", "--test-dir", build, "--output-on-failure", *session.posargs)


def _available_isas(session: nox.Session) -> list[str]:
    program = "from dlcore import _native; print(*_native.isa_available())"
    names = session.run("python", "-c", program, silent=True)
    return str(names).split()
