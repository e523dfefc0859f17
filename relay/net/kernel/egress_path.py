"""Egress path of one forward: the interface and route found before the dial, and what has changed since.

A bound socket leaks nothing when its path breaks, but it hangs. So the path of every open forward is checked again
after each change.
"""

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from relay.core.policy.model import Address, Zone
from relay.errors import RelayError
from relay.net.kernel import neighbours, route_guard, rp_filter
from relay.net.kernel.route_guard import Obstacle, RouteCheck

LOOPBACK = "lo"  # packets by it stay on this machine, whatever their source address
Owns = Callable[[int, Address], bool]  # whether the interface of that index has that address

# A failed query is no obstacle for an open forward: its bound socket leaks nothing, and it is checked again
_UNKNOWN = frozenset({Obstacle.KERNEL_SILENT, Obstacle.NOT_ASKED})
_UNCLEAR = frozenset({"target-silent", "target-unreachable", "target-failed", "overlay-down"})


class EgressFault(NamedTuple):
    """Why a forward did not open or had to end: stable words of the audit log, and the rest for the operator."""

    reason: str
    detail: str
    obstacle: str = ""


@dataclass(frozen=True, slots=True)
class EgressPath:
    """One path as found before the dial. `source`: the local address of the connected socket."""

    zone: Zone
    address: Address
    guard: RouteCheck
    source: Address | None = None
    port: int = 0  # of the target; 0: not known, and no rule of the kernel's asks for it

    def obstacle(self, now: RouteCheck, owns: Owns) -> tuple[Obstacle, str] | None:
        """The obstacle on this path and its detail, given the guard's present answer; None while there is none.

        Raises what `owns` raises.
        """
        if now.reason in _UNKNOWN:
            return None
        if now.reason is not None:
            return now.reason, now.detail
        if (now.interface, now.index) != (self.guard.interface, self.guard.index):
            return Obstacle.INTERFACE_REMADE, f"{self.guard.interface} was recreated since the target was dialled"
        at = self.guard
        if self.source is not None and at.interface not in ("", LOOPBACK) and not owns(at.index, self.source):
            return Obstacle.SOURCE_ADDRESS, f"{self.source} is no address of {self.guard.interface}"
        return None


def check_path(
    zone: Zone,
    address: Address,
    names: Iterable[str] | None = None,
    *,
    port: int = 0,
    source: Address | None = None,
) -> RouteCheck:
    """The guard's answer for that address of the zone. Without Linux there is no guard, and `serve` says so."""
    if sys.platform != "linux":
        return RouteCheck(None)
    return route_guard.guard(zone.interface, address, zone.gateway, names, port=port, source=source)


def explain_failure(path: EgressPath, reason: str, detail: str) -> EgressFault:
    """The cause of a failure towards the target: the zone, its gateway, or else the failure as it was reported."""
    if reason not in _UNCLEAR or sys.platform != "linux":
        return EgressFault(reason, detail)
    now = check_path(path.zone, path.address, port=path.port, source=path.source)
    found = path.obstacle(now, lambda index, address: True)
    if found is not None:
        return EgressFault("overlay-down", f"{detail}; {found[1]}" if detail else found[1], found[0])
    gateway, index = path.zone.gateway, path.guard.index
    if gateway is not None and _is_silent(gateway, index):
        what = f"the gateway {gateway} does not answer on {path.guard.interface}"
        return EgressFault("gateway-silent", f"{detail}; {what}" if detail else what)
    if reason == "target-silent" and (other := rp_filter.dropped_answers(path.address, path.guard.interface, index)):
        return EgressFault(reason, f"{detail}; {other}" if detail else other, Obstacle.SHADOWED)
    return EgressFault(reason, detail)


def _is_silent(gateway: Address, index: int) -> bool:
    try:
        found = neighbours.neighbour(gateway, index)
    except (OSError, RelayError):
        return False  # not known
    return found is not None and found.silent
