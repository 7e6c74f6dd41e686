"""MLPClassifier and MLPRegressor beside scikit-learn's."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris, make_multilabel_classification
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import cross_val_score
from sklearn.neural_network import MLPClassifier as SklearnClassifier
from sklearn.neural_network import MLPRegressor as SklearnRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import dlcore as dl

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

IRIS = load_iris(return_X_y=True)
X = StandardScaler().fit_transform(IRIS[0])
Y = IRIS[1]
NUMBERS = load_diabetes(return_X_y=True)


def pair(ours, theirs, x, y, **parameters):
    """Both fitted full-batch from the same weights; with float64 they should agree exactly."""
    parameters = {"dtype": "float64", "batch_size": len(x), "random_state": 3, **parameters}
    mine = ours(**parameters)
    del parameters["dtype"]
    other = theirs(**parameters)
    return mine.fit(x, y), other.fit(x, y)


TRAINING = {
    "adam": {"solver": "adam", "learning_rate_init": 0.01},
    "sgd": {"solver": "sgd", "learning_rate_init": 0.05},
    "sgd plain": {"solver": "sgd", "learning_rate_init": 0.1, "momentum": 0.0},
    "momentum": {"solver": "sgd", "learning_rate_init": 0.05, "nesterovs_momentum": False},
    "invscaling": {
        "solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.5, "power_t": 0.2
    },
    "adaptive": {
        "solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.1, "tol": 1e-2,
        "n_iter_no_change": 2,
    },
    "penalty": {"solver": "adam", "learning_rate_init": 0.01, "alpha": 2.0},
    "no penalty": {"solver": "adam", "learning_rate_init": 0.01, "alpha": 0.0},
}  # fmt: skip


@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
@pytest.mark.parametrize("training", TRAINING)
def test_classifier_follows_scikit_learn(training, activation):
    """Same initial weights, updates, losses and stopping, to rounding."""
    mine, other = pair(
        dl.MLPClassifier, SklearnClassifier, X, Y, hidden_layer_sizes=(7, 5), max_iter=40,
        activation=activation, **TRAINING[training],
    )  # fmt: skip
    assert mine.n_iter_ == other.n_iter_
    np.testing.assert_allclose(mine.loss_curve_, other.loss_curve_, rtol=1e-8)
    for ours, theirs in zip(mine.coefs_, other.coefs_, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(mine.predict_proba(X), other.predict_proba(X), rtol=1e-6)
    np.testing.assert_allclose(
        mine.predict_log_proba(X), other.predict_log_proba(X), rtol=1e-6, atol=1e-9
    )
    np.testing.assert_array_equal(mine.predict(X), other.predict(X))
    for name in ("n_layers_", "n_outputs_", "out_activation_", "t_"):
        assert getattr(mine, name) == getattr(other, name), name
    assert mine.best_loss_ == pytest.approx(other.best_loss_, rel=1e-8)
    assert mine.loss_ == mine.loss_curve_[-1]


@pytest.mark.parametrize("training", ["adam", "sgd", "penalty"])
def test_binary_classifier_follows_scikit_learn(training):
    names = np.where(Y == 1, "yes", "no")
    mine, other = pair(
        dl.MLPClassifier, SklearnClassifier, X, names, hidden_layer_sizes=(6,), max_iter=40,
        **TRAINING[training],
    )  # fmt: skip
    np.testing.assert_allclose(mine.loss_curve_, other.loss_curve_, rtol=1e-8)
    np.testing.assert_allclose(mine.predict_proba(X), other.predict_proba(X), rtol=1e-6)
    np.testing.assert_array_equal(mine.predict(X), other.predict(X))
    assert list(mine.classes_) == ["no", "yes"]


def test_multilabel_classifier_follows_scikit_learn():
    x, y = make_multilabel_classification(80, n_features=6, n_classes=4, random_state=0)
    x = StandardScaler().fit_transform(x)
    mine, other = pair(
        dl.MLPClassifier, SklearnClassifier, x, y, hidden_layer_sizes=(8,), max_iter=60,
        learning_rate_init=0.01,
    )  # fmt: skip
    np.testing.assert_allclose(mine.loss_curve_, other.loss_curve_, rtol=1e-8)
    np.testing.assert_allclose(mine.predict_proba(x), other.predict_proba(x), rtol=1e-6)
    np.testing.assert_array_equal(mine.predict(x), other.predict(x))


@pytest.mark.parametrize("training", TRAINING)
def test_regressor_follows_scikit_learn(training):
    x, y = NUMBERS[0] * 20, (NUMBERS[1] - 150) / 80
    mine, other = pair(
        dl.MLPRegressor, SklearnRegressor, x, y, hidden_layer_sizes=(8,), max_iter=40,
        activation="tanh", **TRAINING[training],
    )  # fmt: skip
    assert mine.n_iter_ == other.n_iter_
    np.testing.assert_allclose(mine.loss_curve_, other.loss_curve_, rtol=1e-8)
    np.testing.assert_allclose(mine.predict(x), other.predict(x), rtol=1e-6, atol=1e-8)
    assert mine.predict(x).shape == y.shape


def test_regressor_with_several_outputs():
    """Weights follow scikit-learn; its loss is reported as the mean over outputs, ours as the sum
    that is minimised."""
    x = NUMBERS[0] * 20
    y = np.stack([(NUMBERS[1] - 150) / 80, x[:, 0] - x[:, 1]], axis=1)
    mine, other = pair(
        dl.MLPRegressor, SklearnRegressor, x, y, hidden_layer_sizes=(8,), max_iter=40,
        activation="tanh", learning_rate_init=0.01,
    )  # fmt: skip
    np.testing.assert_allclose(mine.predict(x), other.predict(x), rtol=1e-6, atol=1e-8)


def test_sample_weights_follow_scikit_learn():
    weight = np.random.default_rng(0).uniform(0.1, 3.0, len(X))
    parameters = {"hidden_layer_sizes": (6,), "max_iter": 30, "random_state": 1, "batch_size": 150}
    mine = dl.MLPClassifier(dtype="float64", **parameters).fit(X, Y, weight)
    other = SklearnClassifier(**parameters).fit(X, Y, weight)
    np.testing.assert_allclose(mine.loss_curve_, other.loss_curve_, rtol=1e-8)
    np.testing.assert_allclose(mine.predict_proba(X), other.predict_proba(X), rtol=1e-6)


def test_mini_batches_reach_the_accuracy_of_scikit_learn():
    x, y = NUMBERS[0] * 20, (NUMBERS[1] - 150) / 80
    mine = dl.MLPClassifier((20,), learning_rate_init=0.01, max_iter=100, random_state=0)
    assert cross_val_score(make_pipeline(StandardScaler(), mine), *IRIS, cv=5).mean() > 0.94
    scores = [
        cross_val_score(model((30,), alpha=1.0, max_iter=100, random_state=0), x, y, cv=5).mean()
        for model in (
            lambda h, **k: dl.MLPRegressor(hidden_layer_sizes=h, **k),
            lambda h, **k: SklearnRegressor(hidden_layer_sizes=h, **k),
        )
    ]
    assert scores[0] > scores[1] - 0.05


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("computed_in", ["float32", "float64"])
def test_results_come_in_the_dtype_of_x(dtype, computed_in):
    model = dl.MLPClassifier((5,), max_iter=3, dtype=computed_in).fit(X.astype(dtype), Y)
    assert model.predict_proba(X.astype(dtype)).dtype == dtype
    assert {a.dtype for a in [*model.coefs_, *model.intercepts_]} == {np.dtype(dtype)}


def test_early_stopping_follows_scikit_learn():
    """Same split, scores and best weights."""
    mine, other = pair(
        dl.MLPClassifier, SklearnClassifier, X, Y, hidden_layer_sizes=(10,), max_iter=500,
        early_stopping=True, learning_rate_init=0.02, validation_fraction=0.3, batch_size=105,
    )  # fmt: skip
    assert len(mine.validation_scores_) == mine.n_iter_ == other.n_iter_ < 500
    np.testing.assert_allclose(mine.validation_scores_, other.validation_scores_)
    assert mine.best_validation_score_ == max(mine.validation_scores_)
    assert mine.best_loss_ is None
    np.testing.assert_allclose(mine.predict_proba(X), other.predict_proba(X), rtol=1e-6)


def test_warm_start_goes_on():
    model = dl.MLPClassifier((10,), warm_start=True, max_iter=5, random_state=2)
    first = model.fit(X, Y).loss_
    assert model.fit(X, Y).loss_ < first
    assert len(model.loss_curve_) == 10
    with pytest.raises(ValueError, match="warm_start can only be used where `y` has the same"):
        model.fit(X, np.minimum(Y, 1))


def test_a_fit_that_fails_changes_nothing():
    model = dl.MLPClassifier((5,), max_iter=10, random_state=0).fit(X, Y)
    before = model.predict_proba(X)
    with pytest.raises(ValueError, match="alpha must be a number"):
        model.set_params(alpha=-1).fit(X[:, :2], np.minimum(Y, 1))
    np.testing.assert_array_equal(model.predict_proba(X), before)
    model.set_params(alpha=0.0, learning_rate_init=1e30, solver="sgd", warm_start=True)
    with (
        pytest.warns(RuntimeWarning, match="training loss is not finite"),
        pytest.raises(ValueError, match="non-finite parameter weights"),
    ):
        model.fit(X, Y)
    np.testing.assert_array_equal(model.predict_proba(X), before)
    assert len(model.loss_curve_) == 10


def test_an_interrupt_before_the_first_epoch_is_passed_on(monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(dl.nn.Sequential, "fit", interrupt)
    with pytest.raises(KeyboardInterrupt):
        dl.MLPClassifier().fit(X, Y)


def test_early_stopping_may_be_switched_in_a_warm_start():
    model = dl.MLPClassifier((5,), max_iter=3, warm_start=True, random_state=0).fit(X, Y)
    model.set_params(early_stopping=True).fit(X, Y)
    assert len(model.validation_scores_) == 3
    assert model.best_loss_ is None


def test_unconverged_fit_warns():
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(3\) reached"):
        dl.MLPClassifier(max_iter=3).fit(X, Y)


def test_verbose_prints_iterations(capsys):
    dl.MLPClassifier((3,), max_iter=2, verbose=True).fit(X, Y)
    assert "Iteration 2, loss = " in capsys.readouterr().out


BAD = {
    "solver": ("newton", ValueError, "solver must be one of adam, sgd, lbfgs, not 'newton'"),
    "activation": ("gelu", ValueError, "activation must be one of identity"),
    "alpha": (-1.0, ValueError, "alpha must be a number in"),
    "max_iter": (0, ValueError, "max_iter must be an integer >= 1, not 0"),
    "batch_size": (0, ValueError, "batch_size must be an integer >= 1, not 0"),
    "hidden_layer_sizes": ((10, 0), ValueError, "hidden_layer_sizes must be an integer >= 1"),
    "momentum": (2.0, ValueError, "momentum must be a number in"),
    "dtype": ("float16", ValueError, "dtype must be one of float32, float64, not 'float16'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_parameters_are_named(name):
    value, error, message = BAD[name]
    with pytest.raises(error, match=message):
        dl.MLPClassifier(**{name: value}).fit(X, Y)


def test_what_is_not_supported_yet_says_so():
    with pytest.raises(NotImplementedError, match="solver='lbfgs' is not supported yet"):
        dl.MLPClassifier(solver="lbfgs").fit(X, Y)
    with pytest.raises(NotImplementedError, match="loss='poisson' is not supported yet"):
        dl.MLPRegressor(loss="poisson").fit(X, Y)


def test_predict_before_fit_and_with_other_columns():
    with pytest.raises(NotFittedError):
        dl.MLPClassifier().predict(X)
    model = dl.MLPClassifier(max_iter=2).fit(X, Y)
    with pytest.raises(ValueError, match="X has 3 features, but MLPClassifier is expecting 4"):
        model.predict(X[:, :3])


def test_estimators_clone_and_pickle():
    model = dl.MLPClassifier((5,), max_iter=5, random_state=0).fit(X, Y)
    copied = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(copied.predict_proba(X), model.predict_proba(X))
    assert clone(model).get_params() == model.get_params()


# In float32 the check that a weight of 2 equals a repeated row would compare rounding errors.
SMALL = {
    "hidden_layer_sizes": (20,),
    "max_iter": 100,
    "random_state": 0,
    "learning_rate_init": 0.01,
    "dtype": "float64",
}


@parametrize_with_checks(
    [dl.MLPClassifier(**SMALL), dl.MLPRegressor(**SMALL), dl.LinearRegression()]
)
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_checks(estimator, check):
    check(estimator)
