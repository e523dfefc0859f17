"""The last access of each person to each target, grouped by SQL."""

import sqlite3

import pytest

from relay.errors import StoreUnavailable
from relay.review.first_seen import SeenItems
from relay.store import last_access
from relay.store.reader import AuditReader
from relay.store.writer import FILE, AuditWriter
from tests.audit_rows import NOON
from tests.audit_team import DAY, Team


def test_it_says_what_the_rows_say(tmp_path, monkeypatch):
    """Exactly what meeting every row up to there one by one gives, however the rows are sliced."""
    monkeypatch.setattr(last_access, "_SLICE", 700)
    events = list(Team(NOON, days=20, forwards=400).events())
    writer = AuditWriter(tmp_path / FILE, "relay")
    writer.append(events)
    writer.close()
    with AuditReader(tmp_path / FILE) as reader:
        edge = reader.edge(NOON - 10 * DAY)
        assert 0 < edge < reader.head()
        by_sql, by_rows = SeenItems(), SeenItems()
        for habit in reader.habits(edge):
            by_sql.meet(habit.fields, habit.last, denied=habit.denied)
        for row in reader.walk(0, edge):
            by_rows.meet(row.event.fields, row.event.time, denied=row.event.name == "forward.denied")
    assert by_sql == by_rows
    assert len(by_sql.pairs) > 50


def test_a_damaged_dictionary_is_said_so(tmp_path, relay_day):
    """Not a traceback: the cure."""
    database = sqlite3.connect(tmp_path / FILE)
    database.execute("UPDATE who SET text = '{'")
    database.commit()
    database.close()
    with AuditReader(tmp_path / FILE) as reader, pytest.raises(StoreUnavailable, match="damaged"):
        list(reader.habits(reader.head()))


@pytest.fixture
def relay_day(tmp_path):
    """A database with an ordinary day."""
    from tests.audit_rows import Relay

    writer = AuditWriter(tmp_path / FILE, "relay")
    writer.append(Relay().day())
    writer.close()
