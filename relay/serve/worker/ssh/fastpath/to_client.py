"""How does one read of a target become one write to the client? Its bytes are read to where their packets want them.

A frame is memory of a worker in which packets lie one behind the other as they go over the wire (RFC 4253 6, RFC 5647):

    length 4 | padding length 1, type 1, channel 4, data length 4 | data | padding | tag 16

One system call scatters what a target says over the data of many packets; heads and padding are written around it, each
packet is sealed where it lies, and one system call sends them all. Nothing is copied. A worker has one frame: between
the read and the write nobody else has a turn.

Python runs cold between two copies of a quarter of a MiB, so a bytecode costs several times what it costs in a loop:
what is done for each full packet is left to `map`, and its views are made beforehand.
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
_SIZES = (1 << 15, 1 << 14)  # bytes in one packet: as OpenSSH takes them, and as PuTTY does
MIN_PACKET = _SIZES[-1]  # whoever takes less in one packet goes the inherited path
_HEAD = struct.Struct(">IBBII")
_HEAD_END = _HEAD.size  # where the data of a packet begins
_COVERED = _HEAD_END - 4  # bytes of a packet before its data that are encrypted
_PADDING = 6  # of a full packet: to a multiple of 16, at least 4
_BLOCK = 16


@dataclass(frozen=True, slots=True)
class OutgoingLayout:
    """Packets of one size, one behind the other, and what of each is what."""

    size: int
    data: tuple[memoryview, ...]
    lengths: tuple[memoryview, ...]
    plain: tuple[memoryview, ...]
    sealed: tuple[memoryview, ...]
    joints: tuple[slice, ...]  # from a packet's padding to the next one's data


class SealedPackets(NamedTuple):
    """Packets that are ready to go."""

    wire: memoryview
    packets: int
    length: int  # of all of them, as they say themselves: without the fields of the length, and the tags


class ReadResult(NamedTuple):
    """What a turn of the loop took from a target to its client."""

    amount: int
    over: bool = False  # the target will say no more
    error: OSError | None = None  # the target is gone


class ClientWriter:
    """The memory of one worker for what goes to clients."""

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

    def put(self, data: bytes) -> int:
        """As if these had been read, as many as fit in one packet; how many that is."""
        room = self._layout.data[0]
        room[: len(data)] = data
        return len(data)

    def seal(self, seal: GcmEncryptor, channel: int, count: int) -> SealedPackets:
        """The `count` bytes that were read, in packets for that channel of the client."""
        room, whole, layout = self._room, self._all, self._layout
        encrypt, fixed, number = seal.cipher().encrypt_into, seal.fixed, seal.count
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
        seal.count = (number + packets) & MASK
        return SealedPackets(whole[:end], packets, lengths)
