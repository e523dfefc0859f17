"""Path check of one zone, from this machine's interface to the banner of an SSH server.

It reports one leg after another and stops at the first broken one: the state of what lies behind it is unknown.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from shlex import quote

from relay.core.network_plan import NetworkPlan, Overlay
from relay.core.policy.model import Address, Host, Zone
from relay.errors import RelayError
from relay.net.diagnose import zerotier_membership
from relay.net.diagnose.observation import zone_address
from relay.net.diagnose.path_verdict import Leg
from relay.net.diagnose.zone_probe import ProbeTimeouts, ZoneProbe
from relay.net.kernel import interfaces, route_guard, rp_filter
from relay.net.kernel.interfaces import Interface
from relay.net.kernel.route_guard import Obstacle, RouteCheck
from relay.net.probe import path_mtu
from relay.net.zerotier import local_api
from relay.net.zerotier.node_view import NodeView

_OVERLAY = "is the overlay up? zerotier-cli info; zerotier-cli listnetworks; ip -br address"
_CURES = {
    Obstacle.INTERFACE_MISSING: _OVERLAY,
    Obstacle.INTERFACE_AMBIGUOUS: "name the one in `interface:` of the zone",
    Obstacle.INTERFACE_DOWN: "ip link set {interface} up",
    Obstacle.NOT_UNICAST: "ip route get {address}; ip rule",
    Obstacle.KERNEL_SILENT: "run it on the relay host itself, as root",
}
_NO_INTERFACE = frozenset({Obstacle.INTERFACE_MISSING, Obstacle.INTERFACE_AMBIGUOUS, Obstacle.INTERFACE_DOWN})


_TIMEOUTS = ProbeTimeouts()
_NO_PLAN = NetworkPlan()


@dataclass(frozen=True, slots=True)
class PathCheckRequest:
    """One zone to check. `plan` is only used for wording."""

    overlay: Overlay
    hosts: tuple[Host, ...] = ()  # whose ports are tried; none: the way ends behind the gateway
    plan: NetworkPlan = _NO_PLAN

    @property
    def zone(self) -> Zone:
        """The zone."""
        return self.overlay.zone


def no_progress(_: str) -> None:
    """Progress callback that does nothing."""


def path_legs(
    request: PathCheckRequest,
    progress: Callable[[str], None] = no_progress,
    *,
    timeouts: ProbeTimeouts = _TIMEOUTS,
    node: Callable[[], NodeView] = local_api.read_node,
) -> Iterator[Leg]:
    """The legs of the path, in order, up to the first broken one. Raises nothing on Linux, RelayError elsewhere.

    Blocks some seconds for a leg that does not answer; `progress` is called with what is waited for. `node` queries
    the overlay.
    """
    zone = request.zone
    address = zone_address(request.overlay, request.hosts[0] if request.hosts else None)
    progress("the overlay")
    member = zerotier_membership.check_membership(request.overlay, request.plan, node, timeout=timeouts.echo)
    yield from member.legs
    guard = route_guard.guard(zone.interface, address, zone.gateway, port=request.hosts[0].port if request.hosts else 0)
    found = _interface(guard.interface)
    yield from (legs := _Legs(member.explained(_local(zone, address, guard, found))))
    if legs.broken or found is None:
        return
    probe = ZoneProbe(zone, found, timeouts, progress)
    yield from (legs := _Legs(member.explained(probe.gateway(address, request.hosts))))
    if legs.broken:
        return
    for host in request.hosts:
        yield from _Legs(probe.host(host))
    if not request.hosts:
        yield Leg("target", "skipped", f"no host of {zone.name} is known", "name one in `hosts:` of a policy")


def _interface(name: str) -> Interface | None:
    """The interface of that name; None where it is not there, or the kernel cannot be queried."""
    with contextlib.suppress(OSError):
        return next((at for at in interfaces.interfaces() if at.name == name), None)
    return None


class _Legs:
    """Legs up to the first broken one; `broken` is set when there was one."""

    def __init__(self, legs: Iterator[Leg]) -> None:
        self._legs = legs
        self.broken = False

    def __iter__(self) -> Iterator[Leg]:
        for leg in self._legs:
            self.broken = leg.broken
            yield leg
            if self.broken:
                return


def _local(zone: Zone, address: Address, guard: RouteCheck, interface: Interface | None) -> Iterator[Leg]:
    """Legs from this machine's kernel: interface, route, reverse-path filter."""
    name = guard.interface or zone.interface
    if guard.reason in _NO_INTERFACE or interface is None:
        reason = guard.reason if guard.reason in _NO_INTERFACE else Obstacle.INTERFACE_MISSING
        cure = _CURES[reason].format(interface=quote(name), address=address)
        yield Leg("interface", "fault", f"{reason}: {guard.detail}{_meanwhile(address, guard)}", cure)
        return
    own = [at for at in interface.addresses if at.version == address.version and not at.is_link_local]
    if not own:
        yield Leg("interface", "fault", f"{name} has no IPv{address.version} address", _OVERLAY)
        return
    with contextlib.suppress(OSError):  # it went away this very moment: the next leg says so
        size = path_mtu.interface_mtu(name)
        shown = ", ".join(map(str, own[:4]))
        yield Leg("interface", "ok", f"{name} is up with {shown}, MTU {size}", figures=(("mtu", size),))
    via = f" via {zone.gateway}" if zone.gateway else ""
    if not guard.ok:
        network = next((net for net in zone.networks if address in net), zone.networks[0])
        cure = f"ip route replace {network}{via} dev {quote(name)}; to keep it: sudo relayctl net apply"
        if guard.reason in _CURES:
            cure = _CURES[guard.reason].format(interface=quote(name), address=address)
        yield Leg("route", "fault", f"{guard.reason}: {guard.detail}{_meanwhile(address, guard)}", cure)
        return
    yield Leg("route", "ok", f"{address} goes{via or ' on-link'} by {name}")
    mode = rp_filter.effective_mode(name) if address.version == 4 and not interface.loopback else None
    if mode is None:
        return
    why = rp_filter.dropped_answers(address, name, guard.index)
    if why:
        cure = f"sysctl -w {quote(f'net/ipv4/conf/{name}/rp_filter=2')}; to keep it: sudo relayctl net apply"
        yield Leg("rp_filter", "fault", why, cure)
        return
    words = {0: "off", 1: "strict, and the answers come the way it wants", 2: "loose"}.get(mode, "unknown")
    yield Leg("rp_filter", "ok", f"{mode} on {name}: {words}", figures=(("rp_filter", mode),))


def _meanwhile(address: Address, guard: RouteCheck) -> str:
    """Where packets of other programs go now, as an addition to a fault."""
    try:
        entry = route_guard.lookup(address)
        hop = entry.hops[0] if entry is not None and entry.hops else None
        if hop is None or hop.index == guard.index:
            return ""
        name = interfaces.link(hop.index).name
    except (OSError, RelayError):
        return ""
    return f"; packets of other programs for {address} now leave by {name}"
