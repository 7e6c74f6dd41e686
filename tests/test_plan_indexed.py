"""Rows taken by index and added to, against NumPy, in plans made by hand, with all teams."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import plan_builder as pb
from dlcore import DlcoreError
from dlcore._plan import Plan
from plan_builder import ROWS, PlanBuilder, program
from plan_runs import epoch_slices, run_teams

REALS = ["f4", "f8"]
DTYPES = ["f4", "f8", "u1", "i4", "i8", "?"]
NUMBERS = ["f4", "f8", "u1", "i4", "i8"]
ONE_STEP = {"epoch_rows": 1, "batch_rows": 1, "step_end": 1}
# (outer, extent, n, inner): every axis is shared out among threads in one of them, some have more
# indices than are read at once, and some none of something.
SPACES = [
    (1, 9, 7, 1),
    (1, 9, 700, 3),
    (40, 5, 3, 2),
    (33, 7, 1300, 1),
    (2, 300, 40, 1),
    (1, 30, 20, 400),
    (3, 11, 1100, 17),
    (0, 5, 4, 3),
    (2, 5, 0, 3),
    (2, 5, 4, 0),
]
# Two steps of 40 rows and one of 27, in each of two epochs.
RUN = {"epoch_rows": 107, "batch_rows": 40, "step_end": 6}


pytestmark = pytest.mark.usefixtures("teams")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def indexed_plan(opcode, out, value, index, *, strides=(None, None, None)):
    """An op on slots as large as the arrays: out, in a STEP slot, from value and index."""
    builder = PlanBuilder(1)
    tensors = []
    for array, kind, stride in zip(
        (out, value, index), (pb.STEP, pb.FIXED, pb.FIXED), strides, strict=True
    ):
        size = array.nbytes if stride is None else array.itemsize * 4 * max(array.size, 1)
        slot = builder.slot(kind, array.dtype, size, writable=kind == pb.STEP)
        tensors.append(builder.tensor(array.dtype, array.shape, slot=slot, stride=stride))
    builder.op(opcode, tensors[:1], tensors[1:])
    return Plan(builder.build())


def random_index(rng, shape, extent, dtype):
    """Indices of both signs, each several times; without a sign, those from the start."""
    low = 0 if np.dtype(dtype).kind == "u" else -extent
    return rng.integers(low, extent, shape).astype(dtype)


def per_outer(index, outer):
    return np.broadcast_to(index, (outer, index.shape[1])).astype("i8")


def take(source, index):
    index = per_outer(index, len(source))
    rows = [np.take(x, i, axis=0) for x, i in zip(source, index, strict=True)]
    return np.array(rows, source.dtype).reshape(len(source), index.shape[1], source.shape[2])


def scatter_add(g, index, extent):
    out = np.zeros((len(g), extent, g.shape[2]), g.dtype)
    for o, i in enumerate(per_outer(index, len(g))):
        np.add.at(out[o], i, g[o])
    return out


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("space", SPACES)
def test_take_picks_rows(dtype, own, space, rng):
    """By one index for all, or by one for each outer element; in every dtype."""
    outer, extent, n, inner = space
    source = rng.integers(0, 200, (outer, extent, inner)).astype(dtype)
    index = random_index(rng, (outer if own else 1, n), extent, "i8")
    out = np.zeros((1, outer, n, inner), dtype)
    plan = indexed_plan(pb.TAKE, out[0], source, index)
    result, *_ = run_teams(plan, [out, source, index], **ONE_STEP)
    assert_array_equal(result[0], take(source, index))


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("space", SPACES)
def test_scatter_add_sums_in_order(dtype, own, space, rng):
    """Bit by bit what NumPy's sums of one element after the other are."""
    outer, extent, n, inner = space
    g = rng.normal(size=(outer, n, inner)).astype(dtype)
    index = random_index(rng, (outer if own else 1, n), extent, "i8")
    out = np.full((1, outer, extent, inner), np.nan, dtype)
    plan = indexed_plan(pb.SCATTER_ADD, out[0], g, index)
    result, *_ = run_teams(plan, [out, g, index], **ONE_STEP)
    assert_array_equal(result[0], scatter_add(g, index, extent))


@pytest.mark.parametrize("dtype", NUMBERS)
def test_an_index_is_of_any_number_dtype(dtype, rng):
    """Floats that are integers, and small integers."""
    source, g = rng.normal(size=(2, 100, 3)), rng.normal(size=(2, 60, 3))
    index = random_index(rng, (1, 60), 100, dtype)
    picked, summed = np.zeros((1, 2, 60, 3)), np.zeros((1, 2, 100, 3))
    plan = indexed_plan(pb.TAKE, picked[0], source, index)
    result, *_ = run_teams(plan, [picked, source, index], **ONE_STEP)
    assert_array_equal(result[0], take(source, index))
    plan = indexed_plan(pb.SCATTER_ADD, summed[0], g, index)
    result, *_ = run_teams(plan, [summed, g, index], **ONE_STEP)
    assert_array_equal(result[0], scatter_add(g, index, 100))


def strided(array, stride):
    """Memory of four times the size, 7 but for the elements at these strides: the array's."""
    memory = np.full(4 * array.size, 7, array.dtype)
    view = np.lib.stride_tricks.as_strided(
        memory, array.shape, [s * array.itemsize for s in stride]
    )
    view[...] = array
    return memory


@pytest.mark.parametrize("inner", [1, 3])
def test_indexed_operands_have_any_strides(inner, rng):
    """Gaps between rows, transposed leading axes, a source that is the same for all outer."""
    outer, extent, n = 4, 6, 5
    index = random_index(rng, (outer, n), extent, "i4")
    index_stride = (2, 2 * outer)
    gaps, transposed = (2 * extent * inner, 2 * inner, 1), (inner, outer * inner, 1)

    source = rng.normal(size=(1, extent, inner)).repeat(outer, axis=0)
    out = np.zeros((outer, n, inner))
    strides = (transposed, (0, inner, 1), index_stride)
    plan = indexed_plan(pb.TAKE, out, source, index, strides=strides)
    arrays = [strided(out, transposed)[None], strided(source, strides[1])]
    result, *_ = run_teams(plan, [*arrays, strided(index, index_stride)], **ONE_STEP)
    assert_array_equal(result[0], strided(take(source, index), transposed))

    g, out = rng.normal(size=(outer, n, inner)), np.zeros((outer, extent, inner))
    strides = (gaps, transposed, index_stride)
    plan = indexed_plan(pb.SCATTER_ADD, out, g, index, strides=strides)
    arrays = [strided(out, gaps)[None], strided(g, transposed)]
    result, *_ = run_teams(plan, [*arrays, strided(index, index_stride)], **ONE_STEP)
    assert_array_equal(result[0], strided(scatter_add(g, index, extent), gaps))


def stream_view(builder, dtype, shape, row, *, writable=False):
    """A STREAM slot whose rows hold `row` elements, and a tensor of any shape over it."""
    slot = builder.slot(pb.STREAM, dtype, row * np.dtype(dtype).itemsize, writable=writable)
    return builder.tensor(dtype, shape, slot=slot)


def test_rows_may_be_the_indices(rng):
    """Embeddings, and their gradient: tokens (rows), a table (9, 5)."""
    builder = PlanBuilder(40)
    out = stream_view(builder, "f4", (1, ROWS, 5), 5, writable=True)
    table = builder.bound(pb.FIXED, "f4", (1, 9, 5))
    index = stream_view(builder, "f4", (1, ROWS), 1)
    summed = builder.bound(pb.STEP, "f4", (1, 9, 5), writable=True)
    builder.op(pb.TAKE, [out], [table, index])
    builder.op(pb.SCATTER_ADD, [summed], [out, index])
    values, tokens = rng.normal(size=(9, 5)).astype("f4"), random_index(rng, 107, 9, "f4")
    arrays = [np.zeros((107, 5), "f4"), values, tokens, np.zeros((6, 9, 5), "f4")]
    out, _, _, summed = run_teams(Plan(builder.build()), arrays, **RUN)
    assert_array_equal(out, values[tokens.astype("i8")])
    for step, (_, rows) in enumerate(epoch_slices(107, 40, 6)):
        expected = np.zeros((9, 5), "f4")
        np.add.at(expected, tokens[rows].astype("i8"), out[rows])
        assert_array_equal(summed[step], expected)


def test_rows_may_be_the_outer_axis(rng):
    """An element of each row by the index of that row, and its gradient."""
    builder = PlanBuilder(40)
    out = stream_view(builder, "f8", (ROWS, 2, 1), 2, writable=True)
    back = stream_view(builder, "f8", (ROWS, 6, 1), 6, writable=True)
    x = stream_view(builder, "f8", (ROWS, 6, 1), 6)
    index = stream_view(builder, "i8", (ROWS, 2), 2)
    builder.op(pb.TAKE, [out], [x, index])
    builder.op(pb.SCATTER_ADD, [back], [out, index])
    values, index = rng.normal(size=(107, 6)), random_index(rng, (107, 2), 6, "i8")
    arrays = [np.zeros((107, 2)), np.zeros((107, 6)), values, index]
    out, back, *_ = run_teams(Plan(builder.build()), arrays, **RUN)
    assert_array_equal(out, np.take_along_axis(values, index, axis=1))
    assert_array_equal(back, scatter_add(out[:, :, None], index, 6)[:, :, 0])


def test_rows_may_be_what_is_indexed(rng):
    """The extent is that of each step, from whose end negative indices count."""
    builder = PlanBuilder(40)
    out = builder.bound(pb.STEP, "f8", (1, 4, 3), writable=True)
    back = stream_view(builder, "f8", (1, ROWS, 3), 3, writable=True)
    x = stream_view(builder, "f8", (1, ROWS, 3), 3)
    index = builder.bound(pb.FIXED, "i4", (1, 4))
    builder.op(pb.TAKE, [out], [x, index])
    builder.op(pb.SCATTER_ADD, [back], [out, index])
    values, index = rng.normal(size=(107, 3)), np.array([[-1, 26, 0, -27]], "i4")
    arrays = [np.zeros((6, 4, 3)), np.full((107, 3), np.nan), values, index]
    out, back, *_ = run_teams(Plan(builder.build()), arrays, **RUN)
    for step, (_, rows) in enumerate(epoch_slices(107, 40, 6)):
        assert_array_equal(out[step], values[rows][index[0]])
        assert_array_equal(back[rows], scatter_add(out[[step]], index, rows.stop - rows.start)[0])


def test_rows_may_be_the_inner_axis(rng):
    """Columns of a step are rows of its transpose."""
    builder = PlanBuilder(40)
    out = builder.bound(pb.STREAM, "f8", (4,), writable=True)
    x = builder.bound(pb.STREAM, "f8", (6,))
    index = builder.bound(pb.FIXED, "u1", (1, 4))
    copy = program("f8", 1, 1, [("copy", 0, 1)])
    transposed, picked, summed = (builder.tensor("f8", (1, n, ROWS)) for n in (6, 4, 6))
    views = [
        builder.tensor("f8", (ROWS, n), offset=builder.tensors[t][3], stride=(1, 40))
        for t, n in ((transposed, 6), (summed, 6))
    ]
    builder.op(pb.MAP, [views[0]], [x], copy)
    builder.op(pb.TAKE, [picked], [transposed, index])
    builder.op(pb.SCATTER_ADD, [summed], [picked, index])
    doubled = builder.bound(pb.STREAM, "f8", (6,), writable=True)
    picked_view = builder.tensor("f8", (ROWS, 4), offset=builder.tensors[picked][3], stride=(1, 40))
    builder.op(pb.MAP, [out], [picked_view], copy)
    builder.op(pb.MAP, [doubled], [views[1]], copy)
    values, index = rng.normal(size=(107, 6)), np.array([[5, 0, 0, 3]], "u1")
    arrays = [np.zeros((107, 4)), values, index, np.zeros((107, 6))]
    out, _, _, doubled = run_teams(Plan(builder.build()), arrays, **RUN)
    assert_array_equal(out, values[:, index[0]])
    assert_array_equal(doubled, values * [2, 0, 0, 1, 0, 1])


@pytest.mark.parametrize(
    ("dtype", "value", "message"),
    [
        ("i8", 7, r"index 7 at position 603 is outside \[-5, 5\)"),
        ("i4", 5, r"index 5 at position 603 is outside \[-5, 5\)"),
        ("i8", -6, r"index -6 at position 603 is outside \[-5, 5\)"),
        ("u1", 255, r"index 255 at position 603 is outside \[-5, 5\)"),
        ("i8", -(2**63), r"index -9223372036854775808 at position 603 is outside"),
        ("f4", 5.0, r"index 5 at position 603 is outside \[-5, 5\)"),
        ("f8", 1.5, r"index 1.5 at position 603 is not an integer"),
        ("f8", np.inf, r"index inf at position 603 is outside \[-5, 5\)"),
        ("f4", np.nan, r"index nan at position 603 is not an integer"),
    ],
)
@pytest.mark.parametrize("opcode", [pb.TAKE, pb.SCATTER_ADD])
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_a_step_with_a_bad_index_fails_and_changes_no_parameter(
    dtype, value, message, opcode, threads
):
    """The first bad one is named, and what follows in the step does not reach FIXED slots."""
    builder = PlanBuilder(1)
    extents = (1000, 5) if opcode == pb.TAKE else (5, 1000)
    parameter = builder.bound(pb.FIXED, "f4", (1, extents[0], 2), writable=True)
    given = builder.bound(pb.FIXED, "f4", (1, extents[1], 2))
    index = builder.bound(pb.FIXED, dtype, (1, 1000))
    out = builder.tensor("f4", (1, extents[0], 2))
    builder.op(opcode, [out], [given, index])
    builder.op(pb.MAP, [parameter], [out], program("f4", 1, 1, [("copy", 0, 1)]))
    plan = Plan(builder.build())
    indices = np.ones((1, 1000), dtype)
    indices[0, [603, 900]] = value
    arrays = [np.full((1, n, 2), 3, "f4") for n in extents] + [indices]
    with pytest.raises(ValueError, match=message):
        plan.run(arrays, threads=threads, **ONE_STEP)
    assert np.all(arrays[0] == 3)
    indices[...] = 1
    plan.run(arrays, threads=threads, **ONE_STEP)
    assert np.all(arrays[0][:, 1] == (3 if opcode == pb.TAKE else 3000))


@pytest.mark.parametrize("opcode", [pb.TAKE, pb.SCATTER_ADD])
def test_no_index_fits_an_axis_of_no_extent(opcode):
    """Indices are checked also where nothing is to be moved."""
    for extent, inner, index in ((0, 2, 0), (3, 0, 3)):
        whole, picked = np.zeros((1, extent, inner)), np.zeros((1, 1, inner))
        out, value = (picked, whole) if opcode == pb.TAKE else (whole, picked)
        plan = indexed_plan(opcode, out, value, np.zeros((1, 1), "i8"))
        with pytest.raises(ValueError, match=rf"index {index} at position 0 is outside"):
            plan.run([out[None], value, np.full((1, 1), index)], **ONE_STEP)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_in": 1}, "there are 1 outputs, 1 inputs and 0 attributes; expected 1, 2 and 0"),
        ({"attributes": [1]}, "there are 1 outputs, 2 inputs and 1 attributes; expected 1, 2"),
        ({"picked": (4, 6, 2, 1)}, r"operands have [34], [34] and 2 axes; expected 3, 3 and 2"),
        ({"index": (6,)}, "its operands have 3, 3 and 1 axes; expected 3, 3 and 2"),
        ({"picked_dtype": "f8"}, "output and input have dtypes [01] and [01]; expected one"),
        ({"picked": (3, 6, 2)}, "output and input differ along axis 0"),
        ({"picked": (4, 6, 1)}, "output and input differ along axis 2"),
        ({"picked": (4, 6, ROWS)}, "output and input differ along axis 2"),
        ({"stride": (12, 1, 6)}, "the last axis of its (output|input) is not contiguous"),
        ({"index": (4, 5)}, "its index has another extent along axis 1"),
        ({"index": (3, 6)}, "its index fits the other operands neither along axis 0"),
        ({"index": (4, ROWS)}, "its index has another extent along axis 1"),
        ({"index_dtype": "?"}, "its index is bool"),
        ({"picked": (4, 5, 2), "index": (4, 5), "same": True}, "its output overlaps its input"),
    ],
)
@pytest.mark.parametrize("opcode", [pb.TAKE, pb.SCATTER_ADD])
def test_a_wrong_indexed_record_is_refused(opcode, change, message):
    """The one it is changed from loads."""

    def build(
        picked=(4, 6, 2),
        index=(1, 6),
        picked_dtype="f4",
        index_dtype="i8",
        stride=None,
        n_in=2,
        attributes=(),
        same=False,
    ):
        builder = PlanBuilder(2)
        whole = builder.tensor("f4", (4, 5, 2))
        offset = 0 if same else None
        picked = builder.tensor(picked_dtype, picked, stride=stride, offset=offset)
        out, value = (picked, whole) if opcode == pb.TAKE else (whole, picked)
        builder.op(opcode, [out], [value, builder.tensor(index_dtype, index)][:n_in], attributes)
        return Plan(builder.build())

    build()
    with pytest.raises(DlcoreError, match=message):
        build(**change)


def test_scatter_add_sums_reals_only():
    integers, index = np.zeros((1, 3, 2), "i8"), np.zeros((1, 3), "i8")
    with pytest.raises(DlcoreError, match="its output has dtype 4; expected float32 or float64"):
        indexed_plan(pb.SCATTER_ADD, integers, integers, index)
