"""Public keys in pasted text, and the refusal of other formats."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as s
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from relay.core.keys.authorized_keys import parse_line
from relay.errors import InputRejected
from relay.people import key_text

FIXTURES = Path(__file__).parent.parent / "fixtures" / "keys"
ED25519 = (FIXTURES / "ed25519.pub").read_text()
RSA = (FIXTURES / "rsa-2048.pub").read_text()
RFC4716 = (FIXTURES / "rsa-2048.rfc4716").read_text()


def test_lines_of_pub_files() -> None:
    """Each line that is no comment is one key, with its number."""
    found = key_text.lines(f"# mine\n\n{ED25519}\r\n  {RSA}".encode())
    assert [(line.number, line.text) for line in found] == [(3, ED25519.strip()), (5, RSA.strip())]


def test_rfc_4716_becomes_the_openssh_line() -> None:
    """`ssh-keygen -e` turned the key into a block; we turn it back, with its comment, and several of them too."""
    block, line = key_text.lines(f"{RFC4716}{ED25519}".encode())
    assert block.text.split()[:2] == RSA.split()[:2]
    key = parse_line(block.text, person="alice", file="-", line=1)
    assert key is not None
    assert key.comment == "2048-bit RSA, converted by alice@laptop from OpenSSH"
    assert line.text == ED25519.strip()


def test_rfc_4716_headers_may_go_on() -> None:
    """A backslash continues a header on the next line; unknown headers are passed over."""
    text = RFC4716.replace('Comment: "2048', 'Subject: x\\\ny\nComment: "2048').replace("alice@lap", "alice@l\\\nap")
    assert key_text.lines(text.encode())[0].text == key_text.lines(RFC4716.encode())[0].text


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_text_as_windows_writes_it(encoding: str) -> None:
    """A mark at the beginning, UTF-16 and CR LF are no hindrance."""
    assert key_text.lines(ED25519.replace("\n", "\r\n").encode(encoding))[0].text == ED25519.strip()


def private_keys() -> list[tuple[str, bytes]]:
    plain, locked = s.NoEncryption(), s.BestAvailableEncryption(b"secret")
    ed, curve, long = ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1()), None
    long = rsa.generate_private_key(65537, 2048)
    made = [("openssh", ed.private_bytes(s.Encoding.PEM, s.PrivateFormat.OpenSSH, plain))]
    for key in (curve, long):
        made += [
            ("traditional", key.private_bytes(s.Encoding.PEM, s.PrivateFormat.TraditionalOpenSSL, plain)),
            ("pkcs8", key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, plain)),
            ("pkcs8 encrypted", key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, locked)),
        ]
    return made


PRIVATE = private_keys()  # new ones in each process: the tests are told apart by their places


@pytest.mark.parametrize(("kind", "data"), PRIVATE, ids=[f"{kind}-{place}" for place, (kind, _) in enumerate(PRIVATE)])
def test_private_keys_are_refused_with_what_to_do(kind: str, data: bytes) -> None:
    """A private key in any format is known as one, and never repeated in the text."""
    with pytest.raises(InputRejected, match=r"is a private key$") as caught:
        key_text.lines(data, "id_ed25519")
    assert "ssh-keygen -y -f id_ed25519" in caught.value.hint
    assert data.splitlines()[1].decode() not in f"{caught.value.what} {caught.value.hint}"


@pytest.mark.parametrize(
    ("text", "what", "cure"),
    [
        ("PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\n", "PuTTY private key", "puttygen -L k.ppk"),
        ("PuTTY-User-Key-File-2: ssh-rsa\r\n", "PuTTY private key", "PuTTYgen"),
        ("---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\n", "private key of an old", "ssh-keygen -t"),
        ("-----BEGIN PUBLIC KEY-----\n", "PKCS8", "ssh-keygen -i -m PKCS8 -f k.ppk"),
        ("-----BEGIN RSA PUBLIC KEY-----\n", "PEM", "ssh-keygen -i -m PEM -f k.ppk"),
        ("-----BEGIN CERTIFICATE-----\n", "X.509", "ssh-keygen"),
        ("-----BEGIN PGP PUBLIC KEY BLOCK-----\n", "PGP", "ssh-keygen"),
        ("-----BEGIN SOMETHING-----\n", "no SSH public key", "ssh-keygen"),
        ("---- BEGIN SSH2 PUBLIC KEY ----\nAAAA\n", "no END line", "whole file"),
        ("---- BEGIN SSH2 PUBLIC KEY ----\n---- END SSH2 PUBLIC KEY ----\n", "no key", "whole file"),
        ("---- BEGIN SSH2 PUBLIC KEY ----\n!!!\n---- END SSH2 PUBLIC KEY ----\n", "no key", "whole file"),
        ("", "no key in", "ssh-ed25519"),
        ("# nothing\n\n", "no key in", "ssh-ed25519"),
        ("\0\1\2", "not text", ".pub"),
        ("x" * (key_text.MOST_BYTES + 1), "more than", "public keys only"),
    ],
)
def test_what_is_no_public_key_is_named(text: str, what: str, cure: str) -> None:
    """Each other kind of file is refused as what it is, with the command that helps."""
    with pytest.raises(InputRejected, match=what) as caught:
        key_text.lines(text.encode(), "k.ppk")
    assert cure in caught.value.hint


@given(st.binary(max_size=300) | st.text(max_size=200).map(lambda t: f"---- BEGIN SSH2 PUBLIC KEY ----\n{t}".encode()))
def test_any_bytes_are_lines_or_refused(data: bytes) -> None:
    """Any bytes give lines or InputRejected with a cure, nothing else."""
    for whole in (data, data + b"\n---- END SSH2 PUBLIC KEY ----\n"):
        try:
            found = key_text.lines(whole)
        except InputRejected as error:
            assert error.hint
        else:
            assert found
            assert all("\n" not in line.text for line in found)
