"""At which addresses is a zone looked at, when nobody dials? One of each of its networks, a host where there is one."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_address, ip_network

from relay.core.policy.model import Address, Network, Zone

# A network as large as this is no LAN but "everything there": its first addresses mean nothing to a routing table
_SHORTEST_PREFIX = 8


@dataclass(frozen=True, slots=True)
class ProbeAddresses:
    """One zone and, for each of its networks, addresses of which the first that is not this machine's own is asked."""

    zone: Zone
    addresses: tuple[tuple[Address, ...], ...]


def samples(lines: Iterable[str]) -> tuple[ProbeAddresses, ...]:
    """The zones of a compiled policy (`core.policy.snapshot`), with their first host in each network, else first
    addresses.

    Raises ValueError, LookupError or TypeError for what is no compiled policy.
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
            found = hosts.setdefault(zone.name, {})
            if len(found) == len(zone.networks):
                continue
            address = ip_address(row[2])
            for network in zone.networks:
                if network not in found and address in network:
                    found[network] = address
        elif kind != "head":
            break  # what comes after hosts says nothing about places
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
    yield network[1]  # not the first: it is the network's own, or any router (RFC 4291 2.6.1)
    yield network[2]
    if isinstance(network, IPv4Network):
        yield network[-2]
