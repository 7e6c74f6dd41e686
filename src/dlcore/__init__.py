"""dlcore: train and run small and medium neural networks and regressions on CPUs.

>>> import numpy as np
>>> import dlcore as dl
>>> dl.ops.relu(np.array([-1.0, 2.0]))
array([0., 2.])
"""

from __future__ import annotations

import importlib
from typing import Any

from dlcore.errors import DivergenceError, DlcoreError

__version__ = "0.1.0"

_MODULES = ("config", "estimators", "graph", "io", "nn", "ops", "optim", "random", "train")
_NAMES = {
    "LinearRegression": "dlcore.estimators",
    "MLPClassifier": "dlcore.estimators",
    "MLPRegressor": "dlcore.estimators",
    **dict.fromkeys(
        (
            "custom_gradient",
            "grad",
            "hessian",
            "hvp",
            "jacobian",
            "jit",
            "stop_gradient",
            "value_and_grad",
        ),  # fmt: skip
        "dlcore.transforms",
    ),
    "check_grad": "dlcore.gradient_check",
    "load": "dlcore.io.model_file",
    "minimize": "dlcore.descent",
    "set_num_threads": "dlcore._native",
    "get_num_threads": "dlcore._native",
    "config_info": "dlcore.config",
    "show_config": "dlcore.config",
    "get_include": "dlcore.config",
    "get_library_dir": "dlcore.config",
}

__all__ = ["DivergenceError", "DlcoreError", "__version__", *_MODULES, *_NAMES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        value: Any = importlib.import_module(f"dlcore.{name}")
    elif name in _NAMES:
        value = getattr(importlib.import_module(_NAMES[name]), name)
    else:
        raise AttributeError(f"module 'dlcore' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
