"""Reader of a site's key files: keys/*.pub and keys/revoked.

Standard library only: the supervisor calls it every second. A broken line disables its key, a broken file the keys of
its person. If keys/revoked cannot be read completely, no key is accepted, because the revocations are unknown.
"""

import os
import stat
import time
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

from relay.core.escape import escape
from relay.core.keys import authorized_keys_options, public_key
from relay.core.keys.authorized_keys import Key, parse_file
from relay.core.keys.keyring import Keyring, RevokedLine, dump, load, narrowed, with_persons
from relay.core.policy.target import EVERYONE, name_fault
from relay.core.policy.time_conditions import Offsets
from relay.errors import Fault, InputRejected
from relay.site.locate import KEYS, writable_by_others

__all__ = [
    "Keyring",
    "RevokedLine",
    "dump",
    "load",
    "narrowed",
    "parse_revoked",
    "read",
    "unchanged",
    "with_persons",
]

REVOKED = "revoked"
FILE_BYTES_MOST = 1 << 20  # 1000 keys of one person, or some 9,000 revocations with their reasons
REVOKED_BYTES_MOST = 16 << 20
FILES_MOST = 20_000
FEW = 64  # files that take 0.2 ms to stat, so that no thread is needed, which would cost as much again
_SETTLED_NS = 100_000_000  # a file that changed less than this before the read may change again within a clock tick

Stamp = tuple[int, int, int, int, int, int]
_ABSENT: Stamp = (0, 0, 0, 0, 0, 0)
_Parsed = tuple[tuple[Key, ...], tuple[Fault, ...], tuple[Fault, ...]]


@dataclass(frozen=True, slots=True)
class _File:
    """A parsed file, with the stamp that tells whether it changed."""

    stamp: Stamp | None  # None: parse again in any case
    keys: tuple[Key, ...] = ()
    revocations: tuple[RevokedLine, ...] = ()
    faults: tuple[Fault, ...] = ()
    warnings: tuple[Fault, ...] = ()


@dataclass(frozen=True)
class _Read(Keyring):
    """A keyring with its parsed files, so that unchanged ones are not parsed again."""

    files: Mapping[str, _File] = field(default_factory=dict, repr=False, compare=False)
    reading: tuple[object, ...] = field(default=(), repr=False, compare=False)  # what the parsing depended on


def read(
    site: Path,
    previous: Keyring | None = None,
    *,
    offsets: Offsets = (),
    rsa_bits: int = public_key.RSA_BITS,
) -> Keyring:
    """The keyring of the files below `site`. Problems of the files are in `faults`, never exceptions.

    `previous` is the result of an earlier call; `offsets` is the site's time zone for expiry-time= (see
    relay.core.keys.authorized_keys_options.parse), without which it is read as UTC.
    """
    reading = (tuple(offsets), rsa_bits)
    known = previous.files if isinstance(previous, _Read) and previous.reading == reading else {}
    directory = site / KEYS
    files: dict[str, _File] = {}
    faults: list[Fault] = []
    try:
        names = sorted(os.listdir(directory))  # noqa: PTH208 - names are wanted, not paths
    except FileNotFoundError:
        names = []  # a site without keys
    except OSError as error:
        return _Read(
            faults=(Fault(KEYS, 0, f"cannot be read: {error.strerror}", _ownership(directory)),),
            shut=True,
            reading=reading,
        )
    writable = writable_by_others(directory)
    if writable:
        fault = Fault(KEYS, 0, f"{writable}: anyone who can write it can grant access", f"chmod go-w {directory}")
        return _Read(faults=(fault,), shut=True, reading=reading)
    wanted = [name for name in names if name.endswith(".pub") and not name.startswith(".")]
    if len(wanted) > FILES_MOST:
        faults.append(Fault(KEYS, 0, f"more than {FILES_MOST} key files", "the rest is not read"))
    for name in wanted[:FILES_MOST]:
        person = name.removesuffix(".pub")
        place = f"{KEYS}/{escape(name, 80)}"
        wrong = name_fault(person) or (f"{EVERYONE!r} is reserved" if person == EVERYONE else "")
        if wrong:
            faults.append(Fault(place, 0, f"not a person's file: {wrong}", "name it PERSON.pub, like alice.pub"))
            continue
        parse = partial(parse_file, person=person, file=place, offsets=offsets, rsa_bits=rsa_bits)
        files[name] = _person(directory / name, place, known.get(name), parse)
    # read last, so that a key revoked during the read is not accepted
    gone = _revoked(directory / REVOKED, known.get(REVOKED))
    files[REVOKED] = gone
    shut = gone.stamp is None and any(fault.line == 0 for fault in gone.faults)
    revocations = {revocation.fingerprint: revocation for revocation in reversed(gone.revocations)}
    keys, clashes, revoked_listed = _one_person_each(files.values(), revocations)
    for file in files.values():
        faults += file.faults
    return _Read(
        keys=MappingProxyType({} if shut else keys),
        revocations=MappingProxyType(revocations),
        faults=(*faults, *clashes),
        warnings=(*(warning for file in files.values() for warning in file.warnings), *revoked_listed),
        shut=shut,
        files=MappingProxyType(files),
        reading=reading,
    )


def unchanged(site: Path, previous: Keyring | None) -> bool:
    """Whether the files are unchanged since `previous`; False if they are many or in any doubt."""
    if not isinstance(previous, _Read) or previous.shut or not 0 < len(previous.files) <= FEW:
        return False
    directory = site / KEYS
    try:
        names = {name for name in os.listdir(directory) if name.endswith(".pub")}  # noqa: PTH208 - names are wanted
        if names | {REVOKED} != previous.files.keys() or writable_by_others(directory):
            return False
        stamps = {name: _stamp(os.stat(directory / name)) for name in names}  # noqa: PTH116 - as in `_bytes`
        try:
            stamps[REVOKED] = _stamp(os.stat(directory / REVOKED))  # noqa: PTH116 - likewise
        except FileNotFoundError:
            stamps[REVOKED] = _ABSENT
    except OSError:
        return False
    return stamps == {name: file.stamp for name, file in previous.files.items()}


def parse_revoked(text: str, file: str) -> tuple[tuple[RevokedLine, ...], tuple[Fault, ...]]:
    """Parse keys/revoked: its revocations and the faults of invalid lines.

    A line is `FINGERPRINT WHEN WHO WHY...` (all but the first optional) or a whole public key with or without
    options; # starts a comment. Only the fingerprint matters for access.
    """
    revocations: list[RevokedLine] = []
    faults: list[Fault] = []
    for number, raw in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        words = line.split(None, 3)
        if _is_fingerprint(words[0]):
            when, who, why = (*words[1:], "", "", "")[:3]
            revocations.append(RevokedLine(words[0].rstrip("="), when[:40], who[:80], why[:500], file, number))
            continue
        try:
            blob, comment = _any_key(line, file, number)
        except InputRejected as error:
            faults.append(
                Fault(
                    file,
                    number,
                    f"neither a fingerprint nor a public key: {error.what}",
                    "write SHA256:... as `relayctl list-keys` shows it, or use: relayctl revoke-key",
                )
            )
            continue
        revocations.append(RevokedLine(public_key.fingerprint(blob), why=comment[:500], file=file, line=number))
    return tuple(revocations), tuple(faults)


def _is_fingerprint(word: str) -> bool:
    encoded = word.removeprefix("SHA256:").rstrip("=")
    return word.startswith("SHA256:") and len(encoded) == 43 and encoded.isascii() and set(encoded) <= _BASE64


_BASE64 = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")


def _any_key(line: str, file: str, number: int) -> tuple[bytes, str]:
    """The key blob on a line, also of an unsupported key and after unknown options."""
    if len(line) > FILE_BYTES_MOST:
        raise InputRejected("the line is too long")
    if not public_key.looks_like_algorithm(line.split(None, 1)[0]):
        line = line[authorized_keys_options.advance(line) :].lstrip()
    words = line.split(None, 2)
    if len(words) < 2 or not public_key.looks_like_algorithm(words[0]):
        raise InputRejected(f"{escape(line, 60)!r}")
    if "-cert-v0" in words[0]:
        raise InputRejected("a certificate; its key's own fingerprint is needed")
    try:
        blob = b64decode(words[1], validate=True)
    except ValueError:
        raise InputRejected("its base64 text is broken") from None
    if not blob:
        raise InputRejected("it is empty")
    return blob, words[2] if len(words) > 2 else ""


def _person(path: Path, place: str, known: _File | None, parse: Callable[[str], _Parsed]) -> _File:
    try:
        data, stamp = _bytes(path, known, FILE_BYTES_MOST)
    except (OSError, InputRejected) as error:
        return _File(None, faults=(_unreadable(path, place, error),))
    if data is None and known is not None:
        return known
    keys, faults, warnings = parse((data or b"").decode("utf-8", "replace"))
    return _File(stamp, keys, (), faults, warnings)


def _revoked(path: Path, known: _File | None) -> _File:
    place = f"{KEYS}/{REVOKED}"
    try:
        data, stamp = _bytes(path, known, REVOKED_BYTES_MOST)
    except FileNotFoundError:
        return _File(_ABSENT)
    except (OSError, InputRejected) as error:
        fault = _unreadable(path, place, error)
        return _File(None, faults=(replace(fault, what=f"{fault.what}, so no key of the files is accepted"),))
    if data is None and known is not None:
        return known
    revocations, faults = parse_revoked((data or b"").decode("utf-8", "replace"), place)
    return _File(stamp, (), revocations, faults)


def _bytes(path: Path, known: _File | None, most: int) -> tuple[bytes | None, Stamp | None]:
    """The file's content (None: unchanged since `known`) and its stamp. Raises OSError and InputRejected."""
    # the common case, for every file each second: nothing changed, not even the mode
    if known is not None and known.stamp == _stamp(os.stat(path)):  # noqa: PTH116 - measured: half of Path.stat
        return None, known.stamp
    # O_NONBLOCK: opening a FIFO must not block
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise InputRejected("is not a file", "remove it")
        writable = writable_by_others(path)
        if writable:
            raise InputRejected(f"{writable}: anyone who can write it can grant access", f"chmod go-w {path}")
        if status.st_size > most:
            raise InputRejected(f"has {status.st_size} bytes, the limit is {most}", "remove what is not needed")
        data = b""
        while len(data) <= most and (piece := os.read(descriptor, 1 << 16)):
            data += piece
        if len(data) > most:
            raise InputRejected(f"has more than {most} bytes", "remove what is not needed")
        settled = time.time_ns() - status.st_ctime_ns > _SETTLED_NS
        return data, _stamp(status) if settled else None
    finally:
        os.close(descriptor)


def _stamp(status: os.stat_result) -> Stamp:
    return status.st_mtime_ns, status.st_size, status.st_ino, status.st_ctime_ns, status.st_dev, status.st_mode


def _unreadable(path: Path, place: str, error: OSError | InputRejected) -> Fault:
    if isinstance(error, InputRejected):
        return Fault(place, 0, error.what, error.hint)
    return Fault(place, 0, f"cannot be read: {error.strerror}", _ownership(path))


def _ownership(path: Path) -> str:
    return f"give it the group of the service and mode 0640: ls -l {path}"


def _one_person_each(
    files: Iterable[_File], revocations: Mapping[str, RevokedLine]
) -> tuple[dict[str, Key], list[Fault], list[Fault]]:
    """The keys without those listed for two persons, the faults of these, and warnings about revoked keys."""
    keys: dict[str, Key] = {}
    clashes: dict[str, list[Key]] = {}
    warnings: list[Fault] = []
    for file in files:
        for key in file.keys:
            gone = revocations.get(key.fingerprint)
            if gone is not None:
                warnings.append(
                    Fault(key.file, key.line, f"revoked by {gone.file}:{gone.line}", "the line can be removed")
                )
            elif key.fingerprint in keys:
                clashes.setdefault(key.fingerprint, [keys[key.fingerprint]]).append(key)
            else:
                keys[key.fingerprint] = key
    faults = []
    for fingerprint, claimants in clashes.items():
        del keys[fingerprint]
        for key in claimants:
            others = ", ".join(other.place for other in claimants if other is not key)
            faults.append(
                Fault(key.file, key.line, f"the key of {others} again: one key, one person", "keep one of them")
            )
    return keys, faults, warnings
