"""Totals of the rows that match a query, computed by SQL.

Persons, keys, clients and targets are in dictionaries. The query itself decides for each entry whether it matches, so
the sum is over exactly the matching rows. A query for a text is not summed here: its rows are read one by one. Rows
are read in slices, so that no read transaction lasts.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from relay.core.audit.audit_query import AuditQuery
from relay.core.audit.event import Value
from relay.core.audit.usage_totals import QUARTER, TotalsPart, total
from relay.errors import StoreUnavailable
from relay.store.rows import time_index

SLICE = 100_000  # rows looked at by one statement: about 0.1 s
_NAMES = 1024  # more than there are names of events
Ask = Callable[[str, Sequence[object]], list[Any]]
Fields = dict[str, Value]

_COLUMN = {"person": "who", "key": "who", "client": "who", "target": "target", "day": f"time / {QUARTER}"}


def portions(
    ask: Ask, question: AuditQuery, by: str, progress: Callable[[float], object], after: int = 0
) -> Iterator[TotalsPart]:
    """Parts of the totals, each of one group. `question` has no text. `progress` is called with the share done."""
    column = _COLUMN[by]
    entries = {} if by == "day" else _entries(ask, column)
    names = {int(number): str(name) for number, name in ask("SELECT id, name FROM names", ())}
    terms, values = _terms(ask, question, names)
    first, last = time_index.span(ask, question.since, question.until)
    first = max(first, after + 1)
    # one number to group by is sorted in two thirds of the time of two
    statement = f"""SELECT e.{column} * {_NAMES} + e.name, count(*),
        coalesce(sum(e.sent), 0), coalesce(sum(e.received), 0),
        coalesce(sum(e.duration), 0), min(e.time), max(e.time) FROM events e
        WHERE e.seq BETWEEN ? AND ?{terms} GROUP BY 1"""  # noqa: S608 - terms of our own
    for begin in range(first, last + 1, SLICE):
        for both, count, sent, received, duration, least, most in ask(
            statement, (begin, min(begin + SLICE - 1, last), *values)
        ):
            if both is None:
                continue
            key, name = divmod(both, _NAMES)
            fields: Fields | None = {} if by == "day" else entries.get(key)
            if fields is not None and name in names:
                yield TotalsPart(fields, least, total(names[name], count, (sent, received, duration), least, most))
        progress((begin + SLICE - first) / (last + 1 - first))


def _terms(ask: Ask, question: AuditQuery, names: dict[int, str]) -> tuple[str, list[object]]:
    """SQL conditions for exactly the matching rows, apart from their numbers, and the values of the conditions."""
    terms: list[str] = []
    values: list[object] = []

    def among(column: str, numbers: list[int]) -> None:
        terms.append(f" AND e.{column} IN (SELECT value FROM json_each(?))")  # noqa: S608 - our own columns
        values.append(json.dumps(numbers))

    if question.person or question.fingerprint or question.client is not None:
        among("who", [number for number, fields in _entries(ask, "who").items() if question.has_session(fields)])
    if question.host or question.address is not None or question.port is not None or question.to is not None:
        among("target", [number for number, fields in _entries(ask, "target").items() if question.has_target(fields)])
    called = [number for number, name in names.items() if question.has_name(name)]
    if len(called) < len(names):
        among("name", called)
    for time, comparison in ((question.since, ">="), (question.until, "<")):
        if time is not None:
            terms.append(f" AND e.time {comparison} ?")
            values.append(time_index.clamped(time))
    return "".join(terms), values


def _entries(ask: Ask, table: str) -> dict[int, Fields]:
    """All entries of one dictionary of the database."""
    found: dict[int, Fields] = {}
    for number, text in ask(f"SELECT id, text FROM {table}", ()):  # noqa: S608 - one of two tables of our own
        try:
            fields = json.loads(text)
        except ValueError:
            fields = None
        if not isinstance(fields, dict):
            raise StoreUnavailable(
                f"entry {number} of {table} in the audit database is damaged",
                "relayctl restore FILE brings a backup back",
            )
        found[int(number)] = fields
    return found
