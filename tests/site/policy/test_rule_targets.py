"""The entries of a rule's `to`: hosts, HOST.ZONE, zones, networks, addresses, patterns."""

from ipaddress import ip_address, ip_network

import pytest

from relay.core.policy.inventory import Inventory
from relay.core.policy.model import Host, Zone
from relay.errors import InputRejected
from relay.site.policy.rule_targets import TargetResolver

INVENTORY = Inventory()
INVENTORY.add_zone(Zone("office", (ip_network("192.168.1.0/24"),), "zt0"))
INVENTORY.add_zone(Zone("plant", (ip_network("10.0.0.0/8"), ip_network("192.168.1.0/24")), "wg0"))
INVENTORY.add_host(Host("remote", "office", ip_address("192.168.1.201")))
INVENTORY.add_host(Host("plc", "office", ip_address("192.168.1.7")))
INVENTORY.add_host(Host("plc", "plant", ip_address("10.0.0.7")))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("remote", ["office 192.168.1.201/32"]),
        ("plc.plant", ["plant 10.0.0.7/32"]),
        ("office", ["office 192.168.1.0/24"]),
        ("plant", ["plant 10.0.0.0/8", "plant 192.168.1.0/24"]),
        ("10.1.0.0/16", ["plant 10.1.0.0/16"]),
        ("192.168.1.0/25.office", ["office 192.168.1.0/25"]),
        ("10.0.0.8", ["plant 10.0.0.8/32"]),
        ("p*", ["office 192.168.1.7/32", "plant 10.0.0.7/32"]),
        ("*.plant", ["plant 10.0.0.7/32"]),
        ("x*", []),
    ],
)
def test_each_form_resolves_to_zone_and_network(text: str, expected: list[str]) -> None:
    """Only a pattern may match nothing."""
    pairs = TargetResolver(INVENTORY, set(), True).pairs(text)
    assert [f"{zone} {network}" for zone, network in pairs] == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("plc", "2 zones"),
        ("192.168.1.0/24", "is in 2 zones"),
        ("10.0.0.0/7", "is not wholly in any zone"),
        ("192.168.1.0/23.office", "host bits set"),
        ("remote:22", "has a port"),
        ("192.168.1.*", "is a pattern of addresses"),
        ("remot", "no host or zone 'remot'"),
    ],
)
def test_ambiguous_unknown_and_malformed_targets_are_refused(text: str, words: str) -> None:
    """A rule never covers something by guess."""
    with pytest.raises(InputRejected, match=words):
        TargetResolver(INVENTORY, set(), True).pairs(text)


def test_a_name_with_a_reported_fault_is_not_reported_again() -> None:
    """One mistake gives one fault."""
    assert TargetResolver(INVENTORY, {"remot"}, True).pairs("remot") == ()
    assert TargetResolver(INVENTORY, set(), False).pairs("remot") == ()
