"""How is a person, or one key, shut out for ever, whatever state the site is in?

The files are the truth, so a revocation is a line in keys/revoked and holds whether or not a relay runs or the policy
is valid. On a full disk the reserve is given back; if even that is not enough, the key's line becomes a comment in
place, which needs no room.
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
    """A key to be revoked: whose it is ("" if nobody's), and its base64 ("" if only the fingerprint is known)."""

    fingerprint: str
    person: str
    encoded: str


@dataclass(frozen=True, slots=True)
class Revoked:
    """What `revoke` did."""

    keys: tuple[KeyToRevoke, ...]  # shut out now
    already: tuple[RevokedLine, ...]  # were so before
    means: str  # "" listed in keys/revoked; else in words what was done instead or besides
    commented: tuple[KeyOccurrence, ...] = ()  # lines that became comments because nothing could be appended


@dataclass(frozen=True, slots=True)
class Mention:
    """A line of the policy that names the person."""

    file: str
    line: int
    text: str


def find(directory: Path, what: str, rings: Iterable[Keyring]) -> tuple[KeyToRevoke, ...]:
    """The keys meant by a person's name or a fingerprint.

    `rings` are keyrings that are known besides the files (applied ones). Broken lines and files are looked through
    for whatever looks like a key. A fingerprint that nobody has is taken as it is. Raises InputRejected for a person
    that nobody knows, with the nearest name.
    """
    match = _FINGERPRINT.fullmatch(what)
    seen = list(key_file.scan(directory))
    known = {one.fingerprint: KeyToRevoke(one.fingerprint, one.person, one.encoded) for one in reversed(seen)}
    for ring in rings:
        for key in ring.keys.values():
            known.setdefault(key.fingerprint, KeyToRevoke(key.fingerprint, key.person, _encoded(key.blob)))
    if match is not None:
        fingerprint = f"SHA256:{match[1]}"
        return (known.get(fingerprint, KeyToRevoke(fingerprint, "", "")),)
    # in the files one key may stand under two persons: revoking either shuts it out
    mine = {one.fingerprint for one in seen if one.person == what}
    mine |= {one.fingerprint for one in known.values() if one.person == what}
    if mine:
        return tuple(KeyToRevoke(one, what, known[one].encoded) for one in sorted(mine))
    persons = sorted({one.person for one in known.values()})
    if (directory / f"{what}.pub").exists() and not name_fault(what):
        raise InputRejected(
            f"no key can be recognised in keys/{what}.pub, and none gets in by it",
            f"remove it: rm {directory / what}.pub",
        )
    near = difflib.get_close_matches(what, persons, n=1)
    shown = escape(what, 80)
    raise InputRejected(
        f"nobody is called {shown!r}, and it is no fingerprint",
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
    """Shut these keys out, durably. `now` is Unix seconds, `who` one word for who does it.

    Raises NotPermitted or RelayError when nothing at all could be written, with what to do by hand.
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
    """The lines of the policy that name `person`, found as text: also in files that no parser reads."""
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
    if key_file.give_reserve_back(directory):
        try:
            key_file.append(path, text)
        except OSError as error:
            if error.errno not in key_file.FULL:
                raise _complaint(path, error, new) from None
        else:
            return "the disk is full: the room kept for revocations (keys/.reserve) was used", ()
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
        said = "; ".join(failed) or f"no line of a file holds {', '.join(sorted(missing))}"
        raise RelayError(
            f"the disk is full and nothing could be written for all the keys: {said}",
            f"make room, or remove the person's file: rm {directory}/PERSON.pub",
        )
    return "the disk is full: the key's line became a comment; make room and revoke again to list it for ever", tuple(
        done
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
