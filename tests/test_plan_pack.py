"""Operands of plans that are packed once for many runs: the same bits, from what was packed."""

import itertools
import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

import dlcore as dl
import plan_builder as pb
from dlcore._plan import Plan
from helpers import assert_same_bits
from plan_builder import ROWS, PlanBuilder, program
from plan_runs import TEAMS

CAPACITY = 40


pytestmark = pytest.mark.usefixtures("teams")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def linear_builder(dtype, k, n, *, b_strides=None, transposed=False, in_blocks=0):
    """out = relu(x @ w + bias) for rows of x; bound are x, w, bias and out.

    transposed: c has contiguous columns, so that w is the first factor of what is computed.
    in_blocks: rows of a block, 0 for the whole batch.
    """
    b = PlanBuilder(CAPACITY)
    b.block_rows = in_blocks
    memory = {"slot": pb.IN_BLOCK} if in_blocks else {}
    data = b.bound(pb.DATASET, dtype, (k,))
    weight = b.slot(pb.FIXED, dtype, k * n * np.dtype(dtype).itemsize)
    w = b.tensor(dtype, (k, n), slot=weight, stride=b_strides)
    bias = b.bound(pb.FIXED, dtype, (1, n))
    out = b.bound(pb.STREAM, dtype, (n,), writable=True)
    x = b.tensor(dtype, (ROWS, k), **memory)
    strides = {"stride": (1, in_blocks or CAPACITY)} if transposed else {}
    c = b.tensor(dtype, (ROWS, n), **memory, **strides)
    b.op(pb.GATHER, [x], [data])
    store = program(dtype, 1, 1, [("add", 0, 0, 1), ("relu", 0, 0)])
    b.op(pb.GEMM, [c], [x, w, bias], [0, *store])
    b.op(pb.MAP, [out], [c], program(dtype, 1, 1, [("copy", 0, 1)]))
    if in_blocks:
        b.n_block_ops = len(b.ops)
    return b


def linear_bindings(rng, dtype, k, n, rows):
    x, w, bias = (rng.normal(size=shape).astype(dtype) for shape in ((rows, k), (k, n), (1, n)))
    return [x, w, bias, np.zeros((rows, n), dtype)]


def run(plan, bindings, threads, packed):
    rows = len(bindings[0])
    batch = min(rows, CAPACITY)
    out = np.zeros_like(bindings[-1])
    options = {"epoch_rows": rows, "batch_rows": batch, "step_end": -(-rows // batch)}
    plan.run([*bindings[:-1], out], threads=threads, budget=None, packed=packed, **options)
    return out


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("in_blocks", [0, 16])
@pytest.mark.parametrize(
    ("k", "n", "transpose_w"),
    [
        *((70, 600, transpose_w) for transpose_w in (False, True)),
        *((700, 45, transpose_w) for transpose_w in (False, True)),
        *((270, 66, transpose_w) for transpose_w in (False, True)),
        *((300, 4096 // 4, transpose_w) for transpose_w in (False, True)),
        (130, 66, True),
        (250, 100, True),
    ],
)
def test_results_are_those_without(dtype, transpose_w, in_blocks, k, n, rng):
    """Bit by bit, for every team and any number of rows; and NumPy's.

    Without, small products go another way.
    """
    strides = (1, k) if transpose_w else None
    builder = linear_builder(dtype, k, n, b_strides=strides, in_blocks=in_blocks)
    plan = Plan(builder.build())
    assert plan.packed_bytes >= k * n * np.dtype(dtype).itemsize
    assert plan.packed_slots == (1,)
    for rows in (1, 2, 15, CAPACITY, CAPACITY + 17):
        bindings = linear_bindings(rng, dtype, k, n, rows)
        x, w, bias, _ = bindings
        packed = plan.pack(bindings)
        expected = run(plan, bindings, 1, None)
        for threads in TEAMS:
            assert_same_bits(run(plan, bindings, threads, packed), expected)
        matrix = w.reshape(n, k).T if transpose_w else w
        exact = np.maximum(x.astype("f8") @ matrix.astype("f8") + bias, 0)
        tolerance = (k + 2) * np.finfo(dtype).eps * (np.abs(x) @ np.abs(matrix)).max()
        assert_allclose(expected, exact, rtol=0, atol=tolerance)


@pytest.mark.parametrize("in_blocks", [0, 16])
def test_runs_read_what_was_packed(in_blocks, rng):
    """Products of more than a few rows do not look at the weights again."""
    plan = Plan(linear_builder("f4", 270, 66, in_blocks=in_blocks).build())
    bindings = linear_bindings(rng, "f4", 270, 66, 20)
    packed = plan.pack(bindings)
    expected = run(plan, bindings, 1, packed)
    others = [bindings[0], np.full_like(bindings[1], np.nan), *bindings[2:]]
    assert_same_bits(run(plan, others, 1, packed), expected)


def test_every_team_packs_the_same(rng):
    plan = Plan(linear_builder("f4", 700, 333).build())
    bindings = linear_bindings(rng, "f4", 700, 333, 20)
    dl.set_num_threads(1)
    first = run(plan, bindings, 1, plan.pack(bindings))
    for threads in TEAMS:
        dl.set_num_threads(threads)
        assert_same_bits(run(plan, bindings, 1, plan.pack(bindings)), first)


def test_weights_as_the_first_factor_are_not_packed(rng):
    """c^T = w^T x^T packs x^T, which is another for every step."""
    plan = Plan(linear_builder("f4", 270, 66, transposed=True).build())
    assert plan.packed_bytes == 0
    bindings = linear_bindings(rng, "f4", 270, 66, 20)
    assert_same_bits(run(plan, bindings, 1, plan.pack(bindings)), run(plan, bindings, 1, None))


@pytest.mark.parametrize(
    ("k", "n", "transpose_w"),
    [(20, 30, 0), (70, 66, 1), (100, 1, 0), (100, 2, 0), (130, 66, 0), (6144, 40, 0)],
)
def test_what_is_packed_nowhere_takes_no_memory(k, n, transpose_w):
    """Small products, products with a vector, dot products, and those that are cut along k."""
    strides = (1, k) if transpose_w else None
    plan = Plan(linear_builder("f4", k, n, b_strides=strides).build())
    assert plan.packed_bytes == 0
    assert plan.packed_slots == ()


def chain_builder(widths, *, as_one=False):
    """out = x @ w0 @ w1 ...; as_one: one square matrix, again and again."""
    b = PlanBuilder(CAPACITY)
    data = b.bound(pb.DATASET, "f8", widths[:1])
    weights = [b.bound(pb.FIXED, "f8", pair) for pair in itertools.pairwise(widths)]
    out = b.bound(pb.STREAM, "f8", widths[-1:], writable=True)
    x = b.tensor("f8", (ROWS, widths[0]))
    b.op(pb.GATHER, [x], [data])
    for i, width in enumerate(widths[1:]):
        c = out if i == len(widths) - 2 else b.tensor("f8", (ROWS, width))
        b.op(pb.GEMM, [c], [x, weights[0 if as_one else i]], [0])
        x = c
    return b


def test_each_product_has_a_place_of_its_own(rng):
    widths = (90, 130, 70, 110)
    plan = Plan(chain_builder(widths).build())
    shapes = [(20, 90), *itertools.pairwise(widths), (20, 110)]
    bindings = [rng.normal(size=shape) for shape in shapes]
    expected = np.linalg.multi_dot(bindings[:-1])
    packed = plan.pack(bindings)
    for threads in TEAMS:
        assert_same_bits(run(plan, bindings, threads, packed), run(plan, bindings, 1, None))
    assert_allclose(run(plan, bindings, 1, packed), expected, rtol=1e-9, atol=1e-9)


def test_what_several_products_read_is_packed_once(rng):
    widths = (270, 270, 270, 270)
    plan = Plan(chain_builder(widths, as_one=True).build())
    assert plan.packed_bytes == Plan(chain_builder(widths[:2]).build()).packed_bytes > 0
    x, w = rng.normal(size=(20, 270)), rng.normal(size=(270, 270))
    bindings = [x, w, np.full_like(w, np.nan), np.full_like(w, np.nan), np.zeros((20, 270))]
    packed = plan.pack(bindings)
    assert_same_bits(run(plan, bindings, 1, packed), run(plan, bindings, 1, None))
    assert_allclose(run(plan, bindings, 1, packed), x @ w @ w @ w, rtol=1e-9, atol=1e-9)


def product_builder(kind, shape_a, shape_b, *, writable=False):
    """c = a @ b with an a in the arena."""
    b = PlanBuilder(CAPACITY)
    extents = [extent if extent >= 0 else CAPACITY for extent in shape_b]
    slot = b.slot(kind, "f4", 4 * math.prod(extents), writable=writable)
    w = b.tensor("f4", shape_b, slot=slot)
    a = b.tensor("f4", shape_a)
    c = b.tensor("f4", (*shape_a[:-1], shape_b[-1]))
    b.op(pb.GEMM, [c], [a, w], [0])
    return b


def test_only_what_stays_is_packed():
    """Not what a plan writes or what has rows, products of constants, or several at once."""
    rows = (ROWS, 270)
    assert Plan(product_builder(pb.FIXED, rows, (270, 66)).build()).packed_bytes > 0
    for builder in (
        product_builder(pb.FIXED, rows, (270, 66), writable=True),
        product_builder(pb.FIXED, (90, 270), (270, 66)),
        product_builder(pb.FIXED, (3, ROWS, 270), (3, 270, 66)),
        product_builder(pb.FIXED, (90, 270), (270, ROWS)),
        product_builder(pb.FIXED, (ROWS, ROWS), (ROWS, 66)),
    ):
        assert Plan(builder.build()).packed_bytes == 0


def test_wrong_arguments_are_refused(rng):
    plan = Plan(linear_builder("f4", 270, 66).build())
    bindings = linear_bindings(rng, "f4", 270, 66, 20)
    packed = plan.pack(bindings)
    for wrong in (packed[:-1], packed.view("f4"), np.repeat(packed, 2)[::2]):
        with pytest.raises(ValueError, match="packed is not what this plan's pack returned"):
            run(plan, bindings, 1, wrong)
    with pytest.raises(TypeError, match="packed is a bytes; expected what pack returned"):
        run(plan, bindings, 1, packed.tobytes())
    with pytest.raises(ValueError, match="there are 3 bindings; the plan has 4 slots"):
        plan.pack(bindings[:3])
    with pytest.raises(ValueError, match="has 130 bytes|needs"):
        plan.pack([bindings[0], bindings[1][:1], *bindings[2:]])
    with pytest.raises(ValueError, match="is None; expected an array"):
        plan.pack([None] * 4)
