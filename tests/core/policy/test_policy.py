"""relay.core.policy.policy: may this person, with this key, from there, now, reach that?"""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.keys.authorized_keys import Key
from relay.core.keys.authorized_keys_options import PermitOpen
from relay.core.policy import policy, rule_index, snapshot
from relay.core.policy.model import Destination, Host, Identity, Reason, Rule, RuleName, TimeWindow, Zone
from relay.core.policy.policy import EMPTY, Policy
from relay.core.policy.target import parse_spec, parse_target
from relay.errors import InputRejected
from tests.core import reference

OFFICE = Zone("office", (ip_network("192.168.1.0/24"),), "zt*", ip_address("172.18.0.200"))
PLANT = Zone("plant", (ip_network("192.168.1.0/24"), ip_network("10.0.0.0/8")), "wg0")
REMOTE = Host("remote", "office", ip_address("192.168.1.201"), "ubuntu")
HOSTS = (REMOTE, Host("plc", "plant", ip_address("10.0.0.7")))
HERE = ip_address("203.0.113.9")
NOW = int(datetime(2026, 11, 23, 9, 30, tzinfo=UTC).timestamp())  # a Monday

OPS = Rule(
    name="ops reach the office by ssh",
    allow=True,
    persons=frozenset({"alice", "bob"}),
    everyone=False,
    excepted=frozenset(),
    to=(("office", ip_network("192.168.1.0/24")),),
    ports=((22, 22),),
    file="policies/main.yaml",
    line=12,
)
RECORDER = Rule(
    name="the recorder is off limits",
    allow=False,
    persons=frozenset(),
    everyone=True,
    excepted=frozenset({"bob"}),
    to=(("office", ip_network("192.168.1.50/32")),),
    ports=((1, 65535),),
    file="policies/main.yaml",
    line=13,
)
CONTRACTOR = replace(
    OPS,
    name="the contractor",
    persons=frozenset({"carol"}),
    to=(("office", ip_network("192.168.1.201/32")),),
    sources=(ip_network("203.0.113.0/24"),),
    until=NOW + 86400,
    windows=(TimeWindow(frozenset(range(5)), 540, 1080),),
    line=14,
)


def build(*rules: Rule, **changes: object) -> Policy:
    values = {"version": "v1", "zones": (OFFICE, PLANT), "hosts": HOSTS, "groups": {}, "rules": rules} | changes
    return policy.build_policy(**values)  # type: ignore[arg-type]


EXAMPLE = build(OPS, RECORDER, CONTRACTOR)


def key(person: str = "alice", **options: object) -> Key:
    return Key("SHA256:k", "ssh-ed25519", 256, "", b"", person, **options)  # type: ignore[arg-type]


def identity(person: str = "alice") -> Identity:
    return Identity(person, "SHA256:k", HERE)


@pytest.mark.parametrize(
    ("person", "asked", "reason", "rule"),
    [
        ("alice", "remote:22", Reason.ALLOWED, OPS),
        ("alice", "REMOTE.office.:22", Reason.ALLOWED, OPS),
        ("alice", "192.168.1.201.office:22", Reason.ALLOWED, OPS),
        ("alice", "[::ffff:192.168.1.201.office]:22", Reason.ALLOWED, OPS),
        ("alice", "192.168.1.201:22", Reason.AMBIGUOUS_TARGET, None),
        ("alice", "192.168.1.201.plant:22", Reason.NO_RULE, None),  # the same address in another zone
        ("alice", "remote:21", Reason.NO_RULE, None),
        ("alice", "remote:23", Reason.NO_RULE, None),
        ("alice", "192.168.1.50.office:22", Reason.DENY_RULE, RECORDER),
        ("alice", "192.168.1.49.office:22", Reason.ALLOWED, OPS),
        ("alice", "192.168.1.51.office:22", Reason.ALLOWED, OPS),
        ("bob", "192.168.1.50.office:22", Reason.ALLOWED, OPS),
        ("bob", "192.168.1.50.office:80", Reason.NO_RULE, None),
        ("carol", "192.168.1.50.office:22", Reason.DENY_RULE, RECORDER),
        ("carol", "remote:22", Reason.ALLOWED, CONTRACTOR),
        ("carol", "192.168.1.202.office:22", Reason.NO_RULE, None),
        ("dave", "remote:22", Reason.NO_RULE, None),
        ("dave", "192.168.1.50.office:22", Reason.DENY_RULE, RECORDER),
        ("", "remote:22", Reason.NO_RULE, None),
        ("alice", "nowhere:22", Reason.UNKNOWN_TARGET, None),
        ("alice", "169.254.169.254:80", Reason.FORBIDDEN_ADDRESS, None),
        ("alice", "192.168.1.255.office:22", Reason.FORBIDDEN_ADDRESS, None),
        ("alice", "remote:9993", Reason.FORBIDDEN_ADDRESS, None),
    ],
)
def test_judgements(person: str, asked: str, reason: Reason, rule: Rule | None) -> None:
    """Nothing matches: deny. A deny rule wins unless it excepts the person. Else an allow rule decides."""
    verdict = EXAMPLE.decide(identity(person), key(person), parse_spec(asked), NOW, frozenset())
    assert verdict.reason is reason
    assert verdict.allowed is (reason is Reason.ALLOWED)
    assert verdict.rule == (rule and RuleName(rule.name, rule.file, rule.line))
    assert verdict.allowed or verdict.detail
    assert EXAMPLE.decide_by_rules(person, HERE, parse_spec(asked), NOW) == verdict


def test_the_empty_policy_denies() -> None:
    """So does the zero value of a verdict."""
    assert EMPTY.decide(identity(), key(), parse_spec("remote:22"), NOW, frozenset()).reason is Reason.NO_POLICY
    assert not EMPTY.decide_by_rules("alice", None, parse_spec("remote:22"), NOW).allowed


@pytest.mark.parametrize(
    ("listed", "reason"),
    [
        (None, Reason.KEY_UNLISTED),
        (key("bob"), Reason.KEY_UNLISTED),  # the key has another owner now
        (replace(key(), fingerprint="SHA256:other"), Reason.KEY_UNLISTED),
        (key(expires=NOW), Reason.KEY_EXPIRED),
        (key(expires=NOW + 1), Reason.ALLOWED),
        (key(forwarding=False), Reason.KEY_NO_FORWARDING),
        (key(permitopen=()), Reason.KEY_PERMITOPEN),
        (key(permitopen=(PermitOpen(parse_target("192.168.1.201.office", 1), 22, ""),)), Reason.ALLOWED),
        (key(permitopen=(PermitOpen(parse_target("remote", 1), 23, ""),)), Reason.KEY_PERMITOPEN),
    ],
)
def test_the_key_narrows(listed: Key | None, reason: Reason) -> None:
    """The same call judges the key: whose it is, and what its options take away."""
    verdict = EXAMPLE.decide(identity(), listed, parse_spec("remote:22"), NOW, frozenset())
    assert (verdict.reason, verdict.allowed) == (reason, reason is Reason.ALLOWED)


def test_the_key_never_widens() -> None:
    """permitopen= for what no rule allows allows nothing."""
    listed = key(permitopen=(PermitOpen(None, 0, "*:*"),))
    assert not EXAMPLE.decide(identity(), listed, parse_spec("remote:23"), NOW, frozenset()).allowed


@pytest.mark.parametrize(
    ("source", "now", "allowed", "clause"),
    [
        ("203.0.113.9", NOW, True, ""),
        ("203.0.114.1", NOW, False, "from"),
        ("203.0.112.255", NOW, False, "from"),
        ("::cb00:7109", NOW, False, "from"),  # the same number in the other family
        (None, NOW, False, "from"),
        ("203.0.113.9", NOW + 86399, True, ""),
        ("203.0.113.9", NOW + 86400, False, "until"),
        ("203.0.113.9", NOW - 1800, True, ""),
        ("203.0.113.9", NOW - 1801, False, "hours"),
    ],
)
def test_conditions(source: str | None, now: int, allowed: bool, clause: str) -> None:
    """An address in from, before until, in the hours; the detail names the clause that did not hold."""
    address = None if source is None else ip_address(source)
    verdict = EXAMPLE.decide_by_rules("carol", address, parse_spec("remote:22"), now)
    assert verdict.allowed is allowed
    assert allowed or f"'the contractor' (policies/main.yaml:14) would, but for its '{clause}'" in verdict.detail


def test_a_deny_rule_with_conditions() -> None:
    """It denies only while they hold."""
    night = replace(RECORDER, windows=(TimeWindow(start=1320, end=360),), to=OPS.to)
    closed = build(OPS, night)
    assert closed.decide_by_rules("alice", HERE, parse_spec("remote:22"), NOW).allowed
    assert not closed.decide_by_rules("alice", HERE, parse_spec("remote:22"), NOW + 46800).allowed


def test_a_deny_rule_is_never_what_nearly_allowed() -> None:
    """When nothing holds, the detail names the allow rule, although a deny rule stands before it."""
    over = replace(RECORDER, to=OPS.to, until=NOW, line=1)
    verdict = build(over, CONTRACTOR).decide_by_rules("carol", None, parse_spec("remote:22"), NOW)
    assert "'the contractor' (policies/main.yaml:14) would" in verdict.detail


def test_hours_are_the_sites() -> None:
    """09:30 in UTC is 17:30 in Shanghai, and an hour later the day is over there."""
    shanghai = build(CONTRACTOR, offsets=[(0, 8 * 3600)])
    assert shanghai.decide_by_rules("carol", HERE, parse_spec("remote:22"), NOW).allowed
    assert not shanghai.decide_by_rules("carol", HERE, parse_spec("remote:22"), NOW + 1800).allowed


def test_a_destination_is_judged_as_it_is() -> None:
    """An open forward is judged again by where it goes; what this policy does not know any more is denied."""
    to = Destination("office", REMOTE.address, 22)
    assert EXAMPLE.decide(identity(), key(), to, NOW, frozenset()).allowed
    for gone in (replace(to, zone="lab"), replace(to, address=ip_address("11.0.0.1"))):
        assert EXAMPLE.decide(identity(), key(), gone, NOW, frozenset()).reason is Reason.UNKNOWN_TARGET
    without = build(OPS, zones=(PLANT,), hosts=(), rules=())
    assert without.decide(identity(), key(), to, NOW, frozenset()).reason is Reason.UNKNOWN_TARGET


def test_the_relay_is_never_a_target() -> None:
    """Its listeners and its public address are refused although a rule allows every port."""
    open_rule = replace(OPS, ports=((1, 65535),))
    relay = build(open_rule, listeners=[(None, 2222)], public="192.168.1.10:22")
    own = frozenset({ip_address("192.168.1.9")})
    for asked, allowed in (
        ("192.168.1.9.office:2222", False),
        ("192.168.1.9.office:22", True),
        ("192.168.1.10.office:80", False),
        ("192.168.1.11.office:2222", True),
    ):
        assert relay.decide(identity(), key(), parse_spec(asked), NOW, own).allowed is allowed, asked


def test_except_narrows_an_allow_rule_too() -> None:
    """A person in except is not matched, whether a rule allows or denies."""
    rule = replace(OPS, everyone=True, persons=frozenset(), excepted=frozenset({"bob"}))
    narrowed = build(rule)
    assert narrowed.decide_by_rules("dave", HERE, parse_spec("remote:22"), NOW).allowed
    assert not narrowed.decide_by_rules("bob", HERE, parse_spec("remote:22"), NOW).allowed


def test_a_rule_that_leaves_something_out_matches_nothing() -> None:
    """A rule without targets, ports or persons matches nothing, never everything."""
    for gap in ({"to": ()}, {"ports": ()}, {"persons": frozenset()}, {"windows": (TimeWindow(frozenset()),)}):
        assert not build(replace(OPS, **gap)).decide_by_rules("alice", HERE, parse_spec("remote:22"), NOW).allowed  # type: ignore[arg-type]


def test_which_rule_is_reported_does_not_depend_on_the_order() -> None:
    """Of several that match the first by file, line and name."""
    twins = [replace(OPS, name=name, file=file) for name in "ba" for file in ("policies/b.yaml", "policies/a.yaml")]
    for rules in (twins, twins[::-1]):
        verdict = build(*rules).decide_by_rules("alice", HERE, parse_spec("remote:22"), NOW)
        assert verdict.rule == RuleName("a", "policies/a.yaml", 12)


def test_the_rules_come_back_in_full() -> None:
    """What was compiled can be shown again, sorted by where it stands."""
    assert list(build(CONTRACTOR, OPS, RECORDER).rules()) == [OPS, RECORDER, CONTRACTOR]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"version": ""}, "without a version"),
        ({"zones": (OFFICE, OFFICE, PLANT)}, "'office' would mean the zone office and the zone office"),
        ({"hosts": (REMOTE, REMOTE)}, "'remote.office' would mean the host remote and the host remote"),
        ({"hosts": (replace(REMOTE, zone="lab"),)}, "outside of its zone"),
        ({"public": "no port"}, "does not end in a port"),
        ({"rules": (replace(OPS, to=(("lab", ip_network("10.0.0.0/8")),)),)}, "unknown zone 'lab'"),
        ({"rules": (replace(OPS, ports=((0, 22),)),)}, "invalid ports"),
        ({"rules": (replace(OPS, ports=((22, 65536),)),)}, "invalid ports"),
        ({"rules": (replace(OPS, ports=((23, 22),)),)}, "invalid ports"),
        ({"rules": (replace(OPS, windows=(TimeWindow(start=1440),)),)}, "invalid hours"),
        ({"rules": (replace(OPS, windows=(TimeWindow(end=1441),)),)}, "invalid hours"),
        ({"rules": (replace(OPS, windows=(TimeWindow(frozenset({7})),)),)}, "invalid days"),
        ({"rules": (replace(OPS, persons=frozenset({"al ice"})),)}, "more than the letters"),
    ],
)
def test_what_makes_no_sense_is_not_compiled(changes: dict[str, object], what: str) -> None:
    """The documents' checks find these with file and line; here nothing wrong gets through."""
    with pytest.raises(InputRejected, match=what):
        build(OPS, **changes)


def test_the_index_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many rules, too large a rule, too large an index: refused in words, not by the machine's memory."""
    for name, value, what in (
        ("RULES_MOST", 1, "2 rules, the limit is 1"),
        ("LINE_MOST", 100, "too many places or persons"),
        ("INDEX_MOST", 0, "index of 0 MiB"),
    ):
        with monkeypatch.context() as patch, pytest.raises(InputRejected, match=what):
            patch.setattr(rule_index, name, value)
            build(*(replace(OPS, line=line) for line in range(8 if name == "INDEX_MOST" else 2)))


def test_ports_are_merged() -> None:
    """Ranges that overlap or touch become one."""
    assert rule_index.merge_ranges([(22, 22), (1, 10), (5, 12), (13, 14), (2, 3)]) == ((1, 14), (22, 22))


@given(
    st.lists(reference.rules, max_size=12),
    st.lists(
        st.tuples(
            st.sampled_from((*reference.PERSONS, "eve")),
            st.one_of(st.none(), st.sampled_from(reference.SOURCES)),
            reference.destinations,
            reference.times,
        ),
        min_size=1,
        max_size=20,
    ),
    st.sampled_from((0, 8 * 3600, -5 * 3600 - 1800)),
    st.randoms(use_true_random=False),
)
def test_it_decides_as_the_reference_does(
    rules: list[Rule], questions: list[tuple], offset: int, dice: random.Random
) -> None:
    """Random rules, persons, places, sources and times: the same verdict and rule, in any order, also when shipped."""
    rules = [replace(rule, name=f"rule {number}") for number, rule in enumerate(rules)]
    shuffled = dice.sample(rules, len(rules))
    compiled = build(*shuffled, zones=reference.ZONES, hosts=(), offsets=[(0, offset)])
    loader = snapshot.SnapshotLoader()
    for line in snapshot.dump(compiled):
        loader.feed(line)
    shipped = loader.finish()
    for person, source, to, now in questions:
        if not compiled.inventory.contains(to.zone, to.address):
            continue
        verdict = compiled.decide_by_rules(person, source, to, now)
        # on the site's clock, told apart from UTC only by `until`, which is a moment
        at = datetime.fromtimestamp(now, UTC) + timedelta(seconds=offset)
        moved = [replace(rule, until=rule.until and rule.until + offset) for rule in rules]
        expected = reference.decide(moved, person, source, to, at)
        assert verdict.allowed is (expected is not None and expected.allow)
        assert verdict.rule == (expected and RuleName(expected.name, expected.file, expected.line))
        assert shipped.decide_by_rules(person, source, to, now) == verdict
