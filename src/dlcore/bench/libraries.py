"""What the contestants have in common, and dlcore.

A library is a table of statements, each of which does the work of an op.

A statement is what a user writes, with outputs preallocated where the library's interface has a
place for them; `timeit` times it in a loop of its own, with names as local as a user's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from timeit import Timer
from typing import Any

import numpy as np

from dlcore.bench.contest import SUBJECT, Contestant
from dlcore.bench.goals import Sizes
from dlcore.bench.work import ADAM, SGD, TRACED, WORK, Arrays, error, make_inputs

IN_CACHE = 1 << 15
"""Elements of an array that lies in L2 together with its result."""


@dataclass(frozen=True)
class Case:
    """A row at one size.

    Attributes
    ----------
    seconds : how long a turn should take
    """

    op: str
    sizes: Sizes
    dtype: str
    limit: str
    seed: int
    seconds: float

    @property
    def elements(self) -> int:
        return math.prod(self.sizes)

    @property
    def flops(self) -> int:
        return WORK[self.op].flops(self.sizes)

    @property
    def bytes(self) -> int:
        return WORK[self.op].moved(self.sizes) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Prepared:
    """What a contestant says of a case: its result's error, and how long a turn of its will be.

    What is trained has no error, but a loss after each round.
    """

    error: float | None
    turn_seconds: float


class Library(Contestant):
    """Runs the statements of one library.

    Attributes
    ----------
    statements : op -> statement; what is missing the library does not take part in
    setups : op -> what is run once before it
    """

    statements: Mapping[str, str]
    setups: Mapping[str, str] = {}

    def __init__(self, task: None, threads: int) -> None:
        self.threads = threads
        self.names: dict[str, Any] = {}
        self._repeated: Repeated | None = None

    def convert(self, array: np.ndarray) -> Any:
        """The array as the library's own."""
        return array

    def output(self, op: str, names: Mapping[str, Any]) -> np.ndarray:
        """What the statement of `op` left in `names`."""
        return np.asarray(names[WORK[op].result])

    def prepare(self, case: Case) -> Prepared | None:
        """Set up a case and run it once; None where the library has no statement for it."""
        self._repeated = None
        if case.op not in self.statements or case.dtype not in WORK[case.op].dtypes:
            return None
        arrays = make_inputs(case.op, case.sizes, case.dtype, case.seed)
        before = {name: array.copy("K") for name, array in arrays.items()}
        names = self._namespace(case.op, arrays)
        # Once in the namespace itself, where a result that is assigned stays.
        exec(self.statements[case.op], names)
        found = error(case.op, before, self.output(case.op, names))
        del before
        self._repeated = Repeated(self.statements[case.op], names, case.seconds)
        return Prepared(found, self._repeated.seconds)

    def before_turn(self, case: Case) -> None:
        self._timed.warm_up()

    def turn(self, case: Case) -> float:
        return self._timed.run()

    @property
    def _timed(self) -> Repeated:
        assert self._repeated is not None
        return self._repeated

    def repeated(self, op: str, sizes: Sizes, case: Case) -> Repeated:
        """Another operation, in the same dtype, for half as long."""
        arrays = make_inputs(op, sizes, case.dtype, case.seed)
        return Repeated(self.statements[op], self._namespace(op, arrays), case.seconds / 2)

    def _namespace(self, op: str, arrays: Arrays) -> dict[str, Any]:
        converted = {name: self.convert(array) for name, array in arrays.items()}
        names = {**self.names, **converted}
        exec(self.setups.get(op, ""), names)
        return names


BATCHES = 8
PROBES = 3


class Repeated:
    """A statement and how often to run it, so that it takes about some time.

    The calls are timed in batches, of which the median counts: on a shared machine the time of
    some is that of another process.
    """

    def __init__(self, statement: str, names: dict[str, Any], seconds: float) -> None:
        self._timer = Timer(statement, globals=names)
        calls, elapsed = 1, self._timer.timeit(1)
        while elapsed < seconds / 4:
            calls *= 4
            elapsed = self._timer.timeit(calls)
        fitting = calls * seconds / elapsed
        self._batches = max(1, min(BATCHES, round(fitting)))
        self._calls = max(1, round(fitting / self._batches))
        self._warms_up = fitting >= 1  # a call longer than a turn warms up by itself
        self.seconds = elapsed / calls * self._batches * self._calls

    def warm_up(self) -> None:
        if self._warms_up:
            self._timer.timeit(self._calls)

    def run(self) -> float:
        """Seconds of a call."""
        return median(self._timer.repeat(self._batches, self._calls)) / self._calls


class Dlcore(Library):
    name = SUBJECT
    statements = {
        "matmul": "matmul(a, b, out=c)",
        "matmul_ta": "matmul(a, b, out=c)",
        "matmul_tb": "matmul(a, b, out=c)",
        "matmul_bfloat16": "matmul(a, b, compute='bfloat16', out=c)",
        "matmul_packed": "matmul(a, packed, out=c)",
        "linear_relu": "linear(x, w, b, activation='relu', out=y)",
        "linear_tanh": "linear(x, w, b, activation='tanh', out=y)",
        "linear_gelu": "linear(x, w, b, activation='gelu', out=y)",
        "relu": "relu(x, out=y)",
        "sigmoid": "sigmoid(x, out=y)",
        "tanh": "tanh(x, out=y)",
        "gelu": "gelu(x, out=y)",
        "silu": "silu(x, out=y)",
        "exp": "exp(x, out=y)",
        "log": "log(x, out=y)",
        "softmax": "softmax(x, out=y)",
        "relu_transposed": "relu(x, out=y)",
        "softmax_transposed": "softmax(x, out=y)",
        **dict.fromkeys(TRACED, "y = f(x)"),
        "sum": "r = f(x)",
        "max": "r = f(x)",
        "sum_rows": "r = f(x)",
        "sum_columns": "r = f(x)",
        "gram": "matmul(x, x, transpose_a=True, out=c)",
        "adam": "adam_step(p, g, m, v, step=1, **ADAM)",
        "sgd_momentum": "sgd_step(p, g, velocity=u, **SGD)",
        "call_matmul": "c = dl.ops.matmul(a, b)",
        "call_matmul_out": "dl.ops.matmul(a, b, out=c)",
        "call_tanh": "y = dl.ops.tanh(x)",
        "call_relu": "y = dl.ops.relu(x)",
    }
    setups = {
        "matmul_packed": "packed = dl.ops.pack_bfloat16(b)",
        **{op: f"f = dl.jit(lambda x: {expression})" for op, expression in TRACED.items()},
        "sum": "f = dl.jit(lambda x: np.sum(x))",
        "max": "f = dl.jit(lambda x: np.max(x))",
        "sum_rows": "f = dl.jit(lambda x: np.sum(x, axis=1))",
        "sum_columns": "f = dl.jit(lambda x: np.sum(x, axis=0))",
    }

    def __init__(self, task: None, threads: int) -> None:
        super().__init__(task, threads)
        import dlcore as dl
        from dlcore import _probe

        self._dl, self._probe = dl, _probe
        dl.set_num_threads(threads)
        functions = {name: getattr(dl.ops, name) for name in dl.ops.__all__}
        self.names = {**functions, "dl": dl, "np": np, "ADAM": ADAM, "SGD": SGD}
        self._parts: list[tuple[float, Repeated]] = []

    def runs_on(self) -> str:
        return "{version}, {isa}, {threads} threads".format_map(self._dl.config_info())

    def prepare(self, case: Case) -> Prepared | None:
        prepared = super().prepare(case)
        self._parts = []
        if case.limit == "slower":
            few = (IN_CACHE // case.sizes[-1], case.sizes[-1]) if case.op == "softmax" else None
            self._parts = [(1.0, self.repeated(case.op, few or (IN_CACHE,), case))]
        if case.limit == "gemm":
            self._parts = [(1.0, self.repeated("matmul", case.sizes, case))]
            activation = case.op.removeprefix("linear_")
            if activation != "relu":
                size = case.sizes[0] * case.sizes[2]
                self._parts.append((1.1, self.repeated(activation, (size,), case)))
        return prepared

    def limits(self, case: Case) -> dict[str, float]:
        """`seconds`: of the limit; and the rates that it follows from."""
        return getattr(self, f"_limit_{case.limit}")(case)

    def roofs(self, seconds: float) -> dict[str, float]:
        """FLOP/s by dtype, and bytes/s of copies: far larger than the caches, and within L2."""
        copies = {"copy": 64 << 20, "copy in L2": 4 * IN_CACHE}
        copied = {
            name: self._probe.copy_rate(size, self.threads, seconds).rate
            for name, size in copies.items()
        }
        rates = {
            f"fma {dtype}": self._probe.fma_rate(dtype, self.threads, seconds)
            for dtype in ("float32", "float64")
        }
        return {**rates, **copied}

    def _limit_none(self, case: Case) -> dict[str, float]:
        return {}

    def _limit_fma(self, case: Case) -> dict[str, float]:
        rate = self._median_rate(self._probe.fma_rate, case.dtype, seconds=case.seconds / 2)
        return {"seconds": case.flops / rate, "fma": rate}

    def _limit_bfloat16(self, case: Case) -> dict[str, float]:
        rate = self._median_rate(self._probe.bfloat16_rate, seconds=case.seconds / 2)
        return {"seconds": case.flops / rate, "bfloat16": rate}

    def _limit_read(self, case: Case) -> dict[str, float]:
        rate = self._median_rate(self._probe.read_rate, case.bytes, seconds=case.seconds / 2)
        return {"seconds": case.bytes / rate, "read": rate}

    def _limit_copy(self, case: Case) -> dict[str, float]:
        half = case.bytes // 2
        copied = self._median_rate(self._probe.copy_rate, half, seconds=case.seconds)
        streaming = float(copied.stores == "streaming")
        return {"seconds": case.bytes / copied.rate, "copy": copied.rate, "streaming": streaming}

    def _limit_streams(self, case: Case) -> dict[str, float]:
        reads = {"adam": 4, "sgd_momentum": 3}[case.op]
        each = case.elements * np.dtype(case.dtype).itemsize
        arrays = (reads, reads - 1, each)
        rate = self._median_rate(self._probe.stream_rate, *arrays, seconds=case.seconds)
        return {"seconds": case.bytes / rate, "streams": rate}

    def _median_rate(self, probe: Any, *arguments: Any, seconds: float) -> Any:
        """Of `PROBES` measurements, for the reason that turns are timed in batches for."""
        each = seconds / PROBES
        return sorted(probe(*arguments, self.threads, each) for _ in range(PROBES))[PROBES // 2]

    def _limit_syrk(self, case: Case) -> dict[str, float]:
        fma, read = self._limit_fma(case), self._limit_read(case)
        return {**fma, **read, "seconds": max(fma["seconds"], read["seconds"])}

    def _limit_slower(self, case: Case) -> dict[str, float]:
        copied = self._limit_copy(case)
        self._dl.set_num_threads(1)
        ((_, small),) = self._parts
        in_cache = small.run() * case.elements / IN_CACHE / self.threads
        self._dl.set_num_threads(self.threads)
        return {**copied, "seconds": max(copied["seconds"], in_cache), "in_cache": in_cache}

    def _limit_gemm(self, case: Case) -> dict[str, float]:
        parts = [share * part.run() for share, part in self._parts]
        return {"seconds": sum(parts), "gemm": parts[0], "activation": sum(parts[1:])}
