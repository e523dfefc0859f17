"""Faults of what does not answer: first the other end of the overlay, then a host of the LAN.

Each list of rules is tried in order, and only when the address was asked and did not answer.
"""

import errno
from shlex import quote

from relay.net.diagnose import remedies, zerotier_join
from relay.net.diagnose.case import Case, Diagnosis, Rule, fault, first
from relay.net.diagnose.observation import PortState, Reachability
from relay.net.probe.ping import Echo, EchoKind

ALIVE = 2.0  # seconds: a peer heard since we last asked it something is alive (an idle healthy one may be 60 s old)
STALE = 60.0  # seconds: no healthy path is older than this
_FILTERED = frozenset({9, 10, 13})  # codes of "unreachable" that packet filters send (RFC 1812 5.2.7.1)
_NO_NETWORK = 0  # RFC 792: the gateway itself has no route to the network


def far_fault(case: Case) -> Diagnosis | None:
    """The gateway for the relay, the relay for the gateway: why it does not answer."""
    far = case.seen.far
    if far is None or far.answers or not (far.asked or (far.neighbour is not None and far.neighbour.silent)):
        return None
    return _filtered_here(far, case.seen.interface) or first(_FAR_RULES, case)


def target_fault(case: Case) -> Diagnosis | None:
    """A host of the LAN: why it does not answer, everything before it being well."""
    target = case.seen.target
    if target is None or target.answers or not target.asked:
        return None
    interface = case.seen.lan if case.on_gateway else case.seen.interface
    return _filtered_here(target, interface) or first(_TARGET_RULES, case)


def _filtered_here(reach: Reachability, interface: str) -> Diagnosis | None:
    """A packet filter of this machine drops our own echoes."""
    echo = reach.echo
    if echo is None or echo.kind is not EchoKind.UNREACHABLE or echo.sender is not None or echo.code != errno.EPERM:
        return None
    what = f"a packet filter of this machine lets nothing out to {reach.address} by {interface}"
    return fault("filtered-here", what, "nft list ruleset; iptables -S OUTPUT")


def _refusal(reach: Reachability | None) -> Echo | None:
    """The "unreachable" of another machine, None where there was none."""
    echo = reach.echo if reach is not None else None
    return echo if echo is not None and echo.kind is EchoKind.UNREACHABLE and echo.sender is not None else None


def _far_unreachable(case: Case) -> Diagnosis | None:
    echo = _refusal(case.seen.far)
    if echo is None:
        return None
    what = f"{echo.sender} says of the {case.far_name} {_far_address(case)}: {echo.detail}"
    return fault(f"{case.far_name}-unreachable", what, f"on the {case.far_name}: ip -br address")


def _far_unknown(case: Case) -> Diagnosis | None:
    """Silent, and ZeroTier knows no such peer, or cannot be asked."""
    if case.peer is not None and case.joined is not None:
        return None
    no_arp = case.seen.far is not None and case.seen.far.neighbour is not None and case.seen.far.neighbour.silent
    what = _silent(case) + ("; no member of the overlay answers for its address" if no_arp else "")
    return fault(f"{case.far_name}-silent", what, zerotier_join.revive(case.far_name, case.overlay))


def _far_unauthorised(case: Case) -> Diagnosis | None:
    """Its node is heard, so one of the two ends is not let into the network."""
    peer, joined = case.peer, case.joined
    if peer is None or joined is None or peer.heard is None or peer.heard > ALIVE:
        return None
    own_node = case.seen.zerotier.node if case.seen.zerotier is not None else ""
    what = (
        f"{_silent(case)}, but its node {peer.node} is alive (heard {peer.heard:.1f} s ago): one of the two is not "
        "authorised, or a packet filter there drops pings"
    )
    cure = zerotier_join.authorise(own_node if case.on_gateway else peer.node, joined, case.seen)
    return fault(f"{case.far_name}-unauthorised", what, cure)


def _root_unreachable(case: Case) -> Diagnosis | None:
    """Neither the other end nor any root is heard: this machine's own underlay is suspect."""
    peer = case.peer
    if peer is None or (peer.heard is not None and peer.heard <= STALE):
        return None
    if not zerotier_join.rootless(case.seen, besides=peer.node):
        return None
    host = peer.path.endpoint.rpartition("/")[0] if peer.path is not None else case.plan.public or _far_address(case)
    what = f"no ZeroTier root answers, nor the {case.far_name}: {_last_heard(case)}"
    return fault(
        "root-unreachable", what, f"ping -c 3 {host}: this machine must reach it, with UDP port 9993 both ways"
    )


def _far_silent(case: Case) -> Diagnosis | None:
    what = f"{_silent(case)}; {_last_heard(case)}"
    return fault(f"{case.far_name}-silent", what, zerotier_join.revive(case.far_name, case.overlay))


def _far_address(case: Case) -> str:
    return str(case.seen.far.address) if case.seen.far is not None else ""


def _silent(case: Case) -> str:
    return f"the {case.far_name} {_far_address(case)} does not answer"


def _last_heard(case: Case) -> str:
    peer = case.peer
    if peer is None:
        return "its node is not known"
    at = f" at {peer.path.endpoint}" if peer.path is not None else ""
    heard = "was never heard" if peer.heard is None else f"was last heard {peer.heard:.0f} s ago"
    return f"its node {peer.node}{at} {heard}"


_FAR_RULES: tuple[Rule, ...] = (_far_unreachable, _far_unknown, _far_unauthorised, _root_unreachable, _far_silent)


def _target_filtered(case: Case) -> Diagnosis | None:
    target, echo = case.seen.target, _refusal(case.seen.target)
    if target is None or echo is None or target.address.version != 4 or echo.code not in _FILTERED:
        return None
    what = f"{echo.sender} does not let packets through to {_shown(target)}: {echo.detail}"
    script = f"relayctl net plan --machine gateway --zone {case.overlay.zone.name}"
    return fault("target-filtered", what, f"run on the gateway what this prints: {script}")


def _gateway_lan_down(case: Case) -> Diagnosis | None:
    target, echo = case.seen.target, _refusal(case.seen.target)
    if target is None or echo is None or echo.code != _NO_NETWORK:
        return None
    what = f"{echo.sender} has no way to {_shown(target)}: {echo.detail}"
    return fault("gateway-lan-down", what, f"{_where(case)}ip link set {_lan(case)} up")


def _target_down(case: Case) -> Diagnosis | None:
    """A router reports that the host is not there, or neighbour discovery failed on our own link."""
    target = case.seen.target
    if target is None:
        return None
    unreachable = target.echo is not None and target.echo.kind is EchoKind.UNREACHABLE
    undiscovered = target.neighbour is not None and target.neighbour.silent
    if not (unreachable or undiscovered or target.port_state is PortState.UNREACHABLE):
        return None
    what = f"{_shown(target)} is off, or has another address: the gateway finds no host there"
    return fault("target-down", what, f"switch it on; {_where(case)}ping -c 3 {target.address}")


def _target_silent(case: Case) -> Diagnosis | None:
    target, far = case.seen.target, case.seen.far
    if target is None:
        return None
    what = f"{'the gateway answers, but ' if far and far.answers else ''}nothing comes back from {_shown(target)}"
    if case.on_gateway:
        return fault("target-silent", what, f"ping -c 3 {target.address}")
    forward = remedies.forward(target.address.version)
    verify = f"relayctl net verify {case.overlay.zone.name} tells where it ends"
    return fault("target-silent", what, f"{_where(case)}ip link set {_lan(case)} up && {forward}; {verify}")


def _shown(target: Reachability) -> str:
    return f"{target.name} ({target.address})" if target.name else str(target.address)


def _where(case: Case) -> str:
    return "" if case.on_gateway else "on the gateway: "


def _lan(case: Case) -> str:
    return quote(case.lan_interface) if case.lan_interface else "LAN"


_TARGET_RULES: tuple[Rule, ...] = (_target_filtered, _gateway_lan_down, _target_down, _target_silent)
