"""The single measurements of the comparison: each takes a jump host and gives numbers, all with real ssh clients."""

import contextlib
import fcntl
import os
import select
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import processes
from jumphosts import JumpHost, free_port
from processes import Started

PATIENCE = 60.0  # seconds for anything that should take one
CHUNK = memoryview(bytes(1 << 20))
PIPE = 1 << 20


class Tunnel:
    """One `ssh -W` through a jump host to a target, with the target's own words (see target.py)."""

    def __init__(self, started: Started, jump: JumpHost, port: int) -> None:
        self._started = started
        command = jump.ssh("-W", f"127.0.0.1:{port}")
        self.process = started.start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._in, self._out = self.process.stdin.fileno(), self.process.stdout.fileno()
        for end in (self._in, self._out):
            with contextlib.suppress(OSError):  # over the user's share of pipe pages: the usual 64 KiB do as well
                fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, PIPE)

    def say(self, line: str) -> None:
        """Send one line to the target."""
        os.write(self._in, line.encode() + b"\n")

    def take(self, count: int) -> None:
        """Read exactly `count` bytes. Raises SystemExit if they do not come."""
        while count > 0:
            if not select.select([self._out], [], [], PATIENCE)[0]:
                raise SystemExit(f"no byte within {PATIENCE:.0f} s, {count} to come")
            got = len(os.read(self._out, min(count, PIPE)))
            if not got:
                raise SystemExit(f"the tunnel ended, {count} bytes to come (ssh exit {self.process.poll()})")
            count -= got

    def give(self, count: int) -> None:
        """Write exactly `count` bytes."""
        while count > 0:
            count -= os.write(self._in, CHUNK[: min(count, len(CHUNK))])

    def close(self) -> None:
        """End this ssh."""
        self._started.end(self.process)


@contextlib.contextmanager
def tunnel(started: Started, jump: JumpHost, port: int) -> Iterator[Tunnel]:
    """A tunnel whose target has answered once."""
    made = Tunnel(started, jump, port)
    try:
        made.say("ping")
        made.take(1)
        yield made
    finally:
        made.close()


def throughput(started: Started, jump: JumpHost, port: int, size: int, *, up: bool) -> tuple[float, float]:
    """(MiB/s, the jump host's CPU seconds per GB) for `size` bytes one way through an established forward."""
    with tunnel(started, jump, port) as at:
        pids = processes.tree(jump.pid)
        before, start = processes.cpu_now(pids), time.perf_counter()
        if up:
            at.say(f"put {size}")
            at.give(size)
            at.take(1)
        else:
            at.say(f"get {size}")
            at.take(size)
        seconds = time.perf_counter() - start
        cpu = processes.cpu_now(pids) - before
    return size / seconds / (1 << 20), cpu / (size / 1e9)


def logins(started: Started, jump: JumpHost, port: int, count: int) -> tuple[float, list[float]]:
    """(log-ins with a forward per CPU second of the jump host, ms of each from the start of ssh to the first byte)."""
    settle(jump)
    before = processes.cpu_with_ended(processes.tree(jump.pid))
    spent = []
    for _ in range(count):
        start = time.perf_counter()
        with tunnel(started, jump, port):
            spent.append((time.perf_counter() - start) * 1000)
    settle(jump)
    cpu = processes.cpu_with_ended(processes.tree(jump.pid)) - before
    return count / max(cpu, 0.01), spent


def settle(jump: JumpHost, patience: float = 10.0) -> None:
    """Wait until the jump host's tree has had no CPU and no change for 0.3 s: ended children are reaped by then."""
    deadline = time.monotonic() + patience
    last: tuple[list[int], float] | None = None
    while time.monotonic() < deadline:
        pids = processes.tree(jump.pid)
        now = (pids, round(processes.cpu_with_ended(pids), 2))
        if now == last:
            return
        last = now
        time.sleep(0.3)


def memory(started: Started, jump: JumpHost, port: int, people: tuple[int, ...]) -> list[tuple[float | None, int]]:
    """(MiB in all, processes) with so many connections, each logged in with one open, idle forward."""
    tunnels: list[Tunnel] = []
    found = []

    def connect(_: int) -> Tunnel:
        made = Tunnel(started, jump, port)
        made.say("ping")
        made.take(1)
        return made

    try:
        with ThreadPoolExecutor(8) as pool:
            for count in people:
                tunnels += pool.map(connect, range(count - len(tunnels)))
                settle(jump)
                pids = processes.tree(jump.pid)
                found.append((processes.memory(pids), len(pids)))
    finally:
        started.end(*(made.process for made in tunnels))
    return found


def echoes(at: Tunnel, seconds: float) -> list[float]:
    """Milliseconds of one 64-byte echo after the other, one every 4 ms or so (a fast typist is far slower)."""
    at.say("echo")
    at.take(1)
    spent = []
    end = time.perf_counter() + seconds
    message = "x" * 63
    while (start := time.perf_counter()) < end:
        at.say(message)
        at.take(64)
        spent.append((time.perf_counter() - start) * 1000)
        time.sleep(0.004)
    return spent


@contextlib.contextmanager
def others_bulk(started: Started, jump: JumpHost, port: int) -> Iterator[None]:
    """Another person's endless download through the same jump host."""
    process = started.start(jump.ssh("-W", f"127.0.0.1:{port}"), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.stdin is not None
    process.stdin.write(b"get 1000000000000\n")
    process.stdin.flush()
    time.sleep(1)  # so that it runs at its full speed before anything is measured
    try:
        yield
    finally:
        started.end(process)


class Shared:
    """One ssh with two forwarded ports: to the echoing target and to the bulk one."""

    def __init__(self, started: Started, jump: JumpHost, echo: int, bulk: int) -> None:
        self._started = started
        self.echo, self.bulk = free_port(), free_port()
        ways = [f"-L127.0.0.1:{self.echo}:127.0.0.1:{echo}", f"-L127.0.0.1:{self.bulk}:127.0.0.1:{bulk}"]
        self.process = started.start(jump.ssh("-N", *ways), stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self.ask(b"ping\n").close()
                return
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise SystemExit(f"ssh -N to {jump.name} does not forward") from None
                time.sleep(0.02)

    def ask(self, line: bytes) -> socket.socket:
        """A new forward to the echoing target that has answered `line` with its dot."""
        sock = socket.create_connection(("127.0.0.1", self.echo), PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(line)
        if sock.recv(1) != b".":
            sock.close()
            raise ConnectionError("the forward ended")
        return sock

    def close(self) -> None:
        """End this ssh."""
        self._started.end(self.process)


def setup(at: Shared, count: int) -> list[float]:
    """Milliseconds from a local connect to the target's first byte, over a connection that is open already."""
    spent = []
    for _ in range(count):
        start = time.perf_counter()
        sock = at.ask(b"ping\n")
        spent.append((time.perf_counter() - start) * 1000)
        sock.close()
        time.sleep(0.002)
    return spent


def own_bulk_echoes(started: Started, at: Shared, seconds: float) -> list[float]:
    """Echoes beside an endless download in the same SSH connection."""
    program = str(Path(__file__).with_name("target.py"))
    bulk = started.start([sys.executable, program, "--drain", str(at.bulk)])
    time.sleep(1)
    spent = []
    message = b"x" * 64
    try:
        with at.ask(b"echo\n") as sock:
            end = time.perf_counter() + seconds
            while (start := time.perf_counter()) < end:
                sock.sendall(message)
                left = 64
                while left:
                    got = len(sock.recv(left))
                    if not got:
                        raise SystemExit("the echo beside one's own bulk stream ended")
                    left -= got
                spent.append((time.perf_counter() - start) * 1000)
                time.sleep(0.004)
    finally:
        started.end(bulk)
    return spent


def centile(values: list[float], percent: int) -> float:
    """The value that `percent` of them do not exceed."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
