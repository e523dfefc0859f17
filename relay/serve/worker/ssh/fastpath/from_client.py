"""From the client's packets to writes to targets: one read is decrypted in place, and sent from there.

Only data and window adjusts of open channels are handled here, of a logged-in client that uses AES-GCM. The payload of
every other packet goes to asyncssh in its turn, and so do all bytes read while asyncssh is still handling it.

Uploads are packets of one length, one behind the other. The beginning of a read is decrypted as such a run, with views
made beforehand, as long as each packet has the same head.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import asyncssh
from asyncssh.constants import MSG_CHANNEL_DATA, MSG_CHANNEL_WINDOW_ADJUST
from cryptography.exceptions import InvalidTag

from relay.serve.worker.forward.write_buffer import PIECES
from relay.serve.worker.ssh.fastpath.aes_gcm import MASK, TAG, GcmDecryptor, nonce, numbered

MAX_READ = 1 << 19  # bytes of one read
_LONGEST = 1 << 18  # length of a packet that asyncssh accepts
_BEFORE = 4 + _LONGEST + TAG  # bytes left of the last read: the beginning of one packet
_LENGTH = struct.Struct(">I")
_HEAD = struct.Struct(">BBII")  # padding length, type, channel, and the length of the data or the window's growth
_DATA = 4 + _HEAD.size  # where the data of a packet begins
_PADDING = 4  # at least (RFC 4253 6)
_BLOCK = 16  # asyncssh looks at a length when it has so many bytes
_PLAIN = (MSG_CHANNEL_DATA, MSG_CHANNEL_WINDOW_ADJUST)
# beside the message numbers
_OTHER = 0  # a packet for asyncssh
_RUN = -1  # data packets that are alike, from the first byte of the read
_BROKEN = -2  # a packet that does not verify
_TOO_LONG = -3  # a length that cannot be
_LONG = 1 << 12  # length of the packets of a run, at least; NEWKEYS is shorter, so all of a run has the same keys


class ReceivingChannel(Protocol):
    """A channel, as far as packets of the client concern it."""

    @property
    def receivable(self) -> int:
        """Bytes that the client may send now, 0 when asyncssh must handle them."""

    def deliver(self, pieces: Sequence[memoryview], total: int) -> None:
        """Accept data, at most `receivable` bytes. The memory of the pieces is reused afterwards."""

    def grant(self, growth: int) -> bool:
        """The client enlarges its window; False: asyncssh must handle it."""


class PacketReceiver(Protocol):
    """The connection, as far as opened packets concern it."""

    @property
    def channels(self) -> Mapping[int, ReceivingChannel]:
        """The channels by our number."""

    @property
    def usable_decryptor(self) -> GcmDecryptor | None:
        """What opens the client's packets; None while asyncssh must read them."""

    @property
    def is_closed(self) -> bool:
        """Whether the connection is over."""

    def count_packets(self, count: int) -> None:
        """Count data packets that asyncssh has not seen."""

    def dispatch_payload(self, payload: bytes) -> None:
        """Hand one opened packet to asyncssh. Raises DisconnectError."""


class OpenedPacket(NamedTuple):
    """A decrypted packet, or a run of them."""

    kind: int
    channel: int
    size: int  # of the data, or the growth of the window
    at: int
    stop: int


@dataclass(frozen=True, slots=True)
class IncomingLayout:
    """Views of packets of one length that lie one behind the other, from the beginning of the memory."""

    length: int
    lengths: tuple[memoryview, ...]
    sealed: tuple[memoryview, ...]
    plain: tuple[memoryview, ...]
    heads: tuple[memoryview, ...]


class ClientReader:
    """The memory of one worker for reads of clients. No other callback runs between a read and its end."""

    def __init__(self) -> None:
        self._room = memoryview(bytearray(_BEFORE + MAX_READ))
        self._at = 0  # where the last read was put
        self._last = 0  # the length of the first packet of the read before
        self._layout = IncomingLayout(0, (), (), (), ())
        self._size = 0  # of the data in each packet of the last run
        self._data: tuple[memoryview, ...] = ()

    def room(self, size: int, before: int = 0) -> memoryview:
        """Where the next read goes, at most `size` bytes, behind `before` bytes of the last one."""
        self._at = min(before, _BEFORE)
        return self._room[self._at : self._at + size]

    def copy(self, count: int) -> bytes:
        """The bytes that were read."""
        return bytes(self._room[self._at : self._at + count])

    def take(self, client: PacketReceiver, decryptor: GcmDecryptor, rest: bytes, count: int) -> bytes:
        """Handle `rest` and the `count` bytes that were read behind it; what is left for asyncssh, or the next read.

        Raises DisconnectError.
        """
        at, end = 0, len(rest) + count
        if rest:
            self._room[: len(rest)] = rest
        usable: GcmDecryptor | None = decryptor
        packets = self._run(decryptor, end) if end > _LONG else []
        while usable is not None and (packets or (packets := self._decrypt(usable, at, end))):
            self._pass(client, packets)
            at = packets[-1][-1]
            if at == end:
                return b""
            packets = []
            usable = client.usable_decryptor
        return bytes(self._room[at:end])

    def _run(self, decryptor: GcmDecryptor, end: int) -> list[OpenedPacket]:
        """Decrypt the packets at the beginning that are data for one channel, all of the first one's length."""
        (length,) = _LENGTH.unpack_from(self._room)
        layout = self._layout
        if length != layout.length:
            if length == self._last and _LONG <= length <= _LONGEST:
                self._layout, self._size = self._lay(length), 0  # for the next read
            self._last = length
            return []
        stride = 4 + length + TAG
        lengths = layout.lengths[: end // stride]
        if len(lengths) < 2 or b"".join(lengths) != bytes(lengths[0]) * len(lengths):
            return []
        decrypt, numbers = decryptor.cipher().decrypt_into, numbered(decryptor.fixed, decryptor.count, len(lengths))
        opened = map(decrypt, numbers, layout.sealed, lengths, layout.plain)
        count, packets = 0, list[OpenedPacket]()
        first = OpenedPacket(_OTHER, 0, 0, 0, 0)
        head = b""
        try:
            for _, packet_head in zip(opened, map(bytes, layout.heads), strict=False):
                decryptor.count = (decryptor.count + 1) & MASK
                if packet_head != head:
                    packet = self._parse(count * stride, length)
                    if count or packet.kind != MSG_CHANNEL_DATA:
                        packets.append(packet)
                        break
                    first, head = packet, packet_head
                count += 1
        except InvalidTag:
            packets.append(OpenedPacket(_BROKEN, 0, 0, count * stride, (count + 1) * stride))
        if count:
            packets.insert(0, first._replace(kind=_RUN, stop=count * stride))
        return packets

    def _lay(self, length: int) -> IncomingLayout:
        whole, stride = self._room, 4 + length + TAG
        starts = range(0, (_BEFORE + MAX_READ) // stride * stride, stride)
        return IncomingLayout(
            length,
            lengths=tuple(whole[at : at + 4] for at in starts),
            sealed=tuple(whole[at + 4 : at + stride] for at in starts),
            plain=tuple(whole[at + 4 : at + 4 + length] for at in starts),
            heads=tuple(whole[at + 4 : at + _DATA] for at in starts),
        )

    def _parse(self, at: int, length: int) -> OpenedPacket:
        """The packet that was decrypted there."""
        padding, kind, channel, size = _HEAD.unpack_from(self._room, at + 4)
        over = length - _HEAD.size - padding  # bytes behind the head
        if padding < _PADDING or not size or kind not in _PLAIN or over != (size if kind == MSG_CHANNEL_DATA else 0):
            kind = _OTHER
        return OpenedPacket(kind, channel, size, at, at + 4 + length + TAG)

    def _decrypt(self, decryptor: GcmDecryptor, at: int, end: int) -> list[OpenedPacket]:
        """Decrypt the complete packets there, up to the first one for asyncssh: it may change the keys."""
        room, packets = self._room, list[OpenedPacket]()
        decrypt, fixed = decryptor.cipher().decrypt_into, decryptor.fixed
        while end - at >= 4:
            (length,) = _LENGTH.unpack_from(room, at)
            tag = at + 4 + length
            stop = tag + TAG
            if length > _LONGEST and end - at >= _BLOCK:
                packets.append(OpenedPacket(_TOO_LONG, 0, 0, at, end))
                break
            if stop > end:
                break
            try:
                decrypt(nonce(fixed, decryptor.count), room[at + 4 : stop], room[at : at + 4], room[at + 4 : tag])
            except InvalidTag:
                packets.append(OpenedPacket(_BROKEN, 0, 0, at, stop))
                break
            decryptor.count = (decryptor.count + 1) & MASK
            packets.append(packet := self._parse(at, length))
            at = stop
            if packet.kind == _OTHER:
                break
        return packets

    def _pass(self, client: PacketReceiver, packets: list[OpenedPacket]) -> None:
        """Deliver packets to their channels; data for one channel in a row is one call. Raises DisconnectError."""
        room, channels = self._room, client.channels
        if packets[0].kind == _RUN:
            run, *packets = packets
            if not self._pass_run(client, run):
                packets[:0] = self._apart(run)
            if client.is_closed:
                return
        pieces: list[memoryview] = []
        channel: ReceivingChannel | None = None  # whose pieces these are
        number, window, total, done = -1, 0, 0, 0
        for kind, to, size, at, stop in packets:
            if kind == MSG_CHANNEL_DATA and to == number and size <= window and len(pieces) < PIECES:
                pieces.append(room[at + _DATA : at + _DATA + size])
                window -= size
                total += size
                done += 1
                continue
            if channel is not None:
                channel.deliver(pieces, total)
                number, channel = -1, None
                if client.is_closed:
                    return
            target = channels.get(to)
            if kind == MSG_CHANNEL_DATA and target is not None and size <= (window := target.receivable):
                pieces = [room[at + _DATA : at + _DATA + size]]
                number, channel, total = to, target, size
                window -= size
                done += 1
            elif kind == MSG_CHANNEL_WINDOW_ADJUST and target is not None and target.grant(size):
                done += 1
            else:
                client.count_packets(done)
                done = 0
                if kind == _TOO_LONG:
                    raise asyncssh.ProtocolError("Max packet size exceeded")
                text = bytes(room[at + 4 : stop - TAG])
                if kind == _BROKEN or not text:
                    raise asyncssh.MACError("MAC verification failed")
                client.dispatch_payload(text[1 : -text[0]])
            if client.is_closed:
                return
        if channel is not None:
            channel.deliver(pieces, total)
        client.count_packets(done)

    def _pass_run(self, client: PacketReceiver, run: OpenedPacket) -> bool:
        """Deliver a run to its channel in one call; False: there is no such channel, or its window is too small."""
        _, number, size, _, stop = run
        stride = 4 + self._layout.length + TAG
        count = stop // stride
        channel = client.channels.get(number)
        if channel is None or count > PIECES or count * size > channel.receivable:
            return False
        if size != self._size:
            self._size = size
            self._data = tuple(plain[_HEAD.size : _HEAD.size + size] for plain in self._layout.plain)
        channel.deliver(self._data[:count], count * size)
        client.count_packets(count)
        return True

    def _apart(self, run: OpenedPacket) -> Iterator[OpenedPacket]:
        """The packets of a run."""
        stride = 4 + self._layout.length + TAG
        for at in range(0, run.stop, stride):
            yield OpenedPacket(MSG_CHANNEL_DATA, run.channel, run.size, at, at + stride)
