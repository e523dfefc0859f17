"""Verification of the whole log in one pass, archives and database, continuing past unreadable rows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from relay.core.audit.hash_chain import digest
from relay.core.audit.log_verifier import Line, LogVerifier
from relay.errors import RowDamaged, StoreUnavailable

MOST_DAMAGED = 20  # unreadable rows after which the verification stops
_TRIES = 5  # while rows leave the database


@dataclass(frozen=True, slots=True)
class ArchivePart:
    """An archive: numbers of its first and last row, the hash of the last one as it is known elsewhere."""

    first: int
    last: int
    hash: str
    lines: Callable[[int], Iterator[Line]]  # its rows behind this one, oldest first


class _Moved(Exception):
    """Rows left the database for an archive while they were read."""


def read(walk: LogVerifier, parts: Callable[[], Sequence[ArchivePart]], kept: Callable[[int], Iterator[Line]]) -> None:
    """Verify every archive, then the rows of the database after them: `kept(n)` gives those after row n.

    Raises StoreUnavailable if the database cannot be read; an unreadable archive is damage.
    """

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


def beside_archives(
    kept: Callable[[int], Iterator[Line]], base: Callable[[], tuple[int, str]], ends: Mapping[int, str]
) -> str:
    """The fault of the rows that are still in the database although they are archived; "" for none.

    Rows are in both places until the database has deleted them, and some queries are answered from the database.
    `ends`: numbers and hashes of the archives' last rows. There are none before `base`.
    """
    last = max(ends, default=0)
    for _ in range(_TRIES):
        begin = seq, hash = base()
        wrong = ""
        try:
            for line in kept(0):
                if line[0] > max(last, begin[0]):
                    break
                seq, prev, hash = seq + 1, hash, line[5]
                if line[0] != seq or digest(prev, line[6]) != hash or ends.get(seq, hash) != hash:
                    wrong = f"row {line[0]} of the database is not the one that was archived"
                    break
        except RowDamaged as error:
            wrong = error.what
        if not wrong or base() == begin:  # else rows left meanwhile
            break
    return wrong


def _read_part(walk: LogVerifier, part: ArchivePart) -> None:
    try:
        walk.read(part.lines(max(walk.last, part.first - 1)))
    except StoreUnavailable as error:
        walk.damaged(max(walk.last + 1, part.first), error.what, part.last, part.hash)
    else:
        if walk.last < part.last:
            walk.damaged(walk.last + 1, "its archive ends before this row", part.last, part.hash)
