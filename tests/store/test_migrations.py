"""Older and newer databases: migrated, used as they are, or refused with the next step."""

import sqlite3

import pytest

from relay.errors import StoreUnavailable
from relay.store import migrations
from relay.store.reader import AuditReader
from relay.store.writer import AuditWriter
from tests.audit_rows import Relay


def run(path, statement):
    """One statement behind the relay's back."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute(statement)
    database.close()


def test_a_new_database_is_at_the_current_version(writer, path):
    """The first start makes everything, in one transaction."""
    database = sqlite3.connect(path)
    assert migrations.check(database) == migrations.CURRENT
    database.close()


def test_an_older_one_gets_what_it_lacks(writer, path, monkeypatch):
    """A later program's migration is applied once, the rows stay."""
    writer.append(Relay().day())
    writer.close()
    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, ("CREATE TABLE later (x)",)))
    monkeypatch.setattr(migrations, "CURRENT", migrations.CURRENT + 1)
    for _ in range(2):
        AuditWriter(path, "relay").close()
    with AuditReader(path) as reader:
        assert reader.head() == 11
        assert reader._ask("SELECT count(*) FROM later") == [(0,)]


def test_a_migration_that_fails_changes_nothing(writer, path, monkeypatch):
    """Half a migration does not exist: the old program still finds the old database."""
    writer.close()
    broken = ("CREATE TABLE later (x)", "CREATE TABLE later (x)")
    monkeypatch.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, broken))
    monkeypatch.setattr(migrations, "CURRENT", migrations.CURRENT + 1)
    with pytest.raises(StoreUnavailable):
        AuditWriter(path, "relay")
    monkeypatch.undo()
    AuditWriter(path, "relay").close()
    with AuditReader(path) as reader:
        assert reader._ask("SELECT count(*) FROM sqlite_schema WHERE name = 'later'") == [(0,)]


def test_a_newer_one_of_the_same_major_is_used_as_it_is(writer, path):
    """The step back after an upgrade works: migrations only add."""
    writer.close()
    run(path, "CREATE TABLE later (x)")
    run(path, f"PRAGMA user_version = {migrations.CURRENT + 7}")
    writer = AuditWriter(path, "relay")
    writer.append(Relay().day())
    writer.close()
    with AuditReader(path) as reader:
        assert reader.head() == 11
        assert reader._ask("PRAGMA user_version") == [(migrations.CURRENT + 7,)]


@pytest.mark.parametrize("version", [1001, 3001])
def test_another_major_version_is_refused(writer, path, version):
    """A database of another format is left alone, by writer and reader, and the error says what to use."""
    writer.close()
    run(path, f"PRAGMA user_version = {version}")
    for use in (lambda: AuditWriter(path, "relay"), lambda: AuditReader(path).head()):
        with pytest.raises(StoreUnavailable, match=f"format {version // 1000}") as caught:
            use()
        assert "release" in caught.value.hint


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER quiet BEFORE INSERT ON events BEGIN SELECT RAISE(IGNORE); END",
        "CREATE VIEW rows AS SELECT * FROM events",
    ],
)
def test_what_could_keep_rows_from_being_recorded_is_refused(writer, path, statement):
    """A trigger passes rows over, and the chain is whole all the same: neither writer nor reader goes on."""
    writer.append(Relay().day())
    writer.close()
    run(path, statement)
    for use in (lambda: AuditWriter(path, "relay"), lambda: AuditReader(path).head()):
        with pytest.raises(StoreUnavailable, match="that no relay made"):
            use()


def test_another_programs_database_is_refused(path):
    """Pointing `state:` at somebody else's SQLite file damages nothing."""
    run(path, "CREATE TABLE theirs (x)")
    before = sqlite3.connect(path)
    with pytest.raises(StoreUnavailable, match="not an audit database"):
        AuditWriter(path, "relay")
    assert before.execute("SELECT name FROM sqlite_schema").fetchall() == [("theirs",)]
    before.close()
