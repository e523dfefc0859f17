"""Notifications to systemd: readiness, reload and watchdog (sd_notify(3), sd_watchdog_enabled(3))."""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Mapping

PATIENCE_SECONDS = 0.5  # with a systemd that does not read what it is told: clients come first


class SystemdNotifier:
    """Tells systemd, and nobody where there is none."""

    def __init__(
        self, environ: Mapping[str, str], answering: Callable[[float], bool], say: Callable[[str], None]
    ) -> None:
        """`answering`: whether the workers have answered within so many seconds; the watchdog is fed only then."""
        self._environ = environ
        self._answering = answering
        self._say = say
        self._status = ""
        self._reloads = 0

    @property
    def by_systemd(self) -> bool:
        """Whether systemd expects READY=1 and other messages from this process (NOTIFY_SOCKET is set)."""
        return bool(self._environ.get("NOTIFY_SOCKET"))

    def ready(self, status: str) -> None:
        """It serves. `status` is the line that `systemctl status` shows."""
        self._status = status
        notify(self._environ, f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """A reload begins; each is followed by `reloaded`."""
        self._reloads += 1
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        notify(self._environ, f"RELOADING=1\nMONOTONIC_USEC={now}")

    def reloaded(self) -> None:
        """A reload has ended, whatever came of it."""
        self._reloads -= 1
        if not self._reloads and self._status:
            self.ready(self._status)

    def stopping(self) -> None:
        """The end begins."""
        notify(self._environ, "STOPPING=1")

    async def beat(self) -> None:
        """Feed systemd's watchdog for ever, as long as the workers answer; nothing where it is not on."""
        seconds = watchdog(self._environ, os.getpid())
        if seconds is None:
            return
        fed = True
        while True:
            well = self._answering(seconds / 2)
            if well:
                notify(self._environ, "WATCHDOG=1")
            elif fed:
                self._say("workers do not answer: systemd's watchdog is not fed until they do")
            fed = well
            await asyncio.sleep(seconds / 3)  # twice missed is still in time


def watchdog(environ: Mapping[str, str], pid: int) -> float | None:
    """Seconds within which systemd wants a sign of life, None where it wants none."""
    microseconds = environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdigit() or not int(microseconds) or environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    return int(microseconds) / 1_000_000


def notify(environ: Mapping[str, str], text: str) -> None:
    """Tell systemd about our state (sd_notify(3)); nothing without it."""
    path = environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.settimeout(PATIENCE_SECONDS)
        try:
            sock.connect("\0" + path[1:] if path.startswith("@") else path)
            sock.send(text.encode())
        except OSError:
            return  # systemd will notice by itself
