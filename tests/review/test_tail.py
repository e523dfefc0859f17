"""Following the log: each row once, in order, without standing in anybody's way."""

import sqlite3

import pytest

from relay.core.audit.audit_query import AuditQuery
from relay.review.tail import SLOWEST, follow, newest
from relay.store.database_files import retire_log
from relay.store.writer import FILE


class Script:
    """Instead of sleeping, lets the next thing happen; ends the test's loop when there is none left."""

    class Over(Exception):
        """The script has run out."""

    def __init__(self, *steps):
        self.steps = list(steps)
        self.pauses = []

    def __call__(self, seconds):
        self.pauses.append(seconds)
        if not self.steps:
            raise self.Over
        self.steps.pop(0)()


def followed(reader, question, seq, script):
    """The rows that came until the script was over."""
    rows = []
    with pytest.raises(Script.Over):
        for row in follow(reader, question, seq, script):
            rows.append(row)  # noqa: PERF402 - what came before the end is wanted
    return rows


def test_the_newest_rows_newest_last(writer, reader, relay):
    """What `tail` begins with."""
    day = relay.day()
    writer.append(day)
    assert [row.event for row in newest(reader, AuditQuery(), 3)] == day[-3:]
    assert [row.event for row in newest(reader, AuditQuery(person="bob"), 2)] == [day[5], day[6]]
    assert newest(reader, AuditQuery(), 0) == []


def test_rows_come_as_they_are_written(writer, reader, relay):
    """Each row behind the start once and in order, only those asked for."""
    first, second = relay.day(), relay.day()
    writer.append(first)
    script = Script(lambda: writer.append(second[:5]), lambda: None, lambda: writer.append(second[5:]))
    assert [row.event for row in followed(reader, AuditQuery(), 11, script)] == second
    script = Script(lambda: writer.append([denied]))
    denied = relay.denied(relay.connect())
    assert [row.event for row in followed(reader, AuditQuery(verdict="denied"), 22, script)] == [denied]


def test_waiting_grows_to_half_a_second(writer, reader, relay):
    """Looks are close together while something happens and never more than half a second apart."""
    script = Script(*[lambda: None] * 6, lambda: writer.append(relay.day()), *[lambda: None] * 6)
    followed(reader, AuditQuery(), 0, script)
    assert max(script.pauses) == SLOWEST == 0.5
    assert script.pauses[0] == script.pauses[7] < 0.1


def test_no_read_transaction_while_waiting(writer, reader, relay, tmp_path):
    """While it waits the log can be folded in wholly."""
    busy = []

    def fold():
        database = sqlite3.connect(tmp_path / FILE)
        busy.append(database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
        database.close()

    followed(reader, AuditQuery(), 0, Script(lambda: writer.append(relay.day()), fold, fold))
    assert busy == [0, 0]


def test_a_long_pile_is_followed_in_pages(writer, reader, relay):
    """More rows than one look takes are all told."""
    rows = [event for _ in range(120) for event in relay.day()]
    writer.append(rows)
    assert [row.event for row in followed(reader, AuditQuery(), 0, Script())] == rows


def test_a_restored_log_is_followed_from_its_beginning(writer, reader, relay, tmp_path):
    """When an older backup takes the log's place, following goes on with its first row."""
    writer.append(relay.day())
    writer.backup(tmp_path / "copy.db")
    writer.append(relay.day())
    head = reader.head()

    def restore():
        writer.close()
        retire_log(tmp_path / FILE, tmp_path / "aside.db")
        (tmp_path / "copy.db").rename(tmp_path / FILE)

    assert [row.seq for row in followed(reader, AuditQuery(), head, Script(restore))] == list(range(1, 12))
