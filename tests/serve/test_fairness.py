"""No stream delays another: bytes per turn of the event loop are bounded."""

import asyncio
import contextlib
import socket

from relay.serve.worker.forward.pipe import Pipe
from relay.serve.worker.forward.rate_limiter import RateLimiter
from relay.serve.worker.forward.read_pacing import MIN_SHARE, TURN_BYTES, ReadPacer
from relay.serve.worker.ssh import key_exchange
from relay.serve.worker.ssh.fastpath.to_client import ClientWriter, ReadResult
from tests.relay_process import Relay
from tests.serve.hostile import Client, load_key


class Sink:
    """A channel that accepts everything, and records each turn."""

    def __init__(self, name: str, turns: list[tuple[str, int]]) -> None:
        self.name, self.turns = name, turns

    def get_recv_window(self) -> int:
        """The largest window."""
        return 1 << 21

    def carry(self, frame: ClientWriter, source: socket.socket, most: int) -> ReadResult:
        """Bytes towards the client."""
        total = 0
        with contextlib.suppress(BlockingIOError):
            while total < most:
                total += frame.read(source, most - total, 1 << 15)
        self.turns.append((self.name, total))
        return ReadResult(total)

    def pause_reading(self) -> None:
        """The window is not refilled."""

    def resume_reading(self) -> None:
        """The window is refilled."""

    def abort(self) -> None:
        """The forward is over."""


def fill(sock: socket.socket, most: int = 8 << 20) -> int:
    """Fill the socket."""
    sock.setblocking(False)
    sent = 0
    while sent < most:
        try:
            sent += sock.send(bytes(1 << 16))
        except BlockingIOError:
            break
    return sent


async def pipe(
    name: str, turns: list[tuple[str, int]], patience: ReadPacer | None = None
) -> tuple[Pipe, socket.socket]:
    """A forward whose channel records turns, and the target's socket."""
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    ours.setblocking(False)
    made = Pipe(
        ours,
        lambda one, reason: None,
        readable=True,
        limiter=RateLimiter(),
        writer=ClientWriter(),
        pacer=patience or ReadPacer(),
    )
    made.connection_made(Sink(name, turns))  # type: ignore[arg-type]  # what a pipe asks of a channel
    return made, theirs


async def test_a_target_that_floods_gets_its_share_of_a_turn() -> None:
    """With megabytes on one stream, a keystroke on another is read in the next turn, after one share."""
    turns: list[tuple[str, int]] = []
    bulk, bulk_target = await pipe("bulk", turns)
    keys, keys_target = await pipe("keys", turns)
    assert fill(bulk_target) > 4 * TURN_BYTES
    for _ in range(5):
        turns.clear()
        keys_target.send(b"x")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert ("keys", 1) in turns
        assert sum(size for name, size in turns if name == "bulk") <= 2 * TURN_BYTES  # of two turns
    for one, target in ((bulk, bulk_target), (keys, keys_target)):
        one.abort("test")
        target.close()


async def test_many_streams_share_a_turn() -> None:
    """Bulk streams divide a turn among them, so that a keystroke never waits for many full shares."""
    turns: list[tuple[str, int]] = []
    patience = ReadPacer()
    made = [await pipe(f"bulk {number}", turns, patience) for number in range(12)]
    for _, target in made:
        assert fill(target, 4 << 20) > 1 << 20
    for _ in range(3):
        turns.clear()
        await asyncio.sleep(0)
    assert len(turns) == 12
    assert {size for _, size in turns} == {MIN_SHARE}
    assert patience.share == MIN_SHARE
    for one, target in made:
        one.abort("test")
        target.close()
    assert patience.share == TURN_BYTES


async def test_what_waits_for_a_target_goes_out_by_the_frame() -> None:
    """Megabytes that a slow target suddenly accepts are written in several turns."""
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
    assert 0 < one.sent - before <= TURN_BYTES
    one.abort("test")
    target.close()


def test_key_exchanges_after_log_in_are_rate_limited(one: Relay, echo: int) -> None:
    """Sixteen at once are accepted, then one in two seconds, and no data is lost."""
    import time

    with Client(one.port).login("alice", load_key(one.key)) as client:
        number, channel = client.open("remote", echo)
        began = time.monotonic()
        for _ in range(key_exchange.REKEYS_AT_ONCE):
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
