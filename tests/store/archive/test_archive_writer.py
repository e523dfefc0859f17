"""Archive files: written whole or not at all, announced before they are removed."""

from dataclasses import replace
from pathlib import Path

import pytest

from relay.errors import StoreUnavailable
from relay.store.archive import archive_writer
from relay.store.archive.archive_reader import ArchiveReader
from relay.store.reader import AuditReader
from relay.store.writer import FILE
from tests.audit_rows import Relay
from tests.store import archived


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    """An archive that is written again equals the first one, and only the owner may read it."""
    archived.fill(tmp_path)
    (entry, *_) = archived.archive(tmp_path, Relay().now + archived.HOUR, settle=False)
    archives = ArchiveReader(tmp_path)
    file = archives.directory / entry.file
    data = file.read_bytes()
    with AuditReader(tmp_path / FILE) as reader:
        again = archive_writer.write(archives, reader.lines(entry.first - 1), replace(entry, bytes=0, sha256=""))
    assert again == entry
    assert file.read_bytes() == data
    assert file.stat().st_mode & 0o777 == 0o600


def test_an_archive_of_other_rows_is_not_kept(tmp_path: Path) -> None:
    """If the rows are not those of the entry, no file is left."""
    archived.fill(tmp_path)
    (entry, *_) = archived.archive(tmp_path, Relay().now + archived.HOUR, settle=False)
    archives = ArchiveReader(tmp_path)
    (archives.directory / entry.file).unlink()
    with AuditReader(tmp_path / FILE) as reader, pytest.raises(StoreUnavailable):
        archive_writer.write(archives, reader.lines(entry.first), entry)
    assert not list(archives.directory.glob("*.gz"))
    assert not list(archives.directory.glob(".*.new"))


def test_a_discarded_archive_is_announced_before_its_file_goes(tmp_path: Path) -> None:
    """The manifest names the discarded archive while the file is still there; then the file is removed."""
    archived.fill(tmp_path)
    (entry, *_) = archived.archive(tmp_path, Relay().now + archived.HOUR)
    archives = ArchiveReader(tmp_path)
    (pending,) = archive_writer.announce_discards(tmp_path, (entry,), lambda: Relay().now)
    assert not pending.kept
    assert (archives.directory / entry.file).exists()
    archive_writer.discard(archives, pending)
    assert not (archives.directory / entry.file).exists()
    assert archive_writer.pending_discards(archives) == ()
