"""Accepts TCP connections and passes each descriptor to a worker, at once or after a wait in the queue.

From accept(2) to the passed descriptor no byte of a client is read. `preauth_slots` counts the unauthenticated
connections, `queue` orders the sockets that wait, `bans` knows the penalised sources, `early_disconnect` tells a client
why it is not served.
"""

import asyncio
import errno
import select
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from relay.core.settings import Limits, Settings
from relay.core.token_bucket import TokenBucket
from relay.serve.supervisor.admission.bans import Bans
from relay.serve.supervisor.admission.early_disconnect import EarlyDisconnects
from relay.serve.supervisor.admission.preauth_slots import PreauthSlots
from relay.serve.supervisor.admission.queue import AdmissionQueue, QueuedSocket, SourceHistory
from relay.serve.supervisor.admission.source_penalties import counted_as
from relay.serve.supervisor.audit.audit_log import AuditLog
from relay.serve.supervisor.worker_pool import WorkerHandle, WorkerPool
from relay.serve.ticker import run_ticker

ACCEPTS = 16  # per turn of the loop and listener: about a millisecond, in which no opening row is answered
QUEUE_SECONDS = 0.5  # between two checks of the queue
IDLE_SECONDS = 10.0  # after which an unauthenticated connection may lose its slot: touching a key takes a while
PENALISED_LOGIN_SECONDS = 5.0  # in which a client of a penalised source must offer a known key
PENALISED_WAIT_SECONDS = 10.0  # how long a socket of a penalised source is queued before it is refused
NO_DESCRIPTOR_SECONDS = 0.5  # without accepting, after running out of descriptors
NO_WORKER_SECONDS = 0.1  # without accepting, while no worker is ready


@dataclass(frozen=True, slots=True)
class PreauthConnection:
    """One connection that a worker has and that has not proven a key."""

    address: str
    source: str
    worker: str


class Acceptor:
    """The listening sockets, the queue, and the connections that have not proven a key."""

    def __init__(self, workers: WorkerPool, audit: AuditLog, settings: Callable[[], Settings]) -> None:
        self._loop = asyncio.get_running_loop()
        self._workers = workers
        self._audit = audit
        self._settings = settings
        self.bans = Bans(audit, lambda: settings().penalties)
        self._slots = PreauthSlots()
        self._queue = AdmissionQueue(self._history, lambda source: bool(self.bans.remaining(source)))
        self._connections: dict[str, PreauthConnection] = {}
        self._evicted: set[str] = set()  # connections that were ended to make room for others
        self._penalised: dict[str, str] = {}  # penalised source -> the one connection that it may have
        self._handshakes = TokenBucket(0, 0)
        self._penalised_handshakes = TokenBucket(0, 0)
        self._disconnects = EarlyDisconnects()
        self._next_admission: asyncio.TimerHandle | None = None
        self._closed = False
        self.let_in = 0
        self.turned_away = 0
        self.sockets: list[socket.socket] = []

    def open(self) -> None:
        """Begin to accept."""
        for listener in self.sockets:
            self._loop.add_reader(listener.fileno(), self._accept, listener)

    def stop(self) -> None:
        """Accept no more. New connections wait in the listeners' backlog; queued sockets go to the workers.

        For a moment no supervisor counts those; they are no more than the queue holds.
        """
        if self._closed:
            return
        self._closed = True
        for listener in self.sockets:
            self._loop.remove_reader(listener.fileno())
        while queued := self._queue.next(lambda source: True):
            self._pass_to_worker(queued)

    def close(self) -> None:
        """Accept no more, and close the listening sockets."""
        self.stop()
        for listener in self.sockets:
            listener.close()
        for queued in self._queue.clear():
            queued.sock.close()
        self._disconnects.close()

    def readmit(self, connection: str, address: str, worker: WorkerHandle) -> None:
        """Count a connection that an earlier supervisor passed to a worker and that has not proven its key yet."""
        source = self._source(address)
        self._slots.enter(connection, source, self._settings().limits, self._loop.time())
        self._connections[connection] = PreauthConnection(address, source, worker.name)

    @property
    def waiting(self) -> int:
        """Connections that have not proven a key."""
        return len(self._slots)

    # ---- reports of workers

    def proven(self, connection: str) -> None:
        """The connection has proven its key: its slot is free, and its source is in good standing."""
        if (known := self._connections.get(connection)) is not None:
            self.bans.proven(known.source)
        self._free(connection)

    def gone(self, connection: str, why: str, *, exchanged: bool = True) -> None:
        """The connection has ended without a proven key; `why` is the class of its failure, "" if it had none.

        An eviction is not held against a source whose client had begun its key exchange (`exchanged`).
        """
        known = self._connections.get(connection)
        if known is not None and why and not (exchanged and connection in self._evicted):
            self.bans.failed(known.address, known.source, why)
        self._free(connection)

    def lost(self, worker: WorkerHandle) -> None:
        """The worker has ended, and with it its unauthenticated connections."""
        for connection, known in tuple(self._connections.items()):
            if known.worker == worker.name:
                self._free(connection)

    def _free(self, connection: str) -> None:
        known = self._connections.pop(connection, None)
        self._evicted.discard(connection)
        self._slots.leave(connection)
        if known is not None and self._penalised.get(known.source) == connection:
            del self._penalised[known.source]
        self._admit()

    # ---- accepting

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS):
            if self._workers.least_loaded() is None:  # all are being replaced: connections wait in the backlog
                self._pause(listener, NO_WORKER_SECONDS)
                break
            try:
                sock, peer = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                break
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._pause(listener, NO_DESCRIPTOR_SECONDS)
                break
            address = str(peer[0]).split("%", maxsplit=1)[0]
            newcomer = QueuedSocket(sock, address, int(peer[1]), self._source(address), self._loop.time())
            evicted = self._queue.join(newcomer, self._settings().limits)
            if evicted is not None:
                self._refuse(evicted, "line-full" if evicted.source != newcomer.source else "source-full")
        self._admit()

    def _pause(self, listener: socket.socket, seconds: float) -> None:
        self._loop.remove_reader(listener.fileno())
        self._loop.call_later(seconds, self._resume, listener)

    def _resume(self, listener: socket.socket) -> None:
        if not self._closed:
            self._loop.add_reader(listener.fileno(), self._accept, listener)

    def _history(self, source: str) -> SourceHistory:
        if self.bans.recently_proven(source):
            return SourceHistory.PROVEN
        return SourceHistory.FAILED if self.bans.recently_failed(source) else SourceHistory.NEW

    def _source(self, address: str) -> str:
        return counted_as(address, self._settings().penalties.exempt)

    def _refuse(self, queued: QueuedSocket, kind: str) -> None:
        """Close the socket, counted, and tell the client why where there is room for that."""
        self.turned_away += 1
        left = self.bans.remaining(queued.source)
        number = self._audit.make_id()
        text = f"relay: too many connections are waiting, please try again (id {number})"
        if left:
            kind = "banned"
            self.bans.refused(queued.source)
            text = f"relay: too many failed log-ins from your address, retry in {left:.0f} s (id {number})"
        elif kind == "source-full":
            text = f"relay: too many connections from your address are waiting, please try again (id {number})"
        self._audit.stranger(kind, queued.address, queued.port, number=number)
        self._disconnects.send(queued.sock, queued.source, text)

    # ---- the queue

    def _admit(self) -> None:
        """Pass queued sockets to workers, as many as slots and the rate of handshakes allow now."""
        if self._next_admission is not None:
            self._next_admission.cancel()
            self._next_admission = None
        while len(self._queue) and not self._closed:
            limits, now = self._settings().limits, self._loop.time()
            self._handshakes.change(now, limits.handshakes, limits.handshakes)
            self._penalised_handshakes.change(now, limits.handshakes_penalised, limits.handshakes_penalised)
            wait = self._handshakes.wait(now)
            if self._workers.least_loaded() is None:
                wait = NO_WORKER_SECONDS
            if wait:
                self._next_admission = self._loop.call_later(wait, self._admit)
                return
            queued = self._queue.next(lambda source: self._may_enter(source, limits, now))  # noqa: B023 - called at once
            if queued is None:
                return  # a freed slot and the periodic check of the queue call this again
            if _closed_by_client([queued]):
                self._left(queued)
            else:
                self._pass_to_worker(queued)

    def _may_enter(self, source: str, limits: Limits, now: float) -> bool:
        """Whether the source has a free slot; a penalised one may have one connection at a time, at a lower rate."""
        if not self._slots.room(source, limits):
            return False
        if not self.bans.remaining(source):
            return True
        return source not in self._penalised and not self._penalised_handshakes.wait(now)

    def _left(self, queued: QueuedSocket) -> None:
        """The client has closed the connection while it was queued."""
        queued.sock.close()
        self._audit.stranger("no-key", queued.address, queued.port)
        self.bans.failed(queued.address, queued.source, "silent")

    def _pass_to_worker(self, queued: QueuedSocket) -> None:
        worker = self._workers.least_loaded()
        if worker is None:  # only while the supervisor stops: the client tries again
            queued.sock.close()
            return
        limits, now = self._settings().limits, self._loop.time()
        penalised = bool(self.bans.remaining(queued.source))
        self._handshakes.take(now)
        connection = self._audit.make_id()
        _, evicted = self._slots.enter(connection, queued.source, limits, now)
        if evicted is not None and not self._closed:
            self._evicted.add(evicted)
            self._drop(evicted)
        worker.connections.add(connection)
        message: dict[str, Any] = {
            "t": "conn",
            "c": connection,
            "source": queued.address,
            "port": queued.port,
            "fd": True,
        }
        if penalised:
            self._penalised_handshakes.take(now)
            self._penalised[queued.source] = connection
            message["slow"] = PENALISED_LOGIN_SECONDS
        self._connections[connection] = PreauthConnection(queued.address, queued.source, worker.name)
        self.let_in += 1
        with queued.sock:
            try:
                worker.link.send(message, queued.sock.fileno())
            except OSError:  # no descriptor for the copy that is passed: the slot is free again
                del self._connections[connection]
                self._penalised.pop(queued.source, None)
                self._slots.leave(connection)
                worker.connections.discard(connection)

    def _drop(self, connection: str) -> None:
        for worker in self._workers.members.values():
            if connection in worker.connections:
                worker.link.send({"t": "drop", "c": connection, "why": "place-needed"})

    async def watch_queue(self) -> None:
        """Periodically refuse sockets that were queued too long, and end idle connections whose slots are needed."""
        while True:
            await run_ticker(QUEUE_SECONDS if len(self._queue) else 2 * QUEUE_SECONDS)
            now, limits = self._loop.time(), self._settings().limits
            self.bans.lapse()
            for queued in self._queue.late(lambda source: self._deadline(source, limits, now)):  # noqa: B023 - called at once
                self._refuse(queued, "source-full")
            for queued in _closed_by_client(self._queue.sockets()):
                self._queue.remove(queued)
                self._left(queued)
            for source in self._queue.sources():
                if not self._slots.room(source, limits):
                    idle = self._slots.idle_connection(source, limits, now - IDLE_SECONDS)
                    if idle is not None:
                        self._drop(idle)
                        self._slots.leave(idle)
            self._admit()

    def _deadline(self, source: str, limits: Limits, now: float) -> float:
        """Sockets of this source that were accepted before this time have been queued too long."""
        return now - (PENALISED_WAIT_SECONDS if self.bans.remaining(source) else limits.login_grace)

    # ---- figures

    def figures(self) -> dict[str, int]:
        """Counts for `status` and metrics."""
        return {
            "before_login": len(self._slots),
            "line": len(self._queue),
            "line_sources": sum(1 for _ in self._queue.sources()),
            "penalised_inside": len(self._penalised),
            "bans": self.bans.count(),
            "let_in": self.let_in,
            "turned_away": self.turned_away,
            "told": self._disconnects.sent,
        }

    def use(self) -> list[tuple[str, float, float, str]]:
        """How much of each limit is used: its name, the use, the limit, and the source or network that uses most."""
        limits, now = self._settings().limits, self._loop.time()
        source, network = self._slots.fullest()
        return [
            ("unauthenticated", len(self._slots), limits.unauthenticated, ""),
            ("unauthenticated_per_source", source[1], limits.unauthenticated_per_source, source[0]),
            ("unauthenticated_per_network", network[1], limits.unauthenticated_per_network, network[0]),
            ("handshakes", _used(self._handshakes, now), limits.handshakes, ""),
            ("handshakes_penalised", _used(self._penalised_handshakes, now), limits.handshakes_penalised, ""),
        ]


def _used(bucket: TokenBucket, now: float) -> int:
    bucket.wait(now)  # brings the level up to date
    return max(round(bucket.burst - bucket.level), 0)


def _closed_by_client(sockets: Iterable[QueuedSocket]) -> list[QueuedSocket]:
    """The sockets whose client has closed its side; the kernel tells without a read (poll(2), POLLRDHUP)."""
    if not hasattr(select, "POLLRDHUP"):
        return []  # not Linux: a worker finds out
    by_descriptor = {queued.sock.fileno(): queued for queued in sockets}
    poll = select.poll()
    for descriptor in by_descriptor:
        poll.register(descriptor, select.POLLRDHUP)
    return [by_descriptor[descriptor] for descriptor, _ in poll.poll(0)]
