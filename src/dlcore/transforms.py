"""Functions written in NumPy, compiled and differentiated.

A function is traced: it is called once with graph nodes in place of its arguments, and from what it
does with them follow its plan and those of its derivatives. The rules:

- Arguments are arrays, floats, and nested dicts, lists and tuples of them; what else is passed (an
  int, a string, a bool) is a part of the plan, and another value makes another plan.
- What changes between calls belongs in the arguments. Arrays that the function captures are read
  at every call, where they lie. Captured numbers, and what NumPy computes of captured arrays alone,
  are those of the first call, as is the array that a captured name stands for.
- Dtypes follow NumPy 2; floats that are passed are as weak as those that are written. Integers are
  computed in float64: those of up to 32 bits wrap around as in NumPy where what an operation gives
  is below 2**53 before it is wrapped, those of 64 bits are exact up to 2**53. Integers may have
  constant powers only: one that is negative is an error in NumPy.
- Control flow may depend on shapes and on arguments that are no arrays, not on values of arrays.
- Random numbers come from :mod:`dlcore.random`.

Derivatives where there are none, or several:

- Of a maximum or minimum of two equal arguments the first has the derivative, and of ``np.clip`` at
  its bounds the array; equal elements of a ``np.max`` share it evenly.
- The derivatives of abs and relu at 0 are 0; relu is what ``np.maximum(x, 0)`` is, in either order,
  and ``np.clip`` with a lower bound of 0.
- The derivatives of floor, rint, sign and their kin are 0, and so are that of ``x**0`` for x and
  that of ``0**y`` for y.
- Where a derivative is infinite it is inf, as that of sqrt at 0; times 0 that is NaN, as in
  ``np.linalg.norm`` of zeros, and elsewhere in its column of a Jacobian, or in its row if that is
  computed by columns.
- ``np.where`` gives the branch that is not taken the derivative 0: where the derivative of that
  branch is inf or NaN itself, make its argument harmless first, as in
  ``np.where(x > 0, np.sqrt(np.where(x > 0, x, 1)), 0)``.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from dlcore.graph import tree
from dlcore.graph.arguments import Inputs
from dlcore.graph.function import Function, is_array
from dlcore.graph.gradient import gradient
from dlcore.graph.interface import call
from dlcore.graph.shape import describe
from dlcore.graph.table.shaping import reduce
from dlcore.graph.tensor import Tensor, apply, as_tensor
from dlcore.jacobians import Jacobian

Argnums = int | Sequence[int]


def jit(f: Callable[..., Any]) -> Function:
    """The function as a native plan, made at the first call with new shapes and dtypes.

    Parameters
    ----------
    f : callable
        Written in NumPy; see :mod:`dlcore.transforms` for what it may do.

    Returns
    -------
    Function
        Takes what ``f`` takes and returns what ``f`` returns. Its ``plan_summary()`` shows the
        plan that ran last.

    Notes
    -----
    Arguments in C order are read where they lie, and so are those in Fortran order from 32 KiB on,
    by a plan of their own; the last bits of a sum may be others then. Other arrays are copied.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> dl.jit(lambda x: np.tanh(x) ** 2)(np.zeros(3))
    array([0., 0., 0.])
    """
    return Function(f, f, "jit")


def value_and_grad(f: Callable[..., Any], argnums: Argnums = 0) -> Function:
    """A function that returns the value of ``f`` and its gradient.

    Parameters
    ----------
    f : callable
        Written in NumPy; returns a scalar.
    argnums : int or sequence of int, default 0
        Which positional arguments to differentiate for: arrays of floating point, floats, or nested
        dicts, lists and tuples of them.

    Returns
    -------
    Function
        ``(value, gradient)`` for the arguments of ``f``. The gradient has the structure, shapes and
        dtypes of the argument; it is a tuple of such for a sequence of ``argnums``.

    Raises
    ------
    ValueError
        When called: if ``f`` does not return a scalar, or ``argnums`` is out of range.
    TypeError
        When called: if an argument to differentiate for is not floating point, or ``f`` does what
        cannot be traced.

    References
    ----------
    Baydin, Pearlmutter, Radul, Siskind, Automatic differentiation in machine learning: a survey,
    2018.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> value, gradient = dl.value_and_grad(lambda w, x: np.sum(w * x**2))(2.0, np.ones(3))
    >>> float(value), float(gradient)
    (6.0, 3.0)
    """
    argnums = _checked_argnums(argnums)

    def transformed(*args: Any, **kwargs: Any) -> tuple[Any, Any]:
        return _value_and_gradient(f, argnums, args, kwargs)

    return Function(transformed, f, "value_and_grad", argnums)


def grad(f: Callable[..., Any], argnums: Argnums = 0) -> Function:
    """A function that returns the gradient of ``f``; see :func:`value_and_grad`.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> dl.grad(lambda x: np.sum(x**3))(np.array([1.0, 2.0]))
    array([ 3., 12.])
    >>> float(dl.grad(dl.grad(np.sin))(0.5) + np.sin(0.5))
    0.0
    """
    argnums = _checked_argnums(argnums)

    def transformed(*args: Any, **kwargs: Any) -> Any:
        return _value_and_gradient(f, argnums, args, kwargs)[1]

    return Function(transformed, f, "grad", argnums)


def _checked_argnums(argnums: Argnums) -> int | tuple[int, ...]:
    if type(argnums) is int:
        return argnums
    if isinstance(argnums, Iterable) and all(type(i) is int for i in argnums):
        return tuple(argnums)
    raise TypeError(f"argnums must be an int or a sequence of ints, not {argnums!r}")


def _value_and_gradient(
    f: Callable[..., Any],
    argnums: int | tuple[int, ...],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> tuple[Tensor, Any]:
    inputs = Inputs(argnums, args)
    value = scalar_result(f(*inputs.args, **kwargs))
    return value, inputs.like(gradient(value, inputs.nodes))


def scalar_result(value: Any) -> Tensor:
    """What a function returned, where that has to be a scalar to differentiate."""
    if isinstance(value, tuple | list | dict) or value is None:
        raise TypeError(
            f"the function returned a {type(value).__name__}; expected one scalar: what else it "
            "computes is to be had from dl.jit"
        )
    node = as_tensor(value)
    if node.shape != ():
        raise ValueError(
            f"the function returned shape {describe(node.shape)}; a gradient is that of a scalar: "
            "end with np.sum or np.mean, or use dl.jacobian"
        )
    if node.dtype.kind != "f":
        raise TypeError(f"the function returned {node.dtype}, which has no gradient")
    return node


def jacobian(f: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """A function that returns the Jacobian of ``f``.

    Parameters
    ----------
    f : callable
        Written in NumPy; returns one array.
    argnums : int or sequence of int, default 0
        As in :func:`value_and_grad`.

    Returns
    -------
    callable
        For a result of shape (a, ...) and an argument of shape (b, ...) it gives an array of shape
        (a, ..., b, ...); for nested arguments, such arrays in their structure. The cost is that of
        a gradient for each element of the result or of the arguments, whichever are fewer (with
        :func:`custom_gradient` always of the result), of which many are computed at once.

    Raises
    ------
    TypeError, ValueError
        As :func:`value_and_grad`.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> dl.jacobian(lambda x: x**2)(np.array([1.0, 2.0]))
    array([[2., 0.],
           [0., 4.]])
    """
    return Jacobian(f, _checked_argnums(argnums))


def hessian(f: Callable[..., Any], argnums: int = 0) -> Callable[..., Any]:
    """A function that returns the Hessian of a scalar function, for one argument that is an array.

    Parameters
    ----------
    f : callable
        Written in NumPy; returns a scalar.
    argnums : int, default 0

    Returns
    -------
    callable
        For an argument of shape (a, ...) it gives an array of shape (a, ..., a, ...), at the cost
        of a Hessian-vector product for each of its elements, of which many are computed at once.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> dl.hessian(lambda x: x[0] ** 2 * x[1])(np.array([1.0, 2.0]))
    array([[4., 2.],
           [2., 0.]])
    """
    if not isinstance(argnums, int):
        raise TypeError(f"argnums must be an int, not {argnums!r}")
    return jacobian(grad(f, argnums), argnums)


def hvp(f: Callable[..., Any], argnums: int = 0) -> Function:
    """A function that returns the product of the Hessian of ``f`` with a vector.

    Parameters
    ----------
    f : callable
        Written in NumPy; returns a scalar.
    argnums : int, default 0
        The argument to differentiate for.

    Returns
    -------
    Function
        Takes the arguments of ``f`` and then the vector, in the structure and shapes of the
        argument, and returns the product in the same; the Hessian itself is never formed.

    References
    ----------
    Pearlmutter, Fast exact multiplication by the Hessian, 1994.

    Examples
    --------
    >>> import numpy as np
    >>> import dlcore as dl
    >>> x, v = np.array([1.0, 2.0]), np.array([1.0, 0.0])
    >>> dl.hvp(lambda x: x[0] ** 2 * x[1])(x, v)
    array([4., 2.])
    """
    if not isinstance(argnums, int):
        raise TypeError(f"argnums must be an int, not {argnums!r}")

    def transformed(*args: Any, **kwargs: Any) -> Any:
        if len(args) < 2:
            raise TypeError("hvp: expected the arguments of the function and then the vector")
        *args_of_f, vector = args
        inputs = Inputs(argnums, tuple(args_of_f))
        first = gradient(scalar_result(f(*inputs.args, **kwargs)), inputs.nodes)
        along = _like_inputs(vector, inputs)
        total = as_tensor(0.0)
        for g, v in zip(first, along, strict=True):
            total = total + reduce("sum", g * apply("stop_gradient", v))
        return inputs.like(gradient(total, inputs.nodes))

    return Function(transformed, f, "hvp", argnums)


def _like_inputs(vector: Any, inputs: Inputs) -> list[Tensor]:
    try:
        leaves = tree.leaves_like(inputs.structures[0], vector)
    except ValueError as error:
        raise ValueError(f"hvp: the vector is not like the argument: {error}") from None
    nodes = [as_tensor(leaf) for leaf in leaves]
    for node, wanted in zip(nodes, inputs.nodes, strict=True):
        if node.shape != wanted.shape:
            raise ValueError(
                f"hvp: the vector has shape {describe(node.shape)}, "
                f"but the argument has {describe(wanted.shape)}"
            )
    return nodes


def stop_gradient(x: Any) -> Any:
    """``x`` itself, as a constant to derivatives.

    Parameters
    ----------
    x : array_like
        In a traced function a part of it; elsewhere it is returned as it is.

    Examples
    --------
    >>> import dlcore as dl
    >>> float(dl.grad(lambda x: x * dl.stop_gradient(x))(3.0))
    3.0
    """
    return tree.transform(
        lambda leaf: apply("stop_gradient", leaf) if isinstance(leaf, Tensor) else leaf, x
    )


def custom_gradient(f: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a function a gradient of its own.

    Parameters
    ----------
    f : callable
        Returns ``(value, rule)``: an array, and a function that takes the derivative for the value
        and returns those for the arguments: one, or a tuple with one for each of several, in
        their structures and shapes; None for 0, and for arguments that hold no arrays.

    Returns
    -------
    callable
        Takes what ``f`` takes and returns the value.

    Raises
    ------
    TypeError, ValueError
        When differentiated: if the rule returns another number of derivatives, or other shapes.

    Examples
    --------
    A gradient that is clipped on its way back:

    >>> import numpy as np
    >>> import dlcore as dl
    >>> @dl.custom_gradient
    ... def clipped(x):
    ...     return x, lambda g: np.clip(g, -1.0, 1.0)
    >>> float(dl.grad(lambda x: 5.0 * clipped(x))(2.0))
    1.0
    """

    @functools.wraps(f)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        leaves, _ = tree.flatten((args, kwargs))
        if not any(isinstance(leaf, Tensor) for leaf in leaves):
            return f(*args, **kwargs)[0]
        return call(_with_rule, f, args, kwargs)

    return wrapped


def _with_rule(f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    bound = inspect.signature(f).bind(*args, **kwargs)
    bound.apply_defaults()
    leaves, structure = tree.flatten(bound.args)
    leaves = [
        apply("identity", leaf) if isinstance(leaf, Tensor) or is_array(leaf) else leaf
        for leaf in leaves
    ]
    named, _ = tree.flatten(bound.kwargs)
    if any(isinstance(leaf, Tensor) for leaf in named):
        raise TypeError("a custom gradient has no derivatives for keyword-only arguments")
    result = f(*tree.unflatten(structure, leaves), **bound.kwargs)
    if not (isinstance(result, tuple) and len(result) == 2 and callable(result[1])):
        raise TypeError("a function with a custom gradient must return (value, rule)")
    value, rule = result

    def checked(g: Tensor) -> list[Tensor | None]:
        derivatives = _by_leaf(rule(g), structure)
        return [
            _fitting(derivative, leaf)
            for derivative, leaf in zip(derivatives, leaves, strict=True)
            if isinstance(leaf, Tensor)
        ]

    arguments = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    return apply("custom_gradient", value, *arguments, rule=checked)


def _by_leaf(found: Any, structure: Any) -> list[Any]:
    """What a gradient rule returned, for each leaf of the positional arguments."""
    _, _, arguments = structure
    listed = isinstance(found, tuple | list) and arguments[0] == tree.LEAF
    derivatives = found if len(arguments) > 1 or listed else [found]
    if not isinstance(derivatives, tuple | list) or len(derivatives) != len(arguments):
        count = len(derivatives) if isinstance(derivatives, tuple | list) else 1
        raise TypeError(
            f"the gradient rule returned {count} derivatives for {len(arguments)} arguments"
        )
    try:
        return [
            leaf
            for argument, derivative in zip(arguments, derivatives, strict=True)
            for leaf in tree.leaves_like(argument, derivative)
        ]
    except ValueError as error:
        raise ValueError(f"the gradient rule's result is not like its argument: {error}") from None


def _fitting(derivative: Any, argument: Tensor) -> Tensor | None:
    if derivative is None or argument.dtype.kind != "f":
        return None
    node = apply("cast", as_tensor(derivative), dtype=argument.dtype)
    if node.shape == ():
        return apply("broadcast_to", node, shape=argument.shape)
    if node.shape != argument.shape:
        raise ValueError(
            f"the gradient rule returned shape {describe(node.shape)} "
            f"for an argument of shape {describe(argument.shape)}"
        )
    return node
