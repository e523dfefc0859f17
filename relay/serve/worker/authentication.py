"""Public key authentication of one client (RFC 4252 7), until asyncssh reports success and a `Session` begins.

Known keys are those of the running configuration. Nothing durable is written per attempt: failures are counted by the
supervisor. Nothing may escape a hook of asyncssh: an exception there would end the connection without a reason.
"""

import asyncio
from collections.abc import Callable
from typing import Any

import asyncssh

from relay.core.audit.event import Value
from relay.core.escape import escape
from relay.core.keys import authorized_keys
from relay.core.keys.authorized_keys import Key
from relay.core.policy.model import Identity, Reason
from relay.serve.ssh_algorithms import SIGNATURES
from relay.serve.worker import client_messages
from relay.serve.worker.forward.context import WorkerContext
from relay.serve.worker.preauth_scheduler import PreauthScheduler
from relay.serve.worker.session import Client, Ended, Session, disconnect
from relay.serve.worker.ssh.connection import Connection
from relay.serve.worker.ssh.userauth import decode_username

MAX_OFFERS = 100  # of keys in all, known ones too; a full agent has a dozen
MAX_BAD_SIGNATURES = 6  # as sshd's MaxAuthTries
LOGIN_SECONDS = 0.02  # that the rows of a log-in wait for its first forward, which mostly comes at once
# ends of a connection before log-in that are not held against its source
_NOT_THE_CLIENT = (
    "supervisor-lost",
    "server-stopped",
    "internal-error",
    "too-many-connections",
    "key-revoked",
    "killed",
)


class Authentication(asyncssh.SSHServer):
    """The hooks of asyncssh for a client that has not proven a key."""

    def __init__(
        self,
        context: WorkerContext,
        scheduler: PreauthScheduler,
        client: Client,
        *,
        authenticated: Callable[[Session], None],
        ended: Ended,
        key_deadline: float = 0.0,
    ) -> None:
        """`authenticated` gets the session; `ended` is called when the connection is over without one.

        `key_deadline`: the source is penalised, so a known key must be offered within so many seconds.
        """
        self.id = client.id
        self.client = client
        self._context = context
        self._scheduler = scheduler
        self._authenticated = authenticated
        self._ended = ended
        self._connection: Connection | None = None
        self._disconnect_text: str | None = None  # the reason of an end that came before the connection
        self._end = ""
        self._login = ""  # the user name
        self._proven: tuple[Key, Identity] | None = None  # for the current user name only
        self._is_done = False  # the session has begun
        self._unknown: dict[str, None] = {}  # fingerprints of offered keys that are not listed
        self._offers = 0
        self._bad_signatures = 0
        self._known = False  # a known key was offered
        self._refused_key = False  # a known key has signed, but may not log in
        self._explanation = ""  # why a known key may not log in, for the client
        self._explained = False
        self._key_deadline = key_deadline
        self._deadline_timer: asyncio.TimerHandle | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """The worker has begun to serve this client."""
        assert isinstance(conn, Connection)
        self._connection = conn
        if self._key_deadline:  # from now on: the time in the scheduler's queue is not the client's fault
            loop = asyncio.get_running_loop()
            self._deadline_timer = loop.call_later(self._key_deadline, self._key_deadline_passed)
        if self._disconnect_text is not None:
            self._disconnect(self._disconnect_text)

    # ---- the methods (RFC 4252)

    def begin_auth(self, username: str) -> bool:
        """A user name, the first or another one: what was proven for another name is forgotten."""
        self._login = username
        self._proven = None
        return True  # a key is required

    def public_key_auth_supported(self) -> bool:
        """The only method that can succeed."""
        return True

    def password_auth_supported(self) -> bool:
        """Never."""
        return False

    def kbdint_auth_supported(self) -> bool:
        """Offered once, after keys were refused, only to give the reason; it never succeeds."""
        return not self._explained and (bool(self._unknown) or bool(self._explanation))

    def get_kbdint_challenge(self, username: str, lang: str, submethods: str) -> Any:
        """The only round, without prompts, which carries the reason (RFC 4256 3.2)."""
        self._explained = True
        text = self._explanation
        if not text:
            text = client_messages.unknown_key(tuple(self._unknown), self._count("unknown-key"))
        return "", text, "", ()

    def validate_kbdint_response(self, username: str, responses: Any) -> bool:
        """It never succeeds."""
        return False

    def prove(self, username: str, blob: bytes, message: bytes, signature: bytes) -> bool:
        """Whether the offered key is known (empty `message`), or has signed for exactly this log-in."""
        self._proven = None
        key = self._known_key(username, blob)
        if key is None or not message:
            return key is not None
        return self._has_signed(key, username, message, signature)

    def _known_key(self, username: str, blob: bytes) -> Key | None:
        """The listed key that is offered; None if there is none, or it is not for that user name."""
        authorizer = self._context.authorizer
        self._offers += 1
        fingerprint = authorized_keys.fingerprint(blob)
        key = authorizer.keyring.keys.get(fingerprint)
        if key is not None and key.blob != blob:
            key = None
        if key is None:
            self._unknown[fingerprint] = None
        if len(self._unknown) > authorizer.settings.limits.unknown_keys or self._offers > MAX_OFFERS:
            self._count("too-many-keys")
            self._disconnect(client_messages.TOO_MANY_KEYS)
            return None
        if key is None:
            return None
        self._known = True
        if authorizer.settings.login == "strict" and username != key.person:
            self._explanation = client_messages.unusable_key(f"log in as {key.person}", self._count("wrong-name"))
            return None
        return key

    def _has_signed(self, key: Key, username: str, message: bytes, signature: bytes) -> bool:
        """Verify the signature, then whether the key may log in now."""
        assert self._connection is not None
        authorizer = self._context.authorizer
        flags = verify_signature(key.blob, username, message, signature, self._connection._session_id)
        if flags is None:
            self._bad_signatures += 1
            self._count("bad-signature")
            if self._bad_signatures >= MAX_BAD_SIGNATURES:
                self._disconnect("too many authentication failures")
            return False
        identity = Identity(
            key.person, key.fingerprint, self.client.source, "key", touched=bool(flags & 1), verified=bool(flags & 4)
        )
        refusal = authorized_keys.login_refusal(key, identity, self._context.now())
        reason = Reason.KEY_FROZEN if authorizer.is_frozen(key.fingerprint) else refusal[0] if refusal else None
        if reason is not None:
            self._refused_key = True
            text = client_messages.LOGIN.get(reason, "it may not log in now")
            self._explanation = client_messages.unusable_key(text, self._count(reason.value))
            return False
        self._proven = key, identity
        return True

    def auth_completed(self) -> None:
        """Begin the session. asyncssh calls it after its own success message; without a proven key it ends here."""
        connection = self._connection
        if self._proven is None or self._is_done or connection is None:
            self._disconnect("not authenticated")
            return
        self._is_done = True
        if self._deadline_timer is not None:
            self._deadline_timer.cancel()
        key, identity = self._proven
        session = Session(
            self._context,
            self.client,
            connection,
            identity=identity,
            key=key,
            login=self._login,
            ended=self._ended,
        )
        connection.begin_session(session)
        connection.start_keepalive()
        self._authenticated(session)
        fields: dict[str, Value] = {**session.facts, "policy": self._context.authorizer.policy.version}
        self._context.audit.note("login.succeeded", fields, delay=LOGIN_SECONDS)
        session.check_key()  # the configuration may have changed since the signature

    def in_turn(self, job: Callable[[], None]) -> None:
        """Do work for this client when the time budget for unauthenticated clients allows."""
        self._scheduler.work(job)

    # ---- the end

    def _key_deadline_passed(self) -> None:
        if not self._known:
            self._end = self._end or "too-slow"
            self._disconnect(client_messages.too_slow(self._count("too-slow")))

    def end(self, reason: str, text: str) -> None:
        """End the connection, with the reason told to the client."""
        self._end = self._end or reason
        self._disconnect(f"relay: {text} (id {self.id})")

    def _disconnect(self, text: str) -> None:
        if self._connection is None:
            self._disconnect_text = text
        else:
            disconnect(self._connection, text)

    def bug(self, error: BaseException | None) -> None:
        """An unexpected exception ended this connection."""
        self._end = self._end or "internal-error"
        if error is not None:
            self._context.audit.report_bug(error)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection ended without a proven key: count it, and report the failure class for penalties."""
        if self._deadline_timer is not None:
            self._deadline_timer.cancel()
        broken = isinstance(exc, asyncssh.ProtocolError | asyncssh.ProtocolNotSupported)
        timed_out = "imeout" in str(exc)  # asyncssh has no class for the end of the grace time
        tried = bool(self._unknown) or bool(self._bad_signatures)
        if broken:
            self._count("protocol-error")
        elif not tried:
            self._count("timeout" if timed_out else "no-key")
        elif not self._explained:
            self._count("unknown-key")
        if self._refused_key or self._end in _NOT_THE_CLIENT:
            failure = ""  # not held against the source
        elif tried:
            failure = "failed"
        elif broken:
            failure = "junk"
        else:
            failure = "timeout" if timed_out else "silent"
        self._ended(self.id, failure, self._connection is not None and self._connection.exchanged)
        self._connection = None

    def _count(self, kind: str) -> str:
        """Count a failure; the id that the client may be given."""
        fingerprint = next(iter(self._unknown), "")
        return self._context.audit.count_unauthenticated(
            kind, str(self.client.source), self.client.port, fingerprint, self._login
        )

    def listed(self) -> dict[str, Value]:
        """Its row of the message `listing`. The user name is left out: people type passwords there."""
        version = self._connection.get_extra_info("client_version", "") if self._connection is not None else ""
        return {
            "c": self.id,
            "state": "log-in",
            "person": "",
            "key": "",
            "touched": False,
            "verified": False,
            "expires": None,
            "client": str(self.client.source),
            "port": self.client.port,
            "login": "",
            "version": escape(str(version), 100),
            "since": self.client.since_us,
        }


def verify_signature(blob: bytes, username: str, message: bytes, signature: bytes, session_id: bytes) -> int | None:
    """Whether `signature` is over exactly this log-in: the flags of a security key (0 for other keys), or None.

    RFC 4252 7: the signed text is the session id and the request itself; user, method, algorithm and key in it
    must be the ones at hand, and the algorithm the signature names must be the one the request names.
    """
    try:
        request = asyncssh.packet.SSHPacket(message)
        request.get_byte()
        user, service, method = request.get_string(), request.get_string(), request.get_string()
        request.get_boolean()
        algorithm, signed_blob = request.get_string(), request.get_string()
        request.check_end()
        parts = asyncssh.packet.SSHPacket(signature)
        signed_with = parts.get_string()
        parts.get_string()
        flags = parts.get_byte() if signed_with.startswith(b"sk-") else 0
        if (
            decode_username(user) != username
            or (service, method) != (b"ssh-connection", b"publickey")
            or signed_blob != blob
            or algorithm != signed_with
            or signed_with.decode() not in SIGNATURES
        ):
            return None
        key = asyncssh.public_key.decode_ssh_public_key(blob)
        key.set_touch_required(True)
        good = key.verify(len(session_id).to_bytes(4, "big") + session_id + message, signature)
    except (ValueError, asyncssh.packet.PacketDecodeError, asyncssh.KeyImportError):
        return None
    return flags if good is True else None
