"""Gradients against finite differences."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dlcore import random
from dlcore.graph import tree
from dlcore.graph.function import is_array, refuse_traced
from dlcore.transforms import jit, value_and_grad

# The error of extrapolated differences falls with h**4 and their rounding grows with 1 / h: the
# best step is about the fifth root of the precision.
_STEP = float(np.finfo(np.float64).eps) ** 0.2
# Derivatives this much smaller than the largest of their array are compared with that.
_FLOOR = 1e-3


# How often a step may be a tenth of what it was.
_SHORTEST = 12


class GradientError(float):
    """The worst relative error of a gradient, and where it is.

    Attributes
    ----------
    entry : str
        The argument and index, as Python would reach it: ``w[3, 1]``.
    gradient, difference : float
        The entry of the gradient, and what finite differences give.
    """

    entry: str
    gradient: float
    difference: float

    def __new__(cls, error: float, entry: str, gradient: float, difference: float) -> GradientError:
        self = super().__new__(cls, error)
        self.entry, self.gradient, self.difference = entry, gradient, difference
        return self

    def __getnewargs__(self) -> tuple[float, str, float, float]:  # type: ignore[override]
        return float(self), self.entry, self.gradient, self.difference

    def __repr__(self) -> str:
        return (
            f"GradientError({float(self):.3g} at {self.entry}: "
            f"gradient {self.gradient:.9g}, difference {self.difference:.9g})"
        )


def check_grad(
    f: Callable[..., Any],
    *args: Any,
    argnums: int | Sequence[int] | None = None,
    max_entries: int | None = None,
    seed: int = 0,
) -> GradientError:
    """The worst relative error of the gradient of ``f`` against finite differences.

    Parameters
    ----------
    f : callable
        Written in NumPy; returns a scalar.
    *args
        Where to check: what ``f`` takes.
    argnums : int or sequence of int, optional
        Which arguments to check; by default all that hold floating point.
    max_entries : int, optional
        Check this many entries of every array, chosen at random; by default all of them, at
        four evaluations of ``f`` each.
    seed : int, default 0
        Decides on those.

    Returns
    -------
    GradientError
        A float: the largest ``|gradient - difference| / scale``, where the scale is the larger of
        the two, but at least 1e-3 of the largest derivative in the same array. Infinite where one
        of them is NaN. Its attributes and its repr tell which entry that is.

    Raises
    ------
    TypeError, ValueError
        As :func:`dlcore.value_and_grad`; ValueError if there is no floating point to check.

    Notes
    -----
    Differences are central, computed in float64 whatever the dtype of the arguments, and
    extrapolated from two steps after Richardson, which are shorter where ``f`` is not finite.
    Random functions of ``dl.random`` draw the same numbers in all evaluations.

    References
    ----------
    Richardson, The approximate arithmetical solution by finite differences of physical problems,
    1911.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> error = dl.check_grad(lambda w, x: np.sum(np.tanh(x @ w)), np.ones(3), np.eye(3))
    >>> error < 1e-9
    True
    """
    refuse_traced("check_grad", args)
    positions = _positions(args, argnums)
    names = _names(f, len(args))
    with random.outside_trace(), random.fixed_key():
        _, gradients = value_and_grad(f, argnums=positions)(*args)
        evaluate = jit(f)
        wide = [_in_float64(arg) for arg in args]
        worst = GradientError(-1.0, "", 0.0, 0.0)
        rng = np.random.default_rng(seed)
        for position, gradient in zip(positions, gradients, strict=True):
            leaves, structure = tree.flatten(wide[position])
            derivatives, _ = tree.flatten(gradient)
            paths = tree.paths(structure, names[position])

            for i, (derivative, path) in enumerate(zip(derivatives, paths, strict=True)):

                def at(moved: np.ndarray, i: int = i, leaves: list[Any] = leaves,
                       structure: Any = structure, position: int = position) -> float:  # fmt: skip
                    changed = [*leaves[:i], moved, *leaves[i + 1 :]]
                    point = list(wide)
                    point[position] = tree.unflatten(structure, changed)
                    return float(evaluate(*point))

                chosen = _chosen(np.shape(leaves[i]), max_entries, rng)
                found = _worst(at, np.asarray(leaves[i]), np.asarray(derivative), chosen, path)
                worst = max(worst, found)
    if worst < 0:
        raise ValueError("check_grad: there is nothing to check, as the arrays are empty")
    return worst


def _positions(args: tuple[Any, ...], argnums: int | Sequence[int] | None) -> tuple[int, ...]:
    if argnums is not None:
        return (argnums,) if isinstance(argnums, int) else tuple(argnums)
    found = tuple(i for i, arg in enumerate(args) if _is_floating(arg))
    if not found:
        raise ValueError("check_grad: no argument holds floating point")
    return found


def _is_floating(arg: Any) -> bool:
    leaves, _ = tree.flatten(arg)
    return any(is_array(leaf) and np.asarray(leaf).dtype.kind == "f" for leaf in leaves)


def _names(f: Callable[..., Any], n: int) -> list[str]:
    """The parameters' names where they can be told, else numbers."""
    try:
        parameters = list(inspect.signature(f).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return [names[i] if i < len(names) else f"args[{i}]" for i in range(n)]


def _in_float64(arg: Any) -> Any:
    def widened(leaf: Any) -> Any:
        floating = isinstance(leaf, np.ndarray | np.generic) and leaf.dtype.kind == "f"
        return np.array(leaf, np.float64) if floating else leaf

    return tree.transform(widened, arg)


def _chosen(
    shape: tuple[int, ...], limit: int | None, rng: np.random.Generator
) -> list[tuple[int, ...]]:
    indices = list(np.ndindex(*shape))
    if limit is None or limit >= len(indices):
        return indices
    return [indices[i] for i in rng.choice(len(indices), limit, replace=False)]


def _worst(
    f: Callable[[np.ndarray], float],
    x: np.ndarray,
    gradient: np.ndarray,
    indices: Sequence[tuple[int, ...]],
    name: str,
) -> GradientError:
    """The worst of the entries; below 0 if there are none."""
    differences = [_difference(f, x, index) for index in indices]
    largest = max((abs(d) for d in differences if np.isfinite(d)), default=0.0)
    worst = GradientError(-1.0, name, 0.0, 0.0)
    for index, difference in zip(indices, differences, strict=True):
        got = float(gradient[index])
        scale = max(abs(got), abs(difference), _FLOOR * largest, np.finfo(np.float64).tiny)
        error = abs(got - difference) / scale
        entry = name + (f"[{', '.join(map(str, index))}]" if index else "")
        error = np.inf if np.isnan(error) else error
        worst = max(worst, GradientError(error, entry, got, difference))
    return worst


def _difference(f: Callable[[np.ndarray], float], x: np.ndarray, index: tuple[int, ...]) -> float:
    """The derivative for one element; the step is shorter where it would leave f's domain."""

    def central(step: float) -> float:
        high, low = x.copy(), x.copy()
        high[index] += step
        low[index] -= step
        return (f(high) - f(low)) / float(high[index] - low[index])

    def extrapolated(step: float) -> float:
        return (4.0 * central(step / 2) - central(step)) / 3.0

    h = _STEP * max(1.0, abs(float(x[index])))
    found = extrapolated(h)
    if np.isfinite(found):
        return found
    for _ in range(_SHORTEST):
        h /= 10.0
        if np.isfinite(extrapolated(h)):
            return extrapolated(h / 30.0)  # away from where the domain ends
    return found
