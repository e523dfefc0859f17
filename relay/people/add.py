"""Adding keys to a person's file: all given lines are written, or none."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from relay.core.escape import escape
from relay.core.keys.authorized_keys import Key, advice, conditions, parse_line
from relay.core.keys.keyring import Keyring
from relay.core.policy.target import EVERYONE, name_fault
from relay.core.policy.time_conditions import Offsets
from relay.errors import Fault, InputRejected, RelayError, SiteInvalid
from relay.people import key_file, key_text
from relay.people.key_text import KeyLine


@dataclass(frozen=True, slots=True)
class Addition:
    """The result of `add`: new keys of the person's file, keys that were already in it, and warnings."""

    person: str
    file: str  # relative to the site
    added: tuple[Key, ...]
    already: tuple[Key, ...]
    warnings: tuple[Fault, ...]


def check_person(person: str, groups: Collection[str]) -> None:
    """Raise InputRejected unless `person` is a valid name of a person."""
    fault = name_fault(person)
    if fault:
        raise InputRejected(fault, "a person's name is like alice, alice.w or team-7")
    if person == EVERYONE:
        raise InputRejected(f"the name {EVERYONE!r} is reserved: it means all persons", "choose another name")
    if person in groups:
        raise InputRejected(
            f"{person!r} is a group of the policy; persons and groups share one namespace",
            "give the person's own name, and list it in that group",
        )


def parse(
    person: str, given: Iterable[KeyLine], source: str, *, offsets: Offsets = (), rsa_bits: int = 2048
) -> tuple[tuple[Key, str], ...]:
    """The keys of the lines with their texts. Raises InputRejected for a fault, SiteInvalid for several."""
    keys: dict[str, tuple[Key, str]] = {}
    faults = []
    for line in given:
        try:
            key = parse_line(
                line.text, person=person, file=source, line=line.number, offsets=offsets, rsa_bits=rsa_bits
            )
        except InputRejected as error:
            faults.append(Fault(source, line.number, error.what, error.hint))
            continue
        if key is not None:
            keys.setdefault(key.fingerprint, (key, line.text.strip()))
    if len(faults) == 1:
        place = f"{faults[0].file}:{faults[0].line}: " if keys or faults[0].line > 1 else ""
        raise InputRejected(place + faults[0].what, faults[0].cure)
    if faults:
        raise SiteInvalid(tuple(faults), "nothing was added")
    return tuple(keys.values())


def add(
    directory: Path,
    person: str,
    data: bytes,
    ring: Keyring,
    *,
    source: str = "-",
    groups: Collection[str] = (),
    offsets: Offsets = (),
    rsa_bits: int = 2048,
) -> Addition:
    """Put the public keys in `data` into `directory`/PERSON.pub.

    `ring` is the keyring of the files (relay.site.key_files.read), `groups` the names of the policy's groups. Raises
    InputRejected or SiteInvalid for invalid keys, NotPermitted or RelayError if the file cannot be written; in each
    case nothing was changed.
    """
    check_person(person, groups)
    shown = "standard input" if source == "-" else escape(source, 200)
    keys = parse(person, key_text.lines(data, source), shown, offsets=offsets, rsa_bits=rsa_bits)
    return put(directory, person, keys, ring)


def put(directory: Path, person: str, keys: Iterable[tuple[Key, str]], ring: Keyring) -> Addition:
    """`add` for parsed keys, each with the text of its line."""
    if ring.shut:
        what = str(ring.faults[0]) if ring.faults else "keys/revoked cannot be read"
        raise RelayError(f"the revocations cannot be read: {what}", "correct that first")
    path = directory / f"{person}.pub"
    file = f"keys/{person}.pub"
    with key_file.locked(directory):
        holders = {seen.fingerprint: seen for seen in key_file.scan(directory)}
        added: list[tuple[Key, str]] = []
        already: list[Key] = []
        for key, text in keys:
            refuse_revoked(key, ring)
            holder = holders.get(key.fingerprint)
            if holder is None:
                added.append((key, text))
                continue
            place = f"{holder.file}:{holder.line}"
            if holder.person != person:
                raise InputRejected(
                    f"{key.fingerprint} is {escape(holder.person, 40)}'s already ({place}): one key, one person",
                    f"{person} needs a key of their own: ssh-keygen -t ed25519",
                )
            present = ring.keys.get(key.fingerprint)
            if present is None or conditions(present) != conditions(key):
                why = "with other options" if present else "in a line with a fault"
                raise InputRejected(
                    f"{key.fingerprint} is already in {place}, {why}", "edit that line, then: relayctl reload"
                )
            already.append(present)
        if added:
            before = key_file.read(path)
            number = len(before.split(b"\n")) + (0 if before.endswith(b"\n") or not before else 1)
            text = "".join(f"{line}\n" for _, line in added)
            key_file.replace(path, before + (b"" if before.endswith(b"\n") or not before else b"\n") + text.encode())
            placed = tuple(_placed(key, file, number + at) for at, (key, _) in enumerate(added))
            key_file.make_reserve(directory)
        else:
            placed = ()
    warnings = tuple(Fault(key.file, key.line, what, cure) for key in placed for what, cure in advice(key))
    return Addition(person, file, placed, tuple(already), warnings)


def refuse_revoked(key: Key, ring: Keyring) -> None:
    """Raise InputRejected, with the line of its revocation, for a revoked key."""
    gone = ring.revocations.get(key.fingerprint)
    if gone is not None:
        details = " ".join(part for part in (gone.when, gone.who, gone.why) if part)
        raise InputRejected(
            f"{key.fingerprint} was revoked: {gone.file}:{gone.line}"
            + (f" ({escape(details, 200)})" if details else ""),
            "a revoked key is never accepted again; make a new one: ssh-keygen -t ed25519",
        )


def _placed(key: Key, file: str, line: int) -> Key:
    return replace(key, file=file, line=line)
