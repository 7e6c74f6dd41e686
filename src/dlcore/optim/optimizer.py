"""What all optimisers have in common: their options, and how they become op records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, fields
from fnmatch import fnmatchcase
from numbers import Real
from typing import Any, ClassVar

import numpy as np

from dlcore.graph.program import float_bits
from dlcore.graph.tensor import Slot, Tensor, leaf
from dlcore.graph.updates import Update
from dlcore.optim.clipping import clip
from dlcore.optim.schedules import Constant, Schedule, check_positive

AVERAGE = "average"  # the state that holds the average of a parameter


@dataclass(eq=False, repr=False)
class Optimizer:
    """Options that every optimiser has, and what the training loop asks of it.

    Parameters
    ----------
    learning_rate : float or Schedule
        Read before every epoch, so that callbacks may change it.
    weight_decay : float, default 0
        Added to the gradient as ``weight_decay * parameter``, unless the optimiser says otherwise.
    decay_mask : sequence of str, optional
        The parameters that ``weight_decay`` is for, by name or by pattern, as in
        ``["*.weight"]`` (see :mod:`fnmatch`). Default: all of them.
    clip_value : float, optional
        Every element of the gradients is clipped to ``[-clip_value, clip_value]``.
    clip_norm : float, optional
        The gradient of each parameter is scaled to have at most this L2 norm, by
        ``min(1, clip_norm / (norm + 1e-6))``. Not together with ``clip_global_norm``; after
        ``clip_value``.
    clip_global_norm : float, optional
        Likewise for all gradients together, as ``torch.nn.utils.clip_grad_norm_`` does.
    average : float, optional
        In (0, 1): keeps an exponential moving average of every parameter,
        ``average * mean + (1 - average) * parameter`` after each step, which starts at what the
        parameter is before the first one. See ``Sequential.averaged_parameters``.

    Attributes
    ----------
    state_names : tuple of str
        The arrays, shaped as the parameter, that it keeps for each parameter.
    n_scalars : int
        How many numbers it needs at each step.

    Notes
    -----
    A subclass is a dataclass whose fields are its options; it says which fused step of
    ``csrc/cpu/steps.h`` it is, with which states, options and scalars.

    References
    ----------
    Pascanu, Mikolov, Bengio, On the difficulty of training recurrent neural networks, 2013
    (clipping by norm). Polyak and Juditsky, Acceleration of stochastic approximation by averaging,
    1992.

    Examples
    --------
    >>> import dlcore as dl
    >>> dl.optim.SGD(0.1, weight_decay=1e-4, decay_mask=["*.weight"], clip_global_norm=1.0)
    SGD(0.1, weight_decay=0.0001, decay_mask=('*.weight',), clip_global_norm=1.0)
    >>> dl.optim.Adam(1e-3, average=0.999).state_names
    ('m', 'v', 'average')
    """

    learning_rate: float | Schedule
    _: KW_ONLY
    weight_decay: float = 0.0
    decay_mask: Sequence[str] | None = None
    clip_value: float | None = None
    clip_norm: float | None = None
    clip_global_norm: float | None = None
    average: float | None = None

    step: ClassVar[str]
    n_scalars: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not isinstance(self.learning_rate, Schedule):
            self.learning_rate = check_positive("learning_rate", self.learning_rate, zero=True)
        self.weight_decay = check_positive("weight_decay", self.weight_decay, zero=True)
        self._check_decay_mask()
        for name in ("clip_value", "clip_norm", "clip_global_norm"):
            value = getattr(self, name)
            if value is not None:
                setattr(self, name, check_positive(name, value))
        if self.clip_norm is not None and self.clip_global_norm is not None:
            raise ValueError("clip_norm and clip_global_norm exclude each other; give one of them")
        if self.average is not None:
            self.average = check_fraction("average", self.average, zero=False)

    def _check_decay_mask(self) -> None:
        if self.decay_mask is None:
            return
        patterns = self.decay_mask
        listed = isinstance(patterns, Iterable) and not isinstance(patterns, str)
        if not listed or not all(isinstance(pattern, str) for pattern in patterns):
            raise TypeError(f"decay_mask must be a sequence of names or patterns, not {patterns!r}")
        if self.weight_decay == 0:
            raise ValueError("decay_mask needs weight_decay > 0")
        self.decay_mask = tuple(patterns)

    # What a subclass says

    def own_states(self) -> tuple[str, ...]:
        """The names of its states but for the average."""
        return ()

    def own_options(self) -> tuple[float | bool, ...]:
        """The options of its step, in the order of csrc/cpu/steps.h."""
        raise NotImplementedError

    def own_scalars(self, rates: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, ...]:
        """What its step needs beside the rate, from the rates and numbers (from 1) of the steps."""
        return ()

    def decouples_decay(self) -> bool:
        """Whether weight decay shrinks the parameter and leaves the gradient alone."""
        return False

    # What the training loop asks

    @property
    def state_names(self) -> tuple[str, ...]:
        return self.own_states() + ((AVERAGE,) if self.average is not None else ())

    def initial_state(self, state: str, parameter: np.ndarray) -> np.ndarray | float:
        """What a state holds before the first step: 0, or the parameter for its average."""
        return parameter if state == AVERAGE else 0.0

    def rates(self, first_step: int, n_steps: int, steps_per_epoch: int) -> np.ndarray:
        """Learning rates (n_steps,) of the steps from ``first_step`` on, counted from 0."""
        rate = self.learning_rate
        schedule = rate if isinstance(rate, Schedule) else Constant(rate)
        return schedule.rates(first_step, n_steps, steps_per_epoch)

    def scalars(self, first_step: int, n_steps: int, steps_per_epoch: int) -> np.ndarray:
        """The numbers (n_steps, n_scalars; float64) that change from step to step.

        Those of a step are the same whatever the first step is.
        """
        rates = self.rates(first_step, n_steps, steps_per_epoch)
        count = np.arange(first_step + 1, first_step + n_steps + 1)
        return np.stack([rates, *self.own_scalars(rates, count)], axis=1)

    def updates(
        self, parameters: Mapping[str, Tensor], gradients: Sequence[Tensor]
    ) -> list[Update]:
        """The op records of one step.

        Parameters
        ----------
        parameters : mapping of str to Tensor
            The leaves of the parameters that are trained, by name.
        gradients : sequence of Tensor
            Their gradients, in the same order.

        Raises
        ------
        ValueError
            If an entry of ``decay_mask`` is the name of no parameter.
        """
        scalars = leaf(Slot("scalars", "step", np.dtype(np.float64), (self.n_scalars,)))
        decayed = self._decayed(parameters)
        clipped = clip(gradients, self.clip_value, self.clip_norm, self.clip_global_norm)
        updates = []
        for (name, parameter), gradient in zip(parameters.items(), clipped, strict=True):
            targets = [parameter]
            for state in self.state_names:
                slot = Slot(f"{state}/{name}", "fixed", parameter.dtype, parameter.shape, True)
                targets.append(leaf(slot))
            words = self._words(decays=name in decayed)
            updates.append(Update(self.step, tuple(targets), (gradient, scalars), words))
        return updates

    def _decayed(self, names: Mapping[str, Any]) -> set[str]:
        """The parameters that decay."""
        if self.decay_mask is None:
            return set(names)
        decayed = set()
        for pattern in self.decay_mask:
            matching = [name for name in names if fnmatchcase(name, pattern)]
            if not matching:
                known = ", ".join(names)
                raise ValueError(f"decay_mask: {pattern!r} fits no parameter; there are {known}")
            decayed.update(matching)
        return decayed

    def _words(self, decays: bool) -> tuple[int, ...]:
        """The attributes of an op record: see csrc/plan/recorded_step.h."""
        shared = (self.weight_decay if decays else 0.0, self.decouples_decay(), self.average or 0.0)
        return tuple(
            int(option) if isinstance(option, bool) else float_bits(option)
            for option in (*shared, *self.own_options())
        )

    def options(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def plan_key(self) -> tuple[Any, ...]:
        """What a plan depends on of the optimiser: all but the learning rate."""
        options = {**self.options(), "learning_rate": None}
        return (type(self), *options.items())

    def continues(self, other: Optimizer) -> bool:
        """Whether this is the other optimiser, but for the learning rate."""
        return self.plan_key() == other.plan_key()

    def __repr__(self) -> str:
        changed = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)[1:]
            if getattr(self, field.name) != field.default
        ]
        return f"{type(self).__name__}({', '.join([repr(self.learning_rate), *changed])})"


def check_fraction(name: str, value: float, *, zero: bool = True) -> float:
    """The value as a float; ValueError unless it is a number in [0, 1) (or (0, 1))."""
    if not (isinstance(value, Real) and 0 <= value < 1) or (value == 0 and not zero):
        raise ValueError(f"{name} must lie in {'[' if zero else '('}0, 1), not {value!r}")
    return float(value)
