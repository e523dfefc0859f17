"""The tests of a policy (`expect:`), each decided as with a valid key of its person.

An expectation with `at` is decided at that instant. One without must hold at all times, or else a site that was valid
yesterday could be invalid today. It is decided by the widest policy that the rules ever amount to: allow rules without
their time conditions, and without deny rules that do not always apply. For `deny`, expired allow rules are left out.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from zoneinfo import ZoneInfo

from relay.core.policy import target
from relay.core.policy.model import Address, Decision, Rule
from relay.core.policy.policy import Policy
from relay.core.policy.target import EVERYONE, Target
from relay.errors import Fault, InputRejected
from relay.site.policy.policy_models import ExpectEntry
from relay.site.policy.validation import EntryLocation
from relay.site.times import TypedTime


@dataclass(frozen=True, slots=True)
class PolicyTest:
    """An entry of `expect`. `at` is Unix seconds, None for all times."""

    who: str
    target: Target
    allowed: bool
    source: Address | None  # None: an address that no rule names
    at: int | None
    place: EntryLocation

    def __str__(self) -> str:
        source = f" from {self.source}" if self.source else ""
        return f"{self.who} to {self.target}{source}: {'allow' if self.allowed else 'deny'}"


@dataclass(frozen=True, slots=True)
class FailedPolicyTest:
    """An expectation that does not hold, and the actual decision."""

    expectation: PolicyTest
    decision: Decision

    def fault(self) -> Fault:
        """The failure with the rule that decided."""
        actual = "allowed" if self.decision.allowed else f"denied ({self.decision.reason.value})"
        what = f"expected {self.expectation}, but it is {actual}"
        if self.expectation.at is None and self.expectation.allowed is self.decision.allowed is False:
            what = f"{what} at some time"
        return self.expectation.place.fault(what, self.cure())

    def cure(self) -> str:
        """The deciding rule with file and line, else the detail of the decision."""
        rule = self.decision.rule
        if rule is not None:
            return f"the rule {rule} decided"
        return self.decision.detail or "no rule matches"


def read(
    entries: Sequence[tuple[ExpectEntry, EntryLocation]], groups: Sequence[str], zone: ZoneInfo
) -> tuple[tuple[PolicyTest, ...], tuple[Fault, ...]]:
    """The expectations of all files, and the faults of invalid ones."""
    tests: list[PolicyTest] = []
    faults: list[Fault] = []
    for entry, place in entries:
        if entry.who == EVERYONE or entry.who in groups:
            faults.append(place.fault(f"{entry.who} is not a person", "name a person of the group"))
            continue
        try:
            requested = target.parse_spec(entry.to)
        except InputRejected as error:
            faults.append(place.fault(f"to: {error.what}", error.hint))
            continue
        at = _instant(entry.at, zone)
        tests.append(PolicyTest(entry.who, requested, entry.verdict == "allow", entry.from_, at, place))
    return tuple(tests), tuple(faults)


def _instant(at: TypedTime | None, zone: ZoneInfo) -> int | None:
    return at.begin(zone) if at else None


def failures(
    expectations: Sequence[PolicyTest],
    rules: Sequence[Rule],
    policy: Policy,
    build: Callable[[Sequence[Rule]], Policy],
    now: int,
) -> tuple[FailedPolicyTest, ...]:
    """The expectations that do not hold. `policy` is compiled from `rules`; `build` compiles others."""
    widest = policy
    standing = policy
    if any(expectation.at is None for expectation in expectations) and any(_timed(rule) for rule in rules):
        timeless = [replace(rule, until=None, windows=()) for rule in rules if rule.allow or not _timed(rule)]
        widest = build(timeless)
        lasting = [rule for rule in rules if not (rule.allow and rule.until is not None and rule.until <= now)]
        standing = build([replace(r, until=None, windows=()) for r in lasting if r.allow or not _timed(r)])
    failed = []
    for expectation in expectations:
        at = expectation.at
        by = policy if at is not None else widest if expectation.allowed else standing
        decision = by.decide_by_rules(
            expectation.who, expectation.source, expectation.target, now if at is None else at
        )
        if decision.allowed is not expectation.allowed:
            failed.append(FailedPolicyTest(expectation, decision))
    return tuple(failed)


def _timed(rule: Rule) -> bool:
    return rule.until is not None or bool(rule.windows)
