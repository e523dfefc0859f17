"""The writer: rows are durable, recorded once, and whole transactions or none."""

import contextlib
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.audit.event import FIELDS, NAMES, Event, bounded
from relay.core.audit.hash_chain import GENESIS
from relay.errors import StoreUnavailable
from relay.store.reader import ROW, AuditReader
from relay.store.writer import FILE, AuditWriter
from tests.audit_rows import Relay
from tests.core.chain_check import first_break

values = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=60), st.text(max_size=2000))
keys = st.one_of(st.sampled_from(sorted(FIELDS)), st.text(max_size=20))
events = st.builds(
    Event,
    st.text(min_size=1, max_size=12),
    st.integers(0, 2**62),
    st.one_of(st.sampled_from(sorted(NAMES)), st.text(max_size=20)),
    st.dictionaries(keys, values, max_size=12),
)


def rows(path):
    """Every row of a database."""
    with AuditReader(path) as reader:
        return reader.after(0, 1_000_000)


@pytest.mark.slow
@given(st.lists(events, max_size=8, unique_by=lambda event: event.id))
def test_random_fields_come_back_as_they_were(tmp_path_factory, given_events):
    """Whatever an event's fields are, types and all, they come back the same and the chain over them holds."""
    path = tmp_path_factory.mktemp("db") / FILE
    writer = AuditWriter(path, "relay")
    writer.append(given_events)
    writer.close()
    found = rows(path)
    kept = {row.event.id for row in found}
    assert [row.event for row in found] == [bounded(event) for event in given_events if event.id in kept]
    assert all(event.name in ("forward.opened", "forward.closed") for event in given_events if event.id not in kept)
    for row, event in zip(found, [event for event in given_events if event.id in kept], strict=True):
        after = [type(value) for _, value in sorted(row.event.fields.items())]
        assert after == [type(value) for _, value in sorted(bounded(event).fields.items())]
    assert first_break(found) is None


def test_a_probe_writes_without_changing_anything(writer, path):
    """It costs a page of the log, which a disk must have taken; rows and their chain are as before."""
    writer.append(Relay().day())
    found, log = rows(path), path.with_name(path.name + "-wal")
    before = log.stat().st_size
    writer.probe()
    assert log.stat().st_size > before
    assert rows(path) == found


def test_rows_carry_node_number_and_chain(writer, path):
    """Each row has the node's name, the next number, its predecessor's hash and its own; GENESIS comes before all."""
    writer.append(Relay().day())
    found = rows(path)
    assert {row.node for row in found} == {"relay"}
    assert [row.seq for row in found] == list(range(1, 12))
    assert [row.prev for row in found] == [GENESIS, *(row.hash for row in found[:-1])]
    assert first_break(found) is None
    assert writer.head() == (11, found[-1].hash)


def test_the_chain_goes_on_after_a_restart(path):
    """A new writer, under another node's name too, continues the numbers and hashes of the one before."""
    relay = Relay()
    for node in ("relay", "relay", "other"):
        writer = AuditWriter(path, node)
        writer.append([relay.event("server.started", version="1")])
        writer.close()
    found = rows(path)
    assert [(row.seq, row.node) for row in found] == [(1, "relay"), (2, "relay"), (3, "other")]
    assert first_break(found) is None


def test_an_event_sent_twice_is_recorded_once(writer, path):
    """Resending after a lost acknowledgement, in the same group or a later one, adds nothing."""
    day = Relay().day()
    writer.append([*day, *day])
    writer.append(day[::-1])
    assert len(rows(path)) == len(day)


@pytest.mark.parametrize("ends_first", [False, True])
def test_another_events_id_is_not_taken_for_a_row_of_its_own(writer, path, ends_first):
    """The clock went back and an id was made twice: the opening is refused, since it would have no row."""
    relay = Relay()
    connection = relay.connect()
    old = relay.opened(connection)
    writer.append([old, relay.closed(old)] if ends_first else [old])
    before = rows(path)
    again = Event(old.id, old.time + 7, "forward.opened", dict(old.fields))
    denied = Event(old.id, old.time, "forward.denied", dict(old.fields))
    for clash in (again, denied):
        with pytest.raises(ValueError, match="another event"):
            writer.append([relay.opened(connection), clash])
    assert rows(path) == before
    assert writer.open_count() == (0 if ends_first else 1)
    writer.append([old])
    assert rows(path) == before


def test_a_row_that_the_database_passes_over_is_not_acknowledged(writer, path):
    """Somebody put a trigger there while the relay runs: what is not recorded must not be taken for recorded."""
    relay = Relay()
    writer.append(relay.day())
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TRIGGER quiet BEFORE INSERT ON events BEGIN SELECT RAISE(IGNORE); END")
        other.commit()
        with pytest.raises(StoreUnavailable, match="does not take row"):
            writer.append([relay.opened(relay.connect())])
        assert writer.open_count() == 1
        other.execute("DROP TRIGGER quiet")
        other.commit()
    writer.append([relay.opened(relay.connect())])
    assert writer.open_count() == 2


def test_a_forward_is_opened_and_closed_once(writer, path):
    """A closing row needs an open forward; a second closing and a second opening are left out."""
    relay = Relay()
    opened = relay.opened(relay.connect())
    closed = relay.closed(opened)
    writer.append([closed])
    assert rows(path) == []
    writer.append([opened, relay.closed(opened, "target-closed"), relay.closed(opened)])
    writer.append([closed, Event(relay.id(), relay.now, "forward.opened", opened.fields)])
    assert [row.event.fields.get("reason") for row in rows(path)] == [None, "target-closed"]
    assert writer.open_forwards() == {}


def test_open_forwards_are_known_with_their_worker(path):
    """After a crash the next supervisor learns every forward without closing row, and who carried it."""
    relay = Relay()
    connection = relay.connect()
    first, second, third = (relay.opened(connection, worker=f"w{number}") for number in range(3))
    writer = AuditWriter(path, "relay")
    writer.append([first, second, third, relay.closed(second)])
    writer.close()
    writer = AuditWriter(path, "relay")
    found = writer.open_forwards()
    writer.close()
    assert found == {first.id: first, third.id: third}
    assert found[third.id].fields["worker"] == "w2"


def test_open_forwards_need_no_scan(writer, path):
    """Finding the open ones costs one look-up each, whatever the log's length."""
    database = sqlite3.connect(path)
    plan = database.execute(f"EXPLAIN QUERY PLAN {ROW} JOIN open_forwards o ON o.seq = e.seq ORDER BY e.seq").fetchall()
    database.close()
    assert not any("SCAN e" in step[3] for step in plan)


def test_a_group_is_whole_or_not_at_all(writer, path):
    """One row that cannot be stored takes its whole group with it, and the next group is written as if nothing was."""
    relay = Relay()
    with pytest.raises(OverflowError):
        writer.append([relay.opened(relay.connect()), Event(relay.id(), 2**70, "server.stopped", {})])
    assert rows(path) == []
    assert writer.open_forwards() == {}
    writer.append(relay.day())
    assert first_break(rows(path)) is None


def test_a_second_writer_is_told_who_holds_the_lock(writer, path):
    """There is one writer; another is refused with the holder's process id, and gets the lock when that one is done."""
    with pytest.raises(StoreUnavailable, match=f"process {os.getpid()}"):
        AuditWriter(path, "relay")
    writer.close()
    AuditWriter(path, "relay").close()


def test_the_lock_falls_with_its_process(path):
    """A writer that was killed leaves no lock behind."""
    code = "import sys; from relay.store.writer import *; from pathlib import Path;"
    code += "w = AuditWriter(Path(sys.argv[1]), 'x')"
    code += "; print('ready', flush=True); sys.stdin.read()"
    child = subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with child:
        assert child.stdout.readline() == "ready\n"
        with pytest.raises(StoreUnavailable, match=f"process {child.pid}"):
            AuditWriter(path, "relay")
        child.kill()
    AuditWriter(path, "relay").close()


def test_what_was_acknowledged_survives_a_kill(path):
    """kill -9 in the middle of appending loses no row that `append` returned for, and the chain holds."""
    code = textwrap.dedent("""
        import sys
        from pathlib import Path
        from relay.store.writer import AuditWriter
        from tests.audit_rows import Relay
        writer, relay = AuditWriter(Path(sys.argv[1]), "relay"), Relay(int(sys.argv[2]))
        while True:
            day = relay.day()
            writer.append(day)
            print(day[-1].id, flush=True)
    """)
    acknowledged = []
    for start in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", code, path, str(10**15 * (start + 2))], stdout=subprocess.PIPE, text=True
        )
        with child:
            acknowledged += [child.stdout.readline().strip() for _ in range(20)]
            child.send_signal(signal.SIGKILL)
            acknowledged += [line.strip() for line in child.stdout if line.endswith("\n")]
    found = rows(path)
    assert set(acknowledged) <= {row.event.id for row in found}
    assert len(found) % 11 == 0
    assert first_break(found) is None


def test_a_full_database_refuses_and_recovers(writer, path):
    """When no page is left nothing is half done; when there is room again the same events are taken."""
    relay = Relay()
    writer.append(relay.day())
    writer._database.execute("PRAGMA max_page_count = 1")  # SQLite takes the present size then: no page more
    before = writer.head()
    with pytest.raises(StoreUnavailable, match="the disk is full") as caught:
        while True:
            day = relay.day()
            writer.append(day)
            before = writer.head()
    assert "make room" in caught.value.hint
    assert writer.head() == before
    assert first_break(rows(path)) is None
    writer._database.execute("PRAGMA max_page_count = 1000000")
    writer.append(day)
    assert writer.head()[0] == before[0] + len(day)
    assert first_break(rows(path)) is None


def test_a_file_that_may_not_grow_refuses_and_recovers(path):
    """The same with a real limit of the kernel (RLIMIT_FSIZE): writes that fail half-way leave a whole database."""
    code = textwrap.dedent("""
        import resource, sys
        from pathlib import Path
        from tests.core.chain_check import first_break
        from relay.errors import StoreUnavailable
        from relay.store.reader import AuditReader; from relay.store.writer import AuditWriter
        from tests.audit_rows import Relay
        path, relay = Path(sys.argv[1]), Relay()
        writer = AuditWriter(path, "relay")
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
        taken, refused = [], 0
        while refused < 20:
            day = relay.day()
            try:
                writer.append(day)
                taken += day
            except StoreUnavailable:
                refused += 1
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        writer.append(day)
        taken += day
        writer.close()
        with AuditReader(path) as reader:
            rows = reader.after(0, 1_000_000)
        assert [row.event.id for row in rows] == [event.id for event in taken]
        assert first_break(rows) is None
        assert len(taken) > 11
    """)
    subprocess.run([sys.executable, "-W", "error", "-c", code, path], check=True)


@pytest.mark.system
def test_a_full_disk_refuses_and_recovers(tmp_path):
    """The same on a real disk of 1 MiB: refused while it is full, taken as soon as another file makes room."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "relay-test", disk], check=True)
    relay, writer = Relay(), AuditWriter(disk / FILE, "relay")
    try:
        (disk / "ballast").write_bytes(b"x" * 400_000)
        taken = []
        with pytest.raises(StoreUnavailable):
            while True:
                day = relay.day()
                writer.append(day)
                taken += day
        for _ in range(50):
            with pytest.raises(StoreUnavailable):
                writer.append(day)
        assert writer.open_forwards()
        (disk / "ballast").unlink()
        writer.append(day)
        writer.close()
        found = rows(disk / FILE)
        assert [row.event.id for row in found] == [event.id for event in taken + day]
        assert first_break(found) is None
    finally:
        writer.close()
        subprocess.run(["umount", disk], check=True)


def test_a_volume_that_comes_back_is_used_again(path):
    """A database whose directory vanished is refused with its place, and opened anew when it is there again."""
    relay = Relay()
    writer = AuditWriter(path, "relay")
    writer.append(relay.day())
    writer._shut()
    away = path.parent.with_name("away")
    path.parent.rename(away)
    with pytest.raises(StoreUnavailable, match="has no directory"):
        writer.append(relay.day())
    away.rename(path.parent)
    writer.append(relay.day())
    writer.close()
    assert len(rows(path)) == 22


def test_any_thread_may_write(writer, path):
    """The writer is made in one thread and used in another."""
    relay = Relay()
    thread = threading.Thread(target=lambda: writer.append(relay.day()))
    thread.start()
    thread.join()
    assert len(rows(path)) == 11


def test_files_are_for_their_owner_only(writer, path):
    """Database, log and lock are mode 0600: the log tells who reached what."""
    writer.append(Relay().day())
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


@pytest.mark.slow
def test_the_log_file_is_cut_again(writer, path):
    """A burst that grew the write-ahead log past 1 MiB does not keep that disk space for ever."""
    relay = Relay()
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM events").fetchone()  # a foreign reader left in a transaction: no folding in
    for _ in range(400):
        writer.append([event for _ in range(4) for event in relay.day()])
    wal = path.with_name(f"{FILE}-wal")
    assert wal.stat().st_size > 5 << 20
    reader.close()
    for _ in range(3):
        writer.append(relay.day())
    assert wal.stat().st_size <= 1 << 20


def test_a_closed_writer_says_so(writer):
    """After `close` nothing is written and nothing crashes."""
    writer.close()
    writer.close()
    with pytest.raises(StoreUnavailable, match="is closed"):
        writer.append(Relay().day())


def test_a_missing_directory_is_named(tmp_path):
    """Without its directory there is a clear error and no file."""
    with pytest.raises(StoreUnavailable, match="nowhere"):
        AuditWriter(tmp_path / "nowhere" / FILE, "relay")
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_is_a_link_is_not_followed(path):
    """Nobody makes root's command write elsewhere by a link in the state directory."""
    path.with_name(f"{FILE}.lock").symlink_to(path.parent / "elsewhere")
    with pytest.raises(StoreUnavailable):
        AuditWriter(path, "relay")
    assert not (path.parent / "elsewhere").exists()


def test_a_backup_is_whole_while_rows_are_written(writer, path, tmp_path):
    """A copy made between two groups holds every row so far and its chain holds."""
    relay = Relay()
    writer.append(relay.day())
    writer.backup(tmp_path / "copy.db")
    writer.append(relay.day())
    found = rows(tmp_path / "copy.db")
    assert len(found) == 11
    assert first_break(found) is None


def test_readers_never_hold_the_writer_up(writer, path):
    """Four readers that ask without pause and one writer: no group fails, no answer is torn."""
    relay = Relay()
    writer.append(relay.day())
    stop = threading.Event()

    def read():
        with AuditReader(path) as reader:
            while not stop.is_set():
                assert first_break(reader.after(0, 50)) is None
        return True

    with ThreadPoolExecutor(4) as pool:
        readers = [pool.submit(read) for _ in range(4)]
        try:
            for _ in range(100):
                writer.append(relay.day())
        finally:
            stop.set()
        assert all(reader.result() for reader in readers)


@pytest.mark.parametrize(("folds", "pages"), [(True, 140), (False, 280)])
def test_the_log_before_the_database_stays_short(writer, path, folds, pages):
    """Folded in by `fold` between rows, it is half as long as where SQLite has to do it while somebody waits."""
    relay = Relay()
    connection = relay.connect()
    writer._open().execute("PRAGMA synchronous = OFF")  # only sizes are looked at
    longest = 0
    for _ in range(100):
        opened = relay.opened(connection)
        for row in (opened, relay.closed(opened)):
            writer.append([row])
            longest = max(longest, path.with_name(f"{path.name}-wal").stat().st_size)
            if folds:
                writer.fold()
    assert pages // 2 < longest // 4120 < pages
