"""What is on record about penalised sources? The penalties with a clock, their events, and what `relayctl bans` shows.

Events are bounded, because whoever has many addresses can make many penalties begin: some at once and then one in
half a minute are audit rows, the others are counted in the next one. `relayctl bans` shows all.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any

from relay.core.audit.event import Event, Value
from relay.core.settings import PenaltySettings as Rules
from relay.core.token_bucket import TokenBucket
from relay.serve.supervisor.admission.source_penalties import SourcePenalties, SourcePenalty
from relay.serve.supervisor.audit.audit_log import AuditLog

ROWS_PER_SECOND = 1 / 30  # 2,880 a day at most, about 2 MB
ROWS_BURST = 50
SHOWN = 1000  # in one answer


class Bans:
    """The sources that have earned a slower welcome."""

    def __init__(self, record: AuditLog, rules: Callable[[], Rules]) -> None:
        self._loop = asyncio.get_running_loop()
        self._record = record
        self._rules = rules
        self._penalties = SourcePenalties()
        self._rows = TokenBucket(ROWS_PER_SECOND, ROWS_BURST)
        self._left_out = 0
        self.begun = 0  # since the start

    def failed(self, address: str, source: str, why: str) -> None:
        """A connection from there ended unproven."""
        penalty = self._penalties.failed(address, source, why, self._rules(), self._loop.time())
        if penalty is not None:
            self.begun += 1
            penalty.reference = self._record.make_id()
            self._begin(penalty)

    def proven(self, source: str) -> None:
        """Somebody there has proven a key."""
        penalty = self._penalties.proven(source, self._rules(), self._loop.time())
        if penalty is not None:
            self._ended(penalty, "proven")

    def refused(self, source: str) -> None:
        """Somebody from there was turned away."""
        penalty = self._penalties.of(source)
        if penalty is not None:
            penalty.refused += 1

    def lately(self, source: str) -> bool:
        """Whether a key was lately proven there."""
        return self._penalties.lately(source, self._rules(), self._loop.time())

    def remaining(self, source: str) -> float:
        """Seconds for which the source is penalised; 0: it is not."""
        return self._penalties.remaining(source, self._loop.time())

    def lapse(self) -> None:
        """Forget what has run out."""
        now = self._loop.time()
        for penalty in self._penalties.lapsed(now):
            self._ended(penalty, "lapsed" if penalty.until <= now else "forgotten")

    def lift(self, wanted: str, by: Mapping[str, Value]) -> list[str]:
        """Somebody at this machine ends the penalty of a source ("" for all of them); the sources it was ended for."""
        lifted = []
        for source in self.sources() if not wanted else [wanted]:
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
        """How many sources are penalised."""
        return sum(1 for _ in self._penalties.active(self._loop.time()))

    def watched(self) -> int:
        """How many sources have gathered anything at all."""
        return len(self._penalties)

    def shown(self) -> list[dict[str, Any]]:
        """The penalised sources, those that stay longest first."""
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
            for penalty in active[:SHOWN]
        ]

    def memory(self) -> dict[str, Any]:
        """What a successor is to know, as plain JSON."""
        return self._penalties.memory(self._loop.time())

    def remember(self, memory: Mapping[str, Any], ago: float) -> None:
        """What a predecessor knew so many seconds ago; nonsense is passed over."""
        try:
            self._penalties.remember(memory, self._rules(), self._loop.time() - ago)
        except (ValueError, TypeError):
            self._record.say("what the last supervisor knew of penalised sources cannot be read; it is forgotten")

    # ---- events

    def _begin(self, penalty: SourcePenalty) -> None:
        now = self._loop.time()
        if self._rows.wait(now):
            self._left_out += 1
            return
        self._rows.take(now)
        penalty.recorded = True
        fields: dict[str, Value] = {
            "source": penalty.source,
            "reason": penalty.why,
            "count": penalty.failures,
            "until": int(time.time() + penalty.until - now),
        }
        if self._left_out:
            fields["detail"] = f"{self._left_out} other sources since the last row"
            self._left_out = 0
        self._record.event(Event(penalty.reference, self._record.now_us(), "ban.begun", fields))

    def _ended(self, penalty: SourcePenalty, reason: str, by: Mapping[str, Value] | None = None) -> None:
        if penalty.recorded:
            fields: dict[str, Value] = {"source": penalty.source, "reason": reason, "count": penalty.failures}
            self._record.note("ban.ended", fields | {"refused": penalty.refused} | dict(by or {}))
