"""Diagnosis of one zone: an observation in, findings with their cures out. Pure.

A zone has at most one fault, the first of a sequence of rules: the ZeroTier node and its network, interface and route,
the other end, the target. What follows from it is no fault of its own. An oddity that stops nothing is a warning.
"""

from dataclasses import replace
from shlex import quote

from relay.core.network_plan import NetworkPlan, Overlay
from relay.net.diagnose import zerotier_join
from relay.net.diagnose.case import Case, Diagnosis, Rule, State, answers, first
from relay.net.diagnose.gateway_rules import GATEWAY_RULES
from relay.net.diagnose.observation import Observation, Role
from relay.net.diagnose.reach_rules import far_fault, target_fault
from relay.net.diagnose.route_rules import obstacle_fault
from relay.net.kernel.interfaces import candidates
from relay.net.kernel.route_guard import Obstacle
from relay.net.kernel.rp_filter import STRICT
from relay.net.zerotier.node_view import ApiStatus

__all__ = ["Diagnosis", "State", "diagnose"]


def diagnose(
    seen: Observation, overlay: Overlay, *, role: Role = Role.RELAY, plan: NetworkPlan | None = None
) -> tuple[Diagnosis, ...]:
    """The findings: at most one fault, and it comes first; then the warnings; one that is ok when there is neither."""
    case = Case(seen, overlay, plan or NetworkPlan(), role)
    fault = first(_GATEWAY_FAULTS if case.on_gateway else _RELAY_FAULTS, case)
    findings = [fault] if fault is not None else []
    if fault is None and (later := _trouble_at_next_start(case)) is not None:
        findings.append(later)
    if not case.on_gateway:
        shadow = _shadowed(case)
        if shadow is not None and (fault is None or fault.name != shadow.name):
            findings.append(replace(shadow, state="warning"))
        findings += _leaking(case)
    oddities = zerotier_join.oddities(seen, overlay, case.plan, role, troubled=fault is not None)
    findings += [Diagnosis("warning", name, what, cure) for name, what, cure in oddities]
    return tuple(findings) or (_well(case),)


def _zerotier_fault(case: Case) -> Diagnosis | None:
    """A fault of ZeroTier, where the zone does not work and the fault explains it."""
    trouble = zerotier_join.trouble(case.seen, case.overlay, case.plan, case.role)
    return Diagnosis("fault", *trouble) if trouble and not _works(case) and _zerotier_explains(case) else None


def _works(case: Case) -> bool:
    seen = case.seen
    if case.on_gateway:  # there a target answers without any overlay
        return answers(seen.far)
    return seen.guard.ok and (answers(seen.far) or answers(seen.target))


def _zerotier_explains(case: Case) -> bool:
    """Whether ZeroTier's state explains a fault.

    A stopped ZeroTier takes its interface with it: if the interface is there, another program made it.
    """
    seen, view = case.seen, case.seen.zerotier
    missing = seen.link(seen.interface) is None
    if view is None or view.status in {ApiStatus.NOT_RUNNING, ApiStatus.NOT_INSTALLED}:
        return missing
    silent = any(reach is not None and reach.asked and not reach.answers for reach in (seen.far, seen.target))
    return view.answers or silent or (missing if case.on_gateway else not seen.guard.ok)


def _gateway_fault(case: Case) -> Diagnosis | None:
    return first(GATEWAY_RULES, case)


def _far_fault_unless_target_answers(case: Case) -> Diagnosis | None:
    return None if answers(case.seen.target) else far_fault(case)


def _silenced(case: Case) -> Diagnosis | None:
    """A shadow with strict rp_filter, which drops the target's answers."""
    shadow = _shadowed(case)
    return shadow if shadow is not None and shadow.state == "fault" else None


_RELAY_FAULTS: tuple[Rule, ...] = (
    _zerotier_fault,
    obstacle_fault,
    _far_fault_unless_target_answers,
    _silenced,
    target_fault,
)
_GATEWAY_FAULTS: tuple[Rule, ...] = (_zerotier_fault, _gateway_fault, far_fault, target_fault)


def _trouble_at_next_start(case: Case) -> Diagnosis | None:
    """The zone works, but will not once ZeroTier or the machine restarts."""
    view = case.seen.zerotier
    trouble = zerotier_join.trouble(case.seen, case.overlay, case.plan, case.role)
    return Diagnosis("warning", *trouble) if trouble and view is not None and view.answers else None


def _shadowed(case: Case) -> Diagnosis | None:
    """A network card in the zone's prefix: the relay's bound sockets take the right way, other programs do not."""
    seen, plain, zone = case.seen, case.seen.plain, case.overlay.zone
    if not seen.guard.ok or plain is None or not plain.network.prefixlen or plain.interface == seen.guard.interface:
        return None
    link = seen.link(plain.interface)
    address = next((address for address in link.addresses if address in plain.network), None) if link else None
    via = f" via {plain.gateway}" if plain.gateway else ""
    cure = f"ip route del {plain.network}{via} dev {plain.interface}"
    if address is not None:
        cure = f"ip address del {address}/{plain.network.prefixlen} dev {quote(plain.interface)}"
    what = f"{plain.interface} has {plain.network} of its own, which is the zone {zone.name}'s: "
    if seen.reverse_path != STRICT or seen.address.version != 4:
        what += f"the relay goes by {seen.guard.interface} all the same, other programs do not"
        return Diagnosis("warning", Obstacle.SHADOWED.value, what, cure)
    what += f"rp_filter=1 drops the answers by {seen.guard.interface}"
    silenced = seen.target is not None and seen.target.asked and not seen.target.answers
    return Diagnosis("fault" if silenced else "warning", Obstacle.SHADOWED.value, what, cure)


def _leaking(case: Case) -> list[Diagnosis]:
    """While the guard refuses to dial, other programs' packets leave by another interface."""
    plain, zone = case.seen.plain, case.overlay.zone
    if case.seen.guard.ok or plain is None or candidates(zone.interface, [plain.interface]):
        return []
    by = f" through {plain.gateway}" if plain.gateway else ""
    what = f"other programs' packets for {case.seen.address} leave by {plain.interface}{by} meanwhile"
    return [Diagnosis("warning", "leaking", what, "relayctl net apply")]


def _well(case: Case) -> Diagnosis:
    seen = case.seen
    if case.on_gateway:
        return Diagnosis("ok", "well", f"{case.lan_interface} and {seen.interface} are up")
    gateway = case.overlay.zone.gateway
    through = f" through {gateway}" if gateway else ""
    if seen.target is not None and seen.target.answers:
        return Diagnosis("ok", "well", f"{seen.target.name or seen.target.address} answers{through}")
    return Diagnosis("ok", "well", f"{seen.address} goes by {seen.guard.interface}{through}")
