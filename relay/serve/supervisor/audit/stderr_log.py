"""One line per event on stderr, so that journalctl and fail2ban work; never blocking, never flooding.

stderr may be a pipe that nobody reads. A thread writes; what does not fit its queue is counted and said later.
"""

import queue
import sys
import threading
import time

from relay.core.audit.log_lines import Throttle

WAITING = 2000  # lines
PER_SECOND = 200.0  # lines in the long run; one busy relay writes far fewer
BURST = 1000.0
STRANGERS_PER_SECOND = 20.0  # a flood of strangers is 2 kB a second here, and cannot crowd out the others' lines
STRANGERS_BURST = 200.0


class StderrLog:
    """Lines for the administrator."""

    def __init__(self) -> None:
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()  # bounded in `_put`: one thread fills it
        self._throttle = Throttle(PER_SECOND, BURST)
        self._strangers = Throttle(STRANGERS_PER_SECOND, STRANGERS_BURST)
        threading.Thread(target=self._run, name="journal", daemon=True).start()

    def event(self, line: str) -> None:
        """Write one line (already escaped) soon, unless there are too many of them."""
        for one in self._throttle.lines(time.monotonic_ns() // 1000, line):
            self._put(one)

    def stranger(self, line: str) -> None:
        """Write one line about somebody who has not proven a key; far fewer of them."""
        for one in self._strangers.lines(time.monotonic_ns() // 1000, line):
            self._put(one)

    def say(self, line: str) -> None:
        """Write one rare line about the relay itself."""
        self._put(line)

    def flush(self, seconds: float = 1.0) -> None:
        """Give the thread a moment to write what waits; at the end of the process."""
        deadline = time.monotonic() + seconds
        while not self._lines.empty() and time.monotonic() < deadline:
            time.sleep(0.01)

    def _put(self, line: str) -> None:
        if self._lines.qsize() < WAITING:  # else nobody reads stderr; the audit log has it all
            self._lines.put(line)

    def _run(self) -> None:
        while True:
            line = self._lines.get()
            try:
                sys.stderr.write(f"relay: {line}\n")
                sys.stderr.flush()
            except (OSError, ValueError):
                continue  # stderr is closed
