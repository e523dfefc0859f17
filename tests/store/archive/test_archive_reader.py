"""Archives as they are read: the same rows, and only from files that match the manifest."""

import gzip
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.core.audit import archive_format as archives_of
from relay.core.audit.audit_query import AuditQuery
from relay.core.audit.event import Event
from relay.errors import StoreUnavailable
from relay.store.archive.archive_reader import DIRECTORY, MANIFEST, ArchiveReader
from relay.store.archive.archive_writer import enter
from relay.store.reader import AuditReader
from relay.store.writer import FILE
from tests.audit_rows import NOON, Relay
from tests.store import archived

QUESTIONS = [
    AuditQuery(),
    AuditQuery(person="bob"),
    AuditQuery(person="carol"),
    AuditQuery(verdict="denied"),
    AuditQuery(name="audit.sealed"),
    AuditQuery(fingerprint="uNiVztksCs"),
    AuditQuery(host="192.168.1.50"),
    AuditQuery(text="PUTTY"),
    AuditQuery(since=NOON + 30_000_000),
    AuditQuery(until=NOON + 30_000_000, person="alice"),
]


@pytest.fixture
def kept(tmp_path: Path) -> list[Event]:
    """Two archives of one state, and some rows that stayed; all events in order."""
    relay = Relay()
    events = archived.fill(tmp_path, 3, relay)
    archived.archive(tmp_path, relay.now)
    relay.now += 2 * archived.LATER
    events += archived.fill(tmp_path, 3, relay)
    archived.archive(tmp_path, events[60].time)
    return events


def ours(events: list[Event]) -> list[str]:
    """The ids of all but what archiving itself left."""
    return [event.id for event in events]


def test_rows_are_the_same_as_before(tmp_path: Path, kept: list[Event]) -> None:
    """Every row is in exactly one place, its event as it was, and one chain goes over archives and database."""
    rows = archived.whole(tmp_path)
    assert [row.event for row in rows if row.event.name != "audit.archived"] == kept
    assert list(archived.lines(tmp_path)) == [row.event.id for row in rows]
    with AuditReader(tmp_path / FILE) as reader:
        base, _ = reader.base()
    assert [entry.last for entry in ArchiveReader(tmp_path).entries()] == [36, base]
    assert next(ArchiveReader(tmp_path).lines(35)).forward is None


@pytest.mark.parametrize("question", QUESTIONS, ids=repr)
def test_a_question_has_the_answer_that_a_walk_gives(tmp_path: Path, kept: list[Event], question: AuditQuery) -> None:
    """What is looked at first (times, people, words) only saves time: the answer is what `Question.matches` says."""
    archives = ArchiveReader(tmp_path)
    expected = [row for row in archives.walk() if question.matches(row)]
    assert list(archives.walk(question=question)) == expected
    assert archives.search(question) == expected[::-1]
    assert archives.search(question, limit=2) == expected[::-1][:2]
    assert archives.search(question, before=30) == [row for row in expected[::-1] if row.seq < 30]
    assert list(archives.walk(5, 40, question)) == [row for row in expected if 5 < row.seq <= 40]


def test_stories_are_found_by_their_ids(tmp_path: Path, kept: list[Event]) -> None:
    """A connection, a forward and an event of an archive are found as in the database; strange ids find nothing."""
    archives = ArchiveReader(tmp_path)
    opened = kept[4 + 36]
    connection = str(opened.fields["connection"])
    assert [row.event for row in archives.by_connection(connection)] == [
        event for event in kept if event.fields.get("connection") == connection
    ]
    assert [row.event.name for row in archives.by_forward(opened.id)] == ["forward.opened", "forward.closed"]
    found = archives.by_id(opened.id)
    assert found is not None
    assert found.event == opened
    for id in ("", "x" * 11, 'a"b', "0" * 11, Relay(NOON * 2).id()):
        assert archives.by_id(id) is None
        assert archives.by_forward(id) == archives.by_connection(id) == []


def test_an_archive_is_proven_with_standard_tools(tmp_path: Path, kept: list[Event]) -> None:
    """gzip, a JSON reader and sha256sum are enough: the text of a row stands there byte for byte."""
    entry = ArchiveReader(tmp_path).entries()[0]
    path = tmp_path / DIRECTORY / entry.file
    lines = subprocess.run(["zcat", path], capture_output=True, check=True).stdout.decode().splitlines()
    assert json.loads(lines[0])["last"] == entry.last
    assert [json.loads(line)["row"]["seq"] for line in lines[1:]] == list(range(1, 37))
    script = """zcat "$1" | tail -n +2 | head -n 1 | sed 's/^.\\{81\\}//; s/}$//' | { printf '%s\\n' "$2"; cat; } \
        | head -c -1 | sha256sum"""
    said = subprocess.run(["sh", "-c", script, "sh", path, entry.prev], capture_output=True, text=True, check=True)
    assert said.stdout.split()[0] == json.loads(lines[1])["hash"]


def rewritten(path: Path, change) -> None:
    """The archive with its lines changed, compressed again."""
    lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    path.write_bytes(gzip.compress("\n".join(change(lines)).encode() + b"\n"))


def resigned(state: Path, number: int) -> None:
    """A manifest that gives the file's present size and SHA-256, as a careful forger writes it."""
    from hashlib import sha256

    archives = ArchiveReader(state)
    entries = list(archives.entries())
    data = (archives.directory / entries[number].file).read_bytes()
    size = len(gzip.decompress(data))
    entries[number] = replace(entries[number], bytes=len(data), sha256=sha256(data).hexdigest(), size=size)
    enter(archives, tuple(entries))


@pytest.mark.parametrize("careful", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [line.replace('"alice"', '"mallo"') for line in lines],
        lambda lines: lines[:-1],
        lambda lines: lines[:5] + lines[6:],
        lambda lines: [*lines[:5], lines[6], lines[5], *lines[7:]],
        lambda lines: lines + lines[-1:],
        lambda lines: lines[1:],
        lambda lines: [*lines[:3], "x" * 200, *lines[4:]],
        lambda lines: [lines[0].replace('"first":1', '"first":2'), *lines[1:]],
        lambda lines: [*lines, "x" * 3_000_000],
    ],
    ids=("changed", "cut", "removed", "swapped", "added", "headless", "nonsense", "header", "bomb"),
)
def test_a_changed_archive_is_named(tmp_path: Path, kept: list[Event], change, careful: bool) -> None:
    """Whatever is changed in an archive, the check of it names the file; a forged manifest does not help."""
    archives = ArchiveReader(tmp_path)
    entry = archives.entries()[0]
    archives.check(entry)
    rewritten(archives.directory / entry.file, change)
    if careful:
        resigned(tmp_path, 0)
        entry = archives.entries()[0]
    with pytest.raises(StoreUnavailable, match=entry.file):
        archives.check(entry)
    if not careful:
        with pytest.raises(StoreUnavailable, match=entry.file):
            list(archives.walk())


@pytest.mark.parametrize("how", ["gone", "short", "link", "directory", "fifo"])
def test_a_missing_archive_is_named(tmp_path: Path, kept: list[Event], how: str) -> None:
    """A file that is not there, or no file, is named at once by who looks only for its size too."""
    archives = ArchiveReader(tmp_path)
    entry = archives.entries()[1]
    path = archives.directory / entry.file
    data = path.read_bytes()
    path.unlink()
    if how == "short":
        path.write_bytes(data[:-1])
    elif how == "link":
        (tmp_path / "elsewhere").write_bytes(data)
        path.symlink_to(tmp_path / "elsewhere")
    elif how == "directory":
        path.mkdir()
    elif how == "fifo":
        os.mkfifo(path)
    for look in (archives.present, archives.check):
        with pytest.raises(StoreUnavailable, match=entry.file) as caught:
            look(entry)
        assert "nothing was deleted" in caught.value.hint


@pytest.mark.parametrize("kind", ["swapped", "gap", "nonsense", "bytes", "directory"])
def test_a_broken_manifest_is_named(tmp_path: Path, kept: list[Event], kind: str) -> None:
    """Its entries follow each other, or none of them is believed."""
    path = tmp_path / DIRECTORY / MANIFEST
    lines = path.read_text().splitlines()
    if kind == "swapped":
        path.write_text("\n".join(lines[::-1]))
    elif kind == "gap":
        path.write_text("\n".join([lines[0], lines[1].replace('"prev":"', '"prev":"0')]))
    elif kind == "nonsense":
        path.write_text(lines[0] + "\n{}\n")
    elif kind == "bytes":
        path.write_bytes(b"\xff\xfe\n")
    else:
        path.unlink()
        path.mkdir()
    with pytest.raises(StoreUnavailable, match=MANIFEST):
        ArchiveReader(tmp_path).entries()


@settings(max_examples=50)
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes, packed: bool) -> None:
    """An archive or a manifest of any bytes does nothing but name itself."""
    state = tmp_path_factory.mktemp("state")
    (state / DIRECTORY).mkdir()
    (state / DIRECTORY / MANIFEST).write_bytes(data)
    if data:
        with pytest.raises(StoreUnavailable):
            ArchiveReader(state).entries()
    entry = replace(
        archives_of.entry_of(archives_of.entry_line(ENTRY)), bytes=max(len(data), 1), sha256=_digest(data, packed)
    )
    (state / DIRECTORY / entry.file).write_bytes(gzip.compress(data, mtime=0) if packed else data)
    entry = replace(entry, bytes=max((state / DIRECTORY / entry.file).stat().st_size, 1))
    with pytest.raises(StoreUnavailable):
        ArchiveReader(state).check(entry)


def _digest(data: bytes, packed: bool) -> str:
    from hashlib import sha256

    return sha256(gzip.compress(data, mtime=0) if packed else data).hexdigest()


ENTRY = archives_of.ArchiveEntry(
    "relay", 1, 2, "0" * 64, "a" * 64, 1, 2, None, size=500, bytes=1, sha256="b" * 64, id="x", at=1
)


def test_no_archive_is_no_error(tmp_path: Path) -> None:
    """Before the first one there is nothing to read."""
    archives = ArchiveReader(tmp_path)
    assert archives.entries() == ()
    assert archives.last() == 0
    assert list(archives.walk()) == archives.search(AuditQuery()) == []


@pytest.mark.system
@pytest.mark.parametrize("member", [True, False])
def test_a_reviewer_without_root_reads_them(member: bool) -> None:
    """Who may read the database by its group may read the archives, with no relay running too, and writes nothing."""
    group = 4242
    with tempfile.TemporaryDirectory() as place:  # pytest's own directories are for root only
        Path(place).chmod(0o755)
        state = Path(place) / "state"
        state.mkdir()
        events = archived.fill(state, 3)
        for path in state.iterdir():
            path.chmod(0o640)
        archived.archive(state, events[24].time)
        for path in (state, *state.rglob("*")):
            os.chown(path, 0, group)
        state.chmod(0o750)
        done = subprocess.run(
            [sys.executable, "-c", AS_A_REVIEWER, state, str(group if member else 65534)],
            capture_output=True,
            text=True,
        )
    if member:
        assert (done.returncode, done.stdout) == (0, "10 True 12\n"), done.stderr
    else:
        assert "Permission denied" in done.stderr


AS_A_REVIEWER = """
import os, sys
from pathlib import Path
from relay.core.audit.audit_query import AuditQuery
from relay.store.archive.archive_reader import ArchiveReader
from relay.store.writer import FILE; from relay.store.reader import AuditReader
state = Path(sys.argv[1])
os.setgroups([])
os.setgid(int(sys.argv[2]))
os.setuid(65534)
archives, question = ArchiveReader(state), AuditQuery(person="alice")
found = archives.search(question)
with AuditReader(state / FILE) as reader:
    stayed = sum(1 for _ in reader.walk(archives.last()) if _.event.name != "audit.archived")
writable = [path for path in (archives.directory, *archives.directory.iterdir()) if os.access(path, os.W_OK)]
print(len(found), not writable, stayed)
"""
