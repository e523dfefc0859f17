"""How do a client's packets become writes to targets? What one read gives is opened where it lies, and sent from there.

Only the plain case is dealt with here: data and window adjusts of open channels of a logged-in client whose packets are
sealed by AES-GCM. Every other packet goes to asyncssh, alone and in its turn, as if nothing else had happened to it;
and so does all that is read while one of those is still being worked on.

Uploads are packets of one length, one behind the other: what a read begins with is opened as such a run, whose views
are made beforehand, as long as each packet's head is the same.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from asyncssh.constants import MSG_CHANNEL_DATA, MSG_CHANNEL_WINDOW_ADJUST
from cryptography.exceptions import InvalidTag

from relay.serve.worker.forward.write_buffer import PIECES
from relay.serve.worker.ssh.fastpath.aes_gcm import MASK, TAG, GcmDecryptor, nonce, numbered

if TYPE_CHECKING:
    from relay.serve.worker.ssh.channel import DirectTcpipChannel
    from relay.serve.worker.ssh.connection import Connection

MOST = 1 << 19  # bytes read of one client at once, at most
_LONGEST = 1 << 18  # length of a packet as asyncssh takes it
_BEFORE = 4 + _LONGEST + TAG  # so much may be left of the last read: the beginning of one packet
_LENGTH = struct.Struct(">I")
_HEAD = struct.Struct(">BBII")  # padding length, type, channel, and the length of the data or the window's growth
_DATA = 4 + _HEAD.size  # where the data of a packet begins
_PADDING = 4  # at least (RFC 4253 6)
_PLAIN = (MSG_CHANNEL_DATA, MSG_CHANNEL_WINDOW_ADJUST)
_OTHER = 0  # a type for all packets that are not plain
_BROKEN = -2  # and one for what does not verify
_RUN = -1  # and one for data packets that are alike, from the first byte of what there is
_LONG = 1 << 12  # length of the packets of a run, at least; NEWKEYS is shorter, so all of a run has the same keys


class OpenedPacket(NamedTuple):
    """One that was opened, or a run of them."""

    kind: int
    channel: int
    size: int  # of the data, or the growth of the window
    at: int
    stop: int


@dataclass(frozen=True, slots=True)
class IncomingLayout:
    """Where packets of one length lie that begin with the memory, and what of each is what."""

    length: int
    lengths: tuple[memoryview, ...]
    sealed: tuple[memoryview, ...]
    plain: tuple[memoryview, ...]
    heads: tuple[memoryview, ...]


class ClientReader:
    """The memory of one worker for what comes from clients. Between a read and its end nobody else has a turn."""

    def __init__(self) -> None:
        self._room = memoryview(bytearray(_BEFORE + MOST))
        self._at = 0  # where the last read was put
        self._last = 0  # the length of the first packet of the read before
        self._layout = IncomingLayout(0, (), (), (), ())
        self._size = 0  # of the data in each packet of the last run
        self._data: tuple[memoryview, ...] = ()

    def room(self, size: int, before: int = 0) -> memoryview:
        """Where to put what is read now, at most `size` bytes, behind `before` bytes of the read before."""
        self._at = min(before, _BEFORE)
        return self._room[self._at : self._at + size]

    def copy(self, count: int) -> bytes:
        """The `count` bytes that were read."""
        return bytes(self._room[self._at : self._at + count])

    def take(self, client: "Connection", unseal: GcmDecryptor, count: int) -> None:
        """Deal with the `count` bytes that were read of a client in the plain state."""
        rest = client.take_rest()
        at, end = 0, len(rest) + count
        if rest:
            self._room[: len(rest)] = rest
        plain: GcmDecryptor | None = unseal
        packets = self._run(unseal, end) if end > _LONG else []
        while plain is not None and (packets or (packets := self._unseal(plain, at, end))):
            self._pass(client, plain, packets)
            at = packets[-1][-1]
            if at == end:
                return
            packets = []
            plain = client.plain_intake
        client.put_rest(bytes(self._room[at:end]))

    def _run(self, unseal: GcmDecryptor, end: int) -> list[OpenedPacket]:
        """Decrypt the packets at the beginning that are data for one channel, all of the first one's length."""
        (length,) = _LENGTH.unpack_from(self._room)
        layout = self._layout
        if length != layout.length:
            if length == self._last and _LONG <= length <= _LONGEST:
                self._layout, self._size = self._lay(length), 0  # for the next time
            self._last = length
            return []
        stride = 4 + length + TAG
        lengths = layout.lengths[: end // stride]
        if len(lengths) < 2 or b"".join(lengths) != bytes(lengths[0]) * len(lengths):
            return []
        decrypt, numbers = unseal.cipher().decrypt_into, numbered(unseal.fixed, unseal.count, len(lengths))
        opened = map(decrypt, numbers, layout.sealed, lengths, layout.plain)
        count, packets = 0, list[OpenedPacket]()
        first = OpenedPacket(_OTHER, 0, 0, 0, 0)
        head = b""
        try:
            for _, found in zip(opened, map(bytes, layout.heads), strict=False):
                unseal.count = (unseal.count + 1) & MASK
                if found != head:
                    packet = self._parse(count * stride, length)
                    if count or packet.kind != MSG_CHANNEL_DATA:
                        packets.append(packet)
                        break
                    first, head = packet, found
                count += 1
        except InvalidTag:
            packets.append(self._refuse(unseal, count * stride, (count + 1) * stride))
        if count:
            packets.insert(0, first._replace(kind=_RUN, stop=count * stride))
        return packets

    def _lay(self, length: int) -> IncomingLayout:
        whole, stride = self._room, 4 + length + TAG
        starts = range(0, (_BEFORE + MOST) // stride * stride, stride)
        return IncomingLayout(
            length,
            lengths=tuple(whole[at : at + 4] for at in starts),
            sealed=tuple(whole[at + 4 : at + stride] for at in starts),
            plain=tuple(whole[at + 4 : at + 4 + length] for at in starts),
            heads=tuple(whole[at + 4 : at + _DATA] for at in starts),
        )

    def _parse(self, at: int, length: int) -> OpenedPacket:
        """What the packet is that was opened there."""
        padding, kind, channel, size = _HEAD.unpack_from(self._room, at + 4)
        over = length - _HEAD.size - padding  # bytes behind the head
        if padding < _PADDING or not size or kind not in _PLAIN or over != (size if kind == MSG_CHANNEL_DATA else 0):
            kind = _OTHER
        return OpenedPacket(kind, channel, size, at, at + 4 + length + TAG)

    def _refuse(self, unseal: GcmDecryptor, at: int, stop: int) -> OpenedPacket:
        """It cannot be opened, and asyncssh says why."""
        unseal.refused = True
        return OpenedPacket(_BROKEN, 0, 0, at, stop)

    def _unseal(self, unseal: GcmDecryptor, at: int, end: int) -> list[OpenedPacket]:
        """Decrypt the whole packets that lie there, up to the first one that is not plain: it may change the keys."""
        room, packets = self._room, list[OpenedPacket]()
        decrypt, fixed = unseal.cipher().decrypt_into, unseal.fixed
        while end - at >= 4:
            (length,) = _LENGTH.unpack_from(room, at)
            tag = at + 4 + length
            stop = tag + TAG
            if not _HEAD.size + _PADDING <= length <= _LONGEST:
                packets.append(self._refuse(unseal, at, end))
                break
            if stop > end:
                break
            try:
                decrypt(nonce(fixed, unseal.count), room[at + 4 : stop], room[at : at + 4], room[at + 4 : tag])
            except InvalidTag:
                packets.append(self._refuse(unseal, at, stop))
                break
            unseal.count = (unseal.count + 1) & MASK
            packets.append(packet := self._parse(at, length))
            at = stop
            if packet.kind == _OTHER:
                break
        return packets

    def _pass(self, client: "Connection", unseal: GcmDecryptor, packets: list[OpenedPacket]) -> None:
        """Give them to their channels; those for one target that lie one behind the other are one call."""
        room, channels = self._room, client.plain_channels
        if packets[0].kind == _RUN:
            run, *packets = packets
            if not self._pass_run(client, run):
                packets[:0] = self._apart(run)
            if client.gone:
                return
        pieces: list[memoryview] = []
        channel: DirectTcpipChannel | None = None  # whose pieces these are
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
                if client.gone:
                    return
            found = channels.get(to)
            if kind == MSG_CHANNEL_DATA and found is not None and size <= (window := found.receivable):
                pieces = [room[at + _DATA : at + _DATA + size]]
                number, channel, total = to, found, size
                window -= size
                done += 1
            elif kind == MSG_CHANNEL_WINDOW_ADJUST and found is not None and found.grant(size):
                done += 1
            else:
                unseal.opened = bytes(room[at + 4 : stop - TAG]) if kind != _BROKEN else None
                client.hand_over(bytes(room[at:stop]), done)
                done = 0
            if client.gone:
                return
        if channel is not None:
            channel.deliver(pieces, total)
        client.count_packets(done)

    def _pass_run(self, client: "Connection", run: OpenedPacket) -> bool:
        """Give a whole run to its channel in one call; False: it has no such channel, or not the window."""
        _, number, size, _, stop = run
        stride = 4 + self._layout.length + TAG
        count = stop // stride
        channel = client.plain_channels.get(number)
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
