"""One logged-in connection of a worker without a network, for both paths: bytes in, bytes out.

The client seals and opens packets with asyncssh's own objects, so the fast path is compared with code that it does not
share.
"""

import asyncio
import contextlib
import functools
import os
import socket
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import asyncssh
from asyncssh.constants import MSG_NEWKEYS
from asyncssh.encryption import Encryption, get_encryption
from asyncssh.packet import SSHPacket

from relay.core.settings import Limits
from relay.serve.worker.forward.pipe import Pipe
from relay.serve.worker.forward.rate_limiter import RateLimiter
from relay.serve.worker.forward.read_pacing import PacedSocket, ReadPacer
from relay.serve.worker.ssh.connection import Connection
from relay.serve.worker.ssh.fastpath.from_client import ClientReader
from relay.serve.worker.ssh.fastpath.to_client import ClientWriter
from tests.serve import hostile
from tests.serve.hostile import string, uint32

HOST_KEY = asyncssh.generate_private_key("ssh-ed25519")
TAG = 16


@functools.cache
def _options() -> asyncssh.SSHServerConnectionOptions:
    return asyncssh.SSHServerConnectionOptions(server_host_keys=[HOST_KEY], login_timeout=0)


class Wire(asyncio.Transport):
    """The client's end, as a transport and as a socket: keeps what is sent, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.over = False
        self.takes: list[int] = []  # how much the socket takes, call by call; afterwards everything
        self._waiting: list[Any] = []  # itself, as newer Pythons keep it, and no copy

    def write(self, data: Any) -> None:
        """Send at once, or keep in order what the socket does not accept."""
        if not self._waiting:
            with contextlib.suppress(BlockingIOError):
                data = data[self.send(data) :]
            if data:
                asyncio.get_running_loop().call_soon(self._flush)
        if data:
            self._waiting.append(data)

    def _flush(self) -> None:
        self.sent += b"".join(self._waiting)
        self._waiting.clear()

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self._waiting))

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return self.over

    def abort(self) -> None:
        self.over = True

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """The connection is closed later."""

    def pause_reading(self) -> None:
        """Nothing to do."""

    def resume_reading(self) -> None:
        """Nothing to do."""

    def can_write_eof(self) -> bool:
        return False

    # and as a socket

    def send(self, data: memoryview | bytes) -> int:
        """Accept as much as `takes` says."""
        assert not self._waiting, "sent past what waits"
        most = self.takes.pop(0) if self.takes else len(data)
        if not most:
            raise BlockingIOError
        self.sent += data[:most]
        return min(most, len(data))

    def setsockopt(self, *_: int) -> None:
        """Nothing to do."""


class Owner(asyncssh.SSHServer):
    """Opens every forward to a socket pair of which the test has the other end."""

    def __init__(self, frame: ClientWriter, patience: ReadPacer, windows: Sequence[int]) -> None:
        self.forwards = 0
        self.targets: list[socket.socket] = []
        self.pipes: list[Pipe] = []
        self.ends: dict[int, str] = {}
        self.bugs: list[BaseException | None] = []
        self._frame, self._patience, self._windows = frame, patience, list(windows)

    def lend(self) -> int:
        return self._windows[len(self.targets) % len(self._windows)]

    def forward(self, host: bytes, port: int, lent: int) -> Coroutine[Any, Any, Pipe]:
        return self._open()

    async def _open(self) -> Pipe:
        ours, theirs = socket.socketpair()
        for one in (ours, theirs):
            one.setblocking(False)
        number = len(self.targets)
        self.targets.append(theirs)
        pipe = Pipe(
            ours,
            lambda one, reason: self.ends.setdefault(number, reason),
            readable=True,
            limiter=RateLimiter(),
            writer=self._frame,
            pacer=self._patience,
        )
        self.pipes.append(pipe)
        return pipe

    def refused(self, kind: str, name: bytes) -> str:
        return "refused"

    def may_open(self) -> bool:
        return True

    def prove(self, username: str, blob: bytes, message: bytes, signature: bytes) -> bool:
        return False

    def in_turn(self, job: Callable[[], None]) -> None:
        job()

    def bug(self, error: BaseException | None) -> None:
        self.bugs.append(error)


class Plain:
    """A logged-in connection and the client's keys."""

    def __init__(
        self,
        *,
        fast: bool,
        cipher: str = "aes128-gcm@openssh.com",
        windows: Sequence[int] = (1 << 21,),
        takes: Sequence[int] = (),
        start: bytes = bytes(12),
    ) -> None:
        loop = asyncio.get_running_loop()
        options = _options()
        patience = ReadPacer()
        self.client_reader, self.wire = ClientReader(), Wire()
        self.owner = Owner(ClientWriter(), patience, windows)
        reader = PacedSocket(patience, cast(socket.socket, self.wire))
        self.connection = Connection(
            loop, options, self.owner, Limits(), client_reader=self.client_reader, reader=reader, fast=fast
        )
        self.connection.connection_made(self.wire)
        self.wire.sent.clear()
        self.wire.takes = list(takes)
        self._cipher, self._start = cipher.encode(), start
        self.connection._session_id = b"session"
        self.connection._auth_complete = True
        self.connection._rekey_time = float("inf")
        self.connection._recv_handler = self.connection._recv_pkthdr
        self._sent = self._received = 0
        self._read = 0
        self.keys(bytes(32))
        self.connection._kex_complete = True

    def keys(self, key: bytes, *, at_once: bool = True) -> None:
        """New keys, as after our NEWKEYS; the client uses the old ones until its own.

        `at_once`: the client's NEWKEYS has arrived too.
        """

        def made() -> Encryption:
            return get_encryption(self._cipher, key[: 16 if b"128" in self._cipher else 32], self._start)

        connection = self.connection
        self._open, self._next_seal = made(), made()
        connection._send_encryption, connection._send_enchdrlen, connection._send_blocksize = made(), 1, 16
        connection._next_recv_encryption = made()
        connection._next_recv_blocksize, connection._next_recv_macsize = 16, TAG
        connection._next_decompressor = None
        if connection.fast_path is not None:
            connection.fast_path.new_keys()
        if at_once:
            self._seal = self._next_seal
            connection._process_newkeys(MSG_NEWKEYS, 0, SSHPacket(b""))

    def new_keys(self) -> bytes:
        """The client's NEWKEYS; it uses the new keys afterwards."""
        data = self.packet(bytes([MSG_NEWKEYS]))
        self._seal = self._next_seal
        return data

    # ---- the client's side

    def packet(self, payload: bytes, padding: int = 0) -> bytes:
        """One packet of the client; `padding`: blocks beyond the least padding."""
        least = -(1 + len(payload)) % 16
        size = least + 16 * (padding + (least < 4))
        body = bytes([size]) + payload + os.urandom(size)
        data, tag = self._seal.encrypt_packet(self._sent, uint32(len(body)), body)
        self._sent += 1
        return data + tag

    @property
    def gone(self) -> bool:
        """Whether the relay has ended the connection."""
        return self.connection._transport is None

    def feed(self, data: bytes) -> None:
        """Give the relay these bytes of the client in one read."""
        if self.wire.over or self.gone:
            return
        while data:
            room = self.connection.get_buffer(-1)
            count = min(len(room), len(data))
            room[:count] = data[:count]
            self.connection.buffer_updated(count)
            data = data[count:]

    async def open(self, window: int = 1 << 21, size: int = 1 << 15) -> int:
        """Open one more forward; its number is the same on both sides."""
        number = len(self.owner.targets)
        head = bytes([hostile.OPEN]) + string("direct-tcpip") + uint32(number, window, size)
        self.feed(self.packet(head + string("host") + uint32(22) + string("") + uint32(0)))
        for _ in range(10):
            await asyncio.sleep(0)
        return number

    def heard(self) -> list[bytes]:
        """The payloads that the client has received since the last call."""
        found = []
        while len(self.wire.sent) - self._read >= 4:
            at = self._read
            size = int.from_bytes(self.wire.sent[at : at + 4], "big")
            wire = bytes(self.wire.sent[at : at + 4 + size + TAG])
            if len(wire) < 4 + size + TAG:
                break
            body = self._open.decrypt_packet(self._received, wire[:16], wire[16:-TAG], 4, wire[-TAG:])
            assert body is not None, "what was sent does not verify"
            assert body[0] >= 4
            assert len(body) % 16 == 0
            found.append(body[1 : -body[0]])
            self._read = at + len(wire)
            self._received += 1
        return found

    # ---- the targets' side

    def taken(self, number: int) -> bytes:
        """The bytes that the target has received since the last call."""
        found = bytearray()
        while True:
            try:
                data = self.owner.targets[number].recv(1 << 18)
            except BlockingIOError:
                return bytes(found)
            if not data:
                return bytes(found) + b"<EOF>"
            found += data

    def close(self) -> None:
        """Close all sockets and timers."""
        for pipe in self.owner.pipes:
            pipe.abort("test")
        for target in self.owner.targets:
            target.close()
        for timer in (self.connection._keepalive._timer, self.connection._rekeys._timer, self.connection._login_timer):
            if timer is not None:
                timer.cancel()


@dataclass
class Heard:
    """What a client has received, in order, with the data of one channel joined and window adjusts apart."""

    other: list[bytes] = field(default_factory=list)
    data: dict[int, bytearray] = field(default_factory=lambda: defaultdict(bytearray))
    granted: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    sizes: set[int] = field(default_factory=set)

    def take(self, payloads: list[bytes]) -> None:
        """Add more payloads."""
        for payload in payloads:
            number = int.from_bytes(payload[1:5], "big")
            if payload[0] == hostile.DATA:
                said = hostile.strings(payload[5:])[0]
                assert len(payload) == 9 + len(said)
                self.data[number] += said
                self.sizes.add(len(said))
            elif payload[0] == hostile.WINDOW_ADJUST:
                self.granted[number] += int.from_bytes(payload[5:9], "big")
            elif payload[0] == hostile.DISCONNECT:
                self.other.append(b"disconnect " + hostile.strings(payload[5:])[0])
            else:
                self.other.append(payload)


async def turns(count: int = 4) -> None:
    """Run so many turns of the event loop."""
    for _ in range(count):
        await asyncio.sleep(0)


FULL = 1 << 15  # bytes of data in a full packet
OTHERS = {
    "ignore": bytes([hostile.IGNORE]) + string("x"),
    "debug": bytes([hostile.DEBUG]) + b"\0" + string("x") + string(""),
    "keepalive": bytes([hostile.GLOBAL_REQUEST]) + string("keepalive@openssh.com") + b"\1",
    "global": bytes([hostile.GLOBAL_REQUEST]) + string("nonsense") + b"\1",
    "unknown": bytes([199]) + b"x",
    "long": bytes([hostile.IGNORE]) + string("x" * (FULL + 4)),  # as long as a full packet of data
    "log-in": bytes([hostile.USERAUTH_REQUEST]) + string("x") + string("ssh-connection") + string("none"),
}
