"""Is the audit log whole? Reads all of it once, archives and database, past rows that cannot be read."""

from collections.abc import Callable, Iterator

from relay.core.proof import Line, Walk
from relay.errors import RowDamaged

Lines = Callable[[int], Iterator[Line]]  # every row behind this one, oldest first

MOST_DAMAGED = 20  # rows that cannot be read; where there are more, the rest is not looked for


def read(walk: Walk, lines: Lines) -> None:
    """Read everything there is behind the last row that `walk` has read. Raises StoreUnavailable."""
    for _ in range(MOST_DAMAGED):
        try:
            walk.read(lines(walk.last))
        except RowDamaged as error:
            walk.damaged(error.seq, error.what)
        else:
            return
    walk.stop("too many rows cannot be read: it was not looked further")


def joined(archived: Lines, kept: Lines, archived_to: Callable[[], int]) -> Lines:
    """The rows of archives and database as one log. A row may leave the one for the other while it is read."""

    def lines(after: int) -> Iterator[Line]:
        while True:
            for line in archived(after):
                after = line[0]
                yield line
            moved = False
            for line in kept(max(after, archived_to())):
                if line[0] != after + 1 and archived_to() > after:
                    moved = True
                    break
                after = line[0]
                yield line
            if not moved:
                return

    return lines
