"""Multi-layer perceptrons with scikit-learn's interface."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from dlcore import nn, ops, optim
from dlcore.graph.table.shaping import reduce
from dlcore.graph.tensor import Tensor, apply
from dlcore.nn.losses import MSE, BinaryCrossEntropy, CrossEntropy, Loss
from dlcore.train import Callback, Fit

_ACTIVATIONS = {
    "identity": nn.Identity,
    "logistic": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
}


@dataclass(frozen=True)
class _Scaled(Loss):
    """Another loss times a number."""

    loss: Loss
    scale: float

    def elements(self, prediction: Tensor, target: Tensor) -> Tensor:
        return self.scale * self.loss.elements(prediction, target)

    def check(self, target: np.ndarray, name: str) -> None:
        self.loss.check(target, name)


def _summed_over_outputs(loss: Loss, factor: float, outputs: int) -> Loss:
    """The loss whose mean over rows and outputs is the mean over rows of scikit-learn's sum."""
    return _Scaled(loss, factor * outputs)


@dataclass(frozen=True)
class _L2Penalty:
    """``alpha / 2 * sum(weights**2) / rows``, as scikit-learn adds to every batch's loss."""

    alpha: float

    def __call__(self, parameters: Mapping[str, Tensor], total: Tensor) -> Tensor:
        weights = [p for name, p in parameters.items() if name.endswith(".weight")]
        squares = [reduce("sum", apply("square", weight)) for weight in weights]
        return sum(squares[1:], squares[0]) * (0.5 * self.alpha) / total


@dataclass(frozen=True)
class _InverseScaling(optim.Schedule):
    """``rate / (samples + 1)**power``, samples being what the epochs before have seen."""

    power: float = 0.5
    samples_per_epoch: int = 1

    def factor(self, epoch: np.ndarray) -> np.ndarray:
        samples = np.floor(epoch) * self.samples_per_epoch
        # scikit-learn changes the rate at the end of an epoch: the first has the initial one
        return np.where(samples == 0, 1.0, (samples + 1.0) ** -self.power)


class _Convergence(Callback):
    """Ends the fit, or lowers the rate, when the loss or the validation score stands still."""

    def __init__(self, estimator: Any, validation: tuple[Any, ...] | None):
        self.estimator = estimator
        self.validation: Any = validation
        self.stalled = 0
        self.stopped = False
        self.best: dict[str, np.ndarray] | None = None

    def on_epoch_end(self, fit: Fit) -> None:
        loss = fit.history["loss"][-1]
        self.estimator.loss_curve_.append(loss)
        if self.estimator.verbose:
            print(f"Iteration {fit.epoch + 1}, loss = {loss:.8f}")
        improved = self._score_improved(fit) if self.validation else self._loss_improved(loss)
        self.stalled = 0 if improved else self.stalled + 1
        if self.stalled > self.estimator.n_iter_no_change:
            self._stop_or_lower_rate(fit)

    def _loss_improved(self, loss: float) -> bool:
        estimator = self.estimator
        improved = loss <= estimator.best_loss_ - estimator.tol
        estimator.best_loss_ = min(estimator.best_loss_, loss)
        return improved

    def _score_improved(self, fit: Fit) -> bool:
        estimator = self.estimator
        score = estimator._validation_score(*self.validation)
        estimator.validation_scores_.append(score)
        if estimator.verbose:
            print(f"Validation score: {score:f}")
        improved = score >= estimator.best_validation_score_ + estimator.tol
        if score > estimator.best_validation_score_:
            estimator.best_validation_score_ = score
            self.best = {name: p.copy() for name, p in fit.model.parameters().items()}
        return improved

    def _stop_or_lower_rate(self, fit: Fit) -> None:
        estimator = self.estimator
        what = "Validation score" if self.validation else "Training loss"
        message = (
            f"{what} did not improve more than tol={estimator.tol:f} "
            f"for {estimator.n_iter_no_change} consecutive epochs."
        )
        adaptive = estimator.solver == "sgd" and estimator.learning_rate == "adaptive"
        rate: Any = fit.optimizer.learning_rate
        if adaptive and rate > 1e-6:
            fit.optimizer.learning_rate = rate / 5.0
            self.stalled = 0
            message += f" Setting learning rate to {rate / 5.0:f}"
        else:
            self.stopped = True
            fit.stop()
            message += " Stopping."
        if estimator.verbose:
            print(message)

    def on_fit_end(self, fit: Fit) -> None:
        if self.best is not None:
            fit.model.set_parameters(self.best)


class _BaseMLP(BaseEstimator):
    """What classifier and regressor share: parameters, their checks, and the fit."""

    loss_curve_: list[float]
    best_loss_: Any
    validation_scores_: Any
    best_validation_score_: Any

    def _check_parameters(self) -> list[int]:
        """The hidden layers' sizes; raises for values that are wrong or not supported yet."""
        if self.solver == "lbfgs":
            raise NotImplementedError("solver='lbfgs' is not supported yet; use 'adam' or 'sgd'")
        _one_of("solver", self.solver, ("adam", "sgd", "lbfgs"))
        _one_of("activation", self.activation, tuple(_ACTIVATIONS))
        _one_of("learning_rate", self.learning_rate, ("constant", "invscaling", "adaptive"))
        _one_of("dtype", self.dtype, ("float32", "float64"))
        for name in ("alpha", "tol", "learning_rate_init", "epsilon", "power_t"):
            _number(name, getattr(self, name), 0.0)
        for name in ("momentum", "beta_1", "beta_2", "validation_fraction"):
            _number(name, getattr(self, name), 0.0, 1.0)
        for name in ("max_iter", "n_iter_no_change"):
            _integer(name, getattr(self, name), 1)
        if self.batch_size != "auto":
            _integer("batch_size", self.batch_size, 1)
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        for size in sizes:
            _integer("hidden_layer_sizes", size, 1)
        return [int(size) for size in sizes]

    def _build(self, widths: list[int]) -> nn.Sequential:
        layers: list[nn.Layer] = []
        for before, after in zip(widths[:-1], widths[1:], strict=True):
            layers += [nn.Linear(before, after), _ACTIVATIONS[self.activation]()]
        return nn.Sequential(*layers[:-1], dtype=self.dtype)

    def _init(self, model: nn.Sequential, random_state: np.random.RandomState) -> None:
        """Weights and biases as scikit-learn draws them: uniform, after Glorot and Bengio."""
        factor = 2.0 if self.activation == "logistic" else 6.0
        values = {}
        for name, shape in model.init().parameter_shapes().items():
            if name.endswith(".weight"):
                bound = np.sqrt(factor / sum(shape))
            values[name] = random_state.uniform(-bound, bound, shape)
        model.set_parameters(values)

    def _optimizer(self, n_samples: int) -> optim.Optimizer:
        if self.solver == "adam":
            return optim.Adam(
                self.learning_rate_init,
                beta1=self.beta_1,
                beta2=self.beta_2,
                eps=self.epsilon,
                convention="sklearn",
            )
        rate: Any = self.learning_rate_init
        if self.learning_rate == "invscaling":
            rate = _InverseScaling(rate, power=self.power_t, samples_per_epoch=n_samples)
        return optim.SGD(
            rate,
            momentum=self.momentum,
            nesterov=self.nesterovs_momentum and self.momentum > 0,
            convention="sklearn",
        )

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Takes every attribute, and the weights of a warm start, back when the fit fails."""
        before = {k: list(v) if isinstance(v, list) else v for k, v in vars(self).items()}
        weights = {}
        if hasattr(self, "_model"):
            weights = {name: p.copy() for name, p in self._model.parameters().items()}
        try:
            yield
        except BaseException:
            self.__dict__.clear()
            self.__dict__.update(before)
            if weights:
                self._model.set_parameters(weights)
            raise

    def _fit_model(
        self, X: np.ndarray, y: np.ndarray, sample_weight: Any, loss: Loss, hidden: list[int]
    ) -> None:
        """Trains on validated data; y is what ``loss`` takes."""
        random_state = check_random_state(self.random_state)
        widths = [X.shape[1], *hidden, self._output_width(y)]
        if not (self.warm_start and hasattr(self, "_model")):
            self._model = self._build(widths)
            self._init(self._model, random_state)
            self._start_records(widths)
        self._start_watching()
        train, held_out = self._held_out(X, y, sample_weight, random_state)
        convergence = _Convergence(self, held_out)
        epochs_before = len(self.loss_curve_)
        try:
            self._model.fit(
                train[0],
                train[1],
                sample_weight=train[2],
                loss=loss,
                optimizer=self._optimizer(len(train[0])),
                batch_size=self._batch_rows(len(train[0])),
                epochs=int(self.max_iter),
                callbacks=convergence,
                shuffle=bool(self.shuffle),
                seed=int(random_state.randint(np.iinfo(np.int32).max)),
                penalty=_L2Penalty(float(self.alpha)) if self.alpha else None,
            )
        except KeyboardInterrupt:
            if len(self.loss_curve_) == epochs_before:
                raise
            warnings.warn("Training interrupted by user.", stacklevel=3)
        self.n_iter_ = len(self.loss_curve_) - epochs_before
        self.t_ += self.n_iter_ * len(train[0])
        self._publish(X.dtype)
        if self.n_iter_ == self.max_iter and not convergence.stopped:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the "
                "optimization hasn't converged yet.",
                ConvergenceWarning,
                stacklevel=3,
            )

    def _start_records(self, widths: list[int]) -> None:
        self.n_layers_ = len(widths)
        self.n_outputs_ = widths[-1]
        self.t_ = 0
        self.loss_curve_ = []
        self.best_loss_ = None
        self.validation_scores_ = None
        self.best_validation_score_ = None

    def _start_watching(self) -> None:
        """The records of what decides on convergence; a warm start keeps those it has."""
        if self.early_stopping and self.validation_scores_ is None:
            self.best_loss_ = None
            self.validation_scores_ = []
            self.best_validation_score_ = -np.inf
        elif not self.early_stopping and self.best_loss_ is None:
            self.best_loss_ = np.inf
            self.validation_scores_ = None
            self.best_validation_score_ = None

    def _held_out(
        self, X: np.ndarray, y: np.ndarray, weight: Any, random_state: np.random.RandomState
    ) -> tuple[tuple[Any, ...], tuple[Any, ...] | None]:
        """(X, y, weight) to train on, and what early stopping scores, or None."""
        if not self.early_stopping:
            return (X, y, weight), None
        rows = np.arange(len(X))
        binary = isinstance(self, ClassifierMixin) and self.n_outputs_ == 1
        stratify = y if binary else None  # as scikit-learn does, which several outputs confuse
        train, test = train_test_split(
            rows,
            test_size=self.validation_fraction,
            random_state=random_state,
            stratify=stratify,
        )
        if len(test) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' "
                "or the size of your dataset."
            )
        parts = [
            (X[part], y[part], None if weight is None else weight[part]) for part in (train, test)
        ]
        return parts[0], parts[1]

    def _batch_rows(self, n_samples: int) -> int:
        if self.batch_size == "auto":
            return min(200, n_samples)
        if self.batch_size > n_samples:
            warnings.warn(
                f"batch_size={self.batch_size} is larger than the {n_samples} samples "
                "and is clipped to them",
                stacklevel=4,
            )
        return min(int(self.batch_size), n_samples)

    def _publish(self, dtype: np.dtype) -> None:
        """Sets the fitted attributes, in the dtype of X."""
        parameters = self._model.parameters()
        weights = [p for name, p in parameters.items() if name.endswith(".weight")]
        biases = [p for name, p in parameters.items() if name.endswith(".bias")]
        if not all(np.isfinite(p).all() for p in parameters.values()):
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large "
                "values and need to be preprocessed."
            )
        self.coefs_ = [weight.astype(dtype) for weight in weights]
        self.intercepts_ = [bias.astype(dtype) for bias in biases]
        self.loss_ = self.loss_curve_[-1]

    def _outputs(self, X: Any) -> np.ndarray:
        """The last layer before its activation, (n, outputs), in the dtype of X."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        return self._model.predict(X).astype(X.dtype, copy=False)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "coefs_")


class MLPClassifier(ClassifierMixin, _BaseMLP):
    """A multi-layer perceptron that classifies, as ``sklearn.neural_network.MLPClassifier``.

    Parameters
    ----------
    hidden_layer_sizes : sequence of int, default (100,)
    activation : {'identity', 'logistic', 'tanh', 'relu'}, default 'relu'
    solver : {'adam', 'sgd'}, default 'adam'
        ``'lbfgs'`` is not supported yet.
    alpha : float, default 1e-4
        L2 penalty of the weights, divided by the rows of each batch.
    batch_size : int or 'auto', default 'auto'
        ``'auto'`` is ``min(200, n_samples)``.
    learning_rate : {'constant', 'invscaling', 'adaptive'}, default 'constant'
        For ``solver='sgd'``.
    learning_rate_init, power_t, max_iter, shuffle, random_state, tol, verbose, warm_start
        As in scikit-learn.
    momentum, nesterovs_momentum, early_stopping, validation_fraction, beta_1, beta_2, epsilon
        As in scikit-learn.
    n_iter_no_change : int, default 10
    max_fun : int, default 15000
        For ``solver='lbfgs'``.
    dtype : {'float32', 'float64'}, default 'float32'
        What the network computes in; results come in the dtype of X.

    Attributes
    ----------
    classes_, coefs_, intercepts_, loss_, loss_curve_, best_loss_, n_iter_, t_, n_layers_,
    n_outputs_, out_activation_, validation_scores_, best_validation_score_, n_features_in_
        As in scikit-learn.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> import dlcore as dl
    >>> X, y = load_iris(return_X_y=True)
    >>> model = dl.MLPClassifier((16,), learning_rate_init=0.01, max_iter=300, random_state=0)
    >>> bool(model.fit(X, y).score(X, y) > 0.9)
    True
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: int = 10,
        max_fun: int = 15000,
        dtype: str = "float32",
    ):
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.dtype = dtype

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPClassifier:
        """Fits the network.

        Parameters
        ----------
        X : array_like (n_samples, n_features)
        y : array_like (n_samples,) of labels, or (n_samples, n_labels) of 0 and 1
        sample_weight : array_like (n_samples,), optional

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If X or y hold NaN, infinities or nothing, differ in length, or a parameter is wrong.
        NotImplementedError
            For ``solver='lbfgs'``.
        """
        hidden = self._check_parameters()
        warm = self.warm_start and hasattr(self, "_model")
        with self._all_or_nothing():
            X, y = validate_data(
                self, X, y, multi_output=True, dtype=(np.float64, np.float32), reset=not warm
            )
            if sample_weight is not None:
                sample_weight = _check_sample_weight(sample_weight, X)
            if y.ndim == 2 and y.shape[1] == 1:
                y = column_or_1d(y, warn=True)
            self._encode_labels(y, warm)
            target = self._target(y)
            self._fit_model(X, target, sample_weight, self._loss(target), hidden)
        return self

    classes_: Any

    def _encode_labels(self, y: np.ndarray, warm: bool) -> None:
        binarizer = LabelBinarizer().fit(y)
        if warm and not np.array_equal(binarizer.classes_, self.classes_):
            raise ValueError(
                "warm_start can only be used where `y` has the same classes as in the previous "
                f"call to fit. Previously got {self.classes_}, `y` has {binarizer.classes_}"
            )
        self._label_binarizer = binarizer
        self.classes_ = binarizer.classes_
        multiclass = type_of_target(y) == "multiclass"
        self.out_activation_ = "softmax" if multiclass else "logistic"

    def _target(self, y: np.ndarray) -> np.ndarray:
        """Class indices, one column of 0 and 1, or a column for each label."""
        if self.out_activation_ == "softmax":
            return np.searchsorted(self.classes_, y)
        binary = self._label_binarizer.transform(y)
        return np.ascontiguousarray(binary, dtype=np.float64)

    def _output_width(self, target: np.ndarray) -> int:
        return len(self.classes_) if target.ndim == 1 else target.shape[1]

    def _loss(self, target: np.ndarray) -> Loss:
        if target.ndim == 1:
            return CrossEntropy()
        return _summed_over_outputs(BinaryCrossEntropy(), 1.0, target.shape[1])

    def _validation_score(self, X: np.ndarray, target: np.ndarray, weight: Any) -> float:
        outputs = self._model.predict(X)
        predicted = outputs.argmax(axis=1) if target.ndim == 1 else outputs > 0
        return float(accuracy_score(target, predicted, sample_weight=weight))

    def predict(self, X: Any) -> np.ndarray:
        """The classes (n_samples,), or the labels' indicators (n_samples, n_labels)."""
        outputs = self._outputs(X)
        if self.out_activation_ == "softmax":
            return self.classes_[outputs.argmax(axis=1)]
        chosen = (outputs > 0).astype(int)
        return self._label_binarizer.inverse_transform(
            chosen.ravel() if self.n_outputs_ == 1 else chosen
        )

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities (n_samples, n_classes) in the order of ``classes_``."""
        outputs = self._outputs(X)
        if self.out_activation_ == "softmax":
            return ops.softmax(outputs)
        positive = ops.sigmoid(outputs)
        return np.hstack([1 - positive, positive]) if self.n_outputs_ == 1 else positive

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Logarithms of :meth:`predict_proba`, accurate where that is near 0."""
        outputs = self._outputs(X)
        if self.out_activation_ == "softmax":
            return ops.log_softmax(outputs)
        positive = -ops.softplus(-outputs)
        if self.n_outputs_ == 1:
            return np.hstack([-ops.softplus(outputs), positive])
        return positive

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


class MLPRegressor(RegressorMixin, _BaseMLP):
    """A multi-layer perceptron that predicts numbers, as ``sklearn.neural_network.MLPRegressor``.

    Parameters
    ----------
    loss : {'squared_error'}, default 'squared_error'
        ``'poisson'`` is not supported yet.
    hidden_layer_sizes : sequence of int, default (100,)
    activation : {'identity', 'logistic', 'tanh', 'relu'}, default 'relu'
    solver : {'adam', 'sgd'}, default 'adam'
        ``'lbfgs'`` is not supported yet.
    alpha : float, default 1e-4
        L2 penalty of the weights, divided by the rows of each batch.
    batch_size, learning_rate, learning_rate_init, power_t, max_iter, shuffle, random_state, tol
        As in scikit-learn.
    verbose, warm_start, momentum, nesterovs_momentum, early_stopping, validation_fraction
        As in scikit-learn.
    beta_1, beta_2, epsilon, n_iter_no_change, max_fun
        As in scikit-learn.
    dtype : {'float32', 'float64'}, default 'float32'
        What the network computes in; results come in the dtype of X.

    Attributes
    ----------
    coefs_, intercepts_, loss_, loss_curve_, best_loss_, n_iter_, t_, n_layers_, n_outputs_,
    out_activation_, validation_scores_, best_validation_score_, n_features_in_
        As in scikit-learn.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> X = np.linspace(-1, 1, 200)[:, None]
    >>> model = dl.MLPRegressor((32,), learning_rate_init=0.01, max_iter=500, random_state=0)
    >>> bool(model.fit(X, X.ravel() ** 2).score(X, X.ravel() ** 2) > 0.95)
    True
    """

    def __init__(
        self,
        loss: str = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: Any = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: int = 10,
        max_fun: int = 15000,
        dtype: str = "float32",
    ):
        self.loss = loss
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.dtype = dtype

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """Fits the network.

        Parameters
        ----------
        X : array_like (n_samples, n_features)
        y : array_like (n_samples,) or (n_samples, n_outputs)
        sample_weight : array_like (n_samples,), optional

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If X or y hold NaN, infinities or nothing, differ in length, or a parameter is wrong.
        NotImplementedError
            For ``solver='lbfgs'`` and ``loss='poisson'``.
        """
        if self.loss == "poisson":
            raise NotImplementedError("loss='poisson' is not supported yet")
        _one_of("loss", self.loss, ("squared_error",))
        hidden = self._check_parameters()
        warm = self.warm_start and hasattr(self, "_model")
        with self._all_or_nothing():
            X, y = validate_data(
                self,
                X,
                y,
                multi_output=True,
                y_numeric=True,
                dtype=(np.float64, np.float32),
                reset=not warm,
            )
            if sample_weight is not None:
                sample_weight = _check_sample_weight(sample_weight, X)
            if y.ndim == 2 and y.shape[1] == 1:
                y = column_or_1d(y, warn=True)
            self.out_activation_ = "identity"
            self._flat_target = y.ndim == 1
            target = y.reshape(len(y), -1)
            loss = _summed_over_outputs(MSE(), 0.5, target.shape[1])
            self._fit_model(X, target, sample_weight, loss, hidden)
        return self

    def _output_width(self, target: np.ndarray) -> int:
        return target.shape[1]

    def _validation_score(self, X: np.ndarray, target: np.ndarray, weight: Any) -> float:
        predicted = self._model.predict(X)
        if not np.isfinite(predicted).all():
            return np.nan
        return float(r2_score(target, predicted, sample_weight=weight))

    def predict(self, X: Any) -> np.ndarray:
        """Predictions (n_samples,) or (n_samples, n_outputs), as y was, in the dtype of X."""
        outputs = self._outputs(X)
        return outputs.ravel() if self._flat_target else outputs


def _one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")


def _number(name: str, value: Any, low: float, below: float = np.inf) -> None:
    if not isinstance(value, Real) or not low <= float(value) < below:
        raise ValueError(f"{name} must be a number in [{low:g}, {below:g}), not {value!r}")


def _integer(name: str, value: Any, low: int) -> None:
    if not isinstance(value, Integral) or value < low:
        raise ValueError(f"{name} must be an integer >= {low}, not {value!r}")
