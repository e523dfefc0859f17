"""Bytes that wait for a full socket: in order, in few objects, and never moved."""

from collections import deque

PIECE = 1 << 15  # smaller pieces are joined: an object for each byte would take a hundred bytes
PIECES = 64  # for one system call; the kernel accepts 1024


class WriteBuffer:
    """A queue of bytes; its length is their number."""

    __slots__ = ("_length", "_pieces", "_sent")

    def __init__(self) -> None:
        self._pieces: deque[bytearray] = deque()
        self._length = 0
        self._sent = 0  # bytes of the first piece

    def __len__(self) -> int:
        return self._length

    def add(self, data: bytes | memoryview) -> None:
        """Append a copy."""
        self._length += len(data)
        if self._pieces and len(self._pieces[-1]) < PIECE:
            self._pieces[-1] += data
        else:
            self._pieces.append(bytearray(data))

    def head(self, most: int) -> list[memoryview]:
        """The first bytes, at most `most`, for one system call. Release the views before anything is added."""
        views: list[memoryview] = []
        for piece in self._pieces:
            view = memoryview(piece)[0 if views else self._sent :][:most]
            views.append(view)
            most -= len(view)
            if not most or len(views) == PIECES:
                break
        return views

    def drop(self, count: int) -> None:
        """Remove the first `count` bytes: they were sent."""
        self._length -= count
        self._sent += count
        while self._pieces and self._sent >= len(self._pieces[0]):
            self._sent -= len(self._pieces.popleft())

    def clear(self) -> None:
        """Remove all."""
        self._pieces.clear()
        self._length = self._sent = 0
