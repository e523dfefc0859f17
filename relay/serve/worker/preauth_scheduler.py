"""When is a client worked for that has not proven a key? A little in each turn of the loop: others have theirs.

A key exchange takes a millisecond and a hundred may be ready at once. Worked off as they come, an established stream
would wait for all of them; here strangers share a budget per turn, and between two turns everybody else is served.
"""

from collections import deque
from collections.abc import Callable

BUDGET_SECONDS = 0.0005  # per turn; what has begun is finished, so a turn may take a key exchange (1 ms) longer


class PreauthScheduler:
    """The work of one worker for those who have not proven a key, in the order in which it came."""

    def __init__(self, clock: Callable[[], float], soon: Callable[[Callable[[], None]], object]) -> None:
        """`clock` gives seconds; `soon` calls in the next turn of the loop."""
        self._clock = clock
        self._soon = soon
        self._waiting: deque[Callable[[], None]] = deque()
        self._spent = 0.0
        self._at = 0.0  # when somebody last had, or wanted, a turn
        self._turning = False
        self._doing = False  # what a job asks for is not done within it: its time would not be counted yet

    def work(self, job: Callable[[], None]) -> None:
        """Do it now if there is time left and nobody waits, else in a later turn. `job` should not raise."""
        now = self._clock()
        if now - self._at >= BUDGET_SECONDS and not self._doing:  # so long others had their turn, or nobody wanted one
            self._spent = 0.0
        self._at = now
        if self._doing or self._waiting or self._spent >= BUDGET_SECONDS:
            self._waiting.append(job)
            if not self._turning:
                self._turning = True
                self._soon(self._turn)
        else:
            self._do(job)

    def __len__(self) -> int:
        """How much waits."""
        return len(self._waiting)

    def _do(self, job: Callable[[], None]) -> None:
        began, self._doing = self._clock(), True
        try:
            job()
        finally:
            self._doing = False
            self._at = self._clock()
            self._spent += self._at - began

    def _turn(self) -> None:
        self._spent = 0.0
        try:
            while self._waiting and self._spent < BUDGET_SECONDS:
                self._do(self._waiting.popleft())
        finally:  # a bug in one client's work does not shut all others out
            self._turning = bool(self._waiting)
            if self._turning:
                self._soon(self._turn)
