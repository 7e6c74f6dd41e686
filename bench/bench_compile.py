"""Milliseconds from nothing to a loaded plan: building a graph, differentiating it, compiling it.

CPU time, since all of it runs on one thread and machines are shared. Each graph is a chain; beside
the time stands how it grew from the shorter chain of the same kind, relative to the growth of the
chain: 1 is linear.

    python bench/bench_compile.py
    python bench/bench_compile.py --runs 20 --graphs perceptron,layers
"""

from __future__ import annotations

import argparse
import gc
import sys
import time
from collections.abc import Callable

import numpy as np

from dlcore.bench.figures import Spread
from dlcore.bench.machine import describe_machine
from dlcore.graph import table  # noqa: F401
from dlcore.graph.gradient import gradient
from dlcore.graph.lower import CompiledPlan, compile_plan
from dlcore.graph.shape import ROWS, Shape
from dlcore.graph.table.shaping import reduce
from dlcore.graph.tensor import Slot, SlotKind, Tensor, apply, leaf

WIDTH = 8
CAPACITY = 64
FLOAT = np.dtype(np.float32)

Graph = tuple[Tensor, list[Tensor]]  # a scalar, and what to differentiate it for


def _leaf(name: str, *shape: int) -> Tensor:
    return leaf(Slot(name, "fixed", FLOAT, shape))


def _rows() -> Tensor:
    return leaf(Slot("x", "stream", FLOAT, (ROWS, WIDTH)))


def perceptron(n: int) -> Graph:
    """n layers of 8 units, relu between them, mean softmax cross-entropy."""
    y = _rows()
    parameters: list[Tensor] = []
    for i in range(n):
        w, b = _leaf(f"w{i}", WIDTH, WIDTH), _leaf(f"b{i}", WIDTH)
        y = (apply("relu", y) if i else y) @ w + b
        parameters += [w, b]
    labels = leaf(Slot("labels", "stream", np.dtype(np.int64), (ROWS,)))
    return reduce("mean", apply("softmax_cross_entropy", y, labels)), parameters


def layers(n: int) -> Graph:
    """x = tanh(x @ w_i + b_i)"""
    y = _rows()
    parameters: list[Tensor] = []
    for i in range(n):
        w, b = _leaf(f"w{i}", WIDTH, WIDTH), _leaf(f"b{i}", WIDTH)
        y = apply("tanh", y @ w + b)
        parameters += [w, b]
    return reduce("sum", y), parameters


def residual(n: int) -> Graph:
    """x = x + tanh(x @ w_i)"""
    y = _rows()
    parameters: list[Tensor] = []
    for i in range(n):
        w = _leaf(f"w{i}", WIDTH, WIDTH)
        y = y + apply("tanh", y @ w)
        parameters.append(w)
    return reduce("sum", y), parameters


def elementwise(n: int) -> Graph:
    """n elementwise ops in a row"""
    x = y = _rows()
    for i in range(n):
        y = apply(("tanh", "exp", "negative", "sigmoid")[i % 4], y)
    return reduce("sum", y), [x]


def shared(n: int) -> Graph:
    """n ops: x @ w and relu in turns, with one w"""
    y, w = _rows(), _leaf("w", WIDTH, WIDTH)
    for _ in range(n // 2):
        y = apply("relu", y @ w)
    return reduce("sum", y), [w]


CASES: dict[str, tuple[Callable[[int], Graph], tuple[int, ...]]] = {
    "perceptron": (perceptron, (2,)),
    "layers": (layers, (100, 1000, 10_000)),
    "residual": (residual, (100, 1000, 10_000)),
    "elementwise": (elementwise, (100, 1000, 10_000)),
    "shared": (shared, (100, 1000, 10_000)),
}


def compiled(make: Callable[[int], Graph], n: int) -> CompiledPlan:
    """The plan that computes the value and its gradients, each into a slot."""
    value, parameters = make(n)
    outputs = [value, *gradient(value, parameters)]
    return compile_plan(
        [(_output(f"out{i}", node.shape), node) for i, node in enumerate(outputs)],
        capacity=CAPACITY,
    )


def _output(name: str, shape: Shape) -> Slot:
    kind: SlotKind = "stream" if shape[:1] == (ROWS,) else "fixed"
    return Slot(name, kind, FLOAT, shape, True)


def milliseconds(make: Callable[[int], Graph], n: int, runs: int) -> tuple[Spread, int]:
    """Of so many runs after one that warms up, and the number of op records."""
    times = []
    records = len(compiled(make, n).records)
    for _ in range(runs):
        gc.collect()
        start = time.process_time()
        plan = compiled(make, n)
        times.append((time.process_time() - start) * 1e3)
        del plan
    return Spread.of(times), records


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=7, help="timed runs of each graph")
    parser.add_argument(
        "--graphs", type=lambda text: text.split(","), default=list(CASES), help=", ".join(CASES)
    )
    options = parser.parse_args()
    if unknown := set(options.graphs) - set(CASES):
        parser.error(f"no such graph: {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    if options.runs < 1:
        parser.error(f"--runs is {options.runs}; expected at least 1")
    return options


def main() -> int:
    options = parse_arguments()
    print(", ".join(describe_machine().values()))
    print(f"{'graph':12} {'n':>6} {'records':>8} {'growth / n':>11}  milliseconds")
    for name in options.graphs:
        make, sizes = CASES[name]
        before: tuple[int, Spread] | None = None
        for n in sizes:
            spread, records = milliseconds(make, n, options.runs)
            growth = (
                "" if before is None else f"{spread.median / before[1].median * before[0] / n:.2f}"
            )
            print(f"{name:12} {n:6} {records:8} {growth:>11}  {spread}", flush=True)
            before = n, spread
    return 0


if __name__ == "__main__":
    sys.exit(main())
