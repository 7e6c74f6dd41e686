"""What makes a graph node behave as a NumPy array while a function is traced.

The functions themselves are in :mod:`dlcore.graph.numpy_functions`, which enters them here.
"""

from __future__ import annotations

import difflib
import linecache
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

UFUNCS: dict[np.ufunc, Callable[..., Any]] = {}
REDUCTIONS: dict[np.ufunc, Callable[..., Any]] = {}
FUNCTIONS: dict[Callable[..., Any], Callable[..., Any]] = {}
# What to write in place of a function that is not supported.
REWRITES: dict[str, str] = {}

_LONGEST_SOURCE = 120
_LIBRARIES = tuple(f"{Path(f).parent}{os.sep}" for f in (Path(__file__).parent, np.__file__))


def user_line() -> str:
    """``file:line: source`` of the innermost frame outside of dlcore and NumPy."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_LIBRARIES):
        frame = frame.f_back  # type: ignore[assignment]
    if frame is None:
        return "an unknown line"
    name, number = frame.f_code.co_filename, frame.f_lineno
    source = linecache.getline(name, number).strip()
    if len(source) > _LONGEST_SOURCE:
        source = f"{source[:_LONGEST_SOURCE]}..."
    return f"{name}:{number}" + (f": {source}" if source else "")


def call(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Calls it; what it raises says at which line of the traced function."""
    try:
        return function(*args, **kwargs)
    except (TypeError, ValueError, IndexError, NotImplementedError, OverflowError) as error:
        if not getattr(error, "has_user_line", False):
            message = str(error.args[0]) if error.args else type(error).__name__
            error.args = (f"{message}\n    at {user_line()}", *error.args[1:])
            error.has_user_line = True  # type: ignore[union-attr]
        raise


class UnsupportedAttribute(TypeError, AttributeError):
    """What is refused as other functions are, and not there for ``hasattr``."""


def _name_of(function: Any) -> str:
    name = function.__name__
    if isinstance(function, np.ufunc) and getattr(np, name, None) is not function:
        special = sys.modules.get("scipy.special")
        return f"scipy.special.{name}" if getattr(special, name, None) is function else name
    module = getattr(function, "__module__", None) or "numpy"
    return f"np{module.removeprefix('numpy')}.{name}"


def _refuse(name: str, known: Iterable[str], error: type[Exception] = TypeError) -> NoReturn:
    rewrite = REWRITES.get(name) or REWRITES.get(name.rpartition(".")[0])
    if rewrite is None:
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        rewrite = f"the nearest that is supported: {close[0]}" if close else "see dl.jit"
    else:
        rewrite = f"write {rewrite}"
    raise error(f"{name} is not supported on traced arrays; {rewrite}")


def _take_no_out(name: str, options: dict[str, Any]) -> None:
    if options.pop("out", None) is not None:
        raise TypeError(
            f"out= of {name} (and +=, *= on an ndarray) would write a traced value into an "
            "ndarray; write a = a + t, without out="
        )


def _operator(ufunc: np.ufunc, *, reflected: bool = False) -> Callable[..., Any]:
    def method(self: Any, other: Any) -> Any:
        if other is None or isinstance(other, str):
            return NotImplemented
        operands = (other, self) if reflected else (self, other)
        result = call(_apply_ufunc, ufunc, "__call__", operands, {})
        return _of_operator(result, operands) if self.weak else result

    return method


def _unary_operator(ufunc: np.ufunc) -> Callable[..., Any]:
    def method(self: Any) -> Any:
        result = call(UFUNCS[ufunc], self)
        return _of_operator(result, (self,)) if self.weak else result

    return method


def _of_operator(result: Any, operands: tuple[Any, ...]) -> Any:
    from dlcore.graph.tensor import of_operator

    return of_operator(result, operands)


def _power(self: Any, exponent: Any) -> Any:
    """NumPy's operator squares where the exponent is 2, which makes int8 of truth values."""
    if self.dtype.kind == "b" and type(exponent) is int and exponent == 2:
        return call(UFUNCS[np.square], self)
    return _to_the_power(self, exponent)


_to_the_power = _operator(np.power)


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    """The array method that does what the NumPy function of its name does."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return call(_apply_function, function, (self, *args), kwargs)

    method.__name__ = function.__name__
    method.__doc__ = f"As ``np.{function.__name__}``."
    return method


def _unavailable(what: str, rewrite: str) -> Callable[..., Any]:
    def refuse(self: Any, *args: Any, **kwargs: Any) -> Any:
        def fail() -> NoReturn:
            raise TypeError(f"{what}: its value is not known while tracing; {rewrite}")

        return call(fail)

    return refuse


class TensorInterface:
    """Operators, methods and NumPy's protocols for graph nodes."""

    __slots__ = ()

    __dlcore_traced__ = True  # what dl.ops looks for

    shape: Any
    dtype: np.dtype
    weak: Any

    # NumPy's protocols

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return call(_apply_ufunc, ufunc, method, inputs, kwargs)

    def __array_function__(
        self, function: Callable[..., Any], types: Any, args: Any, kwargs: Any
    ) -> Any:
        return call(_apply_function, function, args, kwargs)

    __array__ = _unavailable(
        "a traced array cannot become an ndarray",
        "write np.stack([...]) for np.array([...]), dl.ops.take(a, i, axis=0) for a[i] and "
        "np.take(a, i, axis=0) of an ndarray a, np.where or np.concatenate for a[...] = x, and np "
        "functions for those of other libraries (np.logaddexp.reduce for logsumexp)",
    )
    __bool__ = _unavailable(
        "Python control flow depends on a traced array",
        "use np.where() in place of if, and np.minimum or np.maximum for min and max",
    )
    __float__ = _unavailable(
        "a traced array cannot become a float",
        "write np.exp for math.exp, and so on, and np.stack or np.where for a[i] = x",
    )
    __int__ = _unavailable(
        "a traced array cannot become an int", "write x.astype(int), or np.floor or np.rint"
    )
    __complex__ = _unavailable("a traced array cannot become a complex", "use real arithmetic")
    __index__ = _unavailable(
        "a traced array cannot be an index or a size",
        "write dl.ops.take(a, i, axis=0) for a[i], or np.take where a is traced, too",
    )
    __round__ = _unavailable("a traced array cannot be rounded by round()", "write np.rint")
    item = _unavailable("a traced array has no item()", "go on with the array itself")
    tolist = _unavailable("a traced array has no tolist()", "go on with the array itself")
    tobytes = _unavailable("a traced array has no bytes", "go on with the array itself")

    def __deepcopy__(self, memo: Any) -> Any:
        return self  # nodes do not change, and those of arguments are known by their identity

    def __format__(self, spec: str) -> str:
        return _unformatted(self) if spec else object.__format__(self, spec)

    def __getattr__(self, name: str) -> Any:
        """What arrays have and traced ones do not is named; protocols find that it is missing."""
        if name.startswith("__") or not hasattr(np.ndarray, name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        full_name = f"np.{name}" if hasattr(np, name) else f"ndarray.{name}"
        return call(_refuse, full_name, _names(FUNCTIONS), UnsupportedAttribute)

    def __setitem__(self, key: Any, value: Any) -> None:
        def fail() -> NoReturn:
            raise TypeError(
                "traced arrays cannot be assigned to; write np.where(mask, value, x) or "
                "np.concatenate for x[...] = value"
            )

        call(fail)

    def __len__(self) -> int:
        return call(_length, self.shape)

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def __contains__(self, value: Any) -> bool:
        return bool(np.any(self == value))

    def __getitem__(self, key: Any) -> Any:
        return call(FUNCTIONS[TensorInterface.__getitem__], self, key)

    # Attributes

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> Any:
        """The number of elements: an int, or a multiple of the rows of the step."""
        result: Any = 1
        for extent in self.shape:
            result = extent * result
        return result

    @property
    def T(self) -> Any:
        return call(FUNCTIONS[np.transpose], self)

    @property
    def mT(self) -> Any:
        return call(FUNCTIONS[np.matrix_transpose], self)

    # Operators

    __hash__ = object.__hash__
    __eq__ = _operator(np.equal)
    __ne__ = _operator(np.not_equal)
    __gt__ = _operator(np.greater)
    __ge__ = _operator(np.greater_equal)
    __lt__ = _operator(np.less)
    __le__ = _operator(np.less_equal)
    __add__ = _operator(np.add)
    __radd__ = _operator(np.add, reflected=True)
    __sub__ = _operator(np.subtract)
    __rsub__ = _operator(np.subtract, reflected=True)
    __mul__ = _operator(np.multiply)
    __rmul__ = _operator(np.multiply, reflected=True)
    __truediv__ = _operator(np.divide)
    __rtruediv__ = _operator(np.divide, reflected=True)
    __floordiv__ = _operator(np.floor_divide)
    __rfloordiv__ = _operator(np.floor_divide, reflected=True)
    __mod__ = _operator(np.remainder)
    __rmod__ = _operator(np.remainder, reflected=True)
    __pow__ = _power
    __rpow__ = _operator(np.power, reflected=True)
    __matmul__ = _operator(np.matmul)
    __rmatmul__ = _operator(np.matmul, reflected=True)
    __and__ = _operator(np.bitwise_and)
    __rand__ = _operator(np.bitwise_and, reflected=True)
    __or__ = _operator(np.bitwise_or)
    __ror__ = _operator(np.bitwise_or, reflected=True)
    __xor__ = _operator(np.bitwise_xor)
    __rxor__ = _operator(np.bitwise_xor, reflected=True)
    __lshift__ = _operator(np.left_shift)
    __rlshift__ = _operator(np.left_shift, reflected=True)
    __rshift__ = _operator(np.right_shift)
    __rrshift__ = _operator(np.right_shift, reflected=True)
    __divmod__ = _operator(np.divmod)
    __rdivmod__ = _operator(np.divmod, reflected=True)
    __invert__ = _unary_operator(np.invert)
    __neg__ = _unary_operator(np.negative)
    __pos__ = _unary_operator(np.positive)
    __abs__ = _unary_operator(np.absolute)

    # Methods

    all = _method(np.all)
    any = _method(np.any)
    clip = _method(np.clip)
    copy = _method(np.copy)
    diagonal = _method(np.diagonal)
    dot = _method(np.dot)
    flatten = _method(np.ravel)
    max = _method(np.max)
    mean = _method(np.mean)
    min = _method(np.min)
    ravel = _method(np.ravel)
    repeat = _method(np.repeat)
    round = _method(np.round)
    squeeze = _method(np.squeeze)
    std = _method(np.std)
    sum = _method(np.sum)
    swapaxes = _method(np.swapaxes)
    take = _method(np.take)
    trace = _method(np.trace)
    var = _method(np.var)

    def astype(self, dtype: Any, *, copy: bool = True) -> Any:
        """The array in another dtype; floating point is cut off towards 0 by integers.

        Nothing can be written to it, so that ``copy`` makes no difference.
        """
        return call(FUNCTIONS[np.astype], self, dtype)

    def reshape(self, *shape: Any) -> Any:
        """As ``np.reshape``; the extents may be given one by one."""
        wanted = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        return call(FUNCTIONS[np.reshape], self, wanted)

    def transpose(self, *axes: Any) -> Any:
        """As ``np.transpose``; the axes may be given one by one."""
        wanted = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes or None
        return call(FUNCTIONS[np.transpose], self, wanted)


def _length(shape: tuple[Any, ...]) -> int:
    if not shape:
        raise TypeError("len() of an array without axes")
    if not isinstance(shape[0], int):
        raise TypeError(
            f"len() of an array with {shape[0]} along its first axis: their number is only known "
            "when the plan runs; write x.shape[0]"
        )
    return shape[0]


_unformatted = _unavailable(
    "a traced array cannot be formatted", "leave the format out to see its shape and dtype"
)


def _names(functions: Iterable[Any], suffix: str = "") -> list[str]:
    return [_name_of(function) + suffix for function in functions]


def _apply_function(function: Callable[..., Any], args: tuple[Any, ...], options: Any) -> Any:
    handler = FUNCTIONS.get(function)
    if handler is None:
        return _refuse(_name_of(function), _names(FUNCTIONS))
    _take_no_out(_name_of(function), options)
    return handler(*args, **options)


def _apply_ufunc(ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], options: Any) -> Any:
    handler = {"__call__": UFUNCS, "reduce": REDUCTIONS}.get(method, {}).get(ufunc)
    if method == "__call__" and not options and handler is not None:
        return handler(*inputs)
    name = _name_of(ufunc) + ("" if method == "__call__" else f".{method}")
    _take_no_out(name, options)
    if handler is None:
        reduced = method == "reduce"
        return _refuse(name, _names(REDUCTIONS, ".reduce") if reduced else _names(UFUNCS))
    if method == "reduce":
        options = {"axis": 0, **options}
    elif options:
        raise TypeError(f"{name} on traced arrays does not take {', '.join(options)}")
    return handler(*inputs, **options)
