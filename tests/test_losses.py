"""Losses against formulas of their own, scikit-learn, PyTorch and central differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special, stats
from sklearn import metrics
from sklearn._loss import loss as sklearn_loss

import dlcore as dl
from dlcore.nn import losses
from graph_tools import assert_gradients_close, numerical_gradient

nn = dl.nn
RNG = np.random.default_rng(0)
N = 11
Z = RNG.normal(size=(N, 3)) * 2
TARGET = Z + RNG.choice([-3.0, -0.6, 0.4, 2.5], (N, 3))
COUNTS = RNG.poisson(2.0, (N, 3)).astype(np.float64)
POSITIVE = RNG.gamma(2.0, 1.0, (N, 3)) + 0.05
LABELS = RNG.integers(0, 3, N)
BINARY = RNG.integers(0, 2, (N, 3)).astype(np.float64)
SOFT = RNG.dirichlet(np.ones(3), N)
MEANS_AND_LOGS = np.hstack([Z, RNG.normal(size=(N, 3))])


def cross_entropy(z, target, smoothing=0.0):
    if target.ndim == 1:
        target = np.eye(z.shape[1])[target]
    target = (1 - smoothing) * target + smoothing / z.shape[1]
    return -np.sum(target * special.log_softmax(z, axis=1), axis=1)


def binary_cross_entropy(z, t, pos_weight=1.0):
    return -pos_weight * t * special.log_expit(z) - (1 - t) * special.log_expit(-z)


def focal(z, t, gamma=2.0, alpha=0.25):
    p = np.where(t == 1, special.expit(z), special.expit(-z))
    share = 1.0 if alpha is None else np.where(t == 1, alpha, 1 - alpha)
    return -share * (1 - p) ** gamma * np.log(p)


def gaussian_nll(z, t, full=False):
    mean, log_variance = z[:, :3], z[:, 3:]
    result = 0.5 * (log_variance + (t - mean) ** 2 / np.exp(log_variance))
    return result + 0.5 * np.log(2 * np.pi) if full else result


def huber(z, t, delta=1.0):
    return special.huber(delta, z - t)


def pinball(z, t, q=0.5):
    return np.maximum(q * (t - z), (q - 1) * (t - z))


def tweedie(z, t, p):
    m = np.exp(z)
    return m ** (2 - p) / (2 - p) - t * m ** (1 - p) / (1 - p)


def cosine(z, t):
    return 1 - np.sum(z * t, 1) / np.linalg.norm(z, axis=1) / np.linalg.norm(t, axis=1)


def hinge(z, t):
    return np.maximum(0, 1 - z * np.where(t > 0, 1, -1))


# the loss, a prediction, a target that it takes, and the loss of each element or row in NumPy
CASES = {
    "mse": ("mse", Z, TARGET, lambda z, t: (z - t) ** 2),
    "mae": ("mae", Z, TARGET, lambda z, t: np.abs(z - t)),
    "huber": ("huber", Z, TARGET, huber),
    "huber delta": (losses.Huber(delta=2.0), Z, TARGET, lambda z, t: huber(z, t, 2.0)),
    "log_cosh": ("log_cosh", Z, TARGET, lambda z, t: np.log(np.cosh(z - t))),
    "quantile": ("quantile", Z, TARGET, pinball),
    "quantile q": (losses.Quantile(0.9), Z, TARGET, lambda z, t: pinball(z, t, 0.9)),
    "poisson": ("poisson", Z, COUNTS, lambda z, t: np.exp(z) - t * z),
    "gamma": ("gamma", Z, POSITIVE, lambda z, t: z + t / np.exp(z)),
    "tweedie": ("tweedie", Z, COUNTS, lambda z, t: tweedie(z, t, 1.5)),
    "tweedie -1": (losses.Tweedie(-1.0), Z, TARGET, lambda z, t: tweedie(z, t, -1.0)),
    "tweedie 0": (losses.Tweedie(0), Z, TARGET, lambda z, t: (np.exp(z) - t) ** 2 / 2),
    "tweedie 1": (losses.Tweedie(1), Z, COUNTS, lambda z, t: np.exp(z) - t * z),
    "tweedie 2": (losses.Tweedie(2), Z, POSITIVE, lambda z, t: z + t / np.exp(z)),
    "tweedie 3": (losses.Tweedie(3), Z, POSITIVE, lambda z, t: tweedie(z, t, 3.0)),
    "cross_entropy": ("cross_entropy", Z, LABELS, cross_entropy),
    "cross_entropy soft": ("cross_entropy", Z, SOFT, cross_entropy),
    "smoothed": (
        losses.CrossEntropy(label_smoothing=0.2), Z, LABELS, lambda z, t: cross_entropy(z, t, 0.2),
    ),
    "smoothed soft": (
        losses.CrossEntropy(label_smoothing=0.2), Z, SOFT, lambda z, t: cross_entropy(z, t, 0.2),
    ),
    "binary_cross_entropy": ("binary_cross_entropy", Z, BINARY, binary_cross_entropy),
    "multilabel": ("multilabel", Z, SOFT, binary_cross_entropy),
    "pos_weight": (
        losses.BinaryCrossEntropy(pos_weight=3.0), Z, BINARY,
        lambda z, t: binary_cross_entropy(z, t, 3.0),
    ),
    "pos_weight each": (
        losses.BinaryCrossEntropy(pos_weight=[0.5, 1.0, 4.0]), Z, SOFT,
        lambda z, t: binary_cross_entropy(z, t, np.array([0.5, 1.0, 4.0])),
    ),
    "focal": ("focal", Z, BINARY, focal),
    "focal gamma": (
        losses.Focal(gamma=0.5, alpha=None), Z, BINARY, lambda z, t: focal(z, t, 0.5, None),
    ),
    "hinge": ("hinge", Z, BINARY, hinge),
    "hinge signs": ("hinge", Z, 2 * BINARY - 1, hinge),
    "gaussian_nll": ("gaussian_nll", MEANS_AND_LOGS, TARGET, gaussian_nll),
    "gaussian_nll full": (
        losses.GaussianNLL(full=True), MEANS_AND_LOGS, TARGET, lambda z, t: gaussian_nll(z, t, True)
    ),
    "cosine": ("cosine", Z, TARGET, cosine),
}  # fmt: skip
every_case = pytest.mark.parametrize("case", CASES)


def by_rows(elements):
    return elements.reshape(len(elements), -1).mean(axis=1)


def step(loss, start, x, y, *, rate=1.0, weight=None, batch_size=None):
    """The loss of a step of gradient descent of a linear model, and what it moves."""
    model = nn.Sequential(nn.Linear(*start["0.weight"].shape), dtype="float64")
    model.set_parameters(start)
    history = model.fit(
        x, y, loss=loss, optimizer=dl.optim.SGD(rate), batch_size=batch_size or len(x), epochs=1,
        sample_weight=weight, shuffle=False,
    )  # fmt: skip
    moved = {name: value - model.parameters()[name] for name, value in start.items()}
    return history["loss"][0], moved


def linear_start(z):
    """A linear model that gives z for the identity matrix."""
    return {"0.weight": z.copy(), "0.bias": np.zeros(z.shape[1])}


def test_every_name_has_a_case():
    named = {loss for loss, *_ in CASES.values() if isinstance(loss, str)}
    assert named == set(losses.LOSSES)


@every_case
def test_called_with_arrays_it_is_the_formula(case):
    loss, z, t, reference = CASES[case]
    measure = losses.find(loss)
    rows = by_rows(reference(z, t))
    np.testing.assert_allclose(measure(z, t), rows.mean(), rtol=1e-10)
    weight = RNG.uniform(0.2, 2.0, N)
    expected = np.average(rows, weights=weight)
    np.testing.assert_allclose(measure(z, t, sample_weight=weight), expected, rtol=1e-10)
    single = measure(z.astype(np.float32), t.astype(np.float32) if t.dtype.kind == "f" else t)
    np.testing.assert_allclose(single, rows.mean(), rtol=2e-5, atol=2e-6)


@every_case
def test_its_gradient_is_that_of_central_differences(case):
    loss, z, t, _ = CASES[case]
    measure = losses.find(loss)
    assert dl.check_grad(lambda z: measure(z, t), z) < 1e-6


@every_case
def test_fit_minimises_it(case):
    """The history has the mean, and a step moves the parameters by the gradient of the formula."""
    loss, z, t, reference = CASES[case]
    value, moved = step(loss, linear_start(z), np.eye(N), t)
    np.testing.assert_allclose(value, by_rows(reference(z, t)).mean(), rtol=1e-10)
    expected = numerical_gradient(lambda w: by_rows(reference(w, t)).mean(), z)
    assert_gradients_close(moved["0.weight"], expected, 1e-6)
    np.testing.assert_allclose(moved["0.bias"], moved["0.weight"].sum(axis=0), atol=1e-13)


@every_case
def test_a_weight_of_two_is_the_row_twice(case):
    loss, z, t, _ = CASES[case]
    twice = np.concatenate([np.arange(N), np.arange(4)])
    weight = np.where(np.arange(N) < 4, 2.0, 1.0)
    weighted = step(loss, linear_start(z), np.eye(N), t, weight=weight)
    repeated = step(loss, linear_start(z), np.eye(N)[twice], t[twice])
    np.testing.assert_allclose(weighted[0], repeated[0], rtol=1e-12)
    for name, value in repeated[1].items():
        np.testing.assert_allclose(weighted[1][name], value, rtol=1e-10, atol=1e-14)


@every_case
def test_batches_are_normalised_by_their_own_weights(case):
    loss, z, t, reference = CASES[case]
    weight = RNG.uniform(0.2, 2.0, N)
    weight[3:6] = 0.0  # a whole batch
    value, _ = step(loss, linear_start(z), np.eye(N), t, rate=0.0, weight=weight, batch_size=3)
    np.testing.assert_allclose(
        value, np.average(by_rows(reference(z, t)), weights=weight), rtol=1e-10
    )


EXPONENTIAL = (losses.Poisson, losses.Gamma, losses.Tweedie)


@pytest.mark.parametrize(
    "case", [case for case in CASES if not isinstance(losses.find(CASES[case][0]), EXPONENTIAL)]
)
@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_large_predictions_are_safe_in_single_precision(case, scale):
    loss, z, t, _ = CASES[case]
    measure = losses.find(loss)
    t = t.astype(np.float32) if t.dtype.kind == "f" else t
    value, gradient = dl.value_and_grad(lambda z: measure(z, t))((z * scale).astype(np.float32))
    assert np.isfinite(value)
    assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("name", ["cross_entropy", "binary_cross_entropy", "focal", "hinge"])
def test_confident_logits_have_the_loss_that_they_should(name):
    measure = losses.find(name)
    if name == "cross_entropy":
        right, wrong, t = [[1e4, -1e4]], [[-1e4, 1e4]], [0]
        np.testing.assert_allclose(measure(wrong, t), 2e4)
    else:
        right, wrong, t = [[1e4]], [[-1e4]], [[1.0]]
        expected = {"focal": 0.25e4, "hinge": 1e4 + 1}.get(name, 1e4)
        np.testing.assert_allclose(measure(wrong, t), expected)
    assert measure(right, t) == 0.0


def test_log_cosh_is_exact_near_zero_and_does_not_overflow():
    measure = losses.LogCosh()
    small = np.array([[1e-8, 1e-4, 0.9999999, 1.0, 1.0000001]])
    expected = np.log1p(2 * np.sinh(small / 2) ** 2)
    for each, wanted in zip(small.ravel(), expected.ravel(), strict=True):
        np.testing.assert_allclose(measure([[each]], [[0.0]]), wanted, rtol=1e-13)
    np.testing.assert_allclose(measure([[1e5]], [[0.0]]), 1e5 - math.log(2), rtol=1e-15)
    np.testing.assert_allclose(
        dl.grad(lambda z: measure(z, np.zeros((1, 5))))(small) * 5, np.tanh(small), rtol=1e-12
    )


def test_gaussian_nll_holds_variances_above_eps():
    """As PyTorch: the value is that of eps, and the derivatives pass."""
    measure = losses.GaussianNLL(eps=1e-4)
    z = np.array([[0.5, -200.0]])
    np.testing.assert_allclose(measure(z, [[0.0]]), 0.5 * (np.log(1e-4) + 0.25 / 1e-4))
    gradient = dl.grad(lambda z: measure(z, np.zeros((1, 1))))(z)
    np.testing.assert_allclose(gradient, [[0.5 / 1e-4, 0.5 * (1 - 0.25 / 1e-4)]])


def test_gaussian_nll_is_the_logarithm_of_a_density():
    mean, deviation, t = 0.3, 1.7, -0.4
    value = losses.GaussianNLL(full=True)([[mean, 2 * np.log(deviation)]], [[t]])
    np.testing.assert_allclose(value, -stats.norm.logpdf(t, mean, deviation), rtol=1e-12)


def test_cosine_of_a_zero_vector_has_no_gradient():
    value, gradient = dl.value_and_grad(lambda z: losses.Cosine()(z, np.ones((1, 3))))(
        np.zeros((1, 3))
    )
    assert value == 1.0
    np.testing.assert_allclose(gradient, np.full((1, 3), -1 / (1e-8 * np.sqrt(3))))


# Others' definitions


@pytest.mark.parametrize(
    ("ours", "theirs", "target"),
    [
        (losses.Poisson(), sklearn_loss.HalfPoissonLoss(), COUNTS),
        (losses.Gamma(), sklearn_loss.HalfGammaLoss(), POSITIVE),
        *(
            (losses.Tweedie(p), sklearn_loss.HalfTweedieLoss(power=p), POSITIVE)
            for p in (-0.5, 0, 1, 1.3, 1.9, 2, 3)
        ),
        (losses.MSE(), None, TARGET),
        (losses.Quantile(0.3), sklearn_loss.PinballLoss(quantile=0.3), TARGET),
    ],
)
def test_losses_of_means_are_those_of_scikit_learn(ours, theirs, target):
    if theirs is None:
        expected = metrics.mean_squared_error(target, Z)
    else:
        expected = theirs.loss(target.ravel(), np.ascontiguousarray(Z.ravel())).mean()
    np.testing.assert_allclose(ours(Z, target), expected, rtol=1e-10)


def test_half_deviances_differ_from_scikit_learns_deviances_by_a_constant():
    """That of the best prediction, log(target)."""
    for p, ours in ((1, losses.Poisson()), (2, losses.Gamma()), (1.5, losses.Tweedie())):
        deviance = metrics.mean_tweedie_deviance(POSITIVE.ravel(), np.exp(Z).ravel(), power=p)
        best = ours(np.log(POSITIVE), POSITIVE)
        np.testing.assert_allclose(2 * (ours(Z, POSITIVE) - best), deviance, rtol=1e-10)


def test_hinge_is_that_of_scikit_learn():
    expected = metrics.hinge_loss(BINARY[:, 0], Z[:, 0])
    np.testing.assert_allclose(losses.Hinge()(Z[:, :1], BINARY[:, :1]), expected, rtol=1e-12)


def torch_cases(torch):
    f = torch.nn.functional
    each = torch.tensor([0.5, 1.0, 4.0], dtype=torch.float64)
    return {
        "mse": f.mse_loss,
        "mae": f.l1_loss,
        "huber": f.huber_loss,
        "huber delta": lambda z, t: f.huber_loss(z, t, delta=2.0),
        "poisson": f.poisson_nll_loss,
        "cross_entropy": f.cross_entropy,
        "cross_entropy soft": f.cross_entropy,
        "smoothed": lambda z, t: f.cross_entropy(z, t, label_smoothing=0.2),
        "smoothed soft": lambda z, t: f.cross_entropy(z, t, label_smoothing=0.2),
        "binary_cross_entropy": f.binary_cross_entropy_with_logits,
        "multilabel": f.binary_cross_entropy_with_logits,
        "pos_weight": lambda z, t: f.binary_cross_entropy_with_logits(
            z, t, pos_weight=torch.tensor(3.0)
        ),
        "pos_weight each": lambda z, t: f.binary_cross_entropy_with_logits(z, t, pos_weight=each),
        "gaussian_nll": lambda z, t: f.gaussian_nll_loss(z[:, :3], t, torch.exp(z[:, 3:])),
        "gaussian_nll full": lambda z, t: f.gaussian_nll_loss(
            z[:, :3], t, torch.exp(z[:, 3:]), full=True
        ),
        "cosine": lambda z, t: (1 - f.cosine_similarity(z, t)).mean(),
    }


@every_case
def test_values_and_gradients_are_those_of_pytorch(case):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    theirs = torch_cases(torch).get(case)
    if theirs is None:
        return  # PyTorch has no such loss
    loss, z, t, _ = CASES[case]
    measure = losses.find(loss)
    tensor = torch.tensor(z, requires_grad=True)
    expected = theirs(tensor, torch.tensor(t))
    expected.backward()
    value, gradient = dl.value_and_grad(lambda z: measure(z, t))(z)
    np.testing.assert_allclose(value, expected.item(), rtol=1e-10)
    np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=1e-9, atol=1e-15)


# Class weights


@pytest.mark.parametrize("given", [{0: 0.5, 2: 3.0}, [0.5, 1.0, 3.0], np.array([0.5, 1.0, 3.0])])
def test_class_weights_multiply_the_sample_weights(given):
    measure = losses.CrossEntropy(class_weight=given)
    table = np.array([0.5, 1.0, 3.0])
    sample_weight = RNG.uniform(0.2, 2.0, N)
    for own in (np.ones(N), sample_weight):
        expected = step("cross_entropy", linear_start(Z), np.eye(N), LABELS,
                        weight=own * table[LABELS])  # fmt: skip
        got = step(measure, linear_start(Z), np.eye(N), LABELS, weight=own)
        np.testing.assert_allclose(got[0], expected[0], rtol=1e-12)
        np.testing.assert_allclose(got[1]["0.weight"], expected[1]["0.weight"], rtol=1e-12)
        called = measure(Z, LABELS, sample_weight=own)
        np.testing.assert_allclose(called, expected[0], rtol=1e-12)
    without = step(measure, linear_start(Z), np.eye(N), LABELS)
    np.testing.assert_allclose(measure(Z, LABELS), without[0], rtol=1e-12)


def test_class_weights_that_leave_nothing_are_refused():
    model = nn.Sequential(nn.Linear(N, 3)).init()
    with pytest.raises(ValueError, match="class_weight is 0 for every row"):
        model.fit(
            np.eye(N), np.zeros(N, int), loss=losses.CrossEntropy(class_weight={0: 0.0}), epochs=1
        )


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint64])
def test_traced_functions_take_labels_of_any_integers(dtype, smoothing):
    measure = losses.CrossEntropy(label_smoothing=smoothing)
    labels = LABELS.astype(dtype)
    expected = cross_entropy(Z, LABELS, smoothing).mean()
    captured = dl.jit(lambda z: measure(z, labels))(Z)
    passed = dl.jit(lambda z, t: measure(z, t))(Z, labels)
    computed = dl.jit(lambda z, t: measure(z, t + 1 - 1))(Z, labels)
    np.testing.assert_allclose([captured, passed, computed], expected, rtol=1e-10)


def test_labels_out_of_range_do_not_pass_in_traced_functions():
    with pytest.raises(ValueError, match=r"label 3 in row 1 of the batch is outside \[0, 3\)"):
        losses.CrossEntropy()(Z[:2], [0, 3])
    for label in (3, -1):
        assert np.isnan(losses.CrossEntropy(label_smoothing=0.1)(Z[:2], [0, label]))


def test_class_weights_are_those_of_pytorch():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    expected = torch.nn.functional.cross_entropy(
        torch.tensor(Z), torch.tensor(LABELS), weight=torch.tensor([0.5, 1.0, 3.0]).double()
    )
    measure = losses.CrossEntropy(class_weight=[0.5, 1.0, 3.0])
    np.testing.assert_allclose(measure(Z, LABELS), expected.item(), rtol=1e-10)


def test_class_weights_of_distributions_are_means_under_them():
    measure = losses.CrossEntropy(class_weight=[0.5, 1.0, 3.0])
    hard = np.eye(3)[LABELS]
    np.testing.assert_allclose(measure(Z, hard), measure(Z, LABELS), rtol=1e-12)
    expected = np.average(cross_entropy(Z, SOFT), weights=SOFT @ [0.5, 1.0, 3.0])
    np.testing.assert_allclose(measure(Z, SOFT), expected, rtol=1e-12)
    value, _ = step(measure, linear_start(Z), np.eye(N), SOFT)
    np.testing.assert_allclose(value, expected, rtol=1e-12)


def test_balanced_weights_are_those_of_scikit_learn_in_the_training_data():
    from sklearn.utils.class_weight import compute_sample_weight

    measure = losses.CrossEntropy(class_weight="balanced")
    labels = np.array([0] * 7 + [1] * 3 + [2])
    weight = compute_sample_weight("balanced", labels)
    for y in (labels, np.eye(3)[labels]):
        value, moved = step(measure, linear_start(Z), np.eye(N), y)
        expected = step("cross_entropy", linear_start(Z), np.eye(N), labels, weight=weight)
        np.testing.assert_allclose(value, expected[0], rtol=1e-12)
        np.testing.assert_allclose(moved["0.weight"], expected[1]["0.weight"], rtol=1e-12)
    model = nn.Sequential(nn.Linear(N, 3), dtype="float64")
    history = model.fit(
        np.eye(N), labels, loss=measure, epochs=1, validation_data=(np.eye(N)[:5], labels[:5] + 2)
    )
    # all of class 2, whatever the weight that it has in the training data
    expected = losses.CrossEntropy()(model.predict(np.eye(N)[:5]), labels[:5] + 2)
    np.testing.assert_allclose(history["val_loss"][0], expected, rtol=1e-12)
    with pytest.raises(ValueError, match="class_weight='balanced' is worked out by fit"):
        measure(Z, LABELS)


# Functions as losses


def test_a_function_of_elements_is_averaged_and_weighted():
    def squared(prediction, target):
        return (prediction - target) ** 2

    weight = RNG.uniform(0.2, 2.0, N)
    for own in (None, weight):
        got = step(squared, linear_start(Z), np.eye(N), TARGET, weight=own, batch_size=4)
        expected = step("mse", linear_start(Z), np.eye(N), TARGET, weight=own, batch_size=4)
        np.testing.assert_allclose(got[0], expected[0], rtol=1e-12)
        np.testing.assert_allclose(got[1]["0.weight"], expected[1]["0.weight"], rtol=1e-12)


def test_a_function_of_rows_may_take_integer_labels():
    """Cross-entropy written out; integers stay integers and choose a column."""

    def written_out(logits, labels):
        shifted = logits - np.max(logits, axis=1, keepdims=True)
        chosen = np.take_along_axis(shifted, labels[:, np.newaxis], axis=1)[:, 0]
        return np.log(np.sum(np.exp(shifted), axis=1)) - chosen

    weight = RNG.uniform(0.2, 2.0, N)
    for labels in (LABELS, LABELS.astype(np.uint8)):
        got = step(written_out, linear_start(Z), np.eye(N), labels, weight=weight)
        expected = step("cross_entropy", linear_start(Z), np.eye(N), LABELS, weight=weight)
        np.testing.assert_allclose(got[0], expected[0], rtol=1e-12)
        np.testing.assert_allclose(
            got[1]["0.weight"], expected[1]["0.weight"], rtol=1e-10, atol=1e-15
        )


@pytest.mark.parametrize("y", [np.arange(N), np.arange(N) * 1.0, np.arange(N) % 2 == 0], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_targets_of_one_column_and_any_dtype(y, dtype):
    """(n,) is (n, 1) for a model of one column, and the loss has the model's dtype."""
    model = nn.Sequential(nn.Linear(N, 1), dtype=dtype).init()
    twin = nn.Sequential(nn.Linear(N, 1), dtype=dtype).init()
    a = model.fit(np.eye(N), y, loss=lambda p, t: (p - t) ** 2, epochs=2, seed=1)
    b = twin.fit(np.eye(N), y, loss="mse", epochs=2, seed=1)
    np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-6)


def test_a_scalar_is_the_loss_of_the_batch_as_it_stands():
    """The last, smaller batch makes an update by its own scalar and weighs by its rows."""
    start = linear_start(Z)
    rows = [np.arange(0, 4), np.arange(4, 8), np.arange(8, 11)]
    for reduced, scale in ((np.mean, 1.0), (np.sum, None)):
        value, moved = step(
            lambda p, t, reduced=reduced: reduced((p - t) ** 2), start, np.eye(N), TARGET,
            rate=1e-3, batch_size=4,
        )  # fmt: skip
        weight, bias = Z.copy(), np.zeros(3)
        losses_seen = []
        for batch in rows:
            error = weight[batch] + bias - TARGET[batch]
            share = scale / error.size if scale else 1.0
            losses_seen.append(share * np.sum(error**2))
            weight[batch] -= 1e-3 * share * 2 * error
            bias -= 1e-3 * share * 2 * error.sum(axis=0)
        np.testing.assert_allclose(value, np.average(losses_seen, weights=[4, 4, 3]), rtol=1e-12)
        np.testing.assert_allclose(moved["0.weight"], Z - weight, rtol=1e-9)
        np.testing.assert_allclose(moved["0.bias"], -bias, rtol=1e-9)


def mean_square(prediction, target):
    return np.mean((prediction - target) ** 2)


def test_the_same_function_finds_its_plan_again():
    traced = []

    def squared(prediction, target):
        traced.append(1)
        return (prediction - target) ** 2

    model = nn.Sequential(nn.Linear(N, 3))
    for _ in range(3):
        model.fit(np.eye(N), TARGET, loss=squared, epochs=1)
    assert len(traced) == 1
    model.fit(np.eye(N), TARGET, loss=lambda p, t: squared(p, t), epochs=1)
    assert len(traced) == 2


def test_equal_losses_share_a_plan():
    model = nn.Sequential(nn.Linear(N, 3))
    for delta in (2.0, 2, 3.0):
        model.fit(np.eye(N), TARGET, loss=losses.Huber(delta), epochs=1)
    assert losses.Huber(2) == losses.Huber(2.0) != losses.Huber(3.0)
    assert sum("train" in str(key) for key in model._plans) == 2


@pytest.mark.parametrize(
    ("loss", "weight", "error", "message"),
    [
        (mean_square, np.ones(N), ValueError, "sample_weight needs the loss of each row, but .* "
         "mean_square returned a scalar"),
        (lambda p, t: np.sum(p, axis=0), None, ValueError, r"returned shape \(3,\); expected a "
         "scalar, or elements with the rows first"),
        (lambda p, t: p > t, None, TypeError, "returned bool; expected floating point"),
        (lambda p, t: "none", None, TypeError, "the loss <lambda> returned no array"),
        (lambda p, t: p + np.random.normal(), None, TypeError, "np.random.* in a traced function"),
        (losses.Huber, None, TypeError, r"loss is the class Huber; write Huber\(\)"),
        ("hubert", None, ValueError, "loss must be one of mse, mae, huber"),
        (3, None, TypeError, "loss must be a name, a Loss or a function, not 3"),
    ],
)  # fmt: skip
def test_wrong_losses_are_refused_before_the_first_step(loss, weight, error, message):
    model = nn.Sequential(nn.Linear(N, 3)).init()
    before = model.parameters()["0.weight"].copy()
    with pytest.raises(error, match=message):
        model.fit(np.eye(N), TARGET, loss=loss, sample_weight=weight)
    np.testing.assert_array_equal(model.parameters()["0.weight"], before)


# Targets and arguments


@pytest.mark.parametrize(
    ("loss", "y", "message"),
    [
        ("poisson", COUNTS - 1, "y has -1.0 in row .*, but poisson takes values >= 0"),
        ("gamma", COUNTS, "y has 0.0 in row .*, but gamma takes values > 0"),
        ("tweedie", TARGET, "but tweedie takes values >= 0 with power=1.5"),
        (losses.Tweedie(2.5), COUNTS, "but tweedie takes values > 0 with power=2.5"),
        ("binary_cross_entropy", COUNTS, r"but binary_cross_entropy takes values in \[0, 1\]"),
        ("focal", SOFT, "but focal takes 0 and 1"),
        ("hinge", SOFT, "but hinge takes -1 and 1, or 0 and 1"),
        ("hinge", BINARY - 1, "y has -1.0 in row .*, but hinge takes"),
        ("poisson", np.where(COUNTS > 3, np.nan, COUNTS), "y has nan in row"),
        ("cross_entropy", -SOFT, "but cross_entropy takes distributions, whose values are >= 0"),
        ("cross_entropy", LABELS + 1, r"y has label 3 in row .*, outside \[0, 3\)"),
        (losses.CrossEntropy(class_weight=[1.0, 2.0]), LABELS, "has 2 weights for 3 classes"),
        (losses.CrossEntropy(class_weight={5: 2.0}), LABELS, r"label 5, outside \[0, 3\)"),
        (losses.BinaryCrossEntropy([1.0, 2.0]), BINARY, r"pos_weight has 2 weights, but .* \(3,\)"),
        ("gaussian_nll", TARGET, "takes predictions with an even number of columns"),
        ("mse", TARGET[:, :2], r"y has shape \(11, 2\), but the model gives \(rows, 3\)"),
    ],
)
def test_targets_are_checked_before_the_first_step(loss, y, message):
    model = nn.Sequential(nn.Linear(N, 3)).init()
    before = model.parameters()["0.weight"].copy()
    with pytest.raises(ValueError, match=message):
        model.fit(np.eye(N), y, loss=loss, batch_size=2)
    np.testing.assert_array_equal(model.parameters()["0.weight"], before)


def test_gaussian_nll_takes_half_as_many_columns():
    model = nn.Sequential(nn.Linear(N, 2), dtype="float64").init()
    y = TARGET[:, 0]
    history = model.fit(
        np.eye(N), y, loss="gaussian_nll", optimizer=dl.optim.Adam(0.02), epochs=300,
        validation_data=(np.eye(N), y),
    )  # fmt: skip
    assert history["loss"][-1] < history["loss"][0]
    with pytest.raises(ValueError, match=r"but the model gives \(rows, 2\), for \(rows, 1\)"):
        model.fit(np.eye(N), TARGET, loss="gaussian_nll")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: losses.Huber(0), "delta must be a number > 0, not 0"),
        (lambda: losses.Quantile(1), r"q must lie in \(0, 1\), not 1"),
        (lambda: losses.Tweedie(0.5), r"power must be a number outside \(0, 1\), not 0.5"),
        (lambda: losses.Tweedie(math.nan), r"power must be a number outside \(0, 1\), not nan"),
        (lambda: losses.CrossEntropy(label_smoothing=1), r"label_smoothing must lie in \[0, 1\)"),
        (lambda: losses.CrossEntropy(class_weight="even"), "class_weight must be 'balanced' or"),
        (lambda: losses.CrossEntropy(class_weight=[-1.0]), "class_weight must be a number >= 0"),
        (lambda: losses.BinaryCrossEntropy(0), "pos_weight must be a number > 0, not 0"),
        (lambda: losses.BinaryCrossEntropy([1, -1]), "pos_weight must be a number > 0, not -1"),
        (lambda: losses.Focal(gamma=-1), "gamma must be a number >= 0, not -1"),
        (lambda: losses.Focal(alpha=2), r"alpha must lie in \[0, 1\], not 2"),
        (lambda: losses.GaussianNLL(eps=0), "eps must be a number > 0, not 0"),
    ],
)
def test_bad_parameters_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
