"""Models made of layers that follow one another."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dlcore import config, train
from dlcore._calls import RowCall, calls_revision
from dlcore.graph.lower import CompiledPlan
from dlcore.graph.tensor import Tensor
from dlcore.memory import aligned_empty, native_array
from dlcore.nn import losses, tracing
from dlcore.nn.kept_call import KeptCall
from dlcore.nn.losses import Loss
from dlcore.nn.model import Model, may_change_unseen
from dlcore.optim import Adam, Optimizer
from dlcore.train import Data, Fit, History, TrainingState

# Rows of a step of predict: enough that the packing of the weights is small beside the products,
# and that the activations of usual widths stay in the second-level cache.
_PREDICT_ROWS = 560


class Sequential(Model):
    """Layers, each applied to the result of the one before.

    Parameters
    ----------
    *layers : Layer or Sequential
        A Sequential stands for its layers, as :class:`Chain` does; it must have no parameters yet.
    dtype : {'float32', 'float64'}, default 'float32'
        What parameters are and the model computes in.

    Attributes
    ----------
    layers : tuple of Layer
    metadata : dict of str to str
        What ``save`` was given and ``load`` read.
    frozen : tuple of str
        The names of the parameters that ``freeze`` named.

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

    # Computing

    def predict(self, X: Any) -> np.ndarray:
        """The outputs (n, ...) for the rows of X, in the model's dtype.

        From the 17th prediction with the same parameters on (of two rows or more, of inputs of one
        shape and dtype), weights of wide layers are kept packed as products read them, in as much
        memory again: outputs are the same and come sooner, most so of 5 to 16 rows.
        ``dlcore.config.pack_weights = False`` does without.

        For a C-contiguous array of a sample shape and dtype that the last prediction had, a call is
        kept that does little more than compute. What changes in a layer is seen as by
        ``predict_one``; what is written into its ``vars`` is not.

        Parameters
        ----------
        X : array_like, or tuple or dict of them
            Samples along the first axis.

        Raises
        ------
        ValueError
            If the samples' shape does not fit, or the model has no parameters yet.
        """
        kept, parameters = self._kept_call, self._parameters
        if kept is not None and parameters is not None and kept.fits(X, parameters):
            self._chain.check_input(X, "x")
            return kept.call(X, self._find_packed(kept.plan, parameters, kept.bindings, len(X)))
        return self._predict_anew(X)

    def _predict_anew(self, X: Any) -> np.ndarray:
        """The same by a plan that is looked up; it is kept for the next call."""
        arrays = self._inputs(X)
        revision, flags, parameters = calls_revision(), config.plan_flags(), self._initialised()
        plan, shape = self._prediction_plan(arrays, _PREDICT_ROWS)
        rows = len(next(iter(arrays.values())))
        output = aligned_empty((rows, *shape[1:]), self.dtype)
        bindings = {**_parameter_bindings(parameters), **arrays, "prediction": output}
        packed = self._find_packed(plan, parameters, bindings, rows)
        train.run_forward(plan, bindings, rows, packed=packed)
        if arrays.get("x") is X and not may_change_unseen(self._chain):
            self._kept_call = KeptCall.of(plan, bindings, parameters, revision, flags)
        return output

    def _find_packed(
        self,
        plan: CompiledPlan,
        parameters: Mapping[str, np.ndarray],
        bindings: Mapping[str, np.ndarray],
        rows: int,
    ) -> np.ndarray | None:
        # a single row is multiplied by weights as they are, and a fit changes them
        if rows < 2 or self._fitting.locked():
            return None
        return self._packed.find(plan, parameters, bindings)

    def predict_one(self, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """The output for one sample ``x``, with no checks beyond dtype and size.

        The second call and later ones on samples of one shape do little more than compute: they
        keep a plan that is bound to the parameters. Calls of more than some 5 microseconds, again
        and again, go by several threads where these turn out faster. New values of parameters
        are seen, as are attributes of layers that are set; a layer that holds a list or a dict,
        which may change in place, has its plan looked up at each call.

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
        call = self._row_call
        if call is not None:
            result = call(x, out, self._parameters)
            if result is not None:
                return result
        return self._predict_one_anew(x, out)

    def _predict_one_anew(self, x: np.ndarray, out: np.ndarray | None) -> np.ndarray:
        """The same by a plan that is looked up; it is kept for the next call."""
        if x.dtype != self.dtype:
            raise TypeError(f"x is {x.dtype}, but the model computes in {self.dtype}")
        arrays = {"x": x[np.newaxis]}
        revision, parameters = calls_revision(), self._initialised()
        plan, shape = self._prediction_plan(arrays, 1)
        if out is None:
            out = np.empty(shape[1:], self.dtype)
        elif out.dtype != self.dtype or out.shape != shape[1:]:
            raise ValueError(f"out must be {self.dtype} {shape[1:]}, not {out.dtype} {out.shape}")
        bindings = {**_parameter_bindings(parameters), **arrays, "prediction": out[np.newaxis]}
        train.run_forward(plan, bindings, 1, threads=1)
        if not may_change_unseen(self._chain):
            self._row_call = plan.call_of_rows(
                RowCall, bindings, "x", "prediction", parameters, revision
            )
        return out

    def _inputs(self, X: Any) -> dict[str, np.ndarray]:
        """The input arrays by slot name, which the layers that read them find right."""
        arrays = train.flatten_inputs(X)
        self._chain.check_input(tracing.unflatten(arrays), "x")
        return arrays

    def _prediction_plan(self, arrays: dict[str, np.ndarray], capacity: int) -> tuple[Any, Any]:
        inputs = tracing.signature(arrays)
        self._initialised()
        return self._cached(
            ("predict", inputs, capacity),
            lambda: tracing.prediction_plan(self, inputs, capacity),
        )

    # Training

    def fit(
        self,
        X: Any,
        y: Any,
        *,
        loss: Loss | str | Callable[[Any, Any], Any],
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
            place and converted batch by batch, memory-mapped ones (``numpy.load`` with
            ``mmap_mode="r"``) where they lie in the file. That is float32, float64, uint8, int32,
            int64 and bool; others are converted in memory first.
        y : array_like
            For ``cross_entropy`` class labels (n,) from 0, or distributions (n, classes); for
            ``gaussian_nll`` half as many columns as the model gives; for the other losses numbers
            in the shape of the model's output. (n,) stands for one column.
        loss : str, Loss or function
            A name: ``mse``, ``mae``, ``huber``, ``log_cosh``, ``quantile``, ``poisson``, ``gamma``,
            ``tweedie``, ``gaussian_nll``, ``cosine``, or, for logits, ``cross_entropy``,
            ``binary_cross_entropy`` (also called ``multilabel``), ``focal``, ``hinge``. Or one of
            :mod:`dlcore.nn.losses` with parameters of its own. Or a function of prediction and
            target written in NumPy, as ``lambda p, t: (p - t) ** 2``, for which see the notes.
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
            Each batch's loss is the mean over its rows with these weights, normalised by their sum
            in the batch: with all rows in one batch, a weight of 2 is as good as the row twice.
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

        Notes
        -----
        A function that serves as loss is called once with traced arrays, whose first axis is the
        rows (see :mod:`dlcore.transforms`). Targets are floats in the model's dtype, or int64 where
        y holds integers; (n,) becomes (n, 1) where the model gives one column. It returns elements
        with the rows first, which are averaged, or a scalar, which is the batch's loss as it
        stands. A scalar should be a mean over the rows: the last, smaller batch of an epoch makes
        an update of its own by its own scalar, and weighs by its rows in ``history`` alone; and it
        excludes sample weights. The same function object finds the plan of an earlier fit.

        What layers add by ``l1`` and ``l2`` is part of ``history["loss"]``, not of ``val_loss``.
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
            self._packed.outdate()
            bindings = {**_parameter_bindings(self._initialised()), **state.arrays}
            train.run_training(
                plan, data, bindings, state, fit, batch_size=batch_size, shuffle=shuffle,
                callbacks=watchers, after_epoch=validate,
            )  # fmt: skip
            return fit.history
        finally:
            self._packed.outdate()
            self._fitting.release()

    def _prepare_fit(
        self,
        X: Any,
        y: Any,
        loss: Loss | str | Callable[[Any, Any], Any],
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
            data, measure = self._training_data(X, y, sample_weight, measure)
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
            arrays = self._trained_arrays()
            state = TrainingState.fresh(optimizer, arrays, seed, len(data), batch_size)
        fit = Fit(self, optimizer, int(epochs), validates=validate is not None)
        return plan, data, fit, state, validate

    def _trained_arrays(self) -> dict[str, np.ndarray]:
        return {name: self._initialised()[name] for name in self.trained()}

    def _resumed_state(self, optimizer: Optimizer | None, seed: int | None) -> TrainingState:
        state = self._state
        if state is None:
            raise ValueError("resume=True, but the model has no training state to go on from")
        if optimizer is not None and not optimizer.continues(state.optimizer):
            raise ValueError(f"resume=True goes on with {state.optimizer!r}, not {optimizer!r}")
        if seed is not None and seed != state.seed:
            raise ValueError(f"resume=True goes on with seed={state.seed}, not {seed}")
        if not state.fits(self._trained_arrays()):
            raise ValueError(
                "resume=True goes on with those parameters frozen that were so in that fit"
            )
        return state

    def _data(self, X: Any, y: Any, weight: Any, measure: Loss) -> Data:
        inputs = self._inputs(X)
        target = native_array(y, "y")
        if target.ndim == 0:
            raise ValueError("y has no axis of rows")
        target = measure.prepare(target, self._prediction_node(inputs), "y")
        rows = len(next(iter(inputs.values())))
        if len(target) != rows:
            raise ValueError(f"y has {len(target)} rows, but x has {rows}")
        return Data(inputs, target, train.check_weight(weight, rows, self.dtype))

    def _prediction_node(self, inputs: dict[str, np.ndarray]) -> Tensor:
        signature = tracing.signature(inputs)
        return self._cached(("shape", signature), lambda: tracing.prediction_node(self, signature))

    def _training_data(self, X: Any, y: Any, weight: Any, measure: Loss) -> tuple[Data, Loss]:
        """The data, and the loss with what it takes from it."""
        data = self._data(X, y, weight, measure)
        measure = measure.fitted(data.target, self._prediction_node(data.inputs))
        return self._weighted(data, measure), measure

    def _weighted(self, data: Data, measure: Loss) -> Data:
        weight = measure.weights(data.target, data.weight)
        if weight is data.weight:
            return data
        return replace(
            data, weight=train.check_weight(weight, len(data), self.dtype, "class_weight")
        )

    def _training_plan(
        self,
        data: Data,
        measure: Loss,
        optimizer: Optimizer,
        batch_size: int,
        penalty: tracing.Penalty | None,
    ) -> CompiledPlan:
        arguments = (*_signatures(data), measure)
        capacity = min(batch_size, len(data))
        return self._cached(
            ("train", *arguments, optimizer.plan_key(), capacity, penalty),
            lambda: tracing.training_plan(self, *arguments, optimizer, capacity, penalty),
        )

    def _validation(
        self, validation_data: tuple[Any, ...], measure: Loss
    ) -> Callable[[], dict[str, float]]:
        if len(validation_data) not in (2, 3):
            raise ValueError("validation_data must be (X, y) or (X, y, sample_weight)")
        X, y, *weight = validation_data
        try:
            data = self._data(X, y, weight[0] if weight else None, measure)
            data = self._weighted(data, measure)
        except (TypeError, ValueError) as error:
            error.add_note("in validation_data")
            raise
        if len(data) == 0:
            raise ValueError("validation_data has no rows")
        return lambda: {"val_loss": self._loss(data, measure)}

    def _loss(self, data: Data, measure: Loss) -> float:
        """The mean loss over the data, with layers as in ``predict``."""
        arguments = (*_signatures(data), measure, min(_PREDICT_ROWS, len(data)))
        plan = self._cached(
            ("evaluate", *arguments),
            lambda: tracing.evaluation_plan(self, *arguments),
        )
        weights = data.step_weights(plan.capacity)
        values = np.empty(len(weights), self.dtype)
        bound = _parameter_bindings(self._initialised())
        bindings = {**bound, **data.bindings(weights, self.dtype), "loss": values}
        train.run_forward(plan, bindings, len(data))
        return float(np.average(values.astype(np.float64), weights=weights))

    # Reports and files

    def plan_summary(self) -> str:
        """The schedule, op records and memory of the plan compiled last.

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


def _parameter_bindings(parameters: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {tracing.parameter_slot(name): value for name, value in parameters.items()}


def _signatures(data: Data) -> tuple[tracing.Signature, tracing.Signature, str | None]:
    weighted = None if data.weight is None else data.weight.dtype.str
    return tracing.signature(data.inputs), tracing.signature({"y": data.target}), weighted
