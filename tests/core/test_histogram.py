"""Buckets of measured times."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.histogram import BOUNDS, Histogram


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0, 0), (0.001, 0), (0.00101, 1), (0.0025, 1), (0.0026, 2), (1, 9), (10, 12), (10.1, 13), (1e9, 13), (-1, 0)],
)
def test_a_time_is_in_the_first_bucket_that_holds_it(seconds: float, bucket: int) -> None:
    """A bound belongs to its bucket, as `le` says; what is longer than all of them is in the last one."""
    histogram = Histogram()
    histogram.observe(seconds)
    assert histogram.counts.index(1) == bucket
    assert histogram.total == max(seconds, 0)


def test_buckets_are_shown_as_sums() -> None:
    """Each bucket counts those below it too, and the last one all."""
    histogram = Histogram()
    for seconds in (0.0001, 0.002, 0.002, 99):
        histogram.observe(seconds)
    assert histogram.cumulative()[:3] == (1, 3, 3)
    assert histogram.cumulative()[-2:] == (3, 4)
    assert len(histogram.cumulative()) == len(BOUNDS) + 1


def test_what_is_taken_is_added_elsewhere_once() -> None:
    """Taking begins anew, and adding gives the same numbers."""
    one, other = Histogram(), Histogram()
    one.observe(0.3)
    other.observe(0.004)
    other.add(one.take())
    other.add(one.take())
    assert other.cumulative()[-1] == 2
    assert other.total == pytest.approx(0.304)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)


@given(JSON | st.tuples(st.lists(st.integers(), min_size=14, max_size=14), st.floats()).map(list))
def test_nonsense_is_never_added(taken: Any) -> None:
    """Whatever another process says, counts stay whole numbers that only grow."""
    histogram = Histogram()
    histogram.observe(1)
    histogram.add(taken)
    assert all(type(count) is int and count >= 0 for count in histogram.counts)
    assert sum(histogram.counts) >= 1
    assert 1 <= histogram.total < 2e12
