"""dl.ops in traced functions: the values that they give for arrays, and gradients."""

from __future__ import annotations

import numpy as np
import pytest

import dlcore as dl

RNG = np.random.default_rng(0)
X, W, B = RNG.normal(size=(6, 4)), RNG.normal(size=(4, 3)), RNG.normal(size=3)
POSITIVE = RNG.uniform(0.5, 2.0, (6, 4))
TARGET = RNG.uniform(0.1, 0.9, (6, 4))
WEIGHT = RNG.uniform(0.5, 2.0, 6)
LABELS = np.array([0, 3, 1, 1, 2, 0])
ACTIVATIONS = [
    "identity", "relu", "leaky_relu", "elu", "sigmoid", "tanh", "gelu", "silu", "softplus"
]  # fmt: skip

CASES = {
    **{
        name: (getattr(dl.ops, name), (X,))
        for name in ("relu", "leaky_relu", "elu", "sigmoid", "tanh", "gelu", "silu", "softplus")
    },
    "exp": (dl.ops.exp, (X,)),
    "log": (dl.ops.log, (POSITIVE,)),
    "elu of another alpha": (lambda x: dl.ops.elu(x, 0.3), (X,)),
    "softmax": (dl.ops.softmax, (X,)),
    "softmax of columns": (lambda x: dl.ops.softmax(x, axis=0), (X,)),
    "log_softmax": (dl.ops.log_softmax, (X,)),
    "matmul": (dl.ops.matmul, (X, W)),
    "matmul transposed": (
        lambda a, b: dl.ops.matmul(a, b, transpose_a=True, transpose_b=True), (X, W.T @ X.T)
    ),
    **{
        f"linear {name}": (lambda x, w, b, n=name: dl.ops.linear(x, w, b, activation=n), (X, W, B))
        for name in ACTIVATIONS
    },
    "linear without bias": (lambda x, w: dl.ops.linear(x, w), (X, W)),
    **{
        f"{name} {'weighted' if weight is not None else ''}": (
            lambda p, n=name, w=weight: getattr(dl.ops, n)(p, TARGET, sample_weight=w), (X,)
        )
        for name in ("mse", "mae", "huber", "binary_cross_entropy")
        for weight in (None, WEIGHT)
    },
    "huber of another delta": (lambda p: dl.ops.huber(p, TARGET, delta=0.4), (X,)),
    "cross_entropy": (lambda p: dl.ops.cross_entropy(p, LABELS), (X,)),
    "cross_entropy weighted": (
        lambda p: dl.ops.cross_entropy(p, LABELS, sample_weight=WEIGHT), (X,)
    ),
    "cross_entropy of distributions": (lambda p: dl.ops.cross_entropy(p, TARGET), (X,)),
    "take": (lambda x: dl.ops.take(x, LABELS), (X,)),
    "take of rows": (lambda x: dl.ops.take(x, LABELS[:, None], axis=0), (X,)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_traced_functions_give_what_arrays_give(case):
    f, args = CASES[case]
    got, expected = dl.jit(f)(*args), f(*args)
    assert np.any(np.asarray(expected) != 0)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-14)
    assert np.shape(got) == np.shape(expected)


@pytest.mark.parametrize("case", CASES)
def test_traced_functions_have_gradients(case):
    f, args = CASES[case]
    weights = np.random.default_rng(1).uniform(0.5, 1.5, np.shape(f(*args)))
    assert dl.check_grad(lambda *args: np.sum(f(*args) * weights), *args) < 1e-7


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_take_reads_arrays_at_traced_indices(axis):
    """Which np.take cannot: it asks the array alone what to do. Captured arrays are read anew."""
    table = X.copy()
    f = dl.jit(lambda i: dl.ops.take(table, i + 1, axis=axis))
    indices = np.array([[0, 2], [-3, 1]])
    for _ in range(2):
        np.testing.assert_array_equal(f(indices), np.take(table, indices + 1, axis))
        table *= 2
    np.testing.assert_array_equal(dl.ops.take(table, indices, axis=axis), table.take(indices, axis))


def test_a_layer_of_ops_is_one_record():
    f = dl.jit(lambda x, w, b: dl.ops.linear(x, w, b, activation="gelu"))
    f(X, W, B)
    assert "matmul + add gelu" in f.plan_summary()


def test_what_a_trace_cannot_do_is_refused():
    with pytest.raises(TypeError, match="out= would write a traced value"):
        dl.jit(lambda x: dl.ops.relu(x, out=np.empty(3)))(np.ones(3))
    with pytest.raises(ValueError, match=r"target has shape \(6,\), but pred has \(6, 4\)"):
        dl.jit(lambda x: dl.ops.mse(x, x[:, 0]))(X)
    with pytest.raises(ValueError, match=r"sample_weight has shape \(5,\)"):
        dl.jit(lambda x: dl.ops.mse(x, TARGET, sample_weight=WEIGHT[:5]))(X)
