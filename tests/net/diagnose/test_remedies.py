"""Commands that set a zone's route right: complete, and quoted."""

from dataclasses import replace
from ipaddress import ip_address, ip_network
from shlex import split

from relay.net.diagnose import remedies
from relay.net.kernel.route_guard import Route
from tests.net import recorded
from tests.net.recorded import TARGET

OVERLAY = recorded.overlay()
SEEN = recorded.observation("healthy.relay", OVERLAY)
LAN = ip_network("192.168.1.0/24")


def test_an_interfaces_name_is_one_word_of_the_command() -> None:
    """Any name that the kernel allows is quoted."""
    command = remedies.set_route(OVERLAY, TARGET, "zt'$(id)")
    words = ["ip", "route", "replace", "192.168.1.0/24", "via", "172.18.0.200", "dev", "zt'$(id)", "metric", "5000"]
    assert split(command) == words


def test_rivals_on_the_interface_are_deleted_behind_the_right_route() -> None:
    """First the right route is set, then those to another gateway on the same interface are removed."""
    rival = Route(ip_network("192.168.1.128/25"), ip_address("172.18.0.66"), "zt0", 0)
    seen = replace(SEEN, address=ip_address("192.168.1.201"), routes=(rival,))
    assert remedies.right_route(seen, OVERLAY, "zt0") == (
        "ip route replace 192.168.1.0/24 via 172.18.0.200 dev zt0 metric 5000 && ip route del 192.168.1.128/25 metric 0"
    )


def test_the_best_route_decides_whether_it_is_set() -> None:
    """A longer prefix to another gateway overrules the zone's route; a default route never counts."""
    right = Route(LAN, ip_address("172.18.0.200"), "zt0", 5000)
    longer = Route(ip_network("192.168.1.128/25"), ip_address("172.18.0.66"), "zt0", 0)
    default = Route(ip_network("0.0.0.0/0"), ip_address("172.18.0.200"), "zt0", 0)
    for routes, expected in (((right,), True), ((right, longer), False), ((default,), False), ((), False)):
        assert remedies.is_set(replace(SEEN, routes=routes), OVERLAY, "zt0") is expected
