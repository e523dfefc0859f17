"""How large may a packet be, on an interface and on the way to an address?"""

import fcntl
import os
import socket
import struct

from relay.core.policy.model import Address
from relay.net.probe import ping
from relay.net.probe.ping import Echo, EchoKind

HEADERS = {4: 28, 6: 48}  # bytes of IP and ICMP headers around an echo's data
LEAST = 68  # RFC 791: a router that says less is not believed
_SIOCGIFMTU = 0x8921  # netdevice(7)
_REQUEST = struct.Struct("16si20x")  # struct ifreq
_ROUTERS = 4  # that may each say a smaller size on one way
_TRIES = 2


def of_interface(name: str) -> int:
    """The largest IP packet of an interface, in bytes. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        answer = fcntl.ioctl(sock.fileno(), _SIOCGIFMTU, _REQUEST.pack(os.fsencode(name)[:15], 0))
    return int(_REQUEST.unpack(answer)[1])


def passing(address: Address, interface: str, most: int, *, timeout: float, usual: int = 0) -> int | None:
    """The largest packet that reaches `address` in one piece, as the routers say; None where they say nothing.

    `most`: what to begin with, in bytes; `usual`: what to try where a larger one vanishes without a word, 0 for
    nothing. Blocks for 8 times `timeout` seconds at most. Raises as `icmp.echo` does.
    """
    size = most
    for _ in range(_ROUTERS):
        answer = _whole(address, interface, size, timeout)
        if answer.kind is EchoKind.REPLY:
            return size
        if answer.kind is EchoKind.SILENT and 0 < usual < size:
            size = usual
            continue
        if answer.kind is not EchoKind.TOO_BIG or not LEAST <= answer.mtu < size:
            return None
        size = answer.mtu
    return None


def _whole(address: Address, interface: str, size: int, timeout: float) -> Echo:
    answer = Echo()
    for _ in range(_TRIES):
        data = size - HEADERS[address.version]
        answer = ping.echo(address, interface=interface, timeout=timeout, size=data, dont_fragment=True)
        if answer.kind is not EchoKind.SILENT:
            break
    return answer
