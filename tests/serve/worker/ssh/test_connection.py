"""One client's connection: what waits is bounded, and how it ends."""

import asyncio
from typing import Any

import pytest
from asyncssh.constants import DISC_NO_MORE_AUTH_METHODS_AVAILABLE, MSG_DISCONNECT, MSG_UNIMPLEMENTED

from relay.serve.worker.ssh import connection as module
from tests.serve import hostile
from tests.serve.hostile import string, uint32
from tests.serve.plain import Plain, turns

KEEPALIVE = bytes([hostile.GLOBAL_REQUEST]) + string("keepalive@openssh.com") + b"\1"


def texts(one: Plain) -> list[bytes]:
    """The reasons of the disconnects that the client has received."""
    return [hostile.strings(payload[5:])[0] for payload in one.heard() if payload[0] == MSG_DISCONNECT]


@pytest.mark.parametrize("fast", [True, False])
async def test_packets_kept_back_in_a_key_exchange_are_bounded(fast: bool) -> None:
    """A client that provokes answers during a key exchange and never ends it is disconnected."""
    one = Plain(fast=fast)
    one.connection._kex_complete = False
    for _ in range(module.MAX_DEFERRED):
        one.feed(one.packet(KEEPALIVE))
    assert not one.gone
    assert len(one.connection._deferred_packets) == module.MAX_DEFERRED
    one.feed(one.packet(KEEPALIVE))
    assert one.gone
    one.close()


@pytest.mark.parametrize("fast", [True, False])
async def test_a_client_that_does_not_read_is_not_read(fast: bool) -> None:
    """With MAX_OUTPUT waiting for the client its socket is no longer read; when it has taken that, it is."""
    one = Plain(fast=fast)
    calls: list[str] = []
    wire: Any = one.wire
    wire.pause_reading = lambda: calls.append("pause")
    wire.resume_reading = lambda: calls.append("resume")
    waiting = module.MAX_OUTPUT
    wire.get_write_buffer_size = lambda: waiting
    one.feed(one.packet(KEEPALIVE))
    assert calls == []
    waiting += 1
    for _ in range(2):
        one.feed(one.packet(KEEPALIVE))
    assert calls == ["pause"]
    waiting = 0
    one.connection.resume_writing()
    assert calls == ["pause", "resume"]
    one.close()


async def test_targets_are_read_only_while_the_client_takes_data() -> None:
    """Neither while its TCP connection is full, nor during a key exchange."""
    one = Plain(fast=True)
    await one.open()
    connection, pipe = one.connection, one.owner.pipes[0]
    connection.pipes.add(pipe)
    connection.pause_writing()
    assert (connection.writable, pipe._reading) == (False, False)
    connection.resume_writing()
    assert (connection.writable, pipe._reading) == (True, True)
    connection._send_kexinit()
    assert (connection.writable, pipe._reading) == (False, False)
    one.close()


@pytest.mark.parametrize("fast", [True, False])
async def test_no_ignore_packets_are_sent(fast: bool) -> None:
    """asyncssh would send one before each packet, which doubles the packets."""
    one = Plain(fast=fast)
    for _ in range(3):
        one.feed(one.packet(KEEPALIVE))
    assert [payload[0] for payload in one.heard()] == [81, 81, 81]
    one.close()


@pytest.mark.parametrize("fast", [True, False])
async def test_unknown_packets_are_unimplemented(fast: bool) -> None:
    """RFC 4253 11.4: the answer names the sequence number, and the connection continues."""
    one = Plain(fast=fast)
    one.connection._recv_seq = 41
    one.feed(one.packet(bytes([199])))
    one.feed(one.packet(KEEPALIVE))
    assert one.heard() == [bytes([MSG_UNIMPLEMENTED]) + uint32(41), bytes([81])]
    one.close()


async def test_the_reason_of_an_end_is_sent_once() -> None:
    """A second end does nothing, and nothing follows the disconnect."""
    one = Plain(fast=True)
    for text in ("the key was revoked", "again"):
        one.connection.end(DISC_NO_MORE_AUTH_METHODS_AVAILABLE, text)
    assert texts(one) == [b"the key was revoked"]
    await turns()
    assert one.connection.ended
    one.close()


@pytest.mark.parametrize("fast", [True, False])
async def test_text_of_the_library_is_not_sent(fast: bool) -> None:
    """A protocol error is answered with these words only: asyncssh would quote what the client sent."""
    one = Plain(fast=fast)
    one.feed(one.packet(bytes([hostile.DATA]) + uint32(4711) + string("x")))
    assert texts(one) == [b"protocol error"]
    assert one.owner.bugs == []
    one.close()


@pytest.mark.parametrize("fast", [True, False])
async def test_a_packet_without_a_type_is_no_bug(fast: bool) -> None:
    """asyncssh lets it escape as an exception; a client must not be able to fill the log with tracebacks."""
    one = Plain(fast=fast)
    one.feed(one.packet(b""))
    assert (one.gone, one.owner.bugs) == (True, [])
    one.close()


@pytest.mark.parametrize("fast", [True, False])
async def test_an_exception_of_our_own_ends_the_connection_and_is_reported(fast: bool) -> None:
    """It is not lost in asyncssh's debug log."""
    one = Plain(fast=fast)
    error = RuntimeError("a bug")

    def fail(kind: str, name: bytes) -> str:
        raise error

    one.owner.refused = fail  # type: ignore[method-assign]  # a bug in the session
    one.feed(one.packet(bytes([hostile.GLOBAL_REQUEST]) + string("tcpip-forward") + b"\1"))
    assert (one.gone, one.owner.bugs) == (True, [error])
    one.close()


async def test_a_second_key_exchange_before_log_in_is_refused() -> None:
    """Nothing before log-in needs new keys, and each exchange costs a millisecond."""
    one = Plain(fast=True)
    one.connection._auth_complete = False
    one.feed(one.packet(bytes([hostile.KEXINIT]) + bytes(16) + uint32(*[0] * 10) + bytes(5)))
    assert texts(one) == [b"protocol error"]
    one.close()


async def test_input_of_an_unauthenticated_client_waits_for_its_turn() -> None:
    """Until the scheduler runs the job nothing is handled, and the socket is not read."""
    one = Plain(fast=True)
    one.connection._auth_complete = False
    jobs: list[Any] = []
    one.owner.in_turn = jobs.append  # type: ignore[method-assign]  # a scheduler that is driven by the test
    one.feed(one.packet(bytes([hostile.IGNORE]) + string("x")))
    before = one.connection._recv_seq
    assert (one.connection._reading_paused, len(jobs)) == (True, 1)
    one.feed(one.packet(bytes([hostile.IGNORE]) + string("x")))
    assert len(jobs) == 1
    jobs.pop()()
    assert (one.connection._recv_seq, one.connection._reading_paused) == (before + 2, False)
    await asyncio.sleep(0)
    one.close()
