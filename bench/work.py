"""Counts of the worker's work for 32 KiB of data, a key stroke and a log-in; nothing is timed.

    python bench/work.py [--rounds 5] [--json]

A worker runs in this process; a client and a target feed it in lockstep, so that every run has the same turns. What is
counted, in the worker's code and its libraries only; the result is the least of the rounds:

calls      of Python and of C functions
bytecodes  that Python executed (they differ between its versions)
system     calls that move bytes, wait for them or ask for randomness, and changes of what is waited for
packets    of SSH that the relay sent
copies     how often each byte was written to fresh memory: with malloc told to map every block of a page and
           more, each copy is so many page faults, and a reused buffer none

tests/bench/test_work.py holds the bounds: a copy, a packet or a call too many fails there.
"""

import argparse
import asyncio
import json
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import asyncssh
import cryptography
from counting import COPY as PACKET
from counting import Count, Fresh
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import relay
from relay.core.keys import authorized_keys
from relay.core.keys.authorized_keys import Key
from relay.core.keys.keyring import Keyring
from relay.core.policy import policy
from relay.core.policy.model import Rule, Zone
from relay.serve.worker.forward import read_pacing
from relay.serve.worker.process import Worker
from relay.store import host_keys
from tests.serve import hostile
from tests.serve.hostile import Client, string, uint32

BURST = 1 << 20  # bytes before the window of whoever takes them is opened again; both windows are twice that
BULK = 4 * BURST  # bytes of a round
STROKES = 50  # echoes of a round
KEY = 64  # bytes of one
BUFFER = 1 << 18  # of every socket: the kernel would let them grow as it likes
PLACES = tuple(str(Path(module.__file__ or "").parent) + os.sep for module in (relay, asyncssh, cryptography))
PLACES += tuple(asyncio.__path__[0] + f"/{name}.py" for name in ("selector_events", "transports", "sslproto"))

NAMES = ("calls", "bytecodes", "system", "packets", "copies")
OF = {"down": "32 KiB down", "up": "32 KiB up", "stroke": "key stroke", "log-in": "log-in with a forward"}
MOST_TURNS = 200_000  # a run has some thousands
WARM = 4  # rounds before the first that counts: by then all of the reused memory has been touched

Figures = dict[str, float]


class Supervisor:
    """Stands for the supervisor: every row is durable at once."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def send(self, message: dict[str, Any], *, delay: float = 0.0) -> None:
        """Answer an opening row."""
        if message["t"] == "open":
            self._worker.loop.call_soon(self._worker.audit.opening_answered, message["e"][0], "")


class Stage:
    """A worker, and one client with one forward to one target. The worker runs only within `_turn`."""

    def __init__(self, directory: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._listener, self._targets = _listener(), _listener()
        self._key = Ed25519PrivateKey.generate()
        (directory / "run").mkdir()
        host_keys.ensure(directory)
        self._worker = self._wait(self._make_worker(directory))
        self._sent = 0  # packets of the relay
        self._turns = 0
        self.enter()

    def _wait(self, what: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(what)

    async def _make_worker(self, directory: Path) -> Worker:
        worker = Worker(directory, "w1")
        zone = Zone("here", (ip_network("127.0.0.0/8"),), "lo")
        rule = Rule("all", True, frozenset(), True, frozenset(), (("here", zone.networks[0]),), ((1, 65535),))
        worker.authorizer.policy = policy.build_policy(version="1", zones=[zone], hosts=[], groups={}, rules=[rule])
        blob = hostile.public_blob(self._key)
        key = Key(
            authorized_keys.fingerprint(blob), "ssh-ed25519", 256, "", blob, "alice", file="keys/alice.pub", line=1
        )
        worker.authorizer.keyring = Keyring({key.fingerprint: key})
        worker.audit.link = Supervisor(worker)  # type: ignore[assignment]  # `send` is all that is asked of it
        return worker

    def enter(self, count: Count | None = None) -> None:
        """Log in and open a forward, in a thread because the client waits for answers."""

        def visit() -> None:
            self.client = Client(self._listener.getsockname()[1]).login("alice", self._key)
            self._number, self._channel = self.client.open("127.0.0.1", self._targets.getsockname()[1])

        thread = threading.Thread(target=visit)
        thread.start()
        sock, (address, port) = self._listener.accept()
        conn = {"t": "conn", "c": f"c{port}", "source": address, "port": port}
        self._worker._handle(self._worker.audit.link, conn, sock.detach())  # type: ignore[arg-type]
        while thread.is_alive():
            self._turn(count, 0.001)
        self.target, _ = self._targets.accept()
        for end in (self.client.sock, self.target):
            end.setblocking(False)
        self._room = 1 << 21  # that the relay has for us
        self._owed = 0  # that we have taken from it and not said so

    def leave(self) -> None:
        """Disconnect the client."""
        self.client.sock.close()
        self.target.close()
        while self._worker.connections.by_id:
            self._turn(None, 0.001)

    def _turn(self, count: Count | None, wait: float = 0.0) -> None:
        """One turn of the worker's loop; with `wait` it lasts for so many seconds at most."""
        self._turns += 1
        if self._turns > MOST_TURNS:
            raise SystemExit("the worker does not move on")
        if wait:
            self._loop.call_later(wait, self._loop.stop)
        else:
            self._loop.call_soon(self._loop.stop)
        if count is None:
            self._loop.run_forever()
        else:
            with count:
                self._loop.run_forever()

    def up(self, count: Count | None, data: bytes) -> None:
        """`data` from the client to the target, in packets of 32 KiB as large as OpenSSH's."""
        waiting, come = b"", bytearray()
        pieces = [data[at : at + PACKET] for at in range(0, len(data), PACKET)]
        while len(come) < len(data) or self._room < BURST:
            while pieces and not waiting and self._room >= len(pieces[0]):
                piece = pieces.pop(0)
                self._room -= len(piece)
                waiting += self.client.frame(bytes([hostile.DATA]) + uint32(self._channel) + string(piece))
            waiting = waiting[_send(self.client.sock, waiting) :]
            if pieces and not waiting and self._room >= PACKET:
                continue
            self._turn(count)
            come += _receive(self.target)
            self._take()
        assert come == data

    def down(self, count: Count | None, data: bytes) -> None:
        """`data` from the target to the client, which opens the window again after each BURST."""
        waiting, come = data, bytearray()
        while len(come) < len(data):
            waiting = waiting[_send(self.target, waiting) :]
            self._turn(count)
            before = len(come)
            come += self._take()
            self._owed += len(come) - before
            if self._owed >= BURST:
                adjust = self.client.frame(bytes([hostile.WINDOW_ADJUST]) + uint32(self._channel, self._owed))
                assert _send(self.client.sock, adjust) == len(adjust)
                self._owed = 0
        self._turn(count)
        assert come == data

    def stroke(self, count: Count | None) -> None:
        """Send a key stroke and receive its echo."""
        self.up(count, bytes(KEY))
        self.down(count, bytes(KEY))

    def _take(self) -> bytes:
        """The data in all packets that the relay has sent."""
        client, found = self.client, bytearray()
        client._in += _receive(client.sock)
        while len(client._in) >= 4 and len(client._in) >= 20 + int.from_bytes(client._in[:4], "big"):
            packet = client.receive()
            self._sent += 1
            if packet[0] == hostile.DATA:
                found += packet[9:]
            elif packet[0] == hostile.WINDOW_ADJUST:
                self._room += int.from_bytes(packet[5:9], "big")
        return bytes(found)

    def measure(self, what: Callable[["Stage", Count], None], per: float, rounds: int, fresh: Fresh) -> Figures:
        """The least of the rounds divided by `per`; for copies the most, as free heap memory hides some."""
        found: dict[str, list[float]] = {name: [] for name in NAMES}
        for _ in range(WARM):  # what is made once is made now, and the kernel has found its window
            what(self, Count(PLACES))
        for _ in range(rounds):
            fresh.plug()
            count, sent = Count(PLACES), self._sent
            what(self, count)
            for name, value in (
                ("calls", count.calls),
                ("system", count.system),
                ("packets", self._sent - sent),
                ("copies", count.faults / fresh.copy),
            ):
                found[name].append(value / per)
            count = Count(PLACES, bytecodes=True)
            what(self, count)
            found["bytecodes"].append(count.bytecodes / per)
        return {name: round((max if name == "copies" else min)(values), 3) for name, values in found.items()}


def _listener() -> socket.socket:
    """A listener on 127.0.0.1."""
    return socket.create_server(("127.0.0.1", 0))


def _send(sock: socket.socket, data: bytes) -> int:
    with suppress(BlockingIOError):
        return sock.send(data) if data else 0
    return 0


def _receive(sock: socket.socket) -> bytes:
    found = []
    with suppress(BlockingIOError):
        while data := sock.recv(1 << 20):
            found.append(data)
    return b"".join(found)


def _log_in(stage: Stage, count: Count) -> None:
    stage.leave()
    stage.enter(count)


def _type(stage: Stage, count: Count) -> None:
    for _ in range(STROKES):
        stage.stroke(count)


def work(rounds: int = 5, what: Iterable[str] = OF) -> dict[str, Figures]:
    """All figures for these kinds of work."""
    fresh = Fresh()
    data = os.urandom(BULK)
    with tempfile.TemporaryDirectory() as directory:
        stage = Stage(Path(directory))
        ways: dict[str, tuple[Callable[[Stage, Count], None], float]] = {
            "down": (lambda one, count: one.down(count, data), BULK / PACKET),
            "up": (lambda one, count: one.up(count, data), BULK / PACKET),
            "stroke": (_type, STROKES),
            "log-in": (_log_in, 1),
        }
        found = {name: stage.measure(*ways[name], rounds, fresh) for name in what}
    for name, missing in (("stroke", ["copies"]), ("log-in", ["copies", "packets"])):  # too small; not looked at
        for one in missing:
            found.get(name, {}).pop(one, None)
    return found


class Socket(socket.socket):
    """A socket with buffers of fixed size: the kernel's choice depends on time."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        if self.family != socket.AF_UNIX and more.get("fileno") is None:
            for name in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                self.setsockopt(socket.SOL_SOCKET, name, BUFFER)


class CopyingSocket(Socket):
    """A socket that copies every byte once more, to show that the bounds would notice it."""

    def send(self, data: Any, flags: int = 0) -> int:
        """As socket.send."""
        return super().send(bytearray(data), flags)

    def sendmsg(self, buffers: Any, *rest: Any) -> int:
        """As socket.sendmsg."""
        return super().sendmsg([bytearray(one) for one in buffers], *rest)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one object, for programs")
    parser.add_argument(
        "--copying", action="store_true", help="with every byte copied once more: what a fault looks like"
    )
    options = parser.parse_args()
    read_pacing.CHECK_SECONDS = 60.0  # what is done by the clock would be counted too, and counting takes its time
    socket.socket = CopyingSocket if options.copying else Socket  # type: ignore[misc]
    what = ("down", "up") if options.copying else tuple(OF)
    found = work(options.rounds, what)
    if options.json:
        print(json.dumps(found))
        return
    print(f"| for each | {' | '.join(NAMES)} |\n|---|{'---|' * len(NAMES)}")
    for one in what:
        cells = (f"{found[one][name]:.4g}" if name in found[one] else "" for name in NAMES)
        print(f"| {OF[one]} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
