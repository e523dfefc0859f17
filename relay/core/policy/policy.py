"""May this person, with this key, from there, now, reach that? The one place where it is decided.

The order of the questions: is there a policy; is the key (still) this person's; what does the target mean; is it
refused whatever a rule says; does the key itself forbid it; what do the rules say. No rule matches: deny. Any deny
rule matches: deny. Else an allow rule decides. Of several the one reported is the first by (file, line, name).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from relay.core.keys import authorized_keys
from relay.core.keys.authorized_keys import Key
from relay.core.policy import forbidden_addresses, rule_index, time_conditions
from relay.core.policy.forbidden_addresses import ForbiddenAddresses
from relay.core.policy.inventory import Inventory, clashes
from relay.core.policy.model import Address, Decision, Destination, Host, Identity, Reason, Rule, Zone
from relay.core.policy.rule_index import RuleIndex
from relay.core.policy.target import Target, parse_spec
from relay.errors import InputRejected

__all__ = ["EMPTY", "Policy", "build_policy", "clashes"]

_NOWHERE: frozenset[Address] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """A compiled policy. Made by `build` or a snapshot's loader; the zero value, `EMPTY`, denies with NO_POLICY."""

    version: str = ""
    inventory: Inventory = field(default_factory=Inventory)
    forbidden: ForbiddenAddresses = field(default_factory=ForbiddenAddresses)
    tables: RuleIndex = field(default_factory=RuleIndex)
    public: str = ""  # HOST:PORT of this relay, canonical
    groups: Mapping[str, str] = field(default_factory=dict)  # name to its persons, sorted, with spaces between
    offsets: tuple[tuple[int, int], ...] = ()  # the site's time zone, see relay.core.policy.time_conditions

    def resolve(self, target: Target) -> Destination | Decision:
        """What a target means: a destination, or the denial (unknown, ambiguous, forbidden) that it gets."""
        return self.inventory.resolve(target)

    def judge(
        self, identity: Identity, key: Key | None, target: Target | Destination, now: int, own: frozenset[Address]
    ) -> Decision:
        """The judgement of one forward, by key and rules.

        `key` is the listed key of the identity's fingerprint now, None if there is none any more; `now` is Unix
        seconds; `own` are the addresses of this machine. A `Destination` (of a forward that is open) is judged as
        it is: one that this policy no longer knows is denied.
        """
        if not self.version:
            return Decision()
        if key is None:
            return Decision(reason=Reason.KEY_UNLISTED, detail=f"the key {identity.fingerprint} is not listed")
        if key.person != identity.person or key.fingerprint != identity.fingerprint:
            detail = f"the key {identity.fingerprint} is not listed for {identity.person} any more"
            return Decision(reason=Reason.KEY_UNLISTED, detail=detail)
        found = self._locate(target, own)
        if isinstance(found, Decision):
            return found
        refused = authorized_keys.refusal(key, identity, found, now, self.resolve)
        if refused is not None:
            return Decision(reason=refused[0], destination=found, detail=refused[1])
        return self._decide(identity.person, identity.source, found, now)

    def judge_person(
        self,
        person: str,
        source: Address | None,
        target: Target | Destination,
        now: int,
        own: frozenset[Address] = _NOWHERE,
    ) -> Decision:
        """The judgement by the rules alone, for expectations and plans; never for a forward.

        `source` None is an address that no rule names: neither an allow nor a deny rule with `from` matches it.
        """
        if not self.version:
            return Decision()
        found = self._locate(target, own)
        return found if isinstance(found, Decision) else self._decide(person, source, found, now)

    def rules(self) -> Iterable[Rule]:
        """Every rule in full, sorted by (file, line, name). Slow: not for serving processes."""
        return (self.tables.rule(number) for number in range(len(self.tables.rules)))

    def _locate(self, target: Target | Destination, own: frozenset[Address]) -> Destination | Decision:
        if isinstance(target, Target):
            found = self.inventory.resolve(target)
            if isinstance(found, Decision):
                return found
        elif self.inventory.contains(target.zone, target.address):
            found = target
        else:
            return Decision(
                reason=Reason.UNKNOWN_TARGET, destination=target, detail=f"{target}: no such zone or network"
            )
        words = self.forbidden.words(found, own)
        if words:
            return Decision(reason=Reason.FORBIDDEN_ADDRESS, destination=found, detail=words)
        return found

    def _decide(self, person: str, source: Address | None, destination: Destination, now: int) -> Decision:
        mask = self.tables.candidates(person, destination.zone, destination.address, destination.port)
        local_now = time_conditions.local(now, self.offsets)
        number, _ = self.tables.first(mask & self.tables.deny, source, now, local_now)
        if number >= 0:
            rule = self.tables.name(number)
            return Decision(reason=Reason.DENY_RULE, destination=destination, rule=rule, detail=f"denied by {rule}")
        number, missed = self.tables.first(mask & ~self.tables.deny, source, now, local_now)
        if number >= 0:
            return Decision(True, Reason.ALLOWED, destination, self.tables.name(number))
        detail = f"no rule allows {person} to reach {destination}"
        if missed >= 0:
            clause = rule_index.failing(self.tables.record(missed), source, now, local_now)
            detail = f"{detail}; {self.tables.name(missed)} would, but for its '{clause}'"
        return Decision(reason=Reason.NO_RULE, destination=destination, detail=detail)


EMPTY = Policy()


def build_policy(
    *,
    version: str,
    zones: Iterable[Zone],
    hosts: Iterable[Host],
    groups: Mapping[str, frozenset[str]],
    rules: Iterable[Rule],
    listeners: Iterable[tuple[Address | None, int]] = (),
    public: str = "",
    offsets: Sequence[tuple[int, int]] = (),
) -> Policy:
    """The compiled policy of checked documents.

    `version` names it and is not empty; `groups` serve explanations only (rules name persons); `listeners` are
    (address, port), None for a wildcard; `public` is HOST:PORT or ""; `offsets` as in
    relay.core.policy.time_conditions. Raises
    InputRejected for what the documents' checks should have found: clashing names, a host outside of its zone, a rule
    for an unknown zone, numbers out of range, more rules than the index may hold.
    """
    zones, hosts, rules = tuple(zones), tuple(hosts), tuple(rules)
    if not version:
        raise InputRejected("a policy without a version", "give the hash of its text")
    for first, second, text in clashes(zones, hosts):
        what = f"'{text}' would mean {_kind(first)} {first.name} and {_kind(second)} {second.name}"
        raise InputRejected(what, "rename one of them")
    reached_as = parse_spec(public) if public else None
    inventory = Inventory(reached_as.name if reached_as else "")
    for zone in zones:
        inventory.add_zone(zone)
    for host in hosts:
        inventory.add_host(host)
    for rule in rules:
        for zone_name, _ in rule.to:
            if zone_name not in inventory.zones:
                raise InputRejected(
                    f"the rule '{rule.name}' is about an unknown zone '{zone_name}'", "declare the zone"
                )
    index = RuleIndex()
    index.fill(rules)
    return Policy(
        version=version,
        inventory=inventory,
        forbidden=forbidden_addresses.build(zones, tuple(listeners), reached_as),
        tables=index,
        public=str(reached_as) if reached_as else "",
        groups={name: " ".join(sorted(persons)) for name, persons in groups.items()},
        offsets=tuple(sorted(offsets)),
    )


def _kind(place: Zone | Host) -> str:
    return "the zone" if isinstance(place, Zone) else "the host"
