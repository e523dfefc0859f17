"""The pages by HTTP: small, bounded, and where the setting says."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from relay.serve.supervisor.monitoring import http_server
from relay.serve.supervisor.monitoring.http_server import AT_ONCE, MOST, HttpPage, HttpServer


def broken() -> HttpPage:
    """A page with a bug."""
    raise KeyError("x")


PAGES = {
    "/metrics": lambda: HttpPage("x 1\n"),
    "/readyz": lambda: HttpPage("zone office: route-missing\n", 503),
    "/broken": broken,
}


class Scene:
    """A window and its setting, which a test may change."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.place = str(path)
        self.said: list[str] = []
        self.window = HttpServer(PAGES, lambda: self.place, self.said.append)

    async def until(self, where: str) -> None:
        """Wait until it is there."""
        async with asyncio.timeout(10):
            while self.window.where != where:
                await asyncio.sleep(0.01)

    async def ask(self, request: bytes, *, end: bool = False) -> bytes:
        """What it answers to these bytes; `end`: nothing follows them."""
        if self.place.startswith("/"):
            reader, writer = await asyncio.open_unix_connection(self.place)
        else:
            host, _, port = self.window.where.rpartition(":")
            reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        with contextlib.suppress(ConnectionError):
            writer.write(request)
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
    """A window at a Unix socket that looks at its setting often."""
    monkeypatch.setattr(http_server, "FOLLOW_SECONDS", 0.02)
    monkeypatch.setattr(http_server, "COMPLAIN_SECONDS", 0.1)
    made = Scene(tmp_path / "m.sock")
    running = asyncio.create_task(made.window.run())
    await made.until(made.place)
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
async def test_requests_and_their_answers(scene: Scene, request_: bytes, status: int) -> None:
    """What is asked decides; the connection ends after each answer, whose length is said."""
    head, _, body = (await scene.ask(request_)).partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.0 {status} ".encode()), head
    assert f"Content-Length: {len(body)}".encode() in head
    assert (body == b"x 1\n") == (status == 200)


async def test_a_page_with_a_bug_says_so(scene: Scene) -> None:
    """It is an answer, and a line for the operator; the others go on."""
    assert (await scene.ask(b"GET /broken HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.0 500 ")
    assert scene.said == ["a bug of ours, please report it: KeyError('x')"]
    assert b" 200 " in await scene.ask(b"GET /metrics HTTP/1.0\r\n\r\n")


async def test_head_has_no_body(scene: Scene) -> None:
    """The same head as GET's."""
    whole = await scene.ask(b"GET /metrics HTTP/1.0\r\n\r\n")
    assert await scene.ask(b"HEAD /metrics HTTP/1.0\r\n\r\n") == whole.removesuffix(b"x 1\n")


async def test_a_request_without_end_is_bounded(scene: Scene) -> None:
    """A head that is too long is no request; one that ends too soon neither."""
    answer = await scene.ask(b"GET /metrics HTTP/1.0\r\n" + b"x" * 3 * MOST)
    assert answer == b"" or b" 400 " in answer  # TCP may lose it, as not all that was sent is read
    assert (await scene.ask(b"GET /metrics HTTP/1.0\r\n", end=True)).startswith(b"HTTP/1.0 400 ")
    assert b" 200 " in await scene.ask(b"GET /metrics HTTP/1.0\r\n\r\n")


async def test_who_says_nothing_is_cut_off(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a few seconds, without an answer; and while there are as many of them as may be, others are not served."""
    monkeypatch.setattr(http_server, "SECONDS", 0.4)
    silent = [asyncio.create_task(scene.ask(b"")) for _ in range(AT_ONCE)]
    async with asyncio.timeout(10):
        while await scene.ask(b"GET /metrics HTTP/1.0\r\n\r\n"):
            await asyncio.sleep(0.01)
    assert await asyncio.gather(*silent) == [b""] * AT_ONCE
    async with asyncio.timeout(10):
        while not await scene.ask(b"GET /metrics HTTP/1.0\r\n\r\n"):
            await asyncio.sleep(0.01)


async def test_it_moves_with_its_setting(scene: Scene) -> None:
    """From the socket to a port, to nowhere, and back, while it runs; the socket's file goes with it."""
    mode = scene.path.stat().st_mode & 0o777
    assert mode == 0o660
    scene.place = "127.0.0.1:0"
    async with asyncio.timeout(10):
        while not scene.window.where.startswith("127.0.0.1:"):
            await asyncio.sleep(0.01)
    assert not scene.path.exists()
    assert b" 200 " in await scene.ask(b"GET /metrics HTTP/1.0\r\n\r\n")
    scene.place = ""
    await scene.until("")
    scene.place = str(scene.path)
    await scene.until(scene.place)
    assert b" 200 " in await scene.ask(b"GET /metrics HTTP/1.0\r\n\r\n")


async def test_a_place_that_is_taken_is_tried_again(scene: Scene) -> None:
    """It is said once, and there as soon as the place is free."""
    taken = socket.create_server(("127.0.0.1", 0))
    scene.place = f"127.0.0.1:{taken.getsockname()[1]}"
    async with asyncio.timeout(10):
        while not scene.said:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert len(scene.said) == 1
    assert "Address already in use" in scene.said[0]
    taken.close()
    await scene.until(scene.place)


async def test_a_file_is_not_replaced(scene: Scene) -> None:
    """A path where something else lies is a mistake that costs nothing."""
    file = scene.path.with_name("notes.txt")
    file.write_text("mine")
    scene.place = str(file)
    async with asyncio.timeout(10):
        while not scene.said:
            await asyncio.sleep(0.01)
    assert "something else is there" in scene.said[0]
    assert file.read_text() == "mine"


async def test_a_successors_socket_is_left(scene: Scene) -> None:
    """Another supervisor has replaced the socket: the path leads to it, whatever becomes of the first one."""
    other = Scene(scene.path)
    running = asyncio.create_task(other.window.run())
    await other.until(other.place)
    scene.place = ""
    await scene.until("")
    assert b" 200 " in await other.ask(b"GET /metrics HTTP/1.0\r\n\r\n")
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert not scene.path.exists()
