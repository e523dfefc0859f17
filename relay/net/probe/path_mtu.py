"""Path MTU: the largest IP packet of an interface, and of the path to an address."""

import fcntl
import os
import socket
import struct

from relay.core.policy.model import Address
from relay.net.probe import ping
from relay.net.probe.ping import Echo, EchoKind

HEADERS = {4: 28, 6: 48}  # bytes of IP and ICMP headers around an echo's data
LEAST = 68  # RFC 791: a router that reports less is not believed
_SIOCGIFMTU = 0x8921  # netdevice(7)
_REQUEST = struct.Struct("16si20x")  # struct ifreq
_ROUTERS = 4  # routers on one path that may each report a smaller size
_TRIES = 2


def interface_mtu(name: str) -> int:
    """The largest IP packet of an interface, in bytes. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock.fileno(), _SIOCGIFMTU, _REQUEST.pack(os.fsencode(name)[:15], 0))
    return int(_REQUEST.unpack(answer)[1])


def path_mtu(address: Address, interface: str, largest: int, *, timeout: float, fallback: int = 0) -> int | None:
    """The largest packet that reaches `address` unfragmented, as the routers report; None where they report nothing.

    `largest`: the size to begin with, in bytes; `fallback`: the size to try when a larger one is lost silently, 0 for
    none. Blocks for 8 times `timeout` seconds at most. Raises as `ping.echo` does.
    """
    size = largest
    for _ in range(_ROUTERS):
        answer = _echo_of_size(address, interface, size, timeout)
        if answer.kind is EchoKind.REPLY:
            return size
        if answer.kind is EchoKind.SILENT and 0 < fallback < size:
            size = fallback
            continue
        if answer.kind is not EchoKind.TOO_BIG or not LEAST <= answer.mtu < size:
            return None
        size = answer.mtu
    return None


def _echo_of_size(address: Address, interface: str, size: int, timeout: float) -> Echo:
    answer = Echo()
    for _ in range(_TRIES):
        data = size - HEADERS[address.version]
        answer = ping.echo(address, interface=interface, timeout=timeout, size=data, dont_fragment=True)
        if answer.kind is not EchoKind.SILENT:
            break
    return answer
