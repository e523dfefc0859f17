"""The columns that searches use, and the check that they agree with the hashed texts.

No hash covers these columns, so changing them could hide a row from searches without changing the row.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from relay.core.audit.audit_query import host_of
from relay.core.audit.event import Value
from relay.store.rows.row_encoding import address_key
from relay.store.rows.time_index import HOUR

_MOST = 20  # entries that are named


def of_who(fields: Mapping[str, Value]) -> tuple[str | None, str | None, bytes | None]:
    """Person, fingerprint and client of an entry of `who`."""
    person, fingerprint = fields.get("person"), fields.get("fingerprint")
    return (
        person if isinstance(person, str) else None,
        fingerprint if isinstance(fingerprint, str) else None,
        address_key(fields.get("client")),
    )


def of_target(fields: Mapping[str, Value]) -> tuple[str | None, bytes | None, int | None]:
    """Host, address and port of an entry of `target`."""
    port = fields.get("port")
    return (
        host_of(fields.get("asked")),
        address_key(fields.get("address")),
        port if isinstance(port, int) and 0 <= port < 65536 else None,
    )


def mislaid(ask: Callable[..., list[Any]]) -> list[str]:
    """What a search would be misled by. `ask(statement)` reads the database."""
    found: list[str] = []
    for what in (*_numbers(ask), *_names(ask), *_entries(ask), *_hours(ask)):
        if len(found) == _MOST:
            return [*found, "and more"]
        found.append(what)
    return found


def _entries(ask: Callable[..., list[Any]]) -> Iterator[str]:
    for table, columns, right in (
        ("who", "person, fingerprint, client", of_who),
        ("target", "host, address, port", of_target),
    ):
        for number, text, *told in ask(f"SELECT id, text, {columns} FROM {table} ORDER BY id"):  # noqa: S608 - our own
            try:
                fields = json.loads(text)
                fits = tuple(told) == right(fields)
            except (ValueError, TypeError, AttributeError, RecursionError):
                continue  # the rows that refer to it cannot be read: that is told of them
            if not fits:
                yield f"searches would not find entry {number} of {table}: its columns ({columns}) are not as its text"


def _numbers(ask: Callable[..., list[Any]]) -> Iterator[str]:
    """A row before the first one is in no chain, and a search would show it."""
    least = ask("SELECT min(seq) FROM events")[0][0]
    if least is not None and least < 1:
        yield f"a search would show row {least}, which nobody wrote: the first one is row 1"


def _names(ask: Callable[..., list[Any]]) -> Iterator[str]:
    """Statements know the two names that come in masses by their numbers (store.migrations)."""
    known = dict(ask("SELECT id, name FROM names WHERE id IN (1, 2)"))
    if known != {1: "forward.opened", 2: "forward.closed"}:
        yield "searches would not find forwards: entries 1 and 2 of names are not as they were"


def _hours(ask: Callable[..., list[Any]]) -> Iterator[str]:
    """Whether a search in time looks where the rows are (store.rows.time_index)."""
    held = {  # before the hours: an hour that begins between the two statements is no fault
        hour: (first, last)
        for hour, first, last in ask(f"SELECT time / {HOUR} AS h, min(seq), max(seq) FROM events GROUP BY h")  # noqa: S608 - a number
    }
    kept = {hour: (first, late) for hour, first, late in ask("SELECT hour, first, late FROM hours")}
    if any(type(number) is not int for numbers in kept.values() for number in numbers):
        yield "a search in time would go astray: an hour's rows are no numbers"
        return
    lates, late = dict[int, int](), 0  # the greatest up to each hour
    for hour in sorted(kept.keys() | held.keys()):
        late = lates[hour] = max(late, kept.get(hour, (0, 0))[1])
    later = 1 << 62  # the least `first` of all later hours: what a search before them takes for its end
    for hour in sorted(kept.keys() | held.keys(), reverse=True):
        begin = kept.get(hour, (1 << 62, 0))[0]
        if hour in held:
            first, last = held[hour]
            if begin > first or last > max(later - 1, lates[hour]):
                yield f"a search in time would pass over rows {first} to {last}: the hours kept are not as they were"
        later = min(later, begin)
