"""One supervisor after another: nobody who connects, is connected, or is recorded notices."""

import hashlib
import os
import queue
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from relay.serve import control
from tests.relay_process import Relay, echo_server, relay, wait_for
from tests.serve.hostile import Client, load_key


class Systemd:
    """What systemd does for a service of ours: it holds the socket (Relay does), and listens to its word."""

    def __init__(self, one: Relay) -> None:
        self._relay = one
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._told: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
        path = one.directory / "notify"
        self._sock.bind(str(path))
        one.environ["NOTIFY_SOCKET"] = str(path)
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while text := self._sock.recv(4096).decode():
            self._told.put(dict(line.split("=", 1) for line in text.splitlines()))

    def close(self) -> None:
        """The end of the test."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", self._sock.getsockname())
        self._thread.join()
        self._sock.close()

    def told(self, what: str, seconds: float = 20.0) -> dict[str, str]:
        """The next thing the service says that names `what` (sd_notify(3))."""
        deadline = time.monotonic() + seconds
        while True:
            said = self._told.get(timeout=max(deadline - time.monotonic(), 0))
            if what in said:
                return said

    def silent(self, what: str, seconds: float) -> bool:
        """Whether it says no such thing for that long."""
        try:
            self.told(what, seconds)
        except queue.Empty:
            return True
        return False

    def restart(self) -> None:
        """As `systemctl restart` does it with KillMode=process."""
        assert self._relay.stop() == 0
        self._relay.start()


@contextmanager
def systemd(directory: Path, settings: str = "") -> Iterator[tuple[Relay, Systemd]]:
    """A relay that systemd runs."""
    one = Relay(directory, settings=settings)
    manager = Systemd(one)
    try:
        yield one.start(), manager
    finally:
        one.end()
        manager.close()


def settled(one: Relay) -> int:
    """Wait until each opening row has its closing row, and see that none has two; how many there are."""

    def look() -> int:
        opened = sorted(row["forward"] for row in one.rows("forward.opened"))
        closed = sorted(row["forward"] for row in one.rows("forward.closed"))
        assert len(opened) == len(set(opened))
        assert len(closed) == len(set(closed)), "a forward was closed twice"
        return len(opened) if opened == closed else 0

    found: int = wait_for(look, "an opening has no closing row")
    return found


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
                with Client(self._relay.port, seconds=20) as client:
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
        assert len(list((one.site / "state" / "run").glob("w*.lock"))) == 1
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
                    sock.connect(str(one.site / "state" / "run" / "control.sock"))
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


# ---- what systemd is told, and told to do


def test_systemd_is_told_of_a_reload(tmp_path: Path) -> None:
    """RELOADING with its time, then READY again: by `relayctl reload` and by SIGHUP, whatever comes of it."""
    with systemd(tmp_path, "workers: 1\n") as (one, manager):
        assert manager.told("READY")["STATUS"].startswith("serving at 127.0.0.1:")
        for again in (lambda: one.ctl("reload"), lambda: os.kill(one.pid, signal.SIGHUP)):
            began = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            again()
            said = manager.told("RELOADING")
            assert began <= int(said["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            assert manager.told("READY")["READY"] == "1"
        one.policy("rules: nonsense")
        one.ctl("reload", status=1)
        assert manager.told("RELOADING")
        assert manager.told("READY")
        one.stop()
        assert manager.told("STOPPING")


def test_the_watchdog_is_fed_only_while_workers_answer(tmp_path: Path) -> None:
    """A worker that stands still: systemd hears nothing until it moves again."""
    one = Relay(tmp_path, settings="workers: 1\n")
    one.environ["WATCHDOG_USEC"] = "6000000"
    manager = Systemd(one)
    try:
        one.start()
        assert manager.told("WATCHDOG")
        assert manager.told("WATCHDOG")
        (worker,) = one.worker_pids()
        os.kill(worker, signal.SIGSTOP)
        wait_for(lambda: "watchdog is not fed" in one.log(), "it is fed")
        while not manager.silent("WATCHDOG", 0.01):
            pass
        assert manager.silent("WATCHDOG", 4)
        os.kill(worker, signal.SIGCONT)
        assert manager.told("WATCHDOG")
    finally:
        one.end()
        manager.close()


def test_another_number_of_workers_by_reload(tmp_path: Path) -> None:
    """More are started at once; those too many serve whom they have, take nobody new, and end when empty."""
    with relay(tmp_path, settings="workers: 1\n") as one, echo_server() as port:
        (first,) = one.worker_pids()
        with Client(one.port) as old:
            old.login("alice", load_key(one.key))
            number, channel = old.open("remote", port)
            one.settings("workers: 2\n")
            assert "workers: 1 -> 2" in one.ctl("reload")
            wait_for(lambda: len(working(one)) == 2, "there are no two workers")
            assert first in one.worker_pids()
            with Client(one.port) as other:  # to the new one, as the old one has a client
                other.login("alice", load_key(one.key))
                other.open("remote", port)
                one.settings("workers: 1\n")
                one.ctl("reload")
                wait_for(lambda: len(working(one)) == 1, "none of them drains")
                assert len(one.worker_pids()) == 2
                old.write(channel, b"both")
                assert old.read(number, 4) == b"both"
                other.echo("remote", port)
        wait_for(lambda: len(one.worker_pids()) == 1, "the one too many does not end")
        with Client(one.port) as new:
            new.login("alice", load_key(one.key))
            new.echo("remote", port)
        assert "ended with status" not in one.log()
        settled(one)


def test_where_it_listens_is_said_honestly(tmp_path: Path) -> None:
    """A changed `listen` is not in force by a reload, and a socket that differs from it is said at the start."""
    with relay(tmp_path, settings="workers: 1\n") as one:
        (one.site / "relay.yaml").write_text('listen: ["127.0.0.1:2"]\nworkers: 1\n')
        assert "not in force yet: relayctl upgrade" in one.ctl("reload")
        one.stop()
        one.start()
        assert "warning: this relay listens not at 127.0.0.1:2" in one.log()
        assert f"listens at 127.0.0.1:{one.port}, which is not in `listen`" in one.log()


def working(one: Relay) -> list[int]:
    """The workers that take new clients."""
    answer = control.call(one.site / "state", {"do": "status"})
    return [worker["pid"] for worker in answer["workers"] if not worker["draining"]]


# ---- the end


def test_the_second_ctrl_c_ends_at_once(tmp_path: Path) -> None:
    """The first one gives open forwards their time and says so, the second ends them, with their rows."""
    with relay(tmp_path, settings="workers: 1\nlimits: {stop: 60s}\n") as one, echo_server() as port:
        with Client(one.port) as client:
            client.login("alice", load_key(one.key))
            number, channel = client.open("remote", port)
            os.kill(one.pid, signal.SIGINT)
            wait_for(lambda: "Ctrl-C again ends them now" in one.log(), "it does not say so")
            client.write(channel, b"still")
            assert client.read(number, 5) == b"still"
            assert one.stop(signal.SIGINT, 10) == 0
        assert one.rows("forward.closed")[-1]["reason"] == "server-stopped"
        assert one.worker_pids() == []


def test_the_drained_end_with_the_rest(tmp_path: Path) -> None:
    """SIGTERM with no successor to come: workers of earlier supervisors end too, each with its closing rows."""
    with relay(tmp_path, settings="workers: 1\nlimits: {stop: 0s}\n") as one, echo_server() as port:
        with Client(one.port) as old:
            old.login("alice", load_key(one.key)).open("remote", port)
            one.take_over()
            with Client(one.port) as new:
                new.login("alice", load_key(one.key)).open("remote", port)
                assert len(one.worker_pids()) == 2
                assert one.stop() == 0
        assert [row["reason"] for row in one.rows("forward.closed")] == ["server-stopped"] * 2
        assert one.worker_pids() == []
        assert list((one.site / "state" / "run").glob("*")) == []


def test_a_drain_has_an_end(tmp_path: Path) -> None:
    """Workers of an earlier supervisor end at `drain`, with closing rows that say so."""
    with relay(tmp_path, settings="workers: 1\nlimits: {drain: 2s}\n") as one, echo_server() as port:
        with Client(one.port) as old:
            old.login("alice", load_key(one.key)).open("remote", port)
            one.take_over()
            one.wait_row("forward.closed", reason="drained")
            assert "please connect again" in old.gone()
        wait_for(lambda: len(one.worker_pids()) == 1, "it does not end")


def test_revocations_reach_the_drained(tmp_path: Path) -> None:
    """A key that is revoked after a hand-over loses its forwards in the workers of the supervisor before, at once."""
    with relay(tmp_path, settings="workers: 1\n") as one, echo_server() as port:
        with Client(one.port) as old:
            old.login("alice", load_key(one.key)).open("remote", port)
            one.take_over()
            wait_for(lambda: control.call(one.site / "state", {"do": "status"})["forwards"] == 1, "it has not joined")
            one.ctl("revoke-key", "alice")
            assert "no longer accepted" in old.gone()
        settled(one)
