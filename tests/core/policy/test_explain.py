"""relay.core.policy.explain: why, and what would have to change."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from relay.core.policy import explain
from relay.core.policy.model import Destination, Reason, Rule, TimeWindow
from relay.core.policy.policy import EMPTY, Policy
from relay.core.policy.target import parse_spec
from tests.core.policy.test_policy import CONTRACTOR, HERE, NOW, OPS, RECORDER, build, identity, key

EXAMPLE = build(OPS, RECORDER, CONTRACTOR, groups={"all": frozenset({"x"}), "ops": frozenset({"alice", "bob"})})


def changes(asked: str, person: str, *, policy: Policy = EXAMPLE, source: str | None = None, now: int = NOW) -> str:
    address = HERE if source is None else ip_address(source)
    return "\n".join(explain.explain_person(policy, person, address, parse_spec(asked), now).changes)


@pytest.mark.parametrize(
    ("person", "asked", "words"),
    [
        (
            "dave",
            "remote:22",
            "'ops reach the office by ssh' (policies/main.yaml:12) would allow it, but it allows ops",
        ),
        ("dave", "remote:22", "ops (alice, bob), and dave is not among them"),
        ("alice", "remote:23", "'ops reach the office by ssh' (policies/main.yaml:12) would allow it, but port 23 is"),
        ("alice", "10.0.0.7:22", "it is about 192.168.1.0/24 in office, not 10.0.0.7 in plant"),
        ("dave", "plc:22", "no rule comes close: add one that allows dave to reach 10.0.0.7:22 in plant"),
        ("alice", "192.168.1.50.office:22", "add alice to 'except' of 'the recorder is off limits' (policies/main"),
        ("alice", "192.168.1.50.office:22", "then 'ops reach the office by ssh' (policies/main.yaml:12) allows it"),
        ("dave", "192.168.1.50.office:22", "an allow rule is missing as well\n'ops reach the office by ssh'"),
        ("alice", "192.168.1.7:22", "type one of 192.168.1.7.office, 192.168.1.7.plant"),
        ("alice", "169.254.169.254:80", "no rule can allow it"),
        ("alice", "remote:9993", "no rule can allow it"),
        ("alice", "rmote:22", "did you mean remote?"),
        ("alice", "rmote:22", "declare rmote under hosts:"),
        ("alice", "zzz:22", "declare zzz under hosts:"),
        ("alice", "11.0.0.1:22", "add a network that holds 11.0.0.1 to a zone; there are office, plant"),
        ("alice", "11.0.0.1.plant:22", "add a network that holds 11.0.0.1 to a zone"),
        ("alice", "11.0.0.1.lab:22", "there is no zone lab; there are office, plant"),
    ],
)
def test_what_would_have_to_change(person: str, asked: str, words: str) -> None:
    """In words that an administrator can act on, with the rule's place."""
    assert words in changes(asked, person)


def test_conditions_in_words() -> None:
    """Where from, until when and at what hours."""
    assert "only from 203.0.113.0/24, not from 198.51.100.1" in changes("remote:22", "carol", source="198.51.100.1")
    late = changes("remote:22", "carol", now=NOW + 86400)
    assert "it ended 2026-11-24 09:30" in late
    night = changes("remote:22", "carol", now=NOW - 3600)
    assert "only Mon-Fri 09:00-18:00, and now it is Mon 2026-11-23 08:30" in night
    from_anywhere = explain.explain_person(EXAMPLE, "carol", None, parse_spec("remote:22"), NOW).changes
    assert "not from anywhere else" in "\n".join(from_anywhere)


def test_the_nearest_come_first_and_are_few() -> None:
    """A rule that misses by its port is nearer than one about another place; three are enough."""
    rules = [replace(OPS, name=f"other {n}", to=(("plant", ip_network(f"10.0.{n}.0/24")),), line=n) for n in range(9)]
    shown = changes("remote:23", "alice", policy=build(*rules, OPS)).splitlines()
    assert len(shown) == 3
    assert shown[0].startswith("'ops reach the office by ssh'")


def test_except_of_an_allow_rule() -> None:
    """A person that an allow rule does not name gets that as the reason."""
    rule = replace(OPS, everyone=True, persons=frozenset(), excepted=frozenset({"dave"}))
    assert "dave is in its 'except'" in changes("remote:22", "dave", policy=build(rule))


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        (None, "relayctl add-key alice FILE"),
        (key(expires=NOW), "expiry-time="),
        (key(forwarding=False), "put port-forwarding behind restrict"),
        (key(permitopen=()), "permitopen="),
    ],
)
def test_a_key_that_forbids(listed: None, words: str) -> None:
    """The cure is in the key's file, not in the policy."""
    found = explain.explain(EXAMPLE, identity(), listed, parse_spec("remote:22"), NOW)
    assert words in "\n".join(found.changes)
    assert not found.decision.allowed


def test_every_reason_of_a_key_has_advice() -> None:
    """A new reason must be given its cure."""
    assert set(explain._KEY_ADVICE) == {reason for reason in Reason if reason.name.startswith("KEY_")}


def test_nothing_was_ever_applied() -> None:
    """The empty policy says how to apply one."""
    assert "relayctl reload" in changes("remote:22", "alice", policy=EMPTY)


def test_an_open_forward_whose_zone_is_gone() -> None:
    """A destination of an older policy is explained, too."""
    gone = Destination("lab", ip_address("10.1.1.1"), 22)
    found = explain.explain(EXAMPLE, identity(), key(), gone, NOW)
    assert found.changes == ("its zone or network is no longer in the policy",)
    assert found.asked == "alice to 10.1.1.1:22 in lab"


def test_an_allowed_forward_needs_no_change() -> None:
    """The deciding rule is shown in full, with its place."""
    found = explain.explain(EXAMPLE, identity(), key(), parse_spec("remote:22"), NOW)
    assert found.rule == OPS
    assert found.changes == ()
    assert found.lines() == (
        "alice to remote:22: allowed",
        "  means    192.168.1.201:22 in office",
        "  rule     'ops reach the office by ssh' (policies/main.yaml:12): "
        "allow ops (alice, bob) to 192.168.1.0/24 in office, ports 22",
    )


def test_a_denial_as_lines() -> None:
    """Verdict, meaning, rule, reason and each change on a line of its own."""
    found = explain.explain(EXAMPLE, identity(), key(), parse_spec("192.168.1.50.office:22"), NOW)
    assert found.rule == RECORDER
    assert [line[:11].strip() for line in found.lines()] == [
        "alice to 19",
        "means",
        "rule",
        "because",
        "to change",
        "",
    ]
    unknown = explain.explain(EXAMPLE, identity(), key(), parse_spec("nowhere:22"), NOW)
    assert [line[:11].strip() for line in unknown.lines()] == ["alice to no", "because", "to change"]


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (
            RECORDER,
            "deny everyone except bob to 192.168.1.50 in office, ports any port",
        ),
        (
            CONTRACTOR,
            "allow carol to 192.168.1.201 in office, ports 22, only from 203.0.113.0/24, "
            "only Mon-Fri 09:00-18:00, until 2026-11-24 09:30",
        ),
        (
            replace(OPS, persons=frozenset("abcdefg"), windows=(TimeWindow(frozenset({0})),)),
            "allow a, b, c, d, e and 2 more to 192.168.1.0/24 in office, ports 22, only Mon",
        ),
        (replace(OPS, persons=frozenset(), to=()), "allow nothing to nothing, ports 22"),
    ],
)
def test_a_rule_in_one_line(rule: Rule, text: str) -> None:
    """All that it says, and no more than a few names of long lists."""
    assert explain.rule_text(rule, EXAMPLE) == text


def test_a_policy_without_zones() -> None:
    """An empty policy is explained as such."""
    bare = build(zones=(), hosts=())
    assert "there are none" in changes("10.0.0.1:22", "alice", policy=bare)
