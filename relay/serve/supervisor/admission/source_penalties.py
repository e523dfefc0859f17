"""Penalties of sources whose connections do not authenticate, like PerSourcePenalties of sshd_config(5).

A connection that ends without a proven key adds seconds to its source, which run out by themselves. From a sum of
`begin` on the source is penalised until all of it has run out. Connections are counted, never offered keys. A source
where a key was recently proven is never penalised, so that one broken job cannot lock out the office behind the same
address. The table is bounded: the source whose last failure is oldest is forgotten first.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Any

from relay.core.policy.model import Network
from relay.core.settings import PenaltySettings
from relay.core.source_prefix import source_of

FAILED_SECONDS = 60.0  # for so long a source is queued behind the others: people try again by then


@dataclass(slots=True)
class SourcePenalty:
    """The penalty points of one source. Times are the caller's clock, in seconds."""

    source: str
    until: float  # when all points have run out
    since: float  # of the first failure that has not run out
    failures: int = 0
    why: str = ""  # of the last failure
    begun: float | None = None  # when the penalty began; None: below the threshold
    refused: int = 0  # connections refused meanwhile
    reference: str = ""  # the id shown to clients and in the audit log, once it is penalised
    recorded: bool = False  # whether its begin is in the audit log


class SourcePenalties:
    """The sources with penalty points, and those where a key was recently proven."""

    def __init__(self) -> None:
        self._table: OrderedDict[str, SourcePenalty] = OrderedDict()  # the source that failed last comes last
        self._proven: OrderedDict[str, float] = OrderedDict()
        self._failed: OrderedDict[str, float] = OrderedDict()
        self.forgotten: list[SourcePenalty] = []  # penalised sources removed by the bound, until `lapsed`

    def failed(self, address: str, source: str, why: str, rules: PenaltySettings, now: float) -> SourcePenalty | None:
        """Add points for a connection that ended unauthenticated; returns the penalty if it begins now."""
        amount = {"failed": rules.failed, "silent": rules.silent, "timeout": rules.timeout, "junk": rules.junk}.get(why)
        if not amount or self.recently_proven(source, rules, now) or exempt(address, rules.exempt):
            return None
        self._failed.pop(source, None)
        self._failed[source] = now
        while len(self._failed) > rules.sources:
            self._failed.popitem(last=False)
        penalty = self._table.get(source)
        if penalty is None or penalty.until <= now:
            self._trim(rules.sources, room=1)
            penalty = self._table[source] = SourcePenalty(source, now, now)
        self._table.move_to_end(source)
        penalty.until = min(max(penalty.until, now) + amount, now + rules.most)
        penalty.failures += 1
        penalty.why = why
        if penalty.begun is None and penalty.until - now >= rules.begin:
            penalty.begun = now
            return penalty
        return None

    def proven(self, source: str, rules: PenaltySettings, now: float) -> SourcePenalty | None:
        """A key was proven at the source: its points are cleared. Returns the penalty that this ends, if any."""
        self._proven.pop(source, None)
        self._proven[source] = now
        self._trim(rules.sources)
        return self.lift(source)

    def _trim(self, most: int, room: int = 0) -> None:
        """Forget the oldest entries above the bound, leaving room for `room` new ones."""
        while len(self._table) > most - room:
            _, gone = self._table.popitem(last=False)
            if gone.begun is not None:
                self.forgotten.append(gone)
        while len(self._proven) > most:
            self._proven.popitem(last=False)

    def recently_proven(self, source: str, rules: PenaltySettings, now: float) -> bool:
        """Whether a key was proven at the source within the last `rules.lately` seconds."""
        at = self._proven.get(source)
        return at is not None and now - at <= rules.lately

    def recently_failed(self, source: str, now: float) -> bool:
        """Whether a connection of the source ended unauthenticated in the last minute, and no log-in followed."""
        at = self._failed.get(source)
        return at is not None and now - at <= FAILED_SECONDS

    def remaining(self, source: str, now: float) -> float:
        """Seconds until the penalty of the source ends; 0 if it has none."""
        penalty = self._table.get(source)
        return max(penalty.until - now, 0.0) if penalty is not None and penalty.begun is not None else 0.0

    def of(self, source: str) -> SourcePenalty | None:
        """The penalty points of the source, if any."""
        return self._table.get(source)

    def lift(self, source: str) -> SourcePenalty | None:
        """Clear the points of the source; returns the penalty that this ends, None if it was not penalised."""
        self._failed.pop(source, None)
        penalty = self._table.pop(source, None)
        return penalty if penalty is not None and penalty.begun is not None else None

    def lapsed(self, now: float) -> list[SourcePenalty]:
        """Forget points that have run out; returns the penalties that ended, also by the bound of the table."""
        ended = [penalty for penalty in self._table.values() if penalty.until <= now]
        for penalty in ended:
            del self._table[penalty.source]
        forgotten, self.forgotten = self.forgotten, []
        return [penalty for penalty in ended if penalty.begun is not None] + forgotten

    def active(self, now: float) -> Iterator[SourcePenalty]:
        """The sources that are penalised now."""
        return (penalty for penalty in self._table.values() if penalty.begun is not None and penalty.until > now)

    def __len__(self) -> int:
        return len(self._table)

    # ---- for the next supervisor, with times as seconds from now

    def memory(self, now: float) -> dict[str, Any]:
        """All points and recent log-ins, as plain JSON."""
        return {
            "penalties": [
                [row.source, row.until - now, row.failures, row.why, row.begun is not None, row.reference, row.recorded]
                for row in self._table.values()
                if row.until > now
            ],
            "proven": [[source, now - at] for source, at in self._proven.items()],
        }

    def remember(self, memory: Mapping[str, Any], rules: PenaltySettings, now: float) -> None:
        """Take over `memory` of an earlier supervisor, bounded by the current rules.

        Raises ValueError or TypeError for malformed input.
        """
        for source, seconds, failures, why, begun, reference, recorded in memory.get("penalties", []):
            self._table[str(source)] = SourcePenalty(
                source=str(source),
                until=min(now + rules.most, now + float(seconds)),  # in this order NaN gives the bound
                since=now,
                failures=int(failures),
                why=str(why),
                begun=now if begun is True else None,
                reference=str(reference),
                recorded=recorded is True,
            )
        for source, ago in memory.get("proven", []):
            self._proven[str(source)] = now - float(ago)
        self._trim(rules.sources)


@lru_cache(maxsize=4)
def _networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(ip_network(text, strict=False) for text in texts)


@lru_cache(maxsize=4096)
def exempt(address: str, networks: tuple[str, ...]) -> bool:
    """Whether the address is in one of these networks, which are never penalised."""
    parsed = ip_address(address.split("%", maxsplit=1)[0])
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed
    return any(parsed.version == network.version and parsed in network for network in _networks(networks))


def counted_as(address: str, networks: tuple[str, ...]) -> str:
    """The source of an address. An exempt IPv6 address is a source of its own, not part of its /64."""
    source = source_of(address)
    if "/" not in source or not exempt(address, networks):  # an IPv4 address is one source anyway
        return source
    return address.split("%", maxsplit=1)[0]
