"""`relayctl serve`: the command becomes the supervisor."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.system
def test_root_does_not_serve_another_users_state(tmp_path: Path) -> None:
    """Files that root made there would keep the service from starting, so root is told what to type instead."""
    (tmp_path / "policies").mkdir()
    (tmp_path / "keys").mkdir()
    (tmp_path / "state").mkdir()
    (tmp_path / "relay.yaml").write_text("")
    os.chown(tmp_path / "state", 65534, 65534)
    words = [sys.executable, "-m", "relay", "--site", str(tmp_path), "serve"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "belongs to user 65534, not to root" in done.stderr
    assert "systemctl start relay" in done.stderr
    assert list((tmp_path / "state").iterdir()) == []
