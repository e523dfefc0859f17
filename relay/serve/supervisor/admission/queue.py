"""Who waits at the door, and whose turn is next? Accepted sockets that nobody has read from, by what is known of them.

Sources take turns, and so do those where a key was lately proven with the others: neither a crowd of strangers nor one
bad job can make everybody else wait for long. Behind them come sources whose last connection failed, those that have
said nothing yet, and those that are penalised; each of these has every tenth turn, whatever the others do. Over-full,
the line lets the fullest source's oldest go. Where all have one place each, who has been silent for long goes, and else
the lot decides who goes and who is next, as with sshd's MaxStartups: whoever comes late has the same chance.
"""

import socket
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum

from relay.core.settings import Limits
from relay.serve.supervisor.admission.preauth_slots import source_of

LINE_PER_SOURCE = 200  # sockets of one source that may wait: a large office that starts its day; then its oldest goes
PASSED_OVER = 9  # others before one of a lower standing has his turn: a flood of strangers does not close that lane
SILENT_SECONDS = 1.0  # in which a client has said something; who has not is the first to go from a full line
LINE_PENALISED = 10  # of a penalised source: whoever comes takes the place of a random one


class SourceHistory(Enum):
    """How a source has behaved lately."""

    PROVEN = "proven"  # a key was proven there
    PLAIN = "plain"
    FAILED = "failed"  # its last connection ended without a proven key
    SILENT = "silent"  # nobody of it who waits has said anything (a client's version line comes at once)
    PENALISED = "penalised"


@dataclass(eq=False, slots=True)
class QueuedSocket:
    """One accepted socket that nobody has read from."""

    sock: socket.socket
    address: str
    port: int
    since: float
    spoke: bool = True  # bytes of it wait in the kernel
    source: str = field(init=False)

    def __post_init__(self) -> None:
        self.source = source_of(self.address)


class _Lane:
    """The waiting sockets of all sources of one standing. Whose turn is next, and who has most, is known at once."""

    def __init__(self) -> None:
        self.sources: OrderedDict[str, deque[QueuedSocket]] = OrderedDict()  # whose turn is next comes first
        self._sized: dict[int, OrderedDict[str, None]] = {}  # how many wait -> the sources with so many
        self._most = 0

    def put(self, source: str, waiting: deque[QueuedSocket]) -> None:
        """A source with those of it that wait, behind the others."""
        self.sources[source] = waiting
        self._resize(source, 0, len(waiting))

    def add(self, guest: QueuedSocket) -> None:
        """One more."""
        waiting = self.sources.setdefault(guest.source, deque())
        waiting.append(guest)
        self._resize(guest.source, len(waiting) - 1, len(waiting))

    def take(self, source: str, index: int) -> QueuedSocket:
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

    def pull(self, source: str) -> deque[QueuedSocket]:
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


class AdmissionQueue:
    """Accepted sockets that wait to be let in. Each costs a descriptor and no memory of a worker."""

    def __init__(self, draw: Callable[[int], int], standing: Callable[[str], SourceHistory]) -> None:
        """`draw(n)` gives a random number below n; `standing` how a source has behaved."""
        self._draw = draw
        self._standing = standing
        self._lanes = {kind: _Lane() for kind in SourceHistory}
        self._lane_of: dict[str, SourceHistory] = {}
        self._count = 0
        self._proven_next = True
        self._passed_over = dict.fromkeys(_LOW, 0)  # turns since one of that standing had his
        self._crowded = False  # so full of sources with one place each that none would live to see its turn

    def join(self, guest: QueuedSocket, limits: Limits) -> QueuedSocket | None:
        """Wait. Gives back who has to go instead: its socket is the caller's again.

        That is the oldest of the fullest source, be it the newcomer's own; of a penalised source it is drawn by lot,
        and may be the newcomer.
        """
        standing = self._judge(guest.source, guest)
        lane = self._lane(guest.source, standing)
        waiting = lane.sources.get(guest.source, ())
        if standing is SourceHistory.PENALISED and len(waiting) >= LINE_PENALISED:
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
        return self._too_many(guest.since) if self._count > limits.unauthenticated else None

    def _too_many(self, now: float) -> QueuedSocket:
        """There is one more than there are places: who goes? Where a key was proven, only if there are no others."""
        lanes = self._lanes
        kinds = (SourceHistory.SILENT, SourceHistory.FAILED, SourceHistory.PLAIN, SourceHistory.PENALISED)
        count, fullest = max((lanes[kind].fullest() for kind in kinds), key=lambda lane: lane[0])
        if count > 1:
            return self._take(fullest, 0)
        silent = lanes[SourceHistory.SILENT].sources
        oldest = next(iter(silent), None)
        if oldest is not None and silent[oldest][0].since < now - SILENT_SECONDS:
            return self._take(oldest, 0)
        for pool in ((SourceHistory.SILENT, SourceHistory.FAILED), (SourceHistory.PLAIN,), (SourceHistory.PENALISED,)):
            able = [source for kind in pool for source in lanes[kind].sources]
            if able:  # the newcomer is one of them
                self._crowded = self._crowded or SourceHistory.PLAIN in pool
                return self._take(able[self._draw(len(able))], 0)
        return self._take(lanes[SourceHistory.PROVEN].fullest()[1], 0)

    def next(self, may: Callable[[str], bool]) -> QueuedSocket | None:
        """Take out the next one whose source `may` come in; None when nobody may."""
        main = (
            [SourceHistory.PROVEN, SourceHistory.PLAIN]
            if self._proven_next
            else [SourceHistory.PLAIN, SourceHistory.PROVEN]
        )
        due = [kind for kind in _LOW if self._passed_over[kind] >= PASSED_OVER]
        for kind in [*due, *main, *_LOW]:
            source = self._whose_turn(self._lanes[kind], may)
            if source is not None:
                self._proven_next = kind is not SourceHistory.PROVEN
                for low in _LOW:
                    self._passed_over[low] = 0 if low is kind else self._passed_over[low] + 1
                waiting = self._lanes[kind].sources[source]
                if kind is SourceHistory.PENALISED:
                    return self._take(source, self._draw(len(waiting)))
                return self._take(source, next((at for at, guest in enumerate(waiting) if guest.spoke), 0))
        return None

    def _whose_turn(self, lane: _Lane, may: Callable[[str], bool]) -> str | None:
        if self._crowded and len(lane.sources) > 1:
            able = [source for source in lane.sources if may(source)]
            return able[self._draw(len(able))] if able else None
        return next((source for source in lane.sources if may(source)), None)

    def spoke(self, guest: QueuedSocket) -> None:
        """Bytes of this one have come."""
        guest.spoke = True
        self.judge_again(guest.source)

    def judge_again(self, source: str) -> None:
        """The standing of a source may have changed."""
        if source in self._lane_of:
            self._lane(source, self._judge(source))

    def late(self, before: Callable[[str], float]) -> list[QueuedSocket]:
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

    def guests(self) -> list[QueuedSocket]:
        """All who wait."""
        return [guest for source in self._lane_of for guest in self._waiting(source)]

    def remove(self, guest: QueuedSocket) -> None:
        """Take this one out."""
        self._take(guest.source, self._waiting(guest.source).index(guest))

    def clear(self) -> list[QueuedSocket]:
        """Take all out."""
        return self.late(lambda source: float("inf"))

    def _judge(self, source: str, newcomer: QueuedSocket | None = None) -> SourceHistory:
        """The standing of a source, with what is known of those of it who wait."""
        standing = self._standing(source)
        if standing is SourceHistory.PLAIN or standing is SourceHistory.FAILED:
            spoken = newcomer is not None and newcomer.spoke
            return standing if spoken or any(guest.spoke for guest in self._waiting(source)) else SourceHistory.SILENT
        return standing

    def _waiting(self, source: str) -> deque[QueuedSocket]:
        kind = self._lane_of.get(source)
        return self._lanes[kind].sources[source] if kind is not None else deque()

    def _lane(self, source: str, standing: SourceHistory) -> _Lane:
        """The lane of that standing, with the source in it if it waits in another one."""
        former = self._lane_of.get(source)
        if former is not None and former is not standing:
            self._lanes[standing].put(source, self._lanes[former].pull(source))
            self._lane_of[source] = standing
        return self._lanes[standing]

    def _take(self, source: str, index: int) -> QueuedSocket:
        lane = self._lanes[self._lane_of[source]]
        guest = lane.take(source, index)
        self._count -= 1
        if source not in lane.sources:
            del self._lane_of[source]
        self._crowded = self._crowded and bool(self._count)
        return guest

    def __len__(self) -> int:
        return self._count


_LOW = (SourceHistory.FAILED, SourceHistory.SILENT, SourceHistory.PENALISED)
