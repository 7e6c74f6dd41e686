"""Every map instruction on the kernels in use: error in ULP, special values, any position.

``pytest -m slow tests/test_accuracy.py`` measures the float32 functions on all 2^32 inputs.
"""

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import special

from dlcore import _native
from helpers import assert_same_bits

REALS = [np.float32, np.float64]

# Largest error allowed, in ULP: (float32, float64).
LIMITS = {
    "sqrt": (0.5, 0.5),
    "reciprocal": (0.5, 0.5),
    "exp": (1.5, 2.0),
    "exp2": (1.5, 1.5),
    "expm1": (1.5, 2.0),
    "log": (1.5, 2.0),
    "log2": (1.5, 1.5),
    "log10": (1.5, 1.5),
    "log1p": (1.5, 2.0),
    "tanh": (1.5, 2.0),
    "sigmoid": (1.5, 2.0),
    "softplus": (1.5, 2.0),
    "erf": (1.5, 2.0),
    "gelu": (4.0, 4.0),
    "silu": (4.0, 4.0),
    "sin": (1.0, 1.5),
    "cos": (1.0, 1.5),
    "tan": (2.0, 2.0),
    "arcsin": (1.5, 1.5),
    "arccos": (1.5, 1.5),
    "arctan": (1.5, 1.5),
    "sinh": (1.5, 1.5),
    "cosh": (1.5, 1.5),
    "arcsinh": (1.5, 1.5),
    "arccosh": (2.0, 2.0),
    "arctanh": (2.0, 2.0),
    "cbrt": (1.0, 1.0),
}
BINARY_LIMITS = {"power": (0.6, 1.0), "arctan2": (2.0, 2.0), "hypot": (1.5, 1.5)}
LOGADDEXP_LIMIT = 2.5  # of the largest of both operands and the result

FLOAT32_STRIDE = 251  # between the bit patterns of a run that is not exhaustive: 2**24 of them
CHUNK = 1 << 18


@pytest.fixture(autouse=True)
def _no_floating_point_warnings():
    with np.errstate(all="ignore"):
        yield


def sigmoid(x):
    z = np.exp(-np.abs(x))
    return np.where(x < 0, z, 1) / (1 + z)


def at_minus_infinity(limit, f):
    """f, whose formula gives NaN at -inf, with its limit there."""
    return lambda x: np.where(np.isneginf(x), x.dtype.type(limit), f(x))


def elementwise_mpmath(f, elsewhere):
    """f, a function of one mpf, on an array. mpmath knows no -0 and no huge erf: `elsewhere` serves
    for zeros, NaN and where |x| > 100."""

    def on_array(x):
        result = elsewhere(x.astype(np.longdouble))
        with mpmath.workdps(40):
            for i in np.flatnonzero((x != 0) & (np.abs(x) <= 100)):
                result[i] = np.longdouble(mpmath.nstr(f(mpmath.mpf(float(x[i]))), 25))
        return result

    return on_array


OF_NUMPY = (
    *("exp2", "log2", "log10", "cbrt", "sin", "cos", "tan", "arcsin", "arccos", "arctan"),
    *("sinh", "cosh", "arcsinh", "arccosh", "arctanh"),
)
# Each takes and returns a wider type than the one that is tested.
REFERENCES = {
    "sqrt": np.sqrt,
    "reciprocal": lambda x: 1 / x,
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    "erf": special.erf,
    "gelu": at_minus_infinity(-0.0, lambda x: x * special.ndtr(x)),
    "silu": at_minus_infinity(-0.0, lambda x: x * sigmoid(x)),
    **{name: getattr(np, name) for name in OF_NUMPY},
}
# SciPy has no wider type for these.
SLOW_REFERENCES = {
    "erf": elementwise_mpmath(mpmath.erf, lambda x: np.clip(x, -1, 1)),
    "gelu": elementwise_mpmath(lambda x: x * mpmath.ncdf(x), lambda x: np.where(x < 0, -0.0, x)),
}


def ulp_errors(got, reference):
    """|got - reference| in units of the last place of got's dtype; the reference is of a wider one.

    Where the reference is 0, NaN or rounds to an infinity, the error is 0 for the right value (with
    the right sign, unless NaN) and infinite for any other.
    """
    info = np.finfo(got.dtype)
    rounded = reference.astype(got.dtype)
    exponent = np.frexp(reference)[1] - (info.nmant + 1)
    ulp = np.ldexp(reference.dtype.type(1), np.maximum(exponent, info.minexp - info.nmant))
    errors = np.abs(got - reference) / ulp
    exact = ~np.isfinite(rounded) | (reference == 0)
    same = (got == rounded) & (np.signbit(got) == np.signbit(rounded))
    errors[exact] = np.where((same | (np.isnan(got) & np.isnan(rounded)))[exact], 0, np.inf)
    errors[~exact & ~np.isfinite(got)] = np.inf
    return errors


def assert_within(limit, name, inputs, reference):
    """Every element of the instruction's result lies within `limit` ULP of the reference."""
    errors = ulp_errors(_native.apply(name, *inputs), reference)
    worst = np.argmax(errors)
    values = [float(x.flat[worst]) for x in inputs]
    assert errors.flat[worst] <= limit, f"{name}{tuple(v.hex() for v in values)}"


def wide_reference(name, x):
    if np.finfo(np.longdouble).nmant <= np.finfo(np.float64).nmant:
        pytest.skip("long double is no wider than double here")
    if name in SLOW_REFERENCES:
        return SLOW_REFERENCES[name](x)
    return REFERENCES[name](x.astype(np.longdouble))


def with_neighbours(points):
    points = np.asarray(points)
    return np.concatenate([points, np.nextafter(points, -np.inf), np.nextafter(points, np.inf)])


def hard_points(dtype):
    """Where reductions change, results overflow or lose digits, and where formulas are joined."""
    info = np.finfo(dtype)
    ln2 = np.log(2)
    top = np.log(np.float64(info.max))
    bottom = np.log(np.float64(info.smallest_subnormal))
    powers = 2.0 ** np.arange(info.minexp - info.nmant, info.maxexp)
    halves = (np.arange(bottom / ln2 - 2, top / ln2 + 2) + 0.5) * ln2
    edges = [0, 1, np.sqrt(0.5), np.sqrt(2), np.sqrt(2) - 1, np.sqrt(0.5) - 1, top, bottom, -top]
    deep = np.sqrt(-2 * bottom)  # gelu underflows near here
    points = np.concatenate(
        [powers, halves, edges, [deep, deep - 0.1, deep + 0.1], [info.max], table_joints()]
    )
    points = with_neighbours(points.astype(dtype))
    return np.concatenate([points, -points, np.array([np.inf, -np.inf, np.nan], dtype)])


def table_joints():
    """Where the pieces of csrc/kernels/tables_f32.h meet, and where the tables end."""
    k = np.arange(32) + 0.5
    mantissas = 1 + np.arange(33) / 32
    quarters = np.outer(2.0 ** np.arange(-4, 4), [1, 1.25, 1.5, 1.75]).ravel()
    normal = (np.sqrt(9 + 4 * k / 0.29) - 3) / 2
    powers = np.arange(-64, 64) + 0.5  # of exp, in two octaves on either side
    joints = [k / 1.85, normal, mantissas, mantissas / 2, quarters, powers * np.log(2) / 32]
    return np.concatenate([*joints, [9, 9.25, 17]])


def float64_sample(name):
    rng = np.random.default_rng(7)
    n = 2000 if name in SLOW_REFERENCES else 100_000
    spans = [(-1, 1), (-4, 4), (-40, 40), (-750, 720)]
    spread = [rng.uniform(low, high, n) for low, high in spans]
    any_bits = rng.integers(0, 1 << 64, n, dtype=np.uint64).view(np.float64)
    near_one = 1 + np.exp2(rng.uniform(-52, -1, n)) * rng.choice([-1, 1], n)
    hard = hard_points(np.float64)[:: 4 if name in SLOW_REFERENCES else 1]
    return np.concatenate([*spread, any_bits, near_one, hard])


def pytest_generate_tests(metafunc):
    """The exhaustive run exists only where slow tests are asked for."""
    if "stride" in metafunc.fixturenames:
        strides = [FLOAT32_STRIDE]
        if metafunc.config.getoption("markexpr") == "slow":
            strides = [pytest.param(1, marks=pytest.mark.slow)]
        metafunc.parametrize("stride", strides)


@pytest.mark.parametrize("name", LIMITS)
def test_float32_error_over_all_exponents(name, stride):
    """Bit patterns from end to end of float32: subnormals, infinities and NaN among them."""
    for start in range(0, 1 << 32, CHUNK * stride):
        bits = np.arange(start, min(start + CHUNK * stride, 1 << 32), stride, dtype=np.uint64)
        x = bits.astype(np.uint32).view(np.float32)
        reference = REFERENCES[name](x.astype(np.float64))
        assert_within(LIMITS[name][0], name, [x], reference)


# Functions with a shorter form for blocks of harmless arguments: an argument that is not.
SHORT_FORMS = {"exp": 1000.0, "sigmoid": 1000.0, "silu": 1000.0, "gelu": -1000.0, "log": -1.0}


def assert_forms_agree(name, x):
    """An element has the same bits beside harmless ones and beside one that is not."""
    block = 4096 // x.itemsize  # what the shorter form is chosen for
    x = x[: len(x) // (block - 1) * (block - 1)].reshape(-1, block - 1)
    results = []
    for last in (1.0, SHORT_FORMS[name]):
        blocks = np.column_stack([x, np.full(len(x), last, x.dtype)])
        results.append(_native.apply(name, blocks.reshape(-1)).reshape(blocks.shape)[:, :-1])
    assert_same_bits(*results)


@pytest.mark.parametrize("name", SHORT_FORMS)
def test_float32_forms_agree_over_all_exponents(name, stride):
    for start in range(0, 1 << 32, CHUNK * stride):
        bits = np.arange(start, min(start + CHUNK * stride, 1 << 32), stride, dtype=np.uint64)
        assert_forms_agree(name, bits.astype(np.uint32).view(np.float32))


@pytest.mark.parametrize("name", SHORT_FORMS)
def test_float64_forms_agree(name):
    """Within the bounds of the shorter forms, just at them, and at the least of numbers."""
    rng = np.random.default_rng(11)
    inner = [rng.uniform(-high, high, 50_000) for high in (1, 11.5, 68)]
    edges = np.concatenate([np.nextafter(edge, [0, 100]) for edge in (-68, -11.5, 11.5, 68)])
    small = np.exp2(rng.uniform(-1074, 0, 50_000)) * rng.choice([-1, 1], 50_000)
    for x in [*inner, small, np.resize(edges, 5000), np.abs(inner[2]), np.abs(small)]:
        assert_forms_agree(name, x)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("name", [*SHORT_FORMS, "log1p", "log2", "log10", "cbrt", "tan", "power"])
def test_what_needs_care_stays_in_its_lane(name, dtype):
    """Whatever it is and wherever: the others of its vector have the bits that they have alone."""
    arity = _native.map_instructions()[name][1]
    x, *others = np.random.default_rng(5).uniform(0.01, 8, (arity, 16)).astype(dtype)
    alone = _native.apply(name, x, *others)
    tiny = np.finfo(dtype).smallest_subnormal
    for rare in (np.nan, np.inf, -np.inf, 0.0, -1.0, 12.0, 1000.0, -1000.0, 1e7, tiny):
        for lane in range(len(x)):
            mixed = x.copy()
            mixed[lane] = rare
            results = _native.apply(name, mixed, *others)
            assert_same_bits(np.delete(results, lane), np.delete(alone, lane))
            single = slice(lane, lane + 1)
            assert_same_bits(
                results[single], _native.apply(name, mixed[single], *[z[single] for z in others])
            )


@pytest.mark.parametrize("name", LIMITS)
def test_float32_error_at_hard_points(name):
    x = hard_points(np.float32)
    reference = REFERENCES[name](x.astype(np.float64))
    assert_within(LIMITS[name][0], name, [x], reference)


@pytest.mark.parametrize("name", LIMITS)
def test_float64_error(name):
    x = float64_sample(name)
    assert_within(LIMITS[name][1], name, [x], wide_reference(name, x))


def wider(*arrays):
    """The arrays in a type that is wider than theirs."""
    wide = np.float64 if arrays[0].dtype == np.float32 else np.longdouble
    if np.finfo(wide).nmant <= np.finfo(arrays[0].dtype).nmant:
        pytest.skip("long double is no wider than double here")
    return [x.astype(wide) for x in arrays]


def limit_of(name, dtype):
    return BINARY_LIMITS[name][REALS.index(dtype)]


@pytest.mark.parametrize("dtype", REALS)
def test_power_error(dtype):
    """Signs, integer exponents, bases near 1, and results from underflow to overflow."""
    rng = np.random.default_rng(3)
    a = np.exp2(rng.uniform(-60, 60, 60_000)) * rng.choice([-1, 1], 60_000)
    a[1::2] = np.abs(a[1::2])
    a[1::6] = 1 + np.exp2(rng.uniform(-30, -2, 10_000)) * rng.choice([-1, 1], 10_000)
    b = rng.uniform(-20, 20, 60_000)
    b[::2] = np.round(b[::2])
    reach = rng.uniform(np.finfo(dtype).minexp - 60, np.finfo(dtype).maxexp + 5, 30_000)
    b[1::2] = reach / np.log2(a[1::2])
    a, b = a.astype(dtype), b.astype(dtype)
    assert_within(limit_of("power", dtype), "power", [a, b], np.power(*wider(a, b)))


@pytest.mark.parametrize("dtype", REALS)
def test_what_has_an_exact_power_root_or_logarithm_gets_it(dtype):
    """Whole powers of whole numbers, cubes, and powers of 2 and 10."""
    digits = np.finfo(dtype).nmant + 1
    whole = [(b, e) for b in range(2, 200) for e in range(60) if b**e < 2**digits]
    bases, exponents = np.array(whole, dtype).T.copy()
    powers = np.array([b**e for b, e in whole], dtype)
    assert_array_equal(_native.apply("power", bases, exponents), powers)
    assert_array_equal(_native.apply("power", -bases, exponents) * (-1) ** exponents, powers)
    roots = np.arange(-200, 200, dtype=dtype)
    assert_array_equal(_native.apply("cbrt", roots**3), roots)
    twos = np.arange(np.finfo(dtype).minexp, np.finfo(dtype).maxexp, dtype=dtype)
    assert_array_equal(_native.apply("exp2", twos), np.ldexp(dtype(1), twos.astype(int)))
    assert_array_equal(_native.apply("log2", np.ldexp(dtype(1), twos.astype(int))), twos)
    tens = np.array([10**e for e in range(11)], dtype)
    assert_array_equal(_native.apply("log10", tens), np.arange(11))


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("name", ["arctan2", "hypot"])
def test_error_for_two_sides_of_a_triangle(name, dtype):
    """All quadrants, from like lengths to those beside which the other vanishes."""
    rng = np.random.default_rng(5)
    y, x = rng.choice([-1, 1], (2, 50_000)) * np.exp2(rng.uniform(-60, 60, (2, 50_000)))
    y[::2] = x[::2] * np.exp2(rng.uniform(-2, 2, 25_000))
    y, x = y.astype(dtype), x.astype(dtype)
    reference = getattr(np, name)(*wider(y, x))
    assert_within(limit_of(name, dtype), name, [y, x], reference)


@pytest.mark.parametrize("dtype", REALS)
def test_hypot_has_the_same_bits_whichever_side_comes_first(dtype):
    x, y = np.random.default_rng(8).uniform(0.5, 4, (2, 50_000)).astype(dtype)
    assert_array_equal(_native.apply("hypot", x, y), _native.apply("hypot", y, x))


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("name", ["arctan2", "hypot"])
def test_error_for_sides_that_are_subnormal_or_next_to_overflow(name, dtype):
    info = np.finfo(dtype)
    rng = np.random.default_rng(6)
    least, most = info.minexp - info.nmant, info.maxexp - 1
    spans = [(least, least + 30), (most - 30, most), (least, most)]
    sides = np.concatenate([rng.uniform(low, high, (2, 20_000)) for low, high in spans], axis=1)
    y, x = (np.exp2(sides.astype(np.longdouble)) * rng.choice([-1, 1], sides.shape)).astype(dtype)
    reference = getattr(np, name)(*wider(y, x))
    assert_within(limit_of(name, dtype), name, [y, x], reference)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("span", [1, 10, 700])
def test_logaddexp_error(dtype, span):
    """Of near and far operands; where both are positive nothing cancels."""
    rng = np.random.default_rng(9)
    x = rng.uniform(-span, span, 200_000)
    y = x + rng.choice([-1, 1], x.size) * 10 ** rng.uniform(-6, 2, x.size)
    x, y = x.astype(dtype), y.astype(dtype)
    reference = np.logaddexp(*wider(x, y))
    scale = np.maximum.reduce([np.abs(reference), *np.abs(wider(x, y))])
    ulp = np.ldexp(scale.dtype.type(1), np.frexp(scale)[1] - np.finfo(dtype).nmant - 1)
    error = np.abs(_native.apply("logaddexp", x, y) - reference) / ulp
    assert error.max() <= LOGADDEXP_LIMIT
    positive = (x >= 0) & (y >= 0)
    assert_within(LOGADDEXP_LIMIT, "logaddexp", [x[positive], y[positive]], reference[positive])


# What NumPy, in the dtype of the arrays, says of the instructions that round at most once.
EXACT = {
    "copy": lambda x: x,
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "negative": np.negative,
    "absolute": np.absolute,
    "sign": np.sign,
    "square": np.square,
    "sqrt": np.sqrt,
    "reciprocal": np.reciprocal,
    "relu": lambda x: np.where(x < 0, x.dtype.type(0), x),
    "leaky_relu": lambda x, slope: np.where(x > 0, x, slope * x),
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "equal": np.equal,
    "not_equal": np.not_equal,
    "where": lambda condition, a, b: np.where(condition != 0, a, b),
    "where_positive": lambda x, a, b: np.where(x > 0, a, b),
    "floor": np.floor,
    "ceil": np.ceil,
    "trunc": np.trunc,
    "rint": np.rint,
    "remainder": np.remainder,
    "fmod": np.fmod,
    "floor_divide": np.floor_divide,
    "copysign": np.copysign,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
    "logical_not": np.logical_not,
    "isnan": np.isnan,
    "isinf": np.isinf,
    "isfinite": np.isfinite,
}
# Which of two zeros is the larger is left open, by IEEE 754 and by NumPy.
SIGN_OF_ZERO_OPEN = {"maximum", "minimum"}


def special_values(dtype):
    info = np.finfo(dtype)
    limits = [info.smallest_subnormal, info.tiny, info.max, np.inf, np.nan]
    positive = np.array([0, 0.5, 1, 1.5, 2, 3, 1e6, *limits], dtype)
    return np.concatenate([positive, -positive])


def every_combination(values, arity):
    return [np.ascontiguousarray(g.ravel()) for g in np.meshgrid(*[values] * arity, indexing="ij")]


# How the product of the first two operands meets the third.
CONTRACTIONS = {
    "multiply_add": lambda product, c: product + c,
    "multiply_subtract": lambda product, c: product - c,
    "subtract_multiply": lambda product, c: c - product,
}


def test_every_instruction_is_tested():
    tested = {*EXACT, *LIMITS, *BINARY_LIMITS, *CONTRACTIONS, "tanh_gradient", "elu", "logaddexp"}
    assert tested == set(_native.map_instructions())


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("name", EXACT)
def test_exact_instructions_equal_numpy(name, dtype):
    """All combinations of zeros, subnormals, infinities, NaN and plain numbers; signs of zeros."""
    inputs = every_combination(special_values(dtype), _native.map_instructions()[name][1])
    expected = EXACT[name](*inputs).astype(dtype)
    got = _native.apply(name, *inputs)
    assert got.dtype == dtype
    assert_array_equal(got, expected)
    if name not in SIGN_OF_ZERO_OPEN:
        number = ~np.isnan(expected)
        assert_array_equal(np.signbit(got)[number], np.signbit(expected)[number])


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("name", ["floor", "ceil", "trunc", "rint"])
def test_rounding_to_integers_equals_numpy(name, dtype):
    """Halves, their neighbours, and numbers so large that all are integers."""
    halves = with_neighbours(np.arange(-9, 9.5, 0.5, dtype=dtype))
    large = np.exp2(np.arange(1, np.finfo(dtype).nmant + 3)).astype(dtype)
    x = np.concatenate([halves, with_neighbours(large) + dtype(0.5), with_neighbours(-large)])
    expected = EXACT[name](x)
    got = _native.apply(name, x)
    assert_array_equal(got, expected)
    assert_array_equal(np.signbit(got), np.signbit(expected))


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("name", ["remainder", "fmod", "floor_divide"])
def test_division_with_remainder_equals_numpy(name, dtype):
    """Signs, small and huge quotients, and quotients next to an integer."""
    rng = np.random.default_rng(13)
    x = rng.choice([-1, 1], 60_000) * np.exp2(rng.uniform(-20, 20, 60_000))
    y = rng.choice([-1, 1], 60_000) * np.exp2(rng.uniform(-20, 20, 60_000))
    y[::3] = np.round(y[::3]) + 1
    x[::3] = y[::3] * rng.integers(-50, 50, 20_000)
    x, y = x.astype(dtype), y.astype(dtype)
    x[::6] = np.nextafter(x[::6], dtype(np.inf))
    assert_array_equal(_native.apply(name, x, y), EXACT[name](x, y))


def assert_special_values_equal(got, expected):
    """NaN, infinities and zeros are the same, and other numbers close."""
    plain = np.isfinite(expected) & (expected != 0)
    assert_array_equal(got[~plain], expected[~plain])
    signed = ~plain & ~np.isnan(expected)
    assert_array_equal(np.signbit(got)[signed], np.signbit(expected)[signed])
    info = np.finfo(expected.dtype)
    np.testing.assert_allclose(
        got[plain], expected[plain], rtol=4 * info.eps, atol=float(info.smallest_subnormal)
    )


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("name", [*OF_NUMPY, *BINARY_LIMITS, "logaddexp"])
def test_special_values_equal_numpy(name, dtype):
    """As in C: NaN ** 0 and 1 ** NaN are 1, hypot(inf, NaN) is inf, arcsin ends at 1, ..."""
    inputs = every_combination(special_values(dtype), _native.map_instructions()[name][1])
    assert_special_values_equal(_native.apply(name, *inputs), getattr(np, name)(*inputs))


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("name", CONTRACTIONS)
def test_contractions_round_once_or_twice(name, dtype):
    """The product may be rounded before the sum; nothing else may be lost."""
    a, b, c = every_combination(special_values(dtype), 3)
    wide = [v.astype(np.float64 if dtype == np.float32 else np.longdouble) for v in (a, b, c)]
    join = CONTRACTIONS[name]
    once = join(wide[0] * wide[1], wide[2]).astype(dtype)
    twice = join(a * b, c)
    got = _native.apply(name, a, b, c)
    nan = np.isnan(got) & (np.isnan(once) | np.isnan(twice))
    assert np.all((got == once) | (got == twice) | nan)


@pytest.mark.parametrize("dtype", REALS)
def test_the_gradient_of_tanh_rounds_its_square_once_or_twice(dtype):
    digits = np.finfo(dtype).nmant + 1
    plain = np.random.default_rng(5).uniform(-1, 1, 40).astype(dtype)
    y, g = every_combination(np.concatenate([special_values(dtype), plain]), 2)

    def one_minus_square(value):
        square = mpmath.fmul(value, value, exact=True)
        return dtype(float(mpmath.fsub(1, square, prec=digits)))

    once = np.array([one_minus_square(value) for value in y.tolist()]) * g
    twice = (1 - y * y) * g
    got = _native.apply("tanh_gradient", y, g)
    nan = np.isnan(got) & (np.isnan(once) | np.isnan(twice))
    assert np.all((got == once) | (got == twice) | nan)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("alpha", [1.0, 0.25, -2.0])
def test_elu(dtype, alpha):
    """x above 0, alpha expm1(x) below, to an ULP more than expm1."""
    x = np.concatenate([np.linspace(-20, 20, 4001).astype(dtype), special_values(dtype)])
    wide = x.astype(np.float64 if dtype == np.float32 else np.longdouble)
    reference = np.where(wide > 0, wide, alpha * np.expm1(wide))
    assert_within(3.0, "elu", [x, np.full_like(x, alpha)], reference)


@pytest.mark.parametrize(
    ("name", "x", "expected"),
    [
        ("exp", [-np.inf, np.inf, -0.0], [0.0, np.inf, 1.0]),
        ("expm1", [-np.inf, np.inf, -0.0, 0.0], [-1.0, np.inf, -0.0, 0.0]),
        ("log", [-0.0, 0.0, np.inf, 1.0], [-np.inf, -np.inf, np.inf, 0.0]),
        ("log", [-1.0, -1e-40, -np.inf], [np.nan, np.nan, np.nan]),
        ("log1p", [-1.0, -2.0, np.inf, -0.0, 0.0], [-np.inf, np.nan, np.inf, -0.0, 0.0]),
        ("tanh", [-np.inf, np.inf, -0.0, 0.0], [-1.0, 1.0, -0.0, 0.0]),
        ("sigmoid", [-np.inf, np.inf, -0.0], [0.0, 1.0, 0.5]),
        ("softplus", [-np.inf, np.inf], [0.0, np.inf]),
        ("erf", [-np.inf, np.inf, -0.0, 0.0], [-1.0, 1.0, -0.0, 0.0]),
        ("gelu", [-np.inf, np.inf, -0.0, 0.0], [-0.0, np.inf, -0.0, 0.0]),
        ("silu", [-np.inf, np.inf, -0.0, 0.0], [-0.0, np.inf, -0.0, 0.0]),
    ],
)
@pytest.mark.parametrize("dtype", REALS)
def test_limits_and_zeros(name, x, expected, dtype):
    got = _native.apply(name, np.array(x, dtype))
    assert_array_equal(got, expected)
    signed = ~np.isnan(expected)
    assert_array_equal(np.signbit(got)[signed], np.signbit(expected)[signed])


def random_inputs(name, dtype, n):
    arity = _native.map_instructions()[name][1]
    low, high = DOMAINS.get(name, (0.01, 5))
    return list(np.random.default_rng(11).uniform(low, high, (arity, n)).astype(dtype))


# Where results are numbers, for the instructions that have some in a part of (0, 5) only.
DOMAINS = {"arcsin": (-1, 1), "arccos": (-1, 1), "arctanh": (-0.9, 0.9), "arccosh": (1, 5)}
INSTRUCTIONS = sorted(_native.map_instructions())


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_result_does_not_depend_on_position_or_length(name, dtype):
    """Bit by bit the same at every alignment, in whole vectors and in the rest behind them."""
    inputs = random_inputs(name, dtype, 70)
    whole = _native.apply(name, *inputs)
    assert not np.isnan(whole).any()
    for offset in (0, 1, 2, 3, 7, 15):
        for length in (*range(19), 31, 32, 33, 55):
            part = slice(offset, offset + length)
            assert_array_equal(_native.apply(name, *[x[part] for x in inputs]), whole[part])


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_writes_its_output_and_nothing_else(name, dtype):
    """Also where the output is an input, and where neither is aligned to a vector."""
    for n in (1, 3, 5, 17, 33, 40):
        inputs = random_inputs(name, dtype, n)
        expected = _native.apply(name, *inputs)
        room = np.full(n + 40, 123, dtype)
        out = room[3 : 3 + n]
        out[:] = inputs[0]
        assert _native.apply(name, out, *inputs[1:], out=out) is out
        assert_array_equal(out, expected)
        assert np.all(room[:3] == 123)
        assert np.all(room[3 + n :] == 123)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_nan_stays_in_its_lane(name, dtype):
    """NaN in one element reaches its result, unless NumPy says otherwise, and no other."""
    n = 37
    inputs = random_inputs(name, dtype, n)
    clean = _native.apply(name, *inputs)
    for lane in range(n):
        first = inputs[0].copy()
        first[lane] = np.nan
        got = _native.apply(name, first, *inputs[1:])
        if name in EXACT:
            (wanted,) = EXACT[name](first[[lane]], *[x[[lane]] for x in inputs[1:]])
        else:
            wanted = np.nan
        assert_array_equal(got[lane], dtype(wanted))
        assert_array_equal(np.delete(got, lane), np.delete(clean, lane))


@pytest.mark.parametrize("dtype", REALS)
def test_ulp_errors_rejects_zeros_and_nan(dtype):
    """The measure itself: neither zeros, NaN or infinities pass for numbers, nor a wrong sign."""
    wide = np.float64 if dtype == np.float32 else np.longdouble
    reference = np.array([1.5, -3e-5, 2.0], wide)
    right = reference.astype(dtype)
    assert np.all(ulp_errors(right, reference) <= 0.5)
    assert np.all(ulp_errors(np.nextafter(right, dtype(np.inf)), reference) >= 0.4)
    for wrong in (0, np.nan, np.inf, -np.inf):
        assert np.all(ulp_errors(np.full(3, wrong, dtype), reference) > 1000)
    exact = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 4 * wide(np.finfo(dtype).max)], wide)
    assert np.all(ulp_errors(exact.astype(dtype), exact) == 0)
    for wrong in (1, -1, 1e-30):
        assert np.all(np.isinf(ulp_errors(np.full(6, wrong, dtype), exact)))
    assert np.all(np.isinf(ulp_errors(-exact[:4].astype(dtype), exact[:4])))
