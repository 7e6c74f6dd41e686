"""The bench: it runs without peers and beside them, judges by the goals it states, draws sizes that
a seed fixes, catches wrong results, and finds what fell behind an earlier run."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dlcore import _native
from dlcore.bench import command, report, rows, suites, work
from dlcore.bench.contest import Contest, Contestant, ContestantError
from dlcore.bench.figures import Spread, markdown_table, ratios, table
from dlcore.bench.goals import Goal
from dlcore.bench.libraries import Case, Dlcore
from dlcore.bench.measure import Measured, Result, judge, worst_drawn
from dlcore.bench.peers import PEERS
from dlcore.bench.rows import ROWS, KernelRow
from dlcore.bench.suites import SUITES

pytestmark = pytest.mark.isa_independent

ROOT = Path(__file__).parents[1]


def measured(seconds, limit=None, sizes=(64, 64, 64), errors=None):
    """A size at which every round took the same time; limit: seconds of it."""
    rounds = 3
    return Measured(
        sizes=sizes,
        flops=1000,
        bytes=100,
        seconds={name: [value] * rounds for name, value in seconds.items()},
        limits=[{} if limit is None else {"seconds": limit}] * rounds,
        errors=errors or dict.fromkeys(seconds, 0.0),
        foreign=0.0,
    )


def result(goal, nominal, drawn=(), threads=1):
    row = KernelRow("gemm", "64^3", "matmul", (64, 64, 64), "fma", goal)
    return Result(row, "float32", threads, nominal, list(drawn))


# The command


TINY = "bench --threads 1 --rounds 2 --quick --seed 3"


def test_run_with_numpy_report_and_comparison(run):
    status, out, err = run(f"{TINY} call gemm --rows 8^3 --peers numpy --json now.json")
    assert status == 0, err
    assert "matmul 8^3 out=" in out
    assert "goals are met" in out

    written = json.loads(Path("now.json").read_text())
    assert written["seed"] == 3
    assert [contest["threads"] for contest in written["contests"]] == [1]
    roofs = {"fma float32", "fma float64", "copy", "copy in L2"}
    assert set(written["contests"][0]["roofs"]) == roofs
    assert [(row["suite"], row["name"], row["dtype"]) for row in written["rows"]] == [
        ("gemm", "8^3", "float32"),
        ("gemm", "8^3", "float64"),
        ("call", "matmul 8^3", "float32"),
        ("call", "matmul 8^3 out=", "float32"),
    ]
    first = written["rows"][0]
    assert first["goal"]["vs"]["numpy"] == 3.0
    assert first["nominal"]["flops"] == 2 * 8**3
    assert first["nominal"]["bytes"] == 4 * 3 * 8**2
    for times in first["nominal"]["seconds"].values():
        assert len(times) == 2
        assert all(0 < seconds < 1 for seconds in times)
    assert all(limit["seconds"] > 0 for limit in first["nominal"]["limits"])
    assert set(first["nominal"]["ratios"]) == {"numpy"}

    # A run beside which this one is a tenth as good, and the run beside itself.
    assert report.regressions(written, written) == ([], 4)
    earlier = copy.deepcopy(written)
    for key in ("low", "median", "high"):
        earlier["rows"][1]["nominal"]["fraction_of_limit"][key] *= 10
        earlier["rows"][2]["nominal"]["ratios"]["numpy"][key] *= 10
    lines, compared = report.regressions(written, earlier)
    assert compared == 4
    assert [line.partition(":")[0] for line in lines] == [
        "gemm/8^3/float64/1",
        "call/matmul 8^3/float32/1",
    ]

    for key in ("low", "median", "high"):
        earlier["rows"][0]["nominal"]["fraction_of_limit"][key] = 100.0
    Path("earlier.json").write_text(json.dumps(earlier))
    status, out, err = run(
        f"{TINY} gemm --rows 8^3 --dtype float32 --peers none --against earlier.json"
    )
    assert status == 1
    assert "REGRESSION gemm/8^3/float32/1: of limit" in err
    assert "1 rows compared with the earlier run, 1 regressions" in out


def test_run_without_peers_draws_sizes_and_a_roofline(run):
    pytest.importorskip("matplotlib")
    command = "bench gemm --rows 64^3 --threads 1 --rounds 1 --peers none --seed 3"
    status, out, err = run(f"{command} --dtype float32 --markdown --json a.json --plot roof.png")
    assert status == 0, err
    assert "| --- |" in out
    assert Path("roof.png").read_bytes().startswith(b"\x89PNG")
    (row,) = json.loads(Path("a.json").read_text())["rows"]
    assert [tuple(size["sizes"]) for size in row["drawn"]] == ROWS_BY_NAME["64^3"].drawn(3)
    assert row["verdict"] == "-"  # its goal is a ratio to a peer that takes no part


def test_a_wrong_result_fails_the_run(run, monkeypatch):
    monkeypatch.setattr(rows, "tolerance", lambda op, sizes, dtype: -1.0)
    status, _, err = run(f"{TINY} gemm --rows 8^3 --dtype float32 --peers none")
    assert status == 1
    assert "WRONG gemm/8^3/float32/1 at 8x8x8: the result of dlcore is off by" in err


def test_python_m_bench_from_the_repository():
    command = [sys.executable, "-m", "bench", "call", "--rows", "relu 8", "--peers", "none"]
    done = subprocess.run(
        [*command, "--threads", "1", "--quick"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "relu 8" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("nonsense", f"expected one of {', '.join(SUITES)}, got 'nonsense'"),
        ("--threads 0", "expected a whole number of at least 1, got '0'"),
        ("--threads 4096", "--threads 4096: this process may run on"),
        ("--dtype int32", "expected one of float32, float64, got 'int32'"),
        ("--peers numpy,scipy", f"expected one of {', '.join(suites.PEERS)}, got 'scipy'"),
        ("gemm --peers torch,sklearn", "--peers: sklearn has no part in these suites"),
        ("train --dtype float64", "no row is measured in float64"),
        ("train --plot a.png", "--plot draws one picture"),
        ("gemm scale --plot a.png", "--plot draws one picture"),
        ("--rounds 0", "expected a whole number of at least 1, got '0'"),
        ("--rows nonsense", "no row's name has words that match 'nonsense'"),
        ("--against missing.json", "cannot read missing.json"),
        ("--against .", "cannot read .: Is a directory"),
        ("--json missing/a.json", "cannot write missing/a.json: no such directory"),
    ],
)
def test_bad_options_are_one_line_and_status_2(run, arguments, message):
    status, _, err = run(f"bench {arguments}")
    assert status == 2
    assert err.count("\n") == 1
    assert err.startswith("dlcore: error: ")
    assert message in err


@pytest.mark.parametrize("content", ["not json", "[]", '{"format": 0}'])
def test_against_a_file_of_another_kind(run, content):
    Path("other.json").write_text(content)
    status, _, err = run("bench --against other.json")
    assert status == 2
    assert "other.json" in err


def test_missing_matplotlib_is_named(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    status, _, err = run("bench --plot roof.png")
    assert status == 2
    assert "pip install 'dlcore[plot]'" in err


# Rows and their sizes

ROWS_BY_NAME = {row.name: row for row in ROWS if row.suite == "gemm"}


def test_rows_have_names_of_their_own_and_known_parts():
    assert len({(row.suite, row.name) for row in ROWS}) == len(ROWS)
    for row in ROWS:
        assert row.op in work.WORK
        assert row.limit in rows.LIMITS
        assert hasattr(Dlcore, f"_limit_{row.limit}")
        assert set(row.goal.vs) <= {*PEERS, "best"}


def test_dlcore_takes_part_in_every_row():
    assert {row.op for row in ROWS} <= set(Dlcore.statements)


@pytest.mark.parametrize("seed", [0, 20261124])
def test_drawn_sizes_are_within_a_tenth_and_fixed_by_the_seed(seed):
    for row in ROWS:
        drawn = row.drawn(seed)
        assert drawn == row.drawn(seed)
        assert len(drawn) == (0 if max(row.sizes) < 16 else rows.DRAWN)
        for sizes in drawn:
            for size, nominal in zip(sizes, row.sizes, strict=True):
                assert abs(size - nominal) <= nominal / 10
                assert size == nominal or nominal >= 16
    assert any(row.drawn(seed) != row.drawn(seed + 1) for row in ROWS)


def test_drawn_sizes_reach_both_sides_of_the_nominal_one():
    row = ROWS_BY_NAME["512^3"]
    drawn = [size for seed in range(50) for sizes in row.drawn(seed) for size in sizes]
    assert 460 <= min(drawn) < 470
    assert 554 < max(drawn) <= 563


def chosen(names, pattern, quick):
    return [row for _, rows in suites.choose_rows(names, pattern, quick) for row in rows]


def test_choosing_rows():
    kernels = ("gemm", "elementwise", "functions", "reduce", "step", "call")
    assert set(SUITES) == {*kernels, "train", "infer", "scale"}
    assert {row.suite for row in chosen([], None, quick=False)} == {*kernels, "train", "infer"}
    assert {row.suite for row in chosen(["scale"], None, quick=False)} == {"scale"}
    names = [row.name for row in chosen(["gemm"], "*1024*", quick=False)]
    cubes = ["1024^3", "1024^3 bfloat16", "1024^3 packed bfloat16"]
    assert names == [*cubes, "1x1024x1024", "1024x1024x1"]
    assert not any(row.heavy for row in chosen(SUITES, None, quick=True))
    assert chosen([], "no such row", quick=False) == []


def test_rows_are_measured_in_dtypes_that_they_exist_in():
    product, rounded = ROWS_BY_NAME["512^3"], ROWS_BY_NAME["512^3 bfloat16"]
    assert product.dtypes_of(None) == product.dtypes_of(["float32", "float64"])
    assert product.dtypes_of(["float64"]) == ["float64"]
    assert rounded.dtypes_of(None) == rounded.dtypes_of(["float32", "float64"]) == ["float32"]
    assert rounded.dtypes_of(["float64"]) == []


@pytest.mark.parametrize("kind", ["emulated", "native", "amx"])
def test_bfloat16_that_is_emulated_is_left_out_by_name(run, monkeypatch, kind):
    monkeypatch.setattr(_native, "bfloat16_kind", lambda: kind)
    rounded = ("512^3 bfloat16", "512^3 packed bfloat16")
    chosen = [row for row in ROWS if row.name in ("64^3", *rounded)]
    kept, sentence = command._split_by_cpu(chosen)
    if kind != "emulated":
        assert (kept, sentence) == (chosen, "")
        return
    assert [row.name for row in kept] == ["64^3"]
    assert sentence == f"left out: {', '.join(rounded)}, as bfloat16 is emulated here"
    status, _, err = run(f"{TINY} gemm --rows *bfloat16")
    assert status == 2
    assert "1024^3 packed bfloat16, as bfloat16 is emulated here" in err


# Verdicts


@pytest.mark.parametrize(
    ("goal", "seconds", "limit", "expected"),
    [
        (Goal(0.9), {"dlcore": 1.0}, 0.9, "met"),
        (Goal(0.9), {"dlcore": 1.0}, 0.89, "short"),
        (Goal(0.9), {"dlcore": 1.0}, np.nan, "short"),
        (Goal(0.9), {"dlcore": 1.0}, None, "-"),
        (Goal(), {"dlcore": 1.0, "numpy": 0.1}, 0.1, "-"),
        (Goal(vs={"numpy": (1.1, 2.0)}), {"dlcore": 1.0, "numpy": 1.1}, None, "met"),
        (Goal(vs={"numpy": (1.1, 2.0)}), {"dlcore": 1.0, "numpy": 1.0}, None, "short"),
        (Goal(vs={"numpy": (1.1, 2.0)}), {"dlcore": 1.0, "torch": 0.5}, None, "-"),
        (Goal(vs={"best": (1.2, 1.2)}), {"dlcore": 1, "numpy": 3, "torch": 1.1}, None, "short"),
        (Goal(vs={"best": (1.2, 1.2)}), {"dlcore": 1, "numpy": 3, "torch": 1.2}, None, "met"),
        (Goal(0.9, {"numpy": (1.0, 1.0)}), {"dlcore": 1, "numpy": 2}, 0.5, "short"),
        (Goal(0.9, {"numpy": (1.0, 1.0)}, True), {"dlcore": 1, "numpy": 2}, 0.5, "met by ratio"),
        (Goal(0.9, {"numpy": (1.0, 1.0)}, True), {"dlcore": 1, "numpy": 0.9}, 0.95, "short"),
        (Goal(0.9, {"numpy": (1.0, 1.0)}, True), {"dlcore": 1}, 0.5, "short"),
        (Goal((0.9, None)), {"dlcore": 1.0}, 0.8, "short"),
        (Goal((None, 0.9)), {"dlcore": 1.0}, 0.8, "-"),
        (Goal(vs={"jax": (None, 2.0)}), {"dlcore": 1.0, "jax": 0.1}, None, "-"),
        (Goal(vs={"jax": 2.0}), {"dlcore": 1.0, "jax": 1.9}, None, "short"),
        (Goal(seconds=0.01), {"dlcore": 0.01}, None, "met"),
        (Goal(seconds=0.01), {"dlcore": 0.011, "numpy": 1.0}, None, "short"),
        (Goal(seconds=0.01), {"dlcore": np.nan}, None, "short"),
    ],
)
def test_verdicts(goal, seconds, limit, expected):
    verdict, short = judge(result(goal, measured(seconds, limit)))
    assert verdict == expected
    assert bool(short) == (expected in ("short", "met by ratio"))


def test_goals_depend_on_the_number_of_threads():
    goal = Goal(vs={"numpy": (1.1, 2.0)})
    size = measured({"dlcore": 1.0, "numpy": 1.5})
    assert judge(result(goal, size, threads=1))[0] == "met"
    assert judge(result(goal, size, threads=2)) == ("short", ["numpy 1.5 < 2"])
    assert goal.text(2) == "numpy 2"


def test_a_goal_met_at_its_exact_size_only_is_short():
    good, bad = measured({"dlcore": 1.0}, 1.0), measured({"dlcore": 1.0}, 0.5, (60, 61, 62))
    verdict, short = judge(result(Goal(0.9), good, [good, bad]))
    assert verdict == "short when drawn"
    assert short == ["limit 0.5 < 0.9 at 60x61x62"]
    assert worst_drawn(result(Goal(), good, [good, bad])) is bad


def test_cells_hold_the_worst_drawn_size():
    nominal = measured({"dlcore": 1e-3, "numpy": 2e-3}, 5e-4)
    drawn = measured({"dlcore": 1e-3, "numpy": 1e-3}, 4e-4, (60, 61, 62))
    one = result(Goal(0.4), nominal, [drawn])
    header, [line] = report.tables([one], ["numpy", "torch"])
    name, us, rate, fraction, numpy, torch, worst, goal, verdict = line
    assert (name, us, rate) == ("64^3", "1000", "0.001 GFLOP/s")
    assert (fraction, numpy, torch) == ("0.5 [0.5, 0.5]", "2 [2, 2]", "-")
    assert (worst, goal, verdict) == ("0.4, numpy 1 at 60x61x62", "0.4 of limit", "met")
    assert header[4:7] == ["numpy", "torch", "worst drawn"]
    assert "worst drawn" not in report.tables([result(Goal(), nominal)], ["numpy"])[0]


@pytest.mark.parametrize("size", [1.0, np.nan])
def test_wrong_results_are_named(size):
    errors = {"dlcore": 1e-7, "numpy": size}
    wrong = result(Goal(), measured({"dlcore": 1.0, "numpy": 1.0}, errors=errors)).wrong()
    assert len(wrong) == 1
    assert "gemm/64^3/float32/1 at 64x64x64: the result of numpy is off by" in wrong[0]


# Work and contestants


SMALL = {1: (37,), 2: (21, 19), 3: (17, 18, 19)}


def case(op, dtype):
    dimensions = next(len(row.sizes) for row in ROWS if row.op == op)
    return Case(op, SMALL[dimensions], dtype, "none", 0, 1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("library", ["dlcore", "numpy"])
def test_statements_compute_what_the_reference_says(library, dtype):
    contestant = Dlcore(None, 1) if library == "dlcore" else PEERS[library](None, 1)
    for op in contestant.statements:
        one = case(op, dtype)
        prepared = contestant.prepare(one)
        if dtype not in work.WORK[op].dtypes:
            assert prepared is None
            continue
        assert prepared.error <= work.tolerance(op, one.sizes, dtype), op
        assert contestant.turn(one) > 0


@pytest.mark.parametrize("limit", rows.LIMITS)
def test_limits(limit):
    op = next(row.op for row in ROWS if row.limit == limit)
    one = case(op, "float32")
    one = Case(op, one.sizes, "float32", limit, 0, 1e-5)
    dlcore = Dlcore(None, 1)
    dlcore.prepare(one)
    found = dlcore.limits(one)
    assert all(np.isfinite(value) for value in found.values())
    assert limit == "none" or found["seconds"] > 0


def test_errors_reject_zeros_and_nan():
    arrays = work.make_inputs("matmul", (9, 8, 7), "float32", 0)
    right = arrays["a"] @ arrays["b"]
    allowed = work.tolerance("matmul", (9, 8, 7), "float32")
    assert work.error("matmul", arrays, right) <= allowed
    assert not work.error("matmul", arrays, np.zeros_like(right)) <= allowed
    assert not work.error("matmul", arrays, np.full_like(right, np.nan)) <= allowed
    assert not work.error("matmul", arrays, right * np.float32(1.0001)) <= allowed


def test_inputs_are_the_same_for_all_and_aligned():
    first, second = (work.make_inputs("matmul_ta", (33, 5, 4), "float64", 7) for _ in range(2))
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])
        assert array.ctypes.data % 64 == 0
    assert first["a"].flags.f_contiguous
    assert not first["a"].flags.c_contiguous


# Contests


class Sleeper(Contestant):
    """Spins in a thread of its own, as idle threads of libraries do."""

    name = "sleeper"

    def __init__(self, task, threads):
        import threading

        threading.Thread(target=self._spin, daemon=True).start()

    def _spin(self):
        while True:
            pass

    def runs_on(self):
        return str(os.getpid())

    def turn(self, case):
        if case == "raise":
            raise ValueError("what went wrong")
        return None if case is None else case


def cpu_seconds(pid):
    return time.clock_gettime((~pid << 3) | 2)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the CPU clock of another process")
def test_waiting_contestants_are_stopped():
    with Contest([Sleeper], None, 1) as contest:
        pid = int(contest.runs_on["sleeper"])
        time.sleep(0.05)  # a signal takes effect when the process is next looked at
        before = cpu_seconds(pid)
        time.sleep(0.2)
        assert cpu_seconds(pid) == before
        held = contest.rounds(2, 0.5)
        assert held.seconds == {"sleeper": [0.5, 0.5]}
        with pytest.raises(ContestantError, match="what went wrong"):
            contest.rounds(1, "raise")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def test_spread_and_ratios():
    assert Spread.of([3.0]) == Spread(3.0, 3.0, 3.0)
    assert Spread.of([4.0, 1.0, 2.0, 3.0, 5.0]) == Spread(2.0, 3.0, 4.0)
    assert ratios([2.0, 6.0], [1.0, 2.0]).median == 2.5
    with pytest.raises(ValueError, match="longer|shorter"):
        ratios([1.0], [1.0, 2.0])


def test_tables():
    assert table(("a", "b"), [("x", "10")]) == "a   b\nx  10"
    assert markdown_table(("a", "b"), [("x", "10")]) == "| a | b |\n| --- | --- |\n| x | 10 |"
