"""Reverse-path filter and shadowing routes: routes of the zone's addresses by another interface.

A socket bound to the zone's interface reaches the right host all the same, so a shadowing route refuses nothing. But
with rp_filter=1 (RFC 3704 2.2, strict) the kernel drops the answers, because they do not arrive by the interface that
it would use itself. This explains a dial that gets no answer.
"""

from pathlib import Path

from relay.core.policy.model import Address
from relay.errors import RelayError
from relay.net.kernel import interfaces, route_guard

_SETTINGS = Path("/proc/sys/net/ipv4/conf")
STRICT = 1  # rp_filter: 0 off, 1 strict, 2 loose


def shadowing_route(address: Address, interface: str, index: int) -> str:
    """The other way in words, "" if there is none. A default route is none: every address has that one.

    `interface` and `index` are the zone's. Raises nothing: "" too when the kernel cannot be queried.
    """
    try:
        entry = route_guard.lookup(address)
        if entry is None or not entry.network.prefixlen or not entry.hops or any(h.index == index for h in entry.hops):
            return ""
        hop = entry.hops[0]
        other = interfaces.link(hop.index).name
    except (OSError, RelayError):
        return ""
    way = f"by {hop.gateway} on {other}" if hop.gateway else f"on-link by {other}"
    return f"{entry.network} goes {way} for others than {interface}"


def effective_mode(interface: str) -> int | None:
    """The rp_filter in force on an interface (the greater of its own and all), None where it cannot be read."""
    values = []
    for name in ("all", interface):
        try:
            values.append(int((_SETTINGS / name / "rp_filter").read_text()))
        except (OSError, ValueError):
            return None
    return max(values)


def dropped_answers(address: Address, interface: str, index: int) -> str:
    """Why answers from `address` by the zone's interface are dropped here, "" if they are not for this reason."""
    if address.version != 4 or effective_mode(interface) != STRICT:  # IPv6 has no rp_filter
        return ""
    other = shadowing_route(address, interface, index)
    return f"{other}, and rp_filter=1 drops the answers that come by {interface}" if other else ""
