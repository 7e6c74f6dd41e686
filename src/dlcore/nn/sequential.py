"""Models made of layers that follow one another."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from dlcore import random, train
from dlcore.graph.lower import CompiledPlan
from dlcore.graph.tensor import Tensor
from dlcore.memory import aligned_empty, native_array
from dlcore.nn import losses, tracing
from dlcore.nn.layers import Layer
from dlcore.optim import Adam, Optimizer
from dlcore.optim.optimizer import AVERAGE
from dlcore.train import Data, Fit, History, TrainingState

# Rows of a step of predict: enough that the packing of the weights is small beside the products,
# and that the activations of usual widths stay in the second-level cache.
_PREDICT_ROWS = 1024
# Compiled plans that a model keeps.
_MAX_PLANS = 16


class Sequential:
    """Layers, each applied to the result of the one before.

    Parameters
    ----------
    *layers : Layer
    dtype : {'float32', 'float64'}, default 'float32'
        What parameters are and the model computes in.

    Attributes
    ----------
    layers : tuple of Layer
    metadata : dict of str to str
        What ``save`` was given and ``load`` read.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> x = np.linspace(0, 1, 100)[:, None]
    >>> model = dl.nn.Sequential(dl.nn.Linear(1, 1))
    >>> history = model.fit(x, 2 * x + 1, loss="mse", optimizer=dl.optim.SGD(0.5), epochs=200)
    >>> model.predict(np.array([[0.5]])).round(2)
    array([[2.]], dtype=float32)
    """

    def __init__(self, *layers: Layer, dtype: Any = "float32"):
        if not layers:
            raise ValueError("a Sequential needs at least one layer")
        for i, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                raise TypeError(f"layer {i} is no dlcore.nn.Layer, but {layer!r}")
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.float32, np.float64):
            raise ValueError(f"dtype must be float32 or float64, not {self.dtype}")
        self.layers = layers
        self.metadata: dict[str, str] = {}
        self._parameters: dict[str, np.ndarray] | None = None
        self._state: TrainingState | None = None
        self._reset_runtime()

    def _reset_runtime(self) -> None:
        self._plans: dict[Any, Any] = {}
        self._plans_lock = threading.Lock()
        self._fitting = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        runtime = ("_plans", "_plans_lock", "_fitting")
        return {k: v for k, v in vars(self).items() if k not in runtime}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._reset_runtime()

    def __copy__(self) -> Sequential:
        # Sharing parameters with a model that may be fitted meanwhile helps nobody.
        return copy.deepcopy(self)

    def __repr__(self) -> str:
        layers = ", ".join(map(repr, self.layers))
        return f"Sequential({layers}, dtype={self.dtype.name!r})"

    # Parameters

    def init(self, seed: int = 0) -> Sequential:
        """Draws all parameters anew and forgets the training state; returns the model."""
        initializer = random.Initializer(train.check_seed(seed), self.dtype)
        parameters = {}
        for i, layer in enumerate(self.layers):
            for name, value in layer.init(initializer).items():
                parameters[f"{i}.{name}"] = aligned_empty(value.shape, self.dtype)
                parameters[f"{i}.{name}"][...] = value
        self._parameters = parameters
        self._state = None
        return self

    def parameters(self) -> Mapping[str, np.ndarray]:
        """The parameters by name (``"0.weight"``, ``"0.bias"``, ...), as live read-only views.

        Raises
        ------
        ValueError
            Before the first ``fit`` or ``init``.
        """
        return _read_only(self._initialised())

    def averaged_parameters(self) -> Mapping[str, np.ndarray]:
        """The means of the trained parameters that the last ``fit`` kept, by name.

        An optimiser with the option ``average`` keeps them; they are in the parameters' shapes and
        dtype, live and read-only, and part of what ``save(training_state=True)`` writes and
        ``fit(resume=True)`` goes on with.

        Raises
        ------
        ValueError
            If the last fit kept none.

        Examples
        --------
        >>> import numpy as np
        >>> import dlcore as dl
        >>> x = np.linspace(0, 1, 100)[:, None]
        >>> model = dl.nn.Sequential(dl.nn.Linear(1, 1))
        >>> optimizer = dl.optim.SGD(0.5, average=0.9)
        >>> history = model.fit(x, 2 * x + 1, loss="mse", optimizer=optimizer, epochs=200)
        >>> model.set_parameters(model.averaged_parameters())
        >>> model.predict(np.array([[0.5]])).round(2)
        array([[2.]], dtype=float32)
        """
        state = self._state
        if state is None or state.optimizer.average is None:
            raise ValueError("there are no averages: the last fit had no optimizer with average=")
        prefix = f"{AVERAGE}/"
        return _read_only(
            {k.removeprefix(prefix): v for k, v in state.arrays.items() if k.startswith(prefix)}
        )

    def set_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Copies values into parameters.

        Parameters
        ----------
        parameters : mapping of str to array_like
            Any of the model's parameters, in their shapes.

        Raises
        ------
        ValueError
            If a name is unknown, a shape differs, or a value does not fit in the model's dtype.
        TypeError
            If a value is not numeric. In either case nothing is changed.
        """
        fresh = self._parameters is None
        if fresh:
            self.init()
        try:
            checked = {
                name: self._checked_parameter(name, value) for name, value in parameters.items()
            }
        except BaseException:
            if fresh:
                self._parameters = None
            raise
        for name, array in checked.items():
            self._initialised()[name][...] = array

    def _checked_parameter(self, name: str, value: Any) -> np.ndarray:
        """The value in the model's dtype."""
        own = self._initialised()
        if name not in own:
            raise ValueError(f"there is no parameter {name!r}; there are {', '.join(own)}")
        array = np.asarray(value)
        if array.dtype.kind not in "buif":
            raise TypeError(f"{name} must hold numbers, but its dtype is {array.dtype}")
        if array.shape != own[name].shape:
            raise ValueError(f"{name} has shape {array.shape}, expected {own[name].shape}")
        with np.errstate(over="ignore"):
            converted = array.astype(self.dtype)
        if np.any(np.isinf(converted) & ~np.isinf(array)):
            raise ValueError(f"{name} has values that do not fit in {self.dtype}")
        return converted

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """The parameters' shapes by name."""
        return {name: value.shape for name, value in self._initialised().items()}

    def _initialised(self) -> dict[str, np.ndarray]:
        if self._parameters is None:
            raise ValueError("the model has no parameters yet; call fit, init or set_parameters")
        return self._parameters

    def _parameter_bindings(self) -> dict[str, np.ndarray]:
        return {tracing.parameter_slot(k): v for k, v in self._initialised().items()}

    # Computing

    def forward(self, parameters: Mapping[str, Tensor], x: Any, *, training: bool) -> Tensor:
        """The model as a graph expression."""
        for i, layer in enumerate(self.layers):
            prefix = f"{i}."
            own = {k.removeprefix(prefix): v for k, v in parameters.items() if k.startswith(prefix)}
            try:
                x = layer.apply(own, x, training)
            except (TypeError, ValueError) as error:
                error.add_note(f"in layer {i}: {layer!r}")
                raise
        return x

    def predict(self, X: Any) -> np.ndarray:
        """The outputs (n, ...) for the rows of X, in the model's dtype.

        Parameters
        ----------
        X : array_like, or tuple or dict of them
            Samples along the first axis.

        Raises
        ------
        ValueError
            If the samples' shape does not fit, or the model has no parameters yet.
        """
        arrays = train.flatten_inputs(X)
        plan, shape = self._prediction_plan(arrays, _PREDICT_ROWS)
        rows = len(next(iter(arrays.values())))
        output = aligned_empty((rows, *shape[1:]), self.dtype)
        bindings = {**self._parameter_bindings(), **arrays, "prediction": output}
        train.run_forward(plan, bindings, rows)
        return output

    def predict_one(self, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """The output for one sample ``x``, with no checks beyond dtype and size.

        Parameters
        ----------
        x : ndarray
            One sample, C-contiguous, of the model's dtype.
        out : ndarray, optional
            Where the result goes: C-contiguous, of the model's dtype and the output's size.

        Returns
        -------
        ndarray
            ``out``, or a new array of the output's shape.
        """
        if x.dtype != self.dtype:
            raise TypeError(f"x is {x.dtype}, but the model computes in {self.dtype}")
        arrays = {"x": x[np.newaxis]}
        plan, shape = self._prediction_plan(arrays, 1)
        if out is None:
            out = np.empty(shape[1:], self.dtype)
        elif out.dtype != self.dtype or out.shape != shape[1:]:
            raise ValueError(f"out must be {self.dtype} {shape[1:]}, not {out.dtype} {out.shape}")
        bindings = {**self._parameter_bindings(), **arrays, "prediction": out[np.newaxis]}
        train.run_forward(plan, bindings, 1, threads=1)
        return out

    def _prediction_plan(self, arrays: dict[str, np.ndarray], capacity: int) -> tuple[Any, Any]:
        inputs = tracing.signature(arrays)
        self._initialised()
        return self._cached(
            ("predict", inputs, capacity),
            lambda: tracing.prediction_plan(self, inputs, capacity, fusion=True),
        )

    def _cached(self, key: Any, make: Callable[[], Any]) -> Any:
        """What ``make`` gave for the key and the layers as they are; the least used goes."""
        key = (key, tuple(map(repr, self.layers)))
        with self._plans_lock:
            plan = self._plans.pop(key, None)
            if plan is None:
                plan = make()
            self._plans[key] = plan
            if len(self._plans) > _MAX_PLANS:
                del self._plans[next(iter(self._plans))]
        return plan

    # Training

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        loss: str | losses.Loss,
        optimizer: Optimizer | None = None,
        batch_size: int = 32,
        epochs: int = 10,
        validation_data: tuple[Any, ...] | None = None,
        sample_weight: Any = None,
        callbacks: train.Callbacks = None,
        shuffle: bool = True,
        seed: int | None = None,
        verbose: int = 0,
        resume: bool = False,
        penalty: tracing.Penalty | None = None,
    ) -> History:
        """Trains the model by mini-batch gradient descent.

        The first fit draws the parameters from ``seed``; a later one goes on from the present ones.

        Parameters
        ----------
        X : array_like, or tuple or dict of them
            Samples along the first axis. float32 and other numeric arrays in C order are used in
            place and converted batch by batch.
        y : array_like
            For ``cross_entropy`` class labels (n,) from 0, or distributions (n, classes); for
            the other losses numbers in the shape of the model's output, or (n,) where that has one
            column.
        loss : {'mse', 'mae', 'huber', 'cross_entropy', 'binary_cross_entropy'}
            The cross-entropies take logits.
        optimizer : Optimizer, optional
            Default ``Adam()``. With ``resume`` it must be left out or be the one of the run that
            goes on.
        batch_size : int, default 32
            Rows of an update; the last one of an epoch takes what is left. ``batch_size >= n``
            is full-batch and is not shuffled.
        epochs : int, default 10
        validation_data : tuple (X, y) or (X, y, sample_weight), optional
            Its loss is recorded after every epoch as ``val_loss``.
        sample_weight : array_like (n,), optional
            Each batch's loss is the weighted mean over its rows.
        callbacks : Callback or function, or several, optional
        shuffle : bool, default True
            Whether every epoch takes the rows in a new order.
        seed : int, optional
            Fixes initial parameters, order and dropout. Default 0, or that of the run that goes on.
        verbose : int, default 0
            1 shows progress.
        resume : bool, default False
            Goes on where the last fit stopped: with its optimiser, step count and random numbers,
            so that the result is that of a run that never stopped. Seed, number of rows and batch
            size must be those of that run; the optimiser's learning rate may change.
        penalty : callable, optional
            ``penalty(parameters, total)`` is added to every batch's loss: an expression of the
            parameters (graph tensors by name) and the batch's rows or sum of weights.

        Returns
        -------
        History

        Raises
        ------
        ValueError, TypeError
            If an argument does not fit; the model is unchanged then.
        RuntimeError
            If another thread is fitting this model.
        """
        if not self._fitting.acquire(blocking=False):
            raise RuntimeError("another fit of this model is running")
        try:
            watchers = train.as_callbacks(callbacks)
            plan, data, fit, state, validate = self._prepare_fit(
                X, y, loss, optimizer, batch_size, epochs, validation_data, sample_weight, seed,
                resume, penalty,
            )  # fmt: skip
            if verbose:
                watchers.append(train.Progress())
            self._state = state
            state.optimizer = fit.optimizer
            bindings = {**self._parameter_bindings(), **state.arrays}
            train.run_training(
                plan, data, bindings, state, fit, batch_size=batch_size, shuffle=shuffle,
                callbacks=watchers, after_epoch=validate,
            )  # fmt: skip
            return fit.history
        finally:
            self._fitting.release()

    def _prepare_fit(
        self,
        X: Any,
        y: Any,
        loss: str | losses.Loss,
        optimizer: Optimizer | None,
        batch_size: int,
        epochs: int,
        validation_data: tuple[Any, ...] | None,
        sample_weight: Any,
        seed: int | None,
        resume: bool,
        penalty: tracing.Penalty | None,
    ) -> tuple[CompiledPlan, Data, Fit, TrainingState, Callable[[], dict[str, float]] | None]:
        """Everything that can be wrong with the arguments of a fit is found here."""
        measure = losses.find(loss)
        batch_size = train.check_batch_size(batch_size)
        if not isinstance(epochs, int | np.integer) or epochs < 0:
            raise ValueError(f"epochs must be an integer >= 0, not {epochs!r}")
        seed = None if seed is None else train.check_seed(seed)
        if optimizer is not None and not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be a dlcore.optim.Optimizer, not {optimizer!r}")
        state = self._resumed_state(optimizer, seed) if resume else None
        optimizer = optimizer or (state.optimizer if state else Adam())
        seed = seed or 0
        fresh = self._parameters is None
        if fresh:
            self.init(seed)
        try:
            data = self._data(X, y, sample_weight, measure)
            if len(data) == 0:
                raise ValueError("x has no rows")
            if state is not None and (state.rows, state.batch_size) != (len(data), batch_size):
                raise ValueError(
                    f"resume=True goes on with {state.rows} rows in batches of {state.batch_size}, "
                    f"not {len(data)} in batches of {batch_size}"
                )
            validate = None
            if validation_data is not None:
                validate = self._validation(validation_data, measure)
            plan = self._training_plan(data, measure, optimizer, batch_size, penalty)
        except BaseException:
            if fresh:
                self._parameters = None
            raise
        if state is None:
            state = TrainingState.fresh(optimizer, self._initialised(), seed, len(data), batch_size)
        fit = Fit(self, optimizer, int(epochs), validates=validate is not None)
        return plan, data, fit, state, validate

    def _resumed_state(self, optimizer: Optimizer | None, seed: int | None) -> TrainingState:
        state = self._state
        if state is None:
            raise ValueError("resume=True, but the model has no training state to go on from")
        if optimizer is not None and not optimizer.continues(state.optimizer):
            raise ValueError(f"resume=True goes on with {state.optimizer!r}, not {optimizer!r}")
        if seed is not None and seed != state.seed:
            raise ValueError(f"resume=True goes on with seed={state.seed}, not {seed}")
        return state

    def _data(self, X: Any, y: Any, weight: Any, measure: losses.Loss) -> Data:
        inputs = train.flatten_inputs(X)
        prediction = self._cached(
            ("shape", signature := tracing.signature(inputs)),
            lambda: tracing.prediction_node(self, signature),
        )
        target = losses.prepare_target(native_array(y, "y"), measure, prediction, "y")
        rows = len(next(iter(inputs.values())))
        if len(target) != rows:
            raise ValueError(f"y has {len(target)} rows, but x has {rows}")
        return Data(inputs, target, train.check_weight(weight, rows))

    def _training_plan(
        self,
        data: Data,
        measure: losses.Loss,
        optimizer: Optimizer,
        batch_size: int,
        penalty: tracing.Penalty | None,
    ) -> CompiledPlan:
        arguments = (*_signatures(data), measure)
        capacity = min(batch_size, len(data))
        return self._cached(
            ("train", *arguments, optimizer.plan_key(), capacity, penalty),
            lambda: tracing.training_plan(
                self, *arguments, optimizer, capacity, penalty, fusion=True
            ),
        )

    def _validation(
        self, validation_data: tuple[Any, ...], measure: losses.Loss
    ) -> Callable[[], dict[str, float]]:
        if len(validation_data) not in (2, 3):
            raise ValueError("validation_data must be (X, y) or (X, y, sample_weight)")
        X, y, *weight = validation_data
        try:
            data = self._data(X, y, weight[0] if weight else None, measure)
        except (TypeError, ValueError) as error:
            error.add_note("in validation_data")
            raise
        if len(data) == 0:
            raise ValueError("validation_data has no rows")
        return lambda: {"val_loss": self._loss(data, measure)}

    def _loss(self, data: Data, measure: losses.Loss) -> float:
        """The mean loss over the data, with layers as in ``predict``."""
        arguments = (*_signatures(data), measure, min(_PREDICT_ROWS, len(data)))
        plan = self._cached(
            ("evaluate", *arguments),
            lambda: tracing.evaluation_plan(self, *arguments, fusion=True),
        )
        steps = -(-len(data) // plan.capacity)
        values = np.empty(steps, self.dtype)
        weights = np.full(steps, plan.capacity, self.dtype)
        weights[-1] = len(data) - (steps - 1) * plan.capacity
        bindings = {**self._parameter_bindings(), **data.bindings(), "loss": values}
        if data.weight is not None:
            bindings["loss_weight"] = weights
        train.run_forward(plan, bindings, len(data))
        return float(np.average(values.astype(np.float64), weights=weights))

    # Reports and files

    def plan_summary(self) -> str:
        """The op records of the plan compiled last, a line each.

        Raises
        ------
        ValueError
            Before the first ``fit`` or ``predict``.
        """
        plans = [p[0] if isinstance(p, tuple) else p for p in self._plans.values()]
        compiled = [plan for plan in plans if isinstance(plan, CompiledPlan)]
        if not compiled:
            raise ValueError("no plan has been compiled yet; call fit or predict")
        return compiled[-1].summary()

    def save(
        self,
        path: str | Path,
        *,
        training_state: bool = False,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        """Writes the model to a safetensors file; see :func:`dlcore.load`.

        Parameters
        ----------
        path : str or Path
            The file appears whole or not at all: it is written beside and renamed.
        training_state : bool, default False
            Whether to add what ``fit(resume=True)`` needs.
        metadata : mapping of str to str, optional
            Kept with the model and given back as its attribute ``metadata``.
        """
        from dlcore.io.model_file import save

        save(self, path, training_state=training_state, metadata=metadata)


def _read_only(arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    views = {name: value.view() for name, value in arrays.items()}
    for view in views.values():
        view.flags.writeable = False
    return MappingProxyType(views)


def _signatures(data: Data) -> tuple[tracing.Signature, tracing.Signature, str | None]:
    weighted = None if data.weight is None else data.weight.dtype.str
    return tracing.signature(data.inputs), tracing.signature({"y": data.target}), weighted
