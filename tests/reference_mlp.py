"""A multi-layer perceptron in plain NumPy, written from the textbook, to hold training against."""

from __future__ import annotations

import numpy as np


def _relu(z):
    return np.maximum(z, 0.0), (z > 0).astype(z.dtype)


def _tanh(z):
    y = np.tanh(z)
    return y, 1.0 - y**2


def _sigmoid(z):
    y = 1.0 / (1.0 + np.exp(-z))
    return y, y * (1.0 - y)


ACTIVATIONS = {"relu": _relu, "tanh": _tanh, "sigmoid": _sigmoid}


def _cross_entropy(z, labels, weights):
    shifted = z - z.max(axis=1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    rows = np.arange(len(z))
    share = weights / weights.sum()
    delta = np.exp(log_p)
    delta[rows, labels] -= 1.0
    return -(share * log_p[rows, labels]).sum(), delta * share[:, None]


def _mse(z, target, weights):
    share = weights / weights.sum()
    error = z - target
    loss = (share * (error**2).mean(axis=1)).sum()
    return loss, 2.0 * error * share[:, None] / error.shape[1]


LOSSES = {"cross_entropy": _cross_entropy, "mse": _mse}


class SGD:
    """PyTorch's SGD."""

    def __init__(self, lr, momentum=0.0, nesterov=False, weight_decay=0.0):
        self.lr, self.momentum, self.nesterov = lr, momentum, nesterov
        self.weight_decay = weight_decay
        self.velocity = {}

    def step(self, parameters, gradients):
        for name, g in gradients.items():
            g = g + self.weight_decay * parameters[name]
            if self.momentum:
                v = self.velocity.get(name, np.zeros_like(g)) * self.momentum + g
                self.velocity[name] = v
                g = g + self.momentum * v if self.nesterov else v
            parameters[name] -= self.lr * g


class Adam:
    """PyTorch's Adam, and AdamW with ``decoupled``."""

    def __init__(self, lr, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, decoupled=False):
        self.lr, self.beta1, self.beta2, self.eps = lr, beta1, beta2, eps
        self.weight_decay, self.decoupled = weight_decay, decoupled
        self.m, self.v, self.t = {}, {}, 0

    def step(self, parameters, gradients):
        self.t += 1
        for name, g in gradients.items():
            if self.decoupled:
                parameters[name] *= 1.0 - self.lr * self.weight_decay
            else:
                g = g + self.weight_decay * parameters[name]
            self.m[name] = self.beta1 * self.m.get(name, 0.0) + (1 - self.beta1) * g
            self.v[name] = self.beta2 * self.v.get(name, 0.0) + (1 - self.beta2) * g**2
            m = self.m[name] / (1 - self.beta1**self.t)
            v = self.v[name] / (1 - self.beta2**self.t)
            parameters[name] -= self.lr * m / (np.sqrt(v) + self.eps)


def loss_and_gradients(parameters, activation, loss, x, y, weights=None):
    """The loss of a net with parameters "0.weight", "0.bias", "2.weight", ... and its gradients."""
    if weights is None:
        weights = np.ones(len(x))
    layers = sorted({int(name.split(".")[0]) for name in parameters})
    values, slopes = [x], []
    for i in layers:
        z = values[-1] @ parameters[f"{i}.weight"] + parameters[f"{i}.bias"]
        if i == layers[-1]:
            total, delta = LOSSES[loss](z, y, weights)
        else:
            value, slope = ACTIVATIONS[activation](z)
            values.append(value)
            slopes.append(slope)
    gradients = {}
    for depth, i in reversed(list(enumerate(layers))):
        gradients[f"{i}.weight"] = values[depth].T @ delta
        gradients[f"{i}.bias"] = delta.sum(axis=0)
        if depth:
            delta = (delta @ parameters[f"{i}.weight"].T) * slopes[depth - 1]
    return total, gradients


def train(parameters, activation, loss, optimizer, x, y, batches, weights=None):
    """Updates the parameters batch by batch; returns the loss of each before its update."""
    losses = []
    for rows in batches:
        w = None if weights is None else weights[rows]
        value, gradients = loss_and_gradients(parameters, activation, loss, x[rows], y[rows], w)
        optimizer.step(parameters, gradients)
        losses.append(value)
    return np.array(losses)
