"""A stand-in for systemd's notification socket, and helpers for tests that restart a relay."""

import queue
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from relay.serve import control_client
from tests.relay_process import Relay, wait_for


class Systemd:
    """The end of sd_notify(3) that systemd reads; Relay holds the listening socket."""

    def __init__(self, one: Relay) -> None:
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._told: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
        self._sock.bind(one.environ["NOTIFY_SOCKET"])
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()

    def _listen(self) -> None:
        while text := self._sock.recv(4096).decode():
            self._told.put(dict(line.split("=", 1) for line in text.splitlines()))

    def close(self) -> None:
        """The end of the test."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", self._sock.getsockname())
        self._thread.join()
        self._sock.close()

    def told(self, what: str, seconds: float = 20.0) -> dict[str, str]:
        """The next thing the service says that names `what` (sd_notify(3))."""
        deadline = time.monotonic() + seconds
        while True:
            said = self._told.get(timeout=max(deadline - time.monotonic(), 0))
            if what in said:
                return said

    def silent(self, what: str, seconds: float) -> bool:
        """Whether it says no such thing for that long."""
        try:
            self.told(what, seconds)
        except queue.Empty:
            return True
        return False


@contextmanager
def systemd(directory: Path, settings: str = "") -> Iterator[tuple[Relay, Systemd]]:
    """A relay that systemd runs."""
    one = Relay(directory, settings=settings, by_systemd=True)
    manager = Systemd(one)
    try:
        yield one.start(), manager
    finally:
        one.end()
        manager.close()


def settled(one: Relay) -> int:
    """Wait until each opening row has its closing row, and see that none has two; how many there are."""

    def look() -> int:
        opened = sorted(row["forward"] for row in one.rows("forward.opened"))
        closed = sorted(row["forward"] for row in one.rows("forward.closed"))
        assert len(opened) == len(set(opened))
        assert len(closed) == len(set(closed)), "a forward was closed twice"
        return len(opened) if opened == closed else 0

    found: int = wait_for(look, "an opening has no closing row")
    return found


def working(one: Relay) -> list[int]:
    """The workers that take new clients."""
    return [worker["pid"] for worker in workers(one) if not worker["draining"]]


def workers(one: Relay) -> list[dict[str, Any]]:
    """All workers that the supervisor knows."""
    found: list[dict[str, Any]] = control_client.call(one.state, {"do": "status"})["workers"]
    return found
