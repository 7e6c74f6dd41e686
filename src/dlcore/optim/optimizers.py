"""Optimisers: each is one fused native step with its options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from dlcore.graph.lower import Update
from dlcore.graph.program import float_bits
from dlcore.graph.tensor import Tensor
from dlcore.optim.schedules import Constant, Schedule, check_positive

Convention = Literal["pytorch", "sklearn"]


class Optimizer:
    """What the training loop asks of an optimiser.

    Attributes
    ----------
    learning_rate : float or Schedule
        Read before every epoch, so that callbacks may change it.
    state_names : tuple of str
        The arrays, shaped as the parameter, that it keeps for each parameter.
    n_scalars : int
        How many numbers it needs at each step.
    """

    n_scalars: ClassVar[int]
    state_names: tuple[str, ...]
    learning_rate: float | Schedule

    def __init__(self, learning_rate: float | Schedule, convention: Convention):
        if not isinstance(learning_rate, Schedule):
            learning_rate = check_positive("learning_rate", learning_rate, zero=True)
        if convention not in ("pytorch", "sklearn"):
            raise ValueError(f"convention must be 'pytorch' or 'sklearn', not {convention!r}")
        self.learning_rate = learning_rate
        self.convention = convention

    def rates(self, first_step: int, n_steps: int, steps_per_epoch: int) -> np.ndarray:
        """Learning rates (n_steps,) of the steps from ``first_step`` on, counted from 0."""
        rate = self.learning_rate
        schedule = rate if isinstance(rate, Schedule) else Constant(rate)
        return schedule.rates(first_step, n_steps, steps_per_epoch)

    def scalars(self, first_step: int, n_steps: int, steps_per_epoch: int) -> np.ndarray:
        """The numbers (n_steps, n_scalars; float64) that change from step to step."""
        raise NotImplementedError

    def update(
        self, parameter: Tensor, states: Sequence[Tensor], gradient: Tensor, scalars: Tensor
    ) -> Update:
        """The op record that makes one step."""
        raise NotImplementedError

    def plan_key(self) -> tuple[Any, ...]:
        """What of the options stands in the plan itself."""
        raise NotImplementedError

    def options(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {k: v for k, v in vars(self).items() if k != "state_names"}

    def continues(self, other: Optimizer) -> bool:
        """Whether this is the other optimiser, but for the learning rate."""
        fixed = [{**o.options(), "learning_rate": None} for o in (self, other)]
        return type(self) is type(other) and fixed[0] == fixed[1]

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self.options().items())
        return f"{type(self).__name__}({options})"


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum if asked for.

    Parameters
    ----------
    learning_rate : float or Schedule, default 0.01
    momentum : float, default 0
        In [0, 1).
    nesterov : bool, default False
        Nesterov's momentum; needs ``momentum > 0``.
    weight_decay : float, default 0
        Added to the gradient as ``weight_decay * parameter``.
    convention : {'pytorch', 'sklearn'}, default 'pytorch'
        ``pytorch``: ``v = momentum * v + g``, ``p -= lr * v``; ``sklearn``:
        ``v = momentum * v - lr * g``, ``p += v``. They agree while the rate is constant.

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

    n_scalars = 1

    def __init__(
        self,
        learning_rate: float | Schedule = 0.01,
        *,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        convention: Convention = "pytorch",
    ):
        super().__init__(learning_rate, convention)
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum must lie in [0, 1), not {momentum!r}")
        if nesterov and momentum == 0:
            raise ValueError("nesterov needs momentum > 0")
        self.momentum = float(momentum)
        self.nesterov = bool(nesterov)
        self.weight_decay = check_positive("weight_decay", weight_decay, zero=True)
        self.state_names = ("velocity",) if momentum else ()

    def scalars(self, first_step: int, n_steps: int, steps_per_epoch: int) -> np.ndarray:
        return self.rates(first_step, n_steps, steps_per_epoch).reshape(n_steps, 1)

    def update(
        self, parameter: Tensor, states: Sequence[Tensor], gradient: Tensor, scalars: Tensor
    ) -> Update:
        words = (
            float_bits(self.momentum),
            float_bits(self.weight_decay),
            int(self.nesterov),
            int(self.convention == "sklearn"),
        )
        return Update("sgd_step", (parameter, *states), (gradient, scalars), words)

    def plan_key(self) -> tuple[Any, ...]:
        return ("sgd", self.momentum, self.nesterov, self.weight_decay, self.convention)


class Adam(Optimizer):
    """Adam: steps scaled by running moments of the gradient.

    Parameters
    ----------
    learning_rate : float or Schedule, default 1e-3
    beta1, beta2 : float, default 0.9 and 0.999
        Decay rates of the first and second moment, in [0, 1).
    eps : float, default 1e-8
        Added to the root of the second moment.
    weight_decay : float, default 0
        Added to the gradient as ``weight_decay * parameter``; :class:`AdamW` decouples it.
    convention : {'pytorch', 'sklearn'}, default 'pytorch'
        ``sklearn`` adds ``eps`` to the root before the correction of its bias, ``pytorch`` after.

    References
    ----------
    Kingma and Ba, Adam: a method for stochastic optimization, 2015.

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.optim.Adam(1e-3).state_names
    ('m', 'v')
    """

    n_scalars = 3
    state_names = ("m", "v")

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-3,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        convention: Convention = "pytorch",
    ):
        super().__init__(learning_rate, convention)
        for name, beta in (("beta1", beta1), ("beta2", beta2)):
            if not 0 <= beta < 1:
                raise ValueError(f"{name} must lie in [0, 1), not {beta!r}")
        self.beta1 = float(beta1)
        self.beta2 = float(beta2)
        self.eps = check_positive("eps", eps, zero=True)
        self.weight_decay = check_positive("weight_decay", weight_decay, zero=True)

    def scalars(self, first_step: int, n_steps: int, steps_per_epoch: int) -> np.ndarray:
        rates = self.rates(first_step, n_steps, steps_per_epoch)
        count = np.arange(first_step + 1, first_step + n_steps + 1)
        correction1 = 1.0 - self.beta1**count
        correction2 = np.sqrt(1.0 - self.beta2**count)
        if self.convention == "sklearn":
            columns = (rates * correction2 / correction1, np.ones(n_steps), self._decay(rates))
        else:
            columns = (rates / correction1, 1.0 / correction2, self._decay(rates))
        return np.stack(columns, axis=1)

    def _decay(self, rates: np.ndarray) -> np.ndarray:
        return np.ones_like(rates)

    def _l2(self) -> float:
        return self.weight_decay

    def update(
        self, parameter: Tensor, states: Sequence[Tensor], gradient: Tensor, scalars: Tensor
    ) -> Update:
        options = (self.beta1, self.beta2, self.eps, self._l2())
        words = tuple(float_bits(option) for option in options)
        return Update("adam_step", (parameter, *states), (gradient, scalars), words)

    def plan_key(self) -> tuple[Any, ...]:
        return ("adam", self.beta1, self.beta2, self.eps, self._l2())


class AdamW(Adam):
    """Adam with decoupled weight decay: parameters shrink by ``lr * weight_decay`` at each step.

    Parameters
    ----------
    learning_rate : float or Schedule, default 1e-3
    beta1, beta2, eps
        As in :class:`Adam`.
    weight_decay : float, default 0.01

    References
    ----------
    Loshchilov and Hutter, Decoupled weight decay regularization, 2019.

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.optim.AdamW(1e-3, weight_decay=0.1).scalars(0, 1, 1)[0, 2]
    np.float64(0.9999)
    """

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-3,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ):
        super().__init__(
            learning_rate, beta1=beta1, beta2=beta2, eps=eps, weight_decay=weight_decay
        )

    def _decay(self, rates: np.ndarray) -> np.ndarray:
        return 1.0 - rates * self.weight_decay

    def _l2(self) -> float:
        return 0.0
