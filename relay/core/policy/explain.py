"""Why is the answer what it is, and what would have to change for another one? In words an administrator can act on.

Looks at every rule in full: for the command line, never for a serving process. The verdict is `Policy.judge`'s own (or
`judge_person`'s when no key is asked about); only the advice is worked out here, and it never changes anything.
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

NEAREST = 3  # rules shown that nearly allow it
_NAMES = 5  # persons or places listed before "and N more"
_KEY_ADVICE = {
    Reason.KEY_UNLISTED: "add the key of {person}: relayctl add-key {person} FILE",
    Reason.KEY_REVOKED: "make a new key pair and add that: a revoked key never comes back",
    Reason.KEY_FROZEN: "wait until it lapses, or: relayctl unban {person}",
    Reason.KEY_EXPIRED: "change or remove expiry-time= of that key",
    Reason.KEY_SOURCE: "connect from an address that from= of the key names, or change it",
    Reason.KEY_PRESENCE: "touch the security key, and unlock it where verify-required is set",
    Reason.KEY_NO_FORWARDING: "put port-forwarding behind restrict in the key's options",
    Reason.KEY_PERMITOPEN: "add a permitopen= for it to the key's options, or remove them all",
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """A verdict, the rule that decided in full (None if none did) and what would have to change, in words."""

    asked: str
    verdict: Decision
    rule: Rule | None
    rule_words: str  # the deciding rule in one line, "" if none did
    changes: tuple[str, ...]  # empty when it is allowed

    def lines(self) -> tuple[str, ...]:
        """All of it as lines for a terminal."""
        verdict = self.verdict
        out = [f"{self.asked}: {'allowed' if verdict.allowed else f'denied ({verdict.reason})'}"]
        if verdict.destination is not None:
            out.append(f"  means    {verdict.destination}")
        if verdict.rule is not None:
            out.append(f"  rule     {verdict.rule}: {self.rule_words}")
        if verdict.detail:
            out.append(f"  because  {verdict.detail}")
        out.extend(
            f"  {'to change' if number == 0 else '         '}  {text}" for number, text in enumerate(self.changes)
        )
        return tuple(out)


def explain(
    policy: Policy,
    identity: Identity,
    key: Key | None,
    target: Target | Destination,
    now: int,
    *,
    own: frozenset[Address] = frozenset(),
) -> Explanation:
    """The judgement of one forward by key and rules at `now` (Unix seconds), and what would change it."""
    verdict = policy.judge(identity, key, target, now, own)
    return _explained(_Asker(policy, identity.person, identity.source, now), target, verdict)


def explain_person(
    policy: Policy,
    person: str,
    source: Address | None,
    target: Target | Destination,
    now: int,
    *,
    own: frozenset[Address] = frozenset(),
) -> Explanation:
    """The judgement by the rules alone, as with a good key; `source` None is an address that no rule names."""
    verdict = policy.judge_person(person, source, target, now, own)
    return _explained(_Asker(policy, person, source, now), target, verdict)


def rule_text(rule: Rule, policy: Policy) -> str:
    """A rule in one line: `allow ops (alice, bob) to 192.168.1.0/24 in office, ports 22, only Mon-Fri 09:00-18:00`."""
    out = f"{'allow' if rule.allow else 'deny'} {_who(rule, policy)}"
    if rule.excepted:
        out += f" except {_few(sorted(rule.excepted))}"
    places = _few([pair_text(zone, network) for zone, network in rule.to])
    out += f" to {places}, ports {time_conditions.ports_text(rule.ports)}"
    if rule.sources:
        out += f", only from {time_conditions.sources_text(rule.sources)}"
    if rule.windows:
        out += f", only {time_conditions.windows_text(rule.windows)}"
    if rule.until is not None:
        out += f", until {time_conditions.until_text(rule.until, policy.offsets)}"
    return out


@dataclass(frozen=True, slots=True)
class _Asker:
    """Who asks, from where and when: what stays the same while rules are compared."""

    policy: Policy
    person: str
    source: Address | None
    now: int

    def first(self, mask: int) -> int:
        """The number of the first rule of a mask whose conditions hold; -1 for none."""
        number, _ = self.policy.tables.first(
            mask, self.source, self.now, time_conditions.local(self.now, self.policy.offsets)
        )
        return number

    def candidates(self, destination: Destination) -> int:
        """The rules that could apply to that."""
        index = self.policy.tables
        return index.candidates(self.person, destination.zone, destination.address, destination.port)


def _explained(asker: _Asker, target: Target | Destination, verdict: Decision) -> Explanation:
    rule = None if verdict.rule is None else _deciding(asker, verdict)
    changes = () if verdict.allowed else tuple(_changes(asker, target, verdict))
    words = "" if rule is None else rule_text(rule, asker.policy)
    return Explanation(f"{asker.person} to {target}", verdict, rule, words, changes)


def _deciding(asker: _Asker, verdict: Decision) -> Rule:
    """The rule in full that `verdict.rule` names, found as the judgement found it: names need not be unique."""
    assert verdict.destination is not None  # a rule decides about destinations only
    deny = asker.policy.tables.deny
    mask = asker.candidates(verdict.destination)
    return asker.policy.tables.rule(asker.first(mask & (~deny if verdict.allowed else deny)))


def _changes(asker: _Asker, target: Target | Destination, verdict: Decision) -> Iterator[str]:
    reason, destination = verdict.reason, verdict.destination
    if reason in _KEY_ADVICE:
        yield _KEY_ADVICE[reason].format(person=asker.person)
    elif reason is Reason.NO_POLICY:
        yield "nothing was ever applied: relayctl check, then relayctl reload"
    elif reason is Reason.AMBIGUOUS_TARGET:
        yield f"type one of {', '.join(verdict.choices)}"
    elif reason is Reason.FORBIDDEN_ADDRESS:
        yield "no rule can allow it"
    elif isinstance(target, Target) and destination is None:
        yield from _unknown(asker.policy, target)
    elif destination is None or reason is Reason.UNKNOWN_TARGET:
        yield "its zone or network is gone from the policy"
    elif reason is Reason.DENY_RULE:
        yield f"add {asker.person} to 'except' of {verdict.rule}, or narrow that rule"
        number = asker.first(asker.candidates(destination) & ~asker.policy.tables.deny)
        if number >= 0:
            yield f"then {asker.policy.tables.name(number)} allows it, unless another deny rule matches"
        else:
            yield "an allow rule is missing, too"
            yield from _nearest(asker, destination)
    else:
        yield from _nearest(asker, destination)


def _nearest(asker: _Asker, destination: Destination) -> Iterator[str]:
    """The allow rules that miss by the least, each with all that it misses by."""
    found: list[tuple[int, int, Rule, list[str]]] = []
    index = asker.policy.tables
    at = index.at(destination.zone, destination.address)
    # a rule about neither this person nor this place says nothing
    for number in rule_index.numbers((at | index.of(asker.person)) & ~index.deny):
        rule = index.rule(number)
        here = bool(at >> number & 1)
        misses = _misses(asker, rule, here, destination)
        # another place is further away than another port
        found.append((len(misses) + (not here), number, rule, misses))
    if not found:
        yield f"no rule is near: add one that allows {asker.person} to reach {destination}"
    for _, _, rule, misses in sorted(found, key=lambda entry: entry[:2])[:NEAREST]:
        yield f"{RuleName(rule.name, rule.file, rule.line)} would allow it, but {'; and '.join(misses)}"


def _misses(asker: _Asker, rule: Rule, here: bool, destination: Destination) -> list[str]:
    """What of an allow rule does not fit, in words; `here`: it is about this place."""
    policy, person, source, now = asker.policy, asker.person, asker.source, asker.now
    misses = []
    if person in rule.excepted:
        misses.append(f"{person} is in its 'except'")
    elif not rule.everyone and person not in rule.persons:
        misses.append(f"it allows {_who(rule, policy)}, and {person} is not among them")
    if not here:
        places = _few([pair_text(zone, network) for zone, network in rule.to])
        misses.append(f"it is about {places}, not {destination.address} in {destination.zone}")
    if not any(low <= destination.port <= high for low, high in rule.ports):
        misses.append(f"port {destination.port} is not in {time_conditions.ports_text(rule.ports)}")
    if rule.until is not None and now >= rule.until:
        misses.append(f"it ended {time_conditions.until_text(rule.until, policy.offsets)}")
    if rule.sources and (source is None or not any(source in network for network in rule.sources)):
        misses.append(f"only from {time_conditions.sources_text(rule.sources)}, not from {source or 'anywhere else'}")
    local_now = time_conditions.local(now, policy.offsets)
    windows = [(time_conditions.days_mask(window), window.start, window.end) for window in rule.windows]
    if windows and not any(time_conditions.inside(days, start, end, local_now) for days, start, end in windows):
        moment = time_conditions.moment_text(now, policy.offsets)
        misses.append(f"only {time_conditions.windows_text(rule.windows)}, and now it is {moment}")
    return misses


def _unknown(policy: Policy, target: Target) -> Iterator[str]:
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


def _who(rule: Rule, policy: Policy) -> str:
    if rule.everyone:
        return "everyone"
    text = " ".join(sorted(rule.persons))
    for group, persons in policy.groups.items():
        if persons == text and text:
            return f"{group} ({_few(text.split())})"
    return _few(text.split())


def _few(names: list[str]) -> str:
    if len(names) > _NAMES:
        return f"{', '.join(names[:_NAMES])} and {len(names) - _NAMES} more"
    return ", ".join(names) or "nothing"
