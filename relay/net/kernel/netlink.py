"""Rtnetlink client for links, addresses, routes and neighbours (rtnetlink(7), RFC 3549).

The kernel works on a request inside send(2): when that returns, the answer, or the first part of a dump, is
already queued on our socket, and each recv(2) queues the next part. So the socket never waits: an answer that
is not there is an error. That keeps one request at a few microseconds on a worker's loop.
"""

import errno
import itertools
import os
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple, Self

from relay.errors import RelayError

NEWLINK, GETLINK = 16, 18  # linux/rtnetlink.h
NEWADDR, GETADDR = 20, 22
NEWROUTE, GETROUTE = 24, 26
NEWNEIGH, GETNEIGH = 28, 30
NEWRULE, GETRULE = 32, 34

_REQUEST = 0x01  # linux/netlink.h
_DUMP_INTERRUPTED = 0x10
_DUMP = 0x300  # NLM_F_ROOT | NLM_F_MATCH
_NOOP, _ERROR, _DONE = 1, 2, 3
_SOL_NETLINK = 270
_STRICT_CHECK = 12  # NETLINK_GET_STRICT_CHK: dumps filter by the header's fields (Linux 4.20)
_NESTED_FLAGS = 0x3FFF  # NLA_TYPE_MASK: without the "nested" and "network byte order" bits

_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port id
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_BUFFER = 1 << 16  # the kernel fills at most 32 KiB per datagram of a dump
_MOST_MESSAGES = 100_000  # in one answer: a machine with more routes than this is not one we propose zones for
_MOST_FOREIGN = 64  # datagrams of an earlier, abandoned question that are skipped
_TRIES = 3  # a dump that changed while it was read is read again


class Message(NamedTuple):
    """One netlink message without its header."""

    kind: int
    flags: int
    body: memoryview


def split(data: memoryview, sequence: int, port: int) -> Iterator[Message]:
    """The messages of one datagram that answer question `sequence` of socket `port`; others are skipped.

    Raises OSError(EBADMSG) where a length does not fit.
    """
    offset, end = 0, len(data)
    while end - offset >= _HEADER.size:
        length, kind, flags, seq, pid = _HEADER.unpack_from(data, offset)
        if length < _HEADER.size or length > end - offset:
            raise OSError(errno.EBADMSG, f"netlink message of {length} bytes in {end - offset}")
        if seq == sequence and pid == port:
            yield Message(kind, flags, data[offset + _HEADER.size : offset + length])
        offset += (length + 3) & ~3
    if offset < end:
        raise OSError(errno.EBADMSG, f"{end - offset} bytes behind the last netlink message")


def attributes(data: memoryview, offset: int) -> dict[int, memoryview]:
    """The attributes of a message's body from `offset` on, by type; of two equal ones the last counts.

    Raises OSError(EBADMSG) where a length does not fit.
    """
    found: dict[int, memoryview] = {}
    end = len(data)
    if offset > end:
        raise OSError(errno.EBADMSG, f"netlink body of {end} bytes, at least {offset} expected")
    while end - offset >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < _ATTRIBUTE.size or length > end - offset:
            raise OSError(errno.EBADMSG, f"netlink attribute of {length} bytes in {end - offset}")
        found[kind & _NESTED_FLAGS] = data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    return found


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute with its header and padding, for a request."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + b"\0" * (-len(value) % 4)


def number(value: memoryview | None) -> int:
    """An attribute's 32 bits in host order; 0 if it is not there. Raises OSError(EBADMSG) for another size."""
    if value is None:
        return 0
    if len(value) != 4:
        raise OSError(errno.EBADMSG, f"netlink number of {len(value)} bytes")
    return int.from_bytes(value, sys.byteorder)


class Netlink:
    """A socket to the kernel of one network namespace. Not for several threads at once: see `shared`."""

    def __init__(self) -> None:
        """Raises RelayError on anything but Linux, OSError where the kernel or a sandbox refuses the socket."""
        if sys.platform != "linux":
            raise RelayError(
                f"the kernel's interfaces and routes cannot be asked for on {sys.platform}", "run the relay on Linux"
            )
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        try:
            self._socket.setblocking(False)
            self._socket.bind((0, 0))
            self._port: int = self._socket.getsockname()[0]
            try:
                self._socket.setsockopt(_SOL_NETLINK, _STRICT_CHECK, 1)
                self.strict = True  # dumps come filtered
            except OSError:  # before Linux 4.20: they come whole
                self.strict = False
        except OSError:
            self._socket.close()
            raise
        self._sequence = itertools.count(1)
        self._buffer = bytearray(_BUFFER)
        self._view = memoryview(self._buffer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the descriptor back."""
        self._socket.close()

    def request(self, kind: int, body: bytes, answer: int) -> memoryview:
        """The body of the kernel's one answer of type `answer`, valid until the next question.

        Raises OSError with the kernel's errno where it says no, EBADMSG for an answer that is none, ETIMEDOUT for
        silence.
        """
        sequence = self._send(kind, _REQUEST, body)
        for _ in range(_MOST_FOREIGN):
            for message in split(self._receive(), sequence, self._port):
                if message.kind == answer:
                    return message.body
                if message.kind == _ERROR:
                    _raise(message.body)
                    raise OSError(errno.EBADMSG, "the kernel acknowledged a question instead of answering it")
        raise OSError(errno.ETIMEDOUT, "the kernel's answer did not come")

    def dump(self, kind: int, body: bytes, answer: int) -> list[bytes]:
        """The bodies of all messages of type `answer`: a table as it was at one moment.

        Raises OSError as `ask` does, EAGAIN if the table changed each time it was read, EOVERFLOW if it is too long.
        """
        for _ in range(_TRIES):
            found = self._dump(kind, body, answer)
            if found is not None:
                return found
        raise OSError(errno.EAGAIN, "the kernel's table changed while it was read")

    def _dump(self, kind: int, body: bytes, answer: int) -> list[bytes] | None:
        sequence = self._send(kind, _REQUEST | _DUMP, body)
        found: list[bytes] = []
        interrupted = False
        foreign = 0
        while len(found) <= _MOST_MESSAGES and foreign <= _MOST_FOREIGN:
            foreign += 1
            for message in split(self._receive(), sequence, self._port):
                foreign = 0
                interrupted |= bool(message.flags & _DUMP_INTERRUPTED)
                if message.kind == answer:
                    found.append(bytes(message.body))
                elif message.kind in {_ERROR, _DONE}:
                    _raise(message.body)
                    return None if interrupted else found
        raise OSError(errno.EOVERFLOW, f"the kernel's table has more than {_MOST_MESSAGES} entries")

    def _send(self, kind: int, flags: int, body: bytes) -> int:
        sequence = next(self._sequence) & 0xFFFFFFFF
        # The port id is 0 in a question; the kernel writes ours into the answer.
        self._socket.sendto(_HEADER.pack(_HEADER.size + len(body), kind, flags, sequence, 0) + body, (0, 0))
        return sequence

    def _receive(self) -> memoryview:
        """The next datagram from the kernel itself (sender 0): another process's is not listened to."""
        for _ in range(_MOST_FOREIGN):
            try:
                # MSG_TRUNC makes the kernel return the whole length, so that a truncated answer is detected
                size, sender = self._socket.recvfrom_into(self._buffer, 0, socket.MSG_TRUNC)
            except BlockingIOError:
                raise OSError(errno.ETIMEDOUT, "the kernel's answer did not come") from None
            if size > _BUFFER:
                raise OSError(errno.EBADMSG, f"netlink datagram of {size} bytes")
            if sender[0] == 0:
                return self._view[:size]
        raise OSError(errno.ETIMEDOUT, "the kernel's answer did not come")


def _raise(body: memoryview) -> None:
    """Raise what an NLMSG_ERROR or NLMSG_DONE carries, nothing for 0 (an acknowledgement, the end of a dump)."""
    code = -int.from_bytes(body[:4], sys.byteorder, signed=True) if len(body) >= 4 else 0
    if code > 0:
        raise OSError(code, os.strerror(code))


_mine = threading.local()


def thread_socket() -> Netlink:
    """This thread's socket, opened at first use: one for every dial would double its cost.

    It stays in the network namespace in which it was opened. Raises as `Netlink` does.
    """
    kernel: Netlink | None = getattr(_mine, "kernel", None)
    if kernel is None:
        kernel = _mine.kernel = Netlink()
    return kernel


def close_thread_socket() -> None:
    """Close this thread's socket, if it has one: before the thread ends."""
    kernel: Netlink | None = getattr(_mine, "kernel", None)
    if kernel is not None:
        kernel.close()
        _mine.kernel = None
