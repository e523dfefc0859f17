"""Rows as flat JSON objects with RFC 3339 times, for `audit tail --json` and `audit show --json`."""

from datetime import UTC, datetime, tzinfo
from typing import Any

from relay.core.audit.hash_chain import Row


def clock(us: int, zone: tzinfo) -> str:
    """An instant (UTC microseconds) in a time zone, with microseconds."""
    seconds, rest = divmod(us, 1_000_000)
    try:
        return f"{datetime.fromtimestamp(seconds, zone).isoformat(' ')[:19]}.{rest:06d}"
    except (ValueError, OverflowError, OSError):
        return f"{us} us"


def stamp(us: int) -> str:
    """An instant in RFC 3339 form: `2026-10-01T12:00:00.000000Z`."""
    return clock(us, UTC).replace(" ", "T") + "Z"


def flat(row: Row) -> dict[str, Any]:
    """A row as a JSON object: the event's fields, and the row's own, which take precedence."""
    event = row.event
    return {
        **event.fields,
        "seq": row.seq,
        "node": row.node,
        "id": event.id,
        "time": stamp(event.time),
        "event": event.name,
        "schema": row.schema,
        "prev": row.prev,
        "hash": row.hash,
    }
