"""Disconnect messages to refused clients, without a byte of theirs being read."""

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from relay.serve.supervisor.admission import early_disconnect
from relay.serve.supervisor.admission.early_disconnect import EarlyDisconnects, packet
from tests.serve.hostile import Client, Gone


@asynccontextmanager
async def refusing_port(text: str) -> AsyncIterator[tuple[int, EarlyDisconnects]]:
    """A port where every client is refused with `text`, and the sockets that linger."""
    loop = asyncio.get_running_loop()
    disconnects = EarlyDisconnects()
    listener = socket.create_server(("127.0.0.1", 0), backlog=200)
    listener.setblocking(False)

    def accept() -> None:
        sock, peer = listener.accept()
        disconnects.send(sock, peer[0], text)

    loop.add_reader(listener.fileno(), accept)
    try:
        yield listener.getsockname()[1], disconnects
    finally:
        loop.remove_reader(listener.fileno())
        listener.close()
        disconnects.close()


@pytest.mark.system
async def test_a_real_client_shows_the_reason() -> None:
    """OpenSSH clients show the reason, ten of ten, one after another and at the same time."""
    async with refusing_port("relay: too many failed log-ins from your address, retry in 42 s (id 0k3v9x2m4qz)") as (
        port,
        _,
    ):
        command = [shutil.which("ssh") or "ssh", "-F", "none", "-p", str(port), "-o", "BatchMode=yes", "127.0.0.1"]

        async def once() -> str:
            pipe = asyncio.subprocess.PIPE
            process = await asyncio.create_subprocess_exec(*command, stderr=pipe, stdin=asyncio.subprocess.DEVNULL)
            _, said = await process.communicate()
            return said.decode()

        said = [await once() for _ in range(5)]
        said += await asyncio.gather(*(once() for _ in range(5)))
    assert all("retry in 42 s (id 0k3v9x2m4qz)" in one for one in said), said


async def test_the_socket_goes_with_the_client() -> None:
    """The socket is kept until the client has closed its side, whatever the client has sent."""
    async with refusing_port("relay: no") as (port, disconnects):
        client = await asyncio.to_thread(Client, port, exchange=False)
        with client:
            client.send_raw(b"SSH-2.0-talkative\r\n" + bytes(5000))
            await asyncio.to_thread(client.hello, b"")
            assert client.version == b"SSH-2.0-relay"
            with pytest.raises(Gone, match="relay: no"):
                await asyncio.to_thread(client.receive)
            assert len(disconnects) == 1
        async with asyncio.timeout(1):
            while len(disconnects):
                await asyncio.sleep(0.01)


async def test_a_client_that_does_not_close_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client cannot keep a socket by not closing its side."""
    monkeypatch.setattr(early_disconnect, "LINGER_SECONDS", 0.1)
    async with refusing_port("relay: no") as (port, disconnects):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert (await reader.read(1000)).startswith(b"SSH-2.0-relay\r\n")
        async with asyncio.timeout(1):
            while len(disconnects):
                await asyncio.sleep(0.01)
        writer.close()


async def test_the_number_of_messages_is_bounded() -> None:
    """One source gets eight messages at a time; its ninth socket is closed without one, other sources get theirs."""
    async with refusing_port("relay: no") as (port, disconnects):
        clients = [await asyncio.open_connection("127.0.0.1", port) for _ in range(12)]
        said = [await reader.read(1000) for reader, _ in clients]
        assert sum(bool(one) for one in said) == len(disconnects) == early_disconnect.MAX_PER_SOURCE
        other, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.9", 0))
        assert await other.read(1000)
        for _, opened in [*clients, (other, writer)]:
            opened.close()


@pytest.mark.parametrize("text", ["", "x", "relay: é" * 100, "0123456789" * 3])
def test_the_packet_is_well_formed(text: str) -> None:
    """RFC 4253 6: a multiple of eight bytes, at least four of padding, and all lengths right."""
    made = packet(12, text)
    size, padding = int.from_bytes(made[:4], "big"), made[4]
    assert len(made) == 4 + size
    assert len(made) % 8 == 0
    assert 4 <= padding < 12
    payload = made[5 : len(made) - padding]
    assert payload[:5] == b"\x01\x00\x00\x00\x0c"
    said = payload[9 : 9 + int.from_bytes(payload[5:9], "big")]
    assert text.encode().startswith(said)
    assert len(payload) == 9 + len(said) + 4
