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
    """SQLite's or the system's complaint about the audit database in words, with the cure."""
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
    """Make the file with its mode and owner before SQLite does; -wal and -shm take them over from it."""
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
    """What root makes in the state directory belongs to that directory's owner."""
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
    """Before the database `path` is moved to `aside` and another takes its place: its log must not stay behind.

    SQLite would fold a log that lies beside the new database into that one. Folded in where it belongs if that can be
    done (a damaged database is often why it is replaced), else moved to lie beside `aside`. Hold the writer's lock.
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
    """Whether the file begins as a database with a log does (sqlite.org/fileformat.html, 1.3)."""
    try:
        with path.open("rb") as file:
            header = file.read(20)
    except OSError:
        return False
    return header.startswith(b"SQLite format 3\0") and header[18:] == b"\2\2"
