"""The time budget for unauthenticated clients, with a loop and a clock of the test."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.serve.worker.preauth_scheduler import BUDGET_SECONDS, PreauthScheduler


class Turns:
    """An event loop whose turns the test runs, and jobs that take a given time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []
        self._soon: list[Callable[[], None]] = []
        self.scheduler = PreauthScheduler(lambda: self.now, self._soon.append)

    def work(self, name: str, seconds: float) -> None:
        """Add a job of that length."""

        def job() -> None:
            self.now += seconds
            self.log.append(name)

        self.scheduler.work(job)

    def turn(self) -> bool:
        """Run one turn; whether the scheduler had asked for it."""
        now, self._soon[:] = list(self._soon), []
        for one in now:
            one()
        return bool(now)


def test_a_hundred_key_exchanges_do_not_take_one_turn() -> None:
    """A hundred jobs of 1 ms at once: one runs in each turn, in order; an echo waits for one of them at most."""
    turns = Turns()
    for number in range(100):
        turns.work(str(number), 0.001)
    assert turns.log == ["0"]
    waits = []
    while len(turns.scheduler):
        before = turns.now
        turns.turn()
        waits.append(turns.now - before)
    assert max(waits) <= 0.0011
    assert turns.log == list(map(str, range(100)))


def test_a_job_within_the_budget_runs_at_once() -> None:
    """Within the budget a job runs at once, and asks the loop for no turn."""
    turns = Turns()
    for number in range(3):
        turns.work(str(number), BUDGET_SECONDS / 10)
    assert turns.log == ["0", "1", "2"]
    assert not turns.turn()
    turns.work("large", 0.01)
    assert turns.log[-1] == "large"
    turns.work("behind", 0.0)
    assert turns.log[-1] == "large"
    assert turns.turn()
    assert turns.log[-1] == "behind"
    assert not turns.turn()
    turns.work("large", 0.01)
    turns.now += BUDGET_SECONDS  # in which others have had their turn
    turns.work("later", 0.0)
    assert turns.log[-1] == "later"
    assert not turns.turn()


@given(st.lists(st.tuples(st.floats(0, 0.003), st.booleans()), max_size=60))
def test_no_turn_is_longer_than_the_budget_and_one_job(steps: list[tuple[float, bool]]) -> None:
    """For any jobs at any time: all run in order, and no turn takes longer than the budget and one job."""
    turns, began, most = Turns(), 0.0, max((seconds for seconds, _ in steps), default=0.0)
    for number, (seconds, over) in enumerate(steps):
        turns.work(str(number), seconds)
        if over:
            assert turns.now - began <= 2 * (BUDGET_SECONDS + most) + 1e-9  # what was left over, and what came in it
            began = turns.now
            turns.turn()
    while turns.turn():
        pass
    assert turns.log == [str(number) for number in range(len(steps))]


def test_a_job_that_raises_does_not_stop_the_others() -> None:
    """An exception of one job reaches the loop; the jobs after it run all the same."""
    turns = Turns()
    turns.work("first", 0.001)
    turns.scheduler.work(lambda: 1 // 0)
    turns.work("behind", 0.001)
    with pytest.raises(ZeroDivisionError):
        turns.turn()
    while turns.turn():
        pass
    assert turns.log == ["first", "behind"]


def test_a_client_with_many_jobs_has_no_turn_of_its_own() -> None:
    """A job that a job adds runs after it, not within it: thirty signatures of one read take more than one turn."""
    turns, depth, deepest, left = Turns(), 0, 0, 30

    def signature() -> None:
        nonlocal depth, deepest, left
        depth, left = depth + 1, left - 1
        deepest = max(deepest, depth)
        turns.now += 0.0003
        if left:
            turns.scheduler.work(signature)
        depth -= 1

    turns.scheduler.work(signature)
    waits, before = [turns.now], turns.now
    while turns.turn():
        waits.append(turns.now - before)
        before = turns.now
    assert (left, deepest) == (0, 1)
    assert max(waits) <= BUDGET_SECONDS + 0.0003
