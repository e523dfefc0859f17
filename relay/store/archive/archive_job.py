"""The move of rows to an archive: write, sync, read back, record a row, delete.

The order lets a crash between any two steps lose nothing, and the next run continues:
1. the rows are read and their chain is checked; they are written under a temporary name, synced, read back, compared;
2. the file gets its name, then its entry in the manifest, which makes it valid;
3. the row `audit.archived` is written, with the id that the manifest keeps, so that it is written once;
4. the rows are deleted, oldest first, in short slices (Writer.forget), which move the base of the database with them.
Steps 1 and 2 need no writer: a process of their own (`python -m relay.store.archive.archive_job`) does them while
the relay serves. An archive is discarded in the same order: manifest, row, file.
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from relay.core.audit import archive_format
from relay.core.audit.archive_format import ArchiveEntry, DatabaseUsage, RetentionSettings
from relay.core.audit.event import Value
from relay.core.audit.hash_chain import digest
from relay.core.ids import Ids
from relay.errors import RelayError, StoreUnavailable
from relay.store.archive import archive_writer
from relay.store.archive.archive_reader import MANIFEST, ArchiveReader
from relay.store.reader import AuditReader
from relay.store.writer import FILE, AuditWriter

SETTLED = 3_600_000_000  # microseconds: a worker whose supervisor died sends its rows again, mostly within seconds;
# a row that comes twice is known by its twin in the database
STOPPED_SLICE = 1000  # rows deleted in one transaction where no forward waits; the log stays short
MOST_ROWS = 100_000  # of one archive, unless no checkpoint comes before: 4 MB, read in a second


@dataclass(frozen=True, slots=True)
class ArchivePlan:
    """The rows to archive: from row `after` to each of `ends`, which are checkpoints."""

    after: int
    ends: tuple[int, ...]
    wished: int  # the row up to which it was to be; more than the last of `ends`: `held` says why
    held: str = ""


def standing(reader: AuditReader, retention: RetentionSettings, now_us: int) -> DatabaseUsage:
    """The rows of the database, compared with `retention`."""
    opened = reader.oldest_open()
    return DatabaseUsage(
        base=reader.base()[0],
        head=reader.head(),
        used=reader.room().used,
        aged=reader.edge(now_us - retention.keep),
        well_aged=reader.edge(now_us - retention.keep - archive_format.DAY),
        settled=reader.edge(now_us - SETTLED),
        open=opened[0] if opened else 0,
    )


def plan(
    state: Path, reader: AuditReader, retention: RetentionSettings, now_us: int, before: int | None = None
) -> ArchivePlan:
    """The rows that `retention` moves to archives now, or everything older than `before`. Raises StoreUnavailable."""
    now = standing(reader, retention, now_us)
    after = max(ArchiveReader(state).last(), now.base)
    wished = archive_format.wanted(retention, now) if before is None else reader.edge(before)
    last = archive_format.allowed(now, wished)
    ends = tuple(_ends(reader, after, last))
    reached = ends[-1] if ends else after
    held = ""
    if reached < wished:
        held = f"no checkpoint stands between row {reached} and row {last}" if last > reached else ""
        if not held and now.open and now.open <= wished:
            opened = reader.oldest_open()
            held = f"forward {opened[1] if opened else ''} is open since row {now.open}"
        elif not held and last < wished:
            held = "the rows of the last hour stay: one that a worker sends again is known by its twin"
    return ArchivePlan(after, ends, wished, held)


def _ends(reader: AuditReader, after: int, last: int) -> Iterator[int]:
    while after < last:
        end = reader.named(archive_format.SEALED, after, min(after + MOST_ROWS, last), newest=True)
        end = end or reader.named(archive_format.SEALED, after, last, newest=False)
        if not end:
            return
        yield end
        after = end


def run(
    state: Path,
    retention: RetentionSettings,
    now: Callable[[], int],
    before: int | None = None,
    found: Callable[[ArchivePlan], object] = lambda plan: None,
) -> Iterator[ArchiveEntry]:
    """Archive due rows; yields each archive as soon as its rows may leave the database, those of an earlier run first.

    The caller prevents other runs meanwhile. Raises StoreUnavailable; then no row may be deleted.
    """
    archives = ArchiveReader(state)
    with AuditReader(state / FILE) as reader, archive_writer.alone(state):
        base, hash = reader.base()
        entries = archives.entries()
        _fit(archives, entries, base, hash)
        archive_writer.clear(archives, entries)
        for entry in entries:
            if entry.last > base:
                archives.check(entry)
                yield entry
        due = plan(state, reader, retention, now(), before)
        found(due)
        after, prev = (entries[-1].last, entries[-1].hash) if entries else (base, hash)
        ids = Ids(archive_writer.SLOT)
        for end in due.ends:
            entry = _looked_at(reader, after, prev, end)
            at = now()
            entry = replace(archive_writer.write(archives, reader.lines(after), entry), id=ids.make(at), at=at)
            entries = (*entries, entry)
            archive_writer.enter(archives, entries)
            after, prev = entry.last, entry.hash
            yield entry


def settle(writer: AuditWriter, entry: ArchiveEntry, by: Mapping[str, Value], slice: int = STOPPED_SLICE) -> None:
    """Record that these rows are archived, then delete them. Raises StoreUnavailable; the next run resumes."""
    row = entry.archived()
    writer.append([replace(row, fields={**row.fields, **by})])
    while writer.forget(entry.last, entry.hash, slice):
        pass


def _fit(archives: ArchiveReader, entries: tuple[ArchiveEntry, ...], base: int, hash: str) -> None:
    """Whether manifest, files and database belong together. Raises StoreUnavailable."""
    last = entries[-1].last if entries else 0
    ending = next((entry for entry in entries if entry.last == base), None)
    if last < base or (ending is not None and ending.hash != hash):
        raise StoreUnavailable(
            f"{archives.directory / MANIFEST} ends with row {last}, the database goes on behind row {base}: they do not"
            " belong together",
            "relayctl restore FILE brings both back; nothing was deleted",
        )
    for entry in entries:
        if entry.kept:
            archives.present(entry)


def _looked_at(reader: AuditReader, after: int, prev: str, end: int) -> ArchiveEntry:
    """The entry of these rows, whose chain holds. Raises StoreUnavailable for the first row that does not fit."""
    seq, hash, since, until, size = after, prev, 1 << 62, -(1 << 62), 0
    persons: set[str] = set()
    name = text = ""
    for line in reader.lines(after):
        if line.seq > end:
            break
        seq, name, text = seq + 1, line.name, line.text
        if line.seq != seq or digest(hash, text) != line.hash:
            wrong = f"row {seq} is missing" if line.seq != seq else f"row {seq} is not what was written"
            raise StoreUnavailable(f"nothing is archived: {wrong}", "relayctl audit verify; nothing was deleted")
        hash, since, until = line.hash, min(since, line.time), max(until, line.time)
        size += len(archive_format.line(hash, text).encode()) + 1
        person = archive_format.person_of(text)
        if person is not None and len(persons) <= archive_format.MOST_PERSONS:
            persons.add(person)
    if seq != end or name != archive_format.SEALED:
        raise StoreUnavailable(f"nothing is archived: row {end} is no checkpoint", "relayctl audit verify")
    node = archive_format.node_of(archive_format.row(prev, hash, text).node)
    named = None if len(persons) > archive_format.MOST_PERSONS else tuple(sorted(persons))
    entry = ArchiveEntry(node, after + 1, end, prev, hash, since, until, named)
    return replace(entry, size=size + len(entry.header().encode()) + 1)


def main() -> None:
    """`python -m relay.store.archive.archive_job STATE KEEP_US MOST_BYTES [BEFORE_US]`: the supervisor's child.

    One JSON object a line: {"entry": ...} for each archive whose rows may go, {"held": WHY} for what has to wait, and
    {"done": true} or {"problem": ..., "hint": ...}.
    """
    state, keep, most, *before = sys.argv[1:]

    def say(**told: object) -> None:
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()

    with contextlib.suppress(OSError):  # forwards come first; a system call filter may forbid it
        os.nice(10)
    try:
        for entry in run(
            Path(state),
            RetentionSettings(int(keep), int(most)),
            lambda: time.time_ns() // 1000,
            int(before[0]) if before else None,
            lambda due: say(held=due.held, wished=due.wished, ends=len(due.ends)),
        ):
            say(entry=archive_format.entry_line(entry))
        say(done=True)
    except RelayError as error:
        say(problem=error.what, hint=error.hint)
    except OSError as error:
        say(problem=f"{error.filename or state}: {error.strerror}", hint="run it as root or as the relay's user")


if __name__ == "__main__":
    main()
