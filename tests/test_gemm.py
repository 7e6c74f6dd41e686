"""Matrix products against an extended-precision reference, for every shape, layout and team."""

import itertools

import numpy as np
import pytest

from dlcore import ops
from helpers import (
    REALS,
    THREADS,
    assert_close,
    assert_product_close,
    assert_same_bits,
    layouts,
    team,
)

TILE_EDGES = [0, 1, 2, 5, 6, 7, 8, 9, 13, 14, 15, 16, 17, 31, 32, 33]
DEPTHS = [0, 1, 2, 7, 255, 256, 257]


def matrices(rng, dtype, *shapes):
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


@pytest.fixture
def rng():
    return np.random.default_rng(1)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("m", TILE_EDGES)
def test_matmul_at_every_edge_of_a_tile(rng, dtype, m):
    """Every m by every n, with the depths taking turns."""
    depths = itertools.cycle(DEPTHS)
    for n in TILE_EDGES:
        a, b = matrices(rng, dtype, (m, k := next(depths)), (k, n))
        assert_product_close(ops.matmul(a, b), a, b)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize(
    ("m", "n", "k"),
    [
        (127, 129, 511),
        (257, 63, 64),
        (61, 515, 37),
        (50, 50, 6151),
        (1, 1025, 513),
        (1025, 1, 513),
        (1, 1, 8191),
        (300, 3, 2),
        (261, 1041, 390),
    ],
)
def test_matmul_past_the_edges_of_blocks(rng, dtype, m, n, k):
    a, b = matrices(rng, dtype, (m, k), (k, n))
    assert_product_close(ops.matmul(a, b), a, b)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("n", [5, 16, 24, 40, 128, 136, 256, 264, 300, 320])
@pytest.mark.parametrize("offset", [0, 1, 4, 15])
def test_a_vector_with_a_matrix_that_begins_anywhere(rng, dtype, n, offset):
    """The columns before and behind the whole lines of every row, with guards around the result."""
    k = 70
    a, memory = matrices(rng, dtype, (1, k), (k * n + offset,))
    b = memory[offset:].reshape(k, n)
    guarded = np.full(n + 2 * offset, 7, dtype)
    out = guarded[offset : offset + n].reshape(1, n)
    assert_product_close(ops.matmul(a, b, out=out), a, b)
    np.testing.assert_array_equal(np.delete(guarded, slice(offset, offset + n)), 7)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize(
    ("k", "n"), [(64, 33), (200, 50), (130, 256), (70, 601), (7000, 50), (6200, 90)]
)
def test_products_with_the_own_transpose_are_those_with_a_copy(rng, dtype, threads, k, n):
    """Of these only one side of the diagonal is computed."""
    (x,) = matrices(rng, dtype, (k, n))
    with team(threads):
        gram = ops.matmul(x.T, x)
        assert_same_bits(gram, ops.matmul(x.T, x.copy()))
        rows = np.ascontiguousarray(x.T)
        assert_same_bits(
            ops.matmul(rows, rows, transpose_b=True),
            ops.matmul(rows, rows.copy(), transpose_b=True),
        )
    assert_same_bits(gram, np.ascontiguousarray(gram.T))
    if k < 1000:
        assert_product_close(gram, x.T, x)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("transposed", ["a", "b", "a b"])
def test_matmul_of_transposed_operands_past_the_edges_of_blocks(rng, dtype, transposed):
    a, b = matrices(rng, dtype, (261, 390), (390, 1041))
    if "a" in transposed:
        a = np.asfortranarray(a)
    if "b" in transposed:
        b = np.asfortranarray(b)
    assert_product_close(ops.matmul(a, b), a, b)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize(
    ("m", "n", "k"),
    [
        (16, 4, 256),
        (4, 32, 256),
        (33, 3, 40),
        (5, 5, 5),
        (2, 2, 1025),
        (7, 30, 1500),
        (300, 2, 9000),
        (40, 3, 5000),
        (3000, 10, 90),
        (200, 3, 1500),
        (70, 20, 600),
    ],
)
@pytest.mark.parametrize("order", "CF")
def test_narrow_products(rng, dtype, m, n, k, order):
    """What is summed along k, on any team; beyond the stretches that k is cut in, whichever way
    b lies. A row is the same whatever other rows there are."""
    a, b = matrices(rng, dtype, (m, k), (k, n))
    b = np.asarray(b, order=order)
    product = ops.matmul(a, b)
    assert_product_close(product, a, b)
    for threads in THREADS:
        with team(threads):
            assert_same_bits(ops.matmul(a, b), product)
    if k < 6144:  # from where on the shape decides how k is cut
        assert_same_bits(ops.matmul(a[:2], b), product[:2])


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize(("m", "n", "k"), [(4, 32, 256), (3, 500, 700), (12, 40, 2000), (2, 5, 60)])
def test_few_rows_that_lie_across_k(rng, dtype, m, n, k):
    """As in the gradient of a first layer's weights, on any team."""
    a, b = matrices(rng, dtype, (k, m), (n, k))
    product = ops.matmul(a, b, transpose_a=True, transpose_b=True)
    assert_product_close(product, a.T, b.T)
    for threads in THREADS:
        with team(threads):
            assert_same_bits(ops.matmul(a, b, transpose_a=True, transpose_b=True), product)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("n", [20, 70, 200])
def test_rows_that_share_a_set_of_the_cache(rng, dtype, n):
    """Rows of a whole pages apart, which are packed where those next to them are not."""
    wide, b = matrices(rng, dtype, (37, 2048), (300, n))
    for cols in (2048, 2000):
        a = np.ascontiguousarray(wide[:, :cols])[:, 5:305]
        assert_product_close(ops.matmul(a, b), a, b)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("m", [3, 16, 70])
def test_rows_of_b_that_share_a_set_of_the_cache(rng, dtype, m):
    """Their products are cut in more blocks of k than others, and finished after the last."""
    a, wide = matrices(rng, dtype, (m, 700), (700, 2048))
    for cols in (1024, 990):
        b, bias = wide[:, 7 : 7 + cols], wide[0, :cols]
        results = []
        for threads in THREADS:
            with team(threads):
                results.append((ops.matmul(a, b), ops.linear(a, b, bias, activation="relu")))
        for product, activated in results:
            assert_product_close(product, a, b)
            assert_same_bits(activated, np.maximum(product + bias, 0))
            assert_same_bits(product, results[0][0])


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize(("m", "n", "k"), [(37, 45, 29), (130, 70, 300), (1, 33, 65), (33, 1, 65)])
def test_every_combination_of_transposes(rng, dtype, transpose_a, transpose_b, m, n, k):
    """By flag, and by views whose strides are those of a transpose: the same product."""
    a, b = matrices(
        rng, dtype, (k, m) if transpose_a else (m, k), (n, k) if transpose_b else (k, n)
    )
    left, right = a.T if transpose_a else a, b.T if transpose_b else b
    assert_product_close(
        ops.matmul(a, b, transpose_a=transpose_a, transpose_b=transpose_b), left, right
    )
    assert_product_close(ops.matmul(left, right), left, right)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("shape", [(19, 34, 23), (1, 34, 23), (19, 1, 23)])
def test_any_memory_layout_of_the_inputs(rng, dtype, shape):
    m, n, k = shape
    a, b = matrices(rng, dtype, (m, k), (k, n))
    for left, right in itertools.product(layouts(a), layouts(b)):
        assert_product_close(ops.matmul(left, right), a, b)


@pytest.mark.parametrize("dtype", REALS)
def test_inputs_that_broadcast_by_stride_zero(rng, dtype):
    row, column = matrices(rng, dtype, (1, 23), (19, 1))
    a = np.broadcast_to(column, (19, 23))
    b = np.broadcast_to(row, (23, 23))
    assert_product_close(ops.matmul(a, b), a, b)
    assert_product_close(ops.matmul(b.T, a.T), b.T, a.T)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("m", [1, 19])
@pytest.mark.parametrize("n", [1, 34])
def test_any_memory_layout_of_out(rng, dtype, m, n):
    """Rows, columns or neither contiguous: what lies between the elements of out stays."""
    a, b = matrices(rng, dtype, (m, 23), (23, n))
    frame = np.full((2 * m, 3 * n), 7, dtype)
    for view in (
        frame[:m, :n],
        frame.T[:n, :m].T,
        frame[::2, ::3],
        frame[m - 1 :: -1, n - 1 :: -1],
    ):
        frame[...] = 7
        assert ops.matmul(a, b, out=view) is view
        assert_product_close(view, a, b)
        view[...] = 7
        assert np.all(frame == 7)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize(
    ("a_shape", "b_shape"),
    [
        ((3, 5, 7), (3, 7, 4)),
        ((3, 5, 7), (7, 4)),
        ((5, 7), (3, 7, 4)),
        ((2, 1, 5, 7), (3, 7, 4)),
        ((2, 3, 5, 7), (2, 1, 7, 4)),
        ((1, 2, 1, 2, 1, 2, 3, 4), (2, 4, 5)),
        ((4, 0, 3), (3, 2)),
        ((4, 3, 0), (0, 2)),
        ((0, 3, 4), (4, 2)),
        ((2, 1, 8, 8), (1, 9, 8, 8)),
    ],
)
def test_leading_axes_broadcast(rng, dtype, a_shape, b_shape):
    a, b = matrices(rng, dtype, a_shape, b_shape)
    assert_product_close(ops.matmul(a, b), a, b)
    for swapped in (a.swapaxes(-1, -2).copy().swapaxes(-1, -2), np.asfortranarray(a)):
        assert_product_close(ops.matmul(swapped, b), a, b)


@pytest.mark.parametrize("dtype", REALS)
def test_arrays_of_one_axis(rng, dtype):
    """Rows on the left, columns on the right; their axis is not in the result."""
    a, b, u, v, batch = matrices(rng, dtype, (5, 7), (7, 4), (5,), (7,), (3, 7, 4))
    for left, right in ((v, b), (a, v), (v, v), (v, batch), (u, a), (batch.swapaxes(1, 2), v)):
        actual = ops.matmul(left, right)
        assert actual.shape == (left @ right).shape
        matrix = left if left.ndim > 1 else left[None]
        columns = right if right.ndim > 1 else right[:, None]
        assert_product_close(
            np.reshape(
                actual,
                np.broadcast_shapes(matrix.shape[:-2], columns.shape[:-2])
                + (matrix.shape[-2], columns.shape[-1]),
            ),
            matrix,
            columns,
        )
    assert type(ops.matmul(v, v)) is dtype


def test_mixed_dtypes_promote(rng):
    a = rng.standard_normal((5, 7)).astype(np.float32)
    b = rng.standard_normal((7, 4))
    assert ops.matmul(a, b).dtype == np.float64
    assert_product_close(ops.matmul(a, b), a.astype(np.float64), b)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize(
    ("m", "n", "k"),
    [
        (1, 1, 9001),
        (97, 101, 103),
        (50, 50, 6200),
        (1, 777, 333),
        (777, 1, 333),
        (5, 3, 2),
        (433, 1041, 520),  # several blocks in each direction, for some shares
    ],
)
def test_products_are_the_same_bits_at_any_number_of_threads(rng, dtype, m, n, k):
    a, b = matrices(rng, dtype, (m, k), (k, n))
    for left, right in ((a, b), (np.asfortranarray(a), np.asfortranarray(b))):
        results = []
        for threads in THREADS:
            with team(threads):
                results.append(ops.matmul(left, right))
        assert_product_close(results[0], a, b)
        for result in results[1:]:
            assert_same_bits(result, results[0])


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize(("n", "k"), [(1024, 512), (301, 1003), (50, 5900), (8192, 513)])
def test_a_row_times_a_large_matrix_is_the_same_bits_at_any_number_of_threads(rng, dtype, n, k):
    """Its k is cut in parts: groups of a team share them, or a thread has all of an item."""
    a, b = matrices(rng, dtype, (1, k), (k, n))
    bias = rng.standard_normal(n).astype(dtype)
    with team(1):
        product = ops.matmul(a, b)
        activated = ops.linear(a, b, bias, activation="relu")
    assert_product_close(product, a, b)
    np.testing.assert_array_equal(activated, np.maximum(product + bias, 0))
    for threads in THREADS:
        with team(threads):
            assert_same_bits(ops.matmul(a, b), product)
            assert_same_bits(ops.linear(a, b, bias, activation="relu"), activated)
            both = ops.matmul(np.stack([a, 2 * a]), np.stack([b, b]))
        assert_same_bits(both, np.stack([product, 2 * product]))


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("items", [2, 7, 40])
def test_batches_are_the_same_bits_at_any_number_of_threads(rng, dtype, items):
    """Whether threads share an item or take items of their own."""
    a, b = matrices(rng, dtype, (items, 33, 65), (items, 65, 17))
    single = np.stack([ops.matmul(a[i], b[i]) for i in range(items)])
    for threads in THREADS:
        with team(threads):
            assert_same_bits(ops.matmul(a, b), single)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize(("n", "k"), [(512, 700), (1024, 300), (1091, 129), (2100, 1030)])
def test_few_rows_are_the_same_bits_as_among_many(rng, dtype, n, k):
    """Row by row or in panels, a large b makes the same sums, whatever a thread has of it."""
    a, b = matrices(rng, dtype, (20, k), (k, n))
    bias = rng.standard_normal(n).astype(dtype)
    with team(1):
        many = ops.matmul(a, b)
        many_by_columns = ops.matmul(np.asfortranarray(a), b)
        many_activated = ops.linear(a, b, bias, activation="relu")
    assert_product_close(many, a, b)
    for threads, rows in itertools.product(THREADS, range(2, 7)):
        few = a[:rows]
        with team(threads):
            assert_same_bits(ops.matmul(few, b), many[:rows])
            assert_same_bits(ops.matmul(np.asfortranarray(few), b), many_by_columns[:rows])
            assert_same_bits(ops.linear(few, b, bias, activation="relu"), many_activated[:rows])


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize(("m", "n", "k"), [(9, 13, 6000), (3, 600, 6200), (9, 600, 700)])
def test_shares_of_few_rows_are_the_same_bits(rng, dtype, m, n, k):
    """Also beside shares of more rows, and where a team cuts k."""
    a, b = matrices(rng, dtype, (m, k), (k, n))
    for left in (a, np.asfortranarray(a)):
        with team(1):
            single = ops.matmul(left, b)
        assert_product_close(single, a, b)
        for threads in THREADS:
            with team(threads):
                assert_same_bits(ops.matmul(left, b), single)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_nan_and_infinities_reach_their_row_and_nothing_else(dtype, special):
    """In every row of a tile and its edge, with an operand of positive numbers."""
    m, k, n = 35, 9, 37
    clean = np.ones((m, k), dtype)
    b = np.ones((k, n), dtype)
    for row in range(m):
        a = clean.copy()
        a[row, row % k] = special
        c = ops.matmul(a, b)
        np.testing.assert_array_equal(c[row], np.full(n, special, dtype))
        assert np.all(np.delete(c, row, axis=0) == k)
        np.testing.assert_array_equal(ops.matmul(b.T, a.T), c.T)


@pytest.mark.parametrize("dtype", REALS)
def test_zero_times_infinity_is_nan(dtype):
    """Zeros are not skipped, and the zeros that pad a tile meet no infinity."""
    a = np.zeros((3, 3), dtype)
    b = np.full((3, 3), np.inf, dtype)
    assert np.all(np.isnan(ops.matmul(a, b)))


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (np.ones((2, 3)), np.ones((4, 5)), "a has 3 columns, but b has 4 rows"),
        (np.ones(3), np.ones((4, 5)), "a has 3 columns, but b has 4 rows"),
        (np.ones((2, 2, 3)), np.ones((3, 3, 5)), "a has extent 2 on a leading axis where b has 3"),
        (np.ones((1,) * 9), np.ones((1, 1)), "a has 9 axes; the limit is 8"),
        (np.ones((1,) * 8), np.ones(()), "b has no axes"),
    ],
)
def test_matmul_says_which_shapes_do_not_fit(a, b, message):
    with pytest.raises(ValueError, match=message):
        ops.matmul(a, b)


def test_matmul_names_the_argument_of_another_dtype():
    x = np.ones((2, 2))
    with pytest.raises(TypeError, match="a has dtype int64; expected float32 or float64"):
        ops.matmul(x.astype(np.int64), x)
    with pytest.raises(TypeError, match="b has dtype complex128"):
        ops.matmul(x, x.astype(complex))
    with pytest.raises(TypeError, match="b has dtype float16"):
        ops.matmul(x, x.astype(np.float16))


def test_matmul_takes_no_transpose_of_one_axis():
    with pytest.raises(ValueError, match="transpose_a needs a to have 2 or more axes"):
        ops.matmul(np.ones(3), np.ones((3, 3)), transpose_a=True)


def test_matmul_checks_out():
    a = np.ones((4, 4))
    read_only = np.empty((4, 4))
    read_only.flags.writeable = False
    for out, error, message in (
        (np.empty((4, 3)), ValueError, r"out has shape \(4, 3\), but the result has \(4, 4\)"),
        (
            np.empty((4, 4), np.float32),
            TypeError,
            "out has dtype float32, but the result is float64",
        ),
        (read_only, ValueError, "out is read-only"),
        ([[0.0] * 4] * 4, TypeError, "out must be a numpy.ndarray, not list"),
        (a, ValueError, "out overlaps a"),
        (np.lib.stride_tricks.as_strided(np.empty(8), (4, 4), (8, 8)), ValueError, "share memory"),
    ):
        with pytest.raises(error, match=message):
            ops.matmul(a, np.ones((4, 4)), out=out)
    memory = np.ones(40)
    with pytest.raises(ValueError, match="out overlaps b"):
        ops.matmul(a, memory[:16].reshape(4, 4), out=memory[15:31].reshape(4, 4))


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("n", [0, 1, 7, 129])
@pytest.mark.parametrize("m", [0, 1, 17, 260])
@pytest.mark.parametrize("has_bias", [False, True])
def test_linear_is_the_activation_of_product_and_bias(rng, dtype, n, m, has_bias):
    """The fused store gives what the separate functions give, bit by bit."""
    x, w, b = matrices(rng, dtype, (n, 31), (31, m), (m,))
    bias = b if has_bias else None
    product = ops.matmul(x, w)
    assert_product_close(product, x, w)
    if has_bias:
        product = product + b
    assert_same_bits(ops.linear(x, w, bias), product)
    for name in ("relu", "leaky_relu", "elu", "sigmoid", "tanh", "gelu", "silu", "softplus"):
        assert_same_bits(ops.linear(x, w, bias, activation=name), getattr(ops, name)(product))


@pytest.mark.parametrize("dtype", REALS)
def test_linear_in_any_layout(rng, dtype):
    x, w, b = matrices(rng, dtype, (18, 31), (31, 21), (21,))
    wide_x, wide_w = x.astype(np.longdouble), w.astype(np.longdouble)
    expected = np.tanh(wide_x @ wide_w + b)
    scale = np.abs(wide_x) @ np.abs(wide_w) + np.abs(b)
    out = np.empty((42, 36), dtype).T[::2, ::2]
    for x_view, w_view, b_view in zip(layouts(x), layouts(w), layouts(b), strict=True):
        actual = ops.linear(x_view, w_view, b_view, activation="tanh", out=out)
        assert actual is out
        assert_close(out, expected, ulps=2, scale=scale)


@pytest.mark.parametrize("dtype", REALS)
def test_linear_is_the_same_bits_at_any_number_of_threads(rng, dtype):
    x, w, b = matrices(rng, dtype, (259, 301), (301, 133), (133,))
    expected = ops.gelu(ops.matmul(x, w) + b)
    for threads in THREADS:
        with team(threads):
            assert_same_bits(ops.linear(x, w, b, activation="gelu"), expected)


def test_linear_says_what_does_not_fit():
    x, w, b = np.ones((2, 3)), np.ones((3, 4)), np.ones(4)
    for arguments, message in (
        ((x, w.T, b), "x has 3 columns, but w has 4 rows"),
        ((x, w, b[:3]), "b has 3 elements, but w has 4 columns"),
        ((x[0], w, b), r"x has shape \(3,\); expected 2 axes"),
        ((x, w, b[None]), r"b has shape \(1, 4\); expected 1 axis"),
    ):
        with pytest.raises(ValueError, match=message):
            ops.linear(*arguments)
    with pytest.raises(ValueError, match="activation is 'swish'; expected one of identity"):
        ops.linear(x, w, b, activation="swish")
    with pytest.raises(TypeError, match="b has dtype int64"):
        ops.linear(x, w, b.astype(np.int64))
    memory = np.ones((2, 4))
    with pytest.raises(ValueError, match="out overlaps b"):
        ops.linear(x, w, memory[1], out=memory)
