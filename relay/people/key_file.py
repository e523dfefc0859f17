"""How do the files below keys/ change? Whole or not at all, durably, with the owner and mode the service needs.

Also the reserve: 8 KiB that are given back when the disk is full, so that a revocation still finds room.
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

MODE = 0o640  # root may change it, the service's group reads it
RESERVE = ".reserve"
RESERVE_BYTES = 8192  # room for some 50 revocations
FULL = (errno.ENOSPC, errno.EDQUOT)
_MOST_BYTES = 1 << 20  # of one file, as relay.site.key_files reads it
_LOCK_SECONDS = 5.0

# a key wherever it stands in a line, also behind options that nobody could parse
_KEY = re.compile(rb"(?<![A-Za-z0-9-])((?:ssh|ecdsa|sk)-[!-~]{1,60})[ \t]+([A-Za-z0-9+/]{20,}={0,3})")


@dataclass(frozen=True, slots=True)
class KeyOccurrence:
    """A key that stands in somebody's file, whether or not its line is valid."""

    person: str
    fingerprint: str
    encoded: str  # base64, as it stands in the LAN hosts' authorized_keys too
    file: str  # relative to the site
    line: int
    offset: int  # bytes before its line


def scan(directory: Path) -> Iterator[KeyOccurrence]:
    """Every key below `directory` (SITE/keys), also in broken lines. What cannot be read is passed over."""
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
    """Nobody else changes the key files by `add` meanwhile; makes the directory. Raises RelayError, NotPermitted."""
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
    """The file's bytes, none when there is no such file. Raises NotPermitted or RelayError."""
    try:
        return _read(path)
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise complaint(path, error) from None


def replace(path: Path, data: bytes) -> None:
    """Make `data` the file's content, durably, or change nothing. Raises NotPermitted or RelayError."""
    path = path.resolve()  # a link stays a link
    try:
        atomic_file.replace(path, data, MODE, lambda descriptor: _own(descriptor, path.parent))
    except OSError as error:
        raise complaint(path, error) from None


def make_reserve(directory: Path) -> None:
    """Keep room for revocations on a full disk. Failing is no error: it is a provision, not a promise."""
    path = directory / RESERVE
    with contextlib.suppress(OSError, RelayError):
        if not path.exists() or path.stat().st_size < RESERVE_BYTES:
            # no holes and nothing to compress: the blocks must really be taken
            replace(path, os.urandom(RESERVE_BYTES))


def give_reserve_back(directory: Path) -> bool:
    """Free the reserve's room; whether there was any."""
    path = directory / RESERVE
    try:
        os.truncate(path, 0)
        path.unlink()
        atomic_file.sync(directory)
    except OSError:
        return False
    return True


def append(path: Path, text: str) -> None:
    """Append whole lines, durably, or change nothing. Raises OSError: the caller knows what else can be done."""
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, MODE)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "it is not a file")
        size = found.st_size
        if size == 0:
            with contextlib.suppress(OSError):
                os.fchmod(descriptor, MODE)  # whatever the umask is: the service must read it
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
                os.ftruncate(descriptor, size)  # half a line would be a fault of the file
            raise
    finally:
        os.close(descriptor)
    atomic_file.sync(path.parent)


def comment_out(directory: Path, seen: KeyOccurrence) -> None:
    """Turn the line of a key into a comment without needing a byte more room. Raises OSError."""
    descriptor = os.open(directory / Path(seen.file).name, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        os.pwrite(descriptor, b"#", seen.offset)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def complaint(path: Path, error: OSError) -> RelayError:
    """An error of the system about a key file in words, with the cure."""
    what = f"{path}: {error.strerror}"
    if error.errno in FULL:
        return RelayError(what, "make room; nothing was changed")
    if error.errno in (errno.EACCES, errno.EPERM):
        return NotPermitted(what, "run it with sudo, or as the site's owner")
    return RelayError(what, "nothing was changed")


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(_MOST_BYTES)


def _own(path: Path | int, directory: Path) -> None:
    """What root makes belongs to whom the directory belongs to; everybody else's keeps at least its group."""
    found = directory.stat()
    with contextlib.suppress(PermissionError):
        os.chown(path, found.st_uid if os.geteuid() == 0 else -1, found.st_gid)
