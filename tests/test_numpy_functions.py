"""Every NumPy function that traced functions may use, against NumPy: dtype, shape, value, and the
first two derivatives against central differences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes

import dlcore as dl
from dlcore.graph.interface import FUNCTIONS, REDUCTIONS, UFUNCS, TensorInterface
from numpy_tools import (
    DTYPES,
    FLOATS,
    check_derivatives,
    check_value,
    operand,
    spread_out,
)

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def bounded(examples: int) -> settings:
    return settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.generate],
    )


# Universal functions


@dataclass(frozen=True)
class Domain:
    """Where a universal function is defined, smooth but for kinks at multiples of 0.5."""

    low: float = -2.0
    high: float = 2.0
    differentiable: bool = True
    dtypes: tuple[str, ...] = DTYPES


ANY, POSITIVE, UNIT = Domain(), Domain(0.6, 3.0), Domain(-0.8, 0.8)
SMALL = Domain(0.6, 1.4)
NONE = Domain(differentiable=False)
BOOLEAN = Domain(differentiable=False, dtypes=("?",))
COMPARED = Domain(low=-2.0, high=2.0, differentiable=False)

DOMAINS: dict[np.ufunc, Domain] = {
    **dict.fromkeys(
        [
            np.add,
            np.subtract,
            np.multiply,
            np.negative,
            np.positive,
            np.absolute,
            np.fabs,
            np.square,
            np.exp,
            np.exp2,
            np.expm1,
            np.tanh,
            np.sin,
            np.cos,
            np.sinh,
            np.cosh,
            np.arctan,
            np.arcsinh,
            np.logaddexp,
            np.logaddexp2,
            np.hypot,
            np.arctan2,
            np.copysign,
            np.maximum,
            np.minimum,
            np.deg2rad,
            np.radians,
            np.rad2deg,
            np.degrees,
        ],  # fmt: skip
        ANY,
    ),
    **dict.fromkeys(
        [
            np.divide,
            np.sqrt,
            np.cbrt,
            np.log,
            np.log2,
            np.log10,
            np.log1p,
            np.reciprocal,
            np.float_power,
            np.remainder,
            np.fmod,
        ],  # fmt: skip
        POSITIVE,
    ),
    np.power: Domain(0.6, 3.0, dtypes=FLOATS),  # integers are below
    **dict.fromkeys([np.tan, np.arcsin, np.arccos, np.arctanh], UNIT),
    np.arccosh: Domain(1.2, 3.0),
    **dict.fromkeys(
        [np.floor, np.ceil, np.trunc, np.rint, np.sign, np.isnan, np.isinf, np.isfinite], NONE
    ),
    np.heaviside: NONE,
    np.floor_divide: Domain(0.6, 3.0, differentiable=False),
    **dict.fromkeys(
        [
            np.greater,
            np.greater_equal,
            np.less,
            np.less_equal,
            np.equal,
            np.not_equal,
            np.logical_and,
            np.logical_or,
            np.logical_xor,
            np.logical_not,
        ],  # fmt: skip
        COMPARED,
    ),
    **dict.fromkeys([np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.invert], BOOLEAN),
}
# Universal functions of vectors and matrices are with the other functions.
OF_ARRAYS = {np.matmul, np.vecdot}
UFUNC_IDS = [pytest.param(ufunc, id=ufunc.__name__) for ufunc in DOMAINS]
SMOOTH_IDS = [pytest.param(u, id=u.__name__) for u, d in DOMAINS.items() if d.differentiable]


def test_every_universal_function_has_a_case():
    assert set(DOMAINS) | OF_ARRAYS == set(UFUNCS)


@pytest.mark.parametrize("ufunc", UFUNC_IDS)
@bounded(12)
@given(data=st.data())
def test_universal_function_is_numpys(ufunc, data):
    """For all dtypes and their mixtures, layouts, and shapes that broadcast."""
    domain = DOMAINS[ufunc]
    shapes = data.draw(mutually_broadcastable_shapes(num_shapes=ufunc.nin, max_dims=3, max_side=4,
                                                     min_side=0)).input_shapes  # fmt: skip
    arrays = [data.draw(operand(s, domain.low, domain.high, domain.dtypes)) for s in shapes]
    check_value(lambda *args: ufunc(*args), arrays)


@pytest.mark.parametrize("ufunc", SMOOTH_IDS)
@bounded(3)
@given(data=st.data())
def test_universal_function_has_numpys_derivatives(ufunc, data):
    domain = DOMAINS[ufunc]
    shapes = data.draw(mutually_broadcastable_shapes(num_shapes=ufunc.nin, max_dims=2,
                                                     max_side=3)).input_shapes  # fmt: skip
    arrays = [
        spread_out(shape, domain.low, domain.high, seed) for seed, shape in enumerate(shapes, 1)
    ]
    check_derivatives(lambda *args: ufunc(*args), arrays)


# Dtypes

SCALARS = [
    2, 2.0, True, np.float32(2), np.float64(2), np.int8(2), np.uint8(2), np.int64(2),
    np.bool_(True), np.array(2.0), np.array(2, "i4"), np.array(2.0, "f4"), np.array(True),
]  # fmt: skip
BINARY = [
    np.add, np.subtract, np.multiply, np.divide, np.maximum, np.floor_divide, np.remainder,
    np.hypot, np.logaddexp, np.copysign, np.greater, np.logical_and, np.heaviside, np.float_power,
]  # fmt: skip


def traced(array: Any) -> Any:
    """A node for the array, as an argument is."""
    return dl.graph.tensor.constant(np.asarray(array))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ufunc", BINARY, ids=lambda u: u.__name__)
def test_scalars_promote_as_in_numpy(ufunc, dtype):
    """Python's numbers are weak; NumPy's scalars and arrays without axes are not."""
    x = np.ones(3, dtype)
    for scalar in SCALARS:
        for arguments in ((x, scalar), (scalar, x)):
            nodes = [traced(a) if a is x else a for a in arguments]
            try:
                expected = ufunc(*arguments).dtype
            except TypeError:
                expected = np.dtype(np.float16)
            if expected == np.float16:
                with pytest.raises(TypeError):
                    ufunc(*nodes)
            else:
                assert ufunc(*nodes).dtype == expected, (arguments, ufunc)


@pytest.mark.parametrize("left", DTYPES)
def test_where_and_concatenate_promote_as_in_numpy(left):
    x = np.ones(3, left)
    for right in [np.ones(3, dtype) for dtype in DTYPES]:
        expected = np.result_type(x, right)
        if expected == np.float16:
            continue
        assert np.where(traced(x) > 0, traced(x), traced(right)).dtype == expected
        assert np.concatenate([traced(x), right]).dtype == expected
        assert np.stack([x, traced(right)]).dtype == expected
    for scalar in (2, 2.5, True, np.float32(2), np.float64(2)):
        expected = np.where(x > 0, x, scalar).dtype
        if expected != np.float16:
            assert np.where(traced(x) > 0, traced(x), scalar).dtype == expected


@pytest.mark.parametrize(
    "f",
    [
        lambda s, x: s * x,
        lambda s, x: (2 * s + 1) ** 2 * x,
        lambda s, x: -s / 3 + x,
        lambda s, x: np.tanh(s) * x,
        lambda s, x: np.where(x > 0, x, s),
        lambda s, x: np.stack([s, 2.0]) * x[:2],
        lambda s, x: np.reshape(s, (1,)) * x,
        lambda s, x: np.maximum(x, s),
        lambda s, x: np.clip(x, -s, s),
    ],
)
def test_floats_as_arguments_are_weak_as_in_numpy(f):
    x = np.array([1.5, -2.5, 3.5], np.float32)
    check_value(f, [0.7, x])
    result = f(0.7, x)
    (gradient,) = dl.grad(lambda s, x: np.sum(f(s, x)), (1,))(0.7, x)
    assert gradient.dtype == x.dtype
    value, slope = dl.value_and_grad(lambda s, x: np.sum(f(s, x)))(0.7, x)
    assert value.dtype == result.dtype
    assert slope.dtype == np.float64


def test_a_promotion_to_float64_shows_in_the_plan_summary():
    x = np.ones(3, np.float32)
    same, widened = dl.jit(lambda x: 2.0 * x), dl.jit(lambda x: np.float64(2) * x)
    same(x)
    widened(x)
    assert "float64" not in same.plan_summary()
    assert "float64" in widened.plan_summary()


# Integers

NARROW = ("i1", "u1", "i2", "u2", "i4", "u4")
MATRIX = np.arange(-50, 50).reshape(10, 10)

WRAPPING = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "negative": lambda a, b: -a,
    "absolute": lambda a, b: abs(a),
    "square": lambda a, b: np.square(a),
    "difference": lambda a, b: np.diff(a),
    "quotient": lambda a, b: a // np.where(a > 0, b - b, b // b * 0 - 1),
    "outer": lambda a, b: np.outer(a, b),
    "remainder": lambda a, b: (a + b) % 7,
}


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("name", WRAPPING)
def test_integers_wrap_around_at_the_ends_of_their_dtype_as_in_numpy(name, dtype):
    """Where they are used, not only in results: in floating point, comparisons, wider integers."""
    f = WRAPPING[name]
    limits = np.iinfo(dtype)
    small = [3, 100, 7, 2, 50, 11]  # products of large ones of 32 bits are beyond 2**53
    a = np.array([limits.max, limits.min, limits.max - 5, limits.min + 3, 100, 0], dtype)
    b = np.array(small if a.itemsize == 4 else a[::-1] + a.dtype.type(1), dtype)
    if name in ("square", "outer", "multiply") and a.itemsize == 4:
        a = np.array([40_000, 65_535, 46_341, 70_000, 1, 0], dtype)
    for g in (
        lambda a, b: f(a, b),
        lambda a, b: f(a, b) / 2,
        lambda a, b: f(a, b) > 0,
        lambda a, b: f(a, b).astype(np.int64) * 3,
        lambda a, b: np.sum(f(a, b)),
    ):
        check_value(g, [a, b])


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize(
    "f",
    [
        lambda m: m @ m / 2,
        lambda m: np.dot(m[0], m[1]) * 1.5,
        lambda m: np.einsum("ij,jk->ki", m, m) > 0,
        lambda m: np.einsum("ij->j", m),
        lambda m: np.vecdot(m, m[0]) / 1,
        lambda m: np.tensordot(m, m, 2),
        lambda m: np.sum(m, dtype=m.dtype),
        lambda m: np.sum(m, 0, dtype=np.int8) / 2,
        lambda m: np.mean(m, dtype=np.float32),
    ],
)
def test_sums_of_integers_wrap_around_as_in_numpy(f, dtype):
    check_value(f, [(MATRIX + 50 if dtype == "u4" else MATRIX).astype(dtype)])


@pytest.mark.parametrize("target", ["i1", "u1", "i2", "i4", "u4", "i8", "f4", "?"])
@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "i4", "i8"])
def test_astype_to_narrow_integers_wraps_around_as_in_numpy(dtype, target):
    large = min(np.iinfo(dtype).max // 256, 2**40) + 120
    x = np.array([large, -3, 250, 7], "i8").astype(dtype)
    check_value(lambda x: x.astype(target) * 1, [x])
    check_value(lambda x: x.astype(target) / 2, [x])


@pytest.mark.parametrize("dtype", ["?", *NARROW, "i8", "u8"])
@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 7, True, np.int8(2), np.uint8(5), np.int64(3)])
def test_integers_to_the_power_of_an_integer_are_numpys(exponent, dtype):
    x = np.array([3, 1, 0, 5, 2, 7, 11, 1], dtype)
    check_value(lambda x: x**exponent, [x])
    check_value(lambda x: np.power(x, exponent) / 2, [x])


def test_integers_to_the_power_of_twenty_are_exact():
    check_value(lambda x: x**20, [np.array([3, -5, 6, 2], np.int64)])
    check_value(lambda x: x**20 / 2, [np.array([3, -5, 6, 100], np.int8)])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("exponent", [1, 2, 3, 4, 0.5, -1, -2, 2.5, -0.75])
def test_floats_to_the_power_of_a_number_are_numpys(exponent, dtype):
    """Also those of few products, which over- and underflow where NumPy's do."""
    info = np.finfo(dtype)
    most = np.longdouble(info.max) ** (1 / np.longdouble(abs(exponent)))
    edges = [0.999 * most, 1.001 * most, 1.001 / most, 0.5 / most]
    specials = [0.0, 0.3, 1.0, 7.7, np.inf, np.nan, *edges]
    x = np.array([*specials, *-np.array(specials)], np.longdouble)
    if not float(exponent).is_integer():
        x = x[: len(specials)]  # -0.0 ** 0.5 is -0.0 as a root, in NumPy too, and 0.0 in C
    with np.errstate(all="ignore"):
        x = x.astype(dtype)
        expected = np.power(x.astype(np.longdouble), exponent).astype(dtype)
        actual = dl.jit(lambda x: x**exponent)(x)
    np.testing.assert_allclose(actual, expected, rtol=2 * info.eps, atol=info.smallest_subnormal)
    np.testing.assert_array_equal(np.signbit(actual), np.signbit(expected))


def test_integers_to_the_power_of_floats_are_floats():
    check_value(lambda x, y: x**y, [np.array([3, 1, 5], "i4"), np.array([2.0, -1.0, 0.5])])
    check_value(lambda x: x**2.0 + 2.0**x, [np.array([3, 1, 5], "i8")])


@pytest.mark.parametrize("f", [lambda x, n: x**n, lambda x, n: 2**n, lambda x, n: x ** n[:1]])
def test_integers_to_the_power_of_an_array_of_integers_are_refused(f):
    """One that is negative is an error in NumPy, and whether there is one decides data."""
    x, n = np.array([3, 1, 5]), np.array([2, 0, 1])
    with pytest.raises(TypeError, match=r"write x \*\* n.astype\(float\)"):
        dl.jit(f)(x, n)
    check_value(lambda x, n: x ** n.astype(float), [x, n])


@pytest.mark.parametrize(
    "f",
    [
        lambda x: x + 300,
        lambda x: 300 * x,
        lambda x: x - -129,
        lambda x: x // 300,
        lambda x: x**300,
        lambda x: np.maximum(x, 300),
        lambda x: np.full_like(x, 300),
        lambda x: np.clip(x, 300, 400),
        lambda x: x.astype(np.int64) + 2**70,
    ],
)
def test_python_ints_that_do_not_fit_the_dtype_are_an_overflow_as_in_numpy(f):
    x = np.array([1, 2], np.int8)
    with pytest.raises(OverflowError):
        f(x)
    with pytest.raises(OverflowError, match="test_numpy_functions.py:"):
        dl.jit(f)(x)


@pytest.mark.parametrize("dtype", ["i1", "u1"])
@pytest.mark.parametrize(
    "f",
    [
        lambda x: x > 300,
        lambda x: x != 300,
        lambda x: x >= -300,
        lambda x: x < 2**70,
        lambda x: np.clip(x, -1000, 1000),
        lambda x: np.clip(x, -1000, 2),
        lambda x: np.clip(x, 2, 1000),
        lambda x: np.isclose(x, 2),
    ],
)
def test_python_ints_that_do_not_fit_the_dtype_may_bound_it_as_in_numpy(f, dtype):
    check_value(f, [np.array([1, 2, 3, 100], dtype)])


# Reductions


@pytest.mark.parametrize("ufunc", [pytest.param(u, id=u.__name__) for u in REDUCTIONS])
@bounded(15)
@given(data=st.data())
def test_ufunc_reduce_is_numpys(ufunc, data):
    shape = data.draw(st.sampled_from([(4,), (2, 3), (1, 3), (2, 1, 3)]))
    x = data.draw(operand(shape))
    axes = [None, *range(-len(shape), len(shape)), tuple(range(len(shape)))[:2]]
    options = {"axis": data.draw(st.sampled_from(axes)), "keepdims": data.draw(st.booleans())}
    check_value(lambda x: ufunc.reduce(x, **options), [x])
    if x.dtype.kind == "f" and ufunc not in (np.logical_and, np.logical_or):
        check_derivatives(lambda x: ufunc.reduce(x, **options), [spread_out(shape, -2, 2, 1)])


def test_ufunc_reduce_is_over_the_first_axis_by_default():
    check_value(np.add.reduce, [np.arange(6.0).reshape(2, 3)])


def test_reductions_of_numpy_have_cases():
    assert set(REDUCTIONS) == {
        np.add, np.maximum, np.minimum, np.logical_and, np.logical_or, np.logaddexp
    }  # fmt: skip


# Functions


@dataclass(frozen=True)
class Case:
    """A call; an operand is the shape of an array to be drawn, or the array itself."""

    f: Callable[..., Any]
    operands: tuple[Any, ...]
    low: float = -2.0
    high: float = 2.0
    differentiable: bool = True
    dtypes: tuple[str, ...] = DTYPES


def fixed_value(*operands: Any, f: Callable[..., Any], **options: Any) -> Case:
    return Case(f, operands, differentiable=False, **options)


ROWS = np.array([[2, 0, -1], [1, 1, -3]])
MASK = np.array([[True, False, True, True], [False, False, True, False], [True] * 4])


def _reductions(f: Callable[..., Any], **options: Any) -> list[Case]:
    return [
        Case(lambda x: f(x), ((3, 4),), **options),
        Case(lambda x: f(x, axis=0), ((3, 4),), **options),
        Case(lambda x: f(x, axis=-1, keepdims=True), ((2, 3, 4),), **options),
        Case(lambda x: f(x, axis=(0, 2)), ((2, 3, 4),), **options),
        Case(lambda x: f(x, axis=np.int64(1)), ((3, 4),), **options),
        Case(lambda x: f(x, axis=1), ((0, 4),), **options | {"differentiable": False}),
        Case(lambda x: f(x), ((1, 1),), **options),
        Case(lambda x: f(x), ((),), **options),
    ]


def _every(f: Callable[..., Any], *shapes: tuple[int, ...], **options: Any) -> list[Case]:
    """The function of one array, for each of the shapes."""
    return [Case(f, (shape,), **options) for shape in shapes]


BOOLEANS = {"differentiable": False}
EMPTY_TOO = ((2, 3), (3,), (), (0, 3), (1, 1))
getitem = TensorInterface.__getitem__

CASES: dict[Any, list[Case]] = {
    np.sum: [
        *_reductions(np.sum),
        Case(lambda x: np.sum(x, where=MASK), ((3, 4),)),
        Case(lambda x: np.sum(x, 0, dtype=np.float64), ((3, 4),)),
        fixed_value((3, 4), f=lambda x: np.sum(x, 0, dtype=np.float32)),
        fixed_value((3, 0), f=lambda x: np.sum(x, 1)),
        Case(lambda x: x.sum(0), ((3, 4),)),
    ],
    np.mean: [*_reductions(np.mean), Case(lambda x: x.mean(1, keepdims=True), ((3, 4),))],
    np.max: [*_reductions(np.max), Case(lambda x: x.max(), ((3, 4),))],
    np.amax: _reductions(np.amax),
    np.min: [*_reductions(np.min), Case(lambda x: x.min(0), ((3, 4),))],
    np.amin: _reductions(np.amin),
    np.any: [*_reductions(np.any, **BOOLEANS), fixed_value((3, 0), f=lambda x: np.any(x, 1))],
    np.all: [*_reductions(np.all, **BOOLEANS), fixed_value((3, 0), f=lambda x: np.all(x, 1))],
    np.count_nonzero: _reductions(np.count_nonzero, **BOOLEANS)[:-1],
    np.ptp: _reductions(np.ptp),
    np.var: [
        *_reductions(np.var)[:-2],
        Case(lambda x: np.var(x, 0, ddof=1), ((3, 4),)),
        Case(lambda x: np.var(x, -1, ddof=0.5, keepdims=True), ((3, 4),)),
    ],
    np.std: [
        *_reductions(np.std)[:-2],
        Case(lambda x: np.std(x, 0, ddof=1), ((3, 4),)),
        Case(lambda x: x.std(0), ((3, 4),)),
    ],
    np.average: [
        *_reductions(np.average)[:5],
        Case(lambda x, w: np.average(x, 1, weights=w), ((3, 4), (4,)), 0.5, 2.0),
        Case(lambda x, w: np.average(x, 0, weights=w, keepdims=True), ((3, 4), (3, 4)), 0.5, 2.0),
    ],
    np.linalg.norm: [
        Case(np.linalg.norm, ((3, 4),), dtypes=FLOATS),
        Case(lambda x: np.linalg.norm(x, axis=1), ((3, 4),)),
        Case(lambda x: np.linalg.norm(x, 2, axis=0, keepdims=True), ((3, 4),)),
        Case(lambda x: np.linalg.norm(x, 1, axis=1), ((3, 4),)),
        Case(lambda x: np.linalg.norm(x, np.inf), ((4,),), dtypes=FLOATS),
        Case(lambda x: np.linalg.norm(x, "fro", axis=(1, 2)), ((2, 3, 4),)),
    ],
    np.shape: [fixed_value((3, 4), f=lambda x: np.reshape(x, np.shape(x)[::-1]))],
    np.ndim: [fixed_value((3, 4), f=lambda x: np.sum(x, np.ndim(x) - 1))],
    np.size: [fixed_value((3, 4), f=lambda x: np.reshape(x, np.size(x)) * np.size(x, 1))],
    np.astype: [
        Case(lambda x: np.astype(x, np.float64) * 2, ((3, 4),)),
        *(
            fixed_value((3, 4), f=lambda x, d=d: x.astype(d))
            for d in ("?", "i1", "u1", "i4", "i8", "f4")
        ),
        fixed_value((3,), f=lambda x: x.astype("f4").astype(int).astype("f8") / 2),
    ],
    np.copy: _every(np.copy, *EMPTY_TOO),
    np.reshape: [
        Case(lambda x: np.reshape(x, (4, 3)), ((3, 4),)),
        Case(lambda x: np.reshape(x, (2, -1, 1)), ((3, 4),)),
        Case(lambda x: x.reshape(2, 6), ((3, 4),)),
        Case(lambda x: x.reshape(-1), ((3, 4),)),
        Case(lambda x: x.T.reshape(np.int64(6), 2), ((3, 4),)),
        fixed_value((0, 4), f=lambda x: np.reshape(x, (2, 0))),
        Case(lambda x: np.reshape(x, ()), ((1, 1),)),
    ],
    np.ravel: [*_every(np.ravel, *EMPTY_TOO), Case(lambda x: x.T.flatten(), ((3, 4),))],
    np.transpose: [
        *_every(np.transpose, *EMPTY_TOO),
        Case(lambda x: np.transpose(x, (2, 0, -2)), ((2, 3, 4),)),
        Case(lambda x: x.transpose(1, 0) * x.T, ((3, 4),)),
    ],
    np.permute_dims: [Case(lambda x: np.permute_dims(x, (1, 2, 0)), ((2, 3, 4),))],
    np.matrix_transpose: [
        Case(np.matrix_transpose, ((2, 3, 4),)),
        Case(lambda x: x.mT, ((2, 3),)),
    ],
    np.swapaxes: [Case(lambda x: np.swapaxes(x, 0, -1), ((2, 3, 4),))],
    np.moveaxis: [
        Case(lambda x: np.moveaxis(x, 0, -1), ((2, 3, 4),)),
        Case(lambda x: np.moveaxis(x, [0, 1], [-1, 0]), ((2, 3, 4),)),
    ],
    np.expand_dims: [
        Case(lambda x: np.expand_dims(x, 0), ((3, 4),)),
        Case(lambda x: np.expand_dims(x, (0, -1)), ((3, 4),)),
        Case(lambda x: np.expand_dims(x, np.int64(1)), ((3, 4),)),
        Case(lambda x: x[:, None, ..., None], ((3, 4),)),
    ],
    np.squeeze: [
        *_every(np.squeeze, (1, 3, 1), (3,), (1, 1)),
        Case(lambda x: np.squeeze(x, -1), ((1, 3, 1),)),
    ],
    np.atleast_1d: _every(np.atleast_1d, (), (3,), (2, 3)),
    np.atleast_2d: _every(np.atleast_2d, (), (3,), (2, 3)),
    np.broadcast_to: [
        Case(lambda x: np.broadcast_to(x, (2, 3, 4)), ((3, 1),)),
        Case(lambda x: np.broadcast_to(x, 3), ((),)),
        fixed_value((1,), f=lambda x: np.broadcast_to(x, (2, 0))),
    ],
    np.concatenate: [
        Case(lambda a, b: np.concatenate([a, b]), ((2, 3), (1, 3))),
        Case(lambda a, b: np.concatenate((a, b, a * 2), axis=-1), ((2, 3), (2, 1))),
        Case(lambda a, b: np.concatenate([a, b], axis=None), ((2, 3), (1,))),
        Case(lambda a, b: np.concatenate([a.T, b, np.ones((1, 2))]), ((2, 3), (1, 2))),
        fixed_value((0, 3), (2, 3), f=lambda a, b: np.concatenate([a, b])),
        fixed_value((0, 3), (0, 3), f=lambda a, b: np.concatenate([a, b])),
        fixed_value((0, 3), f=lambda a: np.concatenate([a, a])),
        Case(lambda a: np.concatenate([a]), ((2, 3),)),
        Case(lambda a: np.concatenate(a, axis=1), ((2, 3, 2),)),
    ],
    np.stack: [
        Case(lambda a, b: np.stack([a, b]), ((2, 3), (2, 3))),
        Case(lambda a, b: np.stack([a, b, a * b], axis=-1), ((2, 3), (2, 3))),
        Case(lambda a, b: np.stack([a, b]), ((), ())),
        Case(lambda x: np.stack([np.sum(x), x[1], 2.0]), ((3,),)),
    ],
    np.vstack: [
        Case(lambda a, b: np.vstack([a, b]), ((3,), (2, 3))),
        Case(lambda a, b: np.vstack([a, b]), ((3,), (3,))),
    ],
    np.hstack: [
        Case(lambda a, b: np.hstack([a, b]), ((2, 3), (2, 1))),
        Case(lambda a, b: np.hstack([a, b]), ((3,), (2,))),
        Case(lambda a, b: np.hstack([a, b]), ((), (2,))),
    ],
    np.column_stack: [
        Case(lambda a, b: np.column_stack([a, b]), ((3,), (3, 2))),
        Case(lambda a, b: np.column_stack([a, b]), ((3,), (3,))),
    ],
    np.split: [
        Case(lambda x: np.split(x, 3)[1], ((6, 2),)),
        fixed_value((6, 2), f=lambda x: np.split(x, [1, 4])),
        Case(lambda x: np.split(x, [1, 4], axis=-1)[2] * 2, ((2, 6),)),
        fixed_value((3, 2), f=lambda x: np.split(x, [1, 5, 7])),
        fixed_value((6,), f=lambda x: np.split(x, [4, 2, -1])),
    ],
    np.array_split: [
        Case(lambda x: np.array_split(x, 4)[1], ((7, 2),)),
        fixed_value((2, 7), f=lambda x: np.array_split(x, 3, axis=1)),
        fixed_value((2,), f=lambda x: np.array_split(x, 3)),
    ],
    np.flip: [
        Case(np.flip, ((3, 4),)),
        Case(lambda x: np.flip(x, 1) * x, ((3, 4),)),
        Case(lambda x: np.flip(x, (0, -1)), ((2, 3, 4),)),
        fixed_value((0, 4), f=np.flip),
    ],
    np.roll: [
        Case(lambda x: np.roll(x, 2), ((3, 4),)),
        Case(lambda x: np.roll(x, -5, axis=1), ((3, 4),)),
        Case(lambda x: np.roll(x, 3, axis=0), ((3, 4),)),
        Case(lambda x: np.roll(x, (1, -1), axis=(0, 1)), ((3, 4),)),
        fixed_value((0, 4), f=lambda x: np.roll(x, 1, axis=0)),
    ],
    np.diff: [
        Case(np.diff, ((3, 4),), dtypes=DTYPES[1:]),
        Case(lambda x: np.diff(x, 2, axis=0), ((4, 3),)),
        fixed_value((3, 0), f=np.diff),
        fixed_value((3, 1), f=lambda x: np.diff(x, 3)),
    ],
    np.repeat: [
        Case(lambda x: np.repeat(x, 2), ((2, 3),)),
        Case(lambda x: np.repeat(x, 3, axis=1), ((2, 3),)),
        Case(lambda x: x.repeat(2, -2), ((2, 3),)),
        fixed_value((2, 3), f=lambda x: np.repeat(x, 0, axis=0)),
        Case(lambda x: np.repeat(x, [1, 0, 3], axis=1), ((2, 3),)),
    ],
    np.tile: [
        Case(lambda x: np.tile(x, 2), ((2, 3),)),
        Case(lambda x: np.tile(x, (2, 1, 3)), ((2, 3),)),
        Case(lambda x: np.tile(x, (2,)), ((2, 1, 3),)),
        fixed_value((2, 3), f=lambda x: np.tile(x, (0, 2))),
    ],
    np.pad: [
        Case(lambda x: np.pad(x, 1), ((2, 3),)),
        Case(lambda x: np.pad(x, ((1, 0), (0, 2))), ((2, 3),)),
        Case(lambda x: np.pad(x, (2, 1)), ((2, 3),)),
        fixed_value((0, 3), f=lambda x: np.pad(x, 1)),
        fixed_value((0, 3), f=lambda x: np.pad(x, ((0, 0), (1, 2)))),
    ],
    np.diagonal: [
        Case(np.diagonal, ((3, 4),)),
        Case(lambda x: np.diagonal(x, -1), ((3, 4),)),
        Case(lambda x: x.diagonal(2, 2, 0), ((3, 2, 4),)),
        fixed_value((3, 4), f=lambda x: np.diagonal(x, 5)),
    ],
    np.trace: [Case(np.trace, ((3, 4),)), Case(lambda x: x.trace(1, 1, 2), ((2, 3, 4),))],
    np.diag: [
        Case(np.diag, ((3,),)),
        Case(lambda x: np.diag(x, 1), ((3,),)),
        Case(lambda x: np.diag(x, -2), ((3,),)),
        Case(lambda x: np.diag(x, 1), ((3, 4),)),
    ],
    np.tril: [
        Case(np.tril, ((3, 4),)),
        Case(lambda x: np.tril(x, -1), ((2, 3, 3),)),
        Case(np.tril, ((3,),)),
    ],
    np.triu: [
        Case(np.triu, ((3, 4),)),
        Case(lambda x: np.triu(x, 2), ((2, 3, 4),)),
        Case(lambda x: np.triu(x, 1), ((3,),)),
    ],
    np.where: [
        Case(lambda a, b: np.where(a > b, a * 2, b), ((3, 4), (4,))),
        Case(lambda a: np.where(a > 0, a, 0.5), ((3, 4),)),
        Case(lambda a: np.where(MASK, a, -a) * 1, ((3, 4),), dtypes=DTYPES[1:]),
        fixed_value((3, 4), f=lambda a: np.where(a, 1, 0)),
        fixed_value((3, 4), f=lambda a: np.where(np.ones(4), a, 0)),
    ],
    np.clip: [
        Case(lambda x: np.clip(x, -1.1, 1.2), ((3, 4),)),
        Case(lambda x: np.clip(x, None, 1), ((3, 4),)),
        Case(lambda x: x.clip(min=0), ((3, 4),)),
        Case(lambda x, low: np.clip(x, low, low + 1), ((3, 4), (4,)), dtypes=DTYPES[1:]),
        Case(lambda x: np.clip(x, max=1), ((3, 4),)),
    ],
    np.nan_to_num: [
        Case(np.nan_to_num, ((3, 4),)),
        fixed_value(np.array([np.nan, np.inf, -np.inf, 1.5]), f=np.nan_to_num),
        fixed_value(np.array([np.nan, np.inf, 1.5], "f4"), f=lambda x: np.nan_to_num(x, nan=3.0)),
        fixed_value(
            np.array([np.nan, np.inf, -np.inf]),
            f=lambda x: np.nan_to_num(x, nan=3.0, posinf=4.0, neginf=-5.0),
        ),
    ],
    np.take: [
        Case(lambda x: np.take(x, ROWS), ((3, 4),)),
        Case(lambda x: np.take(x, ROWS, axis=0), ((3, 4),)),
        Case(lambda x: x.take([1, 1, -1], axis=1), ((3, 4),)),
        Case(lambda x: np.take(x, 2, axis=-1), ((3, 4),)),
        Case(lambda x, i: np.take(x, i, axis=1), ((3, 4), ROWS)),
        Case(lambda x, i: np.take(x, i), ((3, 4), np.array(5, np.int8))),
        fixed_value((3, 4), f=lambda x: np.take(x, np.zeros((0,), int), axis=1)),
    ],
    np.take_along_axis: [
        Case(lambda x, i: np.take_along_axis(x, i, axis=1), ((2, 4), ROWS)),
        Case(lambda x, i: np.take_along_axis(x, i, axis=0), ((3, 3), ROWS)),
        Case(lambda x: np.take_along_axis(x, ROWS[:1], 1), ((2, 4),)),
        Case(lambda x: np.take_along_axis(x, ROWS[:, :1, None] * 0, -1), ((2, 3, 4),)),
    ],
    getitem: [
        Case(lambda x: x[1], ((3, 4),)),
        Case(lambda x: x[-1, 2], ((3, 4),)),
        Case(lambda x: x[np.int64(1), ...], ((3, 4),)),
        Case(lambda x: x[1:], ((3, 4),)),
        Case(lambda x: x[::2, ::-1], ((3, 4),)),
        Case(lambda x: x[::-2, 1:-1], ((5, 4),)),
        Case(lambda x: x[1:] - x[:-1], ((3, 4),)),
        Case(lambda x: x[..., 0, None], ((2, 3, 4),)),
        Case(lambda x: x[:, [0, 2, -1]], ((2, 3),)),
        Case(lambda x: x[[2, 0]], ((3, 4),)),
        Case(lambda x: x[ROWS, 1], ((3, 4),)),
        Case(lambda x: x[[0, 1, 1], [2, -1, 2]], ((3, 4),)),
        Case(lambda x: x[:, [0, 1], [2, 0]], ((2, 3, 4),)),
        Case(lambda x: x[[0, 1], :, [2, 0]], ((2, 3, 4),)),
        Case(lambda x: x[[[0], [1]], [2, 0]], ((2, 3, 4),)),
        Case(lambda x: x[0, :, [2, 0]], ((2, 3, 4),)),
        Case(lambda x: x[:, 0, [2, 0]], ((2, 3, 4),)),
        Case(lambda x: x[None, [1, 0], None], ((2, 3),)),
        Case(lambda x: x[:, [0, 1], ..., [1, 2]], ((2, 2, 3),)),
        Case(lambda x: x[:, [0, 1], ..., [1, 2]], ((2, 2, 3, 3),)),
        Case(lambda x: x[:, 0, ..., [1, 2]], ((2, 2, 3),)),
        Case(lambda x: x[..., [0, 1], [1, 2]], ((2, 2, 3),)),
        Case(lambda x: x[:, [0, 1], [1, 2], ...], ((2, 2, 3),)),
        Case(lambda x, i: x[i], ((3, 4), ROWS)),
        Case(lambda x, i: x[np.arange(3), i], ((3, 4), np.array([3, 0, -2], np.int32))),
        Case(lambda x, i: x[i], ((3, 4), np.array(2, np.uint8))),
        fixed_value((3, 4), f=lambda x: x[3:]),
        fixed_value((3, 4), f=lambda x: x[:, 2:1]),
        fixed_value((3, 0), f=lambda x: x[1:]),
        Case(lambda x: x[()], ((),)),
        Case(lambda x: x[0] + x[1] * x[2, 0], ((3, 2),)),
    ],
    np.full_like: [
        fixed_value((3, 4), f=lambda x: np.full_like(x, 1) + x),
        fixed_value((3, 4), f=lambda x: np.full_like(x, 2.5, dtype=np.float32)),
    ],
    np.zeros_like: [
        fixed_value((3, 4), f=lambda x: np.zeros_like(x) + x),
        fixed_value((3, 4), f=lambda x: np.zeros_like(x, dtype=int)),
    ],
    np.empty_like: [fixed_value((3, 4), f=lambda x: np.where(True, x, np.empty_like(x)))],
    np.ones_like: [fixed_value((3, 4), f=lambda x: np.ones_like(x))],
    **{
        f: [
            Case(lambda x, f=f: f(x), ((3, 4),), dtypes=DTYPES, differentiable=False),
            fixed_value((3, 4), f=lambda x, f=f: f(x, 0)),
            fixed_value(np.array([0.5, 1.5, -0.5, -2.5, np.nan]), f=lambda x: x.round()),
        ]
        for f in (np.round, np.around)
    },
    np.result_type: [fixed_value((3,), f=lambda x: np.ones(3).astype(np.result_type(x, 1.0)) * x)],
    np.isclose: [
        fixed_value((3, 4), f=lambda x: np.isclose(x, x + 1e-9), dtypes=FLOATS),
        fixed_value(
            np.array([np.inf, np.inf, np.nan, 1.0, 2.0]),
            np.array([np.inf, -np.inf, np.nan, 1.0 + 1e-7, 2.1]),
            f=lambda a, b: np.isclose(a, b),
        ),
    ],
    np.matmul: [
        Case(lambda a, b: a @ b, ((3, 4), (4, 2))),
        Case(np.matmul, ((4,), (4,))),
        Case(np.matmul, ((2, 3, 4), (4,))),
        Case(np.matmul, ((4,), (2, 4, 3))),
        Case(np.matmul, ((2, 1, 3, 4), (3, 4, 2))),
        Case(lambda a, b: a.T @ b.T, ((4, 3), (2, 4))),
        fixed_value((3, 0), (0, 2), f=np.matmul),
        fixed_value((0, 3), (3, 2), f=np.matmul),
        Case(np.matmul, ((1, 1), (1, 1))),
    ],
    np.vecdot: [
        Case(np.vecdot, ((3, 4), (4,)), dtypes=DTYPES[1:]),
        Case(np.vecdot, ((4,), (4,)), dtypes=DTYPES[1:]),
    ],
    np.dot: [
        Case(np.dot, ((4,), (4,))),
        Case(np.dot, ((3, 4), (4,))),
        Case(np.dot, ((3, 4), (4, 2))),
        Case(np.dot, ((2, 3, 4), (2, 4, 3))),
        Case(np.dot, ((), (4, 2))),
        Case(lambda a, b: a.dot(b), ((4,), (4, 2))),
    ],
    np.vdot: [Case(np.vdot, ((2, 3), (2, 3)))],
    np.inner: [Case(np.inner, ((2, 3), (4, 3))), Case(np.inner, ((3,), (3,)))],
    np.outer: [Case(np.outer, ((3,), (4,))), Case(np.outer, ((2, 2), (3,)))],
    np.tensordot: [
        Case(np.tensordot, ((2, 3, 4), (3, 4, 2))),
        Case(lambda a, b: np.tensordot(a, b, 1), ((2, 3), (3, 4))),
        Case(lambda a, b: np.tensordot(a, b, ((0, 2), (1, 0))), ((2, 3, 4), (4, 2, 2))),
        Case(lambda a, b: np.tensordot(a, b, 0), ((2,), (3,))),
    ],
    np.einsum: [
        Case(lambda a, b, s=s: np.einsum(s, a, b), shapes)
        for s, shapes in [
            ("ij,jk->ik", ((2, 3), (3, 4))),
            ("ij,jk", ((2, 3), (3, 4))),
            ("bij,bjk->bik", ((2, 2, 3), (2, 3, 4))),
            ("bij,bkj->bki", ((2, 2, 3), (2, 4, 3))),
            ("bhqd,bhkd->bhqk", ((2, 1, 2, 3), (2, 1, 3, 3))),
            ("i,i->", ((3,), (3,))),
            ("i,j->ji", ((3,), (2,))),
            ("ij,ij->i", ((2, 3), (2, 3))),
            ("ij, j -> ij", ((2, 3), (3,))),
            ("ijk,kl->jl", ((2, 3, 4), (4, 2))),
        ]
    ]
    + [
        Case(lambda a: np.einsum("ijk->ki", a), ((2, 3, 4),)),
        Case(lambda a: np.einsum("ji", a), ((2, 3),)),
    ],
}
FUNCTION_CASES = [
    pytest.param(case, id=f"{function.__name__} {i}")
    for function, cases in CASES.items()
    for i, case in enumerate(cases)
]
SMOOTH_CASES = [case for case in FUNCTION_CASES if case.values[0].differentiable]


def test_every_function_has_a_case():
    assert {f.__name__ for f in {*FUNCTIONS, *OF_ARRAYS} - set(CASES)} == set()
    assert set(CASES) <= {*FUNCTIONS, *OF_ARRAYS}


@pytest.mark.parametrize("case", FUNCTION_CASES)
@bounded(6)
@given(data=st.data())
def test_function_is_numpys(case, data):
    """For all dtypes and their mixtures, and all layouts."""
    arrays = [
        data.draw(operand(o, case.low, case.high, case.dtypes)) if isinstance(o, tuple) else o
        for o in case.operands
    ]
    check_value(case.f, arrays)


@pytest.mark.parametrize("case", SMOOTH_CASES)
def test_function_has_numpys_derivatives(case):
    arrays = [
        spread_out(o, case.low, case.high, seed) if isinstance(o, tuple) else o
        for seed, o in enumerate(case.operands, 1)
    ]
    check_derivatives(case.f, arrays)
