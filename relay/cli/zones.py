"""Which zones are there, what is known of their overlays, and which host stands for each? For `relayctl net`."""

import time
from dataclasses import dataclass

from relay.cli import network_plan
from relay.core.network import NetworkPlan, Overlay
from relay.core.policy import Policy
from relay.core.rules import Host
from relay.errors import InputRejected, RelayError, SiteInvalid
from relay.site import compile as compiler
from relay.site import difference, network
from relay.site.locate import Site


@dataclass(frozen=True, slots=True)
class Zones:
    """The plan has one overlay per zone. `notes`: what is not as it should be in the files, a line each."""

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


def read(site: Site) -> Zones:
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
    plan, faults = network.examine(site.path, policy.inventory.zones.values())
    plan = network_plan.with_public(plan, examination.settings.public)
    return Zones(plan, tuple(policy.inventory.hosts.values()), (*notes, *map(str, faults)))


def _applied(site: Site) -> Policy | None:
    try:
        applied = difference.read(site.state)
        return None if applied is None else applied.policy()
    except RelayError:
        return None
