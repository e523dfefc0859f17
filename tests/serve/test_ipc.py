"""relay.serve.ipc: frames between supervisor and workers, and how much of them one turn of the loop takes."""

import asyncio
import json
import socket
import threading

import pytest

from relay.serve import ipc
from relay.serve.ipc import IpcLink, Message, encode


async def test_a_slice_of_the_law_is_a_turn_of_its_own() -> None:
    """Many slices come with one read, and the streams have their turn between any two of them."""
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


def test_slices_are_bounded_by_what_they_cost() -> None:
    """Short lines cost as much as some bytes more; the first and the last slice say so; nothing is lost."""
    lines = ["x"] * 1000 + ["y" * 100_000, "z"]
    frames = ipc.chunks("keys", "v7", lines)
    assert [line for frame in frames for line in frame["lines"]] == lines
    assert max(len(frame["lines"]) for frame in frames) <= 64
    assert [frame.get("first", False) for frame in frames] == [True] + [False] * (len(frames) - 1)
    assert [frame.get("last", False) for frame in frames] == [False] * (len(frames) - 1) + [True]
    assert {(frame["t"], frame["version"]) for frame in frames} == {("keys", "v7")}
    assert ipc.chunks("keys", "v7", []) == [{"t": "keys", "version": "v7", "lines": [], "first": True, "last": True}]


async def test_what_nobody_waits_for_goes_with_what_comes_next() -> None:
    """In its order before the next message, in one read; alone only when nothing came; all acks are one."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    link = IpcLink(ours, lambda *_: None, lambda _: None)
    link.send_later({"t": "auth"}, 60.0)
    for number in ("a", "b"):
        link.acknowledge(number, 60.0)
    assert not link.idle
    await asyncio.sleep(0.01)
    with pytest.raises(BlockingIOError):
        theirs.recv(1)
    link.send({"t": "open"})
    assert await loop.sock_recv(theirs, 1000) == b"".join(
        map(encode, ({"t": "auth"}, {"t": "ack", "ids": ["a", "b"]}, {"t": "open"}))
    )
    link.acknowledge("c", 0.01)
    async with asyncio.timeout(5):
        assert await loop.sock_recv(theirs, 1000) == encode({"t": "ack", "ids": ["c"]})
    assert link.idle
    link.send_later({"t": "auth"}, 60.0)
    link.close()
    assert await loop.sock_recv(theirs, 1000) == encode({"t": "auth"})
    link.acknowledge("d", 60.0)
    assert link.idle
    theirs.close()


async def test_what_somebody_waits_for_goes_out_at_once() -> None:
    """It is with the kernel when `send_now` returns, behind what came before; the rest of the turn goes together."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    link = IpcLink(ours, lambda *_: None, lambda _: None)
    link.send({"t": "first"})
    link.send_now(encode({"t": "second"}))
    assert theirs.recv(1 << 16) == encode({"t": "first"}) + encode({"t": "second"})
    link.send_now(encode({"t": "third"}))
    link.send({"t": "fourth"})
    try:
        assert theirs.recv(1 << 16) == b""
    except BlockingIOError:
        await asyncio.sleep(0)
    assert theirs.recv(1 << 16) == encode({"t": "third"}) + encode({"t": "fourth"})
    theirs.close()
    link.close()
    await asyncio.sleep(0)
    link.answer(encode({"t": "late"}))  # nobody is there: nothing happens


async def test_frames_of_two_threads_stay_whole() -> None:
    """The loop and another thread send at once, more than the socket holds: every frame comes, whole and in order."""
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 12)
    seen: dict[str, list[int]] = {"loop": [], "thread": []}
    link = IpcLink(ours, lambda *_: None, lambda _: None)
    peer = IpcLink(theirs, lambda _, message, __: seen[message["t"]].append(message["n"]), lambda _: None)

    def answers() -> None:
        for number in range(2000):
            link.answer(encode({"t": "thread", "n": number, "x": "y" * (number % 7 * 300)}))

    thread = threading.Thread(target=answers)
    thread.start()
    async with asyncio.timeout(20):
        for number in range(2000):
            link.send({"t": "loop", "n": number, "x": "y" * (number % 5 * 400)})
            await asyncio.sleep(0)
        while len(seen["loop"]) + len(seen["thread"]) < 4000:
            await asyncio.sleep(0.001)
    thread.join()
    assert seen["loop"] == seen["thread"] == list(range(2000))
    link.close()
    peer.close()
    await asyncio.sleep(0)
