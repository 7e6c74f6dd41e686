"""Where the tensors of a plan lie in its arena."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from dlcore._plan import place_buffers

Key = TypeVar("Key")


def place(buffers: Mapping[Key, tuple[int, int, int]]) -> tuple[dict[Key, int], int]:
    """Offsets for buffers that are live from their first to their last op, inclusive.

    Parameters
    ----------
    buffers : mapping of key to (bytes, first, last)

    Returns
    -------
    offsets : dict of key to byte offset, a multiple of 64
    size : int
        The bytes of the arena.

    Notes
    -----
    The largest first, each at the lowest offset where it overlaps nothing that is live with it:
    "greedy by size" of Pisarchyk and Lee, Efficient memory management for deep neural net
    inference, 2020. It looks at every pair of buffers, in C: the activations of a deep net are live
    together, so that most pairs count, and 4000 buffers take some 10 ms.
    """
    largest_first = sorted(buffers, key=lambda key: -buffers[key][0])
    offsets, size = place_buffers([buffers[key] for key in largest_first])
    return dict(zip(largest_first, offsets, strict=True)), size
