"""Reader of network.yaml, checked against the policy's zones.

Command-line flags can set everything in it and override the file. Without the file each zone is an overlay without
further data: it can be watched, but not planned.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from relay.core.network_plan import NetworkPlan, Overlay, OverlayMember
from relay.core.policy.model import Address, Zone
from relay.errors import Fault, SiteInvalid
from relay.site import files
from relay.site.network_models import NetworkFile, OverlayEntry
from relay.site.policy import validation
from relay.site.policy.merge import nearest
from relay.site.yaml import yaml_document
from relay.site.yaml.yaml_document import YamlDocument

NAME = "network.yaml"
FLAGS = "command line"  # the file name in faults of flags

Data = Mapping[str, object]


def read(site: Path, zones: Iterable[Zone], flags: Data | None = None) -> NetworkPlan:
    """The plan of the site at `site`, for these zones. `flags` has the shape of the file and overrides it.

    Raises SiteInvalid with every fault.
    """
    plan, faults = examine(site, zones, flags)
    if faults:
        raise SiteInvalid(faults)
    return plan


def examine(
    site: Path, zones: Iterable[Zone] | None, flags: Data | None = None
) -> tuple[NetworkPlan, tuple[Fault, ...]]:
    """The valid part of the plan, and the faults; `zones` None: unknown, because the policy has faults."""
    raw, faults = files.read_one(site, NAME)
    return parse(raw, zones, flags, faults)


def parse(
    raw: bytes | None, zones: Iterable[Zone] | None, flags: Data | None = None, faults: Iterable[Fault] = ()
) -> tuple[NetworkPlan, tuple[Fault, ...]]:
    """As `examine`, for the bytes of the file; None without one."""
    given = yaml_document.read(NAME, raw or b"")
    typed = YamlDocument(FLAGS, "", dict(flags or {}), {(): 0})
    file, wrong = validation.network(given)
    above, more = validation.network(typed)
    checker = _Checker(given, typed, None if zones is None else tuple(zones), [*faults, *wrong, *more])
    plan = checker.plan(file, above)
    return plan, tuple(sorted(set(checker.faults)))


@dataclass(slots=True)
class _Checker:
    given: YamlDocument
    typed: YamlDocument
    zones: tuple[Zone, ...] | None
    faults: list[Fault]

    def plan(self, file: NetworkFile, above: NetworkFile) -> NetworkPlan:
        """The file overridden by the flags, checked against the zones."""
        zones = {zone.name: zone for zone in self.zones or ()}
        overlays = {name: Overlay(zone) for name, zone in zones.items()}
        for name in sorted({*file.overlays, *above.overlays}):
            if name in zones:
                entry = _above(file.overlays.get(name), above.overlays.get(name))
                overlays[name] = self._overlay(zones[name], entry)
            elif self.zones is not None:
                cure = nearest(name, zones, "define it under `zones:` in policies/")
                self._fault(("overlays", name), f"the policy has no zone {name}", cure)
        public = above.relay.public or file.relay.public
        moon = above.moon if "moon" in above.model_fields_set else file.moon
        self._apart(tuple(overlays.values()))
        return NetworkPlan(tuple(overlays[name] for name in sorted(overlays)), public, moon)

    def _overlay(self, zone: Zone, entry: OverlayEntry) -> Overlay:
        made = Overlay(
            zone=zone,
            network_id=entry.network_id,
            network=entry.network,
            relay=entry.relay,
            lan_interface=entry.lan_interface,
            lan_address=entry.lan_address,
            managed=entry.route == "managed",
            members=tuple(OverlayMember(name, address) for name, address in sorted(entry.members.items())),
        )
        self._inside(made)
        self._different(made)
        if zone.interface == "lo":
            self._fault(
                ("overlays", zone.name), f"the zone {zone.name} is on lo: nothing is joined for it", "remove it"
            )
        if entry.lan_address is not None and not any(entry.lan_address in network for network in zone.networks):
            what = f"the LAN address {entry.lan_address} is not in the zone {zone.name}"
            cure = f"the zone holds {', '.join(map(str, zone.networks))}"
            self._fault(("overlays", zone.name, "lan_address"), what, cure)
        return made

    def _addresses(self, overlay: Overlay) -> list[tuple[str, Address, tuple[str, ...]]]:
        """The addresses of the overlay: (owner, address, path in the file)."""
        path = ("overlays", overlay.zone.name)
        addresses: list[tuple[str, Address, tuple[str, ...]]] = [
            (f"the member {member.name}", member.address, (*path, "members", member.name)) for member in overlay.members
        ]
        if overlay.relay is not None:
            addresses.insert(0, ("the relay", overlay.relay, (*path, "relay")))
        if overlay.zone.gateway is not None:
            addresses.insert(0, ("the zone's gateway", overlay.zone.gateway, (*path, "network")))
        return addresses

    def _inside(self, overlay: Overlay) -> None:
        network = overlay.network
        if network is None:
            return
        for who, address, path in self._addresses(overlay):
            if address not in network:
                self._fault(
                    path, f"{who} has {address}, which is not in the overlay's {network}", "correct one of them"
                )
            elif network.num_addresses > 2 and address == network.network_address:
                self._fault(path, f"{who} has {address}, which is the network itself", "give it another")
        for behind in overlay.zone.networks:
            if behind.overlaps(network):
                what = f"the overlay's {network} overlaps {behind}, which is behind it"
                cure = "`network` is the overlay's own, like 172.18.0.0/24"
                self._fault(("overlays", overlay.zone.name, "network"), what, cure)

    def _different(self, overlay: Overlay) -> None:
        known: dict[Address, str] = {}
        for who, address, path in self._addresses(overlay):
            if address in known:
                self._fault(path, f"{who} has {address}, as {known[address]} has", "give each its own")
            known.setdefault(address, who)

    def _apart(self, overlays: tuple[Overlay, ...]) -> None:
        """Check that equal network ids have equal networks, and that different overlays do not overlap."""
        for index, overlay in enumerate(overlays):
            for other in overlays[:index]:
                if overlay.network is None or other.network is None:
                    continue
                same = overlay.network_id == other.network_id and overlay.zone.interface == other.zone.interface
                path = ("overlays", overlay.zone.name, "network")
                if overlay.network.overlaps(other.network) and not same:
                    what = f"{overlay.network} of {overlay.zone.name} overlaps {other.network} of {other.zone.name}"
                    self._fault(path, what, "the relay is in both: give each overlay its own addresses")
                elif overlay.network_id and overlay.network_id == other.network_id and overlay.network != other.network:
                    what = f"{overlay.zone.name} and {other.zone.name} are one ZeroTier network with two `network`s"
                    self._fault(path, what, "correct one of them")

    def _fault(self, path: tuple[str, ...], what: str, cure: str) -> None:
        # a flag overrides the file
        file, line = (FLAGS, 0) if _holds(self.typed.data, path) else (NAME, self.given.line(path))
        self.faults.append(Fault(file, line, what, cure))


def _above(below: OverlayEntry | None, above: OverlayEntry | None) -> OverlayEntry:
    if below is None or above is None:
        return below or above or OverlayEntry()
    set_above = {name: getattr(above, name) for name in above.model_fields_set}
    if "members" in set_above:
        set_above["members"] = {**below.members, **above.members}
    return below.model_copy(update=set_above)


def _holds(data: object, path: tuple[str, ...]) -> bool:
    for part in path:
        if not isinstance(data, dict) or part not in data:
            return False
        data = data[part]
    return True
