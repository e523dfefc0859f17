"""Who comes in, who waits, and to which worker does a client go? From accept(2) to the handed-over descriptor.

The bounds are in `admission`, what sources have earned in `penalties`; here are the listening sockets, and what is
done with each newcomer: let in now, made to wait its turn, or told why not. No byte of a client is read.
"""

import asyncio
import errno
import random
import select
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from relay.core.settings import Limits, Settings
from relay.core.token_bucket import TokenBucket
from relay.serve.supervisor.admission.bans import Bans
from relay.serve.supervisor.admission.early_disconnect import EarlyDisconnects
from relay.serve.supervisor.admission.preauth_slots import PreauthSlots
from relay.serve.supervisor.admission.queue import AdmissionQueue, QueuedSocket, SourceHistory
from relay.serve.supervisor.admission.queue_poll import AVAILABLE, QueuePoll
from relay.serve.supervisor.admission.source_penalties import counted_as
from relay.serve.supervisor.audit.audit_log import AuditLog
from relay.serve.supervisor.worker_pool import WorkerHandle, WorkerPool
from relay.serve.ticker import run_ticker

ACCEPTS = 16  # per turn of the loop and listener: a millisecond, in which nobody's opening row is answered
LINE_SECONDS = 0.5  # how often the line is looked at
IDLE_SECONDS = 10.0  # who has not proven a key by then gives way to one that waits; touching a key takes a while
SLOW_SECONDS = 5.0  # in which a client of a penalised source must offer a known key
SLOW_WAIT_SECONDS = 10.0  # how long one of a penalised source waits for its turn, before it is told
ENTRIES = 10  # per handshake: a connection that never begins one costs about a tenth of it
NO_ROOM_SECONDS = 0.5  # after running out of descriptors
NO_WORKER_SECONDS = 0.1  # while no worker of ours is ready


@dataclass(frozen=True, slots=True)
class PreauthConnection:
    """One connection that a worker has, and that has not proven a key."""

    address: str
    source: str
    member: str
    slow: bool


class Acceptor:
    """The listening sockets, the door behind them, and the line before it."""

    def __init__(self, crew: WorkerPool, record: AuditLog, settings: Callable[[], Settings]) -> None:
        self._loop = asyncio.get_running_loop()
        self._crew = crew
        self._record = record
        self._settings = settings
        self._door = PreauthSlots()
        self._line = AdmissionQueue(random.SystemRandom().randrange, self._standing)
        self._hearing = QueuePoll()
        self._visits: dict[str, PreauthConnection] = {}
        self._crowded_out: set[str] = set()  # had to go while they logged in: a crowd of others gets nobody penalised
        self._slow: dict[str, str] = {}  # penalised source -> its one connection
        self._handshakes = TokenBucket(0, 0)
        self._penalised = TokenBucket(0, 0)
        self._entries = TokenBucket(0, 0)
        self._farewells = EarlyDisconnects()
        self._moving: asyncio.TimerHandle | None = None
        self._closed = False
        self.bans = Bans(record, lambda: settings().penalties)
        self.let_in = 0
        self.turned_away = 0
        self.sockets: list[socket.socket] = []

    def open(self) -> None:
        """Begin to accept."""
        for sock in self.sockets:
            self._loop.add_reader(sock.fileno(), self._accept, sock)

    def stop(self) -> None:
        """Accept no more; who comes now waits in the listeners' backlog, and who waits in line comes in.

        Behind them is no supervisor to count them for a moment: they are no more than the line holds.
        """
        if not self._closed:
            self._closed = True
            for sock in self.sockets:
                self._loop.remove_reader(sock.fileno())
            now, limits = self._loop.time(), self._settings().limits
            while guest := self._line.next(lambda source: True):
                self._let_in(guest, limits, now)

    def close(self) -> None:
        """Accept no more, and let the listening sockets go."""
        self.stop()
        for sock in self.sockets:
            sock.close()
        self._hearing.close()
        for guest in self._line.clear():
            guest.sock.close()
        self._farewells.close()

    def readmit(self, connection: str, address: str, member: WorkerHandle) -> None:
        """One that a former supervisor let in has not proven its key yet: it is counted here now."""
        source = self._source(address)
        self._door.enter(connection, source, self._settings().limits, self._loop.time())
        self._visits[connection] = PreauthConnection(address, source, member.name, False)

    @property
    def waiting(self) -> int:
        """Connections that have not proven a key."""
        return len(self._door)

    # ---- what workers tell

    def proven(self, connection: str) -> None:
        """It has proven its key: its place is free, and its source in good standing."""
        visit = self._visits.get(connection)
        if visit is not None:
            self.bans.proven(visit.source)
            self._line.judge_again(visit.source)
        self._leave(connection)

    def gone(self, connection: str, why: str, *, exchanged: bool = True) -> None:
        """It has ended; `why` is how, if it proved no key ("" when that is not to be held against its source).

        `exchanged`: whether it began a key exchange. If not, its handshake is another one's: silence costs little.
        """
        visit = self._visits.get(connection)
        if visit is not None and not exchanged:
            self._handshakes.take(self._loop.time(), -1)
        if visit is not None and why and not (exchanged and connection in self._crowded_out):
            self.bans.failed(visit.address, visit.source, why)
            self._line.judge_again(visit.source)
        self._leave(connection)

    def lost(self, member: WorkerHandle) -> None:
        """A worker is gone with those it was to let in."""
        for connection, visit in tuple(self._visits.items()):
            if visit.member == member.name:
                self._leave(connection)

    def _leave(self, connection: str) -> None:
        visit = self._visits.pop(connection, None)
        self._crowded_out.discard(connection)
        self._door.leave(connection)
        if visit is not None and visit.slow and self._slow.get(visit.source) == connection:
            del self._slow[visit.source]
        if len(self._line):
            self._move_line()

    # ---- newcomers

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS):
            if self._crew.least_loaded() is None:  # all are being replaced: who comes waits in the listener's backlog
                self._pause(listener, NO_WORKER_SECONDS)
                break
            try:
                sock, peer = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                break
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._pause(listener, NO_ROOM_SECONDS)
                break
            address = str(peer[0]).split("%", maxsplit=1)[0]
            guest = QueuedSocket(sock, address, int(peer[1]), self._loop.time(), spoke=not AVAILABLE)
            guest.source = self._source(guest.address)
            if not self._walks_in(guest):
                self._welcome(guest)
        self._move_line()

    def _walks_in(self, guest: QueuedSocket) -> bool:
        """Where nobody waits and there is room the line would give it back at once."""
        limits, now = self._settings().limits, guest.since
        if len(self._line) or self._closed or self._wait(limits, now) or not self._may(guest.source, limits, now):
            return False
        if _gone([guest]):
            self._lost_patience(guest)
        else:
            self._let_in(guest, limits, now)
        return True

    def _wait(self, limits: Limits, now: float) -> float:
        """Seconds until there may be one more handshake."""
        self._handshakes.change(now, limits.handshakes, limits.handshakes)
        self._penalised.change(now, limits.handshakes_penalised, limits.handshakes_penalised)
        self._entries.change(now, ENTRIES * limits.handshakes, ENTRIES * limits.handshakes)
        return max(self._handshakes.wait(now), self._entries.wait(now))

    def _pause(self, listener: socket.socket, seconds: float) -> None:
        self._loop.remove_reader(listener.fileno())
        self._loop.call_later(seconds, self._resume, listener)

    def _resume(self, listener: socket.socket) -> None:
        if not self._closed:
            self._loop.add_reader(listener.fileno(), self._accept, listener)

    def _welcome(self, guest: QueuedSocket) -> None:
        out = self._line.join(guest, self._settings().limits)
        if out is not guest and not guest.spoke:
            self._hearing.listen(guest)
        if out is not None:
            self._turn_away(out, "line-full" if out.source != guest.source else "source-full")

    def _source(self, address: str) -> str:
        return counted_as(address, self._settings().penalties.exempt)

    def _standing(self, source: str) -> SourceHistory:
        if self.bans.remaining(source):
            return SourceHistory.PENALISED
        if self.bans.lately(source):
            return SourceHistory.PROVEN
        return SourceHistory.FAILED if self.bans.failed_lately(source) else SourceHistory.PLAIN

    def _turn_away(self, guest: QueuedSocket, kind: str) -> None:
        """Close it, counted, and told why where there is room for that."""
        self._hearing.forget(guest)
        self.turned_away += 1
        left = self.bans.remaining(guest.source)
        number = self._record.make_id()
        text = f"relay: too many connections wait here, please try again (id {number})"
        if left:
            kind = "banned"
            self.bans.refused(guest.source)
            text = f"relay: too many failed log-ins from your address, retry in {left:.0f} s (id {number})"
        elif kind == "source-full":
            text = f"relay: too many connections of your address wait here, please try again (id {number})"
        self._record.stranger(kind, guest.address, guest.port, number=number)
        self._farewells.say(guest.sock, guest.source, text)

    # ---- the line

    def _move_line(self) -> None:
        """Let in who waits, has room and is next, as many as there may be handshakes now."""
        if self._closed:
            return
        if self._moving is not None:
            self._moving.cancel()
            self._moving = None
        for guest in self._hearing.heard():
            self._line.spoke(guest)
        while len(self._line):
            limits, now = self._settings().limits, self._loop.time()
            wait = self._wait(limits, now)
            if wait:
                self._moving = self._loop.call_later(wait, self._move_line)
                return
            if self._crew.least_loaded() is None:
                self._moving = self._loop.call_later(NO_WORKER_SECONDS, self._move_line)
                return
            first = self._line.next(lambda source: self._may(source, limits, now))  # noqa: B023 - called at once
            if first is None:
                return  # whoever leaves, and the look at the line twice a second, moves it on
            if _gone([first]):
                self._lost_patience(first)
            else:
                self._let_in(first, limits, now)

    def _may(self, source: str, limits: Limits, now: float) -> bool:
        if not self._door.room(source, limits):
            return False
        return not self.bans.remaining(source) or (source not in self._slow and not self._penalised.wait(now))

    def _lost_patience(self, guest: QueuedSocket) -> None:
        """The client has gone while it waited."""
        self._hearing.forget(guest)
        guest.sock.close()
        self._record.stranger("no-key", guest.address, guest.port)
        self.bans.failed(guest.address, guest.source, "silent")

    def _let_in(self, guest: QueuedSocket, limits: Limits, now: float) -> None:
        self._hearing.forget(guest)
        member = self._crew.least_loaded()
        if member is None:  # only at a hand-over: all workers are being replaced, the client tries again
            guest.sock.close()
            return
        slow = bool(self.bans.remaining(guest.source))
        self._handshakes.take(now)
        self._entries.take(now)
        if slow:
            self._penalised.take(now)
        number = self._record.make_id()
        _, evicted = self._door.enter(number, guest.source, limits, now)
        if evicted is not None and not self._closed:
            self._crowded_out.add(evicted)
            self._drop(evicted)
        member.connections.add(number)
        message: dict[str, Any] = {"t": "conn", "c": number, "source": guest.address, "port": guest.port, "fd": True}
        if slow:
            message["slow"] = SLOW_SECONDS
            self._slow[guest.source] = number
        self._visits[number] = PreauthConnection(guest.address, guest.source, member.name, slow)
        self.let_in += 1
        with guest.sock:
            try:
                member.link.send(message, guest.sock.fileno())
            except OSError:  # no descriptor left for the copy that travels: the place at the door is free again
                self._visits.pop(number)
                self._slow.pop(guest.source, None)
                self._door.leave(number)
                member.connections.discard(number)

    def _drop(self, connection: str) -> None:
        for member in self._crew.members.values():
            if connection in member.connections:
                member.link.send({"t": "drop", "c": connection, "why": "place-needed"})

    async def watch_line(self) -> None:
        """Who waits for a place that nobody leaves gets that of the idlest of its source, or is sent away at last."""
        while True:
            await run_ticker(LINE_SECONDS if len(self._line) else 2 * LINE_SECONDS)
            now, limits = self._loop.time(), self._settings().limits
            self.bans.lapse()
            if not len(self._line):
                continue
            for source in self._line.sources():
                self._line.judge_again(source)
            for guest in self._line.late(lambda source: self._edge(source, limits, now)):  # noqa: B023 - called at once
                self._turn_away(guest, "source-full")
            for guest in _gone(self._line.guests()):
                self._line.remove(guest)
                self._lost_patience(guest)
            for source in self._line.sources():
                if not self._door.room(source, limits):
                    idler = self._door.idler(source, limits, now - IDLE_SECONDS)
                    if idler is not None:
                        self._drop(idler)
                        self._door.leave(idler)
            self._move_line()

    def _edge(self, source: str, limits: Limits, now: float) -> float:
        return now - (SLOW_WAIT_SECONDS if self.bans.remaining(source) else limits.login_grace)

    # ---- what it looks like

    def figures(self) -> dict[str, int]:
        """How many there are of what, for `status` and metrics."""
        return {
            "before_login": len(self._door),
            "line": len(self._line),
            "line_sources": sum(1 for _ in self._line.sources()),
            "penalised_inside": len(self._slow),
            "bans": self.bans.count(),
            "let_in": self.let_in,
            "turned_away": self.turned_away,
            "told": self._farewells.told,
        }

    def use(self) -> list[tuple[str, float, float, str]]:
        """How much of each limit is used: its name, the use, the limit, and who uses most."""
        limits, now = self._settings().limits, self._loop.time()
        source, network = self._door.fullest()
        self._handshakes.wait(now), self._penalised.wait(now)
        return [
            ("unauthenticated", len(self._door), limits.unauthenticated, ""),
            ("unauthenticated_per_source", source[1], limits.unauthenticated_per_source, source[0]),
            ("unauthenticated_per_network", network[1], limits.unauthenticated_per_network, network[0]),
            ("handshakes", _used(self._handshakes), limits.handshakes, ""),
            ("handshakes_penalised", _used(self._penalised), limits.handshakes_penalised, ""),
        ]

    def waiting_of(self, source: str) -> int:
        """How many connections of a source wait in line."""
        return self._line.waiting(source)

    def memory(self) -> dict[str, Any]:
        """What a successor is to know of the sources, as plain JSON."""
        return self.bans.memory()

    def remember(self, memory: Mapping[str, Any], ago: float) -> None:
        """What a predecessor knew so many seconds ago; nonsense is passed over."""
        self.bans.remember(memory, ago)


def _used(bucket: TokenBucket) -> int:
    return max(round(bucket.burst - bucket.level), 0)


def _gone(guests: Iterable[QueuedSocket]) -> list[QueuedSocket]:
    """Those whose client has closed its side; asked of the kernel without reading (poll(2), POLLRDHUP)."""
    if not hasattr(select, "POLLRDHUP"):
        return []  # not Linux: a worker finds out
    asked = {guest.sock.fileno(): guest for guest in guests}
    poll = select.poll()
    for descriptor in asked:
        poll.register(descriptor, select.POLLRDHUP)
    return [asked[descriptor] for descriptor, _ in poll.poll(0)]
