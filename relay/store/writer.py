"""The only writer of the audit database (reader.py has `AuditReader`).

One process holds the writer's flock; it appends groups of events, each group one durable transaction (WAL,
synchronous=FULL: the rows are on the disk when `append` returns). A transaction that fails changes nothing, and
the next call tries again, so a full disk or a missing volume needs no restart.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from relay.core.audit.event import SCHEMA, Event, bounded
from relay.core.audit.hash_chain import canonical, digest
from relay.errors import StoreUnavailable
from relay.store import database_files, migrations, preauth_counters, pruning, reserve_file
from relay.store.database_files import unavailable
from relay.store.rows import row_encoding, time_index
from relay.store.rows.dictionary_cache import DictionaryCache
from relay.store.rows.row_decoding import ROW, base_of, row_of

__all__ = ["FILE", "AuditWriter"]

FILE = "audit.db"  # in the state directory
# Pages of log after which it is folded into the database (512 KiB). SQLite's own 1000 let a trickle of small commits,
# a stranger's counters each second, take 4 MB of disk; folding in eight times as often is not slower (bench/store.py).
_WAL_PAGES = 128
_PAGES = 7  # that one row changes: its own, those of its indexes, and the list of what is open
# SQLite folds the log in by itself, inside of a commit that somebody waits for, where nobody calls `fold` in time
_WAL_MOST = 2 * _WAL_PAGES
_WAL_KEPT = 1 << 20  # bytes of an emptied log that are kept for reuse; a longer one is cut


class AuditWriter:
    """Write access to the audit database, for one thread at a time."""

    def __init__(self, path: Path, node: str) -> None:
        """Take the lock, bring the database to this version. Raises StoreUnavailable, naming the holder of the lock."""
        self._path = path
        self._node = node
        self._database: sqlite3.Connection | None = None
        self._head: tuple[int, str] | None = None
        self._newest_hour: int | None = None
        self._dictionaries = DictionaryCache(node)
        self._unfolded = 0  # pages of the log since it was folded in, nearly
        self.ballast = reserve_file.ReserveFile(path.with_name(reserve_file.FILE))
        self._lock = database_files.take_lock(path)
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def append(self, events: Sequence[Event]) -> None:
        """Record `events` in one durable transaction; an event whose id is already recorded is left out.

        So are a forward.closed without an open forward and a second forward.opened of the same forward: each opening
        has exactly one closing row. Raises StoreUnavailable, and ValueError for one with another event's id; then none
        of them is recorded.
        """
        if not events:
            return
        with self._guard() as database:
            database.execute("BEGIN IMMEDIATE")
            seq, prev = self._head or _head(database)
            span = time_index.TimeIndex(time_index.newest(database) if self._newest_hour is None else self._newest_hour)
            for given in events:
                found = self._dictionaries.find(given)
                event = bounded(given) if found is None else given
                forward = event.fields.get("forward")
                opening = event.name == "forward.opened" and isinstance(forward, str)
                if opening and forward != event.id and _is_opened(database, str(forward)):
                    continue
                ended = _end(database, forward) if event.name == "forward.closed" else 0
                if ended is None:
                    continue
                if found is None:
                    id, text = row_encoding.kept(event.id), canonical(self._node, seq + 1, event)
                    entries, placed, rest = self._dictionaries.look_up(database, event)
                else:
                    id, entries, placed, text = found
                    text, rest = text % (seq + 1, event.time), entries.rest
                hash = digest(prev, text)
                done = database.execute(
                    """INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                    ON CONFLICT (id) DO NOTHING""",
                    (
                        seq + 1,
                        id,
                        event.time,
                        entries.node,
                        entries.name,
                        SCHEMA,
                        entries.who,
                        entries.target,
                        *placed,
                        rest,
                        bytes.fromhex(hash),
                    ),
                )
                if not done.rowcount:  # there is an event with this id
                    self._is_there(database, event)
                    if ended:
                        database.execute("INSERT INTO open_forwards VALUES (?, ?)", (forward, ended))
                    continue
                seq, prev = seq + 1, hash
                span.add(seq, event.time)
                if opening:
                    database.execute("INSERT INTO open_forwards VALUES (?, ?)", (forward, seq))
            span.store(database)
            database.execute("COMMIT")
        self._unfolded += _PAGES + len(events) // 2
        self._head, self._newest_hour = (seq, prev), span.newest

    def append_last(self, events: Sequence[Event]) -> None:
        """`append`, for rows that must not wait: on a full disk the reserve file is released for them."""
        try:
            self.append(events)
        except StoreUnavailable as error:
            if not database_files.is_full(self._path, error) or not self.ballast.release():
                raise
            self.append(events)

    def fold(self) -> None:
        """Checkpoint the WAL if it is long enough, while no forward waits for a row. Raises nothing."""
        if self._unfolded >= _WAL_PAGES and self._database is not None:
            self._unfolded = 0
            with contextlib.suppress(sqlite3.Error):  # a full disk, where rows may still find room: as SQLite does it
                self._database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def open_forwards(self) -> dict[str, Event]:
        """The opening event of every forward that has no closing row, by forward id. Raises StoreUnavailable."""
        with self._guard() as database:
            found = database.execute(f"{ROW} JOIN open_forwards o ON o.seq = e.seq ORDER BY e.seq").fetchall()
            opened = [row_of(columns).event for columns in found]
        return {str(event.fields["forward"]): event for event in opened}

    def open_count(self) -> int:
        """How many forwards have no closing row. Raises StoreUnavailable."""
        with self._guard() as database:
            (count,) = database.execute("SELECT count(*) FROM open_forwards").fetchone()
            return int(count)

    def head(self) -> tuple[int, str]:
        """Number and hash of the last row: (0, GENESIS) when there is none. Raises StoreUnavailable."""
        with self._guard() as database:
            return _head(database)

    @property
    def salt(self) -> bytes:
        """This database's salt for login names of failed attempts (see preauth_counters). Raises StoreUnavailable."""
        with self._guard() as database:
            (salt,) = database.execute("SELECT value FROM meta WHERE key = 'salt'").fetchone()
            return bytes(salt)

    def strangers(self, counts: Iterable[preauth_counters.AttemptCount]) -> None:
        """Add the counts of failed attempts, outside the chain. Raises StoreUnavailable; then none is added."""
        with self._transaction() as database:
            preauth_counters.store(database, counts)

    def prune(self, now_us: int, strangers_keep_days: int = 30) -> int:
        """Delete older counts of failed attempts; returns the number of deleted rows. Raises StoreUnavailable.

        Rows of known people are never deleted here: archiving them is another matter.
        """
        with self._transaction() as database:
            return preauth_counters.prune(database, now_us // 60_000_000 - strangers_keep_days * 1440)

    def forget(self, last: int, hash: str, most: int) -> bool:
        """Delete up to `most` rows that are archived up to row `last`, which has this hash; False when none is left.

        Raises StoreUnavailable, also when the database does not hold what was archived; then none of them is deleted.
        """
        with self._transaction() as database:
            some = pruning.forget(database, last, hash, most)
            self._dictionaries.forget()  # some went with them
        return some

    def give_back(self) -> bool:
        """Return some free pages to the disk; False if there are none. Raises StoreUnavailable."""
        with self._guard() as database:
            return pruning.give_back(database)

    def room(self) -> pruning.DatabaseRoom:
        """The size of the database. Raises StoreUnavailable."""
        with self._guard() as database:
            return pruning.room(database)

    def probe(self) -> None:
        """Write a page unchanged, to test whether a row could be written now. Raises StoreUnavailable."""
        with self._transaction() as database:
            (version,) = database.execute("PRAGMA user_version").fetchone()
            # written also when it is the same; an UPDATE that changes nothing would touch no page
            database.execute(f"PRAGMA user_version = {version}")

    def backup(self, path: Path) -> None:
        """Write a consistent copy of the database to `path`, a new file. Raises StoreUnavailable."""
        with self._guard() as database, contextlib.closing(sqlite3.connect(path)) as copy:
            database.backup(copy)

    def close(self) -> None:
        """Fold the log into the database and release the lock. May be called twice."""
        self._shut()
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _open(self) -> sqlite3.Connection:
        if self._lock < 0:
            raise StoreUnavailable(f"the audit database {self._path} is closed")
        if self._database is not None:
            return self._database
        database = None
        try:
            database_files.create(self._path)
            database = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode=rw",
                uri=True,
                timeout=5.0,  # a reader that rolls a log forward holds a lock for milliseconds
                isolation_level=None,
                check_same_thread=False,
            )
            # before a new file's first page is written, or never: pages can be given back to the disk (leaving.py)
            database.execute("PRAGMA auto_vacuum = INCREMENTAL")
            (mode,) = database.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal":
                raise StoreUnavailable(f"{self._path} lies where SQLite cannot keep a log: {mode}", "use a local disk")
            database.execute("PRAGMA synchronous = FULL")
            database.execute(f"PRAGMA wal_autocheckpoint = {_WAL_MOST}").fetchone()
            database.execute(f"PRAGMA journal_size_limit = {_WAL_KEPT}").fetchone()
            database.execute("PRAGMA trusted_schema = OFF")
            migrations.migrate(database)
        except (sqlite3.Error, OSError, ValueError) as error:
            if database is not None:
                database.close()
            raise unavailable(self._path, error) from error
        except BaseException:
            if database is not None:
                database.close()
            raise
        self._database = database
        self._unfolded = _WAL_PAGES  # what is there from before is not known
        return database

    def _shut(self) -> None:
        self._forget()
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
            self._database = None

    def _forget(self) -> None:
        """Clear the caches after a rolled back transaction."""
        self._head = self._newest_hour = None
        self._dictionaries.forget()

    @contextlib.contextmanager
    def _guard(self) -> Iterator[sqlite3.Connection]:
        """The open database; errors become StoreUnavailable, and any but a full disk has the database opened again."""
        database = self._open()
        try:
            yield database
        except BaseException as error:
            self._forget()
            with contextlib.suppress(sqlite3.Error):
                if database.in_transaction:
                    database.execute("ROLLBACK")
            if not isinstance(error, sqlite3.Error | OSError):
                raise
            if getattr(error, "sqlite_errorcode", 0) != sqlite3.SQLITE_FULL:
                self._shut()
            raise unavailable(self._path, error) from error

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._guard() as database:
            database.execute("BEGIN IMMEDIATE")
            yield database
            database.execute("COMMIT")
            self._unfolded = _WAL_PAGES  # or more, as far as is known; no forward waits for these
        self.fold()

    def _is_there(self, database: sqlite3.Connection, event: Event) -> None:
        """Raises StoreUnavailable for a row that the database passed over without having it.

        Raises ValueError where another event has its id: ids are made of the clock, which somebody may have put back.
        """
        found = database.execute(
            "SELECT e.time, n.name FROM events e LEFT JOIN names n ON n.id = e.name WHERE e.id = ?",
            (row_encoding.kept(event.id),),
        ).fetchone()
        if found is None:
            raise StoreUnavailable(
                f"the audit database {self._path} does not take row {event.id}: its tables are not as they were made",
                "relayctl restore FILE brings a backup back",
            )
        if found != (event.time, event.name):
            raise ValueError(f"{event.name} {event.id} has the id of another event, {found}: was the clock put back?")


def _head(database: sqlite3.Connection) -> tuple[int, str]:
    last = database.execute("SELECT seq, hash FROM events ORDER BY seq DESC LIMIT 1").fetchone()
    return (last[0], last[1].hex()) if last else base_of(database)


def _end(database: sqlite3.Connection, forward: object) -> int | None:
    """A forward is no longer open: the number of its opening row, None when it was not open."""
    ended = database.execute("DELETE FROM open_forwards WHERE forward = ? RETURNING seq", (forward,)).fetchone()
    return None if ended is None else int(ended[0])


def _is_opened(database: sqlite3.Connection, forward: str) -> bool:
    id = row_encoding.kept(forward)
    return bool(
        database.execute(
            """SELECT 1 FROM events WHERE id = ? AND forward = 1 AND name = 1
            UNION SELECT 1 FROM events WHERE forward = ? AND forward <> 1 AND name = 1""",
            (id, id),
        ).fetchone()
    )
