"""The index of rules: candidates by masks, then conditions."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from relay.core.policy import rule_index
from relay.core.policy.model import Rule
from relay.core.policy.rule_index import RuleIndex, rule_numbers
from relay.errors import InputRejected

LAN = ip_network("192.168.1.0/24")
RULE = Rule("a", True, frozenset({"alice"}), False, frozenset(), (("office", LAN),), ((22, 22), (8000, 8010)), file="a")


def index(*rules: Rule) -> RuleIndex:
    """The index of these rules."""
    made = RuleIndex()
    made.fill(rules)
    return made


@pytest.mark.parametrize(
    ("person", "zone", "address", "port", "expected"),
    [
        ("alice", "office", "192.168.1.201", 22, True),
        ("alice", "office", "192.168.1.0", 8000, True),
        ("alice", "office", "192.168.1.255", 8010, True),
        ("bob", "office", "192.168.1.201", 22, False),
        ("alice", "plant", "192.168.1.201", 22, False),
        ("alice", "office", "192.168.2.0", 22, False),
        ("alice", "office", "192.168.0.255", 22, False),
        ("alice", "office", "fd00::1", 22, False),
        ("alice", "office", "192.168.1.201", 21, False),
        ("alice", "office", "192.168.1.201", 23, False),
        ("alice", "office", "192.168.1.201", 7999, False),
        ("alice", "office", "192.168.1.201", 8011, False),
    ],
)
def test_a_rule_is_a_candidate_for_its_person_network_and_ports_only(
    person: str, zone: str, address: str, port: int, expected: bool
) -> None:
    """The neighbouring port, address, family and zone are not covered."""
    assert bool(index(RULE).candidates(person, zone, ip_address(address), port)) is expected


def test_everyone_covers_persons_that_no_rule_names_except_the_excepted() -> None:
    """An exception applies to the named person only."""
    made = index(replace(RULE, persons=frozenset(), everyone=True, excepted=frozenset({"bob"})))
    assert made.for_person("zoe") == 1
    assert made.for_person("bob") == 0


def test_a_network_is_covered_only_as_a_whole() -> None:
    """A rule about a network covers its subnets, not its supernet."""
    made = index(RULE)
    assert made.for_network("office", ip_network("192.168.1.0/25")) == 1
    assert made.for_network("office", LAN) == 1
    assert made.for_network("office", ip_network("192.168.0.0/23")) == 0


def test_the_first_rule_by_place_matches_and_missed_ones_are_reported() -> None:
    """Rules are tried in the order of file, line and name; one with a failed condition is skipped."""
    over = replace(RULE, name="over", until=100)
    made = index(replace(RULE, file="b"), over)
    assert made.first_match(0b11, None, 100, 100) == (1, 0)
    assert made.first_match(0b11, None, 99, 99) == (0, -1)
    assert made.first_match(0b01, None, 100, 100) == (-1, 0)


@pytest.mark.parametrize(
    ("change", "source", "now", "failed"),
    [
        ({"until": 100}, None, 99, ""),
        ({"until": 100}, None, 100, "until"),
        ({"sources": (LAN,)}, "192.168.1.1", 0, ""),
        ({"sources": (LAN,)}, "192.168.2.1", 0, "from"),
        ({"sources": (LAN,)}, None, 0, "from"),
    ],
)
def test_the_failed_condition_is_named(change: dict[str, object], source: str | None, now: int, failed: str) -> None:
    """`until` is exclusive, and an unknown source matches no `from`."""
    record = index(replace(RULE, **change)).record(0)  # type: ignore[arg-type]  # fields of a rule
    address = None if source is None else ip_address(source)
    assert rule_index.failed_condition(record, address, now, now) == failed


def test_a_rule_survives_the_index_unchanged() -> None:
    """The whole rule can be decoded from its line."""
    assert index(RULE).rule(0) == RULE


def test_port_ranges_are_merged() -> None:
    """Overlapping and touching ranges become one, others stay apart."""
    assert rule_index.merge_ranges([(22, 22), (1, 10), (5, 12), (13, 14), (16, 17)]) == ((1, 14), (16, 17), (22, 22))


def test_rule_numbers_are_the_bits_of_a_mask() -> None:
    """Numbers come in ascending order."""
    assert list(rule_numbers(0b10110)) == [1, 2, 4]


@pytest.mark.parametrize("ports", [((0, 1),), ((2, 1),), ((1, 65536),)])
def test_a_rule_with_invalid_ports_is_rejected(ports: tuple[tuple[int, int], ...]) -> None:
    """Ports are 1 to 65535, in ascending order."""
    with pytest.raises(InputRejected, match="invalid ports"):
        index(replace(RULE, ports=ports))
