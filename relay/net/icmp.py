"""Does an address answer an ICMP echo by this interface, how soon, who says no instead, and what is its clock?

The kernel's datagram ICMP socket (icmp(7), net.ipv4.ping_group_range) where it is allowed, else a raw one as root.
Errors are read from the socket's error queue (IP_RECVERR in ip(7)): the same for both, and the kernel has already
matched them with the packet that they quote.
"""

import errno
import os
import secrets
import select
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address

from relay.core.rules import Address
from relay.errors import NotPermitted, RelayError

# include/uapi/linux/in.h and in6.h; Python names none of them in 3.11
_IP_MTU_DISCOVER, _IP_RECVERR = 10, 11
_IPV6_MTU_DISCOVER, _IPV6_RECVERR = 23, 25
_PMTU_DONT, _PMTU_PROBE = 0, 3  # PROBE: don't fragment, and do not believe what earlier packets met
_ERROR = struct.Struct("=IBBBxII")  # struct sock_extended_err: errno, origin, type, code, info, data
_LOCAL, _ICMP, _ICMP6 = 1, 2, 3  # SO_EE_ORIGIN_*
_ECHO = struct.Struct("!BBHHH")  # RFC 792, RFC 4443 4.1: type, code, checksum, identifier, sequence number
_TIMESTAMP = struct.Struct("!III")  # RFC 792: originate, receive, transmit
_ASK_CLOCK, _CLOCK = 13, 14
_NON_STANDARD = 0x80000000  # a clock that does not count milliseconds since midnight UT says so by this bit
_DAY = 86_400_000  # milliseconds
_TOKEN = 16  # random bytes that an echo must bring back, besides identifier and sequence number
_MOST_MESSAGES = 1000  # read for one echo: a peer that floods is one that did not answer
_BUFFER = 1 << 16
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


class Kind(StrEnum):
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

    kind: Kind = Kind.SILENT
    sender: Address | None = None
    seconds: float = 0.0  # from sending to whatever came
    code: int = 0  # of UNREACHABLE, RFC 792 or RFC 4443; or an errno where this machine itself refused
    mtu: int = 0  # of TOO_BIG, in bytes of the whole IP packet; 0 where the sender did not say
    detail: str = ""  # UNREACHABLE in words


def echo(
    address: Address,
    *,
    interface: str,
    timeout: float,  # seconds
    ttl: int | None = None,
    size: int = 56,
    dont_fragment: bool = False,
) -> Echo:
    """Send one echo of `size` data bytes by `interface` (a name; "": as the routes say) and wait for what comes.

    The IP packet is `size` + 28 bytes long (+ 48 with IPv6). Blocks for `timeout` seconds at most, safe in threads.
    Raises NotPermitted where this user may send none, OSError(ENODEV) for an interface that is not there.
    """
    raw, sock = _open(address)
    with sock:
        _aim(sock, address, interface, ttl, dont_fragment)
        token = secrets.token_bytes(_TOKEN)
        body = (token * (size // _TOKEN + 1))[:size]
        identifier, sequence = secrets.randbelow(1 << 16), secrets.randbelow(1 << 16)
        sent = time.monotonic()
        deadline = sent + timeout
        try:
            _connect(sock, address)
            sock.send(message(8 if address.version == 4 else 128, identifier, sequence, body))
        except OSError as error:
            # a packet larger than the interface's MTU is refused with the size on the error queue
            return _failed(sock) or _refused(error)
        own = ip_address(sock.getsockname()[0].partition("%")[0])
        wanted = identifier if raw else None  # a datagram socket's identifier is the kernel's
        for data in _arriving(sock, deadline):
            seconds = time.monotonic() - sent
            if data is None:
                failure = _failed(sock, own, wanted, sequence)
                if failure is not None:
                    return Echo(failure.kind, failure.sender, seconds, failure.code, failure.mtu, failure.detail)
            elif parse_reply(data, address.version, wanted, sequence, headed=raw and address.version == 4) == body:
                return Echo(Kind.REPLY, address, seconds)
    return Echo()


def clock(address: Address, *, interface: str, timeout: float) -> float | None:
    """By how many seconds the clock at `address` is ahead of ours (negative: behind), as an ICMP timestamp tells.

    None if it does not answer, counts otherwise, or is not IPv4 (RFC 4443 has no timestamps). A day's difference is
    not seen, and half the way's unevenness is in it. Raises as `echo` does: only root may ask.
    """
    if address.version != 4:
        return None
    _, sock = _open(address, raw=True)
    with sock:
        _aim(sock, address, interface, None, dont_fragment=False)
        identifier, sequence = secrets.randbelow(1 << 16), secrets.randbelow(1 << 16)
        start, started = time.time(), time.monotonic()
        try:
            _connect(sock, address)
            body = _TIMESTAMP.pack(int(start * 1000) % _DAY, 0, 0)
            sock.send(message(_ASK_CLOCK, identifier, sequence, body))
        except OSError:
            return None
        for data in _arriving(sock, started + timeout):
            took = time.monotonic() - started
            if data is None:
                if _failed(sock, None, identifier, sequence) is not None:
                    return None
                continue
            times = parse_clock(data, identifier, sequence)
            if times is not None:
                return skew(start, took, *times)
    return None


def message(kind: int, identifier: int, sequence: int, body: bytes) -> bytes:
    """One ICMP message with its checksum (RFC 1071); for ICMPv6 the kernel writes its own over it."""
    data = _ECHO.pack(kind, 0, 0, identifier, sequence) + body
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    total = (total & 0xFFFF) + (total >> 16)
    total = ~(total + (total >> 16)) & 0xFFFF
    return data[:2] + total.to_bytes(2, "big") + data[4:]


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
    if (kind, found, number) != (_CLOCK, identifier, sequence) or (received | transmitted) & _NON_STANDARD:
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
        return _refused(OSError(number, os.strerror(number)), info)
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
        return Echo(Kind.TIME_EXCEEDED, sender)
    if (origin, kind, code) == (_ICMP, 3, 4) or (origin, kind) == (_ICMP6, 2):
        return Echo(Kind.TOO_BIG, sender, mtu=info)
    if (origin, kind) in {(_ICMP, 3), (_ICMP6, 1)}:
        words = (_UNREACHABLE if origin == _ICMP else _UNREACHABLE6).get(code, f"unreachable, code {code}")
        return Echo(Kind.UNREACHABLE, sender, code=code, detail=words)
    return None


def _open(address: Address, *, raw: bool = False) -> tuple[bool, socket.socket]:
    """(whether it is a raw one, the socket). Raises NotPermitted where this user may have none, OSError.

    A datagram socket first: bound to an interface it is still told that a gateway did not answer ARP, which a raw
    one is not, as the kernel tells that by lo.
    """
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    protocol = socket.IPPROTO_ICMP if address.version == 4 else socket.IPPROTO_ICMPV6
    for kind in (socket.SOCK_RAW,) if raw else (socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            return kind == socket.SOCK_RAW, socket.socket(family, kind, protocol)
        except PermissionError:
            continue
    if raw:
        raise NotPermitted("an ICMP timestamp may only be sent by root", "run it as root")
    raise NotPermitted(
        "this user may not send ICMP", 'run it as root, or: sysctl -w net.ipv4.ping_group_range="0 2147483647"'
    )


def _aim(sock: socket.socket, address: Address, interface: str, ttl: int | None, dont_fragment: bool) -> None:
    if not hasattr(socket, "SO_BINDTODEVICE"):
        raise RelayError("an echo cannot be bound to an interface on this system", "run the relay on Linux")
    if interface:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
    level = socket.IPPROTO_IP if address.version == 4 else socket.IPPROTO_IPV6
    sock.setsockopt(level, _IP_RECVERR if address.version == 4 else _IPV6_RECVERR, 1)
    discover = _IP_MTU_DISCOVER if address.version == 4 else _IPV6_MTU_DISCOVER
    sock.setsockopt(level, discover, _PMTU_PROBE if dont_fragment else _PMTU_DONT)
    if ttl is not None:
        sock.setsockopt(level, socket.IP_TTL if address.version == 4 else socket.IPV6_UNICAST_HOPS, ttl)


def _connect(sock: socket.socket, address: Address) -> None:
    """From then on the kernel hands us nothing from another sender. Raises OSError where there is no route."""
    sock.connect((str(address), 0))


def _arriving(sock: socket.socket, deadline: float) -> Iterator[bytes | None]:
    """What comes until `deadline` (time.monotonic): a message, or None for something on the error queue."""
    waiting = select.poll()
    waiting.register(sock, select.POLLIN)
    for _ in range(_MOST_MESSAGES):
        left = deadline - time.monotonic()
        if left <= 0:
            return
        for _, events in waiting.poll(left * 1000):
            if events & select.POLLERR:
                yield None
            try:
                yield sock.recv(_BUFFER, socket.MSG_DONTWAIT)
            except OSError:  # nothing, or what the error queue has told already
                continue


def _failed(
    sock: socket.socket, own: Address | None = None, identifier: int | None = None, sequence: int | None = None
) -> Echo | None:
    """What the error queue says about our echo, None where it says nothing about it."""
    for _ in range(_MOST_MESSAGES):
        try:
            quoted, auxiliary, _, _ = sock.recvmsg(_BUFFER, 1024, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
        except OSError:
            return None
        for level, kind, data in auxiliary:
            if (level, kind) in {(socket.IPPROTO_IP, _IP_RECVERR), (socket.IPPROTO_IPV6, _IPV6_RECVERR)}:
                found = parse_error(data, quoted, identifier, sequence, own)
                if found is not None:
                    return found
    return None


def _refused(error: OSError, mtu: int = 0) -> Echo:
    """This machine itself would not send it."""
    number = error.errno or 0
    if number == errno.EMSGSIZE:
        return Echo(Kind.TOO_BIG, mtu=mtu)
    words = "a packet filter here forbids it" if number == errno.EPERM else os.strerror(number).lower()
    return Echo(Kind.UNREACHABLE, code=number, detail=words)


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
