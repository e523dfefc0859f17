"""From one read of a target to one write to the client: data is read to its place in the packets.

A frame is memory of a worker in which packets lie one behind the other as they go over the wire (RFC 4253 6, RFC 5647):

    length 4 | padding length 1, type 1, channel 4, data length 4 | data | padding | tag 16

One system call scatters a target's data over many packets; heads and padding are written around it, each packet is
sealed in place, and one system call sends them all. Nothing is copied. A worker has one frame: no other callback runs
between the read and the write.

Between two copies of 256 KiB the caches are cold, so a bytecode costs several times what it costs in a loop: the work
for each full packet is left to `map`, with views made beforehand.
"""

import os
import socket
import struct
from dataclasses import dataclass
from itertools import repeat
from typing import NamedTuple

from asyncssh.constants import MSG_CHANNEL_DATA

from relay.serve.worker.ssh.fastpath.aes_gcm import MASK, TAG, GcmEncryptor, nonce, numbered

MAX_FRAME = 1 << 18  # bytes in one frame
_SIZES = (1 << 15, 1 << 14)  # bytes in one packet: what OpenSSH and PuTTY accept
MIN_PACKET = _SIZES[-1]  # asyncssh sends to a client that accepts less in one packet
_HEAD = struct.Struct(">IBBII")
_HEAD_END = _HEAD.size  # where the data of a packet begins
_COVERED = _HEAD_END - 4  # bytes of a packet before its data that are encrypted
_PADDING = 6  # of a full packet: to a multiple of 16, at least 4
_BLOCK = 16


@dataclass(frozen=True, slots=True)
class OutgoingLayout:
    """Views of packets of one size that lie one behind the other."""

    size: int
    data: tuple[memoryview, ...]
    lengths: tuple[memoryview, ...]
    plain: tuple[memoryview, ...]
    sealed: tuple[memoryview, ...]
    joints: tuple[slice, ...]  # from a packet's padding to the next one's data


class SealedPackets(NamedTuple):
    """Packets ready to send."""

    wire: memoryview
    packets: int
    length: int  # the sum of their length fields (RFC 4253 6)


class ReadResult(NamedTuple):
    """The outcome of one read of a target."""

    amount: int
    over: bool = False  # the target has sent EOF
    error: OSError | None = None  # the target's connection is broken


class ClientWriter:
    """The memory of one worker for packets to clients."""

    def __init__(self) -> None:
        most = max((_HEAD_END + size + _PADDING + TAG) * (MAX_FRAME // size) for size in _SIZES)
        self._room = bytearray(most)
        self._all = memoryview(self._room)
        self._layouts = tuple(self._lay(size) for size in _SIZES)
        self._layout = self._layouts[0]

    def _lay(self, size: int) -> OutgoingLayout:
        whole, stride = self._all, _HEAD_END + size + _PADDING + TAG
        starts = range(0, MAX_FRAME // size * stride, stride)
        return OutgoingLayout(
            size,
            data=tuple(whole[at + _HEAD_END : at + _HEAD_END + size] for at in starts),
            lengths=tuple(whole[at : at + 4] for at in starts),
            plain=tuple(whole[at + 4 : at + stride - TAG] for at in starts),
            sealed=tuple(whole[at + 4 : at + stride] for at in starts),
            joints=tuple(slice(at - TAG - _PADDING, at + _HEAD_END) for at in starts[1:]),
        )

    def read(self, sock: socket.socket, limit: int, packet: int) -> int:
        """Read from a target at most `limit` bytes, for packets of `packet` bytes; 0 at its end. Raises OSError."""
        layout = self._layout = self._layouts[0 if packet >= _SIZES[0] else 1]
        if limit <= layout.size:
            return sock.recv_into(layout.data[0], limit)
        full, rest = divmod(min(limit, MAX_FRAME), layout.size)
        if not rest:
            return sock.recvmsg_into(layout.data[:full])[0]
        return sock.recvmsg_into([*layout.data[:full], layout.data[full][:rest]])[0]

    def seal(self, encryptor: GcmEncryptor, channel: int, count: int) -> SealedPackets:
        """Seal the `count` bytes that were read, in packets for that channel of the client."""
        room, whole, layout = self._room, self._all, self._layout
        encrypt, fixed, number = encryptor.cipher().encrypt_into, encryptor.fixed, encryptor.count
        full, rest = divmod(count, layout.size)
        noise = os.urandom(_PADDING + _BLOCK + 4)  # the padding of every full packet, and behind it the last one's
        end = lengths = 0
        if full:
            length = _COVERED + layout.size + _PADDING
            head, padding = _HEAD.pack(length, _PADDING, MSG_CHANNEL_DATA, channel, layout.size), noise[:_PADDING]
            room[:_HEAD_END] = head
            for _ in map(room.__setitem__, layout.joints, repeat(padding + bytes(TAG) + head, full - 1)):
                pass
            end = full * (4 + length + TAG)
            room[end - TAG - _PADDING : end - TAG] = padding
            numbers = numbered(fixed, number, full)
            for _ in map(encrypt, numbers, layout.plain, layout.lengths, layout.sealed):
                pass
            lengths = full * length
        if rest:
            padding_size = -(_COVERED + rest) % _BLOCK
            padding_size += _BLOCK if padding_size < 4 else 0
            length, at = _COVERED + rest + padding_size, end
            room[at : at + _HEAD_END] = _HEAD.pack(length, padding_size, MSG_CHANNEL_DATA, channel, rest)
            tag = at + 4 + length
            room[tag - padding_size : tag] = noise[_PADDING : _PADDING + padding_size]
            end = tag + TAG
            encrypt(nonce(fixed, (number + full) & MASK), whole[at + 4 : tag], whole[at : at + 4], whole[at + 4 : end])
            lengths += length
        packets = full + bool(rest)
        encryptor.count = (number + packets) & MASK
        return SealedPackets(whole[:end], packets, lengths)
