"""The rows of kernels: what is measured, at which sizes, against which limit, with which goal."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from dlcore.bench.goals import Goal, Row, Sizes
from dlcore.bench.libraries import Case
from dlcore.bench.work import TRACED, WORK, tolerance

KI, MI = 1 << 10, 1 << 20

LIMITS = ("fma", "copy", "read", "streams", "slower", "gemm", "syrk", "bfloat16", "none")
"""What a row's time is held against, measured in the same round:

- fma: its operations at the rate of multiply-adds in registers
- copy: its bytes at the copy rate of that footprint
- read: its bytes at the read rate of that footprint
- streams: its bytes at the rate of as many arrays side by side, updated in place
- slower: the copy rate, or dlcore's own time per element on 32 Ki elements on one thread, divided
  by the threads, whichever takes longer
- gemm: dlcore's product of the same shape plus 1.1 times its activation on as many elements; for
  relu the product alone
- syrk: the operations as of fma or the bytes as of read, whichever takes longer
- bfloat16: its operations at the rate of multiply-adds of bfloat16 in registers
- none: calls so short that peers are all there is to compare with
"""

LARGEST_FIXED = 15
"""Dimensions up to this one are part of what a row is about, and are not drawn."""

DRAWN = 3


@dataclass(frozen=True)
class KernelRow(Row):
    """One operation, `op` of `work.WORK`, at one size; `limit` is one of `LIMITS`."""

    patience: ClassVar[float] = 2.5

    @property
    def in_flops(self) -> bool:
        return WORK[self.op].in_flops

    def dtypes_of(self, asked: Sequence[str] | None) -> list[str]:
        return [dtype for dtype in asked or self.dtypes if dtype in WORK[self.op].dtypes]

    def case(self, sizes: Sizes, dtype: str, seed: int, seconds: float) -> Case:
        return Case(self.op, sizes, dtype, self.limit, seed, seconds)

    def tolerance(self, sizes: Sizes, dtype: str) -> float:
        return tolerance(self.op, sizes, dtype)

    def drawn(self, seed: int) -> list[Sizes]:
        """Sizes within 10% of the nominal ones, by which no kernel can have been chosen."""
        if all(size <= LARGEST_FIXED for size in self.sizes):
            return []
        rng = np.random.default_rng([seed, zlib.crc32(f"{self.op} {self.sizes}".encode())])
        return [tuple(_draw(rng, size) for size in self.sizes) for _ in range(DRAWN)]


def _draw(rng: np.random.Generator, size: int) -> int:
    if size <= LARGEST_FIXED:
        return size
    return int(rng.integers(-(-size * 9 // 10), size * 11 // 10, endpoint=True))


BOTH = ("float32", "float64")


def _gemm() -> list[KernelRow]:
    large = dict(numpy=1.0, jax=1.0)
    goals = {
        2048: Goal(0.95, large, True),
        1024: Goal(0.95, large, True),
        512: Goal(0.93, large, True),
        256: Goal(0.91, large, True),
        128: Goal(0.85, dict(numpy=(1.05, 1.3))),
        64: Goal(vs=dict(numpy=1.1)),
        32: Goal(vs=dict(numpy=2.0)),
        8: Goal(vs=dict(numpy=3.0)),
    }
    batch = Goal(0.91, dict(numpy=1.0))
    shapes: list[tuple[str, Sizes, str, Goal]] = [
        ("128x784x256", (128, 784, 256), "matmul", batch),
        ("784x128x256 a^T b", (784, 128, 256), "matmul_ta", batch),
        ("128x256x784 a b^T", (128, 256, 784), "matmul_tb", batch),
        ("256x256x10", (256, 256, 10), "matmul", Goal(vs=dict(numpy=1.35))),
        ("4096x64x64", (4096, 64, 64), "matmul", Goal(0.88, dict(numpy=1.0))),
    ]
    rows = [
        KernelRow("gemm", f"{n}^3", "matmul", (n, n, n), "fma", goal, BOTH, heavy=n > 1024)
        for n, goal in goals.items()
    ]
    rows += [
        KernelRow("gemm", name, op, sizes, "fma", goal, BOTH) for name, sizes, op, goal in shapes
    ]
    for n in (512, 1024):
        for name, op, goal in (
            ("bfloat16", "matmul_bfloat16", Goal()),
            ("packed bfloat16", "matmul_packed", Goal(0.85)),
        ):
            rows.append(KernelRow("gemm", f"{n}^3 {name}", op, (n, n, n), "bfloat16", goal))
    vector = Goal(0.9, dict(numpy=(1.0, 1.3)))
    rows.append(KernelRow("gemm", "1x1024x1024", "matmul", (1, 1024, 1024), "read", vector, BOTH))
    for sizes in ((1024, 1024, 1), (65536, 8, 1)):
        name, goal = "x".join(map(str, sizes)), Goal(vs=dict(numpy=1.0))
        rows.append(KernelRow("gemm", name, "matmul", sizes, "read", goal, BOTH))
    for sizes in ((128, 784, 256), (128, 256, 128)):
        for activation in ("relu", "tanh", "gelu"):
            name = f"linear {activation} {'x'.join(map(str, sizes))}"
            fraction = 1 / 1.05 if activation == "relu" else 1.0
            goal = Goal(round(fraction, 3))
            rows.append(KernelRow("gemm", name, f"linear_{activation}", sizes, "gemm", goal, BOTH))
    return rows


def _size_name(n: int) -> str:
    return f"{n // MI}Mi" if n >= MI else f"{n // KI}Ki"


def _elementwise() -> list[KernelRow]:
    rows = []
    for op in ("relu", "sigmoid", "tanh", "gelu", "silu", "exp", "log", "softmax"):
        for n in (32 * KI, MI, 16 * MI):
            for cols in (64, 1024) if op == "softmax" else (0,):
                sizes = (n // cols, cols) if cols else (n,)
                name = f"{op} {_size_name(n)}" + (f" rows of {cols}" if cols else "")
                rows.append(_elementwise_row(name, op, sizes, n))
    for op in ("relu", "softmax"):
        for sizes in ((1024, 1024), (KI * 32, 10)):
            name, goal = f"{op} {'x'.join(map(str, sizes))} transposed", Goal(vs=dict(best=1.2))
            rows.append(KernelRow("elementwise", name, f"{op}_transposed", sizes, "copy", goal))
    return rows


def _elementwise_row(name: str, op: str, sizes: Sizes, n: int) -> KernelRow:
    if n > MI:
        return KernelRow("elementwise", name, op, sizes, "slower", Goal(0.9), heavy=True)
    fraction = 0.95 if op == "relu" else None
    return KernelRow("elementwise", name, op, sizes, "copy", Goal(fraction, dict(best=1.2)))


def _functions() -> list[KernelRow]:
    n = 32 * KI
    return [
        KernelRow("functions", f"{op.removeprefix('traced_')} {_size_name(n)}", op, (n,), "copy")
        for op in TRACED
    ]


def _reduce() -> list[KernelRow]:
    square = (KI, KI)
    return [
        KernelRow("reduce", "sum 1Mi", "sum", (MI,), "read"),
        KernelRow("reduce", "max 1Mi", "max", (MI,), "read"),
        KernelRow("reduce", "sum of rows 1024x1024", "sum_rows", square, "read"),
        KernelRow("reduce", "sum of columns 1024x1024", "sum_columns", square, "read"),
        KernelRow(
            "reduce",
            "Gram 1000000x50",
            "gram",
            (1_000_000, 50),
            "syrk",
            Goal(vs=dict(numpy=2.0)),
            heavy=True,
        ),
    ]


def _step() -> list[KernelRow]:
    return [
        KernelRow("step", "Adam 1Mi", "adam", (MI,), "streams", Goal(0.85, dict(torch=1.0))),
        KernelRow("step", "SGD momentum 1Mi", "sgd_momentum", (MI,), "streams"),
    ]


def _call() -> list[KernelRow]:
    faster = {8: 3.0, 32: 2.0, 64: 1.1}
    rows = []
    for n, ratio in faster.items():
        for suffix, op in (("", "call_matmul"), (" out=", "call_matmul_out")):
            goal = Goal(vs=dict(numpy=ratio))
            rows.append(KernelRow("call", f"matmul {n}^3{suffix}", op, (n, n, n), "none", goal))
    rows += [
        KernelRow("call", f"{op} {n}", f"call_{op}", (n,), "none")
        for op in ("tanh", "relu")
        for n in (8, 100, 1000)
    ]
    return rows


ROWS: Sequence[KernelRow] = (
    *_gemm(),
    *_elementwise(),
    *_functions(),
    *_reduce(),
    *_step(),
    *_call(),
)
