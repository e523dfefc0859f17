"""Parsers of instants, durations, days and hours in a site's files, in the site's time zone."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

from relay.core.policy.model import TimeWindow
from relay.errors import InputRejected

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_LONG_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(?:[0-9]{1,9}(?:\.[0-9]{1,3})?[smhdw])+")
_DURATION_PART = re.compile(r"([0-9.]+)([smhdw])")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(?::[0-9]{2})?(?: ?[Zz]| ?[+-][0-9]{2}:?[0-9]{2})?"
)
_HOURS = re.compile(r"([0-9]{1,2}):([0-9]{2}) ?- ?([0-9]{1,2}):([0-9]{2})")
PAST_SECONDS = 400 * 86400  # how far back the table of offsets goes: as long as audit rows are kept
FUTURE_SECONDS = 3653 * 86400  # ten years: a snapshot is compiled again at every reload and start


@dataclass(frozen=True, slots=True)
class TypedTime:
    """An instant as typed: `local` has a time zone only if one was given; `day` stands for the whole day."""

    local: datetime
    day: bool = False

    def begin(self, zone: ZoneInfo) -> int:
        """Unix seconds of the instant, or of the day's first second."""
        return _unix(self.local, zone)

    def end(self, zone: ZoneInfo) -> int:
        """Unix seconds of the instant, or of the first second after the day. Exclusive, as `Rule.until` is."""
        return _unix(self.local + timedelta(days=1) if self.day else self.local, zone)


def _unix(local: datetime, zone: ZoneInfo) -> int:
    return int((local if local.tzinfo else local.replace(tzinfo=zone)).timestamp())


def moment(text: str) -> TypedTime:
    """`2026-12-31`, or `2026-12-31T18:00` with optional seconds and `Z` or `+08:00`. Raises InputRejected."""
    cure = "write 2026-12-31, or 2026-12-31T18:00, or 2026-12-31T18:00+08:00"
    try:
        if _DATE.fullmatch(text):
            typed = date.fromisoformat(text)
            found = TypedTime(datetime(typed.year, typed.month, typed.day), day=True)  # noqa: DTZ001 - zone comes later
        elif _INSTANT.fullmatch(text):
            found = TypedTime(
                datetime.fromisoformat(text.upper().replace("T ", "T").replace(" ", "T", 1).replace(" ", ""))
            )
        else:
            raise InputRejected(f"{text[:40]!r} is not a date or time", cure)
    except ValueError:
        raise InputRejected(f"{text[:40]!r} is not a date", cure) from None
    if not 1971 <= found.local.year <= 9998:  # so that no offset and no added day exceeds the range of datetime
        raise InputRejected(f"{text[:40]!r} is too far away", "a year from 1971 to 9998")
    return found


def duration(text: str) -> float:
    """Seconds of `30s`, `10m`, `1h30m`, `400d`. Raises InputRejected; a bare number has no unit and is refused."""
    if not _DURATION.fullmatch(text):
        raise InputRejected(f"{text[:40]!r} is not a duration", "write a number and a unit: 30s, 10m, 24h, 400d")
    return sum(float(number) * _UNITS[unit] for number, unit in _DURATION_PART.findall(text))


def days(text: str) -> frozenset[int]:
    """`mon` or `mon-fri` (may go over the week's end: `fri-mon`), 0 is Monday. Raises InputRejected."""
    first, dash, last = text.lower().replace(" ", "").partition("-")
    begin, end = _day(first), _day(last if dash else first)
    return frozenset((begin + step) % 7 for step in range((end - begin) % 7 + 1))


def _day(text: str) -> int:
    for names in (DAYS, _LONG_DAYS):
        if text in names:
            return names.index(text)
    raise InputRejected(f"{text[:20]!r} is not a day", f"one of {', '.join(DAYS)}, or a range like mon-fri")


def hours(text: str) -> tuple[int, int]:
    """Minutes from midnight of `09:00-18:00`; an end before its start is on the next day. Raises InputRejected."""
    found = _HOURS.fullmatch(text)
    cure = "write 09:00-18:00; 22:00-06:00 goes past midnight, 24:00 is the day's end"
    if not found:
        raise InputRejected(f"{text[:40]!r} is not a range of hours", cure)
    first_hour, first_minute, last_hour, last_minute = map(int, found.groups())
    start, end = first_hour * 60 + first_minute, last_hour * 60 + last_minute
    if first_minute > 59 or last_minute > 59 or start >= 1440 or end > 1440:
        raise InputRejected(f"{text[:40]!r} is not a time of day", cure)
    if start == end:
        raise InputRejected(f"{text[:40]!r} begins where it ends", "the whole day is 00:00-24:00")
    return start, end


def windows(on: frozenset[int] | None, spans: tuple[tuple[int, int], ...]) -> tuple[TimeWindow, ...]:
    """The windows of a rule with these days and hours; none for a rule with neither."""
    if on is None and not spans:
        return ()
    return tuple(
        TimeWindow(frozenset(range(7)) if on is None else on, start, end) for start, end in spans or ((0, 1440),)
    )


def timezone(text: str) -> ZoneInfo:
    """The IANA time zone named `text`. Raises InputRejected naming the nearest one."""
    try:
        return ZoneInfo(text)
    except (OSError, ValueError):  # not found is a KeyError, a directory an OSError, a path a ValueError
        pass
    except KeyError:
        pass
    import difflib

    near = difflib.get_close_matches(text, available_timezones(), n=1)
    raise InputRejected(
        f"no time zone {text[:40]!r}", f"did you mean {near[0]}?" if near else "write one like Asia/Shanghai or UTC"
    )


def offsets(zone: ZoneInfo, now: int) -> tuple[tuple[int, int], ...]:
    """(Unix seconds, UTC offset in seconds), from 400 days before `now` to ten years after it.

    The first entry also applies before its time. A decision therefore needs no time zone database.
    """
    begin = now - PAST_SECONDS
    table = [(begin, _offset(zone, begin))]
    for day in range(begin + 86400, now + FUTURE_SECONDS, 86400):
        here = _offset(zone, day)
        if here != table[-1][1]:
            low, high = day - 86400, day  # the change is in (low, high]
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if _offset(zone, middle) == table[-1][1] else (low, middle)
            table.append((high, here))
    return tuple(table)


def _offset(zone: ZoneInfo, unix: int) -> int:
    found = datetime.fromtimestamp(unix, UTC).astimezone(zone).utcoffset()
    return int(found.total_seconds()) if found else 0


def local_text(unix: int, zone: ZoneInfo) -> str:
    """`2026-12-31 18:00 CST`: an instant as shown to the operator."""
    return datetime.fromtimestamp(unix, UTC).astimezone(zone).strftime("%Y-%m-%d %H:%M %Z")
