"""The supervisor's end of the control socket: one answer to each request of a permitted user."""

import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from relay.serve.control_client import SOCKET
from relay.serve.supervisor.control_server import ControlConversation, ControlServer


async def exchanged(path: Path, request: bytes) -> list[Any]:
    """The answers to one request, until the server closes the connection."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(request + b"\n")
    lines = (await reader.read()).splitlines()
    writer.close()
    await writer.wait_closed()
    return [json.loads(line) for line in lines]


async def echo(request: dict[str, Any]) -> dict[str, Any]:
    """An answer that repeats the request."""
    return {"ok": True, "request": request}


async def count(request: dict[str, Any], caller: ControlConversation) -> None:
    """An answer in several pieces."""
    for number in range(int(request["most"])):
        await caller.send({"number": number})


async def test_a_request_has_one_answer_or_one_in_pieces(tmp_path: Path) -> None:
    """`do` selects the handler; without one of that name the general handler answers in one piece."""
    server = ControlServer(echo)
    server.conversations["count"] = count
    await server.listen(tmp_path)
    assert await exchanged(tmp_path / SOCKET, b'{"do": "x"}') == [{"ok": True, "request": {"do": "x"}}]
    pieces = await exchanged(tmp_path / SOCKET, b'{"do": "count", "most": 3}')
    assert pieces == [{"number": 0}, {"number": 1}, {"number": 2}]
    server.close()


@pytest.mark.parametrize("request_", [b"", b"[]", b"7", b"{", b"\xff\xfe", b'"' + b"x" * (5 << 20) + b'"'])
async def test_a_malformed_request_has_no_answer(tmp_path: Path, request_: bytes) -> None:
    """Anything but a JSON object of bounded size ends the connection, and the next request is answered."""
    server = ControlServer(echo)
    await server.listen(tmp_path)
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):  # it may close before it has read all of it
        assert await exchanged(tmp_path / SOCKET, request_) == []
    assert await exchanged(tmp_path / SOCKET, b"{}") == [{"ok": True, "request": {}}]
    server.close()


async def test_after_finish_no_request_is_answered(tmp_path: Path) -> None:
    """A stopping supervisor finishes the answers that it has begun and leaves later requests unanswered."""
    begun, release = asyncio.Event(), asyncio.Event()

    async def slow(request: dict[str, Any]) -> dict[str, Any]:
        begun.set()
        await release.wait()
        return {"ok": True}

    server = ControlServer(slow)
    await server.listen(tmp_path)
    first = asyncio.create_task(exchanged(tmp_path / SOCKET, b"{}"))
    await begun.wait()
    finished = asyncio.create_task(server.finish(10))
    await asyncio.sleep(0)
    assert await exchanged(tmp_path / SOCKET, b"{}") == []
    assert not finished.done()
    release.set()
    assert await first == [{"ok": True}]
    await finished
    server.close()
