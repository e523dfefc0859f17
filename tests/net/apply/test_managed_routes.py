"""One form of a route for all three: the list of ip(8), the plan, and `ip route add`."""

import json
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.net.apply import managed_routes
from relay.net.apply.managed_routes import ManagedRouteLine
from relay.net.plan.machine import PlannedRoute

LAN, LAN6 = ip_network("192.168.1.0/24"), ip_network("fdaa::/64")
GATEWAY = ip_address("172.18.0.200")


@pytest.mark.parametrize(
    ("route", "name", "listed", "words"),
    [
        (
            PlannedRoute(LAN, 9),
            "",
            {"type": "7", "dst": "192.168.1.0/24", "metric": 9},
            "unreachable 192.168.1.0/24 metric 9",
        ),
        (
            PlannedRoute(LAN6, 4294967294),
            "",
            {"type": "7", "dst": "fdaa::/64", "dev": "lo", "metric": 4294967294, "pref": "medium"},
            "unreachable fdaa::/64 metric 4294967294",
        ),
        (
            PlannedRoute(LAN, 5001, GATEWAY, "zt*"),
            "zt0",
            {
                "type": "1",
                "dst": "192.168.1.0/24",
                "gateway": "172.18.0.200",
                "dev": "zt0",
                "metric": 5001,
                "flags": [],
            },
            "192.168.1.0/24 via 172.18.0.200 dev zt0 metric 5001",
        ),
        (
            PlannedRoute(LAN, 0, GATEWAY, "zt0"),
            "zt0",
            {"dst": "192.168.1.0/24", "gateway": "172.18.0.200", "dev": "zt0", "flags": ["linkdown"]},
            "192.168.1.0/24 via 172.18.0.200 dev zt0",
        ),
        (
            PlannedRoute(LAN6, 0, None, "zt0"),
            "zt0",
            {"dst": "fdaa::/64", "dev": "zt0", "metric": 1024},
            "fdaa::/64 dev zt0 metric 1024",
        ),
        (
            PlannedRoute(LAN, 7, ip_address("fe80::1"), "zt0"),
            "zt0",
            {"dst": "192.168.1.0/24", "via": {"family": "inet6", "host": "fe80::1"}, "dev": "zt0", "metric": 7},
            "192.168.1.0/24 via inet6 fe80::1 dev zt0 metric 7",
        ),
        (
            PlannedRoute(ip_network("10.0.0.1/32"), 3, None, "zt0"),
            "zt0",
            {"dst": "10.0.0.1", "dev": "zt0", "metric": 3},
            "10.0.0.1 dev zt0 metric 3",
        ),
    ],
)
def test_a_wish_and_the_list_have_one_spelling(
    route: PlannedRoute, name: str, listed: dict[str, object], words: str
) -> None:
    """A planned route is recognised in the list of ip(8)."""
    version = route.network.version
    assert managed_routes.route_line(route, name) == ManagedRouteLine(version, words)
    assert managed_routes._read(listed, version) == ManagedRouteLine(version, words)


def test_a_route_that_is_none_of_ours_is_spelt_too() -> None:
    """Several next hops, a source, on-link, the default: words that `ip route del` takes."""
    hops = [{"gateway": "10.0.0.1", "dev": "eth0", "weight": 2, "flags": []}, {"gateway": "10.0.0.2", "dev": "eth1"}]
    assert managed_routes._read({"dst": "default", "nexthops": hops}, 4).words == (
        "0.0.0.0/0 nexthop via 10.0.0.1 dev eth0 weight 2 nexthop via 10.0.0.2 dev eth1 weight 1"
    )
    source = {"dst": "10.9.0.0/16", "gateway": "10.0.0.1", "dev": "eth0", "prefsrc": "10.0.0.9", "flags": ["onlink"]}
    assert managed_routes._read(source, 4).words == "10.9.0.0/16 via 10.0.0.1 dev eth0 onlink src 10.0.0.9"
    assert managed_routes._read({"dst": "default", "dev": "eth0"}, 6).words == "::/0 dev eth0 metric 1024"


values = st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.lists(st.text(max_size=5), max_size=3)
NAMES = ("type", "dst", "gateway", "via", "dev", "metric", "flags", "prefsrc", "nexthops", "protocol")


@given(st.dictionaries(st.sampled_from(NAMES), values | st.dictionaries(st.text(max_size=9), values, max_size=3)))
def test_any_entry_is_a_line_or_refused(entry: dict[str, object]) -> None:
    """Whatever ip lists, a line comes out or RelayError."""
    for version in (4, 6):
        try:
            line = managed_routes._read(json.loads(json.dumps(entry)), version)
        except managed_routes.RelayError:
            continue
        assert line.words
