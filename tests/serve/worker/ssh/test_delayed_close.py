"""The reason of a disconnect arrives, although the client is still sending."""

import asyncio
import socket

import pytest

from relay.serve.worker.ssh import delayed_close


async def connected() -> tuple[asyncio.Transport, socket.socket]:
    """The relay's transport, which reads nothing, and the client's socket."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname())
        ours, _ = listener.accept()
    theirs.setblocking(False)
    transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, ours)
    transport.pause_reading()
    return transport, theirs


async def test_the_reason_arrives_although_the_client_still_sends() -> None:
    """Unread input would reset the connection at a close, and the reason would be lost."""
    loop = asyncio.get_running_loop()
    transport, theirs = await connected()
    with theirs:
        theirs.send(bytes(100_000))
        transport.write(b"the reason")
        delayed_close.close_later(transport)
        theirs.send(bytes(1000))
        async with asyncio.timeout(10):
            assert await loop.sock_recv(theirs, 100) == b"the reason"
            assert await loop.sock_recv(theirs, 100) == b""
        assert not transport.is_closing()
        theirs.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(10):
            while not transport.is_closing():
                await asyncio.sleep(0)


async def test_a_client_that_never_closes_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """After SECONDS the socket is closed in any case."""
    monkeypatch.setattr(delayed_close, "SECONDS", 0.01)
    transport, theirs = await connected()
    with theirs:
        delayed_close.close_later(transport)
        async with asyncio.timeout(10):
            while not transport.is_closing():
                await asyncio.sleep(0)
