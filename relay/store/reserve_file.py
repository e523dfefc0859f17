"""Reserved disk space that is released when the disk is full, so that closing rows can be recorded.

Two mebibytes held 6,900 rows when measured; twice that holds the closing rows of some ten thousand open forwards.
"""

import contextlib
import errno
import os
from pathlib import Path

from relay.atomic_file import sync
from relay.store.database_files import give_to_owner

FILE = "audit.ballast"  # in the state directory
BYTES = 4 << 20


class ReserveFile:
    """The reserve file. Its presence is its only state, so it survives a restart."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def held(self) -> bool:
        """Whether the file exists with its full size."""
        try:
            return self._path.stat().st_size >= BYTES
        except OSError:
            return False

    def make(self) -> None:
        """Create the file durably, unless it exists. Raises OSError if there is no room; then no part of it is left.

        There must be room for twice as much: else it would be made and given up again with every row.
        """
        if self.held:
            return
        disk = os.statvfs(self._path.parent)
        if disk.f_bavail * disk.f_frsize < 2 * BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
        fresh = self._path.with_name(f".{self._path.name}.new")
        try:
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                give_to_owner(descriptor, self._path.parent)
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(descriptor, 0, BYTES)
                if os.fstat(descriptor).st_blocks * 512 < BYTES:
                    # this file system reserves nothing; noise, because it may compress as well
                    file.write(os.urandom(BYTES))
                    file.flush()
                os.fsync(descriptor)
            fresh.rename(self._path)
            sync(self._path.parent)
        except OSError:
            with contextlib.suppress(OSError):
                fresh.unlink()
            raise

    def release(self) -> bool:
        """Remove the file; returns whether it existed."""
        try:
            self._path.unlink()
        except OSError:
            return False
        with contextlib.suppress(OSError):
            sync(self._path.parent)
        return True
