"""What may a client say before its key is proven, and when is it worked for? RFC 4252, and the bounds asyncssh lacks.

asyncssh makes a task of every step of a log-in: a turn of the loop for each, and one to end it. Nothing in these steps
waits here, so each is done in the turn in which its packet came, and what is said in a turn goes out as one.
Who gets in is asked of `owner` (serve.worker.session), and there is one way in: a key that has signed.
"""

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar, Protocol, cast

import asyncssh
from asyncssh.auth import MSG_USERAUTH_PK_OK
from asyncssh.connection import SSHServerConnection
from asyncssh.constants import (
    MSG_NEWKEYS,
    MSG_SERVICE_ACCEPT,
    MSG_SERVICE_REQUEST,
    MSG_USERAUTH_FAILURE,
    MSG_USERAUTH_REQUEST,
)
from asyncssh.kex_dh import MSG_KEX_ECDH_INIT
from asyncssh.logging import logger
from asyncssh.packet import Boolean, PacketDecodeError, SSHPacket, String
from asyncssh.saslprep import SASLPrepError, saslprep
from cryptography.exceptions import InvalidTag

from relay.serve.worker.ssh.fastpath.aes_gcm import TAG, GcmDecryptor, GcmEncryptor
from relay.serve.worker.ssh.memory import ConnectionTemplate, StubEvent

LOGIN_PACKETS = 600  # packets before log-in: 100 offered keys take about 210
LOGIN_BYTES = 1 << 20
LONGEST_NAME = 1024  # bytes, as asyncssh has it
LEAST, MOST = 8, 1 << 16  # length of a packet that is looked at here; no more is kept: asyncssh would keep 256 KiB
BLOCK, PADDING = 16, 4  # of what is sealed by AES-GCM; at least (RFC 4253 6)
NEWKEYS_BYTES = 16  # of that packet, with the least padding, in the clear
SERVICE, USERAUTH = b"ssh-connection", b"ssh-userauth"
REQUEST_USERAUTH, ACCEPT_USERAUTH = (bytes([it]) + String(USERAUTH) for it in (MSG_SERVICE_REQUEST, MSG_SERVICE_ACCEPT))
NEWKEYS, FAILURE, PK_OK = (bytes([it]) for it in (MSG_NEWKEYS, MSG_USERAUTH_FAILURE, MSG_USERAUTH_PK_OK))


class AuthHandler(Protocol):
    """What is asked of the adapter about somebody who has not proven a key."""

    def begin_auth(self, username: str) -> bool:
        """Another user name: what was learnt for the one before is forgotten."""

    def prove(self, username: str, blob: bytes, message: bytes, signature: bytes) -> bool:
        """Whether this key is known (empty message: the mere offer) or has signed."""

    def in_turn(self, job: Callable[[], None]) -> None:
        """Do it when there is time for those who have not proven a key."""


class PreauthLayer(SSHServerConnection):
    """One client's SSH connection until its key is proven: everything is counted, nothing is kept."""

    fast = True  # False: asyncssh deals with every packet (see `contract`)
    _together: list[bytes] | None = None  # what has been said in this turn
    _costly = False  # the last packet had a signature: others have their turn before the next

    _awaits_more = False  # it wakes us for no less than that
    _in_line = False  # what was read of a stranger waits for its turn
    _login_packets = LOGIN_PACKETS
    _login_bytes = LOGIN_BYTES
    _mould: ClassVar[ConnectionTemplate | None] = None

    def __init__(self, loop: asyncio.AbstractEventLoop, options: Any) -> None:
        # an RSA host key taken over from sshd must not be used with SHA-1, although the library offers that
        options.server_host_keys.pop(b"ssh-rsa", None)
        mould = PreauthLayer._mould
        if not self.fast:
            super().__init__(loop, options)
        elif mould is None or mould.options is not options or not mould.fits:
            super().__init__(loop, options)
            PreauthLayer._mould = ConnectionTemplate(self, options)
        else:
            mould.fill(self)
            self._loop = loop
            self._logger = logger
            self._recv_handler = self._recv_version
            grace = options.login_timeout
            self._login_timer = loop.call_later(grace, self._login_timer_callback) if grace else None
        self._close_event = StubEvent()  # type: ignore[assignment]  # all of an event that is used

    @property
    def host(self) -> AuthHandler:
        """The adapter of this connection."""
        return cast(AuthHandler, self._owner)

    def choke(self) -> None:
        """Read nothing more of this client for now."""

    def unchoke(self) -> None:
        """Read on, if nothing else is against it."""

    def wake_for(self, count: int) -> None:
        """Be woken for no less than so many bytes of this client, or its end."""

    def proven(self) -> None:
        """A key is proven, and its owner about to be told so."""

    async def reload_config(self) -> None:
        """asyncssh reads its configuration anew for each user name; ours never differs."""

    # ---- bytes and packets

    def data_received(self, data: bytes, datatype: Any = None) -> None:
        """Bytes for the inherited path. While a packet is being worked on they wait in the kernel, not here."""
        if not self._auth_complete:
            self._login_bytes -= len(data)
            if self._login_bytes < 0 or len(self._inpbuf) > MOST:
                self._force_close(asyncssh.ProtocolError("too many bytes before log-in"))
                return
        self._inpbuf += data
        self._recv_data()

    def _recv_data(self) -> None:
        """Work off what has been read; for a stranger when it is his turn, and nothing more is read until then."""
        if self._auth_complete:
            super()._recv_data()
        elif not self._in_line and self._transport is not None:
            self._in_line = True
            self.host.in_turn(self._my_turn)
            if self._in_line:
                self.choke()

    def _my_turn(self) -> None:
        self._in_line = False
        if self._transport is None:
            return
        self._costly, self._together = False, []
        if self._awaits_more:
            self._awaits_more = False
            self.wake_for(1)
        try:  # as asyncssh does
            while self._inpbuf and not self._costly and self._recv_handler():
                pass
        except asyncssh.DisconnectError as error:
            self._send_disconnect(error.code, error.reason, error.lang)
            self._force_close(error)
        except Exception:
            self.internal_error()
        self._say()
        if self._costly and self._inpbuf:
            self._recv_data()
        elif self._next_recv_encryption is not None and not self._inpbuf and self._transport is not None:
            # its NEWKEYS, which wants no answer, and then a request: one turn of the loop for both
            self._awaits_more = True
            self.wake_for(NEWKEYS_BYTES + 1)
        self.unchoke()

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
        self.unchoke()

    def _send(self, data: bytes) -> None:
        if self._together is None:
            super()._send(data)
        else:
            self._together.append(data)

    def _say(self) -> None:
        """Send what has been said in this turn: one system call, and the client wakes once."""
        said, self._together = self._together, None
        if said:
            super()._send(b"".join(said))

    # ---- the plain case: a whole packet, in the clear or sealed by AES-GCM, of a kind that every log-in has

    def _recv_pkthdr(self) -> bool:
        plain = self.fast and not self._auth_complete and self._take_packet()
        return plain or super()._recv_pkthdr()

    def _take_packet(self) -> bool:
        """Deal with the packet that lies there; False: nothing is done, asyncssh is to look at it."""
        data, sealed = self._inpbuf, cast(Any, self._recv_encryption)
        length = int.from_bytes(data[:4], "big")
        end = 4 + length
        if not LEAST <= length <= MOST:
            return False
        if sealed is None:
            if len(data) < end:
                return False
            text, stop = data[4:end], end
        elif (
            isinstance(sealed, GcmDecryptor) and not sealed.refused and sealed.opened is None and len(data) >= end + TAG
        ):
            stop = end + TAG
            try:
                text = sealed.cipher().decrypt(sealed.next_nonce(), data[4:stop], data[:4])
            except InvalidTag:
                sealed.refused = True
                return False
        else:
            return False
        padding = text[0]
        # a padding that cannot be is for asyncssh to refuse; as an index it would give another packet
        payload = text[1:-padding] if PADDING <= padding < length else b""
        handler = self._plain.get(payload[:1], _unknown)
        if not handler(self, payload):
            if sealed is not None:
                sealed.opened = text
            return False
        self._inpbuf = self._inpbuf[stop:]
        self._login_packets -= 1
        if self._login_packets < 0 and not self._auth_complete:
            raise asyncssh.ProtocolError("too many packets before log-in")
        self._recv_seq = 0 if payload == NEWKEYS and self._strict_kex else (self._recv_seq + 1) & 0xFFFFFFFF
        return True

    def _kex_packet(self, payload: bytes) -> bool:
        """The client's part of the first key exchange (RFC 8731): the shared secret, our answer, new keys."""
        if self._kex is None or self._ignore_first_kex or self._session_id:
            return False
        packet = SSHPacket(payload)
        try:
            return bool(self._kex.process_packet(packet.get_byte(), 0, packet))
        except PacketDecodeError as error:
            raise asyncssh.ProtocolError(str(error)) from None

    def _new_keys(self, payload: bytes) -> bool:
        if payload != NEWKEYS or self._next_recv_encryption is None:
            return False
        self._process_newkeys(MSG_NEWKEYS, 0, SSHPacket(b""))
        return True

    def _service(self, payload: bytes) -> bool:
        """RFC 4253 10."""
        if payload != REQUEST_USERAUTH or self._next_service != USERAUTH or self._recv_encryption is None:
            return False
        if self._deferred_packets or not self._kex_complete:
            return False
        self._next_service = None
        self._auth_in_progress = True
        self._can_recv_ext_info = False
        self._tell(ACCEPT_USERAUTH)
        return True

    def _tell(self, payload: bytes) -> None:
        """Send one packet; what asyncssh's `send_packet` does in the plain case."""
        seal = cast(Any, self._send_encryption)
        if not isinstance(seal, GcmEncryptor) or not self._kex_complete:
            self.send_packet(payload[0], payload[1:])
            return
        padding = -(1 + len(payload)) % BLOCK
        padding += BLOCK if padding < PADDING else 0
        text = bytes((padding,)) + payload + os.urandom(padding)
        head = len(text).to_bytes(4, "big")
        self._send(head + seal.cipher().encrypt(seal.next_nonce(), text, head))
        self._send_seq = (self._send_seq + 1) & 0xFFFFFFFF
        self._rekey_bytes_sent += len(text)

    def send_userauth_failure(self, partial_success: bool) -> None:
        """There are keys, and a round of words where there is something to say; asyncssh asks seven methods."""
        self._auth = None
        methods = b"publickey,keyboard-interactive" if self.kbdint_auth_supported() else b"publickey"
        self._tell(FAILURE + String(methods) + Boolean(partial_success))

    # ---- who it is (RFC 4252): keys only, never certificates, and the adapter decides

    def _process_userauth_request(self, _type: int, _id: int, packet: SSHPacket) -> Any:
        if not self._ask(packet.get_full_payload()):
            return super()._process_userauth_request(_type, _id, packet)
        return None

    def _ask(self, payload: bytes) -> bool:
        """What every log-in asks; other methods, which all fail, and what comes after a log-in are asyncssh's."""
        if self._auth_complete or self._recv_encryption is None:
            return False
        name, at = _text(payload, 1)
        service, at = _text(payload, at)
        method, at = _text(payload, at)
        if service != SERVICE or method not in (b"none", b"publickey"):
            return False
        username = _prepared(name)
        if self._auth is not None:  # of another method that is under way
            self._auth.cancel()
            self._auth = None
        if username != self._username:
            self._username = username
            self.host.begin_auth(username)
        if method == b"none":
            self.send_userauth_failure(False)
        else:
            self._prove(username, payload, at)
        return True

    def _prove(self, username: str, payload: bytes, at: int) -> None:
        """RFC 4252 7. Nobody is logged in anywhere else."""
        self._costly = signed = payload[at : at + 1] not in (b"", b"\0")
        _, stop = _text(payload, at + 1)  # the algorithm, which is in the message too
        blob, stop = _text(payload, stop)
        message, signature = b"", b""
        if signed:
            message = payload[:stop]
            signature, stop = _text(payload, stop)
        if stop != len(payload):
            raise asyncssh.ProtocolError("Unexpected data at end of packet")
        if self.host.prove(username, blob, message, signature) is not True:
            self.send_userauth_failure(False)
        elif signed:
            self.proven()
            run_without_waiting(self.send_userauth_success())
        else:
            self._tell(PK_OK + payload[at + 1 :])

    _plain: ClassVar[dict[bytes, Callable[[Any, bytes], bool]]] = {
        bytes([MSG_KEX_ECDH_INIT]): _kex_packet,
        NEWKEYS: _new_keys,
        bytes([MSG_SERVICE_REQUEST]): _service,
        bytes([MSG_USERAUTH_REQUEST]): _ask,
    }
    _packet_handlers = {  # noqa: RUF012 - asyncssh's own table, extended
        **SSHServerConnection._packet_handlers,
        MSG_USERAUTH_REQUEST: _process_userauth_request,
    }


def _unknown(connection: PreauthLayer, payload: bytes) -> bool:
    return False


def _text(payload: bytes, at: int) -> tuple[bytes, int]:
    """The string (RFC 4251 5) that begins there, and where it ends. Raises ProtocolError."""
    begin = at + 4
    end = begin + int.from_bytes(payload[at:begin], "big")
    if begin > len(payload) or end > len(payload):
        raise asyncssh.ProtocolError("Incomplete packet")
    return payload[begin:end], end


def run_without_waiting(work: Coroutine[Any, Any, None]) -> None:
    """Do what asyncssh has made a coroutine of, and never waits in for a server with our options."""
    try:
        work.send(None)
    except StopIteration:
        return
    work.close()
    raise RuntimeError("asyncssh waits where it did not")


def _prepared(name: bytes) -> str:
    """A user name as asyncssh takes it (RFC 4013); plain ASCII is what it is. Raises IllegalUserName."""
    if len(name) >= LONGEST_NAME:
        raise asyncssh.IllegalUserName("Username too long")
    try:
        text = name.decode()
        return text if text.isascii() and text.isprintable() else saslprep(text)
    except (UnicodeDecodeError, SASLPrepError) as error:
        raise asyncssh.IllegalUserName(str(error)) from None
