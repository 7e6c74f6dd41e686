"""The optimisers: each is one fused native step with its options."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import Literal

import numpy as np

from dlcore.optim.optimizer import Optimizer, check_fraction
from dlcore.optim.schedules import Schedule, check_positive

Convention = Literal["pytorch", "sklearn"]


def _check_convention(convention: str) -> None:
    if convention not in ("pytorch", "sklearn"):
        raise ValueError(f"convention must be 'pytorch' or 'sklearn', not {convention!r}")


@dataclass(eq=False, repr=False)
class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if asked for.

    Parameters
    ----------
    learning_rate : float or Schedule, default 0.01
    momentum : float, default 0
        In [0, 1).
    nesterov : bool, default False
        Nesterov's momentum; needs ``momentum > 0``.
    convention : {'pytorch', 'sklearn'}, default 'pytorch'
        ``pytorch``: ``v = momentum * v + g``, ``p -= lr * v``; ``sklearn``:
        ``v = momentum * v - lr * g``, ``p += v``. They agree while the rate is constant.
    weight_decay, decay_mask, clip_value, clip_norm, clip_global_norm, average
        See :class:`Optimizer`.

    References
    ----------
    Sutskever, Martens, Dahl, Hinton, On the importance of initialization and momentum in deep
    learning, 2013.

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.optim.SGD(0.1, momentum=0.9).state_names
    ('velocity',)
    """

    learning_rate: float | Schedule = 0.01
    _: KW_ONLY
    momentum: float = 0.0
    nesterov: bool = False
    convention: Convention = "pytorch"

    step = "sgd_step"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_convention(self.convention)
        self.momentum = check_fraction("momentum", self.momentum)
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov needs momentum > 0")
        self.nesterov = bool(self.nesterov)

    def own_states(self) -> tuple[str, ...]:
        return ("velocity",) if self.momentum else ()

    def own_options(self) -> tuple[float | bool, ...]:
        return self.momentum, self.nesterov, self.convention == "sklearn"


@dataclass(eq=False, repr=False)
class _Moments(Optimizer):
    """Those that keep running means of the gradient and of its square."""

    _: KW_ONLY
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        self.beta1 = check_fraction("beta1", self.beta1)
        self.beta2 = check_fraction("beta2", self.beta2)
        self.eps = check_positive("eps", self.eps, zero=True)

    def own_states(self) -> tuple[str, ...]:
        return "m", "v"

    def own_options(self) -> tuple[float | bool, ...]:
        return self.beta1, self.beta2, self.eps


def _steps_remembered(beta: float) -> int:
    """From how many steps on ``beta**steps`` is lost beside 1."""
    return math.ceil(60 / -math.log2(beta)) if beta else 1


def _weight_of_past(beta: float, count: np.ndarray) -> np.ndarray:
    """``1 - beta**count``, for ascending counts: what all gradients so far weigh in a moment.

    Powers that are lost beside 1 are not computed: to compute those below the smallest normal
    number took 5% of a profile of 10-32-2 from step 7000 on.
    """
    early = count[: np.searchsorted(count, _steps_remembered(beta))]
    weights = np.ones(len(count))
    weights[: len(early)] -= beta**early
    return weights


@dataclass(eq=False, repr=False)
class Adam(_Moments):
    """Adam: steps scaled by running moments of the gradient.

    Parameters
    ----------
    learning_rate : float or Schedule, default 1e-3
    beta1, beta2 : float, default 0.9 and 0.999
        Decay rates of the first and second moment, in [0, 1).
    eps : float, default 1e-8
        Added to the root of the second moment.
    amsgrad : bool, default False
        Divides by the root of the largest second moment so far.
    convention : {'pytorch', 'sklearn'}, default 'pytorch'
        ``sklearn`` adds ``eps`` to the root before the correction of its bias, ``pytorch`` after.
    weight_decay, decay_mask, clip_value, clip_norm, clip_global_norm, average
        See :class:`Optimizer`; :class:`AdamW` decouples the decay of the weights.

    References
    ----------
    Kingma and Ba, Adam: a method for stochastic optimization, 2015. Reddi, Kale, Kumar, On the
    convergence of Adam and beyond, 2018 (amsgrad).

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.optim.Adam(1e-3).state_names
    ('m', 'v')
    """

    learning_rate: float | Schedule = 1e-3
    _: KW_ONLY
    amsgrad: bool = False
    convention: Convention = "pytorch"

    step = "adam_step"
    n_scalars = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_convention(self.convention)
        self.amsgrad = bool(self.amsgrad)

    def own_states(self) -> tuple[str, ...]:
        return ("m", "v", "largest") if self.amsgrad else ("m", "v")

    def own_options(self) -> tuple[float | bool, ...]:
        return (*super().own_options(), self.amsgrad)

    def own_scalars(self, rates: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, ...]:
        correction1 = _weight_of_past(self.beta1, count)
        correction2 = np.sqrt(_weight_of_past(self.beta2, count))
        if self.convention == "sklearn":
            return rates * correction2 / correction1, np.ones_like(rates)
        return rates / correction1, 1.0 / correction2


@dataclass(eq=False, repr=False)
class AdamW(Adam):
    """Adam with decoupled weight decay: parameters shrink by ``lr * weight_decay`` at each step.

    Parameters
    ----------
    learning_rate : float or Schedule, default 1e-3
    weight_decay : float, default 0.01
    beta1, beta2, eps, amsgrad, convention
        As in :class:`Adam`.
    decay_mask, clip_value, clip_norm, clip_global_norm, average
        See :class:`Optimizer`.

    References
    ----------
    Loshchilov and Hutter, Decoupled weight decay regularization, 2019.

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.optim.AdamW(1e-3, weight_decay=0.1, decay_mask=["*.weight"])
    AdamW(0.001, weight_decay=0.1, decay_mask=('*.weight',))
    """

    _: KW_ONLY
    weight_decay: float = 0.01

    def decouples_decay(self) -> bool:
        return True


@dataclass(eq=False, repr=False)
class NAdam(_Moments):
    """Adam with Nesterov's momentum.

    Parameters
    ----------
    learning_rate : float or Schedule, default 2e-3
    beta1, beta2, eps
        As in :class:`Adam`.
    momentum_decay : float, default 4e-3
        How soon the momentum of step t, ``beta1 * (1 - 0.96**(t * momentum_decay) / 2)``, rises to
        ``beta1``; at least 0.
    decoupled_weight_decay : bool, default False
        Whether weight decay is that of :class:`AdamW`.
    weight_decay, decay_mask, clip_value, clip_norm, clip_global_norm, average
        See :class:`Optimizer`.

    References
    ----------
    Dozat, Incorporating Nesterov momentum into Adam, 2016.

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.optim.NAdam(momentum_decay=0.01).state_names
    ('m', 'v')
    """

    learning_rate: float | Schedule = 2e-3
    _: KW_ONLY
    momentum_decay: float = 4e-3
    decoupled_weight_decay: bool = False

    step = "nadam_step"
    n_scalars = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        self.momentum_decay = check_positive("momentum_decay", self.momentum_decay, zero=True)
        self.decoupled_weight_decay = bool(self.decoupled_weight_decay)

    def decouples_decay(self) -> bool:
        return self.decoupled_weight_decay

    def own_scalars(self, rates: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, ...]:
        now, following = self._momentum(count), self._momentum(count + 1)
        product = self._momentum_product(count)
        return (
            rates * (1.0 - now) / (1.0 - product),
            rates * following / (1.0 - product * following),
            1.0 / np.sqrt(_weight_of_past(self.beta2, count)),
        )

    def _momentum(self, count: np.ndarray) -> np.ndarray:
        return self.beta1 * (1.0 - 0.5 * 0.96 ** (count * self.momentum_decay))

    def _momentum_product(self, count: np.ndarray) -> np.ndarray:
        """The product of the momenta of steps 1 to count, and 0 where that is lost beside 1.

        It is always multiplied up from step 1, so that it does not depend on where a run is cut;
        as it is at most beta1**count, that ends after 400 steps for a beta1 of 0.9.
        """
        horizon = min(int(count.max(initial=1)), _steps_remembered(self.beta1))
        products = np.cumprod(self._momentum(np.arange(1, horizon + 1)))
        return np.where(count <= horizon, products[np.minimum(count, horizon) - 1], 0.0)


@dataclass(eq=False, repr=False)
class RAdam(_Moments):
    """Adam whose scaled steps wait until the second moment is known well enough.

    Parameters
    ----------
    learning_rate : float or Schedule, default 1e-3
    beta1, beta2, eps
        As in :class:`Adam`. With the default ``beta2`` the first 5 steps are those of momentum
        alone, and steps are then rectified, less and less.
    decoupled_weight_decay : bool, default False
        Whether weight decay is that of :class:`AdamW`.
    weight_decay, decay_mask, clip_value, clip_norm, clip_global_norm, average
        See :class:`Optimizer`.

    References
    ----------
    Liu, Jiang, He, Chen, Liu, Gao, Han, On the variance of the adaptive learning rate and beyond,
    2020.

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.optim.RAdam().scalars(0, 7, 1)[:, 2]
    array([0., 0., 0., 0., 0., 1., 1.])
    """

    learning_rate: float | Schedule = 1e-3
    _: KW_ONLY
    decoupled_weight_decay: bool = False

    step = "radam_step"
    n_scalars = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        self.decoupled_weight_decay = bool(self.decoupled_weight_decay)

    def decouples_decay(self) -> bool:
        return self.decoupled_weight_decay

    def own_scalars(self, rates: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, ...]:
        power = self.beta2**count
        longest = 2.0 / (1.0 - self.beta2) - 1.0
        length = longest - 2.0 * count * power / (1.0 - power)
        rectified = length > 5.0
        scale = np.ones_like(rates)
        r = length[rectified]
        variance = (r - 4) * (r - 2) * longest / ((longest - 4) * (longest - 2) * r)
        scale[rectified] = np.sqrt(variance * (1.0 - power[rectified]))
        return rates * scale / _weight_of_past(self.beta1, count), rectified.astype(np.float64)


@dataclass(eq=False, repr=False)
class RMSprop(Optimizer):
    """Gradients divided by the root of a running mean of their squares.

    Parameters
    ----------
    learning_rate : float or Schedule, default 0.01
    alpha : float, default 0.99
        Decay rate of the running means, in [0, 1).
    eps : float, default 1e-8
        Added to the root.
    momentum : float, default 0
        In [0, 1), of the divided gradients.
    centered : bool, default False
        Divides by the root of the variance instead: of the mean square less the squared mean (or
        0, where rounding makes that negative).
    weight_decay, decay_mask, clip_value, clip_norm, clip_global_norm, average
        See :class:`Optimizer`.

    References
    ----------
    Tieleman and Hinton, Lecture 6.5 of Neural networks for machine learning, 2012. Graves,
    Generating sequences with recurrent neural networks, 2013 (centered).

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.optim.RMSprop(momentum=0.9, centered=True).state_names
    ('v', 'mean', 'velocity')
    """

    learning_rate: float | Schedule = 0.01
    _: KW_ONLY
    alpha: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0
    centered: bool = False

    step = "rmsprop_step"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.alpha = check_fraction("alpha", self.alpha)
        self.eps = check_positive("eps", self.eps, zero=True)
        self.momentum = check_fraction("momentum", self.momentum)
        self.centered = bool(self.centered)

    def own_states(self) -> tuple[str, ...]:
        mean = ("mean",) if self.centered else ()
        return ("v", *mean, "velocity") if self.momentum else ("v", *mean)

    def own_options(self) -> tuple[float | bool, ...]:
        return self.alpha, self.eps, self.momentum, self.centered


@dataclass(eq=False, repr=False)
class Adagrad(Optimizer):
    """Gradients divided by the root of the sum of their squares so far.

    Parameters
    ----------
    learning_rate : float or Schedule, default 0.01
    lr_decay : float, default 0
        Step t, from 1, has the rate ``learning_rate / (1 + (t - 1) * lr_decay)``; at least 0.
    initial_accumulator_value : float, default 0
        What the sums of squares start at.
    eps : float, default 1e-10
        Added to the root.
    weight_decay, decay_mask, clip_value, clip_norm, clip_global_norm, average
        See :class:`Optimizer`.

    References
    ----------
    Duchi, Hazan, Singer, Adaptive subgradient methods for online learning and stochastic
    optimization, 2011.

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.optim.Adagrad(1.0, lr_decay=0.5).rates(0, 3, 1)
    array([1.        , 0.66666667, 0.5       ])
    """

    learning_rate: float | Schedule = 0.01
    _: KW_ONLY
    lr_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    eps: float = 1e-10

    step = "adagrad_step"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("lr_decay", "initial_accumulator_value", "eps"):
            setattr(self, name, check_positive(name, getattr(self, name), zero=True))

    def own_states(self) -> tuple[str, ...]:
        return ("sum",)

    def own_options(self) -> tuple[float | bool, ...]:
        return (self.eps,)

    def initial_state(self, state: str, parameter: np.ndarray) -> np.ndarray | float:
        if state == "sum":
            return self.initial_accumulator_value
        return super().initial_state(state, parameter)

    def rates(self, first_step: int, n_steps: int, steps_per_epoch: int) -> np.ndarray:
        steps = np.arange(first_step, first_step + n_steps)
        return super().rates(first_step, n_steps, steps_per_epoch) / (1.0 + steps * self.lr_decay)


@dataclass(eq=False, repr=False)
class Adadelta(Optimizer):
    """Gradients scaled by the ratio of running means of squares: of steps to those of gradients.

    Parameters
    ----------
    learning_rate : float or Schedule, default 1
    rho : float, default 0.9
        Decay rate of the running means, in [0, 1).
    eps : float, default 1e-6
        Added to both means before their roots.
    weight_decay, decay_mask, clip_value, clip_norm, clip_global_norm, average
        See :class:`Optimizer`.

    References
    ----------
    Zeiler, Adadelta: an adaptive learning rate method, 2012.

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.optim.Adadelta().state_names
    ('v', 'u')
    """

    learning_rate: float | Schedule = 1.0
    _: KW_ONLY
    rho: float = 0.9
    eps: float = 1e-6

    step = "adadelta_step"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.rho = check_fraction("rho", self.rho)
        self.eps = check_positive("eps", self.eps, zero=True)

    def own_states(self) -> tuple[str, ...]:
        return "v", "u"

    def own_options(self) -> tuple[float | bool, ...]:
        return self.rho, self.eps


@dataclass(eq=False, repr=False)
class Lion(Optimizer):
    """The sign of a mean of gradients: every element moves by the learning rate, or not at all.

    Parameters
    ----------
    learning_rate : float or Schedule, default 1e-4
    beta1, beta2 : float, default 0.9 and 0.99
        In [0, 1): the share of the running mean in the direction of the step, and its decay rate.
    weight_decay : float, default 0
        Decoupled, as in :class:`AdamW`.
    decay_mask, clip_value, clip_norm, clip_global_norm, average
        See :class:`Optimizer`.

    References
    ----------
    Chen, Liang, Huang, Real, Wang, Pham, Dong, Luong, Hsieh, Lu, Le, Symbolic discovery of
    optimization algorithms, 2023.

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.optim.Lion(1e-4, weight_decay=0.1).state_names
    ('m',)
    """

    learning_rate: float | Schedule = 1e-4
    _: KW_ONLY
    beta1: float = 0.9
    beta2: float = 0.99

    step = "lion_step"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.beta1 = check_fraction("beta1", self.beta1)
        self.beta2 = check_fraction("beta2", self.beta2)

    def own_states(self) -> tuple[str, ...]:
        return ("m",)

    def own_options(self) -> tuple[float | bool, ...]:
        return self.beta1, self.beta2

    def decouples_decay(self) -> bool:
        return True
