"""Where do exported lines go? To a file that is rotated by size, or to stdout.

An outlet takes as many whole lines as it can and says how many; the caller offers the others again. A line that was
torn (a full disk, a kill) is ended with a line feed before the next one, so whoever reads skips one line that is no
JSON, and gets that row whole afterwards.
"""

import contextlib
import errno
import os
import select
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from relay import atomic_file

RESERVED = 64 << 20  # bytes free on the audit database's disk that are the audit log's: below, the export waits
_PIPE = 4096  # PIPE_BUF: a pipe that is writable takes so much without blocking (pipe(7))
_STALLED_SECONDS = 0.5  # how long a reader who takes nothing is waited for in one go


class ExportSink(Protocol):
    """Somewhere to write lines to. Every method may raise OSError."""

    def write(self, lines: Sequence[bytes]) -> int:
        """Take some of `lines`, the first ones, each with its line feed; how many. 0: none can be taken now."""

    def sync(self) -> None:
        """Make what was taken outlive a loss of power, as far as this place can."""

    def close(self) -> None:
        """Let go of it."""


class RotatedFileSink:
    """PATH, and PATH.1 (the newest) to PATH.`kept`. Follows a file that somebody else has moved or emptied."""

    def __init__(self, path: Path, size: int, kept: int, state: Path) -> None:
        """Raises OSError where the file cannot be had, before there is anything to write."""
        self._path = path
        self._size = size
        self._kept = kept
        self._state = state
        self._file = -1
        self._torn = False
        self._open()

    def write(self, lines: Sequence[bytes]) -> int:
        """Append lines up to the size; the first one after that begins a new file."""
        written = self._open()
        self._leave_room()
        if written and written + len(lines[0]) > self._size:
            self._rotate()
            written = self._open()
        data = bytearray(b"\n" if self._torn else b"")
        for count, line in enumerate(lines):
            if count and written + len(data) + len(line) > self._size:
                break
            data += line
        taken = os.write(self._file, data)  # less than all of it only on a full disk
        whole = data[:taken].count(b"\n") - (1 if self._torn and taken else 0)
        self._torn = data[taken - 1] != ord("\n") if taken else self._torn
        if taken < len(data) and whole < 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        return whole

    def sync(self) -> None:
        """fdatasync(2)."""
        if self._file >= 0:
            os.fdatasync(self._file)

    def close(self) -> None:
        """Let go of the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _open(self) -> int:
        """Have the file that stands at the path now; its size."""
        if self._file >= 0:
            mine = os.fstat(self._file)
            with contextlib.suppress(FileNotFoundError):
                there = self._path.stat(follow_symlinks=False)
                if (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino):
                    return mine.st_size
            os.fdatasync(self._file)
            self.close()
        # not blocking: a FIFO without a reader would be waited for for ever; no link: it may lead anywhere
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            self._file = os.open(self._path, flags)
        except FileNotFoundError:
            self._file = os.open(self._path, flags | os.O_CREAT | os.O_EXCL, 0o640)
            os.fchmod(self._file, 0o640)  # whatever the umask: a collector of the relay's group reads it
        found = os.fstat(self._file)
        if not stat.S_ISREG(found.st_mode):
            self.close()
            raise OSError(errno.EINVAL, "it is no regular file", str(self._path))
        self._torn = found.st_size > 0 and os.pread(self._file, 1, found.st_size - 1) != b"\n"
        return found.st_size

    def _rotate(self) -> None:
        os.fdatasync(self._file)
        self.close()
        number = self._kept + 1
        while (old := self._numbered(number)).exists():  # there were more before the setting was changed
            old.unlink()
            number += 1
        for number in range(self._kept - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                self._numbered(number).rename(self._numbered(number + 1))
        self._path.rename(self._numbered(1))
        atomic_file.sync(self._path.parent)

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def _leave_room(self) -> None:
        """Raises OSError where the audit log needs what is left of its disk."""
        if os.fstat(self._file).st_dev != self._state.stat().st_dev:
            return
        disk = os.fstatvfs(self._file)
        if disk.f_bavail * disk.f_frsize < RESERVED:
            raise OSError(errno.ENOSPC, f"the last {RESERVED >> 20} MiB of this disk are the audit log's")


class StdoutSink:
    """The process's stdout. Never blocks: what is at its other end may read nothing for days."""

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor
        self._line = b""  # that was begun: the next call offers it again
        self._rest = b""  # what of it is still to be written

    def write(self, lines: Sequence[bytes]) -> int:
        """As many lines as whoever reads takes; 0 when he takes none for half a second."""
        if (found := os.fstat(self._descriptor)).st_nlink == 0 and stat.S_ISREG(found.st_mode):
            raise OSError(errno.ESTALE, "stdout is a file that was removed; start the relay anew")
        for count, line in enumerate(lines):
            if not self._rest:
                self._rest = line
            elif line != self._line:  # of another database than the one that was begun
                self._rest = b"\n" + line
            self._line = line
            while self._rest:
                if not select.select((), (self._descriptor,), (), 0 if count else _STALLED_SECONDS)[1]:
                    return count
                self._rest = self._rest[os.write(self._descriptor, self._rest[:_PIPE]) :]
        return len(lines)

    def sync(self) -> None:
        """What a pipe has taken is its reader's."""

    def close(self) -> None:
        """It stays open."""
