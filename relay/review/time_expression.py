"""Time expressions: `7d`, `yesterday`, `2026-10-01T08:00+08:00`."""

import re
from datetime import UTC, datetime, timedelta, tzinfo

from relay.errors import InputRejected

_CURE = "write 30m, 2h, 7d, now, today, yesterday, 08:00, 2026-10-01, 2026-10-01T08:00 or 2026-10-01T08:00+08:00"
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGO = re.compile(r"([0-9]{1,6})\s*([smhdw])(?:\s+ago)?")
_DAY = re.compile(r"(today|yesterday|[0-9]{4}-[0-9]{2}-[0-9]{2})")
_CLOCK = re.compile(r"(?:(today|yesterday)[ t])?([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?")
_FULL = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[t ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?(z|[+-][0-9]{2}:?[0-9]{2})?"
)


def instant(text: str, now_us: int, zone: tzinfo, *, end: bool = False) -> int:
    """UTC microseconds of `text`; times without an offset are in `zone`.

    A day means its first moment, or with `end` the first moment after it: `--until 2026-10-01` includes that day.
    Raises InputRejected.
    """
    typed = text.strip().lower()
    now = datetime.fromtimestamp(now_us // 1_000_000, UTC).astimezone(zone)
    try:
        if typed == "now":
            return now_us
        if found := _AGO.fullmatch(typed):
            ago = timedelta(**{_UNITS[found[2]]: int(found[1])})
            return max(now_us - ago // timedelta(microseconds=1), 0)
        if found := _DAY.fullmatch(typed):
            day = _day(found[1], now) + timedelta(days=1 if end else 0)
            return _us(day.replace(tzinfo=zone))
        if found := _CLOCK.fullmatch(typed):
            day = _day(found[1] or "today", now)
            return _us(day.replace(hour=int(found[2]), minute=int(found[3]), second=int(found[4] or 0), tzinfo=zone))
        if found := _FULL.fullmatch(typed):
            moment = datetime.fromisoformat(typed.upper())
            return _us(moment if found[1] else moment.replace(tzinfo=zone))
    except (ValueError, OverflowError):
        raise InputRejected(f"{text[:40]!r} is not in the calendar", _CURE) from None
    raise InputRejected(f"{text[:40]!r} is not a time", _CURE)


def _day(word: str, now: datetime) -> datetime:
    if word in ("today", "yesterday"):
        day = now.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
        return day - timedelta(days=1 if word == "yesterday" else 0)
    return datetime.fromisoformat(word)


def _us(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
