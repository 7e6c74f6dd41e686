"""Vectors for categories."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dlcore import random
from dlcore.graph.shape import Rows, element_count
from dlcore.graph.tensor import Tensor, apply
from dlcore.nn.layers import Layer, check_count, weight_penalty
from dlcore.optim.schedules import check_positive

# Inputs come in the model's dtype: the largest integer below which float32 holds all of them.
_EXACT_IN_FLOAT32 = 1 << 24


class Embedding(Layer):
    """A learned vector for each category: row ``x`` of ``weight``.

    For inputs (n,) the result is (n, features), for (n, k) it is (n, k, features); ``Flatten``
    makes (n, k * features) of that. Inputs are integers from 0, or floats that are.

    Parameters
    ----------
    categories : int
        How many there are; at most 2**24 in a float32 model.
    features : int
        ``weight`` has shape (categories, features) and starts normal with standard deviation 1.
    l1, l2 : float, default 0
        As in :class:`Linear`.

    Raises
    ------
    ValueError
        In ``fit`` and ``predict``, before anything is computed: where the layer reads the model's
        input and that holds what is no category. Categories that other layers computed, and those
        of ``predict_one``, are checked as the plan runs.

    References
    ----------
    Guo and Berkhahn, Entity embeddings of categorical variables, 2016.

    Examples
    --------
    >>> import dlcore as dl
    >>> model = dl.nn.Sequential(dl.nn.Embedding(3, 2), dl.nn.Flatten()).init()
    >>> model.set_parameters({"0.weight": [[0, 0], [1, -1], [2, -2]]})
    >>> model.predict([[2, 1]])
    array([[ 2., -2.,  1., -1.]], dtype=float32)
    """

    def __init__(self, categories: int, features: int, *, l1: float = 0.0, l2: float = 0.0):
        self.categories = check_count("categories", categories)
        self.features = check_count("features", features)
        self.l1 = check_positive("l1", l1, zero=True)
        self.l2 = check_positive("l2", l2, zero=True)

    @property
    def weight_shape(self) -> tuple[int, int]:
        """The shape of the parameter that holds the weight."""
        return self.categories, self.features

    def init(self, initializer: random.Initializer) -> dict[str, np.ndarray]:
        if initializer.dtype == np.float32 and self.categories > _EXACT_IN_FLOAT32:
            raise ValueError(
                f"categories is {self.categories}, but a float32 model tells apart only "
                f"{_EXACT_IN_FLOAT32}: give it dtype='float64'"
            )
        return {"weight": initializer.normal(self.weight_shape, 1.0)}

    def apply(self, parameters: Mapping[str, Tensor], x: Tensor, training: bool) -> Tensor:
        number, power = element_count(x.shape)
        flat = apply("reshape", x, shape=(1, Rows(number) if power else number))
        # A negative index would count from the end; this one is out of range.
        index = np.where(flat < 0, flat - self.categories, flat)
        table = apply("reshape", parameters["weight"], shape=(1, *self.weight_shape))
        return apply("reshape", apply("take", table, index), shape=(*x.shape, self.features))

    def check_input(self, x: Any, name: str) -> None:
        if not isinstance(x, np.ndarray):
            raise TypeError(f"Embedding takes one array, but {name} has several")
        wrong = ~((x >= 0) & (x < self.categories))
        if x.dtype.kind == "f":
            wrong |= x != np.floor(x)
        if np.any(wrong):
            row = int(np.argwhere(wrong)[0][0])
            raise ValueError(
                f"{name} has {x[wrong][0]} in row {row}, but the categories of Embedding are the "
                f"integers in [0, {self.categories})"
            )

    def penalty(self, parameters: Mapping[str, Tensor]) -> Tensor | None:
        return weight_penalty(parameters["weight"], self.l1, self.l2)
