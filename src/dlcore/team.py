"""How many threads a training run gets, by what they turn out to be worth.

What it costs threads to meet and to hand data to each other depends on where their cores are: with
no cache in common it is several times as much, the host of a virtual machine may move them there at
any moment, and other processes may hold a core. No count of operations tells. The result is the
same for any number of threads, so that it may follow measurements.
"""

from __future__ import annotations

import time
from collections.abc import Callable

AS_DESERVED, ALONE = 0, 1
"""The threads of a run: what the plan deserves by its cost and the limit allows, or one."""

BUDGET = 0.1
"""Seconds after which a native call returns at the next step, so that Ctrl-C is seen."""
LOOK_BUDGET, LOOK_STEPS = 0.0005, 2
"""The same of a call that is measured, and the steps that it should hold where they are longer."""
FIRST_PAUSE, LONGEST_PAUSE = {AS_DESERVED: 0.05, ALONE: 0.005}, 1.0
"""Seconds of running from one look to the next: twice as many after each that changed nothing.

A team that seems slow is soon looked at again: a thread that was just made can share the core of
its maker for a while.
"""
LONGEST_STEP = 0.005
"""Seconds of a step that gains by a team wherever its threads are."""


class TeamSize:
    """Takes the size of a plan's teams, of two, that is faster.

    Parameters
    ----------
    now : callable, optional
        The time in seconds.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter):
        self._now = now
        self._chosen = AS_DESERVED
        self._until_look = 0.0  # seconds of running
        self._pause = FIRST_PAUSE[AS_DESERVED]
        self._to_measure: list[int] = []
        self._step_seconds: dict[int, float] = {}

    def run(self, run: Callable[[int, float], tuple[int, int]]) -> int:
        """Call ``run(threads, budget)``, which returns the steps done and the threads used.

        Returns
        -------
        int
            The steps done.
        """
        if not self._to_measure and self._until_look <= 0:
            # Of two calls the second counts: the first wakes threads and fills caches.
            self._to_measure = [AS_DESERVED, AS_DESERVED, ALONE, ALONE]
        is_measured = bool(self._to_measure)
        size = self._to_measure.pop(0) if is_measured else self._chosen
        begin = self._now()
        try:
            steps, used = run(size, self._look_budget() if is_measured else BUDGET)
        except BaseException:
            self._to_measure = []  # the next call begins anew
            raise
        seconds = self._now() - begin
        self._until_look -= seconds
        if is_measured:
            self._note(size, used, seconds / steps)
        return steps

    def _look_budget(self) -> float:
        return max(LOOK_BUDGET, LOOK_STEPS * max(self._step_seconds.values(), default=0.0))

    def _note(self, size: int, used: int, step_seconds: float) -> None:
        self._step_seconds[size] = step_seconds
        if size == AS_DESERVED and (used == 1 or step_seconds > LONGEST_STEP):
            self._choose(AS_DESERVED)
        elif not self._to_measure:
            self._choose(min((AS_DESERVED, ALONE), key=self._step_seconds.__getitem__))

    def _choose(self, size: int) -> None:
        is_new, self._chosen = size != self._chosen, size
        self._pause = FIRST_PAUSE[size] if is_new else min(2 * self._pause, LONGEST_PAUSE)
        self._until_look = self._pause
        self._to_measure = []
