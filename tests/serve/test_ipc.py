"""The protocol between supervisor and worker: order, bounds and descriptors of its frames over real sockets."""

import asyncio
import json
import os
import socket

import pytest

from relay.serve import ipc
from relay.serve.ipc import IpcLink, Message, encode


async def test_each_part_of_a_policy_is_handled_in_a_turn_of_its_own() -> None:
    """Many parts come with one read, and the streams have their turn between any two of them."""
    ours, theirs = socket.socketpair()
    seen: list[str] = []
    loop = asyncio.get_running_loop()

    def received(_: IpcLink, message: Message, __: int | None) -> None:
        seen.append(message["t"])
        loop.call_soon(seen.append, "stream")

    link = IpcLink(ours, received, lambda _: None)
    frames = ipc.chunks("policy", "v", ["x" * 300] * 100, most=1 << 11)
    with theirs:
        for frame in frames:
            body = json.dumps(frame).encode()
            theirs.sendall(len(body).to_bytes(4, "big") + body)
        async with asyncio.timeout(10):
            while seen.count("policy") < len(frames):
                await asyncio.sleep(0)
        link.close()
        await asyncio.sleep(0)
    assert len(frames) > 20
    assert "policy policy" not in " ".join(seen)


def test_parts_of_a_document_are_bounded_by_their_cost() -> None:
    """Each line costs as much as some more bytes; the first and the last part are marked; nothing is lost."""
    lines = ["x"] * 1000 + ["y" * 100_000, "z"]
    frames = ipc.chunks("keys", "v7", lines)
    assert [line for frame in frames for line in frame["lines"]] == lines
    assert max(len(frame["lines"]) for frame in frames) <= 64
    assert [frame.get("first", False) for frame in frames] == [True] + [False] * (len(frames) - 1)
    assert [frame.get("last", False) for frame in frames] == [False] * (len(frames) - 1) + [True]
    assert {(frame["t"], frame["version"]) for frame in frames} == {("keys", "v7")}
    assert ipc.chunks("keys", "v7", []) == [{"t": "keys", "version": "v7", "lines": [], "first": True, "last": True}]


async def test_delayed_messages_go_with_the_next_message() -> None:
    """They keep their order and come with one read; alone only when nothing else was sent in time."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    link = IpcLink(ours, lambda *_: None, lambda _: None)
    link.send({"t": "auth"}, delay=60.0)
    for number in ("a", "b"):
        link.acknowledge(number, 60.0)
    assert not link.idle
    await asyncio.sleep(0.01)
    with pytest.raises(BlockingIOError):
        theirs.recv(1)
    link.send({"t": "open"})
    assert await loop.sock_recv(theirs, 1000) == b"".join(
        map(encode, ({"t": "auth"}, {"t": "open"}, {"t": "ack", "ids": ["a", "b"]}))
    )
    link.acknowledge("c", 0.01)
    async with asyncio.timeout(5):
        assert await loop.sock_recv(theirs, 1000) == encode({"t": "ack", "ids": ["c"]})
    assert link.idle
    link.send({"t": "auth"}, delay=60.0)
    link.close()
    assert await loop.sock_recv(theirs, 1000) == encode({"t": "auth"})
    link.acknowledge("d", 60.0)
    assert link.idle
    theirs.close()


async def test_messages_of_one_turn_are_sent_together_and_in_order() -> None:
    """Nothing is sent before the turn ends; then all of it is with the kernel."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    link = IpcLink(ours, lambda *_: None, lambda _: None)
    messages = [{"t": "m", "n": number} for number in range(100)]
    for message in messages[:50]:
        link.send(message)
    link.send_bulk([encode(message) for message in messages[50:]])
    with pytest.raises(BlockingIOError):
        theirs.recv(1)
    await asyncio.sleep(0)
    assert theirs.recv(1 << 16) == b"".join(map(encode, messages))
    theirs.close()
    link.close()
    await asyncio.sleep(0)


async def test_frames_stay_whole_and_in_order_when_the_socket_is_full() -> None:
    """Small and large messages, more than the socket holds, in both directions at once."""
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 12)
    seen: dict[str, list[int]] = {"to": [], "back": []}

    def received(_: IpcLink, message: Message, __: int | None) -> None:
        seen[message["t"]].append(message["n"])

    link, peer = IpcLink(ours, received, lambda _: None), IpcLink(theirs, received, lambda _: None)
    async with asyncio.timeout(20):
        for number in range(2000):
            link.send({"t": "to", "n": number, "x": "y" * (number % 5 * 400)}, delay=number % 3 * 0.001)
            peer.send({"t": "back", "n": number, "x": "y" * (number % 7 * 300)})
            await asyncio.sleep(0)
        while len(seen["to"]) + len(seen["back"]) < 4000:
            await asyncio.sleep(0.001)
    assert seen["to"] == seen["back"] == list(range(2000))
    link.close()
    peer.close()
    await asyncio.sleep(0)


async def test_a_descriptor_arrives_with_its_message() -> None:
    """Each of several descriptors belongs to the message that it was sent with, and the sender keeps its own."""
    ours, theirs = socket.socketpair()
    arrived: dict[int, int | None] = {}

    def received(_: IpcLink, message: Message, descriptor: int | None) -> None:
        arrived[message["n"]] = descriptor

    link, peer = IpcLink(ours, lambda *_: None, lambda _: None), IpcLink(theirs, received, lambda _: None)
    pipes = [os.pipe() for _ in range(3)]
    for number, (_, writing) in enumerate(pipes):
        link.send({"t": "conn", "n": number, "fd": True}, writing)
        link.send({"t": "ping", "n": 10 + number})
    async with asyncio.timeout(10):
        while len(arrived) < 6:
            await asyncio.sleep(0.001)
    for number, (reading, writing) in enumerate(pipes):
        copy = arrived[number]
        assert copy is not None
        os.write(copy, b"%d" % number)
        assert os.read(reading, 10) == b"%d" % number
        assert arrived[10 + number] is None
        for descriptor in (reading, writing, copy):
            os.close(descriptor)
    link.close()
    peer.close()
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param((ipc.MAX_FRAME + 1).to_bytes(4, "big"), id="too long"),
        pytest.param(b"\0\0\0\x02[]", id="no object"),
        pytest.param(b"\0\0\0\x03{} ", id="something behind the object"),
        pytest.param(b'\0\0\0\x0b{"fd":true}', id="a descriptor that did not come"),
    ],
)
async def test_a_frame_that_breaks_the_protocol_ends_the_link(data: bytes) -> None:
    """The peer is another program or damaged: nothing of it is handled, and the end is reported once."""
    ours, theirs = socket.socketpair()
    seen: list[Message] = []
    lost: list[IpcLink] = []
    link = IpcLink(ours, lambda _, message, __: seen.append(message), lost.append)
    theirs.sendall(data)
    async with asyncio.timeout(10):
        while not lost:
            await asyncio.sleep(0)
    assert (seen, lost, link.open) == ([], [link], False)
    theirs.close()


async def test_a_peer_that_reads_nothing_is_given_up() -> None:
    """When MAX_QUEUED bytes wait for it the link ends; documents that are kept elsewhere do not count."""
    ours, theirs = socket.socketpair()
    lost: list[IpcLink] = []
    link = IpcLink(ours, lambda *_: None, lost.append)
    message = {"t": "note", "e": "x" * (1 << 19)}
    link.send_bulk([encode(message)] * 100)
    await asyncio.sleep(0)
    for _ in range(60):
        link.send(message)
    assert link.open
    for _ in range(5):  # the kernel has taken some of the bulk
        link.send(message)
    assert not link.open
    await asyncio.sleep(0)
    assert lost == [link]
    theirs.close()
