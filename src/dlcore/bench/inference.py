"""Running networks: the rows, and every library's statement for a prediction."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from dlcore.bench import machine, peers
from dlcore.bench.contest import SUBJECT, Contestant
from dlcore.bench.goals import Goal
from dlcore.bench.libraries import Prepared, Repeated
from dlcore.bench.networks import Network, Task, forward, make_task, softmax
from dlcore.bench.trainers import (
    dlcore_model,
    jax_forward,
    limit_sklearn,
    machine_limits,
    sklearn_model,
    torch_model,
)
from dlcore.bench.training import NetworkCase, NetworkRow, network_row

Names = dict[str, Any]


class Predictor(Contestant):
    """Runs one library's model of the case's network, with its initial weights."""

    gives_probabilities: ClassVar[bool] = False

    def __init__(self, task: None, threads: int) -> None:
        self.threads = threads

    @abstractmethod
    def statement(self, task: Task) -> tuple[str, Names]:
        """What a user writes for the outputs `y` of `task.X`, and the names in it."""

    def prepare(self, case: NetworkCase) -> Prepared:
        """Make the model and run it once, to be compared with the reference."""
        task = make_task(case.network, case.seed)
        statement, names = self.statement(task)
        exec(statement, names)
        error = self._error(task, np.asarray(names["y"]))
        self._repeated = Repeated(statement, names, case.seconds)
        return Prepared(error, self._repeated.seconds)

    def before_turn(self, case: NetworkCase) -> None:
        self._repeated.warm_up()

    def turn(self, case: NetworkCase) -> float:
        return self._repeated.run()

    def _error(self, task: Task, output: np.ndarray) -> float:
        """The largest difference from the reference, relative to its largest element."""
        expected = forward(task.network, task.initial, task.X)
        if self.gives_probabilities:
            expected = softmax(expected)
        difference = np.abs(output.reshape(expected.shape) - expected)
        return float(difference.max() / np.abs(expected).max())


class Dlcore(Predictor):
    """`predict_one` into an array that is there, or `predict`."""

    name = SUBJECT

    def __init__(self, task: None, threads: int) -> None:
        super().__init__(task, threads)
        import dlcore as dl

        self._dl = dl
        dl.set_num_threads(threads)

    def runs_on(self) -> str:
        return "{version}, {isa}, {threads} threads".format_map(self._dl.config_info())

    def statement(self, task: Task) -> tuple[str, Names]:
        model = dlcore_model(self._dl, task.network, task.initial)
        if task.network.rows > 1:
            return "y = model.predict(x)", {"model": model, "x": task.X}
        out = np.empty(task.network.units[-1], np.float32)
        names = {"model": model, "x": task.X[0], "out": out}
        return "y = model.predict_one(x, out=out)", names

    def limits(self, case: NetworkCase) -> dict[str, float]:
        return machine_limits(case, self.threads)


class NumPy(Predictor):
    """Written out in one expression, each of whose results is a new array."""

    name = "numpy"

    def runs_on(self) -> str:
        blas = machine.blas_in_use() or "its BLAS is told by: pip install threadpoolctl"
        return f"{np.__version__}, {blas}"

    def statement(self, task: Task) -> tuple[str, Names]:
        x = task.X if task.network.rows > 1 else task.X[0]
        names: Names = {"np": np, "x": x}
        text = "x"
        for i, (weight, bias) in enumerate(task.initial):
            names |= {f"w{i}": weight, f"b{i}": bias}
            text = f"{text} @ w{i} + b{i}"
            if i + 1 < len(task.initial):
                text = f"np.maximum({text}, 0)"
        return f"y = {text}", names


class OnnxRuntime(Predictor):
    """A session on a graph of Gemm and Relu nodes, which the package onnx writes."""

    name = "onnxruntime"

    def __init__(self, task: None, threads: int) -> None:
        super().__init__(task, threads)
        import onnx  # noqa: F401, its absence is told before the first row
        import onnxruntime

        self._onnxruntime = onnxruntime

    def runs_on(self) -> str:
        return f"{self._onnxruntime.__version__}, {self.threads} threads"

    def statement(self, task: Task) -> tuple[str, Names]:
        options = self._onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        session = self._onnxruntime.InferenceSession(
            onnx_model(task), options, providers=["CPUExecutionProvider"]
        )
        return "(y,) = session.run(None, feed)", {"session": session, "feed": {"x": task.X}}


def onnx_model(task: Task) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[Any] = []
    initializers: list[Any] = []
    value = "x"
    last = len(task.initial) - 1
    for i, (weight, bias) in enumerate(task.initial):
        names = f"weight{i}", f"bias{i}"
        initializers += map(numpy_helper.from_array, (weight, bias), names)
        nodes.append(helper.make_node("Gemm", [value, *names], [value := f"z{i}"]))
        if i < last:
            nodes.append(helper.make_node("Relu", [value], [value := f"a{i}"]))
    units = task.network.units
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [task.network.rows, width])
        for name, width in (("x", units[0]), (value, units[-1]))
    )
    graph = helper.make_graph(nodes, "network", [x], [y], initializers)
    # The newest pair of versions that runtimes of some years read.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


class Torch(Predictor):
    """Eager, in inference mode."""

    name = "torch"

    def __init__(self, task: None, threads: int) -> None:
        super().__init__(task, threads)
        import torch

        torch.set_num_threads(threads)
        self._torch = torch
        self._mode = torch.inference_mode()
        self._mode.__enter__()  # for good: this process does nothing else

    def runs_on(self) -> str:
        return peers.torch_runs_on(self._torch)

    def statement(self, task: Task) -> tuple[str, Names]:
        model = torch_model(self._torch, task.network, task.initial).eval()
        return "y = model(x)", {"model": model, "x": self._torch.from_numpy(task.X)}


class ScikitLearn(Predictor):
    """`predict_proba` of a model whose weights are set."""

    name = "sklearn"
    gives_probabilities = True

    def __init__(self, task: None, threads: int) -> None:
        super().__init__(task, threads)
        limit_sklearn(threads)

    def runs_on(self) -> str:
        return f"{machine.version('scikit-learn')}, {machine.blas_in_use()}"

    def statement(self, task: Task) -> tuple[str, Names]:
        classes = np.arange(task.network.units[-1])
        model = sklearn_model(task.network, task.seed)
        model.partial_fit(task.X, task.y, classes=classes)
        weights, biases = (list(arrays) for arrays in zip(*task.initial, strict=True))
        if len(classes) == 2:  # one output, the logit of the second class beside the first
            weights[-1], biases[-1] = (np.diff(a, axis=-1) for a in (weights[-1], biases[-1]))
        model.coefs_, model.intercepts_ = weights, biases
        return "y = model.predict_proba(x)", {"model": model, "x": task.X}


class Jax(Predictor):
    """Jitted, with the weights as constants of the program, and waited for."""

    name = "jax"

    def __init__(self, task: None, threads: int) -> None:
        super().__init__(task, threads)
        self._jax = peers.import_jax(threads)

    def runs_on(self) -> str:
        return peers.jax_runs_on(self._jax)

    def statement(self, task: Task) -> tuple[str, Names]:
        layers = self._jax.tree.map(self._jax.numpy.array, task.initial)
        f = self._jax.jit(lambda x: jax_forward(self._jax, task.network, layers, x))
        return "y = f(x).block_until_ready()", {"f": f, "x": self._jax.device_put(task.X)}


PEERS = {peer.name: peer for peer in (NumPy, OnnxRuntime, Torch, ScikitLearn, Jax)}


def _infer() -> list[NetworkRow]:
    images, small, wide = (784, 256, 128, 10), (10, 32, 2), (784, 1024, 1024, 10)
    rows = []
    for units, count, limit, goal in (
        (images, 1, "none", Goal(vs={"best": 1.5})),
        (small, 1, "none", Goal(vs={"numpy": 5.0})),
        (wide, 1, "none", Goal()),
        (small, 32, "none", Goal()),
        (images, 16, "none", Goal()),
        (wide, 16, "none", Goal()),
        (images, 10_000, "fma", Goal(vs={"best": 1.2})),
    ):
        network = Network(units, rows=count, batch=count)
        name = f"{network} {count} row{'s' * (count > 1)}"
        op = "predict" if count > 1 else "predict_one"
        rows.append(network_row("infer", name, op, network, goal, limit=limit))
    return rows


ROWS: Sequence[NetworkRow] = _infer()
