"""Who tries one target after another? A key that is denied many different ones within a minute is called a scan.

It is on record once, and where the settings say so the key is frozen: nothing that is open with it goes on, nothing
new begins, until the freeze lapses by itself or somebody lifts it. Only proven keys get here, so all of this is
bounded by the keys there are.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from relay.core.audit.event import Event, Value
from relay.core.settings import Limits
from relay.serve.supervisor.audit.audit_log import AuditLog

WINDOW_SECONDS = 60.0
QUIET_SECONDS = 600.0  # after a row about a key, before the next one
SHOWN = 10  # targets in the row
# reasons that say nothing about the target
_NOT_OF_TARGETS = ("key-unlisted", "key-revoked", "key-expired", "key-source", "key-presence", "key-no-forwarding",
                   "key-frozen", "no-policy", "ambiguous-target")  # fmt: skip


@dataclass(slots=True)
class _Seen:
    """What one key was denied lately."""

    targets: OrderedDict[str, float] = field(default_factory=OrderedDict)  # as asked -> when, oldest first
    quiet_until: float = float("-inf")


@dataclass(frozen=True, slots=True)
class FrozenKey:
    """A key that is frozen. `until` is Unix seconds."""

    fingerprint: str
    person: str
    until: int
    since: int
    reference: str


class ScanDetector:
    """The denials of each key within the last minute, and the keys that are frozen."""

    def __init__(
        self,
        record: AuditLog,
        limits: Callable[[], Limits],
        changed: Callable[[], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`changed` is called whenever other keys are frozen than before; `clock` gives Unix seconds."""
        self._record = record
        self._limits = limits
        self._changed = changed
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self._frozen: dict[str, FrozenKey] = {}
        self.seen = 0  # since the start

    def denied(self, event: Event) -> None:
        """A `forward.denied` row."""
        fields, limits, now = event.fields, self._limits(), self._clock()
        if str(fields.get("reason")) in _NOT_OF_TARGETS:
            return
        seen = self._seen.setdefault(str(fields["fingerprint"]), _Seen())
        target = str(fields["asked"])
        seen.targets.pop(target, None)
        seen.targets[target] = now
        while seen.targets and next(iter(seen.targets.values())) < now - WINDOW_SECONDS:
            seen.targets.popitem(last=False)
        if len(seen.targets) < limits.scan_targets:
            return
        if now >= seen.quiet_until:
            seen.quiet_until = now + QUIET_SECONDS
            self.seen += 1
            self._note("scan.seen", fields, {"count": len(seen.targets), "detail": _shown(list(seen.targets))})
        if limits.scan_freeze and str(fields["fingerprint"]) not in self._frozen:
            self._freeze(fields, int(now), int(now + limits.scan_freeze))
        seen.targets.clear()

    def _freeze(self, fields: Mapping[str, Value], now: int, until: int) -> None:
        number = self._note("key.frozen", fields, {"until": until, "reason": "scan"})
        freeze = FrozenKey(str(fields["fingerprint"]), str(fields["person"]), until, now, number)
        self._frozen[freeze.fingerprint] = freeze
        self._changed()

    def _note(self, name: str, about: Mapping[str, Value], more: Mapping[str, Value]) -> str:
        who = {key: about[key] for key in ("person", "fingerprint", "client", "connection") if about.get(key)}
        number = self._record.make_id()
        self._record.event(Event(number, self._record.now_us(), name, {**who, **more}))
        return number

    def lapse(self) -> None:
        """Let freezes lapse and forget old denials; to be called every second or so."""
        now = self._clock()
        for freeze in tuple(self._frozen.values()):
            if freeze.until <= now:
                self._thaw(freeze, "lapsed", {})
        for fingerprint, seen in tuple(self._seen.items()):
            newest = next(reversed(seen.targets.values()), float("-inf"))
            if newest < now - WINDOW_SECONDS and seen.quiet_until < now:
                del self._seen[fingerprint]

    def lift(self, wanted: str, by: Mapping[str, Value]) -> list[str]:
        """Somebody thaws a key, or all keys of a person ("" for all that are frozen); the fingerprints."""
        freezes = [one for one in self._frozen.values() if wanted in ("", one.fingerprint, one.person)]
        for freeze in freezes:
            self._thaw(freeze, "lifted", by)
        return [freeze.fingerprint for freeze in freezes]

    def _thaw(self, freeze: FrozenKey, reason: str, by: Mapping[str, Value]) -> None:
        del self._frozen[freeze.fingerprint]
        self._seen.pop(freeze.fingerprint, None)
        fields: dict[str, Value] = {"person": freeze.person, "fingerprint": freeze.fingerprint, "reason": reason}
        self._record.note("key.thawed", fields | dict(by))
        self._changed()

    def message(self) -> dict[str, Any]:
        """What workers have to know."""
        return {"t": "frozen", "keys": {one.fingerprint: one.until for one in self._frozen.values()}}

    def shown(self) -> list[dict[str, Any]]:
        """The frozen keys, those that stay longest first."""
        return [
            {
                "fingerprint": one.fingerprint,
                "person": one.person,
                "until": one.until,
                "since": one.since,
                "id": one.reference,
            }
            for one in sorted(self._frozen.values(), key=lambda freeze: -freeze.until)
        ]

    def remember(self, shown: list[dict[str, Any]]) -> None:
        """What a predecessor knew (`shown`). Raises ValueError, TypeError or KeyError for something else."""
        for one in shown:
            freeze = FrozenKey(
                str(one["fingerprint"]), str(one["person"]), int(one["until"]), int(one["since"]), str(one["id"])
            )
            self._frozen[freeze.fingerprint] = freeze


def _shown(targets: list[str]) -> str:
    more = f" and {len(targets) - SHOWN} more" if targets[SHOWN:] else ""
    return ", ".join(target[:80] for target in targets[:SHOWN]) + more
