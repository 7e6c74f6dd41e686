"""Functions written in NumPy, compiled by dlcore, beside the peers.

    python bench/bench_graph.py
    python bench/bench_graph.py --threads 1 --rounds 9 --cases rosenbrock,chain

Cases:

- ``rosenbrock``: value and gradient in 100 dimensions, float64; the cost of a call.
- ``mlp``: value and gradient of a two-layer perceptron's loss for 128 rows, float32, as a traced
  function, beside the loss-and-gradient plan (no update) of the same `Sequential`.
- ``chain``: 20 elementwise operations on 1 Mi float32, four of them transcendental.
- ``arithmetic``: 20 additions and multiplications on 1 Mi float32.
- ``mean``: 20 elementwise operations on three arrays of 1 Mi float32, then the mean.
- ``hessian``: of a logistic regression's loss for 20 coefficients and 1000 rows, float64.
- ``jacobian``: of 1000 results for 20 arguments, float64; forward mode in all.

A turn is as many calls as the case says; each is complete when it returns.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dlcore.bench import contest, figures, machine
from dlcore.bench.contest import Contest, Contestant, Rounds, Unavailable

CALLS = {
    "rosenbrock": 2000,
    "mlp": 200,
    "chain": 20,
    "arithmetic": 20,
    "mean": 20,
    "hessian": 500,
    "jacobian": 500,
}
SIZE = 1 << 20
ROWS, WIDTHS = 128, (784, 256, 10)


def arrays(seed: int = 0) -> dict[str, np.ndarray]:
    """What the cases compute on."""
    rng = np.random.default_rng(seed)
    k, h, m = WIDTHS
    return {
        "point": rng.normal(size=100),
        "x": rng.uniform(0.5, 1.5, SIZE).astype(np.float32),
        "y": rng.uniform(0.5, 1.5, SIZE).astype(np.float32),
        "z": rng.uniform(0.5, 1.5, SIZE).astype(np.float32),
        "coefficients": rng.normal(size=20) / 5,
        "samples": rng.normal(size=(1000, 20)),
        "answers": rng.integers(0, 2, 1000).astype(float),
        "rows": rng.normal(size=(ROWS, k)).astype(np.float32),
        "targets": rng.normal(size=(ROWS, m)).astype(np.float32),
        "w1": rng.normal(size=(k, h)).astype(np.float32) / 28,
        "b1": rng.normal(size=h).astype(np.float32),
        "w2": rng.normal(size=(h, m)).astype(np.float32) / 16,
        "b2": rng.normal(size=m).astype(np.float32),
    }


# The functions, for any module with NumPy's names. Constants are floats of Python, which have the
# precision of the arrays in all of these libraries.


def rosenbrock(np: Any, x: Any) -> Any:
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def mlp(np: Any, w1: Any, b1: Any, w2: Any, b2: Any, x: Any, t: Any) -> Any:
    hidden = np.maximum(x @ w1 + b1, 0.0)
    return np.mean((hidden @ w2 + b2 - t) ** 2)


def chain(np: Any, x: Any) -> Any:
    y = np.exp(x * 0.5 - 1.0) + x
    y = np.sqrt(y * y + 1.0) - 0.5
    y = np.tanh(y * 0.25 + x) * y
    y = (y - x) * (y + x) + 0.125
    return np.log(y * y + 1.5) / (x + 2.0)


def arithmetic(np: Any, x: Any) -> Any:
    y = x
    for i in range(10):
        y = y * 0.75 + (0.1 + 0.01 * i)
    return y


def mean(np: Any, x: Any, y: Any, z: Any) -> Any:
    u = (x * y + z) * 0.5 - x / (y + 1.0)
    v = np.sqrt(u * u + z * z) * np.exp(-(x * 0.1)) + y * 0.25
    return np.mean((v - u) * (v - u) + np.abs(z - x) * 0.1)


def logistic(np: Any, w: Any, x: Any, t: Any) -> Any:
    z = x @ w
    return np.mean(np.log1p(np.exp(z)) - t * z)


def units(np: Any, w: Any, x: Any) -> Any:
    return np.tanh(x @ w)


FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "rosenbrock": (rosenbrock, ("point",)),
    "mlp": (mlp, ("w1", "b1", "w2", "b2", "rows", "targets")),
    "chain": (chain, ("x",)),
    "arithmetic": (arithmetic, ("x",)),
    "mean": (mean, ("x", "y", "z")),
    "hessian": (logistic, ("coefficients", "samples", "answers")),
    "jacobian": (units, ("coefficients", "samples")),
}
DIFFERENTIATED = {"rosenbrock": 0, "mlp": (0, 1, 2, 3)}
OF_FIRST_ARGUMENT = ("hessian", "jacobian")  # arrays of derivatives


class _Prepared(Contestant):
    """Calls prepared by case."""

    def __init__(self, task: dict[str, np.ndarray], threads: int) -> None:
        self.calls: dict[str, Callable[[], Any]] = {}
        self._latest: Any = None

    def turn(self, case: str) -> None:
        call = self.calls[case]
        for _ in range(CALLS[case]):
            self._latest = call()

    def result(self) -> list[np.ndarray]:
        """The value, and where there is one the gradient."""
        value = self._latest
        if not isinstance(value, tuple):
            return [np.asarray(value)]
        gradients = value[1] if isinstance(value[1], tuple | list) else [value[1]]
        return [np.asarray(value[0]), *map(np.asarray, gradients)]


class Dlcore(_Prepared):
    name = "dlcore"

    def __init__(self, task: dict[str, np.ndarray], threads: int) -> None:
        super().__init__(task, threads)
        import dlcore as dl

        dl.set_num_threads(threads)
        self._config = dl.config_info()
        for case, (f, names) in FUNCTIONS.items():
            given = [task[name] for name in names]

            def traced(*args: Any, f: Callable[..., Any] = f) -> Any:
                return f(np, *args)

            argnums = DIFFERENTIATED.get(case)
            run = dl.jit(traced) if argnums is None else dl.value_and_grad(traced, argnums)
            if case in OF_FIRST_ARGUMENT:
                run = dl.jit(getattr(dl, case)(traced))
            self.calls[case] = lambda run=run, given=given: run(*given)

    def runs_on(self) -> str:
        return "{version}, {isa}, {threads} threads".format_map(self._config)


class DlcoreSequential(_Prepared):
    """The loss and gradient of the layers' plan, without an update; only the case mlp."""

    name = "dlcore layers"

    def __init__(self, task: dict[str, np.ndarray], threads: int) -> None:
        super().__init__(task, threads)
        import dlcore as dl

        dl.set_num_threads(threads)
        k, h, m = WIDTHS
        model = dl.nn.Sequential(dl.nn.Linear(k, h), dl.nn.ReLU(), dl.nn.Linear(h, m)).init()
        names = {"0.weight": "w1", "0.bias": "b1", "2.weight": "w2", "2.bias": "b2"}

        def loss(parameters: Any, x: Any, t: Any) -> Any:
            prediction, _ = model.forward(parameters, x, training=True)
            return np.mean((prediction - t) ** 2)

        run = dl.value_and_grad(loss)
        parameters = {name: task[source] for name, source in names.items()}

        def call() -> tuple[Any, list[Any]]:
            value, gradient = run(parameters, task["rows"], task["targets"])
            return value, list(gradient.values())

        self.calls["mlp"] = call

    def runs_on(self) -> str:
        return "the same"


class NumPy(_Prepared):
    name = "numpy"

    def __init__(self, task: dict[str, np.ndarray], threads: int) -> None:
        super().__init__(task, threads)
        for case, (f, names) in FUNCTIONS.items():
            given = [task[name] for name in names]
            if case not in DIFFERENTIATED and case not in OF_FIRST_ARGUMENT:
                self.calls[case] = lambda f=f, given=given: f(np, *given)

    def runs_on(self) -> str:
        return f"{np.__version__}, 1 thread for elementwise functions"


class NumExpr(_Prepared):
    """The same expressions as text; constants are float32, as NumExpr's own would be float64."""

    name = "numexpr"

    def __init__(self, task: dict[str, np.ndarray], threads: int) -> None:
        super().__init__(task, threads)
        import numexpr

        numexpr.set_num_threads(threads)
        self._version, self._threads = numexpr.__version__, threads
        for case in ("chain", "arithmetic", "mean"):
            f, names = FUNCTIONS[case]
            constants: dict[str, np.float32] = {}
            text = f(_Text(constants), *(_Expression(n, constants) for n in names)).text
            known = {**constants, **{name: task[name] for name in names}}
            averages = case == "mean"

            def call(text: str = text, known: Any = known, averages: bool = averages) -> Any:
                result = numexpr.evaluate(text, known, {})
                return np.mean(result) if averages else result

            self.calls[case] = call

    def runs_on(self) -> str:
        return f"{self._version}, {self._threads} threads"


class _Expression:
    """Writes NumExpr's text for what is done with it."""

    def __init__(self, text: str, constants: dict[str, np.float32]):
        self.text, self.constants = text, constants

    def _binary(self, sign: str, left: Any, right: Any) -> _Expression:
        return _Expression(f"({self._term(left)} {sign} {self._term(right)})", self.constants)

    def _term(self, value: Any) -> str:
        if isinstance(value, _Expression):
            return value.text
        name = f"c{len(self.constants)}"
        self.constants[name] = np.float32(value)
        return name

    def __add__(self, other: Any) -> _Expression:
        return self._binary("+", self, other)

    def __sub__(self, other: Any) -> _Expression:
        return self._binary("-", self, other)

    def __mul__(self, other: Any) -> _Expression:
        return self._binary("*", self, other)

    def __truediv__(self, other: Any) -> _Expression:
        return self._binary("/", self, other)

    def __neg__(self) -> _Expression:
        return _Expression(f"(-{self.text})", self.constants)


class _Text:
    """NumPy's functions by their names in NumExpr; the mean is taken outside."""

    def __init__(self, constants: dict[str, np.float32]):
        self.constants = constants

    def __getattr__(self, name: str) -> Callable[[_Expression], _Expression]:
        if name == "mean":
            return lambda x: x
        return lambda x: _Expression(f"{name}({x.text})", self.constants)


class Torch(_Prepared):
    name = "torch"

    def __init__(self, task: dict[str, np.ndarray], threads: int) -> None:
        super().__init__(task, threads)
        import torch

        torch.set_num_threads(threads)
        self._torch = torch
        for case, (f, names) in FUNCTIONS.items():
            given = [torch.from_numpy(task[name].copy()) for name in names]
            argnums = DIFFERENTIATED.get(case)
            if case in OF_FIRST_ARGUMENT:
                transform = {"hessian": torch.func.hessian, "jacobian": torch.func.jacfwd}[case]
                derivative = transform(functools.partial(f, torch))
                self.calls[case] = lambda derivative=derivative, given=given: derivative(*given)
            elif argnums is None:
                self.calls[case] = lambda f=f, given=given: f(torch, *given)
            else:
                self.calls[case] = self._with_gradient(f, given, argnums)

    def _with_gradient(self, f: Any, given: list[Any], argnums: Any) -> Callable[[], Any]:
        wanted = [given[i] for i in ([argnums] if isinstance(argnums, int) else argnums)]
        for tensor in wanted:
            tensor.requires_grad_()
        relu = argnums != 0

        def call() -> Any:
            torch = self._torch
            value = f(_TorchNames if relu else torch, *given)
            return value.detach(), torch.autograd.grad(value, wanted)

        return call

    def runs_on(self) -> str:
        torch = self._torch
        capability = torch.backends.cpu.get_cpu_capability()
        return f"{torch.__version__}, {capability}, {torch.get_num_threads()} threads"


class _TorchNames:
    """torch.maximum takes no numbers."""

    @staticmethod
    def maximum(x: Any, bound: float) -> Any:
        return x.clamp_min(bound)

    @staticmethod
    def mean(x: Any) -> Any:
        return x.mean()


class Jax(_Prepared):
    """Jitted, with arguments that are JAX's arrays already; waits for every result."""

    name = "jax"

    def __init__(self, task: dict[str, np.ndarray], threads: int) -> None:
        super().__init__(task, threads)
        if not machine.can_pin() and threads != len(machine.usable_cpus()):
            raise Unavailable("XLA's threads can be limited by CPU affinity only, which is missing")
        os.environ["JAX_PLATFORMS"] = "cpu"
        import jax

        jax.config.update("jax_enable_x64", True)
        self._jax = jax
        for case, (f, names) in FUNCTIONS.items():
            given = [jax.device_put(task[name]) for name in names]

            def traced(*args: Any, f: Callable[..., Any] = f) -> Any:
                return f(jax.numpy, *args)

            argnums = DIFFERENTIATED.get(case)
            run = jax.jit(traced if argnums is None else jax.value_and_grad(traced, argnums))
            if case in OF_FIRST_ARGUMENT:
                transform = {"hessian": jax.hessian, "jacobian": jax.jacfwd}[case]
                run = jax.jit(transform(traced))
            self.calls[case] = lambda run=run, given=given: jax.block_until_ready(run(*given))

    def runs_on(self) -> str:
        return f"{self._jax.__version__}, {self._jax.devices()}, {len(machine.usable_cpus())} CPUs"


CONTESTANTS: dict[str, type[_Prepared]] = {
    c.name: c for c in (Dlcore, DlcoreSequential, NumPy, NumExpr, Torch, Jax)
}
# Who takes part in which case.
ENTRIES = {
    "rosenbrock": ["dlcore", "torch", "jax"],
    "mlp": ["dlcore", "dlcore layers", "torch", "jax"],
    "chain": ["dlcore", "numpy", "numexpr", "torch", "jax"],
    "arithmetic": ["dlcore", "numpy", "numexpr", "torch", "jax"],
    "mean": ["dlcore", "numpy", "numexpr", "torch", "jax"],
    "hessian": ["dlcore", "torch", "jax"],
    "jacobian": ["dlcore", "torch", "jax"],
}


def run(case: str, threads: int, rounds: int) -> dict[str, Any]:
    """Hold the contest of one case at one thread count, print it, and return it."""
    classes = [CONTESTANTS[name] for name in ENTRIES[case]]
    with Contest(classes, arrays(), threads) as held:
        print(f"\n{case}, {threads} thread{'s' * (threads > 1)} on CPU {held.cpus}")
        for name, report in held.runs_on.items():
            print(f"  {name}: {report}")
        for name, reason in held.skipped.items():
            print(f"  {name}: skipped, {reason}")
        if contest.SUBJECT in held.skipped:
            raise Unavailable(f"{contest.SUBJECT}: {held.skipped[contest.SUBJECT]}")
        held.rounds(1, case)
        measured = held.rounds(rounds, case)
        remarks = held.remarks()
    print_table(case, measured)
    for remark in remarks:
        print(remark)
    return {
        "case": case,
        "threads": threads,
        "runs_on": held.runs_on,
        "skipped": held.skipped,
        "seconds": measured.seconds,
        "error": errors(measured),
        "remarks": remarks,
    }


def errors(measured: Rounds) -> dict[str, float]:
    """The largest difference of each contestant's results from dlcore's, relative to them."""
    base = measured.results[contest.SUBJECT][-1]
    found = {}
    for name, results in measured.results.items():
        pairs = zip(results[-1], base, strict=True)
        found[name] = max(
            float(np.max(np.abs(a - b)) / np.max(np.abs(b)))
            for a, b in ((x.astype(float), y.astype(float)) for x, y in pairs)
        )
    return found


def print_table(case: str, measured: Rounds) -> None:
    base = measured.seconds[contest.SUBJECT]
    differences = errors(measured)
    rows = [
        (
            name,
            str(figures.Spread.of([1e6 * elapsed / CALLS[case] for elapsed in seconds])),
            str(figures.ratios(seconds, base)),
            f"{differences[name]:.1e}",
        )
        for name, seconds in measured.seconds.items()
    ]
    print(figures.table(("", "us a call", "time / dlcore", "difference"), rows))


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11, help="timed rounds (default 11)")
    parser.add_argument("--threads", default="1,2", help="default 1,2")
    parser.add_argument("--cases", default=",".join(CALLS), help=f"default {','.join(CALLS)}")
    parser.add_argument("--json", metavar="FILE", help="also write every measured value to FILE")
    options = parser.parse_args(arguments)
    options.threads = [int(count) for count in options.threads.split(",")]
    options.cases = options.cases.split(",")
    for case in options.cases:
        if case not in CALLS:
            parser.error(f"{case} is none of {', '.join(CALLS)}")
    return options


def main() -> int:
    options = parse_arguments()
    cleared = machine.clear_environment()
    described = machine.describe_machine()
    print(", ".join(described.values()))
    print(f"removed from the environment: {' '.join(cleared) or 'nothing'}")
    try:
        runs = [
            run(case, threads, options.rounds)
            for case in options.cases
            for threads in options.threads
        ]
    except Unavailable as reason:
        print(reason, file=sys.stderr)
        return 2
    if options.json:
        figures.write_json(options.json, {"machine": described, "runs": runs})
    return 0


if __name__ == "__main__":
    sys.exit(main())
