"""Data that is mapped from a file: the same results, and rows read a step ahead."""

import ctypes
import mmap
import os
import resource
import time

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import dlcore as dl
import plan_builder as pb
from dlcore._plan import Plan
from dlcore.memory import is_mapped
from plan_builder import PlanBuilder
from plan_runs import TEAMS, large_teams

ROW = 2 * mmap.PAGESIZE // 8  # doubles, two pages
ROWS = 1 << 15  # some 256 MB, next to nothing of it on the disk


def gathering():
    """A plan that gathers rows of doubles."""
    builder = PlanBuilder(4)
    out = builder.bound(pb.STREAM, "f8", (ROW,), writable=True)
    builder.op(pb.GATHER, [out], [builder.bound(pb.DATASET, "f8", (ROW,))])
    return Plan(builder.build())


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def sparse_file(tmp_path):
    """A file of zeros whose pages are in memory only once they have been read."""
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(ROWS * ROW * 8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
    np.memmap(path, np.float64, "r", shape=(ROWS, ROW))[0].sum()
    if resource.getrusage(resource.RUSAGE_SELF).ru_majflt == before:
        pytest.skip("this file system keeps its files in memory, or the kernel counts no faults")
    return path


def mapped(path):
    """The rows of a file, none of which is in memory."""
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    data = np.memmap(path, np.float64, "r", shape=(ROWS, ROW))
    assert not any(is_in_memory(data, row) for row in (0, ROWS // 2, ROWS - 1))
    return data


def is_in_memory(data, row):
    """Whether both pages of a row are."""
    resident = (ctypes.c_ubyte * 2)()
    address = ctypes.c_void_p(data.ctypes.data + row * ROW * 8)
    assert ctypes.CDLL(None).mincore(address, ctypes.c_size_t(ROW * 8), resident) == 0
    return all(page & 1 for page in resident)


def comes_to_memory(data, row):
    """Whether a row does while one waits: it was asked for."""
    deadline = time.monotonic() + 10
    while not is_in_memory(data, row) and time.monotonic() < deadline:
        time.sleep(0.01)
    return is_in_memory(data, row)


def run_first_step(data, order, threads=1, *, step_end=2):
    """One step of 4 rows, as a budget that is spent at once ends the run."""
    out = np.empty((8, ROW))
    with large_teams():
        done, _ = gathering().run(
            [out, data],
            order=np.array(order),
            epoch_rows=8,
            batch_rows=4,
            step_end=step_end,
            threads=threads,
            budget=1e-9,
        )
    assert done == 1


# Far apart: the kernel reads more than it is asked for, up to megabytes.
FIRST = [0, ROWS // 8, 3 * ROWS // 8, 5 * ROWS // 8]
SECOND = [ROWS // 4, ROWS // 2, ROWS // 2 + 1, ROWS - 1]


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="no posix_fadvise to empty the cache")
class TestRowsInAFile:
    """What is read of a file whose pages are not in memory."""

    @pytest.mark.parametrize("threads", TEAMS)
    def test_those_of_the_next_step_are_asked_for(self, sparse_file, threads):
        """Each thread asks for its share of them, once it has waited for a page."""
        data = mapped(sparse_file)
        run_first_step(data, FIRST + SECOND, threads)
        assert all(comes_to_memory(data, row) for row in SECOND)

    def test_those_beyond_the_run_are_not(self, sparse_file):
        """The last step has no next one."""
        data = mapped(sparse_file)
        run_first_step(data, FIRST + SECOND, step_end=1)
        time.sleep(0.1)
        assert not any(is_in_memory(data, row) for row in SECOND)

    def test_those_of_data_in_memory_are_not(self, sparse_file):
        """A thread that waits for no page asks for none: each would take a system call."""
        run_first_step(np.zeros((ROWS, ROW)), FIRST + SECOND)  # code, too, comes from files
        data = mapped(sparse_file)
        data[np.array(FIRST)].sum()
        run_first_step(data, FIRST + SECOND)
        time.sleep(0.1)
        assert not any(is_in_memory(data, row) for row in SECOND)

    def test_rows_that_do_not_exist_fail_in_their_own_step(self, sparse_file):
        """To ask for them reads nothing, and the step before them is complete."""
        bad = [-1, ROWS, 1 << 62, -(1 << 62)]
        data = mapped(sparse_file)
        run_first_step(data, FIRST + bad)
        with pytest.raises(ValueError, match="order names row -1"):
            gathering().run(
                [np.empty((8, ROW)), data],
                order=np.array(FIRST + bad),
                epoch_rows=8,
                batch_rows=4,
                step_end=2,
            )


def test_is_mapped_sees_through_views(tmp_path):
    """The memory of a memmap is a file's, whatever looks at it; a copy's is not."""
    array = np.memmap(tmp_path / "data", np.float32, "w+", shape=(6, 4))
    with (tmp_path / "data").open("rb") as file:
        buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    for view in (array, np.asarray(array)[2:, 1], array.T.view(np.ndarray), np.frombuffer(buffer)):
        assert is_mapped(view)
    for copy in (array.copy(), np.array(array), array + 1, np.zeros(3)):
        assert not is_mapped(copy)


@pytest.mark.parametrize("rows_of_a_batch", [16, 500])
@pytest.mark.parametrize("dtype", ["u1", "f4", "f8"])
def test_training_from_a_file_gives_the_same_bits(tmp_path, rng, dtype, rows_of_a_batch):
    """In blocks of rows and in whole batches, with inputs and labels from read-only files."""
    x, y = rng.integers(0, 9, (700, 20)).astype(dtype), rng.integers(0, 3, 700)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    files = [np.load(tmp_path / name, mmap_mode="r") for name in ("x.npy", "y.npy")]
    results = []
    for inputs, labels in [(x, y), files]:
        model = dl.nn.Sequential(dl.nn.Linear(20, 16), dl.nn.Tanh(), dl.nn.Linear(16, 3))
        optimizer = dl.optim.Adam(1e-2)
        history = model.fit(
            inputs,
            labels,
            loss="cross_entropy",
            optimizer=optimizer,
            epochs=3,
            batch_size=rows_of_a_batch,
            seed=1,
        )
        results.append((history["loss"], model.predict(inputs)))
    assert results[0][0] == results[1][0]
    assert results[0][0][2] < results[0][0][0]
    assert_array_equal(results[0][1], results[1][1])
