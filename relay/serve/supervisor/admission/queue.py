"""Accepted sockets that wait to be passed to a worker, and the order in which they are.

Sources take turns, and of one source the oldest socket comes first. Sources where a key was lately proven come before
the others, and sources where a connection lately failed come last. Every fourth turn belongs to the others, so that a
busy office cannot keep new people out, and every fourth of these to the failed ones. When the queue is full, the oldest
socket of the source that has the most is evicted; of equal ones a failed source, and a proven one only if all are. A
queued socket costs a descriptor and nothing of a worker; no byte of it is read.
"""

import socket
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from relay.core.settings import Limits

QUEUED_PER_SOURCE = 200  # a large office that starts its day
QUEUED_PER_PENALISED_SOURCE = 10
OTHERS_TURN = 4  # each fourth turn is for the other sources, and each fourth of these for the failed ones


class SourceHistory(Enum):
    """How a source has behaved lately."""

    PROVEN = "proven"  # a key was proven there
    NEW = "new"
    FAILED = "failed"  # a connection ended without a proven key


_ORDERS = (
    (SourceHistory.PROVEN, SourceHistory.NEW, SourceHistory.FAILED),
    (SourceHistory.NEW, SourceHistory.FAILED, SourceHistory.PROVEN),
    (SourceHistory.FAILED, SourceHistory.NEW, SourceHistory.PROVEN),
)


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

    def __init__(self, history: Callable[[str], SourceHistory], is_penalised: Callable[[str], bool]) -> None:
        """`history` tells how a source has behaved lately, `is_penalised` whether it is penalised."""
        self._history = history
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
        rounds, place = divmod(self._turn, OTHERS_TURN)
        order = _ORDERS[0 if place < OTHERS_TURN - 1 else 2 if rounds % OTHERS_TURN == OTHERS_TURN - 1 else 1]
        first: dict[SourceHistory, str] = {}
        for source in self._sources:
            history = self._history(source)
            if history not in first and may_enter(source):
                first[history] = source
                if history is order[0]:
                    break
        chosen = next((first[history] for history in order if history in first), None)
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
        """The source with the most sockets; of equal ones a failed source, or the first in turn."""
        for most in sorted({len(waiting) for waiting in self._sources.values()}, reverse=True):
            first: dict[SourceHistory, str] = {}
            for source, waiting in self._sources.items():
                if len(waiting) == most:
                    history = self._history(source)
                    if history is SourceHistory.FAILED:
                        return source
                    first.setdefault(history, source)
            if SourceHistory.NEW in first:
                return first[SourceHistory.NEW]
        return max(self._sources, key=self.waiting)

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
