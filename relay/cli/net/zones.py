"""Zones of the site with their overlays, and the host that stands for each. For `relayctl net`."""

import time
from dataclasses import dataclass

from relay.cli.net import plan_input
from relay.core.network_plan import NetworkPlan, Overlay
from relay.core.policy.model import Host
from relay.core.policy.policy import Policy
from relay.errors import InputRejected, RelayError, SiteInvalid
from relay.site import diff, network_file
from relay.site.locate import Site
from relay.site.policy import compiler


@dataclass(frozen=True, slots=True)
class PlannedZones:
    """The plan has one overlay per zone. `notes`: problems in the files, one line each."""

    plan: NetworkPlan
    hosts: tuple[Host, ...]
    notes: tuple[str, ...] = ()

    def host(self, zone: str) -> Host | None:
        """The host that stands for a zone: the first that is not its gateway, which answers without any LAN."""
        own = {overlay.lan_address for overlay in self.plan.overlays if overlay.zone.name == zone}
        there = [host for host in self.hosts if host.zone == zone]
        behind = [host for host in there if host.address not in own and host.name != "gateway"]
        return next(iter(behind or there), None)

    def overlays(self, *names: str) -> tuple[Overlay, ...]:
        """The overlays of these zones, without names of all. Raises InputRejected for a zone that is not there."""
        known = {overlay.zone.name: overlay for overlay in self.plan.overlays}
        for name in names:
            if name not in known:
                there = ", ".join(sorted(known)) or "none"
                raise InputRejected(f"there is no zone {name!r}", f"the policy's zones: {there}")
        return tuple(known[name] for name in names) if names else tuple(known.values())


def read_zones(site: Site) -> PlannedZones:
    """The zones of the site's files, else of what is applied. Raises SiteInvalid where neither gives any."""
    examination = compiler.examine(site.path, now=int(time.time()))
    notes: list[str] = []
    policy = None if examination.compiled is None else examination.compiled.policy
    if policy is None:
        policy = _applied(site)
        if policy is None:
            failing = (failure.fault() for failure in examination.failures)
            raise SiteInvalid((*examination.faults, *failing), compiler.HINT)
        notes.append("the files are not valid (relayctl check); these are the zones that are applied")
    plan, faults = network_file.examine(site.path, policy.inventory.zones.values())
    plan = plan_input.with_public(plan, examination.settings.public)
    return PlannedZones(plan, tuple(policy.inventory.hosts.values()), (*notes, *map(str, faults)))


def _applied(site: Site) -> Policy | None:
    try:
        applied = diff.read(site.state)
        return None if applied is None else applied.policy()
    except RelayError:
        return None
