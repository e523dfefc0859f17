"""Who may wait at the door, and who holds how many forwards? Exact, because the supervisor alone counts.

Before log-in connections are bounded in all and per source (an IPv4 address or an IPv6 /64). When the house is
full, the oldest of the fullest source goes, never the newcomer: one source cannot keep all others out.
"""

from collections import Counter, OrderedDict
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from relay.core.settings import Limits


def source_of(address: str) -> str:
    """What is counted as one source: the IPv4 address (also when mapped into IPv6), or the /64 of an IPv6 one."""
    parsed: IPv4Address | IPv6Address = ip_address(address.split("%", maxsplit=1)[0])
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is None:
            return str(IPv6Network((parsed, 64), strict=False))
        parsed = parsed.ipv4_mapped
    return str(parsed)


class Door:
    """Connections that have not proven a key."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, str] = OrderedDict()  # connection -> source, oldest first
        self._per_source: Counter[str] = Counter()

    def enter(self, connection: str, source: str, limits: Limits) -> tuple[bool, str | None]:
        """Whether the newcomer may stay, and which connection has to go for it (None: no one)."""
        if self._per_source[source] >= limits.unauthenticated_per_source:
            return False, None
        evicted = None
        if len(self._waiting) >= limits.unauthenticated:
            fullest = max(self._per_source, key=self._per_source.__getitem__)
            evicted = next(number for number, origin in self._waiting.items() if origin == fullest)
            self.leave(evicted)
        self._waiting[connection] = source
        self._per_source[source] += 1
        return True, evicted

    def leave(self, connection: str) -> None:
        """It has proven its key, or is gone."""
        source = self._waiting.pop(connection, None)
        if source is not None:
            self._per_source[source] -= 1
            if not self._per_source[source]:
                del self._per_source[source]

    def __len__(self) -> int:
        return len(self._waiting)


@dataclass(frozen=True, slots=True)
class Slot:
    """What one forward takes up."""

    worker: str
    connection: str
    person: str
    key: str
    target: str


class Slots:
    """The forwards that are open or being opened, and how many each person, key and target has."""

    def __init__(self) -> None:
        self.held: dict[str, Slot] = {}
        self._count: Counter[tuple[str, str]] = Counter()

    def take(self, forward: str, slot: Slot, limits: Limits | None) -> str:
        """Take a slot: "" when it was free, else which limit is reached. Without `limits` it is taken in any case."""
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


def _names(slot: Slot) -> list[tuple[str, str]]:
    return [("person", slot.person), ("key", slot.key), ("target", slot.target)]
