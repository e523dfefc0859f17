"""The key files: their modes, the remains of an erased key, and the state after a crash."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import NotPermitted
from relay.store import signing_key


def test_a_key_is_made_for_its_owner_only_and_read_again(tmp_path: Path) -> None:
    """0600 in a 0700 directory, both of the state directory's owner; what it signs it proves."""
    if os.geteuid() == 0:
        os.chown(tmp_path, 1234, 1235)
    made = signing_key.make(tmp_path, 7)
    (file,) = (tmp_path / signing_key.DIRECTORY).iterdir()
    for path, mode in ((file, 0o600), (file.parent, 0o700)):
        found = path.stat()
        assert stat.S_IMODE(found.st_mode) == mode
        assert (found.st_uid, found.st_gid) == (tmp_path.stat().st_uid, tmp_path.stat().st_gid)
    (read,) = signing_key.load(tmp_path).values()
    assert (read.epoch, read.public) == (7, made.public)
    assert signing_key.seen(tmp_path) == {made.public: 7}
    signature = read.sign(b"what was said")
    assert signing_key.proves(made.public, signature, b"what was said")
    assert not signing_key.proves(made.public, signature, b"what was not said")
    assert not signing_key.proves(signing_key.make(tmp_path, 8).public, signature, b"what was said")
    assert made.public in repr(made)
    assert made.private.private_bytes_raw().hex() not in repr(made)


def test_erasing_leaves_nothing_of_the_key(tmp_path: Path) -> None:
    """The file's own blocks are overwritten before its name goes: who has it open sees no key any more."""
    old, new = signing_key.make(tmp_path, 1), signing_key.make(tmp_path, 2)
    directory = tmp_path / signing_key.DIRECTORY
    (directory / ".left").write_bytes(b"of a crash")
    (name,) = (path for path in directory.iterdir() if path.name.startswith("1-"))
    with name.open("rb") as file:
        signing_key.erase(tmp_path, keep=(new.public,))
        assert old.private.private_bytes_raw() not in file.read()
    assert [path.name[:2] for path in directory.iterdir()] == ["2-"]
    signing_key.erase(tmp_path)
    assert signing_key.load(tmp_path) == {}
    signing_key.erase(tmp_path / "nowhere")


def test_a_file_that_was_not_written_to_its_end_is_no_key(tmp_path: Path) -> None:
    """As a crash leaves it: empty, short; and one whose name is of another key, or none at all."""
    whole = signing_key.make(tmp_path, 1)
    directory = tmp_path / signing_key.DIRECTORY
    (file,) = directory.iterdir()
    for name, data in (
        (f"2-{'A' * 43}", b""),
        (f"3-{'B' * 42}A", b"x" * 31),
        (f"4-{'C' * 42}A", b"x" * 33),
        (f"5-{'D' * 42}A", file.read_bytes()),
        ("6", b"x" * 32),
    ):
        (directory / name).write_bytes(data)
        (directory / name).chmod(0o600)
    assert set(signing_key.load(tmp_path)) == {whole.public}


def test_a_key_that_others_can_read_signs_nothing(tmp_path: Path) -> None:
    """It is refused, with the cure."""
    signing_key.make(tmp_path, 1)
    (file,) = (tmp_path / signing_key.DIRECTORY).iterdir()
    file.chmod(0o640)
    with pytest.raises(NotPermitted) as refused:
        signing_key.load(tmp_path)
    assert refused.value.hint == f"chmod 600 {file}"


def test_what_cannot_be_seen_is_not_taken_for_empty(tmp_path: Path) -> None:
    """No directory: there is no key. A directory that is none: nobody knows."""
    assert signing_key.seen(tmp_path) == {}
    (tmp_path / signing_key.DIRECTORY).write_text("")
    assert signing_key.seen(tmp_path) is None


@given(st.text(), st.text(), st.binary())
def test_any_signature_is_judged(key: str, signature: str, statement: bytes) -> None:
    """Whatever stands in a row: it is no proof, and nothing is raised."""
    assert not signing_key.proves(key, signature, statement)
