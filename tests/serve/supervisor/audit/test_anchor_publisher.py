"""Anchors that leave the machine by themselves: to a file, to the system log, and what is said when they do not."""

import socket
import threading
from pathlib import Path

from relay.core.audit.anchor import anchor, parse
from relay.serve.supervisor.audit.anchor_publisher import SYSLOG, WAITING, AnchorPublisher
from tests.audit_rows import NOON

ONE = anchor("relay", 7, NOON, "9f2c04c5b3a1d6e2" * 4)
TWO = anchor("relay", 9, NOON, "0a2c04c5b3a1d6e2" * 4)


def test_each_anchor_is_a_line_of_a_file_that_may_be_moved_away(tmp_path: Path) -> None:
    """Appended, never overwritten; a new file is begun when the old one was collected."""
    file = tmp_path / "anchors"
    out = AnchorPublisher(lambda: str(file), [].append)
    out.put(ONE)
    out.put(TWO)
    out.flush(5)
    assert parse(file.read_text()) == (ONE, TWO)
    file.rename(tmp_path / "collected")
    out.put(TWO)
    out.flush(5)
    assert parse(file.read_text()) == (TWO,)
    assert out.problem == ""


def test_the_system_log_is_told(tmp_path: Path) -> None:
    """One datagram as syslog(3) sends it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(tmp_path / "log"))
        log.settimeout(10)
        AnchorPublisher(lambda: SYSLOG, [].append, tmp_path / "log").put(ONE)
        assert log.recv(4096) == f"<86>relay: audit anchor: {ONE}".encode()


def test_what_does_not_get_out_is_said_once_and_shown_until_it_does(tmp_path: Path) -> None:
    """A directory that is not there; then it is."""
    said: list[str] = []
    file = tmp_path / "later" / "anchors"
    out = AnchorPublisher(lambda: str(file), said.append)
    for _ in range(3):
        out.put(ONE)
    out.flush(5)
    assert len(said) == 1
    assert out.problem == f"{file}: No such file or directory"
    file.parent.mkdir()
    out.put(TWO)
    out.flush(5)
    assert out.problem == ""
    assert parse(file.read_text()) == (TWO,)


def test_nothing_is_done_where_nobody_asked_for_it() -> None:
    """No place, no thread."""
    threads = threading.active_count()
    out = AnchorPublisher(str, [].append)
    out.put(ONE)
    out.flush(5)
    assert threading.active_count() == threads


def test_a_place_that_takes_nothing_holds_nobody_up(tmp_path: Path) -> None:
    """A pipe that nobody reads: those that come are dropped when enough wait, and whoever puts them goes on."""
    import os

    os.mkfifo(tmp_path / "pipe")
    said: list[str] = []
    out = AnchorPublisher(lambda: str(tmp_path / "pipe"), said.append)
    for _ in range(WAITING + 2):
        out.put(ONE)
    assert said == [
        f"the audit log's anchors do not get to {tmp_path}/pipe: it does not take them as fast as they come"
    ]
    with (tmp_path / "pipe").open() as pipe:  # and it lets the thread go
        assert parse(pipe.readline()) == (ONE,)
