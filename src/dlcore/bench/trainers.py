"""Every library's way of training a network by Adam, in turns of whole epochs."""

from __future__ import annotations

import time
from abc import abstractmethod
from itertools import pairwise
from typing import Any

import numpy as np

from dlcore.bench import machine, peers
from dlcore.bench.contest import SUBJECT, Contestant, Unavailable
from dlcore.bench.libraries import PROBES, Prepared
from dlcore.bench.networks import Layers, Network, Task, make_task
from dlcore.bench.training import NetworkCase
from dlcore.bench.work import ADAM


class Trainer(Contestant):
    """Trains one library's model of the case's network."""

    def __init__(self, task: None, threads: int) -> None:
        self.threads = threads
        self._epoch = 0

    def takes(self, case: NetworkCase) -> bool:
        """Whether the library can do what the case asks for."""
        return True

    @abstractmethod
    def build(self, task: Task) -> None:
        """Make a new model from the initial weights; the data as the library's own, too."""

    @abstractmethod
    def train(self, task: Task, epochs: range) -> None:
        """Train for some more epochs, numbered from the first of the model on, to completion."""

    @abstractmethod
    def layers(self) -> Layers:
        """The weights and biases as they are."""

    def prepare(self, case: NetworkCase) -> Prepared | None:
        """Build the model and take a turn, which compiles; None where it takes no part."""
        if not self.takes(case):
            return None
        self._task = make_task(case.network, case.seed)
        self._build()
        elapsed = self.turn(case) * case.network.epochs * case.network.steps_per_epoch
        return Prepared(None, elapsed)

    def before_turn(self, case: NetworkCase) -> None:
        if case.op == "first_step":
            self._build()

    def turn(self, case: NetworkCase) -> float:
        """Seconds of a step."""
        network = case.network
        epochs = range(self._epoch, self._epoch + network.epochs)
        begin = time.perf_counter()
        self.train(self._task, epochs)
        elapsed = time.perf_counter() - begin
        self._epoch = epochs.stop
        return elapsed / (network.epochs * network.steps_per_epoch)

    def result(self) -> Layers:
        return [(np.array(weight), np.array(bias)) for weight, bias in self.layers()]

    def _build(self) -> None:
        self.build(self._task)
        self._epoch = 0


class Dlcore(Trainer):
    """`Sequential.fit`, which goes on where the turn before stopped.

    The first step of a model traces, differentiates and compiles its plan anew: plans are the
    model's own. What a process keeps from one model to the next is the modules and some functions
    of the table of ops, each with the attributes it was asked for with (an `lru_cache`).
    """

    name = SUBJECT

    def __init__(self, task: None, threads: int) -> None:
        super().__init__(task, threads)
        import dlcore as dl

        self._dl = dl
        dl.set_num_threads(threads)

    def runs_on(self) -> str:
        return "{version}, {isa}, {threads} threads".format_map(self._dl.config_info())

    def build(self, task: Task) -> None:
        self._model = dlcore_model(self._dl, task.network, task.initial)
        self._optimizer = self._dl.optim.Adam(
            ADAM["lr"], beta1=ADAM["beta1"], beta2=ADAM["beta2"], eps=ADAM["eps"]
        )

    def train(self, task: Task, epochs: range) -> None:
        self._model.fit(
            task.X,
            task.y,
            loss=task.network.loss,
            optimizer=self._optimizer,
            batch_size=task.network.batch,
            epochs=len(epochs),
            shuffle=task.network.shuffled,
            seed=task.seed,
            resume=epochs.start > 0,
        )

    def layers(self) -> Layers:
        values = iter(self._model.parameters().values())
        return list(zip(values, values, strict=True))

    def limits(self, case: NetworkCase) -> dict[str, float]:
        return machine_limits(case, self.threads)


def machine_limits(case: NetworkCase, threads: int) -> dict[str, float]:
    """`seconds` that the case's operations take at the rate of multiply-adds in registers.

    At several threads also how long a barrier takes them, `barrier`.
    """
    from dlcore._probe import barrier_rate, fma_rate

    found = {} if threads == 1 else {"barrier": 1 / barrier_rate(threads, case.seconds / PROBES)}
    if case.limit == "none":
        return found
    each = case.seconds / PROBES
    rate = sorted(fma_rate("float32", threads, each) for _ in range(PROBES))[PROBES // 2]
    return {**found, "seconds": case.flops / rate, "fma": rate}


def dlcore_model(dl: Any, network: Network, initial: Layers) -> Any:
    activation = {"relu": dl.nn.ReLU, "tanh": dl.nn.Tanh}[network.activation]
    layers = []
    for n_in, n_out in pairwise(network.units):
        layers += [dl.nn.Linear(n_in, n_out), activation()]
    model = dl.nn.Sequential(*layers[:-1])
    model.init(0)
    values = (array for layer in initial for array in layer)
    model.set_parameters(dict(zip(model.parameters(), values, strict=True)))
    return model


class ScikitLearn(Trainer):
    """MLPClassifier by `partial_fit`, which keeps Adam's state; `fit` would start it anew.

    It draws its initial weights itself, from the distribution that the others are given. It has no
    training on the whole batch in its order.
    """

    name = "sklearn"

    def __init__(self, task: None, threads: int) -> None:
        super().__init__(task, threads)
        limit_sklearn(threads)

    def runs_on(self) -> str:
        return f"{machine.version('scikit-learn')}, {machine.blas_in_use()}"

    def takes(self, case: NetworkCase) -> bool:
        return case.network.loss == "cross_entropy" and case.network.shuffled

    def build(self, task: Task) -> None:
        self._model = sklearn_model(task.network, task.seed)
        self._classes = np.arange(task.network.units[-1])

    def train(self, task: Task, epochs: range) -> None:
        for _ in epochs:
            self._model.partial_fit(task.X, task.y, classes=self._classes)

    def layers(self) -> Layers:
        *hidden, (weight, bias) = zip(self._model.coefs_, self._model.intercepts_, strict=True)
        if len(self._classes) == 2:
            # One output: the logit of the second class, beside which that of the first is 0.
            weight, bias = (np.concatenate([0 * a, a], axis=-1) for a in (weight, bias))
        return [*hidden, (weight, bias)]


def limit_sklearn(threads: int) -> None:
    """Import it, with which the libraries come that are then limited."""
    import sklearn.neural_network  # noqa: F401
    from threadpoolctl import threadpool_limits

    threadpool_limits(threads)


def sklearn_model(network: Network, seed: int) -> Any:
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier(
        hidden_layer_sizes=network.units[1:-1],
        activation=network.activation,
        solver="adam",
        alpha=0,
        batch_size=network.batch,
        learning_rate_init=ADAM["lr"],
        beta_1=ADAM["beta1"],
        beta_2=ADAM["beta2"],
        epsilon=ADAM["eps"],
        # A generator, not a seed: a seed would repeat one order in every epoch.
        random_state=np.random.RandomState(seed),
    )


class Torch(Trainer):
    """Eager: tensors made beforehand, batches by `index_select`, fused Adam."""

    name = "torch"

    def __init__(self, task: None, threads: int) -> None:
        super().__init__(task, threads)
        import torch

        torch.set_num_threads(threads)
        self._torch = torch

    def runs_on(self) -> str:
        return peers.torch_runs_on(self._torch)

    def build(self, task: Task) -> None:
        torch = self._torch
        self._X, self._y = torch.from_numpy(task.X), torch.from_numpy(task.y)
        self._model = torch_model(torch, task.network, task.initial)
        losses = torch.nn.functional
        self._measure = {"cross_entropy": losses.cross_entropy, "mse": losses.mse_loss}[
            task.network.loss
        ]
        self._optimizer = torch.optim.Adam(
            self._model.parameters(),
            lr=ADAM["lr"],
            betas=(ADAM["beta1"], ADAM["beta2"]),
            eps=ADAM["eps"],
            fused=True,
        )

    def loss(self, x: Any, y: Any) -> Any:
        return self._measure(self._model(x), y)

    def train(self, task: Task, epochs: range) -> None:
        for epoch in epochs:
            if not task.network.shuffled:
                self._step(self._X, self._y)
                continue
            order = self._torch.from_numpy(task.order(epoch))
            for rows in order.split(task.network.batch):
                self._step(self._X.index_select(0, rows), self._y.index_select(0, rows))

    def _step(self, x: Any, y: Any) -> None:
        loss = self.loss(x, y)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()

    def layers(self) -> Layers:
        values = (parameter.detach().numpy() for parameter in self._model.parameters())
        return [(weight.T, bias) for weight, bias in zip(values, values, strict=True)]


def torch_model(torch: Any, network: Network, initial: Layers) -> Any:
    activation = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh}[network.activation]
    modules = []
    for weight, bias in initial:
        linear = torch.nn.Linear(*weight.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weight.T))
            linear.bias.copy_(torch.from_numpy(bias))
        modules += [linear, activation()]
    return torch.nn.Sequential(*modules[:-1])


class TorchCompiled(Torch):
    """The same with forward and backward through torch.compile, which needs a C++ compiler.

    It leaves out the first step: it compiles for many seconds, or takes from a cache on disk what
    an earlier run compiled.
    """

    name = "torch.compile"

    def __init__(self, task: None, threads: int) -> None:
        super().__init__(task, threads)
        try:
            self._torch.compile(lambda x: x + 1)(self._torch.zeros(1))
        except self._torch._dynamo.exc.BackendCompilerFailed as failure:
            raise Unavailable(f"torch.compile fails here: {failure}".splitlines()[0]) from failure

    def takes(self, case: NetworkCase) -> bool:
        return case.op != "first_step"

    def build(self, task: Task) -> None:
        super().build(task)
        self._torch._dynamo.reset()
        # Static shapes: one version for full batches, one for the last.
        self._compiled = self._torch.compile(super().loss, dynamic=False, fullgraph=True)

    def loss(self, x: Any, y: Any) -> Any:
        return self._compiled(x, y)


class Jax(Trainer):
    """An epoch as one jitted `lax.scan` over its batches, state donated, Adam written out.

    Epochs are dispatched one after the other, and waited for at the end of a turn. Where the batch
    is the whole data, which makes an epoch of one step, the scan is over the epochs of the turn.
    """

    name = "jax"

    def __init__(self, task: None, threads: int) -> None:
        super().__init__(task, threads)
        self._jax = peers.import_jax(threads)

    def runs_on(self) -> str:
        return peers.jax_runs_on(self._jax)

    def build(self, task: Task) -> None:
        jax = self._jax
        # JAX's labels are int32, unless it is told to compute in float64 throughout.
        y = task.y if task.network.loss == "mse" else task.y.astype(np.int32)
        self._X, self._y = jax.device_put(task.X), jax.device_put(y)
        parameters = jax.tree.map(jax.numpy.array, task.initial)
        zeros = jax.tree.map(jax.numpy.zeros_like, (parameters, parameters))
        self._state = (parameters, *zeros, jax.numpy.float32(0))
        step = jax_step(jax, task.network)
        self._run = (_jax_epoch if task.network.shuffled else _jax_full_batch)(jax, step)

    def train(self, task: Task, epochs: range) -> None:
        if task.network.shuffled:
            for epoch in epochs:
                self._shuffled_epoch(task, epoch)
        else:
            self._state = self._run(self._state, self._X, self._y, len(epochs))
        self._jax.block_until_ready(self._state)

    def _shuffled_epoch(self, task: Task, epoch: int) -> None:
        order = task.order(epoch).astype(np.int32)
        full = len(order) - len(order) % task.network.batch
        batches = order[:full].reshape(-1, task.network.batch)
        self._state = self._run(self._state, self._X, self._y, batches, order[full:])

    def layers(self) -> Layers:
        return self._state[0]


# Steps that a scan runs in a turn of its loop: no slower at 1 thread and faster at 2 than one.
UNROLL = 4


def _jax_epoch(jax: Any, step: Any) -> Any:
    """epoch(state, X (n, k), y, batches (steps, batch), rest (n % batch)) -> state."""

    def epoch(state: Any, X: Any, y: Any, batches: Any, rest: Any) -> Any:
        def one(state: Any, rows: Any) -> tuple[Any, None]:
            return step(state, X[rows], y[rows]), None

        state, _ = jax.lax.scan(one, state, batches, unroll=UNROLL)
        return step(state, X[rest], y[rest]) if len(rest) else state

    return jax.jit(epoch, donate_argnums=0)


def _jax_full_batch(jax: Any, step: Any) -> Any:
    """steps(state, X, y, count) -> state."""

    def steps(state: Any, X: Any, y: Any, count: int) -> Any:
        def one(state: Any, _: None) -> tuple[Any, None]:
            return step(state, X, y), None

        return jax.lax.scan(one, state, None, length=count, unroll=UNROLL)[0]

    return jax.jit(steps, donate_argnums=0, static_argnums=3)


def jax_step(jax: Any, network: Network) -> Any:
    """step((layers, m, v, count), x, y) -> the state after a step of Adam."""
    jnp = jax.numpy

    def loss(layers: Any, x: Any, y: Any) -> Any:
        output = jax_forward(jax, network, layers, x)
        if network.loss == "mse":
            return jnp.mean((output - y) ** 2)
        chosen = jnp.take_along_axis(jax.nn.log_softmax(output), y[:, None], axis=1)
        return -chosen.mean()

    beta1, beta2 = ADAM["beta1"], ADAM["beta2"]

    def step(state: Any, x: Any, y: Any) -> Any:
        layers, m, v, count = state
        gradient = jax.grad(loss)(layers, x, y)
        count = count + 1
        scale = ADAM["lr"] / (1 - beta1**count)
        correction = 1 / (1 - beta2**count)
        m = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, m, gradient)
        v = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * g * g, v, gradient)
        layers = jax.tree.map(
            lambda p, m, v: p - scale * m / (jnp.sqrt(v * correction) + ADAM["eps"]), layers, m, v
        )
        return layers, m, v, count

    return step


def jax_forward(jax: Any, network: Network, layers: Any, x: Any) -> Any:
    activate = {"relu": jax.nn.relu, "tanh": jax.numpy.tanh}[network.activation]
    for weight, bias in layers[:-1]:
        x = activate(x @ weight + bias)
    weight, bias = layers[-1]
    return x @ weight + bias


PEERS = {peer.name: peer for peer in (ScikitLearn, Torch, TorchCompiled, Jax)}
