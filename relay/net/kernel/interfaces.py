"""Interfaces of this machine with their addresses, and the one that a zone's pattern matches.

Interfaces are compared by name: the index changes whenever ZeroTier restarts.
"""

import errno
import functools
import re
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from relay.core.escape import escape
from relay.core.policy.model import Address
from relay.errors import InputRejected
from relay.net.kernel import netlink

_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg: family, device type, index, flags, change
_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, prefix length, flags, scope, index
_IFLA_IFNAME, _IFLA_EXT_MASK = 3, 29
_MOST_NAME = 16  # IFNAMSIZ, with the NUL at its end
_SKIP_STATISTICS = 8  # RTEXT_FILTER_SKIP_STATS: half of each answer
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_UP, _LOOPBACK, _LOWER_UP = 0x1, 0x8, 0x10000  # linux/if.h


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface. `up`: set up by the administrator and with a carrier (a healthy TAP's operstate is UNKNOWN)."""

    name: str
    index: int
    up: bool
    addresses: tuple[Address, ...]
    loopback: bool


@dataclass(frozen=True, slots=True)
class LinkMessage:
    """Content of one RTM_NEWLINK; `enabled` is the administrator's setting (IFF_UP)."""

    name: str
    index: int
    enabled: bool
    carrier: bool
    loopback: bool


def parse_link(body: bytes | memoryview) -> LinkMessage:
    """An RTM_NEWLINK's body. Raises OSError(EBADMSG) for what is not one."""
    view = memoryview(body)
    found = netlink.attributes(view, _LINK.size)
    _, _, index, flags, _ = _LINK.unpack_from(view)
    name = bytes(found.get(_IFLA_IFNAME, b"")).split(b"\0", 1)[0].decode("utf-8", "backslashreplace")
    return LinkMessage(name, index, bool(flags & _UP), bool(flags & _LOWER_UP), bool(flags & _LOOPBACK))


def parse_address(body: bytes | memoryview) -> tuple[int, Address] | None:
    """An RTM_NEWADDR's body as (interface index, address), None for another family. Raises OSError(EBADMSG)."""
    view = memoryview(body)
    found = netlink.attributes(view, _ADDRESS.size)
    family, _, _, _, index = _ADDRESS.unpack_from(view)
    value = found.get(_IFA_LOCAL, found.get(_IFA_ADDRESS))  # on point-to-point links IFA_ADDRESS is the peer's
    if value is None:
        return None
    if family == socket.AF_INET and len(value) == 4:
        return index, IPv4Address(bytes(value))
    if family == socket.AF_INET6 and len(value) == 16:
        return index, IPv6Address(bytes(value))
    return None


def interfaces() -> tuple[Interface, ...]:
    """Every interface of this network namespace, in the kernel's order. Raises OSError, and RelayError off Linux."""
    kernel = netlink.thread_socket()
    request = _LINK.pack(0, 0, 0, 0, 0) + netlink.attribute(_IFLA_EXT_MASK, struct.pack("=I", _SKIP_STATISTICS))
    links = [parse_link(body) for body in kernel.dump(netlink.GETLINK, request, netlink.NEWLINK)]
    addresses: dict[int, list[Address]] = {}
    for index, address in _addresses(kernel):
        addresses.setdefault(index, []).append(address)
    return tuple(
        Interface(
            link.name, link.index, link.enabled and link.carrier, tuple(addresses.get(link.index, ())), link.loopback
        )
        for link in links
    )


def own_addresses() -> frozenset[Address]:
    """Every address of this machine, whatever interface has it. Raises OSError, and RelayError off Linux."""
    return frozenset(address for _, address in _addresses(netlink.thread_socket()))


def addresses(index: int) -> frozenset[Address]:
    """The addresses of one interface; none if it is not there. Raises OSError, and RelayError off Linux."""
    return frozenset(address for at, address in _addresses(netlink.thread_socket(), index) if at == index)


def link(index: int) -> LinkMessage:
    """One interface by index. Raises OSError(ENODEV) if there is none, and as `netlink.Netlink.ask` does."""
    request = _LINK.pack(0, 0, index, 0, 0) + netlink.attribute(_IFLA_EXT_MASK, struct.pack("=I", _SKIP_STATISTICS))
    return parse_link(netlink.thread_socket().request(netlink.GETLINK, request, netlink.NEWLINK))


def index_of(name: str) -> int:
    """The index of the interface called `name`. Raises OSError(ENODEV) if there is none, and as `link` does.

    if_nametoindex(3) opens a socket and says of a process at its limit of descriptors that there is no interface.
    """
    try:
        return socket.if_nametoindex(name)
    except ValueError:  # a NUL in the name
        raise OSError(errno.ENODEV, "that is no name of an interface") from None
    except (OSError, AttributeError):  # AttributeError: not on this system
        raw = name.encode(errors="surrogateescape")
        if not 0 < len(raw) < _MOST_NAME:
            raise OSError(errno.ENODEV, "that is no name of an interface") from None
    request = _LINK.pack(0, 0, 0, 0, 0) + netlink.attribute(_IFLA_IFNAME, raw + b"\0")
    return parse_link(netlink.thread_socket().request(netlink.GETLINK, request, netlink.NEWLINK)).index


def is_pattern(text: str) -> bool:
    """Whether a zone's interface is a pattern rather than a name."""
    return "*" in text or "?" in text


def candidates(pattern: str, names: Iterable[str]) -> list[str]:
    """The `names` that match `pattern`, in order: `*` any characters, `?` one character, everything else itself."""
    means = _compiled(pattern).fullmatch
    return sorted({name for name in names if means(name)})


def match(pattern: str, names: Iterable[str]) -> str:
    """The one of `names` that `pattern` means. Raises InputRejected for none or several, naming the candidates."""
    known = sorted(set(names))
    found = candidates(pattern, known)
    if len(found) == 1:
        return found[0]
    shown = escape(pattern, 40)
    if found:
        raise InputRejected(
            f"{len(found)} interfaces match '{shown}': {_listed(found)}",
            f"name one, like interface: {escape(found[0])}",
        )
    raise InputRejected(f"no interface matches '{shown}'", f"there are {_listed(known)}" if known else "there are none")


def find(pattern: str) -> str:
    """The name that a zone's `interface` means now; a plain name is given back unasked.

    Raises InputRejected as `match` does, OSError as `names` does.
    """
    return match(pattern, names()) if is_pattern(pattern) else pattern


def names() -> list[str]:
    """The names alone, for matching a pattern. Raises OSError(ENOSYS) where the system cannot list them."""
    return list(indexes())


def indexes() -> dict[str, int]:
    """The index of each name. Raises as `names` does."""
    try:
        return {name: index for index, name in socket.if_nameindex()}
    except AttributeError:  # not on this system
        raise OSError(errno.ENOSYS, "this system cannot list its interfaces") from None


@functools.lru_cache(256)  # one per zone
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = {"*": ".*", "?": "."}
    return re.compile("".join(parts.get(letter) or re.escape(letter) for letter in pattern), re.DOTALL)


def _listed(names: list[str]) -> str:
    shown = ", ".join(escape(name, 16) for name in names[:8])
    return f"{shown} and {len(names) - 8} more" if len(names) > 8 else shown


def _addresses(kernel: netlink.Netlink, index: int = 0) -> list[tuple[int, Address]]:
    """Addresses of interface `index`, 0 for all; all of them where the kernel cannot filter (`strict`)."""
    try:
        bodies = kernel.dump(netlink.GETADDR, _ADDRESS.pack(0, 0, 0, 0, index), netlink.NEWADDR)
    except OSError as error:
        if index and error.errno == errno.ENODEV:
            return []
        raise
    return [found for found in map(parse_address, bodies) if found is not None]
