"""Accepted sockets that wait to be passed to a worker, and the order in which they are.

Sources take turns, and of one source the oldest socket comes first. Sources where a key was lately proven come before
the others, but every fourth turn belongs to the others: a busy office cannot keep new people out. When the queue is
full, the oldest socket of the source that has the most is evicted. A queued socket costs a descriptor and nothing of
a worker; no byte of it is read.
"""

import socket
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from relay.core.settings import Limits

QUEUED_PER_SOURCE = 200  # a large office that starts its day
QUEUED_PER_PENALISED_SOURCE = 10
OTHERS_TURN = 4  # each fourth turn is for sources where no key was lately proven


@dataclass(frozen=True, eq=False, slots=True)
class QueuedSocket:
    """One accepted socket. `since` is the loop's time when it was accepted."""

    sock: socket.socket
    address: str
    port: int
    source: str
    since: float


class AdmissionQueue:
    """The queued sockets of all sources; the source whose turn is next comes first."""

    def __init__(self, is_proven: Callable[[str], bool], is_penalised: Callable[[str], bool]) -> None:
        """`is_proven` tells whether a key was lately proven at a source, `is_penalised` whether it is penalised."""
        self._is_proven = is_proven
        self._is_penalised = is_penalised
        self._sources: OrderedDict[str, deque[QueuedSocket]] = OrderedDict()
        self._count = 0
        self._turn = 0

    def join(self, newcomer: QueuedSocket, limits: Limits) -> QueuedSocket | None:
        """Queue it. Returns the socket that is evicted for it, if any; that one is the caller's to close."""
        waiting = self._sources.setdefault(newcomer.source, deque())
        waiting.append(newcomer)
        self._count += 1
        most = QUEUED_PER_PENALISED_SOURCE if self._is_penalised(newcomer.source) else QUEUED_PER_SOURCE
        if len(waiting) > most:
            return self._take(newcomer.source)
        return self._take(self._fullest()) if self._count > limits.unauthenticated else None

    def next(self, may_enter: Callable[[str], bool]) -> QueuedSocket | None:
        """Take out the socket whose turn is next among the sources that `may_enter`; None if there is none."""
        proven_first = (self._turn + 1) % OTHERS_TURN != 0
        chosen = None
        for source in self._sources:
            if not may_enter(source):
                continue
            if self._is_proven(source) is proven_first:
                chosen = source
                break
            chosen = chosen or source
        if chosen is None:
            return None
        self._turn += 1
        return self._take(chosen)

    def late(self, deadline: Callable[[str], float]) -> list[QueuedSocket]:
        """Take out the sockets that were accepted before the time that `deadline` gives for their source."""
        late = [queued for queued in self.sockets() if queued.since < deadline(queued.source)]
        for queued in late:
            self.remove(queued)
        return late

    def sources(self) -> Iterator[str]:
        """The sources that have queued sockets."""
        return iter(tuple(self._sources))

    def waiting(self, source: str) -> int:
        """How many sockets of this source are queued."""
        return len(self._sources.get(source, ()))

    def sockets(self) -> list[QueuedSocket]:
        """All queued sockets."""
        return [queued for waiting in self._sources.values() for queued in waiting]

    def remove(self, queued: QueuedSocket) -> None:
        """Take this socket out; its source keeps its turn."""
        waiting = self._sources[queued.source]
        waiting.remove(queued)
        self._count -= 1
        if not waiting:
            del self._sources[queued.source]

    def clear(self) -> list[QueuedSocket]:
        """Take all sockets out."""
        queued = self.sockets()
        self._sources.clear()
        self._count = 0
        return queued

    def _fullest(self) -> str:
        """The source with the most sockets; of equal ones the first in turn. Proven ones only if all are."""
        others = (source for source in self._sources if not self._is_proven(source))
        return max(others, key=self.waiting, default="") or max(self._sources, key=self.waiting)

    def _take(self, source: str) -> QueuedSocket:
        """Take out the oldest socket of the source, which has the last turn then."""
        waiting = self._sources[source]
        queued = waiting.popleft()
        self._count -= 1
        if waiting:
            self._sources.move_to_end(source)
        else:
            del self._sources[source]
        return queued

    def __len__(self) -> int:
        return self._count
