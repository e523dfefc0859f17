"""Files of the audit database: modes, owner, the writer's lock, free space."""

import contextlib
import errno
import fcntl
import os
import sqlite3
from pathlib import Path

from relay import atomic_file
from relay.errors import StoreUnavailable


def unavailable(path: Path, error: Exception) -> StoreUnavailable:
    """An error of SQLite or the system about the audit database as text, with the next step."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    base = f"the audit database {path}"
    if code == sqlite3.SQLITE_FULL or getattr(error, "errno", 0) == errno.ENOSPC:
        return StoreUnavailable(f"{base} cannot grow: the disk is full", "make room; nothing else is needed")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return StoreUnavailable(f"{base} is damaged: {error}", "relayctl restore FILE brings a backup back")
    if isinstance(error, FileNotFoundError):
        return StoreUnavailable(f"{base} has no directory", f"make {path.parent}; relayctl init does")
    may_not = code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN)
    hint = f"look at owner and mode of {path.parent}, or run this as root"
    return StoreUnavailable(
        f"{base} cannot be used: {error}", hint if may_not or isinstance(error, PermissionError) else ""
    )


def is_full(path: Path, error: StoreUnavailable) -> bool:
    """Whether the disk was too full to write the database at `path`."""
    cause = error.__cause__
    if getattr(cause, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
        return True
    if getattr(cause, "errno", 0) in (errno.ENOSPC, errno.EDQUOT):
        return True
    try:  # SQLite calls a log's index that cannot grow an error like any other
        room = os.statvfs(path.parent)
    except OSError:
        return False
    return room.f_bavail * room.f_frsize < 64 << 10


def create(path: Path) -> None:
    """Create the file with its mode and owner before SQLite does; -wal and -shm inherit both."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return
    try:
        give_to_owner(descriptor, path.parent)
    finally:
        os.close(descriptor)
    atomic_file.sync(path.parent)


def give_to_owner(descriptor: int, directory: Path) -> None:
    """Give a file that root created in the state directory to the owner of that directory."""
    if os.geteuid() == 0:
        owner = directory.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def take_lock(path: Path) -> int:
    """The writer's lock as a descriptor; closing it releases the lock. Raises StoreUnavailable, naming its holder."""
    lock = path.with_name(path.name + ".lock")
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise unavailable(path, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        with contextlib.suppress(OSError):
            holder = os.pread(descriptor, 64, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        if not isinstance(error, BlockingIOError):
            raise unavailable(path, error) from error
        raise StoreUnavailable(
            f"another process writes the audit database {path}: {holder or 'it left no name'}",
            "a running relay is asked by its control socket; stop it first if it does not answer",
        ) from error
    with contextlib.suppress(OSError):  # the name of the holder is a courtesy; a full disk must not stop us
        give_to_owner(descriptor, path.parent)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()}\n".encode(), 0)
    return descriptor


def retire_log(path: Path, aside: Path) -> None:
    """Remove the write-ahead log of the database `path`, which is about to be moved to `aside` and replaced.

    SQLite would apply a log that is left beside the new database to that one. The log is applied to its own database,
    or, if that fails (the database may be damaged), moved beside `aside`. The caller holds the writer's lock.
    Raises OSError.
    """
    if _is_sqlite(path):  # SQLite deletes a log beside what it takes for no database
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as database:
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    log = path.with_name(f"{path.name}-wal")
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size:
            log.rename(aside.with_name(f"{aside.name}-wal"))
        else:
            log.unlink()
    path.with_name(f"{path.name}-shm").unlink(missing_ok=True)


def _is_sqlite(path: Path) -> bool:
    """Whether the file has the header of a database with a write-ahead log (sqlite.org/fileformat.html, 1.3)."""
    try:
        with path.open("rb") as file:
            header = file.read(20)
    except OSError:
        return False
    return header.startswith(b"SQLite format 3\0") and header[18:] == b"\2\2"
