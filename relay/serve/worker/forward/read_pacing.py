"""How soon is a stream that carries much looked at again? Not for each packet that comes, but when much has come.

On a busy machine a relay that is woken for every packet pays a turn of its loop for it, several times what the packet
itself costs. So the kernel is told to wake us for much (SO_RCVLOWAT) once a stream has shown that
it carries much one way: for three quarters of what comes between two looks, and LEAST at most. What is less waits for
the next look. Where both sides speak somebody waits for an answer, and nothing waits.
"""

import asyncio
import contextlib
import socket

LEAST = 1 << 19  # bytes: a quarter of OpenSSH's window, and as much as a turn of the loop may carry
PIECE = 1 << 14  # bytes in one read that are much; keystrokes, prompts and screens of text are less
SHOWN = 1 << 20  # bytes one way, without a pause, that show it
SHORT = 1 << 10  # bytes that a keystroke is answered with, and a line that is printed
SECONDS = 0.001
ALL = 1 << 19  # bytes per turn of the loop for all streams that carry much: 0.3 ms
TYPED = 1 << 17  # while somebody types: a keystroke and its echo wait for some turns, more on a busy machine
FAIR = 1 << 16  # but so much each of them
ANSWER = 400  # looks for which one short answer of a target counts; three within a second are somebody who types
TYPING = 2 * ANSWER  # more than that is typing


class PacedSocket:
    """One socket that is read: of a client or a target."""

    __slots__ = ("_busy", "_least", "_looked", "_one_way", "_patience", "sock")

    def __init__(self, patience: "ReadPacer", sock: socket.socket) -> None:
        self._patience = patience
        self.sock = sock
        self._busy = False  # it carries much now, and shares turns with those who do
        self._one_way = 0  # bytes, since there was a pause or a word of the other side
        self._looked = 0  # of these, when it was looked at last
        self._least = 1  # bytes that it is woken for

    @property
    def share(self) -> int:
        """Bytes that it may read in this turn of the loop."""
        return self._patience.share

    @property
    def patient(self) -> bool:
        """Whether it is woken for much only."""
        return self._least > 1

    def note(self, count: int, *, answer: bool = False) -> None:
        """It has read so many bytes; `answer`: of a target."""
        self._one_way += count
        if self._busy:
            return
        if count >= PIECE:
            self._busy = True
            self._patience.join(self)
        elif answer and 0 < count <= SHORT:
            self._patience.answers += 1

    def interrupt(self) -> None:
        """The other side has spoken: it may wait for an answer, so be woken for every byte again."""
        self._one_way = self._looked = 0
        if self._least > 1:
            self._wait_for(1)

    def look(self) -> None:
        """A while has passed."""
        moved, self._looked = self._one_way - self._looked, self._one_way
        if self._one_way >= SHOWN and moved:
            least = min(LEAST, moved * 3 // 4)
            if not self._least * 3 // 4 <= least <= self._least * 4 // 3:
                self._wait_for(max(least, PIECE))
        elif not moved and self._least > 1:
            self._wait_for(1)  # what there is comes now
        elif not moved:
            self.pause()

    def pause(self) -> None:
        """It has carried nothing for a while, or is over."""
        self.interrupt()
        if self._busy:
            self._busy = False
            self._patience.leave(self)

    def _wait_for(self, count: int) -> None:
        self._least = count
        with contextlib.suppress(OSError):  # it is closed
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)


class ReadPacer:
    """The streams of one worker that carry much now."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._readers: dict[PacedSocket, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.share = ALL
        self.answers = 0  # short ones of targets, since the last look
        self._typing = 0

    def join(self, reader: PacedSocket) -> None:
        """That one begins to carry much."""
        self._readers[reader] = None
        self._count()
        if self._timer is None:
            self._timer = self._loop.call_later(SECONDS, self._look)

    def leave(self, reader: PacedSocket) -> None:
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
            reader.look()
        self._timer = self._loop.call_later(SECONDS, self._look) if self._readers else None
