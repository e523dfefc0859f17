"""The guard lets a dial go on only where the kernel would use the zone's interface and gateway."""

import errno
import socket
import struct
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.net.kernel import netlink, route_guard
from relay.net.kernel.route_guard import Hop, Obstacle, RouteCheck, RouteMessage

if TYPE_CHECKING:
    from tests.net.conftest import Namespace

LAN, GATEWAY = "192.168.1.201", "172.18.0.200"
UNICAST, LOCAL, UNREACHABLE = 1, 2, 7


def route(
    *attributes: bytes, family: int = socket.AF_INET, prefix: int = 24, kind: int = UNICAST, flags: int = 0
) -> bytes:
    """An RTM_NEWROUTE's body in the main table."""
    return struct.pack("=BBBBBBBBI", family, prefix, 0, 0, 254, 4, 0, kind, flags) + b"".join(attributes)


def number(kind: int, value: int) -> bytes:
    return netlink.attribute(kind, struct.pack("=I", value))


def address(kind: int, text: str) -> bytes:
    return netlink.attribute(kind, ip_address(text).packed)


def test_a_route_by_a_gateway_is_read() -> None:
    """Destination, gateway, interface and metric of `192.168.1.0/24 via 172.18.0.200 dev zt0 metric 5000`."""
    body = route(address(1, "192.168.1.0"), number(6, 5000), address(5, GATEWAY), number(4, 3), number(15, 254))
    hops = (Hop(3, ip_address(GATEWAY), False),)
    assert route_guard.parse_route(body) == RouteMessage(ip_network("192.168.1.0/24"), UNICAST, 254, 5000, False, hops)


def test_a_default_route_has_no_destination() -> None:
    """No RTA_DST means everything, in both families; :: as gateway means on-link."""
    four = route_guard.parse_route(route(number(4, 3), prefix=0))
    six = route_guard.parse_route(route(number(4, 3), address(5, "::"), family=socket.AF_INET6, prefix=0))
    assert four is not None
    assert six is not None
    assert (four.network, six.network) == (ip_network("0.0.0.0/0"), ip_network("::/0"))
    assert six.hops == (Hop(3, None, False),)


def test_a_table_above_255_is_in_its_attribute() -> None:
    """The header has eight bits for it only."""
    found = route_guard.parse_route(route(address(1, "192.168.1.0"), number(15, 1000), number(4, 3)))
    assert found is not None
    assert found.table == 1000


def test_several_next_hops_are_several_hops() -> None:
    """Each with its interface, gateway and whether its link is down."""
    first = struct.pack("=HBBi", 16, 0, 0, 3) + address(5, GATEWAY)
    second = struct.pack("=HBBi", 16, 0x10, 0, 4) + address(5, "172.19.0.200")
    found = route_guard.parse_route(route(address(1, "192.168.1.0"), netlink.attribute(9, first + second)))
    assert found is not None
    assert found.hops == (Hop(3, ip_address(GATEWAY), False), Hop(4, ip_address("172.19.0.200"), True))


def test_an_ipv4_route_by_an_ipv6_gateway_is_read() -> None:
    """RTA_VIA carries the gateway's family before its address."""
    via = netlink.attribute(18, struct.pack("=H", socket.AF_INET6) + ip_address("fe80::1").packed)
    found = route_guard.parse_route(route(address(1, "192.168.1.0"), number(4, 3), via))
    assert found is not None
    assert found.hops[0].gateway == ip_address("fe80::1")


@pytest.mark.parametrize(
    "body",
    [
        route(prefix=33),
        route(netlink.attribute(1, b"abc")),
        route(family=socket.AF_INET6, prefix=129),
        route(number(4, 3), netlink.attribute(5, b"abc")),
        route(netlink.attribute(4, b"ab")),
        route(netlink.attribute(9, struct.pack("=HBBi", 4, 0, 0, 3))),
        route(netlink.attribute(9, struct.pack("=HBBi", 99, 0, 0, 3))),
        b"",
    ],
)
def test_a_malformed_route_is_refused(body: bytes) -> None:
    """Prefixes, addresses and lengths that cannot be are EBADMSG."""
    with pytest.raises(OSError) as raised:
        route_guard.parse_route(body)
    assert raised.value.errno == errno.EBADMSG


def test_a_route_of_another_family_is_none() -> None:
    """MPLS and the like are not ours."""
    assert route_guard.parse_route(route(family=28)) is None


@given(st.binary(max_size=160), st.sampled_from([socket.AF_INET, socket.AF_INET6]))
def test_any_bytes_are_a_route_or_refused(data: bytes, family: int) -> None:
    """Nothing but OSError(EBADMSG) comes out of the parser."""
    for body in (data, bytes([family]) + data, route(data, family=family)):
        try:
            route_guard.parse_route(body)
        except OSError as error:
            assert error.errno == errno.EBADMSG


def judged(*hops: Hop, kind: int = UNICAST, gateway: str = "", name: str = "zt0", index: int = 3) -> Obstacle | None:
    by = ip_address(gateway) if gateway else None
    mine = tuple(hop for hop in hops if hop.index == index)
    return route_guard._judge(kind, mine, RouteCheck(None, "", name, index), ip_address(LAN), by).reason


def test_a_route_is_judged_by_type_interface_link_and_gateway() -> None:
    """Each condition alone refuses, with its own reason."""
    good = Hop(3, ip_address(GATEWAY), False)
    assert judged(good, gateway=GATEWAY) is None
    assert judged(good) is None
    assert judged(Hop(3, None, False)) is None
    assert judged(good, kind=UNREACHABLE, gateway=GATEWAY) is Obstacle.NOT_UNICAST
    assert judged(good, kind=LOCAL) is Obstacle.NOT_UNICAST
    assert judged(good, kind=LOCAL, name="lo") is None
    assert judged(good, index=4, gateway=GATEWAY) is Obstacle.ROUTE_MISSING
    assert judged(gateway=GATEWAY) is Obstacle.ROUTE_MISSING
    assert judged(Hop(3, ip_address(GATEWAY), True), gateway=GATEWAY) is Obstacle.INTERFACE_DOWN
    assert judged(good, gateway="172.18.0.201") is Obstacle.OTHER_GATEWAY
    assert judged(Hop(3, None, False), gateway=GATEWAY) is Obstacle.OTHER_GATEWAY
    assert judged(good, Hop(3, ip_address("172.18.0.9"), False), gateway=GATEWAY) is Obstacle.OTHER_GATEWAY
    assert judged(good, Hop(4, ip_address("172.19.0.9"), False), gateway=GATEWAY) is None


def test_the_zero_guard_refuses() -> None:
    """The zero value of a check is a refusal."""
    assert not RouteCheck().ok
    assert RouteCheck().reason is Obstacle.NOT_ASKED


@pytest.mark.parametrize("interface", ["lo", "l?"])
@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9"])
def test_lo_reaches_the_machine_itself(interface: str, address: str) -> None:
    """A zone on lo (demo, tests, a relay's own services) needs the type local, which lo alone may have."""
    answer = route_guard.guard(interface, ip_address(address), None)
    assert answer == RouteCheck(None, "", "lo", socket.if_nametoindex("lo"))
    assert answer.ok


def test_lo_with_a_gateway_is_refused() -> None:
    """A zone that names a gateway is not satisfied by the machine itself."""
    assert route_guard.guard("lo", ip_address("127.0.0.1"), ip_address("127.0.0.2")).reason is Obstacle.OTHER_GATEWAY


def test_an_address_that_lo_does_not_have_has_no_route_there() -> None:
    """A documentation address (RFC 5737) by lo: asked of the kernel, nothing is sent."""
    assert route_guard.guard("lo", ip_address("203.0.113.5"), None).reason is Obstacle.ROUTE_MISSING


@pytest.mark.parametrize("name", ["nope0", "", "x" * 300, "a\0b", "zt*\0", "nope?"])
def test_an_interface_that_is_not_there_is_a_reason(name: str) -> None:
    """Whatever stands in the zone, the guard answers and does not raise."""
    assert route_guard.guard(name, ip_address(LAN), None).reason is Obstacle.INTERFACE_MISSING


@given(st.text(max_size=20), st.ip_addresses(), st.none() | st.ip_addresses())
def test_the_guard_never_raises(name: str, address: object, gateway: object) -> None:
    """Any zone and any address give an answer: this runs inside the path of a forward."""
    answer = route_guard.guard(name, address, gateway)  # type: ignore[arg-type]
    assert answer.ok == (answer.reason is None)


@pytest.mark.system
class TestKernel:
    """The rows of network-plan.md's leak table that a routing table can show, against a real one."""

    def test_healthy(self, relay_host: "Namespace") -> None:
        """The LAN by its gateway, the overlay itself on-link, in both families, by name or pattern."""
        assert relay_host.guard("zt0", LAN, GATEWAY) == (True, None, "", "zt0")
        assert relay_host.guard("zt*", LAN, GATEWAY) == (True, None, "", "zt0")
        assert relay_host.guard("zt0", GATEWAY)[0]
        assert relay_host.guard("zt0", "fdaa::5", "fd18::200")[0]
        assert relay_host.guard("zt0", "fd18::200")[0]

    def test_route_missing(self, relay_host: "Namespace") -> None:
        """The default route by the underlay does not count, nor does the on-link guess for a bound socket."""
        relay_host.ip("route del 192.168.1.0/24", "-6 route del fdaa::/64")
        assert relay_host.guard("zt0", LAN, GATEWAY)[1] == "route-missing"
        assert relay_host.guard("zt0", LAN)[1] == "route-missing"
        assert relay_host.guard("zt0", "fdaa::5", "fd18::200")[1] == "route-missing"

    def test_the_fallback_route_does_not_count(self, relay_host: "Namespace") -> None:
        """With the plan's `unreachable` route healthy is healthy, and without the real route it is no route."""
        relay_host.ip("route add unreachable 192.168.1.0/24 metric 4294967294")
        assert relay_host.guard("zt0", LAN, GATEWAY)[0]
        relay_host.ip("route del 192.168.1.0/24 dev zt0")
        assert relay_host.guard("zt0", LAN, GATEWAY)[1] == "route-missing"

    def test_interface_down(self, relay_host: "Namespace") -> None:
        """Set down or without carrier: one obstacle, distinguished in the detail."""
        relay_host.ip("link set far_zt0 down")
        ok, obstacle, detail, _ = relay_host.guard("zt0", LAN, GATEWAY)
        assert (ok, obstacle) == (False, "interface-down")
        assert "carrier" in detail
        relay_host.ip("link set zt0 down")
        ok, obstacle, detail, _ = relay_host.guard("zt0", LAN, GATEWAY)
        assert (ok, obstacle, detail) == (False, "interface-down", "zt0 is set down")

    def test_interface_missing(self, relay_host: "Namespace") -> None:
        """ZeroTier stopped: the interface is gone, by name and by pattern."""
        relay_host.ip("link del zt0")
        assert relay_host.guard("zt0", LAN, GATEWAY)[1] == "interface-missing"
        assert relay_host.guard("zt*", LAN, GATEWAY)[1] == "interface-missing"

    def test_an_interface_made_anew_is_known_by_its_name(self, relay_host: "Namespace") -> None:
        """After a restart the index differs: without the managed route it is refused, with it allowed."""
        relay_host.ip("link del zt0")
        relay_host.link("zt0", "172.18.0.10/24")
        assert relay_host.guard("zt0", LAN, GATEWAY)[1] == "route-missing"
        relay_host.ip(f"route add 192.168.1.0/24 via {GATEWAY} dev zt0 metric 5000")
        assert relay_host.guard("zt0", LAN, GATEWAY)[0]

    def test_other_gateway(self, relay_host: "Namespace") -> None:
        """Another member of the overlay, or no gateway at all, is refused."""
        relay_host.ip("route replace 192.168.1.0/24 via 172.18.0.66 dev zt0 metric 5000")
        ok, obstacle, detail, _ = relay_host.guard("zt0", LAN, GATEWAY)
        assert (ok, obstacle) == (False, "other-gateway")
        assert "172.18.0.66" in detail
        relay_host.ip("route del 192.168.1.0/24", "route add 192.168.1.0/24 dev zt0")
        assert relay_host.guard("zt0", LAN, GATEWAY)[1] == "other-gateway"

    def test_one_of_two_next_hops_is_another_gateway(self, relay_host: "Namespace") -> None:
        """Any way that the kernel may choose has to be the zone's."""
        relay_host.ip(
            "route del 192.168.1.0/24",
            f"route add 192.168.1.0/24 nexthop via {GATEWAY} dev zt0 nexthop via 172.18.0.66 dev zt0",
        )
        assert relay_host.guard("zt0", LAN, GATEWAY)[1] == "other-gateway"

    def test_a_nic_of_its_own_in_the_same_prefix(self, relay_host: "Namespace") -> None:
        """Metric 0 beats ZeroTier's 5000 for unbound sockets only; our own address there is refused."""
        relay_host.link("eth1", "192.168.1.77/24", "fdaa::77/64")
        assert relay_host.guard("zt0", LAN, GATEWAY)[0]
        assert relay_host.guard("zt0", "fdaa::5", "fd18::200")[0]
        relay_host.ip("route del 192.168.1.0/24 dev zt0", "-6 route del fdaa::/64 dev zt0")
        assert relay_host.guard("zt0", LAN, GATEWAY)[1] == "route-missing"
        assert relay_host.guard("zt0", "fdaa::5", "fd18::200")[1] == "route-missing"

    def test_two_zones_with_one_prefix(self, relay_host: "Namespace") -> None:
        """Each by its own interface and gateway, both at once; the pattern that would mean both is refused."""
        relay_host.link("zt1", "172.19.0.10/24", "fd19::10/64")
        relay_host.ip(
            "route add 192.168.1.0/24 via 172.19.0.200 dev zt1 metric 5001",
            "-6 route add fdaa::/64 via fd19::200 dev zt1 metric 5001",
        )
        assert relay_host.guard("zt0", LAN, GATEWAY)[0]
        assert relay_host.guard("zt1", LAN, "172.19.0.200")[0]
        assert relay_host.guard("zt0", "fdaa::5", "fd18::200")[0]
        assert relay_host.guard("zt1", "fdaa::5", "fd19::200")[0]
        assert relay_host.guard("zt1", LAN, GATEWAY)[1] == "other-gateway"
        ok, obstacle, detail, _ = relay_host.guard("zt*", LAN, GATEWAY)
        assert (ok, obstacle) == (False, "interface-ambiguous")
        assert "zt0, zt1" in detail

    def test_routes_are_listed_for_proposals(self, relay_host: "Namespace") -> None:
        """Unicast routes of the main table only, one per next hop, with interface names."""
        relay_host.ip(
            "route add unreachable 10.9.0.0/16",
            f"route add 10.8.0.0/16 via {GATEWAY} table 100",
            f"route add 10.7.0.0/16 nexthop via {GATEWAY} dev zt0 nexthop via 198.51.100.1 dev eth0",
        )
        _, found = relay_host.show()
        listed = [tuple(at) for at in found]
        assert ("192.168.1.0/24", GATEWAY, "zt0", 5000) in listed
        assert ("0.0.0.0/0", "198.51.100.1", "eth0", 0) in listed
        assert ("172.18.0.0/24", "None", "zt0", 0) in listed
        assert ("fdaa::/64", "fd18::200", "zt0", 5000) in listed
        assert [at[1:3] for at in listed if at[0] == "10.7.0.0/16"] == [(GATEWAY, "zt0"), ("198.51.100.1", "eth0")]
        assert not [at for at in listed if at[0] in {"10.8.0.0/16", "10.9.0.0/16"} or at[2] == "lo"]

    def test_a_rule_for_a_port_or_a_source_counts(self, relay_host: "Namespace") -> None:
        """Where a rule sends that port, or the socket's own address, another way, that way is judged."""
        relay_host.ip("route add 192.168.1.0/24 via 172.18.0.66 dev zt0 table 100")
        relay_host.ip("rule add ipproto tcp dport 22 lookup 100 pref 100")
        assert relay_host.guard("zt0", LAN, GATEWAY, 22)[1] == "other-gateway"
        assert relay_host.guard("zt0", LAN, GATEWAY, 23)[0]
        relay_host.ip("rule del pref 100", "rule add from 172.18.0.10 lookup 100 pref 100")
        assert relay_host.guard("zt0", LAN, GATEWAY, 23)[1] == "other-gateway"
