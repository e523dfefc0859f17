"""No stream holds up another: so many bytes a turn of the loop, whatever waits in the kernel."""

import asyncio
import contextlib
import socket

import asyncssh

from relay.serve import connection
from relay.serve.pipe import CHUNK, Pipe
from relay.serve.purse import Purse
from tests.relay_process import Relay
from tests.serve.hostile import Client, load_key


class Sink:
    """A channel that takes everything and notes whose turn it was."""

    def __init__(self, name: str, turns: list[tuple[str, int]]) -> None:
        self.name, self.turns = name, turns

    def write(self, data: bytes) -> None:
        """Bytes towards the client."""
        self.turns.append((self.name, len(data)))

    def pause_reading(self) -> None:
        """The window is not refilled."""

    def resume_reading(self) -> None:
        """It is again."""

    def abort(self) -> None:
        """Over."""


def fill(sock: socket.socket, most: int = 8 << 20) -> int:
    """Put as much into the socket as it takes."""
    sock.setblocking(False)
    sent = 0
    while sent < most:
        try:
            sent += sock.send(bytes(1 << 16))
        except BlockingIOError:
            break
    return sent


async def pipe(name: str, turns: list[tuple[str, int]]) -> tuple[Pipe, socket.socket]:
    """A forward whose channel notes turns, and the target's end."""
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    ours.setblocking(False)
    made = Pipe(ours, lambda one, reason: None, True, Purse())
    made.connection_made(Sink(name, turns))  # type: ignore[arg-type]  # what a pipe asks of a channel
    return made, theirs


async def test_a_target_that_floods_gets_one_chunk_a_turn() -> None:
    """Megabytes wait on one stream and a keystroke on another: the keystroke is in the next turn, behind one chunk."""
    turns: list[tuple[str, int]] = []
    bulk, bulk_target = await pipe("bulk", turns)
    keys, keys_target = await pipe("keys", turns)
    assert fill(bulk_target) > 4 * CHUNK
    for _ in range(5):
        turns.clear()
        keys_target.send(b"x")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert ("keys", 1) in turns
        assert sum(size for name, size in turns if name == "bulk") <= 2 * CHUNK
    for one, target in ((bulk, bulk_target), (keys, keys_target)):
        one.cut("test")
        target.close()


async def test_what_waits_for_a_target_goes_out_by_the_chunk() -> None:
    """A client's megabyte that a slow target suddenly takes is no single long turn."""
    turns: list[tuple[str, int]] = []
    one, target = await pipe("up", turns)
    for _ in range(400):
        one.data_received(bytes(1 << 15))
    before = one.sent
    target.setblocking(False)
    while True:
        try:
            target.recv(1 << 20)
        except BlockingIOError:
            break
    one._writable()
    assert 0 < one.sent - before <= CHUNK
    one.cut("test")
    target.close()


async def test_a_client_is_read_in_pieces() -> None:
    """asyncio would take 256 KiB of a client at once, eight packets to decrypt before anybody else's turn."""

    class Transport(asyncio.Transport):
        max_size = 1 << 18

        def get_extra_info(self, name: str, default: object = None) -> object:
            return default

    options = asyncssh.SSHServerConnectionOptions(server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")])
    from relay.core.settings import Limits

    one = connection.Connection(asyncio.get_running_loop(), options, asyncssh.SSHServer(), Limits())
    transport = Transport()
    with contextlib.suppress(AttributeError):  # the rest wants a real socket
        one.connection_made(transport)
    assert transport.max_size == connection.READ == 1 << 16


def test_key_exchanges_after_log_in_are_rate_limited(one: Relay, echo: int) -> None:
    """Sixteen at once are taken as they come; after that one in two seconds, and nothing is lost by it."""
    import time

    with Client(one.port).login("alice", load_key(one.key)) as client:
        number, channel = client.open("remote", echo)
        began = time.monotonic()
        for _ in range(connection.REKEYS_AT_ONCE):
            client.exchange()
        quick = time.monotonic() - began
        began = time.monotonic()
        client.exchange()
        client.exchange()
        slow = time.monotonic() - began
        client.write(channel, b"still here")
        assert client.read(number, 10) == b"still here"
    assert slow > 2.0
    assert quick < 2.0 + slow
