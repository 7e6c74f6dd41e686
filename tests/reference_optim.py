"""The optimisers as their papers and PyTorch's documentation write them, in plain NumPy float64.

Each class takes the options of dlcore's optimiser of the same name. ``step`` changes the arrays of
``parameters`` in place.
"""

from __future__ import annotations

from fnmatch import fnmatchcase

import numpy as np


def clip(gradients, value=None, norm=None, global_norm=None):
    """torch.nn.utils.clip_grad_value_, then clip_grad_norm_ of each gradient or of all of them."""
    if value is not None:
        gradients = {k: np.clip(g, -value, value) for k, g in gradients.items()}
    if norm is not None:
        gradients = {k: g * _scale([g], norm) for k, g in gradients.items()}
    if global_norm is not None:
        scale = _scale(gradients.values(), global_norm)
        gradients = {k: g * scale for k, g in gradients.items()}
    return gradients


def _scale(gradients, largest):
    total = np.sqrt(sum(np.sum(np.asarray(g, np.float64) ** 2) for g in gradients))
    return np.minimum(1.0, largest / (total + 1e-6))


class Reference:
    decoupled = False

    def __init__(
        self,
        lr,
        *,
        weight_decay=0.0,
        decay_mask=None,
        clip_value=None,
        clip_norm=None,
        clip_global_norm=None,
        average=None,
        **options,
    ):
        self.lr = lr
        self.weight_decay, self.decay_mask = weight_decay, decay_mask
        self.clipping = clip_value, clip_norm, clip_global_norm
        self.average, self.averages = average, {}
        self.state, self.t = {}, 0
        for name, value in options.items():
            setattr(self, name, value)

    def decay_of(self, name):
        mask = ["*"] if self.decay_mask is None else self.decay_mask
        return self.weight_decay * any(fnmatchcase(name, pattern) for pattern in mask)

    def step(self, parameters, gradients):
        self.t += 1
        for name, g in clip(gradients, *self.clipping).items():
            p = parameters[name]
            mean = self.averages.setdefault(name, p.copy())
            state = self.state.setdefault(name, {})
            g = np.asarray(g, np.float64)
            if self.decoupled:
                p *= 1.0 - self.lr * self.decay_of(name)
            else:
                g = g + self.decay_of(name) * p
            p -= self.change(g, state)
            if self.average is not None:
                mean[...] = self.average * mean + (1.0 - self.average) * p

    def change(self, g, s):
        """What is subtracted from the parameter; ``s`` is its state, empty at first."""
        raise NotImplementedError

    def moments(self, g, s):
        s["m"] = self.beta1 * s.get("m", 0.0) + (1 - self.beta1) * g
        s["v"] = self.beta2 * s.get("v", 0.0) + (1 - self.beta2) * g**2
        return s["m"], s["v"]


class SGD(Reference):
    momentum, nesterov = 0.0, False

    def change(self, g, s):
        if not self.momentum:
            return self.lr * g
        s["b"] = self.momentum * s["b"] + g if "b" in s else g
        return self.lr * (g + self.momentum * s["b"] if self.nesterov else s["b"])


class Adam(Reference):
    beta1, beta2, eps, amsgrad = 0.9, 0.999, 1e-8, False

    def change(self, g, s):
        m, v = self.moments(g, s)
        if self.amsgrad:
            v = s["largest"] = np.maximum(s.get("largest", 0.0), v)
        m_hat, v_hat = m / (1 - self.beta1**self.t), v / (1 - self.beta2**self.t)
        return self.lr * m_hat / (np.sqrt(v_hat) + self.eps)


class AdamW(Adam):
    decoupled = True


class NAdam(Reference):
    beta1, beta2, eps, momentum_decay = 0.9, 0.999, 1e-8, 4e-3
    decoupled_weight_decay = False

    @property
    def decoupled(self):
        return self.decoupled_weight_decay

    def mu(self, t):
        return self.beta1 * (1 - 0.5 * 0.96 ** (t * self.momentum_decay))

    def change(self, g, s):
        m, v = self.moments(g, s)
        s["product"] = s.get("product", 1.0) * self.mu(self.t)
        following = self.mu(self.t + 1)
        m_hat = following * m / (1 - s["product"] * following)
        m_hat = m_hat + (1 - self.mu(self.t)) * g / (1 - s["product"])
        return self.lr * m_hat / (np.sqrt(v / (1 - self.beta2**self.t)) + self.eps)


class RAdam(Reference):
    beta1, beta2, eps = 0.9, 0.999, 1e-8
    decoupled_weight_decay = False

    @property
    def decoupled(self):
        return self.decoupled_weight_decay

    def change(self, g, s):
        m, v = self.moments(g, s)
        m_hat = m / (1 - self.beta1**self.t)
        rho_inf = 2 / (1 - self.beta2) - 1
        rho = rho_inf - 2 * self.t * self.beta2**self.t / (1 - self.beta2**self.t)
        if rho <= 5:
            return self.lr * m_hat
        r = np.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
        return self.lr * m_hat * r * np.sqrt(1 - self.beta2**self.t) / (np.sqrt(v) + self.eps)


class RMSprop(Reference):
    alpha, eps, momentum, centered = 0.99, 1e-8, 0.0, False

    def change(self, g, s):
        s["v"] = self.alpha * s.get("v", 0.0) + (1 - self.alpha) * g**2
        v = s["v"]
        if self.centered:
            s["mean"] = self.alpha * s.get("mean", 0.0) + (1 - self.alpha) * g
            v = v - s["mean"] ** 2
        scaled = g / (np.sqrt(v) + self.eps)
        if not self.momentum:
            return self.lr * scaled
        s["b"] = self.momentum * s.get("b", 0.0) + scaled
        return self.lr * s["b"]


class Adagrad(Reference):
    lr_decay, initial_accumulator_value, eps = 0.0, 0.0, 1e-10

    def change(self, g, s):
        s["sum"] = s.get("sum", self.initial_accumulator_value) + g**2
        rate = self.lr / (1 + (self.t - 1) * self.lr_decay)
        return rate * g / (np.sqrt(s["sum"]) + self.eps)


class Adadelta(Reference):
    rho, eps = 0.9, 1e-6

    def change(self, g, s):
        s["v"] = self.rho * s.get("v", 0.0) + (1 - self.rho) * g**2
        delta = np.sqrt(s.get("u", 0.0) + self.eps) / np.sqrt(s["v"] + self.eps) * g
        s["u"] = self.rho * s.get("u", 0.0) + (1 - self.rho) * delta**2
        return self.lr * delta


class Lion(Reference):
    beta1, beta2, decoupled = 0.9, 0.99, True

    def change(self, g, s):
        m = s.get("m", 0.0)
        s["m"] = self.beta2 * m + (1 - self.beta2) * g
        return self.lr * np.sign(self.beta1 * m + (1 - self.beta1) * g)
