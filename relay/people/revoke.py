"""Revocation of a person or a key, in any state of the site.

A revocation is a line in keys/revoked, so it works without a running relay and with an invalid policy. On a full disk
the reserve is freed; if that does not suffice, the key's line is turned into a comment in place, which needs no space.
"""

import difflib
import os
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from relay.core.escape import escape
from relay.core.keys.keyring import Keyring, RevokedLine
from relay.core.policy.target import name_fault
from relay.errors import InputRejected, NotPermitted, RelayError
from relay.people import key_file
from relay.people.key_file import KeyOccurrence

FILE = "revoked"
_FINGERPRINT = re.compile(r"(?:SHA256:)?([A-Za-z0-9+/]{43})=?")
_MOST_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class KeyToRevoke:
    """A key to revoke: its person ("" without one) and its base64 ("" if only the fingerprint is known)."""

    fingerprint: str
    person: str
    encoded: str


@dataclass(frozen=True, slots=True)
class Revoked:
    """The result of `revoke`."""

    keys: tuple[KeyToRevoke, ...]  # revoked now
    already: tuple[RevokedLine, ...]  # revoked before
    means: str  # "" if listed in keys/revoked; else a description of the fallback
    commented: tuple[KeyOccurrence, ...] = ()  # lines turned into comments because nothing could be appended


@dataclass(frozen=True, slots=True)
class Mention:
    """A line of the policy that names the person."""

    file: str
    line: int
    text: str


def find(directory: Path, what: str, rings: Iterable[Keyring]) -> tuple[KeyToRevoke, ...]:
    """The keys of a person's name or a fingerprint.

    `rings` are keyrings beside the files, such as the running one. Broken lines and files are searched for anything
    that looks like a key. An unknown fingerprint is accepted. Raises InputRejected for an unknown person, with the
    nearest name.
    """
    match = _FINGERPRINT.fullmatch(what)
    seen = list(key_file.scan(directory))
    known = {key.fingerprint: KeyToRevoke(key.fingerprint, key.person, key.encoded) for key in reversed(seen)}
    for ring in rings:
        for key in ring.keys.values():
            known.setdefault(key.fingerprint, KeyToRevoke(key.fingerprint, key.person, _encoded(key.blob)))
    if match is not None:
        fingerprint = f"SHA256:{match[1]}"
        return (known.get(fingerprint, KeyToRevoke(fingerprint, "", "")),)
    # a key may be listed for two persons: revoking either revokes it
    mine = {key.fingerprint for key in seen if key.person == what}
    mine |= {key.fingerprint for key in known.values() if key.person == what}
    if mine:
        return tuple(KeyToRevoke(key, what, known[key].encoded) for key in sorted(mine))
    persons = sorted({key.person for key in known.values()})
    if (directory / f"{what}.pub").exists() and not name_fault(what):
        raise InputRejected(
            f"keys/{what}.pub contains no recognisable key, so it grants nothing",
            f"remove it: rm {directory / what}.pub",
        )
    near = difflib.get_close_matches(what, persons, n=1)
    shown = escape(what, 80)
    raise InputRejected(
        f"{shown!r} is neither a person nor a fingerprint",
        f"did you mean {near[0]}?" if near else "see: relayctl list-keys",
    )


def revoke(
    directory: Path,
    keys: Iterable[KeyToRevoke],
    revocations: Mapping[str, RevokedLine],
    *,
    now: int,
    who: str,
    why: str = "",
) -> Revoked:
    """Revoke these keys, durably. `now` is Unix seconds, `who` one word for the administrator.

    Raises NotPermitted or RelayError if nothing could be written, with a manual alternative.
    """
    keys = tuple(keys)
    already = tuple(revocations[key.fingerprint] for key in keys if key.fingerprint in revocations)
    new = tuple(key for key in keys if key.fingerprint not in revocations)
    if not new:
        return Revoked((), already, "")
    when = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    who = re.sub(r"\s+", "_", escape(who, 80)) or "unknown"
    text = ""
    for key in new:
        reason = ": ".join(part for part in (key.person, _one_line(why)) if part)
        text += f"{key.fingerprint} {when} {who} {reason}".rstrip() + "\n"
    path = directory / FILE
    try:
        key_file.append(path, text)
    except OSError as error:
        if error.errno not in key_file.FULL:
            raise _complaint(path, error, new) from None
        means, commented = _without_room(directory, path, text, new)
        return Revoked(new, already, means, commented)
    key_file.make_reserve(directory)
    return Revoked(new, already, "")


def mentions(site: Path, person: str) -> tuple[Mention, ...]:
    """The lines of the policy that name `person`, found as text, so that invalid files are searched too."""
    word = re.compile(rf"(?<![a-z0-9._-]){re.escape(person)}(?![a-z0-9._-])")
    found = []
    try:
        files = sorted((site / "policies").glob("*.yaml"))
    except OSError:
        return ()
    for path in files:
        try:
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                rows = file.read(_MOST_BYTES).decode("utf-8", "replace").split("\n")
        except OSError:
            continue
        for number, row in enumerate(rows, 1):
            if word.search(row.partition(" #")[0]) and not row.lstrip().startswith("#"):
                found.append(Mention(f"policies/{escape(path.name, 80)}", number, escape(row.strip(), 120)))
    return tuple(found)


def _without_room(
    directory: Path, path: Path, text: str, new: tuple[KeyToRevoke, ...]
) -> tuple[str, tuple[KeyOccurrence, ...]]:
    if key_file.free_reserve(directory):
        try:
            key_file.append(path, text)
        except OSError as error:
            if error.errno not in key_file.FULL:
                raise _complaint(path, error, new) from None
        else:
            return "the disk is full: the reserve for revocations (keys/.reserve) was used", ()
    wanted = {key.fingerprint for key in new}
    done = []
    failed = []
    for seen in key_file.scan(directory):
        if seen.fingerprint in wanted:
            try:
                key_file.comment_out(directory, seen)
            except OSError as error:
                failed.append(f"{seen.file}:{seen.line}: {error.strerror}")
            else:
                done.append(seen)
    missing = wanted - {seen.fingerprint for seen in done}
    if failed or missing:
        problem = "; ".join(failed) or f"no line of a file holds {', '.join(sorted(missing))}"
        raise RelayError(
            f"the disk is full and nothing could be written for all keys: {problem}",
            f"free some space, or remove the person's file: rm {directory}/PERSON.pub",
        )
    return (
        "the disk is full: the key's line became a comment; free some space and revoke again to list it for ever",
        tuple(done),
    )


def _complaint(path: Path, error: OSError, new: tuple[KeyToRevoke, ...]) -> RelayError:
    persons = sorted({key.person for key in new if key.person})
    by_hand = " and ".join(f"rm {path.parent / person}.pub" for person in persons) or f"write it into {path} by hand"
    if isinstance(error, PermissionError):
        return NotPermitted(
            f"{path}: {error.strerror}: nothing was revoked", "run it with sudo, or as the site's owner"
        )
    return RelayError(f"{path}: {error.strerror}: nothing was revoked", f"by hand: {by_hand}")


def _one_line(text: str) -> str:
    return escape(" ".join(text.split()), 400)


def _encoded(blob: bytes) -> str:
    return b64encode(blob).decode()
