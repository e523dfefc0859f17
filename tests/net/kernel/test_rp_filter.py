"""Another way that plain packets would take is seen, and whether it makes the right way silent."""

import json
import sys
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from relay.net.kernel import rp_filter

if TYPE_CHECKING:
    from tests.net.conftest import Namespace

LAN = "192.168.1.201"
ASK = """
import json, socket, sys
from ipaddress import ip_address
from relay.net.kernel.rp_filter import dropped_answers, effective_mode, shadowing_route
address, name = ip_address(sys.argv[1]), sys.argv[2]
at = address, name, socket.if_nametoindex(name)
print(json.dumps([shadowing_route(*at), effective_mode(name), dropped_answers(*at)]))
"""


def ask(namespace: "Namespace", address: str = LAN, name: str = "zt0") -> tuple[str, int | None, str]:
    """What `shadow`, `reverse_path` and `silencing` say inside."""
    other, value, silencing = json.loads(namespace.run(sys.executable, "-c", ASK, address, name))
    return other, value, silencing


def set_rp_filter(namespace: "Namespace", name: str, value: int) -> None:
    """Set it in that namespace."""
    namespace.run("sh", "-c", f"echo {value} > /proc/sys/net/ipv4/conf/{name}/rp_filter")


@pytest.mark.system
def test_an_own_nic_in_the_prefix_is_a_shadow(relay_host: "Namespace") -> None:
    """The connected route beats the overlay's metric 5000 for everybody but a bound socket, in both families."""
    for name in ("all", "zt0"):
        set_rp_filter(relay_host, name, 0)
    assert ask(relay_host) == ("", 0, "")
    relay_host.link("eth1", "192.168.1.77/24", "fdaa::77/64")
    assert ask(relay_host) == ("192.168.1.0/24 goes on-link by eth1 for others than zt0", 0, "")
    assert ask(relay_host, "fdaa::5")[0] == "fdaa::/64 goes on-link by eth1 for others than zt0"
    assert ask(relay_host, name="eth1") == ("", 0, "")


@pytest.mark.system
@pytest.mark.parametrize(("everywhere", "own", "drops"), [(1, 0, True), (0, 1, True), (1, 2, False), (2, 1, False)])
def test_only_the_strict_filter_drops_answers(relay_host: "Namespace", everywhere: int, own: int, drops: bool) -> None:
    """The kernel takes the greater of the two settings; 2 is loose. IPv6 has no such filter."""
    relay_host.link("eth1", "192.168.1.77/24", "fdaa::77/64")
    set_rp_filter(relay_host, "all", everywhere)
    set_rp_filter(relay_host, "zt0", own)
    _, value, words = ask(relay_host)
    assert value == max(everywhere, own)
    assert bool(words) is drops
    if drops:
        assert words.startswith("192.168.1.0/24 goes on-link by eth1 for others than zt0, and rp_filter=1 drops")
    assert ask(relay_host, "fdaa::5")[2] == ""


@pytest.mark.system
def test_the_second_zone_of_one_prefix_is_shadowed_by_the_first(relay_host: "Namespace") -> None:
    """The lower metric wins for plain packets; a default route alone shadows nothing."""
    relay_host.link("zt1", "172.19.0.10/24")
    relay_host.ip("route add 192.168.1.0/24 via 172.19.0.200 dev zt1 metric 5001")
    assert ask(relay_host)[0] == ""
    assert ask(relay_host, name="zt1")[0] == "192.168.1.0/24 goes by 172.18.0.200 on zt0 for others than zt1"
    relay_host.ip("route del 192.168.1.0/24 dev zt0", "route del 192.168.1.0/24 dev zt1")
    assert ask(relay_host)[0] == ""


def test_what_cannot_be_asked_is_not_known() -> None:
    """An interface that is not there has no filter, and an address without any route has no rp_filter."""
    assert rp_filter.effective_mode("nonesuch0") is None
    assert rp_filter.dropped_answers(ip_address(LAN), "nonesuch0", 1 << 30) == ""
