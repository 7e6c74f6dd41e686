"""Where the tensors of a plan lie in its arena."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

Key = TypeVar("Key")

ALIGNMENT = 64  # DLC_ALIGNMENT in csrc/core/sizes.h


def place(buffers: Mapping[Key, tuple[int, int, int]]) -> tuple[dict[Key, int], int]:
    """Offsets for buffers that are live from their first to their last op, inclusive.

    Parameters
    ----------
    buffers : mapping of key to (bytes, first, last)

    Returns
    -------
    offsets : dict of key to byte offset, a multiple of ``ALIGNMENT``
    size : int
        The bytes of the arena.

    Notes
    -----
    The largest first, each at the lowest offset where it overlaps nothing that is live with it:
    "greedy by size" of Pisarchyk and Lee, Efficient memory management for deep neural net
    inference, 2020.
    """
    placed: list[tuple[int, int, int, int]] = []
    offsets: dict[Key, int] = {}
    total = 0
    for key, (size, first, last) in sorted(buffers.items(), key=lambda item: -item[1][0]):
        offset = 0
        for start, end, other_first, other_last in sorted(placed):
            if other_last < first or last < other_first:
                continue
            if offset + size <= start:
                break
            offset = max(offset, -(-end // ALIGNMENT) * ALIGNMENT)
        offsets[key] = offset
        placed.append((offset, offset + size, first, last))
        total = max(total, offset + size)
    return offsets, -(-total // ALIGNMENT) * ALIGNMENT
