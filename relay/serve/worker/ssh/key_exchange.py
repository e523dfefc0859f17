"""How are keys exchanged with a client (RFC 4253 7)? When, how often, and what comes of what both sides speak.

Almost every client of a relay offers what another one has offered before, so what such an offer comes to is remembered
once somebody who made it has proven a key: the lists are compared once, by asyncssh, and not in every log-in.
"""

import asyncio
import os
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import asyncssh
from asyncssh.constants import MSG_KEXINIT
from asyncssh.encryption import Encryption, GCMEncryption
from asyncssh.kex import get_kex
from asyncssh.packet import SSHPacket
from asyncssh.public_key import SSHKeyPair

from relay.core.token_bucket import TokenBucket
from relay.serve import ssh_algorithms
from relay.serve.worker.ssh.fastpath.aes_gcm import GcmDecryptor, GcmEncryptor
from relay.serve.worker.ssh.preauth import PreauthLayer, run_without_waiting

SAY_SECONDS = 1.0  # for a client's KEXINIT that should come unasked (it is at most half a round trip away)
REKEY_SECONDS = 30.0  # a key exchange that takes longer is given up (asyncssh has no limit)
REKEYS_AT_ONCE = 16  # key exchanges after log-in; each costs as much as a log-in, and a client may begin any number
REKEYS_PER_SECOND = 0.5  # in the long run
REKEY_BYTES = 1 << 19  # after so many bytes an exchange is not counted: RekeyLimit=1M is somebody's policy
COOKIE = 17  # where it ends in a KEXINIT
OFFERS = 32  # different ones that are remembered: the versions of ssh that people have
OFFER_BYTES = 1 << 12  # of one; OpenSSH's is 1.1 kB
# An RSA key pair is told which hash to sign with, by whoever signs next.
STEADY = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")

Offer = tuple[bytes, bytes, bool]  # what the client sent behind the cookie; what we had sent, or were about to


@dataclass(frozen=True, slots=True)
class NegotiatedAlgorithms:
    """What an offer comes to."""

    ours: bytes  # our KEXINIT behind the cookie
    kex: bytes
    host_key: SSHKeyPair
    members: dict[str, Any]  # of the connection: ciphers, MACs, compression, extensions


MEMBERS = (
    "_can_send_ext_info",
    "_cmp_alg_cs",
    "_cmp_alg_sc",
    "_enc_alg_cs",
    "_enc_alg_sc",
    "_enc_algs",
    "_mac_alg_cs",
    "_mac_alg_sc",
    "_strict_kex",
)


class KeyExchangeLayer(PreauthLayer):
    """One client's SSH connection, as far as its keys are concerned."""

    exchanged = False  # a key exchange has begun: that is what costs time
    unseal: GcmDecryptor | None = None  # the client's packets are sealed by AES-GCM
    _seal: GcmEncryptor | None = None
    _bytes_in = 0  # since the last key exchange
    _rekeys: TokenBucket | None = None
    _rekey_timer: asyncio.TimerHandle | None = None
    _unsaid = False  # our KEXINIT waits for the client's, to fit it
    _say_timer: asyncio.TimerHandle | None = None  # how long it does
    _theirs: frozenset[bytes] = frozenset()  # the ciphers that the client speaks in both directions
    _offer: tuple[Offer, NegotiatedAlgorithms] | None = None  # to be remembered when a key is proven
    _remembered: ClassVar[OrderedDict[Offer, NegotiatedAlgorithms]] = OrderedDict()  # the latest last
    _remembered_of: ClassVar[Any] = None  # the options that they belong to

    def keys_changed(self) -> None:
        """A key exchange has begun or ended: `_kex_complete` is another."""

    # ---- the client's offer

    def _process_kexinit(self, _type: int, _id: int, packet: SSHPacket) -> Any:
        """Begin a key exchange; a client that begins them out of turn waits."""
        if self._session_id and not self._auth_complete:
            raise asyncssh.ProtocolError("second key exchange before log-in")
        self.exchanged = True
        carried, self._bytes_in = self._bytes_in + self._rekey_bytes_sent, 0
        if self._session_id and self._kex_complete and carried < REKEY_BYTES:  # the client begins it, out of turn
            now = self._loop.time()
            if self._rekeys is None:
                self._rekeys = TokenBucket(REKEYS_PER_SECOND, REKEYS_AT_ONCE)
            wait = self._rekeys.wait(now)
            self._rekeys.take(now)
            if wait:
                return self._exchange_later(wait, packet)
        return self._exchange(packet)

    async def _exchange_later(self, wait: float, packet: SSHPacket) -> None:
        await asyncio.sleep(wait)  # nothing of this client is read meanwhile
        if self._transport is not None:
            self._exchange(packet)

    def _exchange(self, packet: SSHPacket) -> None:
        """RFC 4253 7.1: a guessed exchange is right only if the first entries of both sides' lists agree.

        asyncssh compares the agreed algorithm with the client's first entry alone; Dropbear always guesses.
        """
        payload, unsaid, first = packet.get_full_payload(), self._unsaid, not self._session_id
        offer = payload[COOKIE:], self._server_kexinit[COOKIE:], unsaid
        theirs = SSHPacket(payload)
        theirs.get_bytes(COOKIE)
        guessed = [*theirs.get_namelist()[:1], *theirs.get_namelist()[:1]]
        if unsaid:
            self._theirs = frozenset(theirs.get_namelist()) & frozenset(theirs.get_namelist())
            self._kexinit_sent = False
        run_without_waiting(super()._process_kexinit(MSG_KEXINIT, 0, packet))
        if payload[-5]:  # first_kex_packet_follows; a reserved number comes behind it
            self._ignore_first_kex = guessed != [self._kex_algs[0], (self._server_host_key_algs or [b""])[0]]
        elif first and len(offer[0]) <= OFFER_BYTES and self._kex is not None and self._server_host_key is not None:
            key = self._server_host_key
            if key.algorithm.decode() in STEADY:
                members = {name: getattr(self, name) for name in MEMBERS}
                agreed = NegotiatedAlgorithms(self._server_kexinit[COOKIE:], self._kex.algorithm, key, members)
                self._offer = offer, agreed

    def _known_offer(self, payload: bytes) -> bool:
        """The first KEXINIT of a client whose offer was made before. False: it was not, asyncssh is to look at it."""
        if self._session_id or self._kex is not None or self._recv_seq or self._remembered_of is not self._options:
            return False
        unsaid = self._unsaid
        agreed = self._remembered.get((payload[COOKIE:], self._server_kexinit[COOKIE:], unsaid))
        if agreed is None:
            return False
        self.exchanged = True
        self._client_kexinit = payload
        vars(self).update(agreed.members)
        self._server_host_key = agreed.host_key
        if unsaid:
            self._said()
            self._kex_complete, self._rekey_bytes_sent = False, 0
            self._rekey_time = time.monotonic() + self._rekey_seconds
            self._server_kexinit = bytes([MSG_KEXINIT]) + os.urandom(16) + agreed.ours
            self.send_packet(MSG_KEXINIT, self._server_kexinit[1:])
        self._kexinit_sent = False
        self._kex = get_kex(self, agreed.kex)
        return True

    def proven(self) -> None:
        """A key is proven: what this client offers is worth remembering. Nobody else can fill the memory."""
        kind = KeyExchangeLayer
        if self._offer is not None:
            if kind._remembered_of is not self._options:  # the settings have changed, or it is the first one
                kind._remembered_of, kind._remembered = self._options, OrderedDict()
            offer, agreed = self._offer
            kind._remembered[offer] = agreed
            if len(kind._remembered) > OFFERS:
                kind._remembered.popitem(last=False)
            del self._offer

    # ---- ours

    def _send_kexinit(self) -> None:
        if self._transport is None:
            return
        if not self._session_id:
            if not self._unsaid and ssh_algorithms.speaks_first(self._client_version):  # which has just been read
                self._unsaid = True
                return
            self._said()
            self._enc_algs = ssh_algorithms.for_client(self._enc_algs, self._client_version, self._theirs)
            self._theirs = frozenset()
        super()._send_kexinit()
        if self._auth_complete and self._rekey_timer is None:
            self._rekey_timer = self._loop.call_later(REKEY_SECONDS, self._rekey_late)
            self.keys_changed()

    def _said(self) -> None:
        self._unsaid = False
        if self._say_timer is not None:
            self._say_timer.cancel()
            self._say_timer = None

    def _my_turn(self) -> None:
        super()._my_turn()
        if self._unsaid and self._say_timer is None and self._transport is not None:  # its KEXINIT was not behind it
            self._say_timer = self._loop.call_later(SAY_SECONDS, self._send_kexinit)

    def _rekey_late(self) -> None:
        self._rekey_timer = None
        self._force_close(asyncssh.ConnectionLost("key exchange not finished in time"))

    def send_newkeys(self, k: bytes, h: bytes) -> None:
        """The exchange is done on our side: what waited goes out, and targets are read again."""
        super().send_newkeys(k, h)
        if self.fast:
            self._take_keys()
        if self._rekey_timer is not None:
            self._rekey_timer.cancel()
            self._rekey_timer = None
        self.keys_changed()

    def _take_keys(self) -> None:
        """asyncssh has made new ones: those of AES-GCM are used by our own objects from now on, on both paths."""
        self._seal = self.unseal = None
        if isinstance(self._send_encryption, GCMEncryption):
            self._seal = GcmEncryptor(self._send_encryption)
            self._send_encryption = cast(Encryption, self._seal)
        if isinstance(self._next_recv_encryption, GCMEncryption):
            self.unseal = GcmDecryptor(self._next_recv_encryption)
            self._next_recv_encryption = cast(Encryption, self.unseal)

    def _cleanup(self, exc: Exception | None) -> None:
        for timer in (self._rekey_timer, self._say_timer):
            if timer is not None:
                timer.cancel()
        super()._cleanup(exc)

    _plain: ClassVar[dict[bytes, Any]] = {**PreauthLayer._plain, bytes([MSG_KEXINIT]): _known_offer}
    _packet_handlers = {**PreauthLayer._packet_handlers, MSG_KEXINIT: _process_kexinit}  # noqa: RUF012 - asyncssh's table
