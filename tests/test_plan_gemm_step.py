"""The op that updates a parameter by the blocks of a product: records by hand, beside NumPy."""

import numpy as np
import pytest

import plan_builder as pb
from dlcore._plan import Plan
from dlcore.errors import DlcoreError
from plan_builder import ROWS, PlanBuilder, step_attributes
from plan_runs import run_teams

pytestmark = pytest.mark.usefixtures("teams")


M, N, CAPACITY = 37, 45, 40
ADAM = [pb.ADAM_STEP, *step_attributes(0.9, 0.99, 1e-8, 0)]


def builder(dtype="f8", m=M, n=N, capacity=CAPACITY, attributes=ADAM):
    """w, its moments and x^T g for x (rows, m) and g (rows, n)."""
    b = PlanBuilder(capacity)
    outs = [b.bound(pb.FIXED, dtype, (m, n), writable=True) for _ in range(3)]
    x = b.bound(pb.STREAM, dtype, (m,))
    transposed = b.tensor(dtype, (m, ROWS), slot=b.tensors[x][2], offset=0, stride=(1, m))
    g = b.bound(pb.STREAM, dtype, (n,))
    scalars = b.bound(pb.STEP, "f8", (3,))
    b.op(pb.GEMM_STEP, outs, [transposed, g, scalars], attributes)
    return b


def arrays(dtype, m, n, rows):
    rng = np.random.default_rng(0)
    w, x, g = (rng.standard_normal(shape).astype(dtype) for shape in ((m, n), (rows, m), (rows, n)))
    scalars = np.array([[0.1, 0.05, 2.0]])
    return [w, np.full_like(w, 0.5), np.full_like(w, 0.25), x, g, scalars]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(
    ("m", "n", "rows"),
    [
        (1, 45, 9),
        (37, 1, 9),
        (37, 45, 1),
        (37, 45, 40),
        (130, 550, 70),
        (300, 40, 600),
        (40, 512, 300),  # rows of b whole pages apart, of doubles and of floats
        (40, 1024, 400),
        (9, 8, 6500),
        (70, 67, 100),  # columns beyond whole vectors, of two blocks of rows
        (40, 5, 90),
        (60, 3000, 9),  # blocks of two tiles, or of one
        (40, 20000, 5),  # several blocks side by side
        (30, 5000, 300),  # and panels of columns that are kept, not all at once
    ],
)
def test_an_update_is_that_by_the_gradient_of_numpy(dtype, m, n, rows):
    """Whatever way the product takes, for any team, with fewer rows than the capacity, too."""
    for capacity in (rows, rows + 20):
        plan = Plan(builder(dtype, m, n, capacity).build())
        bound = arrays(dtype, m, n, rows)
        updated = run_teams(plan, bound, epoch_rows=rows, batch_rows=rows, step_end=1)
        assert_updated(updated, bound, bound[3].T @ bound[4].astype(np.longdouble))


def assert_updated(updated, bound, gradient):
    w, m1, m2, *_ = updated
    old, first, second, *_ = (array.astype(np.longdouble) for array in bound)
    first = 0.9 * first + 0.1 * gradient
    second = 0.99 * second + 0.01 * gradient**2
    expected = old - 0.05 * first / (np.sqrt(second) * 2.0 + 1e-8)
    tolerance = 2e-4 if w.dtype == np.float32 else 1e-12
    for actual, wanted in ((m1, first), (m2, second), (w, expected)):
        np.testing.assert_allclose(actual, wanted.astype(float), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("n", [5, 6, 12, 18, 20, 35])
def test_an_update_by_fewer_rows_than_the_capacity(dtype, n):
    """Of a first factor whose rows lie along k: products with few columns, kept, go by dots."""
    m, capacity = 9, 200
    b = PlanBuilder(capacity)
    outs = [b.bound(pb.FIXED, dtype, (m, n), writable=True) for _ in range(3)]
    whole = b.bound(pb.FIXED, dtype, (m, capacity))
    slot = b.tensors[whole][2]
    a = b.tensor(dtype, (m, ROWS), slot=slot, offset=0, stride=(capacity, 1))
    g = b.bound(pb.STREAM, dtype, (n,))
    b.op(pb.GEMM_STEP, outs, [a, g, b.bound(pb.STEP, "f8", (3,))], ADAM)
    plan = Plan(b.build())
    for rows in (20, 60, 100, 128, 200):
        bound = arrays(dtype, m, n, rows)
        bound[3] = np.zeros((m, capacity), dtype)
        bound[3][:, :rows] = np.random.default_rng(1).standard_normal((m, rows))
        updated = run_teams(plan, bound, epoch_rows=rows, batch_rows=rows, step_end=1)
        assert_updated(updated, bound, bound[3][:, :rows] @ bound[4].astype(np.longdouble))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(
    ("m", "n", "rows"), [(37, 45, 40), (70, 67, 100), (300, 40, 600), (9, 8, 6500)]
)
def test_the_sums_of_the_second_factor_are_taken_beside(dtype, m, n, rows):
    """For the gradient of a bias; the update is the same bit by bit."""
    b = builder(dtype, m, n, rows)
    sums = b.bound(pb.STEP, dtype, (1, n), writable=True)
    b.operands.insert(3, sums)
    b.ops[0][1] += 1
    bound = arrays(dtype, m, n, rows)
    options = {"epoch_rows": rows, "batch_rows": rows, "step_end": 1}
    start = np.full((1, 1, n), np.nan, dtype)
    *updated, got = run_teams(Plan(b.build()), [*bound, start], **options)
    alone = run_teams(Plan(builder(dtype, m, n, rows).build()), bound, **options)
    for actual, expected in zip(updated, alone, strict=True):
        np.testing.assert_array_equal(actual, expected)
    g = bound[4].astype("f8")
    bound_of_error = np.finfo(dtype).eps * rows**0.5 * np.abs(g).sum(axis=0)
    assert np.all(np.abs(got[0, 0] - g.sum(axis=0)) <= bound_of_error)


def test_sums_of_another_shape_are_refused():
    b = builder()
    b.operands.insert(3, b.tensor("f8", (1, N + 1)))
    b.ops[0][1] += 1
    with pytest.raises(DlcoreError, match=r"no contiguous \(1, n\)"):
        Plan(b.build())


def set_attribute(index, value):
    def change(b):
        b.attributes[index] = value

    return change


def replace_operand(index, dtype, shape, **place):
    def change(b):
        b.operands[index] = b.tensor(dtype, shape, **place)

    return change


def one_attribute_more(b):
    b.attributes.append(0)
    b.ops[0][3] += 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_attribute(0, -1), "first attribute is no opcode"),
        (set_attribute(0, 2**40), "first attribute is no opcode"),
        (set_attribute(0, pb.GEMM), "has the opcode 2, which is that of no optimiser step"),
        (set_attribute(0, pb.SGD_STEP), "there are 8 attributes; expected 7"),
        (set_attribute(2, 2), "its decoupled is 2; expected 0 or 1"),
        (set_attribute(4, pb.bits(1.5)), "its beta1 is 1.5"),
        (one_attribute_more, "are 9 attributes; expected 8"),
        (set_attribute(7, 1), "there are 3 outputs, 3 inputs .* expected 4, 3"),
        (replace_operand(1, "f8", (N, M)), "operand 1 differs from the parameter"),
        (replace_operand(1, "f4", (M, N)), "operand 1 differs from the parameter"),
        (replace_operand(1, "f8", (M, N), stride=(1, M)), "operand 1 is not contiguous"),
        (replace_operand(3, "f8", (M, 3)), "differ in m, n or k"),
        (replace_operand(3, "f8", (M + 1, ROWS)), "differ in m, n or k"),
        (replace_operand(4, "f8", (ROWS, N + 1)), "differ in m, n or k"),
        (replace_operand(4, "f4", (ROWS, N)), "do not have one float dtype"),
        (replace_operand(4, "f8", (1, ROWS, N)), "have 2, 2 and 3 axes; expected 2"),
        (replace_operand(5, "f8", (2,)), "scalars are not a contiguous vector of at least 3"),
    ],
)  # fmt: skip
def test_wrong_records_are_refused(change, message):
    Plan(builder().build())
    b = builder()
    change(b)
    with pytest.raises(DlcoreError, match=message):
        Plan(b.build())


@pytest.mark.parametrize("shape", [(ROWS, 9), (1, ROWS)])
def test_the_shape_of_the_parameter_does_not_count_rows(shape):
    """With fewer of them, the product would not be cut in blocks."""
    b = PlanBuilder(CAPACITY)
    w, a, factor = (b.tensor("f8", each) for each in (shape, (shape[0], 7), (7, shape[1])))
    scalars = b.bound(pb.STEP, "f8", (1,))
    b.op(pb.GEMM_STEP, [w], [a, factor, scalars], [pb.SGD_STEP, *step_attributes(0.0, 0, 0)])
    with pytest.raises(DlcoreError, match="the shape of its parameter counts rows"):
        Plan(b.build())


def test_the_parameter_may_be_no_factor():
    b = PlanBuilder(CAPACITY)
    w = b.bound(pb.FIXED, "f8", (M, M), writable=True)
    factor = b.bound(pb.FIXED, "f8", (M, M))
    scalars = b.bound(pb.STEP, "f8", (1,))
    b.op(pb.GEMM_STEP, [w], [w, factor, scalars], [pb.SGD_STEP, *step_attributes(0.0, 0, 0)])
    with pytest.raises(DlcoreError, match="output 0 overlaps a or b"):
        Plan(b.build())
