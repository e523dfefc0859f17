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

MOST_WINDOW = (1 << 32) - 1  # RFC 4254 5.2
OPEN = ("open", "eof_pending", "eof")  # in one direction; what is sent to a channel that we have closed is dropped
LEAVING = "closed", "close_pending"  # received, sent: the client has closed, its target has not taken all yet


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
    """A direct-tcpip channel that refuses every request on it and ends on a window that overflows."""

    _starved = False  # the target is not read, as the client's window is used up

    def __init__(self, connection: Any, *args: Any) -> None:
        super().__init__(connection, *args)
        self.fast_path = cast(ChannelConnection, connection).fast_path  # None: asyncssh handles all packets

    @property
    def _connection(self) -> ChannelConnection | None:
        return cast(ChannelConnection | None, self._conn)

    def _process_close(self, _type: int, _id: int, packet: SSHPacket) -> None:
        """The client has closed. What it sent before goes to the target first, as in sshd; only then we close too."""
        pipe, states = self._session, (self._recv_state, self._send_state)
        if not isinstance(pipe, Pipe) or not {*states} <= {*OPEN} or not (self._recv_buf or pipe.has_unsent):
            super()._process_close(_type, _id, packet)
            return
        packet.check_end()
        kept, self._recv_buf = [memoryview(data) for data, _ in self._recv_buf], []
        self._send_buf, self._send_buf_len = [], 0  # it reads no more
        self._recv_state, self._send_state = LEAVING
        pipe.client_closed(kept)

    def close(self) -> None:
        """Close when what waits has been sent, or now if the client has closed."""
        self._leave()
        super().close()

    def _leave(self) -> None:
        """The end of what began with the client's close."""
        if (self._recv_state, self._send_state) == LEAVING:
            self._close_send()
            self._recv_state = "close_pending"

    def abort(self) -> None:
        """Close now. What waits for the client's window or a key exchange is dropped too (not by asyncssh)."""
        connection = self._connection
        if connection is not None and connection._deferred_packets and self._send_chan is not None:
            number = UInt32(self._send_chan)
            connection._deferred_packets = [
                (kind, parts)
                for kind, parts in connection._deferred_packets
                if kind != MSG_CHANNEL_DATA or not parts[0].startswith(number)
            ]
        self._leave()
        if self._send_state == "close_pending":
            self._close_send()
        super().abort()

    def silence(self) -> None:
        """Say nothing more, not even that it is closed: the connection is about to end, with the reason."""
        self._send_state = "closed"
        self._close_send()

    def flush(self) -> None:
        """Send what waits, as the client's window allows. While keys are exchanged it waits here, and not in packets.

        asyncssh would make packets of it that it keeps back: of 64 KiB 256 for a client that takes 256 bytes in one,
        and what the client has coming would look like a flood that it provoked (`WAITING_PACKETS`).
        """
        connection = self._connection
        if self._send_buf and connection is not None and not connection._kex_complete:
            self._pause_resume_writing()
        else:
            super()._flush_send_buf()

    _flush_send_buf = flush

    # ---- the fast path

    def carry(self, frame: ClientWriter, source: socket.socket, most: int) -> ReadResult | None:
        """Send the client what `source` has to say, at most `most` bytes; None: this path is not for it now."""
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
        """The client's window is used up: the target is read again when it has grown."""
        self._starved = True
        if self._session is not None:
            self._session.pause_writing()
        return ReadResult(0)

    def _feed(self) -> None:
        if self._starved:
            self._starved = False
            if self._session is not None:
                self._session.resume_writing()

    def pass_on(self, data: bytes) -> None:
        """Send the client what its target said, on the inherited path. Raises OSError when the channel is closing."""
        if self._connection is not None:
            self._connection.interrupt()
        if (
            self.fast_path is not None and self._send_buf and self._send_state == "open"
        ):  # small pieces together (see `backlog`)
            self._send_buf[-1][0].extend(data)
            self._send_buf_len += len(data)
            self._flush_send_buf()
        else:
            self.write(data)

    @property
    def receivable(self) -> int:
        """Bytes that the client may send now, 0 when it is not for this path to say what becomes of them."""
        return self._recv_window if self._recv_state == "open" and self._send_state in OPEN else 0

    def deliver(self, pieces: Sequence[memoryview], total: int) -> None:
        """Take what the client sent, at most `receivable` bytes. The pieces' memory is somebody else's afterwards."""
        self._recv_window -= total
        if self._recv_paused:
            self._keep(b"".join(pieces))
            return
        if isinstance(self._session, Pipe):
            self._session.send_to_target(pieces, total)
        # behind the data: telling the client wakes it, and on a busy machine it runs before we do again; and not while
        # the target takes no more, or two windows would wait for it
        if self._recv_window < self._init_recv_window / 2 and not self._recv_paused:
            self._refill()

    def _refill(self) -> None:
        if self._send_state in OPEN:
            self.send_packet(MSG_CHANNEL_WINDOW_ADJUST, UInt32(self._init_recv_window - self._recv_window))
            self._recv_window = self._init_recv_window

    def _keep(self, data: bytes) -> None:
        """For when the target takes more; small pieces are put together (see `backlog`)."""
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
        """The target takes more: what was kept for it goes in as few calls as it came in, not one for each packet."""
        while self.fast_path is not None and self._recv_buf and not self._recv_paused and self._session is not None:
            kept, self._recv_buf = self._recv_buf[:PIECES], self._recv_buf[PIECES:]
            pieces = [memoryview(data) for data, _ in kept]
            self._recv_window += (total := sum(map(len, pieces)))  # it was counted when it came
            self.deliver(pieces, total)
        used_up = self._recv_window < self._init_recv_window / 2  # by what was given just before the pause
        if self.fast_path is not None and used_up and not self._recv_paused and self._recv_state == "open":
            self._refill()
        super()._flush_recv_buf(exc)

    def grant(self, growth: int) -> bool:
        """The client takes more; False: asyncssh is to say what is wrong with that."""
        if self._recv_state not in OPEN or self._send_window + growth > MOST_WINDOW:
            return False
        self._send_window += growth
        if self._send_buf or self._send_paused:
            self._flush_send_buf()
        self._feed()
        return True

    # ---- the inherited path

    def _process_request(self, _type: int, _id: int, packet: SSHPacket) -> None:
        name = packet.get_string()
        want_reply = packet.get_boolean()
        connection = self._connection
        if name != b"keepalive@openssh.com" and connection is not None:
            connection.session_handler.refused("channel-request", name)
        if want_reply and self._send_chan is not None:
            self.send_packet(MSG_CHANNEL_FAILURE)

    def _process_window_adjust(self, _type: int, _id: int, packet: SSHPacket) -> None:
        if self._send_window + int.from_bytes(packet.get_full_payload()[5:9], "big") > MOST_WINDOW:
            raise asyncssh.ProtocolError("window overflow")
        super()._process_window_adjust(_type, _id, packet)
        self._feed()

    def _process_extended_data(self, _type: int, _id: int, packet: SSHPacket) -> None:
        raise asyncssh.ProtocolError("extended data on a direct-tcpip channel")

    _packet_handlers = {  # noqa: RUF012 - asyncssh's own table, extended
        **SSHTCPChannel._packet_handlers,
        MSG_CHANNEL_CLOSE: _process_close,
        MSG_CHANNEL_REQUEST: _process_request,
        MSG_CHANNEL_WINDOW_ADJUST: _process_window_adjust,
        MSG_CHANNEL_EXTENDED_DATA: _process_extended_data,
    }
