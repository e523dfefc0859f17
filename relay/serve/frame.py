"""How does one read of a target become one write to the client? Its bytes are read to where their packets want them.

A frame is memory of a worker in which packets lie one behind the other as they go over the wire (RFC 4253 6, RFC 5647):

    length 4 | padding length 1, type 1, channel 4, data length 4 | data | padding | tag 16

One system call scatters what a target says over the data of many packets; heads and padding are written around it, each
packet is sealed where it lies, and one system call sends them all. Nothing is copied. A worker has one frame: between
the read and the write nobody else has a turn.
"""

import os
import socket
import struct
from dataclasses import dataclass
from typing import NamedTuple

from asyncssh.constants import MSG_CHANNEL_DATA

from relay.serve.gcm import MASK, TAG, Seal, nonce

MOST = 1 << 18  # bytes in one frame
_SIZES = (1 << 15, 1 << 14)  # bytes in one packet: as OpenSSH takes them, and as PuTTY does
_HEAD = struct.Struct(">IBBII")
_COVERED = 10  # bytes of a packet before its data that are encrypted
_PADDING = 6  # of a full packet: to a multiple of 16, at least 4
_BLOCK = 16


class Slot(NamedTuple):
    """Where a full packet lies."""

    at: int
    pad: int
    data: memoryview
    length: memoryview
    plain: memoryview
    sealed: memoryview


@dataclass(frozen=True, slots=True)
class Layout:
    """Packets of one size, one behind the other."""

    size: int
    slots: tuple[Slot, ...]
    data: tuple[memoryview, ...]


class Sealed(NamedTuple):
    """Packets that are ready to go."""

    wire: memoryview
    packets: int
    length: int  # of all of them, as they say themselves: without the fields of the length, and the tags


class Frame:
    """The memory of one worker for what goes to clients."""

    def __init__(self) -> None:
        most = max((size + 4 + _COVERED + _PADDING + TAG) * (MOST // size) for size in _SIZES)
        self._room = bytearray(most)
        self._all = memoryview(self._room)
        self._layouts = tuple(self._lay(size) for size in _SIZES)
        self._layout = self._layouts[0]

    def _lay(self, size: int) -> Layout:
        slots = []
        stride = 4 + _COVERED + size + _PADDING + TAG
        for at in range(0, MOST // size * stride, stride):
            data, pad, end = at + 4 + _COVERED, at + 4 + _COVERED + size, at + stride
            whole = self._all
            slots.append(
                Slot(at, pad, whole[data:pad], whole[at : at + 4], whole[at + 4 : end - TAG], whole[at + 4 : end])
            )
        return Layout(size, tuple(slots), tuple(slot.data for slot in slots))

    @property
    def packet(self) -> int:
        """Bytes in a packet of what was read, at most."""
        return self._layout.size

    def read(self, sock: socket.socket, limit: int, packet: int) -> int:
        """Read from a target at most `limit` bytes, for packets of `packet` bytes; 0 at its end. Raises OSError."""
        layout = self._layout = self._layouts[0 if packet >= _SIZES[0] else 1]
        if limit <= layout.size:
            return sock.recv_into(layout.data[0], limit)
        full, rest = divmod(min(limit, MOST), layout.size)
        if not rest:
            return sock.recvmsg_into(layout.data[:full])[0]
        return sock.recvmsg_into([*layout.data[:full], layout.data[full][:rest]])[0]

    def put(self, data: bytes) -> int:
        """As if these had been read, as many as fit in one packet; how many that is."""
        room = self._layout.data[0]
        room[: len(data)] = data
        return len(data)

    def copy(self, count: int) -> bytes:
        """The `count` bytes that were read."""
        full, rest = divmod(count, self._layout.size)
        data = self._layout.data
        return b"".join((*data[:full], data[full][:rest])) if rest else b"".join(data[:full])

    def seal(self, seal: Seal, channel: int, count: int) -> Sealed:
        """The `count` bytes that were read, in packets for that channel of the client."""
        room, layout = self._room, self._layout
        encrypt, fixed, number = seal.cipher().encrypt_into, seal.fixed, seal.count
        size = layout.size
        full, rest = divmod(count, size)
        noise = os.urandom(full * _PADDING + _BLOCK + 4)
        head = _HEAD.pack(_COVERED + size + _PADDING, _PADDING, MSG_CHANNEL_DATA, channel, size)
        end = taken = 0
        for at, pad, _, aad, plain, sealed in layout.slots[:full]:
            room[at : at + 14] = head
            room[pad : pad + _PADDING] = noise[taken : taken + _PADDING]
            taken += _PADDING
            encrypt(nonce(fixed, number), plain, aad, sealed)
            number = (number + 1) & MASK
            end = pad + _PADDING + TAG
        lengths = full * (_COVERED + size + _PADDING)
        if rest:
            padding = -(_COVERED + rest) % _BLOCK
            padding += _BLOCK if padding < 4 else 0
            length = _COVERED + rest + padding
            room[end : end + 14] = _HEAD.pack(length, padding, MSG_CHANNEL_DATA, channel, rest)
            pad = end + 14 + rest
            room[pad : pad + padding] = noise[taken : taken + padding]
            whole, at, end = self._all, end, pad + padding
            encrypt(nonce(fixed, number), whole[at + 4 : end], whole[at : at + 4], whole[at + 4 : end + TAG])
            number = (number + 1) & MASK
            end += TAG
            lengths += length
        seal.count = number
        return Sealed(self._all[:end], full + bool(rest), lengths)
