"""What does this worker carry, and what of it ends because somebody says so?

Answers go to the supervisor in slices, each well below the bound of a frame, and only as fast as it takes them.
"""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

from relay.core.audit.event import Value
from relay.serve.authorizer import Revocation
from relay.serve.ipc import IpcLink, Message
from relay.serve.worker.audit_client import AuditClient
from relay.serve.worker.forward.forward import Forward
from relay.serve.worker.reauthorization import LoopSlices
from relay.serve.worker.session import Adapter

CAN = ["list", "kill"]  # what of it this release understands; told to the supervisor in `hello`
SLICE = 64  # rows in one message; one has some 600 bytes, 2,000 at most
KILLED = "killed"  # the reason on record

_Found = tuple[Adapter, tuple[Forward, ...] | None]  # these forwards of it; None: the whole connection


async def listing(
    link: IpcLink, message: Message, connections: Mapping[str, Adapter], reports: AuditClient, worker: str
) -> None:
    """Answer `list`: everything that is open, and who is at the door."""
    out = _Slices(link, "listing", message["n"])
    turns = LoopSlices()
    for adapter in tuple(connections.values()):
        out.connection(adapter.listed())
        for forward in adapter.held():
            if forward.id:  # else it is not judged yet
                out.forward(forward.listed())
            await out.room()
        await out.room()
        await turns.rest()
    out.last()


async def end(
    link: IpcLink, message: Message, connections: Mapping[str, Adapter], reports: AuditClient, worker: str
) -> None:
    """Answer `kill`: end what is meant, unless it is only asked what would end."""
    out = _Slices(link, "killed", message["n"])
    turns = LoopSlices()
    by: dict[str, Value] = {
        key: value for key, value in message.get("by", {}).items() if key == "why" or key.startswith("by_")
    }
    why = Revocation(KILLED, "")
    for adapter, forwards in tuple(_meant(str(message["kind"]), str(message["what"]), connections)):
        if adapter.id not in connections:
            continue  # it ended while others had their turn
        whole = forwards is None
        out.connection({**adapter.listed(), "whole": whole})
        ending = adapter.held() if forwards is None else forwards
        for forward in ending:
            if forward.id:
                out.forward(forward.listed())
        if not message.get("dry"):
            if whole:
                who = adapter.facts() if adapter.identity is not None else _stranger(adapter)
                reports.note("connection.killed", {**who, "forwards": len(ending), "worker": worker, **by})
                adapter.forbid(why, by)
            else:
                adapter.forbid_forwards([(forward, why) for forward in ending], by)
        await out.room()
        await turns.rest()
    out.last()


def _meant(kind: str, what: str, connections: Mapping[str, Adapter]) -> Iterator[_Found]:
    for adapter in tuple(connections.values()):
        who = adapter.identity
        if kind == "id" and adapter.id == what:
            yield adapter, None
        elif kind == "id":
            forwards = tuple(forward for forward in adapter.held() if forward.id == what)
            if forwards:
                yield adapter, forwards
        elif who is not None and what == {"person": who.person, "key": who.fingerprint}.get(kind):
            yield adapter, None


def _stranger(adapter: Adapter) -> dict[str, Value]:
    return {"connection": adapter.id, "client": str(adapter.source)}


class _Slices:
    """The slices of one answer."""

    def __init__(self, link: IpcLink, kind: str, number: Any) -> None:
        self._link = link
        self._head = {"t": kind, "n": number}
        self._connections: list[Message] = []
        self._forwards: list[Message] = []

    def connection(self, row: Message) -> None:
        """One more connection; its forwards come behind it."""
        self._connections.append(row)

    def forward(self, row: Message) -> None:
        """One more forward."""
        self._forwards.append(row)

    async def room(self) -> None:
        """Send what is enough for a slice, and wait until the supervisor has taken it."""
        while len(self._connections) + len(self._forwards) >= SLICE:
            self._send(last=False)
            while self._link.open and not self._link.idle:  # noqa: ASYNC110 - as crew.flush: a link has no such event
                await asyncio.sleep(0.005)

    def last(self) -> None:
        """Send the rest."""
        while len(self._connections) + len(self._forwards) > SLICE:
            self._send(last=False)
        self._send(last=True)

    def _send(self, *, last: bool) -> None:
        connections, self._connections = self._connections[:SLICE], self._connections[SLICE:]
        room = SLICE - len(connections)
        forwards, self._forwards = self._forwards[:room], self._forwards[room:]
        self._link.send({**self._head, "connections": connections, "forwards": forwards, "last": last})
