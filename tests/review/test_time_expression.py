"""What instant a person means."""

import contextlib
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import InputRejected
from relay.review.time_expression import instant

SHANGHAI = ZoneInfo("Asia/Shanghai")
NEW_YORK = ZoneInfo("America/New_York")
NOW = int(datetime(2026, 10, 6, 17, 30, 15, tzinfo=UTC).timestamp()) * 1_000_000 + 123_456  # the 7th in Shanghai


def said(text, zone=SHANGHAI, **how):
    """The instant as UTC text."""
    us = instant(text, NOW, zone, **how)
    return datetime.fromtimestamp(us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{us % 1_000_000:06d}"


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("999999w", "1970-01-01T00:00:00.000000", None),
        ("now", "2026-10-06T17:30:15.123456", None),
        ("30m", "2026-10-06T17:00:15.123456", None),
        ("2h", "2026-10-06T15:30:15.123456", None),
        ("2h ago", "2026-10-06T15:30:15.123456", None),
        ("7d", "2026-09-29T17:30:15.123456", None),
        ("1w", "2026-09-29T17:30:15.123456", None),
        ("today", "2026-10-06T16:00:00.000000", "2026-10-07T16:00:00.000000"),
        (" Yesterday ", "2026-10-05T16:00:00.000000", "2026-10-06T16:00:00.000000"),
        ("yesterday 08:00", "2026-10-06T00:00:00.000000", None),
        ("08:00", "2026-10-07T00:00:00.000000", None),
        ("2026-10-01", "2026-09-30T16:00:00.000000", "2026-10-01T16:00:00.000000"),
        ("2026-10-01T08:00", "2026-10-01T00:00:00.000000", None),
        ("2026-10-01 08:00:01.5", "2026-10-01T00:00:01.500000", None),
        ("2026-10-01T08:00Z", "2026-10-01T08:00:00.000000", None),
        ("2026-10-01T08:00+08:00", "2026-10-01T00:00:00.000000", None),
        ("2026-10-01T08:00-0130", "2026-10-01T09:30:00.000000", None),
    ],
)
def test_times_as_people_write_them(text, start, end):
    """Ago, days and clock times in the site's zone, instants with an offset; a day as an end is its whole day."""
    assert said(text) == start
    assert said(text, end=True) == (end or start)


def test_a_day_of_25_hours_is_whole():
    """On the day the clocks go back a day lasts until the next midnight there, not 24 hours."""
    assert said("2026-11-01", NEW_YORK) == "2026-11-01T04:00:00.000000"
    assert said("2026-11-01", NEW_YORK, end=True) == "2026-11-02T05:00:00.000000"


@pytest.mark.parametrize("text", ["", "7", "7x", "-7d", "tomorrow", "2026-13-01", "2026-02-30", "25:00", "1e3d"])
def test_what_is_no_time_is_refused_with_examples(text):
    """The error shows what would be right."""
    with pytest.raises(InputRejected) as caught:
        instant(text, NOW, UTC)
    assert "7d" in caught.value.hint


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_refused(text):
    """Nothing else can happen."""
    with contextlib.suppress(InputRejected):
        assert isinstance(instant(text, NOW, SHANGHAI), int)
