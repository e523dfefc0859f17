"""How soon is a stream that carries much looked at again? Not for each packet that comes, but when much has come.

On a busy machine a relay that is woken for every packet pays a turn of its loop for it, several times what the packet
itself costs. So the kernel is told to wake us for no less than LEAST bytes (SO_RCVLOWAT) once a stream has shown that
it carries much. Less than that waits for SECONDS at most: then the stream is quick again, until it shows the same.
"""

import asyncio
import contextlib
import socket

LEAST = 1 << 19  # bytes: a quarter of OpenSSH's window, and as much as a turn of the loop may carry
SHOWN = 1 << 14  # bytes in one read that show it; keystrokes, prompts and screens of text are less
SHORT = 1 << 10  # bytes that a keystroke is answered with, and a line that is printed
SECONDS = 0.001
ALL = 1 << 19  # bytes per turn of the loop for all streams that carry much: 0.3 ms
TYPED = 1 << 17  # while somebody types: a keystroke and its echo wait for some turns, more on a busy machine
FAIR = 1 << 16  # but so much each of them
ANSWER = 400  # looks for which one short answer of a target counts; three within a second are somebody who types
TYPING = 2 * ANSWER  # more than that is typing


class Reader:
    """One socket that is read: of a client or a target."""

    __slots__ = ("_patience", "looked", "patient", "reads", "sock")

    def __init__(self, patience: "Patience", sock: socket.socket) -> None:
        self._patience = patience
        self.sock = sock
        self.patient = False
        self.reads = 0
        self.looked = 0

    @property
    def share(self) -> int:
        """Bytes that it may read in this turn of the loop."""
        return self._patience.share

    def note(self, count: int, *, answer: bool = False) -> None:
        """It has read so many bytes; `answer`: of a target."""
        self.reads += 1
        if self.patient:
            return
        if answer and 0 < count <= SHORT:
            self._patience.answers += 1
        elif count >= SHOWN:
            self.patient = True
            self._wait_for(LEAST)
            self._patience.join(self)

    def hurry(self) -> None:
        """Be woken for every byte again."""
        if self.patient:
            self.patient = False
            self._patience.leave(self)
            self._wait_for(1)

    def _wait_for(self, count: int) -> None:
        with contextlib.suppress(OSError):  # it is closed
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)


class Patience:
    """The streams of one worker that carry much now."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._readers: dict[Reader, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.share = ALL
        self.answers = 0  # short ones of targets, since the last look
        self._typing = 0

    def join(self, reader: Reader) -> None:
        """That one begins to wait."""
        self._readers[reader] = None
        self._count()
        if self._timer is None:
            self._timer = self._loop.call_later(SECONDS, self._look)

    def leave(self, reader: Reader) -> None:
        """That one waits no longer."""
        self._readers.pop(reader, None)
        self._count()

    def _count(self) -> None:
        self.share = max(FAIR, (TYPED if self._typing > TYPING else ALL) // max(len(self._readers), 1))

    def _look(self) -> None:
        """Who has read nothing since the last look gets what there is; and does anybody type?"""
        self._typing = min(self._typing + self.answers * ANSWER, TYPING + ANSWER)
        self._typing = max(self._typing - 1, 0)
        self.answers = 0
        self._count()
        for reader in tuple(self._readers):
            if reader.reads == reader.looked:
                reader.hurry()
            reader.looked = reader.reads
        self._timer = self._loop.call_later(SECONDS, self._look) if self._readers else None
