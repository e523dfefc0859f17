"""Lists and kills sessions and forwards across all workers: the answers to `connections` and `kill`.

Each worker reports what it carries. For a worker that does not answer, or whose release cannot, the supervisor reports
what it knows itself: sessions and open forwards, without byte counts.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, NamedTuple

from relay.core.audit.event import Value
from relay.serve.ipc import Message
from relay.serve.supervisor.audit.audit_log import AuditLog
from relay.serve.supervisor.control_server import ControlConversation
from relay.serve.supervisor.limits.session_slots import ForwardSlots
from relay.serve.supervisor.worker_pool import WorkerHandle, WorkerPool

SILENT_SECONDS = 2.0  # without a message of any worker before the rest are reported as silent
MAX_SECONDS = 30.0  # for a whole answer, however fast its slices come
CHECK_SECONDS = 0.05  # between two checks for workers that have joined or ended
KINDS = ("id", "person", "key")
MAX_TEXT = 500  # characters of one field about the operator


class Session(NamedTuple):
    """An authenticated connection as the supervisor knows it."""

    worker: str
    person: str
    key: str


class SessionQuery:
    """The sessions that the supervisor knows, and queries to the workers for all else."""

    def __init__(self, workers: WorkerPool, slots: ForwardSlots, audit: AuditLog) -> None:
        self._workers = workers
        self._slots = slots
        self._audit = audit
        self._sessions: dict[str, Session] = {}
        self._queries: dict[int, _FanOut] = {}
        self._number = 0

    # ---- reports of workers

    def proven(self, worker: WorkerHandle, message: Message) -> None:
        """A connection has authenticated (messages `auth` and `have`)."""
        self._sessions[message["c"]] = Session(worker.name, str(message["person"]), str(message["key"]))

    def gone(self, connection: str) -> None:
        """A connection has ended."""
        self._sessions.pop(connection, None)

    def lost(self, worker: WorkerHandle) -> dict[str, tuple[str, str]]:
        """Forget the sessions of a worker whose link broke, and return person and key of each."""
        lost = {number: known for number, known in self._sessions.items() if known.worker == worker.name}
        for connection in lost:
            del self._sessions[connection]
        return {connection: (known.person, known.key) for connection, known in lost.items()}

    def received(self, worker: WorkerHandle, message: Message) -> None:
        """A slice of an answer (messages `listing` and `killed`)."""
        query = self._queries.get(message["n"])
        if query is not None:
            query.received(worker, message)

    # ---- questions of relayctl

    async def connections(self, question: Mapping[str, Any], conversation: ControlConversation) -> None:
        """Send, slice by slice, all open connections and forwards."""
        query = self._query({"t": "list"})
        await self._send_slices(query, conversation)
        for worker in (*query.silent(), *query.unable):
            await conversation.send({"worker": worker.name, **self._known(worker)})
        await conversation.send({"ok": True, "last": True, "silent": query.silent_rows()})

    async def kill(self, question: Mapping[str, Any], conversation: ControlConversation) -> None:
        """End what matches, and send it as it was before; with `dry` only send it."""
        kind, wanted, dry = str(question.get("kind")), str(question.get("what")), bool(question.get("dry"))
        if kind not in KINDS:
            await conversation.send({"ok": False, "problem": f"this relay does not know what {kind!r} is"})
            return
        by = _operator(question.get("by"))
        query = self._query({"t": "kill", "kind": kind, "what": wanted, "by": by, "dry": dry})
        await self._send_slices(query, conversation)
        stuck: list[Message] = []
        for worker in query.unable:
            matching = [
                connection
                for connection, known in self._sessions.items()
                if known.worker == worker.name
                and wanted == {"id": connection, "person": known.person, "key": known.key}[kind]
            ]
            for connection in matching if not dry else ():
                self._drop(worker, connection, by)
            known = self._known(worker)
            rows = [{**row, "whole": True} for row in known["connections"] if row["c"] in matching]
            forwards = [row for row in known["forwards"] if row["c"] in matching]
            await conversation.send({"worker": worker.name, "connections": rows, "forwards": forwards})
            if kind == "id":  # a worker of an old release can end whole connections only
                stuck += [{**row, "release": worker.release} for row in known["forwards"] if row["f"] == wanted]
        problem = "" if dry else self._audit.failing
        end = {"ok": True, "last": True, "silent": query.silent_rows(), "stuck": stuck, "problem": problem}
        await conversation.send(end)

    def _drop(self, worker: WorkerHandle, connection: str, by: Mapping[str, Value]) -> None:
        known = self._sessions[connection]
        subject: dict[str, Value] = {"connection": connection, "person": known.person, "fingerprint": known.key}
        self._audit.note("connection.killed", {**subject, "worker": worker.name, **by})
        worker.link.send({"t": "drop", "c": connection, "why": "killed"})

    def _query(self, message: Message) -> "_FanOut":
        self._number += 1
        return _FanOut(self._workers, self._queries, {**message, "n": self._number})

    async def _send_slices(self, query: "_FanOut", conversation: ControlConversation) -> None:
        async for worker, piece in query.slices():
            rows = {"connections": piece.get("connections", []), "forwards": piece.get("forwards", [])}
            await conversation.send({"worker": worker.name, **rows})

    def _known(self, worker: WorkerHandle) -> dict[str, list[Message]]:
        """The connections and forwards of that worker that the supervisor itself knows."""
        connections: list[Message] = [
            {"c": connection, "state": "open", "person": known.person, "key": known.key}
            for connection, known in self._sessions.items()
            if known.worker == worker.name
        ]
        forwards: list[Message] = []
        for number, slot in self._slots.held.items():
            if slot.worker == worker.name:
                zone, _, rest = slot.target.partition(" ")
                address, _, port = rest.rpartition(":")
                target = {"zone": zone, "address": address, "port": int(port)}
                forwards.append({"f": number, "c": slot.connection, "state": "open", **target})
        return {"connections": connections, "forwards": forwards}


class _FanOut:
    """One query to all workers, also to those that join while it runs."""

    def __init__(self, workers: WorkerPool, queries: "dict[int, _FanOut]", message: Message) -> None:
        self._workers = workers
        self._queries = queries
        self._message = message
        self._loop = asyncio.get_running_loop()
        self._asked: dict[str, WorkerHandle] = {}
        self._waiting: set[str] = set()
        self._answered: set[str] = set()
        self._inbox: asyncio.Queue[tuple[WorkerHandle, Message]] = asyncio.Queue()
        self._absent: tuple[str, ...] = ()  # running workers that have not joined
        self.unable: list[WorkerHandle] = []  # of a release that does not understand the query

    def received(self, worker: WorkerHandle, message: Message) -> None:
        """A slice of that worker's answer."""
        self._inbox.put_nowait((worker, message))

    async def slices(self) -> AsyncIterator[tuple[WorkerHandle, Message]]:
        """The slices as they come, until all workers have answered or the wait is over."""
        self._queries[self._message["n"]] = self
        began = last = self._loop.time()
        try:
            while True:
                self._send()
                if not self._waiting and not self._absent:
                    return
                try:
                    async with asyncio.timeout(CHECK_SECONDS):
                        worker, piece = await self._inbox.get()
                except TimeoutError:
                    if self._loop.time() - last >= SILENT_SECONDS:
                        return
                    continue
                last = self._loop.time()
                if piece.get("last"):
                    self._waiting.discard(worker.name)
                    self._answered.add(worker.name)
                yield worker, piece
                if last - began > MAX_SECONDS:
                    return
        finally:
            del self._queries[self._message["n"]]

    def silent(self) -> Iterator[WorkerHandle]:
        """The workers that understand the query and have not answered in full."""
        return (self._asked[name] for name in sorted(self._waiting))

    def silent_rows(self) -> list[Message]:
        """The silent workers and the running ones that have not joined, for the answer."""
        silent = [{"name": worker.name, "pid": worker.pid, "release": worker.release} for worker in self.silent()]
        return [*silent, *({"name": name, "pid": None, "release": ""} for name in self._absent)]

    def _send(self) -> None:
        for worker in tuple(self._workers.members.values()):
            if self._asked.get(worker.name) is worker or worker.name in self._answered:
                continue
            self._asked[worker.name] = worker
            if self._message["t"] in worker.can:
                self._waiting.add(worker.name)
                worker.link.send(self._message)
            else:
                self.unable.append(worker)
        self._absent = tuple(name for name in self._workers.absent() if name not in self._answered)
        self._waiting &= self._workers.members.keys() | set(self._absent)  # a worker that has ended carries nothing


def _operator(raw: object) -> dict[str, Value]:
    """The fields about the operator and the reason, as they may stand in a row."""
    if not isinstance(raw, dict):
        return {}
    known = {key: value for key, value in raw.items() if key in ("by_uid", "by_login_uid", "by_sudo", "why")}
    return {
        key: value[:MAX_TEXT] if isinstance(value, str) else value
        for key, value in known.items()
        if isinstance(value, str | int)
    }
