"""Interfaces are read from the kernel, and a zone's pattern means exactly one of them."""

import contextlib
import errno
import socket
import struct
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.errors import InputRejected
from relay.net.kernel import interfaces, netlink

if TYPE_CHECKING:
    from tests.net.conftest import Namespace

NAMES = ["eth0", "lo", "zt0", "ztabc", "wg0"]


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [("zt0", "zt0"), ("zt?", "zt0"), ("zta*", "ztabc"), ("w*", "wg0"), ("*o", "lo"), ("lo", "lo"), ("????c", "ztabc")],
)
def test_a_pattern_means_the_one_name_it_matches(pattern: str, meant: str) -> None:
    """`*` is any letters, `?` exactly one, the rest is itself."""
    assert interfaces.match(pattern, NAMES) == meant


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("zt*", "2 interfaces match 'zt*': zt0, ztabc"),
        ("*", "5 interfaces match"),
        ("zt1", "no interface matches 'zt1'"),
        ("ZT0", "no interface matches"),
        ("zt", "no interface matches"),
        ("zt0x", "no interface matches"),
        ("[ez]t0", "no interface matches"),
        ("", "no interface matches"),
        ("zt.", "no interface matches"),
        ("zt0\n", "no interface matches"),
    ],
)
def test_none_or_several_is_refused_with_the_candidates(pattern: str, text: str) -> None:
    """Case counts, brackets and dots are letters, and the refusal names what could be meant."""
    with pytest.raises(InputRejected) as raised:
        interfaces.match(pattern, NAMES)
    assert text in raised.value.what
    assert any(name in raised.value.what + raised.value.hint for name in NAMES)


def test_a_plain_name_is_not_looked_for() -> None:
    """Whether it is there is the guard's question; a pattern is matched against what is there now."""
    assert interfaces.find("nope0") == "nope0"
    assert interfaces.find("l?") == "lo"
    with pytest.raises(InputRejected):
        interfaces.find("nope*")


def test_one_name_listed_twice_is_one_candidate() -> None:
    """Candidates are names, compared as names."""
    assert interfaces.match("zt*", ["zt0", "zt0"]) == "zt0"


def test_no_interface_at_all_is_said() -> None:
    """Even an empty list gives a whole sentence, and a long one is cut."""
    with pytest.raises(InputRejected) as raised:
        interfaces.match("zt*", [])
    assert raised.value.hint == "there are none"
    with pytest.raises(InputRejected, match="and 92 more"):
        interfaces.match("*", [f"v{number:03}" for number in range(100)])


@given(st.text(max_size=20), st.lists(st.text(max_size=15), max_size=5))
def test_any_pattern_is_a_match_or_a_refusal(pattern: str, names: list[str]) -> None:
    """What is given back is one of the names; everything else is InputRejected."""
    with contextlib.suppress(InputRejected):
        assert interfaces.match(pattern, names) in names


@given(st.text(alphabet="abz?*", max_size=8), st.text(alphabet="abz", max_size=8))
def test_matching_is_what_two_lines_of_recursion_say(pattern: str, name: str) -> None:
    """The compiled form agrees with the definition."""

    def means(left: str, right: str) -> bool:
        if not left:
            return not right
        if left[0] == "*":
            return means(left[1:], right) or (bool(right) and means(left, right[1:]))
        return bool(right) and left[0] in {"?", right[0]} and means(left[1:], right[1:])

    assert bool(interfaces.candidates(pattern, [name])) == means(pattern, name)


def link(index: int, flags: int, name: bytes) -> bytes:
    """An RTM_NEWLINK's body."""
    return struct.pack("=BxHiII", 0, 1, index, flags, 0) + netlink.attribute(3, name)


@pytest.mark.parametrize(
    ("flags", "enabled", "carrier", "loopback"),
    [
        (0x11043, True, True, False),
        (0x10049, True, True, True),
        (0x1003, True, False, False),
        (0x1002, False, False, False),
    ],
)
def test_a_link_is_up_by_its_flags(flags: int, enabled: bool, carrier: bool, loopback: bool) -> None:
    """UP and LOWER_UP are distinguished; the operstate, UNKNOWN on a healthy TAP, is not used."""
    assert interfaces.parse_link(link(3, flags, b"zt0\0")) == interfaces.LinkMessage(
        "zt0", 3, enabled, carrier, loopback
    )


def test_an_address_is_the_local_end() -> None:
    """On a point-to-point link IFA_ADDRESS is the peer's and IFA_LOCAL ours; IPv6 has the former alone."""
    head = struct.pack("=BBBBI", socket.AF_INET, 32, 0, 0, 3)
    ends = netlink.attribute(1, bytes([10, 0, 0, 2])) + netlink.attribute(2, bytes([10, 0, 0, 1]))
    assert interfaces.parse_address(head + ends) == (3, ip_address("10.0.0.1"))
    head = struct.pack("=BBBBI", socket.AF_INET6, 64, 0, 0, 3)
    six = ip_address("fd18::10")
    assert interfaces.parse_address(head + netlink.attribute(1, six.packed)) == (3, six)
    assert interfaces.parse_address(head) is None
    assert interfaces.parse_address(struct.pack("=BBBBI", 99, 64, 0, 0, 3) + netlink.attribute(1, six.packed)) is None


@given(st.binary(max_size=120))
def test_any_bytes_are_a_link_or_refused(data: bytes) -> None:
    """Nothing but OSError(EBADMSG) comes out of the parsers."""
    for parse in (interfaces.parse_link, interfaces.parse_address):
        try:
            parse(data)
        except OSError as error:
            assert error.errno == errno.EBADMSG


def test_this_machine_has_a_loopback() -> None:
    """The real kernel's lo: its index, that it is up, and 127.0.0.1 among our own addresses."""
    (lo,) = (found for found in interfaces.interfaces() if found.name == "lo")
    assert lo.loopback
    assert lo.up
    assert lo.index == socket.if_nametoindex("lo")
    assert ip_address("127.0.0.1") in lo.addresses
    assert ip_address("127.0.0.1") in interfaces.own_addresses()
    assert interfaces.addresses(lo.index) == frozenset(lo.addresses)
    assert interfaces.addresses(1 << 30) == frozenset()
    assert interfaces.link(lo.index).name == "lo"
    assert "lo" in interfaces.names()


@pytest.mark.system
def test_interfaces_are_listed_with_addresses_and_state(relay_host: "Namespace") -> None:
    """Every interface with all its addresses; one that is set down, or has no carrier, is not up."""
    relay_host.link("zt1", "172.19.0.10/24")
    relay_host.ip("link set zt1 down", "link set far_eth0 down")
    found = {str(name): (up, addresses, loopback) for name, up, addresses, loopback in relay_host.show()[0]}
    up, addresses, _ = found["zt0"]
    assert up
    assert isinstance(addresses, list)
    assert {"172.18.0.10", "fd18::10"} <= set(addresses)
    assert found["zt1"] == (False, ["172.19.0.10"], False)
    assert found["eth0"][0] is False
    assert found["lo"] == (True, ["127.0.0.1", "::1"], True)
