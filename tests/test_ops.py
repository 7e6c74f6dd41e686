"""dlcore.ops against NumPy and mpmath: functions, losses, steps."""

import itertools
import math

import mpmath
import numpy as np
import pytest

from dlcore import _native, ops
from helpers import (
    REALS,
    SIZES,
    THREADS,
    assert_close,
    assert_same_bits,
    layouts,
    log_softmax,
    team,
)


@np.vectorize
def gelu(x):
    with mpmath.workprec(100):
        return float(x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2)


# name -> reference in a wider type
ELEMENTWISE = {
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, x * 0.01),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "gelu": lambda x: gelu(x.astype(np.float64)) if x.size else x,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "softplus": lambda x: np.logaddexp(0, x),
    "exp": np.exp,
    "log": np.log,
}
# name -> values at -inf and inf
LIMITS = {
    "relu": (0, np.inf),
    "leaky_relu": (-np.inf, np.inf),
    "elu": (-1, np.inf),
    "sigmoid": (0, 1),
    "tanh": (-1, 1),
    "softplus": (0, np.inf),
    "exp": (0, np.inf),
    "log": (np.nan, np.inf),
}


@pytest.fixture
def rng():
    return np.random.default_rng(2)


def inputs_of(name, rng, shape, dtype):
    x = rng.standard_normal(shape) * 3
    return (np.abs(x) if name == "log" else x).astype(dtype)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_functions_at_every_size(name, dtype, rng):
    function, reference = getattr(ops, name), ELEMENTWISE[name]
    for size in SIZES:
        x = inputs_of(name, rng, size, dtype)
        with np.errstate(divide="ignore"):
            expected = reference(x.astype(np.longdouble))
        assert_close(function(x), expected, ulps=4)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_nan_in_every_lane_stays_there(name, dtype, rng):
    clean = inputs_of(name, rng, 37, dtype)
    expected = getattr(ops, name)(clean)
    for i in range(clean.size):
        x = clean.copy()
        x[i] = np.nan
        actual = getattr(ops, name)(x)
        assert np.isnan(actual[i])
        assert_same_bits(np.delete(actual, i), np.delete(expected, i))


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("name", LIMITS)
def test_infinities(name, dtype):
    x = np.array([-np.inf, np.inf] * 20, dtype)
    np.testing.assert_array_equal(getattr(ops, name)(x), np.array(LIMITS[name] * 20, dtype))


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_functions_in_every_layout(name, dtype, rng):
    """Where an array lies changes no bit of the result."""
    function = getattr(ops, name)
    x = inputs_of(name, rng, (5, 3, 67), dtype)
    expected = function(x)
    for view in layouts(x):
        assert_same_bits(function(view), expected)
    for out in layouts(np.zeros_like(x)):
        if out.flags.behaved and out.dtype.isnative:
            assert function(x, out=out) is out
            assert_same_bits(out, expected)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_functions_are_the_same_bits_at_any_number_of_threads(name, dtype, rng):
    x = inputs_of(name, rng, (37, 301), dtype)
    expected = getattr(ops, name)(x)
    for threads in THREADS:
        with team(threads):
            assert_same_bits(getattr(ops, name)(x), expected)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_functions_work_in_place(name, rng):
    for view in layouts(inputs_of(name, rng, (4, 33), np.float64)):
        if view.flags.behaved and view.dtype.isnative:
            expected = getattr(ops, name)(view)
            getattr(ops, name)(view, out=view)
            assert_same_bits(view, expected)


def test_parameters_of_activations(rng):
    x = rng.standard_normal(50)
    assert_close(ops.leaky_relu(x, 0.3), np.where(x > 0, x, 0.3 * x), ulps=1)
    assert_close(ops.elu(x, alpha=2.5), np.where(x > 0, x, 2.5 * np.expm1(x)), ulps=4)
    assert_close(
        ops.leaky_relu(x.astype(np.float32), negative_slope=0.3),
        np.where(x > 0, x, 0.3 * x),
        ulps=2,
    )


def test_arrays_without_axes_give_scalars_as_in_numpy():
    for x in (np.array(-2.0), np.float64(-2.0), -2.0, np.float32(-2.0)):
        result = ops.relu(x)
        assert type(result) is type(np.maximum(x, 0.0))
        assert result == 0
    out = np.empty(())
    assert ops.exp(np.array(0.0), out=out) is out
    assert out == 1


def test_lists_and_subclasses_stand_for_arrays():
    assert_same_bits(ops.relu([[-1.0, 2.0]]), np.array([[0.0, 2.0]]))
    assert type(ops.relu(np.ones((2, 2)).view(np.matrix))) is np.ndarray


@pytest.mark.parametrize("dtype", [np.int64, np.float16, np.longdouble, complex, bool, object])
def test_other_dtypes_are_refused_by_name(dtype):
    x = np.ones((2, 2), dtype)
    name = np.dtype(dtype).name
    for function in (ops.relu, ops.log, ops.softmax, ops.leaky_relu):
        with pytest.raises(TypeError, match=f"x has dtype {name}; expected float32 or float64"):
            function(x)
    for loss in (ops.mse, ops.mae, ops.huber, ops.binary_cross_entropy, ops.cross_entropy):
        with pytest.raises(TypeError, match=f"pred has dtype {name}"):
            loss(x, np.ones((2, 2)))
        with pytest.raises(TypeError, match=f"target has dtype {name}"):
            loss(np.ones((2, 2)), x)


def test_more_than_eight_axes_are_refused():
    assert ops.relu(np.ones((1,) * 8)).ndim == 8
    with pytest.raises(ValueError, match="x has 9 axes; the limit is 8"):
        ops.relu(np.ones((1,) * 9))


def test_out_may_be_the_input_and_overlap_it_in_no_other_way():
    x = np.arange(-4.0, 4.0)
    assert ops.relu(x, out=x) is x
    memory = np.ones((5, 5))
    for out, array in (
        (memory[0, 1:], memory[0, :-1]),
        (memory.T, memory),
        (memory[0, ::-1], memory[0]),
        (memory[0], memory[:, 0]),
    ):
        with pytest.raises(ValueError, match="out overlaps x"):
            ops.relu(array, out=out)
        with pytest.raises(ValueError, match="out overlaps x"):
            ops.softmax(array, out=out)
    flat = np.arange(10.0)
    ops.relu(flat[::2], out=flat[1::2])  # interleaved, but no element is shared
    np.testing.assert_array_equal(flat[1::2], flat[::2])


def test_out_is_checked():
    x = np.ones((2, 3))
    read_only = np.empty((2, 3))
    read_only.flags.writeable = False
    misaligned = np.empty(49, np.uint8)[1:].view(np.float64).reshape(2, 3)
    for out, error, message in (
        (np.empty((3, 2)), ValueError, r"out has shape \(3, 2\), but the result has \(2, 3\)"),
        (
            np.empty((2, 3), np.float32),
            TypeError,
            "out has dtype float32, but the result is float64",
        ),
        (np.empty((2, 3), ">f8"), TypeError, "out has dtype >f8"),
        (read_only, ValueError, "out is read-only"),
        (misaligned, ValueError, "out is not aligned"),
        (np.lib.stride_tricks.as_strided(np.empty(3), (2, 3), (0, 8)), ValueError, "share memory"),
        ([[0.0] * 3] * 2, TypeError, "out must be a numpy.ndarray, not list"),
    ):
        for function in (ops.relu, ops.softmax):
            with pytest.raises(error, match=message):
                function(x, out=out)


# Broadcasting, through the instructions that ops has no function for.


BINARY = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "equal": np.equal,
    "not_equal": np.not_equal,
}
SHAPES = [
    ((3, 5), (5,)),
    ((3, 5), (3, 1)),
    ((1,), (7, 1031)),
    ((130, 10), (10,)),
    ((130, 10), (130, 1)),
    ((2, 1, 300), (2, 41, 1)),
    ((4, 1, 3, 1), (2, 1, 5)),
    ((), (3,)),
    ((0, 3), (1, 3)),
    ((2, 1500), (2, 1)),
    ((3, 1, 2, 1, 2, 1, 2, 1), (1, 2, 1, 2, 1, 3, 1, 5)),
]


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("name", BINARY)
def test_instructions_broadcast_as_numpy(name, dtype, rng):
    for a_shape, b_shape in SHAPES:
        a, b = (rng.integers(-3, 4, s).astype(dtype) for s in (a_shape, b_shape))
        with np.errstate(divide="ignore", invalid="ignore"):
            expected = BINARY[name](a, b).astype(dtype)
            assert_same_bits(np.asarray(_native.apply(name, a, b)), expected)
            expected = BINARY[name](b, a).astype(dtype)
            assert_same_bits(np.asarray(_native.apply(name, b, a)), expected)


def test_instructions_of_three_arrays(rng):
    a, b, c = rng.integers(0, 2, (4, 1)), rng.standard_normal((1, 6)), rng.standard_normal((4, 6))
    assert_same_bits(_native.apply("where", a.astype(float), b, c), np.where(a, b, c))
    assert_close(_native.apply("multiply_add", a.astype(float), b, c), a * b + c, ulps=1, scale=10)


def test_instructions_promote_as_numpy(rng):
    single, double = rng.standard_normal((3, 4)).astype(np.float32), rng.standard_normal(4)
    result = _native.apply("add", single, double)
    assert_same_bits(result, single + double)
    assert_same_bits(_native.apply("multiply", single, 2.0), single * 2.0)
    assert_same_bits(_native.apply("add", 1, 2.0), np.float64(3.0))


def test_instructions_that_do_not_broadcast():
    with pytest.raises(ValueError, match=r"shapes \[\(2, 3\), \(4,\)\], which do not broadcast"):
        _native.apply("add", np.ones((2, 3)), np.ones(4))


def test_every_instruction_has_a_code_of_its_own():
    table = _native.map_instructions()
    codes = [code for code, _ in table.values()]
    assert codes == list(range(len(table)))
    assert table["copy"] == (0, 1)
    assert table["multiply_add"] == (34, 3)


# Losses.


def huber_of(p, t, delta=1.0):
    d = np.abs(p - t)
    return np.where(d <= delta, d * d / 2, delta * (d - delta / 2))


ELEMENT_LOSSES = {
    "mse": lambda p, t: (p - t) ** 2,
    "mae": lambda p, t: np.abs(p - t),
    "huber": huber_of,
    "binary_cross_entropy": lambda p, t: np.logaddexp(0, p) - t * p,
}


def cross_entropy_of(logits, target):
    if target.ndim == 1:
        target = np.eye(logits.shape[1])[target]
    return -(target * log_softmax(logits, 1)).sum(1)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("name", ELEMENT_LOSSES)
@pytest.mark.parametrize("shape", [(1,), (67, 3), (5, 4, 3), (1023, 33), (70_001,)])
def test_element_losses(name, dtype, shape, rng):
    pred = (rng.standard_normal(shape) * 2).astype(dtype)
    target = rng.random(shape).astype(dtype)
    weight = rng.random(shape[0])
    losses = ELEMENT_LOSSES[name](pred.astype(np.longdouble), target.astype(np.longdouble))
    function = getattr(ops, name)
    loss = function(pred, target)
    assert type(loss) is float
    assert_close(dtype(loss), losses.mean(), ulps=8)
    of_samples = losses.reshape(len(losses), -1).mean(1)
    weighted = function(pred, target, sample_weight=weight)
    assert_close(dtype(weighted), (weight * of_samples).sum() / weight.sum(), ulps=8)


@pytest.mark.parametrize("name", ELEMENT_LOSSES)
def test_element_losses_in_every_layout(name, rng):
    pred, target = rng.standard_normal((6, 7)), rng.random((6, 7))
    expected = getattr(ops, name)(pred, target)
    for p, t in zip(layouts(pred), layouts(target), strict=True):
        assert getattr(ops, name)(p, target) == pytest.approx(expected, rel=1e-14)
        assert getattr(ops, name)(pred, t) == pytest.approx(expected, rel=1e-14)
    assert getattr(ops, name)(pred.astype(np.float32), target) == pytest.approx(expected, rel=1e-6)


STREAMED = 9 << 20  # elements whose input and output, as float32, no machine keeps in cache


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("offset", [0, 1, 5])
@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_outputs_beyond_the_cache_are_those_of_their_parts(rng, name, dtype, threads, offset):
    """Written past it, line by line from wherever they start; arrays that are new are not."""
    function = getattr(ops, name)
    x = np.resize(rng.standard_normal(99_991).astype(dtype), STREAMED + offset)[offset:]
    frame = np.full(STREAMED + offset + 16, dtype(7))
    out = frame[offset : offset + STREAMED]
    with team(threads):
        function(x, out=out)
        expected = np.concatenate([function(part) for part in np.array_split(x, 64)])
        assert_same_bits(function(x), expected)
    assert_same_bits(out, expected)
    assert np.all(frame[:offset] == 7)
    assert np.all(frame[offset + STREAMED :] == 7)


def test_outputs_beyond_the_cache_may_be_the_input_or_have_gaps(rng):
    x = np.resize(rng.standard_normal(99_991).astype(np.float32), (STREAMED // 1000, 1000))
    for function in (ops.tanh, ops.relu):
        expected = np.concatenate([function(part) for part in np.array_split(x, 64)])
        wide = np.full((len(x), 1003), np.float32(7))
        function(x, out=wide[:, 1:-2])
        assert_same_bits(np.ascontiguousarray(wide[:, 1:-2]), expected)
        assert np.all(wide[:, [0, -2, -1]] == 7)
    assert_same_bits(ops.relu(x, out=x), expected)


@pytest.mark.parametrize("delta", [0.1, 2.5])
def test_huber_changes_at_delta(delta, rng):
    pred, target = rng.standard_normal(500) * 4, rng.standard_normal(500)
    expected = huber_of(pred, target, delta).mean()
    assert_close(np.float64(ops.huber(pred, target, delta=delta)), expected, ulps=8)
    with pytest.raises(ValueError, match="delta is 0; expected more than 0"):
        ops.huber(pred, target, delta=0)


def test_binary_cross_entropy_is_exact_for_certain_predictions():
    """A right prediction costs exp(-|logit|), which the difference of two large numbers loses."""
    assert ops.binary_cross_entropy([40.0], [1.0]) == pytest.approx(math.exp(-40), rel=1e-14)
    assert ops.binary_cross_entropy([-40.0], [0.0]) == pytest.approx(math.exp(-40), rel=1e-14)
    assert ops.binary_cross_entropy([1e5], [0.0]) == 1e5


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize(
    ("n", "classes"), [(1, 1), (2, 10), (67, 33), (35, 80), (35, 81), (2049, 7)]
)
def test_cross_entropy_of_labels_and_of_probabilities(dtype, n, classes, rng):
    logits = (rng.standard_normal((n, classes)) * 4).astype(dtype)
    labels = rng.integers(0, classes, n)
    targets = rng.dirichlet(np.ones(classes), n).astype(dtype)
    weight = rng.random(n).astype(dtype)
    # An element's error is relative to what is subtracted, the spread of the logits.
    scale = np.abs(logits).max() * 2
    for target in (labels, labels.astype(np.uint8), targets):
        losses = cross_entropy_of(logits, target)
        for p in layouts(logits):
            actual = ops.cross_entropy(p, target)
            assert_close(dtype(actual), losses.mean(), ulps=4, scale=scale)
        weighted = ops.cross_entropy(logits, target, sample_weight=weight)
        expected = (weight * losses).sum() / weight.sum(dtype=np.float64)
        assert_close(dtype(weighted), expected, ulps=4, scale=scale)
    for t in layouts(targets):
        actual = ops.cross_entropy(logits, t)
        assert_close(dtype(actual), cross_entropy_of(logits, targets).mean(), ulps=4, scale=scale)


def test_cross_entropy_promotes():
    logits, target = np.zeros((2, 4), np.float32), np.full((2, 4), 0.25)
    assert ops.cross_entropy(logits, target) == pytest.approx(math.log(4), rel=1e-15)


def test_cross_entropy_names_the_row_of_a_label_out_of_range():
    logits = np.zeros((5, 3))
    for label in (3, -1):
        with pytest.raises(ValueError, match=rf"target\[4\] is {label}, but pred has 3 columns"):
            ops.cross_entropy(logits, [0, 1, 2, 0, label])
    with pytest.raises(TypeError, match="target has dtype float64; labels must be integers"):
        ops.cross_entropy(logits, np.zeros(5))
    with pytest.raises(ValueError, match="target has 4 rows, but pred has 5"):
        ops.cross_entropy(logits, [0, 1, 2, 0])
    with pytest.raises(ValueError, match=r"target has shape \(5, 2\); expected \(5,\) for labels"):
        ops.cross_entropy(logits, np.zeros((5, 2)))
    with pytest.raises(ValueError, match=r"pred has shape \(5,\); expected \(n, classes\)"):
        ops.cross_entropy(np.zeros(5), [0])


def losses_of(pred, target, **options):
    for name in ELEMENT_LOSSES:
        yield getattr(ops, name)(pred, target, **options)
    yield ops.cross_entropy(pred, target, **options)


def test_nan_reaches_every_loss(rng):
    pred, target = rng.random((9, 5)), rng.random((9, 5))
    for place in itertools.product(range(9), range(5)):
        broken = pred.copy()
        broken[place] = np.nan
        assert all(math.isnan(loss) for loss in losses_of(broken, target))
        assert all(
            math.isnan(loss) for loss in losses_of(pred, np.where(broken == pred, target, np.nan))
        )
    weight = np.array([1.0] * 8 + [np.nan])
    assert all(math.isnan(loss) for loss in losses_of(pred, target, sample_weight=weight))


def test_the_loss_of_nothing_is_nan():
    assert all(math.isnan(loss) for loss in losses_of(np.ones((0, 3)), np.ones((0, 3))))


def test_integer_weights_count_samples(rng):
    pred, target = rng.random((3, 2)), rng.random((3, 2))
    repeated = [0, 0, 2, 2, 2]
    for kind in (np.int64, np.uint8, np.int16, np.float32):
        weighted = losses_of(pred, target, sample_weight=np.array([2, 0, 3], kind))
        for actual, expected in zip(
            weighted, losses_of(pred[repeated], target[repeated]), strict=True
        ):
            assert actual == pytest.approx(expected, rel=1e-14)


def test_losses_check_shapes_and_weights():
    pred = np.ones((4, 3))
    for name in ELEMENT_LOSSES:
        loss = getattr(ops, name)
        with pytest.raises(ValueError, match=r"target has shape \(4,\), but pred has \(4, 3\)"):
            loss(pred, np.ones(4))
    for loss in (ops.mse, ops.cross_entropy):
        with pytest.raises(ValueError, match=r"sample_weight must have shape \(4,\)"):
            loss(pred, pred, sample_weight=np.ones(3))
        with pytest.raises(ValueError, match="sample_weight must not sum to zero"):
            loss(pred, pred, sample_weight=np.zeros(4))
        with pytest.raises(TypeError, match="sample_weight has dtype complex128"):
            loss(pred, pred, sample_weight=np.zeros(4, complex))


@pytest.mark.parametrize("dtype", REALS)
def test_losses_are_the_same_bits_at_any_number_of_threads(dtype, rng):
    pred, target = rng.random((2999, 33)).astype(dtype), rng.random((2999, 33)).astype(dtype)
    weight = rng.random(2999)
    results = []
    for threads in THREADS:
        with team(threads):
            results.append(
                [*losses_of(pred, target), *losses_of(pred, target, sample_weight=weight)]
            )
    assert all(result == results[0] for result in results)


# Optimiser steps.


def state(rng, dtype, shape, count):
    return [rng.standard_normal(shape).astype(dtype) for _ in range(count)]


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("size", [0, 1, 7, 33, 1025])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight_decay": 0.1},
        {"momentum": 0.9},
        {"momentum": 0.9, "nesterov": True},
        {"momentum": 0.5, "nesterov": True, "weight_decay": 0.01},
    ],
)
def test_sgd_step_follows_pytorch(dtype, size, options, rng):
    (param,) = state(rng, dtype, size, 1)
    velocity = np.zeros_like(param) if "momentum" in options else None
    expected, v = param.astype(np.longdouble), np.longdouble(0)
    momentum = options.get("momentum", 0)
    for _ in range(3):
        (grad,) = state(rng, dtype, size, 1)
        assert ops.sgd_step(param, grad, lr=0.1, velocity=velocity, **options) is None
        g = grad + options.get("weight_decay", 0) * expected
        v = momentum * v + g
        expected = expected - 0.1 * (g + momentum * v if options.get("nesterov") else v)
    assert_close(param, expected, ulps=4, scale=1 + np.abs(expected))


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("size", [0, 1, 7, 33, 1025])
@pytest.mark.parametrize("weight_decay", [0, 0.1])
def test_adam_step_follows_pytorch(dtype, size, weight_decay, rng):
    (param,) = state(rng, dtype, size, 1)
    m, v = np.zeros_like(param), np.zeros_like(param)
    p = param.astype(np.longdouble)
    wide_m = wide_v = np.longdouble(0)
    for t in range(1, 5):
        (grad,) = state(rng, dtype, size, 1)
        step = {"step": t, "lr": 0.01, "weight_decay": weight_decay}
        assert ops.adam_step(param, grad, m, v, **step) is None
        g = grad.astype(np.longdouble)
        p = p * (1 - 0.01 * weight_decay)
        wide_m = 0.9 * wide_m + 0.1 * g
        wide_v = 0.999 * wide_v + 0.001 * g * g
        p = p - 0.01 * (wide_m / (1 - 0.9**t)) / (np.sqrt(wide_v / (1 - 0.999**t)) + 1e-8)
    assert_close(param, p, ulps=4, scale=1 + np.abs(p))
    assert_close(m, np.broadcast_to(wide_m, m.shape), ulps=4, scale=1)
    assert_close(v, np.broadcast_to(wide_v, v.shape), ulps=8)


@pytest.mark.parametrize("dtype", REALS)
def test_steps_are_the_same_bits_at_any_number_of_threads(dtype, rng):
    start = state(rng, dtype, (41, 131), 4)
    start[3] = np.abs(start[3])
    results = []
    for threads in THREADS:
        with team(threads):
            p, g, m, v = (x.copy() for x in start)
            ops.sgd_step(p, g, lr=0.1, momentum=0.9, velocity=m)
            ops.adam_step(p, g, m, v, step=3, lr=0.1, weight_decay=0.1)
            results.append((p, m, v))
    for result in results[1:]:
        for actual, expected in zip(result, results[0], strict=True):
            assert_same_bits(actual, expected)


@pytest.mark.parametrize("place", range(67))
def test_nan_in_a_gradient_reaches_its_parameter_alone(place):
    grad = np.ones(67, np.float32)
    grad[place] = np.nan
    for arrays, step in (
        (1, lambda p, v: ops.sgd_step(p, grad, lr=0.5, momentum=0.9, velocity=v[0])),
        (2, lambda p, v: ops.adam_step(p, grad, *v, step=1, lr=0.5)),
    ):
        param, states = np.ones(67, np.float32), [np.zeros(67, np.float32) for _ in range(arrays)]
        step(param, states)
        np.testing.assert_array_equal(np.isnan(param), np.isnan(grad))
        assert np.all(np.abs(np.delete(param, place) - 0.5) < 1e-6)


def test_velocity_is_left_alone_without_momentum():
    param, velocity = np.ones(3), np.full(3, 7.0)
    ops.sgd_step(param, np.ones(3), lr=0.5, velocity=velocity)
    np.testing.assert_array_equal(velocity, 7)
    np.testing.assert_array_equal(param, 0.5)


def read_only(x):
    x.flags.writeable = False
    return x


@pytest.mark.parametrize(
    ("position", "array", "message"),
    [
        (0, read_only(np.ones((4, 4))), "param is read-only"),
        (0, np.asfortranarray(np.ones((4, 4))), "param must be C-contiguous"),
        (1, np.ones((4, 3)), r"grad has shape \(4, 3\), but param has \(4, 4\)"),
        (1, np.ones((4, 4), np.float32), "grad has dtype float32, but param has float64"),
        (1, np.ones((8, 8))[::2, ::2], "grad must be C-contiguous"),
        (2, np.ones((4, 4), np.float32), "m has dtype float32, but param has float64"),
        (2, read_only(np.ones((4, 4))), "m is read-only"),
        (3, np.ones(16), r"v has shape \(16,\), but param has \(4, 4\)"),
    ],
)
def test_steps_name_the_array_that_does_not_fit(position, array, message):
    arrays = [np.ones((4, 4)) for _ in range(4)]
    arrays[position] = array
    with pytest.raises(ValueError, match=message):
        ops.adam_step(*arrays, step=1, lr=0.1)
    assert all(np.all(x == 1) for x in arrays)
    if position < 2:
        with pytest.raises(ValueError, match=message):
            ops.sgd_step(*arrays[:2], lr=0.1)


def test_steps_check_what_they_are_given():
    x, y, z, g = (np.ones(3) for _ in range(4))
    for call, error, message in (
        (
            lambda: ops.sgd_step([1.0], g, lr=1),
            TypeError,
            "param must be a numpy.ndarray, not list",
        ),
        (lambda: ops.sgd_step(np.ones(3, int), g, lr=1), TypeError, "param has dtype int64"),
        (lambda: ops.sgd_step(x, g, lr=-1), ValueError, "lr is -1.0; expected 0 or more"),
        (lambda: ops.sgd_step(x, g, lr=1, momentum=0.9), ValueError, "velocity is needed"),
        (lambda: ops.sgd_step(x, g, lr=1, nesterov=True), ValueError, "nesterov needs a momentum"),
        (lambda: ops.sgd_step(x, x, lr=1), ValueError, "grad overlaps param"),
        (lambda: ops.adam_step(x, g, y, y, step=1, lr=1), ValueError, "v overlaps m"),
        (
            lambda: ops.adam_step(x, g, y, z, step=0, lr=1),
            ValueError,
            "step is 0; steps count from 1",
        ),
        (lambda: ops.adam_step(x, g, y, z, step=1, lr=1, beta1=1), ValueError, "beta1 is 1.0"),
        (lambda: ops.adam_step(x, g, y, z, step=1, lr=1, eps=-1), ValueError, "eps is -1.0"),
    ):
        with pytest.raises(error, match=message):
            call()
    np.testing.assert_array_equal([x, y, z, g], 1)
