"""A file changes whole or not at all; and the file system is told to keep it, before anybody is told that it did."""

import os
import stat
from pathlib import Path

import pytest

from relay import atomic_file


def test_a_file_is_made_and_replaced(tmp_path: Path) -> None:
    """Content and mode are those asked for, whatever the umask; what a crash has left beside it is in nobody's way."""
    path = tmp_path / "file"
    before = os.umask(0o777)
    try:
        atomic_file.replace(path, b"one")
        atomic_file.beside(path).write_bytes(b"half a file")
        atomic_file.beside(path).chmod(0o777)
        assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"one", 0o600)
        atomic_file.replace(path, b"two", 0o644)
    finally:
        os.umask(before)
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"two", 0o644)
    assert list(tmp_path.iterdir()) == [path]


def test_what_lies_beside_it_is_not_followed(tmp_path: Path) -> None:
    """A link in the place where the new file is written is removed, and its target stays as it is."""
    path, other = tmp_path / "file", tmp_path / "other"
    other.write_bytes(b"mine")
    atomic_file.beside(path).symlink_to(other)
    atomic_file.replace(path, b"new")
    assert other.read_bytes() == b"mine"
    assert not path.is_symlink()


@pytest.mark.parametrize("kind", ["a directory is there", "it can have no owner"])
def test_what_fails_changes_nothing(tmp_path: Path, kind: str) -> None:
    """Nothing of the new file is left, and the old one is as it was."""
    path = tmp_path / "file"

    def refuse(_: int) -> None:
        raise PermissionError(kind)

    if kind == "a directory is there":
        path.mkdir()
    else:
        path.write_bytes(b"old")
    with pytest.raises(OSError, match="directory" if path.is_dir() else kind):
        atomic_file.replace(path, b"new", own=None if path.is_dir() else refuse)
    assert path.is_dir() or path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_content_is_synced_before_its_name_is_and_both_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a loss of power there is the old file or the new one, and the new one once `replace` has returned."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    synced: list[tuple[str, bytes]] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        fsync(descriptor)
        synced.append((os.readlink(f"/proc/self/fd/{descriptor}"), path.read_bytes()))

    monkeypatch.setattr(os, "fsync", watched)
    atomic_file.replace(path, b"new")
    assert synced == [(str(atomic_file.beside(path)), b"old"), (str(tmp_path), b"new")]
