"""Functions written in NumPy as native plans: traced once for each signature, then only run."""

from __future__ import annotations

import copy
import functools
import logging
import sys
from collections.abc import Callable, Hashable, Iterable, Sequence
from types import MethodType
from typing import Any, NamedTuple

import numpy as np

from dlcore import config, random
from dlcore._calls import Call, is_read_transposed
from dlcore.graph import tree
from dlcore.graph.canonical import with_slots_read_from
from dlcore.graph.lower import CompiledPlan, compile_plan
from dlcore.graph.plan_cache import PLANS, identity_of
from dlcore.graph.purity import no_numpy_random
from dlcore.graph.shape import describe
from dlcore.graph.tensor import (
    FLOAT64,
    Slot,
    Tensor,
    apply,
    as_tensor,
    check_dtype,
    check_kind,
    in_real_storage,
    is_number,
    leaf,
    stored_dtype,
    transposed,
)
from dlcore.memory import native_array

_log = logging.getLogger("dlcore")


class ArraySpec(NamedTuple):
    """What a plan depends on of an array.

    ``weak`` stands for a float of Python's own. Of an array in Fortran order the plan may read the
    transpose, which is ``transposed``.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    weak: bool = False
    transposed: bool = False

    def __str__(self) -> str:
        return "float" if self.weak else f"{self.dtype} {describe(self.shape)}"

    def slot(self, name: str) -> Slot:
        weak = float if self.weak else None
        shape = self.shape[::-1] if self.transposed else self.shape
        return Slot(name, "fixed", stored_dtype(self.dtype), shape, weak=weak)

    def memory(self, slot: Slot) -> Tensor:
        """The node of what lies in the slot."""
        return transposed(leaf(slot)) if self.transposed else leaf(slot)

    def node(self, slot: Slot) -> Tensor:
        """The argument in a graph that reads it from the slot."""
        return apply("cast", self.memory(slot), dtype=self.dtype)


class Static(NamedTuple):
    """An argument that is no array: a plan is made for its value.

    Its type counts too: 1 and True are equal, and would find one another's plans.
    """

    value: Any
    kind: type

    def __str__(self) -> str:
        return repr(self.value)


Spec = ArraySpec | Static


def spec_of(value: Any, name: str) -> Spec:
    """What a plan depends on of an argument.

    Raises
    ------
    TypeError
        If it is an array of a dtype that is not computed with, or cannot be hashed.
    """
    if isinstance(value, np.ndarray | np.generic):
        check_kind(value, name)
        dtype = value.dtype.newbyteorder("=")
        check_dtype(dtype, name)
        return ArraySpec(dtype, value.shape)
    if isinstance(value, complex) and not is_number(value):
        check_dtype(np.dtype(complex), name)
    if type(value) is float:
        return ArraySpec(FLOAT64, (), weak=True)
    try:
        hash(value)
    except TypeError:
        raise TypeError(
            f"{name} is a {type(value).__name__}; expected arrays, numbers, and dicts, lists and "
            "tuples of them, or what can be hashed"
        ) from None
    return Static(value, type(value))


def check_bound(slots: Iterable[Slot], bound: Iterable[Slot]) -> None:
    """Raises TypeError where a plan reads what no call binds: a traced array of another trace."""
    known = set(bound)
    for slot in slots:
        if slot.value is None and slot not in known:
            raise TypeError(
                f"the function uses a traced array ({slot.name}) of another call; arrays that "
                "change from call to call are passed as arguments"
            )


class Trace:
    """One plan of a function: for one structure of arguments, their dtypes and shapes."""

    def __init__(
        self, function: Callable[..., Any], structure: Any, specs: Sequence[Spec], names: list[str]
    ):
        slots: dict[int, Slot] = {}
        values = []
        for i, (spec, name) in enumerate(zip(specs, names, strict=True)):
            if isinstance(spec, ArraySpec):
                slots[i] = spec.slot(name)
                values.append(spec.node(slots[i]))
            else:
                values.append(spec.value)
        args, kwargs = tree.unflatten(structure, values)
        with random.tracing() as streams:
            results, self.structure = tree.flatten(function(*args, **kwargs))
        self.is_random = streams.used
        self._arrays = [spec for spec in specs if isinstance(spec, ArraySpec)]
        self._slots = list(slots.values())
        self.results = [_result(value, i) for i, value in enumerate(results)]
        # Whether any arrays of the slots' dtypes and shapes have this signature.
        self.takes_arrays = _is_of_arrays(structure) and all(map(_is_read_as_it_is, specs))
        as_computed = all(_is_as_computed(result) for result in self.results)
        self.is_single = as_computed and self.structure == tree.LEAF
        # Whether what the plan gives is the function's result as it is.
        self.is_direct = self.is_single or (as_computed and tree.is_flat_tuple(self.structure))
        self.plan = self._compile()
        self.call = self._make_call()

    def _computed(self) -> list[Tensor]:
        return [result for result in self.results if isinstance(result, Tensor)]

    def _compile(self) -> CompiledPlan | None:
        """The plan; None where there is nothing to compute."""
        stores = [
            (Slot(f"result[{i}]", "step", node.storage, node.shape, True), node)
            for i, node in enumerate(self._computed())
        ]
        self.result_slots = [slot for slot, _ in stores]
        return compile_plan(stores, capacity=1) if stores else None

    def _make_call(self) -> Callable[..., Any]:
        if self.plan is None:
            return lambda arrays: ()
        check_bound(self.plan.slots, [*self._slots, *self.result_slots])
        index = {slot: i for i, slot in enumerate(self.plan.slots)}
        constants = [(i, slot.value) for slot, i in index.items() if slot.value is not None]
        return Call(
            self.plan.native,
            [
                (index.get(slot, -1), slot.dtype, spec.shape)
                for slot, spec in zip(self._slots, self._arrays, strict=True)
            ],
            [spec.transposed for spec in self._arrays],
            [(index[slot], slot.dtype, slot.shape) for slot in self.result_slots],
            constants,
            self.is_single,
        )

    def orders_of(self, arrays: Sequence[Any]) -> tuple[bool, ...]:
        """Of each array among the arguments, whether a plan of its own may read its transpose."""
        return tuple(
            is_read_transposed(array) and self.plan is not None and slot in self.plan.slots
            for slot, array in zip(self._slots, arrays, strict=True)
        )

    def reading(self, orders: Sequence[bool]) -> Trace:
        """The same with a plan that reads the transposes of some arrays.

        The function is not called again for it: what its graph reads is replaced.
        """
        variant = copy.copy(self)
        variant._arrays = [
            spec._replace(transposed=is_transposed)
            for spec, is_transposed in zip(self._arrays, orders, strict=True)
        ]
        variant._slots = [
            spec.slot(slot.name) for spec, slot in zip(variant._arrays, self._slots, strict=True)
        ]
        memory = map(ArraySpec.memory, variant._arrays, variant._slots)
        computed = iter(
            with_slots_read_from(self._computed(), dict(zip(self._slots, memory, strict=True)))
        )
        variant.results = [
            next(computed) if isinstance(result, Tensor) else result for result in self.results
        ]
        variant.plan = variant._compile()
        variant.call = variant._make_call()
        return variant

    def native_arrays(self, arrays: Sequence[Any]) -> tuple[np.ndarray, ...]:
        """The arguments as the call takes them."""
        return tuple(
            native_argument(value.T, slot.dtype).T
            if spec.transposed
            else native_argument(value, slot.dtype)
            for value, spec, slot in zip(arrays, self._arrays, self._slots, strict=True)
        )

    def assemble(self, computed: Any) -> Any:
        """The function's result of what the plan computed."""
        if self.is_direct:
            return computed
        values = iter(computed)
        leaves = [
            _in_dtype(next(values), result.dtype) if isinstance(result, Tensor) else result
            for result in self.results
        ]
        return tree.unflatten(self.structure, leaves)


def _result(value: Any, index: int) -> Any:
    """What a function returned, as a node; None stays."""
    if value is None:
        return None
    try:
        return in_real_storage(as_tensor(value))
    except TypeError as error:
        raise TypeError(f"result {index} of the function: {error}") from None


def _is_of_arrays(structure: Any) -> bool:
    """Whether ``(args, kwargs)`` are positional arguments that are no trees."""
    _, _, (positional, named) = structure
    return tree.is_flat_tuple(positional) and not named[1]


def _is_read_as_it_is(spec: Spec) -> bool:
    return isinstance(spec, ArraySpec) and not spec.weak and spec.dtype == stored_dtype(spec.dtype)


def _is_as_computed(result: Any) -> bool:
    return isinstance(result, Tensor) and result.dtype == result.storage


def _in_dtype(value: Any, dtype: np.dtype) -> Any:
    if dtype.kind in "iu":  # modulo the range of a narrow one, where C leaves it open
        value = value.astype(np.int64)
    return value.astype(dtype, copy=False)


class Function:
    """A function of arrays that runs as a native plan.

    It is traced when it is called with new shapes, dtypes or static values, and from then on only
    its plan runs. Within another traced function it is a part of that one.

    Parameters
    ----------
    function : callable
        Takes and returns graph nodes.
    original : callable
        The function of the user.
    transform : str
        What ``function`` is of it: the name of a function in :mod:`dlcore.transforms`.
    *options : hashable
        The further arguments of that.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        original: Callable[..., Any],
        transform: str,
        *options: Hashable,
    ):
        functools.update_wrapper(self, original)
        self._function = function
        self._original = original
        self._transform = transform
        self._options = options
        self.plan_key = (transform, identity_of(original), *options)
        self._latest: Trace | None = None
        self._shown: Trace | None = None

    def __repr__(self) -> str:
        return f"<dlcore function {self._transform} of {_name(self._original)}>"

    def __get__(self, owner: Any, owner_type: type | None = None) -> Any:
        """As a method it is given its object first, which has to be hashable."""
        return self if owner is None else MethodType(self, owner)

    def __reduce__(self) -> Any:
        rebuilt = _rebuild, (self._transform, self._original, self._options)
        return where_it_decorates(self) or rebuilt

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if random.is_tracing():
            return self._function(*args, **kwargs)
        latest = self._latest
        if latest is not None and not kwargs:
            computed = latest.call(args)
            if computed is not None:
                return computed if latest.is_direct else latest.assemble(computed)
        return self._call_any(args, kwargs)

    def _call_any(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        leaves, structure = tree.flatten((args, kwargs))
        if any(isinstance(value, Tensor) for value in leaves):  # of a graph made by hand
            return self._function(*args, **kwargs)
        arrays = [value for value in leaves if is_array(value)]
        trace = self._trace(leaves, structure, arrays)
        converted = trace.native_arrays(arrays)
        if trace.is_random:
            computed = trace.call(converted, *random.next_key())
        else:
            computed = trace.call(converted)
            self._latest = trace if trace.takes_arrays else None
        assert computed is not None, "arrays of the wrong dtype or shape"
        return trace.assemble(computed)

    def trace(self, *args: Any, **kwargs: Any) -> Trace:
        """The plan for such arguments as they lie in memory, made where there is none yet."""
        leaves, structure = tree.flatten((args, kwargs))
        return self._trace(leaves, structure, [value for value in leaves if is_array(value)])

    def _trace(self, leaves: list[Any], structure: Any, arrays: Sequence[Any]) -> Trace:
        names = argument_names(structure)
        specs = tuple(map(spec_of, leaves, names))

        def make() -> Trace:
            log_trace(self, names, specs)
            with no_numpy_random(self._original, leaves):
                return Trace(self._function, structure, specs, names)

        key = (self.plan_key, structure, specs)
        trace = PLANS.get(key, make)
        orders = trace.orders_of(arrays)
        if any(orders):
            trace = PLANS.get((*key, orders), functools.partial(trace.reading, orders))
        self._shown = trace
        return trace

    def plan_summary(self) -> str:
        """The op records of the plan used last, a line each, and the memory that it needs.

        Raises
        ------
        ValueError
            Before the first call.
        """
        if self._shown is None:
            raise ValueError("no plan has been made yet; call the function first")
        plan = self._shown.plan
        return "nothing to compute" if plan is None else plan.summary()


def where_it_decorates(function: Any) -> str | None:
    """The name of a function in its module, where this stands there in its place."""
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    name = getattr(function, "__qualname__", "")
    return name if name and getattr(module, name, None) is function else None


def log_trace(function: Any, names: Sequence[str], specs: Sequence[Spec]) -> None:
    """Tells of a trace where ``dlcore.config.log_traces`` asks for it."""
    if config.log_traces:
        signature = ", ".join(f"{n}: {s}" for n, s in zip(names, specs, strict=True))
        _log.warning("tracing %s for %s", function, signature)


def _rebuild(transform: str, original: Callable[..., Any], options: tuple[Any, ...]) -> Any:
    from dlcore import transforms

    return getattr(transforms, transform)(original, *options)


def refuse_traced(name: str, *arguments: Any) -> None:
    """Raises TypeError where what runs by itself is given a part of a traced function."""
    leaves, _ = tree.flatten(arguments)
    if any(isinstance(leaf, Tensor) for leaf in leaves):
        raise TypeError(f"{name} cannot be a part of a traced function, as its arguments are")


def is_array(value: Any) -> bool:
    """Whether an argument is bound when the plan runs, and not a part of the plan."""
    return isinstance(value, np.ndarray | np.generic) or type(value) is float


def native_argument(value: Any, dtype: np.dtype) -> np.ndarray:
    """The argument as an array that plans read as the dtype."""
    array = native_array(value, "an argument")
    if array.dtype != dtype:
        raise ValueError(f"an argument of dtype {value.dtype} has values that {dtype} cannot hold")
    return array


def argument_names(structure: Any) -> list[str]:
    """Names of the leaves of ``(args, kwargs)`` for messages: ``argument 0['w']``."""
    _, _, (positional, named) = structure
    names = []
    for i, child in enumerate(positional[2]):
        names += tree.paths(child, f"argument {i}")
    for key, child in zip(named[1], named[2], strict=True):
        names += tree.paths(child, f"argument {key}")
    return names


def _name(function: Any) -> str:
    return getattr(function, "__qualname__", None) or repr(function)
