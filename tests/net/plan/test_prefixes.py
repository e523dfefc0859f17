"""Networks and the interfaces by which each may be reached."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.policy.model import Zone
from relay.net.plan.prefixes import largest, literal, prefixes

NETWORKS = [
    ip_network(f"10.{second}.0.0/{bits}") for second in (0, 1, 2) for bits in (15, 16) if not second & (16 - bits)
]
NETWORKS += [ip_network(text) for text in ("10.0.0.0/8", "10.1.7.0/24", "10.1.7.9/32", "fd00::/48", "fd00:0:0:1::/64")]
ADDRESSES = [ip_address(text) for text in ("10.0.0.1", "10.1.7.9", "10.1.7.8", "10.1.8.1", "10.2.0.1", "10.200.0.1")]
ADDRESSES += [ip_address(text) for text in ("11.0.0.1", "fd00::1", "fd00:0:0:1::1", "fd01::1")]


@given(
    st.lists(
        st.tuples(st.lists(st.sampled_from(NETWORKS), min_size=1, max_size=3), st.sampled_from(["zt0", "zt1", "wg0"])),
        max_size=4,
    )
)
def test_guard_is_exact(made: list[tuple[list[object], str]]) -> None:
    """A packet is stopped if and only if some zone holds its address and none that does has its interface."""
    zones = [Zone(f"zone{number}", tuple(held), name) for number, (held, name) in enumerate(made)]  # type: ignore[arg-type]  # IPv4 alone
    table = prefixes(zones)
    for address in ADDRESSES:
        holding = [zone for zone in zones if any(address in network for network in zone.networks)]
        for interface in ("zt0", "zt1", "wg0", "eth0"):
            stopped = any(
                address in one.network
                and not any(address in inner for inner in one.inner)
                and interface not in one.interfaces
                for one in table
            )
            assert stopped == (bool(holding) and all(zone.interface != interface for zone in holding)), (
                address,
                interface,
            )


def test_one_rule_per_prefix() -> None:
    """Two zones with one prefix have one rule that lists both interfaces."""
    net = ip_network("192.168.1.0/24")
    (one,) = prefixes([Zone("office", (net,), "zt0"), Zone("plant", (net,), "zt1"), Zone("demo", (net,), "lo")])
    assert (one.network, one.interfaces, one.inner, one.family) == (net, ("zt0", "zt1"), (), 4)


def test_largest() -> None:
    """What is a part of another is left out, of either family."""
    nets = [ip_network(text) for text in ("10.0.0.0/8", "10.1.0.0/16", "11.0.0.0/8", "fd00::/8", "fd00::/64")]
    assert [str(net) for net in largest(nets)] == ["10.0.0.0/8", "11.0.0.0/8", "fd00::/8"]


@pytest.mark.parametrize(("pattern", "known"), [("zt0", "zt0"), ("zt*", "zt*"), ("zt?0", "zt*"), ("a?b*c", "a*")])
def test_literal(pattern: str, known: str) -> None:
    """nft knows names, and beginnings with `*`: another pattern becomes wider, never narrower."""
    assert literal(pattern) == known
