"""Addresses that are refused regardless of the rules (DESIGN, invariant 4).

An IPv6 address that embeds an IPv4 address (6to4, NAT64, Teredo) is refused if the embedded address is forbidden,
because a translating host would connect to that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, ip_network

from relay.core.policy.model import Address, Destination, Zone
from relay.core.policy.target import Target

CONTROL_PORT = 9993  # of the overlay (ZeroTier): its local API is full control of the network

_KINDS = (  # network, what it is
    ("0.0.0.0/8", "the unspecified network"),  # RFC 1122 3.2.1.3
    ("169.254.0.0/16", "link-local"),  # RFC 3927; most clouds serve metadata at 169.254.169.254
    ("224.0.0.0/4", "multicast"),  # RFC 5771
    ("255.255.255.255/32", "the limited broadcast address"),  # RFC 919
    ("100.100.100.200/32", "a metadata service"),  # Alibaba Cloud
    ("168.63.129.16/32", "a metadata service"),  # Azure
    ("192.0.0.192/32", "a metadata service"),  # Oracle Cloud
    ("::/128", "the unspecified address"),
    ("fe80::/10", "link-local"),  # RFC 4291 2.5.6
    ("ff00::/8", "multicast"),  # RFC 4291 2.7
    ("fd00:ec2::254/128", "a metadata service"),  # AWS
    ("fd20:ce::254/128", "a metadata service"),  # Google Cloud
    ("fd00:42::42/128", "a metadata service"),  # Scaleway
    ("::ffff:0:0/96", "an IPv4-mapped IPv6 address"),  # RFC 4291 2.5.5.2; parsing turns these into IPv4
)
_LOOPBACK = {4: (8, 127), 6: (128, 1)}  # version: prefix length, prefix (RFC 1122 3.2.1.3, RFC 4291 2.5.3)
_EMBEDDED = (  # network, bits to the right of the embedded IPv4 address, mask that its bits are XORed with
    ("2002::/16", 80, 0),  # 6to4, RFC 3056
    ("64:ff9b::/96", 0, 0),  # NAT64, RFC 6052
    ("64:ff9b:1::/48", 0, 0),  # NAT64 for local use, RFC 8215, used as /96
    ("2001::/32", 0, 0xFFFFFFFF),  # Teredo, RFC 4380: the client's address, inverted
    ("::/96", 0, 0),  # IPv4-compatible, RFC 4291 2.5.5.1
)


def _compiled(text: str) -> tuple[int, int, int]:
    """(version, shift, prefix): `value >> shift == prefix` compares integers, 40 times faster than `in`."""
    network = ip_network(text)
    shift = network.max_prefixlen - network.prefixlen
    return network.version, shift, int(network.network_address) >> shift


_TABLE = tuple((*_compiled(text), kind) for text, kind in _KINDS)
_V4 = tuple((shift, prefix, kind) for version, shift, prefix, kind in _TABLE if version == 4)
_V6 = tuple((shift, prefix, kind) for version, shift, prefix, kind in _TABLE if version == 6)
_INSIDE = tuple((*_compiled(text)[1:], right, flip) for text, right, flip in _EMBEDDED)


def forbidden_kind(address: Address, *, loopback: bool = False) -> str:
    """The kind of an address that is forbidden in every zone, for the operator; "" for other addresses.

    `loopback` permits 127.0.0.0/8 and ::1, for a zone whose interface is lo.
    """
    return _forbidden_kind(address.version, int(address), loopback)


def _forbidden_kind(version: int, value: int, loopback: bool) -> str:
    length, prefix = _LOOPBACK[version]
    if value >> ((32 if version == 4 else 128) - length) == prefix:
        return "" if loopback else "loopback"
    for shift, prefix, kind in _V4 if version == 4 else _V6:
        if value >> shift == prefix:
            return kind
    if version == 6:
        for shift, prefix, right, flip in _INSIDE:
            if value >> shift == prefix:
                inside = (value >> right & 0xFFFFFFFF) ^ flip
                kind = _forbidden_kind(4, inside, False)
                if kind:
                    return f"{IPv4Address(inside)} inside an IPv6 address ({kind})"
    return ""


@dataclass(frozen=True, slots=True)
class ForbiddenAddresses:
    """The forbidden addresses of this relay: its listeners, its public address and its zones' broadcast addresses."""

    listeners: tuple[tuple[Address | None, int], ...] = ()  # None: every address of this machine
    public: Address | None = None
    loopback: frozenset[str] = frozenset()  # zones whose interface is lo
    broadcast: frozenset[tuple[str, int]] = frozenset()  # (zone, IPv4 address as a number)

    def reason(self, destination: Destination, own: frozenset[Address]) -> str:
        """Why `destination` is forbidden; "" if it is not. `own` are this machine's addresses."""
        address, port = destination.address, destination.port
        on_loopback = destination.zone in self.loopback
        value = int(address)
        kind = _forbidden_kind(address.version, value, on_loopback)
        if kind:
            return f"{address} is {kind}"
        if port == CONTROL_PORT:
            return f"port {port} is the overlay's control port"
        if address == self.public:
            return f"{address} is the public address of this relay"
        if address.version == 4 and (destination.zone, value) in self.broadcast:
            return f"{address} is the network or broadcast address of a network of {destination.zone}"
        for listener, listening_port in self.listeners:
            if listening_port == port and (
                address == listener or (listener is None and (address in own or address.is_loopback))
            ):
                return f"{address}:{port} is this relay itself"
        return ""


def compile_forbidden(
    zones: Sequence[Zone], listeners: Sequence[tuple[Address | None, int]], public: Target | None
) -> ForbiddenAddresses:
    """The forbidden addresses for these zones. An unspecified listener (0.0.0.0 or ::) stands for every address."""
    broadcast = set()
    for zone in zones:
        for network in zone.networks:
            if isinstance(network, IPv4Network) and network.prefixlen < 31:  # a /31 has no broadcast address: RFC 3021
                broadcast.add((zone.name, int(network.network_address)))
                broadcast.add((zone.name, int(network.broadcast_address)))
    return ForbiddenAddresses(
        listeners=tuple(
            (None if address is None or address.is_unspecified else address, n) for address, n in listeners
        ),
        public=None if public is None else public.address,
        loopback=frozenset(zone.name for zone in zones if zone.interface == "lo"),
        broadcast=frozenset(broadcast),
    )
