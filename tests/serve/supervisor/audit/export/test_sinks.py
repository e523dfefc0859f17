"""Where exported lines go."""

import json
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from relay.serve.supervisor.audit.export.sinks import RotatedFileSink, StdoutSink

LINES = [json.dumps({"seq": seq, "text": "x" * 60}).encode() + b"\n" for seq in range(200)]


def write_all(outlet: RotatedFileSink | StdoutSink, lines: list[bytes]) -> None:
    """Offer lines until all are taken."""
    while lines:
        lines = lines[outlet.write(lines) :]


def numbers(path: Path) -> list[int]:
    """What the lines of a file, those that are JSON, say."""
    found = []
    for line in path.read_bytes().split(b"\n"):
        try:
            found.append(json.loads(line)["seq"])
        except ValueError:
            continue
    return found


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file grows beyond so many bytes: what a full disk does to a write, short ones included."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_is_rotated_and_so_many_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file outgrows its size, the newest old one is .1, the group may read; fewer may be kept later."""
    monkeypatch.setattr("relay.serve.supervisor.audit.export.sinks.RESERVED", 0)
    path = tmp_path / "events.jsonl"
    before = os.umask(0o077)  # the service's own
    try:
        write_all(RotatedFileSink(path, 2000, 3, tmp_path), LINES)
    finally:
        os.umask(before)
    files = [path, *(path.with_name(f"events.jsonl.{number}") for number in (1, 2, 3))]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert all(0 < file.stat().st_size <= 2000 for file in files)
    assert [file.stat().st_mode & 0o777 for file in files] == [0o640] * 4
    told = [seq for file in reversed(files) for seq in numbers(file)]
    assert told == list(range(200 - len(told), 200))
    write_all(RotatedFileSink(path, 2000, 1, tmp_path), LINES[:40])
    assert sorted(tmp_path.iterdir()) == sorted(files[:2])


def test_a_file_that_was_moved_or_emptied_by_others_is_begun_anew(tmp_path: Path) -> None:
    """logrotate's two ways, renaming and copytruncate: every line is in one of the files, whole."""
    path, outlet = tmp_path / "events.jsonl", RotatedFileSink(tmp_path / "events.jsonl", 1 << 20, 3, tmp_path)
    write_all(outlet, LINES[:10])
    path.rename(tmp_path / "moved")
    write_all(outlet, LINES[10:20])
    assert (numbers(tmp_path / "moved"), numbers(path)) == (list(range(10)), list(range(10, 20)))
    os.truncate(path, 0)
    write_all(outlet, LINES[20:30])
    assert numbers(path) == list(range(20, 30))
    outlet.close()


def test_a_full_disk_tears_at_most_one_line_and_loses_none(tmp_path: Path) -> None:
    """What was taken is counted in whole lines; afterwards the torn one is ended, and comes again whole."""
    path = tmp_path / "events.jsonl"
    outlet = RotatedFileSink(path, 1 << 20, 3, tmp_path)
    with largest_file(1000):
        taken = outlet.write(LINES)
        assert 0 < taken < len(LINES)
        with pytest.raises(OSError, match=r"File too large|No space"):
            while True:
                taken += outlet.write(LINES[taken:])
    write_all(outlet, LINES[taken:])
    assert numbers(path) == list(range(len(LINES)))
    assert path.read_bytes().count(b"\n") == len(LINES) + 1


def test_a_line_that_a_kill_tore_is_ended_by_the_next_process(tmp_path: Path) -> None:
    """A new process finds the end of the file torn."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(LINES[0] + LINES[1][:30])
    write_all(RotatedFileSink(path, 1 << 20, 3, tmp_path), LINES[1:5])
    assert numbers(path) == [0, 1, 2, 3, 4]


def test_the_last_of_the_audit_logs_disk_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the disk of the database nothing is written when little is left; on another one it may be full."""
    monkeypatch.setattr("relay.serve.supervisor.audit.export.sinks.RESERVED", 1 << 60)
    with pytest.raises(OSError, match="are the audit log's"):
        RotatedFileSink(tmp_path / "events.jsonl", 1 << 20, 3, tmp_path).write(LINES)
    elsewhere = RotatedFileSink(tmp_path / "events.jsonl", 1 << 20, 3, Path("/proc"))
    assert elsewhere.write(LINES[:3]) == 3


@pytest.mark.parametrize("kind", ["link", "fifo", "directory"])
def test_what_is_no_plain_file_is_not_written_to(tmp_path: Path, kind: str) -> None:
    """A link may lead to anything, a FIFO waits for ever: refused."""
    path = tmp_path / "events.jsonl"
    {"link": lambda: path.symlink_to(tmp_path / "other"), "fifo": lambda: os.mkfifo(path), "directory": path.mkdir}[
        kind
    ]()
    with pytest.raises(OSError, match=r".+"):
        RotatedFileSink(path, 1 << 20, 3, tmp_path).write(LINES)
    assert not (tmp_path / "other").exists()


def test_a_reader_of_stdout_who_stops_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit the pipe is left over; when he reads on every line comes once, the torn one whole."""
    monkeypatch.setattr("relay.serve.supervisor.audit.export.sinks._STALLED_SECONDS", 0.01)
    reading, writing = os.pipe()
    outlet, many = StdoutSink(writing), [line for line in LINES for _ in range(20)]
    taken = outlet.write(many)
    assert 0 < taken < len(many)
    assert outlet.write(many[taken:]) == 0
    heard = bytearray()

    def read() -> None:
        while data := os.read(reading, 65536):
            heard.extend(data)

    thread = threading.Thread(target=read)
    thread.start()
    write_all(outlet, many[taken:])
    os.close(writing)
    thread.join()
    os.close(reading)
    assert bytes(heard) == b"".join(many)


def test_a_stdout_that_was_removed_is_said(tmp_path: Path) -> None:
    """A file without a name would grow unseen."""
    with (tmp_path / "log").open("wb") as file:
        (tmp_path / "log").unlink()
        with pytest.raises(OSError, match="start the relay anew"):
            StdoutSink(file.fileno()).write(LINES)
