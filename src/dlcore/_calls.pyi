from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dlcore._plan import Plan

class Call:
    def __init__(
        self,
        plan: Plan,
        arguments: Sequence[tuple[int, np.dtype[Any], tuple[int, ...]]],
        transposed: Sequence[bool],
        results: Sequence[tuple[int, np.dtype[Any], tuple[Any, ...]]],
        constants: Sequence[tuple[int, NDArray[Any]]],
        as_one: bool,
    ) -> None: ...
    def __call__(self, arguments: tuple[Any, ...], seed: int = 0, counter: int = 0) -> Any: ...

class _BoundCall:
    def __init__(
        self,
        plan: Plan,
        bindings: list[NDArray[Any]],
        rows: int,
        results: int,
        parameters: object,
        revision: int,
    ) -> None: ...

class RowCall(_BoundCall):
    @property
    def team(self) -> int: ...
    def __call__(self, row: Any, result: Any, parameters: object) -> Any: ...

class BatchCall(_BoundCall):
    def fits(self, rows: Any, parameters: object) -> bool: ...
    def __call__(self, rows: Any, packed: NDArray[np.uint8] | None = None) -> NDArray[Any]: ...

def is_read_transposed(value: Any) -> bool: ...
def outdate_calls() -> None: ...
def calls_revision() -> int: ...
