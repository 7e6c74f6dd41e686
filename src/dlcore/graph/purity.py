"""Refusing NumPy's random numbers in traced functions, where they would be drawn only once."""

from __future__ import annotations

import dis
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

_MAKERS = (np.random.default_rng, np.random.Generator, np.random.RandomState)


def _refuse(what: str) -> None:
    raise TypeError(
        f"{what} in a traced function would give the same numbers at every call; "
        "draw them with dl.random, or outside and pass them as arguments"
    )


@contextmanager
def no_numpy_random(function: Callable[..., Any], arguments: Iterable[Any] = ()) -> Iterator[None]:
    """Raises TypeError where the function draws from ``np.random`` or a generator that it sees."""
    functions = _reachable(function)
    variables = [*arguments, *(v for each in functions for v in _visible(each))]
    generators = [v for v in variables if isinstance(v, np.random.Generator)]
    before = _states(generators)
    for each in functions:
        _check_makers(each)
    yield
    if _states(generators) != before:
        _refuse("np.random")


def _states(generators: list[np.random.Generator]) -> list[str]:
    legacy = np.random.get_state(legacy=False)
    assert isinstance(legacy, dict)
    position = (legacy["state"]["key"].tobytes(), legacy["state"]["pos"], legacy["gauss"])
    return [repr(position), *(repr(g.bit_generator.state) for g in generators)]


def _reachable(function: Callable[..., Any]) -> list[Callable[..., Any]]:
    """The function, and those of its package that it sees, that these see, and so on."""
    first = _underlying(function)
    found = {first: None}
    stack = [first]
    while stack:
        for value in _visible(stack.pop()):
            each = _underlying(value) if callable(value) else None
            is_new = isinstance(each, FunctionType | MethodType) and each not in found
            if is_new and _package(each) == _package(first):
                found[each] = None
                stack.append(each)
    return list(found)


def _underlying(function: Any) -> Any:
    """What has the code: the function that was wrapped, or the method of a callable object."""
    while isinstance(function, functools.partial):
        function = function.func
    function = inspect.unwrap(function)
    return function if hasattr(function, "__code__") else function.__call__


def _package(function: Any) -> str:
    return (getattr(function, "__module__", None) or "").partition(".")[0]


def _codes(function: Callable[..., Any]) -> Iterator[CodeType]:
    """The code of the function and of what is defined within it."""
    code = getattr(function, "__code__", None)
    stack = [code] if code is not None else []
    while stack:
        code = stack.pop()
        yield code
        stack += [constant for constant in code.co_consts if isinstance(constant, CodeType)]


def _visible(function: Callable[..., Any]) -> Iterator[Any]:
    """The values of its closure, defaults and object, and of the globals that it names."""
    yield from getattr(function, "__defaults__", None) or ()
    yield from (getattr(function, "__kwdefaults__", None) or {}).values()
    yield from getattr(getattr(function, "__self__", None), "__dict__", {}).values()
    for cell in getattr(function, "__closure__", None) or ():
        try:
            yield cell.cell_contents
        except ValueError:  # a variable that is not bound yet
            continue
    known = getattr(function, "__globals__", {})
    for code in _codes(function):
        yield from (known[name] for name in code.co_names if name in known)


def _check_makers(function: Callable[..., Any]) -> None:
    """A generator that is made within the function leaves no trace: it is found in the code."""
    known = getattr(function, "__globals__", {})
    for code in _codes(function):
        value: Any = None
        for instruction in dis.get_instructions(code):
            if instruction.opname == "LOAD_GLOBAL":
                value = known.get(instruction.argval)
            elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and isinstance(
                value, ModuleType
            ):
                value = getattr(value, instruction.argval, None)
            else:
                value = None
            if any(value is maker for maker in _MAKERS):
                _refuse(f"np.random.{instruction.argval}")
