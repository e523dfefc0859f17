"""Who gets in by key now? The keys of everybody, the revoked fingerprints, and how two such sets are combined.

Two keyrings meet in the supervisor: the applied one (the law) and the one just read from the files (the wish).
`narrowed` lets only removals through, `with_persons` also what an add-key of these persons put in.
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
    """One line of keys/revoked: a fingerprint that never gets in again, with who said so, when and why."""

    fingerprint: str
    when: str = ""  # ISO 8601 in UTC, as written
    who: str = ""
    why: str = ""
    file: str = ""
    line: int = 0


@dataclass(frozen=True)
class Keyring:
    """The keys that get in (revoked ones are not among them), by fingerprint, and what is wrong with the files."""

    keys: Mapping[str, Key] = field(default_factory=lambda: _NONE)
    revocations: Mapping[str, RevokedLine] = field(default_factory=lambda: _NONE)
    faults: tuple[Fault, ...] = ()
    warnings: tuple[Fault, ...] = ()
    shut: bool = False  # keys/revoked cannot be read whole: then no key gets in by the files

    @cached_property
    def revoked(self) -> frozenset[str]:
        """The fingerprints that never get in again."""
        return frozenset(self.revocations)

    @cached_property
    def version(self) -> str:
        """12 hex digits that stand for who gets in: equal for equal keys and revocations, whatever the faults are."""
        digest = sha256()
        for line in _lines(self):
            digest.update(line.encode())
            digest.update(b"\n")
        return digest.hexdigest()[:12]

    def of(self, person: str) -> tuple[Key, ...]:
        """The person's keys, as they stand in the files."""
        return tuple(key for key in self.keys.values() if key.person == person)


def narrowed(applied: Keyring, files: Keyring) -> Keyring:
    """`applied` without what is gone from the files or revoked. Nothing is added and no option changes."""
    kept = {
        fingerprint: key
        for fingerprint, key in applied.keys.items()
        if fingerprint in files.keys
        and files.keys[fingerprint].person == key.person
        and fingerprint not in files.revoked
    }
    return _combined(kept, applied, files)


def with_persons(applied: Keyring, files: Keyring, persons: Iterable[str]) -> Keyring:
    """`narrowed`, but for these persons the files are the law: their new keys get in and their options change."""
    named = frozenset(persons)
    kept = {fingerprint: key for fingerprint, key in narrowed(applied, files).keys.items() if key.person not in named}
    kept |= {fingerprint: key for fingerprint, key in files.keys.items() if key.person in named}
    return _combined(kept, applied, files)


def _combined(keys: Mapping[str, Key], applied: Keyring, files: Keyring) -> Keyring:
    # a revocation once applied holds even when its line is removed: `never again`, until the next reload
    revocations = {**applied.revocations, **files.revocations}
    kept = {fingerprint: key for fingerprint, key in keys.items() if fingerprint not in revocations}
    return Keyring(MappingProxyType(kept), MappingProxyType(revocations), files.faults, files.warnings, files.shut)


def dump(keyring: Keyring) -> Iterator[str]:
    """The keyring as lines of JSON, one per key and per revocation; faults and warnings as well."""
    yield from _lines(keyring)
    for kind, found in (("fault", keyring.faults), ("warning", keyring.warnings)):
        for fault in found:
            yield _json([kind, fault.file, fault.line, fault.what, fault.cure])
    if keyring.shut:
        yield _json(["shut"])


class KeyringLoader:
    """Takes the lines of `dump` one by one (some 20 us each), so that a worker can load them in slices."""

    def __init__(self) -> None:
        self._keys: dict[str, Key] = {}
        self._revocations: dict[str, RevokedLine] = {}
        self._faults: list[Fault] = []
        self._warnings: list[Fault] = []
        self._shut = False

    def feed(self, line: str) -> None:
        """Take one line. Raises InputRejected for anything that `dump` does not write."""
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
            raise InputRejected(f"a line of a shipped keyring is broken: {error}", "relayctl reload") from None

    def finish(self) -> Keyring:
        """The keyring of all the lines."""
        return Keyring(
            MappingProxyType(self._keys),
            MappingProxyType(self._revocations),
            tuple(self._faults),
            tuple(self._warnings),
            self._shut,
        )


def load(lines: Iterable[str]) -> Keyring:
    """The keyring that `dump` wrote. Raises InputRejected."""
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
    for gone in sorted(keyring.revocations.values(), key=lambda gone: gone.fingerprint):
        yield _json(["revoked", gone.fingerprint, gone.when, gone.who, gone.why, gone.file, gone.line])


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
