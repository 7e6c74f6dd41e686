"""Refusing NumPy's random numbers in traced functions, where they would be drawn only once.

Generators that a function can reach must be as they were when it has been traced. Uses of the
functions of ``np.random`` are found in the code that it can reach; whether such a place is run is
then watched while tracing. What other threads draw meanwhile is of no importance.
"""

from __future__ import annotations

import dis
import functools
import pickle
import sys
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import CodeType, FrameType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from dlcore.graph.interface import call

_GENERATORS = (np.random.Generator, np.random.RandomState)
# By identity: functions that draw or make a generator, and classes that are one when called.
_FUNCTIONS = {
    id(value): name
    for name, value in vars(np.random).items()
    if callable(value) and not isinstance(value, type) and not name.startswith("_")
}
_CLASSES = {id(generator): generator.__name__ for generator in _GENERATORS}
_NAMES = {*_FUNCTIONS.values(), *_CLASSES.values()}

# Containers of more items hold data.
_MOST_ITEMS = 1000
# What holds nothing that draws. Modules are looked into by name, see `_visible`.
_LEAVES = (np.ndarray, np.generic, int, float, complex, str, bytes, type(None), ModuleType)


def _refuse(what: str) -> None:
    raise TypeError(
        f"{what} in a traced function would give the same numbers at every call; "
        "draw them with dl.random, or outside and pass them as arguments"
    )


@contextmanager
def no_numpy_random(function: Callable[..., Any], arguments: Iterable[Any] = ()) -> Iterator[None]:
    """Raises TypeError where the function draws from ``np.random`` or a generator that it sees."""
    reached = _reached([function, *arguments], _package(function))
    generators = [value for value in reached if isinstance(value, _GENERATORS)]
    before = [pickle.dumps(generator) for generator in generators]
    places: dict[int, dict[int, str]] = {}
    for each in reached:
        if isinstance(each, FunctionType):
            places |= _drawing_places(each)
    with _watched(places):
        yield
    if [pickle.dumps(generator) for generator in generators] != before:
        _refuse("np.random")


# What a function can reach


def _reached(roots: Iterable[Any], home: str) -> list[Any]:
    """The functions, generators and other objects that are reached from the roots.

    Libraries are not looked into, but for the package that the function is of.
    """
    found: dict[int, Any] = {}
    stack = list(roots)
    while stack:
        value = stack.pop()
        if not isinstance(value, _LEAVES) and id(value) not in found:
            found[id(value)] = value
            stack += _parts(value, home)
    return list(found.values())


def _parts(value: Any, home: str) -> Iterable[Any]:
    if isinstance(value, dict):
        return list(islice(value.values(), _MOST_ITEMS))
    if isinstance(value, list | tuple | set | frozenset):
        return list(islice(value, _MOST_ITEMS))
    if isinstance(value, MethodType | staticmethod | classmethod):
        return (value.__func__, getattr(value, "__self__", None))
    if isinstance(value, property | functools.cached_property):
        return (value.fget if isinstance(value, property) else value.func,)
    if isinstance(value, functools.partial):
        return (value.func, *value.args, *value.keywords.values())
    if isinstance(value, FunctionType | type):
        if _is_library(_package(value), home):
            return ()
        inside = _visible(value, home) if isinstance(value, FunctionType) else value.__bases__
        return (*vars(value).values(), *inside)
    attributes = getattr(value, "__dict__", {})
    if _is_library(_package(type(value)), home):
        return (attributes.get("__wrapped__"),)
    return (*attributes.values(), type(value))


def _package(value: Any) -> str:
    return (getattr(value, "__module__", None) or "").partition(".")[0]


def _is_library(package: str, home: str) -> bool:
    if package in ("numpy", "dlcore") or package in sys.stdlib_module_names:
        return True
    path = Path(getattr(sys.modules.get(package), "__file__", None) or "")
    return package != home and not {"site-packages", "dist-packages"}.isdisjoint(path.parts)


def _codes(function: FunctionType) -> Iterator[CodeType]:
    """The code of the function and of what is defined within it."""
    stack = [function.__code__]
    while stack:
        code = stack.pop()
        yield code
        stack += [constant for constant in code.co_consts if isinstance(constant, CodeType)]


def _visible(function: FunctionType, home: str) -> Iterator[Any]:
    """Its defaults, its closure, and what its names may stand for, in modules as well."""
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    variables = _closure(function)
    names = {name for code in _codes(function) for name in code.co_names}
    known = ChainMap(function.__globals__, sys.modules)  # of modules, what it imports itself
    values = [*variables.values(), *(known[name] for name in names if name in known)]
    modules: set[ModuleType] = set()
    for value in values:  # which grow by what the names may stand for in modules
        if id(value) not in _FUNCTIONS:  # where these are used is watched
            yield value
        if isinstance(value, ModuleType) and value not in modules:
            modules.add(value)
            if not _is_library(value.__name__.partition(".")[0], home):
                values += [vars(value)[name] for name in names if name in vars(value)]


def _closure(function: FunctionType) -> dict[str, Any]:
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # a variable that is not bound yet
            continue
    return found


# Where code uses np.random, and whether it gets there


def _drawing_places(function: FunctionType) -> dict[int, dict[int, str]]:
    """By code and place in it, the function of ``np.random`` that is read there."""
    variables = ChainMap[str, Any]({}, _closure(function), function.__globals__)
    found = {}
    for code in _codes(function):
        names = (*code.co_names, *code.co_freevars)
        if any(name in _NAMES or id(variables.get(name)) in _FUNCTIONS for name in names):
            found[id(code)] = dict(_places(code, variables))
    return {code: places for code, places in found.items() if places}


def _places(code: CodeType, variables: MutableMapping[str, Any]) -> Iterator[tuple[int, str]]:
    """Follows names, attributes of modules, and imports; assignments are entered in variables."""
    value: Any = None
    start = None  # of an instruction with a long operand, of which only the first part is seen
    for instruction in dis.get_instructions(code):
        name, operand = instruction.opname, instruction.argval
        start = instruction.offset if start is None else start
        if name == "EXTENDED_ARG":
            continue
        if name.startswith(("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_FAST")):
            value = variables.get(operand)
        elif name == "IMPORT_NAME":
            value = sys.modules.get(operand)
        elif name in ("LOAD_ATTR", "LOAD_METHOD", "IMPORT_FROM"):
            value = getattr(value, operand, None) if isinstance(value, ModuleType) else None
        elif name in ("STORE_FAST", "STORE_DEREF"):
            variables[operand] = value
        else:
            value = None
        is_called = name == "LOAD_METHOD" or "NULL" in instruction.argrepr
        drawn = _FUNCTIONS.get(id(value)) or (is_called and _CLASSES.get(id(value)))
        if drawn:
            yield from ((start, drawn), (instruction.offset, drawn))
        start = None


@contextmanager
def _watched(places: dict[int, dict[int, str]]) -> Iterator[None]:
    """Raises TypeError where this thread gets to one of the places: a branch may never be taken."""
    if not places:
        yield
        return

    def on_call(frame: FrameType, event: str, argument: Any) -> Any:
        if id(frame.f_code) not in places:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        return on_instruction

    def on_instruction(frame: FrameType, event: str, argument: Any) -> Any:
        drawn = places[id(frame.f_code)].get(frame.f_lasti) if event == "opcode" else None
        if drawn:
            call(_refuse, f"np.random.{drawn}")
        return on_instruction

    previous = sys.gettrace()
    sys._getframe().f_trace_opcodes = True  # Python 3.12 looks for any frame that wants these
    sys.settrace(on_call)
    try:
        yield
    finally:
        sys.settrace(previous)
