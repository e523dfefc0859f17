"""The worker process: SSH, judging, dialling and relaying for the connections that the supervisor hands over.

It imports everything it needs before it says hello, and nothing after: it may live on for a day after an upgrade
has replaced its files. It starts no program, opens no listener, and writes no file but its own lock.
"""

from relay.serve import import_stubs

if __name__ == "__main__":  # not where a test imports this
    import_stubs.leave_out()

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
from typing import Any, cast

import asyncssh
from asyncssh.logging import SSHLogger
from asyncssh.packet import SSHPacketLogger

from relay import __version__
from relay.core.ids import Ids
from relay.core.policy.model import Identity
from relay.errors import RelayError
from relay.serve import event_spool, ssh_algorithms
from relay.serve.authorizer import Authorizer
from relay.serve.ipc import VERSION, IpcLink, Message
from relay.serve.ticker import Ticker
from relay.serve.worker import session_listing
from relay.serve.worker.audit_client import AuditClient
from relay.serve.worker.forward.forward import Forward
from relay.serve.worker.forward.read_pacing import PacedSocket, ReadPacer
from relay.serve.worker.limit_share import LimitShare
from relay.serve.worker.offline_revocation import OfflineRevocation
from relay.serve.worker.preauth_scheduler import PreauthScheduler
from relay.serve.worker.reauthorization import Reauthorization
from relay.serve.worker.session import LOGIN_SECONDS, Adapter
from relay.serve.worker.ssh import asyncssh_contract
from relay.serve.worker.ssh.connection import Connection
from relay.serve.worker.ssh.fastpath.from_client import ClientReader
from relay.serve.worker.ssh.fastpath.to_client import ClientWriter
from relay.serve.worker.statistics import WorkerStatistics
from relay.serve.worker.zone_watch import ZoneWatch
from relay.store import host_keys

RETRY_SECONDS = 0.2  # between attempts to reach a supervisor
VERSION_LINE = "relay"  # in SSH-2.0-...: what it is, not which version

assert encodings.idna  # imported for use after ready: codecs load on first use


class Worker:
    """One worker. Its parts: `law` says what is allowed, `reports` what is recorded, adapters serve the clients."""

    def __init__(self, state: Path, name: str, first: socket.socket | None = None) -> None:
        """`first` leads to the supervisor that started us; any later one is reached by its path.

        Raises RelayError where the installed asyncssh is none that a client can be served by.
        """
        asyncssh_contract.demand()
        self.loop = asyncio.get_running_loop()
        self.name = name
        self.figures = WorkerStatistics()
        self.reports = AuditClient(self.make_id, self.now_us)
        self.connections: dict[str, Adapter] = {}
        self.forwards: dict[str, Forward] = {}
        self._judging = Reauthorization(self.connections.values, self.bug)
        self.law = Authorizer(self._judging.look_now)
        self.zones = ZoneWatch(self._held, self.bug, lambda: not self.connections)
        self._state = state
        self._first = first
        self._alone = OfflineRevocation(self.law, self.bug)
        self._slot: int | None = None
        self._ids = Ids(os.getpid())
        self._options: asyncssh.SSHServerConnectionOptions | None = None
        self._draining = False
        self.portion = LimitShare()
        self.frame = ClientWriter()
        self.patience = ReadPacer()
        self._intake = ClientReader()
        self._slow = asyncssh_contract.problem()  # why nothing goes the fast path
        self.lobby = PreauthScheduler(time.monotonic, self.loop.call_soon)
        self._told: dict[str, bool] = {}  # connections that a supervisor heard of before its welcome; whether proven
        self._drain_end: asyncio.TimerHandle | None = None  # set while it is a lost link that made us drain
        self._beat = Ticker(lambda: bool(self.connections))
        self._over = asyncio.Event()
        self._link_lost = asyncio.Event()
        self._lock = _lock(state / "run" / f"{name}.lock")

    # ---- clocks and ids

    def now_us(self) -> int:
        """UTC microseconds."""
        return time.time_ns() // 1000

    def now(self) -> int:
        """Unix seconds."""
        return int(time.time())

    def make_id(self) -> str:
        """A new id of this worker's slot."""
        return self._ids.make(self.now_us())

    def bug(self, error: BaseException) -> None:
        """Write an exception of ours down."""
        self.reports.report_bug(error)

    # ---- the life of the process

    async def run(self) -> None:
        """Serve until there is nothing left to serve."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, self._stop, 5.0)
        judging = asyncio.create_task(self._judging.run(), name="judge again")
        looking = asyncio.create_task(self.zones.run(), name="look at the zones") if _GUARDED else None
        counting = asyncio.create_task(
            self.figures.run(self._watched, self.forwards.values, self._tell, self._beat), name="tell the figures"
        )
        talking = asyncio.create_task(self._talk(), name="talk to the supervisor")
        using = asyncio.create_task(self.portion.tell(self._tell, self._beat), name="tell what is in use")
        await self._over.wait()
        using.cancel()
        talking.cancel()
        counting.cancel()
        judging.cancel()
        if looking is not None:
            looking.cancel()
        run = self._state / "run"
        with contextlib.suppress(OSError):  # a full disk: the next supervisor closes what is open, without its counters
            if self.reports.unacknowledged:
                event_spool.leave(run / f"{self.name}{event_spool.SUFFIX}", self.reports.unacknowledged_events())
        with contextlib.suppress(OSError):
            (run / f"{self.name}.lock").unlink()

    async def _talk(self) -> None:
        """Keep a link to whichever supervisor listens; without one, open forwards go on and new ones are refused."""
        while True:
            try:
                sock = await self._connect()
            except OSError:
                if self._slot is None:  # the supervisor that started us listened before, and is gone
                    self._over.set()
                    return
                self._end_when_empty()
                await self._alone.look()
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._link_lost.clear()
            link = IpcLink(sock, self._received, self._lost)
            hello = {"t": "hello", "v": VERSION, "release": __version__, "pid": os.getpid(), "name": self.name}
            link.send({**hello, "slot": self._slot, "can": session_listing.CAN, "slow": self._slow})
            self._told = {}
            for adapter in self.connections.values():
                self._told[adapter.id] = adapter.identity is not None
                link.send(_have(adapter))
            for forward in self.forwards.values():
                link.send({"t": "holding", **forward.slot()})
            link.send({"t": "joined"})
            await self._link_lost.wait()
            self.reports.disconnected()
            if not self._draining:  # the next supervisor starts its own workers; this one serves what it has
                self._draining = True
                self._drain_end = self.loop.call_later(self.law.settings.limits.drain, self._drained)

    async def _connect(self) -> socket.socket:
        """The way to a supervisor. Raises OSError when none listens."""
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

    def _lost(self, link: IpcLink) -> None:
        self._link_lost.set()

    def _received(self, link: IpcLink, message: Message, descriptor: int | None) -> None:
        try:
            self._handle(link, message, descriptor)
        except Exception as error:  # a supervisor of another version: this worker goes on with what it has
            if descriptor is not None:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
            self.bug(error)

    def _handle(self, link: IpcLink, message: Message, descriptor: int | None) -> None:
        match message.get("t"):
            case "opened":  # somebody waits for it
                self.reports.opening_answered(message["f"], "")
            case "welcome":
                self._take_slot(int(message["slot"]))
                site = message.get("site")
                self._alone.site = Path(str(site)) if site else None
                if message.get("ours") and self._drain_end is not None:
                    # only the link was lost: the supervisor that sends us clients is there again
                    self._drain_end.cancel()
                    self._drain_end = None
                    self._draining = False
                self._tell_again(link)
                self.reports.resend(link)
                self._beat.stir()
                self._end_when_empty()
            case "settings" | "policy" | "keys":
                if self.law.take(message) and message["t"] == "settings":
                    self._settings_changed()
            case "conn" if descriptor is not None:
                self._serve(message, descriptor)
            case "conn":  # no descriptor was free to take it: the client is lost, its place at the door is not
                link.send({"t": "gone", "c": message["c"]})
            case "busy":
                self.reports.opening_answered(message["f"], str(message["reason"]), str(message.get("limit", "")))
            case "ack":
                self.reports.acknowledged(message["ids"])
            case "drop":
                adapter = self.connections.get(message["c"])
                if adapter is not None:
                    adapter.end(str(message["why"]), str(message.get("text", "the place is needed, please try again")))
            case "share":
                self.portion.purses.share({str(person): float(part) for person, part in message["parts"].items()})
            case "frozen":
                self.law.freeze({str(key): int(until) for key, until in message["keys"].items()})
            case "drain":
                self._draining = True
                self.loop.call_later(float(message["seconds"]), self._drained)
                self._end_when_empty()
            case "stop":
                self._stop(float(message["seconds"]))
            case "handover":
                self.reports.expect_successor(float(message["seconds"]))
            case "list" | "kill":
                self._keep(self.loop.create_task(self._carry_out(link, message), name=message["t"]))
            case "ping":
                link.send({"t": "pong", "n": message.get("n")})
            case _:
                pass  # of a newer supervisor

    def _settings_changed(self) -> None:
        self.reports.timeout = self.law.settings.limits.row_timeout
        self.portion.change(self.law.settings)
        self._options = None
        self._beat.stir()

    def _take_slot(self, slot: int) -> None:
        """Make ids of that slot, and leave it in the lock for a supervisor that starts before we join it."""
        if slot != self._slot:
            self._slot, self._ids = slot, Ids(slot)
        with contextlib.suppress(OSError):  # a full disk: the next supervisor learns it a moment later
            os.pwrite(self._lock, f"slot {slot}\n".encode(), 0)

    def _watched(self) -> bool:
        return bool(self.law.settings.metrics) and self.reports.link is not None

    def _tell(self, message: Message) -> None:
        if self.reports.link is not None:
            self.reports.link.send(message)

    def _stop(self, seconds: float) -> None:
        """End: open forwards have `seconds`, then they are cut with their closing rows."""
        self._draining = True
        self._drain_end = None
        self.loop.call_later(seconds if self.forwards else 0, self._cut_all)

    def _drained(self) -> None:
        """Draining has lasted long enough."""
        if self._draining:
            self._drain_end = None
            self._cut_all("drained", "this part of the relay has served its time, please connect again")

    def _cut_all(self, reason: str = "server-stopped", text: str = "stopping") -> None:
        for adapter in tuple(self.connections.values()):
            adapter.end(reason, text)
        # closing rows are on their way; the supervisor acknowledges them
        self.loop.call_later(0.05, self._end_when_told, self.loop.time() + 5)

    def _end_when_told(self, deadline: float) -> None:
        if (self.reports.unacknowledged or self.connections) and self.loop.time() < deadline:
            self.loop.call_later(0.05, self._end_when_told, deadline)
        else:
            self._over.set()

    def _end_when_empty(self) -> None:
        if self._draining and not self.connections and not self.reports.unacknowledged:
            self._over.set()
        elif self._draining and not self.connections and self.reports.link is not None:
            self.loop.call_later(0.2, self._end_when_empty)

    # ---- connections

    def _serve(self, message: Message, descriptor: int) -> None:
        sock = socket.socket(fileno=descriptor)
        sock.setblocking(False)
        adapter = Adapter(self, message["c"], message["source"], message["port"], float(message.get("slow", 0.0)))
        if not self.connections:  # the first one: what stood still goes on
            self._judging.look_now()
            self.zones.begin()
            self._beat.stir()
        self.connections[adapter.id] = adapter
        self.lobby.work(lambda: self._accept(adapter, sock))

    def _accept(self, adapter: Adapter, sock: socket.socket) -> None:
        try:
            options = self._options or self._make_options()
            connection = Connection(
                *(self.loop, options, adapter, self.law.settings.limits),
                intake=self._intake,
                reader=PacedSocket(self.patience, sock),
                fast=not self._slow,
            )
            if self._slow:
                self._keep(self.loop.create_task(self._accept_slowly(adapter, connection, sock), name="accept"))
            else:  # what that does, without a task and a future, and two turns of the loop (see `contract`)
                cast(Any, self.loop)._make_socket_transport(sock, connection)
        except Exception as error:  # no host key, a socket that is gone already: this client alone is lost
            if not isinstance(error, OSError):
                self.bug(error)
            sock.close()
            adapter.connection_lost(error)

    async def _accept_slowly(self, adapter: Adapter, connection: Connection, sock: socket.socket) -> None:
        try:
            await self.loop.connect_accepted_socket(lambda: connection, sock)
        except OSError as error:  # it is gone already
            sock.close()
            adapter.connection_lost(error)

    def _make_options(self) -> asyncssh.SSHServerConnectionOptions:
        settings = self.law.settings
        keys = [asyncssh.import_private_key(key.private) for key in host_keys.load(self._state)]
        self._options = asyncssh.SSHServerConnectionOptions(
            server_host_keys=keys,
            server_version=VERSION_LINE,
            kex_algs=ssh_algorithms.KEX,
            encryption_algs=ssh_algorithms.ciphers(settings.chacha, ssh_algorithms.cpu_has_aes()),
            mac_algs=ssh_algorithms.MAC,
            compression_algs=None,
            signature_algs=ssh_algorithms.SIGNATURES,
            login_timeout=settings.limits.login_grace,
            keepalive_interval=0,
            gss_host=None,
            x509_trusted_certs=None,
            send_server_host_keys=True,
            allow_pty=False,
            agent_forwarding=False,
            x11_forwarding=False,
            rdns_lookup=False,
            tcp_keepalive=True,
        )
        return self._options

    def _tell_again(self, link: IpcLink) -> None:
        """What became of connections between our words about them and the welcome, when nobody was told."""
        for number, proven in self._told.items():
            adapter = self.connections.get(number)
            if adapter is None:
                link.send({"t": "gone", "c": number, "why": ""})
            elif adapter.identity is not None and not proven:
                link.send(_auth(adapter.id, adapter.identity))
        self._told = {}

    def authenticated(self, adapter: Adapter) -> None:
        """A connection has proven its key: the supervisor no longer counts it among strangers."""
        who = adapter.identity
        if who is not None and self.reports.link is not None:
            self.reports.link.send(_auth(adapter.id, who), delay=LOGIN_SECONDS)

    def gone(self, adapter: Adapter, why: str, exchanged: bool) -> None:
        """A connection is over; `why` is how, if it proved no key; `exchanged`: it began a key exchange."""
        self.connections.pop(adapter.id, None)
        if self.reports.link is not None:
            self.reports.link.send({"t": "gone", "c": adapter.id, "why": why, "exchanged": exchanged})
        if self._draining:
            self._end_when_empty()

    # ---- what is open

    async def _carry_out(self, link: IpcLink, message: Message) -> None:
        """The supervisor asks what is open, or wants something of it to end."""
        try:
            answer = session_listing.end if message["t"] == "kill" else session_listing.listing
            await answer(link, message, self.connections, self.reports, self.name)
        except Exception as error:  # what is open goes on; the supervisor says that this worker did not answer
            self.bug(error)

    def _held(self) -> Iterator[Forward]:
        for adapter in tuple(self.connections.values()):
            yield from adapter.held()

    def _keep(self, task: asyncio.Task[Any]) -> None:
        _TASKS.add(task)
        task.add_done_callback(_TASKS.discard)


_GUARDED = sys.platform == "linux"  # elsewhere zones cannot be looked at
_TASKS: set[asyncio.Task[Any]] = set()  # the loop itself keeps only weak references


def _auth(connection: str, who: Identity) -> Message:
    """A connection has proven its key."""
    return {"t": "auth", "c": connection, "person": who.person, "key": who.fingerprint}


def _have(adapter: Adapter) -> Message:
    """What a new supervisor has to know of a connection."""
    who = adapter.identity
    return {
        "t": "have",
        "c": adapter.id,
        "source": str(adapter.source),
        "person": who.person if who is not None else "",
        "key": who.fingerprint if who is not None else "",
        "proven": who is not None,
    }


def _lock(path: Path) -> int:
    """Hold a lock for as long as this process lives: the next supervisor learns from it who is still there."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):  # a supervisor that starts removes locks that nobody holds
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)


def _hush() -> None:
    """Let asyncssh compose no log: a line for each packet, which nobody reads, was a tenth of a log-in's time."""

    def nothing(*args: object, **kwargs: object) -> None:
        """What matters is recorded by our own code."""

    SSHLogger.log = SSHPacketLogger._log_packet = nothing  # type: ignore[method-assign]  # in this process only


def main() -> None:
    """`python -m relay.serve.worker STATE NAME [DESCRIPTOR]`: started by the supervisor only."""
    _hush()
    gc.collect()
    gc.freeze()

    async def run() -> None:
        first = socket.socket(fileno=int(sys.argv[3])) if len(sys.argv) > 3 else None
        await Worker(Path(sys.argv[1]), sys.argv[2], first).run()

    try:
        asyncio.run(run())
    except RelayError as error:
        sys.exit(f"relay: {error.what}\n  {error.hint}")
