"""Forwards on which bytes flow all the time, watched at both ends: who got what, and when did it end?

Targets say something every TICK on each of their connections, and callers send it back, so that a forward that is
open is never silent in either direction. Each forward has a target of its own, known by its port, and each byte that
comes out of the relay is held against the audit database at once: is there an opening row?
"""

import contextlib
import os
import queue
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relay.core.audit import hash_chain
from relay.errors import StoreUnavailable
from relay.store.reader import AuditReader
from relay.store.writer import FILE
from tests.core import chain_check
from tests.relay_process import Relay
from tests.serve import hostile
from tests.serve.hostile import Client, Gone, strings, uint32

TICK = 0.05  # seconds between two words of a target
WORD = b"are you there? "


class Ledger:
    """The openings and closings in the audit database, read as they come. For several threads."""

    def __init__(self, state: Path) -> None:
        self._path = state / FILE
        self._lock = threading.Lock()
        self._seq = 0
        self.opened: dict[int, dict[str, Any]] = {}  # port -> row
        self.closed: dict[str, list[dict[str, Any]]] = {}  # forward -> rows

    def read(self) -> None:
        """Read on."""
        with self._lock, AuditReader(self._path) as reader:
            while rows := reader.after(self._seq, 1000):
                for row in rows:
                    self._seq = row.seq
                    fields = {**row.event.fields, "id": row.event.id}
                    if row.event.name == "forward.opened":
                        port = int(str(fields["port"]))
                        assert port not in self.opened, f"two openings of port {port}: {fields}"
                        self.opened[port] = fields
                    elif row.event.name == "forward.closed":
                        self.closed.setdefault(str(fields["forward"]), []).append(fields)

    def opening(self, port: int) -> dict[str, Any] | None:
        """The opening row of the forward to that port, if there is one by now."""
        if port not in self.opened:
            with contextlib.suppress(StoreUnavailable):
                self.read()
        return self.opened.get(port)

    def closings(self, port: int) -> list[dict[str, Any]]:
        """The closing rows of the forward to that port."""
        self.read()
        opening = self.opened.get(port)
        return self.closed.get(str(opening["forward"]), []) if opening is not None else []


@dataclass
class Books:
    """The whole audit database, read once more from its first row; openings held against closings."""

    rows: int = 0
    openings: int = 0
    reasons: Counter[str] = field(default_factory=Counter)  # of closings
    faults: list[str] = field(default_factory=list)  # what breaks the rules, the first hundred
    still_open: set[str] = field(default_factory=set)  # forwards without a closing row

    @classmethod
    def read(cls, state: Path) -> "Books":
        """Walk the chain, and hold openings against closings."""
        books, prev, seen = cls(), hash_chain.GENESIS, set[str]()
        with AuditReader(state / FILE) as reader:
            while rows := reader.after(books.rows, 2000):
                broken = chain_check.first_break(rows, prev, books.rows)
                if broken is not None:
                    books.faults.append(broken.what)
                    return books
                prev = rows[-1].hash
                books.rows = rows[-1].seq
                for row in rows:
                    forward = str(row.event.fields.get("forward"))
                    if row.event.name == "forward.opened":
                        books.openings += 1
                        if forward in seen:
                            books._fault(f"{forward} was opened twice")
                        seen.add(forward)
                        books.still_open.add(forward)
                    elif row.event.name == "forward.closed":
                        books.reasons[str(row.event.fields["reason"])] += 1
                        if forward not in books.still_open:
                            books._fault(f"{forward} was closed {'twice' if forward in seen else 'without an opening'}")
                        books.still_open.discard(forward)
        return books

    def _fault(self, what: str) -> None:
        if len(self.faults) < 100:
            self.faults.append(what)


class Flow:
    """One forward that was asked for, as both its ends see it. Times are time.monotonic()."""

    def __init__(self, caller: "Caller", listener: socket.socket | None, port: int) -> None:
        self.caller = caller
        self.listener = listener  # None: a target that never answers
        self.port = port
        self.asked = time.monotonic()
        self.answered = threading.Event()
        self.confirmed = False
        self.refusal = ""  # the relay's text
        self.over = threading.Event()  # it ended, at either end
        self.ended = 0.0
        self.last_at_target = 0.0
        self.last_at_caller = 0.0
        self.taken_by_target = 0  # bytes
        self.taken_by_caller = 0
        self.faults: list[str] = []

    def __repr__(self) -> str:
        return f"<forward to port {self.port} of {self.caller}>"

    def finish(self) -> None:
        """One of its ends is gone."""
        if not self.over.is_set():
            self.ended = time.monotonic()
            self.over.set()

    @property
    def last(self) -> float:
        """When a byte came out of the relay for the last time, at either end."""
        return max(self.last_at_target, self.last_at_caller)


class Targets:
    """The thread of all targets."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._todo: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._selector = selectors.DefaultSelector()
        self._wake, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        self._open: dict[socket.socket, Flow] = {}
        self._over = False
        self.lag = 0.0  # how much later than wished this thread had its turn, at worst: the machine is busy
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def add(self, flow: Flow) -> None:
        """Listen for it."""
        assert flow.listener is not None
        listener = flow.listener
        listener.setblocking(False)
        self._soon(lambda: self._selector.register(listener, selectors.EVENT_READ, flow) and None)

    def remove(self, flow: Flow) -> None:
        """It is no longer wanted."""
        self._soon(lambda: self._remove(flow))

    def close(self) -> None:
        """The end."""
        self._over = True
        self._wake.send(b".")
        self._thread.join()
        for key in tuple(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]  # sockets only
        self._selector.close()
        self._wake.close()

    def _soon(self, work: Callable[[], None]) -> None:
        self._todo.put(work)
        self._wake.send(b".")

    def _remove(self, flow: Flow) -> None:
        for key in tuple(self._selector.get_map().values()):
            if key.data is flow:
                self._end(key.fileobj)  # type: ignore[arg-type]  # sockets only

    def _end(self, sock: socket.socket) -> None:
        self._selector.unregister(sock)
        self._open.pop(sock, None)
        sock.close()

    def _run(self) -> None:
        due = time.monotonic() + TICK
        while not self._over:
            for key, _ in self._selector.select(max(due - time.monotonic(), 0)):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if key.data is None:
                    with contextlib.suppress(BlockingIOError):
                        sock.recv(1000)
                elif sock is key.data.listener:
                    self._accept(sock, key.data)
                else:
                    self._read(sock, key.data)
            while not self._todo.empty():
                self._todo.get()()
            now = time.monotonic()
            if now >= due:
                self.lag = max(self.lag, now - due)
                due = now + TICK
                for sock in tuple(self._open):
                    with contextlib.suppress(OSError):  # its end is seen by reading
                        sock.send(WORD)

    def _accept(self, listener: socket.socket, flow: Flow) -> None:
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        sock.setblocking(False)
        self._open[sock] = flow
        self._selector.register(sock, selectors.EVENT_READ, flow)

    def _read(self, sock: socket.socket, flow: Flow) -> None:
        try:
            data = sock.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end(sock)
            if flow.confirmed:
                flow.finish()
            return
        if not flow.taken_by_target and self._ledger.opening(flow.port) is None:
            flow.faults.append("its target got a byte before there was an opening row")
        flow.taken_by_target += len(data)
        flow.last_at_target = time.monotonic()


class Caller(Client):
    """A client whose packets are taken by a thread of its own once it has logged in."""

    def __init__(self, one: Relay, ledger: Ledger, person: str, key: hostile.Key) -> None:
        self._sending = threading.Lock()
        super().__init__(one.port)
        self._ledger = ledger
        self.person = person
        self.key = key
        self.local_port: int = self.sock.getsockname()[1]
        self.flows: dict[int, Flow] = {}  # our channel -> forward
        self._channels_there: dict[int, int] = {}
        self.gone_at = 0.0
        self.last_words = ""
        self.faults: list[str] = []
        self._has_service = False
        self._thread = threading.Thread(target=self._take, daemon=True)

    def __repr__(self) -> str:
        return f"{self.person} at {self.local_port}"

    def send(self, *payloads: bytes) -> None:
        """Send packets at once, one thread at a time."""
        with self._sending:
            super().send(*payloads)

    def offered(self) -> bool:
        """Offer the key, and no more; whether it is welcome."""
        self._request_service()
        return self.offer(self.person, hostile.public_blob(self.key))

    def _request_service(self) -> None:
        """Ask for ssh-userauth, once (RFC 4252 4): the relay takes no authentication request before."""
        if not self._has_service:
            self.service()
            self._has_service = True

    def enter(self) -> bool:
        """Prove the key; whether the relay let us in. From then on packets are taken as they come."""
        try:
            self._request_service()
            self.send(self.signed(self.person, self.key))
            answer = self.expect(hostile.USERAUTH_SUCCESS, hostile.USERAUTH_FAILURE)
        except Gone as end:
            self._ended(str(end))
            self.hang_up()
            return False
        if answer[0] != hostile.USERAUTH_SUCCESS:
            self.hang_up()
            return False
        self.sock.settimeout(None)
        self._thread.start()
        return True

    def ask_for(self, host: str, flow: Flow) -> None:
        """Ask for a forward; the answer will be found in `flow`."""
        number, packet = self.ask(host, flow.port)
        self.flows[number] = flow
        if self.gone_at:
            self._ended(self.last_words)
            return
        with contextlib.suppress(Gone, OSError):  # the other thread sees it too
            self.send(packet)

    def hang_up(self) -> None:
        """End it from our side."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        if self._thread.is_alive():
            self._thread.join(20)
        self.sock.close()
        self._ended(self.last_words)

    def _take(self) -> None:
        try:
            while True:
                self._packet(self.receive())
        except Gone as end:
            self._ended(str(end))
        except OSError as error:
            self._ended(repr(error))
        except Exception as error:
            self.faults.append(f"the relay said nonsense: {error!r}")
            self._ended(repr(error))

    def _packet(self, packet: bytes) -> None:
        if packet[0] not in (
            hostile.OPEN_CONFIRMATION,
            hostile.OPEN_FAILURE,
            hostile.DATA,
            hostile.EOF,
            hostile.CLOSE,
        ):
            return
        number = int.from_bytes(packet[1:5], "big")
        flow = self.flows[number]
        if packet[0] == hostile.OPEN_CONFIRMATION:
            if self._ledger.opening(flow.port) is None:
                flow.faults.append("it was confirmed before there was an opening row")
            self._channels_there[number] = int.from_bytes(packet[5:9], "big")
            flow.confirmed = True
            flow.last_at_caller = time.monotonic()
            flow.answered.set()
        elif packet[0] == hostile.OPEN_FAILURE:
            flow.refusal = strings(packet[9:])[0].decode()
            flow.finish()
            flow.answered.set()
        elif packet[0] == hostile.DATA:
            if not flow.confirmed:
                flow.faults.append("a byte came before it was confirmed")
            data = strings(packet[5:])[0]
            flow.taken_by_caller += len(data)
            flow.last_at_caller = time.monotonic()
            with contextlib.suppress(Gone):
                self.send(bytes([hostile.DATA]) + uint32(self._channels_there[number]) + packet[5:])
        else:
            flow.finish()

    def _ended(self, words: str) -> None:
        if not self.gone_at:
            self.gone_at, self.last_words = time.monotonic(), words
        for flow in tuple(self.flows.values()):
            if not flow.over.is_set():
                flow.refusal = flow.refusal or f"the connection ended: {words}"
                flow.finish()
            flow.answered.set()


def worker_of(pid: int) -> str:
    """The name of the worker with that process id, "" if it is none."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return ""
    at = words.index(b"relay.serve.worker") if b"relay.serve.worker" in words else -1
    return os.fsdecode(words[at + 2]) if at >= 0 else ""
