"""From a model to the graphs and plans that train, evaluate and run it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from dlcore import random
from dlcore.graph.fusion import base
from dlcore.graph.gradient import gradient
from dlcore.graph.lower import CompiledPlan, compile_plan
from dlcore.graph.program import build_program
from dlcore.graph.shape import ROWS, Shape, describe, fixed
from dlcore.graph.tensor import Slot, SlotKind, Tensor, apply, as_tensor, leaf, literal
from dlcore.graph.updates import Update
from dlcore.nn.losses import Loss
from dlcore.nn.model import Model
from dlcore.optim import Optimizer

# penalty(parameters, total): total is the sum of the batch's weights, or its number of rows
Penalty = Callable[[Mapping[str, Tensor], Tensor], Tensor]
Signature = tuple[tuple[str, str, tuple[int, ...]], ...]


def signature(arrays: Mapping[str, np.ndarray]) -> Signature:
    """Names, dtypes and sample shapes: what a plan depends on of the arrays it reads."""
    return tuple((name, a.dtype.str, a.shape[1:]) for name, a in arrays.items())


class _Trace:
    """The nodes of one plan: inputs as the slots' kind delivers them, and the parameters."""

    def __init__(self, model: Model, inputs: Signature, kind: SlotKind, *, training: bool):
        self.model = model
        self.kind = kind
        names = model.parameter_shapes()
        self.parameters = {
            name: leaf(Slot(parameter_slot(name), "fixed", model.dtype, shape, training))
            for name, shape in names.items()
        }
        arrays = {name: self.rows(name, dtype, shape, model.dtype) for name, dtype, shape in inputs}
        with random.tracing():
            prediction, state = model.forward(self.parameters, unflatten(arrays), training=training)
        if not isinstance(prediction, Tensor):
            raise TypeError(f"the last layer returned a {type(prediction).__name__}, no array")
        self.prediction = self.in_dtype(prediction)
        self.state = state

    def rows(
        self, name: str, dtype: str, shape: tuple[int, ...], wanted: Any, classes: int | None = None
    ) -> Tensor:
        """The rows of the step of a bound array, as ``wanted``."""
        source = leaf(Slot(name, self.kind, np.dtype(dtype), (ROWS, *shape)))
        if self.kind != "dataset":
            return apply("cast", source, dtype=np.dtype(wanted))
        limits = {} if classes is None else {"classes": classes}
        return apply("gather", source, dtype=np.dtype(wanted), **limits)

    def loss(self, loss: Loss, target: Signature, weighted: str | None) -> tuple[Tensor, Tensor]:
        """The mean loss, and what it was divided by: with weights, what each step is given."""
        goal = self._target(loss, *target[0])
        if weighted is None:
            total = literal(1.0, self.model.dtype, power=1)
            return self.in_dtype(loss.mean(self.prediction, goal)), total
        weight = self.rows("sample_weight", weighted, (), self.model.dtype)
        total = leaf(Slot("total_weight", "step", self.model.dtype, ()))
        return self.in_dtype(loss.mean(self.prediction, goal, weight, total)), total

    def _target(self, loss: Loss, name: str, dtype: str, shape: tuple[int, ...]) -> Tensor:
        kind = loss.target_kind(np.dtype(dtype), shape)
        if kind == "labels":
            classes = fixed(self.prediction.shape[-1])
            return self.rows(name, dtype, shape, np.int64, classes=classes)
        return self.rows(name, dtype, shape, np.int64 if kind == "integers" else self.model.dtype)

    def in_dtype(self, value: Tensor) -> Tensor:
        """The value in the model's dtype, of which other arrays and targets may have led away."""
        return apply("cast", value, dtype=self.model.dtype)


def unflatten(arrays: Mapping[str, Any]) -> Any:
    """One array, or a tuple or dict of them, as ``flatten_inputs`` took them apart."""
    if list(arrays) == ["x"]:
        return arrays["x"]
    if "x[0]" in arrays:
        return tuple(arrays.values())
    return {name.removeprefix("x."): tensor for name, tensor in arrays.items()}


def parameter_slot(name: str) -> str:
    return f"parameter/{name}"


def prediction_node(model: Model, inputs: Signature) -> Tensor:
    """What the model gives for such inputs; raises what the layers raise."""
    return _Trace(model, inputs, "stream", training=False).prediction


def training_plan(
    model: Model,
    inputs: Signature,
    target: Signature,
    weighted: str | None,
    loss: Loss,
    optimizer: Optimizer,
    capacity: int,
    penalty: Penalty | None,
    fusion: bool | None = None,
) -> CompiledPlan:
    """The plan of a training step: gather, forward, loss, backward, update."""
    trace = _Trace(model, inputs, "dataset", training=True)
    value, total = trace.loss(loss, target, weighted)
    own_penalty = model.penalty(trace.parameters)
    if own_penalty is not None:
        value = value + own_penalty
    if penalty is not None:
        value = value + penalty(trace.parameters, total)
    trained = {name: trace.parameters[name] for name in model.trained()}
    gradients = gradient(value, list(trained.values()))
    updates = optimizer.updates(trained, gradients) + _state_updates(trace)
    return compile_plan([(_loss_slot(model), value)], updates, capacity=capacity, fusion=fusion)


def _state_updates(trace: _Trace) -> list[Update]:
    """What writes the new values of the layers' state at the end of the step."""
    updates = []
    for name, value in trace.state.items():
        if name in trace.model.frozen:
            continue
        slot = trace.parameters[name]
        new = apply("cast", as_tensor(value), dtype=slot.dtype)
        if new.shape != slot.shape:
            raise ValueError(
                f"the new value of {name} has shape {describe(new.shape)}, "
                f"expected {describe(slot.shape)}"
            )
        updates.append(_assignment(slot, new))
    return updates


def _assignment(target: Tensor, value: Tensor) -> Update:
    """Copies the value, as it was before any update, into the slot."""
    if base(value).op.lowering == "leaf":
        value = apply("copy", value)
    source = leaf(Slot("value", "fixed", value.storage, value.shape))
    program = build_program([copied := apply("copy", source)], [copied])
    return Update("map", (target,), (value,), tuple(program.words))


def evaluation_plan(
    model: Model,
    inputs: Signature,
    target: Signature,
    weighted: str | None,
    loss: Loss,
    capacity: int,
    fusion: bool | None = None,
) -> CompiledPlan:
    """The plan that gives the mean loss of every step's rows, with layers as in ``predict``."""
    trace = _Trace(model, inputs, "dataset", training=False)
    value, _ = trace.loss(loss, target, weighted)
    return compile_plan([(_loss_slot(model), value)], capacity=capacity, fusion=fusion)


def prediction_plan(
    model: Model, inputs: Signature, capacity: int, fusion: bool | None = None
) -> tuple[CompiledPlan, Shape]:
    """The plan of ``predict``, and the shape of its result."""
    prediction = prediction_node(model, inputs)
    output = Slot("prediction", "stream", model.dtype, prediction.shape, True)
    return compile_plan([(output, prediction)], capacity=capacity, fusion=fusion), prediction.shape


def _loss_slot(model: Model) -> Slot:
    return Slot("loss", "step", model.dtype, (), True)
