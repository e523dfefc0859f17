"""The words for systemd, one by one (the life of a relay under it is in test_systemd.py)."""

import os
import socket
from pathlib import Path

import pytest

from relay.serve.supervisor import sd_notify
from relay.serve.supervisor.sd_notify import SystemdNotifier


def test_systemd_is_told(tmp_path: Path) -> None:
    """One datagram to NOTIFY_SOCKET; without the variable, or with nobody there, nothing happens."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
        sd_notify.notify({"NOTIFY_SOCKET": path}, "READY=1")
        assert sock.recv(100) == b"READY=1"
    sd_notify.notify({"NOTIFY_SOCKET": path}, "STOPPING=1")
    sd_notify.notify({}, "READY=1")


def test_a_systemd_that_does_not_listen_does_not_stop_us(tmp_path: Path) -> None:
    """Its queue is full: what is said is lost, and clients are served."""
    path = str(tmp_path / "notify")
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as me,
    ):
        sock.bind(path)
        me.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                me.sendto(b"X=1", path)
        sd_notify.notify({"NOTIFY_SOCKET": path}, "READY=1")


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
    ],
)
def test_the_watchdog_is_ours_or_nobodys(environ: dict[str, str], seconds: float | None) -> None:
    """sd_watchdog_enabled(3): a time, and for this process."""
    assert sd_notify.watchdog(environ, os.getpid()) == seconds


def test_two_reloads_at_once_end_once(tmp_path: Path) -> None:
    """READY is said when the last of them has ended."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
        sock.setblocking(False)
        one = SystemdNotifier({"NOTIFY_SOCKET": path}, lambda seconds: True, lambda text: None)
        one.ready("well")
        one.reloading()
        one.reloading()
        one.reloaded()
        said = [sock.recv(200).split(b"=")[0] for _ in range(3)]
        assert said == [b"READY", b"RELOADING", b"RELOADING"]
        with pytest.raises(BlockingIOError):
            sock.recv(200)
        one.reloaded()
        assert sock.recv(200) == b"READY=1\nSTATUS=well"
