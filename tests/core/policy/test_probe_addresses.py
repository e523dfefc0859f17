"""Each network of each zone is looked at by one address: a host's, else one that a routing table has an answer for."""

from ipaddress import ip_address, ip_network

import pytest

from relay.core.policy import snapshot
from relay.core.policy.model import Host, Zone
from relay.core.policy.policy import build_policy
from relay.core.policy.probe_addresses import ProbeAddresses, samples

OFFICE = Zone("office", (ip_network("192.168.1.0/24"), ip_network("fdaa::/64")), "zt0", ip_address("172.18.0.200"))
PLANT = Zone("plant", (ip_network("192.168.1.0/24"),), "zt1")


def compiled(zones: list[Zone], hosts: list[Host]) -> list[str]:
    """The lines that the supervisor keeps."""
    return list(snapshot.dump(build_policy(version="1", zones=zones, hosts=hosts, groups={}, rules=[])))


def texts(sample: ProbeAddresses) -> list[list[str]]:
    """The addresses as text."""
    return [[str(address) for address in addresses] for addresses in sample.addresses]


def test_the_first_host_of_a_network_speaks_for_it() -> None:
    """A host stands before the network's first addresses; another zone's host of the same prefix does not."""
    hosts = [
        Host("other", "plant", ip_address("192.168.1.9")),
        Host("remote", "office", ip_address("192.168.1.201")),
        Host("second", "office", ip_address("192.168.1.50")),
    ]
    office, plant = samples(compiled([OFFICE, PLANT], hosts))
    assert (office.zone, plant.zone) == (OFFICE, PLANT)
    assert [addresses[0] for addresses in texts(office)] == ["192.168.1.201", "fdaa::1"]
    assert texts(plant)[0][0] == "192.168.1.9"


@pytest.mark.parametrize(
    ("network", "addresses"),
    [
        ("192.168.1.0/24", ["192.168.1.1", "192.168.1.2", "192.168.1.254"]),
        ("192.168.1.4/30", ["192.168.1.5", "192.168.1.6", "192.168.1.6"]),
        ("192.168.1.4/31", ["192.168.1.4"]),
        ("192.168.1.7/32", ["192.168.1.7"]),
        ("fdaa::/64", ["fdaa::1", "fdaa::2"]),
        ("fdaa::7/128", ["fdaa::7"]),
        ("0.0.0.0/0", []),
        ("::/0", []),
    ],
)
def test_without_a_host_the_first_addresses_are_asked(network: str, addresses: list[str]) -> None:
    """Never the network's own address; nothing where "everywhere" is meant."""
    (sample,) = samples(compiled([Zone("z", (ip_network(network),), "zt0")], []))
    assert texts(sample) == [addresses]


def test_no_policy_has_no_zones() -> None:
    """Before anything was applied there is nothing to look at."""
    assert samples(()) == ()


def test_further_hosts_do_not_replace_the_first() -> None:
    """Once every network of a zone has a host, later hosts are not examined."""
    hosts = [Host(f"h{number}", "plant", ip_address(f"192.168.1.{number}")) for number in (7, 8, 9)]
    (plant,) = samples(compiled([PLANT], hosts))
    assert texts(plant)[0][0] == "192.168.1.7"
