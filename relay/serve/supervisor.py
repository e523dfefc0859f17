"""The supervisor process: owns the door, the slots, the law and the audit log, and reads no byte of a client.

It accepts, bounds who waits before log-in, hands each descriptor to the least loaded worker, is the only writer of
the audit database, has changed files compiled by a child, and answers the control socket. Standard library only
(a contract of the linter): it stays small, and nothing here can parse what a stranger sends.
"""

import asyncio
import contextlib
import errno
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from relay import __version__
from relay.core import journal as lines
from relay.core import keyring as keyrings
from relay.core.event import Event, Value
from relay.core.ids import Ids
from relay.core.text import escape
from relay.errors import Fault, RelayError, SiteInvalid
from relay.serve import listeners
from relay.serve.admission import Door, Line, Slot, Slots, source_of
from relay.serve.applied import Applied, compile_site
from relay.serve.control import Answer, Control
from relay.serve.crew import Crew, Member
from relay.serve.journal import Journal
from relay.serve.protocol import Message, chunks, encode
from relay.serve.recorder import Recorder
from relay.site import locate
from relay.store.database import FILE
from relay.store.strangers import Tally, veiled

ACCEPTS = 64  # per turn of the loop and listener
KEYS_SECONDS = 1.0  # how often the key files are looked at
STRANGERS_SECONDS = 10.0  # how often strangers' counters go to the database
PRUNE_SECONDS = 86_400.0  # how often old counters are deleted
LINE_SECONDS = 0.5  # how often the line before a full source is looked at
IDLE_SECONDS = 5.0  # a client that has not proven a key by then gives its place to one that waits
NO_ROOM_SECONDS = 0.5  # after running out of descriptors
NO_WORKER_SECONDS = 0.1  # while no worker of ours is ready
SHOUT_SECONDS = 600.0  # how often a broken site is said again
JOIN_SECONDS = 5.0  # how long workers of a former supervisor have to join before this is looked into


class Supervisor:
    """One relay's supervisor."""

    def __init__(self, site: locate.Site) -> None:
        self._site = site
        self._loop = asyncio.get_running_loop()
        self._ids = Ids(0)
        self._journal = Journal()
        self._applied = Applied(site)
        self._recorder: Recorder | None = None
        self._door = Door()
        self._line = Line()
        self._slots = Slots()
        self._crew = Crew(site.state, self._received, self._joined, self._lost, self._journal.say)
        self._control = Control(self._ask)
        self._sockets: list[socket.socket] = []
        self._tally = Tally(b"")
        self._salt = b""
        self._orphans: dict[str, str] = {}  # open forwards of an earlier supervisor -> their worker
        self._faults: tuple[Fault, ...] = ()
        self._policy_frames: list[bytes] = []
        self._key_frames: list[bytes] = []
        self._changing = asyncio.Lock()  # held while the law is switched
        self._reloading = asyncio.Lock()  # one compilation at a time
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
        self._faults = await self._applied.start()
        if self._faults and not self._applied.document.version:
            raise SiteInvalid(self._faults, "nothing was applied earlier, so there is nothing to go on with")
        settings = self._applied.document.settings
        self._recorder = Recorder(state / FILE, settings.node, self._written)
        self._salt = self._recorder.salt
        self._tally = Tally(self._salt)
        self._orphans = {
            number: str(event.fields.get("worker", "")) for number, event in self._recorder.open_forwards().items()
        }
        self._recorder.start()
        self._sockets = listeners.inherited(os.environ, os.getpid()) or listeners.bind(settings.listen)
        where = " ".join(_where(sock) for sock in self._sockets)
        await self._send_all()
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
        for sock in self._sockets:
            self._loop.add_reader(sock.fileno(), self._accept, sock)
        self._say_law()
        self._note("server.started", {"version": __version__, "pid": os.getpid(), "detail": where})
        self._journal.say(f"serving {self._site.path} at {where}")
        if sys.platform != "linux":
            self._journal.say("this system has no route guard: packets may leave by another interface than a zone's")
        listeners.notify(os.environ, f"READY=1\nSTATUS=serving at {where}")
        for coroutine in (
            self._watch_keys(),
            self._store_strangers(),
            self._settle_orphans(),
            self._shout(),
            self._watch_line(),
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
        self._spawn(self._reload({}))

    async def _end(self) -> None:
        listeners.notify(os.environ, "STOPPING=1")
        for sock in self._sockets:
            self._loop.remove_reader(sock.fileno())
            sock.close()
        self._control.close()
        self._crew.close()
        for task in tuple(self._tasks):
            task.cancel()
        settings = self._applied.document.settings
        if not self._linger:
            seconds = settings.limits.stop
            for member in tuple(self._crew.members.values()):
                member.link.send({"t": "stop", "seconds": seconds})
            deadline = self._loop.time() + seconds + 8
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(deadline):
                    await self._crew.empty.wait()
        self._note("server.stopped", {"version": __version__, "pid": os.getpid()})
        if self._recorder is not None:
            self._recorder.strangers(self._tally.take())
            await self._recorder.close()
        for name in ("workers.sock", "control.sock"):
            if not self._linger:
                (self._site.state / "run" / name).unlink(missing_ok=True)
        self._journal.say("stopped")
        self._journal.flush()

    # ---- the door

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS):
            if self._crew.least_loaded() is None:  # all are being replaced: who comes waits in the listener's backlog
                self._loop.remove_reader(listener.fileno())
                self._loop.call_later(NO_WORKER_SECONDS, self._accept_again, listener)
                return
            try:
                sock, peer = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._loop.remove_reader(listener.fileno())
                    self._loop.call_later(NO_ROOM_SECONDS, self._accept_again, listener)
                return
            self._welcome(sock, str(peer[0]).split("%", maxsplit=1)[0], int(peer[1]))

    def _accept_again(self, listener: socket.socket) -> None:
        if not self._over.is_set():
            self._loop.add_reader(listener.fileno(), self._accept, listener)

    def _welcome(self, sock: socket.socket, address: str, port: int) -> None:
        limits = self._applied.document.settings.limits
        if self._door.room(source_of(address), limits):
            self._admit(sock, address, port)
        elif len(self._line) < limits.unauthenticated and self._line.has_room(source_of(address)):
            self._line.join(sock, address, port, self._loop.time())
        else:
            sock.close()
            self._stranger("source-full", address, port)

    def _move_line(self) -> None:
        """Somebody has proven a key or is gone: let in who waits and has room now."""
        limits = self._applied.document.settings.limits
        while waiting := self._line.next(lambda source: self._door.room(source, limits)):
            self._admit(*waiting)

    async def _watch_line(self) -> None:
        """Who waits for a place that nobody leaves gets that of the idlest of its source, or is sent away at last."""
        while True:
            await asyncio.sleep(LINE_SECONDS)
            now, limits = self._loop.time(), self._applied.document.settings.limits
            for address, port in self._line.late(now - limits.login_grace):
                self._stranger("source-full", address, port)
            for source in self._line.sources():
                idler = self._door.idler(source, now - IDLE_SECONDS)
                if idler is not None:
                    self._drop(idler)
                    self._leave(idler)

    def _leave(self, connection: str) -> None:
        self._door.leave(connection)
        if len(self._line):
            self._move_line()

    def _admit(self, sock: socket.socket, address: str, port: int) -> None:
        with sock:
            self._hand_over(sock, address, port)

    def _hand_over(self, sock: socket.socket, address: str, port: int) -> None:
        member = self._crew.least_loaded()
        if member is None:
            return  # all workers are being replaced: closed, the client tries again
        number = self._make_id()
        limits = self._applied.document.settings.limits
        _, evicted = self._door.enter(number, source_of(address), limits, self._loop.time())
        if evicted is not None:
            self._drop(evicted)
        member.connections.add(number)
        try:
            member.link.send({"t": "conn", "c": number, "source": address, "port": port, "fd": True}, sock.fileno())
        except OSError:  # no descriptor left for the copy that travels: the place at the door is free again
            self._door.leave(number)
            member.connections.discard(number)

    def _drop(self, connection: str) -> None:
        for member in self._crew.members.values():
            if connection in member.connections:
                member.link.send({"t": "drop", "c": connection, "why": "place-needed"})

    # ---- workers

    def _joined(self, member: Member) -> None:
        settings = self._applied.document.settings
        welcome = {"t": "welcome", "v": 1, "slot": member.slot, "node": settings.node, "ours": member.ours}
        member.link.send(welcome)
        if self._over.is_set() and not self._linger:  # it was starting when we were told to stop
            member.link.send({"t": "stop", "seconds": settings.limits.stop})
        self._send_law(member)

    def _send_law(self, member: Member) -> None:
        listening = [sock.getsockname()[:2] for sock in self._sockets]
        settings = self._applied.document.settings_json
        member.link.send({"t": "settings", "settings": settings, "listening": listening})
        member.link.send_law(self._policy_frames)
        member.link.send_law(self._key_frames)

    def _send_keys(self) -> None:
        """Tell all workers about the keys: a few milliseconds for a thousand of them, and a revocation cannot wait."""
        self._key_frames = _frames("keys", self._applied.keyring.version, list(keyrings.dump(self._applied.keyring)))
        for member in self._crew.members.values():
            member.link.send_law(self._key_frames)

    async def _send_all(self) -> None:
        """Tell all workers about policy, settings and keys; a large policy is made ready beside the loop."""
        document, keyring = self._applied.document, self._applied.keyring
        lines = list(document.policy)
        self._policy_frames = await asyncio.to_thread(_frames, "policy", document.version, lines)
        self._key_frames = _frames("keys", keyring.version, list(keyrings.dump(keyring)))
        for member in self._crew.members.values():
            self._send_law(member)

    def _lost(self, member: Member) -> None:
        """A worker's link broke: if the process is gone its forwards get their closing rows now."""
        for connection in member.connections:
            self._door.leave(connection)
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
        self._note("forward.closed", {"forward": forward, "reason": reason})

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
                self._leave(message["c"])
            case "gone":
                self._leave(message["c"])
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
                self._stranger(
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
        fields, limits = event.fields, self._applied.document.settings.limits
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

        assert self._recorder is not None
        self._recorder.opening(event, answer)

    def _take_note(self, member: Member, event: Event) -> None:
        if event.name == "forward.closed":
            self._slots.free(str(event.fields.get("forward")))
        assert self._recorder is not None
        self._recorder.note(event, lambda problem: member.link.send({"t": "ack", "ids": [event.id]}))

    # ---- the audit log

    def _note(self, name: str, fields: Mapping[str, Value]) -> None:
        if self._recorder is not None:
            self._recorder.note(Event(self._make_id(), self._now_us(), name, fields))

    def _written(self, events: list[Event]) -> None:
        for event in events:
            self._journal.event(lines.line(event))

    def _stranger(
        self, kind: str, address: str, port: int, *, number: str = "", fingerprint: str = "", login: str = ""
    ) -> None:
        parsed = ip_address(address)
        parsed = getattr(parsed, "ipv4_mapped", None) or parsed
        self._tally.add(
            self._now_us(), parsed, kind, reference=number, fingerprint=fingerprint, login=login if login else None
        )
        name = veiled(login, self._salt) if login else ""
        self._journal.stranger(
            lines.stranger(kind, str(parsed), port, login=name, fingerprint=fingerprint, reference=number)
        )

    async def _store_strangers(self) -> None:
        pruned = float("-inf")
        while True:
            if self._recorder is not None and self._loop.time() - pruned > PRUNE_SECONDS:
                pruned = self._loop.time()
                self._recorder.prune(self._now_us(), self._applied.document.settings.strangers_keep_days)
            await asyncio.sleep(STRANGERS_SECONDS)
            counts = self._tally.take()
            if counts and self._recorder is not None:
                if self._recorder.failing:
                    self._tally.give_back(counts)
                else:
                    self._recorder.strangers(counts)

    # ---- the law

    def _say_law(self) -> None:
        document = self._applied.document
        if self._faults:
            self._shout_now()
        elif document.version:
            keys = len(self._applied.keyring.keys)
            self._note("site.applied", {"policy": document.version, "keys": keys, "detail": "at start"})
        for warning in document.warnings:
            self._journal.say(f"warning: {escape(warning, 400)}")
        for fault in self._applied.keyring.faults:
            self._journal.say(f"a key is out: {escape(str(fault), 400)}")

    def _shout_now(self) -> None:
        version = self._applied.document.version
        going_on = f"policy {version}, applied earlier, goes on" if version else "nothing can be reached"
        self._journal.say(f"THE SITE HAS FAULTS; {going_on}; see: relayctl --site {self._site.path} check")
        for fault in self._faults[:10]:
            self._journal.say(f"  {escape(str(fault), 400)}")

    async def _shout(self) -> None:
        if self._faults:
            self._note("site.rejected", {"policy": self._applied.document.version, "detail": _shown(self._faults)})
        while True:
            await asyncio.sleep(SHOUT_SECONDS)
            if self._faults:
                self._shout_now()

    async def _watch_keys(self) -> None:
        while True:
            await asyncio.sleep(KEYS_SECONDS)
            async with self._changing:
                try:
                    gone = await self._applied.narrow()
                except Exception as error:  # the watch must go on: a revocation may come next
                    self._journal.say(f"the key files cannot be looked at: {error!r}")
                    continue
            if gone:
                self._keys_gone(gone, frozenset())
                await asyncio.to_thread(self._applied.keep_keys)

    def _keys_gone(self, gone: tuple[str, ...], said: frozenset[str]) -> None:
        """Tell the workers about keys that are out; `said` are those whose row somebody else has sent."""
        if not gone:
            return
        self._send_keys()
        for fingerprint in gone:
            revocation = self._applied.keyring.revocations.get(fingerprint)
            if fingerprint in said:
                continue
            if revocation is None:
                self._note("key.removed", {"fingerprint": fingerprint, "detail": "gone from the key files"})
            else:
                place: dict[str, Value] = {"file": revocation.file, "line": revocation.line, "why": revocation.why}
                self._note("key.revoked", {"fingerprint": fingerprint, **place})

    # ---- the control socket

    async def _ask(self, question: dict[str, Any]) -> Answer:
        match question.get("do"):
            case "reload":
                return await self._reload(question)
            case "apply-keys":
                return await self._apply_keys(question)
            case "record":
                return await self._record(question)
            case "status":
                return self._status()
            case other:
                return {"ok": False, "problem": f"this relay ({__version__}) does not know {other!r}"}

    async def _reload(self, question: Mapping[str, Any]) -> Answer:
        by = {key: value for key, value in question.get("by", {}).items() if key.startswith("by_")}
        async with self._reloading:
            try:
                # not under the lock of `_changing`: a revocation must not wait for a compilation
                document = await compile_site(self._site)
                async with self._changing:
                    changed = await self._applied.reload(document)
                    await self._send_all()
            except SiteInvalid as error:
                self._faults = error.faults
                self._note("site.rejected", {"detail": _shown(error.faults), **by})
                faults = [[fault.file, fault.line, fault.what, fault.cure] for fault in error.faults]
                return {"ok": False, "faults": faults}
            except RelayError as error:
                self._note("site.rejected", {"detail": error.what, **by})
                return {"ok": False, "problem": error.what, "hint": error.hint}
            except OSError as error:  # no process or descriptor left for the child
                return {"ok": False, "problem": f"the site could not be checked: {error}"}
            self._faults = ()
        document, keyring = self._applied.document, self._applied.keyring
        detail = "; ".join(changed)[:900] or "nothing changed"
        self._note("site.applied", {"policy": document.version, "keys": len(keyring.keys), "detail": detail, **by})
        return {
            "ok": True,
            "version": document.version,
            "changed": changed,
            "warnings": list(document.warnings),
            "keys": len(keyring.keys),
            "out": [str(fault) for fault in keyring.faults],
        }

    async def _apply_keys(self, question: Mapping[str, Any]) -> Answer:
        events = [_event(raw) for raw in question.get("events", [])]
        said = frozenset(str(event.fields.get("fingerprint")) for event in events)
        before = self._applied.keyring.version
        async with self._changing:
            gone = await self._applied.apply_keys([str(person) for person in question.get("persons", [])])
        if self._applied.keyring.version != before and not gone:
            self._send_keys()
        self._keys_gone(gone, said)
        await asyncio.to_thread(self._applied.keep_keys)
        assert self._recorder is not None
        for event in events:
            self._recorder.note(event)
        return {"ok": True, "keys": len(self._applied.keyring.keys), "problem": self._recorder.failing}

    async def _record(self, question: Mapping[str, Any]) -> Answer:
        done: asyncio.Future[str] = self._loop.create_future()
        assert self._recorder is not None
        events = [_event(raw) for raw in question.get("events", [])]
        for event in events[:-1]:
            self._recorder.note(event)
        if events:
            self._recorder.note(events[-1], lambda problem: None if done.done() else done.set_result(problem))
            try:
                async with asyncio.timeout(5):
                    await done
            except TimeoutError:
                return {"ok": False, "problem": self._recorder.failing or "the row is not durable yet"}
        return {"ok": True}

    def _status(self) -> Answer:
        document, keyring = self._applied.document, self._applied.keyring
        return {
            "ok": True,
            "version": __version__,
            "pid": os.getpid(),
            "listening": [_where(sock) for sock in self._sockets],
            "policy": document.version,
            "keys": len(keyring.keys),
            "faults": [str(fault) for fault in self._faults],
            "forwards": len(self._slots.held),
            "before_login": len(self._door),
            "connections": sum(len(member.connections) for member in self._crew.members.values()),
            "database": self._recorder.failing if self._recorder else "closed",
            "rows_lost": self._recorder.lost if self._recorder else 0,
            "workers": [
                {
                    "name": member.name,
                    "pid": member.pid,
                    "connections": len(member.connections),
                    "draining": not member.ours,
                }
                for member in self._crew.members.values()
            ],
        }

    # ---- small things

    def _now_us(self) -> int:
        return time.time_ns() // 1000

    def _make_id(self) -> str:
        return self._ids.make(self._now_us())

    def _spawn(self, coroutine: Any) -> None:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._journal.say(f"a bug of ours, please report it: {task.exception()!r}")


def _event(raw: list[Any]) -> Event:
    number, at, name, fields = raw
    return Event(str(number), int(at), str(name), fields)


def _frames(kind: str, version: str, document: list[str]) -> list[bytes]:
    return [encode(frame) for frame in chunks(kind, version, document)]


def _where(sock: socket.socket) -> str:
    name = sock.getsockname()
    return f"[{name[0]}]:{name[1]}" if sock.family == socket.AF_INET6 else f"{name[0]}:{name[1]}"


def _shown(faults: tuple[Fault, ...]) -> str:
    return escape("; ".join(str(fault) for fault in faults[:5]), 900)


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
