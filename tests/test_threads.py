"""Threads: forked children, several trainings at once, limits, and other libraries beside."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

import dlcore as dl
from dlcore import _native


def train(seed=0, hidden=64):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(512, 32)).astype(np.float32), rng.integers(0, 5, 512)
    model = dl.nn.Sequential(dl.nn.Linear(32, hidden), dl.nn.ReLU(), dl.nn.Linear(hidden, 5))
    model.fit(x, y, loss="cross_entropy", batch_size=64, epochs=3, seed=seed)
    return model.parameters()["0.weight"].copy()


@pytest.fixture
def teams_of_two():
    before = _native.get_serial_threshold()
    _native.set_serial_threshold(0)
    dl.set_num_threads(2)
    yield
    dl.set_num_threads(0)
    _native.set_serial_threshold(before)


def _child(queue):
    queue.put(train())


def test_a_forked_child_trains_after_its_parent_did(teams_of_two):
    """The parent's OpenMP threads are not there in the child; it must not wait for them."""
    assert _native.team_size(2) == 2
    expected = train()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_child, args=(queue,))
    child.start()
    try:
        got = queue.get(timeout=5)
    finally:
        child.join(timeout=5)
        hangs = child.is_alive()
        child.kill()
    assert not hangs
    np.testing.assert_array_equal(got, expected)


def test_two_threads_train_two_models(teams_of_two):
    """Each gets what it gets alone."""
    expected = [train(seed=1), train(seed=2, hidden=48)]
    results = [None, None]

    def work(i, **arguments):
        results[i] = train(**arguments)

    workers = [
        threading.Thread(target=work, args=(0,), kwargs={"seed": 1}),
        threading.Thread(target=work, args=(1,), kwargs={"seed": 2, "hidden": 48}),
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
        assert not worker.is_alive()
    for got, wanted in zip(results, expected, strict=True):
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_teams_have_the_size_that_was_asked_for(threads):
    dl.set_num_threads(threads)
    try:
        assert dl.get_num_threads() == threads
        assert _native.team_size(threads) == threads
    finally:
        dl.set_num_threads(0)


def test_set_num_threads_refuses_negative_numbers():
    with pytest.raises(ValueError, match="-1"):
        dl.set_num_threads(-1)


def run_python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_omp_num_threads_is_respected():
    result = run_python("import dlcore as dl; print(dl.get_num_threads())", OMP_NUM_THREADS="1")
    assert result.stdout.strip() == "1", result.stderr


def test_threadpoolctl_is_respected():
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed")
    limit = dl.get_num_threads()
    with threadpoolctl.threadpool_limits(1):
        assert dl.get_num_threads() == 1
    assert dl.get_num_threads() == limit


@pytest.mark.parametrize("other", ["sklearn.linear_model", "torch"])
@pytest.mark.parametrize("order", ["first", "last"])
def test_other_libraries_in_either_order(other, order):
    """Several OpenMP runtimes in one process work whichever is imported first."""
    pytest.importorskip(other.split(".")[0], reason=f"{other} is not installed")
    use = {
        "torch": "import torch; torch.randn(300, 300) @ torch.randn(300, 300)",
        "sklearn.linear_model": (
            "from sklearn.linear_model import LinearRegression; "
            "LinearRegression().fit([[1.0], [2.0]], [1.0, 2.0])"
        ),
    }[other]
    ours = """
    import numpy as np, dlcore as dl
    x = np.ones((64, 300), np.float32)
    model = dl.nn.Sequential(dl.nn.Linear(300, 64), dl.nn.ReLU(), dl.nn.Linear(64, 2))
    history = model.fit(x, np.zeros(64, int), loss="cross_entropy", epochs=30)
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    """
    parts = [use, textwrap.dedent(ours)]
    if order == "last":
        parts.reverse()
    result = run_python("\n".join([*parts, use, "print('done')"]))
    assert result.stdout.strip() == "done", result.stderr


def test_an_unknown_isa_is_refused_by_name():
    result = run_python("import dlcore as dl; dl.ops.relu([1.0])", DLCORE_ISA="x86-64-v9")
    assert result.returncode != 0
    assert "x86-64-v9" in result.stderr
    for name in _native.isa_available():
        assert name in result.stderr


def test_interrupts_are_seen_within_a_long_native_run():
    """Native code gives control back, so that a signal ends a fit that has hours to go."""
    code = """
    import os, signal, threading
    import numpy as np, dlcore as dl
    x = np.ones((256, 64), np.float32)
    model = dl.nn.Sequential(dl.nn.Linear(64, 64), dl.nn.ReLU(), dl.nn.Linear(64, 1))
    model.fit(x, np.ones(256), loss="mse", epochs=1)
    # SIGINT is ignored by what a shell starts in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    try:
        model.fit(x, np.ones(256), loss="mse", epochs=10**8)
    except KeyboardInterrupt:
        print("interrupted", np.isfinite(model.predict(x)).all())
    """
    result = run_python(code)
    assert result.stdout.strip() == "interrupted True", result.stderr


def test_signals_are_seen_within_a_long_prediction():
    """A handler runs more often than once, which is what a signal after the end would make it."""
    code = """
    import signal
    import numpy as np, dlcore as dl
    dl.set_num_threads(1)
    x = np.ones((60_000, 64), np.float32)
    layers = dl.nn.Linear(64, 1024), dl.nn.ReLU(), dl.nn.Linear(1024, 1024), dl.nn.Linear(1024, 1)
    model = dl.nn.Sequential(*layers).init()
    expected = model.predict(x[:1])
    seen = []
    signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    result = model.predict(x)
    print(len(seen) > 1, np.allclose(result, expected, rtol=1e-4))
    """
    result = run_python(code)
    assert result.stdout.strip() == "True True", result.stderr
