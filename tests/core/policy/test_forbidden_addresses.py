"""relay.core.policy.forbidden_addresses: what is refused whatever a rule says (invariant 4)."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.policy import forbidden_addresses
from relay.core.policy.model import Destination, Zone
from relay.core.policy.target import parse_spec

OWN = frozenset({ip_address("172.18.0.10"), ip_address("fd00::10")})
ZONES = (
    Zone("office", (ip_network("192.168.1.0/24"), ip_network("10.9.0.0/31"), ip_network("fd00::/64")), "zt0"),
    Zone("here", (ip_network("127.0.0.0/8"), ip_network("::1/128")), "lo"),
    Zone("lookalike", (ip_network("127.0.0.0/8"),), "lo*"),
)
RELAY = forbidden_addresses.compile_forbidden(
    ZONES,
    [(None, 2222), (ip_address("172.18.0.10"), 2022), (ip_address("0.0.0.0"), 2223), (ip_address("::"), 2224)],
    parse_spec("1.1.1.1:22"),
)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("0.0.0.0", "unspecified"),
        ("0.255.255.255", "unspecified"),
        ("127.0.0.1", "loopback"),
        ("127.255.255.255", "loopback"),
        ("169.254.0.0", "link-local"),
        ("169.254.169.254", "link-local"),
        ("169.254.255.255", "link-local"),
        ("100.100.100.200", "metadata"),
        ("168.63.129.16", "metadata"),
        ("192.0.0.192", "metadata"),
        ("224.0.0.1", "multicast"),
        ("239.255.255.255", "multicast"),
        ("255.255.255.255", "limited broadcast"),
        ("::", "unspecified"),
        ("::1", "loopback"),
        ("fe80::1", "link-local"),
        ("febf::1", "link-local"),
        ("ff02::1", "multicast"),
        ("fd00:ec2::254", "metadata"),
        ("fd20:ce::254", "metadata"),
        ("fd00:42::42", "metadata"),
        ("::ffff:192.168.1.1", "IPv4-mapped"),
        ("2002:7f00:1::1", "127.0.0.1 inside"),
        ("2002:a9fe:a9fe::", "169.254.169.254 inside"),
        ("64:ff9b::127.0.0.1", "127.0.0.1 inside"),
        ("64:ff9b:1::169.254.169.254", "169.254.169.254 inside"),
        ("2001:0:1:2:3:4:80ff:fffe", "127.0.0.1 inside"),
        ("::127.0.0.1", "127.0.0.1 inside"),
        ("::2", "0.0.0.2 inside"),
    ],
)
def test_addresses_that_no_zone_opens(address: str, words: str) -> None:
    """Unspecified, loopback, link-local, metadata, multicast, broadcast, also hidden in an IPv6 address."""
    assert words in forbidden_addresses.forbidden_kind(ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        *("1.0.0.0", "126.255.255.255", "128.0.0.1", "169.253.255.255", "169.255.0.0", "100.100.100.199"),
        *("100.100.100.201", "223.255.255.255", "255.255.255.254", "192.168.1.201", "fd00::1", "fe00::1", "fec0::1"),
        *("fd00:ec2::253", "fd00:ec2::255", "2002:c0a8:101::1", "64:ff9b::192.168.1.1", "64:ff9c::127.0.0.1", "2003::"),
    ],
)
def test_their_neighbours_are_open(address: str) -> None:
    """One address or one bit further nothing is refused by this table."""
    assert forbidden_addresses.forbidden_kind(ip_address(address)) == ""


def test_loopback_only_through_lo() -> None:
    """A zone whose interface is exactly lo reaches loopback; a pattern that would match lo does not."""
    assert RELAY.reason(Destination("here", ip_address("127.0.0.1"), 22), OWN) == ""
    assert RELAY.reason(Destination("here", ip_address("::1"), 22), OWN) == ""
    assert "loopback" in RELAY.reason(Destination("lookalike", ip_address("127.0.0.1"), 22), OWN)
    assert "link-local" in RELAY.reason(Destination("here", ip_address("169.254.1.1"), 22), OWN)


@pytest.mark.parametrize(
    ("zone", "address", "port", "words"),
    [
        ("office", "192.168.1.201", 9993, "control port"),
        ("office", "fd00::1", 9993, "control port"),
        ("office", "192.168.1.201", 9992, ""),
        ("office", "1.1.1.1", 443, "public address"),
        ("office", "1.1.1.2", 443, ""),
        ("office", "192.168.1.0", 22, "network or broadcast"),
        ("office", "192.168.1.255", 22, "network or broadcast"),
        ("office", "192.168.1.1", 22, ""),
        ("office", "192.168.1.254", 22, ""),
        ("elsewhere", "192.168.1.255", 22, ""),  # broadcast addresses are those of the zone's own networks
        ("office", "10.9.0.0", 22, ""),  # both addresses of a /31 are hosts
        ("office", "10.9.0.1", 22, ""),
        ("office", "fd00::", 22, ""),  # IPv6 has no broadcast
        ("office", "172.18.0.10", 2022, "this relay itself"),
        ("office", "172.18.0.10", 2222, "this relay itself"),
        ("office", "172.18.0.10", 2223, "this relay itself"),
        ("office", "fd00::10", 2224, "this relay itself"),
        ("here", "127.0.0.1", 2222, "this relay itself"),
        ("here", "::1", 2222, "this relay itself"),
        ("here", "127.0.0.1", 2022, ""),
        ("office", "172.18.0.10", 22, ""),
        ("office", "172.18.0.11", 2222, ""),
    ],
)
def test_what_is_refused_for_this_relay(zone: str, address: str, port: int, words: str) -> None:
    """Its listeners (a wildcard means every own address), its public address, the control port, broadcasts."""
    found = RELAY.reason(Destination(zone, ip_address(address), port), OWN)
    assert words in found
    assert bool(words) == bool(found)


def test_a_relay_with_no_public_address() -> None:
    """A public name says nothing about addresses, and no public name nothing at all."""
    for public in (None, parse_spec("relay.example.com:22")):
        bare = forbidden_addresses.compile_forbidden(ZONES, [], public)
        assert bare.public is None
        assert bare.reason(Destination("office", ip_address("1.1.1.1"), 22), OWN) == ""


@given(st.integers(0, 2**32 - 1))
def test_hiding_an_ipv4_address_opens_nothing(value: int) -> None:
    """What is refused as IPv4 is refused in every form that a translator would take apart."""
    address = IPv4Address(value)
    hidden = (
        IPv6Address(0x2002 << 112 | value << 80),
        IPv6Address((0x64FF9B << 96) | value),
        IPv6Address((0x64FF9B0001 << 80) | value),
        IPv6Address((0x20010000 << 96) | (value ^ 0xFFFFFFFF)),
    )
    for form in hidden:
        assert bool(forbidden_addresses.forbidden_kind(form)) == bool(forbidden_addresses.forbidden_kind(address))
