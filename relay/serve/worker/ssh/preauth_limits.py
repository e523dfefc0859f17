"""Bounds of what one client may send before log-in, which asyncssh does not have."""

import asyncssh

MAX_PACKETS = 600  # 100 offered keys take about 210
MAX_BYTES = 1 << 20
MAX_BUFFERED = 1 << 16  # bytes of incomplete or waiting packets; asyncssh alone would keep a packet of 256 KiB
PREAUTH_READ_BYTES = 1 << 11  # of one read: a flood of small packets costs as much as a key exchange then


class PreauthLimits:
    """The packets and bytes that one unauthenticated client has left. All methods raise ProtocolError."""

    __slots__ = ("_bytes", "_packets")

    def __init__(self) -> None:
        self._packets = MAX_PACKETS
        self._bytes = MAX_BYTES

    def count_bytes(self, count: int, buffered: int) -> None:
        """Count bytes that were read; `buffered` waited before them."""
        self._bytes -= count
        if self._bytes < 0 or buffered > MAX_BUFFERED:
            raise asyncssh.ProtocolError("too many bytes before log-in")

    def count_packet(self) -> None:
        """Count a packet."""
        self._packets -= 1
        if self._packets < 0:
            raise asyncssh.ProtocolError("too many packets before log-in")
