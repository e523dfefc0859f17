"""What a client sent before it closed still reaches a target that is slow, as behind sshd; what is cut does not."""

import asyncio
import contextlib
import getpass
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.serve.worker.forward import pipe
from tests.openssh.lan import Sshd
from tests.relay_process import Relay, make_key, relay
from tests.serve import hostile
from tests.serve.hostile import Client, load_key, string, uint32
from tests.serve.plain import Plain, turns

CLOSE = bytes([hostile.CLOSE])
WINDOW = 1 << 19


async def filled(one: Plain) -> int:
    """Send one window and more to a target that takes nothing; how much that was."""
    await one.open()
    sent, room = 0, WINDOW
    while room:
        part = min(room, 1 << 15)
        one.feed(one.packet(bytes([hostile.DATA]) + uint32(0) + string(bytes([sent >> 15 & 0xFF]) * part)))
        sent, room = sent + part, room - part
        room += sum(int.from_bytes(said[5:9], "big") for said in one.heard() if said[0] == hostile.WINDOW_ADJUST)
    assert len(one.owner.pipes[0]._unsent) > pipe.HIGH // pipe.PART
    assert one.connection._channels[0]._recv_buf
    return sent


def closed(one: Plain) -> bool:
    """Whether the client has been told that its channel is closed since this was last asked."""
    heard = one.heard()
    assert not [said for said in heard if said[0] == hostile.DATA]
    return CLOSE + uint32(0) in heard


@pytest.mark.parametrize("end", ["close", "eof and close", "close, and the target speaks"])
@pytest.mark.parametrize("fast", [True, False], ids=["fast", "inherited"])
async def test_all_that_came_before_the_close_reaches_the_target(fast: bool, end: str) -> None:
    """The target takes its time and gets every byte and the end; only then is the channel closed towards the client."""
    one = Plain(fast=fast, windows=[WINDOW])
    try:
        sent = await filled(one)
        if "eof" in end:
            one.feed(one.packet(bytes([hostile.EOF]) + uint32(0)))
        one.feed(one.packet(CLOSE + uint32(0)))
        if "speaks" in end:
            one.owner.targets[0].send(b"of no use to anybody")
        await turns()
        assert not closed(one)
        assert one.owner.pipes[0].received == (20 if "speaks" in end else 0)
        assert one.owner.ends == {}
        got = bytearray()
        while not got.endswith(b"<EOF>"):
            got += one.taken(0)
            await turns()
        assert got == b"".join(bytes([at & 0xFF]) * (1 << 15) for at in range(sent >> 15)) + b"<EOF>"
        assert closed(one)
        assert one.owner.ends == {0: "client-closed"}
        assert one.owner.pipes[0].sent == sent
        assert not one.connection._channels
        assert await one.open() == 1
        assert one.heard()[-1][0] == hostile.OPEN_CONFIRMATION
    finally:
        one.close()


@pytest.mark.parametrize("why", ["cut", "cut quietly", "time", "target", "second close", "connection"])
@pytest.mark.parametrize("fast", [True, False], ids=["fast", "inherited"])
async def test_what_waits_behind_a_close_has_an_end(fast: bool, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cut, a target that is gone, takes nothing for too long, or the client's own end: nothing more, and one row."""
    if why == "time":
        monkeypatch.setattr(pipe, "LEAVE_SECONDS", 0.0)
    one = Plain(fast=fast, windows=[WINDOW])
    try:
        await filled(one)
        one.feed(one.packet(CLOSE + uint32(0)))
        assert not closed(one)
        taken = one.owner.pipes[0].sent
        match why:
            case "cut" | "cut quietly":
                one.owner.pipes[0].abort("key-revoked", quiet="quietly" in why)
            case "time":
                async with asyncio.timeout(5):
                    while not one.owner.ends:
                        await asyncio.sleep(0)
            case "target":
                one.owner.targets[0].close()
            case "second close":
                one.feed(one.packet(CLOSE + uint32(0)))
            case "connection":
                one.connection._force_close(None)
        await turns()
        expected = {"time": "target-silent", "target": "target-reset", "connection": "client-closed"}
        expected |= {"cut": "key-revoked", "cut quietly": "key-revoked", "second close": "client-gone"}
        assert one.owner.ends == {0: expected[why]}
        assert one.owner.pipes[0].sent == taken
        assert closed(one) is (why in ("cut", "time", "target"))
        if why == "cut":
            assert not one.connection._channels
        if why != "target":
            assert len(one.taken(0).removesuffix(b"<EOF>")) == taken
    finally:
        one.close()


# ---- beside sshd


class Slow:
    """A target that takes nothing until it is told to."""

    def __init__(self) -> None:
        self.listener = self.sock = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
        self.listener.bind(("127.0.0.2", 0))
        self.listener.listen()
        self.port: int = self.listener.getsockname()[1]

    def __enter__(self) -> "Slow":
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.close()
        self.sock.close()

    def accept(self) -> None:
        """The one connection."""
        self.sock, _ = self.listener.accept()
        self.sock.settimeout(20)

    def queued(self) -> int:
        """Bytes on their way to it, or come, which are the kernel's on both sides."""
        total = 0
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            _, local, remote, state, queues = line.split()[:5]
            if f":{self.port:04X}" in (local[-5:], remote[-5:]) and state != "0A":
                total += sum(int(part, 16) for part in queues.split(":"))
        return total

    def take(self) -> tuple[int, bool]:
        """All that comes: how much, and whether it ended as it should."""
        total = 0
        with contextlib.suppress(ConnectionResetError):
            while data := self.sock.recv(1 << 16):
                total += len(data)
            return total, True
        return total, False


@pytest.fixture(params=["sshd", "relay"])
def way(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Client, Relay | None]]:
    """A logged-in client of a real sshd, and of the relay."""
    if request.param == "relay":
        with relay(tmp_path, settings="workers: 1\n") as one, Client(one.port) as client:
            yield client.login("alice", load_key(one.key)), one
        return
    sshd = Sshd(tmp_path, ("127.0.0.1",))
    sshd.let_in(make_key(tmp_path / "alice"))
    try:
        with Client(sshd.start().port) as client:
            yield client.login(getpass.getuser(), load_key(tmp_path / "alice")), None
    finally:
        sshd.end()


@pytest.mark.system
@pytest.mark.parametrize("end", ["close", "disconnect"])
def test_a_close_waits_for_a_slow_target_as_in_sshd(way: tuple[Client, Relay | None], end: str) -> None:
    """Behind CLOSE all arrives, and CLOSE comes back when it has; behind DISCONNECT only what the kernel had taken."""
    with Slow() as target:
        client, channel = way[0], way[0].open("127.0.0.2", target.port)[1]
        target.accept()
        client.sock.settimeout(1)  # no window for so long: the target's way is full
        sent, room = 0, 1 << 21
        with contextlib.suppress(TimeoutError):
            while True:
                while room:
                    part = min(room, 1 << 20)
                    client.write(channel, bytes(part))
                    sent, room = sent + part, room - part
                room += int.from_bytes(client.expect(hostile.WINDOW_ADJUST)[5:9], "big")
        waiting = sent - target.queued()
        assert waiting > 1 << 19
        client.sock.settimeout(20)
        if end == "close":
            client.send(CLOSE + uint32(channel))
            assert target.take() == (sent, True)
            client.expect(hostile.CLOSE)
            taken = sent
        else:
            client.send(bytes([hostile.DISCONNECT]) + uint32(11) + string("bye") + string(""))
            client.gone()
            taken, _ = target.take()
            assert taken <= sent - waiting + (1 << 16)
        if way[1] is not None:
            row = way[1].wait_row("forward.closed", reason="client-closed")
            assert row["sent"] == taken
