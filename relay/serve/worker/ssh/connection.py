"""One client's SSH connection (RFC 4251 to 4254): asyncssh's, with the bounds that it does not have.

Only the protocol is decided here: which messages are accepted, how much may wait, how long an exchange may take, how a
connection ends. `handlers` decides about log-in and channels. asyncssh is pinned to one version; the private members
used are listed in tests/serve/worker/ssh/test_asyncssh_contract.py.
"""

import asyncio
import sys
from collections.abc import Awaitable, Mapping
from functools import partial
from typing import Any, cast

import asyncssh
from asyncssh.connection import SSHServerConnection
from asyncssh.constants import (
    DISC_PROTOCOL_ERROR,
    MSG_CHANNEL_OPEN,
    MSG_GLOBAL_REQUEST,
    MSG_IGNORE,
    MSG_KEXINIT,
    MSG_USERAUTH_REQUEST,
)
from asyncssh.packet import PacketDecodeError, SSHPacket

from relay.core.settings import Limits
from relay.serve import ssh_algorithms
from relay.serve.worker.forward.pipe import Pipe
from relay.serve.worker.forward.read_pacing import PacedSocket
from relay.serve.worker.ssh.channel import DirectTcpipChannel
from relay.serve.worker.ssh.channel_open import process_channel_open
from relay.serve.worker.ssh.delayed_close import close_later
from relay.serve.worker.ssh.fastpath.fast_path import FastPath
from relay.serve.worker.ssh.fastpath.from_client import ClientReader
from relay.serve.worker.ssh.global_requests import GlobalRequests
from relay.serve.worker.ssh.handlers import AuthHandler, SessionHandler
from relay.serve.worker.ssh.keepalive import Keepalive
from relay.serve.worker.ssh.key_exchange import ClientOffer, RekeyLimits
from relay.serve.worker.ssh.preauth_limits import PREAUTH_READ_BYTES, PreauthLimits
from relay.serve.worker.ssh.userauth import in_turn, process_userauth_request

MAX_INPUT = (1 << 18) + 64  # bytes kept while a packet is handled: the longest packet; more stay in the kernel
MAX_OUTPUT = 1 << 20  # bytes towards a client that does not read before we stop reading from it
# packets kept back during a key exchange; a client that provokes more is disconnected. Half of them may be what is left
# of the frame in which the exchange became due, in packets of 256 bytes
MAX_DEFERRED = 2048
READ_BYTES = 1 << 16  # of one read for asyncssh, which moves all that is left for each packet
KEXINIT_SECONDS = 1.0  # to wait for the KEXINIT of a client that sends it unasked (at most half a round trip)


class Connection(SSHServerConnection, asyncio.BufferedProtocol):
    """One client's SSH connection in a worker."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: Any,
        owner: asyncssh.SSHServer,
        limits: Limits,
        *,
        client_reader: ClientReader,
        reader: PacedSocket,
        fast: bool,
    ) -> None:
        """`owner` is the AuthHandler; `reader` has the transport's socket; `client_reader` is memory to read into."""
        # an RSA host key taken over from sshd must not be used with SHA-1, although the library offers that
        options.server_host_keys.pop(b"ssh-rsa", None)
        super().__init__(loop, options)
        self._protocol_factory = lambda: owner
        self._limits = limits
        self._client_reader = client_reader
        self._reader = reader
        self.fast_path = FastPath(self, client_reader, reader.sock) if fast else None
        self.pipes: set[Pipe] = set()
        self.ended = False
        self.exchanged = False  # a key exchange has begun: that is what costs time
        self._preauth = PreauthLimits()
        self._waits_for_turn = False  # input of an unauthenticated client waits for the scheduler
        self._rekeys = RekeyLimits(loop, partial(self._give_up, "key exchange not finished in time"))
        self._received = 0  # bytes since the last key exchange
        self._kexinit_timer: asyncio.TimerHandle | None = None  # our KEXINIT waits for the client's, to fit it
        self._client_ciphers: frozenset[bytes] = frozenset()
        self._write_full = False  # the client's TCP connection has no room
        self._reading_paused = False
        self._disconnect_sent = False
        self._global_requests = GlobalRequests(self)
        lost = partial(self._give_up, "client does not answer keepalives")
        self._keepalive = Keepalive(loop, limits, ask=self._ask_alive, lost=lost)

    @property
    def auth_handler(self) -> AuthHandler:
        """Decides until a key is proven."""
        return cast(AuthHandler, self._owner)

    @property
    def session_handler(self) -> SessionHandler:
        """Decides from then on."""
        return cast(SessionHandler, self._owner)

    def begin_session(self, session: asyncssh.SSHServer) -> None:
        """A key is proven: from now on the session decides."""
        self._owner = session

    # ---- input

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes of the client go: memory of the worker, as nothing stays in it."""
        if not self._auth_complete:
            return self._client_reader.room(PREAUTH_READ_BYTES)
        if self.fast_path is None or self.fast_path.decryptor is None:
            return self._client_reader.room(READ_BYTES)
        return self._client_reader.room(self._reader.share, len(self._packet) + len(self._inpbuf))

    def buffer_updated(self, count: int) -> None:
        """Handle `count` bytes that were read."""
        self._received += count
        self._keepalive.heard = True
        try:
            if not self._auth_complete:
                self._preauth.count_bytes(count, len(self._inpbuf))
            else:
                self._reader.note(count)
            if not self._auth_complete or self.fast_path is None or not self.fast_path.read(count):
                self._inpbuf += self._client_reader.copy(count)
                self._recv_data()
        except asyncssh.DisconnectError as error:  # as asyncssh does with its own
            self._send_disconnect(error.code, error.reason, error.lang)
            self._force_close(error)
        except Exception:
            self.internal_error()
        if not self._may_read:
            self._pause_reading()

    def _recv_data(self) -> None:
        """Handle the input; of an unauthenticated client when the scheduler allows."""
        if self._auth_complete:
            super()._recv_data()
        elif not self._waits_for_turn and self._transport is not None:
            self._waits_for_turn = True
            self.auth_handler.in_turn(self._handle_preauth_input)
            if self._waits_for_turn:
                self._pause_reading()

    def _handle_preauth_input(self) -> None:
        self._waits_for_turn = False
        super()._recv_data()
        self._resume_reading()

    def _finish_recv_packet(self, pkttype: int, seq: int, _task: Any = None, is_async: bool = False) -> None:
        try:
            if not self._auth_complete:
                self._preauth.count_packet()
            super()._finish_recv_packet(pkttype, seq, _task, is_async)
        except asyncssh.DisconnectError as error:
            if not is_async:
                raise
            self._send_disconnect(error.code, error.reason, error.lang)
            self._force_close(error)
        self._resume_reading()

    @property
    def _may_read(self) -> bool:
        transport = self._transport
        if transport is None or self._waits_for_turn:
            return False
        between_packets = self._recv_handler in (self._recv_version, self._recv_pkthdr, self._recv_packet)
        if not between_packets and not self._auth_complete:
            return False  # a task is handling a packet
        return len(self._inpbuf) <= MAX_INPUT and transport.get_write_buffer_size() <= MAX_OUTPUT

    def _pause_reading(self) -> None:
        if not self._reading_paused and self._transport is not None:
            self._reading_paused = True
            cast(asyncio.ReadTransport, self._transport).pause_reading()

    def _resume_reading(self) -> None:
        if self._reading_paused and self._may_read:
            self._reading_paused = False
            cast(asyncio.ReadTransport, self._transport).resume_reading()

    # ---- key exchange (RFC 4253 7)

    def _send_kexinit(self) -> None:
        if self._transport is None:
            return
        if not self._session_id:
            sends_first = ssh_algorithms.sends_kexinit_first(self._client_version)
            if sends_first and self._kexinit_timer is None:  # the client's version line was just read
                self._kexinit_timer = self._loop.call_later(KEXINIT_SECONDS, self._send_kexinit)
                return
            if self._kexinit_timer is not None:
                self._kexinit_timer.cancel()
            self._enc_algs = ssh_algorithms.for_client(self._enc_algs, self._client_version, self._client_ciphers)
        super()._send_kexinit()
        if self._auth_complete:
            self._rekeys.begin()
            self._update_pipes()

    def _process_kexinit(self, _type: int, _id: int, packet: SSHPacket) -> Any:
        """Begin a key exchange; the client waits if it begins them too often."""
        if self._session_id and not self._auth_complete:
            raise asyncssh.ProtocolError("second key exchange before log-in")
        offer = ClientOffer.parse(packet.get_full_payload())
        self.exchanged = True
        transferred, self._received = self._received + self._rekey_bytes_sent, 0
        delay = self._rekeys.delay(transferred) if self._session_id and self._kex_complete else 0.0
        return self._exchange_keys(offer, packet, delay)

    async def _exchange_keys(self, offer: ClientOffer, packet: SSHPacket, delay: float) -> None:
        if delay:
            await asyncio.sleep(delay)  # nothing of this client is read meanwhile
            if self._transport is None:
                return
        if not self._session_id and self._kexinit_timer is not None and not self._server_kexinit:
            self._client_ciphers = offer.ciphers
            self._kexinit_sent = False  # asyncssh sends it now
        await super()._process_kexinit(MSG_KEXINIT, 0, packet)
        if offer.has_guessed:
            self._ignore_first_kex = offer.is_wrong_guess(self._kex_algs, self._server_host_key_algs or ())

    def send_newkeys(self, k: bytes, h: bytes) -> None:
        """The exchange is complete on our side: deferred data goes out, and targets are read again."""
        super().send_newkeys(k, h)
        if self.fast_path is not None:
            self.fast_path.new_keys()
        self._rekeys.end()
        for channel in cast(Mapping[int, DirectTcpipChannel], dict(self._channels)).values():
            channel.flush()
        self._update_pipes()

    # ---- authentication (RFC 4252): public keys, never certificates

    def _process_userauth_request(self, _type: int, _id: int, packet: SSHPacket) -> Any:
        return process_userauth_request(self, packet)

    async def reload_config(self) -> None:
        """asyncssh reads its configuration files again for each user name; there are none."""

    async def validate_public_key(self, username: str, key_data: bytes, msg: bytes, signature: bytes) -> bool:
        """Whether the key is known (empty `msg`: a mere offer), or has signed."""
        prove = partial(self.auth_handler.prove, username, key_data, msg, signature)
        return await in_turn(self, self.auth_handler, prove)

    # ---- channels and global requests (RFC 4254)

    def _process_channel_open(self, _type: int, _id: int, packet: SSHPacket) -> None:
        process_channel_open(self, self.session_handler, packet, buffer=self._limits.buffer)

    def _process_global_request(self, _type: int, _id: int, packet: SSHPacket) -> None:
        self._global_requests.process(self.session_handler, packet)

    _packet_handlers = {  # noqa: RUF012 - asyncssh's own table, extended
        **SSHServerConnection._packet_handlers,
        MSG_KEXINIT: _process_kexinit,
        MSG_USERAUTH_REQUEST: _process_userauth_request,
        MSG_CHANNEL_OPEN: _process_channel_open,
        MSG_GLOBAL_REQUEST: _process_global_request,
    }

    # ---- output

    def send_packet(self, pkttype: int, *args: bytes, handler: Any = None) -> None:
        """Send one packet, without asyncssh's MSG_IGNORE before it (it protects CBC ciphers, which are not offered)."""
        if pkttype == MSG_IGNORE:
            return
        super().send_packet(pkttype, *args, handler=handler)
        if len(self._deferred_packets) > MAX_DEFERRED:
            self._force_close(asyncssh.ProtocolError("too much kept back during a key exchange"))

    def pause_writing(self) -> None:
        """The client's TCP connection is full: no target is read until it has room again."""
        self._write_full = True
        self._update_pipes()

    def resume_writing(self) -> None:
        """The client has read."""
        self._write_full = False
        self._update_pipes()
        self._resume_reading()

    @property
    def writable(self) -> bool:
        """Whether data for the client may be made now."""
        return not self._write_full and self._kex_complete

    def _update_pipes(self) -> None:
        for pipe in tuple(self.pipes):
            pipe.set_client_writable(self.writable)

    def interrupt(self) -> None:
        """A target has sent data: the client may answer, so every byte of it is read at once."""
        self._reader.interrupt()

    # ---- keepalive and end

    def start_keepalive(self) -> None:
        """Send keepalive requests from now on when the client is silent."""
        self._keepalive.start()

    def _ask_alive(self) -> None:
        if self._kex_complete:
            self.create_task(cast(Awaitable[None], self._make_global_request(b"keepalive@openssh.com")))

    def _give_up(self, text: str) -> None:
        self._force_close(asyncssh.ConnectionLost(text))

    def end(self, code: int, text: str) -> None:
        """Disconnect with a reason that arrives (RFC 4253 11.1). Does nothing when the connection is over."""
        if self._transport is not None:
            self._send_disconnect(code, text, "")
            self._force_close(None)

    def _send_disconnect(self, code: int, reason: str, lang: str) -> None:
        """Send the reason, without the text of an exception for a protocol error."""
        self._disconnect_sent = True
        super()._send_disconnect(code, "protocol error" if code == DISC_PROTOCOL_ERROR else reason, lang)

    def _force_close(self, exc: Exception | None) -> None:
        transport = self._transport
        if transport is None:
            return
        self._inpbuf = b""  # nothing after a disconnect is handled: a signature there would log in
        if not self._disconnect_sent or transport.is_closing():
            super()._force_close(exc)
            return
        self._transport = None
        close_later(transport)
        self._loop.call_soon(self._cleanup, exc)

    def internal_error(self, exc_info: Any = None, error_logger: Any = None) -> None:
        """An unexpected exception, a bug of ours or of the library. It ends this connection, and is reported."""
        error = exc_info[1] if exc_info else sys.exc_info()[1]
        if isinstance(error, (PacketDecodeError, UnicodeDecodeError)):
            # asyncssh lets a packet without a type and a version line that is not ASCII escape: no bug of ours, and
            # no unauthenticated client may fill the log with tracebacks
            self._send_disconnect(DISC_PROTOCOL_ERROR, "", "")
            self._force_close(asyncssh.ProtocolError("a packet that cannot be read"))
            return
        if self._owner is not None:
            self.auth_handler.bug(error)
        self._force_close(error if isinstance(error, Exception) else None)

    def _cleanup(self, exc: Exception | None) -> None:
        self.ended = True
        self._reader.pause()
        self._rekeys.end()
        self._keepalive.stop()
        if self._kexinit_timer is not None:
            self._kexinit_timer.cancel()
        super()._cleanup(exc)
