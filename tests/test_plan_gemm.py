"""The op that multiplies matrices against NumPy, in plans made by hand, with all teams."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import plan_builder as pb
from dlcore import DlcoreError
from dlcore._plan import Plan
from plan_builder import ROWS, PlanBuilder, program
from plan_runs import epoch_slices, run_teams

REALS = ["f4", "f8"]


pytestmark = pytest.mark.usefixtures("teams")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def product_tolerance(a, b):
    """The error bound of a @ b plus a bias in any order of summation, from |a| @ |b|."""
    k, eps = a.shape[-1], np.finfo(a.dtype).eps
    return {"rtol": 0, "atol": (k + 2) * eps * (np.abs(a) @ np.abs(b)).max()}


def matmul_plan(dtype, shapes, strides, *, accumulate=0):
    """c = a @ b over FIXED slots that are as large as the shapes."""
    builder = PlanBuilder(1)
    tensors = []
    for (shape, n_bytes), stride in zip(shapes, strides, strict=True):
        slot = builder.slot(pb.FIXED, dtype, n_bytes, writable=not tensors)
        tensors.append(builder.tensor(dtype, shape, slot=slot, stride=stride))
    builder.op(pb.GEMM, tensors[:1], tensors[1:], [accumulate])
    return Plan(builder.build())


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("accumulate", [0, 1])
@pytest.mark.parametrize("sizes", [(7, 5, 3), (1, 33, 17), (37, 1, 9), (65, 70, 129), (4, 3, 0)])
def test_gemm_multiplies_any_strides(dtype, transpose_a, transpose_b, accumulate, sizes, rng):
    """Transposes are views, and a product is added or stored."""
    m, n, k = sizes
    c = rng.normal(size=(m, n)).astype(dtype)
    a = rng.normal(size=(k, m) if transpose_a else (m, k)).astype(dtype)
    b = rng.normal(size=(n, k) if transpose_b else (k, n)).astype(dtype)
    plan = matmul_plan(
        dtype,
        [((m, n), c.nbytes), ((m, k), a.nbytes), ((k, n), b.nbytes)],
        [(n, 1), (1, m) if transpose_a else (k, 1), (1, k) if transpose_b else (n, 1)],
        accumulate=accumulate,
    )
    out, *_ = run_teams(plan, [c, a, b], epoch_rows=1, batch_rows=1, step_end=1)
    left, right = (a.T if transpose_a else a), (b.T if transpose_b else b)
    expected = left.astype("f8") @ right.astype("f8") + (c if accumulate else 0)
    norm = np.linalg.norm
    bound = np.finfo(dtype).eps * ((k + 2) ** 0.5 * norm(a) * norm(b) + 2 * norm(c))
    assert norm(out - expected) < bound


def sums_plan(dtype, m, n, k, transpose_a, transpose_b, accumulate=0):
    """c = a @ b and the sums of the columns of b."""
    b = PlanBuilder(1)
    outs = [b.bound(pb.FIXED, dtype, shape, writable=True) for shape in ((m, n), (1, n))]
    slots = [b.slot(pb.FIXED, dtype, size * np.dtype(dtype).itemsize) for size in (m * k, k * n)]
    strides = [(1, m) if transpose_a else (k, 1), (1, k) if transpose_b else (n, 1)]
    ins = [
        b.tensor(dtype, shape, slot=slot, stride=stride)
        for shape, slot, stride in zip(((m, k), (k, n)), slots, strides, strict=True)
    ]
    b.op(pb.GEMM, outs, ins, [accumulate])
    return b


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("accumulate", [0, 1])
@pytest.mark.parametrize(
    "sizes",
    [
        (7, 5, 3),
        (1, 33, 17),
        (37, 1, 9),
        (65, 70, 129),
        (4, 3, 0),
        (300, 40, 600),
        (9, 8, 6500),
        (3, 130, 700),  # few rows, and a large second factor
    ],
)
def test_gemm_sums_the_columns_of_its_second_factor(
    dtype, transpose_a, transpose_b, accumulate, sizes, rng
):
    """Whatever way the product takes; the product is that without the sums."""
    m, n, k = sizes
    c, sums = rng.normal(size=(m, n)).astype(dtype), rng.normal(size=(1, n)).astype(dtype)
    a = rng.normal(size=(k, m) if transpose_a else (m, k)).astype(dtype)
    b = rng.uniform(1, 2, size=(n, k) if transpose_b else (k, n)).astype(dtype)
    one_step = {"epoch_rows": 1, "batch_rows": 1, "step_end": 1}
    plan = Plan(sums_plan(dtype, *sizes, transpose_a, transpose_b, accumulate).build())
    product, got, *_ = run_teams(plan, [c, sums, a, b], **one_step)
    alone = matmul_plan(
        dtype,
        [((m, n), c.nbytes), ((m, k), a.nbytes), ((k, n), b.nbytes)],
        [(n, 1), (1, m) if transpose_a else (k, 1), (1, k) if transpose_b else (n, 1)],
        accumulate=accumulate,
    )
    assert_array_equal(product, run_teams(alone, [c, a, b], **one_step)[0])
    expected = (b.T if transpose_b else b).sum(axis=0, dtype="f8") + (sums[0] if accumulate else 0)
    assert_allclose(got[0], expected, rtol=max(k, 4) ** 0.5 * np.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize(
    ("index", "shape", "place", "message"),
    [
        (1, (1, 6), {}, r"no contiguous \(1, n\)"),
        (1, (7, 5), {}, r"no contiguous \(1, n\)"),
        (1, (5,), {}, r"no contiguous \(1, n\)"),
        (1, (1, 5), {"stride": (10, 2)}, r"no contiguous \(1, n\)"),
        (0, (7, 5), {"stride": (1, 7)}, "beside a c whose columns are contiguous"),
    ],
)
def test_sums_of_another_shape_are_refused(index, shape, place, message):
    builder = sums_plan("f8", 7, 5, 3, False, False)
    Plan(builder.build())
    if place:
        place = {**place, "offset": 0}
        builder.arena_bytes = 4096
    builder.operands[index] = builder.tensor("f8", shape, **place)
    with pytest.raises(DlcoreError, match=message):
        Plan(builder.build())


@pytest.mark.parametrize("rows", [0, ROWS])
def test_sums_beside_a_product_without_fixed_rows_are_refused(rows):
    """A block of rows would have sums of its own, and of none there is no thread to take them."""
    builder = PlanBuilder(4)
    c, sums = builder.tensor("f8", (rows, 5)), builder.tensor("f8", (1, 5))
    builder.op(pb.GEMM, [c, sums], [builder.tensor("f8", s) for s in ((rows, 3), (3, 5))], [0])
    with pytest.raises(DlcoreError, match="no matrix of fixed shape, with rows"):
        Plan(builder.build())


@pytest.mark.parametrize("dtype", REALS)
def test_gemm_broadcasts_leading_axes(dtype, rng):
    """Leading axes of a and b are those of c or have extent 1."""
    a = rng.normal(size=(3, 1, 6, 4)).astype(dtype)
    b = rng.normal(size=(1, 5, 4, 7)).astype(dtype)
    c = np.zeros((3, 5, 6, 7), dtype)
    plan = matmul_plan(
        dtype,
        [(array.shape, array.nbytes) for array in (c, a, b)],
        [(210, 42, 7, 1), (24, 0, 4, 1), (0, 28, 7, 1)],
    )
    out, *_ = run_teams(plan, [c, a, b], epoch_rows=1, batch_rows=1, step_end=1)
    assert_allclose(out, a @ b, **product_tolerance(a, b))


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("batch", [(), (3,)])
def test_gemm_runs_the_program_of_its_store(dtype, batch, rng):
    """relu(c + bias), and half of it times the rows; with a batch axis, a product for each row."""
    builder = PlanBuilder(40)
    pad, n = (1,) * len(batch), 11
    outs = [builder.bound(pb.STREAM, dtype, (*batch, n), writable=True) for _ in range(2)]
    x = builder.bound(pb.STREAM, dtype, (*batch, 9))
    w = builder.bound(pb.FIXED, dtype, (*pad, 9, n))
    bias = builder.bound(pb.FIXED, dtype, (*pad, 1, n))
    store = program(
        dtype,
        2,
        1,
        [("add", 0, 0, 2), ("relu", 0, 0), ("multiply", 1, 0, 3)],
        literals=[(0.5, 1)],
    )
    builder.op(pb.GEMM, outs, [x, w, bias], [0, *store])
    arrays = [
        np.zeros((107, *batch, n), dtype),
        np.zeros((107, *batch, n), dtype),
        rng.normal(size=(107, *batch, 9)).astype(dtype),
        rng.normal(size=(9, n)).astype(dtype),
        rng.normal(size=n).astype(dtype),
    ]
    options = {"epoch_rows": 107, "batch_rows": 40, "step_end": 6}  # the last of an epoch: 27 rows
    first, second, *_ = run_teams(Plan(builder.build()), arrays, **options)
    expected = np.maximum(arrays[2] @ arrays[3] + arrays[4], 0)
    assert_allclose(first, expected, **product_tolerance(arrays[2], arrays[3]))
    for _, rows in epoch_slices(107, 40, 3):
        count = rows.stop - rows.start
        assert_array_equal(second[rows], first[rows] * np.array(0.5 * count, dtype))


def tanh_gradient(y, product):
    return (1 - y * y) * product


# what a store makes of the product and of x, and its program; registers: c, another output, x, 0, a
# temporary
STORES = {
    "bias": (lambda p, x: p + x, [("add", 0, 0, 2)]),
    "bias first": (lambda p, x: x + p, [("add", 0, 2, 0)]),
    "bias, relu": (lambda p, x: np.maximum(p + x, 0), [("add", 0, 0, 2), ("relu", 0, 0)]),
    "bias in a temporary, tanh": (
        lambda p, x: np.tanh(p + x),
        [("add", 4, 0, 2), ("tanh", 4, 4), ("copy", 0, 4)],
    ),
    "bias, relu of a copy": (
        lambda p, x: np.maximum(p + x, 0) * 2,
        [("add", 4, 0, 2), ("relu", 0, 4), ("add", 0, 0, 0)],
    ),
    "bias, kept beside the product": (
        lambda p, x: p * (p + x),
        [("add", 4, 0, 2), ("multiply", 0, 0, 4)],
    ),
    "bias, twice": (lambda p, x: p + x + x, [("add", 0, 0, 2), ("add", 0, 0, 2)]),
    "bias, read once c is overwritten": (
        lambda p, x: np.square(p + x) + p + x,
        [("add", 4, 0, 2), ("square", 0, 4), ("add", 0, 0, 4)],
    ),
    "where positive": (lambda p, x: np.where(x > 0, p, 0), [("where_positive", 0, 2, 0, 3)]),
    "where positive, else x": (
        lambda p, x: np.where(x > 0, p, x),
        [("where_positive", 0, 2, 0, 2)],
    ),
    "tanh gradient": (lambda p, x: tanh_gradient(x, p), [("tanh_gradient", 0, 2, 0)]),
    "tanh gradient, then relu": (
        lambda p, x: np.maximum(tanh_gradient(x, p), 0),
        [("tanh_gradient", 4, 2, 0), ("relu", 0, 4)],
    ),
    "tanh gradient of the product": (
        lambda p, x: tanh_gradient(p, x),
        [("tanh_gradient", 0, 0, 2)],
    ),
}
# the same where the other output is made and c keeps what it holds: what both are
KEEPING_STORES = {
    "bias and relu of the product": (
        lambda p, x: (p, np.maximum(p + x, 0)),
        [("add", 4, 0, 2), ("relu", 1, 4)],
    ),
    "relu of the sum": (
        lambda p, x: (p + x, 2 * np.maximum(p + x, 0)),
        [("add", 0, 0, 2), ("relu", 4, 0), ("add", 1, 4, 4)],
    ),
    "where positive": (
        lambda p, x: (p, 2 * np.where(x > 0, p, 0)),
        [("where_positive", 4, 2, 0, 3), ("add", 1, 4, 4)],
    ),
    "tanh gradient": (
        lambda p, x: (p, tanh_gradient(x, p)),
        [("tanh_gradient", 4, 2, 0), ("copy", 1, 4)],
    ),
}


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("store", [*STORES, *(f"c kept: {name}" for name in KEEPING_STORES)])
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize(
    "sizes",
    [
        (48, 32, 10),
        (16, 2, 32),
        (80, 31, 3),
        (20, 11, 5),
        (256, 80, 1),
        (96, 250, 160),
        (112, 61, 240),
    ],
)
def test_small_products_store_what_their_programs_compute(dtype, store, transpose_b, sizes, rng):
    """Of a small c whose rows lie adjacent, one thread's tiles begin the program; a team runs it.

    What is added has a number for each column of c, or for each element.
    """
    m, n, k = sizes
    if store in STORES:
        one_result, instructions = STORES[store]
        instructions = [*instructions, ("copy", 1, 0)]

        def results(product, x):
            return 2 * (one_result(product, x),)
    else:
        results, instructions = KEEPING_STORES[store.removeprefix("c kept: ")]
    for shape in ((1, n), (m, n)):
        x = rng.normal(size=shape).astype(dtype)
        a, b = rng.normal(size=(m, k)).astype(dtype), rng.normal(size=(k, n)).astype(dtype)
        a[0, 0] = np.nan
        builder = PlanBuilder(1)
        outs = [builder.slot(pb.FIXED, dtype, x.itemsize * m * n, writable=True) for _ in range(2)]
        ins = [builder.slot(pb.FIXED, dtype, array.nbytes) for array in (a, b, x)]
        tensors = [builder.tensor(dtype, (m, n), slot=slot, stride=(1, m)) for slot in outs]
        strides = [(1, m), (1, k) if transpose_b else (n, 1), (1, m) if shape[0] > 1 else (n, 1)]
        tensors += [
            builder.tensor(dtype, array.shape, slot=slot, stride=stride)
            for array, slot, stride in zip((a, b, x), ins, strides, strict=True)
        ]
        words = program(dtype, 2, 1, instructions, literals=[(0.0, 0)], n_temps=1)
        builder.op(pb.GEMM, tensors[:2], tensors[2:], [0, *words])
        arrays = [np.zeros((n, m), dtype), np.zeros((n, m), dtype), a.T.copy()]
        arrays += [b.T.copy() if transpose_b else b, x.T.copy() if shape[0] > 1 else x]
        plan = Plan(builder.build())
        outputs = run_teams(plan, arrays, epoch_rows=1, batch_rows=1, step_end=1)[:2]
        a, b, x = (array.astype("f8") for array in (a, b, x))
        product, sizes_of_terms = a @ b, np.abs(a) @ np.abs(b)
        steepest = 1 + np.abs(x) + x**2 + 2 * np.abs(product) * (1 + np.abs(x))  # of all stores
        for out, expected in zip(outputs, results(product, x), strict=True):
            rounded = np.abs(expected) + np.abs(x) + x**2  # what may cancel, beside the product
            bound = (k + 4) * sizes_of_terms * steepest + 4 * rounded
            bound = np.nan_to_num(np.finfo(dtype).eps * bound)
            assert_array_equal(np.isnan(out.T), np.isnan(expected))
            assert np.all(np.nan_to_num(np.abs(out.T - expected)) <= bound)


def test_gemm_updates_an_input_of_its_store_in_place(rng):
    """A further output may be an input of the program exactly: w -= 0.1 x.T @ g."""
    x, g, w = rng.normal(size=(30, 5)), rng.normal(size=(30, 4)), rng.normal(size=(5, 4))
    builder = PlanBuilder(30)
    slots = [builder.slot(pb.STREAM, "f8", 8 * n) for n in (5, 4)]
    parameter = builder.bound(pb.FIXED, "f8", (5, 4), writable=True)
    x_t = builder.tensor("f8", (5, ROWS), stride=(1, 5))
    x_in = builder.tensor("f8", (ROWS, 5), slot=slots[0])
    x_here = builder.tensor("f8", (ROWS, 5), offset=0)
    g_in = builder.tensor("f8", (ROWS, 4), slot=slots[1])
    product = builder.tensor("f8", (5, 4))
    builder.op(pb.MAP, [x_here], [x_in], program("f8", 1, 1, [("copy", 0, 1)]))
    store = program(
        "f8",
        2,
        1,
        [("multiply", 4, 0, 3), ("add", 1, 2, 4)],
        literals=[(-0.1, 0)],
        n_temps=1,
    )
    builder.op(pb.GEMM, [product, parameter], [x_t, g_in, parameter], [0, *store])
    options = {"epoch_rows": 30, "batch_rows": 12, "step_end": 3}
    *_, out = run_teams(Plan(builder.build()), [x, g, w], **options)
    assert_allclose(out, w - 0.1 * x.T @ g, rtol=1e-12, atol=1e-13)


def test_a_store_of_one_number_that_copies_elsewhere_keeps_the_product():
    """Register 0 holds the product from the start, whatever else a program copies."""
    builder = PlanBuilder(1)
    c = builder.bound(pb.FIXED, "f8", (1, 1), writable=True)
    a, b, other = (builder.bound(pb.FIXED, "f8", (1, 1)) for _ in range(3))
    store = program("f8", 1, 1, [("copy", 2, 1)], n_temps=1)
    builder.op(pb.GEMM, [c], [a, b, other], [0, *store])
    values = [np.full((1, 1), value) for value in (0.0, 3.0, 5.0, 7.0)]
    out, *_ = run_teams(Plan(builder.build()), values, epoch_rows=1, batch_rows=1, step_end=1)
    assert out == 15
