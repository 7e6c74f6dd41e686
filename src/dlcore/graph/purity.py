"""Refusing NumPy's random numbers in traced functions, where they would be drawn only once."""

from __future__ import annotations

import dis
import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

# What draws or makes a generator. Other types are there to be asked for, as in isinstance().
_DRAWING = {
    id(value): f"np.random.{name}"
    for name, value in vars(np.random).items()
    if callable(value) and (value is np.random.RandomState or not isinstance(value, type))
}
_Lines = dict[CodeType, dict[int, str]]


@contextmanager
def no_numpy_random(function: Callable[..., Any], arguments: Iterable[Any] = ()) -> Iterator[None]:
    """Raises TypeError where the function draws from ``np.random`` or a generator that it sees.

    Generators that it captures or is given are recognised by their state. Functions of
    ``np.random`` leave no trace, or one that other threads leave, too: the lines that name them are
    found in the code, and watched while it runs.
    """
    functions = _reachable(function)
    variables = [*arguments, *_given(function), *(v for f in functions for v in _visible(f))]
    generators = list({id(g): g for v in variables for g in _generators(v)}.values())
    before = _states(generators)
    with _watched(_suspicious_lines(functions)) as reached:
        yield
    if reached:
        _refuse(reached[0])
    if _states(generators) != before:
        _refuse("a generator of np.random")


def _refuse(what: str) -> None:
    raise TypeError(
        f"{what} in a traced function would give the same numbers at every call; "
        "draw them with dl.random, or outside and pass them as arguments"
    )


def _generators(value: Any) -> list[Any]:
    """The generators that the value is, or holds as a small list, tuple or dict."""
    held: Iterable[Any] = ()
    if isinstance(value, list | tuple | dict) and len(value) <= 100:
        held = value.values() if isinstance(value, dict) else value
    found = (value, *held)
    return [x for x in found if isinstance(x, np.random.Generator | np.random.RandomState)]


def _states(generators: Iterable[Any]) -> list[str]:
    return [
        repr(g.bit_generator.state if isinstance(g, np.random.Generator) else g.get_state())
        for g in generators
    ]


@contextmanager
def _watched(lines: _Lines) -> Iterator[list[str]]:
    """What is named in those of the lines that are reached within."""
    reached: list[str] = []

    def on_line(frame: Any, event: str, _: Any) -> Any:
        name = lines[frame.f_code].get(frame.f_lineno)
        if event == "line" and name is not None:
            reached.append(name)
        return on_line

    def on_call(frame: Any, event: str, _: Any) -> Any:
        return on_line if frame.f_code in lines else None

    before = sys.gettrace()
    if lines:
        sys.settrace(on_call)
    try:
        yield reached
    finally:
        if lines:
            sys.settrace(before)


# Code


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


def _given(function: Any) -> Iterator[Any]:
    """What ``functools.partial`` gives the function."""
    while isinstance(function, functools.partial):
        yield from (*function.args, *function.keywords.values())
        function = function.func


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


def _suspicious_lines(functions: Iterable[Callable[..., Any]]) -> _Lines:
    """The lines that name what draws, by the code that they belong to."""
    found: _Lines = {}
    for function in functions:
        known = _names(function)
        for code in _codes(function):
            value: Any = None
            for instruction in dis.get_instructions(code):
                if instruction.opname in ("LOAD_GLOBAL", "LOAD_DEREF"):
                    value = known.get(instruction.argval)
                elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and isinstance(
                    value, ModuleType
                ):
                    value = getattr(value, instruction.argval, None)
                else:
                    value = None
                line = instruction.positions and instruction.positions.lineno
                if id(value) in _DRAWING and line:
                    found.setdefault(code, {})[line] = _DRAWING[id(value)]
    return found


def _names(function: Callable[..., Any]) -> dict[str, Any]:
    """The globals of a function, and what its closure holds, by name."""
    names = dict(getattr(function, "__globals__", {}))
    code = getattr(function, "__code__", None)
    for name, cell in zip(
        getattr(code, "co_freevars", ()), getattr(function, "__closure__", None) or (), strict=False
    ):
        try:
            names[name] = cell.cell_contents
        except ValueError:  # a variable that is not bound yet
            continue
    return names
