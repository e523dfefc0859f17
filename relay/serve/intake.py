"""How do a client's packets become writes to targets? What one read gives is opened where it lies, and sent from there.

Only the plain case is dealt with here: data and window adjusts of open channels of a logged-in client whose packets are
sealed by AES-GCM. Every other packet goes to asyncssh, alone and in its turn, as if nothing else had happened to it;
and so does all that is read while one of those is still being worked on.
"""

import struct
from typing import TYPE_CHECKING

from asyncssh.constants import MSG_CHANNEL_DATA, MSG_CHANNEL_WINDOW_ADJUST
from cryptography.exceptions import InvalidTag

from relay.serve.backlog import PIECES
from relay.serve.gcm import MASK, TAG, Unseal, nonce

if TYPE_CHECKING:
    from relay.serve.channel import Channel
    from relay.serve.connection import Connection

MOST = 1 << 19  # bytes read of one client at once, at most
_LONGEST = 1 << 18  # length of a packet as asyncssh takes it
_BEFORE = 4 + _LONGEST + TAG  # so much may be left of the last read: the beginning of one packet
_LENGTH = struct.Struct(">I")
_HEAD = struct.Struct(">BBII")  # padding length, type, channel, and the length of the data or the window's growth
_DATA = 4 + _HEAD.size  # where the data of a packet begins
_PADDING = 4  # at least (RFC 4253 6)
_PLAIN = (MSG_CHANNEL_DATA, MSG_CHANNEL_WINDOW_ADJUST)
_OTHER = 0  # a type for all packets that are not plain

Packet = tuple[int, int, int, int, int]  # type, channel, length of the data or growth of the window, begin, end


class Intake:
    """The memory of one worker for what comes from clients. Between a read and its end nobody else has a turn."""

    def __init__(self) -> None:
        self._room = memoryview(bytearray(_BEFORE + MOST))

    def room(self, size: int) -> memoryview:
        """Where to put what is read now, at most `size` bytes."""
        return self._room[_BEFORE : _BEFORE + size]

    def copy(self, count: int) -> bytes:
        """The `count` bytes that were read."""
        return bytes(self._room[_BEFORE : _BEFORE + count])

    def take(self, client: "Connection", unseal: Unseal, count: int) -> None:
        """Deal with the `count` bytes that were read of a client in the plain state."""
        rest = client.take_rest()
        at, end = _BEFORE - len(rest), _BEFORE + count
        if rest:
            self._room[at:_BEFORE] = rest
        plain: Unseal | None = unseal
        while plain is not None and (packets := self._unseal(plain, at, end)):
            self._pass(client, plain, packets)
            at = packets[-1][-1]
            if at == end:
                return
            plain = client.plain_intake
        client.put_rest(bytes(self._room[at:end]))

    def _unseal(self, unseal: Unseal, at: int, end: int) -> list[Packet]:
        """Decrypt the whole packets that lie there, up to the first one that is not plain: it may change the keys."""
        room, packets = self._room, []
        decrypt, fixed, number = unseal.cipher().decrypt_into, unseal.fixed, unseal.count
        while end - at >= 4:
            (length,) = _LENGTH.unpack_from(room, at)
            tag = at + 4 + length
            stop = tag + TAG
            if not _HEAD.size + _PADDING <= length <= _LONGEST:
                unseal.refused = True  # asyncssh says why
                packets.append((_OTHER, 0, 0, at, end))
                break
            if stop > end:
                break
            try:
                decrypt(nonce(fixed, number), room[at + 4 : stop], room[at : at + 4], room[at + 4 : tag])
            except InvalidTag:
                unseal.refused = True
                packets.append((_OTHER, 0, 0, at, stop))
                break
            number = (number + 1) & MASK
            padding, kind, channel, size = _HEAD.unpack_from(room, at + 4)
            over = length - _HEAD.size - padding  # bytes behind the head
            if padding < _PADDING or not size or over != (size if kind == MSG_CHANNEL_DATA else 0):
                kind = _OTHER
            packets.append((kind, channel, size, at, stop))
            at = stop
            if kind not in _PLAIN:
                break
        unseal.count = number
        return packets

    def _pass(self, client: "Connection", unseal: Unseal, packets: list[Packet]) -> None:
        """Give them to their channels; those for one target that lie one behind the other are one call."""
        room, channels = self._room, client.plain_channels
        pieces: list[memoryview] = []
        channel: Channel | None = None  # whose pieces these are
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
                unseal.opened = bytes(room[at + 4 : stop - TAG])
                client.hand_over(bytes(room[at:stop]), done)
                done = 0
            if client.gone:
                return
        if channel is not None:
            channel.deliver(pieces, total)
        client.count_packets(done)
