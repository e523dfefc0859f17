"""Files of the keys that sign checkpoints: created, listed and erased.

STATE/audit_key/EPOCH-PUBLIC holds the 32 bytes of one private Ed25519 key (0600). There is the key that signs next, and
mostly its successor, created in advance. A key is on the disk before any row announces it. It is erased when the
checkpoint that it signed is durable: overwritten, synced, unlinked. No program can do more: a file system that copies
on write, a disk that moves blocks, or a snapshot of the machine may keep the erased key
(docs/background/audit-log.md).

No backup contains these files: a copy could sign anything from its epoch on.
"""

import base64
import contextlib
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from relay.atomic_file import sync
from relay.errors import NotPermitted
from relay.store.database_files import give_to_owner

DIRECTORY = "audit_key"
_NAME = re.compile(r"([0-9]{1,15})-([A-Za-z0-9_-]{43})")
_BYTES = 32


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key: its epoch, its public half in base64, and the private one, which is never shown."""

    epoch: int
    public: str
    private: Ed25519PrivateKey

    def __repr__(self) -> str:
        return f"Signer({self.epoch}, {self.public!r})"

    def sign(self, statement: bytes) -> str:
        """The signature in base64."""
        return base64.b64encode(self.private.sign(statement)).decode()


def proves(key: str, signature: str, statement: bytes) -> bool:
    """Whether `signature` (base64) is that of `key` (base64) over `statement`."""
    try:
        Ed25519PublicKey.from_public_bytes(base64.b64decode(key, validate=True)).verify(
            base64.b64decode(signature, validate=True), statement
        )
    except (InvalidSignature, ValueError):
        return False
    return True


def make(state: Path, epoch: int) -> SigningKey:
    """A new key, on the disk when this returns. Raises OSError."""
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw()
    directory = state / DIRECTORY
    try:
        directory.mkdir(mode=0o700, parents=True)
        _own(directory, state)
        sync(state)
    except FileExistsError:
        pass
    name = f"{epoch}-{base64.urlsafe_b64encode(public).decode().rstrip('=')}"
    descriptor = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        give_to_owner(descriptor, state)
        os.write(descriptor, private.private_bytes_raw())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    sync(directory)
    return SigningKey(epoch, base64.b64encode(public).decode(), private)


def load(state: Path) -> dict[str, SigningKey]:
    """The keys that are here, by their public half; a file that was not written to its end is none. Raises OSError."""
    found = {}
    for name, (epoch, public) in _named(state).items():
        path = state / DIRECTORY / name
        if path.stat().st_mode & 0o077:
            raise NotPermitted(f"{path} can be read by others", f"chmod 600 {path}")
        private = _private(path, public)
        if private is not None:
            found[public] = SigningKey(epoch, public, private)
    return found


def seen(state: Path) -> Mapping[str, int] | None:
    """The public halves of the keys that are here, with their epochs; None where that cannot be seen.

    Nothing was ever signed where the directory does not exist, or it was taken away: that is empty, not None. A name
    alone is no key: whoever removes the newest checkpoints could write that of a key which was erased, and not the key.
    """
    found = {}
    try:
        for name, (epoch, public) in _named(state).items():
            with contextlib.suppress(FileNotFoundError):  # erased meanwhile
                if _private(state / DIRECTORY / name, public) is not None:
                    found[public] = epoch
    except OSError:
        return None
    return found


def erase(state: Path, keep: Collection[str] = ()) -> None:
    """Erase every key but those with these public halves, and whatever else lies there. Raises OSError."""
    directory = state / DIRECTORY
    gone = False
    try:
        names = os.listdir(directory)  # noqa: PTH208 - names only
    except FileNotFoundError:
        return
    kept = {name for name, (_, public) in _named(state).items() if public in keep}
    for name in names:
        if name in kept:
            continue
        path = directory / name
        with contextlib.suppress(OSError):  # it goes all the same where it cannot be overwritten
            _overwrite(path)
        path.unlink()
        gone = True
    if gone:
        sync(directory)


def _private(path: Path, public: str) -> Ed25519PrivateKey | None:
    """The private half of this public key, if that is what the file holds."""
    data = path.read_bytes()[: _BYTES + 1]
    if len(data) != _BYTES:
        return None
    private = Ed25519PrivateKey.from_private_bytes(data)
    held = base64.b64encode(private.public_key().public_bytes_raw()).decode()
    return private if held == public else None


def _overwrite(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.pwrite(descriptor, os.urandom(max(os.fstat(descriptor).st_size, _BYTES)), 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _named(state: Path) -> dict[str, tuple[int, str]]:
    """Epoch and public half by file name."""
    try:
        names = os.listdir(state / DIRECTORY)  # noqa: PTH208 - names only
    except FileNotFoundError:
        return {}
    found = {}
    for name in names:
        if words := _NAME.fullmatch(name):
            found[name] = int(words[1]), base64.b64encode(base64.urlsafe_b64decode(words[2] + "=")).decode()
    return found


def _own(path: Path, state: Path) -> None:
    if os.geteuid() == 0:
        owner = state.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
