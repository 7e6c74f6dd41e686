"""The size of teams follows what is measured, and the results do not."""

import numpy as np
import pytest

import dlcore as dl
from dlcore import team
from dlcore.team import ALONE, AS_DESERVED, TeamSize


class Machine:
    """A clock, and runs whose steps take as long as is said."""

    def __init__(self, together, alone, threads=2):
        self.seconds = {AS_DESERVED: together, ALONE: alone}
        self.threads = threads
        self.time = 100.0
        self.calls = []

    def now(self):
        return self.time

    def run(self, threads, budget):
        steps = max(1, int(budget / self.seconds[threads]))
        self.time += steps * self.seconds[threads]
        self.calls.append((threads, budget))
        return steps, self.threads if threads == AS_DESERVED else 1

    def shares(self, calls=200):
        """Of the time, what runs alone took, from the state in hand on."""
        size, self.calls = TeamSize(self.now), []
        begin, alone = self.time, 0.0
        for _ in range(calls):
            before = self.time
            assert size.run(self.run) >= 1
            alone += (self.time - before) * (self.calls[-1][0] == ALONE)
        return alone / (self.time - begin)


def test_the_faster_size_gets_nearly_all_the_time():
    assert Machine(together=1e-3, alone=1.9e-3).shares() < 0.02
    assert Machine(together=1e-3, alone=0.7e-3).shares() > 0.98


def test_a_plan_that_deserves_one_thread_is_not_measured():
    assert Machine(together=1e-3, alone=1e-5, threads=1).shares() == 0


def test_steps_that_are_long_are_not_run_alone():
    assert Machine(together=2 * team.LONGEST_STEP, alone=1e-3).shares() == 0


def test_a_change_is_seen_at_the_next_look():
    machine = Machine(together=1e-3, alone=2e-3)
    size = TeamSize(machine.now)
    seen = []
    for together in (1e-3, 3e-3, 1e-3):
        machine.seconds[AS_DESERVED] = together
        end = machine.time + 1.5 * team.LONGEST_PAUSE
        while machine.time < end:
            size.run(machine.run)
        seen.append(machine.calls[-1][0])
    assert seen == [AS_DESERVED, ALONE, AS_DESERVED]


def test_the_first_call_of_either_size_is_no_measure():
    """It wakes threads, and fetches what the others wrote."""
    machine = Machine(together=4e-3, alone=4e-3)
    size = TeamSize(machine.now)
    size.run(machine.run)
    machine.seconds[AS_DESERVED] = 3e-3
    size.run(machine.run)
    size.run(machine.run)
    machine.seconds[ALONE] = 2e-3
    size.run(machine.run)
    size.run(machine.run)
    sizes = [threads for threads, _ in machine.calls]
    assert sizes == [AS_DESERVED, AS_DESERVED, ALONE, ALONE, ALONE]


def test_looks_are_rarer_while_nothing_changes():
    machine = Machine(together=1e-3, alone=2e-3)
    size = TeamSize(machine.now)
    begins = []
    for _ in range(100):
        begins += [machine.time] * (not size._to_measure and size._until_look <= 0)
        size.run(machine.run)
    pauses = np.diff(begins)
    assert pauses[0] < 0.3
    assert np.all(np.diff(pauses) > -team.BUDGET)  # a look is due at the end of a call
    assert pauses[-1] == pytest.approx(team.LONGEST_PAUSE, abs=2 * team.BUDGET)


def test_a_run_that_fails_leaves_a_size_that_goes_on():
    machine = Machine(together=1e-3, alone=2e-3)
    size = TeamSize(machine.now)

    def fail(threads, budget):
        raise ValueError("label")

    for measured in range(4):
        for _ in range(measured):
            size.run(machine.run)
        for _ in range(3):
            with pytest.raises(ValueError, match="label"):
                size.run(fail)
    for _ in range(100):
        size.run(machine.run)
    assert machine.calls[-1] == (AS_DESERVED, team.BUDGET)


@pytest.mark.parametrize("together", [1e-4, 4e-4])
def test_training_is_the_same_whichever_size_is_taken(monkeypatch, together):
    """Of every plan that is trained, teams are measured to be slower, or faster."""
    x = np.random.default_rng(0).standard_normal((640, 40))
    y = np.arange(640) % 3

    def train(threads):
        dl.set_num_threads(threads)
        model = dl.nn.Sequential(dl.nn.Linear(40, 300), dl.nn.ReLU(), dl.nn.Linear(300, 3)).init(0)
        losses = model.fit(x, y, loss="cross_entropy", batch_size=64, epochs=20)["loss"]
        return losses, {name: value.tobytes() for name, value in model.parameters().items()}

    try:
        expected = train(1)
        sizes = []

        def note(self, size, used, step_seconds):
            sizes.append(size)
            original(self, size, 2, together if size == AS_DESERVED else 2e-4)

        original = TeamSize._note
        monkeypatch.setattr(TeamSize, "_note", note)
        monkeypatch.setattr(team, "LOOK_BUDGET", 1e-9)
        monkeypatch.setattr(team, "LONGEST_PAUSE", 0.0)
        assert train(2) == expected
    finally:
        dl.set_num_threads(0)
    assert {AS_DESERVED, ALONE} <= set(sizes)
