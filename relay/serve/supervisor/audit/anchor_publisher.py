"""Publisher of checkpoint anchors: to a file or the system log, as the settings say. Nothing waits for it.

Each anchor stands for all before it, so one that could not be published is not tried again: the next one follows.
"""

import contextlib
import os
import queue
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from relay.core.audit.anchor import Anchor

SYSLOG = "syslog"
SYSLOG_SOCKET = Path("/dev/log")
_PRIORITY = 10 * 8 + 6  # authpriv, info (RFC 5424)
WAITING = 16  # anchors; a file on a dead network share holds them up


class AnchorPublisher:
    """Brings anchors out, in a thread of its own."""

    def __init__(self, place: Callable[[], str], say: Callable[[str], None], syslog: Path = SYSLOG_SOCKET) -> None:
        """`place()` is a path, SYSLOG, or "": nowhere."""
        self._place, self._say, self._syslog = place, say, syslog
        self._waiting: queue.Queue[tuple[str, Anchor] | threading.Event] = queue.Queue(WAITING)
        self._thread: threading.Thread | None = None
        self.problem = ""  # why the last one did not get out; "" when it did

    def put(self, anchor: Anchor) -> None:
        """Bring this one out soon."""
        place = self._place()
        if not place:
            self.problem = ""
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="anchors", daemon=True)
            self._thread.start()
        try:
            self._waiting.put_nowait((place, anchor))
        except queue.Full:
            self._failed(place, "it does not take them as fast as they come")

    def flush(self, seconds: float) -> None:
        """Give those that wait a moment; at the end of the process."""
        done = threading.Event()
        if self._thread is not None:
            with contextlib.suppress(queue.Full):
                self._waiting.put_nowait(done)
                done.wait(seconds)

    def _run(self) -> None:
        while True:
            one = self._waiting.get()
            if isinstance(one, threading.Event):
                one.set()
                continue
            place, anchor = one
            try:
                if place == SYSLOG:
                    self._log(f"<{_PRIORITY}>relay: audit anchor: {anchor}".encode())
                else:
                    self._append(Path(place), f"{anchor}\n".encode())
                self.problem = ""
            except OSError as error:
                self._failed(place, error.strerror or str(error))

    def _failed(self, place: str, why: str) -> None:
        if not self.problem:  # said once, and shown by doctor as long as it lasts
            self._say(f"the audit log's anchors do not get to {place}: {why}")
        self.problem = f"{place}: {why}"

    def _log(self, line: bytes) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto(line, str(self._syslog))

    @staticmethod
    def _append(path: Path, line: bytes) -> None:
        # opened anew for each line: it may be moved away by whoever collects it
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o640)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
