"""Authentication requests before log-in, over a connection without a network."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from asyncssh.auth import MSG_USERAUTH_PK_OK
from asyncssh.constants import (
    MSG_DISCONNECT,
    MSG_SERVICE_ACCEPT,
    MSG_USERAUTH_FAILURE,
    MSG_USERAUTH_SUCCESS,
)

from relay.serve.worker.ssh.preauth_limits import MAX_PACKETS
from relay.serve.worker.ssh.userauth import MAX_USERNAME, decode_username
from tests.serve.hostile import string, uint32
from tests.serve.plain import Owner, Plain

KNOWN, GOOD = b"known key", b"good signature"
SERVICE = b"\x05" + string(b"ssh-userauth")
GOODBYE = b"\x01" + uint32(11) + string(b"bye") + string(b"")


class Handler(Owner):
    """Knows one key and one signature, and keeps what it is asked."""

    log: list[Any]

    def begin_auth(self, username: str) -> bool:
        self.log.append(("begin", username))
        return True

    def public_key_auth_supported(self) -> bool:
        return True

    def prove(self, username: str, blob: bytes, message: bytes, signature: bytes) -> bool:
        self.log.append((username, blob, message, signature))
        return blob == KNOWN and (not message or signature == GOOD)

    def auth_completed(self) -> None:
        self.log.append("in")


class Unproven(Plain):
    """A client whose keys are exchanged, and who has sent nothing yet."""

    def __init__(self, *, fast: bool = True) -> None:
        super().__init__(fast=fast)
        self.owner.__class__ = Handler
        self.log: list[Any] = []
        self.owner.log = self.log  # type: ignore[attr-defined]  # it has become a Handler
        self.connection._auth_complete = False
        self.connection._next_service = b"ssh-userauth"
        self.connection._username = ""

    async def send(self, *payloads: bytes, together: bool = False) -> list[int]:
        """The types of the relay's answers to these packets."""
        packets = [self.packet(payload) for payload in payloads]
        for data in [b"".join(packets)] if together else packets:
            self.feed(data)
            await turns()
        return [payload[0] for payload in self.heard()]


async def turns() -> None:
    """Let asyncssh's tasks finish."""
    for _ in range(12):
        await asyncio.sleep(0)


def request(method: str, rest: bytes = b"", name: bytes = b"alice", service: str = "ssh-connection") -> bytes:
    """A USERAUTH_REQUEST."""
    return b"\x32" + string(name) + string(service) + string(method) + rest


def key(blob: bytes = KNOWN, signature: bytes | None = None) -> bytes:
    """The request to log in with a key: an offer, or signed."""
    signed = b"\0" if signature is None else b"\1"
    end = b"" if signature is None else string(signature)
    return request("publickey", signed + string(b"ssh-ed25519") + string(blob) + end)


@pytest.mark.parametrize("fast", [True, False])
async def test_a_log_in_is_a_refusal_an_offer_and_a_signature(fast: bool) -> None:
    """`none` is refused, the known key is confirmed, the signature succeeds: over exactly what was signed."""
    one = Unproven(fast=fast)
    signed = key(signature=GOOD)
    assert await one.send(SERVICE, request("none"), key(), signed) == [
        MSG_SERVICE_ACCEPT,
        MSG_USERAUTH_FAILURE,
        MSG_USERAUTH_PK_OK,
        MSG_USERAUTH_SUCCESS,
    ]
    message = signed[: -len(string(GOOD))]
    assert one.log == [("begin", "alice"), ("alice", KNOWN, b"", b""), ("alice", KNOWN, message, GOOD), "in"]
    assert (one.owner.bugs, one.connection._auth_complete) == ([], True)
    one.close()


async def test_a_request_without_a_service_request_ends_the_connection() -> None:
    """RFC 4252 5: authentication is a service that is requested first. asyncssh alone does not ask for that."""
    one = Unproven()
    assert await one.send(key(signature=GOOD)) == [MSG_DISCONNECT]
    assert (one.log, one.connection._auth_complete) == ([], False)
    one.close()


async def test_another_service_ends_the_connection() -> None:
    """Only ssh-connection can be logged in for."""
    one = Unproven()
    assert await one.send(SERVICE, request("none", service="ssh-userauth")) == [MSG_SERVICE_ACCEPT, MSG_DISCONNECT]
    one.close()


@pytest.mark.parametrize("fast", [True, False])
async def test_a_signature_after_a_disconnect_logs_nobody_in(fast: bool) -> None:
    """Nothing after a disconnect is handled (RFC 4253 11.1), also within one read."""
    one = Unproven(fast=fast)
    await one.send(SERVICE, GOODBYE, key(signature=GOOD), together=True)
    assert (one.log, one.owner.bugs, one.connection._auth_complete, one.gone) == ([], [], False, True)
    one.close()


async def test_a_signature_that_waits_for_its_turn_does_not_outlive_the_connection() -> None:
    """A disconnect while a signature waits for the scheduler: it is not verified."""
    one = Unproven()
    await one.send(SERVICE)
    jobs: list[Callable[[], None]] = []
    one.owner.in_turn = jobs.append  # type: ignore[method-assign]  # a scheduler that is driven by the test
    one.feed(one.packet(key(signature=GOOD)))
    jobs.pop()()
    await turns()
    one.connection.end(11, "enough")
    for job in jobs:
        job()
    await turns()
    assert [entry for entry in one.log if len(entry) == 4] == []
    assert one.owner.bugs == []
    one.close()


async def test_each_signature_has_a_turn_of_its_own() -> None:
    """Of ten signatures in one read at most one is verified in each turn of the scheduler."""
    one = Unproven()
    await one.send(SERVICE)
    jobs: list[Callable[[], None]] = []
    one.owner.in_turn = jobs.append  # type: ignore[method-assign]  # likewise
    one.feed(b"".join(one.packet(key(signature=b"bad")) for _ in range(10)))
    before = 0
    while jobs:
        jobs.pop(0)()
        verified = sum(len(entry) == 4 for entry in one.log)
        assert verified <= before + 1
        before = verified
        await turns()
    assert 1 <= before <= 10
    one.close()


async def test_one_packet_too_many_ends_the_connection() -> None:
    """Requests before log-in are counted, whatever their answer."""
    one = Unproven()
    await one.send(SERVICE)
    for _ in range(MAX_PACKETS - 1):
        one.feed(one.packet(request("none")))
        for _ in range(3):
            await asyncio.sleep(0)
    assert not one.gone
    await one.send(request("none"))
    assert one.gone
    one.close()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (b"alice", "alice"),
        (b"", ""),
        ("\u00e5lice".encode(), "\u00e5lice"),
        ("a\u00adb".encode(), "a\u00adb"),  # saslprep would drop the soft hyphen
        (b"\xff", "\ufffd"),
        (b"a\0", "a\0"),
        (b"x" * 1000, "x" * MAX_USERNAME),
        (("x" + "\u00e5" * 1000).encode(), "x" + "\u00e5" * 127 + "\ufffd"),
    ],
)
def test_every_user_name_is_decoded(name: bytes, text: str) -> None:
    """No name is refused, prepared or kept in full length."""
    assert decode_username(name) == text
