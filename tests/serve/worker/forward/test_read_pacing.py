"""Pacing of reads: bulk streams are read less often, and replies are never delayed."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from relay.serve.worker.forward import read_pacing
from tests.serve import hostile
from tests.serve.hostile import string, uint32
from tests.serve.plain import Plain, turns


@contextlib.asynccontextmanager
async def reading() -> AsyncIterator[tuple[read_pacing.PacedSocket, socket.socket, list[int]]]:
    """A socket that is read when it is readable, its other end, and the size of each read."""
    listener = socket.create_server(("127.0.0.1", 0))
    theirs = socket.create_connection(listener.getsockname())
    ours, _ = listener.accept()
    with listener, theirs, ours:
        ours.setblocking(False)
        reader, came = read_pacing.PacedSocket(read_pacing.ReadPacer(), ours), list[int]()

        def readable() -> None:
            came.append(len(ours.recv(reader.share)))
            reader.note(came[-1])

        loop = asyncio.get_running_loop()
        loop.add_reader(ours.fileno(), readable)
        yield reader, theirs, came
        loop.remove_reader(ours.fileno())


async def carried(came: list[int], count: int) -> None:
    """Wait until so many bytes have been read."""
    async with asyncio.timeout(5):
        while sum(came) < count:
            await asyncio.sleep(0)


async def test_a_bulk_stream_is_read_less_often_and_its_rest_is_read() -> None:
    """A bulk stream wakes us for much only (SO_RCVLOWAT); a smaller rest is read at the next check."""
    async with reading() as (reader, theirs, came):
        loop, much = asyncio.get_running_loop(), 64 * read_pacing.BULK_BYTES
        sending = loop.run_in_executor(None, theirs.sendall, bytes(much))
        waited_for = set()
        while sum(came) < much:
            await asyncio.sleep(0)
            waited_for.add(reader.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT))
        await sending
        assert read_pacing.MIN_BULK_READ <= max(waited_for) <= read_pacing.MAX_LOW_WATER
        theirs.sendall(b"the rest")
        await carried(came, much + 8)
        async with asyncio.timeout(5):
            while reader.is_waiting_for_much:
                await asyncio.sleep(0.001)
        assert reader.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1


async def test_replies_are_never_delayed() -> None:
    """Replies of any total size wake us at once as long as a request comes before each."""
    async with reading() as (reader, theirs, came):
        for count in range(1, 2 * read_pacing.BULK_BYTES // (2 * read_pacing.MIN_BULK_READ)):
            reader.interrupt()
            theirs.sendall(bytes(2 * read_pacing.MIN_BULK_READ))
            await carried(came, count * 2 * read_pacing.MIN_BULK_READ)
            reader.check()
            assert not reader.is_waiting_for_much


@pytest.mark.parametrize("fast", [True, False])
async def test_both_directions_of_a_forward_interrupt_each_other(fast: bool) -> None:
    """Data of one side of a forward makes every byte of the other side wake us again."""
    one = Plain(fast=fast, windows=[1 << 21])
    try:
        await one.open()
        pipe, client = one.owner.pipes[0], one.connection._reader
        for reader in (pipe._reader, client):
            reader.note(read_pacing.BULK_BYTES)
            reader.check()
            assert reader.is_waiting_for_much
        one.feed(one.packet(bytes([hostile.DATA]) + uint32(0) + string("a request")))
        assert not pipe._reader.is_waiting_for_much
        one.owner.targets[0].send(b"an answer")
        await turns()
        assert not client.is_waiting_for_much
    finally:
        one.close()
