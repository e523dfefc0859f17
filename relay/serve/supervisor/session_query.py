"""What is open in all workers, and how does somebody end some of it? The answers to `connections` and `kill`.

Each worker says itself what it carries. Of those that do not answer, or are of a release that cannot, what the
supervisor knows is told instead: who is logged in and which forwards are open, without what has flowed.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from relay.core.audit.event import Value
from relay.serve.ipc import Message
from relay.serve.supervisor.audit.audit_log import AuditLog
from relay.serve.supervisor.control_server import ControlConversation
from relay.serve.supervisor.limits.session_slots import ForwardSlots
from relay.serve.supervisor.worker_pool import WorkerHandle, WorkerPool

SILENT_SECONDS = 2.0  # without a word of a worker before it is given up
LONGEST_SECONDS = 30.0  # for the slices of a large one, however fast it sends them
LOOK_SECONDS = 0.05  # how often it is looked who has joined, and who is gone
KINDS = ("id", "person", "key")
MOST_TEXT = 500  # characters of one field about who wants it


class SessionQuery:
    """What the supervisor knows of connections, and how it asks for the rest."""

    def __init__(self, crew: WorkerPool, slots: ForwardSlots, record: AuditLog) -> None:
        self._crew = crew
        self._slots = slots
        self._record = record
        self._who: dict[str, tuple[str, str, str]] = {}  # connection -> worker, person, key
        self._rounds: dict[int, _FanOut] = {}
        self._number = 0

    # ---- what workers say

    def proven(self, member: WorkerHandle, message: Message) -> None:
        """A connection is a person's (messages `auth` and `have`)."""
        self._who[message["c"]] = member.name, str(message["person"]), str(message["key"])

    def gone(self, connection: str) -> None:
        """A connection has ended."""
        self._who.pop(connection, None)

    def lost(self, member: WorkerHandle) -> dict[str, tuple[str, str]]:
        """A worker's link broke: whose connections it had (person, key). Should it join again, it says so itself."""
        theirs = {connection: who[1:] for connection, who in self._who.items() if who[0] == member.name}
        for connection in theirs:
            del self._who[connection]
        return theirs

    def heard(self, member: WorkerHandle, message: Message) -> None:
        """A slice of an answer (messages `listing` and `killed`)."""
        asked = self._rounds.get(message["n"])
        if asked is not None:
            asked.heard(member, message)

    # ---- what the command line asks

    async def connections(self, question: Mapping[str, Any], talk: ControlConversation) -> None:
        """Tell, slice by slice, everything that is open."""
        asked = self._round({"t": "list"})
        await self._tell(asked, talk)
        for member in (*asked.silent(), *asked.unable):
            await talk.send({"worker": member.name, **self._known(member)})
        await talk.send({"ok": True, "last": True, "silent": asked.names()})

    async def kill(self, question: Mapping[str, Any], talk: ControlConversation) -> None:
        """End what is meant; what was ended is told, as it was. With `dry` it is only told."""
        kind, what, dry = str(question.get("kind")), str(question.get("what")), bool(question.get("dry"))
        if kind not in KINDS:
            await talk.send({"ok": False, "problem": f"this relay does not know what {kind!r} is"})
            return
        by = _by(question.get("by"))
        asked = self._round({"t": "kill", "kind": kind, "what": what, "by": by, "dry": dry})
        await self._tell(asked, talk)
        stuck: list[Message] = []
        for member in asked.unable:
            whole = [c for c, who in self._who.items() if who[0] == member.name and what == _name(kind, c, who)]
            for connection in whole if not dry else ():
                _, person, key = self._who[connection]
                who: dict[str, Value] = {"connection": connection, "person": person, "fingerprint": key}
                self._record.note("connection.killed", {**who, "worker": member.name, **by})
                member.link.send({"t": "drop", "c": connection, "why": "killed"})
            known = self._known(member)
            rows = [{**row, "whole": True} for row in known["connections"] if row["c"] in whole]
            forwards = [row for row in known["forwards"] if row["c"] in whole]
            await talk.send({"worker": member.name, "connections": rows, "forwards": forwards})
            if kind == "id":  # an old worker can end whole connections only
                stuck += [{**row, "release": member.release} for row in known["forwards"] if row["f"] == what]
        problem = "" if dry else self._record.failing
        await talk.send({"ok": True, "last": True, "silent": asked.names(), "stuck": stuck, "problem": problem})

    def _round(self, message: Message) -> "_FanOut":
        self._number += 1
        return _FanOut(self._crew, self._rounds, {**message, "n": self._number})

    async def _tell(self, asked: "_FanOut", talk: ControlConversation) -> None:
        async for member, piece in asked.pieces():
            rows = {"connections": piece.get("connections", []), "forwards": piece.get("forwards", [])}
            await talk.send({"worker": member.name, **rows})

    def _known(self, member: WorkerHandle) -> dict[str, list[Message]]:
        """What the supervisor itself knows of that worker's connections and forwards."""
        connections: list[Message] = [
            {"c": connection, "state": "open", "person": person, "key": key}
            for connection, (worker, person, key) in self._who.items()
            if worker == member.name
        ]
        forwards: list[Message] = []
        for number, slot in self._slots.held.items():
            if slot.worker == member.name:
                zone, _, rest = slot.target.partition(" ")
                address, _, port = rest.rpartition(":")
                where = {"zone": zone, "address": address, "port": int(port)}
                forwards.append({"f": number, "c": slot.connection, "state": "open", **where})
        return {"connections": connections, "forwards": forwards}


class _FanOut:
    """One question to all workers, also to those who join while it is asked."""

    def __init__(self, crew: WorkerPool, rounds: "dict[int, _FanOut]", message: Message) -> None:
        self._crew = crew
        self._rounds = rounds
        self._message = message
        self._loop = asyncio.get_running_loop()
        self._asked: dict[str, WorkerHandle] = {}
        self._waiting: set[str] = set()
        self._answered: set[str] = set()
        self._inbox: asyncio.Queue[tuple[WorkerHandle, Message]] = asyncio.Queue()
        self._absent: tuple[str, ...] = ()
        self.unable: list[WorkerHandle] = []  # of a release that does not understand it

    def heard(self, member: WorkerHandle, message: Message) -> None:
        """A slice of that worker's answer."""
        self._inbox.put_nowait((member, message))

    async def pieces(self) -> AsyncIterator[tuple[WorkerHandle, Message]]:
        """The slices as they come, until all have answered or are given up."""
        self._rounds[self._message["n"]] = self
        began = heard = self._loop.time()
        try:
            while True:
                self._ask()
                if not self._waiting and not self._absent:
                    return
                try:
                    async with asyncio.timeout(LOOK_SECONDS):
                        member, piece = await self._inbox.get()
                except TimeoutError:
                    if self._loop.time() - heard >= SILENT_SECONDS:
                        return
                    continue
                heard = self._loop.time()
                if piece.get("last"):
                    self._waiting.discard(member.name)
                    self._answered.add(member.name)
                yield member, piece
                if heard - began > LONGEST_SECONDS:
                    return
        finally:
            del self._rounds[self._message["n"]]

    def silent(self) -> Iterator[WorkerHandle]:
        """The workers that understand it and have not answered in full."""
        return (self._asked[name] for name in sorted(self._waiting))

    def names(self) -> list[Message]:
        """The same, and those that run but are not joined, for the one who asked."""
        silent = [{"name": member.name, "pid": member.pid, "release": member.release} for member in self.silent()]
        return [*silent, *({"name": name, "pid": None, "release": ""} for name in self._absent)]

    def _ask(self) -> None:
        for member in tuple(self._crew.members.values()):
            if self._asked.get(member.name) is member or member.name in self._answered:
                continue
            self._asked[member.name] = member
            if self._message["t"] in member.can:
                self._waiting.add(member.name)
                member.link.send(self._message)
            else:
                self.unable.append(member)
        self._absent = tuple(name for name in self._crew.absent() if name not in self._answered)
        self._waiting &= self._crew.members.keys() | set(self._absent)  # those gone carry nothing any more


def _by(raw: object) -> dict[str, Value]:
    """The fields of who wants it, and why, as they may stand in a row."""
    if not isinstance(raw, dict):
        return {}
    known = {key: value for key, value in raw.items() if key in ("by_uid", "by_login_uid", "by_sudo", "why")}
    return {
        key: value[:MOST_TEXT] if isinstance(value, str) else value
        for key, value in known.items()
        if isinstance(value, str | int)
    }


def _name(kind: str, connection: str, who: tuple[str, str, str]) -> str:
    return {"id": connection, "person": who[1], "key": who[2]}[kind]
