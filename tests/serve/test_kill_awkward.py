"""Ending what is open where not all is well: workers of the release before, a full disk, real clients."""

import resource
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.serve import control_client
from relay.store import host_keys
from tests.relay_process import Relay, echo_server, relay, wait_for
from tests.serve.hostile import Client, load_key
from tests.serve.supervisor.test_session_query import listed
from tests.serve.test_releases import release, start


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Relay]:
    """A relay of release 0.1.0, not started yet."""
    made = Relay(tmp_path, settings="workers: 1\n")
    host_keys.ensure(made.state)
    try:
        yield made
    finally:
        made.end()


def test_workers_of_a_release_that_cannot_say_are_told_about_and_ended(old: Relay) -> None:
    """What the supervisor knows is shown; connections end, a single forward is not ended in silence."""
    with echo_server() as port:
        start(old, release(old, "0.1.0"))
        with Client(old.port) as client:
            client.login("alice", load_key(old.key)).open("remote", port)
            old.environ["NOTIFY_SOCKET"] = ""
            old.kill_supervisor()
            start(old, None)
            wait_for(lambda: len(control_client.call(old.state, {"do": "status"})["workers"]) == 2, "it does not join")
            connections, forwards = listed(old)
            assert [row["person"] for row in connections] == ["alice"]
            assert [(row["address"], row["port"]) for row in forwards] == [("127.0.0.2", port)]
            said = old.ctl("connections")
            assert f"127.0.0.2:{port} (in here)" in said
            said = old.ctl("kill", forwards[0]["f"], status=1)
            assert f"can only end whole connections: relayctl kill {connections[0]['c']}" in said
            said = old.ctl("kill", "alice", "--reason", "late")
            assert f"ended: connection {connections[0]['c']} of alice" in said
            client.gone()
            assert old.wait_row("connection.killed", person="alice")["why"] == "late"
            assert old.wait_row("forward.closed", port=port)["reason"] == "killed"


def test_a_full_disk_does_not_matter(tmp_path: Path) -> None:
    """It ends at once; the command says that the row waits, and the row is there when there is room."""
    with (
        relay(tmp_path, settings="workers: 1\n") as one,
        echo_server() as port,
        Client(one.port).login("alice", load_key(one.key)) as client,
    ):
        client.open("remote", port)
        unlimited = resource.prlimit(one.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(one.pid, resource.RLIMIT_FSIZE, (1, unlimited[1]))
        assert client.refused("remote", port)[1].startswith("relay: the relay cannot take this now")
        said = one.ctl("kill", "alice", "--reason", "full")
        assert "it is done, but the audit row waits" in said
        assert "the administrator" in client.gone()
        resource.prlimit(one.pid, resource.RLIMIT_FSIZE, unlimited)
        assert one.wait_row("connection.killed", person="alice")["why"] == "full"
        assert one.wait_row("forward.closed", reason="killed")["port"] == port


def test_a_real_client_shows_the_reason(tmp_path: Path) -> None:
    """ssh -W, as ssh -J runs it: closing its channel would end it without a word; the words and the id arrive."""
    with relay(tmp_path, settings="workers: 1\n") as one, echo_server(greeting=b"hello") as port:
        with subprocess.Popen(
            ["ssh", *one.ssh_options(), "-W", f"remote:{port}", "relay"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as client:
            assert client.stdout is not None
            assert client.stdout.read(5) == b"hello"
            forward = one.rows("forward.opened")[0]
            began = time.monotonic()
            one.ctl("kill", forward["forward"])
            _, said = client.communicate(timeout=20)
            assert time.monotonic() - began < 5
        assert client.returncode == 255
        assert f"relay: the administrator has ended this (id {forward['connection']})".encode() in said
