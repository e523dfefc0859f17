"""The thin thread through everything: one client, one forward, one opening and one closing row."""

import asyncio
import contextlib
from pathlib import Path

import asyncssh
import pytest

from tests.relay_process import Relay, echo_server, relay


async def connect(one: Relay, person: str = "alice") -> asyncssh.SSHClientConnection:
    """Log in at the relay as that person."""
    return await asyncssh.connect(
        "127.0.0.1",
        one.port,
        username=person,
        client_keys=[str(one.directory / person)],
        known_hosts=None,
        config=None,
        agent_path=None,
    )


async def test_a_forward_carries_bytes_both_ways_and_leaves_two_rows(tmp_path: Path) -> None:
    """Bytes of an allowed forward arrive, come back, and are counted in exactly one closing row."""
    with relay(tmp_path) as one, echo_server(greeting=b"hello ") as port:
        async with await connect(one) as client:
            reader, writer = await client.open_connection("remote", port)
            writer.write(b"world")
            assert await reader.readexactly(11) == b"hello world"
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
        opened = one.wait_row("forward.opened")
        closed = one.wait_row("forward.closed")
        assert opened["forward"] == closed["forward"]
        assert (closed["sent"], closed["received"]) == (5, 11)
        assert len(one.rows("forward.opened")) == len(one.rows("forward.closed")) == 1


async def test_an_unlisted_target_is_refused_and_the_connection_lives_on(tmp_path: Path) -> None:
    """A refused forward gives a coarse reason with an id, and the next forward of the same connection works."""
    with relay(tmp_path) as one, echo_server() as port:
        async with await connect(one) as client:
            with pytest.raises(asyncssh.ChannelOpenError, match=r"no such host .*\(id [0-9a-z]{11}\)"):
                await client.open_connection("192.168.7.7", 22)
            reader, writer = await client.open_connection("remote", port)
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
            writer.close()
        assert one.wait_row("forward.denied")["reason"] == "unknown-target"


async def test_both_orders_of_eof_close_the_channel(tmp_path: Path) -> None:
    """Whichever side ends first, the channel is closed: no forward hangs, none leaks."""

    async def says_bye(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye")
        writer.write_eof()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(says_bye, "127.0.0.2", 0)
    port = server.sockets[0].getsockname()[1]
    with relay(tmp_path) as one:
        async with await connect(one) as client:
            reader, writer = await client.open_connection("remote", port)
            assert await reader.read() == b"bye"
            writer.write(b"later")
            writer.write_eof()
            async with asyncio.timeout(10):
                await writer.channel.wait_closed()
        assert await asyncio.to_thread(one.wait_row, "forward.closed", sent=5, received=3)
    server.close()


async def test_what_a_target_said_before_it_reset_still_arrives(tmp_path: Path) -> None:
    """A target that answers and resets because the client goes on sending: what the relay got, the client got."""
    answer = b"a" * 300_000

    async def answers_and_resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.write(answer)
        await writer.drain()
        writer.close()  # unread bytes wait in its socket, so the kernel resets what comes after

    server = await asyncio.start_server(answers_and_resets, "127.0.0.2", 0)
    port = server.sockets[0].getsockname()[1]
    with relay(tmp_path) as one:
        async with await connect(one) as client:
            reader, writer = await client.open_connection("remote", port)
            writer.write(b"x")
            got = b""
            while piece := await reader.read(50_000):
                got += piece
                with contextlib.suppress(BrokenPipeError):  # the relay has closed the channel behind the answer
                    writer.write(b"y")
        closed = await asyncio.to_thread(one.wait_row, "forward.closed")
        # a kernel that resets drops what it had not sent yet; what reached the relay must have reached the client
        assert closed["received"] == len(got) > 0
    server.close()
