"""First values of weights."""

from __future__ import annotations

import math

import numpy as np

from dlcore.random import Initializer

# Variance of a weight times the fan that it is divided by: LeCun et al., Efficient BackProp, 1998;
# Glorot and Bengio, Understanding the difficulty of training deep feedforward neural networks,
# 2010; He et al., Delving deep into rectifiers, 2015.
_VARIANCE = {"lecun": 1.0, "glorot": 1.0, "he": 2.0}

NAMES = tuple(f"{family}_{kind}" for family in _VARIANCE for kind in ("uniform", "normal"))


def check_name(name: str) -> None:
    """Raises ValueError unless there is an initialiser of that name."""
    if name not in NAMES:
        raise ValueError(f"weight_init must be one of {', '.join(NAMES)}, not {name!r}")


def draw(name: str, random: Initializer, fan_in: int, fan_out: int) -> np.ndarray:
    """A weight matrix (fan_in, fan_out)."""
    family, kind = name.split("_")
    fan = (fan_in + fan_out) / 2 if family == "glorot" else fan_in
    variance = _VARIANCE[family] / max(fan, 1)
    if kind == "uniform":
        return random.uniform((fan_in, fan_out), math.sqrt(3.0 * variance))
    return random.normal((fan_in, fan_out), math.sqrt(variance))
