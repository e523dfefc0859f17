"""The columns of a report's charts."""

from zoneinfo import ZoneInfo

import pytest

from relay.review.activity_summary import DAY, HOUR, ReportSpan, Traffic
from tests.audit_rows import NOON

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("length", "step"),
    [
        (3 * DAY, "hour"),
        (3 * DAY + 1, "day"),
        (92 * DAY, "day"),
        (92 * DAY + 1, "week"),
        (730 * DAY, "week"),
        (730 * DAY + 1, "month"),
    ],
)
def test_a_longer_window_has_wider_columns(length, step):
    """Hours up to 3 days, days up to 92, weeks up to two years, then months."""
    assert ReportSpan(NOON - length, NOON, BERLIN).step == step


def test_each_local_day_has_one_column_when_the_clocks_change():
    """2026-10-25 has 25 hours in Berlin: no day is missing, none comes twice."""
    begin = 1_792_713_600_000_000  # 2026-10-23T00:00Z
    starts = ReportSpan(begin, begin + 5 * DAY, BERLIN).starts()
    assert [start.day for start in starts] == [23, 24, 25, 26, 27, 28]


def test_every_time_of_a_window_has_a_column():
    """The column of any instant is among the columns of the window."""
    for days in (1, 30, 400, 900):
        span = ReportSpan(NOON - days * DAY, NOON, BERLIN)
        starts = set(span.starts())
        assert all(span.start(time) in starts for time in range(span.since, span.until, 7 * HOUR))


def test_traffic_adds_up():
    """Every count is added, and bytes are those of both directions."""
    total = Traffic(1, 2, 3, 4, 5)
    total.add(Traffic(10, 20, 30, 40, 50))
    assert total == Traffic(11, 22, 33, 44, 55)
    assert total.bytes == 77
