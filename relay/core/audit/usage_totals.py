"""Totals over rows of the audit log by person, target, key, client or day.

A forward is counted by its opening row, its bytes and duration by its closing row.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from relay.core.audit.audit_query import DENIED
from relay.core.audit.event import Event, Value

BY = ("person", "target", "key", "client", "day")
QUARTER = 900_000_000  # microseconds: every time zone of today is whole quarters of an hour from UTC


@dataclass(frozen=True, slots=True)
class UsageTotal:
    """Totals over some rows."""

    events: int = 0
    forwards: int = 0  # opened
    denied: int = 0  # forwards denied and requests refused
    sent: int = 0
    received: int = 0
    duration: int = 0  # microseconds, of closed forwards
    first: int = 1 << 62  # UTC microseconds
    last: int = -(1 << 62)

    def __add__(self, other: "UsageTotal") -> "UsageTotal":
        return UsageTotal(
            self.events + other.events,
            self.forwards + other.forwards,
            self.denied + other.denied,
            self.sent + other.sent,
            self.received + other.received,
            self.duration + other.duration,
            min(self.first, other.first),
            max(self.last, other.last),
        )


@dataclass(frozen=True, slots=True)
class TotalsPart:
    """The total of rows with the same session, target or quarter of an hour."""

    fields: Mapping[str, Value]
    time: int  # of one of the rows
    total: UsageTotal


def total(name: str, events: int, numbers: tuple[int, int, int], first: int, last: int) -> UsageTotal:
    """The total of `events` rows of one name; `numbers` are the sums of sent, received and duration."""
    opened, denied, closed = name == "forward.opened", name in DENIED, name == "forward.closed"
    sent, received, duration = numbers if closed else (0, 0, 0)
    return UsageTotal(events, events * opened, events * denied, sent, received, duration, first, last)


def portion(event: Event) -> TotalsPart:
    """One row as a part of a total."""
    sent, received, duration = (_number(event.fields.get(key)) for key in ("sent", "received", "duration"))
    return TotalsPart(
        event.fields, event.time, total(event.name, 1, (sent, received, duration), event.time, event.time)
    )


def group(by: str, portion: TotalsPart, day: Callable[[int], str]) -> tuple[str, ...] | None:
    """The group of a portion as values for the columns `COLUMNS[by]`; None if it has none."""
    get = portion.fields.get
    if by == "day":
        return (day(portion.time),)
    if by == "target":
        return _target(get("asked"), get("address"), get("port"), get("zone"))
    first = get({"person": "person", "key": "fingerprint", "client": "client"}[by])
    if not isinstance(first, str) or not first:
        return None
    return (first, str(get("person") or "")) if by == "key" else (first,)


COLUMNS: Mapping[str, tuple[str, ...]] = {
    "person": ("person",),
    "target": ("target", "zone"),
    "key": ("key", "person"),
    "client": ("client",),
    "day": ("day",),
}


def _target(asked: Value, address: Value, port: Value, zone: Value) -> tuple[str, str] | None:
    """The authorized address, whatever name was requested; without one, the requested target."""
    if isinstance(address, str) and address:
        return f"[{address}]:{port}" if ":" in address else f"{address}:{port}", str(zone or "")
    return (asked, "") if isinstance(asked, str) and asked else None


def _number(value: Value) -> int:
    return value if type(value) is int else 0
