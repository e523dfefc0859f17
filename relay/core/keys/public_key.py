"""Parser of public key blobs, and fingerprints.

The encodings are those of RFC 4253 6.6 (RSA), RFC 5656 3.1 (ECDSA), RFC 8709 4 (Ed25519) and OpenSSH's
PROTOCOL.u2f (sk-). A blob is accepted only in canonical form, complete, with a point on its curve, so that each key
has exactly one fingerprint and no weak key verifies forged signatures.
"""

import binascii
from base64 import b64decode, b64encode
from dataclasses import dataclass
from hashlib import sha256

from relay.core.escape import escape
from relay.errors import InputRejected

BLOB_LIMIT = 4096  # bytes; an RSA key of 16384 bits, the largest that OpenSSH reads, has 2100
RSA_BITS = 2048  # shorter keys are refused (NIST SP 800-131A)
RSA_BITS_ADVISED = 3072  # shorter keys get a warning: this is 128 bits of strength (NIST SP 800-57)
RSA_BITS_MOST = 16384  # OpenSSH's limit; the cost of verification grows with its square

ED25519 = "ssh-ed25519"
RSA = "ssh-rsa"
SK_ED25519 = "sk-ssh-ed25519@openssh.com"
SK_ECDSA = "sk-ecdsa-sha2-nistp256@openssh.com"
_CURVES = {"nistp256": 256, "nistp384": 384, "nistp521": 521}
ECDSA = tuple(f"ecdsa-sha2-{curve}" for curve in _CURVES)
ALGORITHMS = (ED25519, *ECDSA, RSA, SK_ED25519, SK_ECDSA)

# the names of `ssh-keygen -l`
TYPE_NAMES = {ED25519: "ED25519", RSA: "RSA", SK_ED25519: "ED25519-SK", SK_ECDSA: "ECDSA-SK"} | dict.fromkeys(
    ECDSA, "ECDSA"
)

_NEW_KEY = "make a new one with: ssh-keygen -t ed25519"

# SEC 2 2.4.2, 2.5.1, 2.6.1: p and b of y^2 = x^3 - 3x + b
_PRIME_CURVES = {
    "nistp256": (
        2**256 - 2**224 + 2**192 + 2**96 - 1,
        0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B,
    ),
    "nistp384": (
        2**384 - 2**128 - 2**96 + 2**32 - 1,
        0xB3312FA7E23EE7E4988E056BE3F82D19181D9C6EFE8141120314088F5013875AC656398D8A2ED19D2A85C8EDD3EC2AEF,
    ),
    "nistp521": (
        2**521 - 1,
        int(
            "0051953EB9618E1C9A1F929A21A0B68540EEA2DA725B99B315F3B8B489918EF109E156193951EC7E937B1652C0BD3BB1BF07"
            "3573DF883D2C34F1EF451FD46B503F00",
            16,
        ),
    ),
}

# RFC 8032 5.1: the field and the constant of edwards25519
_ED_P = 2**255 - 19
_ED_D = -121665 * pow(121666, -1, _ED_P) % _ED_P
# The y of the points whose order divides 8: 1, -1, the order 4 ones with 0, and the four of order 8 (two values of y).
# With such a key anyone can forge a signature.
_ED_ORDER_8_Y = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_ED_SMALL_ORDER_Y = frozenset({0, 1, _ED_P - 1, _ED_ORDER_8_Y, _ED_P - _ED_ORDER_8_Y})


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A validated public key, without options and comment."""

    algorithm: str  # one of ALGORITHMS
    bits: int
    blob: bytes


def fingerprint(blob: bytes) -> str:
    """The fingerprint of a key blob as `ssh-keygen -l` prints it: SHA256: and 43 characters, for any bytes."""
    return "SHA256:" + b64encode(sha256(blob).digest()).rstrip(b"=").decode()


def parse(algorithm: str, text: str, *, rsa_bits: int = RSA_BITS) -> PublicKey:
    """Parse a key from its algorithm and its base64 text.

    Raises InputRejected, with a hint, for unsupported algorithms, certificates, broken or non-canonical encodings,
    points off the curve, and RSA keys shorter than `rsa_bits` (at least 2048).
    """
    refuse_algorithm(algorithm)
    if len(text) > BLOB_LIMIT * 4 // 3 + 4:
        raise InputRejected(f"a key of {len(text)} letters is longer than any real key", "paste one whole .pub file")
    try:
        blob = b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise InputRejected(
            "the key is incomplete: its base64 text is broken", "paste the line of the .pub file again, unwrapped"
        ) from None
    return parse_blob(algorithm, blob, rsa_bits=rsa_bits)


def parse_blob(algorithm: str, blob: bytes, *, rsa_bits: int = RSA_BITS) -> PublicKey:
    """Parse the key in `blob`, which must name `algorithm` itself. Raises InputRejected like `parse`."""
    if len(blob) > BLOB_LIMIT:
        raise InputRejected(f"a key of {len(blob)} bytes is longer than any real key", "paste one whole .pub file")
    reader = _Reader(blob)
    inside = reader.string().decode("latin-1")
    if inside != algorithm:
        refuse_algorithm(inside)  # so that a certificate is reported as a certificate
        raise InputRejected(
            f"the line says {escape(algorithm, 60)} but the key inside is {escape(inside, 60)}",
            "paste the line of the .pub file again",
        )
    if algorithm == RSA:
        bits = _rsa(reader, max(rsa_bits, RSA_BITS))
    elif algorithm == ED25519:
        bits = _ed25519(reader.string())
    elif algorithm == SK_ED25519:
        bits = _ed25519(reader.string())
        _application(reader.string())
    elif algorithm == SK_ECDSA:
        bits = _ecdsa(reader, "nistp256")
        _application(reader.string())
    else:
        bits = _ecdsa(reader, algorithm.removeprefix("ecdsa-sha2-"))
    if reader.rest():
        raise InputRejected(f"{reader.rest()} bytes follow the end of the key", "paste the line of the .pub file again")
    return PublicKey(algorithm, bits, blob)


def refuse_algorithm(name: str) -> None:
    """Raise InputRejected unless `name` is one of ALGORITHMS, with the reason for well-known others."""
    if name in ALGORITHMS:
        return
    if name in ("ssh-dss", "ssh-dsa"):
        raise InputRejected(
            "DSA keys are not accepted: they have only 1024 bits, and OpenSSH no longer supports them", _NEW_KEY
        )
    if "-cert-v0" in name:
        raise InputRejected(
            "this is a certificate, not a public key",
            "use the .pub file in the same directory (id_ed25519.pub, not id_ed25519-cert.pub)",
        )
    if name.startswith("rsa-sha2-"):
        raise InputRejected(f"{escape(name, 40)} names a signature, not a key", "such a key's line begins with ssh-rsa")
    raise InputRejected(f"keys of type {escape(name, 60)!r} are not known", _NEW_KEY)


def looks_like_algorithm(word: str) -> bool:
    """Whether the first word of a line is meant as a key type, be it one we take or not, and not as options."""
    if not word or "=" in word or "," in word:
        return False
    return word in ALGORITHMS or word.startswith(("ssh-", "ecdsa-", "sk-", "rsa-sha2-", "webauthn-", "x509v3-"))


class _Reader:
    """Takes the fields of a blob one after the other (RFC 4251 5); a missing byte is InputRejected."""

    __slots__ = ("_at", "_blob")

    def __init__(self, blob: bytes) -> None:
        self._blob = blob
        self._at = 0

    def string(self) -> bytes:
        """The next length-prefixed string."""
        start = self._at + 4
        end = start + int.from_bytes(self._blob[self._at : start], "big")
        if start > len(self._blob) or end > len(self._blob):
            raise InputRejected("the key is cut short", "paste the line of the .pub file again, unwrapped")
        self._at = end
        return self._blob[start:end]

    def positive(self) -> int:
        """The next mpint: above zero and in its shortest form, else one key would have several fingerprints."""
        octets = self.string()
        if not octets or octets[0] & 0x80 or (octets[0] == 0 and (len(octets) == 1 or not octets[1] & 0x80)):
            raise InputRejected("a number inside the key is not in canonical form", _NEW_KEY)
        return int.from_bytes(octets, "big")

    def rest(self) -> int:
        """How many bytes were not taken."""
        return len(self._blob) - self._at


def _rsa(reader: _Reader, least: int) -> int:
    exponent = reader.positive()
    modulus = reader.positive()
    bits = modulus.bit_length()
    if bits < least:
        raise InputRejected(f"an RSA key of {bits} bits is refused: the minimum is {least} bits", _NEW_KEY)
    if bits > RSA_BITS_MOST:
        raise InputRejected(f"an RSA key of {bits} bits is refused: the maximum is {RSA_BITS_MOST} bits", _NEW_KEY)
    # with e = 1 a message is its own signature; above 64 bits OpenSSL refuses e with large moduli
    if exponent < 3 or exponent.bit_length() > 64 or not exponent & 1 or not modulus & 1:
        raise InputRejected("the RSA key's numbers cannot be those of a valid key", _NEW_KEY)
    return bits


def _ed25519(point: bytes) -> int:
    if len(point) != 32:
        raise InputRejected(f"an Ed25519 key has 32 bytes, this one {len(point)}", "paste the .pub file's line again")
    y = int.from_bytes(point, "little") & (2**255 - 1)  # the top bit is the sign of x (RFC 8032 5.1.2)
    if y >= _ED_P or y in _ED_SMALL_ORDER_Y:
        raise InputRejected("the Ed25519 key is not a point that a real key can be", _NEW_KEY)
    # x^2 = (y^2 - 1) / (d y^2 + 1) must be a square: Euler's criterion on the product, which has the same character
    square = y * y
    product = (square - 1) * (_ED_D * square + 1) % _ED_P
    if pow(product, (_ED_P - 1) // 2, _ED_P) != 1:
        raise InputRejected("the Ed25519 key is not a point of its curve", "paste the line of the .pub file again")
    return 256


def _ecdsa(reader: _Reader, curve: str) -> int:
    if reader.string() != curve.encode():
        raise InputRejected("the ECDSA key names another curve inside than outside", "paste the .pub file's line again")
    bits = _CURVES[curve]
    size = (bits + 7) // 8
    point = reader.string()
    if len(point) != 1 + 2 * size or point[0] != 4:  # 4: uncompressed, the only form OpenSSH takes
        raise InputRejected(f"the ECDSA key is not an uncompressed point of {curve}", _NEW_KEY)
    x, y = int.from_bytes(point[1 : 1 + size], "big"), int.from_bytes(point[1 + size :], "big")
    prime, b = _PRIME_CURVES[curve]
    if x >= prime or y >= prime or (y * y - (x * x * x - 3 * x + b)) % prime:
        raise InputRejected(f"the ECDSA key is not a point of {curve}", "paste the line of the .pub file again")
    return bits


def _application(octets: bytes) -> None:
    """The relying party of a security key: `ssh:` unless its maker chose another name (PROTOCOL.u2f)."""
    if not 0 < len(octets) <= 255 or not octets.isascii() or not octets.decode("ascii").isprintable():
        raise InputRejected(
            "the security key's application is not a printable name", "make the key again with ssh-keygen"
        )
