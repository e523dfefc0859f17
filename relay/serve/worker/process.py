"""The worker process: SSH, authorization, dialling and relaying for the connections that the supervisor hands over.

It imports everything before it says hello, and nothing after: it may live on for a day after an upgrade has replaced
its files. It starts no program, opens no listener, and writes no file but its own lock and spool.
"""

import asyncio
import contextlib
import encodings.idna
import fcntl
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from asyncssh.logging import SSHLogger
from asyncssh.packet import SSHPacketLogger

from relay import __version__
from relay.core.ids import Ids
from relay.errors import RelayError
from relay.serve import event_spool
from relay.serve.authorizer import Authorizer
from relay.serve.ipc import VERSION, IpcLink, Message
from relay.serve.ticker import Ticker
from relay.serve.worker import list_and_kill
from relay.serve.worker.audit_client import AuditClient
from relay.serve.worker.authentication import LOGIN_SECONDS, Authentication
from relay.serve.worker.connections import Connections
from relay.serve.worker.forward.context import WorkerContext
from relay.serve.worker.forward.forward import Forward
from relay.serve.worker.forward.read_pacing import ReadPacer
from relay.serve.worker.limit_share import LimitShare
from relay.serve.worker.offline_revocation import OfflineRevocation
from relay.serve.worker.reauthorization import Reauthorization
from relay.serve.worker.session import Session
from relay.serve.worker.ssh import asyncssh_contract
from relay.serve.worker.ssh.fastpath.to_client import ClientWriter
from relay.serve.worker.statistics import WorkerStatistics
from relay.serve.worker.zone_watch import ZoneWatch

RETRY_SECONDS = 0.2  # between attempts to reach a supervisor

assert encodings.idna  # imported for use after ready: codecs load on first use

_HAS_ROUTE_GUARD = sys.platform == "linux"  # elsewhere zones cannot be checked


class Worker:
    """One worker: its link to the supervisor, its connections, and the parts that these share."""

    def __init__(self, state: Path, name: str, first: socket.socket | None = None) -> None:
        """`first` leads to the supervisor that started this process; any later one is reached by its path.

        Raises RelayError where the installed asyncssh cannot serve clients.
        """
        asyncssh_contract.check_version()
        self.loop = asyncio.get_running_loop()
        self.audit = AuditClient(self._make_id, _now_us)
        self._reauthorization = Reauthorization(self._sessions, self.audit.report_bug)
        self.authorizer = Authorizer(self._reauthorization.check_now)
        self.zones = ZoneWatch(self._forwards, self.audit.report_bug, lambda: not self.connections.by_id)
        self.context = WorkerContext(
            worker=name,
            authorizer=self.authorizer,
            audit=self.audit,
            limits=LimitShare(),
            statistics=WorkerStatistics(),
            pacer=ReadPacer(),
            writer=ClientWriter(),
            owns_address=self.zones.owns,
            make_id=self._make_id,
            now_us=_now_us,
        )
        self._name = name
        self._state = state
        self._first = first
        self._offline = OfflineRevocation(self.authorizer, self.audit.report_bug)
        self._slot: int | None = None
        self._ids = Ids(os.getpid())
        self._draining = False
        self.connections = Connections(
            self.context, state, authenticated=self._authenticated, ended=self._connection_ended
        )
        # connections of which a supervisor heard before its welcome; whether they were authenticated then
        self._announced: dict[str, bool] = {}
        self._drain_timer: asyncio.TimerHandle | None = None  # set while it is a lost link that made us drain
        self._ticker = Ticker(lambda: bool(self.connections.by_id))
        self._over = asyncio.Event()
        self._link_lost = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()  # the loop itself keeps only weak references
        self._lock = _lock(state / "run" / f"{name}.lock")

    def _make_id(self) -> str:
        """A new id of this worker's slot."""
        return self._ids.make(_now_us())

    def _sessions(self) -> Iterator[Session]:
        return self.connections.sessions()

    def _forwards(self) -> Iterator[Forward]:
        return self.connections.forwards()

    # ---- the life of the process

    async def run(self) -> None:
        """Serve until there is nothing left to serve."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, self._stop, 5.0)
        context = self.context
        tasks = [
            asyncio.create_task(self._reauthorization.run(), name="reauthorization"),
            asyncio.create_task(
                context.statistics.run(self._is_watched, self.connections.recorded_forwards, self._send, self._ticker),
                name="statistics",
            ),
            asyncio.create_task(context.limits.report(self._send, self._ticker), name="limits"),
            asyncio.create_task(self._keep_link(), name="link"),
        ]
        if _HAS_ROUTE_GUARD:
            tasks.append(asyncio.create_task(self.zones.run(), name="zones"))
        await self._over.wait()
        for task in tasks:
            task.cancel()
        run = self._state / "run"
        with contextlib.suppress(OSError):  # a full disk: the next supervisor closes what is open, without its counters
            if self.audit.unacknowledged:
                event_spool.write(run / f"{self._name}{event_spool.SUFFIX}", self.audit.unacknowledged_events())
        with contextlib.suppress(OSError):
            (run / f"{self._name}.lock").unlink()

    def _stop(self, seconds: float) -> None:
        """End: open forwards have `seconds`, then they are ended with their closing rows."""
        self._draining = True
        self._drain_timer = None
        self.loop.call_later(seconds if self.connections.recorded_forwards() else 0, self._end_all)

    def _drained(self) -> None:
        """Draining has lasted long enough."""
        if self._draining:
            self._drain_timer = None
            self._end_all("drained", "this relay process is being replaced; please reconnect")

    def _end_all(self, reason: str = "server-stopped", text: str = "stopping") -> None:
        for connection in tuple(self.connections.by_id.values()):
            connection.end(reason, text)
        # closing rows are on their way; the supervisor acknowledges them
        self.loop.call_later(0.05, self._end_when_acknowledged, self.loop.time() + 5)

    def _end_when_acknowledged(self, deadline: float) -> None:
        if (self.audit.unacknowledged or self.connections.by_id) and self.loop.time() < deadline:
            self.loop.call_later(0.05, self._end_when_acknowledged, deadline)
        else:
            self._over.set()

    def _end_when_empty(self) -> None:
        if self._draining and not self.connections.by_id and not self.audit.unacknowledged:
            self._over.set()
        elif self._draining and not self.connections.by_id and self.audit.link is not None:
            self.loop.call_later(0.2, self._end_when_empty)

    # ---- the link to the supervisor

    async def _keep_link(self) -> None:
        """Keep a link to the supervisor that listens; without one, open forwards go on and new ones are refused."""
        while True:
            try:
                sock = await self._connect()
            except OSError:
                if self._slot is None:  # the supervisor that started us listened before, and is gone
                    self._over.set()
                    return
                self._end_when_empty()
                await self._offline.poll()
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._link_lost.clear()
            link = IpcLink(sock, self._received, lambda _: self._link_lost.set())
            self._say_hello(link)
            await self._link_lost.wait()
            self.audit.disconnected()
            if not self._draining:  # the next supervisor starts its own workers; this one serves what it has
                self._draining = True
                self._drain_timer = self.loop.call_later(self.authorizer.settings.limits.drain, self._drained)

    async def _connect(self) -> socket.socket:
        """A socket to a supervisor. Raises OSError when none listens."""
        if self._first is not None:
            sock, self._first = self._first, None
            return sock
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            await self.loop.sock_connect(sock, str(self._state / "run" / "workers.sock"))
        except BaseException:
            sock.close()
            raise
        return sock

    def _say_hello(self, link: IpcLink) -> None:
        hello = {"t": "hello", "v": VERSION, "release": __version__, "pid": os.getpid(), "name": self._name}
        link.send({**hello, "slot": self._slot, "can": list_and_kill.CAN, "slow": self.connections.fast_path_off})
        self._announced = {}
        for connection in self.connections.by_id.values():
            self._announced[connection.id] = isinstance(connection, Session)
            link.send(_have(connection))
        for forward in self.connections.recorded_forwards():
            link.send(forward.slot())
        link.send({"t": "joined"})

    def _received(self, link: IpcLink, message: Message, descriptor: int | None) -> None:
        try:
            self._handle(link, message, descriptor)
        except Exception as error:  # a supervisor of another version: this worker goes on with what it has
            if descriptor is not None:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
            self.audit.report_bug(error)

    def _handle(self, link: IpcLink, message: Message, descriptor: int | None) -> None:
        match message.get("t"):
            case "opened":
                self.audit.opening_answered(message["f"], "")
            case "busy":
                self.audit.opening_answered(message["f"], str(message["reason"]), str(message.get("limit", "")))
            case "ack":
                self.audit.acknowledged(message["ids"])
            case "welcome":
                self._welcomed(link, message)
            case "settings" | "policy" | "keys":
                if self.authorizer.load(message) and message["t"] == "settings":
                    self._settings_changed()
            case "conn" if descriptor is not None:
                if not self.connections.by_id:  # the first one: periodic work begins again
                    self.zones.begin()
                    self._ticker.wake()
                self.connections.serve(message, descriptor)
            case "conn":  # no descriptor was free to take it: the client is lost, its slot at the supervisor is not
                link.send({"t": "gone", "c": message["c"]})
            case "drop":
                connection = self.connections.by_id.get(message["c"])
                if connection is not None:
                    text = str(message.get("text", "the place is needed, please try again"))
                    connection.end(str(message["why"]), text)
            case "share":
                self.context.limits.rates.share({str(person): float(part) for person, part in message["parts"].items()})
            case "frozen":
                self.authorizer.freeze({str(key): int(until) for key, until in message["keys"].items()})
            case "drain":
                self._draining = True
                self.loop.call_later(float(message["seconds"]), self._drained)
                self._end_when_empty()
            case "stop":
                self._stop(float(message["seconds"]))
            case "handover":
                self.audit.expect_successor(float(message["seconds"]))
            case "list" | "kill":
                task = self.loop.create_task(self._answer(link, message), name=message["t"])
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            case "ping":
                link.send({"t": "pong", "n": message.get("n")})
            case _:
                pass  # of a newer supervisor

    def _welcomed(self, link: IpcLink, message: Message) -> None:
        self._take_slot(int(message["slot"]))
        site = message.get("site")
        self._offline.site = Path(str(site)) if site else None
        if message.get("ours") and self._drain_timer is not None:
            # only the link was lost: the supervisor that sends us clients is there again
            self._drain_timer.cancel()
            self._drain_timer = None
            self._draining = False
        # what became of connections between hello and welcome, when no link was known
        for number, was_authenticated in self._announced.items():
            connection = self.connections.by_id.get(number)
            if connection is None:
                link.send({"t": "gone", "c": number, "why": ""})
            elif isinstance(connection, Session) and not was_authenticated:
                link.send(_auth(connection))
        self._announced = {}
        self.audit.resend(link)
        self._ticker.wake()
        self._end_when_empty()

    def _take_slot(self, slot: int) -> None:
        """Make ids of that slot, and leave it in the lock for a supervisor that starts before we join it."""
        if slot != self._slot:
            self._slot, self._ids = slot, Ids(slot)
        with contextlib.suppress(OSError):  # a full disk: the next supervisor learns it a moment later
            os.pwrite(self._lock, f"slot {slot}\n".encode(), 0)

    def _settings_changed(self) -> None:
        self.audit.timeout = self.authorizer.settings.limits.row_timeout
        self.context.limits.change(self.authorizer.settings)
        self.connections.settings_changed()
        self._ticker.wake()

    async def _answer(self, link: IpcLink, message: Message) -> None:
        """Answer `list` or `kill`."""
        try:
            answer = list_and_kill.kill if message["t"] == "kill" else list_and_kill.listing
            await answer(link, message, self.connections.by_id, self.audit, self._name)
        except Exception as error:  # what is open goes on; the supervisor reports that this worker did not answer
            self.audit.report_bug(error)

    def _is_watched(self) -> bool:
        return bool(self.authorizer.settings.metrics) and self.audit.link is not None

    def _send(self, message: Message, *, delay: float = 0.0) -> None:
        if self.audit.link is not None:
            self.audit.link.send(message, delay=delay)

    # ---- connections

    def _authenticated(self, session: Session) -> None:
        """A client has proven a key: the supervisor counts it for the person from now on."""
        self._reauthorization.check_now()
        self._send(_auth(session), delay=LOGIN_SECONDS)

    def _connection_ended(self, connection: str, failure: str, exchanged: bool) -> None:
        """A connection is over; `failure`: its class, if it was not authenticated."""
        self._send({"t": "gone", "c": connection, "why": failure, "exchanged": exchanged})
        if self._draining:
            self._end_when_empty()


def _now_us() -> int:
    """UTC microseconds."""
    return time.time_ns() // 1000


def _auth(session: Session) -> Message:
    identity = session.identity
    return {"t": "auth", "c": session.id, "person": identity.person, "key": identity.fingerprint}


def _have(connection: Authentication | Session) -> Message:
    """What a new supervisor has to know of a connection."""
    identity = connection.identity if isinstance(connection, Session) else None
    return {
        "t": "have",
        "c": connection.id,
        "source": str(connection.client.source),
        "person": identity.person if identity is not None else "",
        "key": identity.fingerprint if identity is not None else "",
        "proven": identity is not None,
    }


def _lock(path: Path) -> int:
    """Hold a lock for as long as this process lives: it tells the next supervisor which workers are alive."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):  # a supervisor that starts removes locks that no process holds
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)


def _silence_asyncssh() -> None:
    """Let asyncssh compose no log: a line for each packet, which is never read, was a tenth of a log-in's time."""

    def nothing(*args: object, **kwargs: object) -> None:
        """Our own code records what matters."""

    SSHLogger.log = SSHPacketLogger._log_packet = nothing  # type: ignore[method-assign]  # in this process only


def main() -> None:
    """`python -m relay.serve.worker STATE NAME [DESCRIPTOR]`: started by the supervisor only."""
    _silence_asyncssh()
    gc.collect()
    gc.freeze()

    async def run() -> None:
        first = socket.socket(fileno=int(sys.argv[3])) if len(sys.argv) > 3 else None
        await Worker(Path(sys.argv[1]), sys.argv[2], first).run()

    try:
        asyncio.run(run())
    except RelayError as error:
        sys.exit(f"relay: {error.what}\n  {error.hint}")
