"""`relayctl connections` as it is typed."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from relay.cli.running import open_sessions
from relay.cli.running.open_sessions import OpenSessions
from tests.relay_process import Relay, echo_server, relay, wait_for
from tests.serve.hostile import Client, load_key


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """A running relay for all tests of this file."""
    with relay(tmp_path_factory.mktemp("relay"), settings="workers: 1\n") as made:
        yield made


def test_a_line_for_each_connection_and_forward(one: Relay) -> None:
    """Person, client, how long, id and key; below it the target, bytes each way and idle."""
    with echo_server() as port, Client(one.port).login("alice", load_key(one.key)) as alice:
        number, channel = alice.open("remote", port)
        alice.write(channel, b"x" * 1500)
        alice.read(number, 1500)
        head, line, total, *_ = one.ctl("connections").splitlines()
        assert head.startswith(f"alice  127.0.0.1:{alice.sock.getsockname()[1]}  for ")
        assert "SSH-2.0-hostile" in head
        assert line.startswith(f"  remote:{port} (127.0.0.2 in here)  id ")
        assert "  sent 1.5 kB" in line
        assert "  received 1.5 kB" in line
        assert "  idle " in line
        assert total == "1 connection, 1 forward"
        found = json.loads(one.ctl("connections", "alice", "--json"))
        (connection,) = found["connections"]
        (forward,) = connection["forwards"]
        assert (forward["sent"], forward["zone"], forward["rule"]) == (1500, "here", "alice reaches remote")
        assert connection["since"].endswith("Z")
        for name in (connection["id"], forward["id"], connection["fingerprint"]):
            assert "1 connection, 1 forward" in one.ctl("connections", name)
        assert "0 connections" in one.ctl("connections", "bob", status=1)


def test_it_is_looked_at_again_and_again(one: Relay) -> None:
    """--watch on a terminal draws over what it drew; Ctrl-C ends it."""
    main, terminal = pty.openpty()
    command = [sys.executable, "-P", "-m", "relay", "--site", str(one.site), "connections", "--watch"]
    with Client(one.port).login("alice", load_key(one.key)):
        with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal) as process:
            os.close(terminal)
            said = bytearray()
            wait_for(lambda: said.extend(os.read(main, 1 << 16)) or said.count(b"1 connection, 0") == 2, "not twice")
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0
        os.close(main)
    assert said.count(b"\x1b[H") == 2
    assert b"Ctrl-C ends" in said


def test_elsewhere_it_is_lines_or_json(one: Relay) -> None:
    """--watch --json into a pipe is one object a look."""
    command = [sys.executable, "-P", "-m", "relay", "--site", str(one.site), "connections", "--watch", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        for _ in range(2):
            assert json.loads(process.stdout.readline())["silent_workers"] == []
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


def test_what_came_from_outside_is_escaped() -> None:
    """A client's version, a target's spelling: no line of theirs can move the cursor."""
    row = {"c": "0k3v9x2m4qz", "state": "open", "person": "alice", "key": "SHA256:x", "client": "2001:db8::7"}
    forward = {"f": "0k3v9x2m4r0", "c": row["c"], "state": "open", "asked": "\x1b[2Jevil:22", "zone": "office"}
    forward |= {"address": "192.168.1.201", "port": 22, "since": 1, "sent": 1, "received": None, "idle": 3}
    found = OpenSessions(({**row, "port": 7, "version": "\x1b]0;x", "forwards": [forward]},), (), {})
    text = "\n".join(open_sessions.lines(found, int(time.time() * 1e6)))
    assert "[2001:db8::7]:7" in text
    assert "\x1b[2J" not in text
    assert "\x1b]" not in text
    assert "received ?" in text
