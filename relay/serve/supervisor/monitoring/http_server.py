"""HTTP/1.0 server for a few read-only pages, on a loopback port or a Unix socket (RFC 1945).

A loopback port is open to every program on this machine, a Unix socket to the relay's user and group and to root. A
request is bounded in size, time and number, and only its method and path are used.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from relay.core.escape import escape
from relay.serve.supervisor import listeners
from relay.serve.ticker import run_ticker

MAX_CONNECTIONS = 8  # at the same time; a scraper has one
REQUEST_SECONDS = 5.0  # for a request and its response
MAX_HEAD = 8192  # bytes of the request line and the header fields together
SETTING_SECONDS = 1.0  # between two looks at the setting, and between two attempts to listen
COMPLAINT_SECONDS = 5.0  # of failing before the operator is told: after a restart the port is free a moment later

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
    """One response."""

    text: str
    status: int = 200
    content_type: str = "text/plain; charset=utf-8"


class HttpServer:
    """The pages at one address. `setting` returns the configured one: "" (none), ADDRESS:PORT or /PATH."""

    def __init__(
        self, pages: Mapping[str, Callable[[], HttpPage]], setting: Callable[[], str], log: Callable[[str], None]
    ) -> None:
        self._pages = pages
        self._setting = setting
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._server: asyncio.Server | None = None
        self._configured = ""
        self._inode = 0  # of the Unix socket
        self._failing_since: float | None = None
        self._complained = False
        self._connections = 0
        self.where = ""  # the address that is really listened on, "" if none

    async def run(self) -> None:
        """Listen where the setting says, for ever."""
        try:
            while True:
                await self._apply_setting()
                await run_ticker(SETTING_SECONDS)
        finally:
            self._close()

    async def _apply_setting(self) -> None:
        configured = self._setting()
        if configured != self._configured:
            self._close()
            self._configured, self._failing_since, self._complained = configured, None, False
        if not configured or self._server is not None:
            return
        try:
            await self._listen(configured)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else error
            self._complain(f"metrics cannot be shown at {configured}: {reason}")
        else:
            self._failing_since = None

    async def _listen(self, configured: str) -> None:
        if configured.startswith("/"):
            sock, self._inode = _unix_socket(Path(configured))
            self._server = await asyncio.start_unix_server(self._serve, sock=sock, limit=MAX_HEAD)
            self.where = configured
        else:
            host, _, port = configured.rpartition(":")
            self._server = await asyncio.start_server(self._serve, host.strip("[]"), int(port), limit=MAX_HEAD)
            self.where = listeners.where(self._server.sockets[0])

    def _complain(self, text: str) -> None:
        now = self._loop.time()
        if self._failing_since is None:
            self._failing_since = now
        if not self._complained and now - self._failing_since >= COMPLAINT_SECONDS:
            self._complained = True
            self._log(f"{escape(text, 400)}; it is tried again every second")

    def _close(self) -> None:
        if self._server is None:
            return
        self._server.close()
        self._server = None
        self.where = ""
        if self._configured.startswith("/"):
            with contextlib.suppress(OSError):
                if Path(self._configured).stat().st_ino == self._inode:  # else it is the next supervisor's
                    Path(self._configured).unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: one request, one response, close."""
        if self._connections >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        self._connections += 1
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                method, path = await _read_request(reader)
                writer.write(_response(self._page(method, path), with_body=method != "HEAD"))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (OSError, TimeoutError):  # the client has gone, or is too slow
            pass
        finally:
            self._connections -= 1
            writer.transport.abort()

    def _page(self, method: str, path: str) -> HttpPage:
        if not method:
            return HttpPage("bad request\n", 400)
        if method not in ("GET", "HEAD"):
            return HttpPage("method not allowed: use GET or HEAD\n", 405)
        page = self._pages.get(path.partition("?")[0])
        if page is None:
            return HttpPage("".join(f"{known}\n" for known in self._pages), 404)
        try:
            return page()
        except Exception as error:  # a defect in one page must not look as if the relay were down
            self._log(f"a bug of ours, please report it: {error!r}")
            return HttpPage("internal error\n", 500)


def _unix_socket(path: Path) -> tuple[socket.socket, int]:
    """A listening socket at the path, and its inode there. Raises OSError, also for a path that is no socket."""
    if path.exists() and not path.is_socket():
        raise OSError("something else is there")
    sock = listeners.local(path)
    try:
        path.chmod(0o660)  # the group may read too, where the directory's mode lets it
        return sock, path.stat().st_ino
    except OSError:  # another process has replaced it already
        return sock, 0


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, str]:
    """Method and path; ("", "") for a malformed, truncated or too long request."""
    lines: list[bytes] = []
    size = 0
    while not lines or lines[-1].strip(b"\r\n"):
        try:
            line = await reader.readline()
        except ValueError:  # longer than the reader's limit
            return "", ""
        size += len(line)
        if not line.endswith(b"\n") or size > MAX_HEAD:
            return "", ""
        lines.append(line)
    words = lines[0].decode("latin-1").split()
    if len(words) not in (2, 3) or (len(words) == 3 and not words[2].startswith("HTTP/")):
        return "", ""
    return words[0], words[1]


def _response(page: HttpPage, *, with_body: bool) -> bytes:
    body = page.text.encode()
    head = (
        f"HTTP/1.0 {page.status} {_STATUS[page.status]}\r\nContent-Type: {page.content_type}\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (body if with_body else b"")
