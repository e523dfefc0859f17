"""`relayctl doctor --limits`: each limit of the running relay, with its use."""

import json
from pathlib import Path

from tests.relay_process import relay
from tests.serve.hostile import Client, load_key


def test_limits_show_their_use(tmp_path: Path) -> None:
    """A logged-in connection counts for its person, and every limit has a bound above its use."""
    with relay(tmp_path, settings="workers: 1\n") as one, Client(one.port).login("alice", load_key(one.key)):
        rows = json.loads(one.ctl("doctor", "--limits", "--json"))
        rows = rows["limits"] if isinstance(rows, dict) else rows
        by_name = {row["limit"]: row for row in rows}
        assert by_name["connections_per_person"]["used"] == 1
        assert by_name["connections_per_person"]["by"] == "alice"
        assert all(row["used"] < row["most"] for row in rows)
        assert "connections_per_person" in one.ctl("doctor", "--limits")
