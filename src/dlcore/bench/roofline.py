"""The roofline picture: what each row reaches under the roofs of arithmetic and of memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np


def draw(path: Path, report: Mapping[str, Any]) -> None:
    """Write a picture with one panel for each thread count and dtype of a report."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = [
        (contest, dtype, rows)
        for contest in report["contests"]
        if contest["roofs"]
        for dtype in ("float32", "float64")
        if (rows := _rows(report, contest["threads"], dtype))
    ]
    figure, axes = pyplot.subplots(
        1, max(1, len(panels)), figsize=(6 * max(1, len(panels)), 5), squeeze=False
    )
    for axis, (contest, dtype, rows) in zip(axes[0], panels, strict=False):
        _draw_panel(axis, contest, dtype, rows)
    figure.suptitle(f"{report['machine']['cpu']}, {report['machine']['date']}")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _rows(report: Mapping[str, Any], threads: int, dtype: str) -> list[Mapping[str, Any]]:
    """The sizes whose operations and bytes are counted."""
    return [
        row["nominal"]
        for row in report["rows"]
        if row["threads"] == threads and row["dtype"] == dtype
        if row["nominal"]["flops"] and row["nominal"]["bytes"]
    ]


def _draw_panel(axis: Any, contest: Mapping[str, Any], dtype: str, rows: Any) -> None:
    peak = contest["roofs"][f"fma {dtype}"]
    intensity = np.logspace(-1.5, 3, 200)
    for roof, style in (("copy", "-"), ("copy in L2", "--")):
        height = np.minimum(peak, contest["roofs"][roof] * intensity)
        axis.loglog(intensity, height / 1e9, color="black", linestyle=style, label=roof)
    for name in dict.fromkeys(name for row in rows for name in row["seconds"]):
        taking_part = [row for row in rows if name in row["seconds"]]
        axis.scatter(
            [row["flops"] / row["bytes"] for row in taking_part],
            [row["flops"] / median(row["seconds"][name]) / 1e9 for row in taking_part],
            label=name,
            s=40 if name == "dlcore" else 15,
            zorder=3 if name == "dlcore" else 2,
        )
    axis.set_title(f"{dtype}, {contest['threads']} thread{'s' * (contest['threads'] > 1)}")
    axis.set_xlabel("operations per byte that has to be moved")
    axis.set_ylabel("GFLOP/s")
    axis.grid(True, which="both", alpha=0.2)
    axis.legend()
