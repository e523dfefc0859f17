"""Import of an authorized_keys file: its keys, split into persons by their comments.

For the move from a shared account of sshd.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from relay.core.escape import escape
from relay.core.keys.authorized_keys import Key, conditions, parse_line
from relay.core.keys.keyring import Keyring
from relay.core.policy.target import name_fault
from relay.core.policy.time_conditions import Offsets
from relay.errors import InputRejected
from relay.people import add, key_file, key_text
from relay.people.add import Addition

# shared accounts, which would give one name to several persons
_SHARED = frozenset(
    {"root", "admin", "administrator", "user", "ubuntu", "debian", "centos", "fedora", "ec2-user", "azureuser", "pi"}
    | {"git", "deploy", "vagrant", "opc", "core", "test", "guest", "nobody", "ansible", "jenkins", "imported"}
)
_FINGERPRINT = re.compile(r"(?:SHA256:)?[A-Za-z0-9+/]{43}=?")


@dataclass(frozen=True, slots=True)
class ImportableKey:
    """A key that can be imported, its person, and its line."""

    person: str
    key: Key
    text: str
    already: bool  # is already in that person's file


@dataclass(frozen=True, slots=True)
class RejectedLine:
    """A line that cannot be imported, with the reason and a hint."""

    line: int
    comment: str  # or an excerpt of the line
    what: str
    cure: str


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """The effect of an import."""

    entries: tuple[ImportableKey, ...]
    rejected: tuple[RejectedLine, ...]
    unused: tuple[str, ...]  # keys of the map that match no line


def names(data: bytes) -> dict[str, str]:
    """Parse the map of `--names`: on each line a fingerprint or a comment, then the person's name.

    Raises InputRejected for an incomplete line or an invalid name.
    """
    if len(data) > key_text.MOST_BYTES:
        raise InputRejected("the map of names is too large", "one line per key: FINGERPRINT-OR-COMMENT NAME")
    found: dict[str, str] = {}
    for number, raw in enumerate(data.decode("utf-8-sig", "replace").splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        words = line.rsplit(None, 1)
        if len(words) != 2:
            raise InputRejected(
                f"line {number} of the map has no name: {escape(line, 60)}", "write: FINGERPRINT-OR-COMMENT NAME"
            )
        fault = name_fault(words[1])
        if fault:
            raise InputRejected(f"line {number} of the map: {fault}", "a person's name is like alice or team-7")
        which = words[0].strip()
        if _FINGERPRINT.fullmatch(which):
            which = "SHA256:" + which.removeprefix("SHA256:").rstrip("=")
        if found.setdefault(which, words[1]) != words[1]:
            raise InputRejected(f"line {number} of the map gives {escape(which, 60)} a second name", "keep one of them")
    return found


def person_of(comment: str) -> str:
    """The name that a key's comment suggests (alice@laptop: alice); "" if it suggests none."""
    word = comment.strip().lower().partition("@")[0]
    name = re.sub(r"[^a-z0-9._-]+", "-", word).strip("-._")[:32].rstrip("-._")
    return "" if name in _SHARED or name_fault(name) else name


def plan(
    data: bytes,
    source: str,
    ring: Keyring,
    directory: Path,
    *,
    chosen: Mapping[str, str],
    groups: Collection[str] = (),
    offsets: Offsets = (),
    rsa_bits: int = 2048,
) -> ImportPlan:
    """The import of an authorized_keys file, without writing.

    `ring` and `directory` are the site's keys, `chosen` the names by fingerprint or comment. Raises InputRejected for
    another kind of file, such as a private key.
    """
    holders = {seen.fingerprint: seen for seen in key_file.scan(directory)}
    entries: dict[str, ImportableKey] = {}
    rejected: list[RejectedLine] = []
    used: set[str] = set()
    for line in key_text.lines(data, source):
        comment = line.text
        try:
            key = parse_line(line.text, person="", file=source, line=line.number, offsets=offsets, rsa_bits=rsa_bits)
            if key is None:
                continue
            comment = key.comment
            which = next((one for one in (key.fingerprint, key.comment) if one in chosen), None)
            if which is not None:
                used.add(which)
            person = chosen[which] if which is not None else person_of(key.comment)
            key = replace(key, person=person)
            _check(key, ring, groups)
            twin = entries.get(key.fingerprint)
            if twin is not None:
                what = f"the same key as on line {twin.key.line}"
                raise InputRejected(what, "that line is imported; remove it to import this one instead")
            holder = holders.get(key.fingerprint)
            if holder is not None:
                _check_holder(key, holder, ring)
        except InputRejected as error:
            rejected.append(RejectedLine(line.number, _shortened(comment), error.what, error.hint))
        else:
            entries[key.fingerprint] = ImportableKey(person, key, line.text, holder is not None)
    return ImportPlan(tuple(entries.values()), tuple(rejected), tuple(sorted(set(chosen) - used)))


def write(directory: Path, planned: ImportPlan, ring: Keyring) -> tuple[Addition, ...]:
    """Write the planned keys, person by person. Raises as `add.put`; earlier persons stay written."""
    done = []
    for person in sorted({entry.person for entry in planned.entries}):
        lines = [(entry.key, entry.text) for entry in planned.entries if entry.person == person]
        done.append(add.put(directory, person, lines, ring))
    return tuple(done)


def _check(key: Key, ring: Keyring, groups: Collection[str]) -> None:
    if not key.person:
        what = "the comment names no person" if key.comment else "the key has no comment"
        raise InputRejected(what, f"name its person in a file for --names: {key.fingerprint} NAME")
    try:
        add.check_person(key.person, groups)
    except InputRejected as error:
        raise InputRejected(error.what, f"give another name by --names: {key.fingerprint} NAME") from None
    add.refuse_revoked(key, ring)


def _check_holder(key: Key, holder: key_file.KeyOccurrence, ring: Keyring) -> None:
    place = f"{holder.file}:{holder.line}"
    if holder.person != key.person:
        raise InputRejected(f"the key is {escape(holder.person, 40)}'s already ({place})", "one key, one person")
    present = ring.keys.get(key.fingerprint)
    if present is None or conditions(present) != conditions(key):
        raise InputRejected(f"the key is in {place} with other options", "edit that line")


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:28]}...{text[-28:]}"
