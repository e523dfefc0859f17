"""Instants, durations, days and hours in the site's time zone."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.policy import time_conditions
from relay.core.policy.model import TimeWindow
from relay.errors import InputRejected
from relay.site import times

SHANGHAI = ZoneInfo("Asia/Shanghai")
BERLIN = ZoneInfo("Europe/Berlin")


def unix(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


@pytest.mark.parametrize(
    ("text", "begin", "end"),
    [
        ("2026-12-31", "2026-12-31T00:00+08:00", "2027-01-01T00:00+08:00"),
        ("2026-12-31T18:00", "2026-12-31T18:00+08:00", "2026-12-31T18:00+08:00"),
        ("2026-12-31 18:00:30", "2026-12-31T18:00:30+08:00", "2026-12-31T18:00:30+08:00"),
        ("2026-12-31T18:00Z", "2026-12-31T18:00+00:00", "2026-12-31T18:00+00:00"),
        ("2026-12-31t18:00+02:00", "2026-12-31T18:00+02:00", "2026-12-31T18:00+02:00"),
        ("2026-12-31 18:00 -0500", "2026-12-31T18:00-05:00", "2026-12-31T18:00-05:00"),
    ],
)
def test_moment(text: str, begin: str, end: str) -> None:
    """A date is the whole day in the site's zone; a time is that instant, in its own zone if one is typed."""
    found = times.moment(text)
    assert (found.begin(SHANGHAI), found.end(SHANGHAI)) == (unix(begin), unix(end))


def test_day_of_a_clock_change() -> None:
    """`until` a day on which the clocks change ends at the next midnight, 25 hours later."""
    found = times.moment("2026-10-25")
    assert found.end(BERLIN) - found.begin(BERLIN) == 25 * 3600


@pytest.mark.parametrize(
    "text",
    ["", "tomorrow", "2026-13-01", "2026-02-30", "26-12-31", "2026-12-31T25:00", "2026-12-31T",
     "0001-01-01", "9999-12-31", "2026-12-31T18:00 Asia/Shanghai", "2026-12-31T18:00+99:00", "20261231", "２026-12-31"],
)  # fmt: skip
def test_no_moment(text: str) -> None:
    """What is not in the calendar, or not unambiguous, is refused with an example of what is."""
    with pytest.raises(InputRejected) as caught:
        times.moment(text)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("10m", 600), ("24h", 86400), ("1h30m", 5400), ("400d", 34_560_000), ("0.5s", 0.5)],
)
def test_duration(text: str, seconds: float) -> None:
    """A duration is numbers with units."""
    assert times.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "s", "30 s", "-1s", "1y", "1.s", "1e3s", "１s"])
def test_no_duration(text: str) -> None:
    """A bare number is no duration: its unit would be a guess."""
    with pytest.raises(InputRejected):
        times.duration(text)


@pytest.mark.parametrize(
    ("text", "days"),
    [("mon", {0}), ("mon-fri", {0, 1, 2, 3, 4}), ("fri-mon", {4, 5, 6, 0}), ("Sat - Sun", {5, 6}), ("wednesday", {2})],
)
def test_days(text: str, days: set[int]) -> None:
    """Days are names or ranges, which may go over the end of the week."""
    assert times.days(text) == days


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("09:00-18:00", (540, 1080)),
        ("22:00-06:00", (1320, 360)),
        ("0:00-24:00", (0, 1440)),
        ("9:30 - 9:31", (570, 571)),
    ],
)
def test_hours(text: str, minutes: tuple[int, int]) -> None:
    """Hours are minutes from midnight; the end may be on the next day."""
    assert times.hours(text) == minutes


@pytest.mark.parametrize("text", ["9-18", "09:00", "09:00-09:00", "24:00-01:00", "09:60-10:00", "09:00-24:01", ""])
def test_no_hours(text: str) -> None:
    """Hours that are not on the clock, or that begin where they end, are refused."""
    with pytest.raises(InputRejected):
        times.hours(text)


def test_windows() -> None:
    """Days alone mean the whole day, hours alone every day, and neither no window at all."""
    assert times.windows(None, ()) == ()
    assert times.windows(frozenset({5}), ()) == (TimeWindow(frozenset({5}), 0, 1440),)
    assert times.windows(None, ((0, 60), (120, 180))) == (TimeWindow(start=0, end=60), TimeWindow(start=120, end=180))


@pytest.mark.parametrize(
    ("text", "near"), [("Asia/Shanghi", "Asia/Shanghai"), ("../etc/passwd", ""), ("Asia", ""), ("", "")]
)
def test_unknown_timezone(text: str, near: str) -> None:
    """An unknown time zone is refused naming the nearest; a path or a directory is no way out of the database."""
    with pytest.raises(InputRejected) as caught:
        times.timezone(text)
    assert near in caught.value.hint


@given(st.sampled_from(["UTC", "Asia/Shanghai", "Europe/Berlin", "Africa/Casablanca", "America/St_Johns"]), st.data())
def test_offsets_are_the_zone(name: str, data: st.DataObject) -> None:
    """At any second of the table's span, the offset from it is what the time zone database says."""
    now = 1_764_000_000
    zone = ZoneInfo(name)
    table = times.offsets(zone, now)
    moments = st.integers(now - times.PAST_SECONDS, now + times.FUTURE_SECONDS - 86400)
    near = st.builds(lambda entry, step: entry[0] + step, st.sampled_from(table), st.integers(-2, 2))
    moment = max(data.draw(st.one_of(moments, near)), table[0][0])
    expected = datetime.fromtimestamp(moment, UTC).astimezone(zone).utcoffset()
    assert expected is not None
    assert time_conditions.local(moment, table) - moment == expected.total_seconds()


@given(st.text(max_size=40))
def test_any_text(text: str) -> None:
    """Any text is a value or InputRejected, in every grammar of this module."""
    for parse in (times.moment, times.duration, times.days, times.hours, times.timezone):
        try:
            parse(text)
        except InputRejected as error:
            assert error.what
