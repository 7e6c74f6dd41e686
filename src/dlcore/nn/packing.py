"""Weights packed once for a model that predicts again and again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dlcore.graph.lower import CompiledPlan

# Predictions with the same parameters before these are packed: to pack takes 1 to 3 times as long
# as the products of up to 32 rows, and saves 3 to 30% of them; of more rows both are less.
CALLS_BEFORE_PACKING = 16


@dataclass
class _Predictions:
    """Those by one plan since the parameters last changed."""

    plan: CompiledPlan
    calls: int = 0
    packed: np.ndarray | None = None


class PackedWeights:
    """A model's weights as the products of the plan that predicts read them.

    Kept for one plan at a time. Several threads may ask at once; the worst is that both pack.
    """

    def __init__(self) -> None:
        self._predictions: _Predictions | None = None

    def outdate(self) -> None:
        """Forgets what was packed: the parameters have changed."""
        self._predictions = None

    def find(self, plan: CompiledPlan, bindings: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """The packed weights for a run of the plan, or None where they are not worth it yet."""
        predictions = self._predictions
        if predictions is None or predictions.plan is not plan:
            predictions = self._predictions = _Predictions(plan)
        predictions.calls += 1
        if predictions.packed is None and predictions.calls > CALLS_BEFORE_PACKING:
            predictions.packed = plan.pack(bindings)
        return predictions.packed
