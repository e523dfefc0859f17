"""Client of ZeroTier's local API: HTTP on 127.0.0.1, with the token of the node.

The token is full control (join, leave, reroute): commands read it as root, no serving process ever does. It is sent
only to a socket that belongs to root or to the token's owner, because any user may listen on the port while the service
is stopped.
"""

import http.client
import io
import json
import os
import re
import socket
import time
from pathlib import Path
from typing import cast

from relay.net.zerotier.node_view import ApiStatus, NodeView, parse_answers, parse_health

HOME = Path("/var/lib/zerotier-one")
TOKEN, PORT = "authtoken.secret", "zerotier-one.port"
DEFAULT_PORT = 9993
SECONDS = 2.0  # for all requests together; a healthy node answers in a few milliseconds
_MOST_ANSWER = 4 << 20  # bytes; a peer is about 400 of them, a network 900
_MOST_TABLE = 1 << 20  # bytes of /proc/net/tcp, where what listens stands first
_LISTENS = "0A"  # TCP_LISTEN in /proc/net/tcp
_LENGTH = re.compile(rb"(?im)^content-length: *(\d{1,9})\r?$")
_TOKEN = re.compile(r"[!-~]{1,256}")


def read_node(home: Path = HOME, *, timeout: float = SECONDS) -> NodeView:
    """Ask the node whose files lie in `home`, for `timeout` seconds at most. Raises nothing."""
    deadline = time.monotonic() + timeout
    try:
        owners = {0, (home / TOKEN).stat().st_uid}
    except PermissionError:
        owners = {0}
    except OSError:
        return NodeView(ApiStatus.NOT_INSTALLED, f"there is no {home / TOKEN}")
    port = _port(home)
    listening = _listening(port)
    if not listening:
        return NodeView(ApiStatus.NOT_RUNNING, f"nothing listens on port {port}")
    if not listening <= owners:
        return NodeView(ApiStatus.GARBLED, f"what listens on port {port} is neither root's nor ZeroTier's")
    try:
        token = _read(home / TOKEN, 1024).strip()
        if not _TOKEN.fullmatch(token):
            return NodeView(ApiStatus.TOKEN_UNREADABLE, f"{home / TOKEN} holds no token")
    except OSError as error:
        return _without_token(port, deadline, f"{home / TOKEN}: {error.strerror}")
    try:
        answers = {path: _ask(port, path, token, deadline) for path in ("/status", "/network", "/peer", "/moon")}
    except TimeoutError:
        return NodeView(ApiStatus.SILENT, f"port {port} did not answer within {timeout:g} s")
    except ConnectionRefusedError:
        return NodeView(ApiStatus.NOT_RUNNING, f"nothing listens on port {port}")
    except (OSError, http.client.HTTPException) as error:
        return NodeView(ApiStatus.GARBLED, f"port {port}: {error}")
    return parse_answers(answers)


def _without_token(port: int, deadline: float, why: str) -> NodeView:
    """The answer of /health, which needs no token."""
    try:
        status, answer = _ask(port, "/health", "", deadline)
    except (OSError, http.client.HTTPException):
        return NodeView(ApiStatus.TOKEN_UNREADABLE, why)
    return parse_health(answer if status == 200 else None, why)


class _Arrived:
    """Bytes that came already, as the socket that http.client reads from."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        """The bytes as a file; `mode` is always rb."""
        return io.BytesIO(self._data)


def _ask(port: int, path: str, token: str, deadline: float) -> tuple[int, object]:
    """(HTTP status, decoded JSON). Raises OSError, TimeoutError at the deadline, HTTPException for what is no HTTP.

    All bytes are read first: http.client's own time-out restarts with each byte that a peer sends.
    """
    lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Connection: close"]
    lines += [f"X-ZT1-Auth: {token}"] if token else []
    data = bytearray()
    with socket.create_connection(("127.0.0.1", port), timeout=_left(deadline)) as sock:
        sock.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
        while True:
            sock.settimeout(_left(deadline))
            part = sock.recv(1 << 16)
            data += part
            if not part or _whole(data):
                break
            if len(data) > _MOST_ANSWER:
                raise http.client.HTTPException(f"the answer to {path} is too long")
    response = http.client.HTTPResponse(cast(socket.socket, _Arrived(bytes(data))))
    response.begin()
    body = response.read()
    try:
        return response.status, json.loads(body)
    except (ValueError, RecursionError):
        return response.status if response.status != 200 else -1, None


def _whole(data: bytearray) -> bool:
    """Whether the announced length has arrived: not every version closes the connection on request."""
    head, end, body = data.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    return bool(end and length and len(body) >= int(length[1]))


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the answer did not come in time")
    return left


def _port(home: Path) -> int:
    try:
        port = int(_read(home / PORT, 16))
    except (OSError, ValueError):
        return DEFAULT_PORT
    return port if 0 < port < 1 << 16 else DEFAULT_PORT


def _listening(port: int) -> set[int]:
    """The users (uid) whose sockets listen on `port`; {-1}, the uid of no user, where the kernel does not tell."""
    found = set()
    for name in ("tcp", "tcp6"):
        try:
            text = _read(Path("/proc/net") / name, _MOST_TABLE)
        except FileNotFoundError:  # a kernel without IPv6
            if name == "tcp":
                return {-1}
            continue
        except OSError:
            return {-1}
        for line in text.splitlines()[1:]:
            words = line.split()
            if len(words) > 7 and words[3] == _LISTENS and words[1].endswith(f":{port:04X}"):
                found.add(int(words[7]) if words[7].isdecimal() else -1)
    return found


def _read(path: Path, most: int) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO there must not stop us
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
        return file.read(most).decode("utf-8", "replace")
