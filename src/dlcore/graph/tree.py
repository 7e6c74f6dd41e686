"""Nested dicts, lists and tuples, taken apart and put together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

# A structure is hashable: LEAF, or (type, keys, structures of the children).
LEAF = "leaf"
Structure = Any


def flatten(tree: Any) -> tuple[list[Any], Structure]:
    """The leaves in order, and what :func:`unflatten` needs to put them back."""
    leaves: list[Any] = []
    return leaves, _take_apart(tree, leaves)


def _take_apart(tree: Any, leaves: list[Any]) -> Structure:
    kind = type(tree)
    if isinstance(tree, dict):
        return (dict, tuple(tree), tuple(_take_apart(child, leaves) for child in tree.values()))
    if kind is list or isinstance(tree, tuple):
        return (kind, (), tuple(_take_apart(child, leaves) for child in tree))
    leaves.append(tree)
    return LEAF


def unflatten(structure: Structure, leaves: Sequence[Any]) -> Any:
    """The tree of that structure with these leaves."""
    return _put_together(structure, iter(leaves))


def _put_together(structure: Structure, leaves: Iterator[Any]) -> Any:
    if structure == LEAF:
        return next(leaves)
    kind, keys, children = structure
    values = [_put_together(child, leaves) for child in children]
    if kind is dict:
        return dict(zip(keys, values, strict=True))
    return kind(*values) if hasattr(kind, "_fields") else kind(values)


def leaves_like(structure: Structure, tree: Any) -> list[Any]:
    """The leaves of a tree in the order of a structure; None stands for Nones all the way down.

    Raises
    ------
    ValueError
        If the tree is of another structure; the order of a dict's keys is of no importance.
    """
    if structure == LEAF:
        if isinstance(tree, dict | list | tuple):
            raise ValueError(f"expected an array, not a {type(tree).__name__}")
        return [tree]
    kind, keys, children = structure
    if tree is None:
        parts: list[Any] = [None] * len(children)
    elif kind is dict:
        if not isinstance(tree, dict) or tree.keys() != set(keys):
            raise ValueError(f"expected a dict with the keys {list(keys)}")
        parts = [tree[key] for key in keys]
    else:
        if not isinstance(tree, list | tuple) or len(tree) != len(children):
            raise ValueError(f"expected a {kind.__name__} of {len(children)}")
        parts = list(tree)
    return [
        leaf
        for child, part in zip(children, parts, strict=True)
        for leaf in leaves_like(child, part)
    ]


def is_flat_tuple(structure: Structure) -> bool:
    """Whether the tree is a plain tuple of leaves."""
    if structure == LEAF:
        return False
    kind, _, children = structure
    return kind is tuple and all(child == LEAF for child in children)


def paths(structure: Structure, prefix: str = "") -> list[str]:
    """A name for each leaf, as Python would reach it: ``params['w'][0]``."""
    if structure == LEAF:
        return [prefix]
    _, keys, children = structure
    names = keys or range(len(children))
    return [
        path
        for name, child in zip(names, children, strict=True)
        for path in paths(child, f"{prefix}[{name!r}]")
    ]


def transform(function: Callable[[Any], Any], tree: Any) -> Any:
    """The tree with the function applied to every leaf."""
    leaves, structure = flatten(tree)
    return unflatten(structure, [function(leaf) for leaf in leaves])
