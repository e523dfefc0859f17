"""Restarts of the supervisor: no client is refused or disconnected, and no row is lost."""

import hashlib
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.relay_process import Relay, echo_server, relay, wait_for
from tests.serve.hostile import Client, load_key
from tests.serve.systemd import settled


class Visitors:
    """Threads that connect, log in, open a forward and end again, without pause."""

    def __init__(self, one: Relay, port: int, count: int = 3) -> None:
        self._relay = one
        self._port = port
        self._key = load_key(one.key)
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(count)]
        self.visits = 0
        self.slowest = 0.0
        self.failures: list[str] = []

    def __enter__(self) -> "Visitors":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self) -> None:
        while not self._over.is_set():
            began = time.monotonic()
            try:
                with Client(self._relay.port, seconds=20, exchange=False) as client:
                    client.hello()
                    client.exchange()
                    client.login("alice", self._key)
                    client.echo("remote", self._port)
            except Exception as error:  # whatever it is, a visitor was turned away
                self.failures.append(repr(error))
            self.visits += 1
            self.slowest = max(self.slowest, time.monotonic() - began)


def kept(one: Relay, port: int) -> Visitors:
    """Ten restarts while visitors come; an old connection lives through all of them, and may open more."""
    with Client(one.port) as old:
        old.login("alice", load_key(one.key))
        number, channel = old.open("remote", port)
        with Visitors(one, port) as visitors:
            for _ in range(10):
                before = visitors.visits
                one.restart()
                old.write(channel, b"still here")
                assert old.read(number, 10) == b"still here"
                wait_for(lambda before=before: visitors.visits > before + 3, "nobody gets in any more")
        assert visitors.failures == []
        old.echo("remote", port)
    return visitors


def test_ten_restarts_refuse_no_client(tmp_path: Path) -> None:
    """Connections opened without pause across ten restarts by systemd: none is refused or reset, each has its rows."""
    with relay(tmp_path, settings="workers: 1\n", by_systemd=True) as one, echo_server() as port:
        visitors = kept(one, port)
        rows = settled(one)
        assert rows == visitors.visits + 2
        assert len(one.rows("server.started")) == 11
        assert len(one.rows("server.stopped")) == 10
        reasons = {row["reason"] for row in one.rows("forward.closed")}
        assert not reasons & {"worker-lost", "server-stopped", "busy"}, reasons
        wait_for(lambda: len(one.worker_pids()) == 1, "old workers do not end when they are empty")
        assert len(list((one.state / "run").glob("w*.lock"))) == 1
        assert "a bug of ours" not in one.log(), one.log()


def test_a_large_transfer_outlives_its_supervisor(tmp_path: Path) -> None:
    """100 MB through `ssh -W` and back, a restart in the middle: every byte arrives, in both directions."""
    size, piece = 100_000_000, 1 << 20
    block = os.urandom(piece)
    sent, received = hashlib.sha256(), hashlib.sha256()
    half = threading.Event()
    on = threading.Event()
    with relay(tmp_path, settings="workers: 1\n", by_systemd=True) as one, echo_server() as port:
        ssh = [shutil.which("ssh") or "ssh", *one.ssh_options(), "-W", f"remote:{port}", "relay"]
        with subprocess.Popen(ssh, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            stdin = process.stdin

            def send() -> None:
                with stdin:
                    for start in range(0, size, piece):
                        data = block[: min(piece, size - start)]
                        sent.update(data)
                        stdin.write(data)
                        if start > size // 2 and not half.is_set():
                            half.set()
                            on.wait(30)

            stdout = process.stdout

            def receive() -> None:
                while data := stdout.read1(piece):
                    received.update(data)

            sender, receiver = threading.Thread(target=send), threading.Thread(target=receive)
            sender.start()
            receiver.start()
            assert half.wait(60)
            one.restart()
            on.set()
            sender.join(60)
            receiver.join(60)
        assert received.hexdigest() == sent.hexdigest()
        assert one.wait_row("forward.closed")["received"] == size


def test_a_supervisor_that_is_killed_again_and_again_loses_no_row(tmp_path: Path) -> None:
    """SIGKILL while visitors come and go: each opening has its one closing row, and an open forward goes on."""
    with relay(tmp_path, settings="workers: 2\n") as one, echo_server() as port:
        with Client(one.port) as old:
            old.login("alice", load_key(one.key))
            number, channel = old.open("remote", port)
            with Visitors(one, port) as visitors:
                for _ in range(5):
                    before = visitors.visits
                    one.kill_supervisor()
                    old.write(channel, b"still here")
                    assert old.read(number, 10) == b"still here"
                    one.start()
                    wait_for(lambda before=before: visitors.visits > before + 5, "nobody gets in any more")
        # refused by a worker in so many words, or in the hands of the supervisor that was killed: three visitors can be
        # either at a time
        assert len(visitors.failures) <= 5 * 3 * 2, visitors.failures
        settled(one)
        assert "worker-lost" not in {row["reason"] for row in one.rows("forward.closed")}
        assert "a bug of ours" not in one.log(), one.log()


@pytest.mark.parametrize("proven", [False, True])
def test_a_restart_during_a_log_in_is_not_noticed(tmp_path: Path, proven: bool) -> None:
    """A client in the middle of its log-in, or just after it, does not notice that the supervisor changes."""
    with relay(tmp_path, settings="workers: 1\n", by_systemd=True) as one, echo_server() as port:
        with Client(one.port) as client:
            if proven:
                client.login("alice", load_key(one.key))
            else:
                client.service()
            one.restart()
            if not proven:
                client.send(client.signed("alice", load_key(one.key)))  # type: ignore[arg-type]  # hostile.Key
                client.expect(52)
            client.echo("remote", port)
        settled(one)
