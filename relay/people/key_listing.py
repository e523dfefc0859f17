"""The rows of `relayctl list-keys`: keys with persons, limits and states."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from relay.core.keys.authorized_keys import Key, advice
from relay.core.keys.keyring import Keyring, RevokedLine
from relay.core.keys.public_key import TYPE_NAMES
from relay.core.policy.time_conditions import Offsets, local

IN_FORCE = "in force"
WAITING = "waits for reload"
EXPIRED = "expired"
REVOKED = "revoked"
_LAST = 253_402_300_799  # 9999-12-31T23:59:59Z, the last time that datetime can represent


@dataclass(frozen=True, slots=True)
class ListedKey:
    """A key as `list-keys` shows it. Times are ISO 8601 in UTC."""

    person: str
    fingerprint: str
    type: str  # as `ssh-keygen -l` prints it
    bits: int
    comment: str
    state: str  # in force, waits for reload, expired, revoked
    sources: tuple[str, ...]
    until: str | None
    permitopen: tuple[str, ...] | None
    forwarding: bool
    verify_required: bool
    without_effect: tuple[str, ...]
    warnings: tuple[str, ...]
    file: str
    line: int
    revoked_when: str | None = None
    revoked_by: str | None = None
    revoked_why: str | None = None


def rows(files: Keyring, applied: Keyring | None, now: int) -> tuple[ListedKey, ...]:
    """The keys of the files by person and place, then the revoked ones. `applied` None: no running configuration."""
    listed = [row_of(key, _state(key, applied, now)) for key in files.keys.values()]
    revoked = [_revoked(line) for line in files.revocations.values()]
    return tuple(sorted(listed, key=lambda row: (row.person, row.file, row.line)) + sorted(revoked, key=_when))


def as_json(files: Keyring, listed: tuple[ListedKey, ...]) -> dict[str, Any]:
    """The output of `list-keys --json`."""
    return {
        "keys": [asdict(row) for row in listed],
        "faults": [asdict(fault) for fault in files.faults],
        "warnings": [asdict(warning) for warning in files.warnings],
        "nobody_gets_in": files.shut,
    }


def limits(row: ListedKey, offsets: Offsets) -> str:
    """The limits of a key as text; its end in the site's time zone."""
    parts = []
    if row.sources:
        parts.append(f"from {', '.join(row.sources)}")
    if row.until is not None:
        instant = int(datetime.fromisoformat(row.until).timestamp())
        wall = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=min(local(instant, offsets), _LAST))
        parts.append(f"until {wall:%Y-%m-%d %H:%M}")
    if row.permitopen is not None:
        parts.append(f"to {', '.join(row.permitopen)}")
    if not row.forwarding:
        parts.append("no forwarding")
    if row.verify_required:
        parts.append("user verification")
    return "; ".join(parts)


def row_of(key: Key, state: str) -> ListedKey:
    """The row of a key."""
    return ListedKey(
        person=key.person,
        fingerprint=key.fingerprint,
        type=TYPE_NAMES[key.algorithm],
        bits=key.bits,
        comment=key.comment,
        state=state,
        sources=tuple(str(source) for source in key.sources),
        until=None if key.expires is None else _iso(key.expires),
        permitopen=None if key.permitopen is None else tuple(permit.text for permit in key.permitopen),
        forwarding=key.forwarding,
        verify_required=key.verify_required,
        without_effect=key.without_effect,
        warnings=tuple(what for what, _ in advice(key)),
        file=key.file,
        line=key.line,
    )


def _state(key: Key, applied: Keyring | None, now: int) -> str:
    if key.expires is not None and now >= key.expires:
        return EXPIRED
    if applied is not None:
        running: Mapping[str, Key] = applied.keys
        known = running.get(key.fingerprint)
        if known is None or known.person != key.person:
            return WAITING
    return IN_FORCE


def _revoked(gone: RevokedLine) -> ListedKey:
    return ListedKey(
        person="",
        fingerprint=gone.fingerprint,
        type="",
        bits=0,
        comment="",
        state=REVOKED,
        sources=(),
        until=None,
        permitopen=None,
        forwarding=False,
        verify_required=False,
        without_effect=(),
        warnings=(),
        file=gone.file,
        line=gone.line,
        revoked_when=gone.when or None,
        revoked_by=gone.who or None,
        revoked_why=gone.why or None,
    )


def _when(row: ListedKey) -> tuple[str, str]:
    return row.revoked_when or "", row.fingerprint


def _iso(seconds: int) -> str:
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return "9999-12-31T23:59:59Z"
