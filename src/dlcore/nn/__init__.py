"""Layers, losses and models."""

from dlcore.nn import losses
from dlcore.nn.activations import (
    ELU,
    GELU,
    Hardswish,
    LeakyReLU,
    Mish,
    PReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from dlcore.nn.containers import Chain, Container, Parallel, Residual
from dlcore.nn.embedding import Embedding
from dlcore.nn.layers import Dropout, Flatten, Identity, Layer, Linear
from dlcore.nn.normalisation import BatchNorm, LayerNorm
from dlcore.nn.sequential import Sequential

__all__ = [
    "ELU",
    "GELU",
    "BatchNorm",
    "Chain",
    "Container",
    "Dropout",
    "Embedding",
    "Flatten",
    "Hardswish",
    "Identity",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "Mish",
    "PReLU",
    "Parallel",
    "ReLU",
    "Residual",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "losses",
]
