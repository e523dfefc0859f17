"""The supervisor process: its parts are built, connected, started and ended here.

It owns the listening sockets, the exact counts, the running configuration and the audit log, and reads no byte of a
client. The parts are listed in the package's docstring. Only the standard library is used, except for the signature of
checkpoints (an import contract): nothing in this process can parse what a client sends.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from typing import Any

from relay import __version__
from relay.core.audit.event import event_from_json
from relay.errors import RelayError, StoreUnavailable
from relay.serve import event_spool
from relay.serve.ipc import Message
from relay.serve.supervisor import listeners
from relay.serve.supervisor.admission.acceptor import Acceptor
from relay.serve.supervisor.audit.audit_log import AuditLog
from relay.serve.supervisor.audit.retention import RetentionJob
from relay.serve.supervisor.control_requests import ControlRequests
from relay.serve.supervisor.control_server import Answer, ControlServer
from relay.serve.supervisor.limits.session_limits import SessionLimits
from relay.serve.supervisor.limits.session_slots import ForwardSlots
from relay.serve.supervisor.monitoring.metrics import Metrics
from relay.serve.supervisor.open_forwards import OpenForwards
from relay.serve.supervisor.policy.rollout import Rollout
from relay.serve.supervisor.sd_notify import SystemdNotifier
from relay.serve.supervisor.session_query import SessionQuery
from relay.serve.supervisor.shutdown import Shutdown
from relay.serve.supervisor.worker_pool import WorkerHandle, WorkerPool
from relay.serve.supervisor.zone_status import ZoneStatus
from relay.site import locate
from relay.store.writer import FILE

LOCK_SECONDS = 2.0  # for a command that writes its own row, as it does while no supervisor runs, to finish


class Supervisor:
    """One relay's supervisor."""

    def __init__(self, site: locate.Site) -> None:
        self._site = site
        self._loop = asyncio.get_running_loop()
        self._audit = AuditLog(lambda: self._rollout.settings, lambda: self._rollout.applied.document.version)
        self._workers = WorkerPool(site.state, self._received, self._joined, self._lost, self._audit.say)
        self._rollout = Rollout(site, self._workers, self._audit)
        self._acceptor = Acceptor(self._workers, self._audit, lambda: self._rollout.settings)
        self._zones = ZoneStatus(self._audit, lambda: self._rollout.applied.document, lambda: not slots.held)
        slots = ForwardSlots()
        self._limits = SessionLimits(
            site.state / "run",
            self._workers,
            self._audit,
            acceptor=self._acceptor,
            slots=slots,
            limits=lambda: self._rollout.settings.limits,
        )
        self._forwards = OpenForwards(
            self._workers, self._audit, lambda: self._rollout.settings.limits, slots=slots, session_limits=self._limits
        )
        self._sessions = SessionQuery(self._workers, slots, self._audit)
        self._retention = RetentionJob(site.state, self._audit, lambda: self._rollout.settings)
        self._systemd = SystemdNotifier(os.environ, self._workers.answering, self._audit.say)
        self._ready = asyncio.Event()
        self._reload_pending = False  # a SIGHUP came, and its reload has not begun
        self._reloading = asyncio.Lock()
        self._own_sockets = False  # else they are systemd's, which keeps them open across a restart
        self._metrics = Metrics(
            site.state,
            audit=self._audit,
            workers=self._workers,
            rollout=self._rollout,
            acceptor=self._acceptor,
            session_limits=self._limits,
            forwards=self._forwards,
            zones=self._zones,
            retention=self._retention,
            stopping=self._is_stopping,
        )
        requests = ControlRequests(
            rollout=self._rollout,
            audit=self._audit,
            workers=self._workers,
            acceptor=self._acceptor,
            slots=slots,
            limits=self._limits,
            retention=self._retention,
            zones=self._zones,
            systemd=self._systemd,
            metrics=self._metrics,
            reload=self._reload,
        )
        self._control = ControlServer(requests.answer)
        self._control.conversations.update(
            connections=self._sessions.connections, archive=self._retention.ask, kill=self._sessions.kill
        )
        self._shutdown = Shutdown(
            site.state / "run",
            audit_log=self._audit,
            workers=self._workers,
            acceptor=self._acceptor,
            forwards=self._forwards,
            limits=lambda: self._rollout.settings.limits,
            systemd=self._systemd,
            control=self._control,
        )
        self._tasks: set[asyncio.Task[Any]] = set()

    # ---- the life of the process

    async def run(self) -> None:
        """Serve until told to stop. Raises RelayError for what makes serving impossible."""
        state = self._site.state
        for directory in (state, state / "run"):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        await self._rollout.start()
        settings = self._rollout.settings
        await self._open_audit_log()  # takes its lock: where another relay runs, nothing of that one is touched
        self._acceptor.sockets = self._listen()
        self._rollout.listening = [sock.getsockname()[:2] for sock in self._acceptor.sockets]
        await self._rollout.send_all()
        for number, handler in (
            (signal.SIGTERM, self._shutdown.request),
            (signal.SIGINT, self._shutdown.request),
            (signal.SIGHUP, self._request_reload),
        ):
            self._loop.add_signal_handler(number, handler, number)
        self._workers.start(settings.processes(os.cpu_count()))
        if not await self._is_ready():
            await self._end()
            return
        self._acceptor.open()
        where = " ".join(listeners.where(sock) for sock in self._acceptor.sockets)
        self._rollout.log_start()
        self._audit.note("server.started", {"version": __version__, "pid": os.getpid(), "detail": where})
        self._audit.say(f"serving {self._site.path} at {where}")
        for fault in listeners.missing(self._acceptor.sockets, settings.listen):
            self._audit.say(f"warning: this relay listens {fault}: {self._listen_remedy()}")
        if sys.platform != "linux":
            self._audit.say("this system has no route guard: packets may leave by another interface than a zone's")
        self._systemd.ready(f"serving at {where}")
        for coroutine in (
            self._rollout.watch_keys(),
            self._audit.store_strangers(lambda: self._rollout.settings.strangers_keep_days),
            self._forwards.settle_orphans(),
            self._rollout.repeat_faults(),
            self._acceptor.watch_queue(),
            self._limits.watch(),
            self._zones.run(),
            self._systemd.beat(),
            self._metrics.run(),
            self._retention.run(),
        ):
            self._spawn(coroutine)
        await self._shutdown.requested.wait()
        await self._end()

    def _is_stopping(self) -> bool:
        return self._shutdown.requested.is_set()

    async def _end(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await self._shutdown.end()

    async def _open_audit_log(self) -> None:
        """Open the audit log, and the sockets for the command line and for workers of an earlier supervisor.

        Raises StoreUnavailable where another process has the log.
        """
        deadline = self._loop.time() + LOCK_SECONDS
        while True:
            try:
                unclosed = self._audit.open(self._site.state / FILE, self._rollout.settings.node)
                break
            except StoreUnavailable as error:
                if not isinstance(error.__cause__, BlockingIOError) or self._loop.time() > deadline:
                    raise
            await asyncio.sleep(0.1)
        event_spool.replay(self._site.state / "run", self._audit.event, self._audit.say)
        self._forwards.inherit(unclosed)
        self._limits.load()
        self._workers.listen()
        await self._control.listen(self._site.state / "run")

    def _listen(self) -> list[socket.socket]:
        """The listening sockets: systemd's, or else our own."""
        given = listeners.inherited(os.environ, os.getpid())
        self._own_sockets = not given
        return given or listeners.bind(self._rollout.settings.listen)

    def _listen_remedy(self) -> str:
        if self._own_sockets:
            return "stop the relay and start it again"
        return "relayctl init --systemd writes relay.socket anew; then systemctl restart relay.socket relay.service"

    async def _is_ready(self) -> bool:
        """Wait for a worker; False when told to stop before there was one (they may all fail to start)."""
        waiting = [asyncio.ensure_future(event.wait()) for event in (self._ready, self._shutdown.requested)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for waiter in waiting:
            waiter.cancel()
        return self._ready.is_set() and not self._shutdown.requested.is_set()

    # ---- reloading

    def _request_reload(self, number: int) -> None:
        if not self._reload_pending:  # a waiting reload reads the files only when its turn comes
            self._reload_pending = True
            self._spawn(self._reload_after_signal())

    async def _reload_after_signal(self) -> None:
        """Reload because of SIGHUP; signals that come meanwhile are one more reload."""
        async with self._reloading:
            self._reload_pending = False
            await self._reload({})

    async def _reload(self, question: dict[str, Any]) -> Answer:
        """Apply the candidate files. Settings that only new workers can take start new ones, and the old ones drain."""
        self._systemd.reloading()
        try:
            answer = await self._rollout.reload(question)
            if answer.get("ok"):
                settings = self._rollout.settings
                self._workers.resize(settings.processes(os.cpu_count()), settings.limits.drain)
                self._zones.check_now()
            return answer
        finally:
            self._systemd.reloaded()

    # ---- workers

    def _joined(self, worker: WorkerHandle) -> None:
        settings = self._rollout.settings
        welcome = {"t": "welcome", "v": 1, "slot": worker.slot, "node": settings.node, "ours": worker.ours}
        worker.link.send({**welcome, "site": str(self._site.path)})
        if self._is_stopping() and not self._shutdown.workers_stay:  # it was just starting
            worker.link.send({"t": "stop", "seconds": settings.limits.stop})
        self._rollout.send(worker)
        self._limits.joined(worker)

    def _lost(self, worker: WorkerHandle) -> None:
        """A worker's link broke: if the process is gone its forwards get their closing rows now."""
        self._acceptor.lost(worker)
        self._limits.lost(worker)
        self._spawn(self._forwards.close_lost(worker, self._sessions.lost(worker)))

    def _received(self, worker: WorkerHandle, message: Message) -> None:
        match message.get("t"):
            case "open":  # first, because a client waits for the answer
                is_first = not self._forwards.slots.held
                self._forwards.open(worker, event_from_json(message["e"]))
                if is_first:
                    self._zones.begin()
            case "auth":
                self._acceptor.proven(message["c"])
                self._limits.proven(worker, message)
                self._sessions.proven(worker, message)
            case "gone":
                self._acceptor.gone(
                    message["c"], str(message.get("why", "")), exchanged=bool(message.get("exchanged", True))
                )
                self._limits.gone(message["c"])
                self._sessions.gone(message["c"])
                worker.connections.discard(message["c"])
            case "have":
                worker.connections.add(message["c"])
                if message.get("person"):
                    self._sessions.proven(worker, message)
                if not message.get("proven", True):
                    self._acceptor.readmit(message["c"], message["source"], worker)
                else:
                    self._limits.have(message)
            case "holding":
                self._watch_zones_closely()
                self._forwards.holding(worker, message)
            case "joined":
                worker.ready = True
                if worker.ours:  # one of a former supervisor takes no new clients
                    self._ready.set()
            case "listing" | "killed":
                self._sessions.received(worker, message)
            case "note":
                event = event_from_json(message["e"])
                self._forwards.note(worker, event)
                self._limits.recorded(event)
            case "figures":
                self._metrics.add_worker(message)
            case "use":
                worker.use = message
            case "stranger":
                self._audit.stranger(
                    str(message["kind"]),
                    str(message["source"]),
                    int(message["port"]),
                    number=str(message["id"]),
                    fingerprint=str(message["fingerprint"]),
                    login=str(message["login"]),
                )
            case _:
                pass  # of a newer worker

    def _watch_zones_closely(self) -> None:
        """A forward is about to be held: if it is the first one, zones are looked at more often from now on."""
        if not self._forwards.slots.held:
            self._zones.begin()

    # ---- tasks

    def _spawn(self, coroutine: Any) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._audit.say(f"a bug of ours, please report it: {task.exception()!r}")


def main() -> None:
    """`python -m relay.serve.supervisor SITE`: what `relayctl serve` becomes."""
    # a worker may use 256 forwards for each of its connections: take as many descriptors as the system allows
    import resource

    with contextlib.suppress(ValueError, OSError):  # a unit's system call filter may forbid asking
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    async def run() -> None:
        await Supervisor(locate.find(sys.argv[1], {})).run()

    try:
        asyncio.run(run())
    except RelayError as error:
        sys.stderr.write(f"relay: {error.what}\n" + (f"  {error.hint}\n" if error.hint else ""))
        sys.exit(error.exit_status)
    except OSError as error:
        sys.stderr.write(
            f"relay: {error.filename or sys.argv[1]}: {error.strerror}\n  run it as root or as the relay's user\n"
        )
        sys.exit(1)
