"""One authenticated connection: its identity, which never changes, its forwards, and the requests it was denied.

`Authentication` makes it when the client has proven a key. Nothing may escape a hook of asyncssh: an exception there
would end the whole connection.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncssh
from asyncssh.constants import (
    DISC_NO_MORE_AUTH_METHODS_AVAILABLE,
    OPEN_ADMINISTRATIVELY_PROHIBITED,
    OPEN_CONNECT_FAILED,
)

from relay.core.audit.event import Value
from relay.core.escape import escape
from relay.core.keys.authorized_keys import Key
from relay.core.policy.model import Address, Decision, Identity, Reason
from relay.core.policy.reachable_targets import reach
from relay.serve.authorizer import Revocation
from relay.serve.worker import client_messages
from relay.serve.worker.forward.context import WorkerContext
from relay.serve.worker.forward.forward import Forward, NotOpened
from relay.serve.worker.forward.pipe import Pipe
from relay.serve.worker.ssh.connection import Connection

MAX_REFUSED_KINDS = 64  # different refused requests kept apart per connection; the rest is counted as one
MAX_DENIED = 1024  # different denied targets likewise: a person with a valid key cannot fill the disk with denials
OTHERS = "(others)"

Ended = Callable[[str, str, bool], None]  # connection id, failure class, whether a key exchange had begun


@dataclass(frozen=True, slots=True)
class Client:
    """A client's connection, as the supervisor handed it over."""

    id: str
    source: Address
    port: int
    since_us: int


def disconnect(connection: Connection, text: str) -> None:
    """Disconnect soon, with that reason: not from inside asyncssh's own packet handler."""
    asyncio.get_running_loop().call_soon(connection.end, DISC_NO_MORE_AUTH_METHODS_AVAILABLE, text)


class Session(asyncssh.SSHServer):
    """What one person's connection may do, does, and has done."""

    def __init__(
        self,
        context: WorkerContext,
        client: Client,
        connection: Connection,
        *,
        identity: Identity,
        key: Key,
        login: str,
        ended: Ended,
    ) -> None:
        """`login` is the user name that the client gave; `ended` is called once, when the connection is over."""
        self.id = client.id
        self.client = client
        self.identity = identity
        self.key = key
        self.forwards = 0  # open or being opened
        self._context = context
        self._connection = connection
        self._ended = ended
        self._opened = 0  # forwards that were confirmed, in all
        self._forwards: dict[Forward, int] = {}  # -> the window that was lent to its channel
        self._denied: dict[tuple[str, Reason], str] = {}  # -> id of the row
        self._denied_again: Counter[tuple[str, Reason]] = Counter()
        self._refused: Counter[tuple[str, str]] = Counter()
        self._end = ""
        self.facts: Mapping[str, Value] = {
            "connection": client.id,
            "person": identity.person,
            "login": escape(login, 64),
            "credential": identity.credential,
            "fingerprint": identity.fingerprint,
            "expires": key.expires,
            "client": str(client.source),
            "client_port": client.port,
            "client_version": escape(str(connection.get_extra_info("client_version", "")), 100),
            "worker": context.worker,
        }

    # ---- forwards

    def may_open(self) -> bool:
        """Whether one more forward is within the limits of a connection."""
        return not self._end and self.forwards < self._context.authorizer.settings.limits.forwards_per_connection

    def lend(self) -> int:
        """The window of one more forward; 0: there is no memory left for it."""
        return self._context.limits.windows.lend(self.forwards)

    def forward(self, host: bytes, port: int, lent: int) -> Coroutine[Any, Any, Pipe]:
        """The coroutine that opens a forward; it counts from now on, so that a flood of opens is bounded."""
        forward = Forward(self._context, self, host, port)
        self._forwards[forward] = lent
        self.forwards += 1
        return self._open(forward)

    async def _open(self, forward: Forward) -> Pipe:
        pipe = None
        try:
            pipe = await forward.open()
            if self._connection.ended:
                pipe.abort("connection-lost")
            else:
                self._opened += 1
                self._connection.pipes.add(pipe)
            return pipe
        except NotOpened as refusal:
            code = OPEN_ADMINISTRATIVELY_PROHIBITED if refusal.prohibited else OPEN_CONNECT_FAILED
            raise asyncssh.ChannelOpenError(code, refusal.text) from None
        except asyncio.CancelledError:
            raise asyncssh.ChannelOpenError(OPEN_CONNECT_FAILED, "relay: cancelled") from None
        except Exception as error:  # nothing may escape: the connection has other forwards
            self._context.audit.report_bug(error)
            raise asyncssh.ChannelOpenError(OPEN_CONNECT_FAILED, client_messages.BUSY) from None
        finally:
            if pipe is None:
                self._forget(forward)

    def forward_ended(self, forward: Forward, pipe: Pipe) -> None:
        """An open forward has ended, and its closing row is on its way."""
        self._forget(forward)
        self._connection.pipes.discard(pipe)

    def _forget(self, forward: Forward) -> None:
        if forward in self._forwards:
            self.forwards -= 1
            self._context.limits.windows.give_back(self._forwards.pop(forward))

    def held(self) -> tuple[Forward, ...]:
        """Its forwards, including those that are being opened."""
        return tuple(self._forwards)

    @property
    def writable(self) -> bool:
        """Whether the client's TCP connection has room."""
        return self._connection.writable

    # ---- denials and refusals

    def record_denied(self, asked: str, decision: Decision) -> str:
        """Record a denied forward; equal ones of this connection are one row. The id for the client."""
        self._context.statistics.denied(decision.reason.value)
        key = asked, decision.reason
        if key not in self._denied and len(self._denied) >= MAX_DENIED:
            key = OTHERS, decision.reason  # a scan: its first targets are on record, the rest is counted
        if key in self._denied:
            self._denied_again[key] += 1
            return self._denied[key]
        reference = self._denied[key] = self._context.make_id()
        fields: dict[str, Value] = {**self.facts, "asked": key[0], "reason": decision.reason.value}
        if decision.destination is not None:
            fields |= {
                "zone": decision.destination.zone,
                "address": str(decision.destination.address),
                "port": decision.destination.port,
            }
        if decision.rule is not None:
            fields |= {"rule": decision.rule.name, "rule_at": f"{decision.rule.file}:{decision.rule.line}"}
        fields |= {"detail": decision.detail, "policy": self._context.authorizer.policy.version}
        self._context.audit.note("forward.denied", fields, reference)
        return reference

    def refused(self, kind: str, name: bytes) -> str:
        """Record a request that is not direct-tcpip; equal ones of this connection are one row. The client's text."""
        self._context.statistics.refused(kind)
        shown = escape(name, 64)
        if (kind, shown) not in self._refused and len(self._refused) >= MAX_REFUSED_KINDS:
            shown = OTHERS
        self._refused[kind, shown] += 1
        reference = self.id
        if self._refused[kind, shown] == 1:
            reference = self._context.make_id()
            fields: dict[str, Value] = {**self.facts, "kind": kind, "type": shown, "count": 1}
            self._context.audit.note("request.refused", fields, reference)
        if kind == "channel" and name == b"session":
            return self._no_shell(reference)
        return f"relay: only forwards are possible here (id {reference})"

    def _no_shell(self, reference: str) -> str:
        """What `ssh relay` shows: the person, the key's end, and what may be reached now."""
        authorizer = self._context.authorizer
        targets = reach(authorizer.policy, self.identity.person, self.identity.source, self._context.now())
        shown = [str(target) for target in itertools.islice(targets, client_messages.MAX_TARGETS)]
        return client_messages.no_shell(
            self.identity.person, self.key.expires, shown, authorizer.settings.public, reference
        )

    # ---- whether it may continue

    def check_key(self) -> None:
        """End the connection if its key may no longer be used."""
        revocation = None if self._end else self._context.authorizer.key_revocation(self.identity)
        if revocation is not None:
            self.revoke(revocation)

    def check_forwards(self) -> Iterator[None]:
        """End the forwards that are no longer allowed, including those that are being opened.

        A connection may have any number of them: between two of them other work may be done.
        """
        if self._end:
            return
        now = asyncio.get_running_loop().time()
        revoked = []
        for forward in self.held():
            forward.measure(now)
            revocation = forward.revocation()
            if revocation is not None:
                revoked.append((forward, revocation))
            yield
        if not self._end:
            self.revoke_forwards([(forward, reason) for forward, reason in revoked if forward in self._forwards])

    def revoke_forwards(
        self, revoked: Sequence[tuple[Forward, Revocation]], by: Mapping[str, Value] | None = None
    ) -> None:
        """End these forwards. If none is left the connection ends too: a channel cannot say why it was closed."""
        last = len(revoked) == len(self._forwards) and any(forward.is_open for forward, _ in revoked)
        for forward, reason in revoked:
            forward.revoke(reason, by, quiet=last)
        if last:
            reason = revoked[0][1]
            self.end(reason.reason, client_messages.ended(reason.reason))

    def revoke(self, reason: Revocation, by: Mapping[str, Value] | None = None) -> None:
        """End the connection because it must not continue. `by`: the fields that name the administrator."""
        for forward in self.held():
            forward.revoke(reason, by, quiet=True)
        self.end(reason.reason, client_messages.ended(reason.reason))

    # ---- the end

    def end(self, reason: str, text: str) -> None:
        """End the connection and its forwards, with the reason on record and told to the client."""
        self._end = self._end or reason
        for forward in self.held():
            forward.abort(reason, quiet=True)
        disconnect(self._connection, f"relay: {text} (id {self.id})")

    def bug(self, error: BaseException | None) -> None:
        """An unexpected exception ended this connection."""
        self._end = self._end or "internal-error"
        if error is not None:
            self._context.audit.report_bug(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over: dials are cancelled, forwards get their closing rows, the connection its own."""
        for forward in self.held():
            forward.abort(self._end or "connection-lost")
            self._forget(forward)  # also if asyncssh never began to open it
        audit = self._context.audit
        for (kind, shown), count in self._refused.items():
            if count > 1:
                audit.note("request.refused", {**self.facts, "kind": kind, "type": shown, "count": count - 1})
        for (asked, reason), count in self._denied_again.items():
            audit.note("forward.denied", {**self.facts, "asked": asked, "reason": reason.value, "count": count})
        closing: dict[str, Value] = {
            **self.facts,
            "reason": self._end or close_reason(exc),
            "detail": escape(str(exc), 200) if exc is not None else "",
            "duration": self._context.now_us() - self.client.since_us,
            "forwards": self._opened,
        }
        audit.note("connection.closed", closing)
        self._ended(self.id, "", True)

    def listed(self) -> dict[str, Value]:
        """Its row of the message `listing`, for `relayctl connections`."""
        return {
            "c": self.id,
            "state": "open",
            "person": self.identity.person,
            "key": self.identity.fingerprint,
            "touched": self.identity.touched,
            "verified": self.identity.verified,
            "expires": self.key.expires,
            "client": str(self.client.source),
            "port": self.client.port,
            "login": self.facts["login"],
            "version": self.facts["client_version"],
            "since": self.client.since_us,
        }


def close_reason(exc: Exception | None) -> str:
    """The stable word of connection.closed for asyncssh's reason."""
    if exc is None:
        return "client-closed"
    if isinstance(exc, asyncssh.ProtocolError):
        return "protocol-error"
    if "keepalive" in str(exc):
        return "client-silent"
    return "client-gone" if isinstance(exc, asyncssh.ConnectionLost) else "connection-lost"
