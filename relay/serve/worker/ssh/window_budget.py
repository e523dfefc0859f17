"""The memory budget for channel windows: each window is memory that its client can make a worker hold.

A target that does not read leaves its client's window in memory, and a client that does not read a channel's buffer.
The windows of all forwards together never exceed the worker's part of `buffers`; the fuller it is, the smaller
the windows of new forwards are.
"""

from dataclasses import dataclass

FULL = 1 << 21  # as OpenSSH's
SMALL = 1 << 18  # 256 forwards of one connection cost 147 MiB at most, not 672
LEAST = 1 << 16  # still good for a terminal
BUFFER = 1 << 16  # bytes of one channel that wait for the client's window
CROWDED = 16  # forwards in one connection; from there on they get small windows
_PARTS = ((FULL, 0.5), (SMALL, 0.85), (LEAST, 1.0))  # a window of that size, while not more than that part is lent


def held(window: int) -> int:
    """What a forward with that window can make a worker hold.

    Towards a deaf target the window and the quarter by which it was refilled before that was seen; towards a deaf
    client the buffer, and one more read of the target.
    """
    return window + window // 4 + 2 * BUFFER


@dataclass(slots=True)
class WindowBudget:
    """What one worker has lent."""

    most: int
    lent: int = 0

    def lend(self, forwards: int) -> int:
        """The window of one more forward of a connection that has `forwards` already; 0: there is no room for it."""
        for window, part in _PARTS:
            if (window < FULL or forwards < CROWDED) and self.lent + held(window) <= self.most * part:
                self.lent += held(window)
                return window
        return 0

    def give_back(self, window: int) -> None:
        """The forward with that window has ended."""
        self.lent -= held(window)
