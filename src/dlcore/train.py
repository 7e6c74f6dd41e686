"""Training: batches, callbacks, and the loop that runs compiled plans over the data."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore import _native
from dlcore.memory import aligned_empty, native_array
from dlcore.team import BUDGET

if TYPE_CHECKING:
    from dlcore.graph.lower import CompiledPlan
    from dlcore.nn.sequential import Sequential
    from dlcore.optim import Optimizer

# Epochs that nothing looks at between are run by one native call, as many as this many rows hold.
_ORDER_ROWS = 1 << 20


def batch_indices(
    n: int, batch_size: int, epoch: int, seed: int, *, shuffle: bool = True
) -> list[np.ndarray]:
    """The rows of every mini-batch of an epoch, as ``fit`` takes them.

    Parameters
    ----------
    n : int
        Rows of the data.
    batch_size : int
        Rows of a batch; the last one holds what is left. With ``batch_size >= n`` there is one
        batch, in the order of the data.
    epoch : int
        Epochs that the run has behind it, from 0.
    seed : int
        The seed given to ``fit``.
    shuffle : bool, default True

    Returns
    -------
    list of ndarray of int64

    Examples
    --------
    >>> from dlcore.train import batch_indices
    >>> [len(batch) for batch in batch_indices(10, 4, epoch=0, seed=0)]
    [4, 4, 2]
    """
    if n < 0 or epoch < 0:
        raise ValueError(f"n and epoch must be >= 0, not {n} and {epoch}")
    check_batch_size(batch_size)
    order = np.arange(n)
    if shuffle and batch_size < n:
        order = _native.shuffle(n, check_seed(seed), epoch)
    return [order[start : start + batch_size] for start in range(0, n, batch_size)]


def check_batch_size(batch_size: Any) -> int:
    """``batch_size`` as an int; ValueError unless it is a whole number >= 1."""
    if not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise ValueError(f"batch_size must be an integer >= 1, not {batch_size!r}")
    return int(batch_size)


def check_seed(seed: Any) -> int:
    """``seed`` as an int; ValueError unless it fits in 64 bits without a sign."""
    if not isinstance(seed, int | np.integer) or not 0 <= seed < 1 << 64:
        raise ValueError(f"seed must be an integer in [0, 2**64), not {seed!r}")
    return int(seed)


class History(dict[str, list[float]]):
    """What a fit recorded: lists with an entry for each epoch, by name.

    ``loss`` is the mean training loss over the epoch's batches, each weighted by its rows (or its
    sum of sample weights), measured before its update; ``val_loss`` is measured after the epoch.
    Of an epoch that was broken off, a resumed fit records the loss of the rest.
    """

    def record(self, **values: float) -> None:
        """Appends the values of an epoch."""
        for name, value in values.items():
            self.setdefault(name, []).append(float(value))


@dataclass
class Fit:
    """A running fit, as callbacks see it.

    Attributes
    ----------
    model : Sequential
    optimizer : Optimizer
        Its ``learning_rate`` may be changed; the next epoch uses it.
    epochs : int
        How many epochs were asked for.
    epoch : int
        The epoch that has just ended, from 0.
    history : History
    validates : bool
        Whether there is validation data, and so ``history["val_loss"]``.
    """

    model: Sequential
    optimizer: Optimizer
    epochs: int
    history: History = field(default_factory=History)
    epoch: int = -1
    validates: bool = False
    stopping: bool = False

    def stop(self) -> None:
        """Ends the fit after this epoch."""
        self.stopping = True


class Callback:
    """Hooks into a fit; override what you need.

    A plain function of one argument serves as ``on_epoch_end``.
    """

    def on_fit_begin(self, fit: Fit) -> None:
        """Before the first step."""

    def on_epoch_end(self, fit: Fit) -> None:
        """After every epoch; ``fit.history`` holds its losses."""

    def on_fit_end(self, fit: Fit) -> None:
        """After the last step, also when the fit was stopped."""


class _FunctionCallback(Callback):
    def __init__(self, function: Callable[[Fit], None]):
        self.function = function

    def on_epoch_end(self, fit: Fit) -> None:
        self.function(fit)


class EarlyStopping(Callback):
    """Ends a fit that no longer improves.

    Parameters
    ----------
    monitor : str, default 'val_loss'
        The entry of the history to look at; smaller is better.
    patience : int, default 10
        Epochs without improvement after which the fit ends.
    min_delta : float, default 0
        What counts as an improvement.
    restore_best : bool, optional
        Whether the parameters of the best epoch are put back at the end. Default: unless
        ``monitor`` is ``loss``, which is measured while the parameters change.

    Examples
    --------
    >>> from dlcore.train import EarlyStopping
    >>> stopping = EarlyStopping(monitor="loss", patience=3)
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        patience: int = 10,
        min_delta: float = 0.0,
        restore_best: bool | None = None,
    ):
        if patience < 1:
            raise ValueError(f"patience must be >= 1, not {patience!r}")
        if restore_best and monitor == "loss":
            raise ValueError(
                "restore_best=True needs a monitor that is measured after the epoch, not 'loss'"
            )
        self.monitor = monitor
        self.patience = patience
        self.min_delta = min_delta
        self.restore_best = monitor != "loss" if restore_best is None else restore_best

    def on_fit_begin(self, fit: Fit) -> None:
        if self.monitor == "val_loss" and not fit.validates:
            raise ValueError("monitor is 'val_loss', but the fit has no validation_data")
        self.best = float("inf")
        self.best_epoch = -1
        self._parameters: dict[str, np.ndarray] | None = None

    def on_epoch_end(self, fit: Fit) -> None:
        if self.monitor not in fit.history:
            known = ", ".join(fit.history)
            raise ValueError(f"monitor is {self.monitor!r}, but the history has {known}")
        value = fit.history[self.monitor][-1]
        if value < self.best - self.min_delta:
            self.best, self.best_epoch = value, fit.epoch
            if self.restore_best:
                self._parameters = {k: v.copy() for k, v in fit.model.parameters().items()}
        elif fit.epoch - self.best_epoch >= self.patience:
            fit.stop()

    def on_fit_end(self, fit: Fit) -> None:
        if self._parameters is not None:
            fit.model.set_parameters(self._parameters)
            self._parameters = None


class Progress(Callback):
    """Shows epochs and losses: a bar where tqdm is installed, else a line for each epoch."""

    def on_fit_begin(self, fit: Fit) -> None:
        self._begin = time.perf_counter()
        try:
            from tqdm.auto import tqdm
        except ImportError:
            self._bar = None
        else:
            self._bar = tqdm(total=fit.epochs, unit="epoch")

    def on_epoch_end(self, fit: Fit) -> None:
        losses = {name: f"{values[-1]:.4f}" for name, values in fit.history.items()}
        if self._bar is not None:
            self._bar.set_postfix(losses, refresh=False)
            self._bar.update()
            return
        text = "  ".join(f"{name} {value}" for name, value in losses.items())
        seconds = time.perf_counter() - self._begin
        print(f"epoch {fit.epoch + 1}/{fit.epochs}  {text}  {seconds:.1f} s")

    def on_fit_end(self, fit: Fit) -> None:
        if self._bar is not None:
            self._bar.close()


Callbacks = Iterable[Callback | Callable[[Fit], None]] | Callback | Callable[[Fit], None] | None


def as_callbacks(callbacks: Callbacks) -> list[Callback]:
    """A list of callbacks, plain functions wrapped; TypeError for anything else."""
    if callbacks is None:
        return []
    if isinstance(callbacks, Callback) or not isinstance(callbacks, Iterable):
        callbacks = [callbacks]
    result: list[Callback] = []
    for callback in callbacks:
        if isinstance(callback, Callback):
            result.append(callback)
        elif callable(callback):
            result.append(_FunctionCallback(callback))
        else:
            raise TypeError(f"callbacks must be Callback objects or functions, not {callback!r}")
    return result


@dataclass
class TrainingState:
    """Where a training run stands: what ``fit(resume=True)`` goes on from.

    ``arrays`` are the optimiser's, by ``state/parameter``. ``step`` counts all updates, ``epoch``
    whole epochs; ``position`` is the number of steps done in an epoch that was broken off. Epochs
    are counted in batches of ``batch_size`` of ``rows``, which a resumed run must have too.
    """

    optimizer: Optimizer
    arrays: dict[str, np.ndarray]
    seed: int
    rows: int
    batch_size: int
    step: int = 0
    epoch: int = 0
    position: int = 0

    @classmethod
    def fresh(
        cls,
        optimizer: Optimizer,
        parameters: dict[str, np.ndarray],
        seed: int,
        rows: int,
        batch_size: int,
    ) -> TrainingState:
        """The state before the first step of training these parameters."""
        arrays = {}
        for state in optimizer.state_names:
            for name, parameter in parameters.items():
                array = aligned_empty(parameter.shape, parameter.dtype)
                array[...] = optimizer.initial_state(state, parameter)
                arrays[f"{state}/{name}"] = array
        return cls(optimizer, arrays, seed, rows, batch_size)

    def fits(self, parameters: dict[str, np.ndarray]) -> bool:
        """Whether the arrays are those of training these parameters."""
        expected = {
            f"{state}/{name}": parameter.shape
            for state in self.optimizer.state_names
            for name, parameter in parameters.items()
        }
        return expected == {name: array.shape for name, array in self.arrays.items()}


@dataclass(frozen=True)
class Data:
    """Arrays with a row for each sample: inputs by name, targets, and weights or None."""

    inputs: dict[str, np.ndarray]
    target: np.ndarray
    weight: np.ndarray | None

    def __len__(self) -> int:
        return len(self.target)

    def step_weights(self, batch_size: int, orders: np.ndarray | None = None) -> np.ndarray:
        """What the loss of each step weighs in its epoch: its rows, or the sum of their weights.

        orders (epochs, rows): which rows are the first, second, ... of an epoch; None: one epoch,
        in their order. Returns float64 (epochs * steps,). Takes 5 to 9 ns a row.
        """
        rows, epochs = len(self), 1 if orders is None else len(orders)
        starts = np.arange(0, rows, batch_size)
        if self.weight is None:
            weights = np.full((epochs, len(starts)), float(batch_size))
            weights[:, -1] = rows - starts[-1]
            return weights.reshape(-1)
        starts = np.add.outer(rows * np.arange(epochs), starts).reshape(-1)
        weight = self.weight if orders is None else self.weight[orders.reshape(-1)]
        return np.add.reduceat(weight, starts, dtype=np.float64)

    def bindings(self, step_weights: np.ndarray, dtype: np.dtype) -> dict[str, np.ndarray]:
        """The arrays by the names of their slots, for a model of that dtype."""
        arrays = {**self.inputs, "y": self.target}
        if self.weight is None:
            return arrays
        return {
            **arrays,
            "sample_weight": self.weight,
            "total_weight": _divisors(step_weights, dtype),
        }


def _divisors(step_weights: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """What the loss of each step is divided by: its weight, or 1 where a run takes that for 0.

    Training flushes subnormal numbers to 0, and such weights with them.
    """
    divisors = step_weights.astype(dtype)
    divisors[divisors < np.finfo(dtype).tiny] = 1
    return divisors


def flatten_inputs(x: Any, name: str = "x") -> dict[str, np.ndarray]:
    """Input arrays by slot name: one array, or a tuple, list or dict of them.

    Lists of numbers are one array, as NumPy takes them; a tuple or dict holds several inputs.

    Raises
    ------
    ValueError
        If one has no axis for the rows, or they disagree on their number.
    """
    if isinstance(x, dict) and not all(isinstance(key, str) for key in x):
        raise TypeError(f"the keys of {name} must be strings: {list(x)}")
    if isinstance(x, dict):
        arrays = {
            f"{name}.{key}": native_array(value, f"{name}[{key!r}]") for key, value in x.items()
        }
    elif isinstance(x, tuple):
        arrays = {f"{name}[{i}]": native_array(value, f"{name}[{i}]") for i, value in enumerate(x)}
    else:
        arrays = {name: native_array(x, name)}
    if not arrays:
        raise ValueError(f"{name} holds no arrays")
    for key, array in arrays.items():
        if array.ndim == 0:
            raise ValueError(f"{key} has no axis of rows")
    lengths = {key: len(array) for key, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the arrays of {name} differ in their number of rows: {lengths}")
    return arrays


def check_weight(
    weight: Any, n: int, dtype: np.dtype, name: str = "sample_weight"
) -> np.ndarray | None:
    """Sample weights (n,) as a native array, or None; ValueError if they cannot be weights.

    dtype: of the model, which must be able to hold their sum.
    """
    if weight is None:
        return None
    array = native_array(weight, name)
    if array.shape != (n,):
        raise ValueError(f"{name} has shape {array.shape}, but x has {n} rows")
    if not np.all(np.isfinite(array)) or np.any(array < 0):
        raise ValueError(f"{name} must be finite and >= 0")
    if n > 0 and not np.any(array):
        raise ValueError(f"{name} is 0 for every row")
    with np.errstate(over="ignore"):
        total = np.sum(array, dtype=np.float64)
    if total > np.finfo(dtype).max:
        raise ValueError(f"{name} adds up to {total:g}, more than {dtype} can hold")
    return array


def run_training(
    plan: CompiledPlan,
    data: Data,
    bindings: dict[str, np.ndarray],
    state: TrainingState,
    fit: Fit,
    *,
    batch_size: int,
    shuffle: bool,
    callbacks: Sequence[Callback],
    after_epoch: Callable[[], dict[str, float]] | None,
) -> None:
    """Runs the plan for ``fit.epochs`` epochs; the state is right whenever it ends."""
    run = _TrainingRun(plan, data, bindings, state, fit, batch_size, shuffle)
    watched = bool(callbacks) or after_epoch is not None
    group = 1 if watched else max(1, _ORDER_ROWS // max(len(data), 1))
    with ExitStack() as ending:
        for callback in callbacks:
            callback.on_fit_begin(fit)
            ending.callback(callback.on_fit_end, fit)
        while fit.epoch + 1 < fit.epochs and not fit.stopping:
            for loss in run.epochs(min(group, fit.epochs - fit.epoch - 1)):
                fit.epoch += 1
                extra = after_epoch() if after_epoch is not None else {}
                fit.history.record(loss=loss, **extra)
            for callback in callbacks:
                callback.on_epoch_end(fit)


class _TrainingRun:
    """Epochs of one plan over one data set."""

    def __init__(
        self,
        plan: CompiledPlan,
        data: Data,
        bindings: dict[str, np.ndarray],
        state: TrainingState,
        fit: Fit,
        batch_size: int,
        shuffle: bool,
    ):
        self.plan = plan
        self.data = data
        self.bindings = bindings
        self.state = state
        self.optimizer = fit.optimizer
        self.batch_size = min(batch_size, len(data))
        self.shuffle = shuffle and batch_size < len(data)
        self.orders = np.empty((0, len(data)), np.int64)
        self.steps = -(-len(data) // self.batch_size)
        self.dtype = fit.model.dtype

    def epochs(self, n: int) -> list[float]:
        """Runs n epochs, the first from where a broken one stopped; returns their losses."""
        state = self.state
        begin = state.position if state.position < self.steps else 0
        total = n * self.steps
        first_step = state.step - begin  # of the first of these epochs, as if it were whole
        losses = np.zeros(total, self.dtype)
        orders = self._orders(n)
        weights = self.data.step_weights(self.batch_size, orders)
        if orders is None:
            weights = np.tile(weights, n)
        bindings = {
            **self.bindings,
            **self.data.bindings(weights, self.dtype),
            "loss": losses,
            "scalars": self.optimizer.scalars(first_step, total, self.steps),
        }
        order = None if orders is None else orders.reshape(-1)
        first_epoch = state.epoch
        done = begin
        while done < total:
            run = partial(
                self._run, bindings, order, step_begin=done, step_end=total, counter=first_step
            )
            ran = self.plan.team_size.run(run)
            done += ran
            state.step += ran
            state.epoch = first_epoch + done // self.steps
            state.position = done % self.steps
        return self._epoch_losses(losses, weights, n, begin)

    def _run(
        self,
        bindings: dict[str, np.ndarray],
        order: np.ndarray | None,
        threads: int,
        budget: float,
        **steps: int,
    ) -> tuple[int, int]:
        return self.plan.run(
            bindings,
            order=order,
            epoch_rows=len(self.data),
            batch_rows=self.batch_size,
            seed=self.state.seed,
            training=True,
            threads=threads,
            budget=budget,
            **steps,
        )

    def _orders(self, n: int) -> np.ndarray | None:
        if not self.shuffle:
            return None
        if len(self.orders) < n:  # kept: new pages took 5% of the time of 10-32-2
            self.orders = np.empty((n, len(self.data)), np.int64)
        _native.shuffle_epochs(self.orders[:n], self.state.seed, self.state.epoch)
        return self.orders[:n]

    def _epoch_losses(
        self, losses: np.ndarray, weights: np.ndarray, n: int, begin: int
    ) -> list[float]:
        weights[:begin] = 0.0
        weighted = losses * weights
        weighted[weights == 0] = 0.0
        shape = n, self.steps
        result = np.sum(weighted.reshape(shape), axis=1) / np.sum(weights.reshape(shape), axis=1)
        if not np.all(np.isfinite(result)):
            epoch = self.state.epoch - n + int(np.argmin(np.isfinite(result)))
            warnings.warn(
                f"the training loss is not finite from epoch {epoch} on; "
                "try a smaller learning rate, and look for NaN or huge values in the data",
                RuntimeWarning,
                stacklevel=6,
            )
        return result.tolist()


def run_forward(
    plan: CompiledPlan,
    bindings: dict[str, np.ndarray],
    rows: int,
    *,
    threads: int = 0,
    packed: np.ndarray | None = None,
) -> None:
    """Runs a plan without updates over all rows, in steps of its capacity.

    packed: what ``plan.pack`` made of the values that are bound.
    """
    if rows == 0:
        return
    batch = min(plan.capacity, rows)
    total = -(-rows // batch)
    done = 0
    while done < total:
        ran, _ = plan.run(
            bindings,
            epoch_rows=rows,
            batch_rows=batch,
            step_begin=done,
            step_end=total,
            threads=threads,
            budget=BUDGET,
            packed=packed,
        )
        done += ran
