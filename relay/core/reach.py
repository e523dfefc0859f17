"""What may a person reach now? For `add-key`, `client-config` and the text that `ssh relay` shows.

Not on the path of a forward: it looks at every host. Each answer is a judgement of `Policy.judge_person` for the
first port of a range that a matching allow rule names, so it can never promise what would be refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from relay.core import tables, when
from relay.core.policy import Policy
from relay.core.rules import Address, Destination, Host

_RULES_MOST = 256  # allow rules looked at per place: more of them say nothing new to a reader


@dataclass(frozen=True, slots=True)
class Reachable:
    """A place and the ports of it that this person may reach now."""

    name: str  # as it is typed: a host's name, NAME.ZONE, or a network with its zone
    host: Host | None  # None for a whole network
    ports: tuple[tuple[int, int], ...]

    def __str__(self) -> str:
        return f"{self.name}:{when.ports_text(self.ports)}"


def reach(policy: Policy, person: str, source: Address | None, now: int) -> Iterator[Reachable]:
    """The hosts, then the networks without a named host in them, that `person` may reach at `now` (Unix seconds).

    `source` None: from an address that no rule names. Nothing is reached by an empty policy.
    """
    mine = policy.tables.of(person) & ~policy.tables.deny
    named: set[tuple[str, Address]] = set()
    for host in sorted(policy.inventory.hosts.values(), key=lambda host: (host.name, host.zone)):
        named.add((host.zone, host.address))
        ports = _ports(policy, person, source, now, host.zone, host.address, mine)
        if ports:
            yield Reachable(policy.inventory.spelling(host), host, ports)
    seen: set[tuple[str, str]] = set()
    for number in _numbers(mine):
        for zone, network in policy.tables.rule(number).to:
            if network.num_addresses == 1 and (zone, network.network_address) in named:
                continue
            if (zone, str(network)) in seen:
                continue
            seen.add((zone, str(network)))
            # the network's first usable address stands for it; deny rules inside it are judged forward by forward
            first = network.network_address + (1 if network.num_addresses > 2 else 0)
            ports = _ports(policy, person, source, now, zone, first, mine)
            if ports:
                single = network.num_addresses == 1
                yield Reachable(str(network.network_address) if single else f"{network} in {zone}", None, ports)


def _ports(
    policy: Policy, person: str, source: Address | None, now: int, zone: str, address: Address, mine: int
) -> tuple[tuple[int, int], ...]:
    ranges = {
        (low, high)
        for number in _numbers(mine & policy.tables.at(zone, address))
        for low, high in policy.tables.record(number)[tables.PORTS]
    }
    return tuple(
        (low, high)
        for low, high in sorted(ranges)
        if policy.judge_person(person, source, Destination(zone, address, low), now).allowed
    )


def _numbers(mask: int) -> Iterator[int]:
    for _ in range(_RULES_MOST):
        if not mask:
            return
        bit = mask & -mask
        yield bit.bit_length() - 1
        mask ^= bit
