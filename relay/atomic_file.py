"""Atomic and durable replacement of files."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path


def replace(path: Path, data: bytes, mode: int = 0o600, own: Callable[[int], None] | None = None) -> None:
    """Replace the content of a file: write a new file, fsync, rename(2), fsync the directory.

    `own` sets the owner of the open file. Concurrent calls for one file need a lock of the caller. Raises OSError; the
    old file is then unchanged and the new one removed.
    """
    fresh = beside(path)
    try:
        fresh.unlink(missing_ok=True)  # left by a crash
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if own is not None:
                own(descriptor)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        fresh.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise
    sync(path.parent)


def beside(path: Path) -> Path:
    """The temporary path of `replace`."""
    return path.with_name(f".{path.name}.new")


def sync(directory: Path) -> None:
    """Make created, renamed and removed names in a directory durable (fsync(2)). Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
