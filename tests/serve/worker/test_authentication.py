"""Authentication of one client: keys, signatures, explanations and the failure class, without a process."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import asyncssh
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from relay.core.keys import authorized_keys
from relay.core.keys.authorized_keys import Key
from relay.core.keys.keyring import Keyring
from relay.serve.worker.authentication import MAX_BAD_SIGNATURES, Authentication, verify_signature
from relay.serve.worker.forward.context import WorkerContext
from relay.serve.worker.preauth_scheduler import PreauthScheduler
from relay.serve.worker.session import Session
from tests.serve.hostile import public_blob, string
from tests.serve.worker import parts

PRIVATE = Ed25519PrivateKey.generate()
BLOB = public_blob(PRIVATE)
KEY = Key(authorized_keys.fingerprint(BLOB), "ssh-ed25519", 256, "", BLOB, "alice", file="keys/alice.pub", line=1)
OTHER = public_blob(Ed25519PrivateKey.generate())
SESSION_ID = b"s" * 32


def request(user: bytes = b"alice", service: bytes = b"ssh-connection", blob: bytes = BLOB) -> bytes:
    """A signed request of RFC 4252 7, without its signature."""
    parts_of = (string(user), string(service), string(b"publickey"), b"\x01", string(b"ssh-ed25519"), string(blob))
    return b"\x32" + b"".join(parts_of)


def sign(message: bytes, session_id: bytes = SESSION_ID) -> bytes:
    """The signature over the session id and the request."""
    return string(b"ssh-ed25519") + string(PRIVATE.sign(string(session_id) + message))


@dataclass
class Stage:
    """One client before log-in, and what became of it."""

    context: WorkerContext
    authentication: Authentication
    sessions: list[Session] = field(default_factory=list)
    ended: list[tuple[str, str, bool]] = field(default_factory=list)

    def prove(self, user: str = "alice", blob: bytes = BLOB, *, signed: bool = True) -> bool:
        """Offer a key, or sign with it."""
        message = request(user.encode(), blob=blob) if signed else b""
        return self.authentication.prove(user, blob, message, sign(message) if signed else b"")


@contextmanager
def stage(key_deadline: float = 0.0, **changes: Any) -> Iterator[Stage]:
    """A client of a relay that lists alice's key, with these changes of it."""
    loop = asyncio.get_running_loop()
    with parts.context() as context:
        context.authorizer.keyring = Keyring({KEY.fingerprint: replace(KEY, **changes)})
        sessions: list[Session] = []
        ended: list[tuple[str, str, bool]] = []
        authentication = Authentication(
            context,
            PreauthScheduler(loop.time, loop.call_soon),
            parts.CLIENT,
            authenticated=sessions.append,
            ended=lambda *what: ended.append(what),
            key_deadline=key_deadline,
        )
        with parts.connection(authentication) as connection:
            connection._session_id = SESSION_ID
            authentication.connection_made(connection)
            yield Stage(context, authentication, sessions, ended)


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(request(user=b"bob"), id="another user"),
        pytest.param(request(service=b"ssh-userauth"), id="another service"),
        pytest.param(request(blob=OTHER), id="another key"),
        pytest.param(request() + b"x", id="something behind it"),
        pytest.param(request()[:-1], id="cut short"),
    ],
)
def test_a_signature_over_anything_else_does_not_count(message: bytes) -> None:
    """Each part of the signed request must be the one at hand (RFC 4252 7), although the signature itself is good."""
    assert verify_signature(BLOB, "alice", request(), sign(request()), SESSION_ID) == 0
    assert verify_signature(BLOB, "alice", message, sign(message), SESSION_ID) is None


def test_a_signature_of_another_connection_does_not_count() -> None:
    """The session id is part of what is signed, so a recorded signature is of no use elsewhere."""
    assert verify_signature(BLOB, "alice", request(), sign(request(), b"t" * 32), SESSION_ID) is None


def test_the_algorithm_of_the_signature_is_the_one_of_the_request() -> None:
    """A signature that names another algorithm, or one that is not offered, does not count."""
    signature = sign(request())
    renamed = string(b"ssh-rsa") + signature[len(string(b"ssh-ed25519")) :]
    assert verify_signature(BLOB, "alice", request(), renamed, SESSION_ID) is None


async def test_a_listed_key_that_signs_begins_one_session() -> None:
    """Identity, key and source are fixed then; a second success of the library does not begin another session."""
    with stage() as one:
        one.authentication.begin_auth("alice")
        assert one.prove(signed=False)
        one.authentication.auth_completed()
        assert one.sessions == []  # the offer alone proves nothing
        assert one.prove()
        one.authentication.auth_completed()
        one.authentication.auth_completed()
        (session,) = one.sessions
        assert (session.identity.person, session.identity.fingerprint) == ("alice", KEY.fingerprint)
        assert session.identity.source == parts.CLIENT.source
        assert [row["person"] for row in parts.rows(one.context, "login.succeeded")] == ["alice"]


async def test_another_user_name_forgets_what_was_proven() -> None:
    """A success that follows without a new signature begins no session."""
    with stage() as one:
        assert one.prove()
        one.authentication.begin_auth("bob")
        one.authentication.auth_completed()
        assert one.sessions == []


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"expires": 6}, "it has expired"),
        ({"touch_required": True}, "the security key was not touched"),
    ],
)
async def test_a_known_key_that_may_not_log_in_gets_the_reason(changes: dict[str, Any], text: str) -> None:
    """The reason comes once, in a round without prompts, and the failure is not held against the source."""
    with stage(**changes) as one:
        assert not one.authentication.kbdint_auth_supported()
        assert not one.prove()
        assert one.authentication.kbdint_auth_supported()
        assert text in one.authentication.get_kbdint_challenge("alice", "", "")[1]
        assert not one.authentication.kbdint_auth_supported()
        assert not one.authentication.validate_kbdint_response("alice", ())
        one.authentication.connection_lost(None)
        assert one.ended == [("c1", "", False)]


async def test_a_key_that_was_removed_at_the_last_moment_ends_the_session() -> None:
    """A change between the signature and its success takes effect at once, not with the next periodic check."""
    for listed in (True, False):
        with stage() as one:
            assert one.prove()
            if not listed:
                one.context.authorizer.keyring = Keyring()
            one.authentication.auth_completed()
            assert one.sessions[0]._end == ("" if listed else "key-unlisted")


async def test_bad_signatures_end_the_connection() -> None:
    """After as many as sshd's MaxAuthTries, and the source is penalised for it."""
    with stage() as one:
        for _ in range(MAX_BAD_SIGNATURES):
            assert not one.authentication.prove("alice", BLOB, request(), sign(request(), b"t" * 32))
        one.authentication.connection_lost(None)
        assert one.ended == [("c1", "failed", False)]


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (None, "silent"),
        (asyncssh.ConnectionLost("Login timeout expired"), "timeout"),
        (asyncssh.ProtocolError("no SSH"), "junk"),
    ],
)
async def test_the_failure_class_says_how_it_ended(error: Exception | None, failure: str) -> None:
    """A client that offered no key is silent, too late, or speaks something other than SSH."""
    with stage() as one:
        one.authentication.connection_lost(error)
        assert one.ended == [("c1", failure, False)]


async def test_an_end_that_the_relay_causes_is_not_held_against_the_source() -> None:
    """A stop of the server during log-in is no failure of the client."""
    with stage() as one:
        one.authentication.end("server-stopped", "stopping")
        one.authentication.connection_lost(None)
        assert one.ended == [("c1", "", False)]


async def test_an_unknown_key_is_explained_once() -> None:
    """Its fingerprint is shown with the advice to send the key; then no more rounds are offered."""
    with stage() as one:
        assert not one.prove(blob=OTHER, signed=False)
        text = one.authentication.get_kbdint_challenge("alice", "", "")[1]
        assert authorized_keys.fingerprint(OTHER) in text
        assert not one.authentication.kbdint_auth_supported()


async def test_the_key_deadline_begins_when_the_client_is_served() -> None:
    """A client of a penalised source that offers no known key in time is disconnected; one that does is not."""
    for known in (True, False):
        with stage(key_deadline=0.01) as one:
            if known:
                assert one.prove(signed=False)
            await asyncio.sleep(0.05)
            assert one.authentication._end == ("" if known else "too-slow")
