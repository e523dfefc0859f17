"""The fast path of one connection: bulk data in AES-GCM packets, sealed and opened in place.

asyncssh handles everything else: other packets, other ciphers, and all packets while a key exchange is in progress.
`RELAY_FAST_PATH=no` in the environment switches it off.
"""

import functools
import inspect
import os
import socket
import time
from collections.abc import Mapping
from typing import Any, cast

import asyncssh
from asyncssh.connection import SSHServerConnection
from asyncssh.constants import (
    MSG_CHANNEL_FIRST,
    MSG_CHANNEL_LAST,
    MSG_KEX_FIRST,
    MSG_KEX_LAST,
    MSG_UNIMPLEMENTED,
    MSG_USERAUTH_FIRST,
    MSG_USERAUTH_LAST,
)
from asyncssh.encryption import Encryption, GCMEncryption
from asyncssh.packet import PacketDecodeError, SSHPacket, UInt32

from relay.serve.worker.ssh.fastpath.aes_gcm import GcmDecryptor, GcmEncryptor
from relay.serve.worker.ssh.fastpath.from_client import ClientReader, ReceivingChannel
from relay.serve.worker.ssh.fastpath.to_client import MAX_FRAME, ClientWriter, ReadResult

HEADS = 1 << 10  # bytes of heads and padding in one frame, at most


def is_switched_off() -> bool:
    """Whether the operator has switched it off."""
    return os.environ.get("RELAY_FAST_PATH") == "no"


class FastPath:
    """Reads and writes data packets of one connection past asyncssh, and keeps asyncssh's counters right."""

    def __init__(self, connection: SSHServerConnection, reader: ClientReader, sock: socket.socket) -> None:
        """`sock` is the transport's; `reader` has the worker's memory to read into."""
        self._connection = connection
        self._reader = reader
        self._sock = sock
        self.decryptor: GcmDecryptor | None = None  # the client's packets use AES-GCM
        self.encryptor: GcmEncryptor | None = None

    def new_keys(self) -> None:
        """asyncssh has made new keys: replace its AES-GCM objects, so that both paths share one packet counter."""
        connection = self._connection
        self.encryptor = self.decryptor = None
        if isinstance(connection._send_encryption, GCMEncryption):
            self.encryptor = GcmEncryptor(connection._send_encryption)
            connection._send_encryption = cast(Encryption, self.encryptor)
        if isinstance(connection._next_recv_encryption, GCMEncryption):
            self.decryptor = GcmDecryptor(connection._next_recv_encryption)
            connection._next_recv_encryption = cast(Encryption, self.decryptor)

    # ---- from the client

    @property
    def usable_decryptor(self) -> GcmDecryptor | None:
        """What opens the client's packets; None while asyncssh must read them."""
        connection = self._connection
        between = connection._recv_handler in (connection._recv_pkthdr, connection._recv_packet)
        usable = between and connection._auth_complete and connection._decompressor is None and not self.is_closed
        return self.decryptor if usable and connection._recv_encryption is cast(Any, self.decryptor) else None

    @property
    def channels(self) -> Mapping[int, ReceivingChannel]:
        """The channels by our number; all are direct-tcpip."""
        return cast(Mapping[int, ReceivingChannel], self._connection._channels)

    @property
    def is_closed(self) -> bool:
        """Whether the connection is over."""
        return self._connection._transport is None

    def read(self, count: int) -> bool:
        """Handle `count` bytes that lie in the reader; False: asyncssh must. Raises DisconnectError."""
        decryptor = self.usable_decryptor
        if decryptor is None:
            return False
        connection = self._connection
        rest, connection._packet, connection._inpbuf = connection._packet + connection._inpbuf, b"", b""
        connection._recv_handler = connection._recv_pkthdr
        unread = self._reader.take(self, decryptor, rest, count)
        if self.is_closed:
            return True
        connection._inpbuf += unread
        if unread and self.usable_decryptor is None:
            connection._recv_data()
        return True

    def count_packets(self, count: int) -> None:
        """Count data packets that asyncssh has not seen."""
        if count:
            connection = self._connection
            connection._recv_seq = (connection._recv_seq + count) & 0xFFFFFFFF
            connection._auth_final = True  # authentication requests are an error from now on (RFC 4252 5.3)

    def dispatch_payload(self, payload: bytes) -> None:
        """Hand one opened packet to asyncssh: `_recv_packet` after log-in, from the decrypted payload on.

        Raises DisconnectError.
        """
        connection = self._connection
        number, packet = connection._recv_seq, SSHPacket(payload)
        kind = packet.get_byte()
        handler: Any = connection
        if MSG_KEX_FIRST <= kind <= MSG_KEX_LAST:
            if connection._kex is None:
                raise asyncssh.ProtocolError("Key exchange not in progress")
            handler = connection._kex
        elif MSG_USERAUTH_FIRST <= kind <= MSG_USERAUTH_LAST:
            raise asyncssh.ProtocolError("Authentication not in progress")
        if connection._ignore_first_kex and handler is connection._kex:
            connection._ignore_first_kex = False  # a wrong guess (RFC 4253 7.1)
            connection._finish_recv_packet(kind, number)
            return
        try:
            if MSG_CHANNEL_FIRST <= kind <= MSG_CHANNEL_LAST:
                channel = packet.get_uint32()
                if channel not in connection._channels:
                    raise asyncssh.ProtocolError(f"Invalid channel number {channel} received")
                handler = connection._channels[channel]
            result = handler.process_packet(kind, number, packet)
        except PacketDecodeError as error:
            raise asyncssh.ProtocolError(str(error)) from None
        if inspect.isawaitable(result):
            connection._recv_handler = lambda: False  # asyncssh's mark: no packet is read until this one is done
            task = connection.create_task(result)
            done = functools.partial(connection._finish_recv_packet, kind, number, is_async=True)
            task.add_done_callback(done)
            return
        if not result:
            connection.send_packet(MSG_UNIMPLEMENTED, UInt32(number))
        connection._finish_recv_packet(kind, number)

    # ---- to the client

    def can_send(self, count: int) -> bool:
        """Whether `count` bytes may be sealed here: no key exchange is in progress, or due."""
        connection = self._connection
        return (
            self.encryptor is not None
            and connection._send_encryption is cast(Any, self.encryptor)
            and connection._kex_complete
            and connection._auth_complete
            and connection._compressor is None
            and connection._transport is not None
            and connection._rekey_bytes_sent + count + HEADS < connection._rekey_bytes
            and not (connection._rekey_seconds and time.monotonic() >= connection._rekey_time)
        )

    def carry(
        self, frame: ClientWriter, source: socket.socket, channel: int, most: int, packet: int
    ) -> ReadResult | None:
        """Copy up to `most` bytes from `source` to the client, until `source` has no more or the client takes no more.

        None: the fast path cannot send now. Nothing was read, and asyncssh has to send.
        """
        connection, encryptor = self._connection, self.encryptor
        transport = cast(Any, connection._transport)
        if encryptor is None or not self.can_send(most):
            return None
        waits = transport.get_write_buffer_size()
        total = 0
        while total < most:
            asked = min(most - total, MAX_FRAME)
            try:
                count = frame.read(source, asked, packet)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                return ReadResult(total, error=error)
            if not count:
                return ReadResult(total, over=True)
            total += count
            wire, packets, length = frame.seal(encryptor, channel, count)
            connection._send_seq = (connection._send_seq + packets) & 0xFFFFFFFF
            connection._rekey_bytes_sent += length
            try:
                sent = 0 if waits else self._sock.send(wire)
            except OSError:  # full, or closed: the transport learns it
                sent = 0
            if sent < len(wire):
                transport.write(bytes(wire[sent:]))
                break
            if count < asked:
                break
        return ReadResult(total)
