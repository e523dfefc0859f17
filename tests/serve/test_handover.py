"""One supervisor after another: nobody who connects, is connected, or is recorded notices."""

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.relay_process import Relay, echo_server, relay, wait_for
from tests.serve.hostile import Client, load_key
from tests.serve.systemd import settled, systemd, workers


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


def kept(one: Relay, port: int, again: Callable[[], None]) -> Visitors:
    """Ten hand-overs while visitors come; an old connection lives through all of them, and may open more."""
    with Client(one.port) as old:
        old.login("alice", load_key(one.key))
        number, channel = old.open("remote", port)
        with Visitors(one, port) as visitors:
            for _ in range(10):
                before = visitors.visits
                again()
                old.write(channel, b"still here")
                assert old.read(number, 10) == b"still here"
                wait_for(lambda before=before: visitors.visits > before + 3, "nobody gets in any more")
        assert visitors.failures == []
        old.echo("remote", port)
    return visitors


def test_ten_take_overs_refuse_nobody(tmp_path: Path) -> None:
    """Connections opened without pause across ten hand-overs by the control socket: none is refused or reset."""
    with relay(tmp_path, settings="workers: 1\n") as one, echo_server() as port:
        visitors = kept(one, port, one.take_over)
        rows = settled(one)
        assert rows == visitors.visits + 2
        assert len(one.rows("server.started")) == 11
        assert len(one.rows("server.stopped")) == 10
        reasons = {row["reason"] for row in one.rows("forward.closed")}
        assert not reasons & {"worker-lost", "server-stopped", "busy"}, reasons
        wait_for(lambda: len(one.worker_pids()) == 1, "old workers do not end when they are empty")
        assert len(list((one.state / "run").glob("w*.lock"))) == 1
        assert "a bug of ours" not in one.log(), one.log()


def test_ten_restarts_by_systemd_refuse_nobody(tmp_path: Path) -> None:
    """The same with `systemctl restart`: the socket is held outside, and nobody serves for a moment."""
    with systemd(tmp_path, "workers: 1\n") as (one, manager), echo_server() as port:
        visitors = kept(one, port, manager.restart)
        assert settled(one) == visitors.visits + 2
        wait_for(lambda: len(one.worker_pids()) == 1, "old workers do not end when they are empty")
        assert "a bug of ours" not in one.log(), one.log()


def test_a_large_transfer_outlives_its_supervisor(tmp_path: Path) -> None:
    """100 MB through `ssh -W` and back, a hand-over in the middle: every byte arrives, in both directions."""
    size, piece = 100_000_000, 1 << 20
    block = os.urandom(piece)
    sent, received = hashlib.sha256(), hashlib.sha256()
    half = threading.Event()
    on = threading.Event()
    with relay(tmp_path, settings="workers: 1\n") as one, echo_server() as port:
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
            one.take_over()
            on.set()
            sender.join(60)
            receiver.join(60)
        assert received.hexdigest() == sent.hexdigest()
        assert one.wait_row("forward.closed")["received"] == size


def test_a_successor_that_fails_changes_nothing(tmp_path: Path) -> None:
    """One that dies before it serves: the relay that runs goes on, with all that is open."""
    with relay(tmp_path, settings="workers: 1\n") as one, echo_server() as port:
        with Client(one.port) as old:
            old.login("alice", load_key(one.key))
            number, channel = old.open("remote", port)
            for said in ('{"do": "take-over", "pid": 1}', '{"do": "take-over", "pid": 1}\n{"ready": true}'):
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
                    sock.connect(str(one.state / "run" / "control.sock"))
                    sock.settimeout(20)
                    sock.sendall(said.encode() + b"\n")
                    assert b'"ok": true' in sock.recv(4096)
                    if "ready" in said:
                        assert b"done" in sock.recv(4096)
                wait_for(lambda: "this one goes on" in one.log(), "it does not notice")
                old.write(channel, b"on")
                assert old.read(number, 2) == b"on"
                old.echo("remote", port)
                with Client(one.port) as new:
                    new.login("alice", load_key(one.key))
                    new.echo("remote", port)
        settled(one)
        assert one.process is not None
        assert one.process.poll() is None
        assert "a bug of ours" not in one.log(), one.log()


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


def test_a_question_in_between_is_not_lost(tmp_path: Path) -> None:
    """Asked while nobody has the database: it waits for whoever serves next, here the same one; rows and all."""
    with relay(tmp_path, settings="workers: 1\n") as one, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(str(one.state / "run" / "control.sock"))
        sock.settimeout(20)
        sock.sendall(b'{"do": "take-over"}\n')
        assert b'"ok": true' in sock.recv(4096)
        one.person("bob")
        one.ctl("reload")
        sock.sendall(b'{"ready": true}\n')
        assert b'"done": true, "changed": true' in sock.recv(4096)  # so that the successor looks at the files again
        said: list[str] = []
        asking = threading.Thread(target=lambda: said.append(one.ctl("revoke-key", "bob")))
        asking.start()
        asking.join(1)
        assert asking.is_alive()
        sock.close()
        asking.join(20)
        assert "it is out now" in said[0]
        one.wait_row("key.revoked", person="bob")


def test_there_must_be_somebody_to_take_over_from(tmp_path: Path) -> None:
    """Without a relay on the site: exit 3, and what to type instead."""
    one = Relay(tmp_path)
    said = one.ctl("serve", "--take-over", status=3)
    assert "nothing to take over" in said
    assert "relayctl serve" in said
    one.end()


def test_what_systemd_runs_is_not_taken_over(tmp_path: Path) -> None:
    """systemd would start the old one again: the refusal says what to type."""
    with systemd(tmp_path, "workers: 1\n") as (one, manager):
        assert manager.told("READY")
        said = one.ctl("serve", "--take-over", status=1)
        assert "systemctl restart relay.service" in said


@pytest.mark.parametrize("proven", [False, True])
def test_who_is_logging_in_is_let_on(tmp_path: Path, proven: bool) -> None:
    """A client in the middle of its log-in, or just after it, does not notice that the supervisor changes."""
    with systemd(tmp_path, "workers: 1\n") as (one, manager), echo_server() as port:
        with Client(one.port) as client:
            if proven:
                client.login("alice", load_key(one.key))
            else:
                client.service()
            manager.restart()
            if not proven:
                client.send(client.signed("alice", load_key(one.key)))  # type: ignore[arg-type]  # hostile.Key
                client.expect(52)
            client.echo("remote", port)
        settled(one)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_successor_that_is_told_to_stop_takes_nothing_away(tmp_path: Path, number: signal.Signals) -> None:
    """SIGTERM or Ctrl-C before it serves: the relay that runs keeps its sockets, and answers as before."""
    with relay(tmp_path, settings="workers: 1\n") as one:
        words = [sys.executable, "-P", "-m", "relay", "--site", str(one.site), "serve", "--take-over"]
        before = one.worker_pids()
        with subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as successor:
            wait_for(lambda: one.worker_pids() != before, "it starts no worker")
            successor.send_signal(number)
            assert successor.wait(20) == 0
        wait_for(lambda: one.worker_pids() == before, "its worker lives on")
        assert one.process is not None
        assert one.process.poll() is None
        one.ctl("reload")
        one.ctl("connections")
        assert (one.state / "run" / "workers.sock").is_socket()


def test_a_predecessor_that_is_killed_is_taken_over_from(tmp_path: Path) -> None:
    """SIGKILL while a successor gets ready: nobody else would serve, so that one does, with all that is open."""
    with relay(tmp_path, settings="workers: 1\n") as one, echo_server() as port:
        before, said = one.worker_pids(), tmp_path / "successor.log"
        with Client(one.port) as old:
            old.login("alice", load_key(one.key))
            number, channel = old.open("remote", port)
            words = [sys.executable, "-P", "-m", "relay", "--site", str(one.site), "serve", "--take-over"]
            with said.open("wb") as log:
                successor = subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=log)
            try:
                wait_for(lambda: one.worker_pids() != before, "it starts no worker")
                one.kill_supervisor()
                one.process = successor
                wait_for(lambda: b"serving " in said.read_bytes(), "it never served")
            finally:
                one.process = successor
            old.write(channel, b"on")
            assert old.read(number, 2) == b"on"
            wait_for(lambda: set(before) <= {worker["pid"] for worker in workers(one)}, "its worker does not join")
            old.echo("remote", port)
            with Client(one.port) as new:
                new.login("alice", load_key(one.key))
                new.echo("remote", port)
        assert settled(one) == 3


def test_a_stop_that_comes_during_a_failed_take_over_is_obeyed(tmp_path: Path) -> None:
    """SIGTERM while a successor has the door, which then fails: the relay ends, as it was told."""
    with relay(tmp_path, settings="workers: 1\n") as one, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(str(one.state / "run" / "control.sock"))
        sock.settimeout(20)
        sock.sendall(b'{"do": "take-over"}\n')
        assert b'"ok": true' in sock.recv(4096)
        sock.sendall(b'{"ready": true}\n')
        assert b'"done": true' in sock.recv(4096)
        os.kill(one.pid, signal.SIGTERM)
        sock.close()
        assert one.process is not None
        assert one.process.wait(20) == 0
        assert one.rows("server.stopped")


def test_another_site_takes_nothing_over(tmp_path: Path) -> None:
    """A copy of a site whose `state:` is the first one's: it is refused, and its policy does not become law."""
    with relay(tmp_path, settings="workers: 1\n") as one:
        copy = tmp_path / "copy"
        shutil.copytree(one.site, copy, ignore=shutil.ignore_patterns("state"))
        (copy / "relay.yaml").write_text(f'listen: ["127.0.0.1:{one.port}"]\nstate: {one.state}\n')
        words = [sys.executable, "-P", "-m", "relay", "--site", str(copy), "serve", "--take-over"]
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
        assert done.returncode == 1
        assert f"the relay that runs here serves {one.site}" in done.stderr
        one.ctl("reload")
