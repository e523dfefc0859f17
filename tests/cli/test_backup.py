"""relayctl backup and restore, with a real relay."""

import shutil
import tarfile
from pathlib import Path

import pytest

from tests.relay_process import Relay, relay


def test_a_backup_brings_everything_back(tmp_path: Path) -> None:
    """After a loss the restored relay has the same host key, people, policy and rows, and says it was restored."""
    with relay(tmp_path) as one:
        file = tmp_path / "backup.tar.gz"
        before = one.ctl("host-key", "list")
        one.ctl("backup", str(file))
        assert file.stat().st_mode & 0o777 == 0o600
        assert one.ctl("backup", str(file), status=1).count("exists already") == 1
        with tarfile.open(file) as tar:
            assert [name for name in tar.getnames() if "audit_key" in name] == [], (
                "no backup holds the private audit key"
            )
        assert "another process writes" in one.ctl("restore", "--yes", str(file), status=1)
        rows = [row["id"] for row in one.rows()]
        one.stop()
        shutil.rmtree(one.site / "state")
        shutil.rmtree(one.site / "keys")
        one.policy("rules: []\n")
        one.ctl("restore", "--yes", str(file))
        assert one.ctl("host-key", "list") == before
        one.start()
        again = [row["id"] for row in one.rows()]
        assert again[: len(rows) - 1] == rows[:-1]  # the last one told of the backup itself
        assert one.wait_row("backup.restored")["file"] == str(file)
        assert (one.site / "keys" / "alice.pub").exists()
        assert "remote" in (one.site / "policies" / "main.yaml").read_text()


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "site/../../evil", "other/file", "site/keys/../../../evil"])
def test_a_hostile_backup_changes_nothing(tmp_path: Path, name: str) -> None:
    """A tar with a path of its own choosing is refused before anything is written."""
    one = Relay(tmp_path)
    try:
        file = tmp_path / "evil.tar.gz"
        with tarfile.open(file, "w:gz") as tar:
            tar.add(tmp_path / "alice", arcname=name)
        before = sorted(path.name for path in one.site.iterdir())
        assert "no backup of a relay" in one.ctl("restore", "--yes", str(file), status=1)
        assert sorted(path.name for path in one.site.iterdir() if path.name != "state") == [
            name for name in before if name != "state"
        ]
        assert not list(tmp_path.rglob("evil"))
    finally:
        one.end()


def test_a_truncated_backup_changes_nothing(tmp_path: Path) -> None:
    """Half a file is refused as damaged, with the site as it was."""
    with relay(tmp_path) as one:
        file = tmp_path / "backup.tar.gz"
        one.ctl("backup", str(file))
        one.stop()
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        policy = (one.site / "policies" / "main.yaml").read_text()
        assert "not a whole backup" in one.ctl("restore", "--yes", str(file), status=1)
        assert (one.site / "policies" / "main.yaml").read_text() == policy
