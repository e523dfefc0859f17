"""Penalised sources with a clock, audit rows, and the list for `relayctl bans`.

The audit rows are rate-limited, because an attacker with many addresses can cause many penalties. The penalties without
a row are counted in the next row, and `relayctl bans` shows all.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from relay.core.audit.event import Event, Value
from relay.core.settings import PenaltySettings
from relay.core.token_bucket import TokenBucket
from relay.serve.supervisor.admission.source_penalties import SourcePenalties, SourcePenalty
from relay.serve.supervisor.audit.audit_log import AuditLog

ROWS_PER_SECOND = 1 / 30  # 2,880 a day at most, about 2 MB
ROWS_BURST = 50
MAX_SHOWN = 1000  # sources in one answer


class Bans:
    """The penalised sources of one relay."""

    def __init__(self, audit: AuditLog, rules: Callable[[], PenaltySettings]) -> None:
        self._loop = asyncio.get_running_loop()
        self._audit = audit
        self._rules = rules
        self._penalties = SourcePenalties()
        self._rows = TokenBucket(ROWS_PER_SECOND, ROWS_BURST)
        self._unrecorded = 0
        self.begun = 0  # since the start

    def failed(self, address: str, source: str, why: str) -> None:
        """A connection of the source ended unauthenticated; `why` is the class of its failure."""
        penalty = self._penalties.failed(address, source, why, self._rules(), self._loop.time())
        if penalty is not None:
            self.begun += 1
            penalty.reference = self._audit.make_id()
            self._begin(penalty)

    def proven(self, source: str) -> None:
        """A key was proven at the source, which ends its penalty."""
        penalty = self._penalties.proven(source, self._rules(), self._loop.time())
        if penalty is not None:
            self._ended(penalty, "proven")

    def refused(self, source: str) -> None:
        """A connection of a penalised source was refused."""
        penalty = self._penalties.of(source)
        if penalty is not None:
            penalty.refused += 1

    def recently_proven(self, source: str) -> bool:
        """Whether a key was recently proven at the source."""
        return self._penalties.recently_proven(source, self._rules(), self._loop.time())

    def recently_failed(self, source: str) -> bool:
        """Whether a connection of the source recently ended unauthenticated, and no log-in followed."""
        return self._penalties.recently_failed(source, self._loop.time())

    def remaining(self, source: str) -> float:
        """Seconds until the penalty of the source ends; 0 if it has none."""
        return self._penalties.remaining(source, self._loop.time())

    def lapse(self) -> None:
        """End the penalties that have run out."""
        now = self._loop.time()
        for penalty in self._penalties.lapsed(now):
            self._ended(penalty, "lapsed" if penalty.until <= now else "forgotten")

    def lift(self, name: str, by: Mapping[str, Value]) -> list[str]:
        """End the penalty of a source, or of all ("") on request of the administrator `by`; returns the sources."""
        lifted = []
        for source in self.sources() if not name else [name]:
            penalty = self._penalties.lift(source)
            if penalty is not None:
                penalty.recorded = True
                self._ended(penalty, "lifted", by)
                lifted.append(source)
        return lifted

    def sources(self) -> list[str]:
        """The sources that are penalised."""
        return [penalty.source for penalty in self._penalties.active(self._loop.time())]

    def count(self) -> int:
        """Number of penalised sources."""
        return sum(1 for _ in self._penalties.active(self._loop.time()))

    def watched(self) -> int:
        """Number of sources with any penalty points."""
        return len(self._penalties)

    def shown(self) -> list[dict[str, Any]]:
        """The penalised sources, the longest penalty first."""
        now, unix = self._loop.time(), time.time()
        active = sorted(self._penalties.active(now), key=lambda penalty: -penalty.until)
        return [
            {
                "source": penalty.source,
                "seconds": round(penalty.until - now, 1),
                "until": int(unix + penalty.until - now),
                "since": int(unix + (penalty.begun or now) - now),
                "failures": penalty.failures,
                "why": penalty.why,
                "refused": penalty.refused,
                "id": penalty.reference,
            }
            for penalty in active[:MAX_SHOWN]
        ]

    def memory(self) -> dict[str, Any]:
        """State for the next supervisor, as plain JSON."""
        return self._penalties.memory(self._loop.time())

    def remember(self, memory: Mapping[str, Any], ago: float) -> None:
        """Take over the state of an earlier supervisor, `ago` seconds old; malformed input is ignored."""
        try:
            self._penalties.remember(memory, self._rules(), self._loop.time() - ago)
        except (ValueError, TypeError):
            self._audit.say("the penalised sources of the last supervisor cannot be read and are forgotten")

    # ---- events

    def _begin(self, penalty: SourcePenalty) -> None:
        now = self._loop.time()
        if self._rows.wait(now):
            self._unrecorded += 1
            return
        self._rows.take(now)
        penalty.recorded = True
        fields: dict[str, Value] = {
            "source": penalty.source,
            "reason": penalty.why,
            "count": penalty.failures,
            "until": int(time.time() + penalty.until - now),
        }
        if self._unrecorded:
            fields["detail"] = f"{self._unrecorded} other sources since the last row"
            self._unrecorded = 0
        self._audit.event(Event(penalty.reference, self._audit.now_us(), "ban.begun", fields))

    def _ended(self, penalty: SourcePenalty, reason: str, by: Mapping[str, Value] | None = None) -> None:
        if penalty.recorded:
            fields: dict[str, Value] = {"source": penalty.source, "reason": reason, "count": penalty.failures}
            self._audit.note("ban.ended", fields | {"refused": penalty.refused} | dict(by or {}))
