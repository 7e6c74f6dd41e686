"""The networks that benches train and run: layers, data, and the reference in float64."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

Layers = list[tuple[np.ndarray, np.ndarray]]
"""Weight (in, out) and bias (out) of each layer."""

FASHION_MNIST = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
DIMENSIONS = 8
"""Of the space that synthetic classes lie in."""
BLOCK = 4096
"""Rows that the float64 reference computes at a time."""


@dataclass(frozen=True)
class Network:
    """Layers, and how they are trained.

    Attributes
    ----------
    units : of the input and of every layer
    rows, batch : of an epoch and of a step; the last step of an epoch takes what is left
    activation : of the hidden layers, "relu" or "tanh"
    loss : "cross_entropy" of labels, or "mse"
    shuffled : whether every epoch takes the rows in another order
    data : "classes", "matrix exponentials" or "Fashion-MNIST"; where the files of the last are
        missing, classes take its place
    epochs : of a turn, the same for all, so that their losses can be compared
    """

    units: tuple[int, ...]
    rows: int
    batch: int
    activation: str = "relu"
    loss: str = "cross_entropy"
    shuffled: bool = True
    data: str = "classes"
    epochs: int = 1

    def __str__(self) -> str:
        return "-".join(map(str, self.units))

    @property
    def weights(self) -> list[int]:
        """How many each layer has."""
        return [n_in * n_out for n_in, n_out in pairwise(self.units)]

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.rows // self.batch)

    @property
    def training_flops(self) -> int:
        """Operations of the matrix products of an epoch: forward, weight and input gradients.

        Nobody needs the gradient of the first layer's input.
        """
        return 2 * (3 * sum(self.weights) - self.weights[0]) * self.rows

    @property
    def forward_flops(self) -> int:
        return 2 * sum(self.weights) * self.rows


@dataclass(frozen=True)
class Task:
    """A network with what it is trained on.

    Attributes
    ----------
    X : (rows, units[0]) float32
    y : (rows) int64 labels, or (rows, units[-1]) float32
    """

    network: Network
    X: np.ndarray
    y: np.ndarray
    initial: Layers
    seed: int

    def order(self, epoch: int) -> np.ndarray:
        """The order of the rows in an epoch, for contestants that do not draw their own."""
        return np.random.default_rng((self.seed, epoch)).permutation(self.network.rows)


def make_task(network: Network, seed: int) -> Task:
    """The task, which is the same in every process."""
    rng = np.random.default_rng((seed, 1))
    folder = fashion_mnist_folder() if network.data == "Fashion-MNIST" else None
    if network.data == "matrix exponentials":
        X, y = matrix_exponentials(network.rows, rng)
    elif folder is not None:
        X, y = load_fashion_mnist(folder, network.rows)
    else:
        X, y = classes(network.rows, network.units[0], network.units[-1], rng)
    return Task(network, X, y, glorot_uniform(network.units, seed), seed)


def glorot_uniform(units: Sequence[int], seed: int) -> Layers:
    """Weights and biases drawn as scikit-learn does, U(-a, a) with a^2 = 6 / (in + out)."""
    rng = np.random.default_rng(seed)
    layers = []
    for n_in, n_out in pairwise(units):
        bound = np.sqrt(6 / (n_in + n_out))
        weight = rng.uniform(-bound, bound, (n_in, n_out)).astype(np.float32)
        bias = rng.uniform(-bound, bound, n_out).astype(np.float32)
        layers.append((weight, bias))
    return layers


# The reference


def forward(network: Network, layers: Layers, x: np.ndarray) -> np.ndarray:
    """The outputs (n, units[-1]) in float64, logits where the loss is cross-entropy."""
    activate = np.tanh if network.activation == "tanh" else relu
    x = x.astype(np.float64)
    for weight, bias in layers[:-1]:
        x = activate(x @ weight + bias)
    weight, bias = layers[-1]
    return x @ weight + bias


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def training_loss(task: Task, layers: Layers) -> float:
    """The mean loss over all rows, in float64."""
    blocks = [slice(begin, begin + BLOCK) for begin in range(0, len(task.X), BLOCK)]
    return sum(_summed_loss(task, layers, rows) for rows in blocks) / len(task.X)


def _summed_loss(task: Task, layers: Layers, rows: slice) -> float:
    output, y = forward(task.network, layers, task.X[rows]), task.y[rows]
    if task.network.loss == "mse":
        return float(np.mean((output - y) ** 2, axis=1).sum())
    output -= output.max(axis=1, keepdims=True)
    return float((np.log(np.exp(output).sum(axis=1)) - output[np.arange(len(y)), y]).sum())


# Data


def classes(
    rows: int, features: int, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """X (rows, features) float32, and the labels that a linear model with noise chooses.

    The noise keeps the loss away from 0, and the rows are points of a space of few dimensions,
    where a network does not learn the noise by heart: losses that fall steeply differ much from
    one order of the rows to another.
    """
    points = rng.standard_normal((rows, DIMENSIONS), np.float32)
    axes, weight = (
        rng.standard_normal((DIMENSIONS, n), np.float32) / np.float32(DIMENSIONS**0.5)
        for n in (features, count)
    )
    return points @ axes, np.argmax(3 * points @ weight + rng.gumbel(size=(rows, count)), axis=1)


def matrix_exponentials(rows: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Normal 2 x 2 matrices and their exponentials, both (rows, 4) float32."""
    matrices = rng.standard_normal((rows, 2, 2)) / 2
    # The traceless part N has N^2 = q I, so that its series is cosh and sinh of q's root.
    half_trace = np.trace(matrices, axis1=1, axis2=2)[:, None, None] / 2
    traceless = matrices - half_trace * np.eye(2)
    root = np.sqrt(-np.linalg.det(traceless).astype(complex))[:, None, None]
    series = np.cosh(root) * np.eye(2) + np.sinh(root) / root * traceless
    exponentials = np.exp(half_trace) * series.real
    X, y = (m.reshape(rows, 4).astype(np.float32) for m in (matrices, exponentials))
    return X, y


def describe_data(network: Network) -> str:
    """What the network is trained on here, and why."""
    if network.data == "matrix exponentials":
        return "exponentials of random 2 x 2 matrices"
    if network.data == "classes":
        return "synthetic classes"
    folder = fashion_mnist_folder()
    if folder is not None:
        return f"the first {network.rows} rows of Fashion-MNIST, {folder}"
    missing = " or ".join(map(str, _fashion_mnist_folders()))
    return f"synthetic classes, as Fashion-MNIST is not in {missing}"


def fashion_mnist_folder() -> Path | None:
    """Where its gzipped IDX files are: in `DLCORE_DATASETS`, or where Debian's package has them."""
    for folder in _fashion_mnist_folders():
        if all((folder / name).exists() for name in FASHION_MNIST):
            return folder
    return None


def _fashion_mnist_folders() -> Iterator[Path]:
    for root in (os.environ.get("DLCORE_DATASETS"), "/usr/share/datasets"):
        if root:
            yield Path(root) / "fashion-mnist"


def load_fashion_mnist(folder: Path, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The first training pixels / 255 (rows, 784) float32, and their labels (rows) int64."""
    pixels, labels = (read_idx(folder / name)[:rows] for name in FASHION_MNIST)
    X = pixels.reshape(len(pixels), -1).astype(np.float32) / np.float32(255)
    return X, labels.astype(np.int64)


def read_idx(path: Path) -> np.ndarray:
    """A gzipped IDX file of unsigned bytes."""
    with gzip.open(path) as file:
        content = file.read()
    dimensions = content[3]
    shape = np.frombuffer(content, ">i4", count=dimensions, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
