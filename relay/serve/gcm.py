"""How is one direction of an SSH connection sealed by AES-GCM (RFC 5647)? In place, and with one cipher object.

asyncssh makes a cipher object and several copies for each packet. These two take over from its own object, key and
counter, as soon as a key exchange has made it, and have its interface too: so there is one counter, and no nonce is
used twice, whichever path a packet takes.
"""

import struct
import weakref
from collections import deque
from collections.abc import Callable

from asyncssh.encryption import Encryption, GCMEncryption
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

TAG = 16
KEPT = 512  # cipher objects of this worker, 1.2 MB: two for each of 256 connections that are busy at the same time
MASK = (1 << 64) - 1
_NONCE = struct.Struct(">4sQ")  # RFC 5647 7.1: fixed field and invocation counter
nonce: Callable[[bytes, int], bytes] = _NONCE.pack
_made: "deque[weakref.ref[Direction]]" = deque()  # those with a cipher object, the one made first comes first


class Direction(Encryption):
    """Key and counter of one direction, taken over from asyncssh's."""

    def __init__(self, theirs: GCMEncryption) -> None:
        cipher = theirs._cipher
        self._key = cipher._key
        self._aead: AESGCM | None = None
        self.fixed: bytes
        self.count: int
        self.fixed, self.count = _NONCE.unpack(cipher._iv)

    @property
    def aead(self) -> AESGCM:
        """The cipher object: 2.4 kB, made in 2 us. Only those made last are kept: most connections are idle."""
        aead = self._aead
        if aead is None:
            aead = self._aead = AESGCM(self._key)
            _made.append(weakref.ref(self))
            if len(_made) > KEPT:
                oldest = _made.popleft()()
                if oldest is not None:
                    oldest._aead = None
        return aead

    def next_nonce(self) -> bytes:
        """The nonce of the next packet; it is used up."""
        found = nonce(self.fixed, self.count)
        self.count = (self.count + 1) & MASK
        return found


class Seal(Direction):
    """Towards the client."""

    def encrypt_packet(self, seq: int, header: bytes, packet: bytes) -> tuple[bytes, bytes]:
        """One packet of the inherited path."""
        sealed = self.aead.encrypt(self.next_nonce(), packet, header)
        return header + sealed[:-TAG], sealed[-TAG:]


class Unseal(Direction):
    """From the client. What was opened here already goes to the inherited path with its plain text beside it."""

    def __init__(self, theirs: GCMEncryption) -> None:
        super().__init__(theirs)
        self.opened: bytes | None = None  # the plain text of the next packet of the inherited path
        self.refused = False  # a packet did not verify: nothing that follows does

    def decrypt_header(self, seq: int, first_block: bytes, header_len: int) -> tuple[bytes, bytes]:
        """The length is not encrypted."""
        return first_block, first_block[:header_len]

    def decrypt_packet(self, seq: int, first: bytes, rest: bytes, header_len: int, mac: bytes) -> bytes | None:
        """One packet of the inherited path; None: it does not verify."""
        if self.refused:
            return None
        if self.opened is not None:
            opened, self.opened = self.opened, None
            return opened
        try:
            return self.aead.decrypt(self.next_nonce(), first[header_len:] + rest + mac, first[:header_len])
        except InvalidTag:
            return None
