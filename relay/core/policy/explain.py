"""Explanations of policy decisions for administrators: which rule decided, and which change would reverse it.

For the command line only: it decodes every rule in full. `Policy.decide` (or `decide_by_rules`, without a key) makes
the decision; this module adds advice and changes nothing.
"""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass

from relay.core.keys.authorized_keys import Key
from relay.core.policy import rule_index, time_conditions
from relay.core.policy.inventory import pair_text
from relay.core.policy.model import Address, Decision, Destination, Identity, Reason, Rule, RuleName
from relay.core.policy.policy import Policy
from relay.core.policy.target import Target

NEAREST = 3  # rules shown that come closest to allowing the forward
_NAMES = 5  # persons or places listed before "and N more"
_KEY_ADVICE = {
    Reason.KEY_UNLISTED: "add the key of {person}: relayctl add-key {person} FILE",
    Reason.KEY_REVOKED: "make a new key pair and add that: a revoked key is never accepted again",
    Reason.KEY_FROZEN: "wait until the freeze ends, or: relayctl unban {person}",
    Reason.KEY_EXPIRED: "change or remove expiry-time= of that key",
    Reason.KEY_SOURCE: "connect from an address that from= of the key names, or change it",
    Reason.KEY_PRESENCE: "touch the security key, and unlock it where verify-required is set",
    Reason.KEY_NO_FORWARDING: "put port-forwarding behind restrict in the key's options",
    Reason.KEY_PERMITOPEN: "add a permitopen= for it to the key's options, or remove them all",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """A decision, the full rule that decided (None without one) and the changes that would reverse the decision."""

    asked: str
    decision: Decision
    rule: Rule | None
    rule_words: str  # the deciding rule in one line, "" if none did
    changes: tuple[str, ...]  # empty when it is allowed

    def lines(self) -> tuple[str, ...]:
        """The explanation as lines for a terminal."""
        decision = self.decision
        lines = [f"{self.asked}: {'allowed' if decision.allowed else f'denied ({decision.reason})'}"]
        if decision.destination is not None:
            lines.append(f"  means    {decision.destination}")
        if decision.rule is not None:
            lines.append(f"  rule     {decision.rule}: {self.rule_words}")
        if decision.detail:
            lines.append(f"  because  {decision.detail}")
        lines.extend(
            f"  {'to change' if number == 0 else '         '}  {text}" for number, text in enumerate(self.changes)
        )
        return tuple(lines)


def explain(
    policy: Policy,
    identity: Identity,
    key: Key | None,
    target: Target | Destination,
    now: int,
    *,
    own: frozenset[Address] = frozenset(),
) -> Explanation:
    """Explain the decision about one forward by key and rules at `now` (Unix seconds)."""
    decision = policy.decide(identity, key, target, now, own)
    return _explain(_Request(policy, identity.person, identity.source, now), target, decision)


def explain_person(
    policy: Policy,
    person: str,
    source: Address | None,
    target: Target | Destination,
    now: int,
    *,
    own: frozenset[Address] = frozenset(),
) -> Explanation:
    """Explain the decision by the rules alone, as with a valid key; `source` None is an address that no rule names."""
    decision = policy.decide_by_rules(person, source, target, now, own)
    return _explain(_Request(policy, person, source, now), target, decision)


def rule_text(rule: Rule, policy: Policy) -> str:
    """A rule in one line: `allow ops (alice, bob) to 192.168.1.0/24 in office, ports 22, only Mon-Fri 09:00-18:00`."""
    text = f"{'allow' if rule.allow else 'deny'} {_persons_text(rule, policy)}"
    if rule.excepted:
        text += f" except {_abbreviated(sorted(rule.excepted))}"
    places = _abbreviated([pair_text(zone, network) for zone, network in rule.to])
    text += f" to {places}, ports {time_conditions.ports_text(rule.ports)}"
    if rule.sources:
        text += f", only from {time_conditions.sources_text(rule.sources)}"
    if rule.windows:
        text += f", only {time_conditions.windows_text(rule.windows)}"
    if rule.until is not None:
        text += f", until {time_conditions.until_text(rule.until, policy.offsets)}"
    return text


@dataclass(frozen=True, slots=True)
class _Request:
    """The person, source address and time of a request, for comparison with rules."""

    policy: Policy
    person: str
    source: Address | None
    now: int

    def first(self, mask: int) -> int:
        """The number of the first rule in a mask whose conditions hold; -1 without one."""
        number, _ = self.policy.index.first_match(
            mask, self.source, self.now, time_conditions.local(self.now, self.policy.offsets)
        )
        return number

    def candidates(self, destination: Destination) -> int:
        """The mask of the rules that could apply to this request."""
        index = self.policy.index
        return index.candidates(self.person, destination.zone, destination.address, destination.port)


def _explain(request: _Request, target: Target | Destination, decision: Decision) -> Explanation:
    rule = None if decision.rule is None else _deciding_rule(request, decision)
    changes = () if decision.allowed else tuple(_changes(request, target, decision))
    words = "" if rule is None else rule_text(rule, request.policy)
    return Explanation(f"{request.person} to {target}", decision, rule, words, changes)


def _deciding_rule(request: _Request, decision: Decision) -> Rule:
    """The rule in full that `decision.rule` names, found as the decision found it, because names need not be unique."""
    assert decision.destination is not None  # a rule decides about destinations only
    deny = request.policy.index.deny
    mask = request.candidates(decision.destination)
    return request.policy.index.rule(request.first(mask & (~deny if decision.allowed else deny)))


def _changes(request: _Request, target: Target | Destination, decision: Decision) -> Iterator[str]:
    reason, destination = decision.reason, decision.destination
    if reason in _KEY_ADVICE:
        yield _KEY_ADVICE[reason].format(person=request.person)
    elif reason is Reason.NO_POLICY:
        yield "no policy was ever applied: relayctl check, then relayctl reload"
    elif reason is Reason.AMBIGUOUS_TARGET:
        yield f"type one of {', '.join(decision.choices)}"
    elif reason is Reason.FORBIDDEN_ADDRESS:
        yield "no rule can allow it"
    elif isinstance(target, Target) and destination is None:
        yield from _unknown_target(request.policy, target)
    elif destination is None or reason is Reason.UNKNOWN_TARGET:
        yield "its zone or network is no longer in the policy"
    elif reason is Reason.DENY_RULE:
        yield f"add {request.person} to 'except' of {decision.rule}, or narrow that rule"
        number = request.first(request.candidates(destination) & ~request.policy.index.deny)
        if number >= 0:
            yield f"then {request.policy.index.name(number)} allows it, unless another deny rule matches"
        else:
            yield "an allow rule is missing as well"
            yield from _nearest(request, destination)
    else:
        yield from _nearest(request, destination)


def _nearest(request: _Request, destination: Destination) -> Iterator[str]:
    """The allow rules that come closest, each with every condition that does not hold."""
    found: list[tuple[int, int, Rule, list[str]]] = []
    index = request.policy.index
    at = index.for_address(destination.zone, destination.address)
    # only rules about this person or this address
    for number in rule_index.rule_numbers((at | index.for_person(request.person)) & ~index.deny):
        rule = index.rule(number)
        covered = bool(at >> number & 1)
        failed = _failed_conditions(request, rule, covered, destination)
        # a wrong address counts more than a wrong port
        found.append((len(failed) + (not covered), number, rule, failed))
    if not found:
        yield f"no rule comes close: add one that allows {request.person} to reach {destination}"
    for _, _, rule, failed in sorted(found, key=lambda entry: entry[:2])[:NEAREST]:
        yield f"{RuleName(rule.name, rule.file, rule.line)} would allow it, but {'; and '.join(failed)}"


def _failed_conditions(request: _Request, rule: Rule, covered: bool, destination: Destination) -> list[str]:
    """The conditions of an allow rule that do not hold; `covered`: the rule covers this address."""
    policy, person, source, now = request.policy, request.person, request.source, request.now
    failed = []
    if person in rule.excepted:
        failed.append(f"{person} is in its 'except'")
    elif not rule.everyone and person not in rule.persons:
        failed.append(f"it allows {_persons_text(rule, policy)}, and {person} is not among them")
    if not covered:
        places = _abbreviated([pair_text(zone, network) for zone, network in rule.to])
        failed.append(f"it is about {places}, not {destination.address} in {destination.zone}")
    if not any(low <= destination.port <= high for low, high in rule.ports):
        failed.append(f"port {destination.port} is not in {time_conditions.ports_text(rule.ports)}")
    if rule.until is not None and now >= rule.until:
        failed.append(f"it ended {time_conditions.until_text(rule.until, policy.offsets)}")
    if rule.sources and (source is None or not any(source in network for network in rule.sources)):
        failed.append(f"only from {time_conditions.sources_text(rule.sources)}, not from {source or 'anywhere else'}")
    local_now = time_conditions.local(now, policy.offsets)
    windows = [(time_conditions.days_mask(window), window.start, window.end) for window in rule.windows]
    if windows and not any(time_conditions.inside(days, start, end, local_now) for days, start, end in windows):
        moment = time_conditions.moment_text(now, policy.offsets)
        failed.append(f"only {time_conditions.windows_text(rule.windows)}, and now it is {moment}")
    return failed


def _unknown_target(policy: Policy, target: Target) -> Iterator[str]:
    zones = ", ".join(sorted(policy.inventory.zones)) or "none"
    if target.address is not None:
        if target.zone and target.zone not in policy.inventory.zones:
            yield f"there is no zone {target.zone}; there are {zones}"
        else:
            yield f"add a network that holds {target.address} to a zone; there are {zones}"
        return
    hosts = policy.inventory.hosts
    near = difflib.get_close_matches(target.name, [host.name for host in hosts.values()] + list(hosts), 3)
    if near:
        yield f"did you mean {' or '.join(dict.fromkeys(near))}?"
    yield f"declare {target.name} under hosts: with its address and zone; names are never looked up in DNS"


def _persons_text(rule: Rule, policy: Policy) -> str:
    if rule.everyone:
        return "everyone"
    text = " ".join(sorted(rule.persons))
    for group, persons in policy.groups.items():
        if persons == text and text:
            return f"{group} ({_abbreviated(text.split())})"
    return _abbreviated(text.split())


def _abbreviated(names: list[str]) -> str:
    if len(names) > _NAMES:
        return f"{', '.join(names[:_NAMES])} and {len(names) - _NAMES} more"
    return ", ".join(names) or "nothing"
