"""Losses of classes and labels; all of them take logits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from dlcore.graph.shape import Shape, describe, fixed
from dlcore.graph.table.elementwise import astype, where
from dlcore.graph.tensor import Tensor, apply, as_tensor
from dlcore.nn.losses.base import Loss, TargetKind, set_fields
from dlcore.optim.schedules import check_positive

ClassWeight = str | Mapping[int, float] | Sequence[float] | None


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """``-log softmax(logits)[label]``, or ``-sum(target * log softmax(logits))``.

    Targets are class labels (n,) from 0, or distributions (n, classes).

    Parameters
    ----------
    label_smoothing : float, default 0
        In [0, 1): targets become ``(1 - label_smoothing) * target + label_smoothing / classes``.
    class_weight : 'balanced', mapping of label to weight, or sequence of weights, optional
        Multiplies the sample weights, as in scikit-learn: by the weight of the row's class or, for
        distributions, by the mean of the weights under it. A mapping may leave out classes, whose
        weight is 1; ``balanced`` is ``n / (classes * count of the class)`` in the training data.

    References
    ----------
    Szegedy, Vanhoucke, Ioffe, Shlens, Wojna, Rethinking the Inception architecture for computer
    vision, 2016 (label smoothing). King and Zeng, Logistic regression in rare events data, 2001
    (balanced weights).

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> loss = dl.nn.losses.CrossEntropy(label_smoothing=0.1)
    >>> logits, labels = np.array([[2.0, 0.0], [0.0, 0.0]]), np.array([0, 1])
    >>> round(loss(logits, labels), 4)
    0.46
    >>> dl.grad(lambda z: loss(z, labels))(logits).round(4)
    array([[-0.0346,  0.0346],
           [ 0.225 , -0.225 ]])
    """

    name: ClassVar[str] = "cross_entropy"
    label_smoothing: float = 0.0
    class_weight: ClassWeight = None

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), not {self.label_smoothing!r}")
        set_fields(self, label_smoothing=float(self.label_smoothing))
        set_fields(self, class_weight=self._class_weight())

    def _class_weight(self) -> Any:
        """As what can be hashed: a word, pairs of label and weight, or weights."""
        given = self.class_weight
        if given is None or (isinstance(given, str) and given == "balanced"):
            return given
        if isinstance(given, str):
            raise ValueError(f"class_weight must be 'balanced' or weights, not {given!r}")
        pairs = isinstance(given, Mapping)
        weights = given.values() if isinstance(given, Mapping) else given
        checked = tuple(check_positive("class_weight", float(w), zero=True) for w in weights)
        return tuple(zip(map(int, given), checked, strict=True)) if pairs else checked

    def _table(self, classes: int) -> np.ndarray:
        """The weight (classes,) of each class."""
        given: Any = self.class_weight
        if given == "balanced":
            raise ValueError("class_weight='balanced' is worked out by fit; give weights here")
        if not given or not isinstance(given[0], tuple):
            if len(given) != classes:
                raise ValueError(f"class_weight has {len(given)} weights for {classes} classes")
            return np.array(given)
        table = np.ones(classes)
        for label, weight in given:
            if not 0 <= label < classes:
                raise ValueError(f"class_weight has label {label}, outside [0, {classes})")
            table[label] = weight
        return table

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        readable = target.dtype.kind == "f" or target.storage == np.int64
        if self.label_smoothing or not readable:
            smooth = self._smooth(target, fixed(prediction.shape[-1]))
            target = astype(smooth, prediction.dtype)
        return apply("softmax_cross_entropy", prediction, target)

    def _smooth(self, target: Tensor, classes: int) -> Tensor:
        """The targets as smoothed distributions, of NaN for a label that is out of range."""
        rest = self.label_smoothing / classes
        if target.dtype.kind == "f":
            return (1.0 - self.label_smoothing) * target + rest
        column = apply("reshape", target, shape=(target.shape[0], 1))
        inside = apply("logical_and", column >= 0, column < classes)
        column = where(inside, column, np.nan)
        chosen = apply("equal", column, np.arange(classes))
        return where(chosen, 1.0 - self.label_smoothing + rest, rest + 0.0 * column)

    def _row_weights(self, prediction: Tensor, target: Tensor, sample_weight: Any) -> Any:
        if self.class_weight is None:
            return super()._row_weights(prediction, target, sample_weight)
        table = as_tensor(self._table(fixed(prediction.shape[-1])).astype(prediction.dtype))
        weight = target @ table if target.dtype.kind == "f" else np.take(table, target)
        return weight if sample_weight is None else weight * sample_weight

    def fitted(self, target: np.ndarray, prediction: Tensor) -> Loss:
        if self.class_weight is None:
            return self
        classes = fixed(prediction.shape[-1])
        if self.class_weight != "balanced":
            return replace(self, class_weight=tuple(self._table(classes).tolist()))
        counts = np.sum(target, axis=0) if target.ndim > 1 else np.bincount(target, None, classes)
        table = len(target) / (np.count_nonzero(counts) * np.maximum(counts, 1e-300))
        return replace(self, class_weight=tuple(np.where(counts > 0, table, 1.0).tolist()))

    def weights(self, target: np.ndarray, weight: np.ndarray | None) -> np.ndarray | None:
        if self.class_weight is None:
            return weight
        table = np.array(self.class_weight)
        own = target @ table if target.ndim > 1 else table[target]
        return own if weight is None else own * weight

    def target_kind(self, dtype: np.dtype, shape: Shape) -> TargetKind:
        return "labels" if shape == () else "real"

    def prepare(self, target: np.ndarray, prediction: Tensor, name: str) -> np.ndarray:
        if prediction.ndim != 2:
            raise ValueError(
                f"cross_entropy takes logits (rows, classes), not {describe(prediction.shape)}"
            )
        if target.shape[1:] == (1,) and target.dtype.kind != "f":
            target = target.reshape(-1)
        if target.ndim != 1:
            return super().prepare(target, prediction, name)
        if target.dtype.kind == "f":
            raise TypeError(
                f"{name} must hold integer labels for {self.name}, but its dtype is {target.dtype}"
            )
        classes = fixed(prediction.shape[-1])
        wrong = (target < 0) | (target >= classes)
        if np.any(wrong):
            row = int(np.argmax(wrong))
            raise ValueError(f"{name} has label {target[row]} in row {row}, outside [0, {classes})")
        return target.astype(np.int64, copy=False)

    def check(self, target: np.ndarray, name: str) -> None:
        self.refuse(target, ~(target >= 0), name, "distributions, whose values are >= 0")


@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """``-t log(p) - (1 - t) log(1 - p)`` with ``p = sigmoid(logit)``, for one column or several.

    Several columns are labels that a sample may have together (multilabel). Targets lie in [0, 1].

    Parameters
    ----------
    pos_weight : float or sequence of float, optional
        Multiplies the first term, for all columns or for each; the weights of the rows stay as they
        are, as in PyTorch.

    Examples
    --------
    >>> import dlcore as dl
    >>> loss = dl.nn.losses.BinaryCrossEntropy(pos_weight=3.0)
    >>> round(loss([[0.0], [0.0]], [[1.0], [0.0]]), 4)
    1.3863
    """

    name: ClassVar[str] = "binary_cross_entropy"
    pos_weight: float | Sequence[float] | None = None

    def __post_init__(self) -> None:
        given = self.pos_weight
        if given is None:
            return
        if np.ndim(given) == 0:
            set_fields(self, pos_weight=check_positive("pos_weight", float(given)))  # type: ignore[arg-type]
        else:
            checked = [check_positive("pos_weight", float(w)) for w in given]  # type: ignore[union-attr]
            set_fields(self, pos_weight=tuple(checked))

    def check(self, target: np.ndarray, name: str) -> None:
        self.refuse(target, ~((target >= 0) & (target <= 1)), name, "values in [0, 1]")

    def expected_width(self, width: Shape) -> Shape:
        given = self.pos_weight
        if isinstance(given, tuple) and width[-1:] != (len(given),):
            raise ValueError(
                f"pos_weight has {len(given)} weights, but a sample of the model's has shape "
                f"{describe(width)}"
            )
        return width

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        # of logits, so that nothing overflows and no logarithm of 0 is taken
        if self.pos_weight is None:
            return apply("softplus", prediction) - target * prediction
        weight: Any = self.pos_weight
        if isinstance(weight, tuple):
            weight = np.array(weight, prediction.dtype)
        positive = weight * (target * apply("softplus", -prediction))
        return positive + (1.0 - target) * apply("softplus", prediction)


@dataclass(frozen=True)
class Focal(Loss):
    """Binary cross-entropy times ``(1 - p)**gamma``, p being the probability of the true label.

    For one column or several; targets are 0 and 1. With ``alpha``, rows of label 1 are weighted by
    it, and those of label 0 by ``1 - alpha``; it is torchvision's ``sigmoid_focal_loss``.

    Parameters
    ----------
    gamma : float, default 2
        At least 0.
    alpha : float or None, default 0.25
        In [0, 1]; None leaves the weighting out.

    References
    ----------
    Lin, Goyal, Girshick, He, Dollár, Focal loss for dense object detection, 2017.
    """

    name: ClassVar[str] = "focal"
    gamma: float = 2.0
    alpha: float | None = 0.25

    def __post_init__(self) -> None:
        set_fields(self, gamma=check_positive("gamma", self.gamma, zero=True))
        if self.alpha is not None:
            if not 0 <= self.alpha <= 1:
                raise ValueError(f"alpha must lie in [0, 1], not {self.alpha!r}")
            set_fields(self, alpha=float(self.alpha))

    def check(self, target: np.ndarray, name: str) -> None:
        self.refuse(target, (target != 0) & (target != 1), name, "0 and 1")

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        # the logit of the wrong label, of which 1 - p is the sigmoid: its power is an exponential
        # that is smooth for any gamma
        wrong = prediction - 2.0 * (target * prediction)
        scale = apply("exp", -self.gamma * apply("softplus", -wrong))
        result = scale * apply("softplus", wrong)
        if self.alpha is None:
            return result
        return result * (1.0 - self.alpha + (2.0 * self.alpha - 1.0) * target)


@dataclass(frozen=True)
class Hinge(Loss):
    """``max(0, 1 - sign * prediction)``, the sign being that of the label.

    For one column or several; targets are -1 and 1, or 0 and 1. The derivative at the kink is 0.

    References
    ----------
    Crammer and Singer, On the algorithmic implementation of multiclass kernel-based vector
    machines, 2001; scikit-learn's ``hinge_loss``.
    """

    name: ClassVar[str] = "hinge"

    def check(self, target: np.ndarray, name: str) -> None:
        labels = (0, 1) if np.any(target == 0) else (-1, 1)
        wrong = (target != labels[0]) & (target != labels[1])
        self.refuse(target, wrong, name, "-1 and 1, or 0 and 1")

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        return apply("relu", 1.0 - where(target > 0.0, prediction, -prediction))
