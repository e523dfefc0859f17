"""A token bucket: what flows in, what may be taken, and that no more goes out than its rate in the long run."""

from hypothesis import given
from hypothesis import strategies as st

from relay.core.token_bucket import TokenBucket


def test_a_new_bucket_is_full_and_fills_again() -> None:
    """`burst` at once, then one for each tenth of a second."""
    bucket = TokenBucket(10, 3)
    taken = 0
    while not bucket.wait(100.0):
        bucket.take(100.0)
        taken += 1
    assert taken == 3
    assert bucket.wait(100.0) == 0.1
    assert bucket.wait(100.05) > 0
    assert bucket.wait(100.11) == 0


def test_debt_is_paid_before_the_next() -> None:
    """Who took far more than there was waits until all of it has flowed in."""
    bucket = TokenBucket(100, 50)
    bucket.take(0.0, 250)
    assert bucket.wait(0.0, 0) == 2.0
    assert bucket.wait(1.0, 0) == 1.0
    assert bucket.wait(2.0, 0) == 0


def test_more_than_fits_is_asked_for_as_all_that_fits() -> None:
    """An amount above `burst` waits for a full bucket, not for ever."""
    bucket = TokenBucket(1, 5)
    assert bucket.wait(0.0, 1000) == 0


def test_another_rate_keeps_what_is_there() -> None:
    """A changed limit counts from now on; a smaller burst cuts what was there."""
    bucket = TokenBucket(10, 100)
    bucket.take(0.0, 40)
    bucket.change(0.0, 5, 20)
    assert bucket.level == 20
    bucket.take(0.0, 20)
    assert bucket.wait(0.0, 1) == 0.2


def test_a_clock_that_goes_back_gives_nothing() -> None:
    """Time that runs backwards neither fills nor empties it."""
    bucket = TokenBucket(10, 10)
    bucket.take(100.0, 10)
    assert bucket.wait(50.0) == 0.1


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(1, 20)), max_size=60))
def test_no_more_than_the_rate_goes_out(steps: list[tuple[float, int]]) -> None:
    """In any order of requests at most burst + rate x time is granted."""
    bucket = TokenBucket(7, 20)
    now = taken = 0.0
    for pause, amount in steps:
        now += pause
        if not bucket.wait(now, amount):
            bucket.take(now, amount)
            taken += amount
        assert taken <= 20 + 7 * now + 1e-6
