"""Differences between a site's files and the running configuration, kept in the state directory."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from relay.core.keys import keyring
from relay.core.keys.keyring import Keyring
from relay.core.policy.policy import Policy
from relay.core.policy.snapshot import SnapshotLoader
from relay.errors import RelayError

APPLIED = Path("applied")  # below the state directory, written by the supervisor
SITE = "current.jsonl"  # the output of the compile child
KEYS = "keys.jsonl"
MOST_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class AppliedSite:
    """The running configuration, as the supervisor keeps it."""

    version: str
    texts: Mapping[str, str]
    lines: tuple[str, ...]  # of the policy's snapshot
    keyring: Keyring | None  # None: unreadable

    def policy(self) -> Policy:
        """The running policy. Raises InputRejected for a damaged snapshot."""
        loader = SnapshotLoader()
        for line in self.lines:
            loader.feed(line)
        return loader.finish()


@dataclass(frozen=True, slots=True)
class Difference:
    """A file or key that differs from the running configuration."""

    what: str
    change: str

    def __str__(self) -> str:
        return f"{self.what}: {self.change}"


def read(state: Path) -> AppliedSite | None:
    """The running configuration; None before the first one. Raises RelayError if it is unreadable or damaged."""
    path = state / APPLIED / SITE
    texts: dict[str, str] = {}
    lines: list[str] = []
    version = ""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES)
        for row in data.decode().splitlines():
            kind, *values = json.loads(row)
            if kind == "text":
                texts[str(values[0])] = str(values[1])
            elif kind == "policy":
                lines.append(str(values[0]))
            elif kind == "done":
                version = str(values[0])
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RelayError(
            f"the running configuration cannot be read: {path}: {error.strerror}", "run it with sudo"
        ) from None
    except (ValueError, TypeError, IndexError):
        raise RelayError(f"the running configuration cannot be read: {path} is damaged", "relayctl reload") from None
    return AppliedSite(version, texts, tuple(lines), _keyring(state))


def _keyring(state: Path) -> Keyring | None:
    try:
        return keyring.load((state / APPLIED / KEYS).read_text().splitlines())
    except (OSError, ValueError, RelayError):
        return None


def of_texts(applied: Mapping[str, str], texts: Mapping[str, str]) -> tuple[Difference, ...]:
    """New, removed and changed files, with numbers of lines."""
    differences = []
    for name in sorted({*applied, *texts}):
        if name not in applied:
            differences.append(Difference(name, "not applied yet"))
        elif name not in texts:
            differences.append(Difference(name, "removed, but still applied"))
        elif applied[name] != texts[name]:
            old, new = applied[name].splitlines(), texts[name].splitlines()
            changes = [line[0] for line in difflib.unified_diff(old, new, n=0, lineterm="")][2:]
            differences.append(
                Difference(name, f"changed: {changes.count('+')} lines added, {changes.count('-')} removed")
            )
    return tuple(differences)


def of_keys(applied: Keyring, files: Keyring) -> tuple[Difference, ...]:
    """New, removed and changed keys."""
    differences = []
    for fingerprint in sorted({*applied.keys, *files.keys}):
        old, new = applied.keys.get(fingerprint), files.keys.get(fingerprint)
        if old is None and new is not None:
            differences.append(Difference(f"{new.place} ({new.person}, {fingerprint})", "not applied yet"))
        elif old is not None and new is None:
            differences.append(Difference(f"{old.place} ({old.person}, {fingerprint})", "removed, but still applied"))
        elif old is not None and new is not None and _meaning(old) != _meaning(new):
            differences.append(Difference(f"{new.place} ({new.person}, {fingerprint})", "its options or owner changed"))
    return tuple(differences)


def _meaning(key: object) -> tuple[object, ...]:
    names = ("person", "sources", "expires", "permitopen", "forwarding", "verify_required")
    return tuple(getattr(key, name) for name in names)
