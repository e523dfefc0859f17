"""What waits for a socket that takes no more? Bytes in order, in few objects, and none of them moved."""

from collections import deque

PIECE = 1 << 15  # smaller pieces are put together: an object for each byte would take a hundred
PIECES = 64  # given to the kernel in one call; it would take 1024


class WriteBuffer:
    """A queue of bytes; its length is how many they are."""

    __slots__ = ("_gone", "_length", "_pieces")

    def __init__(self) -> None:
        self._pieces: deque[bytearray] = deque()
        self._length = 0
        self._gone = 0  # bytes of the first piece that were taken

    def __len__(self) -> int:
        return self._length

    def add(self, data: bytes | memoryview) -> None:
        """Put a copy of these behind the others."""
        self._length += len(data)
        if self._pieces and len(self._pieces[-1]) < PIECE:
            self._pieces[-1] += data
        else:
            self._pieces.append(bytearray(data))

    def head(self, most: int) -> list[memoryview]:
        """The first bytes, at most so many, for one call. They are to be let go before anything is added."""
        found: list[memoryview] = []
        for piece in self._pieces:
            view = memoryview(piece)[0 if found else self._gone :][:most]
            found.append(view)
            most -= len(view)
            if not most or len(found) == PIECES:
                break
        return found

    def drop(self, count: int) -> None:
        """So many of the first bytes were taken."""
        self._length -= count
        self._gone += count
        while self._pieces and self._gone >= len(self._pieces[0]):
            self._gone -= len(self._pieces.popleft())

    def clear(self) -> None:
        """Forget all."""
        self._pieces.clear()
        self._length = self._gone = 0
