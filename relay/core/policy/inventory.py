"""The hosts and zones of a site, and the resolution of targets to destinations.

A host is identified by (name, zone): one file may have `remote` in the zone office and another `remote` in the zone
plant. `NAME.ZONE` and `LITERAL.ZONE` always work; a name or a literal alone works if it is unambiguous. DNS is never
asked.
"""

from collections.abc import Sequence

from relay.core.policy import forbidden_addresses
from relay.core.policy.model import Address, Decision, Destination, Host, Network, Reason, Zone
from relay.core.policy.target import Target, place_fault
from relay.errors import InputRejected

Clash = tuple[Host | Zone, Host | Zone, str]


def clashes(zones: Sequence[Zone], hosts: Sequence[Host]) -> tuple[Clash, ...]:
    """All pairs of places that the same text would name: (first, second, the text), in the order given.

    These are the same (name, zone) twice, a host named like a zone, a dotted host name equal to another host's
    NAME.ZONE, and two zones of one name. The same host name in two zones is no clash: its NAME.ZONE tells them apart.
    """
    pairs: list[Clash] = []
    named: dict[str, Zone] = {}
    for zone in zones:
        if zone.name in named:
            pairs.append((named[zone.name], zone, zone.name))
        named.setdefault(zone.name, zone)
    qualified: dict[str, Host] = {}
    for host in hosts:
        text = f"{host.name}.{host.zone}"
        if text in qualified:
            pairs.append((qualified[text], host, text))
        qualified.setdefault(text, host)
    for host in hosts:
        if host.name in named:
            pairs.append((named[host.name], host, host.name))
        if host.name in qualified:
            pairs.append((qualified[host.name], host, host.name))
        text = f"{host.name}.{host.zone}"
        if text in named:
            pairs.append((named[text], host, text))
    return tuple(pairs)


def in_zone(zone: Zone, address: Address) -> bool:
    """Whether the address is in one of the zone's networks."""
    return any(address in network for network in zone.networks)


class Inventory:
    """The zones and hosts of one policy. Filled by `add_zone` and `add_host`, then only read."""

    __slots__ = ("_bare", "_covers", "_public", "hosts", "zones")

    def __init__(self, public: str = "") -> None:
        """`public` is the relay's own public name, which is refused as a target; "" without one."""
        self.zones: dict[str, Zone] = {}
        self.hosts: dict[str, Host] = {}  # by NAME.ZONE
        self._bare: dict[str, str] = {}  # name to its zones, separated by spaces
        # per IP version: shift to prefix to zone names, so that a look-up does not loop over all zones
        self._covers: dict[int, dict[int, dict[int, str]]] = {4: {}, 6: {}}
        self._public = public

    def add_zone(self, zone: Zone) -> None:
        """Add a zone. Raises InputRejected if its name is invalid or taken."""
        fault = place_fault(zone.name)
        if fault or zone.name in self.zones:
            raise InputRejected(fault or f"the zone {zone.name} is defined twice", "rename or remove one")
        self.zones[zone.name] = zone
        for network in zone.networks:
            shift = network.max_prefixlen - network.prefixlen
            prefixes = self._covers[network.version].setdefault(shift, {})
            prefix = int(network.network_address) >> shift
            prefixes[prefix] = f"{prefixes[prefix]} {zone.name}" if prefix in prefixes else zone.name

    def add_host(self, host: Host) -> None:
        """Add a host. Raises InputRejected if its name is invalid or taken, or its address is not in its zone."""
        key = f"{host.name}.{host.zone}"
        fault = place_fault(host.name)
        if fault or key in self.hosts:
            raise InputRejected(fault or f"the host {key} is defined twice", "rename or remove one")
        if not self.contains(host.zone, host.address):
            raise InputRejected(f"the host {key} is outside of its zone", "correct its address or the zone's networks")
        self.hosts[key] = host
        self._bare[host.name] = f"{self._bare[host.name]} {host.zone}" if host.name in self._bare else host.zone

    def contains(self, zone: str, address: Address) -> bool:
        """Whether the zone exists and contains the address."""
        return zone in self._zones_of(address)

    def resolve(self, target: Target) -> Destination | Decision:
        """The destination of a target, or its denial: unknown, ambiguous (with names to use) or forbidden."""
        if target.address is not None:
            return self._resolve_literal(target, target.address)
        name = target.name
        if name == self._public:
            return Decision(reason=Reason.FORBIDDEN_ADDRESS, detail=f"{name} is the public name of this relay")
        zones = self._bare.get(name, "")
        if " " in zones:
            choices = tuple(f"{name}.{zone}" for zone in sorted(zones.split()))
            detail = f"{name} is a host of {len(choices)} zones"
            return Decision(reason=Reason.AMBIGUOUS_TARGET, detail=detail, choices=choices)
        host = self.hosts.get(f"{name}.{zones}" if zones else name)
        if host is None:
            return Decision(reason=Reason.UNKNOWN_TARGET, detail=f"{name} is not a host of the inventory")
        return Destination(host.zone, host.address, target.port)

    def spelling(self, host: Host) -> str:
        """The shortest unambiguous name of a host: its name if unique, else NAME.ZONE."""
        return f"{host.name}.{host.zone}" if " " in self._bare[host.name] else host.name

    def _resolve_literal(self, target: Target, address: Address) -> Destination | Decision:
        zones = self._zones_of(address)
        if target.zone:
            if target.zone in zones:
                return Destination(target.zone, address, target.port)
            known = (
                f"is not in the zone {target.zone}" if target.zone in self.zones else f"names no zone: {target.zone}"
            )
            return Decision(reason=Reason.UNKNOWN_TARGET, detail=f"{target.host} {known}")
        if len(zones) == 1:
            return Destination(zones[0], address, target.port)
        if zones:
            choices = tuple(f"{address}.{zone}" for zone in zones)
            detail = f"{address} is in {len(zones)} zones"
            return Decision(reason=Reason.AMBIGUOUS_TARGET, detail=detail, choices=choices)
        kind = forbidden_addresses.forbidden_kind(address)
        if kind:
            return Decision(reason=Reason.FORBIDDEN_ADDRESS, detail=f"{address} is {kind}")
        return Decision(reason=Reason.UNKNOWN_TARGET, detail=f"{address} is in no zone")

    def _zones_of(self, address: Address) -> tuple[str, ...]:
        value = int(address)
        zones: set[str] = set()
        for shift, prefixes in self._covers[address.version].items():
            names = prefixes.get(value >> shift)
            if names:
                zones.update(names.split())
        return tuple(sorted(zones))


def pair_text(zone: str, network: Network) -> str:
    """A network and its zone as text: `192.168.1.50 in office`, `192.168.1.0/24 in office`."""
    single = network.prefixlen == network.max_prefixlen
    return f"{network.network_address if single else network} in {zone}"
