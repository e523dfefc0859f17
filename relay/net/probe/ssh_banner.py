"""SSH banner probe: whether an SSH server greets at an address, and whether large packets reach it.

It makes one TCP connection, and ends it with a disconnect message that names relayctl for the target's log. It is not
repeated: sshd counts connections without a log-in against their source (PerSourcePenalties in sshd_config(5)), and
behind masquerade that source is the gateway, and with it every user.
"""

import contextlib
import errno
import fcntl
import os
import socket
import struct
import time
from dataclasses import dataclass
from enum import StrEnum

from relay.core.escape import escape
from relay.core.policy.model import Address

_LONGEST = 255  # bytes of an identification string (RFC 4253 4.2)
_MOST_LINES = 20  # a server may say before it; fewer than OpenSSH's client allows, more than anybody needs
_SHOWN = 80  # characters shown of another text than a banner
_BULK = 8192  # bytes of an SSH_MSG_IGNORE: several full segments of any Ethernet, far below the 35000 of RFC 4253 6.1
_LARGE_SECONDS = 3.0  # seconds for them: two lost segments are sent again within that
_PAUSE = 0.01  # seconds between two reads of the send queue's length; no event reports that it is empty
_CLOSE_SECONDS = 0.5  # seconds for the server to close after our disconnect
_SIOCOUTQ = 0x5411  # tcp(7): bytes that the other end has not acknowledged
_MSG_DISCONNECT, _MSG_IGNORE, _BY_APPLICATION = 1, 2, 11  # RFC 4253 11
_WHO = b"relayctl net verify"


class BannerOutcome(StrEnum):
    """Outcome of the connection. Stable names: they are in the JSON output."""

    SILENT = "silent"  # no answer to the SYN
    REFUSED = "refused"
    UNREACHABLE = "unreachable"  # a router or this machine says no
    MUTE = "mute"  # open, but no banner comes
    OTHER = "other"  # open, and something that is not SSH speaks, or it is closed at once
    GREETED = "greeted"


@dataclass(frozen=True, slots=True)
class SshBanner:
    """The answer. The zero value is silence."""

    outcome: BannerOutcome = BannerOutcome.SILENT
    seconds: float = 0.0  # until it was connected, or refused
    text: str = ""  # the identification string, or the text sent instead, escaped; for UNREACHABLE the error in words
    source: str = ""  # our own address of the connection
    unsent: int = 0  # bytes of the large packets that never arrived, 0 if all did


def read_banner(address: Address, port: int, *, interface: str, timeout: float) -> SshBanner:
    """Connect by `interface` (a name; "": as the routes say), wait for the greeting, send large packets, disconnect.

    Blocks for `timeout` seconds twice (connecting, being greeted) and 3 more at most; safe in threads.
    Raises OSError(ENODEV) for an interface that is not there.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        if interface:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
        sock.settimeout(timeout)
        started = time.monotonic()
        try:
            sock.connect((str(address), port))
        except OSError as error:
            return _failed(error, time.monotonic() - started)
        seconds = time.monotonic() - started
        source = sock.getsockname()[0]
        try:
            text, greeted = _read_identification(sock, time.monotonic() + timeout)
        except OSError as error:  # a reset, or time-out: TimeoutError is one
            mute = isinstance(error, TimeoutError)
            words = "" if mute else os.strerror(error.errno or 0).lower()
            return SshBanner(BannerOutcome.MUTE if mute else BannerOutcome.OTHER, seconds, words, source)
        if not greeted:
            return SshBanner(BannerOutcome.OTHER, seconds, text, source)
        return SshBanner(BannerOutcome.GREETED, seconds, text, source, _send_large_packets(sock))


def packet(payload: bytes) -> bytes:
    """One SSH packet before any key exchange: no encryption, no MAC, a block of 8 (RFC 4253 6)."""
    padding = 8 - (5 + len(payload)) % 8
    padding += 8 if padding < 4 else 0
    return struct.pack("!IB", 1 + len(payload) + padding, padding) + payload + bytes(padding)


def identification(line: bytes) -> str | None:
    """The identification string of SSH 2 in one line, escaped; None for another line. Takes any bytes."""
    line = line.rstrip(b"\r\n")
    return escape(line, _LONGEST) if line.startswith((b"SSH-2.0-", b"SSH-1.99-")) else None


def _read_identification(sock: socket.socket, deadline: float) -> tuple[str, bool]:
    """(the identification string, True), or (the text sent instead, False). Raises OSError, TimeoutError for none."""
    held, first = b"", b""
    for _ in range(_MOST_LINES):
        while b"\n" not in held and len(held) <= _LONGEST:
            data = _receive(sock, deadline)
            if not data:
                if data is None and not (first or held):
                    raise TimeoutError(errno.ETIMEDOUT, "no greeting")
                return escape((first or held).rstrip(b"\r\n"), _SHOWN), False
            held += data
        line, _, held = held.partition(b"\n")
        found = identification(line[:_LONGEST])
        if found is not None:
            return found, True
        first = first or line
        if len(line) > _LONGEST:
            break
    return escape(first[:_LONGEST].rstrip(b"\r\n"), _SHOWN), False


def _receive(sock: socket.socket, deadline: float) -> bytes | None:
    """The next bytes, b"" at the end, None when none come by `deadline` (time.monotonic). Raises OSError."""
    left = deadline - time.monotonic()
    if left <= 0:
        return None
    sock.settimeout(left)
    try:
        return sock.recv(4096)
    except TimeoutError:
        return None


def _send_large_packets(sock: socket.socket) -> int:
    """Send several full segments and disconnect; returns the number of bytes that were never acknowledged."""
    ignored = struct.pack("!BI", _MSG_IGNORE, _BULK) + bytes(_BULK)
    disconnect = struct.pack("!BII", _MSG_DISCONNECT, _BY_APPLICATION, len(_WHO)) + _WHO + struct.pack("!I", 0)
    deadline = time.monotonic() + _LARGE_SECONDS
    try:
        sock.settimeout(_LARGE_SECONDS)
        sock.sendall(b"SSH-2.0-relayctl\r\n" + packet(ignored) + packet(disconnect))
        while (unsent := _unsent(sock)) and time.monotonic() < deadline:
            time.sleep(_PAUSE)
    except OSError:  # the server closed: everything before reached it
        return 0
    with contextlib.suppress(OSError):
        if unsent:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # nothing to wait for
        else:  # wait until it closes: a reset would overtake our disconnect message
            sock.settimeout(_CLOSE_SECONDS)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(4096) and time.monotonic() < deadline:
                pass
    return unsent


def _unsent(sock: socket.socket) -> int:
    return int(struct.unpack("i", fcntl.ioctl(sock.fileno(), _SIOCOUTQ, bytes(4)))[0])


def _failed(error: OSError, seconds: float) -> SshBanner:
    if isinstance(error, TimeoutError):  # ETIMEDOUT, and our own deadline
        return SshBanner(BannerOutcome.SILENT, seconds)
    number = error.errno or 0
    if number == errno.ECONNREFUSED:
        return SshBanner(BannerOutcome.REFUSED, seconds)
    return SshBanner(BannerOutcome.UNREACHABLE, seconds, os.strerror(number).lower())
