"""The record and the journal: written and read back, and any other text refused."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relay.errors import NotPermitted, RelayError
from relay.net.apply import journal, managed_files
from relay.net.apply.journal import AppliedPlan, ApplyJournal, Unit
from relay.net.apply.kernel_state import KernelState
from relay.net.apply.managed_files import FileContent
from relay.net.apply.managed_routes import ManagedRouteLine

texts = st.text(max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory in the place of OWN, whose files only their owner can write."""
    before = os.umask(0o022)
    monkeypatch.setattr(journal, "RECORD", str(tmp_path / "applied.json"))
    monkeypatch.setattr(journal, "JOURNAL", str(tmp_path / "journal.json"))
    monkeypatch.setattr(journal, "LOCK", str(tmp_path / "lock"))
    yield tmp_path
    os.umask(before)


def test_nothing_there_is_nothing_applied(place: Path) -> None:
    """The zero values, and no journal."""
    assert journal.read_record() == AppliedPlan()
    assert journal.read_journal() is None


def test_the_record_is_read_back(place: Path) -> None:
    """Every field."""
    written = AppliedPlan({"/etc/relay-net/up": "ab"}, ("/etc/relay-net",), "/etc/relay-net/down", True)
    managed_files.put(journal.RECORD, journal.record_file(written))
    assert journal.read_record() == written


def test_the_journal_is_read_back(place: Path) -> None:
    """Bytes that are no text, a file that was not there, the kernel's part and the unit; then it is over."""
    before = ApplyJournal(
        {"/etc/relay-net/up": FileContent(b"\xff\0", 0o755, 1, 2), "/etc/relay-net/down": None},
        ("/etc/relay-net",),
        KernelState(
            "table x",
            (ManagedRouteLine(4, "10.0.0.0/8 dev zt0"), ManagedRouteLine(6, "fd00::/8 dev zt0")),
            (("net/ipv4/ip_forward", "0"),),
        ),
        Unit(True, False),
    )
    journal.write_journal(before)
    assert (place / "journal.json").stat().st_mode & 0o077 == 0
    assert journal.read_journal() == before
    journal.remove_journal()
    assert journal.read_journal() is None


@given(value=values)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json_is_a_record_or_refused(place: Path, value: object) -> None:
    """Nothing but RelayError comes out, whatever stands in either file."""
    keys = ("files", "directories", "down", "unit", "held")
    for document in (value, {"format": 1, **dict.fromkeys(keys, value)}):
        (place / "applied.json").write_text(json.dumps(document))
        (place / "journal.json").write_text(json.dumps(document))
        for read in (journal.read_record, journal.read_journal):
            try:
                read()
            except RelayError as error:
                assert "is not what relayctl wrote" in error.what


@given(content=st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_refused(place: Path, content: bytes) -> None:
    """Also what is no JSON at all."""
    (place / "applied.json").write_bytes(content)
    with pytest.raises(RelayError, match="is not what relayctl wrote"):
        journal.read_record()


@pytest.mark.parametrize("path", ["etc/passwd", "/etc/../etc/passwd", "/etc//passwd", "/etc/", "", "/etc/a\0b"])
def test_a_path_on_record_is_plain(place: Path, path: str) -> None:
    """A record names absolute paths without a way around, or it is none."""
    document = {"format": 1, "files": {path: "x"}, "directories": [], "down": "", "unit": False}
    managed_files.put(journal.RECORD, FileContent(json.dumps(document).encode(), 0o644, os.geteuid(), os.getegid()))
    with pytest.raises(RelayError, match="is not what relayctl wrote"):
        journal.read_record()


def test_a_record_that_others_could_write_is_refused(place: Path) -> None:
    """Its group, or everybody."""
    managed_files.put(
        journal.RECORD, FileContent(journal.record_file(AppliedPlan()).content, 0o664, os.geteuid(), os.getegid())
    )
    with pytest.raises(NotPermitted, match="could be written by others than root"):
        journal.read_record()


def test_the_lock_names_its_holder(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second run is refused with the number of the process that holds the lock; the file stays afterwards."""
    monkeypatch.setattr(journal, "_LOCK_SECONDS", 0.1)
    taken = f"at work here: process {os.getpid()}$"
    with journal.locked(), pytest.raises(RelayError, match=taken), journal.locked():
        pass
    with journal.locked():
        pass
    assert (place / "lock").exists()
