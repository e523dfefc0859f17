"""Scan detection: a key that is denied many different targets within a minute, and the freezing of such keys.

A scan is recorded once. Where the settings say so the key is frozen: its sessions and forwards end, and new ones are
refused, until the freeze runs out or an administrator lifts it. Only authenticated keys are counted, so the tables are
bounded by the number of keys.
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
ROW_SECONDS = 600.0  # between two rows about scans of one key
MAX_SHOWN = 10  # targets named in a row
# reasons that say nothing about the target
_NOT_ABOUT_TARGETS = ("key-unlisted", "key-revoked", "key-expired", "key-source", "key-presence", "key-no-forwarding",
                   "key-frozen", "no-policy", "ambiguous-target")  # fmt: skip


@dataclass(slots=True)
class _Denials:
    """The targets that one key was denied lately."""

    targets: OrderedDict[str, float] = field(default_factory=OrderedDict)  # as requested -> Unix time, oldest first
    no_row_before: float = float("-inf")


@dataclass(frozen=True, slots=True)
class FrozenKey:
    """A key that is frozen. `until` is Unix seconds."""

    fingerprint: str
    person: str
    until: int
    since: int
    reference: str


class ScanDetector:
    """The denied targets of each key within the last minute, and the frozen keys."""

    def __init__(
        self,
        audit: AuditLog,
        limits: Callable[[], Limits],
        changed: Callable[[], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`changed` is called after each change of the frozen keys; `clock` returns Unix seconds."""
        self._audit = audit
        self._limits = limits
        self._changed = changed
        self._clock = clock
        self._denials: dict[str, _Denials] = {}
        self._frozen: dict[str, FrozenKey] = {}
        self.scans = 0  # since the start

    def denied(self, event: Event) -> None:
        """Count a `forward.denied` row."""
        fields, limits, now = event.fields, self._limits(), self._clock()
        if str(fields.get("reason")) in _NOT_ABOUT_TARGETS:
            return
        denials = self._denials.setdefault(str(fields["fingerprint"]), _Denials())
        target = str(fields["asked"])
        denials.targets.pop(target, None)
        denials.targets[target] = now
        while denials.targets and next(iter(denials.targets.values())) < now - WINDOW_SECONDS:
            denials.targets.popitem(last=False)
        if len(denials.targets) < limits.scan_targets:
            return
        if now >= denials.no_row_before:
            denials.no_row_before = now + ROW_SECONDS
            self.scans += 1
            self._note(
                "scan.seen", fields, {"count": len(denials.targets), "detail": _target_list(list(denials.targets))}
            )
        if limits.scan_freeze and str(fields["fingerprint"]) not in self._frozen:
            self._freeze(fields, int(now), int(now + limits.scan_freeze))
        denials.targets.clear()

    def _freeze(self, fields: Mapping[str, Value], now: int, until: int) -> None:
        number = self._note("key.frozen", fields, {"until": until, "reason": "scan"})
        freeze = FrozenKey(str(fields["fingerprint"]), str(fields["person"]), until, now, number)
        self._frozen[freeze.fingerprint] = freeze
        self._changed()

    def _note(self, name: str, about: Mapping[str, Value], more: Mapping[str, Value]) -> str:
        subject = {key: about[key] for key in ("person", "fingerprint", "client", "connection") if about.get(key)}
        number = self._audit.make_id()
        self._audit.event(Event(number, self._audit.now_us(), name, {**subject, **more}))
        return number

    def lapse(self) -> None:
        """End freezes whose time is over and forget old denials; to be called about once a second."""
        now = self._clock()
        for freeze in tuple(self._frozen.values()):
            if freeze.until <= now:
                self._thaw(freeze, "lapsed", {})
        for fingerprint, denials in tuple(self._denials.items()):
            newest = next(reversed(denials.targets.values()), float("-inf"))
            if newest < now - WINDOW_SECONDS and denials.no_row_before < now:
                del self._denials[fingerprint]

    def lift(self, name: str, by: Mapping[str, Value]) -> list[str]:
        """Unfreeze a key, all keys of a person, or all keys (""); returns the fingerprints."""
        freezes = [freeze for freeze in self._frozen.values() if name in ("", freeze.fingerprint, freeze.person)]
        for freeze in freezes:
            self._thaw(freeze, "lifted", by)
        return [freeze.fingerprint for freeze in freezes]

    def _thaw(self, freeze: FrozenKey, reason: str, by: Mapping[str, Value]) -> None:
        del self._frozen[freeze.fingerprint]
        self._denials.pop(freeze.fingerprint, None)
        fields: dict[str, Value] = {"person": freeze.person, "fingerprint": freeze.fingerprint, "reason": reason}
        self._audit.note("key.thawed", fields | dict(by))
        self._changed()

    def message(self) -> dict[str, Any]:
        """The message to workers."""
        return {"t": "frozen", "keys": {freeze.fingerprint: freeze.until for freeze in self._frozen.values()}}

    def shown(self) -> list[dict[str, Any]]:
        """The frozen keys, the longest freeze first."""
        return [
            {
                "fingerprint": freeze.fingerprint,
                "person": freeze.person,
                "until": freeze.until,
                "since": freeze.since,
                "id": freeze.reference,
            }
            for freeze in sorted(self._frozen.values(), key=lambda freeze: -freeze.until)
        ]

    def remember(self, shown: list[dict[str, Any]]) -> None:
        """Take over the frozen keys (`shown`) of an earlier supervisor.

        Raises ValueError, TypeError or KeyError for malformed input.
        """
        for row in shown:
            freeze = FrozenKey(
                str(row["fingerprint"]), str(row["person"]), int(row["until"]), int(row["since"]), str(row["id"])
            )
            self._frozen[freeze.fingerprint] = freeze


def _target_list(targets: list[str]) -> str:
    more = f" and {len(targets) - MAX_SHOWN} more" if targets[MAX_SHOWN:] else ""
    return ", ".join(target[:80] for target in targets[:MAX_SHOWN]) + more
