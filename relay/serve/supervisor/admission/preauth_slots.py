"""Exact counts of unauthenticated connections: in all, per source and per network (MaxStartups of sshd_config(5)).

When the total is reached, the oldest connection of the source with the most is evicted, never the newcomer, so one
source cannot keep all others out. When only the limit of a source or network is reached, the newcomer is queued.
"""

from collections import Counter, OrderedDict

from relay.core.settings import Limits
from relay.core.source_prefix import network_of


class PreauthSlots:
    """Connections that have not proven a key."""

    def __init__(self) -> None:
        self._connections: OrderedDict[str, str] = OrderedDict()  # connection -> source, oldest first
        self._since: dict[str, float] = {}
        self._per_source: Counter[str] = Counter()
        self._per_network: Counter[str] = Counter()

    def enter(self, connection: str, source: str, limits: Limits, now: float = 0.0) -> tuple[bool, str | None]:
        """Whether the newcomer is counted, and the connection that is evicted for it, if any. `now` in seconds."""
        if not self.room(source, limits):
            return False, None
        evicted = None
        if len(self._connections) >= limits.unauthenticated:
            fullest = max(self._per_source, key=self._per_source.__getitem__)
            evicted = next(number for number, origin in self._connections.items() if origin == fullest)
            self.leave(evicted)
        self._connections[connection] = source
        self._since[connection] = now
        self._per_source[source] += 1
        self._per_network[network_of(source)] += 1
        return True, evicted

    def idle_connection(self, source: str, limits: Limits, before: float) -> str | None:
        """The connection whose slot a queued socket of this source may take, if it is older than `before`.

        That is the oldest of the source or, if the limit of the network is reached, of the network's fullest source.
        """
        if self._per_source[source] < limits.unauthenticated_per_source:
            network = network_of(source)
            sources = [other for other in self._per_source if network_of(other) == network]
            source = max(sources, key=self._per_source.__getitem__, default=source)
        oldest = next((number for number, origin in self._connections.items() if origin == source), None)
        return oldest if oldest is not None and self._since[oldest] < before else None

    def leave(self, connection: str) -> None:
        """Free the slot of a connection that has authenticated or ended."""
        source = self._connections.pop(connection, None)
        self._since.pop(connection, None)
        if source is not None:
            for counter, name in ((self._per_source, source), (self._per_network, network_of(source))):
                counter[name] -= 1
                if not counter[name]:
                    del counter[name]

    def room(self, source: str, limits: Limits) -> bool:
        """Whether this source and its network have a free slot."""
        return (
            self._per_source[source] < limits.unauthenticated_per_source
            and self._per_network[network_of(source)] < limits.unauthenticated_per_network
        )

    def fullest(self) -> tuple[tuple[str, int], tuple[str, int]]:
        """The source and the network with the most connections, and how many."""
        return _most(self._per_source), _most(self._per_network)

    def __len__(self) -> int:
        return len(self._connections)


def _most(counter: Counter[str]) -> tuple[str, int]:
    return max(counter.items(), key=lambda item: item[1], default=("", 0))
