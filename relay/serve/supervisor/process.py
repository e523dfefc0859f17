"""The supervisor process: owns the door, the slots, the law and the audit log, and reads no byte of a client.

Its parts: `entrance` (who comes in), `enactment` (the law and its changes), `record` (the audit log and the journal),
`crew` (the workers), `forwards` (what is open), `governor` (how much anybody may have), `zone_log` (which zones are
down), `retention` (rows that move to archives), `control` (what `relayctl`
asks), `tenure` (how long it serves, and who comes after), `pulse` (what systemd is told). Here they are put together.
Standard library only, but for the signing of checkpoints (a contract of the linter): it stays small, and nothing here
can parse what a stranger sends.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections import Counter
from typing import Any

from relay import __version__
from relay.core.audit.event import Event
from relay.errors import RelayError, StoreUnavailable
from relay.serve import event_spool
from relay.serve.ipc import Message
from relay.serve.supervisor import listeners
from relay.serve.supervisor.admission.acceptor import Acceptor
from relay.serve.supervisor.audit.audit_log import AuditLog
from relay.serve.supervisor.audit.retention import RetentionJob
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
        self._record = AuditLog(lambda: self._law.settings, lambda: self._law.applied.document.version)
        self._crew = WorkerPool(site.state, self._received, self._joined, self._lost, self._record.say)
        self._law = Rollout(site, self._crew, self._record)
        self._entrance = Acceptor(self._crew, self._record, lambda: self._law.settings)
        self._zones = ZoneStatus(self._record, lambda: self._law.applied.document, lambda: not slots.held)
        self._control = ControlServer(self._answer)
        slots = ForwardSlots()
        self._governor = SessionLimits(
            site.state / "run",
            self._crew,
            self._record,
            acceptor=self._entrance,
            slots=slots,
            limits=lambda: self._law.settings.limits,
        )
        self._forwards = OpenForwards(
            self._crew, self._record, lambda: self._law.settings.limits, slots=slots, session_limits=self._governor
        )
        self._roll = SessionQuery(self._crew, slots, self._record)
        self._retention = RetentionJob(site.state, self._record, lambda: self._law.settings)
        self._pulse = SystemdNotifier(os.environ, self._crew.answering, self._record.say)
        self._ready = asyncio.Event()
        self._hung_up = False  # a SIGHUP came, and its reload has not begun
        self._rereading = asyncio.Lock()
        self._shutdown = Shutdown(
            site.state / "run",
            audit_log=self._record,
            workers=self._crew,
            acceptor=self._entrance,
            forwards=self._forwards,
            limits=lambda: self._law.settings.limits,
            systemd=self._pulse,
            control=self._control,
        )
        self._own_sockets = False  # else they are systemd's, which keeps them open across a restart
        self._metrics = Metrics(
            site.state,
            audit=self._record,
            workers=self._crew,
            rollout=self._law,
            acceptor=self._entrance,
            session_limits=self._governor,
            forwards=self._forwards,
            zones=self._zones,
            retention=self._retention,
            stopping=self._shutdown.requested.is_set,
        )
        self._control.conversations.update(
            connections=self._roll.connections, archive=self._retention.ask, kill=self._roll.kill
        )
        self._tasks: set[asyncio.Task[Any]] = set()

    # ---- the life of the process

    async def run(self) -> None:
        """Serve until told to stop. Raises RelayError for what makes serving impossible."""
        state = self._site.state
        for directory in (state, state / "run"):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        await self._law.start()
        settings = self._law.settings
        await self._open_audit_log()  # takes its lock: where another relay runs, nothing of that one is touched
        self._entrance.sockets = self._listen()
        self._law.listening = [sock.getsockname()[:2] for sock in self._entrance.sockets]
        await self._law.send_all()
        for number, handler in (
            (signal.SIGTERM, self._shutdown.request),
            (signal.SIGINT, self._shutdown.request),
            (signal.SIGHUP, self._hang_up),
        ):
            self._loop.add_signal_handler(number, handler, number)
        self._crew.start(settings.processes(os.cpu_count()))
        if not await self._is_ready():
            await self._end()
            return
        self._entrance.open()
        where = " ".join(listeners.where(sock) for sock in self._entrance.sockets)
        self._law.log_start()
        self._record.note("server.started", {"version": __version__, "pid": os.getpid(), "detail": where})
        self._record.say(f"serving {self._site.path} at {where}")
        for fault in listeners.missing(self._entrance.sockets, settings.listen):
            self._record.say(f"warning: this relay listens {fault}: {self._listen_cure()}")
        if sys.platform != "linux":
            self._record.say("this system has no route guard: packets may leave by another interface than a zone's")
        self._pulse.ready(f"serving at {where}")
        for coroutine in (
            self._law.watch_keys(),
            self._record.store_strangers(lambda: self._law.settings.strangers_keep_days),
            self._forwards.settle_orphans(),
            self._law.repeat_faults(),
            self._entrance.watch_queue(),
            self._governor.watch(),
            self._zones.run(),
            self._pulse.beat(),
            self._metrics.run(),
            self._retention.run(),
        ):
            self._spawn(coroutine)
        await self._shutdown.requested.wait()
        await self._end()

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
                unclosed = self._record.open(self._site.state / FILE, self._law.settings.node)
                break
            except StoreUnavailable as error:
                if not isinstance(error.__cause__, BlockingIOError) or self._loop.time() > deadline:
                    raise
            await asyncio.sleep(0.1)
        event_spool.replay(self._site.state / "run", self._record.event, self._record.say)
        self._forwards.inherit(unclosed)
        self._governor.load()
        self._crew.listen()
        await self._control.listen(self._site.state / "run")

    def _listen(self) -> list[socket.socket]:
        """The listening sockets: systemd's, or else our own."""
        given = listeners.inherited(os.environ, os.getpid())
        self._own_sockets = not given
        return given or listeners.bind(self._law.settings.listen)

    def _listen_cure(self) -> str:
        if self._own_sockets:
            return "stop the relay and start it again"
        return "relayctl init --systemd writes relay.socket anew; then systemctl restart relay.socket relay.service"

    async def _is_ready(self) -> bool:
        """Wait for a worker; False when told to stop before there was one (they may all fail to start)."""
        waiting = [asyncio.ensure_future(event.wait()) for event in (self._ready, self._shutdown.requested)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for one in waiting:
            one.cancel()
        return self._ready.is_set() and not self._shutdown.requested.is_set()

    # ---- reloading

    def _hang_up(self, number: int) -> None:
        if not self._hung_up:  # one that waits for its turn will see what the files say then
            self._hung_up = True
            self._spawn(self._reread())

    async def _reread(self) -> None:
        """Reload because of a signal, while this one serves. One after another: what comes meanwhile is one more."""
        async with self._rereading:
            self._hung_up = False
            await self._reload({})

    async def _reload(self, question: dict[str, Any]) -> Answer:
        """Make the files law; what only new workers can have gets new workers, and the old ones drain."""
        self._pulse.reloading()
        try:
            answer = await self._law.reload(question)
            if answer.get("ok"):
                settings = self._law.settings
                self._crew.resize(settings.processes(os.cpu_count()), settings.limits.drain)
                self._zones.check_now()
            return answer
        finally:
            self._pulse.reloaded()

    # ---- workers

    def _joined(self, member: WorkerHandle) -> None:
        settings = self._law.settings
        welcome = {"t": "welcome", "v": 1, "slot": member.slot, "node": settings.node, "ours": member.ours}
        member.link.send({**welcome, "site": str(self._site.path)})
        if self._shutdown.requested.is_set() and not self._shutdown.workers_stay:  # it was just starting
            member.link.send({"t": "stop", "seconds": settings.limits.stop})
        self._law.send(member)
        self._governor.joined(member)

    def _lost(self, member: WorkerHandle) -> None:
        """A worker's link broke: if the process is gone its forwards get their closing rows now."""
        self._entrance.lost(member)
        self._governor.lost(member)
        self._spawn(self._forwards.close_lost(member, self._roll.lost(member)))

    def _received(self, member: WorkerHandle, message: Message) -> None:
        match message.get("t"):
            case "open":  # the one kind that somebody waits for
                is_first = not self._forwards.slots.held
                self._forwards.open(member, _event(message["e"]))
                if is_first:
                    self._zones.begin()
            case "auth":
                self._entrance.proven(message["c"])
                self._governor.proven(member, message)
                self._roll.proven(member, message)
            case "gone":
                self._entrance.gone(
                    message["c"], str(message.get("why", "")), exchanged=bool(message.get("exchanged", True))
                )
                self._governor.gone(message["c"])
                self._roll.gone(message["c"])
                member.connections.discard(message["c"])
            case "have":
                member.connections.add(message["c"])
                if message.get("person"):
                    self._roll.proven(member, message)
                if not message.get("proven", True):
                    self._entrance.readmit(message["c"], message["source"], member)
                else:
                    self._governor.have(message)
            case "holding":
                self._begin_looking()
                self._forwards.holding(member, message)
            case "joined":
                member.ready = True
                if member.ours:  # one of a former supervisor takes no new clients
                    self._ready.set()
            case "listing" | "killed":
                self._roll.received(member, message)
            case "note":
                event = _event(message["e"])
                self._forwards.note(member, event)
                self._governor.recorded(event)
            case "figures":
                self._metrics.add_worker(message)
            case "use":
                member.use = message
            case "stranger":
                self._record.stranger(
                    str(message["kind"]),
                    str(message["source"]),
                    int(message["port"]),
                    number=str(message["id"]),
                    fingerprint=str(message["fingerprint"]),
                    login=str(message["login"]),
                )
            case _:
                pass  # of a newer worker

    def _begin_looking(self) -> None:
        """A forward is about to be held: if it is the first one, zones are looked at more often from now on."""
        if not self._forwards.slots.held:
            self._zones.begin()

    # ---- the control socket

    async def _answer(self, question: dict[str, Any]) -> Answer:
        match question.get("do"):
            case "reload":
                return await self._reload(question)
            case "apply-keys":
                persons = [str(person) for person in question.get("persons", [])]
                return await self._law.apply_keys(persons, [_event(raw) for raw in question.get("events", [])])
            case "record":
                return await self._write_down([_event(raw) for raw in question.get("events", [])])
            case "status":
                return self._status()
            case "bans" | "unban" | "limits":
                return self._governor.answer(question)
            case other:
                return {"ok": False, "problem": f"this relay ({__version__}) does not know {other!r}"}

    async def _write_down(self, events: list[Event]) -> Answer:
        done: asyncio.Future[str] = self._loop.create_future()
        for event in events[:-1]:
            self._record.event(event)
        if events:
            self._record.event(events[-1], lambda problem: None if done.done() else done.set_result(problem))
            try:
                async with asyncio.timeout(5):
                    await done
            except TimeoutError:
                return {"ok": False, "problem": self._record.failing or "the row is not durable yet"}
        return {"ok": True}

    def _status(self) -> Answer:
        document, keyring = self._law.applied.document, self._law.applied.keyring
        members = self._crew.members.values()
        carried = Counter(slot.worker for slot in self._forwards.slots.held.values())
        return {
            "ok": True,
            "version": __version__,
            "pid": os.getpid(),
            "systemd": self._pulse.by_systemd,
            "listening": [listeners.where(sock) for sock in self._entrance.sockets],
            "metrics": self._metrics.where,
            "policy": document.version,
            "keys": len(keyring.keys),
            "faults": [str(fault) for fault in self._law.faults],
            "forwards": len(self._forwards.slots.held),
            "before_login": self._entrance.waiting,
            "connections": sum(len(member.connections) for member in members),
            "database": self._record.failing,
            "rows_lost": self._record.lost,
            "retention": self._retention.status(),
            "seal": self._record.seal_status(),
            "zones": self._zones.status(),
            "workers": [
                {
                    "name": member.name,
                    "pid": member.pid,
                    "connections": len(member.connections),
                    "release": member.release,
                    "slow": member.slow,
                    "draining": member.draining or not member.ours,
                    "answers": self._crew.answers(member),
                    "forwards": carried[member.name],
                }
                for member in members
            ],
        }

    # ---- small things

    def _spawn(self, coroutine: Any) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._record.say(f"a bug of ours, please report it: {task.exception()!r}")


def _event(raw: list[Any]) -> Event:
    number, at, name, fields = raw
    return Event(str(number), int(at), str(name), fields)


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
