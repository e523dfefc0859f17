"""Reading while the relay runs, while it is stopped, and on read-only media, without delaying the writer."""

import contextlib
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path

import pytest

from relay.core.audit.audit_query import AuditQuery
from relay.errors import StoreUnavailable
from relay.store.database_files import retire_log
from relay.store.reader import AuditReader
from relay.store.writer import FILE, AuditWriter
from tests.audit_rows import Relay
from tests.core.chain_check import first_break

NOBODY = 65534


@pytest.fixture
def shelf():
    """A directory that other users can reach (pytest's own are for their owner only)."""
    with tempfile.TemporaryDirectory(prefix="relay-test-") as name:
        path = Path(name)
        path.chmod(0o755)
        yield path
        path.chmod(0o755)


def replace(path: Path, copy: Path) -> None:
    """Another database takes this one's place, as `relayctl restore` does it."""
    aside = path.with_name("aside.db")
    retire_log(path, aside)
    path.rename(aside)
    copy.rename(path)


@contextlib.contextmanager
def without_writing(directory: Path):
    """Be somebody who can read `directory` and its files, and write nothing there."""
    for file in directory.iterdir():
        file.chmod(0o444)
    directory.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_it_sees_every_row_while_the_relay_writes(writer, path):
    """An open reader sees each group as soon as it is durable."""
    relay = Relay()
    writer.append(relay.day())
    with AuditReader(path) as reader:
        assert (reader.head(), reader.way) == (11, "live")
        writer.append(relay.day())
        assert len(reader.after(11)) == 11


def test_it_reads_when_the_relay_is_stopped(writer, path):
    """A database that was closed in order is one file, and that is enough."""
    writer.append(Relay().day())
    writer.close()
    with AuditReader(path) as reader:
        assert len(reader.after(0)) == 11


def test_it_holds_no_transaction_between_answers(writer, path):
    """After an answer, complete or cut short by a limit, the log can be folded in wholly."""
    relay = Relay()
    writer.append(relay.day())
    with AuditReader(path) as reader:
        reader.after(0, 3)
        reader.search(AuditQuery(text="alice"), limit=2)
        writer.append(relay.day())
        database = sqlite3.connect(path)
        busy, _, _ = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        database.close()
        assert busy == 0
        assert len(reader.after(0)) == 22


def test_it_cannot_write(writer, path):
    """A reader's connection refuses every change."""
    with AuditReader(path) as reader:
        reader.head()
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader._database.execute("DELETE FROM events")


def test_a_group_that_may_read_the_database_may_read_its_log(writer, path):
    """The log and index files that SQLite makes anew at each start take over the database's mode."""
    writer.append(Relay().day())
    writer.close()
    path.chmod(0o640)
    writer = AuditWriter(path, "relay")
    writer.append(Relay(10**15 * 2).day())
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    writer.close()
    assert modes == {FILE: 0o640, f"{FILE}-wal": 0o640, f"{FILE}-shm": 0o640, f"{FILE}.lock": 0o600}


def test_a_reviewer_may_write_nothing_while_the_relay_runs(shelf):
    """With read permission alone, the log's newest rows are seen while the relay holds it open."""
    relay, writer = Relay(), AuditWriter(shelf / FILE, "relay")
    writer.append(relay.day())
    with without_writing(shelf), AuditReader(shelf / FILE) as reader:
        assert len(reader.after(0)) == 11
    writer.append(relay.day())
    with without_writing(shelf), AuditReader(shelf / FILE) as reader:
        assert len(reader.after(0)) == 22
        assert reader.way == "live"
    writer.close()


def test_a_reviewer_may_write_nothing_while_the_relay_is_stopped(shelf):
    """With read permission alone, a closed database is read as it stands, and nothing is left beside it."""
    writer = AuditWriter(shelf / FILE, "relay")
    writer.append(Relay().day())
    writer.close()
    before = {file.name for file in shelf.iterdir()}
    with without_writing(shelf), AuditReader(shelf / FILE) as reader:
        assert first_break(reader.after(0)) is None
        assert (reader.head(), reader.way) == (11, "still")
    assert {file.name for file in shelf.iterdir()} == before


def test_a_reviewer_may_write_nothing_after_a_crash(shelf, tmp_path):
    """A database with rows in its log and no shared index (a crash, a copy) is read through a private copy."""
    writer = AuditWriter(tmp_path / FILE, "relay")
    writer.append(Relay().day())
    for name in (FILE, f"{FILE}-wal"):
        shutil.copy(tmp_path / name, shelf / name)
    writer.close()
    with without_writing(shelf), AuditReader(shelf / FILE) as reader:
        assert len(reader.after(0)) == 11
        assert reader.way == "copy"
        private = Path(reader._copy.name)
        assert private.stat().st_mode & 0o777 == 0o700
    assert not private.exists()


def test_who_must_not_wait_copies_nothing(shelf, tmp_path, monkeypatch):
    """The thread that writes rows looks into the database itself: it is told that it cannot, at once."""
    path = shelf / FILE
    writer = AuditWriter(path, "relay")
    writer.append(Relay().day())
    with AuditReader(path, only_live=True) as reader:
        assert (reader.head(), reader.way) == (11, "live")
        reader.close()
        monkeypatch.setattr(reader, "_live", lambda: sqlite3.connect(tmp_path / "none" / "none"))
        with pytest.raises(StoreUnavailable):
            reader.head()
    writer.close()


def test_a_still_database_that_starts_to_move_is_asked_again(shelf):
    """When the relay starts under a reviewer who may not write, the next answers have the new rows."""
    relay, writer = Relay(), AuditWriter(shelf / FILE, "relay")
    writer.append(relay.day())
    writer.close()
    reader = AuditReader(shelf / FILE)
    with without_writing(shelf):
        assert reader.head() == 11
    shelf.chmod(0o755)
    for file in shelf.iterdir():
        file.chmod(0o644)
    writer = AuditWriter(shelf / FILE, "relay")
    writer.append(relay.day())
    with without_writing(shelf):
        assert reader.head() == 22
    writer.close()
    with without_writing(shelf):
        assert reader.head() == 22
    reader.close()


def test_a_restored_database_is_noticed(writer, path, tmp_path):
    """When a backup takes the database's place, an open reader reads that one, and no old log creeps into it."""
    relay = Relay()
    writer.append(relay.day())
    writer.backup(tmp_path / "copy.db")
    writer.append(relay.day())
    with AuditReader(path) as reader:
        assert reader.head() == 22
        writer.close()
        replace(path, tmp_path / "copy.db")
        assert reader.head() == 11


def test_no_old_log_creeps_into_a_restored_database(path, tmp_path):
    """After a crash the old log goes with the old database, and the writer goes on from the restored one's last row."""
    relay, copy, crashed = Relay(), tmp_path / "copy.db", tmp_path / "crashed"
    crashed.mkdir()
    writer = AuditWriter(path, "relay")
    writer.append(relay.day())
    writer.backup(copy)
    writer.append(relay.day())
    for name in (FILE, f"{FILE}-wal"):
        shutil.copy(path.with_name(name), crashed / name)
    writer.close()
    path = crashed / FILE
    replace(path, copy)
    writer = AuditWriter(path, "relay")
    writer.append(relay.day())
    writer.close()
    for file in (path, path.with_name("aside.db")):
        with AuditReader(file) as reader:
            assert reader.head() == 22
            assert first_break(reader.after(0)) is None


def test_the_log_of_a_damaged_database_is_kept_beside_it(path):
    """Nothing is thrown away: what could not be folded in may still be wanted."""
    path.write_bytes(b"damaged " * 1000)
    path.with_name(f"{FILE}-wal").write_bytes(b"rows")
    path.with_name(f"{FILE}-shm").write_bytes(b"index")
    retire_log(path, path.with_name("aside.db"))
    assert {file.name for file in path.parent.iterdir()} == {FILE, "aside.db-wal"}


@pytest.mark.parametrize(
    ("content", "what"), [(b"", "is empty"), (b"no database at all, " * 400, "is damaged"), (None, "there is no audit")]
)
def test_what_is_no_database_is_named(path, content, what):
    """A missing, empty or foreign file gives a clear error with the cure, and the file stays as it was."""
    if content is not None:
        path.write_bytes(content)
    with AuditReader(path) as reader, pytest.raises(StoreUnavailable, match=what) as caught:
        reader.head()
    assert caught.value.hint
    assert (path.read_bytes() if path.exists() else None) == content


def test_a_row_that_was_damaged_is_named(writer, path):
    """A row whose text cannot be read is an error with its number, not a crash."""
    writer.append(Relay().day())
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("UPDATE events SET rest = '[1' WHERE seq = 4")
    database.close()
    with AuditReader(path) as reader, pytest.raises(StoreUnavailable, match="row 4"):
        reader.after(0)


@pytest.mark.parametrize(
    ("statement", "broken"),
    [
        ("UPDATE events SET time = time + 1 WHERE seq = 5", 5),
        ("UPDATE who SET text = replace(text, 'alice', 'mallory') WHERE person = 'alice'", 4),
        ("UPDATE target SET text = replace(text, '192.168.1.50', '192.168.1.51') WHERE host = '192.168.1.50'", 7),
        ("DELETE FROM events WHERE seq = 6", 6),
        ("UPDATE names SET name = 'forward.reopened' WHERE name = 'forward.opened'", 5),
        ("UPDATE events SET hash = zeroblob(32) WHERE seq = 8", 8),
    ],
)
def test_a_change_behind_the_relays_back_breaks_the_chain(writer, path, statement, broken):
    """A changed row, a deleted one and a changed dictionary entry are each found at the first row they touch."""
    writer.append(Relay().day())
    database = sqlite3.connect(path, isolation_level=None)
    assert database.execute(statement).rowcount > 0
    database.close()
    with AuditReader(path) as reader:
        assert first_break(reader.after(0)).seq == broken


def test_rows_by_their_ids(writer, path):
    """A row by its event, the two of a forward, those of a connection, and nothing by what does not exist."""
    day = Relay().day()
    writer.append(day)
    opened, closed = day[4], day[9]
    with AuditReader(path) as reader:
        assert reader.by_id(opened.id).event == opened
        assert [row.event for row in reader.by_forward(opened.fields["forward"])] == [opened, closed]
        told = [row.event.name for row in reader.by_connection(opened.fields["connection"])]
        assert told == [day[3].name, opened.name, "forward.denied", "request.refused", closed.name, "connection.closed"]
        assert (reader.by_id("nothing"), reader.by_forward("nothing"), reader.by_connection("")) == (None, [], [])
        assert reader.is_open(day[6].fields["forward"])
        assert not reader.is_open(opened.fields["forward"])
        assert reader.persons() == ["alice", "bob"]


def test_the_nearest_id_shares_the_longest_beginning(writer, path):
    """A mistyped id's neighbour is found by its beginning, which is its time."""
    day = Relay().day()
    writer.append(day)
    with AuditReader(path) as reader:
        assert reader.nearest(day[4].id[:-1] + "~") == day[4].id
        assert reader.nearest("zzzzzzzzzzz")
