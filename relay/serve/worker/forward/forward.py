"""The path of one forward, from the request to its closing row, in the order in which it is read.

`open` is the whole of it: parse the target and decide; send the opening row and dial the authorized address in
parallel; wait for both; check that it is still allowed; give the pipe, whose channel asyncssh then confirms.
"""

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from relay.core.audit.event import Value
from relay.core.escape import escape
from relay.core.policy.model import Decision, Destination, Identity, Reason, Zone
from relay.core.policy.target import parse_target
from relay.errors import InputRejected
from relay.net.kernel.egress_path import EgressPath, explain_failure
from relay.net.kernel.route_guard import Obstacle
from relay.serve.authorizer import DecisionInputs, Revocation
from relay.serve.worker import client_messages
from relay.serve.worker.audit_client import Busy
from relay.serve.worker.forward.context import WorkerContext
from relay.serve.worker.forward.dial import DialFailed, dial, find_path
from relay.serve.worker.forward.pipe import Pipe
from relay.serve.worker.statistics import ThroughputMeter


class ForwardOwner(Protocol):
    """What a forward needs of its session."""

    @property
    def id(self) -> str:
        """The connection's id."""

    @property
    def identity(self) -> Identity:
        """The person, key and source, fixed at log-in."""

    @property
    def facts(self) -> Mapping[str, Value]:
        """The fields that every row of the session carries."""

    @property
    def writable(self) -> bool:
        """Whether the client's TCP connection has room."""

    def record_denied(self, asked: str, decision: Decision) -> str:
        """Record a denied forward; the id for the client."""

    def forward_ended(self, forward: "Forward", pipe: Pipe) -> None:
        """An open forward has ended, and its closing row is on its way."""


class NotOpened(Exception):
    """The channel must not be confirmed: `text` for the client, `prohibited` for a denial (RFC 4254 5.1)."""

    def __init__(self, text: str, *, prohibited: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.prohibited = prohibited


@dataclass(frozen=True, slots=True)
class _End:
    """Why a forward is ended from outside; `shown`: while it is being opened the client gets the reason."""

    reason: str
    detail: str = ""
    obstacle: str = ""  # what is wrong with the zone
    by: Mapping[str, Value] = field(default_factory=dict)  # the administrator's part of the closing row
    shown: bool = False


class Forward:
    """One direct-tcpip channel and its TCP connection to a target."""

    def __init__(self, context: WorkerContext, session: ForwardOwner, host: bytes, port: int) -> None:
        self._context = context
        self._session = session
        self._host = host
        self._port = port
        self._dialling: asyncio.Task[socket.socket] | None = None
        self._pipe: Pipe | None = None
        self._end: _End | None = None
        self._has_row = False  # the opening row may exist, and has no closing row yet
        self._fields: dict[str, Value] = {}  # of both rows
        self._since = 0
        self._meter = ThroughputMeter(asyncio.get_running_loop().time())
        self._reported = (0, 0)  # bytes that the statistics have
        self._zone: Zone | None = None  # as it was when the target was dialled
        self.id = ""
        self.destination: Destination | None = None
        self.path: EgressPath | None = None  # from the dial until the end
        self.recorded = False  # the opening row is durable, and the closing row is not sent yet

    async def open(self) -> Pipe:
        """The session of the channel, once its opening row is durable and the target is connected.

        Raises NotOpened for a denial or failure, CancelledError if the client has gone. Then no byte has flowed, and a
        row that may have been written is closed.
        """
        inputs = self._context.authorizer.inputs()
        decision, asked = self._decide()
        if not decision.allowed or decision.destination is None:
            reference = self._session.record_denied(asked, decision)
            raise NotOpened(client_messages.refused(decision, reference), prohibited=True)
        self._allowed(decision, decision.destination, asked)
        try:
            row = self._context.audit.send_opening(self.id, self._fields)  # before anything else is done
            self._has_row = True
            self._dialling = asyncio.create_task(self._dial(decision.destination), name=f"dial {self.id}")
            await row.durable()  # no row, no bytes
            self.recorded = True
            sock = await self._dialling
            self._check_still_allowed(inputs, asked)
            limiter = self._context.limits.rates.acquire(self._session.identity.person)
            self._pipe = Pipe(
                sock,
                self._pipe_ended,
                readable=self._session.writable,
                limiter=limiter,
                writer=self._context.writer,
                pacer=self._context.pacer,
            )
            return self._pipe
        except (Exception, asyncio.CancelledError) as error:
            raise self._not_opened(error) from None
        finally:
            if self._pipe is None and self._dialling is not None:
                _abandon(self._dialling)

    # ---- the steps of opening

    def _decide(self) -> tuple[Decision, str]:
        """Parse the target and decide; the second value is the target for the audit log."""
        try:
            requested = parse_target(self._host, self._port)
        except InputRejected as error:
            asked = f"{escape(self._host, 80)}:{self._port}"
            return Decision(reason=Reason.BAD_TARGET, detail=error.what), asked
        return self._context.authorizer.decide(self._session.identity, requested), str(requested)

    def _allowed(self, decision: Decision, destination: Destination, asked: str) -> None:
        rule = decision.rule
        self.id = self._context.make_id()
        self._since = self._context.now_us()
        self.destination = destination
        self._fields = {
            **self._session.facts,
            "forward": self.id,
            "asked": asked,
            "zone": destination.zone,
            "address": str(destination.address),
            "port": destination.port,
            "rule": rule.name if rule else "",
            "rule_at": f"{rule.file}:{rule.line}" if rule else "",
            "policy": self._context.authorizer.policy.version,
        }

    async def _dial(self, destination: Destination) -> socket.socket:
        """Connect to the authorized address through its zone's interface. Raises DialFailed."""
        authorizer, limits = self._context.authorizer, self._context.limits
        zone = self._zone = authorizer.policy.inventory.zones.get(destination.zone)
        if zone is None:
            raise DialFailed("policy-changed", f"there is no zone {destination.zone} any more")
        self.path = find_path(zone, destination)
        timeout = authorizer.settings.limits.dial_timeout
        async with limits.dials.slot(self._session.identity.person, timeout):
            with self._context.statistics.dialling(zone.name):
                sock, self.path = await dial(self.path, destination.port, timeout, self._context.owns_address)
        return sock

    def _check_still_allowed(self, inputs: DecisionInputs, asked: str) -> None:
        """Decide again if anything has changed that the decision depended on. Raises CancelledError when it is over."""
        if self._end is None and not self._context.authorizer.is_unchanged(inputs):
            decision, _ = self._decide()
            revocation = self.revocation()
            if revocation is None and decision.destination != self.destination:
                detail = f"{asked} means {decision.destination or 'nothing'} now"
                revocation = Revocation("policy-changed", detail)
            if revocation is not None:
                self.revoke(revocation)
        if self._end is not None:
            raise asyncio.CancelledError

    def _not_opened(self, error: BaseException) -> NotOpened | asyncio.CancelledError:
        """Close the row, and turn `error` into the client's answer: nothing if the client itself has gone."""
        match error:
            case Busy():
                self._has_row = self._has_row and not error.refused
                self._close("busy", str(error))
                if error.limit:
                    return NotOpened(client_messages.limited(error.limit, self.id), prohibited=True)
                return NotOpened(client_messages.failed("busy", self.id))
            case DialFailed() if self._end is None:
                self._close(error.reason, error.detail, error.obstacle)
                return NotOpened(client_messages.failed(error.reason, self.id))
            case DialFailed() | asyncio.CancelledError():  # ended from outside, or the client has gone
                end = self._end or _End("connection-lost")
                self._close(end.reason, end.detail or "while it was being opened", end.obstacle, end.by)
                if end.shown:
                    return NotOpened(f"relay: {client_messages.ended(end.reason)} (id {self.id})", prohibited=True)
                if end.obstacle:
                    return NotOpened(client_messages.failed(end.reason, self.id))
                return asyncio.CancelledError()
            case _:  # a bug: the row is closed, and no slot is kept
                self._context.audit.report_bug(error)
                self._close("internal-error", repr(error))
                return NotOpened(client_messages.failed("internal-error", self.id))

    # ---- ending it from outside

    def revocation(self) -> Revocation | None:
        """The reason why it must not continue or be opened; None while it is allowed."""
        if self._end is not None or self.destination is None:
            return None
        return self._context.authorizer.revocation(self._session.identity, self.destination, self._zone)

    def revoke(self, reason: Revocation, by: Mapping[str, Value] | None = None, *, quiet: bool = False) -> None:
        """End it because it is no longer allowed, or an administrator ends it; while it opens the client is told.

        `by`: the fields that name the administrator. `quiet`: the whole connection ends, and says why.
        """
        self._end_now(_End(reason.reason, reason.detail, by=by or {}, shown=True), quiet=quiet)

    def zone_failed(self, obstacle: Obstacle, detail: str) -> None:
        """End it because its zone is no longer what it was; the obstacle stands in the closing row."""
        self._end_now(_End("overlay-down", detail, obstacle))

    def abort(self, reason: str, *, quiet: bool = False) -> None:
        """End it with its connection or process."""
        self._end_now(_End(reason), quiet=quiet)

    def _end_now(self, end: _End, *, quiet: bool = False) -> None:
        if self._end is None:
            self._end = end
        if self._pipe is not None:
            self._pipe.abort(self._end.reason, quiet=quiet)
        elif self._dialling is not None:
            self._dialling.cancel()

    # ---- the end

    def _pipe_ended(self, pipe: Pipe, reason: str) -> None:
        self._context.limits.rates.release(self._session.identity.person)
        if self._end is not None and reason == self._end.reason:
            self._close(reason, self._end.detail, self._end.obstacle, self._end.by)
        elif self.path is not None:  # it ended by itself, maybe a moment before it was ended: is it the zone's fault?
            self._close(*explain_failure(self.path, reason, ""))
        else:
            self._close(reason, "")
        self._session.forward_ended(self, pipe)

    def _close(self, reason: str, detail: str, obstacle: str = "", by: Mapping[str, Value] | None = None) -> None:
        """Send the closing row, if there may be an opening row that has none."""
        self.path = None
        self.recorded = False
        if not self._has_row:
            return
        self._has_row = False
        self._context.statistics.count_bytes(self)
        sent, received = self.total_bytes()
        fields = {key: value for key, value in self._fields.items() if value not in ("", None)}
        fields |= {
            "sent": sent,
            "received": received,
            "duration": self._context.now_us() - self._since,
            "reason": reason,
            "detail": detail,
        }
        fields |= {key: value for key, value in (by or {}).items() if value is not None}
        if obstacle:
            fields["obstacle"] = obstacle
        self._context.audit.note("forward.closed", fields)

    # ---- what is shown of it

    @property
    def is_open(self) -> bool:
        """Whether its channel was confirmed, so that bytes may flow."""
        return self._pipe is not None

    def total_bytes(self) -> tuple[int, int]:
        """Bytes to and from the target so far."""
        return (self._pipe.sent, self._pipe.received) if self._pipe is not None else (0, 0)

    def take_delta(self) -> tuple[int, int]:
        """Bytes to and from the target since the last call (for the statistics)."""
        before, self._reported = self._reported, self.total_bytes()
        return self._reported[0] - before[0], self._reported[1] - before[1]

    def measure(self, now: float) -> None:
        """Measure its throughput; called about once a second. `now` is the loop's time."""
        self._meter.measure(now, *self.total_bytes())

    def slot(self) -> dict[str, str]:
        """The message `holding`: what a new supervisor needs to know of it."""
        fields = self._fields
        return {
            "t": "holding",
            "f": self.id,
            "c": self._session.id,
            "person": str(fields["person"]),
            "key": str(fields["fingerprint"]),
            "target": f"{fields['zone']} {fields['address']}:{fields['port']}",
        }

    def listed(self) -> dict[str, Value]:
        """Its row of the message `listing`, for `relayctl connections`."""
        now, zone = asyncio.get_running_loop().time(), self._zone
        self.measure(now)
        sent, received = self.total_bytes()
        return {
            "f": self.id,
            "c": self._session.id,
            "state": "open" if self.is_open else "opening",
            **{key: self._fields.get(key) for key in ("asked", "zone", "address", "port", "rule", "rule_at")},
            "since": self._since,
            "sent": sent,
            "received": received,
            "sent_rate": self._meter.sent_rate,
            "received_rate": self._meter.received_rate,
            "idle": round(self._meter.idle(now)),
            "interface": zone.interface if zone is not None else None,
            "gateway": str(zone.gateway) if zone is not None and zone.gateway is not None else None,
        }


def _abandon(dialling: "asyncio.Task[socket.socket]") -> None:
    """Cancel a dial that is no longer wanted; if it still gives a socket, the socket is closed."""

    def close(task: "asyncio.Task[socket.socket]") -> None:
        if not task.cancelled() and task.exception() is None:
            task.result().close()

    dialling.add_done_callback(close)
    dialling.cancel()
