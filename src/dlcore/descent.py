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
    check_bound,
    log_trace,
    native_argument,
    refuse_traced,
    spec_of,
)
from dlcore.graph.gradient import gradient
from dlcore.graph.lower import CompiledPlan, compile_plan
from dlcore.graph.purity import no_numpy_random
from dlcore.graph.table.shaping import reduce
from dlcore.graph.tensor import Slot, Tensor, apply, leaf, literal
from dlcore.optim import SGD, Optimizer
from dlcore.transforms import scalar_result, value_and_grad

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
    if not isinstance(optimizer, Optimizer) and optimizer not in _METHODS:
        raise ValueError(
            f"optimizer must be a dlcore.optim.Optimizer or one of {', '.join(_METHODS)}, "
            f"not {optimizer!r}"
        )
    refuse_traced("minimize", x0, args)
    recorder = _Recorder(callback, trajectory)
    with random.outside_trace():
        if isinstance(optimizer, Optimizer):
            return _Descent(f, x0, args, optimizer, int(steps), tol, recorder).run()
        return _by_method(optimizer, f, x0, args, int(steps), tol, recorder)


def _by_method(
    method: Method,
    f: Callable[..., Any],
    x0: Any,
    args: tuple[Any, ...],
    steps: int,
    tol: float | None,
    recorder: _Recorder,
) -> MinimizeResult:
    problem = _Problem(f, x0, args)
    recorder.accept(problem, problem.start)
    if recorder.stopped:
        return recorder.result(problem, problem.start, False, _STOPPED)
    x, converged, message = _METHODS[method](problem, steps, tol, recorder)
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
        self.optimizer, self.steps, self.tol = optimizer, steps, tol
        self.callback, self.keeps_points = recorder.callback, recorder.trajectory
        self.structure, self.x = _start(x0)
        self.state = {
            f"{state}/{name}": np.array(
                np.broadcast_to(optimizer.initial_state(state, value), value.shape), value.dtype
            )
            for name, value in self.x.items()
            for state in optimizer.state_names
        }
        self.plan = self._compile(f, args)
        seed, counter = random.next_key()
        self.key, self.counter = seed, counter << 32
        self.values, self.slopes = np.empty(steps, self.dtype), np.empty(steps)
        self.points = self._room_for_points(steps)

    def _compile(self, f: Callable[..., Any], args: tuple[Any, ...]) -> CompiledPlan:
        parameters = {
            name: leaf(Slot(f"parameter/{name}", "fixed", value.dtype, value.shape, True))
            for name, value in self.x.items()
        }
        leaves, structure = tree.flatten((args, {}))
        names = argument_names(structure)
        specs = list(map(spec_of, leaves, names))
        log_trace(f"minimize of {f!r}", names, specs)
        slots = {
            name: spec.slot(name)
            for spec, name in zip(specs, names, strict=True)
            if isinstance(spec, ArraySpec)
        }
        self.arrays = {
            name: native_argument(value, slots[name].dtype)
            for value, name in zip(leaves, names, strict=True)
            if name in slots
        }
        inputs = [
            spec.node(slots[name]) if isinstance(spec, ArraySpec) else spec.value
            for spec, name in zip(specs, names, strict=True)
        ]
        with no_numpy_random(f, leaves), random.tracing():
            x = tree.unflatten(self.structure, list(parameters.values()))
            value = scalar_result(f(x, *tree.unflatten(structure, inputs)[0]))
        gradients = gradient(value, list(parameters.values()))
        stores = [
            (_per_step("value", value), value),
            (_per_step("slope", largest := _largest(gradients)), largest),
        ]
        if self.keeps_points:
            stores += [(_per_step(f"point/{n}", node), node) for n, node in parameters.items()]
        self.dtype = value.dtype
        updates = self.optimizer.updates(parameters, gradients)
        plan = compile_plan(stores, updates, capacity=1)
        own = [slot for slot in plan.slots if slot.writable or slot.kind == "step"]
        check_bound(plan.slots, [*slots.values(), *own])
        return plan

    def _room_for_points(self, steps: int) -> dict[str, np.ndarray]:
        if not self.keeps_points:
            return {}
        return {name: np.empty((steps, *x.shape), x.dtype) for name, x in self.x.items()}

    def run(self) -> MinimizeResult:
        chunk = 1 if self.callback is not None else _CHUNK
        begin = 0
        while begin < self.steps:
            end = min(begin + chunk, self.steps)
            before = {k: v.copy() for k, v in (self.x | self.state).items()}
            self._advance(begin, end)
            self._check(self.values[:end], self.slopes[:end])
            ended = self._end_within(begin, end, before)
            if ended is not None:
                step, message = ended
                for name, value in (self.x | self.state).items():
                    value[...] = before[name]
                self._advance(begin, step)
                return self._result(step, message)
            begin = end
        return self._result(self.steps, f"{self.steps} steps were made")

    def _advance(self, begin: int, end: int) -> None:
        """Makes steps, and records the value and slope before each."""
        arrays = {**self.x, **self.state}
        records = {"value": self.values, "slope": self.slopes}
        records |= {f"point/{name}": points for name, points in self.points.items()}
        self._run(arrays, {name: array[begin:] for name, array in records.items()}, begin, end)

    def _look(self, step: int) -> tuple[float, float]:
        """The value and slope where the run stands; it stays there."""
        arrays = {name: array.copy() for name, array in (self.x | self.state).items()}
        records = {"value": np.empty(1, self.dtype), "slope": np.empty(1)}
        records |= {f"point/{name}": room for name, room in self._room_for_points(1).items()}
        self._run(arrays, records, step, step + 1)
        return float(records["value"][0]), float(records["slope"][0])

    def _run(
        self, arrays: dict[str, np.ndarray], records: dict[str, np.ndarray], begin: int, end: int
    ) -> None:
        bindings = {
            **{f"parameter/{name}": arrays[name] for name in self.x},
            **{name: arrays[name] for name in self.state},
            **self.arrays,
            **records,
            "scalars": self.optimizer.scalars(begin, end - begin, 1),
        }
        done = 0
        while done < end - begin:
            ran, _ = self.plan.run(
                bindings,
                epoch_rows=1,
                batch_rows=1,
                step_begin=done,
                step_end=end - begin,
                seed=self.key,
                counter=self.counter + begin,
            )
            done += ran

    def _check(self, values: np.ndarray, slopes: np.ndarray) -> None:
        """Raises DivergenceError at the first point that has got away from every minimum."""
        limit = _BLOW_UP * max(1.0, abs(float(values[0])))
        wrong = ~((np.abs(values) <= limit) & np.isfinite(slopes))
        if not np.any(wrong):
            return
        step = int(np.argmax(wrong))
        value = float(values[step])
        _check_start(float(values[0]), float(slopes[0]))
        if abs(value) <= limit:
            raise diverged(step, value, values[: step + 1].copy(), _NO_SLOPE)
        hint = (
            f"try a smaller learning rate than {self.optimizer.learning_rate!r}, "
            "clip_global_norm, or a line search (optimizer='armijo')"
        )
        raise diverged(step, value, values[: step + 1].copy(), hint)

    def _end_within(
        self, begin: int, end: int, before: dict[str, np.ndarray]
    ) -> tuple[int, str] | None:
        """The first step of these that is not to be made, and why."""
        flat = np.flatnonzero(self.slopes[begin:end] <= (-1.0 if self.tol is None else self.tol))
        if self.callback is not None:  # begin is the only step
            x = self._tree({name: before[name] for name in self.x})
            if self.callback(begin, x, float(self.values[begin])):
                return begin, _STOPPED
        return (begin + int(flat[0]), _FLAT) if len(flat) else None

    def _tree(self, leaves: dict[str, np.ndarray]) -> Any:
        return tree.unflatten(self.structure, [value[()].copy() for value in leaves.values()])

    def _result(self, step: int, message: str) -> MinimizeResult:
        fun, slope = self._look(step)
        history = np.append(self.values[:step], fun)
        self._check(history, np.append(self.slopes[:step], slope))
        converged = self.tol is not None and slope <= self.tol and message != _STOPPED
        x = self._tree(self.x)
        if self.callback is not None and message != _STOPPED and step == self.steps:
            self.callback(step, x, fun)
        points = None
        if self.keeps_points:
            whole = [
                np.concatenate([points[:step], self.x[name][np.newaxis]])
                for name, points in self.points.items()
            ]
            points = tree.unflatten(self.structure, whole)
        return MinimizeResult(
            x, fun, history, step, converged, _FLAT if converged else message, points
        )


_STOPPED = "the callback ended it"
_FLAT = "no element of the gradient is larger than tol"
_NO_SLOPE = (
    "its gradient is not finite: look for where the derivative of a part is infinite or not "
    "defined, as that of a root at 0"
)


def _largest(gradients: Sequence[Tensor]) -> Tensor:
    """The largest element of all, by magnitude; NaN where there is one."""
    result: Tensor = literal(0.0, np.float64)
    for g in gradients:
        if 0 not in g.shape:
            steepest = reduce("max", apply("absolute", g))
            result = apply("maximum", apply("cast", steepest, dtype=result.dtype), result)
    return result


def _check_start(value: float, slope: float) -> None:
    for what, number in (("function", value), ("gradient of the function", slope)):
        if not np.isfinite(number):
            raise ValueError(f"the {what} is {number:g} at x0; expected finite numbers")


def _start(x0: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """The structure of a starting point, and copies of its arrays by name."""
    leaves, structure = tree.flatten(x0)
    if not leaves:
        raise ValueError("x0 holds no arrays")
    names = tree.paths(structure, "x0")
    return structure, {n: _floating(value, n) for n, value in zip(names, leaves, strict=True)}


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
        self.structure, start = _start(x0)
        self.like = list(start.values())
        self.start = self.vector(self.like)
        self.function: Function = value_and_grad(f)
        self.args = args
        self._last: tuple[np.ndarray, float, np.ndarray] | None = None
        value, slope = self.value_and_gradient(self.start)
        _check_start(value, float(np.max(np.abs(slope), initial=0.0)))

    def vector(self, leaves: Sequence[np.ndarray]) -> np.ndarray:
        flat = [np.ravel(value).astype(np.float64) for value in leaves]
        return np.concatenate(flat)

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

    def accept(self, problem: _Problem, at: np.ndarray) -> None:
        """Records a point, and shows it to the callback."""
        value, slope = problem.value_and_gradient(at)
        x = problem.tree(at)
        self.values.append(value)
        limit = _BLOW_UP * max(1.0, abs(self.values[0]))
        if not (abs(value) <= limit and np.all(np.isfinite(slope))):
            hint = _NO_SLOPE if abs(value) <= limit else "look for where it has no minimum"
            raise diverged(len(self.values) - 1, value, np.array(self.values), hint)
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
            return x, True, _FLAT
        length = search(problem, x, -slope)
        if length is None:
            return x, False, "the line search found no lower point"
        x = x - length * slope
        recorder.accept(problem, x)
        if recorder.stopped:
            return x, False, _STOPPED
    converged = bool(np.max(np.abs(problem.gradient(x)), initial=0.0) <= tol)
    return x, converged, _FLAT if converged else f"{steps} steps were made"


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
            recorder.accept(problem, intermediate_result.x)
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
