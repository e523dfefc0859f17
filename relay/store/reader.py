"""Read access to the audit database for every process but its writer.

Each query is one statement whose result is fetched at once, so no read transaction outlives it: an `audit tail -f` that
runs for a month does not keep the WAL from being checkpointed.

Reading works while the relay runs, when it is stopped, and where the reader may not write. Three ways, in this order:
live     SQLite's own: needs the -shm file, which it makes itself if it may.
still    no process writes and the log is empty: the file alone is complete ("immutable"). What the file looked
         like is compared after each answer; if it changed, the result is discarded and the query repeated.
copy     there is a log but its -shm can be neither read nor made (a copy on read-only media, a crashed relay):
         database and log are copied to a private directory, and the copy is read.
"""

import contextlib
import json
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from relay.core import ids
from relay.core.audit.audit_query import AuditQuery
from relay.core.audit.hash_chain import Row
from relay.core.audit.usage_totals import TotalsPart, portion
from relay.errors import StoreUnavailable
from relay.store import aggregates, migrations, pruning
from relay.store.database_files import unavailable
from relay.store.last_access import LastAccess, habits
from relay.store.preauth_counters import AttemptCount
from relay.store.query import candidates
from relay.store.rows import row_encoding, search_columns, time_index
from relay.store.rows.row_decoding import LINE, ROW, RowDecoder, VerifierRow, base_of, row_of

_PAGE = 2000  # rows of one statement: some milliseconds, so that the writer's log can be folded in between

_Stamp = tuple[tuple[int, int, int], ...]


class AuditReader:
    """Reads the audit database. Raises StoreUnavailable from every method, with the cure."""

    def __init__(self, path: Path, *, only_live: bool = False) -> None:
        """`only_live` excludes the third way: a copy of the database takes minutes and as much disk again."""
        self._only_live = only_live
        self._path = path
        self._wal = path.with_name(path.name + "-wal")
        self._database: sqlite3.Connection | None = None
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        self._stamp: _Stamp = ()
        self.way = ""  # live, still or copy: how it is being read

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def head(self) -> int:
        """The number of the last row, 0 when there is none."""
        last = self._ask("SELECT max(seq) FROM events")[0][0]
        return int(last) if last is not None else self.base()[0]

    def base(self) -> tuple[int, str]:
        """Number and hash of the last row that was archived away: (0, GENESIS) when none was."""
        self._ask("SELECT 1")
        assert self._database is not None
        return base_of(self._database)

    def edge(self, time: int) -> int:
        """A row number: every event of `time` (UTC microseconds) or later is behind that row."""
        least, values = time_index.since(time)
        return min(int(self._ask(f"SELECT {least}", *values)[0][0]) - 1, self.head())

    def named(self, name: str, after: int, until: int, *, newest: bool) -> int:
        """The newest, or oldest, row of this (rare) event behind row `after`, up to row `until`; 0: there is none."""
        found = self._ask(
            f"""SELECT {"max" if newest else "min"}(seq) FROM events
            WHERE name = (SELECT id FROM names WHERE name = ?) AND name > 2 AND seq > ? AND seq <= ?""",  # noqa: S608 - one of two words
            *(name, after, until),
        )
        return int(found[0][0] or 0)

    def oldest_open(self) -> tuple[int, str] | None:
        """Number of the opening row and id of the forward that has been open longest; None: none is open."""
        found = self._ask("SELECT seq, forward FROM open_forwards ORDER BY seq LIMIT 1")
        return (int(found[0][0]), str(found[0][1])) if found else None

    def room(self) -> pruning.DatabaseRoom:
        """The size of the database."""
        self._ask("SELECT 1")
        assert self._database is not None
        return pruning.room(self._database)

    def after(self, seq: int, limit: int = 500) -> list[Row]:
        """The rows behind row `seq`, oldest first."""
        return self._rows("WHERE e.seq > ? ORDER BY e.seq LIMIT ?", seq, limit)

    def walk(self, after: int = 0, until: int | None = None) -> Iterator[Row]:
        """Every row behind row `after`, up to row `until`, oldest first; nothing is held open between two pages."""
        while page := self._rows(
            "WHERE e.seq > ? AND e.seq <= ? ORDER BY e.seq LIMIT ?", after, until or 1 << 62, _PAGE
        ):
            yield from page
            after = page[-1].seq

    def lines(self, after: int = 0) -> Iterator[VerifierRow]:
        """The rows as canonical texts with their hashes, three times as fast as `walk`: for `verify` and archives."""
        lines = RowDecoder(self._ask)
        while page := self._ask(f"{LINE} WHERE e.seq > ? ORDER BY e.seq LIMIT ?", after, _PAGE):
            yield from map(lines.line, page)
            after = page[-1][0]

    def mislaid(self) -> list[str]:
        """Search columns that differ from the hashed rows; empty if none does."""
        return search_columns.mislaid(self._ask)

    def habits(self, until: int) -> Iterator[LastAccess]:
        """The last access of each person, key and client to each target, in the rows up to row `until`."""
        return habits(self._ask, self.base()[0], until)

    def search(self, question: AuditQuery, before: int | None = None, limit: int = 100) -> list[Row]:
        """Up to `limit` rows that answer `question`, newest first, all before row `before`."""
        found: list[Row] = []
        for numbers in candidates(self._answer, question, before, limit):
            rows = self._rows(
                "WHERE e.seq IN (SELECT value FROM json_each(?)) ORDER BY e.seq DESC", json.dumps(numbers)
            )
            found += [row for row in rows if question.matches(row)]
            if len(found) >= limit:
                break
        return found[:limit]

    def portions(
        self, question: AuditQuery, by: str, progress: Callable[[float], object], after: int = 0
    ) -> Iterator[TotalsPart]:
        """Totals of the matching rows after row `after`, in parts (see `aggregates`). `by`: one of usage_totals.BY."""
        if not question.text:
            return aggregates.portions(self._answer, question, by, progress, after)
        return self._each(question, progress, after)

    def _each(self, question: AuditQuery, progress: Callable[[float], object], after: int) -> Iterator[TotalsPart]:
        edge: int | None = None
        last = max(self.head(), 1)
        while (page := self.search(question, edge, _PAGE)) and page[0].seq > after:
            yield from (portion(row.event) for row in page if row.seq > after)
            edge = page[-1].seq
            progress(1 - edge / last)

    def by_id(self, id: str) -> Row | None:
        """The row of the event with this id."""
        found = self._rows("WHERE e.id = ?", row_encoding.kept(id))
        return found[0] if found else None

    def by_connection(self, connection: str, limit: int = 10_000) -> list[Row]:
        """The rows of one connection, oldest first."""
        id = row_encoding.kept(connection)
        return self._rows(
            """WHERE e.seq IN (SELECT seq FROM events WHERE connection = ? AND name <> 2
            UNION ALL SELECT seq FROM events WHERE forward <> 1 AND name = 2 AND forward IN
            (SELECT iif(forward = 1, id, forward) FROM events WHERE connection = ? AND name = 1))
            ORDER BY e.seq LIMIT ?""",
            *(id, id, limit),
        )

    def by_forward(self, forward: str) -> list[Row]:
        """The opening and the closing row of one forward."""
        return self.by_forwards((forward,)).get(forward, [])

    def by_forwards(self, forwards: Collection[str]) -> dict[str, list[Row]]:
        """The opening and the closing row of each of these forwards, as far as there are any."""
        found: dict[str, list[Row]] = {}
        every = [row_encoding.kept(forward) for forward in forwards]
        for begin in range(0, len(every), _PAGE):
            some = every[begin : begin + _PAGE]
            marks = ", ".join("?" * len(some))
            for row in self._rows(
                f"""WHERE e.seq IN (SELECT seq FROM events WHERE id IN ({marks}) AND forward = 1
                UNION ALL SELECT seq FROM events WHERE forward IN ({marks}) AND forward <> 1) ORDER BY e.seq""",  # noqa: S608 - marks
                *(*some, *some),
            ):
                found.setdefault(str(row.event.fields["forward"]), []).append(row)
        return found

    def nearest(self, id: str) -> str | None:
        """The id of an event, connection or forward closest to one that does not exist: same beginning, else time."""
        span = ids.beginning("".join(letter for letter in id if letter in ids.ALPHABET)[: ids.LENGTH])
        assert span is not None  # of letters of the alphabet
        found = self._ask(
            """SELECT id FROM (
               SELECT max(id) AS id FROM events WHERE id <= ?
               UNION SELECT min(id) FROM events WHERE id > ?
               UNION SELECT max(connection) FROM events WHERE connection <= ? AND name <> 2
               UNION SELECT min(connection) FROM events WHERE connection > ? AND name <> 2) WHERE id IS NOT NULL""",
            *([span[0]] * 4),
        )
        near = (row_encoding.told(near) for (near,) in found)
        return max(near, key=lambda near: _likeness(near, id), default=None)

    def persons(self) -> list[str]:
        """The persons in the log, sorted; at most 10,000."""
        return [
            str(person) for (person,) in self._ask("SELECT DISTINCT person FROM who ORDER BY 1 LIMIT 10000") if person
        ]

    def is_open(self, forward: str) -> bool:
        """Whether this forward has no closing row yet."""
        return bool(self._ask("SELECT 1 FROM open_forwards WHERE forward = ?", forward))

    def strangers(self, first_minute: int, last_minute: int) -> list[AttemptCount]:
        """The attempt counts of these minutes (both included), oldest first."""
        found = self._ask(
            "SELECT * FROM strangers WHERE minute BETWEEN ? AND ? ORDER BY minute, count DESC, prefix LIMIT 10000",
            first_minute,
            last_minute,
        )
        return [AttemptCount(*columns) for columns in found]

    def stranger(self, reference: str) -> AttemptCount | None:
        """The attempt count whose last attempt got this reference id."""
        found = self._ask("SELECT * FROM strangers WHERE reference = ? LIMIT 1", reference)
        return AttemptCount(*found[0]) if found else None

    def close(self) -> None:
        """Close the database; a later query opens it again."""
        if self._database is not None:
            self._database.close()
            self._database = None
        if self._copy is not None:
            self._copy.cleanup()
            self._copy = None

    def _rows(self, rest: str, *values: object) -> list[Row]:
        return [row_of(columns) for columns in self._ask(f"{ROW} {rest}", *values)]

    def _ask(self, statement: str, *values: object) -> list[Any]:
        """The complete result of one statement."""
        return self._answer(statement, values)

    def _answer(self, statement: str, values: Sequence[object] | Mapping[str, object]) -> list[Any]:
        failed: Exception | None = None
        for _ in range(5):  # a database that moves under a still reader at each try is being restored: give up then
            try:
                database = self._opened()
                answer = database.execute(statement, values).fetchall()
            except (sqlite3.Error, OSError) as error:
                # a log folded in, or a file replaced, between two answers looks like damage to an open reader
                failed = error
                self.close()
                continue
            if self.way == "live" or self._stamp == self._look():
                return answer
            self.close()
        raise unavailable(self._path, failed or sqlite3.OperationalError("it changes faster than it can be read"))

    def _opened(self) -> sqlite3.Connection:
        if self._database is not None and self._look()[0][2] == self._stamp[0][2]:
            return self._database
        self.close()
        if not self._path.exists():
            raise StoreUnavailable(
                f"there is no audit database {self._path}", "it is made when the relay starts: relayctl serve"
            )
        ways: tuple[tuple[str, Callable[[], sqlite3.Connection]], ...] = (
            ("live", self._live),
            ("still", self._still),
            ("copy", self._copied),
        )
        failed: sqlite3.Error | None = None
        for way, opening in ways[:1] if self._only_live else ways:
            self._stamp = self._look()
            if way == "still" and self._stamp[1][0] > 0:
                continue
            database = None
            try:
                database = opening()
                version = migrations.check(database)
            except sqlite3.Error as error:
                failed = failed or error
                if database is not None:
                    database.close()
                continue
            except BaseException:
                if database is not None:
                    database.close()
                raise
            if version == 0:
                database.close()
                raise StoreUnavailable(
                    f"the audit database {self._path} is empty", "it is filled when the relay starts: relayctl serve"
                )
            self._database, self.way = database, way
            return database
        raise failed or sqlite3.OperationalError("it cannot be opened")

    def _look(self) -> _Stamp:
        """Size, time and inode of database and log: if they are the same before and after, nothing was written."""
        stamps = []
        for file in (self._path, self._wal):
            try:
                seen = file.stat()
                stamps.append((seen.st_size, seen.st_mtime_ns, seen.st_ino))
            except FileNotFoundError:
                stamps.append((0, 0, 0))
        if stamps[1][0] == 0:
            stamps[1] = (0, 0, 0)  # an empty log is as good as none
        return tuple(stamps)

    def _live(self) -> sqlite3.Connection:
        return _connect(self._path, "mode=ro")

    def _still(self) -> sqlite3.Connection:
        return _connect(self._path, "mode=ro&immutable=1")

    def _copied(self) -> sqlite3.Connection:
        if self._copy is not None:
            self._copy.cleanup()
        self._copy = tempfile.TemporaryDirectory(prefix="relay-audit-")
        target = Path(self._copy.name) / "audit.db"
        shutil.copyfile(self._path, target)
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(self._wal, target.with_name("audit.db-wal"))
        return _connect(target, "mode=rw")


def _connect(path: Path, how: str) -> sqlite3.Connection:
    database = sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, timeout=5.0, isolation_level=None)
    database.execute("PRAGMA query_only = ON")
    database.execute("PRAGMA trusted_schema = OFF")
    return database


def _likeness(near: str, id: str) -> int:
    length = 0
    for mine, theirs in zip(near, id, strict=False):
        if mine != theirs:
            break
        length += 1
    return length
