"""Epochs per second of a multi-layer perceptron on Fashion-MNIST, beside the peers.

Every contestant trains the same network (784-256-128-10 by default, ReLU, softmax cross-entropy) on
the same float32 pixels with Adam, the same batch size and the same number of updates, shuffled
anew each epoch. A turn is one epoch. The training loss over all rows is computed here, in float64,
from each contestant's weights after every timed epoch; the bench fails when dlcore's is more than
5% above the best.

    python bench/bench_train.py
    python bench/bench_train.py --rows 6000 --epochs 3 --contestants sklearn,torch
"""

from __future__ import annotations

import argparse
import gzip
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from dlcore.bench import contest, figures, machine
from dlcore.bench.contest import Contest, Contestant, Rounds, Unavailable
from dlcore.bench.figures import Spread

LEARNING_RATE = 1e-3
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8

Layers = list[tuple[np.ndarray, np.ndarray]]  # weight (in, out) and bias (out) of each layer


@dataclass(frozen=True)
class Task:
    """X (n, features) float32, y (n) int64 labels, and how to train on them."""

    X: np.ndarray
    y: np.ndarray
    initial: Layers
    batch_size: int
    seed: int

    @property
    def units(self) -> list[int]:
        return [len(self.initial[0][0]), *(len(bias) for _, bias in self.initial)]

    def order(self, epoch: int) -> np.ndarray:
        """Return the order of the rows in an epoch, for contestants that do not draw their own."""
        return np.random.default_rng((self.seed, epoch)).permutation(len(self.X))

    @property
    def updates_per_epoch(self) -> int:
        return -(-len(self.X) // self.batch_size)

    @property
    def flops_per_epoch(self) -> int:
        """Operations of the matrix products: forward, weight gradients, input gradients.

        Nobody needs the gradient of the first layer's input.
        """
        sizes = [weight.size for weight, _ in self.initial]
        return 2 * (3 * sum(sizes) - sizes[0]) * len(self.X)


class Dlcore(Contestant):
    name = "dlcore"

    def __init__(self, task: Task, threads: int) -> None:
        import dlcore as dl
        from dlcore._probe import fma_rate

        self._threads, self._fma_rate = threads, fma_rate
        dl.set_num_threads(threads)
        layers: list[Any] = []
        for width_in, width_out in zip(task.units, task.units[1:], strict=False):
            layers += [dl.nn.Linear(width_in, width_out), dl.nn.ReLU()]
        self._task = task
        self._config = dl.config_info()
        self._optimizer = dl.optim.Adam(LEARNING_RATE)
        self._model = dl.nn.Sequential(*layers[:-1])
        self._model.init(task.seed)
        self._model.set_parameters(
            {
                f"{2 * i}.{kind}": value
                for i, layer in enumerate(task.initial)
                for kind, value in zip(("weight", "bias"), layer, strict=True)
            }
        )
        self._started = False

    def runs_on(self) -> str:
        return "{version}, {isa}, {threads} threads".format_map(self._config)

    def turn(self, case: None) -> None:
        self._model.fit(
            self._task.X,
            self._task.y,
            loss="cross_entropy",
            optimizer=self._optimizer,
            batch_size=self._task.batch_size,
            epochs=1,
            seed=self._task.seed,
            verbose=0,
            resume=self._started,
        )
        self._started = True

    def limits(self, case: None) -> dict[str, float]:
        return {"fma": self._fma_rate("float32", self._threads, 0.05)}

    def result(self) -> Layers:
        parameters = self._model.parameters()
        return [
            (np.array(parameters[f"{2 * i}.weight"]), np.array(parameters[f"{2 * i}.bias"]))
            for i in range(len(self._task.initial))
        ]


class ScikitLearn(Contestant):
    """MLPClassifier by `partial_fit`, which keeps Adam's state; `fit` would start it anew.

    It draws its initial weights itself, from the distribution that the others are given.
    """

    name = "sklearn"

    def __init__(self, task: Task, threads: int) -> None:
        from sklearn.neural_network import MLPClassifier
        from threadpoolctl import threadpool_limits

        threadpool_limits(threads)
        self._task = task
        self._classes = np.unique(task.y)
        self._model = MLPClassifier(
            hidden_layer_sizes=task.units[1:-1],
            activation="relu",
            solver="adam",
            alpha=0,
            batch_size=task.batch_size,
            learning_rate_init=LEARNING_RATE,
            beta_1=BETA1,
            beta_2=BETA2,
            epsilon=EPSILON,
            tol=0,
            # A generator, not a seed: a seed would repeat one order in every epoch.
            random_state=np.random.RandomState(task.seed),
        )

    def runs_on(self) -> str:
        return f"{machine.version('scikit-learn')}, {machine.blas_in_use()}"

    def turn(self, case: None) -> None:
        self._model.partial_fit(self._task.X, self._task.y, classes=self._classes)

    def result(self) -> Layers:
        return list(zip(self._model.coefs_, self._model.intercepts_, strict=True))


class Torch(Contestant):
    """Eager PyTorch: tensors made beforehand, batches by `index_select`, fused Adam."""

    name = "torch"

    def __init__(self, task: Task, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._torch, self._task = torch, task
        self._X, self._y = torch.from_numpy(task.X), torch.from_numpy(task.y)
        self._linears = [_torch_linear(torch, *layer) for layer in task.initial]
        modules = [module for linear in self._linears for module in (linear, torch.nn.ReLU())]
        self._model = torch.nn.Sequential(*modules[:-1])
        self._optimizer = torch.optim.Adam(
            self._model.parameters(),
            lr=LEARNING_RATE,
            betas=(BETA1, BETA2),
            eps=EPSILON,
            fused=True,
        )
        self._epoch = 0

    def _loss(self, x: Any, y: Any) -> Any:
        return self._torch.nn.functional.cross_entropy(self._model(x), y)

    def runs_on(self) -> str:
        torch = self._torch
        return (
            f"{torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, "
            f"mkl {torch.backends.mkl.is_available()}, "
            f"mkldnn {torch.backends.mkldnn.is_available()}, {torch.get_num_threads()} threads"
        )

    def turn(self, case: None) -> None:
        order = self._torch.from_numpy(self._task.order(self._epoch))
        self._epoch += 1
        for batch in order.split(self._task.batch_size):
            loss = self._loss(self._X.index_select(0, batch), self._y.index_select(0, batch))
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()

    def result(self) -> Layers:
        return [
            (linear.weight.detach().numpy().T, linear.bias.detach().numpy())
            for linear in self._linears
        ]


def _torch_linear(torch: Any, weight: np.ndarray, bias: np.ndarray) -> Any:
    linear = torch.nn.Linear(*weight.shape)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(weight.T))
        linear.bias.copy_(torch.from_numpy(bias))
    return linear


class TorchCompiled(Torch):
    """The same with forward and backward through torch.compile (needs a C++ compiler)."""

    name = "torch.compile"

    def __init__(self, task: Task, threads: int) -> None:
        super().__init__(task, threads)
        # Static shapes: one version for full batches, one for the last.
        self._compiled = self._torch.compile(super()._loss, dynamic=False, fullgraph=True)
        try:
            self._loss(self._X[:1], self._y[:1])
        except self._torch._dynamo.exc.BackendCompilerFailed as failure:
            raise Unavailable(f"torch.compile fails here: {failure}".splitlines()[0]) from failure

    def _loss(self, x: Any, y: Any) -> Any:
        return self._compiled(x, y)


class Jax(Contestant):
    """An epoch as one jitted `lax.scan` over its batches, state donated, Adam written out."""

    name = "jax"

    def __init__(self, task: Task, threads: int) -> None:
        if not machine.can_pin() and threads != len(machine.usable_cpus()):
            raise Unavailable("XLA's threads can be limited by CPU affinity only, which is missing")
        os.environ["JAX_PLATFORMS"] = "cpu"
        import jax

        self._jax, self._task = jax, task
        self._X, self._y = jax.device_put(task.X), jax.device_put(task.y.astype(np.int32))
        self._run_epoch, self._epoch = _jax_epoch(jax), 0
        parameters = jax.tree.map(jax.numpy.array, task.initial)
        zeros = jax.tree.map(jax.numpy.zeros_like, (parameters, parameters))
        self._state = (parameters, *zeros, jax.numpy.float32(0))

    def runs_on(self) -> str:
        jax = self._jax
        return f"{jax.__version__}, {jax.devices()}, {len(machine.usable_cpus())} CPUs"

    def turn(self, case: None) -> None:
        order = self._task.order(self._epoch).astype(np.int32)
        self._epoch += 1
        full = len(order) - len(order) % self._task.batch_size
        batches = order[:full].reshape(-1, self._task.batch_size)
        self._state = self._run_epoch(self._state, self._X, self._y, batches, order[full:])
        self._jax.block_until_ready(self._state)

    def result(self) -> Layers:
        return [(np.asarray(weight), np.asarray(bias)) for weight, bias in self._state[0]]


def _jax_epoch(jax: Any) -> Any:
    """epoch(state, X (n, k), y (n), batches (steps, batch), rest (n % batch)) -> state."""
    jnp = jax.numpy

    def loss(layers: Any, x: Any, y: Any) -> Any:
        for weight, bias in layers[:-1]:
            x = jax.nn.relu(x @ weight + bias)
        weight, bias = layers[-1]
        log_probabilities = jax.nn.log_softmax(x @ weight + bias)
        return -jnp.take_along_axis(log_probabilities, y[:, None], axis=1).mean()

    def update(state: Any, x: Any, y: Any) -> Any:
        layers, m, v, step = state
        gradient = jax.grad(loss)(layers, x, y)
        step = step + 1
        scale = LEARNING_RATE / (1 - BETA1**step)
        correction = 1 / (1 - BETA2**step)
        m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, m, gradient)
        v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, v, gradient)
        layers = jax.tree.map(
            lambda p, m, v: p - scale * m / (jnp.sqrt(v * correction) + EPSILON), layers, m, v
        )
        return layers, m, v, step

    def epoch(state: Any, X: Any, y: Any, batches: Any, rest: Any) -> Any:
        # Unrolled: no slower at 1 thread and faster at 2 in the runs that compared them.
        state, _ = jax.lax.scan(
            lambda state, rows: (update(state, X[rows], y[rows]), None), state, batches, unroll=4
        )
        return update(state, X[rest], y[rest]) if len(rest) else state

    return jax.jit(epoch, donate_argnums=0)


CONTESTANTS: dict[str, type[Contestant]] = {
    contestant.name: contestant for contestant in (Dlcore, ScikitLearn, Torch, TorchCompiled, Jax)
}


# --- data ----------------------------------------------------------------------------------------


def load_fashion_mnist(rows: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return training pixels / 255 (n, 784) float32 and labels (n) int64.

    Raises
    ------
    FileNotFoundError
        Where neither DLCORE_DATASETS nor /usr/share/datasets holds the gzipped IDX files.
    """
    folder = _fashion_mnist_folder()
    pixels = _read_idx(folder / "train-images-idx3-ubyte.gz")[:rows]
    labels = _read_idx(folder / "train-labels-idx1-ubyte.gz")[:rows]
    X = pixels.reshape(len(pixels), -1).astype(np.float32) / np.float32(255)
    return X, labels.astype(np.int64)


def _fashion_mnist_folder() -> Path:
    roots = [Path("/usr/share/datasets")]
    if "DLCORE_DATASETS" in os.environ:
        roots.insert(0, Path(os.environ["DLCORE_DATASETS"]))
    folders = [root / "fashion-mnist" for root in roots]
    for folder in folders:
        if (folder / "train-images-idx3-ubyte.gz").exists():
            return folder
    raise FileNotFoundError(
        f"Fashion-MNIST is not in {' or '.join(map(str, folders))}: install the Debian package "
        "dataset-fashion-mnist, or set DLCORE_DATASETS to a folder that holds "
        "fashion-mnist/train-images-idx3-ubyte.gz and its labels"
    )


def _read_idx(path: Path) -> np.ndarray:
    """Read a gzipped IDX file of unsigned bytes."""
    with gzip.open(path) as file:
        content = file.read()
    dimensions = content[3]
    shape = np.frombuffer(content, ">i4", count=dimensions, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def glorot_uniform(units: Sequence[int], seed: int) -> Layers:
    """Draw weights and biases as scikit-learn does for ReLU, U(-a, a), a^2 = 6 / (in + out)."""
    rng = np.random.default_rng(seed)
    layers = []
    for width_in, width_out in zip(units, units[1:], strict=False):
        bound = np.sqrt(6 / (width_in + width_out))
        weight = rng.uniform(-bound, bound, (width_in, width_out)).astype(np.float32)
        bias = rng.uniform(-bound, bound, width_out).astype(np.float32)
        layers.append((weight, bias))
    return layers


def training_loss(layers: Layers, X: np.ndarray, y: np.ndarray, block: int = 4096) -> float:
    """Return the mean softmax cross-entropy over all rows, in float64."""
    total = 0.0
    for begin in range(0, len(X), block):
        x = X[begin : begin + block].astype(np.float64)
        labels = y[begin : begin + block]
        for weight, bias in layers[:-1]:
            x = np.maximum(x @ weight + bias, 0)
        weight, bias = layers[-1]
        logits = x @ weight + bias
        logits -= logits.max(axis=1, keepdims=True)
        log_sum = np.log(np.exp(logits).sum(axis=1))
        total += float((log_sum - logits[np.arange(len(labels)), labels]).sum())
    return total / len(X)


# --- the bench -----------------------------------------------------------------------------------


def run(task: Task, names: Sequence[str], threads: int, epochs: int) -> dict[str, Any]:
    """Hold the contest at one thread count, print it, and return it for the JSON report."""
    classes = [CONTESTANTS[name] for name in names]
    with Contest(classes, task, threads) as held:
        print(f"\n{threads} thread{'s' * (threads > 1)} on CPU {held.cpus}")
        for name, report in held.runs_on.items():
            print(f"  {name}: {report}")
        for name, reason in held.skipped.items():
            print(f"  {name}: skipped, {reason}")
        if contest.SUBJECT in held.skipped:
            raise Unavailable(f"{contest.SUBJECT}: {held.skipped[contest.SUBJECT]}")
        held.rounds(1)
        rounds = held.rounds(epochs)
        remarks = held.remarks()
    losses = {
        name: [training_loss(layers, task.X, task.y) for layers in after_epoch]
        for name, after_epoch in rounds.results.items()
    }
    if losses:
        print_table(task, rounds, losses)
    for remark in remarks:
        print(remark)
    return {
        "threads": threads,
        "cpus": held.cpus,
        "runs_on": held.runs_on,
        "skipped": held.skipped,
        "seconds_per_epoch": rounds.seconds,
        "fma_peak": rounds.peak,
        "training_loss_after_epoch": losses,
        "remarks": remarks,
    }


def print_table(task: Task, rounds: Rounds, losses: dict[str, list[float]]) -> None:
    base = next(iter(rounds.seconds))
    rows = []
    for name, seconds in rounds.seconds.items():
        rows.append(
            (
                name,
                str(Spread.of([1 / elapsed for elapsed in seconds])),
                str(figures.ratios(seconds, rounds.seconds[base])),
                str(Spread.of([task.flops_per_epoch / 1e9 / elapsed for elapsed in seconds])),
                str(figures.fraction_of_peak(task.flops_per_epoch, seconds, rounds.peak)),
                f"{losses[name][-1]:.4f}",
                f"{mean(losses[name]):.4f}",
            )
        )
    header = (
        *("", "epochs/s", f"time / {base}", "GFLOP/s", "of FMA peak"),
        *("final loss", "mean loss"),
    )
    print(figures.table(header, rows))
    if contest.SUBJECT in rounds.seconds:
        print(f"FMA peak {Spread.of([peak / 1e9 for peak in rounds.peak])} GFLOP/s")
    else:
        print(f"FMA peak: not measured, which {contest.SUBJECT} does")


def judge(runs: Sequence[dict[str, Any]]) -> int:
    """Return the exit status: 1 when dlcore trained worse than its peers.

    Judged is the mean of the losses after each timed epoch. The last loss alone depends on the
    order of the rows too much: over six orders, one library's differed by up to 14%, their means
    over five epochs by 4%.
    """
    status = 0
    for held in runs:
        losses = held["training_loss_after_epoch"]
        complaint = loss_too_high({name: mean(after) for name, after in losses.items()})
        if complaint:
            print(f"FAILED at {held['threads']} threads: {complaint}", file=sys.stderr)
            status = 1
    return status


def loss_too_high(
    losses: Mapping[str, float], subject: str = contest.SUBJECT, tolerance: float = 0.05
) -> str | None:
    """Say by how much the subject's loss exceeds the best, or None when it is within bounds.

    A loss that is not finite is never within bounds.
    """
    if subject not in losses:
        return None
    best = min((loss for loss in losses.values() if math.isfinite(loss)), default=math.nan)
    if losses[subject] <= (1 + tolerance) * best:
        return None
    return (
        f"{subject}'s training loss is {losses[subject]:.4f}, the best is {best:.4f}: "
        f"more than {tolerance:.0%} above"
    )


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    def positive(text: str) -> int:
        if int(text) < 1:
            raise argparse.ArgumentTypeError(f"{text} is below 1")
        return int(text)

    def positives(text: str) -> list[int]:
        return [positive(item) for item in text.split(",")]

    def contestants(text: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in CONTESTANTS:
                raise argparse.ArgumentTypeError(f"{name} is none of {', '.join(CONTESTANTS)}")
        return names

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=positive, default=10, help="timed epochs (default 10)")
    parser.add_argument("--rows", type=positive, help="use the first ROWS rows (default all)")
    parser.add_argument("--hidden", type=positives, default=[256, 128], help="default 256,128")
    parser.add_argument("--batch", type=positive, default=128, help="default 128")
    parser.add_argument("--threads", type=positives, default=[1, 2], help="default 1,2")
    parser.add_argument("--seed", type=int, default=0, help="initial weights and order (default 0)")
    parser.add_argument(
        "--contestants",
        type=contestants,
        default=list(CONTESTANTS),
        help=f"ratios are to the first (default {','.join(CONTESTANTS)})",
    )
    parser.add_argument("--json", metavar="FILE", help="also write every measured value to FILE")
    options = parser.parse_args(arguments)
    for count in options.threads:
        if count > len(machine.usable_cpus()):
            parser.error(f"--threads {count}: this process may run on {machine.usable_cpus()} only")
    return options


def main() -> int:
    options = parse_arguments()
    cleared = machine.clear_environment()
    try:
        X, y = load_fashion_mnist(options.rows)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    units = [X.shape[1], *options.hidden, int(y.max()) + 1]
    task = Task(X, y, glorot_uniform(units, options.seed), options.batch, options.seed)

    described = machine.describe_machine()
    updates = (options.epochs + 1) * task.updates_per_epoch
    print(", ".join(described.values()))
    print(f"removed from the environment: {' '.join(cleared) or 'nothing'}")
    print(
        f"Fashion-MNIST {len(X)} x {X.shape[1]}, {'-'.join(map(str, units))}, "
        f"batch {task.batch_size}, Adam {LEARNING_RATE}, "
        f"1 + {options.epochs} epochs = {updates} updates"
    )
    try:
        runs = [run(task, options.contestants, count, options.epochs) for count in options.threads]
    except Unavailable as reason:
        print(reason, file=sys.stderr)
        return 2
    if options.json:
        figures.write_json(options.json, {"machine": described, "runs": runs})
    return judge(runs)


if __name__ == "__main__":
    sys.exit(main())
