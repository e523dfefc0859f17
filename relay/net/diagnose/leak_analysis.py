"""Were a zone's interface gone, where would the kernel send somebody's plain packet for the zone?

The relay's own sockets are bound and guarded; this is about everything else on the machine, and about what the
kernel forwards. Reckoned from the rules and the routes of all tables (ip-rule(8), fib_table_lookup in Linux), without
changing anything: first the rules in order, in a table the longest prefix, of equal ones the lowest metric.
"""

import errno
import socket
import struct
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from relay.core.policy.model import Address, Network
from relay.net.kernel import netlink, route_guard
from relay.net.kernel.route_guard import Hop, RouteMessage

_HEADER = struct.Struct("=BBBBBBBBI")  # struct fib_rule_hdr and struct rtmsg alike: 12 bytes
_FRA_DST, _FRA_GOTO, _FRA_PRIORITY, _FRA_FWMARK, _FRA_SUPPRESS, _FRA_TABLE = 1, 4, 6, 10, 14, 15
# what a plain packet of any program has not, or need not have: source, incoming and outgoing interface, tunnel, VRF,
# user, protocol and ports
_SELECTIVE = frozenset({2, 3, 12, 17, 19, 20, 22, 23, 24})
_TO_TABLE, _GOTO, _NOP = 1, 2, 3  # FR_ACT_*; 6 blackhole, 7 unreachable, 8 prohibit
_INVERTED = 0x2  # FIB_RULE_INVERT
_RTA_PREFSRC, _RTA_TOS_OFFSET = 7, 3
_UNICAST, _THROW = 1, 9  # RTN_*
_LOCAL_KINDS = frozenset({2, 3, 4, 5})  # local, broadcast, anycast, multicast: it stays on the machine or its links
_REFUSING = {6: "blackhole", 7: "unreachable", 8: "prohibit"}
_MOST_STEPS = 1000  # rules followed, in case of a circle of gotos
_MOST_QUESTIONS = 256  # addresses asked about per zone


@dataclass(frozen=True, slots=True)
class RoutingRule:
    """One policy rule. `fits`: whether a plain, unmarked packet is meant, apart from its destination."""

    priority: int
    action: int
    table: int
    network: Network | None  # destination; None for all
    fits: bool = True
    inverted: bool = False
    suppress: int = -1  # answers with a prefix this long or shorter do not count
    goto: int = 0


@dataclass(frozen=True, slots=True)
class Path:
    """One route with what `routes.Entry` leaves out: its preferred source."""

    entry: RouteMessage
    source: Address | None = None


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a packet. `leaves`: it goes out by the interface of `hop`; else `how` says why not."""

    address: Address
    leaves: bool = False
    hop: Hop | None = None
    network: Network | None = None  # of the route that decides
    how: str = "there is no route"


def parse_rule(body: bytes | memoryview) -> RoutingRule | None:
    """An RTM_NEWRULE's body, None for a family that is not IP. Raises OSError(EBADMSG) for what is not one."""
    view = memoryview(body)
    found = netlink.attributes(view, _HEADER.size)
    family, prefix, _, tos, table, _, _, action, flags = _HEADER.unpack_from(view)
    if family not in {socket.AF_INET, socket.AF_INET6}:
        return None
    fits = not tos and not (_SELECTIVE & found.keys()) and not netlink.number(found.get(_FRA_FWMARK))
    suppress = found.get(_FRA_SUPPRESS)
    return RoutingRule(
        priority=netlink.number(found.get(_FRA_PRIORITY)),
        action=action,
        table=netlink.number(found.get(_FRA_TABLE)) or table,
        network=_destination(family, found.get(_FRA_DST), prefix) if prefix else None,
        fits=fits,
        inverted=bool(flags & _INVERTED),
        suppress=-1 if suppress is None or netlink.number(suppress) > 128 else netlink.number(suppress),
        goto=netlink.number(found.get(_FRA_GOTO)),
    )


def parse_path(body: bytes | memoryview) -> Path | None:
    """An RTM_NEWROUTE's body; None for another family, for a cache entry, and for packets of one type of service.

    Raises OSError(EBADMSG) for what is not one.
    """
    entry = route_guard.parse_route(body)
    if entry is None or entry.cloned or memoryview(body)[_RTA_TOS_OFFSET]:
        return None
    source = netlink.attributes(memoryview(body), _HEADER.size).get(_RTA_PREFSRC)
    if source is None or len(source) not in {4, 16}:
        return Path(entry)
    whole = IPv4Network(bytes(source)) if len(source) == 4 else IPv6Network(bytes(source))
    return Path(entry, whole.network_address)


def rules(family: int) -> list[RoutingRule]:
    """The kernel's rules of AF_INET or AF_INET6, in their order. Raises OSError, and RelayError off Linux."""
    bodies = _dump(netlink.GETRULE, family, netlink.NEWRULE)
    found = [rule for rule in map(parse_rule, bodies) if rule is not None]
    return sorted(found, key=lambda rule: rule.priority)  # stable: equal ones stay as the kernel has them


def paths(family: int, networks: Sequence[Network]) -> list[Path]:
    """The routes of all tables that matter for `networks`. Raises OSError, and RelayError off Linux."""
    found = []
    for body in _dump(netlink.GETROUTE, family, netlink.NEWROUTE):
        path = parse_path(body)
        if path is not None and any(_overlap(path.entry.network, network) for network in networks):
            found.append(path)
    return found


def without(known: Iterable[Path], indexes: Collection[int], addresses: Iterable[Address]) -> list[Path]:
    """What is left of the routes when the interfaces `indexes` and their `addresses` have gone, as the kernel does."""
    gone = frozenset(addresses)
    left = []
    for path in known:
        hops = tuple(hop for hop in path.entry.hops if hop.index not in indexes)
        if path.source in gone or (path.entry.hops and not hops):
            continue
        entry = path.entry
        left.append(
            Path(RouteMessage(entry.network, entry.kind, entry.table, entry.metric, entry.cloned, hops), path.source)
        )
    return left


def fate(order: Sequence[RoutingRule], known: Sequence[Path], address: Address) -> Fate:
    """What becomes of a plain packet to `address`."""
    position = 0
    for _ in range(_MOST_STEPS):
        if position >= len(order):
            break
        rule = order[position]
        position += 1
        meant = rule.fits and (rule.network is None or address in rule.network)
        if meant == rule.inverted:
            continue
        if rule.action == _GOTO:
            # forward only, as the kernel demands it
            position += sum(1 for later in order[position:] if later.priority < rule.goto)
        elif rule.action in _REFUSING:
            return Fate(address, how=f"rule {rule.priority} is {_REFUSING[rule.action]}")
        elif rule.action == _TO_TABLE:
            decided = _in_table(known, rule, address)
            if decided is not None:
                return decided
    return Fate(address)


def questions(networks: Iterable[Network], order: Iterable[RoutingRule], known: Iterable[Path]) -> list[Address]:
    """Addresses that stand for all of `networks`: of each its ends, and the first of every part with a rule or route.

    At most 256 of them.
    """
    asked: dict[Address, None] = {}
    parts = [rule.network for rule in order if rule.network is not None] + [path.entry.network for path in known]
    for network in networks:
        asked |= dict.fromkeys(ends(network))
        for part in dict.fromkeys(parts):
            inner = part.prefixlen > network.prefixlen and _overlap(part, network)
            if inner and len(asked) < _MOST_QUESTIONS:
                asked[part.network_address] = None
    return list(asked)


def ends(network: Network) -> tuple[Address, Address]:
    """A network's first and last address that a host may have."""
    inset = 0 if network.num_addresses <= 2 else 1
    return network.network_address + inset, network.broadcast_address - inset


def fates(networks: Sequence[Network], indexes: Collection[int], addresses: Iterable[Address]) -> list[Fate]:
    """What would become of plain packets for a zone's `networks` without the interfaces `indexes` (none: as it is now).

    One per distinct fate, those that leave first. Raises OSError, and RelayError off Linux.
    """
    gone = list(addresses)
    found: dict[tuple[object, ...], Fate] = {}
    for family in (socket.AF_INET, socket.AF_INET6):
        version = 4 if family == socket.AF_INET else 6
        mine = [network for network in networks if network.version == version]
        if not mine:
            continue
        order, known = rules(family), without(paths(family, mine), indexes, gone)
        for address in questions(mine, order, known):
            one = fate(order, known, address)
            found.setdefault((one.leaves, one.hop, one.network, one.how), one)
    return sorted(found.values(), key=lambda one: not one.leaves)


def _in_table(known: Sequence[Path], rule: RoutingRule, address: Address) -> Fate | None:
    """What the rule's table says; None: nothing, so the next rule is asked."""
    entries = [path.entry for path in known if path.entry.table == rule.table and address in path.entry.network]
    for entry in sorted(entries, key=lambda entry: (-entry.network.prefixlen, entry.metric)):
        if entry.kind == _THROW:
            return None
        if entry.network.prefixlen <= rule.suppress:
            return None
        if entry.kind in _REFUSING:
            return Fate(address, network=entry.network, how=f"the route {_REFUSING[entry.kind]} {entry.network}")
        if entry.kind in _LOCAL_KINDS:
            return Fate(address, network=entry.network, how="it is an address of this machine or its link")
        alive = next((hop for hop in entry.hops if not hop.dead), None)
        if entry.kind == _UNICAST and alive is not None:
            return Fate(address, True, alive, entry.network, "")
    return None


def _dump(kind: int, family: int, answer: int) -> list[bytes]:
    try:
        return netlink.shared().dump(kind, _HEADER.pack(family, 0, 0, 0, 0, 0, 0, 0, 0), answer)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.EOPNOTSUPP, errno.EAFNOSUPPORT}:  # a kernel without that family
            return []
        raise


def _destination(family: int, value: memoryview | None, prefix: int) -> Network:
    raw = bytes(value) if value is not None else b""
    if len(raw) == (4 if family == socket.AF_INET else 16) and prefix <= len(raw) * 8:
        return ip_network((raw, prefix), strict=False)
    raise OSError(errno.EBADMSG, f"netlink rule for {len(raw)} bytes with prefix {prefix}")


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and (one.network_address in other or other.network_address in one)
