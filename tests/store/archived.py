"""A state directory with rows and checkpoints, for the tests of archives."""

from collections.abc import Iterator
from pathlib import Path

from relay.core.audit.archive_format import ArchiveEntry, RetentionSettings
from relay.core.audit.event import Event
from relay.core.audit.hash_chain import GENESIS, Row, digest
from relay.store.archive import archive_job
from relay.store.archive.archive_reader import ArchiveReader
from relay.store.reader import AuditReader
from relay.store.writer import FILE, AuditWriter
from tests.audit_rows import Relay

EVER = RetentionSettings(1 << 60, 0)  # nothing moves by itself
HOUR = 3_600_000_000  # rows are told apart by their hour
LATER = 2 * HOUR  # when archives are made: then nothing is too new


def sealed(relay: Relay) -> Event:
    """A checkpoint, as far as an archive looks at it."""
    return relay.event("audit.sealed", epoch=1, count=12)


def day(relay: Relay) -> list[Event]:
    """Twelve rows: one of everything, all forwards ended, and a checkpoint."""
    events = relay.day()
    return [*events[:-1], relay.closed(events[6], "target-closed"), sealed(relay)]


def fill(state: Path, days: int = 3, relay: Relay | None = None) -> list[Event]:
    """Write that many days, each of twelve rows and in an hour of its own; the events."""
    relay = relay or Relay()
    events: list[Event] = []
    writer = AuditWriter(state / FILE, "relay")
    try:
        for _ in range(days):
            events += day(relay)
            relay.now += HOUR
        writer.append(events)
    finally:
        writer.close()
    return events


def archive(state: Path, before: int, *, settle: bool = True, slice: int = 1000) -> list[ArchiveEntry]:
    """Archive every row of an hour before that of `before`, LATER, and delete the rows."""
    done = []
    for entry in archive_job.run(state, EVER, lambda: before + LATER, before):
        if settle:
            writer = AuditWriter(state / FILE, "relay")
            try:
                archive_job.settle(writer, entry, {}, slice)
            finally:
                writer.close()
        done.append(entry)
    return done


def whole(state: Path) -> list[Row]:
    """Every row of archives and database, oldest first, each once: the chain over all of them holds."""
    archives = ArchiveReader(state)
    rows: list[Row] = list(archives.walk())
    with AuditReader(state / FILE) as reader:
        rows += reader.walk(rows[-1].seq if rows else 0)
    held(rows)
    return rows


def held(rows: list[Row]) -> None:
    """The chain over these rows, the first of all included, holds."""
    from tests.core.chain_check import first_break

    assert first_break(rows) is None, first_break(rows)


def lines(state: Path) -> Iterator[str]:
    """The ids of all rows, by the texts that a verifier reads; their chain holds."""
    prev, seq = GENESIS, 0
    archives = ArchiveReader(state)
    with AuditReader(state / FILE) as reader:
        for source in (archives.lines(), reader.lines(archives.last())):
            for line in source:
                assert (line.seq, digest(prev, line.text)) == (seq + 1, line.hash)
                prev, seq = line.hash, line.seq
                yield line.id
