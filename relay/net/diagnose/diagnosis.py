"""What is wrong with a zone, in one line, and which command cures it? Pure: an observation in, diagnoses out.

The first cause found ends the search, because what follows from it is no fault of its own: the node, its network, the
interface, the route, the other end, the target. What is odd but stops nothing is a warning.
"""

import errno
from dataclasses import dataclass
from shlex import quote
from typing import Literal

from relay.core.network_plan import NetworkPlan, Overlay
from relay.net.diagnose import remedies, zerotier_join
from relay.net.diagnose.observation import Observation, PortState, Reachability, Role, peer_of
from relay.net.kernel.interfaces import candidates
from relay.net.kernel.route_guard import Obstacle
from relay.net.kernel.rp_filter import STRICT
from relay.net.probe.ping import EchoKind
from relay.net.zerotier.node_view import ApiStatus

State = Literal["ok", "warning", "fault"]
ALIVE = 2.0  # seconds: a peer heard since we last asked it something is alive (an idle healthy one may be 60 s old)
_FILTERED = {9, 10, 13}  # RFC 1812 5.2.7.1: codes of "unreachable" by which a packet filter speaks
_NO_NETWORK = 0
STALE = 60.0  # seconds: older than this no healthy path is


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One thing found. `name` is stable, for programs; `cure` is what to type, or to do where no command can."""

    state: State
    name: str
    what: str
    cure: str = ""


def diagnose(
    seen: Observation, overlay: Overlay, *, role: Role = Role.RELAY, plan: NetworkPlan | None = None
) -> tuple[Diagnosis, ...]:
    """What the observation means: at most one fault, and it comes first; then the warnings; else one that is ok."""
    plan = plan or NetworkPlan()
    gateway = role is Role.GATEWAY
    # on the gateway a target answers without any overlay
    works = _answers(seen.far) if gateway else seen.guard.ok and (_answers(seen.far) or _answers(seen.target))
    trouble = zerotier_join.trouble(seen, overlay, plan, role)
    shadow = None if gateway else _shadowed(seen, overlay)
    fault = (
        (Diagnosis("fault", *trouble) if trouble and not works and _counts(seen, role) else None)
        or (_lan(seen, overlay) if gateway else _guard(seen, overlay))
        or (None if not gateway and _answers(seen.target) else _far(seen, overlay, plan, role))
        or (shadow if shadow is not None and shadow.state == "fault" else None)
        or _target(seen, overlay, role)
    )
    found = [fault] if fault else []
    if trouble and fault is None and seen.zerotier is not None and seen.zerotier.answers:
        found.append(Diagnosis("warning", *trouble))  # it still works, but will not when it starts anew
    found += [shadow] if shadow is not None and shadow is not fault else []
    found += [] if gateway or seen.guard.ok else _leaking(seen, overlay)
    found += [
        Diagnosis("warning", name, what, cure)
        for name, what, cure in zerotier_join.oddities(seen, overlay, plan, role, troubled=fault is not None)
    ]
    return tuple(found) or (_well(seen, overlay, role),)


def _answers(reach: Reachability | None) -> bool:
    return reach is not None and reach.answers


def _counts(seen: Observation, role: Role) -> bool:
    """Whether what ZeroTier says explains something.

    A stopped one takes its interface with it: where the interface is there, it is another's.
    """
    view = seen.zerotier
    missing = seen.link(seen.interface) is None
    if view is None or view.standing in {ApiStatus.NOT_RUNNING, ApiStatus.NOT_INSTALLED}:
        return missing
    silent = any(reach is not None and reach.asked and not reach.answers for reach in (seen.far, seen.target))
    return view.answers or silent or (missing if role is Role.GATEWAY else not seen.guard.ok)


def _guard(seen: Observation, overlay: Overlay) -> Diagnosis | None:
    """What the kernel itself says of the zone's interface and route (the relay's own guard)."""
    guard, zone = seen.guard, overlay.zone
    if guard.reason is None:
        return None
    name, what = guard.reason.value, guard.detail
    interface = guard.interface or zone.interface
    route = remedies.set_route(overlay, seen.address, interface)
    overruled = remedies.is_set(seen, overlay, interface)
    match guard.reason:
        case Obstacle.ROUTE_MISSING | Obstacle.OTHER_GATEWAY if overruled:
            what = f"{what}; the main table is right: a rule, another table or a route that forbids comes before it"
            cure = remedies.elsewhere(seen.address)
        case Obstacle.INTERFACE_MISSING:
            known = [link.name for link in seen.interfaces if not link.loopback]
            cure = zerotier_join.bring_up(zone.interface, overlay)
            what = f"{what}; there are {', '.join(known[:8])}" if known else what
        case Obstacle.INTERFACE_AMBIGUOUS:
            right = seen.joined(overlay)
            wished = remedies.routed_by(seen, overlay) or (right.interface if right is not None else "")
            cure = f"write `interface: {wished or 'NAME'}` for zone {zone.name} in policies/, then: relayctl reload"
        case Obstacle.INTERFACE_DOWN:
            cure = f"ip link set {quote(interface)} up"
        case Obstacle.ROUTE_MISSING:
            cure = route
            sent = zerotier_join.sent(seen, overlay)
            if not overlay.managed:
                cure = "relayctl net apply"
            elif sent is True:
                what = f"{what}; the controller sends it, and ZeroTier sets it within 30 s of its start"
            elif sent is False:
                what = f"{what}; the controller does not send it"
                managed = f"add the managed route {remedies.way(overlay, seen.address)}"
                cure = f"{zerotier_join.panel(seen.joined(overlay), seen)}: {managed}; until then: {route}"
        case Obstacle.OTHER_GATEWAY:
            cure = remedies.right_route(seen, overlay, interface)
        case Obstacle.REDIRECTED:
            cure = f"relayctl net apply && ip -{seen.address.version} route flush cache"
        case Obstacle.NOT_UNICAST:
            cure = f"ip route show table all match {seen.address}: remove the one that forbids it, then: {route}"
        case _:
            cure = "relayctl net status as root, on Linux"
    return Diagnosis("fault", name, what, cure)


def _lan(seen: Observation, overlay: Overlay) -> Diagnosis | None:
    """Whether the gateway has its overlay address, the LAN behind it, and forwards."""
    zone, lan = overlay.zone, overlay.lan_interface or seen.lan
    overlay_link, lan_link = seen.link(seen.interface), seen.link(lan)
    if overlay_link is None:
        return Diagnosis(
            "fault",
            "interface-missing",
            f"no single interface matches '{zone.interface}'",
            zerotier_join.bring_up(zone.interface, overlay),
        )
    if not overlay_link.up:
        return Diagnosis(
            "fault", "interface-down", f"{overlay_link.name} is down", f"ip link set {quote(overlay_link.name)} up"
        )
    if zone.gateway is not None and zone.gateway not in overlay_link.addresses:
        return Diagnosis(
            "fault",
            "address-missing",
            f"{overlay_link.name} has not the address {zone.gateway} by which the relay routes",
            f"{zerotier_join.panel(seen.joined(overlay), seen)}: give this member the address {zone.gateway}",
        )
    if lan_link is None:
        return Diagnosis("fault", "lan-missing", f"no interface has an address in {zone.networks[0]}", "ip -br address")
    if not lan_link.up:
        leak = ""
        if seen.plain is not None and seen.plain.interface != lan_link.name:
            leak = f"; packets for {seen.address} would leave by {seen.plain.interface}"
        return Diagnosis(
            "fault",
            "lan-down",
            f"{lan_link.name}, the way into {zone.networks[0]}, is down{leak}",
            f"ip link set {quote(lan_link.name)} up",
        )
    if seen.forwarding is False:
        return Diagnosis(
            "fault",
            "not-forwarding",
            "this machine does not forward packets",
            remedies.forward(zone.networks[0].version),
        )
    return None


def _filtered(reach: Reachability, interface: str) -> Diagnosis | None:
    """Whether a packet filter of this machine itself keeps us from asking."""
    echo = reach.echo
    if echo is None or echo.kind is not EchoKind.UNREACHABLE or echo.sender is not None or echo.code != errno.EPERM:
        return None
    what = f"a packet filter of this machine lets nothing out to {reach.address} by {interface}"
    return Diagnosis("fault", "filtered-here", what, "nft list ruleset; iptables -S OUTPUT")


def _far(seen: Observation, overlay: Overlay, plan: NetworkPlan, role: Role) -> Diagnosis | None:
    """The other end of the overlay: the gateway for the relay, the relay for the gateway."""
    far = seen.far
    if far is None or far.answers or not (far.asked or (far.neighbour is not None and far.neighbour.silent)):
        return None
    if filtered := _filtered(far, seen.interface):
        return filtered
    who = "gateway" if role is Role.RELAY else "relay"
    if far.echo is not None and far.echo.kind is EchoKind.UNREACHABLE and far.echo.sender is not None:
        return Diagnosis(
            "fault",
            f"{who}-unreachable",
            f"{far.echo.sender} says of the {who} {far.address}: {far.echo.detail}",
            f"on the {who}: ip -br address",
        )
    joined = seen.joined(overlay)
    peer = peer_of(seen, joined, plan.public if role is Role.GATEWAY else None)
    silent = f"the {who} {far.address} does not answer"
    if peer is None or joined is None:
        found = "; nobody in the overlay answers for its address" if far.neighbour and far.neighbour.silent else ""
        return Diagnosis("fault", f"{who}-silent", silent + found, zerotier_join.revive(who, overlay))
    heard = "was never heard" if peer.heard is None else f"was last heard {peer.heard:.0f} s ago"
    if peer.heard is not None and peer.heard <= ALIVE:
        return Diagnosis(
            "fault",
            f"{who}-unauthorised",
            f"{silent}, but its node {peer.node} is alive (heard {peer.heard:.1f} s ago): one of the two is not "
            "authorised, or a packet filter there drops pings",
            zerotier_join.authorise(peer.node if role is Role.RELAY else (seen.zerotier.node if seen.zerotier else ""),
                              joined, seen),
        )  # fmt: skip
    at = f" at {peer.path.endpoint}" if peer.path is not None else ""
    if (peer.heard is None or peer.heard > STALE) and zerotier_join.rootless(seen, besides=peer.node):
        host = peer.path.endpoint.rpartition("/")[0] if peer.path is not None else str(plan.public or far.address)
        return Diagnosis(
            "fault",
            "root-unreachable",
            f"no ZeroTier root answers, nor the {who}: its node {peer.node}{at} {heard}",
            f"ping -c 3 {host}: this machine must reach it, with UDP port 9993 both ways",
        )
    return Diagnosis(
        "fault", f"{who}-silent", f"{silent}; its node {peer.node}{at} {heard}", zerotier_join.revive(who, overlay)
    )


def _target(seen: Observation, overlay: Overlay, role: Role) -> Diagnosis | None:
    """A host in the LAN, asked through all that was found well before."""
    target = seen.target
    if target is None or target.answers or not target.asked:
        return None
    if filtered := _filtered(target, seen.interface if role is Role.RELAY else seen.lan):
        return filtered
    shown = f"{target.name} ({target.address})" if target.name else str(target.address)
    at = "" if role is Role.GATEWAY else "on the gateway: "
    verify = "" if role is Role.GATEWAY else f"; relayctl net verify {overlay.zone.name} tells where it ends"
    lan = quote(overlay.lan_interface or seen.lan) if overlay.lan_interface or seen.lan else "LAN"
    echo = target.echo
    if echo is not None and echo.kind is EchoKind.UNREACHABLE and echo.sender is not None:
        if echo.code in _FILTERED and target.address.version == 4:
            return Diagnosis(
                "fault",
                "target-filtered",
                f"{echo.sender} does not let packets through to {shown}: {echo.detail}",
                f"run on the gateway what this prints: relayctl net plan --machine gateway --zone {overlay.zone.name}",
            )
        if echo.code == _NO_NETWORK:
            return Diagnosis(
                "fault",
                "gateway-lan-down",
                f"{echo.sender} has no way to {shown}: {echo.detail}",
                f"{at}ip link set {lan} up",
            )
    if _off(target):
        return Diagnosis(
            "fault",
            "target-down",
            f"{shown} is off, or has another address: the gateway finds nobody there",
            f"switch it on; {at}ping -c 3 {target.address}",
        )
    forward = remedies.forward(target.address.version)
    return Diagnosis(
        "fault",
        "target-silent",
        f"{'the gateway answers, but ' if seen.far and seen.far.answers else ''}nothing comes back from {shown}",
        f"{at}ip link set {lan} up && {forward}{verify}" if at else f"ping -c 3 {target.address}",
    )


def _off(target: Reachability) -> bool:
    """Whether somebody, or our own ARP where the target is on our link, says that it is not there."""
    unreachable = target.echo is not None and target.echo.kind is EchoKind.UNREACHABLE
    return unreachable or target.door is PortState.UNREACHABLE or bool(target.neighbour and target.neighbour.silent)


def _shadowed(seen: Observation, overlay: Overlay) -> Diagnosis | None:
    """An own NIC in the zone's prefix: the relay's sockets are bound and go right, everybody else's do not."""
    plain = seen.plain
    if not seen.guard.ok or plain is None or not plain.network.prefixlen or plain.interface == seen.guard.interface:
        return None
    other = seen.link(plain.interface)
    own = next((one for one in other.addresses if one in plain.network), None) if other is not None else None
    cure = (
        f"ip address del {own}/{plain.network.prefixlen} dev {quote(plain.interface)}"
        if own is not None
        else f"ip route del {plain.network}{f' via {plain.gateway}' if plain.gateway else ''} dev {plain.interface}"
    )
    drops = seen.reverse_path == STRICT and seen.address.version == 4
    silenced = drops and seen.target is not None and seen.target.asked and not seen.target.answers
    what = f"{plain.interface} has {plain.network} of its own, which is the zone {overlay.zone.name}'s"
    what += (
        f": rp_filter=1 drops the answers by {seen.guard.interface}"
        if drops
        else f": the relay goes by {seen.guard.interface} all the same, other programs do not"
    )
    return Diagnosis("fault" if silenced else "warning", Obstacle.SHADOWED.value, what, cure)


def _leaking(seen: Observation, overlay: Overlay) -> list[Diagnosis]:
    if seen.plain is None or candidates(overlay.zone.interface, [seen.plain.interface]):
        return []
    by = f" through {seen.plain.gateway}" if seen.plain.gateway else ""
    what = f"other programs' packets for {seen.address} leave by {seen.plain.interface}{by} meanwhile"
    return [Diagnosis("warning", "leaking", what, "relayctl net apply")]


def _well(seen: Observation, overlay: Overlay, role: Role) -> Diagnosis:
    if role is Role.GATEWAY:
        return Diagnosis("ok", "well", f"{overlay.lan_interface or seen.lan} and {seen.interface} are up")
    through = f" through {overlay.zone.gateway}" if overlay.zone.gateway else ""
    if seen.target is not None and seen.target.answers:
        return Diagnosis("ok", "well", f"{seen.target.name or seen.target.address} answers{through}")
    return Diagnosis("ok", "well", f"{seen.address} goes by {seen.guard.interface}{through}")
