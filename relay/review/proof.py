"""Is the audit log whole? Reads all of it once, archives and database, past what cannot be read."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from relay.core.proof import Line, Walk
from relay.errors import RowDamaged, StoreUnavailable

MOST_DAMAGED = 20  # rows that cannot be read; where there are more, the rest is not looked for


@dataclass(frozen=True, slots=True)
class Part:
    """An archive: numbers of its first and last row, the hash of the last one as it is known elsewhere."""

    first: int
    last: int
    hash: str
    lines: Callable[[int], Iterator[Line]]  # its rows behind this one, oldest first


class _Moved(Exception):
    """Rows left the database for an archive while they were read."""


def read(walk: Walk, parts: Callable[[], Sequence[Part]], kept: Callable[[int], Iterator[Line]]) -> None:
    """Read every part and what is `kept` in the database behind it. Raises StoreUnavailable for the database."""

    def behind() -> Iterator[Line]:
        for line in kept(walk.last):
            if line[0] != walk.last + 1 and any(part.last > walk.last for part in parts()):
                raise _Moved
            yield line

    damaged = 0
    while damaged < MOST_DAMAGED:
        for part in parts():
            if part.last > walk.last:
                _read_part(walk, part)
        try:
            walk.read(behind())
        except _Moved:
            continue
        except RowDamaged as error:
            walk.damaged(error.seq, error.what)
            damaged += 1
        else:
            return
    walk.stop("too many rows cannot be read: what is behind this one was not looked at")


def _read_part(walk: Walk, part: Part) -> None:
    try:
        walk.read(part.lines(max(walk.last, part.first - 1)))
    except StoreUnavailable as error:
        walk.damaged(max(walk.last + 1, part.first), error.what, part.last, part.hash)
    else:
        if walk.last < part.last:
            walk.damaged(walk.last + 1, "its archive ends before this row", part.last, part.hash)
