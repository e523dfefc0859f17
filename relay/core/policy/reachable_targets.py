"""The targets that a person may reach now, for `add-key`, `client-config` and the text that `ssh relay` shows.

Not on the path of a forward: it examines every host. Ports are split at each boundary of a rule's port ranges, so the
result for a host equals the decision for each of its ports. A network is listed if it is allowed as a whole; deny
rules for a part of it are applied when a forward is opened.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network

from relay.core.policy import forbidden_addresses, inventory, time_conditions
from relay.core.policy.model import Address, Destination, Host, Network
from relay.core.policy.policy import Policy
from relay.core.policy.rule_index import merge_ranges, rule_numbers

_NOWHERE: frozenset[Address] = frozenset()


@dataclass(frozen=True, slots=True)
class Reachable:
    """A host or network and the ports of it that a person may reach now."""

    name: str  # as a user types it: a host's name, NAME.ZONE, ADDRESS.ZONE; or a network with its zone
    host: Host | None  # None for an address or network that is not in the inventory
    ports: tuple[tuple[int, int], ...]

    def __str__(self) -> str:
        return f"{self.name}:{time_conditions.ports_text(self.ports)}"


def reach(policy: Policy, person: str, source: Address | None, now: int) -> Iterator[Reachable]:
    """The hosts, then the other addresses and networks, that `person` may reach at `now` (Unix seconds).

    `source` None is an address that no rule names.
    """
    index = policy.index
    mine = index.for_person(person)
    allows = mine & ~index.deny
    if not policy.version or not allows:
        return
    local_now = time_conditions.local(now, policy.offsets)

    def ports(zone: str, network: Network) -> tuple[tuple[int, int], ...]:
        here = mine & index.for_network(zone, network)
        if not here & allows:
            return ()
        open_ranges = []
        single = network.prefixlen == network.max_prefixlen
        for low, high in _segments(policy):
            mask = here & index.for_port(low)
            if not mask or index.first_match(mask & index.deny, source, now, local_now)[0] >= 0:
                continue
            if index.first_match(mask & allows, source, now, local_now)[0] < 0:
                continue
            destination = Destination(zone, network.network_address, low)
            if low == forbidden_addresses.CONTROL_PORT or (single and policy.forbidden.reason(destination, _NOWHERE)):
                continue
            open_ranges.append((low, high))
        return merge_ranges(open_ranges)

    seen: set[tuple[str, str]] = set()
    for host in sorted(policy.inventory.hosts.values(), key=lambda host: (host.name, host.zone)):
        network = ip_network(host.address)
        seen.add((host.zone, str(network)))
        open_ports = ports(host.zone, network)
        if open_ports:
            yield Reachable(policy.inventory.spelling(host), host, open_ports)
    for number in rule_numbers(allows):
        for zone, network in index.rule(number).to:
            if (zone, str(network)) in seen:
                continue
            seen.add((zone, str(network)))
            open_ports = ports(zone, network)
            if open_ports:
                single = network.prefixlen == network.max_prefixlen
                name = f"{network.network_address}.{zone}" if single else inventory.pair_text(zone, network)
                yield Reachable(name, None, open_ports)


def _segments(policy: Policy) -> Iterator[tuple[int, int]]:
    """All ports as ranges within which the same rules apply and all or no ports are forbidden."""
    starts = {1, *policy.index.port_starts[1:]}
    for port in (forbidden_addresses.CONTROL_PORT, *(port for _, port in policy.forbidden.listeners)):
        starts |= {port, port + 1}
    edges = sorted(start for start in starts if 1 <= start <= 65535)
    return zip(edges, [edge - 1 for edge in edges[1:]] + [65535], strict=True)
