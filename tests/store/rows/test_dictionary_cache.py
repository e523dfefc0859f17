"""Dictionary entries: one for equal parts of rows, also after the cache was emptied."""

import contextlib
import sqlite3

from relay.store.writer import AuditWriter
from tests.audit_rows import Relay


def count(path, table):
    """The number of entries in a dictionary."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        (entries,) = database.execute(f"SELECT count(*) FROM {table}").fetchone()
    return entries


def test_equal_parts_share_an_entry(writer, path):
    """Three forwards of one connection to two targets take one client and two targets."""
    relay = Relay()
    alice = relay.connect()
    writer.append([relay.opened(alice), relay.opened(alice, "other:22", "192.168.1.9"), relay.opened(alice)])
    assert (count(path, "who"), count(path, "target")) == (1, 2)


def test_a_new_process_finds_the_entries_of_the_last(path):
    """Rows that are written after a restart refer to the entries that are already there."""
    relay = Relay()
    alice = relay.connect()
    for _ in range(2):
        writer = AuditWriter(path, "relay")
        writer.append([relay.opened(alice)])
        writer.close()
    assert [count(path, table) for table in ("nodes", "who", "target")] == [1, 1, 1]
