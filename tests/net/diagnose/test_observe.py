"""Observation of a zone in a namespace, and of a port on this machine."""

import json
import socket
import sys
from ipaddress import ip_address

import pytest

from relay.net.diagnose import observe
from relay.net.diagnose.observation import PortState
from tests.net.conftest import Namespace

OBSERVE = """
import json
from ipaddress import ip_address, ip_network
from relay.core.network_plan import Overlay
from relay.core.policy.model import Host, Zone
from relay.net.diagnose.observe import ZoneObserver
from relay.net.zerotier.node_view import ApiStatus, NodeView
overlay = Overlay(Zone("office", (ip_network("192.168.1.0/24"),), "zt0", ip_address("172.18.0.200")))
host = Host("remote", "office", ip_address("192.168.1.201"))
observer = ZoneObserver(overlay, host, node=lambda: NodeView(ApiStatus.NOT_RUNNING), timeout=0.1)
seen = observer.observe()
print(json.dumps([seen.interface, seen.guard.reason, seen.far is not None and seen.far.answers,
                  seen.target is not None and seen.target.asked, list(seen.left_out)]))
"""
LOOPBACK = ip_address("127.0.0.1")


@pytest.mark.system
def test_nothing_is_sent_where_the_guard_refuses(relay_host: Namespace) -> None:
    """With the route gone the target is not probed; the gateway on the link still is."""
    interface, reason, _, asked, left_out = json.loads(relay_host.run(sys.executable, "-c", OBSERVE))
    assert (interface, reason, asked, left_out) == ("zt0", None, True, [])
    relay_host.ip("route del 192.168.1.0/24 via 172.18.0.200 dev zt0")
    interface, reason, answers, asked, _ = json.loads(relay_host.run(sys.executable, "-c", OBSERVE))
    assert (interface, reason, answers, asked) == ("zt0", "route-missing", False, False)


@pytest.mark.system
def test_a_missing_ping_is_left_out_with_its_package(relay_host: Namespace) -> None:
    """The rest of the observation is there; the line names what to install."""
    relay_host.run("mount", "--bind", "/dev/null", relay_host.run("sh", "-c", "readlink -f $(command -v ping)").strip())
    *_, left_out = json.loads(relay_host.run(sys.executable, "-c", OBSERVE))
    assert any(line.startswith("pings: ") for line in left_out)


def test_a_port_is_open_refuses_or_is_unreachable() -> None:
    """The three answers of a TCP connection on lo."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert observe.try_port(LOOPBACK, port, "lo") is PortState.OPEN
    assert observe.try_port(LOOPBACK, port, "lo") is PortState.REFUSED
    assert observe.try_port(LOOPBACK, port, "nonesuch0") is PortState.SILENT
