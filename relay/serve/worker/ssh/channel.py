"""One direct-tcpip channel (RFC 4254 5): data, window adjusts, EOF and close, and no request.

asyncssh handles what is not data in the open state. Data takes the fast path (see `fastpath`), with the same effect on
the windows.
"""

import socket
from collections.abc import Sequence
from typing import Any, Protocol, cast

import asyncssh
from asyncssh.channel import SSHTCPChannel
from asyncssh.constants import (
    MSG_CHANNEL_CLOSE,
    MSG_CHANNEL_DATA,
    MSG_CHANNEL_EXTENDED_DATA,
    MSG_CHANNEL_FAILURE,
    MSG_CHANNEL_REQUEST,
    MSG_CHANNEL_WINDOW_ADJUST,
)
from asyncssh.packet import SSHPacket, UInt32

from relay.serve.worker.forward.pipe import Pipe
from relay.serve.worker.forward.write_buffer import PIECE, PIECES
from relay.serve.worker.ssh.fastpath.fast_path import FastPath
from relay.serve.worker.ssh.fastpath.to_client import MIN_PACKET, ClientWriter, ReadResult
from relay.serve.worker.ssh.handlers import SessionHandler

MAX_WINDOW = (1 << 32) - 1  # RFC 4254 5.2
OPEN = ("open", "eof_pending", "eof")  # states of one direction; data for a channel that we have closed is dropped
# states (received, sent) when the client has closed and its target has not accepted all data
CLIENT_CLOSED = "closed", "close_pending"


class ChannelConnection(Protocol):
    """What a channel needs of its connection."""

    fast_path: FastPath | None
    _kex_complete: bool
    _deferred_packets: list[tuple[int, tuple[bytes, ...]]]

    @property
    def session_handler(self) -> SessionHandler:
        """Records refused requests."""

    def interrupt(self) -> None:
        """A target has sent data."""


class DirectTcpipChannel(SSHTCPChannel[bytes]):
    """A direct-tcpip channel that refuses every request, and ends the connection when its window overflows."""

    _starved = False  # the target is not read, as the client's window is used up

    def __init__(self, connection: Any, *args: Any) -> None:
        super().__init__(connection, *args)
        self.fast_path = cast(ChannelConnection, connection).fast_path  # None: asyncssh handles all packets

    @property
    def _connection(self) -> ChannelConnection | None:
        return cast(ChannelConnection | None, self._conn)

    def _process_close(self, _type: int, _id: int, packet: SSHPacket) -> None:
        """The client has closed. Its data goes to the target first, as in sshd; only then we close too."""
        pipe, states = self._session, (self._recv_state, self._send_state)
        if not isinstance(pipe, Pipe) or not {*states} <= {*OPEN} or not (self._recv_buf or pipe.has_unsent):
            super()._process_close(_type, _id, packet)
            return
        packet.check_end()
        kept, self._recv_buf = [memoryview(data) for data, _ in self._recv_buf], []
        self._send_buf, self._send_buf_len = [], 0  # it reads no more
        self._recv_state, self._send_state = CLIENT_CLOSED
        pipe.client_closed(kept)

    def close(self) -> None:
        """Close when all data is sent, or now if the client has closed."""
        self._finish_client_close()
        super().close()

    def _finish_client_close(self) -> None:
        """Answer the client's close, if it was put off."""
        if (self._recv_state, self._send_state) == CLIENT_CLOSED:
            self._close_send()
            self._recv_state = "close_pending"

    def abort(self) -> None:
        """Close now, and drop unsent data; asyncssh would keep what waits for a key exchange."""
        connection = self._connection
        if connection is not None and connection._deferred_packets and self._send_chan is not None:
            number = UInt32(self._send_chan)
            connection._deferred_packets = [
                (kind, parts)
                for kind, parts in connection._deferred_packets
                if kind != MSG_CHANNEL_DATA or not parts[0].startswith(number)
            ]
        self._finish_client_close()
        if self._send_state == "close_pending":
            self._close_send()
        super().abort()

    def silence(self) -> None:
        """Send nothing more, not even the close: the connection ends next, with the reason."""
        self._send_state = "closed"
        self._close_send()

    def flush(self) -> None:
        """Send unsent data, as the client's window allows. During a key exchange it stays here.

        asyncssh would defer packets of it: 64 KiB are 256 packets for a client with packets of 256 bytes, and would
        look like a flood that the client provoked (`MAX_DEFERRED` in `connection`).
        """
        connection = self._connection
        if self._send_buf and connection is not None and not connection._kex_complete:
            self._pause_resume_writing()
        else:
            super()._flush_send_buf()

    _flush_send_buf = flush

    # ---- the fast path

    def carry(self, frame: ClientWriter, source: socket.socket, most: int) -> ReadResult | None:
        """Send the client at most `most` bytes of `source`; None: asyncssh must send."""
        connection, channel, fast_path = self._connection, self._send_chan, self.fast_path
        ready = self._send_state == "open" and not self._send_buf and self._send_pktsize >= MIN_PACKET
        if fast_path is None or not ready or connection is None or channel is None:
            return None
        connection.interrupt()
        if not self._send_window:
            return self._starve()
        carried = fast_path.carry(frame, source, channel, min(most, self._send_window), self._send_pktsize)
        if carried is not None:
            self._send_window -= carried.amount
        return carried

    def _starve(self) -> ReadResult:
        """The client's window is used up: the target is read again when it grows."""
        self._starved = True
        if self._session is not None:
            self._session.pause_writing()
        return ReadResult(0)

    def _end_starvation(self) -> None:
        if self._starved:
            self._starved = False
            if self._session is not None:
                self._session.resume_writing()

    def pass_on(self, data: bytes) -> None:
        """Send data of the target by asyncssh. Raises OSError when the channel is closing."""
        if self._connection is not None:
            self._connection.interrupt()
        # small pieces are joined, as in `write_buffer`
        if self.fast_path is not None and self._send_buf and self._send_state == "open":
            self._send_buf[-1][0].extend(data)
            self._send_buf_len += len(data)
            self._flush_send_buf()
        else:
            self.write(data)

    @property
    def receivable(self) -> int:
        """Bytes that the client may send now, 0 when asyncssh must handle them."""
        return self._recv_window if self._recv_state == "open" and self._send_state in OPEN else 0

    def deliver(self, pieces: Sequence[memoryview], total: int) -> None:
        """Accept data of the client, at most `receivable` bytes. The memory of the pieces is reused afterwards."""
        self._recv_window -= total
        if self._recv_paused:
            self._keep(b"".join(pieces))
            return
        if isinstance(self._session, Pipe):
            self._session.send_to_target(pieces, total)
        # after the data: the adjust wakes the client, which may run before we do again on a busy machine; and not while
        # the target is full, or two windows would wait for it
        if self._recv_window < self._init_recv_window / 2 and not self._recv_paused:
            self._refill()

    def _refill(self) -> None:
        if self._send_state in OPEN:
            self.send_packet(MSG_CHANNEL_WINDOW_ADJUST, UInt32(self._init_recv_window - self._recv_window))
            self._recv_window = self._init_recv_window

    def _keep(self, data: bytes) -> None:
        """Keep data until the target accepts more; small pieces are joined, as in `write_buffer`."""
        if self._recv_buf and len(self._recv_buf[-1][0]) < PIECE:
            cast(bytearray, self._recv_buf[-1][0]).extend(data)
        else:
            self._recv_buf.append((cast(bytes, bytearray(data)), None))

    def _accept_data(self, data: bytes, datatype: int | None = None) -> None:
        if self.fast_path is not None and data and self._recv_paused and self._send_state in OPEN:
            self._recv_window -= len(data)
            self._keep(data)
        else:
            super()._accept_data(data, datatype)

    def _flush_recv_buf(self, exc: Exception | None = None) -> None:
        """The target accepts more: deliver what was kept in few calls, not one for each packet."""
        while self.fast_path is not None and self._recv_buf and not self._recv_paused and self._session is not None:
            kept, self._recv_buf = self._recv_buf[:PIECES], self._recv_buf[PIECES:]
            pieces = [memoryview(data) for data, _ in kept]
            self._recv_window += (total := sum(map(len, pieces)))  # it was counted when it arrived
            self.deliver(pieces, total)
        used_up = self._recv_window < self._init_recv_window / 2  # by data delivered just before the pause
        if self.fast_path is not None and used_up and not self._recv_paused and self._recv_state == "open":
            self._refill()
        super()._flush_recv_buf(exc)

    def grant(self, growth: int) -> bool:
        """The client enlarges its window; False: asyncssh must handle it."""
        if self._recv_state not in OPEN or self._send_window + growth > MAX_WINDOW:
            return False
        self._send_window += growth
        if self._send_buf or self._send_paused:
            self._flush_send_buf()
        self._end_starvation()
        return True

    # ---- packets that asyncssh hands over

    def _process_request(self, _type: int, _id: int, packet: SSHPacket) -> None:
        name = packet.get_string()
        want_reply = packet.get_boolean()
        connection = self._connection
        if name != b"keepalive@openssh.com" and connection is not None:
            connection.session_handler.refused("channel-request", name)
        if want_reply and self._send_chan is not None:
            self.send_packet(MSG_CHANNEL_FAILURE)

    def _process_window_adjust(self, _type: int, _id: int, packet: SSHPacket) -> None:
        if self._send_window + int.from_bytes(packet.get_full_payload()[5:9], "big") > MAX_WINDOW:
            raise asyncssh.ProtocolError("window overflow")
        super()._process_window_adjust(_type, _id, packet)
        self._end_starvation()

    def _process_extended_data(self, _type: int, _id: int, packet: SSHPacket) -> None:
        raise asyncssh.ProtocolError("extended data on a direct-tcpip channel")

    _packet_handlers = {  # noqa: RUF012 - asyncssh's own table, extended
        **SSHTCPChannel._packet_handlers,
        MSG_CHANNEL_CLOSE: _process_close,
        MSG_CHANNEL_REQUEST: _process_request,
        MSG_CHANNEL_WINDOW_ADJUST: _process_window_adjust,
        MSG_CHANNEL_EXTENDED_DATA: _process_extended_data,
    }
