"""Who a connection is, and what it may ask: the hooks of asyncssh, answered with core's values.

Nothing may escape a hook: an exception there would end the whole connection. Identity is frozen once, in
`auth_completed`; until then every channel is refused by the protocol layer, afterwards nothing changes it.
"""

import asyncio
import datetime
import itertools
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import asyncssh
from asyncssh.constants import (
    DISC_NO_MORE_AUTH_METHODS_AVAILABLE,
    OPEN_ADMINISTRATIVELY_PROHIBITED,
    OPEN_CONNECT_FAILED,
)

from relay.core.audit.event import Value
from relay.core.escape import escape
from relay.core.keys import authorized_keys
from relay.core.keys.authorized_keys import Key
from relay.core.policy.model import Address, Decision, Identity, Reason
from relay.core.policy.reachable_targets import reach
from relay.serve.authorizer import Revocation
from relay.serve.ssh_algorithms import SIGNATURES
from relay.serve.worker import client_messages
from relay.serve.worker.forward.forward import Forward, NotOpened
from relay.serve.worker.forward.pipe import Pipe
from relay.serve.worker.ssh.connection import Connection
from relay.serve.worker.ssh.memory import drop_login_state

if TYPE_CHECKING:
    from relay.serve.worker.process import Worker

OFFERS = 100  # of keys in all, known ones too; a full agent has a dozen
BAD_SIGNATURES = 6  # as sshd's MaxAuthTries
KINDS = 64  # different refused requests kept apart per connection; the rest is counted as one
DENIALS = 1024  # different refused targets likewise: a person with a valid key cannot fill the disk with refusals
LOGIN_SECONDS = 0.02  # that the word of a log-in waits for its first forward, which mostly comes at once
OTHERS = "(others)"
# ends of a connection before log-in that are not to be held against its source
_OUR_OWN = ("supervisor-lost", "server-stopped", "internal-error", "too-many-connections", "key-revoked", "killed")


class Adapter(asyncssh.SSHServer):
    """One client: before log-in, at log-in, and what it asks for afterwards."""

    def __init__(self, worker: "Worker", number: str, source: str, port: int, slow: float = 0.0) -> None:
        """`slow`: its source is penalised, so it must offer a known key within so many seconds."""
        address = ip_address(source)
        mapped = getattr(address, "ipv4_mapped", None)
        self._worker = worker
        self.id = number
        self.source: Address = mapped or address
        self._port = port
        self._connection: Connection | None = None
        self.identity: Identity | None = None
        self.key: Key | None = None
        self._facts: Mapping[str, Value] | None = None
        self._proven: tuple[Key, bool, bool] | None = None  # key, touched, verified: only for the current user name
        self._unknown: dict[str, None] = {}  # fingerprints offered that nobody has
        self._offers = 0
        self._bad_signatures = 0
        self._told = False
        self._tell = ""
        self._login = ""
        self.forwards = 0
        self.opened = 0
        self._forwards: dict[Forward, int] = {}  # -> the window that was lent to it
        self._lent: list[int] = []  # windows of forwards that have not begun
        self._denied: dict[tuple[str, Reason], str] = {}
        self._denied_again: Counter[tuple[str, Reason]] = Counter()
        self._refused: Counter[tuple[str, str]] = Counter()
        self._end = ""
        self._early: str | None = None  # what to end it with, which came before the connection itself
        self._since = worker.now_us()
        self._known = False  # a known key was offered
        self._refused_key = False  # a known key was proven, but may not log in
        self._broken = False  # what came was no SSH
        self._timed_out = False  # the grace time passed
        self._slow = slow
        self._late: asyncio.TimerHandle | None = None

    # ---- before log-in

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """The TCP connection is here."""
        assert isinstance(conn, Connection)
        self._connection = conn
        if self._slow:  # from now on: what it waited for its turn in the lobby is not its fault
            self._late = self._worker.loop.call_later(self._slow, self._too_slow)
        if self._early is not None:
            self._disconnect(self._early)

    def begin_auth(self, username: str) -> bool:
        """A user name (again): what was learnt for another one is forgotten. Nobody gets in without a key."""
        self._login = username
        self._proven = None
        return True

    def public_key_auth_supported(self) -> bool:
        """The one way in."""
        return True

    def password_auth_supported(self) -> bool:
        """Never."""
        return False

    def kbdint_auth_supported(self) -> bool:
        """Offered once, after keys were refused, only to say why; it never succeeds."""
        return not self._told and (bool(self._unknown) or bool(self._tell))

    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:
        """The one round without prompts that carries our words (RFC 4256 3.2)."""
        self._told = True
        text = self._tell or client_messages.unknown_key(tuple(self._unknown), self._stranger("unknown-key"))
        return "", text, "", ()

    def validate_kbdint_response(self, username: str, responses: Any) -> bool:
        """It never succeeds."""
        return False

    def prove(self, username: str, blob: bytes, message: bytes, signature: bytes) -> bool:
        """Whether the offered key is known (empty `message`), or has signed for exactly this log-in."""
        self._proven = None
        self._offers += 1
        fingerprint = authorized_keys.fingerprint(blob)
        key = self._worker.law.keyring.keys.get(fingerprint)
        if key is None or key.blob != blob:
            self._unknown[fingerprint] = None
        if len(self._unknown) > self._worker.law.settings.limits.unknown_keys or self._offers > OFFERS:
            self._stranger("too-many-keys")
            self._disconnect(client_messages.TOO_MANY_KEYS)
            return False
        if key is None or key.blob != blob:
            return False
        self._known = True
        if self._worker.law.settings.login == "strict" and username != key.person:
            self._tell = client_messages.unusable_key(f"log in as {key.person}", self._stranger("wrong-name"))
            return False
        if not message:
            return True
        flags = _verify(blob, username, message, signature, self._session_id())
        if flags is None:
            self._bad_signatures += 1
            self._stranger("bad-signature")
            if self._bad_signatures >= BAD_SIGNATURES:
                self._disconnect("too many authentication failures")
            return False
        # the key is proven; it may still not log in: expired, not from here, touch or PIN missing
        touched, verified = bool(flags & 1), bool(flags & 4)
        identity = Identity(key.person, fingerprint, self.source, "key", touched, verified)
        problem = authorized_keys.login_refusal(key, identity, self._worker.now())
        if self._worker.law.is_frozen(fingerprint):
            problem = Reason.KEY_FROZEN, ""
        if problem is not None:
            self._refused_key = True
            self._tell = client_messages.unusable_key(
                client_messages.LOGIN.get(problem[0], "it may not log in now"), self._stranger(problem[0].value)
            )
            return False
        # asked again at the last moment: it may have been revoked between the offer and the signature
        if self._worker.law.keyring.keys.get(fingerprint) is not key:
            return False
        self._proven = key, touched, verified
        return True

    def auth_completed(self) -> None:
        """Freeze who this is. Called by asyncssh after its own success message; without a proof it ends here."""
        if self._proven is None or self.identity is not None or self._connection is None:
            self._disconnect("not authenticated")
            return
        self.key, touched, verified = self._proven
        self.identity = Identity(self.key.person, self.key.fingerprint, self.source, "key", touched, verified)
        self._unknown.clear()
        self._connection.start_keepalive()
        drop_login_state(self._connection)
        self._worker.authenticated(self)
        fields = {**self.facts(), "policy": self._worker.law.policy.version}
        self._worker.reports.note("login.succeeded", fields, delay=LOGIN_SECONDS)
        self.judge_key()  # the law may have changed since the signature

    def _too_slow(self) -> None:
        if not self._known:
            self._end = self._end or "too-slow"
            self._disconnect(client_messages.too_slow(self._stranger("too-slow")))

    def _unproven(self) -> str:
        """How it ended without a proven key, for its source's standing; "" when that is nobody's fault there."""
        if self.identity is not None or self._refused_key or self._end in _OUR_OWN:
            return ""
        if self._unknown or self._bad_signatures:
            return "failed"
        if self._broken:
            return "junk"
        return "timeout" if self._timed_out else "silent"

    def in_turn(self, job: Callable[[], None]) -> None:
        """Do it when there is time for those who have not proven a key."""
        self._worker.lobby.work(job)

    # ---- what a known person asks for

    def facts(self) -> Mapping[str, Value]:
        """The fields that every row of this connection carries. Put together once: nothing changes them."""
        if self._facts is not None:
            return self._facts
        who, key = self.identity, self.key
        assert who is not None and key is not None and self._connection is not None
        self._facts = {
            "connection": self.id,
            "person": who.person,
            "login": escape(self._login, 64),
            "credential": who.credential,
            "fingerprint": who.fingerprint,
            "expires": key.expires,
            "client": str(who.source),
            "client_port": self._port,
            "client_version": escape(str(self._connection.get_extra_info("client_version", "")), 100),
            "worker": self._worker.name,
        }
        return self._facts

    def may_open(self) -> bool:
        """Whether one more forward is within the limits of a connection."""
        most = self._worker.law.settings.limits.forwards_per_connection
        return self.identity is not None and not self._end and self.forwards < most

    def held(self) -> tuple[Forward, ...]:
        """Its forwards, those that are being opened too."""
        return tuple(self._forwards)

    def lend(self) -> int:
        """The window of one more forward; 0: there is no memory left for it."""
        return self._worker.portion.windows.lend(self.forwards)

    def forward(self, host: bytes, port: int, lent: int) -> Coroutine[Any, Any, Pipe]:
        """The coroutine that opens a forward; it counts from now on, so that a flood of opens is bounded."""
        self.forwards += 1
        self._lent.append(lent)
        return self._open(host, port, lent)

    async def _open(self, host: bytes, port: int, lent: int) -> Pipe:
        forward = Forward(self._worker, self, host, port)
        if lent in self._lent:
            self._lent.remove(lent)
            self._forwards[forward] = lent
        else:  # the connection is gone, and has given everything back
            self._forwards[forward] = 0
        pipe = None
        try:
            pipe = await forward.open(self._writable, self._ended)
            self._attach(pipe)
            return pipe
        except NotOpened as refusal:
            code = OPEN_ADMINISTRATIVELY_PROHIBITED if refusal.prohibited else OPEN_CONNECT_FAILED
            raise asyncssh.ChannelOpenError(code, refusal.text) from None
        except asyncio.CancelledError:
            raise asyncssh.ChannelOpenError(OPEN_CONNECT_FAILED, "relay: cancelled") from None
        except Exception as error:  # nothing may escape: the connection has other forwards
            self._worker.bug(error)
            raise asyncssh.ChannelOpenError(OPEN_CONNECT_FAILED, client_messages.BUSY) from None
        finally:
            if pipe is None:
                self._forget(forward)

    def _attach(self, pipe: Pipe) -> None:
        assert self._connection is not None
        if self._connection.ended:
            pipe.cut("connection-lost")
        else:
            self.opened += 1
            self._connection.pipes.add(pipe)

    def _ended(self, forward: Forward, pipe: Pipe) -> None:
        self._forget(forward)
        if self._connection is not None:
            self._connection.pipes.discard(pipe)

    def _forget(self, forward: Forward) -> None:
        if forward in self._forwards:
            self.forwards -= 1
            lent = self._forwards.pop(forward)
            if lent:
                self._worker.portion.windows.give_back(lent)

    def _writable(self) -> bool:
        return self._connection is not None and self._connection.writable

    def denied(self, asked: str, verdict: Decision) -> str:
        """Record a denied forward; equal ones within this connection are one row. Gives the id for the person."""
        self._worker.figures.denied(verdict.reason.value)
        key = asked, verdict.reason
        if key not in self._denied and len(self._denied) >= DENIALS:
            key = OTHERS, verdict.reason  # a scan: its first targets are on record, the rest is counted
        reference = self._denied.get(key)
        if reference is not None:
            self._denied_again[key] += 1
        else:
            reference = self._denied[key] = self._worker.make_id()
            asked = key[0]
            fields: dict[str, Value] = {**self.facts(), "asked": asked, "reason": verdict.reason.value}
            if verdict.destination is not None:
                fields |= {
                    "zone": verdict.destination.zone,
                    "address": str(verdict.destination.address),
                    "port": verdict.destination.port,
                }
            if verdict.rule is not None:
                fields |= {"rule": verdict.rule.name, "rule_at": f"{verdict.rule.file}:{verdict.rule.line}"}
            fields |= {"detail": verdict.detail, "policy": self._worker.law.policy.version}
            self._worker.reports.note("forward.denied", fields, reference)
        return reference

    def refused(self, kind: str, name: bytes) -> str:
        """Record what is not direct-tcpip; equal ones of this connection become one row. The text for the person."""
        self._worker.figures.refused(kind)
        shown = escape(name, 64)
        if (kind, shown) not in self._refused and len(self._refused) >= KINDS:
            shown = OTHERS
        self._refused[kind, shown] += 1
        reference = self.id
        if self._refused[kind, shown] == 1:
            reference = self._worker.make_id()
            self._worker.reports.note(
                "request.refused", {**self.facts(), "kind": kind, "type": shown, "count": 1}, reference
            )
        if kind != "channel" or name != b"session" or self.identity is None or self.key is None:
            return f"relay: only forwards are possible here (id {reference})"
        expires = "without end"
        if self.key.expires is not None:
            expires = f"until {datetime.datetime.fromtimestamp(self.key.expires, datetime.UTC):%Y-%m-%d %H:%M} UTC"
        places = reach(self._worker.law.policy, self.identity.person, self.source, self._worker.now())
        places_shown = [str(place) for place in itertools.islice(places, client_messages.SHOWN)]
        return client_messages.no_shell(
            self.identity.person, expires, places_shown, self._worker.law.settings.public, reference
        )

    # ---- the end

    def judge_key(self) -> None:
        """End the connection if its key may not be used any more."""
        why = self._worker.law.key_objection(self.identity) if self.identity is not None and not self._end else None
        if why is not None:
            self.forbid(why)

    def judge_again(self) -> Iterator[None]:
        """Ask for each forward whether it is still allowed, those being opened too, and end those that are not.

        A connection may have any number of them: between two of them others may have their turn.
        """
        if self.identity is None or self._end:
            return
        now = self._worker.loop.time()
        objections = []
        for forward in tuple(self._forwards):
            forward.look(now)
            why = forward.objection()
            if why is not None:
                objections.append((forward, why))
            yield
        if not self._end:
            self.forbid_forwards([(forward, why) for forward, why in objections if forward in self._forwards])

    def forbid_forwards(
        self, objections: Sequence[tuple[Forward, Revocation]], by: Mapping[str, Value] | None = None
    ) -> None:
        """End these forwards. If nothing is left then the connection ends too: no channel can say why it was closed."""
        last = len(objections) == len(self._forwards) and any(forward.is_open for forward, _ in objections)
        for forward, why in objections:
            forward.forbid(why, by, quiet=last)
        if last:
            self.end(objections[0][1].reason, client_messages.ended(objections[0][1].reason))

    def forbid(self, why: Revocation, by: Mapping[str, Value] | None = None) -> None:
        """End the connection because it may not go on. `by`: fields of who says so."""
        for forward in tuple(self._forwards):
            forward.forbid(why, by, quiet=True)
        self.end(why.reason, client_messages.ended(why.reason))

    def end(self, reason: str, text: str) -> None:
        """End the connection and its forwards, with the reason on record and told to the client."""
        self._end = self._end or reason
        for forward in tuple(self._forwards):
            forward.cut(reason, quiet=True)
        self._disconnect(f"relay: {text} (id {self.id})")

    def listed(self) -> dict[str, Value]:
        """Who it is, for `relayctl connections` (the message `listing`)."""
        who, connection = self.identity, self._connection
        version = connection.get_extra_info("client_version", "") if connection is not None else ""
        return {
            "c": self.id,
            "state": "open" if who is not None else "log-in",
            "person": who.person if who is not None else "",
            "key": who.fingerprint if who is not None else "",
            "touched": who is not None and who.touched,
            "verified": who is not None and who.verified,
            "expires": self.key.expires if self.key is not None else None,
            "client": str(self.source),
            "port": self._port,
            "login": escape(self._login, 64) if who is not None else "",  # people type passwords there
            "version": escape(str(version), 100),
            "since": self._since,
        }

    def _disconnect(self, text: str) -> None:
        if self._connection is None:
            self._early = text
        else:
            # not from inside asyncssh's own packet handler
            self._worker.loop.call_soon(self._connection.end, DISC_NO_MORE_AUTH_METHODS_AVAILABLE, text)

    def bug(self, error: BaseException | None) -> None:
        """An exception ended this connection."""
        self._end = self._end or "internal-error"
        if error is not None:
            self._worker.bug(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over: dials are cancelled, forwards get their closing rows, the connection gets its own."""
        while self._lent:
            self._worker.portion.windows.give_back(self._lent.pop())
        if self._late is not None:
            self._late.cancel()
        self._broken = isinstance(exc, asyncssh.ProtocolError | asyncssh.ProtocolNotSupported)
        self._timed_out = "imeout" in str(exc)
        for forward in tuple(self._forwards):
            forward.cut(self._end or "connection-lost")
        if self.identity is not None:
            for (kind, shown), count in self._refused.items():
                if count > 1:
                    fields: dict[str, Value] = {**self.facts(), "kind": kind, "type": shown, "count": count - 1}
                    self._worker.reports.note("request.refused", fields)
            for (asked, refusal), again in self._denied_again.items():
                more: dict[str, Value] = {"asked": asked, "reason": refusal.value, "count": again}
                self._worker.reports.note("forward.denied", {**self.facts(), **more})
            reason = self._end or _why_ended(exc)
            detail = escape(str(exc), 200) if exc is not None else ""
            self._worker.reports.note(
                "connection.closed",
                {
                    **self.facts(),
                    "reason": reason,
                    "detail": detail,
                    "duration": self._worker.now_us() - self._since,
                    "forwards": self.opened,
                },
            )
        elif self._broken:
            self._stranger("protocol-error")
        elif not self._unknown and not self._bad_signatures:
            self._stranger("timeout" if self._timed_out else "no-key")
        elif not self._told:
            self._stranger("unknown-key")
        self._worker.gone(self, self._unproven(), self._connection is not None and self._connection.exchanged)
        self._connection = None

    def _session_id(self) -> bytes:
        assert self._connection is not None
        return self._connection._session_id

    def _stranger(self, kind: str) -> str:
        fingerprint = next(iter(self._unknown), "")
        return self._worker.reports.count_unauthenticated(kind, str(self.source), self._port, fingerprint, self._login)


def _why_ended(exc: Exception | None) -> str:
    """The stable word of connection.closed for what asyncssh says."""
    if exc is None:
        return "client-closed"
    if isinstance(exc, asyncssh.ProtocolError):
        return "protocol-error"
    if "keepalive" in str(exc):
        return "client-silent"
    return "client-gone" if isinstance(exc, asyncssh.ConnectionLost) else "connection-lost"


def _verify(blob: bytes, username: str, message: bytes, signature: bytes, session: bytes) -> int | None:
    """Whether `signature` is over exactly this log-in: sk flags (0 for other keys), or None.

    RFC 4252 7: the signed text is the session id and the request itself; user, method, algorithm and key in it
    must be the ones at hand, and the algorithm the signature names must be the one the request names.
    """
    try:
        reader = asyncssh.packet.SSHPacket(message)
        reader.get_byte()
        user, service, method = reader.get_string(), reader.get_string(), reader.get_string()
        reader.get_boolean()
        algorithm, signed_blob = reader.get_string(), reader.get_string()
        reader.check_end()
        parts = asyncssh.packet.SSHPacket(signature)
        signed_with = parts.get_string()
        parts.get_string()
        flags = parts.get_byte() if signed_with.startswith(b"sk-") else 0
        if (
            user.decode() != username
            or (service, method) != (b"ssh-connection", b"publickey")
            or signed_blob != blob
            or algorithm != signed_with
            or signed_with.decode() not in SIGNATURES
        ):
            return None
        key = asyncssh.public_key.decode_ssh_public_key(blob)
        key.set_touch_required(True)
        good = key.verify(len(session).to_bytes(4, "big") + session + message, signature)
    except (ValueError, asyncssh.packet.PacketDecodeError, asyncssh.KeyImportError):
        return None
    return flags if good is True else None
