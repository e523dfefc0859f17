"""relayctl host-key, with a real relay."""

import json
from pathlib import Path

from tests.relay_process import Relay


def test_host_keys_are_added_and_retired_on_record(tmp_path: Path) -> None:
    """Adding and retiring leave rows, with a relay running and without one."""
    one = Relay(tmp_path)
    try:
        assert "added ssh-ed25519" in one.ctl("host-key", "add")
        assert "added ssh-ed25519" in one.ctl("host-key", "add")
        names = [key["name"] for key in json.loads(one.ctl("host-key", "list", "--json"))]
        assert names == ["ed25519", "ed25519-2"]
        one.ctl("host-key", "retire", "ed25519-2")
        assert len(one.rows("host_key.added")) == 2
        assert len(one.rows("host_key.retired")) == 1
        assert "only host key" in one.ctl("host-key", "retire", "ed25519", status=1)
    finally:
        one.end()
