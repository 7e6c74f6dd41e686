"""Running hand-made plans in tests: with every team size, which must give the same bits."""

from contextlib import contextmanager

import numpy as np

import dlcore as dl
from dlcore import _native
from dlcore._plan import Plan
from plan_builder import PlanBuilder

TEAMS = (1, 2, 3, 8)


@contextmanager
def large_teams():
    """Lets runs of any size have teams of up to 8 threads, whatever the machine has."""
    threshold = _native.get_serial_threshold()
    _native.set_serial_threshold(0)
    dl.set_num_threads(max(TEAMS))
    yield
    dl.set_num_threads(0)
    _native.set_serial_threshold(threshold)


def run_to_end(plan, bindings, *, step_begin=0, step_end, **options):
    """Calls run until all steps are done; the team sizes and how many steps each call did."""
    calls = []
    while step_begin < step_end:
        done, threads = plan.run(bindings, step_begin=step_begin, step_end=step_end, **options)
        assert done > 0
        calls.append((done, threads))
        step_begin += done
    return calls


def run_teams(plan, bindings, **options):
    """Runs with each team on copies of the bindings, which must come out alike; those copies."""
    results = []
    for threads in TEAMS:
        copies = [None if array is None else array.copy() for array in bindings]
        calls = run_to_end(plan, copies, threads=threads, **options)
        assert {team for _, team in calls} == {threads}
        results.append(copies)
    for copies in results[1:]:
        for expected, actual in zip(results[0], copies, strict=True):
            if expected is not None:
                assert expected.tobytes() == actual.tobytes()
    return results[0]


def epoch_slices(epoch_rows, batch_rows, step_end):
    """The positions of each step, as slices of the epoch, and its epoch."""
    per_epoch = -(-epoch_rows // batch_rows)
    for step in range(step_end):
        begin = step % per_epoch * batch_rows
        yield step // per_epoch, slice(begin, min(begin + batch_rows, epoch_rows))


def same_bits(a, b):
    return np.asarray(a).tobytes() == np.asarray(b).tobytes()


def tolerance(dtype):
    return {"rtol": 200 * np.finfo(dtype).eps, "atol": 20 * np.finfo(dtype).eps}


def one_op(opcode, outs, ins, attributes=(), *, capacity=40):
    """A plan of one op on slots: outs and ins are (kind, dtype, shape), the shape as in `bound`."""
    builder = PlanBuilder(capacity)
    out_tensors = [builder.bound(*out, writable=True) for out in outs]
    in_tensors = [builder.bound(*value) for value in ins]
    builder.op(opcode, out_tensors, in_tensors, attributes)
    return Plan(builder.build())
