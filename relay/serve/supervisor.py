"""The supervisor process: owns the door, the slots, the law and the audit log, and reads no byte of a client.

Its parts: `entrance` (who comes in), `enactment` (the law and its changes), `record` (the audit log and the journal),
`crew` (the workers), `control` (what `relayctl` asks). Here they are put together, and the forwards' slots are kept.
Standard library only (a contract of the linter): it stays small, and nothing here can parse what a stranger sends.
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from typing import Any

from relay import __version__
from relay.core.event import Event
from relay.errors import RelayError
from relay.serve import listeners
from relay.serve.admission import Slot, Slots
from relay.serve.control import Answer, Control
from relay.serve.crew import Crew, Member
from relay.serve.enactment import Enactment
from relay.serve.entrance import Entrance
from relay.serve.protocol import Message
from relay.serve.record import Record
from relay.site import locate
from relay.store.database import FILE


class Supervisor:
    """One relay's supervisor."""

    def __init__(self, site: locate.Site) -> None:
        self._site = site
        self._loop = asyncio.get_running_loop()
        self._record = Record()
        self._crew = Crew(site.state, self._received, self._joined, self._lost, self._record.say)
        self._law = Enactment(site, self._crew, self._record)
        self._entrance = Entrance(self._crew, self._record, lambda: self._law.settings.limits)
        self._control = Control(self._ask)
        self._slots = Slots()
        self._orphans: dict[str, str] = {}  # open forwards of an earlier supervisor -> their worker
        self._ready = asyncio.Event()
        self._over = asyncio.Event()
        self._linger = False
        self._tasks: set[asyncio.Task[Any]] = set()

    # ---- the life of the process

    async def run(self) -> None:
        """Serve until told to stop. Raises RelayError for what makes serving impossible."""
        state = self._site.state
        for directory in (state, state / "run"):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        await self._law.start()
        settings = self._law.settings
        unclosed = self._record.open(state / FILE, settings.node)
        self._orphans = {number: str(event.fields.get("worker", "")) for number, event in unclosed.items()}
        sockets = listeners.inherited(os.environ, os.getpid()) or listeners.bind(settings.listen)
        self._entrance.sockets = sockets
        self._law.listening = [sock.getsockname()[:2] for sock in sockets]
        where = " ".join(_where(sock) for sock in sockets)
        await self._law.send_all()
        self._crew.listen()
        await self._control.listen(state / "run")
        for number, handler in (
            (signal.SIGTERM, self._stop),
            (signal.SIGINT, self._stop),
            (signal.SIGHUP, self._hang_up),
        ):
            self._loop.add_signal_handler(number, handler, number)
        self._crew.start(settings.workers or min(os.cpu_count() or 1, 4))
        if not await self._is_ready():
            await self._end()
            return
        self._entrance.open()
        self._law.say()
        self._record.note("server.started", {"version": __version__, "pid": os.getpid(), "detail": where})
        self._record.say(f"serving {self._site.path} at {where}")
        if sys.platform != "linux":
            self._record.say("this system has no route guard: packets may leave by another interface than a zone's")
        listeners.notify(os.environ, f"READY=1\nSTATUS=serving at {where}")
        for coroutine in (
            self._law.watch_keys(),
            self._record.store_strangers(lambda: self._law.settings.strangers_keep_days),
            self._settle_orphans(),
            self._law.shout(),
            self._entrance.watch_line(),
        ):
            self._spawn(coroutine)
        await self._over.wait()
        await self._end()

    async def _is_ready(self) -> bool:
        """Wait for a worker; False when told to stop before there was one (they may all fail to start)."""
        waiting = [asyncio.ensure_future(event.wait()) for event in (self._ready, self._over)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for one in waiting:
            one.cancel()
        return self._ready.is_set()

    def _stop(self, number: int) -> None:
        """SIGTERM under systemd: the workers drain on and join the next supervisor. Otherwise all of it ends."""
        self._linger = number == signal.SIGTERM and "NOTIFY_SOCKET" in os.environ
        self._over.set()

    def _hang_up(self, number: int) -> None:
        self._spawn(self._law.reload({}))

    async def _end(self) -> None:
        listeners.notify(os.environ, "STOPPING=1")
        self._entrance.close()
        self._control.close()
        self._crew.close()
        for task in tuple(self._tasks):
            task.cancel()
        if not self._linger:
            seconds = self._law.settings.limits.stop
            for member in tuple(self._crew.members.values()):
                member.link.send({"t": "stop", "seconds": seconds})
            deadline = self._loop.time() + seconds + 8
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await self._crew.empty.wait()
        self._record.note("server.stopped", {"version": __version__, "pid": os.getpid()})
        await self._record.close()  # before its sockets go: who finds nobody there writes into the database itself
        for name in ("workers.sock", "control.sock"):
            if not self._linger:
                (self._site.state / "run" / name).unlink(missing_ok=True)
        self._record.say("stopped")
        self._record.journal.flush()

    # ---- workers

    def _joined(self, member: Member) -> None:
        settings = self._law.settings
        welcome = {"t": "welcome", "v": 1, "slot": member.slot, "node": settings.node, "ours": member.ours}
        member.link.send(welcome)
        if self._over.is_set() and not self._linger:  # it was starting when we were told to stop
            member.link.send({"t": "stop", "seconds": settings.limits.stop})
        self._law.send(member)

    def _lost(self, member: Member) -> None:
        """A worker's link broke: if the process is gone its forwards get their closing rows now."""
        self._entrance.lost(member)
        self._spawn(self._bury(member))

    async def _bury(self, member: Member) -> None:
        while self._crew.alive(member.name):  # the lock goes with the process, a moment after its sockets
            if member.name in self._crew.members:
                return  # only the link was lost: it has joined again and told what it holds
            await asyncio.sleep(0.1)  # it may still die before it joins again
        (self._site.state / "run" / f"{member.name}.lock").unlink(missing_ok=True)
        held = [number for number, slot in self._slots.held.items() if slot.worker == member.name]
        for number in held:
            self._close_for(number, "worker-lost")
            self._slots.free(number)

    def _close_for(self, forward: str, reason: str) -> None:
        self._record.note("forward.closed", {"forward": forward, "reason": reason})

    async def _settle_orphans(self) -> None:
        """Forwards that an earlier supervisor left open: their workers join again, or are gone."""
        while self._orphans:
            await asyncio.sleep(0.2)
            for forward, worker in tuple(self._orphans.items()):
                if forward in self._slots.held:
                    del self._orphans[forward]
                elif not self._crew.alive(worker):
                    del self._orphans[forward]
                    self._close_for(forward, "worker-lost")
                elif worker in self._crew.members and self._crew.members[worker].ready:
                    del self._orphans[forward]  # it has told what it holds: its closing row is among those it resends

    def _received(self, member: Member, message: Message) -> None:
        match message.get("t"):
            case "auth":
                self._entrance.leave(message["c"])
            case "gone":
                self._entrance.leave(message["c"])
                member.connections.discard(message["c"])
            case "have":
                member.connections.add(message["c"])
            case "holding":
                slot = Slot(member.name, message["c"], message["person"], message["key"], message["target"])
                self._slots.take(message["f"], slot, None)
            case "joined":
                member.ready = True
                if member.ours:  # one of a former supervisor takes no new clients
                    self._ready.set()
            case "open":
                self._open(member, _event(message["e"]))
            case "note":
                self._take_note(member, _event(message["e"]))
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

    def _open(self, member: Member, event: Event) -> None:
        fields, limits = event.fields, self._law.settings.limits
        target = f"{fields['zone']} {fields['address']}:{fields['port']}"
        slot = Slot(member.name, str(fields["connection"]), str(fields["person"]), str(fields["fingerprint"]), target)
        problem = self._slots.take(event.id, slot, limits)
        if problem:
            member.link.send({"t": "busy", "f": event.id, "reason": problem})
            return

        def answer(problem: str) -> None:
            if problem:
                self._slots.free(event.id)
                member.link.send({"t": "busy", "f": event.id, "reason": problem})
            else:
                member.link.send({"t": "opened", "f": event.id})

        self._record.opening(event, answer)

    def _take_note(self, member: Member, event: Event) -> None:
        if event.name == "forward.closed":
            self._slots.free(str(event.fields.get("forward")))
        self._record.event(event, lambda problem: member.link.send({"t": "ack", "ids": [event.id]}))

    # ---- the control socket

    async def _ask(self, question: dict[str, Any]) -> Answer:
        match question.get("do"):
            case "reload":
                return await self._law.reload(question)
            case "apply-keys":
                persons = [str(person) for person in question.get("persons", [])]
                return await self._law.apply_keys(persons, [_event(raw) for raw in question.get("events", [])])
            case "record":
                return await self._write_down([_event(raw) for raw in question.get("events", [])])
            case "status":
                return self._status()
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
        return {
            "ok": True,
            "version": __version__,
            "pid": os.getpid(),
            "listening": [_where(sock) for sock in self._entrance.sockets],
            "policy": document.version,
            "keys": len(keyring.keys),
            "faults": [str(fault) for fault in self._law.faults],
            "forwards": len(self._slots.held),
            "before_login": self._entrance.waiting,
            "connections": sum(len(member.connections) for member in members),
            "database": self._record.failing,
            "rows_lost": self._record.lost,
            "workers": [
                {
                    "name": member.name,
                    "pid": member.pid,
                    "connections": len(member.connections),
                    "draining": not member.ours,
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


def _where(sock: socket.socket) -> str:
    name = sock.getsockname()
    return f"[{name[0]}]:{name[1]}" if sock.family == socket.AF_INET6 else f"{name[0]}:{name[1]}"


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


if __name__ == "__main__":
    main()
