"""Where packets would go without an interface: reckoned from tables, and compared with a kernel that lost one."""

import json
import struct
import sys
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.policy.model import Network
from relay.net.diagnose import leak_analysis
from relay.net.diagnose.leak_analysis import Path, RoutingRule
from relay.net.kernel.route_guard import Hop, RouteMessage
from tests.net.conftest import Namespace

ETH0, ZT0, ETH1 = 2, 3, 4
LOCAL, MAIN, OTHER = 255, 254, 100
LAN = IPv4Network("192.168.1.0/24")
GATEWAY, PROVIDER = IPv4Address("172.18.0.200"), IPv4Address("198.51.100.1")
ORDER = [RoutingRule(0, 1, LOCAL, None), RoutingRule(32766, 1, MAIN, None), RoutingRule(32767, 1, 253, None)]
REFUSED, HERE = "the route unreachable 192.168.1.0/24", "it is an address of this machine or its link"
TARGET = IPv4Address("192.168.1.201")
ASK = """
import json, socket, sys
from ipaddress import ip_address, ip_network
from relay.net.kernel import interfaces; from relay.net.diagnose import leak_analysis
networks, name = json.loads(sys.argv[1])
index = socket.if_nametoindex(name) if name else 0
names = dict(socket.if_nameindex())
fates = leak_analysis.fates([ip_network(net) for net in networks], {index}, interfaces.addresses(index) if index
else ())
print(json.dumps([[str(at.address), names.get(at.hop.index) if at.hop else "", at.how] for at in fates]))
"""


def path(network: str, kind: int = 1, *, by: int = 0, table: int = MAIN, metric: int = 0, dead: bool = False) -> Path:
    """One route."""
    hops = (Hop(by, None, dead),) if by else ()
    return Path(RouteMessage(ip_network(network), kind, table, metric, False, hops))


DEFAULT = path("0.0.0.0/0", by=ETH0)
ZONE = path("192.168.1.0/24", by=ZT0, metric=5000)
FALLBACK = path("192.168.1.0/24", 7, metric=4294967294)


@pytest.mark.parametrize(
    ("order", "known", "by", "how"),
    [
        (ORDER, [DEFAULT, ZONE], ETH0, ""),
        (ORDER, [DEFAULT, ZONE, FALLBACK], None, REFUSED),
        (ORDER, [ZONE], None, "there is no route"),
        (ORDER, [DEFAULT, ZONE, FALLBACK, path("192.168.1.0/24", by=ETH1)], ETH1, ""),  # metric 0 beats the fallback
        (ORDER, [DEFAULT, FALLBACK, path("192.168.1.128/25", by=ETH1)], ETH1, ""),  # and so does a longer prefix
        (ORDER, [DEFAULT, FALLBACK, path("192.168.1.128/25", by=ETH1, dead=True)], None, REFUSED),
        (ORDER, [DEFAULT, path("192.168.1.201/32", 2, by=1, table=LOCAL)], None, HERE),
        # a table of somebody's own, asked before main
        ([RoutingRule(100, 1, OTHER, None), *ORDER], [FALLBACK, path("0.0.0.0/0", by=ETH1, table=OTHER)], ETH1, ""),
        ([RoutingRule(100, 1, OTHER, IPv4Network("10.0.0.0/8")), *ORDER],
         [FALLBACK, path("0.0.0.0/0", by=ETH1, table=OTHER)], None, REFUSED),
        ([RoutingRule(100, 1, OTHER, None, fits=False), *ORDER],
         [FALLBACK, path("0.0.0.0/0", by=ETH1, table=OTHER)], None, REFUSED),
        # wg-quick: everything unmarked goes to its table, and main may only answer with more than a default route
        ([RoutingRule(100, 1, MAIN, None, suppress=0), RoutingRule(101, 1, OTHER, None, fits=False, inverted=True)],
         [DEFAULT, path("0.0.0.0/0", by=ETH1, table=OTHER)], ETH1, ""),
        ([RoutingRule(100, 1, MAIN, None, suppress=0), RoutingRule(101, 1, OTHER, None, fits=False, inverted=True)],
         [DEFAULT, FALLBACK, path("0.0.0.0/0", by=ETH1, table=OTHER)], None, REFUSED),
        ([RoutingRule(100, 7, 0, LAN), *ORDER], [DEFAULT], None, "rule 100 is unreachable"),
        ([RoutingRule(100, 2, 0, None, goto=32766), RoutingRule(200, 6, 0, None), *ORDER[1:]], [DEFAULT], ETH0, ""),
        ([RoutingRule(100, 3, 0, None), *ORDER], [DEFAULT], ETH0, ""),
        ([RoutingRule(100, 1, OTHER, None), *ORDER], [DEFAULT, path("0.0.0.0/0", 9, table=OTHER)], ETH0, ""),  # throw
    ],
)  # fmt: skip
def test_a_packets_fate(order: list[RoutingRule], known: list[Path], by: int | None, how: str) -> None:
    """Rules in their order, the longest prefix, the lowest metric; when zt0 has gone, so have its routes."""
    found = leak_analysis.fate(order, leak_analysis.without(known, {ZT0}, [IPv4Address("172.18.0.10")]), TARGET)
    assert (found.hop.index if found.hop else None, found.leaves, found.how) == (by, by is not None, how)


def test_routes_with_a_vanished_source_vanish_too() -> None:
    """The kernel deletes a route whose preferred source was an address of the interface."""
    own = IPv4Address("172.18.0.10")
    kept, gone = path("10.0.0.0/8", by=ETH0), Path(path("10.1.0.0/16", by=ETH0).entry, own)
    assert leak_analysis.without([kept, gone], {ZT0}, [own]) == [kept]


def test_of_several_next_hops_those_by_the_interface_go() -> None:
    """A multipath route is left with its other way."""
    entry = RouteMessage(LAN, 1, MAIN, 0, False, (Hop(ZT0, GATEWAY, False), Hop(ETH0, PROVIDER, False)))
    assert leak_analysis.without([Path(entry)], {ZT0}, [])[0].entry.hops == (Hop(ETH0, PROVIDER, False),)


def test_every_part_of_a_network_with_a_route_of_its_own_is_asked_about() -> None:
    """The ends of each network, and the first address of each rule's and route's inside of it."""
    order = [RoutingRule(9, 8, 0, IPv4Network("192.168.1.32/28")), *ORDER]
    inner = [path("192.168.1.64/26", by=ETH1), DEFAULT, path("10.0.0.0/8", by=ETH1)]
    assert [str(address) for address in leak_analysis.questions([LAN], order, inner)] == [
        "192.168.1.1",
        "192.168.1.254",
        "192.168.1.32",
        "192.168.1.64",
    ]
    assert leak_analysis.questions([ip_network("192.168.1.201/32")], [], []) == [TARGET]


def ask(host: Namespace, networks: list[str], interface: str = "") -> list[list[str]]:
    """What `fates` answers inside: [address, by, how]."""
    found: list[list[str]] = json.loads(host.run(sys.executable, "-c", ASK, json.dumps([networks, interface])))
    return found


@pytest.mark.system
@pytest.mark.parametrize("fallback", [False, True])
@pytest.mark.parametrize("rules", [False, True])
def test_the_reckoning_is_what_the_kernel_does_when_the_interface_goes(
    relay_host: Namespace, fallback: bool, rules: bool
) -> None:
    """Both families, with a fallback and without, with policy rules and without: foretold, then done and compared."""
    networks = ["192.168.1.0/24", "fdaa::/64"]
    if fallback:
        relay_host.ip(*(f"route add unreachable {network} metric 4294967294" for network in networks))
    if rules:
        relay_host.link("eth1", "203.0.113.1/24")
        relay_host.ip(
            "route add 192.168.1.128/26 dev eth1 table 100",
            "rule add not fwmark 8 lookup 100",
            "rule add fwmark 8 lookup 101",
            "rule add to 192.168.1.64/26 prohibit",
        )
    foretold = ask(relay_host, networks, "zt0")
    relay_host.ip("link delete zt0")
    assert ask(relay_host, networks) == foretold
    for address, by, how in foretold:
        try:
            said = relay_host.run("ip", "-o", "route", "get", address)
        except AssertionError as refused:
            assert not by, refused
            assert how
        else:
            assert f" dev {by} " in said
    ways = {by for _, by, _ in foretold}
    assert ways == ({""} if fallback else {"eth0"}) | ({"", "eth1"} if rules else set())


@given(st.binary(max_size=120))
def test_any_bytes_are_a_rule_a_route_or_ebadmsg(body: bytes) -> None:
    """What is not a message is refused as such, and never another error."""
    for parse in (leak_analysis.parse_rule, leak_analysis.parse_path):
        try:
            parse(body)
        except OSError:
            continue


def test_a_rules_selectors_are_read() -> None:
    """A marked, a sourced and an inverted rule; a plain packet fits the last one only."""

    def rule(*attributes: tuple[int, bytes], flags: int = 0, length: int = 0) -> RoutingRule:
        head = struct.pack("=BBBBBBBBI", 2, length, 0, 0, MAIN, 0, 0, 1, flags)
        body = b"".join(struct.pack("=HH", 4 + len(value), kind) + value for kind, value in attributes)
        found = leak_analysis.parse_rule(head + body)
        assert found is not None
        return found

    mark = (10, struct.pack("=I", 7))
    assert not rule(mark).fits
    assert rule(mark, flags=2).inverted
    assert not rule((2, bytes(4))).fits
    assert rule((6, struct.pack("=I", 99)), (15, struct.pack("=I", 1000))) == RoutingRule(99, 1, 1000, None)
    assert rule((1, ip_address("10.0.0.0").packed), length=8).network == ip_network("10.0.0.0/8")


def test_the_networks_of_no_family_have_no_fates() -> None:
    """Nothing asked, nothing answered, and the kernel is not bothered."""
    empty: list[Network] = []
    assert leak_analysis.fates(empty, (), ()) == []
