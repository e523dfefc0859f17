"""Deletes archived rows from the database and returns free pages to the disk.

Rows are deleted in slices, so that no opening row is delayed noticeably. New rows reuse their pages; free pages
beyond FREE_PAGES are returned to the disk in small steps, if the database has auto_vacuum = incremental (migrations).
"""

import sqlite3
from dataclasses import dataclass

from relay.errors import StoreUnavailable
from relay.store.rows.row_decoding import base_of

SLICE = 100  # rows deleted in one transaction while forwards wait for theirs: each has its place in five indexes
FREE_PAGES = 4096  # kept for the rows to come, 16 MiB: growing costs more than using again
_GIVEN_BACK = 128  # pages in one transaction: each may have to be moved first
_STRANGER = 180  # bytes of one count of failed attempts with its part of the index: a generous estimate


@dataclass(frozen=True, slots=True)
class DatabaseRoom:
    """The size of a database in bytes."""

    used: int  # by rows, without the counts of failed attempts: these are bounded, and archive no row
    size: int  # of the file
    base: int  # number of the last row that is archived


def room(database: sqlite3.Connection) -> DatabaseRoom:
    """The size of the database."""
    page, pages, free, counts = database.execute(
        """SELECT (SELECT page_size FROM pragma_page_size()), (SELECT page_count FROM pragma_page_count()),
        (SELECT freelist_count FROM pragma_freelist_count()), (SELECT count(*) FROM strangers)"""
    ).fetchone()
    return DatabaseRoom(max((pages - free) * page - counts * _STRANGER, 0), pages * page, base_of(database)[0])


def forget(database: sqlite3.Connection, last: int, hash: str, most: int) -> bool:
    """Delete up to `most` of the oldest rows, up to row `last`, inside the caller's transaction; whether any was.

    Raises StoreUnavailable unless row `last` has this hash, so that what was archived is what is deleted, and no
    forward is open that began up to there.
    """
    base, _ = base_of(database)
    if base >= last:
        return False
    edge = min(base + most, last)
    hashes = dict(database.execute("SELECT seq, hash FROM events WHERE seq IN (?, ?)", (edge, last)).fetchall())
    if hashes.get(last) != bytes.fromhex(hash):
        raise StoreUnavailable(
            f"row {last} of the audit database is not the one that was archived", "relayctl audit verify"
        )
    if database.execute("SELECT 1 FROM open_forwards WHERE seq <= ? LIMIT 1", (last,)).fetchone():
        raise StoreUnavailable(
            f"a forward is open that began before row {last}", "it stays until the forward has ended"
        )
    entries = {
        table: database.execute(
            f"SELECT DISTINCT {table} FROM events WHERE seq <= ? AND {table} IS NOT NULL",  # noqa: S608 - our own tables
            (edge,),
        ).fetchall()
        for table in ("who", "target")
    }
    database.execute("DELETE FROM events WHERE seq <= ?", (edge,))
    for table, numbers in entries.items():
        # the newest entry stays: SQLite would give its number to another, and a reader may remember what it meant
        database.executemany(
            f"""DELETE FROM {table} WHERE id = ?1 AND id < (SELECT max(id) FROM {table})
            AND NOT EXISTS (SELECT 1 FROM events WHERE {table} = ?1)""",  # noqa: S608 - likewise
            numbers,
        )
    database.executemany(
        "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (("base_seq", edge), ("base_hash", hashes[edge])),
    )
    return True


def give_back(database: sqlite3.Connection) -> bool:
    """Return some pages to the disk if many are free; whether any were. In a transaction of its own."""
    (kind,) = database.execute("PRAGMA auto_vacuum").fetchone()
    (free,) = database.execute("PRAGMA freelist_count").fetchone()
    if kind != 2 or free <= FREE_PAGES:  # 2: incremental (sqlite.org/pragma.html)
        return False
    database.execute(f"PRAGMA incremental_vacuum({min(_GIVEN_BACK, free - FREE_PAGES)})").fetchall()
    return True
