"""Time budget of all unauthenticated clients of a worker, per turn of the event loop.

A key exchange takes a millisecond and a hundred may be ready at once. Without a budget an established stream would wait
for all of them; with it, authenticated clients are served between two turns.
"""

from collections import deque
from collections.abc import Callable

BUDGET_SECONDS = 0.0005  # per turn; a job that has begun is finished, so a turn may take a key exchange (1 ms) longer


class PreauthScheduler:
    """Runs the jobs for unauthenticated clients of one worker, in order."""

    def __init__(self, clock: Callable[[], float], soon: Callable[[Callable[[], None]], object]) -> None:
        """`clock` returns seconds; `soon` calls a function in the next turn of the loop."""
        self._clock = clock
        self._soon = soon
        self._waiting: deque[Callable[[], None]] = deque()
        self._spent = 0.0
        self._last = 0.0  # when a job last ended or was added
        self._scheduled = False
        self._running = False  # a job that a job adds does not run within it: its time would not be counted yet

    def work(self, job: Callable[[], None]) -> None:
        """Run the job now if there is time left and none waits, else in a later turn. `job` should not raise."""
        now = self._clock()
        if (
            now - self._last >= BUDGET_SECONDS and not self._running
        ):  # other callbacks ran meanwhile, or the loop was idle
            self._spent = 0.0
        self._last = now
        if self._running or self._waiting or self._spent >= BUDGET_SECONDS:
            self._waiting.append(job)
            if not self._scheduled:
                self._scheduled = True
                self._soon(self._turn)
        else:
            self._run(job)

    def __len__(self) -> int:
        """How many jobs wait."""
        return len(self._waiting)

    def _run(self, job: Callable[[], None]) -> None:
        began, self._running = self._clock(), True
        try:
            job()
        finally:
            self._running = False
            self._last = self._clock()
            self._spent += self._last - began

    def _turn(self) -> None:
        self._spent = 0.0
        try:
            while self._waiting and self._spent < BUDGET_SECONDS:
                self._run(self._waiting.popleft())
        finally:  # a bug in one client's job does not stop the others
            self._scheduled = bool(self._waiting)
            if self._scheduled:
                self._soon(self._turn)
