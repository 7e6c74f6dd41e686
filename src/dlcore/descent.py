"""Gradient descent and its kin on functions written in NumPy."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from dlcore import random
from dlcore.errors import DivergenceError
from dlcore.graph import tree
from dlcore.graph.function import (
    ArraySpec,
    Function,
    argument_names,
    native_argument,
    spec_of,
)
from dlcore.graph.gradient import gradient
from dlcore.graph.lower import CompiledPlan, compile_plan
from dlcore.graph.table.shaping import reduce
from dlcore.graph.tensor import Slot, Tensor, apply, leaf, literal
from dlcore.optim import SGD, Optimizer
from dlcore.transforms import jit, scalar_result, value_and_grad

Method = Literal["armijo", "wolfe", "cg", "lbfgs"]
Callback = Callable[[int, Any, float], Any]

# Steps between looks at the losses: few enough that what runs beyond the end costs little.
_CHUNK = 128
# A loss this many times the first one, or 1 if that is less, does not come back.
_BLOW_UP = 1e10


@dataclass
class MinimizeResult:
    """What :func:`minimize` found.

    Attributes
    ----------
    x : array, float, or nested dict, list or tuple of them
        The last point, as ``x0`` was given.
    fun : float
        The function there.
    history : ndarray (n_steps + 1,)
        The function at every point, from ``x0`` to ``x``.
    n_steps : int
        How many steps were made.
    converged : bool
        Whether the gradient fell to ``tol``, or the method of scipy says that it has converged.
    message : str
        Why it ended.
    trajectory : as ``x``, optional
        All points along a first axis of n_steps + 1, where they were asked for.
    """

    x: Any
    fun: float
    history: np.ndarray = field(repr=False)
    n_steps: int
    converged: bool
    message: str
    trajectory: Any = field(default=None, repr=False)


def minimize(
    f: Callable[..., Any],
    x0: Any,
    args: tuple[Any, ...] = (),
    *,
    optimizer: Optimizer | Method | None = None,
    steps: int = 1000,
    tol: float | None = None,
    callback: Callback | None = None,
    trajectory: bool = False,
) -> MinimizeResult:
    """Minimises ``f(x, *args)`` over ``x`` with the gradient of the traced function.

    Parameters
    ----------
    f : callable
        Written in NumPy; returns a scalar. See :mod:`dlcore.transforms`.
    x0 : array_like of floating point, float, or nested dict, list or tuple of them
        Where to begin; not changed.
    args : tuple, optional
        Further arguments of ``f``.
    optimizer : Optimizer or {'armijo', 'wolfe', 'cg', 'lbfgs'}, optional
        A :mod:`dlcore.optim` object makes full-batch steps in native code; the epochs of learning
        rate schedules are steps. ``armijo``: steepest descent with backtracking; ``wolfe``:
        steepest descent with a line search for the strong Wolfe conditions; ``cg``: nonlinear
        conjugate gradients; ``lbfgs``: L-BFGS. The last three are scipy's. Default:
        ``SGD(0.01)``.
    steps : int, default 1000
        At most this many.
    tol : float, optional
        Ends when no element of the gradient is larger. Default: the methods' own, and none for
        optimisers.
    callback : callable ``(step, x, fun)``, optional
        Called at every point, ``x0`` first; a true result ends the run.
    trajectory : bool, default False
        Whether to keep all points.

    Returns
    -------
    MinimizeResult

    Raises
    ------
    DivergenceError
        If the function gets infinite, NaN, or 1e10 times as large as at the start.
    TypeError, ValueError
        If an argument does not fit, or ``f`` is not finite at ``x0``.
    ImportError
        If a method needs scipy and it is missing.

    References
    ----------
    Nocedal and Wright, Numerical optimization, 2006.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> f = lambda x, center: np.sum((x - center) ** 2)
    >>> result = dl.minimize(f, np.zeros(2), (np.ones(2),), optimizer=dl.optim.SGD(0.1), steps=100)
    >>> result.x.round(6)
    array([1., 1.])
    >>> dl.minimize(f, np.zeros(2), (np.ones(2),), optimizer="armijo", tol=1e-8).converged
    True
    """
    if not isinstance(steps, int | np.integer) or steps < 0:
        raise ValueError(f"steps must be an integer >= 0, not {steps!r}")
    if tol is not None and not tol >= 0:
        raise ValueError(f"tol must be a number >= 0, not {tol!r}")
    if not isinstance(args, tuple):
        raise TypeError(f"args must be a tuple, not {args!r}; write args=(a,) for one")
    optimizer = SGD(0.01) if optimizer is None else optimizer
    recorder = _Recorder(callback, trajectory)
    if isinstance(optimizer, Optimizer):
        return _Descent(f, x0, args, optimizer, int(steps), tol, recorder).run()
    if optimizer not in _METHODS:
        raise ValueError(
            f"optimizer must be a dlcore.optim.Optimizer or one of {', '.join(_METHODS)}, "
            f"not {optimizer!r}"
        )
    problem = _Problem(f, x0, args)
    recorder.accept(problem.tree(problem.start), problem.value(problem.start))
    if recorder.stopped:
        return recorder.result(problem, problem.start, False, "the callback ended it")
    x, converged, message = _METHODS[optimizer](problem, int(steps), tol, recorder)
    return recorder.result(problem, x, converged, message)


def diverged(step: int, loss: float, history: np.ndarray, hint: str) -> DivergenceError:
    return DivergenceError(
        f"the function is {loss:g} after {step} steps, and was {history[0]:g} at x0: {hint}",
        step=step,
        loss=loss,
        history=history,
    )


# Optimisers: the whole run in native code


class _Descent:
    """Steps of an optimiser by a plan that holds function, gradient and update."""

    def __init__(
        self,
        f: Callable[..., Any],
        x0: Any,
        args: tuple[Any, ...],
        optimizer: Optimizer,
        steps: int,
        tol: float | None,
        recorder: _Recorder,
    ):
        self.f, self.args, self.optimizer = f, args, optimizer
        self.steps, self.tol, self.recorder = steps, tol, recorder
        leaves, self.structure = tree.flatten(x0)
        names = tree.paths(self.structure, "x0")
        self.x = {n: _floating(value, n) for n, value in zip(names, leaves, strict=True)}
        self.state = {
            f"{state}/{name}": np.array(
                np.broadcast_to(optimizer.initial_state(state, value), value.shape), value.dtype
            )
            for name, value in self.x.items()
            for state in optimizer.state_names
        }
        self.points = {
            name: np.empty((steps if recorder.keeps_points else 0, *value.shape), value.dtype)
            for name, value in self.x.items()
        }
        self.plan = self._compile()
        seed, counter = random.next_key()
        self.key = {"seed": seed, "counter": counter << 32}

    def _compile(self) -> CompiledPlan:
        parameters = {
            name: leaf(Slot(f"parameter/{name}", "fixed", value.dtype, value.shape, True))
            for name, value in self.x.items()
        }
        leaves, structure = tree.flatten((self.args, {}))
        names = argument_names(structure)
        self.arrays, inputs = {}, []
        for value, name in zip(leaves, names, strict=True):
            spec = spec_of(value, name)
            if isinstance(spec, ArraySpec):
                inputs.append(spec.node(slot := spec.slot(name)))
                self.arrays[name] = native_argument(value, slot.dtype)
            else:
                inputs.append(value)
        args, _ = tree.unflatten(structure, inputs)
        with random.tracing():
            x = tree.unflatten(self.structure, list(parameters.values()))
            value = scalar_result(self.f(x, *args))
        gradients = gradient(value, list(parameters.values()))
        largest: Tensor = literal(0.0, np.float64)
        for g in gradients:
            if 0 not in g.shape:
                steepest = reduce("max", apply("absolute", g))
                largest = apply("maximum", apply("cast", steepest, dtype=largest.dtype), largest)
        stores = [(_per_step("value", value), value), (_per_step("slope", largest), largest)]
        if self.recorder.keeps_points:
            stores += [(_per_step(f"point/{n}", node), node) for n, node in parameters.items()]
        self.dtype = value.dtype
        updates = self.optimizer.updates(parameters, gradients)
        return compile_plan(stores, updates, capacity=1)

    def run(self) -> MinimizeResult:
        self.values = np.empty(self.steps, self.dtype)
        self.slopes = np.empty(self.steps)
        self.scalars = self.optimizer.scalars(0, self.steps, 1)
        chunk = 1 if self.recorder.callback is not None else _CHUNK
        begin = 0
        while begin < self.steps:
            end = min(begin + chunk, self.steps)
            before = {k: v.copy() for k, v in (self.x | self.state).items()}
            self._advance(begin, end)
            self._check(end)
            ended = self._end_within(begin, end)
            if ended is not None:
                step, converged, message = ended
                for name, value in (self.x | self.state).items():
                    value[...] = before[name]
                self._advance(begin, step)
                return self._result(step, converged, message)
            begin = end
        return self._result(self.steps, False, f"{self.steps} steps were made")

    def _advance(self, begin: int, end: int) -> None:
        bindings = {
            **{f"parameter/{name}": value for name, value in self.x.items()},
            **{f"point/{name}": value for name, value in self.points.items()},
            **self.state,
            **self.arrays,
            "value": self.values,
            "slope": self.slopes,
            "scalars": self.scalars,
        }
        while begin < end:
            done, _ = self.plan.run(
                bindings, epoch_rows=1, batch_rows=1, step_begin=begin, step_end=end, **self.key
            )
            begin += done

    def _check(self, end: int, value: float | None = None) -> None:
        """Raises DivergenceError where one of the first values is not finite, or far too large."""
        values = self.values[:end] if value is None else np.append(self.values[:end], value)
        if len(values) == 0:
            return
        if not np.isfinite(values[0]):
            raise ValueError(f"the function is {values[0]:g} at x0; expected a finite number")
        limit = _BLOW_UP * max(1.0, abs(float(values[0])))
        wrong = ~(np.abs(values) <= limit)
        if np.any(wrong):
            step = int(np.argmax(wrong))
            rate = self.optimizer.learning_rate
            hint = (
                f"try a smaller learning rate than {rate!r}, clip_global_norm, or a line search "
                "(optimizer='armijo')"
            )
            raise diverged(step, float(values[step]), values[: step + 1].copy(), hint)

    def _end_within(self, begin: int, end: int) -> tuple[int, bool, str] | None:
        """The first step of these that is not to be made, whether it has converged, and why."""
        if self.tol is not None:
            flat = np.flatnonzero(self.slopes[begin:end] <= self.tol)
            if len(flat):
                step = begin + int(flat[0])
                self._show(begin, step + 1)
                return step, True, f"no element of the gradient is larger than tol = {self.tol:g}"
        stopped = self._show(begin, end)
        return None if stopped is None else (stopped, False, "the callback ended it")

    def _show(self, begin: int, end: int) -> int | None:
        """Shows points to the callback; the step at which it wants to end."""
        if self.recorder.callback is None:
            return None
        for step in range(begin, end):
            x = self._tree({name: points[step] for name, points in self.points.items()})
            if self.recorder.callback(step, x, float(self.values[step])):
                return step
        return None

    def _tree(self, leaves: dict[str, np.ndarray]) -> Any:
        return tree.unflatten(self.structure, [value[()].copy() for value in leaves.values()])

    def _result(self, step: int, converged: bool, message: str) -> MinimizeResult:
        x = self._tree(self.x)
        fun = float(jit(self.f)(x, *self.args))
        self._check(step, fun)
        history = np.append(self.values[:step], fun)
        points = None
        if self.recorder.trajectory:
            points = tree.unflatten(
                self.structure,
                [
                    np.concatenate([points[:step], self.x[name][np.newaxis]])
                    for name, points in self.points.items()
                ],
            )
        if self.recorder.callback is not None and step == self.steps:
            self.recorder.callback(step, x, fun)
        return MinimizeResult(x, fun, history, step, converged, message, points)


def _floating(value: Any, name: str) -> np.ndarray:
    """A copy of a starting point's array."""
    spec = spec_of(value, name)
    if not isinstance(spec, ArraySpec) or spec.dtype.kind != "f":
        raise TypeError(f"{name} is {value!r}; expected floating point: write 2.0 for 2")
    return np.array(value, spec.dtype, order="C")


def _per_step(name: str, node: Tensor) -> Slot:
    return Slot(name, "step", node.storage, node.shape, True)


# Methods that decide on their steps in Python, over one vector of float64


class _Problem:
    """The function and its gradient for a vector that holds all of ``x``."""

    def __init__(self, f: Callable[..., Any], x0: Any, args: tuple[Any, ...]):
        leaves, self.structure = tree.flatten(x0)
        names = tree.paths(self.structure, "x0")
        self.like = [_floating(value, n) for n, value in zip(names, leaves, strict=True)]
        self.start = self.vector(self.like)
        self.function: Function = value_and_grad(f)
        self.args = args
        self._last: tuple[np.ndarray, float, np.ndarray] | None = None
        if not np.isfinite(self.value(self.start)):
            raise ValueError(
                f"the function is {self.value(self.start):g} at x0; expected a finite number"
            )

    def vector(self, leaves: Sequence[np.ndarray]) -> np.ndarray:
        flat = [np.ravel(value).astype(np.float64) for value in leaves]
        return np.concatenate(flat) if flat else np.empty(0)

    def tree(self, x: np.ndarray) -> Any:
        parts = np.split(x, np.cumsum([value.size for value in self.like])[:-1])
        leaves = [
            part.reshape(like.shape).astype(like.dtype)[()]
            for part, like in zip(parts, self.like, strict=True)
        ]
        return tree.unflatten(self.structure, leaves)

    def value_and_gradient(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        if self._last is None or not np.array_equal(self._last[0], x):
            value, slope = self.function(self.tree(x), *self.args)
            leaves, _ = tree.flatten(slope)
            self._last = (x.copy(), float(value), self.vector([np.asarray(g) for g in leaves]))
        return self._last[1], self._last[2]

    def value(self, x: np.ndarray) -> float:
        return self.value_and_gradient(x)[0]

    def gradient(self, x: np.ndarray) -> np.ndarray:
        return self.value_and_gradient(x)[1]


@dataclass
class _Recorder:
    """Values and points as they are accepted."""

    callback: Callback | None
    trajectory: bool
    values: list[float] = field(default_factory=list)
    points: list[Any] = field(default_factory=list)
    stopped: bool = False

    @property
    def keeps_points(self) -> bool:
        return self.trajectory or self.callback is not None

    def accept(self, x: Any, value: float) -> None:
        self.values.append(value)
        limit = _BLOW_UP * max(1.0, abs(self.values[0]))
        if not abs(value) <= limit:
            step = len(self.values) - 1
            raise diverged(step, value, np.array(self.values), "look for where it has no minimum")
        if self.trajectory:
            self.points.append(x)
        if self.callback is not None and self.callback(len(self.values) - 1, x, value):
            self.stopped = True

    def result(
        self, problem: _Problem, x: np.ndarray, converged: bool, message: str
    ) -> MinimizeResult:
        points = None
        if self.trajectory:
            flat = [tree.flatten(point)[0] for point in self.points]
            points = tree.unflatten(
                problem.structure, [np.stack(p) for p in zip(*flat, strict=True)]
            )
        return MinimizeResult(
            problem.tree(x), self.values[-1], np.array(self.values), len(self.values) - 1,
            converged, message, points,
        )  # fmt: skip


_Outcome = tuple[np.ndarray, bool, str]
_STOPPED = "the callback ended it"


def _steepest_descent(
    problem: _Problem,
    steps: int,
    tol: float | None,
    recorder: _Recorder,
    search: Callable[[_Problem, np.ndarray, np.ndarray], float | None],
) -> _Outcome:
    tol = 1e-6 if tol is None else tol
    x = problem.start
    for _ in range(steps):
        value, slope = problem.value_and_gradient(x)
        if np.max(np.abs(slope), initial=0.0) <= tol:
            return x, True, f"no element of the gradient is larger than tol = {tol:g}"
        length = search(problem, x, -slope)
        if length is None:
            return x, False, "the line search found no lower point"
        x = x - length * slope
        recorder.accept(problem.tree(x), problem.value(x))
        if recorder.stopped:
            return x, False, _STOPPED
    converged = bool(np.max(np.abs(problem.gradient(x)), initial=0.0) <= tol)
    return x, converged, f"{steps} steps were made"


class _Backtracking:
    """Armijo's rule: the step is halved until the function falls by a share of what the slope says.

    It begins with twice the step that was accepted last.
    """

    SHARE = 1e-4
    MOST_HALVINGS = 60

    def __init__(self) -> None:
        self.length = 0.5

    def __call__(self, problem: _Problem, x: np.ndarray, direction: np.ndarray) -> float | None:
        value, slope = problem.value_and_gradient(x)
        decrease = self.SHARE * float(slope @ direction)
        length = 2.0 * self.length
        for _ in range(self.MOST_HALVINGS):
            if problem.value(x + length * direction) <= value + length * decrease:
                self.length = length
                return length
            length /= 2.0
        return None


def _armijo(problem: _Problem, steps: int, tol: float | None, recorder: _Recorder) -> _Outcome:
    return _steepest_descent(problem, steps, tol, recorder, _Backtracking())


def _wolfe(problem: _Problem, steps: int, tol: float | None, recorder: _Recorder) -> _Outcome:
    optimize = _scipy_optimize("wolfe")

    def search(problem: _Problem, x: np.ndarray, direction: np.ndarray) -> float | None:
        # scipy warns where it finds no point; so does the message of the result
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return optimize.line_search(problem.value, problem.gradient, x, direction)[0]

    return _steepest_descent(problem, steps, tol, recorder, search)


def _by_scipy(method: str, name: str) -> Callable[..., _Outcome]:
    def run(problem: _Problem, steps: int, tol: float | None, recorder: _Recorder) -> _Outcome:
        optimize = _scipy_optimize(name)
        options: dict[str, float] = {"maxiter": steps}
        if tol is not None:
            options["gtol"] = tol
            if method == "L-BFGS-B":
                options["ftol"] = 0.0  # nothing but the gradient ends it

        def seen(intermediate_result: Any) -> None:
            recorder.accept(problem.tree(intermediate_result.x), float(intermediate_result.fun))
            if recorder.stopped:
                raise StopIteration

        if steps == 0:
            return problem.start, False, "0 steps were made"
        found = optimize.minimize(
            problem.value_and_gradient, problem.start, jac=True, method=method, options=options,
            callback=seen,
        )  # fmt: skip
        message = _STOPPED if recorder.stopped else str(found.message)
        return found.x, bool(found.success) and not recorder.stopped, message

    return run


def _scipy_optimize(method: str) -> Any:
    try:
        return importlib.import_module("scipy.optimize")
    except ImportError as error:
        raise ImportError(
            f"optimizer={method!r} needs scipy: pip install 'dlcore[sklearn]'"
        ) from error


_METHODS: dict[str, Callable[..., _Outcome]] = {
    "armijo": _armijo,
    "wolfe": _wolfe,
    "cg": _by_scipy("CG", "cg"),
    "lbfgs": _by_scipy("L-BFGS-B", "lbfgs"),
}
