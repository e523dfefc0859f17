"""CHANNEL_OPEN: one channel type, within limits."""

from collections.abc import Coroutine
from typing import Any

import pytest
from asyncssh.constants import (
    OPEN_ADMINISTRATIVELY_PROHIBITED,
    OPEN_RESOURCE_SHORTAGE,
    OPEN_UNKNOWN_CHANNEL_TYPE,
)

from relay.serve.worker.forward.pipe import Pipe
from relay.serve.worker.ssh.channel_open import MIN_CHANNEL_PACKET
from tests.serve import hostile
from tests.serve.hostile import string, uint32
from tests.serve.plain import Owner, Plain, turns


class Handler(Owner):
    """Keeps what was asked, and may refuse."""

    log: list[Any]
    allowed: bool
    window: int

    def refused(self, kind: str, name: bytes) -> str:
        self.log.append((kind, name))
        return "the reason"

    def may_open(self) -> bool:
        return self.allowed

    def lend(self) -> int:
        return self.window

    def forward(self, host: bytes, port: int, lent: int) -> Coroutine[Any, Any, Pipe]:
        self.log.append((host, port, lent))
        return super().forward(host, port, lent)


class Client(Plain):
    """A logged-in client that opens channels."""

    def __init__(self, *, allowed: bool = True, window: int = 1 << 20) -> None:
        super().__init__(fast=True)
        self.owner.__class__ = Handler
        self.log: list[Any] = []
        vars(self.owner).update(log=self.log, allowed=allowed, window=window)

    async def ask(self, kind: str, rest: bytes = b"", size: int = 1 << 15) -> list[bytes]:
        """The relay's answers to a CHANNEL_OPEN."""
        self.feed(self.packet(bytes([hostile.OPEN]) + string(kind) + uint32(7, 1 << 21, size) + rest))
        await turns(12)
        return self.heard()


TARGET = string("remote") + uint32(22) + string("\nof the client's choice") + uint32(70000)


async def test_a_forward_is_opened_with_the_window_that_was_lent() -> None:
    """The session gets host and port as they were sent; the originator is ignored."""
    one = Client(window=1 << 18)
    (answer,) = await one.ask("direct-tcpip", TARGET)
    assert answer[:1] + answer[1:5] + answer[9:13] == bytes([91]) + uint32(7) + uint32(1 << 18)
    assert one.log == [(b"remote", 22, 1 << 18)]
    one.close()


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("session", OPEN_ADMINISTRATIVELY_PROHIBITED),
        ("x11", OPEN_ADMINISTRATIVELY_PROHIBITED),
        ("forwarded-tcpip", OPEN_ADMINISTRATIVELY_PROHIBITED),
        ("direct-streamlocal@openssh.com", OPEN_ADMINISTRATIVELY_PROHIBITED),
        ("direct-tcpip ", OPEN_UNKNOWN_CHANNEL_TYPE),
        ("", OPEN_UNKNOWN_CHANNEL_TYPE),
    ],
)
async def test_every_other_channel_is_refused_with_a_reason(kind: str, code: int) -> None:
    """The refusal is recorded, and the connection continues."""
    one = Client()
    assert await one.ask(kind) == [bytes([92]) + uint32(7, code) + string("the reason") + string("")]
    assert one.log == [("channel", kind.encode())]
    assert not one.gone
    one.close()


@pytest.mark.parametrize(
    ("client", "size"),
    [({"allowed": False}, 1 << 15), ({"window": 0}, 1 << 15), ({}, MIN_CHANNEL_PACKET - 1)],
    ids=["too many", "no memory", "tiny packets"],
)
async def test_a_forward_beyond_the_limits_is_refused(client: dict[str, Any], size: int) -> None:
    """Too many forwards, no memory for a window, or packets that would multiply the work: no forward begins."""
    one = Client(**client)
    (answer,) = await one.ask("direct-tcpip", TARGET, size)
    assert answer[:9] == bytes([92]) + uint32(7, OPEN_RESOURCE_SHORTAGE)
    assert one.log == []
    one.close()


async def test_an_open_after_a_disconnect_begins_nothing() -> None:
    """Also within one read."""
    one = Client()
    goodbye = bytes([hostile.DISCONNECT]) + uint32(11) + string("bye") + string("")
    opened = bytes([hostile.OPEN]) + string("direct-tcpip") + uint32(7, 1 << 21, 1 << 15) + TARGET
    one.feed(one.packet(goodbye) + one.packet(opened))
    await turns()
    assert one.log == []
    one.close()
