"""An SSH client that does as it is told, packet by packet: blocking, without any of a client's good manners.

It speaks one set of algorithms (curve25519-sha256, ssh-ed25519, aes128-gcm) straight from RFC 4253 and 8731, so a
test can leave out, repeat, reorder or spoil whatever it likes, before, during and after log-in.
"""

import hashlib
import os
import socket
import struct
from pathlib import Path
from types import TracebackType

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.relay_process import Relay, wait_for

DISCONNECT, IGNORE, UNIMPLEMENTED, DEBUG, SERVICE_REQUEST, SERVICE_ACCEPT, EXT_INFO = 1, 2, 3, 4, 5, 6, 7
KEXINIT, NEWKEYS, ECDH_INIT, ECDH_REPLY = 20, 21, 30, 31
USERAUTH_REQUEST, USERAUTH_FAILURE, USERAUTH_SUCCESS, USERAUTH_BANNER = 50, 51, 52, 53
PK_OK, INFO_REQUEST, INFO_RESPONSE = 60, 60, 61
GLOBAL_REQUEST, REQUEST_SUCCESS, REQUEST_FAILURE = 80, 81, 82
OPEN, OPEN_CONFIRMATION, OPEN_FAILURE, WINDOW_ADJUST, DATA, EXTENDED_DATA = 90, 91, 92, 93, 94, 95
EOF, CLOSE, CHANNEL_REQUEST, CHANNEL_SUCCESS, CHANNEL_FAILURE = 96, 97, 98, 99, 100

PROHIBITED, CONNECT_FAILED, UNKNOWN_TYPE, SHORTAGE = 1, 2, 3, 4  # RFC 4254 5.1

Key = Ed25519PrivateKey | RSAPrivateKey


class Gone(Exception):
    """The relay has ended the connection; the text is its reason, empty when it gave none."""


def string(data: bytes | str) -> bytes:
    """An SSH string (RFC 4251 5)."""
    data = data.encode() if isinstance(data, str) else data
    return struct.pack(">I", len(data)) + data


def mpint(data: bytes) -> bytes:
    """A positive number, given big-endian, as an SSH mpint."""
    data = data.lstrip(b"\0")
    return string(b"\0" + data if data and data[0] & 0x80 else data)


def strings(data: bytes) -> list[bytes]:
    """All strings that `data` consists of."""
    found = []
    while len(data) >= 4:
        size = int.from_bytes(data[:4], "big")
        found.append(data[4 : 4 + size])
        data = data[4 + size :]
    return found


def uint32(*numbers: int) -> bytes:
    """Numbers of four bytes each."""
    return struct.pack(f">{len(numbers)}I", *numbers)


def load_key(path: Path) -> Key:
    """The private key in that file."""
    key = serialization.load_ssh_private_key(path.read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey | RSAPrivateKey)
    return key


def public_blob(key: Key) -> bytes:
    """The public key as it is sent (RFC 4253 6.6)."""
    import base64

    line = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return base64.b64decode(line.split()[1])


class Client:
    """One connection. Everything received waits in `receive`; nothing is answered by itself."""

    def __init__(
        self,
        port: int,
        *,
        exchange: bool = True,
        source: str = "127.0.0.1",
        seconds: float = 20.0,
        receive_buffer: int = 0,
    ) -> None:
        self.sock = socket.socket()
        self.sock.settimeout(seconds)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.bind((source, 0))
        self.sock.connect(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._in = bytearray()
        self._seal: tuple[AESGCM, bytes, int] | None = None
        self._unseal: tuple[AESGCM, bytes, int] | None = None
        self.session = b""
        self.version = b""
        self._our_kexinit = b""
        self.host_key = b""
        self._channels = 0
        if exchange:
            try:
                self.hello()
                self.exchange()
            except BaseException:  # nobody has it yet who could close it
                self.sock.close()
                raise

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.sock.close()

    # ---- bytes and packets

    def frame(self, payload: bytes) -> bytes:
        """One packet as it goes over the wire; uses up a nonce."""
        block = 16 if self._seal else 8
        covered = 1 + len(payload) + (0 if self._seal else 4)
        padding = block - covered % block
        padding += block if padding < 4 else 0
        body = bytes([padding]) + payload + bytes(padding)
        head = struct.pack(">I", len(body))
        if self._seal is None:
            return head + body
        cipher, iv, count = self._seal
        self._seal = cipher, iv, count + 1
        return head + cipher.encrypt(_nonce(iv, count), body, head)

    def send(self, *payloads: bytes) -> None:
        """Send packets at once. Raises Gone when the relay has gone away."""
        self.send_raw(b"".join(map(self.frame, payloads)))

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            raise Gone(self._last_words()) from None

    def flood(self, payload: bytes, count: int, batch: int = 1000) -> None:
        """Send the same packet many times, as fast as the relay takes it. Raises Gone when it has had enough."""
        for _ in range(0, count, batch):
            self.send(*[payload] * batch)

    def receive(self) -> bytes:
        """The next packet's payload. Raises Gone at the end, with the reason of a DISCONNECT."""
        self._need(4)
        size = int.from_bytes(self._in[:4], "big")
        tag = 16 if self._unseal else 0
        self._need(4 + size + tag)
        head, body = bytes(self._in[:4]), bytes(self._in[4 : 4 + size + tag])
        del self._in[: 4 + size + tag]
        if self._unseal is not None:
            cipher, iv, count = self._unseal
            self._unseal = cipher, iv, count + 1
            try:
                body = cipher.decrypt(_nonce(iv, count), body, head)
            except InvalidTag:
                raise AssertionError("the relay's packet does not verify") from None
        payload = body[1 : len(body) - body[0]]
        if payload[0] == DISCONNECT:
            raise Gone(strings(payload[5:])[0].decode())
        return payload

    def expect(self, *kinds: int) -> bytes:
        """The next packet of one of these kinds; others before it are passed over."""
        while True:
            payload = self.receive()
            if payload[0] in kinds:
                return payload

    def gone(self) -> str:
        """Wait for the end of the connection; the reason that the relay gave, empty for none."""
        try:
            while True:
                self.receive()
        except Gone as end:
            return str(end)

    def _need(self, size: int) -> None:
        while len(self._in) < size:
            try:
                data = self.sock.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if not data:
                raise Gone("")
            self._in += data

    def _last_words(self) -> str:
        try:
            while True:
                self.receive()
        except Gone as end:
            return str(end)
        except (OSError, AssertionError):
            return ""

    # ---- key exchange

    def hello(self, version: bytes = b"SSH-2.0-hostile\r\n") -> None:
        """Both version lines."""
        self.send_raw(version)
        while b"\n" not in self._in:
            self._need(len(self._in) + 1)
        line, _, rest = bytes(self._in).partition(b"\n")
        self.version, self._in = line.rstrip(b"\r"), bytearray(rest)
        self._ours = version.strip()

    def kexinit(self, *, follows: bool = False, kex: str = "curve25519-sha256") -> bytes:
        """Our side of RFC 4253 7.1."""
        names = [f"{kex},ext-info-c,kex-strict-c-v00@openssh.com", "ssh-ed25519"]
        names += ["aes128-gcm@openssh.com"] * 2 + ["hmac-sha2-256-etm@openssh.com"] * 2 + ["none"] * 2 + [""] * 2
        return bytes([KEXINIT]) + os.urandom(16) + b"".join(map(string, names)) + bytes([follows]) + uint32(0)

    def exchange(self) -> None:
        """A whole key exchange (RFC 4253 7, RFC 8731), the first or a later one."""
        ours = self.kexinit()
        self.send(ours)
        theirs = self.expect(KEXINIT)
        secret = X25519PrivateKey.generate()
        point = secret.public_key().public_bytes_raw()
        self.send(bytes([ECDH_INIT]) + string(point))
        host_key, their_point, signature = strings(self.expect(ECDH_REPLY)[1:])
        shared = mpint(secret.exchange(X25519PublicKey.from_public_bytes(their_point)))
        parts = (self._ours, self.version, ours, theirs, host_key, point, their_point)
        digest = hashlib.sha256(b"".join(map(string, parts)) + shared).digest()
        Ed25519PublicKey.from_public_bytes(strings(host_key)[1]).verify(strings(signature)[1], digest)
        self.host_key = host_key
        self.session = self.session or digest

        def derive(letter: bytes, size: int) -> bytes:
            return hashlib.sha256(shared + digest + letter + self.session).digest()[:size]

        self.send(bytes([NEWKEYS]))
        self._seal = AESGCM(derive(b"C", 16)), derive(b"A", 12), 0
        self.expect(NEWKEYS)
        self._unseal = AESGCM(derive(b"D", 16)), derive(b"B", 12), 0

    # ---- log-in

    def service(self) -> None:
        """Ask for user authentication."""
        self.send(bytes([SERVICE_REQUEST]) + string("ssh-userauth"))
        self.expect(SERVICE_ACCEPT)

    def request(self, user: str, method: str, rest: bytes = b"") -> bytes:
        """A USERAUTH_REQUEST (RFC 4252 5)."""
        return bytes([USERAUTH_REQUEST]) + string(user) + string("ssh-connection") + string(method) + rest

    def offer(self, user: str, blob: bytes, algorithm: str = "ssh-ed25519") -> bool:
        """Whether the relay would take a signature of that key."""
        self.send(self.request(user, "publickey", b"\0" + string(algorithm) + string(blob)))
        return self.expect(PK_OK, USERAUTH_FAILURE)[0] == PK_OK

    def signed(self, user: str, key: Key, algorithm: str = "ssh-ed25519", *, signed_user: str = "") -> bytes:
        """A request with a signature; `signed_user`: the signature is made for that name instead."""
        rest = b"\1" + string(algorithm) + string(public_blob(key))
        text = string(self.session) + self.request(signed_user or user, "publickey", rest)
        if isinstance(key, RSAPrivateKey):
            digest = {"rsa-sha2-256": hashes.SHA256(), "rsa-sha2-512": hashes.SHA512()}.get(algorithm, hashes.SHA1())
            signature = key.sign(text, PKCS1v15(), digest)
        else:
            signature = key.sign(text)
        return self.request(user, "publickey", rest + string(string(algorithm) + string(signature)))

    def login(self, user: str, key: Key, algorithm: str = "ssh-ed25519") -> "Client":
        """Log in with that key."""
        self.service()
        self.send(self.signed(user, key, algorithm))
        answer = self.expect(USERAUTH_SUCCESS, USERAUTH_FAILURE)
        assert answer[0] == USERAUTH_SUCCESS, "the relay refused the key"
        return self

    # ---- channels

    def ask(
        self,
        host: bytes | str,
        port: int,
        *,
        window: int = 1 << 21,
        size: int = 1 << 15,
        kind: bytes | str = "direct-tcpip",
        origin: bytes | str = "127.0.0.1",
    ) -> tuple[int, bytes]:
        """A new channel's number and the CHANNEL_OPEN packet for it."""
        number = self._channels
        self._channels += 1
        head = bytes([OPEN]) + string(kind) + uint32(number, window, size)
        return number, head + string(host) + uint32(port) + string(origin) + uint32(1)

    def open(self, host: bytes | str, port: int, **more: int) -> tuple[int, int]:
        """Open a forward: our number and the relay's. Fails the test when it is refused."""
        number, packet = self.ask(host, port, **more)  # type: ignore[arg-type]
        self.send(packet)
        answer = self.answer(number)
        assert answer[0] == OPEN_CONFIRMATION, answer
        return number, int.from_bytes(answer[5:9], "big")

    def answer(self, number: int) -> bytes:
        """The relay's answer to the opening of channel `number`."""
        while True:
            answer = self.expect(OPEN_CONFIRMATION, OPEN_FAILURE)
            if int.from_bytes(answer[1:5], "big") == number:
                return answer

    def refused(self, host: bytes | str, port: int, **more: int | str | bytes) -> tuple[int, str]:
        """Ask for a channel that is to be refused: the code and the text."""
        number, packet = self.ask(host, port, **more)  # type: ignore[arg-type]
        self.send(packet)
        answer = self.answer(number)
        assert answer[0] == OPEN_FAILURE, answer
        return int.from_bytes(answer[5:9], "big"), strings(answer[9:])[0].decode()

    def write(self, channel: int, data: bytes) -> None:
        """Data on the relay's channel number, in packets of 32 KiB; the window is the caller's to mind."""
        pieces = (data[at : at + (1 << 15)] for at in range(0, len(data), 1 << 15))
        self.send(*(bytes([DATA]) + uint32(channel) + string(piece) for piece in pieces))

    def read(self, number: int, size: int) -> bytes:
        """That many bytes of our channel; window adjusts and other things are passed over."""
        found = b""
        while len(found) < size:
            packet = self.expect(DATA, CLOSE)
            if int.from_bytes(packet[1:5], "big") == number:
                assert packet[0] == DATA, "the channel was closed"
                found += strings(packet[5:])[0]
        return found

    def echo(self, host: str, port: int) -> None:
        """Open one more forward to an echo server and see that it works: the connection lives."""
        number, channel = self.open(host, port)
        self.write(channel, b"still here")
        assert self.read(number, 10) == b"still here"
        self.send(bytes([CLOSE]) + uint32(channel))


def _nonce(iv: bytes, count: int) -> bytes:
    return iv[:4] + ((int.from_bytes(iv[4:], "big") + count) & (2**64 - 1)).to_bytes(8, "big")


def _workers(one: Relay) -> list[int]:
    """The relay's workers; /proc/locks is not read in one piece, so on a busy machine a line may be missed once."""
    found: list[int] = wait_for(one.worker_pids, "there is no worker")
    return found


def rss(one: Relay) -> int:
    """Bytes that this relay's workers have in memory."""
    total = 0
    for pid in _workers(one):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                total += int(line.split()[1]) << 10
    return total


def descriptors(one: Relay) -> int:
    """Open descriptors of this relay's workers."""
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in _workers(one))
