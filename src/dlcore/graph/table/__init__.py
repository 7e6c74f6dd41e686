"""The op table: one entry per op with its shape rule, gradient rule and lowering."""

from dlcore.graph.table import contraction, elementwise, indexing, loss, shaping, sources

__all__ = ["contraction", "elementwise", "indexing", "loss", "shaping", "sources"]
