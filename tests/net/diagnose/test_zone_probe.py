"""Probes through lo, against real listeners: each port is tried once."""

import socket
import threading
from collections.abc import Iterator
from ipaddress import ip_address, ip_network

import pytest

from relay.core.policy.model import Host, Zone
from relay.net.diagnose.zone_probe import ProbeTimeouts, ZoneProbe
from relay.net.kernel import interfaces

ZONE = Zone("here", (ip_network("127.0.0.0/8"),), "lo")
TIMEOUTS = ProbeTimeouts(0.5, 1, 0.5, 2)


@pytest.fixture
def server() -> Iterator[tuple[Host, list[int]]]:
    """An SSH server that sends its banner, and the number of connections it got."""
    count: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                count.append(1)
                with connection:
                    connection.sendall(b"SSH-2.0-test\r\n")
                    while connection.recv(65536):
                        pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield Host("remote", "here", ip_address("127.0.0.1"), port=listener.getsockname()[1]), count
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def probe(waiting: list[str]) -> ZoneProbe:
    """A probe through lo that notes what is waited for."""
    lo = next(at for at in interfaces.interfaces() if at.name == "lo")
    return ZoneProbe(ZONE, lo, TIMEOUTS, waiting.append)


def test_a_port_is_tried_once(server: tuple[Host, list[int]]) -> None:
    """sshd penalises connections without a log-in, so a second question uses the first answer."""
    host, count = server
    waiting: list[str] = []
    made = probe(waiting)
    legs = [leg for _ in range(2) for leg in made.host(host)]
    assert [leg.state for leg in legs if leg.name == "target"] == ["ok", "ok"]
    assert len(count) == 1
    assert waiting[0] == f"127.0.0.1:{host.port} to greet"


def test_a_zone_without_a_gateway_has_no_leg_about_one(server: tuple[Host, list[int]]) -> None:
    """Nothing is sent for it."""
    host, count = server
    assert list(probe([]).gateway(host.address, (host,))) == []
    assert count == []
