"""The compiled policy, and its decision about a person, key, source, target and time.

The checks, in order: a policy was applied; the key is still listed for this person; the target resolves to a
destination; the destination is not a forbidden address; the key's options permit it; the rules allow it. Without a
matching rule the answer is deny. A matching deny rule wins over allow rules. If several rules match, the decision
names the first by (file, line, name).
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
    """A compiled policy, made by `build_policy` or `SnapshotLoader`; the zero value, `EMPTY`, denies with NO_POLICY."""

    version: str = ""
    inventory: Inventory = field(default_factory=Inventory)
    forbidden: ForbiddenAddresses = field(default_factory=ForbiddenAddresses)
    index: RuleIndex = field(default_factory=RuleIndex)
    public: str = ""  # HOST:PORT of this relay, canonical
    groups: Mapping[str, str] = field(default_factory=dict)  # name to its persons, sorted, with spaces between
    offsets: tuple[tuple[int, int], ...] = ()  # the site's time zone, see relay.core.policy.time_conditions

    def resolve(self, target: Target) -> Destination | Decision:
        """The destination of a target, or its denial (unknown, ambiguous, forbidden)."""
        return self.inventory.resolve(target)

    def decide(
        self, identity: Identity, key: Key | None, target: Target | Destination, now: int, own: frozenset[Address]
    ) -> Decision:
        """Decide about one forward, by key and rules.

        `key` is the key that is listed now for the identity's fingerprint, None if it is no longer listed; `now` is
        Unix seconds; `own` are the addresses of this machine. For an open forward pass its `Destination`: it is not
        resolved again, and denied if this policy no longer contains it.
        """
        if not self.version:
            return Decision()
        if key is None:
            return Decision(reason=Reason.KEY_UNLISTED, detail=f"the key {identity.fingerprint} is not listed")
        if key.person != identity.person or key.fingerprint != identity.fingerprint:
            detail = f"the key {identity.fingerprint} is not listed for {identity.person} any more"
            return Decision(reason=Reason.KEY_UNLISTED, detail=detail)
        destination = self._locate(target, own)
        if isinstance(destination, Decision):
            return destination
        refused = authorized_keys.refusal(key, identity, destination, now, self.resolve)
        if refused is not None:
            return Decision(reason=refused[0], destination=destination, detail=refused[1])
        return self._match_rules(identity.person, identity.source, destination, now)

    def decide_by_rules(
        self,
        person: str,
        source: Address | None,
        target: Target | Destination,
        now: int,
        own: frozenset[Address] = _NOWHERE,
    ) -> Decision:
        """Decide by the rules alone, for expectations and explanations; never for a forward.

        `source` None is an address that no rule names: no rule with `from` matches it.
        """
        if not self.version:
            return Decision()
        destination = self._locate(target, own)
        if isinstance(destination, Decision):
            return destination
        return self._match_rules(person, source, destination, now)

    def rules(self) -> Iterable[Rule]:
        """All rules in full, sorted by (file, line, name). Slow: not for serving processes."""
        return (self.index.rule(number) for number in range(len(self.index.rules)))

    def _locate(self, target: Target | Destination, own: frozenset[Address]) -> Destination | Decision:
        if isinstance(target, Target):
            destination = self.inventory.resolve(target)
            if isinstance(destination, Decision):
                return destination
        elif self.inventory.contains(target.zone, target.address):
            destination = target
        else:
            return Decision(
                reason=Reason.UNKNOWN_TARGET, destination=target, detail=f"{target}: no such zone or network"
            )
        detail = self.forbidden.reason(destination, own)
        if detail:
            return Decision(reason=Reason.FORBIDDEN_ADDRESS, destination=destination, detail=detail)
        return destination

    def _match_rules(self, person: str, source: Address | None, destination: Destination, now: int) -> Decision:
        mask = self.index.candidates(person, destination.zone, destination.address, destination.port)
        local_now = time_conditions.local(now, self.offsets)
        number, _ = self.index.first_match(mask & self.index.deny, source, now, local_now)
        if number >= 0:
            rule = self.index.name(number)
            return Decision(reason=Reason.DENY_RULE, destination=destination, rule=rule, detail=f"denied by {rule}")
        number, missed = self.index.first_match(mask & ~self.index.deny, source, now, local_now)
        if number >= 0:
            return Decision(True, Reason.ALLOWED, destination, self.index.name(number))
        detail = f"no rule allows {person} to reach {destination}"
        if missed >= 0:
            clause = rule_index.failed_condition(self.index.record(missed), source, now, local_now)
            detail = f"{detail}; {self.index.name(missed)} would, but for its '{clause}'"
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
    """Compile a policy from validated zones, hosts and rules.

    `version` names the policy and is not empty; `groups` serve explanations only (rules name persons); `listeners` are
    (address, port), None for a wildcard; `public` is HOST:PORT or ""; `offsets` as in
    relay.core.policy.time_conditions. Raises
    InputRejected for errors that validation should have found: clashing names, a host outside its zone, a rule for an
    unknown zone, numbers out of range, more rules than the index may hold.
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
        forbidden=forbidden_addresses.compile_forbidden(zones, tuple(listeners), reached_as),
        index=index,
        public=str(reached_as) if reached_as else "",
        groups={name: " ".join(sorted(persons)) for name, persons in groups.items()},
        offsets=tuple(sorted(offsets)),
    )


def _kind(place: Zone | Host) -> str:
    return "the zone" if isinstance(place, Zone) else "the host"
