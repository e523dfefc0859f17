"""Older and newer databases: brought up, taken as they are, or refused with the cure."""

import sqlite3

import pytest

from relay.core.audit.hash_chain import GENESIS, first_break, link
from relay.errors import StoreUnavailable
from relay.store import migrations
from relay.store.reader import AuditReader
from relay.store.rows import row_encoding
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


def test_another_major_version_is_refused(writer, path):
    """A database of another format is left alone, by writer and reader, and the error says what to use."""
    writer.close()
    run(path, "PRAGMA user_version = 3001")
    for use in (lambda: AuditWriter(path, "relay"), lambda: AuditReader(path).head()):
        with pytest.raises(StoreUnavailable, match="format 3") as caught:
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


FORMAT_1 = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID",
    "CREATE TABLE nodes (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    "CREATE TABLE names (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    "INSERT INTO names (id, name) VALUES (1, 'forward.opened'), (2, 'forward.closed')",
    """CREATE TABLE who (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, text TEXT NOT NULL,
        person TEXT, fingerprint TEXT, client BLOB)""",
    """CREATE TABLE target (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, text TEXT NOT NULL,
        host TEXT, address BLOB, port INTEGER)""",
    """CREATE TABLE events (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, time INTEGER NOT NULL,
        node INTEGER NOT NULL, name INTEGER NOT NULL, schema INTEGER NOT NULL, who INTEGER, target INTEGER,
        connection TEXT, forward TEXT, rest TEXT NOT NULL, hash BLOB NOT NULL)""",
    "CREATE INDEX events_time ON events (time)",
    "CREATE INDEX events_who ON events (who) WHERE who IS NOT NULL",
    "CREATE TABLE open_forwards (forward TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID",
    """CREATE TABLE strangers (minute INTEGER NOT NULL, prefix TEXT NOT NULL, kind TEXT NOT NULL,
        count INTEGER NOT NULL, reference TEXT NOT NULL, fingerprint TEXT NOT NULL, login TEXT NOT NULL,
        PRIMARY KEY (minute, prefix, kind)) WITHOUT ROWID""",
    "INSERT INTO meta VALUES ('salt', x'00112233445566778899aabbccddeeff')",
    f"PRAGMA application_id = {migrations.APPLICATION}",
    "PRAGMA user_version = 1001",
)


def write_format_1(path, events):
    """A database as release 0.1.0 wrote it, statement by statement; the rows that are in it."""
    database = sqlite3.connect(path, isolation_level=None)
    for statement in FORMAT_1:
        database.execute(statement)
    prev, rows = GENESIS, []
    for seq, event in enumerate(events, 1):
        row = link("relay", seq, prev, event)
        rows.append(row)
        prev = row.hash
        places = []
        for table, words in (("who", row_encoding.WHO), ("target", row_encoding.TARGET)):
            text = row_encoding.part(event.fields, words)
            if text is not None:
                digest = row_encoding.short_digest(text)
                database.execute(
                    f"INSERT INTO {table} (digest, text) VALUES (?, ?) ON CONFLICT DO NOTHING", (digest, text)
                )
                (text,) = database.execute(f"SELECT id FROM {table} WHERE digest = ?", (digest,)).fetchone()
            places.append(text)
        for table, word in (("nodes", "relay"), ("names", event.name)):
            database.execute(f"INSERT INTO {table} (name) VALUES (?) ON CONFLICT DO NOTHING", (word,))
        database.execute(
            """INSERT INTO events VALUES (?, ?, ?, 1, (SELECT id FROM names WHERE name = ?), 1, ?, ?, ?, ?, ?, ?)""",
            (
                *(seq, event.id, event.time, event.name, *places),
                *(event.fields.get("connection"), event.fields.get("forward")),
                row_encoding.compact(
                    {
                        key: value
                        for key, value in event.fields.items()
                        if key not in (*row_encoding.WHO, *row_encoding.TARGET, *row_encoding.IDS)
                    }
                ),
                bytes.fromhex(row.hash),
            ),
        )
        if event.name == "forward.opened":
            database.execute("INSERT INTO open_forwards VALUES (?, ?)", (event.fields["forward"], seq))
        elif event.name == "forward.closed":
            database.execute("DELETE FROM open_forwards WHERE forward = ?", (event.fields["forward"],))
    database.close()
    return rows


def test_a_database_of_format_1_is_laid_out_anew(path):
    """The rows of 0.1.0 are the same rows afterwards, their chain goes on, what was open can still be closed once."""
    relay = Relay()
    day = relay.day()
    still = relay.opened(relay.connect())
    rows = write_format_1(path, [*day, still])
    with pytest.raises(StoreUnavailable, match="format 1 still"):
        AuditReader(path).head()
    writer = AuditWriter(path, "relay")
    second = next(event for event in day if event.fields.get("asked") == "192.168.1.50:443")
    assert list(writer.open_forwards()) == [second.id, still.id]
    writer.append([*day, relay.closed(still), relay.event("server.started", version="2")])
    writer.close()
    with AuditReader(path) as reader:
        found = list(reader.walk())
        assert found[: len(rows)] == rows
        assert [row.event.name for row in found[len(rows) :]] == ["forward.closed", "server.started"]
        assert first_break(found) is None
        assert reader.by_forward(still.id) == [found[len(rows) - 1], found[len(rows)]]


def test_a_conversion_that_fails_changes_nothing(path):
    """A row of format 1 that cannot be read leaves the old database as it was, and says so."""
    write_format_1(path, Relay().day())
    run(path, "UPDATE events SET rest = 'no JSON' WHERE seq = 7")
    with pytest.raises(StoreUnavailable):
        AuditWriter(path, "relay")
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA user_version").fetchone() == (1001,)
    assert database.execute("SELECT count(*) FROM events").fetchone() == (11,)
    database.close()
