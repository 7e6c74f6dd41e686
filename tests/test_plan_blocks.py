"""Ops that run block by block: sums over the blocks of a step, and what is checked of them."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

import plan_builder as pb
from dlcore import DlcoreError
from dlcore._plan import Plan
from helpers import log_softmax
from plan_builder import ROWS, PlanBuilder, bits, program
from plan_runs import run_teams

pytestmark = pytest.mark.usefixtures("teams")

MOST_BLOCK_ROWS = 129  # 33 blocks in 16 groups


def block_builder(reduction=pb.SUM, instruction=("copy", 0, 1)):
    """Blocks of 4 rows: gather, the sums of the columns into the arena; then a copy of these.

    Of what an instruction makes of a row, whose second operand may be one by the rows of a step.
    """
    b = PlanBuilder(MOST_BLOCK_ROWS)
    b.n_block_ops, b.block_rows = 2, 4
    data = b.bound(pb.DATASET, "f8", (3,))
    out = b.bound(pb.STEP, "f8", (1, 3), writable=True)
    total = b.tensor("f8", (1, 3))
    b.sums_bytes = b.arena_bytes
    x = b.tensor("f8", (ROWS, 3), slot=pb.IN_BLOCK)
    b.op(pb.GATHER, [x], [data])
    words = program("f8", 1, 1, [instruction], literals=[(1.0, -1)], reduction=reduction)
    b.op(pb.MAP, [total], [x], words)
    b.op(pb.MAP, [out], [total], program("f8", 1, 1, [("copy", 0, 1)]))
    return b


@pytest.mark.parametrize("reduction", [pb.SUM, pb.MEAN])
@pytest.mark.parametrize("instruction", [("copy", 0, 1), ("square", 0, 1), ("multiply", 0, 1, 2)])
@pytest.mark.parametrize("batch_rows", [1, 4, 5, 6, 32, 129])
def test_sums_over_blocks_are_those_of_all_rows(batch_rows, instruction, reduction):
    """Also of a last block of one row: by itself, and after another block of its group."""
    x = np.random.default_rng(0).standard_normal((MOST_BLOCK_ROWS, 3))
    steps = MOST_BLOCK_ROWS // batch_rows
    out, *_ = run_teams(
        Plan(block_builder(reduction, instruction).build()),
        [x, np.zeros((steps, 1, 3))],
        epoch_rows=steps * batch_rows,
        batch_rows=batch_rows,
        step_end=steps,
    )[1:]
    made = {"copy": x, "square": x**2, "multiply": x / batch_rows}[instruction[0]]
    expected = made[: steps * batch_rows].reshape(steps, batch_rows, 3).sum(1)
    if reduction == pb.MEAN:
        expected /= batch_rows
    assert_allclose(out[:, 0], expected, rtol=1e-13)


def loss_builder(place=pb.IN_BLOCK, shape=(ROWS, 3)):
    """Blocks of 4 rows: gather, the sum of all squares beside the double of each; then a copy."""
    b = PlanBuilder(MOST_BLOCK_ROWS)
    b.n_block_ops, b.block_rows = 3, 4
    data = b.bound(pb.DATASET, "f8", (3,))
    out = b.bound(pb.STEP, "f8", (1, 1), writable=True)
    doubled = b.bound(pb.STREAM, "f8", (3,), writable=True)
    total = b.tensor("f8", (1, 1))
    b.sums_bytes = b.arena_bytes
    x = b.tensor("f8", (ROWS, 3), slot=pb.IN_BLOCK)
    y = b.tensor("f8", shape, slot=place)
    both = [("square", 0, 2), ("add", 1, 2, 2)]
    b.op(pb.GATHER, [x], [data])
    b.op(pb.MAP, [total, y], [x], program("f8", 2, 1, both, reduction=pb.SUM, n_reduced=1))
    b.op(pb.MAP, [doubled], [y], program("f8", 1, 1, [("copy", 0, 1)]))
    b.op(pb.MAP, [out], [total], program("f8", 1, 1, [("copy", 0, 1)]))
    return b


@pytest.mark.parametrize("batch_rows", [1, 4, 5, 32, 129])
def test_a_sum_over_blocks_beside_what_each_row_has(batch_rows):
    x = np.random.default_rng(0).standard_normal((MOST_BLOCK_ROWS, 3))
    steps = MOST_BLOCK_ROWS // batch_rows
    rows = steps * batch_rows
    out, doubled = run_teams(
        Plan(loss_builder().build()),
        [x, np.zeros((steps, 1, 1)), np.zeros((rows, 3))],
        epoch_rows=rows,
        batch_rows=batch_rows,
        step_end=steps,
    )[1:]
    expected = np.square(x[:rows]).reshape(steps, -1).sum(1)
    assert_allclose(out.ravel(), expected, rtol=1e-13)
    np.testing.assert_array_equal(doubled, 2 * x[:rows])


def test_what_stands_beside_a_sum_has_rows_also_in_blocks_of_one():
    """There a matrix without rows would fit the space."""
    b = loss_builder(shape=(1, 3))
    b.block_rows = 1
    with pytest.raises(DlcoreError, match="output 1 is not of the shape of the space"):
        Plan(b.build())


def test_what_rows_have_beside_a_sum_lies_in_the_block():
    with pytest.raises(DlcoreError, match="operand 1 of this block op lies in the arena that"):
        Plan(loss_builder(place=-1).build())


def single_block_builder(opcode, capacity):
    """A block of 4 rows, and a sum over its rows that lies in a slot, of an op with this opcode."""
    b = PlanBuilder(capacity)
    b.n_block_ops, b.block_rows = 2, 4
    data = b.bound(pb.DATASET, "f8", (3,))
    x = b.tensor("f8", (ROWS, 3), slot=pb.IN_BLOCK)
    b.op(pb.GATHER, [x], [data])
    if opcode == pb.MAP:
        out = b.bound(pb.STEP, "f8", (1, 3), writable=True)
        b.op(pb.MAP, [out], [x], program("f8", 1, 1, [("copy", 0, 1)], reduction=pb.MEAN))
    elif opcode == pb.GEMM:
        out, other = b.bound(pb.STEP, "f8", (3, 2), writable=True), b.bound(pb.STREAM, "f8", (2,))
        sums = b.bound(pb.STEP, "f8", (1, 2), writable=True)
        columns = b.tensor("f8", (3, ROWS), slot=pb.IN_BLOCK, offset=0, stride=(1, 3))
        b.op(pb.GEMM, [out, sums], [columns, other], [0])
    else:
        out, target = b.bound(pb.STEP, "f8", (), writable=True), b.bound(pb.STREAM, "f8", (3,))
        b.op(pb.SOFTMAX_LOSS, [out], [x, target], [0, 0, 1, bits(1.0), 0])
    return b


@pytest.mark.parametrize("opcode", [pb.MAP, pb.GEMM, pb.SOFTMAX_LOSS])
def test_sums_of_a_single_block_may_lie_in_slots(opcode):
    """They are complete there. With rows for a second block they would be a part of the sums."""
    rng = np.random.default_rng(0)
    x, other = rng.standard_normal((11, 3)), rng.random((11, 3))
    bindings = {
        pb.MAP: [x, np.zeros((3, 1, 3))],
        pb.GEMM: [x, np.zeros((3, 3, 2)), other[:, :2].copy(), np.zeros((3, 1, 2))],
        pb.SOFTMAX_LOSS: [x, np.zeros(3), other],
    }[opcode]
    steps = {"epoch_rows": 11, "batch_rows": 4, "step_end": 3}
    plan = Plan(single_block_builder(opcode, 4).build())
    _, out, *rest = run_teams(plan, bindings, **steps)
    for step in range(3):
        here = slice(4 * step, 4 * step + 4)
        if opcode == pb.MAP:
            expected = x[here].mean(0, keepdims=True)
        elif opcode == pb.GEMM:
            expected = x[here].T @ other[here, :2]
            assert_allclose(rest[1][step, 0], other[here, :2].sum(0), rtol=1e-13)
        else:
            expected = -(other[here] * log_softmax(x[here], 1)).sum(1).mean()
        assert_allclose(out[step], expected, rtol=1e-13)
    with pytest.raises(DlcoreError, match="output 0 sums rows and does not lie in the first 0 byt"):
        Plan(single_block_builder(opcode, 5).build())


@pytest.mark.parametrize("has_loss", [0, 1])
@pytest.mark.parametrize("batch_rows", [1, 4, 5, 32, 129])
def test_the_mean_loss_of_all_blocks(has_loss, batch_rows):
    """Blocks of 4 rows: their share of the mean, and gradients by the rows of the whole step."""
    b = PlanBuilder(MOST_BLOCK_ROWS)
    b.n_block_ops, b.block_rows = 4, 4
    data, labels = b.bound(pb.DATASET, "f8", (3,)), b.bound(pb.DATASET, "i8", ())
    loss = b.bound(pb.STREAM, "f8", (), writable=True)
    gradient = b.bound(pb.STREAM, "f8", (3,), writable=True)
    out = b.bound(pb.STEP, "f8", (), writable=True)
    mean = b.tensor("f8", ())
    b.sums_bytes = b.arena_bytes
    x, y = b.tensor("f8", (ROWS, 3), slot=pb.IN_BLOCK), b.tensor("i8", (ROWS,), slot=pb.IN_BLOCK)
    grad = b.tensor("f8", (ROWS, 3), slot=pb.IN_BLOCK)
    b.op(pb.GATHER, [x], [data])
    b.op(pb.GATHER, [y], [labels], [0, 3])
    attributes = [has_loss, 1, 1, bits(1.0), -1]
    b.op(pb.SOFTMAX_LOSS, [*[loss] * has_loss, grad, mean], [x, y], attributes)
    b.op(pb.MAP, [gradient], [grad], program("f8", 1, 1, [("copy", 0, 1)]))
    b.op(pb.MAP, [out], [mean], program("f8", 1, 1, [("copy", 0, 1)]))
    rng = np.random.default_rng(0)
    z, labels = rng.standard_normal((MOST_BLOCK_ROWS, 3)), rng.integers(0, 3, MOST_BLOCK_ROWS)
    steps = MOST_BLOCK_ROWS // batch_rows
    rows = steps * batch_rows
    arrays = [z, labels, np.zeros(rows), np.zeros((rows, 3)), np.zeros(steps)]
    run = {"epoch_rows": rows, "batch_rows": batch_rows, "step_end": steps}
    _, _, losses, gradients, means = run_teams(Plan(b.build()), arrays, **run)
    log_p = log_softmax(z[:rows], 1)
    per_row = -log_p[np.arange(rows), labels[:rows]]
    assert_allclose(means, per_row.reshape(steps, batch_rows).mean(1), rtol=1e-13)
    assert_allclose(gradients, (np.exp(log_p) - np.eye(3)[labels[:rows]]) / batch_rows, rtol=1e-12)
    assert_allclose(losses, has_loss * per_row, rtol=1e-13)


def in_the_shared_arena(b):
    """Has the rows of a block gathered where other threads gather theirs."""
    gathered, shared = b.operands[0], b.tensor("f8", (ROWS, 3))
    b.operands = [shared if operand == gathered else operand for operand in b.operands]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda b: setattr(b, "n_block_ops", 1),
            "lies in the block arena, and this is no block op",
        ),
        (lambda b: setattr(b, "n_block_ops", 3), "needs all rows of a step at once"),
        (lambda b: setattr(b, "sums_bytes", 8), "does not lie in the first 8 bytes of the arena"),
        (lambda b: setattr(b, "block_arena_bytes", 8), "lies within its slot or arena"),
        (lambda b: b.ops.__setitem__(2, b.ops[1]), "shares entries of the table of operands"),
        (in_the_shared_arena, "lies in the arena that threads share"),
    ],
)
def test_wrong_block_ops_are_refused(change, message):
    """What the executor relies on when it runs them on blocks is checked."""
    b = block_builder()
    change(b)
    with pytest.raises(DlcoreError, match=message):
        Plan(b.build())
