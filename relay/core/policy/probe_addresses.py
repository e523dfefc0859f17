"""Sample addresses of each zone, at which its routes are checked without a forward."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_address, ip_network

from relay.core.policy.model import Address, Network, Zone

# A larger network stands for "everything", like 0.0.0.0/0: its first addresses are not hosts of a LAN
_SHORTEST_PREFIX = 8


@dataclass(frozen=True, slots=True)
class ProbeAddresses:
    """A zone and, for each of its networks, candidate addresses; the first that is not this machine's own is probed."""

    zone: Zone
    addresses: tuple[tuple[Address, ...], ...]


def samples(lines: Iterable[str]) -> tuple[ProbeAddresses, ...]:
    """The zones in a snapshot (`core.policy.snapshot`), each network with its first host, else its first addresses.

    Raises ValueError, LookupError or TypeError for an invalid snapshot.
    """
    zones: dict[str, Zone] = {}
    hosts: dict[str, dict[Network, Address]] = {}
    for line in lines:
        kind, *row = json.loads(line)
        if kind == "zone":
            name, networks, interface, gateway = row
            parsed = tuple(ip_network(network) for network in networks)
            zones[name] = Zone(name, parsed, interface, None if gateway is None else ip_address(gateway))
        elif kind == "host":
            zone = zones[row[1]]
            first_hosts = hosts.setdefault(zone.name, {})
            if len(first_hosts) == len(zone.networks):
                continue
            address = ip_address(row[2])
            for network in zone.networks:
                if network not in first_hosts and address in network:
                    first_hosts[network] = address
        elif kind != "head":
            break  # zones and hosts come first
    return tuple(
        ProbeAddresses(
            zone, tuple(tuple(_addresses(network, hosts.get(zone.name, {}).get(network))) for network in zone.networks)
        )
        for zone in zones.values()
    )


def _addresses(network: Network, host: Address | None) -> Iterator[Address]:
    if host is not None:
        yield host
    if network.prefixlen < _SHORTEST_PREFIX:
        return
    if network.max_prefixlen - network.prefixlen < 2:
        yield network[0]
        return
    yield network[1]  # not the first: the network address, or the subnet-router anycast address (RFC 4291 2.6.1)
    yield network[2]
    if isinstance(network, IPv4Network):
        yield network[-2]
