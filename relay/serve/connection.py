"""Where asyncssh is stricter made: one SSH connection, with every gap of the library that matters to a relay closed.

What is decided here is protocol only (RFC 4251-4254): which messages are accepted, how much may wait, how long an
exchange may take, how a connection ends. Who gets in and what may be reached is asked of `owner` (serve.adapter).
The private members of asyncssh that this touches are listed in `contract`; one version is pinned in pyproject.toml.
"""

import asyncio
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, cast

import asyncssh
from asyncssh.connection import SSHServerConnection
from asyncssh.constants import (
    DISC_PROTOCOL_ERROR,
    MSG_CHANNEL_OPEN,
    MSG_GLOBAL_REQUEST,
    MSG_IGNORE,
    MSG_KEXINIT,
    MSG_REQUEST_FAILURE,
    MSG_REQUEST_SUCCESS,
    OPEN_ADMINISTRATIVELY_PROHIBITED,
    OPEN_RESOURCE_SHORTAGE,
    OPEN_UNKNOWN_CHANNEL_TYPE,
)
from asyncssh.encryption import Encryption, GCMEncryption
from asyncssh.packet import PacketDecodeError, SSHPacket

from relay.core.bucket import Bucket
from relay.core.settings import Limits
from relay.serve import algorithms, settled, windows
from relay.serve.channel import Channel
from relay.serve.frame import MOST as FRAME
from relay.serve.frame import Carried, Frame
from relay.serve.gcm import Seal, Unseal
from relay.serve.intake import Intake
from relay.serve.patience import Reader
from relay.serve.pipe import Pipe
from relay.serve.settled import Unawaited

WAITING_INPUT = 1 << 18  # bytes kept while a packet is being worked on; more stay in the kernel
WAITING_OUTPUT = 1 << 20  # bytes towards a client that does not read before we stop reading from it
# packets kept back during a key exchange; a client that provokes more is disconnected. Half of them may be what is left
# of the frame in which the exchange became due, in packets of 256 bytes
WAITING_PACKETS = 2048
LOGIN_PACKETS = 600  # packets before log-in: 100 offered keys take about 210
LOGIN_BYTES = 1 << 20
SAY_SECONDS = 1.0  # for a client's KEXINIT that should come unasked (it is at most half a round trip away)
REKEY_SECONDS = 30.0  # a key exchange that takes longer is given up (asyncssh has no limit)
LINGER_SECONDS = 2.0  # how long the reason of a disconnect may take to arrive
CHANNEL_PACKET = 1 << 15
HEADS = 1 << 10  # bytes of heads and padding in one frame, at most
LEAST_PACKET = 256  # bytes a client must take in one packet: with 1, one read of a target would be 65,536 packets
LOGIN_READ = 1 << 11  # bytes of a stranger at once: a flood of small packets costs as much as a key exchange then
READ = 1 << 16  # bytes of a client on the inherited path, which moves all that is left for each packet
REKEYS_AT_ONCE = 16  # key exchanges after log-in; each costs as much as a log-in, and a client may begin any number
REKEYS_PER_SECOND = 0.5  # in the long run
REKEY_BYTES = 1 << 19  # after so many bytes an exchange is not counted: RekeyLimit=1M is somebody's policy

KNOWN_CHANNELS = frozenset(
    b"session x11 auth-agent@openssh.com forwarded-tcpip direct-streamlocal@openssh.com tun@openssh.com"
    b" forwarded-streamlocal@openssh.com".split()
)
QUIET_REQUESTS = frozenset([b"no-more-sessions@openssh.com"])  # every OpenSSH client sends it; it narrows, so: nothing


class Owner(Protocol):
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

    async def prove(self, username: str, blob: bytes, message: bytes, signature: bytes) -> bool:
        """Whether this key is known (empty message: the mere offer) or has signed."""

    def in_turn(self, job: Callable[[], None]) -> None:
        """Do it when there is time for those who have not proven a key."""

    def bug(self, error: BaseException | None) -> None:
        """An exception of ours ended the connection."""


class _Farewell(asyncio.Protocol):
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


class Connection(SSHServerConnection, asyncio.BufferedProtocol):
    """One client's SSH connection in a worker."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: Any,
        owner: asyncssh.SSHServer,
        limits: Limits,
        *,
        intake: Intake,
        reader: Reader,
        fast: bool,
    ) -> None:
        """`reader` has the socket that the transport will have; `intake` is the worker's memory to read to.

        `fast` False: everything goes the inherited path (see `contract`).
        """
        super().__init__(loop, options)
        self.fast = fast
        self._intake = intake
        self._reader = reader
        self._seal: Seal | None = None  # the client's packets are sealed by AES-GCM
        self.unseal: Unseal | None = None
        self._protocol_factory = lambda: owner
        # an RSA host key taken over from sshd must not be used with SHA-1, although the library offers that
        if options.server_host_keys.pop(b"ssh-rsa", None) is not None:
            self._server_host_key_algs = list(options.server_host_keys)
        self._close_event = Unawaited()  # type: ignore[assignment]  # all of an event that is used
        self.pipes: set[Pipe] = set()
        self.ended = False
        self.exchanged = False  # a key exchange has begun: that is what costs time
        self._keepalive = limits.keepalive_interval, limits.keepalive_count
        self._buffer = limits.buffer  # bytes of all channels together that wait for the client's windows
        self._unheard = 0
        self._heard = False
        self._beat: asyncio.TimerHandle | None = None
        self._full = False  # the client's TCP connection takes no more
        self._choked = False  # we do not read from the client
        self._in_line = False  # what was read of a stranger waits for its turn
        self._login_packets = LOGIN_PACKETS
        self._login_bytes = LOGIN_BYTES
        self._rekey_timer: asyncio.TimerHandle | None = None
        self._unsaid: asyncio.TimerHandle | None = None  # our KEXINIT waits for the client's, to fit it
        self._theirs: frozenset[bytes] = frozenset()  # the ciphers that the client speaks in both directions
        self._farewell = False
        self._proofs = 4  # of host keys that one client may ask for
        self._bytes_in = 0  # since the last key exchange
        self._rekeys = Bucket(REKEYS_PER_SECOND, REKEYS_AT_ONCE)
        if not hasattr(type(self), "_options"):  # the first one
            settled.share(self, options)

    @property
    def owner(self) -> Owner:
        """The adapter of this connection."""
        return cast(Owner, self._owner)

    # ---- before log-in: everything is counted, nothing is kept

    async def reload_config(self) -> None:
        """asyncssh reads its configuration anew for each user name; ours never differs."""

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes of the client go: memory of the worker, as nothing stays in it."""
        if not self._auth_complete:
            return self._intake.room(LOGIN_READ)
        if self.unseal is None:
            return self._intake.room(READ)
        return self._intake.room(self._reader.share, len(self._packet) + len(self._inpbuf))

    def buffer_updated(self, count: int) -> None:
        """Bytes of the client."""
        self._heard = True
        self._bytes_in += count
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
            self._choke()

    def data_received(self, data: bytes, datatype: Any = None) -> None:
        """Bytes for the inherited path. While a packet is being worked on they wait in the kernel, not here."""
        if not self._auth_complete:
            self._login_bytes -= len(data)
            if self._login_bytes < 0:
                self._force_close(asyncssh.ProtocolError("too many bytes before log-in"))
                return
        super().data_received(data, datatype)

    # ---- the fast path: what intake and channels ask

    @property
    def plain_intake(self) -> Unseal | None:
        """What opens the client's packets while they may be dealt with outside of asyncssh; None while they may not."""
        if self.unseal is None:
            return None
        handler = self._recv_handler
        between = handler in (self._recv_pkthdr, self._recv_packet)
        plain = between and self._auth_complete and self._decompressor is None and self._transport is not None
        return self.unseal if plain and self._recv_encryption is cast(Encryption, self.unseal) else None

    @property
    def plain_channels(self) -> Mapping[int, Channel]:
        """By the relay's number: there are no other ones than direct-tcpip."""
        return cast(Mapping[int, Channel], self._channels)

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

    def carry(self, frame: Frame, source: socket.socket, channel: int, most: int, packet: int) -> Carried | None:
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
                return Carried(total, error=error)
            if not count:
                return Carried(total, over=True)
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
        return Carried(total)

    def _recv_data(self) -> None:
        """Work off what has been read; for a stranger when it is his turn, and nothing more is read until then."""
        if self._auth_complete:
            super()._recv_data()
        elif not self._in_line and self._transport is not None:
            self._in_line = True
            self.owner.in_turn(self._my_turn)
            if self._in_line:
                self._choke()

    def _my_turn(self) -> None:
        self._in_line = False
        if self._transport is not None:
            super()._recv_data()
            if self._choked:
                self._unchoke()

    def _finish_recv_packet(self, pkttype: int, seq: int, _task: Any = None, is_async: bool = False) -> None:
        try:
            if not self._auth_complete:
                self._login_packets -= 1
                if self._login_packets < 0:
                    raise asyncssh.ProtocolError("too many packets before log-in")
            super()._finish_recv_packet(pkttype, seq, _task, is_async)
        except asyncssh.DisconnectError as error:
            if not is_async:
                raise
            self._send_disconnect(error.code, error.reason, error.lang)
            self._force_close(error)
        if self._choked:
            self._unchoke()

    async def _process_kexinit(self, _type: int, _id: int, packet: SSHPacket) -> None:
        """RFC 4253 7.1: a guessed exchange is right only if the first entries of both sides' lists agree.

        asyncssh compares the agreed algorithm with the client's first entry alone; Dropbear always guesses.
        """
        if self._session_id and not self._auth_complete:
            raise asyncssh.ProtocolError("second key exchange before log-in")
        self.exchanged = True
        carried, self._bytes_in = self._bytes_in + self._rekey_bytes_sent, 0
        if self._session_id and self._kex_complete and carried < REKEY_BYTES:  # the client begins it, out of turn
            now = self._loop.time()
            wait = self._rekeys.wait(now)
            self._rekeys.take(now)
            if wait:  # nothing of this client is read meanwhile
                await asyncio.sleep(wait)
                if self._transport is None:
                    return
        payload = packet.get_full_payload()
        theirs = SSHPacket(payload)
        theirs.get_bytes(17)
        guessed = [*theirs.get_namelist()[:1], *theirs.get_namelist()[:1]]
        if self._unsaid is not None:
            self._theirs = frozenset(theirs.get_namelist()) & frozenset(theirs.get_namelist())
            self._kexinit_sent = False
        await super()._process_kexinit(_type, _id, packet)
        if payload[-5]:  # first_kex_packet_follows; a reserved number comes behind it
            self._ignore_first_kex = guessed != [self._kex_algs[0], (self._server_host_key_algs or [b""])[0]]

    # ---- who it is (RFC 4252): keys only, never certificates, and the adapter decides

    async def validate_public_key(self, username: str, key_data: bytes, msg: bytes, signature: bytes) -> bool:
        """Ask the adapter; `msg` is empty for the mere offer of a key, which proves nothing."""
        return await self.owner.prove(username, key_data, msg, signature) is True

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
        channel = Channel(self, self._loop, None, "strict", lent, CHANNEL_PACKET)
        channel.fast = self.fast
        channel.set_write_buffer_limits(min(windows.BUFFER, self._buffer // max(self.owner.forwards, 1)))
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
        **SSHServerConnection._packet_handlers,
        MSG_KEXINIT: _process_kexinit,
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

    def _send_kexinit(self) -> None:
        if self._transport is None:
            return
        if not self._session_id:
            if self._unsaid is None and algorithms.speaks_first(self._client_version):  # which has just been read
                self._unsaid = self._loop.call_later(SAY_SECONDS, self._send_kexinit)
                return
            if self._unsaid is not None:
                self._unsaid.cancel()
                self._unsaid = None
            self._enc_algs = algorithms.for_client(self._enc_algs, self._client_version, self._theirs)
            self._theirs = frozenset()
        super()._send_kexinit()
        if self._auth_complete and self._rekey_timer is None:
            self._rekey_timer = self._loop.call_later(REKEY_SECONDS, self._rekey_late)
            self._allow(self.pipes)

    def _rekey_late(self) -> None:
        self._rekey_timer = None
        self._force_close(asyncssh.ConnectionLost("key exchange not finished in time"))

    def send_newkeys(self, k: bytes, h: bytes) -> None:
        """The exchange is done on our side: what waited goes out, and targets are read again."""
        super().send_newkeys(k, h)
        if self.fast:
            self._take_keys()
        if self._rekey_timer is not None:
            self._rekey_timer.cancel()
            self._rekey_timer = None
        for channel in tuple(self.plain_channels.values()):
            channel.flush()
        self._allow(self.pipes)

    def _take_keys(self) -> None:
        """asyncssh has made new ones: those of AES-GCM are used by our own objects from now on, on both paths."""
        self._seal = self.unseal = None
        if isinstance(self._send_encryption, GCMEncryption):
            self._seal = Seal(self._send_encryption)
            self._send_encryption = cast(Encryption, self._seal)
        if isinstance(self._next_recv_encryption, GCMEncryption):
            self.unseal = Unseal(self._next_recv_encryption)
            self._next_recv_encryption = cast(Encryption, self.unseal)

    def pause_writing(self) -> None:
        """The client's TCP connection is full: no target is read until it has room again."""
        self._full = True
        self._allow(self.pipes)

    def resume_writing(self) -> None:
        """The client has read."""
        self._full = False
        self._allow(self.pipes)
        self._unchoke()

    @property
    def writable(self) -> bool:
        """Whether bytes towards the client may be made now."""
        return not self._full and self._kex_complete

    def _allow(self, pipes: Iterable[Pipe]) -> None:
        for pipe in tuple(pipes):
            pipe.allow(self.writable)

    def _choke(self) -> None:
        if not self._choked and self._transport is not None:
            self._choked = True
            self._transport.pause_reading()

    def _unchoke(self) -> None:
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
        self._beat = self._loop.call_later(self._keepalive[0], self._beat_now)

    def _beat_now(self) -> None:
        self._unheard = 0 if self._heard else self._unheard + 1
        self._heard = False
        if self._unheard > self._keepalive[1]:
            self._force_close(asyncssh.ConnectionLost("client does not answer keepalives"))
            return
        if self._unheard and self._kex_complete:
            self.create_task(self._ask_alive())
        self._beat = self._loop.call_later(self._keepalive[0], self._beat_now)

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
        if not self._farewell or transport.is_closing():
            super()._force_close(exc)
            return
        self._transport = None
        transport.set_protocol(_Farewell(transport))
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
        for timer in (self._beat, self._rekey_timer, self._unsaid):
            if timer is not None:
                timer.cancel()
        super()._cleanup(exc)


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data
