"""Softmax and its cross-entropy in plans made by hand, against NumPy, with all teams."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import plan_builder as pb
from dlcore import DlcoreError
from dlcore._plan import Plan
from plan_builder import ROWS, PlanBuilder, bits, program
from plan_runs import one_op, run_teams, tolerance

REALS = ["f4", "f8"]
# Two steps of 40 rows and one of 27, in each of two epochs.
RUN = {"epoch_rows": 107, "batch_rows": 40, "step_end": 6}

pytestmark = pytest.mark.usefixtures("teams")


@pytest.fixture
def rng():
    return np.random.default_rng(0)


NO_SCALE = bits(1.0), 0


def log_softmax(z):
    z = z.astype("f8")
    z = z - z.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize("log", [0, 1])
@pytest.mark.parametrize("classes", [1, 10, 3000])
def test_softmax_is_over_the_last_axis(dtype, log, classes, rng):
    """Rows of one class, of few, and of more than a chunk."""
    plan = one_op(
        pb.SOFTMAX, [(pb.STREAM, dtype, (classes,))], [(pb.STREAM, dtype, (classes,))], [log]
    )
    z = rng.normal(0, 3, (107, classes)).astype(dtype)
    out, _ = run_teams(plan, [np.zeros_like(z), z], **RUN)
    expected = log_softmax(z) if log else np.exp(log_softmax(z))
    assert_allclose(out, expected, **tolerance(dtype))


@pytest.mark.parametrize("dtype", REALS)
@pytest.mark.parametrize(
    ("has_loss", "has_grad", "has_mean"),
    [(1, 1, 0), (1, 0, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 1, 1)],
)
@pytest.mark.parametrize("target", ["labels", "probabilities"])
@pytest.mark.parametrize("scale", [None, "number", "rows", "attribute"])
def test_softmax_loss_and_its_gradient(dtype, has_loss, has_grad, has_mean, target, scale, rng):
    """Any of loss, gradient and mean; labels or probabilities; a scale for all rows or for each."""
    outs = [(pb.STREAM, dtype, ())] * has_loss + [(pb.STREAM, dtype, (10,))] * has_grad
    outs += [(pb.STEP, dtype, ())] * has_mean
    ins = [(pb.STREAM, dtype, (10,))]
    ins.append((pb.STREAM, "i8", ()) if target == "labels" else (pb.STREAM, dtype, (10,)))
    if scale in ("number", "rows"):
        ins.append((pb.FIXED if scale == "number" else pb.STREAM, dtype, ()))
    number = (bits(0.25), -1) if scale == "attribute" else NO_SCALE
    attributes = [has_loss, has_grad, has_mean, *number]
    plan = one_op(pb.SOFTMAX_LOSS, outs, ins, attributes, capacity=600)
    n, rows = 1300, np.repeat([600, 600, 100], [600, 600, 100])
    z = rng.normal(0, 3, (n, 10)).astype(dtype)
    labels = rng.integers(0, 10, n)
    t = np.eye(10)[labels] if target == "labels" else rng.random((n, 10)).astype(dtype)
    factors = {None: 1.0, "number": np.array(0.25, dtype), "rows": rng.random(n).astype(dtype)}
    factors["attribute"] = 0.25 / rows
    arrays = [np.zeros(3 if kind == pb.STEP else (n, *shape), dtype) for kind, _, shape in outs]
    arrays += [z, labels if target == "labels" else t]
    arrays += [factors[scale]] * (len(ins) - 2)
    results = run_teams(plan, arrays, epoch_rows=n, batch_rows=600, step_end=3)
    losses = -(t * log_softmax(z)).sum(axis=1)
    if has_loss:
        assert_allclose(results[0], losses, **tolerance(dtype))
    if has_grad:
        total = t.sum(axis=1, keepdims=True)
        expected = (np.exp(log_softmax(z)) * total - t) * np.reshape(factors[scale], (-1, 1))
        assert_allclose(results[has_loss], expected, **tolerance(dtype))
    if has_mean:
        expected = [part.mean() for part in np.split(losses, [600, 1200])]
        assert_allclose(results[has_loss + has_grad], expected, **tolerance(dtype))


@pytest.mark.parametrize(
    ("attributes", "scale", "message"),
    [
        ([1, 0], (), "its attributes are not has_loss, has_grad and has_mean"),
        ([0, 0, 2, bits(1.0), 0], (), "its attributes are not has_loss, has_grad and has_mean"),
        ([1, 0, 0, bits(1.0), 2], (), "the power of its scale is 2, not -1, 0 or 1"),
        ([1, 0, 0, bits(0.5), 0], (), "has a scale both as an operand and as attributes"),
        ([1, 0, 0, bits(1.0), -1], (), "has a scale both as an operand and as attributes"),
        ([1, 0, 0, bits(1.0), 0], (2,), "its scale is not a number, or one for each row"),
        ([0, 0, 1, bits(1.0), 0], (), "its mean is not a number of the logits' dtype"),
    ],
)
def test_wrong_records_of_a_softmax_loss_are_refused(attributes, scale, message):
    outs = [(pb.STREAM, "f4", ())]  # which is no mean, as it has rows
    ins = [(pb.STREAM, "f4", (10,)), (pb.STREAM, "i8", ()), (pb.FIXED, "f4", scale)]
    with pytest.raises(DlcoreError, match=message):
        one_op(pb.SOFTMAX_LOSS, outs, ins, attributes)


def transposed_loss_plan(dtype, *, capacity=40, transposed_gradient=True):
    """Logits go through memory where their columns are contiguous, and the gradient comes back."""
    b = PlanBuilder(capacity)
    z, labels = b.bound(pb.STREAM, dtype, (7,)), b.bound(pb.STREAM, "i8", ())
    loss = b.bound(pb.STREAM, dtype, (), writable=True)
    out = b.bound(pb.STREAM, dtype, (7,), writable=True)
    columns = b.tensor(dtype, (ROWS, 7), stride=(1, capacity))
    gradient = b.tensor(dtype, (ROWS, 7), stride=(1, capacity) if transposed_gradient else (7, 1))
    b.op(pb.MAP, [columns], [z], program(dtype, 1, 1, [("copy", 0, 1)]))
    b.op(pb.SOFTMAX_LOSS, [loss, gradient], [columns, labels], [1, 1, 0, *NO_SCALE])
    b.op(pb.MAP, [out], [gradient], program(dtype, 1, 1, [("copy", 0, 1)]))
    return Plan(b.build())


@pytest.mark.parametrize("dtype", REALS)
def test_softmax_loss_of_contiguous_columns(dtype, rng):
    z, labels = rng.normal(0, 3, (107, 7)).astype(dtype), rng.integers(0, 7, 107)
    arrays = [z, labels, np.zeros(107, dtype), np.zeros_like(z)]
    _, _, loss, gradient = run_teams(transposed_loss_plan(dtype), arrays, **RUN)
    log_p = log_softmax(z)
    assert_allclose(loss, -log_p[np.arange(107), labels], **tolerance(dtype))
    assert_allclose(gradient, np.exp(log_p) - np.eye(7)[labels], **tolerance(dtype))


def test_softmax_loss_of_contiguous_columns_is_checked():
    """What the kernel cannot read or write is refused when the plan is loaded."""
    with pytest.raises(DlcoreError, match="its gradient is not a float matrix of contiguous col"):
        transposed_loss_plan("f4", transposed_gradient=False)
    b = PlanBuilder(8)
    loss, labels = b.bound(pb.STREAM, "i8", (), writable=True), b.bound(pb.STREAM, "i8", ())
    integers = b.tensor("i8", (ROWS, 7), stride=(1, 8))
    b.op(pb.SOFTMAX_LOSS, [loss], [integers, labels], [1, 0, 0, *NO_SCALE])
    with pytest.raises(DlcoreError, match="its input is not a float matrix of contiguous columns"):
        Plan(b.build())


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize("has_mean", [0, 1])
def test_softmax_loss_refuses_a_label_outside_the_classes(threads, has_mean):
    """Labels that no gather has checked are checked where they are used, by every thread's own."""
    plan = one_op(
        pb.SOFTMAX_LOSS,
        [(pb.STREAM, "f4", ())] + [(pb.STEP, "f4", ())] * has_mean,
        [(pb.STREAM, "f4", (10,)), (pb.STREAM, "i8", ())],
        [1, 0, has_mean, *NO_SCALE],
        capacity=2000,
    )
    for row, label in ((1234, 10), (0, -1), (1, -(1 << 63)), (1999, (1 << 63) - 1)):
        labels = np.zeros(2000, "i8")
        labels[[row, 1999]] = label, -3 if row < 1999 else label
        arrays = [np.zeros(2000, "f4")] + [np.full(1, -77, "f4")] * has_mean
        arrays += [np.zeros((2000, 10), "f4"), labels]
        message = rf"label {label} in row {row} of the batch is outside \[0, 10\)"
        with pytest.raises(ValueError, match=message):
            plan.run(arrays, epoch_rows=2000, batch_rows=2000, step_end=1, threads=threads)
        if has_mean:
            assert_array_equal(arrays[1], -77)


@pytest.mark.parametrize(
    ("rows", "classes", "target"),
    [(0, 3, ("i8", (0,))), (0, 3, ("f4", (0, 3))), (4, 0, ("f4", (4, 0)))],
)
def test_a_softmax_loss_of_nothing_is_nan(rows, classes, target):
    """Of no rows the mean, and of no classes all; what has no elements may be bound to nothing."""
    plan = one_op(
        pb.SOFTMAX_LOSS,
        [(pb.STEP, "f4", shape) for shape in ((rows,), (rows, classes), ())],
        [(pb.STEP, "f4", (rows, classes)), (pb.STEP, *target)],
        [1, 1, 1, *NO_SCALE],
    )
    loss, mean = np.zeros((1, rows), "f4"), np.zeros(1, "f4")
    plan.run([loss, None, mean, None, None], epoch_rows=1, batch_rows=1, step_end=1)
    assert_array_equal(loss, np.full((1, rows), np.nan))
    assert np.isnan(mean[0])
