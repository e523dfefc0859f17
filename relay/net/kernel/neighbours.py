"""Neighbour table of the kernel: link addresses on our links, and whether they answered lately (RFC 826, 4861).

A gateway whose entry is failed or incomplete is silent, whatever the overlay reports. The entry's MAC also identifies
the gateway's node in a ZeroTier network.
"""

import errno
import socket
import struct
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address

from relay.core.policy.model import Address
from relay.net.kernel import netlink

_NEIGHBOUR = struct.Struct("=BxxxiHBB")  # struct ndmsg: family, interface index, state, flags, type
_NDA_DST, _NDA_LLADDR = 1, 2
_MOST_MAC = 32  # MAX_ADDR_LEN


class NeighbourState(StrEnum):
    """NUD_* of linux/neighbour.h. Stable names: they are in the JSON output."""

    NONE = "none"
    INCOMPLETE = "incomplete"  # requested, no answer yet
    REACHABLE = "reachable"
    STALE = "stale"  # answered once, not requested since
    DELAY = "delay"
    PROBE = "probe"
    FAILED = "failed"  # requested, no answer
    NOARP = "noarp"  # a link without link addresses
    PERMANENT = "permanent"


_STATES = {
    0x01: NeighbourState.INCOMPLETE,
    0x02: NeighbourState.REACHABLE,
    0x04: NeighbourState.STALE,
    0x08: NeighbourState.DELAY,
    0x10: NeighbourState.PROBE,
    0x20: NeighbourState.FAILED,
    0x40: NeighbourState.NOARP,
    0x80: NeighbourState.PERMANENT,
}


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One entry of the neighbour table; `mac` as ip(8) writes it, "" when it is not known."""

    address: Address
    index: int  # of the interface
    state: NeighbourState
    mac: str = ""

    @property
    def silent(self) -> bool:
        """Whether the kernel sent requests and got no answer."""
        return self.state in {NeighbourState.FAILED, NeighbourState.INCOMPLETE}


def parse_neighbour(body: bytes | memoryview) -> Neighbour | None:
    """An RTM_NEWNEIGH's body, None for a family that is not IP. Raises OSError(EBADMSG) for what is not one."""
    view = memoryview(body)
    found = netlink.attributes(view, _NEIGHBOUR.size)
    family, index, state, _, _ = _NEIGHBOUR.unpack_from(view)
    raw = bytes(found.get(_NDA_DST, b""))
    address: Address
    if family == socket.AF_INET and len(raw) == 4:
        address = IPv4Address(raw)
    elif family == socket.AF_INET6 and len(raw) == 16:
        address = IPv6Address(raw)
    elif family in {socket.AF_INET, socket.AF_INET6}:
        raise OSError(errno.EBADMSG, f"netlink neighbour of {len(raw)} bytes")
    else:
        return None
    mac = bytes(found.get(_NDA_LLADDR, b""))
    if len(mac) > _MOST_MAC:
        raise OSError(errno.EBADMSG, f"netlink link address of {len(mac)} bytes")
    return Neighbour(address, index, _STATES.get(state, NeighbourState.NONE), mac.hex(":") if mac else "")


def neighbour(address: Address, index: int) -> Neighbour | None:
    """The kernel's entry for `address` on interface `index`, None for none. Costs one netlink request.

    Raises OSError as `netlink.Netlink.ask` does (EOPNOTSUPP before Linux 5.0), and RelayError off Linux.
    """
    packed = address.packed
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    request = _NEIGHBOUR.pack(family, index, 0, 0, 0) + netlink.attribute(_NDA_DST, packed)
    try:
        return parse_neighbour(netlink.thread_socket().request(netlink.GETNEIGH, request, netlink.NEWNEIGH))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return None
        raise
