"""Loading plans and running them: a network op by op, checks of bytes and bindings."""

import contextlib
import copy
import pickle
import struct
import threading

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import plan_builder as pb
from dlcore import DlcoreError
from dlcore._plan import Plan
from plan_builder import ROWS, PlanBuilder, bits, program, step_attributes
from plan_runs import TEAMS, epoch_slices, run_teams, run_to_end, same_bits

pytestmark = pytest.mark.usefixtures("teams")


# ---- A network: 10-32-2, relu, cross-entropy, SGD with momentum ----

FEATURES, HIDDEN, CLASSES = 10, 32, 2
SHAPES = [(FEATURES, HIDDEN), (HIDDEN,), (HIDDEN, CLASSES), (CLASSES,)]
MOMENTUM, LR = 0.9, 0.1
CAPACITY = 24
N = 107  # four steps of 24 rows and one of 11
RUN = {"epoch_rows": N, "batch_rows": CAPACITY}


def dense(builder, out, x, w, bias, n_out, activation=()):
    """out = activation(x @ w + bias)"""
    store = program("f8", 1, 1, [("add", 0, 0, 1), *activation])
    builder.op(pb.GEMM, [out], [x, w, bias], [0, *store])


def network_builder():
    """Slots: data, labels, the parameters, their velocities, learning rates, losses."""
    b = PlanBuilder(CAPACITY)
    data, labels = b.bound(pb.DATASET, "f8", (FEATURES,)), b.bound(pb.DATASET, "i4", ())
    params = [b.bound(pb.FIXED, "f8", shape, writable=True) for shape in SHAPES]
    velocity = [b.bound(pb.FIXED, "f8", shape, writable=True) for shape in SHAPES]
    rate = b.bound(pb.STEP, "f8", (1,))
    mean_loss = b.bound(pb.STEP, "f8", (1,), writable=True)
    w1, _, w2, _ = params
    bias1, bias2 = (b.tensor("f8", (1, n), slot=slot) for n, slot in ((HIDDEN, 3), (CLASSES, 5)))

    x, y = b.tensor("f8", (ROWS, FEATURES)), b.tensor("i8", (ROWS,))
    h, z = b.tensor("f8", (ROWS, HIDDEN)), b.tensor("f8", (ROWS, CLASSES))
    loss, dz, dh = (
        b.tensor("f8", (ROWS,)),
        b.tensor("f8", (ROWS, CLASSES)),
        b.tensor("f8", (ROWS, HIDDEN)),
    )
    grads = [b.tensor("f8", shape) for shape in SHAPES]
    x_t = b.view(x, (FEATURES, ROWS), (1, FEATURES))
    h_t = b.view(h, (HIDDEN, ROWS), (1, HIDDEN))
    w2_t = b.tensor("f8", (CLASSES, HIDDEN), slot=4, stride=(1, CLASSES))
    column_sum = program("f8", 1, 1, [("copy", 0, 1)], reduction=pb.SUM)

    b.op(pb.GATHER, [x], [data])
    b.op(pb.GATHER, [y], [labels], [0, CLASSES])
    dense(b, h, x, w1, bias1, HIDDEN, [("relu", 0, 0)])
    dense(b, z, h, w2, bias2, CLASSES)
    b.op(pb.SOFTMAX_LOSS, [loss, dz], [z, y], [1, 1, 0, bits(1.0), 0])
    b.op(pb.MAP, [dz], [dz], program("f8", 1, 1, [("multiply", 0, 1, 2)], literals=[(1.0, -1)]))
    b.op(
        pb.MAP,
        [mean_loss],
        [loss],
        program("f8", 1, 1, [("copy", 0, 1)], reduction=pb.MEAN),
    )
    b.op(pb.GEMM, [grads[2]], [h_t, dz], [0])
    b.op(pb.MAP, [b.view(grads[3], (1, CLASSES))], [dz], column_sum)
    gate = program(
        "f8",
        1,
        1,
        [("greater", 3, 1, 2), ("multiply", 0, 0, 3)],
        literals=[(0.0, 0)],
        n_temps=1,
    )
    b.op(pb.GEMM, [dh], [dz, w2_t, h], [0, *gate])
    b.op(pb.GEMM, [grads[0]], [x_t, dh], [0])
    b.op(pb.MAP, [b.view(grads[1], (1, HIDDEN))], [dh], column_sum)
    for param, state, grad in zip(params, velocity, grads, strict=True):
        b.op(pb.SGD_STEP, [param, state], [grad, rate], step_attributes(MOMENTUM, 0, 0))
    return b


@pytest.fixture(scope="module")
def network():
    return Plan(network_builder().build())


def network_arrays(steps, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(N, FEATURES))
    labels = (x[:, 0] + x[:, 1] ** 2 > 1).astype("i4")
    params = [rng.normal(0, 0.3, shape) for shape in SHAPES]
    velocity = [np.zeros(shape) for shape in SHAPES]
    rates = LR / (1 + np.arange(steps) / 10.0)
    return [x, labels, *params, *velocity, rates, np.full(steps, np.nan)]


def shuffles(epochs, seed=1):
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.permutation(N) for _ in range(epochs)])


def reference_training(arrays, order, steps):
    """The same training in NumPy: the losses and the parameters."""
    x, labels = arrays[:2]
    params, velocity = [[array.copy() for array in arrays[i : i + 4]] for i in (2, 6)]
    losses = []
    for step, (epoch, rows) in enumerate(epoch_slices(N, CAPACITY, steps)):
        picked = order[epoch * N :][:N][rows]
        xb, yb, (w1, b1, w2, b2) = x[picked], labels[picked], params
        h = np.maximum(xb @ w1 + b1, 0)
        z = h @ w2 + b2
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        losses.append(-np.log(p[np.arange(len(yb)), yb]).mean())
        dz = (p - np.eye(CLASSES)[yb]) / len(yb)
        dh = (dz @ w2.T) * (h > 0)
        for i, grad in enumerate([xb.T @ dh, dh.sum(axis=0), h.T @ dz, dz.sum(axis=0)]):
            velocity[i] = MOMENTUM * velocity[i] + grad
            params[i] = params[i] - arrays[10][step] * velocity[i]
    return losses, params


STEPS = 52  # ten epochs and a part of one


def test_training_equals_numpy_and_does_not_depend_on_the_team(network):
    """Losses and parameters of 52 shuffled steps with tail batches, bitwise alike for all teams."""
    arrays, order = network_arrays(STEPS), shuffles(11)
    result = run_teams(network, arrays, order=order, step_end=STEPS, training=True, **RUN)
    losses, params = reference_training(arrays, order, STEPS)
    assert_allclose(result[11], losses, rtol=1e-10)
    for actual, expected in zip(result[2:6], params, strict=True):
        assert_allclose(actual, expected, rtol=1e-10, atol=1e-14)
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("threads", TEAMS)
def test_a_budget_stops_at_a_step_and_the_run_goes_on_bitwise(network, threads):
    """A budget of nothing gives single steps, which add up to the run that never stopped."""
    order = shuffles(11)
    whole, parts = network_arrays(STEPS), network_arrays(STEPS)
    options = {"order": order, "step_end": STEPS, "threads": threads, "training": True, **RUN}
    assert run_to_end(network, whole, budget=None, **options) == [(STEPS, threads)]
    assert run_to_end(network, parts, budget=0.0, **options) == [(1, threads)] * STEPS
    for expected, actual in zip(whole, parts, strict=True):
        assert same_bits(expected, actual)


def test_the_clock_is_looked_at_every_16_short_steps(network):
    """A long budget ends at such a step, and the run goes on bitwise."""
    steps = 16 * 4000
    order = np.tile(shuffles(1), -(-steps * CAPACITY // N) + 1)
    whole, parts = network_arrays(steps), network_arrays(steps)
    options = {"order": order, "step_end": steps, "threads": 1, "training": True, **RUN}
    run_to_end(network, whole, budget=None, **options)
    stops = np.cumsum([done for done, _ in run_to_end(network, parts, budget=0.01, **options)])
    assert len(stops) > 1
    assert all(stop % 16 == 1 for stop in stops[:-1])
    for expected, actual in zip(whole, parts, strict=True):
        assert same_bits(expected, actual)


@pytest.mark.parametrize("threads", TEAMS)
def test_a_step_that_fails_leaves_no_trace(network, threads):
    """A bad label in step 7: the parameters are those after 7 steps, and the plan runs again."""
    order = shuffles(11)
    arrays, expected = network_arrays(STEPS), network_arrays(STEPS)
    bad_row = order[N + 2 * CAPACITY + 5]  # in the third step of epoch 1
    in_epoch_0 = np.flatnonzero(order[:N] == bad_row)[0]
    order[in_epoch_0] = order[0]  # nowhere in epoch 0
    run_to_end(network, expected, order=order, step_end=7, threads=1, training=True, **RUN)
    arrays[1][bad_row] = -7
    with pytest.raises(ValueError, match=rf"label -7 in row {bad_row} is outside \[0, 2\)"):
        network.run(
            arrays, order=order, step_end=STEPS, threads=threads, training=True, budget=None, **RUN
        )
    for index in (*range(2, 10), 11):
        assert same_bits(arrays[index][:7], expected[index][:7])
        if index < 10:
            assert same_bits(arrays[index], expected[index])
    arrays[1][bad_row] = 1
    run_to_end(network, arrays, order=order, step_begin=7, step_end=STEPS, threads=threads, **RUN)
    assert np.isfinite(arrays[11]).all()


def test_two_python_threads_may_run_one_plan_at_once(network):
    """Every run has an arena of its own: the results are those of runs one after the other."""
    order = shuffles(11)

    def train(arrays):
        run_to_end(network, arrays, order=order, step_end=STEPS, threads=2, budget=0.0, **RUN)

    expected = [network_arrays(STEPS, seed) for seed in range(2)]
    for arrays in expected:
        train(arrays)
    for _ in range(3):
        at_once = [network_arrays(STEPS, seed) for seed in range(2)]
        workers = [threading.Thread(target=train, args=(arrays,)) for arrays in at_once]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        for some, others in zip(expected, at_once, strict=True):
            assert all(same_bits(a, b) for a, b in zip(some, others, strict=True))


def test_a_plan_uses_as_many_threads_as_it_deserves(network):
    """threads=0 follows the serial threshold, and a forced number does not."""
    from dlcore import _native

    options = {"order": shuffles(1), "step_end": 5, **RUN}
    assert network.run(network_arrays(5), **options)[1] == 8
    _native.set_serial_threshold(10**12)
    assert network.run(network_arrays(5), **options)[1] == 1
    assert network.run(network_arrays(5), threads=3, **options)[1] == 3


def test_subnormals_are_flushed_in_training_only():
    """On every thread of the team, and the caller's arithmetic is as before afterwards."""
    builder = PlanBuilder(4096)
    tensors = [builder.bound(pb.STREAM, "f4", (8,), writable=i == 0) for i in range(2)]
    builder.op(
        pb.MAP,
        tensors[:1],
        tensors[1:],
        program("f4", 1, 1, [("multiply", 0, 1, 2)], literals=[(0.5, 0)]),
    )
    plan = Plan(builder.build())
    smallest = np.full((4096, 8), np.finfo("f4").tiny, "f4")
    options = {"epoch_rows": 4096, "batch_rows": 4096, "step_end": 1}
    kept, _ = run_teams(plan, [np.zeros_like(smallest), smallest], **options)
    flushed, _ = run_teams(plan, [np.ones_like(smallest), smallest], training=True, **options)
    assert np.all(kept == np.finfo("f4").tiny / 2)
    assert np.all(flushed == 0)
    assert np.finfo("f4").tiny * np.float32(0.5) > 0


def test_a_plan_pickles_as_its_bytes(network):
    """Pickles and copies are equal plans."""
    for twin in (pickle.loads(pickle.dumps(network)), copy.deepcopy(network)):
        assert twin.bytes == network.bytes
        assert twin.slots == network.slots
    assert network.row_capacity == CAPACITY
    assert network.slots[0] == ("DATASET", np.dtype("f8"), 8 * FEATURES, False)
    assert network.slots[11] == ("STEP", np.dtype("f8"), 8, True)
    assert network.arena_bytes(2) > network.arena_bytes(1) > network_builder().arena_bytes


# ---- What a run refuses ----


def set_item(index, value):
    def change(arrays, options):
        arrays[index] = value(arrays[index]) if callable(value) else value

    return change


def set_option(**changes):
    def change(arrays, options):
        options.update(changes)

    return change


def read_only(array):
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda arrays, _: arrays.pop(), ValueError, "11 bindings; the plan has 12 slots"),
        (set_item(2, None), ValueError, r"bindings\[2\] \(FIXED, float64\) is None"),
        (set_item(2, [1.0]), TypeError, r"bindings\[2\] .* is a list; expected an array"),
        (set_item(2, lambda a: a.astype("f4")), TypeError, r"bindings\[2\] .* has dtype float32"),
        (set_item(2, lambda a: a.astype(">f8")), TypeError, r"bindings\[2\] .* has dtype >f8"),
        (set_item(2, lambda a: a.T), ValueError, r"bindings\[2\] .* is not C-contiguous"),
        (set_item(2, read_only), ValueError, r"bindings\[2\] .* is read-only"),
        (set_item(2, lambda a: a[:-1]), ValueError, r"has 2304 bytes; the run needs 2560"),
        (set_item(0, lambda a: a.ravel()[:-1]), ValueError, "not a multiple of 80"),
        (set_item(10, lambda a: a[:-1]), ValueError, r"bindings\[10\] .* has 51 steps; .* 52"),
        (
            lambda arrays, _: set_item(6, arrays[2])(arrays, _),
            ValueError,
            "slots 2 and 6 .* overlap",
        ),
        (set_option(order=np.arange(N)), ValueError, "order has 107 rows; the run needs 1118"),
        (set_option(order=np.arange(2000, dtype="i4")), ValueError, "expected 1-D, .* int64"),
        (set_option(order=[1, 2]), TypeError, "order is a list"),
        (set_option(order=None, epoch_rows=N + 1), ValueError, "has 107 rows; the run needs 108"),
        (set_option(epoch_rows=0), ValueError, "epoch_rows is 0; expected at least 1"),
        (set_option(batch_rows=0), ValueError, "batch_rows is 0; expected 1 to 24"),
        (set_option(batch_rows=25), ValueError, "batch_rows is 25; expected 1 to 24"),
        (set_option(step_begin=-1), ValueError, "step_begin is -1"),
        (set_option(step_begin=53), ValueError, "step_end is 52; expected at least step_begin"),
        (set_option(threads=-1), ValueError, "threads is -1"),
        (set_option(budget=-0.5), ValueError, "budget is -0.5 seconds"),
        (set_option(budget=np.nan), ValueError, "budget is nan seconds"),
        (set_option(seed=-1), OverflowError, "negative"),
    ],
)
def test_a_run_refuses_what_does_not_fit(network, change, error, message):
    """Before the first step, and with a message that names the argument."""
    arrays = network_arrays(STEPS)
    options = {"order": shuffles(11), "step_end": STEPS, **RUN}
    change(arrays, options)
    before = [copy.deepcopy(array) for array in arrays]
    with pytest.raises(error, match=message):
        network.run(arrays, **options)
    assert all(same_bits(a, b) for a, b in zip(arrays, before, strict=True) if b is not None)


def test_an_empty_range_of_steps_does_nothing(network):
    """A caller's loop may start where it ends."""
    arrays = network_arrays(STEPS)
    assert network.run(arrays, step_begin=3, step_end=3, **RUN) == (0, 0)
    assert np.isnan(arrays[11]).all()


# ---- What the validator refuses ----


def small_builder():
    """out (rows, 3) = x (rows, 3) + w (1, 3), by way of a copy of x in the arena."""
    b = PlanBuilder(8)
    out = b.bound(pb.STREAM, "f4", (3,), writable=True)
    x, w = b.bound(pb.STREAM, "f4", (3,)), b.bound(pb.FIXED, "f4", (1, 3))
    t = b.tensor("f4", (ROWS, 3))
    b.op(pb.MAP, [t], [x], program("f4", 1, 1, [("copy", 0, 1)]))
    b.op(pb.MAP, [out], [t, w], program("f4", 1, 2, [("add", 0, 1, 2)]))
    return b


def test_the_small_plan_is_valid():
    """So that what is refused below is refused for its one change."""
    x, w = np.arange(24, dtype="f4").reshape(8, 3), np.ones((1, 3), "f4")
    out, *_ = run_teams(
        Plan(small_builder().build()),
        [np.zeros_like(x), x, w],
        epoch_rows=8,
        batch_rows=5,
        step_end=2,
    )
    assert_array_equal(out, x + 1)


HUGE = 2**62
TENSOR_SHAPE, TENSOR_STRIDE = 4, 12  # where they start in a tensor's fields


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (0, 1, "magic is wrong"),
        (1, 2, "version is 2"),
        (2, 0, "total_bytes is 0"),
        (3, 0, "row_capacity is 0"),
        (3, HUGE, "row_capacity is"),
        (4, -1, "arena_bytes is -1"),
        (4, 8, "tensor 3: offset is 0; expected a tensor that lies within"),
        (5, -1, "n_slots is -1"),
        (5, HUGE, "n_slots is"),
        (6, 2**61, "n_tensors is"),
        (7, 0, "n_ops is 0"),
        (8, 2**61, "n_operands is"),
        (9, 1, "total_bytes is .*; expected the sum of the tables"),
        (10, -1, "n_block_ops is -1"),
        (10, 3, "n_block_ops is 3"),
        (10, 1, "block_rows is 0"),
        (11, HUGE, "block_rows is"),
        (12, -1, "block_arena_bytes is -1"),
        (13, HUGE, "sums_bytes is"),
    ],
)
def test_a_wrong_header_is_refused(field, value, message):
    """Every count is checked against the bytes, without overflow."""
    data = bytearray(small_builder().build())
    struct.pack_into("<q", data, 8 * field, value)
    with pytest.raises(DlcoreError, match=message):
        Plan(bytes(data))


def test_ops_may_share_their_operands():
    """However many there are of them."""
    b = small_builder()
    b.ops += [b.ops[1]] * 1000
    x, w = np.arange(24, dtype="f4").reshape(8, 3), np.ones((1, 3), "f4")
    out, *_ = run_teams(
        Plan(b.build()), [np.zeros((8, 3), "f4"), x, w], epoch_rows=8, batch_rows=8, step_end=1
    )
    np.testing.assert_array_equal(out, x + w)


@pytest.mark.parametrize(
    ("table", "index", "field", "value", "message"),
    [
        ("slots", 1, 0, 4, "slot 1: kind is 4"),
        ("slots", 1, 1, 2, "slot 1: writable is 2"),
        ("slots", 0, 1, 0, r"op 1 \(map\): output 0 lies in slot 0, which is not writable"),
        ("slots", 0, 0, 3, "slot 0: writable is 1; expected 0, as for every data set"),
        ("slots", 1, 0, 3, r"op 0 \(map\): input 0 lies in slot 1, a data set"),
        ("slots", 1, 2, 6, "slot 1: dtype is 6"),
        ("slots", 1, 3, 1, "slot 1: reserved is 1"),
        ("slots", 1, 4, 13, "slot 1: bytes is 13"),
        ("slots", 1, 4, 16, "tensor 1: stride is 3"),
        ("slots", 2, 4, 8, "tensor 2: offset is 0; expected a tensor that lies within"),
        ("tensors", 3, 0, -1, "tensor 3: dtype is -1"),
        ("tensors", 1, 0, 3, "tensor 1: dtype is 3; expected that of its slot"),
        ("tensors", 3, 1, 9, "tensor 3: ndim is 9"),
        ("tensors", 3, 2, 3, "tensor 3: slot is 3"),
        ("tensors", 3, 2, -3, "tensor 3: slot is -3"),
        ("tensors", 3, 3, -4, "tensor 3: offset is -4"),
        ("tensors", 3, 3, 2, "tensor 3: offset is 2; expected a multiple"),
        ("tensors", 3, 3, 64, "tensor 3: offset is 64; expected a tensor that lies within"),
        (
            "tensors",
            1,
            3,
            4,
            "tensor 1: offset is 4; expected a tensor that lies within the slot's rows",
        ),
        ("tensors", 1, TENSOR_SHAPE, 8, "tensor 1: shape is 8; expected one axis that counts rows"),
        ("tensors", 1, TENSOR_STRIDE, 4, "tensor 1: stride is 4; expected that of the slot's rows"),
        ("tensors", 3, TENSOR_SHAPE, -HUGE, "tensor 3: shape is"),
        ("tensors", 3, TENSOR_SHAPE, -(2**63), "tensor 3: shape is"),
        ("tensors", 3, TENSOR_SHAPE + 1, HUGE, "tensor 3: shape is .* fits in 63 bits"),
        ("tensors", 3, TENSOR_STRIDE, -1, "tensor 3: stride is -1"),
        (
            "tensors",
            3,
            TENSOR_STRIDE,
            HUGE,
            "tensor 3: offset is 0; expected a tensor that lies within",
        ),
        ("tensors", 3, TENSOR_STRIDE, 2, r"op 0 \(map\): output 0 has elements that share memory"),
        # 8 rows are the capacity, but a step may have fewer.
        (
            "tensors",
            3,
            TENSOR_SHAPE,
            8,
            r"op 0 \(map\): operand 1 does not fit the others along axis 0",
        ),
        ("tensors", 2, TENSOR_SHAPE + 1, 2, r"op 1 \(map\): operand 2 does not fit"),
        ("tensors", 2, 1, 1, "tensor 2: ndim is 1; expected as many axes as it has"),
        ("ops", 1, 0, 99, "op 1: opcode is 99"),
        ("ops", 1, 1, 0, "op 1: n_out is 0"),
        ("ops", 1, 1, 2, "op 1: first_operand is 2"),
        ("ops", 1, 2, 2**31 - 1, "op 1: n_in is"),
        ("ops", 1, 2, 1, r"op 1 \(map\): there are 1 outputs, 1 inputs"),
        ("ops", 1, 3, -1, "op 1: n_attributes is -1"),
        ("ops", 1, 4, -1, "op 1: first_operand is -1"),
        ("ops", 1, 5, 2**31 - 1, "op 1: first_attribute is"),
        ("ops", 1, 5, 0, r"op 1 \(map\): "),
        ("operands", 0, None, 4, "operand 0: tensor is 4"),
        ("operands", 4, None, -1, "operand 4: tensor is -1"),
        ("operands", 3, None, 0, ""),  # out = out + w is in place and fine
        ("attributes", 7, None, 0xFFFF, r"op 0 \(map\): "),
    ],
)
def test_a_wrong_record_is_refused(table, index, field, value, message):
    """The message names the record and the field."""
    builder = small_builder()
    records = getattr(builder, table)
    if field is None:
        records[index] = value
    else:
        records[index][field] = value
    if not message:
        Plan(builder.build())
        return
    with pytest.raises(DlcoreError, match=message):
        Plan(builder.build())


def test_outputs_may_not_overlap_other_operands():
    """But for an input that is exactly the output; and neighbouring columns do not overlap."""

    def build(out_offset, in_offset, width=2):
        b = PlanBuilder(8)
        b.arena_bytes = 8 * 6 * 4
        out, x = (
            b.tensor("f4", (ROWS, width), offset=4 * offset, stride=(6, 1))
            for offset in (out_offset, in_offset)
        )
        b.op(pb.MAP, [out], [x], program("f4", 1, 1, [("copy", 0, 1)]))
        return Plan(b.build())

    build(0, 0)
    build(0, 2)
    build(4, 2)
    for out_offset, in_offset in [(0, 1), (1, 0), (3, 4)]:
        with pytest.raises(DlcoreError, match="output 0 overlaps input 0"):
            build(out_offset, in_offset)


def test_a_product_may_not_overlap_its_factors():
    """Not even exactly: it is written while they are read."""
    b = PlanBuilder(4)
    x = b.tensor("f8", (4, 4))
    b.op(pb.GEMM, [x], [x, b.tensor("f8", (4, 4))], [0])
    with pytest.raises(DlcoreError, match=r"op 0 \(gemm\): output 0 overlaps a or b"):
        Plan(b.build())


def test_an_op_that_can_fail_comes_before_those_that_write_parameters():
    """Otherwise a step that fails would leave half an update."""
    b = PlanBuilder(4)
    p = b.bound(pb.FIXED, "f4", (3,), writable=True)
    x, data = b.tensor("f4", (ROWS, 3)), b.bound(pb.DATASET, "f4", (3,))
    b.op(pb.MAP, [p], [p], program("f4", 1, 1, [("square", 0, 1)]))
    b.op(pb.GATHER, [x], [data])
    with pytest.raises(DlcoreError, match="behind one that writes a FIXED slot"):
        Plan(b.build())


def run_whatever_loads(data):
    """Whether a plan loads; if so, runs two steps of it, in which labels may be out of range."""
    try:
        plan = Plan(data)
    except DlcoreError:
        return False
    rows = min(plan.row_capacity, 5)
    counts = {"FIXED": 1, "STREAM": rows + 2, "STEP": 2, "DATASET": rows + 2}
    if plan.arena_bytes(2) + sum(counts[s.kind] * s.bytes for s in plan.slots) > 10**7:
        return True
    arrays = [np.zeros(counts[s.kind] * s.bytes // s.dtype.itemsize, s.dtype) for s in plan.slots]
    with contextlib.suppress(ValueError):
        done, _ = plan.run(
            arrays,
            order=np.arange(rows + 2)[::-1].copy(),
            epoch_rows=rows + 2,
            batch_rows=rows,
            step_end=2,
            threads=1,
            budget=None,
        )
        assert done == 2
    return True


def indexing_builder():
    """The sum, in every step, of what the rows of a table that tokens name add up to."""
    b = PlanBuilder(5)
    table, tokens = b.bound(pb.FIXED, "f4", (1, 7, 3)), b.slot(pb.STREAM, "i4", 4)
    index = b.tensor("i4", (1, ROWS), slot=tokens)
    rows, counted = b.tensor("f4", (1, ROWS, 3)), b.tensor("f4", (1, 7, 3))
    total = b.bound(pb.STEP, "f4", (1, 1, 1), writable=True)
    b.op(pb.TAKE, [rows], [table, index])
    b.op(pb.SCATTER_ADD, [counted], [rows, index])
    b.op(pb.MAP, [total], [counted], program("f4", 1, 1, [("copy", 0, 1)], reduction=pb.SUM))
    return b


def steps_builder():
    """A step of every optimiser, with all its states and an average."""
    b = PlanBuilder(1)
    for opcode, n_states, own in (
        (pb.SGD_STEP, 1, (0.9, 1, 0)),
        (pb.ADAM_STEP, 3, (0.9, 0.99, 1e-8, 1)),
        (pb.NADAM_STEP, 2, (0.9, 0.99, 1e-8)),
        (pb.RADAM_STEP, 2, (0.9, 0.99, 1e-8)),
        (pb.RMSPROP_STEP, 3, (0.9, 1e-8, 0.9, 1)),
        (pb.ADAGRAD_STEP, 1, (1e-8,)),
        (pb.ADADELTA_STEP, 2, (0.9, 1e-8)),
        (pb.LION_STEP, 1, (0.9, 0.99)),
    ):
        outs = [b.bound(pb.FIXED, "f4", (5,), writable=True) for _ in range(2 + n_states)]
        ins = [b.bound(pb.FIXED, "f4", (5,)), b.bound(pb.STEP, "f8", (4,))]
        b.op(opcode, outs, ins, step_attributes(*own, weight_decay=0.1, average=0.9))
    return b


def gemm_step_builder():
    """A step of SGD by a product of rows (rows, 3)^T and (rows, 4)."""
    b = PlanBuilder(8)
    w = b.bound(pb.FIXED, "f4", (3, 4), writable=True)
    rows, x = b.slot(pb.STREAM, "f4", 12), b.bound(pb.STREAM, "f4", (4,))
    transposed = b.tensor("f4", (3, ROWS), slot=rows, stride=(1, 3))
    b.op(
        pb.GEMM_STEP, [w], [transposed, x, b.bound(pb.STEP, "f8", (1,))],
        [pb.SGD_STEP, *step_attributes(0.0, 0, 0)],
    )  # fmt: skip
    return b


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
@pytest.mark.parametrize(
    "builder", [network_builder, indexing_builder, steps_builder, gemm_step_builder]
)
def test_a_plan_with_a_changed_byte_is_refused_or_runs(builder, mask):
    """Every byte in turn. A sanitizer build shows that what loads stays in bounds."""
    data = builder().build()
    assert run_whatever_loads(data)
    loaded = 0
    for i in range(len(data)):
        changed = bytearray(data)
        changed[i] ^= mask
        loaded += run_whatever_loads(bytes(changed))
    assert 0 < loaded < len(data) / 2


@pytest.mark.parametrize("n_bytes", [0, 1, 79, 80, -1])
def test_a_cut_plan_is_refused(n_bytes):
    """Nothing behind the given bytes is read."""
    with pytest.raises(DlcoreError):
        Plan(network_builder().build()[:n_bytes])
