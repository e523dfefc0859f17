"""The HTTP server of the monitoring pages: requests, bounds, and the setting that moves it."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.serve.supervisor.monitoring import http_server
from relay.serve.supervisor.monitoring.http_server import MAX_CONNECTIONS, MAX_HEAD, HttpPage, HttpServer


def broken() -> HttpPage:
    """A page with a bug."""
    raise KeyError("x")


PAGES = {
    "/metrics": lambda: HttpPage("x 1\n"),
    "/readyz": lambda: HttpPage("zone office: route-missing\n", 503),
    "/broken": broken,
}


class Scene:
    """A server and its setting, which a test may change."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.setting = str(path)
        self.logged: list[str] = []
        self.server = HttpServer(PAGES, lambda: self.setting, self.logged.append)

    async def until(self, where: str) -> None:
        """Wait until the server listens there."""
        async with asyncio.timeout(10):
            while self.server.where != where:
                await asyncio.sleep(0.01)

    async def request(self, data: bytes, *, end: bool = False) -> bytes:
        """The response to these bytes; with `end` the client closes its side after them."""
        if self.setting.startswith("/"):
            reader, writer = await asyncio.open_unix_connection(self.setting)
        else:
            host, _, port = self.server.where.rpartition(":")
            reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        with contextlib.suppress(ConnectionError):
            writer.write(data)
            if end:
                writer.write_eof()
        try:
            async with asyncio.timeout(10):
                return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()


@pytest.fixture
async def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """A server on a Unix socket that reads its setting often."""
    monkeypatch.setattr(http_server, "SETTING_SECONDS", 0.02)
    monkeypatch.setattr(http_server, "COMPLAINT_SECONDS", 0.1)
    made = Scene(tmp_path / "m.sock")
    running = asyncio.create_task(made.server.run())
    await made.until(made.setting)
    yield made
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert not made.path.exists() or not made.path.is_socket()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /metrics HTTP/1.0\r\n\r\n", 200),
        (b"GET /metrics HTTP/1.1\r\nHost: relay\r\nAccept: */*\r\n\r\n", 200),
        (b"GET /metrics?name[]=x HTTP/1.1\r\n\r\n", 200),
        (b"GET /metrics\n\n", 200),
        (b"GET /readyz HTTP/1.0\r\n\r\n", 503),
        (b"GET / HTTP/1.0\r\n\r\n", 404),
        (b"GET /../../etc/passwd HTTP/1.0\r\n\r\n", 404),
        (b"GET http://relay/metrics HTTP/1.0\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.0\r\n\r\n", 405),
        (b"hello\r\n\r\n", 400),
        (b"a b c d e\r\n\r\n", 400),
        (b"GET /metrics SSH-2.0\r\n\r\n", 400),
        (b"\0\xff\xfe\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
    ],
)
async def test_requests_and_their_responses(scene: Scene, request_: bytes, status: int) -> None:
    """Each request gets the status that RFC 1945 names for it, a Content-Length, and the end of the connection."""
    head, _, body = (await scene.request(request_)).partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.0 {status} ".encode()), head
    assert f"Content-Length: {len(body)}".encode() in head
    assert (body == b"x 1\n") == (status == 200)


async def test_a_page_with_a_bug_says_so(scene: Scene) -> None:
    """The client gets status 500, the operator one line, and the other pages still work."""
    assert (await scene.request(b"GET /broken HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.0 500 ")
    assert scene.logged == ["a bug of ours, please report it: KeyError('x')"]
    assert b" 200 " in await scene.request(b"GET /metrics HTTP/1.0\r\n\r\n")


async def test_head_has_no_body(scene: Scene) -> None:
    """The response to HEAD is that to GET without the body."""
    whole = await scene.request(b"GET /metrics HTTP/1.0\r\n\r\n")
    assert await scene.request(b"HEAD /metrics HTTP/1.0\r\n\r\n") == whole.removesuffix(b"x 1\n")


async def test_a_request_without_end_is_bounded(scene: Scene) -> None:
    """A head that is too long, or that ends too early, is a bad request."""
    answer = await scene.request(b"GET /metrics HTTP/1.0\r\n" + b"x" * 3 * MAX_HEAD)
    assert answer == b"" or b" 400 " in answer  # TCP may lose it, as not all that was sent is read
    assert (await scene.request(b"GET /metrics HTTP/1.0\r\n", end=True)).startswith(b"HTTP/1.0 400 ")
    assert b" 200 " in await scene.request(b"GET /metrics HTTP/1.0\r\n\r\n")


async def test_silent_connections_end_at_the_deadline_and_are_bounded(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A silent client is closed without a response; while the maximum of them is connected, others are refused."""
    monkeypatch.setattr(http_server, "REQUEST_SECONDS", 2.0)
    silent = [await asyncio.open_unix_connection(scene.setting) for _ in range(MAX_CONNECTIONS)]
    assert await scene.request(b"GET /metrics HTTP/1.0\r\n\r\n") == b""
    async with asyncio.timeout(10):
        assert [await reader.read() for reader, _ in silent] == [b""] * MAX_CONNECTIONS
    for _, writer in silent:
        writer.close()
    assert b" 200 " in await scene.request(b"GET /metrics HTTP/1.0\r\n\r\n")


async def test_it_moves_with_its_setting(scene: Scene) -> None:
    """A changed setting moves the server from a socket to a port, off, and back; the socket's file is removed."""
    mode = scene.path.stat().st_mode & 0o777
    assert mode == 0o660
    scene.setting = "127.0.0.1:0"
    async with asyncio.timeout(10):
        while not scene.server.where.startswith("127.0.0.1:"):
            await asyncio.sleep(0.01)
    assert not scene.path.exists()
    assert b" 200 " in await scene.request(b"GET /metrics HTTP/1.0\r\n\r\n")
    scene.setting = ""
    await scene.until("")
    scene.setting = str(scene.path)
    await scene.until(scene.setting)
    assert b" 200 " in await scene.request(b"GET /metrics HTTP/1.0\r\n\r\n")


async def test_a_port_in_use_is_tried_again(scene: Scene) -> None:
    """The operator is told once, and the server listens as soon as the port is free."""
    taken = socket.create_server(("127.0.0.1", 0))
    scene.setting = f"127.0.0.1:{taken.getsockname()[1]}"
    async with asyncio.timeout(10):
        while not scene.logged:
            await asyncio.sleep(0.01)
    assert len(scene.logged) == 1
    assert "Address already in use" in scene.logged[0]
    taken.close()
    await scene.until(scene.setting)


async def test_a_file_is_not_replaced(scene: Scene) -> None:
    """A path that is a regular file is left alone, and the operator is told."""
    file = scene.path.with_name("notes.txt")
    file.write_text("mine")
    scene.setting = str(file)
    async with asyncio.timeout(10):
        while not scene.logged:
            await asyncio.sleep(0.01)
    assert "something else is there" in scene.logged[0]
    assert file.read_text() == "mine"


async def test_a_successors_socket_is_left(scene: Scene) -> None:
    """A socket that the next supervisor has put at the path is not removed by the previous one."""
    other = Scene(scene.path)
    running = asyncio.create_task(other.server.run())
    await other.until(other.setting)
    scene.setting = ""
    await scene.until("")
    assert b" 200 " in await other.request(b"GET /metrics HTTP/1.0\r\n\r\n")
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert not scene.path.exists()
