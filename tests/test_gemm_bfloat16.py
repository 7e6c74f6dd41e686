"""Products of float32 rounded to bfloat16, against wider ones of operands that NumPy rounded."""

import itertools

import numpy as np
import pytest

import dlcore as dl
from dlcore import ops
from helpers import THREADS, assert_close, assert_product_close, assert_same_bits, layouts, team

TILE_EDGES = [0, 1, 2, 5, 6, 7, 8, 13, 14, 15, 16, 17, 31, 32, 33]
DEPTHS = [0, 1, 2, 3, 7, 64, 65, 129, 255]


def rounded(x):
    """To the nearest bfloat16, ties to even; NaN stays NaN, and what is subnormal becomes 0."""
    x = np.ascontiguousarray(x, np.float32)
    bits = x.view(np.uint32)
    up = ((bits >> 16) & 1) + np.uint32(0x7FFF)
    with np.errstate(over="ignore"):
        nearest = ((bits + up) & np.uint32(0xFFFF0000)).view(np.float32)
    nearest = np.where(np.isnan(x), np.float32(np.nan), nearest)
    return np.where(np.abs(x) < np.finfo(np.float32).tiny, np.copysign(np.float32(0), x), nearest)


def product(a, b, **options):
    return ops.matmul(a, b, compute="bfloat16", **options)


def assert_bfloat16_product(c, a, b):
    """Fails unless ``c`` is the product of the rounded matrices within float32's error."""
    assert c.dtype == np.float32
    assert_product_close(c, rounded(a), rounded(b))


def matrices(rng, *shapes):
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def test_the_comparison_rejects_what_was_not_rounded(rng):
    a, b = matrices(rng, (20, 30), (30, 40))
    assert_bfloat16_product(product(a, b), a, b)
    for wrong in (a @ b, np.zeros((20, 40), np.float32), np.full((20, 40), np.nan, np.float32)):
        with pytest.raises(AssertionError):
            assert_bfloat16_product(wrong, a, b)


@pytest.mark.parametrize("m", TILE_EDGES)
def test_every_edge_of_a_tile(rng, m):
    """Every m by every n, with the depths taking turns."""
    depths = itertools.cycle(DEPTHS)
    for n in TILE_EDGES:
        a, b = matrices(rng, (m, k := next(depths)), (k, n))
        assert_bfloat16_product(product(a, b), a, b)


@pytest.mark.parametrize(
    ("m", "n", "k"),
    [
        (127, 129, 511),
        (9, 35, 1025),  # one more than a block of k, which is cut behind whole pairs
        (61, 515, 37),
        (50, 50, 6151),  # parts of k whose lengths are odd
        (1, 1025, 1537),
        (1025, 1, 513),
        (1, 1, 8191),
        (261, 1041, 390),
    ],
)
@pytest.mark.parametrize("transposed", ["", "a", "b", "a b"])
def test_past_the_edges_of_blocks(rng, m, n, k, transposed):
    a, b = matrices(rng, (m, k), (k, n))
    left = np.asfortranarray(a) if "a" in transposed else a
    right = np.asfortranarray(b) if "b" in transposed else b
    assert_bfloat16_product(product(left, right), a, b)


def test_any_memory_layout(rng):
    a, b = matrices(rng, (19, 23), (23, 34))
    for left, right in itertools.product(layouts(a), layouts(b)):
        assert_bfloat16_product(product(left, right), a, b)
    assert_bfloat16_product(product(a.T.copy(), b, transpose_a=True), a, b)
    assert_bfloat16_product(product(a, b.T.copy(), transpose_b=True), a, b)
    row = np.broadcast_to(b[:1], (23, 34))
    assert_bfloat16_product(product(a, row), a, row)


@pytest.mark.parametrize("m", [1, 19])
@pytest.mark.parametrize("n", [1, 34])
def test_any_memory_layout_of_out(rng, m, n):
    a, b = matrices(rng, (m, 23), (23, n))
    frame = np.full((2 * m, 3 * n), 7, np.float32)
    for view in (
        frame[:m, :n],
        frame.T[:n, :m].T,
        frame[::2, ::3],
        frame[m - 1 :: -1, n - 1 :: -1],
    ):
        frame[...] = 7
        assert product(a, b, out=view) is view
        assert_bfloat16_product(view, a, b)
        view[...] = 7
        assert np.all(frame == 7)


@pytest.mark.parametrize(
    ("a_shape", "b_shape"),
    [
        ((3, 5, 7), (3, 7, 4)),
        ((3, 5, 7), (7, 4)),
        ((5, 7), (3, 7, 4)),
        ((2, 1, 5, 7), (3, 7, 4)),
        ((4, 3, 0), (0, 2)),
        ((2, 1, 8, 8), (1, 9, 8, 8)),
    ],
)
def test_leading_axes_broadcast(rng, a_shape, b_shape):
    a, b = matrices(rng, a_shape, b_shape)
    assert_bfloat16_product(product(a, b), a, b)


def test_arrays_of_one_axis(rng):
    a, v = matrices(rng, (5, 7), (7,))
    assert_bfloat16_product(product(a, v)[:, None], a, v[:, None])
    assert_bfloat16_product(product(v, a.T)[None], v[None], a.T)
    assert type(product(v, v)) is np.float32


@pytest.mark.parametrize(
    ("m", "n", "k"),
    [(1, 1, 9001), (97, 101, 803), (50, 50, 6151), (1, 777, 333), (777, 1, 333), (5, 3, 2)],
)
def test_the_same_bits_at_any_number_of_threads(rng, m, n, k):
    a, b = matrices(rng, (m, k), (k, n))
    results = []
    for threads in THREADS:
        with team(threads):
            results.append(product(a, b))
    assert_bfloat16_product(results[0], a, b)
    for result in results[1:]:
        assert_same_bits(result, results[0])


@pytest.mark.parametrize("threads", THREADS)
def test_batches_are_the_same_bits_at_any_number_of_threads(rng, threads):
    a, b = matrices(rng, (7, 33, 65), (7, 65, 17))
    single = np.stack([product(a[i], b[i]) for i in range(7)])
    with team(threads):
        assert_same_bits(product(a, b), single)


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize(("k", "n"), [(130, 256), (771, 101), (6151, 50)])
def test_products_with_the_own_transpose(rng, threads, k, n):
    """Of these only one side of the diagonal is computed."""
    (x,) = matrices(rng, (k, n))
    with team(threads):
        gram = product(x.T, x)
        assert_same_bits(gram, product(x.T, x.copy()))
    assert_same_bits(gram, np.ascontiguousarray(gram.T))
    assert_bfloat16_product(gram, x.T, x)


def bits(*words):
    return np.array(words, np.uint32).view(np.float32)


@pytest.mark.parametrize("layout", [np.ascontiguousarray, np.asfortranarray])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_rounding_of_single_numbers(layout, depth):
    """Products with a unit matrix give the rounded operand itself, at each place of a pair."""
    numbers = {
        0x3F808000: 0x3F800000,  # ties: to the even neighbour
        0x3F818000: 0x3F820000,
        0xBF808000: 0xBF800000,
        0x3F808001: 0x3F810000,
        0x3F807FFF: 0x3F800000,
        0x3FFFFFFF: 0x40000000,  # the carry reaches the exponent
        0x7F7F7FFF: 0x7F7F0000,
        0x7F7F8000: 0x7F800000,  # past the largest number: an infinity
        0xFF7FFFFF: 0xFF800000,
        0x7F800000: 0x7F800000,
        0x00800000: 0x00800000,  # the least normal number
        0x00808001: 0x00810000,
        0x007FFFFF: 0x00000000,  # subnormals
        0x00000001: 0x00000000,
        0x80700000: 0x00000000,
    }
    given, expected = bits(*numbers), bits(*numbers.values())
    np.testing.assert_array_equal(rounded(given), expected)
    for place in range(depth):
        a = np.zeros((len(given), depth), np.float32)
        a[:, place] = given
        unit = np.zeros((depth, 5), np.float32)
        unit[place] = 1
        np.testing.assert_array_equal(product(layout(a), unit), expected[:, None] * np.ones(5))
        np.testing.assert_array_equal(
            product(layout(unit.T), a.T), (expected[:, None] * np.ones(5)).T
        )


@pytest.mark.parametrize("word", [0x7FC00000, 0x7F800001, 0x7F80FFFF, 0x7FFFFFFF, 0xFFC00000])
def test_every_nan_stays_nan(word):
    """Those too whose rounding would carry into infinities or zeros, or cut their payload off."""
    a = np.ones((17, 5), np.float32)
    a[3, 2] = bits(word)[0]
    c = product(a, np.ones((5, 19), np.float32))
    assert np.all(np.isnan(c[3]))
    assert np.all(np.delete(c, 3, axis=0) == 5)


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_nan_and_infinities_reach_their_row_and_nothing_else(special):
    """At an odd depth, too, where a pair is filled up."""
    m, k, n = 35, 9, 37
    clean, b = np.ones((m, k), np.float32), np.ones((k, n), np.float32)
    for row in range(m):
        a = clean.copy()
        a[row, row % k] = special
        c = product(a, b)
        np.testing.assert_array_equal(c[row], np.full(n, special, np.float32))
        assert np.all(np.delete(c, row, axis=0) == k)
        np.testing.assert_array_equal(product(b.T, a.T), c.T)


def test_sums_are_float32():
    """Of 1 + 2**-20 bfloat16 would keep nothing of the second."""
    a = np.array([[1, 2.0**-20]], np.float32)
    assert product(a, np.ones((2, 1), np.float32)) == np.float32(1 + 2.0**-20)


@pytest.mark.parametrize("n", [0, 1, 17])
@pytest.mark.parametrize("m", [0, 1, 260])
@pytest.mark.parametrize("has_bias", [False, True])
def test_linear_is_the_activation_of_product_and_bias(rng, n, m, has_bias):
    """The fused store gives what the separate functions give, bit by bit."""
    x, w, b = matrices(rng, (n, 31), (31, m), (m,))
    bias = b if has_bias else None
    expected = product(x, w) + b if has_bias else product(x, w)
    assert_same_bits(ops.linear(x, w, bias, compute="bfloat16"), expected)
    for name in ("relu", "leaky_relu", "elu", "sigmoid", "tanh", "gelu", "silu", "softplus"):
        actual = ops.linear(x, w, bias, activation=name, compute="bfloat16")
        assert_same_bits(actual, getattr(ops, name)(expected))


def test_linear_in_any_layout(rng):
    x, w, b = matrices(rng, (18, 31), (31, 21), (21,))
    wide_x, wide_w = rounded(x).astype(np.longdouble), rounded(w).astype(np.longdouble)
    expected = np.tanh(wide_x @ wide_w + b)
    scale = np.abs(wide_x) @ np.abs(wide_w) + np.abs(b)
    out = np.empty((42, 36), np.float32).T[::2, ::2]
    for x_view, w_view, b_view in zip(layouts(x), layouts(w), layouts(b), strict=True):
        options = {"activation": "tanh", "compute": "bfloat16"}
        assert ops.linear(x_view, w_view, b_view, out=out, **options) is out
        assert_close(out, expected, ulps=2, scale=scale)


def test_linear_is_the_same_bits_at_any_number_of_threads(rng):
    x, w, b = matrices(rng, (259, 301), (301, 133), (133,))
    expected = ops.gelu(product(x, w) + b)
    for threads in THREADS:
        with team(threads):
            assert_same_bits(ops.linear(x, w, b, activation="gelu", compute="bfloat16"), expected)


def test_none_is_the_default(rng):
    a, b, bias = matrices(rng, (20, 30), (30, 40), (40,))
    assert_same_bits(ops.matmul(a, b, compute=None), ops.matmul(a, b))
    assert_same_bits(ops.linear(a, b, bias, compute=None), ops.linear(a, b, bias))


@pytest.mark.parametrize("compute", ["float16", "bf16", "", True, np.float32])
def test_what_compute_may_be(compute):
    x = np.ones((2, 2), np.float32)
    for function in (ops.matmul, ops.linear):
        with pytest.raises(ValueError, match="compute is .*; expected None or 'bfloat16'"):
            function(x, x, compute=compute)


def test_float64_is_named():
    x, wide = np.ones((2, 2), np.float32), np.ones((2, 2))
    message = "{} has dtype float64; compute='bfloat16' takes float32 only"
    for name, call in (
        ("a", lambda: product(wide, x)),
        ("b", lambda: product(x, wide)),
        ("x", lambda: ops.linear(wide, x, compute="bfloat16")),
        ("w", lambda: ops.linear(x, wide, compute="bfloat16")),
        ("b", lambda: ops.linear(x, x, wide[0], compute="bfloat16")),
    ):
        with pytest.raises(TypeError, match=message.format(name)):
            call()
    with pytest.raises(TypeError, match="out has dtype float64"):
        product(x, x, out=wide)


@pytest.mark.parametrize("function", [ops.matmul, ops.linear])
def test_traced_functions_refuse_it(function):
    x = np.ones((2, 2), np.float32)
    with pytest.raises(NotImplementedError, match="compute='bfloat16' in a traced function"):
        dl.jit(lambda x: function(x, x, compute="bfloat16"))(x)
