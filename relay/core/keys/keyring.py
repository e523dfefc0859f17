"""Keyrings: the accepted keys and the revoked fingerprints, and the combination of two keyrings.

The supervisor combines the running keyring with the one just read from the files. `narrowed` applies removals only;
`with_persons` also applies the keys that `add-key` wrote for these persons.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha256
from ipaddress import ip_address, ip_network
from types import MappingProxyType
from typing import Any

from relay.core.keys.authorized_keys import FromPattern, Key, PermitOpen
from relay.core.policy.target import Target
from relay.errors import Fault, InputRejected

_NONE: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class RevokedLine:
    """One line of keys/revoked: a fingerprint that is never accepted again, with author, time and reason."""

    fingerprint: str
    when: str = ""  # ISO 8601 in UTC, as written
    who: str = ""
    why: str = ""
    file: str = ""
    line: int = 0


@dataclass(frozen=True)
class Keyring:
    """The accepted keys by fingerprint (revoked ones are left out), the revocations, and the faults of the files."""

    keys: Mapping[str, Key] = field(default_factory=lambda: _NONE)
    revocations: Mapping[str, RevokedLine] = field(default_factory=lambda: _NONE)
    faults: tuple[Fault, ...] = ()
    warnings: tuple[Fault, ...] = ()
    shut: bool = False  # keys/revoked cannot be read completely, so no key of the files is accepted

    @cached_property
    def revoked(self) -> frozenset[str]:
        """The fingerprints that are never accepted again."""
        return frozenset(self.revocations)

    @cached_property
    def version(self) -> str:
        """12 hexadecimal digits that identify keys and revocations, regardless of faults."""
        digest = sha256()
        for line in _lines(self):
            digest.update(line.encode())
            digest.update(b"\n")
        return digest.hexdigest()[:12]

    def of(self, person: str) -> tuple[Key, ...]:
        """The keys of a person, in the order of the files."""
        return tuple(key for key in self.keys.values() if key.person == person)


def narrowed(applied: Keyring, files: Keyring) -> Keyring:
    """`applied` without keys that were removed from the files or revoked. No key is added, no option changes."""
    kept = {
        fingerprint: key
        for fingerprint, key in applied.keys.items()
        if fingerprint in files.keys
        and files.keys[fingerprint].person == key.person
        and fingerprint not in files.revoked
    }
    return _combined(kept, applied, files)


def with_persons(applied: Keyring, files: Keyring, persons: Iterable[str]) -> Keyring:
    """`narrowed`, with the keys of these persons replaced by those in the files."""
    named = frozenset(persons)
    kept = {fingerprint: key for fingerprint, key in narrowed(applied, files).keys.items() if key.person not in named}
    kept |= {fingerprint: key for fingerprint, key in files.keys.items() if key.person in named}
    return _combined(kept, applied, files)


def _combined(keys: Mapping[str, Key], applied: Keyring, files: Keyring) -> Keyring:
    # an applied revocation stays in force until the next reload, even if its line was removed
    revocations = {**applied.revocations, **files.revocations}
    kept = {fingerprint: key for fingerprint, key in keys.items() if fingerprint not in revocations}
    return Keyring(MappingProxyType(kept), MappingProxyType(revocations), files.faults, files.warnings, files.shut)


def dump(keyring: Keyring) -> Iterator[str]:
    """The keyring as lines of JSON, one for each key, revocation, fault and warning."""
    yield from _lines(keyring)
    for kind, faults in (("fault", keyring.faults), ("warning", keyring.warnings)):
        for fault in faults:
            yield _json([kind, fault.file, fault.line, fault.what, fault.cure])
    if keyring.shut:
        yield _json(["shut"])


class KeyringLoader:
    """Loads a keyring from the lines of `dump` one by one (some 20 us each); a worker can pause between them."""

    def __init__(self) -> None:
        self._keys: dict[str, Key] = {}
        self._revocations: dict[str, RevokedLine] = {}
        self._faults: list[Fault] = []
        self._warnings: list[Fault] = []
        self._shut = False

    def feed(self, line: str) -> None:
        """Load one line. Raises InputRejected for anything that `dump` does not write."""
        try:
            kind, *values = json.loads(line)
            if kind == "key":
                key = _key(values)
                self._keys[key.fingerprint] = key
            elif kind == "revoked":
                revocation = RevokedLine(*values)
                self._revocations[revocation.fingerprint] = revocation
            elif kind == "fault":
                self._faults.append(Fault(*values))
            elif kind == "warning":
                self._warnings.append(Fault(*values))
            elif kind == "shut":
                self._shut = True
            else:
                raise ValueError(kind)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise InputRejected(f"a line of a keyring is invalid: {error}", "relayctl reload") from None

    def finish(self) -> Keyring:
        """The loaded keyring."""
        return Keyring(
            MappingProxyType(self._keys),
            MappingProxyType(self._revocations),
            tuple(self._faults),
            tuple(self._warnings),
            self._shut,
        )


def load(lines: Iterable[str]) -> Keyring:
    """Load the keyring that `dump` wrote. Raises InputRejected."""
    loader = KeyringLoader()
    for line in lines:
        loader.feed(line)
    return loader.finish()


def _lines(keyring: Keyring) -> Iterator[str]:
    for key in sorted(keyring.keys.values(), key=lambda key: key.fingerprint):
        yield _json(
            [
                "key",
                key.fingerprint,
                key.algorithm,
                key.bits,
                key.comment,
                key.blob.hex(),
                key.person,
                [[source.text, source.network and str(source.network), source.negated] for source in key.sources],
                key.expires,
                None if key.permitopen is None else [_permit_row(permit) for permit in key.permitopen],
                key.forwarding,
                key.verify_required,
                key.touch_required,
                key.without_effect,
                key.file,
                key.line,
            ]
        )
    for line in sorted(keyring.revocations.values(), key=lambda line: line.fingerprint):
        yield _json(["revoked", line.fingerprint, line.when, line.who, line.why, line.file, line.line])


def _permit_row(permit: PermitOpen) -> list[Any]:
    host = permit.host
    if host is None:
        return [None, permit.port, permit.text]
    return [
        [host.name, None if host.address is None else str(host.address), host.zone, host.port],
        permit.port,
        permit.text,
    ]


def _json(values: list[Any]) -> str:
    return json.dumps(values, separators=(",", ":"))


def _key(row: list[Any]) -> Key:
    (fingerprint, algorithm, bits, comment, blob, person, sources, expires, permitopen, *rest) = row
    forwarding, verify_required, touch_required, without_effect, file, line = rest
    return Key(
        fingerprint,
        algorithm,
        bits,
        comment,
        bytes.fromhex(blob),
        person,
        tuple(FromPattern(text, None if network is None else ip_network(network), no) for text, network, no in sources),
        expires,
        None if permitopen is None else tuple(PermitOpen(_host(host), port, text) for host, port, text in permitopen),
        forwarding,
        verify_required,
        touch_required,
        tuple(without_effect),
        file,
        line,
    )


def _host(row: list[Any] | None) -> Target | None:
    if row is None:
        return None
    name, address, zone, port = row
    return Target(name, None if address is None else ip_address(address), zone, port)
