"""Products with matrices that are packed once, against those that pack at every call."""

import copy
import itertools
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import dlcore as dl
from dlcore import ops
from helpers import THREADS, assert_product_close, assert_same_bits, layouts, team
from test_gemm_bfloat16 import DEPTHS, TILE_EDGES, assert_bfloat16_product, matrices, rounded


@pytest.fixture
def rng():
    return np.random.default_rng(2)


def product(a, b, **options):
    return ops.matmul(a, b, compute="bfloat16", **options)


@pytest.mark.parametrize("n", TILE_EDGES)
def test_every_edge_of_a_panel(rng, n):
    """The bits of products that pack for themselves, for every n by every m."""
    depths = itertools.cycle(DEPTHS)
    for m in TILE_EDGES:
        a, b = matrices(rng, (m, k := next(depths)), (k, n))
        packed = ops.pack_bfloat16(b)
        assert packed.shape == b.shape
        assert_same_bits(ops.matmul(a, packed), product(a, b))
        assert_bfloat16_product(ops.matmul(a, packed), a, b)


@pytest.mark.parametrize("shape", [(300, 2000, 70), (40, 3000, 300), (700, 900, 1100)])
def test_blocks_of_rows_columns_and_depth(rng, shape):
    m, k, n = shape
    a, b = matrices(rng, (m, k), (k, n))
    packed = ops.pack_bfloat16(b)
    expected = product(a, b)
    for threads in THREADS:
        with team(threads):
            assert_same_bits(ops.matmul(a, packed), expected)
            assert_same_bits(ops.matmul(a, ops.pack_bfloat16(b)), expected)


def test_a_deep_product_is_not_cut(rng):
    """Its sums have another order than those of an unpacked one, but one for every team."""
    a, b = matrices(rng, (5, 7001), (7001, 33))
    packed = ops.pack_bfloat16(b)
    expected = ops.matmul(a, packed)
    assert_product_close(expected, rounded(a), rounded(b))
    for threads in THREADS:
        with team(threads):
            assert_same_bits(ops.matmul(a, packed), expected)


def test_any_layout_is_packed(rng):
    a, b = matrices(rng, (20, 37), (37, 45))
    expected = product(a, b)
    for view, view_t, left in zip(layouts(b), layouts(b.T), layouts(a), strict=True):
        assert_same_bits(ops.matmul(left, ops.pack_bfloat16(view)), expected)
        packed = ops.pack_bfloat16(view_t, transpose=True)
        assert packed.shape == b.shape
        assert_same_bits(ops.matmul(left, packed), expected)
        assert_same_bits(ops.matmul(left.T, packed, transpose_a=True), expected)


def test_leading_axes_and_vectors(rng):
    a, b = matrices(rng, (2, 3, 10, 37), (37, 45))
    packed = ops.pack_bfloat16(b)
    assert_same_bits(ops.matmul(a, packed), product(a, b))
    assert_same_bits(ops.matmul(a[:, ::2, ::-1], packed), product(a[:, ::2, ::-1], b))
    assert_same_bits(ops.matmul(a[0, 0, 0], packed), product(a[0, 0, :1], b)[0])
    assert ops.matmul(a[:0], packed).shape == (0, 3, 10, 45)


def test_any_out(rng):
    a, b = matrices(rng, (18, 31), (31, 21))
    packed = ops.pack_bfloat16(b)
    expected = product(a, b)
    for out in (
        np.empty((18, 21), np.float32),
        np.empty((21, 18), np.float32).T,
        np.empty((42, 36), np.float32).T[::2, ::2],
    ):
        assert ops.matmul(a, packed, out=out) is out
        assert_same_bits(np.ascontiguousarray(out), expected)
        out.fill(np.nan)
        assert ops.linear(a, packed, out=out) is out
        assert_same_bits(np.ascontiguousarray(out), expected)


def test_linear_is_the_activation_of_product_and_bias(rng):
    x, w, b = matrices(rng, (59, 131), (131, 70), (70,))
    packed = ops.pack_bfloat16(w)
    for activation in ("identity", "relu", "elu", "gelu"):
        expected = ops.linear(x, w, b, activation=activation, compute="bfloat16")
        for compute in (None, "bfloat16"):
            actual = ops.linear(x, packed, b, activation=activation, compute=compute)
            assert_same_bits(actual, expected)


def test_linear_is_the_same_bits_at_any_number_of_threads(rng):
    x, w, b = matrices(rng, (259, 301), (301, 133), (133,))
    packed = ops.pack_bfloat16(w)
    expected = ops.linear(x, w, b, activation="tanh", compute="bfloat16")
    for threads in THREADS:
        with team(threads):
            assert_same_bits(ops.linear(x, packed, b, activation="tanh"), expected)


def test_threads_share_one_matrix(rng):
    a, b = matrices(rng, (64, 300), (300, 200))
    packed = ops.pack_bfloat16(b)
    expected = product(a, b)
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(lambda _: ops.matmul(a, packed), range(32)):
            assert_same_bits(result, expected)


def test_what_is_packed_is_a_copy(rng):
    a, b = matrices(rng, (4, 5), (5, 6))
    expected = product(a, b)
    packed = ops.pack_bfloat16(b)
    b.fill(np.nan)
    assert_same_bits(ops.matmul(a, packed), expected)


def test_special_numbers_stay_where_they_are():
    w = np.ones((40, 50), np.float32)
    w[3, 7], w[39, 49], w[0, 20] = np.nan, np.inf, -np.inf
    result = ops.matmul(np.ones((3, 40), np.float32), ops.pack_bfloat16(w))
    special = {7: np.nan, 49: np.inf, 20: -np.inf}
    for column in range(50):
        np.testing.assert_array_equal(result[:, column], np.float32(special.get(column, 40)))


def test_how_much_it_takes(rng):
    """Half of float32, where columns fill vectors and rows pairs, or squares of AMX; else more."""
    (w,) = matrices(rng, (256, 512))
    rows = 32 if dl.config_info()["bfloat16"] == "amx" else 2
    assert ops.pack_bfloat16(w).nbytes == w.nbytes // 2
    assert ops.pack_bfloat16(w[:255, :509]).nbytes == w.nbytes // 2
    assert ops.pack_bfloat16(w[:1]).nbytes == w[:rows].nbytes // 2
    assert repr(ops.pack_bfloat16(w[:, :3])) == "<256 x 3 matrix packed in bfloat16>"


def test_what_can_be_packed(rng):
    (w,) = matrices(rng, (3, 4))
    with pytest.raises(TypeError, match="w has dtype float64; pack_bfloat16 takes float32 only"):
        ops.pack_bfloat16(w.astype(np.float64))
    with pytest.raises(TypeError, match="w has dtype int64; expected float32 or float64"):
        ops.pack_bfloat16(np.ones((2, 2), np.int64))
    for wrong in (w[0], w[None]):
        with pytest.raises(ValueError, match=r"w has shape .*; expected 2 axes"):
            ops.pack_bfloat16(wrong)
    for make in (ops.PackedMatrix, lambda: ops.PackedMatrix.__new__(ops.PackedMatrix)):
        with pytest.raises(TypeError, match="made by dlcore.ops.pack_bfloat16"):
            make()
    with pytest.raises(OverflowError, match="the bytes of w, packed, do not fit"):
        ops.pack_bfloat16(np.broadcast_to(np.float32(1), (2**60, 1)))


def test_where_it_stands(rng):
    a, b = matrices(rng, (3, 4), (4, 5))
    packed = ops.pack_bfloat16(b)
    with pytest.raises(ValueError, match="a has 3 columns, but b has 4 rows"):
        ops.matmul(a.T, packed)
    with pytest.raises(ValueError, match="x has 3 columns, but w has 4 rows"):
        ops.linear(a.T, packed)
    with pytest.raises(ValueError, match="b has 3 elements, but w has 5 columns"):
        ops.linear(a, packed, a[:, 0])
    with pytest.raises(ValueError, match="transpose_b is True, but b is packed"):
        ops.matmul(a, packed, transpose_b=True)
    with pytest.raises(TypeError, match="a has dtype float64"):
        ops.matmul(a.astype(np.float64), packed)
    with pytest.raises(TypeError, match="x has dtype float64"):
        ops.linear(a.astype(np.float64), packed)
    second = "can only be the second operand of dlcore.ops.matmul and dlcore.ops.linear"
    for wrong in (
        lambda: ops.matmul(packed, b),
        lambda: ops.linear(a, b, packed),
        lambda: ops.pack_bfloat16(packed),
        lambda: np.asarray(packed),
        lambda: a @ packed,
    ):
        with pytest.raises(TypeError, match=second):
            wrong()
    with pytest.raises(ValueError, match="compute is 'float16'"):
        ops.matmul(a, packed, compute="float16")
    with pytest.raises(TypeError, match="out has dtype float64"):
        ops.matmul(a, packed, out=np.empty((3, 5)))


@pytest.mark.parametrize("function", [ops.matmul, ops.linear])
def test_traced_functions_refuse_it(rng, function):
    a, b = matrices(rng, (3, 4), (4, 5))
    packed = ops.pack_bfloat16(b)
    with pytest.raises(NotImplementedError, match="[bw] is packed, which a traced function cannot"):
        dl.jit(lambda x: function(x, packed))(a)
    with pytest.raises(NotImplementedError, match="pack_bfloat16 in a traced function"):
        dl.jit(lambda w: function(a, ops.pack_bfloat16(w)))(b)


def test_it_belongs_to_its_process(rng):
    (w,) = matrices(rng, (3, 4))
    packed = ops.pack_bfloat16(w)
    with pytest.raises(TypeError, match="for this process and CPU only"):
        pickle.dumps(packed)
    assert copy.copy(packed) is packed
    assert copy.deepcopy([packed])[0] is packed
