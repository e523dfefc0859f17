"""Who may wait at the door, and who holds how many forwards? Exact, because the supervisor alone counts.

Before log-in connections are bounded in all and per source (an IPv4 address or an IPv6 /64). When the house is
full, the oldest of the fullest source goes, never the newcomer: one source cannot keep all others out. When only its
source is full, a newcomer waits in line, as a descriptor and nothing more: an office behind one address may start a
hundred `ssh` at once. If nobody moves, whoever of the source has idled longest gives its place.
"""

import socket
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from relay.core.settings import Limits

LINE_PER_SOURCE = 200  # sockets of one source that may wait: a large office that starts its day


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
        self._since: dict[str, float] = {}
        self._per_source: Counter[str] = Counter()

    def enter(self, connection: str, source: str, limits: Limits, now: float = 0.0) -> tuple[bool, str | None]:
        """Whether the newcomer may stay, and which connection has to go for it (None: no one). `now` in seconds."""
        if self._per_source[source] >= limits.unauthenticated_per_source:
            return False, None
        evicted = None
        if len(self._waiting) >= limits.unauthenticated:
            fullest = max(self._per_source, key=self._per_source.__getitem__)
            evicted = next(number for number, origin in self._waiting.items() if origin == fullest)
            self.leave(evicted)
        self._waiting[connection] = source
        self._since[connection] = now
        self._per_source[source] += 1
        return True, evicted

    def idler(self, source: str, before: float) -> str | None:
        """The connection of this source that has been here longest, if it came before that time."""
        oldest = next((number for number, origin in self._waiting.items() if origin == source), None)
        return oldest if oldest is not None and self._since[oldest] < before else None

    def leave(self, connection: str) -> None:
        """It has proven its key, or is gone."""
        source = self._waiting.pop(connection, None)
        self._since.pop(connection, None)
        if source is not None:
            self._per_source[source] -= 1
            if not self._per_source[source]:
                del self._per_source[source]

    def room(self, source: str, limits: Limits) -> bool:
        """Whether this source has a place left."""
        return self._per_source[source] < limits.unauthenticated_per_source

    def __len__(self) -> int:
        return len(self._waiting)


class Line:
    """Accepted sockets whose source is full, oldest first. Each costs a descriptor and no memory of a worker."""

    def __init__(self) -> None:
        self._sockets: deque[tuple[socket.socket, str, int, float]] = deque()
        self._per_source: Counter[str] = Counter()

    def has_room(self, source: str) -> bool:
        """Whether one more of this source may wait: one source cannot fill the line."""
        return self._per_source[source] < LINE_PER_SOURCE

    def join(self, sock: socket.socket, address: str, port: int, now: float) -> None:
        """Wait. The socket is the line's from now on."""
        self._sockets.append((sock, address, port, now))
        self._per_source[source_of(address)] += 1

    def next(self, may: Callable[[str], bool]) -> tuple[socket.socket, str, int] | None:
        """Take out the first whose source has room, if there is one."""
        for index, (sock, address, port, _) in enumerate(self._sockets):
            if may(source_of(address)):
                del self._sockets[index]
                self._left(address)
                return sock, address, port
        return None

    def late(self, before: float) -> list[tuple[str, int]]:
        """Close and give back those that have waited since before that time."""
        gone = []
        while self._sockets and self._sockets[0][3] < before:
            sock, address, port, _ = self._sockets.popleft()
            sock.close()
            self._left(address)
            gone.append((address, port))
        return gone

    def sources(self) -> set[str]:
        """The sources that somebody waits for."""
        return set(self._per_source)

    def _left(self, address: str) -> None:
        source = source_of(address)
        self._per_source[source] -= 1
        if not self._per_source[source]:
            del self._per_source[source]

    def __len__(self) -> int:
        return len(self._sockets)


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
