"""The path check in two small namespaces: IPv6, interfaces with hostile names, zones without a gateway, and lo.

Every broken link of a whole lab is in tests/lab/test_verify.py.
"""

import json
import sys
from collections.abc import Iterator

import pytest

from tests.net.conftest import Namespace

pytestmark = pytest.mark.system

WALK = """
import json, sys
from ipaddress import ip_address, ip_network
from relay.core.network_plan import Overlay
from relay.core.policy.model import Host, Zone
from relay.net.diagnose import path_check
from relay.net.diagnose.zone_probe import ProbeTimeouts
from relay.net.zerotier.node_view import ApiStatus, NodeView
interface, network, gateway, target = json.loads(sys.argv[1])
zone = Zone("office", (ip_network(network),), interface, ip_address(gateway) if gateway else None)
hosts = (Host("remote", "office", ip_address(target)),) if target else ()
legs = path_check.path_legs(path_check.PathCheckRequest(Overlay(zone), hosts), timeouts=ProbeTimeouts(0.2, 2, 0.5, 0.5),
                   node=lambda: NodeView(ApiStatus.TOKEN_UNREADABLE))
print(json.dumps([[leg.name, leg.state, leg.what, leg.cure] for leg in legs]))
"""
GREETER = """
import socket, threading
listener = socket.create_server(("::", 22), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
def serve(connection):
    with connection:
        connection.sendall(b"SSH-2.0-greeter\\r\\n")
        while connection.recv(65536):
            pass
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""
Leg = tuple[str, str, str, str]


def path_legs(host: Namespace, interface: str, network: str, gateway: str = "", target: str = "") -> dict[str, Leg]:
    """{name: leg} of the walk inside."""
    said = host.run(sys.executable, "-c", WALK, json.dumps([interface, network, gateway, target]))
    return {leg[0]: tuple(leg) for leg in json.loads(said) if leg[0] != "overlay"}


def states(legs: dict[str, Leg]) -> dict[str, str]:
    """{name: state}."""
    return {name: leg[1] for name, leg in legs.items()}


@pytest.fixture
def gateway(relay_host: Namespace) -> Iterator[Namespace]:
    """A gateway at the other end of the relay's zt0, which has the LAN's addresses itself, and greets."""
    made = Namespace()
    try:
        relay_host.ip(f"link set far_zt0 netns {made.holder.pid}")
        made.ip(
            "link set lo up",
            "link set far_zt0 up",
            "address add 172.18.0.200/24 dev far_zt0",
            "address add fd18::200/64 dev far_zt0 nodad",
            "address add 192.168.1.201/32 dev lo",
            "address add fdaa::201/128 dev lo",
        )
        with made.start(sys.executable, "-c", GREETER) as greeter:
            assert greeter.stdout is not None
            assert greeter.stdout.readline() == "ready\n"
            yield made
            greeter.kill()
    finally:
        made.close()


def test_the_way_is_walked_by_ipv6_too(relay_host: Namespace, gateway: Namespace) -> None:
    """IPv6 has no rp_filter leg; all else is the same."""
    legs = path_legs(relay_host, "zt0", "fdaa::/64", "fd18::200", "fdaa::201")
    assert states(legs) == {
        "interface": "ok",
        "route": "ok",
        "gateway": "ok",
        "forwarding": "ok",
        "return path": "ok",
        "target": "ok",
        "mtu": "ok",
    }
    assert "fdaa::201 is an address of the gateway" in legs["forwarding"][2]
    assert legs["mtu"][2].startswith("1500 bytes to the gateway and 1500 bytes to remote")


def test_a_zone_without_a_gateway_has_no_such_legs(relay_host: Namespace, gateway: Namespace) -> None:
    """Members of the overlay are on-link, so no leg is about a gateway; a missing host is the fault itself."""
    well = path_legs(relay_host, "zt0", "172.18.0.0/24", "", "172.18.0.200")
    assert list(well) == ["interface", "route", "rp_filter", "return path", "target", "mtu"]
    assert well["target"][2].startswith("172.18.0.200:22 greets with SSH-2.0-greeter after ")
    off = path_legs(relay_host, "zt0", "172.18.0.0/24", "", "172.18.0.99")
    assert list(off.values())[-1][:3] == ("return path", "fault", "no answer for 172.18.0.99 on zt0")


def test_a_zone_without_hosts_ends_behind_its_gateway(relay_host: Namespace, gateway: Namespace) -> None:
    """Forwarding is seen by a packet whose time ends there; the rest is left out, with what to write."""
    gateway.link("eth0", "192.168.1.200/24")
    gateway.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    legs = path_legs(relay_host, "zt0", "192.168.1.0/24", "172.18.0.200")
    assert legs["forwarding"][1:3] == ("ok", "172.18.0.200 forwards packets for 192.168.1.1")
    assert legs["target"][1] == "skipped"
    assert "`hosts:`" in legs["target"][3]


@pytest.mark.parametrize("name", ["zt{0}$(id)", "zt'\"`id`", "zt\x1b[31m"])
def test_an_interfaces_name_is_data(namespace: Namespace, name: str) -> None:
    """Names that mean something to format, to a shell or to a terminal are shown and quoted, and do nothing."""
    namespace.run("ip", "link", "add", name, "type", "veth", "peer", "name", "far")
    namespace.run("ip", "link", "set", name, "up")
    namespace.run("ip", "link", "set", "far", "up")
    namespace.run("ip", "address", "add", "172.18.0.10/24", "dev", name)
    legs = path_legs(namespace, "zt*", "192.168.1.0/24", "172.18.0.200")
    assert (legs["interface"][1], legs["route"][1]) == ("ok", "fault")
    shown = namespace.run("sh", "-c", f"printf '%s\\n' {legs['route'][3].partition(';')[0].split('dev ')[1]}")
    assert shown.splitlines()[0] == name


def test_lo_is_a_zone_too(relay_host: Namespace) -> None:
    """The relay's own machine: nothing leaves it, so only the route and the port are looked at."""
    assert states(path_legs(relay_host, "lo", "127.0.0.0/8", "", "127.0.0.2")) == {
        "interface": "ok",
        "route": "ok",
        "return path": "ok",
        "target": "fault",
    }
