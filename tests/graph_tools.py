"""Running graphs natively in tests, and derivatives by finite differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from dlcore.graph import table  # noqa: F401
from dlcore.graph.lower import CompiledPlan, compile_plan
from dlcore.graph.shape import ROWS, concrete
from dlcore.graph.tensor import Slot, Tensor, leaf, topological


def fixed_leaf(name: str, array: np.ndarray) -> Tensor:
    """A leaf for an array whose shape does not depend on the rows."""
    return leaf(Slot(name, "fixed", array.dtype, array.shape))


def row_leaf(name: str, array: np.ndarray) -> Tensor:
    """A leaf for an array with a row for each row of the run."""
    return leaf(Slot(name, "stream", array.dtype, (ROWS, *array.shape[1:])))


def compile_outputs(
    outputs: list[Tensor], *, capacity: int, fusion: bool = True, schedule: Any = None
) -> tuple[CompiledPlan, list[Slot]]:
    slots = [
        Slot(f"out{i}", "stream" if _has_rows(node) else "step", node.storage, node.shape, True)
        for i, node in enumerate(outputs)
    ]
    stores = list(zip(slots, outputs, strict=True))
    plan = compile_plan(stores, capacity=capacity, fusion=fusion, schedule=schedule)
    return plan, slots


def run_native(
    outputs: list[Tensor],
    feed: dict[Tensor, np.ndarray],
    *,
    rows: int,
    capacity: int | None = None,
    fusion: bool = True,
    schedule: Any = None,
    threads: int = 1,
) -> list[np.ndarray]:
    """The outputs by a native plan run for one step of ``rows`` rows."""
    plan, slots = compile_outputs(
        outputs, capacity=capacity or max(rows, 1), fusion=fusion, schedule=schedule
    )
    bindings = {node.attributes["slot"].name: array for node, array in feed.items()}
    results = [np.full(concrete(slot.shape, rows), -77, slot.dtype) for slot in slots]
    bindings |= {slot.name: array for slot, array in zip(slots, results, strict=True)}
    steps, used = plan.run(
        bindings, epoch_rows=rows, batch_rows=rows, step_begin=0, step_end=1, threads=threads
    )
    assert steps == 1
    assert used == threads
    return [got.astype(node.dtype) for got, node in zip(results, outputs, strict=True)]


def _has_rows(node: Tensor) -> bool:
    return bool(node.shape) and node.shape[0] == ROWS


def leaves(outputs: list[Tensor]) -> list[Tensor]:
    return [node for node in topological(outputs) if node.op.name == "slot"]


def numerical_gradient(f: Callable[[np.ndarray], float], x: np.ndarray) -> np.ndarray:
    """The derivative of f at x by five-point central differences (error of order h**4)."""
    gradient = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        h = 1e-3 * max(1.0, abs(x[index]))

        def at(step: float, index: tuple[int, ...] = index, h: float = h) -> float:
            moved = x.copy()
            moved[index] += step * h
            return f(moved)

        gradient[index] = (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * h)
    return gradient


def assert_gradients_close(got: np.ndarray, expected: np.ndarray, rtol: float = 1e-6) -> None:
    """Relative to the largest derivative; NaN, and zeros where there are none, fail."""
    assert got.shape == expected.shape
    assert np.all(np.isfinite(got))
    scale = np.max(np.abs(expected), initial=0.0)
    assert np.max(np.abs(got - expected), initial=0.0) <= rtol * max(scale, 1e-3)
