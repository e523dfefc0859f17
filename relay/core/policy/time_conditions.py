"""The time conditions of rules (until, days, hours), and conditions as text.

Times are Unix seconds. The site's time zone is a table `offsets` of (UTC seconds of a change, UTC offset in seconds
from then on), sorted, so that a decision needs no time zone database; an empty table is UTC.
"""

from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from relay.core.policy.model import Network, TimeWindow

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST = 253_402_300_799  # 9999-12-31T23:59:59Z, the last time that datetime can represent

Offsets = Sequence[tuple[int, int]]


def local(now: int, offsets: Offsets) -> int:
    """Seconds since 1970-01-01 00:00 in local time; the first offset also applies before its change."""
    if not offsets:
        return now
    return now + offsets[max(bisect_right(offsets, now, key=lambda change: change[0]) - 1, 0)][1]


def inside(days: int, start: int, end: int, local_now: int) -> bool:
    """Whether a window contains a local time; bit 0 of `days` is Monday. It ends next day if end <= start."""
    day = (local_now // 86400 + 3) % 7  # 1970-01-01 was a Thursday
    minute = local_now % 86400 // 60
    today = days >> day & 1
    if start < end:
        return bool(today) and start <= minute < end
    return bool(today and minute >= start) or bool(days >> (day - 1) % 7 & 1 and minute < end)


def days_mask(window: TimeWindow) -> int:
    """The days of a window as a bit mask; bit 0 is Monday."""
    return sum(1 << day for day in window.days)


def moment_text(now: int, offsets: Offsets) -> str:
    """A time in the site's time zone: `Mon 2026-11-23 09:30`."""
    moment = _moment(now, offsets)
    return f"{DAYS[moment.weekday()]} {moment:%Y-%m-%d %H:%M}"


def until_text(until: int, offsets: Offsets) -> str:
    """The end of a rule as typed in a policy: `2026-12-31` if that is its last whole day, else with the time."""
    moment = _moment(until, offsets)
    if moment.hour == moment.minute == moment.second == 0:
        return (moment - timedelta(days=1)).strftime("%Y-%m-%d")
    return moment.strftime("%Y-%m-%d %H:%M")


def window_text(window: TimeWindow) -> str:
    """`Mon-Fri 09:00-18:00`, `Sat, Sun`, `22:00-06:00`."""
    hours = "" if window.start == 0 and window.end == 1440 else f"{_clock(window.start)}-{_clock(window.end)}"
    days = sorted(window.days)
    if len(days) == 7:
        return hours or "always"
    if len(days) > 2 and days[-1] - days[0] == len(days) - 1:
        shown = f"{DAYS[days[0]]}-{DAYS[days[-1]]}"
    else:
        shown = ", ".join(DAYS[day] for day in days)
    return f"{shown} {hours}".strip() or "never"


def windows_text(windows: Sequence[TimeWindow]) -> str:
    """Several windows as text, joined by `or`."""
    return " or ".join(window_text(window) for window in windows)


def sources_text(sources: Sequence[Network]) -> str:
    """`203.0.113.0/24, 198.51.100.7`: single addresses without a prefix length."""
    return ", ".join(str(n.network_address) if n.prefixlen == n.max_prefixlen else str(n) for n in sources)


def ports_text(ports: Sequence[tuple[int, int]]) -> str:
    """`22, 8000-8080`, or `any port`."""
    if list(ports) == [(1, 65535)]:
        return "any port"
    return ", ".join(str(low) if low == high else f"{low}-{high}" for low, high in ports) or "no port"


def _moment(now: int, offsets: Offsets) -> datetime:
    return _EPOCH + timedelta(seconds=min(max(local(now, offsets), 86400), _LAST))


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
