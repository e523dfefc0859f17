"""What does the relay show to programs that watch it? A few pages by HTTP/1.0, at a loopback port or a Unix socket.

Who asks is on this machine: any program for the port, the relay's user and group (and root) for the socket. What is
read of a request is bounded in size, time and number, and nothing of it is acted on but its path (RFC 1945).
"""

import asyncio
import contextlib
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from relay.core.escape import escape
from relay.serve.supervisor import listeners
from relay.serve.ticker import run_ticker

AT_ONCE = 8  # requests; a scraper has one
SECONDS = 5.0  # for a request and its answer
MOST = 8192  # bytes of a request
_END = re.compile(rb"\n\r?\n")  # of its head; nothing follows a GET
FOLLOW_SECONDS = 1.0  # how often it is looked whether the setting has changed, and tried again where it failed
COMPLAIN_SECONDS = 5.0  # of failing: at a hand-over the port is free a moment later

_STATUS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


@dataclass(frozen=True, slots=True)
class HttpPage:
    """An answer."""

    text: str
    status: int = 200
    kind: str = "text/plain; charset=utf-8"


class HttpServer:
    """The pages at one place. `place` gives the setting of the moment: "" (nowhere), ADDRESS:PORT or /PATH."""

    def __init__(
        self, pages: Mapping[str, Callable[[], HttpPage]], place: Callable[[], str], say: Callable[[str], None]
    ) -> None:
        self._pages = pages
        self._place = place
        self._say = say
        self._loop = asyncio.get_running_loop()
        self._sock: socket.socket | None = None
        self._at = ""
        self._inode = 0
        self._failing_since: float | None = None
        self._complained = False
        self._asking: set[asyncio.Task[None]] = set()
        self.where = ""  # where it really is, "" nowhere

    async def run(self) -> None:
        """Be where the setting says, for ever."""
        try:
            while True:
                self._follow()
                await run_ticker(FOLLOW_SECONDS)
        finally:
            self._close()

    def _follow(self) -> None:
        wished = self._place()
        if wished != self._at:
            self._close()
            self._at, self._failing_since, self._complained = wished, None, False
        if not wished or self._sock is not None:
            return
        try:
            sock = _local(Path(wished)) if wished.startswith("/") else _bound(wished)
        except OSError as error:
            self._complain(f"metrics cannot be shown at {wished}: {error.strerror or error}")
            return
        self._sock = sock
        self._loop.add_reader(sock.fileno(), self._accept)
        self.where = wished
        if wished.startswith("/"):
            with contextlib.suppress(OSError):  # somebody was quicker: it is theirs
                Path(wished).chmod(0o660)  # the group may read too, where the directory lets it come here
                self._inode = Path(wished).stat().st_ino
        else:
            self.where = listeners.where(sock)
        self._failing_since = None

    def _complain(self, text: str) -> None:
        now = self._loop.time()
        if self._failing_since is None:
            self._failing_since = now
        if not self._complained and now - self._failing_since >= COMPLAIN_SECONDS:
            self._complained = True
            self._say(f"{escape(text, 400)}; it is tried again every second")

    def _close(self) -> None:
        if self._sock is None:
            return
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        self._sock = None
        if self._at.startswith("/"):
            with contextlib.suppress(OSError):
                if Path(self._at).stat().st_ino == self._inode:  # else it is a successor's
                    Path(self._at).unlink()
        self.where = ""

    def _accept(self) -> None:
        assert self._sock is not None
        try:
            sock, _ = self._sock.accept()
        except OSError:  # gone again, or no descriptor is left: clients come first
            return
        if len(self._asking) >= AT_ONCE:
            sock.close()
            return
        sock.setblocking(False)
        task = self._loop.create_task(self._serve(sock), name="show a page")
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _serve(self, sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError, TimeoutError):  # gone, or too slow
            async with asyncio.timeout(SECONDS):
                method, path = await self._request(sock)
                answer = _answer(self._look(method, path), whole=method != "HEAD")
                await self._loop.sock_sendall(sock, answer)

    async def _request(self, sock: socket.socket) -> tuple[str, str]:
        """Method and path, ("", "") for what is no request or too long."""
        data = b""
        while not _END.search(data):
            if len(data) > MOST or not (piece := await self._loop.sock_recv(sock, MOST)):
                return "", ""
            data += piece
        words = data.partition(b"\n")[0].decode("latin-1").split()
        if len(words) not in (2, 3) or (len(words) == 3 and not words[2].startswith("HTTP/")):
            return "", ""
        return words[0], words[1]

    def _look(self, method: str, path: str) -> HttpPage:
        if not method:
            return HttpPage("that is no request\n", 400)
        if method not in ("GET", "HEAD"):
            return HttpPage("only GET\n", 405)
        page = self._pages.get(path.partition("?")[0])
        if page is None:
            return HttpPage("".join(f"{one}\n" for one in self._pages), 404)
        try:
            return page()
        except Exception as error:  # one page's trouble must not look like a relay that is gone
            self._say(f"a bug of ours, please report it: {error!r}")
            return HttpPage("internal error\n", 500)


def _answer(page: HttpPage, *, whole: bool) -> bytes:
    body = page.text.encode()
    head = (
        f"HTTP/1.0 {page.status} {_STATUS[page.status]}\r\nContent-Type: {page.kind}\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (body if whole else b"")


def _local(path: Path) -> socket.socket:
    if path.exists() and not path.is_socket():
        raise OSError("something else is there")
    return listeners.local(path)


def _bound(text: str) -> socket.socket:
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, int(port)))
        sock.listen(AT_ONCE)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        raise
    return sock
