"""From a model to the graphs and plans that train, evaluate and run it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from dlcore import random
from dlcore.graph.gradient import gradient
from dlcore.graph.lower import CompiledPlan, compile_plan
from dlcore.graph.shape import ROWS, Shape, fixed
from dlcore.graph.tensor import Slot, SlotKind, Tensor, apply, leaf, literal
from dlcore.nn.losses import Loss
from dlcore.optim import Optimizer

# penalty(parameters, total): total is the sum of the batch's weights, or its number of rows
Penalty = Callable[[Mapping[str, Tensor], Tensor], Tensor]
Signature = tuple[tuple[str, str, tuple[int, ...]], ...]


class Model(Protocol):
    """What tracing asks of a model."""

    dtype: np.dtype

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]: ...

    def forward(self, parameters: dict[str, Tensor], x: Any, *, training: bool) -> Tensor: ...


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
            self.prediction = model.forward(self.parameters, _unflatten(arrays), training=training)

    def rows(
        self, name: str, dtype: str, shape: tuple[int, ...], wanted: Any, classes: int | None = None
    ) -> Tensor:
        """The rows of the step of a bound array, as ``wanted``."""
        source = leaf(Slot(name, self.kind, np.dtype(dtype), (ROWS, *shape)))
        if self.kind != "dataset":
            return apply("cast", source, dtype=np.dtype(wanted))
        limits = {} if classes is None else {"classes": classes}
        return apply("gather", source, dtype=np.dtype(wanted), **limits)

    def loss(
        self, loss: Loss, target: Signature, weighted: str | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The mean loss, what it was divided by, and the sum of the weights or None."""
        name, dtype, shape = target[0]
        if loss.target == "classes" and shape == ():
            classes = fixed(self.prediction.shape[-1])
            goal = self.rows(name, dtype, shape, np.int64, classes=classes)
        else:
            goal = self.rows(name, dtype, shape, self.model.dtype)
        if weighted is None:
            total = literal(1.0, self.model.dtype, power=1)
            return loss.mean(self.prediction, goal, None, total), total, None
        weight = self.rows("sample_weight", weighted, (), self.model.dtype)
        summed = apply("sum", weight, axis=(0,), keepdims=False)
        # a batch whose weights are all 0 has loss 0 and no gradient
        total = summed + apply("equal", summed, 0.0)
        return loss.mean(self.prediction, goal, weight, total), total, summed


def _unflatten(arrays: dict[str, Tensor]) -> Any:
    """One tensor, or a tuple or dict of them, as ``flatten_inputs`` took them apart."""
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
    fusion: bool,
) -> CompiledPlan:
    """The plan of a training step: gather, forward, loss, backward, update."""
    trace = _Trace(model, inputs, "dataset", training=True)
    value, total, total_weight = trace.loss(loss, target, weighted)
    if penalty is not None:
        value = value + penalty(trace.parameters, total)
    gradients = gradient(value, list(trace.parameters.values()))
    updates = optimizer.updates(trace.parameters, gradients)
    stores = [(_step_slot("loss", model.dtype), value)]
    if total_weight is not None:
        stores.append((_step_slot("loss_weight", model.dtype), total_weight))
    return compile_plan(stores, updates, capacity=capacity, fusion=fusion)


def evaluation_plan(
    model: Model,
    inputs: Signature,
    target: Signature,
    weighted: str | None,
    loss: Loss,
    capacity: int,
    fusion: bool,
) -> CompiledPlan:
    """The plan that gives the mean loss of every step's rows, with layers as in ``predict``."""
    trace = _Trace(model, inputs, "dataset", training=False)
    value, _, total_weight = trace.loss(loss, target, weighted)
    stores = [(_step_slot("loss", model.dtype), value)]
    if total_weight is not None:
        stores.append((_step_slot("loss_weight", model.dtype), total_weight))
    return compile_plan(stores, capacity=capacity, fusion=fusion)


def prediction_plan(
    model: Model, inputs: Signature, capacity: int, fusion: bool
) -> tuple[CompiledPlan, Shape]:
    """The plan of ``predict``, and the shape of its result."""
    prediction = prediction_node(model, inputs)
    output = Slot("prediction", "stream", model.dtype, prediction.shape, True)
    return compile_plan([(output, prediction)], capacity=capacity, fusion=fusion), prediction.shape


def _step_slot(name: str, dtype: np.dtype) -> Slot:
    return Slot(name, "step", dtype, (), True)
