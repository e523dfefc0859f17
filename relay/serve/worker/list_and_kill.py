"""A worker's answers to `list` and `kill`: what is open, and the end of what an administrator names.

Answers go to the supervisor in slices, each well below the bound of a frame, and only as fast as it reads them.
"""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

from relay.core.audit.event import Value
from relay.serve.authorizer import Revocation
from relay.serve.ipc import IpcLink, Message
from relay.serve.worker import client_messages
from relay.serve.worker.audit_client import AuditClient
from relay.serve.worker.authentication import Authentication
from relay.serve.worker.forward.forward import Forward
from relay.serve.worker.reauthorization import LoopSlices
from relay.serve.worker.session import Session

CAN = ["list", "kill"]  # the commands of this release, for `hello`
SLICE = 64  # rows in one message; one has some 600 bytes, 2,000 at most
KILLED = "killed"  # the reason on record

Connections = Mapping[str, Authentication | Session]


async def listing(link: IpcLink, message: Message, connections: Connections, audit: AuditClient, worker: str) -> None:
    """Answer `list`: everything that is open, including unauthenticated connections."""
    answer = _Answer(link, "listing", message["n"])
    slices = LoopSlices()
    for connection in tuple(connections.values()):
        answer.connections.append(connection.listed())
        for forward in _held(connection):
            answer.forwards.append(forward.listed())
            await answer.flush()
        await answer.flush()
        await slices.rest()
    answer.finish()


async def kill(link: IpcLink, message: Message, connections: Connections, audit: AuditClient, worker: str) -> None:
    """Answer `kill`: end the named connections and forwards, and say what they were; with `dry` only say it."""
    answer = _Answer(link, "killed", message["n"])
    slices = LoopSlices()
    by: dict[str, Value] = {
        key: value for key, value in message.get("by", {}).items() if key == "why" or key.startswith("by_")
    }
    for connection, forwards in tuple(_matching(str(message["kind"]), str(message["what"]), connections)):
        if connection.id not in connections:
            continue  # it ended during an earlier slice
        answer.connections.append({**connection.listed(), "whole": forwards is None})
        ending = _held(connection) if forwards is None else forwards
        answer.forwards.extend(forward.listed() for forward in ending)
        if not message.get("dry"):
            if forwards is None:
                facts = connection.facts if isinstance(connection, Session) else _facts(connection)
                audit.note("connection.killed", {**facts, "forwards": len(ending), "worker": worker, **by})
                _end(connection, by)
            elif isinstance(connection, Session):
                connection.revoke_forwards([(forward, Revocation(KILLED, "")) for forward in ending], by)
        await answer.flush()
        await slices.rest()
    answer.finish()


def _matching(
    kind: str, what: str, connections: Connections
) -> Iterator[tuple[Authentication | Session, tuple[Forward, ...] | None]]:
    """The connections with that id, person or key, and the forwards with that id; None: the whole connection."""
    for connection in tuple(connections.values()):
        if kind == "id" and connection.id == what:
            yield connection, None
        elif kind == "id":
            forwards = tuple(forward for forward in _held(connection) if forward.id == what)
            if forwards:
                yield connection, forwards
        elif isinstance(connection, Session):
            identity = connection.identity
            if what == {"person": identity.person, "key": identity.fingerprint}.get(kind):
                yield connection, None


def _held(connection: Authentication | Session) -> tuple[Forward, ...]:
    """Its forwards, from the decision on."""
    if isinstance(connection, Session):
        return tuple(forward for forward in connection.held() if forward.id)
    return ()


def _facts(connection: Authentication) -> dict[str, Value]:
    return {"connection": connection.id, "client": str(connection.client.source)}


def _end(connection: Authentication | Session, by: Mapping[str, Value]) -> None:
    if isinstance(connection, Session):
        connection.revoke(Revocation(KILLED, ""), by)
    else:
        connection.end(KILLED, client_messages.ended(KILLED))


class _Answer:
    """The slices of one answer; the forwards of a connection come behind it."""

    def __init__(self, link: IpcLink, kind: str, number: Any) -> None:
        self._link = link
        self._head = {"t": kind, "n": number}
        self.connections: list[Message] = []
        self.forwards: list[Message] = []

    async def flush(self) -> None:
        """Send what fills a slice, and wait until the supervisor has read it."""
        while len(self.connections) + len(self.forwards) >= SLICE:
            self._send(last=False)
            while self._link.open and not self._link.idle:  # noqa: ASYNC110 - a link has no event for it
                await asyncio.sleep(0.005)

    def finish(self) -> None:
        """Send the rest."""
        while len(self.connections) + len(self.forwards) > SLICE:
            self._send(last=False)
        self._send(last=True)

    def _send(self, *, last: bool) -> None:
        connections, self.connections = self.connections[:SLICE], self.connections[SLICE:]
        room = SLICE - len(connections)
        forwards, self.forwards = self.forwards[:room], self.forwards[room:]
        self._link.send({**self._head, "connections": connections, "forwards": forwards, "last": last})
