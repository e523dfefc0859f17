"""Membership of this node in the zone's ZeroTier network, compared with the plan. Pure.

Faults and oddities are (name, what, cure); `relay.net.diagnose.diagnosis` ranks them among the other findings.
"""

from shlex import quote

from relay.core.escape import escape
from relay.core.network_plan import NetworkPlan, Overlay
from relay.net.diagnose.observation import Observation, Role, peer_of
from relay.net.zerotier.node_view import ApiStatus, JoinedNetwork, Peer

Found = tuple[str, str, str]
_SERVICE = "zerotier-one"
_MOONS = "/var/lib/zerotier-one/moons.d"


def uses_zerotier(overlay: Overlay) -> bool:
    """Whether the zone's overlay is ZeroTier's, by the plan or the interface's name."""
    return bool(overlay.network_id) or overlay.zone.interface.startswith("zt")


def trouble(seen: Observation, overlay: Overlay, plan: NetworkPlan, role: Role) -> Found | None:
    """The fault of the node or its network, None for none."""
    view = seen.zerotier
    if view is None:
        return None
    match view.status:
        case ApiStatus.NOT_INSTALLED:
            return ("zerotier-not-installed", f"ZeroTier is not here: {view.detail}",
                    f"install the package {_SERVICE}: relayctl net plan --machine {role.value} says how")  # fmt: skip
        case ApiStatus.NOT_RUNNING:
            return "zerotier-stopped", "ZeroTier is not running", f"systemctl start {_SERVICE}"
        case ApiStatus.TOKEN_REFUSED:
            return ("token-refused", "ZeroTier refuses the token in its own file: it runs with another one",
                    f"systemctl restart {_SERVICE}")  # fmt: skip
        case ApiStatus.SILENT | ApiStatus.GARBLED:
            return "zerotier-silent", f"ZeroTier does not answer: {view.detail}", f"systemctl restart {_SERVICE}"
        case ApiStatus.TOKEN_UNREADABLE:
            return _offline(seen, plan) if view.online is False else None
        case ApiStatus.ANSWERS:
            return (_offline(seen, plan) if not view.online else None) or _network(seen, overlay, role)


def oddities(
    seen: Observation, overlay: Overlay, plan: NetworkPlan, role: Role, *, troubled: bool
) -> list[Found]:  # fmt: skip
    """Findings that break nothing now: a relayed path, a missing Moon, a joined network that does not exist."""
    view = seen.zerotier
    if view is None or not view.answers:
        return []
    found: list[Found] = []
    joined = seen.joined(overlay)
    peer = peer_of(seen, joined, plan.public if role is Role.GATEWAY else None)
    if not troubled and peer is not None and peer.path is None:
        found.append(
            ("relayed", f"the way to {peer.node} is relayed by ZeroTier's roots, not direct: slow", _direct(plan))
        )
    if plan.moon and view.online and not _has_moon(seen, plan, role):
        found.append(("moon-missing", "the plan's Moon is not known to this node", _add_moon()))
    found += [
        ("network-not-found", f"it has joined {other.id}, which does not exist", f"zerotier-cli leave {other.id}")
        for other in view.networks
        if other.status == "NOT_FOUND" and other != joined
    ]
    found += [
        ("controller-silent", f"it waits for {other.id}, whose controller {other.id[:10]} does not answer",
         f"if that network is not meant: zerotier-cli leave {other.id}")
        for other in view.networks
        if other.status == "REQUESTING_CONFIGURATION" and other != joined
    ]  # fmt: skip
    return found


def sends_route(seen: Observation, overlay: Overlay) -> bool | None:
    """Whether the controller sends the zone's route; None where that is not known."""
    joined = seen.joined(overlay)
    if joined is None:
        return None
    return any(seen.address in route.target and route.via == overlay.zone.gateway for route in joined.routes)


def panel(joined: JoinedNetwork | None, seen: Observation) -> str:
    """Where the controller is configured, in words."""
    if joined is None:
        return "in the controller's web panel"
    where = "this node" if seen.zerotier is not None and joined.id[:10] == seen.zerotier.node else joined.id[:10]
    return f"in the web panel of network {joined.id} (its controller is {where})"


def authorise(node: str, joined: JoinedNetwork, seen: Observation) -> str:
    """How to authorise `node`; one command where the controller is this very node."""
    if seen.zerotier is None or joined.id[:10] != seen.zerotier.node:
        return f"{panel(joined, seen)}: authorise {node}"
    return (
        f"""printf 'X-ZT1-Auth: %s' "$(cat /var/lib/zerotier-one/authtoken.secret)" | curl -sS -H @- """
        f"""-d '{{"authorized":true}}' http://127.0.0.1:9993/controller/network/{joined.id}/member/{node}"""
    )


def rootless(seen: Observation, *, besides: str) -> bool:
    """Whether no root but perhaps the peer `besides` has a path."""
    roots = [] if seen.zerotier is None else [peer for peer in seen.zerotier.peers if peer.role in {"PLANET", "MOON"}]
    return any(peer.node == besides for peer in roots) and not any(
        peer.path is not None for peer in roots if peer.node != besides
    )


def bring_up(interface: str, overlay: Overlay) -> str:
    """The command that brings up the overlay's interface."""
    if uses_zerotier(overlay):
        return f"systemctl start {_SERVICE}"
    if interface.startswith("tailscale"):
        return "systemctl start tailscaled"
    if interface.startswith("wg"):
        return f"systemctl start wg-quick@{quote(interface)}"
    return "ip -br link: name one of these in the zone's `interface`, then: relayctl reload"


def revive(machine: str, overlay: Overlay) -> str:
    """The remedy at the other end when it is silent."""
    if uses_zerotier(overlay):
        return f"on the {machine} (is it on, and online?): systemctl restart {_SERVICE}"
    return f"on the {machine} (is it on, and online?): {bring_up(overlay.zone.interface, overlay)}"


def _offline(seen: Observation, plan: NetworkPlan) -> Found:
    what = "the ZeroTier node is offline: no root answers it"
    if plan.moon and seen.zerotier is not None and seen.zerotier.answers and not seen.zerotier.moons:
        return "node-offline", f"{what}, and it does not know the plan's Moon (orbit says OK all the same)", _add_moon()
    return "node-offline", what, _direct(plan)


def _direct(plan: NetworkPlan) -> str:
    host = f": ping -c 3 {plan.public}" if plan.public is not None else ""
    return f"let UDP port 9993 through both ways, in the provider's firewall too{host}"


def _add_moon() -> str:
    return f"install -D -m 644 -t {_MOONS} 000000*.moon && systemctl restart {_SERVICE}"


def _has_moon(seen: Observation, plan: NetworkPlan, role: Role) -> bool:
    view = seen.zerotier
    if view is None or not view.moons:
        return False
    if role is Role.RELAY:
        return any(view.node in moon.roots for moon in view.moons)
    return any(peer.role == "MOON" for peer in view.peers)


def _network(seen: Observation, overlay: Overlay, role: Role) -> Found | None:
    """The fault of the zone's network, None for none."""
    joined = seen.joined(overlay)
    view = seen.zerotier
    assert view is not None
    if joined is None:
        if not overlay.network_id:
            return (
                None
                if view.networks
                else ("network-not-joined", "the node has joined no network", "zerotier-cli join NETWORK")
            )
        return (
            "network-not-joined",
            f"the node has not joined {overlay.network_id}",
            f"zerotier-cli join {overlay.network_id}",
        )
    match joined.status:
        case "OK":
            return _addresses(joined, seen, overlay, role)
        case "ACCESS_DENIED":
            what = f"the controller does not let this node ({view.node}) into {joined.id}"
            return "access-denied", what, authorise(view.node, joined, seen)
        case "NOT_FOUND":
            what = f"there is no network {joined.id}: its id is wrong, or it was deleted"
            return "network-not-found", what, f"zerotier-cli leave {joined.id}, then join the right one"
        case "REQUESTING_CONFIGURATION":
            what = f"the controller {joined.id[:10]} of network {joined.id} does not answer"
            return (
                "controller-silent",
                what,
                f"start that controller; or, if the id is wrong: zerotier-cli leave {joined.id}",
            )
        case "PORT_ERROR":
            return (
                "port-error",
                f"ZeroTier cannot make an interface for {joined.id}",
                f"modprobe tun && systemctl restart {_SERVICE}",
            )
        case "CLIENT_TOO_OLD":
            return (
                "client-too-old",
                f"ZeroTier {view.version} is too old for {joined.id}",
                f"upgrade the package {_SERVICE}",
            )
        case _:
            what = f"network {joined.id} is in state {escape(joined.status, 40)}"
            return "network-status", what, "zerotier-cli listnetworks"


def _addresses(joined: JoinedNetwork, seen: Observation, overlay: Overlay, role: Role) -> Found | None:
    planned = overlay.relay if role is Role.RELAY else overlay.zone.gateway
    own = {assigned.ip for assigned in joined.assigned}
    wrong = f"{panel(joined, seen)}: give this member the address {planned or 'of the plan'}"
    if not joined.allow_managed:
        what = f"this node takes neither addresses nor routes from {joined.id} (allowManaged=0)"
        return "managed-disallowed", what, f"zerotier-cli set {joined.id} allowManaged=1"
    if not own:
        return "address-missing", f"the controller gives this node no address in {joined.id}", wrong
    if planned is not None and planned not in own:
        shown = ", ".join(map(str, sorted(own, key=str)))
        return "address-missing", f"this node has {shown} in {joined.id}, the plan says {planned}", wrong
    return None


def peer_words(peer: Peer, *, figures: bool = True) -> str:
    """A peer in words: direct or relayed, by which way; with `figures` also how fast and when last heard."""
    way = f"direct by {peer.path.endpoint}" if peer.path is not None else "relayed by the roots"
    if not figures:
        return f"{peer.node} {way}"
    latency = "" if peer.latency is None else f", {peer.latency * 1000:.0f} ms"
    return f"{peer.node} {way}{latency}, {'never heard' if peer.heard is None else f'heard {peer.heard:.0f} s ago'}"
