"""SSH_MSG_DISCONNECT before the key exchange: tells a refused client the reason without reading a byte from it.

A client shows the reason of a DISCONNECT (RFC 4253 11.1) that comes before any key exchange, unless the connection is
reset first: the kernel resets a socket that is closed with unread bytes in it. So the socket is half-closed and kept
until the client has closed its side, which EPOLLRDHUP reports without reading (epoll_ctl(2)). The number of messages
and of such sockets is bounded; beyond it sockets are closed without a message.
"""

import asyncio
import select
import socket
from collections import Counter

from relay.core.token_bucket import TokenBucket

LINGER_SECONDS = 2.0
MAX_LINGERING = 64  # sockets
MAX_PER_SOURCE = 8
PER_SECOND = 20.0
BURST = 100.0
VERSION_LINE = b"SSH-2.0-relay\r\n"
TOO_MANY_CONNECTIONS = 12  # SSH_DISCONNECT_TOO_MANY_CONNECTIONS
MAX_TEXT = 400  # bytes


def packet(code: int, text: str) -> bytes:
    """An unencrypted SSH_MSG_DISCONNECT (RFC 4253 6 and 11.1)."""
    data = text.encode()[:MAX_TEXT]
    payload = b"\x01" + code.to_bytes(4, "big") + len(data).to_bytes(4, "big") + data + bytes(4)
    padding = 8 - (5 + len(payload)) % 8
    padding += 8 if padding < 4 else 0
    return (1 + len(payload) + padding).to_bytes(4, "big") + bytes([padding]) + payload + bytes(padding)


class EarlyDisconnects:
    """Refused sockets that were sent a reason and that the client has not closed yet."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._bucket = TokenBucket(PER_SECOND, BURST)
        self._lingering: dict[int, tuple[socket.socket, str, asyncio.TimerHandle]] = {}
        self._per_source: Counter[str] = Counter()
        self._epoll = select.epoll() if hasattr(select, "epoll") else None  # elsewhere the timer alone ends it
        if self._epoll is not None:
            self._loop.add_reader(self._epoll.fileno(), self._client_closed)
        self.sent = 0

    def room(self, source: str) -> bool:
        """Whether one more client of this source can be sent a reason now."""
        return (
            len(self._lingering) < MAX_LINGERING
            and self._per_source[source] < MAX_PER_SOURCE
            and not self._bucket.wait(self._loop.time())
        )

    def send(self, sock: socket.socket, source: str, text: str) -> None:
        """Take over the socket, send `text` where there is room for it, and close the socket."""
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
        except OSError:  # the client has gone already
            sock.close()
            return
        timer = self._loop.call_later(LINGER_SECONDS, self._end, sock.fileno())
        self._lingering[sock.fileno()] = sock, source, timer
        self._per_source[source] += 1
        self.sent += 1

    def close(self) -> None:
        """Close all sockets."""
        for descriptor in tuple(self._lingering):
            self._end(descriptor)
        if self._epoll is not None:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None

    def _client_closed(self) -> None:
        if self._epoll is not None:
            for descriptor, _ in self._epoll.poll(0, MAX_LINGERING):
                self._end(descriptor)

    def _end(self, descriptor: int) -> None:
        sock, source, timer = self._lingering.pop(descriptor)
        timer.cancel()
        self._per_source[source] -= 1
        if not self._per_source[source]:
            del self._per_source[source]
        sock.close()  # which also removes it from epoll

    def __len__(self) -> int:
        return len(self._lingering)
