"""How does an audit database of format 1 become one of format 2?

Its rows are laid out anew in one transaction: the same texts, the same hashes, half the room. A conversion that is cut
short has not happened. It takes about a minute of CPU for a million forwards, and needs as much disk as there is
already; the pages that become free are used for the rows to come.
"""

import json
import sqlite3
from collections.abc import Iterator

from relay.core.audit.event import Event
from relay.store import migrations
from relay.store.rows import row_encoding
from relay.store.rows.time_index import TimeIndex

_PAGE = 2000  # rows read at a time


def convert(database: sqlite3.Connection) -> bool:
    """Convert what is of format 1; False when there is nothing to do.

    Raises StoreUnavailable for a database that is none of ours, sqlite3.Error as it comes, ValueError for rows that
    are damaged.
    """
    if migrations.found(database) // 1000 != migrations.FORMER:
        return False
    database.execute("BEGIN IMMEDIATE")
    database.execute("ALTER TABLE events RENAME TO former")
    for statement in migrations.EVENTS:
        database.execute(statement)
    hours = TimeIndex()
    known: dict[str, int] = {}
    for row in _former(database):
        seq, id, time, node, name, schema, who, target, connection, forward, rest, digest = row
        fields = json.loads(rest)
        for key, value in (("connection", connection), ("forward", forward)):
            if value is not None:
                fields[key] = value
        placed = row_encoding.columns(Event(id, time, "", fields))
        text, repeats = row_encoding.rest(fields, placed)
        database.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(seq, row_encoding.kept(id), time, node, name, schema, who, target),
                *placed,
                known.get(text) or _shared(database, known, text) if repeats else text,
                digest,
            ),
        )
        hours.add(seq, time)
    hours.store(database)
    database.execute("DROP TABLE former")
    for statement in migrations.INDEXES:
        database.execute(statement)
    database.execute(f"PRAGMA user_version = {migrations.MAJOR * 1000 + 1}")
    database.execute("COMMIT")
    return True


def _former(database: sqlite3.Connection) -> Iterator[tuple]:  # type: ignore[type-arg]  # a row of SQL
    after = 0
    while page := database.execute(
        "SELECT * FROM former WHERE seq > ? ORDER BY seq LIMIT ?", (after, _PAGE)
    ).fetchall():
        yield from page
        after = page[-1][0]


def _shared(database: sqlite3.Connection, known: dict[str, int], text: str) -> int:
    number = database.execute(
        "INSERT INTO rests (digest, text) VALUES (?, ?)", (row_encoding.short_digest(text), text)
    ).lastrowid
    assert number is not None
    known[text] = number
    return number
