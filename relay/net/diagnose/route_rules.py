"""Faults that the relay's route guard reports: one rule per obstacle, each with the command that removes it."""

from collections.abc import Callable
from shlex import quote

from relay.net.diagnose import remedies, zerotier_join
from relay.net.diagnose.case import Case, Diagnosis, fault
from relay.net.kernel.route_guard import Obstacle

ObstacleRule = Callable[[Case, str], tuple[str, str]]  # (case, detail of the guard) -> (what, cure)


def obstacle_fault(case: Case) -> Diagnosis | None:
    """Why the guard would refuse to dial, None when it would not."""
    check = case.seen.guard
    if check.reason is None:
        return None
    rule = _RULES.get(check.reason, _not_known)
    if check.reason in _ABOUT_ROUTES and remedies.is_set(case.seen, case.overlay, _interface(case)):
        rule = _overruled
    what, cure = rule(case, check.detail)
    return fault(check.reason.value, what, cure)


def _interface(case: Case) -> str:
    return case.seen.guard.interface or case.overlay.zone.interface


def _set_route(case: Case) -> str:
    return remedies.set_route(case.overlay, case.seen.address, _interface(case))


def _overruled(case: Case, detail: str) -> tuple[str, str]:
    what = f"{detail}; the main table is right: a rule, another table or a route that forbids comes before it"
    return what, remedies.elsewhere(case.seen.address)


def _interface_missing(case: Case, detail: str) -> tuple[str, str]:
    names = [link.name for link in case.seen.interfaces if not link.loopback]
    what = f"{detail}; there are {', '.join(names[:8])}" if names else detail
    return what, zerotier_join.bring_up(case.overlay.zone.interface, case.overlay)


def _interface_ambiguous(case: Case, detail: str) -> tuple[str, str]:
    joined = case.joined
    name = remedies.routed_by(case.seen, case.overlay) or (joined.interface if joined is not None else "")
    zone = case.overlay.zone.name
    return detail, f"write `interface: {name or 'NAME'}` for zone {zone} in policies/, then: relayctl reload"


def _interface_down(case: Case, detail: str) -> tuple[str, str]:
    return detail, f"ip link set {quote(_interface(case))} up"


def _route_missing(case: Case, detail: str) -> tuple[str, str]:
    if not case.overlay.managed:
        return detail, "relayctl net apply"
    sent = zerotier_join.sends_route(case.seen, case.overlay)
    if sent is None:
        return detail, _set_route(case)
    if sent:
        return f"{detail}; the controller sends it, and ZeroTier sets it within 30 s of its start", _set_route(case)
    managed = f"add the managed route {remedies.route_words(case.overlay, case.seen.address)}"
    panel = zerotier_join.panel(case.joined, case.seen)
    return f"{detail}; the controller does not send it", f"{panel}: {managed}; until then: {_set_route(case)}"


def _other_gateway(case: Case, detail: str) -> tuple[str, str]:
    return detail, remedies.right_route(case.seen, case.overlay, _interface(case))


def _redirected(case: Case, detail: str) -> tuple[str, str]:
    return detail, f"relayctl net apply && ip -{case.seen.address.version} route flush cache"


def _not_unicast(case: Case, detail: str) -> tuple[str, str]:
    show = f"ip route show table all match {case.seen.address}"
    return detail, f"{show}: remove the one that forbids it, then: {_set_route(case)}"


def _not_known(_: Case, detail: str) -> tuple[str, str]:
    return detail, "relayctl net status as root, on Linux"


_ABOUT_ROUTES = frozenset({Obstacle.ROUTE_MISSING, Obstacle.OTHER_GATEWAY})
_RULES: dict[Obstacle, ObstacleRule] = {
    Obstacle.INTERFACE_MISSING: _interface_missing,
    Obstacle.INTERFACE_AMBIGUOUS: _interface_ambiguous,
    Obstacle.INTERFACE_DOWN: _interface_down,
    Obstacle.ROUTE_MISSING: _route_missing,
    Obstacle.OTHER_GATEWAY: _other_gateway,
    Obstacle.REDIRECTED: _redirected,
    Obstacle.NOT_UNICAST: _not_unicast,
}
