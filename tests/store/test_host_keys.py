"""Host keys: created, imported, retired, never readable by others."""

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from relay.errors import InputRejected, NotPermitted
from relay.store import host_keys


def written(path: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, form: str = "OpenSSH") -> Path:
    """The private key in a file."""
    chosen = (
        serialization.PrivateFormat.OpenSSH if form == "OpenSSH" else serialization.PrivateFormat.TraditionalOpenSSL
    )
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, chosen, serialization.NoEncryption()))
    return path


def test_the_first_key_is_made_once(tmp_path: Path) -> None:
    """`ensure` makes an Ed25519 key for an empty state and leaves it alone afterwards."""
    first = host_keys.ensure(tmp_path)
    assert [key.algorithm for key in first] == ["ssh-ed25519"]
    assert host_keys.ensure(tmp_path) == first
    assert (tmp_path / "host_keys" / "ed25519").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("form", ["OpenSSH", "PEM"])
def test_keys_of_sshd_are_taken_over(tmp_path: Path, form: str) -> None:
    """ECDSA and RSA keys of an sshd stand behind Ed25519, in either file format; twice the same is once."""
    host_keys.ensure(tmp_path)
    files = (
        written(tmp_path / "ecdsa", ec.generate_private_key(ec.SECP256R1()), form),
        written(tmp_path / "rsa", rsa.generate_private_key(65537, 2048), form),
    )
    taken = host_keys.take_over(tmp_path, files)
    assert host_keys.take_over(tmp_path, files) == taken
    assert [key.algorithm for key in host_keys.load(tmp_path)] == ["ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"]


def test_what_is_no_host_key_is_refused_with_the_cure(tmp_path: Path) -> None:
    """A public key, a short RSA key, a missing file and garbage each say what to do instead."""
    public = tmp_path / "id.pub"
    public.write_text("ssh-ed25519 AAAA x")
    with pytest.raises(InputRejected) as caught:
        host_keys.take_over(tmp_path, (public,))
    assert "not the .pub" in caught.value.hint
    short = written(tmp_path / "short", rsa.generate_private_key(65537, 1024))
    with pytest.raises(InputRejected, match="too short"):
        host_keys.take_over(tmp_path, (short,))
    with pytest.raises(InputRejected, match="No such file"):
        host_keys.take_over(tmp_path, (tmp_path / "nothing",))
    assert host_keys.load(tmp_path) == ()


def test_a_key_is_retired_but_never_the_last_one(tmp_path: Path) -> None:
    """Retiring moves the files aside; the last key stays, and an unknown name lists those there are."""
    host_keys.ensure(tmp_path)
    second = host_keys.make(tmp_path)
    assert host_keys.retire(tmp_path, second.fingerprint) == second
    assert second not in host_keys.load(tmp_path)
    with pytest.raises(InputRejected, match="only host key"):
        host_keys.retire(tmp_path, "ed25519")
    with pytest.raises(InputRejected, match="not one of the host keys"):
        host_keys.retire(tmp_path, "nistp256")


def test_a_private_key_open_to_others_is_not_served(tmp_path: Path) -> None:
    """A host key that others can read is refused with the chmod that cures it."""
    host_keys.ensure(tmp_path)
    os.chmod(tmp_path / "host_keys" / "ed25519", 0o644)
    with pytest.raises(NotPermitted) as caught:
        host_keys.load(tmp_path)
    assert "chmod 600" in caught.value.hint


def test_a_private_key_is_never_printed(tmp_path: Path) -> None:
    """The repr of a host key, as a traceback would show it, holds no private text."""
    (key,) = host_keys.ensure(tmp_path)
    assert "PRIVATE" not in repr(key)
    assert key.private[40:60].decode() not in repr(key)
