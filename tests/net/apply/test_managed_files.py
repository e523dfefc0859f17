"""Our files: looked at without following anything, written whole, shown as differences."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import NotPermitted, RelayError
from relay.net.apply import managed_files
from relay.net.apply.managed_files import FileChange, FileContent


def mine(content: bytes, mode: int = 0o644) -> FileContent:
    return FileContent(content, mode, os.geteuid(), os.getegid())


def test_what_is_put_is_what_is_seen(tmp_path: Path) -> None:
    """Content, mode and owner; replaced whole; removed; and nothing is left beside it."""
    path = tmp_path / "up"
    assert managed_files.read_file(path) is None
    for wanted in (mine(b"one", 0o755), mine(b"two"), None, None):
        managed_files.put(path, wanted)
        assert managed_files.read_file(path) == wanted
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_at_one_moment(tmp_path: Path) -> None:
    """A process that has the old file open still reads the old content: the file is replaced, not written into."""
    path = tmp_path / "up"
    managed_files.put(path, mine(b"old"))
    with path.open("rb") as reader:
        managed_files.put(path, mine(b"new and longer"))
        assert reader.read() == b"old"


def test_what_a_crash_left_beside_it_is_swept(tmp_path: Path) -> None:
    """A half-written file of an earlier run is replaced."""
    path = tmp_path / "up"
    beside = tmp_path / ".up.new"
    beside.write_text("half")
    managed_files.put(path, mine(b"whole"))
    assert not beside.exists()
    beside.write_text("half")
    managed_files.sweep(path)
    managed_files.sweep(path)
    assert [at.name for at in tmp_path.iterdir()] == ["up"]


@pytest.mark.parametrize("kind", ["link", "dangling", "directory", "fifo", "large"])
def test_what_is_no_plain_file_is_refused(tmp_path: Path, kind: str) -> None:
    """Never followed, never waited for; the hint moves it out of the way."""
    path = tmp_path / "up"
    (tmp_path / "other").write_text("x")
    make = {
        "link": lambda: path.symlink_to(tmp_path / "other"),
        "dangling": lambda: path.symlink_to(tmp_path / "nowhere"),
        "directory": path.mkdir,
        "fifo": lambda: os.mkfifo(path),
        "large": lambda: path.write_bytes(bytes(5 << 20)),
    }
    make[kind]()
    with pytest.raises(RelayError) as raised:
        managed_files.read_file(path)
    assert str(path) in raised.value.what
    assert raised.value.hint.endswith(f"mv {path} {path}.aside")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A file where a directory must be; removing what cannot be there is no fault."""
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / "up"
    with pytest.raises(NotPermitted, match=str(place)):
        managed_files.put(place, mine(b""))
    managed_files.put(place, None)
    managed_files.put(tmp_path / "no" / "up", None)


def test_directories_are_made_and_removed_where_they_are_empty(tmp_path: Path) -> None:
    """The outer ones are made first; a directory in use stays, and so do those above it."""
    path = str(tmp_path / "a" / "b" / "c" / "file")
    missing = managed_files.missing_directories([path, path])
    assert missing == tuple(str(tmp_path / at) for at in ("a", "a/b", "a/b/c"))
    managed_files.make_directories(missing)
    managed_files.make_directories(missing)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) & 0o022 == 0
    (tmp_path / "a" / "b" / "note").write_text("mine")
    managed_files.remove_directories(missing)
    assert managed_files.missing_directories([path]) == (str(tmp_path / "a/b/c"),)


def test_a_digest_tells_content_and_mode_not_the_owner() -> None:
    """A changed mode counts as a change of the file."""
    assert mine(b"x").digest == FileContent(b"x", 0o644, 1, 1).digest
    assert len({mine(b"x").digest, mine(b"y").digest, mine(b"x", 0o600).digest}) == 3


def test_a_difference_says_lines_mode_and_owner() -> None:
    """A unified diff; a new file comes from /dev/null, and no difference has no lines."""
    assert managed_files.difference(FileChange("/etc/up", None, mine(b"one\n")))[:2] == ["--- /dev/null", "+++ /etc/up"]
    both = managed_files.difference(
        FileChange("/etc/up", FileContent(b"one\n", 0o644, 1, 1), FileContent(b"two\n", 0o755, 0, 0))
    )
    assert both[-4:] == ["-one", "+two", "# mode 644 becomes 755", "# owner 1:1 becomes 0:0"]
    assert managed_files.difference(FileChange("/etc/up", mine(b"x"), mine(b"x"))) == []
    assert managed_files.unified("x", "a\\b\t\n", "a\\c\t\n")[-2:] == ["-a\\b\t", "+a\\c\t"]


@given(st.binary(max_size=200), st.binary(max_size=200))
def test_nothing_in_a_file_moves_a_cursor(before: bytes, after: bytes) -> None:
    """Whatever stands in a file, its difference is lines of printable text, and empty only for equal files."""
    lines = managed_files.difference(FileChange("/etc/up", mine(before), mine(after)))
    assert all(line.replace("\t", "").isprintable() for line in lines)
    assert bool(lines) == (before != after)
