"""Weights packed once for a model that predicts again and again."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from dlcore import config
from dlcore.graph.lower import CompiledPlan

# Predictions with the same parameters before these are packed: to pack takes 1 to 3 times as long
# as the products of up to 32 rows, and saves 3 to 30% of them; of more rows both are less.
CALLS_BEFORE_PACKING = 16


@dataclass
class _Predictions:
    """Those by one plan since the parameters last changed."""

    plan: CompiledPlan
    parameters: Mapping[str, np.ndarray]
    calls: int = 0
    is_packing: bool = False  # or has packed, or has found no memory for it
    packed: np.ndarray | None = None


class PackedWeights:
    """A model's weights as the products of the plan that predicts read them.

    Kept for one plan at a time. Several threads may ask at once.
    """

    def __init__(self) -> None:
        self._predictions: _Predictions | None = None

    def outdate(self) -> None:
        """Forgets what was packed: the parameters have changed."""
        self._predictions = None

    def find(
        self,
        plan: CompiledPlan,
        parameters: Mapping[str, np.ndarray],
        bindings: Mapping[str, np.ndarray],
    ) -> np.ndarray | None:
        """The packed weights for a run of the plan, or None where they are not worth it (yet).

        ``bindings`` hold the arrays of ``parameters``.
        """
        if not config.pack_weights:
            self.outdate()
            return None
        if plan.packed_bytes == 0:
            return None
        known = self._predictions
        if known is None or known.plan is not plan or known.parameters is not parameters:
            known = self._predictions = _Predictions(plan, parameters)
        known.calls += 1
        if known.calls > CALLS_BEFORE_PACKING and not known.is_packing:
            known.is_packing = True
            with suppress(MemoryError):
                known.packed = plan.pack(bindings)
        return known.packed
