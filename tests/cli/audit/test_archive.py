"""relayctl audit archive: by the relay itself, by hand beside it, and with none running."""

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relay.core.audit.archive_format import DAY, row
from relay.core.audit.hash_chain import Row
from relay.core.audit.log_verifier import Line
from relay.store import signing_key
from relay.store.archive import archive_writer
from relay.store.archive.archive_reader import DIRECTORY, ArchiveReader
from relay.store.reader import AuditReader
from relay.store.writer import FILE, AuditWriter
from tests import sealed_log
from tests.audit_rows import Relay as Rows
from tests.cli.conftest import Done
from tests.relay_process import Relay, wait_for
from tests.store import archived


def past(days: int) -> Rows:
    """A relay that wrote rows so many days ago, at the beginning of an hour."""
    now = time.time_ns() // 1000
    return Rows((now - days * DAY) // archived.HOUR * archived.HOUR)


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[Relay]:
    """A site whose relay is stopped, with rows of five, three and two days ago."""
    one = Relay(tmp_path)
    one.state.mkdir(mode=0o700)
    for days in (5, 3, 2):
        archived.fill(one.state, 2, past(days))
    yield one
    one.end()


def base(one: Relay) -> int:
    """The last row that has left the database."""
    with AuditReader(one.state / FILE) as reader:
        return reader.base()[0]


def test_by_hand_with_no_relay(stopped: Relay, relayctl: Callable[..., Done]) -> None:
    """Said beforehand, done, listed and given up, each with its row; nothing to do is no fault."""

    def ctl(*words: str, status: int = 0) -> str:
        done = relayctl("--site", stopped.site, "audit", "archive", *words)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stderr if status else done.stdout

    whole = [row.event for row in archived.whole(stopped.state)]
    said = ctl("--before", "4d", "--dry-run")
    assert "would be archived: rows 1 to 24, in 1 files" in said
    assert "of 2.1 GB" in said
    assert not (stopped.state / DIRECTORY).exists()
    assert ctl() == "nothing to archive\n"
    assert "there is no archive yet" in ctl("--list", status=1)
    assert ctl("--before", "4d", "--reason", "room").startswith("archived: relay-1-24.jsonl.gz, 24 rows, ")
    assert [row.event for row in archived.whole(stopped.state)][:-1] == whole
    (row,) = stopped.rows("audit.archived")
    assert (row["first"], row["last"], row["count"], row["why"], row["by_uid"]) == (1, 24, 24, "room", os.getuid())
    done = json.loads(ctl("--before", "1d", "--json"))
    assert [one["rows"] for one in done["archived"]] == [48]
    (first, second) = json.loads(ctl("--list", "--json"))
    assert (first["file"], second["last"]) == ("relay-1-24.jsonl.gz", 72)
    assert first["sha256"][:16] in ctl("--list")
    assert "different things" in ctl("--list", "--before", "1d", status=2)
    assert "say --yes" in ctl("--discard", "4d", status=2)
    assert "would be deleted: relay-1-24" in ctl("--discard", "4d", "--dry-run")
    assert ctl("--discard", "4d", "--yes").startswith("deleted: relay-1-24.jsonl.gz")
    assert "no archive holds only" in ctl("--discard", "4d", "--yes", status=1)
    (gone,) = stopped.rows("audit.discarded")
    assert gone["digest"] == first["sha256"]
    assert [path.name for path in (stopped.state / DIRECTORY).glob("*.gz")] == [second["file"]]
    assert "discarded" in ctl("--list")
    # given up in the manifest, and then cut short: finished by the next one, after its row
    entries = ArchiveReader(stopped.state).entries()[1:]
    archive_writer.announce_discards(stopped.state, entries, lambda: time.time_ns() // 1000)
    ctl("--discard", "90d", "--yes")
    assert [row["file"] for row in stopped.rows("audit.discarded")] == [first["file"], second["file"]]
    assert not (stopped.state / DIRECTORY / second["file"]).exists()


def test_archived_rows_are_proven_and_found(tmp_path: Path, relayctl: Callable[..., Done]) -> None:
    """Signed rows in an archive: verified with the first key as one log with the database, searched, shown; a changed
    file is a fault; the one with the newest checkpoint cannot be discarded."""
    one = Relay(tmp_path)
    one.state.mkdir(mode=0o700)
    log = sealed_log.day()
    log.add(log.relay.closed(row_of(log.lines[-3]).event)).seal()
    writer = AuditWriter(one.state / FILE, "relay")
    writer.append([row_of(line).event for line in log.lines])
    writer.close()
    keys = one.state / signing_key.DIRECTORY  # the one that is to sign next is on the machine
    keys.mkdir(mode=0o700)
    name = f"{log.signer.epoch}-{log.signer.public.rstrip('=').translate(str.maketrans('+/', '-_'))}"
    (keys / name).write_bytes(log.signer.private.private_bytes_raw())
    (keys / name).chmod(0o600)

    def ctl(*words: str, status: int = 0) -> str:
        done = relayctl("--site", one.site, "audit", *words)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stderr if status and not done.stdout else done.stdout

    try:
        before = [json.loads(line) for line in ctl("search", "--person", "alice", "--json").splitlines()]
        assert "archived: relay-1-15" in ctl("archive", "--before", "1d")
        assert base(one) == 15
        after = [json.loads(line) for line in ctl("search", "--person", "alice", "--json").splitlines()]
        assert after == before
        assert "2026-10-01" in ctl("show", before[0]["id"])
        said = ctl("verify", "--key", log.first)
        assert said.startswith("rows 1 to 16")
        assert said.count("ok ") == 3
        path = one.state / DIRECTORY / "relay-1-15.jsonl.gz"
        data = path.read_bytes()
        path.write_bytes(data[:-1] + b"x")
        assert "relay-1-15" in ctl("verify", "--key", log.first, status=1)
        path.write_bytes(data)
        assert "which key signs next" in ctl("archive", "--discard", "1d", "--yes", status=1)
    finally:
        one.end()


def row_of(line: Line) -> Row:
    """The row that a verifier reads as `line`."""
    return row("", line[5], line[6])


@pytest.mark.parametrize("running", [False, True])
def test_a_changed_archive_stops_it(stopped: Relay, running: bool) -> None:
    """Exit status 1, the file's name, and nothing deleted; doctor says it too."""
    stopped.ctl("audit", "archive", "--before", "4d")
    path = stopped.state / DIRECTORY / "relay-1-24.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-1])
    if running:
        stopped.start()
    said = stopped.ctl("audit", "archive", "--before", "1d", status=1)
    assert "relay-1-24.jsonl.gz cannot be used" in said
    assert "nothing was deleted" in said
    assert "relay-1-24.jsonl.gz" in stopped.ctl("audit", "archive", "--discard", "4d", "--yes", status=1)
    assert path.exists()
    assert base(stopped) == 24
    if not running:
        before = len(ArchiveReader(stopped.state).entries())
        assert "say --yes" in stopped.ctl("audit", "archive", "--damaged", status=2)
        assert "would be given up: relay-1-24" in stopped.ctl("audit", "archive", "--damaged", "--dry-run")
        assert "given up: relay-1-24" in stopped.ctl("audit", "archive", "--damaged", "--yes", "--reason", "bad disk")
        (row,) = stopped.rows("audit.discarded")
        assert (row["why"], row["detail"], row["last"]) == ("bad disk", "missing or changed", 24)
        assert path.with_name(f"{path.name}.damaged").exists()
        assert len(ArchiveReader(stopped.state).entries()) == before
        assert "archived: relay-25-72" in stopped.ctl("audit", "archive", "--before", "1d")
        return
    faults = [one for one in json.loads(stopped.ctl("doctor", "--json", status=1)) if one["state"] == "fault"]
    assert "relay-1-24.jsonl.gz" in next(one["what"] for one in faults if one["name"] in ("database", "archives"))


def test_the_relay_archives_by_itself(stopped: Relay) -> None:
    """What was begun before it started is finished, what is older than `keep` moves, and what it is asked to."""
    events = [row.event.id for row in archived.whole(stopped.state)]
    (entry,) = archived.archive(stopped.state, past(4).now, settle=False)
    assert entry.last == 24
    stopped.settings("audit: {keep: 1d}\n")
    stopped.start()
    wait_for(lambda: base(stopped) == 72, "the rows stay")
    rows = [(row["first"], row["last"]) for row in stopped.rows("audit.archived")]
    assert rows == [(1, 24), (25, 72)]
    assert [row.event.id for row in archived.whole(stopped.state)][:72] == events
    findings = {one["name"]: one for one in json.loads(stopped.ctl("doctor", "--json", status=None))}
    assert findings["archives"]["what"].startswith("2 archives, 72 rows, ")
    assert findings["archives"]["state"] == "ok"
    assert stopped.ctl("audit", "archive", "--before", "2h").startswith("nothing to archive\n")
    assert (stopped.state / "audit.ballast").stat().st_size == 4 << 20


def test_by_hand_beside_a_relay(stopped: Relay) -> None:
    """The relay does it when it is asked, and says who asked."""
    stopped.start()
    done = json.loads(stopped.ctl("audit", "archive", "--before", "1d", "--json").partition("site /")[0])
    assert [one["rows"] for one in done["archived"]] == [72]
    assert [row["by_uid"] for row in stopped.rows("audit.archived")] == [os.getuid()]
    archived.whole(stopped.state)


def test_a_backup_takes_archives_along(stopped: Relay) -> None:
    """What is restored is the whole log again, archives and database together; what was there is moved aside."""
    stopped.ctl("audit", "archive", "--before", "4d")
    file = stopped.directory / "backup.tar.gz"
    stopped.start()
    stopped.ctl("backup", str(file))
    before = archived.whole(stopped.state)
    stopped.ctl("audit", "archive", "--before", "1d")
    stopped.stop()
    stopped.ctl("restore", "--yes", str(file))
    restored = archived.whole(stopped.state)
    assert restored[:72] == before[:72]
    assert len(ArchiveReader(stopped.state).entries()) == 1
    assert (stopped.state / DIRECTORY / "relay-1-24.jsonl.gz").stat().st_mode & 0o777 == 0o600
    assert len(list(stopped.state.glob(f"{DIRECTORY}.before-*/*.gz"))) == 2
    stopped.ctl("audit", "archive", "--before", "1d")
    archived.whole(stopped.state)
