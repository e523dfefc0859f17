"""Who may wait at the door, and who holds how many forwards? Exact, because the supervisor alone counts.

Before log-in connections are bounded in all, per source (an IPv4 address or an IPv6 /64) and per network (/24 or
/48). When the house is full, the oldest of the fullest source goes, never the newcomer: one source cannot keep all
others out. When only its source is full, or too many come at once, a newcomer waits in line, as a descriptor and
nothing more: an office behind one address may start a hundred `ssh` at once. If nobody moves, whoever of the source
has idled longest gives its place.
"""

import socket
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

from relay.core.settings import Limits

LINE_PER_SOURCE = 200  # sockets of one source that may wait: a large office that starts its day; then its oldest goes
PASSED_OVER = 9  # others before one of a penalised source has his turn: a flood of strangers does not close that lane
LINE_PENALISED = 10  # of a penalised source: whoever comes takes the place of a random one


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


class Door:
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


class Standing(Enum):
    """How a source has behaved lately."""

    PROVEN = "proven"  # a key was proven there
    PLAIN = "plain"
    PENALISED = "penalised"


@dataclass(eq=False, slots=True)
class Guest:
    """One accepted socket that nobody has read from."""

    sock: socket.socket
    address: str
    port: int
    since: float
    source: str = field(init=False)

    def __post_init__(self) -> None:
        self.source = source_of(self.address)


class _Lane:
    """The waiting sockets of all sources of one standing. Whose turn is next, and who has most, is known at once."""

    def __init__(self) -> None:
        self.sources: OrderedDict[str, deque[Guest]] = OrderedDict()  # whose turn is next comes first
        self._sized: dict[int, OrderedDict[str, None]] = {}  # how many wait -> the sources with so many
        self._most = 0

    def put(self, source: str, waiting: deque[Guest]) -> None:
        """A source with those of it that wait, behind the others."""
        self.sources[source] = waiting
        self._resize(source, 0, len(waiting))

    def add(self, guest: Guest) -> None:
        """One more."""
        waiting = self.sources.setdefault(guest.source, deque())
        waiting.append(guest)
        self._resize(guest.source, len(waiting) - 1, len(waiting))

    def take(self, source: str, index: int) -> Guest:
        """Take that one out; its source is last in turn now."""
        waiting = self.sources[source]
        guest = waiting[index]
        del waiting[index]
        self._resize(source, len(waiting) + 1, len(waiting))
        if waiting:
            self.sources.move_to_end(source)
        else:
            del self.sources[source]
        return guest

    def pull(self, source: str) -> deque[Guest]:
        """Take the whole source out."""
        waiting = self.sources.pop(source)
        self._resize(source, len(waiting), 0)
        return waiting

    def fullest(self) -> tuple[int, str]:
        """How many wait of the source with the most, and which that is."""
        while self._most and not self._sized.get(self._most):
            self._most -= 1
        return (self._most, next(iter(self._sized[self._most]))) if self._most else (0, "")

    def _resize(self, source: str, before: int, after: int) -> None:
        if before:
            del self._sized[before][source]
            if not self._sized[before]:
                del self._sized[before]
        if after:
            self._sized.setdefault(after, OrderedDict())[source] = None
            self._most = max(self._most, after)


class Line:
    """Accepted sockets that wait to be let in. Each costs a descriptor and no memory of a worker.

    Sources take turns, and so do those where a key was lately proven with the others: neither a crowd of strangers
    nor one bad job can make everybody else wait for long.
    """

    def __init__(self, draw: Callable[[int], int], standing: Callable[[str], Standing]) -> None:
        """`draw(n)` gives a random number below n; `standing` how a source has behaved."""
        self._draw = draw
        self._standing = standing
        self._lanes = {kind: _Lane() for kind in Standing}
        self._lane_of: dict[str, Standing] = {}
        self._count = 0
        self._proven_next = True
        self._passed_over = 0  # turns since one of a penalised source had his

    def join(self, guest: Guest, limits: Limits) -> Guest | None:
        """Wait. Gives back who has to go instead: its socket is the caller's again.

        That is the oldest of the fullest source, be it the newcomer's own; of a penalised source it is drawn by lot,
        and may be the newcomer.
        """
        standing = self._standing(guest.source)
        lane = self._lane(guest.source, standing)
        waiting = lane.sources.get(guest.source, ())
        if standing is Standing.PENALISED and len(waiting) >= LINE_PENALISED:
            out = self._draw(len(waiting) + 1)  # each of those who came has the same chance
            if out == len(waiting):
                return guest
            gone = lane.take(guest.source, out)
            lane.add(guest)
            return gone
        if len(waiting) >= LINE_PER_SOURCE:
            gone = lane.take(guest.source, 0)
            lane.add(guest)
            return gone
        lane.add(guest)
        self._lane_of[guest.source] = standing
        self._count += 1
        if self._count <= limits.unauthenticated:
            return None
        # one place more than there are: of the fullest source, and of those where a key was proven only if need be
        others = (self._lanes[kind].fullest() for kind in (Standing.PLAIN, Standing.PENALISED))
        count, fullest = max(others, key=lambda lane: lane[0])
        return self._take(fullest if count else self._lanes[Standing.PROVEN].fullest()[1], 0)

    def next(self, may: Callable[[str], bool]) -> Guest | None:
        """Take out the next one whose source `may` come in; None when nobody may."""
        order = [Standing.PROVEN, Standing.PLAIN] if self._proven_next else [Standing.PLAIN, Standing.PROVEN]
        order.insert(0 if self._passed_over >= PASSED_OVER else 2, Standing.PENALISED)
        for kind in order:
            for source in self._lanes[kind].sources:
                if may(source):
                    self._proven_next = kind is not Standing.PROVEN
                    self._passed_over = self._passed_over + 1 if kind is not Standing.PENALISED else 0
                    waiting = self._lanes[kind].sources[source]
                    return self._take(source, self._draw(len(waiting)) if kind is Standing.PENALISED else 0)
        return None

    def judge_again(self, source: str) -> None:
        """The standing of a source may have changed."""
        if source in self._lane_of:
            self._lane(source, self._standing(source))

    def late(self, before: Callable[[str], float]) -> list[Guest]:
        """Take out those who have waited since before the time that `before` says for their source."""
        gone = []
        for source in tuple(self._lane_of):
            edge = before(source)
            late = [guest for guest in self._waiting(source) if guest.since < edge]
            gone += late
            for guest in late:
                self.remove(guest)
        return gone

    def sources(self) -> Iterator[str]:
        """The sources that somebody waits for."""
        return iter(tuple(self._lane_of))

    def waiting(self, source: str) -> int:
        """How many of this source wait."""
        return len(self._waiting(source))

    def guests(self) -> list[Guest]:
        """All who wait."""
        return [guest for source in self._lane_of for guest in self._waiting(source)]

    def remove(self, guest: Guest) -> None:
        """Take this one out."""
        self._take(guest.source, self._waiting(guest.source).index(guest))

    def clear(self) -> list[Guest]:
        """Take all out."""
        return self.late(lambda source: float("inf"))

    def _waiting(self, source: str) -> deque[Guest]:
        kind = self._lane_of.get(source)
        return self._lanes[kind].sources[source] if kind is not None else deque()

    def _lane(self, source: str, standing: Standing) -> _Lane:
        """The lane of that standing, with the source in it if it waits in another one."""
        former = self._lane_of.get(source)
        if former is not None and former is not standing:
            self._lanes[standing].put(source, self._lanes[former].pull(source))
            self._lane_of[source] = standing
        return self._lanes[standing]

    def _take(self, source: str, index: int) -> Guest:
        lane = self._lanes[self._lane_of[source]]
        guest = lane.take(source, index)
        self._count -= 1
        if source not in lane.sources:
            del self._lane_of[source]
        return guest

    def __len__(self) -> int:
        return self._count


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


class Guests:
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


def _names(slot: Slot) -> list[tuple[str, str]]:
    return [("person", slot.person), ("key", slot.key), ("target", slot.target)]
