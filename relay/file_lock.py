"""flock(2) with a deadline."""

import fcntl
import time

_POLL_SECONDS = 0.02  # the kernel offers no deadline of its own; a lock is usually held for milliseconds


def acquire(descriptor: int, seconds: float) -> bool:
    """Take the exclusive lock of an open file; False if another process still holds it after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_SECONDS)
        else:
            return True
