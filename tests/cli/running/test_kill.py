"""Ending what is open where not all is well: a full disk, real clients."""

import resource
import subprocess
import time
from pathlib import Path

from tests.relay_process import echo_server, relay
from tests.serve.hostile import Client, load_key


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
        assert "done, but the audit row is not written yet" in said
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
