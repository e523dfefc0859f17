"""Archive files: written and removed, each completely or not at all."""

import contextlib
import errno
import gzip
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from relay import atomic_file, file_lock
from relay.core.audit import archive_format
from relay.core.audit.archive_format import ArchiveEntry
from relay.core.ids import Ids
from relay.errors import StoreUnavailable
from relay.store.archive.archive_reader import DIRECTORY, MANIFEST, ArchiveReader
from relay.store.database_files import give_to_owner
from relay.store.rows.row_decoding import VerifierRow
from relay.store.writer import FILE

SLOT = 509  # of ids: one process archives at a time, and no other has this slot
RESERVED = 16 << 20  # bytes of the disk that are for the rows to come: an archive that took them would refuse forwards
_LOOKED_AT = 2000  # rows between two looks at that, some hundred kilobytes
WAIT_SECONDS = 30.0  # to wait for another archive run or a backup


@contextlib.contextmanager
def alone(state: Path) -> Iterator[Path]:
    """The directory of archives, created if missing, with its lock held. Raises StoreUnavailable."""
    directory = state / DIRECTORY
    try:
        with contextlib.suppress(FileExistsError):
            directory.mkdir(mode=0o700)
            atomic_file.sync(state)  # no row may leave the database for a directory that a loss of power undoes
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise StoreUnavailable(f"{directory}: {error.strerror}", f"look at owner and mode of {state}") from error
    try:
        with contextlib.suppress(PermissionError):  # a command of another user than the owner
            give_to_owner(descriptor, state)
            os.fchmod(descriptor, 0o700 | (0o050 if _mode(state) & 0o040 else 0))
        if not file_lock.acquire(descriptor, WAIT_SECONDS):
            raise StoreUnavailable(f"another process archives in {directory}", "try again when it is done")
        yield directory
    finally:
        os.close(descriptor)


def _mode(state: Path) -> int:
    """The mode of archives: readable by the readers of the database, writable by the owner only."""
    try:
        return 0o600 | ((state / FILE).stat().st_mode & 0o040)
    except OSError:
        return 0o600


def clear(archives: ArchiveReader, entries: tuple[ArchiveEntry, ...]) -> None:
    """Remove the files of an interrupted run: they are never read, and their rows are still in the database."""
    last = entries[-1].last if entries else 0
    for path in archives.directory.iterdir():
        parts = path.name.removesuffix(".jsonl.gz").rsplit("-", 2)
        leftover = path.name.endswith(".jsonl.gz") and len(parts) == 3 and parts[1].isdecimal() and int(parts[1]) > last
        if leftover or (path.name.startswith(".") and path.name.endswith(".new")):
            path.unlink(missing_ok=True)


def write(archives: ArchiveReader, lines: Iterator[VerifierRow], entry: ArchiveEntry) -> ArchiveEntry:
    """Write the archive of these lines, read it back, and name it. Returns its entry with the file's size and hash.

    Raises StoreUnavailable, also if `lines` differ from `entry`; then there is no such file.
    """
    path = archives.directory / entry.file
    fresh = path.with_name(f".{path.name}.new")
    state = archives.directory.parent
    try:
        descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            give_to_owner(descriptor, state)
            os.fchmod(descriptor, _mode(state))
            # no name and no time in it: the same rows give the same bytes
            with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0, compresslevel=6) as packed:
                packed.write(entry.header().encode() + b"\n")
                for number, line in enumerate(lines):
                    if line.seq > entry.last:
                        break
                    if number % _LOOKED_AT == 0:
                        _leave_room(descriptor)
                    packed.write(archive_format.line(line.hash, line.text).encode() + b"\n")
            file.flush()
            os.fsync(descriptor)
            if hasattr(os, "posix_fadvise"):  # what is read back is to come from the disk
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            file.seek(0)
            data = file.read()
        entry = replace(entry, bytes=len(data), sha256=sha256(data).hexdigest())
        archives.check(entry, fresh)
        fresh.rename(path)
        atomic_file.sync(archives.directory)
    except BaseException as error:
        with contextlib.suppress(OSError):
            fresh.unlink()
        if isinstance(error, OSError):
            raise _unwritable(path, error) from error
        raise
    return entry


def enter(archives: ArchiveReader, entries: tuple[ArchiveEntry, ...]) -> None:
    """Replace the manifest. Raises StoreUnavailable."""
    path = archives.directory / MANIFEST
    state = archives.directory.parent
    text = "".join(archive_format.entry_line(entry) + "\n" for entry in entries)
    try:
        atomic_file.replace(path, text.encode(), _mode(state), lambda descriptor: give_to_owner(descriptor, state))
    except OSError as error:
        raise _unwritable(path, error) from error


def _leave_room(descriptor: int) -> None:
    disk = os.fstatvfs(descriptor)
    if disk.f_bavail * disk.f_frsize < RESERVED:
        raise OSError(errno.ENOSPC, f"the last {RESERVED >> 20} MiB of this disk are for the rows to come")


def _unwritable(path: Path, error: OSError) -> StoreUnavailable:
    return StoreUnavailable(f"{path} cannot be written: {error.strerror}", "is there room? df -h; nothing was deleted")


def pending_discards(archives: ArchiveReader) -> tuple[ArchiveEntry, ...]:
    """Discarded archives whose files are still there because a run was interrupted."""
    return tuple(entry for entry in archives.entries() if not entry.kept and (archives.directory / entry.file).exists())


def to_discard(archives: ArchiveReader, base: int, before: int, *, sealed: bool) -> tuple[ArchiveEntry, ...]:
    """The oldest archives that are kept, all of whose rows are older than `before` and have left the database.

    The newest checkpoint says which key signs next, so its archive is kept unless the database has a newer one
    (`sealed`).
    """
    found: list[ArchiveEntry] = []
    entries = archives.entries()
    for entry in entries if sealed else entries[:-1]:
        if entry.until >= before or entry.last > base:
            break
        if entry.kept:
            found.append(entry)
    return tuple(found)


def announce_discards(
    state: Path, chosen: tuple[ArchiveEntry, ...], now: Callable[[], int]
) -> tuple[ArchiveEntry, ...]:
    """Mark these archives as discarded in the manifest, after a last check. Raises StoreUnavailable.

    Their rows `audit.discarded` must be durable before `discard` removes a file.
    """
    archives = ArchiveReader(state)
    with alone(state):
        ids = Ids(SLOT)
        files = {entry.file for entry in chosen}
        entries = []
        for entry in archives.entries():
            if entry.file in files and entry.kept:
                archives.check(entry)
                at = now()
                entries.append(archive_format.dropped(entry, ids.make(at), at))
            else:
                entries.append(entry)
        enter(archives, tuple(entries))
    return pending_discards(archives)


def discard(archives: ArchiveReader, entry: ArchiveEntry) -> None:
    """Remove the file of a discarded archive. Raises StoreUnavailable."""
    path = archives.directory / entry.file
    try:
        path.unlink(missing_ok=True)
        atomic_file.sync(archives.directory)
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be removed: {error.strerror}", "run this as root") from error


def damaged(archives: ArchiveReader, base: int, hash: str, now: Callable[[], int]) -> tuple[ArchiveEntry, ...]:
    """The entries of missing or changed archives, for the rows that are nowhere else.

    `base`, `hash`: the last row that has left the database. Their rows `audit.discarded` come before `give_up`.
    """
    ids = Ids(SLOT)
    found: list[ArchiveEntry] = []
    for entry in archives.entries():
        if not entry.kept or entry.first > base:
            continue
        try:
            archives.check(entry)
        except StoreUnavailable:
            at = now()
            lost = entry if entry.last <= base else replace(entry, last=base, hash=hash)
            found.append(archive_format.dropped(lost, ids.make(at), at))
    return tuple(found)


def give_up(state: Path, base: int, lost: tuple[ArchiveEntry, ...]) -> None:
    """Discard these archives; what remains of their files is renamed to .damaged. Raises StoreUnavailable.

    An archive whose rows are all still in the database is not concerned: the next run writes it again.
    """
    archives = ArchiveReader(state)
    by_first = {entry.first: entry for entry in lost}
    with alone(state):
        entries = [by_first.get(entry.first, entry) for entry in archives.entries() if entry.first <= base]
        aside = [entry.file for entry in archives.entries() if entry.first in by_first]
        enter(archives, tuple(entries))
        for file in aside:
            path = archives.directory / file
            with contextlib.suppress(FileNotFoundError):
                path.rename(path.with_name(f"{file}.damaged"))
        atomic_file.sync(archives.directory)
