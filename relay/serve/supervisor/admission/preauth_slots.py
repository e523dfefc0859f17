"""Who may wait at the door, and who holds how many forwards? Exact, because the supervisor alone counts.

Before log-in connections are bounded in all, per source (an IPv4 address or an IPv6 /64) and per network (/24 or
/48). When the house is full, the oldest of the fullest source goes, never the newcomer: one source cannot keep all
others out. When only its source is full, or too many come at once, a newcomer waits in line, as a descriptor and
nothing more: an office behind one address may start a hundred `ssh` at once. If nobody moves, whoever of the source
has idled longest gives its place.
"""

from collections import Counter, OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from relay.core.settings import Limits


@lru_cache(maxsize=4096)  # of a flood each is asked for a dozen times
def source_of(address: str) -> str:
    """What is counted as one source: the IPv4 address (also when mapped into IPv6), or the /64 of an IPv6 one."""
    parsed: IPv4Address | IPv6Address = ip_address(address.split("%", maxsplit=1)[0])
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is None:
            return str(IPv6Network((parsed, 64), strict=False))
        parsed = parsed.ipv4_mapped
    return str(parsed)


@lru_cache(maxsize=4096)
def network_of(source: str) -> str:
    """The network that a source belongs to: the /24 of IPv4, the /48 of IPv6."""
    return str(ip_network((source.partition("/")[0], 48 if ":" in source else 24), strict=False))


class PreauthSlots:
    """Connections that have not proven a key."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, str] = OrderedDict()  # connection -> source, oldest first
        self._since: dict[str, float] = {}
        self._per_source: Counter[str] = Counter()
        self._per_network: Counter[str] = Counter()

    def enter(self, connection: str, source: str, limits: Limits, now: float = 0.0) -> tuple[bool, str | None]:
        """Whether the newcomer may stay, and which connection has to go for it (None: no one). `now` in seconds."""
        if not self.room(source, limits):
            return False, None
        evicted = None
        if len(self._waiting) >= limits.unauthenticated:
            fullest = max(self._per_source, key=self._per_source.__getitem__)
            evicted = next(number for number, origin in self._waiting.items() if origin == fullest)
            self.leave(evicted)
        self._waiting[connection] = source
        self._since[connection] = now
        self._per_source[source] += 1
        self._per_network[network_of(source)] += 1
        return True, evicted

    def idler(self, source: str, limits: Limits, before: float) -> str | None:
        """The connection that gives its place to one of this source, if there is one that came before that time.

        The source's own oldest one; where the network is full, the oldest one of the network's fullest source.
        """
        if self._per_source[source] < limits.unauthenticated_per_source:
            network = network_of(source)
            near = [other for other in self._per_source if network_of(other) == network]
            source = max(near, key=self._per_source.__getitem__, default=source)
        oldest = next((number for number, origin in self._waiting.items() if origin == source), None)
        return oldest if oldest is not None and self._since[oldest] < before else None

    def leave(self, connection: str) -> None:
        """It has proven its key, or is gone."""
        source = self._waiting.pop(connection, None)
        self._since.pop(connection, None)
        if source is not None:
            for counter, name in ((self._per_source, source), (self._per_network, network_of(source))):
                counter[name] -= 1
                if not counter[name]:
                    del counter[name]

    def room(self, source: str, limits: Limits) -> bool:
        """Whether this source and its network have a place left."""
        return (
            self._per_source[source] < limits.unauthenticated_per_source
            and self._per_network[network_of(source)] < limits.unauthenticated_per_network
        )

    def fullest(self) -> tuple[tuple[str, int], tuple[str, int]]:
        """The source and the network with the most connections, and how many."""
        return _most(self._per_source), _most(self._per_network)

    def __len__(self) -> int:
        return len(self._waiting)


def _most(counter: Counter[str]) -> tuple[str, int]:
    return max(counter.items(), key=lambda item: item[1], default=("", 0))


@dataclass(frozen=True, slots=True)
class ForwardSlot:
    """What one forward takes up."""

    worker: str
    connection: str
    person: str
    key: str
    target: str


class ForwardSlots:
    """The forwards that are open or being opened, and how many each person, key and target has."""

    def __init__(self) -> None:
        self.held: dict[str, ForwardSlot] = {}
        self._count: Counter[tuple[str, str]] = Counter()

    def take(self, forward: str, slot: ForwardSlot, limits: Limits | None) -> str:
        """Take a slot: "" when it was free, else which limit is reached. Without `limits` it is taken in any case.

        What is said begins with `person`, `key` or `target` and its name.
        """
        if forward in self.held:
            return ""
        if limits is not None:
            for kind, name, most in (
                ("person", slot.person, limits.forwards_per_person),
                ("key", slot.key, limits.forwards_per_key),
                ("target", slot.target, limits.forwards_per_target),
            ):
                if self._count[kind, name] >= most:
                    return f"{kind} {name} has {most} forwards, which is the limit"
        self.held[forward] = slot
        self._count.update(_names(slot))
        return ""

    def free(self, forward: str) -> None:
        """The forward is closed or was never opened."""
        slot = self.held.pop(forward, None)
        if slot is not None:
            for name in _names(slot):
                self._count[name] -= 1
                if not self._count[name]:
                    del self._count[name]

    def most(self, kind: str) -> tuple[str, int]:
        """Which person, key or target has the most forwards, and how many."""
        return _most(Counter({name: count for (of, name), count in self._count.items() if of == kind}))

    def fullest_connection(self) -> tuple[str, int]:
        """The connection with the most forwards, and how many."""
        return _most(Counter(slot.connection for slot in self.held.values()))


class SessionCounts:
    """The connections that have proven a key, and how many each person and key has."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[str, str]] = {}
        self._count: Counter[tuple[str, str]] = Counter()

    def enter(self, connection: str, person: str, key: str, limits: Limits | None) -> str:
        """Count it: "" when it may stay, else which limit is reached. Without `limits` it is counted in any case."""
        if connection in self._held:
            return ""
        if limits is not None:
            for kind, name, most in (
                ("person", person, limits.connections_per_person),
                ("key", key, limits.connections_per_key),
            ):
                if self._count[kind, name] >= most:
                    return f"{kind} {name} has {most} connections, which is the limit"
        self._held[connection] = person, key
        self._count.update((("person", person), ("key", key)))
        return ""

    def leave(self, connection: str) -> None:
        """It is gone."""
        held = self._held.pop(connection, None)
        if held is not None:
            for name in (("person", held[0]), ("key", held[1])):
                self._count[name] -= 1
                if not self._count[name]:
                    del self._count[name]

    def most(self, kind: str) -> tuple[str, int]:
        """Which person or key has the most connections, and how many."""
        return _most(Counter({name: count for (of, name), count in self._count.items() if of == kind}))

    def __contains__(self, connection: str) -> bool:
        return connection in self._held

    def __len__(self) -> int:
        return len(self._held)


def _names(slot: ForwardSlot) -> list[tuple[str, str]]:
    return [("person", slot.person), ("key", slot.key), ("target", slot.target)]
