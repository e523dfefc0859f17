"""The reserve file: really allocated, and released at once."""

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.core.audit.event import Event
from relay.errors import StoreUnavailable
from relay.store import reserve_file
from relay.store.reader import AuditReader
from relay.store.reserve_file import BYTES, ReserveFile
from relay.store.writer import FILE, AuditWriter
from tests.audit_rows import Relay


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A real disk of 16 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "relay-test", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


def free(place: Path) -> int:
    """Bytes that can be written there."""
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize


def stuff(place: Path, leave: int = 0) -> Path:
    """Fill the disk, but for so many bytes."""
    filler = place / "filler"
    with filler.open("ab") as file:
        while (room := free(place) - leave) > 0:
            try:
                file.write(b"x" * min(room, 1 << 20))
                file.flush()
            except OSError:
                break
    return filler


def test_it_takes_its_room(tmp_path: Path) -> None:
    """Made once, for its owner only, with blocks that are its own; made again after it was released."""
    one = ReserveFile(tmp_path / reserve_file.FILE)
    assert not one.held
    assert not one.release()
    for _ in range(2):
        one.make()
        one.make()
        assert one.held
        seen = (tmp_path / reserve_file.FILE).stat()
        assert (seen.st_size, stat.S_IMODE(seen.st_mode)) == (BYTES, 0o600)
        assert seen.st_blocks * 512 >= BYTES
        assert one.release()
        assert list(tmp_path.iterdir()) == []


def test_a_broken_one_is_made_anew(tmp_path: Path) -> None:
    """Half a ballast is none."""
    (tmp_path / reserve_file.FILE).write_bytes(b"x")
    one = ReserveFile(tmp_path / reserve_file.FILE)
    assert not one.held
    one.make()
    assert one.held


@pytest.mark.system
def test_it_is_not_made_from_the_last_room(disk: Path) -> None:
    """Where there is not twice its room it is not made, and nothing of it is left behind."""
    one = ReserveFile(disk / reserve_file.FILE)
    filler = stuff(disk, 2 * BYTES - 4096)
    with pytest.raises(OSError, match="No space left"):
        one.make()
    assert list(disk.iterdir()) == [filler]
    filler.unlink()
    one.make()
    assert one.held


@pytest.mark.system
def test_a_command_records_what_it_takes_away_on_a_full_disk(disk: Path) -> None:
    """Rows that must not wait go into the room of the ballast, thousands of them; others do not."""
    relay, writer = Relay(), AuditWriter(disk / FILE, "relay")
    try:
        writer.ballast.make()
        writer.append(relay.day())
        stuff(disk)
        with pytest.raises(StoreUnavailable, match="the disk is full"):
            while True:
                writer.append(relay.day())
        head = writer.head()[0]
        assert writer.ballast.held
        revoked: list[Event] = [relay.event("key.revoked", fingerprint="SHA256:x") for _ in range(5000)]
        for start in range(0, 5000, 100):
            writer.append_last(revoked[start : start + 100])
        assert writer.head()[0] == head + 5000
        assert not writer.ballast.held
    finally:
        writer.close()
    with AuditReader(disk / FILE) as reader:
        assert [row.event for row in reader.walk(head)] == revoked


def test_another_fault_does_not_cost_the_ballast(tmp_path: Path) -> None:
    """A volume that is gone is no full disk."""
    place = tmp_path / "state"
    place.mkdir()
    writer = AuditWriter(place / FILE, "relay")
    writer.ballast.make()
    writer._shut()
    shutil.move(place, tmp_path / "away")
    with pytest.raises(StoreUnavailable, match="has no directory"):
        writer.append_last(Relay().day())
    writer.close()
    assert (tmp_path / "away" / reserve_file.FILE).exists()
