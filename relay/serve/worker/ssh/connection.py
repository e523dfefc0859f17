"""Where asyncssh is stricter made: one SSH connection, with every gap of the library that matters to a relay closed.

What is decided here is protocol only (RFC 4251-4254): which messages are accepted, how much may wait, how long an
exchange may take, how a connection ends. Who gets in and what may be reached is asked of `owner`
(serve.worker.session).
The private members of asyncssh that this touches are listed in `contract`; one version is pinned in pyproject.toml.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, cast

import asyncssh
from asyncssh.constants import (
    DISC_PROTOCOL_ERROR,
    MSG_CHANNEL_OPEN,
    MSG_GLOBAL_REQUEST,
    MSG_IGNORE,
    MSG_REQUEST_FAILURE,
    MSG_REQUEST_SUCCESS,
    OPEN_ADMINISTRATIVELY_PROHIBITED,
    OPEN_RESOURCE_SHORTAGE,
    OPEN_UNKNOWN_CHANNEL_TYPE,
)
from asyncssh.encryption import Encryption
from asyncssh.packet import PacketDecodeError, SSHPacket

from relay.core.settings import Limits
from relay.serve.worker.forward.pipe import Pipe
from relay.serve.worker.forward.read_pacing import PacedSocket
from relay.serve.worker.ssh import memory, window_budget
from relay.serve.worker.ssh.channel import DirectTcpipChannel
from relay.serve.worker.ssh.fastpath.aes_gcm import GcmDecryptor
from relay.serve.worker.ssh.fastpath.from_client import ClientReader
from relay.serve.worker.ssh.fastpath.to_client import MOST as FRAME
from relay.serve.worker.ssh.fastpath.to_client import ClientWriter, ReadResult
from relay.serve.worker.ssh.key_exchange import KeyExchangeLayer
from relay.serve.worker.ssh.preauth import AuthHandler

WAITING_INPUT = (1 << 18) + 64  # bytes kept while a packet is being worked on: the longest one; more stay in the kernel
WAITING_OUTPUT = 1 << 20  # bytes towards a client that does not read before we stop reading from it
# packets kept back during a key exchange; a client that provokes more is disconnected. Half of them may be what is left
# of the frame in which the exchange became due, in packets of 256 bytes
WAITING_PACKETS = 2048
LINGER_SECONDS = 2.0  # how long the reason of a disconnect may take to arrive
CHANNEL_PACKET = 1 << 15
HEADS = 1 << 10  # bytes of heads and padding in one frame, at most
LEAST_PACKET = 256  # bytes a client must take in one packet: with 1, one read of a target would be 65,536 packets
LOGIN_READ = 1 << 11  # bytes of a stranger at once: a flood of small packets costs as much as a key exchange then
READ = 1 << 16  # bytes of a client on the inherited path, which moves all that is left for each packet

KNOWN_CHANNELS = frozenset(
    b"session x11 auth-agent@openssh.com forwarded-tcpip direct-streamlocal@openssh.com tun@openssh.com"
    b" forwarded-streamlocal@openssh.com".split()
)
QUIET_REQUESTS = frozenset([b"no-more-sessions@openssh.com"])  # every OpenSSH client sends it; it narrows, so: nothing


class SessionHandler(AuthHandler, Protocol):
    """What a connection asks of its adapter."""

    forwards: int  # open or being opened

    def lend(self) -> int:
        """The window of one more forward; 0: there is no memory left for it."""

    def forward(self, host: bytes, port: int, lent: int) -> Any:
        """A coroutine that gives the session of an allowed forward or raises ChannelOpenError."""

    def refused(self, kind: str, name: bytes) -> str:
        """Record a refused channel or request; the text for the person."""

    def may_open(self) -> bool:
        """Whether one more forward is within the limits of a connection."""

    def bug(self, error: BaseException | None) -> None:
        """An exception of ours ended the connection."""


class _DelayedClose(asyncio.Protocol):
    """Keeps the socket until the client has read why it was disconnected; what it still sends is dropped.

    Closing at once would reset the connection, and the reason would be lost (measured: 3 of 3 times).
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._timer = asyncio.get_running_loop().call_later(LINGER_SECONDS, transport.abort)

    def eof_received(self) -> bool:
        """The client has understood."""
        self._transport.close()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._timer.cancel()


class Connection(KeyExchangeLayer, asyncio.BufferedProtocol):
    """One client's SSH connection in a worker."""

    ended = False
    _unheard = 0
    _heard = False
    _beat: asyncio.TimerHandle | None = None
    _full = False  # the client's TCP connection takes no more
    _choked = False  # we do not read from the client
    _farewell = False
    _proofs = 4  # of host keys that one client may ask for

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: Any,
        owner: asyncssh.SSHServer,
        limits: Limits,
        *,
        intake: ClientReader,
        reader: PacedSocket,
        fast: bool,
    ) -> None:
        """`reader` has the socket that the transport will have; `intake` is the worker's memory to read to.

        `fast` False: everything goes the inherited path (see `contract`).
        """
        self.fast = fast
        super().__init__(loop, options)
        self._intake = intake
        self._reader = reader
        self._protocol_factory = lambda: owner
        self.pipes: set[Pipe] = set()
        self._limits = limits
        if not hasattr(type(self), "_options"):  # the first one
            memory.intern_defaults(self, options)

    @property
    def owner(self) -> SessionHandler:
        """The adapter of this connection."""
        return cast(SessionHandler, self._owner)

    def begin_session(self, session: asyncssh.SSHServer) -> None:
        """A key is proven: from now on the session is asked, and no longer the authentication."""
        self._owner = session

    # ---- what is read

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes of the client go: memory of the worker, as nothing stays in it."""
        if not self._auth_complete:
            return self._intake.room(LOGIN_READ)
        if self.unseal is None:
            return self._intake.room(READ)
        return self._intake.room(self._reader.share, len(self._packet) + len(self._inpbuf))

    def buffer_updated(self, count: int) -> None:
        """Bytes of the client."""
        self._bytes_in += count
        if not self._auth_complete:
            self.data_received(self._intake.copy(count))
            return
        self._heard = True
        self._reader.note(count)
        unseal = self.plain_intake
        if unseal is None:
            self.data_received(self._intake.copy(count))
        else:
            try:
                self._intake.take(self, unseal, count)
            except asyncssh.DisconnectError as error:  # as asyncssh does with its own
                self._send_disconnect(error.code, error.reason, error.lang)
                self._force_close(error)
            except Exception:
                self.internal_error()
        if len(self._inpbuf) > WAITING_INPUT or (
            self._transport is not None and self._transport.get_write_buffer_size() > WAITING_OUTPUT
        ):
            self.choke()

    # ---- the fast path: what intake and channels ask

    @property
    def plain_intake(self) -> GcmDecryptor | None:
        """What opens the client's packets while they may be dealt with outside of asyncssh; None while they may not."""
        if self.unseal is None:
            return None
        handler = self._recv_handler
        between = handler in (self._recv_pkthdr, self._recv_packet)
        plain = between and self._auth_complete and self._decompressor is None and self._transport is not None
        return self.unseal if plain and self._recv_encryption is cast(Encryption, self.unseal) else None

    @property
    def plain_channels(self) -> Mapping[int, DirectTcpipChannel]:
        """By the relay's number: there are no other ones than direct-tcpip."""
        return cast(Mapping[int, DirectTcpipChannel], self._channels)

    @property
    def gone(self) -> bool:
        """Nothing more is to be done for this client."""
        return self._transport is None

    def take_rest(self) -> bytes:
        """The beginning of a packet that came before, also where asyncssh has begun to read it."""
        rest, self._packet, self._inpbuf = self._packet + self._inpbuf, b"", b""
        self._recv_handler = self._recv_pkthdr
        return rest

    def put_rest(self, rest: bytes) -> None:
        """What is left of a read: the beginning of a packet, or all that is no longer in the plain state."""
        if self.plain_intake is not None:
            self._inpbuf = rest
        elif not self.gone:
            super().data_received(rest)

    def hand_over(self, packet: bytes, before: int) -> None:
        """Let asyncssh deal with one packet, which `before` plain ones came before."""
        self.count_packets(before)
        self._inpbuf = packet
        self._recv_data()

    def count_packets(self, count: int) -> None:
        """So many plain packets have come."""
        if count:
            self._recv_seq = (self._recv_seq + count) & 0xFFFFFFFF
            self._auth_final = True  # no request to log in is heeded after that (RFC 4252 5.3)

    def sends_plain(self, count: int) -> bool:
        """Whether so many bytes may be sealed outside of asyncssh now: no key exchange is under way, or due."""
        return (
            self._seal is not None
            and self._send_encryption is cast(Encryption, self._seal)
            and self._kex_complete
            and self._auth_complete
            and self._compressor is None
            and self._transport is not None
            and self._rekey_bytes_sent + count + HEADS < self._rekey_bytes
            and not (self._rekey_seconds and time.monotonic() >= self._rekey_time)
        )

    def interrupt(self) -> None:
        """A target has spoken: the client may have waited for that."""
        self._reader.interrupt()

    def carry(
        self, frame: ClientWriter, source: socket.socket, channel: int, most: int, packet: int
    ) -> ReadResult | None:
        """Send the client what `source` has to say, at most `most` bytes, as long as both go on without waiting.

        None: nothing was read, as the connection is not in the plain state.
        """
        seal, transport = self._seal, self._transport
        if not self.sends_plain(most) or seal is None or transport is None:
            return None
        waits = transport.get_write_buffer_size()
        send, total = self._reader.sock.send, 0
        while total < most:
            asked = min(most - total, FRAME)
            try:
                count = frame.read(source, asked, packet)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                return ReadResult(total, error=error)
            if not count:
                return ReadResult(total, over=True)
            total += count
            wire, packets, length = frame.seal(seal, channel, count)
            self._send_seq = (self._send_seq + packets) & 0xFFFFFFFF
            self._rekey_bytes_sent += length
            try:
                sent = 0 if waits else send(wire)
            except OSError:  # it is full; or gone, as the transport is about to learn
                sent = 0
            if sent < len(wire):
                transport.write(bytes(wire[sent:]))
                break
            if count < asked:
                break
        return ReadResult(total)

    # ---- one channel type (RFC 4254 5.1) and two global requests

    def _process_channel_open(self, _type: int, _id: int, packet: SSHPacket) -> None:
        kind = packet.get_string()
        number, window, size = packet.get_uint32(), packet.get_uint32(), packet.get_uint32()
        if kind != b"direct-tcpip":
            text = self.owner.refused("channel", kind)
            known = kind in KNOWN_CHANNELS
            self.send_channel_open_failure(
                number, OPEN_ADMINISTRATIVELY_PROHIBITED if known else OPEN_UNKNOWN_CHANNEL_TYPE, text, ""
            )
            return
        host, port = packet.get_string(), packet.get_uint32()
        packet.get_string(), packet.get_uint32()  # the originator: attacker's text, of no use to anybody
        packet.check_end()
        if self._transport is None:
            return  # behind a disconnect in the same read
        if size < LEAST_PACKET or not self.owner.may_open():
            self.send_channel_open_failure(
                number, OPEN_RESOURCE_SHORTAGE, "relay: too many forwards in this connection", ""
            )
            return
        lent = self.owner.lend()
        if not lent:
            text = "relay: no memory is left for more forwards, please try again"
            self.send_channel_open_failure(number, OPEN_RESOURCE_SHORTAGE, text, "")
            return
        channel = DirectTcpipChannel(self, self._loop, None, "strict", lent, CHANNEL_PACKET)
        channel.fast = self.fast
        channel.set_write_buffer_limits(min(window_budget.BUFFER, self._limits.buffer // max(self.owner.forwards, 1)))
        channel.process_open(number, window, size, self.owner.forward(host, port, lent))

    def _process_global_request(self, _type: int, _id: int, packet: SSHPacket) -> None:
        name = packet.get_string()
        want_reply = packet.get_boolean()
        answer = b"" if name == b"keepalive@openssh.com" else None
        if name == b"hostkeys-prove-00@openssh.com":
            answer = self._prove_host_keys(packet)
        elif answer is None and name not in QUIET_REQUESTS:
            self.owner.refused("global", name)
        if want_reply and answer is not None:
            self.send_packet(MSG_REQUEST_SUCCESS, answer)
        elif want_reply:
            self.send_packet(MSG_REQUEST_FAILURE)

    def _prove_host_keys(self, packet: SSHPacket) -> bytes | None:
        """Sign for the host keys asked for (OpenSSH PROTOCOL 2.5); a client asks once, each signature costs time."""
        self._proofs -= 1
        asked = []
        while packet:
            asked.append(packet.get_string())
        if self._proofs < 0 or not asked or len(asked) > len(self._all_server_host_keys):
            return None
        out = []
        for blob in asked:
            key = self._all_server_host_keys.get(blob)
            if key is None:
                return None
            prefix = [b"hostkeys-prove-00@openssh.com", self._session_id, blob]
            out.append(_string(key.sign(b"".join(map(_string, prefix)))))
        return b"".join(out)

    _packet_handlers = {  # noqa: RUF012 - asyncssh's own table, extended
        **KeyExchangeLayer._packet_handlers,
        MSG_CHANNEL_OPEN: _process_channel_open,
        MSG_GLOBAL_REQUEST: _process_global_request,
    }

    # ---- what goes out, and how much of it may wait

    def send_packet(self, pkttype: int, *args: bytes, handler: Any = None) -> None:
        """Send one packet; asyncssh's MSG_IGNORE before each is left out (it guards CBC ciphers, which we have not)."""
        if pkttype == MSG_IGNORE:
            return
        super().send_packet(pkttype, *args, handler=handler)
        if len(self._deferred_packets) > WAITING_PACKETS:
            self._force_close(asyncssh.ProtocolError("too much kept back during a key exchange"))

    def pause_writing(self) -> None:
        """The client's TCP connection is full: no target is read until it has room again."""
        self._full = True
        self._allow(self.pipes)

    def resume_writing(self) -> None:
        """The client has read."""
        self._full = False
        self._allow(self.pipes)
        self.unchoke()

    @property
    def writable(self) -> bool:
        """Whether bytes towards the client may be made now."""
        return not self._full and self._kex_complete

    def wake_for(self, count: int) -> None:
        """Be woken for no less than so many bytes of this client, or its end."""
        with contextlib.suppress(OSError):  # it is closed
            self._reader.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)

    def keys_changed(self) -> None:
        """A key exchange has begun or ended."""
        for channel in tuple(self.plain_channels.values()) if self._kex_complete else ():
            channel.flush()
        self._allow(self.pipes)

    def _allow(self, pipes: Iterable[Pipe]) -> None:
        for pipe in tuple(pipes):
            pipe.set_client_writable(self.writable)

    def choke(self) -> None:
        """Read nothing more of this client for now."""
        if not self._choked and self._transport is not None:
            self._choked = True
            self._transport.pause_reading()

    def unchoke(self) -> None:
        """Read on, if nothing else is against it."""
        if (
            self._choked
            and not self._in_line
            and self._transport is not None
            and len(self._inpbuf) <= WAITING_INPUT
            and self._transport.get_write_buffer_size() <= WAITING_OUTPUT
        ):
            self._choked = False
            self._transport.resume_reading()

    # ---- is the client still there

    def start_keepalive(self) -> None:
        """Begin to ask a silent client whether it is there (asyncssh would set a timer anew for every packet)."""
        self._beat = self._loop.call_later(self._limits.keepalive_interval, self._beat_now)

    def _beat_now(self) -> None:
        self._unheard = 0 if self._heard else self._unheard + 1
        self._heard = False
        if self._unheard > self._limits.keepalive_count:
            self._force_close(asyncssh.ConnectionLost("client does not answer keepalives"))
            return
        if self._unheard and self._kex_complete:
            self.create_task(self._ask_alive())
        self._beat = self._loop.call_later(self._limits.keepalive_interval, self._beat_now)

    async def _ask_alive(self) -> None:
        await self._make_global_request(b"keepalive@openssh.com")

    # ---- how it ends

    def end(self, code: int, text: str) -> None:
        """Disconnect with a reason that arrives (RFC 4253 11.1). Does nothing when it is over already."""
        if self._transport is None:
            return
        self._send_disconnect(code, text, "")
        self._force_close(None)

    def _send_disconnect(self, code: int, reason: str, lang: str) -> None:
        """Say why; our own words where asyncssh would quote an exception's text for a protocol error."""
        self._farewell = True
        if code == DISC_PROTOCOL_ERROR:
            reason = "protocol error"
        super()._send_disconnect(code, reason, lang)

    def _force_close(self, exc: Exception | None) -> None:
        transport = self._transport
        if transport is None:
            return
        self._inpbuf = b""  # nothing behind a disconnect is heeded: a signature there would log it in
        self._say()
        if not self._farewell or transport.is_closing():
            super()._force_close(exc)
            return
        self._transport = None
        transport.set_protocol(_DelayedClose(transport))
        try:
            transport.resume_reading()
            if transport.can_write_eof():
                transport.write_eof()
        except (OSError, RuntimeError):
            transport.abort()
        self._loop.call_soon(self._cleanup, exc)

    def internal_error(self, exc_info: Any = None, error_logger: Any = None) -> None:
        """An exception that escaped: a bug of ours or of the library. It ends this connection, and is reported."""
        import sys

        error = exc_info[1] if exc_info else sys.exc_info()[1]
        if isinstance(error, (PacketDecodeError, UnicodeDecodeError)):
            # asyncssh lets a packet without a type and a version line that is not ASCII escape: no bug of ours, and
            # a stranger must not be able to fill the log with tracebacks
            self._send_disconnect(DISC_PROTOCOL_ERROR, "", "")
            self._force_close(asyncssh.ProtocolError("a packet that cannot be read"))
            return
        if self._owner is not None:
            self.owner.bug(error)
        self._force_close(error if isinstance(error, Exception) else None)

    def _cleanup(self, exc: Exception | None) -> None:
        self.ended = True
        self._reader.pause()
        if self._beat is not None:
            self._beat.cancel()
        super()._cleanup(exc)


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data
