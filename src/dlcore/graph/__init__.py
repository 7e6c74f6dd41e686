"""The computation graph, and the way from it to native plans."""

from dlcore.graph import numpy_functions, table

__all__ = ["numpy_functions", "table"]
