"""Public keys in pasted or sent text.

Accepts lines of .pub and authorized_keys files and blocks of RFC 4716 (`ssh-keygen -e`, PuTTYgen's "Save public
key"), also in Windows encodings. Other formats are refused by name, with a hint.
"""

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass

from relay.core.escape import escape
from relay.errors import InputRejected

MOST_BYTES = 1 << 20  # some 1,400 RSA keys
_BEGIN_4716 = "---- BEGIN SSH2 PUBLIC KEY ----"
_END_4716 = "---- END SSH2 PUBLIC KEY ----"

_LEAKED = "a private key never leaves its owner's machine: if this one was sent to you, it must be replaced"
# (pattern, name of the format, hint); the first match is reported
_OTHER_FORMATS = (
    (
        re.compile(r"^PuTTY-User-Key-File-\d", re.MULTILINE),
        "a PuTTY private key (.ppk)",
        "open it in PuTTYgen and copy 'Public key for pasting', or: puttygen -L {file}; " + _LEAKED,
    ),
    (
        re.compile(r"^-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----", re.MULTILINE),
        "a private key",
        "its owner makes the public half with: ssh-keygen -y -f {file} > {file}.pub; " + _LEAKED,
    ),
    (
        re.compile(r"^---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----|^SSH PRIVATE KEY FILE FORMAT", re.MULTILINE),
        "a private key of an old SSH program",
        "make a new one with: ssh-keygen -t ed25519; " + _LEAKED,
    ),
    (
        re.compile(r"^-----BEGIN CERTIFICATE-----", re.MULTILINE),
        "an X.509 certificate",
        "ask for the line of a .pub file, made with: ssh-keygen -t ed25519",
    ),
    (
        re.compile(r"^-----BEGIN RSA PUBLIC KEY-----", re.MULTILINE),
        "a public key in PEM format",
        "convert it with: ssh-keygen -i -m PEM -f {file}",
    ),
    (
        re.compile(r"^-----BEGIN PUBLIC KEY-----", re.MULTILINE),
        "a public key in PKCS8 format",
        "convert it with: ssh-keygen -i -m PKCS8 -f {file}",
    ),
    (
        re.compile(r"^-----BEGIN PGP ", re.MULTILINE),
        "a PGP key",
        "ask for the line of a .pub file, made with: ssh-keygen -t ed25519",
    ),
    (
        re.compile(r"^-----BEGIN ", re.MULTILINE),
        "no SSH public key",
        "ask for the line of a .pub file, made with: ssh-keygen -t ed25519",
    ),
)


@dataclass(frozen=True, slots=True)
class KeyLine:
    """A line in the form of authorized_keys, with the number of its first input line."""

    number: int
    text: str


def lines(data: bytes, file: str = "-") -> tuple[KeyLine, ...]:
    """The candidate lines of `data`, RFC 4716 blocks as one line each; the keys in them are not validated.

    `file` is the name in errors. Raises InputRejected for private keys, other formats, broken blocks and empty input.
    """
    shown = "standard input" if file == "-" else escape(file, 200)
    if len(data) > MOST_BYTES:
        raise InputRejected(f"{shown} has more than {MOST_BYTES} bytes", "give public keys only")
    text = _decoded(data, shown).replace("\r\n", "\n").replace("\r", "\n")
    for pattern, what, cure in _OTHER_FORMATS:
        if pattern.search(text):
            raise InputRejected(f"{shown} is {what}", cure.replace("{file}", "FILE" if file == "-" else shown))
    key_lines = tuple(_lines(text.split("\n"), shown))
    if not key_lines:
        raise InputRejected(f"there is no key in {shown}", "give the .pub file, a line like: ssh-ed25519 AAAA... alice")
    return key_lines


def _decoded(data: bytes, shown: str) -> str:
    for mark, encoding in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"), (b"\xef\xbb\xbf", "utf-8")):
        if data.startswith(mark):  # PowerShell's > writes UTF-16, Notepad UTF-8 with a byte order mark
            return data[len(mark) :].decode(encoding, "replace")
    if b"\0" in data:
        raise InputRejected(f"{shown} is not text", "give the .pub file, not the key's container")
    return data.decode("utf-8", "replace")


def _lines(rows: list[str], shown: str) -> Iterator[KeyLine]:
    number = 0
    while number < len(rows):
        row = rows[number].strip()
        number += 1
        if row == _BEGIN_4716:
            start = number
            try:
                end = next(at for at in range(number, len(rows)) if rows[at].strip() == _END_4716)
            except StopIteration:
                raise InputRejected(f"{shown}:{start}: the block has no END line", "give the whole file") from None
            yield KeyLine(start, _block([row.strip() for row in rows[number:end]], f"{shown}:{start}"))
            number = end + 1
        elif row and not row.startswith("#"):
            yield KeyLine(number, row)


def _block(rows: list[str], place: str) -> str:
    """The OpenSSH line for the lines of an RFC 4716 block: headers (a backslash continues one), then base64."""
    comment = ""
    at = 0
    while at < len(rows) and ":" in rows[at]:
        header = rows[at]
        while header.endswith("\\") and at + 1 < len(rows):
            at += 1
            header = header[:-1] + rows[at]
        name, _, value = header.partition(":")
        if name.strip().lower() == "comment":
            comment = value.strip().removeprefix('"').removesuffix('"')
        at += 1
    encoded = "".join(rows[at:])
    if not encoded:
        raise InputRejected(f"{place}: the block has no key", "give the whole file")
    return f"{_algorithm(encoded, place)} {encoded} {comment}".rstrip()


def _algorithm(encoded: str, place: str) -> str:
    """The algorithm named inside the key, which the format does not state outside. The key is validated later."""
    try:
        head = binascii.a2b_base64(encoded[: len(encoded) // 4 * 4 if len(encoded) < 400 else 400])
    except ValueError:
        head = b""
    length = int.from_bytes(head[:4], "big")
    name = head[4 : 4 + length]
    if not 0 < length <= 64 or len(name) != length or not name.isascii() or not name.decode().isprintable():
        raise InputRejected(f"{place}: the block has no key", "its base64 text is broken; give the whole file")
    return name.decode().replace(" ", "_")
