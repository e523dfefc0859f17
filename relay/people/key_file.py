"""Atomic and durable changes of the files below keys/, with the owner and mode that the service needs.

Also the reserve: 8 KiB that are freed on a full disk, so that a revocation can still be written.
"""

import contextlib
import errno
import os
import re
import stat
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from relay import atomic_file, file_lock
from relay.core.keys.authorized_keys import fingerprint
from relay.errors import NotPermitted, RelayError

MODE = 0o640  # writable by root, readable by the service's group
RESERVE = ".reserve"
RESERVE_BYTES = 8192  # room for some 50 revocations
FULL = (errno.ENOSPC, errno.EDQUOT)
_MOST_BYTES = 1 << 20  # of one file, as relay.site.key_files reads it
_LOCK_SECONDS = 5.0

# a key anywhere in a line, also after invalid options
_KEY = re.compile(rb"(?<![A-Za-z0-9-])((?:ssh|ecdsa|sk)-[!-~]{1,60})[ \t]+([A-Za-z0-9+/]{20,}={0,3})")


@dataclass(frozen=True, slots=True)
class KeyOccurrence:
    """A key in a person's file, whether or not its line is valid."""

    person: str
    fingerprint: str
    encoded: str  # base64, the same as in authorized_keys of LAN hosts
    file: str  # relative to the site
    line: int
    offset: int  # bytes before its line


def scan(directory: Path) -> Iterator[KeyOccurrence]:
    """Every key below `directory` (SITE/keys), also in invalid lines. Unreadable files are skipped."""
    try:
        names = sorted(os.listdir(directory))  # noqa: PTH208 - names are wanted
    except OSError:
        return
    for name in names:
        if not name.endswith(".pub") or name.startswith("."):
            continue
        try:
            data = _read(directory / name)
        except OSError:
            continue
        offset = 0
        for number, line in enumerate(data.split(b"\n"), 1):
            if not line.lstrip(b"\xef\xbb\xbf \t").startswith(b"#"):
                for match in _KEY.finditer(line):
                    with contextlib.suppress(ValueError):
                        blob = b64decode(match[2], validate=True)
                        seen = match[2].decode()
                        yield KeyOccurrence(
                            name.removesuffix(".pub"), fingerprint(blob), seen, f"keys/{name}", number, offset
                        )
            offset += len(line) + 1


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the lock of the key files; makes the directory. Raises RelayError, NotPermitted."""
    try:
        if not directory.is_dir():
            directory.mkdir(mode=0o750)
            _own(directory, directory.parent)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise complaint(directory, error) from None
    try:
        if not file_lock.acquire(descriptor, _LOCK_SECONDS):
            raise RelayError(f"another command is changing {directory}", "wait for it, then try again")
        yield
    finally:
        os.close(descriptor)


def read(path: Path) -> bytes:
    """The file's bytes, empty if it does not exist. Raises NotPermitted or RelayError."""
    try:
        return _read(path)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise complaint(path, error) from None


def replace(path: Path, data: bytes) -> None:
    """Replace the file's content durably, or change nothing. Raises NotPermitted or RelayError."""
    path = path.resolve()  # keep a symbolic link
    try:
        atomic_file.replace(path, data, MODE, lambda descriptor: _own(descriptor, path.parent))
    except OSError as error:
        raise complaint(path, error) from None


def make_reserve(directory: Path) -> None:
    """Reserve space for revocations on a full disk. A failure is ignored."""
    path = directory / RESERVE
    with contextlib.suppress(OSError, RelayError):
        if not path.exists() or path.stat().st_size < RESERVE_BYTES:
            # random data, so that neither holes nor compression save the blocks
            replace(path, os.urandom(RESERVE_BYTES))


def free_reserve(directory: Path) -> bool:
    """Free the reserve; returns whether there was one."""
    path = directory / RESERVE
    try:
        os.truncate(path, 0)
        path.unlink()
        atomic_file.sync(directory)
    except OSError:
        return False
    return True


def append(path: Path, text: str) -> None:
    """Append whole lines, durably, or change nothing. Raises OSError, so that the caller can fall back."""
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, MODE)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is not a file")
        size = found.st_size
        if size == 0:
            with contextlib.suppress(OSError):
                os.fchmod(descriptor, MODE)  # regardless of the umask: the service must read it
            _own(path, path.parent)
        elif os.pread(descriptor, 1, size - 1) != b"\n":
            text = f"\n{text}"
        data = text.encode("utf-8", "replace")
        try:
            if os.write(descriptor, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, size)  # an incomplete line would be a fault
            raise
    finally:
        os.close(descriptor)
    atomic_file.sync(path.parent)


def comment_out(directory: Path, seen: KeyOccurrence) -> None:
    """Turn the line of a key into a comment in place, without more space. Raises OSError."""
    descriptor = os.open(directory / Path(seen.file).name, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        os.pwrite(descriptor, b"#", seen.offset)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def complaint(path: Path, error: OSError) -> RelayError:
    """A RelayError for an OSError about a key file, with a hint."""
    what = f"{path}: {error.strerror}"
    if error.errno in FULL:
        return RelayError(what, "free some space; nothing was changed")
    if error.errno in (errno.EACCES, errno.EPERM):
        return NotPermitted(what, "run it with sudo, or as the site's owner")
    return RelayError(what, "nothing was changed")


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(_MOST_BYTES)


def _own(path: Path | int, directory: Path) -> None:
    """Give a new file the directory's owner (as root) and group."""
    found = directory.stat()
    with contextlib.suppress(PermissionError):
        os.chown(path, found.st_uid if os.geteuid() == 0 else -1, found.st_gid)
