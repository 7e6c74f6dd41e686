import builtins
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

class Slot(NamedTuple):
    kind: str
    dtype: np.dtype[Any]
    bytes: int
    writable: bool

class Plan:
    def __init__(self, data: builtins.bytes) -> None: ...
    @property
    def bytes(self) -> builtins.bytes: ...
    @property
    def slots(self) -> tuple[Slot, ...]: ...
    @property
    def row_capacity(self) -> int: ...
    def arena_bytes(self, threads: int = 0) -> int: ...
    @property
    def packed_bytes(self) -> int: ...
    @property
    def packed_slots(self) -> tuple[int, ...]: ...
    def pack(self, bindings: Sequence[NDArray[Any] | None]) -> NDArray[np.uint8]: ...
    def run(
        self,
        bindings: Sequence[NDArray[Any] | None],
        *,
        order: NDArray[np.int64] | None = None,
        epoch_rows: int,
        batch_rows: int,
        step_begin: int = 0,
        step_end: int,
        seed: int = 0,
        counter: int = 0,
        threads: int = 0,
        training: bool = False,
        budget: float | None = 0.1,
        packed: NDArray[np.uint8] | None = None,
    ) -> tuple[int, int]: ...

def register_op(address: int) -> None: ...
def place_buffers(buffers: Sequence[tuple[int, int, int]]) -> tuple[list[int], int]: ...
