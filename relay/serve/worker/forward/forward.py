"""How one forward is opened and closed: the path of DESIGN.md, in one place, read from top to bottom.

parse the target -> judge -> in parallel: opening row and slot at the supervisor, dial of the judged address
-> both done, snapshot unchanged or judged again -> the channel is confirmed -> pipe -> closing row
"""

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from relay.core.audit.event import Value
from relay.core.escape import escape
from relay.core.policy import target as targets
from relay.core.policy.model import Decision, Destination, Identity, Reason, Zone
from relay.errors import InputRejected
from relay.net.kernel.egress_path import EgressPath, why
from relay.net.kernel.route_guard import Obstacle
from relay.serve.authorizer import Revocation
from relay.serve.worker import client_messages
from relay.serve.worker.audit_client import Busy
from relay.serve.worker.forward.dial import DialFailed, dial, find
from relay.serve.worker.forward.pipe import Pipe
from relay.serve.worker.forward_meter import ForwardMeter

if TYPE_CHECKING:
    from relay.serve.worker.process import Worker
    from relay.serve.worker.session import Adapter


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
        self._forbidden = False  # cut because it is no longer allowed, or because somebody wants it to end
        self._by: Mapping[str, Value] = {}  # who wants that
        self._meter = ForwardMeter(worker.loop.time())
        self._rowed = False
        self._fields: dict[str, Value] = {}
        self._since = 0
        self._flowed = (0, 0)  # bytes that were told already
        self.id = ""
        self.destination: Destination | None = None
        self._zone: Zone | None = None  # as it was when the target was dialled
        self.way: EgressPath | None = None  # by which it was dialled, from the moment that it is

    async def open(self, writable: Callable[[], bool], ended: Callable[["Forward", Pipe], None]) -> Pipe:
        """The session of the channel, once its opening row is durable and the target connected.

        Raises NotOpened for a denial or failure; then no byte has flowed, and a row that was written is closed.
        """
        worker, identity = self._worker, self._owner.identity
        if identity is None:  # cannot happen: the protocol layer refuses channels before log-in
            raise NotOpened(client_messages.BUSY)
        moment = worker.law.moment()
        verdict, asked = self._judge(identity)
        if not verdict.allowed or verdict.destination is None:
            raise NotOpened(client_messages.refused(verdict, self._owner.denied(asked, verdict)), prohibited=True)
        self.destination = destination = verdict.destination
        rule = verdict.rule
        self.id = worker.make_id()
        self._since = worker.now_us()
        own: dict[str, Value] = {
            "forward": self.id,
            "asked": asked,
            "zone": destination.zone,
            "address": str(destination.address),
            "port": destination.port,
            "rule": rule.name if rule else "",
            "rule_at": f"{rule.file}:{rule.line}" if rule else "",
            "policy": worker.law.policy.version,
        }
        self._fields = {**self._owner.facts(), **own}
        sock: socket.socket | None = None
        dialling: asyncio.Task[socket.socket] | None = None
        try:
            self._rowed = True  # from here on the row may exist, so it will be closed
            # on its way before anything else is done
            row = worker.reports.send_opening(self.id, self._fields)
            dialling = self._task = asyncio.create_task(self._dial(destination), name=f"dial {self.id}")
            await row.durable()
            worker.forwards[self.id] = self  # a new supervisor is told of it, also while it is dialled
            if self._is_cut():
                raise asyncio.CancelledError
            sock = await dialling
        except Busy as busy:
            self._rowed = not busy.refused
            raise self._failed("busy", str(busy), limit=busy.limit) from None
        except DialFailed as failure:
            raise self._failed(failure.reason, failure.detail, failure.obstacle) from None
        except asyncio.CancelledError:
            raise self._interrupted() from None
        except Exception as error:  # a bug of ours: it gets its closing row, and keeps no slot
            worker.bug(error)
            raise self._failed("internal-error", repr(error)) from None
        finally:
            if sock is None and dialling is not None:
                _abandon(dialling)
        # the law may be another one, or the hour: if they are, it is asked again at the last moment
        if not worker.law.is_still(moment):
            self._judge_again(identity, destination, asked)
        if self._is_cut():
            sock.close()
            raise self._interrupted()
        self._ended = ended
        purse = worker.portion.purses.take(identity.person)
        self._pipe = Pipe(
            sock,
            self._finished,
            readable=writable(),
            purse=purse,
            frame=worker.frame,
            patience=worker.patience,
        )
        return self._pipe

    def flowed(self) -> tuple[int, int]:
        """Bytes sent and received since this was last asked (see figures)."""
        before = self._flowed
        self._flowed = (self._pipe.sent, self._pipe.received) if self._pipe is not None else before
        return self._flowed[0] - before[0], self._flowed[1] - before[1]

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

    def listed(self) -> dict[str, Value]:
        """What it is and how it flows, for `relayctl connections` (the message `listing`)."""
        fields, zone, now = self._fields, self._zone, self._worker.loop.time()
        sent, received = self.flown()
        self._meter.look(now, sent, received)
        return {
            "f": self.id,
            "c": self._owner.id,
            "state": "open" if self.is_open else "opening",
            **{key: fields.get(key) for key in ("asked", "zone", "address", "port", "rule", "rule_at")},
            "since": self._since,
            "sent": sent,
            "received": received,
            "sent_rate": self._meter.sent_rate,
            "received_rate": self._meter.received_rate,
            "idle": round(self._meter.idle(now)),
            "interface": zone.interface if zone is not None else None,
            "gateway": str(zone.gateway) if zone is not None and zone.gateway is not None else None,
        }

    @property
    def is_open(self) -> bool:
        """Whether its channel was confirmed, so that bytes may flow."""
        return self._pipe is not None

    def flown(self) -> tuple[int, int]:
        """Bytes to and from the target so far."""
        return (self._pipe.sent, self._pipe.received) if self._pipe is not None else (0, 0)

    def look(self, now: float) -> None:
        """Measure how it flows; called about once a second. `now` is the loop's time."""
        self._meter.look(now, *self.flown())

    def objection(self) -> Revocation | None:
        """Why it may not go on, or not be opened any more; None while it may."""
        if self._cut or self._owner.identity is None or self.destination is None:
            return None
        return self._worker.law.objection(self._owner.identity, self.destination, self._zone)

    def forbid(self, why: Revocation, by: Mapping[str, Value] | None = None, *, quiet: bool = False) -> None:
        """End it because it may not go on; while it is being opened the client is told. `by`: fields of who says so.

        `quiet`: the whole connection ends and says why.
        """
        if not self._cut:
            self._trouble, self._forbidden, self._by = why.detail, True, by or {}
            self.cut(why.reason, quiet=quiet)

    def cut(self, reason: str, *, quiet: bool = False) -> None:
        """End it now; during a dial the dial is cancelled."""
        self._cut = self._cut or reason
        if self._pipe is not None:
            self._pipe.cut(reason, quiet=quiet)
        elif self._task is not None:
            self._task.cancel()

    def obstruct(self, obstacle: Obstacle, detail: str) -> None:
        """End it because its zone is not what it was; the obstacle stands in the closing row."""
        if not self._cut:
            self._obstacle, self._trouble = obstacle, detail
            self.cut("overlay-down")

    def _is_cut(self) -> bool:
        return bool(self._cut)

    def _judge(self, identity: Identity) -> tuple[Decision, str]:
        try:
            target = targets.parse(self._host, self._port)
        except InputRejected as error:
            asked = f"{escape(self._host, 80)}:{self._port}"
            return Decision(reason=Reason.BAD_TARGET, detail=error.what), asked
        return self._worker.law.judge(identity, target), str(target)

    def _judge_again(self, identity: Identity, destination: Destination, asked: str) -> None:
        if self._is_cut():
            return
        again, _ = self._judge(identity)
        why = self.objection()
        if why is None and again.destination != destination:
            why = Revocation("policy-changed", f"{asked} means {again.destination or 'nothing'} now")
        if why is not None:
            self.forbid(why)

    async def _dial(self, destination: Destination) -> socket.socket:
        zone = self._zone = self._worker.law.policy.inventory.zones.get(destination.zone)
        if zone is None:
            raise DialFailed("policy-changed", f"there is no zone {destination.zone} any more")
        self.way = find(zone, destination)
        timeout = self._worker.law.settings.limits.dial_timeout
        dials, person = self._worker.portion.dials, str(self._fields["person"])
        await dials.enter(person, timeout)
        try:
            with self._worker.figures.dialling(zone.name):
                sock, self.way = await dial(self.way, destination.port, timeout, self._worker.zones.owns)
        finally:
            dials.leave(person)
        return sock

    def _failed(self, reason: str, detail: str, obstacle: str = "", limit: str = "") -> NotOpened:
        self._obstacle = self._obstacle or obstacle
        self._close(reason, detail)
        if limit:
            return NotOpened(client_messages.limited(limit, self.id), prohibited=True)
        return NotOpened(client_messages.failed(reason, self.id))

    def _interrupted(self) -> NotOpened | asyncio.CancelledError:
        """Cut while it was being opened: who lost the zone or the permission is told so, who is gone hears nothing."""
        refusal = self._failed(self._cut or "connection-lost", self._trouble or "while it was being opened")
        if self._forbidden:
            return NotOpened(f"relay: {client_messages.ended(self._cut)} (id {self.id})", prohibited=True)
        return refusal if self._obstacle else asyncio.CancelledError()

    def _finished(self, pipe: Pipe, reason: str) -> None:
        if self._owner.identity is not None:
            self._worker.portion.purses.give_back(self._owner.identity.person)
        detail = self._trouble
        if reason != self._cut:  # it ended by itself, maybe a moment before it was cut
            detail = self._obstacle = ""
            self._by = {}
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
        self._worker.figures.flowed(self)
        fields = {key: value for key, value in self._fields.items() if value not in ("", None)}
        fields |= {
            "sent": self._pipe.sent if self._pipe else 0,
            "received": self._pipe.received if self._pipe else 0,
            "duration": self._worker.now_us() - self._since,
            "reason": reason,
            "detail": detail,
        }
        fields |= {key: value for key, value in self._by.items() if value is not None}
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
