"""Estimators with scikit-learn's interface; they need the extra ``sklearn``."""

try:
    import sklearn  # noqa: F401
except ImportError as error:
    raise ImportError(
        "dlcore's estimators need scikit-learn: pip install 'dlcore[sklearn]'"
    ) from error

from dlcore.estimators.linear import LinearRegression
from dlcore.estimators.mlp import MLPClassifier, MLPRegressor

__all__ = ["LinearRegression", "MLPClassifier", "MLPRegressor"]
