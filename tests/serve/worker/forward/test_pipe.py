"""The pipe between a channel and its target: half-close, back-pressure and the one end, with a real socket."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from relay.serve.worker.forward.pipe import HIGH, Pipe
from relay.serve.worker.forward.rate_limiter import RateLimiter
from relay.serve.worker.forward.read_pacing import ReadPacer
from relay.serve.worker.ssh.fastpath.to_client import ClientWriter, ReadResult
from tests.serve.worker.parts import until


@dataclass
class Channel:
    """A client that takes what it gets; the fast path is off."""

    calls: list[str] = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)
    open: bool = True

    def carry(self, frame: ClientWriter, source: socket.socket, most: int) -> ReadResult | None:
        return None

    def pass_on(self, data: bytes) -> None:
        if not self.open:
            raise BrokenPipeError
        self.data += data

    def get_recv_window(self) -> int:
        return 1 << 21

    def write_eof(self) -> None:
        self.calls.append("eof")

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")

    def close(self) -> None:
        self.calls.append("close")

    def abort(self) -> None:
        self.calls.append("abort")

    def silence(self) -> None:
        self.calls.append("silence")


@dataclass
class Stage:
    """A pipe, its channel, and the target's end of its socket."""

    pipe: Pipe
    channel: Channel
    target: socket.socket
    ends: list[str]


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    """An open forward."""
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
    ends: list[str] = []
    with theirs:
        pipe = Pipe(
            ours,
            lambda _, reason: ends.append(reason),
            readable=True,
            limiter=RateLimiter(),
            writer=ClientWriter(),
            pacer=ReadPacer(),
        )
        channel = Channel()
        pipe.connection_made(channel)
        yield Stage(pipe, channel, theirs, ends)
        pipe.abort("test")
        assert len(ends) == 1


async def test_bytes_go_both_ways_and_are_counted() -> None:
    """What the client sends is with the target at once; what the target sends reaches the channel."""
    async with stage() as one:
        one.pipe.data_received(b"hello")
        assert one.target.recv(100) == b"hello"
        one.target.send(b"world!")
        await until(lambda: one.channel.data == b"world!")
        assert (one.pipe.sent, one.pipe.received) == (5, 6)


async def test_each_side_can_end_before_the_other() -> None:
    """EOF of the client is passed on and data still comes back; the end of both closes the channel."""
    async with stage() as one:
        assert one.pipe.eof_received()
        assert one.target.recv(1) == b""
        one.target.send(b"late")
        await until(lambda: one.channel.data == b"late")
        one.target.shutdown(socket.SHUT_WR)
        await until(lambda: "close" in one.channel.calls)
        assert one.ends == []  # until the channel is closed
        one.pipe.connection_lost(None)
        assert one.ends == ["target-closed"]


async def test_a_target_that_ends_first_gives_eof_to_the_client() -> None:
    """The client may still send."""
    async with stage() as one:
        one.target.shutdown(socket.SHUT_WR)
        await until(lambda: one.channel.calls == ["eof"])
        one.pipe.data_received(b"more")
        assert one.target.recv(100) == b"more"


async def test_a_target_that_reads_nothing_stops_the_client_and_loses_nothing() -> None:
    """Beyond HIGH the window is not refilled; it is again when the target has read, and every byte arrives in order."""
    async with stage() as one:
        total = 0
        while "pause" not in one.channel.calls:
            one.pipe.data_received(b"%07d\n" % (total // 8) * 1024)
            total += 8192
            assert total < 64 << 20
        assert one.pipe.has_unsent
        assert len(one.pipe._unsent) <= HIGH + 8192
        read = bytearray()
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(20):
            while len(read) < total:
                read += await loop.sock_recv(one.target, 1 << 16)
        assert one.channel.calls == ["pause", "resume"]
        assert [int(line) for line in bytes(read).split()[::1024]] == list(range(0, total // 8, 1024))
        assert one.pipe.sent == total


async def test_the_target_is_not_read_while_the_client_has_no_room() -> None:
    """A full TCP connection, or a used-up window, stops the reading; its end resumes it."""
    async with stage() as one:
        for stop, resume in (
            (one.pipe.pause_writing, one.pipe.resume_writing),
            (lambda: one.pipe.set_client_writable(False), lambda: one.pipe.set_client_writable(True)),
        ):
            stop()
            one.channel.data.clear()
            one.target.send(b"x")
            for _ in range(5):
                await asyncio.sleep(0)
            assert not one.channel.data
            resume()
            await until(lambda: one.channel.data == b"x")


async def test_a_revoked_forward_sends_nothing_more() -> None:
    """The channel is aborted, or silenced if the connection ends with the reason; the target's socket is closed."""
    for quiet in (False, True):
        async with stage() as one:
            one.pipe.abort("key-revoked", quiet=quiet)
            assert one.channel.calls == ["silence" if quiet else "abort"]
            assert one.ends == ["key-revoked"]
            assert one.target.recv(1) == b""
            one.pipe.data_received(b"ignored")
            one.pipe.connection_lost(None)


async def test_a_client_that_closes_has_its_data_delivered_first() -> None:
    """As with sshd: the target gets everything and EOF, then the channel is closed."""
    async with stage() as one:
        one.pipe.client_closed([memoryview(b"last"), memoryview(b" words")])
        assert one.target.recv(100) == b"last words"
        assert one.target.recv(1) == b""
        assert one.channel.calls == ["close"]
        one.pipe.connection_lost(None)
        assert one.ends == ["client-closed"]


async def test_a_target_that_resets_is_named_in_the_reason() -> None:
    """The channel is closed, and the closing row tells a reset from an ordinary end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    ours.setblocking(False)
    ends: list[str] = []
    pipe = Pipe(
        ours,
        lambda _, reason: ends.append(reason),
        readable=True,
        limiter=RateLimiter(),
        writer=ClientWriter(),
        pacer=ReadPacer(),
    )
    channel = Channel()
    pipe.connection_made(channel)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    theirs.close()
    await until(lambda: channel.calls == ["close"])
    pipe.connection_lost(None)
    assert ends == ["target-reset"]
