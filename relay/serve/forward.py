"""How one forward is opened and closed: the path of DESIGN.md, in one place, read from top to bottom.

parse the target -> judge -> in parallel: opening row and slot at the supervisor, dial of the judged address
-> both done, snapshot unchanged or judged again -> the channel is confirmed -> pipe -> closing row
"""

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from relay.core import target as targets
from relay.core.event import Value
from relay.core.rules import Destination, Identity, Reason, Verdict, Zone
from relay.core.text import escape
from relay.errors import InputRejected
from relay.net.routes import Obstacle
from relay.serve import words
from relay.serve.dial import DialFailed, dial, find
from relay.serve.pipe import Pipe
from relay.serve.reports import Busy
from relay.serve.way import Way, why

if TYPE_CHECKING:
    from relay.serve.adapter import Adapter
    from relay.serve.worker import Worker


class NotOpened(Exception):
    """The channel is not to be confirmed: `text` for the person, `prohibited` for a denial (RFC 4254 5.1)."""

    def __init__(self, text: str, *, prohibited: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.prohibited = prohibited


class Forward:
    """One direct-tcpip channel, from the request to its closing row."""

    def __init__(self, worker: "Worker", owner: "Adapter", host: bytes, port: int) -> None:
        self._worker = worker
        self._owner = owner
        self._host = host
        self._port = port
        self._task: asyncio.Task[socket.socket] | None = None
        self._pipe: Pipe | None = None
        self._ended: Callable[[Forward, Pipe], None] | None = None
        self._cut = ""
        self._obstacle = ""  # what is wrong with the zone, and in full
        self._trouble = ""
        self._rowed = False
        self._fields: dict[str, Value] = {}
        self._since = 0
        self.id = ""
        self.destination: Destination | None = None
        self._zone: Zone | None = None  # as it was when the target was dialled
        self.way: Way | None = None  # by which it was dialled, from the moment that it is

    async def open(self, writable: Callable[[], bool], ended: Callable[["Forward", Pipe], None]) -> Pipe:
        """The session of the channel, once its opening row is durable and the target connected.

        Raises NotOpened for a denial or failure; then no byte has flowed, and a row that was written is closed.
        """
        worker, identity = self._worker, self._owner.identity
        if identity is None:  # cannot happen: the protocol layer refuses channels before log-in
            raise NotOpened(words.BUSY)
        verdict, asked = self._judge(identity)
        if not verdict.allowed or verdict.destination is None:
            raise NotOpened(words.refused(verdict, self._owner.denied(asked, verdict)), prohibited=True)
        self.destination = destination = verdict.destination
        self.id = worker.make_id()
        self._since = worker.now_us()
        self._fields = {
            **self._owner.facts(),
            "forward": self.id,
            "asked": asked,
            "zone": destination.zone,
            "address": str(destination.address),
            "port": destination.port,
            "rule": verdict.rule.name if verdict.rule else "",
            "rule_at": f"{verdict.rule.file}:{verdict.rule.line}" if verdict.rule else "",
            "policy": worker.law.policy.version,
        }
        policy, keyring = worker.law.policy, worker.law.keyring
        sock: socket.socket | None = None
        dialling = self._task = asyncio.create_task(self._dial(destination), name=f"dial {self.id}")
        try:
            self._rowed = True  # from here on the row may exist, so it will be closed
            await worker.reports.open_row(self.id, self._fields)
            worker.forwards[self.id] = self  # a new supervisor is told of it, also while it is dialled
            if self._is_cut():
                raise asyncio.CancelledError
            sock = await dialling
        except Busy as busy:
            self._rowed = not busy.refused
            raise self._failed("busy", str(busy)) from None
        except DialFailed as failure:
            raise self._failed(failure.reason, failure.detail, failure.obstacle) from None
        except asyncio.CancelledError:
            raise self._interrupted() from None
        finally:
            if sock is None:
                _abandon(dialling)
        if worker.law.policy is not policy or worker.law.keyring is not keyring:
            again, _ = self._judge(identity)
            if again.allowed and again.destination == destination and self._moved():
                sock.close()
                raise self._failed("policy-changed", f"{destination.zone} is reached another way now")
            if not again.allowed or again.destination != destination:
                sock.close()
                self._close("policy-changed", again.detail)
                reference = self._owner.denied(asked, again)
                raise NotOpened(words.refused(again, reference), prohibited=True)
        if self._is_cut():
            sock.close()
            raise self._failed(self._cut, self._trouble)
        self._ended = ended
        self._pipe = Pipe(sock, self._finished, writable())
        return self._pipe

    def slot(self) -> dict[str, str]:
        """What a new supervisor has to know of it (the message `holding`)."""
        fields = self._fields
        return {
            "f": self.id,
            "c": self._owner.id,
            "person": str(fields["person"]),
            "key": str(fields["fingerprint"]),
            "target": f"{fields['zone']} {fields['address']}:{fields['port']}",
        }

    def judge_again(self) -> None:
        """End this forward if it is no longer allowed."""
        if self._pipe is None or self._owner.identity is None or self.destination is None:
            return  # still being opened: `open` judges again before it confirms
        verdict = self._worker.law.judge(self._owner.identity, self.destination)
        if not verdict.allowed:
            self.cut(verdict.reason.value)
        elif self._moved():
            self.cut("policy-changed")

    def cut(self, reason: str) -> None:
        """End it now; during a dial the dial is cancelled."""
        self._cut = self._cut or reason
        if self._pipe is not None:
            self._pipe.cut(reason)
        elif self._task is not None:
            self._task.cancel()

    def obstruct(self, obstacle: Obstacle, detail: str) -> None:
        """End it because its zone is not what it was; the obstacle stands in the closing row."""
        if not self._cut:
            self._obstacle, self._trouble = obstacle, detail
            self.cut("overlay-down")

    def _is_cut(self) -> bool:
        return bool(self._cut)

    def _moved(self) -> bool:
        """Whether the zone has another interface or gateway than the one that the target was dialled by."""
        then = self._zone
        now = self._worker.law.policy.inventory.zones.get(then.name) if then is not None else None
        return then is None or now is None or (then.interface, then.gateway) != (now.interface, now.gateway)

    def _judge(self, identity: Identity) -> tuple[Verdict, str]:
        try:
            target = targets.parse(self._host, self._port)
        except InputRejected as error:
            asked = f"{escape(self._host, 80)}:{self._port}"
            return Verdict(reason=Reason.BAD_TARGET, detail=error.what), asked
        return self._worker.law.judge(identity, target), str(target)

    async def _dial(self, destination: Destination) -> socket.socket:
        zone = self._zone = self._worker.law.policy.inventory.zones.get(destination.zone)
        if zone is None:
            raise DialFailed("policy-changed", f"there is no zone {destination.zone} any more")
        self.way = find(zone, destination)
        timeout = self._worker.law.settings.limits.dial_timeout
        sock, self.way = await dial(self.way, destination.port, timeout, self._worker.zones.owns)
        return sock

    def _failed(self, reason: str, detail: str, obstacle: str = "") -> NotOpened:
        self._obstacle = self._obstacle or obstacle
        self._close(reason, detail)
        return NotOpened(words.failed(reason, self.id))

    def _interrupted(self) -> NotOpened | asyncio.CancelledError:
        """Cut while it was being opened: who lost the zone is told so, who is gone hears nothing."""
        refusal = self._failed(self._cut or "connection-lost", self._trouble or "while it was being opened")
        return refusal if self._obstacle else asyncio.CancelledError()

    def _finished(self, pipe: Pipe, reason: str) -> None:
        detail = self._trouble
        if reason != self._cut:  # it ended by itself, maybe a moment before it was cut
            detail = self._obstacle = ""
            if self.way is not None:
                reason, detail, self._obstacle = why(self.way, reason, "")
        self._close(reason, detail)
        if self._ended is not None:
            self._ended(self, pipe)

    def _close(self, reason: str, detail: str) -> None:
        self.way = None  # nothing to look at any more
        if not self._rowed:
            return
        self._rowed = False
        self._worker.forwards.pop(self.id, None)
        fields = {key: value for key, value in self._fields.items() if value not in ("", None)}
        fields |= {
            "sent": self._pipe.sent if self._pipe else 0,
            "received": self._pipe.received if self._pipe else 0,
            "duration": self._worker.now_us() - self._since,
            "reason": reason,
            "detail": detail,
        }
        if self._obstacle:
            fields["obstacle"] = self._obstacle
        self._worker.reports.note("forward.closed", fields)


def _abandon(dialling: "asyncio.Task[socket.socket]") -> None:
    """Cancel a dial that nobody waits for any more; a socket that it still gives is closed, never left open."""

    def close(task: "asyncio.Task[socket.socket]") -> None:
        if not task.cancelled() and task.exception() is None:
            task.result().close()

    dialling.add_done_callback(close)
    dialling.cancel()
