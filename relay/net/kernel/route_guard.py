"""Route guard: whether a packet for an address would leave by the zone's interface and gateway.

`guard` runs before every dial, and again after connecting. Binding the socket to the interface is not enough: with the
route missing, the kernel looks for the target on-link, and another member that claims the address is connected to
(measured; invariant 5). Two requests are made, one for the route itself and one for what the next packet uses: one
forged ICMP redirect sends the next packets to any member, whatever the routes say (measured).
"""

import errno
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from relay.core.policy.model import Address, Network
from relay.errors import RelayError
from relay.net.kernel import interfaces, netlink

# struct rtmsg: family, destination and source prefix length, tos, table, protocol, scope, type, flags
_ROUTE = struct.Struct("=BBBBBBBBI")
_NEXT_HOP = struct.Struct("=HBBi")  # struct rtnexthop: length, flags, hops, interface index
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_MULTIPATH, _RTA_TABLE, _RTA_VIA = 1, 4, 5, 6, 9, 15, 18
_RTA_SRC, _RTA_PREFSRC, _RTA_IP_PROTO, _RTA_DPORT = 2, 7, 27, 29
_UNICAST, _LOCAL = 1, 2  # RTN_*
_KINDS = {
    _LOCAL: "local",
    3: "broadcast",
    4: "anycast",
    5: "multicast",
    6: "blackhole",
    7: "unreachable",
    8: "prohibit",
}
_MAIN = 254  # RT_TABLE_MAIN
_CLONED = 0x200  # RTM_F_CLONED: a cache entry of IPv6, not a route
_TCP = netlink.attribute(_RTA_IP_PROTO, bytes([socket.IPPROTO_TCP]))
_FIB_MATCH = 0x2000  # RTM_F_FIB_MATCH: the route itself, not what a lookup makes up for a bound socket
# These say nothing of a route: no answer, one that is none, a sandbox, or no memory or descriptor to ask with
_UNASKED = frozenset({
    errno.ETIMEDOUT, errno.EBADMSG, errno.EPERM, errno.ENOSYS, errno.ENOBUFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE,
})  # fmt: skip
_DEAD = 0x01 | 0x10  # RTNH_F_DEAD | RTNH_F_LINKDOWN


@dataclass(frozen=True, slots=True)
class Hop:
    """One way out: by which interface, through whom (None: on-link), and whether its link is down."""

    index: int
    gateway: Address | None
    dead: bool


@dataclass(frozen=True, slots=True)
class RouteMessage:
    """Content of one RTM_NEWROUTE, with the kernel's numbers."""

    network: Network
    kind: int  # RTN_*
    table: int
    metric: int
    cloned: bool
    hops: tuple[Hop, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """One unicast route of the main table; `gateway` None: on-link. `metric` as the kernel has it (lower wins)."""

    network: Network
    gateway: Address | None
    interface: str
    metric: int


class Obstacle(StrEnum):
    """Why a zone cannot be dialled into now. Stable names: they stand in the audit log."""

    NOT_ASKED = "not-asked"
    INTERFACE_MISSING = "interface-missing"
    INTERFACE_AMBIGUOUS = "interface-ambiguous"  # the zone's pattern matches more than one
    INTERFACE_DOWN = "interface-down"
    ROUTE_MISSING = "route-missing"
    OTHER_GATEWAY = "other-gateway"
    REDIRECTED = "redirected"  # the routes are right, but an ICMP redirect has named another gateway
    NOT_UNICAST = "not-unicast"  # unreachable, blackhole, prohibit, or the machine itself outside lo
    INTERFACE_REMADE = "interface-remade"  # another one of that name than the target was dialled by
    SOURCE_ADDRESS = "source-address"  # the socket's own address is not one of the interface's
    SHADOWED = "shadowed"  # others' packets go another way there, and rp_filter drops the answers by the right one
    KERNEL_SILENT = "kernel-silent"  # no answer, or one that is none; and every system that is not Linux


@dataclass(frozen=True, slots=True)
class RouteCheck:
    """The answer for one dial. The zero value refuses.

    `interface` is the name to bind to. `index` is of the moment: a different one after connecting means
    that the interface was recreated meanwhile, and that the socket belongs to the old one.
    """

    reason: Obstacle | None = Obstacle.NOT_ASKED
    detail: str = ""  # for the operator only
    interface: str = ""
    index: int = 0

    @property
    def ok(self) -> bool:
        """Whether the dial may go on."""
        return self.reason is None


def parse_route(body: bytes | memoryview) -> RouteMessage | None:
    """An RTM_NEWROUTE's body, None for a family that is not IP. Raises OSError(EBADMSG) for what is not one."""
    view = memoryview(body)
    found = netlink.attributes(view, _ROUTE.size)
    family, prefix, _, _, table, _, _, kind, flags = _ROUTE.unpack_from(view)
    if family not in {socket.AF_INET, socket.AF_INET6}:
        return None
    return RouteMessage(
        network=_network(family, found.get(_RTA_DST), prefix),
        kind=kind,
        table=netlink.number(found.get(_RTA_TABLE)) or table,
        metric=netlink.number(found.get(_RTA_PRIORITY)),
        cloned=bool(flags & _CLONED),
        hops=_hops(family, flags, found),
    )


def routes() -> list[Route]:
    """The unicast routes of the main table, IPv4 first, one per next hop. Raises OSError, and RelayError off Linux."""
    kernel = netlink.thread_socket()
    names = dict(socket.if_nameindex())
    found = []
    for family in (socket.AF_INET, socket.AF_INET6):
        request = _ROUTE.pack(family, 0, 0, 0, _MAIN if kernel.strict else 0, 0, 0, 0, 0)
        try:
            bodies = kernel.dump(netlink.GETROUTE, request, netlink.NEWROUTE)
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.EOPNOTSUPP, errno.EAFNOSUPPORT}:  # no such table or family here
                continue
            raise
        for entry in map(parse_route, bodies):
            if entry is None or entry.kind != _UNICAST or entry.table != _MAIN or entry.cloned:
                continue
            found += [Route(entry.network, hop.gateway, names.get(hop.index, ""), entry.metric) for hop in entry.hops]
    return found


def guard(
    interface: str,
    address: Address,
    gateway: Address | None,
    names: Iterable[str] | None = None,
    *,
    port: int = 0,
    source: Address | None = None,
) -> RouteCheck:
    """Whether a socket bound to `interface` (a zone's name or pattern) would reach `address` as the zone says.

    With a `gateway` every next hop on that interface must be it; without one, a matching route is enough. Costs two
    netlink requests (tens of microseconds), never waits, raises nothing. A pattern is matched against `names`: those of
    all interfaces, for a caller that checks many addresses at once; None queries them. `port` (of TCP) and the socket's
    own address `source` matter where a routing rule selects by them; without one the kernel's choice is used.
    """
    name, known = interface, dict[str, int]()
    if interfaces.is_pattern(interface):
        try:
            if names is None:
                names = known = interfaces.indexes()
            found = interfaces.candidates(interface, names)
        except OSError as error:
            return RouteCheck(Obstacle.KERNEL_SILENT, str(error))
        if not found:
            return RouteCheck(Obstacle.INTERFACE_MISSING, f"no interface matches {interface!r}")
        if len(found) > 1:
            return RouteCheck(Obstacle.INTERFACE_AMBIGUOUS, f"{interface!r} matches {', '.join(found)[:200]}")
        name = found[0]
    try:
        index = known.get(name) or interfaces.index_of(name)
    except RelayError as error:
        return RouteCheck(Obstacle.KERNEL_SILENT, error.what, name)
    except OSError as error:
        if error.errno in _UNASKED:
            return RouteCheck(Obstacle.KERNEL_SILENT, str(error), name)
        return RouteCheck(Obstacle.INTERFACE_MISSING, f"there is no interface {name!r}", name)
    try:
        own = b"" if source is None else source.packed
        hop, chosen = _next_packet(address, index, port, own)
        view = _asked(address, index, port, own or chosen, _FIB_MATCH)
        # not the whole route: its network is half of the price
        route = netlink.attributes(view, _ROUTE.size)
        family, _, _, _, _, _, _, kind, flags = _ROUTE.unpack_from(view)
        hops = tuple(one for one in _hops(family, flags, route) if one.index == index)
        judged = _judge(kind, hops, RouteCheck(None, "", name, index), address, gateway)
        return _redirect(judged, hops, hop, address) if judged.ok else judged
    except OSError as error:
        judged = _why_not(error, name, index, address)
    except RelayError as error:
        return RouteCheck(Obstacle.KERNEL_SILENT, error.what, name, index)
    if source is None or judged.reason not in {Obstacle.ROUTE_MISSING, Obstacle.NOT_UNICAST}:
        return judged
    # for a source address that is not ours any more the kernel finds no route, though it has one for others
    return _lost(source, judged) if guard(name, address, gateway, port=port).ok else judged


def lookup(address: Address, index: int = 0) -> RouteMessage | None:
    """The route that a socket bound to interface `index` uses; 0: a socket that is bound to none.

    Raises OSError where the kernel says no, RelayError off Linux.
    """
    return parse_route(_asked(address, index, 0, b"", _FIB_MATCH))


def _next_packet(address: Address, index: int, port: int, source: bytes) -> tuple[bytes, bytes]:
    """(gateway, own address) of the next packet of such a socket; b"": on-link, also where it has no route."""
    found = netlink.attributes(_asked(address, index, port, source, 0), _ROUTE.size)
    gateway, own = found.get(_RTA_GATEWAY), found.get(_RTA_PREFSRC)
    if gateway is None and (via := found.get(_RTA_VIA)) is not None:
        gateway = via[2:]
    return bytes(gateway or b""), bytes(own or b"")


def _asked(address: Address, index: int, port: int, source: bytes, flags: int) -> memoryview:
    packed = address.packed
    if len(packed) == 4:
        family, own = socket.AF_INET, source if len(source) == 4 else b""
    else:  # with a source in the request, IPv6 ignores the interface
        family, own = socket.AF_INET6, b""
    request = (
        _ROUTE.pack(family, len(packed) * 8, len(own) * 8, 0, 0, 0, 0, 0, flags)
        + netlink.attribute(_RTA_DST, packed)
        + (netlink.attribute(_RTA_SRC, own) if own else b"")
        + (netlink.attribute(_RTA_OIF, struct.pack("=I", index)) if index else b"")
        + (_TCP + netlink.attribute(_RTA_DPORT, struct.pack("!H", port)) if port else b"")
    )
    return netlink.thread_socket().request(netlink.GETROUTE, request, netlink.NEWROUTE)


def _redirect(judged: RouteCheck, hops: tuple[Hop, ...], to: bytes, address: Address) -> RouteCheck:
    """The check unchanged, or REDIRECTED when the next packet goes to another gateway than its route says."""
    if judged.interface == "lo" or any(to == (hop.gateway.packed if hop.gateway else b"") for hop in hops):
        return judged
    gateway = _address(memoryview(to)) if to else None
    way = f"by {gateway}" if gateway else "on-link"
    what = f"{address} goes {way} on {judged.interface}, whatever its route says: an ICMP redirect"
    return replace(judged, reason=Obstacle.REDIRECTED, detail=what)


def _judge(kind: int, hops: tuple[Hop, ...], at: RouteCheck, address: Address, gateway: Address | None) -> RouteCheck:
    """`at` as it is, or with the reason: `hops` are those of the route that go by its interface."""
    name = at.interface
    if kind != _UNICAST and not (kind == _LOCAL and name == "lo"):
        what = f"the route to {address} is of type {_KINDS.get(kind, kind)}"
        return replace(at, reason=Obstacle.NOT_UNICAST, detail=what)
    if not hops:
        return replace(at, reason=Obstacle.ROUTE_MISSING, detail=f"no route to {address} by {name}")
    if any(hop.dead for hop in hops):
        return replace(at, reason=Obstacle.INTERFACE_DOWN, detail=f"{name} has no carrier")
    if gateway is not None:
        for hop in hops:
            if hop.gateway != gateway:
                way = f"by {hop.gateway}" if hop.gateway else "on-link"
                what = f"{address} goes {way} on {name}, not by {gateway}"
                return replace(at, reason=Obstacle.OTHER_GATEWAY, detail=what)
    return at


def _why_not(error: OSError, name: str, index: int, address: Address) -> RouteCheck:
    """The kernel found no route: because of the interface, of a route that forbids, or because there is none."""
    if error.errno in _UNASKED:
        return RouteCheck(Obstacle.KERNEL_SILENT, str(error), name, index)
    try:
        link = interfaces.link(index)
    except OSError as gone:
        if gone.errno in _UNASKED:
            return RouteCheck(Obstacle.KERNEL_SILENT, str(gone), name, index)
        return RouteCheck(Obstacle.INTERFACE_MISSING, f"{name} went away", name)
    if not (link.enabled and link.carrier):
        return RouteCheck(
            Obstacle.INTERFACE_DOWN, f"{name} is {'without carrier' if link.enabled else 'set down'}", name, index
        )
    if error.errno in {errno.EACCES, errno.EINVAL}:  # a prohibit and a blackhole route
        return RouteCheck(Obstacle.NOT_UNICAST, f"a route forbids {address} ({error.strerror})", name, index)
    return RouteCheck(Obstacle.ROUTE_MISSING, f"no route to {address} by {name} ({error.strerror})", name, index)


def _lost(source: Address, found: RouteCheck) -> RouteCheck:
    try:
        if source in interfaces.addresses(found.index):
            return found
    except (OSError, RelayError):
        return found
    return replace(found, reason=Obstacle.SOURCE_ADDRESS, detail=f"{source} is no address of {found.interface}")


def _network(family: int, value: memoryview | None, prefix: int) -> Network:
    raw = bytes(value) if value is not None else b""
    if family == socket.AF_INET:
        if prefix <= 32 and len(raw) in {0, 4}:
            return IPv4Network((raw or bytes(4), prefix), strict=False)
    elif prefix <= 128 and len(raw) in {0, 16}:
        return IPv6Network((raw or bytes(16), prefix), strict=False)
    raise OSError(errno.EBADMSG, f"netlink destination of {len(raw)} bytes with prefix {prefix}")


def _hops(family: int, flags: int, found: dict[int, memoryview]) -> tuple[Hop, ...]:
    multipath = found.get(_RTA_MULTIPATH)
    if multipath is not None:
        return _next_hops(family, multipath)
    return (_hop(family, netlink.number(found[_RTA_OIF]), flags, found),) if _RTA_OIF in found else ()


def _hop(family: int, index: int, flags: int, found: dict[int, memoryview]) -> Hop:
    gateway = found.get(_RTA_GATEWAY)
    if gateway is None and (via := found.get(_RTA_VIA)) is not None and len(via) > 2:
        gateway = via[2:]  # struct rtvia: the family, then an address of that family (IPv4 by an IPv6 gateway)
    return Hop(index, _address(gateway), bool(flags & _DEAD))


def _next_hops(family: int, data: memoryview) -> tuple[Hop, ...]:
    hops = []
    while len(data) >= _NEXT_HOP.size:
        length, flags, _, index = _NEXT_HOP.unpack_from(data)
        if length < _NEXT_HOP.size or length > len(data):
            raise OSError(errno.EBADMSG, f"netlink next hop of {length} bytes in {len(data)}")
        hops.append(_hop(family, index, flags, netlink.attributes(data[:length], _NEXT_HOP.size)))
        data = data[(length + 3) & ~3 :]
    return tuple(hops)


def _address(value: memoryview | None) -> Address | None:
    """A gateway's address; an unspecified one (IPv6 writes :: for on-link) is none. Raises OSError(EBADMSG)."""
    if value is None:
        return None
    if len(value) not in {4, 16}:
        raise OSError(errno.EBADMSG, f"netlink gateway of {len(value)} bytes")
    raw = bytes(value)
    address = IPv4Address(raw) if len(raw) == 4 else IPv6Address(raw)
    return None if address.is_unspecified else address
