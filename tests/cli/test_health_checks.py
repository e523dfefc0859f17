"""The health checks of relayctl doctor, without a running relay."""

import socket
import threading
from pathlib import Path

import pytest

from relay.cli import health_checks
from relay.site.locate import Site


def states(site: Path) -> dict[str, str]:
    """The worst state of each check."""
    worst: dict[str, str] = {}
    for finding in health_checks.run(Site(site, site / "state")):
        rank = ("ok", "warning", "fault").index
        worst[finding.name] = max(finding.state, worst.get(finding.name, "ok"), key=rank)
    return worst


def test_without_a_relay_the_other_checks_still_run(site: Path) -> None:
    """A relay that is not running is a fault; files, clock and zones are checked all the same."""
    found = states(site)
    assert found["relay"] == "fault"
    assert found["modes"] == "ok"
    assert {"site", "host keys", "clock", "database"} <= set(found)


def test_a_state_directory_that_others_can_read_is_a_fault(site: Path) -> None:
    """The remedy is the command that mends it."""
    (site / "state").mkdir(mode=0o755)
    (site / "state").chmod(0o755)
    (fault,) = [
        finding
        for finding in health_checks.run(Site(site, site / "state"))
        if finding.name == "modes" and finding.state == "fault"
    ]
    assert fault.cure == f"chmod 700 {site / 'state'}"


def test_offered_algorithms_are_read_from_the_kexinit() -> None:
    """The first three name lists of the packet are key exchanges, host keys and ciphers (RFC 4253 7.1)."""
    lists = b"".join(len(text).to_bytes(4, "big") + text for text in (b"kex-a,kex-b", b"key-a", b"cipher-a,cipher-b"))
    payload = bytes([20]) + bytes(16) + lists
    packet = bytes([4]) + payload + bytes(4)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(255)
                connection.sendall(b"SSH-2.0-x\r\n" + len(packet).to_bytes(4, "big") + packet)
                connection.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        found = health_checks.offered(f"127.0.0.1:{listener.getsockname()[1]}")
        thread.join()
    assert found == (["kex-a", "kex-b"], ["key-a"], ["cipher-a", "cipher-b"])


def test_a_server_that_does_not_speak_ssh_is_an_error() -> None:
    """Another program on the relay's port is named as such."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(255)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(OSError, match="does not speak SSH"):
            health_checks.offered(f"127.0.0.1:{listener.getsockname()[1]}")
        thread.join()
