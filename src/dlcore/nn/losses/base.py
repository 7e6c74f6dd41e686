"""What a loss is, and functions written in NumPy as losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np

from dlcore.graph.purity import no_numpy_random
from dlcore.graph.shape import ROWS, Shape, describe
from dlcore.graph.table.shaping import reduce
from dlcore.graph.tensor import Tensor, apply, as_tensor

# How a plan reads targets: as the model's dtype, as class labels, which it checks, or as integers.
TargetKind = Literal["real", "labels", "integers"]


@dataclass(frozen=True)
class Loss:
    """The base of losses: equal ones, by their parameters, share a plan.

    A loss is also a function of traced arrays, for what :func:`dlcore.grad` and its kin trace, and
    of arrays.
    """

    name: ClassVar[str]

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The loss of each element or row; the first axis is the rows."""
        raise NotImplementedError

    def __call__(self, prediction: Any, target: Any, sample_weight: Any = None) -> Any:
        """The mean loss: over a row's elements, then over rows.

        Parameters
        ----------
        prediction : array_like or Tensor (n, ...)
            What a model gives.
        target : array_like or Tensor
            What ``fit`` takes for it, in the shape of the prediction where that says so.
        sample_weight : array_like or Tensor (n,), optional
            With weights w and the rows' losses l the result is ``sum(w * l) / sum(w)``.

        Returns
        -------
        Tensor or float
            A part of the traced function where an argument is traced.
        """
        operands = [prediction, target, *([] if sample_weight is None else [sample_weight])]
        if any(isinstance(operand, Tensor) for operand in operands):
            return self._traced(*operands)
        from dlcore.transforms import jit

        return float(jit(self._traced)(*(self._array(operand) for operand in operands)))

    def _array(self, operand: Any) -> np.ndarray:
        array = np.asarray(operand)
        return array.astype(np.int64) if array.dtype.kind in "iu" else array

    def _traced(self, prediction: Any, target: Any, sample_weight: Any = None) -> Tensor:
        prediction, target = as_tensor(prediction), as_tensor(target)
        weight = self._row_weights(prediction, target, sample_weight)
        if weight is None:
            return self.mean(prediction, target)
        summed = reduce("sum", weight)
        return self.mean(prediction, target, weight, summed + apply("equal", summed, 0.0))

    def _row_weights(self, prediction: Tensor, target: Tensor, sample_weight: Any) -> Any:
        return None if sample_weight is None else as_tensor(sample_weight)

    def mean(
        self,
        prediction: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        total: Tensor | None = None,
    ) -> Tensor:
        """The mean over rows, of a row's elements first; with weights their sum over ``total``.

        ``total`` is the sum of the weights, or 1 where that is 0: such a batch has loss 0 and no
        gradient.
        """
        return self._mean_of(self.elements(prediction, target), weight, total)

    def _mean_of(self, elements: Tensor, weight: Tensor | None, total: Tensor | None) -> Tensor:
        if weight is None:
            return reduce("mean", elements)
        rows = reduce("mean", elements, tuple(range(1, elements.ndim)))
        return reduce("sum", rows * (weight / total))

    # What `fit` asks

    def fitted(self, target: np.ndarray, prediction: Tensor) -> Loss:
        """The loss with what it takes from the training data."""
        return self

    def weights(self, target: np.ndarray, weight: np.ndarray | None) -> np.ndarray | None:
        """The weight of each row, where ``weight`` is what the user gave."""
        return weight

    def target_kind(self, dtype: np.dtype, shape: Shape) -> TargetKind:
        """How the plan reads prepared targets with samples of that shape."""
        return "real"

    def check(self, target: np.ndarray, name: str) -> None:
        """Raises ValueError where the loss is not defined for a target."""

    def expected_width(self, width: Shape) -> Shape:
        """The shape of a sample's target where the model gives samples of shape ``width``."""
        return width

    def prepare(self, target: np.ndarray, prediction: Tensor, name: str) -> np.ndarray:
        """Targets in the shape and kind that the loss takes for such a prediction.

        They are checked before the first step, so that a bad one does not end a fit half-way.

        Raises
        ------
        ValueError
            If their shape does not fit, or a value.
        TypeError
            If their dtype does not fit.
        """
        width = self.expected_width(prediction.shape[1:])
        self.check(target, name)
        if target.ndim == 1 and width in ((), (1,)):
            return target.reshape(-1, *width)
        if target.shape[1:] != width:
            asked = "" if width == prediction.shape[1:] else f", for {describe((ROWS, *width))}"
            raise ValueError(
                f"{name} has shape {describe(target.shape)}, but the model gives "
                f"{describe(prediction.shape)}{asked}"
            )
        return target

    def refuse(self, target: np.ndarray, wrong: np.ndarray, name: str, domain: str) -> None:
        """Raises ValueError for the first of the values that are wrong, if there are any."""
        if np.any(wrong):
            row = int(np.argwhere(wrong)[0][0])
            raise ValueError(
                f"{name} has {target[wrong][0]} in row {row}, but {self.name} takes {domain}"
            )


def set_fields(loss: Loss, **values: object) -> None:
    """Sets fields of a frozen dataclass while it is made."""
    for name, value in values.items():
        object.__setattr__(loss, name, value)


@dataclass(frozen=True)
class FunctionLoss(Loss):
    """A function of prediction and target, written in NumPy."""

    function: Callable[[Any, Any], Any]

    @property
    def name(self) -> str:  # type: ignore[override]
        return getattr(self.function, "__name__", None) or repr(self.function)

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        with no_numpy_random(self.function):
            value = self.function(prediction, target)
        try:
            node = as_tensor(value)
        except TypeError as error:
            raise TypeError(f"the loss {self.name} returned no array: {error}") from None
        if node.dtype.kind != "f":
            raise TypeError(f"the loss {self.name} returned {node.dtype}; expected floating point")
        if node.shape != () and node.shape[0] != prediction.shape[0]:
            raise ValueError(
                f"the loss {self.name} returned shape {describe(node.shape)}; expected a scalar, "
                "or elements with the rows first"
            )
        return node

    def _mean_of(self, elements: Tensor, weight: Tensor | None, total: Tensor | None) -> Tensor:
        if weight is not None and elements.shape == ():
            raise ValueError(
                f"sample_weight needs the loss of each row, but the loss {self.name} returned a "
                "scalar: leave out its mean over the rows"
            )
        return super()._mean_of(elements, weight, total)

    def target_kind(self, dtype: np.dtype, shape: Shape) -> TargetKind:
        return "integers" if dtype.kind in "iu" else "real"

    def prepare(self, target: np.ndarray, prediction: Tensor, name: str) -> np.ndarray:
        if target.ndim == 1 and prediction.shape[1:] == (1,):
            target = target.reshape(-1, 1)
        return target.astype(np.int64, copy=False) if target.dtype.kind in "iu" else target
