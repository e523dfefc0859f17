"""Does an address answer an ICMP echo by this interface, how soon, who says no instead, and what is its clock?

The kernel's datagram ICMP socket (icmp(7), net.ipv4.ping_group_range) where it is allowed, else a raw one as root.
Errors are read from the socket's error queue (IP_RECVERR in ip(7)): the same for both, and the kernel has already
matched them with the packet that they quote.
"""

import secrets
import select
import socket
import time
from collections.abc import Iterator
from ipaddress import ip_address

from relay.core.policy.model import Address
from relay.errors import NotPermitted, RelayError
from relay.net.probe.icmp_message import (
    Echo,
    EchoKind,
    clock_request,
    message,
    parse_clock,
    parse_error,
    parse_reply,
    refused,
    skew,
)

__all__ = ["Echo", "EchoKind", "clock", "echo"]  # an answer's types come with the question

# include/uapi/linux/in.h and in6.h; Python names none of them in 3.11
_IP_MTU_DISCOVER, _IP_RECVERR = 10, 11
_IPV6_MTU_DISCOVER, _IPV6_RECVERR = 23, 25
_PMTU_DONT, _PMTU_PROBE = 0, 3  # PROBE: don't fragment, and do not believe what earlier packets met
_TOKEN = 16  # random bytes that an echo must bring back, besides identifier and sequence number
_MOST_MESSAGES = 1000  # read for one echo: a peer that floods is one that did not answer
_BUFFER = 1 << 16


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
            return _failed(sock) or refused(error)
        own = ip_address(sock.getsockname()[0].partition("%")[0])
        wanted = identifier if raw else None  # a datagram socket's identifier is the kernel's
        for data in _arriving(sock, deadline):
            seconds = time.monotonic() - sent
            if data is None:
                failure = _failed(sock, own, wanted, sequence)
                if failure is not None:
                    return Echo(failure.kind, failure.sender, seconds, failure.code, failure.mtu, failure.detail)
            elif parse_reply(data, address.version, wanted, sequence, headed=raw and address.version == 4) == body:
                return Echo(EchoKind.REPLY, address, seconds)
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
            sock.send(clock_request(start, identifier, sequence))
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
