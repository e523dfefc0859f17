"""Conflicts and risks of a plan."""

from ipaddress import ip_address, ip_network

import pytest

from relay.net.kernel.route_guard import Route
from relay.net.plan import conflicts
from tests.net.plan.shares import overlay, plan, plant, six

ID = "8056c2e21c000001"


def route(network: str, interface: str, gateway: str = "") -> Route:
    """A route of the main table."""
    return Route(ip_network(network), ip_address(gateway) if gateway else None, interface, 0)


@pytest.mark.parametrize(
    ("network", "warned"),
    [
        ("172.18.0.0/24", True),
        ("172.16.0.0/16", False),
        ("172.17.5.0/24", True),
        ("172.31.255.0/24", True),
        ("172.32.0.0/24", False),
        ("172.16.0.0/12", True),
        ("10.147.17.0/24", False),
        ("fd18::/64", False),
    ],
)
def test_docker(network: str, warned: bool) -> None:
    """Docker's default pools are 172.17.0.0/16 to 172.31.0.0/16: an overlay in one of them is warned of."""
    found = conflicts.everywhere([overlay(network=network, relay="", gateway="")])
    assert [("Docker" in text) for text in found] == [True] * warned


@pytest.mark.parametrize(
    ("network", "warned"),
    [("192.168.1.0/24", True), ("192.168.0.0/16", True), ("192.168.77.0/24", False), ("10.0.0.128/25", True)],
)
def test_home(network: str, warned: bool) -> None:
    """A zone's network that is many people's home network is warned of on clients of method 2."""
    found = conflicts.on_client(overlay("office", network, network="10.147.17.0/24"))
    assert any("at home" in text for text in found) == warned


def test_one_prefix_twice() -> None:
    """Two zones with one prefix: rp_filter, and one managed route only."""
    both = plan(overlay(network_id=ID), plant(network_id="8056c2e21c000002"))
    found = conflicts.on_relay(both, 1)
    assert any("rp_filter" in text and "office and plant" in text for text in found)
    assert any("route: relay" in text for text in found)
    mixed = plan(overlay(network_id=ID), plant(network_id="8056c2e21c000002", managed=False))
    assert not any("route: relay" in text for text in conflicts.on_relay(mixed, 1))
    assert not any("rp_filter" in text for text in conflicts.on_relay(plan(), 1))


def test_part_of_another() -> None:
    """A network that is a part of another zone's is named, from the smaller side, once."""
    wide = overlay("wide", "192.168.0.0/16", interface="wg0", network="", relay="", gateway="")
    found = [text for text in conflicts.on_relay(plan(overlay(), wide), 1) if "is a part of" in text]
    assert found == ["192.168.1.0/24 of office is a part of 192.168.0.0/16 of wide"]


def test_this_machine() -> None:
    """An own NIC in a zone's prefix, and a bridge in the overlay's, are named; the zones' own routes are not."""
    routes = [
        route("0.0.0.0/0", "eth0", "1.1.1.254"),
        route("192.168.1.0/24", "eth1"),
        route("172.18.0.0/16", "br-1234"),
        route("172.18.0.0/24", "zt0"),
        route("192.168.1.0/24", "zt0", "172.18.0.200"),
        route("192.168.1.0/24", "zt1", "172.19.0.200"),
        route("192.168.1.0/24", "wg9", "10.0.0.1"),
        route("fdaa::/64", "eth1"),
    ]
    nic = conflicts.with_routes(plan(overlay(), plant(network="")), routes)
    assert ["eth1 of this machine is in 192.168.1.0/24" in text for text in nic] == [True, False, True]
    bridge = [text for text in nic if "br-1234" in text]
    assert len(bridge) == 1
    assert "172.18.0.0/24" in bridge[0]
    v6 = conflicts.with_routes(plan(six()), routes)
    assert len(v6) == 1
    assert "fdaa::/64 of the zone six" in v6[0]
    assert conflicts.with_routes(plan(overlay(interface="zt*")), routes[3:6]) == []


def test_method_2() -> None:
    """The risk of full routing is said where it is done: on the relay and on clients."""
    assert sum("no audit row" in text for text in conflicts.on_relay(plan(overlay(), plant()), 2)) == 2
    assert not any("no audit row" in text for text in conflicts.on_relay(plan(), 1))
