"""relay.core.policy.time_conditions: conditions of time, and how they are said."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.policy import time_conditions
from relay.core.policy.model import TimeWindow
from tests.core import reference

MINUTE, DAY = 60, 86400
MONDAY = 4 * DAY  # 1970-01-05


def inside(window: TimeWindow, local_now: int) -> bool:
    return time_conditions.inside(time_conditions.days_mask(window), window.start, window.end, local_now)


@pytest.mark.parametrize(
    ("window", "day", "minute", "holds"),
    [
        (TimeWindow(), 0, 0, True),
        (TimeWindow(), 6, 1439, True),
        (TimeWindow(frozenset({0}), 540, 1080), 0, 539, False),
        (TimeWindow(frozenset({0}), 540, 1080), 0, 540, True),
        (TimeWindow(frozenset({0}), 540, 1080), 0, 1079, True),
        (TimeWindow(frozenset({0}), 540, 1080), 0, 1080, False),
        (TimeWindow(frozenset({0}), 540, 1080), 1, 600, False),
        (TimeWindow(frozenset({0}), 1320, 360), 0, 1319, False),
        (TimeWindow(frozenset({0}), 1320, 360), 0, 1320, True),
        (TimeWindow(frozenset({0}), 1320, 360), 1, 359, True),
        (TimeWindow(frozenset({0}), 1320, 360), 1, 360, False),
        (TimeWindow(frozenset({0}), 1320, 360), 0, 100, False),  # that night began on Sunday
        (TimeWindow(frozenset({6}), 1320, 360), 0, 100, True),
        (TimeWindow(frozenset({0}), 600, 600), 1, 599, True),  # once around the clock
        (TimeWindow(frozenset(), 0, 1440), 0, 0, False),
    ],
)
def test_windows(window: TimeWindow, day: int, minute: int, holds: bool) -> None:
    """The start is in, the end is out; a window that ends before it starts runs into the next day."""
    assert inside(window, MONDAY + day * DAY + minute * MINUTE) is holds


@given(reference.windows, st.integers(0, 4_000_000_000))
def test_windows_as_the_reference_has_them(window: TimeWindow, local_now: int) -> None:
    """Counting from the midnights gives the same."""
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=local_now)
    assert inside(window, local_now) == reference.holds(window, at)


def test_local_time_follows_the_table() -> None:
    """At a change the new offset holds; before the first change the first one; without a table UTC."""
    offsets = [(1000, 3600), (2000, 7200)]
    assert [time_conditions.local(now, offsets) - now for now in (0, 999, 1000, 1999, 2000)] == [
        3600,
        3600,
        3600,
        3600,
        7200,
    ]
    assert time_conditions.local(5, []) == 5


def test_local_time_of_a_real_zone() -> None:
    """Berlin's clock on both sides of a change to summer time."""
    berlin = ZoneInfo("Europe/Berlin")
    change = int(datetime(2026, 3, 29, 1, tzinfo=UTC).timestamp())
    for now in (change - 1, change):
        offset = datetime.fromtimestamp(now, berlin).utcoffset()
        assert offset is not None
        assert time_conditions.local(now, [(0, 3600), (change, 7200)]) == now + offset.total_seconds()


def test_the_end_of_a_rule_in_words() -> None:
    """The end of a whole-day rule is shown as that day; any time can be shown."""
    midnight = int(datetime(2027, 1, 1, tzinfo=UTC).timestamp())
    assert time_conditions.until_text(midnight, []) == "2026-12-31"
    assert time_conditions.until_text(midnight - 8 * 3600, [(0, 8 * 3600)]) == "2026-12-31"
    assert time_conditions.until_text(midnight - 60, []) == "2026-12-31 23:59"
    assert time_conditions.moment_text(midnight, []) == "Fri 2027-01-01 00:00"
    assert time_conditions.until_text(-(1 << 60), []) == "1970-01-01"
    assert time_conditions.until_text(1 << 60, []) == "9999-12-31 23:59"


@pytest.mark.parametrize(
    ("window", "text"),
    [
        (TimeWindow(), "always"),
        (TimeWindow(start=540, end=1080), "09:00-18:00"),
        (TimeWindow(frozenset(range(5)), 540, 1080), "Mon-Fri 09:00-18:00"),
        (TimeWindow(frozenset({5, 6})), "Sat, Sun"),
        (TimeWindow(frozenset({0, 2, 4})), "Mon, Wed, Fri"),
        (TimeWindow(frozenset()), "never"),
    ],
)
def test_windows_in_words(window: TimeWindow, text: str) -> None:
    """As an administrator would write them."""
    assert time_conditions.window_text(window) == text
    assert time_conditions.windows_text([window, TimeWindow()]) == f"{text} or always"


def test_ports_and_sources_in_words() -> None:
    """Single ones without their range."""
    assert time_conditions.ports_text([(22, 22), (8000, 8080)]) == "22, 8000-8080"
    assert time_conditions.ports_text([(1, 65535)]) == "any port"
    assert time_conditions.ports_text([]) == "no port"
    assert time_conditions.sources_text([ip_network("203.0.113.0/24"), ip_network("::1/128")]) == "203.0.113.0/24, ::1"
