"""relay.core.keys.public_key: which blobs are keys that we take, and their fingerprints."""

import struct
from base64 import b64decode, b64encode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from relay.core.keys import public_key
from relay.errors import InputRejected

FIXTURES = Path(__file__).parents[2] / "fixtures" / "keys"
RECORDED = [
    (name, *answer.split()[:2])
    for name, _, answer in (
        line.partition("\t") for line in (FIXTURES / "fingerprints.txt").read_text().splitlines()[1:]
    )
]
TAKEN = [row for row in RECORDED if row[0] not in ("dsa", "rsa-1024", "ed25519-cert")]


def line_of(name: str) -> tuple[str, bytes]:
    algorithm, encoded, _ = (FIXTURES / f"{name}.pub").read_text().split(None, 2)
    return algorithm, b64decode(encoded)


def packed(*fields: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(field)) + field for field in fields)


def ed25519_of(y: int) -> bytes:
    return packed(b"ssh-ed25519", y.to_bytes(32, "little"))


@pytest.mark.parametrize(("name", "bits", "fingerprint"), TAKEN)
def test_fingerprint_and_bits_are_those_of_ssh_keygen(name: str, bits: str, fingerprint: str) -> None:
    """For each type we take, fingerprint and bits are what `ssh-keygen -l` printed."""
    algorithm, blob = line_of(name)
    key = public_key.parse_blob(algorithm, blob)
    assert (str(key.bits), public_key.fingerprint(key.blob)) == (bits, fingerprint)


def test_every_algorithm_we_take_is_recorded() -> None:
    """No algorithm is on the list without a recorded key that proves it."""
    assert {line_of(name)[0] for name, _, _ in TAKEN} == set(public_key.ALGORITHMS) == set(public_key.TYPE_NAMES)


@pytest.mark.parametrize(
    ("name", "words"), [("dsa", "DSA"), ("rsa-1024", "1024 bits"), ("ed25519-cert", "certificate, not a public key")]
)
def test_what_is_refused_is_named(name: str, words: str) -> None:
    """DSA, short RSA and certificates are refused in words, each with what to do instead."""
    algorithm, blob = line_of(name)
    with pytest.raises(InputRejected, match=words) as caught:
        public_key.parse(algorithm, b64encode(blob).decode())
    assert caught.value.hint


@pytest.mark.parametrize("name", [row[0] for row in TAKEN])
def test_no_byte_may_be_missing_or_left_over(name: str) -> None:
    """Each proper prefix of a key, and each key with one byte more, is refused."""
    algorithm, blob = line_of(name)
    for changed in (*(blob[:end] for end in range(len(blob))), blob + b"\0"):
        with pytest.raises(InputRejected):
            public_key.parse_blob(algorithm, changed)


def test_a_certificate_under_a_plain_name_is_a_certificate() -> None:
    """A certificate's blob is not taken where the line says it is a plain key (CVE-2025-49825)."""
    _, blob = line_of("ed25519-cert")
    with pytest.raises(InputRejected, match="certificate"):
        public_key.parse_blob("ssh-ed25519", blob)


@pytest.mark.parametrize("outside", public_key.ALGORITHMS)
def test_the_name_outside_must_be_the_name_inside(outside: str) -> None:
    """A key is never taken under the name of another algorithm."""
    for name, _, _ in TAKEN:
        algorithm, blob = line_of(name)
        if algorithm != outside:
            with pytest.raises(InputRejected, match="but the key inside is"):
                public_key.parse_blob(outside, blob)


def test_ed25519_points_of_small_order_are_refused() -> None:
    """No point whose order divides eight is a key: with it, anybody's signature would verify."""
    p, d = 2**255 - 19, public_key._ED_D

    def add(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
        product = d * a[0] * b[0] * a[1] * b[1] % p
        return (
            (a[0] * b[1] + a[1] * b[0]) * pow(1 + product, -1, p) % p,
            (a[1] * b[1] + a[0] * b[0]) * pow(1 - product, -1, p) % p,
        )

    for y in sorted(public_key._ED_SMALL_ORDER_Y):
        square = (y * y - 1) * pow(d * y * y + 1, -1, p) % p
        x = pow(square, (p + 3) // 8, p)
        x = x if x * x % p == square else x * pow(2, (p - 1) // 4, p) % p
        point = (x, y)
        for _ in range(3):
            point = add(point, point)
        assert point == (0, 1)
        for sign in (0, 1 << 255):
            with pytest.raises(InputRejected):
                public_key.parse_blob("ssh-ed25519", ed25519_of(y | sign))


def test_ed25519_keys_that_are_no_points_are_refused() -> None:
    """y = 2 is not on the curve, and a y not below the prime is not canonical."""
    for y in (2, 2**255 - 19 + 3, 2**255 - 1):
        with pytest.raises(InputRejected):
            public_key.parse_blob("ssh-ed25519", ed25519_of(y))


@given(st.binary(min_size=32, max_size=32))
def test_every_real_ed25519_key_is_a_point(seed: bytes) -> None:
    """What cryptography makes from any seed is taken."""
    public = ed25519.Ed25519PrivateKey.from_private_bytes(seed).public_key()
    raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    assert public_key.parse_blob("ssh-ed25519", packed(b"ssh-ed25519", raw)).bits == 256


@given(st.sampled_from([ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()]), st.integers(1, 2**255))
def test_every_real_ecdsa_key_is_a_point_and_its_neighbours_are_not(curve: ec.EllipticCurve, secret: int) -> None:
    """What cryptography makes is taken; one bit of y changed, or the compressed form, is not."""
    public = ec.derive_private_key(secret, curve).public_key()
    algorithm, encoded = public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode().split()
    blob = b64decode(encoded)
    assert public_key.parse_blob(algorithm, blob).bits == curve.key_size
    with pytest.raises(InputRejected):
        public_key.parse_blob(algorithm, blob[:-1] + bytes([blob[-1] ^ 1]))
    short = public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    name = algorithm.removeprefix("ecdsa-sha2-").encode()
    with pytest.raises(InputRejected):
        public_key.parse_blob(algorithm, packed(algorithm.encode(), name, short))


def rsa(e: bytes, n: bytes) -> bytes:
    return packed(b"ssh-rsa", e, n)


def modulus(bits: int) -> bytes:
    """An odd number of so many bits as an mpint."""
    return (1 << (bits - 1) | 1).to_bytes(bits // 8 + 1, "big")


@pytest.mark.parametrize(("bits", "taken"), [(2047, False), (2048, True), (2049, True), (16384, True), (16385, False)])
def test_rsa_sizes(bits: int, taken: bool) -> None:
    """RSA from 2048 to 16384 bits, and not one bit outside of it."""
    blob = rsa(b"\1\0\1", modulus(bits))
    if taken:
        assert public_key.parse_blob("ssh-rsa", blob).bits == bits
    else:
        with pytest.raises(InputRejected):
            public_key.parse_blob("ssh-rsa", blob)


def test_a_site_may_ask_for_longer_rsa_but_not_for_shorter() -> None:
    """rsa_bits raises the least size, and never lowers it under 2048."""
    assert public_key.parse_blob(*line_of("rsa-3072"), rsa_bits=3072).bits == 3072
    for name, least in (("rsa-2048", 3072), ("rsa-1024", 512)):
        with pytest.raises(InputRejected, match="refused"):
            public_key.parse_blob(*line_of(name), rsa_bits=least)


@pytest.mark.parametrize(
    ("e", "why"),
    [
        (b"\1", "e = 1 signs everything"),
        (b"\2", "even"),
        (b"\0", "zero"),
        (b"", "zero in its short form"),
        (b"\x81", "negative"),
        (b"\0\1\0\1", "not the shortest form: a second fingerprint for one key"),
        (b"\1" + b"\0" * 8 + b"\1", "more than 64 bits"),
    ],
)
def test_rsa_exponents_that_no_real_key_has(e: bytes, why: str) -> None:
    """An exponent that makes signatures worthless, or the key ambiguous, is refused."""
    with pytest.raises(InputRejected):
        public_key.parse_blob("ssh-rsa", rsa(e, modulus(2048)))


def test_security_keys_name_a_printable_application() -> None:
    """The application of an sk- key is a bounded printable name."""
    _, blob = line_of("sk-ed25519")
    point = blob[4 + 26 + 4 : 4 + 26 + 4 + 32]
    for application, taken in (
        (b"ssh:", True),
        (b"ssh:home", True),
        (b"", False),
        (b"a\nb", False),
        (b"x" * 256, False),
    ):
        made = packed(b"sk-ssh-ed25519@openssh.com", point, application)
        if taken:
            assert public_key.parse_blob("sk-ssh-ed25519@openssh.com", made).bits == 256
        else:
            with pytest.raises(InputRejected):
                public_key.parse_blob("sk-ssh-ed25519@openssh.com", made)


@given(st.sampled_from([*public_key.ALGORITHMS, "ssh-dss", "x"]), st.text(max_size=200))
def test_any_text_is_a_key_or_refused(algorithm: str, text: str) -> None:
    """Any text as base64 gives a key or InputRejected, nothing else."""
    try:
        public_key.parse(algorithm, text)
    except InputRejected as error:
        assert error.hint


@given(st.sampled_from([row[0] for row in TAKEN]), st.data())
def test_any_damage_is_a_key_or_refused(name: str, data: st.DataObject) -> None:
    """A real key with bytes changed, cut or added gives a key or InputRejected, nothing else."""
    algorithm, blob = line_of(name)
    at = data.draw(st.integers(0, len(blob)))
    changed = blob[:at] + data.draw(st.binary(max_size=8)) + blob[at + data.draw(st.integers(0, 8)) :]
    try:
        assert public_key.parse_blob(algorithm, changed).blob == changed
    except InputRejected as error:
        assert error.hint


def test_what_is_longer_than_any_real_key_is_not_looked_at() -> None:
    """Bounds come before any work."""
    with pytest.raises(InputRejected, match="longer than any real key"):
        public_key.parse("ssh-rsa", "A" * 6000)
    with pytest.raises(InputRejected, match="longer than any real key"):
        public_key.parse_blob("ssh-rsa", b"\0" * 4097)


def test_a_signature_name_is_no_key_type() -> None:
    """rsa-sha2-512 is how an ssh-rsa key signs; the cure says so."""
    with pytest.raises(InputRejected, match="names a signature") as caught:
        public_key.parse("rsa-sha2-512", "AAAA")
    assert "ssh-rsa" in caught.value.hint


def test_points_of_another_length_or_curve() -> None:
    """An Ed25519 key has 32 bytes, and an ECDSA key names the same curve outside and inside."""
    for size in (31, 33):
        with pytest.raises(InputRejected, match="32 bytes"):
            public_key.parse_blob("ssh-ed25519", packed(b"ssh-ed25519", b"\1" * size))
    with pytest.raises(InputRejected, match="another curve"):
        public_key.parse_blob("ecdsa-sha2-nistp256", packed(b"ecdsa-sha2-nistp256", b"nistp384", b"\4" + b"\0" * 96))
