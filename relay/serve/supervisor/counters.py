"""How often did what happen since this supervisor started? Counters only; what is there now is asked elsewhere.

Every word that becomes a label is one of those listed here: a worker that has gone mad cannot make up new ones.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from relay.core.audit.event import NAMES, Event
from relay.core.histogram import Histogram
from relay.core.policy.model import Reason

OTHER = "other"
REST = "(others)"  # zones; no zone can have that name
MOST_ZONES = 64  # told apart; the rest is one more

# Why connections prove no key (docs/audit.md, strangers). One may have several: a bad signature, then its time is over.
FAILURES = (
    "unknown-key",
    "wrong-name",
    "bad-signature",
    "too-many-keys",
    "key-expired",
    "key-source",
    "key-presence",
    "key-frozen",
    "too-slow",
    "timeout",
    "no-key",
    "protocol-error",
    "banned",
    "line-full",
    "source-full",
    "too-many-connections",
)
# How forwards end; those that were never connected too.
CLOSINGS = (
    *("client-closed", "client-gone", "connection-lost", "target-closed", "target-reset"),
    *("target-refused", "target-silent", "target-unreachable", "target-failed", "gateway-silent", "overlay-down"),
    *("policy-changed", "killed", "drained", "server-stopped", "worker-lost", "place-needed", "busy"),
    *("client-silent", "too-many-connections", "internal-error"),
)
REQUESTS = ("channel", "global", "channel-request")
RESULTS = ("connected", "failed")
_REASONS = tuple(reason.value for reason in Reason if reason is not Reason.ALLOWED)
_CLOSINGS = (*CLOSINGS, *(reason for reason in _REASONS if reason not in CLOSINGS))


class LabelledCounter:
    """A counter with known words; all others are one."""

    def __init__(self, known: Iterable[str], also: Iterable[str] = ()) -> None:
        """`known` are shown also while they are none; of `also` only those that there were."""
        self._counts: Counter[str] = Counter(dict.fromkeys((*known, OTHER), 0))
        self._known = {*self._counts, *also}

    def add(self, word: object, count: object = 1) -> None:
        """Count a word; what is no sensible number is none."""
        if type(count) is int and 0 < count < 1 << 62:
            self._counts[word if isinstance(word, str) and word in self._known else OTHER] += count

    def items(self) -> Iterable[tuple[str, int]]:
        """Each word and how often."""
        return self._counts.items()


class Counters:
    """All that is counted in one supervisor, its workers' share included."""

    def __init__(self) -> None:
        self.rows = LabelledCounter(NAMES)
        self.failures = LabelledCounter(FAILURES, _REASONS)
        self.closings = LabelledCounter(CLOSINGS, _CLOSINGS)
        self.denied = LabelledCounter(_REASONS)
        self.refused = LabelledCounter(REQUESTS)
        self.sent = 0
        self.received = 0
        self.dials: dict[tuple[str, str], Histogram] = {}
        self.worker_lag = Histogram()
        self.lag = Histogram()
        self.commits = Histogram()

    def written(self, events: Iterable[Event]) -> None:
        """These rows are durable."""
        for event in events:
            self.rows.add(event.name)
            if event.name == "forward.closed":
                self.closings.add(event.fields.get("reason"))

    def take(self, message: Mapping[str, Any]) -> None:
        """What a worker's counters have grown by (the message `figures`); nonsense is passed over."""
        self.sent += _amount(message.get("sent"))
        self.received += _amount(message.get("received"))
        for words, name in ((self.denied, "denied"), (self.refused, "refused")):
            told = message.get(name)
            for word, count in told.items() if isinstance(told, dict) else ():
                words.add(word, count)
        dials = message.get("dials")
        for one in dials if isinstance(dials, list) else ():
            if isinstance(one, list) and len(one) == 3 and isinstance(one[0], str) and one[1] in RESULTS:
                self._dialled(one[0], one[1]).add(one[2])
        self.worker_lag.add(message.get("lag"))

    def _dialled(self, zone: str, result: str) -> Histogram:
        full = len(self.dials) >= MOST_ZONES * len(RESULTS)
        zone = REST if not zone or (full and (zone, result) not in self.dials) else zone
        for each in RESULTS:  # both, so that a rate is there before the first failure
            self.dials.setdefault((zone, each), Histogram())
        return self.dials[zone, result]


def _amount(value: object) -> int:
    return value if type(value) is int and 0 <= value < 1 << 62 else 0
