"""Plans of traced functions by function and signature, without keeping the functions alive."""

from __future__ import annotations

import sys
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from types import MethodType
from typing import Any

from dlcore import config


class PlanCache:
    """The plans of all functions; the least used go, and those of functions that are gone."""

    def __init__(self) -> None:
        self._plans: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._plans)

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The plan of the key, made where there is none."""
        with self._lock:
            plan = self._plans.get(key)
        if plan is None:
            plan = make()  # not under the lock: it runs the user's code
        with self._lock:
            self._plans[key] = plan
            self._plans.move_to_end(key)
            while len(self._plans) > config.max_plans:
                self._plans.popitem(last=False)
        return plan

    def forget(self, identity: Identity) -> None:
        """Drops what was made for a callable."""
        with self._lock:
            for key in list(self._plans):
                if _mentions(key, identity):
                    self._plans.pop(key, None)


PLANS = PlanCache()


class Identity:
    """A callable as a part of keys: told apart by identity, and not kept alive.

    Equal ones need not do the same, and some cannot be hashed.
    """

    def __init__(self, value: Any):
        self._id = id(value)
        try:
            self._value: Callable[[], Any] = weakref.ref(value, self._is_gone)
        except TypeError:  # NumPy's universal functions, which live for ever
            self._value = lambda: value

    def _is_gone(self, _: Any, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if not is_finalizing():  # the module's names may be gone by then
            PLANS.forget(self)

    def __hash__(self) -> int:
        return self._id

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Identity) and self._value() is other._value() is not None


def identity_of(function: Any) -> Hashable:
    """What stands for a callable in keys."""
    if isinstance(function, MethodType):
        return Identity(function.__self__), Identity(function.__func__)
    return getattr(function, "plan_key", None) or Identity(function)


def _mentions(key: Any, identity: Identity) -> bool:
    if isinstance(key, tuple):
        return any(_mentions(part, identity) for part in key)
    return key is identity
