"""The arguments of a traced function that it is differentiated for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dlcore.graph import tree
from dlcore.graph.function import is_array
from dlcore.graph.tensor import Tensor, apply, as_tensor


class Inputs:
    """The arguments to differentiate for, each a node of its own."""

    def __init__(self, argnums: int | tuple[int, ...], args: tuple[Any, ...]):
        self.single = isinstance(argnums, int)
        self.args = list(args)
        self.nodes: list[Tensor] = []
        self.structures = []
        for position in positions_of(argnums, args):
            leaves, structure = tree.flatten(args[position])
            names = tree.paths(structure, f"argument {position % len(args)}")
            fresh = [_differentiable(leaf, name) for leaf, name in zip(leaves, names, strict=True)]
            self.args[position] = tree.unflatten(structure, fresh)
            self.nodes += fresh
            self.structures.append(structure)

    def like(self, leaves: Sequence[Any]) -> Any:
        """One value for each node, in the structure of the arguments."""
        rest = list(leaves)
        trees = []
        for structure in self.structures:
            count = len(tree.paths(structure))
            trees.append(tree.unflatten(structure, rest[:count]))
            rest = rest[count:]
        return trees[0] if self.single else tuple(trees)


def positions_of(argnums: int | tuple[int, ...], args: tuple[Any, ...]) -> tuple[int, ...]:
    """The positions of the arguments to differentiate for.

    Raises
    ------
    ValueError
        If there are fewer arguments.
    """
    positions = (argnums,) if isinstance(argnums, int) else argnums
    if not all(-len(args) <= position < len(args) for position in positions):
        raise ValueError(f"argnums is {argnums}, but there are {len(args)} positional arguments")
    return positions


def _differentiable(value: Any, name: str) -> Tensor:
    """A node that stands for this argument alone, even where it is passed twice or captured."""
    if is_array(value):  # within a traced function, a value that does not depend on its arguments
        value = as_tensor(value)
    if not isinstance(value, Tensor):
        found = f"{value!r} ({type(value).__name__})"
    elif value.dtype.kind == "f":
        return apply("identity", value)
    else:
        found = f"of dtype {value.dtype}"
    raise TypeError(
        f"{name} is {found}; a gradient is for floating point: write 2.0 for 2, "
        "x.astype(float) for an array x"
    )
