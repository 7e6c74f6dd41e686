"""Derivatives of functions written in NumPy: what they are taken for, nested ones, conventions at
kinks, and what is refused. That the rules themselves hold is in test_numpy_functions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

import dlcore as dl
from graph_tools import assert_gradients_close, numerical_gradient
from helpers import assert_same_bits, team

X = np.random.default_rng(0).normal(size=(6, 3))
W = np.random.default_rng(1).normal(size=(3, 2))
B = np.random.default_rng(2).normal(size=2)
Y = np.random.default_rng(3).normal(size=(6, 2))


def loss(params: Any, x: Any, y: Any) -> Any:
    return np.mean((np.tanh(x @ params["w"] + params["b"]) - y) ** 2)


def loss_of_weights(w: Any) -> float:
    return float(loss({"w": w, "b": B}, X, Y))


# Arguments


def test_gradient_has_the_structure_of_nested_arguments():
    class Layer(NamedTuple):
        weight: Any
        bias: Any

    def f(params, x):
        hidden = np.tanh(x @ params["layers"][0].weight + params["layers"][0].bias)
        return np.sum(hidden * params["scale"]) + params["layers"][1][0]

    params = {"layers": [Layer(W, B), (0.5,)], "scale": 2.0}
    value, gradient = dl.value_and_grad(f)(params, X)
    np.testing.assert_allclose(value, f(params, X), rtol=1e-13)
    assert isinstance(gradient["layers"][0], Layer)
    assert gradient["layers"][1] == (1.0,)
    hidden = np.tanh(X @ W + B)
    np.testing.assert_allclose(gradient["scale"], np.sum(hidden), rtol=1e-12)
    np.testing.assert_allclose(gradient["layers"][0].bias, np.sum(2 * (1 - hidden**2), 0))
    np.testing.assert_allclose(gradient["layers"][0].weight, X.T @ (2 * (1 - hidden**2)))


@pytest.mark.parametrize("argnums", [0, 1, -1, (0, 1), (1, 0), [2], (-3, 2)])
def test_argnums_choose_the_arguments(argnums):
    arguments = [np.array([1.0, 2.0]), np.array([3.0, 5.0]), 7.0]
    every = [arguments[1] * 7.0, arguments[0] * 7.0, 13.0]
    got = dl.grad(lambda a, b, c: np.sum(a * b) * c, argnums)(*arguments)
    if isinstance(argnums, int):
        np.testing.assert_array_equal(got, every[argnums])
    else:
        assert isinstance(got, tuple)
        for each, i in zip(got, argnums, strict=True):
            np.testing.assert_array_equal(each, every[i])


def test_the_same_array_passed_twice_counts_as_two_arguments():
    x = np.array([1.0, 2.0])
    first, second = dl.grad(lambda a, b: np.sum(a**2 * b), (0, 1))(x, x)
    np.testing.assert_array_equal(first, 2 * x * x)
    np.testing.assert_array_equal(second, x**2)


def test_a_captured_array_is_a_constant_even_if_it_is_passed_too():
    x = np.array([1.0, 2.0])
    np.testing.assert_array_equal(dl.grad(lambda a: np.sum(a * x))(x), x)


def test_keyword_arguments_are_passed_on():
    gradient = dl.grad(lambda x, *, scale, power=2: scale * x**power)
    assert gradient(3.0, scale=2.0) == 12.0
    assert gradient(3.0, scale=2.0, power=3) == 54.0


def test_what_the_value_does_not_depend_on_has_zeros():
    a, b = dl.grad(lambda a, b: np.sum(a), (0, 1))(X, W)
    np.testing.assert_array_equal(a, np.ones_like(X))
    np.testing.assert_array_equal(b, np.zeros_like(W))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_have_the_dtype_of_the_argument(dtype):
    value, (x, w) = dl.value_and_grad(lambda x, w: np.sum(np.tanh(x @ w)), (0, 1))(
        X.astype(dtype), W
    )
    assert (value.dtype, x.dtype, w.dtype) == (np.float64, dtype, np.float64)
    np.testing.assert_allclose(x, (1 - np.tanh(X @ W) ** 2) @ W.T, rtol=1e-5, atol=1e-6)


# Higher derivatives


def test_jacobian_is_that_of_central_differences():
    def f(w):
        return np.tanh(X @ w) * B

    got = dl.jacobian(f)(W)
    assert got.shape == (6, 2, 3, 2)
    for i in np.ndindex(6, 2):
        expected = numerical_gradient(lambda w, i=i: float(f(w)[i]), W)
        assert_gradients_close(got[i], expected)


def test_jacobian_for_several_and_nested_arguments():
    got = dl.jacobian(lambda p, s: p["a"] * s + p["b"][0], (0, 1))({"a": B, "b": [Y[0]]}, 3.0)
    np.testing.assert_array_equal(got[0]["a"], 3.0 * np.eye(2))
    np.testing.assert_array_equal(got[0]["b"][0], np.eye(2))
    np.testing.assert_array_equal(got[1], B)


def test_jacobian_of_a_scalar_is_the_gradient():
    np.testing.assert_allclose(
        dl.jacobian(loss_of_weights_traced)(W), dl.grad(loss_of_weights_traced)(W)
    )


def loss_of_weights_traced(w: Any) -> Any:
    return loss({"w": w, "b": B}, X, Y)


def test_hessian_is_that_of_central_differences_and_symmetric():
    got = dl.hessian(loss_of_weights_traced)(W)
    assert got.shape == (3, 2, 3, 2)
    np.testing.assert_allclose(got, np.transpose(got, (2, 3, 0, 1)), rtol=1e-10, atol=1e-14)
    gradient = dl.grad(loss_of_weights_traced)
    for i in np.ndindex(3, 2):
        assert_gradients_close(got[i], numerical_gradient(lambda w, i=i: float(gradient(w)[i]), W))


def test_hvp_is_the_hessian_times_the_vector():
    v = np.random.default_rng(4).normal(size=W.shape)
    expected = np.tensordot(dl.hessian(loss_of_weights_traced)(W), v, 2)
    np.testing.assert_allclose(dl.hvp(loss_of_weights_traced)(W, v), expected, rtol=1e-11)


def test_hvp_of_nested_arguments():
    params = {"w": W, "b": B}
    v = {"w": np.ones_like(W), "b": -np.ones_like(B)}
    got = dl.hvp(loss)(params, X, Y, v)
    slope = dl.grad(loss)
    h = 1e-5
    high = slope({k: params[k] + h * v[k] for k in params}, X, Y)
    low = slope({k: params[k] - h * v[k] for k in params}, X, Y)
    for key in params:
        np.testing.assert_allclose(got[key], (high[key] - low[key]) / (2 * h), rtol=1e-7)


def test_derivatives_to_the_fifth_order():
    f = np.sin
    for expected in (np.cos, lambda x: -np.sin(x), lambda x: -np.cos(x), np.sin, np.cos):
        f = dl.grad(f)
        np.testing.assert_allclose(f(0.7), expected(0.7), rtol=1e-13)


# Nesting


def test_inner_derivatives_do_not_see_the_outer_ones_perturbation():
    """The example of Siskind and Pearlmutter: d/dx (x d/dy (x + y)) is 1, not 2."""
    assert dl.grad(lambda x: x * dl.grad(lambda y: x + y)(1.0))(3.0) == 1.0
    assert dl.grad(lambda x: x * dl.grad(lambda y: x * y)(2.0))(3.0) == 6.0
    assert dl.grad(lambda x: dl.grad(lambda y: x * y**2)(x))(3.0) == 12.0


def test_inner_function_of_values_that_are_known():
    """Within a traced function, a gradient at a constant is a part of the plan too."""
    scale = np.array([1.0, 2.0])
    inner = dl.grad(lambda a, b: np.sum(a * b**2), 1)
    f = dl.jit(lambda x: inner(x, scale))
    np.testing.assert_array_equal(f(np.ones(2)), 2 * scale)
    inner(np.ones(2), scale)  # now it has a plan of its own
    scale *= 10  # and the captured array is still read at every call
    np.testing.assert_array_equal(f(np.ones(2)), 2 * scale)
    np.testing.assert_array_equal(dl.jit(lambda x: inner(x, scale))(np.ones(2)), 2 * scale)


def test_transforms_of_transforms():
    x = np.array([0.5, 1.5])

    def quartic(x):
        return np.sum(x**4)

    np.testing.assert_allclose(dl.jit(dl.hessian(quartic))(x), np.diag(12 * x**2))
    np.testing.assert_allclose(dl.jacobian(dl.grad(quartic))(x), np.diag(12 * x**2))
    trace = dl.grad(lambda x: np.trace(dl.hessian(quartic)(x)))(x)
    np.testing.assert_allclose(trace, 24 * x)
    third = dl.grad(lambda x: np.sum(dl.hvp(quartic)(x, np.ones(2))))(x)
    np.testing.assert_allclose(third, 24 * x)
    through_jacobian = dl.grad(lambda s: np.sum(dl.jacobian(lambda x: s * x**3)(x)))(2.0)
    np.testing.assert_allclose(through_jacobian, np.sum(3 * x**2))
    np.testing.assert_allclose(dl.grad(dl.jit(dl.jit(quartic)))(x), 4 * x**3)


def test_a_step_of_gradient_descent_can_be_differentiated():
    """Meta-gradients: the derivative of the loss after a step for the step's length."""

    def after_step(rate):
        gradient = dl.grad(loss)({"w": W, "b": B}, X, Y)
        return loss({"w": W - rate * gradient["w"], "b": B - rate * gradient["b"]}, X, Y)

    got = dl.grad(after_step)(0.1)
    h = 1e-5
    high, low = dl.jit(after_step)(0.1 + h), dl.jit(after_step)(0.1 - h)
    np.testing.assert_allclose(got, (high - low) / (2 * h), rtol=1e-7)


# Conventions


def test_of_equal_arguments_of_maximum_and_minimum_the_first_has_the_derivative():
    for f in (np.maximum, np.minimum):
        a, b = dl.grad(lambda a, b, f=f: np.sum(f(a, b)), (0, 1))(np.ones(2), np.ones(2))
        np.testing.assert_array_equal(a, [1.0, 1.0])
        np.testing.assert_array_equal(b, [0.0, 0.0])


def test_equal_elements_of_max_and_min_share_the_derivative():
    x = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
    got = dl.grad(lambda x: np.sum(np.max(x, axis=1)))(x)
    np.testing.assert_allclose(got, [[0, 0.5, 0.5], [1 / 3, 1 / 3, 1 / 3]], rtol=1e-15)
    got = dl.grad(lambda x: np.min(x))(x)
    np.testing.assert_array_equal(got, [[1, 0, 0], [0, 0, 0]])


def test_abs_relu_and_sign_have_derivative_zero_at_zero():
    x = np.array([0.0, -0.0])
    relus = [lambda x: np.maximum(0.0, x), lambda x: np.maximum(x, 0), lambda x: np.clip(x, 0, 1)]
    for f in (np.abs, np.sign, *relus):
        np.testing.assert_array_equal(dl.grad(lambda x, f=f: np.sum(f(x)))(x), [0.0, 0.0])


def test_at_the_bounds_of_clip_the_array_has_the_derivative():
    x = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    got = dl.grad(lambda x: np.sum(np.clip(x, -1, 1)))(x)
    np.testing.assert_array_equal(got, [0.0, 1.0, 1.0, 1.0, 0.0])


def test_where_gives_the_branch_that_is_not_taken_the_derivative_zero():
    x = np.array([-1.0, 4.0])

    def naive(x):
        return np.sum(np.where(x > 0, np.log(x), 0.0))

    def harmless(x):
        return np.sum(np.where(x > 0, np.log(np.where(x > 0, x, 1)), 0.0))

    # the logarithm of -1 is NaN, but its derivative 1 / -1 is not
    np.testing.assert_array_equal(dl.grad(naive)(x), [0.0, 0.25])
    np.testing.assert_array_equal(dl.grad(harmless)(x), [0.0, 0.25])
    # that of sqrt(-1) is: 0 times it is NaN
    root = dl.grad(lambda x: np.sum(np.where(x > 0, np.sqrt(x), 0.0)))(x)
    np.testing.assert_array_equal(root, [np.nan, 0.25])
    fixed = dl.grad(lambda x: np.sum(np.where(x > 0, np.sqrt(np.where(x > 0, x, 1)), 0.0)))(x)
    np.testing.assert_array_equal(fixed, [0.0, 0.25])


def test_powers_at_zero():
    """x**0 and 0**y do not change; x**1 does."""
    assert dl.grad(lambda x: x**0)(0.0) == 0.0
    assert dl.grad(lambda x: x**1)(0.0) == 1.0
    assert dl.grad(lambda x: x**2)(0.0) == 0.0
    x, y = np.zeros(3), np.array([0.0, 1.0, 2.0])
    base, exponent = dl.grad(lambda x, y: np.sum(x**y), (0, 1))(x, y)
    np.testing.assert_array_equal(base, [0.0, 1.0, 0.0])
    np.testing.assert_array_equal(exponent, [0.0, 0.0, 0.0])


def test_infinite_derivatives_are_inf_and_times_zero_nan():
    assert dl.grad(np.sqrt)(0.0) == np.inf
    assert np.isnan(dl.grad(np.linalg.norm)(np.zeros(2))).all()


def test_nan_and_infinity_pass_through():
    x = np.array([np.nan, np.inf, 1.0])
    np.testing.assert_allclose(dl.jit(lambda x: np.tanh(x))(x), [np.nan, 1.0, np.tanh(1.0)])
    np.testing.assert_array_equal(dl.grad(lambda x: np.sum(x**2))(x), 2 * x)
    assert np.isnan(dl.jit(lambda x: np.max(x))(x))


def test_an_index_that_stands_twice_gathers_both_derivatives():
    got = dl.grad(lambda x: np.sum(x[[0, 0, 2, -1]] * np.array([1.0, 2.0, 4.0, 8.0])))(np.ones(4))
    np.testing.assert_array_equal(got, [3.0, 0.0, 4.0, 8.0])


# stop_gradient and custom_gradient


def test_stop_gradient_is_a_constant_to_every_order():
    assert dl.grad(lambda x: x**2 * dl.stop_gradient(x))(3.0) == 18.0
    assert dl.grad(dl.grad(lambda x: x**2 * dl.stop_gradient(x)))(3.0) == 6.0
    assert dl.stop_gradient(3.0) == 3.0
    got = dl.grad(lambda x: x * dl.stop_gradient({"a": [x]})["a"][0])(3.0)
    assert got == 3.0


def test_custom_gradient_takes_the_place_of_the_rules():
    @dl.custom_gradient
    def reversed_gradient(x):
        return x, lambda g: -2.0 * g

    assert dl.grad(lambda x: reversed_gradient(x) ** 2)(3.0) == -12.0
    np.testing.assert_array_equal(reversed_gradient(B), B)
    np.testing.assert_array_equal(dl.jit(lambda x: reversed_gradient(x))(B), B)


def test_custom_gradient_of_several_arguments():
    @dl.custom_gradient
    def product(a, b):
        return a * b, lambda g: (g * b, None)

    a, b = dl.grad(lambda a, b: np.sum(product(a, b)), (0, 1))(B, np.array([3.0, 4.0]))
    np.testing.assert_array_equal(a, [3.0, 4.0])
    np.testing.assert_array_equal(b, [0.0, 0.0])


def test_custom_gradient_can_be_differentiated():
    @dl.custom_gradient
    def cube(x):
        return x**3, lambda g: g * 3.0 * x**2

    np.testing.assert_allclose(dl.grad(dl.grad(cube))(2.0), 12.0)


def test_custom_gradient_reports_a_rule_that_does_not_fit():
    wrong_count = dl.custom_gradient(lambda x: (x, lambda g: (g, g)))
    with pytest.raises(TypeError, match="returned 2 derivatives for 1 argument"):
        dl.grad(lambda x: wrong_count(x))(1.0)
    wrong_shape = dl.custom_gradient(lambda x: (x, lambda g: np.ones(3)))
    with pytest.raises(ValueError, match=r"returned shape \(3,\) for an argument of shape \(2,\)"):
        dl.grad(lambda x: np.sum(wrong_shape(x)))(B)
    no_rule = dl.custom_gradient(lambda x: x)
    with pytest.raises(TypeError, match=r"must return \(value, rule\)"):
        dl.grad(lambda x: no_rule(x))(1.0)


# Errors


@pytest.mark.parametrize(
    ("f", "arguments", "error", "message"),
    [
        (lambda x: x * 2, (3,), TypeError, "argument 0 is 3.*write 2.0 for 2"),
        (lambda x: np.sum(x * 2.0), (np.arange(3),), TypeError, "argument 0 is of dtype int64"),
        (lambda x: np.sum(x), ({"a": [True]},), TypeError, r"argument 0\['a'\]\[0\] is True"),
        (lambda x: x * 2.0, (B,), ValueError, r"returned shape \(2,\).*dl.jacobian"),
        (lambda x: (x, x), (1.0,), TypeError, "returned a tuple; expected one scalar"),
        (lambda x: None, (1.0,), TypeError, "returned a NoneType"),
        (lambda x: np.sum(x > 0), (B,), TypeError, "returned int64, which has no gradient"),
        (lambda x: np.sum(x), (B.astype(complex),), TypeError, "complex128"),
        (lambda x: np.sum(x), (np.array([None]),), TypeError, "dtype object"),
    ],
)
def test_bad_arguments_and_results_are_refused(f, arguments, error, message):
    with pytest.raises(error, match=message):
        dl.grad(f)(*arguments)


def test_argnums_are_checked():
    with pytest.raises(ValueError, match="argnums is 1, but there are 1 positional arguments"):
        dl.grad(lambda x: x, 1)(1.0)
    for argnums in (1.0, "0", [0.0], True, [True]):
        with pytest.raises(TypeError, match="argnums must be an int or a sequence of ints"):
            dl.grad(lambda x: x, argnums)
    for transform in (dl.hessian, dl.hvp):
        with pytest.raises(TypeError, match="argnums must be an int, not"):
            transform(lambda x: x, (0, 1))


def test_hvp_checks_the_vector():
    f = dl.hvp(lambda x: np.sum(x**2))
    with pytest.raises(TypeError, match="and then the vector"):
        f(B)
    with pytest.raises(ValueError, match=r"has shape \(3,\), but the argument has \(2,\)"):
        f(B, np.ones(3))
    with pytest.raises(ValueError, match="not like the argument: expected an array, not a list"):
        f(B, [B])


def test_jacobian_checks_the_result():
    with pytest.raises(TypeError, match="several values; expected one array"):
        dl.jacobian(lambda x: (x, x))(B)
    with pytest.raises(TypeError, match="no array of floating point"):
        dl.jacobian(lambda x: x > 0)(B)


def test_the_jacobian_of_no_elements_is_empty():
    assert dl.jacobian(lambda x: x[:0])(B).shape == (0, 2)
    both = dl.jacobian(lambda x, y: x[:0] * y, argnums=(0, 1))(B, 2.0)
    assert [part.shape for part in both] == [(0, 2), (0,)]


# Threads of the core


def test_same_bits_at_any_number_of_threads():
    rng = np.random.default_rng(7)
    x, w, b = rng.normal(size=(301, 67)), rng.normal(size=(67, 130)), rng.normal(size=130)
    index = rng.integers(0, 301, 5000)

    def softmax_loss(w, x, b):
        z = np.tanh(x @ w + b)[index]
        z = z - np.max(z, axis=1, keepdims=True)
        return np.mean(np.log(np.sum(np.exp(z), axis=1))) + np.var(w)

    function = dl.value_and_grad(softmax_loss, (0, 1, 2))
    results = []
    for n in (1, 2, 3):
        with team(n):
            value, gradients = function(w, x, b)
            results.append([np.asarray(value), *gradients])
    for other in results[1:]:
        for got, expected in zip(other, results[0], strict=True):
            assert np.any(expected != 0)
            assert_same_bits(got, expected)


# What other transforms around one differentiate for


def test_equal_nodes_of_outer_transforms_are_not_merged():
    """The inner gradient leaves alone what the outer one differentiates for."""
    y = np.array([1.0, 1.0, 2.0])
    x = np.array([0.3, 0.7, 1.1])

    def outer(a):
        return np.sum(dl.grad(lambda t: np.sum(t * t * a))(y))

    got = dl.jit(lambda x: dl.grad(outer)(np.sin(x) + np.sin(x)))(x)
    np.testing.assert_allclose(got, 2 * y, rtol=1e-14)

    def both(a, b):
        return np.sum(dl.grad(lambda t: np.sum(t * t * b))(a))

    for got in dl.jit(lambda x: dl.grad(both, argnums=(0, 1))(x, x))(x):
        np.testing.assert_allclose(got, 2 * x, rtol=1e-14)


def test_custom_gradients_of_nested_and_other_arguments():
    @dl.custom_gradient
    def f(p, scale, mode):
        assert mode == "plain"
        return p["a"] * p["b"][0] * scale, lambda g: ({"b": [7.0 * g], "a": 5.0 * g}, None, None)

    g = dl.grad(lambda a, b, s: f({"a": a, "b": [b]}, s, mode="plain"), argnums=(0, 1, 2))
    assert g(2.0, 3.0, 4.0) == (5.0, 7.0, 0.0)
    assert f({"a": 2.0, "b": [3.0]}, 4.0, "plain") == 24.0

    @dl.custom_gradient
    def wrong(p):
        return p["a"], lambda g: {"c": g}

    with pytest.raises(ValueError, match="not like its argument: expected a dict with the keys"):
        dl.grad(lambda a: wrong({"a": a}))(1.0)


def test_custom_gradients_refuse_keyword_only_arrays():
    @dl.custom_gradient
    def f(x, *, scale):
        return x * scale, lambda g: g * scale

    assert dl.grad(lambda x: f(x, scale=3.0))(1.0) == 3.0
    with pytest.raises(TypeError, match="keyword-only"):
        dl.grad(lambda x: f(x, scale=x))(1.0)


def test_the_vector_of_hvp_may_have_its_keys_in_another_order():
    point, vector = {"a": 1.0, "b": 2.0}, {"b": 1.0, "a": 0.0}
    got = dl.hvp(lambda p: p["a"] ** 2 * p["b"])(point, vector)
    assert got == {"a": 2.0, "b": 0.0}


@pytest.mark.parametrize(
    "f",
    [
        lambda a, v: a**0.5 * v,
        lambda a, v: abs(-a) * v,
        lambda a, v: (a // 1.5 + a % 1.5) * v,
        lambda a, v: a**-1 * v,
        lambda a, v: 2 * a * a / 3 * v,
        lambda a, v: np.square(a) * v,
        lambda a, v: np.add(a, 1.0) * v,
        lambda a, v: np.sqrt(a) * v,
        lambda a, v: np.float32(2) * a * v,
    ],
)
def test_floats_are_weak_while_python_computes_with_them(f):
    v = np.ones(3, np.float32)
    got, expected = dl.jit(f)(2.5, v), f(2.5, v)
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_traced_arrays_of_another_call_are_refused():
    kept = []
    dl.jit(lambda x: (kept.append(x * 2.0), x)[1])(B)
    with pytest.raises(TypeError, match=r"uses a traced array \(argument 0\) of another call"):
        dl.jit(lambda x: x + kept[0])(B)
    with pytest.raises(TypeError, match="of another call"):
        dl.minimize(lambda x: np.sum((x - kept[0]) ** 2), B, optimizer=dl.optim.SGD(0.1))


def test_what_runs_by_itself_may_run_while_tracing_but_not_be_traced():
    def f(x):
        found = dl.minimize(lambda p: np.sum((p - 3.0) ** 2), np.zeros(2), optimizer="armijo")
        assert dl.check_grad(cubed, B) < 1e-8
        return x * found.x

    np.testing.assert_allclose(dl.jit(f)(B), 3.0 * B, rtol=1e-5)
    with pytest.raises(TypeError, match="minimize cannot be a part of a traced function"):
        dl.jit(lambda x: dl.minimize(lambda p: np.sum(p**2), x).x)(B)
    with pytest.raises(TypeError, match="check_grad cannot be a part of a traced function"):
        dl.jit(lambda x: dl.check_grad(cubed, x))(B)


def cubed(x):
    return np.sum(x**3)


def test_nothing_to_compute_is_no_error():
    assert dl.jit(lambda x: None)(1.0) is None
    assert dl.grad(lambda p: 1.0 * 2.0)({}) == {}
