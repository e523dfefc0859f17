"""How does a file change? Whole or not at all, and so that it outlives a loss of power."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path


def replace(path: Path, data: bytes, mode: int = 0o600, own: Callable[[int], None] | None = None) -> None:
    """Put `data` in the file's place: written beside it, synced, renamed (rename(2)), the new name synced too.

    `own` gives the open file its owner. Two at once on one file are for a lock of the caller's. Raises OSError; then
    what was there is there still, and nothing lies beside it.
    """
    fresh = beside(path)
    try:
        fresh.unlink(missing_ok=True)  # a crash may have left it
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
    """Where `replace` writes before it renames."""
    return path.with_name(f".{path.name}.new")


def sync(directory: Path) -> None:
    """Make what changed in the directory itself durable: names that came, moved and went (fsync(2)). Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
