"""Which sources have earned a slower welcome, and for how long? Penalties as OpenSSH 9.8 and newer have them.

A connection that ends without a proven key adds some seconds to its source; they run out by themselves. From a
sum of `begin` on the source is penalised until all of it has run out. Offered keys are never counted, only
connections; a source where somebody lately proved a key is never penalised, because an office behind one address
must not go dark for one bad job. The table is bounded: the source that was quiet for longest is forgotten first.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Any

from relay.core.policy.model import Network
from relay.core.settings import PenaltySettings as Rules
from relay.core.source_prefix import source_of


@dataclass(slots=True)
class SourcePenalty:
    """What one source has gathered. Times are the caller's clock, in seconds."""

    source: str
    until: float  # when all of it has run out
    since: float  # of the first failure that has not run out
    failures: int = 0
    why: str = ""  # of the last failure
    begun: float | None = None  # when it was penalised; None: it is only being watched
    refused: int = 0  # connections turned away meanwhile
    reference: str = ""  # the id that goes with it, once it is penalised
    recorded: bool = False  # whether its beginning is in the audit log


class SourcePenalties:
    """Every source that ended connections unproven, or lately proved a key."""

    def __init__(self) -> None:
        self._table: OrderedDict[str, SourcePenalty] = OrderedDict()  # the one that failed last comes last
        self._proven: OrderedDict[str, float] = OrderedDict()
        self.forgotten: list[SourcePenalty] = []  # penalised ones that the bound has pushed out, for the caller to take

    def failed(self, address: str, source: str, why: str, rules: Rules, now: float) -> SourcePenalty | None:
        """A connection from there ended unproven; the penalty if it begins with this one, else None."""
        amount = {"failed": rules.failed, "silent": rules.silent, "timeout": rules.timeout, "junk": rules.junk}.get(why)
        if not amount or self.lately(source, rules, now) or exempt(address, rules.exempt):
            return None
        penalty = self._table.get(source)
        if penalty is None or penalty.until <= now:
            self._keep(rules.sources, room=1)
            penalty = self._table[source] = SourcePenalty(source, now, now)
        self._table.move_to_end(source)
        penalty.until = min(max(penalty.until, now) + amount, now + rules.most)
        penalty.failures += 1
        penalty.why = why
        if penalty.begun is None and penalty.until - now >= rules.begin:
            penalty.begun = now
            return penalty
        return None

    def proven(self, source: str, rules: Rules, now: float) -> SourcePenalty | None:
        """Somebody there has proven a key: nothing is held against the source any more. The penalty that it ends."""
        self._proven.pop(source, None)
        self._proven[source] = now
        self._keep(rules.sources)
        return self.lift(source)

    def _keep(self, most: int, room: int = 0) -> None:
        """Forget those who were quiet for longest; `room` is for so many who come."""
        while len(self._table) > most - room:
            _, gone = self._table.popitem(last=False)
            if gone.begun is not None:
                self.forgotten.append(gone)
        while len(self._proven) > most:
            self._proven.popitem(last=False)

    def lately(self, source: str, rules: Rules, now: float) -> bool:
        """Whether a key was proven there not longer ago than `rules.lately`."""
        at = self._proven.get(source)
        return at is not None and now - at <= rules.lately

    def remaining(self, source: str, now: float) -> float:
        """Seconds for which the source is penalised; 0: it is not."""
        penalty = self._table.get(source)
        return max(penalty.until - now, 0.0) if penalty is not None and penalty.begun is not None else 0.0

    def of(self, source: str) -> SourcePenalty | None:
        """What the source has gathered."""
        return self._table.get(source)

    def lift(self, source: str) -> SourcePenalty | None:
        """Forget what the source has gathered; the penalty that this ends, None if it was not penalised."""
        penalty = self._table.pop(source, None)
        return penalty if penalty is not None and penalty.begun is not None else None

    def lapsed(self, now: float) -> list[SourcePenalty]:
        """Forget what has run out; those of it that were penalties."""
        over = [penalty for penalty in self._table.values() if penalty.until <= now]
        for penalty in over:
            del self._table[penalty.source]
        gone, self.forgotten = self.forgotten, []
        return [penalty for penalty in over if penalty.begun is not None] + gone

    def active(self, now: float) -> Iterator[SourcePenalty]:
        """Every source that is penalised now."""
        return (penalty for penalty in self._table.values() if penalty.begun is not None and penalty.until > now)

    def __len__(self) -> int:
        return len(self._table)

    # ---- for a successor: what is known, with times as seconds from now

    def memory(self, now: float) -> dict[str, Any]:
        """What a successor is to know, as plain JSON."""
        return {
            "penalties": [
                [one.source, one.until - now, one.failures, one.why, one.begun is not None, one.reference, one.recorded]
                for one in self._table.values()
                if one.until > now
            ],
            "proven": [[source, now - at] for source, at in self._proven.items()],
        }

    def remember(self, memory: Mapping[str, Any], rules: Rules, now: float) -> None:
        """What a predecessor knew, within the rules of today. Raises ValueError or TypeError for something else."""
        for source, left, failures, why, begun, reference, recorded in memory.get("penalties", []):
            self._table[str(source)] = SourcePenalty(
                source=str(source),
                until=min(now + rules.most, now + float(left)),  # in this order, NaN is not more
                since=now,
                failures=int(failures),
                why=str(why),
                begun=now if begun is True else None,
                reference=str(reference),
                recorded=recorded is True,
            )
        for source, ago in memory.get("proven", []):
            self._proven[str(source)] = now - float(ago)
        self._keep(rules.sources)


@lru_cache(maxsize=4)
def _networks(texts: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(ip_network(text, strict=False) for text in texts)


@lru_cache(maxsize=4096)
def exempt(address: str, networks: tuple[str, ...]) -> bool:
    """Whether nothing is ever held against that address."""
    parsed = ip_address(address.split("%", maxsplit=1)[0])
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed
    return any(parsed.version == network.version and parsed in network for network in _networks(networks))


def counted_as(address: str, networks: tuple[str, ...]) -> str:
    """What counts as one source: an exempt address by itself, whatever its neighbours did; else as `source_of` says."""
    source = source_of(address)
    if "/" not in source or not exempt(address, networks):  # an IPv4 address is one source anyway
        return source
    return address.split("%", maxsplit=1)[0]
