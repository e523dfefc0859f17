"""Legs of `net verify` about this machine's membership in the overlay.

Where root may query the overlay's local service, its answer also explains a missing interface, route or gateway.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from relay.core.network_plan import NetworkPlan, Overlay
from relay.net.diagnose import zerotier_join
from relay.net.diagnose.diagnosis import Diagnosis, diagnose
from relay.net.diagnose.observation import Observation, peer_of
from relay.net.diagnose.observe import ZoneObserver
from relay.net.diagnose.path_verdict import Leg
from relay.net.kernel.route_guard import Obstacle
from relay.net.zerotier import local_api
from relay.net.zerotier.node_view import ApiStatus, NodeView

NAME = "overlay"
# legs that the overlay can explain, and findings that other legs report better
_ITS_OWN = frozenset({"interface", "route", "gateway"})
_OTHERS = frozenset({"leaking", Obstacle.SHADOWED.value})


@dataclass(frozen=True, slots=True)
class Membership:
    """The overlay's view: `legs` to show, and the `fault` that explains a broken leg, if there is one."""

    legs: tuple[Leg, ...] = ()
    fault: Diagnosis | None = None

    def explained(self, legs: Iterator[Leg]) -> Iterator[Leg]:
        """The legs, with the overlay's explanation and cure at a broken one."""
        for leg in legs:
            if leg.broken and leg.name in _ITS_OWN and self.fault is not None:
                # one and the same obstacle need not be said twice
                why = "" if leg.what.startswith(self.fault.name) else f"; {self.fault.what}"
                yield replace(leg, what=f"{leg.what}{why}", cure=self.fault.cure)
            else:
                yield leg


def check_membership(
    overlay: Overlay, plan: NetworkPlan, node: Callable[[], NodeView] = local_api.read_node, *, timeout: float = 1.0
) -> Membership:
    """Query the overlay. Blocks for 5 s at most; `timeout` is that of one echo. Raises RelayError off Linux."""
    seen = ZoneObserver(overlay, None, node=node, timeout=timeout).observe()
    found = diagnose(seen, overlay, plan=plan)
    fault = next((one for one in found if one.state == "fault"), None)
    warnings = [one for one in found if one.state == "warning" and one.name not in _OTHERS]
    legs = [*_online_legs(seen, overlay), *(Leg(NAME, "warning", one.what, one.cure) for one in warnings)]
    return Membership(tuple(legs), fault)


def _online_legs(seen: Observation, overlay: Overlay) -> Iterator[Leg]:
    view, joined = seen.zerotier, seen.joined(overlay)
    if view is None:
        return
    if view.status is ApiStatus.TOKEN_UNREADABLE:
        yield Leg(NAME, "skipped", "only root can list ZeroTier's networks and peers", "sudo relayctl net verify")
    if not view.answers or joined is None or view.online is False or joined.status != "OK":
        return  # a fault or a warning says it
    peer = peer_of(seen, joined)
    path = f"; the gateway's node {zerotier_join.peer_words(peer)}" if peer is not None else ""
    yield Leg(NAME, "ok", f"ZeroTier node {view.node} is online and in {joined.name or joined.id}{path}")
