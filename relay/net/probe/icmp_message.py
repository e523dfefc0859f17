"""What does an ICMP message, or an entry of a socket's error queue, say? Pure: bytes in, values out (RFC 792, 4443)."""

import errno
import os
import socket
import struct
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address

from relay.core.policy.model import Address

_ERROR = struct.Struct("=IBBBxII")  # struct sock_extended_err: errno, origin, type, code, info, data
_LOCAL, _ICMP, _ICMP6 = 1, 2, 3  # SO_EE_ORIGIN_*
_ECHO = struct.Struct("!BBHHH")  # RFC 792, RFC 4443 4.1: type, code, checksum, identifier, sequence number
_TIMESTAMP = struct.Struct("!III")  # RFC 792: originate, receive, transmit
_NON_STANDARD = 0x80000000  # a clock that does not count milliseconds since midnight UT says so by this bit
_DAY = 86_400_000  # milliseconds
_ASK_CLOCK, _CLOCK_REPLY = 13, 14
_UNREACHABLE = {  # RFC 1122 3.2.2.1, RFC 1812 5.2.7.1: what a person reads
    0: "network unreachable",
    1: "host unreachable",
    2: "protocol unreachable",
    3: "port unreachable",
    5: "source route failed",
    6: "network unknown",
    7: "host unknown",
    9: "network prohibited",
    10: "host prohibited",
    13: "prohibited by a packet filter",
}
_UNREACHABLE6 = {  # RFC 4443 3.1
    0: "no route",
    1: "prohibited by a packet filter",
    2: "beyond the source's scope",
    3: "address unreachable",
    4: "port unreachable",
    5: "source address failed a policy",
    6: "route rejects it",
}


class EchoKind(StrEnum):
    """What became of an echo. Stable names: they stand in the JSON of `net status` and `net verify`."""

    SILENT = "silent"  # nothing came back in time
    REPLY = "reply"
    TIME_EXCEEDED = "time-exceeded"  # a router's answer to a packet whose TTL ended there: it does forward
    UNREACHABLE = "unreachable"
    TOO_BIG = "too-big"  # don't-fragment, and `mtu` is what would pass


@dataclass(frozen=True, slots=True)
class Echo:
    """What became of one echo. The zero value is silence.

    `sender` None: this machine itself, because it had no route, got no ARP answer (after some 3 s; with a raw
    socket that is silence), or its packet filter said no.
    """

    kind: EchoKind = EchoKind.SILENT
    sender: Address | None = None
    seconds: float = 0.0  # from sending to whatever came
    code: int = 0  # of UNREACHABLE, RFC 792 or RFC 4443; or an errno where this machine itself refused
    mtu: int = 0  # of TOO_BIG, in bytes of the whole IP packet; 0 where the sender did not say
    detail: str = ""  # UNREACHABLE in words


def message(kind: int, identifier: int, sequence: int, body: bytes) -> bytes:
    """One ICMP message with its checksum (RFC 1071); for ICMPv6 the kernel writes its own over it."""
    data = _ECHO.pack(kind, 0, 0, identifier, sequence) + body
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    total = (total & 0xFFFF) + (total >> 16)
    total = ~(total + (total >> 16)) & 0xFFFF
    return data[:2] + total.to_bytes(2, "big") + data[4:]


def clock_request(start: float, identifier: int, sequence: int) -> bytes:
    """The question for another machine's clock, sent at `start` (Unix seconds)."""
    return message(_ASK_CLOCK, identifier, sequence, _TIMESTAMP.pack(int(start * 1000) % _DAY, 0, 0))


def parse_reply(data: bytes, version: int, identifier: int | None, sequence: int, *, headed: bool) -> bytes | None:
    """The data of the echo reply to (identifier, sequence), None for everything else.

    `headed`: an IPv4 header stands before it, as raw sockets of IPv4 get it. Takes any bytes, raises nothing.
    """
    data = _unheaded(data) if headed else data
    if len(data) < _ECHO.size:
        return None
    kind, code, _, found, number = _ECHO.unpack_from(data)
    if (kind, code, number) != (0 if version == 4 else 129, 0, sequence) or identifier not in {None, found}:
        return None
    return data[_ECHO.size :]


def parse_clock(data: bytes, identifier: int, sequence: int) -> tuple[int, int] | None:
    """(receive, transmit) of an ICMP timestamp reply with its IPv4 header, in milliseconds since midnight UT.

    None for everything else and for a clock that counts otherwise. Takes any bytes, raises nothing.
    """
    data = _unheaded(data)
    if len(data) < _ECHO.size + _TIMESTAMP.size:
        return None
    kind, _, _, found, number = _ECHO.unpack_from(data)
    _, received, transmitted = _TIMESTAMP.unpack_from(data, _ECHO.size)
    if (kind, found, number) != (_CLOCK_REPLY, identifier, sequence) or (received | transmitted) & _NON_STANDARD:
        return None
    return (received, transmitted) if received < _DAY and transmitted < _DAY else None


def skew(start: float, took: float, received: int, transmitted: int) -> float:
    """Seconds by which the other clock is ahead, as NTP reckons it (RFC 5905 8), over midnight too.

    `start`: Unix seconds when the question left, `took`: seconds until the answer came.
    """
    there = (received + transmitted) / 2
    here = (start * 1000 + took * 500) % _DAY
    return ((there - here + _DAY / 2) % _DAY - _DAY / 2) / 1000


def parse_error(
    data: bytes, quoted: bytes, identifier: int | None, sequence: int | None, own: Address | None = None
) -> Echo | None:
    """What one entry of the error queue says about our echo, None if it is about another packet.

    `data`: a struct sock_extended_err and the offender's sockaddr; `quoted`: our ICMP message, or its beginning.
    Takes any bytes, raises nothing.
    """
    if len(data) < _ERROR.size:
        return None
    number, origin, kind, code, info, _ = _ERROR.unpack_from(data)
    if origin == _LOCAL:
        return refused(OSError(number, os.strerror(number)), info)
    if origin not in {_ICMP, _ICMP6}:
        return None
    if sequence is not None:
        if len(quoted) < _ECHO.size:
            return None
        _, _, _, found, numbered = _ECHO.unpack_from(quoted)
        if numbered != sequence or identifier not in {None, found}:
            return None
    sender = _offender(data[_ERROR.size :])
    sender = None if sender == own else sender
    if (origin, kind) in {(_ICMP, 11), (_ICMP6, 3)}:
        return Echo(EchoKind.TIME_EXCEEDED, sender)
    if (origin, kind, code) == (_ICMP, 3, 4) or (origin, kind) == (_ICMP6, 2):
        return Echo(EchoKind.TOO_BIG, sender, mtu=info)
    if (origin, kind) in {(_ICMP, 3), (_ICMP6, 1)}:
        words = (_UNREACHABLE if origin == _ICMP else _UNREACHABLE6).get(code, f"unreachable, code {code}")
        return Echo(EchoKind.UNREACHABLE, sender, code=code, detail=words)
    return None


def refused(error: OSError, mtu: int = 0) -> Echo:
    """This machine itself would not send it."""
    number = error.errno or 0
    if number == errno.EMSGSIZE:
        return Echo(EchoKind.TOO_BIG, mtu=mtu)
    words = "a packet filter here forbids it" if number == errno.EPERM else os.strerror(number).lower()
    return Echo(EchoKind.UNREACHABLE, code=number, detail=words)


def _offender(data: bytes) -> Address | None:
    """The address in a struct sockaddr_in or sockaddr_in6, None where there is none."""
    family = int.from_bytes(data[:2], "little" if struct.pack("=H", 1)[0] else "big")
    if family == socket.AF_INET and len(data) >= 8:
        return IPv4Address(data[4:8])
    if family == socket.AF_INET6 and len(data) >= 24:
        return IPv6Address(data[8:24])
    return None


def _unheaded(data: bytes) -> bytes:
    """What follows the IPv4 header (RFC 791 3.1)."""
    return data[(data[0] & 0x0F) * 4 :] if data else b""
