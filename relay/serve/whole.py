"""How does a file of the state change? Whole or not at all, and so that it outlives a loss of power."""

import os
from pathlib import Path


def replace(path: Path, data: bytes) -> None:
    """Put `data` in the file's place: written beside it, synced, renamed (rename(2)). Raises OSError."""
    fresh = path.with_name(f".{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.rename(path)
