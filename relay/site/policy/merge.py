"""Merges the entries of all policy files into one policy and finds contradictions between them.

The result are the core's values: zones, hosts, groups, and rules with persons instead of groups and (zone, network)
pairs instead of names. The order of the files has no effect.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from itertools import combinations_with_replacement
from zoneinfo import ZoneInfo

from relay.core.escape import escape
from relay.core.policy.inventory import Inventory, clashes
from relay.core.policy.model import Host, Network, Rule, Zone
from relay.core.policy.target import EVERYONE
from relay.errors import Fault, InputRejected
from relay.site import times
from relay.site.policy.policy_models import RuleEntry
from relay.site.policy.rule_targets import TargetResolver
from relay.site.policy.validation import EntryLines, EntryLocation, PolicyEntries
from relay.site.yaml.scalars import patterns_meet

SOON = 14 * 86400  # how many seconds before an expiry `check` begins to warn

_NOWHERE = tuple(
    (ip_network(text), word)
    for text, word in (
        ("127.0.0.0/8", "loopback"),
        ("::1/128", "loopback"),
        ("224.0.0.0/4", "multicast"),
        ("ff00::/8", "multicast"),
        ("169.254.0.0/16", "link-local"),
        ("fe80::/10", "link-local"),
    )
)


@dataclass(frozen=True, slots=True)
class Merged:
    """The merged policy, without entries that have faults."""

    zones: tuple[Zone, ...]
    hosts: tuple[Host, ...]
    groups: Mapping[str, frozenset[str]]
    rules: tuple[Rule, ...]
    faults: tuple[Fault, ...]
    warnings: tuple[Fault, ...]


def merge(entries: PolicyEntries, persons: frozenset[str], zone: ZoneInfo, now: int, public: str = "") -> Merged:
    """Merge all entries. `persons` have a key file; `zone` is the site's time zone; `now` Unix seconds for warnings."""
    merger = _Merger(entries, persons, zone, now, public)
    merger.zones()
    merger.hosts()
    merger.places()
    merger.groups()
    rules = tuple(filter(None, (merger.rule(*entry) for entry in entries.rules)))
    merger.partial_rules()
    inventory = merger.inventory
    return Merged(
        tuple(inventory.zones.values()),
        tuple(inventory.hosts.values()),
        merger.members,
        rules,
        tuple(merger.faults),
        tuple(merger.warnings),
    )


class _Merger:
    def __init__(self, entries: PolicyEntries, persons: frozenset[str], zone: ZoneInfo, now: int, public: str) -> None:
        self.entries, self.persons, self.zone, self.now = entries, persons, zone, now
        self.faults: list[Fault] = []
        self.warnings: list[Fault] = []
        self.inventory = Inventory(public)
        self.members: dict[str, frozenset[str]] = {}
        self._zones: list[tuple[Zone, EntryLocation]] = []
        self._hosts: list[tuple[Host, EntryLocation]] = []
        self._warned_names: set[str] = set()
        self._reach = TargetResolver(self.inventory, entries.broken, entries.whole)

    # zones and hosts

    def zones(self) -> None:
        """Check the zones: their networks, and that no two overlap on the same interface."""
        for name, entry, place in self.entries.zones:
            zone = Zone(name, tuple(dict.fromkeys(entry.networks)), entry.interface, entry.gateway)
            self._zones.append((zone, place))
            for network in zone.networks:
                self._network(zone, network, place)
            if zone.gateway is not None and zone.interface == "lo":
                self._fault(place, f"the zone {name} is on lo and has a gateway", "remove the gateway")
        self._overlaps()

    def _network(self, zone: Zone, network: Network, place: EntryLocation) -> None:
        on_loopback = zone.interface == "lo"
        words = [word for nowhere, word in _NOWHERE if network.overlaps(nowhere)]
        if on_loopback and not network.is_loopback:
            self._fault(place, f"{network} is not loopback but the zone {zone.name} is on lo", "name its own interface")
        elif words and not (on_loopback and words == ["loopback"]):
            cure = "only a zone with `interface: lo` may" if words == ["loopback"] else "write the networks of the site"
            self._fault(place, f"the network {network} of the zone {zone.name} holds {words[0]} addresses", cure)
        if zone.gateway is not None and zone.gateway.version != network.version:
            what = f"the gateway {zone.gateway} of the zone {zone.name} is not of the family of {network}"
            self._fault(place, what, "make a zone of its own for each family")

    def _overlaps(self) -> None:
        by_interface: dict[str, list[tuple[Zone, EntryLocation]]] = {}
        for zone, place in self._zones:
            by_interface.setdefault(zone.interface, []).append((zone, place))
        for one, other in combinations_with_replacement(sorted(by_interface), 2):
            if one == other:
                self._overlap(by_interface[one], set())
            elif patterns_meet(one, other):
                first = {id(zone) for zone, _ in by_interface[one]}
                self._overlap(by_interface[one] + by_interface[other], first)

    def _overlap(self, zones: Iterable[tuple[Zone, EntryLocation]], first: set[int]) -> None:
        """Find overlaps. Of two overlapping networks one contains the other, so a stack over sorted ones suffices."""
        networks = sorted(
            (
                (net.version, int(net.network_address), net.prefixlen, number, zone, place, net)
                for number, (zone, place) in enumerate(zones)
                for net in zone.networks
            ),
            key=lambda found: found[:4],
        )
        stack: list[tuple[Network, Zone, EntryLocation]] = []
        for *_, zone, place, net in networks:
            while stack and not (stack[-1][0].version == net.version and stack[-1][0].overlaps(net)):
                stack.pop()
            for held, other, there in reversed(stack):  # one fault per network: the smallest containing one
                apart = other.name == zone.name or (first and (id(other) in first) == (id(zone) in first))
                if not apart:
                    self._overlapping((place, zone, net), (there, other, held))
                    break
            stack.append((net, zone, place))

    def _overlapping(self, *both: tuple[EntryLocation, Zone, Network]) -> None:
        (there, other, held), (place, zone, net) = sorted(both, key=lambda found: (found[0].file, found[0].line))
        cure = f"both are on the interface {zone.interface!r}: give each network to one zone"
        if zone.interface != other.interface:
            cure = f"{zone.interface!r} and {other.interface!r} may be one interface: name them apart"
        self._fault(place, f"{net} of the zone {zone.name} overlaps {held} of the zone {other.name} ({there})", cure)

    def hosts(self) -> None:
        """The hosts: that the zone of each is known and holds its address."""
        by_name: dict[str, list[Zone]] = {}
        for zone, _ in self._zones:
            by_name.setdefault(zone.name, []).append(zone)
        for name, entry, place in self.entries.hosts:
            host = Host(name, entry.zone, entry.address, entry.user, entry.port)
            zones = by_name.get(entry.zone, [])
            networks = [network for zone in zones for network in zone.networks]
            if not zones:
                if self.entries.whole and entry.zone not in self.entries.broken:
                    what = f"the host {name} is in the zone {entry.zone}, which is not defined"
                    self._fault(place, what, nearest(entry.zone, by_name, "define it under `zones:`"))
                self.entries.broken.add(name)
            elif not any(host.address in network for network in networks):
                what = f"the address {host.address} of the host {name} is not in the zone {entry.zone}"
                self._fault(place, what, f"that zone holds {', '.join(map(str, networks))}")
                self.entries.broken.add(name)
            else:
                self._hosts.append((host, place))

    def places(self) -> None:
        """Check that no name is ambiguous, then fill the inventory."""
        place_of = {id(value): place for value, place in [*self._zones, *self._hosts]}
        for one, other, text in clashes([zone for zone, _ in self._zones], [host for host, _ in self._hosts]):
            first, second = sorted((one, other), key=lambda value: (place_of[id(value)].file, place_of[id(value)].line))
            kind = "zone" if isinstance(first, Zone) else "host"
            what = f"{text!r} already names a {kind} in {place_of[id(first)]}"
            self._fault(place_of[id(second)], what, "rename or remove one of the two")
        for zone, _ in self._zones:
            if zone.name not in self.inventory.zones:
                self.inventory.add_zone(zone)
        for host, _ in self._hosts:
            try:
                self.inventory.add_host(host)
            except InputRejected:  # a duplicate: its fault is reported above
                self.entries.broken.add(host.name)

    # persons and groups

    def groups(self) -> None:
        """Check that each group is defined once, is not a person, and contains persons only."""
        where: dict[str, EntryLocation] = {}
        for name, _, place in self.entries.groups:
            if name == EVERYONE:
                self._fault(place, f"the name {EVERYONE} is reserved", "it means every person; rename the group")
            elif name in where:
                self._fault(place, f"the group {name} is defined a second time", f"the first is {where[name]}")
            elif name in self.persons:
                self._fault(place, f"{name} is a person too (keys/{name}.pub)", "rename the group")
            where.setdefault(name, place)
        for name, members, place in self.entries.groups:
            persons = set()
            for member in members:
                if member in where or member == EVERYONE:
                    self._fault(place, f"the group {name} holds {member}, which is a group", "a group holds persons")
                    continue
                self._known(member, place)
                persons.add(member)
            self.members.setdefault(name, frozenset(persons))

    def _known(self, name: str, place: EntryLocation) -> None:
        """Warn once about a name without a key file. This is no fault: it is normal after a revocation."""
        if name in self.persons or name in self._warned_names or name in self.entries.broken or not self.entries.whole:
            return
        self._warned_names.add(name)
        cure = nearest(name, [*self.persons, *self.members], f"relayctl add-key {name}")
        self.warnings.append(place.fault(f"{name} has no key (no keys/{name}.pub) and is not a group", cure))

    def _persons(self, names: Iterable[str], lines: EntryLines, key: str) -> frozenset[str]:
        persons: set[str] = set()
        for index, name in enumerate(names):
            if name in self.members:
                persons |= self.members[name]
            elif name != EVERYONE:
                self._known(name, lines.at(key, index))
                persons.add(name)
        return frozenset(persons)

    # rules

    def rule(self, entry: RuleEntry, place: EntryLocation, lines: EntryLines) -> Rule | None:
        """Convert a rule; None if it has a fault."""
        before = len(self.faults)
        if entry.allow and entry.deny:
            self._fault(place, "the rule both allows and denies", "make two rules of it")
        if not entry.allow and not entry.deny:
            self._fault(place, "the rule neither allows nor denies", "add `allow: [PERSON or GROUP]` or `deny: [...]`")
        if entry.allow and not entry.ports:
            self._fault(place, "the rule allows but names no `ports`", "add `ports: [22]`")
        if entry.except_ and not entry.deny:
            self._fault(lines.at("except"), "`except` without `deny`", "an allow lists the persons it is for")
        if entry.except_ and EVERYONE in entry.except_:
            self._fault(lines.at("except"), "a deny that excepts everyone has no effect", "remove the rule")
        names, key = (entry.allow, "allow") if entry.allow else (entry.deny or [], "deny")
        to = self._to(entry.to, lines)
        until = entry.until.end(self.zone) if entry.until else None
        rule = Rule(
            name=entry.name,
            allow=bool(entry.allow),
            persons=self._persons(names, lines, key),
            everyone=EVERYONE in names,
            excepted=self._persons(entry.except_ or (), lines, "except"),
            to=tuple(to),
            ports=tuple(entry.ports or ((1, 65535),)),
            sources=tuple(entry.from_ or ()),
            until=until,
            windows=times.windows(frozenset().union(*entry.days) if entry.days else None, tuple(entry.hours or ())),
            file=place.file,
            line=place.line,
        )
        if until is not None and until <= self.now + SOON:
            expiry = f"expired at {times.local_text(until, self.zone)}"
            if until > self.now:
                expiry = f"expires in {-(-(until - self.now) // 86400)} days, at {times.local_text(until, self.zone)}"
            warning = lines.at("until").fault(
                f"the rule {escape(entry.name, 60)!r} {expiry}", "remove it or extend `until`"
            )
            self.warnings.append(warning)
        return rule if len(self.faults) == before else None

    def _to(self, texts: Iterable[object], lines: EntryLines) -> dict[tuple[str, Network], None]:
        to: dict[tuple[str, Network], None] = {}
        for index, text in enumerate(texts):
            if not isinstance(text, str):  # from a malformed rule
                continue
            try:
                pairs = self._reach.pairs(text)
            except InputRejected as error:
                self._fault(lines.at("to", index), f"to: {error.what}", error.hint)
                continue
            if not pairs and ("*" in text or "?" in text):
                self.warnings.append(lines.at("to", index).fault(f"to: no host name matches {escape(text, 40)!r}"))
            to.update(dict.fromkeys(pairs))
        return to

    def partial_rules(self) -> None:
        """Check the targets of malformed rules."""
        for to, lines in self.entries.partial:
            self._to(to, lines)

    def _fault(self, place: EntryLocation, what: str, cure: str) -> None:
        self.faults.append(place.fault(what, cure))


def nearest(name: str, known: Iterable[str], otherwise: str) -> str:
    """`did you mean ...?` for a similar known name, else `otherwise`."""
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f"did you mean {near[0]}? else {otherwise}" if near else otherwise
