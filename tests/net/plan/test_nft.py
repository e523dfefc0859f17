"""Rules for nftables: loaded by nft, and narrow."""

from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.core.policy.model import Zone
from relay.net.plan import nft
from relay.net.plan.prefixes import prefixes
from relay.net.plan.relay_host import relay_machine
from tests.net.plan.shares import overlay, plan

OFFICE = Zone("office", (ip_network("192.168.1.0/24"),), "zt0", ip_address("172.18.0.200"))


def test_the_guard_names_interface_and_next_hop() -> None:
    """One rule rejects other interfaces, one rejects other next hops; packets on lo pass."""
    assert nft.guard(prefixes([OFFICE]), [OFFICE]) == [
        'oifname "lo" return',
        'ip daddr 192.168.1.0/24 oifname != "zt0" reject with icmpx type host-unreachable',
        'oifname "zt0" ip daddr 192.168.1.0/24 rt ip nexthop != 172.18.0.200 reject with icmpx type host-unreachable',
    ]


def test_a_pattern_that_nft_knows_only_wider_has_no_rule_about_its_next_hop() -> None:
    """`zt?0` becomes `zt*`, which may be another zone's interface with a gateway of its own."""
    zone = Zone("office", OFFICE.networks, "zt?0", OFFICE.gateway)
    assert not any("nexthop" in rule for rule in nft.guard(prefixes([zone]), [zone]))


def test_the_table_is_replaced_in_one_transaction() -> None:
    """The old table is deleted in the same file that makes the new one: at no moment is there none."""
    text = nft.table([nft.chain("guard", ["accept"])])
    assert text.index("delete table inet relay_net") < text.index("table inet relay_net {")


_OCTET = st.integers(0, 255)
_NETWORK = st.one_of(
    st.tuples(_OCTET, _OCTET, st.integers(16, 24)).map(lambda t: f"10.{t[0]}.0.0/{min(t[2], 16)}"),
    st.tuples(_OCTET, _OCTET).map(lambda t: f"192.168.{t[0]}.{t[1]}/32"),
    st.sampled_from(["10.0.0.0/8", "192.168.0.0/16", "192.168.0.0/17"]),
)
_INTERFACE = st.sampled_from(["zt0", "zt*", "wg?", "a.b-c@d", "tailscale0", "x*y?"])


@pytest.mark.system
@settings(max_examples=15, deadline=None)
@given(zones=st.lists(st.tuples(st.lists(_NETWORK, min_size=1, max_size=4, unique=True), _INTERFACE), max_size=5))
def test_rules_of_any_zones_load(zones: list[tuple[list[str], str]], world: Any) -> None:
    """Whatever the zones are, nft takes the relay's rules as they are printed, nested and equal networks too."""
    made = [
        overlay(f"z{number}", *networks, interface=interface, network="", relay="")
        for number, (networks, interface) in enumerate(zones)
    ]
    rules = "".join(file.text for file in relay_machine(plan(*made)).files if file.path.endswith(".nft"))
    machine = next(iter(world.machines.values()), None) or world.machine("rules").ready()
    machine.run("nft", "-c", "-f", "-", stdin=rules)
