"""relay.people.key_file: how the files below keys/ change, and which keys stand in them whatever else does."""

import fcntl
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import RelayError
from relay.people import key_file
from relay.site import key_files

FIXTURES = Path(__file__).parent.parent / "fixtures" / "keys"
LINES = [path.read_bytes() for path in sorted(FIXTURES.glob("*.pub"))]
PIECES = [
    *LINES,
    b"\xef\xbb\xbf",
    b" ",
    b"\t",
    b"#",
    b"\n",
    b"\r",
    b'"',
    b"restrict ",
    b'command="a b",',
    b"\xff",
    b"x",
]


@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=6), max_size=12).map(b"".join))
def test_every_key_that_gets_in_is_seen_and_can_be_commented_out(data: bytes) -> None:
    """Whatever a file holds: what the keyring takes from it, `scan` finds, and `comment_out` shuts out in place."""
    with TemporaryDirectory() as name:
        site = Path(name)
        (site / "keys").mkdir()
        path = site / "keys" / "alice.pub"
        path.write_bytes(data)
        taken = set(key_files.read(site).keys)
        seen = list(key_file.scan(site / "keys"))
        assert taken <= {one.fingerprint for one in seen}
        for one in seen:
            key_file.comment_out(site / "keys", one)
        assert not key_files.read(site).keys
        assert path.stat().st_size == len(data)


def test_one_command_at_a_time(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another command changes the files, this one waits, and then says what it waited for."""
    monkeypatch.setattr(key_file, "_LOCK_SECONDS", 0.1)
    other = os.open(site / "keys", os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    try:
        with pytest.raises(RelayError, match="another command is changing"), key_file.locked(site / "keys"):
            pass
    finally:
        os.close(other)
    with key_file.locked(site / "keys"):
        pass


def test_the_directory_is_made_when_it_is_missing(tmp_path: Path) -> None:
    """keys/ comes into being with the owner of the site; where it cannot, the complaint names it."""
    with key_file.locked(tmp_path / "keys"):
        assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o750
    (tmp_path / "file").write_text("")
    with pytest.raises(RelayError, match="file/keys"), key_file.locked(tmp_path / "file" / "keys"):
        pass


def test_a_leftover_of_a_killed_command_is_replaced(site: Path) -> None:
    """What it had begun to write is replaced, and is never read as a person's."""
    path = site / "keys" / "alice.pub"
    path.with_name(".alice.pub.new").write_text("half")
    key_file.replace(path, b"whole\n")
    assert path.read_bytes() == b"whole\n"
    assert [entry.name for entry in (site / "keys").iterdir()] == ["alice.pub"]


def test_the_reserve_takes_real_blocks_and_is_made_once(site: Path) -> None:
    """8 KiB that no file system can leave out; given back once."""
    assert not key_file.free_reserve(site / "keys")
    key_file.make_reserve(site / "keys")
    first = (site / "keys" / key_file.RESERVE).read_bytes()
    key_file.make_reserve(site / "keys")
    assert (site / "keys" / key_file.RESERVE).read_bytes() == first
    assert len(set(first)) > 100
    assert key_file.free_reserve(site / "keys")
    key_file.make_reserve(site / "nowhere")  # a provision, not a promise


def test_a_scan_passes_over_what_cannot_be_read(site: Path) -> None:
    """Directories, missing directories, and files that are hidden or no person's."""
    (site / "keys" / "bob.pub").mkdir()
    (site / "keys" / ".x.pub").write_bytes(LINES[0])
    (site / "keys" / "README").write_bytes(LINES[0])
    assert list(key_file.scan(site / "keys")) == []
    assert list(key_file.scan(site / "nowhere")) == []
