"""Byte streams through a jump host: real ssh clients with pipes and sockets of this process at their ends."""

import contextlib
import fcntl
import os
import select
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import processes
from jumphosts import CIPHERS, JumpHost, free_port
from processes import Started

PATIENCE = 60.0  # seconds; each step should take about one
CHUNK = memoryview(bytes(1 << 20))
PIPE = 1 << 20


class Tunnel:
    """One `ssh -W` through a jump host to a target, which speaks the protocol of target.py."""

    def __init__(self, started: Started, jump: JumpHost, port: int, cipher: str = CIPHERS[0]) -> None:
        self._started = started
        command = jump.ssh("-W", f"127.0.0.1:{port}", cipher=cipher)
        self.process = started.start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._in, self._out = self.process.stdin.fileno(), self.process.stdout.fileno()
        for end in (self._in, self._out):
            with contextlib.suppress(OSError):  # beyond the user's share of pipe pages; the usual 64 KiB are enough
                fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, PIPE)

    def say(self, line: str) -> None:
        """Send one line to the target."""
        os.write(self._in, line.encode() + b"\n")

    def take(self, count: int) -> None:
        """Read exactly `count` bytes. Raises SystemExit on a timeout."""
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
def tunnel(started: Started, jump: JumpHost, port: int, cipher: str = CIPHERS[0]) -> Iterator[Tunnel]:
    """A tunnel after a first answer of its target."""
    made = Tunnel(started, jump, port, cipher)
    try:
        made.say("ping")
        made.take(1)
        yield made
    finally:
        made.close()


class Shared:
    """One ssh client with two forwarded ports: to the echo target and to the bulk target."""

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
        """A new forward to the echo target, after its answer to `line`."""
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


@contextlib.contextmanager
def downloads(started: Started, jump: JumpHost, port: int, count: int = 1) -> Iterator[list[int]]:
    """`count` endless downloads, each in a connection of its own, at full speed; the pids of their ssh clients."""
    running: list[subprocess.Popen[bytes]] = []

    def begin(_: int) -> None:
        command = jump.ssh("-W", f"127.0.0.1:{port}")
        process = started.start(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        running.append(process)
        assert process.stdin is not None
        process.stdin.write(b"get 1000000000000\n")
        process.stdin.flush()
        deadline = time.monotonic() + PATIENCE
        while processes.written([process.pid]) < 1 << 20:
            if time.monotonic() > deadline or process.poll() is not None:
                raise SystemExit(f"a download through {jump.name} does not flow")
            time.sleep(0.02)

    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(begin, range(count)))
        time.sleep(0.5)
        yield [process.pid for process in running]
    finally:
        started.end(*running)
