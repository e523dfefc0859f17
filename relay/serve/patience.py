"""How soon is a stream that carries much looked at again? Not for each packet that comes, but when much has come.

On a busy machine a relay that is woken for every packet pays a turn of its loop for it, several times what the packet
itself costs. So the kernel is told to wake us for no less than LEAST bytes (SO_RCVLOWAT) once a stream has shown that
it carries much. Less than that waits for SECONDS at most: then the stream is quick again, until it shows the same; and
how much is waited for is what it has brought before, so that a stream of that pace does not wait in vain. Much one way:
where both sides speak somebody waits for an answer, and a file server's is as long as a piece of a stream.
"""

import asyncio
import contextlib
import socket

LEAST = 1 << 19  # bytes: a quarter of OpenSSH's window, and as much as a turn of the loop may carry
PIECE = 1 << 14  # bytes in one read that are much; keystrokes, prompts and screens of text are less
SHOWN = 1 << 20  # bytes one way, without a small piece or a pause, that show it
SHORT = 1 << 10  # bytes that a keystroke is answered with, and a line that is printed
SECONDS = 0.001
ALL = 1 << 19  # bytes per turn of the loop for all streams that carry much: 0.3 ms
TYPED = 1 << 17  # while somebody types: a keystroke and its echo wait for some turns, more on a busy machine
FAIR = 1 << 16  # but so much each of them
ANSWER = 400  # looks for which one short answer of a target counts; three within a second are somebody who types
TYPING = 2 * ANSWER  # more than that is typing


class Reader:
    """One socket that is read: of a client or a target."""

    __slots__ = ("_busy", "_carried", "_least", "_patience", "looked", "patient", "reads", "sock")

    def __init__(self, patience: "Patience", sock: socket.socket) -> None:
        self._patience = patience
        self.sock = sock
        self._busy = False  # it carries much now, and shares turns with those who do
        self._carried = 0  # bytes in pieces that are much, since there was a pause or a word of the other side
        self.patient = False  # it is woken for much only
        self._least = 0  # bytes, while it is patient
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
            if count > self._least < LEAST:
                self._wait_for(count)
        elif count >= PIECE:
            if not self._busy:
                self._busy = True
                self._patience.join(self)
            self._carried += count
            if self._carried >= SHOWN:
                self.patient = True
                self._wait_for(count)
        else:
            self._carried = 0
            if answer and 0 < count <= SHORT and not self._busy:
                self._patience.answers += 1

    def interrupt(self) -> None:
        """The other side has spoken: it may wait for an answer, so be woken for every byte again."""
        self._carried = 0
        if self.patient:
            self.patient = False
            self._wait_for(1)

    def pause(self) -> None:
        """It has carried nothing for a while, or is over."""
        self.interrupt()
        if self._busy:
            self._busy = False
            self._patience.leave(self)

    def _wait_for(self, count: int) -> None:
        """Be woken when three quarters of that have come."""
        self._least = min(LEAST, count * 3 // 4)
        with contextlib.suppress(OSError):  # it is closed
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, max(self._least, 1))


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
        """That one begins to carry much."""
        self._readers[reader] = None
        self._count()
        if self._timer is None:
            self._timer = self._loop.call_later(SECONDS, self._look)

    def leave(self, reader: Reader) -> None:
        """That one does no longer."""
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
                reader.pause()
            reader.looked = reader.reads
        self._timer = self._loop.call_later(SECONDS, self._look) if self._readers else None
