"""Fewer, larger reads of bulk streams, and their share of each turn of the event loop.

On a busy machine a relay that is woken for every packet spends a turn of the loop on it, several times what the packet
itself costs. So the kernel is told to wake for much (SO_RCVLOWAT) once a stream has carried much one way without a
pause: for three quarters of what comes between two checks, and MAX_LOW_WATER at most. Less than that is read at the
next check, a millisecond later. When the other side sends, every byte is read at once again: replies are never delayed.
"""

import asyncio
import contextlib
import socket

MAX_LOW_WATER = 1 << 19  # bytes: a quarter of OpenSSH's window, and as much as a turn of the loop may carry
MIN_BULK_READ = 1 << 14  # bytes in one read that are bulk; keystrokes, prompts and screens of text are less
BULK_BYTES = 1 << 20  # bytes one way without a pause that make a stream wait for much
CHECK_SECONDS = 0.001
TURN_BYTES = 1 << 19  # per turn of the loop for all bulk streams: 0.3 ms
MIN_SHARE = 1 << 16  # but so much for each of them


class PacedSocket:
    """The socket of a client or a target, and the pace of its reads."""

    __slots__ = ("_at_check", "_is_bulk", "_low_water", "_one_way", "_pacer", "sock")

    def __init__(self, pacer: "ReadPacer", sock: socket.socket) -> None:
        self._pacer = pacer
        self.sock = sock
        self._is_bulk = False
        self._one_way = 0  # bytes since the last pause, or since the other side sent
        self._at_check = 0  # of these, at the last check
        self._low_water = 1  # bytes that wake us

    @property
    def share(self) -> int:
        """Bytes that may be read in this turn of the loop."""
        return self._pacer.share

    @property
    def is_waiting_for_much(self) -> bool:
        """Whether few bytes do not wake us."""
        return self._low_water > 1

    def note(self, count: int) -> None:
        """Record that `count` bytes were read."""
        self._one_way += count
        if count >= MIN_BULK_READ and not self._is_bulk:
            self._is_bulk = True
            self._pacer.add(self)

    def interrupt(self) -> None:
        """The other side has sent, so a reply may follow: let every byte wake us again."""
        self._one_way = self._at_check = 0
        if self._low_water > 1:
            self._set_low_water(1)

    def check(self) -> None:
        """Adjust the low-water mark to the bytes since the last check, CHECK_SECONDS ago."""
        moved, self._at_check = self._one_way - self._at_check, self._one_way
        if self._one_way >= BULK_BYTES and moved:
            low_water = min(MAX_LOW_WATER, moved * 3 // 4)
            if not self._low_water * 3 // 4 <= low_water <= self._low_water * 4 // 3:
                self._set_low_water(max(low_water, MIN_BULK_READ))
        elif not moved and self._low_water > 1:
            self._set_low_water(1)  # what is there is read now
        elif not moved:
            self.pause()

    def pause(self) -> None:
        """Nothing was read for a while, or the stream is over."""
        self.interrupt()
        if self._is_bulk:
            self._is_bulk = False
            self._pacer.remove(self)

    def _set_low_water(self, count: int) -> None:
        self._low_water = count
        with contextlib.suppress(OSError):  # it is closed
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)


class ReadPacer:
    """The bulk streams of one worker."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._bulk: dict[PacedSocket, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.share = TURN_BYTES

    def add(self, reader: PacedSocket) -> None:
        """Count this socket among the bulk streams."""
        self._bulk[reader] = None
        self._divide()
        if self._timer is None:
            self._timer = self._loop.call_later(CHECK_SECONDS, self._check)

    def remove(self, reader: PacedSocket) -> None:
        """Count it no longer."""
        self._bulk.pop(reader, None)
        self._divide()

    def _divide(self) -> None:
        self.share = max(MIN_SHARE, TURN_BYTES // max(len(self._bulk), 1))

    def _check(self) -> None:
        for reader in tuple(self._bulk):
            reader.check()
        self._timer = self._loop.call_later(CHECK_SECONDS, self._check) if self._bulk else None
