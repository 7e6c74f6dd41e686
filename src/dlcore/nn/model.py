"""What models are before they compute: layers with parameters that are drawn, set and frozen."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any, Self

import numpy as np

from dlcore import config, random, train
from dlcore._calls import RowCall, calls_revision
from dlcore.graph.tensor import Tensor
from dlcore.memory import aligned_empty
from dlcore.nn.containers import Chain, walk
from dlcore.nn.kept_call import KeptCall
from dlcore.nn.layers import Layer
from dlcore.nn.packing import PackedWeights
from dlcore.optim.optimizer import AVERAGE
from dlcore.train import TrainingState

# Compiled plans that a model keeps.
_MAX_PLANS = 16

# Attributes that copies and pickles leave behind; see _reset_runtime.
_RUNTIME = {
    "_plans",
    "_plans_lock",
    "_fitting",
    "_row_call",
    "_kept_call",
    "_known_layers",
    "_packed",
}


class Model:
    """Parameters and plans of layers that follow one another; :class:`Sequential` runs them."""

    def __init__(self, *layers: Any, dtype: Any = "float32"):
        if not layers:
            raise ValueError(f"a {type(self).__name__} needs at least one layer")
        self._chain = Chain(*layers)
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.float32, np.float64):
            raise ValueError(f"dtype must be float32 or float64, not {self.dtype}")
        self.metadata: dict[str, str] = {}
        self._parameters: dict[str, np.ndarray] | None = None
        self._frozen: tuple[str, ...] = ()
        self._state: TrainingState | None = None
        self._aliases()  # raises for a tie that leads out of the model
        self._reset_runtime()

    @property
    def layers(self) -> tuple[Layer, ...]:
        return self._chain.layers

    def _reset_runtime(self) -> None:
        self._plans: dict[Any, Any] = {}
        self._plans_lock = threading.Lock()
        self._fitting = threading.Lock()
        self._row_call: RowCall | None = None
        self._kept_call: KeptCall | None = None
        self._known_layers: tuple[int, Any] | None = None  # revision and key
        self._packed = PackedWeights()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in _RUNTIME}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._reset_runtime()

    def __copy__(self) -> Self:
        # Sharing parameters with a model that may be fitted meanwhile helps nobody.
        return copy.deepcopy(self)

    def __repr__(self) -> str:
        layers = ", ".join(map(repr, self.layers))
        return f"{type(self).__name__}({layers}, dtype={self.dtype.name!r})"

    # Parameters

    def init(self, seed: int = 0) -> Self:
        """Draws all parameters anew and forgets the training state; returns the model."""
        initializer = random.Initializer(train.check_seed(seed), self.dtype)
        drawn = {name: np.asarray(value) for name, value in self._chain.init(initializer).items()}
        for name in self._chain.state_names:
            if name not in drawn:
                raise ValueError(f"state_names holds {name!r}, which init does not give")
        parameters = {}
        for name, value in drawn.items():
            parameters[name] = aligned_empty(value.shape, self.dtype)
            parameters[name][...] = value
        self._parameters = parameters
        self._packed.outdate()
        self._kept_call = self._row_call = None  # they hold the old ones
        self._state = None
        return self

    def parameters(self) -> Mapping[str, np.ndarray]:
        """The parameters by name (``"0.weight"``, ``"1.0.bias"``, ...), as live read-only views.

        State of layers, such as the running statistics of BatchNorm, is among them.

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
        try:
            for name, array in checked.items():
                self._initialised()[name][...] = array
        finally:
            self._packed.outdate()

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

    @property
    def has_parameters(self) -> bool:
        """Whether they have been drawn, set or loaded."""
        return self._parameters is not None

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """The parameters' shapes by name."""
        return {name: value.shape for name, value in self._initialised().items()}

    def _initialised(self) -> dict[str, np.ndarray]:
        if self._parameters is None:
            raise ValueError("the model has no parameters yet; call fit, init or set_parameters")
        return self._parameters

    # What is trained

    @property
    def frozen(self) -> tuple[str, ...]:
        """The names of the parameters that ``fit`` leaves as they are."""
        return self._frozen

    def freeze(self, *patterns: str) -> None:
        """Lets ``fit`` leave parameters as they are, without gradients or optimiser state.

        Parameters
        ----------
        *patterns : str
            Names, or patterns of them as in ``"0.*"`` (see :mod:`fnmatch`). State that they fit,
            such as running statistics, stays as it is too. What was frozen before stays frozen.

        Raises
        ------
        ValueError
            If a pattern fits no parameter; nothing is changed then.

        Examples
        --------
        >>> import dlcore as dl
        >>> model = dl.nn.Sequential(dl.nn.Linear(4, 8), dl.nn.ReLU(), dl.nn.Linear(8, 2))
        >>> model.freeze("0.*")
        >>> model.frozen
        ('0.weight', '0.bias')
        """
        chosen = self._matching(patterns) | set(self._frozen)
        self._frozen = tuple(name for name in self._names() if name in chosen)

    def unfreeze(self, *patterns: str) -> None:
        """Lets ``fit`` train parameters again: those that a pattern fits, or all of them.

        Raises
        ------
        ValueError
            If a pattern fits no parameter; nothing is changed then.
        """
        chosen = self._matching(patterns or ("*",))
        self._frozen = tuple(name for name in self._frozen if name not in chosen)

    def _matching(self, patterns: tuple[str, ...]) -> set[str]:
        names = self._names()
        found = set()
        for pattern in patterns:
            if not isinstance(pattern, str):
                raise TypeError(f"patterns must be strings, not {pattern!r}")
            matching = {name for name in names if fnmatchcase(name, pattern)}
            if not matching and patterns != ("*",):
                raise ValueError(f"{pattern!r} fits no parameter; there are {', '.join(names)}")
            found |= matching
        return found

    def _names(self) -> list[str]:
        if self._parameters is not None:
            return list(self._parameters)
        return list(self._chain.init(random.Initializer(0, self.dtype)))

    def trained(self) -> list[str]:
        """The names of the parameters that get gradients: neither state nor frozen."""
        excluded = {*self._chain.state_names, *self._frozen}
        return [name for name in self._initialised() if name not in excluded]

    # As graph expressions

    def forward(
        self, parameters: Mapping[str, Any], x: Any, *, training: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The model's result, and the new values of its layers' state, as graph expressions.

        Parameters
        ----------
        parameters : mapping of str to Tensor
            By the names and in the shapes of ``parameters()``.
        x : Tensor, or tuple or dict of them
        training : bool, default False
        """
        result = self._chain.apply(self._with_ties(parameters), x, training)
        return result if training and self._chain.state_names else (result, {})

    def penalty(self, parameters: Mapping[str, Tensor]) -> Tensor | None:
        """What the layers add to the training loss, or None."""
        return self._chain.penalty(self._with_ties(parameters))

    def _with_ties(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        tied = {name: parameters[source] for name, source in self._aliases().items()}
        return {**parameters, **tied}

    def _aliases(self) -> dict[str, str]:
        """The names that tied layers use, and the parameters that these are."""
        layers = list(walk(self._chain))
        tied = [(path, ties) for path, layer in layers if (ties := layer.ties())]
        aliases = {}
        for path, ties in tied:
            for own, (source, name) in ties.items():
                found = [place for place, layer in layers if layer is source]
                if len(found) != 1:
                    where = "stands at several places" if found else "is no part"
                    raise ValueError(
                        f"layer {path[:-1]} is tied to {source!r}, which {where} of this model"
                    )
                aliases[path + own] = found[0] + name
        for name, source_name in aliases.items():
            while source_name in aliases:
                source_name = aliases[source_name]
            aliases[name] = source_name
        return aliases

    # Plans

    def _cached(self, key: Any, make: Callable[[], Any]) -> Any:
        """What ``make`` gave for the key and the layers as they are; the least used goes."""
        key = (key, config.plan_flags(), self._layers_key(), self._frozen)
        with self._plans_lock:
            plan = self._plans.pop(key, None)
            if plan is None:
                plan = make()
            self._plans[key] = plan
            if len(self._plans) > _MAX_PLANS:
                del self._plans[next(iter(self._plans))]
        return plan

    def _layers_key(self) -> Any:
        """What tells the layers, as they are now, from others; kept while no layer is changed."""
        revision = calls_revision()
        if self._known_layers is not None and self._known_layers[0] == revision:
            return self._known_layers[1]
        key = _layer_key(self._chain), tuple(self._aliases().items())
        self._known_layers = None if may_change_unseen(self._chain) else (revision, key)
        return key


def _read_only(arrays: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    views = {name: value.view() for name, value in arrays.items()}
    for view in views.values():
        view.flags.writeable = False
    return MappingProxyType(views)


class _Same:
    """Stands in a key for an object that is compared by identity, and keeps it alive."""

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


_PLAIN = (bool, int, float, str, type(None))


def _layer_key(layer: Layer) -> Any:
    """What tells a layer, as it is now, from others."""
    own = vars(layer)
    return (type(layer), *own, *[_value_key(value) for value in own.values()])


def _value_key(value: Any) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return kind, value
    if isinstance(value, Layer):
        return _layer_key(value)
    if kind in (list, tuple):
        return (kind, *[_value_key(each) for each in value])
    if kind is dict:
        return (kind, *value, *[_value_key(each) for each in value.values()])
    return _Same(value)


def may_change_unseen(value: Any) -> bool:
    """Whether a layer, or one in it, can change without an attribute being set that outdates calls.

    It has a list or a dict, which may change in place, or sets attributes in a way of its own.
    """
    if isinstance(value, Layer):
        kind = type(value)
        if kind.__setattr__ is not Layer.__setattr__ or kind.__delattr__ is not Layer.__delattr__:
            return True
        return any(map(may_change_unseen, vars(value).values()))
    if isinstance(value, tuple):
        return any(map(may_change_unseen, value))
    return isinstance(value, list | dict)
