"""Memory lent to clients: never more than the worker's part."""

from hypothesis import given
from hypothesis import strategies as st

from relay.serve.worker.ssh.window_budget import CROWDED, FULL, LEAST, SMALL, WindowBudget, held


def test_the_fuller_the_smaller() -> None:
    """First full windows are lent, then small ones, then the smallest, then none."""
    windows = WindowBudget(16 << 20)
    lent = []
    while window := windows.lend(0):
        lent.append(window)
    assert sorted(lent, reverse=True) == lent
    assert set(lent) == {FULL, SMALL, LEAST}
    assert windows.lent <= 16 << 20
    assert windows.lent + held(LEAST) > 16 << 20


def test_a_crowded_connection_gets_small_windows() -> None:
    """From the sixteenth forward of one connection on, windows are small."""
    windows = WindowBudget(1 << 30)
    assert windows.lend(CROWDED - 1) == FULL
    assert windows.lend(CROWDED) == SMALL


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 40))))
def test_what_is_lent_is_the_sum_of_what_is_open(steps: list[tuple[bool, int]]) -> None:
    """In any order of opening and closing the sum of lent memory is right, and within the bound."""
    windows, given = WindowBudget(8 << 20), []
    for opens, number in steps:
        if opens:
            window = windows.lend(number)
            given += [window] if window else []
        elif given:
            windows.give_back(given.pop(number % len(given)))
        assert windows.lent == sum(map(held, given)) <= 8 << 20
