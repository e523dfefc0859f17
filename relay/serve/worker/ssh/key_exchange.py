"""Bounds of key exchanges (RFC 4253 7) that asyncssh does not have, and what our side reads in the client's KEXINIT."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from asyncssh.packet import SSHPacket

from relay.core.token_bucket import TokenBucket

REKEY_SECONDS = 30.0  # a key exchange that takes longer ends the connection (asyncssh has no limit)
REKEYS_AT_ONCE = 16  # key exchanges after log-in; each costs as much as a log-in, and a client may begin any number
REKEYS_PER_SECOND = 0.5  # in the long run
REKEY_BYTES = 1 << 19  # after so many bytes an exchange is not counted: clients may have RekeyLimit=1M
_COOKIE_END = 17  # of a KEXINIT: message number and cookie


@dataclass(frozen=True, slots=True)
class ClientOffer:
    """The parts of a client's KEXINIT that our own rules need."""

    first_kex: bytes
    first_host_key: bytes
    ciphers: frozenset[bytes]  # that the client accepts in both directions
    has_guessed: bool  # first_kex_packet_follows

    @classmethod
    def parse(cls, payload: bytes) -> "ClientOffer":
        """Raises PacketDecodeError."""
        packet = SSHPacket(payload)
        packet.get_bytes(_COOKIE_END)
        kex, host_keys, to_server, to_client = (packet.get_namelist() for _ in range(4))
        for _ in range(6):  # MACs, compression, languages
            packet.get_namelist()
        return cls(
            first_kex=kex[0] if kex else b"",
            first_host_key=host_keys[0] if host_keys else b"",
            ciphers=frozenset(to_server) & frozenset(to_client),
            has_guessed=packet.get_boolean(),
        )

    def is_wrong_guess(self, kex: Sequence[bytes], host_keys: Sequence[bytes]) -> bool:
        """Whether the packet after the KEXINIT is to be skipped, for our lists.

        A guess is right only if the first entries of both sides' lists agree (RFC 4253 7.1). asyncssh compares the
        agreed algorithm with the client's first entry alone; Dropbear always guesses.
        """
        ours = [*kex[:1], *host_keys[:1]]
        return self.has_guessed and [self.first_kex, self.first_host_key] != ours


class RekeyLimits:
    """How often a client may begin a key exchange after log-in, and how long each may take."""

    def __init__(self, loop: asyncio.AbstractEventLoop, timed_out: Callable[[], None]) -> None:
        """`timed_out` ends the connection."""
        self._loop = loop
        self._timed_out = timed_out
        self._bucket: TokenBucket | None = None
        self._timer: asyncio.TimerHandle | None = None

    def delay(self, transferred: int) -> float:
        """Seconds to wait before a key exchange that the client begins, `transferred` bytes after the last one."""
        if transferred >= REKEY_BYTES:
            return 0.0
        now = self._loop.time()
        if self._bucket is None:
            self._bucket = TokenBucket(REKEYS_PER_SECOND, REKEYS_AT_ONCE)
        seconds = self._bucket.wait(now)
        self._bucket.take(now)
        return seconds

    def begin(self) -> None:
        """A key exchange begins."""
        if self._timer is None:
            self._timer = self._loop.call_later(REKEY_SECONDS, self._timed_out)

    def end(self) -> None:
        """The key exchange is complete, or the connection is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
