"""Ops that csrc/plan does not know: compiled from C, registered, and run in plans."""

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

import plan_builder as pb
from dlcore import DlcoreError
from dlcore._plan import Plan, register_op
from plan_builder import ROWS, PlanBuilder, program, step_attributes
from plan_runs import epoch_slices, run_teams

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.usefixtures("teams")


@pytest.fixture(scope="module")
def custom_ops(tmp_path_factory):
    """tests/c/custom_op.c, compiled and with its two ops registered."""
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        pytest.skip("there is no C compiler")
    library = tmp_path_factory.mktemp("ops") / "custom_op.so"
    headers = [f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'csrc' / 'include'}"]
    source = ROOT / "tests" / "c" / "custom_op.c"
    subprocess.run(
        [compiler, "-std=c11", "-O2", "-shared", "-fPIC", *headers, source, "-o", library],
        check=True,
    )
    ops = ctypes.CDLL(str(library))
    for name in ("softsign", "softsign_gradient"):
        register_op(address_of(ops, name))
    return ops


def address_of(library, name):
    return ctypes.addressof(ctypes.c_char.in_dll(library, name))


SOFTSIGN, SOFTSIGN_GRADIENT = 4096, 4097


def softsign_builder():
    """Regression on softsign(x @ w) by gradient descent."""
    b = PlanBuilder(16)
    data, targets = b.bound(pb.DATASET, "f8", (5,)), b.bound(pb.DATASET, "f8", (3,))
    w = b.bound(pb.FIXED, "f8", (5, 3), writable=True)
    rate = b.bound(pb.STEP, "f8", (1,))
    x, y = b.tensor("f8", (ROWS, 5)), b.tensor("f8", (ROWS, 3))
    z, a, da, dz = (b.tensor("f8", (ROWS, 3)) for _ in range(4))
    dw = b.tensor("f8", (5, 3))
    b.op(pb.GATHER, [x], [data])
    b.op(pb.GATHER, [y], [targets])
    b.op(pb.GEMM, [z], [x, w], [0])
    b.op(SOFTSIGN, [a], [z])
    b.op(
        pb.MAP,
        [da],
        [a, y],
        program("f8", 1, 2, [("subtract", 0, 1, 2), ("multiply", 0, 0, 3)], literals=[(2.0, -1)]),
    )
    b.op(SOFTSIGN_GRADIENT, [dz], [da, z])
    b.op(pb.GEMM, [dw], [b.view(x, (5, ROWS), (1, 5)), dz], [0])
    b.op(pb.SGD_STEP, [w], [dw, rate], step_attributes(0.0, 0, 0))
    return b


def test_an_op_from_outside_trains(custom_ops):
    """An op that csrc/plan does not know takes part in training like any other."""
    rng = np.random.default_rng(0)
    x, goal = rng.normal(size=(50, 5)), rng.normal(size=(5, 3))
    y = x @ goal / (1 + np.abs(x @ goal))
    w, rates = np.zeros((5, 3)), np.full(400, 0.1)
    *_, trained, _ = run_teams(
        Plan(softsign_builder().build()),
        [x, y, w, rates],
        epoch_rows=50,
        batch_rows=16,
        step_end=400,
    )
    for _, rows in epoch_slices(50, 16, 400):
        z = x[rows] @ w
        da = 2 / len(z) * (z / (1 + np.abs(z)) - y[rows])
        w = w - 0.1 * x[rows].T @ (da / (1 + np.abs(z)) ** 2)
    assert_allclose(trained, w, rtol=1e-9)
    assert np.abs(trained - goal).max() < 0.5 * np.abs(goal).max()


def test_checks_of_an_op_from_outside_are_used(custom_ops):
    """A plan that its check refuses does not load."""
    builder = softsign_builder()
    builder.ops[3][0] = SOFTSIGN_GRADIENT
    with pytest.raises(
        DlcoreError, match=r"op 3 \(softsign_gradient\): its operands or attributes"
    ):
        Plan(builder.build())


@pytest.mark.parametrize("name", ["softsign_unbound", "softsign_unpacked"])
def test_an_op_that_says_what_it_binds_or_packs_can_do_so(custom_ops, name):
    expected = "both of bind and bound_bytes or neither, and all of pack, packed_bytes and packed_"
    with pytest.raises(ValueError, match=expected):
        register_op(address_of(custom_ops, name))


def test_a_code_is_registered_once(custom_ops):
    """An op cannot take the place of another."""
    with pytest.raises(ValueError, match="opcode 4096 is already taken by op softsign"):
        register_op(address_of(custom_ops, "softsign_again"))
