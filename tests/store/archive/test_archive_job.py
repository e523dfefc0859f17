"""Archiving: no row lost, none twice, nothing deleted that was not proven, whatever instant it is killed at."""

import os
import shutil
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from relay.core.audit.archive_format import DAY, RetentionSettings, dropped
from relay.core.audit.event import Event
from relay.errors import StoreUnavailable
from relay.store import pruning
from relay.store.archive import archive_job, archive_writer
from relay.store.archive.archive_reader import DIRECTORY, MANIFEST, ArchiveReader
from relay.store.reader import AuditReader
from relay.store.writer import FILE, AuditWriter
from tests.audit_rows import NOON, Relay
from tests.store import archived

EVERY = int(os.environ.get("RELAY_KILL_EVERY", "17"))  # lines; loops over rows are long, and their turns alike
STORE = ("archive/archive_job", "archive/archive_writer", "archive/archive_reader", "pruning", "writer")
OURS = (*(f"/relay/store/{name}.py" for name in STORE), "/relay/atomic_file.py")


def killed_at(step: int, do: Callable[[], object]) -> bool:
    """Do it in a process that kills itself before line `step` of the store's code; whether it was killed.

    A line is finer than a system call: every state that a crash can leave on the disk is met.
    """
    child = os.fork()
    if child == 0:
        left = step

        def trace(frame: FrameType, what: str, argument: object) -> Any:
            nonlocal left
            if not frame.f_code.co_filename.endswith(OURS):
                return None
            if what == "line":
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), 9)
            return trace

        try:
            sys.settrace(trace)
            do()
        finally:
            sys.settrace(None)
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9


def named(events: list[Event]) -> list[str]:
    """The ids."""
    return [event.id for event in events]


def kept(state: Path) -> list[str]:
    """The ids of all rows but those about archives, in archives and database together."""
    return [row.event.id for row in archived.whole(state) if not row.event.name.startswith("audit.arch")]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # the child calls nothing that another thread holds
def test_a_kill_at_any_line_loses_nothing(tmp_path: Path) -> None:
    """Killed before any line of the code: every row is in one place, and the next run does the rest."""
    relay = Relay()
    before = tmp_path / "before"
    before.mkdir()
    events = archived.fill(before, 1, relay)
    edge = relay.now
    steps = 0
    step = 1
    while True:
        state = tmp_path / "state"
        shutil.copytree(before, state)
        was_killed = killed_at(step, partial(archived.archive, state, edge, slice=5))
        assert kept(state) == named(events), f"killed before line {step}"
        if not was_killed:
            break
        steps += 1
        archived.archive(state, edge)
        assert kept(state) == named(events), f"killed before line {step}, and then gone on"
        rows = [row.event.name for row in archived.whole(state)]
        assert rows.count("audit.archived") == 1, f"killed before line {step}"
        with AuditReader(state / FILE) as reader:
            assert reader.base()[0] == 12
        assert sorted(path.name for path in (state / DIRECTORY).iterdir()) == [MANIFEST, "relay-1-12.jsonl.gz"]
        shutil.rmtree(state)
        step += 1 if step < 20 else EVERY
    assert steps > 50


def test_what_is_due_is_said_beforehand(tmp_path: Path) -> None:
    """By age, once it is a day's worth; with the reason why something has to stay."""
    relay = Relay()
    archived.fill(tmp_path, 4, relay)
    writer = AuditWriter(tmp_path / FILE, "relay")
    opened = relay.opened(relay.connect())
    writer.append([opened, archived.sealed(relay), *relay.day()])
    writer.close()
    keep = 10 * DAY
    with AuditReader(tmp_path / FILE) as reader:

        def plan(now: int, most: int = 0, before: int | None = None) -> archive_job.ArchivePlan:
            return archive_job.plan(tmp_path, reader, RetentionSettings(keep, most), now, before)

        assert plan(relay.now + keep).ends == ()
        assert plan(NOON + keep + DAY).ends == ()
        due = plan(relay.now + keep + 2 * DAY)
        assert (due.after, due.ends) == (0, (48,))
        assert due.held == f"forward {opened.id} is open since row 49"
        assert plan(relay.now, before=NOON + archived.HOUR) == archive_job.ArchivePlan(0, (12,), 12)
        due = plan(NOON + 4 * archived.HOUR, most=1, before=NOON + 4 * archived.HOUR)
        assert due.ends == (36,)
        assert "rows of the last hour stay" in due.held
        assert plan(relay.now, most=1).ends == (36,)  # far too large


def test_rows_without_a_checkpoint_stay(tmp_path: Path) -> None:
    """An archive ends with a signed row; where there is none nothing is archived, and that is said."""
    relay = Relay()
    writer = AuditWriter(tmp_path / FILE, "relay")
    writer.append(archived.day(relay)[:-1])
    database_rows = writer.head()[0]
    writer.close()
    relay.now += archived.HOUR
    assert archived.archive(tmp_path, relay.now) == []
    with AuditReader(tmp_path / FILE) as reader:
        due = archive_job.plan(tmp_path, reader, archived.EVER, relay.now + archived.LATER, relay.now)
    assert due.held == f"no checkpoint stands between row 0 and row {database_rows}"


def test_one_archive_has_so_many_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges end at the last checkpoint within the bound, or at the next one where none is."""
    monkeypatch.setattr(archive_job, "MOST_ROWS", 30)
    relay = Relay()
    events = archived.fill(tmp_path, 5, relay)
    assert [entry.rows for entry in archived.archive(tmp_path, relay.now)] == [24, 24, 12]
    monkeypatch.setattr(archive_job, "MOST_ROWS", 5)
    relay.now += 2 * archived.LATER
    events += archived.fill(tmp_path, 2, relay)
    assert [entry.rows for entry in archived.archive(tmp_path, relay.now)] == [15, 12]
    assert kept(tmp_path) == named(events)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE events SET time = time + 1 WHERE seq = 7", "row 7 is not what was written"),
        ("DELETE FROM events WHERE seq = 7", "row 7 is missing"),
        ("UPDATE who SET text = replace(text, 'alice', 'mallo')", "row 4 is not what was written"),
        ("UPDATE events SET hash = zeroblob(32) WHERE seq = 12", "row 12 is not what was written"),
    ],
)
def test_a_database_that_was_changed_is_not_archived(tmp_path: Path, change: str, said: str) -> None:
    """What does not fit its chain stays where it is: nothing is deleted, nothing is written, and the row is named."""
    import sqlite3

    relay = Relay()
    archived.fill(tmp_path, 2, relay)
    database = sqlite3.connect(tmp_path / FILE)
    database.execute(change)
    database.commit()
    database.close()
    with pytest.raises(StoreUnavailable, match=said):
        archived.archive(tmp_path, relay.now)
    assert list((tmp_path / DIRECTORY).iterdir()) == []
    with AuditReader(tmp_path / FILE) as reader:
        assert reader.base()[0] == 0


@pytest.mark.parametrize("how", ["changed before deletion", "missing", "manifest gone", "another database"])
def test_an_archive_that_is_not_what_it_was_stops_everything(tmp_path: Path, how: str) -> None:
    """Missing, changed or strange archives are named, and not one row is deleted."""
    relay = Relay()
    archived.fill(tmp_path, 3, relay)
    archived.archive(tmp_path, NOON + archived.HOUR)
    archived.archive(tmp_path, relay.now, settle=how == "missing")
    first, second = ArchiveReader(tmp_path).entries()
    directory = tmp_path / DIRECTORY
    if how == "changed before deletion":
        data = bytearray((directory / second.file).read_bytes())
        data[len(data) // 2] ^= 1
        (directory / second.file).write_bytes(data)
    elif how == "missing":
        (directory / first.file).unlink()
    elif how == "manifest gone":
        (directory / MANIFEST).unlink()
    else:
        other = tmp_path / "other"
        other.mkdir()
        relay = Relay(NOON + 500_000)
        archived.fill(other, 3, relay)
        archived.archive(other, NOON + archived.HOUR)
        for path in other.glob("audit.db*"):
            shutil.copy(path, tmp_path / path.name)
    files = {path.name for path in directory.iterdir()}
    with AuditReader(tmp_path / FILE) as reader:
        base = reader.base()
    with pytest.raises(StoreUnavailable) as caught:
        archived.archive(tmp_path, relay.now + DAY)
    assert "nothing was deleted" in caught.value.hint
    with AuditReader(tmp_path / FILE) as reader:
        assert reader.base() == base
    assert {path.name for path in directory.iterdir()} == files


def test_only_what_was_archived_can_be_deleted(tmp_path: Path) -> None:
    """The writer deletes up to a row of a hash that it has itself, and up to no row that a forward still needs."""
    relay = Relay()
    archived.fill(tmp_path, 2, relay)
    writer = AuditWriter(tmp_path / FILE, "relay")
    try:
        with pytest.raises(StoreUnavailable, match="not the one that was archived"):
            writer.forget(12, "0" * 64, 99)
        with pytest.raises(StoreUnavailable, match="not the one that was archived"):
            writer.forget(99, "0" * 64, 99)
        opened = relay.opened(relay.connect())
        writer.append([opened, archived.sealed(relay)])
        with AuditReader(tmp_path / FILE) as reader:
            rows = reader.after(0, 100)
            with pytest.raises(StoreUnavailable, match="a forward is open that began before row 26"):
                writer.forget(26, rows[25].hash, 99)
            assert writer.forget(24, rows[23].hash, 10)
            assert reader.base() == (10, rows[9].hash)
            assert [row.seq for row in reader.after(0, 100)] == list(range(11, 27))
            assert reader.after(0, 1)[0].prev == rows[9].hash
            assert writer.forget(24, rows[23].hash, 99)
            assert not writer.forget(24, rows[23].hash, 99)
            assert [row.seq for row in reader.after(0, 100)] == [25, 26]
        writer.append([relay.event("zone.up", zone="a", duration=1)])
        assert writer.head()[0] == 27
    finally:
        writer.close()


def test_dictionaries_do_not_outlive_their_rows(tmp_path: Path) -> None:
    """People and targets that no row names any more leave the database too; a number never comes to mean another."""
    relay = Relay()
    writer = AuditWriter(tmp_path / FILE, "relay")
    for number in range(50):
        connection = relay.connect(client=f"203.0.113.{number}")
        writer.append([relay.denied(connection, f"host{number}:22"), archived.sealed(relay)])
    count = "SELECT (SELECT count(*) FROM who), (SELECT count(*) FROM target)"
    with AuditReader(tmp_path / FILE) as reader:
        rows = reader.after(0, 1000)
        assert reader._ask(count) == [(50, 50)]
        while writer.forget(rows[-3].seq, rows[-3].hash, 7):
            pass
        assert reader._ask(count) == [(1, 1)]
        writer.append([relay.denied(relay.connect(client="203.0.113.0"), "host0:22")])
        assert reader._ask("SELECT max(id) FROM who") == [(51,)]
        assert archived_fields(reader) == ["203.0.113.49", None, "203.0.113.0"]
    writer.close()


def archived_fields(reader: AuditReader) -> list[object]:
    """The client of each row that is left."""
    return [row.event.fields.get("client") for row in reader.after(0, 100)]


def test_room_is_used_again_and_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that left make room for those to come; what is more than that goes back to the disk, bit by bit."""
    monkeypatch.setattr(pruning, "FREE_PAGES", 10)
    relay = Relay()
    writer = AuditWriter(tmp_path / FILE, "relay")
    for _ in range(20):
        writer.append([event for _ in range(5) for event in archived.day(relay)])
    full = writer.room()
    relay.now += archived.HOUR
    archived_rows = writer.head()[0]
    writer.close()
    archived.archive(tmp_path, relay.now)
    writer = AuditWriter(tmp_path / FILE, "relay")
    try:
        empty = writer.room()
        assert (empty.size, empty.base) == (full.size, archived_rows)
        assert empty.used < full.used / 2
        for _ in range(20):
            writer.append([event for _ in range(5) for event in archived.day(relay)])
        assert writer.room().size <= full.size * 1.1
        with AuditReader(tmp_path / FILE) as reader:
            row = reader.after(writer.head()[0] - 1)[0]
        while writer.forget(row.seq, row.hash, 99):
            pass
        while writer.give_back():
            pass
        writer._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        assert (tmp_path / FILE).stat().st_size < full.size * 0.7
    finally:
        writer.close()


def test_strangers_push_no_row_out(tmp_path: Path) -> None:
    """However many strangers are counted, the size that archives rows for their sake does not grow."""
    from relay.store.preauth_counters import AttemptCount

    relay = Relay()
    archived.fill(tmp_path, 1, relay)
    writer = AuditWriter(tmp_path / FILE, "relay")
    before = writer.room()
    writer.strangers(
        AttemptCount(
            minute, f"198.51.{number}.0/24", "unknown-key", 1, "0k3v9x2m4qz", "SHA256:" + "x" * 43, "4/00aa11bb"
        )
        for minute in range(200)
        for number in range(60)
    )
    after = writer.room()
    writer.close()
    assert after.size > before.size + (1 << 20)
    assert after.used <= before.used + (64 << 10)


def test_a_slow_reader_does_not_let_the_log_grow(tmp_path: Path) -> None:
    """A walk that is left in its middle holds nothing: archiving a thousand rows meanwhile leaves a short log."""
    relay = Relay()
    archived.fill(tmp_path, 200, relay)
    with AuditReader(tmp_path / FILE) as reader:
        walk = reader.walk()
        next(walk)
        archived.archive(tmp_path, relay.now)
        log = tmp_path / f"{FILE}-wal"
        assert not log.exists() or log.stat().st_size <= 4 << 20


def test_archives_are_given_up_by_name_only(tmp_path: Path) -> None:
    """The manifest first, then the row, then the file; a run that was cut short is taken up; the rest can be read."""
    relay = Relay()
    archived.fill(tmp_path, 1, relay)
    archived.archive(tmp_path, relay.now)
    relay.now += 2 * archived.LATER
    archived.fill(tmp_path, 1, relay)
    archived.archive(tmp_path, relay.now)
    archives = ArchiveReader(tmp_path)
    first, second = archives.entries()
    assert archive_writer.to_discard(archives, second.last, first.until, sealed=True) == ()
    assert archive_writer.to_discard(archives, first.last, 1 << 61, sealed=True) == (first,)
    assert archive_writer.to_discard(archives, second.last, first.until + 1, sealed=True) == (first,)
    (gone,) = archive_writer.announce_discards(tmp_path, (first,), lambda: relay.now)
    assert gone == dropped(first, gone.dropped_id, relay.now)
    assert archive_writer.pending_discards(archives) == (gone,)
    assert archive_writer.to_discard(archives, second.last, 1 << 61, sealed=True) == (second,)
    assert archive_writer.to_discard(archives, second.last, 1 << 61, sealed=False) == ()
    archive_writer.discard(archives, gone)
    archive_writer.discard(archives, gone)
    assert archive_writer.pending_discards(archives) == ()
    assert next(archives.walk()).seq == second.first
    assert archives.entries() == (gone, second)
    assert archived.archive(tmp_path, relay.now + DAY) == []


def test_a_changed_archive_is_not_given_up_in_silence(tmp_path: Path) -> None:
    """Who deletes old archives is told first that one of them is not what it was."""
    relay = Relay()
    archived.fill(tmp_path, 1, relay)
    (entry,) = archived.archive(tmp_path, relay.now)
    path = tmp_path / DIRECTORY / entry.file
    path.write_bytes(b"x" * entry.bytes)
    with pytest.raises(StoreUnavailable, match=entry.file):
        archive_writer.announce_discards(tmp_path, (entry,), lambda: 1)
    assert ArchiveReader(tmp_path).entries() == (entry,)


def test_one_archives_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another who archives, or a backup, is waited for, and named when that takes too long."""
    monkeypatch.setattr(archive_writer, "WAIT_SECONDS", 0.1)
    archived.fill(tmp_path, 1)
    with archive_writer.alone(tmp_path), pytest.raises(StoreUnavailable, match="another process archives"):
        archived.archive(tmp_path, NOON + DAY)


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    """An archive that cannot be written whole is not there, its rows are still in the database, the cure is named."""
    import resource

    relay = Relay()
    events = archived.fill(tmp_path, 30, relay)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, unlimited[1]))
    try:
        with pytest.raises(StoreUnavailable, match="cannot be written") as caught:
            archived.archive(tmp_path, relay.now, settle=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert "df -h" in caught.value.hint
    assert list((tmp_path / DIRECTORY).iterdir()) == []
    archived.archive(tmp_path, relay.now)
    assert kept(tmp_path) == named(events)


def test_the_last_room_of_the_disk_is_left_to_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relay on a nearly full disk must not be brought to refuse forwards by its own housekeeping."""
    relay = Relay()
    archived.fill(tmp_path, 1, relay)
    monkeypatch.setattr(archive_writer, "RESERVED", 1 << 60)
    with pytest.raises(StoreUnavailable, match="are for the rows to come"):
        archived.archive(tmp_path, relay.now)
    assert list((tmp_path / DIRECTORY).iterdir()) == []


def test_the_child_says_what_it_does(tmp_path: Path) -> None:
    """The supervisor's child: what waits, each archive, and an end; a fault is said with its cure."""
    import json
    import subprocess

    now = time.time_ns() // 1000
    relay = Relay(now - 3 * DAY)
    archived.fill(tmp_path, 2, relay)

    def child(*words: str) -> list[dict[str, Any]]:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "relay.store.archive.archive_job", tmp_path, *words],
            capture_output=True,
            text=True,
            check=True,
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    assert child(str(10 * DAY), "0") == [{"held": "", "wished": 0, "ends": 0}, {"done": True}]
    plan, entry, end = child(str(DAY), "0")
    assert (plan["ends"], json.loads(entry["entry"])["last"], end) == (1, 24, {"done": True})
    entry, plan, end = child(str(DAY), "0", str(now))
    assert json.loads(entry["entry"])["last"] == 24  # its rows are in the database still
    (tmp_path / DIRECTORY / "relay-1-24.jsonl.gz").unlink()
    (told,) = child(str(DAY), "0")
    assert "relay-1-24.jsonl.gz" in told["problem"]


@pytest.mark.parametrize("deleted", [0, 5, 12])
def test_what_is_damaged_can_be_given_up(tmp_path: Path, deleted: int) -> None:
    """Only what is nowhere else is lost: rows that the database still has stay, and are archived anew."""
    relay = Relay()
    events = archived.fill(tmp_path, 2, relay)
    (entry,) = archived.archive(tmp_path, NOON + archived.HOUR, settle=False)
    writer = AuditWriter(tmp_path / FILE, "relay")
    if deleted:
        writer.append([entry.archived()])
        writer.forget(entry.last, entry.hash, deleted)
    writer.close()
    (tmp_path / DIRECTORY / entry.file).write_bytes(b"x")
    with AuditReader(tmp_path / FILE) as reader:
        base = reader.base()
    assert base[0] == deleted
    lost = archive_writer.damaged(ArchiveReader(tmp_path), *base, lambda: relay.now)
    assert [(one.first, one.last, one.kept) for one in lost] == ([(1, deleted, False)] if deleted else [])
    archive_writer.give_up(tmp_path, deleted, lost)
    archived.archive(tmp_path, relay.now)
    assert [row.event for row in ArchiveReader(tmp_path).walk()] == events[deleted:]
    assert ArchiveReader(tmp_path).last() == 24
    assert archive_writer.damaged(ArchiveReader(tmp_path), 24, "", lambda: relay.now) == ()
