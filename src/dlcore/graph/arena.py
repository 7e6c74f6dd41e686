"""Where the tensors of a plan lie in its arena."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
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
    inference, 2020. Search trees over time keep it near n log n for n buffers, also where most
    of them are live together, as the activations of a deep net are.
    """
    if not buffers:
        return {}, 0
    begin = min(first for _, first, _ in buffers.values())
    placed = _Placed(max(last for _, _, last in buffers.values()) - begin + 1)
    offsets: dict[Key, int] = {}
    total = 0
    for key, (n_bytes, first, last) in sorted(buffers.items(), key=lambda item: -item[1][0]):
        size = -(-n_bytes // ALIGNMENT) * ALIGNMENT
        offset = placed.insert(size, first - begin, last - begin)
        offsets[key] = offset
        total = max(total, offset + size)
    return offsets, total


class _Placed:
    """The buffers placed so far, in two search trees over the times 0 to ``n_times - 1``.

    A buffer is live with another if it is live when that one starts, or starts while that one is
    live. Node 1 of a tree stands for all times and nodes 2 i and 2 i + 1 for the halves of those of
    node i. ``covering[node]`` is what is occupied by buffers that are live at all times of the
    node, ``starting[node]`` by those that start at one of them.
    """

    def __init__(self, n_times: int):
        self.n_leaves = 1 << (n_times - 1).bit_length()
        self.covering: dict[int, _Ranges] = defaultdict(_Ranges)
        self.starting: dict[int, _Ranges] = defaultdict(_Ranges)

    def insert(self, size: int, first: int, last: int) -> int:
        """Places a buffer at the lowest offset that is free from time first to time last."""
        offset = _lowest_gap(list(self._live_with(first, last)), size)
        if size > 0:
            for node in self._parts(first, last):
                self.covering[node].add(offset, offset + size)
            for node in self._path(first):
                self.starting[node].add(offset, offset + size)
        return offset

    def _live_with(self, first: int, last: int) -> Iterator[_Ranges]:
        for node in self._path(first):
            if node in self.covering:
                yield self.covering[node]
        for node in self._parts(first, last):
            if node in self.starting:
                yield self.starting[node]

    def _path(self, time: int) -> Iterator[int]:
        """The nodes that hold the time, from its leaf to the root."""
        node = self.n_leaves + time
        while node > 0:
            yield node
            node //= 2

    def _parts(self, first: int, last: int) -> Iterator[int]:
        """The fewest nodes that make up the times first to last."""
        low, high = self.n_leaves + first, self.n_leaves + last + 1
        while low < high:
            if low % 2 == 1:
                yield low
                low += 1
            if high % 2 == 1:
                high -= 1
                yield high
            low //= 2
            high //= 2


class _Ranges:
    """A union of ranges of offsets, as disjoint ones in ascending order that do not touch."""

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []

    def add(self, start: int, end: int) -> None:
        low = bisect_left(self.ends, start)
        high = bisect_right(self.starts, end)
        if low < high:
            start = min(start, self.starts[low])
            end = max(end, self.ends[high - 1])
        self.starts[low:high] = [start]
        self.ends[low:high] = [end]

    def end_of_overlap(self, start: int, end: int) -> int | None:
        """The end of the first range that overlaps start to end."""
        i = bisect_right(self.ends, start)
        return self.ends[i] if i < len(self.ends) and self.starts[i] < end else None


def _lowest_gap(occupied: Iterable[_Ranges], size: int) -> int:
    """The lowest offset from which ``size`` bytes lie in none of the ranges."""
    offset, moved = 0, True
    while moved:
        moved = False
        for ranges in occupied:
            end = ranges.end_of_overlap(offset, offset + size)
            if end is not None:
                offset, moved = end, True
    return offset
