"""State of the relay host's own guard: whether what `net apply` makes is in place, complete and loaded.

The guard is the nft table, the unreachable routes, the files and the systemd unit of the plan. Without it the relay
still refuses to dial, but other programs' packets for a zone may leave by another interface once the zone's is gone.
"""

import os
from collections.abc import Iterator

from relay.core.network_plan import NetworkPlan
from relay.errors import RelayError
from relay.net.apply import kernel_state, managed_files, managed_routes, preview
from relay.net.diagnose.path_verdict import Leg
from relay.net.plan.machine import TABLE, UNIT, Machine
from relay.net.plan.relay_host import RULES, relay_machine

NAME = "guard"
_RISK = "may leave by another interface"
_MOST_FILES = 3  # named in one line


def check_guard(plan: NetworkPlan) -> tuple[Leg, ...]:
    """Whether the nft table, unreachable routes and files of the plan are in place: a result for each missing one.

    One `ok` result if all are there, `skipped` without root, `warning` if it cannot be checked, none if all zones are
    on lo. Never raises.
    """
    zones = [overlay.zone.name for overlay in plan.overlays if overlay.zone.interface != "lo"]
    if not zones:
        return ()
    if os.geteuid() != 0:
        return (Leg(NAME, "skipped", "only root can list nft rules", "sudo relayctl net verify"),)
    try:
        method = _applied_method()
        found = tuple(_missing(relay_machine(plan, method=method), ", ".join(zones), _apply(method)))
    except RelayError as error:
        return (Leg(NAME, "warning", f"it cannot be checked: {error.what}", error.hint),)
    return found or (Leg(NAME, "ok", f"nft table {TABLE}, the unreachable routes and the files are as planned"),)


def _missing(machine: Machine, zones: str, cure: str) -> Iterator[Leg]:
    """Each part that is missing, or differs from the plan. Raises RelayError when nft or ip does not answer."""
    wanted = next(file.text for file in machine.files if file.path == RULES)
    loaded = kernel_state.read_rules()
    if not loaded:
        yield Leg(NAME, "fault", f"nft table {TABLE} is not loaded: packets for {zones} {_RISK}", cure)
    elif loaded != kernel_state.normalized_rules(wanted):
        yield Leg(NAME, "fault", f"nft table {TABLE} is not as planned: packets for {zones} {_RISK}", cure)
    routes = managed_routes.read_routes()
    for route in machine.kernel.routes:
        if not route.interface and managed_routes.route_line(route, "") not in routes:
            what = f"the route `unreachable {route.network}` is missing: packets for it {_RISK}"
            yield Leg(NAME, "fault", what, cure)
    differing = [file.path for file in machine.files if not _is_written(file.path, file.text)]
    if differing:
        more = " ..." if len(differing) > _MOST_FILES else ""
        what = f"not as planned: {' '.join(differing[:_MOST_FILES])}{more}; the guard may be another after a restart"
        yield Leg(NAME, "warning", what, cure)
    if preview.has_systemd():
        unit = preview.read_unit()
        if not unit.enabled:
            yield Leg(NAME, "warning", f"{UNIT} is not enabled: nothing loads the guard after a restart", cure)
        if not unit.active:
            yield Leg(NAME, "warning", f"{UNIT} is not active: nothing restores what other programs remove", cure)


def _applied_method() -> int:
    """The method of the rules on disk: only those of method 2 masquerade."""
    found = managed_files.read_file(RULES)
    return 2 if found is not None and b" masquerade" in found.content else 1


def _apply(method: int) -> str:
    return "sudo relayctl net apply" + (" --method 2" if method == 2 else "")


def _is_written(path: str, text: str) -> bool:
    found = managed_files.read_file(path)
    return found is not None and found.content == text.encode()
