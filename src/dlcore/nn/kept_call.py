"""What a model keeps of a prediction for the next one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlcore import config
from dlcore._calls import BatchCall
from dlcore.graph.lower import CompiledPlan


@dataclass(frozen=True)
class KeptCall:
    """The plan of ``predict`` for arrays of one dtype and sample shape, bound to the parameters."""

    call: BatchCall
    plan: CompiledPlan
    bindings: Mapping[str, np.ndarray]
    flags: tuple[bool, bool, str]

    @classmethod
    def of(
        cls,
        plan: CompiledPlan,
        bindings: dict[str, np.ndarray],
        parameters: object,
        revision: int,
        flags: tuple[bool, bool, str],
    ) -> KeptCall | None:
        """None where a call would have to copy what a layer holds.

        bindings: what the prediction at hand was bound to, with rows ``x`` and ``prediction``.
        revision, flags: ``calls_revision`` and ``plan_flags`` of before the plan was looked up.
        """
        call = plan.call_of_rows(BatchCall, bindings, "x", "prediction", parameters, revision)
        if call is None:
            return None
        # of the caller's arrays only what they are like is kept
        empty = {name: bindings[name][:0].copy() for name in ("x", "prediction")}
        return cls(call, plan, {**bindings, **empty}, flags)

    def fits(self, x: Any, parameters: object) -> bool:
        """Whether it is right for these rows, while the model's parameters are in these arrays."""
        return self.call.fits(x, parameters) and self.flags == config.plan_flags()
