"""The relay's SSH host keys: created, imported and retired.

STATE/host_keys/NAME holds a private key in OpenSSH's format (0600), NAME.pub its public line. All of them are
announced to clients (hostkeys-00@openssh.com), so a new key can be used beside the old one until all clients know it.
`cryptography` is imported only in the functions that create or parse a private key.
"""

import base64
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from relay import atomic_file
from relay.errors import InputRejected, NotPermitted, RelayError

DIRECTORY = "host_keys"
RETIRED = "retired"
_MOST_BYTES = 1 << 16
_ORDER = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")


@dataclass(frozen=True, slots=True)
class HostKey:
    """One host key. `private` is the file's text: never printed, never recorded."""

    name: str
    algorithm: str
    fingerprint: str  # SHA256:..., as ssh-keygen -l prints it
    public: str  # "ALGORITHM BASE64"
    private: bytes

    def __repr__(self) -> str:
        return f"HostKey({self.name!r}, {self.fingerprint!r})"


def load(state: Path) -> tuple[HostKey, ...]:
    """The host keys in force, Ed25519 first. Raises RelayError for one that cannot be read or is open to others."""
    found = []
    directory = state / DIRECTORY
    try:
        names = sorted(path.name for path in directory.iterdir() if path.suffix == ".pub" and path.name[0] != ".")
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise NotPermitted(f"{directory}: {error.strerror}", "run it as root or as the relay's user") from None
    for name in names:
        public = _text(directory / name, secret=False).decode("ascii", "replace").split()
        private = _text(directory / name.removesuffix(".pub"), secret=True)
        if len(public) < 2 or public[0] not in _ORDER:
            raise RelayError(f"{directory / name} is not a public host key", "relayctl host-key add")
        found.append(
            HostKey(name.removesuffix(".pub"), public[0], _fingerprint(public[1]), " ".join(public[:2]), private)
        )
    return tuple(sorted(found, key=lambda key: (_ORDER.index(key.algorithm), key.name)))


def ensure(state: Path) -> tuple[HostKey, ...]:
    """The host keys in force; an Ed25519 one is made when there is none. Raises as `load` does."""
    return load(state) or (make(state),)


def make(state: Path) -> HostKey:
    """Make a new Ed25519 host key and put it in force. Raises RelayError if it cannot be written."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return _put(state, Ed25519PrivateKey.generate())


def take_over(state: Path, files: tuple[Path, ...]) -> tuple[HostKey, ...]:
    """Put existing private host keys (sshd's) in force, so that no client sees a changed key.

    Raises InputRejected for one that is not an unencrypted Ed25519, ECDSA or RSA (2048 bits or more) private key.
    """
    return tuple(_put(state, _read_private(file)) for file in files)


def retire(state: Path, which: str) -> HostKey:
    """Take the key named `which` (fingerprint or file name) out of force; its files stay in host_keys/retired.

    Raises InputRejected when there is no such key or it is the last one.
    """
    keys = load(state)
    chosen = [
        key for key in keys if which in (key.name, key.fingerprint) or key.fingerprint.startswith(f"SHA256:{which}")
    ]
    if len(chosen) != 1:
        known = ", ".join(key.fingerprint for key in keys) or "none"
        raise InputRejected(f"{which!r} is not one of the host keys", f"there are: {known}")
    if len(keys) == 1:
        raise InputRejected("this is the only host key", "add another first: relayctl host-key add")
    key = chosen[0]
    directory = state / DIRECTORY
    retired = directory / RETIRED
    retired.mkdir(mode=0o700, exist_ok=True)
    _own(retired, state)
    name = f"{key.name}-{key.fingerprint[7:15].replace('/', '_').replace('+', '-')}"
    (directory / key.name).rename(retired / name)
    (directory / f"{key.name}.pub").rename(retired / f"{name}.pub")
    atomic_file.sync(directory)
    return key


def _read_private(file: Path) -> object:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    try:
        data = file.read_bytes()[:_MOST_BYTES]
    except OSError as error:
        raise InputRejected(
            f"{file}: {error.strerror}", "run it as root; sshd's keys are /etc/ssh/ssh_host_*_key"
        ) from None
    loader = (
        serialization.load_ssh_private_key if b"OPENSSH PRIVATE KEY" in data else serialization.load_pem_private_key
    )
    try:
        key = loader(data, password=None)
    except TypeError:
        raise InputRejected(f"{file} is encrypted", "a host key has no passphrase: ssh-keygen -p -f FILE") from None
    except (ValueError, UnsupportedAlgorithm):
        hint = "name the private file, not the .pub" if data.startswith((b"ssh-", b"ecdsa-")) else "see ssh-keygen(1)"
        raise InputRejected(f"{file} is not a private key", hint) from None
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < 2048:
        raise InputRejected(f"{file}: RSA of {key.key_size} bits is too short", "make a new one: relayctl host-key add")
    if not isinstance(key, ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise InputRejected(f"{file}: only Ed25519, ECDSA and RSA host keys are served", "relayctl host-key add")
    return key


def _put(state: Path, key: object) -> HostKey:
    from cryptography.hazmat.primitives import serialization

    private = key.private_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = (
        key.public_key()  # type: ignore[attr-defined]
        .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        .decode()
    )
    algorithm, encoded = public.split()[:2]
    known = {existing.public: existing for existing in load(state)}
    if public in known:
        return known[public]
    directory = state / DIRECTORY
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _own(directory, state)
    stem = algorithm.removeprefix("ssh-").removeprefix("ecdsa-sha2-")
    name = next(name for name in (stem, *(f"{stem}-{n}" for n in range(2, 1000))) if not (directory / name).exists())
    _write(directory / name, private, 0o600, state)
    _write(directory / f"{name}.pub", f"{public}\n".encode(), 0o644, state)  # last: it makes the key count
    return HostKey(name, algorithm, _fingerprint(encoded), public, private)


def _text(path: Path, *, secret: bool) -> bytes:
    try:
        if secret and path.stat().st_mode & 0o077:
            raise NotPermitted(f"{path} can be read by others", f"chmod 600 {path}")
        return path.read_bytes()[:_MOST_BYTES]
    except OSError as error:
        raise NotPermitted(f"{path}: {error.strerror}", "run it as root or as the relay's user") from None


def _write(path: Path, data: bytes, mode: int, state: Path) -> None:
    try:
        atomic_file.replace(path, data, mode, lambda descriptor: _own(descriptor, state))
    except OSError as error:
        raise RelayError(f"{path}: {error.strerror}", "is there room, and do you run it as root?") from None


def _own(path: Path | int, state: Path) -> None:
    """What root makes belongs to the owner of the state directory, who serves with it."""
    if os.geteuid() == 0:
        owner = state.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def _fingerprint(encoded: str) -> str:
    digest = hashlib.sha256(base64.b64decode(encoded)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
