"""Each op of csrc/plan against NumPy, in plans made by hand, with all teams and tail batches.

Matrix products are in test_plan_gemm.py and test_plan_gemm_step.py, softmax and cross-entropy in
test_plan_softmax.py, what goes by indices in test_plan_indexed.py.
"""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import plan_builder as pb
from dlcore import DlcoreError
from dlcore._plan import Plan
from plan_builder import ROWS, PlanBuilder, bits, program, step_attributes
from plan_runs import epoch_slices, one_op, run_teams, tolerance

REALS = ["f4", "f8"]
DTYPES = ["f4", "f8", "u1", "i4", "i8", "?"]
# Two steps of 40 rows and one of 27, in each of two epochs.
RUN = {"epoch_rows": 107, "batch_rows": 40, "step_end": 6}


pytestmark = pytest.mark.usefixtures("teams")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


# ---- GATHER ----


@pytest.mark.parametrize("source", DTYPES)
@pytest.mark.parametrize("target", DTYPES)
def test_gather_takes_the_rows_of_the_order_and_converts_them(source, target, rng):
    """Any dtype becomes a float; other targets take their own dtype only."""
    if target not in REALS and target != source:
        with pytest.raises(DlcoreError, match="cannot convert"):
            one_op(pb.GATHER, [(pb.STREAM, target, (3, 2))], [(pb.DATASET, source, (3, 2))])
        return
    plan = one_op(pb.GATHER, [(pb.STREAM, target, (3, 2))], [(pb.DATASET, source, (3, 2))])
    data = rng.normal(0, 50, (150, 3, 2)).astype(source)
    order = np.concatenate([rng.permutation(150)[:107] for _ in range(2)])
    out, _ = run_teams(plan, [np.zeros((107, 3, 2), target), data], order=order, **RUN)
    assert_array_equal(out, data[order[107:]].astype(target))
    out, _ = run_teams(plan, [np.zeros((107, 3, 2), target), data], **RUN)
    assert_array_equal(out, data[:107].astype(target))


def test_gather_follows_the_order_of_each_epoch(rng):
    """An epoch's steps read their own part of the order."""
    plan = one_op(pb.GATHER, [(pb.STREAM, "f8", ())], [(pb.DATASET, "f8", ())])
    data, order = rng.normal(size=107), rng.integers(0, 107, 2 * 107)
    for step, (epoch, rows) in enumerate(epoch_slices(107, 40, 6)):
        out = np.zeros(107)
        plan.run(
            [out, data],
            order=order,
            epoch_rows=107,
            batch_rows=40,
            step_begin=step,
            step_end=step + 1,
        )
        expected = np.zeros(107)
        expected[rows] = data[order[epoch * 107 :][:107][rows]]
        assert_array_equal(out, expected)


@pytest.mark.parametrize("source", DTYPES)
def test_gathered_labels_are_integers(source, rng):
    """Labels of any dtype become int64."""
    plan = one_op(pb.GATHER, [(pb.STREAM, "i8", ())], [(pb.DATASET, source, ())], (0, 10))
    labels = rng.integers(0, 2 if source == "?" else 10, 107).astype(source)
    order = rng.permutation(107)
    out, _ = run_teams(
        plan, [np.zeros(107, "i8"), labels], order=order, epoch_rows=107, batch_rows=40, step_end=3
    )
    assert_array_equal(out, labels[order].astype("i8"))


@pytest.mark.parametrize(
    ("source", "label", "message"),
    [
        ("i8", 12, r"label 12 in row 345 is outside \[0, 10\)"),
        ("i8", -1, r"label -1 in row 345 is outside \[0, 10\)"),
        ("u1", 10, r"label 10 in row 345 is outside \[0, 10\)"),
        ("f4", 12, r"label 12 in row 345 is outside \[0, 10\)"),
        ("f8", 1.5, r"label 1.5 in row 345 is not an integer"),
        ("f8", 1e300, r"label 1e\+300 in row 345 is outside \[0, 10\)"),
        ("f4", np.nan, r"label nan in row 345 is not an integer"),
        ("f8", -np.inf, r"label -inf in row 345 is outside \[0, 10\)"),
    ],
)
@pytest.mark.parametrize("threads", [1, 8])
def test_a_bad_label_is_named_with_its_row(source, label, message, threads):
    """The row of the data is named, not that of the batch, whichever thread finds it."""
    plan = one_op(
        pb.GATHER, [(pb.STREAM, "i8", ())], [(pb.DATASET, source, ())], (0, 10), capacity=500
    )
    labels = np.ones(500, source)
    labels[345] = label
    order = np.arange(500)[::-1].copy()
    options = {"epoch_rows": 500, "batch_rows": 500, "step_end": 1, "threads": threads}
    with pytest.raises(ValueError, match=message):
        plan.run([np.zeros(500, "i8"), labels], order=order, **options)


def test_an_order_outside_the_data_is_refused():
    """No row before the first or behind the last one is read."""
    plan = one_op(pb.GATHER, [(pb.STREAM, "f4", (3,))], [(pb.DATASET, "f4", (3,))])
    for row in (-1, 20, 2**62):
        order = np.full(30, row)
        with pytest.raises(ValueError, match=f"order names row {row}; the data set has 20 rows"):
            plan.run(
                [np.zeros((30, 3), "f4"), np.zeros((20, 3), "f4")],
                order=order,
                epoch_rows=30,
                batch_rows=30,
                step_end=1,
            )


# ---- MAP ----


@pytest.mark.parametrize("dtype", REALS)
def test_map_broadcasts_and_converts(dtype, rng):
    """Rows, a row, a column and a bool mask make one space."""
    words = program(
        dtype,
        1,
        4,
        [("multiply", 0, 1, 2), ("add", 0, 0, 3), ("multiply", 0, 0, 4)],
    )
    plan = one_op(
        pb.MAP,
        [(pb.STREAM, dtype, (6,))],
        [
            (pb.STREAM, dtype, (6,)),
            (pb.FIXED, dtype, (1, 6)),
            (pb.STREAM, dtype, (1,)),
            (pb.STREAM, "?", (6,)),
        ],
        words,
    )
    x, row = rng.normal(size=(107, 6)).astype(dtype), rng.normal(size=(1, 6)).astype(dtype)
    column, mask = rng.normal(size=(107, 1)).astype(dtype), rng.random((107, 6)) < 0.5
    out, *_ = run_teams(plan, [np.zeros_like(x), x, row, column, mask], **RUN)
    assert_allclose(out, (x * row + column) * mask, **tolerance(dtype))


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("reduction", [pb.SUM, pb.MAX, pb.MIN, pb.MEAN])
@pytest.mark.parametrize("capacity", [40, 5000])
def test_map_reduces_the_rows_of_a_step(dtype, reduction, capacity, rng):
    """One value per column and step: those of the tail batch are of its own rows."""
    builder = PlanBuilder(capacity)
    out = builder.bound(pb.STEP, dtype, (1, 6), writable=True)
    x = builder.bound(pb.STREAM, dtype, (6,))
    builder.op(pb.MAP, [out], [x], program(dtype, 1, 1, [("square", 0, 1)], reduction=reduction))
    n = 2 * capacity + capacity // 3
    data = rng.normal(size=(n, 6)).astype(dtype)
    options = {"epoch_rows": n, "batch_rows": capacity, "step_end": 3}
    result, _ = run_teams(Plan(builder.build()), [np.zeros((3, 6), dtype), data], **options)
    reduce = {pb.SUM: np.sum, pb.MAX: np.max, pb.MIN: np.min, pb.MEAN: np.mean}[reduction]
    for step, (_, rows) in enumerate(epoch_slices(n, capacity, 3)):
        expected = reduce(np.square(data[rows].astype("f8")), axis=0)
        assert_allclose(result[step], expected, **tolerance(dtype))


def test_a_literal_can_be_the_number_of_rows(rng):
    """value * rows^power follows the rows of each step."""
    words = program(
        "f8", 2, 1, [("multiply", 0, 2, 3), ("add", 1, 2, 4)], literals=[(3.0, -1), (2.0, 1)]
    )
    plan = one_op(
        pb.MAP, [(pb.STREAM, "f8", ()), (pb.STREAM, "f8", ())], [(pb.STREAM, "f8", ())], words
    )
    x = rng.normal(size=107)
    first, second, _ = run_teams(plan, [np.zeros(107), np.zeros(107), x], **RUN)
    for _, rows in epoch_slices(107, 40, 3):
        count = rows.stop - rows.start
        assert_allclose(first[rows], 3 * x[rows] / count, rtol=1e-15)
        assert_allclose(second[rows], x[rows] + 2 * count, rtol=1e-15)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("power", [-1, 0, 1])
@pytest.mark.parametrize("shape", [(), (1, 1)])
def test_a_number_is_a_literal_of_the_rows(dtype, power, shape):
    """A single number takes no walk, and follows the rows of each step as others do."""
    words = program(dtype, 1, 0, [("copy", 0, 1)], literals=[(0.3, power)])
    plan = one_op(pb.MAP, [(pb.STEP, dtype, shape)], [], words)
    (out,) = run_teams(plan, [np.zeros((6, *shape), dtype)], **RUN)
    slices = epoch_slices(107, 40, 6)
    expected = [0.3 * float(rows.stop - rows.start) ** power for _, rows in slices]
    assert_allclose(out.ravel(), expected, rtol=np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("kind", [pb.STEP, pb.FIXED])
def test_a_number_is_copied_from_where_it_lies_in_a_step(dtype, kind, rng):
    """Both ends may move from step to step, or lie in one place."""
    words = program(dtype, 1, 1, [("copy", 0, 1)])
    plan = one_op(pb.MAP, [(pb.STEP, dtype, (1,))], [(kind, dtype, (1,))], words)
    numbers = rng.normal(size=(6 if kind == pb.STEP else 1, 1)).astype(dtype)
    out, _ = run_teams(plan, [np.zeros((6, 1), dtype), numbers], **RUN)
    assert_array_equal(out, np.broadcast_to(numbers, (6, 1)))


def test_a_copy_of_one_row_is_no_number_where_steps_have_more(rng):
    """The last step has a single row."""
    words = program("f8", 1, 1, [("copy", 0, 1)])
    plan = one_op(pb.MAP, [(pb.STREAM, "f8", ())], [(pb.STREAM, "f8", ())], words)
    x = rng.normal(size=81)
    options = {"epoch_rows": 81, "batch_rows": 40, "step_end": 3}
    out, _ = run_teams(plan, [np.zeros(81), x], **options)
    assert_array_equal(out, x)


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("reduction", [pb.SUM, pb.MEAN])
@pytest.mark.parametrize("lines", [1, 7, 200])
def test_sums_of_lines_go_where_they_lie_in_a_step(dtype, reduction, lines, rng):
    """Few lines are prepared once, and others not; both ends move from step to step."""
    words = program(dtype, 1, 1, [("copy", 0, 1)], reduction=reduction)
    plan = one_op(pb.MAP, [(pb.STEP, dtype, (lines, 1))], [(pb.STEP, dtype, (lines, 50))], words)
    x = rng.normal(size=(6, lines, 50)).astype(dtype)
    out, _ = run_teams(plan, [np.zeros((6, lines, 1), dtype), x], **RUN)
    expected = x.astype("f8").sum(axis=2, keepdims=True) / (50 if reduction == pb.MEAN else 1)
    assert_allclose(out, expected, **tolerance(dtype))


# ---- RANDOM ----


def random_plan(kind, dtype, keep=1.0, stream=3):
    return one_op(
        pb.RANDOM, [(pb.STREAM, dtype, (100,))], [], [kind, stream, bits(keep)], capacity=200
    )


@pytest.mark.parametrize("dtype", REALS)
def test_random_numbers_have_their_distributions(dtype):
    """Moments within 5 standard errors, and only the two values that a mask has."""
    options = {"epoch_rows": 500, "batch_rows": 200, "step_end": 3, "seed": 7}
    zeros = [np.zeros((500, 100), dtype)]
    (uniform,) = run_teams(random_plan(0, dtype), zeros, **options)
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert abs(uniform.mean(dtype="f8") - 0.5) < 5 * (1 / 12 / 50000) ** 0.5
    (normal,) = run_teams(random_plan(1, dtype), zeros, **options)
    assert abs(normal.mean(dtype="f8")) < 5 / 50000**0.5
    assert abs(normal.std(dtype="f8") - 1) < 5 / 100000**0.5
    (mask,) = run_teams(random_plan(2, dtype, keep=0.8), zeros, **options)
    assert_array_equal(np.unique(mask), np.array([0, 1 / 0.8], dtype))
    assert abs((mask > 0).mean() - 0.8) < 5 * (0.16 / 50000) ** 0.5


def test_random_numbers_are_keyed_by_seed_stream_and_step():
    """A run from step k on, by step_begin or by counter, gives what an unbroken one gives."""

    def draw(plan, n=600, **options):
        out = np.zeros((n, 100))
        plan.run([out], epoch_rows=n, batch_rows=200, budget=None, **{"step_end": 3, **options})
        return out

    plan = random_plan(0, "f8")
    whole = draw(plan, seed=7)
    assert_array_equal(draw(plan, seed=7, step_begin=2)[400:], whole[400:])
    assert_array_equal(draw(plan, seed=7, counter=2, n=200, step_end=1), whole[400:])
    assert_array_equal(draw(plan, seed=7, n=550)[400:], whole[400:550])  # a tail is a prefix
    different = [draw(plan, seed=8), draw(random_plan(0, "f8", stream=4), seed=7), whole[200:]]
    for other in different:
        assert not np.any(other[:200] == whole[:200])


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("kind", [0, 1, 2])
@pytest.mark.parametrize("columns", [2, 7, 21])
@pytest.mark.parametrize("capacity", [5, 16, 40])
def test_random_numbers_of_contiguous_columns(dtype, kind, columns, capacity):
    """Where a number lies does not change it, and nothing beside the rows of a step is written."""
    room = capacity + 3

    def plan(stride):
        b = PlanBuilder(capacity)
        out = b.bound(pb.STREAM, dtype, (columns,), writable=True)
        lines = b.bound(pb.STEP, dtype, (columns, room), writable=True)
        everything = b.tensor(dtype, (columns, room))
        numbers = b.tensor(dtype, (ROWS, columns), offset=0, stride=stride)  # in these
        b.op(pb.MAP, [everything], [], program(dtype, 1, 0, [("copy", 0, 1)], literals=[(5.0, 0)]))
        b.op(pb.RANDOM, [numbers], [], [kind, 3, bits(0.7)])
        b.op(pb.MAP, [out], [numbers], program(dtype, 1, 1, [("copy", 0, 1)]))
        b.op(pb.MAP, [lines], [everything], program(dtype, 1, 1, [("copy", 0, 1)]))
        return Plan(b.build())

    rows = 3 * capacity - 2
    arrays = [np.zeros((rows, columns), dtype), np.zeros((3, columns, room), dtype)]
    options = {"epoch_rows": rows, "batch_rows": capacity, "step_end": 3, "seed": 7}
    expected, _ = run_teams(plan((columns, 1)), arrays, **options)
    numbers, lines = run_teams(plan((1, room)), arrays, **options)
    assert_array_equal(numbers, expected)
    assert np.unique(numbers).size >= 2
    for step, batch in enumerate(np.split(numbers, [capacity, 2 * capacity])):
        assert_array_equal(lines[step, :, : len(batch)].T, batch)
        assert_array_equal(lines[step, :, len(batch) :], 5)


# ---- Steps in a row ----


def test_steps_in_a_row_are_each_taken():
    """Several may be one call: not where a parameter comes twice, nor if they differ otherwise."""
    plain, decayed = step_attributes(0.0, 0, 0), step_attributes(0.0, 0, 0, weight_decay=0.1)
    # parameter, its gradient's slot kind, scalars, attributes
    steps = [
        (0, pb.FIXED, 0, plain),
        (1, pb.FIXED, 0, plain),
        (1, pb.FIXED, 0, plain),
        (2, pb.FIXED, 1, plain),
        (0, pb.FIXED, 1, plain),
        (3, pb.FIXED, 1, plain),
        (4, pb.FIXED, 1, decayed),
        (5, pb.FIXED, 1, decayed),
        (6, pb.STEP, 1, decayed),
        (7, pb.FIXED, 1, decayed),
        (8, pb.FIXED, 1, decayed),
    ]
    shapes = [(5,), (7, 10), (1,), (3, 3), (300,), (2,), (40,), (16,), (0,)]
    dtypes = ["f4" if i == 3 else "f8" for i in range(9)]
    n_steps = 3
    rng = np.random.default_rng(0)
    b = PlanBuilder(1)
    params = [b.bound(pb.FIXED, d, s, writable=True) for d, s in zip(dtypes, shapes, strict=True)]
    rates = [b.bound(pb.STEP, "f8", (1,)) for _ in range(2)]
    arrays = [rng.normal(size=s).astype(d) for d, s in zip(dtypes, shapes, strict=True)]
    arrays += [rng.uniform(0.1, 1, size=(n_steps, 1)) for _ in rates]
    for i, kind, rate, attributes in steps:
        grad = b.bound(kind, dtypes[i], shapes[i])
        entries = (n_steps,) if kind == pb.STEP else ()
        arrays.append(rng.normal(size=(*entries, *shapes[i])).astype(dtypes[i]))
        b.op(pb.SGD_STEP, [params[i]], [grad, rates[rate]], attributes)
    expected = [array.astype("f8") for array in arrays]
    for number in range(n_steps):
        for (i, kind, rate, attributes), grad in zip(steps, expected[11:], strict=True):
            g = grad[number] if kind == pb.STEP else grad
            g = g + (0.1 * expected[i] if attributes == decayed else 0)
            expected[i] = expected[i] - expected[9 + rate][number] * g
    got = run_teams(Plan(b.build()), arrays, epoch_rows=1, batch_rows=1, step_end=n_steps)
    for actual, wanted in zip(got[:9], expected[:9], strict=True):
        assert_allclose(actual, wanted, **tolerance(actual.dtype))


# ---- SGD_STEP, ADAM_STEP ----


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("n", [1, 37, 10007])
@pytest.mark.parametrize(
    ("momentum", "weight_decay", "nesterov", "sklearn"),
    [(0.0, 0.0, 0, 0), (0.0, 0.1, 0, 0), (0.9, 0.1, 0, 0), (0.9, 0.0, 1, 0), (0.9, 0.0, 1, 1)],
)
def test_sgd_step(dtype, n, momentum, weight_decay, nesterov, sklearn, rng):
    """Three steps, each with its learning rate, in PyTorch's or scikit-learn's formula."""
    builder = PlanBuilder(1)
    state = [
        builder.bound(pb.FIXED, dtype, (n,), writable=True) for _ in range(2 if momentum else 1)
    ]
    grad = builder.bound(pb.FIXED, dtype, (n,))
    rate = builder.bound(pb.STEP, "f8", (1,))
    words = step_attributes(momentum, nesterov, sklearn, weight_decay=weight_decay)
    builder.op(pb.SGD_STEP, state, [grad, rate], words)
    start, g = rng.normal(size=n).astype(dtype), rng.normal(size=n).astype(dtype)
    rates = np.array([0.1, 0.05, 0.2])
    arrays = [start, np.zeros(n, dtype), g, rates] if momentum else [start, g, rates]
    result = run_teams(Plan(builder.build()), arrays, epoch_rows=1, batch_rows=1, step_end=3)

    p, v = start.astype("f8"), np.zeros(n)
    for lr in rates:
        d = g + weight_decay * p
        if sklearn:
            v = momentum * v - lr * d
            p = p + (momentum * v - lr * d if nesterov else v)
        elif momentum:
            v = momentum * v + d
            p = p - lr * (d + momentum * v if nesterov else v)
        else:
            p = p - lr * d
    assert_allclose(result[0], p, **tolerance(dtype))
    if momentum:
        assert_allclose(result[1], v, **tolerance(dtype))


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("n", [1, 37, 10007])
@pytest.mark.parametrize("decoupled", [0, 1])
@pytest.mark.parametrize("average", [0.0, 0.7])
def test_adam_step(dtype, n, decoupled, average, rng):
    """Three steps whose bias corrections come from the table of scalars, and their average."""
    builder = PlanBuilder(1)
    n_state = 4 if average else 3
    state = [builder.bound(pb.FIXED, dtype, (n,), writable=True) for _ in range(n_state)]
    grad, scalars = builder.bound(pb.FIXED, dtype, (n,)), builder.bound(pb.STEP, "f8", (3,))
    words = step_attributes(
        0.9, 0.999, 1e-8, 0, weight_decay=0.1, decoupled=decoupled, average=average
    )
    builder.op(pb.ADAM_STEP, state, [grad, scalars], words)
    start, g = rng.normal(size=n).astype(dtype), rng.normal(size=n).astype(dtype)
    t = np.arange(1, 4)
    rates = np.array([0.01, 0.02, 0.03])
    table = np.stack([rates, rates / (1 - 0.9**t), 1 / np.sqrt(1 - 0.999**t)], axis=1)
    arrays = [start, np.zeros(n, dtype), np.zeros(n, dtype), np.ones(n, dtype)][:n_state]
    arrays += [g, table]
    result = run_teams(Plan(builder.build()), arrays, epoch_rows=1, batch_rows=1, step_end=3)

    p, m, v, mean = start.astype("f8"), np.zeros(n), np.zeros(n), np.ones(n)
    for rate, step_size, v_scale in table:
        d = g + (0.0 if decoupled else 0.1) * p
        m = 0.9 * m + 0.1 * d
        v = 0.999 * v + 0.001 * d * d
        p = p * (1 - rate * 0.1 * decoupled) - step_size * m / (np.sqrt(v) * v_scale + 1e-8)
        mean = average * mean + (1 - average) * p
    for expected, actual in zip((p, m, v, mean), result[:n_state], strict=False):
        assert_allclose(actual, expected, **tolerance(dtype))


# A record of every step with all its states: the opcode, outputs, scalars, options of its own.
STEPS = {
    "sgd_step": (pb.SGD_STEP, 2, 1, {"momentum": 0.9, "nesterov": 0, "sklearn": 0}),
    "adam_step": (pb.ADAM_STEP, 4, 3, {"beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "amsgrad": 1}),
    "nadam_step": (pb.NADAM_STEP, 3, 4, {"beta1": 0.9, "beta2": 0.99, "eps": 1e-8}),
    "radam_step": (pb.RADAM_STEP, 3, 3, {"beta1": 0.9, "beta2": 0.99, "eps": 1e-8}),
    "rmsprop_step": (
        pb.RMSPROP_STEP,
        4,
        1,
        {"alpha": 0.99, "eps": 1e-8, "momentum": 0.9, "centered": 1},
    ),
    "adagrad_step": (pb.ADAGRAD_STEP, 2, 1, {"eps": 1e-8}),
    "adadelta_step": (pb.ADADELTA_STEP, 3, 1, {"rho": 0.9, "eps": 1e-8}),
    "lion_step": (pb.LION_STEP, 2, 1, {"beta1": 0.9, "beta2": 0.99}),
}


def step_plan(name, *, outputs=0, inputs=0, attributes=0, scalars=0, average=0.0, **changes):
    """A plan of one step, off by so many outputs, inputs, attributes or scalars, with options
    changed; `odd` is what one of its operands is in place of f4 (5, 3)."""
    opcode, n_out, n_scalars, own = STEPS[name]
    odd = changes.pop("odd", {})
    shared = {"weight_decay": 0.0, "decoupled": 0, "average": average}
    options = {**shared, **own}
    assert changes.keys() <= options.keys()
    options |= changes
    b = PlanBuilder(1)
    n_out += outputs + (options["average"] != 0.0)
    tensors = []
    for i in range(n_out + 1):
        dtype, shape, stride = odd.get(i, ("f4", (5, 3), None))
        slot = b.slot(pb.FIXED, dtype, 240, writable=True)
        tensors.append(b.tensor(dtype, shape, slot=slot, stride=stride))
    table = odd.get("scalars", ("f8", (n_scalars + scalars,)))
    ins = [tensors.pop(), *(b.bound(pb.STEP, *table) for _ in range(1 + inputs))]
    words = [*step_attributes(**{k: options.pop(k) for k in shared}), *map(word, options.values())]
    b.op(opcode, tensors, ins, words[: len(words) + attributes] + [0] * attributes)
    return Plan(b.build())


def word(option):
    return bits(option) if isinstance(option, float) else option


@pytest.mark.parametrize("average", [0.0, 0.5])
@pytest.mark.parametrize("name", STEPS)
def test_a_step_is_refused_for_each_operand_that_does_not_fit(name, average):
    """Counts, dtypes, shapes and places, of all states and of the average."""
    step_plan(name, average=average)
    count = "there are . outputs, . inputs and . attributes"
    refused = [
        ({"outputs": -1}, count),
        ({"outputs": 1}, count),
        ({"inputs": 1}, count),
        ({"inputs": -1}, count),
        ({"attributes": -1}, r"there are . attributes; expected ."),
        ({"attributes": 1}, r"there are . attributes; expected ."),
        ({"scalars": -1}, "its scalars are not a contiguous vector of at least"),
        ({"odd": {"scalars": ("f4", (4,))}}, "its scalars are not a contiguous vector"),
        ({"odd": {"scalars": ("f8", (2, 4))}}, "its scalars are not a contiguous vector"),
        ({"odd": dict.fromkeys(range(9), ("i4", (5, 3), None))}, "operand 0 differs"),
    ]
    n_grad = STEPS[name][1] + (average != 0.0)
    for operand in range(1, n_grad + 1):
        differs = f"operand {operand} differs from the parameter in dtype or shape"
        refused += [
            ({"odd": {operand: ("f8", (5, 3), None)}}, differs),
            ({"odd": {operand: ("f4", (3, 5), None)}}, differs),
            ({"odd": {operand: ("f4", (15,), None)}}, differs),
        ]
    for operand in range(n_grad + 1):
        odd = {operand: ("f4", (5, 3), (6, 1))}
        refused.append(({"odd": odd}, f"operand {operand} is not contiguous"))
    for changes, message in refused:
        with pytest.raises(DlcoreError, match=rf"op 0 \({name}\): .*{message}"):
            step_plan(name, average=average, **changes)


@pytest.mark.parametrize("name", STEPS)
def test_a_step_is_refused_for_each_option_out_of_range(name):
    """Each is named with what it is and what it may be."""
    for option, value in {
        "weight_decay": 0.0,
        "decoupled": 0,
        "average": 0.0,
        **STEPS[name][3],
    }.items():
        if isinstance(value, int):
            wrong, expected = (2, -1), "expected 0 or 1"
        elif option in ("weight_decay", "eps"):
            wrong, expected = (-1.0, np.inf, np.nan), r"expected a number in \[0, inf\)"
        else:
            wrong, expected = (-0.1, 1.0, np.nan), r"expected a number in \[0, 1\)"
        for bad in wrong:
            with pytest.raises(DlcoreError, match=rf"its {option} is .*; {expected}"):
                step_plan(name, **{option: bad})


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("sgd_step", {"momentum": 0.0}),
        ("adam_step", {"amsgrad": 0}),
        ("rmsprop_step", {"momentum": 0.0}),
        ("rmsprop_step", {"centered": 0}),
    ],
)
def test_a_step_has_the_states_that_its_options_ask_for(name, option):
    step_plan(name, outputs=-1, **option)
    with pytest.raises(DlcoreError, match="outputs"):
        step_plan(name, **option)
