"""Archives and database, read as one log.

Rows are in both places from the moment an archive is finished until the database has deleted them. The border between
the two is the last archived row; an answer during which the border moved is read again.
"""

import itertools
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Protocol, TypeVar

from relay.core.audit.audit_query import AuditQuery
from relay.core.audit.hash_chain import Row
from relay.core.audit.usage_totals import TotalsPart, portion
from relay.review.row_source import Attempts, RowSource

_Answer = TypeVar("_Answer")
_TRIES = 3  # archiving moves the border every few minutes at most


class ArchivedRows(Protocol):
    """`relay.store.archive.archive_reader.ArchiveReader` implements it. Every method may raise StoreUnavailable."""

    def last(self) -> int:
        """The number of the last archived row, 0 if there is none."""

    def walk(self, after: int = 0, until: int | None = None, question: AuditQuery | None = None) -> Iterator[Row]:
        """Every archived row behind row `after`, up to row `until`, that answers `question`, oldest first."""

    def search(self, question: AuditQuery, before: int | None = None, limit: int = 100) -> list[Row]:
        """Archived rows that answer `question`, newest first, all before row `before`."""

    def by_id(self, id: str) -> Row | None:
        """The archived row of the event with this id."""

    def by_connection(self, connection: str, limit: int = 10_000) -> list[Row]:
        """The archived rows of one connection, oldest first."""

    def by_forwards(self, forwards: Collection[str]) -> dict[str, list[Row]]:
        """The archived rows of each of these forwards, as far as there are any."""


class DatabaseRows(RowSource, Protocol):
    """`relay.store.reader.AuditReader` implements it."""

    def base(self) -> tuple[int, str]:
        """Number and hash of the last archived row."""

    def portions(
        self, question: AuditQuery, by: str, progress: Callable[[float], object], after: int = 0
    ) -> Iterator[TotalsPart]:
        """What the rows behind row `after` that answer come to."""


class FullLog:
    """Archives and database as one row source. Every method may raise StoreUnavailable."""

    def __init__(self, database: DatabaseRows, archives: ArchivedRows) -> None:
        self._database = database
        self._archives = archives
        self._walk: tuple[int, Iterator[Row]] = (-1, iter(()))  # behind which row it goes on

    def head(self) -> int:
        """The number of the last row, 0 when there is none."""
        return self._database.head()

    def after(self, seq: int, limit: int = 500) -> list[Row]:
        """The rows behind row `seq`, oldest first."""
        rows = self._database.after(seq, limit)
        if seq >= self._database.base()[0]:
            return rows
        place, walk = self._walk
        if place != seq:
            walk = self._archives.walk(seq)
        found = list(itertools.islice(walk, limit))
        if not found:  # they were discarded
            return self._database.after(seq, limit)
        self._walk = found[-1].seq, walk
        return found

    def search(self, question: AuditQuery, before: int | None = None, limit: int = 100) -> list[Row]:
        """Rows that answer `question`, newest first, all before row `before`."""

        def answer(border: int) -> list[Row]:
            found = [row for row in self._database.search(question, before, limit) if row.seq > border]
            if len(found) < limit and border:
                edge = border + 1 if before is None else min(before, border + 1)
                found += self._archives.search(question, edge, limit - len(found))
            return found

        return self._still(answer)

    def portions(self, question: AuditQuery, by: str, progress: Callable[[float], object]) -> Iterator[TotalsPart]:
        """What the rows that answer come to, in parts of one group each; `progress` is told the share that is done."""

        def answer(border: int) -> list[TotalsPart]:
            head = max(self.head(), 1)
            old = border / head
            found = list(self._database.portions(question, by, lambda share: progress(share * (1 - old)), border))
            if border:
                for row in self._archives.walk(until=border, question=question):
                    found.append(portion(row.event))
                    progress(1 - old + row.seq / head)
            return found

        yield from self._still(answer)

    def by_id(self, id: str) -> Row | None:
        """The row of the event with this id."""
        return self._database.by_id(id) or self._archives.by_id(id)

    def by_connection(self, connection: str, limit: int = 10_000) -> list[Row]:
        """The rows of one connection, oldest first."""
        rows = self._database.by_connection(connection, limit)
        if rows and rows[0].event.name == "login.succeeded":
            return rows
        old = self._archives.by_connection(connection, limit)
        # the database knows the ends of forwards by their openings, and does not have those
        opened = [str(row.event.fields.get("forward")) for row in old if row.event.name == "forward.opened"]
        ends = [row for found in self._database.by_forwards(opened).values() for row in found]
        return _joined(old, (*rows, *ends))[:limit]

    def by_forward(self, forward: str) -> list[Row]:
        """The opening and the closing row of one forward."""
        return self.by_forwards((forward,)).get(forward, [])

    def by_forwards(self, forwards: Collection[str]) -> dict[str, list[Row]]:
        """The rows of many forwards, by forward; a forward without a row is omitted."""
        found = self._database.by_forwards(forwards)
        old = [id for id in forwards if id not in found or found[id][0].event.name != "forward.opened"]
        if old and self._archives.last():
            for id, rows in self._archives.by_forwards(old).items():
                found[id] = _joined(rows, found.get(id, ()))
        return found

    def nearest(self, id: str) -> str | None:
        """The id nearest to an unknown one; of the database only."""
        return self._database.nearest(id)

    def persons(self) -> list[str]:
        """The persons in the database, sorted."""
        return self._database.persons()

    def strangers(self, first_minute: int, last_minute: int) -> Sequence[Attempts]:
        """The attempt counts of these minutes, oldest first."""
        return self._database.strangers(first_minute, last_minute)

    def stranger(self, reference: str) -> Attempts | None:
        """The attempt count whose last attempt got this reference id."""
        return self._database.stranger(reference)

    def _still(self, answer: Callable[[int], _Answer]) -> _Answer:
        """The result of `answer(border)`, repeated if the database deleted rows behind the border meanwhile."""
        for _ in range(_TRIES):
            border = self._archives.last()
            found = answer(border)
            if self._database.base()[0] <= border:
                break
        return found


def _joined(archived: Sequence[Row], kept: Sequence[Row]) -> list[Row]:
    """Rows of both places, each once, oldest first."""
    return sorted({row.seq: row for row in (*archived, *kept)}.values(), key=lambda row: row.seq)
