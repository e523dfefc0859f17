"""Sparse time index: the range of rows for a span of time. A full index would cost 30 bytes a forward.

Rows are written nearly in order of time: an event is some seconds old at most when it is stored, unless the disk was
full or the clock was set back. So for each UTC hour two numbers are kept: `first`, the first row of that hour, and
`late`, the last row of it that was written after one of a later hour (0: none). Then every event of an hour h or later
is in or behind the least `first` from h on; and every event before the end of h is before the least `first` of the
hours behind h, or not behind the greatest `late` up to h.
"""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

HOUR = 3_600_000_000  # microseconds


class TimeIndex:
    """The index entries that the rows of one transaction add. `newest` is the latest hour of any row so far."""

    def __init__(self, newest: int = -(1 << 62)) -> None:
        self.newest = newest
        self._first: dict[int, int] = {}
        self._late: dict[int, int] = {}

    def add(self, seq: int, time: int) -> None:
        """The next row; its numbers only grow."""
        hour = time // HOUR
        if hour > self.newest:
            self.newest = hour
            self._first[hour] = seq
        elif hour < self.newest:
            self._first.setdefault(hour, seq)
            self._late[hour] = seq

    def store(self, database: sqlite3.Connection) -> None:
        """Write it, inside the caller's transaction. Nothing is written as long as an hour goes on."""
        for hour, first in self._first.items():
            database.execute(
                """INSERT INTO hours VALUES (?, ?, ?)
                ON CONFLICT (hour) DO UPDATE SET late = max(late, excluded.late)""",
                (hour, first, self._late.get(hour, 0)),
            )


def newest(database: sqlite3.Connection) -> int:
    """The latest hour that any row has had."""
    (hour,) = database.execute("SELECT max(hour) FROM hours").fetchone()
    return -(1 << 62) if hour is None else int(hour)


def since(time: int) -> tuple[str, list[object]]:
    """SQL for the least number that an event at `time` or later can have, and its values."""
    return "(SELECT coalesce(min(first), 1 << 62) FROM hours WHERE hour >= ?)", [_hour(time)]


def until(time: int) -> tuple[str, list[object]]:
    """SQL for the greatest number that an event before `time` can have, and its values."""
    hour = _hour(time - 1)
    return (
        """(SELECT max(coalesce((SELECT min(first) - 1 FROM hours WHERE hour > ?), 1 << 62),
        coalesce((SELECT max(late) FROM hours WHERE hour <= ?), 0)))""",
        [hour, hour],
    )


def span(ask: Callable[[str, Sequence[object]], list[Any]], begin: int | None, end: int | None) -> tuple[int, int]:
    """The first and the last row whose time may be from `begin` to before `end`; no rows if first > last.

    `ask(statement, values)` gives the whole answer.
    """
    # not min and max in one statement, for which SQLite reads the table
    first, last = ask(
        "SELECT coalesce((SELECT min(seq) FROM events), 1), coalesce((SELECT max(seq) FROM events), 0)", ()
    )[0]
    if begin is not None:
        least, values = since(begin)
        first = max(first, ask(f"SELECT {least}", values)[0][0])
    if end is not None:
        most, values = until(end)
        last = min(last, ask(f"SELECT {most}", values)[0][0])
    return int(first), int(last)


def clamped(time: int) -> int:
    """A time as SQLite can hold it."""
    return max(min(time, 2**62), -(2**62))


def _hour(time: int) -> int:
    return clamped(time) // HOUR
