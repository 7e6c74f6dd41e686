"""The peers, each at its best settings for the CPUs it may use."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dlcore.bench import machine
from dlcore.bench.contest import Unavailable
from dlcore.bench.libraries import Library
from dlcore.bench.work import ADAM, SGD, TRACED, WORK

PRODUCTS = ("matmul", "matmul_ta", "matmul_tb")


NUMPY_SOFTMAX = (
    "np.subtract(x, x.max(axis=-1, keepdims=True), out=y); np.exp(y, out=y); "
    "np.divide(y, y.sum(axis=-1, keepdims=True), out=y)"
)


class NumPy(Library):
    """Elementwise functions and reductions run on one thread, whatever the number of CPUs."""

    name = "numpy"
    statements = {
        "matmul": "np.matmul(a, b, out=c)",
        "matmul_ta": "np.matmul(a, b, out=c)",
        "matmul_tb": "np.matmul(a, b, out=c)",
        "linear_relu": "np.matmul(x, w, out=y); np.add(y, b, out=y); np.maximum(y, 0, out=y)",
        "linear_tanh": "np.matmul(x, w, out=y); np.add(y, b, out=y); np.tanh(y, out=y)",
        "relu": "np.maximum(x, 0, out=y)",
        "relu_transposed": "np.maximum(x, 0, out=y)",
        "sigmoid": "np.negative(x, out=y); np.exp(y, out=y); np.add(y, 1, out=y); "
        "np.divide(1, y, out=y)",
        "tanh": "np.tanh(x, out=y)",
        "silu": "np.negative(x, out=y); np.exp(y, out=y); np.add(y, 1, out=y); "
        "np.divide(x, y, out=y)",
        "exp": "np.exp(x, out=y)",
        "log": "np.log(x, out=y)",
        **dict.fromkeys(("softmax", "softmax_transposed"), NUMPY_SOFTMAX),
        **{op: f"y = {expression}" for op, expression in TRACED.items()},
        "sum": "r = np.sum(x)",
        "max": "r = np.max(x)",
        "sum_rows": "np.sum(x, axis=1, out=r)",
        "sum_columns": "np.sum(x, axis=0, out=r)",
        "gram": "np.matmul(x.T, x, out=c)",
        "call_matmul": "c = a @ b",
        "call_matmul_out": "np.matmul(a, b, out=c)",
        "call_tanh": "y = np.tanh(x)",
        "call_relu": "y = np.maximum(x, 0)",
    }

    def __init__(self, task: None, threads: int) -> None:
        super().__init__(task, threads)
        self.names = {"np": np}

    def runs_on(self) -> str:
        blas = machine.blas_in_use() or "its BLAS is told by: pip install threadpoolctl"
        return f"{np.__version__}, {blas}"


class Mkl(Library):
    """cblas_?gemm of the package mkl, alpha 1, beta 0, through ctypes."""

    name = "mkl"
    statements = dict.fromkeys(PRODUCTS, "gemm(*arguments)")
    setups = dict.fromkeys(PRODUCTS, "gemm, arguments = cblas(a, b, c)")

    ROW_MAJOR, PLAIN, TRANSPOSED = 101, 111, 112

    def __init__(self, task: None, threads: int) -> None:
        super().__init__(task, threads)
        self._library = ctypes.CDLL(_mkl_path())
        self._library.MKL_Set_Num_Threads(threads)
        self.names = {"cblas": self._cblas}

    def runs_on(self) -> str:
        text = ctypes.create_string_buffer(256)
        self._library.MKL_Get_Version_String(text, len(text))
        threads = self._library.MKL_Get_Max_Threads()
        return f"{text.value.decode().strip()}, {threads} threads"

    def _cblas(self, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> tuple[Any, list[Any]]:
        single = a.dtype == np.float32
        gemm = self._library.cblas_sgemm if single else self._library.cblas_dgemm
        real = ctypes.c_float if single else ctypes.c_double
        (m, k), n = a.shape, b.shape[1]
        orders, leading = zip(*map(self._layout, (a, b, c)), strict=True)
        a_data, b_data, c_data = (ctypes.c_void_p(array.ctypes.data) for array in (a, b, c))
        return gemm, [
            *map(ctypes.c_int, (self.ROW_MAJOR, orders[0], orders[1], m, n, k)),
            *(real(1), a_data, ctypes.c_int(leading[0]), b_data, ctypes.c_int(leading[1])),
            *(real(0), c_data, ctypes.c_int(leading[2])),
        ]

    def _layout(self, array: np.ndarray) -> tuple[int, int]:
        if array.flags.c_contiguous:
            return self.PLAIN, array.shape[1]
        return self.TRANSPOSED, array.shape[0]


def _mkl_path() -> str:
    try:
        files = importlib.metadata.files("mkl") or []
    except importlib.metadata.PackageNotFoundError:
        raise Unavailable("mkl is not installed") from None
    for file in files:
        if "libmkl_rt" in file.name:
            return str(Path(str(file.locate())).resolve())
    raise Unavailable("the package mkl holds no libmkl_rt")


ROUNDED = "a16, b16, c16 = a.bfloat16(), b.bfloat16(), c.bfloat16()"


class Torch(Library):
    """Eager; the library's own functions, with `out` where they take it.

    Its bfloat16 is a dtype of arrays: operands are rounded outside of what is timed.
    """

    name = "torch"
    statements = {
        "matmul": "torch.mm(a, b, out=c)",
        "matmul_ta": "torch.mm(a, b, out=c)",
        "matmul_tb": "torch.mm(a, b, out=c)",
        "matmul_bfloat16": "torch.mm(a16, b16, out=c16)",
        "matmul_packed": "torch.mm(a16, b16, out=c16)",
        "linear_relu": "torch.addmm(b, x, w, out=y); torch.relu_(y)",
        "linear_tanh": "torch.addmm(b, x, w, out=y); torch.tanh_(y)",
        "linear_gelu": "torch.addmm(b, x, w, out=y); gelu(y, out=y)",
        "relu": "torch.clamp_min(x, 0, out=y)",
        "sigmoid": "torch.sigmoid(x, out=y)",
        "tanh": "torch.tanh(x, out=y)",
        "gelu": "gelu(x, out=y)",
        "silu": "silu(x, out=y)",
        "exp": "torch.exp(x, out=y)",
        "log": "torch.log(x, out=y)",
        "softmax": "torch.softmax(x, -1, out=y)",
        "relu_transposed": "torch.clamp_min(x, 0, out=y)",
        "softmax_transposed": "torch.softmax(x, -1, out=y)",
        **{
            op: f"y = {expression.replace('np.', 'torch.')}"
            for op, expression in TRACED.items()
            if op != "traced_cbrt"  # which it lacks
        },
        "sum": "r = torch.sum(x)",
        "max": "r = torch.max(x)",
        "sum_rows": "torch.sum(x, 1, out=r)",
        "sum_columns": "torch.sum(x, 0, out=r)",
        "gram": "torch.mm(x.T, x, out=c)",
        "adam": "optimizer.step()",
        "sgd_momentum": "optimizer.step()",
        "call_matmul": "c = a @ b",
        "call_matmul_out": "torch.mm(a, b, out=c)",
        "call_tanh": "y = torch.tanh(x)",
        "call_relu": "y = torch.relu(x)",
    }
    setups = {
        "matmul_bfloat16": ROUNDED,
        "matmul_packed": ROUNDED,
        "adam": "p.grad = g; optimizer = torch.optim.Adam([p], lr=ADAM['lr'], fused=True, "
        "betas=(ADAM['beta1'], ADAM['beta2']), eps=ADAM['eps'])",
        "sgd_momentum": "p.grad = g; optimizer = torch.optim.SGD([p], fused=True, **SGD)",
    }

    def __init__(self, task: None, threads: int) -> None:
        super().__init__(task, threads)
        import torch

        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        self._torch = torch
        functions = {"gelu": torch._C._nn.gelu, "silu": torch._C._nn.silu}
        self.names = {"torch": torch, "ADAM": ADAM, "SGD": SGD, **functions}

    def convert(self, array: np.ndarray) -> Any:
        return self._torch.from_numpy(np.asarray(array))

    def output(self, op: str, names: Mapping[str, Any]) -> np.ndarray:
        if self.setups.get(op) == ROUNDED:
            return names["c16"].float().numpy()
        return super().output(op, names)

    def runs_on(self) -> str:
        return torch_runs_on(self._torch)


def torch_runs_on(torch: Any) -> str:
    return (
        f"{torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, "
        f"mkl {torch.backends.mkl.is_available()}, "
        f"mkldnn {torch.backends.mkldnn.is_available()}, {torch.get_num_threads()} threads"
    )


JAX_FUNCTIONS = {
    "matmul": "lambda a, b: a @ b",
    "matmul_ta": "lambda a, b: a.T @ b",
    "matmul_tb": "lambda a, b: a @ b.T",
    "linear_relu": "lambda x, w, b: jax.nn.relu(x @ w + b)",
    "linear_tanh": "lambda x, w, b: jnp.tanh(x @ w + b)",
    "linear_gelu": "lambda x, w, b: jax.nn.gelu(x @ w + b, approximate=False)",
    "relu": "jax.nn.relu",
    "sigmoid": "jax.nn.sigmoid",
    "tanh": "jnp.tanh",
    "gelu": "lambda x: jax.nn.gelu(x, approximate=False)",
    "silu": "jax.nn.silu",
    "exp": "jnp.exp",
    "log": "jnp.log",
    "softmax": "lambda x: jax.nn.softmax(x, axis=-1)",
    "relu_transposed": "lambda x: jax.nn.relu(x.T)",
    "softmax_transposed": "lambda x: jax.nn.softmax(x.T, axis=-1)",
    **{op: f"lambda x: {expression.replace('np.', 'jnp.')}" for op, expression in TRACED.items()},
    "sum": "jnp.sum",
    "max": "jnp.max",
    "sum_rows": "lambda x: jnp.sum(x, axis=1)",
    "sum_columns": "lambda x: jnp.sum(x, axis=0)",
    "gram": "lambda x: x.T @ x",
    "call_matmul": "lambda a, b: a @ b",
    "call_tanh": "jnp.tanh",
    "call_relu": "jax.nn.relu",
}
JAX_ARGUMENTS = {
    **dict.fromkeys((*PRODUCTS, "call_matmul"), "a, b"),
    **dict.fromkeys(("linear_relu", "linear_tanh", "linear_gelu"), "x, w, b"),
}
JAX_STEPS = ("adam", "sgd_momentum")


class Jax(Library):
    """Jitted, with arguments that are JAX's arrays already; every result is waited for.

    Optimiser steps are written out, and their state is donated.
    """

    name = "jax"
    statements = {
        **{
            op: f"{WORK[op].result} = f({JAX_ARGUMENTS.get(op, 'x')}).block_until_ready()"
            for op in JAX_FUNCTIONS
        },
        **dict.fromkeys(JAX_STEPS, "state[:] = jax.block_until_ready(f(g, *state))"),
    }
    setups = {
        **{op: f"f = jax.jit({text})" for op, text in JAX_FUNCTIONS.items()},
        "adam": "f = jax.jit(adam, donate_argnums=(1, 2, 3)); state = [p, m, v]",
        "sgd_momentum": "f = jax.jit(sgd_momentum, donate_argnums=(1, 2)); state = [p, u]",
    }

    def __init__(self, task: None, threads: int) -> None:
        super().__init__(task, threads)
        jax = import_jax(threads)
        jax.config.update("jax_enable_x64", True)
        self._jax = jax
        steps = {"adam": _jax_adam(jax.numpy), "sgd_momentum": _jax_sgd_momentum}
        self.names = {"jax": jax, "jnp": jax.numpy, **steps}

    def convert(self, array: np.ndarray) -> Any:
        """A copy; of a transposed view, what it is a view of: JAX's arrays have no strides."""
        return self._jax.numpy.array(array if array.flags.c_contiguous else array.T)

    def output(self, op: str, names: Mapping[str, Any]) -> np.ndarray:
        return np.asarray(names["state"][0] if op in JAX_STEPS else names[WORK[op].result])

    def runs_on(self) -> str:
        return jax_runs_on(self._jax)


def import_jax(threads: int) -> Any:
    """JAX on the CPUs of this process, which are all that limits its threads."""
    if not machine.can_pin() and threads != len(machine.usable_cpus()):
        raise Unavailable("XLA's threads can be limited by CPU affinity only, which is missing")
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax

    return jax


def jax_runs_on(jax: Any) -> str:
    return f"{jax.__version__}, {jax.devices()}, {len(machine.usable_cpus())} CPUs"


def _jax_adam(jnp: Any) -> Any:
    def step(g: Any, p: Any, m: Any, v: Any) -> tuple[Any, Any, Any]:
        m = ADAM["beta1"] * m + (1 - ADAM["beta1"]) * g
        v = ADAM["beta2"] * v + (1 - ADAM["beta2"]) * g * g
        root = jnp.sqrt(v / (1 - ADAM["beta2"])) + ADAM["eps"]
        return p - ADAM["lr"] / (1 - ADAM["beta1"]) * m / root, m, v

    return step


def _jax_sgd_momentum(g: Any, p: Any, u: Any) -> tuple[Any, Any]:
    u = SGD["momentum"] * u + g
    return p - SGD["lr"] * u, u


PEERS: Mapping[str, type[Library]] = {peer.name: peer for peer in (NumPy, Mkl, Torch, Jax)}
