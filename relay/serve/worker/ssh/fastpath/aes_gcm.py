"""AES-GCM of one direction of an SSH connection (RFC 5647), in place and for many packets at once.

asyncssh makes a cipher object and several copies for each packet. These objects take over the key and the counter of
asyncssh's own, and have its interface: there is one counter, and no nonce is used twice, whichever path a packet takes.
A cipher object is made for each read (1 us) and not kept: it takes 2.5 kB, and most connections are idle.
"""

import struct
from collections.abc import Callable, Iterator
from itertools import repeat

from asyncssh.encryption import GCMEncryption
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

TAG = 16
MASK = (1 << 64) - 1
_NONCE = struct.Struct(">4sQ")  # RFC 5647 7.1: fixed field and invocation counter
nonce: Callable[[bytes, int], bytes] = _NONCE.pack


def numbered(fixed: bytes, first: int, count: int) -> Iterator[bytes]:
    """The nonces of `count` packets, beginning with the counter `first`."""
    if first + count <= MASK:
        return map(nonce, repeat(fixed), range(first, first + count))
    return (nonce(fixed, (first + index) & MASK) for index in range(count))  # RFC 5647 7.1: the counter begins anew


class GcmDirection:
    """Key and counter of one direction, taken over from asyncssh."""

    __slots__ = ("_key", "count", "fixed")

    def __init__(self, theirs: GCMEncryption) -> None:
        cipher = theirs._cipher
        self._key = cipher._key
        self.fixed: bytes
        self.count: int
        self.fixed, self.count = _NONCE.unpack(cipher._iv)

    def cipher(self) -> AESGCM:
        """The cipher for the packets of one read."""
        return AESGCM(self._key)

    def next_nonce(self) -> bytes:
        """The nonce of the next packet; it is used up."""
        value = nonce(self.fixed, self.count)
        self.count = (self.count + 1) & MASK
        return value


class GcmEncryptor(GcmDirection):
    """Seals packets to the client."""

    __slots__ = ()

    def encrypt_packet(self, seq: int, header: bytes, packet: bytes) -> tuple[bytes, bytes]:
        """One packet that asyncssh sends."""
        sealed = self.cipher().encrypt(self.next_nonce(), packet, header)
        return header + sealed[:-TAG], sealed[-TAG:]


class GcmDecryptor(GcmDirection):
    """Opens packets of the client."""

    __slots__ = ()

    def decrypt_header(self, seq: int, first_block: bytes, header_len: int) -> tuple[bytes, bytes]:
        """The length is not encrypted."""
        return first_block, first_block[:header_len]

    def decrypt_packet(self, seq: int, first: bytes, rest: bytes, header_len: int, mac: bytes) -> bytes | None:
        """One packet that asyncssh reads; None: it does not verify."""
        try:
            return self.cipher().decrypt(self.next_nonce(), first[header_len:] + rest + mac, first[:header_len])
        except InvalidTag:
            return None
