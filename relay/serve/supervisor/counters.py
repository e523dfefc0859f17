"""Counters of events since the supervisor started, for the metrics page.

Label values are limited to those listed here, so that a faulty worker cannot create new time series.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from relay.core.audit.event import NAMES, Event
from relay.core.histogram import Histogram
from relay.core.policy.model import Reason

OTHER = "other"
OTHER_ZONES = "(others)"  # no zone can have that name
MAX_ZONE_LABELS = 64  # with labels of their own; all others share one

# Why connections fail to authenticate (docs/reference/audit-log.md). One can have several: bad signature, timeout.
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
# Why forwards end, also those that were never connected.
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
    """A counter for each known label value, and one for all others."""

    def __init__(self, known: Iterable[str], also: Iterable[str] = ()) -> None:
        """The `known` values are shown from zero on, those in `also` once they have occurred."""
        self._counts: Counter[str] = Counter(dict.fromkeys((*known, OTHER), 0))
        self._known = {*self._counts, *also}

    def add(self, value: object, count: object = 1) -> None:
        """Add to the counter of this value; anything but a positive integer is ignored."""
        if type(count) is int and 0 < count < 1 << 62:
            self._counts[value if isinstance(value, str) and value in self._known else OTHER] += count

    def items(self) -> Iterable[tuple[str, int]]:
        """Each value and its count."""
        return self._counts.items()


class Counters:
    """All counters of one supervisor, with those of its workers added."""

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
        """Count rows that have become durable."""
        for event in events:
            self.rows.add(event.name)
            if event.name == "forward.closed":
                self.closings.add(event.fields.get("reason"))

    def add_worker(self, message: Mapping[str, Any]) -> None:
        """Add the growth of a worker's counters (the message `figures`); malformed parts are ignored."""
        self.sent += _amount(message.get("sent"))
        self.received += _amount(message.get("received"))
        for counter, name in ((self.denied, "denied"), (self.refused, "refused")):
            growth = message.get(name)
            for value, count in growth.items() if isinstance(growth, dict) else ():
                counter.add(value, count)
        dials = message.get("dials")
        for row in dials if isinstance(dials, list) else ():
            if isinstance(row, list) and len(row) == 3 and isinstance(row[0], str) and row[1] in RESULTS:
                self._dialled(row[0], row[1]).add(row[2])
        self.worker_lag.add(message.get("lag"))

    def _dialled(self, zone: str, result: str) -> Histogram:
        full = len(self.dials) >= MAX_ZONE_LABELS * len(RESULTS)
        zone = OTHER_ZONES if not zone or (full and (zone, result) not in self.dials) else zone
        for known in RESULTS:  # both, so that the failure rate is defined before the first failure
            self.dials.setdefault((zone, known), Histogram())
        return self.dials[zone, result]


def _amount(value: object) -> int:
    return value if type(value) is int and 0 <= value < 1 << 62 else 0
