"""Numbers as people read them."""

import pytest

from relay.core.human_units import count, size, span


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (None, None),
        ("7", None),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (2_500_000, "2.5 MB"),
        (7_000_000_000, "7.0 GB"),
        (10**13, "10.0 TB"),
    ],
)
def test_bytes_in_the_largest_unit_that_leaves_a_number_before_the_point(count, shown):
    """Thousands, not 1024s; what is no number is not known."""
    assert size(count) == shown


@pytest.mark.parametrize(
    ("us", "shown"),
    [
        (1_500_000, "1.5 s"),
        (61_000_000, "1 min 01 s"),
        (3_661_000_000, "1 h 01 min"),
        (48 * 3_600_000_000, "2 d 00 h"),
    ],
)
def test_spans_in_two_units(us, shown):
    """From two days on in days."""
    assert span(us) == shown


@pytest.mark.parametrize(("number", "text"), [(0, "0 faults"), (1, "1 fault"), (2, "2 faults")])
def test_a_noun_is_singular_for_one_only(number: int, text: str) -> None:
    """Zero and two are plural."""
    assert count(number, "fault") == text
