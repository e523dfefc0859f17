"""A backup file: complete, private, and never restored when it is damaged."""

from pathlib import Path

import pytest

from relay.errors import InputRejected, RelayError
from relay.store import backup
from relay.store.reader import AuditReader
from relay.store.writer import FILE, AuditWriter
from tests.audit_rows import Relay


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site with a key file, a state of eleven rows, and a signing key."""
    site = tmp_path / "site"
    (site / "keys").mkdir(parents=True)
    (site / "keys" / "alice.pub").write_text("ssh-ed25519 AAAA alice\n")
    state = site / "state"
    (state / "audit_key").mkdir(parents=True)
    (state / "audit_key" / "secret").write_text("private")
    writer = AuditWriter(state / FILE, "relay")
    writer.append(Relay().day())
    writer.close()
    return site


def test_a_restored_backup_has_every_file_and_row(site: Path, tmp_path: Path) -> None:
    """Site and rows come back elsewhere as they were; the signing key is not in the file, whose mode is 0600."""
    file, other = tmp_path / "backup.tar.gz", tmp_path / "other"
    contents = backup.make(site, site / "state", file, "1.0")
    assert file.stat().st_mode & 0o777 == 0o600
    assert sorted(contents.files) == ["site/keys/alice.pub", f"state/{FILE}"]
    assert backup.restore(file, other, other / "state") == (contents, ())
    assert (other / "keys" / "alice.pub").read_text() == "ssh-ed25519 AAAA alice\n"
    with AuditReader(site / "state" / FILE) as before, AuditReader(other / "state" / FILE) as after:
        assert list(after.walk()) == list(before.walk())


def test_an_existing_file_is_not_overwritten(site: Path, tmp_path: Path) -> None:
    """A backup needs a new name."""
    file = tmp_path / "backup.tar.gz"
    file.write_text("mine")
    with pytest.raises(RelayError, match="exists already"):
        backup.make(site, site / "state", file, "1.0")
    assert file.read_text() == "mine"


def test_a_truncated_backup_changes_nothing(site: Path, tmp_path: Path) -> None:
    """Half a backup is refused, and the site stays as it was."""
    file = tmp_path / "backup.tar.gz"
    backup.make(site, site / "state", file, "1.0")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(InputRejected, match="is not a whole backup"):
        backup.restore(file, site, site / "state")
    assert (site / "keys" / "alice.pub").exists()
    with AuditReader(site / "state" / FILE) as reader:
        assert reader.head() == 11
