"""How is somebody told why nobody lets them in, without reading a byte of theirs? Version line, reason, half-close.

A client shows the reason of a DISCONNECT (RFC 4253 11.1) that comes before any key exchange, but only if the
connection is not reset before it has read it: a socket that is closed with unread bytes in it is reset. So the
socket stays for a moment, until the client has closed its side, which the kernel tells without reading (EPOLLRDHUP,
epoll_ctl(2)). How many are told, and how many sockets stay, is bounded; the others are closed without a word.
"""

import asyncio
import select
import socket
from collections import Counter

from relay.core.token_bucket import TokenBucket

LINGER_SECONDS = 2.0
AT_ONCE = 64  # sockets that stay
PER_SOURCE = 8  # of one source
PER_SECOND = 20.0
BURST = 100.0
VERSION_LINE = b"SSH-2.0-relay\r\n"
TOO_MANY_CONNECTIONS = 12  # SSH_DISCONNECT_TOO_MANY_CONNECTIONS
_LONGEST = 400  # bytes of text


def packet(code: int, text: str) -> bytes:
    """An unencrypted SSH_MSG_DISCONNECT (RFC 4253 6 and 11.1)."""
    said = text.encode()[:_LONGEST]
    payload = b"\x01" + code.to_bytes(4, "big") + len(said).to_bytes(4, "big") + said + bytes(4)
    padding = 8 - (5 + len(payload)) % 8
    padding += 8 if padding < 4 else 0
    return (1 + len(payload) + padding).to_bytes(4, "big") + bytes([padding]) + payload + bytes(padding)


class EarlyDisconnects:
    """Sockets whose client is being told why it cannot come in."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._bucket = TokenBucket(PER_SECOND, BURST)
        self._staying: dict[int, tuple[socket.socket, str, asyncio.TimerHandle]] = {}
        self._per_source: Counter[str] = Counter()
        self._epoll = select.epoll() if hasattr(select, "epoll") else None  # elsewhere the time alone ends it
        if self._epoll is not None:
            self._loop.add_reader(self._epoll.fileno(), self._closed)
        self.told = 0

    def room(self, source: str) -> bool:
        """Whether one more of this source can be told something now."""
        return (
            len(self._staying) < AT_ONCE
            and self._per_source[source] < PER_SOURCE
            and not self._bucket.wait(self._loop.time())
        )

    def say(self, sock: socket.socket, source: str, text: str) -> None:
        """Tell it `text` (where there is room), and let the socket go; it is ours from now on."""
        if not self.room(source):
            sock.close()
            return
        self._bucket.take(self._loop.time())
        try:
            sock.setblocking(False)
            sock.send(VERSION_LINE + packet(TOO_MANY_CONNECTIONS, text))
            sock.shutdown(socket.SHUT_WR)
            if self._epoll is not None:
                self._epoll.register(sock.fileno(), select.EPOLLRDHUP)
        except OSError:  # it is gone already
            sock.close()
            return
        timer = self._loop.call_later(LINGER_SECONDS, self._end, sock.fileno())
        self._staying[sock.fileno()] = sock, source, timer
        self._per_source[source] += 1
        self.told += 1

    def close(self) -> None:
        """Let all go."""
        for descriptor in tuple(self._staying):
            self._end(descriptor)
        if self._epoll is not None:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def _closed(self) -> None:
        if self._epoll is not None:
            for descriptor, _ in self._epoll.poll(0, AT_ONCE):
                self._end(descriptor)

    def _end(self, descriptor: int) -> None:
        sock, source, timer = self._staying.pop(descriptor)
        timer.cancel()
        self._per_source[source] -= 1
        if not self._per_source[source]:
            del self._per_source[source]
        sock.close()  # epoll forgets it with that

    def __len__(self) -> int:
        return len(self._staying)
