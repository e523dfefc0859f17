"""What may a person reach now? For `add-key`, `client-config` and the text that `ssh relay` shows.

Not on the path of a forward: it looks at every host. Ports are split wherever any rule begins or ends to apply, so for
a host the answer is exactly what each judgement by the rules would be. A network is listed when it is allowed as a
whole; deny rules about single addresses in it, or about a part of it, are judged forward by forward.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_network

from relay.core.policy import forbidden_addresses, inventory, time_conditions
from relay.core.policy.model import Address, Destination, Host, Network
from relay.core.policy.policy import Policy
from relay.core.policy.rule_index import merged, numbers

_NOWHERE: frozenset[Address] = frozenset()


@dataclass(frozen=True, slots=True)
class Reachable:
    """A place and the ports of it that this person may reach now."""

    name: str  # as it is typed: a host's name, NAME.ZONE, ADDRESS.ZONE; or a network with its zone
    host: Host | None  # None for an address or a network that is no host of the inventory
    ports: tuple[tuple[int, int], ...]

    def __str__(self) -> str:
        return f"{self.name}:{time_conditions.ports_text(self.ports)}"


def reach(policy: Policy, person: str, source: Address | None, now: int) -> Iterator[Reachable]:
    """The hosts, then the addresses and networks without a named host, that `person` may reach at `now` (Unix seconds).

    `source` None: from an address that no rule names. Nothing is reached by an empty policy, or without an allow rule.
    """
    index = policy.tables
    mine = index.of(person)
    allows = mine & ~index.deny
    if not policy.version or not allows:
        return
    local_now = time_conditions.local(now, policy.offsets)

    def ports(zone: str, network: Network) -> tuple[tuple[int, int], ...]:
        here = mine & index.covering(zone, network)
        if not here & allows:
            return ()
        found = []
        single = network.prefixlen == network.max_prefixlen
        for low, high in _segments(policy):
            mask = here & index.ports(low)
            if not mask or index.first(mask & index.deny, source, now, local_now)[0] >= 0:
                continue
            if index.first(mask & allows, source, now, local_now)[0] < 0:
                continue
            destination = Destination(zone, network.network_address, low)
            if low == forbidden_addresses.CONTROL_PORT or (single and policy.forbidden.words(destination, _NOWHERE)):
                continue
            found.append((low, high))
        return merged(found)

    seen: set[tuple[str, str]] = set()
    for host in sorted(policy.inventory.hosts.values(), key=lambda host: (host.name, host.zone)):
        network = ip_network(host.address)
        seen.add((host.zone, str(network)))
        open_ports = ports(host.zone, network)
        if open_ports:
            yield Reachable(policy.inventory.spelling(host), host, open_ports)
    for number in numbers(allows):
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
    """All ports in ranges, in each of which the same rules apply and none or all of it is forbidden by number."""
    starts = {1, *policy.tables.port_starts[1:]}
    for port in (forbidden_addresses.CONTROL_PORT, *(port for _, port in policy.forbidden.listeners)):
        starts |= {port, port + 1}
    edges = sorted(start for start in starts if 1 <= start <= 65535)
    return zip(edges, [edge - 1 for edge in edges[1:]] + [65535], strict=True)
